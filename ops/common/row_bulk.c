/* SPDX-License-Identifier: Apache-2.0 */
#include "row_bulk.h"
#include "../../core/backend.h"
#include <string.h>

enum {
    BULK_CAPABILITY = 90, /* cp.async.bulk */
    MOST_BYTES = 1 << 20, /* of a copy: the count of bytes that a barrier awaits has 20 bits */
};

/* Matrices that are read, and vectors of columns that all rows share. */
static void count_inputs(const kf_problem *problem, int *matrices, int *vectors)
{
    *matrices = *vectors = 0;
    for (int i = 0; i < problem->op->tensor_count; i++) {
        const kf_tensor_decl *t = &problem->op->tensors[i];
        if (t->role != KF_INPUT || problem->tensor[i].dtype != problem->dtype)
            continue;
        *matrices += strchr(t->dims, ' ') != NULL;
        *vectors += !strcmp(t->dims, "cols");
    }
}

kf_row_bulk kf_row_bulk_of(const kf_problem *problem, const kf_config *config,
                           const kf_target *target)
{
    kf_row_bulk b = {.block = config->knob[KF_ROW_BLOCK], .vectors = kf_row_vectors(problem)};
    count_inputs(problem, &b.inputs, &b.shared);
    const int64_t warps = kf_at_least(b.block / kf_warp_lanes(target), 1);
    b.groups = kf_at_most(kf_ceil_div(problem->dim[KF_ROWS], warps),
                          target->units * config->knob[KF_ROW_LEAST_GROUPS]);
    b.local_bytes = kf_local_vectors((warps * b.inputs + b.shared) * b.vectors * 16 + warps * 8);
    return b;
}

kf_grid kf_row_bulk_grid(const kf_row_bulk *b, const kf_plan *plan)
{
    return (kf_grid){.groups = b->groups,
                     .threads = (int)b->block,
                     .local_bytes = b->local_bytes,
                     .least_groups = (int)plan->config.knob[KF_ROW_LEAST_GROUPS]};
}

void kf_row_bulk_define(kf_step *step, const kf_plan *plan, const kf_row_bulk *b)
{
    kf_define_row(step, &plan->target, b->block, kf_warp_lanes(&plan->target), true);
    kf_step_define(step, "BULK_VECS", b->vectors);
    kf_step_define(step, "BULK_INPUTS", b->inputs);
    kf_step_define(step, "BULK_SHARED", b->shared);
    kf_step_knob(step, plan, KF_ROW_LEAST_GROUPS);
}

/* As many rows under way as local memory holds, in one group: up to 1024 threads. */
void kf_row_bulk_defaults(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    kf_config_default(config, KF_ROW_LEAST_GROUPS, 1);
    if (config->set[KF_ROW_BLOCK])
        return;
    for (int64_t block = 1024; block >= kf_warp_lanes(target); block /= 2) {
        kf_config_default(config, KF_ROW_BLOCK, block);
        if (block <= target->max_threads &&
            kf_row_bulk_of(problem, config, target).local_bytes <= target->local_bytes)
            break;
    }
}

kf_status kf_row_bulk_fits(const kf_problem *problem, const kf_config *config,
                           const kf_target *target)
{
    const kf_row_bulk b = kf_row_bulk_of(problem, config, target);
    if (target->compute_capability < BULK_CAPABILITY || kf_warp_lanes(target) != 32)
        return kf_fail(KF_UNSUPPORTED,
                       "fused_bulk needs bulk copies into local memory: compute capability 9.0");
    if (!kf_row_aligned(problem))
        return kf_fail(KF_UNSUPPORTED,
                       "fused_bulk takes rows that are whole aligned vectors of 16 bytes");
    if (b.block < kf_warp_lanes(target))
        return kf_fail(KF_UNSUPPORTED, "fused_bulk needs a BLOCK of at least a warp");
    if (b.inputs * b.vectors * 16 >= MOST_BYTES)
        return kf_fail(KF_UNSUPPORTED, "fused_bulk takes rows of less than 1 MiB");
    const int64_t each = b.local_bytes * config->knob[KF_ROW_LEAST_GROUPS];
    return target->local_bytes_per_unit && each > target->local_bytes_per_unit
               ? kf_fail(KF_UNSUPPORTED,
                         "LEAST_GROUPS=%lld groups of %lld bytes of local memory do "
                         "not fit on a unit",
                         (long long)config->knob[KF_ROW_LEAST_GROUPS], (long long)b.local_bytes)
               : KF_OK;
}
