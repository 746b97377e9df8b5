/* RMS norm the unfused way: rstd from squares, times rstd, weight, every intermediate through global
 * memory. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#if KF_ENTRY(rms_norm_row_rstd)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_row_rstd(const kf_storage *__restrict__ x, long long x_offset,
                      float *__restrict__ rstd, long long rstd_offset, long long rows,
                      long long cols, long long x_stride, float eps)
{
    extern __shared__ float slots[];
    const int lane = (int)threadIdx.x % THREADS_PER_ROW, in_group = (int)threadIdx.x / THREADS_PER_ROW;
    const long long row = (long long)blockIdx.x * ROWS_PER_GROUP + in_group;
    const bool present = row < rows;
    const kf_storage *const from = x + x_offset + (present ? row : 0) * x_stride;
    float sum = norm_step_sum(from, present ? (int)cols : 0, lane, true);
    sum = kf_group_sum(sum, THREADS_PER_ROW, lane, slots + in_group * KF_SLOTS(THREADS_PER_ROW));
    if (present && lane == 0)
        rstd[rstd_offset + row] = rsqrtf(sum / (float)cols + eps);
}
#endif

#if KF_ENTRY(rms_norm_scale)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_scale(const kf_storage *__restrict__ x, long long x_offset,
                   kf_storage *__restrict__ to, long long to_offset, const float *__restrict__ rstd,
                   long long rstd_offset, long long rows, long long cols, long long x_stride,
                   long long to_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_scale(&s, x + x_offset + s.row * x_stride,
                        to + to_offset + s.row * to_stride, (int)cols, 0.0f,
                        rstd[rstd_offset + s.row]);
}
#endif

#if KF_ENTRY(rms_norm_affine)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_affine(const kf_storage *__restrict__ weight, long long weight_offset,
                    kf_storage *__restrict__ y, long long y_offset,
                    const kf_storage *__restrict__ normal, long long normal_offset, long long rows,
                    long long cols, long long y_stride, float offset)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_affine(&s, normal + normal_offset + s.row * cols, weight + weight_offset, 0,
                         y + y_offset + s.row * y_stride, (int)cols, offset);
}
#endif

/* ---- the same launches and bytes without barriers: CPU devices, one row per work-item ------- */

#if KF_ENTRY(rms_norm_row_rstd_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_row_rstd_cpu(const kf_storage *__restrict__ x, long long x_offset,
                          float *__restrict__ rstd, long long rstd_offset, long long rows,
                          long long cols, long long x_stride, float eps)
{
    const long long row = (long long)blockIdx.x * BLOCK + (int)threadIdx.x;
    if (row >= rows)
        return;
    float sum = 0.0f;
    for (long long i = 0; i < cols; i++) {
        const float value = kf_load(x, x_offset + row * x_stride + i);
        sum += value * value;
    }
    rstd[rstd_offset + row] = rsqrtf(sum / (float)cols + eps);
}
#endif

#if KF_ENTRY(rms_norm_scale_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_scale_cpu(const kf_storage *__restrict__ x, long long x_offset,
                       kf_storage *__restrict__ to, long long to_offset,
                       const float *__restrict__ rstd, long long rstd_offset, long long rows,
                       long long cols, long long x_stride, long long to_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + (int)threadIdx.x;
    if (row >= rows)
        return;
    const float scale = rstd[rstd_offset + row];
    for (long long i = 0; i < cols; i++)
        kf_store(to, to_offset + row * to_stride + i,
                 kf_load(x, x_offset + row * x_stride + i) * scale);
}
#endif

#if KF_ENTRY(rms_norm_affine_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rms_norm_affine_cpu(const kf_storage *__restrict__ weight, long long weight_offset,
                        kf_storage *__restrict__ y, long long y_offset,
                        const kf_storage *__restrict__ normal, long long normal_offset,
                        long long rows, long long cols, long long y_stride, float offset)
{
    const long long row = (long long)blockIdx.x * BLOCK + (int)threadIdx.x;
    if (row >= rows)
        return;
    for (long long i = 0; i < cols; i++)
        kf_store(y, y_offset + row * y_stride + i,
                 kf_load(normal, normal_offset + row * cols + i) *
                     (offset + kf_load(weight, weight_offset + i)));
}
#endif
