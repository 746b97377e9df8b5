/* A result row as JSON: the one field list (interface.md 3.4). SPDX-License-Identifier: Apache-2.0
 */
#include "results_parts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *kf_json_text(const char *text)
{
    json_t *json = json_string(text);
    if (json)
        return json;
    char *plain = strdup(text); /* names come from drivers and files */
    for (char *at = plain; at && *at; at++)
        if ((unsigned char)*at >= 128)
            *at = '?';
    json = plain ? json_string(plain) : NULL;
    free(plain);
    return json;
}

char *kf_json_print(const json_t *json, bool one_line)
{
    /* 15 digits hold every double that was printed with 15, and 34400 stays 34400.0. */
    const size_t flags = JSON_SORT_KEYS | JSON_REAL_PRECISION(15);
    return json_dumps(json, flags | (one_line ? JSON_COMPACT : JSON_INDENT(1)));
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *number_if(bool there, double value)
{
    return there ? number(value) : json_null();
}

static json_t *integer_if(bool there, int64_t value)
{
    return there ? json_integer(value) : json_null();
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? kf_json_text(text) : json_null();
}

static void set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); /* out of memory: the key is missing */
}

/* ---- what was run --------------------------------------------------------------------------- */

static json_t *shape_json(const kf_case *c)
{
    json_t *list = json_array();
    for (int i = 0; i < kf_op_dim_count(c->op); i++)
        json_array_append_new(list, json_integer(c->dim[i]));
    if (c->inner > 1)
        json_array_append_new(list, json_integer(c->inner));
    return list;
}

static json_t *attributes_json(const kf_case *c)
{
    json_t *object = json_object();
    for (int i = 0; i < c->op->attribute_count; i++)
        set(object, c->op->attributes[i].name,
            c->op->attributes[i].real ? number(c->attribute[i].f)
                                      : json_integer(c->attribute[i].i));
    if (c->op->any_axis && c->inner > 1) /* of the shape above, whose last size lies behind it */
        set(object, "axis", json_integer(-2));
    return object;
}

static json_t *knobs_json(const kf_case *c)
{
    json_t *object = json_object();
    for (int i = 0; c->variant && i < c->op->knob_count; i++)
        if (kf_knob_used(&c->op->knobs[i], c->variant->name))
            set(object, c->op->knobs[i].name, json_integer(c->config.knob[i]));
    return object;
}

/* Only what is not contiguous and aligned; usually an empty object. */
static json_t *by_tensor(const kf_op *op, const int64_t *value)
{
    json_t *object = json_object();
    for (int i = 0; i < op->tensor_count; i++)
        if (value[i])
            set(object, op->tensors[i].name, json_integer(value[i]));
    return object;
}

static json_t *flags_json(const char *flags)
{
    json_t *list = json_array();
    while (*flags) {
        const size_t length = strcspn(flags, " ");
        if (length)
            json_array_append_new(list, json_stringn(flags, length));
        flags += length + (flags[length] == ' ');
    }
    return list;
}

static void set_case(json_t *object, const kf_result *row)
{
    const kf_case *c = &row->test;
    set(object, "op", kf_json_text(c->op ? c->op->name : ""));
    set(object, "variant", text_or_null(c->variant ? c->variant->name : NULL));
    set(object, "dtype", kf_json_text(kf_dtype_name(c->dtype)));
    set(object, "shape", c->op ? shape_json(c) : json_array());
    set(object, "attributes", c->op ? attributes_json(c) : json_object());
    char with[512] = "";
    if (c->op)
        kf_case_with_print(c, with, sizeof with);
    set(object, "with", text_or_null(*with ? with : NULL));
    set(object, "knobs", c->op ? knobs_json(c) : json_object());
    set(object, "strides", c->op ? by_tensor(c->op, c->stride) : json_object());
    set(object, "offsets", c->op ? by_tensor(c->op, c->offset) : json_object());
    set(object, "seed", json_integer((json_int_t)c->seed));
    set(object, "step", integer_if(row->step >= 0, row->step));
    set(object, "step_entry", text_or_null(row->step >= 0 ? row->step_entry : NULL));
    set(object, "backend", text_or_null(row->device ? row->device->backend : NULL));
    set(object, "device", text_or_null(row->device ? row->device->name : NULL));
    set(object, "device_id", text_or_null(row->device ? row->device->id : NULL));
    set(object, "cache", kf_json_text(row->timing.cold ? "cold" : "warm"));
    set(object, "process", json_integer(row->process));
    set(object, "status", kf_json_text(row->status));
    set(object, "reason", text_or_null(row->reason));
    set(object, "flags", flags_json(row->flags));
}

/* ---- what was found ------------------------------------------------------------------------- */

static void set_timing(json_t *object, const kf_timing *t, bool there)
{
    json_t *band = there ? json_object() : json_null();
    json_t *samples = there ? json_array() : json_null();
    for (int i = 0; there && i < t->samples; i++)
        json_array_append_new(samples, number(t->sample[i] * 1e9));
    if (there) {
        set(band, "median", number(t->median * 1e9));
        set(band, "p20", number(t->low * 1e9));
        set(band, "p80", number(t->high * 1e9));
        set(band, "min", number(t->least * 1e9));
        set(band, "n", json_integer(t->samples));
    }
    set(object, "time_ns", band);
    set(object, "samples_ns", samples);
    set(object, "host_ns", number_if(there && t->host > 0, t->host * 1e9));
    set(object, "path", text_or_null(there ? t->path : NULL));
    set(object, "launches_per_sample", integer_if(there, t->launches_per_sample));
    set(object, "sets", integer_if(there, t->sets));
}

static void set_cost(json_t *object, const kf_cost *cost, bool there)
{
    set(object, "launches", integer_if(there, cost->launches));
    set(object, "bytes_min", integer_if(there, cost->bytes_read + cost->bytes_written));
    set(object, "bytes_read", integer_if(there, cost->bytes_read));
    set(object, "bytes_written", integer_if(there, cost->bytes_written));
    set(object, "bytes_requested", integer_if(there, cost->bytes_requested));
    set(object, "bytes_exact", there ? json_boolean(cost->exact) : json_null());
    set(object, "bytes_executed", json_null()); /* the simulator counts, in a test */
    set(object, "bytes_measured", json_null());
    set(object, "scratch_bytes", integer_if(there, cost->scratch_bytes));
    set(object, "flops", integer_if(there, cost->flops));
    set(object, "specials", integer_if(there, cost->specials));
}

static void set_verdict(json_t *object, const kf_verify_report *v)
{
    const bool there = v->checked > 0;
    set(object, "verified", v->passed ? kf_json_text(v->whole ? "whole" : "rows") : json_null());
    set(object, "checked", json_integer(v->checked));
    set(object, "bad", json_integer(v->bad));
    set(object, "max_abs_err", number_if(there, v->max_error));
    set(object, "tolerance", number_if(there, v->max_bound));
    set(object, "worst_err_over_bound", number_if(there, v->worst_ratio));
    set(object, "err_over_unfused_rule", number_if(v->unfused_ratio > 0, v->unfused_ratio));
}

/* No time without a verified output: the row of a wrong result has none, whatever was measured. */
json_t *kf_result_json(const kf_result *row)
{
    const bool ok = !strcmp(row->status, "ok");
    json_t *object = json_object();
    if (!object)
        return NULL;
    set_case(object, row);
    set_timing(object, &row->timing, ok && row->verify.passed && row->timing.samples > 0);
    set_cost(object, &row->cost, ok || row->cost.launches > 0);
    set_verdict(object, &row->verify);
    set(object, "roof_gbs",
        number_if(row->roof_bytes_per_second > 0, row->roof_bytes_per_second / 1e9));
    set(object, "roof_shape", text_or_null(row->roof_shape));
    set(object, "clock_mhz", json_null());
    set(object, "energy_j", json_null());
    return object;
}
