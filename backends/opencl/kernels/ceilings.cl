/* What a device can do at best, one entry per roof. The bytes stream through exact tiles: a group covers
 * BLOCK * ACCESSES vectors of VEC_BYTES, neighbouring threads touch neighbouring vectors, and only the
 * last, partial group asks whether an element is there. SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#include "common/prelude.cl"
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
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void ceilings_empty(long n)
{
}
#endif

/* ---- memory ------------------------------------------------------------------------------- */

inline vec vec_add(vec a, vec b)
{
    return a + b;
}

/* One partial sum for every CHUNK elements: what is written is nothing beside what is read. */
#if KF_ENTRY(ceilings_read)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_read(__global const float *restrict a, long a_offset, __global float *restrict parts,
                  long parts_offset, long n)
{
    __local float lane[BLOCK];
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * CHUNK;
    __global const float *from = a + a_offset + begin;
    float sum = 0;
    if (begin + CHUNK <= n) {
        __global const vec *vectors = (__global const vec *)from + thread;
        vec total = 0;
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
        for (long i = thread; i < n - begin; i += BLOCK)
            sum += from[i];
    }
    /* two barriers instead of one per halving: 32 threads take a column each, one of them the rest */
    lane[thread] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (thread < 32) {
        for (int other = thread + 32; other < BLOCK; other += 32)
            sum += lane[other];
        lane[thread] = sum;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (thread == 0) {
        for (int other = 1; other < 32; other++)
            sum += lane[other];
        parts[parts_offset + get_group_id(0)] = sum;
    }
}
#endif

/* The same on a CPU device: one item per chunk, no barrier (which would split its loop), vectors of its own. */
//: only opencl: CPU devices
#if KF_ENTRY(ceilings_read_cpu)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_read_cpu(__global const float *restrict a, long a_offset,
                      __global float *restrict parts, long parts_offset, long n)
{
    const long begin = (long)get_global_id(0) * CHUNK;
    __global const float *from = a + a_offset + begin;
    if (begin >= n)
        return;
    const long count = n - begin < CHUNK ? n - begin : CHUNK;
    float8 total[4] = {0, 0, 0, 0};
    long i = 0;
    for (; i + 32 <= count; i += 32) {
        total[0] += vload8(0, from + i);
        total[1] += vload8(0, from + i + 8);
        total[2] += vload8(0, from + i + 16);
        total[3] += vload8(0, from + i + 24);
    }
    const float8 eight = (total[0] + total[1]) + (total[2] + total[3]);
    const float4 four = eight.lo + eight.hi;
    float sum = (four.x + four.y) + (four.z + four.w);
    for (; i < count; i++)
        sum += from[i];
    parts[parts_offset + get_global_id(0)] = sum;
}
#endif

/* 1 + (i mod 2^23) / 2^23: exact, integer operations only, and every element differs from its
 * neighbours. */
inline float pattern(long index)
{
    return as_float(0x3f800000 | ((int)index & 0x7fffff));
}

#if KF_ENTRY(ceilings_write)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_write(__global float *restrict o, long o_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            const int vector = k * BLOCK + thread;
            const long index = begin + (long)vector * WIDTH;
#if WIDTH == 4
            ((__global vec *)to)[vector] = (vec)(pattern(index), pattern(index + 1),
                                                     pattern(index + 2), pattern(index + 3));
#else
            to[vector] = pattern(index);
#endif
        }
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            to[i] = pattern(begin + i);
    }
}
#endif

#if KF_ENTRY(ceilings_copy)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_copy(__global const float *restrict a, long a_offset, __global float *restrict o,
                  long o_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const float *from = a + a_offset + begin;
    __global float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec value[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            value[k] = ((__global const vec *)from)[k * BLOCK + thread];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            ((__global vec *)to)[k * BLOCK + thread] = value[k];
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            to[i] = from[i];
    }
}
#endif

#if KF_ENTRY(ceilings_add2)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_add2(__global const float *restrict a, long a_offset, __global const float *restrict b,
                  long b_offset, __global float *restrict o, long o_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const float *from_a = a + a_offset + begin, *from_b = b + b_offset + begin;
    __global float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec first[ACCESSES], second[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            first[k] = ((__global const vec *)from_a)[k * BLOCK + thread];
            second[k] = ((__global const vec *)from_b)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            ((__global vec *)to)[k * BLOCK + thread] = vec_add(first[k], second[k]);
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            to[i] = from_a[i] + from_b[i];
    }
}
#endif

#if KF_ENTRY(ceilings_add3)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_add3(__global const float *restrict a, long a_offset, __global const float *restrict b,
                  long b_offset, __global const float *restrict c, long c_offset,
                  __global float *restrict o, long o_offset, long n)
{
    const int thread = (int)get_local_id(0);
    const long begin = (long)get_group_id(0) * TILE;
    __global const float *from_a = a + a_offset + begin, *from_b = b + b_offset + begin,
                *from_c = c + c_offset + begin;
    __global float *to = o + o_offset + begin;
    if (begin + TILE <= n) {
        vec first[ACCESSES], second[ACCESSES], third[ACCESSES];
#pragma unroll
        for (int k = 0; k < ACCESSES; k++) {
            first[k] = ((__global const vec *)from_a)[k * BLOCK + thread];
            second[k] = ((__global const vec *)from_b)[k * BLOCK + thread];
            third[k] = ((__global const vec *)from_c)[k * BLOCK + thread];
        }
#pragma unroll
        for (int k = 0; k < ACCESSES; k++)
            ((__global vec *)to)[k * BLOCK + thread] = vec_add(vec_add(first[k], second[k]), third[k]);
    } else {
        for (long i = thread; i < n - begin; i += BLOCK)
            to[i] = from_a[i] + from_b[i] + from_c[i];
    }
}
#endif

/* ---- arithmetic --------------------------------------------------------------------------- */

/* CHAINS chains per item, each step of which needs the one before: chain = chain * factor + step. With
 * -1 < factor < 0 the error of a step shrinks, and one iteration too few changes every sign. `factor` is
 * an argument, so the compiler cannot fold it. Eight chains are one vector: a CPU has vector registers, a
 * GPU takes it apart. */
#define EIGHT ((float8)(0, 1, 2, 3, 4, 5, 6, 7))

/* A device without the instruction would call a function for fma(). */
#ifdef FP_FAST_FMAF
#define MULTIPLY_ADD(a, b, c) fma(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

inline float sum_of_eight(float8 value)
{
    const float4 four = value.lo + value.hi;
    return (four.x + four.y) + (four.z + four.w);
}

#if KF_ENTRY(ceilings_fma)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_fma(__global const float *restrict fma_start, long fma_start_offset,
                 __global float *restrict o, long o_offset, long n, long iterations, float factor)
{
    const long i = (long)get_group_id(0) * BLOCK + get_local_id(0);
    if (i >= n)
        return;
    const float step = fma_start[fma_start_offset + i];
    float8 chain[CHAINS / 8];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < CHAINS / 8; k++)
        chain[k] = step + (EIGHT + (float)(8 * k));
    for (long t = 0; t < iterations; t++) {
#pragma unroll
        for (int k = 0; k < CHAINS / 8; k++)
            chain[k] = MULTIPLY_ADD(chain[k], (float8)(factor), (float8)(step));
    }
#pragma unroll
    for (int k = 0; k < CHAINS / 8; k++)
        sum += sum_of_eight(chain[k]);
    o[o_offset + i] = sum;
}
#endif

/* chain = chain + 2^-chain grows like log2(t): it never settles, so a missing iteration shows, and no error
 * grows. */
inline float8 exp2_of_eight(float8 x)
{
#if KF_CAP_PTX
    return (float8)(kf_exp2(x.s0), kf_exp2(x.s1), kf_exp2(x.s2), kf_exp2(x.s3), kf_exp2(x.s4),
                    kf_exp2(x.s5), kf_exp2(x.s6), kf_exp2(x.s7));
#else
    return exp2(x);
#endif
}

#if KF_ENTRY(ceilings_exp)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_exp(__global const float *restrict exp_start, long exp_start_offset,
                 __global float *restrict o, long o_offset, long n, long iterations)
{
    const long i = (long)get_group_id(0) * BLOCK + get_local_id(0);
    if (i >= n)
        return;
    const float start = fabs(exp_start[exp_start_offset + i]);
    float8 chain[CHAINS / 8];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < CHAINS / 8; k++)
        chain[k] = start + 0.125f * (EIGHT + (float)(8 * k));
    for (long t = 0; t < iterations; t++) {
#pragma unroll
        for (int k = 0; k < CHAINS / 8; k++)
            chain[k] += exp2_of_eight(-chain[k]);
    }
#pragma unroll
    for (int k = 0; k < CHAINS / 8; k++)
        sum += sum_of_eight(chain[k]);
    o[o_offset + i] = sum;
}
#endif

/* A linear congruential generator, one number after the other: time that passes without touching memory. The
 * upper 24 bits are exact as a float. */
#if KF_ENTRY(ceilings_spin)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void
    ceilings_spin(__global float *restrict spun, long spun_offset, long n, long iterations)
{
    const long i = (long)get_group_id(0) * BLOCK + get_local_id(0);
    uint state = (uint)i;
    for (long t = 0; t < iterations; t++)
        state = state * 1664525u + 1013904223u;
    if (i < n)
        spun[spun_offset + i] = (float)(state >> 8);
}
#endif
