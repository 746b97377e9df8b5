/* kfuse run OP: real data in .npy files, in and out. SPDX-License-Identifier: Apache-2.0 */
#include "job.h"
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

typedef struct own {
    kf_list inputs, outputs;
    bool verify;
    kf_cli *cli;
} own;

enum { KEY_INPUT = 0x400, KEY_OUTPUT, KEY_VERIFY };

static const struct argp_option options[] = {
    {"input", KEY_INPUT, "[NAME=]FILE", 0, "an input tensor from a .npy file; may be repeated", 0},
    {"output", KEY_OUTPUT, "[NAME=]FILE", 0, "an output tensor to a .npy file; may be repeated", 0},
    {"verify", KEY_VERIFY, 0, 0, "check the result on this data against the reference", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state, void *data)
{
    own *o = data;
    (void)state;
    switch (key) {
    case KEY_INPUT:
        kf_list_add(o->cli, &o->inputs, arg);
        return 0;
    case KEY_OUTPUT:
        kf_list_add(o->cli, &o->outputs, arg);
        return 0;
    case KEY_VERIFY:
        o->verify = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- which file is which tensor
 * ------------------------------------------------------------------ */

static int names_of(const kf_op *op, kf_role role, const char **names, int *places)
{
    int count = 0;
    for (int i = 0; i < op->tensor_count; i++) {
        if (op->tensors[i].role == role) {
            places[count] = i;
            names[count++] = op->tensors[i].name;
        }
    }
    return count;
}

static bool is_name(const char *text, size_t length)
{
    return length > 0 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") >=
               length;
}

/* Found before anything runs: a folder that is not there, and two outputs in one file. */
static int check_output(const kf_job *j, int place)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", j->path[place]);
    if (access(dirname(folder), W_OK) != 0 && access(j->path[place], W_OK) != 0) {
        return kf_cli_complain(5, "cannot write %s: %s", j->path[place], strerror(errno));
    }
    for (int i = 0; i < j->op->tensor_count; i++) {
        if (i != place && j->path[i] && j->op->tensors[i].role == KF_OUTPUT &&
            kf_cli_same_file(j->path[i], j->path[place])) {
            return kf_cli_complain(2, "outputs '%s' and '%s' go to the same file",
                                   j->op->tensors[i].name, j->op->tensors[place].name);
        }
    }
    return -1;
}

/* NAME=FILE, or FILE where the op has one tensor of this role that must be there. */
static int assign(kf_job *j, const char *text, kf_role role)
{
    const char *names[KF_MAX_TENSORS], *what = role == KF_INPUT ? "input" : "output";
    char name[64];
    int places[KF_MAX_TENSORS], place = -1;
    const int count = names_of(j->op, role, names, places);
    const size_t length = strcspn(text, "=");
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    for (int i = 0; i < count; i++) {
        if (text[length] == '=' && strcmp(names[i], name) == 0) {
            place = places[i];
        }
    }
    if (place >= 0) {
        text += length + 1;
    } else if (text[length] == '=' && is_name(text, length)) {
        return kf_cli_unknown(what, name, names, count);
    } else if (count == 1 || (count > 1 && j->op->tensors[places[1]].optional)) {
        place = places[0];
    } else {
        return kf_cli_complain(2, "op %s has several %ss: say which as --%s=NAME=FILE (%s, %s ...)",
                               j->op->name, what, what, names[0], names[1]);
    }
    if (j->path[place]) {
        return kf_cli_complain(2, "%s '%s' is given twice", what, j->op->tensors[place].name);
    }
    if (!*text) {
        return kf_cli_complain(2, "%s '%s' names no file", what, j->op->tensors[place].name);
    }
    j->path[place] = text;
    return role == KF_OUTPUT ? check_output(j, place) : -1;
}

static int assign_all(kf_job *j, const own *o)
{
    int code = -1;
    for (int i = 0; code < 0 && i < o->inputs.count; i++) {
        code = assign(j, o->inputs.item[i], KF_INPUT);
    }
    for (int i = 0; code < 0 && i < o->outputs.count; i++) {
        code = assign(j, o->outputs.item[i], KF_OUTPUT);
    }
    for (int i = 0; code < 0 && i < j->op->tensor_count; i++) {
        const kf_tensor_decl *t = &j->op->tensors[i];
        if (!t->optional && !j->path[i]) {
            const char *what = t->role == KF_INPUT ? "input" : "output";
            code = kf_cli_complain(2, "op %s needs its %s '%s' (%s): --%s=%s=FILE", j->op->name,
                                   what, t->name, t->help, what, t->name);
        }
    }
    return code;
}

/* What attributes ask of shapes (an axis of the array, a part of the head) shows when the arrays
 * are there, which nobody has read yet: their values alone are checked here, without the other
 * checks' made-up shapes. Along any axis the shape is made up so that there is one. */
static int check_all_but_attributes(kf_cli *cli, const kf_op *const *ops, int count)
{
    const kf_cli given = *cli;
    int code = -1;
    for (int i = 0; code < 0 && i < given.attr.count && !ops[0]->any_axis; i++) {
        code = kf_cli_check_attribute(given.attr.item[i], ops, count);
    }
    cli->attr.count = ops[0]->any_axis ? given.attr.count : 0;
    code = code < 0 ? kf_cli_check(cli, ops, count) : code;
    cli->attr = given.attr;
    return code;
}

static int check_command(kf_cli *cli, const kf_op *const *ops, int count)
{
    if (count != 1) {
        return kf_cli_complain(2, "run takes one op");
    }
    if (cli->shape || cli->cases.count) {
        return kf_cli_complain(
            2, "run takes its shapes from the arrays: --shape and --case are not for it");
    }
    if (cli->format.count && !cli->format.from_environment) {
        return kf_cli_complain(2, "run writes arrays, not rows: --output=FILE instead of -o");
    }
    if ((cli->dtype && strchr(cli->dtype, ',')) || (cli->variant && strchr(cli->variant, ','))) {
        return kf_cli_complain(2, "run takes one dtype and one variant");
    }
    /* the axis is one of the array's, which nobody has read yet: sizes enough for any of them */
    cli->shape = ops[0]->any_axis ? "1x1x1x1x1x1x1x1" : NULL;
    const int code = check_all_but_attributes(cli, ops, count);
    cli->shape = NULL;
    return code;
}

static int run_named(kf_cli *cli, const own *o, const kf_op *op)
{
    kf_selection selection;
    kf_job j = {.cli = cli, .op = op};
    int code = assign_all(&j, o);
    if (code < 0) {
        code = kf_cli_select_real(cli, &selection);
    }
    if (code < 0) {
        code = kf_cli_variants_run(cli, &op, 1, &selection);
    }
    if (code < 0) {
        kf_status status = kf_job_load(&j);
        if (status == KF_OK && !kf_cancelled) {
            status = kf_job_run(&j, kf_cli_first(cli, &selection), o->verify);
        }
        code = kf_cancelled ? 130 : status == KF_OK ? 0 : kf_cli_fail(status);
    }
    kf_job_release(&j);
    return code;
}

int kf_cmd_run(kf_cli *cli, int argc, char **argv)
{
    own o = {.cli = cli};
    const kf_grammar grammar = {.words = "OP",
                                .doc = "Run an op on .npy files; leading axes are rows.",
                                .options = options,
                                .parse = parse,
                                .own = &o};
    const kf_op *ops[KF_CLI_LIST];
    int count, code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code < 0) {
        code = kf_cli_ops(cli, ops, KF_CLI_LIST, &count);
    }
    if (code < 0) {
        code = check_command(cli, ops, count);
    }
    return code >= 0 ? code : run_named(cli, &o, ops[0]);
}
