/* SPDX-License-Identifier: Apache-2.0 */
#include "duel.h"
#include "../core/backend.h"
#include <stdio.h>
#include <string.h>

static void own_knobs(const kf_op *op, const char *all, char *text, size_t bytes)
{
    char words[1024], name[64], *rest;
    size_t used = 0;
    text[0] = 0;
    snprintf(words, sizeof words, "%s", all ? all : "");
    for (char *word = strtok_r(words, " ", &rest); word && used < bytes;
         word = strtok_r(NULL, " ", &rest)) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
        if (kf_op_knob(op, name) >= 0) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? " " : "", word);
        }
    }
}

static kf_status make_plan(kf_duel *d, int which, const kf_variant *variant, const char *knobs,
                           const kf_target *target)
{
    kf_problem *problem = NULL;
    kf_case test = d->test;
    const kf_plan_desc desc = {.variant = variant ? variant->name : NULL, .knobs = knobs};
    test.variant = variant;
    kf_status status = kf_problem_open(test.op->name, &problem);
    if (status == KF_OK) {
        status = kf_case_problem(&test, problem);
    }
    if (status == KF_OK) {
        status = kf_plan_open(problem, &desc, target, &d->plan[which]);
    }
    kf_problem_close(problem);
    if (status == KF_OK) {
        d->cost[which] = kf_plan_cost(d->plan[which]);
    }
    return status;
}

kf_status kf_duel_plan(kf_duel *duel, const kf_case *test, const char *knobs,
                       const kf_target *target)
{
    char own[1024];
    const kf_variant *first = &test->op->variants[0];
    *duel = (kf_duel){.test = *test};
    own_knobs(test->op, knobs, own, sizeof own);
    const kf_status status = make_plan(duel, 0, first, own, target);
    return status == KF_OK
               ? make_plan(duel, 1, test->variant == first ? NULL : test->variant, own, target)
               : status;
}

static kf_status verify(kf_duel *d, int which, kf_device *device, kf_queue *queue)
{
    const kf_verify_options options = {.seed = d->test.seed};
    kf_status status = kf_verify(d->plan[which], device, queue, &options, &d->report[which]);
    if (status == KF_OK && d->report[which].passed) {
        status = kf_verify_nasty(d->plan[which], device, queue, &options, &d->report[which]);
    }
    if (status == KF_OK && !d->report[which].passed) {
        return kf_fail(KF_WRONG_RESULT, "%s %s is wrong, and wrong results have no time: %s",
                       d->test.op->name, d->plan[which]->variant->name, d->report[which].reason);
    }
    return status;
}

static kf_status against_roofs(kf_duel *d, kf_device *device, kf_queue *queue)
{
    const kf_target *target = kf_device_target(device);
    double flops;
    for (int i = 0; i < 2; i++) {
        const kf_status status = kf_plan_roof_measure(d->plan[i], -1, device, queue, &d->roof[i]);
        if (status != KF_OK) {
            return status;
        }
        kf_plan_roof_flags(&d->roof[i], &d->cost[i], &d->timing[i], target, d->flags[i],
                           sizeof d->flags[i]);
    }
    return target->capabilities & KF_CAP_CPU
               ? kf_roof_compute(device, queue, &flops, &d->exps_per_second)
               : KF_OK;
}

kf_status kf_duel_run(kf_duel *duel, kf_device *device, kf_queue *queue, volatile int *cancel)
{
    kf_subject subject[2];
    const kf_measure_options options = {.seed = duel->test.seed, .cancel = cancel};
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < 2; i++) {
        subject[i] =
            (kf_subject){.plan = duel->plan[i], .device = device, .queue = queue, .only_step = -1};
        status = verify(duel, i, device, queue);
    }
    if (status == KF_OK && !(cancel && *cancel)) {
        status = kf_measure(subject, 2, &options, duel->timing);
    }
    if (status != KF_OK || (cancel && *cancel)) {
        return status;
    }
    kf_quotient(&duel->timing[0], &duel->timing[1], &duel->gain, &duel->gain_low, &duel->gain_high);
    return against_roofs(duel, device, queue);
}

static void fill_row(const kf_duel *d, int which, kf_device *device, kf_result *row)
{
    const kf_plan *plan = d->plan[which];
    *row = (kf_result){.test = d->test,
                       .step = -1,
                       .device = kf_device_describe(device),
                       .status = "ok",
                       .timing = d->timing[which],
                       .cost = d->cost[which],
                       .roof_bytes_per_second = d->roof[which].bytes_per_second,
                       .verify = d->report[which]};
    row->test.variant = plan->variant;
    row->test.config = plan->config;
    for (int k = 0; k < d->test.op->knob_count; k++) {
        row->test.config.set[k] = kf_knob_used(&d->test.op->knobs[k], plan->variant->name);
    }
    snprintf(row->roof_shape, sizeof row->roof_shape, "%s", d->roof[which].shape);
    snprintf(row->flags, sizeof row->flags, "%s", d->flags[which]);
}

kf_status kf_duel_rows(const kf_duel *duel, kf_device *device, kf_sink *const *sinks, int count)
{
    kf_result row;
    kf_status status = KF_OK;
    for (int i = 0; i < 2; i++) {
        fill_row(duel, i, device, &row);
        for (int s = 0; status == KF_OK && s < count; s++) {
            status = kf_sink_row(sinks[s], &row);
        }
    }
    return status;
}

void kf_duel_close(kf_duel *duel)
{
    for (int i = 0; i < 2; i++) {
        kf_plan_close(duel->plan[i]);
        duel->plan[i] = NULL;
    }
}
