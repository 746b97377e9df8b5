/* gelu(x + bias), gelu exact or by tanh (common/units.cl), unfused and fused. The same entries in
 * cuda/kernels/bias_gelu.cu. Which work-item does what: common/row_map.cl. All loads stand before
 * the store: y may be x, so no compiler can move one past it. SPDX-License-Identifier: Apache-2.0
 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_add)
/* Reads M N elements and the bias in every row, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_add(const __global kf_storage *x, long x_offset, const __global kf_storage *bias,
              long bias_offset, __global kf_storage *sum, long sum_offset, long rows, long cols,
              long x_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, x + x_offset, rows, cols, x_stride))
        return;
    const kf_pack x_pack = kf_piece_fetch(&piece, x + x_offset, x_stride);
    const kf_pack bias_pack = kf_piece_fetch(&piece, bias + bias_offset, 0);
    kf_unpack(x_pack, a);
    kf_unpack(bias_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] += b[j];
    kf_piece_put(&piece, sum + sum_offset, cols, a);
}
#endif

#if KF_ENTRY(bias_gelu_gelu)
/* Reads M N, writes M N elements; M N exp2 and divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_gelu(__global kf_storage *y, long y_offset, const __global kf_storage *sum,
               long sum_offset, long rows, long cols, long y_stride)
{
    kf_piece piece;
    float a[KF_VEC];
    if (!kf_piece_place(&piece, y + y_offset, rows, cols, y_stride))
        return;
    kf_unpack(kf_piece_fetch(&piece, sum + sum_offset, cols), a);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            a[j] = kf_gelu(a[j]);
    kf_piece_put(&piece, y + y_offset, y_stride, a);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_fused)
/* Reads M N elements and the bias in every row, writes M N elements; M N exp2 and
 * divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_fused(const __global kf_storage *x, long x_offset, const __global kf_storage *bias,
                long bias_offset, __global kf_storage *y, long y_offset, long rows, long cols,
                long x_stride, long y_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, x + x_offset, rows, cols, x_stride))
        return;
    const kf_pack x_pack = kf_piece_fetch(&piece, x + x_offset, x_stride);
    const kf_pack bias_pack = kf_piece_fetch(&piece, bias + bias_offset, 0);
    kf_unpack(x_pack, a);
    kf_unpack(bias_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            a[j] = kf_gelu(a[j] + b[j]);
    kf_piece_put(&piece, y + y_offset, y_stride, a);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch of a row per work-item -------------- */

#if KF_ENTRY(bias_gelu_add_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_add_cpu(const __global kf_storage *x, long x_offset, const __global kf_storage *bias,
                  long bias_offset, __global kf_storage *sum, long sum_offset, long rows, long cols,
                  long x_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const __global kf_storage *const added = bias + bias_offset;
    __global kf_storage *const to = sum + sum_offset + s.row * cols;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_load8(x_row, i) + kf_load8(added, i));
    for (; i < s.end; i++)
        kf_store(to, i, kf_load(x_row, i) + kf_load(added, i));
}
#endif

#if KF_ENTRY(bias_gelu_gelu_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_gelu_cpu(__global kf_storage *y, long y_offset, const __global kf_storage *sum,
                   long sum_offset, long rows, long cols, long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const from = sum + sum_offset + s.row * cols;
    __global kf_storage *const to = y + y_offset + s.row * y_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_gelu8(kf_load8(from, i)));
    for (; i < s.end; i++)
        kf_store(to, i, kf_gelu8((float8)(kf_load(from, i))).s0);
}
#endif

#if KF_ENTRY(bias_gelu_fused_cpu)
/* Reads M N elements and the bias in every row, writes M N elements; a division per eight columns.
 */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
bias_gelu_fused_cpu(const __global kf_storage *x, long x_offset, const __global kf_storage *bias,
                    long bias_offset, __global kf_storage *y, long y_offset, long rows, long cols,
                    long x_stride, long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const __global kf_storage *const added = bias + bias_offset;
    __global kf_storage *const to = y + y_offset + s.row * y_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_gelu8(kf_load8(x_row, i) + kf_load8(added, i)));
    for (; i < s.end; i++)
        kf_store(to, i, kf_gelu8((float8)(kf_load(x_row, i) + kf_load(added, i))).s0);
}
#endif
