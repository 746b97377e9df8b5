/* What a call costs the host: layer norm of two rows of 64, which is ready and next to nothing for
 * a device, through one line (kf_layer_norm), on every device here. A burst is enqueued, the queue
 * is left to finish outside of the time. Build: cc host_time.c $(pkg-config --cflags --libs kfuse)
 * SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include <kfuse/calls.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 2, COLS = 64, BURST = 100, BURSTS = 101, MOST = 8 };

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

/* Seconds per call in `time`, of each burst, in ascending order. */
static kf_status measure(kf_queue *queue, kf_calls *calls, const kf_operand *x, double *time)
{
    kf_operand weight = *x, y = *x;
    weight.offset = ROWS * COLS;
    y.offset = weight.offset + COLS;
    kf_status status = kf_tensor_contiguous(KF_F32, 1, (int64_t[]){COLS}, &weight.tensor);
    for (int burst = -1; status == KF_OK && burst < BURSTS; burst++) {
        const double start = now();
        for (int i = 0; status == KF_OK && i < BURST; i++)
            status = kf_layer_norm(calls, x, &weight, NULL, &y, NULL, NULL, NULL);
        if (burst >= 0) /* the first one prepares */
            time[burst] = (now() - start) / BURST;
        if (status == KF_OK)
            status = kf_queue_finish(queue);
    }
    qsort(time, BURSTS, sizeof *time, ascending);
    return status;
}

static kf_status on(const char *backend, int index)
{
    double time[BURSTS] = {0};
    kf_device *device = NULL;
    kf_queue *queue = NULL;
    kf_calls *calls = NULL;
    kf_operand x = {.offset = 0};
    kf_status status =
        kf_device_open(&(kf_device_desc){.backend = backend, .index = index}, &device);
    if (status == KF_OK)
        status = kf_queue_open(device, NULL, &queue);
    if (status == KF_OK)
        status = kf_calls_open(queue, 0, &calls);
    if (status == KF_OK)
        status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = 1 << 16}, &x.buffer);
    if (status == KF_OK)
        status = kf_tensor_contiguous(KF_F32, 2, (int64_t[]){ROWS, COLS}, &x.tensor);
    if (status == KF_OK)
        status = measure(queue, calls, &x, time);
    if (status == KF_OK)
        printf("%s:%d %s: %.2f us per call (80 %% of the bursts below %.2f)\n", backend, index,
               kf_device_describe(device)->name, 1e6 * time[BURSTS / 2],
               1e6 * time[BURSTS * 8 / 10]);
    else
        printf("%s:%d: %s\n", backend, index, kf_error());
    kf_calls_close(calls);
    kf_buffer_close(x.buffer);
    kf_queue_close(queue);
    kf_device_close(device);
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
