/* The header of a .npy file: a Python dict literal, read by a strict little parser; nothing is
 * evaluated. https://numpy.org/neps/nep-0001-npy-format.html SPDX-License-Identifier: Apache-2.0 */
#include "npy.h"
#include "../core/backend.h"
#include <stdio.h>
#include <string.h>

enum { MAGIC = 6, LONGEST = 1 << 20 }; /* NumPy writes under 200 bytes for what we can read */

typedef struct scanner {
    const char *at, *end;
} scanner;

typedef struct dict {
    bool has_descr, has_order, has_shape, fortran;
    char descr[16];
    int rank; /* may exceed KF_MAX_RANK: told later */
    int64_t size[KF_MAX_RANK];
    bool negative, overflow;
} dict;

static void skip_space(scanner *s)
{
    while (s->at < s->end && strchr(" \t\r\n\f", *s->at) && *s->at)
        s->at++;
}

/* One character of punctuation, after white space. */
static bool accept(scanner *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool accept_word(scanner *s, const char *word)
{
    const size_t length = strlen(word);
    skip_space(s);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length))
        return false;
    s->at += length;
    return true;
}

/* A string without escapes, in either kind of quotes. */
static bool string(scanner *s, char *out, size_t bytes)
{
    const char quote = accept(s, '\'') ? '\'' : accept(s, '"') ? '"' : 0;
    size_t n = 0;
    if (!quote)
        return false;
    for (; s->at < s->end && *s->at != quote; s->at++) {
        if (n + 1 >= bytes || (unsigned char)*s->at < ' ' || *s->at == '\\')
            return false;
        out[n++] = *s->at;
    }
    out[n] = 0;
    return s->at < s->end && *s->at++ == quote;
}

/* Python 2 wrote sizes as 5L. */
static bool size_value(scanner *s, dict *d)
{
    int64_t value = 0;
    const bool minus = accept(s, '-');
    if (s->at == s->end || *s->at < '0' || *s->at > '9')
        return false;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (!d->overflow && (__builtin_mul_overflow(value, (int64_t)10, &value) ||
                             __builtin_add_overflow(value, (int64_t)(*s->at - '0'), &value)))
            d->overflow = true;
    if (s->at < s->end && *s->at == 'L')
        s->at++;
    d->negative |= minus && value != 0;
    if (d->rank < KF_MAX_RANK)
        d->size[d->rank] = value;
    d->rank++;
    return true;
}

/* (), (5,), (3, 4) or (3, 4,); a lone (5) is a number in Python, not a shape. */
static bool shape(scanner *s, dict *d)
{
    bool comma = true;
    if (!accept(s, '('))
        return false;
    while (!accept(s, ')')) {
        if (!comma || !size_value(s, d))
            return false;
        comma = accept(s, ',');
        if (d->rank == 1 && !comma)
            return false;
    }
    return true;
}

static bool once(bool *seen)
{
    const bool first = !*seen;
    *seen = true;
    return first;
}

static bool entry(scanner *s, dict *d)
{
    char key[16];
    if (!string(s, key, sizeof key) || !accept(s, ':'))
        return false;
    if (!strcmp(key, "descr"))
        return once(&d->has_descr) && string(s, d->descr, sizeof d->descr);
    if (!strcmp(key, "shape"))
        return once(&d->has_shape) && shape(s, d);
    if (strcmp(key, "fortran_order") || !once(&d->has_order))
        return false;
    d->fortran = accept_word(s, "True");
    return d->fortran || accept_word(s, "False");
}

static bool parse_dict(scanner *s, dict *d)
{
    bool comma = true;
    if (!accept(s, '{'))
        return false;
    while (!accept(s, '}')) {
        if (!comma || !entry(s, d))
            return false;
        comma = accept(s, ',');
    }
    skip_space(s);
    return s->at == s->end && d->has_descr && d->has_order && d->has_shape;
}

/* A list of fields needs another sentence than a typing error. */
static kf_status refuse_dict(const char *text, size_t length)
{
    static const char key[] = "'descr'";
    for (size_t i = 0; i + sizeof key < length; i++) {
        if (memcmp(text + i, key, sizeof key - 1))
            continue;
        i += sizeof key - 1;
        while (i < length && (text[i] == ' ' || text[i] == ':'))
            i++;
        if (i < length && text[i] == '[')
            return kf_fail(
                KF_IO, "the array holds records (a structured dtype); plain numbers are needed");
    }
    return kf_fail(
        KF_IO,
        "the header is not that of a .npy file: a dict of 'descr', 'fortran_order' and 'shape' "
        "is needed");
}

static kf_dtype dtype_of(const char *descr)
{
    static const struct known {
        const char *name;
        kf_dtype dtype;
    } known[] = {{"f2", KF_F16}, {"f4", KF_F32}, {"f8", KF_F32}, {"i4", KF_I32}, {"i8", KF_I64}};
    const char *name = *descr && strchr("<>|=", *descr) ? descr + 1 : descr;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(name, known[i].name))
            return known[i].dtype;
    return KF_NONE;
}

static kf_status check_dict(const dict *d, kf_tensor *tensor)
{
    const kf_dtype dtype = dtype_of(d->descr);
    if (strchr(d->descr, 'O'))
        return kf_fail(KF_IO, "the array holds Python objects ('%s'), which are never loaded",
                       d->descr);
    if (dtype == KF_NONE)
        return kf_fail(KF_IO, "dtype '%s' is not one of f2, f4, f8, i4, i8", d->descr);
    if (d->rank > KF_MAX_RANK)
        return kf_fail(KF_INVALID, "the array has %d axes; at most %d are possible", d->rank,
                       KF_MAX_RANK);
    if (d->negative)
        return kf_fail(KF_INVALID, "the array has a negative size");
    if (d->overflow)
        return kf_fail(KF_INVALID, "a size of the array overflows 64 bits");
    int64_t bytes = 8; /* the widest element */
    for (int i = 0; i < d->rank; i++)
        if (__builtin_mul_overflow(bytes, d->size[i] ? d->size[i] : 1, &bytes))
            return kf_fail(KF_INVALID, "the sizes of the array overflow when multiplied");
    return kf_tensor_contiguous(dtype, d->rank, d->size, tensor);
}

/* Length of the dict and where it starts, from magic, version and length field. */
static kf_status find_dict(const uint8_t *at, size_t size, size_t *start, size_t *length)
{
    if (size < MAGIC || memcmp(at, "\x93NUMPY", MAGIC))
        return kf_fail(KF_IO, "this is not a .npy file: it does not begin with \\x93NUMPY");
    if (size < MAGIC + 2)
        return kf_fail(KF_IO, "the file is truncated in its header");
    const int version = at[MAGIC];
    if (version < 1 || version > 3 || at[MAGIC + 1] != 0)
        return kf_fail(KF_IO, ".npy version %d.%d is not known; 1.0, 2.0 and 3.0 are", version,
                       at[MAGIC + 1]);
    *start = version == 1 ? MAGIC + 4 : MAGIC + 6;
    if (size < *start)
        return kf_fail(KF_IO, "the file is truncated in its header");
    *length = (size_t)(at[8] | at[9] << 8);
    if (version > 1)
        *length |= (size_t)at[10] << 16 | (size_t)at[11] << 24;
    if (*length > LONGEST)
        return kf_fail(KF_IO, "the header claims %zu bytes, more than any array of numbers needs",
                       *length);
    return KF_OK;
}

kf_status kf_npy_header(const void *bytes, size_t size, kf_tensor *tensor, char descr[16],
                        bool *fortran, size_t *data_at)
{
    size_t start = 0, length = 0;
    dict d = {0};
    kf_status status = find_dict(bytes, size, &start, &length);
    if (status != KF_OK)
        return status;
    if (size - start < length)
        return kf_fail(KF_IO, "the file is truncated in its header");
    const char *text = (const char *)bytes + start;
    scanner s = {.at = text, .end = text + length};
    if (!parse_dict(&s, &d))
        return refuse_dict(text, length);
    status = check_dict(&d, tensor);
    if (status != KF_OK)
        return status;
    memcpy(descr, d.descr, sizeof d.descr);
    *fortran = d.fortran;
    *data_at = start + length;
    return KF_OK;
}
