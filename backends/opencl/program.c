/* Programs and kernels: building, keeping binaries, launching. SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- building ----------------------------------------------------------------------------- */

/* Always C 1.2 and exact maths. Of -g Oclgrind knows nothing and PoCL prints noise; the fast-maths
 * flags switch NaN off. Whoever wants them says so in KFUSE_BUILD_OPTIONS. */
static kf_status build_options(const opencl_device *device, const kf_program_desc *desc,
                               char *options, size_t bytes)
{
    const char *user = secure_getenv("KFUSE_BUILD_OPTIONS");
    char cap[48] = "";
    if (device->nvidia_compiler && desc->register_cap > 0)
        snprintf(cap, sizeof cap, " -cl-nv-maxrregcount=%d", desc->register_cap);
    int length = snprintf(options, bytes, "-cl-std=CL1.2%s%s%s%s",
                          device->nvidia_compiler ? " -cl-nv-verbose" : "", cap,
                          user && user[0] ? " " : "", user ? user : "");
    if (length < 0 || (size_t)length >= bytes)
        return kf_fail(KF_INVALID, "KFUSE_BUILD_OPTIONS is longer than %zu bytes", bytes);
    return KF_OK;
}

static kf_status create_program(opencl_device *device, const kf_program_desc *desc,
                                cl_program *program)
{
    cl_int code = CL_SUCCESS;
    if (!desc->binary) {
        const char *text = desc->text;
        *program = cl.clCreateProgramWithSource(device->context, 1, &text, NULL, &code);
        return *program
                   ? KF_OK
                   : opencl_fail(&device->base, OPENCL_ALLOCATE, "clCreateProgramWithSource", code);
    }
    const unsigned char *binary = desc->binary;
    *program = cl.clCreateProgramWithBinary(device->context, 1, &device->id, &desc->binary_bytes,
                                            &binary, NULL, &code);
    if (*program)
        return KF_OK;
    return kf_fail(KF_BUILD_FAILED, "clCreateProgramWithBinary: %s (%d): %s must be built anew",
                   opencl_code_name(code), (int)code, desc->name);
}

static kf_status build_failed(const opencl_device *device, const kf_program_desc *desc,
                              cl_program program, cl_int code)
{
    char errors[600];
    if (!desc->binary && (code == CL_OUT_OF_HOST_MEMORY || code == CL_COMPILER_NOT_AVAILABLE))
        return opencl_fail(NULL, OPENCL_SETUP, "clBuildProgram", code); /* not the text's fault */
    char *log = opencl_build_log(program, device->id);
    opencl_log_errors(log ? log : "", desc, errors, sizeof errors);
    free(log);
    return kf_fail(KF_BUILD_FAILED, "clBuildProgram%s: %s (%d) on %s: %s",
                   desc->binary ? " of a stored binary" : "", opencl_code_name(code), (int)code,
                   device->base.info.id, errors);
}

kf_status opencl_program_build(kf_device *base, const kf_program_desc *desc, kf_program **out)
{
    opencl_device *device = opencl_device_of(base);
    char options[1024];
    kf_status status = build_options(device, desc, options, sizeof options);
    if (status)
        return status;
    opencl_program *program = calloc(1, sizeof *program);
    if (!program)
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a program");
    program->base.device = base;
    status = create_program(device, desc, &program->program);
    if (status)
        goto failed;
    cl_int code = cl.clBuildProgram(program->program, 1, &device->id, options, NULL, NULL);
    if (code != CL_SUCCESS) {
        status = build_failed(device, desc, program->program, code);
        cl.clReleaseProgram(program->program);
        goto failed;
    }
    *out = &program->base;
    return KF_OK;
failed:
    free(program);
    return status;
}

/* ---- keeping ------------------------------------------------------------------------------ */

/* Where our device stands among the program's: an adopted context may have several. */
static cl_int binary_place(cl_program program, cl_device_id id, size_t *place, size_t *devices,
                           size_t *bytes)
{
    cl_device_id ids[OPENCL_MAX_DEVICES];
    size_t sizes[OPENCL_MAX_DEVICES] = {0}, got = 0;
    cl_int code = cl.clGetProgramInfo(program, CL_PROGRAM_DEVICES, sizeof ids, ids, &got);
    if (code == CL_SUCCESS)
        code = cl.clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof sizes, sizes, NULL);
    *devices = got / sizeof ids[0];
    *bytes = 0;
    for (size_t i = 0; code == CL_SUCCESS && i < *devices; i++)
        if (ids[i] == id) {
            *place = i;
            *bytes = sizes[i];
        }
    return code;
}

kf_status opencl_program_save(kf_program *base, void **data, size_t *bytes)
{
    cl_program program = ((opencl_program *)base)->program;
    unsigned char *binaries[OPENCL_MAX_DEVICES] = {NULL}; /* NULL = not wanted */
    size_t place = 0, devices = 0;
    cl_int code =
        binary_place(program, opencl_device_of(base->device)->id, &place, &devices, bytes);
    if (code != CL_SUCCESS)
        return opencl_fail(base->device, OPENCL_SETUP, "clGetProgramInfo", code);
    if (!*bytes)
        return kf_fail(KF_UNSUPPORTED, "OpenCL: %s gives no binary of a program",
                       base->device->info.id);
    binaries[place] = malloc(*bytes);
    if (!binaries[place])
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a binary of %zu bytes", *bytes);
    /* Of exactly this size: rusticl aborts the process when there is room for more. */
    code = cl.clGetProgramInfo(program, CL_PROGRAM_BINARIES, devices * sizeof binaries[0], binaries,
                               NULL);
    if (code != CL_SUCCESS) {
        free(binaries[place]);
        return opencl_fail(base->device, OPENCL_SETUP, "clGetProgramInfo", code);
    }
    *data = binaries[place];
    return KF_OK;
}

kf_status opencl_program_close(kf_program *base)
{
    kf_device *device = base->device;
    cl_int code = cl.clReleaseProgram(((opencl_program *)base)->program);
    free(base);
    if (code != CL_SUCCESS)
        return opencl_fail(device, OPENCL_SETUP, "clReleaseProgram", code);
    return KF_OK;
}

/* ---- kernels ------------------------------------------------------------------------------ */

/* Threads that the kernel can be launched with. A group size that the text demands and the compiler
 * took is possible, whatever the query says: rusticl on llvmpipe answers 32 and runs 1024. */
static int kernel_threads(const opencl_device *device, cl_kernel kernel)
{
    size_t threads = 0, demanded[3] = {0};
    if (cl.clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_WORK_GROUP_SIZE, sizeof threads,
                                    &threads, NULL) != CL_SUCCESS)
        return 0;
    if (cl.clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_COMPILE_WORK_GROUP_SIZE,
                                    sizeof demanded, demanded, NULL) == CL_SUCCESS &&
        demanded[0] > threads)
        threads = demanded[0];
    return threads > INT32_MAX ? INT32_MAX : (int)threads;
}

static void kernel_resources(opencl_device *device, cl_program program, cl_kernel kernel,
                             const char *entry, kf_kernel_info *info)
{
    cl_ulong local = 0;
    *info = (kf_kernel_info){.registers = -1, .spill_bytes = -1, .local_bytes = -1};
    info->max_threads = kernel_threads(device, kernel);
    if (cl.clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_LOCAL_MEM_SIZE, sizeof local,
                                    &local, NULL) == CL_SUCCESS)
        info->local_bytes = (int64_t)local;
    if (!device->nvidia_compiler)
        return;
    char *log = opencl_build_log(program, device->id);
    if (log)
        opencl_log_resources(log, entry, &info->registers, &info->spill_bytes);
    free(log);
}

kf_status opencl_kernel_open(kf_program *base, const char *entry, kf_kernel_info *info,
                             kf_kernel **out)
{
    opencl_device *device = opencl_device_of(base->device);
    cl_program program = ((opencl_program *)base)->program;
    cl_int code = CL_SUCCESS;
    cl_uint count = 0;
    cl_kernel native = cl.clCreateKernel(program, entry, &code);
    if (!native && code == CL_INVALID_KERNEL_NAME)
        return kf_fail(KF_BUILD_FAILED, "clCreateKernel: the program has no entry %s", entry);
    if (!native)
        return opencl_fail(base->device, OPENCL_ALLOCATE, "clCreateKernel", code);
    code = cl.clGetKernelInfo(native, CL_KERNEL_NUM_ARGS, sizeof count, &count, NULL);
    if (code != CL_SUCCESS) {
        cl.clReleaseKernel(native);
        return opencl_fail(base->device, OPENCL_SETUP, "clGetKernelInfo", code);
    }
    opencl_kernel *kernel = calloc(1, sizeof *kernel + count * sizeof kernel->arguments[0]);
    if (!kernel) {
        cl.clReleaseKernel(native);
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a kernel");
    }
    kernel->base.device = base->device;
    kernel->kernel = native;
    kernel->argument_count = (int)count;
    if (info)
        kernel_resources(device, program, native, entry, info);
    *out = &kernel->base;
    return KF_OK;
}

kf_status opencl_kernel_close(kf_kernel *base)
{
    kf_device *device = base->device;
    cl_int code = cl.clReleaseKernel(((opencl_kernel *)base)->kernel);
    free(base);
    if (code != CL_SUCCESS)
        return opencl_fail(device, OPENCL_SETUP, "clReleaseKernel", code);
    return KF_OK;
}

/* ---- launching ---------------------------------------------------------------------------- */

/* The value as the driver wants it, and as bits that are equal only if the value is the same: of a
 * float not its value (NaN, -0), of a buffer not its address, which the next buffer may get. */
static size_t argument_of(const kf_value *value, const void **data, uint64_t *bits)
{
    static const cl_mem none = NULL;
    *data = &value->as;
    *bits = 0;
    switch (value->kind) {
    case KF_VALUE_BUFFER:
        *data = &opencl_buffer_of(value->as.buffer)->memory;
        *bits = opencl_buffer_of(value->as.buffer)->serial;
        return sizeof(cl_mem);
    case KF_VALUE_ABSENT:
        *data = &none;
        return sizeof(cl_mem);
    case KF_VALUE_I64:
        memcpy(bits, &value->as.i64, sizeof(cl_long));
        return sizeof(cl_long);
    default:
        memcpy(bits, &value->as, sizeof(cl_int));
        return sizeof(cl_int); /* as large as cl_float */
    }
}

/* Only what changed since this kernel's last launch: setting arguments is most of what a launch
 * costs the host, and between two runs of an exec hardly any changes. */
static cl_int set_arguments(opencl_kernel *kernel, const kf_launch *launch)
{
    for (int i = 0; i < launch->value_count; i++) {
        const void *data;
        uint64_t bits;
        opencl_argument *now = &kernel->arguments[i];
        size_t bytes = argument_of(&launch->values[i], &data, &bits);
        if (now->set && now->kind == launch->values[i].kind && now->bits == bits)
            continue;
        now->set = false; /* unknown, should the call fail */
        cl_int code = cl.clSetKernelArg(kernel->kernel, (cl_uint)i, bytes, data);
        if (code != CL_SUCCESS)
            return code;
        *now = (opencl_argument){.kind = launch->values[i].kind, .bits = bits, .set = true};
    }
    return CL_SUCCESS;
}

kf_status opencl_launch(kf_queue *base, const kf_launch *launch)
{
    opencl_kernel *kernel = (opencl_kernel *)launch->kernel;
    size_t local = (size_t)launch->threads, global = 0;
    if (launch->cluster > 1)
        return kf_fail(KF_UNSUPPORTED, "OpenCL: there are no clusters of work-groups");
    if (launch->value_count != kernel->argument_count)
        return kf_fail(KF_INVALID, "OpenCL: the kernel takes %d arguments, the launch has %d",
                       kernel->argument_count, launch->value_count);
    if (__builtin_mul_overflow((size_t)launch->groups, local, &global))
        return kf_fail(KF_INVALID, "OpenCL: %lld groups of %d threads overflow the global size",
                       (long long)launch->groups, launch->threads);
    cl_int code = set_arguments(kernel, launch);
    if (code != CL_SUCCESS)
        return opencl_fail_queued(base, "clSetKernelArg", code);
    code = cl.clEnqueueNDRangeKernel(opencl_queue_of(base)->queue, kernel->kernel, 1, NULL, &global,
                                     &local, 0, NULL, NULL);
    return code == CL_SUCCESS ? KF_OK : opencl_fail_queued(base, "clEnqueueNDRangeKernel", code);
}
