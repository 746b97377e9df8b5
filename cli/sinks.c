/* Every -o of the command line. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- no two outputs to one place ----------------------------------------------------------- */

/* The absolute name that a file has or would have, links followed. */
static bool full_name(const char *path, char *full)
{
    char copy[PATH_MAX], folder[PATH_MAX];
    if (realpath(path, full)) {
        return true;
    }
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy ||
        !realpath(dirname(copy), folder)) {
        return false; /* its folder is not there: said when it is opened */
    }
    const char *last = strrchr(path, '/');
    return snprintf(full, PATH_MAX, "%s/%s", folder, last ? last + 1 : path) < PATH_MAX;
}

/* Is `path` what standard output goes to, by redirection or as /dev/stdout? */
static bool is_stdout(const char *path)
{
    struct stat out, file, null;
    return fstat(STDOUT_FILENO, &out) == 0 && stat(path, &file) == 0 && out.st_dev == file.st_dev &&
           out.st_ino == file.st_ino &&
           (stat("/dev/null", &null) != 0 || null.st_ino != out.st_ino ||
            null.st_dev != out.st_dev);
}

bool kf_cli_same_file(const char *a, const char *b)
{
    char full_a[PATH_MAX], full_b[PATH_MAX];
    struct stat info_a, info_b;
    if (stat(a, &info_a) == 0 && stat(b, &info_b) == 0) {
        return S_ISREG(info_a.st_mode) && info_a.st_dev == info_b.st_dev &&
               info_a.st_ino == info_b.st_ino;
    }
    return full_name(a, full_a) && full_name(b, full_b) && strcmp(full_a, full_b) == 0;
}

static const char *file_of(const char *spec)
{
    const char *colon = strchr(spec, ':');
    return colon ? colon + 1 : NULL;
}

/* Two -o that would overwrite each other, or mix. */
static int check_two(const char *one, const char *other)
{
    const char *a = file_of(one), *b = file_of(other);
    if (!a && !b) {
        return kf_cli_complain(
            2, "'-o %s' and '-o %s': only one -o may go to standard output, give the others a file",
            one, other);
    }
    if (a && b ? kf_cli_same_file(a, b) : is_stdout(a ? a : b)) {
        return kf_cli_complain(2, "'-o %s' and '-o %s' write to the same place: give each its own",
                               one, other);
    }
    return -1;
}

int kf_cli_sinks_check(const kf_cli *cli)
{
    int code = -1;
    for (int i = 0; code < 0 && i < cli->format.count; i++) {
        code = kf_sink_check(cli->format.item[i]) == KF_OK ? -1 : kf_cli_fail(KF_INVALID);
        for (int j = 0; code < 0 && j < i; j++) {
            code = check_two(cli->format.item[j], cli->format.item[i]);
        }
    }
    return code;
}

/* ---- opening, rows, closing ---------------------------------------------------------------- */

static kf_status open_one(kf_cli *cli, const char *spec)
{
    cli->sink_on_stdout = cli->sink_on_stdout || !file_of(spec);
    const kf_status status = kf_sink_open(spec, cli->argc, cli->argv, &cli->sink[cli->sink_count]);
    cli->sink_is_table[cli->sink_count] = strncmp(spec, "table", 5) == 0;
    cli->sink_count += status == KF_OK;
    return status;
}

kf_status kf_cli_sinks_open(kf_cli *cli, const char *fallback, const kf_selection *selection)
{
    const kf_device_info *devices[KF_CLI_DEVICES];
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < cli->format.count; i++) {
        status = open_one(cli, cli->format.item[i]);
    }
    if (status == KF_OK && fallback && cli->format.count == 0) {
        status = open_one(cli, fallback);
    }
    for (int i = 0; i < selection->count; i++) {
        devices[i] = &selection->device[i]->info;
    }
    for (int i = 0; status == KF_OK && i < cli->sink_count; i++) {
        status = kf_sink_context(cli->sink[i], devices, selection->count);
    }
    return status;
}

static kf_status send_row(kf_cli *cli, const kf_result *row, bool tables)
{
    for (int i = 0; i < cli->sink_count; i++) {
        const bool wanted = tables || !cli->sink_is_table[i];
        const kf_status status = wanted ? kf_sink_row(cli->sink[i], row) : KF_OK;
        if (status != KF_OK) {
            return status;
        }
    }
    return KF_OK;
}

kf_status kf_cli_row(kf_cli *cli, const kf_result *row)
{
    return send_row(cli, row, true);
}

kf_status kf_cli_process_row(kf_cli *cli, const kf_result *row)
{
    return send_row(cli, row, false);
}

int kf_cli_sinks_close(kf_cli *cli, int exit_code)
{
    int code = kf_cancelled ? 130 : exit_code;
    const int told = code;
    for (int i = 0; i < cli->sink_count; i++) {
        const kf_status status = kf_sink_close(cli->sink[i], told);
        if (status != KF_OK && code == 0) {
            code = kf_cli_fail(status);
        }
        const char *spec = i < cli->format.count ? cli->format.item[i] : "";
        if (told > 1 && file_of(spec) && strncmp(spec, "jsonl", 5) != 0) {
            kf_cli_note(cli, "%s is not written: the command did not finish", file_of(spec));
        }
    }
    cli->sink_count = 0;
    return code;
}
