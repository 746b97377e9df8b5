/* label: opencl */
/* timeout: 900 */
/* Inputs whose results need no rounding on the way: every output of every variant must be the
 * reference rounded to its type, bit for bit. Rows of mean +-1 have a norm of their own, sums of
 * small integers stay integers, exp(0) is 1 and the sigmoid of 100 is 1. What a bound forgives is
 * not forgiven here: ties rounded away from zero, a last element counted twice or not at all in
 * 400,000, E[x^2] - mean^2 of rows far from zero.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "map_rig.h"

enum { FAR = 1 << 20 }; /* a mean of about a million */

typedef struct subject {
    const char *op, *rest;
    bool far; /* the rows' mean is FAR, which f32 holds with a spread of 1 */
} subject;

static const subject subjects[] = {
    {"softmax", "", false},
    {"layer_norm", "with=weight,bias,mean,rstd eps=0", false},
    {"layer_norm", "with=weight,bias,mean,rstd eps=0", true},
    {"rms_norm", "with=weight,rstd offset=1 eps=0", false},
    {"add_layer_norm", "with=weight,bias,mean,rstd eps=0", false},
    {"add_layer_norm", "with=weight,bias,mean,rstd eps=0", true},
    {"add_rms_norm", "with=weight,rstd offset=1 eps=0", false},
    {"layer_norm_backward", "with=weight,grad_weight,grad_bias", false},
    {"layer_norm_backward", "with=weight,grad_weight,grad_bias", true},
    {"rms_norm_backward", "with=weight,grad_weight offset=1", false},
    {"softmax_backward", "", false},
    {"swiglu", "", false},
    {"swiglu_backward", "", false},
    {"geglu", "", false},
    {"bias_gelu", "", false},
    {"bias_gelu", "approximate=tanh", false},
    {"bias_gelu_backward", "", false},
    {"dropout_add", "p=0.5", false},
    {"elementwise_chain", "length=2", false},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

/* Widths are powers of two, so that means are exact. */
static const char *const matrices[] = {
    "rows=67 cols=64",
    "rows=2 cols=128 misaligned",
    "rows=3 cols=1024",
    "rows=3 cols=65536",
};
enum { MATRICES = sizeof matrices / sizeof *matrices, SMALL = 2 };

/* ---- inputs --------------------------------------------------------------------------------- */

/* +-1, as many of each in every aligned block of 2^k, and in every 2^k-th element of one: the
 * Thue-Morse sequence. Partial sums of any order that kernels take stay next to 0. */
static double sign_of(int64_t row, int64_t col)
{
    return __builtin_parityll((unsigned long long)col) ^ __builtin_parityll((unsigned long long)row)
               ? -1
               : 1;
}

/* The least integer of which odd neighbours lie half way between two values of the type. */
static double half_way(kf_dtype dtype)
{
    return dtype == KF_F16 ? 2048 : dtype == KF_BF16 ? 256 : 16777216;
}

static bool says(const char *text, const char *word)
{
    return strstr(text, word) != NULL;
}

/* Products of weight and sign plus 1 are ties; in the backward pass sums must stay small. */
static double weight_of(const subject *s, kf_dtype dtype, int64_t col)
{
    if (says(s->op, "backward"))
        return (double)(col % 3 + 1) - (says(s->rest, "offset=1") ? 1 : 0);
    return half_way(dtype) + 2 * (double)(col % 5);
}

static double x_of(const subject *s, kf_dtype dtype, int64_t row, int64_t col)
{
    const double mean = s->far ? FAR : 0;
    if (!strcmp(s->op, "softmax"))
        return 3 - (double)(row % 7);
    if (!strcmp(s->op, "elementwise_chain"))
        return 64 * (double)(col % 13 - 6);
    if (!strcmp(s->op, "dropout_add"))
        return half_way(dtype) / 2 + (double)((row + col) % 9);
    if (says(s->op, "gelu"))
        return 64 + (double)((row + col) % 9); /* where gelu(x) is x */
    return mean + sign_of(row, col) * (says(s->op, "add_") ? 2 : 1);
}

static double element(const subject *s, const char *name, kf_dtype dtype, int64_t row, int64_t col)
{
    const double small = (double)((3 * row + 5 * col) % 7 - 3);
    if (!strcmp(name, "x"))
        return x_of(s, dtype, row, col);
    if (!strcmp(name, "weight"))
        return weight_of(s, dtype, col);
    if (!strcmp(name, "bias"))
        return 1;
    if (!strcmp(name, "residual"))
        return !strcmp(s->op, "dropout_add") ? 1 : -sign_of(row, col);
    if (!strcmp(name, "gate"))
        return half_way(dtype) == 256 ? 129 : 127;
    if (!strcmp(name, "mean"))
        return s->far ? FAR : 0;
    return !strcmp(name, "rstd") ? 1 : small == 0 ? 1 : small; /* y, grad_y, up */
}

static void *fill(const subject *s, const kf_problem *problem, int i)
{
    const kf_tensor *tensor = &problem->tensor[i];
    const char *name = problem->op->tensors[i].name;
    const bool vector = !strchr(problem->op->tensors[i].dims, ' ');
    const int64_t width = vector ? 1 : problem->dim[1];
    int64_t extent;
    assert_int_equal(kf_tensor_extent(tensor, &extent), KF_OK);
    char *data = calloc((size_t)extent, (size_t)kf_dtype_bytes(tensor->dtype));
    assert_non_null(data);
    for (int64_t e = 0; e < kf_tensor_elements(tensor); e++)
        kf_store(data, tensor->dtype, kf_tensor_offset(tensor, e),
                 element(s, name, problem->dtype, vector ? 0 : e / width, vector ? e : e % width));
    return data;
}

/* ---- checks --------------------------------------------------------------------------------- */

static void check_plan(const subject *s, const char *text, const kf_plan *plan, const kf_case *c,
                       kf_device *device, kf_queue *queue)
{
    const kf_problem *problem = &plan->problem;
    const void *data[KF_MAX_TENSORS] = {NULL};
    kf_verify_report report;
    kf_verify_options options = {
        .data = data,
        .bit_exact = true,
        .exact_size = (kf_device_target(device)->capabilities & KF_CAP_SIMULATOR) != 0};
    memcpy(options.offset, c->offset, sizeof options.offset);
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype && problem->op->tensors[i].role == KF_INPUT)
            data[i] = fill(s, problem, i);
    if (kf_verify(plan, device, queue, &options, &report) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (!report.passed)
        fail_msg("%s%s: %s", text, s->far ? " far from zero" : "", report.reason);
    assert_true(report.checked > 0);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        free((void *)data[i]);
}

/* Unfused plans of 16-bit types round what stands between their launches. */
static bool rounds_between(const kf_plan *plan)
{
    return plan->error.intermediate == KF_F16 || plan->error.intermediate == KF_BF16;
}

static void check_text(const subject *s, const char *variant, kf_dtype dtype, const char *shape,
                       kf_device *device, kf_queue *queue)
{
    char text[256];
    kf_case c;
    kf_plan *plan;
    snprintf(text, sizeof text, "%s %s %s %s %s", s->op, variant, kf_dtype_name(dtype), shape,
             s->rest);
    if (kf_case_parse(text, &c) != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (getenv("KFUSE_VERBOSE"))
        fprintf(stderr, "%s\n", text);
    const kf_status status = case_plan(text, kf_device_target(device), &plan);
    if (status == KF_UNSUPPORTED)
        return;
    if (status != KF_OK)
        fail_msg("%s: %s", text, kf_error());
    if (!rounds_between(plan))
        check_plan(s, text, plan, &c, device, queue);
    kf_plan_close(plan);
}

static const char *shape_of(const subject *s, int i, char *text, size_t size)
{
    const kf_op *op = kf_op_find(s->op);
    if (kf_op_dim_count(op) == 1)
        snprintf(text, size, "n=%d", i ? 4096 << i : 777);
    else
        snprintf(text, size, "%.*s", (int)strcspn(matrices[i], "m"), matrices[i]);
    for (int t = 0; says(matrices[i], "misaligned") && t < op->tensor_count; t++)
        if (!op->tensors[t].optional)
            snprintf(text + strlen(text), size - strlen(text), " offset.%s=3", op->tensors[t].name);
    return text;
}

/* Every program is compiled, which takes CPUs seconds, of f16 most. */
static bool meets(kf_dtype dtype, int shape)
{
    return dtype == KF_F32 ? shape != 2 : dtype == KF_F16 ? shape == 0 : shape != 3;
}

static void check(kf_device *device, kf_queue *queue)
{
    const bool simulated = kf_device_target(device)->capabilities & KF_CAP_SIMULATOR,
               brief = simulated || getenv("KFUSE_SOME");
    for (int k = 0; k < SUBJECTS; k++) { /* Oclgrind 21.10 crashes in some of the 16-bit texts */
        const subject *s = &subjects[k];
        const kf_op *op = kf_op_find(s->op);
        for (int v = 0; v < op->variant_count; v++)
            for (int dtype = KF_F32; dtype <= (s->far || simulated ? KF_F32 : KF_BF16); dtype++)
                for (int i = 0; i < MATRICES; i++) {
                    char shape[160];
                    if ((brief && i >= SMALL) || !meets((kf_dtype)dtype, i))
                        continue;
                    check_text(s, op->variants[v].name, (kf_dtype)dtype,
                               shape_of(s, i, shape, sizeof shape), device, queue);
                }
    }
}

static void results_are_the_rounded_reference(void **state)
{
    (void)state;
    on_each_device(check);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(results_are_the_rounded_reference)};
    return cmocka_run_group_tests_name("exact", tests, NULL, NULL) ? 1 : 0;
}
