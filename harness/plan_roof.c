/* Roofs of plans and what a timing says against them. SPDX-License-Identifier: Apache-2.0 */
#include "plan_roof.h"
#include <stdio.h>

/* Sizes that differ by some row statistics share one measurement: six leading bits are kept. Below
 * the least size a launch is all latency, and its rate says nothing. */
static int64_t rounded(int64_t bytes)
{
    const int64_t least = 64 << 10;
    int shift = 0;
    while (bytes >> shift >= 64) {
        shift++;
    }
    return bytes < least ? least : bytes >> shift << shift;
}

static kf_status add_step(const kf_plan *plan, int step, kf_device *device, kf_queue *queue,
                          int64_t *most, kf_plan_roof *roof)
{
    const kf_cost cost = kf_step_cost(plan, step);
    const int64_t bytes = cost.bytes_read + cost.bytes_written;
    kf_roof own = {0};
    if (bytes == 0) {
        return KF_OK;
    }
    const kf_mix mix = kf_mix_of(cost.bytes_read, cost.bytes_written);
    const kf_status status = kf_roof_measure(device, queue, mix, rounded(bytes), &own);
    if (status != KF_OK) {
        return status;
    }
    roof->seconds += own.bytes_per_second > 0 ? (double)bytes / own.bytes_per_second : 0;
    if (bytes > *most) {
        *most = bytes;
        snprintf(roof->shape, sizeof roof->shape, "%s", own.shape);
    }
    return KF_OK;
}

kf_status kf_plan_roof_measure(const kf_plan *plan, int only_step, kf_device *device,
                               kf_queue *queue, kf_plan_roof *roof)
{
    int64_t most = 0;
    *roof = (kf_plan_roof){0};
    kf_status status = kf_roof_empty(device, queue, &roof->empty);
    for (int i = 0; status == KF_OK && i < plan->step_count; i++) {
        if (only_step < 0 || only_step == i) {
            status = add_step(plan, i, device, queue, &most, roof);
        }
    }
    const kf_cost cost = only_step < 0 ? kf_plan_cost(plan) : kf_step_cost(plan, only_step);
    if (status == KF_OK && roof->seconds > 0) {
        roof->bytes_per_second = (double)(cost.bytes_read + cost.bytes_written) / roof->seconds;
    }
    return status;
}

void kf_plan_roof_flags(const kf_plan_roof *roof, const kf_cost *cost, const kf_timing *timing,
                        const kf_target *target, char *flags, size_t bytes)
{
    const double each = cost->launches > 0 ? timing->median / cost->launches : timing->median;
    const double rate = (double)(cost->bytes_read + cost->bytes_written) / timing->median;
    const bool bound = each < 1.5 * roof->empty;
    const bool above = roof->bytes_per_second > 0 && rate > 1.02 * roof->bytes_per_second;
    const bool cpu = target->capabilities & KF_CAP_CPU;
    snprintf(flags, bytes, "%s%s%s%s%s", bound ? "launch-bound" : "", bound && above ? " " : "",
             above ? "above-roof" : "", cpu && (bound || above) ? " " : "", cpu ? "cpu" : "");
}
