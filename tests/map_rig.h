/* For the tests of elementwise ops on matrices: plans from the text of a case, one element of a
 * reference, and outputs in the memory of inputs. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_TEST_MAP_RIG_H
#define KF_TEST_MAP_RIG_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../harness/verify.h"
#include "case_rig.h"
#include "each_device.h"

static inline kf_target map_target(bool cpu)
{
    kf_target target = *kf_target_generic();
    target.max_threads = 1024;
    target.max_groups = INT32_MAX;
    if (cpu)
        target.capabilities |= KF_CAP_CPU;
    return target;
}

static inline kf_plan *map_plan(const char *text, const kf_target *target)
{
    kf_plan *plan;
    if (case_plan(text, target, &plan) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    return plan;
}

/* Of the first step; -1 = not defined. */
static inline int64_t map_define(const kf_plan *plan, const char *name)
{
    for (int i = 0; i < plan->step[0].define_count; i++)
        if (!strcmp(plan->step[0].define[i].name, name))
            return plan->step[0].define[i].value;
    return -1;
}

/* Each tensor once, by role: what a fused plan may move, and no more. */
static inline int64_t map_tensor_bytes(const kf_plan *plan, kf_role role)
{
    int64_t bytes = 0;
    for (int i = 0; i < plan->problem.op->tensor_count; i++)
        if (plan->problem.tensor[i].dtype && plan->problem.op->tensors[i].role == role)
            bytes += kf_ref_elements(plan, kf_tensor_ref(plan, i)) *
                     kf_dtype_bytes(plan->problem.tensor[i].dtype);
    return bytes;
}

/* `unfused` moves `passes` matrices in `launches`, `fused` every tensor once; `rest` are the words
 * of the case. */
static inline void map_traffic_is(const char *op, const char *rest, int launches, int passes,
                                  bool cpu)
{
    const kf_target target = map_target(cpu);
    for (int dtype = KF_F32; dtype <= KF_BF16; dtype++) {
        char text[256];
        const char *name = kf_dtype_name((kf_dtype)dtype);
        snprintf(text, sizeof text, "%s unfused %s rows=37 cols=1003 %s", op, name, rest);
        kf_plan *unfused = map_plan(text, &target);
        snprintf(text, sizeof text, "%s %s %s rows=37 cols=1003 %s", op,
                 cpu ? "fused_cpu" : "fused", name, rest);
        kf_plan *fused = map_plan(text, &target);
        const kf_cost many = kf_plan_cost(unfused), one = kf_plan_cost(fused);
        const int64_t matrix = (int64_t)37 * 1003 * kf_dtype_bytes((kf_dtype)dtype);
        assert_int_equal(one.launches, 1);
        assert_int_equal(one.bytes_read, map_tensor_bytes(fused, KF_INPUT));
        assert_int_equal(one.bytes_written, map_tensor_bytes(fused, KF_OUTPUT));
        assert_int_equal(one.scratch_bytes, 0);
        assert_int_equal(many.launches, launches);
        assert_int_equal((many.bytes_read + many.bytes_written) / matrix, passes);
        assert_true(one.exact && many.exact);
        assert_int_equal(unfused->error.intermediate, dtype); /* what the bounds are made from */
        assert_int_equal(fused->error.intermediate, KF_NONE);
        kf_plan_close(unfused);
        kf_plan_close(fused);
    }
}

/* ---- reference ---------------------------------------------------------------------------- */

/* One element of a problem of one row and one column: does the op's reference take `got`?
 * `in` in the order of the table, outputs left out of the count. */
static inline bool map_accepts(const char *text, kf_dtype intermediate, bool exp2, const double *in,
                               int output, double got)
{
    const kf_target target = map_target(false);
    kf_plan *plan = map_plan(text, &target);
    const kf_problem *problem = &plan->problem;
    const kf_error_model error = {.intermediate = intermediate, .exp2 = exp2};
    unsigned char memory[KF_MAX_TENSORS][8], stored[8];
    const void *inputs[KF_MAX_TENSORS] = {NULL};
    kf_verify_report report;
    double value, bound;
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype && problem->op->tensors[i].role == KF_INPUT) {
            kf_store(memory[i], problem->tensor[i].dtype, 0, *in++);
            inputs[i] = memory[i];
        }
    kf_store(stored, problem->dtype, 0, got);
    assert_int_equal(problem->op->reference(problem, &error, inputs, output, 0, 1, &value, &bound),
                     KF_OK);
    kf_compare(problem->dtype, stored, &value, &bound, 1, &report);
    kf_plan_close(plan);
    return report.passed;
}

/* ---- in place ----------------------------------------------------------------------------- */

/* Touched by the tensor, padding between its rows included. */
static inline size_t map_extent(const kf_plan *plan, int i)
{
    int64_t extent;
    assert_int_equal(kf_tensor_extent(&plan->problem.tensor[i], &extent), KF_OK);
    return (size_t)(extent * kf_dtype_bytes(plan->problem.tensor[i].dtype));
}

static inline void map_run(kf_exec *exec, kf_queue *queue, const kf_binding *binding, int output,
                           void *into, size_t bytes)
{
    assert_int_equal(kf_run(exec, queue, binding, NULL), KF_OK);
    assert_int_equal(kf_buffer_read(queue, binding[output].buffer, 0, into, bytes), KF_OK);
}

static inline int64_t map_first_difference(const kf_tensor *t, const void *a, const void *b)
{
    const size_t size = (size_t)kf_dtype_bytes(t->dtype);
    for (int64_t i = 0; i < kf_tensor_elements(t); i++) {
        const size_t at = (size_t)kf_tensor_offset(t, i) * size;
        if (memcmp((const char *)a + at, (const char *)b + at, size))
            return i;
    }
    return -1;
}

/* A plan that is ready to run, on fresh inputs. */
typedef struct map_ready {
    kf_plan *plan;
    kf_exec *exec;
    kf_binding binding[KF_MAX_TENSORS];
} map_ready;

static inline map_ready map_open(const char *text, kf_device *device, kf_queue *queue)
{
    map_ready r = {.plan = map_plan(text, kf_device_target(device))};
    kf_case c;
    if (kf_case_parse(text, &c) != KF_OK || kf_prepare(r.plan, device, &r.exec) != KF_OK ||
        case_inputs(r.plan, &c, device, queue, r.binding) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    return r;
}

static inline void map_close(map_ready *r)
{
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(r->binding[i].buffer);
    kf_exec_close(r->exec);
    kf_plan_close(r->plan);
}

/* The same bits whether `output` has memory of its own or that of the input `alias`, of the same
 * strides. */
static inline void map_in_place(const char *text, kf_device *device, kf_queue *queue, int output,
                                int alias)
{
    map_ready r = map_open(text, device, queue);
    const size_t bytes = map_extent(r.plan, output);
    void *apart = malloc(bytes), *got = malloc(bytes);
    assert_int_equal(bytes, map_extent(r.plan, alias));
    map_run(r.exec, queue, r.binding, output, apart, bytes);
    kf_binding aliased[KF_MAX_TENSORS];
    memcpy(aliased, r.binding, sizeof aliased);
    aliased[output] = r.binding[alias];
    map_run(r.exec, queue, aliased, output, got, bytes);
    const int64_t other = map_first_difference(&r.plan->problem.tensor[output], apart, got);
    if (other >= 0)
        fail_msg("%s: in the memory of '%s' element %ld is another", text,
                 r.plan->problem.op->tensors[alias].name, (long)other);
    free(apart);
    free(got);
    map_close(&r);
}

/* Two poisons, guard zones where the device allows, derived bounds. */
static inline void map_verify_with(const char *text, kf_device *device, kf_queue *queue,
                                   kf_distribution inputs)
{
    kf_plan *plan = map_plan(text, kf_device_target(device));
    kf_verify_options options = {.distribution = inputs};
    kf_verify_report report;
    kf_case c;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    options.seed = c.seed;
    options.exact_size = (kf_device_target(device)->capabilities & KF_CAP_SIMULATOR) != 0;
    memcpy(options.offset, c.offset, sizeof options.offset);
    if (kf_verify(plan, device, queue, &options, &report) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (!report.passed)
        fail_msg("%s (%s inputs): %s", text, kf_distribution_name(inputs), report.reason);
    kf_plan_close(plan);
}

static inline void map_verify(const char *text, kf_device *device, kf_queue *queue)
{
    map_verify_with(text, device, queue, KF_DIST_NORMAL);
}

/* In every variant and dtype. */
static inline void map_all_in_place(const char *op, const char *rest, kf_device *device,
                                    kf_queue *queue, int output, int alias)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu"};
    for (int v = 0; v < 3; v++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++) {
            char text[256];
            snprintf(text, sizeof text, "%s %s %s rows=7 cols=719 %s", op, variants[v],
                     kf_dtype_name((kf_dtype)dtype), rest);
            map_in_place(text, device, queue, output, alias);
        }
}

#endif
