/* y = gelu(gate) up, gelu(x) = x Phi(x) by erf or, approximate=tanh, 0.5 x (1 + tanh(sqrt(2 / pi)
 * (x
 * + 0.044715 x^3))): the gated unit of Gemma and of T5 1.1 (Shazeer, "GLU Variants Improve
 * Transformer", 2020). Traffic for M rows of N elements of s bytes:
 *
 *     unfused     2 launches   gelu 2 M N s, times up 3 M N s     5 M N s
 *     fused       1 launch                                        3 M N s
 *     fused_cpu   1 launch     eight columns at a time            3 M N s
 *
 * The intermediate of `unfused` is stored in the dtype of the inputs. `y` may be gate or up: each
 * element is read before it is written, by the same thread. gelu(-inf) is NaN, as -inf 0 is.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/gelu.h"

enum { GATE, UP, Y };
enum { APPROXIMATE };

static const kf_tensor_decl tensors[] = {
    {.name = "gate", .role = KF_INPUT, .dims = "rows cols", .help = "goes through gelu"},
    {.name = "up", .role = KF_INPUT, .dims = "rows cols", .help = "is scaled by it"},
    {.name = "y",
     .role = KF_OUTPUT,
     .alias = "gate up",
     .dims = "rows cols",
     .help = "gelu(gate) * up"},
};

static const kf_attribute_decl attributes[] = {KF_GELU_APPROXIMATE};

/* ---- plans -------------------------------------------------------------------------------- */

static kf_gelu_form form_of(const kf_problem *problem)
{
    return (kf_gelu_form)problem->attribute[APPROXIMATE].i;
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const kf_gelu_form form = form_of(problem);
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, cpu);
    const kf_ref gelu = kf_scratch_ref(p, "gelu", problem->dtype, map.elements);
    p->error.intermediate = problem->dtype;
    p->error.exp2 = !cpu;
    kf_gelu_define(
        kf_row_map_step(p, &map, cpu ? "geglu_gelu_cpu" : "geglu_gelu",
                        cpu ? kf_gelu_work_wide(&map, form, 0) : kf_gelu_work(&map, form, 0),
                        USES(kf_row_map_read(p, &map, GATE), WRITE(gelu), INT(map.rows),
                             INT(map.cols), INT(map.stride[GATE]))),
        form);
    kf_gelu_define(kf_row_map_step(
                       p, &map, cpu ? "geglu_mul_cpu" : "geglu_mul", kf_row_map_work(&map, 1, 0),
                       USES(kf_row_map_read(p, &map, UP), WRITE(kf_tensor_ref(p, Y)), READ(gelu),
                            INT(map.rows), INT(map.cols), INT(map.stride[UP]), INT(map.stride[Y]))),
                   form);
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_map *map, kf_work work)
{
    kf_gelu_define(
        kf_row_map_step(p, map, entry, work,
                        USES(kf_row_map_read(p, map, GATE), kf_row_map_read(p, map, UP),
                             WRITE(kf_tensor_ref(p, Y)), INT(map->rows), INT(map->cols),
                             INT(map->stride[GATE]), INT(map->stride[UP]), INT(map->stride[Y]))),
        form_of(&p->problem));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, false);
    (void)target;
    p->error.exp2 = true;
    add_fused(p, "geglu_fused", &map, kf_gelu_work(&map, form_of(problem), 1));
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, true);
    (void)target;
    add_fused(p, "geglu_fused_cpu", &map, kf_gelu_work_wide(&map, form_of(problem), 1));
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "gelu, times up: two launches, one matrix in global memory",
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

/* Bounds: ops/common/approx; 19 u |gate up| + u |y| for erf (testing.md 2.2), and the stored
 * intermediate on top. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        const double gate = kf_row_map_value(problem, inputs, GATE, first + i),
                     up = kf_row_map_value(problem, inputs, UP, first + i);
        const kf_approx gelu = kf_approx_stored(
            kf_gelu_reference(kf_approx_exact(gate), form_of(problem), error->exp2),
            error->intermediate);
        kf_approx_result(kf_approx_mul(gelu, kf_approx_exact(up)), problem->dtype, &value[i],
                         &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_geglu = {
    .name = "geglu",
    .summary = "Gated unit: gelu of one matrix times another",
    .formula = "y = gelu(gate) * up",
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
