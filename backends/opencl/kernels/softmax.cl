/* Softmax over rows, y = exp(x - max x) / sum exp(x - max x). The same entries in
 * cuda/kernels/softmax.cu.
 *
 * softmax_fused reads and writes every element once: THREADS_PER_ROW threads hold a row on chip,
 * VECS vectors of 16 bytes each, the last LOCAL_VECS of them in local memory instead of registers.
 * ROWS_PER_GROUP short rows share a group; a row of one warp needs no barrier. A row that spans
 * warps needs one: each warp takes its own maximum and sum, the warps exchange the pairs, and the
 * difference of maxima goes into the factor that every exponential is multiplied by anyway.
 *
 * Rows of odd widths: common/rows.cl.
 *
 * What was predicted and what was measured stands in the CUDA text.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define KEPT 0
#define LOCAL_BYTES 1024
#endif

/* ---- exponentials -------------------------------------------------------------------------- */

/* What to subtract before exp2: a part of a row that is all -inf has exponentials 0, not NaN. */
static inline float softmax_base(float max)
{
    return max == -KF_INFINITY ? 0.0f : max;
}

/* exp(value - base). The difference first: it is exact near the maximum and cannot overflow. */
static inline float softmax_exponential(float value, float base)
{
    return kf_exp2((value - base) * KF_LOG2E);
}

/* What stays of a vector between the two passes over a row: of f32 its exponentials, of 16-bit
 * storage the vector as it came, whose exponentials are then computed again. No rounding between,
 * either way. Returns the sum of the exponentials. */
static inline float softmax_keep(kf_pack *kept, kf_pack pack, float base, uint zero)
{
    float value[KF_VEC], sum = 0.0f;
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        value[j] = softmax_exponential(value[j], base);
        sum += value[j];
    }
    *kept = KF_DTYPE == KF_F32 ? kf_pack_floats(value) : pack;
    return sum;
}

static inline kf_pack softmax_result(kf_pack pack, float base, float scale, uint zero)
{
    float value[KF_VEC];
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = softmax_exponential(value[j], base) * scale;
    return kf_repack(value);
}

static inline kf_pack softmax_scaled(kf_pack kept, float base, float scale, uint zero)
{
#if KF_DTYPE == KF_F32
    float value[KF_VEC];
    kf_unpack_floats(kept, value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] *= scale;
    return kf_repack(value);
#else
    return softmax_result(kept, base, scale, zero);
#endif
}

/* Of all parts of a row, from one slot each: (maximum, sum of the exponentials below it). Each warp
 * reduces all slots itself. Per thread: ceil(slots / KF_WARP) exp2. */
static inline float2 softmax_join(__local const float4 *slot, int slots)
{
    const int width = KF_SLOT_LANES(slots), first = (int)get_local_id(0) % width;
    float row_max = -KF_INFINITY, row_sum = 0.0f;
    for (int w = first; w < slots; w += KF_WARP)
        row_max = kf_max(row_max, slot[w].x);
    row_max = kf_warp_max(row_max, width);
    const float base = softmax_base(row_max);
    for (int w = first; w < slots; w += KF_WARP)
        row_sum += slot[w].y * softmax_exponential(slot[w].x, base);
    return (float2)(row_max, kf_warp_sum(row_sum, width));
}

/* What exponentials below `max` are multiplied by. Per thread: 1 division, and 1 + ceil(slots /
 * KF_WARP) exp2. Without shuffles two trees over the row take the place of the slots: 1 division and
 * 1 exp2 per work-item. */
static inline float softmax_gather(float max, __local const float4 *slot, int slots)
{
    const float2 row = softmax_join(slot, slots);
    return softmax_exponential(max, softmax_base(row.x)) / row.y;
}

#if !KF_CAP_SHUFFLE
/* softmax_join by trees, for more than one thread. */
static inline float2 softmax_tree_join(float max, float sum, int threads, int lane,
                                       __local float4 *slot)
{
    __local float *const tree = (__local float *)slot; /* a float per work-item */
    const float row_max = kf_group_max(max, threads, lane, tree);
    const float factor = softmax_exponential(max, softmax_base(row_max));
    return (float2)(row_max, kf_group_sum(sum * factor, threads, lane, tree));
}

static inline float softmax_tree(float max, float sum, int threads, int lane, __local float4 *slot)
{
    __local float *const tree = (__local float *)slot; /* a float per work-item */
    if (threads == 1)
        return 1.0f / sum;
    const float base = softmax_base(kf_group_max(max, threads, lane, tree));
    const float factor = softmax_exponential(max, base);
    return factor / kf_group_sum(sum * factor, threads, lane, tree);
}
#endif

#ifdef VECS
/* The factor of this warp's exponentials, which lie below `max` and sum up to `sum`. */
static inline float softmax_scale(const kf_place *p, float max, float sum, __local float4 *slot)
{
    if (THREADS_PER_ROW <= KF_WARP)
        return 1.0f / sum;
#if SPLIT
#if KF_CAP_SHUFFLE
    kf_row_share(p, (float4)(max, sum, 0.0f, 0.0f), slot);
    const float2 part = softmax_join(slot, ROW_SLOTS);
#else
    const float2 part = softmax_tree_join(max, sum, THREADS_PER_ROW, p->lane, slot);
#endif
    kf_meet(p, part.x, part.y, kf_part_slots(slot));
    return softmax_gather(max, kf_part_slots(slot), PARTS);
#elif KF_CAP_SHUFFLE
    kf_row_share(p, (float4)(max, sum, 0.0f, 0.0f), slot);
    return softmax_gather(max, slot, ROW_SLOTS);
#else
    return softmax_tree(max, sum, THREADS_PER_ROW, p->lane, slot);
#endif
}

/* A row, or a part of one, from its load to its store. exp2 per group, padding included: BLOCK
 * (VECS KF_VEC + EDGES), where vectors are kept as they came once more per element stored in a
 * vector, and what softmax_gather needs; BLOCK divisions. */
static inline void softmax_row(const kf_place *p, const __global kf_storage *x_row,
                               __global kf_storage *y_row, __local kf_pack *local_memory, uint zero,
                               uint zero_again)
{
    kf_held held;
    kf_pack kept[REGISTER_VECS];
    held.parked = local_memory;
    kf_hold(&held, p, x_row, -KF_INFINITY);

    float max = -KF_INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        max = fmax(max, held.edge[i]);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        max = fmax(max, kf_pack_max(held.data[i]));
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        max = fmax(max, kf_pack_max(*kf_parked(&held, i)));
    max = kf_warp_max(max, ROW_LANES);

    const float base = softmax_base(max);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        sum += softmax_keep(&kept[i], held.data[i], base, zero);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        kf_pack parked;
        sum += softmax_keep(&parked, *kf_parked(&held, i), base, zero);
        if (KF_DTYPE == KF_F32)
            *kf_parked(&held, i) = parked;
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        held.edge[i] = softmax_exponential(held.edge[i], base);
        sum += held.edge[i];
    }
    sum = kf_warp_sum(sum, ROW_LANES);
    const float scale = softmax_scale(p, max, sum, kf_row_slots(p, local_memory));

    const bool together = kf_together(x_row, y_row);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        if (kf_has(p, i))
            kf_row_put(p, y_row, i, softmax_scaled(kept[i], base, scale, zero_again), together);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        if (kf_has(p, REGISTER_VECS + i))
            kf_row_put(p, y_row, REGISTER_VECS + i,
                       softmax_scaled(*kf_parked(&held, i), base, scale, zero_again), together);
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        kf_row_put_edge(p, y_row, i, held.edge[i] * scale);
}
#endif

#if KF_ENTRY(softmax_fused)
/* M x N -> M x N. Reads M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_fused(const __global kf_storage *restrict x, long x_offset, __global kf_storage *restrict y,
              long y_offset, long rows, long cols, long x_stride, long y_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    kf_place_row(&place, rows);
    const __global kf_storage *const x_row = x + x_offset + place.row * x_stride;
    __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    softmax_row(&place, x_row, y_row, local_memory, (uint)(rows >> 62), (uint)(cols >> 62));
}
#endif

#if KF_ENTRY(softmax_split)
/* M x N -> M x N, a row over PARTS groups. Reads M N, writes M N elements, and two words of 64 bits
 * per part of a row. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_split(const __global kf_storage *restrict x, long x_offset, __global kf_storage *restrict y,
              long y_offset, __global ulong *slots, long slots_offset, __global uint *tickets,
              long tickets_offset, long rows, long cols, long x_stride, long y_stride)
{
    __local kf_pack local_memory[LOCAL_BYTES / sizeof(kf_pack)];
    kf_place place;
    kf_place_first(&place, slots + slots_offset, tickets + tickets_offset);
#pragma unroll 1
    for (; place.row < rows; kf_place_next(&place)) {
        const __global kf_storage *const x_row = x + x_offset + place.row * x_stride;
        __global kf_storage *const y_row = y + y_offset + place.row * y_stride;
        kf_place_columns(&place, x_row, cols);
        softmax_row(&place, x_row, y_row, local_memory, (uint)(rows >> 62), (uint)(cols >> 62));
    }
}
#endif

#if KF_ENTRY(softmax_online)
#if BLOCK != THREADS_PER_ROW
#error "softmax_online: one row per group, BLOCK = THREADS_PER_ROW"
#endif
/* Rows wider than the chip: running maximum and sum in the first read, the result in the second.
 * Reads 2 M N, writes M N elements. The sum is rescaled once per ONLINE_VECS vectors. Per row,
 * exp2: BLOCK (trips (ONLINE_VECS KF_VEC + 1) + EDGES + 1) in the first read, where trips =
 * ceil(vectors / (BLOCK ONLINE_VECS)); one per element in the second; softmax_gather; BLOCK
 * divisions. */
#define ONLINE_VECS 4
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_online(const __global kf_storage *restrict x, long x_offset,
               __global kf_storage *restrict y, long y_offset, long rows, long cols, long x_stride,
               long y_stride)
{
    __local float4 slot[LOCAL_BYTES / sizeof(float4)];
    const int lane = (int)get_local_id(0);
    const __global kf_storage *const x_row = x + x_offset + (long)get_group_id(0) * x_stride;
    __global kf_storage *const y_row = y + y_offset + (long)get_group_id(0) * y_stride;
    kf_span span;
    kf_split(&span, x_row, (int)cols);
    const __global kf_storage *const x_vectors = x_row + span.head;
    float edge[EDGE_SLOTS];
    float max = -KF_INFINITY, sum = 0.0f;

#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * BLOCK);
        edge[i] = column < 0 ? -KF_INFINITY : kf_load(x_row, column);
        max = fmax(max, edge[i]);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        sum += softmax_exponential(edge[i], softmax_base(max));
    for (int first = 0; first < span.vectors; first += BLOCK * ONLINE_VECS) {
        kf_pack data[ONLINE_VECS];
        kf_pack unused;
        float above = max;
#pragma unroll
        for (int i = 0; i < ONLINE_VECS; i++)
            data[i] = kf_fetch(x_vectors, first + i * BLOCK + lane, span.vectors, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < ONLINE_VECS; i++)
            above = fmax(above, kf_pack_max(data[i]));
        const float base = softmax_base(above);
        sum *= softmax_exponential(max, base);
        max = above;
#pragma unroll
        for (int i = 0; i < ONLINE_VECS; i++)
            sum += softmax_keep(&unused, data[i], base, 0);
    }
    const float warp_max = kf_warp_max(max, KF_WARP);
    const float base = softmax_base(warp_max);
    sum = kf_warp_sum(sum * softmax_exponential(max, base), KF_WARP);
#if KF_CAP_SHUFFLE
    if (lane % KF_WARP == 0)
        slot[lane / KF_WARP] = (float4)(warp_max, sum, 0.0f, 0.0f);
    barrier(CLK_LOCAL_MEM_FENCE);
    const float scale = softmax_gather(warp_max, slot, BLOCK / KF_WARP);
#else
    const float scale = softmax_tree(warp_max, sum, BLOCK, lane, slot);
#endif

    const bool together = kf_together(x_row, y_row);
    for (int v = lane; v < span.vectors; v += BLOCK) {
        const kf_pack pack = softmax_result(kf_load_pack(x_vectors, v), base, scale, 0);
        kf_put(y_row + span.head, v, pack, together);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * BLOCK);
        if (column >= 0)
            kf_store(y_row, column, softmax_exponential(edge[i], base) * scale);
    }
}
#endif

/* ---- one row per work-item: CPU devices --------------------------------------------------- */

/* No barrier, no local memory, eight columns at a time (explicit vectors, which CPU drivers need).
 * Three reads of a row that stays in the core's cache after the first.
 */

#if KF_ENTRY(softmax_fused_cpu)
/* Reads 3 M N (2 M N where exponentials are kept; M N distinct), writes M N elements. Rows of up to
 * KEPT vectors of eight keep their exponentials in private memory, which stays in the core's cache.
 * Per row: 1 division; exponentials are arithmetic (kf_exp8). */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_fused_cpu(const __global kf_storage *restrict x, long x_offset,
                  __global kf_storage *restrict y, long y_offset, long rows, long cols,
                  long x_stride, long y_stride)
{
    const long row = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    if (row >= rows)
        return;
    const __global kf_storage *const x_row = x + x_offset + row * x_stride;
    __global kf_storage *const y_row = y + y_offset + row * y_stride;
    const float max = kf_item_max(x_row, (int)cols);
#if KEPT
    float8 kept[KEPT];
#endif
    float8 wide = 0.0f;
    int i = 0;
    for (; i + 8 <= (int)cols; i += 8) {
        const float8 power = kf_exp8(kf_load8(x_row, i) - max);
#if KEPT
        kept[i / 8] = power;
#endif
        wide += power;
    }
    const float4 four = wide.lo + wide.hi;
    float sum = (four.x + four.y) + (four.z + four.w);
    for (; i < (int)cols; i++)
        sum += kf_exp8((float8)(kf_load(x_row, i) - max)).s0;
    const float scale = 1.0f / sum;
    for (i = 0; i + 8 <= (int)cols; i += 8) {
#if KEPT
        kf_store8(y_row, i, kept[i / 8] * scale);
#else
        kf_store8(y_row, i, kf_exp8(kf_load8(x_row, i) - max) * scale);
#endif
    }
    for (; i < (int)cols; i++)
        kf_store(y_row, i, kf_exp8((float8)(kf_load(x_row, i) - max)).s0 * scale);
}
#endif
