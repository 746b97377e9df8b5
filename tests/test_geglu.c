/* label: opencl */
/* GEGLU: what its plans move, what its two references accept, and in place on every OpenCL device.
 * The row map's forms are test_swiglu's, shapes and nasty inputs test_conformance's.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "map_rig.h"

enum { GATE, UP, Y };

/* Mistakes: an intermediate left out of the count or counted in f32; padding counted. */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    map_traffic_is("geglu", "", 2, 5, false);
    map_traffic_is("geglu", "approximate=tanh stride.gate=1008 offset.up=3", 2, 5, false);
    map_traffic_is("geglu", "", 2, 5, true);
}

/* Mistake: the work of the one form declared for the other. */
static void forms_have_their_own_work(void **state)
{
    (void)state;
    const kf_target target = map_target(false);
    kf_plan *erf_plan = map_plan("geglu fused f32 rows=37 cols=1003", &target),
            *tanh_plan = map_plan("geglu fused f32 rows=37 cols=1003 approximate=tanh", &target);
    assert_int_equal(kf_plan_cost(erf_plan).specials, 2 * 37 * 1003);
    assert_int_equal(kf_plan_cost(tanh_plan).specials, 2 * 37 * 1003);
    assert_int_equal(kf_plan_cost(erf_plan).flops, 19 * 37 * 1003);
    assert_int_equal(kf_plan_cost(tanh_plan).flops, 7 * 37 * 1003);
    kf_plan_close(erf_plan);
    kf_plan_close(tanh_plan);
}

/* Mistake: a value of the attribute that is no form is taken for one. */
static void other_approximations_are_refused(void **state)
{
    (void)state;
    const kf_target target = map_target(false);
    kf_plan *plan;
    assert_int_equal(case_plan("geglu fused f32 rows=2 cols=2 approximate=2", &target, &plan),
                     KF_INVALID);
    assert_non_null(strstr(kf_error(), "approximate"));
}

/* ---- reference ---------------------------------------------------------------------------- */

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * sqrt(0.5));
}

static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(1 / acos(0)) * (x + 0.044715 * x * x * x)));
}

static void expect(const char *words, kf_dtype intermediate, double gate, double up, double got,
                   bool accepted)
{
    char text[96];
    snprintf(text, sizeof text, "geglu fused %s", words);
    const bool taken = map_accepts(text, intermediate, true, (double[]){gate, up}, Y, got);
    if (taken != accepted)
        fail_msg("%s: gelu(%g) * %g = %.9g is %s", words, gate, up, got,
                 taken ? "accepted" : "refused");
}

/* Mistakes: one form passed off as the other, in either direction; the form with sigmoid; relative
 * bounds where erf has absolute ones. */
static void the_two_forms_are_told_apart(void **state)
{
    (void)state;
    static const char exact[] = "f32 rows=1 cols=1",
                      approximate[] = "f32 rows=1 cols=1 approximate=tanh";
    static const double points[] = {-2.5, -1, 0.5, 1.5, 2};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        const double x = points[i];
        expect(exact, KF_NONE, x, 3, 3 * gelu(x), true);
        expect(exact, KF_NONE, x, 3, 3 * gelu_tanh(x), false);
        expect(approximate, KF_NONE, x, 3, 3 * gelu_tanh(x), true);
        expect(approximate, KF_NONE, x, 3, 3 * gelu(x), false);
        expect(exact, KF_NONE, x, 3, 3 * x / (1 + exp(-1.702 * x)), false);
        expect(exact, KF_NONE, x, 3, 3 * gelu(x) * (1 + 0x1p-12), false);
        expect(approximate, KF_NONE, x, 3, 3 * gelu_tanh(x) * (1 + 0x1p-16), false);
    }
}

/* Mistakes: overflow on the way that the reference does not share; a NaN that is lost. */
static void special_values(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        char words[64];
        snprintf(words, sizeof words, "f32 rows=1 cols=1 approximate=%d", form);
        expect(words, KF_NONE, NAN, 1, NAN, true);
        expect(words, KF_NONE, 1, NAN, 1, false);
        expect(words, KF_NONE, INFINITY, -2, -INFINITY, true);
        expect(words, KF_NONE, -INFINITY, 2, NAN, true);
        expect(words, KF_NONE, -INFINITY, 2, 0, false);
        expect(words, KF_NONE, 1e30, 2, 2e30, true); /* its cube overflows */
        expect(words, KF_NONE, -1e30, 2, -0.0, true);
        expect(words, KF_NONE, -20, 1, -0.0, true);
    }
}

/* Mistake: bounds of 16-bit variants that are too wide or too narrow by a stored intermediate. */
static void stored_intermediates_widen_the_bound(void **state)
{
    (void)state;
    const double once = 3 * gelu(1.5), u = 0x1p-8;
    expect("bf16 rows=1 cols=1", KF_NONE, 1.5, 3, once, true);
    expect("bf16 rows=1 cols=1", KF_NONE, 1.5, 3, once * (1 + 3 * u), false);
    expect("bf16 rows=1 cols=1", KF_BF16, 1.5, 3, once * (1 + 0.5 * u), true);
    expect("bf16 rows=1 cols=1", KF_BF16, 1.5, 3, once * (1 + 4 * u), false);
}

/* ---- in place, on devices ------------------------------------------------------------------ */

static void check_in_place(kf_device *device, kf_queue *queue)
{
    map_all_in_place("geglu", "", device, queue, Y, GATE);
    map_all_in_place("geglu", "approximate=tanh stride.gate=723 stride.up=723 stride.y=723", device,
                     queue, Y, UP);
}

/* Mistake: a store that overtakes a load of the same tensor. */
static void output_may_be_either_input(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(forms_have_their_own_work),
        cmocka_unit_test(other_approximations_are_refused),
        cmocka_unit_test(the_two_forms_are_told_apart),
        cmocka_unit_test(special_values),
        cmocka_unit_test(stored_intermediates_widen_the_bound),
        cmocka_unit_test(output_may_be_either_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
