/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

int64_t kf_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

int64_t kf_at_least(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t kf_at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t kf_power_of_two_above(int64_t n)
{
    return (int64_t)1 << kf_log2_above(n);
}

int kf_log2_above(int64_t n)
{
    int log = 0;
    while ((int64_t)1 << log < n)
        log++;
    return log;
}

int kf_vec_elements(const kf_problem *problem)
{
    return 16 / kf_dtype_bytes(problem->dtype);
}

int64_t kf_row_vectors(const kf_problem *problem)
{
    return kf_at_least(problem->dim[1] / kf_vec_elements(problem), 1);
}

bool kf_rows_whole(const kf_problem *problem, int tensor)
{
    return problem->dim[1] % kf_vec_elements(problem) == 0 &&
           kf_row_alignment(problem, tensor) >= 16;
}

int64_t kf_row_edges(const kf_problem *problem, int64_t threads, bool aligned)
{
    const int size = kf_dtype_bytes(problem->dtype);
    const int64_t grid = (threads >= 128 ? 128 : 16) / size; /* GRID_ELEMENTS of the texts */
    return aligned ? 0 : kf_ceil_div(grid + 16 / size - 2, threads);
}

int64_t kf_warp_lanes(const kf_target *target)
{
    return target->capabilities & KF_CAP_SHUFFLE ? kf_at_least(target->warp, 1) : 1;
}

int64_t kf_row_slot_bytes(const kf_target *target, int64_t threads, int64_t groups)
{
    const int64_t lanes = kf_warp_lanes(target);
    const int64_t barrier = groups > 1 ? 16 : 0;
    return lanes > 1 ? threads / lanes * groups * 16 + barrier : kf_ceil_div(threads, 4) * 16;
}

int64_t kf_local_vectors(int64_t bytes)
{
    return kf_at_least(kf_ceil_div(bytes, 16) * 16, 16);
}

void kf_define_row(kf_step *step, const kf_target *target, int64_t block, int64_t threads,
                   bool aligned)
{
    kf_step_define(step, "BLOCK", block);
    kf_step_define(step, "THREADS_PER_ROW", threads);
    kf_step_define(step, "ROWS_PER_GROUP", kf_at_least(block / threads, 1));
    kf_step_define(step, "ALIGNED", aligned);
    kf_step_define(step, "KF_ARCH", target->compute_capability);
}
