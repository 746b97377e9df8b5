/* y = exp(x - max x) / sum exp(x - max x) over the last axis. Traffic for M rows of N elements of s
 * bytes:
 *
 *     unfused        5 launches   row max M N s + 4 M, subtract 2 M N s + 4 M, exp 2 M N s,
 *                                 row sum M N s + 4 M, divide 2 M N s + 4 M     8 M N s + 16 M
 *     fused          1 launch     row on chip: every element read and written once     2 M N s
 *                                 wider rows (ONLINE=1): maximum and sum, then a second read  3 M N
 * s fused_cluster  1 launch     one row over CLUSTER groups                          2 M N s
 *     fused_cpu      1 launch     one row per item; it stays in cache after the first of three
 * reads
 *
 * The intermediates of `unfused` are stored in the dtype of x. A row with NaN or +inf is NaN, as is
 * a row of -inf alone; -inf among finite values gives 0. `y` may be x itself: a row is read before
 * it is written. SPDX-License-Identifier: Apache-2.0 */
#include "common/rows.h"
#include "common/softmax_reference.h"
#include "common/softmax_shape.h"
#include "../core/backend.h"

enum { ONLINE_VECS = 4 };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "scores"},
    {.name = "y",
     .role = KF_OUTPUT,
     .alias = "x",
     .dims = "rows cols",
     .help = "probabilities: every row sums to 1"},
};

static const kf_knob_decl knobs[] = {
    {.name = "BLOCK",
     .variants = "unfused fused fused_cluster fused_cpu",
     .value_count = 11,
     .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
     .help = "threads per group"},
    {.name = "THREADS_PER_ROW",
     .variants = "unfused fused",
     .value_count = 11,
     .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
     .help = "threads that share a row; BLOCK / THREADS_PER_ROW rows share a group"},
    {.name = "LOCAL_VECS",
     .variants = "fused fused_cluster",
     .value_count = 14,
     .values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
     .help = "16-byte vectors per thread kept in local memory instead of registers"},
    {.name = "LEAST_GROUPS",
     .variants = "fused fused_cluster",
     .value_count = 7,
     .values = {1, 2, 3, 4, 5, 6, 8},
     .help = "groups that must fit on a unit: caps the registers"},
    {.name = "ONCE",
     .variants = "fused fused_cluster",
     .value_count = 2,
     .values = {0, 1},
     .help =
         "16-bit rows: 1 = each exponential is computed once and kept as a float, 0 = twice, in "
         "half the registers"},
    {.name = "ONLINE",
     .variants = "fused",
     .value_count = 2,
     .values = {0, 1},
     .help = "1 = the row does not stay on chip: online maximum and sum, two reads"},
    {.name = "CLUSTER",
     .variants = "fused_cluster",
     .value_count = 4,
     .values = {2, 4, 8, 16},
     .help = "groups that share a row"},
};

/* ---- plans: fused -------------------------------------------------------------------------- */

static kf_grid fused_grid(const softmax_shape *s, int64_t rows, const kf_config *config,
                          const kf_target *target)
{
    const int64_t least = config->knob[LEAST_GROUPS];
    const int64_t cap = target->registers_per_unit / (s->block * least) / 8 * 8;
    return (kf_grid){.groups = kf_ceil_div(rows, s->rows) * s->cluster,
                     .threads = (int)s->block,
                     .cluster = s->cluster > 1 ? (int)s->cluster : 0,
                     .local_bytes = s->local_bytes,
                     .least_groups = (int)least,
                     .register_cap = least > 1 && cap >= 32 && cap < 256 ? (int)cap : 0};
}

/* Subtract, compare, add and scale, one each per element. */
static kf_work fused_work(const kf_plan *p, int64_t specials, bool exact)
{
    const int64_t elements = p->problem.dim[ROWS] * p->problem.dim[COLS];
    return (kf_work){.flops = 4 * elements, .specials = specials, .at_most = !exact};
}

static kf_step *add_fused(kf_plan *p, const char *entry, const softmax_shape *s, kf_work work,
                          int64_t passes)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[ROWS], N = problem->dim[COLS];
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y);
    kf_use read = READ(x);
    if (passes > 1)
        read.requested = passes * M * N;
    kf_step *step = kf_plan_step(p, entry, fused_grid(s, M, &p->config, &p->target), work,
                                 USES(read, WRITE(y), INT(M), INT(N), INT(problem->row_stride[X]),
                                      INT(problem->row_stride[Y])));
    kf_define_row(step, &p->target, s->block, s->threads, s->aligned);
    kf_step_define(step, "VECS", s->vecs);
    kf_step_define(step, "LOCAL_VECS", s->local_vecs);
    kf_step_define(step, "WHOLE", s->whole);
    kf_step_knob(step, p, ONCE);
    kf_step_knob(step, p, LEAST_GROUPS);
    /* evict-first where it pays: common/rows.cu */
    kf_step_define(step, "STREAMED", s->aligned && s->cluster == 1 && s->threads <= 32);
    return step;
}

/* exp2 in vectors and edges, padding included; 16-bit storage computes those of the vectors again
 * unless ONCE keeps them, for the elements that exist. */
static int64_t on_chip_specials(const kf_plan *p, const softmax_shape *s, int64_t groups,
                                int64_t parts)
{
    const kf_problem *problem = &p->problem;
    const int64_t per_thread =
        s->vecs * kf_vec_elements(problem) + s->edges + softmax_gather_specials(&p->target, parts);
    const int64_t again =
        softmax_kept_packs(problem, &p->config) ? 0 : problem->dim[ROWS] * problem->dim[COLS];
    return groups * s->block * per_thread + again;
}

static void set_error(kf_plan *p, int64_t threads, int64_t merges)
{
    p->error.depth = kf_ceil_div(p->problem.dim[COLS], threads) + kf_log2_above(threads);
    p->error.rescales = merges ? kf_log2_above(threads) + merges : 0;
    p->error.exp2 = true;
    p->error.intermediate = KF_NONE;
}

static void plan_online(kf_plan *p, const kf_problem *problem, const kf_config *config,
                        const kf_target *target)
{
    const int64_t M = problem->dim[ROWS], N = problem->dim[COLS], block = config->knob[BLOCK];
    const int vec = kf_vec_elements(problem);
    const bool aligned = softmax_aligned(problem);
    const softmax_shape s = {.block = block,
                             .threads = block,
                             .rows = 1,
                             .cluster = 1,
                             .vecs = 1,
                             .edges = kf_row_edges(problem, block, aligned),
                             .local_bytes = kf_local_vectors(kf_row_slot_bytes(target, block, 1)),
                             .aligned = aligned};
    const int64_t trips = kf_ceil_div(N / vec, block * ONLINE_VECS);
    const int64_t per_thread = trips * (ONLINE_VECS * vec + 1) + s.edges + 1 +
                               softmax_gather_specials(target, block / kf_warp_lanes(target));
    add_fused(p, "softmax_online", &s, fused_work(p, M * block * per_thread + M * N, aligned), 2);
    set_error(p, block, trips + 2);
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    if (config->knob[ONLINE]) {
        plan_online(p, problem, config, target);
        return;
    }
    const softmax_shape s = softmax_shape_of(problem, config, target, false);
    const int64_t parts = s.threads / kf_warp_lanes(target);
    const int64_t specials =
        on_chip_specials(p, &s, kf_ceil_div(problem->dim[ROWS], s.rows), parts);
    const bool exact = s.aligned || problem->dtype == KF_F32;
    add_fused(p, "softmax_fused", &s, fused_work(p, specials, exact), 1);
    set_error(p, s.threads, parts > 1);
}

static void plan_cluster(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const softmax_shape s = softmax_shape_of(problem, config, target, true);
    const int64_t parts = s.cluster * s.block / kf_warp_lanes(target);
    const int64_t specials = on_chip_specials(p, &s, problem->dim[ROWS] * s.cluster, parts);
    const bool exact = s.aligned || problem->dtype == KF_F32;
    kf_step *step = add_fused(p, "softmax_cluster", &s, fused_work(p, specials, exact), 1);
    kf_step_knob(step, p, CLUSTER);
    set_error(p, s.block * s.cluster, 1);
}

static kf_grid item_grid(const kf_problem *problem, const kf_config *config)
{
    return (kf_grid){.groups = kf_ceil_div(problem->dim[ROWS], config->knob[BLOCK]),
                     .threads = (int)config->knob[BLOCK]};
}

/* Vectors of eight exponentials that an item keeps: 32 KiB at most, else none. */
static int64_t kept_vectors(int64_t cols)
{
    return cols < 8 || cols / 8 > 1024 ? 0 : kf_at_least(kf_power_of_two_above(cols / 8), 32);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const int64_t M = problem->dim[ROWS], N = problem->dim[COLS], kept = kept_vectors(N);
    const int64_t again = kept ? N % 8 : N; /* read a third time */
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y);
    kf_step *step =
        kf_plan_step(p, "softmax_fused_cpu", item_grid(problem, config),
                     (kf_work){.flops = M * (3 * N + 22 * (N + again)), .specials = M},
                     USES(READ_PART(x, 0, M * (2 * N + again)), WRITE(y), INT(M), INT(N),
                          INT(problem->row_stride[X]), INT(problem->row_stride[Y])));
    kf_define_row(step, target, config->knob[BLOCK], 1, false);
    kf_step_define(step, "VECS", 1);
    kf_step_define(step, "LOCAL_VECS", 0);
    kf_step_define(step, "KEPT", kept);
    set_error(p, 1, 0);
}

/* ---- plans: unfused ------------------------------------------------------------------------ */

typedef struct unfused_parts { /* scratch, in the order of the entries' parameters */
    kf_ref row_max, shifted, exponentials, row_sum;
} unfused_parts;

static unfused_parts declare_parts(kf_plan *p)
{
    const int64_t M = p->problem.dim[ROWS], N = p->problem.dim[COLS];
    unfused_parts parts;
    parts.row_max = kf_scratch_ref(p, "row_max", KF_F32, M);
    parts.shifted = kf_scratch_ref(p, "shifted", p->problem.dtype, M * N);
    parts.exponentials = kf_scratch_ref(p, "exponentials", p->problem.dtype, M * N);
    parts.row_sum = kf_scratch_ref(p, "row_sum", KF_F32, M);
    p->error.intermediate = p->problem.dtype;
    return parts;
}

static void add_unfused(kf_plan *p, const char *entry, kf_grid grid, kf_work work,
                        const kf_use *uses, int count)
{
    const bool cpu = p->target.capabilities & KF_CAP_CPU;
    kf_step *step = kf_plan_step(p, entry, grid, work, uses, count);
    step->source = "softmax_unfused";
    kf_define_row(step, &p->target, p->config.knob[BLOCK],
                  cpu ? 1 : p->config.knob[THREADS_PER_ROW], !cpu && softmax_aligned(&p->problem));
}

/* The five launches with the given grids; `per_row` threads of a map read a row's statistic each.
 */
static void add_unfused_steps(kf_plan *p, const char *const entry[5], kf_grid reduce, kf_grid map,
                              kf_grid flat, int64_t per_row)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[ROWS], N = problem->dim[COLS];
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y);
    const unfused_parts t = declare_parts(p);
    const kf_work one = {.flops = M * N};
    add_unfused(p, entry[0], reduce, one,
                USES(READ(x), WRITE(t.row_max), INT(M), INT(N), INT(problem->row_stride[X])));
    add_unfused(p, entry[1], map, one,
                USES(READ(x), READ_PART(t.row_max, M, M * per_row), WRITE(t.shifted), INT(M),
                     INT(N), INT(problem->row_stride[X])));
    add_unfused(p, entry[2], flat, (kf_work){.specials = M * N},
                USES(READ(t.shifted), WRITE(t.exponentials), INT(M), INT(N)));
    add_unfused(p, entry[3], reduce, one,
                USES(READ(t.exponentials), WRITE(t.row_sum), INT(M), INT(N)));
    add_unfused(p, entry[4], map, (kf_work){.specials = M * N},
                USES(WRITE(y), READ(t.exponentials), READ_PART(t.row_sum, M, M * per_row), INT(M),
                     INT(N), INT(problem->row_stride[Y])));
}

static void plan_unfused_cpu(kf_plan *p)
{
    static const char *const entry[5] = {"softmax_row_max_cpu", "softmax_subtract_cpu",
                                         "softmax_exp_cpu", "softmax_row_sum_cpu",
                                         "softmax_divide_cpu"};
    const kf_grid items = item_grid(&p->problem, &p->config);
    set_error(p, 1, 0);
    add_unfused_steps(p, entry, items, items, items, 1);
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    static const char *const entry[5] = {"softmax_row_max", "softmax_subtract", "softmax_exp",
                                         "softmax_row_sum", "softmax_divide"};
    if (target->capabilities & KF_CAP_CPU) {
        plan_unfused_cpu(p);
        return;
    }
    const int64_t M = problem->dim[ROWS], N = problem->dim[COLS];
    const int64_t block = config->knob[BLOCK], threads = config->knob[THREADS_PER_ROW];
    const int64_t lanes = kf_warp_lanes(target), rows = block / threads;
    const int64_t chunks = kf_ceil_div(kf_row_vectors(problem), threads);
    const int64_t flat = M * N / kf_vec_elements(problem) + M * N % kf_vec_elements(problem);
    const int64_t slots = threads > lanes ? threads / lanes * rows : 0;
    const kf_grid reduce = {.groups = kf_ceil_div(M, rows),
                            .threads = (int)block,
                            .local_bytes = kf_local_vectors(slots * 4)};
    kf_grid map = reduce, element = reduce;
    map.groups *= chunks;
    element.groups = kf_ceil_div(flat, block);
    set_error(p, threads, 0);
    add_unfused_steps(p, entry, reduce, map, element, threads * chunks);
}

/* ---- the op -------------------------------------------------------------------------------- */

static const kf_variant variants[] = {
    {.name = "unfused",
     .help =
         "row max, subtract, exp, row sum, divide: five launches, two matrices in global memory",
     .defaults = softmax_defaults_unfused,
     .fits = softmax_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, the row on chip; wider rows by online maximum and sum and a second read",
     .defaults = softmax_defaults_fused,
     .fits = softmax_fits_fused,
     .plan = plan_fused},
    {.name = "fused_cluster",
     .help = "one launch, one row over 2 to 16 groups that share their local memory",
     .needs = KF_CAP_CLUSTERS,
     .defaults = softmax_defaults_cluster,
     .fits = softmax_fits_cluster,
     .plan = plan_cluster},
    {.name = "fused_cpu",
     .help = "one launch, one row per item, eight columns at a time, no barrier",
     .defaults = softmax_defaults_cpu,
     .fits = softmax_fits_cpu,
     .plan = plan_cpu},
};

/* Rows that one group cannot hold go over a cluster where there are any. */
static const char *choose(const kf_problem *problem, const kf_target *target)
{
    kf_config fused = {.set = {false}}, cluster = {.set = {false}};
    if (target->capabilities & KF_CAP_CPU)
        return "fused_cpu";
    if (!(target->capabilities & KF_CAP_CLUSTERS) || problem->empty)
        return "fused";
    softmax_defaults_fused(problem, target, &fused);
    softmax_defaults_cluster(problem, target, &cluster);
    const softmax_shape s = softmax_shape_of(problem, &cluster, target, true);
    return fused.knob[ONLINE] && s.vecs - s.local_vecs <= 16 && s.local_bytes <= target->local_bytes
               ? "fused_cluster"
               : "fused";
}

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const int64_t N = problem->dim[COLS];
    (void)output;
    for (int64_t done = 0; done < count;) {
        const int64_t row = (first + done) / N, column = (first + done) % N;
        const int64_t part = kf_at_most(N - column, count - done);
        const kf_softmax_row r = {.x = inputs[X],
                                  .dtype = problem->dtype,
                                  .start = row * problem->row_stride[X],
                                  .cols = N};
        kf_softmax_reference(&r, error, column, part, value + done, bound + done);
        done += part;
    }
    return KF_OK;
}

const kf_op kf_op_softmax = {
    .name = "softmax",
    .summary = "Softmax over the last axis",
    .formula = "y = exp(x - max(x)) / sum(exp(x - max(x))) over the last axis",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .knobs = knobs,
    .knob_count = sizeof knobs / sizeof *knobs,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_derive_rows,
    .choose = choose,
    .reference = reference,
};
