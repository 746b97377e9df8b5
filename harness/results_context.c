/* Where and with what a run was made. SPDX-License-Identifier: Apache-2.0 */
#include "results_parts.h"
#include <git.h> /* generated */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value);
}

static json_t *date_json(void)
{
    const time_t now = time(NULL);
    struct tm utc;
    char text[32] = "";
    if (gmtime_r(&now, &utc))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_string(text);
}

static json_t *host_json(void)
{
    char name[256] = "";
    if (gethostname(name, sizeof name - 1))
        return json_null();
    return kf_json_text(name);
}

/* KF_GIT_REVISION and KF_GIT_DIRTY come from the build when it is one of a checkout. */
static json_t *version_json(void)
{
    json_t *object = json_object();
    set(object, "version", kf_json_text(kf_version()));
#ifdef KF_GIT_REVISION
    set(object, "git", kf_json_text(KF_GIT_REVISION));
#else
    set(object, "git", json_null());
#endif
#ifdef KF_GIT_DIRTY
    set(object, "dirty", json_boolean(KF_GIT_DIRTY));
#else
    set(object, "dirty", json_null());
#endif
    return object;
}

static json_t *os_json(void)
{
    struct utsname name;
    char text[sizeof name.sysname + sizeof name.release + sizeof name.machine + 2];
    if (uname(&name))
        return json_null();
    snprintf(text, sizeof text, "%s %s %s", name.sysname, name.release, name.machine);
    return kf_json_text(text);
}

static json_t *cpu_json(void)
{
    char line[512];
    json_t *name = NULL;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !name && fgets(line, sizeof line, file)) {
        char *value = strncmp(line, "model name", 10) ? NULL : strchr(line, ':');
        if (!value)
            continue;
        line[strcspn(line, "\n")] = 0;
        name = kf_json_text(value + 1 + (value[1] == ' '));
    }
    if (file)
        fclose(file);
    return name ? name : json_null();
}

/* A word of the command line. Of an absolute path (PATH, jsonl:PATH, --input=x=PATH) the file's
 * name alone: the folders of the machine that measured tell nobody anything. */
static json_t *word_json(const char *word)
{
    const char *last = strrchr(word, '/');
    size_t kept = 0; /* characters in front of the path */
    while (word[kept] && (word[kept] != '/' || (kept && !strchr(":=", word[kept - 1]))))
        kept++;
    if (!word[kept])
        return kf_json_text(word);
    char *text = malloc(kept + strlen(last));
    if (!text)
        return NULL;
    memcpy(text, word, kept);
    strcpy(text + kept, last + 1);
    json_t *json = kf_json_text(text);
    free(text);
    return json;
}

json_t *kf_context_json(int argc, char **argv)
{
    json_t *context = json_object(), *list = json_array();
    if (!context || !list) {
        json_decref(context);
        json_decref(list);
        return NULL;
    }
    for (int i = 0; i < argc; i++)
        json_array_append_new(list, word_json(argv[i]));
    set(context, "date", date_json());
    set(context, "host", host_json());
    set(context, "kfuse", version_json());
    set(context, "argv", list);
    set(context, "os", os_json());
    set(context, "cpu", cpu_json());
    set(context, "devices", json_array());
    return context;
}

/* ---- devices -------------------------------------------------------------------------------- */

static json_t *limits_json(const kf_target *t)
{
    return json_pack("{sIsisisisisisisIsIsIsIsIsIsIsi}", "capabilities",
                     (json_int_t)t->capabilities, "compute_capability", t->compute_capability,
                     "units", t->units, "warp", t->warp, "max_threads", t->max_threads,
                     "max_threads_per_unit", t->max_threads_per_unit, "max_cluster", t->max_cluster,
                     "local_bytes", (json_int_t)t->local_bytes, "local_bytes_per_unit",
                     (json_int_t)t->local_bytes_per_unit, "registers_per_unit",
                     (json_int_t)t->registers_per_unit, "cache_bytes", (json_int_t)t->cache_bytes,
                     "memory_bytes", (json_int_t)t->memory_bytes, "max_buffer_bytes",
                     (json_int_t)t->max_buffer_bytes, "max_groups", (json_int_t)t->max_groups,
                     "base_alignment", t->base_alignment);
}

static void uuid_text(const uint8_t uuid[16], char text[33])
{
    for (int i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

json_t *kf_device_json(const kf_device_info *info)
{
    char uuid[33];
    json_t *object = json_object();
    uuid_text(info->uuid, uuid);
    set(object, "backend", kf_json_text(info->backend));
    set(object, "id", kf_json_text(info->id));
    set(object, "name", kf_json_text(info->name));
    set(object, "platform", kf_json_text(info->platform));
    set(object, "driver", kf_json_text(info->driver));
    set(object, "arch", kf_json_text(info->arch));
    set(object, "pci", *info->pci ? kf_json_text(info->pci) : json_null());
    set(object, "uuid", info->has_uuid ? json_string(uuid) : json_null());
    set(object, "memory", json_integer(info->target.memory_bytes));
    set(object, "limits", limits_json(&info->target));
    return object;
}

static void copy_text(const json_t *object, const char *key, char *out, size_t bytes)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, bytes, "%s", text ? text : "");
}

static void limits_from_json(const json_t *json, kf_target *t)
{
    json_int_t capabilities = 0, local = 0, local_unit = 0, registers = 0, cache = 0, memory = 0,
               buffer = 0, groups = 0;
    (void)json_unpack((json_t *)(uintptr_t)json, "{s?Is?is?is?is?is?is?is?Is?Is?Is?Is?Is?Is?Is?i}",
                      "capabilities", &capabilities, "compute_capability", &t->compute_capability,
                      "units", &t->units, "warp", &t->warp, "max_threads", &t->max_threads,
                      "max_threads_per_unit", &t->max_threads_per_unit, "max_cluster",
                      &t->max_cluster, "local_bytes", &local, "local_bytes_per_unit", &local_unit,
                      "registers_per_unit", &registers, "cache_bytes", &cache, "memory_bytes",
                      &memory, "max_buffer_bytes", &buffer, "max_groups", &groups, "base_alignment",
                      &t->base_alignment);
    t->capabilities = (uint64_t)capabilities;
    t->local_bytes = local;
    t->local_bytes_per_unit = local_unit;
    t->registers_per_unit = registers;
    t->cache_bytes = cache;
    t->memory_bytes = memory;
    t->max_buffer_bytes = buffer;
    t->max_groups = groups;
}

void kf_device_from_json(const json_t *json, kf_device_info *info)
{
    char uuid[33];
    *info = (kf_device_info){0};
    copy_text(json, "backend", info->backend, sizeof info->backend);
    copy_text(json, "id", info->id, sizeof info->id);
    copy_text(json, "name", info->name, sizeof info->name);
    copy_text(json, "platform", info->platform, sizeof info->platform);
    copy_text(json, "driver", info->driver, sizeof info->driver);
    copy_text(json, "arch", info->arch, sizeof info->arch);
    copy_text(json, "pci", info->pci, sizeof info->pci);
    copy_text(json, "uuid", uuid, sizeof uuid);
    info->has_uuid = strlen(uuid) == 32 && strspn(uuid, "0123456789abcdef") == 32;
    for (int i = 0; info->has_uuid && i < 16; i++) {
        const char byte[3] = {uuid[2 * i], uuid[2 * i + 1], 0};
        info->uuid[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    limits_from_json(json_object_get(json, "limits"), &info->target);
}
