/* SPDX-License-Identifier: Apache-2.0 */
#include "steps.h"

static kf_status one(const kf_plan *plan, int i, kf_device *device, kf_queue *queue,
                     const kf_measure_options *options, kf_step_time *step)
{
    const kf_subject subject = {.plan = plan, .device = device, .queue = queue, .only_step = i};
    step->cost = kf_step_cost(plan, i);
    kf_status status = kf_measure(&subject, 1, options, &step->timing);
    if (status == KF_OK) {
        status = kf_plan_roof_measure(plan, i, device, queue, &step->roof);
    }
    if (status == KF_OK) {
        kf_plan_roof_flags(&step->roof, &step->cost, &step->timing, kf_device_target(device),
                           step->flags, sizeof step->flags);
    }
    return status;
}

kf_status kf_steps_measure(const kf_plan *plan, kf_device *device, kf_queue *queue,
                           const kf_measure_options *options, kf_step_time *step)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < plan->step_count; i++) {
        step[i] = (kf_step_time){0};
        status = one(plan, i, device, queue, options, &step[i]);
    }
    return status;
}
