/* The CUDA backend, slot by slot, on a libcuda without a GPU (tests/fake_cuda/): order, arguments,
 * contexts left as they were, clean-up after every failure, and what the sentences say. Numbers
 * come from the conformance on a real device. SPDX-License-Identifier: Apache-2.0 */
#include "cuda_rig.h"

static kf_status run_everything(rig *r)
{
    kf_status status = rig_open(r, &(kf_device_desc){.index = 0}, 200 * 1024);
    STEP(rig_work(r));
    keep(&status, rig_close(r));
    return status;
}

static void every_slot_works(void **state)
{
    (void)state;
    rig r = {.device = NULL};
    ASSERT_OK(run_everything(&r));
    for (int i = 1; i < COUNT; i++) {
        assert_true(r.result[i] == 2.5f * (float)i);
    }
    assert_memory_equal(r.result, "\x02\x01\x03", 3);
    assert_int_equal(r.info.local_bytes, 200 * 1024 + 128);
    assert_int_equal(r.info.registers, 40);
    assert_int_equal(r.info.max_threads, 1024);
    assert_int_equal(r.saved_bytes, sizeof image);
    assert_clean("everything");
}

/* Fails call k of any driver entry until a run no longer reaches call k. */
static void fail_each_call(unsigned int code, int forever, kf_status expected)
{
    for (int k = 0;; k++) {
        rig r = {.device = NULL};
        fake.fault("", k, code, forever);
        const kf_status status = run_everything(&r);
        char hit[64];
        snprintf(hit, sizeof hit, "%s", fake.hit());
        fake.fault(NULL, 0, 0, 0);
        if (!hit[0]) {
            ASSERT_OK(status);
            assert_true(k >= 50); /* the run reaches that many calls */
            return;
        }
        assert_clean(hit);
        /* the driver not telling a kernel's figures is no failure: they are unknown then */
        if (strcmp(hit, "cuFuncGetAttribute") != 0 && (status != expected || !kf_error()[0])) {
            fail_msg("call %d, %s: %s: %s", k, hit, kf_status_name(status), kf_error());
        }
    }
}

static void any_call_may_fail_and_nothing_stays_behind(void **state)
{
    (void)state;
    fail_each_call(KF_CUDA_ERROR_OUT_OF_MEMORY, 0, KF_OUT_OF_MEMORY);
    fail_each_call(KF_CUDA_ERROR_INVALID_VALUE, 0, KF_DEVICE_FAILED);
    fail_each_call(KF_CUDA_ERROR_ILLEGAL_ADDRESS, 1, KF_DEVICE_FAILED);
}

static void a_sticky_error_loses_the_device_and_it_still_closes(void **state)
{
    (void)state;
    const unsigned int codes[] = {700, 702, 709, 714, 715, 716, 717, 718, 719, 999};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        rig r = {.device = NULL};
        ASSERT_OK(rig_open(&r, &(kf_device_desc){.index = 0}, 0));
        fake.fault("cuStreamSynchronize", 0, codes[i], 1);
        assert_failed(cuda->finish(r.queue), KF_DEVICE_FAILED, "cuStreamSynchronize");
        assert_true(r.device->lost);
        fake.fault("", 0, codes[i], 1);
        ASSERT_OK(rig_close(&r));
        fake.fault(NULL, 0, 0, 0);
    }
    assert_int_equal(fake.depth(), 0);
}

static void a_lost_context_is_reported_when_it_is_entered(void **state)
{
    (void)state;
    rig r = {.device = NULL};
    ASSERT_OK(rig_open(&r, &(kf_device_desc){.index = 0}, 0));
    fake.fault("cuCtxPushCurrent_v2", 0, KF_CUDA_ERROR_INVALID_CONTEXT, 0);
    assert_failed(rig_launch(&r, 1), KF_INVALID, "cuCtxPushCurrent");
    fake.fault(NULL, 0, 0, 0);
    ASSERT_OK(rig_close(&r));
    assert_clean("a lost context");
}

/* Mistakes: a context pushed where it is current; a failed launch that pops what it did not push.
 */
static void a_launch_in_the_current_context_enters_nothing(void **state)
{
    (void)state;
    rig r = {.device = NULL};
    kfcu_context popped = NULL;
    ASSERT_OK(rig_open(&r, &(kf_device_desc){.index = 0}, 0));
    assert_int_equal(kfcu.CtxPushCurrent(((cuda_device *)r.device)->context), KF_CUDA_SUCCESS);
    fake.fault("cuCtxPushCurrent_v2", 0, KF_CUDA_ERROR_INVALID_CONTEXT, 1);
    ASSERT_OK(rig_launch(&r, 1));
    assert_int_equal(fake.depth(), 1);
    fake.fault("cuLaunchKernel", 0, 1, 0);
    assert_failed(rig_launch(&r, 1), KF_DEVICE_FAILED, "cuLaunchKernel");
    fake.fault(NULL, 0, 0, 0);
    assert_int_equal(fake.depth(), 1);
    assert_int_equal(kfcu.CtxPopCurrent(&popped), KF_CUDA_SUCCESS);
    ASSERT_OK(rig_close(&r));
    assert_clean("a launch in the current context");
}

/* ---- adopted objects ---------------------------------------------------------------------- */

static void adopted_objects_are_used_and_left_alone(void **state)
{
    (void)state;
    rig owner = {.device = NULL}, guest = {.device = NULL};
    ASSERT_OK(rig_open(&owner, &(kf_device_desc){.index = 1}, 0));
    const kf_device_desc adopt = {.adopt = true, .native = ((cuda_device *)owner.device)->context};
    ASSERT_OK(rig_open(&guest, &adopt, 0));
    assert_string_equal(guest.device->info.id, "cuda:1");
    const int before = fake.live();

    void *stream = NULL;
    kf_queue *queue = NULL;
    kf_buffer *buffer = NULL;
    ASSERT_OK(cuda->queue_native(owner.queue, &stream));
    ASSERT_OK(
        cuda->queue_open(guest.device, &(kf_queue_desc){.adopt = true, .native = stream}, &queue));
    const kf_buffer_desc wrap = {
        .bytes = 16,
        .adopt = true,
        .native = (void *)(uintptr_t)((cuda_buffer *)owner.x)->address,
        .native_offset = 8,
    };
    ASSERT_OK(cuda->buffer_open(guest.device, &wrap, &buffer));
    ASSERT_OK(cuda->buffer_write(queue, buffer, 4, "abcd", 4));
    assert_memory_equal((char *)wrap.native + 12, "abcd", 4);
    assert_int_equal(buffer->alignment, 8); /* malloc's, and 8 bytes further on */
    ASSERT_OK(cuda->buffer_close(buffer));
    ASSERT_OK(cuda->queue_close(queue));
    assert_int_equal(fake.live(), before);
    ASSERT_OK(rig_close(&guest));
    ASSERT_OK(rig_close(&owner));
    assert_clean("adopting");
}

/* The caller has another context current, or none, while everything is done in an adopted one. */
static void work_beside(kfcu_context current, const kf_device_desc *adopt)
{
    kfcu_context popped = NULL;
    const int live = fake.live(), retained[] = {fake.retained(0), fake.retained(1)};
    rig r = {.device = NULL};
    if (current) {
        assert_int_equal(kfcu.CtxPushCurrent(current), KF_CUDA_SUCCESS);
    }
    const int depth = fake.depth();
    ASSERT_OK(rig_open(&r, adopt, 0));
    assert_true(fake.current() == current && fake.depth() == depth);
    ASSERT_OK(rig_work(&r));
    assert_true(fake.current() == current && fake.depth() == depth);
    ASSERT_OK(rig_close(&r));
    assert_true(fake.current() == current && fake.depth() == depth);
    if (current) {
        assert_int_equal(kfcu.CtxPopCurrent(&popped), KF_CUDA_SUCCESS);
    }
    assert_int_equal(fake.live(), live);
    assert_int_equal(fake.retained(0), retained[0]);
    assert_int_equal(fake.retained(1), retained[1]);
}

/* Catches: a context left current, or the caller's own popped; a primary context released that the
 * caller retained, or retained once more. */
static void the_callers_context_is_current_as_before(void **state)
{
    (void)state;
    kfcu_context context[2] = {NULL, NULL};
    rig own = {.device = NULL};
    ASSERT_OK(rig_open(&own, &(kf_device_desc){.index = 0}, 0)); /* loads the driver */
    ASSERT_OK(rig_close(&own));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kfcu.DevicePrimaryCtxRetain(&context[i], i), KF_CUDA_SUCCESS);
    }
    const kf_device_desc adopt = {.adopt = true, .native = context[0]}, own_primary = {.index = 1};
    for (int i = 0; i < 3; i++) { /* its own, another, none */
        work_beside(i < 2 ? context[i] : NULL, &adopt);
        work_beside(i < 2 ? context[i] : NULL, &own_primary);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fake.retained(i), 1);
        assert_int_equal(kfcu.DevicePrimaryCtxRelease(i), KF_CUDA_SUCCESS);
    }
    assert_clean("working beside the caller");
}

static void streams_of_other_contexts_are_refused(void **state)
{
    (void)state;
    void *stream = NULL;
    kf_queue *queue = NULL;
    rig first = {.device = NULL}, second = {.device = NULL};
    ASSERT_OK(rig_open(&first, &(kf_device_desc){.index = 0}, 0));
    ASSERT_OK(rig_open(&second, &(kf_device_desc){.index = 1}, 0));
    ASSERT_OK(cuda->queue_native(second.queue, &stream));
    const kf_queue_desc foreign = {.adopt = true, .native = stream};
    assert_failed(cuda->queue_open(first.device, &foreign, &queue), KF_INVALID, "another context");
    ASSERT_OK(rig_close(&first));
    ASSERT_OK(rig_close(&second));
    assert_clean("a foreign stream");
}

static void the_null_stream_is_a_stream_but_not_recorded(void **state)
{
    (void)state;
    char text[4] = "";
    rig r = {.device = NULL};
    kf_queue *queue = NULL;
    ASSERT_OK(rig_open(&r, &(kf_device_desc){.index = 0}, 0));
    ASSERT_OK(cuda->queue_open(r.device, &(kf_queue_desc){.adopt = true}, &queue));
    ASSERT_OK(cuda->buffer_write(queue, r.x, 0, "abc", 4));
    ASSERT_OK(cuda->buffer_read(queue, r.x, 0, text, 4));
    assert_string_equal(text, "abc");
    assert_failed(cuda->record_begin(queue), KF_UNSUPPORTED, "NULL stream");
    ASSERT_OK(cuda->queue_close(queue));
    ASSERT_OK(rig_close(&r));
    assert_clean("the NULL stream");
}

/* ---- programs ----------------------------------------------------------------------------- */

static void assert_refused(kf_device *device, const void *data, size_t bytes, const char *words)
{
    kf_program *program = NULL;
    const kf_program_desc desc = {.name = "fake.cu", .binary = data, .binary_bytes = bytes};
    assert_failed(cuda->program_build(device, &desc, &program), KF_BUILD_FAILED, words);
}

static void binaries_that_are_not_whole_never_reach_the_driver(void **state)
{
    (void)state;
    rig r = {.device = NULL};
    unsigned char elf[64] = "\177ELF";
    memset(elf + 40, 0xff, 8); /* e_shoff: the section table lies far outside */
    elf[58] = 64;              /* e_shentsize */
    elf[60] = 3;               /* e_shnum */
    ASSERT_OK(rig_open(&r, &(kf_device_desc){.index = 0}, 0));
    assert_refused(r.device, image, sizeof image - 1, "not whole");
    assert_refused(r.device, image, 0, "not whole");
    assert_refused(r.device, elf, sizeof elf, "not whole");
    assert_refused(r.device, elf, 20, "not whole");
    assert_refused(r.device, "bad", 4, "fake.cu for sm_90: ptxas fatal : as the test asked");
    ASSERT_OK(rig_close(&r));
    assert_clean("bad binaries");
}

static void kernels_that_cannot_be_are_refused_by_name(void **state)
{
    (void)state;
    rig r = {.device = NULL};
    kf_kernel *kernel = NULL;
    kf_kernel_info info;
    assert_failed(rig_open(&r, &(kf_device_desc){.index = 0}, 232448), KF_UNSUPPORTED,
                  "fake_scale of fake.cu needs 232576 bytes of local memory");
    assert_failed(cuda->kernel_open(r.program, "missing", &info, &kernel), KF_BUILD_FAILED,
                  "fake.cu has no entry missing");
    ASSERT_OK(rig_close(&r));
    assert_clean("bad kernels");
}

static void a_mark_never_made_is_named(void **state)
{
    (void)state;
    double seconds = 0;
    rig r = {.device = NULL};
    ASSERT_OK(rig_open(&r, &(kf_device_desc){.index = 0}, 0));
    ASSERT_OK(cuda->mark(r.queue, 3));
    assert_failed(cuda->elapsed(r.queue, 3, 5, &seconds), KF_INVALID, "mark 5");
    assert_failed(cuda->elapsed(r.queue, 4, 3, &seconds), KF_INVALID, "mark 4");
    ASSERT_OK(rig_close(&r));
    assert_clean("marks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_slot_works),
        cmocka_unit_test(any_call_may_fail_and_nothing_stays_behind),
        cmocka_unit_test(a_sticky_error_loses_the_device_and_it_still_closes),
        cmocka_unit_test(a_launch_in_the_current_context_enters_nothing),
        cmocka_unit_test(a_lost_context_is_reported_when_it_is_entered),
        cmocka_unit_test(adopted_objects_are_used_and_left_alone),
        cmocka_unit_test(the_callers_context_is_current_as_before),
        cmocka_unit_test(streams_of_other_contexts_are_refused),
        cmocka_unit_test(the_null_stream_is_a_stream_but_not_recorded),
        cmocka_unit_test(binaries_that_are_not_whole_never_reach_the_driver),
        cmocka_unit_test(kernels_that_cannot_be_are_refused_by_name),
        cmocka_unit_test(a_mark_never_made_is_named),
    };
    return cmocka_run_group_tests_name("cuda_backend", tests, set_up, NULL) ? 1 : 0;
}
