/* Finding a native library: dlopen with a reason when it fails. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KFCU_LIBRARY_H
#define KFCU_LIBRARY_H

#include <stddef.h>

typedef struct kfcu_folder { /* where a library may lie, beyond the loader's own path */
    const char *variable;    /* environment variable that starts the path; NULL = absolute */
    const char *pattern;     /* glob(3) pattern that follows it */
} kfcu_folder;

/* All give a handle that is never closed (a driver that is unloaded takes its threads' code away),
 * or NULL with dlerror()'s words or an own sentence in `why`. */
void *kfcu_library_open(const char *path, char *why, size_t why_bytes);

/* The library named by an environment variable. *set tells whether there is one; it must hold an
 * absolute path and is ignored in a setuid-like process. */
void *kfcu_library_override(const char *variable, int *set, char *why, size_t why_bytes);

/* The newest match of folder + below + "/" + soname, folder by folder. */
void *kfcu_library_search(const kfcu_folder *folders, int count, const char *below,
                          const char *soname);

/* The file an open library came from; "" when unknown. */
const char *kfcu_library_path(void *library);

#endif
