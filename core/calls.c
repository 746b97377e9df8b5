/* Execs kept by what they were prepared for, behind the typed calls. SPDX-License-Identifier:
 * Apache-2.0 */
#include "front.h"
#include "op.h"
#include <stdlib.h>
#include <string.h>

enum {
    USUAL_CAPACITY = 64,
    HEAD_WORDS = 2, /* op, whether numbers are given */
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
};

/* ---- keys --------------------------------------------------------------------------------- */

static void put(call_key *key, int64_t word)
{
    key->word[key->words++] = word;
    key->hash = (key->hash ^ (uint64_t)word) * UINT64_C(0x9e3779b97f4a7c15);
    key->hash ^= key->hash >> 29;
}

static void put_tensor(call_key *key, const kf_tensor *t)
{
    put(key, t->dtype | t->rank << 8 | (int64_t)t->alignment << 16);
    for (int i = 0; i < t->rank; i++) {
        put(key, t->size[i]);
        put(key, t->stride[i]);
    }
}

static kf_status make_key(call_key *key, const kf_op *op, const kf_operand *const *operands,
                          const kf_number *numbers)
{
    static const kf_tensor absent = {.dtype = KF_NONE};
    key->words = 0;
    key->hash = 1;
    put(key, (int64_t)(intptr_t)op);
    put(key, numbers != NULL);
    for (int i = 0; numbers && i < op->attribute_count; i++)
        put(key, numbers[i].i); /* the bits of a real number as well */
    for (int i = 0; i < op->tensor_count; i++) {
        const kf_tensor *t = operands[i] ? &operands[i]->tensor : &absent;
        if (t->rank < 0 || t->rank > KF_MAX_RANK)
            return kf_fail(KF_INVALID, "tensor '%s' has rank %d; 0 to %d are possible",
                           op->tensors[i].name, t->rank, KF_MAX_RANK);
        put_tensor(key, t);
    }
    return KF_OK;
}

static call_entry *find(kf_calls *calls, const call_key *key)
{
    for (int i = 0; i < calls->count; i++) {
        call_entry *e = &calls->entry[i];
        if (e->hash == key->hash && e->words == key->words &&
            !memcmp(e->word, key->word, (size_t)key->words * sizeof *e->word))
            return e;
    }
    return NULL;
}

/* ---- making ------------------------------------------------------------------------------- */

static kf_status describe(kf_problem *problem, const kf_operand *const *operands,
                          const kf_number *numbers)
{
    const kf_op *op = problem->op;
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && numbers && i < op->attribute_count; i++)
        status = op->attributes[i].real
                     ? kf_problem_float(problem, op->attributes[i].name, numbers[i].f)
                     : kf_problem_int(problem, op->attributes[i].name, numbers[i].i);
    for (int i = 0; status == KF_OK && i < op->tensor_count; i++)
        if (operands[i])
            status = kf_problem_tensor(problem, op->tensors[i].name, &operands[i]->tensor);
    return status;
}

static kf_status make_exec(const kf_calls *calls, const kf_op *op,
                           const kf_operand *const *operands, const kf_number *numbers,
                           kf_exec **exec)
{
    kf_device *device = calls->queue->device;
    kf_problem *problem;
    kf_plan *plan = NULL;
    kf_status status = kf_problem_open(op->name, &problem);
    if (status == KF_OK)
        status = describe(problem, operands, numbers);
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
        return kf_fail(KF_INVALID,
                       "kf_call: no room for another exec while the queue is recording");
    return KF_CALL(calls->queue->device, finish, calls->queue);
}

static void drop(kf_calls *calls, call_entry *e)
{
    kf_exec_close(e->exec);
    free(e->word);
    *e = calls->entry[--calls->count];
}

static kf_status make_room(kf_calls *calls)
{
    if (calls->count < calls->capacity)
        return KF_OK;
    call_entry *oldest = &calls->entry[0];
    for (int i = 1; i < calls->count; i++)
        if (calls->entry[i].used < oldest->used)
            oldest = &calls->entry[i];
    const kf_status status = drain(calls);
    if (status == KF_OK)
        drop(calls, oldest);
    return status;
}

static kf_status add(kf_calls *calls, const call_key *key, const kf_op *op,
                     const kf_operand *const *operands, const kf_number *numbers,
                     call_entry **entry)
{
    const size_t bytes = (size_t)key->words * sizeof *key->word;
    kf_exec *exec;
    kf_status status = make_exec(calls, op, operands, numbers, &exec);
    if (status != KF_OK)
        return status;
    int64_t *word = malloc(bytes);
    status = word ? make_room(calls)
                  : kf_fail(KF_OUT_OF_MEMORY, "kf_call: no host memory for another exec");
    if (status != KF_OK) {
        free(word);
        kf_exec_close(exec);
        return status;
    }
    memcpy(word, key->word, bytes);
    *entry = &calls->entry[calls->count++];
    **entry = (call_entry){.hash = key->hash, .words = key->words, .word = word, .exec = exec};
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
    }
    if (!made || !made->entry) {
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
    free(calls);
}

int kf_calls_ready(const kf_calls *calls)
{
    return calls ? calls->count : 0;
}

kf_status kf_call(kf_calls *calls, const char *op, const kf_operand *const *operands,
                  const kf_number *numbers)
{
    kf_binding binding[KF_MAX_TENSORS] = {{.buffer = NULL}};
    call_key key;
    const kf_op *found = kf_op_find(op);
    if (!calls || !operands || !found)
        return kf_fail(KF_INVALID, "kf_call: %s",
                       !found ? "there is no such op" : "calls and operands are needed");
    kf_status status = make_key(&key, found, operands, numbers);
    if (status != KF_OK)
        return status;
    call_entry *e = find(calls, &key);
    if (!e)
        status = add(calls, &key, found, operands, numbers, &e);
    if (status != KF_OK)
        return status;
    e->used = ++calls->clock;
    for (int i = 0; i < found->tensor_count; i++)
        if (operands[i])
            binding[i] = (kf_binding){.buffer = operands[i]->buffer, .offset = operands[i]->offset};
    return kf_run(e->exec, calls->queue, binding, NULL);
}
