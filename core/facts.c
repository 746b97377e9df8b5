/* What was probed of a device, on disk: read here, written by the laboratory.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LOCAL_BYTES = 16 << 20, NAME_BYTES = 256, FACTS_BYTES = 65536 };

static size_t add_plain(char *name, size_t length, const char *text, char end)
{
    for (; *text && length + 6 < NAME_BYTES; text++)
        name[length++] = isalnum((unsigned char)*text) ? (char)tolower((unsigned char)*text) : '-';
    name[length++] = end;
    return length;
}

static void file_name(const kf_device_info *info, char name[NAME_BYTES])
{
    size_t length = add_plain(name, 0, info->backend, '-');
    length = add_plain(name, length, info->name, '-');
    length = add_plain(name, length, info->driver, '.');
    memcpy(name + length, "txt", 4);
}

const char *kf_device_facts_path(const kf_device_info *info, char *buffer, size_t bytes)
{
    char root[4096], name[NAME_BYTES];
    const int folder = kf_cache_open_folder("devices", true, NULL, 0);
    buffer[0] = '\0';
    if (folder < 0)
        return buffer;
    kf_cache_close_folder(folder);
    file_name(info, name);
    kf_cache_root(root, sizeof root, NULL, 0);
    if ((size_t)snprintf(buffer, bytes, "%s/devices/%s", root, name) >= bytes)
        buffer[0] = '\0';
    return buffer;
}

/* NULL unless it is a plain file that only this user can have written. */
static FILE *open_facts(const kf_device_info *info)
{
    char name[NAME_BYTES];
    struct stat status;
    const int folder = kf_cache_open_folder("devices", false, NULL, 0);
    if (folder < 0)
        return NULL;
    file_name(info, name);
    const int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    kf_cache_close_folder(folder);
    if (file < 0)
        return NULL;
    const bool ours = fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
                      status.st_uid == geteuid() && !(status.st_mode & (S_IWGRP | S_IWOTH)) &&
                      status.st_size <= FACTS_BYTES;
    FILE *stream = ours ? fdopen(file, "r") : NULL;
    if (!stream)
        close(file);
    return stream;
}

void kf_device_facts_read(kf_device_info *info)
{
    char line[512];
    static const char local[] = "local_bytes=";
    FILE *stream = open_facts(info);
    while (stream && fgets(line, sizeof line, stream)) {
        if (strncmp(line, local, sizeof local - 1) != 0)
            continue;
        const long long bytes = strtoll(line + sizeof local - 1, NULL, 10);
        if (bytes > info->target.local_bytes && bytes <= MAX_LOCAL_BYTES)
            info->target.local_bytes = bytes;
    }
    if (stream)
        fclose(stream);
}
