/* label: opencl */
/* The OpenCL backend on every device: what it says of them, buffers, the caller's own objects,
 * experiments. SPDX-License-Identifier: Apache-2.0 */
#include "opencl_rig.h"

#include <kfuse/calls.h>
#include <time.h>

/* ---- devices -------------------------------------------------------------------------------- */

static void check_info(test_rig *rig)
{
    const kf_device_info *info = kf_device_describe(rig->device);
    const kf_target *target = &info->target;
    print_message("  %s: %s, %s, %s\n", info->id, info->name, info->platform, info->driver);
    assert_string_equal(info->backend, "opencl");
    assert_int_equal(strncmp(info->id, "opencl:", 7), 0);
    assert_true(info->name[0] && info->platform[0] && info->driver[0]);
    assert_true(target->units > 0 && target->warp > 0 && target->max_threads > 0);
    assert_true(target->local_bytes >= 1024 && target->max_groups > 65535);
    assert_true(target->max_buffer_bytes > 0 && target->memory_bytes >= target->max_buffer_bytes);
    assert_true(target->base_alignment > 0);
    assert_int_equal(target->capabilities & (KF_CAP_CLUSTERS | KF_CAP_REPLAY), 0);
    if (target->capabilities & KF_CAP_PTX)
        assert_true(target->compute_capability >= 70 && !strncmp(info->arch, "sm_", 3));
}

/* Catches: a limit left at 0 (and taken for "nothing fits"), an id or a name left out. */
static void info_is_complete(void **state)
{
    (void)state;
    on_each_device(check_info);
}

/* Catches: an index that opens another device than the one listed at its place. */
static void index_opens_the_listed_device(void **state)
{
    kf_device_info list[OPENCL_MAX_DEVICES];
    int count = 0;
    (void)state;
    if (!device_count)
        skip();
    ASSERT_OK(kf_device_enumerate("opencl", list, OPENCL_MAX_DEVICES, &count));
    for (int i = 0; i < count; i++) {
        kf_device *device = NULL;
        kf_device_desc desc = {.backend = "opencl", .index = i};
        ASSERT_OK(kf_device_open(&desc, &device));
        assert_memory_equal(kf_device_describe(device), &list[i], sizeof list[i]);
        kf_device_close(device);
    }
    kf_device *device = NULL;
    kf_device_desc desc = {.backend = "opencl", .index = count};
    kf_status status = kf_device_open(&desc, &device);
    assert_true(status == KF_UNAVAILABLE || status == KF_INVALID);
}

/* ---- buffers -------------------------------------------------------------------------------- */

static void check_buffers(test_rig *rig)
{
    int32_t values[COUNT];
    uint8_t bytes[16];
    write_counting(rig->queue, rig->x, 5);
    ASSERT_OK(kf_buffer_copy(rig->queue, rig->y, 0, rig->x, 40, 100 * sizeof(int32_t)));
    ASSERT_OK(kf_buffer_read(rig->queue, rig->y, 4, values, 50 * sizeof(int32_t)));
    for (int i = 0; i < 50; i++)
        assert_int_equal(values[i], 5 + 10 + 1 + i);
    ASSERT_OK(kf_buffer_fill(rig->queue, rig->y, 0, 16, 0x04030201u, 4));
    ASSERT_OK(kf_buffer_fill(rig->queue, rig->y, 4, 4, 0xbbaau, 2));
    ASSERT_OK(kf_buffer_fill(rig->queue, rig->y, 9, 2, 0xeeu, 1));
    ASSERT_OK(kf_buffer_read(rig->queue, rig->y, 0, bytes, sizeof bytes));
    assert_memory_equal(bytes, "\1\2\3\4\xaa\xbb\xaa\xbb\1\xee\xee\4\1\2\3\4", 16);
}

/* Catches: offsets swapped between source and destination, patterns of the wrong width or byte
 * order. */
static void buffers_keep_what_is_written(void **state)
{
    (void)state;
    on_each_device(check_buffers);
}

static void check_too_large(test_rig *rig)
{
    const kf_target *target = kf_device_target(rig->device);
    size_t sizes[] = {(size_t)target->max_buffer_bytes + 1, (size_t)1 << 62, SIZE_MAX};
    for (int i = 0; i < 3; i++) {
        kf_buffer *buffer = NULL;
        kf_buffer_desc desc = {.bytes = sizes[i]};
        ASSERT_STATUS(kf_buffer_open(rig->device, &desc, &buffer), KF_OUT_OF_MEMORY);
        assert_null(buffer);
    }
    check_buffers(rig);
}

/* Catches: a size handed to a driver that dies of it (Oclgrind), or called a driver's failure. */
static void too_large_a_buffer_is_out_of_memory(void **state)
{
    (void)state;
    on_each_device(check_too_large);
}

/* ---- the caller's objects ---------------------------------------------------------------------
 */

typedef struct native_objects {
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    cl_mem memory;
} native_objects;

enum { NATIVE_BYTES = 1 << 16 };

static void open_natives(native_objects *natives, kf_device *device)
{
    cl_int code = 0, zero = 0;
    natives->id = opencl_device_of(device)->id;
    natives->context = cl.clCreateContext(NULL, 1, &natives->id, NULL, NULL, &code);
    assert_int_equal(code, CL_SUCCESS);
    natives->queue = cl.clCreateCommandQueue(natives->context, natives->id, 0, &code);
    assert_int_equal(code, CL_SUCCESS);
    natives->memory =
        cl.clCreateBuffer(natives->context, CL_MEM_READ_WRITE, NATIVE_BYTES, NULL, &code);
    assert_int_equal(code, CL_SUCCESS);
    /* On PoCL a queue's newest command holds a reference for ever: let there be one from the start.
     */
    code = cl.clEnqueueFillBuffer(natives->queue, natives->memory, &zero, 4, 0, NATIVE_BYTES, 0,
                                  NULL, NULL);
    assert_int_equal(code, CL_SUCCESS);
}

static void close_natives(native_objects *natives)
{
    assert_int_equal(cl.clReleaseMemObject(natives->memory), CL_SUCCESS);
    assert_int_equal(cl.clReleaseCommandQueue(natives->queue), CL_SUCCESS);
    assert_int_equal(cl.clReleaseContext(natives->context), CL_SUCCESS);
}

static void read_references(const native_objects *natives, cl_uint references[3])
{
    size_t bytes = sizeof references[0];
    cl.clFinish(natives->queue); /* a command that has not ended holds its queue */
    cl.clGetContextInfo(natives->context, CL_CONTEXT_REFERENCE_COUNT, bytes, &references[0], NULL);
    cl.clGetCommandQueueInfo(natives->queue, CL_QUEUE_REFERENCE_COUNT, bytes, &references[1], NULL);
    cl.clGetMemObjectInfo(natives->memory, CL_MEM_REFERENCE_COUNT, bytes, &references[2], NULL);
}

/* Fewer is no leak: on rusticl the first command may still hold its own when `before` is read. */
static bool more_references(const cl_uint before[3], const cl_uint after[3])
{
    return after[0] > before[0] || after[1] > before[1] || after[2] > before[2];
}

/* A typed call on a part of the caller's buffer, out of an exec that is kept until the end. */
static void call_adopted(test_rig *rig, const native_objects *natives)
{
    const size_t place = NATIVE_BYTES / 2;
    kf_buffer_desc desc = {
        .bytes = 4096, .adopt = true, .native = natives->memory, .native_offset = place};
    kf_operand x = {.offset = 1};
    kf_calls *calls;
    static const float quarters[] = {0.25f, 0.25f, 0.25f, 0.25f}; /* exactly: e^0 / 4 */
    float read[4];
    ASSERT_OK(kf_tensor_contiguous(KF_F32, 2, (int64_t[]){1, 4}, &x.tensor));
    ASSERT_OK(kf_buffer_open(rig->device, &desc, &x.buffer));
    ASSERT_OK(kf_calls_open(rig->queue, 0, &calls));
    ASSERT_OK(kf_buffer_fill(rig->queue, x.buffer, 0, 64, 0x3f800000u, 4));
    ASSERT_OK(kf_softmax(calls, &x, &x, NULL));
    kf_calls_close(calls);
    kf_buffer_close(x.buffer);
    assert_int_equal(cl.clEnqueueReadBuffer(natives->queue, natives->memory, CL_TRUE, place + 4,
                                            sizeof read, read, 0, NULL, NULL),
                     CL_SUCCESS);
    assert_memory_equal(read, quarters, sizeof read);
}

static void work_adopted(const native_objects *natives)
{
    test_rig rig = {0};
    kf_device_desc device = {.backend = "opencl",
                             .adopt = true,
                             .native = natives->context,
                             .native_device = natives->id};
    kf_queue_desc queue = {.adopt = true, .native = natives->queue};
    kf_buffer_desc buffer = {.bytes = COUNT * 4, .adopt = true, .native = natives->memory};
    void *native = NULL;
    ASSERT_OK(kf_device_open(&device, &rig.device));
    ASSERT_OK(kf_queue_open(rig.device, &queue, &rig.queue));
    ASSERT_OK(kf_queue_native(rig.queue, &native));
    assert_ptr_equal(native, natives->queue);
    ASSERT_OK(kf_buffer_open(rig.device, &buffer, &rig.y));
    rig.x = new_buffer(rig.device, COUNT * 4);
    open_kernels(&rig, scale_desc());
    write_counting(rig.queue, rig.x, 0);
    ASSERT_OK(launch_scale(&rig, rig.y, COUNT, 7.0f));
    assert_scaled(&rig, rig.y, COUNT, 7);
    call_adopted(&rig, natives);
    ASSERT_STATUS(kf_queue_mark(rig.queue, 0), KF_UNSUPPORTED);
    ASSERT_STATUS(kf_queue_finish(rig.queue), KF_INVALID);
    close_rig(&rig);
    assert_int_equal(rig.device->live, 0);
    kf_device_close(rig.device);
}

static void check_adoption(test_rig *rig)
{
    native_objects natives;
    cl_uint before[3] = {0}, after[3] = {0};
    int32_t values[COUNT];
    open_natives(&natives, rig->device);
    read_references(&natives, before);
    work_adopted(&natives);
    /* rusticl's thread lets go of a command's queue a moment after the queue is finished */
    for (int tries = 0; tries < 200; tries++) {
        read_references(&natives, after);
        if (!more_references(before, after))
            break;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    assert_false(more_references(before, after));
    if (strcmp(kf_device_describe(rig->device)->platform, "rusticl") != 0)
        assert_memory_equal(before, after, sizeof before);
    assert_int_equal(cl.clEnqueueReadBuffer(natives.queue, natives.memory, CL_TRUE, 0,
                                            sizeof values, values, 0, NULL, NULL),
                     CL_SUCCESS);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(values[i], 7 * i + THREADS);
    close_natives(&natives);
}

/* Catches: a caller's object released once too often, or never, or replaced by one of our own. */
static void adopted_objects_stay_the_callers(void **state)
{
    (void)state;
    on_each_device(check_adoption);
}

static void check_refusals(test_rig *rig)
{
    native_objects natives;
    kf_queue *queue = NULL;
    kf_buffer *buffer = NULL;
    cl_int code = 0;
    cl_context context = opencl_device_of(rig->device)->context;
    cl_command_queue wild = cl.clCreateCommandQueue(context, opencl_device_of(rig->device)->id,
                                                    CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, &code);
    if (wild) { /* not every device has them */
        kf_queue_desc desc = {.adopt = true, .native = wild};
        ASSERT_STATUS(kf_queue_open(rig->device, &desc, &queue), KF_INVALID);
        ASSERT_SAYS("out-of-order");
        cl.clReleaseCommandQueue(wild);
    }
    open_natives(&natives, rig->device);
    kf_queue_desc foreign = {.adopt = true, .native = natives.queue};
    ASSERT_STATUS(kf_queue_open(rig->device, &foreign, &queue), KF_INVALID);
    kf_buffer_desc other = {.bytes = 4, .adopt = true, .native = natives.memory};
    ASSERT_STATUS(kf_buffer_open(rig->device, &other, &buffer), KF_INVALID);
    close_natives(&natives);
    kf_device *device = NULL;
    kf_device_desc empty = {.backend = "opencl", .adopt = true};
    ASSERT_STATUS(kf_device_open(&empty, &device), KF_INVALID);
    assert_true(!queue && !buffer && !device);
}

/* Catches: work enqueued on a queue that may reorder it, or on another context's objects. */
static void unfit_objects_are_refused(void **state)
{
    (void)state;
    on_each_device(check_refusals);
}

static void check_parts(test_rig *rig)
{
    cl_int code = 0;
    size_t alignment = (size_t)kf_device_target(rig->device)->base_alignment;
    uint8_t bytes[8];
    kf_buffer *part = NULL;
    cl_mem whole = cl.clCreateBuffer(opencl_device_of(rig->device)->context, CL_MEM_READ_WRITE,
                                     NATIVE_BYTES, NULL, &code);
    assert_int_equal(code, CL_SUCCESS);
    kf_buffer_desc desc = {
        .bytes = 64, .adopt = true, .native = whole, .native_offset = 8 * alignment};
    ASSERT_OK(kf_buffer_open(rig->device, &desc, &part));
    ASSERT_OK(kf_buffer_fill(rig->queue, part, 0, 64, 0x11u, 1));
    ASSERT_OK(kf_queue_finish(rig->queue));
    kf_buffer_close(part);
    part = NULL;
    assert_int_equal(cl.clEnqueueReadBuffer(opencl_queue_of(rig->queue)->queue, whole, CL_TRUE,
                                            8 * alignment, 8, bytes, 0, NULL, NULL),
                     CL_SUCCESS);
    assert_memory_equal(bytes, "\x11\x11\x11\x11\x11\x11\x11\x11", 8);
    desc.bytes = NATIVE_BYTES;
    ASSERT_STATUS(kf_buffer_open(rig->device, &desc, &part), KF_INVALID);
    desc = (kf_buffer_desc){.bytes = 64, .adopt = true, .native = whole, .native_offset = 4};
    if (alignment > 4) {
        ASSERT_STATUS(kf_buffer_open(rig->device, &desc, &part), KF_UNSUPPORTED);
        ASSERT_SAYS("in the binding");
    }
    assert_null(part);
    cl.clReleaseMemObject(whole);
}

/* Catches: the offset of a wrapped range ignored, or counted in something other than bytes. */
static void a_part_of_a_buffer_can_be_wrapped(void **state)
{
    (void)state;
    on_each_device(check_parts);
}

/* ---- experiments ------------------------------------------------------------------------------
 */

static void check_probe(test_rig *rig)
{
    int answer = -1;
    char experiment[40];
    ASSERT_OK(kf_device_probe(rig->device, "local:1024", &answer));
    assert_int_equal(answer, 1);
    snprintf(experiment, sizeof experiment, "local:%lld",
             (long long)kf_device_target(rig->device)->local_bytes);
    ASSERT_OK(kf_device_probe(rig->device, experiment, &answer));
    print_message("  %s: %d\n", experiment, answer);
    snprintf(experiment, sizeof experiment, "local:%lld",
             (long long)kf_device_target(rig->device)->local_bytes * 2);
    ASSERT_OK(kf_device_probe(rig->device, experiment, &answer)); /* a refusal is no error */
    print_message("  %s: %d\n", experiment, answer);
    if (kf_device_target(rig->device)->capabilities & KF_CAP_SIMULATOR)
        assert_int_equal(answer, 0);
    ASSERT_OK(kf_device_probe(rig->device, "local:1073741824", &answer));
    assert_int_equal(answer, 0);
    ASSERT_STATUS(kf_device_probe(rig->device, "levitation", &answer), KF_UNSUPPORTED);
    check_buffers(rig);
}

/* Catches: a probe that says yes without having run, or whose refusal harms the device. */
static void probe_tells_how_much_local_memory(void **state)
{
    (void)state;
    on_each_device(check_probe);
}

static int run_tests_here(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_is_complete),
        cmocka_unit_test(index_opens_the_listed_device),
        cmocka_unit_test(buffers_keep_what_is_written),
        cmocka_unit_test(too_large_a_buffer_is_out_of_memory),
        cmocka_unit_test(adopted_objects_stay_the_callers),
        cmocka_unit_test(unfit_objects_are_refused),
        cmocka_unit_test(a_part_of_a_buffer_can_be_wrapped),
        cmocka_unit_test(probe_tells_how_much_local_memory),
    };
    return cmocka_run_group_tests_name("opencl_backend", tests, NULL, NULL);
}

int main(void)
{
    return run_on_devices(run_tests_here);
}
