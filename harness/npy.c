/* Reading and writing of .npy files: conversion of byte order, dtype and axis order happens here,
 * while reading, and is noted; the library itself copies nothing. SPDX-License-Identifier:
 * Apache-2.0 */
#include "npy.h"
#include "../core/backend.h"
#include "convert.h"
#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "'<' is taken for the host's own byte order");

enum { HEAD = 12, CHUNK = 1 << 18, ALIGNMENT = 64 };

typedef struct source { /* an open file behind its header */
    int fd;
    const char *path;
    kf_dtype dtype; /* of the elements; with wide, 8-byte floats that kf_dtype has no name for */
    bool wide, swapped, fortran;
    int size; /* bytes of an element */
} source;

/* Every sentence of this file names the file. */
static kf_status with_path(kf_status status, const char *path)
{
    char sentence[400];
    if (status == KF_OK)
        return status;
    snprintf(sentence, sizeof sentence, "%s", kf_error());
    return kf_fail(status, "%s: %s", path, sentence);
}

static void add_note(kf_array *array, const char *text)
{
    const size_t used = strlen(array->note);
    snprintf(array->note + used, sizeof array->note - used, "%s%s", used ? "; " : "", text);
}

/* ---- header --------------------------------------------------------------------------------- */

/* Reads no further than the header says, so that pipes work. */
static kf_status read_header(int fd, const char *path, uint8_t **header, size_t *bytes)
{
    uint8_t head[HEAD] = {0};
    size_t got, more;
    kf_status status = kf_read_all(fd, path, head, HEAD, &got);
    if (status != KF_OK)
        return status;
    size_t length = (size_t)(head[8] | head[9] << 8), start = 10;
    if (head[6] > 1) {
        length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
        start = 12;
    }
    if (got < HEAD || memcmp(head, "\x93NUMPY", 6) || length > 1 << 20 || start + length < HEAD)
        length = HEAD - start; /* the parser refuses it with a sentence */
    *header = malloc(start + length);
    if (!*header)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for a header of %zu bytes", length);
    memcpy(*header, head, got);
    *bytes = got;
    if (got < HEAD)
        return KF_OK;
    status = kf_read_all(fd, path, *header + HEAD, start + length - HEAD, &more);
    *bytes += more;
    return status;
}

static kf_status open_source(source *s, kf_tensor *tensor)
{
    uint8_t *header = NULL;
    char descr[16];
    size_t bytes = 0, data_at;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        return kf_fail(KF_IO, "cannot open %s: %s", s->path, strerror(errno));
    kf_status status = read_header(s->fd, s->path, &header, &bytes);
    if (status == KF_OK)
        status =
            with_path(kf_npy_header(header, bytes, tensor, descr, &s->fortran, &data_at), s->path);
    free(header);
    if (status != KF_OK)
        return status;
    const char *name = strpbrk(descr, "fi");
    s->wide = !strcmp(name, "f8");
    s->swapped = *descr == '>';
    s->size = name[1] - '0';
    s->dtype = tensor->dtype;
    return KF_OK;
}

/* A truncated file is known before memory for all it claims is asked for. */
static kf_status check_length(const source *s, int64_t count)
{
    struct stat info;
    const off_t at = lseek(s->fd, 0, SEEK_CUR);
    if (fstat(s->fd, &info) || !S_ISREG(info.st_mode) || at < 0)
        return KF_OK; /* a pipe: known when it ends */
    const int64_t there = info.st_size - at;
    if (there / s->size < count)
        return kf_fail(KF_IO,
                       "%s is truncated: %" PRId64 " elements of %d bytes are needed, %" PRId64
                       " bytes are there",
                       s->path, count, s->size, there);
    return KF_OK;
}

/* ---- elements ------------------------------------------------------------------------------- */

static void swap_bytes(void *data, int size, int64_t count)
{
    uint16_t *two = data;
    uint32_t *four = data;
    uint64_t *eight = data;
    for (int64_t i = 0; i < count; i++)
        if (size == 2)
            two[i] = __builtin_bswap16(two[i]);
        else if (size == 4)
            four[i] = __builtin_bswap32(four[i]);
        else
            eight[i] = __builtin_bswap64(eight[i]);
}

static bool is_integer(kf_dtype dtype)
{
    return dtype == KF_I32 || dtype == KF_I64;
}

/* Number of finite values that the narrower dtype turns into an infinity. */
static int64_t count_overflows(const double *value, const void *data, kf_dtype dtype, int64_t first,
                               int64_t count)
{
    int64_t overflows = 0;
    for (int64_t i = 0; i < count; i++)
        overflows += isfinite(value[i]) && isinf(kf_load(data, dtype, first + i));
    return overflows;
}

/* Integers to integers keep all 64 bits. */
static kf_status convert_integers(const source *s, const void *raw, kf_array *out, int64_t first,
                                  int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t value = s->size == 4 ? ((const int32_t *)raw)[i] : ((const int64_t *)raw)[i];
        if (out->tensor.dtype == KF_I64)
            ((int64_t *)out->data)[first + i] = value;
        else if (value >= INT32_MIN && value <= INT32_MAX)
            ((int32_t *)out->data)[first + i] = (int32_t)value;
        else
            return kf_fail(KF_INVALID, "%s: %lld does not fit into i32", s->path, (long long)value);
    }
    return KF_OK;
}

static kf_status convert(const source *s, const void *raw, double *value, kf_array *out,
                         int64_t first, int64_t count, int64_t *overflows)
{
    if (is_integer(out->tensor.dtype))
        return convert_integers(s, raw, out, first, count);
    if (s->wide)
        memcpy(value, raw, (size_t)count * sizeof *value);
    else
        kf_load_many(raw, s->dtype, 0, 1, value, count);
    kf_store_many(out->data, out->tensor.dtype, first, 1, value, count);
    *overflows += count_overflows(value, out->data, out->tensor.dtype, first, count);
    return KF_OK;
}

static kf_status read_chunk(const source *s, void *data, int64_t count)
{
    size_t got;
    const size_t bytes = (size_t)count * (size_t)s->size;
    const kf_status status = kf_read_all(s->fd, s->path, data, bytes, &got);
    if (status == KF_OK && got < bytes)
        return kf_fail(KF_IO, "%s is truncated: its data ends early", s->path);
    if (status == KF_OK && s->swapped)
        swap_bytes(data, s->size, count);
    return status;
}

static kf_status read_converted(const source *s, int64_t count, kf_array *out)
{
    int64_t overflows = 0;
    void *raw = malloc((size_t)CHUNK * (size_t)s->size);
    double *value = malloc(CHUNK * sizeof *value);
    kf_status status =
        raw && value ? KF_OK : kf_fail(KF_OUT_OF_MEMORY, "no host memory to convert %s", s->path);
    for (int64_t at = 0; status == KF_OK && at < count; at += CHUNK) {
        const int64_t n = count - at < CHUNK ? count - at : CHUNK;
        status = read_chunk(s, raw, n);
        if (status == KF_OK)
            status = convert(s, raw, value, out, at, n, &overflows);
    }
    if (status == KF_OK && overflows) {
        char text[80];
        snprintf(text, sizeof text, "%lld too large for %s became infinite", (long long)overflows,
                 kf_dtype_name(out->tensor.dtype));
        add_note(out, text);
    }
    free(raw);
    free(value);
    return status;
}

static kf_status read_elements(const source *s, int64_t count, kf_array *out)
{
    char text[80];
    if (!s->wide && s->dtype == out->tensor.dtype) {
        for (int64_t at = 0; at < count; at += CHUNK) { /* in chunks: swapped while in the cache */
            const int64_t n = count - at < CHUNK ? count - at : CHUNK;
            const kf_status status = read_chunk(s, (char *)out->data + at * s->size, n);
            if (status != KF_OK)
                return status;
        }
        return KF_OK;
    }
    snprintf(text, sizeof text, "%s converted to %s", s->wide ? "f64" : kf_dtype_name(s->dtype),
             kf_dtype_name(out->tensor.dtype));
    add_note(out, text);
    return read_converted(s, count, out);
}

/* Element (i, j, ...) of an array whose first axis varies fastest: the same sizes with strides of
 * that order. */
static kf_status reorder(kf_array *array, const char *path)
{
    kf_tensor columns = array->tensor;
    const int64_t count = kf_tensor_elements(&columns);
    int64_t step = 1;
    if (columns.rank < 2 || count == 0)
        return KF_OK;
    for (int i = 0; i < columns.rank; i++) {
        columns.stride[i] = step;
        step *= columns.size[i];
    }
    void *rows = malloc((size_t)count * (size_t)kf_dtype_bytes(columns.dtype));
    if (!rows)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory to rewrite %s from Fortran to C order",
                       path);
    kf_gather(&columns, array->data, 0, count, rows);
    free(array->data);
    array->data = rows;
    add_note(array, "Fortran order rewritten to C order");
    return KF_OK;
}

static kf_status load(source *s, kf_dtype dtype, kf_array *out)
{
    kf_status status = open_source(s, &out->tensor);
    if (status != KF_OK)
        return status;
    const int64_t count = kf_tensor_elements(&out->tensor);
    if (dtype != KF_NONE && is_integer(dtype) && !is_integer(s->dtype))
        return kf_fail(KF_INVALID, "%s holds floating-point numbers; %s is needed", s->path,
                       kf_dtype_name(dtype));
    out->tensor.dtype = dtype ? dtype : s->dtype;
    status = check_length(s, count);
    if (status != KF_OK)
        return status;
    out->data = malloc((size_t)count * (size_t)kf_dtype_bytes(out->tensor.dtype) + 1);
    if (!out->data)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for the %lld elements of %s",
                       (long long)count, s->path);
    status = read_elements(s, count, out);
    return status == KF_OK && s->fortran ? reorder(out, s->path) : status;
}

kf_status kf_npy_read(const char *path, kf_dtype dtype, kf_array *out)
{
    source s = {.fd = -1, .path = path};
    *out = (kf_array){0};
    const kf_status status = load(&s, dtype, out);
    if (s.fd >= 0)
        close(s.fd);
    if (status != KF_OK)
        kf_array_free(out);
    return status;
}

void kf_array_free(kf_array *array)
{
    free(array->data);
    *array = (kf_array){0};
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Version 1, padded with spaces so that the data starts at a multiple of 64 bytes. */
static size_t make_header(const kf_tensor *tensor, char header[512])
{
    static const char *const descr[] = {
        [KF_F32] = "<f4", [KF_F16] = "<f2", [KF_BF16] = "<f4", [KF_I32] = "<i4", [KF_I64] = "<i8"};
    int n = snprintf(header, 512, "%cNUMPY%c%c__{'descr': '%s', 'fortran_order': False, 'shape': (",
                     0x93, 1, 0, descr[tensor->dtype]);
    for (int i = 0; i < tensor->rank; i++)
        n += snprintf(header + n, 512 - (size_t)n, "%s%lld%s", i ? " " : "",
                      (long long)tensor->size[i],
                      i + 1 < tensor->rank || tensor->rank == 1 ? "," : "");
    n += snprintf(header + n, 512 - (size_t)n, "), }");
    const size_t bytes = ((size_t)n + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(header + n, ' ', bytes - (size_t)n - 1);
    header[bytes - 1] = '\n';
    header[8] = (char)((bytes - 10) & 255);
    header[9] = (char)((bytes - 10) >> 8);
    return bytes;
}

static kf_status write_elements(kf_file *file, const kf_tensor *tensor, const void *data)
{
    const int64_t count = kf_tensor_elements(tensor);
    const bool widen = tensor->dtype == KF_BF16;
    const size_t size = (size_t)kf_dtype_bytes(tensor->dtype);
    kf_status status = KF_OK;
    char *packed = malloc(CHUNK * size);
    float *wide = malloc(CHUNK * sizeof *wide);
    if (!packed || !wide)
        status = kf_fail(KF_OUT_OF_MEMORY, "no host memory to write an array");
    for (int64_t at = 0; status == KF_OK && at < count; at += CHUNK) {
        const int64_t n = count - at < CHUNK ? count - at : CHUNK;
        kf_gather(tensor, data, at, n, packed);
        for (int64_t i = 0; widen && i < n; i++)
            wide[i] = (float)kf_load(packed, tensor->dtype, i);
        status = widen ? kf_file_write(file, wide, (size_t)n * sizeof *wide)
                       : kf_file_write(file, packed, (size_t)n * size);
    }
    free(packed);
    free(wide);
    return status;
}

kf_status kf_npy_write(const char *path, const kf_tensor *tensor, const void *data)
{
    kf_file *file = NULL;
    char header[512];
    if (!kf_dtype_bytes(tensor->dtype))
        return kf_fail(KF_INVALID, "cannot write %s: the tensor has no dtype", path);
    kf_status status = kf_file_create(path, &file);
    if (status != KF_OK)
        return status;
    status = kf_file_write(file, header, make_header(tensor, header));
    if (status == KF_OK)
        status = write_elements(file, tensor, data);
    if (status == KF_OK)
        return kf_file_commit(file);
    kf_file_abandon(file);
    return status;
}
