/* label: unit */
/* The plans and the reference of log softmax; no device. What the kernels compute is judged by
 * test_conformance, what they move by test_signature. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "case_rig.h"

/* A big GPU, a small GPU without shuffles, a CPU. */
static kf_target target_of(int kind)
{
    kf_target target = *kf_target_generic();
    target.max_groups = INT32_MAX;
    target.max_threads = kind ? 256 : 1024;
    target.local_bytes = kind ? 32768 : 232448;
    target.warp = kind ? 1 : 32;
    target.capabilities = kind == 0   ? KF_CAP_SHUFFLE | KF_CAP_CLUSTERS | KF_CAP_PTX
                          : kind == 1 ? 0
                                      : KF_CAP_CPU;
    target.max_cluster = kind ? 0 : 16;
    target.registers_per_unit = kind ? 0 : 65536;
    return target;
}

static void open_case(const char *text, int kind, kf_plan **plan)
{
    const kf_target target = target_of(kind);
    if (case_plan(text, &target, plan) != KF_OK)
        fail_msg("%s on target %d: %s", text, kind, kf_error());
}

/* Mistake: a width that falls between two tables of defaults. */
static void every_width_has_a_plan_in_every_variant(void **state)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu", "default"};
    static const int cols[] = {1,    2,    7,     31,    128,    781,    1000,    1025,
                               4096, 8193, 16384, 50257, 131072, 262147, 1048576, 4194304};
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int i = 0; i < 8 * (int)(sizeof cols / sizeof *cols); i++) {
                char text[120];
                kf_plan *plan;
                snprintf(text, sizeof text, "log_softmax %s %s rows=%d cols=%d", variants[i & 3],
                         kf_dtype_name((kf_dtype)d), i & 4 ? 16384 : 3, cols[i / 8]);
                open_case(text, kind, &plan);
                kf_plan_close(plan);
            }
}

/* Mistake: a second read of a row that fits on the chip, or a promise that cannot be kept. */
static void rows_are_read_once_where_they_fit(void **state)
{
    static const char *const text[] = {"log_softmax fused f32 rows=4 cols=16384",
                                       "log_softmax fused f32 rows=4 cols=1048576",
                                       "log_softmax fused_cluster f32 rows=4 cols=131072"};
    static const int64_t requested[] = {4 * 16384 * 4, 2 * 4 * 1048576 * INT64_C(4),
                                        4 * 131072 * 4};
    (void)state;
    for (int i = 0; i < 3; i++) {
        kf_plan *plan;
        open_case(text[i], 0, &plan);
        assert_int_equal(kf_plan_cost(plan).bytes_requested, requested[i]);
        kf_plan_close(plan);
    }
}

/* Mistakes: log2 for log; exponentials that do not sum to 1; a bound that swallows an offset. */
static void the_reference_is_the_formula(void **state)
{
    const float x[] = {1000.5f, 999, 1002, -INFINITY};
    const void *inputs[KF_MAX_TENSORS] = {x};
    const double log_sum = log(exp(-1.5) + exp(-3) + 1);
    double value[4], bound[4], sum = 0;
    kf_plan *plan;
    (void)state;
    open_case("log_softmax fused f32 rows=1 cols=4", 0, &plan);
    assert_int_equal(
        plan->problem.op->reference(&plan->problem, &plan->error, inputs, 1, 0, 4, value, bound),
        KF_OK);
    for (int i = 0; i < 3; i++) {
        const double want = (double)x[i] - 1002 - log_sum;
        const double few_roundings = 16 * 0x1p-53 * fabs(want);
        assert_true(fabs(value[i] - want) <= few_roundings);
        assert_true(bound[i] > 0 && bound[i] < 1e-5);
        sum += exp(value[i]);
    }
    assert_true(isinf(value[3]) && value[3] < 0);
    const double more_roundings = 16 * 0x1p-53;
    assert_true(fabs(sum - 1) <= more_roundings);
    kf_plan_close(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(rows_are_read_once_where_they_fit),
        cmocka_unit_test(the_reference_is_the_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
