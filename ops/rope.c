/* Rotary position embedding (Su et al., "RoFormer", 2021): pairs of a head's elements are turned by
 * an angle that depends on the token's position and on the pair:
 *
 *     y_low  = x_low cos - x_high sin
 *     y_high = x_high cos + x_low sin
 *
 * with cos and sin from tables of [places][half]. interleaved=0 pairs element i with half + i
 * (Llama, NeoX), 1 pairs 2 i with 2 i + 1 (GPT-J). Only the first 2 half elements of a head turn,
 * the others are copied. Positions outside of the tables are not followed: their tokens' turned
 * elements are NaN. Traffic for E elements of s bytes of which R turn, T tokens, and at most t = 4
 * half min(places, T) bytes of a table:
 *
 *     unfused     4 launches   (low, high) -> (-high, low) 2 R s, times cos 2 R s + t + 8 T, times
 *                              sin 2 R s + t + 8 T, add 3 R s; a fifth copies what does not turn,
 *                              2 (E - R) s                       9 R s + 2 (E - R) s + 2 t + 16 T
 *     fused       1 launch                                       2 E s + 2 t + 8 T
 *     fused_cpu   1 launch     a head of a token per item        2 E s + 2 t + 8 T
 *
 * The intermediates of `unfused` are stored in the dtype of x. x and y may have strides of tokens
 * and of heads, in either order; `y` may be x: each pair is read before it is written, by the same
 * thread. SPDX-License-Identifier: Apache-2.0 */
#include "common/approx.h"
#include "common/row_map.h"
#include "common/rows.h"
#include "../core/backend.h"
#include <math.h>

enum { X, POSITIONS, COS, SIN, Y };
enum { TOKENS, HEADS, DIM, PLACES, HALF };
enum { INTERLEAVED, ROTARY_DIM };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "tokens heads dim", .help = "queries or keys"},
    {.name = "positions",
     .role = KF_INPUT,
     .dims = "tokens",
     .dtype = KF_I64,
     .help = "row of the tables, per token"},
    {.name = "cos", .role = KF_INPUT, .dims = "places half", .dtype = KF_F32, .help = "of angles"},
    {.name = "sin", .role = KF_INPUT, .dims = "places half", .dtype = KF_F32, .help = "of angles"},
    {.name = "y", .role = KF_OUTPUT, .alias = "x", .dims = "tokens heads dim", .help = "turned"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "interleaved", .help = "0 pairs element i with half + i, 1 pairs 2 i with 2 i + 1"},
    {.name = "rotary_dim", .help = "elements of a head that turn: 2 half, which 0 stands for"},
};

/* ---- derive ------------------------------------------------------------------------------- */

static int64_t head_stride(const kf_problem *problem, int tensor)
{
    const kf_tensor *t = &problem->tensor[tensor];
    return problem->dim[HEADS] > 1 ? t->stride[t->rank - 2] : 0;
}

static kf_status set_dim(kf_problem *problem, int tensor, int dim, int64_t size)
{
    if (problem->dim[dim] >= 0 && problem->dim[dim] != size)
        return kf_fail(KF_INVALID, "the tensors of op 'rope' disagree: '%s' has %lld, not %lld",
                       tensors[tensor].name, (long long)size, (long long)problem->dim[dim]);
    problem->dim[dim] = size;
    return KF_OK;
}

/* Leading axes as one of tokens with a single stride, which is 0 for a single token. */
static bool fold_tokens(const kf_tensor *t, int64_t *count, int64_t *stride)
{
    *count = 1;
    *stride = 0;
    for (int i = t->rank - 3; i >= 0; i--) {
        if (t->size[i] == 1)
            continue;
        if (*count == 1)
            *stride = t->stride[i];
        else if (t->stride[i] != *stride * *count)
            return false;
        *count *= t->size[i];
    }
    return true;
}

/* Heads inside tokens or tokens inside heads, and nothing on top of something else. */
static bool apart(int64_t inner, int64_t inner_stride, int64_t outer, int64_t outer_stride,
                  int64_t dim)
{
    const int64_t reach = (inner - 1) * inner_stride + dim;
    return (inner <= 1 || inner_stride >= dim) && (outer <= 1 || outer_stride >= reach);
}

static kf_status derive_heads(kf_problem *problem, int tensor)
{
    const kf_tensor *t = &problem->tensor[tensor];
    int64_t tokens, stride;
    if (t->rank < 3 || !fold_tokens(t, &tokens, &stride))
        return kf_fail(KF_INVALID,
                       "tensor '%s' of op 'rope' is [tokens, heads, dim]; axes before these must "
                       "fold into the tokens",
                       tensors[tensor].name);
    const int64_t heads = t->size[t->rank - 2], dim = t->size[t->rank - 1];
    kf_status status = set_dim(problem, tensor, TOKENS, tokens);
    if (status == KF_OK)
        status = set_dim(problem, tensor, HEADS, heads);
    if (status == KF_OK)
        status = set_dim(problem, tensor, DIM, dim);
    if (status != KF_OK)
        return status;
    problem->row_stride[tensor] = stride;
    const int64_t between = head_stride(problem, tensor);
    if (dim > 1 && t->stride[t->rank - 1] != 1)
        return kf_fail(KF_INVALID, "the last axis of tensor '%s' has stride %lld; 1 is needed",
                       tensors[tensor].name, (long long)t->stride[t->rank - 1]);
    if (tokens && heads && !apart(heads, between, tokens, stride, dim) &&
        !apart(tokens, stride, heads, between, dim))
        return kf_fail(KF_INVALID, "heads of tensor '%s' overlap: strides %lld and %lld",
                       tensors[tensor].name, (long long)stride, (long long)between);
    return KF_OK;
}

static kf_status derive_contiguous(kf_problem *problem, int tensor, int outer, int inner)
{
    const kf_tensor *t = &problem->tensor[tensor];
    const int rank = inner < 0 ? 1 : 2;
    int64_t expected = 1;
    for (int i = t->rank - 1; t->rank == rank && i >= 0; i--) {
        if (t->size[i] > 1 && t->stride[i] != expected)
            return kf_fail(KF_INVALID, "tensor '%s' of op 'rope' must be contiguous",
                           tensors[tensor].name);
        expected *= t->size[i];
    }
    if (t->rank != rank)
        return kf_fail(KF_INVALID, "tensor '%s' of op 'rope' has rank %d, not %d",
                       tensors[tensor].name, t->rank, rank);
    const kf_status status = set_dim(problem, tensor, outer, t->size[0]);
    return status != KF_OK || inner < 0 ? status : set_dim(problem, tensor, inner, t->size[1]);
}

static kf_status check_attributes(const kf_problem *problem)
{
    const int64_t turning = 2 * problem->dim[HALF], rotary = problem->attribute[ROTARY_DIM].i;
    const int64_t interleaved = problem->attribute[INTERLEAVED].i;
    if (turning > problem->dim[DIM] || problem->dim[DIM] * problem->dim[HEADS] > INT32_MAX)
        return kf_fail(KF_INVALID, "tables of %lld pairs do not fit heads of %lld elements",
                       (long long)problem->dim[HALF], (long long)problem->dim[DIM]);
    if (rotary && rotary != turning)
        return kf_fail(KF_INVALID, "rotary_dim is %lld, and the tables turn %lld elements",
                       (long long)rotary, (long long)turning);
    if (interleaved != 0 && interleaved != 1)
        return kf_fail(KF_INVALID, "interleaved is 0 or 1, not %lld", (long long)interleaved);
    return KF_OK;
}

static kf_status derive(kf_problem *problem)
{
    kf_status status = derive_heads(problem, X);
    if (status == KF_OK)
        status = derive_heads(problem, Y);
    if (status == KF_OK)
        status = derive_contiguous(problem, POSITIONS, TOKENS, -1);
    if (status == KF_OK)
        status = derive_contiguous(problem, COS, PLACES, HALF);
    if (status == KF_OK)
        status = derive_contiguous(problem, SIN, PLACES, HALF);
    return status == KF_OK ? check_attributes(problem) : status;
}

/* ---- plans -------------------------------------------------------------------------------- */

static bool aligned(const kf_problem *problem, int tensor)
{
    const int64_t size = kf_dtype_bytes(problem->dtype);
    return problem->tensor[tensor].alignment >= 16 &&
           problem->row_stride[tensor] * size % 16 == 0 &&
           head_stride(problem, tensor) * size % 16 == 0;
}

/* ROPE_VEC of the texts. */
static int64_t vec_of(const kf_problem *problem)
{
    const int64_t vec = kf_vec_elements(problem), half = problem->dim[HALF];
    const bool whole = half % vec == 0 && (problem->dim[DIM] - 2 * half) % vec == 0;
    return whole && aligned(problem, X) && aligned(problem, Y) &&
                   problem->tensor[COS].alignment >= 16 && problem->tensor[SIN].alignment >= 16
               ? vec
               : 1;
}

/* A launch of `pairs` turning pairs and `others` copied elements per head. */
static kf_step *add_step(kf_plan *p, const char *entry, int64_t pairs, int64_t others,
                         int64_t flops, const kf_use *uses, int count)
{
    const kf_problem *problem = &p->problem;
    const int64_t vec = vec_of(problem), block = p->config.knob[KF_ROW_MAP_BLOCK];
    const int64_t units = problem->dim[HEADS] * ((pairs + others) / vec);
    const int64_t threads = kf_at_most(kf_power_of_two_above(units), block);
    const kf_grid grid = {.groups = kf_ceil_div(problem->dim[TOKENS], block / threads) *
                                    kf_ceil_div(units, threads),
                          .threads = (int)block};
    kf_step *step = kf_plan_step(p, entry, grid, (kf_work){.flops = flops}, uses, count);
    kf_step_define(step, "BLOCK", block);
    kf_step_define(step, "ROPE_THREADS", threads);
    kf_step_define(step, "ROPE_VEC", vec);
    kf_step_define(step, "INTERLEAVED", problem->attribute[INTERLEAVED].i);
    return step;
}

/* Rows of a table: which, and whether any comes twice, only the positions know. */
static kf_use read_table(const kf_plan *p, int table)
{
    const int64_t *dim = p->problem.dim;
    kf_use use =
        READ_PART(kf_tensor_ref(p, table), kf_at_most(dim[TOKENS], dim[PLACES]) * dim[HALF],
                  dim[TOKENS] * dim[HEADS] * dim[HALF]);
    use.at_most = true;
    return use;
}

static kf_use read_positions(const kf_plan *p, int64_t times)
{
    return READ_PART(kf_tensor_ref(p, POSITIONS), 0, times);
}

static void add_copy(kf_plan *p, kf_use tokens, kf_use heads)
{
    const int64_t *dim = p->problem.dim, *stride = p->problem.row_stride;
    const int64_t others = dim[DIM] - 2 * dim[HALF], moved = dim[TOKENS] * dim[HEADS] * others;
    kf_use to = WRITE(kf_tensor_ref(p, Y));
    to.moved = moved;
    if (others)
        add_step(p, "rope_copy", 0, others, 0,
                 USES(READ_PART(kf_tensor_ref(p, X), moved, moved), to, tokens, heads,
                      INT32(dim[DIM]), INT32(dim[HALF]), INT(stride[X]),
                      INT(head_stride(&p->problem, X)), INT(stride[Y]),
                      INT(head_stride(&p->problem, Y))));
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const int64_t *dim = problem->dim, half = dim[HALF];
    const int64_t turning = dim[TOKENS] * dim[HEADS] * 2 * half;
    const kf_use tokens = INT(dim[TOKENS]), heads = INT(dim[HEADS]), pairs = INT32(half),
                 places = INT(dim[PLACES]), x_stride = INT(problem->row_stride[X]),
                 x_heads = INT(head_stride(problem, X)),
                 x = READ_PART(kf_tensor_ref(p, X), turning, turning),
                 positions = read_positions(p, turning / 2 / vec_of(problem));
    const kf_ref turned = kf_scratch_ref(p, "turned", problem->dtype, turning),
                 by_cos = kf_scratch_ref(p, "by_cos", problem->dtype, turning),
                 by_sin = kf_scratch_ref(p, "by_sin", problem->dtype, turning);
    kf_use y = WRITE(kf_tensor_ref(p, Y));
    (void)config, (void)target;
    y.moved = turning;
    p->error.intermediate = problem->dtype;
    add_step(p, "rope_rotate", half, 0, turning / 2,
             USES(x, WRITE(turned), tokens, heads, pairs, x_stride, x_heads));
    add_step(p, "rope_times_cos", half, 0, turning,
             USES(x, positions, read_table(p, COS), WRITE(by_cos), tokens, heads, pairs, places,
                  x_stride, x_heads));
    add_step(p, "rope_times_sin", half, 0, turning,
             USES(positions, read_table(p, SIN), READ(turned), WRITE(by_sin), tokens, heads, pairs,
                  places));
    add_step(p, "rope_add", half, 0, turning,
             USES(y, READ(by_cos), READ(by_sin), tokens, heads, pairs, INT(problem->row_stride[Y]),
                  INT(head_stride(problem, Y))));
    add_copy(p, tokens, heads);
}

#define FUSED_USES(p, times)                                                                       \
    USES(READ(kf_tensor_ref(p, X)), read_positions(p, times), read_table(p, COS),                  \
         read_table(p, SIN), WRITE(kf_tensor_ref(p, Y)), INT((p)->problem.dim[TOKENS]),            \
         INT((p)->problem.dim[HEADS]), INT32((p)->problem.dim[DIM]),                               \
         INT32((p)->problem.dim[HALF]), INT((p)->problem.dim[PLACES]),                             \
         INT((p)->problem.row_stride[X]), INT(head_stride(&(p)->problem, X)),                      \
         INT((p)->problem.row_stride[Y]), INT(head_stride(&(p)->problem, Y)))

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const int64_t *dim = problem->dim, pairs = dim[TOKENS] * dim[HEADS] * dim[HALF];
    (void)config, (void)target;
    add_step(p, "rope_fused", dim[HALF], dim[DIM] - 2 * dim[HALF], 6 * pairs,
             FUSED_USES(p, pairs / vec_of(problem)));
}

static void plan_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const int64_t *dim = problem->dim, block = config->knob[KF_ROW_MAP_BLOCK];
    const int64_t items = dim[TOKENS] * dim[HEADS];
    const kf_grid grid = {.groups = kf_ceil_div(items, block), .threads = (int)block};
    (void)target;
    kf_step *step = kf_plan_step(p, "rope_fused_cpu", grid,
                                 (kf_work){.flops = 6 * items * dim[HALF]}, FUSED_USES(p, items));
    kf_step_define(step, "BLOCK", block);
    kf_step_define(step, "INTERLEAVED", problem->attribute[INTERLEAVED].i);
}

static void defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    (void)problem, (void)target;
    kf_config_default(config, KF_ROW_MAP_BLOCK, 32);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "rotate, times cos, times sin, add: four launches, and a copy of what does not turn",
     .defaults = kf_row_map_defaults,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, 16-byte vectors of pairs where head, strides and bases allow",
     .defaults = kf_row_map_defaults,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, a head of a token per item, eight pairs at a time",
     .defaults = defaults_cpu,
     .plan = plan_cpu},
};

/* ---- reference ---------------------------------------------------------------------------- */

static kf_approx element_of(const kf_problem *problem, const void *const *inputs, int64_t token,
                            int64_t head, int64_t column)
{
    const int64_t at = token * problem->row_stride[X] + head * head_stride(problem, X) + column;
    return kf_approx_exact(kf_load(inputs[X], problem->dtype, at));
}

/* NaN for a position outside of the table. */
static kf_approx factor_of(const kf_problem *problem, const void *const *inputs, int table,
                           int64_t token, int64_t pair)
{
    const int64_t position = ((const int64_t *)inputs[POSITIONS])[token];
    const bool inside = position >= 0 && position < problem->dim[PLACES];
    return kf_approx_exact(
        inside ? kf_load(inputs[table], KF_F32, position * problem->dim[HALF] + pair) : NAN);
}

static kf_approx turned(const kf_problem *problem, kf_dtype stored, const void *const *inputs,
                        int64_t token, int64_t head, int64_t column)
{
    const int64_t half = problem->dim[HALF];
    const bool interleaved = problem->attribute[INTERLEAVED].i;
    if (column >= 2 * half)
        return element_of(problem, inputs, token, head, column);
    const bool low = interleaved ? column % 2 == 0 : column < half;
    const int64_t pair = interleaved ? column / 2 : column % half;
    const int64_t other = interleaved ? (column ^ 1) : low ? column + half : column - half;
    kf_approx sine = factor_of(problem, inputs, SIN, token, pair);
    sine.value = low ? -sine.value : sine.value;
    const kf_approx own = kf_approx_mul(element_of(problem, inputs, token, head, column),
                                        factor_of(problem, inputs, COS, token, pair)),
                    cross = kf_approx_mul(element_of(problem, inputs, token, head, other), sine);
    return kf_approx_add(kf_approx_stored(own, stored), kf_approx_stored(cross, stored));
}

/* u (|x1 cos| + |x2 sin|) for the products, u |y| for the sum (testing.md 2.4); products that were
 * stored are rounded to their storage: ops/common/approx. Copies are exact. */
static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const int64_t dim = problem->dim[DIM], heads = problem->dim[HEADS];
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        const int64_t index = first + i, row = index / dim;
        kf_approx_result(
            turned(problem, error->intermediate, inputs, row / heads, row % heads, index % dim),
            problem->dtype, &value[i], &bound[i]);
    }
    return KF_OK;
}

const kf_op kf_op_rope = {
    .name = "rope",
    .summary = "Rotary position embedding",
    .formula = "y_low = x_low * cos - x_high * sin, y_high = x_high * cos + x_low * sin",
    .dims = "tokens heads dim places half",
    .usual = {{4096, 32, 128, 4096, 64}, {512, 8, 128, 512, 64}},
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
