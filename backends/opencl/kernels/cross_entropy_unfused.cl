/* Cross entropy the unfused way, behind the first four launches of softmax_unfused (row max,
 * subtract, exp, row sum), whose arrays it reads. The same entries in
 * cuda/kernels/cross_entropy_unfused.cu. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#define LOCAL_BYTES 1024
#define SMOOTHING 1
#define Z_LOSS 1
#define MEAN 1
#endif

#if KF_ENTRY(cross_entropy_row_mean)
/* With label smoothing. Reads M N elements, writes M floats. M divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    cross_entropy_row_mean(const __global kf_storage *restrict shifted, long shifted_offset,
                           __global float *restrict row_mean, long row_mean_offset, long rows,
                           long cols)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW, in_group = (int)get_local_id(0) / THREADS_PER_ROW;
    const long row = (long)get_group_id(0) * ROWS_PER_GROUP + in_group;
    const bool present = row < rows;
    const __global kf_storage *const from = shifted + shifted_offset + (present ? row : 0) * cols;
    float sum = norm_step_sum(from, present ? (int)cols : 0, lane, false);
    sum = kf_group_sum(sum, THREADS_PER_ROW, lane, slots + in_group * KF_SLOTS(THREADS_PER_ROW));
    if (present && lane == 0)
        row_mean[row_mean_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(cross_entropy_loss)
/* A row per thread. Reads M indices, M elements and M floats (M more with Z_LOSS, M with
 * SMOOTHING), writes M floats. M logarithms. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void cross_entropy_loss(
    const __global long *restrict target, long target_offset, __global float *restrict loss,
    long loss_offset, const __global float *restrict row_max, long row_max_offset,
    const __global kf_storage *restrict shifted, long shifted_offset,
    const __global float *restrict row_sum, long row_sum_offset,
    const __global float *restrict row_mean, long row_mean_offset, long rows, long cols,
    long ignore_index, float smoothing, float z_loss)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const long index = target[target_offset + row];
    const bool ignored = index == ignore_index, valid = index >= 0 && index < cols;
    const float log_sum = log(row_sum[row_sum_offset + row]);
    float away = kf_load(shifted, shifted_offset + row * cols + (valid && !ignored ? index : 0));
    if (SMOOTHING)
        away = (1.0f - smoothing) * away + smoothing * row_mean[row_mean_offset + row];
    float result = log_sum - away;
    if (Z_LOSS) {
        const float lse = row_max[row_max_offset + row] + log_sum;
        result += z_loss * lse * lse;
    }
    loss[loss_offset + row] = ignored ? 0.0f : valid ? result : NAN;
}
#endif

/* What an exponential is multiplied by: 1 / sum with the slope of z_loss. One division, and one
 * logarithm with Z_LOSS. */
static inline float cross_entropy_scale(float sum, float max, float z_loss, float weight)
{
    return weight / sum * (Z_LOSS ? 1.0f + 2.0f * z_loss * (max + log(sum)) : 1.0f);
}

/* Gradient from an exponential; `peak` where it is the class's. */
static inline float cross_entropy_step(float power, float scale, float spread, float peak,
                                           bool ignored, bool valid)
{
    return ignored ? 0.0f : valid ? power * scale - spread - peak : NAN;
}

#if KF_ENTRY(cross_entropy_dlogits)
/* Reads M N elements, per thread an index and a float (one more with Z_LOSS, one with MEAN), writes
 * M N elements. Per thread: a division, a logarithm with Z_LOSS, a division with SMOOTHING. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void cross_entropy_dlogits(
    const __global long *restrict target, long target_offset,
    __global kf_storage *restrict dlogits, long dlogits_offset, const __global float *restrict row_max,
    long row_max_offset, const __global kf_storage *restrict exponentials,
    long exponentials_offset, const __global float *restrict row_sum, long row_sum_offset,
    const __global float *restrict weight, long weight_offset, long rows, long cols,
    long dlogits_stride, long ignore_index, float smoothing, float z_loss)
{
    norm_strip s;
    if (!norm_strip_find(&s, rows, cols))
        return;
    const __global kf_storage *const from = exponentials + exponentials_offset + s.row * cols;
    __global kf_storage *const to = dlogits + dlogits_offset + s.row * dlogits_stride;
    const long index = target[target_offset + s.row];
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    cross_entropy_row_mean_cpu(const __global kf_storage *restrict shifted, long shifted_offset,
                               __global float *restrict row_mean, long row_mean_offset,
                               long rows, long cols)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    float8 wide = 0.0f;
    long i = 0;
    for (; i + 8 <= cols; i += 8)
        wide += kf_load8(shifted, shifted_offset + row * cols + i);
    float sum = kf_item_sum(wide);
    for (; i < cols; i++)
        sum += kf_load(shifted, shifted_offset + row * cols + i);
    row_mean[row_mean_offset + row] = sum / (float)cols;
}
#endif

#if KF_ENTRY(cross_entropy_dlogits_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void cross_entropy_dlogits_cpu(
    const __global long *restrict target, long target_offset,
    __global kf_storage *restrict dlogits, long dlogits_offset, const __global float *restrict row_max,
    long row_max_offset, const __global kf_storage *restrict exponentials,
    long exponentials_offset, const __global float *restrict row_sum, long row_sum_offset,
    const __global float *restrict weight, long weight_offset, long rows, long cols,
    long dlogits_stride, long ignore_index, float smoothing, float z_loss)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const __global kf_storage *const from = exponentials + exponentials_offset + row * cols;
    __global kf_storage *const to = dlogits + dlogits_offset + row * dlogits_stride;
    const long index = target[target_offset + row];
    const bool ignored = index == ignore_index, valid = index >= 0 && index < cols;
    const float by = MEAN ? weight[weight_offset] : 1.0f;
    const float scale =
        cross_entropy_scale(row_sum[row_sum_offset + row],
                            Z_LOSS ? row_max[row_max_offset + row] : 0.0f, z_loss, by);
    const float spread = SMOOTHING ? smoothing / (float)cols * by : 0.0f;
    const float peak = (SMOOTHING ? 1.0f - smoothing : 1.0f) * by;
    const int column = valid ? (int)index : -1;
    int i = 0;
    for (; i + 8 <= (int)cols; i += 8) {
        const float8 peaks = as_float8(kf_item_is(i, column) & as_int8((float8)peak));
        const float8 slope = kf_load8(from, i) * scale - spread - peaks;
        kf_store8(to, i, ignored ? (float8)0.0f : valid ? slope : (float8)NAN);
    }
    for (; i < (int)cols; i++)
        kf_store(to, i,
                 cross_entropy_step(kf_load(from, i), scale, spread, i == index ? peak : 0.0f,
                                    ignored, valid));
}
#endif
