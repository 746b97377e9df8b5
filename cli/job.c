/* What `kfuse run` does once the files are known. SPDX-License-Identifier: Apache-2.0 */
#include "job.h"
#include <stdlib.h>
#include <string.h>

/* ---- reading, shaping
 * ------------------------------------------------------------------------------ */

static kf_status read_inputs(kf_job *j)
{
    const kf_dtype asked = j->cli->dtype ? kf_dtype_parse(j->cli->dtype) : KF_NONE;
    for (int i = 0; i < j->op->tensor_count; i++) {
        const kf_tensor_decl *t = &j->op->tensors[i];
        if (t->role != KF_INPUT || !j->path[i]) {
            continue;
        }
        const kf_status status = kf_npy_read(j->path[i], t->dtype ? t->dtype : asked, &j->array[i]);
        if (status != KF_OK) {
            return status;
        }
        if (j->array[i].note[0]) {
            kf_cli_note(j->cli, "%s: %s", j->path[i], j->array[i].note);
        }
    }
    return KF_OK;
}

static int word_count(const char *text)
{
    int count = *text != 0;
    for (; *text; text++) {
        count += *text == ' ';
    }
    return count;
}

/* The first axis that belongs to a row: `axis` where the op takes the last axes together, else the
 * last one. -1: the array has no such axis. */
static int split_of(const kf_job *j, const kf_tensor *t)
{
    int64_t axis = -1;
    for (int a = 0; a < j->op->attribute_count && !j->op->any_axis; a++) {
        if (strcmp(j->op->attributes[a].name, "axis") == 0 && j->problem->attribute[a].set) {
            axis = j->problem->attribute[a].i;
        }
    }
    axis += axis < 0 ? t->rank : 0;
    return axis < 0 || axis >= t->rank ? -1 : (int)axis;
}

static int64_t product(const kf_tensor *t, int from, int to)
{
    int64_t size = 1;
    for (int a = from; a < to; a++) {
        size *= t->size[a];
    }
    return size;
}

/* The size that inputs give to the named dim: dims are named from the last axis backwards, the
 * first takes the leading axes that are left. */
static int64_t dim_size(const kf_job *j, const char *name, size_t length)
{
    for (int i = 0; i < j->op->tensor_count; i++) {
        const kf_tensor *t = &j->array[i].tensor;
        const char *dims = j->op->tensors[i].dims;
        const int words = word_count(dims);
        if (!t->dtype || j->op->tensors[i].role != KF_INPUT) {
            continue;
        }
        if (words == 2) { /* rows cols: the axes before and from the split on */
            const int split = split_of(j, t);
            for (int w = 0; split >= 0 && w < 2; w++, dims += strcspn(dims, " ") + 1) {
                if (strcspn(dims, " ") == length && strncmp(dims, name, length) == 0) {
                    return product(t, w ? split : 0, w ? t->rank : split);
                }
            }
            continue;
        }
        for (int w = 0; w < words; w++, dims += strcspn(dims, " ") + 1) {
            const int axis = t->rank - words + w;
            int64_t size = 1;
            if (strcspn(dims, " ") != length || strncmp(dims, name, length) != 0 || axis < 0) {
                continue;
            }
            for (int a = w ? axis : 0; a <= axis; a++) {
                size *= t->size[a];
            }
            return size;
        }
    }
    return -1;
}

static kf_status set_attributes(kf_job *j)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < j->cli->attr.count; i++) {
        char name[64];
        const char *text = j->cli->attr.item[i];
        const size_t length = strcspn(text, "=");
        snprintf(name, sizeof name, "%.*s", (int)length, text);
        for (int a = 0; status == KF_OK && a < j->op->attribute_count; a++) {
            if (strcmp(j->op->attributes[a].name, name) == 0) {
                status = kf_attribute_parse(&j->op->attributes[a], text + length + 1,
                                            &j->problem->attribute[a]);
            }
        }
    }
    return status;
}

/* An output has the shape of the input with the same dims, else one size per named dim. */
static kf_status shape_output(const kf_job *j, int place, kf_dtype dtype, kf_tensor *out)
{
    const char *dims = j->op->tensors[place].dims;
    int64_t size[KF_MAX_RANK];
    int rank = 0;
    if (kf_problem_scalar(j->problem, place)) {
        return kf_tensor_contiguous(dtype, 0, size, out);
    }
    for (int i = 0; i < j->op->tensor_count; i++) {
        const kf_tensor *t = &j->array[i].tensor;
        if (j->op->tensors[i].role == KF_INPUT && t->dtype &&
            strcmp(j->op->tensors[i].dims, dims) == 0) {
            return kf_tensor_contiguous(dtype, t->rank, t->size, out);
        }
    }
    while (*dims && rank < KF_MAX_RANK) {
        const size_t length = strcspn(dims, " ");
        size[rank] = dim_size(j, dims, length);
        if (size[rank++] < 0) {
            return kf_fail(KF_INVALID, "no input tells the size '%.*s' of output '%s'", (int)length,
                           dims, j->op->tensors[place].name);
        }
        dims += length + (dims[length] == ' ');
    }
    return kf_tensor_contiguous(dtype, rank, size, out);
}

static kf_dtype open_dtype(const kf_job *j)
{
    for (int i = 0; i < j->op->tensor_count; i++) {
        if (j->op->tensors[i].role == KF_INPUT && !j->op->tensors[i].dtype &&
            j->array[i].tensor.dtype) {
            return j->array[i].tensor.dtype;
        }
    }
    return j->cli->dtype ? kf_dtype_parse(j->cli->dtype) : KF_F32;
}

static kf_status shape_outputs(kf_job *j)
{
    const kf_dtype open = open_dtype(j);
    for (int i = 0; i < j->op->tensor_count; i++) {
        const kf_tensor_decl *t = &j->op->tensors[i];
        int64_t extent = 0;
        if (t->role != KF_OUTPUT || !j->path[i]) {
            continue;
        }
        kf_tensor *tensor = &j->array[i].tensor;
        kf_status status = shape_output(j, i, t->dtype ? t->dtype : open, tensor);
        if (status == KF_OK) {
            status = kf_tensor_extent(tensor, &extent);
        }
        if (status != KF_OK) {
            return status;
        }
        j->array[i].data = calloc((size_t)extent + 1, (size_t)kf_dtype_bytes(tensor->dtype));
        if (!j->array[i].data) {
            return kf_fail(KF_OUT_OF_MEMORY, "no host memory for output '%s'", t->name);
        }
    }
    return KF_OK;
}

/* ---- planning, running
 * ----------------------------------------------------------------------------- */

static kf_status make_plan(kf_job *j)
{
    kf_config config = {.set = {false}};
    kf_cli_config(j->cli, j->op, &config);
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < j->op->tensor_count; i++) {
        if (j->array[i].tensor.dtype) {
            status = kf_problem_tensor(j->problem, j->op->tensors[i].name, &j->array[i].tensor);
        }
    }
    if (status == KF_OK) {
        status =
            kf_problem_derive(j->problem); /* what the op refuses is said before a driver starts */
    }
    if (status == KF_OK) {
        status = kf_cli_plan(j->problem, j->op, kf_op_variant(j->op, j->cli->variant), &config,
                             kf_device_target(j->bench.device), &j->plan);
    }
    if (status == KF_OK) {
        kf_cli_note_dropped(j->cli, &config, j->plan, j->bench.found->info.id);
    }
    return status;
}

static size_t bytes_of(const kf_tensor *tensor)
{
    return (size_t)kf_tensor_elements(tensor) * (size_t)kf_dtype_bytes(tensor->dtype);
}

static kf_status upload(kf_job *j)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < j->op->tensor_count; i++) {
        const size_t bytes = bytes_of(&j->array[i].tensor);
        const kf_buffer_desc desc = {.bytes = bytes ? bytes : 16}; /* nobody allocates nothing */
        if (!j->array[i].tensor.dtype) {
            continue;
        }
        status = kf_buffer_open(j->bench.device, &desc, &j->buffer[i]);
        if (status == KF_OK && bytes && j->op->tensors[i].role == KF_INPUT) {
            status = kf_buffer_write(j->bench.queue, j->buffer[i], 0, j->array[i].data, bytes);
        }
    }
    return status;
}

static kf_status download(kf_job *j)
{
    kf_status status = kf_queue_finish(j->bench.queue);
    for (int i = 0; status == KF_OK && i < j->op->tensor_count; i++) {
        const size_t bytes = bytes_of(&j->array[i].tensor);
        if (j->op->tensors[i].role == KF_OUTPUT && j->buffer[i] && bytes) {
            status = kf_buffer_read(j->bench.queue, j->buffer[i], 0, j->array[i].data, bytes);
        }
    }
    return status;
}

static kf_status compute(kf_job *j)
{
    kf_binding binding[KF_MAX_TENSORS] = {0};
    kf_status status = kf_prepare(j->plan, j->bench.device, &j->exec);
    if (status == KF_OK) {
        status = upload(j);
    }
    for (int i = 0; i < j->op->tensor_count; i++) {
        binding[i].buffer = j->buffer[i];
    }
    if (status == KF_OK && !kf_cancelled) {
        status = kf_run(j->exec, j->bench.queue, binding, NULL);
    }
    return status == KF_OK ? download(j) : status;
}

static kf_status check(kf_job *j)
{
    const void *data[KF_MAX_TENSORS] = {0};
    kf_verify_report report;
    for (int i = 0; i < j->op->tensor_count; i++) {
        data[i] = j->op->tensors[i].role == KF_INPUT ? j->array[i].data : NULL;
    }
    const kf_verify_options verify = {.data = data, .seed = j->cli->seed};
    const kf_status status = kf_verify(j->plan, j->bench.device, j->bench.queue, &verify, &report);
    if (status != KF_OK) {
        return status;
    }
    if (!report.passed) {
        return kf_fail(KF_WRONG_RESULT, "%s", report.reason);
    }
    kf_cli_note(j->cli,
                "verified: %lld elements, largest error %.2g, bound there and elsewhere up to %.2g",
                (long long)report.checked, report.max_error, report.max_bound);
    return KF_OK;
}

static kf_status write_outputs(kf_job *j)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < j->op->tensor_count && !kf_cancelled; i++) {
        if (j->op->tensors[i].role != KF_OUTPUT || !j->path[i]) {
            continue;
        }
        status = kf_npy_write(j->path[i], &j->array[i].tensor, j->array[i].data);
        if (status == KF_OK && j->array[i].tensor.dtype == KF_BF16) {
            kf_cli_note(j->cli, "%s: bf16 written as f4, for NumPy has no bf16", j->path[i]);
        }
    }
    return status;
}

kf_status kf_job_load(kf_job *j)
{
    kf_status status = read_inputs(j);
    if (status == KF_OK) {
        status = kf_problem_open(j->op->name, &j->problem);
    }
    if (status == KF_OK) {
        status = set_attributes(j); /* shapes hang on them */
    }
    return status == KF_OK ? shape_outputs(j) : status;
}

void kf_job_release(kf_job *j)
{
    for (int i = 0; i < j->op->tensor_count; i++) {
        kf_buffer_close(j->buffer[i]);
        kf_array_free(&j->array[i]);
    }
    kf_exec_close(j->exec);
    kf_plan_close(j->plan);
    kf_problem_close(j->problem);
    kf_bench_close(&j->bench);
}

kf_status kf_job_run(kf_job *j, const kf_found *found, bool verify)
{
    kf_status status = kf_bench_open(j->cli, found, &j->bench);
    if (status == KF_OK) {
        status = make_plan(j);
    }
    if (status == KF_OK && !kf_cancelled) {
        status = compute(j);
    }
    if (status == KF_OK && verify && !j->plan->problem.empty && !kf_cancelled) {
        status = check(j);
    }
    if (status == KF_OK && !kf_cancelled) {
        status = write_outputs(j);
    }
    if (status == KF_OK && j->cli->verbose) {
        kf_cli_note(j->cli, "%s %s on %s", j->op->name, j->plan->variant->name, found->info.id);
    }
    return status;
}
