/* The sum of a row's exponentials in one read, as log softmax and cross entropy need it. For texts
 * whose plan defines LSE. The same names as cuda/kernels/common/rows_lse.cu.
 *
 * Every thread keeps sum 2^(x L - base), L = log2 e, where base = max x L rounded to a whole number:
 * one FMA, one exp2 and one addition per element. A whole base costs no accuracy: what an older sum
 * is rescaled by is a power of two, and base / L is taken off exactly where the result is made
 * (kf_lse_away); a base that is rounded to 24 bits instead would put an error of 2^-24 |max| into
 * every logarithm. Rescaled is once per trip of TRIP_VECS vectors, all of which are on their way at
 * the same time. LSE_TOTAL=1 also sums the elements themselves.
 *
 * Values from 2^128 / L = 2.36e38 on, positive or negative, are as infinite.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define LSE 1
#define LSE_TOTAL 0
#define TRIP_VECS 4
#endif

#ifdef LSE
/* 1 / L as a sum of two floats, for L as KF_LOG2E holds it. */
#define LSE_INVERSE_HIGH 0.6931471824645996f
#define LSE_INVERSE_LOW 7.348693209507928e-9f

typedef struct kf_lse {
    float base; /* -infinity: no element yet, or none above */
    float sum;
    float total; /* of the elements */
} kf_lse;

static inline void kf_lse_open(kf_lse *l)
{
    l->base = -KF_INFINITY;
    l->sum = l->total = 0.0f;
}

/* What exponentials are taken below: a row that is all -inf has exponentials 0, not NaN. */
static inline float kf_lse_below(float base)
{
    return base == -KF_INFINITY ? 0.0f : base;
}

static inline float kf_lse_power(float value, float below)
{
    return kf_exp2(fma(value, KF_LOG2E, -below));
}

/* Elements up to `max` are to come. One exp2. */
static inline void kf_lse_raise(kf_lse *l, float max)
{
    const float base = fmax(l->base, rint(max * KF_LOG2E));
    l->sum *= kf_exp2(l->base - kf_lse_below(base));
    l->base = base;
}

static inline void kf_lse_add(kf_lse *l, float value)
{
    l->sum += kf_lse_power(value, kf_lse_below(l->base));
    if (LSE_TOTAL)
        l->total += value;
}

static inline void kf_lse_add_pack(kf_lse *l, kf_pack pack)
{
    const float below = kf_lse_below(l->base);
    float value[KF_VEC], sum = 0.0f, total = 0.0f;
    kf_unpack(pack, value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        sum += kf_lse_power(value[j], below);
        if (LSE_TOTAL)
            total += value[j];
    }
    l->sum += sum;
    l->total += total;
}

/* base / L - value: with value = 0 what the logarithm of the row's sum is added to, with a value of
 * the row the same minus the value, without the error of their difference. */
static inline float kf_lse_away(const kf_lse *l, float value)
{
    return fma(l->base, LSE_INVERSE_LOW, fma(l->base, LSE_INVERSE_HIGH, -value));
}

#ifdef VECS
/* This thread's edges of the row. One exp2 where there are EDGES, and one per element. */
static inline void kf_lse_edges(kf_lse *l, const kf_place *p, const __global kf_storage *row)
{
    float edge[EDGE_SLOTS], above = -KF_INFINITY;
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(p, i);
        edge[i] = column < 0 ? -KF_INFINITY : kf_load(row, column);
        above = fmax(above, edge[i]);
    }
    if (EDGES)
        kf_lse_raise(l, above);
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        if (kf_edge_column(p, i) >= 0)
            kf_lse_add(l, edge[i]);
}

/* This thread's share of the row: vectors first + lane + i THREADS_PER_ROW, in whole trips and a
 * last one that asks which of its vectors exist. exp2: one per element, and one per trip. */
static inline void kf_lse_row(kf_lse *l, const kf_place *p, const __global kf_storage *row)
{
    const __global kf_storage *const from = row + p->first;
    int first = p->lane;
    kf_lse_edges(l, p, row);
    for (; first - p->lane + TRIP_VECS * THREADS_PER_ROW <= p->vectors;
         first += TRIP_VECS * THREADS_PER_ROW) {
        kf_pack data[TRIP_VECS];
        float above = -KF_INFINITY;
#pragma unroll
        for (int i = 0; i < TRIP_VECS; i++)
            data[i] = kf_load_pack(from, first + i * THREADS_PER_ROW);
#pragma unroll
        for (int i = 0; i < TRIP_VECS; i++)
            above = fmax(above, kf_pack_max(data[i]));
        kf_lse_raise(l, above);
#pragma unroll
        for (int i = 0; i < TRIP_VECS; i++)
            kf_lse_add_pack(l, data[i]);
    }
    if (first - p->lane < p->vectors) {
        kf_pack data[TRIP_VECS];
        float above = -KF_INFINITY;
#pragma unroll
        for (int i = 0; i < TRIP_VECS; i++)
            data[i] = kf_fetch(from, first + i * THREADS_PER_ROW, p->vectors, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < TRIP_VECS; i++)
            above = fmax(above, kf_pack_max(data[i]));
        kf_lse_raise(l, above);
#pragma unroll
        for (int i = 0; i < TRIP_VECS; i++)
            if (first + i * THREADS_PER_ROW < p->vectors)
                kf_lse_add_pack(l, data[i]);
    }
}

/* The same of a row that is held. */
static inline void kf_lse_held(kf_lse *l, const kf_place *p, const kf_held *held,
                                   uint zero)
{
    float above = -KF_INFINITY;
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        above = fmax(above, held->edge[i]);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        above = fmax(above, kf_pack_max(held->data[i]));
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        above = fmax(above, kf_pack_max(*kf_parked(held, i)));
    kf_lse_raise(l, kf_warp_max(above, ROW_LANES));
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        if (kf_has(p, i))
            kf_lse_add_pack(l, kf_again(held->data[i], zero));
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        if (kf_has(p, REGISTER_VECS + i))
            kf_lse_add_pack(l, kf_again(*kf_parked(held, i), zero));
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        if (kf_edge_column(p, i) >= 0)
            kf_lse_add(l, held->edge[i]);
}

/* Over `width` lanes, each with a state of its own. */
static inline void kf_lse_warp(kf_lse *l, int width)
{
    const float base = kf_warp_max(l->base, width);
    l->sum = kf_warp_sum(l->sum * kf_exp2(l->base - kf_lse_below(base)), width);
    if (LSE_TOTAL)
        l->total = kf_warp_sum(l->total, width);
    l->base = base;
}

/* Of `slots` slots with a state each, in every work-item. exp2 per work-item: two for each slot but the
 * first that a lane takes, and one. */
static inline void kf_lse_slots(kf_lse *l, __local const float4 *slot, int slots)
{
    const int width = KF_SLOT_LANES(slots), lane = (int)get_local_id(0) % width;
    float4 one = (float4)(-KF_INFINITY, 0.0f, 0.0f, 0.0f);
    if (lane < slots)
        one = slot[lane];
    l->base = one.x;
    l->sum = one.y;
    l->total = one.z;
    for (int w = KF_WARP; w < slots; w += KF_WARP) {
        if (w + lane < slots) {
            one = slot[w + lane];
            const float base = fmax(l->base, one.x);
            l->sum = l->sum * kf_exp2(l->base - kf_lse_below(base)) +
                     one.y * kf_exp2(one.x - kf_lse_below(base));
            l->total += one.z;
            l->base = base;
        }
    }
    kf_lse_warp(l, width);
}

/* Of the whole row, in every work-item of it. exp2 per work-item: one, and one more where the row
 * spans warps, whose states meet in the row's slots. Without shuffles trees over the row take the
 * place of both: one, and none where the row is one work-item's. Then kf_lse_slots of the parts of a
 * split row. */
static inline void kf_lse_join(kf_lse *l, const kf_place *p, __local float4 *slot)
{
#if KF_CAP_SHUFFLE
    kf_lse_warp(l, ROW_LANES);
    if (ROW_SLOTS > 1) {
        kf_row_share(p, (float4)(l->base, l->sum, l->total, 0.0f), slot);
        kf_lse_slots(l, slot, ROW_SLOTS);
    }
#elif THREADS_PER_ROW > 1
    __local float *const tree = (__local float *)slot; /* a float per work-item */
    const float base = kf_group_max(l->base, THREADS_PER_ROW, p->lane, tree);
    l->sum = kf_group_sum(l->sum * kf_exp2(l->base - kf_lse_below(base)), THREADS_PER_ROW, p->lane,
                          tree);
    if (LSE_TOTAL)
        l->total = kf_group_sum(l->total, THREADS_PER_ROW, p->lane, tree);
    l->base = base;
#endif
#if SPLIT
    kf_meet(p, l->base, l->sum, kf_part_slots(slot)); /* which has no place for a total */
    kf_lse_slots(l, kf_part_slots(slot), PARTS);
#endif
}
#endif
#endif
