/* The lines that unfused softmax, log softmax and cross entropy begin with, each a launch of
 * kernels/softmax_unfused. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_SOFTMAX_STEPS_H
#define KF_SOFTMAX_STEPS_H

#include "row_shape.h"

typedef struct kf_softmax_parts { /* scratch, in the order of the entries' parameters */
    kf_ref row_max, shifted, exponentials, row_sum;
} kf_softmax_parts;

/* Row max, subtract, exp, row sum of tensor `x`. 6 M N s + 12 M bytes. */
kf_softmax_parts kf_softmax_steps(kf_plan *plan, int x);
/* One more step of unfused row entries, as these are built. */
kf_step *kf_softmax_step(kf_plan *plan, const char *source, const char *entry, kf_grid grid,
                         kf_work work, const kf_use *uses, int count);

#endif
