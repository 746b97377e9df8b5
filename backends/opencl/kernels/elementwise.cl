/* exp(x y + z), unfused and fused. A group covers BLOCK * ACCESSES vectors of VEC_BYTES exactly; the last,
 * partial group goes element by element. All loads stand before the first store: the output may be one of
 * the inputs, so the compiler cannot move a load past a store by itself. Plain accesses: evict-first on
 * the loads cost a copy 10 % (measured). SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#include "common/prelude.cl"
#define BLOCK 256
#define VEC_BYTES 16
#define ACCESSES 1
#endif

#if VEC_BYTES == 16
typedef kf_pack vec;
#define WIDTH KF_VEC
#else
typedef kf_storage vec;
#define WIDTH 1
#endif
#define TILE (BLOCK * ACCESSES * WIDTH) /* elements of a group */

inline void unpack(vec packed, float *value)
{
#if VEC_BYTES == 16
    kf_unpack(packed, value);
#else
    value[0] = kf_decode(packed);
#endif
}

inline vec repack(const float *value)
{
#if VEC_BYTES == 16
    return kf_repack(value);
#else
    return kf_encode(value[0]);
#endif
}

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(elementwise_mul)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    elementwise_mul(__global const kf_storage *x, long x_offset, __global const kf_storage *y,
                    long y_offset, __global kf_storage *product, long product_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const kf_storage *from_x = x + x_offset + begin, *from_y = y + y_offset + begin;
    __global kf_storage *to = product + product_offset + begin;
    if (begin + TILE <= n) {
        vec vec_x[ACCESSES], vec_y[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            vec_x[k] = ((__global const vec *)from_x)[k * BLOCK + thread];
            vec_y[k] = ((__global const vec *)from_y)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH], b[WIDTH];
            unpack(vec_x[k], a);
            unpack(vec_y[k], b);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] *= b[j];
            ((__global vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, kf_load(from_x, i) * kf_load(from_y, i));
    }
}
#endif

#if KF_ENTRY(elementwise_add)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    elementwise_add(__global const kf_storage *z, long z_offset, __global const kf_storage *product,
                    long product_offset, __global kf_storage *sum, long sum_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const kf_storage *from_z = z + z_offset + begin, *from_p = product + product_offset + begin;
    __global kf_storage *to = sum + sum_offset + begin;
    if (begin + TILE <= n) {
        vec vec_z[ACCESSES], vec_p[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            vec_z[k] = ((__global const vec *)from_z)[k * BLOCK + thread];
            vec_p[k] = ((__global const vec *)from_p)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH], b[WIDTH];
            unpack(vec_p[k], a);
            unpack(vec_z[k], b);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] += b[j];
            ((__global vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, kf_load(from_p, i) + kf_load(from_z, i));
    }
}
#endif

#if KF_ENTRY(elementwise_exp)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    elementwise_exp(__global kf_storage *o, long o_offset, __global const kf_storage *sum, long sum_offset,
                    long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const kf_storage *from = sum + sum_offset + begin;
    __global kf_storage *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec packed[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            packed[k] = ((__global const vec *)from)[k * BLOCK + thread];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH];
            unpack(packed[k], a);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] = exp(a[j]);
            ((__global vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, exp(kf_load(from, i)));
    }
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(elementwise_fused)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    elementwise_fused(__global const kf_storage *x, long x_offset, __global const kf_storage *y,
                      long y_offset, __global const kf_storage *z, long z_offset, __global kf_storage *o,
                      long o_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const kf_storage *from_x = x + x_offset + begin, *from_y = y + y_offset + begin,
                     *from_z = z + z_offset + begin;
    __global kf_storage *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec vec_x[ACCESSES], vec_y[ACCESSES], vec_z[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            vec_x[k] = ((__global const vec *)from_x)[k * BLOCK + thread];
            vec_y[k] = ((__global const vec *)from_y)[k * BLOCK + thread];
            vec_z[k] = ((__global const vec *)from_z)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH], b[WIDTH], c[WIDTH];
            unpack(vec_x[k], a);
            unpack(vec_y[k], b);
            unpack(vec_z[k], c);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] = exp(a[j] * b[j] + c[j]);
            ((__global vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, exp(kf_load(from_x, i) * kf_load(from_y, i) + kf_load(from_z, i)));
    }
}
#endif

/* One element per thread, no loop: what a compiler for CPUs turns into vectors across the threads. Full
 * groups ask nothing, and the pointers are moved before, where all threads agree. */
#if KF_ENTRY(elementwise_fused_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    elementwise_fused_cpu(__global const kf_storage *x, long x_offset, __global const kf_storage *y,
                          long y_offset, __global const kf_storage *z, long z_offset,
                          __global kf_storage *o, long o_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * BLOCK;
    __global const kf_storage *from_x = x + x_offset + begin, *from_y = y + y_offset + begin,
                     *from_z = z + z_offset + begin;
    __global kf_storage *to = o + o_offset + begin;
    if (begin + BLOCK <= n) {
        kf_store(to, thread,
                 exp(kf_load(from_x, thread) * kf_load(from_y, thread) + kf_load(from_z, thread)));
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, exp(kf_load(from_x, i) * kf_load(from_y, i) + kf_load(from_z, i)));
    }
}
#endif
