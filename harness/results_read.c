/* Result files back into rows. Unknown fields, record kinds and ops are passed over, so that older
 * programs read newer files (interface.md 3.6). SPDX-License-Identifier: Apache-2.0 */
#include "results_parts.h"
#include "../core/backend.h"
#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DEVICES = 16, PIECE = 1 << 16 };

typedef struct reader {
    const char *path;
    kf_device_info device[MAX_DEVICES]; /* of the run that the rows belong to */
    int device_count;
    kf_device_info unknown; /* a row whose device no context lists */
    kf_status (*each)(const kf_result *row, void *data);
    void *data;
} reader;

/* ---- one row -------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static int64_t integer_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void copy_text(const json_t *object, const char *key, char *out, size_t bytes)
{
    snprintf(out, bytes, "%s", text_of(object, key));
}

static void read_attributes(const json_t *object, kf_case *c)
{
    for (int i = 0; i < c->op->attribute_count; i++) {
        const json_t *value = json_object_get(object, c->op->attributes[i].name);
        c->attribute[i] = (kf_attribute){.i = (int64_t)c->op->attributes[i].fallback,
                                         .f = c->op->attributes[i].fallback};
        if (json_is_number(value))
            c->attribute[i] =
                (kf_attribute){.set = true,
                               .i = json_is_integer(value) ? json_integer_value(value)
                                                           : (int64_t)json_real_value(value),
                               .f = json_number_value(value)};
    }
}

static void read_knobs(const json_t *object, kf_case *c)
{
    for (int i = 0; i < c->op->knob_count; i++) {
        const json_t *value = json_object_get(object, c->op->knobs[i].name);
        c->config.set[i] = json_is_integer(value);
        c->config.knob[i] = json_integer_value(value);
    }
}

static bool read_case(const json_t *object, kf_case *c)
{
    const json_t *shape = json_object_get(object, "shape");
    c->op = kf_op_find(text_of(object, "op"));
    if (!c->op)
        return false;
    c->variant = kf_op_variant(c->op, text_of(object, "variant"));
    c->dtype = kf_dtype_parse(text_of(object, "dtype"));
    for (int i = 0; i < KF_MAX_DIMS; i++)
        c->dim[i] = json_integer_value(json_array_get(shape, (size_t)i));
    if (c->op->any_axis) { /* the size behind those of the op's dims */
        const int count = kf_op_dim_count(c->op);
        c->inner = c->dim[count];
        c->dim[count] = 0;
    }
    read_attributes(json_object_get(object, "attributes"), c);
    const char *with = text_of(object, "with");
    if (*with && kf_case_with(c, with) != KF_OK)
        return false;
    read_knobs(json_object_get(object, "knobs"), c);
    for (int i = 0; i < c->op->tensor_count; i++) {
        c->stride[i] = integer_of(json_object_get(object, "strides"), c->op->tensors[i].name);
        c->offset[i] = integer_of(json_object_get(object, "offsets"), c->op->tensors[i].name);
    }
    c->seed = (uint64_t)integer_of(object, "seed");
    return true;
}

static void read_timing(const json_t *object, kf_timing *t)
{
    const json_t *band = json_object_get(object, "time_ns"),
                 *samples = json_object_get(object, "samples_ns");
    t->median = number_of(band, "median") / 1e9;
    t->low = number_of(band, "p20") / 1e9;
    t->high = number_of(band, "p80") / 1e9;
    t->least = number_of(band, "min") / 1e9;
    for (size_t i = 0; i < json_array_size(samples) && i < KF_MAX_SAMPLES; i++)
        t->sample[t->samples++] = json_number_value(json_array_get(samples, i)) / 1e9;
    t->host = number_of(object, "host_ns") / 1e9;
    copy_text(object, "path", t->path, sizeof t->path);
    t->launches_per_sample = (int)integer_of(object, "launches_per_sample");
    t->sets = (int)integer_of(object, "sets");
    t->cold = !strcmp(text_of(object, "cache"), "cold");
}

static void read_cost(const json_t *object, kf_cost *cost)
{
    cost->launches = (int)integer_of(object, "launches");
    cost->bytes_read = integer_of(object, "bytes_read");
    cost->bytes_written = integer_of(object, "bytes_written");
    cost->bytes_requested = integer_of(object, "bytes_requested");
    cost->flops = integer_of(object, "flops");
    cost->specials = integer_of(object, "specials");
    cost->scratch_bytes = integer_of(object, "scratch_bytes");
    cost->exact = json_is_true(json_object_get(object, "bytes_exact"));
}

static void read_verdict(const json_t *object, kf_verify_report *v)
{
    v->passed = *text_of(object, "verified") != 0;
    v->whole = !strcmp(text_of(object, "verified"), "whole");
    v->checked = integer_of(object, "checked");
    v->bad = integer_of(object, "bad");
    v->first_bad = -1;
    v->max_error = number_of(object, "max_abs_err");
    v->max_bound = number_of(object, "tolerance");
    v->worst_ratio = number_of(object, "worst_err_over_bound");
    v->unfused_ratio = number_of(object, "err_over_unfused_rule");
}

static const char *known_status(const char *text)
{
    static const char *const known[] = {"ok", "unsupported", "skipped", "error", "wrong"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(text, known[i]))
            return known[i];
    return "error"; /* of a newer program: at least not a success */
}

bool kf_result_from_json(const json_t *json, kf_result *row)
{
    const json_t *step = json_object_get(json, "step"), *flags = json_object_get(json, "flags");
    *row = (kf_result){.step = json_is_integer(step) ? (int)json_integer_value(step) : -1};
    if (!read_case(json, &row->test))
        return false;
    row->status = known_status(text_of(json, "status"));
    copy_text(json, "step_entry", row->step_entry, sizeof row->step_entry);
    copy_text(json, "reason", row->reason, sizeof row->reason);
    for (size_t i = 0; i < json_array_size(flags); i++) {
        const size_t used = strlen(row->flags);
        const char *flag = json_string_value(json_array_get(flags, i));
        snprintf(row->flags + used, sizeof row->flags - used, "%s%s", used ? " " : "",
                 flag ? flag : "");
    }
    read_timing(json, &row->timing);
    read_cost(json, &row->cost);
    read_verdict(json, &row->verify);
    row->roof_bytes_per_second = number_of(json, "roof_gbs") * 1e9;
    copy_text(json, "roof_shape", row->roof_shape, sizeof row->roof_shape);
    row->process = (int)integer_of(json, "process");
    return true;
}

/* ---- files ---------------------------------------------------------------------------------- */

static void read_context(reader *r, const json_t *context)
{
    const json_t *devices = json_object_get(context, "devices");
    r->device_count = 0;
    for (size_t i = 0; i < json_array_size(devices) && i < MAX_DEVICES; i++)
        kf_device_from_json(json_array_get(devices, i), &r->device[r->device_count++]);
}

static const kf_device_info *find_device(reader *r, const json_t *json)
{
    const char *backend = text_of(json, "backend"), *name = text_of(json, "device"),
               *id = text_of(json, "device_id");
    for (int i = 0; i < r->device_count; i++)
        if (!strcmp(r->device[i].backend, backend) && !strcmp(r->device[i].name, name) &&
            (!*id || !strcmp(r->device[i].id, id)))
            return &r->device[i];
    r->unknown = (kf_device_info){0};
    copy_text(json, "backend", r->unknown.backend, sizeof r->unknown.backend);
    copy_text(json, "device", r->unknown.name, sizeof r->unknown.name);
    copy_text(json, "device_id", r->unknown.id, sizeof r->unknown.id);
    return &r->unknown;
}

static kf_status give_row(reader *r, const json_t *json)
{
    kf_result row;
    if (!kf_result_from_json(json, &row))
        return KF_OK; /* an op that this program does not have */
    row.device = find_device(r, json);
    return r->each(&row, r->data);
}

static kf_status give_record(reader *r, const json_t *json)
{
    const char *kind = text_of(json, "record");
    if (!strcmp(kind, "run"))
        read_context(r, json_object_get(json, "context"));
    return strcmp(kind, "result") ? KF_OK : give_row(r, json);
}

static kf_status read_object(reader *r, const json_t *json)
{
    const json_t *results = json_object_get(json, "results");
    kf_status status = KF_OK;
    read_context(r, json_object_get(json, "context"));
    for (size_t i = 0; status == KF_OK && i < json_array_size(results); i++)
        status = give_row(r, json_array_get(results, i));
    return status;
}

/* Lines of JSON. The last line of an interrupted run may be torn: it is dropped, and kf_error()
 * says so. */
static kf_status read_lines(reader *r, const char *text, size_t bytes)
{
    int line = 1;
    for (size_t at = 0; at < bytes; line++) {
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t length = end ? (size_t)(end - text) - at : bytes - at;
        json_t *json = length ? json_loadb(text + at, length, 0, NULL) : NULL;
        kf_status status = KF_OK;
        if (json_is_object(json))
            status = give_record(r, json);
        else if (!end)
            (void)kf_fail(KF_IO, "%s: line %d is torn and was dropped; its run was interrupted",
                          r->path, line);
        else if (length)
            status = kf_fail(KF_IO, "%s: line %d is not a JSON object", r->path, line);
        json_decref(json);
        if (status != KF_OK)
            return status;
        at += length + 1;
    }
    return KF_OK;
}

static kf_status load_text(const char *path, char **text, size_t *bytes)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t room = 0, got = 1;
    kf_status status = fd < 0 ? kf_fail(KF_IO, "cannot open %s: %s", path, strerror(errno)) : KF_OK;
    *text = NULL;
    *bytes = 0;
    while (status == KF_OK && got > 0) {
        if (*bytes + PIECE > room) {
            room = 2 * room + PIECE;
            char *more = realloc(*text, room);
            if (!more)
                status = kf_fail(KF_OUT_OF_MEMORY, "no host memory to read %s", path);
            else
                *text = more;
        }
        if (status == KF_OK)
            status = kf_read_all(fd, path, *text + *bytes, PIECE, &got);
        *bytes += status == KF_OK ? got : 0;
    }
    if (fd >= 0)
        close(fd);
    return status;
}

kf_status kf_results_read(const char *path, kf_status (*each)(const kf_result *row, void *data),
                          void *data)
{
    char *text = NULL;
    size_t bytes = 0;
    reader *r = calloc(1, sizeof *r);
    kf_status status = r ? load_text(path, &text, &bytes)
                         : kf_fail(KF_OUT_OF_MEMORY, "no host memory to read %s", path);
    if (status == KF_OK) {
        r->path = path;
        r->each = each;
        r->data = data;
        json_t *whole = bytes ? json_loadb(text, bytes, 0, NULL) : NULL;
        if (json_is_array(json_object_get(whole, "results")))
            status = read_object(r, whole);
        else
            status = read_lines(r, text, bytes);
        json_decref(whole);
    }
    free(text);
    free(r);
    return status;
}
