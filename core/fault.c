/* The fault injector: a table that behaves like another one but for the calls that kf_fault_set()
 * names. It is generated from the list of slots, so it wraps any backend, the real ones too. Not
 * for several threads. SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"

/* How each slot's parameters are passed on; a slot without a line here does not compile. */
#define PASS_enumerate (list, capacity, count)
#define PASS_device_open (desc, device)
#define PASS_device_close (device)
#define PASS_probe (device, experiment, answer)
#define PASS_diagnose (list, capacity, count)
#define PASS_queue_open (device, desc, queue)
#define PASS_queue_close (queue)
#define PASS_queue_wait (queue, other)
#define PASS_finish (queue)
#define PASS_queue_native (queue, native)
#define PASS_buffer_open (device, desc, buffer)
#define PASS_buffer_close (buffer)
#define PASS_buffer_write (queue, buffer, offset, data, bytes)
#define PASS_buffer_read (queue, buffer, offset, data, bytes)
#define PASS_buffer_fill (queue, buffer, offset, bytes, pattern, pattern_bytes)
#define PASS_buffer_copy (queue, to, to_offset, from, from_offset, bytes)
#define PASS_program_build (device, desc, program)
#define PASS_program_save (program, data, bytes)
#define PASS_program_close (program)
#define PASS_kernel_open (program, entry, info, kernel)
#define PASS_kernel_close (kernel)
#define PASS_launch (queue, launch)
#define PASS_mark (queue, index)
#define PASS_elapsed (queue, first, last, seconds)
#define PASS_record_begin (queue)
#define PASS_record_end (queue, recording)
#define PASS_replay (queue, recording)
#define PASS_recording_close (recording)

static kf_fault fault;
static bool armed;
static int seen;

void kf_fault_set(const kf_fault *next)
{
    armed = next != NULL;
    fault = next ? *next : (kf_fault){.nth = 0};
    seen = 0;
}

int kf_fault_count(void)
{
    return seen;
}

static bool due(kf_slot slot)
{
    if (!armed || (fault.slot != KF_SLOT_COUNT && fault.slot != slot))
        return false;
    const int place = seen++;
    return place == fault.nth || (fault.forever && place > fault.nth);
}

/* What a failing close would leave behind would be a leak of the injector's, not of the code under
 * test. */
static bool closes(kf_slot slot)
{
    return slot == KF_SLOT_device_close || slot == KF_SLOT_queue_close ||
           slot == KF_SLOT_buffer_close || slot == KF_SLOT_program_close ||
           slot == KF_SLOT_kernel_close || slot == KF_SLOT_recording_close;
}

static kf_status fail(const char *backend, const char *verb)
{
    return kf_fail(fault.status, "%s_%s: %s on purpose (call %d since the fault was set)", backend,
                   verb, kf_status_name(fault.status), seen - 1);
}

/* A slot that is called without an object does not say whose table it is: each wrapped table has
 * functions of its own, which know their place. */
enum { TABLES = 4 };
static const kf_backend *inner[TABLES];
static kf_backend outer[TABLES];

#define FAULTY(table, verb, parameters)                                                            \
    static kf_status fault##table##_##verb parameters                                              \
    {                                                                                              \
        const bool hit = due(KF_SLOT_##verb);                                                      \
        if (hit && !closes(KF_SLOT_##verb))                                                        \
            return fail(inner[table]->name, #verb);                                                \
        const kf_status status = inner[table]->verb PASS_##verb;                                   \
        return hit ? fail(inner[table]->name, #verb) : status;                                     \
    }
#define SLOT(verb, parameters) FAULTY(0, verb, parameters)
KF_SLOTS(SLOT)
#undef SLOT
#define SLOT(verb, parameters) FAULTY(1, verb, parameters)
KF_SLOTS(SLOT)
#undef SLOT
#define SLOT(verb, parameters) FAULTY(2, verb, parameters)
KF_SLOTS(SLOT)
#undef SLOT
#define SLOT(verb, parameters) FAULTY(3, verb, parameters)
KF_SLOTS(SLOT)
#undef SLOT

static const kf_backend faulty[TABLES] = {
#define SLOT(verb, parameters) .verb = fault0_##verb,
    {KF_SLOTS(SLOT)},
#undef SLOT
#define SLOT(verb, parameters) .verb = fault1_##verb,
    {KF_SLOTS(SLOT)},
#undef SLOT
#define SLOT(verb, parameters) .verb = fault2_##verb,
    {KF_SLOTS(SLOT)},
#undef SLOT
#define SLOT(verb, parameters) .verb = fault3_##verb,
    {KF_SLOTS(SLOT)},
#undef SLOT
};

const kf_backend *kf_fault_wrap(const kf_backend *backend)
{
    for (int i = 0; backend && i < TABLES; i++) {
        if (inner[i] == backend)
            return &outer[i];
        if (inner[i])
            continue;
        inner[i] = backend;
        outer[i] = faulty[i];
        outer[i].name = backend->name;
        outer[i].kernels = backend->kernels;
        outer[i].suffix = backend->suffix;
        outer[i].pretended = backend->pretended;
        outer[i].profiler = backend->profiler;
        return &outer[i];
    }
    kf_fail(KF_INVALID, "kf_fault_wrap: no backend, or more than %d of them", TABLES);
    return NULL;
}
