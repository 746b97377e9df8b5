/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax_steps.h"
#include "../../core/backend.h"

kf_step *kf_softmax_step(kf_plan *plan, const char *source, const char *entry, kf_grid grid,
                         kf_work work, const kf_use *uses, int count)
{
    kf_step *step = kf_plan_step(plan, entry, grid, work, uses, count);
    step->source = source;
    kf_row_define_strip(step, plan);
    return step;
}

static kf_softmax_parts declare_parts(kf_plan *p)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const bool is_cpu = p->target.capabilities & KF_CAP_CPU;
    kf_softmax_parts parts;
    parts.row_max = kf_scratch_ref(p, "row_max", KF_F32, M);
    parts.shifted = kf_scratch_ref(p, "shifted", p->problem.dtype, M * N);
    parts.exponentials = kf_scratch_ref(p, "exponentials", p->problem.dtype, M * N);
    parts.row_sum = kf_scratch_ref(p, "row_sum", KF_F32, M);
    kf_row_error(p, is_cpu ? 1 : p->config.knob[KF_ROW_THREADS], 0);
    p->error.intermediate = p->problem.dtype;
    p->error.exp2 = true;
    return parts;
}

kf_softmax_parts kf_softmax_steps(kf_plan *p, int x)
{
    static const char *const gpu[4] = {"softmax_row_max", "softmax_subtract", "softmax_exp",
                                       "softmax_row_sum"};
    static const char *const cpu[4] = {"softmax_row_max_cpu", "softmax_subtract_cpu",
                                       "softmax_exp_cpu", "softmax_row_sum_cpu"};
    const char *const *entry = p->target.capabilities & KF_CAP_CPU ? cpu : gpu;
    const char *const source = "softmax_unfused";
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const kf_softmax_parts t = declare_parts(p);
    const kf_row_launches l = kf_row_unfused(p);
    const kf_use from = READ(kf_tensor_ref(p, x)), stride = INT(p->problem.row_stride[x]);
    const kf_work one = {.flops = M * N};
    kf_softmax_step(p, source, entry[0], l.reduce, one,
                    USES(from, WRITE(t.row_max), INT(M), INT(N), stride));
    kf_softmax_step(p, source, entry[1], l.map, one,
                    USES(from, READ_PART(t.row_max, M, M * l.per_row), WRITE(t.shifted), INT(M),
                         INT(N), stride));
    kf_softmax_step(p, source, entry[2], l.flat, (kf_work){.specials = M * N},
                    USES(READ(t.shifted), WRITE(t.exponentials), INT(M), INT(N)));
    kf_softmax_step(p, source, entry[3], l.reduce, one,
                    USES(READ(t.exponentials), WRITE(t.row_sum), INT(M), INT(N)));
    return t;
}
