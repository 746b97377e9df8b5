/* label: opencl */
/* Several threads at once on OpenCL, a device each, several of them on one physical device. Built
 * with -fsanitize=thread by .ci/run as well, on PoCL. SPDX-License-Identifier: Apache-2.0 */
#include "threads_rig.h"

/* PoCL's LLVM gives the thread that meets it first another stack for signals, which
 * AddressSanitizer would unmap, as its own, when that thread ends. */
extern const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "use_sigaltstack=0";
}

enum { KINDS = 9, TURNS = 4, MOST = 8 };

static thread_job jobs[THREADS_AT_ONCE];
static int device_count;

/* ---- the loader ------------------------------------------------------------------------------ */

static kf_status list_devices(thread_job *job)
{
    kf_device_info list[MOST];
    for (int i = 0; i < 5; i++) {
        int count = 0;
        const kf_status status = kf_device_enumerate("opencl", list, MOST, &count);
        if (status == KF_UNAVAILABLE)
            return KF_OK; /* none here, and the others must find the same */
        if (status != KF_OK || (job->found && count != job->found))
            return kf_fail(KF_WRONG_RESULT, "%d devices, %d before: %s", count, job->found,
                           kf_error());
        job->found = count;
    }
    return KF_OK;
}

/* Mistake: a loader that one thread opens while another already calls through its half-filled
 * table. This is the first test, so that nobody has opened it before. */
static void the_loader_is_opened_by_all_at_once(void **state)
{
    (void)state;
    all_at_once(jobs, "opencl", 1, list_devices);
    device_count = jobs[0].found;
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        assert_int_equal(jobs[i].found, device_count);
    if (!device_count)
        skip();
}

/* ---- devices --------------------------------------------------------------------------------- */

typedef uint32_t results[KINDS][OWN_COUNT]; /* bits */

static results expected[MOST];

static void fill(float *x)
{
    for (int i = 0; i < OWN_COUNT; i++)
        x[i] = (float)(i * 37 % 101) / 16 - 3;
}

/* After call `kind` y holds its rows, behind them what the calls before have left. */
static kf_status work_on(int index, int turns, results out)
{
    own_device own;
    float x[OWN_COUNT];
    fill(x);
    kf_status status = own_open(&own, "opencl", index, 4);
    for (int t = 0; t < turns; t++) {
        THEN(status, kf_buffer_write(own.queue, own.buffer, 0, x, sizeof x));
        THEN(status, kf_buffer_fill(own.queue, own.buffer, sizeof x, sizeof x, 0, 4));
        for (int kind = 0; kind < KINDS; kind++) {
            THEN(status, own_call(&own, kind));
            THEN(status,
                 kf_buffer_read(own.queue, own.buffer, sizeof x, out[kind], sizeof out[kind]));
        }
    }
    return own_close(&own, status);
}

/* Oclgrind is not made for several threads: it gives one the values of another. */
static bool simulated(void)
{
    kf_device_info list[MOST];
    int count = 0;
    bool found = false;
    assert_int_equal(kf_device_enumerate("opencl", list, MOST, &count), KF_OK);
    for (int i = 0; i < count && i < MOST; i++)
        found |= (list[i].target.capabilities & KF_CAP_SIMULATOR) != 0;
    return found;
}

static kf_status compare(thread_job *job)
{
    results *got = calloc(1, sizeof *got);
    if (!got)
        return kf_fail(KF_OUT_OF_MEMORY, "no memory for the results");
    kf_status status = work_on(job->device, TURNS, *got);
    if (status == KF_OK && memcmp(*got, expected[job->device], sizeof *got) != 0)
        status = kf_fail(KF_WRONG_RESULT, "other results than alone on device %d", job->device);
    free(got);
    return status;
}

/* Mistakes: arguments of a kernel, a queue or a build's log that two devices share: results are
 * those of a thread that is alone, to the bit. */
static void every_thread_computes_on_a_device_of_its_own(void **state)
{
    (void)state;
    if (!device_count)
        skip();
    for (int i = 0; i < device_count && i < MOST; i++)
        if (work_on(i, 1, expected[i]) != KF_OK)
            fail_msg("alone on device %d: %s", i, kf_error());
    if (simulated())
        assert_int_equal(compare(&(thread_job){.device = 0}), KF_OK);
    else
        all_at_once(jobs, "opencl", device_count < MOST ? device_count : MOST, compare);
}

static kf_status open_and_close(thread_job *job)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < 10; i++) {
        own_device own;
        status = own_open(&own, job->backend, (job->device + i) % device_count, 1);
        THEN(status, own_call(&own, job->index));
        THEN(status, kf_queue_finish(own.queue));
        status = own_close(&own, status);
    }
    return status;
}

/* Mistake: closing a device takes something from another one of the same context's platform. */
static void devices_come_and_go_while_others_work(void **state)
{
    (void)state;
    if (!device_count || simulated())
        skip();
    all_at_once(jobs, "opencl", device_count, open_and_close);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loader_is_opened_by_all_at_once),
        cmocka_unit_test(every_thread_computes_on_a_device_of_its_own),
        cmocka_unit_test(devices_come_and_go_while_others_work),
    };
    const char *required = getenv("KFUSE_REQUIRE");
    setenv("POCL_DEVICES", "basic pthread", 0); /* two devices */
    if (cmocka_run_group_tests_name("threads_opencl", tests, NULL, NULL))
        return 1;
    if (device_count)
        return 0;
    return required && strstr(required, "opencl") ? 1 : 77;
}
