/* label: unit */
/* Several threads at once, on the null backend: a device each, and what all of them share, the
 * ops' tables and the cache on disk. Here for what it can see by itself, and built with
 * -fsanitize=thread by .ci/run for what it cannot. SPDX-License-Identifier: Apache-2.0 */
#include "threads_rig.h"
#include <dirent.h>
#include <sched.h>
#include <unistd.h>
#include "../core/cache.h"

enum { KINDS = 9, OPENINGS = 15 };

static char base[] = "/tmp/kfuse-threads-XXXXXX";
static thread_job jobs[THREADS_AT_ONCE];

/* ---- sentences ------------------------------------------------------------------------------ */

static kf_status fail_in_turns(thread_job *job)
{
    char name[32], expected[64];
    snprintf(name, sizeof name, "op_of_thread_%d", job->index);
    snprintf(expected, sizeof expected, "'%s'", name);
    for (int i = 0; i < 300; i++) {
        kf_problem *problem;
        if (kf_problem_open(name, &problem) != KF_INVALID)
            return kf_fail(KF_WRONG_RESULT, "%s was found", name);
        sched_yield(); /* the others fail now */
        job->found += strstr(kf_error(), expected) != NULL;
    }
    return KF_OK;
}

/* Mistake: a sentence of another thread; one that two threads write at once. */
static void sentences_belong_to_their_thread(void **state)
{
    (void)state;
    kf_fail(KF_IO, "the main thread's own");
    all_at_once(jobs, "null", 1, fail_in_turns);
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        assert_int_equal(jobs[i].found, 300);
    assert_string_equal(kf_error(), "the main thread's own");
}

/* ---- devices -------------------------------------------------------------------------------- */

static kf_status open_and_close(thread_job *job)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < OPENINGS; i++) {
        kf_device_info info;
        own_device own;
        int count = 0;
        status = kf_device_enumerate(job->backend, &info, 1, &count);
        THEN(status, own_open(&own, job->backend, 0, 1));
        if (status == KF_OK)
            status =
                own_close(&own, strcmp(own.device->info.id, info.id) ? KF_WRONG_RESULT : KF_OK);
        job->found += count;
    }
    return status;
}

/* Mistake: a list or a count of devices that the whole process shares. */
static void devices_are_listed_opened_and_closed_at_once(void **state)
{
    (void)state;
    all_at_once(jobs, "null", 1, open_and_close);
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        assert_int_equal(jobs[i].found, OPENINGS);
}

/* ---- the cache on disk ---------------------------------------------------------------------- */

static kf_status call_everything(thread_job *job)
{
    own_device own;
    kf_status status = own_open(&own, job->backend, 0, 2);
    for (int i = 0; i < 2 * KINDS; i++)
        THEN(status, own_call(&own, i % KINDS));
    job->found = own.device ? (int)own.device->cache_misses : -1;
    return own_close(&own, status);
}

static int drafts(void)
{
    char folder[64];
    int count = 0;
    snprintf(folder, sizeof folder, "%s/kfuse", base);
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (struct dirent *item = readdir(list); item; item = readdir(list))
        count += !strncmp(item->d_name, ".tmp", 4);
    closedir(list);
    return count;
}

/* Mistakes: drafts of one name for two threads, so that an entry is a mixture; a draft left behind;
 * a plan or an exec that keeps something in the op's own table. */
static void one_cache_is_filled_by_all(void **state)
{
    kf_cache_summary summary;
    (void)state;
    assert_int_equal(kf_cache_clear(&summary), KF_OK);
    all_at_once(jobs, "null", 1, call_everything);
    assert_int_equal(drafts(), 0);
    assert_int_equal(kf_cache_stats(&summary), KF_OK);
    assert_true(summary.entries >= 3);
    thread_job alone = {.backend = "null"};
    assert_int_equal(call_everything(&alone), KF_OK);
    assert_int_equal(alone.found, 0); /* whatever they left is whole */
    all_at_once(jobs, "null", 1, call_everything);
    for (int i = 0; i < THREADS_AT_ONCE; i++)
        assert_int_equal(jobs[i].found, 0);
}

static kf_status call_or_clear(thread_job *job)
{
    kf_cache_summary summary;
    kf_status status = KF_OK;
    if (job->index)
        return call_everything(job);
    for (int i = 0; i < 25; i++) {
        THEN(status, kf_cache_clear(&summary));
        THEN(status, kf_cache_stats(&summary));
    }
    return status;
}

/* Mistake: an entry that goes while it is read or written makes a call fail. */
static void the_cache_may_be_cleared_meanwhile(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        all_at_once(jobs, "null", 1, call_or_clear);
}

/* ---- main ----------------------------------------------------------------------------------- */

static int make_folder(void **state)
{
    (void)state;
    unsetenv("KFUSE_CACHE_DIR");
    unsetenv("KFUSE_NO_CACHE");
    return !mkdtemp(base) || setenv("XDG_CACHE_HOME", base, 1) != 0;
}

static int remove_folder(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_listed_opened_and_closed_at_once),
        cmocka_unit_test(sentences_belong_to_their_thread),
        cmocka_unit_test(one_cache_is_filled_by_all),
        cmocka_unit_test(the_cache_may_be_cleared_meanwhile),
    };
    return cmocka_run_group_tests_name("threads", tests, make_folder, remove_folder) ? 1 : 0;
}
