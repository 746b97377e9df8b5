/* SPDX-License-Identifier: Apache-2.0 */
#include "approx.h"
#include <math.h>

#define U 0x1p-24
#define FLUSH 0x1p-126 /* the smallest normal float: below it a result may be 0 */
#define SQRT_HALF 0.70710678118654752440
#define SQRT_2_OVER_PI 0.79788456080286535588

/* Steepest ascents: silu' <= 1.0999, gelu' <= 1.1290, that of the form with tanh 1.1301. */
#define SILU_SLOPE 1.1
#define GELU_SLOPE 1.131

/* Least magnitude that becomes infinite when rounded: the largest finite value and half an ulp. */
static double overflow_from(kf_dtype dtype)
{
    const double u = kf_dtype_roundoff(dtype);
    return kf_dtype_max(dtype) * ((2 - u) / (2 - 2 * u));
}

static const kf_approx anything = {.value = NAN, .error = INFINITY};

static bool is_anything(kf_approx a)
{
    return isnan(a.value) && isinf(a.error);
}

/* A NaN stays one whatever meets it. */
static kf_approx met(kf_approx a, kf_approx b)
{
    const bool nan = (isnan(a.value) && !is_anything(a)) || (isnan(b.value) && !is_anything(b));
    return nan ? kf_approx_exact(NAN) : anything;
}

static kf_approx settle(double value, double error, kf_dtype dtype)
{
    const double least = overflow_from(dtype), size = fabs(value);
    if (isnan(value) || size - error >= least)
        return (kf_approx){.value = isnan(value) ? value : copysign(INFINITY, value)};
    return size + error >= least ? anything : (kf_approx){.value = value, .error = error};
}

kf_approx kf_approx_exact(double value)
{
    return (kf_approx){.value = value};
}

kf_approx kf_approx_add(kf_approx a, kf_approx b)
{
    const double value = a.value + b.value;
    if (is_anything(a) || is_anything(b))
        return met(a, b);
    if (!isfinite(value))
        return kf_approx_exact(value);
    return settle(value, a.error + b.error + U * fabs(value), KF_F32);
}

kf_approx kf_approx_sub(kf_approx a, kf_approx b)
{
    b.value = -b.value;
    return kf_approx_add(a, b);
}

/* Not 0, but a device may have taken it for 0. */
static bool may_vanish(kf_approx a)
{
    return (a.value != 0 || a.error != 0) && fabs(a.value) <= fmax(a.error, FLUSH);
}

kf_approx kf_approx_mul(kf_approx a, kf_approx b)
{
    const double value = a.value * b.value;
    if (is_anything(a) || is_anything(b))
        return met(a, b);
    if ((isinf(a.value) && may_vanish(b)) || (isinf(b.value) && may_vanish(a)))
        return anything;
    if (!isfinite(value))
        return kf_approx_exact(value);
    const double error = fabs(a.value) * b.error + fabs(b.value) * a.error + a.error * b.error;
    return settle(value, error + U * fabs(value) + FLUSH, KF_F32);
}

kf_approx kf_approx_stored(kf_approx a, kf_dtype dtype)
{
    if (dtype == KF_NONE || dtype == KF_F32 || !isfinite(a.value))
        return a;
    a = settle(a.value, a.error, dtype);
    if (isfinite(a.value))
        a.error += kf_dtype_roundoff(dtype) * fabs(a.value) + kf_dtype_floor(dtype);
    return a;
}

void kf_approx_result(kf_approx a, kf_dtype dtype, double *value, double *bound)
{
    *value = a.value;
    *bound = is_anything(a) ? -1 : a.error;
    if (isfinite(a.value))
        *bound += kf_dtype_roundoff(dtype) * fabs(a.value) + kf_dtype_floor(dtype);
}

/* ---- sums ------------------------------------------------------------------------------------ */

void kf_total_add(kf_total *t, kf_approx term)
{
    t->anything |= is_anything(term);
    if (is_anything(term))
        return;
    t->value += term.value;
    t->size += fabs(term.value);
    t->error += term.error;
}

/* An infinite term decides; of finite ones a partial sum may overflow that the whole does not. */
kf_approx kf_total_of(const kf_total *t, int64_t depth)
{
    const double error = t->error + (double)depth * U * t->size;
    if (isnan(t->value))
        return kf_approx_exact(NAN);
    if (t->anything || (isfinite(t->value) && t->size + error >= kf_dtype_max(KF_F32)))
        return anything;
    return isfinite(t->value) ? (kf_approx){.value = t->value, .error = error}
                              : kf_approx_exact(t->value);
}

/* ---- activations ----------------------------------------------------------------------------- */

/* x / (1 + e), e = exp(-w), where dw is the error of w. The exponential is within 3 ulp = 6 u, as
 * exp2 its argument is rounded twice more; it counts for its share 1 - s = e / (1 + e) of the
 * denominator. Sum u, division 2.5 ulp = 5 u, and one product more in the form of CPUs. Where the
 * exponential overflows or the quotient's denominator is above 2^126, 0 comes for x s: within |x|
 * 2^-126. */
static kf_approx gate(double x, double w, double dw, bool exp2)
{
    const double e = exp(-w), share = isinf(e) ? 1 : e / (1 + e);
    const double value = x / (1 + e), size = isfinite(w) ? fabs(w) : 0;
    if (!isfinite(value))
        return kf_approx_exact(value);
    double error = fabs(value) * share * (dw + U * (6 + (exp2 ? 2 * size : 0)));
    error += fabs(value) * 7 * U + fabs(x) * FLUSH;
    return settle(value, error, KF_F32);
}

/* y of an x that carries an error itself. */
static kf_approx shifted(kf_approx y, kf_approx x, double slope)
{
    if (is_anything(x))
        return x;
    if (isfinite(y.value))
        y.error += slope * x.error;
    return y;
}

kf_approx kf_approx_sigmoid(kf_approx x, bool exp2)
{
    return shifted(gate(1, x.value, 0, exp2), x, 0.25);
}

kf_approx kf_approx_silu(kf_approx x, bool exp2)
{
    return shifted(gate(x.value, x.value, 0, exp2), x, SILU_SLOPE);
}

/* x (1 + erf a) / 2, a = x / sqrt 2: erf within 16 ulp = 32 u, halved; a rounded twice, which moves
 * erf by 2 u a erf'(a) <= u; its sum with 1 and the product u each. */
kf_approx kf_approx_gelu_erf(kf_approx x)
{
    const double half =
        x.value < 0 ? erfc(-x.value * SQRT_HALF) / 2 : (1 + erf(x.value * SQRT_HALF)) / 2;
    const double value = x.value * half;
    if (!isfinite(value))
        return shifted(kf_approx_exact(value), x, GELU_SLOPE);
    return shifted(settle(value, 19 * U * fabs(x.value) + FLUSH, KF_F32), x, GELU_SLOPE);
}

/* x / (1 + exp(-2 z)): z is a sum of two terms of one sign, each product of which is rounded, and
 * its two constants: 7 u |2 z|. */
kf_approx kf_approx_gelu_tanh(kf_approx x, bool exp2)
{
    const double v = x.value, w = 2 * SQRT_2_OVER_PI * (v + 0.044715 * v * v * v);
    const double dw = isfinite(w) ? 7 * U * fabs(w) : 0;
    return shifted(gate(v, w, dw, exp2), x, GELU_SLOPE);
}

/* ---- slopes of gelu ---------------------------------------------------------------------------
 */

#define SLOPE_END 16 /* of kernels/common/units: the slopes are 0 and 1 from there on */

static double within_end(double x)
{
    return x > SLOPE_END ? SLOPE_END : x < -SLOPE_END ? -SLOPE_END : x;
}

/* |gelu''| at |x| >= y, in either form: 2 sqrt(1 / (2 pi)) at 0; from 2 on it falls faster than y^2
 * exp(-y^2 / 2), whose factor is 0.399 with erf and 0.324 with tanh. */
static double steepest_from(double y)
{
    return y >= SLOPE_END ? 0 : y < 2 ? 0.8 : 0.4 * y * y * exp(-y * y / 2);
}

/* Slope of an x that carries an error itself: by the mean value, no more than the steepest in
 * between. */
static kf_approx moved(kf_approx slope, kf_approx x)
{
    if (isfinite(slope.value) && x.error > 0)
        slope.error += x.error * steepest_from(fabs(x.value) - x.error);
    return slope;
}

/* exp(-w) for w >= 0, where dw is the error of w: as in `gate`. Behind 2^-126 it is 0. */
static kf_approx power(double w, double dw, bool exp2)
{
    const double e = exp(-w);
    return (kf_approx){.value = e, .error = e * (dw + U * (6 + (exp2 ? 2 * w : 0))) + FLUSH};
}

static kf_approx rounded(double constant)
{
    return (kf_approx){.value = constant, .error = U * fabs(constant)};
}

/* Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi). Phi = (1 + erf a) / 2 is within 18 u, as in gelu but for
 * the product; a^2, of an a rounded twice, within 5 u of itself. */
kf_approx kf_approx_gelu_slope_erf(kf_approx x, bool exp2)
{
    const double v = within_end(x.value), square = v * v / 2;
    if (isnan(v))
        return x;
    const double phi = v < 0 ? erfc(-v * SQRT_HALF) / 2 : (1 + erf(v * SQRT_HALF)) / 2;
    const kf_approx density = kf_approx_mul(rounded(SQRT_2_OVER_PI / 2), kf_approx_exact(v));
    const kf_approx tail = kf_approx_mul(density, power(square, 5 * U * square, exp2));
    return moved(kf_approx_add((kf_approx){.value = phi, .error = 18 * U}, tail), x);
}

/* s + x w' s (1 - s) with s = 1 / (1 + exp(-w)), w = 2 sqrt(2 / pi) (x + 0.044715 x^3): by p =
 * exp(-|w|) and r = 1 / (1 + p) alone, of which s is r or p r and s (1 - s) is p r^2, so that
 * nothing cancels. r: division 2.5 ulp = 5 u, sum u, and the share of p; one u for second orders.
 */
kf_approx kf_approx_gelu_slope_tanh(kf_approx x, bool exp2)
{
    const double v = within_end(x.value), scale = 2 * SQRT_2_OVER_PI;
    const double w = fabs(scale * (v + 0.044715 * v * v * v));
    if (isnan(v))
        return x;
    const kf_approx at = kf_approx_exact(v), p = power(w, 7 * U * w, exp2);
    const double part = 1 / (1 + p.value);
    const kf_approx r = {.value = part, .error = part * (part * p.error + 7 * U)},
                    q = kf_approx_mul(p, r);
    const kf_approx bend = kf_approx_mul(rounded(3 * 0.044715), kf_approx_mul(at, at)),
                    rise = kf_approx_mul(kf_approx_mul(rounded(scale), at),
                                         kf_approx_add(kf_approx_exact(1), bend));
    const kf_approx swing = kf_approx_mul(rise, kf_approx_mul(q, r));
    return moved(kf_approx_add(v < 0 ? q : r, swing), x);
}
