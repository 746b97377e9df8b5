/* What every OpenCL kernel text starts with: storage types, 16-byte vectors, reductions. The same
 * names as cuda/kernels/common/prelude.cu; OpenCL C 1.2 without extensions, inline PTX in the maths
 * and the reductions where KF_CAP_PTX and KF_CAP_SHUFFLE say so, and sub-groups in the reductions
 * where KF_CAP_SUBGROUPS does, with conversions of f16.
 *
 * Storage is f32, f16 or bf16 (KF_DTYPE), arithmetic is f32. A kf_pack is one 16-byte access:
 * KF_VEC elements, left packed in four registers until a kernel wants floats.
 * SPDX-License-Identifier: Apache-2.0 */

/* Nothing stays a call: a compiler that saves space keeps some, and Oclgrind 21.10 corrupts its
 * heap when a function of several levels returns. */
#undef inline /* PoCL defines it */
#define inline inline __attribute__((always_inline))

#define KF_F32 1
#define KF_F16 2
#define KF_BF16 3

#ifdef KF_EDITOR /* an editor, not a build: every entry is on and every knob has its default */
#define KF_ENTRY(entry) 1
#define KF_DTYPE KF_F32
#define WARP 1
#else
#define KF_ENTRY(entry) KF_ENTRY_##entry
#endif

#if KF_CAP_SHUFFLE
#define KF_WARP WARP /* lanes that can exchange registers */
#else
#define KF_WARP 1
#endif

/* Every entry whose work-items exchange anything gets sub-groups of WARP: without the demand the
 * compiler chooses. A row of one work-item (the entries for CPU devices) leaves it the choice. */
#if KF_CAP_SUBGROUPS && THREADS_PER_ROW != 1
#if BLOCK % WARP == 0
#define __kernel __kernel __attribute__((intel_reqd_sub_group_size(WARP)))
#endif
#endif
#define KF_LOG2E 1.4426950408889634f
#define KF_INFINITY INFINITY

#if KF_CAP_PTX && KF_ARCH >= 80 /* KF_ARCH: the compute capability, where a plan tells it */
#define KF_PTX_80 1
#endif

#if KF_DTYPE == KF_F32
typedef float kf_storage;
#define KF_VEC 4
#else
typedef ushort kf_storage;
#define KF_VEC 8
#endif
typedef uint4 kf_pack;

/* ---- one element -------------------------------------------------------------------------- */

/* Rounds to nearest even; a NaN keeps a mantissa bit, so it does not become infinity. */
static inline uint kf_bf16_bits(float value)
{
    const uint bits = as_uint(value);
    return value != value ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

/* vload_half and vstore_half are dear to Intel's compiler for CPUs: kfuse bench of softmax f16 7x33
 * took more than 38 s of processor time, and 10 with conversions of the half type. A driver may
 * flush denormals in those; test_opencl_subgroups asks. */
#if KF_CAP_SUBGROUPS && defined(cl_khr_fp16)
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define KF_HALF 1
#endif

/* vload_half and vstore_half need no half type; they work on private memory too. */
static inline float kf_f16_value(ushort bits)
{
#if KF_CAP_PTX
    float value;
    __asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#elif KF_HALF
    return convert_float(as_half(bits));
#else
    return vload_half(0, (const half *)&bits);
#endif
}

static inline ushort kf_f16_bits(float value)
{
    ushort bits;
#if KF_CAP_PTX
    __asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#elif KF_HALF
    bits = as_ushort(convert_half_rte(value));
#else
    vstore_half_rte(value, 0, (half *)&bits);
#endif
    return bits;
}

static inline float kf_decode(kf_storage stored)
{
#if KF_DTYPE == KF_F32
    return stored;
#elif KF_DTYPE == KF_F16
    return kf_f16_value(stored);
#else
    return as_float((uint)stored << 16);
#endif
}

static inline kf_storage kf_encode(float value)
{
#if KF_DTYPE == KF_F32
    return value;
#elif KF_DTYPE == KF_F16
    return kf_f16_bits(value);
#else
    return (kf_storage)kf_bf16_bits(value);
#endif
}

static inline float kf_load(const __global kf_storage *from, long index)
{
    return kf_decode(from[index]);
}

static inline void kf_store(__global kf_storage *to, long index, float value)
{
    to[index] = kf_encode(value);
}

/* ---- one vector of KF_VEC elements; addresses are multiples of 16 bytes -------------------- */

static inline kf_pack kf_load_pack(const __global kf_storage *from, long vector)
{
    return ((const __global kf_pack *)from)[vector];
}

static inline void kf_store_pack(__global kf_storage *to, long vector, kf_pack pack)
{
    ((__global kf_pack *)to)[vector] = pack;
}

/* Two 16-bit elements, low half first. */
static inline void kf_unpack_pair(uint pair, float *low, float *high)
{
#if KF_DTYPE == KF_F16
    *low = kf_f16_value((ushort)pair);
    *high = kf_f16_value((ushort)(pair >> 16));
#else
    *low = as_float(pair << 16);
    *high = as_float(pair & 0xffff0000u);
#endif
}

static inline uint kf_pack_pair(float low, float high)
{
    uint pair;
#if KF_DTYPE == KF_F16
    pair = kf_f16_bits(low) | (uint)kf_f16_bits(high) << 16;
#elif KF_PTX_80
    __asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
    pair = kf_bf16_bits(low) | kf_bf16_bits(high) << 16;
#endif
    return pair;
}

/* Four floats, whatever the storage. Put together in memory, which compilers see through: Oclgrind
 * takes the store of a vector made element by element for two stores, the first of them
 * uninitialised. */
static inline kf_pack kf_pack_floats(const float *value)
{
    return vload4(0, (const uint *)value);
}

static inline void kf_unpack_floats(kf_pack pack, float *value)
{
    value[0] = as_float(pack.x);
    value[1] = as_float(pack.y);
    value[2] = as_float(pack.z);
    value[3] = as_float(pack.w);
}

static inline void kf_unpack(kf_pack pack, float *value)
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

static inline kf_pack kf_repack(const float *value)
{
#if KF_DTYPE == KF_F32
    return kf_pack_floats(value);
#else
    uint pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = kf_pack_pair(value[2 * i], value[2 * i + 1]);
    return vload4(0, pair);
#endif
}

/* KF_VEC elements as they are stored, from wherever they lay. */
static inline kf_pack kf_pack_storage(const kf_storage *stored)
{
#if KF_DTYPE == KF_F32
    return kf_pack_floats(stored);
#else
    uint pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = stored[2 * i] | (uint)stored[2 * i + 1] << 16;
    return vload4(0, pair);
#endif
}

/* Every element the same. */
static inline kf_pack kf_splat(float value)
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
static inline kf_pack kf_again(kf_pack pack, uint zero)
{
#if KF_DTYPE != KF_F32
    pack |= zero;
#endif
    return pack;
}

/* ---- maths -------------------------------------------------------------------------------- */

/* 2^x, relative error at most 3 ulp; about 2^-22 and flushed denormals by PTX. */
static inline float kf_exp2(float x)
{
#if KF_CAP_PTX
    float power;
    __asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#else
    return exp2(x);
#endif
}

/* Maximum that propagates NaN, as fmax does not. */
static inline float kf_max(float a, float b)
{
#if KF_PTX_80
    float max;
    __asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
    return max;
#else
    return a > b || a != a ? a : b;
#endif
}

#if KF_DTYPE != KF_F32 && KF_PTX_80
static inline uint kf_max_pair(uint a, uint b)
{
    uint max;
#if KF_DTYPE == KF_F16
    __asm("max.f16x2 %0, %1, %2;" : "=r"(max) : "r"(a), "r"(b));
#else
    __asm("max.bf16x2 %0, %1, %2;" : "=r"(max) : "r"(a), "r"(b));
#endif
    return max;
}
#endif

/* The largest element; a NaN may be passed over. */
static inline float kf_pack_max(kf_pack pack)
{
#if KF_DTYPE != KF_F32 && KF_PTX_80
    float low, high;
    kf_unpack_pair(kf_max_pair(kf_max_pair(pack.x, pack.y), kf_max_pair(pack.z, pack.w)), &low,
                   &high);
    return fmax(low, high);
#else
    float value[KF_VEC];
    kf_unpack(pack, value);
#pragma unroll
    for (int i = 1; i < KF_VEC; i++)
        value[0] = fmax(value[0], value[i]);
    return value[0];
#endif
}

/* ---- reductions --------------------------------------------------------------------------- */

#if KF_CAP_SUBGROUPS
/* Intel's extension comes first: it is the one written for OpenCL C 1.2. */
#ifdef cl_intel_subgroups
#pragma OPENCL EXTENSION cl_intel_subgroups : enable
#define KF_SHUFFLE_XOR intel_sub_group_shuffle_xor
#else
#pragma OPENCL EXTENSION cl_khr_subgroup_shuffle : enable
#define KF_SHUFFLE_XOR sub_group_shuffle_xor
#endif
static inline float kf_shuffle(float value, int mask)
{
    return KF_SHUFFLE_XOR(value, (uint)mask);
}
#elif KF_CAP_SHUFFLE
static inline float kf_shuffle(float value, int mask)
{
    float other;
    __asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, -1;" : "=f"(other) : "f"(value), "r"(mask));
    return other;
}
#else
static inline float kf_shuffle(float value, int mask) /* KF_WARP is 1: never called */
{
    return value;
}
#endif

/* Over `width` neighbouring lanes, a power of two up to KF_WARP; every lane gets the result. All
 * lanes of the warp must be here. */
static inline float kf_warp_max(float value, int width)
{
#pragma unroll
    for (int step = KF_WARP / 2; step > 0; step /= 2)
        if (step < width)
            value = kf_max(value, kf_shuffle(value, step));
    return value;
}

static inline float kf_warp_sum(float value, int width)
{
#pragma unroll
    for (int step = KF_WARP / 2; step > 0; step /= 2)
        if (step < width)
            value += kf_shuffle(value, step);
    return value;
}

/* Floats of local memory that a reduction over `lanes` work-items needs for each of its rows. */
#define KF_SLOTS(lanes) ((lanes) > KF_WARP ? (lanes) / KF_WARP : 0)

/* Lanes of a warp that go over `slots` slots together: a power of two. */
#define KF_SLOT_LANES(slots)                                                                       \
    ((slots) >= KF_WARP || (slots) > 16 ? KF_WARP                                                  \
     : (slots) > 8                      ? 16                                                       \
     : (slots) > 4                      ? 8                                                        \
     : (slots) > 2                      ? 4                                                        \
                                        : (slots))

/* Over `lanes` neighbouring work-items, a power of two; `lane` is this one's place among them and
 * `slot` their KF_SLOTS(lanes) floats. Every work-item gets the result. All of the group must be
 * here. With shuffles, each warp reduces all slots itself, which saves a second barrier; without, a
 * tree. */
static inline float kf_group_max(float value, int lanes, int lane, __local float *slot)
{
    value = kf_warp_max(value, lanes < KF_WARP ? lanes : KF_WARP);
    if (lanes > KF_WARP) {
        if (lane % KF_WARP == 0)
            slot[lane / KF_WARP] = value;
        barrier(CLK_LOCAL_MEM_FENCE);
#if KF_CAP_SHUFFLE
        value = kf_warp_max(slot[lane % (lanes / KF_WARP)], lanes / KF_WARP);
#else
        for (int half_lanes = lanes / 2; half_lanes > 0; half_lanes /= 2) {
            if (lane < half_lanes)
                slot[lane] = kf_max(slot[lane], slot[lane + half_lanes]);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        value = slot[0];
        barrier(CLK_LOCAL_MEM_FENCE); /* the slots may be used again */
#endif
    }
    return value;
}

static inline float kf_group_sum(float value, int lanes, int lane, __local float *slot)
{
    value = kf_warp_sum(value, lanes < KF_WARP ? lanes : KF_WARP);
    if (lanes > KF_WARP) {
        if (lane % KF_WARP == 0)
            slot[lane / KF_WARP] = value;
        barrier(CLK_LOCAL_MEM_FENCE);
#if KF_CAP_SHUFFLE
        value = kf_warp_sum(slot[lane % (lanes / KF_WARP)], lanes / KF_WARP);
#else
        for (int half_lanes = lanes / 2; half_lanes > 0; half_lanes /= 2) {
            if (lane < half_lanes)
                slot[lane] += slot[lane + half_lanes];
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        value = slot[0];
        barrier(CLK_LOCAL_MEM_FENCE); /* the slots may be used again */
#endif
    }
    return value;
}
