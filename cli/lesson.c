/* kfuse lesson NAME, and the lesson programs. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "../lessons/lesson.h"
#include <stdlib.h>
#include <string.h>

static int lesson_ops(const kf_lesson *lesson, const kf_op **ops, int capacity)
{
    char names[256], *rest;
    int count = 0;
    snprintf(names, sizeof names, "%s", lesson->ops ? lesson->ops : "");
    for (char *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        const kf_op *op = kf_op_find(name);
        if (op && count < capacity) {
            ops[count++] = op;
        }
    }
    return count;
}

/* Does one of the two that a lesson sets against each other read this knob here? Also true when
 * there is no plan to ask. */
static bool reads(const kf_cli *cli, const kf_op *op, int knob, const kf_target *target)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    kf_case c = {.op = op, .dtype = KF_F32};
    kf_shape shape;
    bool read = false;
    kf_cli_config(cli, op, &c.config);
    kf_shape_default(op, cpu, &shape);
    memcpy(c.dim, shape.size, sizeof c.dim[0] * (size_t)kf_op_dim_count(op));
    for (int i = 0; i < 2; i++) {
        kf_plan *plan;
        read = kf_case_plan(&c, i ? NULL : &op->variants[0], target, &plan) != KF_OK ||
               plan->config.set[knob] || read;
        kf_plan_close(plan);
    }
    return read;
}

/* The --set words that some op of the lesson reads on this device, with a note for the others. A
 * --case may name any variant: then all stay. */
static void knob_words(const kf_cli *cli, const kf_lesson *lesson, kf_device *device, char *text,
                       size_t bytes)
{
    const kf_op *ops[KF_CLI_LIST];
    const int count = lesson_ops(lesson, ops, KF_CLI_LIST);
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < cli->set.count && used < bytes; i++) {
        const char *word = cli->set.item[i];
        char name[64];
        bool read = cli->cases.count > 0;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
        for (int o = 0; o < count && !read; o++) {
            const int knob = kf_op_knob(ops[o], name);
            read = knob >= 0 && reads(cli, ops[o], knob, kf_device_target(device));
        }
        if (read) {
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? " " : "", word);
        } else {
            kf_cli_note(cli, "knob %s is left out: nothing in this lesson reads it on %s", name,
                        kf_device_describe(device)->id);
        }
    }
}

/* Nothing is open: what needs no device is told all the same. */
static kf_status run_without(const kf_lesson *lesson, kf_lesson_context *context)
{
    context->device_count = 0;
    return lesson->run(context);
}

static kf_status run_open(kf_cli *cli, const kf_lesson *lesson, kf_lesson_context *context,
                          const kf_selection *selection)
{
    kf_device *devices[KF_CLI_DEVICES] = {0};
    char knobs[2048];
    kf_status status = selection->count ? KF_OK : run_without(lesson, context);
    /* one after the other: a device that was opened holds memory that the next may want */
    for (int i = 0; status == KF_OK && i < selection->count && !kf_cancelled; i++) {
        status = kf_cli_open(cli, selection->device[i], &devices[0]);
        context->devices = devices;
        context->device_count = 1;
        if (status == KF_OK) {
            if (!lesson->any_op) { /* else they are in the cases */
                knob_words(cli, lesson, devices[0], knobs, sizeof knobs);
                context->knobs = knobs[0] ? knobs : NULL;
            }
            status = lesson->run(context);
        }
        kf_device_close(devices[0]);
        devices[0] = NULL;
    }
    return status;
}

static int run(kf_cli *cli, const kf_lesson *lesson, const kf_selection *selection,
               const kf_cases *cases)
{
    char dtype[16];
    const char *list = cli->dtype;
    kf_status status = kf_cli_sinks_open(cli, NULL, selection);
    kf_lesson_context context = {
        .cases = cases->item,
        .case_count = cases->count,
        .dtype = kf_list_next(&list, dtype, sizeof dtype) ? kf_dtype_parse(dtype) : KF_NONE,
        .seed = cli->seed,
        .unicode = cli->unicode,
        .out = cli->sink_on_stdout ? stderr : stdout,
        .progress = cli->quiet ? NULL : stderr,
        .cancel = &kf_cancelled,
        .sinks = cli->sink,
        .sink_count = cli->sink_count,
        .svg = lesson->draws ? cli->svg : NULL,
        .simulator = cli->simulator};
    if (status == KF_OK) {
        status = run_open(cli, lesson, &context, selection);
    }
    return kf_cli_sinks_close(cli, status == KF_OK ? 0 : kf_cli_fail(status));
}

/* ---- what is run ---------------------------------------------------------------------------- */

static int check(kf_cli *cli, const kf_lesson *lesson, const kf_op *const *ops, int count)
{
    if (cli->words.count && !lesson->any_op) {
        return kf_cli_complain(2, "lesson %s runs %s: '%s' is one word too many", lesson->name,
                               lesson->ops, cli->words.item[0]);
    }
    if (cli->svg_named && (!lesson->draws || !*cli->svg)) {
        return kf_cli_complain(2,
                               *cli->svg ? "lesson %s draws no picture: --svg is not for it"
                                         : "--svg= names no file",
                               lesson->name);
    }
    const int code = kf_cli_check(cli, ops, count);
    return code < 0 && cli->variant && !lesson->any_op
               ? kf_cli_complain(2, "a lesson sets unfused against the op's own choice; another "
                                    "one is named by --case=\"OP VARIANT DTYPE dim=N ...\"")
               : code;
}

/* A lesson of any op needs no device where none is named. */
static int choose(kf_cli *cli, const kf_lesson *lesson, const kf_op *const *ops, int count,
                  kf_selection *selection)
{
    *selection = (kf_selection){0};
    if (lesson->any_op && !cli->device && !cli->backend && !kf_cli_any_device(cli)) {
        kf_cli_note(cli, "there is no device here: nothing is measured (kfuse doctor)");
        return kf_cancelled ? 130 : -1;
    }
    int code = kf_cli_select_real(cli, selection);
    if (code < 0 && lesson->any_op) {
        code = kf_cli_variants_run(cli, ops, count, selection);
    }
    if (code < 0 && selection->count > 1 && lesson->draws && cli->svg) {
        code = kf_cli_complain(2, "--svg draws one device, and %d are named", selection->count);
    }
    return code;
}

static kf_status add_variants(const kf_cli *cli, const kf_case *c, kf_cases *all)
{
    const int room = all->count + c->op->variant_count + 1;
    kf_case *item = realloc(all->item, (size_t)room * sizeof *item);
    if (!item) {
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for so many cases");
    }
    all->item = item;
    if (c->variant || !cli->variant) {
        all->item[all->count++] = *c;
        return KF_OK;
    }
    for (int v = 0; v < c->op->variant_count; v++) {
        if (kf_cli_wants(cli, c->op->variants[v].name)) {
            all->item[all->count] = *c;
            all->item[all->count++].variant = &c->op->variants[v];
        }
    }
    return KF_OK;
}

/* Cases of the user's ops, one for each variant that was named. */
static int free_cases(kf_cli *cli, const kf_op *const *ops, int count,
                      const kf_selection *selection, kf_cases *cases)
{
    kf_cases plain;
    const bool cpu =
        selection->count && selection->device[0]->info.target.capabilities & KF_CAP_CPU;
    const int code = kf_cli_cases(cli, ops, count, cpu, &plain);
    kf_status status = KF_OK;
    for (int i = 0; code < 0 && status == KF_OK && i < plain.count; i++) {
        status = add_variants(cli, &plain.item[i], cases);
    }
    free(plain.item);
    return status == KF_OK ? code : kf_cli_fail(status);
}

int kf_cli_lesson(kf_cli *cli, const kf_lesson *lesson)
{
    const kf_op *ops[KF_CLI_LIST];
    int count = lesson_ops(lesson, ops, KF_CLI_LIST), code = -1;
    kf_selection selection;
    kf_cases cases = {0};
    if (lesson->any_op && cli->words.count) {
        code = kf_cli_ops(cli, ops, KF_CLI_LIST, &count);
    }
    if (code < 0) {
        code = check(cli, lesson, ops, count);
    }
    if (code < 0) {
        code = choose(cli, lesson, ops, count, &selection);
    }
    if (code < 0 && lesson->any_op) {
        code = free_cases(cli, ops, count, &selection, &cases);
    } else if (code < 0 && (cli->shape || cli->cases.count)) {
        code = kf_cli_cases(cli, ops, cli->shape ? count : 0, false, &cases);
    }
    if (code < 0) {
        code = run(cli, lesson, &selection, &cases);
    }
    free(cases.item);
    return code;
}

/* ---- the command line ----------------------------------------------------------------------- */

enum { KEY_SVG = 0x500, KEY_SIMULATOR };

static error_t parse(int key, char *arg, struct argp_state *state, void *own)
{
    kf_cli *cli = own;
    (void)state;
    switch (key) {
    case KEY_SVG:
        cli->svg = arg;
        cli->svg_named = cli->own_options;
        return 0;
    case KEY_SIMULATOR:
        cli->simulator = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int kf_cli_lesson_parse(kf_cli *cli, const kf_lesson *lesson, int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"svg", KEY_SVG, "FILE", 0, "the lesson's picture, drawn by gnuplot (memory_analysis)", 0},
        {"simulator", KEY_SIMULATOR, "LIBRARY", 0,
         "Oclgrind's liboclgrind-rt-icd.so, or none (memory_analysis)", 0},
        {0}};
    const kf_grammar grammar = {
        .words = !lesson          ? "[NAME [OP...]]"
                 : lesson->any_op ? "[OP...]"
                                  : NULL,
        .doc = lesson ? lesson->title
                      : "Count, predict, measure, explain. No name: the table of contents. "
                        "--backend=all: every device.",
        .options = options,
        .parse = parse,
        .own = cli};
    return kf_cli_parse(cli, &grammar, argc, argv);
}

int kf_cmd_lesson(kf_cli *cli, int argc, char **argv)
{
    const char *choices[64];
    int count = 0, code = kf_cli_lesson_parse(cli, NULL, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (cli->words.count == 0) {
        kf_lessons_print(cli);
        printf("\nkfuse lesson NAME runs one; lessons/NAME/README.md tells the story.\n");
        return 0;
    }
    const char *name = cli->words.item[0];
    for (; kf_lessons[count] && count < 64; count++) {
        choices[count] = kf_lessons[count]->name;
        if (strcmp(name, choices[count]) == 0) { /* the other words are the lesson's */
            cli->words.count--;
            memmove(cli->words.item, cli->words.item + 1,
                    (size_t)cli->words.count * sizeof *cli->words.item);
            return kf_cli_lesson(cli, kf_lessons[count]);
        }
    }
    return kf_cli_unknown("lesson", name, choices, count);
}
