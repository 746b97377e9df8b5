/* What a device can do at best, one entry per roof. The bytes stream through exact tiles: a group covers
 * BLOCK * ACCESSES vectors of VEC_BYTES, neighbouring threads touch neighbouring vectors, and only the
 * last, partial group asks whether an element is there. SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#include "common/prelude.cu"
#define BLOCK 256
#define VEC_BYTES 16
#define ACCESSES 1
#define CHUNK 8192
#define CHAINS 64
#endif

#if VEC_BYTES == 16
typedef float4 vec;
#define WIDTH 4
#else
typedef float vec;
#define WIDTH 1
#endif
#define TILE (BLOCK * ACCESSES * WIDTH) /* elements of a group */

/* ---- launch ------------------------------------------------------------------------------- */

#if KF_ENTRY(ceilings_empty)
extern "C" __global__ void __launch_bounds__(BLOCK) ceilings_empty(long long n)
{
}
#endif

/* ---- memory ------------------------------------------------------------------------------- */

__device__ inline vec vec_add(vec a, vec b)
{
#if WIDTH == 4
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
#else
    return a + b;
#endif
}

/* One partial sum for every CHUNK elements: what is written is nothing beside what is read. */
#if KF_ENTRY(ceilings_read)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_read(const float *__restrict__ a, long long a_offset, float *__restrict__ parts,
                  long long parts_offset, long long n)
{
    __shared__ float lane[BLOCK];
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * CHUNK;
    const float *from = a + a_offset + begin;
    float sum = 0;
    if (begin + CHUNK <= n) {
        const vec *vectors = (const vec *)from + thread;
        vec total = {};
        for (int tile = 0; tile < CHUNK / TILE; tile++, vectors += BLOCK * ACCESSES) {
            vec value[ACCESSES];
#pragma unroll
            for (int k = 0; k < ACCESSES; k++)
                value[k] = vectors[k * BLOCK];
#pragma unroll
            for (int k = 0; k < ACCESSES; k++)
                total = vec_add(total, value[k]);
        }
#if WIDTH == 4
        sum = (total.x + total.y) + (total.z + total.w);
#else
        sum = total;
#endif
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            sum += from[i];
    }
    /* two barriers instead of one per halving: 32 threads take a column each, one of them the rest */
    lane[thread] = sum;
    __syncthreads();
    if (thread < 32) {
        for (int other = thread + 32; other < BLOCK; other += 32)
            sum += lane[other];
        lane[thread] = sum;
    }
    __syncthreads();
    if (thread == 0) {
        for (int other = 1; other < 32; other++)
            sum += lane[other];
        parts[parts_offset + blockIdx.x] = sum;
    }
}
#endif

/* 1 + (i mod 2^23) / 2^23: exact, integer operations only, and every element differs from its
 * neighbours. */
__device__ inline float pattern(long long index)
{
    return __int_as_float(0x3f800000 | ((int)index & 0x7fffff));
}

#if KF_ENTRY(ceilings_write)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_write(float *__restrict__ o, long long o_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            const int vector = k * BLOCK + thread;
            const long long index = begin + (long long)vector * WIDTH;
#if WIDTH == 4
            ((vec *)to)[vector] = make_float4(pattern(index), pattern(index + 1),
                                              pattern(index + 2), pattern(index + 3));
#else
            to[vector] = pattern(index);
#endif
        }
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            to[i] = pattern(begin + i);
    }
}
#endif

#if KF_ENTRY(ceilings_copy)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_copy(const float *__restrict__ a, long long a_offset, float *__restrict__ o,
                  long long o_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const float *from = a + a_offset + begin;
    float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec value[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            value[k] = ((const vec *)from)[k * BLOCK + thread];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            ((vec *)to)[k * BLOCK + thread] = value[k];
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            to[i] = from[i];
    }
}
#endif

#if KF_ENTRY(ceilings_add2)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_add2(const float *__restrict__ a, long long a_offset, const float *__restrict__ b,
                  long long b_offset, float *__restrict__ o, long long o_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const float *from_a = a + a_offset + begin, *from_b = b + b_offset + begin;
    float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec first[ACCESSES], second[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            first[k] = ((const vec *)from_a)[k * BLOCK + thread];
            second[k] = ((const vec *)from_b)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            ((vec *)to)[k * BLOCK + thread] = vec_add(first[k], second[k]);
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            to[i] = from_a[i] + from_b[i];
    }
}
#endif

#if KF_ENTRY(ceilings_add3)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_add3(const float *__restrict__ a, long long a_offset, const float *__restrict__ b,
                  long long b_offset, const float *__restrict__ c, long long c_offset,
                  float *__restrict__ o, long long o_offset, long long n)
{
    const int thread = threadIdx.x;
    const long long begin = (long long)blockIdx.x * TILE;
    const float *from_a = a + a_offset + begin, *from_b = b + b_offset + begin,
                *from_c = c + c_offset + begin;
    float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec first[ACCESSES], second[ACCESSES], third[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            first[k] = ((const vec *)from_a)[k * BLOCK + thread];
            second[k] = ((const vec *)from_b)[k * BLOCK + thread];
            third[k] = ((const vec *)from_c)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            ((vec *)to)[k * BLOCK + thread] = vec_add(vec_add(first[k], second[k]), third[k]);
    } else {
        for (long long i = thread; i < n - begin; i += BLOCK)
            to[i] = from_a[i] + from_b[i] + from_c[i];
    }
}
#endif

/* ---- arithmetic --------------------------------------------------------------------------- */

/* CHAINS chains per thread, each step of which needs the one before: chain = chain * factor + step. With
 * -1 < factor < 0 the error of a step shrinks, and one iteration too few changes every sign. `factor` is
 * an argument, so the compiler cannot fold it. */
#if KF_ENTRY(ceilings_fma)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_fma(const float *__restrict__ fma_start, long long fma_start_offset,
                 float *__restrict__ o, long long o_offset, long long n, long long iterations,
                 float factor)
{
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n)
        return;
    const float step = fma_start[fma_start_offset + i];
    float chain[CHAINS], sum = 0;
#pragma unroll
    for (int k = 0; k < CHAINS; k++)
        chain[k] = step + (float)k;
    for (long long t = 0; t < iterations; t++) {
#pragma unroll
        for (int k = 0; k < CHAINS; k++)
            chain[k] = fmaf(chain[k], factor, step);
    }
#pragma unroll
    for (int k = 0; k < CHAINS; k++)
        sum += chain[k];
    o[o_offset + i] = sum;
}
#endif

/* chain = chain + 2^-chain grows like log2(t): it never settles, so a missing iteration shows, and no error
 * grows. */
#if KF_ENTRY(ceilings_exp)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_exp(const float *__restrict__ exp_start, long long exp_start_offset,
                 float *__restrict__ o, long long o_offset, long long n, long long iterations)
{
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n)
        return;
    const float start = fabsf(exp_start[exp_start_offset + i]);
    float chain[CHAINS], sum = 0;
#pragma unroll
    for (int k = 0; k < CHAINS; k++)
        chain[k] = start + 0.125f * (float)k;
    for (long long t = 0; t < iterations; t++) {
#pragma unroll
        for (int k = 0; k < CHAINS; k++)
            chain[k] += kf_exp2(-chain[k]);
    }
#pragma unroll
    for (int k = 0; k < CHAINS; k++)
        sum += chain[k];
    o[o_offset + i] = sum;
}
#endif

/* A linear congruential generator, one number after the other: time that passes without touching memory. The
 * upper 24 bits are exact as a float. */
#if KF_ENTRY(ceilings_spin)
extern "C" __global__ void __launch_bounds__(BLOCK)
    ceilings_spin(float *__restrict__ spun, long long spun_offset, long long n,
                  long long iterations)
{
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    unsigned state = (unsigned)i;
    for (long long t = 0; t < iterations; t++)
        state = state * 1664525u + 1013904223u;
    if (i < n)
        spun[spun_offset + i] = (float)(state >> 8);
}
#endif
