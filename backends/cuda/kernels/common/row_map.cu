/* Elementwise work on a matrix with row strides, one vector of KF_VEC elements per thread: for
 * texts whose plan defines MAP_THREADS. The same names as opencl/kernels/common/row_map.cl.
 *
 * A piece is what one thread does. The grid of pieces is laid over absolute addresses of the
 * leading tensor, so its whole pieces are single aligned accesses wherever a row starts; the first
 * and the last piece of such a row are cut short and go element by element, as do tensors whose
 * rows are not congruent with the leading one's modulo 16 bytes. No element is touched twice, and
 * no lane computes on padding: what a plan declares is exact.
 *
 *   MAP_FLAT=1   every tensor is one aligned run: a single row, no division
 *   MAP_WHOLE=1  every row of every tensor is whole aligned vectors: nothing is asked per element
 *   MAP_THREADS  threads along a row; BLOCK / MAP_THREADS narrow rows share a group, and a wide
 *                row takes several groups
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define MAP_THREADS 256
#define MAP_FLAT 0
#define MAP_WHOLE 0
#define MAP_ITEM 2048
#endif

#ifdef MAP_THREADS

typedef struct kf_piece {
    long long row, column; /* of the vector's element 0, which may lie before the row */
    unsigned exists;       /* bit j: element j does */
} kf_piece;

/* False: this thread has none. `lead` and `stride` are those of the leading tensor. */
__device__ inline bool kf_piece_place(kf_piece *piece, const kf_storage *lead, long long rows,
                                      long long cols, long long stride)
{
    long long vector;
    int past = 0; /* elements between the last multiple of 16 bytes and the row's start */
    piece->row = 0;
#if MAP_FLAT
    vector = (long long)blockIdx.x * BLOCK + threadIdx.x;
#else
    const unsigned vectors = (unsigned)((cols + (MAP_WHOLE ? 0 : 2 * KF_VEC - 2)) / KF_VEC);
    const unsigned chunks = (vectors + MAP_THREADS - 1) / MAP_THREADS;
    const unsigned group = blockIdx.x;
    piece->row = (long long)(group / chunks) * (BLOCK / MAP_THREADS) + threadIdx.x / MAP_THREADS;
    if (piece->row >= rows)
        return false;
    vector = (long long)(group % chunks) * MAP_THREADS + threadIdx.x % MAP_THREADS;
    if (!MAP_WHOLE)
        past = (int)((size_t)(lead + piece->row * stride) & 15) / (int)sizeof(kf_storage);
#endif
    piece->column = vector * KF_VEC - past;
    const int end = (int)min(cols - piece->column, (long long)KF_VEC);
    piece->exists = (1u << max(end, 0)) - 1u;
    if (piece->column < 0)
        piece->exists &= ~0u << past;
    return piece->exists != 0;
}

__device__ inline bool kf_piece_has(const kf_piece *piece, int j)
{
    return MAP_WHOLE || (piece->exists >> j & 1);
}

/* One 16-byte access does. */
__device__ inline bool kf_piece_vector(const kf_piece *piece, const kf_storage *at)
{
    if (MAP_WHOLE)
        return true;
    return piece->exists == (1u << KF_VEC) - 1u && (MAP_FLAT || ((size_t)at & 15) == 0);
}

/* The piece of a tensor; 0 in elements that do not exist. Left packed, so that the loads of all
 * tensors are under way before the first is waited for. */
__device__ inline kf_pack kf_piece_fetch(const kf_piece *piece, const kf_storage *tensor,
                                         long long stride)
{
    const kf_storage *const at = tensor + piece->row * stride + piece->column;
    union {
        kf_storage element[KF_VEC];
        unsigned word[4];
    } part;
    if (kf_piece_vector(piece, at))
        return kf_load_pack(at, 0);
#pragma unroll
    for (int i = 0; i < 4; i++)
        part.word[i] = 0;
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(piece, j))
            part.element[j] = at[j];
    return make_uint4(part.word[0], part.word[1], part.word[2], part.word[3]);
}

__device__ inline void kf_piece_put(const kf_piece *piece, kf_storage *tensor, long long stride,
                                    const float *value)
{
    kf_storage *const at = tensor + piece->row * stride + piece->column;
    if (kf_piece_vector(piece, at)) {
        kf_store_pack(at, 0, kf_repack(value));
    } else {
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            if (kf_piece_has(piece, j))
                kf_store(at, j, value[j]);
    }
}

#endif

/* ---- CPU devices: a stretch of MAP_ITEM elements of one row per thread ----------------------- */

#ifdef MAP_ITEM

typedef struct kf_stretch {
    long long row, begin, end; /* columns begin .. end - 1 */
} kf_stretch;

/* False: this thread has none. */
__device__ inline bool kf_stretch_place(kf_stretch *stretch, long long rows, long long cols)
{
    const long long item = (long long)blockIdx.x * BLOCK + threadIdx.x;
    const long long per_row = (cols + MAP_ITEM - 1) / MAP_ITEM;
    stretch->row = item / per_row;
    stretch->begin = item % per_row * MAP_ITEM;
    stretch->end = min(stretch->begin + MAP_ITEM, cols);
    return stretch->row < rows;
}

#endif
