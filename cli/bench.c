/* kfuse bench: cases = op x shape x dtype x variant x device, each verified, then timed with the
 * variants of a case interleaved. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

typedef struct own {
    kf_cli *cli;
    bool steps, warm;
    int samples, processes;
    const char *rows; /* we are the fresh process: rows to this file and nowhere else */
    bool wrong;
} own;

enum { MOST = 32 }; /* variants of an op */

enum { KEY_STEPS = 0x400, KEY_PROCESSES, KEY_WARM, KEY_SAMPLES, KEY_ROWS };

static const struct argp_option options[] = {
    {"steps", KEY_STEPS, 0, 0, "time every step of a plan alone too", 0},
    {"processes", KEY_PROCESSES, "N", 0, "N fresh processes; medians over them", 0},
    {"warm", KEY_WARM, 0, 0, "one set of data, which may sit in the cache", 0},
    {"samples", KEY_SAMPLES, "N", 0, "samples per time (9; 11 on CPU devices)", 0},
    {"rows-to", KEY_ROWS, "FILE", OPTION_HIDDEN, 0, 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state, void *data)
{
    own *o = data;
    switch (key) {
    case KEY_STEPS:
        o->steps = true;
        return 0;
    case KEY_PROCESSES:
        o->processes = (int)kf_cli_number(state, "processes", arg, 1, 99);
        return 0;
    case KEY_WARM:
        o->warm = true;
        return 0;
    case KEY_SAMPLES:
        o->samples = (int)kf_cli_number(state, "samples", arg, 3, KF_MAX_SAMPLES);
        return 0;
    case KEY_ROWS:
        o->rows = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the rows of one case: each plan, and under it its steps ------------------------------- */

typedef struct rows { /* [entrant][0] the plan, [entrant][1 + step] */
    kf_result *row;
    int steps[MOST]; /* measured, of each entrant */
} rows;

static kf_result *row_of(const rows *r, int entrant, int step)
{
    return &r->row[entrant * (1 + KF_MAX_STEPS) + 1 + step];
}

/* Every step of every plan that runs, each alone, the variants still interleaved. */
static kf_status measure_steps(rows *r, kf_entrant *entrant, int count,
                               const kf_measure_options *measure)
{
    kf_status status = KF_OK;
    for (int step = 0; status == KF_OK && step < KF_MAX_STEPS && !kf_cancelled; step++) {
        status = kf_entrants_measure(entrant, count, step, measure);
        for (int i = 0; status == KF_OK && !kf_cancelled && i < count; i++) {
            if (entrant[i].runs && step < entrant[i].plan->step_count) {
                *row_of(r, i, step) = entrant[i].row;
                r->steps[i] = step + 1;
            }
        }
    }
    return status;
}

static kf_status emit(own *o, const rows *r, int count)
{
    kf_status status = KF_OK;
    for (int i = 0; i < count; i++) {
        o->wrong = o->wrong || strcmp(row_of(r, i, -1)->status, "wrong") == 0;
        for (int step = -1; status == KF_OK && step < r->steps[i]; step++) {
            status = kf_cli_row(o->cli, row_of(r, i, step));
        }
    }
    return status;
}

static kf_status measure_rows(own *o, kf_entrant *entrant, int count,
                              const kf_measure_options *measure)
{
    rows r = {.row = calloc((size_t)count * (1 + KF_MAX_STEPS), sizeof *r.row)};
    if (!r.row) {
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for the rows of a case");
    }
    kf_status status = kf_entrants_measure(entrant, count, -1, measure);
    for (int i = 0; i < count; i++) {
        *row_of(&r, i, -1) = entrant[i].row;
    }
    if (status == KF_OK && !kf_cancelled && o->steps) {
        status = measure_steps(&r, entrant, count, measure);
    }
    kf_cli_progress(o->cli, NULL); /* rows may go to the same terminal */
    if (status == KF_OK && !kf_cancelled) {
        status = emit(o, &r, count);
    }
    free(r.row);
    return status;
}

static void tell(const kf_cli *cli, const kf_case *c, const kf_bench *bench)
{
    char shape[80];
    kf_shape_print(c, kf_times(cli), shape, sizeof shape);
    kf_cli_progress(cli, "%s %s %s on %s", c->op->name, shape, kf_dtype_name(c->dtype),
                    bench->found->info.id);
}

/* All variants of one case on one device. */
static kf_status run_case(own *o, const kf_case *c, const kf_bench *bench)
{
    kf_entrant entrant[MOST] = {0};
    const kf_measure_options measure = {
        .samples = o->samples, .warm = o->warm, .seed = c->seed, .cancel = &kf_cancelled};
    int count = 0;
    kf_status status = KF_OK;
    tell(o->cli, c, bench);
    for (int v = 0; status == KF_OK && v < c->op->variant_count && count < MOST && !kf_cancelled;
         v++) {
        const kf_variant *variant = &c->op->variants[v];
        if (c->variant ? c->variant == variant : kf_cli_wants(o->cli, variant->name)) {
            status = kf_entrant_open(bench, c, variant, &entrant[count]);
            kf_cli_note_dropped(o->cli, &c->config, entrant[count++].plan, bench->found->info.id);
        }
    }
    if (status == KF_OK && !kf_cancelled && count) {
        status = measure_rows(o, entrant, count, &measure);
    }
    kf_cli_progress(o->cli, NULL);
    for (int i = 0; i < count; i++) {
        kf_entrant_close(&entrant[i]);
    }
    return status;
}

static int run_device(own *o, const kf_op *const *ops, int op_count, const kf_found *found)
{
    kf_bench bench;
    kf_cases cases;
    const bool cpu = found->info.target.capabilities & KF_CAP_CPU;
    const int code = kf_cli_cases(o->cli, ops, op_count, cpu, &cases);
    if (code >= 0) {
        return code;
    }
    kf_status status = kf_bench_open(o->cli, found, &bench);
    for (int i = 0; status == KF_OK && i < cases.count && !kf_cancelled; i++) {
        status = run_case(o, &cases.item[i], &bench);
    }
    kf_bench_close(&bench);
    free(cases.item);
    return status == KF_OK ? 0 : kf_cli_fail(status);
}

static int run(own *o, const kf_op *const *ops, int op_count, const kf_selection *selection)
{
    kf_status status = kf_cli_sinks_open(o->cli, "table", selection);
    int code = status == KF_OK ? 0 : kf_cli_fail(status);
    for (int i = 0; code == 0 && i < selection->count && !kf_cancelled; i++) {
        code = run_device(o, ops, op_count, selection->device[i]);
    }
    return kf_cli_sinks_close(o->cli, code ? code : o->wrong);
}

static int run_fresh(own *o, const kf_selection *selection)
{
    const kf_status status = kf_cli_sinks_open(o->cli, "table", selection);
    const int code = status == KF_OK ? kf_cli_processes(o->cli, o->processes) : kf_cli_fail(status);
    return kf_cli_sinks_close(o->cli, code);
}

int kf_cmd_bench(kf_cli *cli, int argc, char **argv)
{
    own o = {.cli = cli, .processes = 1};
    const kf_grammar grammar = {
        .words = "OP...",
        .doc = "Verify and time ops. A wrong result has no time and ends with exit code 1.",
        .options = options,
        .parse = parse,
        .own = &o};
    const kf_op *ops[KF_CLI_LIST];
    kf_selection selection;
    int count, code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code < 0) {
        code = kf_cli_ops(cli, ops, KF_CLI_LIST, &count);
    }
    if (code < 0) {
        code = kf_cli_check(cli, ops, count);
    }
    if (code < 0) {
        code = kf_cli_select_real(cli, &selection);
    }
    if (code < 0) {
        code = kf_cli_variants_run(cli, ops, count, &selection);
    }
    if (code >= 0) {
        return code;
    }
    if (o.rows) {
        cli->format = (kf_list){.item = {o.rows}, .count = 1};
        return run(&o, ops, count, &selection);
    }
    return o.processes > 1 ? run_fresh(&o, &selection) : run(&o, ops, count, &selection);
}
