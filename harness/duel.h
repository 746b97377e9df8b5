/* The baseline of an op against its fused variant on one device: what a lesson runs. Planned,
 * verified, timed interleaved, set against the roofs. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_DUEL_H
#define KF_DUEL_H
#include "plan_roof.h"
#include "results.h"

typedef struct kf_duel { /* [0] the op's first variant, [1] the one chosen for the device, or the
                            case's */
    kf_case test;
    kf_plan *plan[2];
    kf_cost cost[2];
    kf_verify_report report[2];
    kf_timing timing[2];
    kf_plan_roof roof[2];
    char flags[2][96];
    double gain, gain_low, gain_high; /* measured: the pairwise quotients and their 20-80 % band */
    double exps_per_second; /* of a CPU device; 0 elsewhere: a GPU is never short of them here */
} kf_duel;

/* `knobs` as by --set, of any op: those this op does not have are left out. NULL = defaults. */
kf_status kf_duel_plan(kf_duel *duel, const kf_case *test, const char *knobs,
                       const kf_target *target);
/* Verifies and times. KF_WRONG_RESULT: no time is taken. Stops early, with KF_OK, when *cancel is
 * set. */
kf_status kf_duel_run(kf_duel *duel, kf_device *device, kf_queue *queue, volatile int *cancel);
kf_status kf_duel_rows(const kf_duel *duel, kf_device *device, kf_sink *const *sinks, int count);
void kf_duel_close(kf_duel *duel);
#endif
