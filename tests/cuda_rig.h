/* The CUDA backend on the fake driver of tests/fake_cuda/: what its tests share.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_TEST_CUDA_RIG_H
#define KF_TEST_CUDA_RIG_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../backends/cuda/cuda_internal.h"
#include "fake_cuda/fake_cuda.h"

enum { COUNT = 100, OFFSET = 7 };

static const kf_backend *const cuda = &kf_backend_cuda;
static const char image[] = "// a program that only the fake driver can load";

static struct {
    fake_cuda_fail_fn *fault;
    fake_cuda_seen_fn *seen, *live, *depth;
    fake_cuda_hit_fn *hit;
    fake_cuda_current_fn *current;
    fake_cuda_retained_fn *retained;
} fake;

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        const kf_status got = (call);                                                              \
        if (got != KF_OK) {                                                                        \
            fail_msg("%s: %s: %s", #call, kf_status_name(got), kf_error());                        \
        }                                                                                          \
    } while (0)

static inline void assert_failed(kf_status got, kf_status expected, const char *words)
{
    if (got != expected || !strstr(kf_error(), words)) {
        fail_msg("%s \"%s\" instead of %s with \"%s\"", kf_status_name(got), kf_error(),
                 kf_status_name(expected), words);
    }
}

/* Nothing may stay behind: no driver object, and the caller's current context is what it was. */
static inline void assert_clean(const char *after)
{
    if (fake.live() != 0 || fake.depth() != 0) {
        fail_msg("after %s: %d live objects, %d contexts on the stack", after, fake.live(),
                 fake.depth());
    }
}

/* ---- one run through everything ----------------------------------------------------------- */

typedef struct rig {
    kf_device *device;
    kf_queue *queue, *other;
    kf_buffer *x, *y;
    kf_program *program;
    kf_kernel *kernel;
    kf_kernel_info info;
    kf_recording *recording;
    void *saved;
    size_t saved_bytes;
    float result[COUNT];
} rig;

static inline void keep(kf_status *status, kf_status next)
{
    *status = *status == KF_OK ? next : *status;
}

static inline kf_status rig_close(rig *r)
{
    kf_status status = KF_OK;
    if (r->recording) {
        keep(&status, cuda->recording_close(r->recording));
    }
    if (r->kernel) {
        keep(&status, cuda->kernel_close(r->kernel));
    }
    if (r->program) {
        keep(&status, cuda->program_close(r->program));
    }
    kf_buffer *const buffers[] = {r->x, r->y};
    kf_queue *const queues[] = {r->queue, r->other};
    for (int i = 0; i < 2; i++) {
        if (buffers[i]) {
            keep(&status, cuda->buffer_close(buffers[i]));
        }
        if (queues[i]) {
            keep(&status, cuda->queue_close(queues[i]));
        }
    }
    if (r->device) {
        keep(&status, cuda->device_close(r->device));
    }
    free(r->saved);
    return status;
}

/* Calls in order until one fails. */
#define STEP(call) status = status == KF_OK ? (call) : status

static inline kf_status rig_open(rig *r, const kf_device_desc *desc, int64_t local_bytes)
{
    const kf_queue_desc queue = {.adopt = false};
    const kf_buffer_desc buffer = {.bytes = (COUNT + OFFSET) * sizeof(float)};
    const kf_program_desc program = {.name = "fake.cu",
                                     .binary = image,
                                     .binary_bytes = sizeof image,
                                     .local_bytes = local_bytes};
    kf_status status = cuda->device_open(desc, &r->device);
    STEP(cuda->queue_open(r->device, &queue, &r->queue));
    STEP(cuda->queue_open(r->device, &queue, &r->other));
    STEP(cuda->buffer_open(r->device, &buffer, &r->x));
    STEP(cuda->buffer_open(r->device, &buffer, &r->y));
    STEP(cuda->program_build(r->device, &program, &r->program));
    STEP(cuda->program_save(r->program, &r->saved, &r->saved_bytes));
    STEP(cuda->kernel_open(r->program, "fake_scale", &r->info, &r->kernel));
    return status;
}

static inline kf_status rig_launch(rig *r, int cluster)
{
    const kf_value values[] = {
        {.kind = KF_VALUE_BUFFER, .as.buffer = r->x}, {.kind = KF_VALUE_I64, .as.i64 = OFFSET},
        {.kind = KF_VALUE_BUFFER, .as.buffer = r->y}, {.kind = KF_VALUE_I64, .as.i64 = 0},
        {.kind = KF_VALUE_I32, .as.i32 = COUNT},      {.kind = KF_VALUE_F32, .as.f32 = 2.5f},
    };
    const kf_launch launch = {.kernel = r->kernel,
                              .groups = 32,
                              .threads = 128,
                              .cluster = cluster,
                              .values = values,
                              .value_count = 6};
    return cuda->launch(r->queue, &launch);
}

/* write x, launch y = 2.5 x, all of it recorded but the write, replayed, read back. */
static inline kf_status rig_work(rig *r)
{
    float x[COUNT];
    double seconds = -1;
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)i;
    }
    kf_status status = cuda->buffer_write(r->queue, r->x, OFFSET * sizeof(float), x, sizeof x);
    STEP(cuda->queue_wait(r->queue, r->other));
    STEP(cuda->mark(r->queue, 0));
    STEP(cuda->record_begin(r->queue));
    if (status == KF_OK) {
        STEP(cuda->buffer_fill(r->queue, r->y, 0, COUNT * sizeof(float), 0x7fc00000u, 4));
        STEP(rig_launch(r, 1));
        STEP(rig_launch(r, 16));
        keep(&status, cuda->record_end(r->queue, &r->recording)); /* whatever came before */
    }
    STEP(cuda->replay(r->queue, r->recording));
    STEP(cuda->mark(r->queue, 1));
    STEP(cuda->elapsed(r->queue, 0, 1, &seconds));
    STEP(cuda->buffer_copy(r->queue, r->x, 0, r->y, 0, COUNT * sizeof(float)));
    STEP(cuda->buffer_fill(r->queue, r->x, 0, 2, 0x0102, 2));
    STEP(cuda->buffer_fill(r->queue, r->x, 2, 1, 0x03, 1));
    STEP(cuda->finish(r->queue));
    STEP(cuda->buffer_read(r->queue, r->x, 0, r->result, sizeof r->result));
    return status == KF_OK && !(seconds > 0) ? kf_fail(KF_WRONG_RESULT, "no time passed") : status;
}

/* ---- set-up ------------------------------------------------------------------------------- */

/* CMake puts the fake beside the tests; KF_FAKE_CUDA names it where it lies elsewhere. */
static inline int find_fake(char *path, size_t bytes)
{
#ifdef KF_FAKE_CUDA
    snprintf(path, bytes, "%s", KF_FAKE_CUDA);
#else
    const ssize_t length = readlink("/proc/self/exe", path, bytes - 32);
    if (length <= 0) {
        return -1;
    }
    path[length] = 0;
    strcpy(strrchr(path, '/'), "/libfake_cuda.so");
#endif
    return access(path, R_OK);
}

static inline void find_function(void *library, const char *name, void *function, size_t bytes)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, bytes);
}

static inline int set_up(void **state)
{
    (void)state;
    char path[PATH_MAX];
    if (find_fake(path, sizeof path) != 0) {
        print_error("%s is not here: build the target fake_cuda\n", path);
        return -1;
    }
    setenv("KFUSE_LIBCUDA", path, 1);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        print_error("%s\n", dlerror());
        return -1;
    }
    find_function(library, "fake_cuda_fail", &fake.fault, sizeof fake.fault);
    find_function(library, "fake_cuda_seen", &fake.seen, sizeof fake.seen);
    find_function(library, "fake_cuda_live", &fake.live, sizeof fake.live);
    find_function(library, "fake_cuda_depth", &fake.depth, sizeof fake.depth);
    find_function(library, "fake_cuda_hit", &fake.hit, sizeof fake.hit);
    find_function(library, "fake_cuda_current", &fake.current, sizeof fake.current);
    find_function(library, "fake_cuda_retained", &fake.retained, sizeof fake.retained);
    const bool old = fake.fault && fake.seen && fake.live && fake.depth && fake.hit;
    return old && fake.current && fake.retained ? 0 : -1;
}

#endif
