/* A row as aligned vectors and edges, for texts whose plan defines THREADS_PER_ROW and ALIGNED. The
 * same names as cuda/kernels/common/rows.cu.
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
static inline void kf_split(kf_span *span, const __global kf_storage *row, int cols)
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
static inline int kf_edge(kf_span span, int e)
{
    if (e < span.head)
        return e;
    return e < span.head + span.tail ? e + span.vectors * KF_VEC : -1;
}

/* Rows of x and y that agree modulo 16 bytes share the grid of vectors. */
static inline bool kf_together(const __global kf_storage *x_row, const __global kf_storage *y_row)
{
    return ALIGNED || (((size_t)x_row ^ (size_t)y_row) & 15) == 0;
}

/* Vector v of the row part that starts at `from`; past its end, `fill` in every element. */
static inline kf_pack kf_fetch(const __global kf_storage *from, int v, int vectors, float fill)
{
    kf_pack pack = kf_splat(fill);
    if (v < vectors)
        pack = kf_load_pack(from, v);
    return pack;
}

/* The same, of a row that is read once and written once; its lines are marked evict-last, which makes
 * 2 to 3 %: why, and what else was tried, stands in cuda/kernels/common/rows.cu. */
static inline kf_pack kf_fetch_once(const __global kf_storage *from, int v, int vectors, float fill)
{
#if KF_PTX_80
    ulong policy;
    kf_pack pack = kf_splat(fill);
    __asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    if (v < vectors)
        __asm("ld.global.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
              : "=r"(pack.x), "=r"(pack.y), "=r"(pack.z), "=r"(pack.w)
              : "l"((const __global kf_pack *)from + v), "l"(policy));
    return pack;
#else
    return kf_fetch(from, v, vectors, fill);
#endif
}

/* The opposite. */
static inline void kf_put(__global kf_storage *to, int v, kf_pack pack, bool together)
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
