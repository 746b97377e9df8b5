/* Every launch of a plan timed alone, against the roof of its own read:write mix and size. The plan
 * was verified by the caller. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_STEPS_H
#define KF_STEPS_H
#include "plan_roof.h"

typedef struct kf_step_time {
    kf_cost cost;
    kf_timing timing;
    kf_plan_roof roof;
    char flags[96]; /* as kf_plan_roof_flags() */
} kf_step_time;

/* Fills step[0 .. plan->step_count - 1]. Inputs and outputs rotate as for a whole plan; scratch is
 * one workspace, so an intermediate that fits the cache may be found there. Steps are timed one
 * after the other: each has a workspace of its own, and several large ones would not fit. */
kf_status kf_steps_measure(const kf_plan *plan, kf_device *device, kf_queue *queue,
                           const kf_measure_options *options, kf_step_time *step);
#endif
