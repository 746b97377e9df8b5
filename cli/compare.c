/* kfuse compare OP: two devices, as a rule one GPU through two backends, interleaved. The verdict
 * is on the fastest fused variant of each. SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 48 };

typedef struct outcome { /* of one case: places among the entrants, -1 = none */
    int unfused[2], fused[2], plain[2];
} outcome;

/* ---- one case
 * --------------------------------------------------------------------------------------- */

static kf_status open_side(const kf_pair *p, int side, const kf_case *c, kf_entrant *entrant,
                           int *count, outcome *o)
{
    o->unfused[side] = o->fused[side] = o->plain[side] = -1;
    for (int v = 0; v < c->op->variant_count && *count < MOST && !kf_cancelled; v++) {
        const kf_variant *variant = &c->op->variants[v];
        if (v > 0 && (c->variant ? c->variant != variant : !kf_cli_wants(p->cli, variant->name))) {
            continue; /* the baseline is always there: a gain needs it */
        }
        const kf_status status = kf_entrant_open(&p->side[side], c, variant, &entrant[*count]);
        if (status != KF_OK) {
            return status;
        }
        kf_cli_note_dropped(p->cli, &c->config, entrant[*count].plan, p->found[side]->info.id);
        o->unfused[side] = v == 0 ? *count : o->unfused[side];
        ++*count;
    }
    return KF_OK;
}

static int fastest(const kf_entrant *entrant, int count, const kf_bench *side, int unfused)
{
    int best = -1;
    for (int i = 0; i < count; i++) {
        if (i != unfused && entrant[i].bench == side && entrant[i].runs &&
            !entrant[i].plain_stream &&
            (best < 0 || entrant[i].row.timing.median < entrant[best].row.timing.median)) {
            best = i;
        }
    }
    return best;
}

/* The same plans once more on a plain stream, where the side otherwise replays a recording. */
static int add_plain(kf_entrant *entrant, int count)
{
    const int planned = count;
    for (int i = 0; i < planned && count < MOST; i++) {
        const kf_bench *side = entrant[i].bench;
        if (entrant[i].runs && kf_device_target(side->device)->capabilities & KF_CAP_REPLAY) {
            entrant[count] = entrant[i];
            entrant[count++].plain_stream = true;
        }
    }
    return count;
}

static int plain_of(const kf_entrant *entrant, int planned, int count, int fused)
{
    for (int i = planned; fused >= 0 && i < count; i++) {
        if (entrant[i].plan == entrant[fused].plan) {
            return i;
        }
    }
    return -1;
}

static const char *verdict(double low, double high)
{
    if (low > 1.02) {
        return "SLOWER";
    }
    if (high < 0.98) {
        return "FASTER";
    }
    return low >= 0.98 && high <= 1.02 ? "SAME" : "UNCLEAR";
}

/* ---- the table
 * --------------------------------------------------------------------------------------- */

enum {
    OP,
    SHAPE,
    DTYPE,
    UNFUSED_A,
    FUSED_A,
    GAIN_A,
    UNFUSED_B,
    FUSED_B,
    GAIN_B,
    QUOTIENT,
    BAND,
    VERDICT,
    PLAIN_A,
    PLAIN_B,
    VARIANTS,
    COLUMNS
};

static struct libscols_table *open_table(const kf_pair *p)
{
    static char title[COLUMNS][64];
    kf_column column[COLUMNS] = {
        [OP] = {.name = "OP"}, [SHAPE] = {.name = "SHAPE"}, [DTYPE] = {.name = "DTYPE"}};
    static const char *const text[COLUMNS] = {
        [UNFUSED_A] = "%s UNFUSED us",    [FUSED_A] = "%s FUSED us",       [GAIN_A] = "%s GAIN",
        [UNFUSED_B] = "%s UNFUSED us",    [FUSED_B] = "%s FUSED us",       [GAIN_B] = "%s GAIN",
        [PLAIN_A] = "%s PLAIN STREAM us", [PLAIN_B] = "%s PLAIN STREAM us"};
    for (int i = UNFUSED_A; i < COLUMNS; i++) {
        const bool second = (i >= UNFUSED_B && i <= GAIN_B) || i == PLAIN_B;
        if (text[i]) {
            const char *rest = text[i] + 2; /* behind the %s */
            snprintf(title[i], sizeof title[i], "%s%s", p->found[second]->info.id, rest);
        }
        column[i] = (kf_column){.name = title[i], .right = i != VERDICT && i != VARIANTS};
    }
    snprintf(title[QUOTIENT], sizeof title[QUOTIENT], "%s/%s", p->found[1]->info.id,
             p->found[0]->info.id);
    column[BAND].name = "20-80 %";
    column[VERDICT].name = "VERDICT";
    column[VARIANTS].name = "FASTEST FUSED";
    return kf_sheet_open(p->cli, column, COLUMNS);
}

typedef char cell[96];

static void time_cell(cell text, const kf_entrant *entrant, int place)
{
    if (place >= 0 && entrant[place].runs) {
        kf_text_seconds(text, sizeof(cell), entrant[place].row.timing.median);
    } else {
        snprintf(text, sizeof(cell), "%s", place >= 0 ? entrant[place].row.status : "-");
    }
}

static bool both_run(const kf_entrant *entrant, int a, int b)
{
    return a >= 0 && b >= 0 && entrant[a].runs && entrant[b].runs;
}

static void gain_cell(const kf_cli *cli, cell text, const kf_entrant *entrant, int unfused,
                      int fused)
{
    double median, low, high;
    snprintf(text, sizeof(cell), "-");
    if (both_run(entrant, unfused, fused)) {
        kf_quotient(&entrant[unfused].row.timing, &entrant[fused].row.timing, &median, &low, &high);
        snprintf(text, sizeof(cell), "%.2f%s", median, kf_times(cli));
    }
}

/* Median quotient of the fastest fused, or 0. */
static double quotient_cells(const kf_cli *cli, cell *text, const kf_entrant *entrant,
                             const outcome *o)
{
    double median, low, high;
    if (!both_run(entrant, o->fused[0], o->fused[1])) {
        snprintf(text[VERDICT], sizeof(cell), "no fused variant on both");
        return 0;
    }
    kf_quotient(&entrant[o->fused[1]].row.timing, &entrant[o->fused[0]].row.timing, &median, &low,
                &high);
    snprintf(text[QUOTIENT], sizeof(cell), "%.3f%s", median, kf_times(cli));
    snprintf(text[BAND], sizeof(cell), "%.3f-%.3f", low, high);
    snprintf(text[VERDICT], sizeof(cell), "%s", verdict(low, high));
    snprintf(text[VARIANTS], sizeof(cell), "%s | %s", entrant[o->fused[0]].plan->variant->name,
             entrant[o->fused[1]].plan->variant->name);
    return median;
}

static double add_row(const kf_pair *p, struct libscols_table *table, const kf_case *c,
                      const kf_entrant *entrant, const outcome *o)
{
    cell text[COLUMNS] = {0};
    const char *cells[COLUMNS];
    snprintf(text[OP], sizeof(cell), "%s", c->op->name);
    kf_shape_print(c, kf_times(p->cli), text[SHAPE], sizeof(cell));
    snprintf(text[DTYPE], sizeof(cell), "%s", kf_dtype_name(c->dtype));
    time_cell(text[UNFUSED_A], entrant, o->unfused[0]);
    time_cell(text[FUSED_A], entrant, o->fused[0]);
    gain_cell(p->cli, text[GAIN_A], entrant, o->unfused[0], o->fused[0]);
    time_cell(text[UNFUSED_B], entrant, o->unfused[1]);
    time_cell(text[FUSED_B], entrant, o->fused[1]);
    gain_cell(p->cli, text[GAIN_B], entrant, o->unfused[1], o->fused[1]);
    time_cell(text[PLAIN_A], entrant, o->plain[0]);
    time_cell(text[PLAIN_B], entrant, o->plain[1]);
    const double median = quotient_cells(p->cli, text, entrant, o);
    for (int i = 0; i < COLUMNS; i++) {
        cells[i] = text[i];
    }
    kf_sheet_row(table, NULL, cells, COLUMNS);
    return median;
}

/* ---- running
 * ------------------------------------------------------------------------------------------ */

typedef struct tally {
    bool wrong;
    double log_sum;
    int cases;
} tally;

static kf_status measure_case(const kf_pair *p, const kf_case *c, kf_entrant *entrant, int planned,
                              int count, outcome *o)
{
    const kf_measure_options options = {.seed = c->seed, .cancel = &kf_cancelled};
    const kf_status status = kf_entrants_measure(entrant, count, -1, &options);
    for (int side = 0; side < 2; side++) {
        o->fused[side] = fastest(entrant, planned, &p->side[side], o->unfused[side]);
        o->plain[side] = plain_of(entrant, planned, count, o->fused[side]);
    }
    return status;
}

static kf_status run_case(const kf_pair *p, const kf_case *c, struct libscols_table *table,
                          tally *t)
{
    static kf_entrant entrant[MOST];
    outcome o;
    int planned = 0;
    kf_cli_progress(p->cli, "%s %s", c->op->name, kf_dtype_name(c->dtype));
    kf_status status = open_side(p, 0, c, entrant, &planned, &o);
    if (status == KF_OK) {
        status = open_side(p, 1, c, entrant, &planned, &o);
    }
    const int count = status == KF_OK ? add_plain(entrant, planned) : planned;
    if (status == KF_OK && !kf_cancelled) {
        status = measure_case(p, c, entrant, planned, count, &o);
    }
    for (int i = 0; status == KF_OK && !kf_cancelled && i < count; i++) {
        t->wrong = t->wrong || strcmp(entrant[i].row.status, "wrong") == 0;
        status = kf_cli_row(p->cli, &entrant[i].row);
    }
    if (status == KF_OK && !kf_cancelled) {
        const double median = add_row(p, table, c, entrant, &o);
        t->log_sum += median > 0 ? log(median) : 0;
        t->cases += median > 0;
    }
    for (int i = 0; i < planned; i++) {
        kf_entrant_close(&entrant[i]);
    }
    return status;
}

static void headline(const kf_pair *p)
{
    const kf_device_info *a = &p->found[0]->info, *b = &p->found[1]->info;
    if (p->same) {
        printf("same GPU: %s = %s, %s; interleaved, every result verified before it is timed\n",
               a->id, b->id, a->name);
        return;
    }
    printf("NOT like for like: %s is %s, %s is %s\n", a->id, a->name, b->id, b->name);
}

static int compare(kf_pair *p, const kf_cases *cases)
{
    tally t = {0};
    kf_status status = KF_OK;
    struct libscols_table *table = open_table(p);
    for (int side = 0; side < 2 && status == KF_OK; side++) {
        status = kf_bench_open(p->cli, p->found[side], &p->side[side]);
    }
    for (int i = 0; status == KF_OK && i < cases->count && !kf_cancelled; i++) {
        status = run_case(p, &cases->item[i], table, &t);
    }
    kf_cli_progress(p->cli, NULL);
    if (status == KF_OK && !kf_cancelled && !p->cli->sink_on_stdout) {
        headline(p);
        kf_sheet_close(table);
        if (t.cases > 1) {
            printf("%s/%s over %d cases: geometric mean %.3f\n", p->found[1]->info.id,
                   p->found[0]->info.id, t.cases, exp(t.log_sum / t.cases));
        }
    }
    const int code = status == KF_OK ? t.wrong : kf_cli_fail(status);
    for (int side = 0; side < 2; side++) {
        kf_bench_close(&p->side[side]);
    }
    return code;
}

static int run(kf_cli *cli, kf_pair *p, const kf_op *const *ops, int count)
{
    const kf_selection two = {.device = {p->found[0], p->found[1]}, .count = 2};
    const bool cpu =
        (p->found[0]->info.target.capabilities | p->found[1]->info.target.capabilities) &
        KF_CAP_CPU;
    kf_cases cases = {0};
    int code = kf_cli_variants_run(cli, ops, count, &two);
    if (code < 0) {
        code = kf_cli_cases(cli, ops, count, cpu, &cases);
    }
    if (code < 0) {
        const kf_status status = kf_cli_sinks_open(cli, NULL, &two);
        code = kf_cli_sinks_close(cli, status == KF_OK ? compare(p, &cases) : kf_cli_fail(status));
    }
    free(cases.item);
    return code;
}

int kf_cmd_compare(kf_cli *cli, int argc, char **argv)
{
    const kf_grammar grammar = {
        .words = "OP...",
        .doc = "One GPU through two backends, side by side and interleaved; --device=A,B "
               "compares any two devices."};
    const kf_op *ops[KF_CLI_LIST];
    kf_pair p = {.cli = cli};
    int count, code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code < 0) {
        code = kf_cli_ops(cli, ops, KF_CLI_LIST, &count);
    }
    if (code < 0) {
        code = kf_cli_check(cli, ops, count);
    }
    if (code < 0) {
        code = kf_pair_choose(cli, &p);
    }
    return code < 0 ? run(cli, &p, ops, count) : code;
}
