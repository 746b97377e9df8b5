/* exp(x y + z), unfused and fused. A group covers BLOCK * ACCESSES vectors of VEC_BYTES exactly; the last,
 * partial group goes element by element. All loads stand before the first store: the output may be one of
 * the inputs, so the compiler cannot move a load past a store by itself. Plain accesses: evict-first on
 * the loads cost a copy 10 % (measured). SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#include "common/prelude.cu"
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

__device__ inline void unpack(vec packed, float *value)
{
#if VEC_BYTES == 16
    kf_unpack(packed, value);
#else
    value[0] = kf_decode(packed);
#endif
}

__device__ inline vec repack(const float *value)
{
#if VEC_BYTES == 16
    return kf_repack(value);
#else
    return kf_encode(value[0]);
#endif
}

/* ---- unfused: one kernel per line --------------------------------------------------------- */

#if KF_ENTRY(elementwise_mul)
extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_mul(const kf_storage *x, long long x_offset, const kf_storage *y,
                    long long y_offset, kf_storage *product, long long product_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const kf_storage *from_x = x + x_offset + begin, *from_y = y + y_offset + begin;
    kf_storage *to = product + product_offset + begin;
    if (begin + TILE <= n) {
        vec vec_x[ACCESSES], vec_y[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            vec_x[k] = ((const vec *)from_x)[k * BLOCK + thread];
            vec_y[k] = ((const vec *)from_y)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH], b[WIDTH];
            unpack(vec_x[k], a);
            unpack(vec_y[k], b);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] *= b[j];
            ((vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, kf_load(from_x, i) * kf_load(from_y, i));
    }
}
#endif

#if KF_ENTRY(elementwise_add)
extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_add(const kf_storage *z, long long z_offset, const kf_storage *product,
                    long long product_offset, kf_storage *sum, long long sum_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const kf_storage *from_z = z + z_offset + begin, *from_p = product + product_offset + begin;
    kf_storage *to = sum + sum_offset + begin;
    if (begin + TILE <= n) {
        vec vec_z[ACCESSES], vec_p[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            vec_z[k] = ((const vec *)from_z)[k * BLOCK + thread];
            vec_p[k] = ((const vec *)from_p)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH], b[WIDTH];
            unpack(vec_p[k], a);
            unpack(vec_z[k], b);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] += b[j];
            ((vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, kf_load(from_p, i) + kf_load(from_z, i));
    }
}
#endif

/* One group per multiprocessor is enough: left alone, ptxas aims at three on sm_120 and spills with four vectors. */
#if KF_ENTRY(elementwise_exp)
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    elementwise_exp(kf_storage *o, long long o_offset, const kf_storage *sum, long long sum_offset,
                    long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const kf_storage *from = sum + sum_offset + begin;
    kf_storage *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec packed[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            packed[k] = ((const vec *)from)[k * BLOCK + thread];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH];
            unpack(packed[k], a);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] = expf(a[j]);
            ((vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, expf(kf_load(from, i)));
    }
}
#endif

/* ---- fused -------------------------------------------------------------------------------- */

#if KF_ENTRY(elementwise_fused)
extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_fused(const kf_storage *x, long long x_offset, const kf_storage *y,
                      long long y_offset, const kf_storage *z, long long z_offset, kf_storage *o,
                      long long o_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const kf_storage *from_x = x + x_offset + begin, *from_y = y + y_offset + begin,
                     *from_z = z + z_offset + begin;
    kf_storage *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec vec_x[ACCESSES], vec_y[ACCESSES], vec_z[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            vec_x[k] = ((const vec *)from_x)[k * BLOCK + thread];
            vec_y[k] = ((const vec *)from_y)[k * BLOCK + thread];
            vec_z[k] = ((const vec *)from_z)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            float a[WIDTH], b[WIDTH], c[WIDTH];
            unpack(vec_x[k], a);
            unpack(vec_y[k], b);
            unpack(vec_z[k], c);
#pragma unroll
            for (int j = 0; j < WIDTH; j++)
                a[j] = expf(a[j] * b[j] + c[j]);
            ((vec *)to)[k * BLOCK + thread] = repack(a);
        }
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, expf(kf_load(from_x, i) * kf_load(from_y, i) + kf_load(from_z, i)));
    }
}
#endif

/* One element per thread, no loop: what a compiler for CPUs turns into vectors across the threads. Full
 * groups ask nothing, and the pointers are moved before, where all threads agree. */
#if KF_ENTRY(elementwise_fused_cpu)
extern "C" __global__ void __launch_bounds__(BLOCK)
    elementwise_fused_cpu(const kf_storage *x, long long x_offset, const kf_storage *y,
                          long long y_offset, const kf_storage *z, long long z_offset,
                          kf_storage *o, long long o_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * BLOCK;
    const kf_storage *from_x = x + x_offset + begin, *from_y = y + y_offset + begin,
                     *from_z = z + z_offset + begin;
    kf_storage *to = o + o_offset + begin;
    if (begin + BLOCK <= n) {
        kf_store(to, thread,
                 expf(kf_load(from_x, thread) * kf_load(from_y, thread) + kf_load(from_z, thread)));
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            kf_store(to, i, expf(kf_load(from_x, i) * kf_load(from_y, i) + kf_load(from_z, i)));
    }
}
#endif
