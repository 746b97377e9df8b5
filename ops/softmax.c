/* y = exp(x - max x) / sum exp(x - max x) over one axis. Traffic for M rows of N elements of s
 * bytes; of an axis that is not the last, M are the outer times the inner elements
 * (common/softmax_axis.h):
 *
 *     unfused        5 launches   row max M N s + 4 M, subtract 2 M N s + 4 M, exp 2 M N s,
 *                                 row sum M N s + 4 M, divide 2 M N s + 4 M     8 M N s + 16 M
 *     fused          1 launch     row on chip: every element read and written once     2 M N s
 *                                 wider rows (ONLINE=1): maximum and sum, then a second read
 *                                                                               3 M N s
 *     fused_cluster  1 launch     one row over CLUSTER groups                          2 M N s
 *     fused_split    1 launch     one row over P groups of the whole device
 *                                                                               2 M N s + 32 M P
 *     fused_cpu      1 launch     one row per item; it stays in cache after the first of three
 * reads
 *
 * The intermediates of `unfused` are stored in the dtype of x. A row with NaN or +inf is NaN, as is
 * a row of -inf alone; -inf among finite values gives 0. `y` may be x itself: a row is read before
 * it is written. SPDX-License-Identifier: Apache-2.0 */
#include "common/row_split.h"
#include "common/softmax_axis.h"
#include "common/softmax_reference.h"
#include "common/softmax_steps.h"

enum { X, Y };
enum { ONLINE_VECS = 4 };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "scores"},
    {.name = "y",
     .role = KF_OUTPUT,
     .alias = "x",
     .dims = "rows cols",
     .help = "probabilities: every row sums to 1"},
};

/* ---- plans: fused -------------------------------------------------------------------------- */

/* exp2 and divisions per thread of what joins the parts of a row (softmax_gather in the texts). */
static int64_t gather_specials(const kf_target *target, int64_t parts)
{
    const int64_t lanes = kf_warp_lanes(target);
    return parts <= 1 ? 1 : lanes > 1 ? 2 + kf_ceil_div(parts, lanes) : 2;
}

/* Subtract, compare, add and scale, one each per element. */
static kf_work fused_work(const kf_plan *p, int64_t specials, bool exact)
{
    const int64_t elements = p->problem.dim[KF_ROWS] * p->problem.dim[KF_COLS];
    return (kf_work){.flops = 4 * elements, .specials = specials, .at_most = !exact};
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_shape *s, kf_work work,
                      int64_t passes)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y);
    kf_use read = READ(x);
    if (passes > 1)
        read.requested = passes * M * N;
    kf_step *step = kf_plan_step(p, entry, kf_row_grid(s, p), work,
                                 USES(read, WRITE(y), INT(M), INT(N), INT(problem->row_stride[X]),
                                      INT(problem->row_stride[Y])));
    kf_row_define(step, p, s);
    p->error.exp2 = true;
}

/* exp2 in vectors and edges, padding included; 16-bit storage computes those of the vectors again,
 * for the elements that exist. */
static int64_t on_chip_specials(const kf_plan *p, const kf_row_shape *s, int64_t groups,
                                int64_t parts)
{
    const kf_problem *problem = &p->problem;
    const int64_t per_thread =
        s->vecs * kf_vec_elements(problem) + s->edges + gather_specials(&p->target, parts);
    const int64_t again =
        problem->dtype == KF_F32 ? 0 : problem->dim[KF_ROWS] * problem->dim[KF_COLS];
    return groups * s->block * per_thread + again;
}

static void plan_online(kf_plan *p, const kf_problem *problem, const kf_config *config,
                        const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_row_shape s = kf_row_shape_online(problem, config, target);
    const int vec = kf_vec_elements(problem);
    const int64_t trips = kf_ceil_div(N / vec, s.block * ONLINE_VECS);
    const int64_t per_thread = trips * (ONLINE_VECS * vec + 1) + s.edges + 1 +
                               gather_specials(target, s.block / kf_warp_lanes(target));
    add_fused(p, "softmax_online", &s, fused_work(p, M * s.block * per_thread + M * N, s.aligned),
              2);
    kf_row_error(p, s.block, trips + 2);
}

/* `cluster`: parts of a row in the groups of a cluster. */
static void plan_on_chip(kf_plan *p, const char *entry, bool cluster)
{
    const kf_problem *problem = &p->problem;
    const kf_row_shape s = kf_row_shape_of(problem, &p->config, &p->target, cluster);
    const int64_t parts = s.cluster * s.threads / kf_warp_lanes(&p->target);
    const int64_t groups = kf_ceil_div(problem->dim[KF_ROWS], s.rows) * s.cluster;
    const bool exact = s.aligned || problem->dtype == KF_F32;
    add_fused(p, entry, &s, fused_work(p, on_chip_specials(p, &s, groups, parts), exact), 1);
    kf_row_error(p, s.threads * s.cluster, parts > 1);
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    if (kf_softmax_across(problem))
        kf_softmax_axis_fused(p, false);
    else if (config->knob[KF_ROW_ONLINE])
        plan_online(p, problem, config, target);
    else
        plan_on_chip(p, "softmax_fused", false);
}

static void plan_cluster(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    plan_on_chip(p, "softmax_cluster", true);
}

/* Behind the warps' parts, once per row of a group: exp2 that join them, one per slot and thread,
 * or one in the tree that takes their place; then as softmax_gather over the row's parts. */
static int64_t split_specials(const kf_plan *p, const kf_row_split *s)
{
    const int64_t lanes = kf_warp_lanes(&p->target), warps = s->slice.block / lanes;
    const int64_t own = s->slice.vecs * kf_vec_elements(&p->problem) + s->slice.edges;
    const int64_t joined = lanes == 1 ? warps > 1 : warps > 1 ? kf_ceil_div(warps, lanes) : 0;
    const int64_t per_thread = own + joined + kf_row_split_reads(p, s) + 2;
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    return M * s->parts * s->slice.block * per_thread + (p->problem.dtype == KF_F32 ? 0 : M * N);
}

static void plan_split(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_row_split s = kf_row_split_of(problem, config, target);
    const kf_row_meeting meet = kf_row_split_meet(p, &s);
    const kf_work work =
        fused_work(p, split_specials(p, &s), s.slice.aligned || problem->dtype == KF_F32);
    kf_step *step = kf_plan_step(p, "softmax_split", kf_row_split_grid(&s, p), work,
                                 USES(READ(kf_tensor_ref(p, X)), WRITE(kf_tensor_ref(p, Y)),
                                      meet.slots, meet.tickets, INT(M), INT(N),
                                      INT(problem->row_stride[X]), INT(problem->row_stride[Y])));
    kf_row_split_define(step, p, &s);
    kf_row_split_error(p, &s, true);
    p->error.exp2 = true;
}

/* Vectors of eight exponentials that an item keeps: 32 KiB at most, else none. */
static int64_t kept_vectors(int64_t cols)
{
    return cols < 8 || cols / 8 > 1024 ? 0 : kf_at_least(kf_power_of_two_above(cols / 8), 32);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    (void)target;
    if (kf_softmax_across(problem)) {
        kf_softmax_axis_cpu(p, false);
        return;
    }
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS], kept = kept_vectors(N);
    const int64_t again = kept ? N % 8 : N; /* read a third time */
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y);
    kf_step *step =
        kf_plan_step(p, "softmax_fused_cpu", kf_row_item_grid(problem, config),
                     (kf_work){.flops = M * (3 * N + 22 * (N + again)), .specials = M},
                     USES(READ_PART(x, 0, M * (2 * N + again)), WRITE(y), INT(M), INT(N),
                          INT(problem->row_stride[X]), INT(problem->row_stride[Y])));
    kf_row_define_strip(step, p);
    kf_step_define(step, "KEPT", kept);
    kf_row_error(p, 1, 0);
    p->error.exp2 = true;
}

/* ---- plans: unfused ------------------------------------------------------------------------ */

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)config;
    if (kf_softmax_across(problem)) {
        kf_softmax_axis_unfused(p, false);
        return;
    }
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const bool is_cpu = target->capabilities & KF_CAP_CPU;
    const kf_softmax_parts t = kf_softmax_steps(p, X);
    const kf_row_launches l = kf_row_unfused(p);
    kf_softmax_step(p, "softmax_unfused", is_cpu ? "softmax_divide_cpu" : "softmax_divide", l.map,
                    (kf_work){.specials = M * N},
                    USES(WRITE(kf_tensor_ref(p, Y)), READ(t.exponentials),
                         READ_PART(t.row_sum, M, M * l.per_row), INT(M), INT(N),
                         INT(problem->row_stride[Y])));
}

/* ---- the op -------------------------------------------------------------------------------- */

static const kf_variant variants[] = {
    {.name = "unfused",
     .help =
         "row max, subtract, exp, row sum, divide: five launches, two matrices in global memory",
     .defaults = kf_softmax_defaults_unfused,
     .fits = kf_softmax_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, the row on chip; wider rows by online maximum and sum and a second read",
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
    const kf_softmax_range range = {.problem = problem, .tensor = X, .x = inputs[X], .log = false};
    (void)output;
    kf_softmax_range_reference(&range, error, first, count, value, bound);
    return KF_OK;
}

const kf_op kf_op_softmax = {
    .name = "softmax",
    .summary = "Softmax over the axis `axis`",
    .formula = "y = exp(x - max(x)) / sum(exp(x - max(x))) over the axis `axis`",
    .dims = "rows cols",
    .any_axis = true,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = kf_softmax_attributes,
    .attribute_count = 1,
    .knobs = kf_row_knobs,
    .knob_count = KF_ROW_KNOBS,
    .ways = kf_row_ways,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_derive_axis,
    .choose = kf_softmax_choose,
    .reference = reference,
};
