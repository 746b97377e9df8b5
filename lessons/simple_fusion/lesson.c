/* Lesson simple_fusion: one kernel per line of the formula, against one kernel for all of it.
 * Counts what both move, predicts, measures on the device at hand, and explains the gain by what
 * was measured. Every figure comes from the plans and from the clock; the words are chosen by the
 * figures. SPDX-License-Identifier: Apache-2.0 */
#include "../common/common.h"
#include "../../harness/duel.h"
#include <string.h>

enum { UNFUSED, FUSED };

typedef struct experiment { /* one case on one device */
    const kf_lesson_context *context;
    FILE *out;
    kf_device *device;
    kf_queue *queue;
    kf_case test;
    kf_duel d;
} experiment;

/* What others promise, to stand beside what is measured here. */
static const struct {
    const char *op, *source, *size;
    double gain;
} promised = {.op = "softmax",
              .source = "the Triton tutorial 02 (fused softmax)",
              .size = "4096x4096 f32",
              .gain = 3.0};

/* ---- words and numbers
 * ------------------------------------------------------------------------------ */

static const char *times(const experiment *e)
{
    return kf_lesson_times(e->context);
}

static const char *micro(const experiment *e)
{
    return kf_lesson_micro(e->context);
}

static double bytes_gain(const experiment *e)
{
    return kf_lesson_moved(&e->d.cost[FUSED]) ? (double)kf_lesson_moved(&e->d.cost[UNFUSED]) /
                                                    (double)kf_lesson_moved(&e->d.cost[FUSED])
                                              : 0;
}

static bool on_cpu(const experiment *e)
{
    return kf_lesson_on_cpu(e->device);
}

static double of_roof(const experiment *e, int which)
{
    return kf_lesson_of_roof(&e->d.roof[which], &e->d.timing[which]);
}

/* ---- 1 count
 * ------------------------------------------------------------------------------------------ */

static void header(const experiment *e)
{
    char shape[96];
    const kf_tensor *x = &e->d.plan[UNFUSED]->problem.tensor[0];
    kf_lesson_shape(e->context, &e->test, shape, sizeof shape);
    fprintf(e->out, "%s: %s\n", e->test.op->name, e->test.op->formula);
    fprintf(e->out, "Shape %s %s, one pass over a tensor = %.1f MB\n\n", shape,
            kf_dtype_name(e->test.dtype),
            (double)(kf_tensor_elements(x) * kf_dtype_bytes(x->dtype)) / 1e6);
}

static void count_line(const experiment *e, const char *branch, const char *name,
                       const kf_cost *cost)
{
    fprintf(e->out, "    %s%-*s %10.2f %10.2f %10.2f %9.2f\n", branch,
            branch[0] == ' ' || !branch[0] ? 34 : 32, name, (double)cost->bytes_read / 1e6,
            (double)cost->bytes_written / 1e6, (double)cost->flops / 1e6,
            (double)cost->specials / 1e6);
}

static void count_plan(const experiment *e, int which)
{
    const kf_plan *plan = e->d.plan[which];
    char name[80];
    snprintf(name, sizeof name, "%s, %d launch%s", plan->variant->name, e->d.cost[which].launches,
             e->d.cost[which].launches == 1 ? "" : "es");
    count_line(e, "", name, &e->d.cost[which]);
    for (int i = 0; i < plan->step_count; i++) {
        const kf_cost cost = kf_step_cost(plan, i);
        const bool last = i == plan->step_count - 1;
        count_line(e, kf_lesson_branch(e->context, last), plan->step[i].entry, &cost);
    }
}

static void count(const experiment *e)
{
    fprintf(e->out, "1 Count.  Who reads and writes global memory?\n");
    fprintf(e->out, "    %-34s %10s %10s %10s %9s\n", "STEP", "READ MB", "WRITE MB", "MFLOP",
            "M EXP,DIV");
    count_plan(e, UNFUSED);
    count_plan(e, FUSED);
    fprintf(e->out, "    scratch: %.2f MB unfused, %.2f MB fused%s\n",
            (double)e->d.cost[UNFUSED].scratch_bytes / 1e6,
            (double)e->d.cost[FUSED].scratch_bytes / 1e6,
            e->d.cost[FUSED].exact ? "" : " (the bytes are upper limits: they depend on the data)");
}

/* ---- 2 predict
 * ---------------------------------------------------------------------------------------- */

static void predict(const experiment *e)
{
    fprintf(e->out,
            "2 Predict.  %.1f MB / %.1f MB = at most %.2f%s faster, where memory is the limit\n",
            (double)kf_lesson_moved(&e->d.cost[UNFUSED]) / 1e6,
            (double)kf_lesson_moved(&e->d.cost[FUSED]) / 1e6, bytes_gain(e), times(e));
    for (int i = 0; i < 2; i++) {
        fprintf(e->out,
                "    roof of %s, of its own read:write mix, measured now: %.1f MB / %.1f GB/s = "
                "%.1f %s (%s)\n",
                e->d.plan[i]->variant->name, (double)kf_lesson_moved(&e->d.cost[i]) / 1e6,
                e->d.roof[i].bytes_per_second / 1e9, e->d.roof[i].seconds * 1e6, micro(e),
                e->d.roof[i].shape);
    }
    const int fewer = e->d.cost[UNFUSED].launches - e->d.cost[FUSED].launches;
    fprintf(e->out, "    %d launch%s fewer; an empty launch takes %.2f %s here\n", fewer,
            fewer == 1 ? "" : "es", e->d.roof[UNFUSED].empty * 1e6, micro(e));
}

/* ---- 3 measure
 * ---------------------------------------------------------------------------------------- */

static void measured_line(const experiment *e, int which)
{
    const kf_timing *t = &e->d.timing[which];
    char band[48];
    snprintf(band, sizeof band, "%.1f-%.1f", t->low * 1e6, t->high * 1e6);
    fprintf(e->out, "    %-12s %9d %10.1f %17s %9.1f %8.1f %7.0f %%  %.1e  %.1e  %s %s\n",
            e->d.plan[which]->variant->name, e->d.cost[which].launches, t->median * 1e6, band,
            (double)kf_lesson_moved(&e->d.cost[which]) / 1e6,
            (double)kf_lesson_moved(&e->d.cost[which]) / t->median / 1e9, of_roof(e, which),
            e->d.report[which].max_error, e->d.report[which].max_bound, kf_lesson_tick(e->context),
            e->d.flags[which]);
}

static void promise(const experiment *e)
{
    if (strcmp(promised.op, e->test.op->name) == 0) {
        fprintf(e->out, "  beside it: %s promises %.1f%s for %s\n", promised.source, promised.gain,
                times(e), promised.size);
    }
}

static void measured(const experiment *e)
{
    fprintf(e->out, "3 Measure.  (verified first; %s, %d samples of %d run%s, %s)\n",
            e->d.timing[UNFUSED].cold ? "cold: data is never in the cache"
                                      : "warm: data may sit in the cache",
            e->d.timing[UNFUSED].samples, e->d.timing[UNFUSED].launches_per_sample,
            e->d.timing[UNFUSED].launches_per_sample == 1 ? "" : "s", e->d.timing[UNFUSED].path);
    fprintf(e->out, "    %-12s %9s %*s %17s %9s %8s %9s  %-7s  %-7s\n", "VARIANT", "LAUNCHES",
            e->context->unicode ? 11 : 10, e->context->unicode ? "TIME µs" : "TIME us", "20-80 %",
            "MB", "GB/s", "OF ROOF", "MAX ERR", "BOUND");
    measured_line(e, UNFUSED);
    measured_line(e, FUSED);
    fprintf(e->out, "  %s ran %.2f%s %s %s (20-80 %%: %.2f-%.2f; the bytes predicted %.2f)\n",
            e->d.plan[FUSED]->variant->name, e->d.gain, times(e),
            e->d.gain >= 1 ? "faster than" : "as fast as", e->d.plan[UNFUSED]->variant->name,
            e->d.gain_low, e->d.gain_high, bytes_gain(e));
    promise(e);
}

/* ---- 4 why
 * -------------------------------------------------------------------------------------------- */

static void launch_bound(const experiment *e)
{
    const int fewer = e->d.cost[UNFUSED].launches - e->d.cost[FUSED].launches;
    fprintf(
        e->out,
        "The arrays are so small that a launch costs more than its work: the gain is launches "
        "saved.\n"
        "        %d launch%s fewer at %.2f %s each, if empty, and %.1f %s saved; a larger --shape "
        "shows the bytes.\n",
        fewer, fewer == 1 ? "" : "es", e->d.roof[UNFUSED].empty * 1e6, micro(e),
        (e->d.timing[UNFUSED].median - e->d.timing[FUSED].median) * 1e6, micro(e));
}

static bool in_cache(const experiment *e)
{
    const int64_t cache = kf_device_target(e->device)->cache_bytes;
    return strstr(e->d.flags[UNFUSED], "above-roof") ||
           (cache > 0 && kf_lesson_moved(&e->d.cost[FUSED]) < cache && !on_cpu(e));
}

static void cached(const experiment *e)
{
    fprintf(e->out,
            "The intermediates are small enough to stay in the cache: the unfused launches read "
            "them at\n"
            "        %.0f %% of the memory roof, so fusing saves traffic that memory hardly saw. A "
            "larger --shape\n"
            "        leaves the cache behind.\n",
            of_roof(e, UNFUSED));
}

/* Time that the special functions alone would take, as a share of the measured time. */
static double exp_share(const experiment *e, int which)
{
    return e->d.exps_per_second > 0 ? (double)e->d.cost[which].specials / e->d.exps_per_second /
                                          e->d.timing[which].median
                                    : 0;
}

static void compute_bound(const experiment *e)
{
    char share[48];
    snprintf(share, sizeof share, exp_share(e, FUSED) < 0.95 ? "%.0f %% of" : "all of",
             100 * exp_share(e, FUSED));
    fprintf(
        e->out,
        "Memory is not the limit here, arithmetic is: %.1f million exp and divisions at the\n"
        "        %.2f G/s measured for exp account for %s the fused time. Fusing saves bytes, not\n"
        "        arithmetic, so the gain stays away from the %.2f%s of the bytes.\n",
        (double)e->d.cost[FUSED].specials / 1e6, e->d.exps_per_second / 1e9, share, bytes_gain(e),
        times(e));
}

static void memory_bound(const experiment *e)
{
    const double ratio = e->d.gain / bytes_gain(e);
    fprintf(e->out, "unfused runs at %.0f %%, %s at %.0f %% of the memory roof of its own mix",
            of_roof(e, UNFUSED), e->d.plan[FUSED]->variant->name, of_roof(e, FUSED));
    if (e->d.gain < 1) {
        fprintf(e->out,
                ". Fusion loses here:\n        it saves bytes, but its kernel leaves more of this "
                "device unused.\n");
    } else if (ratio > 0.88 && ratio < 1.12) {
        fprintf(e->out,
                ": neither computes\n        faster, the fused one simply moves %.0f %% of the "
                "bytes.\n",
                100 / bytes_gain(e));
    } else if (ratio >= 1.12) {
        fprintf(e->out, ". The gain is larger than\n        the bytes explain: the rest is unfused "
                        "launches that are slower than "
                        "memory allows.\n");
    } else {
        fprintf(e->out, ". The gain is smaller\n        than the bytes promise: the fused kernel "
                        "does not yet reach the roof that "
                        "its bytes allow.\n");
    }
}

static void why(const experiment *e)
{
    fprintf(e->out, "4 Why.  ");
    if (strstr(e->d.flags[UNFUSED], "launch-bound")) {
        launch_bound(e);
    } else if (on_cpu(e) && exp_share(e, FUSED) > 0.5 && e->d.gain >= 1 &&
               e->d.gain < 0.9 * bytes_gain(e)) {
        compute_bound(e);
    } else if (in_cache(e)) {
        cached(e);
    } else {
        memory_bound(e);
    }
    if (on_cpu(e)) {
        fprintf(e->out, "        This is a CPU device: its timings prove nothing about GPUs. "
                        "Launches and bytes are the "
                        "same there.\n");
    }
}

/* ---- running
 * ------------------------------------------------------------------------------------------ */

static kf_status run_case(experiment *e)
{
    kf_status status =
        kf_duel_plan(&e->d, &e->test, e->context->knobs, kf_device_target(e->device));
    if (status == KF_OK) {
        header(e);
        count(e);
        fflush(e->out);
    }
    if (status == KF_OK && e->d.plan[UNFUSED]->problem.empty) {
        fprintf(e->out, "    no elements: nothing is launched, and that is right\n\n");
    } else if (status == KF_OK && !kf_lesson_stopped(e->context)) {
        status = kf_duel_run(&e->d, e->device, e->queue, e->context->cancel);
        if (status == KF_OK && !kf_lesson_stopped(e->context)) {
            predict(e);
            measured(e);
            why(e);
            fputc('\n', e->out);
            status = kf_duel_rows(&e->d, e->device, e->context->sinks, e->context->sink_count);
        }
    }
    kf_duel_close(&e->d);
    return status;
}

static kf_status run_cases(const kf_lesson_context *context, kf_device *device, kf_queue *queue)
{
    static const char *const ops[] = {"softmax", "elementwise"};
    /* large enough for a GPU's memory to be the limit, small enough for a CPU */
    const bool cpu = kf_lesson_on_cpu(device);
    const int count = context->case_count ? context->case_count : 2;
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < count; i++) {
        experiment e = {.context = context, .out = context->out, .device = device, .queue = queue};
        if (context->case_count) {
            e.test = context->cases[i];
        } else {
            status = kf_lesson_case(context, ops[i], NULL, cpu ? 2048 : 4096, cpu ? 1024 : 4096,
                                    &e.test);
        }
        if (status == KF_OK && !kf_lesson_stopped(context)) {
            status = run_case(&e);
        }
    }
    return status;
}

static kf_status run(const kf_lesson_context *context)
{
    const kf_status status = kf_lesson_each(
        context, "simple_fusion: one kernel per line of the formula, or one for all", run_cases);
    if (status == KF_OK && !kf_lesson_stopped(context)) {
        fprintf(
            context->out,
            "5 Your turn.  lessons/simple_fusion/README.md: what changes with --shape=8x8, with "
            "--dtype=bf16,\n              with --set of a knob (kfuse list), on another "
            "--backend?\n");
    }
    return status;
}

const kf_lesson kf_lesson_simple_fusion = {
    .name = "simple_fusion",
    .title = "One kernel per line of the formula, or one for all: count, predict, measure, explain",
    .number = 1,
    .ops = "softmax elementwise",
    .run = run,
};
