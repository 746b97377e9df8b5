/* Softmax and log softmax along an axis that is not the last: [rows][cols][inner], each of the
 * rows x inner columns by itself, its elements `step` apart. The same entries in
 * cuda/kernels/softmax_axis.cu. How the columns are shared out: common/rows_axis.cl.
 *
 * softmax_axis_fused reads and writes every element once: the THREADS_PER_ROW threads of a column
 * hold AXIS_LINES of its elements each. They meet twice, for the maximum and for the sum: with one
 * maximum for all, no exponential is rescaled. softmax_axis_online is for columns that registers do
 * not hold: running maximum and sum in a first read, the result in a second.
 *
 * What was predicted stands in the CUDA text.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define LOCAL_BYTES 1024
#define AXIS_LOG 0
#endif

/* What to subtract before exp2: a column that is all -inf so far has exponentials 0, not NaN. */
static inline float softmax_axis_base(float max)
{
    return max == -KF_INFINITY ? 0.0f : max;
}

static inline float softmax_axis_exponential(float value, float base)
{
    return kf_exp2((value - base) * KF_LOG2E);
}

#ifdef AXIS_LINES
/* A NaN is passed over: the sum will tell. */
static inline void softmax_axis_raise(float *max, kf_cells cells)
{
    float value[AXIS_CELLS];
    kf_axis_values(cells, value);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        max[j] = fmax(max[j], value[j]);
}

/* Held vectors of 16-bit elements are unpacked again where they are used again (kf_again). */
#define AXIS_PACKED (ALIGNED && KF_DTYPE != KF_F32)
static inline kf_cells softmax_axis_again(kf_cells cells, uint zero)
{
#if AXIS_PACKED
    return kf_again(cells, zero);
#else
    return cells;
#endif
}

/* Adds the exponentials to the sums. What is kept for the result: of softmax the exponentials, of
 * log softmax and of packed elements the cells as they came. */
static inline kf_cells softmax_axis_add(float *sum, kf_cells cells, const float *base, uint zero)
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
static inline void softmax_axis_finish(float *sum)
{
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        sum[j] = AXIS_LOG ? log(sum[j]) : 1.0f / sum[j];
}

/* The result of cells as they were read. The difference from the maximum is exact near it, and the
 * logarithm comes off behind it: a large offset of the column costs nothing. */
static inline void softmax_axis_result(__global kf_storage *at, kf_cells cells, const float *base,
                                       const float *finish, uint zero)
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
static inline void softmax_axis_kept(__global kf_storage *at, kf_cells cells, const float *base,
                                     const float *finish, uint zero)
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_fused(const __global kf_storage *restrict x, long x_offset,
                   __global kf_storage *restrict y, long y_offset, long rows, long cols, long inner,
                   long x_stride, long x_step, long y_stride, long y_step)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    kf_axis a;
    kf_cells held[AXIS_LINES];
    float base[AXIS_CELLS], sum[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0), rows, inner);
    const __global kf_storage *const x_column = x + x_offset + a.row * x_stride + a.column;
    __global kf_storage *const y_column = y + y_offset + a.row * y_stride + a.column;
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
        held[i] = softmax_axis_add(sum, held[i], base, (uint)(rows >> 62));
    kf_axis_join(&a, sum, AXIS_SUM, slots + AXIS_SECOND);
    softmax_axis_finish(sum);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++) {
        const long n = kf_axis_line(&a, 0, i);
        if (a.present && n < cols)
            softmax_axis_kept(y_column + n * y_step, held[i], base, sum, (uint)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(softmax_axis_online)
/* Reads 2 M N K, writes M N K elements. Per thread and column, exp2: in each trip of the first read
 * AXIS_LINES + 1, where trips = ceil(N / (THREADS_PER_ROW AXIS_LINES)), one where the threads meet,
 * and one per element in the second read (not for the logarithm); a division or logarithm. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_online(const __global kf_storage *restrict x, long x_offset,
                    __global kf_storage *restrict y, long y_offset, long rows, long cols,
                    long inner, long x_stride, long x_step, long y_stride, long y_step)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    kf_axis a;
    float max[AXIS_CELLS], base[AXIS_CELLS], sum[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0), rows, inner);
    const __global kf_storage *const x_column = x + x_offset + a.row * x_stride + a.column;
    __global kf_storage *const y_column = y + y_offset + a.row * y_stride + a.column;
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
        max[j] = -KF_INFINITY;
        sum[j] = 0.0f;
    }
    for (long first = 0; first < cols; first += AXIS_TRIP) {
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
    for (long first = 0; first < cols; first += AXIS_TRIP) {
        kf_cells data[AXIS_LINES];
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            data[i] =
                kf_axis_fetch(x_column, &a, kf_axis_line(&a, first, i), cols, x_step, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++) {
            const long n = kf_axis_line(&a, first, i);
            if (a.present && n < cols)
                softmax_axis_result(y_column + n * y_step, data[i], base, sum, 0);
        }
    }
}
#endif

/* ---- eight columns per work-item: CPU devices ---------------------------------------------- */

/* No barrier, no local memory: an item walks down eight neighbouring columns, or what is left of
 * them at the end of a line, three times. */

#if KF_ENTRY(softmax_axis_fused_cpu)
/* Of eight columns those that there are; the others 0. */
static inline float8 softmax_axis_load8(const __global kf_storage *from, int count)
{
    float value[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    if (count == 8)
        return kf_load8(from, 0);
#pragma unroll
    for (int j = 0; j < 7; j++)
        if (j < count)
            value[j] = kf_load(from, j);
    return vload8(0, value);
}

static inline void softmax_axis_store8(__global kf_storage *to, float8 result, int count)
{
    float value[8];
    if (count == 8) {
        kf_store8(to, 0, result);
        return;
    }
    vstore8(result, 0, value);
#pragma unroll
    for (int j = 0; j < 7; j++)
        if (j < count)
            kf_store(to, j, value[j]);
}

/* Reads 3 M N K (M N K distinct), writes M N K elements. Per item one division of eight columns, or
 * eight logarithms; exponentials are arithmetic (kf_exp8). */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_fused_cpu(const __global kf_storage *restrict x, long x_offset,
                       __global kf_storage *restrict y, long y_offset, long rows, long cols,
                       long inner, long x_stride, long x_step, long y_stride, long y_step)
{
    const long each = (inner + 7) / 8, item = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (item >= rows * each)
        return;
    const long row = item / each, column = item % each * 8;
    const int count = (int)min(inner - column, (long)8);
    const __global kf_storage *const from = x + x_offset + row * x_stride + column;
    __global kf_storage *const to = y + y_offset + row * y_stride + column;
    float8 max = -KF_INFINITY, sum = 0.0f;
    for (long n = 0; n < cols; n++)
        max = fmax(max, softmax_axis_load8(from + n * x_step, count)); /* passes over NaN */
    for (long n = 0; n < cols; n++)
        sum += kf_exp8(softmax_axis_load8(from + n * x_step, count) - max);
#if AXIS_LOG
    const float8 finish = log(sum);
#else
    const float8 finish = 1.0f / sum;
#endif
    for (long n = 0; n < cols; n++) {
        const float8 away = softmax_axis_load8(from + n * x_step, count) - max;
#if AXIS_LOG
        softmax_axis_store8(to + n * y_step, away - finish, count);
#else
        softmax_axis_store8(to + n * y_step, kf_exp8(away) * finish, count);
#endif
    }
}
#endif
