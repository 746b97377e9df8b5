/* Backward passes of layer norm and RMS norm, row by row: with the row's mean and rstd as the
 * forward pass gave them, xhat = (x - mean) rstd, g = grad_y (offset + weight) and N columns,
 *
 *     grad_x = rstd (g - sum(g) / N - xhat sum(g xhat) / N)
 *     grad_weight = sum over the rows of grad_y xhat,  grad_bias = sum over the rows of grad_y
 *
 *     CENTRING=1   layer norm
 *     CENTRING=0   RMS norm: mean = 0, and the term sum(g) / N is not there
 *
 * WEIGHT says whether there is a weight, WEIGHT_GRAD and BIAS_GRAD which sums are wanted. For texts
 * whose plan defines CENTRING (ops/common/norm_backward.c). The same names as
 * cuda/kernels/common/rows_norm_backward.cu.
 *
 * A group walks over many rows, and its threads keep the sums over these in registers
 * (common/rows_columns). STAGES=2 asks for the next row before this one is reduced: the memory works
 * while the group waits for itself. KEEP=1 keeps g and xhat as floats from the reduction to the
 * result; with KEEP=0 they are made again from what was loaded, which takes half the registers.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define CENTRING 1
#define WEIGHT 1
#define WEIGHT_GRAD 1
#define BIAS_GRAD 1
#define STAGES 2
#define KEEP 1
#define ROWS_PER_ITEM 8
#endif

#ifdef CENTRING
#define BACK_OUTPUTS (WEIGHT_GRAD + BIAS_GRAD)

typedef struct back_tensors { /* what is absent is never touched */
    const __global kf_storage *grad_y, *x, *weight;
    const __global float *mean, *rstd;
    __global kf_storage *grad_x;
    long grad_y_stride, x_stride, grad_x_stride;
    float offset;
} back_tensors;

typedef struct back_sums { /* of a row: g and g xhat, then their means */
    float g, dot;
} back_sums;

static inline float back_result(float g, float xhat, back_sums mean, float rstd)
{
    return rstd * (CENTRING ? g - mean.g - xhat * mean.dot : g - xhat * mean.dot);
}
#endif

/* ---- a thread's columns of one row ----------------------------------------------------------- */

#if defined(CENTRING) && defined(COLUMN_VECS)
typedef struct back_row {
    kf_pack grad[COLUMN_VECS], x[COLUMN_VECS];
    float mean, rstd;
} back_row;

static inline void
back_fetch(back_row *r, const back_tensors *t, const kf_columns *c, long row, bool present)
{
    if (!present) /* past the last row: nothing is added to any sum */
        row = 0;
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        r->grad[i] = kf_cells_load(t->grad_y + row * t->grad_y_stride, c, i, present);
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        r->x[i] = kf_cells_load(t->x + row * t->x_stride, c, i, present);
    r->mean = CENTRING && present ? t->mean[row] : 0.0f;
    r->rstd = present ? t->rstd[row] : 0.0f;
}

static inline void back_weights(kf_pack *weight, const back_tensors *t, const kf_columns *c)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++)
        if (WEIGHT)
            weight[i] = kf_cells_load(t->weight, c, i, true);
}

/* Of vector i: grad_y and xhat. */
static inline void back_values(const back_row *r, int i, uint zero, float *grad, float *xhat)
{
    kf_unpack(kf_again(r->grad[i], zero), grad);
    kf_unpack(kf_again(r->x[i], zero), xhat);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        xhat[j] = (CENTRING ? xhat[j] - r->mean : xhat[j]) * r->rstd;
}

/* g of vector i. */
static inline void
back_scaled(const float *grad, const kf_pack *weight, int i, float offset, uint zero, float *g)
{
    if (WEIGHT)
        kf_unpack(kf_again(weight[i], zero), g);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        g[j] = WEIGHT ? grad[j] * (offset + g[j]) : grad[j];
}

/* This thread's part of the row's sums; 0 xhat may be NaN where the row has no column. */
static inline void back_add_row(const back_row *r, const kf_pack *weight, const kf_columns *c,
                                float offset, back_sums *row)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float grad[KF_VEC], g[KF_VEC], xhat[KF_VEC];
        back_values(r, i, 0, grad, xhat);
        back_scaled(grad, weight, i, offset, 0, g);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            if (kf_cell_has(c, i, j)) {
                row->g += g[j];
                row->dot += g[j] * xhat[j];
            }
    }
}

/* This row's part of the sums over the rows. */
static inline void back_add_columns(const back_row *r, float *weight_sum, float *bias_sum)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float grad[KF_VEC], xhat[KF_VEC];
        back_values(r, i, 0, grad, xhat);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++) {
            if (WEIGHT_GRAD)
                weight_sum[i * KF_VEC + j] += grad[j] * xhat[j];
            if (BIAS_GRAD)
                bias_sum[i * KF_VEC + j] += grad[j];
        }
    }
}

static inline void
back_write(const back_row *r, const kf_pack *weight, const kf_columns *c, const back_tensors *t,
           __global kf_storage *to, back_sums mean, uint zero)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float grad[KF_VEC], g[KF_VEC], xhat[KF_VEC];
        back_values(r, i, zero, grad, xhat);
        back_scaled(grad, weight, i, t->offset, zero, g);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            g[j] = back_result(g[j], xhat[j], mean, r->rstd);
        kf_cells_store(to, c, i, g);
    }
}

/* ---- the sums of a row ----------------------------------------------------------------------- */

#define BACK_WARPS (THREADS_PER_ROW / KF_WARP) /* 0 where several rows share a warp */

/* Floats of local memory: two pairs per warp, used in turn, or a float per work-item for trees. */
#define BACK_SLOTS (ROWS_PER_GROUP * (KF_WARP > 1 ? 4 * BACK_WARPS : (THREADS_PER_ROW + 3) / 4 * 4))

/* Over the threads of the row, to all of them. One barrier where warps meet: `turn` changes from
 * call to call, so that nobody writes over what another still reads. */
static inline void back_share(back_sums *s, const kf_columns *c, __local float *slots, int turn)
{
#if KF_CAP_SHUFFLE
    const int lanes = THREADS_PER_ROW < KF_WARP ? THREADS_PER_ROW : KF_WARP;
    if (CENTRING)
        s->g = kf_warp_sum(s->g, lanes);
    s->dot = kf_warp_sum(s->dot, lanes);
    if (BACK_WARPS > 1) {
        __local float *const slot = slots + (turn * ROWS_PER_GROUP + c->team) * 2 * BACK_WARPS;
        if (c->lane % KF_WARP == 0) {
            if (CENTRING)
                slot[BACK_WARPS + c->lane / KF_WARP] = s->g;
            slot[c->lane / KF_WARP] = s->dot;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        const int from = c->lane % (BACK_WARPS > 0 ? BACK_WARPS : 1);
        if (CENTRING)
            s->g = kf_warp_sum(slot[BACK_WARPS + from], BACK_WARPS);
        s->dot = kf_warp_sum(slot[from], BACK_WARPS);
    }
#else
    __local float *const tree = slots + c->team * ((THREADS_PER_ROW + 3) / 4 * 4);
    if (CENTRING)
        s->g = kf_group_sum(s->g, THREADS_PER_ROW, c->lane, tree);
    s->dot = kf_group_sum(s->dot, THREADS_PER_ROW, c->lane, tree);
#endif
}

/* ---- rows held on chip ------------------------------------------------------------------------ */

#ifdef STAGES
/* The groups take turns with the rows, ROWS_PER_GROUP at a time; behind the last row each writes its
 * partial sums, [output][group][column]. */
static inline void back_rows(const back_tensors *t, __global float *partials, long rows, long cols,
                             __local float *local_memory, uint zero)
{
    const long step = (long)(uint)get_num_groups(0) * ROWS_PER_GROUP;
    const long begin = (long)(uint)get_group_id(0) * ROWS_PER_GROUP;
    const float share = 1.0f / (float)cols;
    float weight_sum[COLUMN_CELLS], bias_sum[COLUMN_CELLS];
    kf_pack weight[COLUMN_VECS];
    kf_columns c;
    back_row next;
    kf_columns_place(&c, 0, cols);
    back_weights(weight, t, &c);
#pragma unroll
    for (int i = 0; i < COLUMN_CELLS; i++)
        weight_sum[i] = bias_sum[i] = 0.0f;
    if (STAGES > 1)
        back_fetch(&next, t, &c, begin + c.team, begin + c.team < rows);

    int turn = 0;
    for (long at = begin; at < rows; at += step) {
        const long row = at + c.team;
        back_row here;
        back_sums sums;
        if (STAGES == 1)
            back_fetch(&next, t, &c, row, row < rows);
        here = next;
        if (STAGES > 1)
            back_fetch(&next, t, &c, row + step, row + step < rows);
        sums.g = sums.dot = 0.0f;
        back_add_row(&here, weight, &c, t->offset, &sums);
        back_add_columns(&here, weight_sum, bias_sum);
        back_share(&sums, &c, local_memory, turn);
        turn ^= 1;
        sums.g *= share;
        sums.dot *= share;
        if (row < rows)
            back_write(&here, weight, &c, t, t->grad_x + row * t->grad_x_stride, sums,
                       KEEP ? 0 : zero);
    }

    __global float *const mine = partials + (uint)get_group_id(0) * cols;
    if (WEIGHT_GRAD)
        kf_cells_join(&c, weight_sum, mine, local_memory + BACK_SLOTS);
    if (BIAS_GRAD)
        kf_cells_join(&c, bias_sum, mine + WEIGHT_GRAD * (long)(uint)get_num_groups(0) * cols,
                      local_memory + BACK_SLOTS);
}
#endif

/* ---- rows wider than the chip ------------------------------------------------------------------ */

/* Two reads, strip by strip: the row's sums, then its gradient. One row per group. */
static inline void back_online(const back_tensors *t, long cols, __local float *slots)
{
    const long row = (uint)get_group_id(0);
    kf_pack weight[COLUMN_VECS];
    back_row here;
    back_sums sums;
    kf_columns c;
    sums.g = sums.dot = 0.0f;
    kf_columns_place(&c, 0, cols);
    for (; c.first < (int)cols; c.first += COLUMN_WIDTH) {
        back_fetch(&here, t, &c, row, true);
        back_weights(weight, t, &c);
        back_add_row(&here, weight, &c, t->offset, &sums);
    }
    back_share(&sums, &c, slots, 0);
    const float share = 1.0f / (float)cols;
    sums.g *= share;
    sums.dot *= share;
    for (c.first = 0; c.first < (int)cols; c.first += COLUMN_WIDTH) {
        back_fetch(&here, t, &c, row, true);
        back_weights(weight, t, &c);
        back_write(&here, weight, &c, t, t->grad_x + row * t->grad_x_stride, sums, 0);
    }
}

/* The sums over the rows in a launch of their own: each group has one strip of the columns and takes
 * turns with the rows. */
static inline void back_columns(const back_tensors *t, __global float *partials, long rows,
                                long cols, __local float *joined)
{
    const uint strips = (uint)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    const uint strip = (uint)get_group_id(0) % strips, part = (uint)get_group_id(0) / strips;
    const long parts = (uint)get_num_groups(0) / strips, step = parts * ROWS_PER_GROUP;
    float weight_sum[COLUMN_CELLS], bias_sum[COLUMN_CELLS];
    kf_columns c;
    kf_columns_place(&c, (int)strip * COLUMN_WIDTH, cols);
#pragma unroll
    for (int i = 0; i < COLUMN_CELLS; i++)
        weight_sum[i] = bias_sum[i] = 0.0f;
    const long first = (long)part * ROWS_PER_GROUP + c.team, turns = kf_turns(first, step, rows);
#pragma unroll 4
    for (long turn = 0; turn < turns; turn++) {
        back_row here;
        back_fetch(&here, t, &c, first + turn * step, true);
        back_add_columns(&here, weight_sum, bias_sum);
    }
    if (WEIGHT_GRAD)
        kf_cells_join(&c, weight_sum, partials + part * cols, joined);
    if (BIAS_GRAD)
        kf_cells_join(&c, bias_sum, partials + (WEIGHT_GRAD * parts + part) * cols,
                      joined);
}
#endif

/* ---- ROWS_PER_ITEM rows per work-item: CPU devices ---------------------------------------------- */

#if defined(CENTRING) && defined(ROWS_PER_ITEM)
/* No barrier, no local memory, eight columns at a time. The rows of an item stay in the core's cache
 * between the walk for their sums and the walk over strips of columns, in which the sums over the
 * item's rows stay in registers. */
#define ITEM_STRIP 8 /* times eight columns */

typedef struct back_item_row {
    const __global kf_storage *grad_y, *x;
    __global kf_storage *grad_x;
    float mean, rstd;
    back_sums sums;
} back_item_row;

static inline float back_item_xhat(const back_item_row *r, int i)
{
    const float x = kf_load(r->x, i);
    return (CENTRING ? x - r->mean : x) * r->rstd;
}

static inline float8 back_item_xhat8(const back_item_row *r, int i)
{
    const float8 x = kf_load8(r->x, i);
    return (CENTRING ? x - r->mean : x) * r->rstd;
}

static inline float back_item_weight(const back_tensors *t, int i)
{
    return WEIGHT ? t->offset + kf_load(t->weight, i) : 1.0f;
}

static inline float8 back_item_scaled8(const back_tensors *t, float8 grad, int i)
{
#if WEIGHT
    grad *= t->offset + kf_load8(t->weight, i);
#endif
    return grad;
}

static inline float back_add8(float8 wide)
{
    const float4 four = wide.lo + wide.hi;
    return (four.x + four.y) + (four.z + four.w);
}

static inline void back_item_sums(const back_tensors *t, back_item_row *r, int cols)
{
    float8 g8 = 0.0f, dot8 = 0.0f;
    int i = 0;
    for (; i + 8 <= cols; i += 8) {
        const float8 g = back_item_scaled8(t, kf_load8(r->grad_y, i), i);
        if (CENTRING)
            g8 += g;
        dot8 += g * back_item_xhat8(r, i);
    }
    float all = back_add8(g8), product = back_add8(dot8);
    for (; i < cols; i++) {
        const float g = kf_load(r->grad_y, i) * back_item_weight(t, i);
        all += g;
        product += g * back_item_xhat(r, i);
    }
    r->sums.g = all;
    r->sums.dot = product;
}

/* `chunks` times eight columns from `first` on, of all rows of the item. */
static inline void
back_item_strip(const back_tensors *t, const back_item_row *row, int count, int first, int chunks,
                __global float *weight_to, __global float *bias_to)
{
    float8 weight_sum[ITEM_STRIP], bias_sum[ITEM_STRIP];
    for (int k = 0; k < chunks; k++)
        weight_sum[k] = bias_sum[k] = 0.0f;
    for (int r = 0; r < count; r++)
        for (int k = 0; k < chunks; k++) {
            const int i = first + 8 * k;
            const float8 grad = kf_load8(row[r].grad_y, i), xhat = back_item_xhat8(&row[r], i);
            float8 g = back_item_scaled8(t, grad, i);
            if (CENTRING)
                g -= row[r].sums.g;
            kf_store8(row[r].grad_x, i, row[r].rstd * (g - xhat * row[r].sums.dot));
            if (WEIGHT_GRAD)
                weight_sum[k] += grad * xhat;
            if (BIAS_GRAD)
                bias_sum[k] += grad;
        }
    for (int k = 0; k < chunks; k++) {
        if (WEIGHT_GRAD)
            vstore8(weight_sum[k], 0, weight_to + first + 8 * k);
        if (BIAS_GRAD)
            vstore8(bias_sum[k], 0, bias_to + first + 8 * k);
    }
}

static inline void back_item_column(const back_tensors *t, const back_item_row *row, int count,
                                    int i, __global float *weight_to, __global float *bias_to)
{
    float weight_sum = 0.0f, bias_sum = 0.0f;
    for (int r = 0; r < count; r++) {
        const float grad = kf_load(row[r].grad_y, i), xhat = back_item_xhat(&row[r], i);
        const float g = grad * back_item_weight(t, i);
        kf_store(row[r].grad_x, i, back_result(g, xhat, row[r].sums, row[r].rstd));
        weight_sum += grad * xhat;
        bias_sum += grad;
    }
    if (WEIGHT_GRAD)
        weight_to[i] = weight_sum;
    if (BIAS_GRAD)
        bias_to[i] = bias_sum;
}

static inline void
back_item(const back_tensors *t, __global float *partials, long item, long rows, long cols)
{
    const long begin = item * ROWS_PER_ITEM, parts = (rows + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM;
    const int count = rows - begin < ROWS_PER_ITEM ? (int)(rows - begin) : ROWS_PER_ITEM;
    const int wide = (int)cols / 8 * 8;
    const float share = 1.0f / (float)cols;
    back_item_row row[ROWS_PER_ITEM];
    for (int r = 0; r < count; r++) {
        row[r].grad_y = t->grad_y + (begin + r) * t->grad_y_stride;
        row[r].x = t->x + (begin + r) * t->x_stride;
        row[r].grad_x = t->grad_x + (begin + r) * t->grad_x_stride;
        row[r].mean = CENTRING ? t->mean[begin + r] : 0.0f;
        row[r].rstd = t->rstd[begin + r];
        back_item_sums(t, &row[r], (int)cols);
        row[r].sums.g *= share;
        row[r].sums.dot *= share;
    }
    __global float *const weight_to = partials + item * cols;
    __global float *const bias_to = weight_to + WEIGHT_GRAD * parts * cols;
    for (int i = 0; i < wide; i += 8 * ITEM_STRIP)
        back_item_strip(t, row, count, i, min((wide - i) / 8, ITEM_STRIP), weight_to, bias_to);
    for (int i = wide; i < (int)cols; i++)
        back_item_column(t, row, count, i, weight_to, bias_to);
}
#endif
