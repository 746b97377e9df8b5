/* Output files: written under a temporary name in the same folder, fsynced, renamed; a reader never
 * sees half of one. What is not a regular file (a pipe, /dev/null) is written in place.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_FILES_H
#define KF_FILES_H
#include <kfuse/kfuse.h>

typedef struct kf_file kf_file;

kf_status kf_file_create(const char *path, kf_file **file);
kf_status kf_file_write(kf_file *file, const void *data, size_t bytes);
/* fsync and rename; the file is gone afterwards, renamed or (on failure) removed. */
kf_status kf_file_commit(kf_file *file);
void kf_file_abandon(kf_file *file); /* NULL is fine */
/* Removes every temporary of this process. Async-signal-safe: for the tool's signal handler. */
void kf_files_abandon_all(void);
/* All of data to a descriptor, through short writes and EINTR. */
kf_status kf_write_all(int fd, const char *path, const void *data, size_t bytes);
/* At most `bytes`, less only at the end of the file. */
kf_status kf_read_all(int fd, const char *path, void *data, size_t bytes, size_t *got);
#endif
