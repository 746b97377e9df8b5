/* Finding a native library. SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* secure_getenv, dlinfo */
#endif
#include "library.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

void *kfcu_library_open(const char *path, char *why, size_t why_bytes)
{
    /* RTLD_LOCAL: two versions of one library may be in a process (a caller's and ours).
     * Not RTLD_DEEPBIND: AddressSanitizer aborts on it. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library && why) {
        const char *reason = dlerror();
        snprintf(why, why_bytes, "%s", reason ? reason : "dlopen gives no reason");
    }
    return library;
}

void *kfcu_library_override(const char *variable, int *set, char *why, size_t why_bytes)
{
    const char *path = secure_getenv(variable);
    *set = path && path[0];
    if (!*set) {
        return NULL;
    }
    if (path[0] != '/') {
        snprintf(why, why_bytes, "%s=%s is not an absolute path", variable, path);
        return NULL;
    }
    return kfcu_library_open(path, why, why_bytes);
}

static void *open_newest(const char *pattern)
{
    glob_t found;
    void *library = NULL;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = found.gl_pathc; i > 0 && !library; i--) {
            library = kfcu_library_open(found.gl_pathv[i - 1], NULL, 0);
        }
        globfree(&found);
    }
    return library;
}

void *kfcu_library_search(const kfcu_folder *folders, int count, const char *below,
                          const char *soname)
{
    for (int i = 0; i < count; i++) {
        const char *start = folders[i].variable ? secure_getenv(folders[i].variable) : "/";
        if (!start || start[0] != '/') {
            continue; /* unset, or relative to a working directory that is not ours to trust */
        }
        char pattern[PATH_MAX];
        const int length =
            snprintf(pattern, sizeof pattern, "%s/%s%s/%s", folders[i].variable ? start : "",
                     folders[i].pattern, below, soname);
        if (length > 0 && (size_t)length < sizeof pattern) {
            void *library = open_newest(pattern);
            if (library) {
                return library;
            }
        }
    }
    return NULL;
}

const char *kfcu_library_path(void *library)
{
    struct link_map *map = NULL;
    return dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map ? map->l_name : "";
}
