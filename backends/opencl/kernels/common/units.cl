/* Activations of gated and plain units, one float at a time. The same names as
 * cuda/kernels/common/units.cu. SPDX-License-Identifier: Apache-2.0 */

/* x / y, at most 2.5 ulp; 0 where y is above 2^126. */
static inline float kf_divide(float x, float y)
{
    return x / y;
}

/* 1 exp2, 1 division. */
static inline float kf_sigmoid(float x)
{
    return kf_divide(1.0f, 1.0f + kf_exp2(x * -KF_LOG2E));
}

/* x sigmoid(x): 1 exp2, 1 division. Far below 0 the exponential is infinite and the result -0. */
static inline float kf_silu(float x)
{
    return kf_divide(x, 1.0f + kf_exp2(x * -KF_LOG2E));
}

/* The slope of silu where sigmoid(x) is `s`. */
static inline float kf_silu_slope(float x, float s)
{
    return s * (1.0f + x * (1.0f - s));
}

/* 1 / x, at most 2.5 ulp; 1 and flushed denormals by PTX. */
static inline float kf_reciprocal(float x)
{
#if KF_CAP_PTX
    float reciprocal;
    __asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
    return reciprocal;
#else
    return 1.0f / x;
#endif
}

/* Phi(-sqrt(2) a) = (1 - erf a) / 2 for a >= 0, where `power` is exp(-a^2): 1 division. By formula
 * 7.1.26 of Abramowitz and Stegun: its absolute error of 1.5e-7 in erf is 2.5 u, a thirteenth of what
 * an erf may have near 1, for half of the instructions. With erf itself 16-bit elements wait for
 * arithmetic: geglu bf16 8192x14336 took 182 us on an H200, and its memory asks for 162. */
static inline float kf_erf_tail(float a, float power)
{
    const float t = kf_reciprocal(1.0f + 0.3275911f * a);
    float tail = 0.5307027145f;
    tail = tail * t - 0.7265760135f;
    tail = tail * t + 0.7107068705f;
    tail = tail * t - 0.142248368f;
    tail = tail * t + 0.127414796f;
    return tail * (t * power);
}

/* x Phi(x): 1 exp2, 1 division. */
static inline float kf_gelu_erf(float x)
{
    const float a = fabs(x) * 0.70710678f;
    const float tail = kf_erf_tail(a, kf_exp2(a * a * -KF_LOG2E));
    return x * (x < 0.0f ? tail : 1.0f - tail);
}

/* The approximation with tanh, 0.5 x (1 + tanh z) = x sigmoid(2 z) for z = sqrt(2 / pi) (x +
 * 0.044715 x^3): 1 exp2, 1 division. Not by tanh itself, which costs more and would lose the tail
 * below -3 to cancellation. */
#define KF_GELU_SCALE -2.30220819f /* -2 sqrt(2 / pi) log2(e) */
static inline float kf_gelu_tanh(float x)
{
    return kf_divide(x, 1.0f + kf_exp2(KF_GELU_SCALE * (x + 0.044715f * (x * x * x))));
}

/* Derivatives of gelu. From 16 on, in either form, exponentials are below 2^-126 and the slopes 0
 * and 1; what lies behind is taken for 16, so that no infinity meets a 0 and no square overflows.
 * NaN stays. */
#define KF_SLOPE_END 16.0f
static inline float kf_slope_argument(float x)
{
    return x > KF_SLOPE_END ? KF_SLOPE_END : x < -KF_SLOPE_END ? -KF_SLOPE_END : x;
}

/* Phi(x) + x phi(x), one exponential for both: 1 exp2, 1 division. */
static inline float kf_gelu_slope_erf(float at)
{
    const float x = kf_slope_argument(at), a = fabs(x) * 0.70710678f;
    const float power = kf_exp2(a * a * -KF_LOG2E), tail = kf_erf_tail(a, power);
    return (x < 0.0f ? tail : 1.0f - tail) + 0.39894228f * x * power;
}

/* s + x w' s (1 - s), s = sigmoid(w) for w = 2 z: 1 exp2, 1 division. By the exponential of -|w|,
 * which does not overflow; s (1 - s) is p r^2, where 1 - s would cancel. */
static inline float kf_gelu_slope_tanh(float at)
{
    const float x = kf_slope_argument(at), square = x * x;
    const float p = kf_exp2(-fabs(KF_GELU_SCALE * (x + 0.044715f * (x * square))));
    const float r = kf_divide(1.0f, 1.0f + p), q = p * r;
    const float rise = 1.59576912f * x * (1.0f + 0.134145f * square);
    return (x < 0.0f ? q : r) + rise * (q * r);
}

/* APPROXIMATE: the attribute `approximate`, 0 = none, 1 = tanh. */
#ifdef KF_EDITOR
#define APPROXIMATE 0
#endif
#ifdef APPROXIMATE
static inline float kf_gelu(float x)
{
    return APPROXIMATE ? kf_gelu_tanh(x) : kf_gelu_erf(x);
}

static inline float kf_gelu_slope(float x)
{
    return APPROXIMATE ? kf_gelu_slope_tanh(x) : kf_gelu_slope_erf(x);
}
#endif
