/* kfuse compare OP: two devices, as a rule one GPU through two backends, interleaved. The verdict
 * is on the fastest fused variant of each. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 48 };

typedef struct pair {
    kf_cli *cli;
    const kf_found *found[2];
    kf_bench side[2];
    bool same;
} pair;

typedef struct outcome { /* of one case: places among the entrants, -1 = none */
    int unfused[2], fused[2], plain[2];
} outcome;

/* ---- which two
 * ------------------------------------------------------------------------------------- */

static bool matching(kf_cli *cli, const bool *backend, pair *p)
{
    for (int i = 0; i < cli->found_count; i++) {
        for (int k = i + 1; k < cli->found_count; k++) {
            const kf_device_info *a = &cli->found[i].info, *b = &cli->found[k].info;
            bool asked = true;
            for (int n = 0; n < kf_backend_count(); n++) {
                const char *name = kf_backends[n]->name;
                asked = asked && (backend[n] ||
                                  (strcmp(name, a->backend) != 0 && strcmp(name, b->backend) != 0));
            }
            if (asked && strcmp(a->backend, b->backend) != 0 && kf_device_same(a, b)) {
                p->found[0] = &cli->found[i];
                p->found[1] = &cli->found[k];
                return p->same = true;
            }
        }
    }
    return false;
}

static int no_pair(void)
{
    return kf_cli_complain(
        3, "no GPU here is seen through two backends (kfuse devices); --device=A,B compares "
           "any two");
}

/* Two named devices; or, of the backends in question, the first GPU that two of them show. */
static int choose(kf_cli *cli, pair *p)
{
    bool backend[KF_CLI_BACKENDS] = {0};
    kf_selection selection = {0};
    if (cli->device || cli->backend) {
        const int code = kf_cli_select(cli, &selection);
        if (code >= 0) {
            return code;
        }
    }
    if (!cli->device) {
        for (int n = 0; n < kf_backend_count(); n++) {
            backend[n] = selection.count == 0;
            for (int i = 0; i < selection.count; i++) {
                backend[n] = backend[n] ||
                             strcmp(selection.device[i]->info.backend, kf_backends[n]->name) == 0;
            }
        }
        kf_cli_scan_all(cli);
        if (matching(cli, backend, p)) {
            return -1;
        }
    }
    if (selection.count != 2) {
        return cli->device ? kf_cli_complain(2, "compare takes two devices; --device=%s names %d",
                                             cli->device, selection.count)
                           : no_pair();
    }
    p->found[0] = selection.device[0];
    p->found[1] = selection.device[1];
    p->same = kf_device_same(&p->found[0]->info, &p->found[1]->info);
    return -1;
}

/* ---- one case
 * --------------------------------------------------------------------------------------- */

static kf_status open_side(const pair *p, int side, const kf_case *c, kf_entrant *entrant,
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
static int add_plain(const pair *p, kf_entrant *entrant, int count)
{
    const int planned = count;
    for (int i = 0; i < planned && count < MOST; i++) {
        const kf_bench *side = entrant[i].bench;
        if (entrant[i].runs && kf_device_target(side->device)->capabilities & KF_CAP_REPLAY) {
            entrant[count] = entrant[i];
            entrant[count++].plain_stream = true;
        }
    }
    (void)p;
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

static struct libscols_table *open_table(const pair *p)
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
    return kf_table_open(p->cli, column, COLUMNS);
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

static double add_row(const pair *p, struct libscols_table *table, const kf_case *c,
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
    kf_table_row(table, NULL, cells, COLUMNS);
    return median;
}

/* ---- running
 * ------------------------------------------------------------------------------------------ */

typedef struct tally {
    bool wrong;
    double log_sum;
    int cases;
} tally;

static kf_status measure_case(const pair *p, const kf_case *c, kf_entrant *entrant, int planned,
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

static kf_status run_case(const pair *p, const kf_case *c, struct libscols_table *table, tally *t)
{
    static kf_entrant entrant[MOST];
    outcome o;
    int planned = 0;
    kf_cli_progress(p->cli, "%s %s", c->op->name, kf_dtype_name(c->dtype));
    kf_status status = open_side(p, 0, c, entrant, &planned, &o);
    if (status == KF_OK) {
        status = open_side(p, 1, c, entrant, &planned, &o);
    }
    const int count = status == KF_OK ? add_plain(p, entrant, planned) : planned;
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

static void headline(const pair *p)
{
    const kf_device_info *a = &p->found[0]->info, *b = &p->found[1]->info;
    if (p->same) {
        printf("same GPU: %s = %s, %s; interleaved, every result verified before it is timed\n",
               a->id, b->id, a->name);
        return;
    }
    printf("NOT like for like: %s is %s, %s is %s\n", a->id, a->name, b->id, b->name);
}

static int compare(pair *p, const kf_cases *cases)
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
        kf_table_close(table);
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

static int run(kf_cli *cli, pair *p, const kf_op *const *ops, int count)
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
    pair p = {.cli = cli};
    int count, code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code < 0) {
        code = kf_cli_ops(cli, ops, KF_CLI_LIST, &count);
    }
    if (code < 0) {
        code = kf_cli_check(cli, ops, count);
    }
    if (code < 0) {
        code = choose(cli, &p);
    }
    return code < 0 ? run(cli, &p, ops, count) : code;
}
