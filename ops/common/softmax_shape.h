/* How softmax lays its rows over groups: the shape of a launch, and the knobs that are not set by
 * hand. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_SOFTMAX_SHAPE_H
#define KF_SOFTMAX_SHAPE_H

#include "../../core/op.h"

/* Of the tables of ops/softmax.c. */
enum { X, Y };
enum { ROWS, COLS };
enum { BLOCK, THREADS_PER_ROW, LOCAL_VECS, LEAST_GROUPS, ONCE, ONLINE, CLUSTER };

typedef struct softmax_shape {
    int64_t block, threads, rows, cluster; /* threads and rows per group */
    int64_t vecs, local_vecs, edges;
    int64_t packs; /* that a vector takes on chip: 2 where its exponentials stay as floats */
    int64_t local_bytes;
    bool aligned;
    bool whole; /* the vectors fill every thread's share: WHOLE of the texts */
} softmax_shape;

/* Every row of both tensors is whole aligned vectors: the texts leave the edges out. */
bool softmax_aligned(const kf_problem *problem);
/* exp2 and divisions per thread of what joins the parts of a row (softmax_scale in the texts). */
int64_t softmax_gather_specials(const kf_target *target, int64_t parts);
/* 16-byte packs of floats that a vector's exponentials are kept in; 0 = they are computed again. */
int64_t softmax_kept_packs(const kf_problem *problem, const kf_config *config);
/* The launch that the knobs describe; `cluster` for fused_cluster. */
softmax_shape softmax_shape_of(const kf_problem *problem, const kf_config *config,
                               const kf_target *target, bool cluster);

/* kf_variant.defaults */
void softmax_defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config);
void softmax_defaults_cluster(const kf_problem *problem, const kf_target *target,
                              kf_config *config);
void softmax_defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config);
void softmax_defaults_unfused(const kf_problem *problem, const kf_target *target,
                              kf_config *config);

/* kf_variant.fits */
kf_status softmax_fits_fused(const kf_problem *problem, const kf_config *config,
                             const kf_target *target);
kf_status softmax_fits_cluster(const kf_problem *problem, const kf_config *config,
                               const kf_target *target);
kf_status softmax_fits_unfused(const kf_problem *problem, const kf_config *config,
                               const kf_target *target);
kf_status softmax_fits_cpu(const kf_problem *problem, const kf_config *config,
                           const kf_target *target);

#endif
