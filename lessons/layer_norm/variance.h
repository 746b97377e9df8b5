/* The variance of n values in f32 by three ways, and in double. All three add as a kernel does:
 * many partial results side by side, which are then joined in a tree.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_LESSON_VARIANCE_H
#define KF_LESSON_VARIANCE_H

enum { KF_VARIANCE_LANES = 256 }; /* partial results: the threads of one group */

typedef struct kf_variances {
    float two_passes; /* the mean first, then the squares about it */
    float welford;    /* running mean and squares (Welford 1962), joined as Chan et al. (1979) do */
    float moments;    /* E[x^2] - mean^2: one pass, no division before the end */
    double exact;     /* two passes in double over the same f32 values */
} kf_variances;

kf_variances kf_variances_of(const float *x, int n);
#endif
