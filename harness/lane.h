/* One subject of a measurement at work: between measure.c and samples.c only.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_LANE_H
#define KF_LANE_H
#include "measure.h"
#include "sets.h"
#include "spin.h"
#include "../core/backend.h"

enum {
    KF_MOST_RECORDED = 4000, /* kernels of one recording */
    KF_MOST_QUEUED =
        256 /* kernels of one batch: NVIDIA's OpenCL blocks behind a spin from about 500 */
};

typedef struct kf_lane {
    const kf_subject *subject;
    const kf_measure_options *options;
    kf_timing *timing;
    kf_exec *exec;
    kf_sets *sets;
    kf_spin *spin;           /* NULL unless the path needs it */
    kf_recording *recording; /* of `launches` runs; NULL unless graph */
    bool cpu, graph;
    int steps;       /* kernels per run */
    int launches;    /* runs per sample */
    double covering; /* seconds that the spin must last */
} kf_lane;

/* Runs every set once, then settles how many runs a sample has; its last sample is the untimed one.
 */
kf_status kf_lane_warm_up(kf_lane *lane);
kf_status kf_lane_calibrate(kf_lane *lane);
/* Seconds per run of one sample, by the lane's path. */
kf_status kf_lane_sample(kf_lane *lane, double *seconds);
/* Seconds per run with the host in it: enqueued one by one, waited for at the end. */
kf_status kf_lane_host(kf_lane *lane, double *seconds);
#endif
