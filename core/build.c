/* Front ends of programs and kernels. SPDX-License-Identifier: Apache-2.0 */
#include "front.h"

static kf_status check_limits(const kf_device *device, const kf_program_desc *desc)
{
    const kf_target *target = &device->info.target;
    if (desc->threads < 0 || desc->least_groups < 0 || desc->register_cap < 0 ||
        desc->local_bytes < 0)
        return kf_fail(KF_INVALID,
                       "kf_program_build: %s: a negative number of threads, groups, registers or "
                       "bytes",
                       desc->name);
    if (target->max_threads > 0 && desc->threads > target->max_threads)
        return kf_fail(KF_UNSUPPORTED,
                       "kf_program_build: %s: %d threads per group; %s has at most %d", desc->name,
                       desc->threads, device->info.id, target->max_threads);
    if (target->local_bytes > 0 && desc->local_bytes > target->local_bytes)
        return kf_fail(KF_UNSUPPORTED,
                       "kf_program_build: %s: %lld bytes of local memory; %s has %lld", desc->name,
                       (long long)desc->local_bytes, device->info.id,
                       (long long)target->local_bytes);
    return KF_OK;
}

static kf_status check_program(const kf_device *device, const kf_program_desc *desc)
{
    if (!desc || !desc->name || !desc->text)
        return kf_fail(KF_INVALID,
                       "kf_program_build: a descriptor with a name and a text is needed");
    if (desc->entry_count < 1 || !desc->entries)
        return kf_fail(KF_INVALID, "kf_program_build: %s: no entry is named", desc->name);
    for (int i = 0; i < desc->entry_count; i++)
        if (!desc->entries[i] || !desc->entries[i][0])
            return kf_fail(KF_INVALID, "kf_program_build: %s: entry %d has no name", desc->name, i);
    if (!desc->binary != !desc->binary_bytes)
        return kf_fail(KF_INVALID, "kf_program_build: %s: a binary and its size come together",
                       desc->name);
    return check_limits(device, desc);
}

kf_status kf_program_build(kf_device *device, const kf_program_desc *desc, kf_program **program)
{
    kf_program *made = NULL;
    if (program)
        *program = NULL;
    kf_status status = kf_front_ready("kf_program_build", device);
    if (status != KF_OK)
        return status;
    if (!program)
        return kf_fail(KF_INVALID, "kf_program_build: a place for the program is needed");
    status = check_program(device, desc);
    if (status == KF_OK)
        status = KF_CALL(device, program_build, device, desc, &made);
    if (status != KF_OK)
        return status;
    made->device = device;
    kf_front_opened(device);
    *program = made;
    return KF_OK;
}

kf_status kf_program_save(kf_program *program, void **data, size_t *bytes)
{
    const kf_status status = kf_front_ready("kf_program_save", program ? program->device : NULL);
    if (status != KF_OK)
        return status;
    if (!data || !bytes)
        return kf_fail(KF_INVALID, "kf_program_save: places for the data and its size are needed");
    *data = NULL;
    *bytes = 0;
    return KF_CALL(program->device, program_save, program, data, bytes);
}

void kf_program_close(kf_program *program)
{
    if (!program)
        return;
    kf_device *device = program->device;
    kf_error_mute(true);
    KF_CALL(device, program_close, program);
    kf_error_mute(false);
    kf_front_closed(device);
}

kf_status kf_kernel_open(kf_program *program, const char *entry, kf_kernel_info *info,
                         kf_kernel **kernel)
{
    kf_kernel_info unwanted;
    kf_kernel *made = NULL;
    if (kernel)
        *kernel = NULL;
    kf_status status = kf_front_ready("kf_kernel_open", program ? program->device : NULL);
    if (status != KF_OK)
        return status;
    if (!entry || !entry[0] || !kernel)
        return kf_fail(KF_INVALID,
                       "kf_kernel_open: an entry's name and a place for the kernel are needed");
    info = info ? info : &unwanted;
    *info = (kf_kernel_info){.registers = -1, .spill_bytes = -1, .local_bytes = -1};
    kf_device *device = program->device;
    status = KF_CALL(device, kernel_open, program, entry, info, &made);
    if (status != KF_OK)
        return status;
    made->device = device;
    kf_front_opened(device);
    *kernel = made;
    return KF_OK;
}

void kf_kernel_close(kf_kernel *kernel)
{
    if (!kernel)
        return;
    kf_device *device = kernel->device;
    kf_error_mute(true);
    KF_CALL(device, kernel_close, kernel);
    kf_error_mute(false);
    kf_front_closed(device);
}
