/* Cross entropy of a row in double, with the error that a kernel may make. With m the row's
 * maximum, p its softmax, S = sum exp(x - m), u = 2^-24, d the depth of the sum, k = 2 for exp as
 * exp2, else 1, each of these absolute (testing.md 2.2 to 2.4):
 *
 *     e_log = e_S + 6 u (|log S| + 0.35),  e_S = u (k sum p_j |x_j - m| + 7 + d + 8 rescales)
 *             S may be taken below a whole power of two next to exp m: that is the 0.35, and one of
 *             the 7
 *     e(v)  = u (2 |m - v| + 1)          of m - v, taken off in two steps; of v = 0 it is m's
 *     e_lse = e_log + e(0) + 2 u |lse|
 *     loss    e_log + (1 - s) e(x_t) + s (e(mean) + (d + 8) u mean|x|)
 *             + |z| (2 |lse| e_lse + e_lse^2) + 6 u (|log S| + (1 - s)|m - x_t| + s |m - mean|
 *             + |z| lse^2)               products, sums, and attributes rounded to f32
 *     dlogits g (e_p |f| + p (2 |z| e_lse + 4 u |f|) + 16 u (|p f| + s / N + (1 - s) [t])) +
 * rounding f = 1 + 2 z lse, e_p that of softmax; the 16 are the most roundings of any term, 6 of
 *             them those of g = 1 / rows kept
 *     mean    the mean of the losses' bounds, and u (rows' depth + 6) mean|loss|
 *
 * Where x - m and the exponentials are stored in 16 bits, their rounding is added as in softmax,
 * and the mean is that of x - m as stored. SPDX-License-Identifier: Apache-2.0 */
#include "cross_entropy.h"
#include "softmax_reference.h"
#include "../../core/backend.h"
#include <float.h>
#include <math.h>
#include <string.h>

static const double U = 0x1p-24;

kf_cross_entropy kf_cross_entropy_of(const kf_problem *p)
{
    return (kf_cross_entropy){.ignore_index = p->attribute[KF_CE_IGNORE_INDEX].i,
                              .smoothing = p->attribute[KF_CE_LABEL_SMOOTHING].f,
                              .z_loss = p->attribute[KF_CE_Z_LOSS].f,
                              .mean = p->attribute[KF_CE_REDUCTION].i != 0,
                              .gradient = p->tensor[KF_CE_DLOGITS].dtype != KF_NONE};
}

kf_status kf_cross_entropy_derive(kf_problem *problem)
{
    const kf_cross_entropy c = kf_cross_entropy_of(problem);
    const int64_t reduction = problem->attribute[KF_CE_REDUCTION].i;
    if (!(c.smoothing >= 0 && c.smoothing <= 1))
        return kf_fail(KF_INVALID, "cross_entropy: label_smoothing is between 0 and 1, not %g",
                       c.smoothing);
    if (!isfinite(c.z_loss))
        return kf_fail(KF_INVALID, "cross_entropy: z_loss is a finite number, not %g", c.z_loss);
    if (reduction < 0 || reduction > 1)
        return kf_fail(KF_INVALID, "cross_entropy: reduction is none (0) or mean (1), not %lld",
                       (long long)reduction);
    const kf_status status = kf_derive_rows(problem);
    return status != KF_OK || problem->dim[1] > 0 || problem->dim[0] == 0
               ? status
               : kf_fail(KF_UNSUPPORTED, "cross_entropy: rows of no class have no loss");
}

/* ---- one row -------------------------------------------------------------------------------- */

typedef struct row_view {
    const kf_problem *problem;
    const kf_error_model *error;
    kf_cross_entropy op;
    kf_softmax_row row;
    kf_softmax_sums sums;
    double mean, mean_error;
    double log_sum, log_error, lse, lse_error; /* log S; m + log S */
    int64_t target;
    bool ignored, invalid;
} row_view;

static int64_t target_of(const void *target, int64_t row)
{
    int64_t index;
    memcpy(&index, (const char *)target + row * (int64_t)sizeof index, sizeof index);
    return index;
}

static void take_mean(row_view *v)
{
    const double n = (double)v->row.cols, d = (double)v->error->depth;
    const bool shifted = v->error->intermediate != KF_NONE; /* of x - m, which was stored */
    const bool narrow = shifted && v->error->intermediate != KF_F32;
    double sum = 0, size = 0;
    for (int64_t j = 0; j < v->row.cols; j++) {
        const double x = kf_load(v->row.x, v->row.dtype, v->row.start + j);
        sum += x;
        size += fabs(shifted ? v->sums.max - x : x);
    }
    v->mean = sum / n;
    v->mean_error = (d + 8) * U * size / n;
    if (narrow)
        v->mean_error += kf_dtype_roundoff(v->error->intermediate) * size / n +
                         kf_dtype_floor(v->error->intermediate);
}

static void take_row(row_view *v, const void *const *inputs, int64_t row)
{
    const kf_error_model *e = v->error;
    const int64_t index = target_of(inputs[KF_CE_TARGET], row);
    v->row = (kf_softmax_row){.x = inputs[KF_CE_LOGITS],
                              .dtype = v->problem->dtype,
                              .start = row * v->problem->row_stride[KF_CE_LOGITS],
                              .cols = v->problem->dim[1]};
    v->ignored = index == v->op.ignore_index;
    v->invalid = !v->ignored && (index < 0 || index >= v->row.cols);
    v->target = v->ignored || v->invalid ? -1 : index;
    if (v->ignored || v->invalid)
        return;
    kf_softmax_sum(&v->row, e->intermediate, &v->sums);
    v->invalid = v->sums.nan;
    /* common/rows_lse: scaled by log2 e, such values are infinite */
    v->invalid |= e->exp2 && e->intermediate == KF_NONE && fabs(v->sums.max) >= 0.6931 * FLT_MAX;
    v->log_sum = log(v->sums.sum);
    v->log_error = kf_softmax_log_error(&v->sums, e);
    v->lse = v->sums.max + v->log_sum;
    v->lse_error = v->log_error + U * (2 * fabs(v->sums.max) + 1) + 2 * U * fabs(v->lse);
    if (v->op.smoothing != 0)
        take_mean(v);
}

static void loss_of_row(const row_view *v, double *value, double *bound)
{
    const double s = v->op.smoothing, z = v->op.z_loss;
    *bound = 0;
    *value = v->ignored ? 0 : NAN;
    if (v->ignored || v->invalid)
        return;
    const double x = kf_load(v->row.x, v->row.dtype, v->row.start + v->target);
    const double away = v->sums.max - x, mean_away = s != 0 ? v->sums.max - v->mean : 0;
    const double square = v->lse * v->lse;
    *value = v->log_sum + (s != 0 ? (1 - s) * away + s * mean_away : away) + z * square;
    if (!isfinite(*value))
        return;
    *bound = v->log_error + (1 - s) * kf_softmax_away_error(&v->sums, v->error, x);
    if (s != 0)
        *bound += s * (kf_softmax_away_error(&v->sums, v->error, v->mean) + v->mean_error);
    if (z != 0)
        *bound += fabs(z) * v->lse_error * (2 * fabs(v->lse) + v->lse_error);
    *bound += 6 * U * (fabs(v->log_sum) + (1 - s) * away + s * fabs(mean_away) + fabs(z) * square);
    *bound += U * fabs(*value) + kf_dtype_floor(KF_F32);
}

/* ---- outputs -------------------------------------------------------------------------------- */

static int64_t rows_kept(const row_view *v, const void *target)
{
    int64_t kept = 0;
    for (int64_t row = 0; row < v->problem->dim[0]; row++)
        kept += target_of(target, row) != v->op.ignore_index;
    return kept;
}

static void mean_loss(row_view *v, const void *const *inputs, double *value, double *bound)
{
    const double kept = (double)rows_kept(v, inputs[KF_CE_TARGET]);
    double sum = 0, size = 0, bounds = 0;
    for (int64_t row = 0; row < v->problem->dim[0]; row++) {
        double one, one_bound;
        take_row(v, inputs, row);
        loss_of_row(v, &one, &one_bound);
        sum += one;
        size += fabs(one);
        bounds += one_bound;
    }
    *value = sum / kept;
    *bound = isfinite(*value) ? (bounds + U * ((double)v->error->rows_depth + 6) * size) / kept +
                                    kf_dtype_floor(KF_F32)
                              : 0;
}

/* Columns first .. first+count-1 of the row's gradient, times `weight`. */
static void gradient_of_row(const row_view *v, double weight, int64_t first, int64_t count,
                            double *value, double *bound)
{
    const double s = v->op.smoothing, f = 1 + 2 * v->op.z_loss * v->lse;
    const double roundoff = kf_dtype_roundoff(v->row.dtype), least = kf_dtype_floor(v->row.dtype);
    const double slope = 2 * fabs(v->op.z_loss) * v->lse_error + 4 * U * fabs(f);
    if (!v->ignored && !v->invalid)
        kf_softmax_reference(&v->row, v->error, first, count, value, bound);
    for (int64_t i = 0; i < count; i++) {
        const double peak = first + i == v->target ? 1 - s : 0, spread = s / (double)v->row.cols;
        if (v->ignored || v->invalid) {
            value[i] = v->ignored ? 0 : NAN;
            bound[i] = 0;
            continue;
        }
        const double p = value[i], own = bound[i] - (roundoff * p + least);
        value[i] = weight * (p * f - spread - peak);
        bound[i] = weight * (own * fabs(f) + p * slope + 16 * U * (p * fabs(f) + spread + peak));
        bound[i] += roundoff * fabs(value[i]) + least;
    }
}

kf_status kf_cross_entropy_reference(const kf_problem *p, const kf_error_model *error,
                                     const void *const *inputs, int output, int64_t first,
                                     int64_t count, double *value, double *bound)
{
    row_view v = {.problem = p, .error = error, .op = kf_cross_entropy_of(p)};
    const bool loss = output == KF_CE_LOSS;
    const int64_t width = loss ? 1 : p->dim[1];
    if (loss && v.op.mean && count) {
        mean_loss(&v, inputs, value, bound);
        return KF_OK;
    }
    const double weight = v.op.mean ? 1 / (double)rows_kept(&v, inputs[KF_CE_TARGET]) : 1;
    for (int64_t done = 0; done < count;) {
        const int64_t row = (first + done) / width, column = (first + done) % width;
        const int64_t part = kf_at_most(width - column, count - done);
        take_row(&v, inputs, row);
        if (loss)
            loss_of_row(&v, value + done, bound + done);
        else
            gradient_of_row(&v, weight, column, part, value + done, bound + done);
        done += part;
    }
    return KF_OK;
}
