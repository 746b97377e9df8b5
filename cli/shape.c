/* --shape: lists of sizes, with ranges per size as in llama-bench: 1024-8192*2x4096 is four shapes.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct range { /* first, first+step ... or first, first*factor ... up to last */
    int64_t first, last, step;
    bool multiply;
} range;

static bool whole(const char **cursor, int64_t *value)
{
    char *end;
    if (**cursor < '0' || **cursor > '9') {
        return false;
    }
    errno = 0;
    *value = strtoll(*cursor, &end, 10);
    *cursor = end;
    return errno == 0;
}

static bool parse_range(const char **cursor, range *r)
{
    *r = (range){.step = 1};
    if (!whole(cursor, &r->first)) {
        return false;
    }
    r->last = r->first;
    if (**cursor != '-') {
        return true;
    }
    ++*cursor;
    if (!whole(cursor, &r->last) || r->last < r->first) {
        return false;
    }
    if (**cursor != '+' && **cursor != '*') {
        return true;
    }
    r->multiply = *(*cursor)++ == '*';
    return whole(cursor, &r->step) && r->step >= (r->multiply ? 2 : 1) &&
           (!r->multiply || r->first);
}

static bool next_value(const range *r, int64_t *value)
{
    int64_t next;
    const bool over = r->multiply ? __builtin_mul_overflow(*value, r->step, &next)
                                  : __builtin_add_overflow(*value, r->step, &next);
    if (over || next > r->last) {
        return false;
    }
    *value = next;
    return true;
}

static kf_status refuse(const char *item)
{
    return kf_fail(KF_INVALID,
                   "'%s' is not a shape: write sizes with x between them (4096x16384), a range as "
                   "first-last+step or first-last*factor",
                   item);
}

/* Every combination of an item's ranges, the last one varying fastest. */
static kf_status expand(const range *r, int rank, kf_shape *list, int capacity, int *count)
{
    int64_t value[KF_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        value[i] = r[i].first;
    }
    for (;;) {
        if (*count == capacity) {
            return kf_fail(KF_INVALID, "--shape makes more than %d shapes", capacity);
        }
        list[*count].rank = rank;
        memcpy(list[(*count)++].size, value, sizeof value);
        int axis = rank - 1;
        while (axis >= 0 && !next_value(&r[axis], &value[axis])) {
            value[axis] = r[axis].first;
            axis--;
        }
        if (axis < 0) {
            return KF_OK;
        }
    }
}

static kf_status parse_item(const char *item, kf_shape *list, int capacity, int *count)
{
    range r[KF_MAX_RANK] = {0};
    const char *cursor = item;
    int rank = 0;
    do {
        if (rank == KF_MAX_RANK) {
            return kf_fail(KF_INVALID, "'%s' has more than %d sizes", item, KF_MAX_RANK);
        }
        if (!parse_range(&cursor, &r[rank++])) {
            return refuse(item);
        }
    } while (*cursor++ == 'x');
    return cursor[-1] ? refuse(item) : expand(r, rank, list, capacity, count);
}

kf_status kf_shape_parse(const char *text, kf_shape *list, int capacity, int *count)
{
    char item[200];
    *count = 0;
    if (!*text || text[strlen(text) - 1] == ',') {
        return refuse(text);
    }
    while (kf_list_next(&text, item, sizeof item)) {
        const kf_status status = parse_item(item, list, capacity, count);
        if (status != KF_OK) {
            return status;
        }
    }
    return KF_OK;
}

static bool product(const int64_t *size, int count, int64_t *all)
{
    bool fits = true;
    *all = 1;
    for (int i = 0; i < count; i++) {
        fits = fits && !__builtin_mul_overflow(*all, size[i], all);
    }
    return fits;
}

/* Around the axis that --attr=axis= names. From here on the dims say which it is, so the attribute
 * goes back to what it is unless set: the same case, however it was asked for. */
static kf_status fold_axis(const kf_shape *shape, kf_case *c, int attribute)
{
    const int64_t asked = c->attribute[attribute].i, axis = asked < 0 ? asked + shape->rank : asked;
    int64_t inner;
    if (axis < 0 || axis >= shape->rank) {
        return kf_fail(KF_INVALID, "axis=%lld: --shape has %d sizes", (long long)asked,
                       shape->rank);
    }
    if (!product(shape->size, (int)axis, &c->dim[0]) ||
        !product(shape->size + axis + 1, shape->rank - (int)axis - 1, &inner)) {
        return kf_fail(KF_INVALID, "the product of the sizes around the axis overflows 64 bits");
    }
    c->dim[0] = inner ? c->dim[0] : 0; /* nothing at all is no rows */
    c->dim[1] = shape->size[axis];
    c->inner = inner > 1 ? inner : 0;
    const double fallback = c->op->attributes[attribute].fallback;
    c->attribute[attribute] = (kf_attribute){.i = (int64_t)fallback, .f = fallback};
    return KF_OK;
}

kf_status kf_shape_fold(const kf_shape *shape, kf_case *c)
{
    const kf_op *op = c->op;
    const int count = kf_op_dim_count(op), extra = shape->rank - count;
    if (extra < 0) {
        return kf_fail(KF_INVALID, "op %s needs %d sizes (%s), --shape gives %d", op->name, count,
                       op->dims, shape->rank);
    }
    for (int i = 0; op->any_axis && i < op->attribute_count; i++) {
        if (strcmp(op->attributes[i].name, "axis") == 0 && c->attribute[i].set) {
            return fold_axis(shape, c, i);
        }
    }
    if (!product(shape->size, extra + 1, &c->dim[0])) {
        return kf_fail(KF_INVALID, "the product of the leading sizes overflows 64 bits");
    }
    memcpy(c->dim + 1, shape->size + extra + 1, (size_t)(count - 1) * sizeof *c->dim);
    return KF_OK;
}

void kf_shape_print(const kf_case *c, const char *times, char *buffer, size_t bytes)
{
    size_t used = 0;
    buffer[0] = 0;
    for (int i = 0; i < kf_op_dim_count(c->op) && used < bytes; i++) {
        used += (size_t)snprintf(buffer + used, bytes - used, "%s%lld", i ? times : "",
                                 (long long)c->dim[i]);
    }
    if (c->inner > 1 && used < bytes) {
        snprintf(buffer + used, bytes - used, "%s%lld", times, (long long)c->inner);
    }
}

/* Enough to leave the caches of a GPU behind; on a CPU enough to be seen, little enough to be
 * quick. */
void kf_shape_default(const kf_op *op, bool cpu, kf_shape *shape)
{
    const int count = kf_op_dim_count(op);
    const int64_t all = cpu ? 2 << 20 : 16 << 20, last = cpu ? 1024 : 4096;
    *shape = (kf_shape){.rank = count};
    for (int i = 0; i < count; i++) {
        shape->size[i] = op->usual[cpu][0] ? op->usual[cpu][i] : 1;
    }
    if (op->usual[cpu][0]) {
        return;
    }
    shape->size[count - 1] = count > 1 ? last : all;
    if (count > 1) {
        shape->size[0] = all / last;
    }
}
