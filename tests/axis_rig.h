/* Softmaxes of views along any of their axes. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_TEST_AXIS_RIG_H
#define KF_TEST_AXIS_RIG_H
#include "map_rig.h"

enum { X, Y };
static const char *const ops[] = {"softmax", "log_softmax"};
static const char *const variants[] = {"unfused", "fused", "fused_cpu"};

typedef struct view { /* of x and y alike */
    int rank;
    int64_t size[4], stride[4]; /* stride[0] = 0: contiguous */
    int64_t axis;
} view;

static inline kf_problem *problem_of(const char *op, kf_dtype dtype, const view *v)
{
    kf_problem *problem;
    kf_tensor t;
    assert_int_equal(kf_problem_open(op, &problem), KF_OK);
    assert_int_equal(kf_tensor_contiguous(dtype, v->rank, v->size, &t), KF_OK);
    for (int i = 0; v->stride[0] && i < v->rank; i++)
        t.stride[i] = v->stride[i];
    assert_int_equal(kf_problem_int(problem, "axis", v->axis), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "x", &t), KF_OK);
    assert_int_equal(kf_problem_tensor(problem, "y", &t), KF_OK);
    return problem;
}

#endif
