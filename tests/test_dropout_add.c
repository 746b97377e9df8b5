/* label: opencl */
/* Dropout and residual: the host's Philox against its published answers, what the plans move, how
 * many elements are kept, the same bits as the host on every OpenCL device, and in place.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "../core/random.h"
#include "map_rig.h"

enum { X, RESIDUAL, Y };

/* kat_vectors of Random123, philox4x32 with 10 rounds. */
static void philox_gives_the_published_words(void **state)
{
    (void)state;
    static const uint64_t key[3] = {0, UINT64_MAX, 0x299f31d0a4093822};
    static const uint64_t low[3] = {0, UINT64_MAX, 0x85a308d3243f6a88};
    static const uint64_t high[3] = {0, UINT64_MAX, 0x0370734413198a2e};
    static const uint32_t want[3][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t word[4];
        kf_philox(key[i], low[i], high[i], word);
        assert_memory_equal(word, want[i], sizeof word);
    }
}

/* Mistakes: a stored mask, an intermediate left out of the count. */
static void traffic_is_what_the_formula_moves(void **state)
{
    (void)state;
    map_traffic_is("dropout_add", "p=0.5", 2, 5, false);
    map_traffic_is("dropout_add", "stride.x=1008 stride.y=1011 offset.residual=3", 2, 5, false);
    map_traffic_is("dropout_add", "", 2, 5, true);
}

static void only_probabilities_are_taken(void **state)
{
    (void)state;
    static const char *const words[] = {"p=-0.01", "p=1.01", "p=nan"};
    const kf_target target = map_target(false);
    for (int i = 0; i < 3; i++) {
        char text[96];
        kf_plan *plan;
        snprintf(text, sizeof text, "dropout_add fused f32 rows=2 cols=2 %s", words[i]);
        assert_int_equal(case_plan(text, &target, &plan), KF_INVALID);
        assert_non_null(strstr(kf_error(), "probability"));
    }
}

/* Mistake: a case whose seed is taken for the op's attribute, or the other way round. */
static void the_attribute_seed_is_not_the_seed_of_a_case(void **state)
{
    (void)state;
    kf_case c, again;
    char text[256];
    assert_int_equal(kf_case_parse("dropout_add fused f32 rows=2 cols=2 attr.seed=5 seed=7", &c),
                     KF_OK);
    assert_int_equal(c.attribute[1].i, 5);
    assert_int_equal(c.seed, 7);
    kf_case_print(&c, text, sizeof text);
    assert_int_equal(kf_case_parse(text, &again), KF_OK);
    assert_int_equal(again.attribute[1].i, 5);
    assert_int_equal(again.seed, 7);
}

/* ---- the mask ------------------------------------------------------------------------------- */

/* The reference of x = 1, residual = 0: 0 or 1 / (1 - p). */
static int64_t count_kept(const char *words, int64_t elements, uint64_t *digest)
{
    char text[160];
    const kf_target target = map_target(false);
    snprintf(text, sizeof text, "dropout_add fused f32 rows=1 cols=%ld %s", (long)elements, words);
    kf_plan *plan = map_plan(text, &target);
    float *ones = malloc((size_t)elements * sizeof *ones);
    float *zeros = calloc((size_t)elements, sizeof *zeros);
    double *value = malloc((size_t)elements * sizeof *value);
    double *bound = malloc((size_t)elements * sizeof *bound);
    const void *inputs[KF_MAX_TENSORS] = {ones, zeros};
    int64_t kept = 0;
    for (int64_t i = 0; i < elements; i++)
        ones[i] = 1;
    assert_int_equal(plan->problem.op->reference(&plan->problem, &plan->error, inputs, Y, 0,
                                                 elements, value, bound),
                     KF_OK);
    *digest = 0;
    for (int64_t i = 0; i < elements; i++) {
        kept += value[i] != 0;
        *digest = *digest * 31 + (value[i] != 0);
    }
    free(ones);
    free(zeros);
    free(value);
    free(bound);
    kf_plan_close(plan);
    return kept;
}

/* Mistakes: kept and dropped exchanged, a threshold of 31 bits for 32, a seed that is not read. The
 * count is binomial: six standard deviations. */
static void a_share_p_is_dropped(void **state)
{
    (void)state;
    static const double p[] = {0.1, 0.5, 0.9};
    const int64_t n = 100000;
    uint64_t digest, other;
    for (int i = 0; i < 3; i++) {
        char words[64];
        snprintf(words, sizeof words, "p=%g attr.seed=%d", p[i], i);
        const double kept = (double)count_kept(words, n, &digest);
        const double bound = 6 * sqrt((double)n * p[i] * (1 - p[i]));
        assert_true(fabs(kept - (double)n * (1 - p[i])) <= bound);
    }
    assert_int_equal(count_kept("p=0", n, &digest), n);
    assert_int_equal(count_kept("p=1", n, &digest), 0);
    count_kept("p=0.5 attr.seed=1", n, &digest);
    count_kept("p=0.5 attr.seed=4294967297", n, &other); /* differs in the upper half alone */
    assert_true(digest != other);
}

/* ---- bits on devices ------------------------------------------------------------------------ */

static bool keeps(const kf_problem *problem, int64_t element)
{
    uint32_t word[4];
    kf_philox((uint64_t)problem->attribute[1].i, (uint64_t)element / 4, 0, word);
    return word[element % 4] >> 8 >= lrint(problem->attribute[0].f * 0x1p24);
}

/* y as the host computes it, with one rounding for product and sum. */
static void host_result(const kf_plan *plan, const void *x, const void *residual, void *y)
{
    const kf_problem *problem = &plan->problem;
    const float scale = (float)(1 / (1 - problem->attribute[0].f));
    for (int64_t i = 0; i < problem->dim[0] * problem->dim[1]; i++) {
        const int64_t at_x = kf_tensor_offset(&problem->tensor[X], i),
                      at_residual = kf_tensor_offset(&problem->tensor[RESIDUAL], i),
                      at_y = kf_tensor_offset(&problem->tensor[Y], i);
        const float a = (float)kf_load(x, problem->dtype, at_x),
                    b = (float)kf_load(residual, problem->dtype, at_residual);
        kf_store(y, problem->dtype, at_y, keeps(problem, i) ? fmaf(a, scale, b) : b);
    }
}

static void check_bits(const char *text, kf_device *device, kf_queue *queue)
{
    kf_plan *plan = map_plan(text, kf_device_target(device));
    kf_binding binding[KF_MAX_TENSORS] = {{0}};
    void *data[3];
    kf_exec *exec;
    kf_case c;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    assert_int_equal(kf_prepare(plan, device, &exec), KF_OK);
    assert_int_equal(case_inputs(plan, &c, device, queue, binding), KF_OK);
    for (int i = X; i <= Y; i++) {
        data[i] = calloc(1, map_extent(plan, i));
        if (i != Y)
            kf_inputs_fill(&plan->problem.tensor[i], data[i], KF_DIST_NORMAL, c.seed, i);
    }
    void *got = calloc(1, map_extent(plan, Y));
    host_result(plan, data[X], data[RESIDUAL], data[Y]);
    map_run(exec, queue, binding, Y, got, map_extent(plan, Y));
    const int64_t other = map_first_difference(&plan->problem.tensor[Y], data[Y], got);
    if (other >= 0)
        fail_msg("%s: element %ld has other bits than the host's", text, (long)other);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        kf_buffer_close(binding[i].buffer);
    for (int i = X; i <= Y; i++)
        free(data[i]);
    free(got);
    kf_exec_close(exec);
    kf_plan_close(plan);
}

static void check_all_bits(kf_device *device, kf_queue *queue)
{
    static const char *const shapes[] = {
        "rows=1 cols=4099", "rows=7 cols=719", "rows=7 cols=719 stride.x=723 stride.y=720",
        "rows=5 cols=128 stride.residual=136", "rows=37 cols=3 stride.y=5"};
    for (int i = 0; i < 5; i++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
            for (int cpu = 0; cpu < 2; cpu++) {
                char text[256];
                snprintf(text, sizeof text, "dropout_add %s %s %s p=0.3 attr.seed=%d seed=3",
                         cpu ? "fused_cpu" : "fused", kf_dtype_name((kf_dtype)dtype), shapes[i],
                         77 + i);
                check_bits(text, device, queue);
            }
}

/* Mistakes: an index that follows the address instead of the element; words of a block in another
 * order; a contraction that one compiler makes and another does not. */
static void devices_give_the_bits_of_the_host(void **state)
{
    (void)state;
    on_each_device(check_all_bits);
}

static void check_in_place(kf_device *device, kf_queue *queue)
{
    map_all_in_place("dropout_add", "", device, queue, Y, X);
    map_all_in_place("dropout_add", "stride.residual=723 stride.y=723", device, queue, Y, RESIDUAL);
}

/* Mistake: a store that overtakes a load of the same tensor. */
static void output_may_be_either_input(void **state)
{
    (void)state;
    on_each_device(check_in_place);
}

static void run_twice(kf_device *device, kf_queue *queue)
{
    map_ready first = map_open("dropout_add fused f32 rows=5 cols=203 p=0.5 attr.seed=1", device,
                               queue),
              other = map_open("dropout_add fused f32 rows=5 cols=203 p=0.5 attr.seed=7", device,
                               queue);
    const size_t bytes = map_extent(first.plan, Y);
    char *one = malloc(bytes), *seven = malloc(bytes), *wanted = malloc(bytes);
    map_run(first.exec, queue, first.binding, Y, one, bytes);
    assert_int_equal(kf_exec_int(first.exec, "seed", 7), KF_OK);
    map_run(first.exec, queue, first.binding, Y, seven, bytes);
    map_run(other.exec, queue, first.binding, Y, wanted, bytes);
    assert_memory_equal(seven, wanted, bytes);
    assert_memory_not_equal(seven, one, bytes);
    assert_int_equal(kf_exec_int(first.exec, "p", 1), KF_INVALID);
    assert_non_null(strstr(kf_error(), "'p'"));
    assert_int_equal(kf_exec_int(NULL, "seed", 1), KF_INVALID);
    free(one);
    free(seven);
    free(wanted);
    map_close(&other);
    map_close(&first);
}

/* Mistakes: a seed that stays what it was when the exec was prepared; another attribute that is
 * changed behind the plan's back. */
static void a_prepared_exec_takes_another_seed(void **state)
{
    (void)state;
    on_each_device(run_twice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prepared_exec_takes_another_seed),
        cmocka_unit_test(philox_gives_the_published_words),
        cmocka_unit_test(traffic_is_what_the_formula_moves),
        cmocka_unit_test(only_probabilities_are_taken),
        cmocka_unit_test(the_attribute_seed_is_not_the_seed_of_a_case),
        cmocka_unit_test(a_share_p_is_dropped),
        cmocka_unit_test(devices_give_the_bits_of_the_host),
        cmocka_unit_test(output_may_be_either_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
