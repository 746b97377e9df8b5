/* Steps of the unfused backward norms: one line of the formula each, every matrix through global
 * memory in the storage type. For texts whose plan defines BACK_STEPS; they have no barrier where
 * THREADS_PER_ROW = 1 or a row has the group for itself. The same names as
 * cuda/kernels/common/rows_norm_backward_steps.cu. SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BACK_STEPS 1
#endif

#ifdef BACK_STEPS
/* Row and columns of a map's thread: groups go over the strips of a row, then to the next rows. */
static inline bool back_step_place(kf_columns *c, long *row, long rows, long cols)
{
    const uint strips = (uint)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    kf_columns_place(c, (int)((uint)get_group_id(0) % strips) * COLUMN_WIDTH, cols);
    *row = (long)((uint)get_group_id(0) / strips) * ROWS_PER_GROUP + c->team;
    return *row < rows;
}

static inline void
back_step_load(const __global kf_storage *row, const kf_columns *c, int i, float *value)
{
    kf_unpack(kf_cells_load(row, c, i, true), value);
}

/* to = (x - mean) rstd */
static inline void back_step_normal(const __global kf_storage *x, __global kf_storage *to,
                                    const kf_columns *c, float mean, float rstd)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float value[KF_VEC];
        back_step_load(x, c, i, value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] = (value[j] - mean) * rstd;
        kf_cells_store(to, c, i, value);
    }
}

/* to = a (offset + b) */
static inline void back_step_product(const __global kf_storage *a, const __global kf_storage *b,
                                     float offset, __global kf_storage *to, const kf_columns *c)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float value[KF_VEC], factor[KF_VEC];
        back_step_load(a, c, i, value);
        back_step_load(b, c, i, factor);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] *= offset + factor[j];
        kf_cells_store(to, c, i, value);
    }
}

/* Sum of a, or of a b, over a row. */
static inline float
back_step_row_sum(const __global kf_storage *a, const __global kf_storage *b, bool product,
                  kf_columns *c, bool present, __local float *slots)
{
    float sum = 0.0f;
    for (c->first = 0; present && c->first < c->end; c->first += COLUMN_WIDTH) {
        kf_pack data[COLUMN_VECS], more[COLUMN_VECS];
#pragma unroll
        for (int i = 0; i < COLUMN_VECS; i++)
            data[i] = kf_cells_load(a, c, i, true);
#pragma unroll
        for (int i = 0; i < COLUMN_VECS; i++)
            if (product)
                more[i] = kf_cells_load(b, c, i, true);
#pragma unroll
        for (int i = 0; i < COLUMN_VECS; i++) {
            float value[KF_VEC], factor[KF_VEC];
            kf_unpack(data[i], value);
            if (product)
                kf_unpack(more[i], factor);
#pragma unroll
            for (int j = 0; j < KF_VEC; j++)
                sum += product ? value[j] * factor[j] : value[j];
        }
    }
    return kf_group_sum(sum, THREADS_PER_ROW, c->lane, slots + c->team * KF_SLOTS(THREADS_PER_ROW));
}

/* grad_x = rstd (scaled - mean - normal dot) */
static inline void
back_step_result(const __global kf_storage *scaled, const __global kf_storage *normal,
                 __global kf_storage *to, const kf_columns *c, float mean, float dot, float rstd)
{
#pragma unroll
    for (int i = 0; i < COLUMN_VECS; i++) {
        float value[KF_VEC], xhat[KF_VEC];
        back_step_load(scaled, c, i, value);
        back_step_load(normal, c, i, xhat);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] = rstd * (value[j] - mean - xhat[j] * dot);
        kf_cells_store(to, c, i, value);
    }
}

/* Partial sums over the rows, a strip of columns per group. */
static inline void
back_step_columns(const __global kf_storage *from, long stride, __global float *partials, long rows,
                  long cols, __local float *joined)
{
    const uint strips = (uint)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    const uint strip = (uint)get_group_id(0) % strips, part = (uint)get_group_id(0) / strips;
    const long step = (long)((uint)get_num_groups(0) / strips) * ROWS_PER_GROUP;
    float sum[COLUMN_CELLS];
    kf_columns c;
    kf_columns_place(&c, (int)strip * COLUMN_WIDTH, cols);
#pragma unroll
    for (int i = 0; i < COLUMN_CELLS; i++)
        sum[i] = 0.0f;
    const long first = (long)part * ROWS_PER_GROUP + c.team, turns = kf_turns(first, step, rows);
#pragma unroll 8
    for (long turn = 0; turn < turns; turn++) {
        const __global kf_storage *const row = from + (first + turn * step) * stride;
#pragma unroll
        for (int i = 0; i < COLUMN_VECS; i++) {
            float value[KF_VEC];
            back_step_load(row, &c, i, value);
#pragma unroll
            for (int j = 0; j < KF_VEC; j++)
                sum[i * KF_VEC + j] += value[j];
        }
    }
    kf_cells_join(&c, sum, partials + part * cols, joined);
}
#endif
