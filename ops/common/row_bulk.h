/* How an op lays its rows over warps when they land in local memory by bulk copies
 * (kernels/common/rows_bulk): a warp per row, groups that stay. The variant fused_bulk of ops whose
 * knobs are kf_row_knobs. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ROW_BULK_H
#define KF_ROW_BULK_H

#include "row_shape.h"

typedef struct kf_row_bulk {
    int64_t block, groups; /* threads of a group; groups of the launch */
    int64_t vectors;       /* of a row */
    int64_t local_bytes;   /* of a group: a slot per warp, what all share, a barrier per warp */
    int inputs, shared;    /* matrices that are read, vectors of columns */
} kf_row_bulk;

kf_row_bulk kf_row_bulk_of(const kf_problem *problem, const kf_config *config,
                           const kf_target *target);
kf_grid kf_row_bulk_grid(const kf_row_bulk *bulk, const kf_plan *plan);
/* All that kernels/common/rows_bulk is built with. */
void kf_row_bulk_define(kf_step *step, const kf_plan *plan, const kf_row_bulk *bulk);

/* kf_variant.defaults and .fits */
void kf_row_bulk_defaults(const kf_problem *problem, const kf_target *target, kf_config *config);
kf_status kf_row_bulk_fits(const kf_problem *problem, const kf_config *config,
                           const kf_target *target);

#endif
