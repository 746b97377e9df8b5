/* RMS norm the unfused way: rstd from squares, times rstd, weight, every intermediate through global
 * memory. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#define LOCAL_BYTES 1024
#endif

#if KF_ENTRY(rms_norm_row_rstd)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_row_rstd(const __global kf_storage *restrict x, long x_offset,
                  __global float *restrict rstd, long rstd_offset, long rows, long cols,
                  long x_stride, float eps)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW, in_group = (int)get_local_id(0) / THREADS_PER_ROW;
    const long row = (long)(uint)get_group_id(0) * ROWS_PER_GROUP + in_group;
    const bool present = row < rows;
    const __global kf_storage *const from = x + x_offset + (present ? row : 0) * x_stride;
    float sum = norm_step_sum(from, present ? (int)cols : 0, lane, true);
    sum = kf_group_sum(sum, THREADS_PER_ROW, lane, slots + in_group * KF_SLOTS(THREADS_PER_ROW));
    if (present && lane == 0)
        rstd[rstd_offset + row] = rsqrt(sum / (float)cols + eps);
}
#endif

#if KF_ENTRY(rms_norm_scale)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_scale(const __global kf_storage *restrict x, long x_offset,
               __global kf_storage *restrict to, long to_offset,
               const __global float *restrict rstd, long rstd_offset, long rows, long cols,
               long x_stride, long to_stride)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_scale(&s, x + x_offset + s.row * x_stride,
                        to + to_offset + s.row * to_stride, (int)cols, 0.0f,
                        rstd[rstd_offset + s.row]);
}
#endif

#if KF_ENTRY(rms_norm_affine)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_affine(const __global kf_storage *restrict weight, long weight_offset,
                __global kf_storage *restrict y, long y_offset,
                const __global kf_storage *restrict normal, long normal_offset, long rows,
                long cols, long y_stride, float offset)
{
    norm_strip s;
    if (norm_strip_find(&s, rows, cols))
        norm_step_affine(&s, normal + normal_offset + s.row * cols, weight + weight_offset, 0,
                         y + y_offset + s.row * y_stride, (int)cols, offset);
}
#endif

/* ---- the same launches and bytes without barriers: CPU devices, one row per work-item ------- */

#if KF_ENTRY(rms_norm_row_rstd_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_row_rstd_cpu(const __global kf_storage *restrict x, long x_offset,
                      __global float *restrict rstd, long rstd_offset, long rows, long cols,
                      long x_stride, float eps)
{
    const long row = norm_item_row(rows);
    if (row >= 0)
        rstd[rstd_offset + row] =
            rsqrt(norm_item_step_sum(x + x_offset + row * x_stride, (int)cols, true) / (float)cols +
                  eps);
}
#endif

#if KF_ENTRY(rms_norm_scale_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_scale_cpu(const __global kf_storage *restrict x, long x_offset,
                   __global kf_storage *restrict to, long to_offset,
                   const __global float *restrict rstd, long rstd_offset, long rows, long cols,
                   long x_stride, long to_stride)
{
    const long row = norm_item_row(rows);
    if (row >= 0)
        norm_item_step_scale(x + x_offset + row * x_stride, to + to_offset + row * to_stride,
                             (int)cols, 0.0f, rstd[rstd_offset + row]);
}
#endif

#if KF_ENTRY(rms_norm_affine_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_affine_cpu(const __global kf_storage *restrict weight, long weight_offset,
                    __global kf_storage *restrict y, long y_offset,
                    const __global kf_storage *restrict normal, long normal_offset, long rows,
                    long cols, long y_stride, float offset)
{
    const long row = norm_item_row(rows);
    if (row >= 0)
        norm_item_step_affine(normal + normal_offset + row * cols, weight + weight_offset, 0,
                              y + y_offset + row * y_stride, (int)cols, offset);
}
#endif
