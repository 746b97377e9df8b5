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
#ifndef STREAMED
#define STREAMED 0
#endif

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

/* Vector v of the row part that starts at `from`; past its end, `fill` in every element.
 * STREAMED=1 marks both loads and stores evict-first, which leaves the cache to what is in flight:
 * 2 % at rows of one warp, where plans set it. Longer rows must not have it: 0.3 % won on one H200,
 * 2 % lost on another (16384x4096 f32 133.1 us, where plain accesses take 131.0 at the odd width
 * 4097); on one side alone it costs 1 to 5 %, at odd widths (whose lines two warps share) 5 %. */
__device__ inline kf_pack kf_fetch(const kf_storage *from, int v, int vectors, float fill)
{
    kf_pack pack = kf_splat(fill);
    if (v < vectors)
        pack = STREAMED ? __ldcs((const kf_pack *)from + v) : kf_load_pack(from, v);
    return pack;
}

/* The opposite. */
__device__ inline void kf_put(kf_storage *to, int v, kf_pack pack, bool together)
{
    if (STREAMED) {
        __stcs((kf_pack *)to + v, pack);
    } else if (together) {
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
