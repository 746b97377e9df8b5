/* Backward pass of layer norm the unfused way: one line of the formula per entry, every
 * intermediate through global memory. The sums over the rows end in layer_norm_backward_columns.
 * The same entries in opencl/kernels/layer_norm_backward_unfused.cl. SPDX-License-Identifier:
 * Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

#if KF_ENTRY(layer_norm_backward_normal)
/* normal = (x - mean) rstd */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_normal(const kf_storage *__restrict__ x, long long x_offset,
                               const float *__restrict__ mean, long long mean_offset,
                               const float *__restrict__ rstd, long long rstd_offset,
                               kf_storage *__restrict__ normal, long long normal_offset,
                               long long rows, long long cols, long long x_stride)
{
    kf_columns c;
    long long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_normal(x + x_offset + row * x_stride, normal + normal_offset + row * cols, &c,
                         mean[mean_offset + row], rstd[rstd_offset + row]);
}
#endif

#if KF_ENTRY(layer_norm_backward_product)
/* product = grad_y normal */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_product(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                                const kf_storage *__restrict__ normal, long long normal_offset,
                                kf_storage *__restrict__ product, long long product_offset,
                                long long rows, long long cols, long long grad_y_stride)
{
    kf_columns c;
    long long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_product(grad_y + grad_y_offset + row * grad_y_stride,
                          normal + normal_offset + row * cols, 0.0f,
                          product + product_offset + row * cols, &c);
}
#endif

#if KF_ENTRY(layer_norm_backward_column_sums)
/* partials = sums of `from` over some of the rows; these from row `first` on */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_column_sums(const kf_storage *__restrict__ from, long long from_offset,
                                    float *__restrict__ partials, long long partials_offset,
                                    long long rows, long long cols, long long from_stride,
                                    long long first)
{
    extern __shared__ float local_memory[];
    back_step_columns(from + from_offset, from_stride, partials + partials_offset + first * cols,
                      rows, cols, local_memory);
}
#endif

#if KF_ENTRY(layer_norm_backward_scaled)
/* scaled = grad_y weight */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_scaled(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                               const kf_storage *__restrict__ weight, long long weight_offset,
                               kf_storage *__restrict__ scaled, long long scaled_offset,
                               long long rows, long long cols, long long grad_y_stride)
{
    kf_columns c;
    long long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_product(grad_y + grad_y_offset + row * grad_y_stride, weight + weight_offset,
                          0.0f, scaled + scaled_offset + row * cols, &c);
}
#endif

#if KF_ENTRY(layer_norm_backward_row_mean)
/* row_mean = mean of scaled */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_row_mean(const kf_storage *__restrict__ scaled, long long scaled_offset,
                                 float *__restrict__ row_mean, long long row_mean_offset,
                                 long long rows, long long cols, long long scaled_stride)
{
    extern __shared__ float slots[];
    kf_columns c;
    kf_columns_place(&c, 0, cols);
    const long long row = (long long)blockIdx.x * ROWS_PER_GROUP + c.team;
    const bool present = row < rows;
    const kf_storage *const from = scaled + scaled_offset + (present ? row : 0) * scaled_stride;
    const float sum = back_step_row_sum(from, from, false, &c, present, slots);
    if (present && c.lane == 0)
        row_mean[row_mean_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(layer_norm_backward_row_dot)
/* dot = mean of scaled normal */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_row_dot(const kf_storage *__restrict__ scaled, long long scaled_offset,
                                const kf_storage *__restrict__ normal, long long normal_offset,
                                float *__restrict__ row_dot, long long row_dot_offset,
                                long long rows, long long cols, long long scaled_stride)
{
    extern __shared__ float slots[];
    kf_columns c;
    kf_columns_place(&c, 0, cols);
    const long long row = (long long)blockIdx.x * ROWS_PER_GROUP + c.team;
    const bool present = row < rows;
    const long long from = present ? row : 0;
    const float sum =
        back_step_row_sum(scaled + scaled_offset + from * scaled_stride,
                          normal + normal_offset + from * cols, true, &c, present, slots);
    if (present && c.lane == 0)
        row_dot[row_dot_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(layer_norm_backward_grad_x)
/* grad_x = rstd (scaled - row_mean - normal row_dot) */
extern "C" __global__ void __launch_bounds__(BLOCK)
    layer_norm_backward_grad_x(const kf_storage *__restrict__ scaled, long long scaled_offset,
                               const float *__restrict__ rstd, long long rstd_offset,
                               kf_storage *__restrict__ grad_x, long long grad_x_offset,
                               const kf_storage *__restrict__ normal, long long normal_offset,
                               const float *__restrict__ row_mean, long long row_mean_offset,
                               const float *__restrict__ row_dot, long long row_dot_offset,
                               long long rows, long long cols, long long scaled_stride,
                               long long grad_x_stride)
{
    kf_columns c;
    long long row;
    if (back_step_place(&c, &row, rows, cols))
        back_step_result(
            scaled + scaled_offset + row * scaled_stride, normal + normal_offset + row * cols,
            grad_x + grad_x_offset + row * grad_x_stride, &c, row_mean[row_mean_offset + row],
            row_dot[row_dot_offset + row], rstd[rstd_offset + row]);
}
#endif
