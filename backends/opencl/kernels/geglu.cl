/* gelu(gate) up, gelu exact or by tanh (common/units.cl), unfused and fused. The same entries in
 * cuda/kernels/geglu.cu. Which work-item does what: common/row_map.cl. All loads stand before the
 * store: y may be gate or up, so no compiler can move one past it. SPDX-License-Identifier:
 * Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(geglu_gelu)
/* Reads M N, writes M N elements; M N exp2 and divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
geglu_gelu(const __global kf_storage *gate, long gate_offset, __global kf_storage *gelu,
           long gelu_offset, long rows, long cols, long gate_stride)
{
    kf_piece piece;
    float x[KF_VEC];
    if (!kf_piece_place(&piece, gate + gate_offset, rows, cols, gate_stride))
        return;
    kf_unpack(kf_piece_fetch(&piece, gate + gate_offset, gate_stride), x);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            x[j] = kf_gelu(x[j]);
    kf_piece_put(&piece, gelu + gelu_offset, cols, x);
}
#endif

#if KF_ENTRY(geglu_mul)
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
geglu_mul(const __global kf_storage *up, long up_offset, __global kf_storage *y, long y_offset,
          const __global kf_storage *gelu, long gelu_offset, long rows, long cols, long up_stride,
          long y_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, up + up_offset, rows, cols, up_stride))
        return;
    const kf_pack up_pack = kf_piece_fetch(&piece, up + up_offset, up_stride);
    const kf_pack gelu_pack = kf_piece_fetch(&piece, gelu + gelu_offset, cols);
    kf_unpack(gelu_pack, a);
    kf_unpack(up_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] *= b[j];
    kf_piece_put(&piece, y + y_offset, y_stride, a);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(geglu_fused)
/* Reads 2 M N, writes M N elements; M N exp2 and divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
geglu_fused(const __global kf_storage *gate, long gate_offset, const __global kf_storage *up,
            long up_offset, __global kf_storage *y, long y_offset, long rows, long cols,
            long gate_stride, long up_stride, long y_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, gate + gate_offset, rows, cols, gate_stride))
        return;
    const kf_pack gate_pack = kf_piece_fetch(&piece, gate + gate_offset, gate_stride);
    const kf_pack up_pack = kf_piece_fetch(&piece, up + up_offset, up_stride);
    kf_unpack(gate_pack, a);
    kf_unpack(up_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            a[j] = kf_gelu(a[j]) * b[j];
    kf_piece_put(&piece, y + y_offset, y_stride, a);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch of a row per work-item -------------- */

#if KF_ENTRY(geglu_gelu_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
geglu_gelu_cpu(const __global kf_storage *gate, long gate_offset, __global kf_storage *gelu,
               long gelu_offset, long rows, long cols, long gate_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const from = gate + gate_offset + s.row * gate_stride;
    __global kf_storage *const to = gelu + gelu_offset + s.row * cols;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_gelu8(kf_load8(from, i)));
    for (; i < s.end; i++)
        kf_store(to, i, kf_gelu8((float8)(kf_load(from, i))).s0);
}
#endif

#if KF_ENTRY(geglu_mul_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
geglu_mul_cpu(const __global kf_storage *up, long up_offset, __global kf_storage *y, long y_offset,
              const __global kf_storage *gelu, long gelu_offset, long rows, long cols,
              long up_stride, long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const up_row = up + up_offset + s.row * up_stride;
    const __global kf_storage *const gelu_row = gelu + gelu_offset + s.row * cols;
    __global kf_storage *const to = y + y_offset + s.row * y_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_load8(gelu_row, i) * kf_load8(up_row, i));
    for (; i < s.end; i++)
        kf_store(to, i, kf_load(gelu_row, i) * kf_load(up_row, i));
}
#endif

#if KF_ENTRY(geglu_fused_cpu)
/* Reads 2 M N, writes M N elements; a division per eight columns. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
geglu_fused_cpu(const __global kf_storage *gate, long gate_offset, const __global kf_storage *up,
                long up_offset, __global kf_storage *y, long y_offset, long rows, long cols,
                long gate_stride, long up_stride, long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    const __global kf_storage *const up_row = up + up_offset + s.row * up_stride;
    __global kf_storage *const to = y + y_offset + s.row * y_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(to, i, kf_gelu8(kf_load8(gate_row, i)) * kf_load8(up_row, i));
    for (; i < s.end; i++)
        kf_store(to, i, kf_gelu8((float8)(kf_load(gate_row, i))).s0 * kf_load(up_row, i));
}
#endif
