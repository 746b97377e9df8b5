/* From a step to what a backend builds. Needs no device: tests compile every kernel for every
 * architecture through it. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_PROGRAM_H
#define KF_PROGRAM_H

#include "backend.h"
#include "op.h"

typedef struct kf_step_program {
    kf_program_desc desc; /* points into this struct */
    char *text;
    char name[72];
    const char *entry[KF_MAX_STEPS];
    bool covers[KF_MAX_STEPS]; /* the steps of the plan whose kernels are in it: same file, defines
                                  and grid */
} kf_step_program;

kf_status kf_step_program_make(const kf_plan *plan, int step, const kf_backend *backend,
                               bool from_disk, kf_step_program **made);
void kf_step_program_free(kf_step_program *made);

#endif
