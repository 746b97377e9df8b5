/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"
#include "../../core/backend.h"
#include <string.h>

kf_status kf_traffic_plan(const kf_gather *g, const kf_case *c, const kf_variant *variant,
                          kf_traffic *t)
{
    const kf_target *target = g->device ? kf_device_target(g->device) : kf_target_generic();
    *t = (kf_traffic){.test = *c};
    t->test.variant = variant ? variant : c->variant;
    snprintf(t->device, sizeof t->device, "%s",
             g->device ? kf_device_describe(g->device)->id : "a generic GPU");
    const kf_status status = kf_case_open(&t->test, target, &t->plan);
    if (status == KF_OK) {
        t->test.variant = t->plan->variant;
        t->cost = kf_plan_cost(t->plan);
    }
    return status;
}

void kf_traffic_close(kf_traffic *t)
{
    kf_plan_close(t->plan);
    t->plan = NULL;
}

/* ---- executed ------------------------------------------------------------------------------- */

/* A case that the simulator cannot run has a reason, not a failure. */
static void execute(const kf_gather *g, kf_traffic *t)
{
    snprintf(t->not_executed, sizeof t->not_executed, "%s", g->no_simulator);
    if (g->simulator[0]) {
        t->executed =
            kf_simulate(&t->test, g->simulator, g->context->cancel, &t->simulation) == KF_OK;
        snprintf(t->not_executed, sizeof t->not_executed, "%s", t->executed ? "" : kf_error());
    }
}

/* ---- counted -------------------------------------------------------------------------------- */

/* The profiler may see launches that are none of the plan's; the plan's are there in their order.
 */
static bool line_up(kf_traffic *t, const kf_counted *list, int count)
{
    int step = 0;
    for (int i = 0; i < count && step < t->plan->step_count; i++) {
        if (strcmp(list[i].entry, t->plan->step[step].entry) == 0) {
            t->counter[step++] = list[i];
        }
    }
    return step == t->plan->step_count;
}

static void count_bytes(const kf_gather *g, kf_traffic *t)
{
    kf_counted list[4 * KF_MAX_STEPS];
    int count;
    const kf_status status =
        kf_counters_run(&t->test, g->device, g->context->cancel, list, 4 * KF_MAX_STEPS, &count);
    t->counted = status == KF_OK && line_up(t, list, count);
    if (!t->counted) {
        snprintf(t->not_counted, sizeof t->not_counted, "%s",
                 status == KF_OK ? "the profiler saw other launches than the plan has"
                                 : kf_error());
    }
}

/* ---- timed ---------------------------------------------------------------------------------- */

static kf_status verify(const kf_gather *g, kf_traffic *t)
{
    kf_verify_options options = {.seed = t->test.seed};
    memcpy(options.offset, t->test.offset, sizeof options.offset);
    kf_status status = kf_verify(t->plan, g->device, g->queue, &options, &t->verify);
    if (status == KF_OK && t->verify.passed) {
        status = kf_verify_nasty(t->plan, g->device, g->queue, &options, &t->verify);
    }
    if (status == KF_OK && !t->verify.passed) {
        return kf_fail(KF_WRONG_RESULT, "%s %s is wrong, and wrong results have no time: %s",
                       t->test.op->name, t->plan->variant->name, t->verify.reason);
    }
    return status;
}

static kf_status time_plan(const kf_gather *g, kf_traffic *t)
{
    const kf_measure_options options = {
        .seed = t->test.seed, .cancel = g->context->cancel, .offset = t->test.offset};
    const kf_subject whole = {
        .plan = t->plan, .device = g->device, .queue = g->queue, .only_step = -1};
    kf_status status = kf_measure(&whole, 1, &options, &t->timing);
    if (status == KF_OK) {
        status = kf_plan_roof_measure(t->plan, -1, g->device, g->queue, &t->roof);
    }
    if (status == KF_OK) {
        kf_plan_roof_flags(&t->roof, &t->cost, &t->timing, kf_device_target(g->device), t->flags,
                           sizeof t->flags);
        status = kf_steps_measure(t->plan, g->device, g->queue, &options, t->step);
    }
    t->timed = status == KF_OK;
    return status;
}

static kf_status on_device(const kf_gather *g, kf_traffic *t)
{
    static const char none[] = "there is no device", simulated[] = "the device is a simulator";
    if (!g->device || kf_device_target(g->device)->capabilities & KF_CAP_SIMULATOR) {
        const char *why = g->device ? simulated : none;
        snprintf(t->not_timed, sizeof t->not_timed, "%s", why);
        snprintf(t->not_counted, sizeof t->not_counted, "%s", why);
        return KF_OK;
    }
    kf_status status = verify(g, t);
    if (status == KF_OK && !kf_lesson_stopped(g->context)) {
        status = time_plan(g, t);
    }
    if (status == KF_OK && !kf_lesson_stopped(g->context)) {
        count_bytes(g, t);
    }
    return status;
}

static void progress(const kf_gather *g, const kf_traffic *t, const char *what)
{
    if (g->context->progress) {
        fprintf(g->context->progress, "%s %s: %s\n", t->test.op->name, t->test.variant->name, what);
    }
}

kf_status kf_traffic_gather(const kf_gather *g, kf_traffic *t)
{
    if (t->plan->problem.empty) {
        return KF_OK;
    }
    if (g->simulator[0]) {
        progress(g, t, "in the simulator");
    }
    execute(g, t);
    if (kf_lesson_stopped(g->context)) {
        return KF_OK;
    }
    if (g->device) {
        progress(g, t, "on the device");
    }
    return on_device(g, t);
}

/* ---- rows ----------------------------------------------------------------------------------- */

static kf_result row_of(const kf_gather *g, const kf_traffic *t, int step)
{
    const kf_step_time *s = step < 0 ? NULL : &t->step[step];
    kf_result row = {.test = t->test,
                     .step = step,
                     .device = kf_device_describe(g->device),
                     .status = "ok",
                     .timing = s ? s->timing : t->timing,
                     .cost = s ? s->cost : t->cost,
                     .roof_bytes_per_second =
                         s ? s->roof.bytes_per_second : t->roof.bytes_per_second,
                     .verify = t->verify};
    row.test.config = t->plan->config;
    for (int k = 0; k < t->test.op->knob_count; k++) {
        row.test.config.set[k] = kf_knob_used(&t->test.op->knobs[k], t->plan->variant->name);
    }
    snprintf(row.step_entry, sizeof row.step_entry, "%s", s ? t->plan->step[step].entry : "");
    snprintf(row.roof_shape, sizeof row.roof_shape, "%s", s ? s->roof.shape : t->roof.shape);
    snprintf(row.flags, sizeof row.flags, "%s", s ? s->flags : t->flags);
    return row;
}

kf_status kf_traffic_rows(const kf_gather *g, const kf_traffic *t)
{
    kf_status status = KF_OK;
    for (int step = -1; t->timed && step < t->plan->step_count; step++) {
        const kf_result row = row_of(g, t, step);
        for (int s = 0; status == KF_OK && s < g->context->sink_count; s++) {
            status = kf_sink_row(g->context->sinks[s], &row);
        }
    }
    return status;
}
