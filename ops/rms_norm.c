/* y = x rstd (offset + weight), rstd = 1 / sqrt(mean of x^2 + eps), over the axes from `axis` on: N
 * elements of each of M rows. Zhang, Sennrich, "Root mean square layer normalization" (2019).
 * offset = 1 is the form of weights that are stored as their distance from 1. Traffic for elements
 * of s bytes, the N of weight left out:
 *
 *     unfused        3 launches   rstd from squares M N s, times rstd 2 M N s, weight 2 M N s
 *                                                                    5 M N s + 8 M
 *     fused          1 launch     row on chip                        2 M N s
 *                                 wider rows (ONLINE=1): squares, then a second read   3 M N s
 *     fused_cluster  1 launch     one row over CLUSTER groups        2 M N s
 *     fused_split    1 launch     one row over P groups of the whole device   2 M N s + 32 M P
 *     fused_cpu      1 launch     one row per item; it stays in cache after the first of two walks
 *
 * The intermediate of `unfused` is stored in the dtype of x; everything else is f32, also the
 * weight's product. `y` may be x itself. SPDX-License-Identifier: Apache-2.0 */
#include "common/norm.h"

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "what is normalised"},
    {.name = "weight",
     .role = KF_INPUT,
     .optional = true,
     .dims = "cols",
     .help = "scale of each column, less `offset`"},
    {.name = "y", .role = KF_OUTPUT, .alias = "x", .dims = "rows cols", .help = "the norm"},
    {.name = "rstd",
     .role = KF_OUTPUT,
     .optional = true,
     .dims = "rows",
     .dtype = KF_F32,
     .help = "1 / sqrt(mean square + eps) of each row"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "eps",
     .real = true,
     .fallback = 1e-5,
     .help = "added to the mean square, inside the root"},
    {.name = "offset",
     .real = true,
     .fallback = 0,
     .help = "added to the weight: 1 where weights are stored as weight - 1"},
    {.name = "axis",
     .fallback = -1,
     .help = "first of the normalised axes; negative: from the end"},
};

static const kf_norm_entries entries = {
    .fused = "rms_norm_fused",
    .online = "rms_norm_online",
    .cluster = "rms_norm_cluster",
    .split = "rms_norm_split",
    .cpu = "rms_norm_fused_cpu",
    .steps = "rms_norm_unfused",
    .row_rstd = "rms_norm_row_rstd",
    .row_rstd_cpu = "rms_norm_row_rstd_cpu",
    .scale = "rms_norm_scale",
    .scale_cpu = "rms_norm_scale_cpu",
    .affine = "rms_norm_affine",
    .affine_cpu = "rms_norm_affine_cpu",
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
     .help = "rstd, times rstd, weight: three launches",
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

const kf_op kf_op_rms_norm = {
    .name = "rms_norm",
    .summary = "RMS norm over the trailing axes from `axis` on",
    .formula = "y = x / sqrt(mean(x * x) + eps) * (offset + weight) over the axes from `axis` on",
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
