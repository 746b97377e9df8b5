/* Many values of a storage type at once. Same rounding as kf_store (nearest even, straight from
 * double, NaN stays NaN), which it falls back on, but ten times faster for 16-bit types: random
 * inputs come in hundreds of millions. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_CONVERT_H
#define KF_CONVERT_H
#include "../core/op.h"

/* data[first + i * stride] = value[i], rounded. Strides in elements. */
void kf_store_many(void *data, kf_dtype dtype, int64_t first, int64_t stride, const double *value,
                   int64_t count);
void kf_load_many(const void *data, kf_dtype dtype, int64_t first, int64_t stride, double *value,
                  int64_t count);
/* Each value as it is after being stored and read again. */
void kf_round_many(kf_dtype dtype, double *value, int64_t count);
/* Gathers or scatters the elements of a strided tensor, C order, `count` from `first` on; packed is
 * contiguous. */
void kf_gather(const kf_tensor *tensor, const void *data, int64_t first, int64_t count,
               void *packed);
void kf_scatter(const kf_tensor *tensor, void *data, int64_t first, int64_t count,
                const void *packed);
/* Size of the last axis, at least 1: elements that lie on one line. */
int64_t kf_tensor_width(const kf_tensor *tensor);
bool kf_tensor_packed(const kf_tensor *tensor); /* no padding: extent = elements, C order */
#endif
