/* label: opencl */
/* timeout: 900 */
/* fused_split run for what it computes, where no GPU is: an OpenCL CPU device whose driver runs as
 * many groups at once as a row has, each on a thread of its own. The plan is made for a target that
 * is that device without the word CPU; what groups tell each other, and the numbers of runs, are
 * those of the real kernels without inline PTX. Another driver than PoCL is refused (exit 77): it
 * may run groups one after the other, and the first would wait for ever.
 *
 * Planted and caught: a number of the run that is always the same, a ticket counter that does not
 * start again, parts that run on into the next, edges that every part takes, a tail that no part
 * counts, slots of another row, rows left out. What it cannot show is an order of stores that a CPU
 * keeps by itself. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../harness/verify.h"
#include "case_rig.h"

enum { GROUPS = 8 }; /* threads of the driver */

static kf_device *device;
static kf_queue *queue;
static kf_target target;

static void check(const char *text, kf_distribution distribution)
{
    kf_case c;
    kf_plan *plan;
    kf_verify_report report;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    kf_verify_options options = {.distribution = distribution, .seed = c.seed};
    memcpy(options.offset, c.offset, sizeof options.offset);
    if (case_plan(text, &target, &plan) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    assert_true(plan->step[0].grid.groups <= GROUPS);
    const kf_status status = kf_verify(plan, device, queue, &options, &report);
    kf_plan_close(plan);
    if (status != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (getenv("KFUSE_VERBOSE"))
        fprintf(stderr, "%s\n", text);
    if (!report.passed)
        fail_msg("%s (%s inputs): %s", text, kf_distribution_name(distribution), report.reason);
}

static const char *const ops[] = {"softmax",    "log_softmax",  "rms_norm",
                                  "layer_norm", "add_rms_norm", "add_layer_norm"};
enum { OPS = sizeof ops / sizeof *ops };

/* Mistakes: a part that lies elsewhere than its group thinks, an edge that two groups or none take,
 * a part without elements that spoils the others, a row that a team leaves out, padding that
 * counts. */
static void every_shape_passes(void **state)
{
    static const char *const shapes[] = {
        "rows=9 cols=1000 GROUPS_PER_ROW=3",
        "rows=7 cols=1025 GROUPS_PER_ROW=2 stride.x=1027 stride.y=1026 offset.x=1 offset.y=3",
        "rows=3 cols=16384 GROUPS_PER_ROW=6 BLOCK=64 LOCAL_VECS=3",
        "rows=1 cols=1",
        "rows=3 cols=33",
        "rows=2 cols=50257 GROUPS_PER_ROW=0",
        "rows=5 cols=4096 GROUPS_PER_ROW=4 BLOCK=128",
        "rows=1 cols=257 GROUPS_PER_ROW=8",
        "rows=4 cols=2048 GROUPS_PER_ROW=4 BLOCK=64 LOCAL_VECS=1 offset.y=1"};
    enum { SHAPES = sizeof shapes / sizeof *shapes };
    (void)state;
    for (int o = 0; o < OPS; o++)
        for (int d = KF_F32; d <= KF_BF16; d++) {
            /* a compilation each: all of them for KFUSE_LONG */
            const int few = o == 0 ? 4 : 2;
            const int count = getenv("KFUSE_LONG") ? SHAPES : d == KF_F32 ? few : o % 3 == 0;
            for (int i = 0; i < count; i++) {
                char text[300];
                snprintf(text, sizeof text, "%s fused_split %s %s", ops[o],
                         kf_dtype_name((kf_dtype)d), shapes[(d == KF_F32 ? i : o + i) % SHAPES]);
                check(text, KF_DIST_NORMAL);
            }
        }
}

/* Mistakes: infinities and NaN that get lost between the groups; a mean of parts far from 0. */
static void nasty_inputs_pass(void **state)
{
    (void)state;
    for (int o = 0; o < OPS; o++)
        for (int i = 0; i < KF_DIST_COUNT; i++) {
            char text[300];
            snprintf(text, sizeof text,
                     "%s fused_split f32 rows=5 cols=1025 GROUPS_PER_ROW=3 BLOCK=64", ops[o]);
            check(text, (kf_distribution)i);
        }
}

/* No optional tensor, and all of them. */
static void optional_tensors_pass(void **state)
{
    (void)state;
    check("layer_norm fused_split f32 rows=3 cols=1000 with=none GROUPS_PER_ROW=4", KF_DIST_NORMAL);
    check("layer_norm fused_split f32 rows=3 cols=1000 with=weight,bias,mean,rstd GROUPS_PER_ROW=4",
          KF_DIST_NORMAL);
    check("add_layer_norm fused_split bf16 rows=3 cols=1000 with=weight,bias,mean,rstd "
          "GROUPS_PER_ROW=3",
          KF_DIST_NORMAL);
    check("rms_norm fused_split f16 rows=3 cols=1024 with=rstd offset=1 GROUPS_PER_ROW=2",
          KF_DIST_NORMAL);
}

/* Mistakes: a run that takes what the run before it left in the slots; a counter that is not where
 * the next run can start. Other inputs each time, and an odd number of runs in between. */
static void runs_follow_one_another(void **state)
{
    enum { COLS = 1024, RUNS = 7 };
    const char text[] = "softmax fused_split f32 rows=2 cols=1024 GROUPS_PER_ROW=4 BLOCK=64";
    static float x[2 * COLS], y[2 * COLS], first[2 * COLS];
    kf_plan *plan;
    kf_exec *exec;
    kf_binding binding[2] = {{0}};
    (void)state;
    assert_int_equal(case_plan(text, &target, &plan), KF_OK);
    assert_int_equal(kf_prepare(plan, device, &exec), KF_OK);
    for (int t = 0; t < 2; t++)
        assert_int_equal(
            kf_buffer_open(device, &(kf_buffer_desc){.bytes = sizeof x}, &binding[t].buffer),
            KF_OK);
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < 2 * COLS; i++)
            x[i] = (float)((i * 7 + run * 311) % 1021) / (float)(1 + run % 3);
        assert_int_equal(kf_buffer_write(queue, binding[0].buffer, 0, x, sizeof x), KF_OK);
        for (int again = 0; again <= run % 2; again++) { /* back to back, the same bits */
            assert_int_equal(kf_run(exec, queue, binding, NULL), KF_OK);
            assert_int_equal(kf_buffer_read(queue, binding[1].buffer, 0, y, sizeof y), KF_OK);
            if (again)
                assert_memory_equal(first, y, sizeof y);
            memcpy(first, y, sizeof y);
        }
        double value[2 * COLS], bound[2 * COLS];
        kf_verify_report report = {.first_bad = -1};
        const void *inputs[KF_MAX_TENSORS] = {x};
        assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, inputs, 1, 0,
                                                     2 * COLS, value, bound),
                         KF_OK);
        kf_compare(KF_F32, y, value, bound, 2 * COLS, &report);
        if (report.bad)
            fail_msg("run %d: element %ld is %g, not %g", run, (long)report.first_bad, report.got,
                     report.want);
    }
    kf_exec_close(exec);
    for (int t = 0; t < 2; t++)
        kf_buffer_close(binding[t].buffer);
    kf_plan_close(plan);
}

/* PoCL gives each thread one group at a time where there are no more groups than threads. */
static bool open_device(void)
{
    char threads[8];
    snprintf(threads, sizeof threads, "%d", GROUPS);
    setenv("POCL_MAX_PTHREAD_COUNT", threads, 1);
    setenv("POCL_CPU_MAX_CU_COUNT", threads, 1); /* its name since PoCL 4 */
    const kf_device_desc desc = {.backend = "opencl", .read_kernels = true};
    if (kf_device_open(&desc, &device) != KF_OK ||
        !strstr(kf_device_describe(device)->platform, "Portable Computing Language"))
        return false;
    target = *kf_device_target(device);
    if (target.units < GROUPS) /* it would run fewer at once */
        return false;
    target.capabilities &= ~(uint64_t)KF_CAP_CPU;
    target.units = GROUPS;
    target.max_threads = 256;
    return kf_queue_open(device, NULL, &queue) == KF_OK;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_passes),
        cmocka_unit_test(nasty_inputs_pass),
        cmocka_unit_test(optional_tensors_pass),
        cmocka_unit_test(runs_follow_one_another),
    };
    int failed = 77;
    if (open_device())
        failed = cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
    else
        fprintf(stderr, "no PoCL that runs %d groups at once\n", GROUPS);
    kf_queue_close(queue);
    const int live = device ? device->live : 0;
    kf_device_close(device);
    return live ? 1 : failed;
}
