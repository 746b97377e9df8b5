/* Loops over large arrays on the host, shared out to threads. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KF_PARALLEL_H
#define KF_PARALLEL_H
#include <stdint.h>

/* Calls work(context, first, end) for consecutive ranges that together make [0, count): on as many
 * threads as there are processors (16 at most), each with at least `grain`; returns when all have.
 * A thread that cannot be started costs speed, nothing else. */
void kf_parallel(int64_t count, int64_t grain,
                 void (*work)(void *context, int64_t first, int64_t end), void *context);

#endif
