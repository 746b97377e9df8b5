/* The gradients of y = silu(gate) up for a given grad_y, s = sigmoid(gate):
 *
 *     grad_gate = grad_y up s (1 + gate (1 - s))
 *     grad_up   = grad_y gate s
 *
 * Nothing of the forward pass is kept but its inputs. Traffic for M rows of N elements of e bytes:
 *
 *     unfused     4 launches   grad_silu = grad_y up 3 M N e, silu 2 M N e, grad_up = grad_y silu
 *                              3 M N e, grad_gate = grad_silu silu'(gate) 3 M N e    11 M N e
 *     fused       1 launch                                                            5 M N e
 *     fused_cpu   1 launch     eight columns at a time                                5 M N e
 *
 * The intermediates of `unfused` are stored in the dtype of the inputs. grad_gate may be gate or
 * grad_y, grad_up may be up: each element is read before it is written, by the same thread, and no
 * line of the formula needs what an earlier one wrote. SPDX-License-Identifier: Apache-2.0 */
#include "common/approx.h"
#include "common/row_map.h"

enum { GRAD_Y, GATE, UP, GRAD_GATE, GRAD_UP };

static const kf_tensor_decl tensors[] = {
    {.name = "grad_y", .role = KF_INPUT, .dims = "rows cols", .help = "gradient of the output"},
    {.name = "gate", .role = KF_INPUT, .dims = "rows cols", .help = "of the forward pass"},
    {.name = "up", .role = KF_INPUT, .dims = "rows cols", .help = "of the forward pass"},
    {.name = "grad_gate",
     .role = KF_OUTPUT,
     .alias = "grad_y gate",
     .dims = "rows cols",
     .help = "gradient of gate"},
    {.name = "grad_up",
     .role = KF_OUTPUT,
     .alias = "up",
     .dims = "rows cols",
     .help = "gradient of up"},
};

/* ---- plans -------------------------------------------------------------------------------- */

enum { MUL_UP, SILU, MUL_SILU, MUL_SLOPE, LINES };

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    static const char *const entry[2][LINES] = {
        {"swiglu_backward_grad_silu", "swiglu_backward_silu", "swiglu_backward_grad_up",
         "swiglu_backward_grad_gate"},
        {"swiglu_backward_grad_silu_cpu", "swiglu_backward_silu_cpu", "swiglu_backward_grad_up_cpu",
         "swiglu_backward_grad_gate_cpu"}};
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const kf_row_map m = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, cpu);
    const kf_use rows = INT(m.rows), cols = INT(m.cols);
    const kf_ref grad_silu = kf_scratch_ref(p, "grad_silu", problem->dtype, m.elements),
                 silu = kf_scratch_ref(p, "silu", problem->dtype, m.elements);
    p->error.intermediate = problem->dtype;
    p->error.exp2 = !cpu;
    kf_row_map_step(p, &m, entry[cpu][MUL_UP], kf_row_map_work(&m, 1, 0),
                    USES(kf_row_map_read(p, &m, GRAD_Y), kf_row_map_read(p, &m, UP),
                         WRITE(grad_silu), rows, cols, INT(m.stride[GRAD_Y]), INT(m.stride[UP])));
    kf_row_map_step(
        p, &m, entry[cpu][SILU], kf_row_map_work(&m, 2, 2),
        USES(kf_row_map_read(p, &m, GATE), WRITE(silu), rows, cols, INT(m.stride[GATE])));
    kf_row_map_step(p, &m, entry[cpu][MUL_SILU], kf_row_map_work(&m, 1, 0),
                    USES(kf_row_map_read(p, &m, GRAD_Y), WRITE(kf_tensor_ref(p, GRAD_UP)),
                         READ(silu), rows, cols, INT(m.stride[GRAD_Y]), INT(m.stride[GRAD_UP])));
    kf_row_map_step(p, &m, entry[cpu][MUL_SLOPE], kf_row_map_work(&m, 7, 2),
                    USES(kf_row_map_read(p, &m, GATE), WRITE(kf_tensor_ref(p, GRAD_GATE)),
                         READ(grad_silu), rows, cols, INT(m.stride[GATE]),
                         INT(m.stride[GRAD_GATE])));
}

static void add_fused(kf_plan *p, const char *entry, const kf_row_map *m, kf_work work)
{
    kf_row_map_step(p, m, entry, work,
                    USES(kf_row_map_read(p, m, GRAD_Y), kf_row_map_read(p, m, GATE),
                         kf_row_map_read(p, m, UP), WRITE(kf_tensor_ref(p, GRAD_GATE)),
                         WRITE(kf_tensor_ref(p, GRAD_UP)), INT(m->rows), INT(m->cols),
                         INT(m->stride[GRAD_Y]), INT(m->stride[GATE]), INT(m->stride[UP]),
                         INT(m->stride[GRAD_GATE]), INT(m->stride[GRAD_UP])));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, false);
    (void)target;
    p->error.exp2 = true;
    add_fused(p, "swiglu_backward_fused", &map, kf_row_map_work(&map, 10, 2));
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const kf_row_map map = kf_row_map_make(problem, config->knob[KF_ROW_MAP_BLOCK], false, true);
    kf_work work = kf_row_map_work(&map, 10 + 22, 0);     /* 22: kf_exp8 */
    p->error.exp2 = !(target->capabilities & KF_CAP_CPU); /* as the CUDA text takes it */
    work.specials = kf_row_map_wide(&map);
    add_fused(p, "swiglu_backward_fused_cpu", &map, work);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "grad_silu, silu, grad_up, grad_gate: four launches, two matrices in global memory",
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

static kf_approx slope(kf_approx x, kf_approx s)
{
    const kf_approx one = kf_approx_exact(1);
    return kf_approx_mul(s, kf_approx_add(one, kf_approx_mul(x, kf_approx_sub(one, s))));
}

/* Bounds: ops/common/approx, line by line as the kernels compute, the error of sigmoid carried into
 * both of its places; stored intermediates are rounded to their storage. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    for (int64_t i = 0; i < count; i++) {
        const kf_approx dy = kf_approx_exact(kf_row_map_value(problem, inputs, GRAD_Y, first + i)),
                        x = kf_approx_exact(kf_row_map_value(problem, inputs, GATE, first + i)),
                        up = kf_approx_exact(kf_row_map_value(problem, inputs, UP, first + i)),
                        s = kf_approx_sigmoid(x, error->exp2);
        const kf_approx factor = output == GRAD_UP ? kf_approx_mul(x, s) : kf_approx_mul(dy, up);
        const kf_approx stored = kf_approx_stored(factor, error->intermediate);
        const kf_approx result = kf_approx_mul(stored, output == GRAD_UP ? dy : slope(x, s));
        kf_approx_result(result, problem->dtype, &value[i], &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_swiglu_backward = {
    .name = "swiglu_backward",
    .summary = "Gradients of the gated unit with silu",
    .formula = "grad_gate = grad_y * up * s * (1 + gate * (1 - s)), grad_up = grad_y * gate * s, "
               "s = sigmoid(gate)",
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
