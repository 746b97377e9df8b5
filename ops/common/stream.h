/* Geometry of kernels that stream contiguous tensors: each group covers one tile exactly, each
 * thread makes a few accesses that lie one group apart, so neighbouring threads touch neighbouring
 * memory. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_STREAM_H
#define KF_STREAM_H
#include "../../core/op.h"

typedef struct kf_stream {
    kf_grid grid;
    int vec_bytes; /* of one access: 16 where every tensor's promise allows, else one element */
    int accesses;  /* per thread and tensor */
} kf_stream;

/* For `count` elements of the problem's dtype. `vecs` is in 16-byte vectors per thread; where the
 * bases are not aligned the same bytes are taken element by element. A CPU device gets one element
 * per item: its compiler makes the vectors, across items. */
kf_stream kf_stream_make(const kf_problem *problem, const kf_target *target, int64_t count,
                         int64_t block, int64_t vecs);
/* BLOCK, VEC_BYTES and ACCESSES: all that a streaming kernel is built with. */
void kf_stream_define(kf_step *step, const kf_stream *stream);

#endif
