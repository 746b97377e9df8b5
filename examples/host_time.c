/* What a call costs the host: softmax of two rows of 64, which is next to nothing for a device, by
 * kf_run of an exec that is ready and by the one line that finds it, on every device here. A burst
 * is enqueued, and the queue is left to finish outside of the time. Build: cc host_time.c
 * $(pkg-config --cflags --libs kfuse) SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include <kfuse/calls.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 2, COLS = 64, BURST = 100, BURSTS = 101, MOST = 8 };

typedef struct bench {
    kf_device *device;
    kf_queue *queue;
    kf_calls *calls;
    kf_exec *exec;
    kf_operand x, y;
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static kf_status one_line(bench *b)
{
    return kf_softmax(b->calls, &b->x, &b->y, NULL);
}

static kf_status ready(bench *b)
{
    const kf_binding bindings[] = {{b->x.buffer, b->x.offset}, {b->y.buffer, b->y.offset}};
    return kf_run(b->exec, b->queue, bindings, NULL);
}

/* Microseconds per call, the median of the bursts. */
static kf_status measure(bench *b, kf_status (*call)(bench *), double *microseconds)
{
    double time[BURSTS] = {0};
    kf_status status = KF_OK;
    for (int burst = -1; status == KF_OK && burst < BURSTS; burst++) {
        const double start = now();
        for (int i = 0; status == KF_OK && i < BURST; i++)
            status = call(b);
        if (burst >= 0) /* the first one may prepare */
            time[burst] = (now() - start) / BURST;
        if (status == KF_OK)
            status = kf_queue_finish(b->queue);
    }
    qsort(time, BURSTS, sizeof *time, ascending);
    *microseconds = 1e6 * time[BURSTS / 2];
    return status;
}

static kf_status prepare(bench *b)
{
    kf_problem *problem;
    kf_plan *plan = NULL;
    kf_status status = kf_problem_open("softmax", &problem);
    if (status == KF_OK)
        status = kf_problem_tensor(problem, "x", &b->x.tensor);
    if (status == KF_OK)
        status = kf_problem_tensor(problem, "y", &b->y.tensor);
    if (status == KF_OK)
        status = kf_plan_open(problem, NULL, kf_device_target(b->device), &plan);
    if (status == KF_OK)
        status = kf_prepare(plan, b->device, &b->exec);
    kf_plan_close(plan);
    kf_problem_close(problem);
    return status;
}

static kf_status open(const char *backend, int index, bench *b)
{
    kf_status status =
        kf_device_open(&(kf_device_desc){.backend = backend, .index = index}, &b->device);
    if (status == KF_OK)
        status = kf_queue_open(b->device, NULL, &b->queue);
    if (status == KF_OK)
        status = kf_calls_open(b->queue, 0, &b->calls);
    if (status == KF_OK)
        status = kf_buffer_open(b->device, &(kf_buffer_desc){.bytes = 1 << 16}, &b->x.buffer);
    if (status == KF_OK)
        status = kf_tensor_contiguous(KF_F32, 2, (int64_t[]){ROWS, COLS}, &b->x.tensor);
    b->y = b->x;
    b->y.offset = (int64_t)ROWS * COLS;
    return status;
}

static kf_status on(const char *backend, int index)
{
    bench b = {.device = NULL};
    double run = 0, line = 0;
    kf_status status = open(backend, index, &b);
    if (status == KF_OK)
        status = prepare(&b);
    if (status == KF_OK)
        status = measure(&b, ready, &run);
    if (status == KF_OK)
        status = measure(&b, one_line, &line);
    if (status == KF_OK)
        printf("%s:%d %s: kf_run %.2f us, kf_softmax %.2f us\n", backend, index,
               kf_device_describe(b.device)->name, run, line);
    else
        printf("%s:%d: %s\n", backend, index, kf_error());
    kf_exec_close(b.exec);
    kf_calls_close(b.calls);
    kf_buffer_close(b.x.buffer);
    kf_queue_close(b.queue);
    kf_device_close(b.device);
    return status;
}

int main(void)
{
    static const char *const backends[] = {"cuda", "opencl", "null"};
    int failed = 0;
    for (int b = 0; b < 3; b++) {
        kf_device_info list[MOST];
        int found = 0;
        if (kf_device_enumerate(backends[b], list, MOST, &found) != KF_OK)
            printf("%s: %s\n", backends[b], kf_error());
        for (int i = 0; i < found && i < MOST; i++)
            failed |= on(backends[b], i) != KF_OK;
    }
    return failed;
}
