/* One call of `kfuse run`: files, arrays, plan, buffers. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_JOB_H
#define KF_JOB_H

#include "cli.h"
#include "../harness/npy.h"

typedef struct kf_job { /* one call of the op: indexed like its table of tensors */
    kf_cli *cli;
    const kf_op *op;
    const char *path[KF_MAX_TENSORS];
    kf_array array[KF_MAX_TENSORS]; /* inputs as read, outputs to be filled */
    kf_buffer *buffer[KF_MAX_TENSORS];
    kf_problem *problem;
    kf_plan *plan;
    kf_exec *exec;
    kf_bench bench;
} kf_job;

/* Reads the inputs and shapes the outputs; KF_IO and KF_INVALID as npy.h and the op say. */
kf_status kf_job_load(kf_job *job);
/* Plans, runs, verifies when asked, writes the outputs. */
kf_status kf_job_run(kf_job *job, const kf_found *found, bool verify);
void kf_job_release(kf_job *job);

#endif
