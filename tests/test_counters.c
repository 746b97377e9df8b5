/* The profiler's table: what is read of it and what is passed over; and Oclgrind's shapes.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../core/backend.h"
#include "../harness/child.h"
#include "../harness/counters.h"
#include "../harness/simulate.h"

#define HEADER                                                                                     \
    "\"ID\",\"Process ID\",\"Kernel Name\",\"Context\",\"Metric Name\",\"Metric Unit\","           \
    "\"Metric Value\"\n"
#define ROW(id, kernel, metric, value)                                                             \
    "\"" id "\",\"77\",\"" kernel "\",\"1\",\"" metric "\",\"byte\",\"" value "\"\n"
#define DRAM_READ "dram__bytes_read.sum"
#define DRAM_WRITE "dram__bytes_write.sum"
#define SECTOR "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct"

static const char table[] =
    "kfuse step softmax_a 1 2 3 1 0\n==PROF== Connected to process 77\n==PROF== Profiling \"a\"\n"
    "\nkfuse status 0 \n==PROF== Disconnected\n" HEADER ROW("0", "softmax_a", DRAM_READ,
                                                            "1,048,576")
        ROW("0", "softmax_a", DRAM_WRITE, "0") ROW("0", "softmax_a", SECTOR, "99.5")
            ROW("1", "softmax_b(const float *, long)", DRAM_READ, "12")
                ROW("1", "softmax_b(const float *, long)", SECTOR, "n/a")
                    ROW("2", "softmax_b(const float *, long)", DRAM_READ, "7");

/* Mistake: launches of one kernel taken for one, a comma inside a number, a metric that is absent
 * read as zero. */
static void the_table_is_read(void **state)
{
    (void)state;
    kf_counted list[4];
    assert_int_equal(kf_counters_parse(table, list, 4), 3);
    assert_string_equal(list[0].entry, "softmax_a");
    assert_true(list[0].read == 1048576 && list[0].written == 0 && list[0].sectors == 99.5);
    assert_string_equal(list[1].entry, "softmax_b");
    assert_true(list[1].read == 12 && list[1].written == -1 && list[1].sectors == -1);
    assert_true(list[2].read == 7);
    assert_int_equal(kf_counters_parse(table, list, 1), 1);
}

/* Mistake: a reader that trusts its input. */
static void what_is_no_table_is_passed_over(void **state)
{
    (void)state;
    kf_counted list[4];
    static const char *const broken[] = {"",
                                         "\n\n",
                                         "\"ID\"",
                                         HEADER,
                                         HEADER "\"0\",\"77\"",
                                         HEADER "\"0\",\"77\",\"unclosed",
                                         HEADER ",,,,,,,,,,,,,,",
                                         "no commas at all"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_int_equal(kf_counters_parse(broken[i], list, 4), 0);
    for (size_t cut = 0; cut < sizeof table; cut++) {
        char text[sizeof table];
        memcpy(text, table, cut);
        text[cut] = 0;
        assert_in_range(kf_counters_parse(text, list, 4), 0, 3);
    }
}

static void a_complaint_names_the_remedy(void **state)
{
    (void)state;
    char sentence[400];
    kf_counters_complaint("==PROF== x\n==ERROR== ERR_NVGPUCTRPERM - no permission\nmore", sentence,
                          sizeof sentence);
    assert_non_null(strstr(sentence, "NVreg_RestrictProfilingToAdminUsers=0"));
    assert_null(strstr(sentence, "more"));
    kf_counters_complaint("==PROF== fine", sentence, sizeof sentence);
    assert_string_equal(sentence, "");
}

#define PROFILER "kfuse-test-profiler" /* no name that a machine may have */

/* ---- a profiler that is a script ------------------------------------------------------------ */

static char folder[] = "/tmp/kfuse-counters-XXXXXX";

static void script(const char *body)
{
    char path[80];
    snprintf(path, sizeof path, "%s/" PROFILER, folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", body);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
}

static kf_status count_launches(const char *profiler, kf_counted *list, int *count)
{
    kf_backend backend = {.name = "some", .profiler = profiler};
    kf_device device = {.backend = &backend};
    kf_case c;
    snprintf(device.info.id, sizeof device.info.id, "some:0");
    assert_int_equal(kf_case_parse("softmax fused f32 rows=4 cols=8 seed=1", &c), KF_OK);
    return kf_counters_run(&c, &device, NULL, list, 4, count);
}

/* Mistake: a profiler that is absent, not allowed or silent taken for one that counted zero. */
static void the_reason_of_an_empty_column_is_told(void **state)
{
    (void)state;
    kf_counted list[4];
    int count;
    assert_int_equal(count_launches(NULL, list, &count), KF_UNAVAILABLE);
    assert_non_null(strstr(kf_error(), "has no profiler"));
    assert_int_equal(count_launches(PROFILER, list, &count), KF_UNAVAILABLE);
    assert_non_null(strstr(kf_error(), "is not on PATH"));
    script("echo '==ERROR== ERR_NVGPUCTRPERM'; exit 1");
    assert_int_equal(count_launches(PROFILER, list, &count), KF_UNAVAILABLE);
    assert_non_null(strstr(kf_error(), "ERR_NVGPUCTRPERM"));
    script("echo no such option >&2; exit 1");
    assert_int_equal(count_launches(PROFILER, list, &count), KF_UNAVAILABLE);
    assert_non_null(strstr(kf_error(), "counted no launch: no such option"));
    script("kill -SEGV $$");
    assert_int_equal(count_launches(PROFILER, list, &count), KF_UNAVAILABLE);
    assert_non_null(strstr(kf_error(), "crashed"));
}

/* Mistake: the profiler is not given the case and device, or its answer is not read. */
static void a_profiler_is_run_on_the_case(void **state)
{
    (void)state;
    kf_counted list[4];
    int count;
    script(
        "case \"$*\" in *' __once some:0 softmax fused f32 rows=4 cols=8'*) ;; *) exit 1 ;; esac\n"
        "echo '\"ID\",\"Kernel Name\",\"Metric Name\",\"Metric Value\"'\n"
        "echo '\"0\",\"softmax_fused\",\"" DRAM_READ "\",\"128\"'");
    assert_int_equal(count_launches(PROFILER, list, &count), KF_OK);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].entry, "softmax_fused");
    assert_true(list[0].read == 128);
}

/* ---- children ------------------------------------------------------------------------------- */

static void a_child_reads_its_input_and_settings(void **state)
{
    (void)state;
    char shell[256];
    assert_true(kf_child_find("sh", shell, sizeof shell));
    assert_false(kf_child_find("no-such-program-here", shell, sizeof shell));
    assert_true(kf_child_find("sh", shell, sizeof shell));
    kf_child child = {.program = shell,
                      .word = {"-c", "cat; echo \"$KFUSE_TEST\"; exit 3"},
                      .set = {"KFUSE_TEST=told"},
                      .input = "given\n",
                      .seconds = 20};
    setenv("KFUSE_TEST", "inherited", 1);
    assert_int_equal(kf_child_run(&child), KF_OK);
    unsetenv("KFUSE_TEST");
    assert_string_equal(child.out, "given\ntold\n");
    assert_int_equal(child.exit_code, 3);
    free(child.out);
}

/* ---- the simulator -------------------------------------------------------------------------- */

static int64_t simulated(const char *text, bool *cut)
{
    kf_case c;
    int64_t all = 1;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    *cut = kf_simulation_shape(&c);
    for (int i = 0; i < kf_op_dim_count(c.op); i++)
        all *= c.dim[i];
    return all;
}

/* Mistake: hours of simulation, or a shape that was small enough made smaller. */
static void large_shapes_are_cut(void **state)
{
    (void)state;
    bool cut;
    assert_int_equal(simulated("softmax fused f32 rows=7 cols=33 seed=1", &cut), 7 * 33);
    assert_false(cut);
    assert_int_equal(simulated("softmax fused f32 rows=4096 cols=16384 seed=1", &cut), 16384);
    assert_true(cut);
    assert_int_equal(simulated("softmax fused f32 rows=1 cols=4194304 seed=1", &cut), 16384);
    assert_int_equal(simulated("elementwise fused f32 n=1073741824 seed=1", &cut), 16384);
    assert_int_equal(simulated("softmax fused f32 rows=1073741824 cols=1 seed=1", &cut), 16384);
    assert_int_equal(simulated("softmax fused f32 rows=0 cols=4096 seed=1", &cut), 0);
    assert_false(cut);
}

static void what_a_child_said_is_read(void **state)
{
    (void)state;
    kf_declared list[2];
    int count;
    assert_int_equal(
        kf_once_said("x\nkfuse step a_b 1 2 3 1 4\nkfuse step c 5 6 7 0 0\nkfuse step d "
                     "1 1 1 1 1\nkfuse status 0 \n",
                     list, 2, &count),
        KF_OK);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].entry, "a_b");
    assert_int_equal(list[0].cost.bytes_requested, 3);
    assert_true(list[0].cost.exact && !list[1].cost.exact);
    assert_int_equal(list[0].edge, 4);
    assert_int_equal(kf_once_said("kfuse status 2 needs clusters\nmore", list, 2, &count),
                     KF_UNSUPPORTED);
    assert_string_equal(kf_error(), "needs clusters");
    assert_int_equal(kf_once_said("nothing", list, 2, &count), KF_DEVICE_FAILED);
    assert_int_equal(kf_once_said(NULL, list, 2, &count), KF_DEVICE_FAILED);
    assert_int_equal(kf_once_said("kfuse status 99 x\n", list, 2, &count), KF_DEVICE_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_read),
        cmocka_unit_test(what_is_no_table_is_passed_over),
        cmocka_unit_test(a_complaint_names_the_remedy),
        cmocka_unit_test(the_reason_of_an_empty_column_is_told),
        cmocka_unit_test(a_profiler_is_run_on_the_case),
        cmocka_unit_test(a_child_reads_its_input_and_settings),
        cmocka_unit_test(large_shapes_are_cut),
        cmocka_unit_test(what_a_child_said_is_read),
    };
    char path[8192], profiler[80];
    if (!mkdtemp(folder))
        return 1;

    snprintf(path, sizeof path, "%s:/usr/bin:/bin", folder);
    setenv("PATH", path, 1);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(profiler, sizeof profiler, "%s/" PROFILER, folder);
    unlink(profiler);
    rmdir(folder);
    return failed ? 1 : 0;
}
