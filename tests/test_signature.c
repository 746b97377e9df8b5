/* label: simulate */
/* each: op */
/* timeout: 1800 */
/* Declared = executed: Oclgrind's instruction histogram of the real kernel against the plan's
 * declared cost, launch by launch, for every OpenCL kernel, variant and dtype. A wrong kernel or a
 * wrong declaration fails.
 *
 *   bytes written      = declared
 *   bytes read         moved <= executed <= requested (+ declared edge); built without optimisation
 * = requested special functions  = declared (<= where the plan says that they depend on the data)
 *   launches           the plan's steps, by name and order
 *
 * The simulator prints the histogram to stdout, so every pass runs in a child: this program again
 * with --child CASES. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../harness/histogram.h"
#include "case_rig.h"
#include "signature_cases.h"

enum { MAX_CASES = 1024, LINE = 512 };
#define VIEWS "rows=3 cols=1000"

static char cases[MAX_CASES][LINE];
static int case_count, refused;

/* ---- the child ---------------------------------------------------------------------------- */

static int child(const char *path)
{
    kf_device *device;
    kf_queue *queue;
    char line[LINE];
    FILE *file = fopen(path, "r");
    if (!file ||
        kf_device_open(&(kf_device_desc){.backend = "opencl", .no_cache = true}, &device) !=
            KF_OK ||
        kf_queue_open(device, NULL, &queue) != KF_OK) {
        fprintf(stderr, "child: %s\n", kf_error());
        return 1;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (case_run(line, device, queue) != KF_OK) {
            fprintf(stderr, "child: %s: %s\n", line, kf_error());
            return 1;
        }
    }
    fclose(file);
    kf_queue_close(queue);
    kf_device_close(device);
    return 0;
}

/* ---- the parent --------------------------------------------------------------------------- */

static kf_target target;

typedef enum pass { BUILT, UNOPTIMISED, CHECKED } pass;

static void simulator_options(pass how, const char *log)
{
    static const char *const checks[] = {"OCLGRIND_DATA_RACES", "OCLGRIND_UNINITIALIZED",
                                         "OCLGRIND_UNIFORM_WRITES", "OCLGRIND_CHECK_API"};
    for (int i = 0; i < 4; i++)
        setenv(checks[i], how == CHECKED ? "1" : "0", 1);
    setenv("OCLGRIND_INST_COUNTS", how == CHECKED ? "0" : "1", 1);
    setenv("OCLGRIND_LOG", log, 1);
    setenv("OCLGRIND_BUILD_OPTIONS", how == BUILT ? "" : "-cl-opt-disable", 1);
}

/* Oclgrind 21.10 knows no integer constant of more than 64 bits, which clang makes of packed 16-bit
 * vectors that are added, and crashes. These are counted without optimisation only. */
static bool crashes_optimised(const char *text)
{
    char op[64] = "", variant[64] = "", dtype[8] = "";
    sscanf(text, "%63s %63s %7s", op, variant, dtype);
    return (!strcmp(op, "add_layer_norm") || !strcmp(op, "add_rms_norm")) &&
           !strcmp(variant, "fused") && strcmp(dtype, "f32") != 0;
}

/* Runs `count` cases from `first` on in a child; its stdout, the histogram, is what is returned. */
static FILE *simulate(pass how, int first, int count, const char *log)
{
    char list[] = "/tmp/kfuse-cases-XXXXXX", histogram[] = "/tmp/kfuse-histogram-XXXXXX",
         self[4096];
    const int list_file = mkstemp(list), out = mkstemp(histogram);
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    int status = 1;
    assert_true(list_file >= 0 && out >= 0 && length > 0);
    self[length] = 0;
    FILE *file = fdopen(list_file, "w");
    for (int i = first; i < first + count; i++)
        if (how != BUILT || !crashes_optimised(cases[i]))
            fprintf(file, "%s\n", cases[i]);
    fclose(file);
    const pid_t pid = fork();
    if (pid == 0) {
        simulator_options(how, log);
        dup2(out, 1);
        execl(self, self, "--child", list, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    unlink(list);
    unlink(histogram);
    if (status)
        fail_msg("the child of %s ended with %d", cases[first], status);
    lseek(out, 0, SEEK_SET);
    return fdopen(out, "r");
}

static const char *disagreement(const kf_step *step, const kf_cost *declared, const kf_executed *e,
                                bool optimised)
{
    static char text[400];
    return kf_histogram_disagreement(step, declared, e, optimised, text, sizeof text);
}

static void compare_all(pass how)
{
    kf_histogram histogram = {.file = simulate(how, 0, case_count, "/dev/null")};
    int launches = 0, bad = 0, left = 0;
    char first[LINE + 400] = "";
    for (int i = 0; i < case_count; i++) {
        kf_plan *plan;
        if (how == BUILT && crashes_optimised(cases[i])) {
            left++;
            continue;
        }
        assert_int_equal(case_plan(cases[i], &target, &plan), KF_OK);
        for (int s = 0; s < plan->step_count; s++, launches++) {
            kf_executed e;
            if (!kf_histogram_next(&histogram, &e))
                fail_msg("the histogram ends before %s, step %d", cases[i], s);
            const kf_cost declared = kf_step_cost(plan, s);
            const char *wrong = disagreement(&plan->step[s], &declared, &e, how == BUILT);
            if (*wrong) {
                fprintf(stderr, "%s: %s\n", cases[i], wrong);
                if (!bad++)
                    snprintf(first, sizeof first, "%s: %s", cases[i], wrong);
            }
        }
        kf_plan_close(plan);
    }
    kf_executed e;
    assert_false(kf_histogram_next(&histogram, &e)); /* nothing ran that the plans do not have */
    fclose(histogram.file);
    fprintf(stderr, "%d launches of %d cases compared, %d cases refused\n", launches,
            case_count - left, refused);
    assert_true(launches > 0);
    if (bad)
        fail_msg("%d launches disagree; the first: %s", bad, first);
}

/* Mistake: traffic or special functions that the plan does not declare, in the kernel as it is
 * built. */
static void executed_traffic_is_the_declared_one(void **state)
{
    (void)state;
    compare_all(BUILT);
}

/* Mistake: a pass too few or too many over the data that the optimiser hides. */
static void requested_traffic_is_exact_without_optimisation(void **state)
{
    (void)state;
    compare_all(UNOPTIMISED);
}

/* f32 at all shapes, bf16 at small ones; f16, which moves what bf16 does, with KFUSE_LONG=1. */
static bool checked(const char *text)
{
    kf_case c;
    if (getenv("KFUSE_LONG"))
        return true;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    return c.dtype == KF_F32 || (c.dtype == KF_BF16 && c.dim[0] * c.dim[1] <= 2048);
}

/* Mistake: a value that depends on memory which nothing wrote, private arrays too. Not optimised,
 * because the check of Oclgrind 21.10 knows no `freeze`, and one case a process, because it forgets
 * what is initialised in a buffer that takes the place of an older one. That takes most of this
 * program's time, up to 80 s for a case: see checked(). */
static void nothing_depends_on_what_was_never_written(void **state)
{
    (void)state;
    char log[] = "/tmp/kfuse-log-XXXXXX", line[LINE] = "";
    const int place = mkstemp(log);
    int left = 0;
    assert_true(place >= 0);
    close(place);
    for (int i = 0; i < case_count; i++) {
        if (!checked(cases[i])) {
            left++;
            continue;
        }
        unlink(log);
        fclose(simulate(CHECKED, i, 1, log));
        FILE *file = fopen(log, "r");
        if (!file)
            fail_msg("%s: no log: the simulator was never reached", cases[i]);
        while (fgets(line, sizeof line, file) && line[0] == '\n')
            line[0] = 0;
        fclose(file);
        if (line[0])
            fail_msg("%s: %s", cases[i], line);
    }
    fprintf(stderr, "%d cases checked, %d left to KFUSE_LONG=1\n", case_count - left, left);
    unlink(log);
}

/* The tester tested: one store, one exp, one pass more or less must be seen. */
static void planted_disagreements_are_seen(void **state)
{
    (void)state;
    const kf_step step = {.entry = "a_b", .use_count = 0};
    const kf_cost declared = {.bytes_read = 100,
                              .bytes_requested = 200,
                              .bytes_written = 60,
                              .specials = 7,
                              .exact = true};
    const kf_executed right = {.entry = "a_b", .read = 200, .written = 60, .specials = 7};
    kf_executed e = right;
    assert_string_equal(disagreement(&step, &declared, &e, false), "");
    e.read = 100;
    assert_string_equal(disagreement(&step, &declared, &e, true), "");
    assert_string_not_equal(disagreement(&step, &declared, &e, false), ""); /* a pass too few */
    e = right, e.read += 4;
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
    e = right, e.written += 4;
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
    e = right, e.written -= 4;
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
    e = right, e.specials++;
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
    e = right, strcpy(e.entry, "a_c");
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
    e = (kf_executed){0};
    kf_histogram_line("      32 - call _Z10vload_halfmPU3AS1KDh()", &e);
    kf_histogram_line("       2 - call _Z7vstore4Dv4_fmPU3AS1f()", &e);
    kf_histogram_line("      32 - load global (576 bytes)", &e);
    kf_histogram_line("      32 - load local (128 bytes)", &e);
    kf_histogram_line("       8 - call _Z3expDv4_f()", &e);
    kf_histogram_line("       3 - fdiv", &e);
    assert_int_equal(e.read, 64 + 576);
    assert_int_equal(e.written, 32);
    assert_int_equal(e.specials, 35);
    kf_histogram_line("      1 - call _Z21async_work_group_copyPU3AS3fPU3AS1Kfm9ocl_event()", &e);
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
}

static void add_case(const char *text)
{
    kf_plan *plan;
    const kf_status status = case_plan(text, &target, &plan);
    if (status == KF_UNSUPPORTED) {
        refused++;
        return;
    }
    if (status != KF_OK) {
        fprintf(stderr, "%s: %s\n", text, kf_error());
        exit(1);
    }
    kf_plan_close(plan);
    if (case_count < MAX_CASES)
        snprintf(cases[case_count++], LINE, "%s", text);
}

/* Every named value of every attribute beside the usual one. */
static void add_words(const kf_op *op, const char *variant, const char *dtype)
{
    for (int a = 0; a < op->attribute_count; a++) {
        const kf_attribute_decl *decl = &op->attributes[a];
        const char *word = decl->words;
        for (int v = 0; word; v++, word = strchr(word, ' '), word += word != NULL) {
            char text[LINE];
            snprintf(text, sizeof text, "%s %s %s rows=4 cols=257 %s=%d", op->name, variant, dtype,
                     decl->name, v);
            if (v != (int)decl->fallback)
                add_case(text);
        }
    }
}

/* Ops with more dims. */
static void add_heads(const kf_op *op)
{
    for (int v = 0; v < op->variant_count; v++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int i = 0; i < 4; i++) {
                char text[LINE];
                snprintf(text, sizeof text, "%s %s %s %s", op->name, op->variants[v].name,
                         kf_dtype_name((kf_dtype)d), heads[i]);
                add_case(text);
                snprintf(text + strlen(text), sizeof text - strlen(text), " interleaved=1");
                add_case(text);
            }
}

/* The other ways through the kernels, where the variant has them. Not f16, which moves what bf16
 * does: Oclgrind 21.10 crashes on aligned f16 rows with parked vectors when they are optimised. */
static void add_way(const kf_op *op, const kf_variant *variant, const char *way)
{
    static const char *const rows[] = {"rows=5 cols=203", "rows=3 cols=1000"};
    char text[LINE];
    kf_case c;
    bool used = true;
    snprintf(text, sizeof text, "%s %s f32 %s %s", op->name, variant->name, rows[0], way);
    if (kf_case_parse(text, &c) != KF_OK) {
        fprintf(stderr, "%s: %s\n", text, kf_error());
        exit(1);
    }
    for (int k = 0; k < op->knob_count; k++)
        used &= !c.config.set[k] || kf_knob_used(&op->knobs[k], variant->name);
    for (int i = 0; used && i < 4; i++) {
        snprintf(text, sizeof text, "%s %s %s %s %s", op->name, variant->name,
                 kf_dtype_name(i < 2 ? KF_F32 : KF_BF16), rows[i % 2], way);
        add_case(text);
    }
}

/* No optional tensor, and all of them. */
static void add_optional(const kf_op *op)
{
    char all[LINE] = "", text[2 * LINE];
    for (int t = 0, used = 0; t < op->tensor_count; t++)
        if (op->tensors[t].optional)
            used += snprintf(all + used, sizeof all - (size_t)used, "%s%s", used ? "," : "",
                             op->tensors[t].name);
    for (int v = 0; *all && v < op->variant_count; v++)
        for (int i = 0; i < 2; i++) {
            snprintf(text, sizeof text, "%s %s f32 rows=3 cols=37 with=%s", op->name,
                     op->variants[v].name, i ? all : "none");
            add_case(text);
        }
}

/* Two or three groups and a tail; short and long rows; views. */
static void add_op(const kf_op *op)
{
    static const char *const rows[] = {"rows=7 cols=33",   "rows=4 cols=257",      "rows=37 cols=5",
                                       "rows=2 cols=4096", "rows=2 cols=1 seed=3", VIEWS};
    static const char *const flat[] = {"n=1", "n=33", "n=1000", "n=4097"};
    const bool is_flat = kf_op_dim_count(op) == 1;
    for (int v = 0; v < op->variant_count; v++)
        for (int d = KF_F32; d <= KF_BF16; d++) {
            for (int i = 0; i < (is_flat ? 4 : 6); i++) {
                char text[LINE];
                snprintf(text, sizeof text, "%s %s %s %s", op->name, op->variants[v].name,
                         kf_dtype_name((kf_dtype)d), is_flat ? flat[i] : rows[i]);
                if (!is_flat && !strcmp(rows[i], VIEWS))
                    put_views(op, text, sizeof text);
                add_case(text);
            }
            if (!is_flat)
                add_words(op, op->variants[v].name, kf_dtype_name((kf_dtype)d));
        }
    for (int v = 0; v < op->variant_count; v++)
        for (int w = 0; op->ways && op->ways[w]; w++)
            add_way(op, &op->variants[v], op->ways[w]);
    add_optional(op);
    axis_cases(op, add_case);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--child"))
        return child(argv[2]);
    kf_device_info info;
    int count = 0;
    const kf_status status = kf_device_enumerate("opencl", &info, 1, &count);
    if (status != KF_OK || !count || !(info.target.capabilities & KF_CAP_SIMULATOR)) {
        fprintf(stderr, "no simulator: %s\n", count ? info.name : kf_error());
        const char *required = getenv("KFUSE_REQUIRE");
        return required && *required ? 1 : 77;
    }
    target = info.target;
    const char *only = getenv("KFUSE_OP");
    for (int o = 0; kf_ops[o]; o++)
        if (!kf_ops[o]->internal && (!only || !strcmp(only, kf_ops[o]->name)))
            (kf_op_dim_count(kf_ops[o]) <= 2 ? add_op : add_heads)(kf_ops[o]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted_disagreements_are_seen),
        cmocka_unit_test(executed_traffic_is_the_declared_one),
        cmocka_unit_test(requested_traffic_is_exact_without_optimisation),
        cmocka_unit_test(nothing_depends_on_what_was_never_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
