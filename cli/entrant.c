/* One variant of one case on one device: planned, verified, then timed. In this order and no other:
 * a wrong result has no speed. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "../harness/plan_roof.h"
#include <string.h>

kf_status kf_bench_open(kf_cli *cli, const kf_found *found, kf_bench *bench)
{
    *bench = (kf_bench){.found = found};
    const kf_status status = kf_cli_open(cli, found, &bench->device);
    return status != KF_OK ? status : kf_queue_open(bench->device, NULL, &bench->queue);
}

void kf_bench_close(kf_bench *bench)
{
    kf_queue_close(bench->queue);
    kf_device_close(bench->device);
    *bench = (kf_bench){0};
}

/* What a device cannot do is a row with a reason; everything else ends the run. */
static kf_status excuse(kf_entrant *entrant, kf_status status)
{
    if (status != KF_UNSUPPORTED && status != KF_OUT_OF_MEMORY) {
        return status;
    }
    entrant->row.status = "unsupported";
    snprintf(entrant->row.reason, sizeof entrant->row.reason, "%s", kf_error());
    return KF_OK;
}

static kf_status verify(kf_entrant *entrant, const kf_case *c)
{
    kf_verify_options options = {.seed = c->seed, .one_poison = true};
    memcpy(options.offset, c->offset, sizeof options.offset);
    const kf_status status = kf_verify(entrant->plan, entrant->bench->device, entrant->bench->queue,
                                       &options, &entrant->row.verify);
    if (status != KF_OK) {
        return excuse(entrant, status);
    }
    const kf_status nasty =
        entrant->row.verify.passed
            ? kf_verify_nasty(entrant->plan, entrant->bench->device, entrant->bench->queue,
                              &options, &entrant->row.verify)
            : KF_OK;
    if (nasty != KF_OK) {
        return excuse(entrant, nasty);
    }
    entrant->runs = entrant->row.verify.passed;
    entrant->row.status = entrant->runs ? "ok" : "wrong";
    if (!entrant->runs) {
        snprintf(entrant->row.reason, sizeof entrant->row.reason, "%s", entrant->row.verify.reason);
    }
    return KF_OK;
}

kf_status kf_entrant_open(const kf_bench *bench, const kf_case *c, const kf_variant *variant,
                          kf_entrant *entrant)
{
    *entrant = (kf_entrant){.bench = bench};
    entrant->row.test = *c;
    entrant->row.test.variant = variant ? variant : c->variant;
    entrant->row.step = -1;
    entrant->row.device = kf_device_describe(bench->device);
    entrant->row.status = "error";
    const kf_status status =
        kf_case_plan(c, variant, kf_device_target(bench->device), &entrant->plan);
    if (status != KF_OK) {
        return excuse(entrant, status);
    }
    kf_case_as_planned(c, entrant->plan, &entrant->row.test);
    entrant->row.cost = kf_plan_cost(entrant->plan);
    if (entrant->plan->problem.empty) {
        entrant->row.status = "skipped";
        snprintf(entrant->row.reason, sizeof entrant->row.reason,
                 "no elements: nothing is launched");
        return KF_OK;
    }
    return verify(entrant, c);
}

void kf_entrant_close(kf_entrant *entrant)
{
    kf_plan_close(entrant->plan);
    entrant->plan = NULL;
}

static kf_status finish_row(kf_entrant *entrant, int step, const kf_timing *timing)
{
    kf_result *row = &entrant->row;
    kf_plan_roof roof;
    row->timing = *timing;
    row->step = step;
    if (step >= 0) {
        row->cost = kf_step_cost(entrant->plan, step);
        snprintf(row->step_entry, sizeof row->step_entry, "%s", entrant->plan->step[step].entry);
    }
    const kf_status status = kf_plan_roof_measure(entrant->plan, step, entrant->bench->device,
                                                  entrant->bench->queue, &roof);
    if (status != KF_OK) {
        return status;
    }
    row->roof_bytes_per_second = roof.bytes_per_second;
    snprintf(row->roof_shape, sizeof row->roof_shape, "%s", roof.shape);
    kf_plan_roof_flags(&roof, &row->cost, timing, kf_device_target(entrant->bench->device),
                       row->flags, sizeof row->flags);
    return KF_OK;
}

kf_status kf_entrants_measure(kf_entrant *entrant, int count, int step,
                              const kf_measure_options *options)
{
    enum { MOST = 64 };
    static kf_timing timing[MOST];
    kf_subject subject[MOST];
    int which[MOST], n = 0;
    for (int i = 0; i < count && n < MOST; i++) {
        if (entrant[i].runs && step < entrant[i].plan->step_count) {
            which[n] = i;
            subject[n++] = (kf_subject){.plan = entrant[i].plan,
                                        .device = entrant[i].bench->device,
                                        .queue = entrant[i].bench->queue,
                                        .only_step = step,
                                        .plain_stream = entrant[i].plain_stream};
        }
    }
    kf_measure_options own = *options; /* timed where it was verified: at the case's offsets */
    own.offset = n ? entrant[which[0]].row.test.offset : NULL;
    kf_status status = n ? kf_measure(subject, n, &own, timing) : KF_OK;
    for (int i = 0; status == KF_OK && !kf_cancelled && i < n; i++) {
        status = finish_row(&entrant[which[i]], step, &timing[i]);
    }
    return status;
}
