/* Cases out of options: op x shape x dtype, and plans out of cases. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

void kf_cli_config(const kf_cli *cli, const kf_op *op, kf_config *config)
{
    char name[64];
    for (int i = 0; i < cli->set.count; i++) {
        const size_t length = strcspn(cli->set.item[i], "=");
        snprintf(name, sizeof name, "%.*s", (int)length, cli->set.item[i]);
        const int knob = kf_op_knob(op, name);
        if (knob >= 0) {
            config->knob[knob] = strtoll(cli->set.item[i] + length + 1, NULL, 10);
            config->set[knob] = true;
        }
    }
}

static void set_by_hand(const kf_cli *cli, kf_case *c)
{
    kf_cli_config(cli, c->op, &c->config);
    for (int i = 0; i < cli->attr.count; i++) {
        const size_t length = strcspn(cli->attr.item[i], "=");
        for (int a = 0; a < c->op->attribute_count; a++) {
            const char *own = c->op->attributes[a].name;
            if (strlen(own) == length && strncmp(own, cli->attr.item[i], length) == 0) {
                kf_attribute_parse(&c->op->attributes[a], cli->attr.item[i] + length + 1,
                                   &c->attribute[a]); /* checked: check.c */
            }
        }
    }
}

/* Of several ops each takes those that it has. */
static void set_with(const kf_cli *cli, kf_case *c)
{
    char name[64];
    for (const char *list = cli->with; kf_list_next(&list, name, sizeof name);) {
        kf_case one = {.op = c->op};
        c->with_set = true;
        if (kf_case_with(&one, name) == KF_OK) {
            c->with |= one.with;
        }
    }
}

static kf_case blank(const kf_cli *cli, const kf_op *op, kf_dtype dtype)
{
    kf_case c = {.op = op, .dtype = dtype, .seed = cli->seed};
    for (int a = 0; a < op->attribute_count; a++) {
        c.attribute[a].f = op->attributes[a].fallback;
        c.attribute[a].i = (int64_t)op->attributes[a].fallback;
    }
    set_by_hand(cli, &c);
    set_with(cli, &c);
    return c;
}

static bool same_case(const kf_case *a, const kf_case *b)
{
    char text_a[1024], text_b[1024];
    if (a->op != b->op || a->dtype != b->dtype || memcmp(a->dim, b->dim, sizeof a->dim) != 0 ||
        a->inner != b->inner) {
        return false;
    }
    kf_case_print(a, text_a, sizeof text_a);
    kf_case_print(b, text_b, sizeof text_b);
    return strcmp(text_a, text_b) == 0;
}

/* A case that is there already is not added: --dtype=f32,f32 is a slip, and rows with one key are
 * taken for one by whoever reads them. */
static kf_status add(kf_cases *cases, const kf_case *c)
{
    for (int i = 0; i < cases->count; i++) {
        if (same_case(&cases->item[i], c)) {
            return KF_OK;
        }
    }
    kf_case *more = realloc(cases->item, (size_t)(cases->count + 1) * sizeof *more);
    if (!more) {
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for so many cases");
    }
    cases->item = more;
    cases->item[cases->count++] = *c;
    return KF_OK;
}

static kf_status add_dtypes(kf_cli *cli, const kf_op *op, const kf_shape *shape, kf_cases *cases)
{
    char dtype[16];
    const char *list = cli->dtype ? cli->dtype : "f32";
    while (kf_list_next(&list, dtype, sizeof dtype)) {
        kf_case c = blank(cli, op, kf_dtype_parse(dtype));
        kf_status status = kf_shape_fold(shape, &c);
        if (status == KF_OK) {
            status = add(cases, &c);
        }
        if (status != KF_OK) {
            return status;
        }
    }
    return KF_OK;
}

static kf_status add_texts(kf_cli *cli, kf_cases *cases)
{
    for (int i = 0; i < cli->cases.count; i++) {
        kf_case c;
        kf_status status = kf_case_parse(cli->cases.item[i], &c);
        if (status == KF_OK) {
            status = add(cases, &c);
        }
        if (status != KF_OK) {
            return status;
        }
    }
    return KF_OK;
}

int kf_cli_cases(kf_cli *cli, const kf_op *const *ops, int op_count, bool cpu, kf_cases *cases)
{
    static kf_shape shape[KF_CLI_SHAPES];
    int count = 1;
    kf_status status = KF_OK;
    *cases = (kf_cases){0};
    if (cli->shape) {
        status = kf_shape_parse(cli->shape, shape, KF_CLI_SHAPES, &count);
    }
    const bool texts_only = cli->cases.count > 0 && !cli->shape; /* no sweep beside a case */
    for (int o = 0; status == KF_OK && o < op_count && !texts_only; o++) {
        if (!cli->shape) {
            kf_shape_default(ops[o], cpu, &shape[0]);
        }
        for (int s = 0; status == KF_OK && s < count; s++) {
            status = add_dtypes(cli, ops[o], &shape[s], cases);
        }
    }
    if (status == KF_OK) {
        status = add_texts(cli, cases);
    }
    if (status != KF_OK) {
        free(cases->item);
        *cases = (kf_cases){0};
        return kf_cli_fail(status);
    }
    return -1;
}

kf_status kf_case_plan(const kf_case *c, const kf_variant *variant, const kf_target *target,
                       kf_plan **plan)
{
    kf_problem *problem = NULL;
    kf_case own = *c;
    own.variant = variant ? variant : c->variant;
    *plan = NULL;
    kf_status status = kf_problem_open(c->op->name, &problem);
    if (status == KF_OK) {
        status = kf_case_problem(&own, problem);
    }
    if (status == KF_OK) {
        status = kf_cli_plan(problem, c->op, own.variant, &c->config, target, plan);
    }
    kf_problem_close(problem);
    return status;
}

void kf_case_as_planned(const kf_case *c, const kf_plan *plan, kf_case *used)
{
    *used = *c;
    used->variant = plan->variant;
    for (int k = 0; k < c->op->knob_count; k++) {
        used->config.set[k] = kf_knob_used(&c->op->knobs[k], plan->variant->name);
        used->config.knob[k] = plan->config.knob[k];
    }
}
