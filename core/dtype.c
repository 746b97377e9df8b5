/* Names and sizes of the storage types; contiguous tensors. SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"
#include <string.h>

static const struct {
    const char *name;
    int bytes;
} dtypes[] = {
    [KF_NONE] = {"none", 0}, [KF_F32] = {"f32", 4}, [KF_F16] = {"f16", 2},
    [KF_BF16] = {"bf16", 2}, [KF_I32] = {"i32", 4}, [KF_I64] = {"i64", 8},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

int kf_dtype_bytes(kf_dtype dtype)
{
    return (unsigned)dtype < DTYPES ? dtypes[dtype].bytes : 0;
}

const char *kf_dtype_name(kf_dtype dtype)
{
    return dtypes[(unsigned)dtype < DTYPES ? dtype : KF_NONE].name;
}

kf_dtype kf_dtype_parse(const char *name)
{
    for (int i = KF_NONE + 1; name && i < DTYPES; i++)
        if (!strcmp(name, dtypes[i].name))
            return (kf_dtype)i;
    return KF_NONE;
}

/* An axis of size 0 counts as 1 in the strides of the axes before it: they stay distinct, and a
 * shape whose other sizes overflow is refused although it has no elements. */
kf_status kf_tensor_contiguous(kf_dtype dtype, int rank, const int64_t *size, kf_tensor *out)
{
    int64_t bytes = kf_dtype_bytes(dtype), stride = 1;
    if (!out || (!size && rank != 0))
        return kf_fail(KF_INVALID,
                       "kf_tensor_contiguous: sizes and a place for the tensor are needed");
    if (!bytes)
        return kf_fail(KF_INVALID, "kf_tensor_contiguous: %d is no dtype", (int)dtype);
    if (rank < 0 || rank > KF_MAX_RANK)
        return kf_fail(KF_INVALID, "kf_tensor_contiguous: rank %d; 0 to %d are possible", rank,
                       KF_MAX_RANK);
    kf_tensor tensor = {.dtype = dtype, .rank = rank};
    for (int i = rank - 1; i >= 0; i--) {
        const int64_t step = size[i] > 0 ? size[i] : 1;
        if (size[i] < 0)
            return kf_fail(KF_INVALID, "kf_tensor_contiguous: size %lld of axis %d is negative",
                           (long long)size[i], i);
        if (__builtin_mul_overflow(bytes, step, &bytes))
            return kf_fail(KF_INVALID,
                           "kf_tensor_contiguous: the %s tensor has more than 2^63 bytes from "
                           "axis %d on",
                           kf_dtype_name(dtype), i);
        tensor.size[i] = size[i];
        tensor.stride[i] = stride;
        stride *= step;
    }
    *out = tensor;
    return KF_OK;
}
