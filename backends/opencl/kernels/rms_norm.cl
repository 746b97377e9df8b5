/* RMS norm of rows, y = x / sqrt(mean of x^2 + eps) (offset + weight). The same entries in
 * cuda/kernels/rms_norm.cu. How a row is held, summed and written: common/rows_norm.cl.
 *
 * rms_norm_fused, _cluster and _split: each element once, reads and writes M N elements.
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define LOCAL_BYTES 1024
#endif

#if KF_ENTRY(rms_norm_fused)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_fused(const __global kf_storage *restrict x, long x_offset,
               const __global kf_storage *restrict weight, long weight_offset,
               __global kf_storage *restrict y, long y_offset, __global float *restrict rstd,
               long rstd_offset, long rows, long cols, long x_stride, long y_stride, float eps,
               float offset)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    kf_place_row(&place, rows);
    norm_row row;
    row.x = x + x_offset + place.row * x_stride;
    row.weight = weight + weight_offset;
    row.y = y + y_offset + place.row * y_stride;
    row.rstd = rstd + rstd_offset + place.row;
    row.eps = eps;
    row.offset = offset;
    kf_place_columns(&place, row.x, cols);
    norm_on_chip(&place, &row, (int)cols, local_memory, (uint)(rows >> 62), (uint)(cols >> 62));
}
#endif

#if KF_ENTRY(rms_norm_split)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_split(const __global kf_storage *restrict x, long x_offset,
               const __global kf_storage *restrict weight, long weight_offset,
               __global kf_storage *restrict y, long y_offset, __global float *restrict rstd,
               long rstd_offset, __global ulong *slots, long slots_offset, __global uint *tickets,
               long tickets_offset, long rows, long cols, long x_stride, long y_stride, float eps,
               float offset)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    norm_row row;
    kf_place_first(&place, slots + slots_offset, tickets + tickets_offset);
#pragma unroll 1
    for (; place.row < rows; kf_place_next(&place)) {
        row.x = x + x_offset + place.row * x_stride;
        row.weight = weight + weight_offset;
        row.y = y + y_offset + place.row * y_stride;
        row.rstd = rstd + rstd_offset + place.row;
        row.eps = eps;
        row.offset = offset;
        kf_place_columns(&place, row.x, cols);
        norm_on_chip(&place, &row, (int)cols, local_memory, (uint)(rows >> 62), (uint)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(rms_norm_online)
/* Rows wider than the chip: reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_online(const __global kf_storage *restrict x, long x_offset,
                const __global kf_storage *restrict weight, long weight_offset,
                __global kf_storage *restrict y, long y_offset, __global float *restrict rstd,
                long rstd_offset, long rows, long cols, long x_stride, long y_stride, float eps,
                float offset)
{
    __local float4 slot[LOCAL_BYTES / sizeof(float4)];
    kf_place place;
    kf_place_row(&place, rows);
    norm_row row;
    row.x = x + x_offset + place.row * x_stride;
    row.weight = weight + weight_offset;
    row.y = y + y_offset + place.row * y_stride;
    row.rstd = rstd + rstd_offset + place.row;
    row.eps = eps;
    row.offset = offset;
    kf_place_columns(&place, row.x, cols);
    norm_online(&place, &row, (int)cols, slot);
}
#endif

#if KF_ENTRY(rms_norm_fused_cpu)
/* One row per work-item, walked over 2 times: requests 2 M N, of which the memory sees M N. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rms_norm_fused_cpu(const __global kf_storage *restrict x, long x_offset,
                   const __global kf_storage *restrict weight, long weight_offset,
                   __global kf_storage *restrict y, long y_offset, __global float *restrict rstd,
                   long rstd_offset, long rows, long cols, long x_stride, long y_stride, float eps,
                   float offset)
{
    const long at = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (at >= rows)
        return;
    norm_row row;
    row.x = x + x_offset + at * x_stride;
    row.weight = weight + weight_offset;
    row.y = y + y_offset + at * y_stride;
    row.rstd = rstd + rstd_offset + at;
    row.eps = eps;
    row.offset = offset;
    row.next = at + 1 < rows ? x_stride : 0;
    norm_item(&row, (int)cols);
}
#endif
