/* Experiments with a known answer: what the device can do beyond what it advertises.
 * SPDX-License-Identifier: Apache-2.0 */
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE(name, ...) static const char probe_##name[] = #__VA_ARGS__;
#include "probe.fn"
#undef PROBE

enum { THREADS = 64, GROUPS_PER_UNIT = 2, LEAST_GROUPS = 4, MOST_GROUPS = 1024 };
enum { LEAST_BYTES = 4, MOST_BYTES = 16 << 20 }; /* no device has as much as the latter */

typedef struct probe_objects {
    kf_program *program;
    kf_kernel *kernel;
    kf_queue *queue;
    kf_buffer *wrong;
} probe_objects;

static void close_objects(probe_objects *open)
{
    if (open->wrong)
        opencl_buffer_close(open->wrong);
    if (open->queue)
        opencl_queue_close(open->queue);
    if (open->kernel)
        opencl_kernel_close(open->kernel);
    if (open->program)
        opencl_program_close(open->program);
}

/* A step that does not divide the count, so that the order is a permutation of the words. */
static unsigned step_for(int64_t words)
{
    static const unsigned primes[] = {7919, 7907, 7901, 7883};
    for (size_t i = 0; i < sizeof primes / sizeof primes[0]; i++)
        if (words % primes[i])
            return primes[i];
    return 1;
}

static kf_status build_local(kf_device *device, int64_t words, probe_objects *open)
{
    static const char *const entries[] = {"probe_local"};
    char text[sizeof probe_local + 160];
    snprintf(text, sizeof text,
             "#define WORDS %lldu\n#define THREADS %du\n#define PRIME %uu\n"
             "#line 1 \"probe.fn\"\n%s\n",
             (long long)words, THREADS, step_for(words), probe_local);
    kf_program_desc desc = {.name = "probe.fn",
                            .text = text,
                            .entries = entries,
                            .entry_count = 1,
                            .threads = THREADS,
                            .local_bytes = words * 4};
    kf_status status = opencl_program_build(device, &desc, &open->program);
    if (!status)
        status = opencl_kernel_open(open->program, entries[0], NULL, &open->kernel);
    return status;
}

static kf_status open_objects(kf_device *device, size_t bytes, probe_objects *open)
{
    kf_queue_desc queue = {0};
    kf_buffer_desc buffer = {.bytes = bytes};
    kf_status status = opencl_queue_open(device, &queue, &open->queue);
    if (!status)
        status = opencl_buffer_open(device, &buffer, &open->wrong);
    if (!status) /* poison: a launch that never ran must not look like one without errors */
        status = opencl_buffer_fill(open->queue, open->wrong, 0, bytes, 0xffffffffu, 4);
    if (!status)
        status = opencl_finish(open->queue);
    return status;
}

static kf_status run_local(probe_objects *open, uint32_t *wrong, int64_t groups, size_t bytes)
{
    kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = open->wrong},
                         {.kind = KF_VALUE_I64, .as.i64 = 0}};
    kf_launch launch = {.kernel = open->kernel,
                        .groups = groups,
                        .threads = THREADS,
                        .values = values,
                        .value_count = 2};
    kf_status status = opencl_launch(open->queue, &launch);
    if (!status)
        status = opencl_finish(open->queue);
    if (!status)
        status = opencl_buffer_read(open->queue, open->wrong, 0, wrong, bytes);
    return status;
}

/* Does a static local array of `bytes` hold its data in several groups at a time? Refused by the
 * compiler or at the launch means no; what fails before that, or kills the device, is an error. */
static kf_status local_holds(kf_device *device, int64_t bytes, int *answer)
{
    probe_objects open = {0};
    int64_t groups = (int64_t)device->info.target.units * GROUPS_PER_UNIT;
    groups = groups < LEAST_GROUPS ? LEAST_GROUPS : groups > MOST_GROUPS ? MOST_GROUPS : groups;
    size_t count = (size_t)groups * THREADS;
    uint32_t *wrong = malloc(count * sizeof *wrong), sum = 0;
    if (!wrong)
        return kf_fail(KF_OUT_OF_MEMORY, "OpenCL: no memory for a probe");
    kf_status status = open_objects(device, count * sizeof *wrong, &open);
    if (!status) {
        kf_status refused = build_local(device, bytes / 4, &open);
        if (!refused)
            refused = run_local(&open, wrong, groups, count * sizeof *wrong);
        for (size_t i = 0; !refused && i < count; i++)
            sum |= wrong[i];
        *answer = !refused && sum == 0;
        status = device->lost ? refused : KF_OK;
    }
    close_objects(&open);
    free(wrong);
    return status;
}

kf_status opencl_probe(kf_device *device, const char *experiment, int *answer)
{
    char *end = NULL;
    *answer = 0;
    if (strncmp(experiment, "local:", 6) != 0)
        return kf_fail(KF_UNSUPPORTED, "OpenCL: there is no experiment \"%s\", only local:BYTES",
                       experiment);
    long long bytes = strtoll(experiment + 6, &end, 10);
    if (end == experiment + 6 || *end || bytes < LEAST_BYTES)
        return kf_fail(KF_INVALID, "OpenCL: \"%s\" should be local:BYTES with at least %d",
                       experiment, LEAST_BYTES);
    /* A CPU's local memory is ordinary memory: more of it is worth nothing, and PoCL aborts. */
    bool cpu = device->info.target.capabilities & KF_CAP_CPU;
    if (bytes > MOST_BYTES || (cpu && bytes > device->info.target.local_bytes))
        return KF_OK;
    return local_holds(device, bytes, answer);
}
