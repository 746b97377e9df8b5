/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax_axis.h"
#include "row_split.h"
#include "softmax_steps.h"
#include "../../core/backend.h"

enum { X, Y };
enum {
    WIDEST = 512, /* threads of a group: 128 registers each where a unit has 65536 */
    LEAST = 128,
    FLIGHT = 8, /* lines of a thread on their way at once */
    UNFUSED_FLIGHT = 4
};

const kf_attribute_decl kf_softmax_attributes[1] = {
    {.name = "axis",
     .fallback = -1,
     .help = "the axis along which the probabilities sum to 1; negative: from the end"},
};

bool kf_softmax_across(const kf_problem *problem)
{
    return problem->inner != 1;
}

/* ---- the launch --------------------------------------------------------------------------- */

typedef struct axis_shape {
    int64_t block, teams, lanes; /* threads: of a group, of a column, across the columns */
    int64_t cells, lines;        /* columns of a thread; lines it takes at a time, or holds */
    int64_t strips, chunks;      /* groups: across all columns, along the axis (maps) */
    bool aligned;
} axis_shape;

/* Every line of every tensor is whole aligned vectors. */
static bool all_aligned(const kf_problem *problem)
{
    const int size = kf_dtype_bytes(problem->dtype);
    bool aligned = problem->inner % kf_vec_elements(problem) == 0;
    for (int i = X; i <= Y; i++)
        aligned &= kf_row_alignment(problem, i) >= 16 && problem->step[i] * size % 16 == 0;
    return aligned;
}

static int64_t cells_of(const kf_problem *problem)
{
    return all_aligned(problem) ? kf_vec_elements(problem) : 1;
}

static axis_shape shape_of(const kf_problem *problem, const kf_config *config, int64_t lines)
{
    axis_shape s = {.block = config->knob[KF_ROW_BLOCK],
                    .teams = config->knob[KF_ROW_THREADS],
                    .cells = cells_of(problem),
                    .aligned = all_aligned(problem)};
    const int64_t N = problem->dim[KF_COLS];
    s.lanes = kf_at_least(s.block / s.teams, 1);
    s.lines = lines ? lines : kf_at_least(kf_ceil_div(N, s.teams), 1);
    s.strips = kf_ceil_div(problem->dim[KF_ROWS] * (problem->inner / s.cells), s.lanes);
    s.chunks = kf_ceil_div(N, s.teams * s.lines);
    return s;
}

/* Parts of a column that meet in local memory: warps that hold some of its threads. */
static int64_t parts_of(const axis_shape *s, const kf_target *target)
{
    const int64_t warp = kf_warp_lanes(target);
    return s->lanes < warp ? kf_at_least(s->block / warp, 1) : s->teams;
}

/* `joins` reductions over the threads of a column (kf_axis_join): shuffles leave one slot per warp
 * and cell, and each join has its own; a tree has one per thread and cell, and they take turns. */
static int64_t join_bytes(const axis_shape *s, const kf_target *target, int64_t joins)
{
    const int64_t parts = parts_of(s, target), cell = s->lanes * s->cells * 4;
    if (kf_warp_lanes(target) > 1)
        return parts > 1 ? joins * parts * cell : 0;
    return s->teams > 1 ? s->teams * cell : 0;
}

static kf_grid grid_of(const axis_shape *s, const kf_plan *p, int64_t joins)
{
    return (kf_grid){.groups = s->strips,
                     .threads = (int)s->block,
                     .local_bytes = kf_local_vectors(join_bytes(s, &p->target, joins)),
                     .least_groups = (int)p->config.knob[KF_ROW_LEAST_GROUPS]};
}

static void define(kf_step *step, const kf_plan *p, const axis_shape *s, bool log)
{
    step->source = "softmax_axis";
    kf_define_row(step, &p->target, s->block, s->teams, s->aligned);
    kf_step_define(step, "AXIS_LINES", s->lines);
    kf_step_define(step, "AXIS_LOG", log);
    if (kf_knob_used(&kf_row_knobs[KF_ROW_LEAST_GROUPS], p->variant->name))
        kf_step_knob(step, p, KF_ROW_LEAST_GROUPS);
}

/* Additions of a column's sum: those of a thread, those between the parts. */
static void set_error(kf_plan *p, const axis_shape *s, int64_t rescales)
{
    const int64_t parts = parts_of(s, &p->target);
    p->error.depth = kf_ceil_div(p->problem.dim[KF_COLS], s->teams) + kf_log2_above(s->teams) +
                     (kf_warp_lanes(&p->target) > 1 ? parts : 0);
    p->error.rescales = rescales;
    p->error.intermediate = KF_NONE;
    p->error.exp2 = true;
}

/* ---- plans: fused -------------------------------------------------------------------------- */

static int64_t elements_of(const kf_problem *problem)
{
    return problem->dim[KF_ROWS] * problem->dim[KF_COLS] * problem->inner;
}

static kf_step *add_fused(kf_plan *p, const char *entry, kf_grid grid, kf_work work, int64_t passes)
{
    const kf_problem *problem = &p->problem;
    return kf_plan_step(p, entry, grid, work,
                        USES(READ_PART(kf_tensor_ref(p, X), 0, passes * elements_of(problem)),
                             WRITE(kf_tensor_ref(p, Y)), INT(problem->dim[KF_ROWS]),
                             INT(problem->dim[KF_COLS]), INT(problem->inner),
                             INT(problem->row_stride[X]), INT(problem->step[X]),
                             INT(problem->row_stride[Y]), INT(problem->step[Y])));
}

/* Exponentials of all lines that threads hold, padding included; vectors of 16-bit storage compute
 * those of softmax again, for the elements that exist. A division or logarithm per column of a
 * thread. */
static void plan_held(kf_plan *p, bool log)
{
    const axis_shape s = shape_of(&p->problem, &p->config, 0);
    const int64_t threads = s.strips * s.block, elements = elements_of(&p->problem);
    const bool again = !log && s.aligned && p->problem.dtype != KF_F32;
    const kf_work work = {.flops = 4 * elements,
                          .specials = threads * s.cells * (s.lines + 1) + (again ? elements : 0)};
    define(add_fused(p, "softmax_axis_fused", grid_of(&s, p, 2), work, 1), p, &s, log);
    set_error(p, &s, 0);
}

/* ... of each trip one more, which rescales the sum; one more for the threads' sums to meet. */
static void plan_online(kf_plan *p, bool log)
{
    const axis_shape s = shape_of(&p->problem, &p->config, FLIGHT);
    const int64_t threads = s.strips * s.block, elements = elements_of(&p->problem);
    const kf_work work = {.flops = 6 * elements,
                          .specials = threads * s.cells * (s.chunks * (s.lines + 1) + 2) +
                                      (log ? 0 : elements)};
    define(add_fused(p, "softmax_axis_online", grid_of(&s, p, 2), work, 2), p, &s, log);
    set_error(p, &s, s.chunks + 2);
}

void kf_softmax_axis_fused(kf_plan *p, bool log)
{
    if (p->config.knob[KF_ROW_ONLINE])
        plan_online(p, log);
    else
        plan_held(p, log);
}

/* Per item one division of eight columns, or eight logarithms. */
void kf_softmax_axis_cpu(kf_plan *p, bool log)
{
    const kf_problem *problem = &p->problem;
    const int64_t block = p->config.knob[KF_ROW_BLOCK],
                  items = problem->dim[KF_ROWS] * kf_ceil_div(problem->inner, 8);
    const kf_work work = {.flops = 27 * elements_of(problem), .specials = items * (log ? 8 : 1)};
    const kf_grid grid = {.groups = kf_ceil_div(items, block), .threads = (int)block};
    const axis_shape s = {.block = block, .teams = 1, .lanes = block, .cells = 1, .lines = 1};
    define(add_fused(p, "softmax_axis_fused_cpu", grid, work, 3), p, &s, log);
    set_error(p, &s, 0);
    p->error.exp2 = false;
}

/* ---- plans: unfused ------------------------------------------------------------------------ */

typedef struct parts { /* scratch, in the order of the entries' parameters */
    kf_ref max, shifted, exponentials, sum;
} parts;

static kf_step *add_unfused(kf_plan *p, const axis_shape *s, const char *entry, bool map,
                            kf_work work, const kf_use *uses, int count)
{
    kf_grid grid = grid_of(s, p, map ? 0 : 1);
    grid.groups *= map ? s->chunks : 1;
    kf_step *step = kf_plan_step(p, entry, grid, work, uses, count);
    define(step, p, s, false);
    step->source = "softmax_axis_unfused";
    return step;
}

/* The one line that knows no axis: all elements one behind the other. */
static void add_exp(kf_plan *p, const parts *t)
{
    const kf_problem *problem = &p->problem;
    const bool is_cpu = p->target.capabilities & KF_CAP_CPU;
    const int64_t lines = problem->dim[KF_ROWS] * problem->dim[KF_COLS], all = elements_of(problem);
    const int64_t vec = kf_vec_elements(problem), block = p->config.knob[KF_ROW_BLOCK];
    const int64_t items = is_cpu ? lines : all / vec + all % vec;
    const kf_grid grid = {.groups = kf_ceil_div(items, block), .threads = (int)block};
    kf_softmax_step(
        p, "softmax_unfused", is_cpu ? "softmax_exp_cpu" : "softmax_exp", grid,
        (kf_work){.specials = all},
        USES(READ(t->shifted), WRITE(t->exponentials), INT(lines), INT(problem->inner)));
}

void kf_softmax_axis_unfused(kf_plan *p, bool log)
{
    const kf_problem *q = &p->problem;
    const axis_shape s = shape_of(q, &p->config, UNFUSED_FLIGHT * (all_aligned(q) ? 1 : 2));
    const int64_t columns = q->dim[KF_ROWS] * q->inner, all = elements_of(q),
                  asked =
                      columns * s.teams * s.chunks; /* a map reads a float per thread and column */
    const kf_use M = INT(q->dim[KF_ROWS]), N = INT(q->dim[KF_COLS]), K = INT(q->inner);
    const kf_use x_row = INT(q->row_stride[X]), x_step = INT(q->step[X]);
    const kf_use y_row = INT(q->row_stride[Y]), y_step = INT(q->step[Y]);
    const kf_use x = READ(kf_tensor_ref(p, X)), y = WRITE(kf_tensor_ref(p, Y));
    const kf_work one = {.flops = all};
    parts t;
    t.max = kf_scratch_ref(p, "row_max", KF_F32, columns);
    t.shifted = kf_scratch_ref(p, "shifted", q->dtype, all);
    t.exponentials = kf_scratch_ref(p, "exponentials", q->dtype, all);
    t.sum = kf_scratch_ref(p, "row_sum", KF_F32, columns);
    add_unfused(p, &s, "softmax_axis_max", false, one,
                USES(x, WRITE(t.max), M, N, K, x_row, x_step));
    add_unfused(
        p, &s, "softmax_axis_subtract", true, one,
        USES(x, READ_PART(t.max, columns, asked), WRITE(t.shifted), M, N, K, x_row, x_step));
    add_exp(p, &t);
    add_unfused(p, &s, "softmax_axis_sum", false, one,
                USES(READ(t.exponentials), WRITE(t.sum), M, N, K));
    if (log)
        add_unfused(
            p, &s, "softmax_axis_subtract_log", true, (kf_work){.flops = all, .specials = asked},
            USES(y, READ(t.shifted), READ_PART(t.sum, columns, asked), M, N, K, y_row, y_step));
    else
        add_unfused(p, &s, "softmax_axis_divide", true, (kf_work){.specials = all},
                    USES(y, READ(t.exponentials), READ_PART(t.sum, columns, asked), M, N, K, y_row,
                         y_step));
    set_error(p, &s, 0);
    p->error.intermediate = q->dtype;
}

/* ---- defaults ------------------------------------------------------------------------------ */

/* Lines that registers hold: four registers a vector, one an element, beside about 40 others. */
static int64_t most_lines(const kf_problem *problem, int64_t block)
{
    const int64_t most = all_aligned(problem) ? 16 : 32;
    return block > WIDEST ? most / 2 : most;
}

/* Threads across the columns: 128 bytes of a line, or what a row has. */
static int64_t usual_lanes(const kf_problem *problem)
{
    const int64_t units = problem->inner / cells_of(problem);
    return kf_at_most(all_aligned(problem) ? 8 : 32, kf_power_of_two_above(units));
}

/* Up to FLIGHT lines per thread; longer columns take all threads of a group with more lines each,
 * then fewer columns side by side, down to 64 bytes of a line (32 where they are not aligned); what
 * is longer still is read twice, 128 bytes at a time. */
void kf_softmax_defaults_fused(const kf_problem *problem, const kf_target *target,
                               kf_config *config)
{
    if (!kf_softmax_across(problem)) {
        kf_row_defaults_fused(problem, target, config);
        return;
    }
    const int64_t N = problem->dim[KF_COLS], usual = usual_lanes(problem);
    const int64_t most = config->set[KF_ROW_BLOCK] ? config->knob[KF_ROW_BLOCK]
                                                   : kf_at_most(WIDEST, target->max_threads);
    const int64_t least = kf_at_most(usual, all_aligned(problem)                  ? 4
                                            : kf_dtype_bytes(problem->dtype) == 2 ? 16
                                                                                  : 8);
    int64_t lanes = usual, threads = kf_power_of_two_above(kf_ceil_div(N, FLIGHT));
    while (threads * lanes > most && lanes > least &&
           kf_ceil_div(N, kf_at_least(most / lanes, 1)) > most_lines(problem, most))
        lanes /= 2;
    if (kf_ceil_div(N, kf_at_least(most / lanes, 1)) > most_lines(problem, most))
        lanes = usual;
    threads = kf_at_most(threads, kf_at_least(most / lanes, 1));
    kf_config_default(config, KF_ROW_THREADS, threads);
    threads = config->knob[KF_ROW_THREADS];
    kf_config_default(config, KF_ROW_BLOCK,
                      kf_at_most(kf_at_least(threads * lanes, LEAST), kf_at_least(most, threads)));
    kf_config_default(config, KF_ROW_LOCAL_VECS, 0);
    kf_config_default(config, KF_ROW_LEAST_GROUPS, 1);
    kf_config_default(config, KF_ROW_ONLINE,
                      kf_ceil_div(N, threads) > most_lines(problem, config->knob[KF_ROW_BLOCK]));
}

void kf_softmax_defaults_unfused(const kf_problem *problem, const kf_target *target,
                                 kf_config *config)
{
    if (!kf_softmax_across(problem) || target->capabilities & KF_CAP_CPU) {
        kf_row_defaults_unfused(problem, target, config);
        return;
    }
    kf_config_default(config, KF_ROW_BLOCK, kf_at_most(256, target->max_threads));
    const int64_t teams = kf_power_of_two_above(kf_ceil_div(problem->dim[KF_COLS], UNFUSED_FLIGHT));
    const int64_t block = config->knob[KF_ROW_BLOCK];
    kf_config_default(config, KF_ROW_THREADS,
                      kf_at_most(teams, kf_at_least(block / usual_lanes(problem), 1)));
}

const char *kf_softmax_choose(const kf_problem *problem, const kf_target *target)
{
    if (!kf_softmax_across(problem))
        return kf_row_choose(problem, target);
    return target->capabilities & KF_CAP_CPU ? "fused_cpu" : "fused";
}

/* ---- fits ---------------------------------------------------------------------------------- */

static kf_status check_local(const kf_problem *problem, const kf_config *config,
                             const kf_target *target, int64_t joins)
{
    const axis_shape s = shape_of(problem, config, FLIGHT);
    const int64_t bytes = join_bytes(&s, target, joins);
    return bytes <= (int64_t)target->local_bytes
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED,
                         "the threads of a column would meet in %lld bytes of local memory, and "
                         "there are %lld: a smaller BLOCK",
                         (long long)bytes, (long long)target->local_bytes);
}

kf_status kf_softmax_fits_unfused(const kf_problem *problem, const kf_config *config,
                                  const kf_target *target)
{
    const kf_status status = kf_row_fits_unfused(problem, config, target);
    return status == KF_OK && kf_softmax_across(problem) ? check_local(problem, config, target, 1)
                                                         : status;
}

kf_status kf_softmax_fits_fused(const kf_problem *problem, const kf_config *config,
                                const kf_target *target)
{
    if (!kf_softmax_across(problem))
        return kf_row_fits_fused(problem, config, target);
    kf_status status = kf_row_fits_read(problem, config, target); /* columns, threads */
    if (status == KF_OK)
        status = check_local(problem, config, target, 2);
    if (status != KF_OK)
        return status;
    const int64_t lines = kf_ceil_div(problem->dim[KF_COLS], config->knob[KF_ROW_THREADS]),
                  room = most_lines(problem, config->knob[KF_ROW_BLOCK]);
    if (config->knob[KF_ROW_LOCAL_VECS])
        return kf_fail(KF_UNSUPPORTED,
                       "LOCAL_VECS=%lld: an axis that is not the last stays in registers alone",
                       (long long)config->knob[KF_ROW_LOCAL_VECS]);
    if (!config->knob[KF_ROW_ONLINE] && lines > room)
        return kf_fail(KF_UNSUPPORTED,
                       "a thread would hold %lld elements of the axis in registers, and %lld fit: "
                       "more threads per row or ONLINE=1",
                       (long long)lines, (long long)room);
    return KF_OK;
}

static kf_status check_last(const kf_problem *problem, const char *variant)
{
    if (!kf_softmax_across(problem))
        return KF_OK;
    return kf_fail(KF_UNSUPPORTED,
                   "%s works along the last axis; %lld elements lie behind this one: use fused",
                   variant, (long long)problem->inner);
}

kf_status kf_softmax_fits_cluster(const kf_problem *problem, const kf_config *config,
                                  const kf_target *target)
{
    const kf_status status = check_last(problem, "fused_cluster");
    return status == KF_OK ? kf_row_fits_cluster(problem, config, target) : status;
}

kf_status kf_softmax_fits_split(const kf_problem *problem, const kf_config *config,
                                const kf_target *target)
{
    const kf_status status = check_last(problem, "fused_split");
    return status == KF_OK ? kf_row_fits_split(problem, config, target) : status;
}
