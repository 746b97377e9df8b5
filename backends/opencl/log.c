/* Build logs: the first errors of one at their real file and line, and what ptxas says of an entry.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *opencl_build_log(cl_program program, cl_device_id device)
{
    size_t bytes = 0;
    if (cl.clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) !=
            CL_SUCCESS ||
        !bytes)
        return NULL;
    char *log = calloc(bytes + 1, 1); /* not every driver ends it with a zero */
    if (log && cl.clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) !=
                   CL_SUCCESS) {
        free(log);
        return NULL;
    }
    return log;
}

/* ---- errors ------------------------------------------------------------------------------- */

typedef struct text_out {
    char *at;
    size_t room;
} text_out;

static void put(text_out *out, const char *text, size_t length)
{
    if (length + 1 > out->room)
        length = out->room ? out->room - 1 : 0;
    memcpy(out->at, text, length);
    out->at += length;
    out->room -= length;
    *out->at = '\0';
}

static void put_text(text_out *out, const char *text)
{
    put(out, text, strlen(text));
}

/* Where physical line `line` of a text says that it comes from: follows the #line directives.
 * Returns the file name in the text (NULL when no directive stands before) and its length. */
static const char *place_of(const char *text, long line, long *real, size_t *length)
{
    const char *file = NULL;
    long number = 1, shift = 0;
    for (const char *at = text; at && number < line; number++) {
        long next = 0;
        int name = 0, end = 0;
        if (sscanf(at, "#line %ld \"%n%*[^\"\n]%n", &next, &name, &end) == 1 && end > name) {
            file = at + name;
            *length = (size_t)(end - name);
            shift = next - (number + 1);
        }
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    *real = line + shift;
    return file;
}

/* Oclgrind calls every text input.cl, NVIDIA's driver <kernel>, and both count physical lines: say
 * what the line's #line says. */
static bool put_physical_line(text_out *out, const char *line, size_t length, const char *text)
{
    static const char *const names[] = {"input.cl:", "<kernel>:"};
    char number[64];
    long from = 0, real = 0;
    int end = 0;
    size_t file_length = 0, skip = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncmp(line, names[i], strlen(names[i])))
            skip = strlen(names[i]);
    if (!skip || sscanf(line + skip, "%ld%n", &from, &end) != 1)
        return false;
    const char *file = text ? place_of(text, from, &real, &file_length) : NULL;
    if (!file)
        return false;
    snprintf(number, sizeof number, ":%ld", real);
    put(out, file, file_length);
    put_text(out, number);
    put(out, line + skip + end, length - skip - (size_t)end);
    return true;
}

static bool is_error(const char *line, size_t length)
{
    bool named = memmem(line, length, "error", 5) || memmem(line, length, "fatal", 5);
    bool count = memmem(line, length, "generated", 9) || memmem(line, length, "-Werror", 7);
    return named && !count;
}

/* The first `most` lines of the log, errors or any that say something, joined by "; ". */
static int put_lines(text_out *out, const char *log, const char *text, bool errors, int most)
{
    int count = 0;
    for (const char *line = log; *line && count < most;) {
        size_t length = strcspn(line, "\n"), blank = strspn(line, " \t\r");
        const char *next = line + length + (line[length] == '\n');
        if (blank < length && (!errors || is_error(line, length))) {
            if (count++)
                put_text(out, "; ");
            length -= line[length - 1] == '\r';
            if (!put_physical_line(out, line + blank, length - blank, text))
                put(out, line + blank, length - blank);
        }
        line = next;
    }
    return count;
}

static void put_program(text_out *out, const kf_program_desc *desc)
{
    put_text(out, desc->name ? desc->name : "a program");
    for (int i = 0; i < desc->entry_count; i++) {
        put_text(out, i ? ", " : " (");
        put_text(out, desc->entries[i]);
    }
    put_text(out, desc->entry_count ? "): " : ": ");
}

void opencl_log_errors(const char *log, const kf_program_desc *desc, char *out, size_t bytes)
{
    char lines[512] = "";
    text_out found = {lines, sizeof lines}, all = {out, bytes};
    if (!put_lines(&found, log, desc->text, true, 3) &&
        !put_lines(&found, log, desc->text, false, 3))
        put_text(&found, "the compiler gave no message");
    out[0] = '\0';
    /* ptxas knows no files: then at least which text and which entries it was about. */
    if (!desc->name || !strstr(lines, desc->name))
        put_program(&all, desc);
    put_text(&all, lines);
}

/* ---- resources ---------------------------------------------------------------------------- */

/* ptxas -v writes, one block per entry:
 *   ptxas info    : Compiling entry function 'NAME' for 'sm_90'
 *   ptxas info    : Function properties for NAME
 *   ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
 *   ptxas info    : Used 40 registers, used 1 barriers, 4096 bytes smem */
void opencl_log_resources(const char *log, const char *entry, int *registers, int64_t *spill_bytes)
{
    static const char heading[] = "Compiling entry function '";
    size_t length = strlen(entry);
    const char *block = log;
    while ((block = strstr(block, heading)) != NULL) {
        block += sizeof heading - 1;
        if (strncmp(block, entry, length) == 0 && block[length] == '\'')
            break;
    }
    if (!block)
        return;
    const char *end = strstr(block, heading);
    const char *frame = strstr(block, "bytes stack frame"), *used = strstr(block, "Used ");
    int stores = 0, loads = 0, count = 0;
    if (frame && (!end || frame < end) &&
        sscanf(frame, "bytes stack frame, %d bytes spill stores, %d bytes spill loads", &stores,
               &loads) == 2)
        *spill_bytes = stores > loads ? stores : loads;
    if (used && (!end || used < end) && sscanf(used, "Used %d registers", &count) == 1)
        *registers = count;
}
