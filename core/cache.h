/* Compiled kernels on disk: one file per key in one folder of the user's. A file is used only when
 * the folder and the file are the user's alone, its key is the very same text, and its checksum
 * holds; everything else is a miss and is unlinked. The checksum guards against accidents, owner
 * and mode against other users; nothing guards against programs that already run as the user. Any
 * file may be deleted at any time. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_CACHE_H
#define KF_CACHE_H

#include "backend.h"

#define KF_CACHE_FORMAT 1 /* layout of an entry, and part of every key */

/* $KFUSE_CACHE_DIR, $XDG_CACHE_HOME/kfuse or $HOME/.cache/kfuse; "" and the reason when there is
 * none. Relative paths are ignored: the current directory is not a place for code. Neither creates
 * nor checks anything. */
const char *kf_cache_root(char *buffer, size_t bytes, char *why, size_t why_bytes);

/* Creates root and the folder above it where missing, and opens it; with `name`, that folder inside
 * it. -1 and the reason when it is missing or not the user's alone. */
int kf_cache_open_folder(const char *name, bool create, char *why, size_t why_bytes);
void kf_cache_close_folder(int folder); /* -1 is fine */

typedef struct kf_cache_entry {
    void *data; /* malloc'd */
    size_t bytes;
} kf_cache_entry;

/* False is a miss. What is there but cannot be used is unlinked. */
bool kf_cache_read(const char *key, kf_cache_entry *entry);
/* False when it could not be stored: nothing half-written stays. */
bool kf_cache_write(const char *key, const void *data, size_t bytes);
void kf_cache_remove(const char *key);

typedef struct kf_cache_summary {
    int64_t entries, bytes;
} kf_cache_summary;

/* For the tool, whatever KFUSE_NO_CACHE says. KF_IO when there is no usable folder; an empty or
 * missing one is KF_OK and zeros. Clearing removes compiled kernels and left-over temporary files,
 * not what was probed. */
kf_status kf_cache_stats(kf_cache_summary *found);
kf_status kf_cache_clear(kf_cache_summary *removed);

#endif
