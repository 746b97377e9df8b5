/* Which OpenCL devices there are and what they can do: asked from the driver, never looked up by
 * name (the exceptions are the simulator and llvmpipe's loops, which no property gives away).
 * SPDX-License-Identifier: Apache-2.0 */
#include "opencl.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of cl_nv_device_attribute_query, but missing in older headers. */
enum { NV_PCI_BUS = 0x4008, NV_PCI_SLOT = 0x4009, NV_PCI_DOMAIN = 0x400A };

/* ---- texts and numbers -------------------------------------------------------------------- */

static void tidy(char *text)
{
    size_t from = strspn(text, " \t\r\n"), length = strlen(text);
    while (length > from && strchr(" \t\r\n", text[length - 1]))
        length--;
    memmove(text, text + from, length - from);
    text[length - from] = '\0';
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

static void copy_text(char *to, size_t bytes, const char *from)
{
    size_t length = strlen(from);
    if (length >= bytes)
        length = bytes - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

void opencl_device_text(cl_device_id device, cl_device_info what, char *text, size_t bytes)
{
    char buffer[1024] = "";
    if (cl.clGetDeviceInfo(device, what, sizeof buffer - 1, buffer, NULL) != CL_SUCCESS)
        buffer[0] = '\0';
    tidy(buffer);
    copy_text(text, bytes, buffer);
}

void opencl_platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t bytes)
{
    char buffer[1024] = "";
    if (cl.clGetPlatformInfo(platform, what, sizeof buffer - 1, buffer, NULL) != CL_SUCCESS)
        buffer[0] = '\0';
    tidy(buffer);
    copy_text(text, bytes, buffer);
}

/* Drivers give the same property as 4 or as 8 bytes, whatever its type is called. 0 = not known. */
static int64_t device_number(cl_device_id device, cl_device_info what)
{
    union {
        cl_uint narrow;
        cl_ulong wide;
    } value = {.wide = 0};
    size_t bytes = 0;
    if (cl.clGetDeviceInfo(device, what, sizeof value, &value, &bytes) != CL_SUCCESS)
        return 0;
    cl_ulong number = bytes == sizeof(cl_uint) ? value.narrow : value.wide;
    return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

static int to_int(int64_t number)
{
    return number > INT_MAX ? INT_MAX : (int)number;
}

bool opencl_has_extension(cl_device_id device, const char *name)
{
    size_t bytes = 0, length = strlen(name);
    if (cl.clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) != CL_SUCCESS || !bytes)
        return false;
    char *list = calloc(bytes + 1, 1);
    bool found = false;
    if (list && cl.clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, bytes, list, NULL) == CL_SUCCESS)
        for (const char *word = list; (word = strstr(word, name)) && !found; word += length)
            found = (word == list || word[-1] == ' ') && (!word[length] || word[length] == ' ');
    free(list);
    return found;
}

/* ---- the list ----------------------------------------------------------------------------- */

static kf_status list_places(opencl_place *places, int *count)
{
    cl_platform_id platforms[OPENCL_MAX_DEVICES];
    cl_uint platform_count = 0;
    cl_int code = cl.clGetPlatformIDs(OPENCL_MAX_DEVICES, platforms, &platform_count);
    if (code != CL_SUCCESS)
        return opencl_fail(NULL, OPENCL_SETUP, "clGetPlatformIDs", code);
    for (int p = 0; p < (int)platform_count && p < OPENCL_MAX_DEVICES; p++) {
        cl_device_id devices[OPENCL_MAX_DEVICES];
        cl_uint found = 0;
        /* A platform without a device is normal (rusticl unless enabled): not worth a word. */
        if (cl.clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, OPENCL_MAX_DEVICES, devices,
                              &found) != CL_SUCCESS)
            continue;
        for (int d = 0; d < (int)found && *count < OPENCL_MAX_DEVICES; d++)
            places[(*count)++] = (opencl_place){platforms[p], devices[d], p, d};
    }
    if (!*count)
        return kf_fail(KF_UNAVAILABLE,
                       "OpenCL: no device in %u platform(s); kfuse doctor says what "
                       "is missing",
                       (unsigned)platform_count);
    return KF_OK;
}

/* One thread at a time: asked for the first time, a driver makes its devices, and PoCL (3.1) hands
 * them to a second thread before they are finished, which dies of them. */
kf_status opencl_places(opencl_place *places, int *count)
{
    static pthread_mutex_t listing = PTHREAD_MUTEX_INITIALIZER;
    *count = 0;
    kf_status status = opencl_load();
    if (status)
        return status;
    pthread_mutex_lock(&listing);
    status = list_places(places, count);
    pthread_mutex_unlock(&listing);
    return status;
}

kf_status opencl_enumerate(kf_device_info *list, int capacity, int *count)
{
    opencl_place places[OPENCL_MAX_DEVICES];
    kf_status status = opencl_places(places, count);
    for (int i = 0; !status && i < *count && i < capacity; i++)
        opencl_describe(&places[i], &list[i]);
    return status;
}

/* ---- one device --------------------------------------------------------------------------- */

/* In CUDA's form, so that one card seen through both is recognised. */
static void put_address(kf_device_info *info, unsigned domain, unsigned bus, unsigned device,
                        unsigned function)
{
    snprintf(info->pci, sizeof info->pci, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff,
             device & 0x1f, function & 7);
}

static void describe_address(cl_device_id device, bool nvidia, kf_device_info *info)
{
    cl_device_pci_bus_info_khr pci;
    if (opencl_has_extension(device, "cl_khr_device_uuid"))
        info->has_uuid = cl.clGetDeviceInfo(device, CL_DEVICE_UUID_KHR, sizeof info->uuid,
                                            info->uuid, NULL) == CL_SUCCESS;
    if (opencl_has_extension(device, "cl_khr_pci_bus_info") &&
        cl.clGetDeviceInfo(device, CL_DEVICE_PCI_BUS_INFO_KHR, sizeof pci, &pci, NULL) ==
            CL_SUCCESS) {
        put_address(info, pci.pci_domain, pci.pci_bus, pci.pci_device, pci.pci_function);
    } else if (nvidia) {
        unsigned slot = (unsigned)device_number(device, NV_PCI_SLOT);
        put_address(info, (unsigned)device_number(device, NV_PCI_DOMAIN),
                    (unsigned)device_number(device, NV_PCI_BUS), slot >> 3, slot);
    }
}

/* What a multiprocessor of a compute capability holds: OpenCL has no query for it. From the table
 * "technical specifications per compute capability" of the CUDA programming guide. */
static void describe_multiprocessor(kf_target *target)
{
    static const struct {
        int capability, local_kib, threads;
    } table[] = {{70, 96, 2048},   {72, 96, 2048},   {75, 64, 1024},   {80, 164, 2048},
                 {86, 100, 1536},  {87, 164, 1536},  {89, 100, 1536},  {90, 228, 2048},
                 {100, 228, 2048}, {103, 228, 2048}, {110, 228, 1536}, {120, 100, 1536},
                 {121, 100, 1536}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].capability != target->compute_capability)
            continue;
        target->local_bytes_per_unit = table[i].local_kib * INT64_C(1024);
        target->max_threads_per_unit = table[i].threads;
    }
}

static void describe_nvidia(cl_device_id device, kf_device_info *info)
{
    kf_target *target = &info->target;
    target->compute_capability =
        to_int(device_number(device, CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV) * 10 +
               device_number(device, CL_DEVICE_COMPUTE_CAPABILITY_MINOR_NV));
    target->warp = to_int(device_number(device, CL_DEVICE_WARP_SIZE_NV));
    target->registers_per_unit = device_number(device, CL_DEVICE_REGISTERS_PER_BLOCK_NV);
    target->cache_bytes = 0; /* 4 MiB on an H200, where the L2 has 50: not to be trusted */
    if (target->compute_capability >= 70) /* shfl.sync and what else the prelude writes as PTX */
        target->capabilities |= KF_CAP_PTX | KF_CAP_SHUFFLE;
    if (target->compute_capability)
        snprintf(info->arch, sizeof info->arch, "sm_%d", target->compute_capability);
    describe_multiprocessor(target);
}

static uint64_t capabilities_of(cl_device_id device, const kf_device_info *info)
{
    int64_t type = device_number(device, CL_DEVICE_TYPE);
    uint64_t capabilities = 0;
    if (type & CL_DEVICE_TYPE_CPU && !(type & CL_DEVICE_TYPE_GPU)) /* Oclgrind says it is both */
        capabilities |= KF_CAP_CPU;
    if (device_number(device, CL_DEVICE_DOUBLE_FP_CONFIG))
        capabilities |= KF_CAP_F64;
    if (device_number(device, CL_DEVICE_PROFILING_TIMER_RESOLUTION) > 0)
        capabilities |= KF_CAP_TIMER;
    if (strstr(info->name, "Oclgrind") || strstr(info->platform, "Oclgrind"))
        capabilities |= KF_CAP_SIMULATOR;
    return capabilities;
}

/* Shuffles need lanes of which the text knows how many they are, so a device must let a kernel
 * demand the size of its sub-groups. 32 as everywhere, else 64: a group of 1024 has then no more
 * sub-groups than one has lanes, which reduces the results of all (kf_group_sum). That the lanes
 * are consecutive work-items no specification promises; every driver met keeps to it, and
 * test_opencl_subgroups asks. Devices on which the size cannot be demanded, AMD's among them, keep
 * to trees in local memory: AMD's driver offers no shuffle of OpenCL either. */
static void describe_subgroups(cl_device_id device, kf_target *target)
{
    size_t bytes = 0, *sizes = NULL;
    if (!opencl_has_extension(device, "cl_intel_required_subgroup_size") ||
        !(opencl_has_extension(device, "cl_intel_subgroups") ||
          opencl_has_extension(device, "cl_khr_subgroup_shuffle")))
        return;
    /* PoCL 7 lists every number up to its largest group: thousands */
    if (cl.clGetDeviceInfo(device, CL_DEVICE_SUB_GROUP_SIZES_INTEL, 0, NULL, &bytes) !=
            CL_SUCCESS ||
        !(sizes = calloc(bytes + sizeof *sizes, 1)) ||
        cl.clGetDeviceInfo(device, CL_DEVICE_SUB_GROUP_SIZES_INTEL, bytes, sizes, NULL) !=
            CL_SUCCESS)
        bytes = 0;
    int warp = 0;
    for (size_t i = 0; i < bytes / sizeof *sizes; i++)
        if (sizes[i] == 32 || (sizes[i] == 64 && !warp))
            warp = (int)sizes[i];
    free(sizes);
    if (!warp || target->max_threads < warp)
        return;
    target->warp = warp;
    target->capabilities |= KF_CAP_SHUFFLE | KF_CAP_SUBGROUPS;
}

static void describe_limits(cl_device_id device, kf_target *target)
{
    size_t sizes[16] = {0}; /* per dimension; a driver may have more than three */
    int64_t threads = device_number(device, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    if (cl.clGetDeviceInfo(device, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof sizes, sizes, NULL) ==
            CL_SUCCESS &&
        sizes[0] && (int64_t)sizes[0] < threads)
        threads = (int64_t)sizes[0];
    target->max_threads = to_int(threads);
    target->units = to_int(device_number(device, CL_DEVICE_MAX_COMPUTE_UNITS));
    target->warp = 1;
    target->local_bytes = device_number(device, CL_DEVICE_LOCAL_MEM_SIZE);
    target->cache_bytes = device_number(device, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE);
    target->memory_bytes = device_number(device, CL_DEVICE_GLOBAL_MEM_SIZE);
    target->max_buffer_bytes = device_number(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    target->max_groups = INT32_MAX; /* OpenCL states no limit; no driver met counts in less */
    target->base_alignment = to_int(device_number(device, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8);
    if (target->base_alignment < 1)
        target->base_alignment = 1;
}

void opencl_describe(const opencl_place *place, kf_device_info *info)
{
    cl_device_id device = place->device;
    bool nvidia = opencl_has_extension(device, "cl_nv_device_attribute_query");
    char driver[80], version[80], both[sizeof driver + sizeof version + 4];
    *info = (kf_device_info){.backend = "opencl"};
    /* no place: a sub-device that the caller made */
    if (place->platform_index < 0)
        copy_text(info->id, sizeof info->id, "opencl:adopted");
    else
        snprintf(info->id, sizeof info->id, "opencl:%u.%u", (unsigned)place->platform_index % 1000,
                 (unsigned)place->device_index % 1000);
    opencl_device_text(device, CL_DEVICE_NAME, info->name, sizeof info->name);
    opencl_platform_text(place->platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform);
    /* The version names the code generator's target on PoCL: compiled kernels are kept by it. */
    opencl_device_text(device, CL_DRIVER_VERSION, driver, sizeof driver);
    opencl_device_text(device, CL_DEVICE_VERSION, version, sizeof version);
    snprintf(both, sizeof both, "%s (%s)", driver, version);
    copy_text(info->driver, sizeof info->driver, both);
    describe_limits(device, &info->target);
    info->target.capabilities = capabilities_of(device, info);
    /* Its compiled code leaves every loop, without a word, when a work-item's turns are used up. */
    if (!strncmp(info->name, "llvmpipe", 8))
        info->target.max_turns = 65535;
    if (nvidia)
        describe_nvidia(device, info);
    else
        describe_subgroups(device, &info->target);
    describe_address(device, nvidia, info);
}
