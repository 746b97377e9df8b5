/* Log softmax over rows, y = x - log sum exp x. The same entries in cuda/kernels/log_softmax.cu.
 *
 * As softmax (softmax.cu): a row is held on chip, read and written once, and
 * wider rows are read twice. The sum of the exponentials is that of
 * common/rows_lse. What is taken off every element, the logarithm of the row, is never one number:
 * base / L comes off exactly, and then the rest, so that a large offset of the row costs nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define LOCAL_BYTES 1024
#endif

#ifdef LSE
/* What comes off behind base / L. One logarithm. */
static inline float log_softmax_rest(const kf_lse *l)
{
    return fma(l->base, LSE_INVERSE_LOW, log(l->sum));
}

static inline float log_softmax_value(float value, float base, float rest)
{
    return fma(-base, LSE_INVERSE_HIGH, value) - rest;
}

static inline kf_pack log_softmax_pack(kf_pack pack, float base, float rest, uint zero)
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
static inline void log_softmax_row(const kf_place *p, const __global kf_storage *x_row,
                                       __global kf_storage *y_row, __local kf_pack *local_memory, uint zero,
                                       uint zero_again)
{
    kf_held held;
    kf_lse l;
    held.parked = local_memory;
    kf_hold(&held, p, x_row, -KF_INFINITY);
    kf_lse_open(&l);
    kf_lse_held(&l, p, &held, zero);
    kf_lse_join(&l, p, kf_row_slots(p, local_memory));
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
log_softmax_fused(const __global kf_storage *restrict x, long x_offset,
                      __global kf_storage *restrict y, long y_offset, long rows,
                      long cols, long x_stride, long y_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    kf_place_row(&place, rows);
    const __global kf_storage *const x_row = x + x_offset + place.row * x_stride;
    __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    log_softmax_row(&place, x_row, y_row, local_memory, (uint)(rows >> 62), (uint)(cols >> 62));
}
#endif

#if KF_ENTRY(log_softmax_split)
/* M x N -> M x N, a row over PARTS groups. Reads M N, writes M N elements, and two words of 64 bits
 * per part of a row. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
log_softmax_split(const __global kf_storage *restrict x, long x_offset,
                  __global kf_storage *restrict y, long y_offset, __global ulong *slots,
                  long slots_offset, __global uint *tickets, long tickets_offset, long rows,
                  long cols, long x_stride, long y_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    kf_place_first(&place, slots + slots_offset, tickets + tickets_offset);
#pragma unroll 1
    for (; place.row < rows; kf_place_next(&place)) {
        const __global kf_storage *const x_row = x + x_offset + place.row * x_stride;
        __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
        kf_place_columns(&place, x_row, cols);
        log_softmax_row(&place, x_row, y_row, local_memory, (uint)(rows >> 62),
                        (uint)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(log_softmax_online)
#if BLOCK != THREADS_PER_ROW
#error "log_softmax_online: one row per group, BLOCK = THREADS_PER_ROW"
#endif
/* Rows wider than the chip. Reads 2 M N, writes M N elements. exp2: one per element and what
 * kf_lse_row and kf_lse_join say; a logarithm per thread. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
log_softmax_online(const __global kf_storage *restrict x, long x_offset,
                       __global kf_storage *restrict y, long y_offset, long rows,
                       long cols, long x_stride, long y_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    kf_lse l;
    kf_place_row(&place, rows);
    const __global kf_storage *const x_row = x + x_offset + place.row * x_stride;
    __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    kf_lse_open(&l);
    kf_lse_row(&l, &place, x_row);
    kf_lse_join(&l, &place, kf_row_slots(&place, local_memory));
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
log_softmax_fused_cpu(const __global kf_storage *restrict x, long x_offset,
                          __global kf_storage *restrict y, long y_offset, long rows,
                          long cols, long x_stride, long y_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const __global kf_storage *const x_row = x + x_offset + row * x_stride;
    __global kf_storage *const y_row = y + y_offset + row * y_stride;
    const float max = kf_item_max(x_row, (int)cols);
    float8 wide = 0.0f;
    int i = 0;
    for (; i + 8 <= (int)cols; i += 8)
        wide += kf_exp8(kf_load8(x_row, i) - max);
    float sum = kf_item_sum(wide);
    for (; i < (int)cols; i++)
        sum += kf_item_exp(kf_load(x_row, i) - max);
    const float log_sum = log(sum);
    for (i = 0; i + 8 <= (int)cols; i += 8)
        kf_store8(y_row, i, (kf_load8(x_row, i) - max) - log_sum);
    for (; i < (int)cols; i++)
        kf_store(y_row, i, (kf_load(x_row, i) - max) - log_sum);
}
#endif
