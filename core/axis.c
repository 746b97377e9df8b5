/* Ops of any axis: the last of their dims is the axis that the attribute `axis` names, wherever it
 * stands. Nothing is transposed or copied: what lies behind the axis is one more size, `inner`, and
 * neighbours along the axis lie `step` apart. SPDX-License-Identifier: Apache-2.0 */
#include "op.h"
#include "backend.h"
#include <string.h>

static int64_t asked_axis(const kf_problem *problem)
{
    for (int i = 0; i < problem->op->attribute_count; i++)
        if (!strcmp(problem->op->attributes[i].name, "axis"))
            return problem->attribute[i].i;
    return -1;
}

int kf_axis_of(const kf_problem *problem, int tensor)
{
    const kf_tensor *t = &problem->tensor[tensor];
    const int64_t asked = problem->op->any_axis ? asked_axis(problem) : -1;
    return (int)(asked < 0 ? asked + t->rank : asked);
}

int64_t kf_axis_size(const kf_problem *problem, int tensor)
{
    const int axis = kf_axis_of(problem, tensor);
    return axis < 0 ? 1 : problem->tensor[tensor].size[axis];
}

kf_tensor kf_axis_last(const kf_problem *problem, int tensor)
{
    kf_tensor t = problem->tensor[tensor];
    for (int i = kf_axis_of(problem, tensor); i >= 0 && i + 1 < t.rank; i++) {
        const int64_t size = t.size[i], stride = t.stride[i];
        t.size[i] = t.size[i + 1];
        t.stride[i] = t.stride[i + 1];
        t.size[i + 1] = size;
        t.stride[i + 1] = stride;
    }
    return t;
}

/* ---- derive ------------------------------------------------------------------------------- */

/* Does anything lie behind the axis of some tensor? An axis that is not there is for
 * kf_derive_rows() to refuse. */
static bool is_last(const kf_problem *problem)
{
    for (int i = 0; i < problem->op->tensor_count; i++) {
        const kf_tensor *t = &problem->tensor[i];
        const int axis = t->dtype ? kf_axis_of(problem, i) : -1;
        for (int a = axis + 1; axis >= 0 && a < t->rank; a++)
            if (t->size[a] != 1)
                return false;
    }
    return true;
}

static kf_status check_axis(const kf_problem *problem, int i)
{
    const kf_tensor *t = &problem->tensor[i];
    const int axis = kf_axis_of(problem, i);
    return axis >= 0 && axis < t->rank
               ? KF_OK
               : kf_fail(KF_INVALID, "axis=%lld: the tensor '%s' of op '%s' has %d axes",
                         (long long)asked_axis(problem), problem->op->tensors[i].name,
                         problem->op->name, t->rank);
}

/* May `count` things of `extent` elements lie `stride` apart? */
static bool apart(int64_t count, int64_t extent, int64_t stride, bool may_repeat)
{
    return count <= 1 || stride >= extent || (may_repeat && stride == 0);
}

/* Lines inside of rows, or rows inside of the steps from line to line, as in a view with two axes
 * exchanged. An input may repeat a row. */
static bool overlaps(const kf_problem *problem, int i, int64_t rows, int64_t cols, int64_t inner)
{
    const bool input = problem->op->tensors[i].role == KF_INPUT;
    const int64_t row = problem->row_stride[i], step = problem->step[i];
    const bool lines = apart(cols, inner, step, false) &&
                       apart(rows, (cols > 1 ? (cols - 1) * step : 0) + inner, row, input);
    const bool exchanged = apart(rows, inner, row, input) &&
                           apart(cols, (rows > 1 ? (rows - 1) * row : 0) + inner, step, false);
    return !lines && !exchanged;
}

static kf_status derive_tensor(kf_problem *problem, int i)
{
    const kf_tensor *t = &problem->tensor[i];
    const char *name = problem->op->tensors[i].name;
    const kf_status status = check_axis(problem, i);
    int64_t rows, inner, stride;
    if (status != KF_OK)
        return status;
    const int axis = kf_axis_of(problem, i);
    if (!kf_tensor_fold(t, axis + 1, t->rank, &inner, &stride) || (inner > 1 && stride != 1))
        return kf_fail(KF_INVALID, "the axes behind axis %d of tensor '%s' are not contiguous",
                       axis, name);
    if (!kf_tensor_fold(t, 0, axis, &rows, &stride))
        return kf_fail(KF_INVALID,
                       "the axes before axis %d of tensor '%s' do not fold into one with a single "
                       "stride",
                       axis, name);
    const int64_t found[3] = {rows, t->size[axis], inner};
    int64_t *const place[3] = {&problem->dim[0], &problem->dim[1], &problem->inner};
    for (int d = 0; d < 3; d++) {
        if (*place[d] >= 0 && *place[d] != found[d])
            return kf_fail(
                KF_INVALID,
                "the tensors of op '%s' disagree: '%s' has %lld where %lld is needed (%s "
                "inner)",
                problem->op->name, name, (long long)found[d], (long long)*place[d],
                problem->op->dims);
        *place[d] = found[d];
    }
    problem->row_stride[i] = rows <= 1 ? 0 : stride; /* never used: any alignment */
    problem->step[i] = t->size[axis] <= 1 ? 0 : t->stride[axis];
    if (rows > 0 && t->size[axis] > 0 && overlaps(problem, i, rows, t->size[axis], inner))
        return kf_fail(KF_INVALID,
                       "tensor '%s' overlaps itself: row stride %lld, stride of axis %d %lld, "
                       "%lld elements behind it",
                       name, (long long)stride, axis, (long long)t->stride[axis], (long long)inner);
    return KF_OK;
}

kf_status kf_derive_axis(kf_problem *problem)
{
    kf_status status = KF_OK;
    if (is_last(problem))
        return kf_derive_rows(problem);
    problem->inner = -1; /* not told yet */
    for (int i = 0; status == KF_OK && i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype)
            status = derive_tensor(problem, i);
    return status;
}

/* ---- shapes from dims --------------------------------------------------------------------- */

kf_status kf_problem_shape_inner(kf_problem *problem, kf_dtype dtype, const int64_t *dims,
                                 int64_t inner, const int64_t *line)
{
    const int64_t size[3] = {dims[0], dims[1], inner};
    kf_status status = kf_problem_int(problem, "axis", 1);
    for (int i = 0; status == KF_OK && i < problem->op->tensor_count; i++) {
        kf_tensor t;
        status = kf_tensor_contiguous(dtype, 3, size, &t);
        if (status == KF_OK && line && line[i]) {
            t.stride[1] = line[i];
            if (__builtin_mul_overflow(line[i], dims[1], &t.stride[0]))
                status = kf_fail(KF_INVALID, "the rows of tensor '%s' overflow 64 bits",
                                 problem->op->tensors[i].name);
        }
        if (status == KF_OK)
            status = kf_problem_tensor(problem, problem->op->tensors[i].name, &t);
    }
    return status;
}
