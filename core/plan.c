/* Plan algebra: building, liveness of scratch, check. A plan is data and a pure function of
 * problem, config and target; what is counted here is the very list that exec.c launches.
 * SPDX-License-Identifier: Apache-2.0 */
#include "op.h"
#include "backend.h"
#include <stdlib.h>
#include <string.h>

#define SCRATCH_ALIGNMENT 256

/* ---- builders ----------------------------------------------------------------------------- */

kf_ref kf_tensor_ref(const kf_plan *plan, int tensor)
{
    (void)plan;
    return (kf_ref){.scratch = false, .index = tensor};
}

bool kf_use_absent(const kf_plan *plan, const kf_use *use)
{
    return use->kind <= KF_USE_WRITE && !use->ref.scratch && use->optional &&
           (use->ref.index < 0 || plan->problem.tensor[use->ref.index].dtype == KF_NONE);
}

kf_ref kf_scratch_ref(kf_plan *plan, const char *name, kf_dtype dtype, int64_t count)
{
    if (plan->scratch_count == KF_MAX_SCRATCH) {
        plan->broken = "more scratch arrays than KF_MAX_SCRATCH";
        return (kf_ref){.scratch = true, .index = 0};
    }
    plan->scratch[plan->scratch_count] = (kf_scratch){.name = name, .dtype = dtype, .count = count};
    return (kf_ref){.scratch = true, .index = plan->scratch_count++};
}

kf_ref kf_counter_ref(kf_plan *plan, const char *name, kf_dtype dtype, int64_t count)
{
    const kf_ref ref = kf_scratch_ref(plan, name, dtype, count);
    plan->scratch[ref.index].kept = true;
    return ref;
}

kf_step *kf_plan_step(kf_plan *plan, const char *entry, kf_grid grid, kf_work work,
                      const kf_use *uses, int use_count)
{
    if (plan->step_count == KF_MAX_STEPS || use_count > KF_MAX_USES) {
        plan->broken = "more steps than KF_MAX_STEPS or more uses than KF_MAX_USES";
        return &plan->step[0];
    }
    kf_step *step = &plan->step[plan->step_count++];
    *step = (kf_step){.source = plan->problem.op->name,
                      .entry = entry,
                      .grid = grid,
                      .work = work,
                      .use_count = use_count};
    memcpy(step->use, uses, (size_t)use_count * sizeof *uses);
    return step;
}

void kf_step_define(kf_step *step, const char *name, int64_t value)
{
    if (step->define_count >= KF_MAX_DEFINES || strlen(name) >= sizeof step->define[0].name) {
        step->define_count = KF_MAX_DEFINES + 1; /* kf_plan_check refuses it */
        return;
    }
    kf_define *define = &step->define[step->define_count++];
    strcpy(define->name, name);
    define->value = value;
}

void kf_step_knob(kf_step *step, const kf_plan *plan, int knob)
{
    kf_step_define(step, plan->problem.op->knobs[knob].name, plan->config.knob[knob]);
}

/* ---- scratch: arrays that are not live together share memory ------------------------------- */

typedef struct span {
    int first, last; /* steps */
} span;

static span scratch_span(const kf_plan *plan, int scratch)
{
    span live = {.first = -1, .last = -1};
    for (int s = 0; s < plan->step_count; s++)
        for (int u = 0; u < plan->step[s].use_count; u++) {
            const kf_use *use = &plan->step[s].use[u];
            if (use->kind > KF_USE_WRITE || !use->ref.scratch || use->ref.index != scratch)
                continue;
            live.first = live.first < 0 ? s : live.first;
            live.last = s;
        }
    return live;
}

static size_t scratch_size(const kf_scratch *scratch)
{
    const size_t bytes = (size_t)scratch->count * (size_t)kf_dtype_bytes(scratch->dtype);
    return (bytes + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
}

/* First fit above every placed array that is live at the same time; counters live for ever, in
 * memory of their own. Few arrays: quadratic is fine. */
static void place_scratch(kf_plan *plan)
{
    plan->scratch_bytes = plan->counter_bytes = 0;
    for (int i = 0; i < plan->scratch_count; i++) {
        const span mine = scratch_span(plan, i);
        const bool kept = plan->scratch[i].kept;
        size_t *const bytes = kept ? &plan->counter_bytes : &plan->scratch_bytes;
        size_t offset = kept ? *bytes : 0;
        for (int j = 0; j < i && !kept; j++) {
            const span other = scratch_span(plan, j);
            const size_t end = plan->scratch[j].offset + scratch_size(&plan->scratch[j]);
            if (!plan->scratch[j].kept && other.first <= mine.last && mine.first <= other.last &&
                end > offset)
                offset = end;
        }
        plan->scratch[i].offset = offset;
        const size_t end = offset + scratch_size(&plan->scratch[i]);
        *bytes = end > *bytes ? end : *bytes;
    }
}

/* ---- check -------------------------------------------------------------------------------- */

static kf_status check_grid(const kf_plan *plan, const kf_step *step)
{
    const kf_target *target = &plan->target;
    const kf_grid *grid = &step->grid;
    if (grid->groups < 1)
        return kf_fail(KF_INVALID, "step %s has %lld groups", step->entry, (long long)grid->groups);
    if (grid->groups > target->max_groups) /* of a sweep the other cases go on */
        return kf_fail(KF_UNSUPPORTED, "step %s has %lld groups; the target launches up to %lld",
                       step->entry, (long long)grid->groups, (long long)target->max_groups);
    if (grid->threads < 1 || grid->threads > target->max_threads)
        return kf_fail(KF_UNSUPPORTED,
                       "step %s has %d threads per group; the target allows 1 to %d", step->entry,
                       grid->threads, target->max_threads);
    if (grid->local_bytes > target->local_bytes)
        return kf_fail(KF_UNSUPPORTED,
                       "step %s needs %lld bytes of local memory; the target has %lld", step->entry,
                       (long long)grid->local_bytes, (long long)target->local_bytes);
    if (grid->cluster > 1 && (grid->cluster > target->max_cluster || grid->groups % grid->cluster))
        return kf_fail(
            KF_UNSUPPORTED,
            "step %s has clusters of %d groups; the target allows up to %d, and they must "
            "divide %lld groups",
            step->entry, grid->cluster, target->max_cluster, (long long)grid->groups);
    return KF_OK;
}

static kf_status check_use(const kf_plan *plan, const kf_step *step, const kf_use *use,
                           bool *written, bool *used)
{
    const kf_op *op = plan->problem.op;
    const int i = use->ref.index;
    if (use->ref.scratch) {
        if (i >= plan->scratch_count)
            return kf_fail(KF_INVALID, "step %s uses a scratch array that the plan does not have",
                           step->entry);
        if (use->kind == KF_USE_READ && !written[i] && !plan->scratch[i].kept)
            return kf_fail(KF_INVALID, "step %s reads the scratch array '%s' before it is written",
                           step->entry, plan->scratch[i].name);
        return KF_OK;
    }
    if (i < op->tensor_count && (i < 0 || op->tensors[i].optional) && kf_use_absent(plan, use))
        return KF_OK;
    if (i < 0 || i >= op->tensor_count || plan->problem.tensor[i].dtype == KF_NONE)
        return kf_fail(KF_INVALID, "step %s uses a tensor that the problem does not have",
                       step->entry);
    if (use->kind == KF_USE_WRITE && op->tensors[i].role == KF_INPUT)
        return kf_fail(KF_INVALID, "step %s writes the input '%s'", step->entry,
                       op->tensors[i].name);
    used[i] = true;
    return KF_OK;
}

static kf_status check_step(const kf_plan *plan, const kf_step *step, bool *written, bool *used)
{
    kf_status status =
        step->define_count <= KF_MAX_DEFINES
            ? check_grid(plan, step)
            : kf_fail(KF_INVALID, "step %s has too many or too long defines", step->entry);
    for (int i = 0; status == KF_OK && i < step->use_count; i++)
        if (step->use[i].kind <= KF_USE_WRITE)
            status = check_use(plan, step, &step->use[i], written, used);
    /* what a step writes exists for the steps after it, not for itself */
    for (int i = 0; status == KF_OK && i < step->use_count; i++)
        if (step->use[i].kind == KF_USE_WRITE && step->use[i].ref.scratch)
            written[step->use[i].ref.index] = true;
    return status;
}

kf_status kf_plan_check(const kf_plan *plan)
{
    bool written[KF_MAX_SCRATCH] = {false}, used[KF_MAX_TENSORS] = {false};
    if (plan->broken)
        return kf_fail(KF_INVALID, "the plan is broken: %s", plan->broken);
    if (plan->problem.empty)
        return plan->step_count ? kf_fail(KF_INVALID, "a plan for zero elements launches something")
                                : KF_OK;
    for (int s = 0; s < plan->step_count; s++) {
        const kf_status status = check_step(plan, &plan->step[s], written, used);
        if (status != KF_OK)
            return status;
    }
    for (int i = 0; i < plan->problem.op->tensor_count; i++)
        if (plan->problem.tensor[i].dtype && !used[i])
            return kf_fail(KF_INVALID, "variant %s of op %s leaves the tensor '%s' unused",
                           plan->variant->name, plan->problem.op->name,
                           plan->problem.op->tensors[i].name);
    return KF_OK;
}

/* ---- making a plan ------------------------------------------------------------------------ */

static const struct {
    uint64_t bit;
    const char *name;
} capabilities[] = {
    {KF_CAP_CPU, "a CPU device"},  {KF_CAP_SHUFFLE, "warp shuffles"},
    {KF_CAP_CLUSTERS, "clusters"}, {KF_CAP_REPLAY, "replay"},
    {KF_CAP_PTX, "inline PTX"},    {KF_CAP_F64, "double precision"},
};

static kf_status check_needs(const kf_op *op, const kf_variant *variant, const kf_target *target)
{
    for (size_t i = 0; i < sizeof capabilities / sizeof capabilities[0]; i++)
        if (variant->needs & ~target->capabilities & capabilities[i].bit)
            return kf_fail(KF_UNSUPPORTED,
                           "variant %s of op %s needs %s, which this device does not have",
                           variant->name, op->name, capabilities[i].name);
    return KF_OK;
}

static const kf_variant *choose_variant(const kf_problem *problem, const kf_target *target)
{
    const kf_op *op = problem->op;
    const kf_variant *variant = NULL;
    if (op->choose)
        variant = kf_op_variant(op, op->choose(problem, target));
    if (!variant && target->capabilities & KF_CAP_CPU)
        variant = kf_op_variant(op, "fused_cpu");
    if (!variant)
        variant = kf_op_variant(op, "fused");
    return variant ? variant : &op->variants[0];
}

static kf_status set_knob(const kf_op *op, const kf_variant *variant, const char *word,
                          size_t length, kf_config *config)
{
    char name[40] = "", *end;
    const size_t n = strcspn(word, "=");
    if (n >= length || n >= sizeof name)
        return kf_fail(KF_INVALID, "a knob is set by NAME=VALUE, not by '%.*s'", (int)length, word);
    memcpy(name, word, n);
    const int knob = kf_op_knob(op, name);
    if (knob < 0)
        return kf_fail(KF_INVALID, "op %s has no knob '%s'", op->name, name);
    if (!kf_knob_used(&op->knobs[knob], variant->name))
        return KF_OK; /* of another variant: one --set serves a sweep over variants */
    config->knob[knob] = strtoll(word + n + 1, &end, 10);
    config->set[knob] = true;
    return end == word + length && length > n + 1
               ? KF_OK
               : kf_fail(KF_INVALID, "knob %s takes a whole number, not '%.*s'", name,
                         (int)(length - n - 1), word + n + 1);
}

static kf_status set_knobs(const kf_op *op, const kf_variant *variant, const char *text,
                           kf_config *config)
{
    while (text && *text) {
        const size_t length = strcspn(text, " ");
        const kf_status status = length ? set_knob(op, variant, text, length, config) : KF_OK;
        if (status != KF_OK)
            return status;
        text += length + (text[length] == ' ');
    }
    return KF_OK;
}

/* Values set by hand must be ones that the table lists: nothing else was ever compiled or tested.
 */
static kf_status check_knobs(const kf_op *op, const kf_config *config)
{
    for (int i = 0; i < op->knob_count; i++) {
        bool listed = !config->set[i];
        for (int v = 0; v < op->knobs[i].value_count; v++)
            listed |= op->knobs[i].values[v] == config->knob[i];
        if (!listed)
            return kf_fail(KF_INVALID,
                           "knob %s of op %s cannot be %lld: kfuse list shows its values",
                           op->knobs[i].name, op->name, (long long)config->knob[i]);
    }
    return KF_OK;
}

static kf_status fill_plan(kf_plan *plan, const kf_plan_desc *desc)
{
    const kf_op *op = plan->problem.op;
    const kf_variant *variant = desc && desc->variant
                                    ? kf_op_variant(op, desc->variant)
                                    : choose_variant(&plan->problem, &plan->target);
    kf_status status;
    if (!variant)
        return kf_fail(KF_INVALID, "op %s has no variant '%s'", op->name, desc->variant);
    plan->variant = variant;
    if ((status = check_needs(op, variant, &plan->target)) != KF_OK ||
        (status = set_knobs(op, variant, desc ? desc->knobs : NULL, &plan->config)) != KF_OK ||
        (status = check_knobs(op, &plan->config)) != KF_OK)
        return status;
    if (variant->defaults)
        variant->defaults(&plan->problem, &plan->target, &plan->config);
    if (plan->problem.empty)
        return KF_OK;
    if (variant->fits &&
        (status = variant->fits(&plan->problem, &plan->config, &plan->target)) != KF_OK)
        return status;
    variant->plan(plan, &plan->problem, &plan->config, &plan->target);
    place_scratch(plan);
    return kf_plan_check(plan);
}

kf_status kf_plan_open(kf_problem *problem, const kf_plan_desc *desc, const kf_target *target,
                       kf_plan **plan)
{
    if (!problem || !target || !plan)
        return kf_fail(KF_INVALID,
                       "kf_plan_open: a problem, a target and a place for the plan are needed");
    *plan = NULL;
    kf_status status = kf_problem_derive(problem);
    if (status != KF_OK)
        return status;
    kf_plan *made = calloc(1, sizeof *made);
    if (made)
        made->step = calloc(KF_MAX_STEPS, sizeof *made->step);
    if (!made || !made->step) {
        free(made);
        return kf_fail(KF_OUT_OF_MEMORY, "kf_plan_open: no host memory for a plan");
    }
    made->problem = *problem;
    made->target = *target;
    status = fill_plan(made, desc);
    if (status != KF_OK) {
        kf_plan_close(made);
        return status;
    }
    *plan = made;
    return KF_OK;
}

void kf_plan_close(kf_plan *plan)
{
    if (!plan)
        return;
    free(plan->step);
    free(plan);
}
