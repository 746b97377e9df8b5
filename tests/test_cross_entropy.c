/* label: opencl */
/* Cross entropy: its plans, its reference against hand and against finite differences, and on every
 * OpenCL device what test_conformance does not vary: the real attributes, and the gradient in
 * place. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/verify.h"
#include "../ops/common/cross_entropy.h"
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

/* Mistake: a width, with or without the gradient, that falls between the plans. */
static void every_width_has_a_plan_in_every_variant(void **state)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu", "default"};
    static const int cols[] = {1,    2,     3,     7,     31,     128,    781,     1000,   1025,
                               4096, 16384, 32000, 50257, 128256, 262147, 1048576, 4194304};
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int i = 0; i < 16 * (int)(sizeof cols / sizeof *cols); i++) {
                char text[200];
                kf_plan *plan;
                snprintf(text, sizeof text, "cross_entropy %s %s rows=%d cols=%d%s reduction=%d",
                         variants[i & 3], kf_dtype_name((kf_dtype)d), i & 4 ? 8192 : 3,
                         cols[i / 16], i & 8 ? " with=dlogits label_smoothing=0.1" : "", i % 2);
                open_case(text, kind, &plan);
                kf_plan_close(plan);
            }
}

static kf_cost cost_of(const char *text)
{
    kf_plan *plan;
    open_case(text, 0, &plan);
    const kf_cost cost = kf_plan_cost(plan);
    kf_plan_close(plan);
    return cost;
}

/* Mistake: a loss that writes something of the size of the logits, a row on chip that is read
 * twice, a mean whose second launch is not counted. */
static void the_loss_only_reads(void **state)
{
    const int64_t M = 64, N = 32000, logits = M * N * 2;
    (void)state;
    const kf_cost loss = cost_of("cross_entropy fused bf16 rows=64 cols=32000");
    assert_int_equal(loss.launches, 1);
    assert_int_equal(loss.bytes_read, logits + 8 * M);
    assert_int_equal(loss.bytes_requested, logits + 2 * M + 8 * M); /* the class's once more */
    assert_int_equal(loss.bytes_written, 4 * M);
    const kf_cost both = cost_of("cross_entropy fused bf16 rows=64 cols=32000 with=dlogits");
    assert_int_equal(both.launches, 1);
    assert_int_equal(both.bytes_read, logits + 8 * M);
    assert_int_equal(both.bytes_written, logits + 4 * M);
    const kf_cost mean =
        cost_of("cross_entropy fused bf16 rows=64 cols=32000 with=dlogits reduction=mean");
    assert_int_equal(mean.launches, 3);
    assert_int_equal(mean.bytes_written, logits + 4 * M + 4 + 4);
}

/* ---- the reference -------------------------------------------------------------------------- */

typedef struct sample { /* three rows of four classes, one of them ignored */
    float logits[12];
    int64_t target[3];
} sample;

static const sample some = {{0.5f, -1, 2, 0.25f, 3, 3, -2, 1, 0, 1, -1, 2}, {2, -100, 1}};

static void reference(const char *text, const sample *s, int output, int64_t count, double *value)
{
    const void *inputs[KF_MAX_TENSORS] = {s->logits, s->target};
    double bound[12];
    kf_plan *plan;
    open_case(text, 0, &plan);
    assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, inputs, output, 0,
                                                 count, value, bound),
                     KF_OK);
    for (int i = 0; i < count; i++)
        assert_true(bound[i] >= 0 && bound[i] < 1e-5);
    kf_plan_close(plan);
}

static void is_near(double got, double want)
{
    const double few_roundings = 32 * 0x1p-53 * (1 + fabs(want));
    if (!(fabs(got - want) <= few_roundings))
        fail_msg("%.17g, by hand %.17g", got, want);
}

/* Mistakes: another formula; smoothing over N - 1 classes; z_loss on the loss instead of on lse; an
 * ignored row in the mean. */
static void the_reference_is_the_formula(void **state)
{
    static const char *const plain = "cross_entropy fused f32 rows=3 cols=4 with=dlogits";
    const char *full = "cross_entropy fused f32 rows=3 cols=4 with=dlogits label_smoothing=0.25 "
                       "z_loss=0.5";
    const char *mean = "cross_entropy fused f32 rows=3 cols=4 with=dlogits reduction=mean";
    const double sum = exp(0.5) + exp(-1) + exp(2) + exp(0.25), lse = log(sum);
    const double last = log(exp(0) + exp(1) + exp(-1) + exp(2)) - 1;
    double value[12];
    (void)state;
    reference(plain, &some, KF_CE_LOSS, 3, value);
    is_near(value[0], lse - 2);
    is_near(value[1], 0);
    is_near(value[2], last);
    reference(plain, &some, KF_CE_DLOGITS, 12, value);
    is_near(value[0], exp(0.5) / sum);
    is_near(value[2], exp(2) / sum - 1);
    is_near(value[4], 0);
    reference(full, &some, KF_CE_LOSS, 1, value);
    is_near(value[0], 0.75 * (lse - 2) + 0.25 * (lse - 1.75 / 4) + 0.5 * lse * lse);
    reference(mean, &some, KF_CE_LOSS, 1, value);
    is_near(value[0], (lse - 2 + last) / 2);
}

/* Mistake: a gradient that is not that of the loss. Differences of the reference in double; the
 * logits move by a power of two, so that f32 holds them exactly. */
static void the_gradient_is_the_slope_of_the_loss(void **state)
{
    static const char *const forms[] = {"", " label_smoothing=0.25", " z_loss=0.5",
                                        " label_smoothing=0.25 z_loss=0.125 reduction=mean"};
    const float step = 0x1p-9f;
    (void)state;
    for (int f = 0; f < 4; f++) {
        char text[200];
        double gradient[12], up[3], down[3];
        snprintf(text, sizeof text, "cross_entropy fused f32 rows=3 cols=4 with=dlogits%s",
                 forms[f]);
        reference(text, &some, KF_CE_DLOGITS, 12, gradient);
        for (int i = 0; i < 12; i++) {
            const int rows = f == 3 ? 1 : 3, row = f == 3 ? 0 : i / 4;
            sample s = some;
            s.logits[i] += step;
            reference(text, &s, KF_CE_LOSS, rows, up);
            s.logits[i] -= 2 * step;
            reference(text, &s, KF_CE_LOSS, rows, down);
            const double slope = (up[row] - down[row]) / (2 * (double)step);
            const double third_order = step * step; /* derivatives are below 6 here */
            if (!(fabs(slope - gradient[i]) <= third_order))
                fail_msg("%s: slope of logit %d is %.12g, dlogits %.12g", text, i, slope,
                         gradient[i]);
        }
    }
}

/* Mistake: nonsense that becomes NaN in every row. */
static void attributes_are_checked(void **state)
{
    static const char *const bad[] = {"label_smoothing=-0.1", "label_smoothing=1.5",
                                      "label_smoothing=nan", "z_loss=inf", "reduction=2"};
    static const char *const named[] = {"label_smoothing", "label_smoothing", "label_smoothing",
                                        "z_loss", "reduction"};
    (void)state;
    for (int i = 0; i < 5; i++) {
        char text[120];
        const kf_target target = target_of(0);
        kf_plan *plan;
        snprintf(text, sizeof text, "cross_entropy fused f32 rows=3 cols=4 %s", bad[i]);
        assert_int_equal(case_plan(text, &target, &plan), KF_INVALID);
        assert_non_null(strstr(kf_error(), named[i]));
    }
}

/* ---- on devices ----------------------------------------------------------------------------- */

static void judge_case(const char *text, kf_device *device, kf_queue *queue)
{
    /* a simulator knows only whole buffers */
    const bool simulated = kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
    kf_plan *plan;
    if (case_plan(text, kf_device_target(device), &plan) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    for (int d = 0; d < KF_DIST_COUNT; d++) {
        if (simulated && d != KF_DIST_NORMAL && d != KF_DIST_SPECIAL)
            continue;
        const kf_verify_options options = {
            .distribution = (kf_distribution)d, .seed = 5 + (uint64_t)d, .exact_size = simulated};
        kf_verify_report report;
        if (kf_verify(plan, device, queue, &options, &report) != KF_OK)
            fail_msg("%s: %s", text, kf_error());
        if (!report.passed)
            fail_msg("%s (%s inputs): %s", text, kf_distribution_name((kf_distribution)d),
                     report.reason);
    }
    kf_plan_close(plan);
}

static void judge_attributes(kf_device *device, kf_queue *queue)
{
    static const char *const forms[] = {
        "label_smoothing=0.1", "z_loss=0.0001", "label_smoothing=0.2 z_loss=0.01 ignore_index=3",
        "label_smoothing=1 with=dlogits",
        "label_smoothing=0.1 z_loss=0.001 with=dlogits reduction=mean"};
    static const char *const variants[] = {"unfused f16", "fused f32", "fused bf16 ONLINE=1",
                                           "fused_cpu f16", "fused_cpu f32"};
    for (int v = 0; v < 5; v++)
        for (int f = 0; f < 5; f++) {
            char text[200];
            snprintf(text, sizeof text, "cross_entropy %s rows=33 cols=%d %s", variants[v],
                     f % 2 ? 33 : 257, forms[f]);
            judge_case(text, device, queue);
        }
}

/* Mistakes: z_loss or smoothing left out of one of the texts; smoothing of a row with -inf. */
static void every_attribute_is_right(void **state)
{
    (void)state;
    on_each_device(judge_attributes);
}

/* `alias`: dlogits is where the logits are. */
static void run_into(const kf_plan *plan, kf_device *device, kf_queue *queue, kf_binding *binding,
                     bool alias, void *dlogits, float *loss, size_t bytes, size_t loss_bytes)
{
    kf_exec *exec;
    kf_binding own[KF_MAX_TENSORS];
    memcpy(own, binding, sizeof own);
    if (alias)
        own[KF_CE_DLOGITS] = own[KF_CE_LOGITS];
    assert_int_equal(kf_prepare(plan, device, &exec), KF_OK);
    assert_int_equal(kf_run(exec, queue, own, NULL), KF_OK);
    assert_int_equal(kf_buffer_read(queue, own[KF_CE_DLOGITS].buffer, 0, dlogits, bytes), KF_OK);
    assert_int_equal(kf_buffer_read(queue, own[KF_CE_LOSS].buffer, 0, loss, loss_bytes), KF_OK);
    assert_int_equal(kf_queue_finish(queue), KF_OK);
    kf_exec_close(exec);
}

static void run_in_place(const char *text, kf_device *device, kf_queue *queue)
{
    enum { MOST = 5 * 1000 };
    static float apart[MOST], same[MOST];
    float loss[5], loss_same[5];
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    kf_plan *plan;
    kf_case c;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    if (case_plan(text, kf_device_target(device), &plan) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    const size_t bytes =
        (size_t)(c.dim[0] * c.dim[1]) * (size_t)kf_dtype_bytes(plan->problem.dtype);
    const size_t loss_bytes = (size_t)c.dim[0] * sizeof *loss;
    assert_true(bytes <= sizeof apart);
    assert_int_equal(case_inputs(plan, &c, device, queue, binding), KF_OK);
    run_into(plan, device, queue, binding, false, apart, loss, bytes, loss_bytes);
    run_into(plan, device, queue, binding, true, same, loss_same, bytes, loss_bytes);
    if (memcmp(apart, same, bytes) || memcmp(loss, loss_same, loss_bytes))
        fail_msg("%s: in place gives other bits", text);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(binding[i].buffer);
    kf_plan_close(plan);
}

static void judge_in_place(kf_device *device, kf_queue *queue)
{
    static const char *const cases[] = {
        "cross_entropy unfused f32 rows=5 cols=257 with=dlogits",
        "cross_entropy fused f32 rows=5 cols=257 with=dlogits",
        "cross_entropy fused f16 rows=5 cols=1000 with=dlogits",
        "cross_entropy fused bf16 rows=5 cols=33 with=dlogits",
        "cross_entropy fused f32 rows=5 cols=781 ONLINE=1 BLOCK=64 with=dlogits",
        "cross_entropy fused_cpu f32 rows=5 cols=257 with=dlogits",
        "cross_entropy fused_cpu bf16 rows=5 cols=1000 with=dlogits"};
    for (int i = 0; i < 7; i++)
        run_in_place(cases[i], device, queue);
}

/* Mistake: the logit of the class is looked for after the gradient has taken its place. */
static void the_gradient_may_take_the_place_of_the_logits(void **state)
{
    (void)state;
    on_each_device(judge_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_has_a_plan_in_every_variant),
        cmocka_unit_test(the_loss_only_reads),
        cmocka_unit_test(the_reference_is_the_formula),
        cmocka_unit_test(the_gradient_is_the_slope_of_the_loss),
        cmocka_unit_test(attributes_are_checked),
        cmocka_unit_test(every_attribute_is_right),
        cmocka_unit_test(the_gradient_may_take_the_place_of_the_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
