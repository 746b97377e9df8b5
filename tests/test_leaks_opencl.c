/* label: opencl */
/* Many times everything that is made of a problem, on every OpenCL device.
 * SPDX-License-Identifier: Apache-2.0 */
#include "leaks_rig.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "../backends/opencl/opencl.h"
#include "each_device.h"

/* Ten thousand on PoCL; where kernels take longer to load, or a sanitizer counts, hundreds. */
static int cycle_count(const kf_device *device)
{
    const bool slow = SANITIZED || getenv("KFUSE_SOME") || getenv("KFUSE_BRIEF") ||
                      device->info.target.capabilities & KF_CAP_SIMULATOR;
    return slow ? 300 : LEAK_CYCLES;
}

/* Every program, queue, buffer and event of the driver's holds one of these. */
static cl_uint references(kf_device *device, kf_queue *queue)
{
    cl_uint count = 0;
    assert_int_equal(kf_queue_finish(queue), KF_OK);
    assert_int_equal(cl.clGetContextInfo(opencl_device_of(device)->context,
                                         CL_CONTEXT_REFERENCE_COUNT, sizeof count, &count, NULL),
                     CL_SUCCESS);
    return count;
}

/* The same when it is at most `limit`, or after ten seconds: a driver may give back what a finished
 * command held on a thread of its own, a while after the queue has said that it is done. */
static cl_uint references_settled(kf_device *device, kf_queue *queue, cl_uint limit)
{
    cl_uint count = references(device, queue);
    for (int i = 0; i < 1000 && count > limit; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        count = references(device, queue);
    }
    return count;
}

/* What drivers keep for themselves of a program differs, a simulator keeps it all. */
static long long room_for(const kf_device *device, int cycles)
{
    const bool simulator = device->info.target.capabilities & KF_CAP_SIMULATOR;
    return simulator ? LLONG_MAX : cycles * 2048LL;
}

static void cycles(kf_device *device, kf_queue *queue)
{
    kf_buffer *buffer;
    held before = {0};
    cl_uint held_before = 0;
    const int count = cycle_count(device), warm = count / 5;
    assert_int_equal(kf_buffer_open(device, &(kf_buffer_desc){.bytes = 8 * LEAK_COUNT}, &buffer),
                     KF_OK);
    assert_int_equal(kf_buffer_fill(queue, buffer, 0, 8 * LEAK_COUNT, 0, 4), KF_OK);
    const int live = device->live;
    for (int i = 0; i < count; i++) {
        if (i == warm) {
            before = held_now();
            held_before = references(device, queue);
        }
        leak_cycle(device, queue, buffer, i);
        assert_int_equal(device->live, live);
    }
    assert_in_range(references_settled(device, queue, held_before), 1, held_before);
    assert_not_grown(&before, room_for(device, count - warm));
    kf_buffer_close(buffer);
}

/* Mistakes: a program, a kernel, an event or a buffer of the driver's that an exec does not give
 * back. */
static void cycles_leave_nothing(void **state)
{
    (void)state;
    on_each_device(cycles);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cycles_leave_nothing)};
    return cmocka_run_group_tests_name("leaks_opencl", tests, NULL, NULL) ? 1 : 0;
}
