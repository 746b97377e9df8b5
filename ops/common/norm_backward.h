/* Backward passes of layer norm and RMS norm: their plans and their reference. The kernels are
 * common/rows_norm_backward and common/rows_norm_backward_steps of both languages.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NORM_BACKWARD_H
#define KF_NORM_BACKWARD_H

#include "columns.h"

/* The table of knobs. Those that ops/common/row_shape reads have their places there: it serves
 * `unfused` and the checks. */
enum {
    KF_BACK_BLOCK = KF_ROW_BLOCK,
    KF_BACK_THREADS = KF_ROW_THREADS,
    KF_BACK_STAGES = 2,
    KF_BACK_GROUPS = KF_ROW_LEAST_GROUPS,
    KF_BACK_ONLINE = KF_ROW_ONLINE,
    KF_BACK_ITEM_ROWS = 5,
    KF_BACK_KNOBS
};
extern const kf_knob_decl kf_norm_backward_knobs[KF_BACK_KNOBS];

/* A problem of either op, by the names in its table; -1 where it has no such tensor. */
typedef struct kf_norm_backward {
    int grad_y, x, weight, mean, rstd, grad_x, grad_weight, grad_bias;
    bool centred;                /* layer norm */
    bool weighted;               /* the weight is there, */
    bool weight_grad, bias_grad; /* and so are these, */
    int outputs;                 /* so many of them */
    double offset;
} kf_norm_backward;
kf_norm_backward kf_norm_backward_of(const kf_problem *problem);

/* The launch that the knobs describe for rows on chip. */
typedef struct kf_norm_backward_shape {
    kf_columns columns;
    int64_t groups;
    bool keep; /* KEEP of the texts */
} kf_norm_backward_shape;
kf_norm_backward_shape kf_norm_backward_shape_of(const kf_problem *problem, const kf_config *config,
                                                 const kf_target *target);

/* Entries of the op's kernel texts; those from `normal` on stand in `steps`. */
typedef struct kf_norm_backward_entries {
    const char *fused, *online, *sums, *columns, *cpu; /* sums: over the rows, for `online` */
    const char *steps;
    const char *normal, *product, *column_sums, *scaled, *row_dot, *grad_x;
    const char *row_mean; /* NULL for RMS norm */
} kf_norm_backward_entries;

void kf_norm_backward_unfused(kf_plan *plan, const kf_norm_backward_entries *entries);
void kf_norm_backward_fused(kf_plan *plan, const kf_norm_backward_entries *entries);
void kf_norm_backward_cpu(kf_plan *plan, const kf_norm_backward_entries *entries);

/* kf_variant.defaults and .fits */
void kf_norm_backward_defaults_unfused(const kf_problem *problem, const kf_target *target,
                                       kf_config *config);
void kf_norm_backward_defaults_fused(const kf_problem *problem, const kf_target *target,
                                     kf_config *config);
void kf_norm_backward_defaults_cpu(const kf_problem *problem, const kf_target *target,
                                   kf_config *config);
kf_status kf_norm_backward_fits_fused(const kf_problem *problem, const kf_config *config,
                                      const kf_target *target);

/* Between the files of the plans: scratch for `parts` rows of partial sums of each output that is
 * wanted, and the launch that adds them up. */
kf_ref kf_norm_backward_partials(kf_plan *plan, const kf_norm_backward *n, int64_t parts);
void kf_norm_backward_totals(kf_plan *plan, const kf_norm_backward_entries *entries,
                             const kf_norm_backward *n, kf_ref partials, int64_t parts);

/* kf_op.derive */
kf_status kf_norm_backward_derive(kf_problem *problem);
/* kf_op.reference */
kf_status kf_norm_backward_reference(const kf_problem *problem, const kf_error_model *error,
                                     const void *const *inputs, int output, int64_t first,
                                     int64_t count, double *value, double *bound);

#endif
