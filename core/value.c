/* Storage types on the host: f32, IEEE half, bfloat16, integers, read and written as double.
 * Rounding is to nearest even straight from double (no detour through float, which would round
 * twice). SPDX-License-Identifier: Apache-2.0 */
#include "op.h"
#include <math.h>
#include <string.h>

static double half_to_double(uint16_t bits)
{
    const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    double value;
    if (exponent == 31)
        value = mantissa ? NAN : INFINITY;
    else
        value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return bits & 0x8000 ? -value : value;
}

/* Rounds |value| to a binary format of `mantissa` stored bits, least exponent `least` (of the
 * smallest normal) and exponent bias -> stored bits without the sign. Overflow gives the infinity's
 * bits. */
static uint32_t pack(double magnitude, int mantissa, int least, uint32_t infinity)
{
    int exponent;
    if (magnitude == 0)
        return 0;
    frexp(magnitude, &exponent);
    if (exponent - 1 < least)
        exponent = least + 1; /* subnormal: a fixed quantum */
    const double quantum = ldexp(1.0, exponent - 1 - mantissa);
    const double units = nearbyint(magnitude / quantum); /* exact division, nearest even */
    const uint32_t whole = 1u << mantissa;
    const double bits = units + (double)(exponent - 1 - least) * whole;
    return bits >= infinity ? infinity : (uint32_t)bits;
}

static uint16_t double_to_half(double value)
{
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    if (isnan(value))
        return sign | 0x7e00;
    if (isinf(value))
        return sign | 0x7c00;
    return sign | (uint16_t)pack(fabs(value), 10, -14, 0x7c00);
}

static uint16_t double_to_bfloat(double value)
{
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    if (isnan(value))
        return sign | 0x7fc0;
    if (isinf(value))
        return sign | 0x7f80;
    return sign | (uint16_t)pack(fabs(value), 7, -126, 0x7f80);
}

static double bfloat_to_double(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

double kf_load(const void *data, kf_dtype dtype, int64_t index)
{
    switch (dtype) {
    case KF_F32:
        return ((const float *)data)[index];
    case KF_F16:
        return half_to_double(((const uint16_t *)data)[index]);
    case KF_BF16:
        return bfloat_to_double(((const uint16_t *)data)[index]);
    case KF_I32:
        return ((const int32_t *)data)[index];
    case KF_I64:
        return (double)((const int64_t *)data)[index];
    case KF_NONE:
        break;
    }
    return NAN;
}

void kf_store(void *data, kf_dtype dtype, int64_t index, double value)
{
    switch (dtype) {
    case KF_F32:
        ((float *)data)[index] = (float)value;
        break;
    case KF_F16:
        ((uint16_t *)data)[index] = double_to_half(value);
        break;
    case KF_BF16:
        ((uint16_t *)data)[index] = double_to_bfloat(value);
        break;
    case KF_I32:
        ((int32_t *)data)[index] = (int32_t)value;
        break;
    case KF_I64:
        ((int64_t *)data)[index] = (int64_t)value;
        break;
    case KF_NONE:
        break;
    }
}

double kf_dtype_roundoff(kf_dtype dtype)
{
    return dtype == KF_F32 ? 0x1p-24 : dtype == KF_F16 ? 0x1p-11 : dtype == KF_BF16 ? 0x1p-8 : 0;
}

double kf_dtype_floor(kf_dtype dtype)
{
    return dtype == KF_F16 ? 0x1p-25 : dtype == KF_F32 || dtype == KF_BF16 ? 0x1p-126 : 0;
}

double kf_dtype_max(kf_dtype dtype)
{
    return dtype == KF_F32    ? 0x1.fffffep127
           : dtype == KF_F16  ? 65504.0
           : dtype == KF_BF16 ? 0x1.fep127
                              : INFINITY;
}
