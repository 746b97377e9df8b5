/* label: unit */
/* Random inputs are what they claim to be: the same everywhere, random, and nasty where they should
 * be. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../harness/convert.h"
#include "../harness/inputs.h"

static kf_tensor matrix(kf_dtype dtype, int64_t rows, int64_t cols)
{
    kf_tensor tensor;
    assert_int_equal(kf_tensor_contiguous(dtype, 2, (int64_t[]){rows, cols}, &tensor), KF_OK);
    return tensor;
}

static void *fill(const kf_tensor *tensor, kf_distribution distribution, uint64_t seed, int stream)
{
    int64_t extent;
    assert_int_equal(kf_tensor_extent(tensor, &extent), KF_OK);
    void *data = calloc((size_t)extent + 1, (size_t)kf_dtype_bytes(tensor->dtype));
    assert_non_null(data);
    kf_inputs_fill(tensor, data, distribution, seed, stream);
    return data;
}

/* Catches any change of the generator: committed seeds would no longer reproduce their cases. The
 * bits are those of Philox4x32-10, whose known answer for a zero key and counter is 6627e8d5
 * e169c58d bc57ac4c 9b00dbd8. */
static void inputs_are_the_same_bits_for_ever(void **state)
{
    static const float want[] = {0x1.81109cp-5f, -0x1.5acc02p+0f, -0x1.8e2034p-1f, 0x1.88911ep-4f};
    const kf_tensor tensor = matrix(KF_F32, 1, 4);
    float *data = fill(&tensor, KF_DIST_NORMAL, 0, 0);
    (void)state;
    assert_memory_equal(data, want, sizeof want);
    free(data);
    assert_true(kf_random(0, 0, 0) != kf_random(0, 0, 1) &&
                kf_random(0, 0, 0) != kf_random(0, 1, 0));
    assert_true(kf_random(1, 0, 0) != kf_random(0, 0, 0) &&
                kf_random(7, 3, 9) == kf_random(7, 3, 9));
}

/* Catches a bent normal distribution: moments within five standard errors, tails that exist,
 * streams and seeds that differ. */
static void inputs_are_normal(void **state)
{
    enum { N = 1 << 20 };
    const kf_tensor tensor = matrix(KF_F32, 1024, N / 1024);
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        float *data = fill(&tensor, KF_DIST_NORMAL, seed, 0),
              *other = fill(&tensor, KF_DIST_NORMAL, seed, 1);
        double sum[5] = {0}, cross = 0, neighbours = 0, most = 0;
        for (int i = 0; i < N; i++) {
            double power = 1;
            for (int k = 1; k <= 4; k++)
                sum[k] += power *= data[i];
            cross += (double)data[i] * other[i];
            neighbours += i ? (double)data[i] * data[i - 1] : 0;
            most = fmax(most, fabs(data[i]));
        }
        const double five = 5 / sqrt(N);
        assert_true(fabs(sum[1] / N) < five);
        assert_true(fabs(sum[2] / N - 1) < five * sqrt(2));
        assert_true(fabs(sum[3] / N) < five * sqrt(15));
        assert_true(fabs(sum[4] / N - 3) < five * sqrt(96));
        assert_true(fabs(cross / N) < five && fabs(neighbours / N) < five);
        assert_true(most > 4.4 && most < 6.8);
        free(data);
        free(other);
    }
}

/* Catches values that depend on strides, threads or padding, and padding that is written. */
static void inputs_do_not_depend_on_the_layout(void **state)
{
    const kf_tensor packed = matrix(KF_F16, 1100, 257);
    kf_tensor padded = packed, turned = packed;
    (void)state;
    padded.stride[0] = 300;
    turned.stride[0] = 1;
    turned.stride[1] = 1100;
    for (int d = 0; d < KF_DIST_COUNT; d++) {
        uint16_t *a = fill(&packed, (kf_distribution)d, 3, 2),
                 *b = fill(&padded, (kf_distribution)d, 3, 2),
                 *c = fill(&turned, (kf_distribution)d, 3, 2);
        for (int64_t e = 0; e < 1100 * 257; e++) {
            assert_int_equal(a[e], b[e / 257 * 300 + e % 257]);
            assert_int_equal(a[e], c[e % 257 * 1100 + e / 257]);
        }
        for (int64_t r = 0; r < 1099; r++)
            for (int64_t p = 257; p < 300; p++)
                assert_int_equal(b[r * 300 + p], 0);
        free(a);
        free(b);
        free(c);
    }
}

/* Catches a broadcast tensor filled past its few elements, and the ranks at the ends. */
static void inputs_fill_broadcasts_and_scalars(void **state)
{
    kf_tensor row = matrix(KF_F32, 1000, 8), scalar;
    (void)state;
    row.stride[0] = 0;
    float *data = fill(&row, KF_DIST_NORMAL, 1, 0);
    assert_true(data[7] != 0 && data[8] == 0);
    free(data);
    assert_int_equal(kf_tensor_contiguous(KF_BF16, 0, NULL, &scalar), KF_OK);
    uint16_t *one = fill(&scalar, KF_DIST_NORMAL, 1, 0);
    assert_true(one[0] != 0 && one[1] == 0);
    free(one);
    const kf_tensor none = matrix(KF_F32, 0, 8);
    free(fill(&none, KF_DIST_SPECIAL, 1, 0));
}

/* Catches a fast conversion that rounds otherwise than kf_store: all kinds of doubles, halves of
 * ulps included. */
static void bulk_stores_round_like_single_ones(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 400000; i++) {
        uint64_t bits = kf_random(5, 0, i);
        double value;
        if (i & 1) /* near the ranges of the 16-bit types, with ties */
            bits = (bits & UINT64_C(0x801ff80000000000)) | (uint64_t)(1023 - 30 + i % 60) << 52;
        if (i & 2)
            bits |= 1;
        if (i % 16 == 5) /* subnormal in bfloat */
            bits = (bits & UINT64_C(0x801fffffffffffff)) | (uint64_t)(1023 - 136 + i % 12) << 52;
        memcpy(&value, &bits, sizeof value);
        for (kf_dtype dtype = KF_F32; dtype <= KF_BF16; dtype++) {
            uint32_t one = 0, many = 0;
            if (dtype == KF_F32 && fabs(value) > kf_dtype_max(dtype))
                continue;
            kf_store(&one, dtype, 0, value);
            kf_store_many(&many, dtype, 0, 1, &value, 1);
            assert_int_equal(one, many);
            const double want = kf_load(&one, dtype, 0);
            double rounded = value, loaded;
            kf_round_many(dtype, &rounded, 1);
            kf_load_many(&one, dtype, 0, 1, &loaded, 1);
            assert_memory_equal(&rounded, &want, sizeof want);
            assert_memory_equal(&loaded, &want, sizeof want);
        }
    }
}

static double value_at(const void *data, const kf_tensor *t, int64_t row, int64_t col)
{
    return kf_load(data, t->dtype, row * t->stride[0] + col);
}

static bool within(double value, double least, double most)
{
    return value > least && value < most; /* false for NaN */
}

/* Catches distributions that are not what their names say. */
static void distributions_are_what_they_say(void **state)
{
    (void)state;
    for (kf_dtype dtype = KF_F32; dtype <= KF_BF16; dtype++) {
        const kf_tensor t = matrix(dtype, 64, 100);
        const double shift = dtype == KF_F16 ? 64 : 1000;
        void *data[KF_DIST_COUNT];
        int twos = 0, outliers = 0;
        for (int d = 0; d < KF_DIST_COUNT; d++)
            data[d] = fill(&t, (kf_distribution)d, 11, 0);
        for (int64_t r = 0; r < 64; r++)
            for (int64_t c = 0; c < 100; c++) {
                const double wide = fabs(value_at(data[KF_DIST_WIDE], &t, r, c));
                const double whole = value_at(data[KF_DIST_INTEGER], &t, r, c);
                assert_true(
                    within(value_at(data[KF_DIST_OFFSET], &t, r, c), shift - 10, shift + 10));
                assert_true(wide > 0.9e-4 && wide < 1.01e4);
                assert_true(within(value_at(data[KF_DIST_TINY], &t, r, c), -1e-5, 1e-5));
                assert_true(whole == rint(whole) && fabs(whole) <= (dtype == KF_F32 ? 8 : 5));
                twos += value_at(data[KF_DIST_TWO], &t, r, c) > 0;
                outliers += value_at(data[KF_DIST_OUTLIER], &t, r, c) > 9000;
                assert_true(value_at(data[KF_DIST_EQUAL], &t, r, c) ==
                            value_at(data[KF_DIST_EQUAL], &t, 0, 0));
                assert_true(value_at(data[KF_DIST_RAMP_UP], &t, r, c) ==
                            value_at(data[KF_DIST_RAMP_DOWN], &t, r, 99 - c));
            }
        assert_true(twos > 2900 && twos < 3500 && outliers == 64);
        assert_true(value_at(data[KF_DIST_RAMP_UP], &t, 5, 0) == -80 &&
                    value_at(data[KF_DIST_RAMP_UP], &t, 5, 99) == 0);
        for (int d = 0; d < KF_DIST_COUNT; d++)
            free(data[d]);
    }
    assert_string_equal(kf_distribution_name(KF_DIST_SPECIAL), "special");
    assert_string_equal(kf_distribution_name(KF_DIST_COUNT), "?");
}

/* Catches special rows without normal neighbours, and special values that a dtype loses (a denormal
 * that is zero). */
static void special_rows_stand_between_normal_ones(void **state)
{
    (void)state;
    for (kf_dtype dtype = KF_F32; dtype <= KF_BF16; dtype++) {
        const kf_tensor t = matrix(dtype, 48, 33);
        void *data = fill(&t, KF_DIST_SPECIAL, 2, 0);
        const double normal = dtype == KF_F16 ? 0x1p-14 : 0x1p-126;
        int nan = 0, plus = 0, minus = 0, only_minus = 0, denormal = 0, first = 0, last = 0,
            minus_zero = 0;
        for (int64_t r = 0; r < 48; r++) {
            int row_minus = 0;
            for (int64_t c = 0; c < 33; c++) {
                const double v = value_at(data, &t, r, c);
                assert_true(r % 2 == 0 || within(v, -7, 7));
                nan += isnan(v);
                plus += v == INFINITY;
                row_minus += v == -INFINITY;
                denormal += v != 0 && fabs(v) < normal;
                minus_zero += v == 0 && signbit(v);
                first += c == 0 && !isfinite(v);
                last += c == 32 && !isfinite(v);
            }
            minus += row_minus > 0;
            only_minus += row_minus >= 32;
        }
        assert_true(nan >= 3 && plus >= 3 && minus >= 4 && only_minus >= 2);
        assert_true(denormal >= 20 && minus_zero >= 33 && first >= 3 && last >= 3);
        free(data);
    }
}

/* Mistakes: an index out of range where the inputs promise none; the edges, the ignored or, in
 * special inputs, the ones outside never met. */
static void indices_keep_to_their_bound(void **state)
{
    enum { ROWS = 1024, COLS = 10 };
    int64_t index[ROWS];
    kf_problem *problem;
    (void)state;
    assert_int_equal(kf_problem_open("cross_entropy", &problem), KF_OK);
    assert_int_equal(kf_problem_shape(problem, KF_F32, (int64_t[]){ROWS, COLS}, NULL), KF_OK);
    assert_int_equal(kf_problem_derive(problem), KF_OK);
    for (int d = 0; d < KF_DIST_COUNT; d++) {
        int first = 0, last = 0, ignored = 0, outside = 0;
        kf_inputs_fill_tensor(problem, 1, index, (kf_distribution)d, 3);
        for (int i = 0; i < ROWS; i++) {
            first += index[i] == 0;
            last += index[i] == COLS - 1;
            ignored += index[i] == -100;
            outside += index[i] != -100 && (index[i] < 0 || index[i] >= COLS);
        }
        assert_true(first > 16 && last > 16 && ignored > 16);
        assert_true(d == KF_DIST_SPECIAL ? outside > 16 : outside == 0);
    }
    kf_problem_close(problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_are_the_same_bits_for_ever),
        cmocka_unit_test(inputs_are_normal),
        cmocka_unit_test(inputs_do_not_depend_on_the_layout),
        cmocka_unit_test(inputs_fill_broadcasts_and_scalars),
        cmocka_unit_test(bulk_stores_round_like_single_ones),
        cmocka_unit_test(distributions_are_what_they_say),
        cmocka_unit_test(special_rows_stand_between_normal_ones),
        cmocka_unit_test(indices_keep_to_their_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
