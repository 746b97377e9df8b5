/* Softmax and log softmax along an axis that is not the last: [rows][cols][inner], each of the
 * rows x inner columns by itself, its elements `step` apart. The same entries in
 * opencl/kernels/softmax_axis.cl. How the columns are shared out: common/rows_axis.cu.
 *
 * softmax_axis_fused reads and writes every element once: the THREADS_PER_ROW threads of a column
 * hold AXIS_LINES of its elements each. They meet twice, for the maximum and for the sum: with one
 * maximum for all, no exponential is rescaled. softmax_axis_online is for columns that registers do
 * not hold: running maximum and sum in a first read, the result in a second.
 *
 * Predicted, and not yet measured on any GPU:
 *
 * - held columns run at the copy roof, as rows do, where lines are aligned: the loads are the same
 *   16 bytes per thread, 128 bytes of a line side by side. Columns of more than 1024 elements are
 *   held with 64 bytes of a line side by side, which should cost little: the next group reads the
 *   rest of the same 128 bytes at about the same time.
 *
 * - columns of more than 2048 elements are read twice and move 3 M N K s, at most 2/3 of the speed.
 *
 * - lines that are not aligned cost one access per element: f32 keeps near the copy, 16-bit storage
 *   is bound by instructions, at about half of it.
 *
 * - a transposing copy in front and behind would move 4 M N K s more.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define AXIS_LOG 0
#endif

/* What to subtract before exp2: a column that is all -inf so far has exponentials 0, not NaN. */
__device__ inline float softmax_axis_base(float max)
{
    return max == -KF_INFINITY ? 0.0f : max;
}

__device__ inline float softmax_axis_exponential(float value, float base)
{
    return kf_exp2((value - base) * KF_LOG2E);
}

#ifdef AXIS_LINES
/* A NaN is passed over: the sum will tell. */
__device__ inline void softmax_axis_raise(float *max, kf_cells cells)
{
    float value[AXIS_CELLS];
    kf_axis_values(cells, value);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        max[j] = fmaxf(max[j], value[j]);
}

/* Held vectors of 16-bit elements are unpacked again where they are used again (kf_again). */
#define AXIS_PACKED (ALIGNED && KF_DTYPE != KF_F32)
__device__ inline kf_cells softmax_axis_again(kf_cells cells, unsigned zero)
{
#if AXIS_PACKED
    return kf_again(cells, zero);
#else
    return cells;
#endif
}

/* Adds the exponentials to the sums. What is kept for the result: of softmax the exponentials, of
 * log softmax and of packed elements the cells as they came. */
__device__ inline kf_cells softmax_axis_add(float *sum, kf_cells cells, const float *base,
                                            unsigned zero)
{
    float value[AXIS_CELLS];
    kf_axis_values(softmax_axis_again(cells, zero), value);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
        value[j] = softmax_axis_exponential(value[j], base[j]);
        sum[j] += value[j];
    }
#if AXIS_LOG || AXIS_PACKED
    return cells;
#elif ALIGNED
    return kf_pack_floats(value);
#else
    return value[0];
#endif
}

/* From the sum of a column what its elements need: the logarithm, or the factor. */
__device__ inline void softmax_axis_finish(float *sum)
{
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        sum[j] = AXIS_LOG ? logf(sum[j]) : 1.0f / sum[j];
}

/* The result of cells as they were read. The difference from the maximum is exact near it, and the
 * logarithm comes off behind it: a large offset of the column costs nothing. */
__device__ inline void softmax_axis_result(kf_storage *at, kf_cells cells, const float *base,
                                           const float *finish, unsigned zero)
{
    float value[AXIS_CELLS];
    kf_axis_values(softmax_axis_again(cells, zero), value);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        value[j] = AXIS_LOG ? (value[j] - base[j]) - finish[j]
                            : softmax_axis_exponential(value[j], base[j]) * finish[j];
    kf_axis_put(at, value);
}

/* ... and of cells as softmax_axis_add kept them. */
__device__ inline void softmax_axis_kept(kf_storage *at, kf_cells cells, const float *base,
                                         const float *finish, unsigned zero)
{
#if AXIS_LOG || AXIS_PACKED
    softmax_axis_result(at, cells, base, finish, zero);
#else
    float value[AXIS_CELLS];
    kf_axis_values(cells, value);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        value[j] *= finish[j];
    kf_axis_put(at, value);
#endif
}
#endif

#if KF_ENTRY(softmax_axis_fused)
/* M x N x K -> M x N x K. Reads M N K, writes M N K elements. Per thread and column: exp2 of
 * AXIS_LINES elements, of packed ones once more where they exist (not for the logarithm), and a
 * division or logarithm. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_axis_fused(const kf_storage *__restrict__ x, long long x_offset,
                       kf_storage *__restrict__ y, long long y_offset, long long rows,
                       long long cols, long long inner, long long x_stride, long long x_step,
                       long long y_stride, long long y_step)
{
    extern __shared__ float slots[];
    kf_axis a;
    kf_cells held[AXIS_LINES];
    float base[AXIS_CELLS], sum[AXIS_CELLS];
    kf_axis_place(&a, (long long)blockIdx.x, rows, inner);
    const kf_storage *const x_column = x + x_offset + a.row * x_stride + a.column;
    kf_storage *const y_column = y + y_offset + a.row * y_stride + a.column;
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++)
        held[i] = kf_axis_fetch(x_column, &a, kf_axis_line(&a, 0, i), cols, x_step, -KF_INFINITY);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
        base[j] = -KF_INFINITY;
        sum[j] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++)
        softmax_axis_raise(base, held[i]);
    kf_axis_join(&a, base, AXIS_MAX, slots);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        base[j] = softmax_axis_base(base[j]);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++)
        held[i] = softmax_axis_add(sum, held[i], base, (unsigned)(rows >> 62));
    kf_axis_join(&a, sum, AXIS_SUM, slots + AXIS_SECOND);
    softmax_axis_finish(sum);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++) {
        const long long n = kf_axis_line(&a, 0, i);
        if (a.present && n < cols)
            softmax_axis_kept(y_column + n * y_step, held[i], base, sum, (unsigned)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(softmax_axis_online)
/* Reads 2 M N K, writes M N K elements. Per thread and column, exp2: in each trip of the first read
 * AXIS_LINES + 1, where trips = ceil(N / (THREADS_PER_ROW AXIS_LINES)), one where the threads meet,
 * and one per element in the second read (not for the logarithm); a division or logarithm. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_axis_online(const kf_storage *__restrict__ x, long long x_offset,
                        kf_storage *__restrict__ y, long long y_offset, long long rows,
                        long long cols, long long inner, long long x_stride, long long x_step,
                        long long y_stride, long long y_step)
{
    extern __shared__ float slots[];
    kf_axis a;
    float max[AXIS_CELLS], base[AXIS_CELLS], sum[AXIS_CELLS];
    kf_axis_place(&a, (long long)blockIdx.x, rows, inner);
    const kf_storage *const x_column = x + x_offset + a.row * x_stride + a.column;
    kf_storage *const y_column = y + y_offset + a.row * y_stride + a.column;
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
        max[j] = -KF_INFINITY;
        sum[j] = 0.0f;
    }
    for (long long first = 0; first < cols; first += AXIS_TRIP) {
        kf_cells data[AXIS_LINES];
        float above[AXIS_CELLS];
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            data[i] =
                kf_axis_fetch(x_column, &a, kf_axis_line(&a, first, i), cols, x_step, -KF_INFINITY);
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++)
            above[j] = max[j];
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            softmax_axis_raise(above, data[i]);
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++) {
            base[j] = softmax_axis_base(above[j]);
            sum[j] *= softmax_axis_exponential(max[j], base[j]);
            max[j] = above[j];
        }
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            softmax_axis_add(sum, data[i], base, 0);
    }
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        base[j] = max[j];
    kf_axis_join(&a, base, AXIS_MAX, slots);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
        base[j] = softmax_axis_base(base[j]);
        sum[j] *= softmax_axis_exponential(max[j], base[j]);
    }
    kf_axis_join(&a, sum, AXIS_SUM, slots + AXIS_SECOND);
    softmax_axis_finish(sum);
    for (long long first = 0; first < cols; first += AXIS_TRIP) {
        kf_cells data[AXIS_LINES];
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            data[i] =
                kf_axis_fetch(x_column, &a, kf_axis_line(&a, first, i), cols, x_step, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++) {
            const long long n = kf_axis_line(&a, first, i);
            if (a.present && n < cols)
                softmax_axis_result(y_column + n * y_step, data[i], base, sum, 0);
        }
    }
}
#endif

/* ---- eight columns per thread: CPU devices ---------------------------------------------- */

/* No barrier, no local memory: an item walks down eight neighbouring columns, or what is left of
 * them at the end of a line, three times. Explicit vectors in OpenCL, which CPU drivers need; loops
 * here. */

#if KF_ENTRY(softmax_axis_fused_cpu)
/* Reads 3 M N K (M N K distinct), writes M N K elements. Per column one division or logarithm;
 * exponentials are arithmetic. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    softmax_axis_fused_cpu(const kf_storage *__restrict__ x, long long x_offset,
                           kf_storage *__restrict__ y, long long y_offset, long long rows,
                           long long cols, long long inner, long long x_stride, long long x_step,
                           long long y_stride, long long y_step)
{
    const long long each = (inner + 7) / 8, item = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (item >= rows * each)
        return;
    const long long row = item / each, column = item % each * 8;
    const int count = inner - column < 8 ? (int)(inner - column) : 8;
    for (int j = 0; j < count; j++) {
        const kf_storage *const from = x + x_offset + row * x_stride + column + j;
        kf_storage *const to = y + y_offset + row * y_stride + column + j;
        float max = -KF_INFINITY, sum = 0.0f;
        for (long long n = 0; n < cols; n++)
            max = fmaxf(max, kf_load(from, n * x_step)); /* passes over NaN */
        for (long long n = 0; n < cols; n++)
            sum += kf_item_exp(kf_load(from, n * x_step) - max);
        const float finish = AXIS_LOG ? logf(sum) : 1.0f / sum;
        for (long long n = 0; n < cols; n++) {
            const float away = kf_load(from, n * x_step) - max;
            kf_store(to, n * y_step, AXIS_LOG ? away - finish : kf_item_exp(away) * finish);
        }
    }
}
#endif
