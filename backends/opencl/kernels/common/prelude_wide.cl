/* Eight elements at a time for entries that run one row per work-item on CPU devices, whose drivers
 * vectorise no loop inside a work-item. Any element may be the first: no alignment is asked for.
 * SPDX-License-Identifier: Apache-2.0 */

#if KF_DTYPE == KF_F16
/* By integers, not vload_half8: PoCL 3.1 takes that for an aligned access and faults at odd starts.
 */
static inline float8 kf_f16_value8(ushort8 stored)
{
    const uint8 bits = convert_uint8(stored), size = bits & 0x7fff;
    const float8 subnormal = convert_float8(size) * 0x1p-24f;
    const uint8 normal = (size << 13) + (size < 0x7c00 ? (uint8)(112 << 23) : (uint8)(224 << 23));
    const uint8 value = size < 0x400 ? as_uint8(subnormal) : normal;
    return as_float8(value | (bits & 0x8000) << 16);
}

/* Nearest even: a normal number by carrying into its bits, a subnormal one by rint. */
static inline ushort8 kf_f16_bits8(float8 value)
{
    const uint8 bits = as_uint8(value), size = bits & 0x7fffffff;
    const uint8 subnormal = convert_uint8(rint(as_float8(min(size, (uint8)0x38800000)) * 0x1p24f));
    uint8 half_bits = (size - (112 << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    half_bits = size < 0x38800000 ? subnormal : half_bits;
    half_bits = size >= 0x477ff000 ? (uint8)0x7c00 : half_bits; /* 65520 and more */
    half_bits = size > 0x7f800000 ? (uint8)0x7e00 : half_bits;
    return convert_ushort8(half_bits | (bits >> 16 & 0x8000));
}
#endif

static inline float8 kf_load8(const __global kf_storage *row, long index)
{
#if KF_DTYPE == KF_F32
    return vload8(0, row + index);
#elif KF_DTYPE == KF_F16
    return kf_f16_value8(vload8(0, row + index));
#else
    return as_float8(convert_uint8(vload8(0, row + index)) << 16);
#endif
}

static inline ushort8 kf_bf16_bits8(float8 value)
{
    const uint8 bits = as_uint8(value);
    const uint8 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return convert_ushort8(value != value ? (bits >> 16) | 0x40 : rounded);
}

/* Eight 16-bit elements that start anywhere: PoCL 3.1 makes eight stores of vstore8 (RMS norm bf16
 * 8192x4096, two cores: 16 GB/s, and 25 so). */
#if KF_DTYPE != KF_F32
typedef ushort8 kf_ushort8 __attribute__((aligned(2)));
#endif

static inline void kf_store8(__global kf_storage *row, long index, float8 value)
{
#if KF_DTYPE == KF_F32
    vstore8(value, 0, row + index);
#elif KF_DTYPE == KF_F16
    *(__global kf_ushort8 *)(row + index) = kf_f16_bits8(value);
#else
    *(__global kf_ushort8 *)(row + index) = kf_bf16_bits8(value);
#endif
}

/* As if stored and loaded again. */
static inline float8 kf_round8(float8 value)
{
#if KF_DTYPE == KF_F32
    return value;
#elif KF_DTYPE == KF_F16
    return kf_f16_value8(kf_f16_bits8(value));
#else
    return as_float8(convert_uint8(kf_bf16_bits8(value)) << 16);
#endif
}

/* exp(x) for x <= 0 by arithmetic alone, within 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, then a
 * polynomial in r. Measured on PoCL at 65536x256: 10 ms against 16 by its exp, and 22 where rint
 * and convert_int8 are called, as those are no vector code there. 0 where exp(x) is below
 * 2^-126, the smallest normal float; NaN stays. */
#define KF_EXP_LEAST -87.33654f
static inline float8 kf_exp8(float8 x)
{
    const float8 shifted = x * KF_LOG2E + 12582912.0f; /* 1.5 x 2^23: rounds, n in the low bits */
    const float8 n = shifted - 12582912.0f;
    const float8 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float8 power = 1.0f / 5040;
    power = power * r + 1.0f / 720;
    power = power * r + 1.0f / 120;
    power = power * r + 1.0f / 24;
    power = power * r + 1.0f / 6;
    power = power * r + 0.5f;
    power = power * r + 1.0f;
    power = power * r + 1.0f;
    power *= as_float8((as_int8(shifted) << 23) + (127 << 23));
    /* a mask: Oclgrind 21.10 takes the wrong side of a vector ?: */
    return as_float8(as_int8(power) & ~(x < KF_EXP_LEAST));
}
