/* label: unit */
/* Softmax and log softmax along an axis that is not the last: what derive makes of it, what the
 * plans move, the reference; no device. What the kernels compute is judged by
 * test_softmax_axis_runs. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "axis_rig.h"

/* ---- derive ------------------------------------------------------------------------------- */

/* Mistakes: a negative axis counted from the wrong end, sizes on the wrong side of the axis, an
 * axis of one element that hides the last. */
static void sizes_go_before_and_behind_the_axis(void **state)
{
    (void)state;
    static const struct {
        view v;
        int64_t rows, cols, inner;
    } cases[] = {
        {{3, {4, 5, 6}, {0}, -1}, 20, 6, 1},      {{3, {4, 5, 6}, {0}, 2}, 20, 6, 1},
        {{3, {4, 5, 6}, {0}, 1}, 4, 5, 6},        {{3, {4, 5, 6}, {0}, -2}, 4, 5, 6},
        {{3, {4, 5, 6}, {0}, 0}, 1, 4, 30},       {{3, {4, 5, 6}, {0}, -3}, 1, 4, 30},
        {{2, {7, 3}, {0}, 0}, 1, 7, 3},           {{1, {9}, {0}, 0}, 1, 9, 1},
        {{4, {2, 3, 4, 5}, {0}, 2}, 6, 4, 5},     {{4, {2, 3, 4, 5}, {0}, -3}, 2, 3, 20},
        {{3, {4, 5, 1}, {0}, 1}, 4, 5, 1},        {{3, {4, 1, 6}, {0}, 1}, 4, 1, 6},
        {{2, {7, 3}, {8, 1}, 0}, 1, 7, 3},        {{3, {4, 5, 6}, {6, 24, 1}, 1}, 4, 5, 6},
        {{3, {4, 5, 6}, {48, 8, 1}, 1}, 4, 5, 6}, {{3, {1, 5, 6}, {2, 6, 1}, 1}, 1, 5, 6},
        {{3, {4, 0, 6}, {0}, 1}, 4, 0, 6},        {{3, {4, 5, 0}, {0}, 1}, 4, 5, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_problem *p = problem_of("softmax", KF_F32, &cases[i].v);
        if (kf_problem_derive(p) != KF_OK)
            fail_msg("case %zu: %s", i, kf_error());
        if (p->dim[0] != cases[i].rows || p->dim[1] != cases[i].cols || p->inner != cases[i].inner)
            fail_msg("case %zu: %ldx%ldx%ld", i, (long)p->dim[0], (long)p->dim[1], (long)p->inner);
        assert_int_equal(p->empty, cases[i].cols == 0 || cases[i].inner == 0);
        kf_problem_close(p);
    }
}

/* Mistake: what is no axis, or lies on top of itself, is computed all the same. */
static void what_is_no_axis_is_refused(void **state)
{
    (void)state;
    static const struct {
        view v;
        const char *sentence;
    } cases[] = {
        {{3, {4, 5, 6}, {0}, 3}, "axis=3"},
        {{3, {4, 5, 6}, {0}, -4}, "axis=-4"},
        {{1, {4}, {0}, 1}, "axis=1"},
        {{3, {4, 5, 6}, {60, 12, 2}, 1}, "behind axis 1"},
        {{4, {2, 3, 4, 5}, {60, 20, 6, 1}, 1}, "behind axis 1"},
        {{4, {2, 3, 4, 5}, {100, 20, 5, 1}, 2}, "before axis 2"},
        {{3, {4, 5, 6}, {30, 3, 1}, 1}, "overlaps"},
        {{3, {4, 5, 6}, {20, 6, 1}, 1}, "overlaps"},
        {{3, {4, 5, 6}, {30, 0, 1}, 1}, "overlaps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kf_problem *p = problem_of("log_softmax", KF_BF16, &cases[i].v);
        assert_int_equal(kf_problem_derive(p), KF_INVALID);
        if (!strstr(kf_error(), cases[i].sentence))
            fail_msg("case %zu: %s", i, kf_error());
        kf_problem_close(p);
    }
}

/* Mistakes: the inner size lost on the way through the text; an axis that contradicts the dims. */
static void a_case_names_what_lies_behind_the_axis(void **state)
{
    (void)state;
    static const char *const text = "softmax fused f32 rows=4 cols=5 inner=6 stride.x=8 seed=3";
    char again[200];
    kf_case c;
    kf_plan *plan;
    const kf_target target = map_target(false);
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    kf_case_print(&c, again, sizeof again);
    assert_string_equal(again, text);
    plan = map_plan(text, &target);
    assert_int_equal(plan->problem.inner, 6);
    assert_int_equal(plan->problem.step[X], 8);
    assert_int_equal(plan->problem.row_stride[X], 40);
    assert_int_equal(plan->problem.step[Y], 6);
    kf_plan_close(plan);
    kf_plan_close(map_plan("softmax fused f32 rows=4 cols=5 inner=6 axis=1", &target));
    kf_plan_close(map_plan("softmax fused f32 rows=4 cols=5 axis=-1", &target));
    assert_int_equal(case_plan("softmax fused f32 rows=4 cols=5 inner=6 axis=0", &target, &plan),
                     KF_INVALID);
    assert_int_equal(case_plan("softmax fused f32 rows=4 cols=5 axis=0", &target, &plan),
                     KF_INVALID);
    assert_int_equal(kf_case_parse("softmax fused f32 rows=4 cols=5 inner=0", &c), KF_INVALID);
    assert_int_equal(kf_case_parse("layer_norm fused f32 rows=4 cols=5 inner=2", &c), KF_INVALID);
}

/* ---- plans -------------------------------------------------------------------------------- */

/* Mistakes: a second read of what registers hold, a promise that cannot be kept, a baseline that
 * moves more than along the last axis. */
static void traffic_is_that_of_as_many_rows(void **state)
{
    (void)state;
    const kf_target target = map_target(false);
    for (int o = 0; o < 2; o++)
        for (int inner = 5; inner <= 64; inner += 59) {
            char text[120];
            snprintf(text, sizeof text, "%s unfused f32 rows=3 cols=1000 inner=%d", ops[o], inner);
            kf_plan *across = map_plan(text, &target);
            snprintf(text, sizeof text, "%s unfused f32 rows=%d cols=1000", ops[o], 3 * inner);
            kf_plan *along = map_plan(text, &target);
            const kf_cost a = kf_plan_cost(across), b = kf_plan_cost(along);
            assert_int_equal(a.launches, 5);
            assert_int_equal(a.bytes_read, b.bytes_read);
            assert_int_equal(a.bytes_written, b.bytes_written);
            assert_int_equal(a.scratch_bytes, b.scratch_bytes);
            kf_plan_close(across);
            kf_plan_close(along);
            for (int wide = 0; wide < 2; wide++) {
                const int64_t cols = wide ? 100000 : 1000, bytes = 3 * cols * inner * 4;
                snprintf(text, sizeof text, "%s fused f32 rows=3 cols=%ld inner=%d", ops[o],
                         (long)cols, inner);
                kf_plan *fused = map_plan(text, &target);
                const kf_cost one = kf_plan_cost(fused);
                assert_int_equal(one.launches, 1);
                assert_int_equal(one.bytes_read, bytes);
                assert_int_equal(one.bytes_requested, wide ? 2 * bytes : bytes);
                kf_plan_close(fused);
            }
        }
}

/* Mistake: 16-byte accesses where a line, a stride or a base leaves an address between them. */
static void vectors_need_aligned_lines(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        bool aligned;
    } cases[] = {
        {"inner=64", true},
        {"inner=8", true},
        {"inner=12", false},
        {"inner=64 stride.x=72", true},
        {"inner=64 stride.y=68", false},
        {"inner=64 offset.x=8", true},
        {"inner=64 offset.y=4", false},
    };
    const kf_target target = map_target(false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[120];
        snprintf(text, sizeof text, "softmax fused bf16 rows=3 cols=20 %s", cases[i].words);
        kf_plan *plan = map_plan(text, &target);
        if (map_define(plan, "ALIGNED") != cases[i].aligned)
            fail_msg("%s: ALIGNED is %ld", text, (long)map_define(plan, "ALIGNED"));
        kf_plan_close(plan);
    }
}

/* A big GPU, a small GPU without shuffles, a CPU. */
static kf_target target_of(int kind)
{
    kf_target target = map_target(kind == 2);
    target.max_threads = kind ? 256 : 1024;
    target.local_bytes = kind ? 32768 : 232448;
    target.warp = kind ? 1 : 32;
    if (kind == 0)
        target.capabilities |= KF_CAP_SHUFFLE | KF_CAP_CLUSTERS | KF_CAP_PTX;
    target.max_cluster = kind ? 0 : 16;
    target.registers_per_unit = kind ? 0 : 65536;
    return target;
}

/* Mistake: sizes that fall between two tables of defaults. */
static void every_size_has_a_plan(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 7, 8, 31, 32, 33, 64, 500, 513, 1025, 2048, 2049, 50000};
    const int count = (int)(sizeof sizes / sizeof *sizes);
    for (int kind = 0; kind < 3; kind++) {
        const kf_target target = target_of(kind);
        for (int i = 0; i < 4 * 3 * count * count; i++) {
            const int v = i % 4, dtype = KF_F32 + i / 4 % 3, cols = sizes[i / 12 % count],
                      inner = sizes[i / 12 / count];
            char text[120];
            snprintf(text, sizeof text, "softmax %s %s rows=3 cols=%d inner=%d",
                     v < 3 ? variants[v] : "default", kf_dtype_name((kf_dtype)dtype), cols, inner);
            kf_plan_close(map_plan(text, &target));
        }
    }
}

/* Mistakes: a cluster that goes along the wrong axis, chosen or by name; a knob that is ignored. */
static void what_knows_no_axis_says_so(void **state)
{
    (void)state;
    const kf_target target = target_of(0);
    kf_plan *plan;
    assert_int_equal(
        case_plan("softmax fused_cluster f32 rows=4 cols=131072 inner=2", &target, &plan),
        KF_UNSUPPORTED);
    assert_non_null(strstr(kf_error(), "last axis"));
    plan = map_plan("log_softmax default f32 rows=4 cols=131072 inner=2", &target);
    assert_string_equal(plan->variant->name, "fused");
    kf_plan_close(plan);
    assert_int_equal(
        case_plan("softmax fused f32 rows=4 cols=9 inner=2 LOCAL_VECS=1", &target, &plan),
        KF_UNSUPPORTED);
    assert_int_equal(case_plan("softmax fused f32 rows=4 cols=5000 inner=2 THREADS_PER_ROW=32 "
                               "ONLINE=0",
                               &target, &plan),
                     KF_UNSUPPORTED);
}

/* ---- reference ---------------------------------------------------------------------------- */

/* Mistakes: another axis, the start of a range forgotten, a bound that swallows an offset. */
static void the_reference_goes_along_the_axis(void **state)
{
    (void)state;
    /* two rows of three lines of two: columns 0 1 2, 5 5 5; -inf 0 0, 1 NaN 2 */
    const float x[12] = {0, 5, 1, 5, 2, 5, -INFINITY, 1, 0, NAN, 0, 2};
    const void *inputs[KF_MAX_TENSORS] = {x};
    const double sum = 1 + exp(1) + exp(2);
    const double want[12] = {1 / sum, 1.0 / 3, exp(1) / sum, 1.0 / 3, exp(2) / sum, 1.0 / 3,
                             0,       NAN,     0.5,          NAN,     0.5,          NAN};
    const kf_target target = map_target(false);
    for (int log_of = 0; log_of < 2; log_of++) {
        char text[100];
        snprintf(text, sizeof text, "%s fused f32 rows=2 cols=3 inner=2", ops[log_of]);
        kf_plan *plan = map_plan(text, &target);
        for (int first = 0; first < 12; first++)
            for (int count = 1; first + count <= 12; count++) {
                double value[12], bound[12];
                assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, inputs,
                                                             Y, first, count, value, bound),
                                 KF_OK);
                for (int i = 0; i < count; i++) {
                    const double w = log_of ? log(want[first + i]) : want[first + i];
                    const double few_roundings = 16 * 0x1p-53 * fabs(w);
                    const bool same = isfinite(w) ? fabs(value[i] - w) <= few_roundings
                                      : isnan(w)  ? isnan(value[i])
                                                  : value[i] == w;
                    if (!same || !(bound[i] < 1e-5))
                        fail_msg("%s: element %d from %d on is %g, not %g", text, i, first,
                                 value[i], w);
                }
            }
        kf_plan_close(plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_go_before_and_behind_the_axis),
        cmocka_unit_test(what_is_no_axis_is_refused),
        cmocka_unit_test(a_case_names_what_lies_behind_the_axis),
        cmocka_unit_test(traffic_is_that_of_as_many_rows),
        cmocka_unit_test(vectors_need_aligned_lines),
        cmocka_unit_test(every_size_has_a_plan),
        cmocka_unit_test(what_knows_no_axis_says_so),
        cmocka_unit_test(the_reference_goes_along_the_axis),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
