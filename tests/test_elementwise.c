/* label: opencl */
/* The chain of the first lesson: costs, vectors where bases allow, what its reference says of
 * overflow, and in place on every OpenCL device. Shapes and nasty inputs are test_conformance's.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/inputs.h"
#include "../harness/verify.h"
#include "each_device.h"

enum { X, Y, Z, O };

static kf_plan *make_plan(const char *variant, kf_dtype dtype, int64_t n, int alignment,
                          const kf_target *target)
{
    kf_problem *problem;
    kf_plan *plan;
    assert_int_equal(kf_problem_open("elementwise", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, dtype, (int64_t[KF_MAX_DIMS]){n}, NULL), KF_OK);
    for (int i = X; i <= O; i++)
        problem->tensor[i].alignment = alignment;
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.variant = variant}, target, &plan),
                     KF_OK);
    kf_problem_close(problem);
    return plan;
}

static int64_t define_of(const kf_step *step, const char *name)
{
    for (int i = 0; i < step->define_count; i++)
        if (!strcmp(step->define[i].name, name))
            return step->define[i].value;
    return -1;
}

/* Bytes of all tensors of the plan with that role. */
static int64_t tensor_bytes(const kf_plan *plan, kf_role role)
{
    int64_t bytes = 0;
    for (int i = 0; i < plan->problem.op->tensor_count; i++)
        if (plan->problem.op->tensors[i].role == role)
            bytes += kf_ref_elements(plan, kf_tensor_ref(plan, i)) *
                     kf_dtype_bytes(plan->problem.tensor[i].dtype);
    return bytes;
}

/* ---- plans -------------------------------------------------------------------------------- */

/* Mistakes: an intermediate left out of the count or counted in f32; padding lanes counted as exps.
 */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    for (int dtype = KF_F32; dtype <= KF_BF16; dtype++) {
        const int64_t n = 100003;
        kf_plan *unfused = make_plan("unfused", (kf_dtype)dtype, n, 16, kf_target_generic());
        kf_plan *fused = make_plan("fused", (kf_dtype)dtype, n, 16, kf_target_generic());
        const int64_t in = tensor_bytes(fused, KF_INPUT), out = tensor_bytes(fused, KF_OUTPUT);
        const kf_cost two = kf_plan_cost(unfused), one = kf_plan_cost(fused);
        assert_int_equal(one.launches, 1);
        assert_int_equal(one.bytes_read, in);
        assert_int_equal(one.bytes_written, out);
        assert_int_equal(one.scratch_bytes, 0);
        assert_int_equal(two.launches, 3);
        assert_int_equal(two.bytes_read - one.bytes_read, 2 * out); /* both intermediates */
        assert_int_equal(two.bytes_written - one.bytes_written, 2 * out);
        assert_true(two.scratch_bytes >= 2 * out);
        assert_int_equal(two.specials, one.specials);
        assert_int_equal(two.flops, one.flops);
        assert_true(one.exact && two.exact);
        assert_int_equal(unfused->error.intermediate, dtype); /* what the bounds are made from */
        assert_int_equal(fused->error.intermediate, KF_NONE);
        kf_plan_close(unfused);
        kf_plan_close(fused);
    }
}

/* Mistakes: 16-byte accesses at an address that only promises 4; the same bytes in a quarter of the
 * loads when it promises 16; a tile that covers other elements than the grid was made for. */
static void vectors_follow_the_promised_alignment(void **state)
{
    (void)state;
    static const int promises[] = {0, 2, 4, 8, 16, 128};
    kf_target cpu = *kf_target_generic();
    cpu.capabilities |= KF_CAP_CPU;
    for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
        for (int i = 0; i < 12; i++) {
            const int64_t n = 100003, size = kf_dtype_bytes((kf_dtype)dtype);
            const bool on_cpu = i >= 6;
            kf_plan *plan = make_plan("fused", (kf_dtype)dtype, n, promises[i % 6],
                                      on_cpu ? &cpu : kf_target_generic());
            const kf_step *step = &plan->step[0];
            const int64_t vector = define_of(step, "VEC_BYTES"),
                          tile = step->grid.threads * define_of(step, "ACCESSES") * vector / size;
            assert_int_equal(vector, !on_cpu && promises[i % 6] >= 16 ? 16 : size);
            assert_int_equal(define_of(step, "BLOCK"), step->grid.threads);
            assert_int_equal(step->grid.groups, (n + tile - 1) / tile);
            if (on_cpu)
                assert_int_equal(define_of(step, "ACCESSES"), 1);
            kf_plan_close(plan);
        }
}

/* Mistakes: a transposed or padded view flattened all the same; a broadcast read as if it were
 * dense. */
static void views_that_do_not_fold_are_refused(void **state)
{
    (void)state;
    kf_problem *problem;
    kf_plan *plan;
    kf_tensor t;
    assert_int_equal(kf_problem_open("elementwise", &problem), KF_OK);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 3, (int64_t[]){2, 3, 5}, &t), KF_OK);
    for (int i = X; i <= O; i++)
        problem->tensor[i] = t;
    assert_int_equal(kf_plan_open(problem, NULL, kf_target_generic(), &plan), KF_OK);
    assert_int_equal(plan->problem.dim[0], 30);
    kf_plan_close(plan);
    problem->tensor[Y].stride[1] = 6; /* padded rows */
    problem->tensor[Y].stride[0] = 18;
    assert_int_equal(kf_plan_open(problem, NULL, kf_target_generic(), &plan), KF_INVALID);
    memset(problem->tensor[Y].stride, 0, sizeof t.stride);
    assert_int_equal(kf_plan_open(problem, NULL, kf_target_generic(), &plan), KF_INVALID);
    assert_non_null(strstr(kf_error(), "'y'"));
    kf_problem_close(problem);
}

/* ---- reference ---------------------------------------------------------------------------- */

static void expect(kf_dtype dtype, kf_dtype intermediate, double x, double y, double z, double got,
                   bool passes)
{
    unsigned char memory[4][4];
    const void *const inputs[] = {memory[X], memory[Y], memory[Z], NULL};
    const kf_problem problem = {.op = kf_op_find("elementwise"), .dtype = dtype, .dim = {1}};
    const kf_error_model error = {.intermediate = intermediate};
    kf_verify_report report;
    double value, bound;
    kf_store(memory[X], dtype, 0, x);
    kf_store(memory[Y], dtype, 0, y);
    kf_store(memory[Z], dtype, 0, z);
    kf_store(memory[O], dtype, 0, got);
    assert_int_equal(problem.op->reference(&problem, &error, inputs, O, 0, 1, &value, &bound),
                     KF_OK);
    kf_compare(dtype, memory[O], &value, &bound, 1, &report);
    if (report.passed != passes)
        fail_msg("%s through %s: exp(%g * %g + %g) = %g: %s, want %g within %g",
                 kf_dtype_name(dtype), intermediate ? kf_dtype_name(intermediate) : "registers", x,
                 y, z, got, report.passed ? "passed" : "failed", value, bound);
}

/* Mistakes: a reference that rounds first, accepts anything near an overflow, or forgets that a
 * stored intermediate overflows where registers do not. */
static void reference_knows_overflow_and_special_values(void **state)
{
    (void)state;
    expect(KF_F32, KF_NONE, 1, 1, 0, exp(1), true);
    expect(KF_F32, KF_NONE, 1, 1, 0, exp(1) * (1 + 0x1p-18), false);
    expect(KF_F32, KF_NONE, 100, 1, 0, INFINITY, true);
    expect(KF_F32, KF_NONE, 100, 1, 0, 3e38, false);
    expect(KF_F32, KF_NONE, 88, 1, 0, INFINITY, false);
    expect(KF_F32, KF_NONE, -100, 1, 0, 0, true); /* denormals may be flushed */
    expect(KF_F32, KF_NONE, -80, 1, 0, 0, false);
    expect(KF_F32, KF_NONE, 0, 1, -INFINITY, 0, true);
    expect(KF_F32, KF_NONE, INFINITY, 1, -INFINITY, NAN, true);
    expect(KF_F32, KF_NONE, INFINITY, 1, -INFINITY, 0, false);
    expect(KF_F32, KF_NONE, NAN, 1, 0, INFINITY, false);
    expect(KF_F16, KF_NONE, 300, 300, -60000, INFINITY, true);
    expect(KF_F16, KF_NONE, 256, 256, -65504, INFINITY, true); /* exp(32) is past f16 either way */
    expect(KF_F16, KF_NONE, 256, -256, 65504, 0, true);
    expect(KF_F16, KF_F16, 256, -256, 65504, 0, true); /* -inf on the way: 0 as well */
    expect(KF_F16, KF_NONE, 256, 256, -INFINITY, 0, true);
    expect(KF_F16, KF_F16, 256, 256, -INFINITY, NAN, true); /* inf - inf */
    expect(KF_F16, KF_F16, 256, 256, -INFINITY, 0, false);
    expect(KF_BF16, KF_NONE, 1, 2, 0.5, exp(2.5), true);
    expect(KF_BF16, KF_NONE, 1, 2, 0.5, exp(2.5) * 1.02, false);
}

/* Mistake: a bound for stored intermediates that is no wider than the one for registers, or wide
 * enough for all. */
static void stored_intermediates_widen_the_bound(void **state)
{
    (void)state;
    const double x = 3.140625, y = 2.71875, z = -7.03125; /* exact in bf16; the product is not */
    const double truth = exp(x * y + z);
    float product, sum;
    unsigned char stored[4];
    kf_store(stored, KF_BF16, 0, x * y);
    product = (float)kf_load(stored, KF_BF16, 0);
    kf_store(stored, KF_BF16, 0, (double)product + z);
    sum = (float)kf_load(stored, KF_BF16, 0);
    expect(KF_BF16, KF_BF16, x, y, z, exp((double)sum), true);
    expect(KF_BF16, KF_NONE, x, y, z, truth, true);
    expect(KF_BF16, KF_NONE, x, y, z, truth * 1.03, false);
    expect(KF_BF16, KF_BF16, x, y, z, truth * 1.2, false);
}

/* ---- in place, on devices ------------------------------------------------------------------ */

typedef struct bench {
    kf_device *device;
    kf_queue *queue;
    kf_buffer *input[3], *output;
    void *expected, *got;
} bench;

static void run_bound(bench *b, kf_exec *exec, int alias, size_t bytes, void *into)
{
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    for (int i = X; i <= Z; i++)
        binding[i].buffer = b->input[i];
    binding[O].buffer = alias < 0 ? b->output : b->input[alias];
    assert_int_equal(kf_run(exec, b->queue, binding, NULL), KF_OK);
    assert_int_equal(kf_buffer_read(b->queue, binding[O].buffer, 0, into, bytes), KF_OK);
}

static void fill_inputs(bench *b, const kf_plan *plan, size_t bytes)
{
    for (int i = X; i <= Z; i++) {
        kf_inputs_fill(&plan->problem.tensor[i], b->got, KF_DIST_NORMAL, 3, i);
        assert_int_equal(kf_buffer_write(b->queue, b->input[i], 0, b->got, bytes), KF_OK);
    }
}

static void check_in_place(bench *b, const char *variant, kf_dtype dtype)
{
    const int64_t n = 5003;
    const size_t bytes = (size_t)(n * kf_dtype_bytes(dtype));
    kf_exec *exec;
    kf_plan *plan = make_plan(variant, dtype, n, 16, kf_device_target(b->device));
    assert_int_equal(kf_prepare(plan, b->device, &exec), KF_OK);
    b->expected = malloc(bytes);
    b->got = malloc(bytes);
    for (int i = X; i <= O; i++)
        assert_int_equal(kf_buffer_open(b->device, &(kf_buffer_desc){.bytes = bytes},
                                        i == O ? &b->output : &b->input[i]),
                         KF_OK);
    fill_inputs(b, plan, bytes);
    run_bound(b, exec, -1, bytes, b->expected);
    for (int alias = X; alias <= Z; alias++) {
        fill_inputs(b, plan, bytes);
        run_bound(b, exec, alias, bytes, b->got);
        assert_memory_equal(b->got, b->expected, bytes);
    }
    for (int i = X; i <= O; i++)
        kf_buffer_close(i == O ? b->output : b->input[i]);
    free(b->expected);
    free(b->got);
    kf_exec_close(exec);
    kf_plan_close(plan);
}

static void check_all_in_place(kf_device *device, kf_queue *queue)
{
    static const char *const variants[] = {"unfused", "fused", "fused_cpu"};
    bench b = {.device = device, .queue = queue};
    for (int v = 0; v < 3; v++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
            check_in_place(&b, variants[v], (kf_dtype)dtype);
}

/* Mistake: a store that overtakes a load of the same tensor, in the tail or between two vectors. */
static void output_may_be_any_input(void **state)
{
    (void)state;
    on_each_device(check_all_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(vectors_follow_the_promised_alignment),
        cmocka_unit_test(views_that_do_not_fold_are_refused),
        cmocka_unit_test(reference_knows_overflow_and_special_values),
        cmocka_unit_test(stored_intermediates_widen_the_bound),
        cmocka_unit_test(output_may_be_any_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
