/* label: opencl */
/* The OpenCL backend on every device: programs, launches, the order of queues, time.
 * SPDX-License-Identifier: Apache-2.0 */
#include "opencl_rig.h"

#include <time.h>

static kf_status launch_count(kf_queue *queue, kf_kernel *kernel, kf_buffer *y, int64_t groups,
                              int steps)
{
    kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = y},
                         {.kind = KF_VALUE_I64, .as.i64 = 0},
                         {.kind = KF_VALUE_I32, .as.i32 = steps}};
    kf_launch launch = {
        .kernel = kernel, .groups = groups, .threads = 1, .values = values, .value_count = 3};
    return kf_launch_enqueue(queue, &launch);
}

static double host_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- programs and launches ------------------------------------------------------------------ */

static void check_launch(test_rig *rig)
{
    kf_kernel_info info;
    kf_kernel *kernel = NULL;
    open_kernels(rig, scale_desc());
    ASSERT_OK(kf_kernel_open(rig->program, "count", &info, &kernel));
    assert_true(info.max_threads > 0);
    /* a driver that answers from its own cache gives no log: unknown, never 0 */
    const bool known = info.registers > 0 && info.spill_bytes == 0;
    const bool unknown = info.registers == -1 && info.spill_bytes == -1;
    assert_true(known || unknown);
    kf_kernel_close(kernel);
    write_counting(rig->queue, rig->x, 0);
    ASSERT_OK(launch_scale(rig, rig->y, COUNT, 3.0f));
    assert_scaled(rig, rig->y, COUNT, 3);
    ASSERT_OK(kf_buffer_fill(rig->queue, rig->y, 0, COUNT * 4, 0, 4));
    ASSERT_OK(launch_scale(rig, rig->y, 10, 4.0f));
    assert_scaled(rig, rig->y, 10, 4);
    int32_t tail = -1;
    ASSERT_OK(kf_buffer_read(rig->queue, rig->y, 40, &tail, sizeof tail));
    assert_int_equal(tail, 0);
}

/* Catches: arguments of the wrong size or order, threads and groups confused, a value remembered
 * from the launch before. */
static void launch_computes(void **state)
{
    (void)state;
    on_each_device(check_launch);
}

static void check_reused_address(test_rig *rig)
{
    open_kernels(rig, scale_desc());
    write_counting(rig->queue, rig->x, 0);
    for (int i = 1; i < 6; i++) {
        kf_buffer *y = new_buffer(rig->device, COUNT * sizeof(int32_t));
        ASSERT_OK(launch_scale(rig, y, COUNT, (float)i));
        assert_scaled(rig, y, COUNT, i);
        kf_buffer_close(y);
    }
}

/* Catches: arguments compared by address: a new buffer at an old one's address would not be set. */
static void a_new_buffer_is_a_new_argument(void **state)
{
    (void)state;
    on_each_device(check_reused_address);
}

static void check_many_groups(test_rig *rig)
{
    enum { MANY = 70000 };
    kf_kernel *kernel = NULL;
    kf_buffer *y = new_buffer(rig->device, MANY * sizeof(int32_t));
    int32_t *values = malloc(MANY * sizeof *values);
    assert_non_null(values);
    open_kernels(rig, scale_desc());
    ASSERT_OK(kf_kernel_open(rig->program, "count", NULL, &kernel));
    ASSERT_OK(launch_count(rig->queue, kernel, y, MANY, 0));
    ASSERT_OK(kf_buffer_read(rig->queue, y, 0, values, MANY * sizeof *values));
    for (int i = 0; i < MANY; i++)
        assert_int_equal(values[i], i);
    free(values);
    kf_kernel_close(kernel);
    kf_buffer_close(y);
}

/* Catches: a limit of 65535 groups, which some drivers have and target.max_groups would then hide.
 */
static void more_than_65535_groups_run(void **state)
{
    (void)state;
    on_each_device(check_many_groups);
}

static void check_bad_launches(test_rig *rig)
{
    open_kernels(rig, scale_desc());
    kf_value value = {.kind = KF_VALUE_I32, .as.i32 = 1};
    kf_launch launch = {
        .kernel = rig->kernel, .groups = 1, .threads = 1, .values = &value, .value_count = 1};
    ASSERT_STATUS(kf_launch_enqueue(rig->queue, &launch), KF_INVALID);
    write_counting(rig->queue, rig->x, 0);
    ASSERT_OK(launch_scale(rig, rig->y, COUNT, 2.0f));
    assert_scaled(rig, rig->y, COUNT, 2);
    assert_false(rig->device->lost);
}

/* Catches: a refused launch that leaves half its arguments behind, or condemns the device. */
static void a_refused_launch_harms_nothing(void **state)
{
    (void)state;
    on_each_device(check_bad_launches);
}

static void check_build_failure(test_rig *rig)
{
    static const char *const entries[] = {"broken"};
    kf_program *program = NULL;
    kf_kernel *kernel = NULL;
    kf_program_desc desc = {.name = "broken.cl",
                            .text = "#define A 1\n#line 1 \"prelude.cl\"\nint twice(int i);\n"
                                    "#line 41 \"broken.cl\"\n__kernel void broken(int n)\n"
                                    "{\n    n = no_such_name;\n}\n",
                            .entries = entries,
                            .entry_count = 1};
    ASSERT_STATUS(kf_program_build(rig->device, &desc, &program), KF_BUILD_FAILED);
    assert_null(program);
    print_message("  %s\n", kf_error());
    ASSERT_SAYS("broken.cl:43");
    ASSERT_SAYS("no_such_name");
    open_kernels(rig, scale_desc());
    ASSERT_STATUS(kf_kernel_open(rig->program, "nowhere", NULL, &kernel), KF_BUILD_FAILED);
    ASSERT_SAYS("nowhere");
}

/* Catches: a compiler's message that is lost, or that points into the assembled text. */
static void a_build_failure_names_file_and_line(void **state)
{
    (void)state;
    on_each_device(check_build_failure);
}

static void check_binary(test_rig *rig)
{
    kf_program *first = NULL;
    void *binary = NULL;
    kf_program_desc desc = scale_desc();
    ASSERT_OK(kf_program_build(rig->device, &desc, &first));
    ASSERT_OK(kf_program_save(first, &binary, &desc.binary_bytes));
    kf_program_close(first);
    assert_true(binary && desc.binary_bytes > 0);
    desc.binary = binary;
    open_kernels(rig, desc);
    free(binary);
    write_counting(rig->queue, rig->x, 0);
    ASSERT_OK(launch_scale(rig, rig->y, COUNT, 5.0f));
    assert_scaled(rig, rig->y, COUNT, 5);
}

/* Catches: a binary that is cut short, another device's, or kept by reference. */
static void a_saved_program_runs_again(void **state)
{
    (void)state;
    on_each_device(check_binary);
}

/* ---- queues and time ------------------------------------------------------------------------- */

static void check_order(test_rig *rig)
{
    kf_queue *other = NULL;
    kf_queue_desc desc = {0};
    kf_kernel *count = NULL;
    int32_t first = 0, last = 0;
    ASSERT_OK(kf_queue_open(rig->device, &desc, &other));
    open_kernels(rig, scale_desc());
    ASSERT_OK(kf_kernel_open(rig->program, "count", NULL, &count));
    ASSERT_OK(kf_buffer_fill(rig->queue, rig->y, 0, COUNT * 4, 0, 4));
    ASSERT_OK(kf_buffer_fill(rig->queue, rig->x, 0, COUNT * 4, 0, 4));
    ASSERT_OK(kf_queue_finish(rig->queue));
    ASSERT_OK(launch_count(rig->queue, count, rig->x, COUNT, 1000));
    ASSERT_OK(kf_queue_wait(other, rig->queue));
    ASSERT_OK(kf_buffer_copy(other, rig->y, 0, rig->x, 0, COUNT * 4));
    ASSERT_OK(kf_buffer_read(other, rig->y, (COUNT - 1) * 4, &last, 4));
    ASSERT_OK(kf_buffer_read(other, rig->y, 0, &first, 4));
    assert_true(first != 0 && last != 0);
    kf_kernel_close(count);
    kf_queue_close(other);
}

/* Catches: a wait on the wrong queue, and one that hangs because nothing was flushed. */
static void wait_orders_two_queues(void **state)
{
    (void)state;
    on_each_device(check_order);
}

static void check_marks(test_rig *rig)
{
    kf_kernel *count = NULL;
    double all = -1, early = -1, late = -1;
    open_kernels(rig, scale_desc());
    ASSERT_OK(kf_kernel_open(rig->program, "count", NULL, &count));
    ASSERT_OK(launch_count(rig->queue, count, rig->x, COUNT, 1)); /* PoCL compiles here */
    ASSERT_OK(kf_queue_finish(rig->queue));
    bool simulated = kf_device_target(rig->device)->capabilities & KF_CAP_SIMULATOR;
    double before = host_seconds();
    ASSERT_OK(kf_queue_mark(rig->queue, 0));
    ASSERT_OK(launch_count(rig->queue, count, rig->x, COUNT, simulated ? 20 : 20000));
    ASSERT_OK(kf_queue_mark(rig->queue, 1));
    ASSERT_OK(kf_queue_mark(rig->queue, 1)); /* replaces the one before */
    ASSERT_OK(launch_count(rig->queue, count, rig->y, COUNT, simulated ? 20 : 20000));
    ASSERT_OK(kf_queue_mark(rig->queue, KF_MAX_MARKS - 1));
    ASSERT_OK(kf_queue_elapsed(rig->queue, 0, KF_MAX_MARKS - 1, &all));
    double host = host_seconds() - before;
    ASSERT_OK(kf_queue_elapsed(rig->queue, 0, 1, &early));
    ASSERT_OK(kf_queue_elapsed(rig->queue, 1, KF_MAX_MARKS - 1, &late));
    print_message("  marks: %g + %g = %g s, host %g s\n", early, late, all, host);
    assert_true(early > 0 && late > 0);
    assert_true(all <= 1.02 * host + 1e-4 && all >= early && all >= late);
    assert_true(early + late <= 1.001 * all + 1e-6 && early + late >= 0.999 * all - 1e-6);
    ASSERT_STATUS(kf_queue_elapsed(rig->queue, 0, 2, &all), KF_INVALID);
    kf_kernel_close(count);
}

/* Catches: wrong units, START mixed with END, marks that are not in the queue's order. */
static void marks_increase(void **state)
{
    (void)state;
    on_each_device(check_marks);
}

static void check_recording(test_rig *rig)
{
    ASSERT_STATUS(kf_record_begin(rig->queue), KF_UNSUPPORTED);
    check_launch(rig); /* and the queue is none the worse for having been asked */
}

/* Catches: a recording that is promised and not kept. */
static void recording_is_unsupported(void **state)
{
    (void)state;
    on_each_device(check_recording);
}

static int run_tests_here(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launch_computes),
        cmocka_unit_test(a_new_buffer_is_a_new_argument),
        cmocka_unit_test(more_than_65535_groups_run),
        cmocka_unit_test(a_refused_launch_harms_nothing),
        cmocka_unit_test(a_build_failure_names_file_and_line),
        cmocka_unit_test(a_saved_program_runs_again),
        cmocka_unit_test(wait_orders_two_queues),
        cmocka_unit_test(marks_increase),
        cmocka_unit_test(recording_is_unsupported),
    };
    return cmocka_run_group_tests_name("opencl_kernels", tests, NULL, NULL);
}

int main(void)
{
    return run_on_devices(run_tests_here);
}
