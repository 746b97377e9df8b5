/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"
#include <string.h>

enum { NAME = 30 };

static double mega(int64_t bytes)
{
    return (double)bytes / 1e6;
}

/* ---- 1 count -------------------------------------------------------------------------------- */

static void declared_line(FILE *out, const char *branch, const char *name, const kf_cost *cost)
{
    fprintf(out, "    %s%-*s %11.3f %11.3f %14.3f%s\n", branch, *branch ? NAME - 2 : NAME, name,
            mega(cost->bytes_read), mega(cost->bytes_written), mega(cost->bytes_requested),
            cost->exact ? "" : "  at most");
}

static void declared(const kf_gather *g, const kf_traffic *t)
{
    FILE *out = g->context->out;
    char name[80];
    fprintf(out, "1 Count.  Declared: each distinct byte once per launch, as planned for %s.\n",
            t->device);
    fprintf(out, "    %-*s %11s %11s %14s\n", NAME, "LAUNCH", "READ MB", "WRITTEN MB",
            "LOADS ASK MB");
    snprintf(name, sizeof name, "%s, %d launch%s", t->plan->variant->name, t->plan->step_count,
             t->plan->step_count == 1 ? "" : "es");
    declared_line(out, "", name, &t->cost);
    for (int i = 0; i < t->plan->step_count; i++) {
        const kf_cost cost = kf_step_cost(t->plan, i);
        declared_line(out, kf_lesson_branch(g->context, i == t->plan->step_count - 1),
                      t->plan->step[i].entry, &cost);
    }
}

static void executed_line(const kf_gather *g, const kf_simulation *s, int i)
{
    char asked[48];
    const kf_declared *d = &s->declared[i];
    const bool range = d->cost.bytes_requested > d->cost.bytes_read;
    snprintf(asked, sizeof asked, range ? "%lld-%lld" : "%lld", (long long)d->cost.bytes_read,
             (long long)d->cost.bytes_requested);
    fprintf(g->context->out, "    %s%-*s %17s %9lld %11lld %9lld  %s\n",
            kf_lesson_branch(g->context, i == s->count - 1), NAME - 2, d->entry, asked,
            (long long)s->executed[i].read, (long long)d->cost.bytes_written,
            (long long)s->executed[i].written,
            kf_simulation_agrees(s, i) ? kf_lesson_tick(g->context) : "NOT AS DECLARED");
}

/* A small shape, or the simulator's own limits, may take kernels that the plan above does not. */
static bool same_kernels(const kf_traffic *t)
{
    bool same = t->simulation.count == t->plan->step_count;
    for (int i = 0; same && i < t->plan->step_count; i++) {
        same = strcmp(t->simulation.declared[i].entry, t->plan->step[i].entry) == 0;
    }
    return same;
}

static void executed(const kf_gather *g, const kf_traffic *t)
{
    const kf_simulation *s = &t->simulation;
    FILE *out = g->context->out;
    char shape[96];
    if (!t->executed) {
        fprintf(out, "  Executed: not counted: %s.\n", t->not_executed);
        return;
    }
    kf_lesson_shape(g->context, &s->test, shape, sizeof shape);
    fprintf(out,
            "  Executed: every load and store of the OpenCL kernels, counted by the simulator on "
            "%s%s%s.\n  Declared is what its own plan says there%s.\n",
            shape,
            s->smaller ? ", because the shape asked for is too large for an interpreter" : "",
            s->other_knobs ? ", with its own knobs" : "",
            same_kernels(t) ? "" : ", and that plan launches other kernels than the one above");
    fprintf(out, "    %-*s %17s %9s %11s %9s\n", NAME, "LAUNCH, bytes", "READ: declared",
            "executed", "WRITTEN: d.", "executed");
    for (int i = 0; i < s->count; i++) {
        executed_line(g, s, i);
    }
}

/* ---- 2 predict ------------------------------------------------------------------------------ */

static void predict(const kf_gather *g, const kf_traffic *t)
{
    FILE *out = g->context->out;
    if (!t->timed) {
        fprintf(out,
                "2 Predict.  %.3f MB over what the memory does per second; it was not measured: "
                "%s.\n",
                mega(kf_lesson_moved(&t->cost)), t->not_timed);
        return;
    }
    fprintf(out,
            "2 Predict.  %.3f MB at the roofs of their own read:write mixes, measured now, take "
            "%.1f %s (%.1f GB/s)\n",
            mega(kf_lesson_moved(&t->cost)), t->roof.seconds * 1e6, kf_lesson_micro(g->context),
            t->roof.bytes_per_second / 1e9);
}

/* ---- 3 measure ------------------------------------------------------------------------------ */

static void counter(FILE *out, double value, double scale, const char *unit)
{
    char text[32] = "-";
    if (value >= 0) {
        snprintf(text, sizeof text, "%.*f%s", *unit ? 0 : 3, value / scale, unit);
    }
    fprintf(out, " %10s", text);
}

static void measured_line(const kf_gather *g, const char *branch, const char *name,
                          const kf_cost *cost, const kf_timing *t, const kf_plan_roof *roof,
                          const kf_counted *c, const char *flags)
{
    FILE *out = g->context->out;
    fprintf(out, "    %s%-*s", branch, *branch ? NAME - 2 : NAME, name);
    counter(out, c->read, 1e6, "");
    counter(out, c->written, 1e6, "");
    counter(out, c->sectors, 1, " %");
    fprintf(out, " %10.1f %8.1f %7.0f %%  %s\n", t->median * 1e6,
            (double)kf_lesson_moved(cost) / t->median / 1e9, kf_lesson_of_roof(roof, t), flags);
}

static kf_counted sum_of_counters(const kf_traffic *t)
{
    kf_counted sum = {.sectors = -1};
    for (int i = 0; i < t->plan->step_count; i++) {
        sum.read += t->counter[i].read;
        sum.written += t->counter[i].written;
    }
    return sum;
}

static void measured(const kf_gather *g, const kf_traffic *t)
{
    static const kf_counted none = {.read = -1, .written = -1, .sectors = -1};
    FILE *out = g->context->out;
    if (!t->timed) {
        fprintf(out, "3 Measure.  Not measured: %s.\n", t->not_timed);
        return;
    }
    const kf_counted sum = t->counted ? sum_of_counters(t) : none;
    fprintf(out, "3 Measure.  (verified first; %s; bandwidth = declared bytes over time)\n",
            t->timing.cold ? "cold: inputs are never in the cache"
                           : "warm: data may sit in the cache");
    fprintf(out, "    %-*s %10s %10s %10s %*s %8s %9s\n", NAME, "LAUNCH", "DRAM READ", "DRAM WRIT.",
            "SECTORS", g->context->unicode ? 11 : 10, g->context->unicode ? "TIME µs" : "TIME us",
            "GB/s", "OF ROOF");
    measured_line(g, "", t->plan->variant->name, &t->cost, &t->timing, &t->roof, &sum, t->flags);
    for (int i = 0; i < t->plan->step_count; i++) {
        measured_line(g, kf_lesson_branch(g->context, i == t->plan->step_count - 1),
                      t->plan->step[i].entry, &t->step[i].cost, &t->step[i].timing,
                      &t->step[i].roof, t->counted ? &t->counter[i] : &none, t->step[i].flags);
    }
    if (!t->counted) {
        fprintf(out, "  DRAM bytes and sectors: not counted: %s.\n", t->not_counted);
    }
}

/* ---- 4 why ---------------------------------------------------------------------------------- */

static void scratch_line(const kf_gather *g, const kf_traffic *t, int i, int64_t cache)
{
    const kf_scratch *s = &t->plan->scratch[i];
    const int64_t bytes = s->count * kf_dtype_bytes(s->dtype);
    fprintf(g->context->out, "        %s: %.3f MB, ", s->name, mega(bytes));
    if (s->kept) {
        fprintf(g->context->out, "by which the groups of one launch meet\n");
    } else if (cache <= 0) {
        fprintf(g->context->out, "%s\n",
                g->device ? "and this device tells no size of its cache"
                          : "whether a cache holds it depends on the device");
    } else if (bytes > cache) {
        fprintf(g->context->out, "more than the cache holds: written to memory and read back\n");
    } else {
        fprintf(g->context->out,
                "fits the cache of %.1f MB: the launch that reads it may find it "
                "there\n",
                mega(cache));
    }
}

static void above(const kf_gather *g, const kf_traffic *t)
{
    for (int i = 0; t->timed && i < t->plan->step_count; i++) {
        if (strstr(t->step[i].flags, "above-roof")) {
            fprintf(g->context->out,
                    "        %s runs above the memory roof: part of its bytes never reached the "
                    "memory\n",
                    t->plan->step[i].entry);
        }
    }
}

static void counted_against_declared(const kf_gather *g, const kf_traffic *t)
{
    const kf_counted sum = sum_of_counters(t);
    if (t->counted && kf_lesson_moved(&t->cost) > 0) {
        fprintf(g->context->out,
                "        Measured are %.0f %% of the declared reads and %.0f %% of the declared "
                "writes.\n",
                100 * sum.read / (double)t->cost.bytes_read,
                100 * sum.written / (double)t->cost.bytes_written);
    }
}

static void why(const kf_gather *g, const kf_traffic *t)
{
    const int64_t cache = g->device ? kf_device_target(g->device)->cache_bytes : 0;
    FILE *out = g->context->out;
    fprintf(out, "4 Why.  ");
    if (t->plan->scratch_count == 0) {
        fprintf(out, "Nothing goes through memory between launches: inputs are read, outputs "
                     "written.\n");
    } else {
        fprintf(out, "Between its launches go:\n");
    }
    for (int i = 0; i < t->plan->scratch_count; i++) {
        scratch_line(g, t, i, cache);
    }
    above(g, t);
    counted_against_declared(g, t);
}

/* ---- all of it ------------------------------------------------------------------------------ */

void kf_traffic_print(const kf_gather *g, const kf_traffic *t)
{
    FILE *out = g->context->out;
    char shape[96];
    kf_lesson_shape(g->context, &t->test, shape, sizeof shape);
    fprintf(out, "%s %s %s %s\n", t->test.op->name, t->plan->variant->name, shape,
            kf_dtype_name(t->test.dtype));
    if (t->plan->problem.empty) {
        fprintf(out, "    no elements: nothing is launched, and that is right\n\n");
        return;
    }
    declared(g, t);
    executed(g, t);
    predict(g, t);
    measured(g, t);
    why(g, t);
    fputc('\n', out);
    fflush(out);
}

void kf_traffic_against(const kf_gather *g, const kf_traffic *base, const kf_traffic *t)
{
    const int64_t before = kf_lesson_moved(&base->cost), after = kf_lesson_moved(&t->cost);
    FILE *out = g->context->out;
    if (after <= 0) {
        return;
    }
    fprintf(out, "%s instead of %s: %.3f MB instead of %.3f MB, %.2f%s fewer bytes",
            t->plan->variant->name, base->plan->variant->name, mega(after), mega(before),
            (double)before / (double)after, kf_lesson_times(g->context));
    if (t->timed && base->timed) {
        fprintf(out, "; %.1f %s instead of %.1f %s, %.2f%s", t->timing.median * 1e6,
                kf_lesson_micro(g->context), base->timing.median * 1e6, kf_lesson_micro(g->context),
                base->timing.median / t->timing.median, kf_lesson_times(g->context));
    }
    fprintf(out, "\n\n");
}
