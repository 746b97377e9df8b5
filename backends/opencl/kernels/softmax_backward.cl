/* Gradient of softmax over rows: grad_x = y (grad_y - sum(y grad_y)). The same entries in
 * cuda/kernels/softmax_backward.cu.
 *
 * softmax_backward_fused holds both rows on chip, so each is read once; rows wider than that are
 * read twice by softmax_backward_online. The grid of vectors is that of y; where the other rows lie
 * otherwise modulo 16 bytes, their elements go one by one.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define LOCAL_BYTES 1024
#endif

#ifdef VECS
/* Vector v of a row part whose grid of vectors another row has laid; zeros past its end. */
static inline kf_pack softmax_backward_fetch(const __global kf_storage *from, int v, int vectors,
                                                 bool together)
{
    float value[KF_VEC];
    if (together)
        return kf_fetch_once(from, v, vectors, 0.0f);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = v < vectors ? kf_load(from, v * KF_VEC + j) : 0.0f;
    return kf_repack(value);
}

static inline float softmax_backward_dot(kf_pack y, kf_pack grad_y)
{
    float a[KF_VEC], b[KF_VEC], sum = 0.0f;
    kf_unpack(y, a);
    kf_unpack(grad_y, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        sum = fma(a[j], b[j], sum);
    return sum;
}

static inline kf_pack softmax_backward_result(kf_pack y, kf_pack grad_y, float dot,
                                                  uint zero)
{
    float a[KF_VEC], b[KF_VEC];
    kf_unpack(kf_again(y, zero), a);
    kf_unpack(kf_again(grad_y, zero), b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] *= b[j] - dot;
    return kf_repack(a);
}
#endif

#if KF_ENTRY(softmax_backward_fused)
#if LOCAL_VECS
#error "softmax_backward_fused: both rows are held in registers, LOCAL_VECS = 0"
#endif
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_fused(const __global kf_storage *restrict grad_y, long grad_y_offset,
                           const __global kf_storage *restrict y, long y_offset,
                           __global kf_storage *restrict grad_x, long grad_x_offset,
                           long rows, long cols, long grad_y_stride,
                           long y_stride, long grad_x_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    const uint zero = (uint)(rows >> 62);
    kf_place place;
    kf_held held;
    kf_pack data[VECS];
    float edge[EDGE_SLOTS], dot = 0.0f;
    kf_place_row(&place, rows);
    const __global kf_storage *const g_row = grad_y + grad_y_offset + place.row * grad_y_stride;
    const __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
    __global kf_storage *const x_row = grad_x + grad_x_offset + place.row * grad_x_stride;
    kf_place_columns(&place, y_row, cols);
    const bool in = kf_together(y_row, g_row), out = kf_together(y_row, x_row);
    held.parked = local_memory;
    kf_hold(&held, &place, y_row, 0.0f);
#pragma unroll
    for (int i = 0; i < VECS; i++)
        data[i] = softmax_backward_fetch(g_row + place.first, kf_vector(&place, i),
                                         HELD_END(&place), in);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(&place, i);
        edge[i] = column < 0 ? 0.0f : kf_load(g_row, column);
        dot = fma(held.edge[i], edge[i], dot);
    }
#pragma unroll
    for (int i = 0; i < VECS; i++)
        dot += softmax_backward_dot(held.data[i], data[i]);
    dot = kf_group_sum(dot, THREADS_PER_ROW, place.lane, (__local float *)kf_row_slots(&place, local_memory));
#pragma unroll
    for (int i = 0; i < VECS; i++)
        if (kf_has(&place, i))
            kf_row_put(&place, x_row, i,
                       softmax_backward_result(held.data[i], data[i], dot, zero), out);
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        kf_row_put_edge(&place, x_row, i, held.edge[i] * (edge[i] - dot));
}
#endif

#if KF_ENTRY(softmax_backward_online)
#if BLOCK != THREADS_PER_ROW
#error "softmax_backward_online: one row per group, BLOCK = THREADS_PER_ROW"
#endif
/* Rows wider than the chip. Reads 4 M N, writes M N elements. */
#define BACKWARD_VECS 4
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_online(const __global kf_storage *restrict grad_y, long grad_y_offset,
                            const __global kf_storage *restrict y, long y_offset,
                            __global kf_storage *restrict grad_x, long grad_x_offset,
                            long rows, long cols, long grad_y_stride,
                            long y_stride, long grad_x_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    float dot = 0.0f;
    kf_place_row(&place, rows);
    const __global kf_storage *const g_row = grad_y + grad_y_offset + place.row * grad_y_stride;
    const __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
    __global kf_storage *const x_row = grad_x + grad_x_offset + place.row * grad_x_stride;
    kf_place_columns(&place, y_row, cols);
    const bool in = kf_together(y_row, g_row), out = kf_together(y_row, x_row);
    for (int first = place.lane; first < place.vectors; first += BLOCK * BACKWARD_VECS) {
        kf_pack a[BACKWARD_VECS], b[BACKWARD_VECS];
#pragma unroll
        for (int i = 0; i < BACKWARD_VECS; i++) {
            a[i] = kf_fetch(y_row + place.first, first + i * BLOCK, place.vectors, 0.0f);
            b[i] = softmax_backward_fetch(g_row + place.first, first + i * BLOCK, place.vectors,
                                          in);
        }
#pragma unroll
        for (int i = 0; i < BACKWARD_VECS; i++)
            dot += softmax_backward_dot(a[i], b[i]);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(&place, i);
        if (column >= 0)
            dot = fma(kf_load(y_row, column), kf_load(g_row, column), dot);
    }
    dot = kf_group_sum(dot, THREADS_PER_ROW, place.lane, (__local float *)kf_row_slots(&place, local_memory));
    for (int v = place.lane; v < place.vectors; v += BLOCK) {
        const kf_pack b = softmax_backward_fetch(g_row + place.first, v, place.vectors, in);
        kf_put(x_row + place.first, v,
               softmax_backward_result(kf_load_pack(y_row + place.first, v), b, dot, 0), out);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(&place, i);
        if (column >= 0)
            kf_store(x_row, column,
                     kf_load(y_row, column) * (kf_load(g_row, column) - dot));
    }
}
#endif

/* ---- one row per work-item: CPU devices ----------------------------------------------------- */

#if KF_ENTRY(softmax_backward_fused_cpu)
/* Reads 4 M N (2 M N distinct), writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_fused_cpu(const __global kf_storage *restrict grad_y, long grad_y_offset,
                               const __global kf_storage *restrict y, long y_offset,
                               __global kf_storage *restrict grad_x, long grad_x_offset,
                               long rows, long cols, long grad_y_stride,
                               long y_stride, long grad_x_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const __global kf_storage *const g_row = grad_y + grad_y_offset + row * grad_y_stride;
    const __global kf_storage *const y_row = y + y_offset + row * y_stride;
    __global kf_storage *const x_row = grad_x + grad_x_offset + row * grad_x_stride;
    float8 wide = 0.0f;
    int i = 0;
    for (; i + 8 <= (int)cols; i += 8)
        wide += kf_load8(y_row, i) * kf_load8(g_row, i);
    float dot = kf_item_sum(wide);
    for (; i < (int)cols; i++)
        dot += kf_load(y_row, i) * kf_load(g_row, i);
    for (i = 0; i + 8 <= (int)cols; i += 8)
        kf_store8(x_row, i, kf_load8(y_row, i) * (kf_load8(g_row, i) - dot));
    for (; i < (int)cols; i++)
        kf_store(x_row, i, kf_load(y_row, i) * (kf_load(g_row, i) - dot));
}
#endif
