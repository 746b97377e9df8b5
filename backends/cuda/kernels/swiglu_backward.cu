/* The gradients of swiglu, y = silu(gate) up, unfused and fused. The same entries in
 * opencl/kernels/swiglu_backward.cl. Nothing of the forward pass is kept: sigmoid(gate) is computed
 * again, which costs less than reading it. Which thread does what: common/row_map.cu. All loads
 * stand before the stores: outputs may be inputs, so no compiler can move one past them.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(swiglu_backward_grad_silu)
/* Reads 2 M N, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_grad_silu(const kf_storage *grad_y, long long grad_y_offset,
                              const kf_storage *up, long long up_offset, kf_storage *grad_silu,
                              long long grad_silu_offset, long long rows, long long cols,
                              long long grad_y_stride, long long up_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_silu(const kf_storage *gate, long long gate_offset, kf_storage *silu,
                         long long silu_offset, long long rows, long long cols,
                         long long gate_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_grad_up(const kf_storage *grad_y, long long grad_y_offset, kf_storage *grad_up,
                            long long grad_up_offset, const kf_storage *silu, long long silu_offset,
                            long long rows, long long cols, long long grad_y_stride,
                            long long grad_up_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_grad_gate(const kf_storage *gate, long long gate_offset, kf_storage *grad_gate,
                              long long grad_gate_offset, const kf_storage *grad_silu,
                              long long grad_silu_offset, long long rows, long long cols,
                              long long gate_stride, long long grad_gate_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_fused(const kf_storage *grad_y, long long grad_y_offset, const kf_storage *gate,
                          long long gate_offset, const kf_storage *up, long long up_offset,
                          kf_storage *grad_gate, long long grad_gate_offset, kf_storage *grad_up,
                          long long grad_up_offset, long long rows, long long cols,
                          long long grad_y_stride, long long gate_stride, long long up_stride,
                          long long grad_gate_stride, long long grad_up_stride)
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

/* ---- the same without neighbours: CPU devices, a stretch of a row per thread -------------- */

#if KF_ENTRY(swiglu_backward_grad_silu_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_grad_silu_cpu(const kf_storage *grad_y, long long grad_y_offset,
                                  const kf_storage *up, long long up_offset, kf_storage *grad_silu,
                                  long long grad_silu_offset, long long rows, long long cols,
                                  long long grad_y_stride, long long up_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const kf_storage *const up_row = up + up_offset + s.row * up_stride;
    kf_storage *const grad_silu_row = grad_silu + grad_silu_offset + s.row * cols;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(grad_silu_row, i, kf_load(grad_y_row, i) * kf_load(up_row, i));
}
#endif

#if KF_ENTRY(swiglu_backward_silu_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_silu_cpu(const kf_storage *gate, long long gate_offset, kf_storage *silu,
                             long long silu_offset, long long rows, long long cols,
                             long long gate_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    kf_storage *const silu_row = silu + silu_offset + s.row * cols;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(silu_row, i, kf_silu(kf_load(gate_row, i)));
}
#endif

#if KF_ENTRY(swiglu_backward_grad_up_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_grad_up_cpu(const kf_storage *grad_y, long long grad_y_offset,
                                kf_storage *grad_up, long long grad_up_offset,
                                const kf_storage *silu, long long silu_offset, long long rows,
                                long long cols, long long grad_y_stride, long long grad_up_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const kf_storage *const silu_row = silu + silu_offset + s.row * cols;
    kf_storage *const grad_up_row = grad_up + grad_up_offset + s.row * grad_up_stride;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(grad_up_row, i, kf_load(grad_y_row, i) * kf_load(silu_row, i));
}
#endif

#if KF_ENTRY(swiglu_backward_grad_gate_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_grad_gate_cpu(const kf_storage *gate, long long gate_offset,
                                  kf_storage *grad_gate, long long grad_gate_offset,
                                  const kf_storage *grad_silu, long long grad_silu_offset,
                                  long long rows, long long cols, long long gate_stride,
                                  long long grad_gate_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    const kf_storage *const grad_silu_row = grad_silu + grad_silu_offset + s.row * cols;
    kf_storage *const grad_gate_row = grad_gate + grad_gate_offset + s.row * grad_gate_stride;
    for (long long i = s.begin; i < s.end; i++) {
        const float x = kf_load(gate_row, i), sigmoid = kf_sigmoid(x);
        kf_store(grad_gate_row, i, kf_load(grad_silu_row, i) * kf_silu_slope(x, sigmoid));
    }
}
#endif

#if KF_ENTRY(swiglu_backward_fused_cpu)
/* Reads 3 M N, writes 2 M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    swiglu_backward_fused_cpu(const kf_storage *grad_y, long long grad_y_offset,
                              const kf_storage *gate, long long gate_offset, const kf_storage *up,
                              long long up_offset, kf_storage *grad_gate,
                              long long grad_gate_offset, kf_storage *grad_up,
                              long long grad_up_offset, long long rows, long long cols,
                              long long grad_y_stride, long long gate_stride, long long up_stride,
                              long long grad_gate_stride, long long grad_up_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const grad_y_row = grad_y + grad_y_offset + s.row * grad_y_stride;
    const kf_storage *const gate_row = gate + gate_offset + s.row * gate_stride;
    const kf_storage *const up_row = up + up_offset + s.row * up_stride;
    kf_storage *const grad_gate_row = grad_gate + grad_gate_offset + s.row * grad_gate_stride;
    kf_storage *const grad_up_row = grad_up + grad_up_offset + s.row * grad_up_stride;
    for (long long i = s.begin; i < s.end; i++) {
        const float dy = kf_load(grad_y_row, i), x = kf_load(gate_row, i);
        const float grad_silu = dy * kf_load(up_row, i);
        const float sigmoid = kf_sigmoid(x);
        kf_store(grad_gate_row, i, grad_silu * kf_silu_slope(x, sigmoid));
        kf_store(grad_up_row, i, dy * (x * sigmoid));
    }
}
#endif
