/* The roof of a whole plan: what its launches would take if each ran at the measured roof of its
 * own read:write mix and size. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_PLAN_ROOF_H
#define KF_PLAN_ROOF_H
#include "measure.h"

typedef struct kf_plan_roof {
    double seconds;          /* of all launches, each at its own roof */
    double bytes_per_second; /* the plan's bytes over `seconds`; 0 when nothing is moved */
    double empty;            /* seconds of an empty launch on this device */
    char shape[48];          /* winning shape of the launch that moves most */
} kf_plan_roof;

/* `only_step` -1 = all steps. Measures what is not yet known in this process. */
kf_status kf_plan_roof_measure(const kf_plan *plan, int only_step, kf_device *device,
                               kf_queue *queue, kf_plan_roof *roof);
/* "launch-bound above-roof cpu", as they apply to a timing of the plan or step; "" for none. */
void kf_plan_roof_flags(const kf_plan_roof *roof, const kf_cost *cost, const kf_timing *timing,
                        const kf_target *target, char *flags, size_t bytes);
#endif
