/* Programs and kernels of the cuda backend. SPDX-License-Identifier: Apache-2.0 */
#include "cuda_internal.h"
#include "nvrtc.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dynamic shared memory above this needs an opt-in per kernel */
enum { PLAIN_SHARED_BYTES = 48 * 1024, PORTABLE_CLUSTER = 8 };

/* ---- programs ----------------------------------------------------------------------------- */

/* The driver is handed an address without a length: a cut cubin or PTX without its end would make
 * it read past our memory. A cubin is an ELF file whose tables must lie inside it. */
static bool image_complete(const void *image, size_t bytes)
{
    const unsigned char *text = image;
    if (bytes < SELFMAG || memcmp(text, ELFMAG, SELFMAG) != 0) {
        return bytes > 0 && text[bytes - 1] == 0;
    }
    Elf64_Ehdr head;
    if (bytes < sizeof head) {
        return false;
    }
    memcpy(&head, image, sizeof head);
    const uint64_t sections = (uint64_t)head.e_shnum * head.e_shentsize;
    const uint64_t segments = (uint64_t)head.e_phnum * head.e_phentsize;
    return sections <= bytes && head.e_shoff <= bytes - sections && segments <= bytes &&
           head.e_phoff <= bytes - segments;
}

static kf_status keep_image(cuda_program *own, const void *image, size_t bytes)
{
    if (!image_complete(image, bytes)) {
        return kf_fail(KF_BUILD_FAILED,
                       "%s: the saved binary of %zu bytes is not whole; build it anew", own->name,
                       bytes);
    }
    own->image = malloc(bytes);
    if (!own->image) {
        return kf_fail(KF_OUT_OF_MEMORY, "no memory for the %zu bytes of %s", bytes, own->name);
    }
    memcpy(own->image, image, bytes);
    own->image_bytes = bytes;
    return KF_OK;
}

static kf_status compile_image(cuda_program *own, const kf_device *device,
                               const kf_program_desc *desc)
{
    char arch[40];
    kfcu_binary binary = {.data = NULL};
    snprintf(arch, sizeof arch, "%s%s", device->info.arch, desc->arch_specific ? "a" : "");
    const kfcu_source source = {
        .text = desc->text,
        .name = own->name,
        .arch = arch,
        .entries = desc->entries,
        .entry_count = desc->entry_count,
        .register_cap = desc->register_cap,
    };
    const kf_status status = kfcu_compile(&source, &binary);
    own->image = binary.data;
    own->image_bytes = binary.bytes;
    return status;
}

/* desc->threads and least_groups have no option in CUDA: the text's __launch_bounds__ carries them.
 */
static kf_status load_image(cuda_program *own, kf_device *device, int register_cap)
{
    char log[512] = "", call[700];
    kfcu_enum options[] = {KF_CU_JIT_ERROR_LOG_BUFFER, KF_CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
                           KF_CU_JIT_MAX_REGISTERS};
    void *values[] = {log, (void *)(uintptr_t)sizeof log, (void *)(uintptr_t)register_cap};
    const kf_status status = cuda_enter(device);
    if (status != KF_OK) {
        return status;
    }
    const kfcu_result result =
        kfcu.ModuleLoadDataEx(&own->module, own->image, register_cap > 0 ? 3 : 2, options, values);
    log[sizeof log - 1] = 0;
    log[strcspn(log, "\r\n")] = 0;
    snprintf(call, sizeof call, "cuModuleLoadData of %s for %s%s%s", own->name, device->info.arch,
             log[0] ? ": " : "", log);
    return cuda_leave(device, result, call);
}

static void free_program(cuda_program *own)
{
    free(own->image);
    free(own);
}

kf_status cuda_program_build(kf_device *device, const kf_program_desc *desc, kf_program **program)
{
    cuda_program *own = calloc(1, sizeof *own);
    if (!own) {
        return kf_fail(KF_OUT_OF_MEMORY, "cuda: no memory for a program");
    }
    own->base.device = device;
    own->local_bytes = desc->local_bytes;
    snprintf(own->name, sizeof own->name, "%s", desc->name ? desc->name : "a kernel text");
    kf_status status = desc->binary ? keep_image(own, desc->binary, desc->binary_bytes)
                                    : compile_image(own, device, desc);
    if (status == KF_OK) {
        status = load_image(own, device, desc->register_cap);
    }
    if (status != KF_OK) {
        free_program(own);
        return status;
    }
    *program = &own->base;
    return KF_OK;
}

kf_status cuda_program_save(kf_program *program, void **data, size_t *bytes)
{
    const cuda_program *own = (const cuda_program *)program;
    void *copy = malloc(own->image_bytes);
    if (!copy) {
        return kf_fail(KF_OUT_OF_MEMORY, "no memory for the %zu bytes of %s", own->image_bytes,
                       own->name);
    }
    memcpy(copy, own->image, own->image_bytes);
    *data = copy;
    *bytes = own->image_bytes;
    return KF_OK;
}

kf_status cuda_program_close(kf_program *program)
{
    cuda_program *own = (cuda_program *)program;
    kf_device *device = program->device;
    const bool lost = device->lost; /* then every call answers with the old error */
    kf_status status = cuda_enter(device);
    if (status == KF_OK) {
        status = cuda_leave(device, kfcu.ModuleUnload(own->module), "cuModuleUnload");
    }
    free_program(own);
    return lost ? KF_OK : status;
}

/* ---- kernels ------------------------------------------------------------------------------ */

static int function_attribute(kfcu_function function, kfcu_enum which)
{
    int value = -1;
    return kfcu.FuncGetAttribute(&value, which, function) == KF_CUDA_SUCCESS ? value : -1;
}

static kf_kernel_info kernel_info(const cuda_kernel *own)
{
    const kfcu_function f = own->function;
    const int shared = function_attribute(f, KF_CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
    const int threads = function_attribute(f, KF_CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    return (kf_kernel_info){
        .registers = function_attribute(f, KF_CU_FUNC_ATTRIBUTE_NUM_REGS),
        .spill_bytes = function_attribute(f, KF_CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES),
        .local_bytes = shared < 0 ? -1 : shared + (int64_t)own->shared_bytes,
        .max_threads = threads < 0 ? 0 : threads,
    };
}

/* Inside the context. A kernel's static share counts against the same 48 KiB. */
static kfcu_result allow_shared(const cuda_kernel *own, const kf_kernel_info *info)
{
    const bool known = info->local_bytes >= 0;
    if ((known ? info->local_bytes : own->shared_bytes) <= PLAIN_SHARED_BYTES) {
        return KF_CUDA_SUCCESS;
    }
    return kfcu.FuncSetAttribute(own->function, KF_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                 (int)own->shared_bytes);
}

static kf_status open_function(cuda_kernel *own, cuda_program *program, const char *entry,
                               kf_kernel_info *info)
{
    kf_device *device = program->base.device;
    kf_status status = cuda_enter(device);
    if (status != KF_OK) {
        return status;
    }
    kfcu_result result = kfcu.ModuleGetFunction(&own->function, program->module, entry);
    if (result != KF_CUDA_SUCCESS) {
        status = cuda_leave(device, result, "cuModuleGetFunction");
        return result == KF_CUDA_ERROR_NOT_FOUND
                   ? kf_fail(KF_BUILD_FAILED, "%s has no entry %s (is it extern \"C\" __global__?)",
                             program->name, entry)
                   : status;
    }
    *info = kernel_info(own);
    if (info->local_bytes > device->info.target.local_bytes) {
        cuda_leave(device, KF_CUDA_SUCCESS, "");
        return kf_fail(KF_UNSUPPORTED, "%s of %s needs %lld bytes of local memory, %s has %lld",
                       entry, program->name, (long long)info->local_bytes, device->info.name,
                       (long long)device->info.target.local_bytes);
    }
    result = allow_shared(own, info);
    return cuda_leave(device, result, "cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES)");
}

kf_status cuda_kernel_open(kf_program *program, const char *entry, kf_kernel_info *info,
                           kf_kernel **kernel)
{
    cuda_program *from = (cuda_program *)program;
    cuda_kernel *own = calloc(1, sizeof *own);
    if (!own) {
        return kf_fail(KF_OUT_OF_MEMORY, "cuda: no memory for a kernel");
    }
    own->base.device = program->device;
    own->shared_bytes = (unsigned int)from->local_bytes;
    const kf_status status = open_function(own, from, entry, info);
    if (status != KF_OK) {
        free(own);
        return status;
    }
    *kernel = &own->base;
    return KF_OK;
}

kf_status cuda_kernel_close(kf_kernel *kernel)
{
    free(kernel); /* the function belongs to its module */
    return KF_OK;
}

/* ---- launch ------------------------------------------------------------------------------- */

enum { MAX_VALUES = 64 };

/* The driver wants the address of every value; those of scalars lie in the caller's list. */
static void point_at(const kf_launch *launch, void **pointers)
{
    for (int i = 0; i < launch->value_count; i++) {
        const kf_value *value = &launch->values[i];
        static const kfcu_deviceptr none = 0;
        if (value->kind == KF_VALUE_ABSENT)
            pointers[i] = (void *)(uintptr_t)&none;
        else
            pointers[i] = value->kind == KF_VALUE_BUFFER
                              ? (void *)&((cuda_buffer *)value->as.buffer)->address
                              : (void *)(uintptr_t)&value->as;
    }
}

static kfcu_result launch_cluster(cuda_kernel *own, kfcu_stream stream, const kf_launch *launch,
                                  void **pointers)
{
    kfcu_launch_attribute cluster = {.id = KF_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION};
    cluster.value.cluster.x = (unsigned int)launch->cluster;
    cluster.value.cluster.y = cluster.value.cluster.z = 1;
    const kfcu_launch_config config = {
        .grid_x = (unsigned int)launch->groups,
        .grid_y = 1,
        .grid_z = 1,
        .block_x = (unsigned int)launch->threads,
        .block_y = 1,
        .block_z = 1,
        .shared_bytes = own->shared_bytes,
        .stream = stream,
        .attributes = &cluster,
        .attribute_count = 1,
    };
    if (launch->cluster > PORTABLE_CLUSTER && !own->wide_cluster) {
        const kfcu_result result = kfcu.FuncSetAttribute(
            own->function, KF_CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1);
        if (result != KF_CUDA_SUCCESS) {
            return result;
        }
        own->wide_cluster = true;
    }
    return kfcu.LaunchKernelEx(&config, own->function, pointers, NULL);
}

kf_status cuda_launch(kf_queue *queue, const kf_launch *launch)
{
    void *pointers[MAX_VALUES];
    cuda_kernel *own = (cuda_kernel *)launch->kernel;
    const kfcu_stream stream = ((cuda_queue *)queue)->stream;
    const bool cluster = launch->cluster > 1;
    if (launch->value_count > MAX_VALUES) {
        return kf_fail(KF_INVALID, "cuda: a launch takes at most %d values", MAX_VALUES);
    }
    point_at(launch, pointers);
    /* Programs launch more often than anything else, and most have the context current already:
     * then it is not pushed and popped. */
    kfcu_context current = NULL;
    kf_status status = cuda_check(queue->device, kfcu.CtxGetCurrent(&current), "cuCtxGetCurrent");
    const bool entered = current == ((const cuda_device *)queue->device)->context;
    if (status == KF_OK && !entered) {
        status = cuda_enter(queue->device);
    }
    if (status != KF_OK) {
        return status;
    }
    const kfcu_result result = cluster
                                   ? launch_cluster(own, stream, launch, pointers)
                                   : kfcu.LaunchKernel(own->function, (unsigned int)launch->groups,
                                                       1, 1, (unsigned int)launch->threads, 1, 1,
                                                       own->shared_bytes, stream, pointers, NULL);
    const char *const call = cluster ? "cuLaunchKernelEx" : "cuLaunchKernel";
    return entered ? cuda_check(queue->device, result, call)
                   : cuda_leave(queue->device, result, call);
}
