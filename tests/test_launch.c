/* label: unit */
/* Front ends of programs, launches, marks and recordings on the null backend.
 * SPDX-License-Identifier: Apache-2.0 */
#include "front_rig.h"

/* ---- programs and launches ----------------------------------------------------------------- */

static void programs_are_checked_before_the_compiler(void **state)
{
    static const char *const wrong[] = {"scale", "scal"}, *const hole[] = {"scale", NULL};
    rig *r = *state;
    kf_program *program;
    kf_program_desc desc = scale_desc();
    REFUSED(KF_INVALID, kf_program_build(r->device, NULL, &program));
    REFUSED(KF_INVALID, kf_program_build(r->device, &desc, NULL));
    desc.entry_count = 0;
    REFUSED(KF_INVALID, kf_program_build(r->device, &desc, &program));
    desc = scale_desc();
    desc.entries = hole;
    REFUSED(KF_INVALID, kf_program_build(r->device, &desc, &program));
    desc = scale_desc();
    desc.binary = "x";
    REFUSED(KF_INVALID, kf_program_build(r->device, &desc, &program));
    desc = scale_desc();
    desc.threads = 2048;
    REFUSED(KF_UNSUPPORTED, kf_program_build(r->device, &desc, &program));
    desc = scale_desc();
    desc.local_bytes = 48 * 1024 + 1;
    REFUSED(KF_UNSUPPORTED, kf_program_build(r->device, &desc, &program));
    desc.local_bytes = -1;
    REFUSED(KF_INVALID, kf_program_build(r->device, &desc, &program));
    desc = scale_desc();
    desc.entries = wrong; /* part of a longer name is not an entry */
    assert_int_equal(kf_program_build(r->device, &desc, &program), KF_BUILD_FAILED);
    assert_non_null(strstr(kf_error(), "'scal'"));
    assert_null(program);
}

static void kernels_come_from_the_entries_that_were_built(void **state)
{
    rig *r = *state;
    kf_kernel *kernel;
    kf_kernel_info info;
    void *data;
    REFUSED(KF_INVALID, kf_kernel_open(NULL, "scale", &info, &kernel));
    REFUSED(KF_INVALID, kf_kernel_open(r->program, "", &info, &kernel));
    REFUSED(KF_INVALID, kf_kernel_open(r->program, "scale", &info, NULL));
    REFUSED(KF_INVALID, kf_program_save(r->program, &data, NULL));
    assert_int_equal(kf_kernel_open(r->program, "other", &info, &kernel), KF_INVALID);
    assert_int_equal(kf_kernel_open(r->program, "scale_more", &info, &kernel), KF_OK);
    assert_int_equal(info.registers, -1);
    assert_int_equal(info.max_threads, 1024);
    kf_kernel_close(kernel);
}

static void launches_stay_inside_the_limits(void **state)
{
    rig *r = *state, other;
    kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = r->y}, {.kind = KF_VALUE_I64}};
    kf_launch l = {
        .kernel = r->kernel, .groups = 1, .threads = 1, .values = values, .value_count = 2};
    assert_int_equal(rig_open(&other, kf_backend_find("null")), KF_OK);
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, NULL));
    REFUSED(KF_INVALID, kf_launch_enqueue(NULL, &l));
    REFUSED(KF_INVALID, kf_launch_enqueue(other.queue, &l));
    REFUSED(KF_INVALID, launch(r, 0, 64, 0));
    REFUSED(KF_INVALID, launch(r, 1000001, 64, 0));
    REFUSED(KF_INVALID, launch(r, 1, 0, 0));
    REFUSED(KF_INVALID, launch(r, 1, 1025, 0));
    REFUSED(KF_INVALID, launch(r, 12, 64, 8)); /* 8 does not divide 12 */
    REFUSED(KF_INVALID, launch(r, 16, 64, 16));
    REFUSED(KF_INVALID, launch(r, 16, 64, -2));
    l.value_count = 1; /* a pointer without its offset */
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, &l));
    l.value_count = 2;
    values[1].as.i64 = -1;
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, &l));
    values[1].as.i64 = 513;
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, &l));
    values[1].as.i64 = 0;
    values[0].as.buffer = other.y;
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, &l));
    values[0].as.buffer = NULL;
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, &l));
    l.values = NULL;
    REFUSED(KF_INVALID, kf_launch_enqueue(r->queue, &l));
    r->device->info.target.capabilities &= ~(uint64_t)KF_CAP_CLUSTERS;
    REFUSED(KF_UNSUPPORTED, launch(r, 16, 64, 8));
    close_objects(&other);
    kf_device_close(other.device);
}

/* Mistakes: the log keeps a pointer to values that change, or grows. */
static void launches_are_recorded_by_the_null_backend(void **state)
{
    rig *r = *state;
    assert_int_equal(launch(r, 16, 64, 8), KF_OK);
    assert_int_equal(kf_null_launch_count(r->queue), 1);
    const kf_null_launch *first = kf_null_launches(r->queue);
    assert_string_equal(first->entry, "scale");
    assert_int_equal(first->launch.groups, 16);
    assert_int_equal(first->launch.cluster, 8);
    assert_int_equal(first->launch.value_count, 2);
    assert_ptr_equal(first->launch.values[0].as.buffer, r->y);
    for (int i = 1; i <= KF_NULL_LAUNCHES; i++)
        assert_int_equal(launch(r, i, 1, 0), KF_OK);
    assert_int_equal(kf_null_launch_count(r->queue), KF_NULL_LAUNCHES + 1);
    assert_int_equal(kf_null_launches(r->queue)[0].launch.groups, KF_NULL_LAUNCHES);
}

/* ---- time and replay ----------------------------------------------------------------------- */

static void marks_are_in_range_and_set(void **state)
{
    rig *r = *state;
    double seconds = -1;
    REFUSED(KF_INVALID, kf_queue_mark(r->queue, -1));
    REFUSED(KF_INVALID, kf_queue_mark(r->queue, KF_MAX_MARKS));
    REFUSED(KF_INVALID, kf_queue_elapsed(r->queue, 0, KF_MAX_MARKS, &seconds));
    REFUSED(KF_INVALID, kf_queue_elapsed(r->queue, 0, 1, NULL));
    assert_int_equal(kf_queue_elapsed(r->queue, 0, 1, &seconds), KF_INVALID); /* never set */
    assert_int_equal(kf_queue_mark(r->queue, 0), KF_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(launch(r, 1, 1, 0), KF_OK);
    assert_int_equal(kf_queue_mark(r->queue, 63), KF_OK);
    assert_int_equal(kf_queue_elapsed(r->queue, 0, 63, &seconds), KF_OK);
    assert_true(seconds > 2.5e-6 && seconds < 3.5e-6);
}

/* Mistakes: work runs while it is recorded, or not when it is replayed; a blocking call inside a
 * recording hangs. */
static void recordings_run_when_replayed(void **state)
{
    rig *r = *state;
    char byte;
    REFUSED(KF_INVALID, kf_record_end(r->queue, &r->recording));
    REFUSED(KF_INVALID, kf_replay(r->queue, NULL));
    assert_int_equal(kf_record_begin(r->queue), KF_OK);
    REFUSED(KF_INVALID, kf_record_begin(r->queue));
    REFUSED(KF_INVALID, kf_queue_finish(r->queue));
    REFUSED(KF_INVALID, kf_buffer_read(r->queue, r->x, 0, &byte, 1));
    REFUSED(KF_INVALID, kf_queue_mark(r->queue, 0));
    REFUSED(KF_INVALID, kf_record_end(r->queue, NULL));
    assert_int_equal(launch(r, 3, 1, 0), KF_OK);
    assert_int_equal(launch(r, 4, 1, 0), KF_OK);
    assert_int_equal(kf_null_launch_count(r->queue), 0);
    assert_int_equal(kf_record_end(r->queue, &r->recording), KF_OK);
    assert_int_equal(kf_replay(r->queue, r->recording), KF_OK);
    assert_int_equal(kf_replay(r->queue, r->recording), KF_OK);
    assert_int_equal(kf_null_launch_count(r->queue), 4);
    assert_int_equal(kf_null_launches(r->queue)[3].launch.groups, 4);
    assert_int_equal(kf_record_begin(r->queue),
                     KF_OK); /* closed in the middle: teardown counts handles */
    assert_int_equal(launch(r, 1, 1, 0), KF_OK);
}

static void recording_needs_the_capability(void **state)
{
    rig *r = *state;
    r->device->info.target.capabilities &= ~(uint64_t)KF_CAP_REPLAY;
    REFUSED(KF_UNSUPPORTED, kf_record_begin(r->queue));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_RIG(programs_are_checked_before_the_compiler),
        ON_RIG(kernels_come_from_the_entries_that_were_built),
        ON_RIG(launches_stay_inside_the_limits),
        ON_RIG(launches_are_recorded_by_the_null_backend),
        ON_RIG(marks_are_in_range_and_set),
        ON_RIG(recordings_run_when_replayed),
        ON_RIG(recording_needs_the_capability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
