/* Rotating sets. Data is N(0, 1), never zeros: a card draws less power on zeros and runs faster.
 * Making hundreds of millions of random numbers takes longer than measuring with them, so of a
 * large tensor the first 16 MiB are fresh and the rest repeats them, and the other sets are the
 * first one rotated; sets that are small together each have a seed of their own.
 * SPDX-License-Identifier: Apache-2.0 */
#include "sets.h"
#include "../core/backend.h"
#include "convert.h"
#include "inputs.h"
#include "memory.h"
#include <stdlib.h>
#include <string.h>

#define FRESH_BYTES ((int64_t)16 << 20)
#define LEAST_BYTES ((int64_t)512 << 20)

enum {
    LEAST_SETS = 3,
    CACHES = 3,
    ROTATION = 4096
}; /* ROTATION: bytes, a multiple of any alignment */

static int64_t tensor_bytes(const kf_tensor *tensor)
{
    int64_t extent = 0;
    if (!tensor->dtype || kf_tensor_extent(tensor, &extent) != KF_OK)
        return 0;
    return extent * kf_dtype_bytes(tensor->dtype);
}

int64_t kf_sets_bytes(const kf_plan *plan)
{
    int64_t bytes = 0;
    for (int i = 0; i < plan->problem.op->tensor_count; i++)
        bytes += tensor_bytes(&plan->problem.tensor[i]);
    return bytes;
}

int kf_sets_count(const kf_target *target, int64_t set_bytes, int64_t room, int most, bool warm,
                  bool *cold)
{
    const int64_t caches = CACHES * target->cache_bytes;
    const int64_t wanted = caches > LEAST_BYTES ? caches : LEAST_BYTES;
    *cold = false;
    if (warm || target->capabilities & KF_CAP_CPU)
        return 1;
    *cold = true;
    if (set_bytes <= 0)
        return 1; /* nothing that could be found anywhere */
    int64_t count = (wanted + set_bytes - 1) / set_bytes;
    count = count < LEAST_SETS ? LEAST_SETS : count;
    count = count > room / set_bytes ? room / set_bytes : count;
    count = count > most ? most : count < 1 ? 1 : count;
    *cold = count * set_bytes >= wanted;
    return (int)count;
}

static bool same_memory(const kf_tensor *a, const kf_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           !memcmp(a->size, b->size, (size_t)a->rank * sizeof *a->size) &&
           !memcmp(a->stride, b->stride, (size_t)a->rank * sizeof *a->stride);
}

bool kf_sets_serve(const kf_sets *sets, const kf_device *device, const kf_plan *plan)
{
    const kf_problem *a = &sets->plan->problem, *b = &plan->problem;
    bool same = sets->device == device && a->op == b->op;
    for (int i = 0; same && i < a->op->tensor_count; i++)
        same = same_memory(&a->tensor[i], &b->tensor[i]);
    return same;
}

/* ---- filling ------------------------------------------------------------------------------ */

/* Random numbers over the tensor's extent from the host into a buffer. */
static kf_status write_fresh(kf_queue *queue, kf_buffer *buffer, size_t base,
                             const kf_problem *problem, int i, uint64_t seed)
{
    const kf_tensor *tensor = &problem->tensor[i];
    const int64_t bytes = tensor_bytes(tensor);
    void *data = kf_memory_take((size_t)bytes);
    if (!data)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld bytes of random input",
                       (long long)bytes);
    if (!kf_tensor_packed(tensor))
        memset(data, 0, (size_t)bytes); /* the padding */
    kf_inputs_fill_tensor(problem, i, data, KF_DIST_NORMAL, seed);
    const kf_status status = kf_buffer_write(queue, buffer, base, data, (size_t)bytes);
    kf_memory_give(data);
    return status;
}

static kf_status fill_first(kf_queue *queue, kf_buffer *buffer, size_t base,
                            const kf_problem *problem, int i, uint64_t seed)
{
    const kf_tensor *tensor = &problem->tensor[i];
    const int64_t bytes = tensor_bytes(tensor), size = kf_dtype_bytes(tensor->dtype);
    kf_problem head = *problem;
    if (bytes <= FRESH_BYTES || !kf_tensor_packed(tensor))
        return write_fresh(queue, buffer, base, problem, i, seed);
    kf_status status =
        kf_tensor_contiguous(tensor->dtype, 1, (int64_t[]){FRESH_BYTES / size}, &head.tensor[i]);
    if (status == KF_OK)
        status = write_fresh(queue, buffer, base, &head, i, seed);
    for (int64_t done = FRESH_BYTES; status == KF_OK && done < bytes; done *= 2)
        status = kf_buffer_copy(queue, buffer, base + (size_t)done, buffer, base,
                                (size_t)(done < bytes - done ? done : bytes - done));
    return status;
}

/* Set `set` as the first one rotated; padding between rows stays where it is. */
static kf_status fill_rotated(kf_queue *queue, kf_buffer *to, kf_buffer *from, size_t base,
                              const kf_tensor *tensor, int set)
{
    const int64_t bytes = tensor_bytes(tensor);
    const size_t first = kf_tensor_packed(tensor) ? (size_t)((int64_t)set * ROTATION % bytes) : 0;
    const kf_status status =
        kf_buffer_copy(queue, to, base, from, base + first, (size_t)bytes - first);
    if (status != KF_OK || !first)
        return status;
    return kf_buffer_copy(queue, to, base + (size_t)bytes - first, from, base, first);
}

static kf_status open_tensor(kf_sets *sets, kf_queue *queue, int i, uint64_t seed)
{
    const kf_problem *problem = &sets->plan->problem;
    const kf_tensor *tensor = &problem->tensor[i];
    const int64_t bytes = tensor_bytes(tensor);
    const size_t base =
        sets->offset ? (size_t)(sets->offset[i] * kf_dtype_bytes(tensor->dtype)) : 0;
    const bool small = bytes * sets->count <= FRESH_BYTES;
    kf_status status = KF_OK;
    for (int s = 0; status == KF_OK && bytes && s < sets->count; s++) {
        kf_buffer **buffer = &sets->buffer[s * KF_MAX_TENSORS + i];
        status =
            kf_buffer_open(sets->device, &(kf_buffer_desc){.bytes = base + (size_t)bytes}, buffer);
        if (status != KF_OK || problem->op->tensors[i].role != KF_INPUT)
            continue;
        if (s == 0 || small)
            status = fill_first(queue, *buffer, base, problem, i, seed + (uint64_t)s);
        else
            status = fill_rotated(queue, *buffer, sets->buffer[i], base, tensor, s);
    }
    return status;
}

kf_status kf_sets_open(kf_sets *sets, kf_device *device, kf_queue *queue, const kf_plan *plan,
                       uint64_t seed)
{
    sets->device = device;
    sets->plan = plan;
    sets->buffer = calloc((size_t)sets->count * KF_MAX_TENSORS, sizeof *sets->buffer);
    if (!sets->buffer)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %d sets of buffers", sets->count);
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < plan->problem.op->tensor_count; i++)
        status = open_tensor(sets, queue, i, seed);
    return status == KF_OK ? kf_queue_finish(queue) : status;
}

void kf_sets_close(kf_sets *sets)
{
    for (int i = 0; sets->buffer && i < sets->count * KF_MAX_TENSORS; i++)
        kf_buffer_close(sets->buffer[i]);
    free(sets->buffer);
    sets->buffer = NULL;
}

void kf_sets_bind(const kf_sets *sets, int set, kf_binding *bindings)
{
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        bindings[i] = (kf_binding){.buffer = sets->buffer[set * KF_MAX_TENSORS + i],
                                   .offset = sets->offset ? sets->offset[i] : 0};
}
