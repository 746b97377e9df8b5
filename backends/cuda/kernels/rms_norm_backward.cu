/* Backward pass of RMS norm: the gradients of x and, when wanted, of the weight. The same entries
 * in opencl/kernels/rms_norm_backward.cl. How rows are walked and summed:
 * common/rows_norm_backward.cu.
 *
 * rms_norm_backward_fused: each element once, reads 2 M N and writes M N elements, and one row of
 * partial sums per group. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define GROUPS_PER_UNIT 1
#endif

#ifdef CENTRING
__device__ inline void rms_norm_backward_take(back_tensors *t, const kf_storage *grad_y,
                                              const kf_storage *x, const kf_storage *weight,
                                              const float *rstd, kf_storage *grad_x)
{
    t->grad_y = grad_y;
    t->x = x;
    t->weight = weight;
    t->mean = 0;
    t->rstd = rstd;
    t->grad_x = grad_x;
    t->offset = 0.0f;
}
#endif

#if KF_ENTRY(rms_norm_backward_fused)
extern "C" __global__ void __launch_bounds__(BLOCK, GROUPS_PER_UNIT)
    rms_norm_backward_fused(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                            const kf_storage *__restrict__ x, long long x_offset,
                            const kf_storage *__restrict__ weight, long long weight_offset,
                            const float *__restrict__ rstd, long long rstd_offset,
                            kf_storage *__restrict__ grad_x, long long grad_x_offset,
                            float *__restrict__ partials, long long partials_offset, long long rows,
                            long long cols, long long grad_y_stride, long long x_stride,
                            long long grad_x_stride, float offset)
{
    extern __shared__ float local_memory[];
    back_tensors t;
    rms_norm_backward_take(&t, grad_y + grad_y_offset, x + x_offset, weight + weight_offset,
                           rstd + rstd_offset, grad_x + grad_x_offset);
    t.grad_y_stride = grad_y_stride;
    t.x_stride = x_stride;
    t.grad_x_stride = grad_x_stride;
    t.offset = offset;
    back_rows(&t, partials + partials_offset, rows, cols, local_memory, (unsigned)(rows >> 62));
}
#endif

#if KF_ENTRY(rms_norm_backward_online)
/* Rows wider than the chip: reads 4 M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK, GROUPS_PER_UNIT)
    rms_norm_backward_online(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                             const kf_storage *__restrict__ x, long long x_offset,
                             const kf_storage *__restrict__ weight, long long weight_offset,
                             const float *__restrict__ rstd, long long rstd_offset,
                             kf_storage *__restrict__ grad_x, long long grad_x_offset,
                             long long rows, long long cols, long long grad_y_stride,
                             long long x_stride, long long grad_x_stride, float offset)
{
    extern __shared__ float local_memory[];
    back_tensors t;
    rms_norm_backward_take(&t, grad_y + grad_y_offset, x + x_offset, weight + weight_offset,
                           rstd + rstd_offset, grad_x + grad_x_offset);
    t.grad_y_stride = grad_y_stride;
    t.x_stride = x_stride;
    t.grad_x_stride = grad_x_stride;
    t.offset = offset;
    back_online(&t, cols, local_memory);
}
#endif

#if KF_ENTRY(rms_norm_backward_weight)
/* Partial sums of the weight's gradient for rows wider than the chip: reads 2 M N. */
extern "C" __global__ void __launch_bounds__(BLOCK, GROUPS_PER_UNIT)
    rms_norm_backward_weight(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                             const kf_storage *__restrict__ x, long long x_offset,
                             const float *__restrict__ rstd, long long rstd_offset,
                             float *__restrict__ partials, long long partials_offset,
                             long long rows, long long cols, long long grad_y_stride,
                             long long x_stride)
{
    extern __shared__ float local_memory[];
    back_tensors t;
    rms_norm_backward_take(&t, grad_y + grad_y_offset, x + x_offset, 0, rstd + rstd_offset, 0);
    t.grad_y_stride = grad_y_stride;
    t.x_stride = x_stride;
    t.grad_x_stride = 0;
    back_columns(&t, partials + partials_offset, rows, cols, local_memory);
}
#endif

#if KF_ENTRY(rms_norm_backward_columns)
/* The second stage: partial sums to the weight's gradient. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_backward_columns(kf_storage *__restrict__ grad_weight, long long grad_weight_offset,
                              const float *__restrict__ partials, long long partials_offset,
                              long long parts, long long cols)
{
    extern __shared__ float slots[];
    kf_column_write(grad_weight + grad_weight_offset, partials + partials_offset, 0, blockIdx.x,
                    parts, cols, slots);
}
#endif

#if KF_ENTRY(rms_norm_backward_fused_cpu)
/* ROWS_PER_ITEM rows per thread, walked over 2 times: requests 4 M N, of which the memory sees
 * 2 M N. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_backward_fused_cpu(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                                const kf_storage *__restrict__ x, long long x_offset,
                                const kf_storage *__restrict__ weight, long long weight_offset,
                                const float *__restrict__ rstd, long long rstd_offset,
                                kf_storage *__restrict__ grad_x, long long grad_x_offset,
                                float *__restrict__ partials, long long partials_offset,
                                long long rows, long long cols, long long grad_y_stride,
                                long long x_stride, long long grad_x_stride, float offset)
{
    const long long item = (long long)blockIdx.x * BLOCK + (int)threadIdx.x;
    if (item * ROWS_PER_ITEM >= rows)
        return;
    back_tensors t;
    rms_norm_backward_take(&t, grad_y + grad_y_offset, x + x_offset, weight + weight_offset,
                           rstd + rstd_offset, grad_x + grad_x_offset);
    t.grad_y_stride = grad_y_stride;
    t.x_stride = x_stride;
    t.grad_x_stride = grad_x_stride;
    t.offset = offset;
    back_item(&t, partials + partials_offset, item, rows, cols);
}
#endif
