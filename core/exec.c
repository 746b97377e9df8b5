/* Plan -> programs, kernels, scratch, packed arguments; run. Compiling, loading and allocating
 * happen in kf_prepare; kf_run patches buffers and offsets into ready argument lists and enqueues:
 * one slot call per step. SPDX-License-Identifier: Apache-2.0 */
#include "op.h"
#include "backend.h"
#include "program.h"
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_ALIGNMENT = 16 }; /* bytes: the widest access of a kernel */

typedef struct exec_step {
    kf_kernel *kernel;
    kf_kernel_info info;
    kf_launch launch;
    kf_value value[2 * KF_MAX_USES]; /* a pointer takes two */
} exec_step;

struct kf_exec {
    kf_device *device;
    kf_plan *plan; /* own copy: a plan may be closed before its exec */
    kf_program *program[KF_MAX_STEPS];
    int program_of[KF_MAX_STEPS]; /* step -> program */
    int program_count;
    exec_step *step;                 /* [step_count] */
    kf_buffer *workspace, *counters; /* the counters are ours whoever gives the workspace */
    int64_t extent[KF_MAX_TENSORS];  /* elements a binding must have behind its offset */
};

/* ---- building ----------------------------------------------------------------------------- */

/* Builds one program for `first` and every later step that builds alike. */
static kf_status build_program(kf_exec *exec, int first)
{
    kf_step_program *made;
    kf_status status = kf_step_program_make(exec->plan, first, exec->device->backend,
                                            exec->device->read_kernels, &made);
    if (status != KF_OK)
        return status;
    status = kf_cache_build(exec->device, &made->desc, &exec->program[exec->program_count]);
    for (int s = first; status == KF_OK && s < exec->plan->step_count; s++)
        if (made->covers[s])
            exec->program_of[s] = exec->program_count;
    if (status == KF_OK)
        exec->program_count++;
    kf_step_program_free(made);
    return status;
}

/* ---- packing ------------------------------------------------------------------------------ */

/* Everything of the arguments that does not change from run to run. */
static void pack(kf_exec *exec, int index)
{
    const kf_step *step = &exec->plan->step[index];
    exec_step *packed = &exec->step[index];
    int n = 0;
    for (int i = 0; i < step->use_count; i++) {
        const kf_use *use = &step->use[i];
        if (use->kind <= KF_USE_WRITE) {
            packed->value[n++] = (kf_value){
                .kind = kf_use_absent(exec->plan, use) ? KF_VALUE_ABSENT : KF_VALUE_BUFFER};
            packed->value[n++] = (kf_value){.kind = KF_VALUE_I64};
        } else if (use->kind == KF_USE_INT || use->kind == KF_USE_PER_RUN) {
            packed->value[n++] = (kf_value){.kind = KF_VALUE_I64, .as.i64 = use->i};
        } else if (use->kind == KF_USE_INT32) {
            packed->value[n++] = (kf_value){.kind = KF_VALUE_I32, .as.i32 = (int32_t)use->i};
        } else {
            packed->value[n++] = (kf_value){.kind = KF_VALUE_F32, .as.f32 = (float)use->f};
        }
    }
    packed->launch = (kf_launch){.kernel = packed->kernel,
                                 .groups = step->grid.groups,
                                 .threads = step->grid.threads,
                                 .cluster = step->grid.cluster,
                                 .values = packed->value,
                                 .value_count = n};
}

static void patch(const kf_exec *exec, int index, const kf_binding *bindings, kf_buffer *workspace)
{
    const kf_plan *plan = exec->plan;
    const kf_step *step = &plan->step[index];
    kf_value *value = exec->step[index].value;
    for (int i = 0, n = 0; i < step->use_count; i++) {
        const kf_use *use = &step->use[i];
        if (use->kind == KF_USE_PER_RUN) {
            value[n++].as.i64 = plan->problem.attribute[use->i].i;
        } else if (use->kind > KF_USE_WRITE) {
            n++;
        } else if (value[n].kind == KF_VALUE_ABSENT) {
            n += 2;
        } else if (use->ref.scratch) {
            const kf_scratch *scratch = &plan->scratch[use->ref.index];
            value[n++].as.buffer = scratch->kept ? exec->counters : workspace;
            value[n++].as.i64 = (int64_t)scratch->offset / kf_dtype_bytes(scratch->dtype);
        } else {
            value[n++].as.buffer = bindings[use->ref.index].buffer;
            value[n++].as.i64 = bindings[use->ref.index].offset;
        }
    }
}

/* ---- prepare ------------------------------------------------------------------------------ */

static kf_plan *copy_plan(const kf_plan *plan)
{
    kf_plan *copy = malloc(sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *plan;
    copy->step = calloc(KF_MAX_STEPS, sizeof *copy->step);
    if (!copy->step) {
        free(copy);
        return NULL;
    }
    memcpy(copy->step, plan->step, (size_t)plan->step_count * sizeof *plan->step);
    return copy;
}

static kf_status open_kernels(kf_exec *exec)
{
    for (int s = 0; s < exec->plan->step_count; s++)
        exec->program_of[s] = -1;
    for (int s = 0; s < exec->plan->step_count; s++) {
        kf_status status = exec->program_of[s] < 0 ? build_program(exec, s) : KF_OK;
        if (status == KF_OK)
            status = kf_kernel_open(exec->program[exec->program_of[s]], exec->plan->step[s].entry,
                                    &exec->step[s].info, &exec->step[s].kernel);
        if (status != KF_OK)
            return status;
        const int limit = exec->step[s].info.max_threads;
        if (limit > 0 && exec->plan->step[s].grid.threads > limit)
            return kf_fail(
                KF_UNSUPPORTED,
                "kernel %s can be launched with %d threads per group on this device, not %d",
                exec->plan->step[s].entry, limit, exec->plan->step[s].grid.threads);
        pack(exec, s);
    }
    return KF_OK;
}

/* Zero once and for all: kernels leave them so that the next run can start from them. */
static kf_status open_counters(kf_exec *exec)
{
    const size_t bytes = exec->plan->counter_bytes;
    kf_queue *queue = NULL;
    kf_status status =
        kf_buffer_open(exec->device, &(kf_buffer_desc){.bytes = bytes}, &exec->counters);
    if (status == KF_OK)
        status = kf_queue_open(exec->device, NULL, &queue);
    if (status == KF_OK)
        status = kf_buffer_fill(queue, exec->counters, 0, bytes, 0, 4);
    if (status == KF_OK)
        status = kf_queue_finish(queue);
    kf_queue_close(queue);
    return status;
}

static kf_status fill_exec(kf_exec *exec, const kf_plan *plan)
{
    exec->plan = copy_plan(plan);
    exec->step = calloc((size_t)plan->step_count + 1, sizeof *exec->step);
    if (!exec->plan || !exec->step)
        return kf_fail(KF_OUT_OF_MEMORY, "kf_prepare: no host memory for the exec");
    for (int i = 0; i < plan->problem.op->tensor_count; i++) {
        const kf_status status = kf_tensor_extent(&plan->problem.tensor[i], &exec->extent[i]);
        if (status != KF_OK)
            return status;
    }
    kf_status status = open_kernels(exec);
    if (status == KF_OK && plan->counter_bytes)
        status = open_counters(exec);
    if (status != KF_OK || !plan->scratch_bytes)
        return status;
    return kf_buffer_open(exec->device, &(kf_buffer_desc){.bytes = plan->scratch_bytes},
                          &exec->workspace);
}

kf_status kf_prepare(const kf_plan *plan, kf_device *device, kf_exec **exec)
{
    if (!plan || !device || !exec)
        return kf_fail(KF_INVALID,
                       "kf_prepare: a plan, a device and a place for the exec are needed");
    *exec = NULL;
    kf_exec *made = calloc(1, sizeof *made);
    if (!made)
        return kf_fail(KF_OUT_OF_MEMORY, "kf_prepare: no host memory for the exec");
    made->device = device;
    const kf_status status = fill_exec(made, plan);
    if (status != KF_OK)
        kf_exec_close(made);
    else
        *exec = made;
    return status;
}

void kf_exec_close(kf_exec *exec)
{
    if (!exec)
        return;
    kf_buffer_close(exec->workspace);
    kf_buffer_close(exec->counters);
    for (int s = 0; exec->step && exec->plan && s < exec->plan->step_count; s++)
        kf_kernel_close(exec->step[s].kernel);
    for (int p = 0; p < exec->program_count; p++)
        kf_program_close(exec->program[p]);
    free(exec->step);
    kf_plan_close(exec->plan);
    free(exec);
}

size_t kf_exec_workspace_bytes(const kf_exec *exec)
{
    return exec ? exec->plan->scratch_bytes : 0;
}

kf_status kf_exec_int(kf_exec *exec, const char *attribute, int64_t value)
{
    const kf_op *op = exec ? exec->plan->problem.op : NULL;
    for (int i = 0; op && attribute && i < op->attribute_count; i++)
        if (op->attributes[i].per_run && !strcmp(op->attributes[i].name, attribute)) {
            exec->plan->problem.attribute[i].i = value;
            return KF_OK;
        }
    return kf_fail(KF_INVALID,
                   op && attribute ? "kf_exec_int: op '%s' has no attribute '%s' that a prepared "
                                     "exec can change: set it in the problem"
                                   : "kf_exec_int: an exec and the name of an attribute are needed",
                   op ? op->name : "", attribute ? attribute : "");
}

const kf_plan *kf_exec_plan(const kf_exec *exec)
{
    return exec->plan;
}

kf_status kf_exec_kernel_info(const kf_exec *exec, int step, struct kf_kernel_info *info)
{
    if (step < 0 || step >= exec->plan->step_count)
        return kf_fail(KF_INVALID, "the plan has %d steps, no step %d", exec->plan->step_count,
                       step);
    *info = exec->step[step].info;
    return KF_OK;
}

/* ---- run ---------------------------------------------------------------------------------- */

static kf_status check_binding(const kf_exec *exec, int i, const kf_binding *binding)
{
    const kf_tensor *tensor = &exec->plan->problem.tensor[i];
    const char *name = exec->plan->problem.op->tensors[i].name;
    const int64_t size = kf_dtype_bytes(tensor->dtype);
    if (!binding->buffer)
        return kf_fail(KF_INVALID, "kf_run: no buffer is bound to the tensor '%s'", name);
    if (binding->buffer->device != exec->device)
        return kf_fail(KF_INVALID, "kf_run: the buffer of '%s' belongs to another device", name);
    const int64_t room = (int64_t)(binding->buffer->bytes / (size_t)size);
    if (binding->offset < 0 || binding->offset > room || exec->extent[i] > room - binding->offset)
        return kf_fail(
            KF_INVALID,
            "kf_run: the tensor '%s' needs %lld elements at offset %lld; its buffer holds %lld",
            name, (long long)exec->extent[i], (long long)binding->offset, (long long)room);
    const int64_t needed = tensor->alignment > size ? tensor->alignment : size;
    if (binding->offset * size % needed || binding->buffer->alignment % needed)
        return kf_fail(
            KF_INVALID,
            "kf_run: the tensor '%s' needs an address of %lld-byte alignment, which offset %lld of "
            "its buffer has not",
            name, (long long)needed, (long long)binding->offset);
    return KF_OK;
}

/* Bytes that the elements of a tensor cover, their places taken modulo `pitch`. */
static int64_t covered(const kf_tensor *t, int64_t pitch)
{
    const int64_t size = kf_dtype_bytes(t->dtype);
    int64_t bytes = size;
    for (int i = 0; i < t->rank; i++)
        if (t->size[i] > 1 && t->stride[i] * size % pitch)
            bytes += (t->size[i] - 1) * t->stride[i] * size;
    return bytes;
}

/* Views of one allocation side by side, as the halves of its rows: one reaches into the other, but
 * no element is shared. `apart` is from the first byte of a to that of b. */
static bool side_by_side(const kf_tensor *a, const kf_tensor *b, int64_t apart)
{
    for (int i = 0; i < a->rank; i++) {
        const int64_t pitch = a->stride[i] * kf_dtype_bytes(a->dtype);
        if (a->size[i] <= 1 || pitch <= 0)
            continue;
        const int64_t at = (apart % pitch + pitch) % pitch;
        if (at >= covered(a, pitch) && covered(b, pitch) <= pitch - at)
            return true;
    }
    return false;
}

/* In place is the very same elements, where the op's table allows it; anything between is a
 * mistake. */
static kf_status check_alias(const kf_exec *exec, int output, int other, const kf_binding *bindings)
{
    const kf_problem *problem = &exec->plan->problem;
    const kf_tensor_decl *decl = problem->op->tensors;
    const kf_tensor *a = &problem->tensor[output], *b = &problem->tensor[other];
    const int64_t a_size = kf_dtype_bytes(a->dtype), b_size = kf_dtype_bytes(b->dtype);
    const int64_t a_first = bindings[output].offset * a_size,
                  b_first = bindings[other].offset * b_size;
    if (bindings[output].buffer != bindings[other].buffer ||
        a_first >= b_first + exec->extent[other] * b_size ||
        b_first >= a_first + exec->extent[output] * a_size ||
        side_by_side(a, b, b_first - a_first) || side_by_side(b, a, a_first - b_first))
        return KF_OK;
    const bool same = a_first == b_first && a->dtype == b->dtype && a->rank == b->rank &&
                      !memcmp(a->size, b->size, sizeof a->size) &&
                      !memcmp(a->stride, b->stride, sizeof a->stride);
    if (decl[other].role == KF_INPUT && same && kf_listed(decl[output].alias, decl[other].name))
        return KF_OK;
    return kf_fail(KF_INVALID, "kf_run: '%s' overlaps '%s' in memory; op %s allows %s",
                   decl[output].name, decl[other].name, problem->op->name,
                   decl[output].alias ? "only exactly the same elements" : "no such sharing");
}

static kf_status check_aliases(const kf_exec *exec, const kf_binding *bindings)
{
    const kf_op *op = exec->plan->problem.op;
    for (int i = 0; i < op->tensor_count; i++)
        for (int j = 0; j < op->tensor_count; j++) {
            const bool both = i != j && exec->extent[i] && exec->extent[j];
            if (!both || op->tensors[i].role != KF_OUTPUT ||
                (op->tensors[j].role == KF_OUTPUT && j < i))
                continue;
            const kf_status status = check_alias(exec, i, j, bindings);
            if (status != KF_OK)
                return status;
        }
    return KF_OK;
}

static kf_status check_run(const kf_exec *exec, kf_queue *queue, const kf_binding *bindings,
                           kf_buffer *workspace)
{
    if (!exec || !queue || !bindings)
        return kf_fail(KF_INVALID, "kf_run: an exec, a queue and bindings are needed");
    if (queue->device != exec->device)
        return kf_fail(KF_INVALID, "kf_run: the queue belongs to another device than the exec");
    for (int i = 0; i < exec->plan->problem.op->tensor_count; i++) {
        if (!exec->extent[i] || !exec->plan->problem.tensor[i].dtype)
            continue;
        const kf_status status = check_binding(exec, i, &bindings[i]);
        if (status != KF_OK)
            return status;
        const kf_dtype dtype = exec->plan->problem.tensor[i].dtype;
        if (workspace == bindings[i].buffer &&
            bindings[i].offset * kf_dtype_bytes(dtype) < (int64_t)exec->plan->scratch_bytes)
            return kf_fail(KF_INVALID, "kf_run: the workspace and the tensor '%s' share memory",
                           exec->plan->problem.op->tensors[i].name);
    }
    if (workspace &&
        (workspace->device != exec->device || workspace->bytes < exec->plan->scratch_bytes))
        return kf_fail(KF_INVALID,
                       "kf_run: the workspace holds %zu bytes; %zu on the exec's device are needed",
                       workspace->bytes, exec->plan->scratch_bytes);
    if (workspace && workspace->alignment % WORKSPACE_ALIGNMENT)
        return kf_fail(KF_INVALID, "kf_run: the workspace needs an address of %d-byte alignment",
                       WORKSPACE_ALIGNMENT);
    return check_aliases(exec, bindings);
}

static kf_status run_steps(kf_exec *exec, kf_queue *queue, int first, int count,
                           const kf_binding *bindings, kf_buffer *workspace)
{
    kf_status status = check_run(exec, queue, bindings, workspace);
    for (int s = first; status == KF_OK && s < first + count; s++) {
        patch(exec, s, bindings, workspace ? workspace : exec->workspace);
        status = kf_launch_enqueue(queue, &exec->step[s].launch);
    }
    return status;
}

kf_status kf_run(kf_exec *exec, kf_queue *queue, const kf_binding *bindings, kf_buffer *workspace)
{
    return run_steps(exec, queue, 0, exec ? exec->plan->step_count : 0, bindings, workspace);
}

kf_status kf_run_step(kf_exec *exec, kf_queue *queue, int step, const kf_binding *bindings,
                      kf_buffer *workspace)
{
    if (exec && (step < 0 || step >= exec->plan->step_count))
        return kf_fail(KF_INVALID, "the plan has %d steps, no step %d", exec->plan->step_count,
                       step);
    return run_steps(exec, queue, step, 1, bindings, workspace);
}
