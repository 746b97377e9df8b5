/* Names on the command line against the ops' tables, before anything runs. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int kf_cli_ops(kf_cli *cli, const kf_op **ops, int capacity, int *count)
{
    const char *choices[64];
    int choice_count = 0;
    while (kf_ops[choice_count] && choice_count < 64) {
        choices[choice_count] = kf_ops[choice_count]->name;
        choice_count++;
    }
    *count = 0;
    for (int i = 0; i < cli->words.count && *count < capacity; i++) {
        const kf_op *op = kf_op_find(cli->words.item[i]);
        if (!op) {
            return kf_cli_unknown("op", cli->words.item[i], choices, choice_count);
        }
        bool again = false; /* named twice is measured once: equal rows would be merged anyway */
        for (int o = 0; o < *count; o++) {
            again = again || ops[o] == op;
        }
        if (!again) {
            ops[(*count)++] = op;
        }
    }
    if (*count == 0 && cli->cases.count == 0) {
        fprintf(stderr, "kfuse: which op? Choices:");
        for (int i = 0; i < choice_count; i++) {
            fprintf(stderr, "%s %s", i ? "," : "", choices[i]);
        }
        fputc('\n', stderr);
        return 2;
    }
    return -1;
}

static int add_choice(const char **choices, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(choices[i], name) == 0) {
            return count;
        }
    }
    choices[count] = name;
    return count + 1;
}

static bool has(const char *const *choices, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(choices[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_list(const char *what, const char *list, const char *const *choices, int count)
{
    char item[64];
    while (kf_list_next(&list, item, sizeof item)) {
        if (!has(choices, count, item)) {
            return kf_cli_unknown(what, item, choices, count);
        }
    }
    return -1;
}

static int check_variants(const kf_cli *cli, const kf_op *const *ops, int count)
{
    const char *choices[256];
    int n = 0;
    for (int o = 0; o < count; o++) {
        for (int v = 0; v < ops[o]->variant_count && n < 256; v++) {
            n = add_choice(choices, n, ops[o]->variants[v].name);
        }
    }
    return count ? check_list("variant", cli->variant, choices, n) : -1;
}

static bool split(const char *text, char *name, size_t bytes, const char **value)
{
    const size_t length = strcspn(text, "=");
    snprintf(name, bytes, "%.*s", (int)length, text);
    *value = text[length] ? text + length + 1 : "";
    return text[length] == '=' && length > 0 && **value;
}

static int refuse_value(const kf_knob_decl *knob, const char *value)
{
    fprintf(stderr, "kfuse: knob %s cannot be '%s'. Choices:", knob->name, value);
    for (int i = 0; i < knob->value_count; i++) {
        fprintf(stderr, "%s %lld", i ? "," : "", (long long)knob->values[i]);
    }
    fputc('\n', stderr);
    return 2;
}

static bool listed(const kf_knob_decl *knob, const char *text)
{
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (*end || errno) {
        return false;
    }
    for (int i = 0; i < knob->value_count; i++) {
        if (knob->values[i] == value) {
            return true;
        }
    }
    return false;
}

/* A knob must be one of some op's, with a value that one of them lists. */
static int check_knob(const char *text, const kf_op *const *ops, int count)
{
    char name[64];
    const char *value, *choices[256];
    const kf_knob_decl *seen = NULL;
    int n = 0;
    if (!split(text, name, sizeof name, &value)) {
        return kf_cli_complain(2, "--set wants NAME=VALUE, not '%s'", text);
    }
    for (int o = 0; o < count; o++) {
        for (int k = 0; k < ops[o]->knob_count && n < 256; k++) {
            const kf_knob_decl *knob = &ops[o]->knobs[k];
            n = add_choice(choices, n, knob->name);
            if (strcmp(knob->name, name) == 0) {
                if (listed(knob, value)) {
                    return -1;
                }
                seen = knob;
            }
        }
    }
    return seen ? refuse_value(seen, value) : kf_cli_unknown("knob", name, choices, n);
}

/* Optional tensors of any of the ops, or "none". */
static int check_with(const kf_cli *cli, const kf_op *const *ops, int count)
{
    const char *choices[256];
    int n = 0;
    for (int o = 0; o < count; o++) {
        for (int t = 0; t < ops[o]->tensor_count && n < 255; t++) {
            if (ops[o]->tensors[t].optional) {
                n = add_choice(choices, n, ops[o]->tensors[t].name);
            }
        }
    }
    n = add_choice(choices, n, "none");
    return cli->with ? check_list("optional tensor", cli->with, choices, n) : -1;
}

int kf_cli_check_attribute(const char *text, const kf_op *const *ops, int count)
{
    char name[64];
    const char *value, *choices[64];
    int n = 0;
    if (!split(text, name, sizeof name, &value)) {
        return kf_cli_complain(2, "--attr wants NAME=VALUE, not '%s'", text);
    }
    for (int o = 0; o < count; o++) {
        for (int a = 0; a < ops[o]->attribute_count && n < 64; a++) {
            n = add_choice(choices, n, ops[o]->attributes[a].name);
        }
    }
    if (!has(choices, n, name)) {
        return kf_cli_unknown("attribute", name, choices, n);
    }
    for (int o = 0; o < count; o++) {
        for (int a = 0; a < ops[o]->attribute_count; a++) {
            kf_attribute parsed;
            if (strcmp(ops[o]->attributes[a].name, name) == 0 &&
                kf_attribute_parse(&ops[o]->attributes[a], value, &parsed) != KF_OK) {
                return kf_cli_complain(2, "%s", kf_error());
            }
        }
    }
    return -1;
}

/* The first two words of a --case, for their nearest; the rest is said by the parser. */
static int check_case(const char *text)
{
    char op_name[64] = "", variant[64] = "";
    const char *choices[64];
    int n = 0;
    sscanf(text, "%63s %63s", op_name, variant);
    const kf_op *op = kf_op_find(op_name);
    for (int i = 0; !op && kf_ops[i] && n < 64; i++) {
        choices[n++] = kf_ops[i]->name;
    }
    for (int i = 0; op && i < op->variant_count && n < 63; i++) {
        choices[n++] = op->variants[i].name;
    }
    if (!op) {
        return kf_cli_unknown("op", op_name, choices, n);
    }
    choices[n++] = "default";
    return variant[0] && !has(choices, n, variant) ? kf_cli_unknown("variant", variant, choices, n)
                                                   : -1;
}

/* ---- cases, as far as they can be judged without a device ---------------------------------- */

static kf_status legal_knobs(const kf_case *c)
{
    for (int k = 0; k < c->op->knob_count; k++) {
        char value[32];
        snprintf(value, sizeof value, "%lld", (long long)c->config.knob[k]);
        if (c->config.set[k] && !listed(&c->op->knobs[k], value)) {
            return kf_fail(KF_INVALID, "its knob %s cannot be %s: `kfuse list` shows the values",
                           c->op->knobs[k].name, value);
        }
    }
    return KF_OK;
}

static kf_status legal_problem(const kf_case *c)
{
    kf_problem *problem = NULL;
    kf_status status = kf_problem_open(c->op->name, &problem);
    if (status == KF_OK) {
        status = kf_case_problem(c, problem);
    }
    if (status == KF_OK) {
        status = kf_problem_derive(problem);
    }
    kf_problem_close(problem);
    return status;
}

static kf_status legal(const kf_cli *cli, const kf_case *c)
{
    kf_case own = *c;
    kf_status status = legal_knobs(c);
    for (int v = 0; status == KF_OK && v < c->op->variant_count; v++) {
        const kf_variant *variant = &c->op->variants[v];
        if (c->variant ? c->variant == variant : kf_cli_wants(cli, variant->name)) {
            own.variant = variant; /* says which optional tensors there are */
            status = legal_problem(&own);
        }
    }
    return status;
}

/* Sizes that overflow, knobs that one op of several does not take: found now, they cost nothing;
 * found in the middle of a sweep, they would cost the rows before them. */
static int check_cases(kf_cli *cli, const kf_op *const *ops, int count)
{
    kf_cases cases;
    char shape[100];
    int code = kf_cli_cases(cli, ops, count, false, &cases);
    for (int i = 0; code < 0 && i < cases.count; i++) {
        const kf_case *c = &cases.item[i];
        if (legal(cli, c) != KF_OK) {
            kf_shape_print(c, kf_times(cli), shape, sizeof shape);
            code = kf_cli_complain(2, "%s %s %s: %s", c->op->name, shape, kf_dtype_name(c->dtype),
                                   kf_error());
        }
    }
    free(cases.item);
    return code;
}

int kf_cli_check(kf_cli *cli, const kf_op *const *ops, int count)
{
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    static kf_shape shapes[KF_CLI_SHAPES];
    int shape_count, code = check_list("dtype", cli->dtype, dtypes, 3);
    if (code < 0) {
        code = check_variants(cli, ops, count);
    }
    if (code < 0) {
        code = check_with(cli, ops, count);
    }
    for (int i = 0; code < 0 && i < cli->set.count; i++) {
        code = check_knob(cli->set.item[i], ops, count);
        code =
            code < 0 && count ? kf_cli_check_knob_users(cli, ops, count, cli->set.item[i]) : code;
    }
    for (int i = 0; code < 0 && i < cli->attr.count; i++) {
        code = kf_cli_check_attribute(cli->attr.item[i], ops, count);
    }
    for (int i = 0; code < 0 && i < cli->cases.count; i++) {
        code = check_case(cli->cases.item[i]);
    }
    if (code < 0 && cli->shape &&
        kf_shape_parse(cli->shape, shapes, KF_CLI_SHAPES, &shape_count) != KF_OK) {
        code = kf_cli_fail(KF_INVALID);
    }
    if (code < 0) {
        code = check_cases(cli, ops, count);
    }
    return code < 0 ? kf_cli_sinks_check(cli) : code;
}

bool kf_cli_wants(const kf_cli *cli, const char *variant)
{
    char item[64];
    const char *list = cli->variant;
    while (kf_list_next(&list, item, sizeof item)) {
        if (strcmp(item, variant) == 0) {
            return true;
        }
    }
    return cli->variant == NULL;
}

static bool some_device_can(const kf_variant *variant, const kf_selection *selection)
{
    for (int i = 0; i < selection->count; i++) {
        if (!(variant->needs & ~selection->device[i]->info.target.capabilities)) {
            return true;
        }
    }
    return false;
}

static int cannot_run(const char *variant, const kf_selection *selection)
{
    return kf_cli_complain(
        3, "variant %s cannot run on %s: `kfuse list` tells what it needs", variant,
        selection->count == 1 ? selection->device[0]->info.id : "any of these devices");
}

int kf_cli_variants_run(kf_cli *cli, const kf_op *const *ops, int count,
                        const kf_selection *selection)
{
    char item[64];
    const char *list = cli->variant;
    while (kf_list_next(&list, item, sizeof item)) {
        bool can = count == 0;
        for (int o = 0; o < count; o++) {
            const kf_variant *variant = kf_op_variant(ops[o], item);
            can = can || (variant && some_device_can(variant, selection));
        }
        if (!can) {
            return cannot_run(item, selection);
        }
    }
    for (int i = 0; i < cli->cases.count; i++) {
        kf_case c; /* it parses: kf_cli_check */
        if (kf_case_parse(cli->cases.item[i], &c) == KF_OK && c.variant &&
            !some_device_can(c.variant, selection)) {
            return cannot_run(c.variant->name, selection);
        }
    }
    return -1;
}
