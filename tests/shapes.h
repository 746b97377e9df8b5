/* The shapes that test_conformance.c visits. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_TEST_SHAPES_H
#define KF_TEST_SHAPES_H
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* Where the compiler is slow: f32 meets few shapes, bf16 the small ones and f16, whose conversions
 * take it longest, none (test_opencl_subgroups has one). */
static inline bool few_wanted(void)
{
    return getenv("KFUSE_FEW") && !getenv("KFUSE_LONG");
}

static const int64_t widths[] = {1,    2,     3,     7,     31,    32,    33,     63,
                                 64,   65,    127,   128,   129,   255,   256,    257,
                                 781,  1000,  1023,  1024,  1025,  2048,  4095,   4096,
                                 4097, 16385, 32769, 65535, 65536, 65537, 131072, 400003};
/* where each program costs seconds of compiling, the test plan's, and the defaults' edges */
static const int64_t cpu_widths[] = {1,    2,    3,    7,     31,    32,    33,    64,     127,
                                     128,  129,  256,  781,   1000,  1023,  1024,  1025,   2048,
                                     4095, 4096, 4097, 16385, 65535, 65536, 65537, 131072, 400003};
/* where that is slow: every default of threads, vectors and alignment */
static const int64_t some_widths[] = {1,   2,   7,    31,   32,   33,   64,   129,
                                      256, 781, 1000, 1025, 2048, 4097, 16385};
static const int64_t few_widths[] = {1, 7, 33, 129, 257, 1000};

typedef struct width_list {
    const int64_t *at;
    int count;
} width_list;
#define WIDTHS(list) ((width_list){(list), (int)(sizeof(list) / sizeof *(list))})
static inline width_list width_choice(bool few, bool some, bool cpu)
{
    return few    ? WIDTHS(few_widths)
           : some ? WIDTHS(some_widths)
           : cpu  ? WIDTHS(cpu_widths)
                  : WIDTHS(widths);
}

static const int64_t long_shapes[][2] = {
    {1, 1},      {3, 1},       {65537, 3},  {1823, 781}, {5, 50257},   {3, 131072},
    {7, 262147}, {2, 4194304}, {131, 4096}, {16, 16384}, {300, 32768}, {1024, 4097},
    {3, 65535},  {3, 65536},   {3, 65537},  {2, 400003}, {132, 1023}};
enum { LONG_SHAPES = sizeof long_shapes / sizeof *long_shapes };
static const int64_t lengths[] = {1, 2, 3, 7, 255, 256, 257, 1023, 1025, 4095, 65537, 1000003};
static const int64_t few_lengths[] = {1, 3, 255, 1025, 4097};

#endif
