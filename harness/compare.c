/* The comparator: a result passes iff !(err <= bound) is false, so NaN fails by itself
 * (testing.md 2.6). SPDX-License-Identifier: Apache-2.0 */
#include "verify_parts.h"
#include "convert.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STRETCH = 256 }; /* elements converted at a time */

/* Least magnitude that rounds to infinity: the largest finite value and half an ulp. */
static double overflow_from(kf_dtype dtype)
{
    switch (dtype) {
    case KF_F32:
        return 0x1.ffffffp127;
    case KF_F16:
        return 65520;
    case KF_BF16:
        return 0x1.ffp127;
    default:
        return INFINITY;
    }
}

/* Error of one element; 0 when an infinity or a NaN meets its like, infinite when it meets anything
 * else. */
static double element_error(double got, double want)
{
    if (isnan(want))
        return isnan(got) ? 0 : INFINITY;
    if (isinf(want))
        return got == want ? 0 : INFINITY;
    return isnan(got) || isinf(got) ? INFINITY : fabs(got - want);
}

/* Where |want| passes the overflow threshold by more than the operation's own error (the bound
 * without the rounding to storage), only the right infinity is right; nearer to it, a finite
 * neighbour is too, and just below it the infinity. */
static bool near_overflow(kf_dtype dtype, double got, double want, double bound, double *error)
{
    const double least = overflow_from(dtype), size = fabs(want);
    double own = bound - (kf_dtype_roundoff(dtype) * size + kf_dtype_floor(dtype));
    own = own > 0 ? own : 0;
    if (isinf(bound)) /* an error estimate that overflowed with the value */
        own = size >= least ? INFINITY : 0;
    if (!isfinite(want) || isnan(bound) || !(size + own >= least))
        return false;
    if (isinf(got) && signbit(got) == signbit(want)) {
        *error = 0;
        return true;
    }
    if (size - own >= least) {
        *error = INFINITY;
        return true;
    }
    return false; /* a finite neighbour: the bound decides */
}

static void note_bad(kf_verify_report *report, int64_t index, double got, double want, double bound)
{
    if (report->bad++)
        return;
    report->first_bad = index;
    report->got = got;
    report->want = want;
    report->bound = bound;
}

void kf_compare_reset(kf_verify_report *report)
{
    *report = (kf_verify_report){.first_bad = -1};
}

static void judge_element(kf_dtype dtype, double got, double want, double bound, int64_t index,
                          kf_verify_report *report)
{
    const bool unknown = isnan(want) && isinf(bound); /* the reference says: anything */
    double error = unknown ? 0 : element_error(got, want);
    const bool judged = near_overflow(dtype, got, want, bound, &error);
    const bool met = error == 0 && (judged || !isfinite(want)); /* here the bound may be NaN */
    const double ratio = error == 0 ? 0 : error / bound;
    report->max_error = error > report->max_error ? error : report->max_error;
    if (isfinite(bound) && bound > report->max_bound)
        report->max_bound = bound;
    if (!(ratio <= report->worst_ratio))
        report->worst_ratio = isnan(ratio) ? INFINITY : ratio;
    if (!met && (!(error <= bound) || isinf(error)))
        note_bad(report, index, got, want, bound);
}

/* Elements of which none is special: everything finite, far from overflow, and passed. Then the
 * report is as if judge_element had seen each; else false, and it is as it was. */
static bool plain_stretch(kf_dtype dtype, const double *got, const double *want,
                          const double *bound, int64_t count, kf_verify_report *report)
{
    const double least = overflow_from(dtype);
    double max_error = report->max_error, max_bound = report->max_bound,
           worst = report->worst_ratio;
    bool plain = true;
    for (int64_t i = 0; i < count; i++) {
        const double error = fabs(got[i] - want[i]), ratio = error / bound[i];
        plain &= error <= bound[i] && bound[i] > 0 && fabs(want[i]) + bound[i] < least;
        max_error = error > max_error ? error : max_error;
        max_bound = bound[i] > max_bound ? bound[i] : max_bound;
        worst = ratio > worst ? ratio : worst;
    }
    if (!plain)
        return false;
    report->max_error = max_error;
    report->max_bound = max_bound;
    report->worst_ratio = worst;
    return true;
}

void kf_compare_more(kf_dtype dtype, const void *got, const double *want, const double *bound,
                     int64_t first, int64_t count, kf_verify_report *report)
{
    double value[STRETCH];
    for (int64_t at = 0; at < count; at += STRETCH) {
        const int64_t n = count - at < STRETCH ? count - at : STRETCH;
        kf_load_many(got, dtype, at, 1, value, n);
        if (plain_stretch(dtype, value, want + at, bound + at, n, report))
            continue;
        for (int64_t i = 0; i < n; i++)
            judge_element(dtype, value[i], want[at + i], bound[at + i], first + at + i, report);
    }
    report->checked += count;
}

void kf_compare_merge(kf_verify_report *report, const kf_verify_report *part)
{
    if (part->bad && (!report->bad || part->first_bad < report->first_bad)) {
        report->first_bad = part->first_bad;
        report->got = part->got;
        report->want = part->want;
        report->bound = part->bound;
    }
    report->bad += part->bad;
    report->checked += part->checked;
    report->max_error = fmax(report->max_error, part->max_error);
    report->max_bound = fmax(report->max_bound, part->max_bound);
    report->worst_ratio = fmax(report->worst_ratio, part->worst_ratio);
}

void kf_compare(kf_dtype dtype, const void *got, const double *want, const double *bound,
                int64_t count, kf_verify_report *report)
{
    kf_compare_reset(report);
    kf_compare_more(dtype, got, want, bound, 0, count, report);
    report->passed = report->bad == 0;
    if (!report->passed)
        snprintf(report->reason, sizeof report->reason,
                 "element %lld is %a (%.9g), the reference is %a (%.9g), bound %a; %lld of %lld "
                 "are wrong",
                 (long long)report->first_bad, report->got, report->got, report->want, report->want,
                 report->bound, (long long)report->bad, (long long)report->checked);
}

/* ---- statistics beside the verdict -------------------------------------------------------- */

void kf_tally_zeros(kf_dtype dtype, const void *got, const double *want, int64_t count,
                    kf_tally *tally)
{
    const double tiny = 2 * kf_dtype_floor(dtype); /* flushing below it is admitted */
    double value[STRETCH];
    for (int64_t i = 0; i < count; i++) {
        if (i % STRETCH == 0)
            kf_load_many(got, dtype, i, 1, value, count - i < STRETCH ? count - i : STRETCH);
        const bool zero = value[i % STRETCH] == 0;
        tally->nonzero_want += want[i] != 0; /* NaN counts */
        tally->nonzero_got += !zero;
        tally->lost += zero && fabs(want[i]) > tiny;
    }
    tally->count += count;
}

/* What ref + 0.3 - 0.3 loses in the storage type: the floor of testing.md 3. */
static void floor_errors(kf_dtype dtype, const double *want, double *error, int64_t count)
{
    double value[STRETCH];
    memcpy(value, want, (size_t)count * sizeof *value);
    kf_round_many(dtype, value, count);
    for (int step = 0; step < 2; step++) {
        for (int64_t i = 0; i < count; i++)
            value[i] += step ? -0.3 : 0.3;
        kf_round_many(dtype, value, count);
    }
    for (int64_t i = 0; i < count; i++)
        error[i] = fabs(value[i] - want[i]);
}

/* NaN never is. */
static double larger(double most, double value)
{
    return value > most ? value : most;
}

static void tally_stretch(kf_dtype dtype, const void *got, const void *unfused, const double *want,
                          int64_t count, kf_tally *tally)
{
    double a[STRETCH], b[STRETCH], floor_error[STRETCH];
    const double most = kf_dtype_max(dtype);
    kf_load_many(got, dtype, 0, 1, a, count);
    kf_load_many(unfused, dtype, 0, 1, b, count);
    floor_errors(dtype, want, floor_error, count);
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(want[i]) || fabs(want[i]) > most || !isfinite(a[i]) || !isfinite(b[i]))
            continue;
        tally->fused_error = larger(tally->fused_error, fabs(a[i] - want[i]));
        tally->unfused_error = larger(tally->unfused_error, fabs(b[i] - want[i]));
        if (isfinite(floor_error[i]))
            tally->floor_error = larger(tally->floor_error, floor_error[i]);
    }
}

/* max|x - ref| over the elements where everything is finite, and the floor. */
void kf_tally_errors(kf_dtype dtype, const void *got, const void *unfused, const double *want,
                     int64_t count, kf_tally *tally)
{
    const int size = kf_dtype_bytes(dtype);
    for (int64_t i = 0; i < count; i += STRETCH)
        tally_stretch(dtype, (const char *)got + i * size, (const char *)unfused + i * size,
                      want + i, count - i < STRETCH ? count - i : STRETCH, tally);
}

void kf_tally_merge(kf_tally *tally, const kf_tally *part)
{
    tally->count += part->count;
    tally->nonzero_want += part->nonzero_want;
    tally->nonzero_got += part->nonzero_got;
    tally->lost += part->lost;
    tally->fused_error = fmax(tally->fused_error, part->fused_error);
    tally->unfused_error = fmax(tally->unfused_error, part->unfused_error);
    tally->floor_error = fmax(tally->floor_error, part->floor_error);
}
