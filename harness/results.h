/* Result rows: one field list for table, json and jsonl (interface.md 3.4, 3.6).
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_RESULTS_H
#define KF_RESULTS_H
#include "../core/op.h"
#include "measure.h"
#include "verify.h"

typedef struct kf_result {
    kf_case test; /* op, variant, dtype, dims, attributes, knobs as used (all, not only set ones) */
    int step;     /* -1 = the whole plan */
    char step_entry[64];
    const kf_device_info *device;
    const char *status; /* "ok", "unsupported", "skipped", "error", "wrong" */
    char reason[256];   /* for every other than ok */
    char flags[96];     /* "launch-bound above-roof cpu by-twin", space separated */
    kf_timing timing;
    kf_cost cost;
    double roof_bytes_per_second; /* 0 = not measured */
    char roof_shape[48];
    kf_verify_report verify;
    int process; /* number of the fresh process; 0 = the only one */
} kf_result;

typedef struct kf_sink kf_sink; /* one -o FORMAT[:FILE] */

/* "table", "json", "jsonl", "json:FILE": KF_INVALID for an unknown format (names the choices),
 * KF_IO when the file cannot be written. json files are written to a temporary name and renamed at
 * close; jsonl rows are written as they come with one write() each, the first of which empties the
 * file. */
kf_status kf_sink_open(const char *spec, int argc, char **argv, kf_sink **sink);
/* The same without opening anything: KF_INVALID. */
kf_status kf_sink_check(const char *spec);
kf_status kf_sink_context(kf_sink *sink, const kf_device_info *const *devices, int count);
kf_status kf_sink_row(kf_sink *sink, const kf_result *row);
/* exit: the tool's exit code. Above 1 the command failed or was interrupted: no json or table file
 * is written, and one that was there stays as it was. */
kf_status kf_sink_close(kf_sink *sink, int exit_code);
/* Reads the rows of a jsonl or json file written by a sink, e.g. of a child process; calls `each`
 * per row. */
/* row->device is good during the call of `each` only; a torn last line is dropped and told by
 * kf_error(); rows of ops that this program does not have are passed over. */
kf_status kf_results_read(const char *path, kf_status (*each)(const kf_result *row, void *data),
                          void *data);
#endif
