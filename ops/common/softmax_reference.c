/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax_reference.h"
#include <math.h>

/* Relative error of one exponential when x - m, and then the exponential, are rounded to storage.
 * The first is an error of the argument, not small in 16 bits: exp(+-u |x - m|). */
static double stored_error(double distance, kf_dtype storage)
{
    if (storage == KF_NONE || storage == KF_F32)
        return 0;
    const double u = kf_dtype_roundoff(storage);
    return expm1(u * distance) * (1 + u) + u;
}

void kf_softmax_sum(const kf_softmax_row *row, kf_dtype storage, kf_softmax_sums *sums)
{
    kf_softmax_sums s = {.max = -INFINITY};
    for (int64_t j = 0; j < row->cols; j++) {
        const double x = kf_load(row->x, row->dtype, row->start + j);
        s.nan |= isnan(x);
        s.max = x > s.max ? x : s.max;
    }
    s.nan |= isinf(s.max);
    *sums = s;
    if (s.nan)
        return;
    for (int64_t j = 0; j < row->cols; j++) {
        const double x = kf_load(row->x, row->dtype, row->start + j), e = exp(x - s.max);
        if (e == 0)
            continue; /* -inf too: its distance is infinite and counts for nothing */
        s.sum += e;
        s.distance += e * (s.max - x);
        s.stored += e * stored_error(s.max - x, storage);
    }
    s.distance /= s.sum;
    s.stored /= s.sum;
    if (storage != KF_NONE && storage != KF_F32) /* exponentials that become subnormal or 0 */
        s.stored += (double)row->cols * kf_dtype_floor(storage) / s.sum;
    *sums = s;
}

void kf_softmax_reference(const kf_softmax_row *row, const kf_error_model *error, int64_t first,
                          int64_t count, double *value, double *bound)
{
    kf_softmax_sums s;
    kf_softmax_sum(row, error->intermediate, &s);
    const double u = 0x1p-24, twice = error->exp2 ? 2 : 1;
    const double steps = 17 + (double)error->depth + 8 * (double)error->rescales;
    const bool stored = error->intermediate != KF_NONE && error->intermediate != KF_F32;
    for (int64_t i = 0; i < count; i++) {
        const double x = kf_load(row->x, row->dtype, row->start + first + i);
        const double distance = s.max - x, y = s.nan ? NAN : exp(-distance) / s.sum;
        double own = 0; /* of -inf and of what underflows in double: exactly 0 */
        if (y > 0) {
            const double extra = stored_error(distance, error->intermediate);
            const double left = 1 - s.stored; /* how small the computed sum may be */
            own = y * u * (twice * (distance + s.distance) + steps);
            own += left > 0 ? y * ((1 + extra) / left - 1) : INFINITY;
            own += stored ? kf_dtype_floor(error->intermediate) / s.sum * 2 : 0;
        }
        value[i] = y;
        bound[i] = s.nan ? 0 : own + kf_dtype_roundoff(row->dtype) * y + kf_dtype_floor(row->dtype);
    }
}

double kf_softmax_log_error(const kf_softmax_sums *s, const kf_error_model *error)
{
    const double u = 0x1p-24, half_log_2 = 0.35;
    const double steps = 7 + (double)error->depth + 8 * (double)error->rescales;
    const double relative = u * ((error->exp2 ? 2 : 1) * s->distance + steps) + s->stored;
    return (relative < 1 ? -log1p(-relative) : INFINITY) + 6 * u * (fabs(log(s->sum)) + half_log_2);
}

double kf_softmax_away_error(const kf_softmax_sums *s, const kf_error_model *error, double value)
{
    const double u = 0x1p-24, away = fabs(s->max - value);
    const bool stored = error->intermediate != KF_NONE && error->intermediate != KF_F32;
    return u * (2 * away + 1) + (stored ? kf_dtype_roundoff(error->intermediate) * away +
                                              kf_dtype_floor(error->intermediate)
                                        : 0);
}
