/* One row per work-item, for entries that CPU devices run: explicit vectors, eight columns at a time.
 * The same names as cuda/kernels/common/rows_item.cu. SPDX-License-Identifier: Apache-2.0 */

static inline float kf_item_max(const __global kf_storage *row, int cols)
{
    float8 wide[4] = {-KF_INFINITY, -KF_INFINITY, -KF_INFINITY,
                      -KF_INFINITY}; /* four chains: 5 % */
    int i = 0;
    for (; i + 32 <= cols; i += 32)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float8 value = kf_load8(row, i + 8 * k);
            wide[k] = value > wide[k] ? value : wide[k]; /* passes over NaN: the sum will tell */
        }
    for (; i + 8 <= cols; i += 8) {
        const float8 value = kf_load8(row, i);
        wide[0] = value > wide[0] ? value : wide[0];
    }
    wide[0] = fmax(fmax(wide[0], wide[1]), fmax(wide[2], wide[3]));
    float4 four = fmax(wide[0].lo, wide[0].hi);
    float max = fmax(fmax(four.x, four.y), fmax(four.z, four.w));
    for (; i < cols; i++)
        max = fmax(max, kf_load(row, i));
    return max;
}

/* Asks for a line before it is needed. PoCL's prefetch() is empty, and compilers to SPIR (Oclgrind,
 * rusticl, Intel) need not know clang's own: only those that compile for the processor itself get it. */
#if defined(__x86_64__) || defined(__aarch64__)
#define kf_item_expect(at) __builtin_prefetch(at, 0, 2) /* the core's second cache */
#define kf_item_expect_write(at) __builtin_prefetch(at, 1)
#else
#define kf_item_expect(at) ((void)(at))
#define kf_item_expect_write(at) ((void)(at))
#endif

/* As kf_exp8, of one value. */
static inline float kf_item_exp(float x)
{
    return kf_exp8((float8)x).s0;
}

/* Of the eight columns from `first` on, those that are `column` as all bits, the others as none. */
static inline int8 kf_item_is(int first, int column)
{
    return (int8)(0, 1, 2, 3, 4, 5, 6, 7) == (int8)(column - first);
}

static inline float kf_item_sum(float8 wide)
{
    const float4 four = wide.lo + wide.hi;
    return (four.x + four.y) + (four.z + four.w);
}
