/* label: unit */
/* The plans of fused_split for made-up targets, and the counters by which its groups meet; no
 * device. What the kernels compute is judged by test_split and, on GPUs, by test_conformance.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "../core/backend.h"
#include "../ops/common/row_split.h"
#include "case_rig.h"

/* A large GPU: 132 units, no clusters. */
static kf_target large(void)
{
    kf_target target = *kf_target_generic();
    target.capabilities = KF_CAP_SHUFFLE | KF_CAP_PTX;
    target.units = 132;
    target.local_bytes = 232448;
    target.local_bytes_per_unit = 233472;
    return target;
}

static kf_plan *plan_of(const char *text, const kf_target *target)
{
    kf_plan *plan;
    if (case_plan(text, target, &plan) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    return plan;
}

static kf_row_split split_of(const kf_plan *plan)
{
    return kf_row_split_of(&plan->problem, &plan->config, &plan->target);
}

/* Mistakes: units that stay idle beside a few wide rows; a second read of what fits on the chip;
 * slots and tickets that the plan does not declare. */
static void every_unit_takes_part(void **state)
{
    static const char *const few[] = {"softmax fused_split f32 rows=1 cols=128256",
                                      "softmax fused_split f32 rows=4 cols=1048576",
                                      "rms_norm fused_split f32 rows=4 cols=1048576"};
    static const int64_t parts[] = {132, 33, 66}, groups[] = {132, 132, 264},
                         bytes[] = {128256 * 4, 4 * 1048576 * 4, 4 * 1048576 * 4 + 1048576 * 4};
    const kf_target target = large();
    (void)state;
    for (int i = 0; i < 3; i++) {
        kf_plan *plan = plan_of(few[i], &target);
        const kf_row_split s = split_of(plan);
        const kf_cost cost = kf_plan_cost(plan);
        const int64_t slots = 16 * plan->problem.dim[KF_ROWS] * s.parts;
        assert_int_equal(s.parts, parts[i]);
        assert_int_equal(plan->step[0].grid.groups, groups[i]);
        assert_int_equal(cost.launches, 1);
        assert_int_equal(cost.bytes_read, bytes[i] + slots + 4);
        assert_int_equal(plan->scratch_bytes, 0);
        assert_true(cost.scratch_bytes >= slots + 4);
        kf_plan_close(plan);
    }
}

/* Mistake: many rows of one group per unit each, all of which wait at the same time. */
static void many_rows_have_several_groups_per_unit(void **state)
{
    const kf_target target = large();
    (void)state;
    kf_plan *plan = plan_of("softmax fused_split f32 rows=1024 cols=131072", &target);
    const kf_row_split s = split_of(plan);
    assert_int_equal(s.parts, 4);
    assert_int_equal(s.teams, 66);
    assert_int_equal(plan->step[0].grid.groups, 264);
    assert_int_equal(plan->step[0].grid.least_groups, 2);
    assert_true(plan->step[0].grid.register_cap == 64 && s.slice.whole);
    kf_plan_close(plan);
}

static void check_shape(const kf_plan *plan, const char *text)
{
    const kf_row_split s = split_of(plan);
    const int64_t v = kf_row_vectors(&plan->problem);
    const int64_t least = plan->config.knob[KF_ROW_LEAST_GROUPS];
    const bool holds = s.parts * s.part_vecs >= v && s.slice.block * s.slice.vecs >= s.part_vecs;
    const bool resident = s.teams * s.parts <= plan->target.units * least &&
                          least * s.slice.block <= plan->target.max_threads_per_unit;
    if (!holds || !resident || plan->step[0].grid.groups != s.teams * s.parts)
        fail_msg("%s: %ld parts of %ld vectors, %ld teams, %ld groups", text, (long)s.parts,
                 (long)s.part_vecs, (long)s.teams, (long)plan->step[0].grid.groups);
}

/* Mistakes: a width that falls between the defaults, parts that leave columns out, more groups than
 * run at once (which is a launch that never ends). */
static void every_width_is_held_by_groups_that_run_at_once(void **state)
{
    static const char *const ops[] = {"softmax", "log_softmax", "rms_norm", "add_layer_norm"};
    static const int cols[] = {1,     7,     128,    1000,   4096,    8193,
                               50257, 65537, 131072, 262147, 1048576, 4194304};
    static const int rows[] = {1, 2, 3, 5, 16, 64, 100, 1024, 65537};
    kf_target target = large();
    (void)state;
    for (int i = 0; i < 4 * 12 * 9 * 3; i++) {
        char text[120];
        snprintf(text, sizeof text, "%s fused_split %s rows=%d cols=%d", ops[i % 4],
                 kf_dtype_name((kf_dtype)(KF_F32 + i / 4 % 3)), rows[i / 12 % 9], cols[i / 108]);
        kf_plan *plan = plan_of(text, &target);
        check_shape(plan, text);
        kf_plan_close(plan);
    }
}

static void is_refused(const char *text, const kf_target *target, const char *why)
{
    kf_plan *plan;
    assert_int_equal(case_plan(text, target, &plan), KF_UNSUPPORTED);
    if (!strstr(kf_error(), why))
        fail_msg("%s: %s", text, kf_error());
}

/* Mistake: a launch whose groups wait for others that have no place to run. */
static void what_cannot_be_resident_is_refused(void **state)
{
    kf_target target = large();
    (void)state;
    target.units = 4;
    is_refused("softmax fused_split f32 rows=1 cols=100000 GROUPS_PER_ROW=8", &target,
               "only one on each of 4 units is certain to run");
    is_refused("softmax fused_split f32 rows=1 cols=40000000", &target, "vectors in registers");
    target = large();
    is_refused("softmax fused_split f32 rows=1 cols=100000 LEAST_GROUPS=8 BLOCK=1024", &target,
               "more than a unit is known to hold");
    is_refused("softmax fused_split f32 rows=1 cols=100000 LEAST_GROUPS=4 BLOCK=512 LOCAL_VECS=12 "
               "GROUPS_PER_ROW=4",
               &target, "more than a unit is known to hold");
    is_refused("softmax fused_split f32 rows=1 cols=100000 BLOCK=32", &target, "BLOCK");
    target.registers_per_unit = target.max_threads_per_unit = target.local_bytes_per_unit = 0;
    is_refused("softmax fused_split f32 rows=1 cols=100000 LEAST_GROUPS=2", &target,
               "known to hold");
    target.capabilities |= KF_CAP_CPU;
    is_refused("softmax fused_split f32 rows=1 cols=100000", &target, "one after the other");
    target.capabilities = KF_CAP_SIMULATOR;
    is_refused("rms_norm fused_split f32 rows=1 cols=100000", &target, "one after the other");
}

/* Mistakes: a row in more parts than units, which hangs where a unit holds one group less than was
 * thought; a choice that is then refused, because the op's defaults are not those that were asked,
 * or park more than a group of this device has local memory for. */
static void what_is_chosen_fits(void **state)
{
    static const char *const ops[] = {"softmax",    "log_softmax",  "rms_norm",
                                      "layer_norm", "add_rms_norm", "add_layer_norm"};
    static const int rows[] = {1, 2, 4, 33, 66, 67, 1024}, kib[] = {48, 64, 99, 227};
    kf_target target = large();
    (void)state;
    target.compute_capability = 90;
    for (int i = 0; i < 6 * 3 * 7 * 4; i++) {
        target.local_bytes = kib[i / 126] * 1024;
        for (int64_t cols = 1000; cols < 40000000; cols += cols / 7) {
            char text[120];
            /* with the weights, whose norms have defaults of their own */
            snprintf(text, sizeof text, "%s default %s rows=%d cols=%lld%s", ops[i % 6],
                     kf_dtype_name((kf_dtype)(KF_F32 + i / 6 % 3)), rows[i / 18 % 7],
                     (long long)cols, i % 6 >= 2 && cols % 2 ? " with=weight" : "");
            kf_plan *plan = plan_of(text, &target);
            const kf_problem *problem = &plan->problem;
            if (!strcmp(plan->variant->name, "fused_split"))
                assert_in_range(kf_row_split_of(problem, &plan->config, &target).parts, 2,
                                target.units);
            kf_plan_close(plan);
        }
    }
}

static void is_chosen(const char *text, const kf_target *target, const char *variant)
{
    kf_plan *plan = plan_of(text, target);
    if (strcmp(plan->variant->name, variant) != 0)
        fail_msg("%s: %s, not %s", text, plan->variant->name, variant);
    kf_plan_close(plan);
}

/* Mistakes: the default where it was slower, or where nobody knows whether groups run together; two
 * reads of a row that groups can hold together. */
static void it_is_chosen_where_it_was_faster(void **state)
{
    kf_target target = large();
    (void)state;
    is_chosen("softmax default f32 rows=4 cols=1048576", &target, "fused");
    target.compute_capability = 90;
    is_chosen("softmax default f32 rows=4 cols=1048576", &target, "fused_split");
    is_chosen("rms_norm default f32 rows=1 cols=16384", &target, "fused_split");
    is_chosen("softmax default f32 rows=1 cols=8192", &target, "fused");
    is_chosen("softmax default f32 rows=66 cols=16384", &target, "fused");
    is_chosen("softmax default bf16 rows=66 cols=65536", &target, "fused_split");
    is_chosen("softmax default f32 rows=4096 cols=4096", &target, "fused");
    is_chosen("layer_norm default f32 rows=1024 cols=131072", &target, "fused_split");
    is_chosen("softmax default f32 rows=1 cols=40000000", &target, "fused");
    target.capabilities |= KF_CAP_CLUSTERS;
    target.max_cluster = 16;
    is_chosen("layer_norm default f32 rows=1024 cols=131072", &target, "fused_cluster");
    is_chosen("softmax default f32 rows=1 cols=131072", &target, "fused_split");
}

/* Mistakes: counters that lie in the caller's workspace, whose bytes are anything; that are not
 * zero at the start; that a run clears or waits for. */
static void counters_are_the_execs_own(void **state)
{
    const kf_target target = large();
    kf_plan *plan = plan_of("softmax fused_split f32 rows=2 cols=65536", &target);
    kf_device *device;
    kf_queue *queue;
    kf_exec *exec;
    kf_buffer *buffer[3];
    char slots[64];
    (void)state;
    const kf_device_desc desc = {.backend = "null", .target = &target, .no_cache = true};
    assert_int_equal(kf_device_open(&desc, &device), KF_OK);
    assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            kf_buffer_open(device, &(kf_buffer_desc){.bytes = 2 * 65536 * 4}, &buffer[i]), KF_OK);
    const uint64_t fills = device->calls[KF_SLOT_buffer_fill];
    assert_int_equal(kf_prepare(plan, device, &exec), KF_OK);
    assert_int_equal(device->calls[KF_SLOT_buffer_fill] - fills, 1);
    assert_int_equal(kf_exec_workspace_bytes(exec), 0);
    const uint64_t opened = device->calls[KF_SLOT_buffer_open];
    const kf_binding binding[] = {{.buffer = buffer[0]}, {.buffer = buffer[1]}};
    for (int run = 0; run < 2; run++)
        assert_int_equal(kf_run(exec, queue, binding, run ? buffer[2] : NULL), KF_OK);
    assert_int_equal(device->calls[KF_SLOT_buffer_fill] - fills, 1);
    assert_int_equal(device->calls[KF_SLOT_buffer_open], opened);
    assert_int_equal(kf_null_launch_count(queue), 2);
    const kf_value *a = kf_null_launches(queue)[0].launch.values + 4,
                   *b = kf_null_launches(queue)[1].launch.values + 4;
    assert_ptr_equal(a[0].as.buffer, b[0].as.buffer);
    assert_true(a[0].as.buffer != buffer[2] && a[0].as.buffer == a[2].as.buffer);
    assert_true(a[2].as.i64 * 4 >= a[1].as.i64 * 8 + 16 * 2 * split_of(plan).parts);
    assert_int_equal(kf_buffer_read(queue, a[0].as.buffer, 0, slots, sizeof slots), KF_OK);
    for (size_t i = 0; i < sizeof slots; i++)
        assert_int_equal(slots[i], 0);
    kf_exec_close(exec);
    for (int i = 0; i < 3; i++)
        kf_buffer_close(buffer[i]);
    kf_queue_close(queue);
    assert_int_equal(device->live, 0);
    kf_device_close(device);
    kf_plan_close(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_takes_part),
        cmocka_unit_test(many_rows_have_several_groups_per_unit),
        cmocka_unit_test(every_width_is_held_by_groups_that_run_at_once),
        cmocka_unit_test(what_cannot_be_resident_is_refused),
        cmocka_unit_test(it_is_chosen_where_it_was_faster),
        cmocka_unit_test(what_is_chosen_fits),
        cmocka_unit_test(counters_are_the_execs_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
