/* SPDX-License-Identifier: Apache-2.0 */
#include "norm_backward.h"
#include "../../core/backend.h"

kf_norm_backward kf_norm_backward_of(const kf_problem *problem)
{
    kf_norm_backward n = {.grad_y = kf_problem_index(problem, "grad_y"),
                          .x = kf_problem_index(problem, "x"),
                          .weight = kf_problem_index(problem, "weight"),
                          .mean = kf_problem_index(problem, "mean"),
                          .rstd = kf_problem_index(problem, "rstd"),
                          .grad_x = kf_problem_index(problem, "grad_x"),
                          .grad_weight = kf_problem_index(problem, "grad_weight"),
                          .grad_bias = kf_problem_index(problem, "grad_bias")};
    n.centred = n.mean >= 0;
    n.weighted = problem->tensor[n.weight].dtype != KF_NONE;
    n.weight_grad = problem->tensor[n.grad_weight].dtype != KF_NONE;
    n.bias_grad = n.grad_bias >= 0 && problem->tensor[n.grad_bias].dtype != KF_NONE;
    n.outputs = n.weight_grad + n.bias_grad;
    for (int i = 0; i < problem->op->attribute_count; i++)
        if (kf_listed(problem->op->attributes[i].name, "offset"))
            n.offset = problem->attribute[i].f;
    return n;
}

/* A problem without rows launches nothing, and so nothing would write the zeros of sums over rows.
 */
kf_status kf_norm_backward_derive(kf_problem *problem)
{
    const kf_status status = kf_derive_rows(problem);
    if (status != KF_OK || problem->dim[KF_ROWS] > 0 || !kf_norm_backward_of(problem).outputs)
        return status;
    return kf_fail(KF_UNSUPPORTED,
                   "%s: without rows the gradients of weight and bias are 0, and are not written: "
                   "leave them out",
                   problem->op->name);
}

/* ---- fused --------------------------------------------------------------------------------- */

typedef struct use_list {
    kf_use use[KF_MAX_USES];
    int count;
} use_list;

static void add(use_list *l, kf_use use)
{
    l->use[l->count++] = use;
}

/* How often a launch asks for what it reads: matrices, rows of weights, statistics of each row. */
typedef struct reads {
    int64_t passes, weights, statistics;
} reads;

/* The tensors but the gradients of weight and bias, in the table's order. `sums` leaves out what
 * only grad_x needs. */
static void add_tensors(use_list *l, const kf_plan *p, const kf_norm_backward *n, reads r,
                        bool sums)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    for (int i = 0; i <= n->grad_x; i++) {
        const kf_ref ref = kf_tensor_ref(p, i);
        if (i == n->weight && !sums)
            add(l, READ_IF(ref, r.weights * N));
        else if (i == n->grad_x && !sums)
            add(l, WRITE(ref));
        else if (i == n->mean || i == n->rstd)
            add(l, READ_PART(ref, M, M * r.statistics));
        else if (i == n->grad_y || i == n->x)
            add(l, READ_PART(ref, 0, r.passes * M * N));
    }
}

/* What every entry takes behind the tensors and scratch. */
static void add_values(use_list *l, const kf_plan *p, const kf_norm_backward *n, bool sums)
{
    const kf_problem *problem = &p->problem;
    add(l, INT(problem->dim[KF_ROWS]));
    add(l, INT(problem->dim[KF_COLS]));
    add(l, INT(problem->row_stride[n->grad_y]));
    add(l, INT(problem->row_stride[n->x]));
    if (sums)
        return;
    add(l, INT(problem->row_stride[n->grad_x]));
    if (!n->centred)
        add(l, FLOAT(n->offset));
}

kf_ref kf_norm_backward_partials(kf_plan *p, const kf_norm_backward *n, int64_t parts)
{
    return kf_scratch_ref(p, "partials", KF_F32, n->outputs * parts * p->problem.dim[KF_COLS]);
}

/* Where no sums over the rows are wanted, grad_weight stands in for their partial sums: it is
 * absent too, and so a null pointer. */
static kf_use partials_use(const kf_plan *p, const kf_norm_backward *n, kf_ref partials)
{
    return n->outputs ? WRITE(partials) : WRITE_IF(kf_tensor_ref(p, n->grad_weight));
}

static void define_sums(kf_step *step, const kf_norm_backward *n)
{
    kf_step_define(step, "WEIGHT_GRAD", n->weight_grad);
    kf_step_define(step, "BIAS_GRAD", n->bias_grad);
}

static void define_norm(kf_step *step, const kf_norm_backward *n)
{
    kf_step_define(step, "CENTRING", n->centred);
    kf_step_define(step, "WEIGHT", n->weighted);
    define_sums(step, n);
}

/* Per element: xhat, g, the sums of the row, the result; the sums over the rows. */
static int64_t flops_of(const kf_plan *p, const kf_norm_backward *n, bool rows, bool sums)
{
    const int xhat = 1 + n->centred;
    const int each = (rows ? xhat + 2 * n->weighted + 2 + n->centred + 3 + n->centred : 0) +
                     (sums ? 2 * n->weight_grad + n->bias_grad + (rows ? 0 : xhat) : 0);
    return each * p->problem.dim[KF_ROWS] * p->problem.dim[KF_COLS];
}

/* The second stage: one launch for all that is wanted. */
void kf_norm_backward_totals(kf_plan *p, const kf_norm_backward_entries *e,
                             const kf_norm_backward *n, kf_ref partials, int64_t parts)
{
    const int outputs[] = {n->grad_weight, n->grad_bias};
    if (n->outputs)
        define_sums(kf_column_totals(p, e->columns, outputs, n->centred ? 2 : 1, partials, parts),
                    n);
}

static kf_grid persistent_grid(const kf_plan *p, int64_t groups, int64_t block, int64_t local_bytes)
{
    const int64_t least = p->config.knob[KF_BACK_GROUPS];
    const int64_t cap = p->target.registers_per_unit / (block * least) / 8 * 8;
    return (kf_grid){.groups = groups,
                     .threads = (int)block,
                     .local_bytes = kf_local_vectors(local_bytes),
                     .least_groups = (int)least,
                     .register_cap = least > 1 && cap >= 32 && cap < 256 ? (int)cap : 0};
}

/* ---- the row on chip ------------------------------------------------------------------------- */

static void plan_on_chip(kf_plan *p, const kf_norm_backward_entries *e)
{
    const kf_problem *problem = &p->problem;
    const kf_norm_backward n = kf_norm_backward_of(problem);
    const kf_norm_backward_shape s = kf_norm_backward_shape_of(problem, &p->config, &p->target);
    const kf_columns *c = &s.columns;
    const kf_ref partials = n.outputs ? kf_norm_backward_partials(p, &n, s.groups) : (kf_ref){0};
    const int64_t slots = c->teams * kf_row_slot_bytes(&p->target, c->threads, 1);
    const int64_t joined = n.outputs ? kf_columns_join_bytes(c, problem) : 0;
    use_list l = {.count = 0};
    add_tensors(&l, p, &n, (reads){1, s.groups * c->teams, c->threads}, false);
    add(&l, partials_use(p, &n, partials));
    add_values(&l, p, &n, false);
    const kf_work work = {.flops = flops_of(p, &n, true, true), .specials = s.groups * c->block};
    kf_step *step = kf_plan_step(
        p, e->fused, persistent_grid(p, s.groups, c->block, slots + joined), work, l.use, l.count);
    define_norm(step, &n);
    kf_columns_define(step, &p->target, c);
    kf_step_define(step, "KEEP", s.keep);
    kf_step_knob(step, p, KF_BACK_STAGES);
    kf_step_knob(step, p, KF_BACK_GROUPS);
    p->error.depth = c->vecs * kf_vec_elements(problem) + kf_log2_above(c->threads);
    p->error.rows_depth = kf_columns_depth(c, problem->dim[KF_ROWS], s.groups);
    kf_norm_backward_totals(p, e, &n, partials, s.groups);
}

/* ---- rows wider than the chip -----------------------------------------------------------------
 */

enum { ONLINE_VECS = 2 };

/* Before grad_x is written, which may be grad_y. */
static void add_sums(kf_plan *p, const kf_norm_backward_entries *e, const kf_norm_backward *n)
{
    const int64_t block = p->config.knob[KF_BACK_BLOCK], M = p->problem.dim[KF_ROWS];
    const kf_columns c = kf_columns_of(&p->problem, block, block, 1);
    const int64_t parts = kf_columns_parts(&c, p, p->config.knob[KF_BACK_GROUPS]);
    const kf_ref partials = kf_norm_backward_partials(p, n, parts);
    use_list l = {.count = 0};
    add_tensors(&l, p, n, (reads){1, 0, c.threads * c.strips}, true);
    add(&l, WRITE(partials));
    add_values(&l, p, n, true);
    kf_step *step = kf_plan_step(p, e->sums, persistent_grid(p, c.strips * parts, block, 0),
                                 (kf_work){.flops = flops_of(p, n, false, true)}, l.use, l.count);
    define_norm(step, n);
    kf_columns_define(step, &p->target, &c);
    kf_step_knob(step, p, KF_BACK_GROUPS);
    p->error.rows_depth = kf_columns_depth(&c, M, parts);
    kf_norm_backward_totals(p, e, n, partials, parts);
}

static void plan_online(kf_plan *p, const kf_norm_backward_entries *e)
{
    const kf_norm_backward n = kf_norm_backward_of(&p->problem);
    const int64_t block = p->config.knob[KF_BACK_BLOCK], M = p->problem.dim[KF_ROWS];
    const kf_columns c = kf_columns_of(&p->problem, block, block, ONLINE_VECS);
    use_list l = {.count = 0};
    if (n.outputs)
        add_sums(p, e, &n);
    add_tensors(&l, p, &n, (reads){2, 2 * M, 2 * c.strips * c.threads}, false);
    add_values(&l, p, &n, false);
    const kf_work work = {.flops = flops_of(p, &n, true, false), .specials = M * block};
    const kf_grid grid = persistent_grid(p, M, block, kf_row_slot_bytes(&p->target, block, 1));
    kf_step *step = kf_plan_step(p, e->online, grid, work, l.use, l.count);
    define_norm(step, &n);
    kf_columns_define(step, &p->target, &c);
    kf_step_knob(step, p, KF_BACK_GROUPS);
    p->error.depth = c.strips * c.vecs * kf_vec_elements(&p->problem) + kf_log2_above(block);
}

void kf_norm_backward_fused(kf_plan *p, const kf_norm_backward_entries *entries)
{
    if (p->config.knob[KF_BACK_ONLINE])
        plan_online(p, entries);
    else
        plan_on_chip(p, entries);
}

/* ---- CPU devices ------------------------------------------------------------------------------
 */

void kf_norm_backward_cpu(kf_plan *p, const kf_norm_backward_entries *e)
{
    const kf_norm_backward n = kf_norm_backward_of(&p->problem);
    const int64_t block = p->config.knob[KF_BACK_BLOCK], each = p->config.knob[KF_BACK_ITEM_ROWS];
    const int64_t M = p->problem.dim[KF_ROWS], items = kf_ceil_div(M, each);
    const kf_ref partials = n.outputs ? kf_norm_backward_partials(p, &n, items) : (kf_ref){0};
    use_list l = {.count = 0};
    add_tensors(&l, p, &n, (reads){2, 2 * M, 1}, false);
    add(&l, partials_use(p, &n, partials));
    add_values(&l, p, &n, false);
    const kf_grid grid = {.groups = kf_ceil_div(items, block), .threads = (int)block};
    const kf_work work = {.flops = flops_of(p, &n, true, true), .specials = items};
    kf_step *step = kf_plan_step(p, e->cpu, grid, work, l.use, l.count);
    define_norm(step, &n);
    kf_step_knob(step, p, KF_BACK_BLOCK);
    kf_step_knob(step, p, KF_BACK_ITEM_ROWS);
    kf_row_error(p, 1, 0);
    p->error.rows_depth = each;
    kf_norm_backward_totals(p, e, &n, partials, items);
}
