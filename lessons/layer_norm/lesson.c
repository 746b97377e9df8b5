/* Lesson layer_norm: five launches against one. Counts passes over the matrix, predicts, times
 * every unfused launch alone against its own roof, and tells why the variance is taken about the
 * mean. Bytes come from the plans, times from the clock. SPDX-License-Identifier: Apache-2.0 */
#include "../common/common.h"
#include "numbers.h"
#include "../../harness/duel.h"
#include "../../harness/steps.h"
#include <string.h>

enum { UNFUSED, FUSED };

typedef struct experiment { /* one case on one device */
    const kf_lesson_context *context;
    FILE *out;
    kf_device *device;
    kf_queue *queue;
    kf_case test;
    kf_duel d;
    kf_step_time step[KF_MAX_STEPS]; /* of the unfused plan */
} experiment;

/* What kfuse asks of itself, to be told when it is missed: an unfused launch of that many bytes
 * runs at that share of its roof, and then the gain agrees with the bytes to within that part. */
static const int64_t large = (int64_t)256 << 20;
static const double least_share = 92, agreement = 0.12;

/* What others report, to stand beside what is measured here. */
static const double reported = 1.75;

/* ---- figures -------------------------------------------------------------------------------- */

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
    const int64_t fused = kf_lesson_moved(&e->d.cost[FUSED]);
    return fused ? (double)kf_lesson_moved(&e->d.cost[UNFUSED]) / (double)fused : 0;
}

/* Bytes of a launch in units of the matrix: how often it is walked over. */
static double passes(const experiment *e, const kf_cost *cost)
{
    const kf_tensor *x = &e->d.plan[UNFUSED]->problem.tensor[0];
    return (double)kf_lesson_moved(cost) /
           (double)(kf_tensor_elements(x) * kf_dtype_bytes(x->dtype));
}

/* ---- 1 count -------------------------------------------------------------------------------- */

static void count_line(const experiment *e, const char *branch, const char *name,
                       const kf_cost *cost)
{
    fprintf(e->out, "    %s%-*s %10.2f %10.2f %8.2f %9.2f\n", branch, *branch ? 32 : 34, name,
            (double)cost->bytes_read / 1e6, (double)cost->bytes_written / 1e6, passes(e, cost),
            (double)cost->flops / 1e6);
}

static void count_plan(const experiment *e, int which)
{
    const kf_plan *plan = e->d.plan[which];
    char name[80];
    snprintf(name, sizeof name, "%s, %d launch%s", plan->variant->name, plan->step_count,
             plan->step_count == 1 ? "" : "es");
    count_line(e, "", name, &e->d.cost[which]);
    for (int i = 0; i < plan->step_count; i++) {
        const kf_cost cost = kf_step_cost(plan, i);
        count_line(e, kf_lesson_branch(e->context, i == plan->step_count - 1), plan->step[i].entry,
                   &cost);
    }
}

static void count(const experiment *e)
{
    char shape[96], with[128] = "";
    const kf_problem *p = &e->d.plan[UNFUSED]->problem;
    for (int i = 1; i < p->op->tensor_count; i++) {
        if (p->op->tensors[i].optional && p->tensor[i].dtype) {
            snprintf(with + strlen(with), sizeof with - strlen(with), "%s%s",
                     *with ? ", " : ", with ", p->op->tensors[i].name);
        }
    }
    kf_lesson_shape(e->context, &e->test, shape, sizeof shape);
    fprintf(e->out, "%s: %s\nShape %s %s%s\n\n", p->op->name, p->op->formula, shape,
            kf_dtype_name(p->dtype), with);
    fprintf(e->out, "1 Count.  A pass is the matrix read or written once.\n");
    fprintf(e->out, "    %-34s %10s %10s %8s %9s\n", "STEP", "READ MB", "WRITE MB", "PASSES",
            "MFLOP");
    count_plan(e, UNFUSED);
    count_plan(e, FUSED);
}

/* ---- 2 predict ------------------------------------------------------------------------------ */

static void predict(const experiment *e)
{
    fprintf(e->out,
            "2 Predict.  %.2f passes / %.2f passes = at most %.2f%s faster, where memory is the "
            "limit\n",
            passes(e, &e->d.cost[UNFUSED]), passes(e, &e->d.cost[FUSED]), bytes_gain(e), times(e));
    fprintf(e->out,
            "    at the roofs of their own read:write mixes, measured now: %.1f %s / %.1f %s = "
            "%.2f%s\n",
            e->d.roof[UNFUSED].seconds * 1e6, micro(e), e->d.roof[FUSED].seconds * 1e6, micro(e),
            e->d.roof[UNFUSED].seconds / e->d.roof[FUSED].seconds, times(e));
}

/* ---- 3 measure ------------------------------------------------------------------------------ */

static void time_line(const experiment *e, const char *branch, const char *name,
                      const kf_cost *cost, const kf_timing *t, const kf_plan_roof *roof,
                      const char *flags)
{
    char band[48];
    const double bytes = (double)kf_lesson_moved(cost);
    snprintf(band, sizeof band, "%.1f-%.1f", t->low * 1e6, t->high * 1e6);
    fprintf(e->out, "    %s%-*s %10.1f %17s %9.1f %8.1f %7.0f %%  %s\n", branch, *branch ? 26 : 28,
            name, t->median * 1e6, band, bytes / 1e6, bytes / t->median / 1e9,
            kf_lesson_of_roof(roof, t), flags);
}

static void whole_line(const experiment *e, int which)
{
    time_line(e, "", e->d.plan[which]->variant->name, &e->d.cost[which], &e->d.timing[which],
              &e->d.roof[which], e->d.flags[which]);
}

static double sum_of_steps(const experiment *e)
{
    double sum = 0;
    for (int i = 0; i < e->d.plan[UNFUSED]->step_count; i++) {
        sum += e->step[i].timing.median;
    }
    return sum;
}

static void measured(const experiment *e)
{
    const kf_plan *plan = e->d.plan[UNFUSED];
    const kf_timing *t = &e->d.timing[UNFUSED];
    fprintf(e->out, "3 Measure.  (verified first; %s, %d samples of %d run%s, %s)\n",
            t->cold ? "cold: inputs are never in the cache" : "warm: data may sit in the cache",
            t->samples, t->launches_per_sample, t->launches_per_sample == 1 ? "" : "s", t->path);
    fprintf(e->out, "    %-28s %*s %17s %9s %8s %9s\n", "LAUNCH", e->context->unicode ? 11 : 10,
            e->context->unicode ? "TIME µs" : "TIME us", "20-80 %", "MB", "GB/s", "OF ROOF");
    whole_line(e, UNFUSED);
    for (int i = 0; i < plan->step_count; i++) {
        const kf_step_time *s = &e->step[i];
        time_line(e, kf_lesson_branch(e->context, i == plan->step_count - 1), plan->step[i].entry,
                  &s->cost, &s->timing, &s->roof, s->flags);
    }
    whole_line(e, FUSED);
    fprintf(e->out, "  off from double by at most %.1e and %.1e, allowed are %.1e and %.1e\n",
            e->d.report[UNFUSED].max_error, e->d.report[FUSED].max_error,
            e->d.report[UNFUSED].max_bound, e->d.report[FUSED].max_bound);
    fprintf(e->out, "  each launch alone: %.1f %s in sum; in one run: %.1f %s\n",
            sum_of_steps(e) * 1e6, micro(e), t->median * 1e6, micro(e));
    fprintf(e->out, "  %s ran %.2f%s %s %s (20-80 %%: %.2f-%.2f; the bytes predicted %.2f)\n",
            e->d.plan[FUSED]->variant->name, e->d.gain, times(e),
            e->d.gain >= 1 ? "faster than" : "as fast as", plan->variant->name, e->d.gain_low,
            e->d.gain_high, bytes_gain(e));
    fprintf(
        e->out,
        "  beside it: a Triton tutorial reports %.2f%s over PyTorch's unfused form. A gain says "
        "little\n"
        "  without the bytes of its baseline: those of ours are in the first table\n",
        reported, times(e));
}

/* ---- 4 why ---------------------------------------------------------------------------------- */

/* The unfused launch that is furthest below its roof; among the large ones where there are any. */
static int slowest(const experiment *e, bool large_only)
{
    int worst = -1;
    for (int i = 0; i < e->d.plan[UNFUSED]->step_count; i++) {
        const kf_step_time *s = &e->step[i];
        if ((!large_only || kf_lesson_moved(&s->cost) >= large) &&
            (worst < 0 || kf_lesson_of_roof(&s->roof, &s->timing) <
                              kf_lesson_of_roof(&e->step[worst].roof, &e->step[worst].timing))) {
            worst = i;
        }
    }
    return worst;
}

static void baseline(const experiment *e)
{
    const int worst = slowest(e, true), any = worst < 0 ? slowest(e, false) : worst;
    const double share = kf_lesson_of_roof(&e->step[any].roof, &e->step[any].timing);
    fprintf(e->out, "The unfused launch furthest below its roof is %s at %.0f %%",
            e->d.plan[UNFUSED]->step[any].entry, share);
    if (worst < 0 || kf_lesson_on_cpu(e->device)) {
        fprintf(e->out, ".\n");
    } else if (share >= least_share) {
        fprintf(e->out, ":\n        the baseline is no straw man.\n");
    } else {
        fprintf(e->out,
                ", under the %.0f %%\n        that kfuse asks of a baseline: part of the gain is a "
                "slow unfused kernel.\n",
                least_share);
    }
}

static void verdict(const experiment *e)
{
    const double ratio = e->d.gain / bytes_gain(e);
    if (strstr(e->d.flags[UNFUSED], "launch-bound")) {
        fprintf(e->out,
                "        A launch costs more than its work here: the gain is launches saved, not "
                "bytes.\n        A larger --shape shows the bytes.\n");
    } else if (e->d.gain < 1) {
        fprintf(e->out, "        Fusion loses here: it saves bytes, but its kernel leaves more of "
                        "this device unused.\n");
    } else if (ratio > 1 + agreement) {
        fprintf(e->out, "        The gain is larger than the bytes explain: look for the launch "
                        "that is slow.\n");
    } else if (ratio < 1 - agreement) {
        fprintf(e->out,
                "        The gain is smaller than the bytes promise: either the intermediates "
                "stayed in the cache\n        (unfused runs at %.0f %% of the memory roof), or %s "
                "is limited by more than memory (%.0f %%).\n",
                kf_lesson_of_roof(&e->d.roof[UNFUSED], &e->d.timing[UNFUSED]),
                e->d.plan[FUSED]->variant->name,
                kf_lesson_of_roof(&e->d.roof[FUSED], &e->d.timing[FUSED]));
    } else {
        fprintf(e->out,
                "        The gain is that of the bytes to within %.0f %%: no launch computes "
                "faster,\n        the fused one moves %.0f %% of the bytes.\n",
                100 * agreement, 100 / bytes_gain(e));
    }
}

static void why(const experiment *e)
{
    fprintf(e->out, "4 Why.  ");
    baseline(e);
    verdict(e);
    if (kf_lesson_on_cpu(e->device)) {
        fprintf(e->out, "        This is a CPU device: its timings prove nothing about GPUs. "
                        "Launches and bytes are the same there.\n");
    }
}

/* ---- running -------------------------------------------------------------------------------- */

static kf_status measure(experiment *e)
{
    const kf_measure_options options = {
        .seed = e->test.seed, .cancel = e->context->cancel, .offset = e->test.offset};
    kf_status status = kf_duel_run(&e->d, e->device, e->queue, e->context->cancel);
    if (status == KF_OK && !kf_lesson_stopped(e->context)) {
        status = kf_steps_measure(e->d.plan[UNFUSED], e->device, e->queue, &options, e->step);
    }
    return status;
}

static kf_status run_case(experiment *e)
{
    kf_status status =
        kf_duel_plan(&e->d, &e->test, e->context->knobs, kf_device_target(e->device));
    if (status == KF_OK && e->d.plan[UNFUSED]->problem.empty) {
        fprintf(e->out, "    no elements: nothing is launched, and that is right\n\n");
    } else if (status == KF_OK) {
        count(e);
        fflush(e->out);
        status = measure(e);
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

/* The lesson's fifth launch is weight and bias: both, unless the case says which. */
static kf_status with_both(kf_case *c)
{
    return c->with_set || strcmp(c->op->name, "layer_norm") ? KF_OK
                                                            : kf_case_with(c, "weight,bias");
}

static kf_status run_cases(const kf_lesson_context *context, kf_device *device, kf_queue *queue)
{
    static experiment e;
    const bool cpu = kf_lesson_on_cpu(device);
    const int count_of_cases = context->case_count ? context->case_count : 1;
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < count_of_cases && !kf_lesson_stopped(context); i++) {
        e = (experiment){.context = context, .out = context->out, .device = device, .queue = queue};
        if (context->case_count) {
            e.test = context->cases[i];
        } else { /* on a GPU 256 MiB a pass in f32 */
            status = kf_lesson_case(context, "layer_norm", NULL, cpu ? 2048 : 16384,
                                    cpu ? 1024 : 4096, &e.test);
        }
        if (status == KF_OK) {
            status = with_both(&e.test);
        }
        if (status == KF_OK) {
            status = run_case(&e);
        }
    }
    return status;
}

static kf_status run(const kf_lesson_context *context)
{
    kf_status status = kf_lesson_each(context, "layer_norm: five launches, or one", run_cases);
    if (status == KF_OK && !kf_lesson_stopped(context)) {
        status = kf_layer_norm_numbers(context);
    }
    if (status == KF_OK && !kf_lesson_stopped(context)) {
        fprintf(context->out, "6 Your turn.  lessons/layer_norm/README.md: which launch would you "
                              "fuse first, what does --dtype=bf16\n              change, and when "
                              "does a row no longer fit on the chip?\n");
    }
    return status;
}

const kf_lesson kf_lesson_layer_norm = {
    .name = "layer_norm",
    .title = "Five launches, or one; and why the variance is taken about the mean",
    .number = 3,
    .ops = "layer_norm",
    .run = run,
};
