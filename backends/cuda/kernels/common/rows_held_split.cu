/* A row over PARTS groups that meet in global memory. For texts whose plan defines SPLIT
 * (ops/common/row_split.c). The same names as opencl/kernels/common/rows_held_split.cl.
 *
 * All groups of the launch run at the same time (the plan asks for no more than the device holds), PARTS
 * of them are a team, and a team goes from row to row. Each group holds its part of the row on chip, says
 * what it found (two floats), waits for what the others found, joins all parts in the order of the row,
 * so that every run gives the same bits, and writes its part. Every element is read and written once.
 *
 * How they meet. The row has a slot per part: two words of 64 bits, each a float below and the number of
 * the run above. A group stores its own slot and loads those of its row until every word carries the
 * number of this run: what a word holds and that it holds it arrive together, so nothing needs to be in
 * order with anything else, no fence, no second trip to a counter. Loads and stores are relaxed, of the
 * whole device, and atomic per 64 bits (PTX 6.0, sm_70).
 *
 * The number of the run. Each group draws one ticket from a counter that the exec keeps, G tickets a run,
 * and that starts again after 2 G. The first G tickets are run 1, the others run 2. Slots start as 0.
 *   - Back to back and in a replayed recording: launches of an exec follow one another, so every draw of a
 *     run is behind all draws of the one before; and every group stores every slot of its rows in every
 *     run, so before run r a slot holds the other number, and a word with number r is of this run.
 *   - Nothing is cleared: no launch for it, and no group that must be last.
 *   - A run that never began leaves no trace. One that was cut off in the middle (the driver killed it)
 *     leaves a count between; its context is lost with it, and the exec with the context.
 *
 * What it relies on: that all groups of the launch run at once. Work of other queues delays them and ends.
 * Another launch of this kind, in flight on a queue of another priority, can keep units from this one while
 * this one keeps units from it: such plans belong on one queue.
 *
 * Predicted, then measured on an H200 (132 units), us, by CUDA graph, cold: softmax f32 1x128256 5.4, 3.7
 * (launch, first load, exponentials, meeting and store are each shorter than was thought; 64 to 128 groups
 * 3.4); 4x1048576 12.0, 12.9; 2x4194304 23.0, 1.34 times the copy of that size; 7x262147 7.5 beside 7.3 at
 * 262144. One group takes 19 for the first, a cluster of eight 4.7. Many rows are for clusters:
 * 1024x131072 f32 takes 293 here and 258 there.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#if defined(VECS) && SPLIT

/* The first place of a team's group: before the loop over rows. Thread 0 draws a ticket, which is on its
 * way while the row is loaded. */
__device__ inline void kf_place_first(kf_place *p, unsigned long long *slots, unsigned *tickets)
{
    p->lane = threadIdx.x;
    p->part = blockIdx.x % PARTS;
    p->row = blockIdx.x / PARTS;
    p->present = true;
    p->slots = slots;
    p->ticket = threadIdx.x == 0 ? atomicInc(tickets, 2 * gridDim.x - 1) : 0;
}

/* The next row of the team. */
__device__ inline void kf_place_next(kf_place *p)
{
    p->row += gridDim.x / PARTS;
}

/* Slots of the parts, in local memory: behind the row's own; then the number of the run. */
__device__ inline float4 *kf_part_slots(float4 *slot)
{
    return slot + ROW_SLOTS;
}

/* Thread 0 lets its group know; a barrier follows before anybody asks. */
__device__ inline void kf_tell_run(const kf_place *p, kf_pack *local)
{
    if (threadIdx.x == 0)
        *(unsigned *)(kf_part_slots(kf_row_slots(p, local)) + PARTS) = p->ticket < gridDim.x ? 1 : 2;
}

/* Elements of a part. */
__device__ inline int kf_part_elements(const kf_place *p, int part)
{
    const int vectors = min(max(p->span.vectors - part * PART_VECS, 0), PART_VECS);
    return vectors * KF_VEC + (part == 0 ? p->span.head + p->span.tail : 0);
}

__device__ inline void kf_slot_store(unsigned long long *slot, float x, float y, unsigned run)
{
    const unsigned long long above = (unsigned long long)run << 32;
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(
                     __cvta_generic_to_global(slot)),
                 "l"(above | __float_as_uint(x)), "l"(above | __float_as_uint(y))
                 : "memory");
}

/* Loads after which a group that waits stops the launch with an error: half a minute, where a meeting takes
 * a microsecond. A device that does not run all groups of a row at once shall say so, not hang. */
#define KF_MOST_LOADS (1u << 26)

/* Waits until the slot is of this run. */
__device__ inline float2 kf_slot_load(const unsigned long long *slot, unsigned run)
{
    unsigned long long x, y;
    unsigned loads = 0;
    do {
        if (loads++ == KF_MOST_LOADS)
            __trap();
        asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                     : "=l"(x), "=l"(y)
                     : "l"(__cvta_generic_to_global(slot))
                     : "memory");
    } while ((unsigned)(x >> 32) != run || (unsigned)(y >> 32) != run);
    return make_float2(__uint_as_float((unsigned)x), __uint_as_float((unsigned)y));
}

/* What each part of the row has found, (x, y, its elements), into `part_slot`: of this group (x, y), the
 * same in every thread. At least one barrier stands between kf_hold and here; one more comes here. A
 * thread loads its slots itself; nobody reads another's until the barrier. */
__device__ inline void kf_meet(const kf_place *p, float x, float y, float4 *part_slot)
{
    const unsigned run = *(const unsigned *)(part_slot + PARTS);
    unsigned long long *const slots = p->slots + p->row * (2 * PARTS);
    if (threadIdx.x == 0)
        kf_slot_store(slots + 2 * p->part, x, y, run);
    for (int part = threadIdx.x; part < PARTS; part += BLOCK) {
        const float2 found = kf_slot_load(slots + 2 * part, run);
        part_slot[part] = make_float4(found.x, found.y, (float)kf_part_elements(p, part), 0.0f);
    }
    __syncthreads();
}

/* Columns that are needed once the parts have met, on their way to the cache in a team's first row: no
 * registers, one sector of 32 bytes for every second thread. */
__device__ inline void kf_expect(const kf_place *p, const kf_storage *columns)
{
#pragma unroll
    for (int i = 0; i < VECS; i++)
        if (p->lane % 2 == 0 && p->row < gridDim.x / PARTS && kf_has(p, i))
            asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(
                columns + p->first + kf_vector(p, i) * KF_VEC)));
}
#endif
