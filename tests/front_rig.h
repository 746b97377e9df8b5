/* What the tests of the front ends share: one object of each kind on the null backend.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FRONT_RIG_H
#define FRONT_RIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"

static const char text[] = "__kernel void scale(__global float *y, long y_offset) {}\n"
                           "__kernel void scale_more (long n) {}\n";
static const char *const entries[] = {"scale", "scale_more"};

static inline kf_target full_target(void)
{
    kf_target target = *kf_target_generic();
    target.capabilities |= KF_CAP_CLUSTERS | KF_CAP_REPLAY;
    target.max_cluster = 8;
    target.max_groups = 1000000;
    return target;
}

static inline kf_program_desc scale_desc(void)
{
    return (kf_program_desc){
        .name = "scale.cl", .text = text, .entries = entries, .entry_count = 2, .threads = 64};
}

typedef struct rig {
    kf_device *device;
    kf_queue *queue;
    kf_buffer *x, *y;
    kf_program *program;
    kf_kernel *kernel;
    kf_recording *recording;
} rig;

static inline kf_status open_objects(rig *r)
{
    const kf_program_desc program = scale_desc();
    kf_status status = kf_queue_open(r->device, NULL, &r->queue);
    if (status == KF_OK)
        status = kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = 1024}, &r->x);
    if (status == KF_OK)
        status = kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = 512}, &r->y);
    if (status == KF_OK)
        status = kf_program_build(r->device, &program, &r->program);
    if (status == KF_OK)
        status = kf_kernel_open(r->program, "scale", NULL, &r->kernel);
    return status;
}

static inline kf_status rig_open(rig *r, const kf_backend *backend)
{
    const kf_target target = full_target();
    *r = (rig){.device = NULL};
    const kf_status status =
        kf_device_open_on(backend, &(kf_device_desc){.target = &target}, &r->device);
    return status == KF_OK ? open_objects(r) : status;
}

static inline void close_objects(rig *r)
{
    kf_recording_close(r->recording);
    kf_kernel_close(r->kernel);
    kf_program_close(r->program);
    kf_buffer_close(r->x);
    kf_buffer_close(r->y);
    kf_queue_close(r->queue);
}

static inline kf_status launch(rig *r, int64_t groups, int threads, int cluster)
{
    const kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = r->y},
                               {.kind = KF_VALUE_I64}};
    return kf_launch_enqueue(r->queue, &(kf_launch){.kernel = r->kernel,
                                                    .groups = groups,
                                                    .threads = threads,
                                                    .cluster = cluster,
                                                    .values = values,
                                                    .value_count = 2});
}

static inline uint64_t calls(const kf_device *device)
{
    uint64_t sum = 0;
    for (int i = 0; i < KF_SLOT_COUNT; i++)
        sum += device->calls[i];
    return sum;
}

static inline int setup(void **state)
{
    static rig r;
    *state = &r;
    return rig_open(&r, kf_backend_find("null")) != KF_OK;
}

static inline int teardown(void **state)
{
    rig *r = *state;
    close_objects(r);
    const int live = r->device->live;
    kf_device_close(r->device);
    return live;
}

#define REFUSED(status, call)                                                                      \
    do {                                                                                           \
        const uint64_t before = calls(r->device);                                                  \
        kf_fail(KF_IO, "%s", "an older sentence");                                                 \
        assert_int_equal(call, status);                                                            \
        assert_string_not_equal(kf_error(), "an older sentence");                                  \
        assert_int_equal(calls(r->device), before);                                                \
    } while (0)

#define ON_RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
