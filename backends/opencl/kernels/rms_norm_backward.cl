/* Backward pass of RMS norm: the gradients of x and, when wanted, of the weight. The same entries in
 * cuda/kernels/rms_norm_backward.cu. How rows are walked and summed: common/rows_norm_backward.cl.
 *
 * rms_norm_backward_fused: each element once, reads 2 M N and writes M N elements, and one row of
 * partial sums per group. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define GROUPS_PER_UNIT 1
#define LOCAL_BYTES 1024
#endif

#ifdef CENTRING
static inline void
rms_norm_backward_take(back_tensors *t, const __global kf_storage *grad_y,
                       const __global kf_storage *x, const __global kf_storage *weight,
                       const __global float *rstd, __global kf_storage *grad_x)
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_fused(const __global kf_storage *restrict grad_y, long grad_y_offset,
                        const __global kf_storage *restrict x, long x_offset,
                        const __global kf_storage *restrict weight, long weight_offset,
                        const __global float *restrict rstd, long rstd_offset,
                        __global kf_storage *restrict grad_x, long grad_x_offset,
                        __global float *restrict partials, long partials_offset, long rows,
                        long cols, long grad_y_stride, long x_stride, long grad_x_stride,
                        float offset)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
    back_tensors t;
    rms_norm_backward_take(&t, grad_y + grad_y_offset, x + x_offset, weight + weight_offset,
                           rstd + rstd_offset, grad_x + grad_x_offset);
    t.grad_y_stride = grad_y_stride;
    t.x_stride = x_stride;
    t.grad_x_stride = grad_x_stride;
    t.offset = offset;
    back_rows(&t, partials + partials_offset, rows, cols, local_memory, (uint)(rows >> 62));
}
#endif

#if KF_ENTRY(rms_norm_backward_online)
/* Rows wider than the chip: reads 4 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_online(const __global kf_storage *restrict grad_y, long grad_y_offset,
                         const __global kf_storage *restrict x, long x_offset,
                         const __global kf_storage *restrict weight, long weight_offset,
                         const __global float *restrict rstd, long rstd_offset,
                         __global kf_storage *restrict grad_x, long grad_x_offset, long rows,
                         long cols, long grad_y_stride, long x_stride, long grad_x_stride,
                         float offset)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_weight(const __global kf_storage *restrict grad_y, long grad_y_offset,
                         const __global kf_storage *restrict x, long x_offset,
                         const __global float *restrict rstd, long rstd_offset,
                         __global float *restrict partials, long partials_offset, long rows,
                         long cols, long grad_y_stride, long x_stride)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_columns(__global kf_storage *restrict grad_weight, long grad_weight_offset,
                          const __global float *restrict partials, long partials_offset, long parts,
                          long cols)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    kf_column_write(grad_weight + grad_weight_offset, partials + partials_offset, 0,
                    (uint)get_group_id(0), parts, cols, slots);
}
#endif

#if KF_ENTRY(rms_norm_backward_fused_cpu)
/* ROWS_PER_ITEM rows per work-item, walked over 2 times: requests 4 M N, of which the memory sees
 * 2 M N. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_fused_cpu(const __global kf_storage *restrict grad_y, long grad_y_offset,
                            const __global kf_storage *restrict x, long x_offset,
                            const __global kf_storage *restrict weight, long weight_offset,
                            const __global float *restrict rstd, long rstd_offset,
                            __global kf_storage *restrict grad_x, long grad_x_offset,
                            __global float *restrict partials, long partials_offset, long rows,
                            long cols, long grad_y_stride, long x_stride, long grad_x_stride,
                            float offset)
{
    const long item = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
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
