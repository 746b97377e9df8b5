/* Layer norm and RMS norm, alone and behind a residual addition: their plans and their reference.
 * The kernels are common/rows_norm and common/rows_norm_steps of both languages.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NORM_H
#define KF_NORM_H

#include "row_split.h"

/* Entries of the op's kernel texts; those of the unfused steps stand in `steps`. */
typedef struct kf_norm_entries {
    const char *fused, *online, *cluster, *split, *cpu;
    const char *add_source, *add, *add_cpu; /* NULL without a residual */
    const char *steps;                      /* source of the rest */
    const char *row_mean, *subtract;        /* NULL for RMS norm */
    const char *row_rstd, *scale, *affine;
    const char *row_mean_cpu, *subtract_cpu, *row_rstd_cpu, *scale_cpu, *affine_cpu;
} kf_norm_entries;

/* A problem of any of the ops, by the names in its table: "x residual weight bias y residual_out
 * mean rstd", attributes "eps offset". Indices into the op's table, -1 where it has no such tensor.
 */
typedef struct kf_norm {
    int x, residual, weight, bias, y, residual_out, mean, rstd;
    bool centred;
    double eps, offset;
} kf_norm;
kf_norm kf_norm_of(const kf_problem *problem);
/* Is this tensor, an index or -1, there? */
bool kf_norm_has(const kf_problem *problem, int tensor);

void kf_norm_unfused(kf_plan *plan, const kf_norm_entries *entries);
void kf_norm_fused(kf_plan *plan, const kf_norm_entries *entries);
void kf_norm_cluster(kf_plan *plan, const kf_norm_entries *entries);
void kf_norm_split(kf_plan *plan, const kf_norm_entries *entries);
void kf_norm_cpu(kf_plan *plan, const kf_norm_entries *entries);

/* kf_variant.defaults */
void kf_norm_defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config);
void kf_norm_defaults_split(const kf_problem *problem, const kf_target *target, kf_config *config);

/* kf_op.derive: rows, and eps >= 0. */
kf_status kf_norm_derive(kf_problem *problem);
/* kf_op.reference */
kf_status kf_norm_reference(const kf_problem *problem, const kf_error_model *error,
                            const void *const *inputs, int output, int64_t first, int64_t count,
                            double *value, double *bound);

#endif
