/* A launch that only takes time, so that a queue can be filled behind it. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_SPIN_H
#define KF_SPIN_H
#include "../core/op.h"

typedef struct kf_spin {
    kf_queue *queue;
    kf_exec *exec;
    kf_buffer *buffer;
    double seconds; /* of one launch, measured on this queue */
} kf_spin;

kf_status kf_spin_open(kf_spin *spin, kf_device *device, kf_queue *queue);
void kf_spin_close(kf_spin *spin);
/* Enqueues launches that take at least `seconds` together; *enqueued = what they take. */
kf_status kf_spin_enqueue(kf_spin *spin, double seconds, double *enqueued);
#endif
