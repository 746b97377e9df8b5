/* One trial: inputs, two poisoned runs, integrity, then the judge. The reference runs after the
 * kernels, from the host's own copy of the inputs, in memory that the device never saw
 * (testing.md 2.6, 5, 22).
 *
 * Scratch is a workspace of ours: poisoned, its gaps and a guard behind it compared; kf_run takes
 * no offset into a workspace, so there is no guard in front. Poisoning local memory beforehand
 * (testing.md 5.3) needs a kernel that no op has yet. SPDX-License-Identifier: Apache-2.0 */
#include "verify_parts.h"
#include "convert.h"
#include "memory.h"
#include <stdlib.h>
#include <string.h>

enum { GUARD = 4096, LEAST_FOR_NORM = 32 };

/* ---- inputs and buffers --------------------------------------------------------------------- */

/* Guards and padding stay as they are until kf_zone_write poisons them. */
static kf_status fill_input(kf_trial *t, int i)
{
    const kf_tensor *tensor = t->zone[i].tensor;
    const int64_t count = kf_tensor_elements(tensor);
    const kf_status status = kf_zone_hold(&t->zone[i]);
    if (status != KF_OK)
        return status;
    if (!t->options->data) {
        kf_inputs_fill_tensor(&t->plan->problem, i, kf_zone_payload(&t->zone[i]),
                              t->options->distribution, t->options->seed);
        return KF_OK;
    }
    if (!t->options->data[i] && count > 0)
        return kf_fail(KF_INVALID, "kf_verify: no data for the input '%s'",
                       t->plan->problem.op->tensors[i].name);
    if (count > 0) /* padding included: it is poisoned later */
        memcpy(kf_zone_payload(&t->zone[i]), t->options->data[i], t->zone[i].extent_bytes);
    return KF_OK;
}

/* Zeros agree with too much. Small and special inputs may be zero by right, and the user's data may
 * be anything. */
static void check_norm(kf_trial *t, int i)
{
    const kf_tensor *tensor = t->zone[i].tensor;
    const int64_t count = kf_tensor_elements(tensor);
    if (t->options->data || t->options->distribution == KF_DIST_SPECIAL || count < LEAST_FOR_NORM ||
        t->plan->problem.op->tensors[i].below) /* of one class all indices are 0 */
        return;
    for (int64_t e = 0; e < count; e++)
        if (kf_load(kf_zone_payload(&t->zone[i]), tensor->dtype, kf_tensor_offset(tensor, e)) != 0)
            return;
    kf_trial_fail(t, "the input '%s' is all zeros: it proves nothing",
                  t->plan->problem.op->tensors[i].name);
}

static kf_status load_input(kf_trial *t, int i)
{
    const kf_status status = fill_input(t, i);
    if (status == KF_OK)
        check_norm(t, i);
    return status;
}

/* Host memory for the elements of an output. */
static kf_status take_packed(const kf_trial *t, int i, char **packed)
{
    const kf_tensor *tensor = &t->plan->problem.tensor[i];
    *packed =
        kf_memory_take((size_t)kf_tensor_elements(tensor) * (size_t)kf_dtype_bytes(tensor->dtype));
    return *packed ? KF_OK
                   : kf_fail(KF_OUT_OF_MEMORY, "no host memory for the output '%s'",
                             t->plan->problem.op->tensors[i].name);
}

static kf_status open_zones(kf_trial *t)
{
    const kf_problem *problem = &t->plan->problem;
    for (int i = 0; i < problem->op->tensor_count; i++) {
        const kf_tensor *tensor = &problem->tensor[i];
        if (tensor->dtype == KF_NONE)
            continue;
        kf_status status = kf_zone_open(t->device, tensor, t->options->offset[i],
                                        t->options->exact_size, &t->zone[i]);
        if (status == KF_OK && kf_trial_present(t, i, KF_INPUT))
            status = load_input(t, i);
        else if (status == KF_OK)
            status = take_packed(t, i, &t->got[i]);
        if (status != KF_OK)
            return status;
    }
    return KF_OK;
}

static kf_status open_workspace(kf_trial *t, const kf_exec *exec)
{
    const size_t bytes = kf_exec_workspace_bytes(exec);
    if (bytes == 0)
        return KF_OK;
    t->workspace_bytes = (bytes + (t->options->exact_size ? 0 : GUARD) + 3) / 4 * 4;
    return kf_buffer_open(t->device, &(kf_buffer_desc){.bytes = t->workspace_bytes}, &t->workspace);
}

/* ---- one run -------------------------------------------------------------------------------- */

static kf_status poison_all(kf_trial *t, uint16_t poison)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < t->plan->problem.op->tensor_count; i++)
        if (t->zone[i].buffer)
            status = kf_zone_write(t->queue, &t->zone[i], poison);
    if (status == KF_OK && t->workspace)
        status =
            kf_buffer_fill(t->queue, t->workspace, 0, t->workspace_bytes, poison * 0x10001u, 4);
    return status;
}

/* Bytes [at, end) of the workspace that belong to no scratch array must still be poison. */
static kf_status check_gap(kf_trial *t, size_t at, size_t end, uint16_t poison)
{
    char *data = malloc(end - at);
    if (!data)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %zu bytes of workspace", end - at);
    const kf_status status = kf_buffer_read(t->queue, t->workspace, at, data, end - at);
    const int64_t broken = status == KF_OK ? kf_poison_broken(data, end - at, poison) : -1;
    if (broken >= 0)
        kf_trial_fail(t, "the workspace was written at byte %lld, outside every scratch array",
                      (long long)at + (long long)broken);
    free(data);
    return status;
}

static kf_status check_workspace(kf_trial *t, uint16_t poison)
{
    kf_status status = KF_OK;
    for (size_t at = 0; status == KF_OK && at < t->workspace_bytes;) {
        size_t end = t->workspace_bytes, skip = 0;
        for (int i = 0; i < t->plan->scratch_count; i++) {
            const kf_scratch *s = &t->plan->scratch[i];
            const size_t stop = s->offset + (size_t)s->count * (size_t)kf_dtype_bytes(s->dtype);
            if (s->kept) /* not in the workspace */
                continue;
            if (s->offset <= at && at < stop)
                skip = stop;
            else if (s->offset > at && s->offset < end)
                end = s->offset;
        }
        if (!skip)
            status = check_gap(t, at, end, poison);
        at = skip ? skip : end;
    }
    return status;
}

static kf_status check_tensors(kf_trial *t, uint16_t poison, char *const *packed)
{
    const kf_op *op = t->plan->problem.op;
    for (int i = 0; i < op->tensor_count; i++) {
        kf_zone *zone = &t->zone[i];
        int64_t broken = -1;
        kf_status status = KF_OK;
        if (kf_trial_present(t, i, KF_INPUT))
            status = kf_zone_same(t->queue, zone, &broken);
        else if (zone->buffer)
            status = kf_zone_read(t->queue, zone, poison, packed[i], &broken);
        if (status != KF_OK)
            return status;
        const int64_t place = broken - (int64_t)zone->front, extent = (int64_t)zone->extent_bytes;
        if (broken >= 0 && (place < 0 || place >= extent))
            kf_trial_fail(t, "the guard zone of '%s' was overwritten %lld bytes %s the tensor",
                          op->tensors[i].name,
                          place < 0 ? -(long long)place : (long long)(place - extent),
                          place < 0 ? "before the start of" : "behind the end of");
        else if (broken >= 0)
            kf_trial_fail(t, "%s of '%s' was changed at byte %lld",
                          kf_trial_present(t, i, KF_INPUT) ? "the input memory"
                                                           : "the padding between the rows",
                          op->tensors[i].name, (long long)place);
    }
    return KF_OK;
}

static kf_status run_once(kf_trial *t, kf_exec *exec, uint16_t poison, char *const *packed)
{
    kf_binding binding[KF_MAX_TENSORS];
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        binding[i] = t->zone[i].binding;
    kf_status status = poison_all(t, poison);
    if (status == KF_OK)
        status = kf_run(exec, t->queue, binding, t->workspace);
    if (status == KF_OK)
        status = check_tensors(t, poison, packed);
    if (status == KF_OK)
        status = check_workspace(t, poison);
    return status;
}

/* ---- more runs ------------------------------------------------------------------------------ */

static bool holds(const char *data, int64_t index, int size, uint16_t poison)
{
    return kf_poison_broken(data + index * size, (size_t)size, poison) < 0;
}

/* Payloads of A and B must be the same bits: what differs was never written, or came from memory
 * that nobody wrote. Works where the right answer is NaN, and where fmax swallows one. */
static void compare_runs(kf_trial *t, int i, int run, const char *a, const char *b)
{
    const kf_tensor *tensor = &t->plan->problem.tensor[i];
    const int size = kf_dtype_bytes(tensor->dtype);
    const int64_t count = kf_tensor_elements(tensor);
    const int64_t place = kf_first_difference(a, b, (size_t)(count * size)), e = place / size;
    char element[96];
    if (place < 0)
        return;
    kf_element_name(t, i, e, element, sizeof element);
    if (holds(a, e, size, KF_POISON_NAN) && holds(b, e, size, KF_POISON_LARGE))
        kf_trial_fail(t, "%s holds the poison: it was never written, or copies memory that was not",
                      element);
    else if (run > 1)
        kf_trial_fail(t, "%s is %a in the first run and %a in number %d", element,
                      kf_load(a, tensor->dtype, e), kf_load(b, tensor->dtype, e), run + 1);
    else
        kf_trial_fail(t,
                      "%s depends on memory that nothing wrote: %a when that holds NaN, %a when it "
                      "holds large values",
                      element, kf_load(a, tensor->dtype, e), kf_load(b, tensor->dtype, e));
}

static kf_status more_runs(kf_trial *t, kf_exec *exec)
{
    const kf_problem *problem = &t->plan->problem;
    const int runs = t->options->runs > 0 ? t->options->runs : 2;
    char *again[KF_MAX_TENSORS] = {0};
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < problem->op->tensor_count; i++)
        if (t->got[i])
            status = take_packed(t, i, &again[i]);
    for (int run = 1; status == KF_OK && !t->report->reason[0] && run < runs; run++) {
        status = run_once(t, exec, run % 2 ? KF_POISON_LARGE : KF_POISON_NAN, again);
        for (int i = 0; status == KF_OK && i < problem->op->tensor_count; i++)
            if (t->got[i])
                compare_runs(t, i, run, t->got[i], again[i]);
    }
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_memory_give(again[i]);
    return status;
}

/* With one run only, what still holds the poison counts as unwritten. */
static void find_unwritten(kf_trial *t)
{
    for (int i = 0; i < t->plan->problem.op->tensor_count; i++) {
        const kf_tensor *tensor = &t->plan->problem.tensor[i];
        char element[96];
        if (!t->got[i]) /* no output, or an optional one that is absent */
            continue;
        const int64_t e = kf_first_poisoned(t->got[i], kf_dtype_bytes(tensor->dtype),
                                            kf_tensor_elements(tensor), KF_POISON_NAN);
        if (e < 0)
            continue;
        kf_element_name(t, i, e, element, sizeof element);
        kf_trial_fail(t, "%s holds the poison: it was never written, or copies memory that was not",
                      element);
        return;
    }
}

static kf_status run_plan(kf_trial *t)
{
    kf_exec *exec = NULL;
    kf_status status = kf_prepare(t->plan, t->device, &exec);
    if (status == KF_OK)
        status = open_workspace(t, exec);
    if (status == KF_OK)
        status = run_once(t, exec, KF_POISON_NAN, t->got);
    if (status == KF_OK && !t->report->reason[0] && !t->options->one_poison)
        status = more_runs(t, exec);
    else if (status == KF_OK)
        find_unwritten(t);
    kf_exec_close(exec);
    kf_buffer_close(t->workspace);
    t->workspace = NULL;
    t->workspace_bytes = 0;
    return status;
}

/* ---- the unfused variant -------------------------------------------------------------------- */

static kf_status run_unfused_exec(kf_trial *t, kf_exec *exec)
{
    kf_binding binding[KF_MAX_TENSORS];
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        binding[i] = t->zone[i].binding;
    kf_status status = poison_all(t, KF_POISON_NAN);
    if (status == KF_OK)
        status = kf_run(exec, t->queue, binding, NULL);
    for (int i = 0; status == KF_OK && i < t->plan->problem.op->tensor_count; i++) {
        int64_t broken;
        if (!t->got[i])
            continue;
        status = take_packed(t, i, &t->unfused[i]);
        if (status == KF_OK)
            status = kf_zone_read(t->queue, &t->zone[i], KF_POISON_NAN, t->unfused[i], &broken);
    }
    return status;
}

/* The same inputs through the op's baseline. Where that cannot be had (it does not fit, memory is
 * short) the reference judges every row instead. */
static kf_status run_unfused(kf_trial *t)
{
    kf_problem problem = t->plan->problem;
    kf_plan *plan = NULL;
    kf_exec *exec = NULL;
    kf_status status =
        kf_plan_open(&problem, &(kf_plan_desc){.variant = problem.op->variants[0].name},
                     &t->plan->target, &plan);
    if (status == KF_OK)
        status = kf_prepare(plan, t->device, &exec);
    if (status == KF_OK)
        status = run_unfused_exec(t, exec);
    kf_exec_close(exec);
    kf_plan_close(plan);
    if (status == KF_OK || (status != KF_UNSUPPORTED && status != KF_OUT_OF_MEMORY))
        return status;
    for (int i = 0; i < KF_MAX_TENSORS; i++) {
        kf_memory_give(t->unfused[i]);
        t->unfused[i] = NULL;
    }
    return KF_OK;
}

kf_status kf_verify(const kf_plan *plan, kf_device *device, kf_queue *queue,
                    const kf_verify_options *options, kf_verify_report *report)
{
    const kf_verify_options none = {0};
    if (!plan || !device || !queue || !report)
        return kf_fail(KF_INVALID, "kf_verify: a plan, a device, a queue and a report are needed");
    kf_trial t = {.plan = plan, .device = device, .queue = queue, .report = report};
    t.options = options ? options : &none;
    *report = (kf_verify_report){.first_bad = -1};
    kf_status status = open_zones(&t);
    if (status == KF_OK && !report->reason[0])
        status = run_plan(&t);
    if (status == KF_OK && !report->reason[0] && kf_trial_needs_unfused(&t))
        status = run_unfused(&t);
    if (status == KF_OK && !report->reason[0])
        status = kf_judge(&t);
    for (int i = 0; i < KF_MAX_TENSORS; i++) {
        kf_zone_close(&t.zone[i]);
        kf_memory_give(t.got[i]);
        kf_memory_give(t.unfused[i]);
    }
    return status;
}
