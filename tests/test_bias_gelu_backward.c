/* label: opencl */
/* timeout: 900 */
/* The gradients of bias and gelu: what the plans move, gradients against differences of bias_gelu's
 * reference, what the reference accepts and how far its slopes may carry an error, which value is
 * summed into grad_bias, knobs that test_conformance does not reach, the same bits from run to run
 * and in place on every OpenCL device. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "../ops/common/approx.h"
#include "map_rig.h"

#define OP "bias_gelu_backward"
enum { GRAD_Y, X, BIAS, GRAD_X, GRAD_BIAS };

static int64_t partials_bytes(const kf_plan *plan)
{
    for (int i = 0; i < plan->scratch_count; i++)
        if (!strcmp(plan->scratch[i].name, "partials"))
            return plan->scratch[i].count * 4;
    return 0;
}

/* Mistakes: a matrix read twice by `fused`; partial sums by the row instead of by the group; a
 * baseline that keeps its intermediates in f32, or lacks a launch. */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < 2; cpu++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++) {
            const kf_target target = map_target(cpu);
            const int64_t bytes = kf_dtype_bytes((kf_dtype)dtype), matrix = 16411 * 1003 * bytes;
            char text[128];
            snprintf(text, sizeof text, OP " unfused %s rows=16411 cols=1003 stride.x=1009",
                     kf_dtype_name((kf_dtype)dtype));
            kf_plan *unfused = map_plan(text, &target);
            snprintf(text, sizeof text, OP " %s %s rows=16411 cols=1003 stride.x=1009",
                     cpu ? "fused_cpu" : "fused", kf_dtype_name((kf_dtype)dtype));
            kf_plan *fused = map_plan(text, &target);
            const kf_cost many = kf_plan_cost(unfused), two = kf_plan_cost(fused);
            const int64_t parts = partials_bytes(fused), vectors = 1003 * bytes;
            assert_int_equal(two.launches, 2);
            assert_int_equal(two.bytes_read, 2 * matrix + vectors + parts);
            assert_int_equal(two.bytes_written, matrix + vectors + parts);
            assert_int_equal(fused->scratch_count, 1);
            assert_true(parts * 8 <= matrix);
            assert_int_equal(many.launches, 5);
            assert_int_equal(many.bytes_read + many.bytes_written,
                             8 * matrix + 2 * vectors + 2 * partials_bytes(unfused));
            assert_true(two.exact && many.exact);
            assert_int_equal(unfused->error.intermediate, dtype);
            assert_int_equal(fused->error.intermediate, KF_NONE);
            kf_plan_close(unfused);
            kf_plan_close(fused);
        }
}

/* Mistake: a width that falls between the plans, or needs more threads than a device has. */
static void every_width_has_a_plan_in_every_variant(void **state)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu", "default"};
    static const int cols[] = {1, 2, 3, 31, 128, 781, 1025, 16384, 131072, 262147, 4194304};
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int v = 0; v < 4; v++)
            for (size_t i = 0; i < 2 * sizeof cols / sizeof *cols; i++) {
                kf_target target = map_target(kind == 2);
                char text[128];
                target.max_threads = kind ? 64 : 1024;
                target.units = kind ? 2 : 132;
                snprintf(text, sizeof text, OP " %s bf16 rows=%d cols=%d", variants[v],
                         i % 2 ? 3 : 16384, cols[i / 2]);
                kf_plan_close(map_plan(text, &target));
            }
}

/* Mistake: a sum over no rows, which nothing writes. */
static void a_sum_over_no_rows_is_refused(void **state)
{
    const kf_target target = map_target(false);
    kf_plan *plan;
    (void)state;
    assert_int_equal(case_plan(OP " fused f32 rows=0 cols=5", &target, &plan), KF_UNSUPPORTED);
    assert_int_equal(case_plan(OP " fused f32 rows=0 cols=0", &target, &plan), KF_OK);
    kf_plan_close(plan);
}

/* ---- the reference against differences of the forward reference ------------------------------ */

enum { ROWS = 3, COLS = 4 };

typedef struct inputs {
    float grad_y[ROWS * COLS], x[ROWS * COLS], bias[COLS];
} inputs;

/* Output `output` of an op on these inputs, by its reference. */
static void refer(const char *op, const char *form, const void *const *list, int output, int count,
                  double *value)
{
    const kf_target target = map_target(false);
    double bound[ROWS * COLS];
    char text[128];
    snprintf(text, sizeof text, "%s fused f32 rows=%d cols=%d approximate=%s", op, ROWS, COLS,
             form);
    kf_plan *plan = map_plan(text, &target);
    assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, list, output, 0,
                                                 count, value, bound),
                     KF_OK);
    kf_plan_close(plan);
}

/* The number whose gradients these are. */
static double loss(const inputs *in, const char *form)
{
    double y[ROWS * COLS], sum = 0;
    refer("bias_gelu", form, (const void *[]){in->x, in->bias, NULL}, 2, ROWS * COLS, y);
    for (int i = 0; i < ROWS * COLS; i++)
        sum += y[i] * in->grad_y[i];
    return sum;
}

static double difference(inputs *in, const char *form, float *at, float h)
{
    const float middle = *at;
    *at = middle + h;
    const double above = loss(in, form);
    *at = middle - h;
    const double below = loss(in, form);
    *at = middle;
    return (above - below) / (2 * (double)h);
}

/* Central differences err by h^2 times a third derivative, so the difference of those of h and h /
 * 2 is three times what is wrong with the latter, but for terms of h^4, at most 20 per unit of
 * grad_y; double rounds the losses, of which the sum of magnitudes is below 200, by a few 2^-53
 * each, divided by h. */
static void compare(inputs *in, const char *form, float *at, double gradient, const char *name)
{
    const float h = 0x1p-8f;
    const double coarse = difference(in, form, at, h), fine = difference(in, form, at, h / 2);
    const double bound = fabs(coarse - fine) + 100 * pow(h, 4) + 200 * 8 * 0x1p-53 / h;
    if (!(fabs(gradient - fine) <= bound))
        fail_msg("%s approximate=%s at %g: %.12g, differences say %.12g within %.3g", name, form,
                 *at, gradient, fine, bound);
}

/* Mistakes: phi or its factor forgotten, the slope of the other form, a wrong sign, a row left out
 * of the sum. */
static void gradients_are_differences_of_the_forward_pass(void **state)
{
    static const char *const forms[] = {"none", "tanh"};
    static const float x[] = {-7.5f, -4, -2.5f, -1, -0.75f, -0.25f, 0, 0.5f, 1, 1.75f, 3, 8};
    (void)state;
    for (int f = 0; f < 2; f++) {
        double grad[ROWS * COLS];
        inputs in = {.bias = {0.25f, -0.5f, 0, 1.5f}};
        for (int i = 0; i < ROWS * COLS; i++) {
            in.x[i] = x[i];
            in.grad_y[i] = (float)((i * 13 + 5) % 16 - 7) / 8;
        }
        const void *list[] = {in.grad_y, in.x, in.bias, NULL, NULL};
        refer(OP, forms[f], list, GRAD_X, ROWS * COLS, grad);
        for (int i = 0; i < ROWS * COLS; i++)
            compare(&in, forms[f], &in.x[i], grad[i], "grad_x");
        refer(OP, forms[f], list, GRAD_BIAS, COLS, grad);
        for (int i = 0; i < COLS; i++)
            compare(&in, forms[f], &in.bias[i], grad[i], "grad_bias");
    }
}

/* ---- what the reference accepts ---------------------------------------------------------------
 */

static void expect(const char *words, kf_dtype intermediate, int output, const double *in,
                   double got, bool accepted)
{
    char text[96];
    snprintf(text, sizeof text, OP " fused %s rows=1 cols=1", words);
    const bool taken = map_accepts(text, intermediate, true, in, output, got);
    if (taken != accepted)
        fail_msg("%s: output %d of %g %g %g = %.9g is %s", words, output, in[0], in[1], in[2], got,
                 taken ? "accepted" : "refused");
}

static double slope(double x)
{
    return 0.5 * erfc(-x * sqrt(0.5)) + x * exp(-x * x / 2) / sqrt(8 * atan(1));
}

/* Mistakes: Phi for the slope, the bias left out, NaN swallowed where a slope has reached its
 * limit, a square that overflows, a stored sum taken for finite. */
static void reference_knows_rounding_and_special_values(void **state)
{
    (void)state;
    const double in[3] = {2, 1.5, -0.25}, right = 2 * slope(1.25);
    for (int output = GRAD_X; output <= GRAD_BIAS; output++) { /* of one row: the same */
        expect("f32", KF_NONE, output, in, right, true);
        expect("f32", KF_NONE, output, in, right * (1 + 0x1p-18), false);
        expect("f32", KF_NONE, output, in, 2 * slope(1.5), false);
        expect("f32", KF_NONE, output, in, erfc(-1.25 * sqrt(0.5)), false);
        expect("f32", KF_NONE, output, (double[]){1, NAN, 1}, NAN, true);
        expect("f32", KF_NONE, output, (double[]){1, NAN, 1}, 1, false);
        expect("f32", KF_NONE, output, (double[]){1, INFINITY, -INFINITY}, NAN, true);
        for (int tanh = 0; tanh < 2; tanh++) {
            const char *words = tanh ? "f32 approximate=tanh" : "f32";
            expect(words, KF_NONE, output, (double[]){3, 1e30, 1}, 3, true);
            expect(words, KF_NONE, output, (double[]){3, 1e30, 1}, NAN, false);
            expect(words, KF_NONE, output, (double[]){3, -1e30, 1}, 0, true);
            expect(words, KF_NONE, output, (double[]){3, -1e30, 1}, NAN, false);
            expect(words, KF_NONE, output, (double[]){3, INFINITY, 1}, 3, true);
            expect(words, KF_NONE, output, (double[]){3, -INFINITY, 1}, 0, true);
            expect(words, KF_NONE, output, (double[]){3, -INFINITY, 1}, NAN, false);
        }
    }
    const double u = 0x1p-8, wide[3] = {1, 3, 0.75};
    expect("bf16", KF_NONE, GRAD_X, wide, slope(3.75), true);
    expect("bf16", KF_NONE, GRAD_X, wide, slope(3.75) * (1 + 3 * u), false);
    expect("bf16", KF_BF16, GRAD_X, wide, slope(3.75) * (1 + 1.5 * u), true);
    expect("bf16", KF_BF16, GRAD_X, wide, slope(3.75) * (1 + 5 * u), false);
    expect("f16", KF_F16, GRAD_X, (double[]){7, -60000, -60000}, 0, true); /* slope of -inf */
    expect("f16", KF_F16, GRAD_X, (double[]){7, -60000, -60000}, NAN, false);
}

/* What an error of x may do to a slope is bounded by the steepest slope of the slope. Mistake: a
 * bound that is too small somewhere; held against the slope itself, at both ends of the error. */
static void slopes_carry_errors_of_their_argument(void **state)
{
    static const double errors[] = {0x1p-9, 0.0625, 0.75, 3, 40};
    (void)state;
    for (int tanh = 0; tanh < 2; tanh++)
        for (int i = -2000; i <= 2000; i++)
            for (int e = 0; e < 10; e++) {
                const double x = i / 100.0, by = errors[e / 2];
                const kf_approx at = {.value = x, .error = by},
                                moved = kf_approx_exact(e % 2 ? x + by : x - by);
                const kf_approx middle = tanh ? kf_approx_gelu_slope_tanh(at, false)
                                              : kf_approx_gelu_slope_erf(at, false),
                                end = tanh ? kf_approx_gelu_slope_tanh(moved, false)
                                           : kf_approx_gelu_slope_erf(moved, false);
                if (!(fabs(middle.value - end.value) <= middle.error))
                    fail_msg("slope(%g) = %.9g +- %.3g, but slope(%g) = %.9g", x, middle.value,
                             middle.error, moved.value, end.value);
            }
}

/* ---- on devices -------------------------------------------------------------------------------
 */

static bool simulated(const kf_device *device)
{
    return kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
}

/* What the usual knobs never reach: rows that no team has, groups without rows, strips that end
 * within a row, one item for all rows. */
static void check_knobs(kf_device *device, kf_queue *queue)
{
    static const char *const cases[] = {
        "fused f32 rows=37 cols=257 BLOCK=64 THREADS_PER_ROW=64 STAGES=1 GROUPS_PER_UNIT=1",
        "fused bf16 rows=133 cols=256 BLOCK=64 THREADS_PER_ROW=8 STAGES=2 GROUPS_PER_UNIT=16",
        "fused f16 rows=19 cols=1000 BLOCK=128 THREADS_PER_ROW=32 STAGES=2 approximate=tanh",
        "fused f32 rows=1 cols=1031 BLOCK=128 THREADS_PER_ROW=4 STAGES=2",
        "fused_cpu f32 rows=37 cols=131 ROWS_PER_ITEM=64 BLOCK=2",
        "fused_cpu bf16 rows=37 cols=4107 ROWS_PER_ITEM=4 BLOCK=8 approximate=tanh",
        "unfused f32 rows=37 cols=130 BLOCK=32 GROUPS_PER_UNIT=1",
        "unfused f16 rows=37 cols=136 BLOCK=128 GROUPS_PER_UNIT=3 approximate=tanh"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[160];
        snprintf(text, sizeof text, OP " %s seed=3", cases[i]);
        map_verify(text, device, queue);
    }
}

static void knobs_change_no_result(void **state)
{
    (void)state;
    on_each_device(check_knobs);
}

enum { MOST_BYTES = 61 * 257 * 4 }; /* of an output */

/* Both gradients, grad_x in the memory of `grad_x`. */
static void run_both(map_ready *r, kf_queue *queue, int grad_x, char to[2][MOST_BYTES])
{
    kf_binding binding[KF_MAX_TENSORS];
    memcpy(binding, r->binding, sizeof binding);
    binding[GRAD_X] = binding[grad_x];
    map_run(r->exec, queue, binding, GRAD_X, to[0], map_extent(r->plan, GRAD_X));
    assert_int_equal(
        kf_buffer_read(queue, binding[GRAD_BIAS].buffer, 0, to[1], map_extent(r->plan, GRAD_BIAS)),
        KF_OK);
}

/* A hundred runs, then in the memory of an input. */
static void same_bits(const char *text, kf_device *device, kf_queue *queue, int alias)
{
    static char first[2][MOST_BYTES], again[2][MOST_BYTES];
    map_ready r = map_open(text, device, queue);
    run_both(&r, queue, GRAD_X, first);
    for (int n = simulated(device) ? 99 : 1; n <= 100; n++) {
        run_both(&r, queue, n < 100 ? GRAD_X : alias, again);
        if (memcmp(first[0], again[0], map_extent(r.plan, GRAD_X)) ||
            memcmp(first[1], again[1], map_extent(r.plan, GRAD_BIAS)))
            fail_msg("%s: run %d%s gave other bits", text, n, n < 100 ? "" : ", in place,");
    }
    map_close(&r);
}

static void check_bits(kf_device *device, kf_queue *queue)
{
    static const char *const cases[] = {
        "fused f32 rows=61 cols=257 BLOCK=64 GROUPS_PER_UNIT=2", "fused bf16 rows=61 cols=128",
        "fused f32 rows=61 cols=256 STAGES=2", "fused_cpu f32 rows=61 cols=203 ROWS_PER_ITEM=8",
        "unfused f16 rows=61 cols=129"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int alias = GRAD_Y; alias <= X; alias++) {
            char text[128];
            snprintf(text, sizeof text, OP " %s seed=5", cases[i]);
            same_bits(text, device, queue, alias);
        }
}

/* Mistakes: sums in the order of arrival; an input read again after grad_x has taken its place. */
static void every_run_gives_the_same_bits_also_in_place(void **state)
{
    (void)state;
    on_each_device(check_bits);
}

/* ---- what is summed ---------------------------------------------------------------------------
 */

enum { SUMMED = 11 };

/* A column of three rows with grad_y = 3, -1, -2 and the same x: its products cancel but for f32
 * roundings, and as stored in 16 bits they mostly do not. */
static void check_summed(const char *variant, kf_dtype dtype, kf_device *device, kf_queue *queue)
{
    static const double grad[3] = {3, -1, -2};
    static char got[2][MOST_BYTES];
    char text[96], x[3 * SUMMED * 4] = {0}, grad_y[3 * SUMMED * 4] = {0};
    const size_t bytes = (size_t)3 * SUMMED * (size_t)kf_dtype_bytes(dtype);
    int differ = 0;
    snprintf(text, sizeof text, OP " %s %s rows=3 cols=%d", variant, kf_dtype_name(dtype), SUMMED);
    map_ready r = map_open(text, device, queue);
    for (int i = 0; i < 3 * SUMMED; i++) {
        kf_store(x, dtype, i, 0.25 * (i % SUMMED));
        kf_store(grad_y, dtype, i, grad[i / SUMMED]);
    }
    assert_int_equal(kf_buffer_write(queue, r.binding[X].buffer, 0, x, bytes), KF_OK);
    assert_int_equal(kf_buffer_write(queue, r.binding[GRAD_Y].buffer, 0, grad_y, bytes), KF_OK);
    run_both(&r, queue, GRAD_X, got);
    for (int i = 0; i < SUMMED; i++) {
        const double sum = kf_load(got[1], dtype, i);
        double stored = 0;
        for (int row = 0; row < 3; row++)
            stored += kf_load(got[0], dtype, row * SUMMED + i);
        const bool rounded = fabs(stored) > 0x1p-20;
        differ += rounded;
        const double wanted = strcmp(variant, "unfused") ? 0 : stored;
        if (!(fabs(sum - wanted) <= 0x1p-20))
            fail_msg("%s, column %d: grad_bias is %g, not %g", text, i, sum, wanted);
    }
    assert_true(differ > 0); /* else the test cannot tell */
    map_close(&r);
}

static void check_all_summed(kf_device *device, kf_queue *queue)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu"};
    for (int v = 0; v < 3; v++)
        for (int dtype = KF_F16; dtype <= KF_BF16; dtype++)
            check_summed(variants[v], (kf_dtype)dtype, device, queue);
}

/* Mistake: grad_bias made of what grad_x became in storage, where the product is at hand. */
static void what_is_summed_is_the_product_before_it_is_stored(void **state)
{
    (void)state;
    on_each_device(check_all_summed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(a_sum_over_no_rows_is_refused),
        cmocka_unit_test(gradients_are_differences_of_the_forward_pass),
        cmocka_unit_test(reference_knows_rounding_and_special_values),
        cmocka_unit_test(slopes_carry_errors_of_their_argument),
        cmocka_unit_test(knobs_change_no_result),
        cmocka_unit_test(every_run_gives_the_same_bits_also_in_place),
        cmocka_unit_test(what_is_summed_is_the_product_before_it_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
