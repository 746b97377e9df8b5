/* One run of one case, for what watches a process from outside: a simulator that counts, a
 * profiler. Parent and child talk by lines on the child's standard output that begin with "kfuse ".
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ONCE_H
#define KF_ONCE_H
#include "../core/op.h"

/* The plan of a case with the knobs that it sets; c->variant NULL = the op's choice. */
kf_status kf_case_open(const kf_case *c, const kf_target *target, kf_plan **plan);

/* The child: finds the device by its id ("cuda:0"), or the first simulator when `id` is
 * "simulator", says what each launch of the case declares, runs it once on fresh inputs, cold, and
 * says how it ended. Returns the exit code of the process. */
int kf_once(const char *id, const char *text);

typedef struct kf_declared { /* of one launch, as the child planned it */
    char entry[96];
    kf_cost cost;
    int64_t edge; /* kf_step_edge() */
} kf_declared;

/* What a child said: its launches, and how it ended (kf_error() holds its sentence). `said` may be
 * the text of several runs of one case: the first counts. */
kf_status kf_once_said(const char *said, kf_declared *list, int capacity, int *count);
#endif
