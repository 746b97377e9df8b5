/* Eight elements at a time for entries that run one row per work-item on CPU devices, whose drivers
 * vectorise no loop inside a work-item. Any element may be the first: no alignment is asked for.
 * SPDX-License-Identifier: Apache-2.0 */

static inline float8 kf_load8(const __global kf_storage *row, long index)
{
#if KF_DTYPE == KF_F32
    return vload8(0, row + index);
#elif KF_DTYPE == KF_F16
    return vload_half8(0, (const __global half *)(row + index));
#else
    return as_float8(convert_uint8(vload8(0, row + index)) << 16);
#endif
}

static inline void kf_store8(__global kf_storage *row, long index, float8 value)
{
#if KF_DTYPE == KF_F32
    vstore8(value, 0, row + index);
#elif KF_DTYPE == KF_F16
    vstore_half8_rte(value, 0, (__global half *)(row + index));
#else
    const uint8 bits = as_uint8(value);
    const uint8 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint8 stored = value != value ? (bits >> 16) | 0x40 : rounded;
    vstore8(convert_ushort8(stored), 0, row + index);
#endif
}
