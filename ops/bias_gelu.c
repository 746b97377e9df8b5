/* y = gelu(x + bias), the bias a vector along the rows; gelu exact by erf or, approximate=tanh, its
 * approximation: the epilogue of a transformer's first linear layer. Traffic for M rows of N
 * elements of s bytes:
 *
 *     unfused     2 launches   add 2 M N s + N s, gelu 2 M N s     4 M N s + N s
 *     fused       1 launch                                         2 M N s + N s
 *     fused_cpu   1 launch     eight columns at a time             2 M N s + N s
 *
 * The bias is asked for once per row and comes from the cache after the first. The intermediate of
 * `unfused` is stored in the dtype of x. `y` may be x: each element is read before it is written,
 * by the same thread. SPDX-License-Identifier: Apache-2.0 */
#include "common/gelu.h"

enum { X, BIAS, Y };
enum { APPROXIMATE };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "what a linear layer gave"},
    {.name = "bias", .role = KF_INPUT, .dims = "cols", .help = "is added to every row"},
    {.name = "y", .role = KF_OUTPUT, .alias = "x", .dims = "rows cols", .help = "gelu(x + bias)"},
};

static const kf_attribute_decl attributes[] = {KF_GELU_APPROXIMATE};

/* ---- plans -------------------------------------------------------------------------------- */

static kf_gelu_form form_of(const kf_problem *problem)
{
    return (kf_gelu_form)problem->attribute[APPROXIMATE].i;
}

static kf_use read_bias(const kf_plan *p, const kf_row_map *map)
{
    return READ_PART(kf_tensor_ref(p, BIAS), 0, map->elements);
}

/* Columns matter to the first launch only: the second is flat where x and y are. */
static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const int64_t block = config->knob[KF_ROW_MAP_BLOCK];
    const kf_gelu_form form = form_of(problem);
    const kf_row_map rows = kf_row_map_make(problem, block, true, cpu),
                     map = kf_row_map_make(problem, block, false, cpu);
    const kf_ref sum = kf_scratch_ref(p, "sum", problem->dtype, map.elements);
    p->error.intermediate = problem->dtype;
    p->error.exp2 = !cpu;
    kf_gelu_define(
        kf_row_map_step(p, &rows, cpu ? "bias_gelu_add_cpu" : "bias_gelu_add",
                        kf_row_map_work(&rows, 1, 0),
                        USES(kf_row_map_read(p, &rows, X), read_bias(p, &rows), WRITE(sum),
                             INT(rows.rows), INT(rows.cols), INT(rows.stride[X]))),
        form);
    kf_gelu_define(
        kf_row_map_step(p, &map, cpu ? "bias_gelu_gelu_cpu" : "bias_gelu_gelu",
                        cpu ? kf_gelu_work_wide(&map, form, 0) : kf_gelu_work(&map, form, 0),
                        USES(WRITE(kf_tensor_ref(p, Y)), READ(sum), INT(map.rows), INT(map.cols),
                             INT(map.stride[Y]))),
        form);
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_map *map, kf_work work)
{
    kf_gelu_define(kf_row_map_step(p, map, entry, work,
                                   USES(kf_row_map_read(p, map, X), read_bias(p, map),
                                        WRITE(kf_tensor_ref(p, Y)), INT(map->rows), INT(map->cols),
                                        INT(map->stride[X]), INT(map->stride[Y]))),
                   form_of(&p->problem));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], true, false);
    (void)target;
    p->error.exp2 = true;
    add_fused(p, "bias_gelu_fused", &map, kf_gelu_work(&map, form_of(problem), 1));
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], true, true);
    (void)target;
    add_fused(p, "bias_gelu_fused_cpu", &map, kf_gelu_work_wide(&map, form_of(problem), 1));
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "add, gelu: two launches, one matrix in global memory",
     .defaults = kf_row_map_defaults_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, one 16-byte vector of each tensor per thread",
     .defaults = kf_row_map_defaults,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, a stretch of a row per item, eight columns at a time",
     .defaults = kf_row_map_defaults_cpu,
     .plan = plan_cpu},
};

/* ---- reference ---------------------------------------------------------------------------- */

/* The sum u |x + bias|, the activation by ops/common/approx, the stored intermediate on top. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        const kf_approx x = kf_approx_exact(kf_row_map_value(problem, inputs, X, first + i)),
                        bias = kf_approx_exact(kf_row_map_value(problem, inputs, BIAS, first + i)),
                        sum = kf_approx_stored(kf_approx_add(x, bias), error->intermediate);
        kf_approx_result(kf_gelu_reference(sum, form_of(problem), error->exp2), problem->dtype,
                         &value[i], &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_bias_gelu = {
    .name = "bias_gelu",
    .summary = "Bias and gelu, the epilogue of a linear layer",
    .formula = "y = gelu(x + bias)",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = kf_row_map_knobs,
    .knob_count = KF_ROW_MAP_KNOBS,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_gelu_derive_rows,
    .reference = reference,
};
