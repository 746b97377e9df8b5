/* A libcuda.so.1 without a GPU: every symbol of backends/cuda/cuda.fn in host memory, with faults
 * on demand. It lets the whole CUDA backend run where there is no NVIDIA driver; it proves order,
 * arguments, balance of contexts, clean-up and sentences, not numbers. It is strict where the
 * driver is: a call without a current context is an error. Here: devices, contexts, streams,
 * events; work.c has the rest. SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct CUctx_st contexts[8];
static atomic_int retained[8];
static _Thread_local kfcu_context stack[MAX_DEPTH];
static _Thread_local int depth;
static struct CUstream_st null_stream;
static atomic_int live;
static int device_count = 2, arch = 90;

static struct {
    char symbol[64];
    int armed, nth, forever, seen;
    kfcu_result code;
    const char *hit;
} fault;

void fake_cuda_fail(const char *symbol, int nth, unsigned int code, int forever)
{
    memset(&fault, 0, sizeof fault);
    if (symbol) {
        snprintf(fault.symbol, sizeof fault.symbol, "%s", symbol);
        fault.armed = 1;
        fault.nth = nth;
        fault.forever = forever;
        fault.code = code;
    }
}

int fake_cuda_seen(void)
{
    return fault.seen;
}

const char *fake_cuda_hit(void)
{
    return fault.hit ? fault.hit : "";
}

int fake_cuda_live(void)
{
    return live;
}

int fake_cuda_depth(void)
{
    return depth;
}

int fake_cuda_retained(int device)
{
    return retained[device];
}

void *fake_cuda_current(void)
{
    return depth ? stack[depth - 1] : NULL;
}

/* Popping is never refused, and pushing only by name: without a context nothing can be released. */
kfcu_result fake_enter(const char *symbol, int needs_context)
{
    const int any = !fault.symbol[0] && strcmp(symbol, "cuCtxPushCurrent_v2") != 0;
    if (fault.armed && (any || strcmp(symbol, fault.symbol) == 0)) {
        const int index = fault.seen++;
        if (index == fault.nth || (fault.forever && index > fault.nth)) {
            fault.hit = fault.hit ? fault.hit : symbol;
            return fault.code;
        }
    }
    return needs_context && depth == 0 ? KF_CUDA_ERROR_INVALID_CONTEXT : KF_CUDA_SUCCESS;
}

static int number(const char *variable, int standard)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : standard;
}

/* Allocates an object that the driver would count. */
kfcu_result fake_make(const char *symbol, size_t bytes, void *object)
{
    const kfcu_result result = fake_enter(symbol, 1);
    void *made = result ? NULL : calloc(1, bytes);
    if (made) {
        live++;
        memcpy(object, &made, sizeof made);
    }
    return result ? result : made ? KF_CUDA_SUCCESS : KF_CUDA_ERROR_OUT_OF_MEMORY;
}

/* Even where the driver answers with an old error, the object is gone. */
kfcu_result fake_destroy(const char *symbol, void *object)
{
    const kfcu_result result = fake_enter(symbol, 1);
    live--;
    free(object);
    return result;
}

void fake_forget(void *object)
{
    live -= object != NULL;
    free(object);
}

/* ---- driver and devices ------------------------------------------------------------------- */

kfcu_result cuInit(unsigned int flags)
{
    (void)flags;
    device_count = number("FAKE_CUDA_DEVICES", 2);
    arch = number("FAKE_CUDA_ARCH", 90);
    for (int i = 0; i < 8; i++) {
        contexts[i].ordinal = i;
    }
    return (kfcu_result)number("FAKE_CUDA_INIT", 0);
}

kfcu_result cuDriverGetVersion(int *version)
{
    *version = number("FAKE_CUDA_VERSION", 12080);
    return KF_CUDA_SUCCESS;
}

kfcu_result cuGetErrorName(kfcu_result result, const char **name)
{
    *name = NULL;
#define VALUE(value_name, value)                                                                   \
    if (!*name && result == (value)) {                                                             \
        *name = #value_name;                                                                       \
    }
    KFCU_VALUES(VALUE)
#undef VALUE
    return *name ? KF_CUDA_SUCCESS : KF_CUDA_ERROR_INVALID_VALUE;
}

kfcu_result cuGetErrorString(kfcu_result result, const char **text)
{
    (void)result;
    *text = "as the test asked";
    return KF_CUDA_SUCCESS;
}

kfcu_result cuDeviceGetCount(int *count)
{
    *count = device_count;
    return fake_enter("cuDeviceGetCount", 0);
}

kfcu_result cuDeviceGet(kfcu_device *device, int ordinal)
{
    *device = ordinal;
    return fake_enter("cuDeviceGet", 0);
}

kfcu_result cuDeviceGetName(char *name, int bytes, kfcu_device device)
{
    snprintf(name, (size_t)bytes, "Fake GPU %d", device);
    return fake_enter("cuDeviceGetName", 0);
}

kfcu_result cuDeviceGetUuid_v2(kfcu_uuid *uuid, kfcu_device device)
{
    memset(uuid->bytes, 0x50 + device, sizeof uuid->bytes);
    return KF_CUDA_SUCCESS;
}

kfcu_result cuDeviceGetPCIBusId(char *text, int bytes, kfcu_device device)
{
    snprintf(text, (size_t)bytes, "0000:%02X:00.0", 0x1a + device);
    return KF_CUDA_SUCCESS;
}

kfcu_result cuDeviceTotalMem_v2(size_t *bytes, kfcu_device device)
{
    (void)device;
    *bytes = MEMORY_BYTES;
    return KF_CUDA_SUCCESS;
}

kfcu_result cuDeviceGetAttribute(int *value, kfcu_enum attribute, kfcu_device device)
{
    static const struct {
        kfcu_enum attribute;
        int value;
    } table[] = {
        {KF_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
        {KF_CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
        {KF_CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
        {KF_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
        {KF_CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 62914560},
        {KF_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
        {KF_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
        {KF_CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
        {KF_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
    };
    (void)device;
    *value = attribute == KF_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? arch / 10
             : attribute == KF_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? arch % 10
             : attribute == KF_CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH           ? arch >= 90
                                                                            : 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        *value = table[i].attribute == attribute ? table[i].value : *value;
    }
    return KF_CUDA_SUCCESS;
}

/* ---- contexts ----------------------------------------------------------------------------- */

kfcu_result cuDevicePrimaryCtxRetain(kfcu_context *context, kfcu_device device)
{
    const kfcu_result result = fake_enter("cuDevicePrimaryCtxRetain", 0);
    if (result == KF_CUDA_SUCCESS) {
        *context = &contexts[device];
        retained[device]++;
        live++;
    }
    return result;
}

kfcu_result cuDevicePrimaryCtxRelease_v2(kfcu_device device)
{
    retained[device]--;
    live--;
    return fake_enter("cuDevicePrimaryCtxRelease_v2", 0);
}

kfcu_result cuCtxPushCurrent_v2(kfcu_context context)
{
    const kfcu_result result = fake_enter("cuCtxPushCurrent_v2", 0);
    if (result == KF_CUDA_SUCCESS && depth < MAX_DEPTH) {
        stack[depth++] = context;
    }
    return result;
}

kfcu_result cuCtxPopCurrent_v2(kfcu_context *context)
{
    if (depth == 0) {
        return KF_CUDA_ERROR_INVALID_CONTEXT;
    }
    *context = stack[--depth];
    return KF_CUDA_SUCCESS;
}

kfcu_result cuCtxGetCurrent(kfcu_context *context)
{
    const kfcu_result result = fake_enter("cuCtxGetCurrent", 0);
    *context = depth > 0 ? stack[depth - 1] : NULL;
    return result;
}

kfcu_result cuCtxGetDevice(kfcu_device *device)
{
    const kfcu_result result = fake_enter("cuCtxGetDevice", 1);
    *device = result == KF_CUDA_SUCCESS ? stack[depth - 1]->ordinal : -1;
    return result;
}

/* ---- streams and events ------------------------------------------------------------------- */

struct CUstream_st *fake_stream(kfcu_stream stream)
{
    return (uintptr_t)stream <= 2 ? &null_stream : stream;
}

kfcu_result cuStreamCreate(kfcu_stream *stream, unsigned int flags)
{
    (void)flags;
    const kfcu_result result = fake_make("cuStreamCreate", sizeof **stream, stream);
    if (result == KF_CUDA_SUCCESS) {
        (*stream)->context = stack[depth - 1];
    }
    return result;
}

kfcu_result cuStreamDestroy_v2(kfcu_stream stream)
{
    return fake_destroy("cuStreamDestroy_v2", stream);
}

kfcu_result cuStreamGetCtx(kfcu_stream stream, kfcu_context *context)
{
    *context = fake_stream(stream)->context;
    return fake_enter("cuStreamGetCtx", 1);
}

kfcu_result cuStreamSynchronize(kfcu_stream stream)
{
    const kfcu_result result = fake_enter("cuStreamSynchronize", 1);
    return result                         ? result
           : fake_stream(stream)->capture ? KF_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
                                          : KF_CUDA_SUCCESS;
}

kfcu_result cuStreamWaitEvent(kfcu_stream stream, kfcu_event event, unsigned int flags)
{
    (void)stream;
    (void)flags;
    const kfcu_result result = fake_enter("cuStreamWaitEvent", 1);
    return result || event->recorded ? result : KF_CUDA_ERROR_INVALID_HANDLE;
}

kfcu_result cuEventCreate(kfcu_event *event, unsigned int flags)
{
    (void)flags;
    return fake_make("cuEventCreate", sizeof **event, event);
}

kfcu_result cuEventDestroy_v2(kfcu_event event)
{
    return fake_destroy("cuEventDestroy_v2", event);
}

kfcu_result cuEventRecord(kfcu_event event, kfcu_stream stream)
{
    static atomic_int time;
    (void)stream;
    const kfcu_result result = fake_enter("cuEventRecord", 1);
    if (result == KF_CUDA_SUCCESS) {
        event->recorded = ++time;
    }
    return result;
}

kfcu_result cuEventSynchronize(kfcu_event event)
{
    (void)event;
    return fake_enter("cuEventSynchronize", 1);
}

kfcu_result cuEventElapsedTime(float *milliseconds, kfcu_event first, kfcu_event last)
{
    *milliseconds = (float)(last->recorded - first->recorded);
    return fake_enter("cuEventElapsedTime", 1);
}
