/* Guard zones and poison (testing.md 5). SPDX-License-Identifier: Apache-2.0 */
#include "verify_parts.h"
#include "convert.h"
#include "memory.h"
#include "parallel.h"
#include <stdlib.h>
#include <string.h>

enum { GUARD = 4096, CHUNK = 16 << 20, GRAIN = 4 << 20 };

typedef struct stretch {
    uint8_t *data;
    uint16_t poison;
} stretch;

static void poison_stretch(void *context, int64_t first, int64_t end)
{
    const stretch *s = context;
    for (int64_t i = first; i < end; i++)
        s->data[i] = (uint8_t)(i & 1 ? s->poison >> 8 : s->poison);
}

/* Poison has a period of two bytes and starts at an even address of the buffer. */
void kf_poison(void *data, size_t bytes, uint16_t poison)
{
    stretch s = {.data = data, .poison = poison};
    kf_parallel((int64_t)bytes, GRAIN, poison_stretch, &s);
}

int64_t kf_poison_broken(const void *data, size_t bytes, uint16_t poison)
{
    const uint8_t pattern[2] = {(uint8_t)poison, (uint8_t)(poison >> 8)};
    const uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != pattern[i & 1])
            return (int64_t)i;
    return -1;
}

/* A guard of 4 KiB in front keeps 256-byte alignment at offset 0; the one behind fills up to 256
 * bytes. */
kf_status kf_zone_open(kf_device *device, const kf_tensor *tensor, int64_t offset, bool exact,
                       kf_zone *zone)
{
    const int64_t size = kf_dtype_bytes(tensor->dtype);
    int64_t extent, guard = exact ? 0 : GUARD;
    kf_status status = kf_tensor_extent(tensor, &extent);
    if (status != KF_OK)
        return status;
    if (offset < 0 || offset > INT64_MAX / 16)
        return kf_fail(KF_INVALID, "an offset of %lld elements is not possible", (long long)offset);
    *zone = (kf_zone){.tensor = tensor, .front = (size_t)(guard + offset * size)};
    zone->extent_bytes = (size_t)(extent * size);
    zone->bytes = zone->front + zone->extent_bytes;
    if (!exact)
        zone->bytes = (zone->bytes + GUARD + 255) / 256 * 256;
    if (zone->bytes == 0)
        zone->bytes = (size_t)size; /* no device allocates nothing */
    status = kf_buffer_open(device, &(kf_buffer_desc){.bytes = zone->bytes}, &zone->buffer);
    zone->binding = (kf_binding){.buffer = zone->buffer, .offset = (int64_t)zone->front / size};
    return status;
}

kf_status kf_zone_hold(kf_zone *zone)
{
    zone->image = kf_memory_take(zone->bytes);
    return zone->image ? KF_OK
                       : kf_fail(KF_OUT_OF_MEMORY, "no host memory for %zu bytes of test data",
                                 zone->bytes);
}

void kf_zone_close(kf_zone *zone)
{
    kf_buffer_close(zone->buffer);
    kf_memory_give(zone->image);
    *zone = (kf_zone){0};
}

void *kf_zone_payload(const kf_zone *zone)
{
    return zone->image + zone->front;
}

/* Poisons the padding between the elements: the elements are taken out and put back. */
static kf_status poison_padding(kf_zone *zone, uint16_t poison)
{
    kf_tensor distinct = *zone->tensor;
    for (int i = 0; i < distinct.rank; i++)
        if (distinct.stride[i] == 0 && distinct.size[i] > 1)
            distinct.size[i] = 1;
    const int64_t count = kf_tensor_elements(&distinct);
    if (count == 0 || kf_tensor_packed(&distinct))
        return KF_OK;
    void *packed = kf_memory_take((size_t)count * (size_t)kf_dtype_bytes(distinct.dtype));
    if (!packed)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %lld elements of test data",
                       (long long)count);
    kf_gather(&distinct, kf_zone_payload(zone), 0, count, packed);
    kf_poison(kf_zone_payload(zone), zone->extent_bytes, poison);
    kf_scatter(&distinct, kf_zone_payload(zone), 0, count, packed);
    kf_memory_give(packed);
    return KF_OK;
}

/* Nothing but poison: the device makes it. */
static kf_status write_poison(kf_queue *queue, const kf_zone *zone, uint16_t poison)
{
    const int word = zone->bytes % 4 ? 2 : 4; /* every element type has whole halves */
    return kf_buffer_fill(queue, zone->buffer, 0, zone->bytes, poison * 0x10001u, word);
}

static kf_status write_image(kf_queue *queue, const kf_zone *zone, size_t at, size_t end)
{
    return at < end ? kf_buffer_write(queue, zone->buffer, at, zone->image + at, end - at) : KF_OK;
}

/* Elements that the device was just proven to hold stay; around packed ones only guards change. */
kf_status kf_zone_write(kf_queue *queue, kf_zone *zone, uint16_t poison)
{
    const size_t behind = zone->front + zone->extent_bytes;
    const bool guards = zone->proven && kf_tensor_packed(zone->tensor);
    if (!zone->image)
        return write_poison(queue, zone, poison);
    zone->proven = false;
    kf_poison(zone->image, zone->front, poison);
    kf_poison(zone->image + behind, zone->bytes - behind, poison);
    kf_status status = poison_padding(zone, poison);
    if (status == KF_OK)
        status = write_image(queue, zone, 0, guards ? zone->front : zone->bytes);
    if (status == KF_OK && guards)
        status = write_image(queue, zone, behind, zone->bytes);
    return status;
}

kf_status kf_zone_same(kf_queue *queue, kf_zone *zone, int64_t *broken)
{
    const size_t chunk = zone->bytes < CHUNK ? zone->bytes : CHUNK;
    char *data = kf_memory_take(chunk);
    kf_status status =
        data ? KF_OK : kf_fail(KF_OUT_OF_MEMORY, "no host memory for %zu bytes", chunk);
    *broken = -1;
    for (size_t at = 0; status == KF_OK && at < zone->bytes && *broken < 0; at += chunk) {
        const size_t n = zone->bytes - at < chunk ? zone->bytes - at : chunk;
        status = kf_buffer_read(queue, zone->buffer, at, data, n);
        const int64_t place = status == KF_OK ? kf_first_difference(data, zone->image + at, n) : -1;
        *broken = place < 0 ? -1 : (int64_t)at + place;
    }
    kf_memory_give(data);
    zone->proven = status == KF_OK && *broken < 0;
    return status;
}

/* Bytes [at, end) of the device's buffer must be poison; *broken: the first that is not. */
static kf_status read_guard(kf_queue *queue, const kf_zone *zone, size_t at, size_t end,
                            uint16_t poison, int64_t *broken)
{
    char *data = malloc(end - at + 1);
    if (!data)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for %zu bytes of a guard", end - at);
    kf_status status = at < end ? kf_buffer_read(queue, zone->buffer, at, data, end - at) : KF_OK;
    const int64_t place = status == KF_OK ? kf_poison_broken(data, end - at, poison) : -1;
    if (place >= 0 && *broken < 0)
        *broken = (int64_t)at + place;
    free(data);
    return status;
}

/* Padding between the elements: what is left after blanking them must be poison. */
static kf_status read_padded(kf_queue *queue, const kf_zone *zone, uint16_t poison, void *packed,
                             int64_t *broken)
{
    const kf_tensor *t = zone->tensor;
    const int64_t count = kf_tensor_elements(t);
    const size_t bytes = (size_t)count * (size_t)kf_dtype_bytes(t->dtype);
    char *data = kf_memory_take(zone->extent_bytes), *blank = kf_memory_take(bytes);
    kf_status status = data && blank ? KF_OK
                                     : kf_fail(KF_OUT_OF_MEMORY, "no host memory for %zu bytes",
                                               zone->extent_bytes + bytes);
    if (status == KF_OK)
        status = kf_buffer_read(queue, zone->buffer, zone->front, data, zone->extent_bytes);
    if (status == KF_OK) {
        kf_gather(t, data, 0, count, packed);
        kf_poison(blank, bytes, poison);
        kf_scatter(t, data, 0, count, blank);
        const int64_t place = kf_poison_broken(data, zone->extent_bytes, poison);
        if (place >= 0 && *broken < 0)
            *broken = (int64_t)zone->front + place;
    }
    kf_memory_give(data);
    kf_memory_give(blank);
    return status;
}

kf_status kf_zone_read(kf_queue *queue, const kf_zone *zone, uint16_t poison, void *packed,
                       int64_t *broken)
{
    const size_t behind = zone->front + zone->extent_bytes;
    *broken = -1;
    kf_status status = read_guard(queue, zone, 0, zone->front, poison, broken);
    if (status == KF_OK)
        status = read_guard(queue, zone, behind, zone->bytes, poison, broken);
    if (status != KF_OK || kf_tensor_elements(zone->tensor) == 0)
        return status;
    if (kf_tensor_packed(zone->tensor))
        return kf_buffer_read(queue, zone->buffer, zone->front, packed, zone->extent_bytes);
    return read_padded(queue, zone, poison, packed, broken);
}
