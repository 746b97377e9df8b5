/* SPDX-License-Identifier: Apache-2.0 */
#include "columns.h"
#include "../../core/backend.h"

enum { STRIP = 32, MOST_LANES = 32, LOADS = 8, USUAL_BLOCK = 256, CPU_BLOCK = 64 };

kf_columns kf_columns_of(const kf_problem *problem, int64_t block, int64_t threads, int64_t vecs)
{
    const int64_t cols = problem->dim[KF_COLS], width = threads * vecs * kf_vec_elements(problem);
    kf_columns c = {.block = block,
                    .threads = threads,
                    .teams = kf_at_least(block / threads, 1),
                    .vecs = vecs,
                    .strips = kf_ceil_div(cols, width),
                    .aligned = kf_row_aligned(problem)};
    c.whole = c.aligned && cols % width == 0;
    return c;
}

int64_t kf_columns_join_bytes(const kf_columns *c, const kf_problem *problem)
{
    return c->teams > 1 ? c->threads * c->vecs * kf_vec_elements(problem) * 4 : 0;
}

void kf_columns_define(kf_step *step, const kf_target *target, const kf_columns *c)
{
    kf_define_row(step, target, c->block, c->threads, c->aligned);
    kf_step_define(step, "COLUMN_VECS", c->vecs);
    kf_step_define(step, "WHOLE", c->whole);
}

int64_t kf_columns_parts(const kf_columns *c, const kf_plan *plan, int64_t per_unit)
{
    const int64_t groups = kf_at_least(plan->target.units, 1) * per_unit;
    return kf_at_least(
        kf_at_most(groups / c->strips, kf_ceil_div(plan->problem.dim[KF_ROWS], c->teams)), 1);
}

int64_t kf_columns_depth(const kf_columns *c, int64_t rows, int64_t parts)
{
    return kf_ceil_div(rows, parts * c->teams) + c->teams;
}

/* Lanes of a column: each has about LOADS loads, all of them on their way at once. */
static int64_t lanes_of(const kf_target *target, int64_t parts)
{
    if (target->capabilities & KF_CAP_CPU)
        return 1; /* no barrier */
    return kf_at_most(kf_power_of_two_above(kf_ceil_div(parts, LOADS)),
                      kf_at_most(MOST_LANES, kf_at_least(target->max_threads / STRIP, 1)));
}

kf_step *kf_column_totals(kf_plan *plan, const char *entry, const int *outputs, int count,
                          kf_ref partials, int64_t parts)
{
    const int64_t cols = plan->problem.dim[KF_COLS], lanes = lanes_of(&plan->target, parts);
    const int64_t usual = plan->target.capabilities & KF_CAP_CPU ? CPU_BLOCK : USUAL_BLOCK;
    const int64_t block =
        kf_at_most(kf_at_least(lanes * STRIP, usual), kf_at_least(plan->target.max_threads, lanes));
    kf_use use[KF_MAX_USES];
    int present = 0, n = 0;
    for (int i = 0; i < count; i++) {
        present += plan->problem.tensor[outputs[i]].dtype != KF_NONE;
        use[n++] = WRITE_IF(kf_tensor_ref(plan, outputs[i]));
    }
    use[n++] = READ(partials);
    use[n++] = INT(parts);
    use[n++] = INT(cols);
    const kf_grid grid = {.groups = kf_ceil_div(cols, block / lanes) * present,
                          .threads = (int)block,
                          .local_bytes = kf_local_vectors(lanes > 1 ? block * 4 : 0)};
    kf_step *step =
        kf_plan_step(plan, entry, grid, (kf_work){.flops = (parts - 1) * cols * present}, use, n);
    kf_step_define(step, "BLOCK", block);
    kf_step_define(step, "COLUMN_LANES", lanes);
    plan->error.rows_depth += kf_ceil_div(parts, lanes) + kf_log2_above(lanes);
    return step;
}
