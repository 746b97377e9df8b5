/* label: opencl */
/* timeout: 1200 */
/* Softmax and log softmax along an axis that is not the last, on every OpenCL device: every variant
 * and dtype at odd shapes, strides, bases, knobs and nasty inputs, in place, and against the last
 * axis of a transposed input. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "axis_rig.h"
#include "shapes.h"

static const char *const shapes[] = {
    "rows=1 cols=1 inner=2",
    "rows=3 cols=7 inner=5",
    "rows=2 cols=33 inner=64",
    "rows=5 cols=1000 inner=33",
    "rows=70 cols=1025 inner=3",
    "rows=1 cols=3 inner=1000",
    "rows=1 cols=1 inner=1000",
    "rows=133 cols=4 inner=8",
    "rows=1 cols=257 inner=129", /* axis 0 of a matrix */
    "rows=2 cols=4097 inner=16",
    "rows=2 cols=4097 inner=9",
    "rows=3 cols=65 inner=40 stride.x=48 stride.y=56",
    "rows=3 cols=65 inner=40 stride.x=41 stride.y=43 offset.x=1 offset.y=3",
    "rows=3 cols=65 inner=37 stride.x=40 stride.y=37 offset.x=3 offset.y=3",
};

/* Ways through the kernels that the defaults take only at large sizes. */
static const char *const ways[] = {
    "rows=2 cols=203 inner=16 ONLINE=1 BLOCK=128 THREADS_PER_ROW=32",
    "rows=2 cols=203 inner=7 ONLINE=1 BLOCK=128 THREADS_PER_ROW=8",
    "rows=2 cols=50 inner=16 BLOCK=128 THREADS_PER_ROW=128",
    "rows=2 cols=50 inner=7 BLOCK=64 THREADS_PER_ROW=64",
    "rows=2 cols=30 inner=7 BLOCK=256 THREADS_PER_ROW=2",
    "rows=9 cols=13 inner=5 BLOCK=32 THREADS_PER_ROW=1",
};

static bool simulated(const kf_device *device)
{
    return kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
}

static void check_shapes(kf_device *device, kf_queue *queue)
{
    const int count = (int)(sizeof shapes / sizeof *shapes), few = simulated(device);
    const bool brief = few_wanted() || getenv("KFUSE_BRIEF");
    for (int o = 0; o < 2; o++)
        for (int v = 0; v < 3; v++)
            for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
                for (int i = 0; i < count; i++) {
                    char text[256];
                    kf_case c;
                    /* compiling takes the time: 16-bit dtypes share the shapes, and so do the ops
                     */
                    if ((dtype != KF_F32 && i % 2 != dtype % 2) || (o && i % 3))
                        continue;
                    if (brief && (dtype != KF_F32 || o || i % 3))
                        continue;
                    snprintf(text, sizeof text, "%s %s %s %s seed=%d", ops[o], variants[v],
                             kf_dtype_name((kf_dtype)dtype), shapes[i], 5 + i);
                    assert_int_equal(kf_case_parse(text, &c), KF_OK);
                    if (few && c.dim[0] * c.dim[1] * c.inner > 10000)
                        continue;
                    map_verify(text, device, queue);
                }
}

/* Mistakes: a line read past its end or a row's last columns forgotten, a stride taken for the
 * inner size, a team that misses a line, a column that gets its neighbour's maximum. */
static void every_shape_passes(void **state)
{
    (void)state;
    on_each_device(check_shapes);
}

static void check_ways(kf_device *device, kf_queue *queue)
{
    for (int o = 0; o < 2; o++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
            for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
                char text[256];
                snprintf(text, sizeof text, "%s fused %s %s", ops[o],
                         kf_dtype_name((kf_dtype)dtype), ways[i]);
                for (int d = 0; d < 2; d++)
                    map_verify_with(text, device, queue, d ? KF_DIST_SPECIAL : KF_DIST_RAMP_UP);
            }
}

/* Mistakes: a running sum that is not rescaled, two halves of a column that never meet. */
static void every_way_passes(void **state)
{
    (void)state;
    on_each_device(check_ways);
}

static void check_nasty(kf_device *device, kf_queue *queue)
{
    static const char *const nasty[] = {"rows=3 cols=7 inner=10", "rows=2 cols=33 inner=16"};
    for (int o = 0; o < 2; o++)
        for (int v = 0; v < 3; v++)
            for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
                for (int d = 0; d < KF_DIST_COUNT; d += simulated(device) ? 5 : 1) {
                    char text[256];
                    const int which = d % 2; /* of special values both */
                    snprintf(text, sizeof text, "%s %s %s %s seed=%d", ops[o], variants[v],
                             kf_dtype_name((kf_dtype)dtype), nasty[which], 70 + d);
                    map_verify_with(text, device, queue, (kf_distribution)d);
                    snprintf(text, sizeof text, "%s %s %s %s seed=%d", ops[o], variants[v],
                             kf_dtype_name((kf_dtype)dtype), nasty[!which], 90 + d);
                    if (d == KF_DIST_SPECIAL)
                        map_verify_with(text, device, queue, (kf_distribution)d);
                }
}

/* Mistakes: a NaN or an infinity that goes to the neighbouring column or does not come through; a
 * column of -inf that is not NaN, one that is NaN because a part of it is -inf. */
static void nasty_inputs_pass(void **state)
{
    (void)state;
    on_each_device(check_nasty);
}

static void check_in_place(kf_device *device, kf_queue *queue)
{
    for (int o = 0; o < 2; o++)
        for (int v = 0; v < 3; v++)
            for (int i = 1; i < 4; i++) {
                char text[256];
                if (simulated(device) && i == 3)
                    continue;
                snprintf(text, sizeof text, "%s %s %s %s", ops[o], variants[v],
                         kf_dtype_name((kf_dtype)(KF_F32 + i % 3)), shapes[i]);
                map_in_place(text, device, queue, Y, X);
            }
}

/* Mistake: an element that is written before another thread has read it. */
static void output_may_be_the_input(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

static void verify_view(const char *op, const char *variant, kf_dtype dtype, const view *v,
                        kf_device *device, kf_queue *queue)
{
    kf_problem *problem = problem_of(op, dtype, v);
    kf_verify_options options = {.seed = 9, .exact_size = simulated(device)};
    kf_verify_report report;
    kf_plan *plan;
    if (kf_plan_open(problem, &(kf_plan_desc){.variant = variant}, kf_device_target(device),
                     &plan) != KF_OK ||
        kf_verify(plan, device, queue, &options, &report) != KF_OK)
        fail_msg("%s %s: %s", op, variant, kf_error());
    if (!report.passed)
        fail_msg("%s %s: %s", op, variant, report.reason);
    kf_plan_close(plan);
    kf_problem_close(problem);
}

static void check_views(kf_device *device, kf_queue *queue)
{
    static const view views[] = {
        {2, {29, 24}, {32, 1}, 0},              /* a part of each line of a matrix */
        {3, {4, 29, 24}, {24, 96, 1}, 1},       /* two axes exchanged */
        {4, {2, 3, 11, 5}, {165, 55, 5, 1}, 1}, /* two axes behind */
        {3, {3, 17, 8}, {200, 9, 1}, -2},       /* padding everywhere */
    };
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        for (int v = 0; v < 3; v++)
            for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
                verify_view(ops[(int)i % 2], variants[v], (kf_dtype)dtype, &views[i], device,
                            queue);
}

/* Mistake: a stride that is right only for what is contiguous; a write into padding. */
static void strided_views_pass(void **state)
{
    (void)state;
    on_each_device(check_views);
}

/* ---- the last axis of the transposed input -------------------------------------------------- */

typedef struct one_run {
    kf_plan *plan;
    void *got;
    double *value, *bound;
} one_run;

static one_run run_on(const char *op, const char *variant, const view *v, const float *x,
                      kf_device *device, kf_queue *queue)
{
    const int64_t count = v->size[0] * v->size[1];
    const size_t bytes = (size_t)count * sizeof(float);
    kf_problem *problem = problem_of(op, KF_F32, v);
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    kf_exec *exec;
    one_run r = {.got = malloc(bytes),
                 .value = malloc((size_t)count * sizeof(double)),
                 .bound = malloc((size_t)count * sizeof(double))};
    const void *inputs[KF_MAX_TENSORS] = {x};
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.variant = variant},
                                  kf_device_target(device), &r.plan),
                     KF_OK);
    assert_int_equal(kf_prepare(r.plan, device, &exec), KF_OK);
    for (int i = X; i <= Y; i++)
        assert_int_equal(
            kf_buffer_open(device, &(kf_buffer_desc){.bytes = bytes}, &binding[i].buffer), KF_OK);
    assert_int_equal(kf_buffer_write(queue, binding[X].buffer, 0, x, bytes), KF_OK);
    map_run(exec, queue, binding, Y, r.got, bytes);
    assert_int_equal(kf_queue_finish(queue), KF_OK);
    assert_int_equal(r.plan->problem.op->reference(&r.plan->problem, &r.plan->error, inputs, Y, 0,
                                                   count, r.value, r.bound),
                     KF_OK);
    for (int i = X; i <= Y; i++)
        kf_buffer_close(binding[i].buffer);
    kf_exec_close(exec);
    kf_problem_close(problem);
    return r;
}

static void close_run(one_run *r)
{
    kf_plan_close(r->plan);
    free(r->got);
    free(r->value);
    free(r->bound);
}

static void compare_transposed(const char *op, const char *variant, kf_device *device,
                               kf_queue *queue)
{
    enum { N = 37, K = 24 };
    float x[N * K], turned[N * K];
    kf_tensor t;
    assert_int_equal(kf_tensor_contiguous(KF_F32, 2, (int64_t[]){N, K}, &t), KF_OK);
    kf_inputs_fill(&t, x, KF_DIST_NORMAL, 17, 0);
    for (int i = 0; i < N * K; i++)
        turned[i % K * N + i / K] = x[i];
    one_run across = run_on(op, variant, &(view){2, {N, K}, {0}, 0}, x, device, queue);
    one_run along = run_on(op, variant, &(view){2, {K, N}, {0}, -1}, turned, device, queue);
    assert_int_equal(across.plan->problem.inner, K);
    assert_int_equal(along.plan->problem.inner, 1);
    for (int i = 0; i < N * K; i++) {
        const int j = i % K * N + i / K;
        const double a = ((float *)across.got)[i], b = ((float *)along.got)[j];
        assert_true(across.value[i] == along.value[j]);
        if (!(fabs(a - b) <= across.bound[i] + along.bound[j]))
            fail_msg("%s %s: element %d is %g, in the transposed input %g", op, variant, i, a, b);
    }
    close_run(&across);
    close_run(&along);
}

static void check_transposed(kf_device *device, kf_queue *queue)
{
    for (int o = 0; o < 2; o++)
        for (int v = 0; v < 3; v++)
            compare_transposed(ops[o], variants[v], device, queue);
}

/* Mistake: kernel and reference that agree on the wrong axis. */
static void the_last_axis_of_the_transposed_input_gives_the_same(void **state)
{
    (void)state;
    on_each_device(check_transposed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_passes),
        cmocka_unit_test(every_way_passes),
        cmocka_unit_test(nasty_inputs_pass),
        cmocka_unit_test(output_may_be_the_input),
        cmocka_unit_test(strided_views_pass),
        cmocka_unit_test(the_last_axis_of_the_transposed_input_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
