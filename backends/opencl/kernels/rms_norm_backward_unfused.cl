/* Backward pass of RMS norm the unfused way: one line of the formula per entry, every intermediate
 * through global memory. The sums over the rows end in rms_norm_backward_columns. The same entries
 * in cuda/kernels/rms_norm_backward_unfused.cu. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#define LOCAL_BYTES 1024
#endif

#if KF_ENTRY(rms_norm_backward_normal)
/* normal = x rstd */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_normal(const __global kf_storage *restrict x, long x_offset,
                         const __global float *restrict rstd, long rstd_offset,
                         __global kf_storage *restrict normal, long normal_offset, long rows,
                         long cols, long x_stride)
{
    kf_columns c;
    long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_normal(x + x_offset + row * x_stride, normal + normal_offset + row * cols, &c,
                         0.0f, rstd[rstd_offset + row]);
}
#endif

#if KF_ENTRY(rms_norm_backward_product)
/* product = grad_y normal */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_product(const __global kf_storage *restrict grad_y, long grad_y_offset,
                          const __global kf_storage *restrict normal, long normal_offset,
                          __global kf_storage *restrict product, long product_offset, long rows,
                          long cols, long grad_y_stride)
{
    kf_columns c;
    long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_product(grad_y + grad_y_offset + row * grad_y_stride,
                          normal + normal_offset + row * cols, 0.0f,
                          product + product_offset + row * cols, &c);
}
#endif

#if KF_ENTRY(rms_norm_backward_column_sums)
/* partials = sums of `from` over some of the rows; these from row `first` on */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_column_sums(const __global kf_storage *restrict from, long from_offset,
                              __global float *restrict partials, long partials_offset, long rows,
                              long cols, long from_stride, long first)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
    back_step_columns(from + from_offset, from_stride, partials + partials_offset + first * cols,
                      rows, cols, local_memory);
}
#endif

#if KF_ENTRY(rms_norm_backward_scaled)
/* scaled = grad_y (offset + weight) */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_scaled(const __global kf_storage *restrict grad_y, long grad_y_offset,
                         const __global kf_storage *restrict weight, long weight_offset,
                         __global kf_storage *restrict scaled, long scaled_offset, long rows,
                         long cols, long grad_y_stride, float offset)
{
    kf_columns c;
    long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_product(grad_y + grad_y_offset + row * grad_y_stride, weight + weight_offset,
                          offset, scaled + scaled_offset + row * cols, &c);
}
#endif

#if KF_ENTRY(rms_norm_backward_row_dot)
/* dot = mean of scaled normal */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_row_dot(const __global kf_storage *restrict scaled, long scaled_offset,
                          const __global kf_storage *restrict normal, long normal_offset,
                          __global float *restrict row_dot, long row_dot_offset, long rows,
                          long cols, long scaled_stride)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    kf_columns c;
    kf_columns_place(&c, 0, cols);
    const long row = (long)(uint)get_group_id(0) * ROWS_PER_GROUP + c.team;
    const bool present = row < rows;
    const long from = present ? row : 0;
    const float sum =
        back_step_row_sum(scaled + scaled_offset + from * scaled_stride,
                          normal + normal_offset + from * cols, true, &c, present, slots);
    if (present && c.lane == 0)
        row_dot[row_dot_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(rms_norm_backward_grad_x)
/* grad_x = rstd (scaled - normal dot) */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_backward_grad_x(const __global kf_storage *restrict scaled, long scaled_offset,
                         const __global float *restrict rstd, long rstd_offset,
                         __global kf_storage *restrict grad_x, long grad_x_offset,
                         const __global kf_storage *restrict normal, long normal_offset,
                         const __global float *restrict row_dot, long row_dot_offset, long rows,
                         long cols, long scaled_stride, long grad_x_stride)
{
    kf_columns c;
    long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_result(scaled + scaled_offset + row * scaled_stride,
                         normal + normal_offset + row * cols,
                         grad_x + grad_x_offset + row * grad_x_stride, &c, 0.0f,
                         row_dot[row_dot_offset + row], rstd[rstd_offset + row]);
}
#endif
