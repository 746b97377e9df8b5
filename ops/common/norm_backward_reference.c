/* Backward norms in double, each value with the error that a kernel may make: running error
 * analysis, operation by operation as the kernels do them (common/approx.h), and for sums the bound
 * of testing.md 2.2: what the terms bring with them, and d u times the sum of their magnitudes for
 * a reduction of depth d. Sums over a row take the plan's depth, sums over rows its rows_depth,
 * which counts both stages. SPDX-License-Identifier: Apache-2.0 */
#include "norm_backward.h"
#include "approx.h"
#include "../../core/backend.h"
#include <math.h>
#include <stdlib.h>

/* ---- elements ----------------------------------------------------------------------------------
 */

typedef struct source { /* what the elements come from */
    const kf_problem *problem;
    const kf_error_model *error;
    const void *const *inputs;
    kf_norm_backward n;
} source;

static kf_approx matrix(const source *s, int tensor, int64_t row, int64_t column)
{
    return kf_approx_exact(kf_load(s->inputs[tensor], s->problem->dtype,
                                   row * s->problem->row_stride[tensor] + column));
}

static kf_approx vector(const source *s, int tensor, int64_t index, kf_dtype dtype)
{
    return kf_approx_exact(kf_load(s->inputs[tensor], dtype, index));
}

static kf_approx xhat_of(const source *s, int64_t row, int64_t column)
{
    kf_approx x = matrix(s, s->n.x, row, column);
    if (s->n.centred)
        x = kf_approx_sub(x, vector(s, s->n.mean, row, KF_F32));
    return kf_approx_stored(kf_approx_mul(x, vector(s, s->n.rstd, row, KF_F32)),
                            s->error->intermediate);
}

static kf_approx g_of(const source *s, int64_t row, int64_t column)
{
    const kf_approx grad = matrix(s, s->n.grad_y, row, column);
    if (!s->n.weighted)
        return grad;
    const kf_approx weight = vector(s, s->n.weight, column, s->problem->dtype);
    return kf_approx_stored(
        kf_approx_mul(grad, kf_approx_add(weight, kf_approx_exact((float)s->n.offset))),
        s->error->intermediate);
}

/* ---- outputs -----------------------------------------------------------------------------------
 */

/* Divided by the number of columns, or multiplied by its rounded inverse: two roundings. */
static kf_approx mean_of(const kf_total *t, const source *s)
{
    const double share = 1.0 / (double)s->problem->dim[KF_COLS];
    const kf_approx inverse = {.value = share, .error = share * 0x1p-24};
    return kf_approx_mul(kf_total_of(t, s->error->depth), inverse);
}

static void grad_x_row(const source *s, int64_t row, int64_t first, int64_t count, double *value,
                       double *bound)
{
    const int64_t cols = s->problem->dim[KF_COLS];
    const kf_approx rstd = vector(s, s->n.rstd, row, KF_F32);
    kf_total g_total = {0}, dot_total = {0};
    for (int64_t j = 0; j < cols; j++) {
        const kf_approx g = g_of(s, row, j);
        kf_total_add(&g_total, g);
        kf_total_add(&dot_total, kf_approx_mul(g, xhat_of(s, row, j)));
    }
    const kf_approx mean = mean_of(&g_total, s), dot = mean_of(&dot_total, s);
    for (int64_t i = 0; i < count; i++) {
        kf_approx g = g_of(s, row, first + i);
        if (s->n.centred)
            g = kf_approx_sub(g, mean);
        g = kf_approx_sub(g, kf_approx_mul(xhat_of(s, row, first + i), dot));
        kf_approx_result(kf_approx_mul(g, rstd), s->problem->dtype, &value[i], &bound[i]);
    }
}

/* Columns of grad_weight, or of grad_bias. */
static void columns(const source *s, bool bias, kf_total *sum, int64_t first, int64_t count,
                    double *value, double *bound)
{
    for (int64_t i = 0; i < count; i++)
        sum[i] = (kf_total){0};
    for (int64_t row = 0; row < s->problem->dim[KF_ROWS]; row++)
        for (int64_t i = 0; i < count; i++) {
            const kf_approx grad = matrix(s, s->n.grad_y, row, first + i);
            kf_total_add(&sum[i],
                         bias ? grad
                              : kf_approx_stored(kf_approx_mul(grad, xhat_of(s, row, first + i)),
                                                 s->error->intermediate));
        }
    for (int64_t i = 0; i < count; i++)
        kf_approx_result(kf_total_of(&sum[i], s->error->rows_depth), s->problem->dtype, &value[i],
                         &bound[i]);
}

kf_status kf_norm_backward_reference(const kf_problem *p, const kf_error_model *error,
                                     const void *const *inputs, int output, int64_t first,
                                     int64_t count, double *value, double *bound)
{
    const source s = {p, error, inputs, kf_norm_backward_of(p)};
    const int64_t cols = p->dim[KF_COLS];
    if (output == s.n.grad_x) {
        for (int64_t done = 0, part; done < count; done += part) {
            part = kf_at_most(cols - (first + done) % cols, count - done);
            grad_x_row(&s, (first + done) / cols, (first + done) % cols, part, value + done,
                       bound + done);
        }
        return KF_OK;
    }
    kf_total *sum = malloc((size_t)kf_at_least(count, 1) * sizeof *sum);
    if (!sum)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld sums", (long long)count);
    columns(&s, output == s.n.grad_bias, sum, first, count, value, bound);
    free(sum);
    return KF_OK;
}
