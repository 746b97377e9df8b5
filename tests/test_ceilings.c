/* label: opencl */
/* timeout: 900 */
/* The roofs as an op: plans of every shape, what they count, their closed forms against step by
 * step, and every kernel on every OpenCL device. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/verify.h"
#include "each_device.h"

static const kf_op *op(void)
{
    return kf_op_find("ceilings");
}

static kf_status make_plan(const char *variant, const char *knobs, int64_t n, int64_t iterations,
                           int alignment, const kf_target *target, kf_plan **plan)
{
    kf_problem *problem;
    assert_int_equal(kf_problem_open("ceilings", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[KF_MAX_DIMS]){n},
                                      kf_op_variant(op(), variant)->tensors),
                     KF_OK);
    for (int i = 0; i < op()->tensor_count; i++)
        if (problem->tensor[i].dtype)
            problem->tensor[i].alignment = alignment;
    assert_int_equal(kf_problem_int(problem, "iterations", iterations), KF_OK);
    const kf_status status =
        kf_plan_open(problem, &(kf_plan_desc){.variant = variant, .knobs = knobs}, target, plan);
    kf_problem_close(problem);
    return status;
}

static kf_target target_of(bool cpu)
{
    kf_target target = *kf_target_generic();
    target.capabilities |= cpu ? KF_CAP_CPU : 0;
    return target;
}

/* ---- plans -------------------------------------------------------------------------------- */

/* Mistakes: a variant that leaves a tensor unused or writes an input; bytes counted that do not
 * move; partial sums as large as the input. */
static void plans_count_their_own_tensors(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < 2; cpu++)
        for (int v = 0; v < op()->variant_count; v++)
            for (int shape = 0; shape < 9; shape++) {
                const kf_target target = target_of(cpu);
                const int64_t n = 1000003;
                int64_t in = 0, out = 0;
                char knobs[64];
                kf_plan *plan;
                snprintf(knobs, sizeof knobs, "VECS=%d BLOCK=%d", 1 << shape % 3, 128 << shape / 3);
                assert_int_equal(make_plan(op()->variants[v].name, knobs, n, 7, 16, &target, &plan),
                                 KF_OK);
                assert_int_equal(kf_plan_check(plan), KF_OK);
                for (int t = 0; t < op()->tensor_count; t++) {
                    const int64_t bytes = 4 * kf_tensor_elements(&plan->problem.tensor[t]);
                    *(op()->tensors[t].role == KF_INPUT ? &in : &out) += bytes;
                }
                const kf_cost cost = kf_plan_cost(plan);
                assert_int_equal(cost.launches, 1);
                assert_int_equal(cost.bytes_read, in);
                assert_int_equal(cost.bytes_written, out);
                if (!strcmp(plan->variant->name, "read"))
                    assert_true(out * 4096 < in);
                kf_plan_close(plan);
            }
}

/* Mistakes: another dtype's bytes in a roof, partial sums that overlap or are too few, a variant
 * that is fed the tensors of another. */
static void wrong_problems_are_refused(void **state)
{
    (void)state;
    kf_problem *problem;
    kf_plan *plan;
    const int64_t n = 100000;
    assert_int_equal(kf_problem_open("ceilings", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_BF16, (int64_t[KF_MAX_DIMS]){n}, "a o"), KF_OK);
    assert_int_equal(kf_plan_open(problem, NULL, kf_target_generic(), &plan), KF_INVALID);
    kf_problem_close(problem);
    assert_int_equal(kf_problem_open("ceilings", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[KF_MAX_DIMS]){n}, "a parts"),
                     KF_OK);
    assert_int_equal(
        kf_plan_open(problem, &(kf_plan_desc){.variant = "copy"}, kf_target_generic(), &plan),
        KF_INVALID);
    assert_int_equal(kf_plan_open(problem, NULL, kf_target_generic(), &plan), KF_OK);
    assert_string_equal(plan->variant->name, "read"); /* by its tensors */
    kf_plan_close(plan);
    problem->tensor[kf_problem_index(problem, "parts")].size[0] = 12; /* 13 are needed */
    assert_int_equal(kf_plan_open(problem, NULL, kf_target_generic(), &plan), KF_INVALID);
    assert_non_null(strstr(kf_error(), "13"));
    kf_problem_close(problem);
}

/* ---- references --------------------------------------------------------------------------- */

static void reference(const char *variant, const char *output, int64_t iterations,
                      const float *inputs, double *value, double *bound)
{
    kf_plan *plan;
    const void *pointers[KF_MAX_TENSORS];
    assert_int_equal(make_plan(variant, NULL, 8, iterations, 16, kf_target_generic(), &plan),
                     KF_OK);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        pointers[i] = inputs;
    assert_int_equal(op()->reference(&plan->problem, &plan->error, pointers,
                                     kf_problem_index(&plan->problem, output), 0, 8, value, bound),
                     KF_OK);
    kf_plan_close(plan);
}

static const float starts[8] = {0, 1, -1, 0.5f, -2.25f, 1e-3f, 3, -0.125f};

/* Mistakes: a jump of the generator that is one step off; a bound that accepts another number of
 * steps. */
static void spin_jumps_where_steps_lead(void **state)
{
    (void)state;
    double value[8], bound[8];
    for (int64_t iterations = 0; iterations < 40; iterations++) {
        reference("spin", "spun", iterations, starts, value, bound);
        for (int i = 0; i < 8; i++) {
            uint32_t x = (uint32_t)i;
            for (int64_t t = 0; t < iterations; t++)
                x = x * 1664525u + 1013904223u;
            assert_true(value[i] == (double)(x >> 8) && bound[i] == 0);
        }
    }
}

/* f32 step by step, as the kernel does it. */
static float fma_steps(float step, int64_t iterations)
{
    const float factor = -0.9990234375f;
    float sum = 0;
    for (int k = 0; k < 64; k++) {
        float chain = step + (float)k;
        for (int64_t t = 0; t < iterations; t++)
            chain = fmaf(chain, factor, step);
        sum += chain;
    }
    return sum;
}

static float exp_steps(float start, int64_t iterations)
{
    float sum = 0;
    for (int k = 0; k < 8; k++) {
        float chain = fabsf(start) + 0.125f * (float)k;
        for (int64_t t = 0; t < iterations; t++)
            chain += exp2f(-chain);
        sum += chain;
    }
    return sum;
}

static bool within(double got, double value, double bound)
{
    kf_verify_report report;
    const float stored = (float)got;
    kf_compare(KF_F32, &stored, &value, &bound, 1, &report);
    return report.passed;
}

/* Mistake: bounds so wide that a loop with an iteration too few passes for a faster device. */
static void a_missing_iteration_shows(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 16, 64, 255, 256};
    double value[8], bound[8];
    for (int c = 0; c < 6; c++) {
        reference("fma", "o", counts[c], starts, value, bound);
        for (int i = 0; i < 8; i++) {
            assert_true(within(fma_steps(starts[i], counts[c]), value[i], bound[i]));
            assert_false(within(fma_steps(starts[i], counts[c] - 1), value[i], bound[i]));
        }
        reference("exp", "o", counts[c], starts, value, bound);
        for (int i = 0; i < 8; i++) {
            assert_true(within(exp_steps(starts[i], counts[c]), value[i], bound[i]));
            assert_false(within(exp_steps(starts[i], counts[c] - 1), value[i], bound[i]));
        }
    }
}

/* ---- devices ------------------------------------------------------------------------------ */

static void verify_on(kf_device *device, kf_queue *queue, const char *variant, const char *knobs,
                      int64_t n, int alignment)
{
    kf_plan *plan;
    kf_verify_report report;
    kf_verify_options options = {.seed = (uint64_t)n};
    kf_status status = make_plan(variant, knobs, n, 5, alignment, kf_device_target(device), &plan);
    if (status == KF_UNSUPPORTED)
        return; /* groups larger than the device has */
    assert_int_equal(status, KF_OK);
    for (int i = 0; i < op()->tensor_count && alignment < 16; i++)
        options.offset[i] = 1 + i % 3;
    status = kf_verify(plan, device, queue, &options, &report);
    if (status != KF_OK || !report.passed)
        fail_msg("ceilings %s %s n=%lld alignment %d on %s: %s", variant, knobs, (long long)n,
                 alignment, kf_device_describe(device)->name,
                 status == KF_OK ? report.reason : kf_error());
    kf_plan_close(plan);
}

static void verify_device(kf_device *device, kf_queue *queue)
{
    const bool simulated = kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
    const int64_t sizes[] = {1, 1023, 8192, 8193, 5 * 8192 + 1037};
    for (int v = 0; v < op()->variant_count; v++)
        for (int shape = 0; shape < (simulated ? 1 : 9); shape += 4) /* the diagonal */
            for (int s = 0; s < (simulated ? 3 : 5); s++) {
                char knobs[64];
                snprintf(knobs, sizeof knobs, "VECS=%d BLOCK=%d", 1 << shape % 3, 128 << shape / 3);
                verify_on(device, queue, op()->variants[v].name, knobs, sizes[s], 16);
                if (s == 3)
                    verify_on(device, queue, op()->variants[v].name, knobs, sizes[s], 4);
            }
}

/* Mistakes: an element copied twice or not at all (which makes a roof lower or higher than it is),
 * a tail left out, a sum over the wrong chunk, a misaligned vector. */
static void every_roof_is_right_on_every_device(void **state)
{
    (void)state;
    on_each_device(verify_device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_count_their_own_tensors),
        cmocka_unit_test(wrong_problems_are_refused),
        cmocka_unit_test(spin_jumps_where_steps_lead),
        cmocka_unit_test(a_missing_iteration_shows),
        cmocka_unit_test(every_roof_is_right_on_every_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
