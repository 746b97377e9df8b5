/* y = x - log sum exp x over one axis. Traffic for M rows of N elements of s bytes; of an axis that
 * is not the last, M are the outer times the inner elements (common/softmax_axis.h):
 *
 *     unfused        5 launches   row max M N s + 4 M, subtract 2 M N s + 4 M, exp 2 M N s,
 *                                 row sum M N s + 4 M, subtract log 2 M N s + 4 M
 *                                                                           8 M N s + 16 M
 *     fused          1 launch     row on chip                               2 M N s
 *                                 wider rows (ONLINE=1): read twice         3 M N s
 *     fused_cluster  1 launch     one row over CLUSTER groups               2 M N s
 *     fused_split    1 launch     one row over P groups of the whole device 2 M N s + 32 M P
 *     fused_cpu      1 launch     one row per item; it stays in cache after the first of three
 * walks
 *
 * The intermediates of `unfused` are stored in the dtype of x. A row with NaN or +inf is NaN, as is
 * a row of -inf alone; -inf among finite values stays -inf. `y` may be x itself.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/row_lse.h"
#include "common/row_split.h"
#include "common/softmax_axis.h"
#include "common/softmax_reference.h"
#include "common/softmax_steps.h"

enum { X, Y };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "scores"},
    {.name = "y",
     .role = KF_OUTPUT,
     .alias = "x",
     .dims = "rows cols",
     .help = "logarithms of the probabilities"},
};

/* ---- plans ---------------------------------------------------------------------------------- */

static kf_step *add_fused(kf_plan *p, const char *entry, kf_grid grid, kf_work work, int64_t passes)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    return kf_plan_step(p, entry, grid, work,
                        USES(READ_PART(kf_tensor_ref(p, X), 0, passes * M * N),
                             WRITE(kf_tensor_ref(p, Y)), INT(M), INT(N),
                             INT(problem->row_stride[X]), INT(problem->row_stride[Y])));
}

/* Per element: compare, FMA and addition of the sum, FMA and subtraction of the result. Each thread
 * takes the logarithm. */
static kf_work fused_work(const kf_plan *p, const kf_row_shape *s, int64_t specials)
{
    const int64_t M = p->problem.dim[KF_ROWS],
                  threads = kf_ceil_div(M, s->rows) * s->cluster * s->block;
    return (kf_work){.flops = 7 * M * p->problem.dim[KF_COLS], .specials = specials + threads};
}

static void plan_on_chip(kf_plan *p, const char *entry, bool cluster)
{
    const kf_row_shape s = kf_row_shape_of(&p->problem, &p->config, &p->target, cluster);
    const kf_work work = fused_work(p, &s, kf_row_lse_held_specials(p, &s));
    kf_step *step = add_fused(p, entry, kf_row_grid(&s, p), work, 1);
    kf_row_define(step, p, &s);
    kf_row_lse_define(step, NULL, false);
    kf_row_error(p, s.threads * s.cluster, 1);
    p->error.exp2 = true;
}

static void plan_online(kf_plan *p)
{
    const kf_row_shape s = kf_row_shape_online(&p->problem, &p->config, &p->target);
    const kf_row_lse lse = kf_row_lse_of(&p->problem, &s);
    kf_work work = fused_work(p, &s, kf_row_lse_read_specials(p, &s, &lse));
    work.at_most = !lse.exact;
    kf_step *step = add_fused(p, "log_softmax_online", kf_row_grid(&s, p), work, 2);
    kf_row_define(step, p, &s);
    kf_row_lse_define(step, &lse, false);
    kf_row_error(p, s.threads, lse.trips + 2);
    p->error.exp2 = true;
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    (void)target;
    if (kf_softmax_across(problem))
        kf_softmax_axis_fused(p, true);
    else if (config->knob[KF_ROW_ONLINE])
        plan_online(p);
    else
        plan_on_chip(p, "log_softmax_fused", false);
}

static void plan_cluster(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    plan_on_chip(p, "log_softmax_cluster", true);
}

static void plan_split(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_row_split s = kf_row_split_of(problem, config, target);
    const kf_row_meeting meet = kf_row_split_meet(p, &s);
    const int64_t threads = M * s.parts * s.slice.block;
    const kf_work work = {.flops = 7 * M * N,
                          .specials = kf_row_lse_split_specials(p, &s) + threads};
    kf_step *step = kf_plan_step(p, "log_softmax_split", kf_row_split_grid(&s, p), work,
                                 USES(READ(kf_tensor_ref(p, X)), WRITE(kf_tensor_ref(p, Y)),
                                      meet.slots, meet.tickets, INT(M), INT(N),
                                      INT(problem->row_stride[X]), INT(problem->row_stride[Y])));
    kf_row_split_define(step, p, &s);
    kf_row_lse_define(step, NULL, false);
    kf_row_split_error(p, &s, true);
    p->error.exp2 = true;
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_work work = {.flops = M * N * 27, .specials = M};
    (void)target;
    if (kf_softmax_across(problem)) {
        kf_softmax_axis_cpu(p, true);
        return;
    }
    kf_row_define_strip(
        add_fused(p, "log_softmax_fused_cpu", kf_row_item_grid(problem, config), work, 3), p);
    kf_row_error(p, 1, 0);
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)config;
    if (kf_softmax_across(problem)) {
        kf_softmax_axis_unfused(p, true);
        return;
    }
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const bool is_cpu = target->capabilities & KF_CAP_CPU;
    const kf_softmax_parts t = kf_softmax_steps(p, X);
    const kf_row_launches l = kf_row_unfused(p);
    const int64_t threads = M * l.per_row;
    kf_step *step = kf_softmax_step(
        p, "log_softmax_unfused",
        is_cpu ? "log_softmax_subtract_log_cpu" : "log_softmax_subtract_log", l.map,
        (kf_work){.flops = M * N, .specials = threads},
        USES(WRITE(kf_tensor_ref(p, Y)), READ(t.shifted), READ_PART(t.row_sum, M, threads), INT(M),
             INT(N), INT(problem->row_stride[Y])));
    kf_step_define(step, "NORM_STEPS", 1);
}

/* ---- the op --------------------------------------------------------------------------------- */

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "row max, subtract, exp, row sum, subtract log: five launches",
     .defaults = kf_softmax_defaults_unfused,
     .fits = kf_softmax_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, the row on chip; wider rows are read twice",
     .defaults = kf_softmax_defaults_fused,
     .fits = kf_softmax_fits_fused,
     .plan = plan_fused},
    {.name = "fused_cluster",
     .help = "one launch, one row over 2 to 16 groups that share their local memory",
     .needs = KF_CAP_CLUSTERS,
     .defaults = kf_row_defaults_cluster,
     .fits = kf_softmax_fits_cluster,
     .plan = plan_cluster},
    {.name = "fused_split",
     .help = "one launch, one row over groups that run at once and meet in global memory",
     .defaults = kf_row_defaults_split,
     .fits = kf_softmax_fits_split,
     .plan = plan_split},
    {.name = "fused_cpu",
     .help = "one launch, one row per item, eight columns at a time, no barrier",
     .defaults = kf_row_defaults_cpu,
     .fits = kf_row_fits_cpu,
     .plan = plan_cpu},
};

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const kf_softmax_range range = {.problem = problem, .tensor = X, .x = inputs[X], .log = true};
    (void)output;
    kf_softmax_range_reference(&range, error, first, count, value, bound);
    return KF_OK;
}

const kf_op kf_op_log_softmax = {
    .name = "log_softmax",
    .summary = "Logarithm of softmax over the axis `axis`",
    .formula = "y = x - log(sum(exp(x))) over the axis `axis`",
    .dims = "rows cols",
    .any_axis = true,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = kf_softmax_attributes,
    .attribute_count = 1,
    .knobs = kf_row_knobs,
    .knob_count = KF_ROW_KNOBS,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_derive_axis,
    .choose = kf_softmax_choose,
    .reference = reference,
};
