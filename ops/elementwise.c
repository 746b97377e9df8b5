/* o = exp(x y + z), element by element: the chain of the first lesson. Traffic for n elements of s
 * bytes:
 *
 *     unfused     3 launches   mul 3 s n, add 3 s n, exp 2 s n     8 s n in all
 *     fused       1 launch                                         4 s n
 *     fused_cpu   1 launch     one element per item                4 s n
 *
 * The intermediates of `unfused` are stored in the dtype of the inputs. `o` may be x, y or z
 * itself: every element is read before it is written, by the same thread. SPDX-License-Identifier:
 * Apache-2.0 */
#include "common/stream.h"
#include "../core/backend.h"
#include <math.h>
#include <string.h>

enum { X, Y, Z, O };
enum { BLOCK, VECS };

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "n", .help = "first factor"},
    {.name = "y", .role = KF_INPUT, .dims = "n", .help = "second factor"},
    {.name = "z", .role = KF_INPUT, .dims = "n", .help = "summand"},
    {.name = "o", .role = KF_OUTPUT, .alias = "x y z", .dims = "n", .help = "exp(x y + z)"},
};

static const kf_knob_decl knobs[] = {
    {.name = "BLOCK",
     .variants = "unfused fused fused_cpu",
     .value_count = 4,
     .values = {128, 256, 512, 1024},
     .help = "threads per group"},
    {.name = "VECS",
     .variants = "unfused fused",
     .value_count = 3,
     .values = {1, 2, 4},
     .help = "16-byte vectors per thread and tensor (on CPU devices one element per item)"},
};

/* ---- plans -------------------------------------------------------------------------------- */

static void defaults(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const int most = target->max_threads;
    (void)problem;
    /* a CPU's compiler vectorises across the items of a group: the longer, the better */
    kf_config_default(config, BLOCK, cpu && most >= 1024 ? 1024 : most >= 256 ? 256 : 128);
    kf_config_default(config, VECS, 1);
}

static void add_step(kf_plan *p, const char *entry, kf_work work, const kf_use *uses, int count)
{
    const kf_stream s = kf_stream_make(&p->problem, &p->target, p->problem.dim[0],
                                       p->config.knob[BLOCK], p->config.knob[VECS]);
    kf_stream_define(kf_plan_step(p, entry, s.grid, work, uses, count), &s);
}

static void plan_unfused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                         const kf_target *target)
{
    const int64_t n = problem->dim[0];
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y), z = kf_tensor_ref(p, Z),
                 o = kf_tensor_ref(p, O);
    const kf_ref product = kf_scratch_ref(p, "product", problem->dtype, n);
    const kf_ref sum = kf_scratch_ref(p, "sum", problem->dtype, n);
    (void)config, (void)target;
    p->error.intermediate = problem->dtype;
    add_step(p, "elementwise_mul", (kf_work){.flops = n},
             USES(READ(x), READ(y), WRITE(product), INT(n)));
    add_step(p, "elementwise_add", (kf_work){.flops = n},
             USES(READ(z), READ(product), WRITE(sum), INT(n)));
    add_step(p, "elementwise_exp", (kf_work){.specials = n}, USES(WRITE(o), READ(sum), INT(n)));
}

static void plan_fused(kf_plan *p, const kf_problem *problem, const kf_config *config,
                       const kf_target *target)
{
    const int64_t n = problem->dim[0];
    (void)config, (void)target;
    add_step(p, "elementwise_fused", (kf_work){.flops = 2 * n, .specials = n},
             USES(READ(kf_tensor_ref(p, X)), READ(kf_tensor_ref(p, Y)), READ(kf_tensor_ref(p, Z)),
                  WRITE(kf_tensor_ref(p, O)), INT(n)));
}

static void plan_fused_cpu(kf_plan *p, const kf_problem *problem, const kf_config *config,
                           const kf_target *target)
{
    const int64_t n = problem->dim[0], block = config->knob[BLOCK];
    (void)target;
    kf_step *step =
        kf_plan_step(p, "elementwise_fused_cpu",
                     (kf_grid){.groups = (n + block - 1) / block, .threads = (int)block},
                     (kf_work){.flops = 2 * n, .specials = n},
                     USES(READ(kf_tensor_ref(p, X)), READ(kf_tensor_ref(p, Y)),
                          READ(kf_tensor_ref(p, Z)), WRITE(kf_tensor_ref(p, O)), INT(n)));
    kf_step_knob(step, p, BLOCK);
}

static const kf_variant variants[] = {
    {.name = "unfused",
     .help = "mul, add, exp: three launches, two intermediates in global memory",
     .defaults = defaults,
     .plan = plan_unfused},
    {.name = "fused",
     .help = "one launch, 16-byte vectors where the bases allow",
     .defaults = defaults,
     .plan = plan_fused},
    {.name = "fused_cpu",
     .help = "one launch, one element per item: compilers for CPUs vectorise across items",
     .defaults = defaults,
     .plan = plan_fused_cpu},
};

/* ---- reference ---------------------------------------------------------------------------- */

/* What a computed value may be. Intermediates that overflow their storage are infinite from there
 * on, as they are in the kernels, so ends and not a middle with an error are carried. */
typedef struct range {
    double low, high;
} range;

/* Least magnitude that becomes infinite when rounded: the largest finite value and half an ulp. */
static double overflow_from(kf_dtype dtype)
{
    const double u = kf_dtype_roundoff(dtype);
    return kf_dtype_max(dtype) * ((2 - u) / (2 - 2 * u));
}

/* An end of what is to be rounded -> the end of what it may have become. */
static double rounded_end(double end, kf_dtype dtype, int direction)
{
    if (!isfinite(end) || fabs(end) >= overflow_from(dtype))
        return isnan(end) ? end : copysign(INFINITY, end);
    end += direction * (kf_dtype_roundoff(dtype) * fabs(end) + kf_dtype_floor(dtype));
    return fmax(-kf_dtype_max(dtype), fmin(end, kf_dtype_max(dtype)));
}

static range rounded(range r, kf_dtype dtype)
{
    return (range){.low = rounded_end(r.low, dtype, -1), .high = rounded_end(r.high, dtype, 1)};
}

/* The result of one line of the formula: rounded to f32, then to the storage of the intermediate.
 */
static range line(double low, double high, kf_dtype intermediate)
{
    const range r = rounded((range){.low = low, .high = high}, KF_F32);
    return intermediate == KF_NONE || intermediate == KF_F32 ? r : rounded(r, intermediate);
}

/* exp within 3 ulp. Where the argument is so uncertain that infinity and a finite value are both
 * right, the finite one with an infinite bound. */
static void element(double x, double y, double z, kf_dtype storage, kf_dtype intermediate,
                    double *value, double *bound)
{
    const double exact = exp(x * y + z);
    const range product = line(x * y, x * y, intermediate);
    const range sum = line(product.low + z, product.high + z, intermediate);
    const double low = exp(sum.low) * (1 - 6 * 0x1p-24), high = exp(sum.high) * (1 + 6 * 0x1p-24);
    *bound = 0;
    *value = exact;
    if (isnan(exact))
        return;
    if (isnan(low) || isnan(high) || isinf(low)) { /* overflowed on the way, whatever x y + z is */
        *value = low;
        return;
    }
    *value = exact < low || isinf(exact) ? low : exact > high ? high : exact;
    const double own = fmax(high - *value, *value - low);
    *bound = own + kf_dtype_roundoff(storage) * *value + kf_dtype_floor(storage);
}

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    const kf_dtype dtype = problem->dtype;
    (void)output;
    for (int64_t j = 0; j < count; j++) {
        const int64_t i = first + j;
        element(kf_load(inputs[X], dtype, i), kf_load(inputs[Y], dtype, i),
                kf_load(inputs[Z], dtype, i), dtype, error->intermediate, &value[j], &bound[j]);
    }
    return KF_OK;
}

/* Elements of the same place meet: the shapes must be the same, not only the counts. */
static kf_status derive(kf_problem *problem)
{
    const kf_tensor *x = &problem->tensor[X];
    for (int i = Y; i <= O; i++) {
        const kf_tensor *t = &problem->tensor[i];
        if (t->rank != x->rank || memcmp(t->size, x->size, (size_t)x->rank * sizeof *x->size))
            return kf_fail(KF_INVALID, "the shapes of '%s' and '%s' of op %s differ",
                           tensors[X].name, tensors[i].name, problem->op->name);
    }
    return kf_derive_rows(problem);
}

const kf_op kf_op_elementwise = {
    .name = "elementwise",
    .summary = "Elementwise chain: multiply, add, exp",
    .formula = "o = exp(x * y + z)",
    .dims = "n",
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .knobs = knobs,
    .knob_count = sizeof knobs / sizeof *knobs,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .derive = derive,
    .reference = reference,
};
