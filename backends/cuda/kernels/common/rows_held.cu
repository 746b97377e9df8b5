/* A row held on chip: where each thread's share lies, loading it once, walking over it, storing
 * it, and what the warps of a row tell each other. For texts whose plan defines VECS. The same
 * names as opencl/kernels/common/rows_held.cl.
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
#ifndef CLUSTER
#define CLUSTER 1
#endif
#ifndef SPLIT
#define SPLIT 0
#define PARTS CLUSTER
#define PART_VECS (THREADS_PER_ROW * VECS)
#endif
#define PARK_BATCH 8
#define PARK_ASYNC /* cp.async */ (CLUSTER > 1 || (SPLIT && LEAST_GROUPS > 1 && __CUDA_ARCH__ >= 800))
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
#define ROW_SLOTS (ROW_WARPS * CLUSTER)

#define HELD_END(p) (WHOLE ? VECS * THREADS_PER_ROW : (p)->vectors)

typedef struct kf_place {
    long long row;
    int lane; /* among the row's threads in this group */
    int part; /* of the row: which of its groups */
    bool present;
    kf_span span; /* of the row; its head and tail belong to part 0 */
    int first;    /* column of this part's vector 0 */
    int vectors;  /* of the row, from there to its end: may be more than the part holds, or < 0 */
#if SPLIT
    unsigned long long *slots; /* where the parts of rows meet */
    unsigned ticket;           /* of thread 0 */
#endif
} kf_place;

__device__ inline void kf_place_row(kf_place *p, long long rows)
{
    p->lane = threadIdx.x % THREADS_PER_ROW;
    p->part = PARTS > 1 ? blockIdx.x % PARTS : 0;
    p->row = (long long)(blockIdx.x / PARTS) * ROWS_PER_GROUP + threadIdx.x / THREADS_PER_ROW;
    p->present = ROWS_PER_GROUP == 1 || p->row < rows;
    if (!p->present) /* past the last row: its threads hold nothing of row 0 */
        p->row = 0;
}

/* `row` lays the grid of vectors: the tensor whose accesses matter most, usually the first read. */
__device__ inline void kf_place_columns(kf_place *p, const kf_storage *row, long long cols)
{
    kf_split(&p->span, row, p->present ? (int)cols : 0);
    p->first = p->span.head + p->part * (PART_VECS * KF_VEC);
    p->vectors = p->span.vectors - p->part * PART_VECS;
    if (PART_VECS < THREADS_PER_ROW * VECS) /* the rest of the threads' places is the next part's */
        p->vectors = min(p->vectors, PART_VECS);
#if SPLIT && VECS > 2
    /* addresses of weights are the same in every row: kept from before the loop over rows, those of
     * many vectors spill */
    asm volatile("" : "+r"(p->first));
#endif
}

/* Vector i of this thread: its number in the part, and whether the row has it. */
__device__ inline int kf_vector(const kf_place *p, int i)
{
    return p->lane + i * THREADS_PER_ROW;
}

__device__ inline bool kf_has(const kf_place *p, int i)
{
    return WHOLE || kf_vector(p, i) < p->vectors;
}

/* Column of this thread's edge i; -1 when there is none. */
__device__ inline int kf_edge_column(const kf_place *p, int i)
{
    return p->part == 0 ? kf_edge(p->span, p->lane + i * THREADS_PER_ROW) : -1;
}

typedef struct kf_held {
    kf_pack data[REGISTER_VECS];
    float edge[EDGE_SLOTS];
    kf_pack *parked; /* the group's PARKED vectors of this row */
} kf_held;

/* Parked vector i of this thread: vector REGISTER_VECS + i of its share. Loops over these are
 * unrolled by two, not whole: the compiler would load them all at once, and spill. */
__device__ inline kf_pack *kf_parked(const kf_held *held, int i)
{
    return &held->parked[i * BLOCK + threadIdx.x];
}

/* The parked part of a row, fetched into this thread's places. */
__device__ inline void kf_park(const kf_held *held, const kf_place *p, const kf_storage *from,
                               float fill)
{
#if PARK_ASYNC /* through no register: room for more groups on a unit. No mark for the cache: with one, an
                * H200 calls the instruction illegal */
#pragma unroll
    for (int i = 0; i < LOCAL_VECS; i++)
        if (kf_vector(p, REGISTER_VECS + i) < HELD_END(p))
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                             (unsigned)__cvta_generic_to_shared(kf_parked(held, i))),
                         "l"(__cvta_generic_to_global((const kf_pack *)from +
                                                      kf_vector(p, REGISTER_VECS + i)))
                         : "memory");
        else
            *kf_parked(held, i) = kf_splat(fill);
#else /* PARK_BATCH loads in flight, then to local memory */
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
#endif
}

#if SPLIT
__device__ inline void kf_tell_run(const kf_place *p, kf_pack *local);
#endif

/* One read of the row; `fill` stands where the row has no element. */
__device__ inline void kf_hold(kf_held *held, const kf_place *p, const kf_storage *row, float fill)
{
    const kf_storage *const from = row + p->first;
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
    kf_tell_run(p, held->parked); /* thread 0 has it by now: its loads went out in between */
#endif
#if PARK_ASYNC
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* To vector i of a row, which has it (kf_has); `together`: kf_together(the row that laid the grid,
 * row). */
__device__ inline void kf_row_put(const kf_place *p, kf_storage *row, int i, kf_pack pack,
                                  bool together)
{
    kf_put(row + p->first, kf_vector(p, i), pack, together);
}

__device__ inline void kf_row_put_edge(const kf_place *p, kf_storage *row, int i, float value)
{
    const int column = kf_edge_column(p, i);
    if (column >= 0)
        kf_store(row, column, value);
}

/* ---- what the warps of a row tell each other ---------------------------------------------- */

/* This thread's row's slots, behind the parked vectors. */
__device__ inline float4 *kf_row_slots(const kf_place *p, kf_pack *local)
{
    return (float4 *)(local + PARKED) + threadIdx.x / THREADS_PER_ROW * ROW_SLOTS;
}

#if CLUSTER > 1
/* Groups of a cluster write into each other's slots by st.async, which counts its bytes at a
 * barrier in the receiver's local memory. A barrier of the cluster would take fewer words and more
 * time: 140.7 against 131.3 us at 1024x131072 bf16, 284 against 261 for f32 over eight groups. */
#define ROW_BYTES (ROW_SLOTS * 16)

__device__ inline unsigned kf_local_address(const void *place)
{
    return (unsigned)__cvta_generic_to_shared(place);
}

/* The barrier of a set of slots stands behind it. */
__device__ inline unsigned kf_slots_barrier(const float4 *slot)
{
    return kf_local_address(slot + ROW_SLOTS);
}

/* Before kf_cluster_arrive(): the barrier's one phase is over when ROW_BYTES have arrived. */
__device__ inline void kf_slots_open(const float4 *slot)
{
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(kf_slots_barrier(slot))
                     : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(kf_slots_barrier(slot)),
            "r"(ROW_BYTES)
            : "memory");
    }
}

/* All groups of the cluster have started and opened their slots: what is stored into local memory
 * of one that has not is lost. Arrive before the loads, so that the wait costs nothing. */
__device__ inline void kf_cluster_arrive(void)
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;");
}

__device__ inline void kf_cluster_wait(void)
{
    asm volatile("barrier.cluster.wait.aligned;");
}

__device__ inline unsigned kf_at_peer(unsigned here, int peer)
{
    unsigned there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(peer));
    return there;
}

__device__ inline void kf_slots_publish(const float4 *slot, int number, int peer, float4 value)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, "
                 "%4}, [%5];" ::"r"(kf_at_peer(kf_local_address(slot + number), peer)),
                 "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w),
                 "r"(kf_at_peer(kf_slots_barrier(slot), peer))
                 : "memory");
}

__device__ inline void kf_slots_wait(const float4 *slot)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], 0;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(kf_slots_barrier(slot))
                 : "memory");
}
#endif

/* Every warp of the row has written its `mine` into the row's slots and may read all ROW_SLOTS:
 * once per launch. With PARTS groups per row each warp writes to all of them. */
__device__ inline void kf_row_share(const kf_place *p, float4 mine, float4 *slot)
{
#if CLUSTER > 1
    if (p->lane % KF_WARP < CLUSTER)
        kf_slots_publish(slot, p->part * ROW_WARPS + p->lane / KF_WARP, p->lane % KF_WARP, mine);
    kf_slots_wait(slot);
#else
    if (p->lane % KF_WARP == 0)
        slot[p->lane / KF_WARP] = mine;
    __syncthreads();
#endif
}

#endif
