/* label: unit */
/* The fault injector and what it is for: every failing call becomes a status, a sentence and no
 * leak. SPDX-License-Identifier: Apache-2.0 */
#include "front_rig.h"

/* ---- faults -------------------------------------------------------------------------------- */

static kf_status use_everything(rig *r, const kf_backend *backend)
{
    char data[8] = "1234567";
    double seconds;
    int answer;
    kf_status status = rig_open(r, backend);
    if (status == KF_OK)
        status = kf_device_probe(r->device, "local:1", &answer);
    if (status == KF_OK)
        status = kf_buffer_write(r->queue, r->x, 0, data, sizeof data);
    if (status == KF_OK)
        status = kf_buffer_copy(r->queue, r->y, 0, r->x, 0, 8);
    if (status == KF_OK)
        status = kf_buffer_fill(r->queue, r->y, 0, 4, 7, 1);
    if (status == KF_OK)
        status = kf_buffer_read(r->queue, r->y, 0, data, 8);
    if (status == KF_OK)
        status = kf_queue_mark(r->queue, 0);
    if (status == KF_OK)
        status = launch(r, 2, 2, 0);
    if (status == KF_OK)
        status = kf_queue_elapsed(r->queue, 0, 0, &seconds);
    if (status == KF_OK)
        status = kf_record_begin(r->queue);
    if (status == KF_OK)
        status = launch(r, 2, 2, 0);
    if (status == KF_OK)
        status = kf_record_end(r->queue, &r->recording);
    if (status == KF_OK)
        status = kf_replay(r->queue, r->recording);
    return status == KF_OK ? kf_queue_finish(r->queue) : status;
}

/* Call n fails; the status and the sentence come through, closing works, nothing stays open, and
 * the same program then does it right. */
static bool fail_call(const kf_backend *backend, int n, bool forever, kf_status wanted)
{
    rig r;
    kf_fault_set(
        &(kf_fault){.slot = KF_SLOT_COUNT, .nth = n, .forever = forever, .status = wanted});
    kf_status status = use_everything(&r, backend);
    if (status != KF_OK) {
        char sentence[128];
        assert_int_equal(status, wanted);
        assert_non_null(strstr(kf_error(), kf_status_name(wanted)));
        snprintf(sentence, sizeof sentence, "%s", kf_error());
        close_objects(&r); /* with `forever` every close fails as well */
        assert_string_equal(kf_error(), sentence);
    } else {
        close_objects(&r);
    }
    if (r.device)
        assert_int_equal(r.device->live, 0);
    kf_device_close(r.device);
    const bool reached = kf_fault_count() > n;
    kf_fault_set(NULL);
    assert_int_equal(use_everything(&r, backend), KF_OK);
    close_objects(&r);
    kf_device_close(r.device);
    return reached;
}

static void every_failing_call_is_reported_and_leaks_nothing(void **state)
{
    static const kf_status statuses[] = {KF_DEVICE_FAILED, KF_OUT_OF_MEMORY, KF_UNSUPPORTED};
    const kf_backend *backend = kf_fault_wrap(kf_backend_find("null"));
    int points = 0;
    (void)state;
    assert_ptr_equal(backend, kf_fault_wrap(kf_backend_find("null")));
    for (int s = 0; s < 3; s++)
        for (int forever = 0; forever < 2; forever++)
            for (int n = 0; fail_call(backend, n, forever, statuses[s]); n++)
                points++;
    print_message("%d fault points\n", points);
    assert_true(points >= 100);
}

/* Mistakes: another slot's calls are counted; the table without an object asks the wrong inner
 * table. */
static void one_slot_can_be_made_to_fail(void **state)
{
    const kf_backend *backend = kf_fault_wrap(kf_backend_find("null"));
    rig r;
    int count = 0;
    (void)state;
    kf_fault_set(&(kf_fault){.slot = KF_SLOT_buffer_open, .nth = 1, .status = KF_OUT_OF_MEMORY});
    assert_int_equal(use_everything(&r, backend), KF_OUT_OF_MEMORY);
    assert_int_equal(kf_fault_count(), 2);
    assert_non_null(r.x);
    assert_null(r.y);
    kf_fault_set(NULL);
    close_objects(&r);
    kf_device_close(r.device);
    assert_string_equal(backend->name, "null");
    assert_int_equal(backend->enumerate(NULL, 0, &count), KF_OK);
    assert_int_equal(count, 1);
    kf_fault_set(&(kf_fault){.slot = KF_SLOT_enumerate, .status = KF_UNAVAILABLE});
    assert_int_equal(backend->enumerate(NULL, 0, &count), KF_UNAVAILABLE);
    assert_int_equal(backend->enumerate(NULL, 0, &count), KF_OK);
    kf_fault_set(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failing_call_is_reported_and_leaks_nothing),
        cmocka_unit_test(one_slot_can_be_made_to_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
