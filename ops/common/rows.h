/* Geometry of kernels that work on rows, the host side of kernels/common/rows: what a plan must
 * know to size a launch and to count what it executes. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ROWS_H
#define KF_ROWS_H

#include "../../core/op.h"

int64_t kf_ceil_div(int64_t a, int64_t b);
int64_t kf_at_least(int64_t a, int64_t b); /* the larger */
int64_t kf_at_most(int64_t a, int64_t b);  /* the smaller */
int64_t kf_power_of_two_above(int64_t n);  /* the least that is >= n; 1 for n <= 1 */
int kf_log2_above(int64_t n);

/* All of these take the problem's second dim as the width of a row. */
int kf_vec_elements(const kf_problem *problem);            /* elements of a 16-byte vector */
int64_t kf_row_vectors(const kf_problem *problem);         /* whole vectors of a row, at least 1 */
bool kf_rows_whole(const kf_problem *problem, int tensor); /* rows are aligned whole vectors */
/* Edge elements per thread (EDGES of the texts): those before and after a row's vectors. */
int64_t kf_row_edges(const kf_problem *problem, int64_t threads, bool aligned);

/* Lanes that exchange registers (KF_WARP of the texts); 1 where reductions are trees. */
int64_t kf_warp_lanes(const kf_target *target);
/* Local memory of one row's slots in one group, when `groups` share the row: a float4 per warp, or
 * a float per thread for trees. */
int64_t kf_row_slot_bytes(const kf_target *target, int64_t threads, int64_t groups);
/* Local memory is asked for in whole vectors, at least one: the texts declare an array of it. */
int64_t kf_local_vectors(int64_t bytes);
/* BLOCK, THREADS_PER_ROW, ROWS_PER_GROUP, ALIGNED and KF_ARCH. */
void kf_define_row(kf_step *step, const kf_target *target, int64_t block, int64_t threads,
                   bool aligned);

#endif
