/* A row as aligned vectors and edges, for texts whose plan defines THREADS_PER_ROW and ALIGNED. The
 * same names as opencl/kernels/common/rows.cl.
 *
 * Rows of odd widths start anywhere. The grid of vectors is laid over absolute addresses, so every
 * vector is one aligned access; the few elements before and after it (the edges) go one per thread.
 * ALIGNED=1 says that every row starts at a multiple of 16 bytes and is whole vectors: no edges.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define THREADS_PER_ROW 128
#define ALIGNED 0
#endif

#ifdef THREADS_PER_ROW

/* Wide rows put whole 128-byte lines under a warp's access; narrow ones have too few threads for
 * the longer edges. */
#define GRID_BYTES (THREADS_PER_ROW >= 128 ? 128 : 16)
#define GRID_ELEMENTS (GRID_BYTES / (int)sizeof(kf_storage))

/* Edge elements per thread: at most GRID_ELEMENTS - 1 before the vectors and KF_VEC - 1 after. */
#if ALIGNED
#define EDGES 0
#else
#define EDGES ((GRID_ELEMENTS + KF_VEC - 2 + THREADS_PER_ROW - 1) / THREADS_PER_ROW)
#endif
#define EDGE_SLOTS (EDGES > 0 ? EDGES : 1)

typedef struct kf_span {
    int head, vectors, tail; /* elements, vectors, elements */
} kf_span;

/* By pointer: a struct returned by value is more than Oclgrind can run without optimisation. */
__device__ inline void kf_split(kf_span *span, const kf_storage *row, int cols)
{
    span->head = 0;
    if (!ALIGNED) {
        const int past = (int)((size_t)row / sizeof(kf_storage) % GRID_ELEMENTS);
        span->head = past ? min((int)GRID_ELEMENTS - past, cols) : 0;
    }
    span->vectors = (cols - span->head) / KF_VEC;
    span->tail = cols - span->head - span->vectors * KF_VEC;
}

/* Column of edge number e; -1 when the row has fewer. */
__device__ inline int kf_edge(kf_span span, int e)
{
    if (e < span.head)
        return e;
    return e < span.head + span.tail ? e + span.vectors * KF_VEC : -1;
}

/* Rows of x and y that agree modulo 16 bytes share the grid of vectors. */
__device__ inline bool kf_together(const kf_storage *x_row, const kf_storage *y_row)
{
    return ALIGNED || (((size_t)x_row ^ (size_t)y_row) & 15) == 0;
}

#if __CUDA_ARCH__ >= 800
/* A policy of the L2 cache for accesses that carry it. */
__device__ inline unsigned long long kf_evict_last(void)
{
    unsigned long long policy;
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
#endif

/* Vector v of the row part that starts at `from`; past its end, `fill` in every element. */
__device__ inline kf_pack kf_fetch(const kf_storage *from, int v, int vectors, float fill)
{
    kf_pack pack = kf_splat(fill);
    if (v < vectors)
        pack = kf_load_pack(from, v);
    return pack;
}

/* The same, of a row that is read once and written once. Its lines are marked evict-last: where the
 * cache has to give something up, it gives up what was written, soon and in the order of the writing,
 * and never waits with it until lines that nobody needs any more are gone. Neither more nor fewer bytes
 * come from memory (268.5 MB read, 267 written, either way), they come in a better order.
 *
 * kfuse bench on an H200, us, plain and evict-last: softmax f32 16384x4096 129.6, 126.6 and 8192x50257
 * 802, 775; layer norm f32 16384x4096 131.5, 126.8; add_rms_norm bf16 16384x4096 130.9, 126.7;
 * softmax_backward bf16 16384x4096 93.8, 93.0; nothing where nothing is written. Triton's way with such
 * rows (torch.compile marks them so), which is how we came to try it. Evict-first on both sides gains
 * nothing (131.1), on what is written alone it costs 2 %, evict-last there 1 %.
 *
 * The compiler may move such a load like arithmetic. In place that is harmless as long as every store
 * depends on the loads of the same vector, which keeps them in front of it.
 *
 * What comes after the kernel finds the cache nearly as it would have: buffers of 8 and 16 MB are read at
 * full speed from the second time on, one of 32 MB from the third. */
__device__ inline kf_pack kf_fetch_once(const kf_storage *from, int v, int vectors, float fill)
{
#if __CUDA_ARCH__ >= 800
    kf_pack pack = kf_splat(fill);
    if (v < vectors)
        asm("ld.global.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
            : "=r"(pack.x), "=r"(pack.y), "=r"(pack.z), "=r"(pack.w)
            : "l"(__cvta_generic_to_global((const kf_pack *)from + v)), "l"(kf_evict_last()));
    return pack;
#else
    return kf_fetch(from, v, vectors, fill);
#endif
}

/* The opposite. */
__device__ inline void kf_put(kf_storage *to, int v, kf_pack pack, bool together)
{
    if (together) {
        kf_store_pack(to, v, pack);
    } else {
        float value[KF_VEC];
        kf_unpack(pack, value);
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            kf_store(to, v * KF_VEC + j, value[j]);
    }
}

#endif
