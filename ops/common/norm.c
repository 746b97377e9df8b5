/* SPDX-License-Identifier: Apache-2.0 */
#include "norm.h"
#include "../../core/backend.h"
#include <math.h>

enum {
    NORM_BATCH = 4
}; /* vectors per thread and trip of kernels/common/rows_norm, rows off the chip */

static double attribute(const kf_problem *problem, const char *name)
{
    for (int i = 0; i < problem->op->attribute_count; i++)
        if (kf_listed(problem->op->attributes[i].name, name))
            return problem->attribute[i].f;
    return 0;
}

kf_norm kf_norm_of(const kf_problem *problem)
{
    kf_norm n = {.x = kf_problem_index(problem, "x"),
                 .residual = kf_problem_index(problem, "residual"),
                 .weight = kf_problem_index(problem, "weight"),
                 .bias = kf_problem_index(problem, "bias"),
                 .y = kf_problem_index(problem, "y"),
                 .residual_out = kf_problem_index(problem, "residual_out"),
                 .mean = kf_problem_index(problem, "mean"),
                 .rstd = kf_problem_index(problem, "rstd"),
                 .eps = attribute(problem, "eps"),
                 .offset = attribute(problem, "offset")};
    n.centred = n.mean >= 0;
    return n;
}

bool kf_norm_has(const kf_problem *problem, int tensor)
{
    return tensor >= 0 && problem->tensor[tensor].dtype != KF_NONE;
}

kf_status kf_norm_derive(kf_problem *problem)
{
    const double eps = attribute(problem, "eps");
    if (!(eps >= 0) || isinf(eps))
        return kf_fail(KF_INVALID, "%s: eps is a finite number of at least 0, not %g",
                       problem->op->name, eps);
    return kf_derive_rows(problem);
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

/* Every tensor that the op's table has, in its order, then dims, strides and attributes: the
 * parameters of every fused entry. `passes` reads of a row; `meet` of
 * fused_split, else NULL. */
static use_list fused_uses(const kf_plan *p, const kf_norm *n, int64_t passes,
                           const kf_row_meeting *meet)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    use_list l = {.count = 0};
    for (int i = 0; i < problem->op->tensor_count; i++) {
        const kf_ref ref = kf_tensor_ref(p, i);
        if (i == n->x || i == n->residual)
            add(&l, READ_PART(ref, 0, passes * M * N));
        else if (i == n->weight || i == n->bias)
            add(&l, READ_IF(ref, M * N));
        else
            add(&l, WRITE_IF(ref));
    }
    if (meet) {
        add(&l, meet->slots);
        add(&l, meet->tickets);
    }
    add(&l, INT(M));
    add(&l, INT(N));
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (i == n->x || i == n->residual || i == n->y || i == n->residual_out)
            add(&l, INT(problem->row_stride[i]));
    add(&l, FLOAT(n->eps));
    if (!n->centred)
        add(&l, FLOAT(n->offset));
    return l;
}

static void define_norm(kf_step *step, const kf_problem *problem, const kf_norm *n)
{
    kf_step_define(step, "CENTRED", n->centred);
    kf_step_define(step, "ADDED", n->residual >= 0);
    kf_step_define(step, "WEIGHT", kf_norm_has(problem, n->weight));
    kf_step_define(step, "BIAS", kf_norm_has(problem, n->bias));
    kf_step_define(step, "MEAN", kf_norm_has(problem, n->mean));
    kf_step_define(step, "RSTD", kf_norm_has(problem, n->rstd));
}

/* Per element: the sum, the centred square, the result, weight and bias. */
static kf_work fused_work(const kf_plan *p, const kf_norm *n, int64_t specials)
{
    const int64_t elements = p->problem.dim[KF_ROWS] * p->problem.dim[KF_COLS];
    const int each = (n->centred ? 5 : 3) + (n->residual >= 0) +
                     kf_norm_has(&p->problem, n->weight) + kf_norm_has(&p->problem, n->bias);
    return (kf_work){.flops = each * elements, .specials = specials};
}

static kf_step *add_fused(kf_plan *p, const char *entry, kf_grid grid, const kf_norm *n,
                          int64_t specials, int64_t passes)
{
    const use_list l = fused_uses(p, n, passes, NULL);
    kf_step *step = kf_plan_step(p, entry, grid, fused_work(p, n, specials), l.use, l.count);
    define_norm(step, &p->problem, n);
    return step;
}

/* Divisions and rsqrt of a thread: norm_join and, where warps exchange registers, the mean of its
 * warp's part; whole rows know the number of elements when they are compiled, and still divide. */
static int64_t join_specials(const kf_plan *p, const kf_norm *n, int64_t parts)
{
    const bool warps = kf_warp_lanes(&p->target) > 1;
    return 2 + n->centred + (n->centred && warps && parts > 1);
}

static void plan_on_chip(kf_plan *p, const char *entry, bool cluster)
{
    const kf_norm n = kf_norm_of(&p->problem);
    const kf_row_shape s = kf_row_shape_of(&p->problem, &p->config, &p->target, cluster);
    const kf_grid grid = kf_row_grid(&s, p);
    const int64_t parts = s.cluster * s.threads / kf_warp_lanes(&p->target);
    const int64_t specials = grid.groups * s.block * join_specials(p, &n, parts);
    kf_row_define(add_fused(p, entry, grid, &n, specials, 1), p, &s);
    kf_row_error(p, s.threads * s.cluster, n.centred && parts > 1 && kf_warp_lanes(&p->target) > 1);
}

static void plan_online(kf_plan *p, const char *entry)
{
    const kf_norm n = kf_norm_of(&p->problem);
    const kf_row_shape s = kf_row_shape_online(&p->problem, &p->config, &p->target);
    const int64_t vectors = p->problem.dim[KF_COLS] / kf_vec_elements(&p->problem);
    const int64_t trips = kf_ceil_div(vectors, s.block * NORM_BATCH);
    const int64_t merges = n.centred ? 2 * trips + s.edges : 0; /* divisions of a thread */
    const int64_t specials = merges + join_specials(p, &n, s.block / kf_warp_lanes(&p->target));
    const int64_t rows = p->problem.dim[KF_ROWS];
    kf_step *step = add_fused(p, entry, kf_row_grid(&s, p), &n, rows * s.block * specials, 2);
    /* edges are kept, not read again; no division where a thread has nothing */
    step->work.at_most = n.centred || !s.aligned;
    kf_row_define(step, p, &s);
    kf_row_error(p, s.block, n.centred ? trips + s.edges + 1 : 0);
}

void kf_norm_fused(kf_plan *p, const kf_norm_entries *entries)
{
    if (p->config.knob[KF_ROW_ONLINE])
        plan_online(p, entries->online);
    else
        plan_on_chip(p, entries->fused, false);
}

void kf_norm_cluster(kf_plan *p, const kf_norm_entries *entries)
{
    plan_on_chip(p, entries->cluster, true);
}

/* Per row of a group what plan_on_chip counts per group, the divisions of its own mean, and in a
 * group of several warps of its warps' too. */
void kf_norm_split(kf_plan *p, const kf_norm_entries *entries)
{
    const kf_norm n = kf_norm_of(&p->problem);
    const kf_row_split s = kf_row_split_of(&p->problem, &p->config, &p->target);
    const kf_row_meeting meet = kf_row_split_meet(p, &s);
    const int64_t lanes = kf_warp_lanes(&p->target);
    const int64_t each = 2 + (n.centred ? 2 + (lanes > 1 && s.slice.block > lanes) : 0);
    const int64_t specials = p->problem.dim[KF_ROWS] * s.parts * s.slice.block * each;
    const use_list l = fused_uses(p, &n, 1, &meet);
    kf_step *step = kf_plan_step(p, entries->split, kf_row_split_grid(&s, p),
                                 fused_work(p, &n, specials), l.use, l.count);
    step->work.at_most = n.centred; /* no division where a part is empty */
    define_norm(step, &p->problem, &n);
    kf_row_split_define(step, p, &s);
    kf_row_split_error(p, &s, n.centred);
}

void kf_norm_cpu(kf_plan *p, const kf_norm_entries *entries)
{
    const kf_norm n = kf_norm_of(&p->problem);
    const int64_t specials = p->problem.dim[KF_ROWS] * (2 + n.centred);
    kf_step *step = add_fused(p, entries->cpu, kf_row_item_grid(&p->problem, &p->config), &n,
                              specials, 2 + n.centred);
    kf_row_define_strip(step, p);
    kf_row_error(p, 1, 0);
}

/* ---- unfused ------------------------------------------------------------------------------- */

typedef struct parts { /* tensors or scratch, in the order of the entries' parameters */
    kf_ref x, normal, mean, rstd, centred;
    int64_t x_stride;
} parts;

/* The scratch arrays in the order that the entries take them. */
static parts declare_parts(kf_plan *p, const kf_norm *n, bool affine)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const int x = n->residual >= 0 ? n->residual_out : n->x;
    parts t = {.x = kf_tensor_ref(p, x), .x_stride = problem->row_stride[x]};
    t.normal = affine ? kf_scratch_ref(p, "normal", problem->dtype, M * N) : kf_tensor_ref(p, n->y);
    if (n->centred)
        t.mean = kf_norm_has(problem, n->mean) ? kf_tensor_ref(p, n->mean)
                                               : kf_scratch_ref(p, "row_mean", KF_F32, M);
    t.rstd = kf_norm_has(problem, n->rstd) ? kf_tensor_ref(p, n->rstd)
                                           : kf_scratch_ref(p, "row_rstd", KF_F32, M);
    if (n->centred)
        t.centred = kf_scratch_ref(p, "centred", problem->dtype, M * N);
    return t;
}

static void add_step(kf_plan *p, const char *source, const char *entry, kf_grid grid, kf_work work,
                     const kf_use *uses, int count)
{
    kf_step *step = kf_plan_step(p, entry, grid, work, uses, count);
    step->source = source;
    kf_row_define_strip(step, p);
    kf_step_define(step, "NORM_STEPS", 1);
}

static void add_sum(kf_plan *p, const kf_norm_entries *e, const kf_norm *n, kf_grid map)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    add_step(p, e->add_source, p->target.capabilities & KF_CAP_CPU ? e->add_cpu : e->add, map,
             (kf_work){.flops = M * N},
             USES(READ(kf_tensor_ref(p, n->x)), READ(kf_tensor_ref(p, n->residual)),
                  WRITE(kf_tensor_ref(p, n->residual_out)), INT(M), INT(N),
                  INT(problem->row_stride[n->x]), INT(problem->row_stride[n->residual]),
                  INT(problem->row_stride[n->residual_out])));
}

static void add_affine(kf_plan *p, const kf_norm_entries *e, const kf_norm *n, const parts *t,
                       kf_grid map)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const char *entry = p->target.capabilities & KF_CAP_CPU ? e->affine_cpu : e->affine;
    const kf_use y = WRITE(kf_tensor_ref(p, n->y)), stride = INT(problem->row_stride[n->y]);
    const kf_work work = {
        .flops = M * N * (kf_norm_has(problem, n->weight) + kf_norm_has(problem, n->bias))};
    if (n->centred)
        add_step(p, e->steps, entry, map, work,
                 USES(READ_IF(kf_tensor_ref(p, n->weight), M * N),
                      READ_IF(kf_tensor_ref(p, n->bias), M * N), y, READ(t->normal), INT(M), INT(N),
                      stride));
    else
        add_step(p, e->steps, entry, map, work,
                 USES(READ_PART(kf_tensor_ref(p, n->weight), 0, M * N), y, READ(t->normal), INT(M),
                      INT(N), stride, FLOAT(n->offset)));
}

static void add_layer(kf_plan *p, const kf_norm_entries *e, const kf_norm *n, const parts *t,
                      const kf_row_launches *l, int64_t to_stride)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const bool cpu = p->target.capabilities & KF_CAP_CPU;
    const kf_work one = {.flops = M * N};
    add_step(p, e->steps, cpu ? e->row_mean_cpu : e->row_mean, l->reduce,
             (kf_work){.flops = M * N, .specials = M},
             USES(READ(t->x), WRITE(t->mean), INT(M), INT(N), INT(t->x_stride)));
    add_step(p, e->steps, cpu ? e->subtract_cpu : e->subtract, l->map, one,
             USES(READ(t->x), READ_PART(t->mean, M, M * l->per_row), WRITE(t->centred), INT(M),
                  INT(N), INT(t->x_stride)));
    add_step(p, e->steps, cpu ? e->row_rstd_cpu : e->row_rstd, l->reduce,
             (kf_work){.flops = 2 * M * N, .specials = 2 * M},
             USES(WRITE(t->rstd), READ(t->centred), INT(M), INT(N), FLOAT(n->eps)));
    add_step(p, e->steps, cpu ? e->scale_cpu : e->scale, l->map, one,
             USES(WRITE(t->normal), READ_PART(t->rstd, M, M * l->per_row), READ(t->centred), INT(M),
                  INT(N), INT(to_stride)));
}

static void add_rms(kf_plan *p, const kf_norm_entries *e, const kf_norm *n, const parts *t,
                    const kf_row_launches *l, int64_t to_stride)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const bool cpu = p->target.capabilities & KF_CAP_CPU;
    add_step(p, e->steps, cpu ? e->row_rstd_cpu : e->row_rstd, l->reduce,
             (kf_work){.flops = 2 * M * N, .specials = 2 * M},
             USES(READ(t->x), WRITE(t->rstd), INT(M), INT(N), INT(t->x_stride), FLOAT(n->eps)));
    add_step(p, e->steps, cpu ? e->scale_cpu : e->scale, l->map, (kf_work){.flops = M * N},
             USES(READ(t->x), WRITE(t->normal), READ_PART(t->rstd, M, M * l->per_row), INT(M),
                  INT(N), INT(t->x_stride), INT(to_stride)));
}

void kf_norm_unfused(kf_plan *p, const kf_norm_entries *e)
{
    const kf_norm n = kf_norm_of(&p->problem);
    const bool affine = kf_norm_has(&p->problem, n.weight) || kf_norm_has(&p->problem, n.bias);
    const kf_row_launches l = kf_row_unfused(p);
    const bool cpu = p->target.capabilities & KF_CAP_CPU;
    if (n.residual >= 0)
        add_sum(p, e, &n, l.map);
    const parts t = declare_parts(p, &n, affine);
    const int64_t to = affine ? p->problem.dim[KF_COLS] : p->problem.row_stride[n.y];
    if (n.centred)
        add_layer(p, e, &n, &t, &l, to);
    else
        add_rms(p, e, &n, &t, &l, to);
    if (affine)
        add_affine(p, e, &n, &t, l.map);
    kf_row_error(p, cpu ? 1 : p->config.knob[KF_ROW_THREADS], 0);
    p->error.intermediate = p->problem.dtype;
}
