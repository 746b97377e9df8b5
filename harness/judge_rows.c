/* Rows of an output against the reference and against the unfused variant, on all processors.
 * SPDX-License-Identifier: Apache-2.0 */
#include "convert.h"
#include "judge_parts.h"
#include "parallel.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    STRETCH = 256,          /* elements compared at a time with the unfused variant */
    SCREEN_GRAIN = 1 << 20, /* elements worth a thread there, */
    JUDGE_GRAIN = 1 << 14   /* and with the reference */
};

/* ---- reference ------------------------------------------------------------------------------ */

typedef struct work { /* shared by the threads of one kf_judge_rows */
    kf_judge_state *j;
    const kf_judge_state start; /* *j before any thread adds to it */
    const int64_t *row;
    pthread_mutex_t lock;
    kf_status status;
    char reason[256];
} work;

typedef struct part {   /* of one thread */
    kf_judge_state own; /* report and tally of its own */
    kf_verify_report report;
    double *value, *bound; /* of one row */
} part;

static void keep_samples(part *p, int64_t number, int64_t count)
{
    const kf_dtype dtype = p->own.tensor->dtype;
    const double roundoff = kf_dtype_roundoff(dtype), least = kf_dtype_floor(dtype);
    const int64_t step = count / KF_SAMPLES_PER_ROW + 1;
    double *const absolute = p->own.absolute + number * KF_SAMPLES_PER_ROW;
    double *const relative = p->own.relative + number * KF_SAMPLES_PER_ROW;
    for (int64_t i = 0, k = 0; k < KF_SAMPLES_PER_ROW; k++, i += step) {
        const bool good = i < count && isfinite(p->value[i]) && isfinite(p->bound[i]);
        absolute[k] = good ? p->bound[i] : NAN;
        relative[k] = good ? p->bound[i] / (roundoff * fabs(p->value[i]) + least) : NAN;
    }
}

/* Nothing but the rounding of the result is forgiven, and that must be the right one. */
static void ask_for_bits(part *p, int64_t count)
{
    kf_round_many(p->own.tensor->dtype, p->value, count);
    memset(p->bound, 0, (size_t)count * sizeof *p->bound);
}

/* Row `row`, which is number `number` of those asked for. */
static kf_status judge_row(part *p, int64_t row, int64_t number)
{
    const kf_judge_state *j = &p->own;
    const kf_trial *t = j->trial;
    const int64_t first = row * j->width, left = j->count - first,
                  count = j->width < left ? j->width : left;
    const int size = kf_dtype_bytes(j->tensor->dtype);
    const char *got = t->got[j->output] + first * size;
    const kf_status status = t->plan->problem.op->reference(
        &t->plan->problem, &t->plan->error, j->inputs, j->output, first, count, p->value, p->bound);
    if (status != KF_OK)
        return status;
    if (t->options->bit_exact)
        ask_for_bits(p, count);
    kf_compare_more(j->tensor->dtype, got, p->value, p->bound, first, count, &p->report);
    kf_tally_zeros(j->tensor->dtype, got, p->value, count, &p->own.tally);
    if (t->unfused[j->output] && kf_trial_rule_applies(t, j->output))
        kf_tally_errors(j->tensor->dtype, got, t->unfused[j->output] + first * size, p->value,
                        count, &p->own.tally);
    if (j->relative)
        keep_samples(p, number, count);
    return KF_OK;
}

static void merge(work *w, const part *p, kf_status status)
{
    pthread_mutex_lock(&w->lock);
    kf_compare_merge(w->j->report, &p->report);
    kf_tally_merge(&w->j->tally, &p->own.tally);
    if (status != KF_OK && w->status == KF_OK) {
        w->status = status; /* the sentence is this thread's */
        strncpy(w->reason, kf_error(), sizeof w->reason - 1);
    }
    pthread_mutex_unlock(&w->lock);
}

static void judge_share(void *context, int64_t first, int64_t end)
{
    work *w = context;
    part p = {.own = w->start};
    kf_status status = KF_OK;
    p.own.tally = (kf_tally){0};
    kf_compare_reset(&p.report);
    p.value = malloc((size_t)p.own.width * sizeof *p.value);
    p.bound = malloc((size_t)p.own.width * sizeof *p.bound);
    if (!p.value || !p.bound)
        status = kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld values of the reference",
                         (long long)p.own.width);
    for (int64_t i = first; status == KF_OK && i < end; i++)
        status = judge_row(&p, w->row ? w->row[i] : i, i);
    merge(w, &p, status);
    free(p.value);
    free(p.bound);
}

kf_status kf_judge_rows(kf_judge_state *j, const int64_t *row, int64_t count)
{
    work w = {.j = j, .start = *j, .row = row, .lock = PTHREAD_MUTEX_INITIALIZER};
    kf_parallel(count, JUDGE_GRAIN / j->width + 1, judge_share, &w);
    return w.status == KF_OK ? KF_OK : kf_fail(w.status, "%s", w.reason);
}

/* ---- the unfused variant -------------------------------------------------------------------- */

static double larger(double a, double b)
{
    return a > b ? a : b; /* fmax is a call, and takes three times as long as all the rest */
}

/* Elements at a time, so that the comparison is a loop over doubles. NaN or an infinity on either
 * side makes a difference or a scale that is none, and so says no. */
static bool stretch_agrees(const kf_judge_state *j, const char *a, const char *b, int64_t count)
{
    double x[STRETCH], y[STRETCH];
    bool close = true;
    kf_load_many(a, j->tensor->dtype, 0, 1, x, count);
    kf_load_many(b, j->tensor->dtype, 0, 1, y, count);
    for (int64_t i = 0; i < count; i++) {
        const double scale = larger(fabs(x[i]), fabs(y[i])) * j->screen_relative;
        close &= fabs(x[i] - y[i]) <= larger(scale, j->screen_absolute) && isfinite(scale);
    }
    return close;
}

/* Where the quick comparison says no: bits that are the same, and NaN beside NaN, agree too. */
static bool elements_agree(const kf_judge_state *j, const char *a, const char *b, int64_t count)
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

static bool row_agrees(const kf_judge_state *j, int64_t first, int64_t count)
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
    const kf_judge_state *j;
    bool *flags;
} screen;

static void screen_rows(void *context, int64_t first, int64_t end)
{
    const screen *s = context;
    const int64_t width = s->j->width, count = s->j->count;
    for (int64_t row = first; row < end; row++) {
        const int64_t left = count - row * width;
        s->flags[row] = !row_agrees(s->j, row * width, width < left ? width : left);
    }
}

void kf_judge_screen(const kf_judge_state *j, bool *flags)
{
    screen s = {.j = j, .flags = flags};
    kf_parallel(j->rows, SCREEN_GRAIN / j->width + 1, screen_rows, &s);
}
