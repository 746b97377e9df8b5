/* What the tests of threads share: several of them let go at one moment. Each stores its result,
 * the main thread asserts: an assert in another thread ends the process without a word.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_THREADS_RIG_H
#define KF_THREADS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <kfuse/calls.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"

enum { THREADS_AT_ONCE = 6 };

typedef struct thread_job {
    int index; /* of the thread */
    const char *backend;
    int device; /* index of it */
    int found;  /* what the test is about */
    kf_status status;
    char said[256]; /* the thread's sentence after a failure */
    kf_status (*work)(struct thread_job *job);
    pthread_barrier_t *start;
} thread_job;

static inline void *thread_main(void *argument)
{
    thread_job *job = argument;
    pthread_barrier_wait(job->start);
    job->status = job->work(job);
    snprintf(job->said, sizeof job->said, "%s", job->status == KF_OK ? "" : kf_error());
    return NULL;
}

/* Threads that wait for one another, then work; returns when all have ended. The devices of the
 * backend are dealt out in turn. */
static inline void all_at_once(thread_job jobs[THREADS_AT_ONCE], const char *backend, int devices,
                               kf_status (*work)(thread_job *job))
{
    pthread_t thread[THREADS_AT_ONCE];
    pthread_barrier_t start;
    assert_int_equal(pthread_barrier_init(&start, NULL, THREADS_AT_ONCE), 0);
    for (int i = 0; i < THREADS_AT_ONCE; i++) {
        jobs[i] = (thread_job){
            .index = i, .backend = backend, .device = i % devices, .work = work, .start = &start};
        if (pthread_create(&thread[i], NULL, thread_main, &jobs[i]) != 0)
            abort(); /* the others wait for it for ever */
    }
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&start);
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        if (jobs[i].status != KF_OK)
            fail_msg("thread %d: %s: %s", i, kf_status_name(jobs[i].status), jobs[i].said);
}

/* Calls in order until one fails. */
#define THEN(status, call) ((status) = (status) == KF_OK ? (call) : (status))

/* ---- a device of the thread's own ---------------------------------------------------------- */

enum { OWN_ROWS = 3, OWN_COLS = 97, OWN_COUNT = OWN_ROWS * OWN_COLS };

typedef struct own_device {
    kf_device *device;
    kf_queue *queue;
    kf_buffer *buffer; /* x, then y */
    kf_calls *calls;
} own_device;

static inline kf_status own_open(own_device *own, const char *backend, int index, int capacity)
{
    const kf_device_desc desc = {.backend = backend, .index = index};
    *own = (own_device){.device = NULL};
    kf_status status = kf_device_open(&desc, &own->device);
    THEN(status, kf_queue_open(own->device, NULL, &own->queue));
    THEN(status,
         kf_buffer_open(own->device, &(kf_buffer_desc){.bytes = 8 * OWN_COUNT}, &own->buffer));
    THEN(status, kf_calls_open(own->queue, capacity, &own->calls));
    return status;
}

/* KF_WRONG_RESULT when something of the device's is left. */
static inline kf_status own_close(own_device *own, kf_status status)
{
    kf_calls_close(own->calls);
    kf_buffer_close(own->buffer);
    kf_queue_close(own->queue);
    if (status == KF_OK && own->device->live)
        status = kf_fail(KF_WRONG_RESULT, "%d handles are left", own->device->live);
    kf_device_close(own->device);
    return status;
}

static inline kf_operand own_operand(const own_device *own, int64_t rows, int64_t offset)
{
    kf_operand o = {.buffer = own->buffer, .offset = offset};
    kf_tensor_contiguous(KF_F32, 2, (const int64_t[]){rows, OWN_COLS}, &o.tensor);
    return o;
}

/* Kind 0, 1, 2 and so on: three ops, each on 1, 2 and 3 rows in turn. */
static inline kf_status own_call(const own_device *own, int kind)
{
    const int64_t rows = 1 + kind / 3 % OWN_ROWS;
    const kf_operand x = own_operand(own, rows, 0), y = own_operand(own, rows, OWN_COUNT);
    if (kind % 3 == 0)
        return kf_softmax(own->calls, &x, &y, NULL);
    if (kind % 3 == 1)
        return kf_rms_norm(own->calls, &x, NULL, &y, NULL, NULL);
    return kf_layer_norm(own->calls, &x, NULL, NULL, &y, NULL, NULL, NULL);
}

#endif
