/* The backward norms on every device: knobs, re-runs, in place. Part of norm_backward_rig.h.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NORM_BACKWARD_RUNS_H
#define KF_NORM_BACKWARD_RUNS_H
#include "../harness/verify.h"
#include "norm_backward_rig.h"

static bool simulated(const kf_device *device)
{
    return kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
}

static void verify_case(const char *text, kf_device *device, kf_queue *queue)
{
    const kf_verify_options options = {.seed = 3, .exact_size = simulated(device)};
    kf_verify_report report = {.passed = false};
    kf_plan *plan;
    const kf_status made = case_plan(text, kf_device_target(device), &plan);
    if (made == KF_UNSUPPORTED) /* more threads than the device has */
        return;
    if (made != KF_OK || kf_verify(plan, device, queue, &options, &report) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (!report.passed)
        fail_msg("%s: %s", text, report.reason);
    kf_plan_close(plan);
}

/* What the usual knobs and tensors never reach. */
static void verify_knobs(kf_device *device, kf_queue *queue)
{
    static const char *const cases[] = {
        "fused f32 rows=37 cols=257 STAGES=1 GROUPS_PER_UNIT=1",
        "fused bf16 rows=37 cols=256 STAGES=1 THREADS_PER_ROW=16 BLOCK=64 GROUPS_PER_UNIT=1",
        "fused f16 rows=133 cols=96 STAGES=2 THREADS_PER_ROW=8 BLOCK=32 GROUPS_PER_UNIT=3",
        "fused f32 rows=19 cols=1000 THREADS_PER_ROW=64 BLOCK=256 GROUPS_PER_UNIT=1",
        "fused bf16 rows=5 cols=1003 THREADS_PER_ROW=256 BLOCK=256 with=none",
        "fused f32 rows=5 cols=1003 with=weight",
        "fused f32 rows=19 cols=130 with=grad_weight",
        "fused f32 rows=37 cols=1031 BLOCK=64 ONLINE=1",
        "fused bf16 rows=37 cols=2048 BLOCK=64 ONLINE=1 GROUPS_PER_UNIT=6",
        "fused f32 rows=3 cols=777 BLOCK=64 ONLINE=1 with=weight",
        "fused_cpu f32 rows=37 cols=131 ROWS_PER_ITEM=16 BLOCK=2",
        "fused_cpu bf16 rows=37 cols=72 ROWS_PER_ITEM=4 with=weight",
        "fused_cpu f16 rows=9 cols=203 ROWS_PER_ITEM=64 with=grad_weight",
        "unfused f32 rows=37 cols=130 BLOCK=32 THREADS_PER_ROW=32 GROUPS_PER_UNIT=1",
        "unfused bf16 rows=37 cols=130 with=none",
        MORE_CASES};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s %s seed=3", OP, cases[i]);
        verify_case(text, device, queue);
    }
}

static void knobs_change_no_result(void **state)
{
    (void)state;
    on_each_device(verify_knobs);
}

typedef struct run {
    kf_plan *plan;
    kf_exec *exec;
    kf_binding binding[KF_MAX_TENSORS];
    kf_case c;
} run;

static void run_open(const char *text, kf_device *device, kf_queue *queue, run *r)
{
    memset(r, 0, sizeof *r);
    if (case_plan(text, kf_device_target(device), &r->plan) != KF_OK ||
        kf_case_parse(text, &r->c) != KF_OK ||
        case_inputs(r->plan, &r->c, device, queue, r->binding) != KF_OK ||
        kf_prepare(r->plan, device, &r->exec) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
}

static void run_close(run *r)
{
    kf_exec_close(r->exec);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(r->binding[i].buffer);
    kf_plan_close(r->plan);
}

static size_t bytes_of(const run *r, int tensor)
{
    const kf_tensor *t = &r->plan->problem.tensor[tensor];
    return (size_t)(kf_tensor_elements(t) * kf_dtype_bytes(t->dtype));
}

/* Every output of one run, one behind the other. */
static size_t run_read(run *r, const kf_binding *binding, kf_queue *queue, char *to)
{
    size_t used = 0;
    if (kf_run(r->exec, queue, binding, NULL) != KF_OK || kf_queue_finish(queue) != KF_OK)
        fail_msg("%s", kf_error());
    for (int i = 0; i < r->plan->problem.op->tensor_count; i++) {
        if (r->plan->problem.op->tensors[i].role != KF_OUTPUT || !r->plan->problem.tensor[i].dtype)
            continue;
        assert_int_equal(kf_buffer_read(queue, binding[i].buffer, 0, to + used, bytes_of(r, i)),
                         KF_OK);
        used += bytes_of(r, i);
    }
    return used;
}

static const char *const run_cases[] = {
    "fused f32 rows=61 cols=257 BLOCK=64 GROUPS_PER_UNIT=2", "fused bf16 rows=61 cols=128 BLOCK=64",
    "fused_cpu f32 rows=61 cols=260", "fused f32 rows=61 cols=257 ONLINE=1 BLOCK=64",
    "unfused bf16 rows=61 cols=128 BLOCK=64"};

enum { RUN_CASES = sizeof run_cases / sizeof *run_cases, RUN_BYTES = 1 << 20 };

/* Mistake: sums in the order of arrival. */
static void rerun(kf_device *device, kf_queue *queue)
{
    char *first = malloc(RUN_BYTES), *again = malloc(RUN_BYTES);
    for (int i = 0; i < RUN_CASES && !simulated(device); i++) {
        char text[128];
        run r;
        snprintf(text, sizeof text, "%s %s seed=5", OP, run_cases[i]);
        run_open(text, device, queue, &r);
        const size_t bytes = run_read(&r, r.binding, queue, first);
        for (int n = 1; n < 100; n++) {
            assert_int_equal(run_read(&r, r.binding, queue, again), bytes);
            if (memcmp(first, again, bytes))
                fail_msg("%s: run %d gave other bits", text, n);
        }
        run_close(&r);
    }
    free(first);
    free(again);
}

static void a_hundred_runs_give_the_same_bits(void **state)
{
    (void)state;
    on_each_device(rerun);
}

/* Mistake: grad_y read again after grad_x has taken its place. */
static void run_in_place(kf_device *device, kf_queue *queue)
{
    char *apart = malloc(RUN_BYTES), *in_place = malloc(RUN_BYTES);
    for (int i = 0; i < RUN_CASES && !simulated(device); i++) {
        char text[128];
        kf_binding binding[KF_MAX_TENSORS];
        run r;
        snprintf(text, sizeof text, "%s %s seed=5", OP, run_cases[i]);
        run_open(text, device, queue, &r);
        const size_t bytes = run_read(&r, r.binding, queue, apart);
        memcpy(binding, r.binding, sizeof binding);
        binding[index_of(r.plan->problem.op, "grad_x")] =
            binding[index_of(r.plan->problem.op, "grad_y")];
        run_read(&r, binding, queue, in_place);
        if (memcmp(apart, in_place, bytes))
            fail_msg("%s: other bits in place", text);
        run_close(&r);
    }
    free(apart);
    free(in_place);
}

static void in_place_is_the_same(void **state)
{
    (void)state;
    on_each_device(run_in_place);
}
#endif
