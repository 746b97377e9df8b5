/* label: unit */
/* Large host memory: blocks that are kept, and the search for the first wrong place in them.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "../harness/memory.h"
#include "../harness/parallel.h"
#include "../harness/verify_parts.h"

enum { BYTES = 40 << 20, PIECE = 4 << 20 }; /* more than one thread's share of each */

/* Catches places that are missed at the borders of the threads' shares, and an answer that is some
 * difference and not the first. */
static void search_finds_the_first_difference(void **state)
{
    static const size_t places[] = {BYTES - 1, PIECE, PIECE - 1, BYTES / 2, BYTES / 2 - 1, 1, 0};
    char *a = calloc(1, BYTES), *b = calloc(1, BYTES);
    (void)state;
    assert_true(a && b);
    assert_int_equal(kf_first_difference(a, b, BYTES), -1);
    assert_int_equal(kf_first_difference(a, b, 0), -1);
    size_t first = BYTES;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        b[places[i]] = 1;
        first = places[i] < first ? places[i] : first;
        assert_int_equal(kf_first_difference(a, b, BYTES), first);
        assert_int_equal(kf_first_difference(a, b, first), -1);
    }
    free(a);
    free(b);
}

/* Catches an element taken for poison by one half of it, and poison that the quick look over a
 * stretch, or its tail, does not see. */
static void search_finds_poisoned_elements(void **state)
{
    char *data = malloc(BYTES + 8);
    (void)state;
    assert_non_null(data);
    for (int size = 2; size <= 8; size *= 2) {
        const int64_t count = BYTES / size - 3; /* no whole stretches */
        const int64_t places[] = {count - 1, count / 2, 1024 / size, 1024 / size - 1, 0};
        memset(data, 0, BYTES + 8);
        if (size > 2)
            kf_poison(data + 64, (size_t)size - 2, KF_POISON_NAN);
        assert_int_equal(kf_first_poisoned(data, size, count, KF_POISON_NAN), -1);
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            kf_poison(data + places[i] * size, (size_t)size, KF_POISON_NAN);
            assert_int_equal(kf_first_poisoned(data, size, count, KF_POISON_NAN), places[i]);
            assert_int_equal(kf_first_poisoned(data, size, count, KF_POISON_LARGE), -1);
        }
        kf_poison(data, (size_t)BYTES, KF_POISON_NAN);
        assert_int_equal(kf_first_poisoned(data, size, 0, KF_POISON_NAN), -1);
        assert_int_equal(kf_first_poisoned(data, size, 3, KF_POISON_NAN), 0);
    }
    free(data);
}

/* Catches blocks that are handed out twice, kept for ever or too small, and results of an earlier
 * trial that could pass for new ones. */
static void memory_is_kept_but_not_its_content(void **state)
{
    (void)state;
    double *first = kf_memory_take(BYTES), *second = kf_memory_take(BYTES);
    assert_true(first && second && first != second);
    memset(first, 1, BYTES);
    kf_memory_give(first);
    double *again = kf_memory_take(BYTES - 100);
    assert_ptr_equal(again, first);
    for (size_t i = 0; i < (BYTES - 100) / 4096; i++)
        assert_true(again[i * 4096 / sizeof *again] != again[i * 4096 / sizeof *again]);
    kf_memory_give(again);
    char *small = kf_memory_take(BYTES / 3); /* not a block of three times that */
    assert_true(small && small != (char *)first);
    kf_memory_give(small);
    kf_memory_give(second);
    kf_memory_give(NULL);
    char *nothing = kf_memory_take(0);
    assert_non_null(nothing);
    kf_memory_give(nothing);
}

/* Catches more blocks than there are places for being lost or given out twice. */
static void memory_serves_more_than_it_keeps(void **state)
{
    enum { MANY = 40 };
    char *block[MANY];
    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            block[i] = kf_memory_take((size_t)(1 << 20) + (size_t)i);
            assert_non_null(block[i]);
            memset(block[i], i, 1 << 20);
        }
        for (int i = 0; i < MANY; i++) {
            assert_true(block[i][0] == i && block[i][(1 << 20) - 1] == i);
            kf_memory_give(block[i]);
        }
    }
}

static void use_block(void *context, int64_t first, int64_t end)
{
    (void)context;
    for (int64_t i = first; i < end; i++) {
        char *block = kf_memory_take((size_t)2 << 20);
        if (block)
            memset(block, (int)i, 1 << 16);
        kf_memory_give(block);
    }
}

/* Catches a shelf that threads spoil for each other (seen by the thread sanitizer). */
static void memory_serves_threads(void **state)
{
    (void)state;
    kf_parallel(64, 1, use_block, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_finds_the_first_difference),
        cmocka_unit_test(search_finds_poisoned_elements),
        cmocka_unit_test(memory_is_kept_but_not_its_content),
        cmocka_unit_test(memory_serves_more_than_it_keeps),
        cmocka_unit_test(memory_serves_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
