/* libcuda by dlopen, once per process, and the translation of its codes into sentences.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* realpath, strdup */
#endif
#include "cuda_internal.h"
#include "library.h"

#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cubins of NVRTC 12, cuLaunchKernelEx and the _v2 entries are all there from this driver on */
enum { OLDEST_DRIVER = 12000 };

kfcu_table kfcu;

static struct {
    kf_status status;
    int version;
    char why[640], path[256], text[80];
} driver;

static kf_status unavailable(const char *what, const char *detail, const char *remedy)
{
    driver.status = KF_UNAVAILABLE;
    snprintf(driver.why, sizeof driver.why, "%s%s%s; %s", what, detail[0] ? ": " : "", detail,
             remedy);
    return driver.status;
}

static void *open_driver(void)
{
    int set = 0;
    char why[256] = "";
    void *library = kfcu_library_override("KFUSE_LIBCUDA", &set, why, sizeof why);
    if (set && !library) {
        unavailable("CUDA driver", why, "correct or unset KFUSE_LIBCUDA");
    } else if (!set) {
        library = kfcu_library_open("libcuda.so.1", why, sizeof why);
        if (!library) {
            unavailable(
                "the CUDA driver is not here", why,
                "install NVIDIA's driver (Debian: apt install nvidia-driver; in a container "
                "start it with --gpus all)");
        }
    }
    return library;
}

/* The name of the first entry of cuda.fn that the library lacks, or NULL. */
static const char *resolve_all(void *library)
{
    const char *missing = NULL;
    void *address = NULL;
#define KFCU_FN(name, symbol, parameters)                                                          \
    address = dlsym(library, #symbol);                                                             \
    memcpy(&kfcu.name, &address, sizeof kfcu.name);                                                \
    missing = missing || address ? missing : #symbol;
#include "cuda.fn"
#undef KFCU_FN
    return missing;
}

static kf_status check_version(const char *missing)
{
    char detail[400];
    if (kfcu.DriverGetVersion) {
        kfcu.DriverGetVersion(&driver.version);
    }
    const int major = driver.version / 1000, minor = driver.version % 1000 / 10;
    if (missing) {
        snprintf(detail, sizeof detail, "%s (CUDA %d.%d) has no %s", driver.path, major, minor,
                 missing);
        return unavailable("the CUDA driver is too old", detail,
                           "kfuse needs one for CUDA 12.0 or newer (525.60 or newer)");
    }
    if (driver.version && driver.version < OLDEST_DRIVER) {
        snprintf(detail, sizeof detail, "%s supports CUDA %d.%d", driver.path, major, minor);
        return unavailable("the CUDA driver is too old", detail,
                           "kfuse needs one for CUDA 12.0 or newer (525.60 or newer)");
    }
    return KF_OK;
}

/* "580.159" out of the kernel module's own words; the number is the first word that starts with a
 * digit and holds a point. */
static bool module_version(char *text, size_t bytes)
{
    char line[256] = "";
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    if (file) {
        if (!fgets(line, sizeof line, file)) {
            line[0] = 0;
        }
        fclose(file);
    }
    char *rest = NULL;
    for (char *word = strtok_r(line, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
        if (isdigit((unsigned char)word[0]) && strchr(word, '.')) {
            snprintf(text, bytes, "%s", word);
            return true;
        }
    }
    return false;
}

/* Some containers have no /proc/driver: libcuda.so.1 is a link to libcuda.so.580.159. */
static bool file_version(char *text, size_t bytes)
{
    char *real = realpath(driver.path, NULL);
    const char *mark = real ? strstr(real, "libcuda.so.") : NULL;
    const bool found = mark && strchr(mark + strlen("libcuda.so."), '.');
    if (found) {
        snprintf(text, bytes, "%s", mark + strlen("libcuda.so."));
    }
    free(real);
    return found;
}

static void describe_driver(void)
{
    char number[32] = "";
    if (!module_version(number, sizeof number) && !file_version(number, sizeof number)) {
        strcpy(number, "driver");
    }
    snprintf(driver.text, sizeof driver.text, "%s (CUDA %d.%d)", number, driver.version / 1000,
             driver.version % 1000 / 10);
}

static kf_status start_driver(void)
{
    const kfcu_result result = kfcu.Init(0);
    if (result == KF_CUDA_SUCCESS) {
        if (driver.version == 0) { /* some drivers tell it only now */
            kfcu.DriverGetVersion(&driver.version);
        }
        describe_driver();
        driver.status = KF_OK;
        return KF_OK;
    }
    cuda_check(NULL, result, "cuInit"); /* whatever keeps cuInit from working, CUDA is not here */
    driver.status = KF_UNAVAILABLE;
    snprintf(driver.why, sizeof driver.why, "%s", kf_error());
    return KF_UNAVAILABLE;
}

static void load_once(void)
{
    void *library = open_driver();
    if (!library) {
        return;
    }
    snprintf(driver.path, sizeof driver.path, "%s", kfcu_library_path(library));
    if (check_version(resolve_all(library)) == KF_OK) {
        start_driver();
    }
}

kf_status kfcu_load(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_once);
    return driver.status == KF_OK ? KF_OK : kf_fail(driver.status, "%s", driver.why);
}

const char *kfcu_driver_text(void)
{
    return driver.text;
}

const char *kfcu_driver_path(void)
{
    return driver.path;
}

int kfcu_driver_version(void)
{
    return driver.version;
}

/* ---- codes -------------------------------------------------------------------------------- */

typedef struct code_meaning {
    kfcu_result code;
    const char *name; /* for drivers that do not tell it: the stub library */
    kf_status status;
    bool sticky; /* the context answers every later call with this: only a new process recovers */
    const char *remedy;
} code_meaning;

#define LOST "the device's context is lost, start a new process"
#define FAULT LOST "; compute-sanitizer finds the faulty access"
#define NEWER_DRIVER "the driver is older than the compiler, update it or install an older NVRTC"

#define CODE(api_name) KF_##api_name, #api_name

static const code_meaning meanings[] = {
    {CODE(CUDA_ERROR_OUT_OF_MEMORY), KF_OUT_OF_MEMORY, false,
     "free device memory (nvidia-smi lists who holds it) or take a smaller shape"},
    {CODE(CUDA_ERROR_DEINITIALIZED), KF_DEVICE_FAILED, true, "the process is ending"},
    {CODE(CUDA_ERROR_STUB_LIBRARY), KF_UNAVAILABLE, false,
     "libcuda.so.1 is the toolkit's stub: take the stubs folder out of LD_LIBRARY_PATH and install "
     "NVIDIA's driver"},
    {CODE(CUDA_ERROR_DEVICE_UNAVAILABLE), KF_UNAVAILABLE, false,
     "another process holds the device exclusively"},
    {CODE(CUDA_ERROR_NO_DEVICE), KF_UNAVAILABLE, false,
     "no CUDA device: check nvidia-smi and CUDA_VISIBLE_DEVICES, start a container with --gpus "
     "all"},
    {CODE(CUDA_ERROR_INVALID_DEVICE), KF_UNAVAILABLE, false, "see kfuse devices"},
    {CODE(CUDA_ERROR_DEVICE_NOT_LICENSED), KF_UNAVAILABLE, false, "the virtual GPU has no licence"},
    {CODE(CUDA_ERROR_INVALID_IMAGE), KF_BUILD_FAILED, false, NEWER_DRIVER},
    {CODE(CUDA_ERROR_INVALID_CONTEXT), KF_INVALID, false, "the adopted context is no longer alive"},
    {CODE(CUDA_ERROR_NO_BINARY_FOR_GPU), KF_BUILD_FAILED, false, NEWER_DRIVER},
    {CODE(CUDA_ERROR_ECC_UNCORRECTABLE), KF_DEVICE_FAILED, true, LOST},
    {CODE(CUDA_ERROR_INVALID_PTX), KF_BUILD_FAILED, false, NEWER_DRIVER},
    {CODE(CUDA_ERROR_NVLINK_UNCORRECTABLE), KF_DEVICE_FAILED, true, LOST},
    {CODE(CUDA_ERROR_JIT_COMPILER_NOT_FOUND), KF_BUILD_FAILED, false,
     "the driver's libnvidia-ptxjitcompiler.so.1 is missing"},
    {CODE(CUDA_ERROR_UNSUPPORTED_PTX_VERSION), KF_BUILD_FAILED, false, NEWER_DRIVER},
    {CODE(CUDA_ERROR_JIT_COMPILATION_DISABLED), KF_BUILD_FAILED, false,
     "unset CUDA_DISABLE_PTX_JIT"},
    {CODE(CUDA_ERROR_INVALID_SOURCE), KF_BUILD_FAILED, false, NEWER_DRIVER},
    {CODE(CUDA_ERROR_INVALID_HANDLE), KF_INVALID, false,
     "an adopted stream or context belongs to another device or is no longer alive"},
    {CODE(CUDA_ERROR_ILLEGAL_ADDRESS), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES), KF_UNSUPPORTED, false,
     "the kernel needs more registers or shared memory than a multiprocessor has, use fewer "
     "threads"},
    {CODE(CUDA_ERROR_LAUNCH_TIMEOUT), KF_DEVICE_FAILED, true,
     "a kernel ran longer than the display driver allows; " LOST},
    {CODE(CUDA_ERROR_CONTEXT_IS_DESTROYED), KF_DEVICE_FAILED, true,
     "the context was destroyed by its owner"},
    {CODE(CUDA_ERROR_ASSERT), KF_DEVICE_FAILED, true, LOST},
    {CODE(CUDA_ERROR_HARDWARE_STACK_ERROR), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_ILLEGAL_INSTRUCTION), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_MISALIGNED_ADDRESS), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_INVALID_ADDRESS_SPACE), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_INVALID_PC), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_LAUNCH_FAILED), KF_DEVICE_FAILED, true, FAULT},
    {CODE(CUDA_ERROR_NOT_SUPPORTED), KF_UNSUPPORTED, false,
     "the device or driver has no such feature"},
    {CODE(CUDA_ERROR_SYSTEM_NOT_READY), KF_UNAVAILABLE, false,
     "the driver's services are not up: start nvidia-fabricmanager or wait for it"},
    {CODE(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH), KF_UNAVAILABLE, false,
     "kernel module and libcuda.so.1 differ in version: reboot, or load the new module"},
    {CODE(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE), KF_UNAVAILABLE, false,
     "a forward-compatibility libcuda is in the loader's path, which this GPU cannot use: remove "
     "it"},
    {CODE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED), KF_UNSUPPORTED, false,
     "this call or stream (the legacy NULL stream) cannot be recorded"},
    {CODE(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED), KF_DEVICE_FAILED, false,
     "the recording was broken by an earlier call"},
    {CODE(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD), KF_INVALID, false,
     "a recording ends in the thread that began it"},
    {CODE(CUDA_ERROR_INVALID_CLUSTER_SIZE), KF_UNSUPPORTED, false,
     "the device cannot hold a cluster of this size with this much local memory"},
    {CODE(CUDA_ERROR_UNKNOWN), KF_DEVICE_FAILED, true, LOST},
};

static code_meaning meaning_of(kfcu_result result)
{
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++) {
        if (meanings[i].code == result) {
            return meanings[i];
        }
    }
    return (code_meaning){
        .code = result, .name = "an unknown code", .status = KF_DEVICE_FAILED, .remedy = ""};
}

kf_status cuda_check(kf_device *device, kfcu_result result, const char *call)
{
    const char *name = NULL, *text = NULL;
    if (result == KF_CUDA_SUCCESS) {
        return KF_OK;
    }
    const code_meaning meaning = meaning_of(result);
    if (device && meaning.sticky) {
        device->lost = true;
    }
    if (kfcu.GetErrorName(result, &name) != 0 || !name) {
        name = meaning.name;
    }
    if (kfcu.GetErrorString(result, &text) != 0 || !text) {
        text = "the driver says no more";
    }
    return kf_fail(meaning.status, "%s: %s (%u), %s%s%s", call, name, result, text,
                   meaning.remedy[0] ? "; " : "", meaning.remedy);
}

kf_status cuda_enter(kf_device *device)
{
    cuda_device *own = (cuda_device *)device;
    return cuda_check(device, kfcu.CtxPushCurrent(own->context), "cuCtxPushCurrent");
}

kf_status cuda_leave(kf_device *device, kfcu_result result, const char *call)
{
    kfcu_context popped = NULL;
    const kfcu_result pop = kfcu.CtxPopCurrent(&popped);
    if (result == KF_CUDA_SUCCESS) {
        return cuda_check(device, pop, "cuCtxPopCurrent");
    }
    return cuda_check(device, result, call);
}
