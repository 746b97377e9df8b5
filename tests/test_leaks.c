/* label: unit */
/* Ten thousand times everything that is made of a problem, on the null backend: handles, host
 * memory and files are what they were. SPDX-License-Identifier: Apache-2.0 */
#include "leaks_rig.h"

static kf_target split_target(void)
{
    kf_target target = *kf_target_generic();
    target.capabilities |= KF_CAP_CLUSTERS;
    target.compute_capability = 90;
    target.max_cluster = 8;
    target.registers_per_unit = 65536;
    return target;
}

/* Mistakes: a plan's steps, an exec's arguments, an entry of the cache or a folder of it that is
 * not given back; a failure that keeps what had been made until then. A byte per cycle would be
 * 9,000 bytes. */
static void ten_thousand_cycles_leave_nothing(void **state)
{
    kf_device *device;
    kf_queue *queue;
    kf_buffer *buffer;
    held before = {0};
    const kf_target target = split_target();
    (void)state;
    assert_int_equal(
        kf_device_open(&(kf_device_desc){.backend = "null", .target = &target}, &device), KF_OK);
    assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
    assert_int_equal(kf_buffer_open(device, &(kf_buffer_desc){.bytes = 8 * LEAK_COUNT}, &buffer),
                     KF_OK);
    const int live = device->live;
    for (int i = 0; i < LEAK_CYCLES; i++) {
        if (i == LEAK_CYCLES / 10)
            before = held_now();
        assert_true(leak_cycle(device, queue, buffer, i));
        assert_int_equal(device->live, live);
    }
    assert_not_grown(&before, 0);
    kf_buffer_close(buffer);
    kf_queue_close(queue);
    kf_device_close(device);
}

/* Mistake: what a device, a queue or a buffer holds outlives its close. */
static void devices_leave_nothing(void **state)
{
    held before = {0};
    (void)state;
    for (int i = 0; i < LEAK_CYCLES / 5; i++) {
        kf_device *device;
        kf_queue *queue;
        kf_buffer *buffer;
        if (i == LEAK_CYCLES / 10)
            before = held_now();
        assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "null"}, &device), KF_OK);
        assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
        assert_int_equal(kf_buffer_open(device, &(kf_buffer_desc){.bytes = 64}, &buffer), KF_OK);
        kf_device_close(device); /* first, so that the last handle ends it */
        kf_buffer_close(buffer);
        kf_queue_close(queue);
    }
    assert_not_grown(&before, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_cycles_leave_nothing),
        cmocka_unit_test(devices_leave_nothing),
    };
    return cmocka_run_group_tests_name("leaks", tests, NULL, NULL) ? 1 : 0;
}
