/* label: simulate */
/* timeout: 900 */
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
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/inputs.h"
#include "histogram.h"

enum { MAX_CASES = 1024 };

static char cases[MAX_CASES][LINE];
static int case_count, refused;

/* ---- declared against executed ------------------------------------------------------------ */

static int64_t edge_bytes(const kf_step *step)
{
    int64_t sum = 0;
    for (int i = 0; i < step->use_count; i++)
        sum += step->use[i].kind == KF_USE_READ ? step->use[i].edge : 0;
    return sum;
}

/* "" or what disagrees. */
static const char *disagreement(const kf_step *step, const kf_cost *declared, const executed *e,
                                bool optimised)
{
    static char text[400];
    const int64_t most = declared->bytes_requested + edge_bytes(step);
    const int64_t least = !declared->exact ? 0
                          : optimised      ? declared->bytes_read
                                           : declared->bytes_requested;
    text[0] = 0;
    if (strcmp(e->entry, step->entry))
        snprintf(text, sizeof text, "kernel %s ran where the plan has %s", e->entry, step->entry);
    else if (e->unknown[0])
        snprintf(text, sizeof text, "%s: a call with a global pointer that nobody weighs: %s",
                 e->entry, e->unknown);
    else if (e->written != declared->bytes_written)
        snprintf(text, sizeof text, "%s wrote %ld bytes, declared are %ld", e->entry, e->written,
                 declared->bytes_written);
    else if (e->read < least || e->read > most)
        snprintf(text, sizeof text, "%s read %ld bytes, declared are %ld to %ld", e->entry, e->read,
                 least, most);
    else if (step->work.at_most ? e->specials > declared->specials
                                : e->specials != declared->specials)
        snprintf(text, sizeof text, "%s called %ld special functions, declared are %s%ld", e->entry,
                 e->specials, step->work.at_most ? "at most " : "", declared->specials);
    return text;
}

static kf_status plan_of(const char *text, const kf_target *target, kf_plan **plan)
{
    kf_case c;
    kf_problem *problem = NULL;
    char knobs[512] = "";
    kf_status status = kf_case_parse(text, &c);
    if (status == KF_OK)
        status = kf_problem_open(c.op->name, &problem);
    if (status == KF_OK)
        status = kf_case_problem(&c, problem);
    for (int i = 0, used = 0; status == KF_OK && i < c.op->knob_count; i++)
        if (c.config.set[i])
            used += snprintf(knobs + used, sizeof knobs - (size_t)used, "%s=%ld ",
                             c.op->knobs[i].name, c.config.knob[i]);
    if (status == KF_OK)
        status = kf_plan_open(problem, &(kf_plan_desc){.variant = c.variant->name, .knobs = knobs},
                              target, plan);
    kf_problem_close(problem);
    return status;
}

/* ---- the child ---------------------------------------------------------------------------- */

static kf_status run_case(const char *text, kf_device *device, kf_queue *queue)
{
    kf_plan *plan = NULL;
    kf_exec *exec = NULL;
    kf_case c;
    kf_buffer *buffer[KF_MAX_TENSORS] = {NULL};
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    kf_status status = plan_of(text, kf_device_target(device), &plan);
    if (status == KF_OK)
        status = kf_case_parse(text, &c);
    for (int i = 0; status == KF_OK && i < plan->problem.op->tensor_count; i++) {
        const kf_tensor *t = &plan->problem.tensor[i];
        int64_t extent;
        if (!t->dtype || (status = kf_tensor_extent(t, &extent)) != KF_OK)
            continue;
        const size_t skip = (size_t)(c.offset[i] * kf_dtype_bytes(t->dtype));
        const size_t bytes = (size_t)(extent * kf_dtype_bytes(t->dtype));
        void *data = calloc(1, bytes);
        kf_inputs_fill(t, data, KF_DIST_NORMAL, 5, i);
        status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = skip + bytes}, &buffer[i]);
        if (status == KF_OK)
            status = kf_buffer_write(queue, buffer[i], skip, data, bytes);
        binding[i] = (kf_binding){.buffer = buffer[i], .offset = c.offset[i]};
        free(data);
    }
    if (status == KF_OK)
        status = kf_prepare(plan, device, &exec);
    if (status == KF_OK)
        status = kf_run(exec, queue, binding, NULL);
    if (status == KF_OK)
        status = kf_queue_finish(queue);
    kf_exec_close(exec);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(buffer[i]);
    kf_plan_close(plan);
    return status;
}

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
        if (run_case(line, device, queue) != KF_OK) {
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

static FILE *simulate(bool optimised)
{
    char list[] = "/tmp/kfuse-cases-XXXXXX", histogram[] = "/tmp/kfuse-histogram-XXXXXX",
         self[4096];
    const int list_file = mkstemp(list), out = mkstemp(histogram);
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    int status = 1;
    assert_true(list_file >= 0 && out >= 0 && length > 0);
    self[length] = 0;
    FILE *file = fdopen(list_file, "w");
    for (int i = 0; i < case_count; i++)
        fprintf(file, "%s\n", cases[i]);
    fclose(file);
    const pid_t pid = fork();
    if (pid == 0) {
        static const char *const off[] = {"OCLGRIND_DATA_RACES", "OCLGRIND_UNINITIALIZED",
                                          "OCLGRIND_UNIFORM_WRITES", "OCLGRIND_CHECK_API"};
        for (int i = 0; i < 4; i++)
            setenv(off[i], "0", 1); /* the conformance lane checks; here only counts are wanted */
        setenv("OCLGRIND_INST_COUNTS", "1", 1);
        setenv("OCLGRIND_LOG", "/dev/null", 1);
        if (!optimised)
            setenv("OCLGRIND_BUILD_OPTIONS", "-cl-opt-disable", 1);
        dup2(out, 1);
        execl(self, self, "--child", list, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    unlink(list);
    unlink(histogram);
    assert_int_equal(status, 0);
    lseek(out, 0, SEEK_SET);
    return fdopen(out, "r");
}

static void compare_all(bool optimised)
{
    FILE *file = simulate(optimised);
    int launches = 0, bad = 0;
    char first[LINE + 400] = "";
    for (int i = 0; i < case_count; i++) {
        kf_plan *plan;
        assert_int_equal(plan_of(cases[i], &target, &plan), KF_OK);
        for (int s = 0; s < plan->step_count; s++, launches++) {
            executed e;
            if (!next_launch(file, &e))
                fail_msg("the histogram ends before %s, step %d", cases[i], s);
            const kf_cost declared = kf_step_cost(plan, s);
            const char *wrong = disagreement(&plan->step[s], &declared, &e, optimised);
            if (*wrong) {
                fprintf(stderr, "%s: %s\n", cases[i], wrong);
                if (!bad++)
                    snprintf(first, sizeof first, "%s: %s", cases[i], wrong);
            }
        }
        kf_plan_close(plan);
    }
    executed e;
    assert_false(next_launch(file, &e)); /* nothing ran that the plans do not have */
    fclose(file);
    fprintf(stderr, "%d launches of %d cases compared, %d cases refused\n", launches, case_count,
            refused);
    assert_true(launches > 0);
    if (bad)
        fail_msg("%d launches disagree; the first: %s", bad, first);
}

/* Mistake: traffic or special functions that the plan does not declare, in the kernel as it is
 * built. */
static void executed_traffic_is_the_declared_one(void **state)
{
    (void)state;
    compare_all(true);
}

/* Mistake: a pass too few or too many over the data that the optimiser hides. */
static void requested_traffic_is_exact_without_optimisation(void **state)
{
    (void)state;
    compare_all(false);
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
    const executed right = {.entry = "a_b", .read = 200, .written = 60, .specials = 7};
    executed e = right;
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
    e = (executed){0};
    count_line("      32 - call _Z10vload_halfmPU3AS1KDh()", &e);
    count_line("       2 - call _Z7vstore4Dv4_fmPU3AS1f()", &e);
    count_line("      32 - load global (576 bytes)", &e);
    count_line("      32 - load local (128 bytes)", &e);
    count_line("       8 - call _Z3expDv4_f()", &e);
    count_line("       3 - fdiv", &e);
    assert_int_equal(e.read, 64 + 576);
    assert_int_equal(e.written, 32);
    assert_int_equal(e.specials, 35);
    count_line("      1 - call _Z21async_work_group_copyPU3AS3fPU3AS1Kfm9ocl_event()", &e);
    assert_string_not_equal(disagreement(&step, &declared, &e, true), "");
}

static void add_case(const char *text)
{
    kf_plan *plan;
    const kf_status status = plan_of(text, &target, &plan);
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

/* Two or three groups and a tail; short and long rows; padded rows and odd bases. */
static void add_op(const kf_op *op)
{
    static const char *const rows[] = {
        "rows=7 cols=33",
        "rows=4 cols=257",
        "rows=37 cols=5",
        "rows=2 cols=4096",
        "rows=3 cols=1000 stride.x=1003 stride.y=1001 offset.x=1 offset.y=2",
        "rows=2 cols=1 seed=3"};
    static const char *const flat[] = {"n=1", "n=33", "n=1000", "n=4097"};
    const bool is_flat = kf_op_dim_count(op) == 1;
    for (int v = 0; v < op->variant_count; v++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            for (int i = 0; i < (is_flat ? 4 : 6); i++) {
                char text[LINE];
                snprintf(text, sizeof text, "%s %s %s %s", op->name, op->variants[v].name,
                         kf_dtype_name((kf_dtype)d), is_flat ? flat[i] : rows[i]);
                add_case(text);
            }
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
    for (int o = 0; kf_ops[o]; o++)
        if (!kf_ops[o]->internal && kf_op_dim_count(kf_ops[o]) <= 2)
            add_op(kf_ops[o]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planted_disagreements_are_seen),
        cmocka_unit_test(executed_traffic_is_the_declared_one),
        cmocka_unit_test(requested_traffic_is_exact_without_optimisation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
