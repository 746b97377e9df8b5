/* label: opencl */
/* The gradients of SwiGLU: what the plans move, gradients against differences of the forward
 * formula in double, what the reference accepts, and in place on every OpenCL device.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "map_rig.h"

enum { GRAD_Y, GATE, UP, GRAD_GATE, GRAD_UP };

/* Mistakes: sigmoid kept from a forward pass, an intermediate left out of the count. */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    map_traffic_is("swiglu_backward", "", 4, 11, false);
    map_traffic_is("swiglu_backward", "stride.gate=1008 stride.grad_up=1011 offset.up=3", 4, 11,
                   false);
    map_traffic_is("swiglu_backward", "", 4, 11, true);
}

/* ---- reference ---------------------------------------------------------------------------- */

static double forward(double gate, double up)
{
    return gate / (1 + exp(-gate)) * up;
}

static double reference_of(int output, const double *in)
{
    const kf_problem *problem;
    const kf_target target = map_target(false);
    kf_plan *plan = map_plan("swiglu_backward fused f32 rows=1 cols=1", &target);
    float memory[3] = {(float)in[0], (float)in[1], (float)in[2]};
    const void *inputs[KF_MAX_TENSORS] = {&memory[0], &memory[1], &memory[2]};
    double value, bound;
    problem = &plan->problem;
    assert_int_equal(
        problem->op->reference(problem, &plan->error, inputs, output, 0, 1, &value, &bound), KF_OK);
    kf_plan_close(plan);
    return value;
}

/* A central difference is off by h^2 / 6 times the third derivative, at most 0.4 of silu, and by
 * the rounding of two values divided by 2 h: a few 2^-53 |f| / h. */
static void gradients_are_differences_of_the_forward_pass(void **state)
{
    (void)state;
    static const double gates[] = {-8, -2.5, -0.75, 0, 0.5, 1.25, 6};
    const double h = 0x1p-14, dy = -1.5, up = 2.25;
    for (size_t i = 0; i < sizeof gates / sizeof *gates; i++) {
        const double x = gates[i], in[3] = {dy, x, up};
        const double by_gate = dy * (forward(x + h, up) - forward(x - h, up)) / (2 * h);
        const double by_up = dy * (forward(x, up + h) - forward(x, up - h)) / (2 * h);
        const double bound =
            fabs(dy * up) * h * h + 8 * 0x1p-53 * fabs(dy * forward(fabs(x) + h, up + h)) / h;
        assert_true(fabs(reference_of(GRAD_GATE, in) - by_gate) <= bound);
        assert_true(fabs(reference_of(GRAD_UP, in) - by_up) <= bound);
    }
}

static void expect(const char *dtype, kf_dtype intermediate, int output, const double *in,
                   double got, bool accepted)
{
    char text[80];
    snprintf(text, sizeof text, "swiglu_backward fused %s rows=1 cols=1", dtype);
    const bool taken = map_accepts(text, intermediate, true, in, output, got);
    if (taken != accepted)
        fail_msg("%s: output %d of %g %g %g = %.9g is %s", dtype, output, in[0], in[1], in[2], got,
                 taken ? "accepted" : "refused");
}

/* Mistakes: the slope of sigmoid for that of silu, outputs swapped, a product that overflows its
 * storage and is taken for finite. */
static void reference_knows_rounding_and_special_values(void **state)
{
    (void)state;
    const double x = 1.25, s = 1 / (1 + exp(-x)), in[3] = {2, x, -3};
    const double gate = -6 * s * (1 + x * (1 - s)), up = 2 * x * s;
    expect("f32", KF_NONE, GRAD_GATE, in, gate, true);
    expect("f32", KF_NONE, GRAD_GATE, in, gate * (1 + 0x1p-17), false);
    expect("f32", KF_NONE, GRAD_GATE, in, -6 * s * (1 - s), false);
    expect("f32", KF_NONE, GRAD_UP, in, up, true);
    expect("f32", KF_NONE, GRAD_UP, in, up * (1 + 0x1p-18), false);
    expect("f32", KF_NONE, GRAD_UP, in, gate, false);
    const double large[3] = {300, 0, 300}; /* grad_y up = 90000 */
    expect("f16", KF_NONE, GRAD_GATE, large, 45000, true);
    expect("f16", KF_F16, GRAD_GATE, large, INFINITY, true);
    expect("f16", KF_F16, GRAD_GATE, large, 45000, false);
    const double nan[3] = {1, NAN, 1};
    expect("f32", KF_NONE, GRAD_UP, nan, NAN, true);
    expect("f32", KF_NONE, GRAD_GATE, nan, 0, false);
    const double saturated[3] = {3, 100, 7};
    expect("f32", KF_NONE, GRAD_GATE, saturated, 21, true);
    expect("f32", KF_NONE, GRAD_UP, saturated, 300, true);
}

/* ---- in place, on devices ------------------------------------------------------------------ */

static void check_in_place(kf_device *device, kf_queue *queue)
{
    map_all_in_place("swiglu_backward", "", device, queue, GRAD_GATE, GRAD_Y);
    map_all_in_place("swiglu_backward", "stride.gate=723 stride.grad_gate=723", device, queue,
                     GRAD_GATE, GATE);
    map_all_in_place("swiglu_backward", "", device, queue, GRAD_UP, UP);
}

/* Mistake: a line that reads an input after another line has written its gradient there. */
static void outputs_may_be_inputs(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(gradients_are_differences_of_the_forward_pass),
        cmocka_unit_test(reference_knows_rounding_and_special_values),
        cmocka_unit_test(outputs_may_be_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
