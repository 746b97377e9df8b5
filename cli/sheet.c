/* Tables and trees by libsmartcols, which users know from lsblk. SPDX-License-Identifier:
 * Apache-2.0 */
#include "cli.h"
#include <libsmartcols.h>

struct libscols_table *kf_sheet_open(const kf_cli *cli, const kf_column *column, int count)
{
    struct libscols_table *table = scols_new_table();
    if (!table) {
        return NULL;
    }
    scols_table_enable_ascii(table, !cli->unicode);
    scols_table_enable_colors(table, cli->color);
    for (int i = 0; i < count; i++) {
        const int flags =
            (column[i].right ? SCOLS_FL_RIGHT : 0) | (column[i].tree ? SCOLS_FL_TREE : 0);
        scols_table_new_column(table, column[i].name, 0, flags);
    }
    return table;
}

struct libscols_line *kf_sheet_row(struct libscols_table *table, struct libscols_line *parent,
                                   const char *const *cell, int count)
{
    struct libscols_line *line = table ? scols_table_new_line(table, parent) : NULL;
    for (int i = 0; line && i < count; i++) {
        scols_line_set_data(line, (size_t)i, cell[i] ? cell[i] : "");
    }
    return line;
}

void kf_sheet_close(struct libscols_table *table)
{
    if (table) {
        scols_print_table(table);
        scols_unref_table(table);
    }
}
