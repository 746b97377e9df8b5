/* label: unit */
/* The judge is judged: kf_verify against kernels that cheat (testing.md 5 and 22), on a backend
 * whose kernels are C functions. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../core/op.h"
#include "../harness/verify.h"
#include "cheating_op.h"

/* ---- trials -----------------------------------------------------------------------------------
 */

static kf_device *device;
static kf_queue *queue;
static char folder[] = "/tmp/kfuse-verify-XXXXXX";

typedef struct trial {
    const char *variant;
    kf_dtype dtype;
    int64_t rows, cols, pad; /* pad: elements between rows */
    kf_verify_options options;
} trial;

static kf_plan *make_plan(const trial *t)
{
    kf_problem problem = {.op = &fake};
    kf_plan *plan = NULL;
    const int64_t size[2] = {t->rows, t->cols};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kf_tensor_contiguous(t->dtype, 2, size, &problem.tensor[i]), KF_OK);
        problem.tensor[i].stride[0] = t->cols + t->pad;
    }
    const kf_status status = kf_plan_open(&problem, &(kf_plan_desc){.variant = t->variant},
                                          kf_device_target(device), &plan);
    if (status != KF_OK)
        fail_msg("%s", kf_error());
    return plan;
}

static kf_verify_report verify(const trial *t, defect d)
{
    kf_verify_report report;
    kf_plan *plan = make_plan(t);
    planted = d;
    launches = 0;
    dtype_used = t->dtype;
    const kf_status status = kf_verify(plan, device, queue, &t->options, &report);
    kf_plan_close(plan);
    if (status != KF_OK)
        fail_msg("%s: %s", kf_status_name(status), kf_error());
    assert_int_equal(device->live, 1); /* the queue: nothing is left open */
    return report;
}

static void must_pass(const trial *t)
{
    const kf_verify_report report = verify(t, NONE);
    if (!report.passed)
        fail_msg("a correct kernel was refused: %s", report.reason);
    assert_string_equal(report.reason, "");
    assert_int_equal(report.bad, 0);
}

static void must_fail(const trial *t, defect d, const char *why)
{
    const kf_verify_report report = verify(t, d);
    if (report.passed)
        fail_msg("defect %d passed", (int)d);
    if (!strstr(report.reason, why))
        fail_msg("defect %d: the reason is '%s', not '%s'", (int)d, report.reason, why);
}

static const trial small = {.variant = "fused", .dtype = KF_F32, .rows = 7, .cols = 33};
static const trial padded = {.variant = "fused", .dtype = KF_F32, .rows = 7, .cols = 33, .pad = 5};
static const trial unfused = {.variant = "unfused", .dtype = KF_F32, .rows = 7, .cols = 33};
static const trial large = {
    .variant = "fused", .dtype = KF_F32, .rows = 3001, .cols = 17, .options = {.whole_limit = 1}};

/* Catches a judge that refuses what is right: dtypes, strides, offsets, distributions, both
 * variants, exact sizes. */
static void verify_passes_a_correct_kernel(void **state)
{
    (void)state;
    for (kf_dtype dtype = KF_F32; dtype <= KF_BF16; dtype++)
        for (int d = 0; d < KF_DIST_COUNT; d++)
            for (int flavour = 0; flavour < 8; flavour++) {
                trial t = {.variant = flavour & 1 ? "fused" : "unfused",
                           .dtype = dtype,
                           .rows = 70,
                           .cols = 9};
                t.pad = flavour & 2 ? 3 : 0;
                t.options.offset[0] = t.options.offset[1] = flavour & 2 ? 1 : 0;
                t.options.exact_size = flavour & 4;
                t.options.distribution = (kf_distribution)d;
                t.options.seed = (uint64_t)d;
                must_pass(&t);
            }
    must_pass(&large);
}

/* Catches zero-size problems that crash, launch or count as failures. */
static void verify_passes_empty_tensors(void **state)
{
    (void)state;
    for (int exact = 0; exact < 2; exact++) {
        must_pass(&(trial){.variant = "fused",
                           .dtype = KF_F32,
                           .rows = 0,
                           .cols = 5,
                           .options.exact_size = exact});
        must_pass(&(trial){.variant = "unfused",
                           .dtype = KF_F16,
                           .rows = 5,
                           .cols = 0,
                           .options.exact_size = exact});
    }
}

/* Catches a comparison that looks at part of a small output, or at a norm of it. */
static void verify_finds_one_bad_element(void **state)
{
    (void)state;
    must_fail(&small, ONE_BAD, "y[6][32] is");
    must_fail(&small, ONE_NAN, "nan");
    must_fail(&small, CONSTANT, "reference");
}

/* Catches outputs that are taken from what the buffer held before (22.1, 22.4). */
static void verify_finds_unwritten_outputs(void **state)
{
    trial hurry = small;
    (void)state;
    must_fail(&small, UNWRITTEN, "y[6][32] holds the poison");
    must_fail(&small, NOTHING, "y[0][0] holds the poison");
    must_fail(&small, STALE, "y[0][0]");
    hurry.options.one_poison = true;
    must_fail(&hurry, UNWRITTEN, "never written");
    must_fail(&hurry, NOTHING, "never written");
    must_pass(&hurry); /* an absent output is not sought in */
}

/* Catches a reference computed from inputs that the kernel spoilt (22.2), and quiet writes to
 * inputs. */
static void verify_finds_changed_inputs(void **state)
{
    (void)state;
    must_fail(&small, ZERO_INPUT, "input memory of 'x' was changed");
    must_fail(&small, CHANGE_INPUT, "input memory of 'x' was changed");
    must_fail(&small, CHANGE_INPUT_GUARD, "guard zone of 'x'");
}

/* Catches guards that are compared loosely, or on one side only, and padding that is not compared.
 */
static void verify_finds_writes_outside(void **state)
{
    (void)state;
    must_fail(&small, OVERRUN, "guard zone of 'y' was overwritten 0 bytes behind");
    must_fail(&small, UNDERRUN, "before the start");
    must_fail(&padded, PADDING, "padding between the rows of 'y'");
    must_fail(&padded, UNDERRUN, "before the start");
    must_fail(&unfused, SCRATCH_OVERRUN, "outside every scratch array");
}

/* Catches results that depend on memory nobody wrote, where fmax hides the NaN of one poison. */
static void verify_finds_reads_of_foreign_memory(void **state)
{
    (void)state;
    must_fail(&padded, READ_PADDING, "depends on memory that nothing wrote");
    must_fail(&unfused, READ_SCRATCH, "memory that was not");
}

/* Catches an output of zeros that a loose bound lets through. */
static void verify_mistrusts_zeros(void **state)
{
    (void)state;
    slack = 100;
    must_fail(&small, MOSTLY_ZERO, "are 0 where the reference is not");
    slack = 0;
}

/* Catches a fused 16-bit variant that is worse than the unfused one but inside a loose bound; f32
 * and few rows are judged by the bound alone. */
static void verify_applies_the_two_times_rule(void **state)
{
    trial t = {.variant = "fused", .dtype = KF_BF16, .rows = 64, .cols = 9};
    (void)state;
    slack = 100;
    must_fail(&t, SLOPPY, "more than twice the unfused");
    t.dtype = KF_F16;
    must_fail(&t, SLOPPY, "more than twice the unfused");
    const kf_verify_report right = verify(&t, NONE);
    assert_true(right.passed && right.unfused_ratio > 0 && right.unfused_ratio <= 1);
    t.rows = 63;
    assert_true(verify(&t, SLOPPY).passed);
    t = (trial){.variant = "fused", .dtype = KF_F32, .rows = 64, .cols = 9};
    assert_true(verify(&t, SLOPPY).passed);
    slack = 0;
}

/* Catches sampling that never sees a wrong row, and a screen that hands every row to the reference.
 */
static void verify_finds_a_wrong_row_among_many(void **state)
{
    (void)state;
    reference_elements = 0;
    const kf_verify_report right = verify(&large, NONE);
    assert_true(right.passed && !right.whole);
    assert_true(right.checked == reference_elements && reference_elements < 3001 * 17 / 10);
    must_fail(&large, WRONG_ROW, "y[1537][0] is");
    must_fail(&large, ONE_BAD, "y[3000][16] is");
    trial whole = large;
    whole.options.whole_limit = 0;
    must_fail(&whole, WRONG_ROW, "y[1537][0] is");
    assert_true(verify(&whole, NONE).whole);
}

/* Catches the user's data not being used, or judged by rules for random inputs. */
static void verify_runs_on_given_data(void **state)
{
    float x[7 * 33] = {0};
    const void *data[KF_MAX_TENSORS] = {x};
    trial t = small;
    (void)state;
    t.options.data = data;
    must_pass(&t);
    x[5] = INFINITY;
    must_pass(&t);
    must_fail(&t, ONE_BAD, "y[6][32] is");
    data[0] = NULL;
    kf_plan *plan = make_plan(&t);
    kf_verify_report report;
    assert_int_equal(kf_verify(plan, device, queue, &t.options, &report), KF_INVALID);
    assert_int_equal(device->live, 1);
    kf_plan_close(plan);
}

/* Catches handles and memory left behind when any call to the backend fails, and a failure taken
 * for a verdict. */
static void verify_leaves_nothing_behind_on_errors(void **state)
{
    kf_device *broken = NULL;
    kf_queue *its_queue = NULL;
    kf_verify_report report;
    trial t = {.variant = "fused", .dtype = KF_BF16, .rows = 80, .cols = 9, .pad = 1};
    (void)state;
    kf_plan *plan = make_plan(&t);
    planted = NONE;
    dtype_used = t.dtype;
    kf_fault_set(NULL);
    assert_int_equal(kf_device_open_on(kf_fault_wrap(&host_backend),
                                       &(kf_device_desc){.read_kernels = true, .no_cache = true},
                                       &broken),
                     KF_OK);
    assert_int_equal(kf_queue_open(broken, NULL, &its_queue), KF_OK);
    static const kf_slot slots[] = {KF_SLOT_buffer_open, KF_SLOT_buffer_write,
                                    KF_SLOT_buffer_read, KF_SLOT_program_build,
                                    KF_SLOT_kernel_open, KF_SLOT_launch};
    for (size_t s = 0; s < sizeof slots / sizeof slots[0]; s++) {
        kf_status status = KF_IO;
        int failures = 0;
        for (int nth = 0; status != KF_OK; nth++) {
            assert_true(nth < 200);
            kf_fault_set(&(kf_fault){.slot = slots[s], .nth = nth, .status = KF_DEVICE_FAILED});
            status = kf_verify(plan, broken, its_queue, &t.options, &report);
            assert_true(status == KF_OK || status == KF_DEVICE_FAILED);
            assert_true((status == KF_OK) == report.passed);
            assert_int_equal(broken->live, 1);
            failures += status != KF_OK;
            broken->lost = false;
        }
        assert_true(failures > 0);
    }
    kf_fault_set(NULL);
    kf_plan_close(plan);
    kf_queue_close(its_queue);
    kf_device_close(broken);
}

/* ---- set-up: an empty kernel text, since programs are built from texts --------------------------
 */

static void place(char *path, size_t bytes, const char *rest)
{
    snprintf(path, bytes, "%s%s", folder, rest);
}

static int open_device(void **state)
{
    char path[256];
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    place(path, sizeof path, "/host");
    mkdir(path, 0700);
    place(path, sizeof path, "/host/kernels");
    mkdir(path, 0700);
    place(path, sizeof path, "/host/kernels/fake.c");
    FILE *file = fopen(path, "w");
    if (!file || fputs("/* nothing */\n", file) < 0 || fclose(file) ||
        setenv("KFUSE_KERNELS", folder, 1))
        return 1;
    return kf_device_open_on(&host_backend,
                             &(kf_device_desc){.read_kernels = true, .no_cache = true}, &device) ||
           kf_queue_open(device, NULL, &queue);
}

static int close_device(void **state)
{
    static const char *const part[] = {"/host/kernels/fake.c", "/host/kernels", "/host", ""};
    char path[256];
    (void)state;
    kf_queue_close(queue);
    kf_device_close(device);
    for (int i = 0; i < 4; i++) {
        place(path, sizeof path, part[i]);
        remove(path);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_passes_a_correct_kernel),
        cmocka_unit_test(verify_passes_empty_tensors),
        cmocka_unit_test(verify_finds_one_bad_element),
        cmocka_unit_test(verify_finds_unwritten_outputs),
        cmocka_unit_test(verify_finds_changed_inputs),
        cmocka_unit_test(verify_finds_writes_outside),
        cmocka_unit_test(verify_finds_reads_of_foreign_memory),
        cmocka_unit_test(verify_mistrusts_zeros),
        cmocka_unit_test(verify_applies_the_two_times_rule),
        cmocka_unit_test(verify_finds_a_wrong_row_among_many),
        cmocka_unit_test(verify_runs_on_given_data),
        cmocka_unit_test(verify_leaves_nothing_behind_on_errors),
    };
    return cmocka_run_group_tests(tests, open_device, close_device) ? 1 : 0;
}
