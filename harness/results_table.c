/* Result rows as an aligned text table: numbers to the right, human units, ASCII only.
 * SPDX-License-Identifier: Apache-2.0 */
#include "results_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 13, CELL = 400, GAP = 2 };

typedef struct cells {
    char text[COLUMNS][CELL];
} cells;

struct kf_table {
    cells *row; /* the first holds the titles */
    int count, room;
};

static const char *const title[COLUMNS] = {"OP",    "SHAPE",  "DTYPE", "VARIANT", "BACKEND",
                                           "TIME",  "20-80%", "MB",    "GB/s",    "OF-ROOF",
                                           "ERROR", "BOUND",  "STATUS"};
static const bool to_the_right[COLUMNS] = {
    [5] = true, [6] = true, [7] = true, [8] = true, [9] = true, [10] = true, [11] = true};

/* "34.4 us": three to four digits in the unit that fits. */
static const char *time_unit(double seconds, double *factor)
{
    static const char *const unit[] = {"ns", "us", "ms", "s"};
    static const double scale[] = {1e9, 1e6, 1e3, 1};
    int i = 0;
    while (i < 3 && seconds * scale[i] >= 1000)
        i++;
    i = i == 0 && seconds * 1e9 >= 100 ? 1 : i; /* launches take 0.8 us, not 812 ns */
    *factor = scale[i];
    return unit[i];
}

static void fill_case(cells *c, const kf_result *row)
{
    const kf_case *test = &row->test;
    int n = 0;
    snprintf(c->text[0], CELL, "%s", test->op ? test->op->name : "?");
    for (int i = 0; test->op && i < kf_op_dim_count(test->op); i++)
        n += snprintf(c->text[1] + n, CELL - (size_t)n, "%s%lld", i ? "x" : "",
                      (long long)test->dim[i]);
    if (test->inner > 1)
        snprintf(c->text[1] + n, CELL - (size_t)n, "x%lld", (long long)test->inner);
    snprintf(c->text[2], CELL, "%s", kf_dtype_name(test->dtype));
    if (row->step >= 0)
        snprintf(c->text[3], CELL, "  %d %s", row->step + 1, row->step_entry);
    else
        snprintf(c->text[3], CELL, "%s", test->variant ? test->variant->name : "default");
    snprintf(c->text[4], CELL, "%s", row->device ? row->device->backend : "-");
}

static void fill_time(cells *c, const kf_result *row)
{
    const kf_timing *t = &row->timing;
    const double bytes = (double)(row->cost.bytes_read + row->cost.bytes_written);
    double factor;
    const char *unit = time_unit(t->median, &factor);
    snprintf(c->text[5], CELL, "%.*f %s", t->median * factor < 10 ? 2 : 1, t->median * factor,
             unit);
    snprintf(c->text[6], CELL, "%.*f..%.*f", t->low * factor < 10 ? 2 : 1, t->low * factor,
             t->high * factor < 10 ? 2 : 1, t->high * factor);
    if (bytes > 0 && t->median > 0)
        snprintf(c->text[8], CELL, "%.0f", bytes / t->median / 1e9);
    if (bytes > 0 && t->median > 0 && row->roof_bytes_per_second > 0)
        snprintf(c->text[9], CELL, "%.0f%%",
                 100 * (bytes / t->median) / row->roof_bytes_per_second);
}

static void fill_found(cells *c, const kf_result *row)
{
    const bool ok = !strcmp(row->status, "ok");
    const int64_t bytes = row->cost.bytes_read + row->cost.bytes_written;
    for (int i = 5; i < COLUMNS - 1; i++)
        strcpy(c->text[i], "-");
    if (ok && row->verify.passed && row->timing.samples > 0) /* no time without a verified output */
        fill_time(c, row);
    if (ok || row->cost.launches > 0)
        snprintf(c->text[7], CELL, "%.*f", bytes < 10000000 ? 2 : 1, (double)bytes / 1e6);
    if (row->verify.checked > 0) {
        snprintf(c->text[10], CELL, "%.1e", row->verify.max_error);
        snprintf(c->text[11], CELL, "%.1e", row->verify.max_bound);
    }
    snprintf(c->text[12], CELL, "%s%s%s%s%s", row->status, *row->reason ? ": " : "", row->reason,
             *row->flags ? " " : "", row->flags);
}

kf_table *kf_table_open(void)
{
    kf_table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    table->row = calloc(1, sizeof *table->row);
    if (!table->row) {
        free(table);
        return NULL;
    }
    for (int i = 0; i < COLUMNS; i++)
        strcpy(table->row[0].text[i], title[i]);
    table->count = table->room = 1;
    return table;
}

int kf_table_rows(const kf_table *table)
{
    return table->count - 1;
}

bool kf_table_add(kf_table *table, const kf_result *row)
{
    if (table->count == table->room) {
        cells *more = realloc(table->row, (size_t)(2 * table->room) * sizeof *more);
        if (!more)
            return false;
        table->row = more;
        table->room *= 2;
    }
    cells *c = &table->row[table->count++];
    memset(c, 0, sizeof *c);
    fill_case(c, row);
    fill_found(c, row);
    return true;
}

/* Cells of one column end or begin at the same place; the last is not padded. */
char *kf_table_print(const kf_table *table)
{
    int width[COLUMNS] = {0};
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    for (int r = 0; r < table->count; r++)
        for (int i = 0; i < COLUMNS; i++) {
            const int length = (int)strlen(table->row[r].text[i]);
            width[i] = length > width[i] ? length : width[i];
        }
    for (int r = 0; r < table->count; r++)
        for (int i = 0; i < COLUMNS; i++) {
            const bool last = i == COLUMNS - 1;
            const int pad = last ? 0 : to_the_right[i] ? width[i] : -width[i];
            fprintf(out, "%*s%*s%s", pad, table->row[r].text[i], last ? 0 : GAP, "",
                    last ? "\n" : "");
        }
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

void kf_table_close(kf_table *table)
{
    if (!table)
        return;
    free(table->row);
    free(table);
}
