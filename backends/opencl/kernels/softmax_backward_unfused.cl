/* The products of the unfused gradient of softmax: y grad_y in front of, and y (grad_y - sum)
 * behind, the launches softmax_row_sum and softmax_subtract of softmax_unfused. The same entries in
 * cuda/kernels/softmax_backward_unfused.cu. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#ifdef NORM_STEPS
/* to = a b, this thread's strip of a row. */
static inline void softmax_backward_times(const norm_strip *s, const __global kf_storage *a,
                                              const __global kf_storage *b, __global kf_storage *to, int cols)
{
    kf_span span;
    kf_split(&span, a, cols);
    if (s->vector < span.vectors) {
        float value[KF_VEC], factor[KF_VEC];
        kf_unpack(kf_load_pack(a + span.head, s->vector), value);
        norm_step_columns(b, span.head + s->vector * KF_VEC, kf_together(a, b), factor);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] *= factor[j];
        kf_put(to + span.head, s->vector, kf_repack(value), kf_together(a, to));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = norm_strip_edge(s, span, i);
        if (column >= 0)
            kf_store(to, column, kf_load(a, column) * kf_load(b, column));
    }
}
#endif

#if KF_ENTRY(softmax_backward_product)
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_product(const __global kf_storage *restrict grad_y, long grad_y_offset,
                             const __global kf_storage *restrict y, long y_offset,
                             __global kf_storage *restrict product, long product_offset,
                             long rows, long cols, long grad_y_stride,
                             long y_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        softmax_backward_times(&s, y + y_offset + s.row * y_stride,
                               grad_y + grad_y_offset + s.row * grad_y_stride,
                               product + product_offset + s.row * cols, (int)cols);
}
#endif

#if KF_ENTRY(softmax_backward_multiply)
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_multiply(const __global kf_storage *restrict y, long y_offset,
                              __global kf_storage *restrict grad_x, long grad_x_offset,
                              const __global kf_storage *restrict shifted, long shifted_offset,
                              long rows, long cols, long y_stride,
                              long grad_x_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        softmax_backward_times(&s, y + y_offset + s.row * y_stride,
                               shifted + shifted_offset + s.row * cols,
                               grad_x + grad_x_offset + s.row * grad_x_stride, (int)cols);
}
#endif

/* ---- the same launches and bytes without barriers: CPU devices, one row per work-item ------- */

static inline void softmax_backward_times_cpu(const __global kf_storage *a, const __global kf_storage *b,
                                                  __global kf_storage *to, int cols)
{
    int i = 0;
    for (; i + 8 <= cols; i += 8)
        kf_store8(to, i, kf_load8(a, i) * kf_load8(b, i));
    for (; i < cols; i++)
        kf_store(to, i, kf_load(a, i) * kf_load(b, i));
}

#if KF_ENTRY(softmax_backward_product_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_product_cpu(const __global kf_storage *restrict grad_y, long grad_y_offset,
                                 const __global kf_storage *restrict y, long y_offset,
                                 __global kf_storage *restrict product, long product_offset,
                                 long rows, long cols, long grad_y_stride,
                                 long y_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row < rows)
        softmax_backward_times_cpu(y + y_offset + row * y_stride,
                                   grad_y + grad_y_offset + row * grad_y_stride,
                                   product + product_offset + row * cols, (int)cols);
}
#endif

#if KF_ENTRY(softmax_backward_multiply_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_backward_multiply_cpu(const __global kf_storage *restrict y, long y_offset,
                                  __global kf_storage *restrict grad_x, long grad_x_offset,
                                  const __global kf_storage *restrict shifted,
                                  long shifted_offset, long rows, long cols,
                                  long y_stride, long grad_x_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row < rows)
        softmax_backward_times_cpu(y + y_offset + row * y_stride,
                                   shifted + shifted_offset + row * cols,
                                   grad_x + grad_x_offset + row * grad_x_stride, (int)cols);
}
#endif
