/* The last line of log softmax the unfused way, behind the first four launches of softmax_unfused
 * (row max, subtract, exp, row sum). The same entries in cuda/kernels/log_softmax_unfused.cu.
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#if KF_ENTRY(log_softmax_subtract_log)
/* Reads M N elements and a float per thread, writes M N elements; a logarithm per thread. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
log_softmax_subtract_log(__global kf_storage *restrict y, long y_offset,
                             const __global kf_storage *restrict shifted, long shifted_offset,
                             const __global float *restrict row_sum, long row_sum_offset,
                             long rows, long cols, long y_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_scale(&s, shifted + shifted_offset + s.row * cols,
                        y + y_offset + s.row * y_stride, (int)cols,
                        log(row_sum[row_sum_offset + s.row]), 1.0f);
}
#endif

/* ---- the same launch and bytes without barriers: CPU devices, one row per work-item --------- */

#if KF_ENTRY(log_softmax_subtract_log_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
log_softmax_subtract_log_cpu(__global kf_storage *restrict y, long y_offset,
                                 const __global kf_storage *restrict shifted, long shifted_offset,
                                 const __global float *restrict row_sum, long row_sum_offset,
                                 long rows, long cols, long y_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const float log_sum = log(row_sum[row_sum_offset + row]);
    int i = 0;
    for (; i + 8 <= (int)cols; i += 8)
        kf_store8(y, y_offset + row * y_stride + i,
                  kf_load8(shifted, shifted_offset + row * cols + i) - log_sum);
    for (; i < (int)cols; i++)
        kf_store(y, y_offset + row * y_stride + i,
                 kf_load(shifted, shifted_offset + row * cols + i) - log_sum);
}
#endif
