/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

enum { VECTOR = 16 };

/* An offset that breaks the promise is refused by kf_run, so the promise is all that counts. */
static bool all_aligned(const kf_problem *problem)
{
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype && problem->tensor[i].alignment < VECTOR)
            return false;
    return true;
}

kf_stream kf_stream_make(const kf_problem *problem, const kf_target *target, int64_t count,
                         int64_t block, int64_t vecs)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const int size = kf_dtype_bytes(problem->dtype);
    kf_stream s = {.vec_bytes = !cpu && all_aligned(problem) ? VECTOR : size};
    s.accesses = cpu ? 1 : (int)vecs * VECTOR / s.vec_bytes;
    const int64_t tile = block * s.accesses * (s.vec_bytes / size);
    s.grid = (kf_grid){.groups = (count + tile - 1) / tile, .threads = (int)block};
    return s;
}

void kf_stream_define(kf_step *step, const kf_stream *stream)
{
    kf_step_define(step, "BLOCK", stream->grid.threads);
    kf_step_define(step, "VEC_BYTES", stream->vec_bytes);
    kf_step_define(step, "ACCESSES", stream->accesses);
}
