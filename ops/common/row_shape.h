/* How an op lays its rows over groups when it holds them on chip (kernels/common/rows_held): knobs,
 * their defaults, what fits, and the shape of a launch. The problem's dims are rows and columns.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ROW_SHAPE_H
#define KF_ROW_SHAPE_H

#include "rows.h"

enum { KF_ROWS, KF_COLS }; /* dims: "rows cols" */

/* The table of knobs of every op on rows: .knobs = kf_row_knobs, .knob_count = KF_ROW_KNOBS. */
enum {
    KF_ROW_BLOCK,
    KF_ROW_THREADS,
    KF_ROW_LOCAL_VECS,
    KF_ROW_LEAST_GROUPS,
    KF_ROW_ONLINE,
    KF_ROW_CLUSTER,
    KF_ROW_SPLIT,
    KF_ROW_KNOBS,
    KF_ROW_MOST_PARKED = 13 /* the largest LOCAL_VECS */
};
extern const kf_knob_decl kf_row_knobs[KF_ROW_KNOBS];
extern const char *const kf_row_ways[]; /* .ways */

typedef struct kf_row_shape {
    int64_t block, threads, rows, cluster; /* threads and rows per group */
    int64_t vecs, local_vecs, edges;       /* per thread */
    int64_t local_bytes;
    bool aligned;
    bool whole; /* the vectors fill every thread's share: WHOLE of the texts */
} kf_row_shape;

/* Every row of every matrix is whole aligned vectors, and so are the vectors of columns (weights):
 * the texts leave the edges out. */
bool kf_row_aligned(const kf_problem *problem);
/* The launch that the knobs describe; `cluster` for fused_cluster. */
kf_row_shape kf_row_shape_of(const kf_problem *problem, const kf_config *config,
                             const kf_target *target, bool cluster);
/* ... and of ONLINE=1: one row per group, which does not stay on chip. */
kf_row_shape kf_row_shape_online(const kf_problem *problem, const kf_config *config,
                                 const kf_target *target);
kf_grid kf_row_grid(const kf_row_shape *shape, const kf_plan *plan);
/* All that kernels/common/rows_held is built with. */
void kf_row_define(kf_step *step, const kf_plan *plan, const kf_row_shape *shape);
/* A step of entries that work row by row or on one strip of a row (unfused, CPU): BLOCK and its
 * threads per row. */
void kf_row_define_strip(kf_step *step, const kf_plan *plan);
/* One row per work-item. */
kf_grid kf_row_item_grid(const kf_problem *problem, const kf_config *config);
/* Depth of a row's sum over `threads`; `merges` of partial results in which each is rescaled. */
void kf_row_error(kf_plan *plan, int64_t threads, int64_t merges);

/* Launches of the unfused entries: a reduction per row; a map that reads a float per row in each of
 * `per_row` threads; a flat map over contiguous scratch. On CPU devices one row per item each. */
typedef struct kf_row_launches {
    kf_grid reduce, map, flat;
    int64_t per_row;
} kf_row_launches;
kf_row_launches kf_row_unfused(const kf_plan *plan);

/* kf_variant.defaults */
void kf_row_defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config);
void kf_row_defaults_cluster(const kf_problem *problem, const kf_target *target, kf_config *config);
void kf_row_defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config);
void kf_row_defaults_unfused(const kf_problem *problem, const kf_target *target, kf_config *config);

/* kf_op.choose: long rows go over a cluster where there are any. */
const char *kf_row_choose(const kf_problem *problem, const kf_target *target);

/* Parts of kf_variant.fits: the width; vectors per thread. */
kf_status kf_row_check_cols(const kf_problem *problem);
kf_status kf_row_check_on_chip(const kf_row_shape *shape, const kf_config *config,
                               const kf_target *target);
/* A group whose work-items reduce together is a warp at least. */
kf_status kf_row_fits_warp(const kf_config *config, const kf_target *target);

/* kf_variant.fits */
kf_status kf_row_fits_fused(const kf_problem *problem, const kf_config *config,
                            const kf_target *target);
kf_status kf_row_fits_cluster(const kf_problem *problem, const kf_config *config,
                              const kf_target *target);
kf_status kf_row_fits_read(const kf_problem *problem, const kf_config *config,
                           const kf_target *target);
kf_status kf_row_fits_unfused(const kf_problem *problem, const kf_config *config,
                              const kf_target *target);
kf_status kf_row_fits_cpu(const kf_problem *problem, const kf_config *config,
                          const kf_target *target);

#endif
