/* Tests that every backward norm passes: OP is its name, FORWARD that of the norm, OPTIONAL its
 * optional tensors. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NORM_BACKWARD_RIG_H
#define KF_NORM_BACKWARD_RIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "case_rig.h"
#include "each_device.h"

/* A big GPU, a small GPU without shuffles, a CPU. */
static kf_target target_of(int kind)
{
    kf_target target = *kf_target_generic();
    target.max_groups = INT32_MAX;
    target.max_threads = kind ? 256 : 1024;
    target.local_bytes = kind ? 32768 : 232448;
    target.warp = kind ? 1 : 32;
    target.units = kind ? 4 : 132;
    target.capabilities = kind == 0 ? KF_CAP_SHUFFLE | KF_CAP_PTX : kind == 1 ? 0 : KF_CAP_CPU;
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
    static const char *const optional[] = {NULL, "weight", "weight grad_weight", OPTIONAL};
    static const int64_t cols[] = {1,    2,    3,     7,     31,    128,    781,    1000,
                                   1025, 4096, 12288, 16384, 20480, 131072, 262147, 4194304};
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int v = 0; v < 4; v++)
                for (size_t i = 0; i < 4 * sizeof cols / sizeof *cols; i++) {
                    const kf_target target = target_of(kind);
                    const int64_t dims[] = {i % 2 ? 3 : 16384, cols[i / 4]};
                    kf_plan *plan;
                    if (open_plan(variants[v], (kf_dtype)d, dims, optional[i % 4], &target,
                                  &plan) != KF_OK)
                        fail_msg("%s %s cols=%ld on target %d: %s",
                                 variants[v] ? variants[v] : "default", kf_dtype_name((kf_dtype)d),
                                 dims[1], kind, kf_error());
                    kf_plan_close(plan);
                }
}

/* Mistakes: a second read of a matrix whose rows fit on the chip; partial sums by the row instead
 * of by the group. */
static void fused_moves_every_element_once(void **state)
{
    const kf_target target = target_of(0);
    const int64_t dims[] = {16384, 4096}, elements = dims[0] * dims[1];
    (void)state;
    for (int grad = 0; grad < 2; grad++) {
        kf_plan *plan;
        assert_int_equal(
            open_plan("fused", KF_BF16, dims, grad ? "grad_weight" : NULL, &target, &plan), KF_OK);
        const kf_cost cost = kf_plan_cost(plan);
        int64_t statistics = 0, partials = 0;
        for (int i = 0; i < plan->problem.op->tensor_count; i++)
            if (plan->problem.op->tensors[i].dtype == KF_F32)
                statistics += 4 * dims[0];
        for (int i = 0; i < plan->scratch_count; i++)
            partials += 4 * plan->scratch[i].count;
        assert_int_equal(cost.launches, 1 + grad);
        assert_int_equal(plan->scratch_count, grad);
        assert_int_equal(cost.bytes_read, 4 * elements + statistics + partials);
        assert_int_equal(cost.bytes_written, 2 * elements + grad * (partials + 2 * dims[1]));
        assert_true(partials <= 8 * target.units * 4 * dims[1]);
        kf_plan_close(plan);
    }
}

/* Mistake: gradients of no rows, which nothing writes. */
static void sums_over_no_rows_are_refused(void **state)
{
    const kf_target target = target_of(0);
    const int64_t dims[] = {0, 5};
    kf_plan *plan;
    (void)state;
    assert_int_equal(open_plan("fused", KF_F32, dims, "grad_weight", &target, &plan),
                     KF_UNSUPPORTED);
    assert_int_equal(open_plan("fused", KF_F32, dims, "weight", &target, &plan), KF_OK);
    assert_int_equal(kf_plan_cost(plan).launches, 0);
    kf_plan_close(plan);
}

/* ---- the reference against differences of the forward reference -------------------------------
 */

enum { M = 3, N = 8 }; /* powers of two divide by N exactly */

typedef struct inputs {
    float x[M * N], weight[N], bias[N], grad_y[M * N], mean[M], rstd[M];
} inputs;

static int index_of(const kf_op *op, const char *name)
{
    for (int i = 0; i < op->tensor_count; i++)
        if (!strcmp(op->tensors[i].name, name))
            return i;
    return -1;
}

static void take(const kf_op *op, const char *name, const void *data, const void **list)
{
    const int i = index_of(op, name);
    if (i >= 0 && op->tensors[i].role == KF_INPUT)
        list[i] = data;
}

/* Output `name` of an op on M rows with this eps, by its reference. */
static void refer(const char *op_name, const inputs *in, double eps, const char *name,
                  int64_t count, double *value)
{
    const kf_op *op = kf_op_find(op_name);
    const kf_target target = target_of(0);
    const void *list[KF_MAX_TENSORS] = {NULL};
    double bound[M * N];
    kf_problem *problem;
    kf_plan *plan;
    assert_int_equal(kf_problem_open(op_name, &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[]){M, N},
                                      "weight bias mean rstd grad_weight grad_bias"),
                     KF_OK);
    for (int i = 0; i < op->attribute_count; i++)
        if (!strcmp(op->attributes[i].name, "eps"))
            assert_int_equal(kf_problem_float(problem, "eps", eps), KF_OK);
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.variant = "fused"}, &target, &plan),
                     KF_OK);
    take(op, "x", in->x, list);
    take(op, "weight", in->weight, list);
    take(op, "bias", in->bias, list);
    take(op, "grad_y", in->grad_y, list);
    take(op, "mean", in->mean, list);
    take(op, "rstd", in->rstd, list);
    assert_int_equal(op->reference(&plan->problem, &plan->error, list, index_of(op, name), 0, count,
                                   value, bound),
                     KF_OK);
    kf_plan_close(plan);
    kf_problem_close(problem);
}

/* The number whose gradient the backward pass is. */
static double loss(const inputs *in, double eps)
{
    double y[M * N], sum = 0;
    refer(FORWARD, in, eps, "y", M * N, y);
    for (int i = 0; i < M * N; i++)
        sum += y[i] * in->grad_y[i];
    return sum;
}

static double difference(inputs *in, double eps, float *at, float h)
{
    const float middle = *at;
    *at = middle + h;
    const double above = loss(in, eps);
    *at = middle - h;
    const double below = loss(in, eps);
    *at = middle;
    return (above - below) / (2 * (double)h);
}

/* Central differences err by h^2 times a third derivative, so the difference of those of h and h /
 * 2 is three times what is wrong with the latter, but for terms of h^4; double rounds the losses,
 * of which the sum of magnitudes is below 100, by 2^-53 each, divided by 2 h. */
static void compare(inputs *in, double eps, float *at, double gradient, const char *name, int i)
{
    const float h = 0x1p-8f;
    const double coarse = difference(in, eps, at, h), fine = difference(in, eps, at, h / 2);
    const double bound = fabs(coarse - fine) + 100 * 64 * 0x1p-53 / h;
    if (!(fabs(gradient - fine) <= bound))
        fail_msg("%s[%d] is %.12g, differences say %.12g within %.3g", name, i, gradient, fine,
                 bound);
}

/* Rows with a mean square, or variance, below 4 to 4 places behind the point; eps makes up for the
 * rest, so that rstd = 1/2 exactly, in f32 too. Every row needs its own eps: the others' losses do
 * not depend on what is moved. */
static double prepare(inputs *in, bool centred, int row)
{
    double mean = 0, square = 0;
    for (int i = 0; i < M * N; i++) {
        in->x[i] = (float)((i * 29 + 7) % 32 - 13) / 16;
        in->grad_y[i] = (float)((i * 13 + 5) % 16 - 7) / 8;
        in->weight[i % N] = 1 + (float)(i % N * 5 % 8 - 3) / 16;
        in->bias[i % N] = 0.5f;
    }
    for (int j = 0; centred && j < N; j++)
        mean += (double)in->x[row * N + j] / N;
    for (int j = 0; j < N; j++)
        square += (in->x[row * N + j] - mean) * (in->x[row * N + j] - mean) / N;
    for (int i = 0; i < M; i++) {
        in->mean[i] = (float)mean;
        in->rstd[i] = 0.5f;
    }
    return 4 - square;
}

/* Mistakes: a term forgotten, a wrong sign, a sum divided by the wrong number: of all outputs
 * against the forward pass. The sums over rows are checked with one row's gradient at a time. */
static void gradients_are_those_of_the_forward_pass(void **state)
{
    const bool centred = index_of(kf_op_find(OP), "mean") >= 0;
    double grad[M * N];
    inputs in;
    (void)state;
    for (int row = 0; row < M; row++) {
        const double eps = prepare(&in, centred, row);
        for (int i = 0; i < M * N; i++)
            in.grad_y[i] *= i / N == row;
        refer(OP, &in, eps, "grad_x", M * N, grad);
        for (int j = 0; j < N; j++)
            compare(&in, eps, &in.x[row * N + j], grad[row * N + j], "grad_x", row * N + j);
        refer(OP, &in, eps, "grad_weight", N, grad);
        for (int j = 0; j < N; j++)
            compare(&in, eps, &in.weight[j], grad[j], "grad_weight", j);
        if (!centred)
            continue;
        refer(OP, &in, eps, "grad_bias", N, grad);
        for (int j = 0; j < N; j++)
            compare(&in, eps, &in.bias[j], grad[j], "grad_bias", j);
    }
}

#include "norm_backward_runs.h"

static int norm_backward_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(fused_moves_every_element_once),
        cmocka_unit_test(sums_over_no_rows_are_refused),
        cmocka_unit_test(gradients_are_those_of_the_forward_pass),
        cmocka_unit_test(knobs_change_no_result),
        cmocka_unit_test(a_hundred_runs_give_the_same_bits),
        cmocka_unit_test(in_place_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
#endif
