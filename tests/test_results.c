/* label: unit */
/* Result sinks: what is written can be read back, machine formats stay parseable whatever happens,
 * and no time stands beside an output that was not verified. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "results_rig.h"

typedef struct seen {
    int count;
    kf_result row;
    kf_device_info device; /* the row's pointer is good during the call only */
    kf_status answer;
} seen;

static kf_status see(const kf_result *row, void *data)
{
    seen *s = data;
    s->count++;
    s->row = *row;
    s->device = *row->device;
    return s->answer;
}

static bool near(double a, double b)
{
    static const double printed = 5e-15; /* half a unit of the 15 digits that are written */
    return fabs(a - b) <= printed * fabs(b);
}

/* Catches fields that are written and not read, read under another name, or scaled once only. */
static void rows_survive_writing_and_reading(void **state)
{
    static const char *const format[] = {"json", "jsonl"};
    const kf_result row = make_row();
    (void)state;
    for (int f = 0; f < 2; f++) {
        seen s = {0};
        write_rows(spec_of(format[f], "rows"), &row, 2, 0);
        must(kf_results_read(path_of("rows"), see, &s));
        assert_int_equal(s.count, 2);
        assert_memory_equal(&s.row.test, &row.test, sizeof row.test);
        assert_int_equal(s.row.step, -1);
        assert_string_equal(s.row.status, "ok");
        assert_string_equal(s.row.flags, row.flags);
        assert_string_equal(s.row.roof_shape, row.roof_shape);
        assert_string_equal(s.row.timing.path, "graph");
        assert_memory_equal(&s.row.cost, &row.cost, sizeof row.cost);
        assert_true(near(s.row.timing.median, 34.4e-6) && near(s.row.timing.low, 34.2e-6));
        assert_true(near(s.row.timing.high, 34.9e-6) && near(s.row.timing.least, 34.1e-6));
        assert_true(near(s.row.timing.host, 1.5e-6) && near(s.row.timing.sample[2], 35e-6));
        assert_true(s.row.timing.samples == 3 && s.row.timing.sets == 4 && s.row.timing.cold);
        assert_true(near(s.row.roof_bytes_per_second, 4.3e12) && s.row.process == 2);
        assert_true(s.row.verify.passed && s.row.verify.whole && s.row.verify.checked == 1000);
        assert_true(near(s.row.verify.max_error, 1e-7) && near(s.row.verify.max_bound, 3e-7));
        assert_true(near(s.row.verify.worst_ratio, 0.4) && near(s.row.verify.unfused_ratio, 0.25));
        assert_memory_equal(&s.device, &gpu, sizeof gpu);
    }
}

/* Catches a size behind the axis that is lost, or comes back as a contradiction. */
static void an_axis_survives_writing_and_reading(void **state)
{
    kf_result row = make_row();
    seen s = {0};
    kf_problem *problem;
    (void)state;
    must(kf_case_parse("softmax fused bf16 rows=4 cols=5 inner=6 stride.x=8 seed=3", &row.test));
    write_rows(spec_of("jsonl", "rows"), &row, 1, 0);
    must(kf_results_read(path_of("rows"), see, &s));
    assert_int_equal(s.row.test.inner, 6);
    must(kf_problem_open("softmax", &problem));
    must(kf_case_problem(&s.row.test, problem));
    must(kf_problem_derive(problem));
    assert_true(problem->dim[0] == 4 && problem->dim[1] == 5 && problem->inner == 6);
    assert_true(problem->step[0] == 8 && problem->step[1] == 6);
    kf_problem_close(problem);
}

/* Catches a field missing from the published list (interface.md 3.4), and context without its
 * parts. */
static void json_has_every_published_field(void **state)
{
    static const char *const field[] = {"op",
                                        "variant",
                                        "backend",
                                        "device",
                                        "dtype",
                                        "shape",
                                        "attributes",
                                        "knobs",
                                        "cache",
                                        "path",
                                        "process",
                                        "status",
                                        "reason",
                                        "flags",
                                        "time_ns",
                                        "samples_ns",
                                        "host_ns",
                                        "launches",
                                        "bytes_min",
                                        "bytes_requested",
                                        "bytes_executed",
                                        "bytes_measured",
                                        "scratch_bytes",
                                        "flops",
                                        "roof_gbs",
                                        "max_abs_err",
                                        "tolerance",
                                        "worst_err_over_bound",
                                        "clock_mhz",
                                        "energy_j"};
    static const char *const part[] = {"date", "host", "kfuse", "argv", "os", "cpu", "devices"};
    const kf_result row = make_row();
    (void)state;
    write_rows(spec_of("json", "fields"), &row, 1, 0);
    json_t *json = load("fields"), *result = json_array_get(json_object_get(json, "results"), 0);
    assert_string_equal(json_string_value(json_object_get(json, "schema_version")), "1.0");
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
        if (!json_object_get(result, field[i]))
            fail_msg("the field '%s' is missing", field[i]);
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
        if (!json_object_get(json_object_get(json, "context"), part[i]))
            fail_msg("the context lacks '%s'", part[i]);
    assert_int_equal(json_integer_value(json_object_get(result, "bytes_min")), 134217728);
    assert_true(json_is_null(json_object_get(result, "bytes_executed")));
    assert_true(json_is_null(json_object_get(result, "reason")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(result, "time_ns"), "n")),
                     3);
    json_decref(json);
}

/* Catches folders of the machine that measured among what is published with the rows. */
static void of_absolute_paths_the_name_stays(void **state)
{
    static const char *const word[] = {"kfuse", "bench", NULL, "jsonl:rows.jsonl", "", "a/b"};
    const kf_result row = make_row();
    (void)state;
    write_rows(spec_of("json", "paths"), &row, 1, 0);
    json_t *json = load("paths"), *argv = json_object_get(json_object_get(json, "context"), "argv");
    assert_int_equal(json_array_size(argv), 6);
    for (size_t i = 0; i < 6; i++)
        if (word[i])
            assert_string_equal(json_string_value(json_array_get(argv, i)), word[i]);
    json_decref(json);
}

/* Catches a time printed for an output that is wrong or was never judged, in any format. */
static void no_time_without_a_verified_output(void **state)
{
    static const char *const status[] = {"wrong", "ok", "unsupported", "error", "skipped"};
    (void)state;
    for (int i = 0; i < 5; i++) {
        kf_result row = make_row();
        row.status = status[i];
        strcpy(row.reason, i == 1 ? "" : "because");
        row.verify.passed = i > 1; /* "ok" with a failed verdict is a caller's mistake */
        write_rows(spec_of("json", "wrong"), &row, 1, 1);
        json_t *json = load("wrong"), *result = json_array_get(json_object_get(json, "results"), 0);
        assert_true(json_is_null(json_object_get(result, "time_ns")));
        assert_true(json_is_null(json_object_get(result, "samples_ns")));
        json_decref(json);
        write_rows(spec_of("table", "wrong.txt"), &row, 1, 1);
        char *text = text_of("wrong.txt");
        assert_null(strstr(text, "34.4"));
        assert_non_null(strstr(text, i == 1 ? "ok" : "because"));
        free(text);
    }
}

/* Catches NaN and infinity in JSON, which no parser reads, and names that are no UTF-8. */
static void json_holds_no_nan(void **state)
{
    kf_result row = make_row();
    kf_device_info odd = gpu;
    (void)state;
    strcpy(odd.name, "GPU \xb5");
    row.device = &odd;
    row.timing.median = NAN;
    row.timing.sample[1] = INFINITY;
    row.verify.max_error = INFINITY;
    row.verify.worst_ratio = NAN;
    write_rows(spec_of("json", "nan"), &row, 1, 0);
    json_t *json = load("nan"), *result = json_array_get(json_object_get(json, "results"), 0);
    assert_true(json_is_null(json_object_get(result, "max_abs_err")));
    assert_true(json_is_null(json_object_get(json_object_get(result, "time_ns"), "median")));
    assert_true(json_is_null(json_array_get(json_object_get(result, "samples_ns"), 1)));
    assert_string_equal(json_string_value(json_object_get(result, "device")), "GPU ?");
    json_decref(json);
}

/* Catches an unaligned table, and numbers without their unit. */
static void table_is_aligned(void **state)
{
    kf_result rows[3] = {make_row(), make_row(), make_row()};
    (void)state;
    rows[1].step = 1;
    strcpy(rows[1].step_entry, "some_kernel");
    rows[2].status = "unsupported";
    strcpy(rows[2].reason, "no clusters here");
    rows[2].verify.checked = 0;
    kf_sink *sink = open_sink(spec_of("table", "table.txt"));
    for (int i = 0; i < 3; i++)
        must(kf_sink_row(sink, &rows[i]));
    must(kf_sink_close(sink, 0));
    char *text = text_of("table.txt"), *line = text;
    const long status_at = strstr(text, "STATUS") - text;
    int lines = 0;
    for (char *end; (end = strchr(line, '\n')); line = end + 1, lines++)
        assert_true(end - line > status_at && line[status_at - 1] == ' ' && line[status_at] != ' ');
    assert_int_equal(lines, 4);
    assert_non_null(strstr(text, "34.4 us  34.2..34.9"));
    assert_non_null(strstr(text, "134.2"));
    assert_non_null(strstr(text, "3902"));
    assert_non_null(strstr(text, "91%"));
    assert_non_null(strstr(text, "some_kernel"));
    assert_non_null(strstr(text, "unsupported: no clusters here"));
    free(text);
}

static int entries(void)
{
    DIR *dir = opendir(folder);
    int count = 0;
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Catches outputs that survive an interruption, and jsonl rows that do not. */
static void interruption_keeps_complete_lines_only(void **state)
{
    const kf_result row = make_row();
    seen s = {0};
    (void)state;
    const int before = entries();
    write_rows(spec_of("json", "gone.json"), &row, 1, 130);
    write_rows(spec_of("table", "gone.txt"), &row, 1, 130);
    assert_int_equal(entries(), before);
    write_rows(spec_of("jsonl", "kept.jsonl"), &row, 2, 130);
    must(kf_results_read(path_of("kept.jsonl"), see, &s));
    assert_int_equal(s.count, 2);
    char *text = text_of("kept.jsonl");
    assert_null(strstr(text, "\"record\":\"end\""));
    free(text);
    write_rows(spec_of("jsonl", "kept.jsonl"), &row, 2, 0);
    text = text_of("kept.jsonl");
    assert_non_null(strstr(text, "{\"exit\":0,\"record\":\"end\"}\n"));
    free(text);
}

/* Catches a command that failed and took the results of the last one with it, or left a title
 * without rows; jsonl is emptied by its first line only. */
static void failure_leaves_files_as_they_were(void **state)
{
    static const char *const format[] = {"json", "table", "jsonl"};
    const kf_result row = make_row();
    kf_sink *sink;
    (void)state;
    for (int f = 0; f < 3; f++) {
        write_rows(spec_of(format[f], "before"), &row, 1, 0);
        char *before = text_of("before");
        const int count = entries();
        must(kf_sink_open(spec_of(format[f], "before"), 0, NULL, &sink));
        if (f < 2)
            must(kf_sink_row(sink, &row));
        must(kf_sink_close(sink, 4));
        char *after = text_of("before");
        assert_string_equal(after, before);
        must(kf_sink_open(spec_of(format[f], "new"), 0, NULL, &sink));
        must(kf_sink_close(sink, 5));
        assert_int_equal(entries(), count);
        free(before);
        free(after);
        remove(path_of("before"));
    }
}

static void append(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "ab");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

/* Catches readers that choke on a torn last line, on what a newer program adds, or on files put one
 * after the other; and one that passes over garbage. */
static void reading_is_tolerant_where_it_must_be(void **state)
{
    const kf_result row = make_row();
    seen s = {0};
    (void)state;
    write_rows(spec_of("jsonl", "torn.jsonl"), &row, 2, 130);
    append(
        "torn.jsonl",
        "{\"record\":\"news\",\"what\":1}\n\n{\"record\":\"result\",\"op\":\"of_the_future\"}\n");
    append("torn.jsonl", "{\"record\":\"run\",\"context\":{}}\n{\"record\":\"result\",\"op\":\"");
    must(kf_results_read(path_of("torn.jsonl"), see, &s));
    assert_int_equal(s.count, 2);
    assert_non_null(strstr(kf_error(), "torn"));
    append("torn.jsonl", "\n{\"record\":\"end\"}\n");
    assert_int_equal(kf_results_read(path_of("torn.jsonl"), see, &s), KF_IO);
    assert_non_null(strstr(kf_error(), "line 8"));
    assert_int_equal(kf_results_read(path_of("absent"), see, &s), KF_IO);
    assert_int_equal(kf_results_read(folder, see, &s), KF_IO);
    write_rows(spec_of("json", "stop.json"), &row, 3, 0);
    s = (seen){.answer = KF_WRONG_RESULT};
    assert_int_equal(kf_results_read(path_of("stop.json"), see, &s), KF_WRONG_RESULT);
    assert_int_equal(s.count, 1);
}

/* Catches unknown formats and unwritable files found only after hours of measuring. */
static void bad_sinks_are_refused_when_opened(void **state)
{
    static const struct {
        const char *spec;
        kf_status status;
        const char *why;
    } bad[] = {{"jsno", KF_INVALID, "did you mean 'json'"},
               {"csv", KF_INVALID, "table, json or jsonl"},
               {"", KF_INVALID, "table"},
               {"json:", KF_INVALID, "no file"},
               {"json:/no/such/folder/x", KF_IO, "/no/such/folder/x"},
               {"jsonl:/no/such/folder/x", KF_IO, "/no/such/folder/x"},
               {"table:/proc/x", KF_IO, "/proc/x"}};
    kf_sink *sink;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(kf_sink_open(bad[i].spec, 0, NULL, &sink), bad[i].status);
        assert_null(sink);
        if (!strstr(kf_error(), bad[i].why))
            fail_msg("'%s' does not say '%s'", kf_error(), bad[i].why);
    }
    assert_int_equal(kf_sink_check("jsno"), KF_INVALID); /* the same, with nothing opened */
    assert_int_equal(kf_sink_check("json:/no/such/folder/x"), KF_OK);
    const kf_result row = make_row();
    must(kf_sink_open("jsonl:/dev/full", 0, NULL, &sink));
    assert_int_equal(kf_sink_row(sink, &row), KF_IO);
    (void)kf_sink_close(sink, 5);
    must(kf_sink_close(NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_survive_writing_and_reading),
        cmocka_unit_test(an_axis_survives_writing_and_reading),
        cmocka_unit_test(json_has_every_published_field),
        cmocka_unit_test(of_absolute_paths_the_name_stays),
        cmocka_unit_test(no_time_without_a_verified_output),
        cmocka_unit_test(json_holds_no_nan),
        cmocka_unit_test(table_is_aligned),
        cmocka_unit_test(interruption_keeps_complete_lines_only),
        cmocka_unit_test(failure_leaves_files_as_they_were),
        cmocka_unit_test(reading_is_tolerant_where_it_must_be),
        cmocka_unit_test(bad_sinks_are_refused_when_opened),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder) ? 1 : 0;
}
