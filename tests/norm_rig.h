/* Tests that every norm passes: OP is its name. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NORM_RIG_H
#define KF_NORM_RIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"

#define ALL_OPTIONAL "weight bias mean rstd"

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

static kf_status open_plan(const char *variant, kf_dtype dtype, const int64_t *dims,
                           const char *optional, const kf_target *target, kf_plan **plan)
{
    kf_problem *problem;
    assert_int_equal(kf_problem_open(OP, &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, dtype, dims, optional), KF_OK);
    for (int i = 0; i < problem->op->tensor_count; i++)
        problem->tensor[i].alignment = problem->tensor[i].dtype ? 256 : 0;
    const kf_status status =
        kf_plan_open(problem, &(kf_plan_desc){.variant = variant}, target, plan);
    kf_problem_close(problem);
    return status;
}

/* Mistake: a width, a dtype or a set of optional tensors that falls between the plans. */
static void every_width_has_a_plan_in_every_variant(void **state)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu", NULL};
    static const char *const optional[] = {NULL, "weight", ALL_OPTIONAL};
    static const int64_t cols[] = {1,     2,     3,      7,      31,      128,
                                   781,   1000,  1025,   2048,   4096,    8192,
                                   16384, 50257, 131072, 262147, 1048576, 4194304};
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int v = 0; v < 4; v++)
                for (size_t i = 0; i < 3 * sizeof cols / sizeof *cols; i++) {
                    const kf_target target = target_of(kind);
                    const int64_t dims[] = {i % 2 ? 3 : 16384, cols[i / 3]};
                    kf_plan *plan;
                    if (open_plan(variants[v], (kf_dtype)d, dims, optional[i % 3], &target,
                                  &plan) != KF_OK)
                        fail_msg("%s %s cols=%ld on target %d: %s",
                                 variants[v] ? variants[v] : "default", kf_dtype_name((kf_dtype)d),
                                 dims[1], kind, kf_error());
                    kf_plan_close(plan);
                }
}

/* Bytes that every element of the matrices costs: each is read or written once. */
static int64_t matrix_bytes(const kf_op *op, int64_t elements)
{
    int64_t bytes = 0;
    for (int i = 0; i < op->tensor_count; i++)
        bytes += strchr(op->tensors[i].dims, ' ') ? 4 * elements : 0;
    return bytes;
}

/* Mistake: a second read of a row that fits on the chip, or a launch more than one. */
static void fused_moves_every_element_once(void **state)
{
    const kf_target target = target_of(0);
    const int64_t dims[] = {64, 4096}, elements = dims[0] * dims[1];
    kf_plan *plan;
    (void)state;
    assert_int_equal(open_plan("fused", KF_F32, dims, NULL, &target, &plan), KF_OK);
    const kf_cost cost = kf_plan_cost(plan);
    assert_int_equal(cost.launches, 1);
    assert_int_equal(cost.bytes_read + cost.bytes_written,
                     matrix_bytes(plan->problem.op, elements));
    assert_int_equal(cost.bytes_requested + cost.bytes_written,
                     cost.bytes_read + cost.bytes_written);
    kf_plan_close(plan);
}

/* Mistake: an optional tensor that is absent is still counted, or one that is there is not. */
static void optional_tensors_cost_what_they_hold(void **state)
{
    const kf_target target = target_of(0);
    const int64_t dims[] = {64, 4096};
    const kf_op *op = kf_op_find(OP);
    (void)state;
    for (int i = 0; i < op->tensor_count; i++) {
        kf_plan *bare, *with;
        if (!op->tensors[i].optional)
            continue;
        assert_int_equal(open_plan("fused", KF_F32, dims, NULL, &target, &bare), KF_OK);
        assert_int_equal(open_plan("fused", KF_F32, dims, op->tensors[i].name, &target, &with),
                         KF_OK);
        const kf_cost a = kf_plan_cost(bare), b = kf_plan_cost(with);
        const bool in = op->tensors[i].role == KF_INPUT;
        assert_int_equal(b.bytes_read - a.bytes_read, in ? 4 * dims[1] : 0);
        assert_int_equal(b.bytes_written - a.bytes_written, in ? 0 : 4 * dims[0]);
        kf_plan_close(bare);
        kf_plan_close(with);
    }
}

static int tensor(const char *name)
{
    const kf_op *op = kf_op_find(OP);
    for (int i = 0; i < op->tensor_count; i++)
        if (!strcmp(op->tensors[i].name, name))
            return i;
    return -1;
}

/* Two ways to compute in double what takes a few operations. */
static bool agree(double a, double b)
{
    const double few_roundings = 16 * 0x1p-53 * fabs(b);
    return fabs(a - b) <= few_roundings;
}

/* Mistakes: another formula, n - 1 for n, no eps, weight without its offset, the norm of x instead
 * of x + residual. The row is 1, 2, 4, 9; by hand: mean 4, variance 9.5, mean square 25.5. */
static void the_reference_is_the_formula(void **state)
{
    const float x[] = {1, 2, 4, 9}, half[] = {0.5f, 1, 2, 4.5f}, weight[] = {2, 1, 3, -1},
                bias[] = {10, 20, 30, 40};
    const bool layer = tensor("mean") >= 0, added = tensor("residual") >= 0;
    const kf_target target = target_of(0);
    const void *inputs[KF_MAX_TENSORS] = {NULL};
    double value[4], bound[4];
    kf_plan *plan;
    (void)state;
    inputs[tensor("x")] = added ? half : x;
    inputs[tensor("weight")] = weight;
    if (layer)
        inputs[tensor("bias")] = bias;
    if (added)
        inputs[tensor("residual")] = half;
    assert_int_equal(open_plan("fused", KF_F32, (int64_t[]){1, 4}, ALL_OPTIONAL, &target, &plan),
                     KF_OK);
    const kf_op *op = plan->problem.op;
    const double rstd = 1 / sqrt((layer ? 9.5 : 25.5) + 1e-5);
    assert_int_equal(
        op->reference(&plan->problem, &plan->error, inputs, tensor("y"), 0, 4, value, bound),
        KF_OK);
    for (int i = 0; i < 4; i++) {
        const double want = (x[i] - (layer ? 4 : 0)) * rstd * weight[i] + (layer ? bias[i] : 0);
        if (!agree(value[i], want))
            fail_msg("y[%d] = %.17g, by hand %.17g", i, value[i], want);
        assert_true(bound[i] > 0 && bound[i] < 1e-4);
    }
    assert_int_equal(
        op->reference(&plan->problem, &plan->error, inputs, tensor("rstd"), 0, 1, value, bound),
        KF_OK);
    assert_true(agree(*value, rstd));
    kf_plan_close(plan);
}

/* Mistake: an infinite weight's sign is asked of a normalised value that rounding may make 0. */
static void an_infinite_weight_of_nearly_nothing_is_left_open(void **state)
{
    static const float x[] = {1, 1, 1, 1.0000001f}, zero[] = {0, 1, 1, 1}, none[4];
    static const float weight[] = {INFINITY, INFINITY, INFINITY, INFINITY};
    const bool layer = tensor("bias") >= 0, added = tensor("residual") >= 0;
    const kf_target target = target_of(0);
    const void *inputs[KF_MAX_TENSORS] = {NULL};
    double value[4], bound[4];
    kf_plan *plan;
    (void)state;
    inputs[tensor("x")] = layer ? x : zero;
    inputs[tensor("weight")] = weight;
    if (added)
        inputs[tensor("residual")] = none;
    assert_int_equal(open_plan("unfused", KF_F32, (int64_t[]){1, 4}, "weight", &target, &plan),
                     KF_OK);
    assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, inputs, tensor("y"),
                                                 0, 4, value, bound),
                     KF_OK);
    if (layer) {
        assert_true(bound[0] < 0);
    } else { /* no mean was taken off: 0 is 0 */
        assert_true(isnan(value[0]) && bound[0] == 0);
        assert_true(value[1] == (double)INFINITY && bound[1] == 0);
    }
    kf_plan_close(plan);
}

/* Mistake: axes that do not form rows are computed all the same; an axis that is not there. */
static void axes_fold_into_rows(void **state)
{
    const kf_target target = target_of(0);
    kf_problem *problem;
    kf_tensor x, w;
    kf_plan *plan;
    (void)state;
    assert_int_equal(kf_tensor_contiguous(KF_F32, 3, (int64_t[]){5, 6, 7}, &x), KF_OK);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 2, (int64_t[]){6, 7}, &w), KF_OK);
    assert_int_equal(kf_problem_open(OP, &problem), KF_OK);
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (strchr(problem->op->tensors[i].dims, ' '))
            assert_int_equal(kf_problem_tensor(problem, problem->op->tensors[i].name, &x), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "weight", &w), KF_OK);
    assert_int_equal(kf_problem_int(problem, "axis", -2), KF_OK);
    assert_int_equal(kf_plan_open(problem, NULL, &target, &plan), KF_OK);
    assert_int_equal(plan->problem.dim[0], 5);
    assert_int_equal(plan->problem.dim[1], 42);
    kf_plan_close(plan);
    assert_int_equal(kf_problem_int(problem, "axis", 3), KF_OK);
    assert_int_equal(kf_plan_open(problem, NULL, &target, &plan), KF_INVALID);
    assert_non_null(strstr(kf_error(), "axis=3"));
    x.stride[1] = 8; /* rows of 7 with a gap: no longer one row of 42 */
    x.stride[0] = 48;
    assert_int_equal(kf_problem_int(problem, "axis", 1), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "x", &x), KF_OK);
    assert_int_equal(kf_plan_open(problem, NULL, &target, &plan), KF_INVALID);
    assert_non_null(strstr(kf_error(), "not contiguous"));
    kf_problem_close(problem);
}

/* Mistake: a negative or infinite eps becomes NaN in every row. */
static void eps_is_checked(void **state)
{
    static const double bad[] = {-1e-5, INFINITY, NAN};
    const kf_target target = target_of(0);
    (void)state;
    for (int i = 0; i < 3; i++) {
        kf_problem *problem;
        kf_plan *plan;
        assert_int_equal(kf_problem_open(OP, &problem), KF_OK);
        assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[]){2, 3}, NULL), KF_OK);
        assert_int_equal(kf_problem_float(problem, "eps", bad[i]), KF_OK);
        assert_int_equal(kf_plan_open(problem, NULL, &target, &plan), KF_INVALID);
        assert_non_null(strstr(kf_error(), "eps"));
        kf_problem_close(problem);
    }
}

static int norm_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(fused_moves_every_element_once),
        cmocka_unit_test(optional_tensors_cost_what_they_hold),
        cmocka_unit_test(the_reference_is_the_formula),
        cmocka_unit_test(an_infinite_weight_of_nearly_nothing_is_left_open),
        cmocka_unit_test(axes_fold_into_rows),
        cmocka_unit_test(eps_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
#endif
