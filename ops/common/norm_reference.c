/* Norms of a row in double, with the error that a kernel may make (testing.md 2.2, 2.3). With n the
 * width, u = 2^-24, d the depth of the sum, m the mean, r = 1 / sqrt(var + eps), z = (x - m) r w:
 *
 *     em = (d + 1) u mean|x|                              error of the mean
 *     layer norm   |w| r (u |x - m| + em) + |z| (((d + 5) u + (em r)^2) / 2 + 8 u) + u |y|
 *       joined from parts: 2 em in the first term,
 *       and + |z| u k (2 + d / 2), k = sqrt(var + m^2) / sigma
 *     RMS norm     |z| u ((d + 3) / 2 + 6) + u |y|
 *     mean         em
 *     rstd         r times the factor of |z|
 *
 * and, where x - m and z are stored in 16 bits on the way, their rounding: u_s each, which the
 * squares of the stored x - m carry into r once more. SPDX-License-Identifier: Apache-2.0 */
#include "norm.h"
#include "../../core/backend.h"
#include <math.h>
#include <stdlib.h>

typedef struct row_moments {
    double mean, rstd;
    double mean_error, rstd_error; /* absolute; relative */
    double size;                   /* mean |x| */
} row_moments;

static const double U = 0x1p-24;

static bool stored_in_16(const kf_error_model *error)
{
    return error->intermediate != KF_NONE && error->intermediate != KF_F32;
}

/* The row as the norm sees it: with a residual the sum, in f32, rounded to storage. */
static void take_row(const kf_problem *p, const kf_norm *n, const void *const *inputs, int64_t row,
                     double *x)
{
    const int64_t cols = p->dim[KF_COLS];
    for (int64_t j = 0; j < cols; j++) {
        x[j] = kf_load(inputs[n->x], p->dtype, row * p->row_stride[n->x] + j);
        if (n->residual < 0)
            continue;
        uint32_t stored;
        x[j] += kf_load(inputs[n->residual], p->dtype, row * p->row_stride[n->residual] + j);
        kf_store(&stored, p->dtype, 0, (double)(float)x[j]);
        x[j] = kf_load(&stored, p->dtype, 0);
    }
}

static double mean_of(const double *x, int64_t cols, bool size)
{
    double sum = 0;
    for (int64_t j = 0; j < cols; j++)
        sum += size ? fabs(x[j]) : x[j];
    return sum / (double)cols;
}

static row_moments moments_of(const double *x, int64_t cols, const kf_norm *n,
                              const kf_error_model *error)
{
    row_moments m = {.size = mean_of(x, cols, true)};
    const double d = (double)error->depth;
    double squares = 0;
    if (n->centred)
        m.mean = mean_of(x, cols, false);
    for (int64_t j = 0; j < cols; j++)
        squares += (x[j] - m.mean) * (x[j] - m.mean);
    const double var = squares / (double)cols;
    m.rstd = 1 / sqrt(var + n->eps);
    if (!n->centred) {
        m.rstd_error = U * ((d + 3) / 2 + 6);
        return m;
    }
    m.mean_error = (d + 1) * U * m.size;
    const double shift = m.mean_error * m.rstd;
    m.rstd_error = ((d + 5) * U + shift * shift) / 2 + 8 * U;
    if (error->rescales) /* joined from parts: Chan's terms about means that are themselves rounded
                          */
        m.rstd_error += U * sqrt(var + m.mean * m.mean) * m.rstd * (2 + d / 2);
    if (stored_in_16(error)) { /* squares of what was stored */
        const double u = kf_dtype_roundoff(error->intermediate);
        m.rstd_error += u * (1 + u) + m.rstd * kf_dtype_floor(error->intermediate);
    }
    return m;
}

/* The normalised value before its weight, and the error that it carries. */
static double normal_of(double x, const row_moments *m, const kf_norm *n,
                        const kf_error_model *error, double *bound)
{
    const double away = x - m->mean, normal = away * m->rstd;
    const double centre =
        n->centred ? U * fabs(away) + (error->rescales ? 2 : 1) * m->mean_error : 0;
    *bound = m->rstd * centre + fabs(normal) * m->rstd_error;
    if (stored_in_16(error)) {
        const double u = kf_dtype_roundoff(error->intermediate),
                     f = kf_dtype_floor(error->intermediate);
        *bound += fabs(normal) * u * (n->centred ? 2 : 1) * (1 + u); /* x - m and z */
        *bound += f * (1 + (n->centred ? m->rstd : 0));
        *bound += fabs(normal) * m->rstd_error * u;
    }
    return normal;
}

/* One result and the error before it is stored; negative: anything may come. */
static void element(double x, const row_moments *m, const kf_norm *n, const kf_error_model *error,
                    double weight, double bias, double *value, double *bound)
{
    double carried;
    const double normal = normal_of(x, m, n, error, &carried);
    *value = normal * weight + bias;
    *bound = fabs(weight) * carried + U * fabs(*value);
    if (!isfinite(*value)) /* a normalised value that may be 0 times infinity: either sign or NaN */
        *bound = isinf(weight) && fabs(normal) < carried ? -1 : 0;
}

static void result_row(const kf_problem *p, const kf_norm *n, const kf_error_model *error,
                       const void *const *inputs, const double *x, int64_t first, int64_t count,
                       double *value, double *bound)
{
    const row_moments m = moments_of(x, p->dim[KF_COLS], n, error);
    const bool weighted = n->weight >= 0 && p->tensor[n->weight].dtype;
    const bool biased = n->bias >= 0 && p->tensor[n->bias].dtype;
    for (int64_t i = 0; i < count; i++) {
        const double w = weighted ? n->offset + kf_load(inputs[n->weight], p->dtype, first + i) : 1;
        const double b = biased ? kf_load(inputs[n->bias], p->dtype, first + i) : 0;
        element(x[first + i], &m, n, error, w, b, &value[i], &bound[i]);
        if (isfinite(value[i]))
            bound[i] += kf_dtype_roundoff(p->dtype) * fabs(value[i]) + kf_dtype_floor(p->dtype);
    }
}

/* Columns of x + residual as they are stored. */
static void sum_row(const kf_problem *p, const kf_norm *n, const void *const *inputs, int64_t row,
                    int64_t first, int64_t count, double *value, double *bound)
{
    for (int64_t i = 0; i < count; i++) {
        const double x = kf_load(inputs[n->x], p->dtype, row * p->row_stride[n->x] + first + i),
                     r = kf_load(inputs[n->residual], p->dtype,
                                 row * p->row_stride[n->residual] + first + i);
        value[i] = x + r;
        bound[i] = isfinite(value[i]) ? (U + kf_dtype_roundoff(p->dtype)) * fabs(value[i]) +
                                            kf_dtype_floor(p->dtype)
                                      : 0;
    }
}

static void statistic(const kf_problem *p, const kf_norm *n, const kf_error_model *error,
                      const double *x, bool mean, double *value, double *bound)
{
    const row_moments m = moments_of(x, p->dim[KF_COLS], n, error);
    *value = mean ? m.mean : m.rstd;
    *bound = mean ? m.mean_error : m.rstd * m.rstd_error;
    *bound = isfinite(*value) ? *bound + U * fabs(*value) + kf_dtype_floor(KF_F32) : 0;
}

kf_status kf_norm_reference(const kf_problem *p, const kf_error_model *error,
                            const void *const *inputs, int output, int64_t first, int64_t count,
                            double *value, double *bound)
{
    const kf_norm n = kf_norm_of(p);
    const bool rows_only = output == n.mean || output == n.rstd;
    const int64_t cols = p->dim[KF_COLS], width = rows_only ? 1 : cols;
    double *x = malloc((size_t)cols * sizeof *x);
    if (!x)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for a row of %lld", (long long)cols);
    for (int64_t done = 0; done < count;) {
        const int64_t row = (first + done) / width, column = (first + done) % width;
        const int64_t part = kf_at_most(width - column, count - done);
        if (output == n.residual_out) {
            sum_row(p, &n, inputs, row, column, part, value + done, bound + done);
        } else {
            take_row(p, &n, inputs, row, x);
            if (rows_only)
                statistic(p, &n, error, x, output == n.mean, value + done, bound + done);
            else
                result_row(p, &n, error, inputs, x, column, part, value + done, bound + done);
        }
        done += part;
    }
    free(x);
    return KF_OK;
}
