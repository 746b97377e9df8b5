/* Log softmax over rows, y = x - log sum exp x. The same entries in opencl/kernels/log_softmax.cl.
 *
 * As softmax (softmax.cu): a row is held on chip, read and written once; a cluster of groups holds a
 * longer one, and rows wider than that are read twice. The sum of the exponentials is that of
 * common/rows_lse. What is taken off every element, the logarithm of the row, is never one number:
 * base / L comes off exactly, and then the rest, so that a large offset of the row costs nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#endif

#ifdef LSE
/* What comes off behind base / L. One logarithm. */
__device__ inline float log_softmax_rest(const kf_lse *l)
{
    return fmaf(l->base, LSE_INVERSE_LOW, logf(l->sum));
}

__device__ inline float log_softmax_value(float value, float base, float rest)
{
    return fmaf(-base, LSE_INVERSE_HIGH, value) - rest;
}

__device__ inline kf_pack log_softmax_pack(kf_pack pack, float base, float rest, unsigned zero)
{
    float value[KF_VEC];
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = log_softmax_value(value[j], base, rest);
    return kf_repack(value);
}

/* A row, or a part of one, from its load to its store. exp2: one per element and what kf_lse_held
 * and kf_lse_join say; a logarithm per thread. */
__device__ inline void log_softmax_row(const kf_place *p, const kf_storage *x_row,
                                       kf_storage *y_row, kf_pack *local, unsigned zero,
                                       unsigned zero_again)
{
    kf_held held;
    kf_lse l;
    held.parked = local;
    kf_hold(&held, p, x_row, -KF_INFINITY);
    kf_lse_open(&l);
    kf_lse_held(&l, p, &held, zero);
    kf_lse_join(&l, p, kf_row_slots(p, local));
    const float rest = log_softmax_rest(&l);
    const bool together = kf_together(x_row, y_row);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        if (kf_has(p, i))
            kf_row_put(p, y_row, i, log_softmax_pack(held.data[i], l.base, rest, zero_again),
                       together);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        if (kf_has(p, REGISTER_VECS + i))
            kf_row_put(p, y_row, REGISTER_VECS + i,
                       log_softmax_pack(*kf_parked(&held, i), l.base, rest, zero_again), together);
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        kf_row_put_edge(p, y_row, i, log_softmax_value(held.edge[i], l.base, rest));
}
#endif

#if KF_ENTRY(log_softmax_fused)
/* M x N -> M x N. Reads M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    log_softmax_fused(const kf_storage *__restrict__ x, long long x_offset,
                      kf_storage *__restrict__ y, long long y_offset, long long rows,
                      long long cols, long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_place_row(&place, rows);
    const kf_storage *const x_row = x + x_offset + place.row * x_stride;
    kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    log_softmax_row(&place, x_row, y_row, local, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
}
#endif

#if KF_ENTRY(log_softmax_cluster)
//: only cuda: clusters
/* M x N -> M x N, a row over CLUSTER groups. Reads M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    log_softmax_cluster(const kf_storage *__restrict__ x, long long x_offset,
                        kf_storage *__restrict__ y, long long y_offset, long long rows,
                        long long cols, long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_place_row(&place, rows);
    kf_slots_open(kf_row_slots(&place, local));
    kf_cluster_arrive();
    const kf_storage *const x_row = x + x_offset + place.row * x_stride;
    kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    log_softmax_row(&place, x_row, y_row, local, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
}
#endif

#if KF_ENTRY(log_softmax_split)
/* M x N -> M x N, a row over PARTS groups. Reads M N, writes M N elements, and two words of 64 bits
 * per part of a row. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    log_softmax_split(const kf_storage *__restrict__ x, long long x_offset,
                      kf_storage *__restrict__ y, long long y_offset, unsigned long long *slots,
                      long long slots_offset, unsigned *tickets, long long tickets_offset,
                      long long rows, long long cols, long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_place_first(&place, slots + slots_offset, tickets + tickets_offset);
#pragma unroll 1
    for (; place.row < rows; kf_place_next(&place)) {
        const kf_storage *const x_row = x + x_offset + place.row * x_stride;
        kf_storage *const y_row = y + y_offset + place.row * y_stride;
        kf_place_columns(&place, x_row, cols);
        log_softmax_row(&place, x_row, y_row, local, (unsigned)(rows >> 62),
                        (unsigned)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(log_softmax_online)
#if BLOCK != THREADS_PER_ROW
#error "log_softmax_online: one row per group, BLOCK = THREADS_PER_ROW"
#endif
/* Rows wider than the chip. Reads 2 M N, writes M N elements. exp2: one per element and what
 * kf_lse_row and kf_lse_join say; a logarithm per thread. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    log_softmax_online(const kf_storage *__restrict__ x, long long x_offset,
                       kf_storage *__restrict__ y, long long y_offset, long long rows,
                       long long cols, long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_lse l;
    kf_place_row(&place, rows);
    const kf_storage *const x_row = x + x_offset + place.row * x_stride;
    kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    kf_lse_open(&l);
    kf_lse_row(&l, &place, x_row);
    kf_lse_join(&l, &place, kf_row_slots(&place, local));
    const float rest = log_softmax_rest(&l);
    const bool together = kf_together(x_row, y_row);
    for (int v = place.lane; v < place.vectors; v += BLOCK)
        kf_put(y_row + place.first, v,
               log_softmax_pack(kf_load_pack(x_row + place.first, v), l.base, rest, 0), together);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(&place, i);
        if (column >= 0)
            kf_store(y_row, column, log_softmax_value(kf_load(x_row, column), l.base, rest));
    }
}
#endif

/* ---- one row per work-item: CPU devices ----------------------------------------------------- */

#if KF_ENTRY(log_softmax_fused_cpu)
/* Reads 3 M N (M N distinct), writes M N elements. Per row: one logarithm; exponentials are
 * arithmetic. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    log_softmax_fused_cpu(const kf_storage *__restrict__ x, long long x_offset,
                          kf_storage *__restrict__ y, long long y_offset, long long rows,
                          long long cols, long long x_stride, long long y_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    const kf_storage *const x_row = x + x_offset + row * x_stride;
    kf_storage *const y_row = y + y_offset + row * y_stride;
    const float max = kf_item_max(x_row, (int)cols);
    float sum = 0.0f;
    for (int i = 0; i < (int)cols; i++)
        sum += kf_item_exp(kf_load(x_row, i) - max);
    const float log_sum = logf(sum);
    for (int i = 0; i < (int)cols; i++)
        kf_store(y_row, i, (kf_load(x_row, i) - max) - log_sum);
}
#endif
