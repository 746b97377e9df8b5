/* The OpenCL backend: its table, and the device and queue slots. What a launch costs the host on
 * the drivers met is said where it matters (program.c).
 *
 * Everything is OpenCL 1.2, in-order queues and buffers: the common ground of NVIDIA's driver,
 * PoCL, rusticl, Intel's runtime and Oclgrind. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "opencl.h"

#include <stdlib.h>
#include <time.h>

extern const kf_backend kf_backend_opencl;
const kf_backend kf_backend_opencl = {.name = "opencl",
                                      .kernels = "opencl",
                                      .suffix = "cl",
#define SLOT(verb, parameters) .verb = opencl_##verb,
                                      KF_SLOTS(SLOT)
#undef SLOT
};

/* ---- devices ------------------------------------------------------------------------------ */

/* The caller's context and device; the place says where the loader lists it, -1 for a sub-device.
 */
static kf_status adopt_context(const kf_device_desc *desc, opencl_device *device,
                               opencl_place *place)
{
    cl_device_id members[OPENCL_MAX_DEVICES];
    opencl_place places[OPENCL_MAX_DEVICES];
    size_t bytes = 0;
    int count = 0;
    bool member = false;
    if (!desc->native || !desc->native_device)
        return kf_fail(KF_INVALID, "OpenCL: adopting needs a cl_context and a cl_device_id");
    device->context = desc->native;
    device->id = desc->native_device;
    cl_int code =
        cl.clGetContextInfo(device->context, CL_CONTEXT_DEVICES, sizeof members, members, &bytes);
    if (code != CL_SUCCESS)
        return opencl_fail(NULL, OPENCL_SETUP, "clGetContextInfo", code);
    for (size_t i = 0; i < bytes / sizeof members[0]; i++)
        member = member || members[i] == device->id;
    if (!member)
        return kf_fail(KF_INVALID, "OpenCL: the adopted device is not one of the context's");
    *place = (opencl_place){.device = device->id, .platform_index = -1, .device_index = -1};
    code = cl.clGetDeviceInfo(device->id, CL_DEVICE_PLATFORM, sizeof place->platform,
                              &place->platform, NULL);
    if (code != CL_SUCCESS)
        return opencl_fail(NULL, OPENCL_SETUP, "clGetDeviceInfo", code);
    if (opencl_places(places, &count) == KF_OK)
        for (int i = 0; i < count; i++)
            if (places[i].device == device->id)
                *place = places[i];
    return KF_OK;
}

static kf_status choose_device(const kf_device_desc *desc, opencl_device *device,
                               opencl_place *place)
{
    opencl_place places[OPENCL_MAX_DEVICES];
    int count = 0;
    kf_status status = opencl_places(places, &count);
    if (status)
        return status;
    if (desc->index < 0 || desc->index >= count)
        return kf_fail(KF_UNAVAILABLE, "OpenCL: no device with index %d, there are %d", desc->index,
                       count);
    *place = places[desc->index];
    device->id = place->device;
    return KF_OK;
}

/* Holds a reference to the caller's objects, so that they outlive us whatever the caller does. */
static kf_status hold_context(const kf_device_desc *desc, opencl_device *device,
                              const opencl_place *place)
{
    cl_int code = CL_SUCCESS;
    if (desc->adopt) {
        code = cl.clRetainContext(device->context);
        if (code != CL_SUCCESS)
            return opencl_fail(NULL, OPENCL_SETUP, "clRetainContext", code);
        code = cl.clRetainDevice(device->id);
        if (code == CL_SUCCESS)
            return KF_OK;
        cl.clReleaseContext(device->context);
        return opencl_fail(NULL, OPENCL_SETUP, "clRetainDevice", code);
    }
    cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                          (cl_context_properties)place->platform, 0};
    device->context = cl.clCreateContext(properties, 1, &device->id, NULL, NULL, &code);
    if (!device->context)
        return opencl_fail(NULL, OPENCL_ALLOCATE, "clCreateContext", code);
    return KF_OK;
}

kf_status opencl_device_open(const kf_device_desc *desc, kf_device **out)
{
    opencl_place place;
    kf_status status = opencl_load();
    if (status)
        return status;
    opencl_device *device = calloc(1, sizeof *device);
    if (!device)
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a device");
    status =
        desc->adopt ? adopt_context(desc, device, &place) : choose_device(desc, device, &place);
    if (!status)
        status = hold_context(desc, device, &place);
    if (status) {
        free(device);
        return status;
    }
    opencl_describe(&place, &device->base.info);
    device->base.adopted = desc->adopt;
    device->nvidia_compiler = opencl_has_extension(device->id, "cl_nv_compiler_options");
    *out = &device->base;
    return KF_OK;
}

kf_status opencl_device_close(kf_device *base)
{
    opencl_device *device = opencl_device_of(base);
    cl_int code = cl.clReleaseContext(device->context);
    if (base->adopted)
        cl.clReleaseDevice(device->id);
    free(device);
    return code == CL_SUCCESS ? KF_OK : opencl_fail(NULL, OPENCL_SETUP, "clReleaseContext", code);
}

/* ---- queues ------------------------------------------------------------------------------- */

static kf_status adopt_queue(opencl_device *device, const kf_queue_desc *desc, opencl_queue *queue)
{
    cl_command_queue_properties properties = 0;
    cl_context context = NULL;
    cl_device_id id = NULL;
    if (!desc->native)
        return kf_fail(KF_INVALID, "OpenCL: adopting a queue needs a cl_command_queue");
    queue->queue = desc->native;
    cl_int code = cl.clGetCommandQueueInfo(queue->queue, CL_QUEUE_PROPERTIES, sizeof properties,
                                           &properties, NULL);
    if (code == CL_SUCCESS)
        code = cl.clGetCommandQueueInfo(queue->queue, CL_QUEUE_CONTEXT, sizeof context, &context,
                                        NULL);
    if (code == CL_SUCCESS)
        code = cl.clGetCommandQueueInfo(queue->queue, CL_QUEUE_DEVICE, sizeof id, &id, NULL);
    if (code != CL_SUCCESS)
        return kf_fail(KF_INVALID,
                       "OpenCL: the adopted queue is refused, clGetCommandQueueInfo: "
                       "%s (%d)",
                       opencl_code_name(code), (int)code);
    if (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE)
        return kf_fail(KF_INVALID,
                       "OpenCL: an out-of-order queue cannot be adopted, the steps of a "
                       "plan rely on their order");
    if (context != device->context || id != device->id)
        return kf_fail(KF_INVALID,
                       "OpenCL: the adopted queue belongs to another context or device");
    code = cl.clRetainCommandQueue(queue->queue);
    if (code != CL_SUCCESS)
        return opencl_fail(&device->base, OPENCL_SETUP, "clRetainCommandQueue", code);
    queue->device_clock = properties & CL_QUEUE_PROFILING_ENABLE;
    return KF_OK;
}

static kf_status create_queue(opencl_device *device, opencl_queue *queue)
{
    cl_int code = CL_SUCCESS;
    queue->queue =
        cl.clCreateCommandQueue(device->context, device->id, CL_QUEUE_PROFILING_ENABLE, &code);
    if (!queue->queue)
        return opencl_fail(&device->base, OPENCL_ALLOCATE, "clCreateCommandQueue", code);
    queue->device_clock = true;
    return KF_OK;
}

kf_status opencl_queue_open(kf_device *base, const kf_queue_desc *desc, kf_queue **out)
{
    opencl_device *device = opencl_device_of(base);
    opencl_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a queue");
    kf_status status = desc->adopt ? adopt_queue(device, desc, queue) : create_queue(device, queue);
    if (status) {
        free(queue);
        return status;
    }
    queue->base.device = base;
    queue->base.adopted = desc->adopt;
    if (!(base->info.target.capabilities & KF_CAP_TIMER))
        queue->device_clock = false;
    *out = &queue->base;
    return KF_OK;
}

kf_status opencl_queue_close(kf_queue *base)
{
    opencl_queue *queue = opencl_queue_of(base);
    for (int i = 0; i < KF_MAX_MARKS; i++)
        if (queue->marks[i])
            cl.clReleaseEvent(queue->marks[i]);
    /* what nobody waited for would still be compiled by rusticl's thread while the process exits */
    if (!base->adopted)
        cl.clFinish(queue->queue);
    cl_int code = cl.clReleaseCommandQueue(queue->queue);
    kf_device *device = base->device;
    free(queue);
    if (code != CL_SUCCESS)
        return opencl_fail(device, OPENCL_WAIT, "clReleaseCommandQueue", code);
    return KF_OK;
}

kf_status opencl_queue_wait(kf_queue *base, kf_queue *other)
{
    opencl_queue *queue = opencl_queue_of(base), *earlier = opencl_queue_of(other);
    cl_event event = NULL;
    const char *call = "clEnqueueMarkerWithWaitList";
    cl_int code = cl.clEnqueueMarkerWithWaitList(earlier->queue, 0, NULL, &event);
    if (code == CL_SUCCESS) {
        /* An event of a queue that was never flushed may never come (OpenCL 1.2, 5.13). */
        call = "clFlush";
        code = cl.clFlush(earlier->queue);
    }
    if (code == CL_SUCCESS) {
        call = "clEnqueueBarrierWithWaitList";
        code = cl.clEnqueueBarrierWithWaitList(queue->queue, 1, &event, NULL);
    }
    if (event)
        cl.clReleaseEvent(event);
    return code == CL_SUCCESS ? KF_OK : opencl_fail_queued(base, call, code);
}

kf_status opencl_finish(kf_queue *base)
{
    cl_int code = cl.clFinish(opencl_queue_of(base)->queue);
    return code == CL_SUCCESS ? KF_OK : opencl_fail(base->device, OPENCL_WAIT, "clFinish", code);
}

kf_status opencl_queue_native(kf_queue *base, void **native)
{
    *native = opencl_queue_of(base)->queue;
    return KF_OK;
}

/* ---- time --------------------------------------------------------------------------------- */

static double host_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static kf_status mark_by_host(opencl_queue *queue, int index)
{
    if (queue->base.adopted) /* it would have to be finished, which is the caller's to decide */
        return kf_fail(KF_UNSUPPORTED,
                       "OpenCL: an adopted queue without profiling cannot be marked; "
                       "create it with CL_QUEUE_PROFILING_ENABLE, on a device that has a timer");
    kf_status status = opencl_finish(&queue->base);
    if (!status)
        queue->host_seconds[index] = host_seconds();
    return status;
}

kf_status opencl_mark(kf_queue *base, int index)
{
    opencl_queue *queue = opencl_queue_of(base);
    cl_event event = NULL;
    if (!queue->device_clock)
        return mark_by_host(queue, index);
    cl_int code = cl.clEnqueueMarkerWithWaitList(queue->queue, 0, NULL, &event);
    if (code != CL_SUCCESS)
        return opencl_fail_queued(base, "clEnqueueMarkerWithWaitList", code);
    if (queue->marks[index])
        cl.clReleaseEvent(queue->marks[index]);
    queue->marks[index] = event;
    code = cl.clFlush(queue->queue);
    return code == CL_SUCCESS ? KF_OK : opencl_fail_queued(base, "clFlush", code);
}

static kf_status event_end(kf_device *device, cl_event event, cl_ulong *nanoseconds)
{
    cl_int code = cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof *nanoseconds,
                                             nanoseconds, NULL);
    if (code != CL_SUCCESS)
        return opencl_fail(device, OPENCL_WAIT, "clGetEventProfilingInfo", code);
    if (!*nanoseconds)
        return kf_fail(KF_UNSUPPORTED, "OpenCL: %s gives event times of 0", device->info.id);
    return KF_OK;
}

/* Between the ends of two markers: what lies between them in an in-order queue, and nothing else.
 */
kf_status opencl_elapsed(kf_queue *base, int first, int last, double *seconds)
{
    opencl_queue *queue = opencl_queue_of(base);
    cl_ulong from = 0, to = 0;
    if (!queue->device_clock && queue->host_seconds[first] > 0 && queue->host_seconds[last] > 0) {
        *seconds = queue->host_seconds[last] - queue->host_seconds[first];
        return KF_OK;
    }
    if (!queue->marks[first] || !queue->marks[last])
        return kf_fail(KF_INVALID, "OpenCL: mark %d or %d was never set in this queue", first,
                       last);
    cl_event both[] = {queue->marks[first], queue->marks[last]};
    cl_int code = cl.clWaitForEvents(2, both);
    if (code != CL_SUCCESS)
        return opencl_fail(base->device, OPENCL_WAIT, "clWaitForEvents", code);
    kf_status status = event_end(base->device, both[0], &from);
    if (!status)
        status = event_end(base->device, both[1], &to);
    if (!status)
        *seconds = 1e-9 * (double)(int64_t)(to - from); /* subtracted first: 2^60 ns need 60 bits */
    return status;
}

/* ---- replay: command buffers (cl_khr_command_buffer) come when a device here has them ---------
 */

kf_status opencl_record_begin(kf_queue *queue)
{
    return kf_fail(KF_UNSUPPORTED, "OpenCL: launches cannot be recorded on %s",
                   queue->device->info.id);
}

kf_status opencl_record_end(kf_queue *queue, kf_recording **recording)
{
    (void)recording;
    return opencl_record_begin(queue);
}

kf_status opencl_replay(kf_queue *queue, kf_recording *recording)
{
    (void)recording;
    return opencl_record_begin(queue);
}

kf_status opencl_recording_close(kf_recording *recording)
{
    (void)recording;
    return KF_UNSUPPORTED; /* there is none to close */
}
