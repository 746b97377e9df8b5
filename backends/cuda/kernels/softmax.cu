/* Softmax over rows, y = exp(x - max x) / sum exp(x - max x). The same entries in
 * opencl/kernels/softmax.cl.
 *
 * softmax_fused reads and writes every element once: THREADS_PER_ROW threads hold a row on chip,
 * VECS vectors of 16 bytes each, the last LOCAL_VECS of them in local memory instead of registers.
 * ROWS_PER_GROUP short rows share a group; a row of one warp needs no barrier. A row that spans
 * warps needs one: each warp takes its own maximum and sum, the warps exchange the pairs, and the
 * difference of maxima goes into the factor that every exponential is multiplied by anyway.
 *
 * Where a row lies: common/rows.cu (odd widths), common/rows_held.cu (shares, clusters).
 *
 * Predicted, then measured on H200s (CUDA graph, cold; cards differ by 1 %), us. The copy of the
 * same size takes 33.1, 127.3, 252.1 (f32 4096x4096, 16384x4096, 4096x32768) and 17.3, 64.4, 127.2
 * (bf16).
 *
 * - At the copy once a row stays on chip: f32 33.0, 126.2, 252.1; bf16 17.3, 64.1, 127.9. The last
 *   3 % (before: 34.0, 129.9, 258.4; 18.1, 66.4, 131.2) came from a mark on the loads:
 *   kf_fetch_once in common/rows.cu.
 *
 * - Before that mark, shapes differed at 16384x4096: many threads with two vectors each beat few
 *   with sixteen (129.4 against 129.7), and two rows to a group of 1024 beat one to a group of 512
 *   (128.8 against 130.1, one process).
 *
 * - One barrier instead of two saves a round trip per row: 1 us of 260 at 4096x32768 f32, nothing
 *   at 4096 columns, where other groups hide it. Kept.
 *
 * - Edges apart cost one scalar access per thread: 16384x4097 126.0 beside 126.2 at 4096.
 *
 * - 16-bit rows kept packed put two groups of 64 KiB rows on a unit: bf16 4096x32768 from 142 (as
 *   floats, one group) to 131. Needs kf_again: 208 with unpacked floats shared between passes. The
 *   second exp2 costs nothing: keeping exponentials as floats took as long or longer at every shape.
 *
 * - Clusters hang on how their groups meet, not on the exponentials: at 1024x131072 bf16 the second
 *   exp2 was blamed for 140.7 us; st.async instead of a cluster barrier made it 131.2, and only
 *   then did small parts (eight groups of 256) beat large ones. f32: 261.4.
 *
 * - Dropped: persistent groups that load the next row while storing this one (139 to 146 at
 *   16384x4096 f32); clusters that stay, with the next rows landing in local memory (215 at
 *   1024x131072 bf16: with one group on a unit every exchange is waited for); exponentials of early
 *   vectors while later ones arrive (the loads sink below them: equal or slower).
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define KEPT 0
#endif

/* ---- exponentials -------------------------------------------------------------------------- */

/* What to subtract before exp2: a part of a row that is all -inf has exponentials 0, not NaN. */
__device__ inline float softmax_base(float max)
{
    return max == -KF_INFINITY ? 0.0f : max;
}

/* exp(value - base). The difference first: it is exact near the maximum and cannot overflow. */
__device__ inline float softmax_exponential(float value, float base)
{
    return kf_exp2((value - base) * KF_LOG2E);
}

/* What stays of a vector between the two passes over a row: of f32 its exponentials, of 16-bit
 * storage the vector as it came, whose exponentials are then computed again. No rounding between,
 * either way. Returns the sum of the exponentials. */
__device__ inline float softmax_keep(kf_pack *kept, kf_pack pack, float base, unsigned zero)
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

__device__ inline kf_pack softmax_result(kf_pack pack, float base, float scale, unsigned zero)
{
    float value[KF_VEC];
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = softmax_exponential(value[j], base) * scale;
    return kf_repack(value);
}

__device__ inline kf_pack softmax_scaled(kf_pack kept, float base, float scale,
                                         unsigned zero)
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
__device__ inline float2 softmax_join(const float4 *slot, int slots)
{
    const int width = KF_SLOT_LANES(slots), first = threadIdx.x % width;
    float row_max = -KF_INFINITY, row_sum = 0.0f;
    for (int w = first; w < slots; w += KF_WARP)
        row_max = kf_max(row_max, slot[w].x);
    row_max = kf_warp_max(row_max, width);
    const float base = softmax_base(row_max);
    for (int w = first; w < slots; w += KF_WARP)
        row_sum += slot[w].y * softmax_exponential(slot[w].x, base);
    return make_float2(row_max, kf_warp_sum(row_sum, width));
}

/* What exponentials below `max` are multiplied by. Per thread: 1 division, and 1 + ceil(slots /
 * KF_WARP) exp2. */
__device__ inline float softmax_gather(float max, const float4 *slot, int slots)
{
    const float2 row = softmax_join(slot, slots);
    return softmax_exponential(max, softmax_base(row.x)) / row.y;
}

#ifdef VECS
/* The factor of this warp's exponentials, which lie below `max` and sum up to `sum`. */
__device__ inline float softmax_scale(const kf_place *p, float max, float sum, float4 *slot)
{
    if (ROW_SLOTS <= 1)
        return 1.0f / sum;
#if CLUSTER > 1
    kf_cluster_wait();
#endif
    kf_row_share(p, make_float4(max, sum, 0.0f, 0.0f), slot);
#if SPLIT
    const float2 part = softmax_join(slot, ROW_SLOTS);
    kf_meet(p, part.x, part.y, kf_part_slots(slot));
    return softmax_gather(max, kf_part_slots(slot), PARTS);
#else
    return softmax_gather(max, slot, ROW_SLOTS);
#endif
}

/* A row, or a part of one, from its load to its store. exp2 per group, padding included: BLOCK
 * (VECS KF_VEC + EDGES), where vectors are kept as they came once more per element stored in a
 * vector, and what softmax_gather needs; BLOCK divisions. */
__device__ inline void softmax_row(const kf_place *p, const kf_storage *x_row, kf_storage *y_row,
                                   kf_pack *local, unsigned zero, unsigned zero_again)
{
    kf_held held;
    kf_pack kept[REGISTER_VECS];
    held.parked = local;
    kf_hold(&held, p, x_row, -KF_INFINITY);

    float max = -KF_INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < EDGES; i++)
        max = fmaxf(max, held.edge[i]);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        max = fmaxf(max, kf_pack_max(held.data[i]));
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        max = fmaxf(max, kf_pack_max(*kf_parked(&held, i)));
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
    const float scale = softmax_scale(p, max, sum, kf_row_slots(p, local));

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
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_fused(const kf_storage *__restrict__ x, long long x_offset, kf_storage *__restrict__ y,
                  long long y_offset, long long rows, long long cols, long long x_stride,
                  long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_place_row(&place, rows);
    const kf_storage *const x_row = x + x_offset + place.row * x_stride;
    kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    softmax_row(&place, x_row, y_row, local, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
}
#endif

#if KF_ENTRY(softmax_cluster)
//: only cuda: clusters
/* M x N -> M x N, a row over CLUSTER groups. Reads M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_cluster(const kf_storage *__restrict__ x, long long x_offset,
                    kf_storage *__restrict__ y, long long y_offset, long long rows, long long cols,
                    long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_place_row(&place, rows);
    kf_slots_open(kf_row_slots(&place, local));
    kf_cluster_arrive();
    const kf_storage *const x_row = x + x_offset + place.row * x_stride;
    kf_storage *const y_row = y + y_offset + place.row * y_stride;
    kf_place_columns(&place, x_row, cols);
    softmax_row(&place, x_row, y_row, local, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
}
#endif

#if KF_ENTRY(softmax_split)
/* M x N -> M x N, a row over PARTS groups. Reads M N, writes M N elements, and two words of 64 bits
 * per part of a row. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_split(const kf_storage *__restrict__ x, long long x_offset, kf_storage *__restrict__ y,
                  long long y_offset, unsigned long long *slots, long long slots_offset,
                  unsigned *tickets, long long tickets_offset, long long rows, long long cols,
                  long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_place_first(&place, slots + slots_offset, tickets + tickets_offset);
#pragma unroll 1
    for (; place.row < rows; kf_place_next(&place)) {
        const kf_storage *const x_row = x + x_offset + place.row * x_stride;
        kf_storage *const y_row = y + y_offset + place.row * y_stride;
        kf_place_columns(&place, x_row, cols);
        softmax_row(&place, x_row, y_row, local, (unsigned)(rows >> 62), (unsigned)(cols >> 62));
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
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_online(const kf_storage *__restrict__ x, long long x_offset, kf_storage *__restrict__ y,
                   long long y_offset, long long rows, long long cols, long long x_stride,
                   long long y_stride)
{
    extern __shared__ float4 slot[];
    const int lane = threadIdx.x;
    const kf_storage *const x_row = x + x_offset + (long long)blockIdx.x * x_stride;
    kf_storage *const y_row = y + y_offset + (long long)blockIdx.x * y_stride;
    kf_span span;
    kf_split(&span, x_row, (int)cols);
    const kf_storage *const x_vectors = x_row + span.head;
    float edge[EDGE_SLOTS];
    float max = -KF_INFINITY, sum = 0.0f;

#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * BLOCK);
        edge[i] = column < 0 ? -KF_INFINITY : kf_load(x_row, column);
        max = fmaxf(max, edge[i]);
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
            above = fmaxf(above, kf_pack_max(data[i]));
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
    if (lane % KF_WARP == 0)
        slot[lane / KF_WARP] = make_float4(warp_max, sum, 0.0f, 0.0f);
    __syncthreads();
    const float scale = softmax_gather(warp_max, slot, BLOCK / KF_WARP);

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

/* No barrier, no local memory, eight columns at a time (explicit vectors in OpenCL, which CPU
 * drivers need; a loop here). Three reads of a row that stays in the core's cache after the first.
 */

#if KF_ENTRY(softmax_fused_cpu)
/* Reads 3 M N (2 M N where exponentials are kept; M N distinct), writes M N elements. Rows of up to
 * KEPT vectors of eight keep their exponentials in private memory, which stays in the core's cache.
 * Per row: 1 division; exponentials are arithmetic. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    softmax_fused_cpu(const kf_storage *__restrict__ x, long long x_offset,
                      kf_storage *__restrict__ y, long long y_offset, long long rows,
                      long long cols, long long x_stride, long long y_stride)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    const kf_storage *const x_row = x + x_offset + row * x_stride;
    kf_storage *const y_row = y + y_offset + row * y_stride;
    const float max = kf_item_max(x_row, (int)cols);
    const int whole = KEPT ? (int)cols / 8 * 8 : 0;
    float kept[KEPT ? KEPT * 8 : 1];
    float sum = 0.0f;
    for (int i = 0; i < whole; i++) {
        kept[i] = kf_item_exp(kf_load(x_row, i) - max);
        sum += kept[i];
    }
    for (int i = whole; i < (int)cols; i++)
        sum += kf_item_exp(kf_load(x_row, i) - max);
    const float scale = 1.0f / sum;
    for (int i = 0; i < whole; i++)
        kf_store(y_row, i, kept[i] * scale);
    for (int i = whole; i < (int)cols; i++)
        kf_store(y_row, i, kf_item_exp(kf_load(x_row, i) - max) * scale);
}
#endif
