/* Rotary position embedding, unfused and fused. The same entries in cuda/kernels/rope.cu.
 *
 * A unit is what one work-item does: ROPE_VEC pairs of one head of one token, or ROPE_VEC elements
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
    long token;
    int head, number; /* of the units of its head */
} rope_unit;

#ifdef ROPE_VEC
/* False: this work-item has none. `each` units per head; ROPE_THREADS of them side by side along
 * the heads of a token. */
static inline bool rope_place(rope_unit *unit, long tokens, long heads, int each)
{
    const uint units = (uint)heads * (uint)each;
    const uint chunks = (units + ROPE_THREADS - 1) / ROPE_THREADS;
    const uint group = (uint)get_group_id(0);
    const uint u = group % chunks * ROPE_THREADS + (uint)get_local_id(0) % ROPE_THREADS;
    unit->token =
        (long)(group / chunks) * (BLOCK / ROPE_THREADS) + (int)get_local_id(0) / ROPE_THREADS;
    unit->head = (int)(u / (uint)each);
    unit->number = (int)(u % (uint)each);
    return unit->token < tokens && u < units;
}

/* Both halves of the pairs of unit u of a head that starts at `from`. */
static inline void rope_fetch(float *low, float *high, const __global kf_storage *from, int u,
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

static inline void rope_put(const float *low, const float *high, __global kf_storage *to, int u,
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
static inline void rope_copy_unit(__global kf_storage *to, const __global kf_storage *from, int u)
{
#if ROPE_VEC == 1
    to[u] = from[u];
#else
    kf_store_pack(to, u, kf_load_pack(from, u));
#endif
}

/* The factors of unit u, from the table's row of that position. */
static inline void rope_factors(float *factor, const __global float *table, long row, int u,
                                int half_dim)
{
    const __global float *const from = table + row * half_dim + u * ROPE_VEC;
#if ROPE_VEC == 1
    factor[0] = from[0];
#else
#pragma unroll
    for (int i = 0; i < KF_VEC / 4; i++)
        kf_unpack_floats(((const __global kf_pack *)from)[i], factor + 4 * i);
#endif
}
#endif

/* Which row of the tables. No position outside of them is followed: what it would rotate becomes
 * NaN. */
static inline long rope_row(long position, long places)
{
    return position >= 0 && position < places ? position : 0;
}

static inline float rope_checked(float value, long position, long places)
{
    return position >= 0 && position < places ? value : as_float(0x7fc00000);
}

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(rope_rotate)
/* (low, high) -> (-high, low). Reads and writes the rotated elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_rotate(const __global kf_storage *x, long x_offset, __global kf_storage *turned,
            long turned_offset, long tokens, long heads, int half_dim, long x_stride,
            long x_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const __global kf_storage *const from =
        x + x_offset + unit.token * x_stride + unit.head * x_head_stride;
    __global kf_storage *const to =
        turned + turned_offset + (unit.token * heads + unit.head) * 2 * half_dim;
    rope_fetch(low, high, from, unit.number, half_dim);
#pragma unroll
    for (int j = 0; j < ROPE_VEC; j++)
        high[j] = -high[j];
    rope_put(high, low, to, unit.number, half_dim);
}
#endif

#if KF_ENTRY(rope_times_cos)
/* Reads the rotated elements, a position and its row of cos; writes as many elements. */
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_times_cos(const __global kf_storage *x, long x_offset, const __global long *positions,
               long positions_offset, const __global float *cos_table, long cos_table_offset,
               __global kf_storage *by_cos, long by_cos_offset, long tokens, long heads,
               int half_dim, long places, long x_stride, long x_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], factor[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const __global kf_storage *const from =
        x + x_offset + unit.token * x_stride + unit.head * x_head_stride;
    __global kf_storage *const to =
        by_cos + by_cos_offset + (unit.token * heads + unit.head) * 2 * half_dim;
    const long position = positions[positions_offset + unit.token];
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_times_sin(const __global long *positions, long positions_offset,
               const __global float *sin_table, long sin_table_offset,
               const __global kf_storage *turned, long turned_offset, __global kf_storage *by_sin,
               long by_sin_offset, long tokens, long heads, int half_dim, long places)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], factor[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const long start = (unit.token * heads + unit.head) * 2 * half_dim;
    const long position = positions[positions_offset + unit.token];
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_add(__global kf_storage *y, long y_offset, const __global kf_storage *by_cos,
         long by_cos_offset, const __global kf_storage *by_sin, long by_sin_offset, long tokens,
         long heads, int half_dim, long y_stride, long y_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], low_sin[KF_VEC], high_sin[KF_VEC];
    if (!rope_place(&unit, tokens, heads, half_dim / ROPE_VEC))
        return;
    const long start = (unit.token * heads + unit.head) * 2 * half_dim;
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_copy(const __global kf_storage *x, long x_offset, __global kf_storage *y, long y_offset,
          long tokens, long heads, int dim, int half_dim, long x_stride, long x_head_stride,
          long y_stride, long y_head_stride)
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_fused(const __global kf_storage *x, long x_offset, const __global long *positions,
           long positions_offset, const __global float *cos_table, long cos_table_offset,
           const __global float *sin_table, long sin_table_offset, __global kf_storage *y,
           long y_offset, long tokens, long heads, int dim, int half_dim, long places,
           long x_stride, long x_head_stride, long y_stride, long y_head_stride)
{
    rope_unit unit;
    float low[KF_VEC], high[KF_VEC], c[KF_VEC], s[KF_VEC];
    const int turning = half_dim / ROPE_VEC;
    if (!rope_place(&unit, tokens, heads, turning + (dim - 2 * half_dim) / ROPE_VEC))
        return;
    const __global kf_storage *const from =
        x + x_offset + unit.token * x_stride + unit.head * x_head_stride;
    __global kf_storage *const to =
        y + y_offset + unit.token * y_stride + unit.head * y_head_stride;
    if (unit.number >= turning) {
        rope_copy_unit(to + 2 * half_dim, from + 2 * half_dim, unit.number - turning);
        return;
    }
    const long position = positions[positions_offset + unit.token];
    const long row = rope_row(position, places);
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

/* ---- CPU devices: one head of one token per work-item --------------------------------------- */

#if KF_ENTRY(rope_fused_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
rope_fused_cpu(const __global kf_storage *x, long x_offset, const __global long *positions,
               long positions_offset, const __global float *cos_table, long cos_table_offset,
               const __global float *sin_table, long sin_table_offset, __global kf_storage *y,
               long y_offset, long tokens, long heads, int dim, int half_dim, long places,
               long x_stride, long x_head_stride, long y_stride, long y_head_stride)
{
    const long item = (long)get_group_id(0) * BLOCK + (int)get_local_id(0);
    const long token = item / heads, head = item % heads;
    if (token >= tokens)
        return;
    const __global kf_storage *const from = x + x_offset + token * x_stride + head * x_head_stride;
    __global kf_storage *const to = y + y_offset + token * y_stride + head * y_head_stride;
    const long position = positions[positions_offset + token];
    const __global float *const c =
        cos_table + cos_table_offset + rope_row(position, places) * half_dim;
    const __global float *const s =
        sin_table + sin_table_offset + rope_row(position, places) * half_dim;
    const float valid = rope_checked(1.0f, position, places);
    int i = 0;
    for (; i + 8 <= half_dim; i += 8) {
        const float8 a = kf_load8(from, INTERLEAVED ? 2 * i : i);
        const float8 b = kf_load8(from, INTERLEAVED ? 2 * i + 8 : half_dim + i);
#if INTERLEAVED
        const float8 low = (float8)(a.s0, a.s2, a.s4, a.s6, b.s0, b.s2, b.s4, b.s6);
        const float8 high = (float8)(a.s1, a.s3, a.s5, a.s7, b.s1, b.s3, b.s5, b.s7);
#else
        const float8 low = a, high = b;
#endif
        const float8 by_cos = vload8(0, c + i) * valid, by_sin = vload8(0, s + i);
        const float8 new_low = low * by_cos - high * by_sin;
        const float8 new_high = high * by_cos + low * by_sin;
#if INTERLEAVED
        const float8 first = (float8)(new_low.s0, new_high.s0, new_low.s1, new_high.s1, new_low.s2,
                                      new_high.s2, new_low.s3, new_high.s3);
        const float8 second = (float8)(new_low.s4, new_high.s4, new_low.s5, new_high.s5, new_low.s6,
                                       new_high.s6, new_low.s7, new_high.s7);
        kf_store8(to, 2 * i, first);
        kf_store8(to, 2 * i + 8, second);
#else
        kf_store8(to, i, new_low);
        kf_store8(to, half_dim + i, new_high);
#endif
    }
    for (; i < half_dim; i++) {
        const float low = kf_load(from, INTERLEAVED ? 2 * i : i);
        const float high = kf_load(from, INTERLEAVED ? 2 * i + 1 : half_dim + i);
        const float by_cos = c[i] * valid, by_sin = s[i];
        kf_store(to, INTERLEAVED ? 2 * i : i, low * by_cos - high * by_sin);
        kf_store(to, INTERLEAVED ? 2 * i + 1 : half_dim + i, high * by_cos + low * by_sin);
    }
    for (i = 2 * half_dim; i + 8 <= dim; i += 8)
        vstore8(vload8(0, from + i), 0, to + i);
    for (; i < dim; i++)
        to[i] = from[i];
}
#endif
