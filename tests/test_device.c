/* label: unit */
/* Front ends of devices, queues and buffers on the null backend: every wrong argument is refused
 * before a slot is called, and handles are counted. SPDX-License-Identifier: Apache-2.0 */
#include "front_rig.h"

/* ---- devices ------------------------------------------------------------------------------- */

/* Mistakes: an unknown name opens something else; the null device is taken for a device when none
 * is named. */
static void devices_are_found_by_name_and_index(void **state)
{
    kf_device *device = (kf_device *)1;
    kf_device_info info;
    int count = -1;
    (void)state;
    assert_int_equal(kf_device_enumerate("nil", NULL, 0, &count), KF_INVALID);
    assert_non_null(strstr(kf_error(), "null"));
    assert_int_equal(kf_device_enumerate(NULL, NULL, 0, &count), KF_INVALID);
    assert_int_equal(kf_device_enumerate("null", NULL, 1, &count), KF_INVALID);
    assert_int_equal(kf_device_enumerate("null", NULL, 0, NULL), KF_INVALID);
    assert_int_equal(kf_device_enumerate("null", &info, 1, &count), KF_OK);
    assert_int_equal(count, 1);
    assert_string_equal(info.id, "null:0");
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "nil"}, &device), KF_INVALID);
    assert_null(device);
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "null", .index = -1}, &device),
                     KF_INVALID);
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "null", .index = 1}, &device),
                     KF_UNAVAILABLE);
    assert_int_equal(kf_device_open(&(kf_device_desc){.adopt = true}, &device), KF_INVALID);
    assert_int_equal(kf_device_open(NULL, NULL), KF_INVALID);
    assert_int_equal(kf_device_open_on(NULL, NULL, &device), KF_INVALID);
    for (int i = 0; kf_backends[i]; i++) /* "any" is tried in this order */
        assert_int_equal(kf_backends[i]->pretended, !kf_backends[i + 1]);
}

/* Mistake: the target that was described is not the target that plans see. */
static void a_described_target_is_opened(void **state)
{
    const rig *r = *state;
    const kf_target target = full_target();
    assert_int_equal(kf_device_target(r->device)->capabilities, target.capabilities);
    assert_int_equal(kf_device_target(r->device)->max_groups, target.max_groups);
    assert_int_equal(kf_device_target(r->device)->max_cluster, target.max_cluster);
    assert_null(kf_device_target(NULL));
    assert_null(kf_device_describe(NULL));
    assert_true(kf_target_generic()->max_threads >= 256);
}

/* Mistakes: one GPU on two backends taken for two, two GPUs without UUID and address for one. */
static void the_same_gpu_is_recognised(void **state)
{
    kf_device_info a = {.backend = "cuda", .id = "cuda:0", .has_uuid = true, .uuid = {1, 2}};
    kf_device_info b = {.backend = "opencl", .id = "opencl:0.0", .has_uuid = true, .uuid = {1, 2}};
    (void)state;
    assert_true(kf_device_same(&a, &b));
    b.uuid[15] = 1;
    assert_false(kf_device_same(&a, &b));
    b.has_uuid = false;
    assert_false(kf_device_same(&a, &b));
    strcpy(a.pci, "0000:1A:00.0");
    strcpy(b.pci, "0000:1a:00.0");
    assert_true(kf_device_same(&a, &b));
    assert_false(kf_device_same(&a, NULL));
}

/* Mistake: a device closed before its handles is freed under them. */
static void a_device_outlives_its_close_until_the_last_handle(void **state)
{
    rig r;
    kf_queue *queue;
    (void)state;
    assert_int_equal(rig_open(&r, kf_backend_find("null")), KF_OK);
    kf_device_close(r.device);
    kf_device_close(r.device); /* twice is once */
    assert_int_equal(kf_queue_open(r.device, NULL, &queue), KF_INVALID);
    assert_null(queue);
    close_objects(&r); /* the last one closes the device: the sanitizer sees it if not */
    kf_device_close(NULL);
}

/* Mistakes: a lost device is asked again; closing does nothing, so handles leak. */
static void a_lost_device_refuses_everything_but_closing(void **state)
{
    rig r;
    char byte;
    int answer;
    (void)state;
    assert_int_equal(rig_open(&r, kf_backend_find("null")), KF_OK);
    r.device->lost = true;
    const uint64_t before = calls(r.device);
    assert_int_equal(launch(&r, 1, 1, 0), KF_DEVICE_FAILED);
    assert_int_equal(kf_queue_finish(r.queue), KF_DEVICE_FAILED);
    assert_int_equal(kf_buffer_read(r.queue, r.x, 0, &byte, 1), KF_DEVICE_FAILED);
    assert_int_equal(kf_queue_mark(r.queue, 0), KF_DEVICE_FAILED);
    assert_int_equal(kf_device_probe(r.device, "local:1", &answer), KF_DEVICE_FAILED);
    assert_int_equal(calls(r.device), before);
    assert_true(strlen(kf_error()) > 0);
    close_objects(&r);
    assert_int_equal(r.device->live, 0);
    kf_device_close(r.device);
}

static void probes_answer_or_say_what_they_do_not_know(void **state)
{
    rig *r = *state;
    int answer = 7;
    REFUSED(KF_INVALID, kf_device_probe(r->device, NULL, &answer));
    REFUSED(KF_INVALID, kf_device_probe(r->device, "local:1", NULL));
    assert_int_equal(kf_device_probe(r->device, "local:1024", &answer), KF_OK);
    assert_int_equal(answer, 1);
    assert_int_equal(kf_device_probe(r->device, "local:1000000", &answer), KF_OK);
    assert_int_equal(answer, 0);
    assert_int_equal(kf_device_probe(r->device, "wgmma", &answer), KF_UNSUPPORTED);
}

/* ---- queues and buffers -------------------------------------------------------------------- */

static void queues_refuse_what_is_not_theirs(void **state)
{
    rig *r = *state, other;
    kf_queue *adopted;
    void *native = NULL;
    int stream = 0;
    assert_int_equal(rig_open(&other, kf_backend_find("null")), KF_OK);
    REFUSED(KF_INVALID, kf_queue_open(NULL, NULL, &adopted));
    REFUSED(KF_INVALID, kf_queue_open(r->device, NULL, NULL));
    REFUSED(KF_INVALID, kf_queue_finish(NULL));
    REFUSED(KF_INVALID, kf_queue_wait(r->queue, NULL));
    REFUSED(KF_INVALID, kf_queue_wait(r->queue, other.queue));
    REFUSED(KF_INVALID, kf_queue_native(r->queue, NULL));
    assert_int_equal(
        kf_queue_open(r->device, &(kf_queue_desc){.adopt = true, .native = &stream}, &adopted),
        KF_OK);
    REFUSED(KF_INVALID, kf_queue_finish(adopted)); /* its owner's to wait for */
    assert_int_equal(kf_queue_native(adopted, &native), KF_OK);
    assert_ptr_equal(native, &stream);
    assert_int_equal(kf_queue_wait(r->queue, adopted), KF_OK);
    assert_int_equal(kf_queue_wait(r->queue, r->queue), KF_OK);
    kf_queue_close(adopted);
    close_objects(&other);
    kf_device_close(other.device);
}

/* Mistakes: a size whose sum with the offset wraps around; a driver asked for 2^62 bytes. */
static void buffer_sizes_are_refused_before_the_driver(void **state)
{
    static const size_t absurd[] = {((size_t)16 << 30) + 1, (size_t)1 << 62, SIZE_MAX};
    rig *r = *state;
    kf_buffer *buffer;
    char memory[64];
    for (int i = 0; i < 3; i++)
        REFUSED(KF_OUT_OF_MEMORY,
                kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = absurd[i]}, &buffer));
    REFUSED(KF_INVALID, kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = 0}, &buffer));
    REFUSED(KF_INVALID, kf_buffer_open(r->device, NULL, &buffer));
    REFUSED(KF_INVALID, kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = 1}, NULL));
    const kf_buffer_desc wraps = {
        .bytes = SIZE_MAX, .adopt = true, .native = memory, .native_offset = 2};
    REFUSED(KF_INVALID, kf_buffer_open(r->device, &wraps, &buffer));
    const kf_buffer_desc nothing = {.bytes = 8, .adopt = true};
    assert_int_equal(kf_buffer_open(r->device, &nothing, &buffer), KF_INVALID);
    assert_null(buffer);
    assert_int_equal(r->device->live, 5);
}

static void transfers_stay_inside_the_buffer(void **state)
{
    rig *r = *state;
    char data[16] = {0};
    REFUSED(KF_INVALID, kf_buffer_write(r->queue, r->x, 1020, data, 5));
    REFUSED(KF_INVALID, kf_buffer_write(r->queue, r->x, 1025, data, 0));
    REFUSED(KF_INVALID,
            kf_buffer_write(r->queue, r->x, 8, data, SIZE_MAX - 4)); /* the sum wraps around */
    REFUSED(KF_INVALID, kf_buffer_read(r->queue, r->x, SIZE_MAX, data, 1));
    REFUSED(KF_INVALID, kf_buffer_read(r->queue, r->x, 0, NULL, 1));
    REFUSED(KF_INVALID, kf_buffer_read(r->queue, NULL, 0, data, 1));
    REFUSED(KF_INVALID, kf_buffer_read(NULL, r->x, 0, data, 1));
    REFUSED(KF_INVALID, kf_buffer_fill(r->queue, r->x, 0, 1028, 0, 4));
    REFUSED(KF_INVALID, kf_buffer_fill(r->queue, r->x, 0, 8, 0, 3));
    REFUSED(KF_INVALID, kf_buffer_fill(r->queue, r->x, 2, 8, 0, 4));
    REFUSED(KF_INVALID, kf_buffer_fill(r->queue, r->x, 0, 6, 0, 4));
    REFUSED(KF_INVALID, kf_buffer_copy(r->queue, r->y, 0, r->x, 0, 513));
    REFUSED(KF_INVALID, kf_buffer_copy(r->queue, r->x, 0, r->x, 8, 16)); /* overlaps */
    const uint64_t before = calls(r->device);
    assert_int_equal(kf_buffer_write(r->queue, r->x, 1024, NULL, 0),
                     KF_OK); /* nothing is a success */
    assert_int_equal(kf_buffer_copy(r->queue, r->x, 0, r->x, 0, 0), KF_OK);
    assert_int_equal(calls(r->device), before);
}

/* Mistakes: offsets counted twice or not at all, a pattern cut to its first byte. */
static void buffers_hold_their_bytes(void **state)
{
    rig *r = *state;
    kf_buffer *part;
    uint16_t memory[8] = {0}, got[4];
    assert_int_equal(kf_buffer_fill(r->queue, r->x, 2, 6, 0xABCD1234, 2), KF_OK);
    assert_int_equal(kf_buffer_copy(r->queue, r->y, 10, r->x, 2, 4), KF_OK);
    assert_int_equal(kf_buffer_read(r->queue, r->y, 8, got, sizeof got), KF_OK);
    assert_int_equal(got[0], 0);
    assert_int_equal(got[1], 0x1234);
    assert_int_equal(got[2], 0x1234);
    assert_int_equal(got[3], 0);
    const kf_buffer_desc desc = {.bytes = 8, .adopt = true, .native = memory, .native_offset = 4};
    assert_int_equal(kf_buffer_open(r->device, &desc, &part), KF_OK);
    assert_true(part->adopted && part->alignment >= 2);
    assert_int_equal(kf_buffer_copy(r->queue, part, 2, r->x, 2, 2), KF_OK);
    assert_int_equal(memory[3], 0x1234);
    kf_buffer_close(part);
}

/* ---- errors -------------------------------------------------------------------------------- */

/* Mistakes: an argument that is the old sentence is overwritten while it is read; a long log runs
 * over. */
static void sentences_are_kept_whole(void **state)
{
    (void)state;
    char *log = malloc(20001);
    memset(log, 'x', 20000);
    log[20000] = '\0';
    assert_int_equal(kf_fail(KF_IO, "inner %d\n\n", 1), KF_IO);
    assert_int_equal(kf_fail(KF_INVALID, "outer: %s", kf_error()), KF_INVALID);
    assert_string_equal(kf_error(), "outer: inner 1");
    kf_error_mute(true);
    assert_int_equal(kf_fail(KF_IO, "while cleaning up"), KF_IO);
    kf_error_mute(false);
    assert_string_equal(kf_error(), "outer: inner 1");
    kf_fail(KF_BUILD_FAILED, "%s", log);
    assert_true(strlen(kf_error()) > 8000 && strlen(kf_error()) < 9000);
    assert_non_null(strstr(kf_error(), "x ..."));
    assert_string_equal(kf_status_name(KF_IO), "KF_IO");
    assert_string_equal(kf_status_name((kf_status)99), "not a kf_status");
    free(log);
}

static void contiguous_tensors_do_not_overflow(void **state)
{
    static const int64_t size[] = {2, 3, 5}, huge[] = {0, INT64_MAX, 2}, negative[] = {4, -1};
    kf_tensor tensor;
    (void)state;
    assert_int_equal(kf_tensor_contiguous(KF_BF16, 3, size, &tensor), KF_OK);
    assert_int_equal(tensor.stride[0], 15);
    assert_int_equal(tensor.stride[2], 1);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 0, NULL, &tensor), KF_OK);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 3, huge, &tensor), KF_INVALID);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 2, negative, &tensor), KF_INVALID);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 9, size, &tensor), KF_INVALID);
    assert_int_equal(kf_tensor_contiguous(KF_NONE, 1, size, &tensor), KF_INVALID);
    for (kf_dtype dtype = KF_F32; dtype <= KF_I64; dtype++)
        assert_int_equal(kf_dtype_parse(kf_dtype_name(dtype)), dtype);
    assert_int_equal(kf_dtype_parse("f64"), KF_NONE);
    assert_int_equal(kf_dtype_bytes((kf_dtype)-1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_found_by_name_and_index),
        ON_RIG(a_described_target_is_opened),
        cmocka_unit_test(the_same_gpu_is_recognised),
        cmocka_unit_test(a_device_outlives_its_close_until_the_last_handle),
        cmocka_unit_test(a_lost_device_refuses_everything_but_closing),
        ON_RIG(probes_answer_or_say_what_they_do_not_know),
        ON_RIG(queues_refuse_what_is_not_theirs),
        ON_RIG(buffer_sizes_are_refused_before_the_driver),
        ON_RIG(transfers_stay_inside_the_buffer),
        ON_RIG(buffers_hold_their_bytes),
        cmocka_unit_test(sentences_are_kept_whole),
        cmocka_unit_test(contiguous_tensors_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
