/* kfuse list: ops, variants with what they need, knobs, lessons. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include "../lessons/lesson.h"
#include <string.h>

static const struct {
    uint64_t bit;
    const char *name;
} needs[] = {
    {KF_CAP_CPU, "CPU"}, {KF_CAP_SHUFFLE, "shuffle"}, {KF_CAP_CLUSTERS, "clusters"},
    {KF_CAP_PTX, "PTX"}, {KF_CAP_F64, "double"},      {KF_CAP_REPLAY, "replay"},
};

static void needs_text(uint64_t bits, char *text, size_t bytes)
{
    size_t used = 0;
    snprintf(text, bytes, "any device");
    for (size_t i = 0; i < sizeof needs / sizeof *needs && used < bytes; i++) {
        if (bits & needs[i].bit) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? ", " : "",
                                     needs[i].name);
        }
    }
}

static void ops(const kf_cli *cli)
{
    static const kf_column columns[] = {
        {.name = "OP", .tree = true}, {.name = "NEEDS"}, {.name = "WHAT"}};
    struct libscols_table *table = kf_sheet_open(cli, columns, 3);
    for (int i = 0; kf_ops[i]; i++) {
        const kf_op *op = kf_ops[i];
        if (op->internal && !cli->verbose) {
            continue;
        }
        const char *cell[] = {op->name, "", op->summary};
        struct libscols_line *line = kf_sheet_row(table, NULL, cell, 3);
        for (int v = 0; v < op->variant_count; v++) {
            char text[100];
            needs_text(op->variants[v].needs, text, sizeof text);
            const char *variant[] = {op->variants[v].name, text, op->variants[v].help};
            kf_sheet_row(table, line, variant, 3);
        }
    }
    kf_sheet_close(table);
}

void kf_knob_values(const kf_knob_decl *knob, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < knob->value_count && used < bytes; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%lld", i ? " " : "",
                                 (long long)knob->values[i]);
    }
}

static void knobs(const kf_cli *cli)
{
    static const kf_column columns[] = {
        {.name = "KNOB", .tree = true}, {.name = "VALUES"}, {.name = "USED BY"}, {.name = "WHAT"}};
    struct libscols_table *table = kf_sheet_open(cli, columns, 4);
    for (int i = 0; kf_ops[i]; i++) {
        const kf_op *op = kf_ops[i];
        if (op->knob_count == 0 || (op->internal && !cli->verbose)) {
            continue;
        }
        const char *cell[] = {op->name};
        struct libscols_line *line = kf_sheet_row(table, NULL, cell, 1);
        for (int k = 0; k < op->knob_count; k++) {
            char values[200];
            kf_knob_values(&op->knobs[k], values, sizeof values);
            const char *knob[] = {op->knobs[k].name, values, op->knobs[k].variants,
                                  op->knobs[k].help};
            kf_sheet_row(table, line, knob, 4);
        }
    }
    kf_sheet_close(table);
}

void kf_lessons_print(const kf_cli *cli)
{
    static const kf_column columns[] = {
        {.name = "#", .right = true}, {.name = "LESSON"}, {.name = "TITLE"}};
    struct libscols_table *table = kf_sheet_open(cli, columns, 3);
    for (int i = 0; kf_lessons[i]; i++) {
        char number[12];
        snprintf(number, sizeof number, "%d", kf_lessons[i]->number);
        const char *cell[] = {number, kf_lessons[i]->name, kf_lessons[i]->title};
        kf_sheet_row(table, NULL, cell, 3);
    }
    kf_sheet_close(table);
}

int kf_cmd_list(kf_cli *cli, int argc, char **argv)
{
    const kf_grammar grammar = {.plain = true,
                                .doc = "Ops, variants with what they need, knobs, lessons; -v: the "
                                       "laboratory's own ops too."};
    const int code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code >= 0) {
        return code;
    }
    ops(cli);
    putchar('\n');
    knobs(cli);
    printf("\n`kfuse explain OP` tells its tensors, attributes and what each variant moves.\n\n");
    kf_lessons_print(cli);
    return 0;
}
