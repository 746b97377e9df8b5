/* Kernel texts: embedded at build time, or read from disk for edit-and-run.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_SOURCE_H
#define KF_SOURCE_H

#include "backend.h"

typedef struct kf_text {
    const char *folder; /* "cuda": kf_backend.kernels */
    const char *stem;   /* "softmax"; NULL = part of the folder's prelude */
    const char *file;   /* "softmax.cu" */
    const char *begin, *end;
} kf_text;

/* Generated (build/generated/texts.c): preludes of a folder before its kernels, both in order of
 * their names; the last has a NULL folder. */
extern const kf_text kf_texts[];

/* The whole text of one kernel file: a line '#define NAME VALUE' for each of `defines` ("NAME
 * VALUE"), the prelude, the kernel, each with a #line that names its own file. *text is malloc'd
 * and ends with a NUL that *bytes does not count. from_disk honours KFUSE_KERNELS=dir, where dir is
 * a backends folder: dir/cuda/kernels/softmax.cu. KF_UNSUPPORTED: no such text is embedded; KF_IO:
 * it cannot be read from disk. */
kf_status kf_source_compose(const kf_backend *backend, const char *stem, bool from_disk,
                            const char *const *defines, int define_count, char **text,
                            size_t *bytes);

#endif
