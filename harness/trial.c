/* What a trial consists of, and how its findings are worded. SPDX-License-Identifier: Apache-2.0 */
#include "verify_parts.h"
#include "convert.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    SEGMENT = 4096, /* what counts as a row of a vector */
    RULE_ROWS = 64, /* fewer: the unfused chain is exact by luck now and then */
    DEFAULT_WHOLE = 1 << 20
};

bool kf_trial_present(const kf_trial *trial, int tensor, kf_role role)
{
    const kf_problem *problem = &trial->plan->problem;
    return problem->tensor[tensor].dtype != KF_NONE && problem->op->tensors[tensor].role == role;
}

int64_t kf_trial_row_width(const kf_trial *trial, int output)
{
    const kf_problem *problem = &trial->plan->problem;
    if (!strchr(problem->op->tensors[output].dims, ' '))
        return SEGMENT;
    /* the reference goes along the axis: each of a row's columns once */
    return problem->inner > 1 ? problem->dim[1] * problem->inner
                              : kf_tensor_width(&problem->tensor[output]);
}

static bool sixteen_bit(kf_dtype dtype)
{
    return dtype == KF_F16 || dtype == KF_BF16;
}

/* The variants of a laboratory op are not twins: each computes something of its own. */
bool kf_trial_baseline(const kf_trial *trial)
{
    const kf_op *op = trial->plan->problem.op;
    return op->internal || !strcmp(trial->plan->variant->name, op->variants[0].name);
}

bool kf_trial_output_whole(const kf_trial *trial, int output)
{
    const int64_t limit = trial->options->whole_limit ? trial->options->whole_limit : DEFAULT_WHOLE;
    return kf_tensor_elements(&trial->plan->problem.tensor[output]) <= limit;
}

bool kf_trial_whole(const kf_trial *trial)
{
    bool whole = true;
    for (int i = 0; i < trial->plan->problem.op->tensor_count; i++)
        whole &= !kf_trial_present(trial, i, KF_OUTPUT) || kf_trial_output_whole(trial, i);
    return whole;
}

bool kf_trial_rule_applies(const kf_trial *trial, int output)
{
    const kf_tensor *t = &trial->plan->problem.tensor[output];
    const bool vector = !strchr(trial->plan->problem.op->tensors[output].dims, ' ');
    const int64_t row = vector ? RULE_ROWS : kf_axis_size(&trial->plan->problem, output);
    return !kf_trial_baseline(trial) && sixteen_bit(t->dtype) &&
           kf_tensor_elements(t) >= RULE_ROWS * row;
}

bool kf_trial_needs_unfused(const kf_trial *trial)
{
    bool needed = !kf_trial_baseline(trial) && !kf_trial_whole(trial);
    for (int i = 0; i < trial->plan->problem.op->tensor_count; i++)
        needed |= kf_trial_present(trial, i, KF_OUTPUT) && kf_trial_rule_applies(trial, i);
    return needed;
}

void kf_trial_fail(kf_trial *trial, const char *format, ...)
{
    va_list list;
    trial->report->passed = false;
    if (trial->report->reason[0])
        return;
    va_start(list, format);
    vsnprintf(trial->report->reason, sizeof trial->report->reason, format, list);
    va_end(list);
}

void kf_element_name(const kf_trial *trial, int tensor, int64_t index, char *text, size_t bytes)
{
    const kf_tensor *t = &trial->plan->problem.tensor[tensor];
    int64_t place[KF_MAX_RANK];
    int n = snprintf(text, bytes, "%s", trial->plan->problem.op->tensors[tensor].name);
    for (int i = t->rank - 1; i >= 0; i--) {
        place[i] = index % t->size[i];
        index /= t->size[i];
    }
    for (int i = 0; i < t->rank && n > 0 && (size_t)n < bytes; i++)
        n += snprintf(text + n, bytes - (size_t)n, "[%lld]", (long long)place[i]);
}
