/* label: unit */
/* The clock on the null backend, which remembers launches and lets each take a microsecond: which
 * launches a sample has, in which order, on which buffers. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/measure.h"
#include "../harness/sets.h"

enum { N = 1024, SET_BYTES = 4 * N * 4, SETS = 5 };

typedef struct rig {
    kf_device *device;
    kf_queue *queue;
    kf_plan *unfused, *fused;
} rig;

/* Room for five sets: 60 % of the memory. */
static kf_target small_target(uint64_t more, int sets)
{
    kf_target target = *kf_target_generic();
    target.capabilities |= more;
    target.memory_bytes = (int64_t)SET_BYTES * sets * 10 / 6 + 64;
    target.max_buffer_bytes = target.memory_bytes;
    target.cache_bytes = 0;
    return target;
}

static kf_plan *make_plan(const char *variant, const kf_target *target)
{
    kf_problem *problem;
    kf_plan *plan;
    assert_int_equal(kf_problem_open("elementwise", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[KF_MAX_DIMS]){N}, NULL), KF_OK);
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.variant = variant}, target, &plan),
                     KF_OK);
    kf_problem_close(problem);
    return plan;
}

static void rig_open_with(rig *r, const kf_backend *table, uint64_t more, int sets)
{
    const kf_target target = small_target(more, sets);
    const kf_device_desc desc = {.target = &target, .no_cache = true};
    assert_int_equal(kf_device_open_on(table, &desc, &r->device), KF_OK);
    assert_int_equal(kf_queue_open(r->device, NULL, &r->queue), KF_OK);
    r->unfused = make_plan("unfused", &target);
    r->fused = make_plan("fused", &target);
}

static void rig_open(rig *r, const kf_backend *table, uint64_t more)
{
    rig_open_with(r, table, more, SETS);
}

static void rig_close(rig *r)
{
    kf_plan_close(r->unfused);
    kf_plan_close(r->fused);
    kf_queue_close(r->queue);
    assert_int_equal(r->device->live, 0);
    kf_device_close(r->device);
}

static kf_subject subject_of(const rig *r, const kf_plan *plan)
{
    return (kf_subject){.plan = plan, .device = r->device, .queue = r->queue, .only_step = -1};
}

static const kf_null_launch *launch_at(const rig *r, int i)
{
    assert_true(i >= 0 && kf_null_launch_count(r->queue) - i <= KF_NULL_LAUNCHES);
    return &kf_null_launches(r->queue)[i % KF_NULL_LAUNCHES];
}

static bool is_entry(const rig *r, int i, const char *entry)
{
    return !strcmp(launch_at(r, i)->entry, entry);
}

static const kf_measure_options brief = {
    .samples = 2, .sample_seconds = 1e-6, .least_launches = 12};

/* ---- numbers ------------------------------------------------------------------------------ */

/* Mistakes: a mean for a median, unsorted samples, a band one sample off. */
static void bands_interpolate_between_sorted_samples(void **state)
{
    (void)state;
    double median, low, high;
    kf_band((const double[]){50, 10, 30, 20, 40, 1000}, 6, &median, &low, &high);
    assert_true(median == 35 && low == 20 && high == 50);
    kf_band((const double[]){4, 8}, 2, &median, &low, &high);
    assert_true(median == 6 && low == 4 + 0.2 * 4 && high == 4 + 0.8 * 4);
    kf_band((const double[]){7}, 1, &median, &low, &high);
    assert_true(median == 7 && low == 7 && high == 7);
    kf_band(NULL, 0, &median, &low, &high);
    assert_true(isnan(median));
}

/* Mistake: the quotient of two medians, which a drift of the clock falsifies. */
static void quotients_pair_the_samples_in_order(void **state)
{
    (void)state;
    const kf_timing a = {.samples = 3, .sample = {2, 40, 600}};
    const kf_timing b = {.samples = 4, .sample = {1, 10, 100, 9}};
    double median, low, high;
    kf_quotient(&a, &b, &median, &low, &high);
    assert_true(median == 4 && low < 4 && high > 4);
}

/* Mistakes: two sets only, sets that fit the cache together, more memory than there is, sets on a
 * CPU. */
static void sets_outgrow_the_cache_and_fit_the_memory(void **state)
{
    (void)state;
    const int64_t mib = 1 << 20, plenty = (int64_t)1 << 40;
    kf_target gpu = *kf_target_generic();
    bool cold;
    gpu.cache_bytes = 4 * mib; /* what one vendor's OpenCL says of 50 MiB */
    assert_int_equal(kf_sets_count(&gpu, 512 * mib, plenty, 1000, false, &cold), 3);
    assert_true(cold);
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, plenty, 1000, false, &cold), 52);
    gpu.cache_bytes = 256 * mib;
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, plenty, 1000, false, &cold), 77);
    assert_true(cold);
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, 100 * mib, 1000, false, &cold), 10);
    assert_false(cold);
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, plenty, 20, false, &cold), 20);
    assert_false(cold);
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, plenty, 1000, true, &cold), 1);
    assert_false(cold);
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, mib, 1000, false, &cold), 1);
    gpu.capabilities |= KF_CAP_CPU;
    assert_int_equal(kf_sets_count(&gpu, 10 * mib, plenty, 1000, false, &cold), 1);
    assert_false(cold);
}

/* ---- what a sample launches --------------------------------------------------------------- */

/* Launches [first, first + count) are runs of `fused`, each on buffers of the next set. */
static void assert_rotates(const rig *r, int first, int count)
{
    for (int i = 0; i < count; i++) {
        const kf_value *value = launch_at(r, first + i)->launch.values;
        assert_true(is_entry(r, first + i, "elementwise_fused"));
        for (int back = 1; back <= SETS && back <= i; back++) {
            const kf_value *other = launch_at(r, first + i - back)->launch.values;
            for (int v = 0; v < 8; v += 2) /* x, y, z, o, each followed by its offset */
                assert_int_equal(value[v].as.buffer == other[v].as.buffer, back == SETS);
        }
    }
}

/* Mistakes: a batch that leaves sets out or comes back to one early; the first mark before the
 * spin, which then counts as part of the batch; nothing in front of the batch, so the host is
 * timed. */
static void queue_path_fills_the_queue_behind_a_spin(void **state)
{
    (void)state;
    rig r;
    kf_timing t;
    rig_open(&r, kf_backend_find("null"), 0);
    const kf_subject subject = subject_of(&r, r.fused);
    assert_int_equal(kf_measure(&subject, 1, &brief, &t), KF_OK);
    assert_string_equal(t.path, "queue");
    assert_int_equal(t.sets, SETS);
    assert_int_equal(t.launches_per_sample, 15); /* whole walks: 12 and more */
    assert_false(t.cold);
    const int end = kf_null_launch_count(r.queue), last = end - t.launches_per_sample;
    assert_rotates(&r, last, t.launches_per_sample);
    assert_true(is_entry(&r, last - 1, "ceilings_spin"));
    for (int s = 0; s < t.samples; s++)
        assert_int_equal(llround(t.sample[s] * t.launches_per_sample * 1e6), 15);
    rig_close(&r);
}

/* Mistakes: a batch of more launches than a driver's queue takes; sets of which only the first ones
 * are used, which then sit in the cache, because every batch begins at the first, or where its own
 * subject's last one ended, on sets that another subject has just used. */
static void batches_go_on_where_the_one_before_ended(void **state)
{
    enum { MANY = 300, LOOK = 900 };
    (void)state;
    rig r;
    kf_timing t[2];
    const void *used[LOOK];
    int count = 0;
    rig_open_with(&r, kf_backend_find("null"), 0, MANY);
    const kf_subject subject[2] = {subject_of(&r, r.fused), subject_of(&r, r.fused)};
    assert_int_equal(kf_measure(subject, 2, &brief, t), KF_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(t[i].sets, MANY);
        assert_int_equal(t[i].launches_per_sample, 256);
    }
    for (int i = kf_null_launch_count(r.queue) - 1; count < LOOK; i--)
        if (is_entry(&r, i, "elementwise_fused"))
            used[count++] = launch_at(&r, i)->launch.values[0].as.buffer;
    for (int i = 0; i < count; i++) {
        for (int back = 1; back < MANY && back <= i; back++)
            assert_ptr_not_equal(used[i], used[i - back]);
        assert_true(i < MANY || used[i] == used[i - MANY]);
    }
    rig_close(&r);
}

/* Mistakes: a recording of one set replayed n times, launches beside the recording, a spin in front
 * of it. */
static void graph_path_replays_a_whole_batch(void **state)
{
    (void)state;
    rig r;
    kf_timing t;
    rig_open(&r, kf_backend_find("null"), KF_CAP_REPLAY);
    kf_subject subject = subject_of(&r, r.fused);
    assert_int_equal(kf_measure(&subject, 1, &brief, &t), KF_OK);
    assert_string_equal(t.path, "graph");
    const int end = kf_null_launch_count(r.queue);
    for (int i = 0; i < end; i++)
        assert_false(is_entry(&r, i, "ceilings_spin"));
    for (int s = 1; s <= t.samples; s++)
        assert_rotates(&r, end - s * t.launches_per_sample, t.launches_per_sample);
    /* every slot of a sample: mark, replay, mark, elapsed */
    assert_int_equal(r.device->calls[KF_SLOT_mark], 2 * r.device->calls[KF_SLOT_replay]);
    subject.plain_stream = true;
    assert_int_equal(kf_measure(&subject, 1, &brief, &t), KF_OK);
    assert_string_equal(t.path, "queue");
    rig_close(&r);
}

/* Mistake: samples of a few microseconds, shorter than the clock's grain. */
static void samples_are_as_long_as_asked(void **state)
{
    (void)state;
    rig r;
    kf_timing t;
    const kf_measure_options long_ones = {.samples = 1, .sample_seconds = 300e-6};
    rig_open(&r, kf_backend_find("null"), KF_CAP_REPLAY);
    const kf_subject subject = subject_of(&r, r.fused);
    assert_int_equal(kf_measure(&subject, 1, &long_ones, &t), KF_OK);
    assert_true(t.launches_per_sample >= 300 && t.launches_per_sample % SETS == 0);
    rig_close(&r);
}

/* Mistakes: all samples of A, then all of B, so a drift of the clock looks like a difference; two
 * sets of buffers where one serves both. */
static void subjects_are_interleaved_and_share_sets(void **state)
{
    (void)state;
    rig r;
    kf_timing t[2];
    rig_open(&r, kf_backend_find("null"), KF_CAP_REPLAY);
    const kf_subject subject[2] = {subject_of(&r, r.unfused), subject_of(&r, r.fused)};
    assert_int_equal(kf_measure(subject, 2, &brief, t), KF_OK);
    assert_int_equal(t[0].sets, SETS);
    assert_int_equal(t[1].sets, SETS);
    assert_int_equal(r.device->calls[KF_SLOT_buffer_open], SETS * 4 + 1); /* and one workspace */
    int at = kf_null_launch_count(r.queue);
    for (int s = 0; s < 2; s++) {
        at -= t[1].launches_per_sample;
        assert_rotates(&r, at, t[1].launches_per_sample);
        at -= 3 * t[0].launches_per_sample;
        assert_true(is_entry(&r, at, "elementwise_mul"));
        assert_true(is_entry(&r, at + 3 * t[0].launches_per_sample - 1, "elementwise_exp"));
    }
    rig_close(&r);
}

/* Mistake: a step timed alone on scratch that nobody has written. */
static void steps_run_alone_after_a_whole_plan(void **state)
{
    (void)state;
    rig r;
    kf_timing t;
    rig_open(&r, kf_backend_find("null"), KF_CAP_REPLAY);
    kf_subject subject = subject_of(&r, r.unfused);
    subject.only_step = 1;
    assert_int_equal(kf_measure(&subject, 1, &brief, &t), KF_OK);
    const int end = kf_null_launch_count(r.queue);
    assert_true(is_entry(&r, 0, "elementwise_mul"));
    for (int i = 1; i <= t.samples * t.launches_per_sample; i++)
        assert_true(is_entry(&r, end - i, "elementwise_add"));
    subject.only_step = 3;
    assert_int_equal(kf_measure(&subject, 1, &brief, &t), KF_INVALID);
    rig_close(&r);
}

/* Mistakes: replay, batches or cold sets on a device whose runs take milliseconds. */
static void cpu_devices_run_once_per_sample(void **state)
{
    (void)state;
    rig r;
    kf_timing t;
    rig_open(&r, kf_backend_find("null"), KF_CAP_CPU);
    const kf_subject subject = subject_of(&r, r.fused);
    assert_int_equal(kf_measure(&subject, 1, NULL, &t), KF_OK);
    assert_int_equal(t.samples, 11);
    assert_int_equal(t.launches_per_sample, 1);
    assert_int_equal(t.sets, 1);
    assert_false(t.cold);
    rig_close(&r);
}

/* ---- what goes wrong ---------------------------------------------------------------------- */

/* Mistake: an interrupted measurement that returns times, or leaves its buffers behind. */
static void cancelled_measurements_have_no_times(void **state)
{
    (void)state;
    rig r;
    kf_timing t;
    volatile int cancel = 1;
    const kf_measure_options options = {.cancel = &cancel};
    rig_open(&r, kf_backend_find("null"), 0);
    const kf_subject subject = subject_of(&r, r.fused);
    assert_int_equal(kf_measure(&subject, 1, &options, &t), KF_UNAVAILABLE);
    assert_non_null(strstr(kf_error(), "interrupted"));
    assert_int_equal(kf_measure(&subject, 0, NULL, &t), KF_INVALID);
    rig_close(&r);
}

static void fail_every_call(uint64_t more)
{
    const kf_backend *table = kf_fault_wrap(kf_backend_find("null"));
    int seen = 1;
    for (int nth = 0; nth < seen; nth++) {
        rig r;
        kf_timing t;
        rig_open(&r, table, more);
        const int live = r.device->live;
        const kf_subject subject = subject_of(&r, r.unfused);
        const kf_fault fault = {.slot = KF_SLOT_COUNT, .nth = nth, .status = KF_DEVICE_FAILED};
        kf_fault_set(&fault);
        const kf_status status = kf_measure(&subject, 1, &brief, &t);
        seen = kf_fault_count() < 400 ? kf_fault_count() : 400;
        kf_fault_set(NULL);
        assert_true(status == KF_OK || status == KF_DEVICE_FAILED);
        assert_int_equal(r.device->live, live);
        assert_false(r.queue->recording);
        r.device->lost = false;
        rig_close(&r);
    }
}

/* Mistakes: a path out of kf_measure that keeps a buffer, an exec, a recording, or leaves the queue
 * recording. */
static void failing_calls_leave_nothing_open(void **state)
{
    (void)state;
    fail_every_call(KF_CAP_REPLAY);
    fail_every_call(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bands_interpolate_between_sorted_samples),
        cmocka_unit_test(quotients_pair_the_samples_in_order),
        cmocka_unit_test(sets_outgrow_the_cache_and_fit_the_memory),
        cmocka_unit_test(queue_path_fills_the_queue_behind_a_spin),
        cmocka_unit_test(batches_go_on_where_the_one_before_ended),
        cmocka_unit_test(graph_path_replays_a_whole_batch),
        cmocka_unit_test(samples_are_as_long_as_asked),
        cmocka_unit_test(subjects_are_interleaved_and_share_sets),
        cmocka_unit_test(steps_run_alone_after_a_whole_plan),
        cmocka_unit_test(cpu_devices_run_once_per_sample),
        cmocka_unit_test(cancelled_measurements_have_no_times),
        cmocka_unit_test(failing_calls_leave_nothing_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
