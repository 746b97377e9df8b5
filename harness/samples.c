/* Samples of one subject: batches of runs that walk the sets of inputs and outputs in turn.
 *
 *   graph   the batch was recorded once, between two marks a sample replays it. No host in it.
 *   queue   a spin launch first, mark 0 behind it, the batch, mark 1: all of it is enqueued while
 *           the spin runs, so the device never waits for the host. A sample whose enqueuing
 *           outlasted the spin is repeated behind a longer one.
 *
 *   host    the host's clock around the batch and a wait, where the device tells no times.
 *
 * A CPU device runs one plan per sample, warm, between marks or by the host's clock.
 * SPDX-License-Identifier: Apache-2.0 */
#include "lane.h"
#include "../core/backend.h"
#include <math.h>
#include <string.h>
#include <time.h>

enum { LEAST_LAUNCHES = 20, CALIBRATIONS = 4, REPEATS = 6 };
#define SAMPLE_SECONDS 1e-3

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static kf_status cancelled(const kf_lane *l)
{
    return l->options->cancel && *l->options->cancel
               ? kf_fail(KF_UNAVAILABLE, "the measurement was interrupted")
               : KF_OK;
}

/* ---- runs --------------------------------------------------------------------------------- */

static int first_tensor(const kf_problem *problem, kf_role role)
{
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype && problem->op->tensors[i].role == role)
            return i;
    return -1;
}

static kf_status copy_by_driver(kf_lane *l, const kf_binding *binding)
{
    const kf_problem *problem = &l->subject->plan->problem;
    const int in = first_tensor(problem, KF_INPUT), out = first_tensor(problem, KF_OUTPUT);
    if (in < 0 || out < 0 || binding[in].buffer->bytes != binding[out].buffer->bytes)
        return kf_fail(KF_INVALID, "op %s has no input and output that a copy could be between",
                       problem->op->name);
    return kf_buffer_copy(l->subject->queue, binding[out].buffer, 0, binding[in].buffer, 0,
                          binding[in].buffer->bytes);
}

static kf_status run(kf_lane *l, int set)
{
    kf_binding binding[KF_MAX_TENSORS];
    kf_sets_bind(l->sets, set, binding);
    if (l->subject->driver_copy)
        return copy_by_driver(l, binding);
    if (l->subject->only_step >= 0)
        return kf_run_step(l->exec, l->subject->queue, l->subject->only_step, binding, NULL);
    return kf_run(l->exec, l->subject->queue, binding, NULL);
}

static kf_status run_batch(kf_lane *l)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < l->launches; i++) {
        status = run(l, l->sets->next);
        l->sets->next = (l->sets->next + 1) % l->sets->count;
    }
    return status;
}

/* ---- one sample, seconds per run ---------------------------------------------------------- */

kf_status kf_lane_host(kf_lane *l, double *seconds)
{
    kf_status status = kf_queue_finish(l->subject->queue);
    const double start = now();
    if (status == KF_OK)
        status = run_batch(l);
    if (status == KF_OK)
        status = kf_queue_finish(l->subject->queue);
    *seconds = (now() - start) / l->launches;
    return status;
}

static kf_status marked(kf_lane *l)
{
    kf_queue *queue = l->subject->queue;
    kf_status status = kf_queue_mark(queue, 0);
    if (status == KF_OK)
        status = l->recording ? kf_replay(queue, l->recording) : run_batch(l);
    return status == KF_OK ? kf_queue_mark(queue, 1) : status;
}

/* Marks on a CPU device; *seconds is 0 where its driver tells no times. */
static kf_status sample_marked(kf_lane *l, double *seconds)
{
    kf_status status = marked(l);
    if (status == KF_OK)
        status = kf_queue_elapsed(l->subject->queue, 0, 1, seconds);
    *seconds /= l->launches;
    return status;
}

/* The batch behind the spin; again with a longer spin when the enqueuing outlasted it. The spin
 * begins after `start`, so what was enqueued before start + spun was enqueued in time. Invented
 * time proves nothing. */
static kf_status sample_queued(kf_lane *l, double *seconds)
{
    const bool pretended = l->subject->device->backend->pretended;
    for (int attempt = 0; attempt < REPEATS; attempt++) {
        double spun;
        const double start = now();
        kf_status status = kf_spin_enqueue(l->spin, l->covering, &spun);
        if (status == KF_OK)
            status = marked(l);
        const double took = now() - start;
        if (status == KF_OK)
            status = kf_queue_elapsed(l->subject->queue, 0, 1, seconds);
        if (status != KF_OK)
            return status;
        *seconds /= l->launches;
        l->covering = fmax(l->covering, 1.5 * took);
        if (took < spun || pretended)
            return KF_OK;
    }
    return kf_fail(KF_DEVICE_FAILED,
                   "enqueuing %d runs of %s takes %.1f ms and outlasts every spin launch before it",
                   l->launches, l->subject->plan->problem.op->name, l->covering / 1.5e-3);
}

kf_status kf_lane_sample(kf_lane *l, double *seconds)
{
    kf_status status = cancelled(l);
    if (status != KF_OK)
        return status;
    if (!strcmp(l->timing->path, "host"))
        return kf_lane_host(l, seconds);
    if (l->graph || l->cpu)
        return sample_marked(l, seconds);
    return sample_queued(l, seconds);
}

/* ---- how many runs a sample has ------------------------------------------------------------ */

static kf_status record(kf_lane *l)
{
    kf_recording *recording = NULL;
    kf_recording_close(l->recording);
    l->recording = NULL;
    if (!l->graph)
        return KF_OK;
    kf_status status = kf_record_begin(l->subject->queue);
    if (status != KF_OK)
        return status;
    status = run_batch(l);
    if (status != KF_OK)
        kf_error_mute(true); /* the first failure's sentence stays */
    const kf_status ended = kf_record_end(l->subject->queue, &recording);
    if (status != KF_OK)
        kf_error_mute(false);
    l->recording = ended == KF_OK ? recording : NULL;
    return status == KF_OK ? ended : status;
}

static int most_launches(const kf_lane *l)
{
    const int kernels = l->graph ? KF_MOST_RECORDED : KF_MOST_QUEUED;
    const int most = kernels > l->steps ? kernels / l->steps : 1;
    if (l->graph && most < l->sets->count)
        return l->sets->count; /* a replay walks all of them */
    return most > l->sets->count ? most / l->sets->count * l->sets->count : most;
}

static int whole_walks(const kf_lane *l, double launches)
{
    const double walks = ceil(launches / l->sets->count) * l->sets->count;
    return walks < most_launches(l) ? (int)walks : most_launches(l);
}

/* Until a sample is long enough. The last one of these is the untimed sample that comes before all
 * others. */
kf_status kf_lane_calibrate(kf_lane *l)
{
    const double long_enough =
        l->options->sample_seconds > 0 ? l->options->sample_seconds : SAMPLE_SECONDS;
    const int least = l->options->least_launches > 0 ? l->options->least_launches : LEAST_LAUNCHES;
    l->launches = l->cpu ? 1 : whole_walks(l, least);
    for (int attempt = 0; attempt < CALIBRATIONS; attempt++) {
        double seconds;
        kf_status status = record(l);
        if (status == KF_OK)
            status = kf_lane_sample(l, &seconds);
        if (status == KF_OK && l->graph)
            status = kf_lane_sample(l, &seconds); /* the first replay loads the recording */
        if (status != KF_OK || l->cpu || !(seconds > 0))
            return status;
        const int wanted = whole_walks(l, 1.1 * long_enough / seconds);
        if (seconds * l->launches >= long_enough || wanted <= l->launches)
            return KF_OK;
        l->launches = wanted;
    }
    return KF_OK;
}

/* Every set once: memory is mapped, clocks rise, and a step that is timed alone finds its scratch
 * written. */
kf_status kf_lane_warm_up(kf_lane *l)
{
    kf_binding binding[KF_MAX_TENSORS];
    kf_status status = KF_OK;
    double seconds = 0;
    for (int set = 0; status == KF_OK && set < l->sets->count; set++) {
        kf_sets_bind(l->sets, set, binding);
        status = kf_run(l->exec, l->subject->queue, binding, NULL);
    }
    if (status == KF_OK)
        status = kf_queue_finish(l->subject->queue);
    if (status != KF_OK || !l->cpu || !strcmp(l->timing->path, "host"))
        return status;
    l->launches = 1; /* a CPU's driver may have marks without times */
    status = sample_marked(l, &seconds);
    if (status == KF_OK && !(seconds > 0))
        strcpy(l->timing->path, "host");
    return status;
}
