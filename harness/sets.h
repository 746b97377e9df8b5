/* Rotating sets of inputs and outputs for timing. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_SETS_H
#define KF_SETS_H
#include "../core/op.h"

typedef struct kf_sets {
    kf_device *device;
    const kf_plan *plan;   /* whose tensors they are */
    const int64_t *offset; /* [KF_MAX_TENSORS] elements in front of each tensor; NULL = none */
    int count;
    int next;  /* of the next run, whoever's it is: batches go on where the one before ended */
    bool cold; /* enough of them that no set is found in the cache when its turn comes again */
    kf_buffer **buffer; /* [count][KF_MAX_TENSORS]; NULL where the plan has no such tensor */
} kf_sets;

/* Bytes of one set: all tensors of the plan. */
int64_t kf_sets_bytes(const kf_plan *plan);
/* At least 3 sets and on a GPU at least the larger of 512 MiB and 3 caches; no more than fit in
 * `room` bytes, no more than `most`. One when warm, and on a CPU device. */
int kf_sets_count(const kf_target *target, int64_t set_bytes, int64_t room, int most, bool warm,
                  bool *cold);
/* May both plans run on the same sets? */
bool kf_sets_serve(const kf_sets *sets, const kf_device *device, const kf_plan *plan);
/* Allocates and fills; sets->count, cold and offset are set by the caller. After a failure
 * kf_sets_close still frees. */
kf_status kf_sets_open(kf_sets *sets, kf_device *device, kf_queue *queue, const kf_plan *plan,
                       uint64_t seed);
void kf_sets_close(kf_sets *sets);
void kf_sets_bind(const kf_sets *sets, int set, kf_binding *bindings);
#endif
