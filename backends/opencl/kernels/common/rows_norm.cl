/* Layer norm and RMS norm of rows: y = (x - mean) rstd (offset + weight) + bias, where
 *
 *     CENTRED=1   layer norm: the mean first, then the squares about it from the copy on chip
 *     CENTRED=0   RMS norm: mean = 0, rstd = 1 / sqrt(mean of squares + eps)
 *     ADDED=1     x + residual takes the place of x, rounded to storage as it is written out
 *
 * and WEIGHT, BIAS, MEAN, RSTD say which of the optional tensors are there. Arithmetic is f32 from the
 * first load to the last store. For texts whose plan defines CENTRED (ops/common/norm.c). The same
 * names as cuda/kernels/common/rows_norm.cu.
 *
 * A row needs one exchange: each warp centres its own elements about its own mean, and the parts
 * (mean, squares, count) are joined as Chan, Golub and LeVeque (1979) do. Two exchanges, mean and
 * then squares, would cost a second round trip per row. Without shuffles two
 * trees over the row take the place of the parts.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define CENTRED 1
#define ADDED 0
#define WEIGHT 1
#define BIAS 1
#define MEAN 0
#define RSTD 0
#endif

#ifdef CENTRED
typedef struct norm_row { /* where this row of each tensor begins; what is absent is never touched */
    const __global kf_storage *x, *residual, *weight, *bias;
    __global kf_storage *y, *residual_out;
    __global float *mean, *rstd; /* of this row */
    float eps, offset;
    long next; /* fused_cpu of one matrix: elements from this row to the next, 0 in the last */
} norm_row;

/* (mean, rstd). A vector: a struct returned by value is more than Oclgrind can run without
 * optimisation. */
typedef float2 norm_moments;

static inline float norm_value(float value, norm_moments m, float weight, float bias)
{
    const float normal = (CENTRED ? value - m.x : value) * m.y;
    return WEIGHT ? normal * weight + bias : normal + bias;
}

static inline float norm_weight(const norm_row *row, int column)
{
    return WEIGHT ? row->offset + kf_load(row->weight, column) : 1.0f;
}

static inline float norm_bias(const norm_row *row, int column)
{
    return BIAS ? kf_load(row->bias, column) : 0.0f;
}

static inline float norm_added(float x, float residual)
{
    return kf_decode(kf_encode(x + residual));
}

/* Weights are asked for with the row, so that they are there when its moments are: 6 % where rows
 * are too few to hide a second wait (RMS norm bf16 8192x512 on an H200: 5.84 against 6.23 us; f32
 * 1823x781 4.72, 5.10), nothing where rows hide it. Only where registers for both are left: 8 for
 * each vector beside 32 others, of 64 Ki on a unit. Not for the layer norm of misaligned 16-bit rows,
 * whose weights come one by one, in front of its longer arithmetic (4.37 against 4.13). */
#ifdef VECS
#define EARLY                                                                                      \
    (WEIGHT && (ALIGNED || !CENTRED || KF_DTYPE == KF_F32) &&                                      \
     BLOCK * LEAST_GROUPS * (32 + 8 * REGISTER_VECS) <= 65536)
#else
#define EARLY 0
#endif
#if EARLY
#define EARLY_WEIGHT(i) (&weight[i])
#else
#define EARLY_WEIGHT(i) 0
#endif

/* ---- one vector ---------------------------------------------------------------------------- */

#ifdef THREADS_PER_ROW
static inline float norm_pack_sum(kf_pack pack)
{
    float value[KF_VEC], sum = 0.0f;
    kf_unpack(pack, value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        sum += value[j];
    return sum;
}

static inline float norm_pack_squares(kf_pack pack, float mean, uint zero)
{
    float value[KF_VEC], sum = 0.0f;
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        if (CENTRED)
            value[j] -= mean;
        sum += value[j] * value[j];
    }
    return sum;
}

static inline kf_pack norm_pack_added(kf_pack a, kf_pack b)
{
    float value[KF_VEC], more[KF_VEC];
    kf_unpack(a, value);
    kf_unpack(b, more);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] += more[j];
    return kf_repack(value);
}

/* Vector v of a row whose grid of vectors another row has laid. */
static inline kf_pack norm_fetch(const __global kf_storage *from, int v, int vectors, bool together)
{
    float value[KF_VEC];
    if (together)
        return kf_fetch_once(from, v, vectors, 0.0f);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = v < vectors ? kf_load(from, v * KF_VEC + j) : 0.0f;
    return kf_repack(value);
}

/* KF_VEC neighbouring columns of weight or bias. */
static inline void norm_columns(const __global kf_storage *from, int column, float *value)
{
#if ALIGNED
    kf_unpack(kf_load_pack(from, column / KF_VEC), value);
#else
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = kf_load(from, column + j);
#endif
}

/* The result of a vector that begins at `column`; `early` is its weight where that was fetched before
 * the row, else null. */
static inline kf_pack norm_result(const norm_row *row, int column, kf_pack pack, norm_moments m,
                                  uint zero, const kf_pack *early)
{
    float value[KF_VEC], weight[KF_VEC], bias[KF_VEC];
    if (EARLY && early)
        kf_unpack(*early, weight);
    else if (WEIGHT)
        norm_columns(row->weight, column, weight);
    if (BIAS)
        norm_columns(row->bias, column, bias);
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = norm_value(value[j], m, WEIGHT ? row->offset + weight[j] : 1.0f,
                              BIAS ? bias[j] : 0.0f);
    return kf_repack(value);
}
#endif

/* ---- what the parts of a row tell each other ----------------------------------------------- */

#ifdef VECS
/* (mean, squares about it) of `elements` elements from their parts, a slot each: (mean, squares,
 * elements). Each warp joins all of them itself. Per thread 1 division where CENTRED. */
static inline float2 norm_joined(__local const float4 *slot, int slots, float elements)
{
    const int width = KF_SLOT_LANES(slots), first = (int)get_local_id(0) % width;
    float mean = 0.0f, total = 0.0f, spread = 0.0f;
    for (int w = first; CENTRED && w < slots; w += KF_WARP)
        total += slot[w].z * slot[w].x;
    if (CENTRED) {
        total = kf_warp_sum(total, width);
        mean = elements > 0.0f ? total / elements : 0.0f;
    }
    for (int w = first; w < slots; w += KF_WARP) {
        const float away = slot[w].x - mean;
        spread += CENTRED ? slot[w].y + slot[w].z * away * away : slot[w].y;
    }
    return (float2)(mean, kf_warp_sum(spread, width));
}

/* The moments of the row from its parts. Per thread: 1 division and 1 rsqrt, and norm_joined where a
 * row spans warps, and once more where it is split. */
#if KF_CAP_SHUFFLE
static inline norm_moments norm_join(const kf_place *p, float mean, float squares, float count, int cols,
                          float eps, __local float4 *slot)
{
    float2 m = (float2)(mean, squares);
    if (ROW_SLOTS > 1) {
        kf_row_share(p, (float4)(mean, squares, count, 0.0f), slot);
#if SPLIT
        m = norm_joined(slot, ROW_SLOTS, (float)kf_part_elements(p, p->part));
#else
        m = norm_joined(slot, ROW_SLOTS, (float)cols);
#endif
    }
#if SPLIT
    kf_meet(p, m.x, m.y, kf_part_slots(slot));
    m = norm_joined(kf_part_slots(slot), PARTS, (float)cols);
#endif
    m.y = rsqrt(m.y / (float)cols + eps);
    return m;
}
#endif
#endif

/* ---- the row on chip ----------------------------------------------------------------------- */

#ifdef VECS
static inline void norm_hold_added(kf_held *held, const kf_place *p, const norm_row *row)
{
    const bool in = kf_together(row->x, row->residual);
    const bool out = kf_together(row->x, row->residual_out);
    const __global kf_storage *const from = row->residual + p->first;
    kf_pack more[REGISTER_VECS];
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        more[i] = norm_fetch(from, kf_vector(p, i), HELD_END(p), in);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++) {
        held->data[i] = norm_pack_added(held->data[i], more[i]);
        if (kf_has(p, i))
            kf_row_put(p, row->residual_out, i, held->data[i], out);
    }
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        const kf_pack sum = norm_pack_added(
            *kf_parked(held, i), norm_fetch(from, kf_vector(p, REGISTER_VECS + i), HELD_END(p), in));
        *kf_parked(held, i) = sum;
        if (kf_has(p, REGISTER_VECS + i))
            kf_row_put(p, row->residual_out, REGISTER_VECS + i, sum, out);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(p, i);
        if (column >= 0)
            held->edge[i] = norm_added(held->edge[i], kf_load(row->residual, column));
        kf_row_put_edge(p, row->residual_out, i, held->edge[i]);
    }
}

static inline float norm_held_sum(const kf_held *held)
{
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        sum += held->edge[i];
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        sum += norm_pack_sum(held->data[i]);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        sum += norm_pack_sum(*kf_parked(held, i));
    return sum;
}

/* Squares about `mean` of what this thread has: places that the row lacks hold 0, which is not the
 * mean. */
static inline float norm_held_squares(const kf_held *held, const kf_place *p, float mean, uint zero)
{
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const float away = CENTRED ? held->edge[i] - mean : held->edge[i];
        sum += CENTRED && kf_edge_column(p, i) < 0 ? 0.0f : away * away;
    }
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        sum += !CENTRED || kf_has(p, i) ? norm_pack_squares(held->data[i], mean, zero) : 0.0f;
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        sum += !CENTRED || kf_has(p, REGISTER_VECS + i)
                   ? norm_pack_squares(*kf_parked(held, i), mean, zero)
                   : 0.0f;
    return sum;
}

#if KF_CAP_SHUFFLE
/* Elements of the row that this warp holds. */
static inline float norm_count(const kf_place *p)
{
    const int before = p->lane - p->lane % ROW_LANES; /* lanes of the row's earlier warps */
    int count = 0;
    if (WHOLE)
        return VECS * KF_VEC * ROW_LANES;
#pragma unroll
    for (int i = 0; i < VECS; i++)
        count += min(max(p->vectors - i * THREADS_PER_ROW - before, 0), ROW_LANES) * KF_VEC;
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        if (p->part == 0)
            count += min(max(p->span.head + p->span.tail - i * THREADS_PER_ROW - before, 0), ROW_LANES);
    return (float)count;
}

static inline norm_moments norm_statistics(const kf_held *held, const kf_place *p, int cols, float eps,
                                __local float4 *slot, uint zero)
{
    float mean = 0.0f, count = 0.0f;
    if (CENTRED) {
        const float sum = kf_warp_sum(norm_held_sum(held), ROW_LANES);
        count = norm_count(p);
        mean = count > 0.0f ? sum / count : 0.0f;
    }
    const float squares = kf_warp_sum(norm_held_squares(held, p, mean, zero), ROW_LANES);
    return norm_join(p, mean, squares, count, cols, eps, slot);
}

#else /* two trees over the row */
static inline norm_moments norm_statistics(const kf_held *held, const kf_place *p, int cols,
                                           float eps, __local float4 *slot, uint zero)
{
    __local float *const tree = (__local float *)slot; /* a float per work-item */
#if SPLIT
    const float count = (float)kf_part_elements(p, p->part);
#else
    const float count = (float)cols;
#endif
    norm_moments m;
    m.x = 0.0f;
    if (CENTRED)
        m.x = kf_group_sum(norm_held_sum(held), THREADS_PER_ROW, p->lane, tree) /
              (SPLIT ? fmax(count, 1.0f) : count);
    m.y = kf_group_sum(norm_held_squares(held, p, m.x, zero), THREADS_PER_ROW, p->lane, tree);
#if SPLIT
    kf_meet(p, m.x, m.y, kf_part_slots(slot));
    m = norm_joined(kf_part_slots(slot), PARTS, (float)cols);
#endif
    m.y = rsqrt(m.y / (float)cols + eps);
    return m;
}
#endif

/* A row, or a part of one, from its load to its store. */
static inline void norm_on_chip(const kf_place *p, const norm_row *row, int cols, __local kf_pack *local_memory,
                     uint zero, uint zero_again)
{
    kf_held held;
    held.parked = local_memory;
    kf_hold(&held, p, row->x, 0.0f);
#if EARLY
    kf_pack weight[REGISTER_VECS];
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        weight[i] = ALIGNED ? kf_fetch(row->weight + p->first, kf_vector(p, i), HELD_END(p), 0.0f)
                            : norm_fetch(row->weight + p->first, kf_vector(p, i), HELD_END(p), false);
#endif
#if ADDED
    norm_hold_added(&held, p, row);
#endif
#if SPLIT /* where groups meet the wait is long: what does not come with the row, to the cache */
    if (WEIGHT && !EARLY)
        kf_expect(p, row->weight);
    if (BIAS)
        kf_expect(p, row->bias);
#endif
    const norm_moments m =
        norm_statistics(&held, p, cols, row->eps, kf_row_slots(p, local_memory), zero);

    const bool together = kf_together(row->x, row->y);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        if (kf_has(p, i))
            kf_row_put(p, row->y, i,
                       norm_result(row, p->first + kf_vector(p, i) * KF_VEC, held.data[i], m,
                                   zero_again, EARLY_WEIGHT(i)),
                       together);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        if (kf_has(p, REGISTER_VECS + i))
            kf_row_put(p, row->y, REGISTER_VECS + i,
                       norm_result(row, p->first + kf_vector(p, REGISTER_VECS + i) * KF_VEC,
                                   *kf_parked(&held, i), m, zero_again, 0),
                       together);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(p, i);
        if (column >= 0)
            kf_store(row->y, column,
                     norm_value(held.edge[i], m, norm_weight(row, column), norm_bias(row, column)));
    }
    if (MEAN && p->present && p->part == 0 && p->lane == 0)
        *row->mean = m.x;
    if (RSTD && p->present && p->part == 0 && p->lane == 0)
        *row->rstd = m.y;
}

/* ---- rows wider than the chip --------------------------------------------------------------- */

/* Two reads: the moments, batch by batch of NORM_BATCH vectors, each centred about its own mean,
 * then the results. With ADDED both reads add, and residual_out, which may be residual, is written
 * in the second. One row per group. */
#define NORM_BATCH 4

typedef struct norm_running {
    float mean, squares, count;
} norm_running;

/* `values` more elements with this mean and these squares about it. 1 division where CENTRED. */
static inline void norm_merge(norm_running *r, float mean, float squares, float count)
{
#if CENTRED
    const float all = r->count + count, away = mean - r->mean;
    const float share = all > 0.0f ? count / all : 0.0f;
    r->mean += away * share;
    r->squares += squares + away * away * r->count * share;
    r->count = all;
#else
    r->squares += squares;
#endif
}

static inline void norm_online_read(norm_running *r, const kf_place *p, const norm_row *row)
{
    const __global kf_storage *const from = row->x + p->first;
    const bool in = ADDED && kf_together(row->x, row->residual);
    for (int first = 0; first < p->vectors; first += THREADS_PER_ROW * NORM_BATCH) {
        kf_pack data[NORM_BATCH];
        float sum = 0.0f, squares = 0.0f, count = 0.0f;
#pragma unroll
        for (int i = 0; i < NORM_BATCH; i++)
            data[i] = kf_fetch(from, first + i * THREADS_PER_ROW + p->lane, p->vectors, 0.0f);
#pragma unroll
        for (int i = 0; i < NORM_BATCH; i++) {
            const int v = first + i * THREADS_PER_ROW + p->lane;
#if ADDED
            data[i] = norm_pack_added(
                data[i], norm_fetch(row->residual + p->first, v, p->vectors, in));
#endif
            count += v < p->vectors ? KF_VEC : 0;
            if (CENTRED)
                sum += norm_pack_sum(data[i]);
        }
        const float mean = CENTRED && count > 0.0f ? sum / count : 0.0f;
#pragma unroll
        for (int i = 0; i < NORM_BATCH; i++)
            if (first + i * THREADS_PER_ROW + p->lane < p->vectors)
                squares += norm_pack_squares(data[i], mean, 0);
        norm_merge(r, mean, squares, count);
    }
}

#if KF_CAP_SHUFFLE
static inline norm_moments norm_online_moments(const norm_running *r, const kf_place *p, int cols, float eps,
                                    __local float4 *slot)
{
    float mean = 0.0f, squares = r->squares, count = 0.0f;
    if (CENTRED) {
        count = kf_warp_sum(r->count, ROW_LANES);
        mean = count > 0.0f ? kf_warp_sum(r->count * r->mean, ROW_LANES) / count : 0.0f;
        squares += r->count * (r->mean - mean) * (r->mean - mean);
    }
    squares = kf_warp_sum(squares, ROW_LANES);
    return norm_join(p, mean, squares, count, cols, eps, slot);
}
#else
static inline norm_moments norm_online_moments(const norm_running *r, const kf_place *p, int cols,
                                               float eps, __local float4 *slot)
{
    __local float *const tree = (__local float *)slot;
    float squares = r->squares;
    norm_moments m;
    m.x = 0.0f;
    if (CENTRED) {
        m.x = kf_group_sum(r->count * r->mean, BLOCK, p->lane, tree) / (float)cols;
        squares += r->count * (r->mean - m.x) * (r->mean - m.x);
    }
    squares = kf_group_sum(squares, BLOCK, p->lane, tree);
    m.y = rsqrt(squares / (float)cols + eps);
    return m;
}
#endif

static inline void norm_online_write(const kf_place *p, const norm_row *row, norm_moments m)
{
    const bool together = kf_together(row->x, row->y);
#if ADDED
    const bool in = kf_together(row->x, row->residual);
    const bool out = kf_together(row->x, row->residual_out);
#endif
    for (int v = p->lane; v < p->vectors; v += THREADS_PER_ROW) {
        kf_pack pack = kf_load_pack(row->x + p->first, v);
#if ADDED
        pack = norm_pack_added(pack, norm_fetch(row->residual + p->first, v, p->vectors, in));
        kf_put(row->residual_out + p->first, v, pack, out);
#endif
        kf_put(row->y + p->first, v, norm_result(row, p->first + v * KF_VEC, pack, m, 0, 0),
               together);
    }
}

static inline void norm_online(const kf_place *p, const norm_row *row, int cols, __local float4 *slot)
{
    float edge[EDGE_SLOTS];
    norm_running r;
    r.mean = r.squares = r.count = 0.0f;
    norm_online_read(&r, p, row);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(p, i);
        edge[i] = column < 0 ? 0.0f : kf_load(row->x, column);
#if ADDED
        if (column >= 0)
            edge[i] = norm_added(edge[i], kf_load(row->residual, column));
#endif
        norm_merge(&r, edge[i], CENTRED ? 0.0f : edge[i] * edge[i], column < 0 ? 0.0f : 1.0f);
    }
    const norm_moments m = norm_online_moments(&r, p, cols, row->eps, slot);
    norm_online_write(p, row, m);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(p, i);
#if ADDED
        kf_row_put_edge(p, row->residual_out, i, edge[i]);
#endif
        if (column >= 0)
            kf_store(row->y, column,
                     norm_value(edge[i], m, norm_weight(row, column), norm_bias(row, column)));
    }
    if (MEAN && p->lane == 0)
        *row->mean = m.x;
    if (RSTD && p->lane == 0)
        *row->rstd = m.y;
}
#endif

/* ---- one row per work-item: CPU devices ----------------------------------------------------- */

/* No barrier, no local memory, eight columns at a time: three walks over a row that stays in the
 * core's cache after the first. */
static inline float norm_item_load(const norm_row *row, int i)
{
    const float value = kf_load(row->x, i);
#if ADDED
    return norm_added(value, kf_load(row->residual, i));
#else
    return value;
#endif
}

static inline float8 norm_item_load8(const norm_row *row, int i)
{
    const float8 value = kf_load8(row->x, i);
#if ADDED
    return kf_round8(value + kf_load8(row->residual, i));
#else
    return value;
#endif
}

/* What will be written is asked for while the row is first read, the next row while this one is
 * written: walks that the cache serves left the memory idle. Predicted 90 % of the copy's rate; layer
 * norm with weight 2048x8192 f32 through PoCL went from 64-82 % to 80-97 %, RMS norm from 64-86 % to
 * 81-97 %, the lower ends on a busy machine; up to 2048 columns nothing changed. Not where two matrices
 * are added nor with 16 bits, where instructions are the limit and these are more of them. */
#define NORM_AHEAD (KF_DTYPE == KF_F32 && !ADDED)

/* Four chains each: one waits four cycles for every addition, which is slower than the memory. */
static inline float norm_item_sum(const norm_row *row, int cols)
{
    float8 wide[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    int i = 0;
    for (; i + 32 <= cols; i += 32)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (NORM_AHEAD)
                kf_item_expect_write(row->y + i + 8 * k);
            wide[k] += norm_item_load8(row, i + 8 * k);
        }
    for (; i + 8 <= cols; i += 8)
        wide[0] += norm_item_load8(row, i);
    float sum = kf_item_sum((wide[0] + wide[1]) + (wide[2] + wide[3]));
    for (; i < cols; i++)
        sum += norm_item_load(row, i);
    return sum;
}

static inline float norm_item_squares(const norm_row *row, int cols, float mean)
{
    float8 wide[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    int i = 0;
    for (; i + 32 <= cols; i += 32)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (CENTRED ? 0 : NORM_AHEAD)
                kf_item_expect_write(row->y + i + 8 * k);
            const float8 away = norm_item_load8(row, i + 8 * k) - mean;
            wide[k] += away * away;
        }
    for (; i + 8 <= cols; i += 8) {
        const float8 away = norm_item_load8(row, i) - mean;
        wide[0] += away * away;
    }
    float sum = kf_item_sum((wide[0] + wide[1]) + (wide[2] + wide[3]));
    for (; i < cols; i++) {
        const float away = norm_item_load(row, i) - mean;
        sum += away * away;
    }
    return sum;
}

/* Eight results. */
static inline float8 norm_item_value8(const norm_row *row, float8 value, norm_moments m, int i)
{
    value = (CENTRED ? value - m.x : value) * m.y;
#if WEIGHT
    value *= row->offset + kf_load8(row->weight, i);
#endif
#if BIAS
    value += kf_load8(row->bias, i);
#endif
    return value;
}

static inline void norm_item_write(const norm_row *row, int cols, norm_moments m)
{
    int i = 0;
    for (; i + 8 <= cols; i += 8) {
        const float8 value = norm_item_load8(row, i);
        if (NORM_AHEAD)
            kf_item_expect(row->x + row->next + i);
#if ADDED
        kf_store8(row->residual_out, i, value);
#endif
        kf_store8(row->y, i, norm_item_value8(row, value, m, i));
    }
    for (; i < cols; i++) {
        const float value = norm_item_load(row, i);
#if ADDED
        kf_store(row->residual_out, i, value);
#endif
        kf_store(row->y, i, norm_value(value, m, norm_weight(row, i), norm_bias(row, i)));
    }
}

static inline void norm_item(const norm_row *row, int cols)
{
    norm_moments m;
    m.x = CENTRED ? norm_item_sum(row, cols) / (float)cols : 0.0f;
    m.y = rsqrt(norm_item_squares(row, cols, m.x) / (float)cols + row->eps);
    norm_item_write(row, cols, m);
    if (MEAN)
        *row->mean = m.x;
    if (RSTD)
        *row->rstd = m.y;
}
#endif
