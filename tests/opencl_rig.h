/* What the tests of the OpenCL backend share: a device with a queue, buffers and a small kernel,
 * opened on every device that the loader shows. Which those are is chosen by OCL_ICD_VENDORS (a
 * directory with one .icd file). SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_OPENCL_RIG_H
#define KF_OPENCL_RIG_H

#define _POSIX_C_SOURCE 200809L /* setenv, clock_gettime */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../backends/opencl/opencl.h"

enum { COUNT = 1000, THREADS = 16, GROUPS = 63 };

static int device_count;

typedef struct test_rig {
    kf_device *device;
    kf_queue *queue;
    kf_buffer *x, *y;
    kf_program *program;
    kf_kernel *kernel;
} test_rig;

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        kf_status got = (call);                                                                    \
        if (got != KF_OK)                                                                          \
            fail_msg("%s: %s: %s", #call, kf_status_name(got), kf_error());                        \
    } while (0)

#define ASSERT_STATUS(call, expected)                                                              \
    do {                                                                                           \
        kf_status got = (call);                                                                    \
        if (got != (expected))                                                                     \
            fail_msg("%s: %s instead of %s: %s", #call, kf_status_name(got), #expected,            \
                     kf_error());                                                                  \
    } while (0)

#define ASSERT_SAYS(words)                                                                         \
    do {                                                                                           \
        if (!strstr(kf_error(), words))                                                            \
            fail_msg("\"%s\" does not say \"%s\"", kf_error(), words);                             \
    } while (0)

/* ---- the rig ------------------------------------------------------------------------------ */

static const char scale_text[] =
    "#line 1 \"test_scale.cl\"\n"
    "__kernel void scale(__global const int *x, long x_offset, __global int *y, long y_offset,\n"
    "                    int n, float factor)\n"
    "{\n"
    "    int i = (int)get_global_id(0);\n"
    "    if (i < n)\n"
    "        y[y_offset + i] = (int)(factor * (float)x[x_offset + i]) + (int)get_local_size(0);\n"
    "}\n"
    "__kernel void count(__global int *y, long y_offset, int steps)\n"
    "{\n"
    "    uint value = (uint)get_global_id(0);\n"
    "    for (int i = 0; i < steps; i++)\n"
    "        value = value * 1664525u + 1013904223u;\n"
    "    y[y_offset + get_global_id(0)] = (int)value;\n"
    "}\n";
static const char *const scale_entries[] = {"scale", "count"};

static inline kf_program_desc scale_desc(void)
{
    return (kf_program_desc){.name = "test_scale.cl",
                             .text = scale_text,
                             .entries = scale_entries,
                             .entry_count = 2,
                             .threads = THREADS};
}

static inline kf_buffer *new_buffer(kf_device *device, size_t bytes)
{
    kf_buffer *buffer = NULL;
    kf_buffer_desc desc = {.bytes = bytes};
    ASSERT_OK(kf_buffer_open(device, &desc, &buffer));
    return buffer;
}

static inline void write_counting(kf_queue *queue, kf_buffer *buffer, int first)
{
    int32_t values[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = first + i;
    ASSERT_OK(kf_buffer_write(queue, buffer, 0, values, sizeof values));
}

static inline void open_kernels(test_rig *rig, kf_program_desc desc)
{
    ASSERT_OK(kf_program_build(rig->device, &desc, &rig->program));
    ASSERT_OK(kf_kernel_open(rig->program, "scale", NULL, &rig->kernel));
}

static inline void open_rig(test_rig *rig, kf_device *device)
{
    kf_queue_desc queue = {0};
    memset(rig, 0, sizeof *rig);
    rig->device = device;
    ASSERT_OK(kf_queue_open(device, &queue, &rig->queue));
    rig->x = new_buffer(device, COUNT * sizeof(int32_t));
    rig->y = new_buffer(device, COUNT * sizeof(int32_t));
}

static inline void close_rig(test_rig *rig)
{
    kf_kernel_close(rig->kernel);
    kf_program_close(rig->program);
    kf_buffer_close(rig->x);
    kf_buffer_close(rig->y);
    kf_queue_close(rig->queue);
}

/* Runs the body on every device; whatever it opened must be closed again. */
static inline void on_each_device(void (*body)(test_rig *))
{
    if (!device_count)
        skip();
    for (int i = 0; i < device_count; i++) {
        test_rig rig;
        kf_device *device = NULL;
        kf_device_desc desc = {.backend = "opencl", .index = i, .read_kernels = true};
        ASSERT_OK(kf_device_open(&desc, &device));
        open_rig(&rig, device);
        body(&rig);
        close_rig(&rig);
        assert_int_equal(device->live, 0);
        kf_device_close(device);
    }
}

static inline kf_status launch_scale(test_rig *rig, kf_buffer *y, int n, float factor)
{
    kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = rig->x},
                         {.kind = KF_VALUE_I64, .as.i64 = 0},
                         {.kind = KF_VALUE_BUFFER, .as.buffer = y},
                         {.kind = KF_VALUE_I64, .as.i64 = 0},
                         {.kind = KF_VALUE_I32, .as.i32 = n},
                         {.kind = KF_VALUE_F32, .as.f32 = factor}};
    kf_launch launch = {.kernel = rig->kernel,
                        .groups = GROUPS,
                        .threads = THREADS,
                        .values = values,
                        .value_count = 6};
    return kf_launch_enqueue(rig->queue, &launch);
}

static inline void assert_scaled(test_rig *rig, kf_buffer *y, int n, int factor)
{
    int32_t values[COUNT];
    ASSERT_OK(kf_buffer_read(rig->queue, y, 0, values, sizeof values));
    for (int i = 0; i < n; i++)
        assert_int_equal(values[i], factor * i + THREADS);
}

/* The exit status: failed tests, no device (77: skipped, or 1 where KFUSE_REQUIRE wants one), or 0.
 */
static inline int run_on_devices(int (*tests)(void))
{
    const char *required = getenv("KFUSE_REQUIRE");
    setenv("POCL_DEVICES", "basic pthread", 0); /* two devices: an index can be wrong */
    if (kf_device_enumerate("opencl", NULL, 0, &device_count) != KF_OK)
        device_count = 0;
    if (!device_count)
        print_message("no OpenCL device: %s\n", kf_error());
    if (tests())
        return 1;
    if (device_count)
        return 0;
    return required && strstr(required, "opencl") ? 1 : 77;
}

#endif
