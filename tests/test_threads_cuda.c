/* Several threads at once on the CUDA backend, a device each, on a libcuda without a GPU
 * (tests/fake_cuda/): the driver is loaded once, every thread keeps its own stack of contexts.
 * Built with -fsanitize=thread by .ci/run as well. label: unit SPDX-License-Identifier: Apache-2.0
 */
#include "cuda_rig.h"
#include "threads_rig.h"

static thread_job jobs[THREADS_AT_ONCE];

static kf_status list_and_diagnose(thread_job *job)
{
    kf_device_info list[4];
    kf_finding findings[16];
    int count = 0;
    kf_status status = KF_OK;
    for (int i = 0; i < 5; i++) {
        THEN(status, kf_device_enumerate("cuda", list, 4, &job->found));
        THEN(status, cuda->diagnose(findings, 16, &count)); /* opens NVRTC, where it is */
    }
    return status == KF_OK && !count ? kf_fail(KF_WRONG_RESULT, "no finding") : status;
}

/* Mistake: a driver's table that is called while another thread fills it. This is the first test:
 * nobody has loaded it before. */
static void the_driver_is_loaded_by_all_at_once(void **state)
{
    (void)state;
    all_at_once(jobs, "cuda", 2, list_and_diagnose);
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        assert_int_equal(jobs[i].found, 2);
}

static kf_status work_in_turns(thread_job *job)
{
    kf_status status = KF_OK;
    for (int turn = 0; status == KF_OK && turn < 20; turn++) {
        rig r = {.device = NULL};
        status = rig_open(&r, &(kf_device_desc){.index = job->device}, 0);
        THEN(status, rig_work(&r));
        keep(&status, rig_close(&r));
        if (status == KF_OK && (fake.depth() || !(r.result[COUNT - 1] == 2.5f * (COUNT - 1))))
            status = kf_fail(KF_WRONG_RESULT, "%d contexts on the stack, y[%d] = %g", fake.depth(),
                             COUNT - 1, (double)r.result[COUNT - 1]);
    }
    return status;
}

/* Mistake: a context that is current in the thread that opened the device, and nowhere else. */
static void every_thread_works_on_a_device_of_its_own(void **state)
{
    (void)state;
    all_at_once(jobs, "cuda", 2, work_in_turns);
    assert_clean("threads");
}

static rig shared;

static kf_status work_alone(thread_job *job)
{
    return job->index ? KF_OK : rig_work(&shared);
}

/* Mistake: the same, where a device goes from the thread that opened it to another one. */
static void a_device_may_be_handed_to_another_thread(void **state)
{
    (void)state;
    ASSERT_OK(rig_open(&shared, &(kf_device_desc){.index = 1}, 0));
    all_at_once(jobs, "cuda", 2, work_alone);
    ASSERT_OK(rig_close(&shared));
    assert_clean("another thread");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_driver_is_loaded_by_all_at_once),
        cmocka_unit_test(every_thread_works_on_a_device_of_its_own),
        cmocka_unit_test(a_device_may_be_handed_to_another_thread),
    };
    return cmocka_run_group_tests_name("threads_cuda", tests, set_up, NULL) ? 1 : 0;
}
