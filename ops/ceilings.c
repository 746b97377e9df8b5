/* Measured limits of a device, as an op: what `bench`, `verify` and `explain` do for any op they do
 * for the roofs too. Traffic of each variant for n elements of f32, s = 4 bytes:
 *
 *     read    s n in, s n / CHUNK out     parts[i] = sum of the i-th CHUNK elements of a
 *     write   s n out                     o[i] = 1 + (i mod 2^23) / 2^23
 *     copy    s n in, s n out             o = a
 *     add2    2 s n in, s n out           o = a + b
 *     add3    3 s n in, s n out           o = a + b + c
 *     fma     CHAINS fma per element and iteration; exp the same with exp2: see the kernels
 *     spin    time that passes, for the clock; empty: a launch
 *
 * Every tensor is optional and each variant takes its own, so a copy allocates no third tensor.
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/stream.h"
#include "../core/backend.h"
#include <math.h>

enum { A, B, C, FMA_START, EXP_START, O, SPUN, PARTS };
enum { ITERATIONS };
enum { BLOCK, VECS };
enum {
    CHUNK = 8192, /* elements per partial sum: 32 KiB, and the largest tile of all knobs */
    FMA_CHAINS = 64,
    EXP_CHAINS = 8
};

/* -(1 - 2^-10): exact in f32; errors shrink by it, and its odd and even powers differ in sign. */
#define FACTOR (-0.9990234375)

static const kf_tensor_decl tensors[] = {
    {.name = "a", .role = KF_INPUT, .optional = true, .dims = "n", .help = "streamed in"},
    {.name = "b", .role = KF_INPUT, .optional = true, .dims = "n", .help = "streamed in"},
    {.name = "c", .role = KF_INPUT, .optional = true, .dims = "n", .help = "streamed in"},
    {.name = "fma_start", .role = KF_INPUT, .optional = true, .dims = "n", .help = "of the chains"},
    {.name = "exp_start", .role = KF_INPUT, .optional = true, .dims = "n", .help = "of the chains"},
    {.name = "o", .role = KF_OUTPUT, .optional = true, .dims = "n", .help = "streamed out"},
    {.name = "spun", .role = KF_OUTPUT, .optional = true, .dims = "n", .help = "last numbers"},
    {.name = "parts",
     .role = KF_OUTPUT,
     .optional = true,
     .dims = "n",
     .help = "partial sums, one per 8192 elements of a; a longer tensor is cut to that"},
};

static const kf_attribute_decl attributes[] = {
    {.name = "iterations", .fallback = 16, .help = "steps of every chain (fma, exp, spin)"},
};

static const kf_knob_decl knobs[] = {
    {.name = "BLOCK",
     .variants = "copy read write add2 add3 fma exp spin empty",
     .value_count = 3,
     .values = {128, 256, 512},
     .help = "threads per group"},
    {.name = "VECS",
     .variants = "copy read write add2 add3",
     .value_count = 3,
     .values = {1, 2, 4},
     .help = "16-byte vectors per thread and tensor (on CPU devices one element per item)"},
};

/* ---- problem ------------------------------------------------------------------------------ */

/* `parts` follows from n: the derive of rows must not take its size for n. A tensor made from the
 * dims has n elements, of which the first are used. */
static kf_status derive_parts(kf_problem *problem, kf_tensor *parts)
{
    const int64_t count = (problem->dim[0] + CHUNK - 1) / CHUNK, given = kf_tensor_elements(parts);
    const int32_t alignment = parts->alignment;
    if (!problem->tensor[A].dtype || parts->rank != 1 || parts->stride[0] != 1 || given < count)
        return kf_fail(KF_INVALID,
                       "op ceilings: 'parts' needs 'a' and one contiguous axis of at least %lld "
                       "elements, one for every %d of 'a'",
                       (long long)count, CHUNK);
    const kf_status status = kf_tensor_contiguous(parts->dtype, 1, &count, parts);
    parts->alignment = alignment;
    return status;
}

static kf_status derive(kf_problem *problem)
{
    kf_tensor parts = problem->tensor[PARTS];
    if (problem->dtype && problem->dtype != KF_F32)
        return kf_fail(KF_INVALID, "op ceilings: bytes are bytes, roofs are measured in f32 only");
    problem->dtype = KF_F32;
    problem->tensor[PARTS].dtype = KF_NONE;
    kf_status status = kf_derive_rows(problem);
    if (problem->dim[0] < 0)
        problem->dim[0] = 1; /* no tensors at all: the empty launch */
    if (status == KF_OK && parts.dtype)
        status = derive_parts(problem, &parts);
    problem->tensor[PARTS] = parts;
    return status;
}

/* ---- plans -------------------------------------------------------------------------------- */

static bool on_cpu(const kf_target *target)
{
    return target->capabilities & KF_CAP_CPU;
}

static void defaults(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    (void)problem;
    kf_config_default(config, BLOCK, on_cpu(target) ? 512 : 256);
    kf_config_default(config, VECS, 1);
}

/* write, copy, add2, add3: the inputs that the variant lists, and o. */
static void plan_stream(kf_plan *p, const kf_problem *problem, const kf_config *config,
                        const kf_target *target)
{
    static const char *const entries[] = {"ceilings_write", "ceilings_copy", "ceilings_add2",
                                          "ceilings_add3"};
    const int64_t n = problem->dim[0];
    const kf_stream s = kf_stream_make(problem, target, n, config->knob[BLOCK], config->knob[VECS]);
    kf_use uses[5];
    int inputs = 0;
    for (int t = A; t <= C; t++)
        if (kf_listed(p->variant->tensors, tensors[t].name))
            uses[inputs++] = READ(kf_tensor_ref(p, t));
    uses[inputs] = WRITE(kf_tensor_ref(p, O));
    uses[inputs + 1] = INT(n);
    kf_step *step =
        kf_plan_step(p, entries[inputs], s.grid,
                     (kf_work){.flops = inputs > 1 ? (inputs - 1) * n : 0}, uses, inputs + 2);
    kf_stream_define(step, &s);
}

static void plan_read(kf_plan *p, const kf_problem *problem, const kf_config *config,
                      const kf_target *target)
{
    const int64_t n = problem->dim[0], chunks = (n + CHUNK - 1) / CHUNK;
    const bool cpu = on_cpu(target);
    kf_stream s = kf_stream_make(problem, target, n, config->knob[BLOCK], config->knob[VECS]);
    if (cpu)
        s.grid.threads = 1; /* one item per chunk */
    s.grid.groups = chunks;
    p->error.depth = CHUNK / (cpu ? 32 : s.grid.threads) + s.grid.threads / 32 + 32;
    kf_step *step =
        kf_plan_step(p, cpu ? "ceilings_read_cpu" : "ceilings_read", s.grid, (kf_work){.flops = n},
                     USES(READ(kf_tensor_ref(p, A)), WRITE(kf_tensor_ref(p, PARTS)), INT(n)));
    kf_stream_define(step, &s);
    kf_step_define(step, "CHUNK", CHUNK);
}

static kf_grid thread_grid(const kf_plan *p)
{
    const int64_t block = p->config.knob[BLOCK];
    return (kf_grid){.groups = (p->problem.dim[0] + block - 1) / block, .threads = (int)block};
}

static void plan_fma(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const int64_t n = problem->dim[0], iterations = problem->attribute[ITERATIONS].i;
    (void)config, (void)target;
    kf_step *step = kf_plan_step(p, "ceilings_fma", thread_grid(p),
                                 (kf_work){.flops = n * FMA_CHAINS * (2 * iterations + 1)},
                                 USES(READ(kf_tensor_ref(p, FMA_START)), WRITE(kf_tensor_ref(p, O)),
                                      INT(n), INT(iterations), FLOAT(FACTOR)));
    kf_step_knob(step, p, BLOCK);
    kf_step_define(step, "CHAINS", FMA_CHAINS);
}

static void plan_exp(kf_plan *p, const kf_problem *problem, const kf_config *config,
                     const kf_target *target)
{
    const int64_t n = problem->dim[0], iterations = problem->attribute[ITERATIONS].i;
    (void)config, (void)target;
    kf_step *step = kf_plan_step(p, "ceilings_exp", thread_grid(p),
                                 (kf_work){.flops = n * EXP_CHAINS * (iterations + 2),
                                           .specials = n * EXP_CHAINS * iterations},
                                 USES(READ(kf_tensor_ref(p, EXP_START)), WRITE(kf_tensor_ref(p, O)),
                                      INT(n), INT(iterations)));
    kf_step_knob(step, p, BLOCK);
    kf_step_define(step, "CHAINS", EXP_CHAINS);
}

static void plan_spin(kf_plan *p, const kf_problem *problem, const kf_config *config,
                      const kf_target *target)
{
    (void)config, (void)target;
    kf_step *step = kf_plan_step(p, "ceilings_spin", thread_grid(p), (kf_work){0},
                                 USES(WRITE(kf_tensor_ref(p, SPUN)), INT(problem->dim[0]),
                                      INT(problem->attribute[ITERATIONS].i)));
    kf_step_knob(step, p, BLOCK);
}

static void plan_empty(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    (void)config, (void)target;
    kf_step *step =
        kf_plan_step(p, "ceilings_empty", thread_grid(p), (kf_work){0}, USES(INT(problem->dim[0])));
    kf_step_knob(step, p, BLOCK);
}

static kf_status fits_chain(const kf_problem *problem, const kf_config *config,
                            const kf_target *target)
{
    (void)config, (void)target;
    return problem->attribute[ITERATIONS].i >= 0
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "op ceilings: iterations cannot be negative");
}

/* `copy` first: it is what everything is divided by. */
static const kf_variant variants[] = {
    {.name = "copy",
     .help = "1 in, 1 out",
     .tensors = "a o",
     .defaults = defaults,
     .plan = plan_stream},
    {.name = "read",
     .help = "read only",
     .tensors = "a parts",
     .defaults = defaults,
     .plan = plan_read},
    {.name = "write",
     .help = "write only",
     .tensors = "o",
     .defaults = defaults,
     .plan = plan_stream},
    {.name = "add2",
     .help = "2 in, 1 out",
     .tensors = "a b o",
     .defaults = defaults,
     .plan = plan_stream},
    {.name = "add3",
     .help = "3 in, 1 out",
     .tensors = "a b c o",
     .defaults = defaults,
     .plan = plan_stream},
    {.name = "fma",
     .help = "fused multiply-add, f32",
     .tensors = "fma_start o",
     .defaults = defaults,
     .fits = fits_chain,
     .plan = plan_fma},
    {.name = "exp",
     .help = "exp2, f32",
     .tensors = "exp_start o",
     .defaults = defaults,
     .fits = fits_chain,
     .plan = plan_exp},
    {.name = "spin",
     .help = "time that passes without memory",
     .tensors = "spun",
     .defaults = defaults,
     .fits = fits_chain,
     .plan = plan_spin},
    {.name = "empty",
     .help = "an empty launch",
     .tensors = "",
     .defaults = defaults,
     .plan = plan_empty},
};

static const char *choose(const kf_problem *problem, const kf_target *target)
{
    (void)target;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        bool same = true;
        for (int t = 0; t < problem->op->tensor_count; t++)
            same &= kf_listed(variants[i].tensors, tensors[t].name) ==
                    (problem->tensor[t].dtype != KF_NONE);
        if (same)
            return variants[i].name;
    }
    return "copy";
}

/* ---- reference ---------------------------------------------------------------------------- */

#define U 0x1p-24

static double value_of(const void *const *inputs, int tensor, int64_t i)
{
    return inputs[tensor] ? kf_load(inputs[tensor], KF_F32, i) : 0;
}

/* Up to two additions of what is there; none is exact. */
static double stream_value(const kf_problem *problem, const void *const *inputs, int64_t i,
                           double *bound)
{
    const double a = value_of(inputs, A, i), b = value_of(inputs, B, i), c = value_of(inputs, C, i);
    const int additions = (problem->tensor[B].dtype != KF_NONE) + (problem->tensor[C].dtype != 0);
    *bound = additions ? additions * U * (fabs(a) + fabs(b) + fabs(c)) + 0x1p-126 : 0;
    return problem->tensor[A].dtype ? a + b + c : 1 + (double)(i & 0x7fffff) * 0x1p-23;
}

/* After t steps chain = f^t start + step (1 - f^t) / (1 - f), in size at most |start| + |step|.
 * Each step rounds twice (once where it is fused) and shrinks the errors before it; the sum adds
 * CHAINS times. */
static double fma_value(double step, int64_t iterations, double *bound)
{
    const double power = pow(FACTOR, (double)iterations), size = pow(-FACTOR, (double)iterations);
    const double settled = step * (1 - power) / (1 - FACTOR), steps = (1 - size) / (1 + FACTOR);
    double sum = 0, sizes = 0;
    for (int k = 0; k < FMA_CHAINS; k++) {
        sum += power * (step + k) + settled;
        sizes += fabs(step) + k + fabs(step);
    }
    *bound = sizes * U * (2 * steps + 1 + FMA_CHAINS) + 0x1p-126;
    return sum;
}

/* The slope of s + 2^-s lies between 0 and 1 for s >= 0, so errors add up and never grow: per step
 * one addition and exp2 at 3 ulp. */
static double exp_value(double start, int64_t iterations, double *bound)
{
    double sum = 0, errors = 0;
    for (int k = 0; k < EXP_CHAINS; k++) {
        double s = fabs(start) + 0.125 * k, error = U * s;
        for (int64_t t = 0; t < iterations; t++) {
            const double power = exp2(-s);
            s += power;
            error += U * s + 6 * U * power;
        }
        sum += s;
        errors += error + EXP_CHAINS * U * s;
    }
    *bound = errors + 0x1p-126;
    return sum;
}

/* `steps` of the generator at once: the composition of x -> a x + c with itself, by squaring. */
static double spin_value(uint32_t state, int64_t steps)
{
    uint32_t a = 1664525u, c = 1013904223u;
    for (; steps; steps >>= 1) {
        if (steps & 1)
            state = a * state + c;
        c = (a + 1) * c;
        a *= a;
    }
    return state >> 8;
}

static double part_value(const kf_problem *problem, const kf_error_model *error,
                         const void *const *inputs, int64_t part, double *bound)
{
    const int64_t n = problem->dim[0], begin = part * CHUNK;
    double sum = 0, sizes = 0;
    for (int64_t i = begin; i < n && i < begin + CHUNK; i++) {
        const double x = value_of(inputs, A, i);
        sum += x;
        sizes += fabs(x);
    }
    *bound = (double)error->depth * U * sizes + 0x1p-126;
    return sum;
}

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const int64_t iterations = problem->attribute[ITERATIONS].i;
    for (int64_t j = 0; j < count; j++) {
        const int64_t i = first + j;
        bound[j] = 0;
        if (output == PARTS)
            value[j] = part_value(problem, error, inputs, i, &bound[j]);
        else if (output == SPUN)
            value[j] = spin_value((uint32_t)i, iterations);
        else if (problem->tensor[FMA_START].dtype)
            value[j] = fma_value(value_of(inputs, FMA_START, i), iterations, &bound[j]);
        else if (problem->tensor[EXP_START].dtype)
            value[j] = exp_value(value_of(inputs, EXP_START, i), iterations, &bound[j]);
        else
            value[j] = stream_value(problem, inputs, i, &bound[j]);
    }
    return KF_OK;
}

const kf_op kf_op_ceilings = {
    .name = "ceilings",
    .summary = "Measured limits of a device: bytes by read:write mix, FMA, exp, an empty launch",
    .formula = "o = a (copy), a + b (add2), a + b + c (add3); parts = sums of a (read)",
    .dims = "n",
    .internal = true,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .attributes = attributes,
    .attribute_count = sizeof attributes / sizeof *attributes,
    .knobs = knobs,
    .knob_count = sizeof knobs / sizeof *knobs,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = derive,
    .choose = choose,
    .reference = reference,
};
