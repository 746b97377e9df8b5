/* What the tests of the kernel cache share: a folder of their own, a backend that tells what
 * reaches its driver. SPDX-License-Identifier: Apache-2.0 */
#ifndef CACHE_RIG_H
#define CACHE_RIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../core/cache.h"

static char base[64], folder[96]; /* /tmp/...; /tmp/.../kfuse */
static kf_backend spy;            /* the null backend, watched */
static int binaries, compiles;    /* what its driver was asked */
static bool refuses;              /* every stored binary */

static inline kf_status spy_program_build(kf_device *device, const kf_program_desc *desc,
                                          kf_program **program)
{
    binaries += desc->binary != NULL;
    compiles += desc->binary == NULL;
    if (desc->binary && refuses)
        return kf_fail(KF_BUILD_FAILED, "spy: refused");
    return kf_backend_find("null")->program_build(device, desc, program);
}

static inline void remove_tree(const char *path)
{
    char command[160];
    snprintf(command, sizeof command, "chmod -R u+rwx %s 2>/dev/null; rm -rf %s", path, path);
    if (system(command) != 0)
        print_message("%s was not removed\n", path);
}

static inline int cache_setup(void **state)
{
    (void)state;
    spy = *kf_backend_find("null");
    spy.program_build = spy_program_build;
    binaries = compiles = 0;
    refuses = false;
    strcpy(base, "/tmp/kfuse-test-XXXXXX");
    if (!mkdtemp(base))
        return 1;
    snprintf(folder, sizeof folder, "%s/kfuse", base);
    unsetenv("KFUSE_CACHE_DIR");
    unsetenv("KFUSE_NO_CACHE");
    unsetenv("KFUSE_BUILD_OPTIONS");
    return setenv("XDG_CACHE_HOME", base, 1);
}

static inline int cache_teardown(void **state)
{
    (void)state;
    remove_tree(base);
    return 0;
}

static const char *const cache_entries[] = {"scale"};

static inline kf_program_desc cache_desc(void)
{
    return (kf_program_desc){.name = "scale.cl",
                             .text = "#define N 1\n__kernel void scale(int n) {}\n",
                             .entries = cache_entries,
                             .entry_count = 1,
                             .threads = 64};
}

/* One build on a device of its own: 'h' a hit, 'm' a miss, '-' neither, 'f' failed. */
static inline char build_on(kf_program_desc desc, const kf_device_desc *on, const char *name)
{
    kf_device *device;
    kf_program *program = NULL;
    char answer = '-';
    if (kf_device_open_on(&spy, on, &device) != KF_OK)
        return 'f';
    if (name)
        snprintf(device->info.name, sizeof device->info.name, "%s", name);
    if (kf_cache_build(device, &desc, &program) != KF_OK)
        answer = 'f';
    else if (device->cache_hits)
        answer = 'h';
    else if (device->cache_misses)
        answer = 'm';
    kf_program_close(program);
    if (device->live)
        answer = 'l';
    kf_device_close(device);
    return answer;
}

static inline char build(void)
{
    return build_on(cache_desc(), NULL, NULL);
}

/* How many files there are whose name holds `part`; the last one's path. */
static inline int files(const char *part, char *path, size_t bytes)
{
    DIR *list = opendir(folder);
    int count = 0;
    for (struct dirent *item = list ? readdir(list) : NULL; item; item = readdir(list)) {
        if (!strstr(item->d_name, part) || !strcmp(item->d_name, ".") ||
            !strcmp(item->d_name, ".."))
            continue;
        count++;
        if (path)
            snprintf(path, bytes, "%s/%s", folder, item->d_name);
    }
    if (list)
        closedir(list);
    return count;
}

static inline size_t slurp(const char *path, unsigned char *data, size_t room)
{
    FILE *in = fopen(path, "r");
    const size_t bytes = in ? fread(data, 1, room, in) : 0;
    if (in)
        fclose(in);
    return bytes;
}

static inline void spill(const char *path, const void *data, size_t bytes)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, bytes, out), bytes);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

/* Runs `body` in a child; its exit status. A child never asserts. */
static inline int in_child(int (*body)(void))
{
    int status = -1;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(body());
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

#define CACHE_TEST(test) cmocka_unit_test_setup_teardown(test, cache_setup, cache_teardown)

#endif
