/* grad_x = y (grad_y - sum(y grad_y)) over the last axis: the gradient of softmax from its result.
 * Traffic for M rows of N elements of s bytes:
 *
 *     unfused    4 launches   product 3 M N s, row sum M N s + 4 M, subtract 2 M N s + 4 M,
 *                             multiply 3 M N s                          9 M N s + 8 M
 *     fused      1 launch     both rows on chip                         3 M N s
 *                             wider rows (ONLINE=1): read twice         5 M N s
 *     fused_cpu  1 launch     one row per item; both stay in cache after the first of two walks
 *
 * The intermediates of `unfused` are stored in the dtype of y. `grad_x` may be `grad_y` or `y`.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/row_shape.h"
#include "common/softmax_steps.h"
#include "../core/backend.h"
#include <math.h>

enum { GRAD_Y, Y, GRAD_X };
enum { MOST_VECS = 12, MOST_THREADS = 512 }; /* two rows of 96 KiB in a unit's registers */

static const kf_tensor_decl tensors[] = {
    {.name = "grad_y", .role = KF_INPUT, .dims = "rows cols", .help = "gradient of the result"},
    {.name = "y",
     .role = KF_INPUT,
     .probabilities = true,
     .dims = "rows cols",
     .help = "what softmax gave"},
    {.name = "grad_x",
     .role = KF_OUTPUT,
     .alias = "grad_y y",
     .dims = "rows cols",
     .help = "gradient of the scores"},
};

/* ---- plans ---------------------------------------------------------------------------------- */

static kf_step *add_fused(kf_plan *p, const char *entry, kf_grid grid, int64_t passes)
{
    const kf_problem *q = &p->problem;
    const int64_t M = q->dim[KF_ROWS], N = q->dim[KF_COLS];
    return kf_plan_step(p, entry, grid, (kf_work){.flops = 4 * M * N},
                        USES(READ_PART(kf_tensor_ref(p, GRAD_Y), 0, passes * M * N),
                             READ_PART(kf_tensor_ref(p, Y), 0, passes * M * N),
                             WRITE(kf_tensor_ref(p, GRAD_X)), INT(M), INT(N),
                             INT(q->row_stride[GRAD_Y]), INT(q->row_stride[Y]),
                             INT(q->row_stride[GRAD_X])));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const bool online = config->knob[KF_ROW_ONLINE];
    const kf_row_shape s = online ? kf_row_shape_online(problem, config, target)
                                  : kf_row_shape_of(problem, config, target, false);
    kf_row_define(add_fused(p, online ? "softmax_backward_online" : "softmax_backward_fused",
                            kf_row_grid(&s, p), online ? 2 : 1),
                  p, &s);
    kf_row_error(p, s.threads, 0);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    (void)target;
    kf_row_define_strip(
        add_fused(p, "softmax_backward_fused_cpu", kf_row_item_grid(problem, config), 2), p);
    kf_row_error(p, 1, 0);
}

static void add_map(kf_plan *p, const char *entry, const kf_use *uses, int count)
{
    const int64_t elements = p->problem.dim[KF_ROWS] * p->problem.dim[KF_COLS];
    kf_step *step = kf_softmax_step(p, "softmax_backward_unfused", entry, kf_row_unfused(p).map,
                                    (kf_work){.flops = elements}, uses, count);
    kf_step_define(step, "NORM_STEPS", 1);
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const int64_t M = problem->dim[KF_ROWS], N = problem->dim[KF_COLS];
    const bool is_cpu = target->capabilities & KF_CAP_CPU;
    const kf_row_launches l = kf_row_unfused(p);
    const kf_work one = {.flops = M * N};
    const kf_ref product = kf_scratch_ref(p, "product", problem->dtype, M * N),
                 sum = kf_scratch_ref(p, "row_sum", KF_F32, M),
                 shifted = kf_scratch_ref(p, "shifted", problem->dtype, M * N);
    const kf_use g = READ(kf_tensor_ref(p, GRAD_Y)), y = READ(kf_tensor_ref(p, Y));
    const kf_use g_stride = INT(problem->row_stride[GRAD_Y]),
                 y_stride = INT(problem->row_stride[Y]);
    add_map(p, is_cpu ? "softmax_backward_product_cpu" : "softmax_backward_product",
            USES(g, y, WRITE(product), INT(M), INT(N), g_stride, y_stride));
    kf_softmax_step(p, "softmax_unfused", is_cpu ? "softmax_row_sum_cpu" : "softmax_row_sum",
                    l.reduce, one, USES(READ(product), WRITE(sum), INT(M), INT(N)));
    kf_softmax_step(
        p, "softmax_unfused", is_cpu ? "softmax_subtract_cpu" : "softmax_subtract", l.map, one,
        USES(g, READ_PART(sum, M, M * l.per_row), WRITE(shifted), INT(M), INT(N), g_stride));
    add_map(p, is_cpu ? "softmax_backward_multiply_cpu" : "softmax_backward_multiply",
            USES(y, WRITE(kf_tensor_ref(p, GRAD_X)), READ(shifted), INT(M), INT(N), y_stride,
                 INT(problem->row_stride[GRAD_X])));
    kf_row_error(p, is_cpu ? 1 : config->knob[KF_ROW_THREADS], 0);
    p->error.intermediate = problem->dtype;
}

/* ---- the op --------------------------------------------------------------------------------- */

/* Four vectors of each row per thread, up to twelve for the widest. */
static void defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t v = kf_row_vectors(problem), most = kf_at_most(target->max_threads, MOST_THREADS);
    int64_t threads = v <= 32    ? kf_at_most(kf_power_of_two_above(kf_ceil_div(v, 2)), 16)
                      : v <= 128 ? 32
                                 : kf_power_of_two_above(kf_ceil_div(v, 4));
    threads = kf_at_most(threads, most);
    if (config->set[KF_ROW_BLOCK])
        threads = kf_at_most(threads, config->knob[KF_ROW_BLOCK]);
    kf_config_default(config, KF_ROW_THREADS, threads);
    threads = config->knob[KF_ROW_THREADS];
    kf_config_default(config, KF_ROW_BLOCK,
                      kf_at_least(threads, kf_at_most(128, target->max_threads)));
    kf_config_default(config, KF_ROW_LOCAL_VECS, 0);
    kf_config_default(config, KF_ROW_LEAST_GROUPS, 1);
    kf_config_default(config, KF_ROW_ONLINE, kf_ceil_div(v, kf_at_least(threads, 1)) > MOST_VECS);
}

static kf_status fits_fused(const kf_problem *problem, const kf_config *config,
                            const kf_target *target)
{
    const kf_row_shape s = kf_row_shape_of(problem, config, target, false);
    const int64_t file = target->registers_per_unit ? target->registers_per_unit : 65536;
    const int64_t each = kf_at_most(file / (s.block * config->knob[KF_ROW_LEAST_GROUPS]), 168) - 28;
    kf_status status = kf_row_fits_unfused(problem, config, target);
    if (status == KF_OK)
        status = kf_row_fits_warp(config, target);
    if (status != KF_OK || config->knob[KF_ROW_ONLINE])
        return status;
    if (config->knob[KF_ROW_LOCAL_VECS])
        return kf_fail(KF_UNSUPPORTED,
                       "softmax_backward holds its rows in registers: LOCAL_VECS=0");
    return s.vecs <= kf_at_least(each / 8, 1)
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED,
                         "a thread would hold %lld vectors of two rows, and %lld fit: more threads "
                         "per row or ONLINE=1",
                         (long long)s.vecs, (long long)kf_at_least(each / 8, 1));
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "product, row sum, subtract, multiply: four launches",
     .defaults = kf_row_defaults_unfused,
     .fits = kf_row_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, both rows on chip; wider rows are read twice",
     .defaults = defaults_fused,
     .fits = fits_fused,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, one row per item, eight columns at a time, no barrier",
     .defaults = kf_row_defaults_cpu,
     .fits = kf_row_fits_cpu,
     .plan = plan_cpu},
};

typedef struct row_dot {
    double sum, size; /* sum y g, sum |y g| */
    double flush;     /* sum |g|: what denormal y may lose, times the least normal number */
} row_dot;

static row_dot dot_of(const kf_problem *p, const void *const *inputs, int64_t row)
{
    row_dot d = {0};
    for (int64_t j = 0; j < p->dim[KF_COLS]; j++) {
        const double y = kf_load(inputs[Y], p->dtype, row * p->row_stride[Y] + j),
                     g = kf_load(inputs[GRAD_Y], p->dtype, row * p->row_stride[GRAD_Y] + j);
        d.sum += y * g;
        d.size += fabs(y * g);
        d.flush += fabs(g) + fabs(y) + 1;
    }
    return d;
}

/* With d the depth of the sum and u = 2^-24 (testing.md 2.4): |y| u ((d + 2) sum |y g| + 2 |g|)
 * + 2 u |grad_x|; where the product and the difference are stored in 16 bits, u_s of each on top.
 * An operand or a product that is flushed to 0 changes the result by the other factors times
 * 2^-126. */
static void row_reference(const kf_problem *p, const kf_error_model *error,
                          const void *const *inputs, int64_t row, int64_t first, int64_t count,
                          double *value, double *bound)
{
    const row_dot dot = dot_of(p, inputs, row);
    const bool stored = error->intermediate != KF_NONE && error->intermediate != KF_F32;
    const double u = 0x1p-24, us = stored ? kf_dtype_roundoff(error->intermediate) : 0,
                 fs = stored ? kf_dtype_floor(error->intermediate) : 0, least = 0x1p-126;
    const double cols = (double)p->dim[KF_COLS];
    const double dot_error =
        (u * ((double)error->depth + 2) + us) * dot.size + fs * cols + least * dot.flush;
    for (int64_t i = 0; i < count; i++) {
        const int64_t j = first + i;
        const double y = kf_load(inputs[Y], p->dtype, row * p->row_stride[Y] + j),
                     g = kf_load(inputs[GRAD_Y], p->dtype, row * p->row_stride[GRAD_Y] + j);
        const double away = g - dot.sum;
        value[i] = y * away;
        bound[i] = fabs(y) * (dot_error + 2 * u * fabs(g) + us * (fabs(away) + dot_error) + fs) +
                   2 * u * fabs(value[i]) + least * (fabs(away) + fabs(y));
        bound[i] += kf_dtype_roundoff(p->dtype) * fabs(value[i]) + kf_dtype_floor(p->dtype);
        if (!isfinite(value[i]))
            bound[i] = 0;
    }
}

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const int64_t N = problem->dim[KF_COLS];
    (void)output;
    for (int64_t done = 0; done < count;) {
        const int64_t row = (first + done) / N, column = (first + done) % N;
        const int64_t part = kf_at_most(N - column, count - done);
        row_reference(problem, error, inputs, row, column, part, value + done, bound + done);
        done += part;
    }
    return KF_OK;
}

const kf_op kf_op_softmax_backward = {
    .name = "softmax_backward",
    .summary = "Gradient of softmax over the last axis",
    .formula = "grad_x = y * (grad_y - sum(y * grad_y)) over the last axis",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .knobs = kf_row_knobs,
    .knob_count = KF_ROW_CLUSTER, /* the last, of fused_cluster alone */
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_derive_rows,
    .reference = reference,
};
