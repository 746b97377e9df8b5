/* label: opencl */
/* Bias and gelu: what its plans move (a bias that is asked for in every row, and moved once), which
 * form of the row map each launch takes, what its reference accepts, and in place on every OpenCL
 * device. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "map_rig.h"

enum { X, BIAS, Y };

/* Mistakes: a bias counted once per row, or not at all. */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    const kf_target target = map_target(false);
    map_traffic_is("bias_gelu", "", 2, 4, false);
    map_traffic_is("bias_gelu", "", 2, 4, true);
    kf_plan *plan = map_plan("bias_gelu fused bf16 rows=37 cols=1003", &target);
    const kf_cost cost = kf_plan_cost(plan);
    assert_int_equal(cost.bytes_read, (37 * 1003 + 1003) * 2);
    assert_int_equal(cost.bytes_requested, 2 * 37 * 1003 * 2);
    kf_plan_close(plan);
}

static int64_t define_of(const kf_step *step, const char *name)
{
    for (int i = 0; i < step->define_count; i++)
        if (!strcmp(step->define[i].name, name))
            return step->define[i].value;
    return -1;
}

/* Mistakes: a matrix launched as one row where columns matter, the bias then read past its end; a
 * baseline made slow by rows where they do not matter; a misaligned bias read by 16 bytes. */
static void only_launches_without_bias_are_flat(void **state)
{
    (void)state;
    const kf_target target = map_target(false);
    kf_plan *odd = map_plan("bias_gelu unfused f16 rows=8 cols=1003", &target),
            *whole = map_plan("bias_gelu fused f16 rows=8 cols=1000", &target),
            *shifted = map_plan("bias_gelu fused f16 rows=8 cols=1000 offset.bias=3", &target);
    assert_int_equal(define_of(&odd->step[0], "MAP_FLAT"), 0);
    assert_int_equal(define_of(&odd->step[0], "MAP_WHOLE"), 0);
    assert_int_equal(define_of(&odd->step[1], "MAP_FLAT"), 1);
    assert_int_equal(define_of(&odd->step[1], "MAP_WHOLE"), 1);
    assert_int_equal(define_of(&whole->step[0], "MAP_FLAT"), 0);
    assert_int_equal(define_of(&whole->step[0], "MAP_WHOLE"), 1);
    assert_int_equal(define_of(&shifted->step[0], "MAP_WHOLE"), 0);
    kf_plan_close(odd);
    kf_plan_close(whole);
    kf_plan_close(shifted);
}

/* ---- reference ---------------------------------------------------------------------------- */

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * sqrt(0.5));
}

static void expect(const char *words, kf_dtype intermediate, double x, double bias, double got,
                   bool accepted)
{
    char text[96];
    snprintf(text, sizeof text, "bias_gelu fused %s", words);
    const bool taken = map_accepts(text, intermediate, true, (double[]){x, bias}, Y, got);
    if (taken != accepted)
        fail_msg("%s: gelu(%g + %g) = %.9g is %s", words, x, bias, got,
                 taken ? "accepted" : "refused");
}

/* Mistakes: the bias left out or added behind the activation; an intermediate that overflows its
 * storage and is taken for finite; bounds that do not grow with the stored sum. */
static void reference_adds_before_it_activates(void **state)
{
    (void)state;
    static const char f32[] = "f32 rows=1 cols=1", f16[] = "f16 rows=1 cols=1",
                      bf16[] = "bf16 rows=1 cols=1";
    const double u = 0x1p-8;
    expect(f32, KF_NONE, 1.25, -0.5, gelu(0.75), true);
    expect(f32, KF_NONE, 1.25, -0.5, gelu(1.25), false);
    expect(f32, KF_NONE, 1.25, -0.5, gelu(1.25) - 0.5, false);
    expect(f32, KF_NONE, 1.25, -0.5, gelu(0.75) * (1 + 0x1p-12), false);
    expect(f16, KF_F16, 60000, 60000, INFINITY, true);
    expect(f16, KF_F16, -60000, -60000, NAN, true); /* gelu of a stored -inf */
    expect(f16, KF_NONE, -60000, -60000, -0.0, true);
    expect(f16, KF_NONE, -60000, -60000, NAN, false);
    expect(bf16, KF_NONE, 3, 0.75, gelu(3.75), true);
    expect(bf16, KF_NONE, 3, 0.75, gelu(3.75) * (1 + 3 * u), false);
    expect(bf16, KF_BF16, 3, 0.75, gelu(3.75) * (1 + 0.5 * u), true);
    expect(bf16, KF_BF16, 3, 0.75, gelu(3.75) * (1 + 4 * u), false);
    expect(f32, KF_NONE, INFINITY, -INFINITY, NAN, true);
}

/* ---- in place, on devices ------------------------------------------------------------------ */

static void check_in_place(kf_device *device, kf_queue *queue)
{
    map_all_in_place("bias_gelu", "", device, queue, Y, X);
    map_all_in_place("bias_gelu", "approximate=tanh stride.x=723 stride.y=723", device, queue, Y,
                     X);
}

/* Mistake: a store that overtakes a load of the same tensor. */
static void output_may_be_the_input(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(only_launches_without_bias_are_flat),
        cmocka_unit_test(reference_adds_before_it_activates),
        cmocka_unit_test(output_may_be_the_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
