/* OpenCL's error codes: their names, and what they mean for the caller of libkfuse.
 * SPDX-License-Identifier: Apache-2.0 */
#include "opencl.h"

/* In no header: NVIDIA's driver answers with it when a kernel touched memory that is not its own.
 */
#define CODE_NVIDIA_ILLEGAL_ACCESS (-9999)

#define NAMED(code)                                                                                \
    {                                                                                              \
        code, #code                                                                                \
    }
static const struct {
    cl_int code;
    const char *name;
} names[] = {
    NAMED(CL_DEVICE_NOT_FOUND),
    NAMED(CL_DEVICE_NOT_AVAILABLE),
    NAMED(CL_COMPILER_NOT_AVAILABLE),
    NAMED(CL_MEM_OBJECT_ALLOCATION_FAILURE),
    NAMED(CL_OUT_OF_RESOURCES),
    NAMED(CL_OUT_OF_HOST_MEMORY),
    NAMED(CL_PROFILING_INFO_NOT_AVAILABLE),
    NAMED(CL_MEM_COPY_OVERLAP),
    NAMED(CL_BUILD_PROGRAM_FAILURE),
    NAMED(CL_MISALIGNED_SUB_BUFFER_OFFSET),
    NAMED(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
    NAMED(CL_INVALID_VALUE),
    NAMED(CL_INVALID_PLATFORM),
    NAMED(CL_INVALID_DEVICE),
    NAMED(CL_INVALID_CONTEXT),
    NAMED(CL_INVALID_QUEUE_PROPERTIES),
    NAMED(CL_INVALID_COMMAND_QUEUE),
    NAMED(CL_INVALID_MEM_OBJECT),
    NAMED(CL_INVALID_BINARY),
    NAMED(CL_INVALID_BUILD_OPTIONS),
    NAMED(CL_INVALID_PROGRAM),
    NAMED(CL_INVALID_PROGRAM_EXECUTABLE),
    NAMED(CL_INVALID_KERNEL_NAME),
    NAMED(CL_INVALID_KERNEL_DEFINITION),
    NAMED(CL_INVALID_KERNEL),
    NAMED(CL_INVALID_ARG_INDEX),
    NAMED(CL_INVALID_ARG_VALUE),
    NAMED(CL_INVALID_ARG_SIZE),
    NAMED(CL_INVALID_KERNEL_ARGS),
    NAMED(CL_INVALID_WORK_DIMENSION),
    NAMED(CL_INVALID_WORK_GROUP_SIZE),
    NAMED(CL_INVALID_WORK_ITEM_SIZE),
    NAMED(CL_INVALID_GLOBAL_OFFSET),
    NAMED(CL_INVALID_EVENT_WAIT_LIST),
    NAMED(CL_INVALID_EVENT),
    NAMED(CL_INVALID_OPERATION),
    NAMED(CL_INVALID_BUFFER_SIZE),
    NAMED(CL_INVALID_GLOBAL_WORK_SIZE),
    NAMED(CL_INVALID_PROPERTY),
    NAMED(CL_PLATFORM_NOT_FOUND_KHR),
    {CODE_NVIDIA_ILLEGAL_ACCESS, "illegal access by a kernel"},
};

const char *opencl_code_name(cl_int code)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].code == code)
            return names[i].name;
    return "unknown code";
}

static kf_status status_of(opencl_phase phase, cl_int code)
{
    switch (code) {
    case CL_OUT_OF_HOST_MEMORY:
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
        return KF_OUT_OF_MEMORY;
    case CL_OUT_OF_RESOURCES:
    case CL_INVALID_BUFFER_SIZE:
        return phase == OPENCL_ALLOCATE ? KF_OUT_OF_MEMORY : KF_DEVICE_FAILED;
    case CL_PLATFORM_NOT_FOUND_KHR:
    case CL_DEVICE_NOT_FOUND:
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_COMPILER_NOT_AVAILABLE:
        return KF_UNAVAILABLE;
    case CL_INVALID_WORK_GROUP_SIZE:
    case CL_INVALID_WORK_ITEM_SIZE:
    case CL_INVALID_GLOBAL_WORK_SIZE:
        return KF_UNSUPPORTED;
    case CL_INVALID_ARG_INDEX:
    case CL_INVALID_ARG_SIZE:
    case CL_INVALID_ARG_VALUE:
    case CL_INVALID_KERNEL_ARGS:
    case CL_MEM_COPY_OVERLAP:
        return KF_INVALID;
    default:
        return KF_DEVICE_FAILED;
    }
}

/* Does anything still work afterwards? A launch that is refused for want of resources leaves the
 * context whole; the same code from a wait means that a kernel died and took the context with it.
 */
static bool is_sticky(opencl_phase phase, cl_int code)
{
    switch (code) {
    case CODE_NVIDIA_ILLEGAL_ACCESS:
    case CL_DEVICE_NOT_AVAILABLE:
        return true;
    case CL_INVALID_COMMAND_QUEUE: /* our queues are valid until NVIDIA's driver gives up on them */
        return phase == OPENCL_ENQUEUE || phase == OPENCL_WAIT;
    case CL_OUT_OF_RESOURCES:
    case CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST:
        return phase == OPENCL_WAIT;
    default:
        return false;
    }
}

static const char *remedy_of(kf_status status, bool sticky)
{
    if (sticky)
        return "; the device's context is lost, a new process is needed";
    switch (status) {
    case KF_OUT_OF_MEMORY:
        return "; free memory or take smaller shapes";
    case KF_UNAVAILABLE:
        return "; kfuse doctor says what is missing";
    case KF_UNSUPPORTED:
        return "; the device or this kernel cannot take so large a group or grid";
    default:
        return "";
    }
}

kf_status opencl_fail(kf_device *device, opencl_phase phase, const char *call, cl_int code)
{
    kf_status status = status_of(phase, code);
    bool sticky = is_sticky(phase, code);
    if (device && sticky)
        device->lost = true;
    return kf_fail(status, "%s: %s (%d)%s%s%s", call, opencl_code_name(code), (int)code,
                   device ? " on " : "", device ? device->info.id : "", remedy_of(status, sticky));
}

/* The same code is given for a command refused for want of resources, after which all is well, and
 * by a context that died of an earlier one: waiting tells them apart. An adopted queue is never
 * waited for; if its context is dead, the next call that waits will say so. */
kf_status opencl_fail_queued(kf_queue *queue, const char *call, cl_int code)
{
    if (code == CL_OUT_OF_RESOURCES) {
        if (!queue->adopted && cl.clFinish(opencl_queue_of(queue)->queue) != CL_SUCCESS)
            return opencl_fail(queue->device, OPENCL_WAIT, call, code);
        return kf_fail(KF_DEVICE_FAILED,
                       "%s: %s (%d): %s refuses it, most likely for want of local "
                       "memory, registers or free memory",
                       call, opencl_code_name(code), (int)code, queue->device->info.id);
    }
    return opencl_fail(queue->device, OPENCL_ENQUEUE, call, code);
}
