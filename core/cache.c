/* Builds programs through the cache of compiled kernels. SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool cache_wanted(void)
{
    const char *no = secure_getenv("KFUSE_NO_CACHE");
    return !no || !no[0] || !strcmp(no, "0");
}

const char *kf_cache_folder(char *buffer, size_t bytes, char *why, size_t why_bytes)
{
    char reason[512] = "KFUSE_NO_CACHE is set";
    const int folder =
        cache_wanted() ? kf_cache_open_folder(NULL, true, reason, sizeof reason) : -1;
    if (why && why_bytes)
        snprintf(why, why_bytes, "%s", folder < 0 ? reason : "");
    if (!buffer || !bytes)
        return "";
    buffer[0] = '\0';
    if (folder >= 0)
        kf_cache_root(buffer, bytes, NULL, 0);
    kf_cache_close_folder(folder);
    return buffer;
}

/* Everything that the compiler's output depends on, as text: the whole text is compared, its hash
 * is only the file's name. NULL when there is no memory. */
static char *key_text(const kf_device *device, const kf_program_desc *desc)
{
    const kf_device_info *info = &device->info;
    const char *options = secure_getenv("KFUSE_BUILD_OPTIONS");
    char *key = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&key, &bytes);
    if (!out)
        return NULL;
    fprintf(out, "kfuse %s\nformat %d\nbackend %s\n", kf_version(), KF_CACHE_FORMAT,
            device->backend->name);
    fprintf(out, "device %s\nplatform %s\ndriver %s\narch %s\ncompiler %s\noptions %s\n",
            info->name, info->platform, info->driver, info->arch, device->compiler,
            options ? options : "");
    fprintf(out,
            "threads %d\nleast_groups %d\nregister_cap %d\nlocal_bytes %lld\narch_specific %d\n",
            desc->threads, desc->least_groups, desc->register_cap, (long long)desc->local_bytes,
            desc->arch_specific);
    for (int i = 0; i < desc->entry_count; i++)
        fprintf(out, "entry %s\n", desc->entries[i]);
    fprintf(out, "text\n%s", desc->text);
    const bool whole = !ferror(out);
    if (fclose(out) != 0 || !whole) {
        free(key);
        return NULL;
    }
    return key;
}

/* KF_OK with a program; KF_OK without one is a miss. */
static kf_status build_cached(kf_device *device, const kf_program_desc *desc, const char *key,
                              kf_program **program)
{
    kf_cache_entry entry;
    if (!kf_cache_read(key, &entry))
        return KF_OK;
    kf_program_desc cached = *desc;
    cached.binary = entry.data;
    cached.binary_bytes = entry.bytes;
    const kf_status status = kf_program_build(device, &cached, program);
    free(entry.data);
    if (status == KF_OUT_OF_MEMORY || status == KF_DEVICE_FAILED)
        return status; /* says nothing about the binary */
    if (status == KF_OK)
        device->cache_hits++;
    else
        kf_cache_remove(key); /* the driver refuses what it once gave */
    return KF_OK;
}

static void store(kf_program *program, const char *key)
{
    void *data = NULL;
    size_t bytes = 0;
    kf_error_mute(
        true); /* the program is there; without an entry the next process compiles again */
    if (kf_program_save(program, &data, &bytes) == KF_OK && data && bytes)
        kf_cache_write(key, data, bytes);
    kf_error_mute(false);
    free(data);
}

kf_status kf_cache_build(kf_device *device, const kf_program_desc *desc, kf_program **program)
{
    char *key = NULL;
    const bool sound = device && program && desc && desc->text && !desc->binary &&
                       desc->entry_count > 0 && desc->entries;
    if (program)
        *program = NULL;
    if (sound && !device->no_cache && !device->lost && cache_wanted())
        key = key_text(device, desc);
    kf_status status = key ? build_cached(device, desc, key, program) : KF_OK;
    if (status == KF_OK && (!program || !*program)) {
        status = kf_program_build(device, desc, program);
        if (status == KF_OK && key)
            store(*program, key);
        if (key)
            device->cache_misses++;
    }
    free(key);
    return status;
}
