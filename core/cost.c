/* What a plan costs, from the very list of uses that is launched. SPDX-License-Identifier:
 * Apache-2.0 */
#include "op.h"

int64_t kf_ref_elements(const kf_plan *plan, kf_ref ref)
{
    if (ref.scratch)
        return plan->scratch[ref.index].count;
    const kf_tensor *t = &plan->problem.tensor[ref.index];
    int64_t count = t->dtype ? 1 : 0;
    for (int i = 0; i < t->rank; i++)
        if (t->stride[i] || !t->size[i]) /* a broadcast axis holds one element */
            count *= t->size[i];
    return count;
}

kf_dtype kf_ref_dtype(const kf_plan *plan, kf_ref ref)
{
    return ref.scratch ? plan->scratch[ref.index].dtype : plan->problem.tensor[ref.index].dtype;
}

const char *kf_ref_name(const kf_plan *plan, kf_ref ref)
{
    return ref.scratch ? plan->scratch[ref.index].name : plan->problem.op->tensors[ref.index].name;
}

static void add_use(const kf_plan *plan, const kf_use *use, kf_cost *cost)
{
    if ((use->kind != KF_USE_READ && use->kind != KF_USE_WRITE) || kf_use_absent(plan, use))
        return;
    const int64_t size = kf_dtype_bytes(kf_ref_dtype(plan, use->ref));
    const int64_t moved = use->moved ? use->moved : kf_ref_elements(plan, use->ref);
    if (use->kind == KF_USE_WRITE) {
        cost->bytes_written += moved * size;
    }
    if (use->kind == KF_USE_READ || use->requested) {
        cost->bytes_read += moved * size;
        cost->bytes_requested += (use->requested ? use->requested : moved) * size;
    }
    cost->exact &= !use->at_most;
}

kf_cost kf_step_cost(const kf_plan *plan, int step)
{
    const kf_step *s = &plan->step[step];
    kf_cost cost = {.launches = 1,
                    .flops = s->work.flops,
                    .specials = s->work.specials,
                    .exact = !s->work.at_most};
    for (int i = 0; i < s->use_count; i++)
        add_use(plan, &s->use[i], &cost);
    return cost;
}

kf_cost kf_plan_cost(const kf_plan *plan)
{
    kf_cost total = {.exact = true,
                     .scratch_bytes = (int64_t)(plan->scratch_bytes + plan->counter_bytes)};
    for (int i = 0; i < plan->step_count; i++) {
        const kf_cost cost = kf_step_cost(plan, i);
        total.launches += cost.launches;
        total.bytes_read += cost.bytes_read;
        total.bytes_written += cost.bytes_written;
        total.bytes_requested += cost.bytes_requested;
        total.flops += cost.flops;
        total.specials += cost.specials;
        total.exact &= cost.exact;
    }
    return total;
}
