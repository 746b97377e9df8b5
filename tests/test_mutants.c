/* label: opencl simulate */
/* timeout: 1800 */
/* Planted faults: kernels that are wrong in one place, each of which some tier must catch, else
 * that tier proves nothing. tests/mutants/ holds them; the tiers are
 *   value      kf_verify on PoCL
 *   simulate   Oclgrind's log of races, bounds and uninitialised reads
 *   signature  Oclgrind's instruction counts against the plan's declared cost
 * The right kernels pass the same judges on the same cases first. Every judgement is made in a
 * child, this program again with --judge: a wrong kernel may take the process with it. A mutant
 * meets the tiers that must catch it; with KFUSE_LONG=1 the others too, for the table.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "../harness/histogram.h"
#include "../harness/verify.h"
#include "case_rig.h"
#include "mutants.h"

enum { VALUE, SIMULATE, SIGNATURE, TIERS, PASSED = 0, CAUGHT = 10, BROKEN = 20 };

static const char *const tier_names[] = {"value", "simulate", "signature"};
static mutant mutants[MAX_MUTANTS];
static int mutant_count;
static bool have[TIERS];
static kf_target simulator;
static char folder[] = "/tmp/kfuse-mutants-XXXXXX", kernels[64], log_path[64], counts_path[64];

typedef struct verdict {
    bool asked;
    int result;
    char why[300];
} verdict;

static verdict verdicts[MAX_MUTANTS][TIERS];

/* ---- the child ------------------------------------------------------------------------------ */

static int broken(const char *text)
{
    printf("%s: %s\n", text, kf_error());
    return BROKEN;
}

static int child_verify(const char *text, const char *inputs, kf_device *device, kf_queue *queue)
{
    kf_case c;
    kf_plan *plan;
    if (kf_case_parse(text, &c) != KF_OK ||
        case_plan(text, kf_device_target(device), &plan) != KF_OK)
        return broken(text);
    int result = PASSED;
    for (int d = 0; result == PASSED && d < KF_DIST_COUNT; d++) {
        kf_verify_options options = {.distribution = (kf_distribution)d, .seed = c.seed};
        kf_verify_report report;
        memcpy(options.offset, c.offset, sizeof options.offset);
        if (!kf_listed(inputs, kf_distribution_name((kf_distribution)d)))
            continue;
        if (kf_verify(plan, device, queue, &options, &report) != KF_OK)
            result = broken(text);
        else if (!report.passed)
            result = CAUGHT, printf("%s\n", report.reason);
    }
    kf_plan_close(plan);
    return result;
}

/* Lines of the file: "inputs" TAB "case". */
static int child(const char *tier, const char *path)
{
    kf_device *device;
    kf_queue *queue;
    char line[512];
    int result = PASSED;
    const bool value = !strcmp(tier, tier_names[VALUE]);
    const kf_device_desc desc = {.backend = "opencl", .read_kernels = true, .no_cache = true};
    FILE *file = fopen(path, "r");
    if (!file || kf_device_open(&desc, &device) != KF_OK ||
        kf_queue_open(device, NULL, &queue) != KF_OK)
        return broken(tier);
    while (result == PASSED && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *text = strchr(line, '\t');
        *text++ = 0;
        if (value)
            result = child_verify(text, line, device, queue);
        else if (case_run(text, device, queue) != KF_OK)
            result = (fprintf(stderr, "%s: %s\n", text, kf_error()), BROKEN);
    }
    fclose(file);
    kf_queue_close(queue);
    kf_device_close(device);
    return result;
}

/* ---- the parent ----------------------------------------------------------------------------- */

static void set_device(int tier)
{
    static const char *const checks[] = {"OCLGRIND_DATA_RACES", "OCLGRIND_UNINITIALIZED",
                                         "OCLGRIND_UNIFORM_WRITES", "OCLGRIND_CHECK_API"};
    setenv("KFUSE_KERNELS", kernels, 1);
    setenv("OCL_ICD_VENDORS",
           tier == VALUE ? KF_BUILD_DIR "/icd/pocl" : KF_BUILD_DIR "/icd/oclgrind", 1);
    if (tier == VALUE)
        return;
    for (int i = 0; i < 4; i++)
        setenv(checks[i], tier == SIMULATE ? "1" : "0", 1);
    setenv("OCLGRIND_LOG", log_path, 1);
    setenv("OCLGRIND_INST_COUNTS", tier == SIGNATURE ? "1" : "0", 1);
    /* its check of uninitialised memory knows no `freeze`, which only the optimiser writes */
    setenv("OCLGRIND_BUILD_OPTIONS", tier == SIMULATE ? "-cl-opt-disable" : "", 1);
}

static int run_child(int tier, const char *list)
{
    char self[PATH_MAX];
    int status = 0;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = 0;
    unlink(log_path);
    const pid_t pid = fork();
    if (pid == 0) {
        const int out = open(counts_path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
        set_device(tier);
        dup2(out, 1);
        execl(self, self, "--judge", tier_names[tier], list, (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void first_line(const char *path, char *line, size_t bytes)
{
    FILE *file = fopen(path, "r");
    line[0] = 0;
    while (file && fgets(line, (int)bytes, file) && line[0] == '\n')
        ;
    line[strcspn(line, "\n")] = 0;
    if (file)
        fclose(file);
}

static verdict judge_log(void)
{
    verdict v = {.result = PASSED};
    struct stat info;
    if (stat(log_path, &info) != 0)
        return (verdict){.result = BROKEN, .why = "no log: the simulator was never reached"};
    if (info.st_size > 0) {
        v.result = CAUGHT;
        first_line(log_path, v.why, sizeof v.why);
    }
    return v;
}

static verdict judge_counts(const mutant *list, int count)
{
    verdict v = {.result = PASSED};
    kf_executed e;
    kf_histogram h = {.file = fopen(counts_path, "r")};
    for (int i = 0; h.file && i < count; i++)
        for (int c = 0; c < list[i].case_count; c++) {
            kf_plan *plan;
            if (case_plan(list[i].cases[c], &simulator, &plan) != KF_OK)
                return (verdict){.result = BROKEN, .why = "the simulator's plan cannot be made"};
            for (int s = 0; s < plan->step_count; s++) {
                const kf_cost cost = kf_step_cost(plan, s);
                char text[400];
                const char *wrong = kf_histogram_next(&h, &e)
                                        ? kf_histogram_disagreement(&plan->step[s], &cost, &e, true,
                                                                    text, sizeof text)
                                        : "a launch is missing";
                if (*wrong && v.result == PASSED) {
                    v.result = CAUGHT;
                    snprintf(v.why, sizeof v.why, "%s", wrong);
                }
            }
            kf_plan_close(plan);
        }
    while (h.file && kf_histogram_next(&h, &e))
        ;
    if (h.file)
        fclose(h.file);
    return v;
}

static verdict judge_once(int tier, const mutant *list, int count)
{
    char path[80];
    verdict v = {.result = PASSED};
    snprintf(path, sizeof path, "%s/cases", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < count; i++)
        for (int c = 0; c < list[i].case_count; c++)
            fprintf(file, "%s\t%s\n", list[i].inputs, list[i].cases[c]);
    fclose(file);
    const int status = run_child(tier, path);
    if (WIFSIGNALED(status) && tier == VALUE) {
        v.result = CAUGHT;
        snprintf(v.why, sizeof v.why, "the process died of signal %d", WTERMSIG(status));
    } else if (WIFSIGNALED(status)) { /* of the simulator: what it said before counts */
        v = tier == SIMULATE ? judge_log() : v;
        v = v.result == CAUGHT ? v : (verdict){.result = BROKEN, .why = "the simulator died"};
    } else if (WEXITSTATUS(status) == CAUGHT || tier == VALUE) {
        v.result = WEXITSTATUS(status);
        first_line(counts_path, v.why, sizeof v.why);
    } else if (WEXITSTATUS(status) != PASSED) {
        v = (verdict){.result = BROKEN, .why = "the case could not be run"};
    } else {
        v = tier == SIMULATE ? judge_log() : judge_counts(list, count);
    }
    return v;
}

/* What a tier says of the kernels in the working folder, on the cases of these mutants. */
static verdict judge(int tier, const mutant *list, int count)
{
    static mutant one;
    verdict v = {.result = PASSED};
    if (tier != SIMULATE)
        return judge_once(tier, list, count);
    /* each case in a process of its own: Oclgrind forgets what is initialised in a buffer that
     * takes the place of an older one */
    for (int i = 0; i < count; i++)
        for (int c = 0; c < list[i].case_count && v.result == PASSED; c++) {
            one = list[i];
            one.case_count = 1;
            memmove(one.cases[0], list[i].cases[c], sizeof one.cases[0]);
            v = judge_once(tier, &one, 1);
        }
    return v;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static bool meets(const mutant *m, int tier)
{
    return have[tier] && (kf_listed(m->tier, tier_names[tier]) || getenv("KFUSE_LONG"));
}

static bool judged_before(int i, int tier)
{
    for (int j = 0; j < i; j++)
        if (meets(&mutants[j], tier) && mutants[j].case_count == mutants[i].case_count &&
            !strcmp(mutants[j].inputs, mutants[i].inputs) &&
            !memcmp(mutants[j].cases, mutants[i].cases, sizeof mutants[i].cases))
            return true;
    return false;
}

/* Mistake: a judge that rejects everything catches every mutant. */
static void right_kernels_pass(void **state)
{
    const int tier = *(const int *)*state;
    if (!have[tier]) {
        fprintf(stderr, "%s: its device is not installed\n", tier_names[tier]);
        skip();
    }
    assert_true(kernels_copy(KF_SOURCE_DIR "/backends", kernels));
    for (int i = 0; i < mutant_count; i++) {
        if (!meets(&mutants[i], tier) || judged_before(i, tier))
            continue;
        const verdict v = judge(tier, &mutants[i], 1);
        if (v.result != PASSED)
            fail_msg("false alarm of %s on the cases of %s: %s", tier_names[tier], mutants[i].name,
                     v.why);
    }
}

static void mutant_is_caught(void **state)
{
    const mutant *m = *state;
    verdict *v = verdicts[m - mutants];
    int missing = 0;
    assert_true(kernels_copy(KF_SOURCE_DIR "/backends", kernels));
    const int matches = mutant_plant(m, kernels);
    if (matches != 1)
        fail_msg("stale: its text occurs %d times in %s", matches, m->file);
    for (int tier = 0; tier < TIERS; tier++) {
        const bool demanded = kf_listed(m->tier, tier_names[tier]);
        if (meets(m, tier)) {
            v[tier] = judge(tier, m, 1);
            v[tier].asked = true;
        }
        if (demanded && (v[tier].result == BROKEN || v[tier].result == 127))
            fail_msg("%s: %s", tier_names[tier], v[tier].why);
        if (have[tier] && demanded && v[tier].result != CAUGHT)
            fail_msg("%s missed it: %s", tier_names[tier], m->what);
        missing += demanded && !have[tier];
    }
    if (missing)
        skip();
}

static void print_table(void)
{
    fprintf(stderr, "%-28s %-8s %-9s %-10s %s\n", "mutant", "value", "simulate", "signature",
            "first finding");
    for (int i = 0; i < mutant_count; i++) {
        const char *word[TIERS], *why = "";
        for (int tier = TIERS - 1; tier >= 0; tier--) {
            const bool caught = verdicts[i][tier].result == CAUGHT;
            word[tier] = !verdicts[i][tier].asked ? "not run" : caught ? "caught" : "-";
            why = caught ? verdicts[i][tier].why : why;
        }
        fprintf(stderr, "%-28s %-8s %-9s %-10s %.110s\n", mutants[i].name, word[VALUE],
                word[SIMULATE], word[SIGNATURE], why);
    }
}

static int find_devices(void)
{
    kf_device_info info = {.id = ""};
    int count = 0;
    have[VALUE] = access(KF_BUILD_DIR "/icd/pocl/pocl.icd", R_OK) == 0;
    have[SIMULATE] = access(KF_BUILD_DIR "/icd/oclgrind/oclgrind.icd", R_OK) == 0;
    if (have[SIMULATE]) {
        setenv("OCL_ICD_VENDORS", KF_BUILD_DIR "/icd/oclgrind", 1);
        if (kf_device_enumerate("opencl", &info, 1, &count) != KF_OK || count < 1)
            have[SIMULATE] = false;
    }
    have[SIGNATURE] = have[SIMULATE];
    simulator = info.target;
    return have[VALUE] + have[SIMULATE];
}

int main(int argc, char **argv)
{
    static const int tiers[] = {VALUE, SIMULATE, SIGNATURE};
    static struct CMUnitTest tests[MAX_MUTANTS + TIERS];
    if (argc == 4 && !strcmp(argv[1], "--judge"))
        return child(argv[2], argv[3]);
    mutant_count = mutants_read(KF_SOURCE_DIR "/tests/mutants", mutants);
    mutant_count = mutants_of_op(mutants, mutant_count, getenv("KFUSE_OP"));
    if (mutant_count < 1 || !mkdtemp(folder))
        return 1;
    snprintf(kernels, sizeof kernels, "%s/backends", folder);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    snprintf(counts_path, sizeof counts_path, "%s/out", folder);
    const char *required = getenv("KFUSE_REQUIRE");
    if (find_devices() == 0) {
        fprintf(stderr, "neither PoCL nor Oclgrind is here\n");
        return required && *required ? 1 : 77;
    }
    for (int i = 0; i < TIERS; i++)
        tests[i] = (struct CMUnitTest){tier_names[i], right_kernels_pass, NULL, NULL,
                                       (void *)(uintptr_t)&tiers[i]};
    for (int i = 0; i < mutant_count; i++)
        tests[TIERS + i] =
            (struct CMUnitTest){mutants[i].name, mutant_is_caught, NULL, NULL, &mutants[i]};
    const int failed =
        _cmocka_run_group_tests("mutants", tests, (size_t)TIERS + (size_t)mutant_count, NULL, NULL);
    print_table();
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) || failed ? 1 : 0;
}
