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

static kf_status run_open(kf_cli *cli, const kf_lesson *lesson, kf_lesson_context *context,
                          const kf_selection *selection)
{
    kf_device *devices[KF_CLI_DEVICES] = {0};
    char knobs[2048];
    kf_status status = KF_OK;
    /* one after the other: a device that was opened holds memory that the next may want */
    for (int i = 0; status == KF_OK && i < selection->count && !kf_cancelled; i++) {
        status = kf_cli_open(cli, selection->device[i], &devices[0]);
        context->devices = devices;
        context->device_count = 1;
        if (status == KF_OK) {
            knob_words(cli, lesson, devices[0], knobs, sizeof knobs);
            context->knobs = knobs[0] ? knobs : NULL;
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
        .sink_count = cli->sink_count};
    if (status == KF_OK) {
        status = run_open(cli, lesson, &context, selection);
    }
    return kf_cli_sinks_close(cli, status == KF_OK ? 0 : kf_cli_fail(status));
}

int kf_cli_lesson(kf_cli *cli, const kf_lesson *lesson)
{
    const kf_op *ops[KF_CLI_LIST];
    const int op_count = lesson_ops(lesson, ops, KF_CLI_LIST);
    kf_selection selection;
    kf_cases cases = {0};
    int code = kf_cli_check(cli, ops, op_count);
    if (code < 0 && cli->variant) {
        code =
            kf_cli_complain(2, "a lesson sets unfused against the op's own choice; another one is "
                               "named by --case=\"OP VARIANT DTYPE dim=N ...\"");
    }
    if (code < 0) {
        code = kf_cli_select_real(cli, &selection);
    }
    if (code < 0 && (cli->shape || cli->cases.count)) {
        code = kf_cli_cases(cli, ops, cli->shape ? op_count : 0, false, &cases);
    }
    if (code < 0) {
        code = run(cli, lesson, &selection, &cases);
    }
    free(cases.item);
    return code;
}

int kf_cmd_lesson(kf_cli *cli, int argc, char **argv)
{
    const kf_grammar grammar = {.words = "[NAME]",
                                .doc = "Count, predict, measure, explain. No name: the "
                                       "table of contents. --backend=all: every device."};
    const char *choices[64];
    int count = 0, code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (cli->words.count == 0) {
        kf_lessons_print(cli);
        printf("\nkfuse lesson NAME runs one; lessons/NAME/README.md tells the story.\n");
        return 0;
    }
    for (; kf_lessons[count] && count < 64; count++) {
        choices[count] = kf_lessons[count]->name;
        if (strcmp(cli->words.item[0], choices[count]) == 0) {
            return cli->words.count == 1 ? kf_cli_lesson(cli, kf_lessons[count])
                                         : kf_cli_complain(2, "one lesson at a time, please");
        }
    }
    return kf_cli_unknown("lesson", cli->words.item[0], choices, count);
}
