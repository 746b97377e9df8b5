/* label: unit */
/* Roofs on the null backend: which shapes are tried, what is remembered where.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/measure.h"
#include "../harness/remember.h"

static kf_device *device;
static kf_queue *queue;
static char folder[] = "/tmp/kfuse-roofs-XXXXXX";

static int open_all(void **state)
{
    (void)state;
    static kf_target target;
    target = *kf_target_generic();
    target.capabilities |= KF_CAP_REPLAY;
    target.memory_bytes = 4 << 20;
    if (!mkdtemp(folder) || setenv("XDG_CACHE_HOME", folder, 1))
        return 1;
    if (kf_device_open(&(kf_device_desc){.backend = "null", .target = &target, .no_cache = true},
                       &device) != KF_OK)
        return 1;
    return kf_queue_open(device, NULL, &queue) == KF_OK ? 0 : 1;
}

static int close_all(void **state)
{
    (void)state;
    char command[128];
    kf_queue_close(queue);
    const int live = device->live;
    kf_device_close(device);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) || live;
}

/* Mistake: a launch compared with the roof of another mix. */
static void mixes_are_the_nearest_by_share(void **state)
{
    (void)state;
    assert_int_equal(kf_mix_of(100, 0), KF_MIX_READ);
    assert_int_equal(kf_mix_of(0, 100), KF_MIX_WRITE);
    assert_int_equal(kf_mix_of(100, 100), KF_MIX_COPY);
    assert_int_equal(kf_mix_of(200, 100), KF_MIX_2_1);
    assert_int_equal(kf_mix_of(300, 100), KF_MIX_3_1);
    assert_int_equal(kf_mix_of(4096 * 4096, 4096), KF_MIX_READ);
    for (int i = 0; i < KF_MIX_COUNT; i++)
        assert_true(strlen(kf_mix_name((kf_mix)i)) > 0);
}

/* Mistakes: fewer shapes than nine, a roof measured twice in a process, a file that others can
 * write. */
static void nine_shapes_compete_once(void **state)
{
    (void)state;
    kf_roof roof, again;
    char path[4096];
    struct stat info;
    const uint64_t before = device->calls[KF_SLOT_kernel_open];
    assert_int_equal(kf_roof_measure(device, queue, KF_MIX_2_1, 3 * 4096 * 4, &roof), KF_OK);
    assert_int_equal(device->calls[KF_SLOT_kernel_open] - before, 9);
    assert_int_equal(roof.bytes, 3 * 4096 * 4);
    assert_false(roof.remembered);
    assert_non_null(strstr(roof.shape, "VECS="));
    assert_true(roof.bytes_per_second > 0);
    const uint64_t launches = device->calls[KF_SLOT_replay];
    assert_int_equal(kf_roof_measure(device, queue, KF_MIX_2_1, 3 * 4096 * 4, &again), KF_OK);
    assert_int_equal(device->calls[KF_SLOT_replay], launches);
    assert_string_equal(again.shape, roof.shape);
    kf_device_facts_path(kf_device_describe(device), path, sizeof path);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

/* Mistakes: a remembered rate instead of a remembered shape; a file from elsewhere believed
 * blindly. */
static void remembered_shapes_are_measured_again(void **state)
{
    (void)state;
    kf_roof roof;
    const kf_device_info *info = kf_device_describe(device);
    assert_int_equal(kf_remember(info, "roof.add3.16", "VECS=4 BLOCK=512"), KF_OK);
    const uint64_t before = device->calls[KF_SLOT_kernel_open];
    assert_int_equal(kf_roof_measure(device, queue, KF_MIX_3_1, 1 << 16, &roof), KF_OK);
    assert_true(roof.remembered);
    assert_string_equal(roof.shape, "VECS=4 BLOCK=512");
    assert_int_equal(device->calls[KF_SLOT_kernel_open] - before, 1);
    assert_int_equal(kf_remember(info, "roof.add3.17", "VECS=3 BLOCK=99999"), KF_OK);
    assert_int_equal(kf_roof_measure(device, queue, KF_MIX_3_1, 1 << 17, &roof), KF_OK);
    assert_false(roof.remembered);
}

/* Mistakes: a line added twice, other lines lost, a key that is the beginning of another. */
static void lines_are_replaced_by_key(void **state)
{
    (void)state;
    char value[64];
    const kf_device_info *info = kf_device_describe(device);
    assert_int_equal(kf_remember(info, "roof.x", "one"), KF_OK);
    assert_int_equal(kf_remember(info, "roof.x.2", "two"), KF_OK);
    assert_int_equal(kf_remember(info, "roof.x", "three"), KF_OK);
    assert_true(kf_recall(info, "roof.x", value, sizeof value));
    assert_string_equal(value, "three");
    assert_true(kf_recall(info, "roof.x.2", value, sizeof value));
    assert_string_equal(value, "two");
    assert_false(kf_recall(info, "roof", value, sizeof value));
    assert_false(kf_recall(info, "roof.x", value, 3)); /* cut off is not found */
}

/* Mistake: a file that somebody else could have written decides what is launched. */
static void writable_files_are_not_believed(void **state)
{
    (void)state;
    char path[4096], value[64];
    const kf_device_info *info = kf_device_describe(device);
    assert_int_equal(kf_remember(info, "trust", "me"), KF_OK);
    kf_device_facts_path(info, path, sizeof path);
    assert_int_equal(chmod(path, 0666), 0);
    assert_false(kf_recall(info, "trust", value, sizeof value));
    assert_int_equal(chmod(path, 0600), 0);
    assert_true(kf_recall(info, "trust", value, sizeof value));
}

/* Mistake: probing that leaves no trace, so that it happens at every start. */
static void probes_leave_their_answer(void **state)
{
    (void)state;
    char value[64], expected[64];
    assert_int_equal(kf_device_probe_all(device), KF_OK);
    assert_true(kf_recall(kf_device_describe(device), "local_bytes", value, sizeof value));
    snprintf(expected, sizeof expected, "%lld",
             (long long)kf_device_target(device)->local_bytes); /* null has what it says */
    assert_string_equal(value, expected);
}

/* Mistake: an empty launch or arithmetic timed as something else than a plan. */
static void launches_and_arithmetic_have_rates(void **state)
{
    (void)state;
    double seconds, flops, exps;
    assert_int_equal(kf_roof_empty(device, queue, &seconds), KF_OK);
    assert_int_equal(llround(seconds * 1e9), 1000); /* null: a microsecond per launch */
    assert_int_equal(kf_roof_compute(device, queue, &flops, &exps), KF_OK);
    assert_true(flops > 2 * exps && exps > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixes_are_the_nearest_by_share),
        cmocka_unit_test(nine_shapes_compete_once),
        cmocka_unit_test(remembered_shapes_are_measured_again),
        cmocka_unit_test(lines_are_replaced_by_key),
        cmocka_unit_test(writable_files_are_not_believed),
        cmocka_unit_test(probes_leave_their_answer),
        cmocka_unit_test(launches_and_arithmetic_have_rates),
    };
    return cmocka_run_group_tests(tests, open_all, close_all) ? 1 : 0;
}
