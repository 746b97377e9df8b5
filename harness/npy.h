/* NumPy's .npy files, versions 1 to 3. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NPY_H
#define KF_NPY_H
#include "../core/op.h"

typedef struct kf_array { /* owned host data in C order */
    kf_tensor tensor;     /* contiguous */
    void *data;
    char
        note[160]; /* what was converted while reading ("Fortran order rewritten to C order"); "" */
} kf_array;

/* KF_IO: not an array we can read (truncated, object, no header, unknown dtype); KF_INVALID:
 * readable but not legal (rank, size, overflow). f2 becomes f16, f4 and f8 become f32 unless
 * `dtype` (KF_NONE = by file). */
kf_status kf_npy_read(const char *path, kf_dtype dtype, kf_array *out);
/* To a temporary name in the same folder, then renamed. bf16 is written as f4. */
kf_status kf_npy_write(const char *path, const kf_tensor *tensor, const void *data);
/* Header parser on bytes, for the fuzz target. */
kf_status kf_npy_header(const void *bytes, size_t size, kf_tensor *tensor, char descr[16],
                        bool *fortran, size_t *data_at);
void kf_array_free(kf_array *array);
#endif
