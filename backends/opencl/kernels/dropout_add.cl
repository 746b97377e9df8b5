/* residual + dropout(x), unfused and fused; the mask is made from the seed where it is needed. The
 * same entries in cuda/kernels/dropout_add.cu. Which work-item does what: common/row_map.cl. All
 * loads stand before the store: y may be x or residual, so no compiler can move one past it.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* An element is kept when 24 bits of its word reach the threshold. */
static inline bool dropout_add_keeps(uint word, int threshold)
{
    return (int)(word >> 8) >= threshold;
}

#ifdef MAP_THREADS
/* Words of a piece's elements. Vectors of whole rows, and of a single run, begin at a multiple of
 * four. */
static inline void dropout_add_words(uint word[KF_VEC], const kf_piece *piece, long cols, long seed)
{
    kf_random_words(word, (ulong)seed, piece->row * cols + piece->column, MAP_FLAT || MAP_WHOLE);
}
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(dropout_add_dropout)
/* Reads M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
dropout_add_dropout(const __global kf_storage *x, long x_offset, __global kf_storage *dropped,
                    long dropped_offset, long rows, long cols, long x_stride, int threshold,
                    float scale, long seed)
{
    kf_piece piece;
    float a[KF_VEC];
    uint word[KF_VEC];
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
dropout_add_add(const __global kf_storage *residual, long residual_offset, __global kf_storage *y,
                long y_offset, const __global kf_storage *dropped, long dropped_offset, long rows,
                long cols, long residual_stride, long y_stride)
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
dropout_add_fused(const __global kf_storage *x, long x_offset, const __global kf_storage *residual,
                  long residual_offset, __global kf_storage *y, long y_offset, long rows, long cols,
                  long x_stride, long residual_stride, long y_stride, int threshold, float scale,
                  long seed)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    uint word[KF_VEC];
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
        b[j] = dropout_add_keeps(word[j], threshold) ? fma(a[j], scale, b[j]) : b[j];
    kf_piece_put(&piece, y + y_offset, y_stride, b);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch of a row per work-item -------------- */

#ifdef MAP_ITEM
/* The q-th eight of the 32 elements whose words kf_random_words32 made: all bits set where kept. */
static inline int8 dropout_add_mask8(const uint8 word[4], int q, int threshold)
{
    const uint8 a = word[0], b = word[1], c = word[2], d = word[3];
    const uint8 picked = q == 0   ? (uint8)(a.s0, b.s0, c.s0, d.s0, a.s1, b.s1, c.s1, d.s1)
                         : q == 1 ? (uint8)(a.s2, b.s2, c.s2, d.s2, a.s3, b.s3, c.s3, d.s3)
                         : q == 2 ? (uint8)(a.s4, b.s4, c.s4, d.s4, a.s5, b.s5, c.s5, d.s5)
                                  : (uint8)(a.s6, b.s6, c.s6, d.s6, a.s7, b.s7, c.s7, d.s7);
    return as_int8(picked >> 8) >= threshold;
}
#endif

#if KF_ENTRY(dropout_add_dropout_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
dropout_add_dropout_cpu(const __global kf_storage *x, long x_offset, __global kf_storage *dropped,
                        long dropped_offset, long rows, long cols, long x_stride, int threshold,
                        float scale, long seed)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const x_row = x + x_offset + s.row * x_stride;
    __global kf_storage *const to = dropped + dropped_offset + s.row * cols;
    const long start = s.row * cols; /* index of column 0 */
    long i = s.begin;
    for (; i < s.end && (start + i) % 4; i++)
        kf_store(to, i,
                 dropout_add_keeps(kf_random_word((ulong)seed, start + i), threshold)
                     ? kf_load(x_row, i) * scale
                     : 0.0f);
    for (; i + 32 <= s.end; i += 32) {
        uint8 word[4];
        kf_random_words32(word, (ulong)seed, start + i);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const int8 mask = dropout_add_mask8(word, q, threshold);
            kf_store8(to, i + 8 * q,
                      kf_where8(mask, kf_load8(x_row, i + 8 * q) * scale, (float8)(0.0f)));
        }
    }
    for (; i < s.end; i++)
        kf_store(to, i,
                 dropout_add_keeps(kf_random_word((ulong)seed, start + i), threshold)
                     ? kf_load(x_row, i) * scale
                     : 0.0f);
}
#endif

#if KF_ENTRY(dropout_add_add_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
dropout_add_add_cpu(const __global kf_storage *residual, long residual_offset,
                    __global kf_storage *y, long y_offset, const __global kf_storage *dropped,
                    long dropped_offset, long rows, long cols, long residual_stride, long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const residual_row =
        residual + residual_offset + s.row * residual_stride;
    const __global kf_storage *const dropped_row = dropped + dropped_offset + s.row * cols;
    __global kf_storage *const to = y + y_offset + s.row * y_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_load8(residual_row, i) + kf_load8(dropped_row, i));
    for (; i < s.end; i++)
        kf_store(to, i, kf_load(residual_row, i) + kf_load(dropped_row, i));
}
#endif

#if KF_ENTRY(dropout_add_fused_cpu)
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
dropout_add_fused_cpu(const __global kf_storage *x, long x_offset,
                      const __global kf_storage *residual, long residual_offset,
                      __global kf_storage *y, long y_offset, long rows, long cols, long x_stride,
                      long residual_stride, long y_stride, int threshold, float scale, long seed)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const __global kf_storage *const residual_row =
        residual + residual_offset + s.row * residual_stride;
    __global kf_storage *const to = y + y_offset + s.row * y_stride;
    const long start = s.row * cols; /* index of column 0 */
    long i = s.begin;
    for (; i < s.end && (start + i) % 4; i++) {
        const float a = kf_load(x_row, i), b = kf_load(residual_row, i);
        kf_store(to, i,
                 dropout_add_keeps(kf_random_word((ulong)seed, start + i), threshold)
                     ? fma(a, scale, b)
                     : b);
    }
    for (; i + 32 <= s.end; i += 32) {
        uint8 word[4];
        kf_random_words32(word, (ulong)seed, start + i);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            const float8 a = kf_load8(x_row, i + 8 * q), b = kf_load8(residual_row, i + 8 * q);
            const int8 mask = dropout_add_mask8(word, q, threshold);
            kf_store8(to, i + 8 * q, kf_where8(mask, fma(a, (float8)(scale), b), b));
        }
    }
    for (; i < s.end; i++) {
        const float a = kf_load(x_row, i), b = kf_load(residual_row, i);
        kf_store(to, i,
                 dropout_add_keeps(kf_random_word((ulong)seed, start + i), threshold)
                     ? fma(a, scale, b)
                     : b);
    }
}
#endif
