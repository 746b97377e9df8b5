/* Bulk conversion and gathering of tensor elements on the host. SPDX-License-Identifier: Apache-2.0
 */
#include "convert.h"
#include <math.h>
#include <string.h>

/* A double of this size has its last bit where the type's subnormal numbers have theirs. */
static inline double subnormal_ruler(kf_dtype dtype)
{
    return dtype == KF_F16 ? 0x1.8p28 : 0x1.8p-81;
}

/* Nearest even on the bits of the double; what becomes subnormal is rounded by an addition. Huge,
 * infinite and NaN take kf_store. */
static inline uint16_t round16(double value, int mantissa, int bias, kf_dtype dtype)
{
    const int shift = 52 - mantissa;
    uint64_t bits, base;
    memcpy(&bits, &value, sizeof bits);
    const int exponent = (int)(bits >> 52 & 2047) - 1023;
    const uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    if (exponent >= bias) {
        uint16_t slow;
        kf_store(&slow, dtype, 0, value);
        return slow;
    }
    if (exponent < 1 - bias) {
        const double ruler = subnormal_ruler(dtype), sum = fabs(value) + ruler;
        memcpy(&bits, &sum, sizeof bits);
        memcpy(&base, &ruler, sizeof base);
        return sign | (uint16_t)(bits - base);
    }
    bits &= INT64_MAX;
    bits += ((uint64_t)1 << (shift - 1)) - 1 + (bits >> shift & 1);
    return sign | (uint16_t)((bits >> shift) - ((uint64_t)(1023 - bias) << mantissa));
}

void kf_store_many(void *data, kf_dtype dtype, int64_t first, int64_t stride, const double *value,
                   int64_t count)
{
    uint16_t *half = data;
    float *single = data;
    if (dtype == KF_F32)
        for (int64_t i = 0; i < count; i++)
            single[first + i * stride] = (float)value[i];
    else if (dtype == KF_F16)
        for (int64_t i = 0; i < count; i++)
            half[first + i * stride] = round16(value[i], 10, 15, dtype);
    else if (dtype == KF_BF16)
        for (int64_t i = 0; i < count; i++)
            half[first + i * stride] = round16(value[i], 7, 127, dtype);
    else
        for (int64_t i = 0; i < count; i++)
            kf_store(data, dtype, first + i * stride, value[i]);
}

/* A half with its exponent moved up by 112 is a float, but for the two ends of the range. Small
 * probabilities are subnormal halves, so these must be fast too. */
static double half_value(const uint16_t *bits)
{
    const uint32_t exponent = *bits >> 10 & 31;
    const uint32_t wide =
        (uint32_t)(*bits & 0x8000) << 16 | (exponent + 112) << 23 | (uint32_t)(*bits & 1023) << 13;
    float value;
    if (exponent == 31)
        return kf_load(bits, KF_F16, 0);
    if (exponent == 0)
        return (*bits & 0x8000 ? -0x1p-24 : 0x1p-24) * (*bits & 1023);
    memcpy(&value, &wide, sizeof value);
    return value;
}

static double bfloat_value(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

void kf_load_many(const void *data, kf_dtype dtype, int64_t first, int64_t stride, double *value,
                  int64_t count)
{
    const uint16_t *half = data;
    const float *single = data;
    if (dtype == KF_F32)
        for (int64_t i = 0; i < count; i++)
            value[i] = single[first + i * stride];
    else if (dtype == KF_BF16)
        for (int64_t i = 0; i < count; i++)
            value[i] = bfloat_value(half[first + i * stride]);
    else if (dtype == KF_F16)
        for (int64_t i = 0; i < count; i++)
            value[i] = half_value(&half[first + i * stride]);
    else
        for (int64_t i = 0; i < count; i++)
            value[i] = kf_load(data, dtype, first + i * stride);
}

/* As round16, and read again: the mantissa's other bits become 0. */
static inline double rounded16(double value, int mantissa, int bias, kf_dtype dtype)
{
    const int shift = 52 - mantissa;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const int exponent = (int)(bits >> 52 & 2047) - 1023;
    if (exponent >= bias) {
        uint16_t slow;
        kf_store(&slow, dtype, 0, value);
        return kf_load(&slow, dtype, 0);
    }
    if (exponent < 1 - bias) {
        const double ruler = subnormal_ruler(dtype);
        return copysign((fabs(value) + ruler) - ruler, value);
    }
    bits += ((uint64_t)1 << (shift - 1)) - 1 + (bits >> shift & 1);
    bits &= ~(((uint64_t)1 << shift) - 1);
    memcpy(&value, &bits, sizeof bits);
    return value;
}

void kf_round_many(kf_dtype dtype, double *value, int64_t count)
{
    if (dtype == KF_F16)
        for (int64_t i = 0; i < count; i++)
            value[i] = rounded16(value[i], 10, 15, dtype);
    else if (dtype == KF_BF16)
        for (int64_t i = 0; i < count; i++)
            value[i] = rounded16(value[i], 7, 127, dtype);
    else
        for (int64_t i = 0; i < count; i++) {
            uint64_t stored; /* room for any dtype */
            kf_store(&stored, dtype, 0, value[i]);
            value[i] = kf_load(&stored, dtype, 0);
        }
}

int64_t kf_tensor_width(const kf_tensor *tensor)
{
    return tensor->rank && tensor->size[tensor->rank - 1] > 0 ? tensor->size[tensor->rank - 1] : 1;
}

bool kf_tensor_packed(const kf_tensor *tensor)
{
    int64_t step = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->size[i] != 1 && tensor->stride[i] != step)
            return false;
        step *= tensor->size[i];
    }
    return true;
}

/* Copies element by element where the last axis is strided, else a line at once. */
static void copy_line(int size, char *to, int64_t to_stride, const char *from, int64_t from_stride,
                      int64_t count)
{
    if (to_stride == 1 && from_stride == 1) {
        memcpy(to, from, (size_t)(count * size));
        return;
    }
    for (int64_t i = 0; i < count; i++)
        memcpy(to + i * to_stride * size, from + i * from_stride * size, (size_t)size);
}

/* Calls copy_line for every stretch of a line that lies in [first, first + count). */
static void walk(const kf_tensor *tensor, char *data, int64_t first, int64_t count, char *packed,
                 bool gather)
{
    const int size = kf_dtype_bytes(tensor->dtype);
    const int64_t width = kf_tensor_width(tensor), end = first + count;
    const int64_t stride = tensor->rank && width > 1 ? tensor->stride[tensor->rank - 1] : 1;
    for (int64_t at = first; at < end;) {
        int64_t n = width - at % width;
        n = n < end - at ? n : end - at;
        char *line = data + kf_tensor_offset(tensor, at) * size,
             *place = packed + (at - first) * size;
        if (gather)
            copy_line(size, place, 1, line, stride, n);
        else
            copy_line(size, line, stride, place, 1, n);
        at += n;
    }
}

void kf_gather(const kf_tensor *tensor, const void *data, int64_t first, int64_t count,
               void *packed)
{
    if (kf_tensor_packed(tensor))
        memcpy(packed, (const char *)data + first * kf_dtype_bytes(tensor->dtype),
               (size_t)(count * kf_dtype_bytes(tensor->dtype)));
    else
        walk(tensor, (char *)(uintptr_t)data, first, count, packed, true);
}

void kf_scatter(const kf_tensor *tensor, void *data, int64_t first, int64_t count,
                const void *packed)
{
    walk(tensor, data, first, count, (char *)(uintptr_t)packed, false);
}
