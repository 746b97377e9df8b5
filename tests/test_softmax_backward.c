/* label: unit */
/* The plans and the reference of softmax's gradient; no device. SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../ops/common/softmax_reference.h"
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
    target.registers_per_unit = kind ? 0 : 65536;
    return target;
}

static void open_case(const char *text, int kind, kf_plan **plan)
{
    const kf_target target = target_of(kind);
    if (case_plan(text, &target, plan) != KF_OK)
        fail_msg("%s on target %d: %s", text, kind, kf_error());
}

/* Mistake: a width that falls between the plans. */
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
                snprintf(text, sizeof text, "softmax_backward %s %s rows=%d cols=%d",
                         variants[i & 3], kf_dtype_name((kf_dtype)d), i & 4 ? 16384 : 3,
                         cols[i / 8]);
                open_case(text, kind, &plan);
                kf_plan_close(plan);
            }
}

/* Mistake: a row that fits is read twice. */
static void both_rows_are_read_once(void **state)
{
    kf_plan *plan;
    (void)state;
    open_case("softmax_backward fused f32 rows=64 cols=4096", 0, &plan);
    const kf_cost cost = kf_plan_cost(plan);
    assert_int_equal(cost.launches, 1);
    assert_int_equal(cost.bytes_requested + cost.bytes_written, 3 * 64 * 4096 * 4);
    kf_plan_close(plan);
}

static double objective(const float *x, const float *grad)
{
    const kf_softmax_row row = {.x = x, .dtype = KF_F32, .cols = 4};
    const kf_error_model error = {0};
    double y[4], bound[4], sum = 0;
    kf_softmax_reference(&row, &error, 0, 4, y, bound);
    for (int i = 0; i < 4; i++)
        sum += grad[i] * y[i];
    return sum;
}

/* Mistake: a gradient that is not softmax's. Central differences in double; the step is a power of
 * two, and y is rounded to f32. */
static void the_reference_is_the_slope_of_softmax(void **state)
{
    const float x[4] = {0.5f, -1, 2, 0.25f}, grad[4] = {1, -2, 0.5f, 3};
    const kf_softmax_row row = {.x = x, .dtype = KF_F32, .cols = 4};
    const kf_error_model error = {0};
    const float step = 0x1p-9f;
    float y[4];
    double exact[4], value[4], bound[4];
    kf_plan *plan;
    (void)state;
    kf_softmax_reference(&row, &error, 0, 4, exact, bound);
    for (int i = 0; i < 4; i++)
        y[i] = (float)exact[i];
    const void *inputs[KF_MAX_TENSORS] = {grad, y};
    open_case("softmax_backward fused f32 rows=1 cols=4", 0, &plan);
    assert_int_equal(
        plan->problem.op->reference(&plan->problem, &plan->error, inputs, 2, 0, 4, value, bound),
        KF_OK);
    for (int i = 0; i < 4; i++) {
        float up[4], down[4];
        memcpy(up, x, sizeof up);
        memcpy(down, x, sizeof down);
        up[i] += step;
        down[i] -= step;
        const double slope = (objective(up, grad) - objective(down, grad)) / (2 * (double)step);
        const double third_order = step * step + 0x1p-20; /* and y in f32 */
        if (!(fabs(slope - value[i]) <= third_order))
            fail_msg("slope %d is %.12g, grad_x %.12g", i, slope, value[i]);
        assert_true(bound[i] > 0 && bound[i] < 1e-5);
    }
    kf_plan_close(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(both_rows_are_read_once),
        cmocka_unit_test(the_reference_is_the_slope_of_softmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
