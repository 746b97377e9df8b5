/* A row held on chip: where each thread's share lies, loading it once, walking over it, storing
 * it, and what the warps of a row tell each other. For texts whose plan defines VECS. The same
 * names as cuda/kernels/common/rows_held.cu.
 *
 * THREADS_PER_ROW threads of a group hold VECS vectors each, the last LOCAL_VECS of them in local
 * memory; ROWS_PER_GROUP short rows share a group, or PARTS groups share a long row, part after
 * part of PART_VECS vectors (SPLIT=1: common/rows_held_split). WHOLE=1 says that the vectors fill
 * every thread's share exactly: no comparison per vector.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 128
#define ROWS_PER_GROUP 1
#define VECS 8
#define LOCAL_VECS 0
#define SPLIT 1
#define PARTS 4
#define PART_VECS 1000
#endif

#ifdef VECS
#ifndef SPLIT
#define SPLIT 0
#define PARTS 1 /* clusters are CUDA's */
#define PART_VECS (THREADS_PER_ROW * VECS)
#endif
#define PARK_BATCH 8
#ifndef WHOLE
#define WHOLE 0
#endif
#if BLOCK != THREADS_PER_ROW * ROWS_PER_GROUP || LOCAL_VECS >= VECS
#error "BLOCK = THREADS_PER_ROW * ROWS_PER_GROUP, LOCAL_VECS < VECS"
#endif

/* Local memory of a group: PARKED vectors, then ROW_SLOTS slots for each of its rows.
 */
#define REGISTER_VECS (VECS - LOCAL_VECS)
#define PARKED (LOCAL_VECS * BLOCK)
#define ROW_WARPS (THREADS_PER_ROW / KF_WARP) /* 0 where several rows share a warp */
#define ROW_LANES (THREADS_PER_ROW < KF_WARP ? THREADS_PER_ROW : KF_WARP)
#define ROW_SLOTS                                                                                  \
    (KF_WARP > 1 ? ROW_WARPS : (THREADS_PER_ROW + 3) / 4) /* a float per item for trees */

#define HELD_END(p) (WHOLE ? VECS * THREADS_PER_ROW : (p)->vectors)

typedef struct kf_place {
    long row;
    int lane; /* among the row's threads in this group */
    int part; /* of the row: which of its groups */
    bool present;
    kf_span span; /* of the row; its head and tail belong to part 0 */
    int first;    /* column of this part's vector 0 */
    int vectors;  /* of the row, from there to its end: may be more than the part holds, or < 0 */
#if SPLIT
    __global ulong *slots; /* where the parts of rows meet */
    uint ticket;           /* of work-item 0 */
#endif
} kf_place;

static inline void kf_place_row(kf_place *p, long rows)
{
    p->lane = (int)get_local_id(0) % THREADS_PER_ROW;
    p->part = PARTS > 1 ? get_group_id(0) % PARTS : 0;
    p->row =
        (long)(get_group_id(0) / PARTS) * ROWS_PER_GROUP + (int)get_local_id(0) / THREADS_PER_ROW;
    p->present = ROWS_PER_GROUP == 1 || p->row < rows;
    if (!p->present) /* past the last row: its threads hold nothing of row 0 */
        p->row = 0;
}

/* `row` lays the grid of vectors: the tensor whose accesses matter most, usually the first read. */
static inline void kf_place_columns(kf_place *p, const __global kf_storage *row, long cols)
{
    kf_split(&p->span, row, p->present ? (int)cols : 0);
    p->first = p->span.head + p->part * (PART_VECS * KF_VEC);
    p->vectors = p->span.vectors - p->part * PART_VECS;
    if (PART_VECS < THREADS_PER_ROW * VECS) /* the rest of the items' places is the next part's */
        p->vectors = min(p->vectors, PART_VECS);
#if SPLIT && VECS > 2 && KF_CAP_PTX
    /* addresses of weights are the same in every row: kept from before the loop over rows, those of
     * many vectors spill */
    __asm volatile("" : "+r"(p->first));
#endif
}

/* Vector i of this thread: its number in the part, and whether the row has it. */
static inline int kf_vector(const kf_place *p, int i)
{
    return p->lane + i * THREADS_PER_ROW;
}

static inline bool kf_has(const kf_place *p, int i)
{
    return WHOLE || kf_vector(p, i) < p->vectors;
}

/* Column of this thread's edge i; -1 when there is none. */
static inline int kf_edge_column(const kf_place *p, int i)
{
    return p->part == 0 ? kf_edge(p->span, p->lane + i * THREADS_PER_ROW) : -1;
}

typedef struct kf_held {
    kf_pack data[REGISTER_VECS];
    float edge[EDGE_SLOTS];
    __local kf_pack *parked; /* the group's PARKED vectors of this row */
} kf_held;

/* Parked vector i of this thread: vector REGISTER_VECS + i of its share. Loops over these are
 * unrolled by two, not whole: the compiler would load them all at once, and spill. */
static inline __local kf_pack *kf_parked(const kf_held *held, int i)
{
    return &held->parked[i * BLOCK + (int)get_local_id(0)];
}

/* The parked part of a row, fetched into this work-item's places: PARK_BATCH loads in flight, then
 * to local memory. */
static inline void kf_park(const kf_held *held, const kf_place *p, const __global kf_storage *from,
                           float fill)
{
#pragma unroll
    for (int first = 0; first < LOCAL_VECS; first += PARK_BATCH) {
        kf_pack batch[PARK_BATCH];
#pragma unroll
        for (int i = 0; i < PARK_BATCH; i++)
            if (first + i < LOCAL_VECS)
                batch[i] = kf_fetch_once(from, kf_vector(p, REGISTER_VECS + first + i),
                                         HELD_END(p), fill);
#pragma unroll
        for (int i = 0; i < PARK_BATCH; i++)
            if (first + i < LOCAL_VECS)
                *kf_parked(held, first + i) = batch[i];
    }
}

#if SPLIT
static inline void kf_tell_run(const kf_place *p, __local kf_pack *local_memory);
#endif

/* One read of the row; `fill` stands where the row has no element. */
static inline void kf_hold(kf_held *held, const kf_place *p, const __global kf_storage *row,
                           float fill)
{
    const __global kf_storage *const from = row + p->first;
    kf_park(held, p, from, fill);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        held->data[i] = kf_fetch_once(from, kf_vector(p, i), HELD_END(p), fill);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(p, i);
        held->edge[i] = column < 0 ? fill : kf_load(row, column);
    }
#if SPLIT
    kf_tell_run(p, held->parked); /* item 0 has it by now: its loads went out in between */
#endif
}

/* To vector i of a row, which has it (kf_has); `together`: kf_together(the row that laid the grid,
 * row). */
static inline void kf_row_put(const kf_place *p, __global kf_storage *row, int i, kf_pack pack,
                              bool together)
{
    kf_put(row + p->first, kf_vector(p, i), pack, together);
}

static inline void kf_row_put_edge(const kf_place *p, __global kf_storage *row, int i, float value)
{
    const int column = kf_edge_column(p, i);
    if (column >= 0)
        kf_store(row, column, value);
}

/* ---- what the warps of a row tell each other ---------------------------------------------- */

/* This thread's row's slots, behind the parked vectors. */
static inline __local float4 *kf_row_slots(const kf_place *p, __local kf_pack *local_memory)
{
    return (__local float4 *)(local_memory + PARKED) +
           (int)get_local_id(0) / THREADS_PER_ROW * ROW_SLOTS;
}

/* Every warp of the row has written its `mine` into the row's slots and may read all ROW_SLOTS. One
 * barrier; used once per launch. Without shuffles there are no warps, and the texts reduce by
 * trees (kf_group_sum) over the same memory. */
static inline void kf_row_share(const kf_place *p, float4 mine, __local float4 *slot)
{
    if (p->lane % KF_WARP == 0)
        slot[p->lane / KF_WARP] = mine;
    barrier(CLK_LOCAL_MEM_FENCE);
}

#endif
