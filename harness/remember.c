/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "remember.h"
#include "../core/backend.h"
#include "files.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FILE_BYTES = 65536 };

static bool ours(int file)
{
    struct stat status;
    return fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
           !(status.st_mode & (S_IWGRP | S_IWOTH));
}

/* The file as a malloc'd text; empty when there is none, NULL without memory. */
static char *read_text(const char *path)
{
    char *text = calloc(1, FILE_BYTES + 1);
    const int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    size_t got = 0;
    if (text && file >= 0 && ours(file) && kf_read_all(file, path, text, FILE_BYTES, &got) != KF_OK)
        got = 0;
    if (text)
        text[got] = 0;
    if (file >= 0)
        close(file);
    return text;
}

static bool line_has_key(const char *line, const char *key)
{
    const size_t length = strlen(key);
    return !strncmp(line, key, length) && line[length] == '=';
}

bool kf_recall(const kf_device_info *info, const char *key, char *value, size_t bytes)
{
    char path[PATH_BYTES], *save = NULL;
    bool found = false;
    if (!*kf_device_facts_path(info, path, sizeof path))
        return false;
    char *text = read_text(path);
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        if (line_has_key(line, key)) {
            found = (size_t)snprintf(value, bytes, "%s", line + strlen(key) + 1) < bytes;
            break;
        }
    free(text);
    return found;
}

/* The other lines, then this one. */
static kf_status write_lines(kf_file *file, char *text, const char *key, const char *value)
{
    char line[512], *save = NULL;
    kf_status status = KF_OK;
    for (char *old = strtok_r(text, "\n", &save); old && status == KF_OK;
         old = strtok_r(NULL, "\n", &save)) {
        if (line_has_key(old, key))
            continue;
        status = kf_file_write(file, old, strlen(old));
        if (status == KF_OK)
            status = kf_file_write(file, "\n", 1);
    }
    const int length = snprintf(line, sizeof line, "%s=%s\n", key, value);
    if (length >= (int)sizeof line)
        return kf_fail(KF_INVALID, "a remembered line has at most %zu characters", sizeof line - 2);
    return status == KF_OK ? kf_file_write(file, line, (size_t)length) : status;
}

kf_status kf_remember(const kf_device_info *info, const char *key, const char *value)
{
    char path[PATH_BYTES];
    kf_file *file;
    if (!*kf_device_facts_path(info, path, sizeof path))
        return KF_OK;
    /* the new file takes the mode of the one it replaces: make sure that there is one of ours */
    const int made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (made >= 0)
        close(made);
    char *text = read_text(path);
    if (!text)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %s", path);
    kf_status status = kf_file_create(path, &file);
    if (status == KF_OK) {
        status = write_lines(file, text, key, value);
        if (status == KF_OK)
            status = kf_file_commit(file);
        else
            kf_file_abandon(file);
    }
    free(text);
    return status;
}
