/* Norms of rows that land in local memory by bulk copies (rows_bulk.cl), a warp per row: for texts
 * whose plan defines CENTRED and BULK_VECS. The mean is that of the whole row before the squares
 * are taken about it: three walks over local memory, no parts to join. Reads and writes M N
 * elements, weight and bias once per group. The same names as
 * cuda/kernels/common/rows_norm_bulk.cu. SPDX-License-Identifier: Apache-2.0 */
#if defined(CENTRED) && defined(BULK_VECS)

typedef struct norm_bulk { /* the tensors; rows begin at multiples of the strides */
    const __global kf_storage *x, *residual, *weight, *bias;
    __global kf_storage *y, *residual_out;
    __global float *mean, *rstd;
    long rows, x_stride, residual_stride, y_stride, residual_out_stride;
    int cols;
    float eps, offset;
} norm_bulk;

static inline void norm_bulk_ask(const kf_bulk *b, const norm_bulk *n, long row)
{
    if (row >= n->rows || b->lane != 0)
        return;
    kf_bulk_expect(b);
    kf_bulk_ask(b, 0, n->x + row * n->x_stride);
#if ADDED
    kf_bulk_ask(b, 1, n->residual + row * n->residual_stride);
#endif
}

#if ADDED
/* x + residual, rounded to storage, to its tensor and in place of x. */
static inline void norm_bulk_add(const kf_bulk *b, __global kf_storage *residual_out)
{
#pragma unroll 2
    for (int turn = 0; turn < BULK_TURNS; turn++) {
        kf_pack data[BULK_BATCH], more[BULK_BATCH];
        kf_bulk_load(b, b->slot, turn, 0.0f, data);
        kf_bulk_load(b, b->slot + BULK_VECS, turn, 0.0f, more);
#pragma unroll
        for (int i = 0; i < BULK_BATCH; i++) {
            const int v = kf_bulk_vector(b, turn, i);
            if (!kf_bulk_has(v))
                continue;
            data[i] = norm_pack_added(data[i], more[i]);
            b->slot[v] = data[i];
            kf_store_pack(residual_out, v, data[i]);
        }
    }
}
#endif

static inline float norm_bulk_sum(const kf_bulk *b)
{
    float sum[BULK_BATCH] = {0.0f};
#pragma unroll 2
    for (int turn = 0; turn < BULK_TURNS; turn++) {
        kf_pack data[BULK_BATCH];
        kf_bulk_load(b, b->slot, turn, 0.0f, data);
#pragma unroll
        for (int i = 0; i < BULK_BATCH; i++)
            sum[i] += norm_pack_sum(data[i]);
    }
    return kf_warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]), KF_WARP);
}

static inline float norm_bulk_squares(const kf_bulk *b, float mean)
{
    float sum[BULK_BATCH] = {0.0f};
#pragma unroll 2
    for (int turn = 0; turn < BULK_TURNS; turn++) {
        kf_pack data[BULK_BATCH];
        kf_bulk_load(b, b->slot, turn, 0.0f, data);
#pragma unroll
        for (int i = 0; i < BULK_BATCH; i++)
            if (kf_bulk_has(kf_bulk_vector(b, turn, i)))
                sum[i] += norm_pack_squares(data[i], mean, 0);
    }
    return kf_warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]), KF_WARP);
}

static inline void norm_bulk_write(const kf_bulk *b, const norm_bulk *n, __global kf_storage *y,
                                       norm_moments m)
{
#pragma unroll 2
    for (int turn = 0; turn < BULK_TURNS; turn++) {
        kf_pack data[BULK_BATCH], factor[BULK_BATCH], summand[BULK_BATCH];
        kf_bulk_load(b, b->slot, turn, 0.0f, data);
        if (WEIGHT)
            kf_bulk_load(b, b->shared, turn, 0.0f, factor);
        if (BIAS)
            kf_bulk_load(b, b->shared + WEIGHT * BULK_VECS, turn, 0.0f, summand);
#pragma unroll
        for (int i = 0; i < BULK_BATCH; i++) {
            float value[KF_VEC], weight[KF_VEC], bias[KF_VEC];
            const int v = kf_bulk_vector(b, turn, i);
            if (!kf_bulk_has(v))
                continue;
            kf_unpack(data[i], value);
            if (WEIGHT)
                kf_unpack(factor[i], weight);
            if (BIAS)
                kf_unpack(summand[i], bias);
#pragma unroll
            for (int j = 0; j < KF_VEC; j++)
                value[j] = norm_value(value[j], m, WEIGHT ? n->offset + weight[j] : 1.0f,
                                      BIAS ? bias[j] : 0.0f);
            kf_store_pack(y, v, kf_repack(value));
        }
    }
}

static inline void norm_bulk_run(const norm_bulk *n, __local kf_pack *local_memory)
{
    kf_bulk b;
    kf_bulk_open(&b, local_memory);
    norm_bulk_ask(&b, n, b.row);
    if (WEIGHT)
        kf_bulk_share(&b, 0, n->weight);
    if (BIAS)
        kf_bulk_share(&b, WEIGHT, n->bias);
    kf_bulk_shared();
    for (; b.row < n->rows; b.row += b.step) {
        norm_moments m;
        kf_bulk_wait(&b);
#if ADDED
        norm_bulk_add(&b, n->residual_out + b.row * n->residual_out_stride);
#endif
        m.x = CENTRED ? norm_bulk_sum(&b) / (float)n->cols : 0.0f;
        m.y = rsqrt(norm_bulk_squares(&b, m.x) / (float)n->cols + n->eps);
        norm_bulk_write(&b, n, n->y + b.row * n->y_stride, m);
        kf_bulk_done(ADDED);
        norm_bulk_ask(&b, n, b.row + b.step);
        if (MEAN && b.lane == 0)
            n->mean[b.row] = m.x;
        if (RSTD && b.lane == 0)
            n->rstd[b.row] = m.y;
    }
}
#endif
