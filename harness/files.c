/* Temporary names and renames. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "files.h"
#include "../core/backend.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLOTS = 16, PIECE = 1 << 30 }; /* Linux moves at most 2 GiB - 4 KiB per call */

/* Names of living temporaries, where a signal handler can reach them without a lock. `owner` is the
 * pid: a forked child must not remove its parent's files. */
static struct slot {
    atomic_int claimed;
    atomic_int owner; /* 0 = the name is not complete or the file is gone */
    char name[PATH_MAX];
} slots[SLOTS];

struct kf_file {
    int fd;
    int slot; /* -1: written in place */
    char path[PATH_MAX];
};

kf_status kf_write_all(int fd, const char *path, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes) {
        const ssize_t n = write(fd, at, bytes < PIECE ? bytes : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return kf_fail(KF_IO, "cannot write %s: %s", path, strerror(n ? errno : ENOSPC));
        at += n;
        bytes -= (size_t)n;
    }
    return KF_OK;
}

kf_status kf_read_all(int fd, const char *path, void *data, size_t bytes, size_t *got)
{
    *got = 0;
    while (*got < bytes) {
        const size_t left = bytes - *got;
        const ssize_t n = read(fd, (char *)data + *got, left < PIECE ? left : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kf_fail(KF_IO, "cannot read %s: %s", path, strerror(errno));
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return KF_OK;
}

static int claim_slot(void)
{
    for (int i = 0; i < SLOTS; i++) {
        int expected = 0;
        if (atomic_compare_exchange_strong(&slots[i].claimed, &expected, 1))
            return i;
    }
    return -1;
}

static void release_slot(int slot)
{
    atomic_store(&slots[slot].owner, 0);
    atomic_store(&slots[slot].claimed, 0);
}

/* A new file beside `path`. The mode is what a plain open would give, or that of the file to be
 * replaced. */
static kf_status open_temporary(kf_file *file, mode_t mode, bool keep_mode)
{
    static atomic_uint counter;
    char *name = slots[file->slot].name;
    for (int attempt = 0; attempt < 100; attempt++) {
        const unsigned number = atomic_fetch_add(&counter, 1);
        if (snprintf(name, PATH_MAX, "%s.%ld-%u.tmp", file->path, (long)getpid(), number) >=
            PATH_MAX)
            return kf_fail(KF_IO, "cannot write %s: the name is too long", file->path);
        file->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (file->fd >= 0) {
            atomic_store(&slots[file->slot].owner, (int)getpid());
            if (keep_mode)
                (void)fchmod(file->fd, mode); /* a file of somebody else keeps ours: harmless */
            return KF_OK;
        }
        if (errno != EEXIST && errno != EINTR)
            break;
    }
    return kf_fail(KF_IO, "cannot write %s: %s", file->path, strerror(errno));
}

static kf_status open_file(kf_file *file, const char *path)
{
    struct stat info;
    char real[PATH_MAX];
    const bool exists = stat(path, &info) == 0;
    /* Behind a symbolic link the target is replaced, not the link. */
    const char *name = exists && realpath(path, real) ? real : path;
    if (snprintf(file->path, sizeof file->path, "%s", name) >= (int)sizeof file->path)
        return kf_fail(KF_IO, "cannot write %s: the name is too long", path);
    if (exists && !S_ISREG(info.st_mode)) {
        file->fd = open(path, O_WRONLY | O_CLOEXEC);
        return file->fd >= 0 ? KF_OK : kf_fail(KF_IO, "cannot write %s: %s", path, strerror(errno));
    }
    if (exists && access(path, W_OK)) /* a rename would get past a write protection */
        return kf_fail(KF_IO, "cannot write %s: %s", path, strerror(errno));
    file->slot = claim_slot();
    if (file->slot < 0)
        return kf_fail(KF_IO, "cannot write %s: more than %d files are being written", path, SLOTS);
    return open_temporary(file, exists ? info.st_mode & 0777 : 0666, exists);
}

kf_status kf_file_create(const char *path, kf_file **file)
{
    *file = NULL;
    kf_file *made = calloc(1, sizeof *made);
    if (!made)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory to write %s", path);
    made->fd = made->slot = -1;
    const kf_status status = open_file(made, path);
    if (status != KF_OK)
        kf_file_abandon(made);
    else
        *file = made;
    return status;
}

kf_status kf_file_write(kf_file *file, const void *data, size_t bytes)
{
    return kf_write_all(file->fd, file->path, data, bytes);
}

kf_status kf_file_commit(kf_file *file)
{
    kf_status status = KF_OK;
    /* fsync before rename, else a crash may leave the new name with no contents. */
    if (file->slot >= 0 && fsync(file->fd))
        status = kf_fail(KF_IO, "cannot write %s: %s", file->path, strerror(errno));
    if (close(file->fd) && status == KF_OK)
        status = kf_fail(KF_IO, "cannot write %s: %s", file->path, strerror(errno));
    file->fd = -1;
    if (status == KF_OK && file->slot >= 0) {
        if (rename(slots[file->slot].name, file->path))
            status = kf_fail(KF_IO, "cannot write %s: %s", file->path, strerror(errno));
        else
            atomic_store(&slots[file->slot].owner, 0);
    }
    kf_file_abandon(file);
    return status;
}

void kf_file_abandon(kf_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    if (file->slot >= 0) {
        if (atomic_load(&slots[file->slot].owner))
            unlink(slots[file->slot].name);
        release_slot(file->slot);
    }
    free(file);
}

void kf_files_abandon_all(void)
{
    const int self = (int)getpid();
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&slots[i].owner) == self)
            unlink(slots[i].name);
}
