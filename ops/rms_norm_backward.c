/* The backward pass of y = x rstd (offset + weight), given rstd = 1 / sqrt(mean of x^2 + eps) of
 * the forward pass. With xhat = x rstd, g = grad_y (offset + weight) and rows of N elements,
 *
 *     grad_x = rstd (g - xhat mean(g xhat))
 *     grad_weight = sum over the M rows of grad_y xhat
 *
 * Traffic for elements of s bytes, weight and statistics left out; P rows of partial sums:
 *
 *     unfused     8 launches   normal = x rstd                      2 M N s
 *                              product = grad_y normal              3 M N s
 *                              grad_weight = column sums, 2 stages    M N s + 8 P N
 *                              scaled = grad_y (offset + weight)    2 M N s
 *                              dot = mean of scaled normal          2 M N s
 *                              grad_x = rstd (scaled - normal dot)  3 M N s
 *                                                                  13 M N s
 *     fused       2 launches   row on chip, sums over rows in registers   3 M N s + 8 P N,
 *                              P = GROUPS_PER_UNIT groups on every unit
 *                 3 launches   wider rows (ONLINE=1): sums over rows, then rows in two
 *                              reads   7 M N s
 *     fused_cpu   2 launches   ROWS_PER_ITEM rows per item, which stay in cache;
 *                              P = M / ROWS_PER_ITEM
 *
 * Without grad_weight fused and fused_cpu take one launch. Sums over rows are made in a fixed
 * order: the same bits from run to run. The intermediates of `unfused` are stored in the dtype of
 * x; all arithmetic is f32, and grad_weight is rounded once. `grad_x` may be grad_y itself.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/norm_backward.h"

static const kf_tensor_decl tensors[] = {
    {.name = "grad_y", .role = KF_INPUT, .dims = "rows cols", .help = "gradient of the norm"},
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "what was normalised"},
    {.name = "weight",
     .role = KF_INPUT,
     .optional = true,
     .dims = "cols",
     .help = "scale of each column, less `offset`"},
    {.name = "rstd",
     .role = KF_INPUT,
     .dims = "rows",
     .dtype = KF_F32,
     .help = "1 / sqrt(mean square + eps) of each row, from the forward pass"},
    {.name = "grad_x",
     .role = KF_OUTPUT,
     .alias = "grad_y",
     .dims = "rows cols",
     .help = "gradient of x"},
    {.name = "grad_weight",
     .role = KF_OUTPUT,
     .optional = true,
     .dims = "cols",
     .help = "gradient of the weight"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "offset",
     .real = true,
     .fallback = 0,
     .help = "added to the weight: 1 where weights are stored as weight - 1"},
    {.name = "axis",
     .fallback = -1,
     .help = "first of the normalised axes; negative: from the end"},
};

static const kf_norm_backward_entries entries = {
    .fused = "rms_norm_backward_fused",
    .online = "rms_norm_backward_online",
    .sums = "rms_norm_backward_weight",
    .columns = "rms_norm_backward_columns",
    .cpu = "rms_norm_backward_fused_cpu",
    .steps = "rms_norm_backward_unfused",
    .normal = "rms_norm_backward_normal",
    .product = "rms_norm_backward_product",
    .column_sums = "rms_norm_backward_column_sums",
    .scaled = "rms_norm_backward_scaled",
    .row_dot = "rms_norm_backward_row_dot",
    .grad_x = "rms_norm_backward_grad_x",
};

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_backward_unfused(p, &entries);
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_backward_fused(p, &entries);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_backward_cpu(p, &entries);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "one launch per line of the formula, column sums in two",
     .defaults = kf_norm_backward_defaults_unfused,
     .fits = kf_row_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "rows on chip, sums over rows in registers; wider rows in two reads",
     .defaults = kf_norm_backward_defaults_fused,
     .fits = kf_norm_backward_fits_fused,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "some rows per item, eight columns at a time, no barrier",
     .defaults = kf_norm_backward_defaults_cpu,
     .fits = kf_row_fits_cpu,
     .plan = plan_cpu},
};

const kf_op kf_op_rms_norm_backward = {
    .name = "rms_norm_backward",
    .summary = "Backward pass of RMS norm: gradients of x and weight",
    .formula = "grad_x = rstd * (g - xhat * mean(g * xhat)), g = grad_y * (offset + weight), "
               "xhat = x * rstd; grad_weight = sum over rows of grad_y * xhat",
    .dims = "rows cols",
    .with = "weight grad_weight",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = kf_norm_backward_knobs,
    .knob_count = KF_BACK_KNOBS,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_norm_backward_derive,
    .reference = kf_norm_backward_reference,
};
