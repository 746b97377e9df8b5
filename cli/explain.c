/* kfuse explain OP: plans as they would be launched, without a device. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include "../core/source.h"
#include "../harness/plan_roof.h"
#include <stdlib.h>
#include <string.h>

typedef struct view { /* what is explained: against a bare target, or against an open device */
    kf_cli *cli;
    const kf_target *target;
    const char *name;
    kf_bench *bench; /* NULL = no device */
} view;

/* ---- the op's tables
 * ----------------------------------------------------------------------------- */

static void tensors(const kf_cli *cli, const kf_op *op)
{
    static const kf_column columns[] = {{.name = "TENSOR"},
                                        {.name = "ROLE"},
                                        {.name = "DTYPE"},
                                        {.name = "DIMS"},
                                        {.name = "WHAT"}};
    struct libscols_table *table = kf_sheet_open(cli, columns, 5);
    for (int i = 0; i < op->tensor_count; i++) {
        const kf_tensor_decl *t = &op->tensors[i];
        char role[80];
        snprintf(role, sizeof role, "%s%s%s%s", t->optional ? "optional " : "",
                 t->role == KF_INPUT ? "input" : "output", t->alias ? ", may be " : "",
                 t->alias ? t->alias : "");
        const char *cell[] = {t->name, role, t->dtype ? kf_dtype_name(t->dtype) : "--dtype",
                              t->dims, t->help};
        kf_sheet_row(table, NULL, cell, 5);
    }
    kf_sheet_close(table);
}

static void attributes(const kf_cli *cli, const kf_op *op)
{
    static const kf_column columns[] = {
        {.name = "ATTRIBUTE"}, {.name = "DEFAULT"}, {.name = "WHAT"}};
    struct libscols_table *table = op->attribute_count ? kf_sheet_open(cli, columns, 3) : NULL;
    for (int i = 0; i < op->attribute_count; i++) {
        char value[32];
        const double fallback = op->attributes[i].fallback;
        kf_attribute_print(&op->attributes[i],
                           &(kf_attribute){.i = (int64_t)fallback, .f = fallback}, value,
                           sizeof value);
        const char *cell[] = {op->attributes[i].name, value, op->attributes[i].help};
        kf_sheet_row(table, NULL, cell, 3);
    }
    kf_sheet_close(table);
}

static void knobs(const kf_cli *cli, const kf_op *op)
{
    static const kf_column columns[] = {
        {.name = "KNOB"}, {.name = "VALUES"}, {.name = "USED BY"}, {.name = "WHAT"}};
    struct libscols_table *table = op->knob_count ? kf_sheet_open(cli, columns, 4) : NULL;
    for (int i = 0; i < op->knob_count; i++) {
        char values[200];
        kf_knob_values(&op->knobs[i], values, sizeof values);
        const char *cell[] = {op->knobs[i].name, values, op->knobs[i].variants, op->knobs[i].help};
        kf_sheet_row(table, NULL, cell, 4);
    }
    kf_sheet_close(table);
}

/* "//: only cuda: clusters" in a kernel text: what one language has and the other has not. */
static void exemptions(const kf_op *op)
{
    static const char mark[] = "//: only ";
    for (const kf_text *t = kf_texts; t->folder; t++) {
        if (!t->stem || strncmp(t->stem, op->name, strlen(op->name)) != 0) {
            continue;
        }
        const char *at = t->begin;
        while ((at = memmem(at, (size_t)(t->end - at), mark, sizeof mark - 1)) != NULL) {
            const char *end = memchr(at, '\n', (size_t)(t->end - at));
            end = end ? end : t->end;
            printf("%s: %.*s\n", t->file, (int)(end - at - 4), at + 4);
            at = end;
        }
    }
}

/* ---- plans
 * ----------------------------------------------------------------------------------------- */

enum {
    STEP,
    GROUPS,
    THREADS,
    LOCAL,
    READ_MB,
    WRITTEN,
    REQUESTED,
    MFLOP,
    SPECIALS,
    SCRATCH,
    COLUMNS
};
static const kf_column plan_columns[COLUMNS] = {
    {.name = "VARIANT", .tree = true},         {.name = "GROUPS", .right = true},
    {.name = "THREADS", .right = true},        {.name = "LOCAL B", .right = true},
    {.name = "READ MB", .right = true},        {.name = "WRITTEN MB", .right = true},
    {.name = "READS ASKED MB", .right = true}, {.name = "MFLOP", .right = true},
    {.name = "M SPECIAL", .right = true},      {.name = "SCRATCH MB", .right = true},
};

typedef char cell[48];

static void million(cell text, int64_t value, bool exact)
{
    const double m = (double)value / 1e6;
    snprintf(text, sizeof(cell), "%s%.*f", exact ? "" : "<=", m < 1 ? 3 : 1, m);
}

static void cost_row(struct libscols_table *table, struct libscols_line *parent,
                     struct libscols_line **line, const char *name, const kf_grid *grid,
                     const kf_cost *cost)
{
    cell text[COLUMNS] = {0};
    const char *cells[COLUMNS] = {name};
    if (grid) {
        snprintf(text[GROUPS], sizeof(cell), "%lld", (long long)grid->groups);
        snprintf(text[THREADS], sizeof(cell), "%d", grid->threads);
        snprintf(text[LOCAL], sizeof(cell), "%lld", (long long)grid->local_bytes);
    } else {
        million(text[SCRATCH], cost->scratch_bytes, true);
    }
    million(text[READ_MB], cost->bytes_read, cost->exact);
    million(text[WRITTEN], cost->bytes_written, cost->exact);
    million(text[REQUESTED], cost->bytes_requested, cost->exact);
    million(text[MFLOP], cost->flops, true);
    million(text[SPECIALS], cost->specials, cost->exact);
    for (int i = 1; i < COLUMNS; i++) {
        cells[i] = text[i];
    }
    struct libscols_line *made = kf_sheet_row(table, parent, cells, COLUMNS);
    if (line) {
        *line = made;
    }
}

static void plan_rows(struct libscols_table *table, const kf_plan *plan)
{
    char name[200], knobs[128] = "";
    size_t used = 0;
    const kf_op *op = plan->problem.op;
    struct libscols_line *line;
    const kf_cost all = kf_plan_cost(plan);
    for (int k = 0; k < op->knob_count && used < sizeof knobs; k++) {
        if (kf_knob_used(&op->knobs[k], plan->variant->name)) {
            used += (size_t)snprintf(knobs + used, sizeof knobs - used, " %s=%lld",
                                     op->knobs[k].name, (long long)plan->config.knob[k]);
        }
    }
    snprintf(name, sizeof name, "%s%s", plan->variant->name, knobs);
    cost_row(table, NULL, &line, name, NULL, &all);
    for (int i = 0; i < plan->step_count; i++) {
        const kf_cost cost = kf_step_cost(plan, i);
        cost_row(table, line, NULL, plan->step[i].entry, &plan->step[i].grid, &cost);
    }
}

static int64_t moved(const kf_plan *plan)
{
    const kf_cost cost = kf_plan_cost(plan);
    return cost.bytes_read + cost.bytes_written;
}

static kf_status predict(const view *v, const kf_plan *base, const kf_plan *plan)
{
    const int64_t before = moved(base), after = moved(plan);
    if (base != plan && after > 0 && !plan->problem.op->internal) {
        printf("%s instead of %s: %.1f MB instead of %.1f MB, at most %.2f%s faster where memory "
               "is the limit; "
               "%d launch%s instead of %d\n",
               plan->variant->name, base->variant->name, (double)after / 1e6, (double)before / 1e6,
               (double)before / (double)after, kf_times(v->cli), plan->step_count,
               plan->step_count == 1 ? "" : "es", base->step_count);
    }
    if (v->bench && kf_device_target(v->bench->device)->capabilities & KF_CAP_SIMULATOR) {
        printf("no roof is measured on %s: it is a simulator\n", v->name);
    } else if (v->bench && after > 0) {
        kf_plan_roof roof;
        const kf_status status =
            kf_plan_roof_measure(plan, -1, v->bench->device, v->bench->queue, &roof);
        if (status != KF_OK) {
            return status;
        }
        printf("%s at the measured roof of %s (%.1f GB/s, %s): %.1f us\n", plan->variant->name,
               v->name, roof.bytes_per_second / 1e9, roof.shape, roof.seconds * 1e6);
    }
    return KF_OK;
}

static void scratch_lines(const kf_plan *plan)
{
    for (int i = 0; i < plan->scratch_count; i++) {
        printf("%s keeps %s in %s: %lld %s\n", plan->variant->name, plan->scratch[i].name,
               plan->scratch[i].kept ? "counters of its own, zeroed once" : "scratch",
               (long long)plan->scratch[i].count, kf_dtype_name(plan->scratch[i].dtype));
    }
}

/* Plans that exist for this target; the reason of the others is printed. KF_INVALID ends the
 * command. */
static kf_status open_plans(const view *v, const kf_case *c, kf_plan **plan, int *count)
{
    for (int i = 0; i < c->op->variant_count && *count < 16; i++) {
        const kf_variant *variant = &c->op->variants[i];
        if (c->variant ? c->variant != variant : !kf_cli_wants(v->cli, variant->name)) {
            continue;
        }
        const kf_status status = kf_case_plan(c, variant, v->target, &plan[*count]);
        if (status == KF_OK) {
            kf_cli_note_dropped(v->cli, &c->config, plan[*count], v->name);
            ++*count;
        } else if (status == KF_UNSUPPORTED) {
            printf("%s: %s\n", variant->name, kf_error());
        } else {
            return status;
        }
    }
    /* a variant that was named and is absent is no success */
    return *count || !v->cli->variant
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "no variant that was named has a plan for %s", v->name);
}

static kf_status explain_case(const view *v, const kf_case *c)
{
    kf_plan *plan[16] = {0};
    char shape[80];
    int count = 0;
    kf_shape_print(c, kf_times(v->cli), shape, sizeof shape);
    printf("\n%s %s %s, planned for %s\n", c->op->name, shape, kf_dtype_name(c->dtype), v->name);
    kf_status status = open_plans(v, c, plan, &count);
    struct libscols_table *table =
        status == KF_OK && count ? kf_sheet_open(v->cli, plan_columns, COLUMNS) : NULL;
    for (int i = 0; table && i < count; i++) {
        plan_rows(table, plan[i]);
    }
    kf_sheet_close(table);
    for (int i = 0; status == KF_OK && i < count; i++) {
        scratch_lines(plan[i]);
    }
    for (int i = 0; status == KF_OK && i < count && !kf_cancelled; i++) {
        status = predict(v, plan[0], plan[i]);
    }
    for (int i = 0; i < count; i++) {
        kf_plan_close(plan[i]);
    }
    return status;
}

static int explain(const view *v, const kf_op *const *ops, int count, const kf_cases *cases)
{
    for (int o = 0; o < count; o++) {
        printf("%s%s: %s\n  %s\n\n", o ? "\n" : "", ops[o]->name, ops[o]->summary, ops[o]->formula);
        tensors(v->cli, ops[o]);
        attributes(v->cli, ops[o]);
        knobs(v->cli, ops[o]);
        exemptions(ops[o]);
        for (int i = 0; i < cases->count && !kf_cancelled; i++) {
            const kf_status status =
                cases->item[i].op == ops[o] ? explain_case(v, &cases->item[i]) : KF_OK;
            if (status != KF_OK) {
                return kf_cli_fail(status);
            }
        }
    }
    return kf_cancelled ? 130 : 0;
}

/* A device that was named is opened, so that probed limits and measured roofs are its own. */
static int choose_target(kf_cli *cli, view *v, kf_bench *bench)
{
    static char name[200];
    kf_selection selection;
    *v = (view){
        .cli = cli, .target = kf_target_generic(), .name = "a generic GPU (no device asked)"};
    if (!cli->device && !cli->backend) {
        return -1;
    }
    const int code = kf_cli_select(cli, &selection);
    if (code >= 0) {
        return code;
    }
    const kf_status status = kf_bench_open(cli, kf_cli_first(cli, &selection), bench);
    if (status != KF_OK) {
        return kf_cli_fail(status);
    }
    const kf_device_info *info = kf_device_describe(bench->device);
    snprintf(name, sizeof name, "%s %s", info->id, info->name);
    v->target = kf_device_target(bench->device);
    v->name = name;
    v->bench = kf_is_recorder(info) ? NULL : bench; /* a recorder of launches has no speed */
    return -1;
}

/* No op named beside --case: those of the cases. */
static int ops_of_cases(const kf_cases *cases, const kf_op **ops, int count)
{
    for (int i = 0; count < KF_CLI_LIST && i < cases->count; i++) {
        bool again = false;
        for (int o = 0; o < count; o++) {
            again = again || ops[o] == cases->item[i].op;
        }
        if (!again) {
            ops[count++] = cases->item[i].op;
        }
    }
    return count;
}

int kf_cmd_explain(kf_cli *cli, int argc, char **argv)
{
    const kf_grammar grammar = {.words = "OP...",
                                .doc = "What each variant launches, moves and computes. "
                                       "Needs no device; with --device its own target and roofs."};
    const kf_op *ops[KF_CLI_LIST];
    kf_bench bench = {0};
    kf_cases cases = {0};
    view v;
    int count, code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code < 0) {
        code = kf_cli_ops(cli, ops, KF_CLI_LIST, &count);
    }
    if (code < 0) {
        code = kf_cli_check(cli, ops, count);
    }
    if (code < 0 && cli->format.count && !cli->format.from_environment) {
        code = kf_cli_complain(2, "explain measures nothing and has no rows: -o is for bench, "
                                  "compare and lesson");
    }
    if (code < 0) {
        code = choose_target(cli, &v, &bench);
    }
    if (code < 0) {
        code = kf_cli_cases(cli, ops, count, (v.target->capabilities & KF_CAP_CPU) != 0, &cases);
    }
    if (code < 0) {
        count = count ? count : ops_of_cases(&cases, ops, count);
        code = explain(&v, ops, count, &cases);
    }
    free(cases.item);
    kf_bench_close(&bench);
    return code;
}
