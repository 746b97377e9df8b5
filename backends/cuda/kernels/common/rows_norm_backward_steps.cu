/* Steps of the unfused backward norms: one line of the formula each, every matrix through global
 * memory in the storage type. For texts whose plan defines BACK_STEPS; they have no barrier where
 * THREADS_PER_ROW = 1 or a row has the group for itself. The same names as
 * opencl/kernels/common/rows_norm_backward_steps.cl. SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BACK_STEPS 1
#endif

#ifdef BACK_STEPS
/* Row and columns of a map's thread: groups go over the strips of a row, then to the next rows. */
__device__ inline bool back_step_place(kf_columns *c, long long *row, long long rows,
                                       long long cols)
{
    const unsigned strips = (unsigned)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    kf_columns_place(c, (int)(blockIdx.x % strips) * COLUMN_WIDTH, cols);
    *row = (long long)(blockIdx.x / strips) * ROWS_PER_GROUP + c->team;
    return *row < rows;
}

__device__ inline void back_step_load(const kf_storage *row, const kf_columns *c, int i,
                                      float *value)
{
    kf_unpack(kf_cells_load(row, c, i, true), value);
}

/* to = (x - mean) rstd */
__device__ inline void back_step_normal(const kf_storage *x, kf_storage *to, const kf_columns *c,
                                        float mean, float rstd)
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
__device__ inline void back_step_product(const kf_storage *a, const kf_storage *b, float offset,
                                         kf_storage *to, const kf_columns *c)
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
__device__ inline float back_step_row_sum(const kf_storage *a, const kf_storage *b, bool product,
                                          kf_columns *c, bool present, float *slots)
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
__device__ inline void back_step_result(const kf_storage *scaled, const kf_storage *normal,
                                        kf_storage *to, const kf_columns *c, float mean, float dot,
                                        float rstd)
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
__device__ inline void back_step_columns(const kf_storage *from, long long stride, float *partials,
                                         long long rows, long long cols, float *joined)
{
    const unsigned strips = (unsigned)((cols + COLUMN_WIDTH - 1) / COLUMN_WIDTH);
    const unsigned strip = blockIdx.x % strips, part = blockIdx.x / strips;
    const long long step = (long long)(gridDim.x / strips) * ROWS_PER_GROUP;
    float sum[COLUMN_CELLS];
    kf_columns c;
    kf_columns_place(&c, (int)strip * COLUMN_WIDTH, cols);
#pragma unroll
    for (int i = 0; i < COLUMN_CELLS; i++)
        sum[i] = 0.0f;
    const long long first = (long long)part * ROWS_PER_GROUP + c.team,
                    turns = kf_turns(first, step, rows);
#pragma unroll 8
    for (long long turn = 0; turn < turns; turn++) {
        const kf_storage *const row = from + (first + turn * step) * stride;
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
