/* NVRTC: CUDA C++ text to a cubin or PTX. Works without a driver and without a GPU, which is how
 * the tests compile every kernel for every architecture; the cuda backend builds through the same
 * call.
 *
 * The library is looked for once per process (first KFUSE_NVRTC, an absolute path; then
 * libnvrtc.so.13 and .12 in the loader's path, in the toolkit and in Python packages' folders) and
 * never closed. All calls may come from several threads. SPDX-License-Identifier: Apache-2.0 */
#ifndef KFCU_NVRTC_H
#define KFCU_NVRTC_H

#include "../../core/backend.h"

#define KFCU_MAX_ARCHS 64

typedef struct kfcu_source {
    const char *text;
    const char *name;           /* for messages about lines outside any #line: "softmax.cu" */
    const char *arch;           /* "sm_90", "sm_90a", "sm_100f" */
    const char *const *entries; /* named when the message carries no line; may be NULL */
    int entry_count;
    int register_cap; /* registers per thread; 0 = the compiler's choice */
} kfcu_source;

typedef struct kfcu_binary {
    void *data; /* malloc'd, the caller frees it; PTX ends in a 0 byte that `bytes` counts */
    size_t bytes;
    bool ptx; /* the architecture is newer than NVRTC: PTX for the driver's own compiler */
} kfcu_binary;

/* KF_UNAVAILABLE: no NVRTC, or it no longer knows the architecture; KF_BUILD_FAILED: the sentence
 * carries the first errors at their real file and line; KF_UNSUPPORTED: an `a` or `f` architecture
 * that this NVRTC is too old for. */
kf_status kfcu_compile(const kfcu_source *source, kfcu_binary *binary);

/* *path stays valid. KF_UNAVAILABLE names what was missing and the command that brings it. */
kf_status kfcu_nvrtc_version(int *major, int *minor, const char **path);

/* Numbers as in "sm_90" -> 90, ascending; at most KFCU_MAX_ARCHS are asked for. */
kf_status kfcu_nvrtc_archs(int *list, int capacity, int *count);

/* A driver of CUDA 12 cannot load what NVRTC 13 makes: says which major version to look for first.
 * Without effect once the library is loaded. */
void kfcu_nvrtc_prefer(int major);

/* KFUSE_BUILD_OPTIONS, "" when unset: the one way in which a user's text becomes a compiler option.
 * Whoever caches a build must put it into the key. */
const char *kfcu_build_options(void);

#endif
