/* The backward norms line by line, every matrix through global memory.
 * SPDX-License-Identifier: Apache-2.0 */
#include "norm_backward.h"
#include "../../core/backend.h"

enum { SUM_VECS = 4, CPU_THREADS = 64 }; /* vectors of a thread that a row's sum has in flight */

typedef struct launches {
    kf_columns map;  /* one vector per thread, a strip of a row per team */
    kf_columns sum;  /* of a row */
    kf_columns over; /* sums over rows: a strip of columns per group */
} launches;

typedef struct parts { /* tensors or scratch, in the order of the entries' parameters */
    kf_ref grad_y, rstd, grad_x, normal, scaled, row_dot, row_mean;
    int64_t scaled_stride;
} parts;

/* On CPU devices nothing has a barrier: a row per item where it is summed, and otherwise no group
 * has more than one row. */
static launches launches_of(const kf_plan *p)
{
    const kf_problem *problem = &p->problem;
    const bool cpu = p->target.capabilities & KF_CAP_CPU;
    const int64_t most = cpu ? CPU_THREADS : p->config.knob[KF_BACK_BLOCK];
    const int64_t vectors = kf_ceil_div(problem->dim[KF_COLS], kf_vec_elements(problem));
    const int64_t threads = kf_at_most(kf_power_of_two_above(vectors), most);
    const int64_t block = cpu ? threads : most;
    return (launches){.map = kf_columns_of(problem, block, threads, 1),
                      .over = kf_columns_of(problem, block, threads, 1),
                      .sum = kf_columns_of(problem, p->config.knob[KF_BACK_BLOCK],
                                           cpu ? 1 : p->config.knob[KF_BACK_THREADS], SUM_VECS)};
}

static void add_step(kf_plan *p, const kf_norm_backward_entries *e, const char *entry,
                     const kf_columns *c, kf_grid grid, kf_work work, const kf_use *uses, int count)
{
    grid.threads = (int)c->block;
    grid.local_bytes = kf_local_vectors(grid.local_bytes);
    kf_step *step = kf_plan_step(p, entry, grid, work, uses, count);
    step->source = e->steps;
    kf_columns_define(step, &p->target, c);
    kf_step_define(step, "BACK_STEPS", 1);
}

static void add_map(kf_plan *p, const kf_norm_backward_entries *e, const char *entry,
                    const kf_columns *c, int flops, const kf_use *uses, int count)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    add_step(p, e, entry, c, (kf_grid){.groups = kf_ceil_div(M, c->teams) * c->strips},
             (kf_work){.flops = flops * M * N}, uses, count);
}

/* A float of each row, read by every thread of the row's strips. */
static kf_use statistic(const kf_plan *p, const kf_columns *map, kf_ref ref)
{
    const int64_t M = p->problem.dim[KF_ROWS];
    return READ_PART(ref, M, M * map->threads * map->strips);
}

static void add_normal(kf_plan *p, const kf_norm_backward_entries *e, const kf_norm_backward *n,
                       const parts *t, const kf_columns *map)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_use x = READ_PART(kf_tensor_ref(p, n->x), 0, M * N), rstd = statistic(p, map, t->rstd);
    const kf_use stride = INT(problem->row_stride[n->x]);
    if (n->centred)
        add_map(p, e, e->normal, map, 2,
                USES(x, statistic(p, map, kf_tensor_ref(p, n->mean)), rstd, WRITE(t->normal),
                     INT(M), INT(N), stride));
    else
        add_map(p, e, e->normal, map, 1, USES(x, rstd, WRITE(t->normal), INT(M), INT(N), stride));
}

/* First stage of a sum over rows: `count` rows of partial sums from `first` on. */
static void add_column_sums(kf_plan *p, const kf_norm_backward_entries *e, const kf_columns *over,
                            kf_ref from, int64_t stride, kf_ref partials, int64_t first,
                            int64_t count)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    kf_use written = WRITE(partials);
    written.moved = count * N;
    add_step(p, e, e->column_sums, over,
             (kf_grid){.groups = over->strips * count,
                       .local_bytes = kf_columns_join_bytes(over, &p->problem)},
             (kf_work){.flops = M * N},
             USES(READ_PART(from, 0, M * N), written, INT(M), INT(N), INT(stride), INT(first)));
}

static void add_weight_grad(kf_plan *p, const kf_norm_backward_entries *e,
                            const kf_norm_backward *n, const parts *t, const launches *l,
                            kf_ref partials, int64_t count)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_ref product = kf_scratch_ref(p, "product", problem->dtype, M * N);
    add_map(p, e, e->product, &l->map, 1,
            USES(READ_PART(t->grad_y, 0, M * N), READ(t->normal), WRITE(product), INT(M), INT(N),
                 INT(problem->row_stride[n->grad_y])));
    add_column_sums(p, e, &l->over, product, N, partials, 0, count);
}

/* scaled = grad_y where there is no weight */
static void add_scaled(kf_plan *p, const kf_norm_backward_entries *e, const kf_norm_backward *n,
                       parts *t, const kf_columns *map)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    t->scaled = t->grad_y;
    t->scaled_stride = problem->row_stride[n->grad_y];
    if (!n->weighted)
        return;
    const kf_use grad_y = READ_PART(t->grad_y, 0, M * N), stride = INT(t->scaled_stride),
                 weight = READ_PART(kf_tensor_ref(p, n->weight), 0, M * N);
    t->scaled = kf_scratch_ref(p, "scaled", problem->dtype, M * N);
    t->scaled_stride = N;
    if (n->centred)
        add_map(p, e, e->scaled, map, 1,
                USES(grad_y, weight, WRITE(t->scaled), INT(M), INT(N), stride));
    else
        add_map(p, e, e->scaled, map, 2,
                USES(grad_y, weight, WRITE(t->scaled), INT(M), INT(N), stride, FLOAT(n->offset)));
}

static void add_row_sums(kf_plan *p, const kf_norm_backward_entries *e, const kf_norm_backward *n,
                         parts *t, const kf_columns *sum)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const int64_t lanes = kf_warp_lanes(&p->target);
    const int64_t slots = sum->threads > lanes ? sum->threads / lanes * sum->teams : 0;
    const kf_grid grid = {.groups = kf_ceil_div(M, sum->teams), .local_bytes = slots * 4};
    const kf_use scaled = READ_PART(t->scaled, 0, M * N), stride = INT(t->scaled_stride);
    if (n->centred) {
        t->row_mean = kf_scratch_ref(p, "row_mean", KF_F32, M);
        add_step(p, e, e->row_mean, sum, grid, (kf_work){.flops = M * N, .specials = M},
                 USES(scaled, WRITE(t->row_mean), INT(M), INT(N), stride));
    }
    t->row_dot = kf_scratch_ref(p, "row_dot", KF_F32, M);
    add_step(p, e, e->row_dot, sum, grid, (kf_work){.flops = 2 * M * N, .specials = M},
             USES(scaled, READ(t->normal), WRITE(t->row_dot), INT(M), INT(N), stride));
    p->error.depth =
        sum->strips * sum->vecs * kf_vec_elements(&p->problem) + kf_log2_above(sum->threads);
}

static void add_grad_x(kf_plan *p, const kf_norm_backward_entries *e, const kf_norm_backward *n,
                       const parts *t, const kf_columns *map)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const kf_use scaled = READ_PART(t->scaled, 0, M * N), rstd = statistic(p, map, t->rstd),
                 stride = INT(t->scaled_stride), to = INT(p->problem.row_stride[n->grad_x]);
    if (n->centred)
        add_map(p, e, e->grad_x, map, 4,
                USES(scaled, rstd, WRITE(t->grad_x), READ(t->normal),
                     statistic(p, map, t->row_mean), statistic(p, map, t->row_dot), INT(M), INT(N),
                     stride, to));
    else
        add_map(p, e, e->grad_x, map, 3,
                USES(scaled, rstd, WRITE(t->grad_x), READ(t->normal), statistic(p, map, t->row_dot),
                     INT(M), INT(N), stride, to));
}

/* Both sums over rows share the second stage. */
static void add_sums(kf_plan *p, const kf_norm_backward_entries *e, const kf_norm_backward *n,
                     const parts *t, const launches *l)
{
    const int64_t count = kf_columns_parts(&l->over, p, p->config.knob[KF_BACK_GROUPS]);
    if (!n->outputs)
        return;
    const kf_ref partials = kf_norm_backward_partials(p, n, count);
    if (n->weight_grad)
        add_weight_grad(p, e, n, t, l, partials, count);
    if (n->bias_grad)
        add_column_sums(p, e, &l->over, t->grad_y, p->problem.row_stride[n->grad_y], partials,
                        n->weight_grad * count, count);
    p->error.rows_depth = kf_columns_depth(&l->over, p->problem.dim[KF_ROWS], count);
    kf_norm_backward_totals(p, e, n, partials, count);
}

void kf_norm_backward_unfused(kf_plan *p, const kf_norm_backward_entries *e)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_norm_backward n = kf_norm_backward_of(problem);
    const launches l = launches_of(p);
    parts t = {.grad_y = kf_tensor_ref(p, n.grad_y),
               .rstd = kf_tensor_ref(p, n.rstd),
               .grad_x = kf_tensor_ref(p, n.grad_x),
               .normal = kf_scratch_ref(p, "normal", problem->dtype, M * N)};
    add_normal(p, e, &n, &t, &l.map);
    add_sums(p, e, &n, &t, &l);
    add_scaled(p, e, &n, &t, &l.map);
    add_row_sums(p, e, &n, &t, &l.sum);
    add_grad_x(p, e, &n, &t, &l.map);
    p->error.intermediate = problem->dtype;
}
