/* Every -o of the command line. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <string.h>

static kf_status open_one(kf_cli *cli, const char *spec)
{
    if (!strchr(spec, ':')) {
        if (cli->sink_on_stdout) {
            return kf_fail(KF_INVALID,
                           "only one -o may go to standard output: give the others a file");
        }
        cli->sink_on_stdout = true;
    }
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
    }
    cli->sink_count = 0;
    return code;
}
