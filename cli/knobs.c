/* Knobs set by hand: which variants have them, and which read them on the device at hand.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <string.h>

/* ---- what the tables say ------------------------------------------------------------------- */

typedef struct users { /* names in a sentence: "unfused, fused", or "softmax fused, ..." */
    char have[400], lack[400];
    bool chosen; /* one was chosen that has the knob */
} users;

static void add_name(char *list, const char *op, const char *variant)
{
    const size_t used = strlen(list);
    snprintf(list + used, sizeof((users *)0)->have - used, "%s%s%s%s", used ? ", " : "", op,
             *op && *variant ? " " : "", variant);
}

static void sort_variants(const kf_cli *cli, const kf_op *op, const char *name, bool alone,
                          users *u)
{
    const int knob = kf_op_knob(op, name);
    if (knob < 0) {
        add_name(u->lack, op->name, "");
        return;
    }
    for (int v = 0; v < op->variant_count; v++) {
        const char *variant = op->variants[v].name;
        const bool wanted = kf_cli_wants(cli, variant);
        if (kf_knob_used(&op->knobs[knob], variant)) {
            add_name(u->have, alone ? "" : op->name, variant);
            u->chosen = u->chosen || wanted;
        } else if (wanted) {
            add_name(u->lack, alone ? "" : op->name, variant);
        }
    }
}

int kf_cli_check_knob_users(const kf_cli *cli, const kf_op *const *ops, int count, const char *text)
{
    char name[64];
    users u = {.chosen = false};
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, "="), text);
    for (int o = 0; o < count; o++) {
        sort_variants(cli, ops[o], name, count == 1, &u);
    }
    if (!u.chosen && !cli->set.from_environment) {
        return kf_cli_complain(2, "--set %s changes nothing in %s: it is a knob of %s", name,
                               u.lack, u.have);
    }
    if (*u.lack) {
        kf_cli_note(cli, "--set %s is for %s; without it: %s", name, u.have, u.lack);
    }
    return -1;
}

/* ---- what the plan says --------------------------------------------------------------------
 * A table says which variants have a knob, but not that one of them does without it on a CPU. The
 * plan is a pure function: where every value of the knob that has a plan has the same one, nobody
 * reads the knob. */

static bool same_step(const kf_step *a, const kf_step *b)
{
    bool same = strcmp(a->entry, b->entry) == 0 && a->grid.groups == b->grid.groups &&
                a->grid.threads == b->grid.threads && a->grid.cluster == b->grid.cluster &&
                a->grid.local_bytes == b->grid.local_bytes &&
                a->grid.least_groups == b->grid.least_groups &&
                a->grid.register_cap == b->grid.register_cap && a->use_count == b->use_count &&
                a->define_count == b->define_count;
    for (int i = 0; same && i < a->define_count; i++) {
        same = strcmp(a->define[i].name, b->define[i].name) == 0 &&
               a->define[i].value == b->define[i].value;
    }
    for (int i = 0; same && i < a->use_count; i++) {
        same = a->use[i].kind == b->use[i].kind && a->use[i].i == b->use[i].i &&
               a->use[i].moved == b->use[i].moved && a->use[i].requested == b->use[i].requested;
    }
    return same;
}

static bool same_launches(const kf_plan *a, const kf_plan *b)
{
    bool same = a->step_count == b->step_count && a->scratch_bytes == b->scratch_bytes &&
                a->counter_bytes == b->counter_bytes;
    for (int i = 0; same && i < a->step_count; i++) {
        same = same_step(&a->step[i], &b->step[i]);
    }
    return same;
}

typedef struct planner { /* what is planned again and again */
    kf_problem *problem;
    const kf_op *op;
    const kf_variant *variant;
    const kf_target *target;
} planner;

static void knob_text(const kf_op *op, const kf_config *config, char *buffer, size_t bytes)
{
    size_t used = 0;
    buffer[0] = 0;
    for (int k = 0; k < op->knob_count && used < bytes; k++) {
        if (config->set[k]) {
            used += (size_t)snprintf(buffer + used, bytes - used, "%s%s=%lld", used ? " " : "",
                                     op->knobs[k].name, (long long)config->knob[k]);
        }
    }
}

static kf_status open_plan(const planner *p, const kf_config *config, kf_plan **plan)
{
    char knobs[1024];
    knob_text(p->op, config, knobs, sizeof knobs);
    const kf_plan_desc desc = {.variant = p->variant ? p->variant->name : NULL, .knobs = knobs};
    *plan = NULL;
    return kf_plan_open(p->problem, &desc, p->target, plan);
}

typedef struct probe { /* plans of one case with all values of one knob */
    int plans;
    bool differ;
} probe;

static probe try_values(const planner *p, const kf_config *config, int knob)
{
    const kf_knob_decl *decl = &p->op->knobs[knob];
    kf_plan *first = NULL, *plan;
    kf_config own = *config;
    probe found = {0};
    own.set[knob] = true;
    for (int v = 0; v < decl->value_count && !found.differ; v++) {
        own.knob[knob] = decl->values[v];
        if (open_plan(p, &own, &plan) != KF_OK) {
            continue;
        }
        found.plans++;
        found.differ = first && !same_launches(first, plan);
        kf_plan_close(first);
        first = plan;
    }
    kf_plan_close(first);
    return found;
}

/* Where one value alone fits, it says nothing: the others may fit beside a larger BLOCK. */
static bool is_read(const planner *p, const kf_config *config, int knob)
{
    for (int other = -1; other < p->op->knob_count; other++) {
        kf_config own = *config;
        if (other == knob || (other >= 0 && config->set[other])) {
            continue;
        }
        if (other >= 0) {
            const kf_knob_decl *decl = &p->op->knobs[other];
            own.set[other] = true;
            own.knob[other] = decl->values[decl->value_count - 1];
        }
        const probe found = try_values(p, &own, knob);
        if (found.differ || found.plans > 1) {
            return found.differ;
        }
    }
    return true; /* nothing is known: what was asked for stays */
}

/* Of an empty problem all plans are the same: its knobs are left alone. */
static void drop_unread(const planner *p, kf_config *config)
{
    for (int k = 0; !p->problem->empty && k < p->op->knob_count; k++) {
        if (config->set[k] && kf_knob_used(&p->op->knobs[k], p->variant->name)) {
            config->set[k] = is_read(p, config, k);
        }
    }
}

kf_status kf_cli_plan(kf_problem *problem, const kf_op *op, const kf_variant *variant,
                      const kf_config *config, const kf_target *target, kf_plan **plan)
{
    planner p = {problem, op, variant, target};
    kf_config own = *config;
    if (!variant) { /* the op's choice, which its knobs do not change */
        const kf_config none = {.set = {false}};
        const kf_status status = open_plan(&p, &none, plan);
        if (status != KF_OK) {
            return status;
        }
        p.variant = (*plan)->variant;
        kf_plan_close(*plan);
    }
    drop_unread(&p, &own);
    return open_plan(&p, &own, plan);
}

/* True once per variant, knob and device: a sweep says it once. */
static bool is_news(const kf_variant *variant, int knob, const char *device)
{
    enum { MOST = 64 };
    static struct said {
        const kf_variant *variant;
        int knob;
        char device[40];
    } said[MOST];
    static int count;
    for (int i = 0; i < count; i++) {
        if (said[i].variant == variant && said[i].knob == knob &&
            strcmp(said[i].device, device) == 0) {
            return false;
        }
    }
    if (count < MOST) {
        said[count] = (struct said){.variant = variant, .knob = knob};
        snprintf(said[count].device, sizeof said[count].device, "%s", device);
        count++;
    }
    return true;
}

void kf_cli_note_dropped(const kf_cli *cli, const kf_config *asked, const kf_plan *plan,
                         const char *device)
{
    const kf_op *op = plan ? plan->problem.op : NULL;
    for (int k = 0; op && k < op->knob_count; k++) {
        if (asked->set[k] && !plan->config.set[k] &&
            kf_knob_used(&op->knobs[k], plan->variant->name) && is_news(plan->variant, k, device)) {
            kf_cli_note(cli, "knob %s is left out: %s %s does not read it on %s", op->knobs[k].name,
                        op->name, plan->variant->name, device);
        }
    }
}
