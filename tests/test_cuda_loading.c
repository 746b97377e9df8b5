/* How the CUDA backend finds its driver and its devices, and what it says where they are missing,
 * on a libcuda without a GPU. SPDX-License-Identifier: Apache-2.0 */
#include "cuda_rig.h"

#include <sys/wait.h>

#include "../backends/cuda/library.h"

/* ---- loading: once per process, so each way to fail gets a process ------------------------ */

typedef struct loading {
    const char *variable, *value;
    const char *words[2];
} loading;

static void load_in_child(const loading *l, int out)
{
    int count = 0;
    setenv(l->variable, l->value, 1);
    const kf_status status = cuda->enumerate(NULL, 0, &count);
    const kf_status again = cuda->enumerate(NULL, 0, &count); /* remembered, sentence included */
    dprintf(out, "%d %d %s", (int)status, (int)again, kf_error());
    _exit(0);
}

static void assert_loading(const loading *l)
{
    int ends[2], status = 0;
    char said[1024] = "";
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        load_in_child(l, ends[1]);
    }
    close(ends[1]);
    assert_true(read(ends[0], said, sizeof said - 1) >= 0);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    char expected[16];
    snprintf(expected, sizeof expected, "%d %d ", (int)KF_UNAVAILABLE, (int)KF_UNAVAILABLE);
    if (status != 0 || strncmp(said, expected, strlen(expected)) != 0 ||
        !strstr(said, l->words[0]) || !strstr(said, l->words[1])) {
        fail_msg("%s=%s: \"%s\"", l->variable, l->value, said);
    }
}

/* A library that is no driver. */
static const char *foreign_path(void)
{
    void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    return kfcu_library_path(library);
}

static void loading_failures_name_what_is_missing_and_the_remedy(void **state)
{
    (void)state;
    const loading cases[] = {
        {"KFUSE_LIBCUDA", "libcuda.so.1", {"not an absolute path", "KFUSE_LIBCUDA"}},
        {"KFUSE_LIBCUDA", "/nonexistent/libcuda.so.1", {"/nonexistent", "unset"}},
        {"KFUSE_LIBCUDA", foreign_path(), {"has no cuInit", "CUDA 12.0 or newer"}},
        {"FAKE_CUDA_VERSION", "11040", {"CUDA 11.4", "CUDA 12.0 or newer"}},
        {"FAKE_CUDA_INIT", "100", {"CUDA_ERROR_NO_DEVICE (100)", "CUDA_VISIBLE_DEVICES"}},
        {"FAKE_CUDA_INIT", "34", {"CUDA_ERROR_STUB_LIBRARY (34)", "LD_LIBRARY_PATH"}},
        {"FAKE_CUDA_INIT", "803", {"MISMATCH (803)", "reboot"}},
        {"FAKE_CUDA_INIT", "999", {"CUDA_ERROR_UNKNOWN (999)", "cuInit"}},
        {"FAKE_CUDA_DEVICES", "0", {"CUDA_ERROR_NO_DEVICE (100)", "nvidia-smi"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_loading(&cases[i]);
    }
}

/* ---- devices ------------------------------------------------------------------------------ */

static void devices_are_described_completely(void **state)
{
    (void)state;
    int count = 0;
    kf_device_info info[2];
    ASSERT_OK(cuda->enumerate(info, 2, &count));
    assert_int_equal(count, 2);
    const kf_device_info *last = &info[1];
    assert_string_equal(last->id, "cuda:1");
    assert_string_equal(last->name, "Fake GPU 1");
    assert_string_equal(last->arch, "sm_90");
    assert_string_equal(last->pci, "0000:1b:00.0");
    assert_non_null(strstr(last->driver, "(CUDA 12.8)"));
    assert_true(last->has_uuid && last->uuid[15] == 0x51);
    const kf_target *t = &last->target;
    assert_int_equal(t->local_bytes, 232448);
    assert_int_equal(t->max_groups, INT_MAX);
    assert_int_equal(t->max_cluster, 16);
    assert_true((t->capabilities & KF_CAP_CLUSTERS) && (t->capabilities & KF_CAP_REPLAY));
    assert_int_equal(t->units * t->warp * t->max_threads * t->base_alignment,
                     132 * 32 * 1024 * 256);
    assert_true(t->memory_bytes == 1 << 30 && t->max_buffer_bytes == t->memory_bytes);
    assert_clean("enumerate");
}

static void a_device_that_is_not_there_is_unavailable(void **state)
{
    (void)state;
    kf_device *device = NULL;
    assert_failed(cuda->device_open(&(kf_device_desc){.index = 2}, &device), KF_UNAVAILABLE,
                  "there are 2 CUDA devices");
    assert_failed(cuda->device_open(&(kf_device_desc){.adopt = true}, &device), KF_INVALID, "NULL");
    assert_clean("device_open");
}

static void diagnose_needs_nothing(void **state)
{
    (void)state;
    int count = 0;
    kf_finding list[3];
    ASSERT_OK(cuda->diagnose(list, 3, &count));
    assert_int_equal(count, 3);
    assert_true(list[0].good && list[1].good);
    assert_string_equal(list[2].what, "NVRTC");
    assert_true(list[2].good || list[2].remedy[0]);
}

static void probe_answers_from_the_limits(void **state)
{
    (void)state;
    int answer = -1;
    kf_device *device = NULL;
    ASSERT_OK(cuda->device_open(&(kf_device_desc){.index = 0}, &device));
    ASSERT_OK(cuda->probe(device, "local:232448", &answer));
    assert_int_equal(answer, 1);
    ASSERT_OK(cuda->probe(device, "local:232449", &answer));
    assert_int_equal(answer, 0);
    assert_failed(cuda->probe(device, "local:", &answer), KF_UNSUPPORTED, "local:");
    assert_failed(cuda->probe(device, "local:12x", &answer), KF_UNSUPPORTED, "local:12x");
    assert_failed(cuda->probe(device, "wings", &answer), KF_UNSUPPORTED, "wings");
    ASSERT_OK(cuda->device_close(device));
    assert_clean("probe");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_failures_name_what_is_missing_and_the_remedy),
        cmocka_unit_test(devices_are_described_completely),
        cmocka_unit_test(a_device_that_is_not_there_is_unavailable),
        cmocka_unit_test(diagnose_needs_nothing),
        cmocka_unit_test(probe_answers_from_the_limits),
    };
    return cmocka_run_group_tests_name("cuda_loading", tests, set_up, NULL) ? 1 : 0;
}
