/* SPDX-License-Identifier: Apache-2.0 */
#include "counters.h"
#include "../core/backend.h"
#include "child.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES "dram__bytes_read.sum"
#define WRITTEN_BYTES "dram__bytes_write.sum"
#define SECTORS "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct"

/* ---- the table ------------------------------------------------------------------------------ */

enum { ID, KERNEL, METRIC, VALUE, FIELDS, COLUMNS = 64, CELL = 256 };

typedef struct header { /* where the columns stand that are read; -1 = not there */
    int column[FIELDS];
} header;

/* One cell of a line, quoted or not; the place behind its comma, NULL at the end of the line. */
static const char *cell(const char *at, char *text)
{
    size_t n = 0;
    const bool quoted = *at == '"';
    at += quoted;
    while (*at && *at != '\n' && (quoted ? *at != '"' || at[1] == '"' : *at != ',')) {
        at += quoted && *at == '"';
        if (n + 1 < CELL) {
            text[n++] = *at;
        }
        at++;
    }
    text[n] = 0;
    at += quoted && *at == '"';
    return *at == ',' ? at + 1 : NULL;
}

static bool read_header(const char *line, header *h)
{
    static const char *const names[FIELDS] = {"ID", "Kernel Name", "Metric Name", "Metric Value"};
    char text[CELL];
    header found = {{-1, -1, -1, -1}};
    int left = FIELDS;
    for (int i = 0; line && i < COLUMNS; i++) {
        line = cell(line, text);
        for (int f = 0; f < FIELDS; f++) {
            if (found.column[f] < 0 && strcmp(text, names[f]) == 0) {
                found.column[f] = i;
                left--;
            }
        }
    }
    if (left == 0) {
        *h = found;
    }
    return left == 0;
}

/* "1,048,576" and "1048576.5" alike; -1 for what is no number ("n/a"). */
static double number(const char *text)
{
    char digits[CELL], *end;
    size_t n = 0;
    for (; *text; text++) {
        if (*text != ',') {
            digits[n++] = *text;
        }
    }
    digits[n] = 0;
    const double value = strtod(digits, &end);
    return end != digits && *end == 0 ? value : -1;
}

static void take(kf_counted *c, const char *metric, double value)
{
    if (strcmp(metric, READ_BYTES) == 0) {
        c->read = value;
    } else if (strcmp(metric, WRITTEN_BYTES) == 0) {
        c->written = value;
    } else if (strcmp(metric, SECTORS) == 0) {
        c->sectors = value;
    }
}

/* The name alone: parameters are cut off. */
static void set_entry(kf_counted *c, const char *kernel)
{
    *c = (kf_counted){.read = -1, .written = -1, .sectors = -1};
    snprintf(c->entry, sizeof c->entry, "%.*s", (int)strcspn(kernel, "( "), kernel);
}

static bool read_line(const char *line, const header *h, char field[FIELDS][CELL])
{
    char text[CELL];
    int left = FIELDS;
    for (int i = 0; line && *line && i < COLUMNS; i++) {
        line = cell(line, text);
        for (int f = 0; f < FIELDS; f++) {
            if (h->column[f] == i) {
                memcpy(field[f], text, CELL);
                left--;
            }
        }
    }
    return left == 0;
}

int kf_counters_parse(const char *csv, kf_counted *list, int capacity)
{
    static char field[FIELDS][CELL];
    char last[CELL] = "";
    header h;
    int count = 0;
    bool inside = false;
    for (const char *line = csv, *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        if (!inside) {
            inside = read_header(line, &h);
        } else if (*line == '"' && read_line(line, &h, field)) {
            if (count == 0 || strcmp(last, field[ID]) != 0) {
                if (count == capacity) {
                    break;
                }
                set_entry(&list[count++], field[KERNEL]);
                memcpy(last, field[ID], CELL);
            }
            take(&list[count - 1], field[METRIC], number(field[VALUE]));
        }
    }
    return count;
}

/* ---- the profiler --------------------------------------------------------------------------- */

void kf_counters_complaint(const char *text, char *sentence, size_t bytes)
{
    static const char mark[] = "==ERROR== ";
    const char *error = text ? strstr(text, mark) : NULL;
    sentence[0] = 0;
    if (error) {
        error += sizeof mark - 1;
        const bool forbidden = strstr(error, "ERR_NVGPUCTRPERM") != NULL;
        snprintf(sentence, bytes, "%.*s%s", (int)strcspn(error, "\n"), error,
                 forbidden ? " (root may count; so may all once the driver's module is loaded with "
                             "NVreg_RestrictProfilingToAdminUsers=0)"
                           : "");
    }
}

/* Several metrics need several runs: whole runs are repeated, because a launch that is repeated by
 * itself would find its data in the cache. Clocks and cache stay as they are when kfuse times. */
static kf_status run_profiler(const char *program, const kf_case *c, const char *id,
                              volatile int *cancel, kf_child *child)
{
    static char self[PATH_MAX], text[1024];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0) {
        return kf_fail(KF_IO, "cannot find this program in /proc/self/exe");
    }
    self[length] = 0;
    kf_case_print(c, text, sizeof text);
    *child =
        (kf_child){.program = program,
                   .word = {"--csv", "--print-units", "base", "--print-kernel-base", "function",
                            "--clock-control", "none", "--cache-control", "none", "--replay-mode",
                            "application", "--metrics", READ_BYTES "," WRITTEN_BYTES "," SECTORS,
                            self, "__once", id, text},
                   .set = {"LC_ALL=C"},
                   .seconds = 300,
                   .cancel = cancel};
    return kf_child_run(child);
}

static kf_status judge(const kf_child *child, const char *profiler, int count)
{
    char sentence[400];
    if (child->verdict[0]) {
        return kf_fail(KF_UNAVAILABLE, "%s %s", profiler, child->verdict);
    }
    kf_counters_complaint(child->out, sentence, sizeof sentence);
    if (sentence[0]) {
        return kf_fail(KF_UNAVAILABLE, "%s: %s", profiler, sentence);
    }
    return count > 0 ? KF_OK
                     : kf_fail(KF_UNAVAILABLE, "%s counted no launch%s%s", profiler,
                               child->complaint[0] ? ": " : "", child->complaint);
}

kf_status kf_counters_run(const kf_case *c, kf_device *device, volatile int *cancel,
                          kf_counted *list, int capacity, int *count)
{
    char program[PATH_MAX];
    kf_child child;
    const char *profiler = device->backend->profiler;
    *count = 0;
    if (!profiler) {
        return kf_fail(KF_UNAVAILABLE, "%s has no profiler that counts single launches",
                       device->backend->name);
    }
    if (!kf_child_find(profiler, program, sizeof program)) {
        return kf_fail(KF_UNAVAILABLE, "%s is not on PATH", profiler);
    }
    kf_status status = run_profiler(program, c, kf_device_describe(device)->id, cancel, &child);
    if (status == KF_OK) {
        *count = child.out ? kf_counters_parse(child.out, list, capacity) : 0;
        status = judge(&child, profiler, *count);
    }
    free(child.out);
    return status;
}
