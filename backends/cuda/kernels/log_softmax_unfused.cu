/* The last line of log softmax the unfused way, behind the first four launches of softmax_unfused
 * (row max, subtract, exp, row sum). The same entries in opencl/kernels/log_softmax_unfused.cl.
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#if KF_ENTRY(log_softmax_subtract_log)
/* Reads M N elements and a float per thread, writes M N elements; a logarithm per thread. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    log_softmax_subtract_log(kf_storage *__restrict__ y, long long y_offset,
                             const kf_storage *__restrict__ shifted, long long shifted_offset,
                             const float *__restrict__ row_sum, long long row_sum_offset,
                             long long rows, long long cols, long long y_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_scale(&s, shifted + shifted_offset + s.row * cols,
                        y + y_offset + s.row * y_stride, (int)cols,
                        logf(row_sum[row_sum_offset + s.row]), 1.0f);
}
#endif

/* ---- the same launch and bytes without barriers: CPU devices, one row per work-item --------- */

#if KF_ENTRY(log_softmax_subtract_log_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    log_softmax_subtract_log_cpu(kf_storage *__restrict__ y, long long y_offset,
                                 const kf_storage *__restrict__ shifted, long long shifted_offset,
                                 const float *__restrict__ row_sum, long long row_sum_offset,
                                 long long rows, long long cols, long long y_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    const float log_sum = logf(row_sum[row_sum_offset + row]);
    for (int i = 0; i < (int)cols; i++)
        kf_store(y, y_offset + row * y_stride + i,
                 kf_load(shifted, shifted_offset + row * cols + i) - log_sum);
}
#endif
