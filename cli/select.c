/* --backend and --device into devices. What is misspelt is 2, what is named and not here is 3, both
 * before anything runs; `all` takes what is there. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int backend_place(const char *name)
{
    for (int i = 0; i < kf_backend_count(); i++) {
        if (strcmp(kf_backends[i]->name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int unknown_backend(const char *name)
{
    const char *choices[KF_CLI_BACKENDS + 1];
    int count = 0;
    for (; count < kf_backend_count(); count++) {
        choices[count] = kf_backends[count]->name;
    }
    choices[count++] = "all";
    return kf_cli_unknown("backend", name, choices, count);
}

/* 0 a GPU, 1 a CPU, 2 a simulator, 3 no device at all (plans are recorded, nothing is computed):
 * the order in which a default is looked for; the last two are used only when they are named. */
static int rank(const kf_found *found)
{
    const uint64_t capabilities = found->info.target.capabilities;
    if (kf_is_recorder(&found->info)) {
        return 3;
    }
    return capabilities & KF_CAP_SIMULATOR ? 2 : capabilities & KF_CAP_CPU ? 1 : 0;
}

static void take(kf_selection *selection, const kf_found *found)
{
    for (int i = 0; i < selection->count; i++) {
        if (selection->device[i] == found) {
            return;
        }
    }
    if (selection->count < KF_CLI_DEVICES) {
        selection->device[selection->count++] = found;
    }
}

/* The best of a backend, up to a rank; NULL when there is none. */
static const kf_found *best(kf_cli *cli, int backend, int worst)
{
    const kf_scan *scan = kf_cli_scan(cli, backend);
    const kf_found *choice = NULL;
    for (int i = 0; i < scan->count; i++) {
        const kf_found *found = &cli->found[scan->first + i];
        if (rank(found) <= worst && (!choice || rank(found) < rank(choice))) {
            choice = found;
        }
    }
    return choice;
}

static void take_all(kf_cli *cli, int backend, kf_selection *selection)
{
    const kf_scan *scan = kf_cli_scan(cli, backend);
    for (int i = 0; i < scan->count; i++) {
        if (rank(&cli->found[scan->first + i]) <= 1) {
            take(selection, &cli->found[scan->first + i]);
        }
    }
}

/* ---- which backends -----------------------------------------------------------------------------
 */

typedef struct wanted {
    bool backend[KF_CLI_BACKENDS];
    bool named, all;
} wanted;

static int parse_backends(const kf_cli *cli, wanted *w)
{
    char name[64];
    const char *cursor = cli->backend;
    while (kf_list_next(&cursor, name, sizeof name)) {
        const int place = backend_place(name);
        if (strcmp(name, "all") == 0) {
            w->all = true;
        } else if (place < 0) {
            return unknown_backend(name);
        } else {
            w->backend[place] = w->named = true;
        }
    }
    for (int i = 0; i < kf_backend_count() && !w->named; i++) {
        w->backend[i] = true;
    }
    return -1;
}

static int absent_backend(const kf_cli *cli, int backend)
{
    kf_finding list[16];
    memset(list, 0, sizeof list);
    if (kf_cancelled) { /* its child was ended, which says nothing about the backend */
        return 130;
    }
    kf_cli_complain(3, "%s", cli->scan[backend].why);
    const int count = kf_cli_diagnose(backend, list, 16);
    for (int i = 0; i < count; i++) {
        if (!list[i].good && list[i].remedy[0]) {
            fprintf(stderr, "  %s: %s\n", list[i].what, list[i].remedy);
        }
    }
    return 3;
}

/* Every backend named by the user must have something, before anything runs. */
static int check_present(kf_cli *cli, const wanted *w)
{
    for (int i = 0; w->named && i < kf_backend_count(); i++) {
        if (w->backend[i] && kf_cli_scan(cli, i)->status != KF_OK) {
            return absent_backend(cli, i);
        }
    }
    return -1;
}

/* ---- which devices ------------------------------------------------------------------------------
 */

static void uuid_text(const kf_device_info *info, char *text)
{
    for (int i = 0; i < 16; i++) {
        sprintf(text + 2 * i, "%02x", info->uuid[i]);
    }
}

/* UUIDs are written with and without dashes and with a prefix: hexadecimal digits alone are
 * compared. */
static bool is_uuid(const kf_device_info *info, const char *word)
{
    char mine[33], theirs[33];
    int n = 0;
    word += strncasecmp(word, "GPU-", 4) == 0 ? 4 : 0;
    for (; *word && n < 33; word++) {
        if (*word != '-') {
            theirs[n++ < 32 ? n - 1 : 32] = (char)tolower((unsigned char)*word);
        }
    }
    theirs[n < 32 ? n : 32] = 0;
    uuid_text(info, mine);
    return info->has_uuid && n == 32 && strcmp(mine, theirs) == 0;
}

static bool matches(const kf_found *found, const char *word, bool number)
{
    if (number) {
        return found->index == atoi(word);
    }
    return strcmp(found->info.id, word) == 0 || is_uuid(&found->info, word) ||
           (!strchr(word, ':') && strcasestr(found->info.name, word) != NULL);
}

/* "cuda:0" asks only its own backend; a bare number counts in the backends named, or else in the
 * first backend that has something. */
static bool in_question(kf_cli *cli, const wanted *w, int backend, const char *word, bool number)
{
    const size_t length = strcspn(word, ":");
    const char *name = kf_backends[backend]->name;
    if (word[length] == ':') {
        return strlen(name) == length && strncmp(name, word, length) == 0;
    }
    return w->backend[backend] && (!number || best(cli, backend, w->named ? 3 : 1) != NULL);
}

/* The name, or the word of a name, that was probably meant; NULL = nothing is near. `words` keeps
 * what the result points to. */
static const char *nearest_device(const kf_cli *cli, const char *word, char *words, size_t bytes)
{
    enum { MOST = 512 };
    const char *choices[MOST];
    int count = 0;
    size_t used = 0;
    for (int i = 0; i < cli->found_count; i++) {
        choices[count++] = cli->found[i].info.id;
    }
    for (int i = 0; i < cli->found_count && used < bytes; i++) {
        used += (size_t)snprintf(words + used, bytes - used, "%s ", cli->found[i].info.name);
    }
    for (char *part, *rest = words; count < MOST && (part = strtok_r(rest, " -()", &rest));) {
        choices[count++] = part;
    }
    return kf_nearest(word, choices, count);
}

/* Named and not here: 3, for the same command is right on another machine. */
static int absent_device(kf_cli *cli, const char *word)
{
    char words[4096] = "";
    kf_cli_scan_all(cli);
    if (kf_cancelled) {
        return 130;
    }
    const char *near = nearest_device(cli, word, words, sizeof words);
    kf_cli_complain(3, "there is no device '%s' here%s%s%s", word, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'? These are:" : "; these are:");
    for (int i = 0; i < cli->found_count; i++) {
        fprintf(stderr, "  %-12s %s\n", cli->found[i].info.id, cli->found[i].info.name);
    }
    return 3;
}

/* What no machine has: 2. */
static int check_device_word(const char *word)
{
    char prefix[64];
    const char *colon = strchr(word, ':');
    if (!colon) {
        return -1;
    }
    snprintf(prefix, sizeof prefix, "%.*s", (int)(colon - word), word);
    if (backend_place(prefix) < 0) {
        return unknown_backend(prefix);
    }
    return colon[1] && strspn(colon + 1, "0123456789.") == strlen(colon + 1)
               ? -1
               : kf_cli_complain(
                     2, "'%s' is no device: write %s:NUMBER as `kfuse devices` shows it, or a name",
                     word, prefix);
}

static int take_named(kf_cli *cli, const wanted *w, const char *word, kf_selection *selection)
{
    const bool number = strspn(word, "0123456789") == strlen(word);
    bool known = false;
    const int wrong = check_device_word(word);
    if (wrong >= 0) {
        return wrong;
    }
    for (int b = 0; b < kf_backend_count(); b++) {
        if (!in_question(cli, w, b, word, number)) {
            continue;
        }
        const kf_scan *scan = kf_cli_scan(cli, b);
        if (strchr(word, ':') && scan->status != KF_OK) {
            return absent_backend(cli, b);
        }
        for (int i = 0; i < scan->count; i++) {
            if (matches(&cli->found[scan->first + i], word, number)) {
                take(selection, &cli->found[scan->first + i]);
                known = true;
            }
        }
        if (number && !w->named) {
            break;
        }
    }
    return known ? -1 : absent_device(cli, word);
}

static int nothing(kf_cli *cli)
{
    kf_cli_scan_all(cli);
    if (kf_cancelled) {
        return 130;
    }
    kf_cli_complain(3, "there is no GPU and no OpenCL CPU device here");
    for (int i = 0; i < kf_backend_count(); i++) {
        if (cli->scan[i].status != KF_OK) {
            fprintf(stderr, "  %s: %s\n", kf_backends[i]->name, cli->scan[i].why);
        }
    }
    for (int i = 0; i < cli->found_count; i++) {
        if (rank(&cli->found[i]) == 2) {
            fprintf(stderr, "  %s is a simulator: name it to use it\n", cli->found[i].info.id);
        }
    }
    fprintf(stderr, "`kfuse doctor` tells what brings one.\n");
    return 3;
}

/* First GPU of the first backend that has one, else the first CPU device. */
static int take_default(kf_cli *cli, kf_selection *selection)
{
    for (int worst = 0; worst <= 1 && selection->count == 0; worst++) {
        for (int b = 0; b < kf_backend_count() && selection->count == 0; b++) {
            const kf_found *found = best(cli, b, worst);
            if (found) {
                take(selection, found);
            }
        }
    }
    return selection->count ? -1 : nothing(cli);
}

bool kf_cli_any_device(kf_cli *cli)
{
    for (int b = 0; b < kf_backend_count(); b++) {
        if (best(cli, b, 1)) {
            return true;
        }
    }
    return false;
}

static int take_backends(kf_cli *cli, const wanted *w, kf_selection *selection)
{
    for (int b = 0; b < kf_backend_count(); b++) {
        if (w->all) {
            take_all(cli, b, selection);
        }
        const kf_found *found = w->named && w->backend[b] ? best(cli, b, 3) : NULL;
        if (found) {
            take(selection, found);
        }
    }
    return selection->count ? -1 : nothing(cli);
}

int kf_cli_select(kf_cli *cli, kf_selection *selection)
{
    wanted w = {0};
    char word[160];
    const char *cursor = cli->device;
    *selection = (kf_selection){0};
    int code = parse_backends(cli, &w);
    if (code < 0) {
        code = check_present(cli, &w);
    }
    selection->all = w.all;
    while (code < 0 && kf_list_next(&cursor, word, sizeof word)) {
        if (strcmp(word, "all") != 0) {
            code = take_named(cli, &w, word, selection);
            continue;
        }
        selection->all = true;
        for (int b = 0; b < kf_backend_count(); b++) {
            if (w.backend[b]) {
                take_all(cli, b, selection);
            }
        }
    }
    if (code >= 0 || (cli->device && selection->count)) {
        return code;
    }
    if (cli->device) {
        return nothing(cli);
    }
    return w.named || w.all ? take_backends(cli, &w, selection) : take_default(cli, selection);
}

const kf_found *kf_cli_first(const kf_cli *cli, const kf_selection *selection)
{
    if (selection->count > 1) {
        kf_cli_note(cli, "%d devices are named; this command takes one: %s", selection->count,
                    selection->device[0]->info.id);
    }
    return selection->device[0];
}

int kf_cli_select_real(kf_cli *cli, kf_selection *selection)
{
    const int code = kf_cli_select(cli, selection);
    for (int i = 0; code < 0 && i < selection->count; i++) {
        if (kf_is_recorder(&selection->device[i]->info)) {
            return kf_cli_complain(
                3, "%s records launches and computes nothing: it is for `kfuse explain`",
                selection->device[i]->info.id);
        }
    }
    return code;
}
