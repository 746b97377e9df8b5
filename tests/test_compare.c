/* label: unit */
/* The comparator against the values that fool comparators (testing.md 2.6).
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "../core/op.h"
#include "../harness/verify.h"

static kf_verify_report compare1(kf_dtype dtype, double got, double want, double bound)
{
    uint64_t stored;
    kf_verify_report report;
    kf_store(&stored, dtype, 0, got);
    kf_compare(dtype, &stored, &want, &bound, 1, &report);
    return report;
}

/* Catches `if (err > bound) fail`, which lets every NaN through. */
static void compare_fails_nan_against_a_number(void **state)
{
    (void)state;
    assert_false(compare1(KF_F32, NAN, 1, 1).passed);
    assert_false(compare1(KF_F16, NAN, 1, 1).passed);
    assert_false(compare1(KF_BF16, NAN, 0, INFINITY).passed);
    assert_false(compare1(KF_F32, 1, NAN, 1).passed);
    assert_false(compare1(KF_F32, INFINITY, NAN, INFINITY).passed);
    assert_true(compare1(KF_F32, NAN, NAN, NAN).passed);
}

/* Catches inf - inf = NaN taken for agreement, and the sign of an infinity overlooked. */
static void compare_wants_the_same_infinity(void **state)
{
    (void)state;
    assert_true(compare1(KF_F32, INFINITY, INFINITY, NAN).passed);
    assert_true(compare1(KF_F32, -INFINITY, -INFINITY, INFINITY).passed);
    assert_false(compare1(KF_F32, -INFINITY, INFINITY, INFINITY).passed);
    assert_false(compare1(KF_F32, INFINITY, 1, INFINITY).passed);
    assert_false(compare1(KF_F32, 3e38, INFINITY, INFINITY).passed);
}

/* Catches a bound that is off by its last bit, a NaN bound, and a negative one. */
static void compare_uses_the_bound_exactly(void **state)
{
    (void)state;
    assert_true(compare1(KF_F32, 1.5, 1, 0.5).passed);
    assert_false(compare1(KF_F32, 1.5, 1, nextafter(0.5, 0)).passed);
    assert_false(compare1(KF_F32, 1, 1, NAN).passed);
    assert_false(compare1(KF_F32, 1, 1, -1).passed);
    assert_true(compare1(KF_I32, 7, 7, 0).passed);
    assert_false(compare1(KF_I32, 8, 7, 0).passed);
}

static double storage_bound(kf_dtype dtype, double y, double own)
{
    return own + kf_dtype_roundoff(dtype) * fabs(y) + kf_dtype_floor(dtype);
}

/* Catches f16 results that stay finite past 65520, or overflow below it (65519 rounds to 65504). */
static void compare_knows_where_storage_overflows(void **state)
{
    (void)state;
    assert_true(compare1(KF_F16, INFINITY, 65520, storage_bound(KF_F16, 65520, 0)).passed);
    assert_false(compare1(KF_F16, 65504, 65520, storage_bound(KF_F16, 65520, 0)).passed);
    assert_true(compare1(KF_F16, 65504, 65519, storage_bound(KF_F16, 65519, 0)).passed);
    assert_false(compare1(KF_F16, INFINITY, 65519, storage_bound(KF_F16, 65519, 0)).passed);
    assert_false(compare1(KF_F16, -INFINITY, 70000, storage_bound(KF_F16, 70000, 0)).passed);
    assert_true(compare1(KF_F32, INFINITY, 1e39, storage_bound(KF_F32, 1e39, 0)).passed);
    assert_false(compare1(KF_F32, 3.4e38, 1e39, storage_bound(KF_F32, 1e39, 0)).passed);
    assert_true(compare1(KF_BF16, INFINITY, 3.4e38, storage_bound(KF_BF16, 3.4e38, 0)).passed);
    /* an operation with an error of its own may land on either side of the threshold */
    assert_true(compare1(KF_F16, 65504, 65520, storage_bound(KF_F16, 65520, 20)).passed);
    assert_true(compare1(KF_F16, INFINITY, 65519, storage_bound(KF_F16, 65519, 20)).passed);
}

/* Catches means, norms and samples that hide one wrong element, and a wrong index or count in the
 * report. */
static void compare_finds_one_bad_element(void **state)
{
    enum { N = 1000 };
    float got[N];
    double want[N], bound[N];
    kf_verify_report report;
    (void)state;
    for (int i = 0; i < N; i++) {
        got[i] = (float)i;
        want[i] = i;
        bound[i] = 1e-6;
    }
    kf_compare(KF_F32, got, want, bound, N, &report);
    assert_true(report.passed);
    assert_int_equal(report.first_bad, -1);
    got[N - 1] += 1;
    got[7] = NAN;
    kf_compare(KF_F32, got, want, bound, N, &report);
    assert_false(report.passed);
    assert_int_equal(report.bad, 2);
    assert_int_equal(report.checked, N);
    assert_int_equal(report.first_bad, 7);
    assert_true(isnan(report.got) && report.want == 7 && report.bound == 1e-6);
    assert_true(isinf(report.max_error) && isinf(report.worst_ratio));
    assert_non_null(strstr(report.reason, "0x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_fails_nan_against_a_number),
        cmocka_unit_test(compare_wants_the_same_infinity),
        cmocka_unit_test(compare_uses_the_bound_exactly),
        cmocka_unit_test(compare_knows_where_storage_overflows),
        cmocka_unit_test(compare_finds_one_bad_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
