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
#include "verify_parts.h"
#include "convert.h"
#include "parallel.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 65536,     /* elements per call of the reference, where rows are shorter */
    SAMPLES = 1 << 16, /* bounds kept for the medians */
    SAMPLES_PER_ROW = 512,
    ENOUGH_BAD_ROWS = 64,
    STRETCH = 256,          /* elements compared at a time with the unfused variant */
    SCREEN_GRAIN = 1 << 20, /* elements worth a thread */
    LEAST_FOR_NORM = 32,    /* fewer elements may be zero by chance */
    DEFAULT_ROWS = 64
};

typedef struct judge {
    kf_trial *trial;
    int output;
    const kf_tensor *tensor;
    int64_t count, width, rows;
    const void *inputs[KF_MAX_TENSORS];
    double *value, *bound;
    int64_t capacity;
    double *relative, *absolute; /* bounds seen, for the medians */
    int sample_count;
    int64_t *drawn; /* sorted rows that met the reference */
    int drawn_count;
    double screen_relative, screen_absolute;
    kf_tally tally;
} judge;

/* ---- reference ------------------------------------------------------------------------------ */

static kf_status reserve(judge *j, int64_t count)
{
    if (count <= j->capacity)
        return KF_OK;
    free(j->value);
    free(j->bound);
    j->capacity = 0;
    j->value = malloc((size_t)count * sizeof *j->value);
    j->bound = malloc((size_t)count * sizeof *j->bound);
    if (!j->value || !j->bound)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld values of the reference",
                       (long long)count);
    j->capacity = count;
    return KF_OK;
}

static void keep_samples(judge *j, int64_t count)
{
    const int64_t step = count / SAMPLES_PER_ROW + 1;
    const double roundoff = kf_dtype_roundoff(j->tensor->dtype),
                 least = kf_dtype_floor(j->tensor->dtype);
    for (int64_t i = 0; i < count && j->sample_count < SAMPLES; i += step) {
        if (!isfinite(j->value[i]) || !isfinite(j->bound[i]))
            continue;
        j->absolute[j->sample_count] = j->bound[i];
        j->relative[j->sample_count++] = j->bound[i] / (roundoff * fabs(j->value[i]) + least);
    }
}

/* Elements [first, first + count) against the reference. */
static kf_status judge_range(judge *j, int64_t first, int64_t count)
{
    const kf_problem *problem = &j->trial->plan->problem;
    const int size = kf_dtype_bytes(j->tensor->dtype);
    const char *got = j->trial->got[j->output] + first * size;
    kf_status status = reserve(j, count);
    if (status != KF_OK)
        return status;
    status = problem->op->reference(problem, &j->trial->plan->error, j->inputs, j->output, first,
                                    count, j->value, j->bound);
    if (status != KF_OK)
        return status;
    kf_compare_more(j->tensor->dtype, got, j->value, j->bound, first, count, j->trial->report);
    kf_tally_zeros(j->tensor->dtype, got, j->value, count, &j->tally);
    if (j->trial->unfused[j->output] && kf_trial_rule_applies(j->trial, j->output))
        kf_tally_errors(j->tensor->dtype, got, j->trial->unfused[j->output] + first * size,
                        j->value, count, &j->tally);
    if (j->relative)
        keep_samples(j, count);
    return KF_OK;
}

static kf_status judge_row(judge *j, int64_t row)
{
    const int64_t first = row * j->width;
    return judge_range(j, first, j->width < j->count - first ? j->width : j->count - first);
}

static kf_status judge_whole(judge *j)
{
    const int64_t rows =
        j->width >= CHUNK ? 1 : CHUNK / j->width; /* never a part of a row: the reference */
    kf_status status = KF_OK;                     /* would sum it again for every part */
    for (int64_t row = 0; status == KF_OK && row < j->rows; row += rows) {
        const int64_t first = row * j->width, n = rows * j->width;
        status = judge_range(j, first, n < j->count - first ? n : j->count - first);
    }
    return status;
}

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

static void add_row(judge *j, int64_t row)
{
    if (row >= 0 && row < j->rows)
        j->drawn[j->drawn_count++] = row;
}

static kf_status draw_rows(judge *j)
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

static kf_status judge_drawn(judge *j)
{
    kf_status status = draw_rows(j);
    j->relative = malloc(SAMPLES * sizeof *j->relative);
    j->absolute = malloc(SAMPLES * sizeof *j->absolute);
    if (status == KF_OK && (!j->relative || !j->absolute))
        status = kf_fail(KF_OUT_OF_MEMORY, "no host memory for %d bounds", SAMPLES);
    for (int i = 0; status == KF_OK && i < j->drawn_count; i++)
        status = judge_row(j, j->drawn[i]);
    if (status != KF_OK)
        return status;
    j->screen_relative =
        2 * median(j->relative, j->sample_count) * kf_dtype_roundoff(j->tensor->dtype);
    j->screen_absolute = 2 * median(j->absolute, j->sample_count);
    return KF_OK;
}

/* ---- every other row against the unfused variant ----------------------------------------------
 */

/* Elements at a time, so that the comparison is a loop over doubles. */
static bool stretch_agrees(const judge *j, const char *a, const char *b, int64_t count)
{
    double x[STRETCH], y[STRETCH];
    bool close = true;
    kf_load_many(a, j->tensor->dtype, 0, 1, x, count);
    kf_load_many(b, j->tensor->dtype, 0, 1, y, count);
    for (int64_t i = 0; i < count; i++) {
        const double scale = fmax(fabs(x[i]), fabs(y[i])) * j->screen_relative;
        close &= fabs(x[i] - y[i]) <= fmax(scale, j->screen_absolute) && isfinite(scale);
    }
    return close;
}

/* Where the quick comparison says no: bits that are the same, and NaN beside NaN, agree too. */
static bool elements_agree(const judge *j, const char *a, const char *b, int64_t count)
{
    const int size = kf_dtype_bytes(j->tensor->dtype);
    for (int64_t i = 0; i < count; i++) {
        const char *p = a + i * size, *q = b + i * size;
        const bool nans =
            isnan(kf_load(p, j->tensor->dtype, 0)) && isnan(kf_load(q, j->tensor->dtype, 0));
        if (memcmp(p, q, (size_t)size) && !nans && !stretch_agrees(j, p, q, 1))
            return false;
    }
    return true;
}

static bool row_agrees(const judge *j, int64_t first, int64_t count)
{
    const int size = kf_dtype_bytes(j->tensor->dtype);
    const char *a = j->trial->got[j->output] + first * size,
               *b = j->trial->unfused[j->output] + first * size;
    for (int64_t i = 0; i < count; i += STRETCH) {
        const int64_t n = count - i < STRETCH ? count - i : STRETCH;
        if (!stretch_agrees(j, a + i * size, b + i * size, n) &&
            !elements_agree(j, a + i * size, b + i * size, n))
            return false;
    }
    return true;
}

typedef struct screen {
    const judge *j;
    bool *differs; /* [rows] */
} screen;

static void screen_rows(void *context, int64_t first, int64_t end)
{
    const screen *s = context;
    const int64_t width = s->j->width, count = s->j->count;
    for (int64_t row = first; row < end; row++) {
        const int64_t left = count - row * width;
        s->differs[row] = !row_agrees(s->j, row * width, width < left ? width : left);
    }
}

/* Every row without a screen; else those that differ. */
static kf_status judge_rest(judge *j)
{
    screen s = {.j = j, .differs = malloc((size_t)j->rows)};
    kf_status status = KF_OK;
    int bad_rows = 0;
    if (!s.differs)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld flags", (long long)j->rows);
    if (j->trial->unfused[j->output])
        kf_parallel(j->rows, SCREEN_GRAIN / j->width + 1, screen_rows, &s);
    else
        memset(s.differs, 1, (size_t)j->rows);
    for (int64_t row = 0; status == KF_OK && row < j->rows && bad_rows < ENOUGH_BAD_ROWS; row++) {
        const int64_t bad = j->trial->report->bad;
        if (!s.differs[row] ||
            bsearch(&row, j->drawn, (size_t)j->drawn_count, sizeof row, compare_rows))
            continue;
        status = judge_row(j, row);
        bad_rows += j->trial->report->bad > bad;
    }
    free(s.differs);
    return status;
}

/* ---- verdicts over the whole output -----------------------------------------------------------
 */

static void check_zeros(judge *j)
{
    const kf_tally *t = &j->tally;
    const char *name = j->trial->plan->problem.op->tensors[j->output].name;
    const bool plain =
        j->trial->options->distribution == KF_DIST_NORMAL && !j->trial->options->data;
    if (t->lost * 10 > t->count * 3)
        kf_trial_fail(
            j->trial,
            "%lld of %lld elements of '%s' are 0 where the reference is not: that is no result",
            (long long)t->lost, (long long)t->count, name);
    if (!plain || t->count < LEAST_FOR_NORM || kf_tensor_width(j->tensor) < 2)
        return;
    if (t->nonzero_want == 0)
        kf_trial_fail(j->trial,
                      "the reference of '%s' is all zeros: agreeing with it proves nothing", name);
    else if (t->nonzero_got == 0)
        kf_trial_fail(j->trial, "the output '%s' is all zeros", name);
}

static void check_rule(judge *j)
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

static void name_bad(judge *j)
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

static kf_status judge_output(judge *j)
{
    const int64_t bad = j->trial->report->bad;
    kf_status status = kf_trial_output_whole(j->trial, j->output) ? judge_whole(j) : judge_drawn(j);
    if (status == KF_OK && !kf_trial_output_whole(j->trial, j->output) &&
        !kf_trial_baseline(j->trial))
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
        judge j = {.trial = trial, .output = i, .tensor = &problem->tensor[i]};
        j.count = kf_trial_present(trial, i, KF_OUTPUT) ? kf_tensor_elements(j.tensor) : 0;
        if (j.count == 0)
            continue;
        j.width = kf_trial_row_width(trial, i);
        j.rows = (j.count + j.width - 1) / j.width;
        for (int t = 0; t < problem->op->tensor_count; t++)
            if (kf_trial_present(trial, t, KF_INPUT))
                j.inputs[t] = kf_zone_payload(&trial->zone[t]);
        status = judge_output(&j);
        free(j.value);
        free(j.bound);
        free(j.relative);
        free(j.absolute);
        free(j.drawn);
    }
    if (status != KF_OK)
        trial->report->passed = false;
    return status;
}
