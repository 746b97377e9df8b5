/* Softmax of one row in double, with the error that a kernel may make. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_SOFTMAX_REFERENCE_H
#define KF_SOFTMAX_REFERENCE_H

#include "../../core/op.h"

typedef struct kf_softmax_row {
    const void *x; /* as stored */
    kf_dtype dtype;
    int64_t start, cols; /* elements */
} kf_softmax_row;

typedef struct kf_softmax_sums { /* of a row */
    double max, sum;             /* sum of exp(x - max) */
    double distance;             /* sum p_j |x_j - max| */
    double stored;               /* relative error of the sum from 16-bit intermediates */
    bool nan; /* NaN or +inf among the elements, or nothing but -inf: the rest says nothing */
} kf_softmax_sums;
void kf_softmax_sum(const kf_softmax_row *row, kf_dtype intermediate, kf_softmax_sums *sums);

/* Error of log sum, and of max - value, as they are made for log softmax and cross entropy
 * (common/cross_entropy.c). */
double kf_softmax_log_error(const kf_softmax_sums *sums, const kf_error_model *error);
double kf_softmax_away_error(const kf_softmax_sums *sums, const kf_error_model *error,
                             double value);

/* Columns first .. first+count-1. With m the row's maximum, p its softmax, u = 2^-24 and d the
 * depth:
 *
 *     |y| u (k |x_i - m| + k sum p_j |x_j - m| + 17 + d + 8 rescales)      k = 2 for exp as exp2,
 * else 1
 *
 * plus what storing x - m and the exponentials adds when they are stored in 16 bits, plus the
 * rounding of y. NaN for a row with NaN or +inf, and for one of -inf alone. */
void kf_softmax_reference(const kf_softmax_row *row, const kf_error_model *error, int64_t first,
                          int64_t count, double *value, double *bound);

#endif
