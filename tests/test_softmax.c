/* label: unit */
/* The plans of softmax over widths, dtypes and targets; no device. What the kernels compute is
 * judged by test_conformance, what they move by test_signature. SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"

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

static kf_status open_plan(const char *variant, kf_dtype dtype, int64_t rows, int64_t cols,
                           const kf_target *target, kf_plan **plan)
{
    kf_problem *problem;
    assert_int_equal(kf_problem_open("softmax", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, dtype, (int64_t[]){rows, cols}, NULL), KF_OK);
    problem->tensor[0].alignment = problem->tensor[1].alignment = 256; /* as every allocation's */
    const kf_status status =
        kf_plan_open(problem, &(kf_plan_desc){.variant = variant}, target, plan);
    kf_problem_close(problem);
    return status;
}

static void has_plan(const char *variant, kf_dtype dtype, int64_t rows, int64_t cols, int kind)
{
    const kf_target target = target_of(kind);
    kf_plan *plan;
    if (open_plan(variant, dtype, rows, cols, &target, &plan) != KF_OK)
        fail_msg("%s %s rows=%ld cols=%ld on target %d: %s", variant ? variant : "default",
                 kf_dtype_name(dtype), rows, cols, kind, kf_error());
    kf_plan_close(plan);
}

/* Mistake: a width that falls between two tables of defaults and has no plan, or one that fits
 * nowhere. */
static void every_width_has_a_plan_in_every_variant(void **state)
{
    (void)state;
    static const char *const variants[] = {"unfused", "fused", "fused_cpu", NULL};
    static const int64_t wide[] = {4096,  8192,  8193,   16384,  32767,   32769,
                                   50257, 65537, 131072, 262147, 1048576, 4194304};
    for (int kind = 0; kind < 3; kind++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int v = 0; v < 4; v++)
                for (int64_t i = 1; i < 4200 + 12; i += i < 300 || i >= 4200 ? 1 : 13) {
                    const int64_t cols = i < 4200 ? i : wide[i - 4200];
                    has_plan(variants[v], (kf_dtype)d, 3, cols, kind);
                    has_plan(variants[v], (kf_dtype)d, 16384, cols, kind); /* other defaults */
                }
}

/* Mistake: a row that fits on the chip is read twice, or one that cannot fit is promised a single
 * read. */
static void rows_are_read_once_where_they_fit(void **state)
{
    (void)state;
    const kf_target target = target_of(0);
    const int64_t fits = 16384, wide = 1048576;
    kf_plan *plan;
    assert_int_equal(open_plan("fused", KF_F32, 4, fits, &target, &plan), KF_OK);
    assert_int_equal(kf_plan_cost(plan).bytes_requested, 4 * fits * 4);
    kf_plan_close(plan);
    assert_int_equal(open_plan("fused", KF_F32, 4, wide, &target, &plan), KF_OK);
    assert_int_equal(kf_plan_cost(plan).bytes_requested, 2 * 4 * wide * 4);
    kf_plan_close(plan);
    assert_int_equal(open_plan("fused_cluster", KF_F32, 4, 131072, &target, &plan), KF_OK);
    assert_int_equal(kf_plan_cost(plan).bytes_requested, 4 * 131072 * 4);
    assert_true(plan->step[0].grid.cluster >= 2);
    kf_plan_close(plan);
}

/* Mistake: a variant is offered where its capability is missing. */
static void clusters_are_asked_for_by_capability(void **state)
{
    (void)state;
    kf_plan *plan;
    for (int kind = 1; kind < 3; kind++) {
        const kf_target target = target_of(kind);
        assert_int_equal(open_plan("fused_cluster", KF_F32, 4, 131072, &target, &plan),
                         KF_UNSUPPORTED);
        assert_non_null(strstr(kf_error(), "clusters"));
    }
}

/* Mistake: a device that ends its loops silently is given longer ones, and leaves results out. */
static void a_device_that_ends_its_loops_gets_no_longer_ones(void **state)
{
    static const char *const by_item[] = {"unfused", "fused_cpu"};
    kf_target target = target_of(0);
    kf_plan *plan;
    (void)state;
    target.capabilities = KF_CAP_CPU;
    target.max_turns = 65535;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(open_plan(by_item[i], KF_F32, 4, 131072, &target, &plan), KF_OK);
        kf_plan_close(plan);
        assert_int_equal(open_plan(by_item[i], KF_F32, 4, 1048576, &target, &plan), KF_UNSUPPORTED);
        assert_non_null(strstr(kf_error(), "65535"));
    }
    assert_int_equal(open_plan(NULL, KF_F32, 4, 1048576, &target, &plan), KF_OK);
    assert_string_equal(plan->variant->name, "fused");
    kf_plan_close(plan);
    target.max_turns = 0;
    assert_int_equal(open_plan("fused_cpu", KF_F32, 4, 1048576, &target, &plan), KF_OK);
    kf_plan_close(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(rows_are_read_once_where_they_fit),
        cmocka_unit_test(clusters_are_asked_for_by_capability),
        cmocka_unit_test(a_device_that_ends_its_loops_gets_no_longer_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
