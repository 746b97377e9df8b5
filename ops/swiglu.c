/* y = silu(gate) up, silu(x) = x / (1 + exp(-x)): the gated unit of most transformers (Shazeer,
 * "GLU Variants Improve Transformer", 2020). Traffic for M rows of N elements of s bytes:
 *
 *     unfused     2 launches   silu 2 M N s, times up 3 M N s     5 M N s
 *     fused       1 launch                                        3 M N s
 *     fused_cpu   1 launch     eight columns at a time            3 M N s
 *
 * The intermediate of `unfused` is stored in the dtype of the inputs. `y` may be gate or up: each
 * element is read before it is written, by the same thread. silu(-inf) is NaN, as -inf / inf is.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/approx.h"
#include "common/row_map.h"

enum { GATE, UP, Y };

static const kf_tensor_decl tensors[] = {
    {.name = "gate", .role = KF_INPUT, .dims = "rows cols", .help = "goes through silu"},
    {.name = "up", .role = KF_INPUT, .dims = "rows cols", .help = "is scaled by it"},
    {.name = "y",
     .role = KF_OUTPUT,
     .alias = "gate up",
     .dims = "rows cols",
     .help = "silu(gate) * up"},
};

/* ---- plans -------------------------------------------------------------------------------- */

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, cpu);
    const kf_ref silu = kf_scratch_ref(p, "silu", problem->dtype, map.elements);
    p->error.intermediate = problem->dtype;
    p->error.exp2 = !cpu;
    kf_row_map_step(p, &map, cpu ? "swiglu_silu_cpu" : "swiglu_silu", kf_row_map_work(&map, 2, 2),
                    USES(kf_row_map_read(p, &map, GATE), WRITE(silu), INT(map.rows), INT(map.cols),
                         INT(map.stride[GATE])));
    kf_row_map_step(p, &map, cpu ? "swiglu_mul_cpu" : "swiglu_mul", kf_row_map_work(&map, 1, 0),
                    USES(kf_row_map_read(p, &map, UP), WRITE(kf_tensor_ref(p, Y)), READ(silu),
                         INT(map.rows), INT(map.cols), INT(map.stride[UP]), INT(map.stride[Y])));
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_map *map, kf_work work)
{
    kf_row_map_step(p, map, entry, work,
                    USES(kf_row_map_read(p, map, GATE), kf_row_map_read(p, map, UP),
                         WRITE(kf_tensor_ref(p, Y)), INT(map->rows), INT(map->cols),
                         INT(map->stride[GATE]), INT(map->stride[UP]), INT(map->stride[Y])));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, false);
    (void)target;
    p->error.exp2 = true;
    add_fused(p, "swiglu_fused", &map, kf_row_map_work(&map, 3, 2));
}

/* The exponential is 22 additions and products (kf_exp8). */
static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, true);
    kf_work work = kf_row_map_work(&map, 3 + 22, 0);
    p->error.exp2 = !(target->capabilities & KF_CAP_CPU); /* as the CUDA text takes it */
    work.specials = kf_row_map_wide(&map);
    add_fused(p, "swiglu_fused_cpu", &map, work);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "silu, times up: two launches, one matrix in global memory",
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

/* Bounds: ops/common/approx. With the exponential's argument exact they are 15 u |y| + |gate up|
 * 2^-126 (testing.md 2.4); its rounding, where it is taken as exp2, and the stored intermediate
 * come on top. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const kf_dtype dtype = problem->dtype;
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        const double gate = kf_row_map_value(problem, inputs, GATE, first + i),
                     up = kf_row_map_value(problem, inputs, UP, first + i);
        const kf_approx silu = kf_approx_stored(kf_approx_silu(kf_approx_exact(gate), error->exp2),
                                                error->intermediate);
        kf_approx_result(kf_approx_mul(silu, kf_approx_exact(up)), dtype, &value[i], &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_swiglu = {
    .name = "swiglu",
    .summary = "Gated unit: silu of one matrix times another",
    .formula = "y = silu(gate) * up",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .knobs = kf_row_map_knobs,
    .knob_count = KF_ROW_MAP_KNOBS,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = kf_derive_rows,
    .reference = reference,
};
