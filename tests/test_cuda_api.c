/* backends/cuda/api.h against the toolkit's own headers. The comparison happens while this file is
 * compiled: an entry that disagrees is a compile error that names it. What is left for run time is
 * what only a library can tell: that every symbol of the lists is exported by the libraries found.
 *
 * KF_HAVE_CUDA_HEADERS is defined by CMake where <cuda.h> and <nvrtc.h> are in the include path.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <string.h>

#include "../backends/cuda/api.h"

#ifdef KF_HAVE_CUDA_HEADERS
#include <cuda.h>
#include <nvrtc.h>

#define VALUE(name, value) _Static_assert((value) == (name), #name " differs from the toolkit's");
KFCU_VALUES(VALUE)
KFNVRTC_VALUES(VALUE)
#undef VALUE

#define SAME_SIZE(own, theirs)                                                                     \
    _Static_assert(sizeof(own) == sizeof(theirs), #theirs " has another size");                    \
    _Static_assert(_Alignof(own) == _Alignof(theirs), #theirs " has another alignment")
#define SAME_FIELD(own, field, theirs, their_field)                                                \
    _Static_assert(offsetof(own, field) == offsetof(theirs, their_field),                          \
                   #theirs "." #their_field " lies elsewhere");                                    \
    _Static_assert(sizeof(((own *)0)->field) == sizeof(((theirs *)0)->their_field),                \
                   #theirs "." #their_field " has another size")
#define SAME_TYPE(own, theirs)                                                                     \
    _Static_assert(__builtin_types_compatible_p(own, theirs), #theirs " is another type")

SAME_SIZE(kfcu_result, CUresult);
SAME_SIZE(kfcu_enum, CUdevice_attribute);
SAME_SIZE(kfcu_enum, CUfunction_attribute);
SAME_SIZE(kfcu_enum, CUjit_option);
SAME_SIZE(kfcu_enum, CUstreamCaptureMode);
SAME_SIZE(kfcu_enum, CUlaunchAttributeID);
SAME_SIZE(kfnvrtc_result, nvrtcResult);
SAME_TYPE(kfcu_device, CUdevice);
SAME_TYPE(kfcu_deviceptr, CUdeviceptr);
SAME_TYPE(kfcu_context, CUcontext);
SAME_TYPE(kfcu_module, CUmodule);
SAME_TYPE(kfcu_function, CUfunction);
SAME_TYPE(kfcu_stream, CUstream);
SAME_TYPE(kfcu_event, CUevent);
SAME_TYPE(kfcu_graph, CUgraph);
SAME_TYPE(kfcu_graph_exec, CUgraphExec);
SAME_TYPE(kfnvrtc_program, nvrtcProgram);

SAME_SIZE(kfcu_uuid, CUuuid);
SAME_SIZE(kfcu_launch_attribute, CUlaunchAttribute);
SAME_FIELD(kfcu_launch_attribute, id, CUlaunchAttribute, id);
SAME_FIELD(kfcu_launch_attribute, value, CUlaunchAttribute, value);
SAME_FIELD(kfcu_launch_attribute, value.cluster, CUlaunchAttribute, value.clusterDim);
SAME_FIELD(kfcu_launch_attribute, value.cluster.x, CUlaunchAttribute, value.clusterDim.x);
SAME_FIELD(kfcu_launch_attribute, value.cluster.y, CUlaunchAttribute, value.clusterDim.y);
SAME_FIELD(kfcu_launch_attribute, value.cluster.z, CUlaunchAttribute, value.clusterDim.z);
SAME_SIZE(kfcu_launch_config, CUlaunchConfig);
SAME_FIELD(kfcu_launch_config, grid_x, CUlaunchConfig, gridDimX);
SAME_FIELD(kfcu_launch_config, grid_y, CUlaunchConfig, gridDimY);
SAME_FIELD(kfcu_launch_config, grid_z, CUlaunchConfig, gridDimZ);
SAME_FIELD(kfcu_launch_config, block_x, CUlaunchConfig, blockDimX);
SAME_FIELD(kfcu_launch_config, block_y, CUlaunchConfig, blockDimY);
SAME_FIELD(kfcu_launch_config, block_z, CUlaunchConfig, blockDimZ);
SAME_FIELD(kfcu_launch_config, shared_bytes, CUlaunchConfig, sharedMemBytes);
SAME_FIELD(kfcu_launch_config, stream, CUlaunchConfig, hStream);
SAME_FIELD(kfcu_launch_config, attributes, CUlaunchConfig, attrs);
SAME_FIELD(kfcu_launch_config, attribute_count, CUlaunchConfig, numAttrs);

/* The two structs compared above have tags of their own: stand the toolkit's in for them, so that
 * the whole prototype can be compared. Enumerations are compatible with unsigned int as they are.
 */
#define kfcu_uuid CUuuid
#define kfcu_launch_config CUlaunchConfig
#define KFCU_FN(name, symbol, parameters)                                                          \
    _Static_assert(__builtin_types_compatible_p(__typeof__(&symbol), kfcu_result(*) parameters),   \
                   "prototype of " #symbol " differs from the toolkit's");
#include "../backends/cuda/cuda.fn"
#undef KFCU_FN
#undef kfcu_uuid
#undef kfcu_launch_config

#define KFNVRTC_FN(name, symbol, parameters)                                                       \
    _Static_assert(                                                                                \
        __builtin_types_compatible_p(__typeof__(&symbol), kfnvrtc_result(*) parameters),           \
        "prototype of " #symbol " differs from the toolkit's");
#include "../backends/cuda/nvrtc.fn"
#undef KFNVRTC_FN
_Static_assert(__builtin_types_compatible_p(__typeof__(&nvrtcGetErrorString),
                                            const char *(*)(kfnvrtc_result)),
               "prototype of nvrtcGetErrorString differs from the toolkit's");
#endif

static void headers_were_compared(void **state)
{
    (void)state;
#ifndef KF_HAVE_CUDA_HEADERS
    print_message("the toolkit's headers are not here: nothing was compared\n");
    skip();
#endif
}

/* A plain name where the list needs the _v2 one is a silent ABI error (cuMemAlloc takes 32-bit
 * sizes): wherever the toolkit renames an entry, the list must name what it renames it to. */
static void symbols_are_the_current_ones(void **state)
{
    (void)state;
#ifdef KF_HAVE_CUDA_HEADERS
#define EXPANDED(symbol) #symbol
#define TOOLKIT_NAME(symbol) EXPANDED(symbol)
#define KFCU_FN(name, symbol, parameters)                                                          \
    if (strcmp(#symbol, "cuEventElapsedTime") != 0) { /* _v2 is newer than CUDA 12.0 */            \
        assert_string_equal(TOOLKIT_NAME(symbol), #symbol);                                        \
    }
#include "../backends/cuda/cuda.fn"
#undef KFCU_FN
#else
    skip();
#endif
}

static void every_symbol_is_exported(void **state)
{
    (void)state;
    int missing = 0;
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *nvrtc = dlopen("libnvrtc.so.13", RTLD_NOW | RTLD_LOCAL);
#define KFCU_FN(name, symbol, parameters)                                                          \
    if (cuda && !dlsym(cuda, #symbol)) {                                                           \
        print_error("libcuda.so.1 has no %s\n", #symbol);                                          \
        missing++;                                                                                 \
    }
#include "../backends/cuda/cuda.fn"
#undef KFCU_FN
#define KFNVRTC_FN(name, symbol, parameters)                                                       \
    if (nvrtc && !dlsym(nvrtc, #symbol)) {                                                         \
        print_error("libnvrtc has no %s\n", #symbol);                                              \
        missing++;                                                                                 \
    }
#include "../backends/cuda/nvrtc.fn"
#undef KFNVRTC_FN
    assert_int_equal(missing, 0);
    if (!cuda && !nvrtc) {
        skip();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_were_compared),
        cmocka_unit_test(symbols_are_the_current_ones),
        cmocka_unit_test(every_symbol_is_exported),
    };
    return cmocka_run_group_tests_name("cuda_api", tests, NULL, NULL) ? 1 : 0;
}
