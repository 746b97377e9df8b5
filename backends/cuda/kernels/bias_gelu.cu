/* gelu(x + bias), gelu exact or by tanh (common/units.cl), unfused and fused. The same entries in
 * opencl/kernels/bias_gelu.cl. Which thread does what: common/row_map.cu. All loads stand before
 * the store: y may be x, so no compiler can move one past it. SPDX-License-Identifier: Apache-2.0
 */
#ifdef KF_EDITOR
#define BLOCK 256
#endif

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(bias_gelu_add)
/* Reads M N elements and the bias in every row, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_add(const kf_storage *x, long long x_offset, const kf_storage *bias,
                  long long bias_offset, kf_storage *sum, long long sum_offset, long long rows,
                  long long cols, long long x_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_gelu(kf_storage *y, long long y_offset, const kf_storage *sum, long long sum_offset,
                   long long rows, long long cols, long long y_stride)
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
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_fused(const kf_storage *x, long long x_offset, const kf_storage *bias,
                    long long bias_offset, kf_storage *y, long long y_offset, long long rows,
                    long long cols, long long x_stride, long long y_stride)
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

/* ---- the same without neighbours: CPU devices, a stretch of a row per thread -------------- */

#if KF_ENTRY(bias_gelu_add_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_add_cpu(const kf_storage *x, long long x_offset, const kf_storage *bias,
                      long long bias_offset, kf_storage *sum, long long sum_offset, long long rows,
                      long long cols, long long x_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const kf_storage *const added = bias + bias_offset;
    kf_storage *const to = sum + sum_offset + s.row * cols;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_load(x_row, i) + kf_load(added, i));
}
#endif

#if KF_ENTRY(bias_gelu_gelu_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_gelu_cpu(kf_storage *y, long long y_offset, const kf_storage *sum,
                       long long sum_offset, long long rows, long long cols, long long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const from = sum + sum_offset + s.row * cols;
    kf_storage *const to = y + y_offset + s.row * y_stride;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_gelu(kf_load(from, i)));
}
#endif

#if KF_ENTRY(bias_gelu_fused_cpu)
/* Reads M N elements and the bias in every row, writes M N elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    bias_gelu_fused_cpu(const kf_storage *x, long long x_offset, const kf_storage *bias,
                        long long bias_offset, kf_storage *y, long long y_offset, long long rows,
                        long long cols, long long x_stride, long long y_stride)
{
    kf_stretch s;
    if (!kf_stretch_place(&s, rows, cols))
        return;
    const kf_storage *const x_row = x + x_offset + s.row * x_stride;
    const kf_storage *const added = bias + bias_offset;
    kf_storage *const to = y + y_offset + s.row * y_stride;
    for (long long i = s.begin; i < s.end; i++)
        kf_store(to, i, kf_gelu(kf_load(x_row, i) + kf_load(added, i)));
}
#endif
