/* From a step to what a backend builds: defines, entries, text. SPDX-License-Identifier: Apache-2.0
 */
#include "program.h"
#include "source.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_build(const kf_step *a, const kf_step *b)
{
    return !strcmp(a->source, b->source) && a->grid.threads == b->grid.threads &&
           a->grid.local_bytes == b->grid.local_bytes &&
           a->grid.least_groups == b->grid.least_groups &&
           a->grid.register_cap == b->grid.register_cap &&
           a->grid.arch_specific == b->grid.arch_specific && a->define_count == b->define_count &&
           !memcmp(a->define, b->define, (size_t)a->define_count * sizeof a->define[0]);
}

enum { DEFINE_BYTES = 96, MAX_LINES = KF_MAX_DEFINES + KF_MAX_STEPS + 8 };

typedef struct lines { /* "NAME VALUE" */
    char text[MAX_LINES][DEFINE_BYTES];
    const char *line[MAX_LINES];
    int count;
} lines;

static void add_line(lines *l, const char *prefix, const char *name, int64_t value)
{
    snprintf(l->text[l->count], DEFINE_BYTES, "%s%s %lld", prefix, name, (long long)value);
    l->line[l->count] = l->text[l->count];
    l->count++;
}

/* What every kernel may know, then the step's own. */
static void add_defines(lines *l, const kf_plan *plan, const kf_step *step)
{
    const kf_target *target = &plan->target;
    add_line(l, "", "KF_DTYPE", plan->problem.dtype);
    add_line(l, "", "KF_CAP_SHUFFLE", (target->capabilities & KF_CAP_SHUFFLE) != 0);
    add_line(l, "", "KF_CAP_PTX", (target->capabilities & KF_CAP_PTX) != 0);
    if (target->capabilities & KF_CAP_SUBGROUPS) /* other devices' texts stay as they are */
        add_line(l, "", "KF_CAP_SUBGROUPS", 1);
    add_line(l, "", "WARP", target->warp > 0 ? target->warp : 1);
    if (step->grid.local_bytes)
        add_line(l, "", "LOCAL_BYTES", step->grid.local_bytes);
    for (int i = 0; i < step->define_count; i++)
        add_line(l, "", step->define[i].name, step->define[i].value);
}

static void add_entries(lines *l, const kf_plan *plan, int first, kf_step_program *made)
{
    for (int s = first; s < plan->step_count; s++) {
        bool known = false;
        made->covers[s] = same_build(&plan->step[first], &plan->step[s]);
        for (int e = 0; e < made->desc.entry_count; e++)
            known |= !strcmp(made->entry[e], plan->step[s].entry);
        if (!made->covers[s] || known)
            continue;
        made->entry[made->desc.entry_count++] = plan->step[s].entry;
        add_line(l, "KF_ENTRY_", plan->step[s].entry, 1);
    }
}

kf_status kf_step_program_make(const kf_plan *plan, int step, const kf_backend *backend,
                               bool from_disk, kf_step_program **out)
{
    const kf_step *first = &plan->step[step];
    kf_step_program *made = calloc(1, sizeof *made);
    lines *l = calloc(1, sizeof *l);
    size_t bytes;
    *out = NULL;
    if (!made || !l) {
        free(made);
        free(l);
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for the text of kernel %s", first->entry);
    }
    add_defines(l, plan, first);
    add_entries(l, plan, step, made);
    const kf_status status = kf_source_compose(backend, first->source, from_disk, l->line, l->count,
                                               &made->text, &bytes);
    free(l);
    if (status != KF_OK) {
        free(made);
        return status;
    }
    snprintf(made->name, sizeof made->name, "%s.%s", first->source, backend->suffix);
    made->desc.name = made->name;
    made->desc.text = made->text;
    made->desc.entries = made->entry;
    made->desc.threads = first->grid.threads;
    made->desc.least_groups = first->grid.least_groups;
    made->desc.register_cap = first->grid.register_cap;
    made->desc.local_bytes = first->grid.local_bytes;
    made->desc.arch_specific = first->grid.arch_specific;
    *out = made;
    return KF_OK;
}

void kf_step_program_free(kf_step_program *made)
{
    if (!made)
        return;
    free(made->text);
    free(made);
}
