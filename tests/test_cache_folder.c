/* label: unit */
/* Folders and files that are not the user's alone are not used, and never an error; the same holds
 * for the facts about devices. SPDX-License-Identifier: Apache-2.0 */
#include "cache_rig.h"

/* Two builds work, neither from disk, and the reason can be asked for. */
static void expect_no_cache(const char *reason)
{
    char path[160] = "x", why[256] = "";
    assert_int_equal(build(), 'm');
    assert_int_equal(build(), 'm');
    assert_string_equal(kf_cache_folder(path, sizeof path, why, sizeof why), "");
    if (!strstr(why, reason))
        fail_msg("'%s' does not say '%s'", why, reason);
}

static void a_folder_that_others_can_write_is_not_used(void **state)
{
    kf_cache_summary sum;
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mkdir(folder, 0700), 0);
        assert_int_equal(chmod(folder, i ? 0720 : 0702), 0);
        expect_no_cache("written by others");
        assert_int_equal(files("", NULL, 0), 0);
        assert_int_equal(kf_cache_stats(&sum), KF_IO);
        assert_int_equal(kf_cache_clear(&sum), KF_IO);
        assert_int_equal(rmdir(folder), 0);
    }
    assert_int_equal(mkdir(folder, 0755), 0); /* others may look */
    assert_int_equal(build(), 'm');
    assert_int_equal(build(), 'h');
}

static void a_link_or_a_file_is_no_folder(void **state)
{
    char real[128];
    (void)state;
    snprintf(real, sizeof real, "%s/real", base);
    assert_int_equal(mkdir(real, 0700), 0);
    assert_int_equal(symlink(real, folder), 0);
    expect_no_cache("link");
    assert_int_equal(rmdir(real), 0); /* still empty */
    expect_no_cache("link");          /* dangling */
    assert_int_equal(unlink(folder), 0);
    spill(folder, "x", 1);
    expect_no_cache("file");
}

static void the_folder_comes_from_the_environment(void **state)
{
    char path[160], why[256];
    (void)state;
    setenv("KFUSE_CACHE_DIR", folder, 1);
    unsetenv("XDG_CACHE_HOME");
    assert_int_equal(build(), 'm');
    assert_string_equal(kf_cache_folder(path, sizeof path, why, sizeof why), folder);
    unsetenv("KFUSE_CACHE_DIR");
    char *home = strdup(getenv("HOME") ? getenv("HOME") : "/");
    setenv("HOME", base, 1);
    assert_int_equal(build(), 'm'); /* makes .cache as well */
    assert_non_null(strstr(kf_cache_folder(path, sizeof path, why, sizeof why), "/.cache/kfuse"));
    setenv("HOME", "/nonexistent/home", 1);
    expect_no_cache("No such file");
    setenv("XDG_CACHE_HOME", "relative", 1); /* never the current folder */
    unsetenv("HOME");
    expect_no_cache("absolute");
    assert_int_equal(access("relative", F_OK), -1);
    setenv("HOME", home, 1);
    free(home);
}

static void a_path_that_is_too_long_is_no_folder(void **state)
{
    char *path = malloc(6001);
    (void)state;
    memset(path, 'x', 6000);
    path[0] = '/';
    path[6000] = '\0';
    setenv("KFUSE_CACHE_DIR", path, 1);
    expect_no_cache("too long");
    free(path);
}

/* ---- other users --------------------------------------------------------------------------- */

enum { STRANGER = 54321 };

static int builds_as_stranger(void)
{
    char path[160], why[256];
    if (setgid(STRANGER) != 0 || setuid(STRANGER) != 0)
        return 2;
    for (int i = 0; i < 2; i++)
        if (build() != 'm')
            return 1;
    /* read-only for its owner: the folder is sound, nothing can be stored */
    kf_cache_folder(path, sizeof path, why, sizeof why);
    return files(".bin", NULL, 0) == 0 && files(".tmp", NULL, 0) == 0 ? 0 : 3;
}

static void a_read_only_folder_stores_nothing(void **state)
{
    (void)state;
    assert_int_equal(mkdir(folder, 0700), 0);
    if (geteuid() != 0) { /* root writes everywhere: it becomes somebody for this test */
        assert_int_equal(chmod(folder, 0500), 0);
        assert_int_equal(build(), 'm');
        assert_int_equal(build(), 'm');
        return;
    }
    assert_int_equal(chmod(base, 0755), 0);
    assert_int_equal(chown(folder, STRANGER, STRANGER), 0);
    assert_int_equal(chmod(folder, 0500), 0);
    assert_int_equal(in_child(builds_as_stranger), 0);
}

static void another_users_folder_or_file_is_not_used(void **state)
{
    char path[160];
    (void)state;
    if (geteuid() != 0)
        skip(); /* only root can make one */
    assert_int_equal(build(), 'm');
    assert_int_equal(files(".bin", path, sizeof path), 1);
    assert_int_equal(chown(path, STRANGER, STRANGER), 0);
    binaries = 0;
    assert_int_equal(build(), 'm');
    assert_int_equal(binaries, 0);
    assert_int_equal(build(), 'h'); /* replaced by one of our own */
    assert_int_equal(chown(folder, STRANGER, STRANGER), 0);
    expect_no_cache("another user");
}

static void an_entry_that_others_can_write_or_a_link_is_a_miss(void **state)
{
    char path[160], away[128];
    (void)state;
    assert_int_equal(build(), 'm');
    assert_int_equal(files(".bin", path, sizeof path), 1);
    assert_int_equal(chmod(path, 0660), 0);
    binaries = 0;
    assert_int_equal(build(), 'm');
    assert_int_equal(chmod(path, 0602), 0);
    assert_int_equal(build(), 'm');
    snprintf(away, sizeof away, "%s/away", base);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(symlink(away, path), 0);
    assert_int_equal(build(), 'm');
    assert_int_equal(binaries, 0);
    assert_int_equal(build(), 'h');
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* cannot be unlinked or replaced */
    assert_int_equal(build(), 'm');
    assert_int_equal(build(), 'm');
    assert_int_equal(unlink(path), -1);
    assert_int_equal(mkfifo(away, 0600), -1);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* reading it must not wait for a writer */
    assert_int_equal(build(), 'm');
    assert_int_equal(build(), 'h');
    assert_int_equal(files(".tmp", NULL, 0), 0);
}

/* ---- facts --------------------------------------------------------------------------------- */

static int64_t opened_local_bytes(void)
{
    kf_device *device;
    assert_int_equal(kf_device_open_on(&spy, NULL, &device), KF_OK);
    const int64_t bytes = kf_device_target(device)->local_bytes;
    kf_device_close(device);
    return bytes;
}

static void write_facts(const char *path, const char *text, mode_t mode)
{
    spill(path, text, strlen(text));
    assert_int_equal(chmod(path, mode), 0);
}

static void probed_limits_are_read_when_nobody_else_could_write_them(void **state)
{
    kf_device_info info;
    int count;
    char path[256];
    (void)state;
    const int64_t plain = kf_target_generic()->local_bytes;
    assert_int_equal(opened_local_bytes(), plain);
    assert_int_equal(files("", NULL, 0), 0); /* reading makes no folder */
    assert_int_equal(kf_device_enumerate("null", &info, 1, &count), KF_OK);
    strcpy(info.driver, "A/../b 1.2\xc3\xa9");
    assert_non_null(strstr(kf_device_facts_path(&info, path, sizeof path),
                           "/devices/null-null-a----b-1-2--.txt"));
    assert_int_equal(kf_device_enumerate("null", &info, 1, &count), KF_OK);
    kf_device_facts_path(&info, path, sizeof path);
    write_facts(path, "# probed\nlocal_bytes=196608\nroof.copy=1\n", 0600);
    assert_int_equal(opened_local_bytes(), 196608);
    assert_int_equal(kf_device_enumerate("null", &info, 1, &count), KF_OK);
    assert_int_equal(info.target.local_bytes, 196608);
    write_facts(path, "local_bytes=196608\n", 0620);
    assert_int_equal(opened_local_bytes(), plain);
    write_facts(path, "local_bytes=99999999999\nlocal_bytes=-5\nlocal_bytes=\nlocal_bytes=12\n",
                0600);
    assert_int_equal(opened_local_bytes(), plain);
    assert_string_equal(kf_device_facts_path(&info, path, 20), ""); /* no room */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(a_folder_that_others_can_write_is_not_used),
        CACHE_TEST(a_link_or_a_file_is_no_folder),
        CACHE_TEST(the_folder_comes_from_the_environment),
        CACHE_TEST(a_path_that_is_too_long_is_no_folder),
        CACHE_TEST(a_read_only_folder_stores_nothing),
        CACHE_TEST(another_users_folder_or_file_is_not_used),
        CACHE_TEST(an_entry_that_others_can_write_or_a_link_is_a_miss),
        CACHE_TEST(probed_limits_are_read_when_nobody_else_could_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
