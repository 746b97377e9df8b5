/* What ops with gelu share: the attribute `approximate`, what an element costs, its reference.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_GELU_H
#define KF_GELU_H

#include "approx.h"
#include "row_map.h"

/* One of an op's kf_attribute_decl. */
#define KF_GELU_APPROXIMATE                                                                        \
    {                                                                                              \
        .name = "approximate", .words = "none tanh",                                               \
        .help = "none = x Phi(x) by erf; tanh = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))" \
    }

typedef enum kf_gelu_form { KF_GELU_ERF, KF_GELU_TANH } kf_gelu_form;

/* KF_INVALID for a value that is no form. kf_derive_rows for ops whose attribute 0 it is. */
kf_status kf_gelu_derive_rows(kf_problem *problem);
/* Work per element beside `flops`: 1 exp2 and 1 division. */
kf_work kf_gelu_work(const kf_row_map *map, kf_gelu_form form, int64_t flops);
/* The same eight at a time: exponentials are arithmetic, and so is erf; one division. */
kf_work kf_gelu_work_wide(const kf_row_map *map, kf_gelu_form form, int64_t flops);
/* Of a step with gelu: APPROXIMATE of the texts. */
void kf_gelu_define(kf_step *step, kf_gelu_form form);
/* Of the derivative: operations per element, eight at a time exponentials among them; special
 * functions per element are 2, exp2 and a division, eight at a time one division. */
int64_t kf_gelu_slope_flops(kf_gelu_form form, bool wide);
enum { KF_GELU_SLOPE_SPECIALS = 2 };
kf_approx kf_gelu_slope_reference(kf_approx x, kf_gelu_form form, bool exp2);
kf_approx kf_gelu_reference(kf_approx x, kf_gelu_form form, bool exp2);

#endif
