/* The gradients of swiglu, y = silu(gate) up, unfused and fused. The same entries in
 * cuda/kernels/swiglu_backward.cu. Nothing of the forward pass is kept: sigmoid(gate) is computed
 * again, which costs less than reading it. Which work-item does what: common/row_map.cl. All loads
 * stand before the stores: outputs may be inputs, so no compiler can move one past them.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(swiglu_backward_grad_silu)
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_grad_silu(const __global kf_storage *grad_y, long grad_y_offset,
                          const __global kf_storage *up, long up_offset,
                          __global kf_storage *grad_silu, long grad_silu_offset, long rows,
                          long cols, long grad_y_stride, long up_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, grad_y + grad_y_offset, rows, cols, grad_y_stride))
        return;
    const kf_pack grad_y_pack = kf_piece_fetch(&piece, grad_y + grad_y_offset, grad_y_stride);
    const kf_pack up_pack = kf_piece_fetch(&piece, up + up_offset, up_stride);
    kf_unpack(grad_y_pack, a);
    kf_unpack(up_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] *= b[j];
    kf_piece_put(&piece, grad_silu + grad_silu_offset, cols, a);
}
#endif

#if KF_ENTRY(swiglu_backward_silu)
/* Reads M N, writes M N elements; M N exp2, M N divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_silu(const __global kf_storage *gate, long gate_offset, __global kf_storage *silu,
                     long silu_offset, long rows, long cols, long gate_stride)
{
    kf_piece piece;
    float a[KF_VEC];
    if (!kf_piece_place(&piece, gate + gate_offset, rows, cols, gate_stride))
        return;
    const kf_pack gate_pack = kf_piece_fetch(&piece, gate + gate_offset, gate_stride);
    kf_unpack(gate_pack, a);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            a[j] = kf_silu(a[j]);
    kf_piece_put(&piece, silu + silu_offset, cols, a);
}
#endif

#if KF_ENTRY(swiglu_backward_grad_up)
/* Reads 2 M N, writes M N elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_grad_up(const __global kf_storage *grad_y, long grad_y_offset,
                        __global kf_storage *grad_up, long grad_up_offset,
                        const __global kf_storage *silu, long silu_offset, long rows, long cols,
                        long grad_y_stride, long grad_up_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, grad_y + grad_y_offset, rows, cols, grad_y_stride))
        return;
    const kf_pack grad_y_pack = kf_piece_fetch(&piece, grad_y + grad_y_offset, grad_y_stride);
    const kf_pack silu_pack = kf_piece_fetch(&piece, silu + silu_offset, cols);
    kf_unpack(grad_y_pack, a);
    kf_unpack(silu_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        a[j] *= b[j];
    kf_piece_put(&piece, grad_up + grad_up_offset, grad_up_stride, a);
}
#endif

#if KF_ENTRY(swiglu_backward_grad_gate)
/* Reads 2 M N, writes M N elements; M N exp2, M N divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_grad_gate(const __global kf_storage *gate, long gate_offset,
                          __global kf_storage *grad_gate, long grad_gate_offset,
                          const __global kf_storage *grad_silu, long grad_silu_offset, long rows,
                          long cols, long gate_stride, long grad_gate_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC];
    if (!kf_piece_place(&piece, gate + gate_offset, rows, cols, gate_stride))
        return;
    const kf_pack gate_pack = kf_piece_fetch(&piece, gate + gate_offset, gate_stride);
    const kf_pack grad_silu_pack = kf_piece_fetch(&piece, grad_silu + grad_silu_offset, cols);
    kf_unpack(gate_pack, a);
    kf_unpack(grad_silu_pack, b);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_piece_has(&piece, j))
            a[j] = b[j] * kf_silu_slope(a[j], kf_sigmoid(a[j]));
    kf_piece_put(&piece, grad_gate + grad_gate_offset, grad_gate_stride, a);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(swiglu_backward_fused)
/* Reads 3 M N, writes 2 M N elements; M N exp2, M N divisions. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_fused(const __global kf_storage *grad_y, long grad_y_offset,
                      const __global kf_storage *gate, long gate_offset,
                      const __global kf_storage *up, long up_offset, __global kf_storage *grad_gate,
                      long grad_gate_offset, __global kf_storage *grad_up, long grad_up_offset,
                      long rows, long cols, long grad_y_stride, long gate_stride, long up_stride,
                      long grad_gate_stride, long grad_up_stride)
{
    kf_piece piece;
    float a[KF_VEC], b[KF_VEC], c[KF_VEC];
    if (!kf_piece_place(&piece, grad_y + grad_y_offset, rows, cols, grad_y_stride))
        return;
    const kf_pack grad_y_pack = kf_piece_fetch(&piece, grad_y + grad_y_offset, grad_y_stride);
    const kf_pack gate_pack = kf_piece_fetch(&piece, gate + gate_offset, gate_stride);
    const kf_pack up_pack = kf_piece_fetch(&piece, up + up_offset, up_stride);
    kf_unpack(grad_y_pack, a);
    kf_unpack(gate_pack, b);
    kf_unpack(up_pack, c);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        if (!kf_piece_has(&piece, j))
            continue;
        const float sigmoid = kf_sigmoid(b[j]);
        const float grad_silu = a[j] * c[j];
        a[j] *= b[j] * sigmoid;
        b[j] = grad_silu * kf_silu_slope(b[j], sigmoid);
    }
    kf_piece_put(&piece, grad_gate + grad_gate_offset, grad_gate_stride, b);
    kf_piece_put(&piece, grad_up + grad_up_offset, grad_up_stride, a);
}
#endif

/* ---- the same without neighbours: CPU devices, a stretch of a row per work-item -------------- */

#if KF_ENTRY(swiglu_backward_grad_silu_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_grad_silu_cpu(const __global kf_storage *grad_y, long grad_y_offset,
                              const __global kf_storage *up, long up_offset,
                              __global kf_storage *grad_silu, long grad_silu_offset, long rows,
                              long cols, long grad_y_stride, long up_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const __global kf_storage *const up_row = up + up_offset + s.row * up_stride;
    __global kf_storage *const grad_silu_row = grad_silu + grad_silu_offset + s.row * cols;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(grad_silu_row, i, kf_load8(grad_y_row, i) * kf_load8(up_row, i));
    for (; i < s.end; i++)
        kf_store(grad_silu_row, i, kf_load(grad_y_row, i) * kf_load(up_row, i));
}
#endif

#if KF_ENTRY(swiglu_backward_silu_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_silu_cpu(const __global kf_storage *gate, long gate_offset,
                         __global kf_storage *silu, long silu_offset, long rows, long cols,
                         long gate_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    __global kf_storage *const silu_row = silu + silu_offset + s.row * cols;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(silu_row, i, kf_silu8(kf_load8(gate_row, i)));
    for (; i < s.end; i++)
        kf_store(silu_row, i, kf_silu8((float8)(kf_load(gate_row, i))).s0);
}
#endif

#if KF_ENTRY(swiglu_backward_grad_up_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_grad_up_cpu(const __global kf_storage *grad_y, long grad_y_offset,
                            __global kf_storage *grad_up, long grad_up_offset,
                            const __global kf_storage *silu, long silu_offset, long rows, long cols,
                            long grad_y_stride, long grad_up_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const __global kf_storage *const silu_row = silu + silu_offset + s.row * cols;
    __global kf_storage *const grad_up_row = grad_up + grad_up_offset + s.row * grad_up_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8)
        kf_store8(grad_up_row, i, kf_load8(grad_y_row, i) * kf_load8(silu_row, i));
    for (; i < s.end; i++)
        kf_store(grad_up_row, i, kf_load(grad_y_row, i) * kf_load(silu_row, i));
}
#endif

#if KF_ENTRY(swiglu_backward_grad_gate_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
swiglu_backward_grad_gate_cpu(const __global kf_storage *gate, long gate_offset,
                              __global kf_storage *grad_gate, long grad_gate_offset,
                              const __global kf_storage *grad_silu, long grad_silu_offset,
                              long rows, long cols, long gate_stride, long grad_gate_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    const __global kf_storage *const grad_silu_row = grad_silu + grad_silu_offset + s.row * cols;
    __global kf_storage *const grad_gate_row =
        grad_gate + grad_gate_offset + s.row * grad_gate_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8) {
        const float8 x = kf_load8(gate_row, i), sigmoid = kf_sigmoid8(x);
        kf_store8(grad_gate_row, i, kf_load8(grad_silu_row, i) * kf_silu_slope8(x, sigmoid));
    }
    for (; i < s.end; i++) {
        const float x = kf_load(gate_row, i), sigmoid = kf_sigmoid8((float8)(x)).s0;
        kf_store(grad_gate_row, i, kf_load(grad_silu_row, i) * kf_silu_slope(x, sigmoid));
    }
}
#endif

#if KF_ENTRY(swiglu_backward_fused_cpu)
/* Reads 3 M N, writes 2 M N elements; a division per eight columns. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void swiglu_backward_fused_cpu(
    const __global kf_storage *grad_y, long grad_y_offset, const __global kf_storage *gate,
    long gate_offset, const __global kf_storage *up, long up_offset, __global kf_storage *grad_gate,
    long grad_gate_offset, __global kf_storage *grad_up, long grad_up_offset, long rows, long cols,
    long grad_y_stride, long gate_stride, long up_stride, long grad_gate_stride,
    long grad_up_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const __global kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const __global kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    const __global kf_storage *const up_row = up + up_offset + s.row * up_stride;
    __global kf_storage *const grad_gate_row =
        grad_gate + grad_gate_offset + s.row * grad_gate_stride;
    __global kf_storage *const grad_up_row = grad_up + grad_up_offset + s.row * grad_up_stride;
    long i = s.begin;
    for (; i + 8 <= s.end; i += 8) {
        const float8 dy = kf_load8(grad_y_row, i), x = kf_load8(gate_row, i);
        const float8 grad_silu = dy * kf_load8(up_row, i), sigmoid = kf_sigmoid8(x);
        kf_store8(grad_gate_row, i, grad_silu * kf_silu_slope8(x, sigmoid));
        kf_store8(grad_up_row, i, dy * (x * sigmoid));
    }
    for (; i < s.end; i++) {
        const float dy = kf_load(grad_y_row, i), x = kf_load(gate_row, i);
        const float grad_silu = dy * kf_load(up_row, i);
        const float sigmoid = kf_sigmoid8((float8)(x)).s0;
        kf_store(grad_gate_row, i, grad_silu * kf_silu_slope(x, sigmoid));
        kf_store(grad_up_row, i, dy * (x * sigmoid));
    }
}
#endif
