/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int64_t element_bytes(const char *type) /* behind "AS1", an optional K for const */
{
    type += *type == 'K';
    if (!strncmp(type, "Dh", 2) || *type == 't' || *type == 's')
        return 2;
    return strchr("fij", *type) ? 4 : strchr("dlm", *type) ? 8 : strchr("ha", *type) ? 1 : 0;
}

static int
vector_width(const char *name) /* "vload4" -> 4, "vstore_half8_rte" -> 8, "vload_half" -> 1 */
{
    for (name += name[0] == 'v'; *name; name++)
        if (isdigit((unsigned char)*name))
            return atoi(name);
    return 1;
}

static bool is_special(const char *name)
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
static void count_call(int64_t count, const char *mangled, kf_executed *e)
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

void kf_histogram_line(const char *line, kf_executed *e)
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

bool kf_histogram_next(kf_histogram *h, kf_executed *e)
{
    *e = (kf_executed){0};
    while (h->pending || fgets(h->line, sizeof h->line, h->file)) {
        char entry[96];
        const bool head = sscanf(h->line, "Instructions executed for kernel '%95[^']'", entry) == 1;
        h->pending = head && e->entry[0];
        if (h->pending)
            return true;
        if (head)
            strcpy(e->entry, entry);
        else if (e->entry[0])
            kf_histogram_line(h->line, e);
    }
    return e->entry[0];
}

/* ---- declared against executed ------------------------------------------------------------ */

int64_t kf_step_edge(const kf_step *step)
{
    int64_t sum = 0;
    for (int i = 0; i < step->use_count; i++)
        sum += step->use[i].kind == KF_USE_READ ? step->use[i].edge : 0;
    return sum;
}

void kf_read_limits(const kf_cost *declared, int64_t edge, bool optimised, int64_t *least,
                    int64_t *most)
{
    *most = declared->bytes_requested + edge;
    *least = !declared->exact ? 0 : optimised ? declared->bytes_read : declared->bytes_requested;
}

const char *kf_histogram_disagreement(const kf_step *step, const kf_cost *declared,
                                      const kf_executed *e, bool optimised, char *text,
                                      size_t bytes)
{
    int64_t least, most;
    kf_read_limits(declared, kf_step_edge(step), optimised, &least, &most);
    text[0] = 0;
    if (strcmp(e->entry, step->entry))
        snprintf(text, bytes, "kernel %s ran where the plan has %s", e->entry, step->entry);
    else if (e->unknown[0])
        snprintf(text, bytes, "%s: a call with a global pointer that nobody weighs: %s", e->entry,
                 e->unknown);
    else if (e->written != declared->bytes_written)
        snprintf(text, bytes, "%s wrote %ld bytes, declared are %ld", e->entry, e->written,
                 declared->bytes_written);
    else if (e->read < least || e->read > most)
        snprintf(text, bytes, "%s read %ld bytes, declared are %ld to %ld", e->entry, e->read,
                 least, most);
    else if (step->work.at_most ? e->specials > declared->specials
                                : e->specials != declared->specials)
        snprintf(text, bytes, "%s called %ld special functions, declared are %s%ld", e->entry,
                 e->specials, step->work.at_most ? "at most " : "", declared->specials);
    return text;
}
