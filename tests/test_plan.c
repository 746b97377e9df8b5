/* label: unit */
/* link: -Wl,--wrap=malloc,--wrap=calloc */
/* Problems, plan algebra and execs, without any device but the null backend.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"

static kf_problem *softmax_problem(int64_t rows, int64_t cols)
{
    kf_problem *problem;
    assert_int_equal(kf_problem_open("softmax", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[]){rows, cols}, NULL), KF_OK);
    return problem;
}

static kf_plan *softmax_plan(int64_t rows, int64_t cols, const char *variant)
{
    kf_problem *problem = softmax_problem(rows, cols);
    kf_plan *plan;
    assert_int_equal(
        kf_plan_open(problem, &(kf_plan_desc){.variant = variant}, kf_target_generic(), &plan),
        KF_OK);
    kf_problem_close(problem);
    return plan;
}

/* ---- problems ----------------------------------------------------------------------------- */

/* Mistake: leading axes that do not fold (a transposed view) are flattened all the same. */
static void leading_axes_fold_or_are_refused(void **state)
{
    (void)state;
    kf_problem *problem = softmax_problem(1, 1);
    kf_tensor t;
    assert_int_equal(kf_tensor_contiguous(KF_F32, 3, (int64_t[]){2, 3, 5}, &t), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "x", &t), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "y", &t), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_OK);
    assert_int_equal(problem->dim[0], 6);
    assert_int_equal(problem->dim[1], 5);
    assert_int_equal(problem->row_stride[0], 5);
    t.stride[0] = 5, t.stride[1] = 10; /* axes 0 and 1 swapped */
    assert_int_equal(kf_problem_tensor(problem, "x", &t), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_INVALID);
    kf_problem_close(problem);
}

/* Mistakes: a shape whose product wraps around, a negative size, a rank past the array's end. */
static void overflowing_shapes_are_refused_before_anything(void **state)
{
    (void)state;
    kf_tensor t;
    const int64_t huge = (int64_t)1 << 40;
    assert_int_equal(kf_tensor_contiguous(KF_F32, 2, (int64_t[]){huge, huge}, &t), KF_INVALID);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 1, (int64_t[]){-1}, &t), KF_INVALID);
    assert_int_equal(
        kf_tensor_contiguous(KF_F32, KF_MAX_RANK + 1, (int64_t[KF_MAX_RANK + 1]){1}, &t),
        KF_INVALID);
    kf_problem *problem = softmax_problem(1, 1);
    t = (kf_tensor){.dtype = KF_F32, .rank = 2, .size = {3, 5}, .stride = {INT64_MAX / 2, 1}};
    assert_int_equal(kf_problem_tensor(problem, "x", &t), KF_INVALID);
    t.stride[0] = -5;
    assert_int_equal(kf_problem_tensor(problem, "x", &t), KF_INVALID);
    assert_true(strlen(kf_error()) > 0);
    kf_problem_close(problem);
}

/* Mistake: output rows that overlap are written by two groups at once; broadcast inputs are legal.
 */
static void overlapping_outputs_are_refused(void **state)
{
    (void)state;
    kf_problem *problem = softmax_problem(4, 8);
    kf_tensor t = {.dtype = KF_F32, .rank = 2, .size = {4, 8}, .stride = {7, 1}};
    assert_int_equal(kf_problem_tensor(problem, "y", &t), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_INVALID);
    t.stride[0] = 0;
    assert_int_equal(kf_problem_tensor(problem, "y", &t), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_INVALID);
    kf_problem_close(problem);
    problem = softmax_problem(4, 8);
    assert_int_equal(kf_problem_tensor(problem, "x", &t), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_OK);
    kf_problem_close(problem);
}

/* Mistake: mixed dtypes are taken for the first one's. */
static void dtypes_must_agree(void **state)
{
    (void)state;
    kf_problem *problem = softmax_problem(4, 8);
    kf_tensor t;
    assert_int_equal(kf_tensor_contiguous(KF_F16, 2, (int64_t[]){4, 8}, &t), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "y", &t), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_INVALID);
    kf_problem_close(problem);
}

/* ---- costs -------------------------------------------------------------------------------- */

/* Mistake: a variant's declared traffic is not what the design says the formula moves. */
static void softmax_traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    const int64_t rows = 100, cols = 4096, pass = rows * cols * 4, statistics = rows * 4;
    kf_plan *plan = softmax_plan(rows, cols, "unfused");
    kf_cost cost = kf_plan_cost(plan);
    assert_int_equal(cost.launches, 5);
    assert_int_equal(cost.bytes_read + cost.bytes_written, 8 * pass + 4 * statistics);
    kf_plan_close(plan);
    plan = softmax_plan(rows, cols, "fused");
    cost = kf_plan_cost(plan);
    assert_int_equal(cost.launches, 1);
    assert_int_equal(cost.bytes_read, pass);
    assert_int_equal(cost.bytes_written, pass);
    assert_int_equal(cost.scratch_bytes, 0);
    kf_plan_close(plan);
}

/* Mistake: scratch arrays that live at the same time share memory (wrong results), or none ever
 * does (waste). */
static void scratch_is_shared_only_by_liveness(void **state)
{
    (void)state;
    kf_plan *plan = softmax_plan(64, 1024, "unfused");
    for (int i = 0; i < plan->scratch_count; i++)
        for (int j = 0; j < i; j++) {
            const kf_scratch *a = &plan->scratch[i], *b = &plan->scratch[j];
            const size_t a_end = a->offset + (size_t)(a->count * kf_dtype_bytes(a->dtype));
            const size_t b_end = b->offset + (size_t)(b->count * kf_dtype_bytes(b->dtype));
            bool together = false;
            for (int s = 0; s < plan->step_count; s++) {
                bool has_a = false, has_b = false;
                for (int u = 0; u < plan->step[s].use_count; u++) {
                    const kf_use *use = &plan->step[s].use[u];
                    has_a |= use->kind <= KF_USE_WRITE && use->ref.scratch && use->ref.index == i;
                    has_b |= use->kind <= KF_USE_WRITE && use->ref.scratch && use->ref.index == j;
                }
                together |= has_a && has_b;
            }
            if (together && a->offset < b_end && b->offset < a_end)
                fail_msg("%s and %s share memory in one step", a->name, b->name);
        }
    kf_plan_close(plan);
}

/* ---- kf_plan_check ------------------------------------------------------------------------ */

/* Mistakes: reading scratch before it is written, writing an input, a tensor left out, too many
 * threads. */
static void broken_plans_are_refused(void **state)
{
    (void)state;
    kf_plan *plan = softmax_plan(4, 64, "unfused");
    assert_int_equal(kf_plan_check(plan), KF_OK);
    const kf_step first = plan->step[0];
    plan->step[0] = plan->step[1]; /* the row maximum is now read before it exists */
    assert_int_equal(kf_plan_check(plan), KF_INVALID);
    plan->step[0] = first;
    for (int u = 0; u < first.use_count; u++)
        if (first.use[u].kind == KF_USE_READ)
            plan->step[0].use[u].kind = KF_USE_WRITE; /* writes x */
    assert_int_equal(kf_plan_check(plan), KF_INVALID);
    plan->step[0] = first;
    plan->step_count--; /* nobody writes y */
    assert_int_equal(kf_plan_check(plan), KF_INVALID);
    plan->step_count++;
    plan->step[0].grid.threads = plan->target.max_threads + 1;
    assert_int_equal(kf_plan_check(plan), KF_UNSUPPORTED);
    plan->step[0] = first;
    plan->step[0].grid.groups = plan->target.max_groups + 1; /* another device may take them */
    assert_int_equal(kf_plan_check(plan), KF_UNSUPPORTED);
    plan->step[0] = first;
    plan->step[0].grid.groups = 0;
    assert_int_equal(kf_plan_check(plan), KF_INVALID);
    plan->step[0] = first;
    for (int i = 0; i <= KF_MAX_DEFINES; i++)
        kf_step_define(&plan->step[0], "X", i);
    assert_int_equal(kf_plan_check(plan), KF_INVALID);
    plan->step[0] = first;
    assert_int_equal(kf_plan_check(plan), KF_OK);
    kf_plan_close(plan);
}

/* Mistake: a knob nobody compiled or an unknown variant is taken silently. */
static void unknown_knobs_and_variants_are_refused(void **state)
{
    (void)state;
    kf_problem *problem = softmax_problem(4, 64);
    kf_plan *plan;
    const kf_target *target = kf_target_generic();
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.variant = "fussed"}, target, &plan),
                     KF_INVALID);
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.knobs = "NOSUCH=1"}, target, &plan),
                     KF_INVALID);
    assert_int_equal(kf_plan_open(problem,
                                  &(kf_plan_desc){.variant = "fused", .knobs = "ROWS_PER_GROUP=77"},
                                  target, &plan),
                     KF_INVALID);
    assert_null(plan);
    kf_problem_close(problem);
}

/* Mistake: zero rows launch a grid of zero groups, or are an error. */
static void zero_sizes_launch_nothing(void **state)
{
    (void)state;
    kf_plan *plan = softmax_plan(0, 64, "unfused");
    assert_int_equal(kf_plan_cost(plan).launches, 0);
    kf_plan_close(plan);
    plan = softmax_plan(64, 0, "fused");
    assert_int_equal(kf_plan_cost(plan).launches, 0);
    kf_plan_close(plan);
}

/* ---- execs on the null backend ------------------------------------------------------------ */

typedef struct rig {
    kf_device *device;
    kf_queue *queue;
    kf_buffer *x, *y;
    kf_plan *plan;
    kf_exec *exec;
} rig;

static void rig_close(rig *r)
{
    kf_exec_close(r->exec);
    kf_plan_close(r->plan);
    kf_buffer_close(r->x);
    kf_buffer_close(r->y);
    kf_queue_close(r->queue);
    kf_device_close(r->device);
}

static kf_status rig_open(rig *r, const kf_backend *backend, int64_t rows, int64_t cols,
                          const char *variant)
{
    kf_problem *problem = NULL;
    const size_t bytes = (size_t)(rows * cols) * 4;
    *r = (rig){0};
    kf_status status = kf_device_open_on(backend, &(kf_device_desc){.no_cache = true}, &r->device);
    if (status == KF_OK)
        status = kf_queue_open(r->device, NULL, &r->queue);
    if (status == KF_OK)
        status = kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = bytes}, &r->x);
    if (status == KF_OK)
        status = kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = bytes}, &r->y);
    if (status == KF_OK)
        status = kf_problem_open("softmax", &problem);
    if (status == KF_OK)
        status = kf_problem_shape(problem, KF_F32, (int64_t[]){rows, cols}, NULL);
    if (status == KF_OK)
        status = kf_plan_open(problem, &(kf_plan_desc){.variant = variant},
                              kf_device_target(r->device), &r->plan);
    if (status == KF_OK)
        status = kf_prepare(r->plan, r->device, &r->exec);
    if (status == KF_OK)
        status =
            kf_run(r->exec, r->queue, (kf_binding[]){{.buffer = r->x}, {.buffer = r->y}}, NULL);
    kf_problem_close(problem);
    return status;
}

static uint64_t calls(const kf_device *device)
{
    uint64_t sum = 0;
    for (int i = 0; i < KF_SLOT_COUNT; i++)
        sum += device->calls[i];
    return sum;
}

static int allocations;
void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
    allocations++;
    return __real_malloc(bytes);
}
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes)
{
    allocations++;
    return __real_calloc(count, bytes);
}

/* Mistake: a run compiles, allocates, synchronises or makes more calls than the plan has steps. */
static void run_makes_one_call_per_step_and_no_allocation(void **state)
{
    (void)state;
    rig r;
    assert_int_equal(rig_open(&r, kf_backend_find("null"), 8, 100, "unfused"), KF_OK);
    assert_true(allocations > 0); /* the counter counts */
    const uint64_t before = calls(r.device);
    const int allocated = allocations;
    assert_int_equal(
        kf_run(r.exec, r.queue, (kf_binding[]){{.buffer = r.x}, {.buffer = r.y}}, NULL), KF_OK);
    assert_int_equal(calls(r.device) - before, kf_plan_cost(r.plan).launches);
    assert_int_equal(allocations, allocated);
    rig_close(&r);
}

/* Mistakes: a binding that is too small, missing, overlapping or of another device reaches the
 * kernel. */
static void bad_bindings_are_refused(void **state)
{
    (void)state;
    rig r;
    assert_int_equal(rig_open(&r, kf_backend_find("null"), 2, 4, "unfused"), KF_OK);
    assert_int_equal(kf_run(r.exec, r.queue, (kf_binding[]){{.buffer = r.x}, {0}}, NULL),
                     KF_INVALID);
    assert_int_equal(kf_run(r.exec, r.queue,
                            (kf_binding[]){{.buffer = r.x, .offset = 1}, {.buffer = r.y}}, NULL),
                     KF_INVALID);
    assert_int_equal(kf_run(r.exec, r.queue,
                            (kf_binding[]){{.buffer = r.x, .offset = -1}, {.buffer = r.y}}, NULL),
                     KF_INVALID);
    kf_device *other;
    kf_buffer *foreign;
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "null"}, &other), KF_OK);
    assert_int_equal(kf_buffer_open(other, &(kf_buffer_desc){.bytes = 3200}, &foreign), KF_OK);
    assert_int_equal(
        kf_run(r.exec, r.queue, (kf_binding[]){{.buffer = foreign}, {.buffer = r.y}}, NULL),
        KF_INVALID);
    kf_buffer_close(foreign);
    kf_device_close(other);
    assert_int_equal(kf_run(r.exec, r.queue, (kf_binding[]){{.buffer = r.x}, {.buffer = r.y}}, r.x),
                     KF_INVALID);
    assert_non_null(strstr(kf_error(), "share memory")); /* scratch would overwrite x */
    rig_close(&r);
}

/* Mistakes: an error path leaks a handle, crashes, or says KF_OK. Every call of every slot fails
 * once, then for ever. */
static void every_failing_call_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    const kf_backend *faulty = kf_fault_wrap(kf_backend_find("null"));
    int points = 0;
    for (int forever = 0; forever < 2; forever++)
        for (int n = 0;; n++) {
            rig r;
            kf_fault_set(&(kf_fault){
                .slot = KF_SLOT_COUNT, .nth = n, .forever = forever, .status = KF_DEVICE_FAILED});
            const kf_status status = rig_open(&r, faulty, 8, 100, "unfused");
            const bool reached = kf_fault_count() > n;
            kf_fault_set(NULL);
            const int live = r.device ? r.device->live : 0;
            const int held = r.device ? (r.queue != NULL) + (r.x != NULL) + (r.y != NULL) : 0;
            if (reached && status != KF_OK) {
                assert_true(strlen(kf_error()) > 0);
                if (!r.exec)
                    assert_int_equal(live, held);
                points++;
            }
            rig_close(&r);
            if (!reached)
                break;
            assert_true(n < 1000);
        }
    print_message("%d fault points\n", points);
    assert_true(points >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leading_axes_fold_or_are_refused),
        cmocka_unit_test(overflowing_shapes_are_refused_before_anything),
        cmocka_unit_test(overlapping_outputs_are_refused),
        cmocka_unit_test(dtypes_must_agree),
        cmocka_unit_test(softmax_traffic_is_what_the_formula_moves),
        cmocka_unit_test(scratch_is_shared_only_by_liveness),
        cmocka_unit_test(broken_plans_are_refused),
        cmocka_unit_test(unknown_knobs_and_variants_are_refused),
        cmocka_unit_test(zero_sizes_launch_nothing),
        cmocka_unit_test(run_makes_one_call_per_step_and_no_allocation),
        cmocka_unit_test(bad_bindings_are_refused),
        cmocka_unit_test(every_failing_call_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
