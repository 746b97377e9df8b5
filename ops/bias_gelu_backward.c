/* The gradients of y = gelu(x + bias) for a given grad_y, the bias a vector along the rows:
 *
 *     grad_x = grad_y gelu'(x + bias),  grad_bias = sum over the M rows of grad_x
 *
 *     gelu'(v) = Phi(v) + v phi(v), or for approximate=tanh the slope of v sigmoid(w),
 *                sigmoid(w) + v w' sigmoid(w) (1 - sigmoid(w)), w = 2 sqrt(2 / pi) (v + 0.044715
 * v^3)
 *
 * with its limits 0 and 1 where v is infinite. Nothing of the forward pass is kept but its inputs.
 * Traffic for rows of N elements of s bytes; P rows of partial sums:
 *
 *     unfused     5 launches   sum = x + bias                       2 M N s + N s
 *                              slope = gelu'(sum)                   2 M N s
 *                              grad_x = grad_y slope                3 M N s
 *                              grad_bias = column sums of grad_x, 2 stages
 *                                                                     M N s + 8 P N + N s
 *                                                                   8 M N s + 8 P N + 2 N s
 *     fused       2 launches   sums over rows in registers          3 M N s + 8 P N + 2 N s,
 *                              P N = at most GROUPS_PER_UNIT strips of a row on every unit
 *     fused_cpu   2 launches   ROWS_PER_ITEM rows of a stretch of columns per item, eight columns
 *                              at a time; P = M / ROWS_PER_ITEM
 *
 * What is summed: `fused` and `fused_cpu` add the f32 product before it is rounded to the storage
 * of grad_x; `unfused`, whose lines meet in memory, adds grad_x as stored. Sums over rows are made
 * in a fixed order, the same bits from run to run, and rounded once. The intermediates of `unfused`
 * are stored in the dtype of x. grad_x may be grad_y or x: each element is read before it is
 * written, by the same thread. SPDX-License-Identifier: Apache-2.0 */
#include "../core/backend.h"
#include "common/columns.h"
#include "common/gelu.h"

enum { GRAD_Y, X, BIAS, GRAD_X, GRAD_BIAS };
enum { APPROXIMATE };

static const kf_tensor_decl tensors[] = {
    {.name = "grad_y", .role = KF_INPUT, .dims = "rows cols", .help = "gradient of the output"},
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "of the forward pass"},
    {.name = "bias", .role = KF_INPUT, .dims = "cols", .help = "was added to every row"},
    {.name = "grad_x",
     .role = KF_OUTPUT,
     .alias = "grad_y x",
     .dims = "rows cols",
     .help = "gradient of x"},
    {.name = "grad_bias", .role = KF_OUTPUT, .dims = "cols", .help = "gradient of the bias"},
};

static const kf_attribute_decl attributes[] = {KF_GELU_APPROXIMATE};

/* The first two where ops/common/row_shape and row_map read them. */
enum { BLOCK = KF_ROW_BLOCK, THREADS = KF_ROW_THREADS, STAGES, GROUPS, ITEM_ROWS, KNOBS };

static const kf_knob_decl knobs[KNOBS] = {
    [BLOCK] = {.name = "BLOCK",
               .variants = "unfused fused fused_cpu",
               .value_count = 11,
               .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
               .help = "threads per group"},
    [THREADS] = {.name = "THREADS_PER_ROW",
                 .variants = "unfused fused",
                 .value_count = 11,
                 .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
                 .help = "threads that share a strip of a row where rows are summed; BLOCK / "
                         "THREADS_PER_ROW rows share a group"},
    [STAGES] = {.name = "STAGES",
                .variants = "fused",
                .value_count = 2,
                .values = {1, 2},
                .help = "2 = the next row is asked for before this one is worked on"},
    [GROUPS] = {.name = "GROUPS_PER_UNIT",
                .variants = "unfused fused",
                .value_count = 8,
                .values = {1, 2, 3, 4, 5, 6, 8, 16},
                .help = "groups on each unit that take turns with the rows; each writes a strip of "
                        "partial sums"},
    [ITEM_ROWS] = {.name = "ROWS_PER_ITEM",
                   .variants = "fused_cpu",
                   .value_count = 7,
                   .values = {1, 2, 4, 8, 16, 32, 64},
                   .help = "rows of a work-item, which writes a stretch of partial sums"},
};

/* One row at a time; narrow strips, many teams of rows; an item with a row of its own. */
static const char *const ways[] = {"STAGES=1 GROUPS_PER_UNIT=1",
                                   "BLOCK=64 THREADS_PER_ROW=2 GROUPS_PER_UNIT=2",
                                   "ROWS_PER_ITEM=1 BLOCK=2", NULL};

/* ---- plans -------------------------------------------------------------------------------- */

enum { STRETCH = 2048, CPU_THREADS = 64 }; /* columns of an item; a multiple of 8 */

static kf_gelu_form form_of(const kf_problem *problem)
{
    return (kf_gelu_form)problem->attribute[APPROXIMATE].i;
}

static kf_ref partials_of(kf_plan *p, int64_t parts)
{
    return kf_scratch_ref(p, "partials", KF_F32, parts * p->problem.dim[KF_COLS]);
}

static void add_totals(kf_plan *p, kf_ref partials, int64_t parts)
{
    kf_column_totals(p, "bias_gelu_backward_columns", (const int[]){GRAD_BIAS}, 1, partials, parts);
}

/* Threads that own strips of columns in one group and take turns with the rows. On CPU devices no
 * strip is shared, so that there is no barrier. */
static kf_columns columns_of(const kf_plan *p, bool cpu)
{
    const int64_t vectors = kf_row_vectors(&p->problem), block = p->config.knob[BLOCK];
    const int64_t items = kf_at_most(kf_power_of_two_above(vectors), CPU_THREADS);
    return kf_columns_of(&p->problem, cpu ? items : block, cpu ? items : p->config.knob[THREADS],
                         1);
}

static kf_grid columns_grid(const kf_plan *p, const kf_columns *c, int64_t parts)
{
    const int64_t least = p->config.knob[GROUPS];
    const int64_t cap = p->target.registers_per_unit / (c->block * least) / 8 * 8;
    return (kf_grid){.groups = c->strips * parts,
                     .threads = (int)c->block,
                     .local_bytes = kf_local_vectors(kf_columns_join_bytes(c, &p->problem)),
                     .least_groups = (int)least,
                     .register_cap = least > 1 && cap >= 32 && cap < 256 ? (int)cap : 0};
}

static void add_column_sums(kf_plan *p, bool cpu)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const kf_columns c = columns_of(p, cpu);
    const int64_t parts = kf_columns_parts(&c, p, p->config.knob[GROUPS]);
    const kf_ref partials = partials_of(p, parts);
    kf_grid grid = columns_grid(p, &c, parts);
    grid.least_groups = grid.register_cap = 0;
    kf_step *step =
        kf_plan_step(p, "bias_gelu_backward_column_sums", grid, (kf_work){.flops = M * N},
                     USES(READ_PART(kf_tensor_ref(p, GRAD_X), 0, M * N), WRITE(partials), INT(M),
                          INT(N), INT(p->problem.row_stride[GRAD_X])));
    kf_columns_define(step, &p->target, &c);
    kf_step_define(step, "BACK_STEPS", 1);
    p->error.rows_depth = kf_columns_depth(&c, M, parts);
    add_totals(p, partials, parts);
}

/* Columns matter to the first launch only; the slope is flat where all tensors are. */
static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    static const char *const entry[2][3] = {
        {"bias_gelu_backward_sum", "bias_gelu_backward_slope", "bias_gelu_backward_grad_x"},
        {"bias_gelu_backward_sum_cpu", "bias_gelu_backward_slope_cpu",
         "bias_gelu_backward_grad_x_cpu"}};
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const int64_t block = config->knob[BLOCK];
    const kf_gelu_form form = form_of(problem);
    const kf_row_map rows = kf_row_map_make(problem, block, true, cpu),
                     m = kf_row_map_make(problem, block, false, cpu);
    const kf_ref sum = kf_scratch_ref(p, "sum", problem->dtype, m.elements),
                 slope = kf_scratch_ref(p, "slope", problem->dtype, m.elements);
    kf_work work = kf_row_map_work(&m, kf_gelu_slope_flops(form, cpu), KF_GELU_SLOPE_SPECIALS);
    if (cpu)
        work.specials = kf_row_map_wide(&m);
    p->error.intermediate = problem->dtype;
    p->error.exp2 = !cpu;
    kf_row_map_step(p, &rows, entry[cpu][0], kf_row_map_work(&rows, 1, 0),
                    USES(kf_row_map_read(p, &rows, X),
                         READ_PART(kf_tensor_ref(p, BIAS), 0, rows.elements), WRITE(sum),
                         INT(rows.rows), INT(rows.cols), INT(rows.stride[X])));
    kf_gelu_define(kf_row_map_step(p, &m, entry[cpu][1], work,
                                   USES(READ(sum), WRITE(slope), INT(m.rows), INT(m.cols))),
                   form);
    kf_row_map_step(p, &m, entry[cpu][2], kf_row_map_work(&m, 1, 0),
                    USES(kf_row_map_read(p, &m, GRAD_Y), WRITE(kf_tensor_ref(p, GRAD_X)),
                         READ(slope), INT(m.rows), INT(m.cols), INT(m.stride[GRAD_Y]),
                         INT(m.stride[GRAD_X])));
    add_column_sums(p, cpu);
}

/* `biases`: how often the bias is asked for. */
static kf_step *add_fused(kf_plan *p, const char *entry, kf_grid grid, kf_work work, int64_t biases,
                          kf_ref partials)
{
    const kf_problem *problem = &p->problem;
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    kf_step *step = kf_plan_step(
        p, entry, grid, work,
        USES(READ_PART(kf_tensor_ref(p, GRAD_Y), 0, M * N),
             READ_PART(kf_tensor_ref(p, X), 0, M * N),
             READ_PART(kf_tensor_ref(p, BIAS), 0, biases * N), WRITE(kf_tensor_ref(p, GRAD_X)),
             WRITE(partials), INT(M), INT(N), INT(problem->row_stride[GRAD_Y]),
             INT(problem->row_stride[X]), INT(problem->row_stride[GRAD_X])));
    kf_gelu_define(step, form_of(problem));
    return step;
}

/* Beside the slope of each element: its argument, its product, its share of the sum. */
static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const kf_columns c = columns_of(p, false);
    const int64_t parts = kf_columns_parts(&c, p, config->knob[GROUPS]);
    const kf_ref partials = partials_of(p, parts);
    const kf_work work = {.flops = M * N * (3 + kf_gelu_slope_flops(form_of(problem), false)),
                          .specials = M * N * KF_GELU_SLOPE_SPECIALS};
    kf_step *step = add_fused(p, "bias_gelu_backward_fused", columns_grid(p, &c, parts), work,
                              parts * c.teams, partials);
    kf_columns_define(step, target, &c);
    kf_step_knob(step, p, STAGES);
    kf_step_knob(step, p, GROUPS);
    p->error.exp2 = true;
    p->error.rows_depth = kf_columns_depth(&c, M, parts);
    add_totals(p, partials, parts);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const int64_t each = config->knob[ITEM_ROWS], block = config->knob[BLOCK];
    const int64_t parts = kf_ceil_div(M, each);
    const kf_ref partials = partials_of(p, parts);
    const kf_grid grid = {.groups = kf_ceil_div(parts * kf_ceil_div(N, STRETCH), block),
                          .threads = (int)block};
    const kf_work work = {.flops = M * N * (3 + kf_gelu_slope_flops(form_of(problem), true)),
                          .specials = M * (N / 8 + N % 8)};
    kf_step *step = add_fused(p, "bias_gelu_backward_fused_cpu", grid, work, M, partials);
    kf_step_define(step, "BLOCK", block);
    kf_step_define(step, "MAP_ITEM", STRETCH);
    kf_step_knob(step, p, ITEM_ROWS);
    p->error.exp2 = !(target->capabilities & KF_CAP_CPU); /* as the CUDA text takes it */
    p->error.rows_depth = each;
    add_totals(p, partials, parts);
}

/* ---- defaults ----------------------------------------------------------------------------- */

/* A warp's strip is 512 bytes of a row, and as many rows as there are warps share a group: their
 * sums meet on chip, so that few partial sums go through memory. */
static void default_threads(const kf_problem *problem, kf_config *config)
{
    const int64_t strip = kf_at_most(kf_power_of_two_above(kf_row_vectors(problem)), 32);
    kf_config_default(config, THREADS, kf_at_most(strip, config->knob[BLOCK]));
}

static void defaults_unfused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    kf_row_map_defaults_unfused(problem, target, config);
    default_threads(problem, config);
    kf_config_default(config, GROUPS, 8);
}

/* Four groups of 256 threads leave each thread 64 registers; 64 KiB of rows are on their way. */
static void defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    kf_config_default(config, BLOCK,
                      kf_at_most(cpu ? 64 : 256, kf_at_least(target->max_threads, 1)));
    default_threads(problem, config);
    kf_config_default(config, STAGES, cpu ? 1 : 2);
    kf_config_default(config, GROUPS, 4);
}

/* As many rows per item as leave every core some items. */
static void defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t stretches = kf_ceil_div(problem->dim[KF_COLS], STRETCH);
    const int64_t units = kf_at_least(target->units, 1);
    int64_t each = kf_at_most(kf_at_least(problem->dim[KF_ROWS] * stretches / (4 * units), 1), 64);
    each = each == kf_power_of_two_above(each) ? each : kf_power_of_two_above(each) / 2;
    kf_config_default(config, ITEM_ROWS, each);
    kf_config_default(config, BLOCK, 1);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "sum, slope, grad_x, column sums in two: five launches, two matrices in global memory",
     .defaults = defaults_unfused,
     .fits = kf_row_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "a strip of columns per thread, sums over rows in registers, then their totals",
     .defaults = defaults_fused,
     .fits = kf_row_fits_unfused,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "some rows of a stretch of columns per item, eight columns at a time, no barrier",
     .defaults = defaults_cpu,
     .fits = kf_row_fits_cpu,
     .plan = plan_cpu},
};

/* ---- reference ---------------------------------------------------------------------------- */

/* Bounds: ops/common/approx, line by line as the kernels compute; stored intermediates are rounded
 * to their storage. */
static kf_approx gradient(const kf_problem *problem, const kf_error_model *error,
                          const void *const *inputs, int64_t index)
{
    const kf_approx x = kf_approx_exact(kf_row_map_value(problem, inputs, X, index)),
                    bias = kf_approx_exact(kf_row_map_value(problem, inputs, BIAS, index)),
                    dy = kf_approx_exact(kf_row_map_value(problem, inputs, GRAD_Y, index)),
                    sum = kf_approx_stored(kf_approx_add(x, bias), error->intermediate);
    return kf_approx_mul(
        dy, kf_approx_stored(kf_gelu_slope_reference(sum, form_of(problem), error->exp2),
                             error->intermediate));
}

/* `count` columns from `first` on, of all rows. */
static void bias_columns(const kf_problem *problem, const kf_error_model *error,
                         const void *const *inputs, int64_t first, int64_t count, double *value,
                         double *bound)
{
    enum { AT_ONCE = 256 };
    kf_total total[AT_ONCE];
    const int64_t cols = problem->dim[KF_COLS];
    for (int64_t done = 0; done < count; done += AT_ONCE) {
        const int64_t some = kf_at_most(count - done, AT_ONCE);
        for (int64_t i = 0; i < some; i++)
            total[i] = (kf_total){0};
        for (int64_t row = 0; row < problem->dim[KF_ROWS]; row++)
            for (int64_t i = 0; i < some; i++)
                kf_total_add(&total[i], kf_approx_stored(gradient(problem, error, inputs,
                                                                  row * cols + first + done + i),
                                                         error->intermediate));
        for (int64_t i = 0; i < some; i++)
            kf_approx_result(kf_total_of(&total[i], error->rows_depth), problem->dtype,
                             &value[done + i], &bound[done + i]);
    }
}

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    if (output == GRAD_BIAS)
        bias_columns(problem, error, inputs, first, count, value, bound);
    else
        for (int64_t i = 0; i < count; i++)
            kf_approx_result(gradient(problem, error, inputs, first + i), problem->dtype, &value[i],
                             &bound[i]);
    return KF_OK;
}

/* A problem without rows launches nothing, and so nothing would write the zeros of grad_bias. */
static kf_status derive(kf_problem *problem)
{
    const kf_status status = kf_gelu_derive_rows(problem);
    if (status != KF_OK || problem->dim[KF_ROWS] > 0 || problem->dim[KF_COLS] == 0)
        return status;
    return kf_fail(KF_UNSUPPORTED, "%s: without rows grad_bias is 0, and is not written",
                   problem->op->name);
}

const kf_op kf_op_bias_gelu_backward = {
    .name = "bias_gelu_backward",
    .summary = "Gradients of bias and gelu: of x and of the bias",
    .formula = "grad_x = grad_y * gelu'(x + bias), grad_bias = sum over rows of grad_x",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = knobs,
    .knob_count = KNOBS,
    .ways = ways,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = derive,
    .reference = reference,
};
