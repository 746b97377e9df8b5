/* The `spin` plan of the op `ceilings`, calibrated on the queue that it is for.
 * SPDX-License-Identifier: Apache-2.0 */
#include "spin.h"
#include "../core/backend.h"

/* A launch of half a millisecond and more: enqueuing it is then cheap beside what it covers, and
 * few of them stand in the queue. Drivers take longer the more there is: NVIDIA's OpenCL needs 42
 * ms for 529 small launches behind 256 spins. */
#define LEAST_SECONDS 500e-6
enum { FIRST_ITERATIONS = 1 << 17, MOST_LAUNCHES = 256 };

static kf_status make_exec(kf_spin *spin, kf_device *device, int64_t iterations)
{
    kf_problem *problem;
    kf_plan *plan = NULL;
    kf_status status = kf_problem_open("ceilings", &problem);
    if (status != KF_OK)
        return status;
    kf_exec_close(spin->exec);
    spin->exec = NULL;
    status = kf_problem_shape(problem, KF_F32, (int64_t[KF_MAX_DIMS]){1}, "spun");
    if (status == KF_OK)
        status = kf_problem_int(problem, "iterations", iterations);
    if (status == KF_OK)
        status = kf_plan_open(problem, &(kf_plan_desc){.variant = "spin"}, kf_device_target(device),
                              &plan);
    if (status == KF_OK)
        status = kf_prepare(plan, device, &spin->exec);
    kf_plan_close(plan);
    kf_problem_close(problem);
    return status;
}

static kf_status run(kf_spin *spin)
{
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    const kf_problem *problem = &kf_exec_plan(spin->exec)->problem;
    binding[kf_problem_index(problem, "spun")].buffer = spin->buffer;
    return kf_run(spin->exec, spin->queue, binding, NULL);
}

static kf_status time_one(kf_spin *spin)
{
    kf_status status = run(spin); /* untimed: the first launch loads the kernel */
    if (status == KF_OK)
        status = kf_queue_mark(spin->queue, 0);
    if (status == KF_OK)
        status = run(spin);
    if (status == KF_OK)
        status = kf_queue_mark(spin->queue, 1);
    return status == KF_OK ? kf_queue_elapsed(spin->queue, 0, 1, &spin->seconds) : status;
}

kf_status kf_spin_open(kf_spin *spin, kf_device *device, kf_queue *queue)
{
    int64_t iterations = FIRST_ITERATIONS;
    spin->queue = queue;
    kf_status status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = 256}, &spin->buffer);
    for (int attempt = 0; status == KF_OK && attempt < 3; attempt++) {
        status = make_exec(spin, device, iterations);
        if (status == KF_OK)
            status = time_one(spin);
        if (spin->seconds >= LEAST_SECONDS)
            break;
        iterations *= 8;
    }
    return status;
}

void kf_spin_close(kf_spin *spin)
{
    kf_exec_close(spin->exec);
    kf_buffer_close(spin->buffer);
    *spin = (kf_spin){0};
}

kf_status kf_spin_enqueue(kf_spin *spin, double seconds, double *enqueued)
{
    kf_status status = KF_OK;
    int launches = 0;
    do {
        status = run(spin);
        launches++;
    } while (status == KF_OK && launches < MOST_LAUNCHES && launches * spin->seconds < seconds);
    *enqueued = launches * spin->seconds;
    return status;
}
