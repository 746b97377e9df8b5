/* Softmax the unfused way: one kernel per line of the formula, every intermediate through global
 * memory. The same entries in cuda/kernels/softmax_unfused.cu. The baseline is no straw man: on
 * an H200 at 16384x4096 f32 the two reductions run at 98 to 99 % of the read roof and the three
 * maps at 96 to 99 % of the copy roof (row max 59.7, subtract 130, exp 128, row sum 59.7, divide
 * 132 us). SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define BLOCK 256
#define ROWS_PER_GROUP 2
#endif

/* The reductions hold UNFUSED_VECS vectors per thread in flight; the maps give each thread one
 * vector, as a copy does (two vectors per thread: 1 % slower). */
#define UNFUSED_VECS 4

/* Groups that a row of a map takes: THREADS_PER_ROW vectors each. */
static inline uint softmax_chunks(int cols)
{
    return (max(cols / KF_VEC, 1) + THREADS_PER_ROW - 1) / THREADS_PER_ROW;
}

#if KF_ENTRY(softmax_row_max)
/* Reads M N elements, writes M floats. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_row_max(const __global kf_storage *restrict x, long x_offset,
                __global float *restrict row_max, long row_max_offset, long rows, long cols,
                long x_stride)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW,
              in_group = (int)get_local_id(0) / THREADS_PER_ROW;
    const long row = (long)get_group_id(0) * ROWS_PER_GROUP + in_group;
    const bool present = row < rows;
    const __global kf_storage *const x_row = x + x_offset + (present ? row : 0) * x_stride;
    kf_span span;
    kf_split(&span, x_row, present ? (int)cols : 0);
    float max = -KF_INFINITY;
    for (int first = 0; first < span.vectors; first += THREADS_PER_ROW * UNFUSED_VECS) {
        kf_pack data[UNFUSED_VECS];
#pragma unroll
        for (int i = 0; i < UNFUSED_VECS; i++)
            data[i] = kf_fetch(x_row + span.head, first + i * THREADS_PER_ROW + lane, span.vectors,
                               -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < UNFUSED_VECS; i++) {
            float value[KF_VEC];
            kf_unpack(data[i], value);
#pragma unroll
            for (int j = 0; j < KF_VEC; j++)
                max = kf_max(max, value[j]);
        }
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * THREADS_PER_ROW);
        if (column >= 0)
            max = kf_max(max, kf_load(x_row, column));
    }
    max = kf_group_max(max, THREADS_PER_ROW, lane, slots + in_group * KF_SLOTS(THREADS_PER_ROW));
    if (present && lane == 0)
        row_max[row_max_offset + row] = max;
}
#endif

#if KF_ENTRY(softmax_subtract)
/* Reads M N elements and a float per thread, writes M N elements. A group takes THREADS_PER_ROW
 * vectors of each of its rows; the first chunk of a row also takes its edges. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_subtract(const __global kf_storage *restrict x, long x_offset,
                 const __global float *restrict row_max, long row_max_offset,
                 __global kf_storage *restrict shifted, long shifted_offset, long rows, long cols,
                 long x_stride)
{
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW;
    const uint chunks = softmax_chunks((int)cols);
    const uint chunk = get_group_id(0) % chunks;
    const long row =
        (long)(get_group_id(0) / chunks) * ROWS_PER_GROUP + (int)get_local_id(0) / THREADS_PER_ROW;
    if (row >= rows)
        return;
    const __global kf_storage *const x_row = x + x_offset + row * x_stride;
    __global kf_storage *const to = shifted + shifted_offset + row * cols;
    kf_span span;
    kf_split(&span, x_row, (int)cols);
    const float max = row_max[row_max_offset + row];
    const int v = (int)chunk * THREADS_PER_ROW + lane;
    if (v < span.vectors) {
        float value[KF_VEC];
        kf_unpack(kf_load_pack(x_row + span.head, v), value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] -= max;
        kf_put(to + span.head, v, kf_repack(value), kf_together(x_row, to));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = chunk ? -1 : kf_edge(span, lane + i * THREADS_PER_ROW);
        if (column >= 0)
            kf_store(to, column, kf_load(x_row, column) - max);
    }
}
#endif

#if KF_ENTRY(softmax_exp)
/* Reads M N, writes M N elements; M N exp2. Both matrices are contiguous and aligned: one vector
 * per thread, the last M N mod KF_VEC elements by the threads after it. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_exp(const __global kf_storage *restrict shifted, long shifted_offset,
            __global kf_storage *restrict exponentials, long exponentials_offset, long rows,
            long cols)
{
    const long v = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    const long vectors = rows * cols / KF_VEC;
    const long single = vectors * KF_VEC + (v - vectors);
    if (v < vectors) {
        float value[KF_VEC];
        kf_unpack(kf_load_pack(shifted + shifted_offset, v), value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] = kf_exp2(value[j] * KF_LOG2E);
        kf_store_pack(exponentials + exponentials_offset, v, kf_repack(value));
    } else if (single < rows * cols) {
        kf_store(exponentials + exponentials_offset, single,
                 kf_exp2(kf_load(shifted + shifted_offset, single) * KF_LOG2E));
    }
}
#endif

#if KF_ENTRY(softmax_row_sum)
/* Reads M N elements, writes M floats. Rows are contiguous; their start need not be aligned. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_row_sum(const __global kf_storage *restrict exponentials, long exponentials_offset,
                __global float *restrict row_sum, long row_sum_offset, long rows, long cols)
{
    __local float slots[LOCAL_BYTES / sizeof(float)];
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW,
              in_group = (int)get_local_id(0) / THREADS_PER_ROW;
    const long row = (long)get_group_id(0) * ROWS_PER_GROUP + in_group;
    const bool present = row < rows;
    const __global kf_storage *const from =
        exponentials + exponentials_offset + (present ? row : 0) * cols;
    kf_span span;
    kf_split(&span, from, present ? (int)cols : 0);
    float sum = 0.0f;
    for (int first = 0; first < span.vectors; first += THREADS_PER_ROW * UNFUSED_VECS) {
        kf_pack data[UNFUSED_VECS];
#pragma unroll
        for (int i = 0; i < UNFUSED_VECS; i++)
            data[i] =
                kf_fetch(from + span.head, first + i * THREADS_PER_ROW + lane, span.vectors, 0.0f);
#pragma unroll
        for (int i = 0; i < UNFUSED_VECS; i++) {
            float value[KF_VEC];
            kf_unpack(data[i], value);
#pragma unroll
            for (int j = 0; j < KF_VEC; j++)
                sum += value[j];
        }
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * THREADS_PER_ROW);
        if (column >= 0)
            sum += kf_load(from, column);
    }
    sum = kf_group_sum(sum, THREADS_PER_ROW, lane, slots + in_group * KF_SLOTS(THREADS_PER_ROW));
    if (present && lane == 0)
        row_sum[row_sum_offset + row] = sum;
}
#endif

#if KF_ENTRY(softmax_divide)
/* Reads M N elements and a float per thread, writes M N elements; M N divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_divide(__global kf_storage *restrict y, long y_offset,
               const __global kf_storage *restrict exponentials, long exponentials_offset,
               const __global float *restrict row_sum, long row_sum_offset, long rows, long cols,
               long y_stride)
{
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW;
    const uint chunks = softmax_chunks((int)cols);
    const uint chunk = get_group_id(0) % chunks;
    const long row =
        (long)(get_group_id(0) / chunks) * ROWS_PER_GROUP + (int)get_local_id(0) / THREADS_PER_ROW;
    if (row >= rows)
        return;
    const __global kf_storage *const from = exponentials + exponentials_offset + row * cols;
    __global kf_storage *const y_row = y + y_offset + row * y_stride;
    kf_span span;
    kf_split(&span, from, (int)cols);
    const float sum = row_sum[row_sum_offset + row];
    const int v = (int)chunk * THREADS_PER_ROW + lane;
    if (v < span.vectors) {
        float value[KF_VEC];
        kf_unpack(kf_load_pack(from + span.head, v), value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] /= sum;
        kf_put(y_row + span.head, v, kf_repack(value), kf_together(from, y_row));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = chunk ? -1 : kf_edge(span, lane + i * THREADS_PER_ROW);
        if (column >= 0)
            kf_store(y_row, column, kf_load(from, column) / sum);
    }
}
#endif

/* ---- the same launches and bytes without barriers: CPU devices, one row per work-item ------- */

#if KF_ENTRY(softmax_row_max_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_row_max_cpu(const __global kf_storage *restrict x, long x_offset,
                    __global float *restrict row_max, long row_max_offset, long rows, long cols,
                    long x_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    float8 wide = -KF_INFINITY;
    long i = 0;
    if (row >= rows)
        return;
    for (; i + 8 <= cols; i += 8) {
        const float8 value = kf_load8(x, x_offset + row * x_stride + i);
        wide = value > wide || value != value ? value : wide;
    }
    const float4 four = wide.lo > wide.hi || wide.lo != wide.lo ? wide.lo : wide.hi;
    float max = kf_max(kf_max(four.x, four.y), kf_max(four.z, four.w));
    for (; i < cols; i++)
        max = kf_max(max, kf_load(x, x_offset + row * x_stride + i));
    row_max[row_max_offset + row] = max;
}
#endif

#if KF_ENTRY(softmax_subtract_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_subtract_cpu(const __global kf_storage *restrict x, long x_offset,
                     const __global float *restrict row_max, long row_max_offset,
                     __global kf_storage *restrict shifted, long shifted_offset, long rows,
                     long cols, long x_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const float max = row_max[row_max_offset + row];
    long i = 0;
    for (; i + 8 <= cols; i += 8)
        kf_store8(shifted, shifted_offset + row * cols + i,
                  kf_load8(x, x_offset + row * x_stride + i) - max);
    for (; i < cols; i++)
        kf_store(shifted, shifted_offset + row * cols + i,
                 kf_load(x, x_offset + row * x_stride + i) - max);
}
#endif

#if KF_ENTRY(softmax_exp_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_exp_cpu(const __global kf_storage *restrict shifted, long shifted_offset,
                __global kf_storage *restrict exponentials, long exponentials_offset, long rows,
                long cols)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    long i = row * cols;
    for (; i + 8 <= (row + 1) * cols; i += 8)
        kf_store8(exponentials, exponentials_offset + i,
                  exp(kf_load8(shifted, shifted_offset + i)));
    for (; i < (row + 1) * cols; i++)
        kf_store(exponentials, exponentials_offset + i, exp(kf_load(shifted, shifted_offset + i)));
}
#endif

#if KF_ENTRY(softmax_row_sum_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_row_sum_cpu(const __global kf_storage *restrict exponentials, long exponentials_offset,
                    __global float *restrict row_sum, long row_sum_offset, long rows, long cols)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    float8 wide = 0.0f;
    long i = row * cols;
    if (row >= rows)
        return;
    for (; i + 8 <= (row + 1) * cols; i += 8)
        wide += kf_load8(exponentials, exponentials_offset + i);
    const float4 four = wide.lo + wide.hi;
    float sum = (four.x + four.y) + (four.z + four.w);
    for (; i < (row + 1) * cols; i++)
        sum += kf_load(exponentials, exponentials_offset + i);
    row_sum[row_sum_offset + row] = sum;
}
#endif

#if KF_ENTRY(softmax_divide_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_divide_cpu(__global kf_storage *restrict y, long y_offset,
                   const __global kf_storage *restrict exponentials, long exponentials_offset,
                   const __global float *restrict row_sum, long row_sum_offset, long rows,
                   long cols, long y_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const float sum = row_sum[row_sum_offset + row];
    long i = 0;
    for (; i + 8 <= cols; i += 8)
        kf_store8(y, y_offset + row * y_stride + i,
                  kf_load8(exponentials, exponentials_offset + row * cols + i) / sum);
    for (; i < cols; i++)
        kf_store(y, y_offset + row * y_stride + i,
                 kf_load(exponentials, exponentials_offset + row * cols + i) / sum);
}
#endif
