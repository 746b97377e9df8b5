/* Which devices there are: each backend is asked in a child, once, and only when it is needed. A
 * crash or a hang is the finding about that backend, not the end of kfuse. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include "../harness/remember.h"
#include <stdlib.h>
#include <string.h>

int kf_backend_count(void)
{
    int count = 0;
    while (kf_backends[count] && count < KF_CLI_BACKENDS) {
        count++;
    }
    return count;
}

static const double ask_seconds = 20;    /* a driver that takes longer to start is taken for dead */
static const double probe_seconds = 120; /* compiles and runs a kernel per experiment */

/* "status 0 sentence" at the end of the child's text. */
static kf_status said_status(const char *text, char *why, size_t bytes)
{
    const char *line = text;
    for (const char *next; line && (next = strstr(line, "status ")); line = next + 1) {
        if (next == text || next[-1] == '\n') {
            int number = 0, at = 0;
            if (sscanf(next, "status %d %n", &number, &at) == 1) {
                snprintf(why, bytes, "%.*s", (int)strcspn(next + at, "\n"), next + at);
                return (kf_status)number;
            }
        }
    }
    snprintf(why, bytes, "it ended without an answer");
    return KF_DEVICE_FAILED;
}

/* Runs the hidden command; `child->out` is the caller's to free. */
static kf_status ask(kf_child *child, const char *backend, char *why, size_t bytes)
{
    kf_status status = kf_child_run(child);
    if (status != KF_OK) {
        snprintf(why, bytes, "%s", kf_error());
        return status;
    }
    if (!child->verdict[0]) {
        status = said_status(child->out, why, bytes);
    } else {
        status = KF_DEVICE_FAILED;
    }
    if (child->verdict[0] || !child->out || !*child->out) {
        snprintf(why, bytes, "the %s driver %s%s%s", backend,
                 child->verdict[0] ? child->verdict : "ended without an answer",
                 child->complaint[0] ? ": " : "", child->complaint);
    }
    return status;
}

const kf_scan *kf_cli_scan(kf_cli *cli, int backend)
{
    kf_scan *scan = &cli->scan[backend];
    if (scan->done) {
        return scan;
    }
    static kf_device_info list[KF_CLI_DEVICES];
    const char *name = kf_backends[backend]->name;
    kf_child child = {
        .word = {"__enumerate", name}, .seconds = ask_seconds, .cancel = &kf_cancelled};
    scan->done = true;
    scan->first = cli->found_count;
    scan->status = ask(&child, name, scan->why, sizeof scan->why);
    const int count =
        child.out ? kf_info_parse(child.out, list, KF_CLI_DEVICES - cli->found_count) : 0;
    free(child.out);
    for (int i = 0; scan->status == KF_OK && i < count; i++) {
        cli->found[cli->found_count++] = (kf_found){.info = list[i], .index = i};
    }
    scan->count = cli->found_count - scan->first;
    if (scan->status == KF_OK && scan->count == 0) {
        scan->status = KF_UNAVAILABLE;
        snprintf(scan->why, sizeof scan->why, "the %s backend has no device here", name);
    }
    return scan;
}

void kf_cli_scan_all(kf_cli *cli)
{
    for (int i = 0; i < kf_backend_count(); i++) {
        kf_cli_scan(cli, i);
    }
}

/* ---- findings of doctor ------------------------------------------------------------------------
 */

static void copy_field(char **cursor, char *field, size_t bytes)
{
    const char *text = strsep(cursor, "\t");
    snprintf(field, bytes, "%s", text ? text : "");
    const size_t length = strlen(field);
    if (length && field[length - 1] == ' ') {
        field[length - 1] = 0;
    }
}

static int parse_findings(char *text, kf_finding *list, int capacity)
{
    int count = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char good[4], *cursor = line;
        const char *kind = strsep(&cursor, "\t");
        if (strcmp(kind, "finding") != 0 || count == capacity) {
            continue;
        }
        kf_finding *f = &list[count++];
        copy_field(&cursor, good, sizeof good);
        f->good = good[0] == '1';
        copy_field(&cursor, f->what, sizeof f->what);
        copy_field(&cursor, f->detail, sizeof f->detail);
        copy_field(&cursor, f->remedy, sizeof f->remedy);
    }
    return count;
}

int kf_cli_diagnose(int backend, kf_finding *list, int capacity)
{
    char why[400];
    const char *name = kf_backends[backend]->name;
    kf_child child = {
        .word = {"__diagnose", name}, .seconds = ask_seconds, .cancel = &kf_cancelled};
    const kf_status status = ask(&child, name, why, sizeof why);
    const int count = child.out ? parse_findings(child.out, list, capacity) : 0;
    free(child.out);
    if (count == 0) {
        list[0] = (kf_finding){.good = status == KF_OK};
        snprintf(list[0].what, sizeof list[0].what, "%s", name);
        snprintf(list[0].detail, sizeof list[0].detail, "%s",
                 status == KF_OK ? "nothing to report" : why);
    }
    return count ? count : 1;
}

bool kf_is_recorder(const kf_device_info *info)
{
    return strcmp(info->platform, "none") == 0;
}

bool kf_is_gpu(const kf_device_info *info)
{
    return !kf_is_recorder(info) && !(info->target.capabilities & (KF_CAP_CPU | KF_CAP_SIMULATOR));
}

/* ---- opening
 * ------------------------------------------------------------------------------------- */

static bool environment_says(const char *name)
{
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0") != 0;
}

/* Experiments beyond what the driver advertises may bring the driver down: they run in a child,
 * once per device and driver, and the answers are kept in the device file. */
static void probe_once(const kf_cli *cli, const kf_found *found)
{
    char index[12], why[400], path[4096], known[64];
    if (!*kf_device_facts_path(&found->info, path, sizeof path) ||
        kf_recall(&found->info, "local_bytes", known, sizeof known)) {
        return; /* no folder to keep an answer in, or answered: a crash, too, leaves its line behind
                 */
    }
    snprintf(index, sizeof index, "%d", found->index);
    kf_cli_note(cli, "probing %s %s (once per device and driver)", found->info.id,
                found->info.name);
    kf_child child = {.word = {"__probe", found->info.backend, index},
                      .seconds = probe_seconds,
                      .cancel = &kf_cancelled};
    if (ask(&child, found->info.backend, why, sizeof why) != KF_OK) {
        kf_cli_note(cli, "probing failed, advertised limits hold: %s", why);
    }
    free(child.out);
}

kf_status kf_cli_open(kf_cli *cli, const kf_found *found, kf_device **device)
{
    const kf_device_desc desc = {.backend = found->info.backend,
                                 .index = found->index,
                                 .read_kernels = true,
                                 .no_cache = environment_says("KFUSE_NO_CACHE")};
    if (kf_is_gpu(&found->info)) {
        probe_once(cli, found);
    }
    return kf_device_open(&desc, device);
}
