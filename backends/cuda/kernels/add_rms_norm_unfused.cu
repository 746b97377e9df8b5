/* The first of the unfused steps of add_rms_norm: the sum, written out. The others are those of
 * rms_norm. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#if KF_ENTRY(add_rms_norm_add)
extern "C" __global__ void __launch_bounds__(BLOCK)
    add_rms_norm_add(const kf_storage *__restrict__ x, long long x_offset,
                     const kf_storage *__restrict__ residual, long long residual_offset,
                     kf_storage *__restrict__ residual_out, long long residual_out_offset,
                     long long rows, long long cols, long long x_stride, long long residual_stride,
                     long long residual_out_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_add(&s, x + x_offset + s.row * x_stride,
                      residual + residual_offset + s.row * residual_stride,
                      residual_out + residual_out_offset + s.row * residual_out_stride, (int)cols);
}
#endif

#if KF_ENTRY(add_rms_norm_add_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    add_rms_norm_add_cpu(const kf_storage *__restrict__ x, long long x_offset,
                         const kf_storage *__restrict__ residual, long long residual_offset,
                         kf_storage *__restrict__ residual_out, long long residual_out_offset,
                         long long rows, long long cols, long long x_stride,
                         long long residual_stride, long long residual_out_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + (int)threadIdx.x;
    if (row >= rows)
        return;
    for (long long i = 0; i < cols; i++)
        kf_store(residual_out, residual_out_offset + row * residual_out_stride + i,
                 kf_load(x, x_offset + row * x_stride + i) +
                     kf_load(residual, residual_offset + row * residual_stride + i));
}
#endif
