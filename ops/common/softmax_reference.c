/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax_reference.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Relative error of one exponential when x - m, and then the exponential, are rounded to storage.
 * The first is an error of the argument, not small in 16 bits: exp(+-u |x - m|). */
static double stored_error(double distance, kf_dtype storage)
{
    if (storage == KF_NONE || storage == KF_F32)
        return 0;
    const double u = kf_dtype_roundoff(storage);
    return expm1(u * distance) * (1 + u) + u;
}

double kf_softmax_at(const kf_softmax_row *row, int64_t column)
{
    return kf_load(row->x, row->dtype, row->start + column * (row->step ? row->step : 1));
}

void kf_softmax_sum(const kf_softmax_row *row, kf_dtype storage, kf_softmax_sums *sums)
{
    kf_softmax_sums s = {.max = -INFINITY};
    for (int64_t j = 0; j < row->cols; j++) {
        const double x = kf_softmax_at(row, j);
        s.nan |= isnan(x);
        s.max = x > s.max ? x : s.max;
    }
    s.nan |= isinf(s.max);
    *sums = s;
    if (s.nan)
        return;
    for (int64_t j = 0; j < row->cols; j++) {
        const double x = kf_softmax_at(row, j), e = exp(x - s.max);
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

void kf_softmax_element(const kf_softmax_row *row, const kf_softmax_sums *sums,
                        const kf_error_model *error, int64_t column, double *value, double *bound)
{
    const kf_softmax_sums s = *sums;
    const double u = 0x1p-24, twice = error->exp2 ? 2 : 1;
    const double steps = 17 + (double)error->depth + 8 * (double)error->rescales;
    const bool stored = error->intermediate != KF_NONE && error->intermediate != KF_F32;
    const double distance = s.max - kf_softmax_at(row, column),
                 y = s.nan ? NAN : exp(-distance) / s.sum;
    double own = 0; /* of -inf and of what underflows in double: exactly 0 */
    if (y > 0) {
        const double extra = stored_error(distance, error->intermediate);
        const double left = 1 - s.stored; /* how small the computed sum may be */
        own = y * u * (twice * (distance + s.distance) + steps);
        own += left > 0 ? y * ((1 + extra) / left - 1) : INFINITY;
        own += stored ? kf_dtype_floor(error->intermediate) / s.sum * 2 : 0;
    }
    *value = y;
    *bound = s.nan ? 0 : own + kf_dtype_roundoff(row->dtype) * y + kf_dtype_floor(row->dtype);
}

void kf_softmax_reference(const kf_softmax_row *row, const kf_error_model *error, int64_t first,
                          int64_t count, double *value, double *bound)
{
    kf_softmax_sums s;
    kf_softmax_sum(row, error->intermediate, &s);
    for (int64_t i = 0; i < count; i++)
        kf_softmax_element(row, &s, error, first + i, &value[i], &bound[i]);
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

/* ---- along any axis ------------------------------------------------------------------------ */

typedef struct log_sums { /* of a row */
    double log, error;    /* log sum, and what a kernel may be off by */
} log_sums;

/* The error of the logarithm, of the difference from the maximum, and of their difference
 * (testing.md 2.2; common/cross_entropy.c derives the first two). */
static void log_element(const kf_softmax_row *r, const kf_softmax_sums *s, const log_sums *l,
                        const kf_error_model *error, int64_t column, double *value, double *bound)
{
    const double x = kf_softmax_at(r, column);
    *value = s->nan ? NAN : (x - s->max) - l->log;
    *bound = isfinite(*value) ? l->error + kf_softmax_away_error(s, error, x) +
                                    (0x1p-24 + kf_dtype_roundoff(r->dtype)) * fabs(*value) +
                                    kf_dtype_floor(r->dtype)
                              : 0;
}

typedef struct span { /* elements lo .. hi-1 of a row [column][inner]; value[0] is element lo */
    int64_t lo, hi;
    double *value, *bound;
} span;

static void judge_column(const kf_softmax_range *range, const kf_softmax_row *r,
                         const kf_error_model *error, int64_t k, const span *s)
{
    const int64_t inner = range->problem->inner;
    const int64_t from = k >= s->lo ? 0 : (s->lo - k + inner - 1) / inner,
                  end = k >= s->hi ? 0 : (s->hi - k + inner - 1) / inner;
    kf_softmax_sums sums;
    log_sums l = {0};
    if (from >= end)
        return;
    kf_softmax_sum(r, error->intermediate, &sums);
    if (range->log && !sums.nan)
        l = (log_sums){log(sums.sum), kf_softmax_log_error(&sums, error)};
    for (int64_t c = from; c < end; c++) {
        const int64_t at = c * inner + k - s->lo;
        if (range->log)
            log_element(r, &sums, &l, error, c, &s->value[at], &s->bound[at]);
        else
            kf_softmax_element(r, &sums, error, c, &s->value[at], &s->bound[at]);
    }
}

/* Column k .. k+count-1 of the row one behind the other: what a cache brings together is used
 * together where lines are long. */
static void turn(const kf_softmax_row *r, int64_t k, int64_t count, char *turned)
{
    const size_t size = (size_t)kf_dtype_bytes(r->dtype);
    const char *const from = r->x;
    for (int64_t c = 0; c < r->cols; c++)
        for (int64_t j = 0; j < count; j++)
            memcpy(turned + (size_t)(j * r->cols + c) * size,
                   from + (size_t)(r->start + c * r->step + k + j) * size, size);
}

/* Without memory to turn columns in, they are walked as they lie. */
static void judge_columns(const kf_softmax_range *range, const kf_softmax_row *row,
                          const kf_error_model *error, const span *s)
{
    enum { TOGETHER = 16 };
    const int64_t inner = range->problem->inner;
    char *turned = inner > 1
                       ? malloc((size_t)row->cols * TOGETHER * (size_t)kf_dtype_bytes(row->dtype))
                       : NULL;
    for (int64_t k = 0; k < inner; k += TOGETHER) {
        const int64_t count = inner - k < TOGETHER ? inner - k : TOGETHER;
        if (turned)
            turn(row, k, count, turned);
        for (int64_t j = 0; j < count; j++) {
            kf_softmax_row r = *row;
            r.start = turned ? j * row->cols : row->start + k + j;
            r.x = turned ? turned : row->x;
            r.step = turned ? 0 : row->step;
            judge_column(range, &r, error, k + j, s);
        }
    }
    free(turned);
}

void kf_softmax_range_reference(const kf_softmax_range *range, const kf_error_model *error,
                                int64_t first, int64_t count, double *value, double *bound)
{
    const kf_problem *problem = range->problem;
    const int64_t inner = problem->inner, width = problem->dim[1] * inner;
    for (int64_t done = 0; done < count;) {
        const int64_t row = (first + done) / width, lo = (first + done) % width;
        const int64_t part = width - lo < count - done ? width - lo : count - done;
        kf_softmax_row r = {.x = range->x,
                            .dtype = problem->dtype,
                            .start = row * problem->row_stride[range->tensor],
                            .cols = problem->dim[1],
                            .step = inner > 1 ? problem->step[range->tensor] : 0};
        const span s = {lo, lo + part, value + done, bound + done};
        judge_columns(range, &r, error, &s);
        done += part;
    }
}
