/* Execs kept by what they were prepared for, behind the typed calls. SPDX-License-Identifier:
 * Apache-2.0 */
#include "front.h"
#include "op.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    USUAL_CAPACITY = 64,
    MOST_ALIGNMENT = 128, /* no plan asks for more */
    HEAD_WORDS = 2,       /* op, whether numbers are given */
    KEY_WORDS = HEAD_WORDS + KF_MAX_ATTRIBUTES + KF_MAX_TENSORS * (1 + 2 * KF_MAX_RANK)
};

typedef struct call_key { /* equal keys, equal execs: whatever kf_prepare depends on */
    uint64_t hash;
    int words;
    int64_t word[KEY_WORDS];
} call_key;

typedef struct call_entry {
    uint64_t hash, used;
    int words;
    int64_t *word;
    kf_exec *exec;
} call_entry;

struct kf_calls {
    kf_queue *queue;
    int capacity, count;
    uint64_t clock;
    call_entry *entry;
    int *place; /* by hash, at the first free place from there on: 1 + which entry; 0 is free */
    size_t mask;
};

/* ---- tensors where they lie ---------------------------------------------------------------- */

/* Bytes, a power of two, that the operand's address is known to be a multiple of. */
static int32_t alignment_of(const kf_operand *o)
{
    const int64_t offset = o->offset * kf_dtype_bytes(o->tensor.dtype);
    int32_t base =
        o->buffer->alignment ? o->buffer->alignment : o->buffer->device->info.target.base_alignment;
    base = base > MOST_ALIGNMENT ? MOST_ALIGNMENT : base;
    while (base > 1 && offset % base)
        base /= 2;
    return base > kf_dtype_bytes(o->tensor.dtype) ? base : 0;
}

/* Who promises no alignment gets what the place has: plans of whole vectors need it. */
static kf_status place(const kf_calls *calls, const kf_op *op, int i, const kf_operand *o,
                       kf_tensor *tensor)
{
    const char *name = op->tensors[i].name;
    *tensor = (kf_tensor){.dtype = KF_NONE};
    if (!o)
        return KF_OK;
    if (!kf_dtype_bytes(o->tensor.dtype) || o->tensor.rank < 0 || o->tensor.rank > KF_MAX_RANK)
        return kf_fail(KF_INVALID, "'%s' has no dtype or a rank of %d; NULL stands for no tensor",
                       name, o->tensor.rank);
    if (!o->buffer || o->buffer->device != calls->queue->device || o->offset < 0)
        return kf_fail(KF_INVALID,
                       "'%s' needs a buffer of the queue's device and an offset of 0 or more",
                       name);
    *tensor = o->tensor;
    if (!tensor->alignment)
        tensor->alignment = alignment_of(o);
    return KF_OK;
}

/* ---- keys --------------------------------------------------------------------------------- */

static void put(call_key *key, int64_t word)
{
    key->word[key->words++] = word;
    key->hash = (key->hash ^ (uint64_t)word) * UINT64_C(0x9e3779b97f4a7c15);
    key->hash ^= key->hash >> 29;
}

static void put_tensor(call_key *key, const kf_tensor *t)
{
    put(key, t->dtype + t->rank * 256 + (int64_t)t->alignment * 65536);
    for (int i = 0; i < t->rank; i++) {
        put(key, t->size[i]);
        put(key, t->stride[i]);
    }
}

static void make_key(call_key *key, const kf_op *op, const kf_tensor *tensors,
                     const kf_number *numbers)
{
    key->words = 0;
    key->hash = 1;
    put(key, (int64_t)(intptr_t)op);
    put(key, numbers != NULL);
    for (int i = 0; numbers && i < op->attribute_count; i++)
        if (!op->attributes[i].per_run)
            put(key, numbers[i].i); /* the bits of a real number as well */
    for (int i = 0; i < op->tensor_count; i++)
        put_tensor(key, &tensors[i]);
}

static call_entry *find(kf_calls *calls, const call_key *key)
{
    for (size_t p = key->hash & calls->mask; calls->place[p]; p = (p + 1) & calls->mask) {
        call_entry *e = &calls->entry[calls->place[p] - 1];
        if (e->hash == key->hash && e->words == key->words &&
            !memcmp(e->word, key->word, (size_t)key->words * sizeof *e->word))
            return e;
    }
    return NULL;
}

/* There is always room: places are twice the capacity at least. */
static void note_place(kf_calls *calls, int entry)
{
    size_t p = calls->entry[entry].hash & calls->mask;
    while (calls->place[p])
        p = (p + 1) & calls->mask;
    calls->place[p] = entry + 1;
}

static void note_all_places(kf_calls *calls)
{
    memset(calls->place, 0, (calls->mask + 1) * sizeof *calls->place);
    for (int i = 0; i < calls->count; i++)
        note_place(calls, i);
}

/* ---- making ------------------------------------------------------------------------------- */

static kf_status describe(kf_problem *problem, const kf_tensor *tensors, const kf_number *numbers)
{
    const kf_op *op = problem->op;
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && numbers && i < op->attribute_count; i++)
        status = op->attributes[i].real
                     ? kf_problem_float(problem, op->attributes[i].name, numbers[i].f)
                     : kf_problem_int(problem, op->attributes[i].name, numbers[i].i);
    for (int i = 0; status == KF_OK && i < op->tensor_count; i++)
        if (tensors[i].dtype)
            status = kf_problem_tensor(problem, op->tensors[i].name, &tensors[i]);
    return status;
}

static kf_status make_exec(const kf_calls *calls, const kf_op *op, const kf_tensor *tensors,
                           const kf_number *numbers, kf_exec **exec)
{
    kf_device *device = calls->queue->device;
    kf_problem *problem;
    kf_plan *plan = NULL;
    kf_status status = kf_problem_open(op->name, &problem);
    if (status == KF_OK)
        status = describe(problem, tensors, numbers);
    if (status == KF_OK)
        status = kf_plan_open(problem, NULL, kf_device_target(device), &plan);
    if (status == KF_OK)
        status = kf_prepare(plan, device, exec);
    kf_plan_close(plan);
    kf_problem_close(problem);
    return status;
}

/* Device work that may still use the execs; an adopted queue is waited for, nothing more. */
static kf_status drain(const kf_calls *calls)
{
    if (calls->queue->recording)
        return kf_fail(KF_INVALID, "no room for another exec while the queue is recording");
    return KF_CALL(calls->queue->device, finish, calls->queue);
}

static void drop(kf_calls *calls, call_entry *e)
{
    kf_exec_close(e->exec);
    free(e->word);
    *e = calls->entry[--calls->count];
}

/* The entry that is to go for another exec, of which no work is left on the device; NULL: none has
 * to. */
static kf_status make_room(kf_calls *calls, call_entry **oldest)
{
    *oldest = NULL;
    if (calls->count < calls->capacity)
        return KF_OK;
    *oldest = &calls->entry[0];
    for (int i = 1; i < calls->count; i++)
        if (calls->entry[i].used < (*oldest)->used)
            *oldest = &calls->entry[i];
    return drain(calls);
}

/* A new exec and its first run; kept only when it could be enqueued. What can fail comes before
 * that, so that a call that fails has enqueued nothing and closed nothing. */
static kf_status run_new(kf_calls *calls, const call_key *key, const kf_op *op,
                         const kf_tensor *tensors, const kf_number *numbers,
                         const kf_binding *bindings)
{
    const size_t bytes = (size_t)key->words * sizeof *key->word;
    kf_exec *exec = NULL;
    call_entry *oldest = NULL;
    int64_t *word = malloc(bytes);
    kf_status status = word ? make_exec(calls, op, tensors, numbers, &exec)
                            : kf_fail(KF_OUT_OF_MEMORY, "no host memory for another exec");
    if (status == KF_OK)
        status = make_room(calls, &oldest);
    if (status == KF_OK)
        status = kf_run(exec, calls->queue, bindings, NULL);
    if (status != KF_OK) {
        free(word);
        kf_exec_close(exec);
        return status;
    }
    if (oldest) {
        drop(calls, oldest);
        note_all_places(calls);
    }
    memcpy(word, key->word, bytes);
    calls->entry[calls->count++] = (call_entry){
        .hash = key->hash, .used = ++calls->clock, .words = key->words, .word = word, .exec = exec};
    note_place(calls, calls->count - 1);
    return KF_OK;
}

/* ---- calls -------------------------------------------------------------------------------- */

kf_status kf_calls_open(kf_queue *queue, int capacity, kf_calls **calls)
{
    if (calls)
        *calls = NULL;
    if (!queue || !calls || capacity < 0)
        return kf_fail(KF_INVALID,
                       "kf_calls_open: a queue, a capacity of 0 or more and a place for "
                       "the result are needed");
    kf_calls *made = calloc(1, sizeof *made);
    if (made) {
        *made = (kf_calls){.queue = queue, .capacity = capacity ? capacity : USUAL_CAPACITY};
        made->entry = calloc((size_t)made->capacity, sizeof *made->entry);
        while (made->mask < 2 * (size_t)made->capacity)
            made->mask = 2 * made->mask + 1;
        made->place = calloc(made->mask + 1, sizeof *made->place);
    }
    if (!made || !made->entry || !made->place) {
        if (made) {
            free(made->entry);
            free(made->place);
        }
        free(made);
        return kf_fail(KF_OUT_OF_MEMORY, "kf_calls_open: no host memory for %d execs", capacity);
    }
    *calls = made;
    return KF_OK;
}

void kf_calls_close(kf_calls *calls)
{
    if (!calls)
        return;
    kf_error_mute(true);
    if (calls->count)
        drain(calls);
    kf_error_mute(false);
    while (calls->count)
        drop(calls, &calls->entry[calls->count - 1]);
    free(calls->entry);
    free(calls->place);
    free(calls);
}

int kf_calls_ready(const kf_calls *calls)
{
    return calls ? calls->count : 0;
}

static kf_status call(kf_calls *calls, const kf_op *op, const kf_operand *const *operands,
                      const kf_number *numbers)
{
    kf_binding binding[KF_MAX_TENSORS] = {{.buffer = NULL}};
    kf_tensor tensor[KF_MAX_TENSORS];
    call_key key;
    for (int i = 0; i < op->tensor_count; i++) {
        const kf_status status = place(calls, op, i, operands[i], &tensor[i]);
        if (status != KF_OK)
            return status;
        if (operands[i])
            binding[i] = (kf_binding){.buffer = operands[i]->buffer, .offset = operands[i]->offset};
    }
    make_key(&key, op, tensor, numbers);
    call_entry *e = find(calls, &key);
    if (!e)
        return run_new(calls, &key, op, tensor, numbers, binding);
    e->used = ++calls->clock;
    for (int i = 0; numbers && i < op->attribute_count; i++)
        if (op->attributes[i].per_run)
            kf_exec_int(e->exec, op->attributes[i].name, numbers[i].i);
    return kf_run(e->exec, calls->queue, binding, NULL);
}

kf_status kf_call(kf_calls *calls, const char *op, const kf_operand *const *operands,
                  const kf_number *numbers)
{
    const kf_op *found = kf_op_find(op);
    if (!found)
        return kf_fail(KF_INVALID, "kf_call: there is no op '%s'", op ? op : "(null)");
    const kf_status status = calls && operands
                                 ? call(calls, found, operands, numbers)
                                 : kf_fail(KF_INVALID, "calls and operands are needed");
    if (status == KF_OK)
        return KF_OK;
    char why[512];
    snprintf(why, sizeof why, "%s", kf_error());
    return kf_fail(status, "kf_%s: %s", op, why);
}
