/* What the files of the cuda backend share. SPDX-License-Identifier: Apache-2.0 */
#ifndef KFCU_CUDA_INTERNAL_H
#define KFCU_CUDA_INTERNAL_H

#include "../../core/backend.h"
#include "api.h"

typedef struct cuda_device {
    kf_device base;
    kfcu_context context;
    kfcu_device ordinal;
    bool retained; /* the primary context, given back at close; else the caller's */
} cuda_device;

typedef struct cuda_queue {
    kf_queue base;
    kfcu_stream stream;
    bool owned;
    kfcu_event fence;               /* for queue_wait, made when first needed */
    kfcu_event marks[KF_MAX_MARKS]; /* made when first needed */
} cuda_queue;

typedef struct cuda_buffer {
    kf_buffer base;
    kfcu_deviceptr address;
    bool owned;
} cuda_buffer;

typedef struct cuda_program {
    kf_program base;
    kfcu_module module;
    int64_t local_bytes;
    void *image; /* cubin or PTX, kept for program_save */
    size_t image_bytes;
    char name[64];
} cuda_program;

typedef struct cuda_kernel {
    kf_kernel base;
    kfcu_function function;
    unsigned int
        shared_bytes;  /* dynamic shared memory of every launch: the program's local_bytes */
    bool wide_cluster; /* clusters of more than 8 groups were allowed */
} cuda_kernel;

typedef struct cuda_recording {
    kf_recording base;
    kfcu_graph_exec exec;
} cuda_recording;

extern kfcu_table kfcu; /* driver.c; filled by kfcu_load() */

/* Loads libcuda.so.1 and starts the driver, once per process. KF_UNAVAILABLE names the library,
 * symbol or version that is missing and what brings it. */
kf_status kfcu_load(void);
const char *kfcu_driver_text(void); /* "580.159 (CUDA 13.0)"; after kfcu_load() */
const char *kfcu_driver_path(void);
int kfcu_driver_version(void); /* 13000 */

/* KF_OK, or a sentence with call, name and number of the code, and what can be done. A sticky error
 * marks the device as lost; `device` may be NULL. */
kf_status cuda_check(kf_device *device, kfcu_result result, const char *call);

/* Every slot works inside its own context and leaves the caller's current one as it was: enter,
 * then, when that was KF_OK, leave with the last call's result. */
kf_status cuda_enter(kf_device *device);
kf_status cuda_leave(kf_device *device, kfcu_result result, const char *call);

/* device.c: everything the driver tells about a device, no context needed. */
kf_status cuda_describe(kfcu_device ordinal, kf_device_info *info);

#define SLOT(verb, parameters) kf_status cuda_##verb parameters;
KF_SLOTS(SLOT)
#undef SLOT

extern const kf_backend kf_backend_cuda;

#endif
