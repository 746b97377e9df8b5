/* The files of the cache: folder, entries, sweeping. SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* An entry: header, key, payload, and the checksum of all three. Numbers in the machine's own
 * order: the files do not travel. */
typedef struct entry_header {
    char magic[8];
    uint32_t format;
    uint32_t header_bytes;
    uint64_t key_bytes, payload_bytes;
} entry_header;

enum { CHECKSUM_BYTES = sizeof(XXH128_canonical_t), NAME_BYTES = 48, DAY = 24 * 60 * 60 };
static const char magic[8] = {'k', 'f', 'u', 's', 'e', 'b', 'i', 'n'};
static const char suffix[] = ".bin", temporary[] = ".tmp-";
static const off_t max_file_bytes = 256 << 20; /* a cubin has tens of KiB */

/* ---- folder -------------------------------------------------------------------------------- */

static const char *no_root(char *why, size_t why_bytes, const char *reason)
{
    if (why && why_bytes)
        snprintf(why, why_bytes, "%s", reason);
    return "";
}

const char *kf_cache_root(char *buffer, size_t bytes, char *why, size_t why_bytes)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"KFUSE_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "/kfuse"}, {"HOME", "/.cache/kfuse"}};
    buffer[0] = '\0';
    for (int i = 0; i < 3; i++) {
        const char *value = secure_getenv(places[i].variable);
        if (!value || value[0] != '/')
            continue;
        if ((size_t)snprintf(buffer, bytes, "%s%s", value, places[i].below) < bytes)
            return buffer;
        buffer[0] = '\0';
        return no_root(why, why_bytes, "the path of the cache folder is too long");
    }
    return no_root(why, why_bytes,
                   "none of KFUSE_CACHE_DIR, XDG_CACHE_HOME and HOME is an absolute path");
}

static void make_folder(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash && slash != path) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    mkdir(path, 0700);
}

/* O_NOFOLLOW and a look at what was opened, not at the name: no time between looking and using. */
static int open_own_folder(const char *path, char *why, size_t why_bytes)
{
    struct stat status;
    char reason[4400];
    const int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) {
        const bool link = errno == ELOOP || errno == ENOTDIR;
        snprintf(reason, sizeof reason, "%s: %s", path,
                 link ? "not a folder but a file or a link" : strerror(errno));
    } else if (fstat(folder, &status) != 0 || status.st_uid != geteuid()) {
        snprintf(reason, sizeof reason, "%s belongs to another user", path);
    } else if (status.st_mode & (S_IWGRP | S_IWOTH)) {
        snprintf(reason, sizeof reason, "%s can be written by others; chmod 700 mends it", path);
    } else {
        return folder;
    }
    kf_cache_close_folder(folder);
    no_root(why, why_bytes, reason);
    return -1;
}

void kf_cache_close_folder(int folder)
{
    if (folder >= 0)
        close(folder);
}

int kf_cache_open_folder(const char *name, bool create, char *why, size_t why_bytes)
{
    char path[4096];
    const size_t room = sizeof path - 64; /* for the folder inside */
    if (!kf_cache_root(path, room, why, why_bytes)[0])
        return -1;
    if (create)
        make_folder(path);
    const int root = open_own_folder(path, why, why_bytes);
    if (root < 0 || !name)
        return root;
    kf_cache_close_folder(root);
    strcat(path, "/");
    strncat(path, name, 48);
    if (create)
        mkdir(path, 0700);
    return open_own_folder(path, why, why_bytes);
}

static void entry_name(const char *key, char name[NAME_BYTES])
{
    const XXH128_hash_t hash = XXH3_128bits(key, strlen(key));
    snprintf(name, NAME_BYTES, "%016llx%016llx%s", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64, suffix);
}

/* ---- read ---------------------------------------------------------------------------------- */

static bool read_all(int file, char *data, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t got = read(file, data, bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        data += got;
        bytes -= (size_t)got;
    }
    return true;
}

/* The whole file, when only this user can have written it. */
static char *read_file(int file, size_t *bytes)
{
    struct stat status;
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & (S_IWGRP | S_IWOTH)) || status.st_size > max_file_bytes ||
        status.st_size < (off_t)sizeof(entry_header) + CHECKSUM_BYTES)
        return NULL;
    char *data = malloc((size_t)status.st_size);
    if (data && !read_all(file, data, (size_t)status.st_size)) {
        free(data);
        data = NULL;
    }
    *bytes = (size_t)status.st_size;
    return data;
}

/* Where the payload begins, or 0. Lengths are compared with what is there before they are used. */
static size_t payload_place(const char *data, size_t bytes, const char *key, size_t *payload_bytes)
{
    entry_header header;
    const size_t key_bytes = strlen(key), body = bytes - CHECKSUM_BYTES;
    XXH128_canonical_t checksum;
    memcpy(&header, data, sizeof header);
    if (memcmp(header.magic, magic, sizeof magic) != 0 || header.format != KF_CACHE_FORMAT ||
        header.header_bytes != sizeof header || header.key_bytes != key_bytes ||
        key_bytes > body - sizeof header ||
        header.payload_bytes != body - sizeof header - key_bytes ||
        memcmp(data + sizeof header, key, key_bytes) != 0)
        return 0;
    XXH128_canonicalFromHash(&checksum, XXH3_128bits(data, body));
    if (memcmp(&checksum, data + body, CHECKSUM_BYTES) != 0)
        return 0;
    *payload_bytes = (size_t)header.payload_bytes;
    return sizeof header + key_bytes;
}

bool kf_cache_read(const char *key, kf_cache_entry *entry)
{
    char name[NAME_BYTES];
    size_t bytes = 0, place = 0;
    *entry = (kf_cache_entry){.data = NULL};
    const int folder = kf_cache_open_folder(NULL, false, NULL, 0);
    if (folder < 0)
        return false;
    entry_name(key, name);
    const int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    const bool absent = file < 0 && errno == ENOENT;
    char *data = file < 0 ? NULL : read_file(file, &bytes);
    if (file >= 0)
        close(file);
    if (data)
        place = payload_place(data, bytes, key, &entry->bytes);
    if (place && entry->bytes) {
        memmove(data, data + place, entry->bytes);
        entry->data = data;
    } else {
        free(data);
        if (!absent)
            unlinkat(folder, name, 0);
    }
    kf_cache_close_folder(folder);
    return entry->data != NULL;
}

void kf_cache_remove(const char *key)
{
    char name[NAME_BYTES];
    const int folder = kf_cache_open_folder(NULL, false, NULL, 0);
    entry_name(key, name);
    if (folder >= 0)
        unlinkat(folder, name, 0);
    kf_cache_close_folder(folder);
}

/* ---- write --------------------------------------------------------------------------------- */

static bool write_all(int file, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        const ssize_t put = write(file, at, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        bytes -= (size_t)put;
    }
    return true;
}

static bool write_entry(int file, const char *key, const void *data, size_t bytes)
{
    const size_t key_bytes = strlen(key);
    entry_header header = {.format = KF_CACHE_FORMAT,
                           .header_bytes = sizeof header,
                           .key_bytes = key_bytes,
                           .payload_bytes = bytes};
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t checksum;
    memcpy(header.magic, magic, sizeof magic);
    if (!state)
        return false;
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, &header, sizeof header);
    XXH3_128bits_update(state, key, key_bytes);
    XXH3_128bits_update(state, data, bytes);
    XXH128_canonicalFromHash(&checksum, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    return write_all(file, &header, sizeof header) && write_all(file, key, key_bytes) &&
           write_all(file, data, bytes) && write_all(file, &checksum, CHECKSUM_BYTES) &&
           fsync(file) == 0;
}

typedef bool visit(int folder, const char *name, const struct stat *status, void *data);

/* Shows every plain file of the folder to `each`; how many it returned true for, and their bytes.
 */
static kf_cache_summary walk(int folder, visit *each, void *data)
{
    kf_cache_summary sum = {.entries = 0};
    struct stat status;
    const int own = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    DIR *list = own < 0 ? NULL : fdopendir(own);
    if (!list) {
        kf_cache_close_folder(own);
        return sum;
    }
    rewinddir(list); /* a duplicate shares the place where an earlier walk ended */
    for (struct dirent *item = readdir(list); item; item = readdir(list)) {
        if (fstatat(folder, item->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(status.st_mode) || !each(folder, item->d_name, &status, data))
            continue;
        sum.entries++;
        sum.bytes += status.st_size;
    }
    closedir(list);
    return sum;
}

static bool is_temporary(const char *name)
{
    return !strncmp(name, temporary, sizeof temporary - 1);
}

/* Left behind by a process that was killed while it wrote. */
static bool sweep_old(int folder, const char *name, const struct stat *status, void *now)
{
    const bool old = is_temporary(name) && status->st_uid == geteuid() &&
                     status->st_mtime < *(const time_t *)now - DAY;
    return old && unlinkat(folder, name, 0) == 0;
}

static void sweep_once(int folder)
{
    static atomic_flag swept = ATOMIC_FLAG_INIT;
    time_t now = time(NULL);
    if (!atomic_flag_test_and_set(&swept))
        walk(folder, sweep_old, &now);
}

bool kf_cache_write(const char *key, const void *data, size_t bytes)
{
    static atomic_uint serial;
    char name[NAME_BYTES], draft[NAME_BYTES];
    struct timespec now;
    const int folder = kf_cache_open_folder(NULL, true, NULL, 0);
    if (folder < 0)
        return false;
    sweep_once(folder);
    entry_name(key, name);
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(draft, sizeof draft, "%s%lx-%x-%lx", temporary, (long)getpid(),
             atomic_fetch_add(&serial, 1), now.tv_nsec);
    const int file =
        openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool done = file >= 0 && write_entry(file, key, data, bytes);
    if (file >= 0)
        done = close(file) == 0 && done;
    if (done)
        done = renameat(folder, draft, folder, name) == 0;
    if (done)
        fsync(folder);
    else if (file >= 0)
        unlinkat(folder, draft, 0);
    kf_cache_close_folder(folder);
    return done;
}

/* ---- for the tool -------------------------------------------------------------------------- */

static bool is_entry(const char *name)
{
    const size_t length = strlen(name), end = sizeof suffix - 1;
    return length == 32 + end && !strcmp(name + length - end, suffix);
}

static bool count_entry(int folder, const char *name, const struct stat *status, void *data)
{
    (void)folder, (void)status, (void)data;
    return is_entry(name);
}

static bool clear_entry(int folder, const char *name, const struct stat *status, void *data)
{
    (void)status, (void)data;
    return (is_entry(name) || is_temporary(name)) && unlinkat(folder, name, 0) == 0 &&
           is_entry(name);
}

static kf_status walk_cache(visit *each, kf_cache_summary *out)
{
    char why[512] = "", root[4096];
    struct stat status;
    *out = (kf_cache_summary){.entries = 0};
    if (kf_cache_root(root, sizeof root, why, sizeof why)[0] && lstat(root, &status) != 0 &&
        errno == ENOENT)
        return KF_OK;
    const int folder = kf_cache_open_folder(NULL, false, why, sizeof why);
    if (folder < 0)
        return kf_fail(KF_IO, "no cache of compiled kernels: %s", why);
    *out = walk(folder, each, NULL);
    kf_cache_close_folder(folder);
    return KF_OK;
}

kf_status kf_cache_stats(kf_cache_summary *found)
{
    return walk_cache(count_entry, found);
}

kf_status kf_cache_clear(kf_cache_summary *removed)
{
    return walk_cache(clear_entry, removed);
}
