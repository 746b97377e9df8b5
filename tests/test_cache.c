/* label: unit */
/* The cache of compiled kernels: what is a hit, and that nothing damaged, stale or foreign ever
 * reaches a driver. SPDX-License-Identifier: Apache-2.0 */
#include "cache_rig.h"

enum { ROOM = 4096 };

/* Stands first: a process sweeps once. Mistakes: temporary files of killed processes pile up, or
 * those of living ones are taken away. */
static void old_temporary_files_are_swept(void **state)
{
    char old[128], fresh[128];
    const struct timespec yesterday[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    (void)state;
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(old, sizeof old, "%s/.tmp-1-0-1", folder);
    snprintf(fresh, sizeof fresh, "%s/.tmp-2-0-1", folder);
    spill(old, "x", 1);
    spill(fresh, "x", 1);
    assert_int_equal(utimensat(AT_FDCWD, old, yesterday, 0), 0);
    assert_int_equal(build(), 'm');
    assert_int_equal(access(old, F_OK), -1);
    assert_int_equal(access(fresh, F_OK), 0);
}

static void the_second_build_is_a_hit(void **state)
{
    char path[160];
    struct stat status;
    (void)state;
    assert_int_equal(build(), 'm');
    assert_int_equal(build(), 'h');
    assert_int_equal(compiles, 1);
    assert_int_equal(binaries, 1);
    assert_int_equal(files(".bin", path, sizeof path), 1);
    assert_int_equal(files(".tmp", NULL, 0), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(stat(folder, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
}

/* Mistake: something that the compiler's output depends on is not in the key. */
static void whatever_changes_the_output_is_in_the_key(void **state)
{
    (void)state;
    assert_int_equal(build(), 'm');
    kf_program_desc desc = cache_desc();
    desc.text = "#define N 2\n__kernel void scale(int n) {}\n";
    assert_int_equal(build_on(desc, NULL, NULL), 'm');
    int *const numbers[] = {&desc.threads, &desc.least_groups, &desc.register_cap};
    for (int i = 0; i < 3; i++) {
        desc = cache_desc();
        *numbers[i] = 32;
        assert_int_equal(build_on(desc, NULL, NULL), 'm');
    }
    desc = cache_desc();
    desc.local_bytes = 1024;
    assert_int_equal(build_on(desc, NULL, NULL), 'm');
    desc = cache_desc();
    desc.arch_specific = true;
    assert_int_equal(build_on(desc, NULL, NULL), 'm');
    assert_int_equal(build_on(cache_desc(), NULL, "another device"), 'm');
    setenv("KFUSE_BUILD_OPTIONS", "-g", 1);
    assert_int_equal(build(), 'm');
    unsetenv("KFUSE_BUILD_OPTIONS");
    assert_int_equal(build(), 'h');
    assert_int_equal(files(".bin", NULL, 0), 9);
}

static void the_cache_can_be_switched_off(void **state)
{
    char path[160], why[160];
    (void)state;
    assert_int_equal(build_on(cache_desc(), &(kf_device_desc){.no_cache = true}, NULL), '-');
    setenv("KFUSE_NO_CACHE", "1", 1);
    assert_int_equal(build(), '-');
    assert_string_equal(kf_cache_folder(path, sizeof path, why, sizeof why), "");
    assert_non_null(strstr(why, "KFUSE_NO_CACHE"));
    assert_int_equal(files("", NULL, 0), 0);
    setenv("KFUSE_NO_CACHE", "0", 1);
    assert_int_equal(build(), 'm');
    assert_string_equal(kf_cache_folder(path, sizeof path, why, sizeof why), folder);
    assert_string_equal(why, "");
}

/* ---- damage -------------------------------------------------------------------------------- */

static size_t entry(char *path, size_t path_bytes, unsigned char *data)
{
    assert_int_equal(build(), 'm');
    assert_int_equal(files(".bin", path, path_bytes), 1);
    const size_t bytes = slurp(path, data, ROOM);
    assert_true(bytes > 64 && bytes < ROOM);
    binaries = 0;
    return bytes;
}

/* The damaged file is a miss, no byte of it reaches the driver, and it is replaced by a good one.
 */
static void expect_miss(const char *path, const unsigned char *good, size_t bytes)
{
    unsigned char now[ROOM];
    assert_int_equal(build(), 'm');
    assert_int_equal(binaries, 0);
    assert_int_equal(slurp(path, now, ROOM), bytes);
    assert_memory_equal(now, good, bytes);
    assert_int_equal(files(".tmp", NULL, 0), 0);
}

static void every_flipped_byte_is_a_miss(void **state)
{
    char path[160];
    unsigned char good[ROOM], bad[ROOM];
    const size_t bytes = entry(path, sizeof path, good);
    (void)state;
    for (size_t i = 0; i < bytes; i++) {
        memcpy(bad, good, bytes);
        bad[i] ^= (unsigned char)(1u << i % 8);
        spill(path, bad, bytes);
        expect_miss(path, good, bytes);
    }
    assert_int_equal(build(), 'h');
}

static void every_other_length_is_a_miss(void **state)
{
    char path[160];
    unsigned char good[ROOM] = {0};
    const size_t bytes = entry(path, sizeof path, good);
    (void)state;
    for (size_t i = 0; i < 16; i++) {
        spill(path, good, bytes * i / 16);
        expect_miss(path, good, bytes);
    }
    spill(path, good, bytes - 1);
    expect_miss(path, good, bytes);
    spill(path, good, bytes + 1); /* trailing bytes */
    expect_miss(path, good, bytes);
}

/* Mistake: a length out of the file is used before it is compared with what is there. */
static void absurd_lengths_are_a_miss(void **state)
{
    static const uint64_t absurd[] = {(uint64_t)1 << 31, UINT64_MAX, UINT64_MAX - 40, 0};
    char path[160];
    unsigned char good[ROOM], bad[ROOM];
    const size_t bytes = entry(path, sizeof path, good);
    (void)state;
    for (size_t place = 16; place <= 24; place += 8) /* of the key, of the payload */
        for (int i = 0; i < 4; i++) {
            memcpy(bad, good, bytes);
            memcpy(bad + place, &absurd[i], 8);
            spill(path, bad, bytes);
            expect_miss(path, good, bytes);
        }
}

/* Mistake: the name, a hash, is taken for the key. */
static void an_entry_under_another_name_is_a_miss(void **state)
{
    char first[160], command[400];
    unsigned char good[ROOM], now[ROOM];
    kf_program_desc other = cache_desc();
    (void)state;
    other.threads = 128;
    assert_int_equal(build_on(other, NULL, NULL), 'm');
    assert_int_equal(files(".bin", first, sizeof first), 1);
    const size_t bytes = slurp(first, good, ROOM);
    assert_int_equal(build(), 'm');
    snprintf(command, sizeof command, "for f in %s/*.bin; do [ $f = %s ] || mv $f %s; done", folder,
             first, first);
    assert_int_equal(system(command), 0);
    binaries = 0;
    assert_int_equal(build_on(other, NULL, NULL), 'm');
    assert_int_equal(binaries, 0);
    assert_int_equal(slurp(first, now, ROOM), bytes);
    assert_memory_equal(now, good, bytes);
}

/* Mistake: a driver that no longer takes its own binary makes every later run fail. */
static void a_refused_binary_is_compiled_again(void **state)
{
    (void)state;
    assert_int_equal(build(), 'm');
    refuses = true;
    kf_fail(KF_IO, "older");
    assert_int_equal(build(), 'm');
    assert_int_equal(files(".bin", NULL, 0), 1); /* the new one */
    refuses = false;
    assert_int_equal(build(), 'h');
}

/* Mistakes: a failing save fails the build; what says nothing about the binary throws it away. */
static void failures_around_the_cache(void **state)
{
    const kf_backend *null = kf_backend_find("null"), *faulty = kf_fault_wrap(null);
    (void)state;
    spy = *faulty;
    kf_fault_set(
        &(kf_fault){.slot = KF_SLOT_program_save, .forever = true, .status = KF_UNSUPPORTED});
    assert_int_equal(build(), 'm');
    assert_int_equal(files(".bin", NULL, 0), 0);
    kf_fault_set(NULL);
    assert_int_equal(build(), 'm');
    kf_fault_set(&(kf_fault){.slot = KF_SLOT_program_build, .status = KF_DEVICE_FAILED});
    assert_int_equal(build(), 'f');
    kf_fault_set(
        &(kf_fault){.slot = KF_SLOT_program_build, .forever = true, .status = KF_BUILD_FAILED});
    assert_int_equal(build_on(cache_desc(), NULL, "new"), 'f');
    kf_fault_set(NULL);
    assert_int_equal(build(), 'h');
}

static void wrong_arguments_are_those_of_a_build(void **state)
{
    kf_device *device;
    kf_program *program;
    kf_program_desc desc = cache_desc();
    (void)state;
    assert_int_equal(kf_device_open_on(&spy, NULL, &device), KF_OK);
    assert_int_equal(kf_cache_build(NULL, &desc, &program), KF_INVALID);
    assert_int_equal(kf_cache_build(device, NULL, &program), KF_INVALID);
    assert_int_equal(kf_cache_build(device, &desc, NULL), KF_INVALID);
    desc.entry_count = 0;
    assert_int_equal(kf_cache_build(device, &desc, &program), KF_INVALID);
    assert_null(program);
    assert_int_equal(device->cache_hits, 0);
    kf_device_close(device);
}

/* ---- several processes, the tool ----------------------------------------------------------- */

static int build_often(void)
{
    for (int i = 0; i < 50; i++) {
        char path[160];
        const char answer = build();
        if (answer != 'h' && answer != 'm')
            return 1;
        if (i % 10 == 5 && files(".bin", path, sizeof path))
            unlink(path);
    }
    return 0;
}

static void processes_share_a_key(void **state)
{
    pid_t children[4];
    (void)state;
    fflush(NULL);
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit(build_often());
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    build();
    assert_int_equal(build(), 'h');
    assert_int_equal(files(".bin", NULL, 0), 1);
    assert_int_equal(files(".tmp", NULL, 0), 0);
}

static void entries_are_counted_and_cleared(void **state)
{
    kf_cache_summary sum = {.entries = 7};
    char path[160], other[160];
    (void)state;
    assert_int_equal(kf_cache_stats(&sum), KF_OK); /* no folder yet */
    assert_int_equal(sum.entries, 0);
    assert_int_equal(build(), 'm');
    assert_int_equal(build_on(cache_desc(), NULL, "another"), 'm');
    snprintf(other, sizeof other, "%s/notes.txt", folder);
    spill(other, "mine", 4);
    snprintf(path, sizeof path, "%s/.tmp-3-0-1", folder);
    spill(path, "x", 1);
    assert_int_equal(kf_cache_stats(&sum), KF_OK);
    assert_int_equal(sum.entries, 2);
    assert_true(sum.bytes > 200);
    assert_int_equal(kf_cache_clear(&sum), KF_OK);
    assert_int_equal(sum.entries, 2);
    assert_int_equal(kf_cache_stats(&sum), KF_OK);
    assert_int_equal(sum.entries, 0);
    assert_int_equal(files("", NULL, 0), 1); /* what is not ours stays */
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(build(), 'm');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(old_temporary_files_are_swept),
        CACHE_TEST(the_second_build_is_a_hit),
        CACHE_TEST(whatever_changes_the_output_is_in_the_key),
        CACHE_TEST(the_cache_can_be_switched_off),
        CACHE_TEST(every_flipped_byte_is_a_miss),
        CACHE_TEST(every_other_length_is_a_miss),
        CACHE_TEST(absurd_lengths_are_a_miss),
        CACHE_TEST(an_entry_under_another_name_is_a_miss),
        CACHE_TEST(a_refused_binary_is_compiled_again),
        CACHE_TEST(failures_around_the_cache),
        CACHE_TEST(wrong_arguments_are_those_of_a_build),
        CACHE_TEST(processes_share_a_key),
        CACHE_TEST(entries_are_counted_and_cleared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
