/* How an op lays a row over several groups that meet in global memory (kernels/common/
 * rows_held_split): the variant fused_split of ops on rows. Knobs are those of row_shape.h.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ROW_SPLIT_H
#define KF_ROW_SPLIT_H

#include "row_shape.h"

typedef struct kf_row_split {
    kf_row_shape slice; /* what one group holds of a row */
    int64_t parts;      /* groups per row */
    int64_t part_vecs;  /* vectors per part: the row's share, in whole lines of 128 bytes */
    int64_t teams;      /* rows at a time; a team goes from row to row */
} kf_row_split;

kf_row_split kf_row_split_of(const kf_problem *problem, const kf_config *config,
                             const kf_target *target);
kf_grid kf_row_split_grid(const kf_row_split *split, const kf_plan *plan);
/* All that kernels/common/rows_held_split is built with. */
void kf_row_split_define(kf_step *step, const kf_plan *plan, const kf_row_split *split);
/* What entries take behind their tensors: the slots by which the groups of a row tell each other
 * their part, and the tickets that number the runs. Declares both as counters of the exec. */
typedef struct kf_row_meeting {
    kf_use slots, tickets;
} kf_row_meeting;
kf_row_meeting kf_row_split_meet(kf_plan *plan, const kf_row_split *split);
/* The error of a row's sum; `rescaled`: partial results are multiplied on the way. */
void kf_row_split_error(kf_plan *plan, const kf_row_split *split, bool rescaled);
/* LOCAL_VECS: as many as are wanted and fit the group's local memory. */
int64_t kf_row_split_parked(const kf_target *target, const kf_config *config, int64_t wanted);
/* Slots that a thread reads when it joins the parts of a row. */
int64_t kf_row_split_reads(const kf_plan *plan, const kf_row_split *split);

/* kf_variant.defaults, kf_variant.fits */
void kf_row_defaults_split(const kf_problem *problem, const kf_target *target, kf_config *config);
kf_status kf_row_fits_split(const kf_problem *problem, const kf_config *config,
                            const kf_target *target);

#endif
