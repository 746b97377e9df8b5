/* y = residual + dropout(x): x / (1 - p) where an element is kept, 0 where it is dropped. Whether
 * an element is kept follows from the seed and its index in C order alone, whatever the strides:
 * element e takes word e mod 4 of block e / 4 of Philox4x32-10 (Random123; key = seed, counter =
 * block), and is kept when the word's upper 24 bits are at least p 2^24, rounded. So the mask is
 * never stored, a backward pass makes it again, and every device and the host agree on each bit; of
 * y too, because the product and the sum are one rounding (fma). Traffic for M rows of N elements
 * of s bytes:
 *
 *     unfused     2 launches   dropout 2 M N s, add 3 M N s     5 M N s
 *     fused       1 launch                                      3 M N s
 *     fused_cpu   1 launch     32 columns at a time             3 M N s
 *
 * The intermediate of `unfused` is stored in the dtype of x. `y` may be x or residual: each element
 * is read before it is written, by the same thread. A NaN that is dropped is gone.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/approx.h"
#include "common/row_map.h"
#include "../core/backend.h"
#include "../core/random.h"
#include <math.h>

enum { X, RESIDUAL, Y };
enum { P, SEED };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "loses a share p of its elements"},
    {.name = "residual", .role = KF_INPUT, .dims = "rows cols", .help = "is added to the rest"},
    {.name = "y",
     .role = KF_OUTPUT,
     .alias = "x residual",
     .dims = "rows cols",
     .help = "residual + dropout(x)"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "p", .real = true, .fallback = 0.1, .help = "probability to drop an element, 0 to 1"},
    {.name = "seed", .per_run = true, .help = "of the mask: the same seed, the same elements"},
};

static kf_status derive(kf_problem *problem)
{
    const double p = problem->attribute[P].f;
    if (!(p >= 0 && p <= 1))
        return kf_fail(KF_INVALID, "p is a probability, 0 to 1, not %g", p);
    return kf_derive_rows(problem);
}

/* An element is kept when 24 random bits are at least this. */
static int32_t threshold_of(const kf_problem *problem)
{
    return (int32_t)lrint(problem->attribute[P].f * 0x1p24);
}

static float scale_of(const kf_problem *problem)
{
    const double p = problem->attribute[P].f;
    return p < 1 ? (float)(1 / (1 - p)) : 0;
}

/* ---- plans -------------------------------------------------------------------------------- */

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, cpu);
    const kf_ref dropped = kf_scratch_ref(p, "dropped", problem->dtype, map.elements);
    p->error.intermediate = problem->dtype;
    kf_row_map_step(p, &map, cpu ? "dropout_add_dropout_cpu" : "dropout_add_dropout",
                    kf_row_map_work(&map, 1, 0),
                    USES(kf_row_map_read(p, &map, X), WRITE(dropped), INT(map.rows), INT(map.cols),
                         INT(map.stride[X]), INT32(threshold_of(problem)), FLOAT(scale_of(problem)),
                         PER_RUN(SEED)));
    kf_row_map_step(
        p, &map, cpu ? "dropout_add_add_cpu" : "dropout_add_add", kf_row_map_work(&map, 1, 0),
        USES(kf_row_map_read(p, &map, RESIDUAL), WRITE(kf_tensor_ref(p, Y)), READ(dropped),
             INT(map.rows), INT(map.cols), INT(map.stride[RESIDUAL]), INT(map.stride[Y])));
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_map *map)
{
    const kf_problem *problem = &p->problem;
    kf_row_map_step(p, map, entry, kf_row_map_work(map, 2, 0),
                    USES(kf_row_map_read(p, map, X), kf_row_map_read(p, map, RESIDUAL),
                         WRITE(kf_tensor_ref(p, Y)), INT(map->rows), INT(map->cols),
                         INT(map->stride[X]), INT(map->stride[RESIDUAL]), INT(map->stride[Y]),
                         INT32(threshold_of(problem)), FLOAT(scale_of(problem)), PER_RUN(SEED)));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, false);
    (void)target;
    add_fused(p, "dropout_add_fused", &map);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, true);
    (void)target;
    add_fused(p, "dropout_add_fused_cpu", &map);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "dropout, add: two launches, one matrix in global memory",
     .defaults = kf_row_map_defaults_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, one 16-byte vector of each tensor per thread",
     .defaults = kf_row_map_defaults,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, a stretch of a row per item, 32 columns at a time",
     .defaults = kf_row_map_defaults_cpu,
     .plan = plan_cpu},
};

/* ---- reference ---------------------------------------------------------------------------- */

static bool kept(const kf_problem *problem, int64_t element)
{
    uint32_t word[4];
    kf_philox((uint64_t)problem->attribute[SEED].i, (uint64_t)element / 4, 0, word);
    return (int32_t)(word[element % 4] >> 8) >= threshold_of(problem);
}

/* The mask is exact; product and sum u each (one rounding where fused: within), the stored
 * intermediate on top: ops/common/approx. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const kf_approx scale = kf_approx_exact(scale_of(problem));
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        const kf_approx x = kf_approx_exact(kf_row_map_value(problem, inputs, X, first + i)),
                        residual =
                            kf_approx_exact(kf_row_map_value(problem, inputs, RESIDUAL, first + i)),
                        rest =
                            kept(problem, first + i) ? kf_approx_mul(x, scale) : kf_approx_exact(0);
        kf_approx_result(kf_approx_add(residual, kf_approx_stored(rest, error->intermediate)),
                         problem->dtype, &value[i], &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_dropout_add = {
    .name = "dropout_add",
    .summary = "Dropout by a counter-based generator, and a residual",
    .formula = "y = residual + (kept(seed, index) ? x / (1 - p) : 0)",
    .dims = "rows cols",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = kf_row_map_knobs,
    .knob_count = KF_ROW_MAP_KNOBS,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = derive,
    .reference = reference,
};
