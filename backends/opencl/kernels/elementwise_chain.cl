/* A chain of multiplications and additions, a launch per operation and all in one. The same entries
 * in cuda/kernels/elementwise_chain.cu. Which work-item does what: common/row_map.cl.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#define LENGTH 3
#endif

/* ---- unfused: one kernel per operation ------------------------------------------------------ */

#if KF_ENTRY(elementwise_chain_mul)
/* Reads n, writes n elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
elementwise_chain_mul(const __global kf_storage *from, long from_offset, __global kf_storage *to,
                      long to_offset, long rows, long cols, float factor)
{
    kf_piece piece;
    float v[KF_VEC];
    if (!kf_piece_place(&piece, from + from_offset, rows, cols, 0))
        return;
    kf_unpack(kf_piece_fetch(&piece, from + from_offset, 0), v);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        v[j] *= factor;
    kf_piece_put(&piece, to + to_offset, 0, v);
}
#endif

#if KF_ENTRY(elementwise_chain_add)
/* Reads n, writes n elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
elementwise_chain_add(const __global kf_storage *from, long from_offset, __global kf_storage *to,
                      long to_offset, long rows, long cols, float summand)
{
    kf_piece piece;
    float v[KF_VEC];
    if (!kf_piece_place(&piece, from + from_offset, rows, cols, 0))
        return;
    kf_unpack(kf_piece_fetch(&piece, from + from_offset, 0), v);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        v[j] += summand;
    kf_piece_put(&piece, to + to_offset, 0, v);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#ifdef LENGTH
/* Step k of 1, 2, ...: an odd one multiplies, an even one adds. */
#define CHAIN_FACTOR(k) (1.0f + (k) * (1.0f / 64))
#define CHAIN_SUMMAND(k) ((k) * (1.0f / 8))

static inline float elementwise_chain_of(float v)
{
#pragma unroll
    for (int k = 1; k <= LENGTH; k++)
        v = k % 2 ? v * CHAIN_FACTOR(k) : v + CHAIN_SUMMAND(k);
    return v;
}

static inline float8 elementwise_chain_of8(float8 v)
{
#pragma unroll
    for (int k = 1; k <= LENGTH; k++)
        v = k % 2 ? v * CHAIN_FACTOR(k) : v + CHAIN_SUMMAND(k);
    return v;
}
#endif

#if KF_ENTRY(elementwise_chain_fused)
/* Reads n, writes n elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
elementwise_chain_fused(const __global kf_storage *x, long x_offset, __global kf_storage *y,
                        long y_offset, long rows, long cols)
{
    kf_piece piece;
    float v[KF_VEC];
    if (!kf_piece_place(&piece, x + x_offset, rows, cols, 0))
        return;
    kf_unpack(kf_piece_fetch(&piece, x + x_offset, 0), v);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        v[j] = elementwise_chain_of(v[j]);
    kf_piece_put(&piece, y + y_offset, 0, v);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch per work-item ----------------------- */

#if KF_ENTRY(elementwise_chain_mul_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
elementwise_chain_mul_cpu(const __global kf_storage *from, long from_offset,
                          __global kf_storage *to, long to_offset, long rows, long cols,
                          float factor)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const source = from + from_offset;
    __global kf_storage *const target = to + to_offset;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(target, i, kf_load8(source, i) * factor);
    for (; i < s.end; i++)
        kf_store(target, i, kf_load(source, i) * factor);
}
#endif

#if KF_ENTRY(elementwise_chain_add_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
elementwise_chain_add_cpu(const __global kf_storage *from, long from_offset,
                          __global kf_storage *to, long to_offset, long rows, long cols,
                          float summand)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const source = from + from_offset;
    __global kf_storage *const target = to + to_offset;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(target, i, kf_load8(source, i) + summand);
    for (; i < s.end; i++)
        kf_store(target, i, kf_load(source, i) + summand);
}
#endif

#if KF_ENTRY(elementwise_chain_fused_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
elementwise_chain_fused_cpu(const __global kf_storage *x, long x_offset, __global kf_storage *y,
                            long y_offset, long rows, long cols)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const source = x + x_offset;
    __global kf_storage *const target = y + y_offset;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(target, i, elementwise_chain_of8(kf_load8(source, i)));
    for (; i < s.end; i++)
        kf_store(target, i, elementwise_chain_of(kf_load(source, i)));
}
#endif
