/* A row with every field filled, and a folder for sinks. Include after cmocka.h, in one file of a
 * program. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_RESULTS_RIG_H
#define KF_RESULTS_RIG_H
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../core/op.h"
#include "../harness/results.h"

static char folder[] = "/tmp/kfuse-results-XXXXXX";
static const kf_device_info gpu = {
    .backend = "cuda",
    .id = "cuda:0",
    .name = "NVIDIA H200",
    .driver = "580.159",
    .arch = "sm_90",
    .pci = "0000:1a:00.0",
    .uuid = {0x5c, 0x1e, 0xff},
    .has_uuid = true,
    .target = {.units = 132, .memory_bytes = INT64_C(149786984448), .warp = 32}};

static const char *spec_of(const char *format, const char *name)
{
    static char spec[256];
    snprintf(spec, sizeof spec, "%s:%s/%s", format, folder, name);
    return spec;
}

static const char *path_of(const char *name)
{
    return strchr(spec_of("x", name), ':') + 1;
}

static kf_result make_row(void)
{
    kf_result row = {.step = -1, .device = &gpu, .status = "ok", .process = 2};
    const kf_op *op = kf_ops[0];
    row.test =
        (kf_case){.op = op, .variant = &op->variants[0], .dtype = KF_BF16, .seed = UINT64_MAX - 5};
    for (int i = 0; i < kf_op_dim_count(op); i++)
        row.test.dim[i] = 1000 + i;
    for (int i = 0; i < op->attribute_count; i++)
        row.test.attribute[i] = (kf_attribute){.set = true, .i = 3, .f = 3};
    for (int i = 0; i < op->knob_count; i++)
        if (kf_knob_used(&op->knobs[i], op->variants[0].name)) {
            row.test.config.knob[i] = 64 + i;
            row.test.config.set[i] = true;
        }
    row.test.stride[0] = 4100;
    row.test.offset[0] = 3;
    strcpy(row.flags, "launch-bound by-twin");
    strcpy(row.roof_shape, "VECS=1 BLOCK=256");
    row.timing = (kf_timing){.median = 34.4e-6,
                             .low = 34.2e-6,
                             .high = 34.9e-6,
                             .least = 34.1e-6,
                             .samples = 3,
                             .sample = {34.4e-6, 34.1e-6, 35e-6},
                             .launches_per_sample = 30,
                             .sets = 4,
                             .host = 1.5e-6,
                             .path = "graph",
                             .cold = true};
    row.cost = (kf_cost){.launches = 5,
                         .bytes_read = 100000000,
                         .bytes_written = 34217728,
                         .bytes_requested = 140000000,
                         .flops = 77,
                         .specials = 8,
                         .scratch_bytes = 512,
                         .exact = true};
    row.roof_bytes_per_second = 4.3e12;
    row.verify = (kf_verify_report){.passed = true,
                                    .whole = true,
                                    .checked = 1000,
                                    .first_bad = -1,
                                    .max_error = 1e-7,
                                    .max_bound = 3e-7,
                                    .worst_ratio = 0.4,
                                    .unfused_ratio = 0.25};
    return row;
}

static void must(kf_status status)
{
    if (status != KF_OK)
        fail_msg("%s: %s", kf_status_name(status), kf_error());
}

static kf_sink *open_sink(const char *spec)
{
    static char *argv[] = {(char *)"kfuse",    (char *)"bench",
                           (char *)"na\xffme", (char *)"jsonl:/home/me/rows.jsonl",
                           (char *)"/",        (char *)"a/b"};
    static const kf_device_info *const devices[] = {&gpu};
    kf_sink *sink = NULL;
    must(kf_sink_open(spec, 6, argv, &sink));
    must(kf_sink_context(sink, devices, 1));
    return sink;
}

static void write_rows(const char *spec, const kf_result *row, int count, int exit_code)
{
    kf_sink *sink = open_sink(spec);
    for (int i = 0; i < count; i++)
        must(kf_sink_row(sink, row));
    must(kf_sink_close(sink, exit_code));
}

static json_t *load(const char *name)
{
    json_error_t error;
    json_t *json = json_load_file(path_of(name), 0, &error);
    if (!json)
        fail_msg("%s: %s", name, error.text);
    return json;
}

static char *text_of(const char *name)
{
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(path_of(name), "rb");
    assert_non_null(text);
    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    fclose(file);
    return text;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state)
{
    DIR *dir = opendir(folder);
    (void)state;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            remove(path_of(entry->d_name));
    if (dir)
        closedir(dir);
    return rmdir(folder); /* fails when a temporary was left behind */
}
#endif
