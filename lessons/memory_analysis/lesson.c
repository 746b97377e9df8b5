/* Lesson memory_analysis: the bytes of every launch of any op and variant, as declared by the plan,
 * as executed in the simulator and as measured by the device's counters; how much of the memory's
 * bandwidth they use, and why the three may differ. SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"
#include "../../core/backend.h"
#include "../../harness/files.h"
#include <stdlib.h>
#include <string.h>

typedef struct analysis { /* all plans of one call */
    kf_gather g;
    kf_traffic *item;
    int count;
} analysis;

static kf_status more(analysis *a)
{
    kf_traffic *item = realloc(a->item, (size_t)(a->count + 1) * sizeof *item);
    if (!item) {
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for so many plans");
    }
    a->item = item;
    return KF_OK;
}

/* A variant that the target lacks is told and passed over. */
static kf_status add_plan(analysis *a, const kf_case *c, const kf_variant *variant)
{
    kf_status status = more(a);
    if (status == KF_OK) {
        status = kf_traffic_plan(&a->g, c, variant, &a->item[a->count]);
    }
    if (status == KF_UNSUPPORTED) {
        fprintf(a->g.context->out, "%s %s: %s\n\n", c->op->name,
                variant      ? variant->name
                : c->variant ? c->variant->name
                             : "default",
                kf_error());
        return KF_OK;
    }
    if (status != KF_OK) {
        return status;
    }
    kf_traffic *t = &a->item[a->count++];
    status = kf_traffic_gather(&a->g, t);
    if (status == KF_OK && !kf_lesson_stopped(a->g.context)) {
        kf_traffic_print(&a->g, t);
        status = kf_traffic_rows(&a->g, t);
    }
    return status;
}

/* A case that names no variant: the baseline, and the op's own choice for this target. */
static kf_status add_case(analysis *a, const kf_case *c)
{
    const int first = a->count;
    if (c->variant) {
        return add_plan(a, c, NULL);
    }
    kf_status status = add_plan(a, c, &c->op->variants[0]);
    if (status == KF_OK && !kf_lesson_stopped(a->g.context)) {
        status = add_plan(a, c, NULL);
    }
    if (status == KF_OK && a->count == first + 2 && !kf_lesson_stopped(a->g.context)) {
        kf_traffic_against(&a->g, &a->item[first], &a->item[first + 1]);
    }
    return status;
}

static void explain(FILE *out)
{
    fprintf(out,
            "How the three hang together.  Declared counts each distinct byte once per launch. "
            "Executed counts loads\nand stores: a kernel that walks a row twice asks twice, and "
            "the second walk may hit the cache.\nMeasured is what crossed between chip and memory. "
            "It is smaller where a launch finds what the one\nbefore it left in the cache, and "
            "where written lines still wait in the cache when the launch ends; it\nis larger where "
            "a sector (32 bytes) is fetched and only a part of it asked for, or where a second "
            "walk\nover a long row comes too late.\n"
            "5 Your turn.  lessons/memory_analysis/README.md: which launch would you remove "
            "first?\n");
}

static kf_status run_analysis(analysis *a)
{
    const kf_lesson_context *context = a->g.context;
    kf_file *file = NULL;
    kf_status status = context->svg ? kf_picture_open(context->svg, &file) : KF_OK;
    for (int i = 0; status == KF_OK && i < context->case_count && !kf_lesson_stopped(context);
         i++) {
        status = add_case(a, &context->cases[i]);
    }
    if (status == KF_OK && !kf_lesson_stopped(context)) {
        explain(context->out);
    }
    if (file && status == KF_OK && !kf_lesson_stopped(context)) {
        status = kf_picture_draw(&a->g, a->item, a->count, file);
        if (status == KF_OK) {
            fprintf(context->out, "The picture is in %s.\n", context->svg);
        }
    } else {
        kf_file_abandon(file);
    }
    for (int i = 0; i < a->count; i++) {
        kf_traffic_close(&a->item[i]);
    }
    free(a->item);
    return status;
}

/* What was named and is not there is an error; what nobody asked for is a column with a reason. */
static kf_status find_simulator(analysis *a)
{
    const char *named = a->g.context->simulator;
    kf_status status = kf_simulator_find(named, a->g.simulator, sizeof a->g.simulator);
    if (status != KF_OK) {
        a->g.simulator[0] = 0;
        snprintf(a->g.no_simulator, sizeof a->g.no_simulator, "%s", kf_error());
    }
    return named && strcmp(named, "none") ? status : KF_OK;
}

static kf_status run_on(const kf_lesson_context *context, kf_device *device, kf_queue *queue)
{
    analysis a = {.g = {.context = context, .device = device, .queue = queue}};
    const kf_status status = find_simulator(&a);
    return status == KF_OK ? run_analysis(&a) : status;
}

static kf_status run(const kf_lesson_context *context)
{
    static const char title[] = "memory_analysis: what every launch reads and writes";
    if (context->device_count > 0) {
        return kf_lesson_each(context, title, run_on);
    }
    fprintf(context->out, "Lesson %s    (no device: declared and executed only)\n\n", title);
    return run_on(context, NULL, NULL);
}

const kf_lesson kf_lesson_memory_analysis = {
    .name = "memory_analysis",
    .title = "What every launch reads and writes: declared, executed, measured",
    .number = 4,
    .ops = "softmax",
    .any_op = true,
    .draws = true,
    .run = run,
};
