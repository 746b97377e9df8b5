/* Softmax and log softmax along an axis that is not the last, the unfused way: one kernel per line
 * of the formula, every intermediate through global memory. The exponentials are softmax_exp of
 * softmax_unfused. The same entries in cuda/kernels/softmax_axis_unfused.cu; how the columns are
 * shared out: common/rows_axis.cl. On CPU devices a column has one thread (THREADS_PER_ROW 1), and
 * no entry a barrier. SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LOCAL_BYTES 1024
#endif

#ifdef AXIS_LINES
/* Groups that the columns of a strip take in a map: AXIS_TRIP lines each. */
static inline long softmax_axis_chunks(long cols)
{
    return (cols + AXIS_TRIP - 1) / AXIS_TRIP;
}
#endif

#if KF_ENTRY(softmax_axis_max)
/* Reads M N K elements, writes M K floats. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_max(const __global kf_storage *restrict x, long x_offset,
                 __global float *restrict row_max, long row_max_offset, long rows, long cols,
                 long inner, long x_stride, long x_step)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    kf_axis a;
    float max[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0), rows, inner);
    const __global kf_storage *const column = x + x_offset + a.row * x_stride + a.column;
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        max[j] = -KF_INFINITY;
    for (long first = 0; first < cols; first += AXIS_TRIP) {
        kf_cells data[AXIS_LINES];
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            data[i] =
                kf_axis_fetch(column, &a, kf_axis_line(&a, first, i), cols, x_step, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++) {
            float value[AXIS_CELLS];
            kf_axis_values(data[i], value);
#pragma unroll
            for (int j = 0; j < AXIS_CELLS; j++)
                max[j] = kf_max(max[j], value[j]);
        }
    }
    kf_axis_join(&a, max, AXIS_MAX, slots);
    if (a.present && a.team == 0)
        kf_axis_store_floats(row_max + row_max_offset + a.row * inner + a.column, max);
}
#endif

#if KF_ENTRY(softmax_axis_subtract)
/* Reads M N K elements and a float per thread and column, writes M N K elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_subtract(const __global kf_storage *restrict x, long x_offset,
                      const __global float *restrict row_max, long row_max_offset,
                      __global kf_storage *restrict shifted, long shifted_offset, long rows,
                      long cols, long inner, long x_stride, long x_step)
{
    const long chunks = softmax_axis_chunks(cols), first = get_group_id(0) % chunks * AXIS_TRIP;
    kf_axis a;
    kf_cells data[AXIS_LINES];
    float max[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0) / chunks, rows, inner);
    if (!a.present)
        return;
    const __global kf_storage *const column = x + x_offset + a.row * x_stride + a.column;
    __global kf_storage *const to = shifted + shifted_offset + a.row * cols * inner + a.column;
    kf_axis_load_floats(row_max + row_max_offset + a.row * inner + a.column, max);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++)
        data[i] = kf_axis_fetch(column, &a, kf_axis_line(&a, first, i), cols, x_step, 0.0f);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++) {
        const long n = kf_axis_line(&a, first, i);
        float value[AXIS_CELLS];
        kf_axis_values(data[i], value);
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++)
            value[j] -= max[j];
        if (n < cols)
            kf_axis_put(to + n * inner, value);
    }
}
#endif

#if KF_ENTRY(softmax_axis_sum)
/* Reads M N K elements, writes M K floats. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_sum(const __global kf_storage *restrict exponentials, long exponentials_offset,
                 __global float *restrict row_sum, long row_sum_offset, long rows, long cols,
                 long inner)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    kf_axis a;
    float sum[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0), rows, inner);
    const __global kf_storage *const column =
        exponentials + exponentials_offset + a.row * cols * inner + a.column;
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        sum[j] = 0.0f;
    for (long first = 0; first < cols; first += AXIS_TRIP) {
        kf_cells data[AXIS_LINES];
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++)
            data[i] = kf_axis_fetch(column, &a, kf_axis_line(&a, first, i), cols, inner, 0.0f);
#pragma unroll
        for (int i = 0; i < AXIS_LINES; i++) {
            float value[AXIS_CELLS];
            kf_axis_values(data[i], value);
#pragma unroll
            for (int j = 0; j < AXIS_CELLS; j++)
                sum[j] += value[j];
        }
    }
    kf_axis_join(&a, sum, AXIS_SUM, slots);
    if (a.present && a.team == 0)
        kf_axis_store_floats(row_sum + row_sum_offset + a.row * inner + a.column, sum);
}
#endif

#if KF_ENTRY(softmax_axis_divide)
/* Reads M N K elements and a float per thread and column, writes M N K elements; M N K divisions.
 */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_divide(__global kf_storage *restrict y, long y_offset,
                    const __global kf_storage *restrict exponentials, long exponentials_offset,
                    const __global float *restrict row_sum, long row_sum_offset, long rows,
                    long cols, long inner, long y_stride, long y_step)
{
    const long chunks = softmax_axis_chunks(cols), first = get_group_id(0) % chunks * AXIS_TRIP;
    kf_axis a;
    kf_cells data[AXIS_LINES];
    float sum[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0) / chunks, rows, inner);
    if (!a.present)
        return;
    const __global kf_storage *const column =
        exponentials + exponentials_offset + a.row * cols * inner + a.column;
    __global kf_storage *const to = y + y_offset + a.row * y_stride + a.column;
    kf_axis_load_floats(row_sum + row_sum_offset + a.row * inner + a.column, sum);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++)
        data[i] = kf_axis_fetch(column, &a, kf_axis_line(&a, first, i), cols, inner, 0.0f);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++) {
        const long n = kf_axis_line(&a, first, i);
        float value[AXIS_CELLS];
        if (n >= cols)
            continue;
        kf_axis_values(data[i], value);
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++)
            value[j] /= sum[j];
        kf_axis_put(to + n * y_step, value);
    }
}
#endif

#if KF_ENTRY(softmax_axis_subtract_log)
/* Reads M N K elements and a float per thread and column, writes M N K elements; a logarithm per
 * thread and column. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_axis_subtract_log(__global kf_storage *restrict y, long y_offset,
                          const __global kf_storage *restrict shifted, long shifted_offset,
                          const __global float *restrict row_sum, long row_sum_offset, long rows,
                          long cols, long inner, long y_stride, long y_step)
{
    const long chunks = softmax_axis_chunks(cols), first = get_group_id(0) % chunks * AXIS_TRIP;
    kf_axis a;
    kf_cells data[AXIS_LINES];
    float sum[AXIS_CELLS];
    kf_axis_place(&a, get_group_id(0) / chunks, rows, inner);
    if (!a.present)
        return;
    const __global kf_storage *const column =
        shifted + shifted_offset + a.row * cols * inner + a.column;
    __global kf_storage *const to = y + y_offset + a.row * y_stride + a.column;
    kf_axis_load_floats(row_sum + row_sum_offset + a.row * inner + a.column, sum);
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++)
        sum[j] = log(sum[j]);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++)
        data[i] = kf_axis_fetch(column, &a, kf_axis_line(&a, first, i), cols, inner, 0.0f);
#pragma unroll
    for (int i = 0; i < AXIS_LINES; i++) {
        const long n = kf_axis_line(&a, first, i);
        float value[AXIS_CELLS];
        kf_axis_values(data[i], value);
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++)
            value[j] -= sum[j];
        if (n < cols)
            kf_axis_put(to + n * y_step, value);
    }
}
#endif
