/* Nasty inputs before a time is printed. SPDX-License-Identifier: Apache-2.0 */
#include "verify.h"
#include "../core/backend.h"
#include <stdio.h>
#include <string.h>

enum { ROWS = 64, ELEMENTS = 65536 }; /* enough for every pattern of KF_DIST_SPECIAL */

/* The first dim cut short in every tensor that has it outermost; strides, and so alignments, stay.
 */
static void cut(kf_problem *problem, int64_t most)
{
    const kf_op *op = problem->op;
    const size_t length = strcspn(op->dims, " ");
    for (int i = 0; i < op->tensor_count; i++) {
        kf_tensor *t = &problem->tensor[i];
        const char *dims = op->tensors[i].dims;
        if (t->dtype && t->rank && !strncmp(dims, op->dims, length) &&
            (!dims[length] || dims[length] == ' ') && t->size[0] > most)
            t->size[0] = most;
    }
}

/* The same variant with the same knobs, so the same kernels, for fewer rows. */
static kf_status plan_cut(const kf_plan *plan, kf_plan **made)
{
    const kf_op *op = plan->problem.op;
    kf_problem problem = plan->problem;
    char knobs[512] = "";
    size_t used = 0;
    for (int i = 0; i < op->knob_count; i++)
        if (kf_knob_used(&op->knobs[i], plan->variant->name) && used < sizeof knobs)
            used += (size_t)snprintf(knobs + used, sizeof knobs - used, "%s=%lld ",
                                     op->knobs[i].name, (long long)plan->config.knob[i]);
    cut(&problem, kf_op_dim_count(op) > 1 ? ROWS : ELEMENTS);
    const kf_plan_desc desc = {.variant = plan->variant->name, .knobs = knobs};
    return kf_plan_open(&problem, &desc, &plan->target, made);
}

kf_status kf_verify_nasty(const kf_plan *plan, kf_device *device, kf_queue *queue,
                          const kf_verify_options *options, kf_verify_report *report)
{
    static const kf_distribution nasty[] = {KF_DIST_SPECIAL, KF_DIST_WIDE};
    kf_plan *few = NULL;
    if (plan->problem.op->internal || plan->problem.empty)
        return KF_OK; /* roofs take what they are given */
    kf_status status = plan_cut(plan, &few);
    for (size_t i = 0; status == KF_OK && report->passed && i < sizeof nasty / sizeof *nasty; i++) {
        kf_verify_options own = *options;
        kf_verify_report one;
        char reason[sizeof one.reason];
        own.distribution = nasty[i];
        status = kf_verify(few, device, queue, &own, &one);
        if (status != KF_OK || one.passed)
            continue;
        memcpy(reason, one.reason, sizeof reason);
        *report = one;
        snprintf(report->reason, sizeof report->reason, "%s inputs: %s",
                 kf_distribution_name(nasty[i]), reason);
    }
    kf_plan_close(few);
    return status;
}
