/* Opens the ICD loader, libOpenCL.so.1, at run time, so that one binary starts on machines without
 * it.
 *
 * RTLD_LOCAL keeps a driver's LLVM out of the program's symbols; RTLD_DEEPBIND is not used because
 * it breaks the sanitizers; the library is never closed, because drivers do not survive it.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "opencl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

opencl_functions cl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char problem[256]; /* why it is not usable; "" when it is */

static const char *override_path(void)
{
    const char *path = secure_getenv("KFUSE_LIBOPENCL");
    return path && path[0] ? path : NULL;
}

const char *opencl_library(void)
{
    const char *path = override_path();
    return path ? path : OPENCL_LOADER;
}

static bool find_symbol(void *library, const char *name, void *pointer)
{
    /* ISO C has no conversion from object to function pointer: POSIX says to write through it. */
    *(void **)pointer = dlsym(library, name);
    if (!*(void **)pointer && !problem[0])
        snprintf(problem, sizeof problem, "%s has no %s: OpenCL 1.2 is needed", opencl_library(),
                 name);
    return *(void **)pointer != NULL;
}

static void load_once(void)
{
    const char *path = override_path();
    if (path && path[0] != '/') {
        snprintf(problem, sizeof problem, "KFUSE_LIBOPENCL=%s is not an absolute path", path);
        return;
    }
    void *library = dlopen(opencl_library(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        snprintf(problem, sizeof problem, "the OpenCL loader cannot be opened: %s",
                 why ? why : opencl_library());
        return;
    }
#define FN(name) find_symbol(library, #name, &cl.name);
#include "opencl.fn"
#undef FN
}

kf_status opencl_load(void)
{
    pthread_once(&once, load_once);
    if (problem[0])
        return kf_fail(KF_UNAVAILABLE, "OpenCL: %s", problem);
    return KF_OK;
}
