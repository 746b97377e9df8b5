/* Cross entropy of rows of logits and a class index each: loss = log sum exp(x - x[target]), and in
 * the same launch, where it is asked for, the gradient of the loss. The same entries in
 * opencl/kernels/cross_entropy.cl.
 *
 *     loss     = log sum exp - (1 - s) x[target] - s mean x + z (log sum exp)^2
 *     dlogits  = p (1 + 2 z log sum exp) - s / N - (1 - s) at the target, by 1 / (rows kept) for the
 *                gradient of the mean
 *
 * cross_entropy_fused only reads: a row goes by in trips of TRIP_VECS vectors per thread
 * (common/rows_lse), nothing of it is kept. cross_entropy_gradient holds its row on chip
 * (common/rows_held), cross_entropy_online reads a wider one twice. The thread that writes the
 * gradient at the target also writes the loss, from the logit that it has at hand: in place, nobody
 * may look for that logit again.
 *
 * The index is compared with 0 .. N-1 before anything is done with it. A row whose index is
 * IGNORE_INDEX has loss 0 and gradient 0, one whose index is out of range NaN: neither reads
 * anything by its index.
 *
 * SPDX-License-Identifier: Apache-2.0 */

#ifdef KF_EDITOR
#define LEAST_GROUPS 1
#define GRADIENT 1
#define SMOOTHING 1
#define Z_LOSS 1
#define MEAN 1
#endif

typedef struct cross_entropy_class {
    int column; /* -1: ignored, or out of range */
    bool ignored;
} cross_entropy_class;

__device__ inline void cross_entropy_find(cross_entropy_class *class_of, long long index,
                                          long long ignore_index, long long cols)
{
    class_of->ignored = index == ignore_index;
    class_of->column =
        !class_of->ignored && index >= 0 && index < cols ? (int)index : -1;
}

/* Of a row without a class. */
__device__ inline float cross_entropy_none(const cross_entropy_class *class_of)
{
    return class_of->ignored ? 0.0f : KF_INFINITY - KF_INFINITY;
}

/* `log_sum` is the logarithm of the exponentials' sum, to which their base is added by
 * `lse_away` = base - 0, `class_away` = base - x[target] and `mean_away` = base - mean x. */
__device__ inline float cross_entropy_loss_of(float log_sum, float lse_away, float class_away,
                                              float mean_away, float smoothing, float z_loss)
{
    float loss = class_away;
    if (SMOOTHING)
        loss = (1.0f - smoothing) * class_away + smoothing * mean_away;
    loss += log_sum;
    if (Z_LOSS)
        loss += z_loss * (lse_away + log_sum) * (lse_away + log_sum);
    return loss;
}

#ifdef LSE
#define CROSS_ENTROPY_BOUNDS __launch_bounds__(BLOCK, LEAST_GROUPS)

__device__ inline float cross_entropy_row_loss(const kf_lse *l, float value, float log_sum,
                                               float inverse_cols, float smoothing, float z_loss)
{
    return cross_entropy_loss_of(log_sum, kf_lse_away(l, 0.0f), kf_lse_away(l, value),
                                 kf_lse_away(l, l->total * inverse_cols), smoothing, z_loss);
}
#endif

#if KF_ENTRY(cross_entropy_fused)
/* Reads M N + M elements and M indices, writes M floats. The logit of the target, or of column 0
 * where there is none, is read once more on its own: it is in a cache. exp2: one per element and
 * those of common/rows_lse; M logarithms, and M divisions with smoothing. */
extern "C" __global__ void CROSS_ENTROPY_BOUNDS
    cross_entropy_fused(const kf_storage *__restrict__ logits, long long logits_offset,
                        const long long *__restrict__ target, long long target_offset,
                        float *__restrict__ loss, long long loss_offset, long long rows,
                        long long cols, long long logits_stride, long long ignore_index,
                        float smoothing, float z_loss)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_lse l;
    cross_entropy_class class_of;
    float value = 0.0f;
    kf_place_row(&place, rows);
    const kf_storage *const row = logits + logits_offset + place.row * logits_stride;
    const bool writes = place.present && place.lane == 0;
    kf_place_columns(&place, row, cols);
    if (writes) {
        cross_entropy_find(&class_of, target[target_offset + place.row], ignore_index, cols);
        value = kf_load(row, class_of.column < 0 ? 0 : class_of.column);
    }
    kf_lse_open(&l);
    kf_lse_row(&l, &place, row);
    kf_lse_join(&l, &place, kf_row_slots(&place, local));
    if (writes) {
        const float inverse_cols = SMOOTHING ? 1.0f / (float)cols : 0.0f;
        const float result =
            cross_entropy_row_loss(&l, value, logf(l.sum), inverse_cols, smoothing, z_loss);
        loss[loss_offset + place.row] =
            class_of.column < 0 ? cross_entropy_none(&class_of) : result;
    }
}
#endif

/* ---- loss and gradient ---------------------------------------------------------------------- */

#ifdef LSE
/* What the gradient of a row is made of: power scale - spread, less `peak` at the class. */
typedef struct cross_entropy_slope {
    float below, scale, spread, peak, log_sum, inverse_cols;
    cross_entropy_class class_of;
    int vector, element; /* of the class: in which vector of the row's part, -1 for none */
} cross_entropy_slope;

/* Per thread: one division, one logarithm, and one more division with smoothing. */
__device__ inline void cross_entropy_slope_of(cross_entropy_slope *s, const kf_place *p,
                                              const kf_lse *l, float weight, long long cols,
                                              float smoothing, float z_loss)
{
    const int place = s->class_of.column - p->first;
    s->log_sum = logf(l->sum);
    s->inverse_cols = SMOOTHING ? 1.0f / (float)cols : 0.0f;
    s->below = kf_lse_below(l->base);
    s->scale = weight / l->sum;
    if (Z_LOSS)
        s->scale *= 1.0f + 2.0f * z_loss * (kf_lse_away(l, 0.0f) + s->log_sum);
    if (s->class_of.column < 0)
        s->scale = cross_entropy_none(&s->class_of);
    s->spread = SMOOTHING ? smoothing * s->inverse_cols * weight : 0.0f;
    s->peak = (SMOOTHING ? 1.0f - smoothing : 1.0f) * weight;
    s->vector = s->class_of.column < 0 || place < 0 ? -1 : place / KF_VEC;
    s->element = place % KF_VEC;
}

/* The gradient at one logit; where it is the class's, the loss too. */
__device__ inline float cross_entropy_slope_at(const cross_entropy_slope *s, const kf_lse *l,
                                               float value, bool is_class, float *loss,
                                               float smoothing, float z_loss)
{
    float result = kf_lse_power(value, s->below) * s->scale - s->spread;
    if (is_class) {
        result -= s->peak;
        *loss =
            cross_entropy_row_loss(l, value, s->log_sum, s->inverse_cols, smoothing, z_loss);
    }
    return s->class_of.ignored ? 0.0f : result;
}

/* Vector v of the row's part, in place. */
__device__ inline kf_pack cross_entropy_slopes(const cross_entropy_slope *s, const kf_lse *l,
                                               kf_pack pack, int v, unsigned zero, float *loss,
                                               float smoothing, float z_loss)
{
    float value[KF_VEC], result[KF_VEC];
    kf_unpack(kf_again(pack, zero), value);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        result[j] = kf_lse_power(value[j], s->below) * s->scale - s->spread;
    if (v == s->vector) {
#pragma unroll
        for (int j = 0; j < KF_VEC; j++)
            if (j == s->element) {
                result[j] -= s->peak;
                *loss = cross_entropy_row_loss(l, value[j], s->log_sum, s->inverse_cols, smoothing,
                                               z_loss);
            }
    }
    return s->class_of.ignored ? kf_splat(0.0f) : kf_repack(result);
}
#endif

#if KF_ENTRY(cross_entropy_gradient)
/* Reads M N elements, an index and with MEAN a float per thread; writes M N elements and M floats.
 * exp2: two per element and those of common/rows_lse; what cross_entropy_slope_of says. */
extern "C" __global__ void CROSS_ENTROPY_BOUNDS cross_entropy_gradient(
    const kf_storage *__restrict__ logits, long long logits_offset,
    const long long *__restrict__ target, long long target_offset, float *__restrict__ loss,
    long long loss_offset, kf_storage *__restrict__ dlogits, long long dlogits_offset,
    const float *__restrict__ weight, long long weight_offset, long long rows, long long cols,
    long long logits_stride, long long dlogits_stride, long long ignore_index, float smoothing,
    float z_loss)
{
    extern __shared__ kf_pack local[];
    const unsigned zero = (unsigned)(rows >> 62);
    kf_place place;
    kf_held held;
    kf_lse l;
    cross_entropy_slope slope;
    kf_place_row(&place, rows);
    const kf_storage *const row = logits + logits_offset + place.row * logits_stride;
    kf_storage *const to = dlogits + dlogits_offset + place.row * dlogits_stride;
    float *const row_loss = loss + loss_offset + place.row;
    kf_place_columns(&place, row, cols);
    held.parked = local;
    kf_hold(&held, &place, row, -KF_INFINITY);
    cross_entropy_find(&slope.class_of,
                       place.present ? target[target_offset + place.row] : ignore_index,
                       ignore_index, cols);
    kf_lse_open(&l);
    kf_lse_held(&l, &place, &held, zero);
    kf_lse_join(&l, &place, kf_row_slots(&place, local));
    cross_entropy_slope_of(&slope, &place, &l, MEAN ? weight[weight_offset] : 1.0f, cols, smoothing,
                           z_loss);
    if (place.present && place.lane == 0 && slope.class_of.column < 0)
        *row_loss = cross_entropy_none(&slope.class_of);

    const bool together = kf_together(row, to);
#pragma unroll
    for (int i = 0; i < REGISTER_VECS; i++)
        if (kf_has(&place, i))
            kf_row_put(&place, to, i,
                       cross_entropy_slopes(&slope, &l, held.data[i], kf_vector(&place, i), zero,
                                            row_loss, smoothing, z_loss),
                       together);
#pragma unroll 2
    for (int i = 0; i < LOCAL_VECS; i++)
        if (kf_has(&place, REGISTER_VECS + i))
            kf_row_put(&place, to, REGISTER_VECS + i,
                       cross_entropy_slopes(&slope, &l, *kf_parked(&held, i),
                                            kf_vector(&place, REGISTER_VECS + i), zero, row_loss,
                                            smoothing, z_loss),
                       together);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(&place, i);
        if (column >= 0)
            kf_store(to, column,
                     cross_entropy_slope_at(&slope, &l, held.edge[i],
                                            column == slope.class_of.column, row_loss, smoothing,
                                            z_loss));
    }
}
#endif

#if KF_ENTRY(cross_entropy_online)
#if BLOCK != THREADS_PER_ROW
#error "cross_entropy_online: one row per group, BLOCK = THREADS_PER_ROW"
#endif
/* Rows wider than the chip. Reads 2 M N elements, an index and with MEAN a float per thread; writes
 * M N elements and M floats. exp2 and the rest as cross_entropy_gradient. */
extern "C" __global__ void CROSS_ENTROPY_BOUNDS cross_entropy_online(
    const kf_storage *__restrict__ logits, long long logits_offset,
    const long long *__restrict__ target, long long target_offset, float *__restrict__ loss,
    long long loss_offset, kf_storage *__restrict__ dlogits, long long dlogits_offset,
    const float *__restrict__ weight, long long weight_offset, long long rows, long long cols,
    long long logits_stride, long long dlogits_stride, long long ignore_index, float smoothing,
    float z_loss)
{
    extern __shared__ kf_pack local[];
    kf_place place;
    kf_lse l;
    cross_entropy_slope slope;
    kf_place_row(&place, rows);
    const kf_storage *const row = logits + logits_offset + place.row * logits_stride;
    kf_storage *const to = dlogits + dlogits_offset + place.row * dlogits_stride;
    float *const row_loss = loss + loss_offset + place.row;
    kf_place_columns(&place, row, cols);
    cross_entropy_find(&slope.class_of, target[target_offset + place.row], ignore_index, cols);
    kf_lse_open(&l);
    kf_lse_row(&l, &place, row);
    kf_lse_join(&l, &place, kf_row_slots(&place, local));
    cross_entropy_slope_of(&slope, &place, &l, MEAN ? weight[weight_offset] : 1.0f, cols, smoothing,
                           z_loss);
    if (place.lane == 0 && slope.class_of.column < 0)
        *row_loss = cross_entropy_none(&slope.class_of);

    const bool together = kf_together(row, to);
    for (int v = place.lane; v < place.vectors; v += BLOCK)
        kf_put(to + place.first, v,
               cross_entropy_slopes(&slope, &l, kf_load_pack(row + place.first, v), v, 0, row_loss,
                                    smoothing, z_loss),
               together);
#pragma unroll
    for (int i = 0; i < EDGES; i++) {
        const int column = kf_edge_column(&place, i);
        if (column >= 0)
            kf_store(to, column,
                     cross_entropy_slope_at(&slope, &l, kf_load(row, column),
                                            column == slope.class_of.column, row_loss, smoothing,
                                            z_loss));
    }
}
#endif

/* ---- over the rows: one group, a fixed order ------------------------------------------------ */

/* This thread's part of the rows that are kept. */
__device__ inline float cross_entropy_kept(const long long *target, long long rows,
                                           long long ignore_index)
{
    int kept = 0;
    for (long long i = threadIdx.x; i < rows; i += BLOCK)
        kept += target[i] != ignore_index;
    return (float)kept;
}

#if KF_ENTRY(cross_entropy_weight)
/* 1 / (rows kept), which the gradient of a mean is multiplied by. Reads M indices, writes one
 * float. One division. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    cross_entropy_weight(const long long *__restrict__ target, long long target_offset,
                         float *__restrict__ weight, long long weight_offset, long long rows,
                         long long ignore_index)
{
    extern __shared__ float slots[];
    const float kept =
        kf_group_sum(cross_entropy_kept(target + target_offset, rows, ignore_index), BLOCK,
                     threadIdx.x, slots);
    if (threadIdx.x == 0)
        weight[weight_offset] = 1.0f / kept;
}
#endif

#if KF_ENTRY(cross_entropy_mean)
/* The mean over the rows kept: NaN when there is none. Reads M indices and M floats, writes one.
 * One division. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    cross_entropy_mean(const long long *__restrict__ target, long long target_offset,
                       float *__restrict__ loss, long long loss_offset,
                       const float *__restrict__ row_loss, long long row_loss_offset,
                       long long rows, long long ignore_index)
{
    extern __shared__ float slots[];
    float sum = 0.0f;
    for (long long i = threadIdx.x; i < rows; i += BLOCK)
        sum += row_loss[row_loss_offset + i];
    sum = kf_group_sum(sum, BLOCK, threadIdx.x, slots);
    const float kept =
        kf_group_sum(cross_entropy_kept(target + target_offset, rows, ignore_index), BLOCK,
                     threadIdx.x, slots + KF_SLOTS(BLOCK));
    if (threadIdx.x == 0)
        loss[loss_offset] = sum / kept;
}
#endif

/* ---- one row per work-item: CPU devices ----------------------------------------------------- */

#if KF_ENTRY(cross_entropy_fused_cpu)
/* Loss and, with GRADIENT, the gradient. Reads 2 M N + M elements, M N more for the gradient, M
 * indices and with MEAN M floats; writes M floats and M N elements. `logits` and `dlogits` are not
 * restrict: they may be the same memory, and the class's logit is read before. Exponentials are
 * arithmetic; M logarithms, M divisions for the gradient, M with smoothing. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    cross_entropy_fused_cpu(const kf_storage *logits, long long logits_offset,
                            const long long *__restrict__ target, long long target_offset,
                            float *__restrict__ loss, long long loss_offset, kf_storage *dlogits,
                            long long dlogits_offset, const float *__restrict__ weight,
                            long long weight_offset, long long rows, long long cols,
                            long long logits_stride, long long dlogits_stride,
                            long long ignore_index, float smoothing, float z_loss)
{
    const long long row = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (row >= rows)
        return;
    const kf_storage *const from = logits + logits_offset + row * logits_stride;
    const float max = kf_item_max(from, (int)cols);
    cross_entropy_class class_of;
    float sum = 0.0f, total = 0.0f;
    cross_entropy_find(&class_of, target[target_offset + row], ignore_index, cols);
    const float value = kf_load(from, class_of.column < 0 ? 0 : class_of.column);
    for (int i = 0; i < (int)cols; i++) {
        sum += kf_item_exp(kf_load(from, i) - max);
        if (SMOOTHING)
            total += kf_load(from, i);
    }
    const float log_sum = logf(sum), inverse_cols = SMOOTHING ? 1.0f / (float)cols : 0.0f;
    const float result = cross_entropy_loss_of(log_sum, max, max - value,
                                               max - total * inverse_cols, smoothing, z_loss);
    loss[loss_offset + row] = class_of.column < 0 ? cross_entropy_none(&class_of) : result;
#if GRADIENT
    kf_storage *const to = dlogits + dlogits_offset + row * dlogits_stride;
    const float by = MEAN ? weight[weight_offset] : 1.0f;
    const float spread = smoothing * inverse_cols * by, peak = (1.0f - smoothing) * by;
    float scale = by / sum;
    if (Z_LOSS)
        scale *= 1.0f + 2.0f * z_loss * (max + log_sum);
    if (class_of.column < 0)
        scale = cross_entropy_none(&class_of);
    for (int i = 0; i < (int)cols; i++) {
        const float slope = kf_item_exp(kf_load(from, i) - max) * scale - spread -
                            (i == class_of.column ? peak : 0.0f);
        kf_store(to, i, class_of.ignored ? 0.0f : slope);
    }
#endif
}
#endif
