/* Buffers: cl_mem objects of our own, or the caller's, retained. SPDX-License-Identifier:
 * Apache-2.0 */
#include "opencl.h"

#include <stdlib.h>

static kf_status create_memory(opencl_device *device, size_t bytes, cl_mem *memory)
{
    cl_int code = CL_SUCCESS;
    int64_t limit = device->base.info.target.max_buffer_bytes;
    /* Asked before the driver is: Oclgrind has no check of its own and dies of a huge size. */
    if (limit > 0 && bytes > (uint64_t)limit)
        return kf_fail(KF_OUT_OF_MEMORY,
                       "clCreateBuffer: %zu bytes, but %s allows %lld in one "
                       "buffer (CL_DEVICE_MAX_MEM_ALLOC_SIZE); take smaller shapes",
                       bytes, device->base.info.id, (long long)limit);
    *memory = cl.clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    return *memory ? KF_OK : opencl_fail(&device->base, OPENCL_ALLOCATE, "clCreateBuffer", code);
}

/* What the caller hands over must be a buffer of this context with room for the range. */
static kf_status check_native(opencl_device *device, const kf_buffer_desc *desc)
{
    cl_mem native = desc->native;
    cl_context context = NULL;
    cl_mem_object_type type = 0;
    size_t bytes = 0;
    if (!native)
        return kf_fail(KF_INVALID, "OpenCL: wrapping a buffer needs a cl_mem");
    cl_int code = cl.clGetMemObjectInfo(native, CL_MEM_CONTEXT, sizeof(cl_context), &context, NULL);
    if (code == CL_SUCCESS)
        code = cl.clGetMemObjectInfo(native, CL_MEM_TYPE, sizeof type, &type, NULL);
    if (code == CL_SUCCESS)
        code = cl.clGetMemObjectInfo(native, CL_MEM_SIZE, sizeof bytes, &bytes, NULL);
    if (code != CL_SUCCESS)
        return kf_fail(KF_INVALID,
                       "OpenCL: the wrapped buffer is refused, clGetMemObjectInfo: %s "
                       "(%d)",
                       opencl_code_name(code), (int)code);
    if (context != device->context || type != CL_MEM_OBJECT_BUFFER)
        return kf_fail(KF_INVALID, "OpenCL: the wrapped cl_mem is %s",
                       type != CL_MEM_OBJECT_BUFFER ? "no buffer" : "of another context");
    if (desc->native_offset > bytes || desc->bytes > bytes - desc->native_offset)
        return kf_fail(KF_INVALID,
                       "OpenCL: %zu bytes from byte %zu do not fit the wrapped cl_mem of "
                       "%zu",
                       desc->bytes, desc->native_offset, bytes);
    return KF_OK;
}

/* A cl_mem cannot be shifted: an offset needs a sub-buffer, which starts at the base alignment
 * only. */
static kf_status wrap_part(opencl_device *device, const kf_buffer_desc *desc, cl_mem *memory)
{
    cl_mem parent = NULL, native = desc->native;
    size_t parent_offset = 0, alignment = (size_t)device->base.info.target.base_alignment;
    cl_int code =
        cl.clGetMemObjectInfo(native, CL_MEM_ASSOCIATED_MEMOBJECT, sizeof parent, &parent, NULL);
    if (code == CL_SUCCESS && parent) /* a part of a part is made from the whole */
        code = cl.clGetMemObjectInfo(native, CL_MEM_OFFSET, sizeof parent_offset, &parent_offset,
                                     NULL);
    if (code != CL_SUCCESS)
        return opencl_fail(&device->base, OPENCL_SETUP, "clGetMemObjectInfo", code);
    cl_buffer_region region = {parent_offset + desc->native_offset, desc->bytes};
    if (region.origin % alignment)
        return kf_fail(
            KF_UNSUPPORTED,
            "OpenCL: byte %zu of a cl_mem cannot begin a buffer on %s, whose "
            "alignment is %zu bytes; wrap the whole cl_mem and pass the offset in elements "
            "in the binding",
            region.origin, device->base.info.id, alignment);
    *memory = cl.clCreateSubBuffer(parent ? parent : native, 0, CL_BUFFER_CREATE_TYPE_REGION,
                                   &region, &code);
    return *memory ? KF_OK : opencl_fail(&device->base, OPENCL_ALLOCATE, "clCreateSubBuffer", code);
}

static kf_status wrap_memory(opencl_device *device, const kf_buffer_desc *desc, cl_mem *memory)
{
    kf_status status = check_native(device, desc);
    if (status || desc->native_offset)
        return status ? status : wrap_part(device, desc, memory);
    cl_int code = cl.clRetainMemObject(desc->native);
    if (code != CL_SUCCESS)
        return opencl_fail(&device->base, OPENCL_SETUP, "clRetainMemObject", code);
    *memory = desc->native;
    return KF_OK;
}

/* The caller's host memory may begin anywhere, and on a CPU that is where kernels read; 0 = the
 * driver's own memory, aligned as it says. */
static int host_alignment(const kf_buffer_desc *desc)
{
    cl_mem_flags flags = 0;
    void *host = NULL;
    if (cl.clGetMemObjectInfo(desc->native, CL_MEM_FLAGS, sizeof flags, &flags, NULL) !=
            CL_SUCCESS ||
        !(flags & CL_MEM_USE_HOST_PTR) ||
        cl.clGetMemObjectInfo(desc->native, CL_MEM_HOST_PTR, sizeof(void *), &host, NULL) !=
            CL_SUCCESS)
        return 0;
    const uintptr_t address = ((uintptr_t)host + desc->native_offset) | 4096; /* as far as needed */
    return (int)(address & (~address + 1));
}

kf_status opencl_buffer_open(kf_device *base, const kf_buffer_desc *desc, kf_buffer **out)
{
    opencl_device *device = opencl_device_of(base);
    opencl_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a buffer");
    kf_status status = desc->adopt ? wrap_memory(device, desc, &buffer->memory)
                                   : create_memory(device, desc->bytes, &buffer->memory);
    if (status) {
        free(buffer);
        return status;
    }
    buffer->serial = ++device->next_serial;
    buffer->base = (kf_buffer){.device = base,
                               .bytes = desc->bytes,
                               .alignment = desc->adopt ? host_alignment(desc) : 0,
                               .adopted = desc->adopt};
    *out = &buffer->base;
    return KF_OK;
}

kf_status opencl_buffer_close(kf_buffer *base)
{
    kf_device *device = base->device;
    cl_int code = cl.clReleaseMemObject(opencl_buffer_of(base)->memory);
    free(base);
    if (code != CL_SUCCESS)
        return opencl_fail(device, OPENCL_SETUP, "clReleaseMemObject", code);
    return KF_OK;
}

kf_status opencl_buffer_write(kf_queue *queue, kf_buffer *buffer, size_t offset, const void *data,
                              size_t bytes)
{
    cl_int code =
        cl.clEnqueueWriteBuffer(opencl_queue_of(queue)->queue, opencl_buffer_of(buffer)->memory,
                                CL_TRUE, offset, bytes, data, 0, NULL, NULL);
    if (code != CL_SUCCESS)
        return opencl_fail_queued(queue, "clEnqueueWriteBuffer", code);
    return KF_OK;
}

kf_status opencl_buffer_read(kf_queue *queue, kf_buffer *buffer, size_t offset, void *data,
                             size_t bytes)
{
    cl_int code =
        cl.clEnqueueReadBuffer(opencl_queue_of(queue)->queue, opencl_buffer_of(buffer)->memory,
                               CL_TRUE, offset, bytes, data, 0, NULL, NULL);
    if (code != CL_SUCCESS)
        return opencl_fail_queued(queue, "clEnqueueReadBuffer", code);
    return KF_OK;
}

kf_status opencl_buffer_fill(kf_queue *queue, kf_buffer *buffer, size_t offset, size_t bytes,
                             uint32_t pattern, int pattern_bytes)
{
    uint8_t one = (uint8_t)pattern;
    uint16_t two = (uint16_t)pattern;
    const void *bits = pattern_bytes == 1   ? (void *)&one
                       : pattern_bytes == 2 ? (void *)&two
                                            : (void *)&pattern;
    cl_int code =
        cl.clEnqueueFillBuffer(opencl_queue_of(queue)->queue, opencl_buffer_of(buffer)->memory,
                               bits, (size_t)pattern_bytes, offset, bytes, 0, NULL, NULL);
    if (code != CL_SUCCESS)
        return opencl_fail_queued(queue, "clEnqueueFillBuffer", code);
    return KF_OK;
}

kf_status opencl_buffer_copy(kf_queue *queue, kf_buffer *to, size_t to_offset, kf_buffer *from,
                             size_t from_offset, size_t bytes)
{
    cl_int code = cl.clEnqueueCopyBuffer(
        opencl_queue_of(queue)->queue, opencl_buffer_of(from)->memory, opencl_buffer_of(to)->memory,
        from_offset, to_offset, bytes, 0, NULL, NULL);
    if (code != CL_SUCCESS)
        return opencl_fail_queued(queue, "clEnqueueCopyBuffer", code);
    return KF_OK;
}
