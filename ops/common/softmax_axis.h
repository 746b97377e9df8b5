/* Softmax and log softmax along an axis that is not the last: M outer rows of N lines of K inner
 * elements, kf_problem.inner of them. Each of the M K columns is one softmax; its N elements lie a
 * stride apart, and nothing is transposed or copied. Traffic for elements of s bytes:
 *
 *     unfused        5 launches   as along the last axis, of M K rows    8 M N K s + 16 M K
 *     fused          1 launch     columns in registers                   2 M N K s
 *                                 longer ones (ONLINE=1): read twice     3 M N K s
 *     fused_cpu      1 launch     eight columns per item, three walks
 *
 * Neighbouring threads take neighbouring columns, KF_VEC each where all lines of all tensors are
 * aligned, else one; THREADS_PER_ROW threads share a column, BLOCK / THREADS_PER_ROW columns or
 * vectors of them a group (kernels/common/rows_axis). Where nothing lies behind the axis, all of
 * these are those of row_shape.h. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_SOFTMAX_AXIS_H
#define KF_SOFTMAX_AXIS_H

#include "row_shape.h"

extern const kf_attribute_decl kf_softmax_attributes[1]; /* axis */

/* Does the problem need the plans below? */
bool kf_softmax_across(const kf_problem *problem);
/* Of tensors 0 (x) and 1 (y); `log` for log softmax. */
void kf_softmax_axis_unfused(kf_plan *plan, bool log);
void kf_softmax_axis_fused(kf_plan *plan, bool log);
void kf_softmax_axis_cpu(kf_plan *plan, bool log);

/* kf_variant.defaults, kf_variant.fits, kf_op.choose */
void kf_softmax_defaults_unfused(const kf_problem *problem, const kf_target *target,
                                 kf_config *config);
void kf_softmax_defaults_fused(const kf_problem *problem, const kf_target *target,
                               kf_config *config);
kf_status kf_softmax_fits_unfused(const kf_problem *problem, const kf_config *config,
                                  const kf_target *target);
kf_status kf_softmax_fits_fused(const kf_problem *problem, const kf_config *config,
                                const kf_target *target);
kf_status kf_softmax_fits_cluster(const kf_problem *problem, const kf_config *config,
                                  const kf_target *target);
kf_status kf_softmax_fits_split(const kf_problem *problem, const kf_config *config,
                                const kf_target *target);
const char *kf_softmax_choose(const kf_problem *problem, const kf_target *target);

#endif
