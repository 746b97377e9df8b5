/* Tensors and attributes of one call, checked against the op's table. SPDX-License-Identifier:
 * Apache-2.0 */
#include "op.h"
#include "backend.h"
#include <stdlib.h>
#include <string.h>

/* Every offset, in bytes, stays below this: 2^62 leaves room for sums of two. */
#define EXTENT_LIMIT ((int64_t)1 << 58)

kf_status kf_problem_open(const char *op, kf_problem **problem)
{
    const kf_op *found = kf_op_find(op);
    if (!problem)
        return kf_fail(KF_INVALID, "kf_problem_open: no place for the result");
    *problem = NULL;
    if (!found)
        return kf_fail(KF_INVALID, "kf_problem_open: there is no op '%s'", op ? op : "(null)");
    *problem = calloc(1, sizeof **problem);
    if (!*problem)
        return kf_fail(KF_OUT_OF_MEMORY, "kf_problem_open: no host memory for a problem");
    (*problem)->op = found;
    for (int i = 0; i < found->attribute_count; i++) {
        (*problem)->attribute[i].i = (int64_t)found->attributes[i].fallback;
        (*problem)->attribute[i].f = found->attributes[i].fallback;
    }
    return KF_OK;
}

void kf_problem_close(kf_problem *problem)
{
    free(problem);
}

int kf_problem_index(const kf_problem *problem, const char *name)
{
    for (int i = 0; problem && name && i < problem->op->tensor_count; i++)
        if (!strcmp(problem->op->tensors[i].name, name))
            return i;
    return -1;
}

kf_status kf_tensor_extent(const kf_tensor *tensor, int64_t *extent)
{
    int64_t last = 0;
    *extent = 0;
    for (int i = 0; i < tensor->rank; i++) {
        int64_t reach;
        if (tensor->size[i] == 0)
            return KF_OK;
        if (__builtin_mul_overflow(tensor->size[i] - 1, tensor->stride[i], &reach) ||
            __builtin_add_overflow(last, reach, &last) || last >= EXTENT_LIMIT)
            return kf_fail(KF_INVALID,
                           "the tensor's extent overflows (axis %d: size %lld, stride %lld)", i,
                           (long long)tensor->size[i], (long long)tensor->stride[i]);
    }
    *extent = last + 1;
    return KF_OK;
}

int64_t kf_tensor_elements(const kf_tensor *tensor)
{
    int64_t count = tensor->dtype == KF_NONE ? 0 : 1;
    for (int i = 0; i < tensor->rank; i++)
        count *= tensor->size[i];
    return count;
}

int64_t kf_tensor_offset(const kf_tensor *tensor, int64_t index)
{
    int64_t offset = 0;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        offset += index % tensor->size[i] * tensor->stride[i];
        index /= tensor->size[i];
    }
    return offset;
}

static kf_status check_tensor(const char *name, const kf_tensor *tensor)
{
    int64_t count = 1, extent;
    if (!kf_dtype_bytes(tensor->dtype))
        return kf_fail(KF_INVALID, "tensor '%s' has no dtype", name);
    if (tensor->rank < 0 || tensor->rank > KF_MAX_RANK)
        return kf_fail(KF_INVALID, "tensor '%s' has rank %d; 0 to %d are possible", name,
                       tensor->rank, KF_MAX_RANK);
    for (int i = 0; i < tensor->rank; i++) {
        if (tensor->size[i] < 0)
            return kf_fail(KF_INVALID, "tensor '%s' has a negative size on axis %d", name, i);
        if (tensor->stride[i] < 0)
            return kf_fail(KF_INVALID, "tensor '%s' has a negative stride on axis %d", name, i);
        if (__builtin_mul_overflow(count, tensor->size[i], &count) || count >= EXTENT_LIMIT)
            return kf_fail(KF_INVALID,
                           "tensor '%s' has too many elements: the product of its sizes overflows",
                           name);
    }
    if (tensor->alignment < 0 || (tensor->alignment & (tensor->alignment - 1)))
        return kf_fail(KF_INVALID,
                       "tensor '%s' promises an alignment of %d bytes; a power of two is needed",
                       name, tensor->alignment);
    return kf_tensor_extent(tensor, &extent);
}

kf_status kf_problem_tensor(kf_problem *problem, const char *name, const kf_tensor *tensor)
{
    if (!problem || !tensor)
        return kf_fail(KF_INVALID, "kf_problem_tensor: a problem and a tensor are needed");
    const int i = kf_problem_index(problem, name);
    if (i < 0)
        return kf_fail(KF_INVALID, "op '%s' has no tensor '%s'", problem->op->name,
                       name ? name : "(null)");
    const kf_status status = check_tensor(name, tensor);
    if (status == KF_OK) {
        problem->tensor[i] = *tensor;
        for (int axis = tensor->rank; axis < KF_MAX_RANK; axis++) /* whatever lay there */
            problem->tensor[i].size[axis] = problem->tensor[i].stride[axis] = 0;
    }
    return status;
}

static int attribute_index(const kf_problem *problem, const char *name)
{
    for (int i = 0; problem && name && i < problem->op->attribute_count; i++)
        if (!strcmp(problem->op->attributes[i].name, name))
            return i;
    return -1;
}

kf_status kf_problem_float(kf_problem *problem, const char *name, double value)
{
    const int i = attribute_index(problem, name);
    if (i < 0)
        return kf_fail(KF_INVALID, "op '%s' has no attribute '%s'",
                       problem ? problem->op->name : "(null)", name ? name : "(null)");
    if (!problem->op->attributes[i].real && value != (double)(int64_t)value)
        return kf_fail(KF_INVALID, "attribute '%s' takes a whole number, not %g", name, value);
    problem->attribute[i] = (kf_attribute){.set = true, .i = (int64_t)value, .f = value};
    return KF_OK;
}

kf_status kf_problem_int(kf_problem *problem, const char *name, int64_t value)
{
    const int i = attribute_index(problem, name);
    if (i < 0)
        return kf_fail(KF_INVALID, "op '%s' has no attribute '%s'",
                       problem ? problem->op->name : "(null)", name ? name : "(null)");
    problem->attribute[i] = (kf_attribute){.set = true, .i = value, .f = (double)value};
    return KF_OK;
}

/* ---- shapes from dims --------------------------------------------------------------------- */

bool kf_problem_scalar(const kf_problem *problem, int i)
{
    const char *attribute = problem->op->tensors[i].scalar;
    return attribute && problem->attribute[attribute_index(problem, attribute)].i != 0;
}

/* The n-th word of a list separated by spaces, as an index into the op's dims; -1 past the end. */
static int dim_of_word(const kf_op *op, const char *list, int n)
{
    char word[32];
    while (n-- > 0 && *list) {
        list += strcspn(list, " ");
        list += *list == ' ';
    }
    const size_t length = strcspn(list, " ");
    if (length == 0 || length >= sizeof word)
        return -1;
    memcpy(word, list, length);
    word[length] = 0;
    return kf_op_dim(op, word);
}

kf_status kf_problem_shape(kf_problem *problem, kf_dtype dtype, const int64_t *dims,
                           const char *optional)
{
    const kf_op *op = problem->op;
    for (int i = 0; i < op->tensor_count; i++) {
        const kf_tensor_decl *decl = &op->tensors[i];
        int64_t size[KF_MAX_RANK];
        int rank = 0;
        if (decl->optional && !kf_listed(optional, decl->name))
            continue;
        for (int d; !kf_problem_scalar(problem, i) && rank < KF_MAX_RANK &&
                    (d = dim_of_word(op, decl->dims, rank)) >= 0;
             rank++)
            size[rank] = dims[d];
        kf_tensor tensor;
        kf_status status =
            kf_tensor_contiguous(decl->dtype ? decl->dtype : dtype, rank, size, &tensor);
        if (status == KF_OK)
            status = kf_problem_tensor(problem, decl->name, &tensor);
        if (status != KF_OK)
            return status;
    }
    return KF_OK;
}

/* ---- derive ------------------------------------------------------------------------------- */

static kf_status check_dtype(kf_problem *problem, int i)
{
    const kf_tensor_decl *decl = &problem->op->tensors[i];
    const kf_dtype dtype = problem->tensor[i].dtype;
    if (decl->dtype)
        return dtype == decl->dtype
                   ? KF_OK
                   : kf_fail(KF_INVALID, "tensor '%s' of op '%s' is %s, not %s", decl->name,
                             problem->op->name, kf_dtype_name(decl->dtype), kf_dtype_name(dtype));
    if (dtype != KF_F32 && dtype != KF_F16 && dtype != KF_BF16)
        return kf_fail(KF_INVALID, "tensor '%s' of op '%s' takes f32, f16 or bf16, not %s",
                       decl->name, problem->op->name, kf_dtype_name(dtype));
    if (problem->dtype && problem->dtype != dtype)
        return kf_fail(
            KF_INVALID, "the tensors of op '%s' have different dtypes: '%s' is %s, others are %s",
            problem->op->name, decl->name, kf_dtype_name(dtype), kf_dtype_name(problem->dtype));
    problem->dtype = dtype;
    return KF_OK;
}

kf_status kf_problem_derive(kf_problem *problem)
{
    const kf_op *op = problem->op;
    problem->dtype = KF_NONE;
    for (int i = 0; i < op->tensor_count; i++) {
        if (problem->tensor[i].dtype == KF_NONE) {
            if (!op->tensors[i].optional)
                return kf_fail(KF_INVALID, "op '%s' needs the tensor '%s' (%s)", op->name,
                               op->tensors[i].name, op->tensors[i].dims);
            continue;
        }
        const kf_status status = check_dtype(problem, i);
        if (status != KF_OK)
            return status;
    }
    for (int i = 0; i < KF_MAX_DIMS; i++)
        problem->dim[i] = -1;
    problem->inner = 1;
    const kf_status status = op->derive(problem);
    if (status != KF_OK)
        return status;
    problem->empty = problem->inner == 0;
    for (int i = 0; i < kf_op_dim_count(op); i++)
        problem->empty |= problem->dim[i] == 0;
    return KF_OK;
}

bool kf_tensor_fold(const kf_tensor *tensor, int first, int end, int64_t *count, int64_t *stride)
{
    *count = 1;
    *stride = 0;
    for (int i = end - 1; i >= first; i--) {
        if (tensor->size[i] == 1)
            continue;
        if (*count == 1)
            *stride = tensor->stride[i];
        else if (tensor->stride[i] != *stride * *count)
            return false;
        *count *= tensor->size[i];
    }
    return true;
}

static kf_status set_dim(kf_problem *problem, int tensor, int dim, int64_t size)
{
    if (problem->dim[dim] >= 0 && problem->dim[dim] != size)
        return kf_fail(KF_INVALID,
                       "the tensors of op '%s' disagree: '%s' has %lld where %lld is needed (%s)",
                       problem->op->name, problem->op->tensors[tensor].name, (long long)size,
                       (long long)problem->dim[dim], problem->op->dims);
    problem->dim[dim] = size;
    return KF_OK;
}

/* First axis of a row of tensor i: the attribute `axis` where the op has one (negative: from the
 * end), else the last. */
static kf_status row_axis(const kf_problem *problem, int i, int *axis)
{
    const kf_tensor *t = &problem->tensor[i];
    const int attribute = attribute_index(problem, "axis");
    const int64_t asked = attribute < 0 ? -1 : problem->attribute[attribute].i;
    if (t->rank < 1)
        return kf_fail(KF_INVALID, "tensor '%s' of op '%s' needs at least one axis (%s)",
                       problem->op->tensors[i].name, problem->op->name,
                       problem->op->tensors[i].dims);
    if (asked < -t->rank || asked >= t->rank)
        return kf_fail(KF_INVALID, "axis=%lld: the tensor '%s' of op '%s' has %d axes",
                       (long long)asked, problem->op->tensors[i].name, problem->op->name, t->rank);
    *axis = (int)(asked < 0 ? asked + t->rank : asked);
    return KF_OK;
}

static kf_status derive_width(const kf_problem *problem, int i, int axis, int64_t *width)
{
    const kf_tensor *t = &problem->tensor[i];
    int64_t step;
    const bool folds = kf_tensor_fold(t, axis, t->rank, width, &step);
    if (*width <= 1 || (folds && step == 1))
        return KF_OK;
    return axis == t->rank - 1
               ? kf_fail(KF_INVALID, "the last axis of tensor '%s' has stride %lld; 1 is needed",
                         problem->op->tensors[i].name, (long long)t->stride[axis])
               : kf_fail(KF_INVALID, "axes %d to %d of tensor '%s' are not contiguous", axis,
                         t->rank - 1, problem->op->tensors[i].name);
}

static kf_status derive_tensor(kf_problem *problem, int i)
{
    const kf_tensor_decl *decl = &problem->op->tensors[i];
    const kf_tensor *t = &problem->tensor[i];
    const int outer = dim_of_word(problem->op, decl->dims, 0),
              inner = dim_of_word(problem->op, decl->dims, 1);
    int axes = t->rank; /* that fold into the outer dim */
    int64_t count, stride, width = 1;
    kf_status status = inner >= 0 ? row_axis(problem, i, &axes) : KF_OK;
    if (status == KF_OK && inner >= 0)
        status = derive_width(problem, i, axes, &width);
    if (status != KF_OK)
        return status;
    if (!kf_tensor_fold(t, 0, axes, &count, &stride))
        return kf_fail(KF_INVALID,
                       "the leading axes of tensor '%s' do not fold into one with a single stride",
                       decl->name);
    const int64_t least = inner >= 0 ? width : 1;
    if (count > 1 && stride < least && !(decl->role == KF_INPUT && stride == 0))
        return kf_fail(KF_INVALID, "rows of tensor '%s' overlap: row stride %lld, width %lld",
                       decl->name, (long long)stride, (long long)width);
    if (inner < 0 && count > 1 && stride != 1)
        return kf_fail(KF_INVALID, "tensor '%s' has stride %lld; it must be contiguous", decl->name,
                       (long long)stride);
    problem->row_stride[i] = count <= 1 ? 0 : stride; /* a single row: never used, any alignment */
    status = set_dim(problem, i, outer, count);
    return status != KF_OK || inner < 0 ? status : set_dim(problem, i, inner, width);
}

static kf_status derive_scalar(kf_problem *problem, int i)
{
    const int64_t elements = kf_tensor_elements(&problem->tensor[i]);
    problem->row_stride[i] = 0;
    return elements == 1
               ? KF_OK
               : kf_fail(KF_INVALID, "with %s the tensor '%s' of op '%s' is one element, not %lld",
                         problem->op->tensors[i].scalar, problem->op->tensors[i].name,
                         problem->op->name, (long long)elements);
}

kf_status kf_derive_rows(kf_problem *problem)
{
    for (int i = 0; i < problem->op->tensor_count; i++) {
        if (problem->tensor[i].dtype == KF_NONE)
            continue;
        const kf_status status =
            kf_problem_scalar(problem, i) ? derive_scalar(problem, i) : derive_tensor(problem, i);
        if (status != KF_OK)
            return status;
    }
    return KF_OK;
}

int kf_row_alignment(const kf_problem *problem, int tensor)
{
    const int size = kf_dtype_bytes(problem->tensor[tensor].dtype);
    const int promised =
        problem->tensor[tensor].alignment ? problem->tensor[tensor].alignment : size;
    int alignment = promised;
    while (alignment > 1 && problem->row_stride[tensor] * size % alignment)
        alignment /= 2;
    return alignment;
}
