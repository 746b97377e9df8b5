/* The cuda backend: the driver API through api.h. driver.c loads the library, device.c describes
 * devices, program.c builds and launches, nvrtc.c compiles; here are queues, buffers, time and
 * replay.
 *
 * Nothing here allocates or synchronises on the way of a launch. Streams are the caller's or made
 * non-blocking, so that nobody's NULL stream orders our work. SPDX-License-Identifier: Apache-2.0
 */
#include "cuda_internal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

const kf_backend kf_backend_cuda = {.name = "cuda",
                                    .kernels = "cuda",
                                    .suffix = "cu",
                                    .profiler = "ncu",
#define SLOT(verb, parameters) .verb = cuda_##verb,
                                    KF_SLOTS(SLOT)
#undef SLOT
};

static kfcu_stream stream_of(kf_queue *queue)
{
    return ((cuda_queue *)queue)->stream;
}

static kfcu_deviceptr address_of(kf_buffer *buffer, size_t offset)
{
    return ((cuda_buffer *)buffer)->address + offset;
}

/* ---- queues ------------------------------------------------------------------------------- */

/* A NULL stream and the two special handles belong to whatever context is current, which is ours.
 */
static kf_status check_stream(kf_device *device, kfcu_stream stream)
{
    kfcu_context context = NULL;
    if ((uintptr_t)stream <= 2) {
        return KF_OK;
    }
    kf_status status = cuda_enter(device);
    if (status == KF_OK) {
        status = cuda_leave(device, kfcu.StreamGetCtx(stream, &context), "cuStreamGetCtx");
    }
    if (status == KF_OK && context != ((cuda_device *)device)->context) {
        status = kf_fail(KF_INVALID, "cuda: the stream to adopt belongs to another context");
    }
    return status;
}

static kf_status create_stream(kf_device *device, kfcu_stream *stream)
{
    kf_status status = cuda_enter(device);
    if (status == KF_OK) {
        status = cuda_leave(device, kfcu.StreamCreate(stream, KF_CU_STREAM_NON_BLOCKING),
                            "cuStreamCreate");
    }
    return status;
}

kf_status cuda_queue_open(kf_device *device, const kf_queue_desc *desc, kf_queue **queue)
{
    cuda_queue *own = calloc(1, sizeof *own);
    if (!own) {
        return kf_fail(KF_OUT_OF_MEMORY, "cuda: no memory for a queue");
    }
    own->base.device = device;
    own->owned = !desc->adopt;
    own->stream = desc->adopt ? desc->native : NULL;
    const kf_status status =
        desc->adopt ? check_stream(device, own->stream) : create_stream(device, &own->stream);
    if (status != KF_OK) {
        free(own);
        return status;
    }
    *queue = &own->base;
    return KF_OK;
}

static void keep_first(kfcu_result *first, kfcu_result result)
{
    *first = *first == KF_CUDA_SUCCESS ? result : *first;
}

static kfcu_result destroy_queue(cuda_queue *own)
{
    kfcu_result result = KF_CUDA_SUCCESS;
    for (int i = 0; i < KF_MAX_MARKS; i++) {
        if (own->marks[i]) {
            keep_first(&result, kfcu.EventDestroy(own->marks[i]));
        }
    }
    if (own->fence) {
        keep_first(&result, kfcu.EventDestroy(own->fence));
    }
    if (own->owned) {
        keep_first(&result, kfcu.StreamDestroy(own->stream));
    }
    return result;
}

kf_status cuda_queue_close(kf_queue *queue)
{
    cuda_queue *own = (cuda_queue *)queue;
    kf_device *device = queue->device;
    const bool lost =
        device->lost; /* then every call answers with the old error, release is moot */
    kf_status status = cuda_enter(device);
    if (status == KF_OK) {
        status = cuda_leave(device, destroy_queue(own), "cuStreamDestroy");
    }
    free(own);
    return lost ? KF_OK : status;
}

static kfcu_result make_event(kfcu_event *event, unsigned int flags)
{
    return *event ? KF_CUDA_SUCCESS : kfcu.EventCreate(event, flags);
}

static kf_status record_fence(cuda_queue *other)
{
    kf_device *device = other->base.device;
    const kf_status status = cuda_enter(device);
    if (status != KF_OK) {
        return status;
    }
    kfcu_result result = make_event(&other->fence, KF_CU_EVENT_DISABLE_TIMING);
    if (result == KF_CUDA_SUCCESS) {
        result = kfcu.EventRecord(other->fence, other->stream);
    }
    return cuda_leave(device, result, "cuEventRecord");
}

kf_status cuda_queue_wait(kf_queue *queue, kf_queue *other)
{
    kf_status status = record_fence((cuda_queue *)other);
    if (status == KF_OK) {
        status = cuda_enter(queue->device);
    }
    if (status == KF_OK) {
        const kfcu_event fence = ((cuda_queue *)other)->fence;
        status = cuda_leave(queue->device, kfcu.StreamWaitEvent(stream_of(queue), fence, 0),
                            "cuStreamWaitEvent");
    }
    return status;
}

kf_status cuda_finish(kf_queue *queue)
{
    kf_status status = cuda_enter(queue->device);
    if (status == KF_OK) {
        status = cuda_leave(queue->device, kfcu.StreamSynchronize(stream_of(queue)),
                            "cuStreamSynchronize");
    }
    return status;
}

kf_status cuda_queue_native(kf_queue *queue, void **native)
{
    *native = stream_of(queue);
    return KF_OK;
}

/* ---- buffers ------------------------------------------------------------------------------ */

static kf_status allocate(kf_device *device, size_t bytes, kfcu_deviceptr *address)
{
    kf_status status = cuda_enter(device);
    if (status == KF_OK) {
        char call[64];
        snprintf(call, sizeof call, "cuMemAlloc of %zu bytes", bytes);
        status = cuda_leave(device, kfcu.MemAlloc(address, bytes), call);
    }
    return status;
}

kf_status cuda_buffer_open(kf_device *device, const kf_buffer_desc *desc, kf_buffer **buffer)
{
    kf_status status = KF_OK;
    cuda_buffer *own = calloc(1, sizeof *own);
    if (!own) {
        return kf_fail(KF_OUT_OF_MEMORY, "cuda: no memory for a buffer");
    }
    own->base.device = device;
    own->owned = !desc->adopt;
    if (desc->adopt) {
        own->address = (kfcu_deviceptr)(uintptr_t)desc->native + desc->native_offset;
        const kfcu_deviceptr place = own->address | 4096; /* as far as anyone asks */
        own->base.alignment = (int)(place & (~place + 1));
    } else {
        status = allocate(device, desc->bytes, &own->address);
    }
    if (status != KF_OK) {
        free(own);
        return status;
    }
    *buffer = &own->base;
    return KF_OK;
}

kf_status cuda_buffer_close(kf_buffer *buffer)
{
    cuda_buffer *own = (cuda_buffer *)buffer;
    kf_device *device = buffer->device;
    kf_status status = KF_OK;
    if (own->owned) {
        const bool lost = device->lost;
        status = cuda_enter(device);
        if (status == KF_OK) {
            status = cuda_leave(device, kfcu.MemFree(own->address), "cuMemFree");
        }
        status = lost ? KF_OK : status;
    }
    free(own);
    return status;
}

/* A copy from pageable memory may return before the data have left it: the synchronisation is what
 * lets the caller use its memory again. It waits for one stream, the caller's own or ours. */
kf_status cuda_buffer_write(kf_queue *queue, kf_buffer *buffer, size_t offset, const void *data,
                            size_t bytes)
{
    const kf_status status = cuda_enter(queue->device);
    if (status != KF_OK) {
        return status;
    }
    const kfcu_stream stream = stream_of(queue);
    const kfcu_result result =
        kfcu.MemcpyHtoDAsync(address_of(buffer, offset), data, bytes, stream);
    if (result != KF_CUDA_SUCCESS) {
        return cuda_leave(queue->device, result, "cuMemcpyHtoDAsync");
    }
    return cuda_leave(queue->device, kfcu.StreamSynchronize(stream), "cuStreamSynchronize");
}

kf_status cuda_buffer_read(kf_queue *queue, kf_buffer *buffer, size_t offset, void *data,
                           size_t bytes)
{
    const kf_status status = cuda_enter(queue->device);
    if (status != KF_OK) {
        return status;
    }
    const kfcu_stream stream = stream_of(queue);
    const kfcu_result result =
        kfcu.MemcpyDtoHAsync(data, address_of(buffer, offset), bytes, stream);
    if (result != KF_CUDA_SUCCESS) {
        return cuda_leave(queue->device, result, "cuMemcpyDtoHAsync");
    }
    return cuda_leave(queue->device, kfcu.StreamSynchronize(stream), "cuStreamSynchronize");
}

static kfcu_result fill(kfcu_deviceptr address, size_t bytes, uint32_t pattern, int pattern_bytes,
                        kfcu_stream stream)
{
    switch (pattern_bytes) {
    case 1:
        return kfcu.MemsetD8Async(address, (unsigned char)pattern, bytes, stream);
    case 2:
        return kfcu.MemsetD16Async(address, (unsigned short)pattern, bytes / 2, stream);
    default:
        return kfcu.MemsetD32Async(address, pattern, bytes / 4, stream);
    }
}

kf_status cuda_buffer_fill(kf_queue *queue, kf_buffer *buffer, size_t offset, size_t bytes,
                           uint32_t pattern, int pattern_bytes)
{
    kf_status status = cuda_enter(queue->device);
    if (status == KF_OK) {
        const kfcu_result result =
            fill(address_of(buffer, offset), bytes, pattern, pattern_bytes, stream_of(queue));
        status = cuda_leave(queue->device, result, "cuMemsetAsync");
    }
    return status;
}

kf_status cuda_buffer_copy(kf_queue *queue, kf_buffer *to, size_t to_offset, kf_buffer *from,
                           size_t from_offset, size_t bytes)
{
    kf_status status = cuda_enter(queue->device);
    if (status == KF_OK) {
        const kfcu_result result = kfcu.MemcpyDtoDAsync(
            address_of(to, to_offset), address_of(from, from_offset), bytes, stream_of(queue));
        status = cuda_leave(queue->device, result, "cuMemcpyDtoDAsync");
    }
    return status;
}

/* ---- time --------------------------------------------------------------------------------- */

kf_status cuda_mark(kf_queue *queue, int index)
{
    cuda_queue *own = (cuda_queue *)queue;
    const kf_status status = cuda_enter(queue->device);
    if (status != KF_OK) {
        return status;
    }
    kfcu_result result = make_event(&own->marks[index], KF_CU_EVENT_DEFAULT);
    if (result == KF_CUDA_SUCCESS) {
        result = kfcu.EventRecord(own->marks[index], own->stream);
    }
    return cuda_leave(queue->device, result, "cuEventRecord");
}

kf_status cuda_elapsed(kf_queue *queue, int first, int last, double *seconds)
{
    const cuda_queue *own = (const cuda_queue *)queue;
    float milliseconds = 0;
    if (!own->marks[first] || !own->marks[last]) {
        return kf_fail(KF_INVALID, "cuda: mark %d was never made on this queue",
                       own->marks[first] ? last : first);
    }
    const kf_status status = cuda_enter(queue->device);
    if (status != KF_OK) {
        return status;
    }
    kfcu_result result = kfcu.EventSynchronize(own->marks[last]);
    if (result == KF_CUDA_SUCCESS) {
        result = kfcu.EventElapsedTime(&milliseconds, own->marks[first], own->marks[last]);
    }
    *seconds = 1e-3 * (double)milliseconds;
    return cuda_leave(queue->device, result, "cuEventElapsedTime");
}

/* ---- replay ------------------------------------------------------------------------------- */

/* Thread-local: a call of this thread that could not be replayed (an allocation, a synchronisation)
 * is an error here instead of a graph that lacks it; other threads are left alone. */
kf_status cuda_record_begin(kf_queue *queue)
{
    kf_status status = cuda_enter(queue->device);
    if (status == KF_OK) {
        const kfcu_result result =
            kfcu.StreamBeginCapture(stream_of(queue), KF_CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        status = cuda_leave(queue->device, result, "cuStreamBeginCapture");
    }
    return status;
}

/* A graph's instance is a copy of it. No instance stays behind a failure. */
static kfcu_result instantiate(kfcu_graph graph, kfcu_graph_exec *exec, const char **call)
{
    *call = "cuGraphInstantiate";
    kfcu_result result = kfcu.GraphInstantiate(exec, graph, 0);
    const kfcu_result destroyed = kfcu.GraphDestroy(graph);
    if (result == KF_CUDA_SUCCESS && destroyed != KF_CUDA_SUCCESS) {
        kfcu.GraphExecDestroy(*exec);
        *call = "cuGraphDestroy";
        result = destroyed;
    }
    return result;
}

/* Whatever happened in between, the stream leaves its capturing state; `own` may be NULL for that.
 */
static kf_status end_capture(kf_queue *queue, cuda_recording *own)
{
    kfcu_graph graph = NULL;
    const char *call = "cuStreamEndCapture";
    const kf_status status = cuda_enter(queue->device);
    if (status != KF_OK) {
        return status;
    }
    kfcu_result result = kfcu.StreamEndCapture(stream_of(queue), &graph);
    if (result == KF_CUDA_SUCCESS) {
        result = own ? instantiate(graph, &own->exec, &call) : kfcu.GraphDestroy(graph);
    }
    return cuda_leave(queue->device, result, call);
}

kf_status cuda_record_end(kf_queue *queue, kf_recording **recording)
{
    cuda_recording *own = calloc(1, sizeof *own);
    const kf_status status = end_capture(queue, own);
    if (!own) {
        return kf_fail(KF_OUT_OF_MEMORY, "cuda: no memory for a recording");
    }
    if (status != KF_OK) {
        free(own);
        return status;
    }
    own->base.device = queue->device;
    *recording = &own->base;
    return KF_OK;
}

kf_status cuda_replay(kf_queue *queue, kf_recording *recording)
{
    kf_status status = cuda_enter(queue->device);
    if (status == KF_OK) {
        const kfcu_graph_exec exec = ((cuda_recording *)recording)->exec;
        status =
            cuda_leave(queue->device, kfcu.GraphLaunch(exec, stream_of(queue)), "cuGraphLaunch");
    }
    return status;
}

kf_status cuda_recording_close(kf_recording *recording)
{
    cuda_recording *own = (cuda_recording *)recording;
    kf_device *device = recording->device;
    const bool lost = device->lost;
    kf_status status = cuda_enter(device);
    if (status == KF_OK) {
        status = cuda_leave(device, kfcu.GraphExecDestroy(own->exec), "cuGraphExecDestroy");
    }
    free(own);
    return lost ? KF_OK : status;
}
