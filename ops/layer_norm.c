/* y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(var + eps), mean and (biased) variance over
 * the axes from `axis` on: N elements of each of M rows. Ba, Kiros, Hinton, "Layer normalization"
 * (2016). Traffic for elements of s bytes, weight and bias of N elements each left out:
 *
 *     unfused        5 launches   mean M N s, subtract 2 M N s, rstd M N s, times rstd 2 M N s,
 *                                 weight and bias 2 M N s            8 M N s + 16 M
 *     fused          1 launch     row on chip                        2 M N s
 *                                 wider rows (ONLINE=1): moments, then a second read   3 M N s
 *     fused_cluster  1 launch     one row over CLUSTER groups        2 M N s
 *     fused_split    1 launch     one row over P groups of the whole device   2 M N s + 32 M P
 *     fused_cpu      1 launch     one row per item; it stays in cache after the first of three
 * walks
 *
 * The variance is the mean of squares about the mean, never E[x^2] - mean^2. The intermediates of
 * `unfused` are stored in the dtype of x; everything else is f32. `y` may be x itself.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/norm.h"

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "what is normalised"},
    {.name = "weight",
     .role = KF_INPUT,
     .optional = true,
     .dims = "cols",
     .help = "scale of each column"},
    {.name = "bias",
     .role = KF_INPUT,
     .optional = true,
     .dims = "cols",
     .help = "added to each column"},
    {.name = "y", .role = KF_OUTPUT, .alias = "x", .dims = "rows cols", .help = "the norm"},
    {.name = "mean",
     .role = KF_OUTPUT,
     .optional = true,
     .dims = "rows",
     .dtype = KF_F32,
     .help = "mean of each row"},
    {.name = "rstd",
     .role = KF_OUTPUT,
     .optional = true,
     .dims = "rows",
     .dtype = KF_F32,
     .help = "1 / sqrt(variance + eps) of each row"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "eps",
     .real = true,
     .fallback = 1e-5,
     .help = "added to the variance, inside the root"},
    {.name = "axis",
     .fallback = -1,
     .help = "first of the normalised axes; negative: from the end"},
};

static const kf_norm_entries entries = {
    .fused = "layer_norm_fused",
    .online = "layer_norm_online",
    .cluster = "layer_norm_cluster",
    .split = "layer_norm_split",
    .cpu = "layer_norm_fused_cpu",
    .steps = "layer_norm_unfused",
    .row_mean = "layer_norm_row_mean",
    .row_mean_cpu = "layer_norm_row_mean_cpu",
    .subtract = "layer_norm_subtract",
    .subtract_cpu = "layer_norm_subtract_cpu",
    .row_rstd = "layer_norm_row_rstd",
    .row_rstd_cpu = "layer_norm_row_rstd_cpu",
    .scale = "layer_norm_scale",
    .scale_cpu = "layer_norm_scale_cpu",
    .affine = "layer_norm_affine",
    .affine_cpu = "layer_norm_affine_cpu",
};

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_unfused(p, &entries);
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_fused(p, &entries);
}

static void plan_cluster(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_cluster(p, &entries);
}

static void plan_split(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_split(p, &entries);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    (void)problem, (void)config, (void)target;
    kf_norm_cpu(p, &entries);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "mean, subtract, rstd, times rstd, weight and bias: five launches",
     .defaults = kf_row_defaults_unfused,
     .fits = kf_row_fits_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, the row on chip; wider rows by running moments and a second read",
     .defaults = kf_norm_defaults_fused,
     .fits = kf_row_fits_fused,
     .plan = plan_fused},
    {.name = "fused_cluster",
     .help = "one launch, one row over 2 to 16 groups that share their local memory",
     .needs = KF_CAP_CLUSTERS,
     .defaults = kf_row_defaults_cluster,
     .fits = kf_row_fits_cluster,
     .plan = plan_cluster},
    {.name = "fused_split",
     .help = "one launch, one row over groups that run at once and meet in global memory",
     .defaults = kf_norm_defaults_split,
     .fits = kf_row_fits_split,
     .plan = plan_split},
    {.name = "fused_cpu",
     .help = "one launch, one row per item, eight columns at a time, no barrier",
     .defaults = kf_row_defaults_cpu,
     .fits = kf_row_fits_cpu,
     .plan = plan_cpu},
};

const kf_op kf_op_layer_norm = {
    .name = "layer_norm",
    .summary = "Layer norm over the trailing axes from `axis` on",
    .formula = "y = (x - mean) / sqrt(var + eps) * weight + bias over the axes from `axis` on",
    .dims = "rows cols",
    .with = "weight",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = kf_row_knobs,
    .knob_count = KF_ROW_KNOBS,
    .ways = kf_row_ways,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_norm_derive,
    .choose = kf_row_choose,
    .reference = kf_norm_reference,
};
