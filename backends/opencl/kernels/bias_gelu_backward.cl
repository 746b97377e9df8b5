/* Gradients of gelu(x + bias), gelu exact or by tanh (common/units.cl), unfused and fused. The same
 * entries in cuda/kernels/bias_gelu_backward.cu. Which work-item does what: common/row_map.cl
 * where each element is on its own, common/rows_columns.cl where rows are summed. grad_x may be
 * grad_y or x: an element is read and written by one work-item, in this order.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#define STAGES 2
#define GROUPS_PER_UNIT 4
#define ROWS_PER_ITEM 8
#define LOCAL_BYTES 1024
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_backward_sum)
/* sum = x + bias: reads M N elements and the bias in every row, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_sum(const __global kf_storage *x, long x_offset, const __global kf_storage *bias,
                       long bias_offset, __global kf_storage *sum, long sum_offset, long rows,
                       long cols, long x_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, x + x_offset, rows, cols, x_stride))
        return;
    const kf_pack x_pack = kf_piece_fetch(&piece, x + x_offset, x_stride);
    const kf_pack bias_pack = kf_piece_fetch(&piece, bias + bias_offset, 0);
    kf_unpack(x_pack, a);
    kf_unpack(bias_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] += b[j];
    kf_piece_put(&piece, sum + sum_offset, cols, a);
}
#endif

#if KF_ENTRY(bias_gelu_backward_slope)
/* slope = gelu'(sum): reads M N, writes M N elements; M N exp2 and
 * divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_slope(const __global kf_storage *sum, long sum_offset,
                         __global kf_storage *slope, long slope_offset, long rows, long cols)
{
    kf_piece piece;
    float a[KF_VEC];
    if (!kf_piece_place(&piece, sum + sum_offset, rows, cols, cols))
        return;
    kf_unpack(kf_piece_fetch(&piece, sum + sum_offset, cols), a);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            a[j] = kf_gelu_slope(a[j]);
    kf_piece_put(&piece, slope + slope_offset, cols, a);
}
#endif

#if KF_ENTRY(bias_gelu_backward_grad_x)
/* grad_x = grad_y slope: reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_grad_x(const __global kf_storage *grad_y, long grad_y_offset,
                          __global kf_storage *grad_x, long grad_x_offset,
                          const __global kf_storage *slope, long slope_offset, long rows, long cols,
                          long grad_y_stride, long grad_x_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, grad_y + grad_y_offset, rows, cols, grad_y_stride))
        return;
    const kf_pack grad_y_pack = kf_piece_fetch(&piece, grad_y + grad_y_offset, grad_y_stride);
    const kf_pack slope_pack = kf_piece_fetch(&piece, slope + slope_offset, cols);
    kf_unpack(grad_y_pack, a);
    kf_unpack(slope_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] *= b[j];
    kf_piece_put(&piece, grad_x + grad_x_offset, grad_x_stride, a);
}
#endif

#if KF_ENTRY(bias_gelu_backward_column_sums)
/* partials = sums of grad_x over some of the rows: reads M N elements. On CPU devices too, where a
 * group has one row at a time and meets no barrier. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_column_sums(const __global kf_storage *restrict grad_x, long grad_x_offset,
                               __global float *restrict partials, long partials_offset, long rows,
                               long cols, long grad_x_stride)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
    back_step_columns(grad_x + grad_x_offset, grad_x_stride, partials + partials_offset, rows, cols,
                      local_memory);
}
#endif

#if KF_ENTRY(bias_gelu_backward_columns)
/* The second stage, of all variants: partial sums to grad_bias. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_columns(__global kf_storage *restrict grad_bias, long grad_bias_offset,
                           const __global float *restrict partials, long partials_offset,
                           long parts, long cols)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
    kf_column_write(grad_bias + grad_bias_offset, partials + partials_offset, 0,
                    (uint)get_group_id(0), parts, cols, local_memory);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_backward_fused)
typedef struct bias_gelu_backward_row { /* of one work-item */
    kf_pack grad[COLUMN_VECS], x[COLUMN_VECS];
} bias_gelu_backward_row;

static inline void
bias_gelu_backward_fetch(bias_gelu_backward_row *r, const kf_columns *c,
                         const __global kf_storage *grad_y, const __global kf_storage *x,
                         bool present)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        r->grad[i] = kf_cells_load(grad_y, c, i, present);
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        r->x[i] = kf_cells_load(x, c, i, present);
}

/* Writes a row of grad_x. What is added to the sums is the float, not what is stored of it. */
static inline void
bias_gelu_backward_work(const bias_gelu_backward_row *r, const kf_columns *c, const kf_pack *bias,
                        __global kf_storage *grad_x, float *sum)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float grad[KF_VEC], x[KF_VEC], added[KF_VEC];
        kf_unpack(r->grad[i], grad);
        kf_unpack(r->x[i], x);
        kf_unpack(bias[i], added);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++) {
            if (!kf_cell_has(c, i, j))
                continue;
            grad[j] *= kf_gelu_slope(x[j] + added[j]);
            sum[i * KF_VEC + j] += grad[j];
        }
        kf_cells_store(grad_x, c, i, grad);
    }
}

/* Reads 2 M N, writes M N elements, and every group a strip of partial sums; M N exp2 and
 * divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_fused(const __global kf_storage *restrict grad_y, long grad_y_offset,
                         const __global kf_storage *restrict x, long x_offset,
                         const __global kf_storage *restrict bias, long bias_offset,
                         __global kf_storage *restrict grad_x, long grad_x_offset,
                         __global float *restrict partials, long partials_offset, long rows,
                         long cols, long grad_y_stride, long x_stride, long grad_x_stride)
{
    __local float local_memory[LOCAL_BYTES / sizeof(float)];
    const uint strips = (uint)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    const uint strip = (uint)get_group_id(0) % strips, part = (uint)get_group_id(0) / strips;
    const long step = (long)((uint)get_num_groups(0) / strips) * ROWS_PER_GROUP;
    bias_gelu_backward_row next;
    kf_pack added[COLUMN_VECS];
    float sum[COLUMN_CELLS];
    kf_columns c;
    kf_columns_place(&c, (int)strip * COLUMN_WIDTH, cols);
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        added[i] = kf_cells_load(bias + bias_offset, &c, i, true);
#pragma unroll
    for (int i = 0; i < COLUMN_CELLS; i++)
        sum[i] = 0.0f;
    const long first = (long)part * ROWS_PER_GROUP + c.team;
    const long turns = kf_turns(first, step, rows);
    const __global kf_storage *grad_y_row = grad_y + grad_y_offset + first * grad_y_stride;
    const __global kf_storage *x_row = x + x_offset + first * x_stride;
    __global kf_storage *grad_x_row = grad_x + grad_x_offset + first * grad_x_stride;
    if (STAGES > 1)
        bias_gelu_backward_fetch(&next, &c, grad_y_row, x_row, turns > 0);
    for (long turn = 0; turn < turns; turn++) {
        if (STAGES == 1)
            bias_gelu_backward_fetch(&next, &c, grad_y_row, x_row, true);
        const bias_gelu_backward_row here = next;
        grad_y_row += step * grad_y_stride;
        x_row += step * x_stride;
        if (STAGES > 1)
            bias_gelu_backward_fetch(&next, &c, grad_y_row, x_row, turn + 1 < turns);
        bias_gelu_backward_work(&here, &c, added, grad_x_row, sum);
        grad_x_row += step * grad_x_stride;
    }
    kf_cells_join(&c, sum, partials + partials_offset + part * cols, local_memory);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch of a row per work-item -------------- */

#if KF_ENTRY(bias_gelu_backward_sum_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_sum_cpu(const __global kf_storage *x, long x_offset,
                           const __global kf_storage *bias, long bias_offset,
                           __global kf_storage *sum, long sum_offset, long rows, long cols,
                           long x_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const __global kf_storage *const added = bias + bias_offset;
    __global kf_storage *const to = sum + sum_offset + s.row * cols;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_load8(x_row, i) + kf_load8(added, i));
    for (; i < s.end; i++)
        kf_store(to, i, kf_load(x_row, i) + kf_load(added, i));
}
#endif

#if KF_ENTRY(bias_gelu_backward_slope_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_slope_cpu(const __global kf_storage *sum, long sum_offset,
                             __global kf_storage *slope, long slope_offset, long rows, long cols)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const from = sum + sum_offset + s.row * cols;
    __global kf_storage *const to = slope + slope_offset + s.row * cols;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_gelu_slope8(kf_load8(from, i)));
    for (; i < s.end; i++)
        kf_store(to, i, kf_gelu_slope8((float8)(kf_load(from, i))).s0);
}
#endif

#if KF_ENTRY(bias_gelu_backward_grad_x_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_grad_x_cpu(const __global kf_storage *grad_y, long grad_y_offset,
                              __global kf_storage *grad_x, long grad_x_offset,
                              const __global kf_storage *slope, long slope_offset, long rows,
                              long cols, long grad_y_stride, long grad_x_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const __global kf_storage *const slope_row = slope + slope_offset + s.row * cols;
    __global kf_storage *const to = grad_x + grad_x_offset + s.row * grad_x_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_load8(grad_y_row, i) * kf_load8(slope_row, i));
    for (; i < s.end; i++)
        kf_store(to, i, kf_load(grad_y_row, i) * kf_load(slope_row, i));
}
#endif

#if KF_ENTRY(bias_gelu_backward_fused_cpu)
/* Strips of columns, whose sums over the work-item's rows stay in registers. */
#define BIAS_GELU_STRIP 8 /* times eight columns */

typedef struct bias_gelu_backward_rows { /* of one work-item */
    const __global kf_storage *grad_y, *x, *bias;
    __global kf_storage *grad_x;
    long grad_y_stride, x_stride, grad_x_stride;
    int count;
} bias_gelu_backward_rows;

/* `chunks` times eight columns from `first` on, of all rows of the work-item. */
static inline void
bias_gelu_backward_strip(const bias_gelu_backward_rows *r, long first, int chunks,
                         __global float *to)
{
    float8 sum[BIAS_GELU_STRIP];
    for (int k = 0; k < chunks; k++)
        sum[k] = 0.0f;
    for (int row = 0; row < r->count; row++)
        for (int k = 0; k < chunks; k++) {
            const long i = first + 8 * k;
            const float8 x = kf_load8(r->x + row * r->x_stride, i) + kf_load8(r->bias, i);
            const float8 grad = kf_load8(r->grad_y + row * r->grad_y_stride, i) * kf_gelu_slope8(x);
            kf_store8(r->grad_x + row * r->grad_x_stride, i, grad);
            sum[k] += grad;
        }
    for (int k = 0; k < chunks; k++)
        vstore8(sum[k], 0, to + first + 8 * k);
}

static inline void
bias_gelu_backward_column(const bias_gelu_backward_rows *r, long i, __global float *to)
{
    float sum = 0.0f;
    for (int row = 0; row < r->count; row++) {
        const float x = kf_load(r->x + row * r->x_stride, i) + kf_load(r->bias, i);
        const float slope = kf_gelu_slope8((float8)(x)).s0;
        const float grad = kf_load(r->grad_y + row * r->grad_y_stride, i) * slope;
        kf_store(r->grad_x + row * r->grad_x_stride, i, grad);
        sum += grad;
    }
    to[i] = sum;
}

/* Reads 2 M N elements and the bias in every row, writes M N elements and M / ROWS_PER_ITEM rows of
 * partial sums; a division per eight columns. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_backward_fused_cpu(const __global kf_storage *grad_y, long grad_y_offset,
                             const __global kf_storage *x, long x_offset,
                             const __global kf_storage *bias, long bias_offset,
                             __global kf_storage *grad_x, long grad_x_offset,
                             __global float *partials, long partials_offset, long rows, long cols,
                             long grad_y_stride, long x_stride, long grad_x_stride)
{
    kf_stretch s; /* whose row is one of the partial sums */
    if (!kf_stretch_place(&s, (rows + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, cols))
        return;
    const long first = s.row * ROWS_PER_ITEM;
    __global float *const to = partials + partials_offset + s.row * cols;
    bias_gelu_backward_rows r;
    r.grad_y = grad_y + grad_y_offset + first * grad_y_stride;
    r.x = x + x_offset + first * x_stride;
    r.bias = bias + bias_offset;
    r.grad_x = grad_x + grad_x_offset + first * grad_x_stride;
    r.grad_y_stride = grad_y_stride;
    r.x_stride = x_stride;
    r.grad_x_stride = grad_x_stride;
    r.count = rows - first < ROWS_PER_ITEM ? (int)(rows - first) : ROWS_PER_ITEM;
    const long wide = s.begin + (s.end - s.begin) / 8 * 8;
    for (long i = s.begin; i < wide; i += 8 * BIAS_GELU_STRIP)
        bias_gelu_backward_strip(&r, i, (int)min((wide - i) / 8, (long)BIAS_GELU_STRIP), to);
    for (long i = wide; i < s.end; i++)
        bias_gelu_backward_column(&r, i, to);
}
#endif
