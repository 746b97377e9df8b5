/* The one text form of "this op, variant, shape, knobs": tuned lines, result rows and --case= all
 * use it. softmax fused f32 rows=4096 cols=16384 VECS=4 stride.x=16640 seed=42
 * SPDX-License-Identifier: Apache-2.0 */
#include "op.h"
#include "backend.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kf_status whole(const char *name, const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    const long long parsed = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return kf_fail(KF_INVALID, "%s takes a whole number, not '%s'", name, text);
    *value = parsed;
    return KF_OK;
}

static int tensor_index(const kf_op *op, const char *name)
{
    for (int i = 0; i < op->tensor_count; i++)
        if (!strcmp(op->tensors[i].name, name))
            return i;
    return -1;
}

static kf_status set_tensor(kf_case *c, const char *name, const char *value)
{
    const bool stride = !strncmp(name, "stride.", 7);
    const int i = tensor_index(c->op, name + 7);
    if (i < 0)
        return kf_fail(KF_INVALID, "op %s has no tensor '%s'", c->op->name, name + 7);
    int64_t *place = stride ? &c->stride[i] : &c->offset[i];
    const kf_status status = whole(name, value, place);
    return status == KF_OK && *place < 0 ? kf_fail(KF_INVALID, "%s cannot be negative", name)
                                         : status;
}

static kf_status set_inner(kf_case *c, const char *value)
{
    int64_t inner = 0;
    const kf_status status = whole("inner", value, &inner);
    c->inner = inner > 1 ? inner : 0;
    return status == KF_OK && inner < 1
               ? kf_fail(KF_INVALID, "inner is at least 1: the elements behind the axis")
               : status;
}

/* ---- attributes --------------------------------------------------------------------------- */

/* Place of a word in a list separated by spaces; -1 when it is not there. */
static int word_index(const char *list, const char *word)
{
    for (int i = 0; list && *list; i++) {
        const size_t n = strcspn(list, " ");
        if (n == strlen(word) && !strncmp(list, word, n))
            return i;
        list += n + (list[n] == ' ');
    }
    return -1;
}

kf_status kf_attribute_parse(const kf_attribute_decl *decl, const char *text, kf_attribute *out)
{
    char *end;
    const int word = word_index(decl->words, text);
    const double parsed = word >= 0 ? word : strtod(text, &end);
    if (word < 0 && (end == text || *end))
        return decl->words
                   ? kf_fail(KF_INVALID, "attribute %s takes one of: %s; not '%s'", decl->name,
                             decl->words, text)
                   : kf_fail(KF_INVALID, "attribute %s takes a number, not '%s'", decl->name, text);
    *out = (kf_attribute){.set = true, .i = (int64_t)parsed, .f = parsed};
    return word >= 0 || decl->real ? KF_OK : whole(decl->name, text, &out->i);
}

void kf_attribute_print(const kf_attribute_decl *decl, const kf_attribute *value, char *text,
                        size_t bytes)
{
    const char *word = decl->words ? decl->words : "";
    for (int64_t i = 0; *word && i < value->i; i++) {
        word += strcspn(word, " ");
        word += *word == ' ';
    }
    if (*word && value->i >= 0)
        snprintf(text, bytes, "%.*s", (int)strcspn(word, " "), word);
    else if (decl->real)
        snprintf(text, bytes, "%.17g", value->f);
    else
        snprintf(text, bytes, "%lld", (long long)value->i);
}

/* ---- optional tensors --------------------------------------------------------------------- */

kf_status kf_case_with(kf_case *c, const char *list)
{
    c->with_set = true;
    c->with = 0;
    if (!strcmp(list, "none"))
        return KF_OK;
    while (*list) {
        char name[32] = "";
        const size_t n = strcspn(list, ",");
        if (n < sizeof name)
            memcpy(name, list, n);
        const int i = tensor_index(c->op, name);
        if (i < 0 || !c->op->tensors[i].optional)
            return kf_fail(KF_INVALID, "op %s has no optional tensor '%.*s'", c->op->name, (int)n,
                           list);
        c->with |= UINT32_C(1) << i;
        list += n + (list[n] == ',');
    }
    return KF_OK;
}

/* Separated by `separator`; "" for none. */
static void with_names(const kf_case *c, char separator, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < c->op->tensor_count && used < bytes; i++)
        if (c->with & UINT32_C(1) << i)
            used += (size_t)snprintf(text + used, bytes - used, "%.1s%s",
                                     used ? (char[]){separator, 0} : "", c->op->tensors[i].name);
}

void kf_case_with_print(const kf_case *c, char *text, size_t bytes)
{
    with_names(c, ',', text, bytes);
    if (!*text && c->with_set)
        snprintf(text, bytes, "none");
}

/* ---- parsing ------------------------------------------------------------------------------ */

static kf_status set_word(kf_case *c, char *word)
{
    char *value = strchr(word, '=');
    if (!value)
        return kf_fail(KF_INVALID,
                       "a case is written OP VARIANT DTYPE NAME=VALUE ...: '%s' has no value",
                       word);
    *value++ = 0;
    const int dim = kf_op_dim(c->op, word), knob = kf_op_knob(c->op, word);
    if (dim >= 0)
        return whole(word, value, &c->dim[dim]);
    if (knob >= 0) {
        c->config.set[knob] = true;
        return whole(word, value, &c->config.knob[knob]);
    }
    if (c->op->any_axis && !strcmp(word, "inner"))
        return set_inner(c, value);
    if (!strncmp(word, "stride.", 7) || !strncmp(word, "offset.", 7))
        return set_tensor(c, word, value);
    /* an attribute that is named like a word of the case itself: attr.seed */
    const bool prefixed = !strncmp(word, "attr.", 5);
    word += prefixed ? 5 : 0;
    if (!prefixed && !strcmp(word, "seed")) {
        char *end;
        c->seed = strtoull(value, &end, 10);
        return end != value && !*end
                   ? KF_OK
                   : kf_fail(KF_INVALID, "seed takes a whole number, not '%s'", value);
    }
    if (!prefixed && !strcmp(word, "with"))
        return kf_case_with(c, value);
    for (int i = 0; i < c->op->attribute_count; i++)
        if (!strcmp(c->op->attributes[i].name, word))
            return kf_attribute_parse(&c->op->attributes[i], value, &c->attribute[i]);
    return kf_fail(KF_INVALID, "op %s has no dim, knob or attribute '%s'", c->op->name, word);
}

static kf_status set_head(kf_case *c, int place, const char *word)
{
    if (place == 0) {
        c->op = kf_op_find(word);
        for (int i = 0; c->op && i < KF_MAX_DIMS; i++)
            c->dim[i] = -1;
        return c->op ? KF_OK : kf_fail(KF_INVALID, "there is no op '%s'", word);
    }
    if (place == 1) {
        c->variant = kf_op_variant(c->op, word);
        return c->variant || !strcmp(word, "default")
                   ? KF_OK
                   : kf_fail(KF_INVALID, "op %s has no variant '%s'", c->op->name, word);
    }
    c->dtype = kf_dtype_parse(word);
    return c->dtype ? KF_OK : kf_fail(KF_INVALID, "there is no dtype '%s'", word);
}

kf_status kf_case_parse(const char *text, kf_case *out)
{
    kf_case c = {0};
    char copy[1024], *save = NULL;
    int place = 0;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return kf_fail(KF_INVALID, "a case has at most %zu characters", sizeof copy - 1);
    for (char *word = strtok_r(copy, " \t\n", &save); word;
         word = strtok_r(NULL, " \t\n", &save), place++) {
        const kf_status status = place < 3 ? set_head(&c, place, word) : set_word(&c, word);
        if (status != KF_OK)
            return status;
    }
    if (place < 3)
        return kf_fail(KF_INVALID, "a case is written OP VARIANT DTYPE NAME=VALUE ...");
    for (int i = 0; i < kf_op_dim_count(c.op); i++)
        if (c.dim[i] < 0)
            return kf_fail(KF_INVALID, "a case of op %s needs its dims (%s), each at least 0",
                           c.op->name, c.op->dims);
    for (int i = 0; i < c.op->attribute_count; i++)
        if (!c.attribute[i].set)
            c.attribute[i].i = (int64_t)(c.attribute[i].f = c.op->attributes[i].fallback);
    *out = c;
    return KF_OK;
}

/* ---- printing ----------------------------------------------------------------------------- */

typedef struct writer {
    char *buffer;
    size_t room;
    int length;
} writer;

static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(writer *w, const char *format, ...)
{
    va_list arguments;
    const size_t used = (size_t)w->length < w->room ? (size_t)w->length : w->room;
    va_start(arguments, format);
    w->length += vsnprintf(w->buffer ? w->buffer + used : NULL, w->room - used, format, arguments);
    va_end(arguments);
}

static void put_dims(writer *w, const kf_case *c)
{
    const char *word = c->op->dims;
    for (int i = 0; *word; i++) {
        const size_t n = strcspn(word, " ");
        put(w, " %.*s=%lld", (int)n, word, (long long)c->dim[i]);
        word += n + (word[n] == ' ');
    }
    if (c->inner > 1)
        put(w, " inner=%lld", (long long)c->inner);
}

int kf_case_print(const kf_case *c, char *buffer, size_t bytes)
{
    const kf_op *op = c->op;
    writer w = {.buffer = bytes ? buffer : NULL, .room = bytes};
    put(&w, "%s %s %s", op->name, c->variant ? c->variant->name : "default",
        kf_dtype_name(c->dtype));
    put_dims(&w, c);
    char with[512];
    kf_case_with_print(c, with, sizeof with);
    if (*with)
        put(&w, " with=%s", with);
    for (int i = 0; i < op->attribute_count; i++) {
        char value[40];
        kf_attribute_print(&op->attributes[i], &c->attribute[i], value, sizeof value);
        if (c->attribute[i].set)
            put(&w, " %s%s=%s", strcmp(op->attributes[i].name, "seed") ? "" : "attr.",
                op->attributes[i].name, value);
    }
    for (int i = 0; i < op->knob_count; i++)
        if (c->config.set[i])
            put(&w, " %s=%lld", op->knobs[i].name, (long long)c->config.knob[i]);
    for (int i = 0; i < op->tensor_count; i++)
        if (c->stride[i])
            put(&w, " stride.%s=%lld", op->tensors[i].name, (long long)c->stride[i]);
    for (int i = 0; i < op->tensor_count; i++)
        if (c->offset[i])
            put(&w, " offset.%s=%lld", op->tensors[i].name, (long long)c->offset[i]);
    put(&w, " seed=%llu", (unsigned long long)c->seed);
    return w.length;
}

/* ---- to a problem ------------------------------------------------------------------------- */

/* Buffers start at 256 bytes at least (cuMemAlloc) or the device's base alignment, 128 at least
 * where 16-byte accesses matter; an offset leaves of it what divides both. */
static int32_t offset_alignment(int64_t offset, int size)
{
    int32_t alignment = 128;
    while (offset * size % alignment)
        alignment /= 2;
    return alignment;
}

/* The dims of a case say which axis is meant; the attribute may only agree. */
static kf_status check_axis(const kf_case *c)
{
    for (int i = 0; c->op->any_axis && i < c->op->attribute_count; i++) {
        const int64_t axis = c->attribute[i].i;
        if (!strcmp(c->op->attributes[i].name, "axis") && c->attribute[i].set && axis != 1 &&
            axis != (c->inner > 1 ? -2 : -1))
            return kf_fail(KF_INVALID,
                           "axis=%lld: a case of op %s has its axis at cols, behind rows%s; inner= "
                           "is what lies behind it",
                           (long long)axis, c->op->name, c->inner > 1 ? ", before inner" : "");
    }
    return KF_OK;
}

kf_status kf_case_problem(const kf_case *c, kf_problem *problem)
{
    char names[512];
    const char *with = c->variant && c->variant->tensors ? c->variant->tensors : c->op->with;
    with_names(c, ' ', names, sizeof names);
    for (int i = 0; i < c->op->attribute_count; i++) /* shapes hang on them */
        if (c->attribute[i].set)
            problem->attribute[i] = c->attribute[i];
    kf_status status = check_axis(c);
    if (status == KF_OK)
        status = c->inner > 1
                     ? kf_problem_shape_inner(problem, c->dtype, c->dim, c->inner, c->stride)
                     : kf_problem_shape(problem, c->dtype, c->dim, c->with_set ? names : with);
    if (status != KF_OK)
        return status;
    for (int i = 0; i < c->op->tensor_count; i++) {
        kf_tensor *t = &problem->tensor[i];
        if (!t->dtype)
            continue;
        t->alignment = offset_alignment(c->offset[i], kf_dtype_bytes(t->dtype));
        if (!c->stride[i] || c->inner > 1)
            continue;
        if (t->rank < 2)
            return kf_fail(KF_INVALID, "tensor '%s' of op %s has no rows to give a stride",
                           c->op->tensors[i].name, c->op->name);
        t->stride[0] = c->stride[i];
        status = kf_problem_tensor(problem, c->op->tensors[i].name, t);
        if (status != KF_OK)
            return status;
    }
    return KF_OK;
}
