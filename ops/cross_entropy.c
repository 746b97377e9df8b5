/* Cross entropy of M rows of N logits x and a class index t each, and its gradient:
 *
 *     loss    = lse - (1 - s) x[t] - s mean x + z lse^2,  lse = log sum exp x
 *     dlogits = softmax(x) (1 + 2 z lse) - s / N - (1 - s) [column is t]
 *
 * with s the label smoothing (Szegedy et al. 2016) and z the z-loss (Chowdhery et al. 2022). With
 * reduction=mean the loss is the mean over the rows kept and dlogits its gradient. Traffic for
 * logits of s bytes, without 8 M of indices and 4 M of losses:
 *
 *     unfused    5 launches   row max M N s + 4 M, subtract 2 M N s + 4 M, exp 2 M N s, row sum
 *                             M N s + 4 M, loss M s + 4 M                            6 M N s + 16 M
 *                +1 mean of a row, with smoothing  M N s    +1 dlogits  2 M N s
 *     fused      1 launch     only reads                                             M N s
 *                             with dlogits, row on chip                              2 M N s
 *                             with dlogits, wider rows (ONLINE=1)                    3 M N s
 *     fused_cpu  1 launch     one row per item; it stays in cache after the first of two walks,
 *                             three with dlogits
 *     mean       +1 launch    12 M, and +1 of 8 M in front where dlogits needs the number of rows
 *
 * A row whose index is ignore_index has loss and gradient 0; it is read like any other, so the
 * traffic does not depend on the data. An index out of range gives NaN, and nothing is read by it.
 * NaN or +inf among the logits, or nothing but -inf, is NaN; the class at -inf is a loss of +inf.
 * `dlogits` may be `logits` itself. Milakov and Gimelshein, "Online normalizer calculation for
 * softmax" (2018). SPDX-License-Identifier: Apache-2.0 */
#include "common/cross_entropy.h"
#include "common/row_lse.h"
#include "common/softmax_steps.h"
#include "../core/backend.h"

static const kf_tensor_decl tensors[] = {
    [KF_CE_LOGITS] = {.name = "logits",
                      .role = KF_INPUT,
                      .dims = "rows cols",
                      .help = "a score per class"},
    [KF_CE_TARGET] = {.name = "target",
                      .role = KF_INPUT,
                      .dims = "rows",
                      .dtype = KF_I64,
                      .below = "cols",
                      .help = "index of the right class of each row"},
    [KF_CE_LOSS] = {.name = "loss",
                    .role = KF_OUTPUT,
                    .dims = "rows",
                    .dtype = KF_F32,
                    .scalar = "reduction",
                    .help = "loss of each row; one number with reduction=mean"},
    [KF_CE_DLOGITS] = {.name = "dlogits",
                       .role = KF_OUTPUT,
                       .optional = true,
                       .alias = "logits",
                       .dims = "rows cols",
                       .help = "gradient of the loss"},
};

static const kf_attribute_decl attributes[] = {
    [KF_CE_IGNORE_INDEX] = {.name = "ignore_index",
                            .fallback = -100,
                            .help = "rows with this index have loss and gradient 0"},
    [KF_CE_LABEL_SMOOTHING] = {.name = "label_smoothing",
                               .real = true,
                               .fallback = 0,
                               .help = "share of the target spread over all classes, 0 to 1"},
    [KF_CE_Z_LOSS] = {.name = "z_loss",
                      .real = true,
                      .fallback = 0,
                      .help = "weight of the squared log of the partition function"},
    [KF_CE_REDUCTION] = {.name = "reduction",
                         .fallback = 0,
                         .words = "none mean",
                         .help = "none: a loss per row; mean: over the rows that are not ignored"},
};

/* ---- parts of every plan -------------------------------------------------------------------- */

typedef struct parts {
    kf_cross_entropy op;
    kf_ref loss;    /* of each row: the tensor, or scratch in front of the mean */
    kf_use dlogits; /* written, or absent */
    kf_ref weight;  /* 1 / rows kept, or KF_NO_REF */
    int64_t M, N, x_stride, dx_stride;
} parts;

static void define_loss(kf_step *step, const parts *t)
{
    kf_step_define(step, "GRADIENT", t->op.gradient);
    kf_step_define(step, "SMOOTHING", t->op.smoothing != 0);
    kf_step_define(step, "Z_LOSS", t->op.z_loss != 0);
    kf_step_define(step, "MEAN", t->op.mean);
}

/* The one group of a reduction over rows. */
static kf_grid rows_grid(const kf_plan *p)
{
    const bool is_cpu = p->target.capabilities & KF_CAP_CPU;
    const int64_t threads = is_cpu ? 1 : kf_at_most(p->target.max_threads, 1024);
    const int64_t lanes = kf_warp_lanes(&p->target);
    const int64_t slots = threads > lanes ? threads / lanes : 0;
    return (kf_grid){
        .groups = 1, .threads = (int)threads, .local_bytes = kf_local_vectors(2 * slots * 4)};
}

static void add_over_rows(kf_plan *p, const char *entry, const parts *t, const kf_use *uses,
                          int count)
{
    const kf_grid grid = rows_grid(p);
    kf_step *step =
        kf_plan_step(p, entry, grid, (kf_work){.flops = t->M, .specials = 1}, uses, count);
    kf_define_row(step, &p->target, grid.threads, grid.threads, false);
    kf_step_define(step, "LEAST_GROUPS", 1);
    define_loss(step, t);
    p->error.rows_depth = kf_ceil_div(t->M, grid.threads) + kf_log2_above(grid.threads);
}

/* The scratch of a mean and the launch in front of its gradient. */
static parts begin(kf_plan *p)
{
    const kf_problem *problem = &p->problem;
    parts t = {.op = kf_cross_entropy_of(problem),
               .loss = kf_tensor_ref(p, KF_CE_LOSS),
               .dlogits = WRITE_IF(kf_tensor_ref(p, KF_CE_DLOGITS)),
               .weight = KF_NO_REF,
               .M = problem->dim[KF_ROWS],
               .N = problem->dim[KF_COLS],
               .x_stride = problem->row_stride[KF_CE_LOGITS],
               .dx_stride = problem->row_stride[KF_CE_DLOGITS]};
    if (t.op.mean)
        t.loss = kf_scratch_ref(p, "row_loss", KF_F32, t.M);
    if (t.op.mean && t.op.gradient) {
        t.weight = kf_scratch_ref(p, "weight", KF_F32, 1);
        add_over_rows(p, "cross_entropy_weight", &t,
                      USES(READ(kf_tensor_ref(p, KF_CE_TARGET)), WRITE(t.weight), INT(t.M),
                           INT(t.op.ignore_index)));
    }
    return t;
}

static void end(kf_plan *p, const parts *t)
{
    if (t->op.mean)
        add_over_rows(p, "cross_entropy_mean", t,
                      USES(READ(kf_tensor_ref(p, KF_CE_TARGET)),
                           WRITE(kf_tensor_ref(p, KF_CE_LOSS)), READ(t->loss), INT(t->M),
                           INT(t->op.ignore_index)));
}

/* `requested` reads of the one weight, where there is one. */
static kf_use weight_read(const parts *t, int64_t requested)
{
    return READ_IF(t->weight, requested);
}

/* ---- fused ---------------------------------------------------------------------------------- */

static void plan_loss(kf_plan *p, const parts *t)
{
    const kf_row_shape s = kf_row_shape_read(&p->problem, &p->config, &p->target);
    const kf_row_lse lse = kf_row_lse_of(&p->problem, &s);
    const kf_work work = {.flops = 4 * t->M * t->N,
                          .specials = kf_row_lse_read_specials(p, &s, &lse) +
                                      t->M * (1 + (t->op.smoothing != 0)),
                          .at_most = !lse.exact};
    kf_step *step =
        kf_plan_step(p, "cross_entropy_fused", kf_row_grid(&s, p), work,
                     USES(READ_PART(kf_tensor_ref(p, KF_CE_LOGITS), 0, t->M * t->N + t->M),
                          READ(kf_tensor_ref(p, KF_CE_TARGET)), WRITE(t->loss), INT(t->M),
                          INT(t->N), INT(t->x_stride), INT(t->op.ignore_index),
                          FLOAT(t->op.smoothing), FLOAT(t->op.z_loss)));
    kf_row_define(step, p, &s);
    kf_row_lse_define(step, &lse, t->op.smoothing != 0);
    define_loss(step, t);
    kf_row_error(p, s.threads, lse.trips + 2);
}

/* `threads` read the index and the weight. */
static void add_gradient(kf_plan *p, const parts *t, const char *entry, const kf_row_shape *s,
                         const kf_row_lse *lse, kf_work work)
{
    const int64_t groups = kf_ceil_div(t->M, s->rows);
    kf_step *step =
        kf_plan_step(p, entry, kf_row_grid(s, p), work,
                     USES(READ_PART(kf_tensor_ref(p, KF_CE_LOGITS), 0, (lse ? 2 : 1) * t->M * t->N),
                          READ_PART(kf_tensor_ref(p, KF_CE_TARGET), 0, t->M * s->threads),
                          WRITE(t->loss), t->dlogits, weight_read(t, groups * s->block), INT(t->M),
                          INT(t->N), INT(t->x_stride), INT(t->dx_stride), INT(t->op.ignore_index),
                          FLOAT(t->op.smoothing), FLOAT(t->op.z_loss)));
    kf_row_define(step, p, s);
    kf_row_lse_define(step, lse, t->op.smoothing != 0);
    define_loss(step, t);
}

static void plan_gradient(kf_plan *p, const parts *t)
{
    const bool online = p->config.knob[KF_ROW_ONLINE];
    const kf_row_shape s = online ? kf_row_shape_online(&p->problem, &p->config, &p->target)
                                  : kf_row_shape_of(&p->problem, &p->config, &p->target, false);
    const kf_row_lse lse = kf_row_lse_of(&p->problem, &s);
    const int64_t each = 2 + (t->op.smoothing != 0); /* of a thread: cross_entropy_slope_of */
    kf_work work = {.flops = 8 * t->M * t->N,
                    .specials = t->M * t->N + kf_ceil_div(t->M, s.rows) * s.block * each,
                    .at_most = online && !lse.exact};
    work.specials +=
        online ? kf_row_lse_read_specials(p, &s, &lse) : kf_row_lse_held_specials(p, &s);
    add_gradient(p, t, online ? "cross_entropy_online" : "cross_entropy_gradient", &s,
                 online ? &lse : NULL, work);
    kf_row_error(p, s.threads, online ? lse.trips + 2 : 1);
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const parts t = begin(p);
    (void)problem, (void)config, (void)target;
    if (t.op.gradient)
        plan_gradient(p, &t);
    else
        plan_loss(p, &t);
    p->error.exp2 = true;
    end(p, &t);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const parts t = begin(p);
    const int64_t walks = t.op.gradient ? 3 : 2;
    const kf_work work = {.flops = t.M * t.N * (3 + 22 * (walks - 1)),
                          .specials = t.M * (walks - 1 + (t.op.smoothing != 0))};
    (void)target;
    kf_step *step = kf_plan_step(
        p, "cross_entropy_fused_cpu", kf_row_item_grid(problem, config), work,
        USES(READ_PART(kf_tensor_ref(p, KF_CE_LOGITS), 0, t.M * (walks * t.N + 1)),
             READ(kf_tensor_ref(p, KF_CE_TARGET)), WRITE(t.loss), t.dlogits, weight_read(&t, t.M),
             INT(t.M), INT(t.N), INT(t.x_stride), INT(t.dx_stride), INT(t.op.ignore_index),
             FLOAT(t.op.smoothing), FLOAT(t.op.z_loss)));
    kf_row_define_strip(step, p);
    define_loss(step, &t);
    kf_row_error(p, 1, 0);
    end(p, &t);
}

/* ---- unfused -------------------------------------------------------------------------------- */

static void add_step(kf_plan *p, const parts *t, const char *entry, kf_grid grid, kf_work work,
                     const kf_use *uses, int count)
{
    kf_step *step = kf_softmax_step(p, "cross_entropy_unfused", entry, grid, work, uses, count);
    kf_step_define(step, "NORM_STEPS", 1);
    define_loss(step, t);
}

static void add_loss(kf_plan *p, const parts *t, const kf_softmax_parts *s, kf_ref row_mean)
{
    const int64_t M = t->M;
    const int64_t block = p->config.knob[KF_ROW_BLOCK];
    const kf_use max = READ_IF(t->op.z_loss != 0 ? s->row_max : KF_NO_REF, 0);
    add_step(p, t, "cross_entropy_loss",
             (kf_grid){.groups = kf_ceil_div(M, block), .threads = (int)block},
             (kf_work){.flops = M, .specials = M},
             USES(READ(kf_tensor_ref(p, KF_CE_TARGET)), WRITE(t->loss), max,
                  READ_PART(s->shifted, M, M), READ(s->row_sum), READ_IF(row_mean, 0), INT(M),
                  INT(t->N), INT(t->op.ignore_index), FLOAT(t->op.smoothing), FLOAT(t->op.z_loss)));
}

static void add_dlogits(kf_plan *p, const parts *t, const kf_softmax_parts *s)
{
    const bool is_cpu = p->target.capabilities & KF_CAP_CPU;
    const kf_row_launches l = kf_row_unfused(p);
    const int64_t M = t->M, threads = M * l.per_row;
    const int64_t each = 1 + (t->op.z_loss != 0) + (t->op.smoothing != 0);
    const kf_use max = READ_IF(t->op.z_loss != 0 ? s->row_max : KF_NO_REF, threads);
    add_step(p, t, is_cpu ? "cross_entropy_dlogits_cpu" : "cross_entropy_dlogits", l.map,
             (kf_work){.flops = 2 * M * t->N, .specials = each * threads},
             USES(READ_PART(kf_tensor_ref(p, KF_CE_TARGET), 0, threads), t->dlogits, max,
                  READ(s->exponentials), READ_PART(s->row_sum, M, threads), weight_read(t, threads),
                  INT(M), INT(t->N), INT(t->dx_stride), INT(t->op.ignore_index),
                  FLOAT(t->op.smoothing), FLOAT(t->op.z_loss)));
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const bool is_cpu = target->capabilities & KF_CAP_CPU;
    const parts t = begin(p);
    const kf_softmax_parts s = kf_softmax_steps(p, KF_CE_LOGITS);
    kf_ref row_mean = KF_NO_REF;
    (void)problem, (void)config;
    if (t.op.smoothing != 0) {
        row_mean = kf_scratch_ref(p, "row_mean", KF_F32, t.M);
        add_step(p, &t, is_cpu ? "cross_entropy_row_mean_cpu" : "cross_entropy_row_mean",
                 kf_row_unfused(p).reduce, (kf_work){.flops = t.M * t.N, .specials = t.M},
                 USES(READ(s.shifted), WRITE(row_mean), INT(t.M), INT(t.N)));
    }
    add_loss(p, &t, &s, row_mean);
    if (t.op.gradient)
        add_dlogits(p, &t, &s);
    end(p, &t);
}

/* ---- the op --------------------------------------------------------------------------------- */

static void defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    if (kf_cross_entropy_of(problem).gradient)
        kf_row_defaults_fused(problem, target, config);
    else
        kf_row_defaults_read(problem, target, config);
}

static kf_status fits_fused(const kf_problem *problem, const kf_config *config,
                            const kf_target *target)
{
    if (kf_cross_entropy_of(problem).gradient)
        return kf_row_fits_fused(problem, config, target);
    const kf_status status = kf_row_fits_unfused(problem, config, target);
    return status == KF_OK ? kf_row_fits_warp(config, target) : status;
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "row max, subtract, exp, row sum, loss, dlogits: a launch each",
     .defaults = kf_row_defaults_unfused,
     .fits = kf_row_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch that reads every logit once; with dlogits the row stays on chip, wider "
             "ones are read twice",
     .defaults = defaults_fused,
     .fits = fits_fused,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, one row per item, eight columns at a time, no barrier",
     .defaults = kf_row_defaults_cpu,
     .fits = kf_row_fits_cpu,
     .plan = plan_cpu},
};

const kf_op kf_op_cross_entropy = {
    .name = "cross_entropy",
    .summary = "Cross entropy of logits and class indices, with its gradient",
    .formula = "loss = log sum exp(logits) - logits[target]; dlogits = softmax(logits) - [target]",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = kf_row_knobs,
    .knob_count = KF_ROW_CLUSTER, /* the last, of fused_cluster alone */
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_cross_entropy_derive,
    .reference = kf_cross_entropy_reference,
};
