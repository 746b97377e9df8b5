/* Cross entropy: the problem by its names, and its reference. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KF_CROSS_ENTROPY_H
#define KF_CROSS_ENTROPY_H

#include "rows.h"

enum { KF_CE_LOGITS, KF_CE_TARGET, KF_CE_LOSS, KF_CE_DLOGITS };
enum { KF_CE_IGNORE_INDEX, KF_CE_LABEL_SMOOTHING, KF_CE_Z_LOSS, KF_CE_REDUCTION };

typedef struct kf_cross_entropy {
    int64_t ignore_index;
    double smoothing, z_loss;
    bool mean, gradient;
} kf_cross_entropy;
kf_cross_entropy kf_cross_entropy_of(const kf_problem *problem);

/* kf_op.derive: rows, and what the attributes may be. */
kf_status kf_cross_entropy_derive(kf_problem *problem);
/* kf_op.reference */
kf_status kf_cross_entropy_reference(const kf_problem *problem, const kf_error_model *error,
                                     const void *const *inputs, int output, int64_t first,
                                     int64_t count, double *value, double *bound);

#endif
