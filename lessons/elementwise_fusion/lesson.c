/* Lesson elementwise_fusion: how the gain of fusing grows with the length of the chain. Every
 * length is planned, verified and timed unfused against fused; two straight lines through the times
 * say what a further operation costs as a launch, and what it costs inside the kernel. Every figure
 * comes from the plans and from the clock. SPDX-License-Identifier: Apache-2.0 */
#include "../lesson.h"
#include "../../core/backend.h"
#include "../../harness/duel.h"
#include <math.h>
#include <string.h>

enum { UNFUSED, FUSED };
enum { BAR = 32 }; /* characters of the longest bar */

static const int lengths[] = {1, 2, 3, 4, 6, 8, 12, 16};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

typedef struct point { /* one length */
    double seconds[2], gain, low, high;
    double bytes,
        roof; /* gains predicted: by bytes; by the roofs of all launches, or their emptiness
               */
    bool launch_bound, above_roof;
} point;

typedef struct experiment { /* one shape on one device */
    const kf_lesson_context *context;
    kf_device *device;
    kf_queue *queue;
    kf_case test;
    kf_cost cost; /* of the last fused plan */
    double empty;
    point point[LENGTHS];
    int done;
} experiment;

static const char *times(const experiment *e)
{
    return e->context->unicode ? "×" : "x";
}

static const char *micro(const experiment *e)
{
    return e->context->unicode ? "µs" : "us";
}

static bool stopped(const experiment *e)
{
    return e->context->cancel && *e->context->cancel;
}

static bool on_cpu(const experiment *e)
{
    return kf_device_target(e->device)->capabilities & KF_CAP_CPU;
}

static double moved(const kf_cost *cost)
{
    return (double)(cost->bytes_read + cost->bytes_written);
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* A plan takes the time of its bytes at the roof, or that of its launches if that is more. */
static double predicted_seconds(const kf_duel *d, int which)
{
    return fmax(d->roof[which].seconds, d->cost[which].launches * d->roof[which].empty);
}

static void take_point(experiment *e, const kf_duel *d)
{
    point *p = &e->point[e->done++];
    for (int i = 0; i < 2; i++)
        p->seconds[i] = d->timing[i].median;
    p->gain = d->gain;
    p->low = d->gain_low;
    p->high = d->gain_high;
    p->bytes = moved(&d->cost[UNFUSED]) / moved(&d->cost[FUSED]);
    p->roof = predicted_seconds(d, UNFUSED) / predicted_seconds(d, FUSED);
    p->launch_bound = strstr(d->flags[UNFUSED], "launch-bound") != NULL;
    p->above_roof = strstr(d->flags[UNFUSED], "above-roof") != NULL;
    e->cost = d->cost[FUSED];
    e->empty = d->roof[FUSED].empty;
}

static kf_status set_length(kf_case *c, int length)
{
    for (int a = 0; a < c->op->attribute_count; a++)
        if (!strcmp(c->op->attributes[a].name, "length")) {
            c->attribute[a] = (kf_attribute){.set = true, .i = length, .f = length};
            return KF_OK;
        }
    return kf_fail(KF_UNSUPPORTED, "op %s is no chain: it has no attribute 'length'", c->op->name);
}

static void point_line(const experiment *e, const kf_duel *d)
{
    const point *p = &e->point[e->done - 1];
    char band[32];
    snprintf(band, sizeof band, "%.2f-%.2f", p->low, p->high);
    fprintf(e->context->out, "    %6lld %9d %9.1f %9.1f %11.1f %11.1f %8.2f %12s %7.2f %9.2f  %s\n",
            (long long)d->cost[UNFUSED].launches, d->cost[FUSED].launches,
            moved(&d->cost[UNFUSED]) / 1e6, moved(&d->cost[FUSED]) / 1e6, p->seconds[UNFUSED] * 1e6,
            p->seconds[FUSED] * 1e6, p->gain, band, p->bytes, p->roof, d->flags[UNFUSED]);
    fflush(e->context->out);
}

static kf_status run_length(experiment *e, int length)
{
    kf_duel d;
    kf_case test = e->test;
    kf_status status = set_length(&test, length);
    if (status != KF_OK)
        return status;
    status = kf_duel_plan(&d, &test, e->context->knobs, kf_device_target(e->device));
    if (status == KF_OK && !d.plan[UNFUSED]->problem.empty)
        status = kf_duel_run(&d, e->device, e->queue, e->context->cancel);
    if (status == KF_OK && !d.plan[UNFUSED]->problem.empty && !stopped(e)) {
        take_point(e, &d);
        point_line(e, &d);
        status = kf_duel_rows(&d, e->device, e->context->sinks, e->context->sink_count);
    }
    kf_duel_close(&d);
    return status;
}

/* ---- saying ---------------------------------------------------------------------------------- */

static void header(const experiment *e)
{
    FILE *out = e->context->out;
    fprintf(out, "%s: %s\n", e->test.op->name, e->test.op->formula);
    fprintf(out, "%lld elements of %s\n\n", (long long)e->test.dim[0],
            kf_dtype_name(e->test.dtype));
    fprintf(out, "1 Count, predict, measure.  A chain of each length, verified, then timed turn by "
                 "turn.\n");
    fprintf(out, "    %-16s %19s %23s %21s %17s\n", "LAUNCHES", "MB MOVED",
            e->context->unicode ? "  TIME µs" : "TIME us", "GAIN MEASURED", "PREDICTED BY");
    fprintf(out, "    %6s %9s %9s %9s %11s %11s %8s %12s %7s %9s\n", "unf.", "fused", "unf.",
            "fused", "unfused", "fused", "median", "20-80 %", "bytes", "roofs");
}

/* Least squares: seconds = base + slope length. */
static double slope_of(const experiment *e, int which)
{
    double n = e->done, x = 0, y = 0, xx = 0, xy = 0;
    for (int i = 0; i < e->done; i++) {
        x += lengths[i];
        y += e->point[i].seconds[which];
        xx += (double)lengths[i] * lengths[i];
        xy += lengths[i] * e->point[i].seconds[which];
    }
    return (n * xy - x * y) / (n * xx - x * x);
}

static void bars(const experiment *e)
{
    double most = 1;
    for (int i = 0; i < e->done; i++)
        most = fmax(most, fmax(e->point[i].gain, e->point[i].roof));
    fprintf(e->context->out, "2 See.  The gain by the length of the chain; | is what the roofs "
                             "predict\n");
    for (int i = 0; i < e->done; i++) {
        const int filled = (int)(e->point[i].gain / most * BAR + 0.5);
        const int mark = (int)(e->point[i].roof / most * BAR + 0.5);
        fprintf(e->context->out, "    %2d  ", lengths[i]);
        for (int c = 1; c <= BAR; c++)
            fputs(c == mark             ? "|"
                  : c > filled          ? " "
                  : e->context->unicode ? "█"
                                        : "#",
                  e->context->out);
        fprintf(e->context->out, "  %.2f%s\n", e->point[i].gain, times(e));
    }
}

static void explain(const experiment *e)
{
    FILE *out = e->context->out;
    const point *last = &e->point[e->done - 1];
    const double ratio = last->gain / last->roof;
    if (last->launch_bound)
        fprintf(out,
                "The tensor is so small that a launch costs more than its work: the gain is "
                "launches\n        saved, %.2f %s each when empty. A larger --shape shows the "
                "bytes.\n",
                e->empty * 1e6, micro(e));
    else if (last->above_roof)
        fprintf(out,
                "The intermediates stay in the cache: the unfused launches run above the memory\n"
                "        roof, and fusing saves traffic that memory hardly saw.\n");
    else if (ratio > 0.88 && ratio < 1.12)
        fprintf(out,
                "Memory is the limit of both. A chain of %d moves %.0f%s the bytes when every\n"
                "        operation is a launch, and takes %.2f%s the time.\n",
                lengths[e->done - 1], last->bytes, times(e), last->gain, times(e));
    else if (ratio <= 0.88)
        fprintf(out,
                "The fused kernel falls behind its bytes as the chain grows: a further operation\n"
                "        is not free inside it, and the gain bends away from the prediction.\n");
    else
        fprintf(out, "The gain is above what bytes and launches explain: the rest is unfused "
                     "launches that\n        are slower than memory allows.\n");
    if (on_cpu(e))
        fprintf(out, "        This is a CPU device: its timings prove nothing about GPUs.\n");
}

static void conclude(const experiment *e)
{
    const double unfused = slope_of(e, UNFUSED), fused = slope_of(e, FUSED);
    FILE *out = e->context->out;
    bars(e);
    fprintf(out,
            "3 Why.  Straight lines through the times: a further operation costs %.2f %s as a "
            "launch of\n        its own, and %.2f %s inside the fused kernel.\n        ",
            fmax(unfused, 0) * 1e6, micro(e), fmax(fused, 0) * 1e6, micro(e));
    explain(e);
    fputc('\n', out);
}

/* ---- running --------------------------------------------------------------------------------- */

static kf_status run_shape(experiment *e)
{
    kf_status status = KF_OK;
    header(e);
    for (int i = 0; status == KF_OK && i < LENGTHS && !stopped(e); i++)
        status = run_length(e, lengths[i]);
    if (status == KF_OK && e->done > 1)
        conclude(e);
    else if (status == KF_OK && !stopped(e))
        fprintf(e->context->out, "    no elements: nothing is launched, and that is right\n\n");
    return status;
}

/* One tensor for which memory is the limit, and one for which launches are. */
static kf_status own_case(const kf_lesson_context *context, int number, bool cpu, kf_case *c)
{
    static const int64_t elements[2][2] = {{1 << 26, 1 << 14}, {1 << 21, 1 << 10}};
    const kf_op *op = kf_op_find("elementwise_chain");
    if (!op)
        return kf_fail(KF_UNSUPPORTED, "this build has no op elementwise_chain");
    *c = (kf_case){
        .op = op, .dtype = context->dtype ? context->dtype : KF_F32, .seed = context->seed};
    c->dim[0] = elements[cpu][number];
    return KF_OK;
}

static kf_status run_cases(const kf_lesson_context *context, kf_device *device, kf_queue *queue)
{
    const bool cpu = kf_device_target(device)->capabilities & KF_CAP_CPU;
    const int count = context->case_count ? context->case_count : 2;
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < count; i++) {
        experiment e = {.context = context, .device = device, .queue = queue};
        if (context->case_count)
            e.test = context->cases[i];
        else
            status = own_case(context, i, cpu, &e.test);
        if (status == KF_OK && !stopped(&e))
            status = run_shape(&e);
    }
    return status;
}

static kf_status run(const kf_lesson_context *context)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < context->device_count; i++) {
        kf_queue *queue = NULL;
        const kf_device_info *info = kf_device_describe(context->devices[i]);
        fprintf(context->out,
                "Lesson elementwise_fusion: what does one more operation cost?    %s %s\n\n",
                info->id, info->name);
        status = kf_queue_open(context->devices[i], NULL, &queue);
        if (status == KF_OK)
            status = run_cases(context, context->devices[i], queue);
        kf_queue_close(queue);
    }
    if (status == KF_OK && !(context->cancel && *context->cancel))
        fprintf(
            context->out,
            "4 Your turn.  lessons/elementwise_fusion/README.md: at which --shape does the gain "
            "turn from\n              launches to bytes, and what does --dtype=bf16 change?\n");
    return status;
}

const kf_lesson kf_lesson_elementwise_fusion = {
    .name = "elementwise_fusion",
    .title = "How the gain grows with the length of a chain, from 1 to 16 operations",
    .number = 2,
    .ops = "elementwise_chain",
    .run = run,
};
