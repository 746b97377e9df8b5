/* label: unit */
/* The typed calls and the store of execs behind them, on the null device, whose launches are
 * counted. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <kfuse/calls.h>
#include <string.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "leaks_rig.h"

typedef struct rig {
    kf_device *device;
    kf_queue *queue;
    kf_buffer *buffer;
    kf_calls *calls;
} rig;

enum { ROOM = 1 << 20 };

static rig *open_rig(rig *r, int capacity)
{
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "null"}, &r->device), KF_OK);
    assert_int_equal(kf_queue_open(r->device, NULL, &r->queue), KF_OK);
    assert_int_equal(kf_buffer_open(r->device, &(kf_buffer_desc){.bytes = ROOM}, &r->buffer),
                     KF_OK);
    assert_int_equal(kf_calls_open(r->queue, capacity, &r->calls), KF_OK);
    return r;
}

static void close_rig(rig *r)
{
    kf_calls_close(r->calls);
    kf_buffer_close(r->buffer);
    kf_queue_close(r->queue);
    assert_int_equal(r->device->live, 0); /* no exec is left behind */
    kf_device_close(r->device);
}

static kf_operand operand(const rig *r, kf_dtype dtype, int64_t rows, int64_t cols, int64_t offset)
{
    kf_operand o = {.buffer = r->buffer, .offset = offset};
    const int64_t size[] = {rows, cols};
    assert_int_equal(kf_tensor_contiguous(dtype, rows ? 2 : 1, rows ? size : size + 1, &o.tensor),
                     KF_OK);
    return o;
}

/* Mistakes: an exec for every call; one exec for different shapes, strides, dtypes, options or
 * tensors. */
static void an_exec_is_kept_for_what_it_was_prepared_for(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 0);
    kf_operand x = operand(&r, KF_F32, 4, 100, 0), y = operand(&r, KF_F32, 4, 100, 1024);
    kf_softmax_options options = kf_softmax_defaults();
    for (int i = 0; i < 3; i++)
        assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    x.offset = 4096;
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK); /* another place is no other exec */
    assert_int_equal(kf_calls_ready(r.calls), 1);
    assert_int_equal(kf_softmax(r.calls, &x, &y, &options), KF_OK);
    assert_int_equal(kf_softmax(r.calls, &x, &y, &options), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 2);
    options.axis = 0;
    assert_int_equal(kf_softmax(r.calls, &x, &y, &options), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 3);
    x.tensor.stride[0] = 128;
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 4);
    x = operand(&r, KF_BF16, 4, 100, 0);
    y = operand(&r, KF_BF16, 4, 100, 2048); /* aligned as above: the dtype alone is another */
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_log_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 6);
    x.offset = 1; /* what was prepared for whole vectors cannot run here */
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    x.offset = 3;
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 7);
    close_rig(&r);
}

/* Mistakes: a new exec for every seed; an option that plans depend on taken for one of each run. */
static void a_seed_is_of_the_run(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 0);
    const kf_operand x = operand(&r, KF_F32, 4, 100, 0),
                     residual = operand(&r, KF_F32, 4, 100, 512),
                     y = operand(&r, KF_F32, 4, 100, 1024);
    kf_dropout_add_options options = kf_dropout_add_defaults();
    for (int i = 0; i < 3; i++) {
        options.seed = i;
        assert_int_equal(kf_dropout_add(r.calls, &x, &residual, &y, &options), KF_OK);
    }
    assert_int_equal(kf_calls_ready(r.calls), 1);
    options.p = 0.25;
    assert_int_equal(kf_dropout_add(r.calls, &x, &residual, &y, &options), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 2);
    for (int i = 0; kf_ops[i]; i++)
        for (int a = 0; a < kf_ops[i]->attribute_count; a++)
            assert_false(kf_ops[i]->attributes[a].per_run && kf_ops[i]->attributes[a].real);
    close_rig(&r);
}

/* Mistakes: an optional tensor in the place of another; a real option read as a whole number;
 * options that are not the table's. */
static void tensors_and_options_reach_their_places(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 0);
    const kf_operand x = operand(&r, KF_F32, 4, 100, 0), y = operand(&r, KF_F32, 4, 100, 1000),
                     weight = operand(&r, KF_F32, 0, 100, 3000),
                     mean = operand(&r, KF_F32, 0, 4, 4000);
    kf_layer_norm_options options = kf_layer_norm_defaults();
    assert_true(options.eps == 1e-5 && options.axis == -1);
    assert_int_equal(kf_layer_norm(r.calls, &x, &weight, NULL, &y, NULL, NULL, &options), KF_OK);
    assert_int_equal(kf_layer_norm(r.calls, &x, NULL, &weight, &y, NULL, NULL, &options), KF_OK);
    assert_int_equal(kf_layer_norm(r.calls, &x, &weight, NULL, &y, &mean, NULL, &options), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 3);
    options.eps = 1e-6;
    assert_int_equal(kf_layer_norm(r.calls, &x, &weight, NULL, &y, NULL, NULL, &options), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 4);
    assert_int_equal(kf_layer_norm(r.calls, &x, &mean, NULL, &y, NULL, NULL, &options), KF_INVALID);
    assert_non_null(strstr(kf_error(), "weight"));
    assert_true(kf_bias_gelu_defaults().approximate == KF_BIAS_GELU_APPROXIMATE_NONE);
    assert_int_equal(KF_BIAS_GELU_APPROXIMATE_TANH, 1);
    close_rig(&r);
}

/* Mistakes: a refused call that leaves half an exec; one that spoils what was ready. */
static void what_is_refused_changes_nothing(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 0);
    const kf_operand x = operand(&r, KF_F32, 4, 100, 0), y = operand(&r, KF_F32, 4, 100, 1000),
                     other = operand(&r, KF_F16, 4, 100, 1000),
                     far = operand(&r, KF_F32, 4, 100, ROOM);
    kf_operand deep = x;
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_softmax(r.calls, &x, NULL, NULL), KF_INVALID);
    assert_non_null(strstr(kf_error(), "'y'"));
    assert_int_equal(kf_softmax(r.calls, &x, &other, NULL), KF_INVALID);
    assert_int_equal(kf_softmax(r.calls, &x, &far, NULL),
                     KF_INVALID); /* a ready exec, a wrong place */
    assert_int_equal(kf_softmax(NULL, &x, &y, NULL), KF_INVALID);
    deep.tensor.rank = KF_MAX_RANK + 1;
    assert_int_equal(kf_softmax(r.calls, &deep, &y, NULL), KF_INVALID);
    assert_int_equal(kf_call(r.calls, "nothing", (const kf_operand *const[]){&x}, NULL),
                     KF_INVALID);
    const kf_operand wide = operand(&r, KF_F32, 4, 200, ROOM), none_there = {.tensor = wide.tensor};
    assert_int_equal(kf_softmax(r.calls, &wide, &wide, NULL),
                     KF_INVALID); /* a new shape, nowhere */
    assert_int_equal(kf_softmax(r.calls, &none_there, &y, NULL), KF_INVALID);
    assert_non_null(strstr(kf_error(), "kf_softmax: "));
    kf_operand no_type = x;
    no_type.tensor.dtype = KF_NONE;
    assert_int_equal(kf_rms_norm(r.calls, &x, &no_type, &y, NULL, NULL), KF_INVALID);
    deep = x;
    deep.tensor.size[2] = deep.tensor.stride[2] = 77; /* behind the rank: nobody's */
    assert_int_equal(kf_log_softmax(r.calls, &deep, &x, NULL), KF_OK);
    assert_int_equal(kf_log_softmax(r.calls, &x, &x, NULL), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 2);
    kf_calls *none = r.calls;
    assert_int_equal(kf_calls_open(r.queue, -1, &none), KF_INVALID);
    assert_null(none);
    assert_int_equal(kf_calls_open(NULL, 0, &none), KF_INVALID);
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 2);
    close_rig(&r);
}

/* Mistake: an exec is unloaded under a launch that is still in flight. */
static void closing_waits_for_what_was_enqueued(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 0);
    const kf_operand x = operand(&r, KF_F32, 4, 100, 0);
    const uint64_t *waits = &r.device->calls[KF_SLOT_finish];
    assert_int_equal(kf_softmax(r.calls, &x, &x, NULL), KF_OK);
    const uint64_t before = *waits;
    kf_calls_close(r.calls);
    assert_true(*waits > before);
    r.calls = NULL;
    close_rig(&r);
}

/* Mistakes: halves of the same rows taken for an overlap; an overlap taken for halves; both seen
 * from one side only. */
static void views_side_by_side_are_no_overlap(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 0);
    kf_operand x = operand(&r, KF_F32, 8, 100, 0), y = operand(&r, KF_F32, 8, 100, 100);
    x.tensor.stride[0] = y.tensor.stride[0] = 200;
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    assert_int_equal(kf_softmax(r.calls, &y, &x, NULL), KF_OK);
    y.offset = 400 + 100; /* a row further on */
    assert_int_equal(kf_softmax(r.calls, &x, &y, NULL), KF_OK);
    for (int64_t offset = 1; offset < 1600; offset++) {
        y.offset = offset;
        assert_int_equal(kf_softmax(r.calls, &x, &y, NULL) == KF_OK,
                         offset % 200 == 100 || offset >= 7 * 200 + 100);
    }
    kf_operand mean = operand(&r, KF_F32, 0, 8, 100); /* a line across the rows */
    assert_int_equal(kf_layer_norm(r.calls, &x, NULL, NULL, &x, &mean, NULL, NULL), KF_OK);
    mean.offset = 99;
    assert_int_equal(kf_layer_norm(r.calls, &x, NULL, NULL, &x, &mean, NULL, NULL), KF_INVALID);
    close_rig(&r);
}

/* Mistakes: the caller's memory taken for aligned like the library's own, so that whole vectors are
 * read where none begins; elements at an address that is none of theirs. */
static void wrapped_memory_is_aligned_as_its_address(void **state)
{
    static _Alignas(4096) char memory[8192];
    rig r;
    (void)state;
    open_rig(&r, 0);
    kf_operand x = operand(&r, KF_F32, 4, 64, 0);
    const size_t places[] = {0, 128, 4, 132, 2, 1};
    const int ready[] = {1, 1, 2, 2, 2, 2};
    for (int i = 0; i < 6; i++) {
        const kf_buffer_desc wrap = {
            .bytes = 4096, .adopt = true, .native = memory, .native_offset = places[i]};
        assert_int_equal(kf_buffer_open(r.device, &wrap, &x.buffer), KF_OK);
        assert_int_equal(kf_softmax(r.calls, &x, &x, NULL), i < 4 ? KF_OK : KF_INVALID);
        assert_int_equal(kf_calls_ready(r.calls), ready[i]);
        kf_buffer_close(x.buffer);
    }
    assert_non_null(strstr(kf_error(), "4-byte alignment"));
    close_rig(&r);
}

/* Mistakes: more execs than there is room for; the newest one goes; the oldest is the first, not
 * the one that was used longest ago. */
static void the_one_used_longest_ago_makes_room(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 2);
    const kf_operand a = operand(&r, KF_F32, 1, 100, 0), b = operand(&r, KF_F32, 2, 100, 0),
                     c = operand(&r, KF_F32, 3, 100, 0);
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK); /* in place */
    const int one = r.device->live;
    assert_int_equal(kf_softmax(r.calls, &b, &b, NULL), KF_OK);
    const int two = r.device->live;
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK);
    assert_int_equal(kf_softmax(r.calls, &c, &c, NULL), KF_OK); /* b goes */
    assert_int_equal(kf_calls_ready(r.calls), 2);
    assert_int_equal(r.device->live, two);
    assert_true(two > one);
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK); /* is still there */
    assert_int_equal(kf_softmax(r.calls, &b, &b, NULL), KF_OK); /* c goes */
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK);
    assert_int_equal(kf_calls_ready(r.calls), 2);
    close_rig(&r);
}

/* Mistakes: a call that fails for want of room, but is in the recording all the same; an exec that
 * goes for one that never runs. */
static void a_call_that_fails_enqueues_and_closes_nothing(void **state)
{
    rig r;
    (void)state;
    open_rig(&r, 1);
    const kf_operand a = operand(&r, KF_F32, 1, 100, 0), b = operand(&r, KF_F32, 2, 100, 0),
                     far = operand(&r, KF_F32, 2, 100, ROOM);
    const uint64_t *launches = &r.device->calls[KF_SLOT_launch];
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK);
    const uint64_t one = *launches;
    const int live = r.device->live;
    kf_recording *recording;
    r.device->info.target.capabilities |= KF_CAP_REPLAY;
    assert_int_equal(kf_record_begin(r.queue), KF_OK);
    assert_int_equal(kf_softmax(r.calls, &b, &b, NULL), KF_INVALID);
    assert_non_null(strstr(kf_error(), "recording"));
    assert_int_equal(*launches, one);
    assert_int_equal(r.device->live, live);
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK);
    assert_int_equal(kf_record_end(r.queue, &recording), KF_OK);
    kf_recording_close(recording);
    const uint64_t loads = r.device->calls[KF_SLOT_kernel_open];
    assert_int_equal(kf_softmax(r.calls, &far, &far, NULL), KF_INVALID);
    const uint64_t more = r.device->calls[KF_SLOT_kernel_open];
    assert_true(more > loads);
    assert_int_equal(kf_softmax(r.calls, &a, &a, NULL), KF_OK); /* is still there */
    assert_int_equal(r.device->calls[KF_SLOT_kernel_open], more);
    close_rig(&r);
}

/* Mistakes: an exec lost among many, or after others have gone; one that went found again. */
static void many_are_found_again(void **state)
{
    enum { MANY = 40, SHAPES = 60 };
    rig r;
    (void)state;
    open_rig(&r, MANY);
    const uint64_t *opened = &r.device->calls[KF_SLOT_kernel_open];
    for (int turn = 0; turn < 3; turn++) {
        for (int rows = 1; rows <= SHAPES; rows++) {
            const uint64_t before = *opened;
            const kf_operand x = operand(&r, KF_F32, rows, 100, 0);
            assert_int_equal(kf_softmax(r.calls, &x, &x, NULL), KF_OK);
            assert_true(*opened > before); /* those in between had it go */
            const uint64_t after = *opened;
            for (int other = rows < MANY ? rows : MANY; other-- > 0;) {
                const kf_operand y = operand(&r, KF_F32, rows - other, 100, 0);
                assert_int_equal(kf_softmax(r.calls, &y, &y, NULL), KF_OK);
            }
            assert_int_equal(*opened, after);
        }
        assert_int_equal(kf_calls_ready(r.calls), MANY);
    }
    close_rig(&r);
}

/* Mistake: something of an exec, or of its key, that its closing leaves behind. */
static void ten_thousand_execs_leave_nothing(void **state)
{
    rig r;
    held before = {0};
    (void)state;
    open_rig(&r, 1);
    const kf_operand a = operand(&r, KF_F32, 1, 100, 0), b = operand(&r, KF_F32, 2, 100, 0);
    assert_int_equal(kf_rms_norm(r.calls, &a, NULL, &a, NULL, NULL), KF_OK);
    const int live = r.device->live;
    for (int i = 0; i < LEAK_CYCLES / 2; i++) {
        if (i == LEAK_CYCLES / 20)
            before = held_now();
        assert_int_equal(kf_rms_norm(r.calls, &b, NULL, &b, NULL, NULL), KF_OK);
        assert_int_equal(kf_rms_norm(r.calls, &a, NULL, &a, NULL, NULL), KF_OK);
    }
    assert_int_equal(r.device->live, live);
    assert_not_grown(&before, 0);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exec_is_kept_for_what_it_was_prepared_for),
        cmocka_unit_test(a_seed_is_of_the_run),
        cmocka_unit_test(tensors_and_options_reach_their_places),
        cmocka_unit_test(what_is_refused_changes_nothing),
        cmocka_unit_test(closing_waits_for_what_was_enqueued),
        cmocka_unit_test(views_side_by_side_are_no_overlap),
        cmocka_unit_test(wrapped_memory_is_aligned_as_its_address),
        cmocka_unit_test(the_one_used_longest_ago_makes_room),
        cmocka_unit_test(many_are_found_again),
        cmocka_unit_test(a_call_that_fails_enqueues_and_closes_nothing),
        cmocka_unit_test(ten_thousand_execs_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
