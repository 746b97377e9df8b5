/* label: unit */
/* The case text and the host's storage types. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "../core/op.h"

/* Mistake: what is printed cannot be parsed back, or loses a part. */
static void a_case_survives_printing_and_parsing(void **state)
{
    (void)state;
    const char *text = "softmax fused f32 rows=4096 cols=16384 stride.x=16640 offset.y=3 seed=42";
    char printed[512], again[512];
    kf_case c;
    assert_int_equal(kf_case_parse(text, &c), KF_OK);
    assert_int_equal(kf_case_print(&c, printed, sizeof printed), (int)strlen(text));
    assert_string_equal(printed, text);
    assert_int_equal(kf_case_print(&c, NULL, 0), (int)strlen(text));
    assert_int_equal(kf_case_print(&c, again, 10), (int)strlen(text)); /* cut, but counted */
    assert_string_equal(again, "softmax f");
}

/* Mistake: a case says which optional tensors it has, and its problem has others. */
static void optional_tensors_are_those_of_the_case(void **state)
{
    (void)state;
    static const char *const text[] = {
        "layer_norm fused f32 rows=4 cols=8 seed=0",
        "layer_norm fused f32 rows=4 cols=8 with=none seed=0",
        "layer_norm fused f32 rows=4 cols=8 with=bias,rstd eps=0.5 axis=-1 seed=0",
    };
    static const char *const has[] = {"weight", "", "bias rstd"};
    for (int i = 0; i < 3; i++) {
        char printed[512];
        kf_case c;
        kf_problem *problem;
        assert_int_equal(kf_case_parse(text[i], &c), KF_OK);
        kf_case_print(&c, printed, sizeof printed);
        assert_string_equal(printed, text[i]);
        assert_int_equal(kf_problem_open("layer_norm", &problem), KF_OK);
        assert_int_equal(kf_case_problem(&c, problem), KF_OK);
        for (int t = 0; t < problem->op->tensor_count; t++) {
            const kf_tensor_decl *decl = &problem->op->tensors[t];
            assert_int_equal(problem->tensor[t].dtype != KF_NONE,
                             !decl->optional || kf_listed(has[i], decl->name));
        }
        kf_problem_close(problem);
    }
    kf_case c;
    assert_int_equal(kf_case_parse("layer_norm fused f32 rows=4 cols=8 with=x", &c), KF_INVALID);
    assert_int_equal(kf_case_parse("softmax fused f32 rows=4 cols=8 with=bias", &c), KF_INVALID);
}

/* Mistake: a value with a name is printed as its number, or a wrong name is taken for 0. */
static void attribute_values_have_names(void **state)
{
    const kf_attribute_decl decl = {.name = "mode", .words = "none tanh"};
    kf_attribute value;
    char text[32];
    (void)state;
    assert_int_equal(kf_attribute_parse(&decl, "tanh", &value), KF_OK);
    assert_int_equal(value.i, 1);
    kf_attribute_print(&decl, &value, text, sizeof text);
    assert_string_equal(text, "tanh");
    assert_int_equal(kf_attribute_parse(&decl, "0", &value), KF_OK);
    kf_attribute_print(&decl, &value, text, sizeof text);
    assert_string_equal(text, "none");
    assert_int_equal(kf_attribute_parse(&decl, "tan", &value), KF_INVALID);
    assert_non_null(strstr(kf_error(), "none tanh"));
}

/* Mistake: a typing error is taken for something else, or a dim is left at its last value. */
static void bad_cases_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "softmax fused",
        "softmaxx fused f32 rows=1 cols=1",
        "softmax fussed f32 rows=1 cols=1",
        "softmax fused f33 rows=1 cols=1",
        "softmax fused f32 rows=1",
        "softmax fused f32 rows=1 cols=1x",
        "softmax fused f32 rows=1 cols=99999999999999999999",
        "softmax fused f32 rows=1 cols=-1",
        "softmax fused f32 rows=1 cols=1 WIDTH=3",
        "softmax fused f32 rows=1 cols=1 stride.q=3",
        "softmax fused f32 rows=1 cols=1 offset.x=-3",
        "softmax fused f32 rows=1 cols",
    };
    kf_case c;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (kf_case_parse(bad[i], &c) != KF_INVALID)
            fail_msg("accepted: '%s'", bad[i]);
}

/* Mistake: offsets in elements are taken for an alignment they do not keep. */
static void offsets_lower_the_promised_alignment(void **state)
{
    (void)state;
    kf_case c;
    kf_problem *problem;
    assert_int_equal(kf_case_parse("softmax fused f32 rows=4 cols=64 offset.x=1 offset.y=8", &c),
                     KF_OK);
    assert_int_equal(kf_problem_open("softmax", &problem), KF_OK);
    assert_int_equal(kf_case_problem(&c, problem), KF_OK);
    assert_int_equal(problem->tensor[0].alignment, 4);
    assert_int_equal(problem->tensor[1].alignment, 32);
    kf_problem_close(problem);
}

/* Mistakes: rounding by truncation, half-way cases up, NaN becoming infinity, lost subnormals. */
static void storage_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        kf_dtype dtype;
        double value;
        unsigned bits;
    } cases[] = {
        {KF_F16, 65504, 0x7bff},       {KF_F16, 65519, 0x7bff},
        {KF_F16, 65520, 0x7c00},       {KF_F16, 0x1p-24, 0x0001},
        {KF_F16, 0x1p-25, 0x0000},     {KF_F16, 0x1.8p-25, 0x0001},
        {KF_F16, 1 + 0x1p-11, 0x3c00}, {KF_F16, 1 + 0x1.8p-10, 0x3c02},
        {KF_F16, -0.0, 0x8000},        {KF_F16, 0x1p-14, 0x0400},
        {KF_F16, -2, 0xc000},          {KF_BF16, 1, 0x3f80},
        {KF_BF16, 1 + 0x1p-8, 0x3f80}, {KF_BF16, 1 + 0x1.8p-7, 0x3f82},
        {KF_BF16, 0x1.fep127, 0x7f7f}, {KF_BF16, 0x1.ffp127, 0x7f80},
        {KF_BF16, 0x1p-133, 0x0001},   {KF_BF16, -INFINITY, 0xff80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint16_t bits = 0x5555;
        kf_store(&bits, cases[i].dtype, 0, cases[i].value);
        if (bits != cases[i].bits)
            fail_msg("%s of %a: %04x, not %04x", kf_dtype_name(cases[i].dtype), cases[i].value,
                     bits, cases[i].bits);
    }
    for (int d = KF_F16; d <= KF_BF16; d++) {
        uint16_t bits;
        kf_store(&bits, (kf_dtype)d, 0, NAN);
        assert_true(isnan(kf_load(&bits, (kf_dtype)d, 0)));
    }
}

/* Mistake: one of the 65,536 values does not survive the way to double and back. */
static void every_16_bit_value_round_trips(void **state)
{
    (void)state;
    for (int d = KF_F16; d <= KF_BF16; d++)
        for (unsigned i = 0; i < 65536; i++) {
            uint16_t from = (uint16_t)i, to;
            const double value = kf_load(&from, (kf_dtype)d, 0);
            kf_store(&to, (kf_dtype)d, 0, value);
            if (!isnan(value) && to != from)
                fail_msg("%s: %04x became %04x", kf_dtype_name((kf_dtype)d), from, to);
        }
}

/* Mistake: "did you mean" proposes something unrelated, or misses a swapped letter. */
static void nearest_finds_typing_errors(void **state)
{
    (void)state;
    static const char *const choices[] = {"softmax", "elementwise", "ceilings"};
    assert_string_equal(kf_nearest("sofmax", choices, 3), "softmax");
    assert_string_equal(kf_nearest("elem", choices, 3), "elementwise");
    assert_null(kf_nearest("zzzz", choices, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_case_survives_printing_and_parsing),
        cmocka_unit_test(optional_tensors_are_those_of_the_case),
        cmocka_unit_test(attribute_values_have_names),
        cmocka_unit_test(bad_cases_are_refused),
        cmocka_unit_test(offsets_lower_the_promised_alignment),
        cmocka_unit_test(storage_rounds_to_nearest_even),
        cmocka_unit_test(every_16_bit_value_round_trips),
        cmocka_unit_test(nearest_finds_typing_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
