/* Rotary position embedding, unfused and fused. The same entries in opencl/kernels/rope.cl.
 *
 * A unit is what one thread does: ROPE_VEC pairs of one head of one token, or ROPE_VEC elements
 * behind the rotated ones, which are copied. ROPE_VEC = KF_VEC takes 16-byte accesses throughout;
 * 1 is for heads, strides and bases that they do not divide. INTERLEAVED=1 pairs element 2 i with
 * 2 i + 1, 0 pairs i with half + i. All loads of a unit stand before its stores: y may be x.
 * SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define BLOCK 256
#define ROPE_THREADS 256
#define ROPE_VEC KF_VEC
#define INTERLEAVED 0
#endif

typedef struct rope_unit {
    long long token;
    int head, number; /* of the units of its head */
} rope_unit;

#ifdef ROPE_VEC
/* False: this thread has none. `each` units per head; ROPE_THREADS along the heads of a token. */
__device__ inline bool rope_place(rope_unit *unit, long long tokens, long long heads, int each)
{
    const unsigned units = (unsigned)heads * (unsigned)each;
    const unsigned chunks = (units + ROPE_THREADS - 1) / ROPE_THREADS;
    const unsigned group = blockIdx.x;
    const unsigned u = group % chunks * ROPE_THREADS + threadIdx.x % ROPE_THREADS;
    unit->token =
        (long long)(group / chunks) * (BLOCK / ROPE_THREADS) + (int)threadIdx.x / ROPE_THREADS;
    unit->head = (int)(u / (unsigned)each);
    unit->number = (int)(u % (unsigned)each);
    return unit->token < tokens && u < units;
}

/* Both halves of the pairs of unit u of a head that starts at `from`. */
__device__ inline void rope_fetch(float *low, float *high, const kf_storage *from, int u,
                                  int half_dim)
{
#if ROPE_VEC == 1
    low[0] = kf_load(from, INTERLEAVED ? 2 * u : u);
    high[0] = kf_load(from, INTERLEAVED ? 2 * u + 1 : half_dim + u);
#elif INTERLEAVED
    float value[2 * KF_VEC];
    const kf_pack first = kf_load_pack(from, 2 * u), second = kf_load_pack(from, 2 * u + 1);
    kf_unpack(first, value);
    kf_unpack(second, value + KF_VEC);
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        low[j] = value[2 * j];
        high[j] = value[2 * j + 1];
    }
#else
    const kf_pack first = kf_load_pack(from, u), second = kf_load_pack(from + half_dim, u);
    kf_unpack(first, low);
    kf_unpack(second, high);
#endif
}

__device__ inline void rope_put(const float *low, const float *high, kf_storage *to, int u,
                                int half_dim)
{
#if ROPE_VEC == 1
    kf_store(to, INTERLEAVED ? 2 * u : u, low[0]);
    kf_store(to, INTERLEAVED ? 2 * u + 1 : half_dim + u, high[0]);
#elif INTERLEAVED
    float value[2 * KF_VEC];
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        value[2 * j] = low[j];
        value[2 * j + 1] = high[j];
    }
    kf_store_pack(to, 2 * u, kf_repack(value));
    kf_store_pack(to, 2 * u + 1, kf_repack(value + KF_VEC));
#else
    kf_store_pack(to, u, kf_repack(low));
    kf_store_pack(to + half_dim, u, kf_repack(high));
#endif
}

/* Copies ROPE_VEC elements, the u-th of those behind the rotated ones. */
__device__ inline void rope_copy_unit(kf_storage *to, const kf_storage *from, int u)
{
#if ROPE_VEC == 1
    to[u] = from[u];
#else
    kf_store_pack(to, u, kf_load_pack(from, u));
#endif
}

/* The factors of unit u, from the table's row of that position. */
__device__ inline void rope_factors(float *factor, const float *table, long long row, int u,
                                    int half_dim)
{
    const float *const from = table + row * half_dim + u * ROPE_VEC;
#if ROPE_VEC == 1
    factor[0] = from[0];
#else
#pragma unroll
    for (int i = 0; i < KF_VEC / 4; i++)
        kf_unpack_floats(((const kf_pack *)from)[i], factor + 4 * i);
#endif
}
#endif

/* Which row of the tables. No position outside of them is followed: what it would rotate becomes
 * NaN. */
__device__ inline long long rope_row(long long position, long long places)
{
    return position >= 0 && position < places ? position : 0;
}

__device__ inline float rope_checked(float value, long long position, long long places)
{
    return position >= 0 && position < places ? value : __int_as_float(0x7fc00000);
}

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(rope_rotate)
/* (low, high) -> (-high, low). Reads and writes the rotated elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_rotate(const kf_storage *x, long long x_offset, kf_storage *turned,
                long long turned_offset, long long tokens, long long heads, int half_dim,
                long long x_stride, long long x_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const kf_storage *const from = x + x_offset + unit.token * x_stride + unit.head * x_head_stride;
    kf_storage *const to = turned + turned_offset + (unit.token * heads + unit.head) * 2 * half_dim;
    rope_fetch(low, high, from, unit.number, half_dim);
#pragma unroll
    for (int j = 0; j < ROPE_VEC; j++)
        high[j] = -high[j];
    rope_put(high, low, to, unit.number, half_dim);
}
#endif

#if KF_ENTRY(rope_times_cos)
/* Reads the rotated elements, a position and its row of cos; writes as many elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_times_cos(const kf_storage *x, long long x_offset, const long long *positions,
                   long long positions_offset, const float *cos_table, long long cos_table_offset,
                   kf_storage *by_cos, long long by_cos_offset, long long tokens, long long heads,
                   int half_dim, long long places, long long x_stride, long long x_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], factor[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const kf_storage *const from = x + x_offset + unit.token * x_stride + unit.head * x_head_stride;
    kf_storage *const to = by_cos + by_cos_offset + (unit.token * heads + unit.head) * 2 * half_dim;
    const long long position = positions[positions_offset + unit.token];
    rope_factors(factor, cos_table + cos_table_offset, rope_row(position, places), unit.number,
                 half_dim);
    rope_fetch(low, high, from, unit.number, half_dim);
#pragma unroll
    for (int j = 0; j < ROPE_VEC; j++) {
        low[j] *= rope_checked(factor[j], position, places);
        high[j] *= rope_checked(factor[j], position, places);
    }
    rope_put(low, high, to, unit.number, half_dim);
}
#endif

#if KF_ENTRY(rope_times_sin)
/* The same of what rope_rotate wrote, with sin. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_times_sin(const long long *positions, long long positions_offset, const float *sin_table,
                   long long sin_table_offset, const kf_storage *turned, long long turned_offset,
                   kf_storage *by_sin, long long by_sin_offset, long long tokens, long long heads,
                   int half_dim, long long places)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], factor[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const long long start = (unit.token * heads + unit.head) * 2 * half_dim;
    const long long position = positions[positions_offset + unit.token];
    rope_factors(factor, sin_table + sin_table_offset, rope_row(position, places), unit.number,
                 half_dim);
    rope_fetch(low, high, turned + turned_offset + start, unit.number, half_dim);
#pragma unroll
    for (int j = 0; j < ROPE_VEC; j++) {
        low[j] *= rope_checked(factor[j], position, places);
        high[j] *= rope_checked(factor[j], position, places);
    }
    rope_put(low, high, by_sin + by_sin_offset + start, unit.number, half_dim);
}
#endif

#if KF_ENTRY(rope_add)
/* Reads both products, writes the rotated elements. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_add(kf_storage *y, long long y_offset, const kf_storage *by_cos, long long by_cos_offset,
             const kf_storage *by_sin, long long by_sin_offset, long long tokens, long long heads,
             int half_dim, long long y_stride, long long y_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], low_sin[KF_VEC], high_sin[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const long long start = (unit.token * heads + unit.head) * 2 * half_dim;
    rope_fetch(low, high, by_cos + by_cos_offset + start, unit.number, half_dim);
    rope_fetch(low_sin, high_sin, by_sin + by_sin_offset + start, unit.number, half_dim);
#pragma unroll
    for (int j = 0; j < ROPE_VEC; j++) {
        low[j] += low_sin[j];
        high[j] += high_sin[j];
    }
    rope_put(low, high, y + y_offset + unit.token * y_stride + unit.head * y_head_stride,
             unit.number, half_dim);
}
#endif

#if KF_ENTRY(rope_copy)
/* Reads and writes the elements behind the rotated ones. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_copy(const kf_storage *x, long long x_offset, kf_storage *y, long long y_offset,
              long long tokens, long long heads, int dim, int half_dim, long long x_stride,
              long long x_head_stride, long long y_stride, long long y_head_stride)
{
    rope_unit unit;
    if (!rope_place(&unit, tokens, heads, (dim - 2 * half_dim) / ROPE_VEC))
        return;
    rope_copy_unit(y + y_offset + unit.token * y_stride + unit.head * y_head_stride + 2 * half_dim,
                   x + x_offset + unit.token * x_stride + unit.head * x_head_stride + 2 * half_dim,
                   unit.number);
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(rope_fused)
/* Reads x once, a position and its rows of cos and sin per unit that rotates; writes y once. */
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_fused(const kf_storage *x, long long x_offset, const long long *positions,
               long long positions_offset, const float *cos_table, long long cos_table_offset,
               const float *sin_table, long long sin_table_offset, kf_storage *y,
               long long y_offset, long long tokens, long long heads, int dim, int half_dim,
               long long places, long long x_stride, long long x_head_stride, long long y_stride,
               long long y_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], c[KF_VEC], s[KF_VEC];
    const int turning = half_dim / ROPE_VEC;
    if (!rope_place(&unit, tokens, heads, turning + (dim - 2 * half_dim) / ROPE_VEC))
        return;
    const kf_storage *const from = x + x_offset + unit.token * x_stride + unit.head * x_head_stride;
    kf_storage *const to = y + y_offset + unit.token * y_stride + unit.head * y_head_stride;
    if (unit.number >= turning) {
        rope_copy_unit(to + 2 * half_dim, from + 2 * half_dim, unit.number - turning);
        return;
    }
    const long long position = positions[positions_offset + unit.token];
    const long long row = rope_row(position, places);
    rope_fetch(low, high, from, unit.number, half_dim);
    rope_factors(c, cos_table + cos_table_offset, row, unit.number, half_dim);
    rope_factors(s, sin_table + sin_table_offset, row, unit.number, half_dim);
#pragma unroll
    for (int j = 0; j < ROPE_VEC; j++) {
        const float by_cos = rope_checked(c[j], position, places), x_low = low[j];
        low[j] = x_low * by_cos - high[j] * s[j];
        high[j] = high[j] * by_cos + x_low * s[j];
    }
    rope_put(low, high, to, unit.number, half_dim);
}
#endif

/* ---- CPU devices: one head of one token per thread ----------------------------------------- */

#if KF_ENTRY(rope_fused_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    rope_fused_cpu(const kf_storage *x, long long x_offset, const long long *positions,
                   long long positions_offset, const float *cos_table, long long cos_table_offset,
                   const float *sin_table, long long sin_table_offset, kf_storage *y,
                   long long y_offset, long long tokens, long long heads, int dim, int half_dim,
                   long long places, long long x_stride, long long x_head_stride,
                   long long y_stride, long long y_head_stride)
{
    const long long item = (long long)blockIdx.x * BLOCK + (int)threadIdx.x;
    const long long token = item / heads, head = item % heads;
    if (token >= tokens)
        return;
    const kf_storage *const from = x + x_offset + token * x_stride + head * x_head_stride;
    kf_storage *const to = y + y_offset + token * y_stride + head * y_head_stride;
    const long long position = positions[positions_offset + token];
    const float *const c = cos_table + cos_table_offset + rope_row(position, places) * half_dim;
    const float *const s = sin_table + sin_table_offset + rope_row(position, places) * half_dim;
    const float valid = rope_checked(1.0f, position, places);
    int i = 0;
    for (; i < half_dim; i++) {
        const float low = kf_load(from, INTERLEAVED ? 2 * i : i);
        const float high = kf_load(from, INTERLEAVED ? 2 * i + 1 : half_dim + i);
        const float by_cos = c[i] * valid, by_sin = s[i];
        kf_store(to, INTERLEAVED ? 2 * i : i, low * by_cos - high * by_sin);
        kf_store(to, INTERLEAVED ? 2 * i + 1 : half_dim + i, high * by_cos + low * by_sin);
    }
    for (i = 2 * half_dim; i < dim; i++)
        to[i] = from[i];
}
#endif
