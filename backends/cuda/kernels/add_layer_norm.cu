/* residual_out = x + residual, y = its layer norm. The same entries in
 * opencl/kernels/add_layer_norm.cl. How a row is held, summed and written: common/rows_norm.cu.
 *
 * add_layer_norm_fused, _cluster and _split: each element once, reads 2 M N and writes 2 M N elements.
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#endif

#if KF_ENTRY(add_layer_norm_fused)
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    add_layer_norm_fused(const kf_storage *__restrict__ x, long long x_offset,
                         const kf_storage *__restrict__ residual, long long residual_offset,
                         const kf_storage *__restrict__ weight, long long weight_offset,
                         const kf_storage *__restrict__ bias, long long bias_offset,
                         kf_storage *__restrict__ y, long long y_offset,
                         kf_storage *__restrict__ residual_out, long long residual_out_offset,
                         float *__restrict__ mean, long long mean_offset, float *__restrict__ rstd,
                         long long rstd_offset, long long rows, long long cols, long long x_stride,
                         long long residual_stride, long long y_stride,
                         long long residual_out_stride, float eps)
{
    extern __shared__ kf_pack local_memory[];
    kf_place place;
    kf_place_row(&place, rows);
    norm_row row;
    row.x = x + x_offset + place.row * x_stride;
    row.residual = residual + residual_offset + place.row * residual_stride;
    row.weight = weight + weight_offset;
    row.bias = bias + bias_offset;
    row.y = y + y_offset + place.row * y_stride;
    row.residual_out = residual_out + residual_out_offset + place.row * residual_out_stride;
    row.mean = mean + mean_offset + place.row;
    row.rstd = rstd + rstd_offset + place.row;
    row.eps = eps;
    row.offset = 0.0f;
    kf_place_columns(&place, row.x, cols);
    norm_on_chip(&place, &row, (int)cols, local_memory, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
}
#endif

#if KF_ENTRY(add_layer_norm_cluster)
//: only cuda: clusters
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    add_layer_norm_cluster(const kf_storage *__restrict__ x, long long x_offset,
                           const kf_storage *__restrict__ residual, long long residual_offset,
                           const kf_storage *__restrict__ weight, long long weight_offset,
                           const kf_storage *__restrict__ bias, long long bias_offset,
                           kf_storage *__restrict__ y, long long y_offset,
                           kf_storage *__restrict__ residual_out, long long residual_out_offset,
                           float *__restrict__ mean, long long mean_offset,
                           float *__restrict__ rstd, long long rstd_offset, long long rows,
                           long long cols, long long x_stride, long long residual_stride,
                           long long y_stride, long long residual_out_stride, float eps)
{
    extern __shared__ kf_pack local_memory[];
    kf_place place;
    kf_place_row(&place, rows);
    kf_slots_open(kf_row_slots(&place, local_memory));
    kf_cluster_arrive();
    norm_row row;
    row.x = x + x_offset + place.row * x_stride;
    row.residual = residual + residual_offset + place.row * residual_stride;
    row.weight = weight + weight_offset;
    row.bias = bias + bias_offset;
    row.y = y + y_offset + place.row * y_stride;
    row.residual_out = residual_out + residual_out_offset + place.row * residual_out_stride;
    row.mean = mean + mean_offset + place.row;
    row.rstd = rstd + rstd_offset + place.row;
    row.eps = eps;
    row.offset = 0.0f;
    kf_place_columns(&place, row.x, cols);
    norm_on_chip(&place, &row, (int)cols, local_memory, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
}
#endif

#if KF_ENTRY(add_layer_norm_split)
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    add_layer_norm_split(const kf_storage *__restrict__ x, long long x_offset,
                         const kf_storage *__restrict__ residual, long long residual_offset,
                         const kf_storage *__restrict__ weight, long long weight_offset,
                         const kf_storage *__restrict__ bias, long long bias_offset,
                         kf_storage *__restrict__ y, long long y_offset,
                         kf_storage *__restrict__ residual_out, long long residual_out_offset,
                         float *__restrict__ mean, long long mean_offset, float *__restrict__ rstd,
                         long long rstd_offset, unsigned long long *slots, long long slots_offset,
                         unsigned *tickets, long long tickets_offset, long long rows,
                         long long cols, long long x_stride, long long residual_stride,
                         long long y_stride, long long residual_out_stride, float eps)
{
    extern __shared__ kf_pack local_memory[];
    kf_place place;
    norm_row row;
    kf_place_first(&place, slots + slots_offset, tickets + tickets_offset);
#pragma unroll 1
    for (; place.row < rows; kf_place_next(&place)) {
        row.x = x + x_offset + place.row * x_stride;
        row.residual = residual + residual_offset + place.row * residual_stride;
        row.weight = weight + weight_offset;
        row.bias = bias + bias_offset;
        row.y = y + y_offset + place.row * y_stride;
        row.residual_out = residual_out + residual_out_offset + place.row * residual_out_stride;
        row.mean = mean + mean_offset + place.row;
        row.rstd = rstd + rstd_offset + place.row;
        row.eps = eps;
        row.offset = 0.0f;
        kf_place_columns(&place, row.x, cols);
        norm_on_chip(&place, &row, (int)cols, local_memory,
                     (unsigned)(rows >> 62), (unsigned)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(add_layer_norm_online)
/* Rows wider than the chip: reads 4 M N, writes 2 M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    add_layer_norm_online(const kf_storage *__restrict__ x, long long x_offset,
                          const kf_storage *__restrict__ residual, long long residual_offset,
                          const kf_storage *__restrict__ weight, long long weight_offset,
                          const kf_storage *__restrict__ bias, long long bias_offset,
                          kf_storage *__restrict__ y, long long y_offset,
                          kf_storage *__restrict__ residual_out, long long residual_out_offset,
                          float *__restrict__ mean, long long mean_offset, float *__restrict__ rstd,
                          long long rstd_offset, long long rows, long long cols, long long x_stride,
                          long long residual_stride, long long y_stride,
                          long long residual_out_stride, float eps)
{
    extern __shared__ float4 slot[];
    kf_place place;
    kf_place_row(&place, rows);
    norm_row row;
    row.x = x + x_offset + place.row * x_stride;
    row.residual = residual + residual_offset + place.row * residual_stride;
    row.weight = weight + weight_offset;
    row.bias = bias + bias_offset;
    row.y = y + y_offset + place.row * y_stride;
    row.residual_out = residual_out + residual_out_offset + place.row * residual_out_stride;
    row.mean = mean + mean_offset + place.row;
    row.rstd = rstd + rstd_offset + place.row;
    row.eps = eps;
    row.offset = 0.0f;
    kf_place_columns(&place, row.x, cols);
    norm_online(&place, &row, (int)cols, slot);
}
#endif

#if KF_ENTRY(add_layer_norm_fused_cpu)
/* One row per thread, walked over 3 times: requests 3 (2 M N), of which the memory sees 2 M N. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    add_layer_norm_fused_cpu(const kf_storage *__restrict__ x, long long x_offset,
                             const kf_storage *__restrict__ residual, long long residual_offset,
                             const kf_storage *__restrict__ weight, long long weight_offset,
                             const kf_storage *__restrict__ bias, long long bias_offset,
                             kf_storage *__restrict__ y, long long y_offset,
                             kf_storage *__restrict__ residual_out, long long residual_out_offset,
                             float *__restrict__ mean, long long mean_offset,
                             float *__restrict__ rstd, long long rstd_offset, long long rows,
                             long long cols, long long x_stride, long long residual_stride,
                             long long y_stride, long long residual_out_stride, float eps)
{
    const long long at = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (at >= rows)
        return;
    norm_row row;
    row.x = x + x_offset + at * x_stride;
    row.residual = residual + residual_offset + at * residual_stride;
    row.weight = weight + weight_offset;
    row.bias = bias + bias_offset;
    row.y = y + y_offset + at * y_stride;
    row.residual_out = residual_out + residual_out_offset + at * residual_out_stride;
    row.mean = mean + mean_offset + at;
    row.rstd = rstd + rstd_offset + at;
    row.eps = eps;
    row.offset = 0.0f;
    norm_item(&row, (int)cols);
}
#endif
