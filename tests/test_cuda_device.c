/* What only a real GPU can show about the CUDA backend: NVRTC's binaries load and run, arguments
 * arrive, recordings replay, big local memory and big clusters launch, a faulty kernel loses the
 * device. label: cuda SPDX-License-Identifier: Apache-2.0 */
#include "cuda_rig.h"

static const char text[] =
    "#line 1 \"device_test.cu\"\n"
    "extern \"C\" __global__ void device_test_scale(const float *x, long long x_offset, float *y,\n"
    "                                              long long y_offset, int n, float factor)\n"
    "{\n"
    "    const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    if (i < n)\n"
    "        y[y_offset + i] = x[x_offset + i] * factor + y[y_offset + i];\n"
    "}\n"
    "extern \"C\" __global__ void device_test_local(int *out, long long offset)\n"
    "{\n"
    "    extern __shared__ int local[];\n"
    "    const int count = LOCAL_BYTES / 4;\n"
    "    unsigned size, bad = 0;\n"
    "    for (int i = threadIdx.x; i < count; i += blockDim.x)\n"
    "        local[i] = i ^ blockIdx.x;\n"
    "    __syncthreads();\n"
    "    for (int i = threadIdx.x; i < count; i += blockDim.x)\n"
    "        bad += local[count - 1 - i] != ((count - 1 - i) ^ (int)blockIdx.x);\n"
    "    size = 1;\n"
    "#if __CUDA_ARCH__ >= 900\n"
    "    asm(\"mov.u32 %0, %%cluster_nctaid.x;\" : \"=r\"(size));\n"
    "#endif\n"
    "    if (__syncthreads_count(bad) == 0 && threadIdx.x == 0)\n"
    "        out[offset + blockIdx.x] = size;\n"
    "}\n"
    "extern \"C\" __global__ void device_test_fault(int *out, long long offset)\n"
    "{\n"
    "    *(int *)(offset + 64) = (int)(long long)out;\n"
    "}\n";

enum { LOCAL_BYTES = 64 * 1024, N = 1000, CLUSTERS = 16 };

static const char *const entries[] = {"device_test_scale", "device_test_local",
                                      "device_test_fault"};
static kf_device *device;
static kf_queue *queue;
static kf_buffer *x, *y;
static kf_program *program;

static kf_status build(const void *binary, size_t bytes, kf_program **built)
{
    static char whole[sizeof text + 40];
    snprintf(whole, sizeof whole, "#define LOCAL_BYTES %d\n%s", LOCAL_BYTES, text);
    return cuda->program_build(device,
                               &(kf_program_desc){.name = "device_test.cu",
                                                  .text = whole,
                                                  .entries = entries,
                                                  .entry_count = 3,
                                                  .local_bytes = LOCAL_BYTES,
                                                  .binary = binary,
                                                  .binary_bytes = bytes},
                               built);
}

static kf_status scale(kf_queue *on, kf_kernel *kernel, float factor)
{
    const kf_value values[] = {
        {.kind = KF_VALUE_BUFFER, .as.buffer = x}, {.kind = KF_VALUE_I64, .as.i64 = OFFSET},
        {.kind = KF_VALUE_BUFFER, .as.buffer = y}, {.kind = KF_VALUE_I64, .as.i64 = OFFSET},
        {.kind = KF_VALUE_I32, .as.i32 = N},       {.kind = KF_VALUE_F32, .as.f32 = factor},
    };
    return cuda->launch(
        on, &(kf_launch){
                .kernel = kernel, .groups = 8, .threads = 128, .values = values, .value_count = 6});
}

/* x[i] = i behind the offset, y = 0 everywhere, a guard of 7 elements on both sides */
static void fill(kf_queue *on)
{
    float data[N];
    for (int i = 0; i < N; i++) {
        data[i] = (float)i;
    }
    ASSERT_OK(cuda->buffer_write(on, x, OFFSET * sizeof(float), data, sizeof data));
    ASSERT_OK(cuda->buffer_fill(on, y, 0, (N + 2 * OFFSET) * sizeof(float), 0, 4));
}

/* Sums of small integers: exact in f32. */
static void expect(kf_queue *on, float factor)
{
    float data[N + 2 * OFFSET];
    ASSERT_OK(cuda->buffer_read(on, y, 0, data, sizeof data));
    for (int i = -OFFSET; i < N + OFFSET; i++) {
        const float right = i < 0 || i >= N ? 0 : (float)i * factor;
        if (!(data[i + OFFSET] == right)) {
            fail_msg("element %d is %g instead of %g", i, (double)data[i + OFFSET], (double)right);
        }
    }
}

static void a_kernel_runs_alone_and_replayed(void **state)
{
    (void)state;
    kf_kernel_info info;
    kf_kernel *kernel = NULL;
    kf_recording *recording = NULL;
    double seconds = 0;
    ASSERT_OK(cuda->kernel_open(program, entries[0], &info, &kernel));
    assert_true(info.registers > 0 && info.spill_bytes == 0 && info.max_threads >= 128);
    fill(queue);
    ASSERT_OK(scale(queue, kernel, 2));
    ASSERT_OK(cuda->record_begin(queue));
    ASSERT_OK(scale(queue, kernel, 3));
    ASSERT_OK(scale(queue, kernel, 4));
    ASSERT_OK(cuda->record_end(queue, &recording));
    expect(queue, 2); /* what is recorded does not run */
    ASSERT_OK(cuda->mark(queue, 0));
    ASSERT_OK(cuda->replay(queue, recording));
    ASSERT_OK(cuda->replay(queue, recording));
    ASSERT_OK(cuda->mark(queue, 1));
    ASSERT_OK(cuda->elapsed(queue, 0, 1, &seconds));
    assert_true(seconds > 0 && seconds < 1);
    expect(queue, 2 + 2 * 7);
    ASSERT_OK(cuda->recording_close(recording));
    ASSERT_OK(cuda->kernel_close(kernel));
}

static void a_saved_program_gives_the_same_kernels(void **state)
{
    (void)state;
    void *data = NULL;
    size_t bytes = 0;
    kf_kernel_info info;
    kf_kernel *kernel = NULL;
    kf_program *again = NULL;
    ASSERT_OK(cuda->program_save(program, &data, &bytes));
    ASSERT_OK(build(data, bytes, &again));
    assert_failed(build(data, bytes / 2, &again), KF_BUILD_FAILED, "not whole");
    free(data);
    ASSERT_OK(cuda->kernel_open(again, entries[0], &info, &kernel));
    fill(queue);
    ASSERT_OK(scale(queue, kernel, 5));
    expect(queue, 5);
    ASSERT_OK(cuda->kernel_close(kernel));
    ASSERT_OK(cuda->program_close(again));
}

static void the_callers_streams_are_streams(void **state)
{
    (void)state;
    kf_kernel_info info;
    kf_kernel *kernel = NULL;
    ASSERT_OK(cuda->kernel_open(program, entries[0], &info, &kernel));
    for (uintptr_t handle = 0; handle < 3; handle++) { /* NULL, legacy, per thread */
        kf_queue *special = NULL;
        const kf_queue_desc desc = {.adopt = true, .native = (void *)handle};
        ASSERT_OK(cuda->queue_open(device, &desc, &special));
        fill(special);
        ASSERT_OK(cuda->queue_wait(queue, special));
        ASSERT_OK(scale(queue, kernel, (float)handle + 1));
        ASSERT_OK(cuda->queue_wait(special, queue));
        expect(special, (float)handle + 1);
        if (handle < 2) {
            assert_failed(cuda->record_begin(special), KF_UNSUPPORTED, "cannot be recorded");
        }
        ASSERT_OK(cuda->queue_close(special));
    }
    ASSERT_OK(cuda->kernel_close(kernel));
}

static void launch_local(kf_kernel *kernel, int cluster)
{
    int size[CLUSTERS] = {0};
    const kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = y},
                               {.kind = KF_VALUE_I64, .as.i64 = 1}};
    const kf_launch launch = {.kernel = kernel,
                              .groups = CLUSTERS,
                              .threads = 256,
                              .cluster = cluster,
                              .values = values,
                              .value_count = 2};
    ASSERT_OK(cuda->buffer_fill(queue, y, 0, sizeof size + 4, 0, 4));
    ASSERT_OK(cuda->launch(queue, &launch));
    ASSERT_OK(cuda->buffer_read(queue, y, 4, size, sizeof size));
    for (int i = 0; i < CLUSTERS; i++) {
        assert_int_equal(size[i], cluster > 1 ? cluster : 1);
    }
}

static void local_memory_and_clusters_are_as_wide_as_told(void **state)
{
    (void)state;
    kf_kernel_info info;
    kf_kernel *kernel = NULL;
    ASSERT_OK(cuda->kernel_open(program, entries[1], &info, &kernel));
    assert_int_equal(info.local_bytes, LOCAL_BYTES);
    launch_local(kernel, 0);
    for (int cluster = 2; cluster <= device->info.target.max_cluster; cluster *= 2) {
        launch_local(kernel, cluster);
    }
    ASSERT_OK(cuda->kernel_close(kernel));
}

static void more_memory_than_there_is_is_refused(void **state)
{
    (void)state;
    kf_buffer *buffer = NULL;
    assert_failed(cuda->buffer_open(device, &(kf_buffer_desc){.bytes = (size_t)1 << 50}, &buffer),
                  KF_OUT_OF_MEMORY, "cuMemAlloc of 1125899906842624 bytes");
    assert_false(device->lost);
}

/* The last test: nothing works in this process afterwards, but closing. */
static void a_faulty_kernel_loses_the_device(void **state)
{
    (void)state;
    kf_kernel_info info;
    kf_kernel *kernel = NULL;
    const kf_value values[] = {{.kind = KF_VALUE_BUFFER, .as.buffer = y},
                               {.kind = KF_VALUE_I64, .as.i64 = 0}};
    ASSERT_OK(cuda->kernel_open(program, entries[2], &info, &kernel));
    ASSERT_OK(cuda->launch(
        queue,
        &(kf_launch){
            .kernel = kernel, .groups = 1, .threads = 1, .values = values, .value_count = 2}));
    assert_failed(cuda->finish(queue), KF_DEVICE_FAILED, "CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    assert_true(device->lost);
    assert_failed(scale(queue, kernel, 1), KF_DEVICE_FAILED, "(700)");
    ASSERT_OK(cuda->kernel_close(kernel));
    ASSERT_OK(cuda->program_close(program));
    ASSERT_OK(cuda->buffer_close(x));
    ASSERT_OK(cuda->buffer_close(y));
    ASSERT_OK(cuda->queue_close(queue));
    ASSERT_OK(cuda->device_close(device));
}

static int open_all(void **state)
{
    (void)state;
    const kf_buffer_desc buffer = {.bytes = (N + 2 * OFFSET) * sizeof(float)};
    kf_status status = cuda->device_open(&(kf_device_desc){.index = 0}, &device);
    STEP(cuda->queue_open(device, &(kf_queue_desc){.adopt = false}, &queue));
    STEP(cuda->buffer_open(device, &buffer, &x));
    STEP(cuda->buffer_open(device, &buffer, &y));
    STEP(build(NULL, 0, &program));
    if (status != KF_OK) {
        print_error("%s\n", kf_error());
    }
    return status == KF_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_runs_alone_and_replayed),
        cmocka_unit_test(a_saved_program_gives_the_same_kernels),
        cmocka_unit_test(the_callers_streams_are_streams),
        cmocka_unit_test(local_memory_and_clusters_are_as_wide_as_told),
        cmocka_unit_test(more_memory_than_there_is_is_refused),
        cmocka_unit_test(a_faulty_kernel_loses_the_device),
    };
    int count = 0;
    const char *required = getenv("KFUSE_REQUIRE");
    if (cuda->enumerate(NULL, 0, &count) != KF_OK) {
        fprintf(stderr, "%s\n", kf_error());
        return required && strstr(required, "cuda") ? 1 : 77;
    }
    return cmocka_run_group_tests_name("cuda_device", tests, open_all, NULL) ? 1 : 0;
}
