/* The part of NVIDIA's driver API and of NVRTC that kfuse calls, declared here so that kfuse
 * compiles on a machine without the toolkit and starts on one without the driver. Every type, value
 * and prototype is part of a published, stable ABI; tests/test_cuda_api.c compares all of them with
 * <cuda.h> and <nvrtc.h> where these are found. The function lists are cuda.fn and nvrtc.fn.
 *
 * Enumerations of the API are `unsigned int` here: the compiler's own choice for them, and it lets
 * the test compare whole prototypes. Opaque handles keep the API's struct tags for the same reason.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KFCU_API_H
#define KFCU_API_H

#include <stddef.h>

typedef unsigned int kfcu_result; /* CUresult; 0 = success */
typedef unsigned int kfcu_enum;   /* any other enumeration of the driver API */
typedef int kfcu_device;          /* CUdevice: the ordinal */
typedef unsigned long long kfcu_deviceptr;

typedef struct CUctx_st *kfcu_context;
typedef struct CUmod_st *kfcu_module;
typedef struct CUfunc_st *kfcu_function;
typedef struct CUstream_st *kfcu_stream;
typedef struct CUevent_st *kfcu_event;
typedef struct CUgraph_st *kfcu_graph;
typedef struct CUgraphExec_st *kfcu_graph_exec;

typedef struct kfcu_uuid {
    char bytes[16];
} kfcu_uuid;

typedef struct kfcu_launch_attribute { /* CUlaunchAttribute: only the cluster's dimension is used */
    kfcu_enum id;
    char pad[4];
    union {
        char pad[64]; /* size and alignment are part of the ABI: attributes come as an array */
        void *align;
        struct {
            unsigned int x, y, z;
        } cluster;
    } value;
} kfcu_launch_attribute;

typedef struct kfcu_launch_config { /* CUlaunchConfig */
    unsigned int grid_x, grid_y, grid_z;
    unsigned int block_x, block_y, block_z;
    unsigned int shared_bytes;
    kfcu_stream stream;
    kfcu_launch_attribute *attributes;
    unsigned int attribute_count;
} kfcu_launch_config;

/* VALUE(name of the API, value): one list gives KF_<name> here and the comparison in the test. */
#define KFCU_VALUES(VALUE)                                                                         \
    VALUE(CUDA_SUCCESS, 0)                                                                         \
    VALUE(CUDA_ERROR_INVALID_VALUE, 1)                                                             \
    VALUE(CUDA_ERROR_OUT_OF_MEMORY, 2)                                                             \
    VALUE(CUDA_ERROR_DEINITIALIZED, 4)                                                             \
    VALUE(CUDA_ERROR_STUB_LIBRARY, 34)                                                             \
    VALUE(CUDA_ERROR_DEVICE_UNAVAILABLE, 46)                                                       \
    VALUE(CUDA_ERROR_NO_DEVICE, 100)                                                               \
    VALUE(CUDA_ERROR_INVALID_DEVICE, 101)                                                          \
    VALUE(CUDA_ERROR_DEVICE_NOT_LICENSED, 102)                                                     \
    VALUE(CUDA_ERROR_INVALID_IMAGE, 200)                                                           \
    VALUE(CUDA_ERROR_INVALID_CONTEXT, 201)                                                         \
    VALUE(CUDA_ERROR_NO_BINARY_FOR_GPU, 209)                                                       \
    VALUE(CUDA_ERROR_ECC_UNCORRECTABLE, 214)                                                       \
    VALUE(CUDA_ERROR_INVALID_PTX, 218)                                                             \
    VALUE(CUDA_ERROR_NVLINK_UNCORRECTABLE, 220)                                                    \
    VALUE(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, 221)                                                  \
    VALUE(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222)                                                 \
    VALUE(CUDA_ERROR_JIT_COMPILATION_DISABLED, 223)                                                \
    VALUE(CUDA_ERROR_INVALID_SOURCE, 300)                                                          \
    VALUE(CUDA_ERROR_INVALID_HANDLE, 400)                                                          \
    VALUE(CUDA_ERROR_NOT_FOUND, 500)                                                               \
    VALUE(CUDA_ERROR_ILLEGAL_ADDRESS, 700)                                                         \
    VALUE(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, 701)                                                 \
    VALUE(CUDA_ERROR_LAUNCH_TIMEOUT, 702)                                                          \
    VALUE(CUDA_ERROR_CONTEXT_IS_DESTROYED, 709)                                                    \
    VALUE(CUDA_ERROR_ASSERT, 710)                                                                  \
    VALUE(CUDA_ERROR_HARDWARE_STACK_ERROR, 714)                                                    \
    VALUE(CUDA_ERROR_ILLEGAL_INSTRUCTION, 715)                                                     \
    VALUE(CUDA_ERROR_MISALIGNED_ADDRESS, 716)                                                      \
    VALUE(CUDA_ERROR_INVALID_ADDRESS_SPACE, 717)                                                   \
    VALUE(CUDA_ERROR_INVALID_PC, 718)                                                              \
    VALUE(CUDA_ERROR_LAUNCH_FAILED, 719)                                                           \
    VALUE(CUDA_ERROR_NOT_SUPPORTED, 801)                                                           \
    VALUE(CUDA_ERROR_SYSTEM_NOT_READY, 802)                                                        \
    VALUE(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)                                                  \
    VALUE(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, 804)                                          \
    VALUE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900)                                              \
    VALUE(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, 901)                                              \
    VALUE(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, 908)                                             \
    VALUE(CUDA_ERROR_INVALID_CLUSTER_SIZE, 912)                                                    \
    VALUE(CUDA_ERROR_UNKNOWN, 999)                                                                 \
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1)                                            \
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 5)                                                   \
    VALUE(CU_DEVICE_ATTRIBUTE_WARP_SIZE, 10)                                                       \
    VALUE(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16)                                            \
    VALUE(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 38)                                                   \
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 39)                                  \
    VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75)                                        \
    VALUE(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)                                        \
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 81)                            \
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 82)                                \
    VALUE(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 97)                               \
    VALUE(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 120)                                                 \
    VALUE(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 0)                                              \
    VALUE(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 1)                                                  \
    VALUE(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, 3)                                                   \
    VALUE(CU_FUNC_ATTRIBUTE_NUM_REGS, 4)                                                           \
    VALUE(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 8)                                      \
    VALUE(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 14)                                 \
    VALUE(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, 4)                                                \
    VALUE(CU_JIT_MAX_REGISTERS, 0)                                                                 \
    VALUE(CU_JIT_ERROR_LOG_BUFFER, 5)                                                              \
    VALUE(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, 6)                                                   \
    VALUE(CU_STREAM_NON_BLOCKING, 1)                                                               \
    VALUE(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, 1)                                                  \
    VALUE(CU_EVENT_DEFAULT, 0)                                                                     \
    VALUE(CU_EVENT_DISABLE_TIMING, 2)

#define KFNVRTC_VALUES(VALUE)                                                                      \
    VALUE(NVRTC_SUCCESS, 0)                                                                        \
    VALUE(NVRTC_ERROR_OUT_OF_MEMORY, 1)                                                            \
    VALUE(NVRTC_ERROR_INVALID_OPTION, 5)                                                           \
    VALUE(NVRTC_ERROR_COMPILATION, 6)

enum {
#define VALUE(name, value) KF_##name = (value),
    KFCU_VALUES(VALUE) KFNVRTC_VALUES(VALUE)
#undef VALUE
};

/* The table of driver entries, filled once by kfcu_load(): kfcu.MemAlloc(&address, bytes). */
typedef struct kfcu_table {
#define KFCU_FN(name, symbol, parameters) kfcu_result(*name) parameters;
#include "cuda.fn"
#undef KFCU_FN
} kfcu_table;

typedef unsigned int kfnvrtc_result; /* nvrtcResult */
typedef struct _nvrtcProgram *kfnvrtc_program;

typedef struct kfnvrtc_table {
    const char *(*GetErrorString)(kfnvrtc_result result);
#define KFNVRTC_FN(name, symbol, parameters) kfnvrtc_result(*name) parameters;
#include "nvrtc.fn"
#undef KFNVRTC_FN
} kfnvrtc_table;

#endif
