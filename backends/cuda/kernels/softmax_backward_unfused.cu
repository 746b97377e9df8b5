/* The products of the unfused gradient of softmax: y grad_y in front of, and y (grad_y - sum)
 * behind, the launches softmax_row_sum and softmax_subtract of softmax_unfused. The same entries in
 * opencl/kernels/softmax_backward_unfused.cl. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#ifdef NORM_STEPS
/* to = a b, this thread's strip of a row. */
__device__ inline void softmax_backward_times(const norm_strip *s, const kf_storage *a,
                                              const kf_storage *b, kf_storage *to, int cols)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    softmax_backward_product(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                             const kf_storage *__restrict__ y, long long y_offset,
                             kf_storage *__restrict__ product, long long product_offset,
                             long long rows, long long cols, long long grad_y_stride,
                             long long y_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    softmax_backward_multiply(const kf_storage *__restrict__ y, long long y_offset,
                              kf_storage *__restrict__ grad_x, long long grad_x_offset,
                              const kf_storage *__restrict__ shifted, long long shifted_offset,
                              long long rows, long long cols, long long y_stride,
                              long long grad_x_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        softmax_backward_times(&s, y + y_offset + s.row * y_stride,
                               shifted + shifted_offset + s.row * cols,
                               grad_x + grad_x_offset + s.row * grad_x_stride, (int)cols);
}
#endif

/* ---- the same launches and bytes without barriers: CPU devices, one row per work-item ------- */

__device__ inline void softmax_backward_times_cpu(const kf_storage *a, const kf_storage *b,
                                                  kf_storage *to, int cols)
{
    for (int i = 0; i < cols; i++)
        kf_store(to, i, kf_load(a, i) * kf_load(b, i));
}

#if KF_ENTRY(softmax_backward_product_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    softmax_backward_product_cpu(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                                 const kf_storage *__restrict__ y, long long y_offset,
                                 kf_storage *__restrict__ product, long long product_offset,
                                 long long rows, long long cols, long long grad_y_stride,
                                 long long y_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row < rows)
        softmax_backward_times_cpu(y + y_offset + row * y_stride,
                                   grad_y + grad_y_offset + row * grad_y_stride,
                                   product + product_offset + row * cols, (int)cols);
}
#endif

#if KF_ENTRY(softmax_backward_multiply_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    softmax_backward_multiply_cpu(const kf_storage *__restrict__ y, long long y_offset,
                                  kf_storage *__restrict__ grad_x, long long grad_x_offset,
                                  const kf_storage *__restrict__ shifted,
                                  long long shifted_offset, long long rows, long long cols,
                                  long long y_stride, long long grad_x_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row < rows)
        softmax_backward_times_cpu(y + y_offset + row * y_stride,
                                   shifted + shifted_offset + row * cols,
                                   grad_x + grad_x_offset + row * grad_x_stride, (int)cols);
}
#endif
