/* Plans of kernels that sum a row's exponentials as it goes by (kernels/common/rows_lse): launches,
 * what they execute, defaults. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ROW_LSE_H
#define KF_ROW_LSE_H

#include "row_split.h"

typedef struct kf_row_lse { /* how kf_lse_row goes over a row */
    int64_t trip_vecs, trips;
    bool exact; /* the number of trips does not hang on where the rows begin */
} kf_row_lse;

/* A launch that keeps nothing of its rows: BLOCK and THREADS_PER_ROW alone describe it. */
kf_row_shape kf_row_shape_read(const kf_problem *problem, const kf_config *config,
                               const kf_target *target);
kf_row_lse kf_row_lse_of(const kf_problem *problem, const kf_row_shape *shape);
/* LSE, LSE_TOTAL and TRIP_VECS, beside those of kf_row_define. */
void kf_row_lse_define(kf_step *step, const kf_row_lse *lse, bool total);

/* Special functions that `groups` groups execute. */
int64_t kf_row_lse_read_specials(const kf_plan *plan, const kf_row_shape *shape,
                                 const kf_row_lse *lse); /* kf_lse_row and kf_lse_join */
int64_t kf_row_lse_held_specials(const kf_plan *plan,
                                 const kf_row_shape *shape); /* kf_lse_held and kf_lse_join */
/* ... of every row of every group. */
int64_t kf_row_lse_split_specials(const kf_plan *plan, const kf_row_split *split);

/* kf_variant.defaults of launches that only read. */
void kf_row_defaults_read(const kf_problem *problem, const kf_target *target, kf_config *config);

#endif
