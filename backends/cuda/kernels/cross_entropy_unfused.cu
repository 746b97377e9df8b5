/* Cross entropy the unfused way, behind the first four launches of softmax_unfused (row max,
 * subtract, exp, row sum), whose arrays it reads. The same entries in
 * opencl/kernels/cross_entropy_unfused.cl. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#define SMOOTHING 1
#define Z_LOSS 1
#define MEAN 1
#endif

#if KF_ENTRY(cross_entropy_row_mean)
/* With label smoothing. Reads M N elements, writes M floats. M divisions. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    cross_entropy_row_mean(const kf_storage *__restrict__ shifted, long long shifted_offset,
                           float *__restrict__ row_mean, long long row_mean_offset, long long rows,
                           long long cols)
{
    extern __shared__ float slots[];
    const int lane = threadIdx.x % THREADS_PER_ROW, in_group = threadIdx.x / THREADS_PER_ROW;
    const long long row = (long long)blockIdx.x * ROWS_PER_GROUP + in_group;
    const bool present = row < rows;
    const kf_storage *const from = shifted + shifted_offset + (present ? row : 0) * cols;
    float sum = norm_step_sum(from, present ? (int)cols : 0, lane, false);
    sum = kf_group_sum(sum, THREADS_PER_ROW, lane, slots + in_group * KF_SLOTS(THREADS_PER_ROW));
    if (present && lane == 0)
        row_mean[row_mean_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(cross_entropy_loss)
/* A row per thread. Reads M indices, M elements and M floats (M more with Z_LOSS, M with
 * SMOOTHING), writes M floats. M logarithms. */
extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_loss(
    const long long *__restrict__ target, long long target_offset, float *__restrict__ loss,
    long long loss_offset, const float *__restrict__ row_max, long long row_max_offset,
    const kf_storage *__restrict__ shifted, long long shifted_offset,
    const float *__restrict__ row_sum, long long row_sum_offset,
    const float *__restrict__ row_mean, long long row_mean_offset, long long rows, long long cols,
    long long ignore_index, float smoothing, float z_loss)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    const long long index = target[target_offset + row];
    const bool ignored = index == ignore_index, valid = index >= 0 && index < cols;
    const float log_sum = logf(row_sum[row_sum_offset + row]);
    float away = kf_load(shifted, shifted_offset + row * cols + (valid && !ignored ? index : 0));
    if (SMOOTHING)
        away = (1.0f - smoothing) * away + smoothing * row_mean[row_mean_offset + row];
    float result = log_sum - away;
    if (Z_LOSS) {
        const float lse = row_max[row_max_offset + row] + log_sum;
        result += z_loss * lse * lse;
    }
    loss[loss_offset + row] = ignored ? 0.0f : valid ? result : KF_INFINITY - KF_INFINITY;
}
#endif

/* What an exponential is multiplied by: 1 / sum with the slope of z_loss. One division, and one
 * logarithm with Z_LOSS. */
__device__ inline float cross_entropy_scale(float sum, float max, float z_loss, float weight)
{
    return weight / sum * (Z_LOSS ? 1.0f + 2.0f * z_loss * (max + logf(sum)) : 1.0f);
}

/* Gradient from an exponential; `peak` where it is the class's. */
__device__ inline float cross_entropy_step(float power, float scale, float spread, float peak,
                                           bool ignored, bool valid)
{
    return ignored ? 0.0f : valid ? power * scale - spread - peak : KF_INFINITY - KF_INFINITY;
}

#if KF_ENTRY(cross_entropy_dlogits)
/* Reads M N elements, per thread an index and a float (one more with Z_LOSS, one with MEAN), writes
 * M N elements. Per thread: a division, a logarithm with Z_LOSS, a division with SMOOTHING. */
extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_dlogits(
    const long long *__restrict__ target, long long target_offset,
    kf_storage *__restrict__ dlogits, long long dlogits_offset, const float *__restrict__ row_max,
    long long row_max_offset, const kf_storage *__restrict__ exponentials,
    long long exponentials_offset, const float *__restrict__ row_sum, long long row_sum_offset,
    const float *__restrict__ weight, long long weight_offset, long long rows, long long cols,
    long long dlogits_stride, long long ignore_index, float smoothing, float z_loss)
{
    norm_strip s;
    if (!norm_strip_find(&s, rows, cols))
        return;
    const kf_storage *const from = exponentials + exponentials_offset + s.row * cols;
    kf_storage *const to = dlogits + dlogits_offset + s.row * dlogits_stride;
    const long long index = target[target_offset + s.row];
    const bool ignored = index == ignore_index, valid = index >= 0 && index < cols;
    const float by = MEAN ? weight[weight_offset] : 1.0f;
    const float scale =
        cross_entropy_scale(row_sum[row_sum_offset + s.row],
                            Z_LOSS ? row_max[row_max_offset + s.row] : 0.0f, z_loss, by);
    const float spread = SMOOTHING ? smoothing / (float)cols * by : 0.0f;
    const float peak = (SMOOTHING ? 1.0f - smoothing : 1.0f) * by;
    kf_span span;
    kf_split(&span, from, (int)cols);
    if (s.vector < span.vectors) {
        const int first = span.head + s.vector * KF_VEC;
        float value[KF_VEC];
        kf_unpack(kf_load_pack(from + span.head, s.vector), value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] = cross_entropy_step(value[j], scale, spread,
                                          first + j == index ? peak : 0.0f, ignored, valid);
        kf_put(to + span.head, s.vector, kf_repack(value), kf_together(from, to));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = norm_strip_edge(&s, span, i);
        if (column >= 0)
            kf_store(to, column,
                     cross_entropy_step(kf_load(from, column), scale, spread,
                                        column == index ? peak : 0.0f, ignored, valid));
    }
}
#endif

/* ---- the same launches and bytes without barriers: CPU devices, one row per work-item ------- */

#if KF_ENTRY(cross_entropy_row_mean_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    cross_entropy_row_mean_cpu(const kf_storage *__restrict__ shifted, long long shifted_offset,
                               float *__restrict__ row_mean, long long row_mean_offset,
                               long long rows, long long cols)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    float sum = 0.0f;
    for (long long i = 0; i < cols; i++)
        sum += kf_load(shifted, shifted_offset + row * cols + i);
    row_mean[row_mean_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(cross_entropy_dlogits_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK) cross_entropy_dlogits_cpu(
    const long long *__restrict__ target, long long target_offset,
    kf_storage *__restrict__ dlogits, long long dlogits_offset, const float *__restrict__ row_max,
    long long row_max_offset, const kf_storage *__restrict__ exponentials,
    long long exponentials_offset, const float *__restrict__ row_sum, long long row_sum_offset,
    const float *__restrict__ weight, long long weight_offset, long long rows, long long cols,
    long long dlogits_stride, long long ignore_index, float smoothing, float z_loss)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    const kf_storage *const from = exponentials + exponentials_offset + row * cols;
    kf_storage *const to = dlogits + dlogits_offset + row * dlogits_stride;
    const long long index = target[target_offset + row];
    const bool ignored = index == ignore_index, valid = index >= 0 && index < cols;
    const float by = MEAN ? weight[weight_offset] : 1.0f;
    const float scale =
        cross_entropy_scale(row_sum[row_sum_offset + row],
                            Z_LOSS ? row_max[row_max_offset + row] : 0.0f, z_loss, by);
    const float spread = SMOOTHING ? smoothing / (float)cols * by : 0.0f;
    const float peak = (SMOOTHING ? 1.0f - smoothing : 1.0f) * by;
    for (int i = 0; i < (int)cols; i++)
        kf_store(to, i,
                 cross_entropy_step(kf_load(from, i), scale, spread, i == index ? peak : 0.0f,
                                    ignored, valid));
}
#endif
