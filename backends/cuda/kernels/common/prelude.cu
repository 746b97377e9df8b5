/* What every CUDA kernel text starts with: storage types, 16-byte vectors, reductions. The same
 * names as opencl/kernels/common/prelude.cl; no header, so that NVRTC alone compiles it.
 *
 * Storage is f32, f16 or bf16 (KF_DTYPE), arithmetic is f32. A kf_pack is one 16-byte access:
 * KF_VEC elements, left packed in four registers until a kernel wants floats.
 * SPDX-License-Identifier: Apache-2.0 */
#define KF_F32 1
#define KF_F16 2
#define KF_BF16 3

#ifdef KF_EDITOR /* an editor, not a build: every entry is on and every knob has its default */
#define KF_ENTRY(entry) 1
#define KF_DTYPE KF_F32
#define WARP 32
#else
#define KF_ENTRY(entry) KF_ENTRY_##entry
#endif

#define KF_WARP WARP /* lanes that can exchange registers */
#define KF_LOG2E 1.4426950408889634f
#define KF_INFINITY __int_as_float(0x7f800000)

#if KF_DTYPE == KF_F32
typedef float kf_storage;
#define KF_VEC 4
#else
typedef unsigned short kf_storage;
#define KF_VEC 8
#endif
typedef uint4 kf_pack;

/* ---- one element -------------------------------------------------------------------------- */

/* Rounds to nearest even; a NaN keeps a mantissa bit, so it does not become infinity. */
__device__ inline unsigned kf_bf16_bits(float value)
{
    const unsigned bits = __float_as_uint(value);
    return value != value ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

__device__ inline float kf_f16_value(unsigned short bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ inline float kf_decode(kf_storage stored)
{
#if KF_DTYPE == KF_F32
    return stored;
#elif KF_DTYPE == KF_F16
    return kf_f16_value(stored);
#else
    return __uint_as_float((unsigned)stored << 16);
#endif
}

__device__ inline kf_storage kf_encode(float value)
{
#if KF_DTYPE == KF_F32
    return value;
#elif KF_DTYPE == KF_F16
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#else
    return (kf_storage)kf_bf16_bits(value);
#endif
}

__device__ inline float kf_load(const kf_storage *from, long long index)
{
    return kf_decode(from[index]);
}

__device__ inline void kf_store(kf_storage *to, long long index, float value)
{
    to[index] = kf_encode(value);
}

/* ---- one vector of KF_VEC elements; addresses are multiples of 16 bytes -------------------- */

__device__ inline kf_pack kf_load_pack(const kf_storage *from, long long vector)
{
    return ((const kf_pack *)from)[vector];
}

__device__ inline void kf_store_pack(kf_storage *to, long long vector, kf_pack pack)
{
    ((kf_pack *)to)[vector] = pack;
}

/* Two 16-bit elements, low half first. */
__device__ inline void kf_unpack_pair(unsigned pair, float *low, float *high)
{
#if KF_DTYPE == KF_F16
    *low = kf_f16_value((unsigned short)pair);
    *high = kf_f16_value((unsigned short)(pair >> 16));
#else
    *low = __uint_as_float(pair << 16);
    *high = __uint_as_float(pair & 0xffff0000u);
#endif
}

__device__ inline unsigned kf_pack_pair(float low, float high)
{
    unsigned pair;
#if KF_DTYPE == KF_F16
    unsigned short l, h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(l) : "f"(low));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(high));
    pair = l | (unsigned)h << 16;
#elif __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
    pair = kf_bf16_bits(low) | kf_bf16_bits(high) << 16;
#endif
    return pair;
}

/* Four floats, whatever the storage. */
__device__ inline kf_pack kf_pack_floats(const float *value)
{
    return make_uint4(__float_as_uint(value[0]), __float_as_uint(value[1]),
                      __float_as_uint(value[2]), __float_as_uint(value[3]));
}

__device__ inline void kf_unpack_floats(kf_pack pack, float *value)
{
    value[0] = __uint_as_float(pack.x);
    value[1] = __uint_as_float(pack.y);
    value[2] = __uint_as_float(pack.z);
    value[3] = __uint_as_float(pack.w);
}

__device__ inline void kf_unpack(kf_pack pack, float *value)
{
#if KF_DTYPE == KF_F32
    kf_unpack_floats(pack, value);
#else
    kf_unpack_pair(pack.x, &value[0], &value[1]);
    kf_unpack_pair(pack.y, &value[2], &value[3]);
    kf_unpack_pair(pack.z, &value[4], &value[5]);
    kf_unpack_pair(pack.w, &value[6], &value[7]);
#endif
}

__device__ inline kf_pack kf_repack(const float *value)
{
#if KF_DTYPE == KF_F32
    return kf_pack_floats(value);
#else
    kf_pack pack;
    pack.x = kf_pack_pair(value[0], value[1]);
    pack.y = kf_pack_pair(value[2], value[3]);
    pack.z = kf_pack_pair(value[4], value[5]);
    pack.w = kf_pack_pair(value[6], value[7]);
    return pack;
#endif
}

/* KF_VEC elements as they are stored, from wherever they lay. */
__device__ inline kf_pack kf_pack_storage(const kf_storage *stored)
{
#if KF_DTYPE == KF_F32
    return kf_pack_floats(stored);
#else
    kf_pack pack;
    pack.x = stored[0] | (unsigned)stored[1] << 16;
    pack.y = stored[2] | (unsigned)stored[3] << 16;
    pack.z = stored[4] | (unsigned)stored[5] << 16;
    pack.w = stored[6] | (unsigned)stored[7] << 16;
    return pack;
#endif
}

/* Every element the same. */
__device__ inline kf_pack kf_splat(float value)
{
    float all[KF_VEC];
#pragma unroll
    for (int i = 0; i < KF_VEC; i++)
        all[i] = value;
    return kf_repack(all);
}

/* The same vector through an OR with `zero`, an argument that is always 0 but not known to the
 * compiler: 16-bit elements are then unpacked again where they are used. Otherwise the assembler
 * shares the unpacked floats between two passes, twice the registers, and spills. */
__device__ inline kf_pack kf_again(kf_pack pack, unsigned zero)
{
#if KF_DTYPE != KF_F32
    pack.x |= zero;
    pack.y |= zero;
    pack.z |= zero;
    pack.w |= zero;
#endif
    return pack;
}

/* ---- maths -------------------------------------------------------------------------------- */

/* 2^x, relative error about 2^-22; flushes denormals. */
__device__ inline float kf_exp2(float x)
{
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

/* Maximum that propagates NaN, as fmaxf does not. */
__device__ inline float kf_max(float a, float b)
{
#if __CUDA_ARCH__ >= 800
    float max;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
    return max;
#else
    return a > b || a != a ? a : b;
#endif
}

#if KF_DTYPE != KF_F32 && __CUDA_ARCH__ >= 800
__device__ inline unsigned kf_max_pair(unsigned a, unsigned b)
{
    unsigned max;
#if KF_DTYPE == KF_F16
    asm("max.f16x2 %0, %1, %2;" : "=r"(max) : "r"(a), "r"(b));
#else
    asm("max.bf16x2 %0, %1, %2;" : "=r"(max) : "r"(a), "r"(b));
#endif
    return max;
}
#endif

/* The largest element; a NaN may be passed over. */
__device__ inline float kf_pack_max(kf_pack pack)
{
#if KF_DTYPE != KF_F32 && __CUDA_ARCH__ >= 800
    float low, high;
    kf_unpack_pair(kf_max_pair(kf_max_pair(pack.x, pack.y), kf_max_pair(pack.z, pack.w)), &low,
                   &high);
    return fmaxf(low, high);
#else
    float value[KF_VEC];
    kf_unpack(pack, value);
#pragma unroll
    for (int i = 1; i < KF_VEC; i++)
        value[0] = fmaxf(value[0], value[i]);
    return value[0];
#endif
}

/* ---- reductions --------------------------------------------------------------------------- */

/* Over `width` neighbouring lanes, a power of two up to KF_WARP; every lane gets the result. All
 * lanes of the warp must be here. */
__device__ inline float kf_warp_max(float value, int width)
{
#pragma unroll
    for (int step = KF_WARP / 2; step > 0; step /= 2)
        if (step < width)
            value = kf_max(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

__device__ inline float kf_warp_sum(float value, int width)
{
#pragma unroll
    for (int step = KF_WARP / 2; step > 0; step /= 2)
        if (step < width)
            value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/* Floats of local memory that a reduction over `lanes` threads needs for each of its rows. */
#define KF_SLOTS(lanes) ((lanes) > KF_WARP ? (lanes) / KF_WARP : 0)

/* Lanes of a warp that go over `slots` slots together: a power of two. */
#define KF_SLOT_LANES(slots)                                                                       \
    ((slots) >= KF_WARP || (slots) > 16 ? KF_WARP                                                  \
     : (slots) > 8                      ? 16                                                       \
     : (slots) > 4                      ? 8                                                        \
     : (slots) > 2                      ? 4                                                        \
                                        : (slots))

/* Over `lanes` neighbouring threads, a power of two; `lane` is this thread's place among them and
 * `slot` their KF_SLOTS(lanes) floats, used once per launch. Every thread gets the result: each
 * warp reduces all slots itself, which saves a second barrier. All threads of the group must be
 * here. */
__device__ inline float kf_group_max(float value, int lanes, int lane, float *slot)
{
    value = kf_warp_max(value, lanes < KF_WARP ? lanes : KF_WARP);
    if (lanes > KF_WARP) {
        if (lane % KF_WARP == 0)
            slot[lane / KF_WARP] = value;
        __syncthreads();
        value = kf_warp_max(slot[lane % (lanes / KF_WARP)], lanes / KF_WARP);
    }
    return value;
}

__device__ inline float kf_group_sum(float value, int lanes, int lane, float *slot)
{
    value = kf_warp_sum(value, lanes < KF_WARP ? lanes : KF_WARP);
    if (lanes > KF_WARP) {
        if (lane % KF_WARP == 0)
            slot[lane / KF_WARP] = value;
        __syncthreads();
        value = kf_warp_sum(slot[lane % (lanes / KF_WARP)], lanes / KF_WARP);
    }
    return value;
}
