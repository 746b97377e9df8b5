/* Nasty inputs before a time is printed. SPDX-License-Identifier: Apache-2.0 */
#include "inputs.h"
#include "verify.h"
#include "../core/backend.h"
#include <stdio.h>
#include <string.h>

enum {
    ROWS = 64,
    ELEMENTS = 65536,
    MOST_TURNED = 1 << 18
}; /* enough for every pattern of KF_DIST_SPECIAL */

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

/* Few rows meet few patterns at a time: seeds one after the other until all have had their turn;
 * of very long rows one turn is enough time. */
static int special_turns(const kf_plan *few)
{
    const kf_problem *p = &few->problem;
    int64_t elements = 1;
    for (int i = 0; i < kf_op_dim_count(p->op); i++)
        elements *= p->dim[i];
    elements *= p->inner;
    if (elements > MOST_TURNED)
        return 1;
    const int64_t rows = kf_op_dim_count(p->op) > 1 ? p->dim[0] * p->inner : ROWS,
                  special = (rows + 1) / 2;
    if (special >= KF_SPECIAL_PATTERNS || rows == 0)
        return 1;
    return (int)((KF_SPECIAL_PATTERNS + special - 1) / special);
}

static kf_status verify_one(const kf_plan *few, kf_device *device, kf_queue *queue,
                            const kf_verify_options *options, kf_verify_report *report)
{
    kf_verify_report one;
    char reason[sizeof one.reason];
    const kf_status status = kf_verify(few, device, queue, options, &one);
    if (status != KF_OK || one.passed)
        return status;
    memcpy(reason, one.reason, sizeof reason);
    *report = one;
    snprintf(report->reason, sizeof report->reason, "%s inputs: %s",
             kf_distribution_name(options->distribution), reason);
    return KF_OK;
}

kf_status kf_verify_nasty(const kf_plan *plan, kf_device *device, kf_queue *queue,
                          const kf_verify_options *options, kf_verify_report *report)
{
    kf_plan *few = NULL;
    kf_verify_options own = *options;
    if (plan->problem.op->internal || plan->problem.empty)
        return KF_OK; /* roofs take what they are given */
    kf_status status = plan_cut(plan, &few);
    const int turns = status == KF_OK ? special_turns(few) : 0;
    own.distribution = KF_DIST_SPECIAL;
    for (int i = 0; i < turns && status == KF_OK && report->passed; i++) {
        const uint64_t rows = (uint64_t)(few->problem.dim[0] * few->problem.inner);
        own.seed = options->seed + (uint64_t)i * ((rows + 1) / 2);
        status = verify_one(few, device, queue, &own, report);
    }
    own.distribution = KF_DIST_WIDE;
    own.seed = options->seed;
    if (status == KF_OK && report->passed)
        status = verify_one(few, device, queue, &own, report);
    kf_plan_close(few);
    return status;
}
