/* What stays behind of a cycle that is repeated: bytes of the heap, open files, threads. Under a
 * sanitizer, whose heap is its own, only the latter two are counted; it counts the rest itself.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_LEAKS_RIG_H
#define KF_LEAKS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <malloc.h>
#include <stdbool.h>
#include "../core/backend.h"

/* Under a sanitizer, which counts by itself and is slow, fewer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1, LEAK_CYCLES = 1000 };
#else
enum { SANITIZED = 0, LEAK_CYCLES = 10000 };
#endif

typedef struct held {
    long long heap; /* bytes in use, of malloc and its kind */
    int files, threads;
} held;

static inline int entries(const char *path)
{
    int count = 0;
    DIR *list = opendir(path);
    assert_non_null(list);
    while (readdir(list))
        count++;
    closedir(list);
    return count;
}

static inline held held_now(void)
{
    held now = {.files = entries("/proc/self/fd"), .threads = entries("/proc/self/task")};
    if (!SANITIZED) {
        const struct mallinfo2 info = mallinfo2();
        now.heap = (long long)(info.uordblks + info.hblkhd);
    }
    return now;
}

/* `room` bytes may be more: what a driver keeps, or 0. */
static inline void assert_not_grown(const held *before, long long room)
{
    const held now = held_now();
    print_message("  %+lld bytes, %+d files, %+d threads\n", now.heap - before->heap,
                  now.files - before->files, now.threads - before->threads);
    assert_true(now.heap - before->heap <= room);
    assert_int_equal(now.files, before->files);
    assert_int_equal(now.threads, before->threads);
}

/* ---- one cycle of everything that is made of a problem --------------------------------------- */

enum { LEAK_COLS = 256, LEAK_ROWS = 4, LEAK_COUNT = LEAK_ROWS * LEAK_COLS };

typedef struct leak_kind {
    const char *op, *variant;
} leak_kind;

/* One with scratch memory, one with counters of its own, one with a program for several steps. */
static const leak_kind leak_kinds[] = {
    {"softmax", NULL}, {"softmax", "unfused"}, {"layer_norm", "fused_split"}, {"rms_norm", NULL}};

static inline kf_status leak_plan(const leak_kind *kind, int64_t rows, kf_device *device,
                                  kf_plan **plan)
{
    kf_tensor t;
    kf_problem *problem;
    const kf_plan_desc desc = {.variant = kind->variant};
    kf_status status = kf_tensor_contiguous(KF_F32, 2, (int64_t[]){rows, LEAK_COLS}, &t);
    *plan = NULL;
    if (status == KF_OK)
        status = kf_problem_open(kind->op, &problem);
    if (status != KF_OK)
        return status;
    status = kf_problem_tensor(problem, "x", &t);
    if (status == KF_OK)
        status = kf_problem_tensor(problem, "y", &t);
    if (status == KF_OK)
        status = kf_plan_open(problem, &desc, kf_device_target(device), plan);
    kf_problem_close(problem);
    return status;
}

static inline int leak_place(const leak_kind *kind, const char *name)
{
    kf_problem *problem;
    assert_int_equal(kf_problem_open(kind->op, &problem), KF_OK);
    const int place = kf_problem_index(problem, name);
    kf_problem_close(problem);
    return place;
}

/* Plan, exec, a run, a run that is refused, and all of it closed; false where the device has no
 * such variant. */
static inline bool leak_cycle(kf_device *device, kf_queue *queue, kf_buffer *buffer, int number)
{
    const leak_kind *kind = &leak_kinds[number % 4];
    kf_plan *plan;
    kf_exec *exec = NULL;
    kf_binding binding[16] = {{.buffer = NULL}};
    const kf_status status = leak_plan(kind, 1 + number % LEAK_ROWS, device, &plan);
    if (status == KF_UNSUPPORTED)
        return false;
    if (status != KF_OK || kf_prepare(plan, device, &exec) != KF_OK)
        fail_msg("%s: %s", kind->op, kf_error());
    kf_binding *y = &binding[leak_place(kind, "y")];
    binding[leak_place(kind, "x")] = (kf_binding){.buffer = buffer};
    *y = (kf_binding){.buffer = buffer, .offset = LEAK_COUNT};
    assert_int_equal(kf_run(exec, queue, binding, NULL), KF_OK);
    y->offset = 1 << 30;
    assert_int_equal(kf_run(exec, queue, binding, NULL), KF_INVALID);
    assert_int_equal(kf_queue_finish(queue), KF_OK);
    kf_exec_close(exec);
    kf_plan_close(plan);
    return true;
}

#endif
