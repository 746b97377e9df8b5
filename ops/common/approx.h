/* Running error analysis for references of elementwise ops: a value in double with the most that a
 * computed one may be away from it. Each operation adds what its rounding and the errors of its
 * operands can do, so a reference reads as its formula and its bound follows from it (testing.md
 * 2.2, 2.4). u = 2^-24; results below 2^-126 may be flushed. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_APPROX_H
#define KF_APPROX_H

#include "../../core/op.h"

typedef struct kf_approx {
    double value, error; /* error is 0 where the value is infinite or NaN */
} kf_approx;             /* NaN with an infinite error: anything */

kf_approx kf_approx_exact(double value);
kf_approx kf_approx_add(kf_approx a, kf_approx b); /* the errors + u |a + b| */
kf_approx kf_approx_sub(kf_approx a, kf_approx b);
/* To second order, + u |a b| + 2^-126. Infinity times what may be 0 is anything. */
kf_approx kf_approx_mul(kf_approx a, kf_approx b);
/* Through memory in that dtype; KF_NONE and KF_F32: as it is. What overflows it is infinite from
 * there on. */
kf_approx kf_approx_stored(kf_approx a, kf_dtype dtype);
/* What a kernel that stores `a` in an output may give: value and bound of kf_op.reference. */
void kf_approx_result(kf_approx a, kf_dtype dtype, double *value, double *bound);

/* ---- sums of many terms, in any order -------------------------------------------------------- */

typedef struct kf_total {
    double value, size, error; /* of the terms; size: of their magnitudes */
    bool anything;             /* a term of which nothing is known */
} kf_total;                    /* all zero: no term */

void kf_total_add(kf_total *total, kf_approx term);
/* What the terms bring with them, and `depth` u times the sum of their magnitudes: no term goes
 * through more than `depth` additions. */
kf_approx kf_total_of(const kf_total *total, int64_t depth);

/* ---- activations: kernels/common/units and wide_units ---------------------------------------- */

/* `exp2`: of kf_error_model, exponentials of rounded arguments. */
kf_approx kf_approx_sigmoid(kf_approx x, bool exp2);
kf_approx kf_approx_silu(kf_approx x, bool exp2);
kf_approx kf_approx_gelu_erf(kf_approx x);
kf_approx kf_approx_gelu_tanh(kf_approx x, bool exp2);
/* Their derivatives; 0 and 1 at the infinities, the limits. */
kf_approx kf_approx_gelu_slope_erf(kf_approx x, bool exp2);
kf_approx kf_approx_gelu_slope_tanh(kf_approx x, bool exp2);

#endif
