/* Devices of the cuda backend: which there are, what they can, what is missing.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cuda_internal.h"
#include "nvrtc.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- description -------------------------------------------------------------------------- */

static int64_t attribute(kfcu_device ordinal, kfcu_enum which)
{
    int value = 0;
    return kfcu.DeviceGetAttribute(&value, which, ordinal) == KF_CUDA_SUCCESS ? value : 0;
}

static uint64_t capabilities(const kf_target *target)
{
    return KF_CAP_SHUFFLE | KF_CAP_REPLAY | KF_CAP_PTX | KF_CAP_F64 | KF_CAP_TIMER |
           (target->max_cluster ? KF_CAP_CLUSTERS : 0);
}

/* Every device with clusters promises 8 groups; 16 ask for an opt-in that the data-centre parts of
 * compute capability 9.0 and 10.x honour. */
static int max_cluster(kfcu_device ordinal, int compute_capability)
{
    if (!attribute(ordinal, KF_CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)) {
        return 0;
    }
    return compute_capability / 10 == 9 || compute_capability / 10 == 10 ? 16 : 8;
}

static void describe_target(kfcu_device d, kf_target *target)
{
    size_t memory = 0;
    const int64_t major = attribute(d, KF_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    const int64_t minor = attribute(d, KF_CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    if (kfcu.DeviceTotalMem(&memory, d) != KF_CUDA_SUCCESS) {
        memory = 0;
    }
    *target = (kf_target){
        .compute_capability = (int)(10 * major + minor),
        .units = (int)attribute(d, KF_CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        .warp = (int)attribute(d, KF_CU_DEVICE_ATTRIBUTE_WARP_SIZE),
        .max_threads = (int)attribute(d, KF_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
        .max_threads_per_unit =
            (int)attribute(d, KF_CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR),
        .local_bytes = attribute(d, KF_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
        .local_bytes_per_unit =
            attribute(d, KF_CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        .registers_per_unit = attribute(d, KF_CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR),
        .cache_bytes = attribute(d, KF_CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
        .memory_bytes = (int64_t)memory,
        .max_buffer_bytes = (int64_t)memory,
        .max_groups = attribute(d, KF_CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X),
        .base_alignment = 256,
    };
    target->max_cluster = max_cluster(d, target->compute_capability);
    target->capabilities = capabilities(target);
}

kf_status cuda_describe(kfcu_device ordinal, kf_device_info *info)
{
    kfcu_uuid uuid;
    *info = (kf_device_info){.backend = "cuda", .platform = "NVIDIA CUDA"};
    kf_status status = cuda_check(
        NULL, kfcu.DeviceGetName(info->name, (int)sizeof info->name, ordinal), "cuDeviceGetName");
    if (status != KF_OK) {
        return status;
    }
    snprintf(info->id, sizeof info->id, "cuda:%d", ordinal);
    snprintf(info->driver, sizeof info->driver, "%s", kfcu_driver_text());
    describe_target(ordinal, &info->target);
    snprintf(info->arch, sizeof info->arch, "sm_%d", info->target.compute_capability);
    if (kfcu.DeviceGetPCIBusId(info->pci, (int)sizeof info->pci, ordinal) != KF_CUDA_SUCCESS) {
        info->pci[0] = 0;
    }
    for (char *c = info->pci; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    info->has_uuid = kfcu.DeviceGetUuid(&uuid, ordinal) == KF_CUDA_SUCCESS;
    if (info->has_uuid) {
        memcpy(info->uuid, uuid.bytes, sizeof info->uuid);
    }
    return KF_OK;
}

static kf_status device_count(int *count)
{
    *count = 0;
    kf_status status = kfcu_load();
    if (status == KF_OK) {
        status = cuda_check(NULL, kfcu.DeviceGetCount(count), "cuDeviceGetCount");
    }
    if (status == KF_OK &&
        *count == 0) { /* the same sentence as for a driver that says so itself */
        status = cuda_check(NULL, KF_CUDA_ERROR_NO_DEVICE, "cuDeviceGetCount");
    }
    return status;
}

kf_status cuda_enumerate(kf_device_info *list, int capacity, int *count)
{
    kf_status status = device_count(count);
    for (int i = 0; status == KF_OK && i < *count && i < capacity; i++) {
        kfcu_device ordinal = 0;
        status = cuda_check(NULL, kfcu.DeviceGet(&ordinal, i), "cuDeviceGet");
        if (status == KF_OK) {
            status = cuda_describe(ordinal, &list[i]);
        }
    }
    return status;
}

/* ---- open and close ----------------------------------------------------------------------- */

/* What a cached kernel depends on beside the driver: NVRTC's version and the user's own options.
 * Loading NVRTC for its version costs 7 ms; without it a newer compiler would go unnoticed. */
static void name_compiler(kf_device *device)
{
    int major = 0, minor = 0;
    const char *path = "";
    kfcu_nvrtc_prefer(kfcu_driver_version() / 1000);
    if (kfcu_nvrtc_version(&major, &minor, &path) == KF_OK) {
        snprintf(device->compiler, sizeof device->compiler, "NVRTC %d.%d %s", major, minor,
                 kfcu_build_options());
    }
}

static kf_status adopt_context(cuda_device *own, void *native)
{
    if (!native) {
        return kf_fail(KF_INVALID, "cuda: the context to adopt is NULL");
    }
    own->context = native;
    const kf_status status = cuda_enter(&own->base);
    if (status != KF_OK) {
        return status;
    }
    return cuda_leave(&own->base, kfcu.CtxGetDevice(&own->ordinal), "cuCtxGetDevice");
}

static kf_status retain_context(cuda_device *own, int index)
{
    int count = 0;
    kf_status status = device_count(&count);
    if (status != KF_OK) {
        return status;
    }
    if (index < 0 || index >= count) {
        return kf_fail(KF_UNAVAILABLE,
                       "cuda:%d is not here; there %s %d CUDA device%s (see kfuse devices)", index,
                       count == 1 ? "is" : "are", count, count == 1 ? "" : "s");
    }
    status = cuda_check(NULL, kfcu.DeviceGet(&own->ordinal, index), "cuDeviceGet");
    if (status == KF_OK) {
        status = cuda_check(NULL, kfcu.DevicePrimaryCtxRetain(&own->context, own->ordinal),
                            "cuDevicePrimaryCtxRetain");
        own->retained = status == KF_OK;
    }
    return status;
}

kf_status cuda_device_open(const kf_device_desc *desc, kf_device **device)
{
    kf_status status = kfcu_load();
    if (status != KF_OK) {
        return status;
    }
    cuda_device *own = calloc(1, sizeof *own);
    if (!own) {
        return kf_fail(KF_OUT_OF_MEMORY, "cuda: no memory for a device");
    }
    status = desc->adopt ? adopt_context(own, desc->native) : retain_context(own, desc->index);
    if (status == KF_OK) {
        status = cuda_describe(own->ordinal, &own->base.info);
    }
    if (status != KF_OK) {
        if (own->retained) {
            kfcu.DevicePrimaryCtxRelease(own->ordinal);
        }
        free(own);
        return status;
    }
    name_compiler(&own->base);
    *device = &own->base;
    return KF_OK;
}

kf_status cuda_device_close(kf_device *device)
{
    cuda_device *own = (cuda_device *)device;
    const bool retained = own->retained, lost = device->lost;
    const kfcu_device ordinal = own->ordinal;
    free(own);
    if (!retained) {
        return KF_OK;
    }
    const kfcu_result result = kfcu.DevicePrimaryCtxRelease(ordinal);
    return lost ? KF_OK : cuda_check(NULL, result, "cuDevicePrimaryCtxRelease");
}

/* Dynamic shared memory up to the opt-in limit is advertised here: no launch is needed to know. */
kf_status cuda_probe(kf_device *device, const char *experiment, int *answer)
{
    static const char local[] = "local:";
    char *end = NULL;
    if (strncmp(experiment, local, strlen(local)) == 0) {
        const char *number = experiment + strlen(local);
        const long long bytes = strtoll(number, &end, 10);
        if (isdigit((unsigned char)*number) && *end == 0) {
            *answer = bytes <= device->info.target.local_bytes;
            return KF_OK;
        }
    }
    return kf_fail(KF_UNSUPPORTED, "cuda: no experiment is called %s; there is local:BYTES",
                   experiment);
}

/* ---- diagnose ----------------------------------------------------------------------------- */

/* Our sentences are "what; remedy": doctor shows the halves apart. */
static void find_fault(kf_finding *finding, const char *remedy)
{
    char sentence[640];
    snprintf(sentence, sizeof sentence, "%s", kf_error());
    char *cut = strstr(sentence, "; ");
    if (cut) {
        *cut = 0;
        remedy = cut + 2;
    }
    snprintf(finding->detail, sizeof finding->detail, "%.*s", (int)sizeof finding->detail - 1,
             sentence);
    snprintf(finding->remedy, sizeof finding->remedy, "%.*s", (int)sizeof finding->remedy - 1,
             remedy);
}

static kf_finding find_driver(void)
{
    kf_finding finding = {.what = "CUDA driver", .good = kfcu_load() == KF_OK};
    if (finding.good) {
        snprintf(finding.detail, sizeof finding.detail, "%s, %s", kfcu_driver_text(),
                 kfcu_driver_path());
    } else {
        find_fault(&finding, "install NVIDIA's driver");
    }
    return finding;
}

static kf_finding find_devices(void)
{
    int count = 0;
    kf_device_info first;
    kf_finding finding = {.what = "CUDA device"};
    if (kfcu_load() != KF_OK) {
        snprintf(finding.detail, sizeof finding.detail, "none without a driver");
        snprintf(finding.remedy, sizeof finding.remedy, "see CUDA driver");
        return finding;
    }
    finding.good = cuda_enumerate(&first, 1, &count) == KF_OK;
    if (finding.good) {
        snprintf(finding.detail, sizeof finding.detail, "%d: %s (%s)%s", count, first.name,
                 first.arch, count > 1 ? ", ..." : "");
    } else {
        find_fault(&finding, "check nvidia-smi and CUDA_VISIBLE_DEVICES");
    }
    return finding;
}

static kf_finding find_compiler(void)
{
    int major = 0, minor = 0;
    const char *path = "";
    kf_finding finding = {.what = "NVRTC"};
    if (kfcu_load() == KF_OK) {
        kfcu_nvrtc_prefer(kfcu_driver_version() / 1000);
    }
    finding.good = kfcu_nvrtc_version(&major, &minor, &path) == KF_OK;
    if (!finding.good) {
        find_fault(&finding, "python3 -m pip install nvidia-cuda-nvrtc");
        return finding;
    }
    snprintf(finding.detail, sizeof finding.detail, "%d.%d, %s", major, minor, path);
    if (kfcu_driver_version() && major > kfcu_driver_version() / 1000) {
        finding.good = false;
        snprintf(finding.detail, sizeof finding.detail,
                 "%d.%d is newer than the driver's CUDA %d.%d", major, minor,
                 kfcu_driver_version() / 1000, kfcu_driver_version() % 1000 / 10);
        snprintf(finding.remedy, sizeof finding.remedy,
                 "python3 -m pip install --target ~/.local/share/kfuse nvidia-cuda-nvrtc-cu12");
    }
    return finding;
}

kf_status cuda_diagnose(kf_finding *list, int capacity, int *count)
{
    const kf_finding findings[] = {find_driver(), find_devices(), find_compiler()};
    *count = (int)(sizeof findings / sizeof findings[0]);
    for (int i = 0; i < *count && i < capacity; i++) {
        list[i] = findings[i];
    }
    return KF_OK;
}
