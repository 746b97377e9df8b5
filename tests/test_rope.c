/* label: opencl */
/* timeout: 900 */
/* Rotary position embedding: what its plans move, which shapes are refused, a reference that knows
 * both pairings, and on every OpenCL device every variant and dtype at head sizes, partial
 * rotation, strides, odd bases, nasty inputs, positions outside of the tables, and in place: the
 * conformance of an op with more than two dims. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "map_rig.h"

enum { X, POSITIONS, COS, SIN, Y };

/* ---- plans -------------------------------------------------------------------------------- */

/* Mistakes: what does not turn counted as turning, a table counted once per head, the copy left out
 * or launched for nothing. */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    const kf_target target = map_target(false);
    for (int partial = 0; partial < 2; partial++) {
        const int64_t half = partial ? 16 : 32, head = 5 * 3, table = 5 * half * 4;
        char text[160];
        snprintf(text, sizeof text, "rope unfused bf16 tokens=5 heads=3 dim=64 places=9 half=%ld",
                 (long)half);
        kf_plan *unfused = map_plan(text, &target);
        snprintf(text, sizeof text, "rope fused bf16 tokens=5 heads=3 dim=64 places=9 half=%ld",
                 (long)half);
        kf_plan *fused = map_plan(text, &target);
        const kf_cost many = kf_plan_cost(unfused), one = kf_plan_cost(fused);
        const int64_t turning = head * 2 * half * 2, rest = head * 64 * 2 - turning;
        assert_int_equal(many.launches, partial ? 5 : 4);
        assert_int_equal(many.bytes_read + many.bytes_written,
                         9 * turning + 2 * rest + 2 * (table + 5 * 8));
        assert_int_equal(one.launches, 1);
        assert_int_equal(one.bytes_read + one.bytes_written,
                         2 * (turning + rest) + 2 * table + 5 * 8);
        assert_int_equal(one.bytes_written, turning + rest);
        kf_plan_close(unfused);
        kf_plan_close(fused);
    }
}

/* Mistake: 16-byte accesses where a head, a stride or a base leaves an address between them. */
static void vectors_need_whole_heads_and_aligned_bases(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        bool vectors;
    } cases[] = {
        {"tokens=5 heads=3 dim=64 places=9 half=32", true},
        {"tokens=5 heads=3 dim=64 places=9 half=16", true},
        {"tokens=5 heads=3 dim=64 places=9 half=32 stride.x=200", true},
        {"tokens=5 heads=3 dim=64 places=9 half=32 stride.x=193", false},
        {"tokens=5 heads=3 dim=64 places=9 half=32 offset.y=1", false},
        {"tokens=5 heads=3 dim=64 places=9 half=32 offset.sin=1", false},
        {"tokens=5 heads=3 dim=66 places=9 half=33", false},
        {"tokens=5 heads=3 dim=68 places=9 half=32", false},
    };
    const kf_target target = map_target(false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[160];
        snprintf(text, sizeof text, "rope fused f16 %s", cases[i].words);
        kf_plan *plan = map_plan(text, &target);
        if ((map_define(plan, "ROPE_VEC") == 8) != cases[i].vectors)
            fail_msg("%s: ROPE_VEC is %ld", text, (long)map_define(plan, "ROPE_VEC"));
        kf_plan_close(plan);
    }
}

/* Mistakes: tables that turn more than a head has, attributes that contradict the tables, heads on
 * top of each other: computed all the same. */
static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const char *const words[] = {
        "tokens=2 heads=2 dim=6 places=9 half=4",
        "tokens=2 heads=2 dim=8 places=9 half=4 rotary_dim=4",
        "tokens=2 heads=2 dim=8 places=9 half=4 interleaved=2",
        "tokens=2 heads=2 dim=8 places=9 half=4 stride.y=12",
    };
    const kf_target target = map_target(false);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char text[160];
        kf_plan *plan;
        snprintf(text, sizeof text, "rope fused f32 %s", words[i]);
        if (case_plan(text, &target, &plan) != KF_INVALID)
            fail_msg("%s is not refused", text);
    }
}

/* ---- reference ---------------------------------------------------------------------------- */

/* A head of four elements, two pairs, at position 1 of 2. */
static double reference_of(const char *words, int column)
{
    const float x[4] = {1, 2, 3, 4}, c[4] = {0, 0, 0.5f, 0.25f}, s[4] = {0, 0, 8, 16};
    const int64_t position = 1;
    const void *inputs[KF_MAX_TENSORS] = {x, &position, c, s};
    const kf_target target = map_target(false);
    char text[160];
    double value, bound;
    snprintf(text, sizeof text, "rope fused f32 tokens=1 heads=1 dim=4 places=2 %s", words);
    kf_plan *plan = map_plan(text, &target);
    assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, inputs, Y, column, 1,
                                                 &value, &bound),
                     KF_OK);
    kf_plan_close(plan);
    return value;
}

/* Mistakes: one pairing taken for the other, the sign of sin, the row of another position. */
static void both_pairings_by_hand(void **state)
{
    (void)state;
    static const double halves[4] = {0.5 - 24, 0.5 - 64, 1.5 + 8, 1 + 32}, /* 1 3, 2 4 */
        neighbours[4] = {0.5 - 16, 1 + 8, 0.75 - 64, 1 + 48};              /* 1 2, 3 4 */
    for (int i = 0; i < 4; i++) {
        assert_true(reference_of("half=2", i) == halves[i]);
        assert_true(reference_of("half=2 interleaved=1", i) == neighbours[i]);
    }
    assert_true(reference_of("half=1 rotary_dim=2", 2) == 3); /* does not turn */
}

/* ---- on devices ----------------------------------------------------------------------------- */

static const char *const variants[] = {"unfused", "fused", "fused_cpu"};

static const char *const shapes[] = {
    "tokens=1 heads=1 dim=2 places=8 half=1",
    "tokens=3 heads=2 dim=64 places=8 half=32",
    "tokens=3 heads=2 dim=64 places=8 half=32 interleaved=1",
    "tokens=7 heads=3 dim=64 places=9 half=16 interleaved=1",
    "tokens=7 heads=5 dim=80 places=9 half=16 rotary_dim=32",
    "tokens=5 heads=3 dim=33 places=11 half=13",
    "tokens=5 heads=3 dim=33 places=11 half=13 interleaved=1",
    "tokens=3 heads=2 dim=64 places=8 half=32 stride.x=136 stride.y=144",
    "tokens=3 heads=2 dim=64 places=8 half=32 stride.x=129 offset.y=3 offset.cos=1",
    "tokens=4 heads=2 dim=32 places=5 half=16", /* positions 5, 6, 7 are outside */
};

static void check_shapes(kf_device *device, kf_queue *queue)
{
    const int count = (int)(sizeof shapes / sizeof *shapes);
    for (int v = 0; v < 3; v++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
            for (int i = 0; i < count; i++) {
                char text[256];
                if (dtype != KF_F32 && i % 2 != dtype % 2)
                    continue; /* compiling takes the time: 16-bit dtypes share the shapes */
                snprintf(text, sizeof text, "rope %s %s %s seed=%d", variants[v],
                         kf_dtype_name((kf_dtype)dtype), shapes[i], 5 + i);
                map_verify(text, device, queue);
            }
}

/* Mistakes: a pair half read and half written, an element behind the turned ones that is not
 * copied, a stride of tokens taken for one of heads, a table read past its end. */
static void every_shape_passes(void **state)
{
    (void)state;
    on_each_device(check_shapes);
}

static void check_nasty(kf_device *device, kf_queue *queue)
{
    const bool few = kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
    for (int v = 0; v < 3; v++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
            for (int d = 0; d < KF_DIST_COUNT; d += few ? 4 : 1) {
                char text[256];
                snprintf(text, sizeof text, "rope %s %s %s seed=%d", variants[v],
                         kf_dtype_name((kf_dtype)dtype), shapes[3 + d % 2], 70 + d);
                map_verify_with(text, device, queue, (kf_distribution)d);
            }
}

/* Mistake: an infinity that meets the wrong neighbour, a NaN that does not come through. */
static void nasty_inputs_pass(void **state)
{
    (void)state;
    on_each_device(check_nasty);
}

static void check_in_place(kf_device *device, kf_queue *queue)
{
    for (int v = 0; v < 3; v++)
        for (int i = 1; i < 7; i++) {
            char text[256];
            snprintf(text, sizeof text, "rope %s %s %s", variants[v],
                     kf_dtype_name((kf_dtype)(KF_F32 + i % 3)), shapes[i]);
            map_in_place(text, device, queue, Y, X);
        }
}

/* Mistake: the second element of a pair computed from the first one's result. */
static void output_may_be_the_input(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(vectors_need_whole_heads_and_aligned_bases),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(both_pairings_by_hand),
        cmocka_unit_test(every_shape_passes),
        cmocka_unit_test(nasty_inputs_pass),
        cmocka_unit_test(output_may_be_the_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
