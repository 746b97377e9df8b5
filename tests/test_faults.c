/* label: opencl */
/* timeout: 900 */
/* Every slot call between opening a device and reading a result fails once and then for ever, on
 * the real OpenCL device and on the null backend: the documented status, a sentence that names the
 * call, no handle left open, and the same device does the next call right, bit by bit. The CUDA
 * backend meets the same, a level deeper, in test_cuda_backend (every call of a driver without a
 * GPU). SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/cache.h"
#include "../core/op.h"
#include "../harness/verify.h"

enum { MAX_SUBJECTS = 512, MAX_BYTES = 1 << 16 };

typedef struct subject { /* one variant of one op on one backend */
    const kf_backend *table;
    const kf_op *op;
    const kf_variant *variant;
    char name[128];
    int points;
    int per_slot[KF_SLOT_COUNT];
} subject;

static subject subjects[MAX_SUBJECTS];
static int subject_count;

static const char *const slot_names[] = {
#define SLOT(verb, parameters) #verb,
    KF_SLOTS(SLOT)
#undef SLOT
};

/* ---- one call of the library, from queue to result ------------------------------------------ */

typedef struct session {
    kf_queue *queue, *other;
    kf_buffer *buffer[KF_MAX_TENSORS];
    kf_binding binding[KF_MAX_TENSORS];
    kf_recording *recording;
    kf_plan *plan;
    kf_exec *exec;
} session;

static void session_close(session *s)
{
    kf_recording_close(s->recording);
    kf_exec_close(s->exec);
    kf_plan_close(s->plan);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(s->buffer[i]);
    kf_queue_close(s->queue);
    kf_queue_close(s->other);
}

static kf_status make_plan(const subject *on, kf_device *device, kf_plan **plan)
{
    static const int64_t rows[KF_MAX_DIMS] = {7, 33, 1, 1, 1, 1}, flat[KF_MAX_DIMS] = {777};
    kf_problem *problem;
    kf_status status = kf_problem_open(on->op->name, &problem);
    if (status != KF_OK)
        return status;
    status = kf_problem_shape(problem, KF_F32, kf_op_dim_count(on->op) == 1 ? flat : rows,
                              on->variant->tensors);
    if (status == KF_OK)
        status = kf_plan_open(problem, &(kf_plan_desc){.variant = on->variant->name},
                              kf_device_target(device), plan);
    kf_problem_close(problem);
    return status;
}

static size_t tensor_bytes(const kf_plan *plan, int i)
{
    const kf_tensor *t = &plan->problem.tensor[i];
    return (size_t)(kf_tensor_elements(t) * kf_dtype_bytes(t->dtype));
}

static kf_status open_buffers(session *s, kf_device *device)
{
    const kf_op *op = s->plan->problem.op;
    float data[MAX_BYTES / sizeof(float)];
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < op->tensor_count; i++) {
        if (!s->plan->problem.tensor[i].dtype)
            continue;
        const size_t bytes = tensor_bytes(s->plan, i);
        assert_true(bytes <= sizeof data);
        status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = bytes}, &s->buffer[i]);
        if (status == KF_OK)
            status = kf_buffer_fill(s->queue, s->buffer[i], 0, bytes, 0x7ff1, 2);
        s->binding[i].buffer = s->buffer[i];
        if (status != KF_OK || op->tensors[i].role != KF_INPUT)
            continue;
        kf_inputs_fill_tensor(&s->plan->problem, i, data, KF_DIST_NORMAL, 11);
        status = kf_buffer_write(s->queue, s->buffer[i], 0, data, bytes);
    }
    return status;
}

/* Directly, and where the device can as a recording too. */
static kf_status run(session *s, kf_device *device)
{
    double seconds;
    kf_status status = kf_queue_mark(s->queue, 0);
    if (status == KF_OK)
        status = kf_run(s->exec, s->queue, s->binding, NULL);
    if (status == KF_OK)
        status = kf_queue_mark(s->queue, 1);
    if (status == KF_OK)
        status = kf_queue_elapsed(s->queue, 0, 1, &seconds);
    if (status != KF_OK || !(kf_device_target(device)->capabilities & KF_CAP_REPLAY))
        return status;
    status = kf_record_begin(s->queue);
    if (status == KF_OK)
        status = kf_run(s->exec, s->queue, s->binding, NULL);
    if (status == KF_OK)
        status = kf_record_end(s->queue, &s->recording);
    return status == KF_OK ? kf_replay(s->queue, s->recording) : status;
}

/* The outputs go through a copy on the device and the second queue. */
static kf_status read_outputs(session *s, kf_device *device, char *result)
{
    const kf_op *op = s->plan->problem.op;
    kf_status status = kf_queue_wait(s->other, s->queue);
    for (int i = 0; status == KF_OK && i < op->tensor_count; i++) {
        if (op->tensors[i].role != KF_OUTPUT || !s->buffer[i])
            continue;
        kf_buffer *copy = NULL;
        const size_t bytes = tensor_bytes(s->plan, i);
        status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = bytes}, &copy);
        if (status == KF_OK)
            status = kf_buffer_copy(s->other, copy, 0, s->buffer[i], 0, bytes);
        if (status == KF_OK)
            status = kf_queue_finish(s->other);
        if (status == KF_OK)
            status = kf_buffer_read(s->other, copy, 0, result, bytes);
        kf_buffer_close(copy);
        result += bytes;
    }
    return status;
}

static kf_status call(const subject *on, kf_device *device, char *result)
{
    session s = {0};
    memset(result, 0, MAX_BYTES);
    kf_status status = make_plan(on, device, &s.plan);
    if (status == KF_OK)
        status = kf_queue_open(device, NULL, &s.queue);
    if (status == KF_OK)
        status = kf_queue_open(device, NULL, &s.other);
    if (status == KF_OK)
        status = open_buffers(&s, device);
    if (status == KF_OK)
        status = kf_prepare(s.plan, device, &s.exec);
    if (status == KF_OK)
        status = run(&s, device);
    if (status == KF_OK)
        status = read_outputs(&s, device, result);
    session_close(&s);
    return status;
}

static kf_status open_device(const subject *on, kf_device **device)
{
    int count;
    const kf_status status = on->table->enumerate(NULL, 0, &count);
    *device = NULL;
    if (status != KF_OK)
        return status;
    return kf_device_open_on(on->table, NULL, device);
}

/* ---- faults --------------------------------------------------------------------------------- */

/* What the caller is told when a call of the slot fails. A handle is closed whatever its driver
 * says, and a kernel that cannot be kept on disk is compiled again next time: neither is the
 * caller's concern. */
static kf_status documented(kf_slot slot, kf_status injected)
{
    switch (slot) {
    case KF_SLOT_device_close:
    case KF_SLOT_queue_close:
    case KF_SLOT_buffer_close:
    case KF_SLOT_program_close:
    case KF_SLOT_kernel_close:
    case KF_SLOT_recording_close:
    case KF_SLOT_program_save:
        return KF_OK;
    default:
        return injected;
    }
}

static kf_status typical(kf_slot slot)
{
    return slot == KF_SLOT_buffer_open     ? KF_OUT_OF_MEMORY
           : slot == KF_SLOT_program_build ? KF_BUILD_FAILED
           : slot == KF_SLOT_device_open   ? KF_UNAVAILABLE
                                           : KF_DEVICE_FAILED;
}

static void judge(const subject *on, const kf_fault *fault, kf_status status)
{
    const kf_status expected = documented(fault->slot, fault->status);
    char call_name[64];
    snprintf(call_name, sizeof call_name, "%s_%s", on->table->name, slot_names[fault->slot]);
    if (status != expected)
        fail_msg("%s: call %d of %s failed%s: %s instead of %s: %s", on->name, fault->nth,
                 call_name, fault->forever ? " for ever" : "", kf_status_name(status),
                 kf_status_name(expected), kf_error());
    if (expected != KF_OK && !strstr(kf_error(), call_name))
        fail_msg("%s: \"%s\" does not name %s", on->name, kf_error(), call_name);
}

/* The device of the failure does the next call right; now and then the verifier confirms it. */
static void recover(subject *on, kf_device *device, const char *golden)
{
    static char result[MAX_BYTES];
    kf_device *fresh = NULL;
    if (!device && open_device(on, &fresh) != KF_OK)
        fail_msg("%s: no device after the failure: %s", on->name, kf_error());
    device = device ? device : fresh;
    assert_int_equal(device->live, 0);
    const kf_status status = call(on, device, result);
    if (status != KF_OK)
        fail_msg("%s: the next call fails too: %s", on->name, kf_error());
    if (memcmp(result, golden, MAX_BYTES))
        fail_msg("%s: the call after the failure gives other bits", on->name);
    if (on->points % 5 == 0 && !on->table->pretended) {
        kf_plan *plan;
        kf_queue *queue;
        kf_verify_report report;
        assert_int_equal(make_plan(on, device, &plan), KF_OK);
        assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
        assert_int_equal(kf_verify(plan, device, queue, NULL, &report), KF_OK);
        if (!report.passed)
            fail_msg("%s: %s", on->name, report.reason);
        kf_queue_close(queue);
        kf_plan_close(plan);
    }
    assert_int_equal(device->live, 0);
    kf_device_close(device);
}

/* False when the run makes fewer such calls. */
static bool fail_one(subject *on, const kf_fault *fault, const char *golden)
{
    static char result[MAX_BYTES];
    kf_device *device = NULL;
    kf_cache_summary removed;
    if (fault->slot == KF_SLOT_program_save || fault->slot == KF_SLOT_program_build)
        kf_cache_clear(&removed); /* compiled anew: what is loaded has a test of its own */
    kf_fault_set(fault);
    kf_status status = open_device(on, &device);
    if (status == KF_OK)
        status = call(on, device, result);
    if (device && fault->slot == KF_SLOT_device_close) {
        kf_device_close(device); /* the pointer is gone, whatever the driver said */
        device = NULL;
    }
    const bool reached = kf_fault_count() > fault->nth;
    kf_fault_set(NULL);
    if (!reached) {
        assert_int_equal(status, KF_OK);
        kf_device_close(device);
        return false;
    }
    judge(on, fault, status);
    on->points++;
    on->per_slot[fault->slot]++;
    recover(on, device, golden);
    return true;
}

/* Mistakes: an error path that leaks, crashes, answers KF_OK, says nothing, or spoils the device.
 */
static void every_failing_call_is_reported_and_survived(void **state)
{
    subject *on = *state;
    static char golden[MAX_BYTES];
    char slots[1024] = "";
    kf_device *device;
    assert_int_equal(open_device(on, &device), KF_OK);
    kf_status status = call(on, device, golden);
    kf_device_close(device);
    if (status == KF_UNSUPPORTED) {
        fprintf(stderr, "%s: %s\n", on->name, kf_error());
        skip();
    }
    if (status != KF_OK)
        fail_msg("%s without a fault: %s", on->name, kf_error());
    for (int slot = 0, used = 0; slot < KF_SLOT_COUNT; slot++) {
        for (int forever = 0; forever < 2; forever++)
            for (int n = 0; n < 1000; n++)
                if (!fail_one(on,
                              &(kf_fault){.slot = (kf_slot)slot,
                                          .nth = n,
                                          .forever = forever,
                                          .status = typical((kf_slot)slot)},
                              golden))
                    break;
        if (on->per_slot[slot])
            used += snprintf(slots + used, sizeof slots - (size_t)used, " %s %d", slot_names[slot],
                             on->per_slot[slot]);
    }
    fprintf(stderr, "%s: %d fault points:%s\n", on->name, on->points, slots);
    assert_true(on->points >= 20);
}

/* Mistake: a binary that the driver no longer takes is an error. */
static void a_refused_binary_is_compiled_anew(void **state)
{
    subject *on = *state;
    static char golden[MAX_BYTES], result[MAX_BYTES];
    kf_device *device;
    assert_int_equal(open_device(on, &device), KF_OK);
    kf_status status = call(on, device, golden); /* fills the cache */
    if (status == KF_UNSUPPORTED) {
        kf_device_close(device);
        skip();
    }
    assert_int_equal(status, KF_OK);
    const uint64_t before = device->cache_hits;
    assert_int_equal(call(on, device, golden), KF_OK);
    const bool cached = device->cache_hits > before;
    const uint64_t misses = device->cache_misses;
    kf_fault_set(&(kf_fault){.slot = KF_SLOT_program_build, .status = KF_BUILD_FAILED});
    status = call(on, device, result);
    kf_fault_set(NULL);
    assert_int_equal(status, cached ? KF_OK : KF_BUILD_FAILED);
    if (cached) {
        assert_int_equal(device->cache_misses, misses + 1);
        assert_memory_equal(result, golden, MAX_BYTES);
    }
    assert_int_equal(device->live, 0);
    kf_device_close(device);
}

/* ---- main ----------------------------------------------------------------------------------- */

static void add_subjects(const char *backend)
{
    const kf_backend *inner = kf_backend_find(backend), *table = kf_fault_wrap(inner);
    const bool few = getenv("KFUSE_BRIEF") && strcmp(backend, "null") != 0; /* each takes seconds */
    for (int o = 0; kf_ops[o]; o++)
        for (int v = 0; v < kf_ops[o]->variant_count; v++) {
            subject *s = &subjects[subject_count];
            if (kf_ops[o]->internal || kf_op_dim_count(kf_ops[o]) > 2 || (few && o % 4))
                continue;
            if (subject_count == MAX_SUBJECTS) /* one left out would be a silent skip */
                abort();
            *s = (subject){.table = table, .op = kf_ops[o], .variant = &kf_ops[o]->variants[v]};
            snprintf(s->name, sizeof s->name, "%s %s %s", backend, s->op->name, s->variant->name);
            subject_count++;
        }
}

int main(void)
{
    static struct CMUnitTest tests[2 * MAX_SUBJECTS];
    char folder[] = "/tmp/kfuse-faults-XXXXXX", command[80];
    int devices = 0, count = 0, points = 0;
    if (!mkdtemp(folder))
        return 1;
    setenv("KFUSE_CACHE_DIR", folder, 1); /* its own: it is cleared */
    unsetenv("KFUSE_NO_CACHE");
    add_subjects("null");
    if (kf_device_enumerate("opencl", NULL, 0, &devices) == KF_OK && devices)
        add_subjects("opencl");
    else
        fprintf(stderr, "no OpenCL device: %s\n", kf_error());
    for (int i = 0; i < subject_count; i++) {
        tests[count++] =
            (struct CMUnitTest){subjects[i].name, every_failing_call_is_reported_and_survived, NULL,
                                NULL, &subjects[i]};
        tests[count++] =
            (struct CMUnitTest){"a_refused_binary_is_compiled_anew",
                                a_refused_binary_is_compiled_anew, NULL, NULL, &subjects[i]};
    }
    const int failed = _cmocka_run_group_tests("faults", tests, (size_t)count, NULL, NULL);
    for (int i = 0; i < subject_count; i++)
        points += subjects[i].points;
    fprintf(stderr, "%d fault points, each reported and survived\n", points);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0 || failed)
        return 1;
    const char *required = getenv("KFUSE_REQUIRE");
    if (!devices)
        return required && strstr(required, "opencl") ? 1 : 77;
    return points >= 60 ? 0 : 1;
}
