/* Softmax over rows, y = exp(x - max x) / sum exp(x - max x). The same entries in
 * opencl/kernels/softmax.cl.
 *
 * softmax_fused reads and writes every element once: THREADS_PER_ROW threads hold a row on chip,
 * VECS vectors of 16 bytes each, the last LOCAL_VECS of them in local memory instead of registers.
 * ROWS_PER_GROUP short rows share a group; a row of one warp needs no barrier. A row that spans
 * warps needs one: each warp takes its own maximum and sum, the warps exchange the pairs, and the
 * difference of maxima goes into the factor that every exponential is multiplied by anyway.
 *
 * Rows of odd widths: common/rows.cu.
 *
 * Predicted, then measured on an H200 (CUDA graph, cold), us. The copy of the same size takes 33.1,
 * 127.2, 252.1 (f32 4096x4096, 16384x4096, 4096x32768) and 17.3, 64.4, 127.2 (bf16).
 *
 * - Near the copy once a row stays on chip: f32 33.5, 129.4, 257.9; bf16 18.2, 65.7, 130.7. Held.
 *
 * - One barrier instead of two saves a round trip per row: 1 us of 260 at 4096x32768 f32, nothing
 *   at 4096 columns, where other groups hide it. Kept.
 *
 * - Edges apart cost one scalar access per thread: 16384x4097 130.4, 8192x50257 796 (50256: 799).
 *
 * - 16-bit rows kept packed put two groups of 64 KiB rows on a unit: bf16 4096x32768 from 142 (as
 *   floats, one group) to 130.7. Needs kf_again: 208 with unpacked floats shared between passes.
 *   The second exp2 costs nothing at 4096 columns; over clusters it does (1024x131072: 139.7).
 *
 * - Dropped: persistent groups that load the next row while storing this one (139 to 146 at
 *   16384x4096 f32); exponentials of early vectors while later ones arrive (the loads sink below
 *   them: equal or slower); clusters where one group can hold the row (4096x32768 bf16 138).
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
__device__ inline float softmax_base(float max)
{
    return max == -KF_INFINITY ? 0.0f : max;
}

/* exp(value - base). The difference first: it is exact near the maximum and cannot overflow. */
__device__ inline float softmax_exponential(float value, float base)
{
    return kf_exp2((value - base) * KF_LOG2E);
}

/* Sum of the exponentials of one vector. f32 keeps them in the vector's place; 16-bit storage keeps
 * the vector, and softmax_scaled() computes them again: half the registers, and no rounding
 * between. */
__device__ inline float softmax_exponentials(kf_pack *pack, float base, unsigned zero)
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

__device__ inline kf_pack softmax_result(kf_pack pack, float base, float scale, unsigned zero)
{
    float value[KF_VEC];
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        value[j] = softmax_exponential(value[j], base) * scale;
    return kf_repack(value);
}

__device__ inline kf_pack softmax_scaled(kf_pack pack, float base, float scale, unsigned zero)
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
 * warp reduces all slots itself. Returns what the exponentials of this warp are multiplied by. The
 * row's warps may be in one group or, through the cluster's slots, in several. Per thread: 1
 * division, and 1 + ceil(warps / KF_WARP) exp2 where a row has several warps. */
__device__ inline float softmax_gather(float max, const float2 *slot, int warps)
{
    const int width = warps < KF_WARP ? warps : KF_WARP;
    const int first = threadIdx.x % width;
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

__device__ inline float softmax_scale(float max, float sum, int lane, float2 *slot)
{
    const int warps = THREADS_PER_ROW / KF_WARP;
    if (warps <= 1)
        return 1.0f / sum;
    if (lane % KF_WARP == 0)
        slot[lane / KF_WARP] = make_float2(max, sum);
    __syncthreads();
    return softmax_gather(max, slot, warps);
}

/* Local memory of a group: parked vectors, then the slots of each row. */
#define PARKED (LOCAL_VECS * BLOCK)
#define PARK_BATCH 8
#define SOFTMAX_SLOTS (THREADS_PER_ROW / KF_WARP)

#if KF_ENTRY(softmax_fused)
#if BLOCK != THREADS_PER_ROW * ROWS_PER_GROUP || LOCAL_VECS >= VECS
#error "softmax_fused: BLOCK = THREADS_PER_ROW * ROWS_PER_GROUP, LOCAL_VECS < VECS"
#endif
/* M x N -> M x N. Reads M N, writes M N elements. Per group, padding included, exp2:
 * BLOCK (VECS KF_VEC + EDGES), with 16-bit storage once more per element stored in a vector, and
 * what softmax_gather needs; BLOCK divisions. */
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_fused(const kf_storage *__restrict__ x, long long x_offset, kf_storage *__restrict__ y,
                  long long y_offset, long long rows, long long cols, long long x_stride,
                  long long y_stride)
{
    extern __shared__ kf_pack parked[];
    float2 *const slot =
        (float2 *)(parked + PARKED) + threadIdx.x / THREADS_PER_ROW * SOFTMAX_SLOTS;
    const int lane = threadIdx.x % THREADS_PER_ROW;
    const long long row = (long long)blockIdx.x * ROWS_PER_GROUP + threadIdx.x / THREADS_PER_ROW;
    const bool present = ROWS_PER_GROUP == 1 || row < rows;
    const kf_storage *const x_row = x + x_offset + (present ? row : 0) * x_stride;
    kf_storage *const y_row = y + y_offset + (present ? row : 0) * y_stride;
    kf_span span;
    kf_split(&span, x_row, present ? (int)cols : 0);
    const kf_storage *const x_vectors = x_row + span.head;
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
                max = fmaxf(max, kf_pack_max(batch[i]));
                parked[(first + i) * BLOCK + threadIdx.x] = batch[i];
            }
    }
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        data[i] = kf_fetch(x_vectors, lane + i * THREADS_PER_ROW, span.vectors, -KF_INFINITY);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge(span, lane + i * THREADS_PER_ROW);
        edge[i] = column < 0 ? -KF_INFINITY : kf_load(x_row, column);
        max = fmaxf(max, edge[i]);
    }
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        max = fmaxf(max, kf_pack_max(data[i]));
    max = kf_warp_max(max, THREADS_PER_ROW < KF_WARP ? THREADS_PER_ROW : KF_WARP);

    const float base = softmax_base(max);
    const unsigned zero = (unsigned)(rows >> 62), zero_again = (unsigned)(cols >> 62);
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        sum += softmax_exponentials(&data[i], base, zero);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        kf_pack pack = parked[i * BLOCK + threadIdx.x];
        sum += softmax_exponentials(&pack, base, zero);
        if (KF_DTYPE == KF_F32)
            parked[i * BLOCK + threadIdx.x] = pack;
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
            kf_put(y_row + span.head, v,
                   softmax_scaled(parked[i * BLOCK + threadIdx.x], base, scale, zero_again),
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
extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_online(const kf_storage *__restrict__ x, long long x_offset, kf_storage *__restrict__ y,
                   long long y_offset, long long rows, long long cols, long long x_stride,
                   long long y_stride)
{
    extern __shared__ float2 slot[];
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

#if KF_ENTRY(softmax_cluster)
//: only cuda: clusters
#if BLOCK != THREADS_PER_ROW || LOCAL_VECS >= VECS
#error "softmax_cluster: BLOCK = THREADS_PER_ROW (per group of the cluster), LOCAL_VECS < VECS"
#endif
/* softmax_fused with a row over CLUSTER groups: group r of a cluster holds vectors r BLOCK VECS and
 * on. Every warp writes its (maximum, sum) into the local memory of all groups of its cluster; one
 * cluster barrier later each warp reduces CLUSTER BLOCK / 32 slots. The first barrier only says
 * that the others have started: a store into local memory of a group that has not is lost. Counts
 * per group as softmax_fused. */
__device__ inline void softmax_publish(float2 *slot, int peer, float max, float sum)
{
    const unsigned here = (unsigned)__cvta_generic_to_shared(slot);
    unsigned there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(peer));
    asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(there), "f"(max), "f"(sum)
                 : "memory");
}

extern "C" __global__ void __launch_bounds__(BLOCK, LEAST_GROUPS)
    softmax_cluster(const kf_storage *__restrict__ x, long long x_offset,
                    kf_storage *__restrict__ y, long long y_offset, long long rows, long long cols,
                    long long x_stride, long long y_stride)
{
    extern __shared__ kf_pack parked[];
    float2 *const slot = (float2 *)(parked + PARKED);
    const int warps = BLOCK / KF_WARP;
    const int lane = threadIdx.x, rank = blockIdx.x % CLUSTER;
    const long long row = blockIdx.x / CLUSTER;
    const kf_storage *const x_row = x + x_offset + row * x_stride;
    kf_storage *const y_row = y + y_offset + row * y_stride;
    kf_span span;
    kf_split(&span, x_row, (int)cols);
    const int part = span.head + rank * (BLOCK * VECS * KF_VEC);
    const int vectors = span.vectors - rank * (BLOCK * VECS);
    kf_pack data[VECS - LOCAL_VECS];
    float edge[EDGE_SLOTS];
    float max = -KF_INFINITY, sum = 0.0f;

    asm volatile("barrier.cluster.arrive.relaxed.aligned;");
#pragma unroll
    for (int first = 0; first < LOCAL_VECS; first += PARK_BATCH) {
        kf_pack batch[PARK_BATCH];
#pragma unroll
        for (int i = 0; i < PARK_BATCH; i++)
            if (first + i < LOCAL_VECS)
                batch[i] = kf_fetch(x_row + part, lane + (VECS - LOCAL_VECS + first + i) * BLOCK,
                                    vectors, -KF_INFINITY);
#pragma unroll
        for (int i = 0; i < PARK_BATCH; i++)
            if (first + i < LOCAL_VECS) {
                max = fmaxf(max, kf_pack_max(batch[i]));
                parked[(first + i) * BLOCK + lane] = batch[i];
            }
    }
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        data[i] = kf_fetch(x_row + part, lane + i * BLOCK, vectors, -KF_INFINITY);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = rank == 0 ? kf_edge(span, lane + i * BLOCK) : -1;
        edge[i] = column < 0 ? -KF_INFINITY : kf_load(x_row, column);
        max = fmaxf(max, edge[i]);
    }
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        max = fmaxf(max, kf_pack_max(data[i]));
    max = kf_warp_max(max, KF_WARP);

    const float base = softmax_base(max);
    const unsigned zero = (unsigned)(rows >> 62), zero_again = (unsigned)(cols >> 62);
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++)
        sum += softmax_exponentials(&data[i], base, zero);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        kf_pack pack = parked[i * BLOCK + lane];
        sum += softmax_exponentials(&pack, base, zero);
        if (KF_DTYPE == KF_F32)
            parked[i * BLOCK + lane] = pack;
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        edge[i] = softmax_exponential(edge[i], base);
        sum += edge[i];
    }
    sum = kf_warp_sum(sum, KF_WARP);

    asm volatile("barrier.cluster.wait.aligned;");
    if (lane % KF_WARP < CLUSTER)
        softmax_publish(&slot[rank * warps + lane / KF_WARP], lane % KF_WARP, max, sum);
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    const float scale = softmax_gather(max, slot, CLUSTER * warps);

    const bool together = kf_together(x_row, y_row);
#pragma unroll
    for (int i = 0; i < VECS - LOCAL_VECS; i++) {
        const int v = lane + i * BLOCK;
        if (v < vectors)
            kf_put(y_row + part, v, softmax_scaled(data[i], base, scale, zero_again), together);
    }
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++) {
        const int v = lane + (VECS - LOCAL_VECS + i) * BLOCK;
        if (v < vectors)
            kf_put(y_row + part, v,
                   softmax_scaled(parked[i * BLOCK + lane], base, scale, zero_again), together);
    }
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = rank == 0 ? kf_edge(span, lane + i * BLOCK) : -1;
        if (column >= 0)
            kf_store(y_row, column, edge[i] * scale);
    }
}
#endif

/* ---- one row per work-item: CPU devices --------------------------------------------------- */

/* No barrier, no local memory, eight columns at a time (explicit vectors in OpenCL, which CPU
 * drivers need; a loop here). Three reads of a row that stays in the core's cache after the first.
 */

__device__ inline float softmax_item_max(const kf_storage *row, int cols)
{
    float max = -KF_INFINITY;
    for (int i = 0; i < cols; i++)
        max = kf_max(max, kf_load(row, i));
    return max;
}

/* exp(x) for x <= 0 by arithmetic alone, as kf_exp8 of the OpenCL texts. */
__device__ inline float softmax_item_exp(float x)
{
    const float held = x < -87.0f ? -87.0f : x;
    const float n = rintf(held * KF_LOG2E);
    const float r = (held - n * 0.693359375f) - n * -2.12194440e-4f;
    float power = 1.0f / 5040;
    power = power * r + 1.0f / 720;
    power = power * r + 1.0f / 120;
    power = power * r + 1.0f / 24;
    power = power * r + 1.0f / 6;
    power = power * r + 0.5f;
    power = power * r + 1.0f;
    power = power * r + 1.0f;
    power *= __int_as_float(((int)n + 127) << 23);
    return x < -87.0f ? 0.0f : power;
}

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
    const float max = softmax_item_max(x_row, (int)cols);
    const int whole = KEPT ? (int)cols / 8 * 8 : 0;
    float kept[KEPT ? KEPT * 8 : 1];
    float sum = 0.0f;
    for (int i = 0; i < whole; i++) {
        kept[i] = softmax_item_exp(kf_load(x_row, i) - max);
        sum += kept[i];
    }
    for (int i = whole; i < (int)cols; i++)
        sum += softmax_item_exp(kf_load(x_row, i) - max);
    const float scale = 1.0f / sum;
    for (int i = 0; i < whole; i++)
        kf_store(y_row, i, kept[i] * scale);
    for (int i = whole; i < (int)cols; i++)
        kf_store(y_row, i, softmax_item_exp(kf_load(x_row, i) - max) * scale);
}
#endif
