/* Gradients of gelu(x + bias), gelu exact or by tanh (common/units.cu), unfused and fused. The same
 * entries in opencl/kernels/bias_gelu_backward.cl. Which thread does what: common/row_map.cu
 * where each element is on its own, common/rows_columns.cu where rows are summed. grad_x may be
 * grad_y or x: an element is read and written by one thread, in this order.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#define STAGES 2
#define GROUPS_PER_UNIT 4
#define ROWS_PER_ITEM 8
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_backward_sum)
/* sum = x + bias: reads M N elements and the bias in every row, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_sum(const kf_storage *x, long long x_offset, const kf_storage *bias,
                           long long bias_offset, kf_storage *sum, long long sum_offset,
                           long long rows, long long cols, long long x_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_slope(const kf_storage *sum, long long sum_offset, kf_storage *slope,
                             long long slope_offset, long long rows, long long cols)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_grad_x(const kf_storage *grad_y, long long grad_y_offset, kf_storage *grad_x,
                              long long grad_x_offset, const kf_storage *slope,
                              long long slope_offset, long long rows, long long cols,
                              long long grad_y_stride, long long grad_x_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_column_sums(const kf_storage *__restrict__ grad_x, long long grad_x_offset,
                                   float *__restrict__ partials, long long partials_offset,
                                   long long rows, long long cols, long long grad_x_stride)
{
    extern __shared__ float local_memory[];
    back_step_columns(grad_x + grad_x_offset, grad_x_stride, partials + partials_offset, rows, cols,
                      local_memory);
}
#endif

#if KF_ENTRY(bias_gelu_backward_columns)
/* The second stage, of all variants: partial sums to grad_bias. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_columns(kf_storage *__restrict__ grad_bias, long long grad_bias_offset,
                               const float *__restrict__ partials, long long partials_offset,
                               long long parts, long long cols)
{
    extern __shared__ float local_memory[];
    kf_column_write(grad_bias + grad_bias_offset, partials + partials_offset, 0, blockIdx.x, parts,
                    cols, local_memory);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_backward_fused)
typedef struct bias_gelu_backward_row { /* of one thread */
    kf_pack grad[COLUMN_VECS], x[COLUMN_VECS];
} bias_gelu_backward_row;

__device__ inline void
bias_gelu_backward_fetch(bias_gelu_backward_row *r, const kf_columns *c, const kf_storage *grad_y,
                         const kf_storage *x, bool present)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        r->grad[i] = kf_cells_load(grad_y, c, i, present);
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        r->x[i] = kf_cells_load(x, c, i, present);
}

/* Writes a row of grad_x. What is added to the sums is the float, not what is stored of it. */
__device__ inline void
bias_gelu_backward_work(const bias_gelu_backward_row *r, const kf_columns *c, const kf_pack *bias,
                        kf_storage *grad_x, float *sum)
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
extern "C" __global__ void __launch_bounds__(BLOCK, GROUPS_PER_UNIT)
    bias_gelu_backward_fused(const kf_storage *__restrict__ grad_y, long long grad_y_offset,
                             const kf_storage *__restrict__ x, long long x_offset,
                             const kf_storage *__restrict__ bias, long long bias_offset,
                             kf_storage *__restrict__ grad_x, long long grad_x_offset,
                             float *__restrict__ partials, long long partials_offset,
                             long long rows, long long cols, long long grad_y_stride,
                             long long x_stride, long long grad_x_stride)
{
    extern __shared__ float local_memory[];
    const unsigned strips = (unsigned)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    const unsigned strip = blockIdx.x % strips, part = blockIdx.x / strips;
    const long long step = (long long)(gridDim.x / strips) * ROWS_PER_GROUP;
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
    const long long first = (long long)part * ROWS_PER_GROUP + c.team;
    const long long turns = kf_turns(first, step, rows);
    const kf_storage *grad_y_row = grad_y + grad_y_offset + first * grad_y_stride;
    const kf_storage *x_row = x + x_offset + first * x_stride;
    kf_storage *grad_x_row = grad_x + grad_x_offset + first * grad_x_stride;
    if (STAGES > 1)
        bias_gelu_backward_fetch(&next, &c, grad_y_row, x_row, turns > 0);
    for (long long turn = 0; turn < turns; turn++) {
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

/* ---- the same without neighbours: CPU devices, a stretch of a row per thread -------------- */

#if KF_ENTRY(bias_gelu_backward_sum_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_sum_cpu(const kf_storage *x, long long x_offset, const kf_storage *bias,
                               long long bias_offset, kf_storage *sum, long long sum_offset,
                               long long rows, long long cols, long long x_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const kf_storage *const added = bias + bias_offset;
    kf_storage *const to = sum + sum_offset + s.row * cols;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_load(x_row, i) + kf_load(added, i));
}
#endif

#if KF_ENTRY(bias_gelu_backward_slope_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_slope_cpu(const kf_storage *sum, long long sum_offset, kf_storage *slope,
                                 long long slope_offset, long long rows, long long cols)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const from = sum + sum_offset + s.row * cols;
    kf_storage *const to = slope + slope_offset + s.row * cols;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_gelu_slope(kf_load(from, i)));
}
#endif

#if KF_ENTRY(bias_gelu_backward_grad_x_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_grad_x_cpu(const kf_storage *grad_y, long long grad_y_offset,
                                  kf_storage *grad_x, long long grad_x_offset,
                                  const kf_storage *slope, long long slope_offset, long long rows,
                                  long long cols, long long grad_y_stride, long long grad_x_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const kf_storage *const slope_row = slope + slope_offset + s.row * cols;
    kf_storage *const to = grad_x + grad_x_offset + s.row * grad_x_stride;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_load(grad_y_row, i) * kf_load(slope_row, i));
}
#endif

#if KF_ENTRY(bias_gelu_backward_fused_cpu)
/* Strips of columns, whose sums over the thread's rows stay in registers. */
#define BIAS_GELU_STRIP 8

typedef struct bias_gelu_backward_rows { /* of one thread */
    const kf_storage *grad_y, *x, *bias;
    kf_storage *grad_x;
    long long grad_y_stride, x_stride, grad_x_stride;
    int count;
} bias_gelu_backward_rows;

/* `width` columns from `first` on, of all rows of the thread. */
__device__ inline void
bias_gelu_backward_strip(const bias_gelu_backward_rows *r, long long first, int width, float *to)
{
    float sum[BIAS_GELU_STRIP];
    for (int k = 0; k < width; k++)
        sum[k] = 0.0f;
    for (int row = 0; row < r->count; row++)
        for (int k = 0; k < width; k++) {
            const long long i = first + k;
            const float x = kf_load(r->x + row * r->x_stride, i) + kf_load(r->bias, i);
            const float grad = kf_load(r->grad_y + row * r->grad_y_stride, i) * kf_gelu_slope(x);
            kf_store(r->grad_x + row * r->grad_x_stride, i, grad);
            sum[k] += grad;
        }
    for (int k = 0; k < width; k++)
        to[first + k] = sum[k];
}

/* Reads 2 M N elements and the bias in every row, writes M N elements and M / ROWS_PER_ITEM rows of
 * partial sums. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_backward_fused_cpu(const kf_storage *grad_y, long long grad_y_offset,
                                 const kf_storage *x, long long x_offset, const kf_storage *bias,
                                 long long bias_offset, kf_storage *grad_x, long long grad_x_offset,
                                 float *partials, long long partials_offset, long long rows,
                                 long long cols, long long grad_y_stride, long long x_stride,
                                 long long grad_x_stride)
{
    kf_stretch s; /* whose row is one of the partial sums */
    if (!kf_stretch_place(&s, (rows + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, cols))
        return;
    const long long first = s.row * ROWS_PER_ITEM;
    float *const to = partials + partials_offset + s.row * cols;
    bias_gelu_backward_rows r;
    r.grad_y = grad_y + grad_y_offset + first * grad_y_stride;
    r.x = x + x_offset + first * x_stride;
    r.bias = bias + bias_offset;
    r.grad_x = grad_x + grad_x_offset + first * grad_x_stride;
    r.grad_y_stride = grad_y_stride;
    r.x_stride = x_stride;
    r.grad_x_stride = grad_x_stride;
    r.count = rows - first < ROWS_PER_ITEM ? (int)(rows - first) : ROWS_PER_ITEM;
    for (long long i = s.begin; i < s.end; i += BIAS_GELU_STRIP)
        bias_gelu_backward_strip(&r, i, (int)min(s.end - i, (long long)BIAS_GELU_STRIP), to);
}
#endif
