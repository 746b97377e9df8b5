/* Sums over the rows of a matrix, column by column and in a fixed order: the gradients of weights
 * and biases. The host side of kernels/common/rows_columns. A first launch, which may do other work
 * on the rows, writes `parts` rows of partial sums; kf_column_totals adds these up.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_COLUMNS_H
#define KF_COLUMNS_H

#include "row_shape.h"

/* Threads whose columns are the same in every row. */
typedef struct kf_columns {
    int64_t block, threads, teams; /* per group, per row; teams take different rows */
    int64_t vecs;                  /* 16-byte vectors per thread */
    int64_t strips;                /* of threads x vecs vectors, which a row is cut into */
    bool aligned;
    bool whole; /* the strips fill the row exactly */
} kf_columns;

kf_columns kf_columns_of(const kf_problem *problem, int64_t block, int64_t threads, int64_t vecs);
/* Local memory in which the teams of a group add up a strip of sums. */
int64_t kf_columns_join_bytes(const kf_columns *columns, const kf_problem *problem);
void kf_columns_define(kf_step *step, const kf_target *target, const kf_columns *columns);
/* Groups that share the rows where each has one strip: `per_unit` groups on each unit. */
int64_t kf_columns_parts(const kf_columns *columns, const kf_plan *plan, int64_t per_unit);
/* Rows that one thread adds up, and the teams of its group. */
int64_t kf_columns_depth(const kf_columns *columns, int64_t rows, int64_t parts);

/* The second stage: `partials` is [output][part][column]; `outputs` are tensors of the op, of which
 * absent ones have no partial sums. Adds its share to plan->error.rows_depth. */
kf_step *kf_column_totals(kf_plan *plan, const char *entry, const int *outputs, int count,
                          kf_ref partials, int64_t parts);

#endif
