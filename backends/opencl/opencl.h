/* What the files of the OpenCL backend share: the functions of the driver, the objects, the errors.
 * Nothing here links against OpenCL: the headers give types and values, dlopen gives the functions.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_OPENCL_H
#define KF_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 300
/* clCreateCommandQueue is called deprecated, but its successor is missing on OpenCL 1.2 devices. */
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <CL/cl_ext.h>

#include "../../core/backend.h"

#define OPENCL_MAX_DEVICES 64 /* of all platforms together; further ones are not seen */

typedef struct opencl_functions {
#define FN(name) __typeof__(name) *name;
#include "opencl.fn"
#undef FN
} opencl_functions;

extern opencl_functions cl; /* valid once opencl_load() has returned KF_OK */

typedef struct opencl_device {
    kf_device base;
    cl_context context;
    cl_device_id id;
    bool nvidia_compiler; /* understands -cl-nv-... */
    uint64_t next_serial; /* of buffers: see opencl_buffer */
} opencl_device;

typedef struct opencl_queue {
    kf_queue base;
    cl_command_queue queue;
    bool device_clock; /* marks are profiled events; else, on our own queues, the host's clock */
    cl_event marks[KF_MAX_MARKS];
    double host_seconds[KF_MAX_MARKS]; /* 0 = mark not set */
} opencl_queue;

typedef struct opencl_buffer {
    kf_buffer base;
    cl_mem memory;
    uint64_t
        serial; /* never used twice, unlike addresses: tells whether an argument is still set */
} opencl_buffer;

typedef struct opencl_program {
    kf_program base;
    cl_program program;
} opencl_program;

typedef struct opencl_argument {
    kf_value_kind kind;
    uint64_t bits; /* the value, or the buffer's serial */
    bool set;
} opencl_argument;

typedef struct opencl_kernel {
    kf_kernel base;
    cl_kernel kernel;
    int argument_count;
    opencl_argument arguments[]; /* as the driver has them now */
} opencl_kernel;

/* The slots, all named opencl_<verb>. */
#define SLOT(verb, parameters) kf_status opencl_##verb parameters;
KF_SLOTS(SLOT)
#undef SLOT

/* ---- library.c ---- */
#define OPENCL_LOADER "libOpenCL.so.1" /* Khronos' own or ocl-icd */
kf_status opencl_load(void); /* KF_UNAVAILABLE names the library or the symbol that is missing */
const char *opencl_library(void); /* what opencl_load() opens */

/* ---- error.c ---- */
/* What the driver was doing: the same code means different things. -5 (out of resources) is a want
 * of memory when allocating, a refused launch when enqueuing, and a dead context when waiting. */
typedef enum opencl_phase {
    OPENCL_SETUP,
    OPENCL_ALLOCATE,
    OPENCL_ENQUEUE,
    OPENCL_WAIT
} opencl_phase;
const char *opencl_code_name(cl_int code); /* "CL_OUT_OF_RESOURCES" */
/* Stores the sentence, marks `device` (may be NULL) lost when nothing works after such an error. */
kf_status opencl_fail(kf_device *device, opencl_phase phase, const char *call, cl_int code);
/* The same for a command that was to be enqueued; finds out whether the context survived. */
kf_status opencl_fail_queued(kf_queue *queue, const char *call, cl_int code);

/* ---- info.c ---- */
typedef struct opencl_place { /* a device and where the loader lists it */
    cl_platform_id platform;
    cl_device_id device;
    int platform_index, device_index;
} opencl_place;
/* All devices in the loader's order. KF_UNAVAILABLE when there is none. */
kf_status opencl_places(opencl_place *places, int *count);
void opencl_describe(const opencl_place *place, kf_device_info *info);
bool opencl_has_extension(cl_device_id device, const char *name);
/* A driver's text without line ends and outer blanks, cut to fit. */
void opencl_device_text(cl_device_id device, cl_device_info what, char *text, size_t bytes);
void opencl_platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t bytes);

/* ---- log.c ---- */
/* malloc'd build log, or NULL */
char *opencl_build_log(cl_program program, cl_device_id device);
/* The first errors of a build log in one line, each at its real file and line where that is known.
 */
void opencl_log_errors(const char *log, const kf_program_desc *desc, char *out, size_t bytes);
/* Registers and spilled bytes of one entry in a -cl-nv-verbose log; leaves them alone when not
 * there. */
void opencl_log_resources(const char *log, const char *entry, int *registers, int64_t *spill_bytes);

static inline opencl_device *opencl_device_of(kf_device *device)
{
    return (opencl_device *)device;
}

static inline opencl_queue *opencl_queue_of(kf_queue *queue)
{
    return (opencl_queue *)queue;
}

static inline opencl_buffer *opencl_buffer_of(kf_buffer *buffer)
{
    return (opencl_buffer *)buffer;
}

#endif
