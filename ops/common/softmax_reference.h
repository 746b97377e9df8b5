/* Softmax of one row in double, with the error that a kernel may make. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_SOFTMAX_REFERENCE_H
#define KF_SOFTMAX_REFERENCE_H

#include "../../core/op.h"

typedef struct kf_softmax_row {
    const void *x; /* as stored */
    kf_dtype dtype;
    int64_t start, cols; /* elements */
    int64_t step;        /* from one to the next; 0 = they are neighbours */
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

/* One column of a row whose sums are known. With m the row's maximum, p its softmax, u = 2^-24 and
 * d the depth:
 *
 *     |y| u (k |x_i - m| + k sum p_j |x_j - m| + 17 + d + 8 rescales)      k = 2 for exp as exp2,
 * else 1
 *
 * plus what storing x - m and the exponentials adds when they are stored in 16 bits, plus the
 * rounding of y. NaN for a row with NaN or +inf, and for one of -inf alone. */
void kf_softmax_element(const kf_softmax_row *row, const kf_softmax_sums *sums,
                        const kf_error_model *error, int64_t column, double *value, double *bound);

/* ... and columns first .. first+count-1 of a row. */
void kf_softmax_reference(const kf_softmax_row *row, const kf_error_model *error, int64_t first,
                          int64_t count, double *value, double *bound);

/* The reference of softmax, or log softmax, along any axis of `tensor`, as kf_op.reference. */
typedef struct kf_softmax_range {
    const kf_problem *problem;
    int tensor;
    const void *x;
    bool log;
} kf_softmax_range;
void kf_softmax_range_reference(const kf_softmax_range *range, const kf_error_model *error,
                                int64_t first, int64_t count, double *value, double *bound);

double kf_softmax_at(const kf_softmax_row *row, int64_t column);

#endif
