/* A case as text -> plan -> one run on fresh random inputs, in buffers of exactly the right size.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_TEST_CASE_RIG_H
#define KF_TEST_CASE_RIG_H
#include <stdio.h>
#include <stdlib.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/inputs.h"

static inline kf_status case_plan(const char *text, const kf_target *target, kf_plan **plan)
{
    kf_case c;
    kf_problem *problem = NULL;
    char knobs[512] = "";
    *plan = NULL;
    kf_status status = kf_case_parse(text, &c);
    if (status == KF_OK)
        status = kf_problem_open(c.op->name, &problem);
    if (status == KF_OK)
        status = kf_case_problem(&c, problem);
    for (int i = 0, used = 0; status == KF_OK && i < c.op->knob_count; i++)
        if (c.config.set[i])
            used += snprintf(knobs + used, sizeof knobs - (size_t)used, "%s=%ld ",
                             c.op->knobs[i].name, (long)c.config.knob[i]);
    if (status == KF_OK)
        status = kf_plan_open(
            problem, &(kf_plan_desc){.variant = c.variant ? c.variant->name : NULL, .knobs = knobs},
            target, plan);
    kf_problem_close(problem);
    return status;
}

static inline kf_status case_inputs(const kf_plan *plan, const kf_case *c, kf_device *device,
                                    kf_queue *queue, kf_binding *binding)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < plan->problem.op->tensor_count; i++) {
        const kf_tensor *t = &plan->problem.tensor[i];
        int64_t extent;
        if (!t->dtype || (status = kf_tensor_extent(t, &extent)) != KF_OK)
            continue;
        const size_t skip = (size_t)(c->offset[i] * kf_dtype_bytes(t->dtype));
        const size_t bytes = (size_t)(extent * kf_dtype_bytes(t->dtype));
        char *data = calloc(1, skip + bytes + 1);
        kf_inputs_fill_tensor(&plan->problem, i, data + skip, KF_DIST_NORMAL, c->seed);
        status =
            kf_buffer_open(device, &(kf_buffer_desc){.bytes = skip + bytes}, &binding[i].buffer);
        /* from the start: Oclgrind takes what was written behind an offset for uninitialised */
        if (status == KF_OK && plan->problem.op->tensors[i].role == KF_INPUT)
            status = kf_buffer_write(queue, binding[i].buffer, 0, data, skip + bytes);
        binding[i].offset = c->offset[i];
        free(data);
    }
    return status;
}

/* Outputs and scratch are left as the device gives them: a simulator sees what reads them. */
static inline kf_status case_run(const char *text, kf_device *device, kf_queue *queue)
{
    kf_plan *plan = NULL;
    kf_exec *exec = NULL;
    kf_case c;
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    kf_status status = case_plan(text, kf_device_target(device), &plan);
    if (status == KF_OK)
        status = kf_case_parse(text, &c);
    if (status == KF_OK)
        status = case_inputs(plan, &c, device, queue, binding);
    if (status == KF_OK)
        status = kf_prepare(plan, device, &exec);
    if (status == KF_OK)
        status = kf_run(exec, queue, binding, NULL);
    if (status == KF_OK)
        status = kf_queue_finish(queue);
    kf_exec_close(exec);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(binding[i].buffer);
    kf_plan_close(plan);
    return status;
}

#endif
