/* Every device of the machine at work at once, a thread each: a device and what was made from it
 * belongs to one thread. Build: cc threads.c $(pkg-config --cflags --libs kfuse) -lm -pthread
 * SPDX-License-Identifier: Apache-2.0 */
#include <kfuse/calls.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>

enum { ROWS = 256, COLS = 1000, MOST = 8, REPEATS = 20 };

typedef struct job {
    const char *backend;
    int index;
    char said[256]; /* what this thread found */
    bool failed;
} job;

/* RMS norm of rows of 3 and -3, which become 1 and -1 but for eps, and stay so. */
static kf_status norm(kf_device *device, kf_queue *queue, kf_operand *x, float *data)
{
    kf_calls *calls;
    kf_status status = kf_calls_open(queue, 0, &calls);
    if (status == KF_OK)
        status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = ROWS * COLS * sizeof *data},
                                &x->buffer);
    if (status == KF_OK)
        status = kf_tensor_contiguous(KF_F32, 2, (int64_t[]){ROWS, COLS}, &x->tensor);
    if (status == KF_OK)
        status = kf_buffer_write(queue, x->buffer, 0, data, ROWS * COLS * sizeof *data);
    for (int i = 0; status == KF_OK && i < REPEATS; i++)
        status = kf_rms_norm(calls, x, NULL, x, NULL, NULL);
    if (status == KF_OK)
        status = kf_buffer_read(queue, x->buffer, 0, data, ROWS * COLS * sizeof *data);
    kf_calls_close(calls);
    kf_buffer_close(x->buffer);
    return status;
}

static void *work(void *argument)
{
    job *j = argument;
    kf_device *device = NULL;
    kf_queue *queue = NULL;
    kf_operand x = {.offset = 0};
    float *data = malloc(ROWS * COLS * sizeof *data);
    for (int i = 0; data && i < ROWS * COLS; i++)
        data[i] = i % 2 ? 3 : -3;
    kf_status status =
        kf_device_open(&(kf_device_desc){.backend = j->backend, .index = j->index}, &device);
    if (status == KF_OK)
        status = kf_queue_open(device, NULL, &queue);
    if (status == KF_OK)
        status = norm(device, queue, &x, data);
    int right = 0;
    for (int i = 0; status == KF_OK && i < ROWS * COLS; i++)
        right += fabsf(data[i] - (i % 2 ? 1.0f : -1.0f)) < 1e-3f;
    j->failed = right != ROWS * COLS;
    snprintf(j->said, sizeof j->said, "%s:%d %s: %s", j->backend, j->index,
             device ? kf_device_describe(device)->name : "", status != KF_OK ? kf_error() : "done");
    kf_queue_close(queue);
    kf_device_close(device);
    free(data);
    return NULL;
}

int main(void)
{
    static const char *const backends[] = {"cuda", "opencl"};
    pthread_t thread[MOST];
    job jobs[MOST];
    int count = 0, failed = 0;
    for (int b = 0; b < 2; b++) {
        kf_device_info list[MOST];
        int found = 0;
        if (kf_device_enumerate(backends[b], list, MOST, &found) != KF_OK)
            printf("%s: %s\n", backends[b], kf_error());
        for (int i = 0; i < found && count < MOST; i++)
            jobs[count++] = (job){.backend = backends[b], .index = i};
    }
    for (int i = 0; i < count; i++)
        failed |= pthread_create(&thread[i], NULL, work, &jobs[i]) != 0;
    for (int i = 0; i < count && !failed; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < count; i++) {
        printf("%s\n", jobs[i].said);
        failed |= jobs[i].failed;
    }
    return failed || !count;
}
