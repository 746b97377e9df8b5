/* Outputs against the reference and against the unfused variant.
 *
 * Small outputs meet the reference whole. Of large ones these rows do: the first, the last, both
 * sides of every power of two (tile edges), and rows drawn from the seed; and every element meets
 * the unfused variant. The sum of both bounds would need the reference everywhere, so that
 * comparison is a screen: a row with an element that differs by more than twice the *median* bound
 * of the rows drawn (relative to the value or absolute, whichever is wider) goes to the reference,
 * which judges it with its own bounds. So there are no false alarms, and what slips through is an
 * error below a typical bound in an element smaller than a typical one.
 *
 * The two-times rule (testing.md 3) is applied against the unfused plan on the same device, over
 * the elements that met the reference. Its other half, an emulation in C, needs an entry in the
 * op's table that none has yet. SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"
#include "judge_parts.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 1024,        /* rows judged before asking whether more are worth while */
    ENOUGH_BAD = 4096,   /* wrong elements */
    LEAST_FOR_NORM = 32, /* fewer elements may be zero by chance */
    DEFAULT_ROWS = 64
};

/* ---- rows drawn ----------------------------------------------------------------------------- */

static int compare_rows(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add_row(kf_judge_state *j, int64_t row)
{
    if (row >= 0 && row < j->rows)
        j->drawn[j->drawn_count++] = row;
}

static kf_status draw_rows(kf_judge_state *j)
{
    const kf_verify_options *options = j->trial->options;
    const int random = options->sample_rows > 0 ? options->sample_rows : DEFAULT_ROWS;
    int kept = 0;
    j->drawn = malloc(((size_t)random + 4 * 64) * sizeof *j->drawn);
    if (!j->drawn)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %d rows", random);
    add_row(j, 0);
    add_row(j, j->rows - 1);
    for (int k = 0; k < 62 && (int64_t)1 << k < j->rows; k++) {
        const int64_t edge = j->rows >> k << k; /* last multiple */
        add_row(j, ((int64_t)1 << k) - 1);
        add_row(j, (int64_t)1 << k);
        add_row(j, edge - 1);
        add_row(j, edge);
    }
    for (int i = 0; i < random; i++)
        add_row(j, (int64_t)(kf_random(options->seed, KF_MAX_TENSORS + j->output, (uint64_t)i) %
                             (uint64_t)j->rows));
    qsort(j->drawn, (size_t)j->drawn_count, sizeof *j->drawn, compare_rows);
    for (int i = 0; i < j->drawn_count; i++)
        if (i == 0 || j->drawn[i] != j->drawn[i - 1])
            j->drawn[kept++] = j->drawn[i];
    j->drawn_count = kept;
    return KF_OK;
}

static double median(double *value, int count)
{
    qsort(value, (size_t)count, sizeof *value, compare_doubles);
    return count ? value[count / 2] : 0;
}

/* NANs out, then the middle one. */
static double median_kept(double *value, int64_t count)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++)
        if (!isnan(value[i]))
            value[kept++] = value[i];
    return median(value, (int)kept);
}

static kf_status judge_drawn(kf_judge_state *j)
{
    kf_status status = draw_rows(j);
    if (status != KF_OK)
        return status;
    const int64_t samples = (int64_t)j->drawn_count * KF_SAMPLES_PER_ROW;
    j->relative = malloc((size_t)samples * sizeof *j->relative);
    j->absolute = malloc((size_t)samples * sizeof *j->absolute);
    if (!j->relative || !j->absolute)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld bounds", (long long)samples);
    status = kf_judge_rows(j, j->drawn, j->drawn_count);
    if (status != KF_OK)
        return status;
    j->screen_relative =
        2 * median_kept(j->relative, samples) * kf_dtype_roundoff(j->tensor->dtype);
    j->screen_absolute = 2 * median_kept(j->absolute, samples);
    free(j->relative);
    free(j->absolute);
    j->relative = j->absolute = NULL; /* the rest leaves no samples */
    return KF_OK;
}

/* ---- every other row against the unfused variant ----------------------------------------------
 */

/* Rows not drawn that the screen marked, or all where there is no screen. */
static int64_t rows_left(const kf_judge_state *j, const bool *flags, int64_t *row)
{
    int64_t count = 0;
    for (int64_t r = 0; r < j->rows; r++)
        if (flags[r] && !bsearch(&r, j->drawn, (size_t)j->drawn_count, sizeof r, compare_rows))
            row[count++] = r;
    return count;
}

static kf_status judge_rest(kf_judge_state *j)
{
    bool *flags = malloc((size_t)j->rows);
    int64_t *row = malloc((size_t)j->rows * sizeof *row), count = 0;
    kf_status status = KF_OK;
    if (!flags || !row)
        status = kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld flags", (long long)j->rows);
    if (status == KF_OK && j->trial->unfused[j->output])
        kf_judge_screen(j, flags);
    else if (status == KF_OK)
        memset(flags, 1, (size_t)j->rows);
    if (status == KF_OK)
        count = rows_left(j, flags, row);
    for (int64_t i = 0; status == KF_OK && i < count && j->report->bad < ENOUGH_BAD; i += BATCH)
        status = kf_judge_rows(j, row + i, count - i < BATCH ? count - i : BATCH);
    free(flags);
    free(row);
    return status;
}

/* ---- verdicts over the whole output -----------------------------------------------------------
 */

/* Of rows of one element much is 0 by right: log softmax, the cross entropy of one class. */
static bool narrow(const kf_judge_state *j)
{
    const kf_problem *problem = &j->trial->plan->problem;
    bool found = kf_axis_size(problem, j->output) < 2;
    for (int i = 0; i < problem->op->tensor_count; i++)
        found |= kf_trial_present(j->trial, i, KF_INPUT) && problem->tensor[i].rank > 1 &&
                 kf_axis_size(problem, i) < 2;
    return found;
}

static void check_zeros(kf_judge_state *j)
{
    const kf_tally *t = &j->tally;
    const char *name = j->trial->plan->problem.op->tensors[j->output].name;
    const bool plain =
        j->trial->options->distribution == KF_DIST_NORMAL && !j->trial->options->data;
    /* of equal inputs differences are 0 by right, and the reference has its own roundings */
    const bool equal = j->trial->options->distribution == KF_DIST_EQUAL && !j->trial->options->data;
    if (t->lost * 10 > t->count * 3 && !equal)
        kf_trial_fail(
            j->trial,
            "%lld of %lld elements of '%s' are 0 where the reference is not: that is no result",
            (long long)t->lost, (long long)t->count, name);
    if (!plain || t->count < LEAST_FOR_NORM || narrow(j))
        return;
    if (t->nonzero_want == 0)
        kf_trial_fail(j->trial,
                      "the reference of '%s' is all zeros: agreeing with it proves nothing", name);
    else if (t->nonzero_got == 0)
        kf_trial_fail(j->trial, "the output '%s' is all zeros", name);
}

static void check_rule(kf_judge_state *j)
{
    const kf_tally *t = &j->tally;
    const double allowed = 2 * t->unfused_error + 2 * t->floor_error;
    double ratio = t->fused_error / allowed;
    if (!j->trial->unfused[j->output] || !kf_trial_rule_applies(j->trial, j->output))
        return;
    if (t->fused_error == 0)
        ratio = 0;
    if (!(ratio <= j->trial->report->unfused_ratio))
        j->trial->report->unfused_ratio = ratio;
    if (!(t->fused_error <= allowed))
        kf_trial_fail(j->trial,
                      "the largest error of '%s', %a, is more than twice the unfused variant's %a "
                      "(+ floor %a)",
                      j->trial->plan->problem.op->tensors[j->output].name, t->fused_error,
                      t->unfused_error, t->floor_error);
}

static void name_bad(kf_judge_state *j)
{
    const kf_verify_report *r = j->trial->report;
    char element[96];
    snprintf(j->trial->report->output, sizeof r->output, "%s",
             j->trial->plan->problem.op->tensors[j->output].name);
    kf_element_name(j->trial, j->output, r->first_bad, element, sizeof element);
    kf_trial_fail(j->trial,
                  "%s is %a (%.6g), the reference is %a (%.6g), bound %a; %lld of %lld are wrong",
                  element, r->got, r->got, r->want, r->want, r->bound, (long long)r->bad,
                  (long long)r->checked);
}

static kf_status judge_output(kf_judge_state *j)
{
    const int64_t bad = j->report->bad;
    const bool whole = kf_trial_output_whole(j->trial, j->output);
    kf_status status = whole ? kf_judge_rows(j, NULL, j->rows) : judge_drawn(j);
    if (status == KF_OK && !whole && !kf_trial_baseline(j->trial))
        status = judge_rest(j);
    if (status != KF_OK)
        return status;
    if (bad == 0 && j->trial->report->bad > 0)
        name_bad(j);
    check_zeros(j);
    check_rule(j);
    return KF_OK;
}

kf_status kf_judge(kf_trial *trial)
{
    const kf_problem *problem = &trial->plan->problem;
    kf_status status = KF_OK;
    trial->report->passed = true;
    trial->report->whole = kf_trial_whole(trial);
    for (int i = 0; status == KF_OK && i < problem->op->tensor_count; i++) {
        kf_judge_state j = {
            .trial = trial, .output = i, .tensor = &problem->tensor[i], .report = trial->report};
        j.count = kf_trial_present(trial, i, KF_OUTPUT) ? kf_tensor_elements(j.tensor) : 0;
        if (j.count == 0)
            continue;
        j.width = kf_trial_row_width(trial, i);
        j.rows = (j.count + j.width - 1) / j.width;
        for (int t = 0; t < problem->op->tensor_count; t++)
            if (kf_trial_present(trial, t, KF_INPUT))
                j.inputs[t] = kf_zone_payload(&trial->zone[t]);
        status = judge_output(&j);
        free(j.relative);
        free(j.absolute);
        free(j.drawn);
    }
    if (status != KF_OK)
        trial->report->passed = false;
    return status;
}
