/* SPDX-License-Identifier: Apache-2.0 */
#include "once.h"
#include "../core/backend.h"
#include "histogram.h"
#include "inputs.h"
#include "memory.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

kf_status kf_case_open(const kf_case *c, const kf_target *target, kf_plan **plan)
{
    kf_problem *problem = NULL;
    char knobs[1024] = "";
    size_t used = 0;
    for (int k = 0; k < c->op->knob_count && used < sizeof knobs; k++) {
        if (c->config.set[k]) {
            used += (size_t)snprintf(knobs + used, sizeof knobs - used, "%s=%lld ",
                                     c->op->knobs[k].name, (long long)c->config.knob[k]);
        }
    }
    const kf_plan_desc desc = {.variant = c->variant ? c->variant->name : NULL, .knobs = knobs};
    *plan = NULL;
    kf_status status = kf_problem_open(c->op->name, &problem);
    if (status == KF_OK) {
        status = kf_case_problem(c, problem);
    }
    if (status == KF_OK) {
        status = kf_plan_open(problem, &desc, target, plan);
    }
    kf_problem_close(problem);
    return status;
}

/* ---- the child: device ---------------------------------------------------------------------- */

enum { DEVICES = 64 };

static bool wanted(const kf_device_info *info, const char *id)
{
    return strcmp(id, "simulator") == 0 ? info->target.capabilities & KF_CAP_SIMULATOR
                                        : strcmp(info->id, id) == 0;
}

static kf_status open_device(const char *id, kf_device **device)
{
    static kf_device_info list[DEVICES];
    for (int b = 0; kf_backends[b]; b++) {
        int count = 0;
        if (kf_device_enumerate(kf_backends[b]->name, list, DEVICES, &count) != KF_OK) {
            continue;
        }
        for (int i = 0; i < count && i < DEVICES; i++) {
            if (wanted(&list[i], id)) {
                const kf_device_desc desc = {
                    .backend = kf_backends[b]->name, .index = i, .no_cache = true};
                return kf_device_open(&desc, device);
            }
        }
    }
    return kf_fail(KF_UNAVAILABLE, "there is no device %s", id);
}

/* ---- the child: one run --------------------------------------------------------------------- */

/* A buffer that ends where the tensor does: a simulator sees what reads beyond it. */
static kf_status bind(const kf_plan *plan, const kf_case *c, int i, kf_device *device,
                      kf_queue *queue, kf_binding *binding)
{
    const kf_tensor *t = &plan->problem.tensor[i];
    int64_t extent;
    kf_status status = kf_tensor_extent(t, &extent);
    if (status != KF_OK) {
        return status;
    }
    const size_t skip = (size_t)(c->offset[i] * kf_dtype_bytes(t->dtype));
    const size_t bytes = (size_t)(extent * kf_dtype_bytes(t->dtype));
    char *data = kf_memory_take(skip + bytes + 1);
    if (!data) {
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for the tensor %s",
                       plan->problem.op->tensors[i].name);
    }
    memset(data, 0, skip + bytes);
    kf_inputs_fill(t, data + skip, KF_DIST_NORMAL, c->seed, i);
    binding->offset = c->offset[i];
    status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = skip + bytes + !(skip + bytes)},
                            &binding->buffer);
    if (status == KF_OK && bytes && plan->problem.op->tensors[i].role == KF_INPUT) {
        status = kf_buffer_write(queue, binding->buffer, 0, data, skip + bytes);
    }
    kf_memory_give(data);
    return status;
}

/* Pushes what was just written out of the cache, so that the run finds its inputs in memory. */
static kf_status flush_cache(kf_device *device, kf_queue *queue)
{
    const int64_t cache = kf_device_target(device)->cache_bytes;
    kf_buffer *other = NULL;
    if (cache <= 0 || kf_device_target(device)->capabilities & KF_CAP_CPU) {
        return KF_OK;
    }
    const size_t bytes = (size_t)(3 * cache) & ~(size_t)255;
    kf_status status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = bytes}, &other);
    if (status == KF_OK) {
        status = kf_buffer_fill(queue, other, 0, bytes, 0, 4);
    }
    if (status == KF_OK) {
        status = kf_queue_finish(queue);
    }
    kf_buffer_close(other);
    return status;
}

static kf_status run_plan(const kf_plan *plan, const kf_case *c, kf_device *device, kf_queue *queue)
{
    kf_exec *exec = NULL;
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    kf_status status = kf_prepare(plan, device, &exec);
    for (int i = 0; status == KF_OK && i < plan->problem.op->tensor_count; i++) {
        if (plan->problem.tensor[i].dtype) {
            status = bind(plan, c, i, device, queue, &binding[i]);
        }
    }
    if (status == KF_OK) {
        status = flush_cache(device, queue);
    }
    if (status == KF_OK) {
        status = kf_run(exec, queue, binding, NULL);
    }
    if (status == KF_OK) {
        status = kf_queue_finish(queue);
    }
    kf_exec_close(exec);
    for (int i = 0; i < KF_MAX_TENSORS; i++) {
        kf_buffer_close(binding[i].buffer);
    }
    return status;
}

static void say_steps(const kf_plan *plan)
{
    for (int i = 0; i < plan->step_count; i++) {
        const kf_cost cost = kf_step_cost(plan, i);
        printf("kfuse step %s %" PRId64 " %" PRId64 " %" PRId64 " %d %" PRId64 "\n",
               plan->step[i].entry, cost.bytes_read, cost.bytes_written, cost.bytes_requested,
               cost.exact, kf_step_edge(&plan->step[i]));
    }
    fflush(stdout);
}

static kf_status run_case(const char *id, const char *text)
{
    kf_case c;
    kf_device *device = NULL;
    kf_queue *queue = NULL;
    kf_plan *plan = NULL;
    kf_status status = kf_case_parse(text, &c);
    if (status == KF_OK) {
        status = open_device(id, &device);
    }
    if (status == KF_OK) {
        status = kf_queue_open(device, NULL, &queue);
    }
    if (status == KF_OK) {
        status = kf_case_open(&c, kf_device_target(device), &plan);
    }
    if (status == KF_OK) {
        say_steps(plan);
        status = plan->problem.empty ? KF_OK : run_plan(plan, &c, device, queue);
    }
    kf_plan_close(plan);
    kf_queue_close(queue);
    kf_device_close(device);
    return status;
}

int kf_once(const char *id, const char *text)
{
    const kf_status status = run_case(id, text);
    printf("\nkfuse status %d %s\n", (int)status, status == KF_OK ? "" : kf_error());
    return fflush(NULL) == 0 ? 0 : 5;
}

/* ---- the parent ----------------------------------------------------------------------------- */

static bool parse_step(const char *line, kf_declared *d)
{
    int exact;
    *d = (kf_declared){0};
    const bool good =
        sscanf(line, "kfuse step %95s %" SCNd64 " %" SCNd64 " %" SCNd64 " %d %" SCNd64, d->entry,
               &d->cost.bytes_read, &d->cost.bytes_written, &d->cost.bytes_requested, &exact,
               &d->edge) == 6;
    d->cost.exact = good && exact;
    d->cost.launches = 1;
    return good;
}

static kf_status parse_status(const char *line)
{
    int number = KF_DEVICE_FAILED, at = 0;
    if (sscanf(line, "kfuse status %d %n", &number, &at) < 1 || number < 0 || number > KF_IO) {
        return kf_fail(KF_DEVICE_FAILED, "the child answered strangely");
    }
    return number == KF_OK
               ? KF_OK
               : kf_fail((kf_status)number, "%.*s", (int)strcspn(line + at, "\n"), line + at);
}

kf_status kf_once_said(const char *said, kf_declared *list, int capacity, int *count)
{
    static const char step[] = "kfuse step ", end[] = "kfuse status ";
    *count = 0;
    for (const char *line = said; line && *line;) {
        if (strncmp(line, end, sizeof end - 1) == 0) {
            return parse_status(line);
        }
        if (*count < capacity && strncmp(line, step, sizeof step - 1) == 0 &&
            parse_step(line, &list[*count])) {
            ++*count;
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return kf_fail(KF_DEVICE_FAILED, "the child ended without an answer");
}
