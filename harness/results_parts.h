/* Between the files of the result sinks only. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_RESULTS_PARTS_H
#define KF_RESULTS_PARTS_H
#include "results.h"
#include <jansson.h>
#include <stdio.h>

#define KF_SCHEMA_VERSION "1.0"

/* results_json.c. Objects belong to the caller; NULL = out of memory. NaN and infinities become
 * null. */
json_t *kf_result_json(const kf_result *row);
json_t *kf_json_text(const char *text); /* bytes that are no UTF-8 become '?' */
/* One line or an indented object, malloc'd. */
char *kf_json_print(const json_t *json, bool one_line);

/* results_context.c: date, host, versions, argv, devices. */
json_t *kf_context_json(int argc, char **argv);
json_t *kf_device_json(const kf_device_info *info);
void kf_device_from_json(const json_t *json, kf_device_info *info);

/* results_read.c */
bool kf_result_from_json(const json_t *json, kf_result *row);

/* results_table.c: cells are collected and printed at the end, when the widths are known. */
typedef struct kf_table kf_table;
kf_table *kf_table_open(void);
int kf_table_rows(const kf_table *table); /* without the titles */
bool kf_table_add(kf_table *table, const kf_result *row);
char *kf_table_print(const kf_table *table); /* malloc'd; NULL = out of memory */
void kf_table_close(kf_table *table);
#endif
