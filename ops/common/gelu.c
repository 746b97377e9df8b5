/* SPDX-License-Identifier: Apache-2.0 */
#include "gelu.h"
#include "../../core/backend.h"

kf_status kf_gelu_derive_rows(kf_problem *problem)
{
    const int64_t form = problem->attribute[0].i;
    if (form != KF_GELU_ERF && form != KF_GELU_TANH)
        return kf_fail(KF_INVALID, "op '%s' takes approximate = none (0) or tanh (1), not %lld",
                       problem->op->name, (long long)form);
    return kf_derive_rows(problem);
}

kf_work kf_gelu_work(const kf_row_map *map, kf_gelu_form form, int64_t flops)
{
    return kf_row_map_work(map, flops + (form == KF_GELU_TANH ? 6 : 18), 2);
}

kf_work kf_gelu_work_wide(const kf_row_map *map, kf_gelu_form form, int64_t flops)
{
    kf_work work = kf_row_map_work(map, flops + 22 + (form == KF_GELU_TANH ? 7 : 17), 0);
    work.specials = kf_row_map_wide(map);
    return work;
}

void kf_gelu_define(kf_step *step, kf_gelu_form form)
{
    kf_step_define(step, "APPROXIMATE", form);
}

kf_approx kf_gelu_reference(kf_approx x, kf_gelu_form form, bool exp2)
{
    return form == KF_GELU_TANH ? kf_approx_gelu_tanh(x, exp2) : kf_approx_gelu_erf(x);
}

int64_t kf_gelu_slope_flops(kf_gelu_form form, bool wide)
{
    return wide ? 22 + (form == KF_GELU_TANH ? 17 : 22) : form == KF_GELU_TANH ? 17 : 23;
}

kf_approx kf_gelu_slope_reference(kf_approx x, kf_gelu_form form, bool exp2)
{
    return form == KF_GELU_TANH ? kf_approx_gelu_slope_tanh(x, exp2)
                                : kf_approx_gelu_slope_erf(x, exp2);
}
