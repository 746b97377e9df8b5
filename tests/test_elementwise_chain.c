/* label: opencl */
/* The chain of the lesson elementwise_fusion: launches and bytes by its length, a reference that
 * counts its operations, every length verified and in place on every OpenCL device. Shapes and
 * nasty inputs at the usual length are test_conformance's. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "map_rig.h"

enum { X, Y, LONGEST = 16 };

static kf_plan *plan_of(const char *variant, const char *words, int length, bool cpu)
{
    const kf_target target = map_target(cpu);
    char text[128];
    snprintf(text, sizeof text, "elementwise_chain %s f16 n=100003 length=%d %s", variant, length,
             words);
    return map_plan(text, &target);
}

/* Mistakes: an operation without its launch, a launch that moves more than one tensor in and one
 * out, scratch that grows with the length. */
static void every_operation_is_a_launch_or_none_is(void **state)
{
    (void)state;
    const int64_t tensor = 100003 * 2;
    for (int cpu = 0; cpu < 2; cpu++)
        for (int length = 1; length <= LONGEST; length++) {
            kf_plan *unfused = plan_of("unfused", "", length, cpu),
                    *fused = plan_of(cpu ? "fused_cpu" : "fused", "", length, cpu);
            const kf_cost many = kf_plan_cost(unfused), one = kf_plan_cost(fused);
            assert_int_equal(many.launches, length);
            assert_int_equal(many.bytes_read, length * tensor);
            assert_int_equal(many.bytes_written, length * tensor);
            assert_true(many.scratch_bytes <= 2 * (tensor + 256));
            assert_int_equal(one.launches, 1);
            assert_int_equal(one.bytes_read + one.bytes_written, 2 * tensor);
            assert_int_equal(one.scratch_bytes, 0);
            assert_int_equal(one.flops, many.flops);
            kf_plan_close(unfused);
            kf_plan_close(fused);
        }
}

/* Mistake: a length that no unrolled text has, launched all the same. */
static void other_lengths_are_refused(void **state)
{
    (void)state;
    static const char *const words[] = {"length=0", "length=17", "length=-1"};
    const kf_target target = map_target(false);
    for (int i = 0; i < 3; i++) {
        char text[96];
        kf_plan *plan;
        snprintf(text, sizeof text, "elementwise_chain fused f32 n=10 %s", words[i]);
        assert_int_equal(case_plan(text, &target, &plan), KF_INVALID);
        assert_non_null(strstr(kf_error(), "1 to 16"));
    }
}

/* Mistake: a misaligned tensor read by aligned vectors from its start; one row taken for many. */
static void a_misaligned_tensor_is_one_row_with_edges(void **state)
{
    (void)state;
    kf_plan *aligned = plan_of("fused", "", 3, false),
            *shifted = plan_of("fused", "offset.x=3", 3, false);
    assert_int_equal(map_define(aligned, "MAP_FLAT"), 1);
    assert_int_equal(map_define(shifted, "MAP_FLAT"), 0);
    assert_int_equal(map_define(shifted, "MAP_WHOLE"), 0);
    assert_int_equal(shifted->step[0].grid.groups, (100003 + 14) / 8 / 256 + 1);
    kf_plan_close(aligned);
    kf_plan_close(shifted);
}

/* ---- reference ---------------------------------------------------------------------------- */

static double chain(double v, int length)
{
    for (int k = 1; k <= length; k++)
        v = k % 2 ? v * (1 + k / 64.0) : v + k / 8.0;
    return v;
}

static void expect(const char *dtype, kf_dtype intermediate, int length, double x, double got,
                   bool accepted)
{
    char text[96];
    snprintf(text, sizeof text, "elementwise_chain fused %s n=1 length=%d", dtype, length);
    const bool taken = map_accepts(text, intermediate, false, &x, Y, got);
    if (taken != accepted)
        fail_msg("%s, length %d: %g -> %.9g is %s", dtype, length, x, got,
                 taken ? "accepted" : "refused");
}

/* Mistakes: a chain one operation too short or too long, the operations in another order, a bound
 * that is as wide for one operation as for sixteen. */
static void reference_counts_its_operations(void **state)
{
    (void)state;
    for (int length = 1; length <= LONGEST; length++) {
        expect("f32", KF_NONE, length, 0.75, chain(0.75, length), true);
        expect("f32", KF_NONE, length, 0.75, chain(0.75, length - 1), false);
        expect("f32", KF_NONE, length, 0.75, chain(0.75, length + 1), false);
        expect("f32", KF_NONE, length, 0.75, chain(0.75, length) * (1 + (length + 3) * 0x1p-23),
               false);
    }
    expect("f32", KF_NONE, 2, 3, (3 + 2 / 8.0) * (1 + 1 / 64.0), false);
    expect("bf16", KF_NONE, 16, 3, chain(3, 16) * (1 + 0x1p-6), false);
    expect("bf16", KF_BF16, 16, 3, chain(3, 16) * (1 + 0x1p-6), true); /* 16 roundings */
    expect("bf16", KF_BF16, 16, 3, chain(3, 16) * (1 + 0x1p-3), false);
    expect("f16", KF_F16, 1, 65504, INFINITY, true);
    expect("f32", KF_NONE, 16, NAN, NAN, true);
    expect("f32", KF_NONE, 16, -INFINITY, -INFINITY, true);
}

/* ---- on devices ----------------------------------------------------------------------------- */

static void check_lengths(kf_device *device, kf_queue *queue)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu"};
    static const int lengths[] = {1, 2, 4, 15, 16};
    for (int v = 0; v < 3; v++)
        for (int i = 0; i < 5; i++) {
            char words[96];
            snprintf(words, sizeof words, "elementwise_chain %s %s n=1003 length=%d", variants[v],
                     kf_dtype_name((kf_dtype)(KF_F32 + i % 3)), lengths[i]);
            map_verify(words, device, queue);
            map_in_place(words, device, queue, Y, X);
        }
}

/* Mistakes: a step left out or done twice at the ends of the range, scratch that the wrong step
 * reads, an output that may not be the input. */
static void short_and_long_chains_are_right_and_in_place(void **state)
{
    (void)state;
    on_each_device(check_lengths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_a_launch_or_none_is),
        cmocka_unit_test(other_lengths_are_refused),
        cmocka_unit_test(a_misaligned_tensor_is_one_row_with_edges),
        cmocka_unit_test(reference_counts_its_operations),
        cmocka_unit_test(short_and_long_chains_are_right_and_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
