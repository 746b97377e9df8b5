/* kfuse devices: the tree of backends and devices, and which are one GPU. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include <libsmartcols.h>
#include <string.h>

enum { NAME, MODEL, MEMORY, UNITS, DRIVER, NOTE, COLUMNS };

static const kf_column columns[COLUMNS] = {
    {.name = "DEVICE", .tree = true}, {.name = "NAME"},   {.name = "MEMORY", .right = true},
    {.name = "UNITS", .right = true}, {.name = "DRIVER"}, {.name = "NOTE"},
};

/* "= cuda:0" for a GPU that an earlier backend has shown; "CPU", "simulator". */
static void note(const kf_cli *cli, int place, char *text, size_t bytes)
{
    const kf_device_info *info = &cli->found[place].info;
    const uint64_t capabilities = info->target.capabilities;
    snprintf(text, bytes, "%s", kf_is_recorder(info) ? "no device: records launches" : "");
    if (capabilities & KF_CAP_SIMULATOR) {
        snprintf(text, bytes, "simulator, used when named");
    } else if (capabilities & KF_CAP_CPU) {
        snprintf(text, bytes, "CPU (%s)", info->platform);
    }
    for (int i = 0; i < place; i++) {
        if (kf_device_same(&cli->found[i].info, info)) {
            snprintf(text, bytes, "= %s", cli->found[i].info.id);
            return;
        }
    }
}

static void add_device(const kf_cli *cli, struct libscols_table *table,
                       struct libscols_line *parent, int place)
{
    const kf_device_info *info = &cli->found[place].info;
    char memory[24] = "", units[16] = "", text[140];
    if (info->target.memory_bytes) {
        kf_text_bytes(memory, sizeof memory, info->target.memory_bytes);
    }
    if (info->target.units) {
        snprintf(units, sizeof units, "%d", info->target.units);
    }
    note(cli, place, text, sizeof text);
    /* the version is enough here: what a driver adds in brackets is for doctor and result files */
    char driver[96];
    snprintf(driver, sizeof driver, "%.*s", (int)strcspn(info->driver, "("), info->driver);
    const char *cell[COLUMNS] = {info->id, info->name, memory, units, driver, text};
    kf_sheet_row(table, parent, cell, COLUMNS);
}

static const char *absent(const kf_scan *scan)
{
    return scan->status == KF_OK            ? ""
           : scan->status == KF_UNAVAILABLE ? "nothing here: kfuse doctor tells what it needs"
                                            : scan->why;
}

void kf_devices_print(kf_cli *cli, bool json)
{
    struct libscols_table *table = kf_sheet_open(cli, columns, COLUMNS);
    kf_cli_scan_all(cli);
    if (table && json) {
        scols_table_enable_json(table, 1);
        scols_table_set_name(table, "backends");
    }
    for (int b = 0; b < kf_backend_count(); b++) {
        const kf_scan *scan = &cli->scan[b];
        const char *cell[COLUMNS] = {kf_backends[b]->name, [NOTE] = absent(scan)};
        struct libscols_line *line = kf_sheet_row(table, NULL, cell, COLUMNS);
        for (int i = 0; i < scan->count; i++) {
            add_device(cli, table, line, scan->first + i);
        }
    }
    kf_sheet_close(table);
}

static const struct argp_option options[] = {{"json", 'j', 0, 0, "as JSON", 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state, void *data)
{
    (void)arg;
    (void)state;
    if (key != 'j') {
        return ARGP_ERR_UNKNOWN;
    }
    *(bool *)data = true;
    return 0;
}

int kf_cmd_devices(kf_cli *cli, int argc, char **argv)
{
    bool json = false;
    const kf_grammar grammar = {.plain = true,
                                .doc = "Backends and devices, and which of them are the same GPU.",
                                .options = options,
                                .parse = parse,
                                .own = &json};
    const int code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code >= 0) {
        return code;
    }
    kf_devices_print(cli, json);
    return kf_cancelled ? 130 : 0;
}
