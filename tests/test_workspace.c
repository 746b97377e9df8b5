/* label: unit */
/* The caller's own scratch memory, on the null device. SPDX-License-Identifier: Apache-2.0 */
#include "leaks_rig.h"

#include <string.h>

typedef struct trial {
    size_t place, less; /* where it begins in aligned memory; bytes that it lacks */
    const char *says;   /* NULL: it is taken */
} trial;

static void run_with(kf_exec *exec, kf_device *device, kf_queue *queue, const kf_binding *binding,
                     const trial *t)
{
    static _Alignas(4096) char memory[1 << 16];
    kf_buffer *workspace;
    const size_t bytes = kf_exec_workspace_bytes(exec);
    assert_in_range(bytes, 1, sizeof memory - 16);
    const kf_buffer_desc wrap = {
        .bytes = bytes - t->less, .adopt = true, .native = memory, .native_offset = t->place};
    assert_int_equal(kf_buffer_open(device, &wrap, &workspace), KF_OK);
    assert_int_equal(kf_run(exec, queue, binding, workspace), t->says ? KF_INVALID : KF_OK);
    if (t->says)
        assert_non_null(strstr(kf_error(), t->says));
    kf_buffer_close(workspace);
}

/* Mistakes: scratch behind the end of the caller's memory, or at an address where the kernels' 16
 * bytes at a time do not begin. */
static void a_workspace_is_large_and_aligned_enough(void **state)
{
    static const trial trials[] = {
        {0, 0, NULL}, {16, 0, NULL}, {0, 1, "bytes; "}, {4, 0, "16-byte alignment"}};
    kf_device *device;
    kf_queue *queue;
    kf_buffer *buffer;
    kf_plan *plan;
    kf_exec *exec;
    (void)state;
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "null"}, &device), KF_OK);
    assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
    assert_int_equal(kf_buffer_open(device, &(kf_buffer_desc){.bytes = 8 * LEAK_COUNT}, &buffer),
                     KF_OK);
    assert_int_equal(leak_plan(&leak_kinds[1], LEAK_ROWS, device, &plan), KF_OK);
    assert_int_equal(kf_prepare(plan, device, &exec), KF_OK);
    const kf_binding binding[] = {{.buffer = buffer}, {.buffer = buffer, .offset = LEAK_COUNT}};
    for (int i = 0; i < 4; i++)
        run_with(exec, device, queue, binding, &trials[i]);
    kf_exec_close(exec);
    kf_plan_close(plan);
    kf_buffer_close(buffer);
    kf_queue_close(queue);
    kf_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_workspace_is_large_and_aligned_enough)};
    return cmocka_run_group_tests_name("workspace", tests, NULL, NULL) ? 1 : 0;
}
