/* label: opencl */
/* Sub-groups, on every OpenCL device that has them: their lanes are where the texts take them to
 * be, the reductions of the prelude are right across them, and the plans of the ops use them. Where
 * KFUSE_REQUIRE names subgroups, a device without is a failure. SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include "../core/program.h"
#include "../core/source.h"
#include "../harness/verify.h"
#include "case_rig.h"
#include "each_device.h"

enum { BLOCK = 1024, GROUPS = 3 };

/* Behind the prelude, with all entries of the op's text left out. What each work-item writes: 1024
 * work-items counted, the largest of their numbers, and a large number per mistake; every f16 value
 * is one chance of one. */
static const char lanes_text[] =
    "#line 1 \"test_lanes.cl\"\n"
    "__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void\n"
    "test_lanes(__global int *y, long y_offset)\n"
    "{\n"
    "    __local float slots[KF_SLOTS(BLOCK) + 1], more[KF_SLOTS(BLOCK) + 1];\n"
    "    const int lane = (int)get_local_id(0);\n"
    "    int wrong = 0;\n"
    "    for (int mask = 1; mask < WARP; mask++)\n"
    "        wrong += kf_shuffle((float)lane, mask) != (float)(lane ^ mask);\n"
    "#ifdef cl_intel_subgroups\n"
    "    wrong += get_sub_group_size() != WARP;\n"
    "#endif\n"
    "    for (int h = lane; h < 65536; h += BLOCK) {\n"
    "        const ushort bits = (ushort)h;\n"
    "        const float value = kf_f16_value(bits), right = vload_half(0, (const half *)&bits);\n"
    "        wrong += value == value ? as_uint(value) != as_uint(right) || kf_f16_bits(value) != "
    "bits\n"
    "                                : right == right;\n"
    "    }\n"
    "    const float sum = kf_group_sum(1.0f, BLOCK, lane, slots);\n"
    "    const float max = kf_group_max((float)lane, BLOCK, lane, more);\n"
    "    y[y_offset + (long)get_global_id(0)] = (int)(sum + max) + 10000 * wrong;\n"
    "}\n";

static int found; /* devices with sub-groups */

static bool has_subgroups(const kf_device *device)
{
    return kf_device_target(device)->capabilities & KF_CAP_SUBGROUPS;
}

static char *whole_text(const kf_device *device)
{
    char warp[16], *text, *whole = NULL;
    size_t bytes;
    snprintf(warp, sizeof warp, "WARP %d", kf_device_target(device)->warp);
    const char *const defines[] = {
        "KF_DTYPE 2", "KF_CAP_SHUFFLE 1",     "KF_CAP_SUBGROUPS 1", warp,
        "BLOCK 1024", "THREADS_PER_ROW 1024", "ROWS_PER_GROUP 1",   "ALIGNED 1"};
    assert_int_equal(kf_source_compose(kf_backend_find("opencl"), "elementwise", true, defines,
                                       (int)(sizeof defines / sizeof *defines), &text, &bytes),
                     KF_OK);
    assert_true(asprintf(&whole, "%s%s", text, lanes_text) > 0);
    free(text);
    return whole;
}

static void run_lanes(kf_device *device, kf_queue *queue, kf_kernel *kernel)
{
    static int32_t got[BLOCK * GROUPS];
    kf_buffer *y;
    assert_int_equal(kf_buffer_open(device, &(kf_buffer_desc){.bytes = sizeof got}, &y), KF_OK);
    const kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = y},
                               {.kind = KF_VALUE_I64, .as.i64 = 0}};
    const kf_launch launch = {
        .kernel = kernel, .groups = GROUPS, .threads = BLOCK, .values = values, .value_count = 2};
    assert_int_equal(kf_launch_enqueue(queue, &launch), KF_OK);
    assert_int_equal(kf_buffer_read(queue, y, 0, got, sizeof got), KF_OK);
    for (int i = 0; i < BLOCK * GROUPS; i++)
        assert_int_equal(got[i], BLOCK + BLOCK - 1);
    kf_buffer_close(y);
}

static void check_lanes(kf_device *device, kf_queue *queue)
{
    static const char *const entries[] = {"test_lanes"};
    kf_program *program;
    kf_kernel *kernel;
    if (!has_subgroups(device))
        return;
    found++;
    char *text = whole_text(device);
    const kf_program_desc desc = {.name = "test_lanes.cl",
                                  .text = text,
                                  .entries = entries,
                                  .entry_count = 1,
                                  .threads = BLOCK};
    if (kf_program_build(device, &desc, &program) != KF_OK)
        fail_msg("%s", kf_error());
    free(text);
    assert_int_equal(kf_kernel_open(program, "test_lanes", NULL, &kernel), KF_OK);
    run_lanes(device, queue, kernel);
    kf_kernel_close(kernel);
    kf_program_close(program);
}

static void judge_found(void)
{
    const char *required = getenv("KFUSE_REQUIRE");
    if (!found && required && strstr(required, "subgroups"))
        fail_msg("no device has sub-groups (KFUSE_REQUIRE)");
    if (!found)
        skip();
}

/* Catches: a conversion of f16 that flushes denormals, as the driver's may; lanes that are not
 * consecutive work-items, a size that is not the one demanded, an attribute that does not reach the
 * entry, a shuffle of another kind. */
static void lanes_are_neighbours(void **state)
{
    (void)state;
    found = 0;
    on_each_device(check_lanes);
    judge_found();
}

static void check_plan(kf_device *device, kf_queue *queue, const char *text)
{
    kf_plan *plan;
    kf_step_program *made;
    kf_verify_report report;
    assert_int_equal(case_plan(text, kf_device_target(device), &plan), KF_OK);
    assert_int_equal(kf_step_program_make(plan, 0, kf_backend_find("opencl"), false, &made), KF_OK);
    assert_non_null(strstr(made->text, "#define KF_CAP_SUBGROUPS 1\n"));
    kf_step_program_free(made);
    const kf_verify_options options = {.distribution = KF_DIST_NORMAL, .seed = 42};
    if (kf_verify(plan, device, queue, &options, &report) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (!report.passed)
        fail_msg("%s: %s", text, report.reason);
    kf_plan_close(plan);
}

/* A row within a sub-group, one over several, in 16 bit, and one over 32 of them. */
static void check_plans(kf_device *device, kf_queue *queue)
{
    if (!has_subgroups(device))
        return;
    found++;
    check_plan(device, queue, "softmax fused f32 rows=7 cols=33 seed=42");
    check_plan(device, queue,
               "softmax fused f16 rows=7 cols=2048 BLOCK=128 THREADS_PER_ROW=128 seed=42");
    check_plan(device, queue,
               "softmax fused f32 rows=3 cols=8192 BLOCK=1024 THREADS_PER_ROW=1024 seed=42");
    check_plan(device, queue,
               "layer_norm fused f32 rows=3 cols=8192 BLOCK=1024 THREADS_PER_ROW=1024 seed=42");
}

/* Catches: a capability that no plan hears of, slots of another size than the text's. */
static void plans_reduce_over_them(void **state)
{
    (void)state;
    found = 0;
    on_each_device(check_plans);
    judge_found();
}

static void refuse_small_groups(kf_device *device, kf_queue *queue)
{
    static const char *const texts[] = {
        "softmax fused f32 rows=7 cols=33 BLOCK=8 THREADS_PER_ROW=8 seed=1",
        "rms_norm fused f32 rows=7 cols=33 BLOCK=16 THREADS_PER_ROW=1 seed=1",
        "softmax_backward fused f32 rows=7 cols=33 BLOCK=8 THREADS_PER_ROW=8 seed=1",
        "layer_norm_backward fused f32 rows=7 cols=33 BLOCK=8 THREADS_PER_ROW=8 seed=1",
        "cross_entropy fused f32 rows=7 cols=33 BLOCK=8 THREADS_PER_ROW=8 seed=1"};
    kf_plan *plan = NULL;
    (void)queue;
    if (!has_subgroups(device))
        return;
    found++;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(case_plan(texts[i], kf_device_target(device), &plan), KF_UNSUPPORTED);
        assert_non_null(strstr(kf_error(), "less than a warp"));
    }
}

/* Catches: a group smaller than a sub-group let through because the device is a CPU. */
static void a_group_is_a_subgroup_at_least(void **state)
{
    (void)state;
    found = 0;
    on_each_device(refuse_small_groups);
    judge_found();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_are_neighbours),
        cmocka_unit_test(plans_reduce_over_them),
        cmocka_unit_test(a_group_is_a_subgroup_at_least),
    };
    return cmocka_run_group_tests_name("opencl_subgroups", tests, NULL, NULL);
}
