/* A row over PARTS groups that meet in global memory. For texts whose plan defines SPLIT
 * (ops/common/row_split.c). The same names as cuda/kernels/common/rows_held_split.cu.
 *
 * All groups of the launch run at the same time (the plan asks for no more than the device holds), PARTS
 * of them are a team, and a team goes from row to row. Each group holds its part of the row on chip, says
 * what it found (two floats), waits for what the others found, joins all parts in the order of the row,
 * so that every run gives the same bits, and writes its part. Every element is read and written once.
 *
 * How they meet. The row has a slot per part: two words of 64 bits, each a float below and the number of
 * the run above. A group stores its own slot and loads those of its row until it carries the number of
 * this run. The number of the run: each group draws one ticket from a counter that the exec keeps, G
 * tickets a run, and that starts again after 2 G; the CUDA text says why that is right.
 *
 * What it relies on, beyond what OpenCL C 1.2 promises:
 *   - that all groups of the launch run at once and none is kept waiting by another's loop (Sorensen et
 *     al., "Portable inter-workgroup barrier synchronisation for GPUs", 2016: so on every GPU tried);
 *   - with KF_CAP_PTX nothing else: relaxed loads and stores of the whole device, atomic per 64 bits, where
 *     what a word holds and that it holds it arrive together;
 *   - without: that 32-bit atomics on global memory act at one place for the whole device, and that
 *     mem_fence keeps a work-item's own atomics in order. Floats go through atomics too, so nothing else
 *     must be visible to anybody. Slots are then stored float first and number last.
 *
 * Predicted, then measured on an H200, us: softmax f32 1x128256 7.2, 5.1; 4x1048576 13.8, 14.7; 1024x131072
 * 300, 273, where a second read would take 393.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#if defined(VECS) && SPLIT

/* The next ticket; the counter starts again at `end`. */
static inline uint kf_draw(__global uint *tickets, uint end)
{
#if KF_CAP_PTX
    uint ticket;
    __asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;"
                   : "=r"(ticket)
                   : "l"(tickets), "r"(end - 1)
                   : "memory");
#else
    const uint ticket = atomic_inc((volatile __global uint *)tickets);
    if (ticket == end - 1) /* every other group of the run has drawn */
        atomic_xchg((volatile __global uint *)tickets, 0u);
#endif
    return ticket;
}

/* The first place of a team's group: before the loop over rows. Item 0 draws a ticket, which is on its
 * way while the row is loaded. */
static inline void kf_place_first(kf_place *p, __global ulong *slots, __global uint *tickets)
{
    p->lane = (int)get_local_id(0);
    p->part = (int)get_group_id(0) % PARTS;
    p->row = (int)get_group_id(0) / PARTS;
    p->present = true;
    p->slots = slots;
    p->ticket = get_local_id(0) == 0 ? kf_draw(tickets, 2 * (uint)get_num_groups(0)) : 0;
}

/* The next row of the team. */
static inline void kf_place_next(kf_place *p)
{
    p->row += (int)get_num_groups(0) / PARTS;
}

/* Slots of the parts, in local memory: behind the row's own; then the number of the run. */
static inline __local float4 *kf_part_slots(__local float4 *slot)
{
    return slot + ROW_SLOTS;
}

/* Item 0 lets its group know; a barrier follows before anybody asks. */
static inline void kf_tell_run(const kf_place *p, __local kf_pack *local_memory)
{
    if (get_local_id(0) == 0)
        *(__local uint *)(kf_part_slots(kf_row_slots(p, local_memory)) + PARTS) =
            p->ticket < (uint)get_num_groups(0) ? 1 : 2;
}

/* Elements of a part. */
static inline int kf_part_elements(const kf_place *p, int part)
{
    const int vectors = min(max(p->span.vectors - part * PART_VECS, 0), PART_VECS);
    return vectors * KF_VEC + (part == 0 ? p->span.head + p->span.tail : 0);
}

static inline void kf_slot_store(__global ulong *slot, float x, float y, uint run)
{
#if KF_CAP_PTX
    const ulong above = (ulong)run << 32;
    __asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(slot),
                   "l"(above | as_uint(x)), "l"(above | as_uint(y))
                   : "memory");
#else
    volatile __global uint *const word = (volatile __global uint *)slot;
    atomic_xchg(word, as_uint(x));
    atomic_xchg(word + 2, as_uint(y));
    mem_fence(CLK_GLOBAL_MEM_FENCE);
    atomic_xchg(word + 1, run);
#endif
}

/* Loads after which a group that waits stops the launch with an error, where PTX can. */
#define KF_MOST_LOADS (1u << 26)

/* Waits until the slot is of this run. */
static inline float2 kf_slot_load(__global ulong *slot, uint run)
{
#if KF_CAP_PTX
    ulong x, y;
    uint loads = 0;
    do {
        if (loads++ == KF_MOST_LOADS)
            __asm volatile("trap;");
        __asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                       : "=l"(x), "=l"(y)
                       : "l"(slot)
                       : "memory");
    } while ((uint)(x >> 32) != run || (uint)(y >> 32) != run);
    return (float2)(as_float((uint)x), as_float((uint)y));
#else
    volatile __global uint *const word = (volatile __global uint *)slot;
    while (atomic_or(word + 1, 0u) != run)
        ;
    mem_fence(CLK_GLOBAL_MEM_FENCE);
    return (float2)(as_float(atomic_or(word, 0u)), as_float(atomic_or(word + 2, 0u)));
#endif
}

/* What each part of the row has found, (x, y, its elements), into `part_slot`: of this group (x, y), the
 * same in every item. At least one barrier stands between kf_hold and here; one more comes here. An
 * item loads its slots itself; nobody reads another's until the barrier. */
static inline void kf_meet(const kf_place *p, float x, float y, __local float4 *part_slot)
{
    const uint run = *(__local const uint *)(part_slot + PARTS);
    __global ulong *const slots = p->slots + p->row * (2 * PARTS);
    if (get_local_id(0) == 0)
        kf_slot_store(slots + 2 * p->part, x, y, run);
    for (int part = (int)get_local_id(0); part < PARTS; part += BLOCK) {
        const float2 found = kf_slot_load(slots + 2 * part, run);
        part_slot[part] = (float4)(found.x, found.y, (float)kf_part_elements(p, part), 0.0f);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* Columns that are needed once the parts have met, on their way to the cache in a team's first row: no
 * registers, one sector of 32 bytes for every second item. */
static inline void kf_expect(const kf_place *p, const __global kf_storage *columns)
{
#if KF_CAP_PTX
#pragma unroll
    for (int i = 0; i < VECS; i++)
        if (p->lane % 2 == 0 && p->row < (int)get_num_groups(0) / PARTS && kf_has(p, i))
            __asm volatile("prefetch.global.L2 [%0];" ::"l"(columns + p->first +
                                                             kf_vector(p, i) * KF_VEC));
#endif
}
#endif
