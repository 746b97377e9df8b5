/* label: opencl */
/* SwiGLU: what its plans move, which form of the row map they take, what its reference accepts, and
 * in place on every OpenCL device. Shapes and nasty inputs are test_conformance's, executed traffic
 * test_signature's. SPDX-License-Identifier: Apache-2.0 */
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
    map_traffic_is("swiglu", "", 2, 5, false);
    map_traffic_is("swiglu", "stride.gate=1008 stride.y=1011 offset.up=3", 2, 5, false);
    map_traffic_is("swiglu", "", 2, 5, true);
}

/* ---- the row map: which form, and does its grid cover the matrix ------------------------------
 */

typedef struct form {
    const char *words; /* of the case */
    bool flat, whole;
} form;

static void covers(const kf_plan *plan, int64_t rows, int64_t cols)
{
    const int64_t vec = 16 / kf_dtype_bytes(plan->problem.dtype);
    const int64_t block = map_define(plan, "BLOCK"), threads = map_define(plan, "MAP_THREADS");
    const bool whole = map_define(plan, "MAP_WHOLE") == 1;
    if (map_define(plan, "MAP_FLAT") == 1) {
        assert_true(plan->step[0].grid.groups * block * vec >= rows * cols);
        assert_true((plan->step[0].grid.groups - 1) * block * vec < rows * cols);
        return;
    }
    const int64_t pieces = whole ? cols / vec : (cols + 2 * vec - 2) / vec;
    const int64_t chunks = (pieces + threads - 1) / threads, shared = block / threads;
    assert_true(threads >= 1 && threads <= block && (threads & (threads - 1)) == 0);
    assert_true(threads < 2 * pieces); /* no more threads than a power of two needs */
    assert_int_equal(plan->step[0].grid.groups, (rows + shared - 1) / shared * chunks);
}

/* Mistakes: a strided or misaligned matrix taken for one run; 16-byte accesses at rows that only
 * promise 4; a row whose last pieces no group takes. */
static void forms_follow_strides_and_alignment(void **state)
{
    (void)state;
    static const form forms[] = {
        {"rows=7 cols=33", true, false},
        {"rows=8 cols=33", true, true},
        {"rows=1 cols=1", true, false},
        {"rows=1 cols=64 stride.gate=99", true, true}, /* a single row has no stride */
        {"rows=7 cols=64 stride.gate=72", false, true},
        {"rows=7 cols=64 stride.gate=65", false, false},
        {"rows=7 cols=33 stride.y=40", false, false},
        {"rows=7 cols=64 offset.up=1", false, false},
        {"rows=5000 cols=8192 offset.y=8 stride.up=8200", false, true},
        {"rows=3 cols=14337 stride.up=14340 offset.gate=1", false, false},
    };
    const kf_target target = map_target(false);
    for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            char text[256];
            snprintf(text, sizeof text, "swiglu fused %s %s", kf_dtype_name((kf_dtype)dtype),
                     forms[i].words);
            kf_plan *plan = map_plan(text, &target);
            if (map_define(plan, "MAP_FLAT") != forms[i].flat ||
                map_define(plan, "MAP_WHOLE") != forms[i].whole)
                fail_msg("%s: flat %ld, whole %ld", text, map_define(plan, "MAP_FLAT"),
                         map_define(plan, "MAP_WHOLE"));
            covers(plan, plan->problem.dim[0], plan->problem.dim[1]);
            kf_plan_close(plan);
        }
}

/* Mistake: a CPU's items that leave the end of a row to nobody, or one item for a huge row. */
static void items_cover_rows_on_cpu_devices(void **state)
{
    (void)state;
    static const char *const words[] = {"rows=1 cols=1000000", "rows=999 cols=33 stride.y=40",
                                        "rows=3 cols=4097 stride.up=5000", "rows=1 cols=1"};
    const kf_target target = map_target(true);
    for (int i = 0; i < 4; i++) {
        char text[256];
        snprintf(text, sizeof text, "swiglu fused_cpu f32 %s", words[i]);
        kf_plan *plan = map_plan(text, &target);
        const kf_step *step = &plan->step[0];
        const int64_t item = map_define(plan, "MAP_ITEM"), rows = step->use[3].i,
                      cols = step->use[4].i, items = (cols + item - 1) / item * rows;
        assert_int_equal(item % 8, 0);
        assert_int_equal(rows * cols, plan->problem.dim[0] * plan->problem.dim[1]);
        assert_true(step->grid.groups * step->grid.threads >= items);
        assert_true((step->grid.groups - 1) * step->grid.threads < items);
        kf_plan_close(plan);
    }
}

/* ---- reference ---------------------------------------------------------------------------- */

static void expect(const char *dtype, kf_dtype intermediate, double gate, double up, double got,
                   bool accepted)
{
    char text[80];
    snprintf(text, sizeof text, "swiglu fused %s rows=1 cols=1", dtype);
    const bool taken = map_accepts(text, intermediate, true, (double[]){gate, up}, Y, got);
    if (taken != accepted)
        fail_msg("%s: silu(%g) * %g = %g is %s", dtype, gate, up, got,
                 taken ? "accepted" : "refused");
}

static double exact(double gate, double up)
{
    return gate / (1 + exp(-gate)) * up;
}

/* Mistakes: a bound that takes sigmoid for silu, an exponential that is wrong by 2^-10, the form
 * with tanh of half the precision, anything near an overflow; a reference that rounds first. */
static void reference_knows_rounding_and_special_values(void **state)
{
    (void)state;
    expect("f32", KF_NONE, 1.5, -2, exact(1.5, -2), true);
    expect("f32", KF_NONE, 1.5, -2, exact(1.5, -2) * (1 + 0x1p-19), false);
    expect("f32", KF_NONE, -20, 3, exact(-20, 3), true);
    expect("f32", KF_NONE, -20, 3, exact(-20, 3) * (1 + 0x1p-10), false);
    expect("f32", KF_NONE, -100, 1, -0.0, true); /* the exponential overflows */
    expect("f32", KF_NONE, -30, 1, -0.0, false);
    expect("f32", KF_NONE, 1e4, 1e4, 1e8, true);
    expect("f16", KF_NONE, 1e4, 1e4, INFINITY, true);
    expect("f16", KF_NONE, 1e4, 1e4, 65504, false);
    expect("f16", KF_NONE, 250, 250, 62500, true);
    expect("f32", KF_NONE, NAN, 1, NAN, true);
    expect("f32", KF_NONE, 1, NAN, 1, false);
    expect("f32", KF_NONE, INFINITY, 2, INFINITY, true);
    expect("f32", KF_NONE, -INFINITY, 2, NAN, true);
    expect("f32", KF_NONE, 0, INFINITY, NAN, true);
}

/* Mistake: bounds of 16-bit variants that are as wide as if everything were stored, or so narrow
 * that the unfused chain cannot keep them. */
static void stored_intermediates_widen_the_bound(void **state)
{
    (void)state;
    const double once = exact(1.5, 3), u = 0x1p-8;
    expect("bf16", KF_NONE, 1.5, 3, once, true);
    expect("bf16", KF_NONE, 1.5, 3, once * (1 + 3 * u), false);
    expect("bf16", KF_BF16, 1.5, 3, once * (1 + 0.5 * u), true);
    expect("bf16", KF_BF16, 1.5, 3, once * (1 + 4 * u), false);
    expect("f16", KF_F16, -30, INFINITY, NAN, true); /* silu is 0 in memory */
    expect("f16", KF_NONE, -30, INFINITY, -INFINITY, true);
}

/* ---- in place, on devices ------------------------------------------------------------------ */

static void check_in_place(kf_device *device, kf_queue *queue)
{
    for (int alias = GATE; alias <= UP; alias++) {
        map_all_in_place("swiglu", "", device, queue, Y, alias);
        map_all_in_place("swiglu", "stride.gate=723 stride.up=723 stride.y=723", device, queue, Y,
                         alias);
    }
}

/* Mistake: a store that overtakes a load of the same tensor, in a piece cut short or between two.
 */
static void output_may_be_either_input(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(forms_follow_strides_and_alignment),
        cmocka_unit_test(items_cover_rows_on_cpu_devices),
        cmocka_unit_test(reference_knows_rounding_and_special_values),
        cmocka_unit_test(stored_intermediates_widen_the_bound),
        cmocka_unit_test(output_may_be_either_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
