/* An op whose kernels cheat on demand: y = 3 x + 1 by rows. unfused: t = 3 x in scratch of the
 * storage type, then y = t + 1. For the test of the verifier; include after cmocka.h.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_CHEATING_OP_H
#define KF_CHEATING_OP_H
#include <math.h>
#include "../core/op.h"
#include "host_backend.h"

typedef enum defect {
    NONE,
    ONE_BAD, /* the last element of the last row */
    ONE_NAN,
    UNWRITTEN,    /* the last element */
    NOTHING,      /* 22.1, 22.4: what was in the buffer stays */
    STALE,        /* 22.4: right once, then nothing */
    ZERO_INPUT,   /* 22.2: the reference would agree if it read the device's copy */
    CHANGE_INPUT, /* one bit of one element */
    CHANGE_INPUT_GUARD,
    OVERRUN, /* one element behind */
    UNDERRUN,
    PADDING,      /* writes between the rows */
    READ_PADDING, /* result depends on it, hidden by fmax */
    READ_SCRATCH, /* before it is written */
    SCRATCH_OVERRUN,
    CONSTANT,    /* 22.6: the mean everywhere */
    MOSTLY_ZERO, /* inside a loose bound */
    SLOPPY,      /* more than twice the unfused error, inside a loose bound */
    WRONG_ROW    /* of many, never the first or last or near a power of two */
} defect;

static defect planted;
static double slack; /* added to every bound */
static int launches; /* since planted was set */
static kf_dtype dtype_used;

static void line(const char *x, char *y, int64_t cols, double mul, double add)
{
    for (int64_t c = 0; c < cols; c++)
        kf_store(y, dtype_used, c, mul * kf_load(x, dtype_used, c) + add);
}

static void spoil(char *x, char *y, int64_t rows, int64_t cols, int64_t x_stride, int64_t y_stride)
{
    const int64_t last = (rows - 1) * y_stride + cols - 1, bad_row = rows / 2 + 37;
    const int size = kf_dtype_bytes(dtype_used);
    if (planted == ONE_BAD)
        kf_store(y, dtype_used, last, kf_load(y, dtype_used, last) + 0.5);
    if (planted == ONE_NAN)
        kf_store(y, dtype_used, last / 2, NAN);
    if (planted == ZERO_INPUT)
        memset(x, 0, (size_t)(((rows - 1) * x_stride + cols) * size));
    if (planted == CHANGE_INPUT)
        x[((rows - 1) * x_stride + cols) * size - 1] ^= 1;
    if (planted == CHANGE_INPUT_GUARD)
        x[((rows - 1) * x_stride + cols) * size] ^= 1;
    if (planted == OVERRUN)
        kf_store(y, dtype_used, last + 1, 1);
    if (planted == UNDERRUN)
        kf_store(y, dtype_used, -1, 1);
    if (planted == PADDING)
        kf_store(y, dtype_used, cols, 1);
    if (planted == READ_PADDING)
        kf_store(y, dtype_used, 0, fmax(kf_load(y, dtype_used, 0), kf_load(x, dtype_used, cols)));
    for (int64_t i = 0; i <= last; i++) {
        if (planted == CONSTANT)
            kf_store(y, dtype_used, i, 1);
        if (planted == MOSTLY_ZERO && i % 5 < 2)
            kf_store(y, dtype_used, i, 0);
        if (planted == SLOPPY)
            kf_store(y, dtype_used, i,
                     kf_load(y, dtype_used, i) * (1 + 16 * kf_dtype_roundoff(dtype_used)));
    }
    for (int64_t c = 0; planted == WRONG_ROW && c < cols; c++)
        kf_store(y, dtype_used, bad_row * y_stride + c,
                 1e-3 + kf_load(y, dtype_used, bad_row * y_stride + c));
}

/* x, y, rows, cols, x stride, y stride */
static void run_fused(const kf_value *v)
{
    const int size = kf_dtype_bytes(dtype_used);
    const int64_t rows = v[4].as.i64, cols = v[5].as.i64, x_stride = v[6].as.i64,
                  y_stride = v[7].as.i64;
    char *x = host_pointer(v, size), *y = host_pointer(v + 2, size);
    launches++;
    if (planted == NOTHING || (planted == STALE && launches > 1))
        return;
    if (planted == ZERO_INPUT)
        memset(x, 0, (size_t)(((rows - 1) * x_stride + cols) * size));
    for (int64_t r = 0; r < rows; r++)
        line(x + r * x_stride * size, y + r * y_stride * size,
             cols - (planted == UNWRITTEN && r == rows - 1), 3, 1);
    spoil(x, y, rows, cols, x_stride, y_stride);
}

/* x, scratch, rows, cols, x stride */
static void run_scale(const kf_value *v)
{
    const int size = kf_dtype_bytes(dtype_used);
    const int64_t rows = v[4].as.i64, cols = v[5].as.i64, x_stride = v[6].as.i64;
    char *scratch = host_pointer(v + 2, size);
    for (int64_t r = 0; r < rows; r++)
        line(host_pointer(v, size) + r * x_stride * size, scratch + r * cols * size,
             cols - (planted == READ_SCRATCH && r == rows - 1), 3, 0);
    if (planted == SCRATCH_OVERRUN)
        kf_store(scratch, dtype_used, rows * cols, 1);
}

/* scratch, y, rows, cols, y stride */
static void run_shift(const kf_value *v)
{
    const int size = kf_dtype_bytes(dtype_used);
    const int64_t rows = v[4].as.i64, cols = v[5].as.i64, y_stride = v[6].as.i64;
    for (int64_t r = 0; r < rows; r++)
        line(host_pointer(v, size) + r * cols * size,
             host_pointer(v + 2, size) + r * y_stride * size, cols, 1, 1);
}

const host_kernel_entry host_kernels[] = {
    {"fake_fused", run_fused}, {"fake_scale", run_scale}, {"fake_shift", run_shift}, {NULL, NULL}};

static const kf_grid one = {.groups = 1, .threads = 1};

static int64_t row_stride(const kf_problem *p, int tensor)
{
    return p->row_stride[tensor] ? p->row_stride[tensor] : p->dim[1];
}

static void plan_fused(kf_plan *plan, const kf_problem *p, const kf_config *config,
                       const kf_target *target)
{
    (void)config;
    (void)target;
    kf_plan_step(plan, "fake_fused", one, (kf_work){.flops = 1},
                 USES(READ(kf_tensor_ref(plan, 0)), WRITE(kf_tensor_ref(plan, 1)), INT(p->dim[0]),
                      INT(p->dim[1]), INT(row_stride(p, 0)), INT(row_stride(p, 1))));
}

static void plan_unfused(kf_plan *plan, const kf_problem *p, const kf_config *config,
                         const kf_target *target)
{
    (void)config;
    (void)target;
    const kf_ref scratch = kf_scratch_ref(plan, "scaled", p->dtype, p->dim[0] * p->dim[1]);
    plan->error.intermediate = p->dtype;
    kf_plan_step(plan, "fake_scale", one, (kf_work){.flops = 1},
                 USES(READ(kf_tensor_ref(plan, 0)), WRITE(scratch), INT(p->dim[0]), INT(p->dim[1]),
                      INT(row_stride(p, 0))));
    kf_plan_step(plan, "fake_shift", one, (kf_work){.flops = 1},
                 USES(READ(scratch), WRITE(kf_tensor_ref(plan, 1)), INT(p->dim[0]), INT(p->dim[1]),
                      INT(row_stride(p, 1))));
}

static void no_knobs(const kf_problem *p, const kf_target *target, kf_config *config)
{
    (void)p;
    (void)target;
    (void)config;
}

static _Atomic int64_t reference_elements; /* asked for since it was set to 0, by any thread */

static kf_status reference(const kf_problem *p, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    assert_int_equal(output, 1);
    reference_elements += count;
    for (int64_t i = 0; i < count; i++) {
        const double x = kf_load(inputs[0], p->dtype, kf_tensor_offset(&p->tensor[0], first + i));
        const double u = kf_dtype_roundoff(p->dtype),
                     mid = error->intermediate ? u * fabs(3 * x) : 0;
        value[i] = 3 * x + 1;
        bound[i] = slack + mid + 0x1p-24 * (fabs(3 * x) + 1) + u * fabs(value[i]) +
                   kf_dtype_floor(p->dtype);
    }
    return KF_OK;
}

static const kf_tensor_decl tensors[] = {
    {.name = "x", .role = KF_INPUT, .dims = "rows cols", .help = "in"},
    {.name = "y", .role = KF_OUTPUT, .dims = "rows cols", .help = "out"},
    {.name = "more", .role = KF_OUTPUT, .optional = true, .dims = "rows", .help = "absent"}};
static const kf_variant variants[] = {
    {.name = "unfused", .help = "two steps", .defaults = no_knobs, .plan = plan_unfused},
    {.name = "fused", .help = "one step", .defaults = no_knobs, .plan = plan_fused}};
static const kf_op fake = {.name = "fake",
                           .summary = "3 x + 1",
                           .formula = "y = 3 x + 1",
                           .dims = "rows cols",
                           .tensors = tensors,
                           .tensor_count = 3,
                           .variants = variants,
                           .variant_count = 2,
                           .derive = kf_derive_rows,
                           .reference = reference};
#endif
