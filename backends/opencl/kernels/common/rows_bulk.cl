/* Rows that land in local memory by bulk copies while others are computed: for texts whose plan
 * defines BULK_VECS. The same names as cuda/kernels/common/rows_bulk.cu.
 *
 * Every warp works alone: it has one slot, a row lies there, the warp walks over it as often as it
 * likes, writes the results straight to global memory and asks for its next row. No barrier of a
 * group, no register that waits for memory; BLOCK / 32 rows of a group are under way at any time,
 * and groups stay until the rows are out. Rows are whole aligned vectors (ALIGNED=1).
 *
 *   BULK_VECS    vectors of a row
 *   BULK_INPUTS  rows of a slot, one behind the other: tensors that are read together
 *   BULK_SHARED  rows of vectors that all warps share (weights), behind the slots
 *
 * cp.async.bulk and mbarrier: PTX ISA, sections of those names; compute capability 9.0.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BULK_VECS 1024
#define BULK_INPUTS 1
#define BULK_SHARED 1
#endif

#ifdef BULK_VECS
#define BULK_WARPS (BLOCK / KF_WARP)
#define BULK_SLOT (BULK_INPUTS * BULK_VECS)
#define BULK_BYTES (BULK_VECS * 16)
#define BULK_BATCH 4 /* vectors of a lane in flight from local memory */
/* Turns of a lane: BULK_BATCH vectors each. */
#define BULK_TURNS ((BULK_VECS + KF_WARP * BULK_BATCH - 1) / (KF_WARP * BULK_BATCH))

typedef struct kf_bulk {
    __local kf_pack *slot;     /* of this warp: BULK_INPUTS rows */
    __local kf_pack *shared;   /* of the group */
    uint barrier;  /* of this warp: address in local memory */
    uint parity;   /* of the phase that ends when the next row has landed */
    int lane;
    long row, step;
} kf_bulk;

static inline uint kf_bulk_address(const __local void *place)
{
    return (uint)(ulong)place;
}

/* `memory`: the slots, what is shared, a barrier of 8 bytes per warp. Rows go round the groups first,
 * then the warps, so that the last ones are spread over all units. */
static inline void kf_bulk_open(kf_bulk *b, __local kf_pack *memory)
{
    const int warp = (int)get_local_id(0) / KF_WARP;
    b->lane = (int)get_local_id(0) % KF_WARP;
    b->slot = memory + warp * BULK_SLOT;
    b->shared = memory + BULK_WARPS * BULK_SLOT;
    b->barrier = kf_bulk_address(b->shared + BULK_SHARED * BULK_VECS) + warp * 8;
    b->parity = 0;
    b->row = (long)warp * get_num_groups(0) + (uint)get_group_id(0);
    b->step = (long)get_num_groups(0) * BULK_WARPS;
    if (b->lane == 0) {
        __asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(b->barrier) : "memory");
        __asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __asm volatile("bar.warp.sync 0xffffffff;" ::: "memory");
}

/* Lane 0, before the copies of a row. */
static inline void kf_bulk_expect(const kf_bulk *b)
{
    __asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(b->barrier),
                 "r"(BULK_INPUTS * BULK_BYTES)
                 : "memory");
}

/* Lane 0: `row` into place `input` of the slot. */
static inline void kf_bulk_ask(const kf_bulk *b, int input, const __global kf_storage *row)
{
    __asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
                 "[%3];" ::"r"(kf_bulk_address(b->slot + input * BULK_VECS)),
                 "l"(row), "r"(BULK_BYTES), "r"(b->barrier)
                 : "memory");
}

/* The row has landed. */
static inline void kf_bulk_wait(kf_bulk *b)
{
    __asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(b->barrier),
                 "r"(b->parity)
                 : "memory");
    b->parity ^= 1;
}

/* All lanes are done with the slot, which may be overwritten; `wrote`: they stored into it, which
 * the copy must not overtake. */
static inline void kf_bulk_done(bool wrote)
{
    if (wrote)
        __asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __asm volatile("bar.warp.sync 0xffffffff;" ::: "memory");
}

/* Vector i of this lane's turn, and whether the row has it. */
static inline int kf_bulk_vector(const kf_bulk *b, int turn, int i)
{
    return (turn * BULK_BATCH + i) * KF_WARP + b->lane;
}

static inline bool kf_bulk_has(int v)
{
    return BULK_VECS % (KF_WARP * BULK_BATCH) == 0 || v < BULK_VECS;
}

/* BULK_BATCH vectors of a turn; `fill` stands where the row has none. */
static inline void kf_bulk_load(const kf_bulk *b, const __local kf_pack *from, int turn, float fill,
                                    kf_pack *data)
{
#pragma unroll
    for (int i = 0; i < BULK_BATCH; i++) {
        const int v = kf_bulk_vector(b, turn, i);
        data[i] = kf_splat(fill);
        if (kf_bulk_has(v))
            data[i] = from[v];
    }
}

/* A row of vectors for all warps, by all threads; kf_bulk_shared() before the first use. */
static inline void kf_bulk_share(const kf_bulk *b, int place, const __global kf_storage *from)
{
    for (int v = (int)get_local_id(0); v < BULK_VECS; v += BLOCK)
        b->shared[place * BULK_VECS + v] = kf_load_pack(from, v);
}

static inline void kf_bulk_shared(void)
{
    barrier(CLK_LOCAL_MEM_FENCE);
}
#endif
