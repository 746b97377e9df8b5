/* The only clock (design 6, kernels.md 10.2): subjects, their sets of inputs and outputs, and the
 * order of the samples. What a sample is stands in samples.c. SPDX-License-Identifier: Apache-2.0
 */
#include "measure.h"
#include "../core/backend.h"
#include "lane.h"
#include <stdlib.h>
#include <string.h>

enum { GPU_SAMPLES = 9, CPU_SAMPLES = 11 };
#define MEMORY_SHARE 0.6 /* of the device's memory for all sets together */

typedef struct bench { /* what one call of kf_measure owns */
    kf_lane *lane;
    kf_sets *sets; /* shared by subjects with the same tensors on the same device */
    kf_spin *spin; /* one per queue */
    int count, sets_count, spin_count;
} bench;

/* ---- setting up --------------------------------------------------------------------------- */

static kf_status check_subject(const kf_subject *subject)
{
    if (!subject->plan || !subject->device || !subject->queue)
        return kf_fail(KF_INVALID, "kf_measure: a subject needs a plan, a device and a queue");
    if (subject->plan->step_count == 0)
        return kf_fail(KF_INVALID, "kf_measure: a plan that launches nothing takes no time");
    if (subject->only_step >= subject->plan->step_count)
        return kf_fail(KF_INVALID, "kf_measure: the plan has no step %d", subject->only_step);
    return KF_OK;
}

static int most_sets(const kf_subject *subject)
{
    const int most = KF_MOST_RECORDED / subject->plan->step_count;
    return most > 1 ? most : 1;
}

/* As many sets as every subject of theirs could walk in one recording. Each pool gets an equal
 * share of the memory; pools on different devices may be on one card. */
static void size_sets(bench *b, const kf_measure_options *options)
{
    for (int s = 0; s < b->sets_count; s++) {
        kf_sets *sets = &b->sets[s];
        sets->offset = options->offset;
        const kf_target *target = &sets->device->info.target;
        const double room = MEMORY_SHARE * (double)target->memory_bytes / b->sets_count;
        int most = KF_MOST_RECORDED;
        for (int i = 0; i < b->count; i++)
            if (b->lane[i].sets == sets && most_sets(b->lane[i].subject) < most)
                most = most_sets(b->lane[i].subject);
        sets->count = kf_sets_count(target, kf_sets_bytes(sets->plan), (int64_t)room, most,
                                    options->warm, &sets->cold);
    }
}

static kf_sets *find_sets(bench *b, const kf_subject *subject)
{
    for (int s = 0; s < b->sets_count; s++)
        if (kf_sets_serve(&b->sets[s], subject->device, subject->plan))
            return &b->sets[s];
    kf_sets *sets = &b->sets[b->sets_count++];
    sets->device = subject->device;
    sets->plan = subject->plan;
    return sets;
}

static kf_status open_sets(bench *b, const kf_measure_options *options)
{
    kf_status status = KF_OK;
    for (int i = 0; i < b->count; i++)
        b->lane[i].sets = find_sets(b, b->lane[i].subject);
    size_sets(b, options);
    for (int i = 0; status == KF_OK && i < b->count; i++) {
        const kf_lane *l = &b->lane[i];
        if (!l->sets->buffer)
            status = kf_sets_open(l->sets, l->subject->device, l->subject->queue, l->subject->plan,
                                  options->seed);
    }
    return status;
}

static kf_status find_spin(bench *b, kf_lane *l)
{
    for (int s = 0; s < b->spin_count; s++)
        if (b->spin[s].queue == l->subject->queue) {
            l->spin = &b->spin[s];
            return KF_OK;
        }
    l->spin = &b->spin[b->spin_count++];
    return kf_spin_open(l->spin, l->subject->device, l->subject->queue);
}

static kf_status open_lane(bench *b, kf_lane *l)
{
    const uint64_t capabilities = l->subject->device->info.target.capabilities;
    const bool timer = capabilities & KF_CAP_TIMER;
    kf_timing *t = l->timing;
    l->cpu = capabilities & KF_CAP_CPU;
    l->graph = timer && !l->cpu && capabilities & KF_CAP_REPLAY && !l->subject->plain_stream;
    l->steps = l->subject->only_step < 0 ? l->subject->plan->step_count : 1;
    t->sets = l->sets->count;
    t->cold = l->sets->cold;
    t->samples = l->options->samples > 0 ? l->options->samples : l->cpu ? CPU_SAMPLES : GPU_SAMPLES;
    t->samples = t->samples > KF_MAX_SAMPLES ? KF_MAX_SAMPLES : t->samples;
    strcpy(t->path, !timer ? "host" : l->graph ? "graph" : "queue");
    kf_status status = kf_prepare(l->subject->plan, l->subject->device, &l->exec);
    if (status == KF_OK && timer && !l->cpu && !l->graph)
        status = find_spin(b, l);
    return status;
}

static void close_bench(bench *b)
{
    for (int i = 0; i < b->count; i++) {
        kf_recording_close(b->lane[i].recording);
        kf_exec_close(b->lane[i].exec);
    }
    for (int i = 0; i < b->spin_count; i++)
        kf_spin_close(&b->spin[i]);
    for (int i = 0; i < b->sets_count; i++)
        kf_sets_close(&b->sets[i]);
    free(b->lane);
    free(b->sets);
    free(b->spin);
}

static kf_status open_bench(bench *b, const kf_subject *subject, int count,
                            const kf_measure_options *options, kf_timing *timing)
{
    b->lane = calloc((size_t)count, sizeof *b->lane);
    b->sets = calloc((size_t)count, sizeof *b->sets);
    b->spin = calloc((size_t)count, sizeof *b->spin);
    if (!b->lane || !b->sets || !b->spin)
        return kf_fail(KF_OUT_OF_MEMORY, "kf_measure: no host memory for %d subjects", count);
    b->count = count;
    kf_status status = KF_OK;
    for (int i = 0; i < count; i++) {
        timing[i] = (kf_timing){0};
        b->lane[i] = (kf_lane){.subject = &subject[i], .options = options, .timing = &timing[i]};
        status = status == KF_OK ? check_subject(&subject[i]) : status;
    }
    if (status == KF_OK)
        status = open_sets(b, options);
    for (int i = 0; status == KF_OK && i < count; i++)
        status = open_lane(b, &b->lane[i]);
    return status;
}

/* ---- measuring ---------------------------------------------------------------------------- */

static kf_status ready_lane(kf_lane *l)
{
    kf_status status = kf_lane_warm_up(l);
    if (status == KF_OK)
        status = kf_lane_calibrate(l);
    if (status == KF_OK)
        status = kf_lane_host(l, &l->timing->host);
    l->timing->launches_per_sample = l->launches;
    return status;
}

/* Round after round one sample of every subject that still wants one. */
static kf_status take_samples(bench *b)
{
    kf_status status = KF_OK;
    for (int s = 0; s < KF_MAX_SAMPLES; s++)
        for (int i = 0; status == KF_OK && i < b->count; i++) {
            kf_timing *t = b->lane[i].timing;
            if (s >= t->samples)
                continue;
            status = kf_lane_sample(&b->lane[i], &t->sample[s]);
            if (status == KF_OK) /* nothing of one subject runs into the next */
                status = kf_queue_finish(b->lane[i].subject->queue);
        }
    return status;
}

static void summarise(kf_timing *t)
{
    kf_band(t->sample, t->samples, &t->median, &t->low, &t->high);
    t->least = t->sample[0];
    for (int i = 1; i < t->samples; i++)
        t->least = t->sample[i] < t->least ? t->sample[i] : t->least;
}

kf_status kf_measure(const kf_subject *subject, int count, const kf_measure_options *options,
                     kf_timing *timing)
{
    const kf_measure_options protocol = {0};
    bench b = {0};
    if (!subject || count < 1 || !timing)
        return kf_fail(KF_INVALID, "kf_measure: subjects and a place for their times are needed");
    kf_status status = open_bench(&b, subject, count, options ? options : &protocol, timing);
    for (int i = 0; status == KF_OK && i < count; i++)
        status = ready_lane(&b.lane[i]);
    if (status == KF_OK)
        status = take_samples(&b);
    for (int i = 0; status == KF_OK && i < count; i++)
        summarise(&timing[i]);
    kf_error_mute(true);
    close_bench(&b);
    kf_error_mute(false);
    return status;
}
