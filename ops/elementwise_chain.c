/* A chain of `length` operations on one tensor, multiplication and addition in turn:
 *
 *     v = x;  v = v (1 + 1/64);  v = v + 2/8;  v = v (1 + 3/64);  v = v + 4/8;  ...  y = v
 *
 * step k = 1, 2, ... multiplies by 1 + k/64 where k is odd and adds k/8 where it is even: exact
 * floats, another for every step, so no compiler can draw two steps together, and 16 of them let a
 * value grow by less than a factor of 3. The subject of the lesson elementwise_fusion: what every
 * further operation costs when it is a launch, and when it is not. Traffic for n elements of s
 * bytes:
 *
 *     unfused     `length` launches   2 s n each   2 length s n
 *     fused       1 launch                         2 s n
 *     fused_cpu   1 launch            eight elements at a time   2 s n
 *
 * The intermediates of `unfused` are stored in the dtype of x. `y` may be x: every element is read
 * before it is written, by the same thread. SPDX-License-Identifier: Apache-2.0 */
#include "common/approx.h"
#include "common/row_map.h"
#include "../core/backend.h"

enum { X, Y };
enum { LENGTH };
enum { LONGEST = 16 };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "n", .help = "start of the chain"},
    {.name = "y", .role = KF_OUTPUT, .alias = "x", .dims = "n", .help = "its end"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "length", .fallback = 3, .help = "operations of the chain, 1 to 16"},
};

static kf_status derive(kf_problem *problem)
{
    const int64_t length = problem->attribute[LENGTH].i;
    if (length < 1 || length > LONGEST)
        return kf_fail(KF_INVALID, "a chain has a length of 1 to %d operations, not %lld", LONGEST,
                       (long long)length);
    return kf_derive_rows(problem);
}

static bool multiplies(int step)
{
    return step % 2 == 1;
}

/* CHAIN_FACTOR and CHAIN_SUMMAND of the texts. */
static double operand(int step)
{
    return multiplies(step) ? 1 + step / 64.0 : step / 8.0;
}

/* ---- plans -------------------------------------------------------------------------------- */

static void add_one(kf_plan *p, const kf_row_map *map, int step, kf_use from, kf_ref to)
{
    static const char *const entry[2][2] = {
        {"elementwise_chain_add", "elementwise_chain_mul"},
        {"elementwise_chain_add_cpu", "elementwise_chain_mul_cpu"}};
    const bool cpu = p->target.capabilities & KF_CAP_CPU;
    kf_row_map_step(p, map, entry[cpu][multiplies(step)], kf_row_map_work(map, 1, 0),
                    USES(from, WRITE(to), INT(map->rows), INT(map->cols), FLOAT(operand(step))));
}

/* Two matrices take turns: what a step reads is free after it. */
static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const int length = (int)problem->attribute[LENGTH].i;
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, cpu);
    kf_ref turn[2] = {{.index = 0}, {.index = 0}};
    kf_use from = kf_row_map_read(p, &map, X);
    for (int i = 0; i < 2 && i < length - 1; i++)
        turn[i] = kf_scratch_ref(p, i ? "even" : "odd", problem->dtype, map.elements);
    for (int step = 1; step <= length; step++) {
        const kf_ref to = step == length ? kf_tensor_ref(p, Y) : turn[(step - 1) % 2];
        add_one(p, &map, step, from, to);
        from = READ(to);
    }
    p->error.intermediate = problem->dtype;
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_map *map)
{
    const int64_t length = p->problem.attribute[LENGTH].i;
    kf_step *step = kf_row_map_step(p, map, entry, kf_row_map_work(map, length, 0),
                                    USES(kf_row_map_read(p, map, X), WRITE(kf_tensor_ref(p, Y)),
                                         INT(map->rows), INT(map->cols)));
    kf_step_define(step, "LENGTH", length);
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, false);
    (void)target;
    add_fused(p, "elementwise_chain_fused", &map);
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, true);
    (void)target;
    add_fused(p, "elementwise_chain_fused_cpu", &map);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "one launch per operation, every intermediate in global memory",
     .defaults = kf_row_map_defaults_unfused,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, one 16-byte vector per thread",
     .defaults = kf_row_map_defaults,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, a stretch of the tensor per item, eight elements at a time",
     .defaults = kf_row_map_defaults_cpu,
     .plan = plan_cpu},
};

/* ---- reference ---------------------------------------------------------------------------- */

/* u per operation of the size it has reached (testing.md 2.2), and the storage's roundoff where the
 * intermediate was stored: ops/common/approx. Multiplication and addition contracted into one
 * rounding are nearer still. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const int length = (int)problem->attribute[LENGTH].i;
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        kf_approx v = kf_approx_exact(kf_row_map_value(problem, inputs, X, first + i));
        for (int step = 1; step <= length; step++) {
            const kf_approx with = kf_approx_exact(operand(step));
            v = multiplies(step) ? kf_approx_mul(v, with) : kf_approx_add(v, with);
            if (step < length)
                v = kf_approx_stored(v, error->intermediate);
        }
        kf_approx_result(v, problem->dtype, &value[i], &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_elementwise_chain = {
    .name = "elementwise_chain",
    .summary = "Elementwise chain of 1 to 16 operations",
    .formula = "y = ((x * 65/64 + 2/8) * 67/64 + 4/8) ..., length operations",
    .dims = "n",
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
