/* What `kfuse doctor` says of OpenCL on this machine: the loader, the platforms, and the one line
 * that containers with an NVIDIA driver often lack. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "opencl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct finding_list {
    kf_finding *list;
    int capacity, count;
} finding_list;

static void add(finding_list *findings, bool good, const char *what, const char *detail,
                const char *remedy)
{
    if (findings->count < findings->capacity) {
        kf_finding *finding = &findings->list[findings->count];
        *finding = (kf_finding){.good = good};
        snprintf(finding->what, sizeof finding->what, "%s", what);
        snprintf(finding->detail, sizeof finding->detail, "%s", detail);
        snprintf(finding->remedy, sizeof finding->remedy, "%s", good ? "" : remedy);
    }
    findings->count++;
}

static bool check_loader(finding_list *findings)
{
    kf_status status = opencl_load();
    bool chosen = strcmp(opencl_library(), OPENCL_LOADER) != 0;
    add(findings, status == KF_OK, "OpenCL loader", status ? kf_error() : opencl_library(),
        chosen ? "unset KFUSE_LIBOPENCL, or give it the absolute path of a libOpenCL.so.1"
               : "apt-get install ocl-icd-libopencl1");
    return status == KF_OK;
}

static int device_count(cl_platform_id platform)
{
    cl_uint count = 0;
    cl_int code = cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, NULL, &count);
    return code == CL_SUCCESS ? (int)count : 0;
}

/* Lists the platforms in one line; true when one of them is NVIDIA's. */
static bool check_platforms(finding_list *findings)
{
    cl_platform_id platforms[OPENCL_MAX_DEVICES];
    cl_uint count = 0;
    char detail[160] = "", name[64], one[96];
    int devices = 0;
    bool nvidia = false;
    if (cl.clGetPlatformIDs(OPENCL_MAX_DEVICES, platforms, &count) != CL_SUCCESS)
        count = 0;
    for (cl_uint p = 0; p < count && p < OPENCL_MAX_DEVICES; p++) {
        int own = device_count(platforms[p]);
        opencl_platform_text(platforms[p], CL_PLATFORM_NAME, name, sizeof name);
        snprintf(one, sizeof one, "%s%s: %d", p ? ", " : "", name, own);
        strncat(detail, one, sizeof detail - strlen(detail) - 1);
        devices += own;
        nvidia = nvidia || strstr(name, "NVIDIA");
    }
    add(findings, devices > 0, "OpenCL platforms",
        count ? detail : "no platform (clGetPlatformIDs: CL_PLATFORM_NOT_FOUND_KHR)",
        "apt-get install pocl-opencl-icd (runs on the CPU), or the GPU vendor's OpenCL driver");
    return nvidia;
}

/* With a driver but without its entry in the loader's list the GPU is invisible to OpenCL. */
static void check_nvidia(finding_list *findings, bool listed)
{
    bool kernel_driver =
        access("/proc/driver/nvidia/version", F_OK) == 0 || access("/dev/nvidiactl", F_OK) == 0;
    /* Opened only to see whether it is there, and left open: closing a driver is not safe. */
    bool library = !listed && dlopen("libnvidia-opencl.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (listed)
        add(findings, true, "OpenCL on NVIDIA", "listed by the loader", "");
    else if (library)
        add(findings, false, "OpenCL on NVIDIA",
            "the driver's libnvidia-opencl.so.1 is here, but no .icd file names it",
            "mkdir -p /etc/OpenCL/vendors && echo libnvidia-opencl.so.1 > "
            "/etc/OpenCL/vendors/nvidia.icd");
    else if (kernel_driver)
        add(findings, false, "OpenCL on NVIDIA",
            "an NVIDIA driver is here, but not its libnvidia-opencl.so.1",
            "apt-get install nvidia-opencl-icd; in a container: start it with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility");
}

kf_status opencl_diagnose(kf_finding *list, int capacity, int *count)
{
    finding_list findings = {list, capacity, 0};
    bool loader = check_loader(&findings);
    bool nvidia = loader && check_platforms(&findings);
    check_nvidia(&findings, nvidia);
    *count = findings.count;
    return KF_OK;
}
