/* label: unit */
/* The ops' tables as kfuse.h shows them. SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "../core/op.h"

/* Mistakes: an op left out or a tool of the laboratory shown; a count that is not the table's; a
 * text that is missing. */
static void every_op_is_told(void **state)
{
    int expected = 0, op = 0;
    (void)state;
    for (int i = 0; kf_ops[i]; i++) {
        kf_op_info info;
        if (kf_ops[i]->internal)
            continue;
        expected++;
        assert_int_equal(kf_op_describe(op, &info), KF_OK);
        assert_string_equal(info.name, kf_ops[i]->name);
        assert_true(*info.summary && *info.formula && *info.dims);
        assert_int_equal(info.tensor_count, kf_ops[i]->tensor_count);
        assert_int_equal(info.attribute_count, kf_ops[i]->attribute_count);
        for (int t = 0; t < info.tensor_count; t++) {
            kf_tensor_info tensor;
            assert_int_equal(kf_op_tensor(op, t, &tensor), KF_OK);
            assert_string_equal(tensor.name, kf_ops[i]->tensors[t].name);
            assert_true(*tensor.dims && *tensor.help);
            assert_non_null(tensor.in_place);
            assert_non_null(tensor.scalar);
            assert_non_null(tensor.below);
        }
        for (int a = 0; a < info.attribute_count; a++) {
            kf_attribute_info attribute;
            assert_int_equal(kf_op_attribute(op, a, &attribute), KF_OK);
            assert_true(*attribute.name && *attribute.help);
            assert_non_null(attribute.words);
        }
        op++;
    }
    assert_int_equal(kf_op_count(), expected);
}

static int op_named(const char *name)
{
    kf_op_info info;
    for (int op = 0; kf_op_describe(op, &info) == KF_OK; op++)
        if (!strcmp(info.name, name))
            return op;
    return -1;
}

/* Mistake: a column of the table in the place of another. */
static void columns_are_in_their_places(void **state)
{
    const int norm = op_named("layer_norm"), entropy = op_named("cross_entropy");
    kf_tensor_info tensor;
    kf_attribute_info attribute;
    (void)state;
    assert_int_equal(kf_op_tensor(norm, 3, &tensor), KF_OK);
    assert_string_equal(tensor.name, "y");
    assert_string_equal(tensor.dims, "rows cols");
    assert_string_equal(tensor.in_place, "x");
    assert_true(tensor.output && !tensor.optional && tensor.dtype == KF_NONE);
    assert_int_equal(kf_op_tensor(norm, 4, &tensor), KF_OK);
    assert_true(tensor.output && tensor.optional && tensor.dtype == KF_F32);
    assert_int_equal(kf_op_tensor(entropy, 1, &tensor), KF_OK);
    assert_string_equal(tensor.below, "cols");
    assert_true(!tensor.output && tensor.dtype == KF_I64);
    assert_int_equal(kf_op_tensor(entropy, 2, &tensor), KF_OK);
    assert_string_equal(tensor.scalar, "reduction");
    assert_int_equal(kf_op_attribute(norm, 0, &attribute), KF_OK);
    assert_true(attribute.real && attribute.fallback == 1e-5 && !*attribute.words);
    assert_int_equal(kf_op_attribute(entropy, 3, &attribute), KF_OK);
    assert_true(!attribute.real && attribute.fallback == 0);
    assert_string_equal(attribute.words, "none mean");
}

/* Mistake: a place outside the table is read. */
static void what_is_not_there_is_refused(void **state)
{
    kf_op_info info;
    kf_tensor_info tensor;
    kf_attribute_info attribute;
    (void)state;
    assert_int_equal(kf_op_describe(-1, &info), KF_INVALID);
    assert_int_equal(kf_op_describe(kf_op_count(), &info), KF_INVALID);
    assert_int_equal(kf_op_describe(0, NULL), KF_INVALID);
    assert_int_equal(kf_op_tensor(op_named("softmax"), 2, &tensor), KF_INVALID);
    assert_int_equal(kf_op_tensor(0, -1, &tensor), KF_INVALID);
    assert_int_equal(kf_op_tensor(-1, 0, &tensor), KF_INVALID);
    assert_int_equal(kf_op_attribute(op_named("swiglu"), 0, &attribute), KF_INVALID);
    assert_non_null(strstr(kf_error(), "swiglu"));
    assert_int_equal(kf_op_attribute(0, 0, NULL), KF_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_told),
        cmocka_unit_test(columns_are_in_their_places),
        cmocka_unit_test(what_is_not_there_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
