/* The activations of units.cl for eight elements, by arithmetic alone but for one division: what
 * compilers for CPUs make vector code of, where exp and erf would be eight calls.
 * SPDX-License-Identifier: Apache-2.0 */

/* Bits instead of a vector ?:, whose wrong side Oclgrind 21.10 takes. */
static inline float8 kf_where8(int8 mask, float8 yes, float8 no)
{
    return as_float8((as_int8(yes) & mask) | (as_int8(no) & ~mask));
}

/* x / (1 + exp(-w)) from exp(-|w|), which neither overflows nor cancels. */
static inline float8 kf_gate8(float8 x, float8 w)
{
    const float8 power = kf_exp8(-fabs(w));
    return x * kf_where8(w < 0.0f, power, (float8)(1.0f)) / (1.0f + power);
}

static inline float8 kf_sigmoid8(float8 x)
{
    return kf_gate8((float8)(1.0f), x);
}

static inline float8 kf_silu8(float8 x)
{
    return kf_gate8(x, x);
}

static inline float8 kf_silu_slope8(float8 x, float8 s)
{
    return s * (1.0f + x * (1.0f - s));
}

/* (1 - erf a) / 2 for a >= 0, where `power` is exp(-a^2), by formula 7.1.26 of Abramowitz and
 * Stegun: its absolute error of 1.5e-7 in erf is 2.5 u, a thirteenth of what erf() itself may have
 * near 1. */
static inline float8 kf_erf_tail8(float8 a, float8 power)
{
    const float8 t = 1.0f / (1.0f + 0.3275911f * a);
    float8 tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    return tail * (0.5f * t * power);
}

static inline float8 kf_gelu_erf8(float8 x)
{
    const float8 a = fabs(x) * 0.70710678f, tail = kf_erf_tail8(a, kf_exp8(-a * a));
    return x * kf_where8(x < 0.0f, tail, 1.0f - tail);
}

static inline float8 kf_gelu_tanh8(float8 x)
{
    return kf_gate8(x, 1.59576912f * (x + 0.044715f * (x * x * x)));
}

static inline float8 kf_slope_argument8(float8 x)
{
    x = kf_where8(x > KF_SLOPE_END, (float8)(KF_SLOPE_END), x);
    return kf_where8(x < -KF_SLOPE_END, (float8)(-KF_SLOPE_END), x);
}

/* One exponential for Phi, as in kf_gelu_erf8, and for phi. */
static inline float8 kf_gelu_slope_erf8(float8 at)
{
    const float8 x = kf_slope_argument8(at), a = fabs(x) * 0.70710678f;
    const float8 power = kf_exp8(-a * a), tail = kf_erf_tail8(a, power);
    return kf_where8(x < 0.0f, tail, 1.0f - tail) + 0.39894228f * x * power;
}

static inline float8 kf_gelu_slope_tanh8(float8 at)
{
    const float8 x = kf_slope_argument8(at), square = x * x;
    const float8 p = kf_exp8(-fabs(1.59576912f * (x + 0.044715f * (x * square))));
    const float8 r = 1.0f / (1.0f + p), q = p * r;
    const float8 rise = 1.59576912f * x * (1.0f + 0.134145f * square);
    return kf_where8(x < 0.0f, q, r) + rise * (q * r);
}

#ifdef APPROXIMATE
static inline float8 kf_gelu8(float8 x)
{
    return APPROXIMATE ? kf_gelu_tanh8(x) : kf_gelu_erf8(x);
}

static inline float8 kf_gelu_slope8(float8 x)
{
    return APPROXIMATE ? kf_gelu_slope_tanh8(x) : kf_gelu_slope_erf8(x);
}
#endif

/* Words index .. index + 31 of common/random, `index` a multiple of four: eight blocks at a time,
 * word k of block b in word[k].sb. By 64-bit products: mul_hi of vectors is eight calls on CPUs. */
static inline void kf_random_words32(uint8 word[4], ulong seed, long index)
{
    const ulong8 block = (ulong)(index >> 2) + (ulong8)(0, 1, 2, 3, 4, 5, 6, 7);
    uint8 a = convert_uint8(block & 0xffffffffUL), b = convert_uint8(block >> 32), c = 0, d = 0;
    uint key_a = (uint)seed, key_b = (uint)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const ulong8 of_a = convert_ulong8(a) * 0xd2511f53UL;
        const ulong8 of_c = convert_ulong8(c) * 0xcd9e8d57UL;
        a = convert_uint8(of_c >> 32) ^ b ^ key_a;
        b = convert_uint8(of_c & 0xffffffffUL);
        c = convert_uint8(of_a >> 32) ^ d ^ key_b;
        d = convert_uint8(of_a & 0xffffffffUL);
        key_a += 0x9e3779b9u;
        key_b += 0xbb67ae85u;
    }
    word[0] = a;
    word[1] = b;
    word[2] = c;
    word[3] = d;
}
