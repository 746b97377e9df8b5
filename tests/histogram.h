/* Reads the instruction histogram that Oclgrind prints to stdout (OCLGRIND_INST_COUNTS=1), one
 * block per launch. Calls of built-in functions do not appear under load and store and are weighed
 * by their mangled names. What was executed is then held against the plan. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_TEST_HISTOGRAM_H
#define KF_TEST_HISTOGRAM_H
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/op.h"

enum { LINE = 512 };

typedef struct executed { /* of one launch */
    char entry[96];
    int64_t read, written, specials;
    char unknown[96]; /* a call with a global pointer that we cannot weigh */
} executed;

static inline int64_t element_bytes(const char *type) /* behind "AS1", an optional K for const */
{
    type += *type == 'K';
    if (!strncmp(type, "Dh", 2) || *type == 't' || *type == 's')
        return 2;
    return strchr("fij", *type) ? 4 : strchr("dlm", *type) ? 8 : strchr("ha", *type) ? 1 : 0;
}

static inline int
vector_width(const char *name) /* "vload4" -> 4, "vstore_half8_rte" -> 8, "vload_half" -> 1 */
{
    for (name += name[0] == 'v'; *name; name++)
        if (isdigit((unsigned char)*name))
            return atoi(name);
    return 1;
}

static inline bool is_special(const char *name)
{
    static const char *const list[] = {"exp",   "exp2", "exp10", "log",    "log2",
                                       "log10", "tanh", "erf",   "sqrt",   "rsqrt",
                                       "pow",   "sin",  "cos",   "divide", "recip"};
    name += !strncmp(name, "native_", 7) ? 7 : !strncmp(name, "half_", 5) ? 5 : 0;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (!strcmp(name, list[i]))
            return true;
    return false;
}

/* A built-in function: _Z<length><name><argument types>. */
static inline void count_call(int64_t count, const char *mangled, executed *e)
{
    char name[64] = "", *types;
    if (strncmp(mangled, "_Z", 2))
        return; /* a function of ours: its own instructions are counted where they stand */
    const long length = strtol(mangled + 2, &types, 10);
    if (length <= 0 || length >= (long)sizeof name)
        return;
    memcpy(name, types, (size_t)length);
    types += length;
    const int width = !strncmp(types, "Dv", 2) ? atoi(types + 2) : 1;
    const char *global = strstr(types, "AS1");
    if (is_special(name))
        e->specials += count * width;
    if (!global)
        return;
    const int64_t bytes = count * vector_width(name) * element_bytes(global + 3);
    if (!strncmp(name, "vload", 5))
        e->read += bytes;
    else if (!strncmp(name, "vstore", 6))
        e->written += bytes;
    else
        snprintf(e->unknown, sizeof e->unknown, "%.90s", mangled);
}

static inline void count_line(const char *line, executed *e)
{
    char *rest;
    int64_t bytes;
    const int64_t count = strtoll(line, &rest, 10);
    while (*rest == ' ' || *rest == '-')
        rest++;
    if (sscanf(rest, "load global (%ld bytes)", &bytes) == 1)
        e->read += bytes;
    else if (sscanf(rest, "store global (%ld bytes)", &bytes) == 1)
        e->written += bytes;
    else if (!strncmp(rest, "fdiv", 4))
        e->specials += count;
    else if (!strncmp(rest, "call ", 5))
        count_call(count, rest + 5, e);
}

/* Reads the next launch's block. */
static inline bool next_launch(FILE *file, executed *e)
{
    static char line[LINE];
    static bool pending;
    *e = (executed){0};
    while (pending || fgets(line, sizeof line, file)) {
        char entry[96];
        const bool head = sscanf(line, "Instructions executed for kernel '%95[^']'", entry) == 1;
        pending = head && e->entry[0];
        if (pending)
            return true;
        if (head)
            strcpy(e->entry, entry);
        else if (e->entry[0])
            count_line(line, e);
    }
    return e->entry[0];
}

/* ---- declared against executed ------------------------------------------------------------ */

static inline int64_t edge_bytes(const kf_step *step)
{
    int64_t sum = 0;
    for (int i = 0; i < step->use_count; i++)
        sum += step->use[i].kind == KF_USE_READ ? step->use[i].edge : 0;
    return sum;
}

/* "" or what disagrees. */
static inline const char *disagreement(const kf_step *step, const kf_cost *declared,
                                       const executed *e, bool optimised)
{
    static char text[400];
    const int64_t most = declared->bytes_requested + edge_bytes(step);
    const int64_t least = !declared->exact ? 0
                          : optimised      ? declared->bytes_read
                                           : declared->bytes_requested;
    text[0] = 0;
    if (strcmp(e->entry, step->entry))
        snprintf(text, sizeof text, "kernel %s ran where the plan has %s", e->entry, step->entry);
    else if (e->unknown[0])
        snprintf(text, sizeof text, "%s: a call with a global pointer that nobody weighs: %s",
                 e->entry, e->unknown);
    else if (e->written != declared->bytes_written)
        snprintf(text, sizeof text, "%s wrote %ld bytes, declared are %ld", e->entry, e->written,
                 declared->bytes_written);
    else if (e->read < least || e->read > most)
        snprintf(text, sizeof text, "%s read %ld bytes, declared are %ld to %ld", e->entry, e->read,
                 least, most);
    else if (step->work.at_most ? e->specials > declared->specials
                                : e->specials != declared->specials)
        snprintf(text, sizeof text, "%s called %ld special functions, declared are %s%ld", e->entry,
                 e->specials, step->work.at_most ? "at most " : "", declared->specials);
    return text;
}

#endif
