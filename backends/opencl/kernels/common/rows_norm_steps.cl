/* Steps of unfused norms: one line of the formula each, every intermediate through global memory in
 * the storage type. For texts whose plan defines NORM_STEPS. The same names as cuda/kernels/common/rows_norm_steps.cu.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define NORM_STEPS 1
#endif

#ifdef NORM_STEPS
/* Reductions hold this many vectors per thread in flight; maps give each thread one, as a copy. */
#define STEP_VECS 4

/* This thread's part of a row's sum, or sum of squares. */
static inline float norm_step_sum(const __global kf_storage *row, int cols, int lane, bool squares)
{
    kf_span span;
    float sum = 0.0f;
    kf_split(&span, row, cols);
    for (int first = 0; first < span.vectors; first += THREADS_PER_ROW * STEP_VECS) {
        kf_pack data[STEP_VECS];
#pragma unroll
        for (int i = 0; i < STEP_VECS; i++)
            data[i] = kf_fetch(row + span.head, first + i * THREADS_PER_ROW + lane, span.vectors,
                               0.0f);
#pragma unroll
        for (int i = 0; i < STEP_VECS; i++) {
            float value[KF_VEC];
            kf_unpack(data[i], value);
#pragma unroll
            for (int j = 0; j < KF_VEC; j++)
                sum += squares ? value[j] * value[j] : value[j];
        }
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * THREADS_PER_ROW);
        const float value = column < 0 ? 0.0f : kf_load(row, column);
        sum += squares ? value * value : value;
    }
    return sum;
}

typedef struct norm_strip { /* of a map: THREADS_PER_ROW vectors of each row of a group */
    long row;
    int vector, lane; /* `lane` >= 0 in the first strip of a row, which takes its edges too */
} norm_strip;

static inline bool norm_strip_find(norm_strip *s, long rows, long cols)
{
    const uint chunks =
        (uint)((max((int)cols / KF_VEC, 1) + THREADS_PER_ROW - 1) / THREADS_PER_ROW);
    const uint chunk = (uint)get_group_id(0) % chunks;
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW;
    s->row = (long)((uint)get_group_id(0) / chunks) * ROWS_PER_GROUP + (int)get_local_id(0) / THREADS_PER_ROW;
    s->vector = (int)chunk * THREADS_PER_ROW + lane;
    s->lane = chunk ? -1 : lane;
    return s->row < rows;
}

/* Column of this thread's edge i; -1 when it has none. */
static inline int norm_strip_edge(const norm_strip *s, kf_span span, int i)
{
    return s->lane < 0 ? -1 : kf_edge(span, s->lane + i * THREADS_PER_ROW);
}

/* to = (from - centre) scale */
static inline void norm_step_scale(const norm_strip *s, const __global kf_storage *from, __global kf_storage *to,
                        int cols, float centre, float scale)
{
    kf_span span;
    kf_split(&span, from, cols);
    if (s->vector < span.vectors) {
        float value[KF_VEC];
        kf_unpack(kf_load_pack(from + span.head, s->vector), value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] = (value[j] - centre) * scale;
        kf_put(to + span.head, s->vector, kf_repack(value), kf_together(from, to));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = norm_strip_edge(s, span, i);
        if (column >= 0)
            kf_store(to, column, (kf_load(from, column) - centre) * scale);
    }
}

/* Element j of a vector at `column`, of a row whose grid of vectors another row has laid. */
static inline void norm_step_columns(const __global kf_storage *from, int column, bool whole, float *value)
{
    if (whole) {
        kf_unpack(kf_load_pack(from + column, 0), value);
        return;
    }
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = kf_load(from, column + j);
}

/* y = from (offset + weight) + bias; what is absent is a null pointer */
static inline void norm_step_affine(const norm_strip *s, const __global kf_storage *from,
                         const __global kf_storage *weight, const __global kf_storage *bias,
                         __global kf_storage *y, int cols, float offset)
{
    kf_span span;
    kf_split(&span, from, cols);
    if (s->vector < span.vectors) {
        const int column = span.head + s->vector * KF_VEC;
        float value[KF_VEC], factor[KF_VEC], summand[KF_VEC];
        kf_unpack(kf_load_pack(from + span.head, s->vector), value);
        if (weight)
            norm_step_columns(weight, column, ALIGNED, factor);
        if (bias)
            norm_step_columns(bias, column, ALIGNED, summand);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++) {
            value[j] *= weight ? offset + factor[j] : 1.0f;
            value[j] += bias ? summand[j] : 0.0f;
        }
        kf_put(y + span.head, s->vector, kf_repack(value), kf_together(from, y));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = norm_strip_edge(s, span, i);
        if (column < 0)
            continue;
        const float value = kf_load(from, column) * (weight ? offset + kf_load(weight, column) : 1.0f);
        kf_store(y, column, value + (bias ? kf_load(bias, column) : 0.0f));
    }
}

/* to = x + residual */
static inline void norm_step_add(const norm_strip *s, const __global kf_storage *x, const __global kf_storage *residual,
                      __global kf_storage *to, int cols)
{
    kf_span span;
    kf_split(&span, x, cols);
    if (s->vector < span.vectors) {
        float value[KF_VEC], more[KF_VEC];
        const int column = span.head + s->vector * KF_VEC;
        kf_unpack(kf_load_pack(x + span.head, s->vector), value);
        norm_step_columns(residual, column, kf_together(x, residual), more);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            value[j] += more[j];
        kf_put(to + span.head, s->vector, kf_repack(value), kf_together(x, to));
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = norm_strip_edge(s, span, i);
        if (column >= 0)
            kf_store(to, column, kf_load(x, column) + kf_load(residual, column));
    }
}

/* ---- one row per work-item: CPU devices ----------------------------------------------------- */

/* This work-item's row of a matrix; negative: it has none. */
static inline long norm_item_row(long rows)
{
    const long row = (long)(uint)get_group_id(0) * BLOCK + (int)get_local_id(0);
    return row < rows ? row : -1;
}

/* A row's sum, or sum of squares; two chains hide the latency of the addition. */
static inline float norm_item_step_sum(const __global kf_storage *row, int cols, bool squares)
{
    float8 even = 0.0f, odd = 0.0f;
    int i = 0;
    for (; i + 16 <= cols; i += 16) {
        const float8 a = kf_load8(row, i), b = kf_load8(row, i + 8);
        even += squares ? a * a : a;
        odd += squares ? b * b : b;
    }
    float sum = kf_item_sum(even + odd);
    for (; i < cols; i++) {
        const float value = kf_load(row, i);
        sum += squares ? value * value : value;
    }
    return sum;
}

static inline void norm_item_step_scale(const __global kf_storage *from, __global kf_storage *to,
                                        int cols, float centre, float scale)
{
    int i = 0;
    for (; i + 8 <= cols; i += 8)
        kf_store8(to, i, (kf_load8(from, i) - centre) * scale);
    for (; i < cols; i++)
        kf_store(to, i, (kf_load(from, i) - centre) * scale);
}

static inline void norm_item_step_affine(const __global kf_storage *from,
                                         const __global kf_storage *weight,
                                         const __global kf_storage *bias, __global kf_storage *y,
                                         int cols, float offset)
{
    int i = 0;
    for (; i + 8 <= cols; i += 8) {
        float8 value = kf_load8(from, i);
        if (weight)
            value *= offset + kf_load8(weight, i);
        if (bias)
            value += kf_load8(bias, i);
        kf_store8(y, i, value);
    }
    for (; i < cols; i++) {
        const float value = kf_load(from, i) * (weight ? offset + kf_load(weight, i) : 1.0f);
        kf_store(y, i, value + (bias ? kf_load(bias, i) : 0.0f));
    }
}

static inline void norm_item_step_add(const __global kf_storage *x,
                                      const __global kf_storage *residual, __global kf_storage *to,
                                      int cols)
{
    int i = 0;
    for (; i + 8 <= cols; i += 8)
        kf_store8(to, i, kf_load8(x, i) + kf_load8(residual, i));
    for (; i < cols; i++)
        kf_store(to, i, kf_load(x, i) + kf_load(residual, i));
}
#endif
