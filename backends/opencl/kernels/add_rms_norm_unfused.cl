/* The first of the unfused steps of add_rms_norm: the sum, written out. The others are those of
 * rms_norm. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#if KF_ENTRY(add_rms_norm_add)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
add_rms_norm_add(const __global kf_storage *restrict x, long x_offset,
                 const __global kf_storage *restrict residual, long residual_offset,
                 __global kf_storage *restrict residual_out, long residual_out_offset, long rows,
                 long cols, long x_stride, long residual_stride, long residual_out_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_add(&s, x + x_offset + s.row * x_stride,
                      residual + residual_offset + s.row * residual_stride,
                      residual_out + residual_out_offset + s.row * residual_out_stride, (int)cols);
}
#endif

#if KF_ENTRY(add_rms_norm_add_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
add_rms_norm_add_cpu(const __global kf_storage *restrict x, long x_offset,
                     const __global kf_storage *restrict residual, long residual_offset,
                     __global kf_storage *restrict residual_out, long residual_out_offset,
                     long rows, long cols, long x_stride, long residual_stride,
                     long residual_out_stride)
{
    const long row = norm_item_row(rows);
    if (row >= 0)
        norm_item_step_add(x + x_offset + row * x_stride,
                           residual + residual_offset + row * residual_stride,
                           residual_out + residual_out_offset + row * residual_out_stride,
                           (int)cols);
}
#endif
