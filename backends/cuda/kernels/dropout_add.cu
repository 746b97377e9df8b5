/* residual + dropout(x), unfused and fused; the mask is made from the seed where it is needed. The
 * same entries in opencl/kernels/dropout_add.cl. Which thread does what: common/row_map.cu. All
 * loads stand before the store: y may be x or residual, so no compiler can move one past it.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* An element is kept when 24 bits of its word reach the threshold. */
__device__ inline bool dropout_add_keeps(unsigned word, int threshold)
{
    return (int)(word >> 8) >= threshold;
}

#ifdef MAP_THREADS
/* Words of a piece's elements. Vectors of whole rows, and of a single run, begin at a multiple of
 * four. */
__device__ inline void dropout_add_words(unsigned word[KF_VEC], const kf_piece *piece,
                                         long long cols, long long seed)
{
    kf_random_words(word, (unsigned long long)seed, piece->row * cols + piece->column,
                    MAP_FLAT || MAP_WHOLE);
}
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(dropout_add_dropout)
/* Reads M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    dropout_add_dropout(const kf_storage *x, long long x_offset, kf_storage *dropped,
                        long long dropped_offset, long long rows, long long cols,
                        long long x_stride, int threshold, float scale, long long seed)
{
    kf_piece piece;
    float a[KF_VEC];
    unsigned word[KF_VEC];
    if (!kf_piece_place(&piece, x + x_offset, rows, cols, x_stride))
        return;
    const kf_pack x_pack = kf_piece_fetch(&piece, x + x_offset, x_stride);
    dropout_add_words(word, &piece, cols, seed);
    kf_unpack(x_pack, a);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] = dropout_add_keeps(word[j], threshold) ? a[j] * scale : 0.0f;
    kf_piece_put(&piece, dropped + dropped_offset, cols, a);
}
#endif

#if KF_ENTRY(dropout_add_add)
/* Reads 2 M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    dropout_add_add(const kf_storage *residual, long long residual_offset, kf_storage *y,
                    long long y_offset, const kf_storage *dropped, long long dropped_offset,
                    long long rows, long long cols, long long residual_stride, long long y_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, residual + residual_offset, rows, cols, residual_stride))
        return;
    const kf_pack residual_pack =
        kf_piece_fetch(&piece, residual + residual_offset, residual_stride);
    const kf_pack dropped_pack = kf_piece_fetch(&piece, dropped + dropped_offset, cols);
    kf_unpack(residual_pack, a);
    kf_unpack(dropped_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] += b[j];
    kf_piece_put(&piece, y + y_offset, y_stride, a);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(dropout_add_fused)
/* Reads 2 M N, writes M N elements. The words are made while the loads are under way. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    dropout_add_fused(const kf_storage *x, long long x_offset, const kf_storage *residual,
                      long long residual_offset, kf_storage *y, long long y_offset, long long rows,
                      long long cols, long long x_stride, long long residual_stride,
                      long long y_stride, int threshold, float scale, long long seed)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    unsigned word[KF_VEC];
    if (!kf_piece_place(&piece, x + x_offset, rows, cols, x_stride))
        return;
    const kf_pack x_pack = kf_piece_fetch(&piece, x + x_offset, x_stride);
    const kf_pack residual_pack =
        kf_piece_fetch(&piece, residual + residual_offset, residual_stride);
    dropout_add_words(word, &piece, cols, seed);
    kf_unpack(x_pack, a);
    kf_unpack(residual_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        b[j] = dropout_add_keeps(word[j], threshold) ? fmaf(a[j], scale, b[j]) : b[j];
    kf_piece_put(&piece, y + y_offset, y_stride, b);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch of a row per thread -------------- */

#if KF_ENTRY(dropout_add_dropout_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    dropout_add_dropout_cpu(const kf_storage *x, long long x_offset, kf_storage *dropped,
                            long long dropped_offset, long long rows, long long cols,
                            long long x_stride, int threshold, float scale, long long seed)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const x_row = x + x_offset + s.row * x_stride;
    kf_storage *const to = dropped + dropped_offset + s.row * cols;
    const long long start = s.row * cols; /* index of column 0 */
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i,
                 dropout_add_keeps(kf_random_word((unsigned long long)seed, start + i), threshold)
                     ? kf_load(x_row, i) * scale
                     : 0.0f);
}
#endif

#if KF_ENTRY(dropout_add_add_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    dropout_add_add_cpu(const kf_storage *residual, long long residual_offset, kf_storage *y,
                        long long y_offset, const kf_storage *dropped, long long dropped_offset,
                        long long rows, long long cols, long long residual_stride,
                        long long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const residual_row = residual + residual_offset + s.row * residual_stride;
    const kf_storage *const dropped_row = dropped + dropped_offset + s.row * cols;
    kf_storage *const to = y + y_offset + s.row * y_stride;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_load(residual_row, i) + kf_load(dropped_row, i));
}
#endif

#if KF_ENTRY(dropout_add_fused_cpu)
/* Reads 2 M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    dropout_add_fused_cpu(const kf_storage *x, long long x_offset, const kf_storage *residual,
                          long long residual_offset, kf_storage *y, long long y_offset,
                          long long rows, long long cols, long long x_stride,
                          long long residual_stride, long long y_stride, int threshold, float scale,
                          long long seed)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const kf_storage *const residual_row = residual + residual_offset + s.row * residual_stride;
    kf_storage *const to = y + y_offset + s.row * y_stride;
    const long long start = s.row * cols; /* index of column 0 */
    for (long long i = s.begin; i < s.end; i++) {
        const float a = kf_load(x_row, i), b = kf_load(residual_row, i);
        kf_store(to, i,
                 dropout_add_keeps(kf_random_word((unsigned long long)seed, start + i), threshold)
                     ? fmaf(a, scale, b)
                     : b);
    }
}
#endif
