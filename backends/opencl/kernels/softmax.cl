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
#define BLOCK 128
#define LEAST_GROUPS 1
#define ROWS_PER_GROUP 1
#define VECS 8
#define LOCAL_VECS 0
#define CLUSTER 4
#define LOCAL_BYTES 65536
#define KEPT 0
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

/* Sum of the exponentials of one vector. f32 keeps them in the vector's place; 16-bit storage keeps
 * the vector, and softmax_scaled() computes them again: half the registers, and no rounding
 * between. */
static inline float softmax_exponentials(kf_pack *pack, float base, uint zero)
{
    float value[KF_VEC], sum = 0.0f;
    kf_unpack(kf_again(*pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        value[j] = softmax_exponential(value[j], base);
        sum += value[j];
    }
#if KF_DTYPE == KF_F32
    *pack = kf_repack(value);
#endif
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

static inline kf_pack softmax_scaled(kf_pack pack, float base, float scale, uint zero)
{
#if KF_DTYPE == KF_F32
    float value[KF_VEC];
    kf_unpack(pack, value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] *= scale;
    return kf_repack(value);
#else
    return softmax_result(pack, base, scale, zero);
#endif
}

/* The warps of a row exchange (maximum, sum of exponentials below it) through one slot each; each
 * warp reduces all slots itself. Returns what the exponentials of this warp are multiplied by. Per
 * thread: 1 division, and 1 + ceil(warps / KF_WARP) exp2 where a row has several warps. Without
 * shuffles a warp is one work-item and two trees over the row take the place of the slots: 1
 * division and 1 exp2 per work-item (1 division alone for a row of one work-item). */
static inline float softmax_gather(float max, __local const float2 *slot, int warps)
{
    const int width = warps < KF_WARP ? warps : KF_WARP;
    const int first = (int)get_local_id(0) % width;
    float row_max = -KF_INFINITY, row_sum = 0.0f;
    for (int w = first; w < warps; w += KF_WARP)
        row_max = kf_max(row_max, slot[w].x);
    row_max = kf_warp_max(row_max, width);
    const float base = softmax_base(row_max);
    for (int w = first; w < warps; w += KF_WARP)
        row_sum += slot[w].y * softmax_exponential(slot[w].x, base);
    row_sum = kf_warp_sum(row_sum, width);
    return softmax_exponential(max, base) / row_sum;
}

static inline float softmax_scale(float max, float sum, int lane, __local float2 *slot)
{
    const int warps = THREADS_PER_ROW / KF_WARP;
    if (warps <= 1)
        return 1.0f / sum;
#if KF_CAP_SHUFFLE
    if (lane % KF_WARP == 0)
        slot[lane / KF_WARP] = (float2)(max, sum);
    barrier(CLK_LOCAL_MEM_FENCE);
    return softmax_gather(max, slot, warps);
#else
    __local float *const tree = (__local float *)slot;
    const float base = softmax_base(kf_group_max(max, THREADS_PER_ROW, lane, tree));
    const float factor = softmax_exponential(max, base);
    return factor / kf_group_sum(sum * factor, THREADS_PER_ROW, lane, tree);
#endif
}

/* Local memory of a group: parked vectors, then the slots of each row (a float per work-item where
 * a tree replaces shuffles). */
#define PARKED (LOCAL_VECS * BLOCK)
#define PARK_BATCH 8
#define SOFTMAX_SLOTS (KF_WARP > 1 ? THREADS_PER_ROW / KF_WARP : THREADS_PER_ROW / 2)

#if KF_ENTRY(softmax_fused)
#if BLOCK != THREADS_PER_ROW * ROWS_PER_GROUP || LOCAL_VECS >= VECS
#error "softmax_fused: BLOCK = THREADS_PER_ROW * ROWS_PER_GROUP, LOCAL_VECS < VECS"
#endif
/* M x N -> M x N. Reads M N, writes M N elements. Per group, padding included, exp2:
 * BLOCK (VECS KF_VEC + EDGES), with 16-bit storage once more per element stored in a vector, and
 * what softmax_gather needs; BLOCK divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
softmax_fused(const __global kf_storage *restrict x, long x_offset, __global kf_storage *restrict y,
              long y_offset, long rows, long cols, long x_stride, long y_stride)
{
    __local kf_pack parked[LOCAL_BYTES / sizeof(kf_pack)];
    __local float2 *const slot = (__local float2 *)(parked + PARKED) +
                                 (int)get_local_id(0) / THREADS_PER_ROW * SOFTMAX_SLOTS;
    const int lane = (int)get_local_id(0) % THREADS_PER_ROW;
    const long row =
        (long)get_group_id(0) * ROWS_PER_GROUP + (int)get_local_id(0) / THREADS_PER_ROW;
    const bool present = ROWS_PER_GROUP == 1 || row < rows;
    const __global kf_storage *const x_row = x + x_offset + (present ? row : 0) * x_stride;
    __global kf_storage *const y_row = y + y_offset + (present ? row : 0) * y_stride;
    kf_span span;
    kf_split(&span, x_row, present ? (int)cols : 0);
    const __global kf_storage *const x_vectors = x_row + span.head;
    kf_pack data[VECS - LOCAL_VECS];
    float edge[EDGE_SLOTS];
    float max = -KF_INFINITY, sum = 0.0f;

    /* parked part: PARK_BATCH loads in flight, then to local memory */
#pragma unroll
    for (int first = 0; first < LOCAL_VECS; first += PARK_BATCH) {
        kf_pack batch[PARK_BATCH];
#pragma unroll
        for (int i = 0; i < PARK_BATCH; i++)
            if (first + i < LOCAL_VECS)
                batch[i] =
                    kf_fetch(x_vectors, lane + (VECS - LOCAL_VECS + first + i) * THREADS_PER_ROW,
                             span.vectors, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < PARK_BATCH; i++)
            if (first + i < LOCAL_VECS) {
                max = fmax(max, kf_pack_max(batch[i]));
                parked[(first + i) * BLOCK + (int)get_local_id(0)] = batch[i];
            }
    }
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        data[i] = kf_fetch(x_vectors, lane + i * THREADS_PER_ROW, span.vectors, -KF_INFINITY);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * THREADS_PER_ROW);
        edge[i] = column < 0 ? -KF_INFINITY : kf_load(x_row, column);
        max = fmax(max, edge[i]);
    }
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        max = fmax(max, kf_pack_max(data[i]));
    max = kf_warp_max(max, THREADS_PER_ROW < KF_WARP ? THREADS_PER_ROW : KF_WARP);

    const float base = softmax_base(max);
    const uint zero = (uint)(rows >> 62), zero_again = (uint)(cols >> 62);
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        sum += softmax_exponentials(&data[i], base, zero);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        kf_pack pack = parked[i * BLOCK + (int)get_local_id(0)];
        sum += softmax_exponentials(&pack, base, zero);
        if (KF_DTYPE == KF_F32)
            parked[i * BLOCK + (int)get_local_id(0)] = pack;
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        edge[i] = softmax_exponential(edge[i], base);
        sum += edge[i];
    }
    sum = kf_warp_sum(sum, THREADS_PER_ROW < KF_WARP ? THREADS_PER_ROW : KF_WARP);
    const float scale = softmax_scale(max, sum, lane, slot);

    const bool together = kf_together(x_row, y_row);
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++) {
        const int v = lane + i * THREADS_PER_ROW;
        if (v < span.vectors)
            kf_put(y_row + span.head, v, softmax_scaled(data[i], base, scale, zero_again),
                   together);
    }
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        const int v = lane + (VECS - LOCAL_VECS + i) * THREADS_PER_ROW;
        if (v < span.vectors)
            kf_put(
                y_row + span.head, v,
                softmax_scaled(parked[i * BLOCK + (int)get_local_id(0)], base, scale, zero_again),
                together);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * THREADS_PER_ROW);
        if (column >= 0)
            kf_store(y_row, column, edge[i] * scale);
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
    __local float2 slot[LOCAL_BYTES / sizeof(float2)];
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
            sum += softmax_exponentials(&data[i], base, 0);
    }
    const float warp_max = kf_warp_max(max, KF_WARP);
    const float base = softmax_base(warp_max);
    sum = kf_warp_sum(sum * softmax_exponential(max, base), KF_WARP);
    const float scale = softmax_scale(warp_max, sum, lane, slot);

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

static inline float softmax_item_max(const __global kf_storage *row, int cols)
{
    float8 wide = -KF_INFINITY;
    int i = 0;
    for (; i + 8 <= cols; i += 8) {
        const float8 value = kf_load8(row, i);
        wide = value > wide ? value : wide; /* passes over NaN: the sum will tell */
    }
    float4 four = fmax(wide.lo, wide.hi);
    float max = fmax(fmax(four.x, four.y), fmax(four.z, four.w));
    for (; i < cols; i++)
        max = fmax(max, kf_load(row, i));
    return max;
}

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
    const float max = softmax_item_max(x_row, (int)cols);
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
