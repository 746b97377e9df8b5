/* A device as text lines and back: what the enumerating child writes into its pipe. One table
 * serves both directions. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { TEXT, INT, INT64, UINT64, FLAG, HEX } kind;

typedef struct field {
    const char *name;
    kind kind;
    size_t at, bytes;
} field;

#define FIELD(member, k)                                                                           \
    {                                                                                              \
        .name = #member, .kind = (k), .at = offsetof(kf_device_info, member),                      \
        .bytes = sizeof(((kf_device_info *)0)->member)                                             \
    }

static const field fields[] = {
    FIELD(backend, TEXT),
    FIELD(id, TEXT),
    FIELD(name, TEXT),
    FIELD(platform, TEXT),
    FIELD(driver, TEXT),
    FIELD(arch, TEXT),
    FIELD(pci, TEXT),
    FIELD(uuid, HEX),
    FIELD(has_uuid, FLAG),
    FIELD(target.capabilities, UINT64),
    FIELD(target.compute_capability, INT),
    FIELD(target.units, INT),
    FIELD(target.warp, INT),
    FIELD(target.max_threads, INT),
    FIELD(target.max_threads_per_unit, INT),
    FIELD(target.max_cluster, INT),
    FIELD(target.local_bytes, INT64),
    FIELD(target.local_bytes_per_unit, INT64),
    FIELD(target.registers_per_unit, INT64),
    FIELD(target.cache_bytes, INT64),
    FIELD(target.memory_bytes, INT64),
    FIELD(target.max_buffer_bytes, INT64),
    FIELD(target.max_groups, INT64),
    FIELD(target.base_alignment, INT),
};
enum { FIELDS = sizeof fields / sizeof *fields };

static void print_text(FILE *out, const char *text)
{
    for (; *text; text++) { /* a driver's name may hold anything; a line must stay a line */
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
    }
}

static void print_field(FILE *out, const field *f, const char *base)
{
    const char *at = base + f->at;
    fprintf(out, "%s ", f->name);
    switch (f->kind) {
    case TEXT:
        print_text(out, at);
        break;
    case INT:
        fprintf(out, "%d", *(const int *)(const void *)at);
        break;
    case INT64:
        fprintf(out, "%" PRId64, *(const int64_t *)(const void *)at);
        break;
    case UINT64:
        fprintf(out, "%" PRIu64, *(const uint64_t *)(const void *)at);
        break;
    case FLAG:
        fprintf(out, "%d", *(const bool *)(const void *)at);
        break;
    case HEX:
        for (size_t i = 0; i < f->bytes; i++) {
            fprintf(out, "%02x", (unsigned char)at[i]);
        }
    }
    fputc('\n', out);
}

void kf_info_print(FILE *out, const kf_device_info *info)
{
    fputs("device\n", out);
    for (int i = 0; i < FIELDS; i++) {
        print_field(out, &fields[i], (const char *)info);
    }
    fputs("end\n", out);
}

static void parse_field(const field *f, const char *value, char *base)
{
    char *at = base + f->at;
    unsigned byte;
    switch (f->kind) {
    case TEXT:
        snprintf(at, f->bytes, "%s", value);
        break;
    case INT:
        *(int *)(void *)at = (int)strtol(value, NULL, 10);
        break;
    case INT64:
        *(int64_t *)(void *)at = strtoll(value, NULL, 10);
        break;
    case UINT64:
        *(uint64_t *)(void *)at = strtoull(value, NULL, 10);
        break;
    case FLAG:
        *(bool *)(void *)at = *value == '1';
        break;
    case HEX:
        for (size_t i = 0; i < f->bytes && sscanf(value + 2 * i, "%2x", &byte) == 1; i++) {
            at[i] = (char)byte;
        }
    }
}

static void parse_line(char *line, kf_device_info *info)
{
    char *value = strchr(line, ' ');
    if (!value) {
        return;
    }
    *value++ = 0;
    for (int i = 0; i < FIELDS; i++) {
        if (strcmp(fields[i].name, line) == 0) {
            parse_field(&fields[i], value, (char *)info);
        }
    }
}

int kf_info_parse(char *text, kf_device_info *list, int capacity)
{
    int count = 0;
    kf_device_info *info = NULL;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strcmp(line, "device") == 0) {
            info = count < capacity ? &list[count] : NULL;
            if (info) {
                memset(info, 0, sizeof *info);
            }
        } else if (strcmp(line, "end") == 0) {
            count += info != NULL; /* a device cut off in the middle does not count */
            info = NULL;
        } else if (info) {
            parse_line(line, info);
        }
    }
    return count;
}
