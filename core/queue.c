/* Front ends of queues, buffers, launches, time and replay. Everything here that enqueues is legal
 * on an adopted queue and allocates nothing. SPDX-License-Identifier: Apache-2.0 */
#include "front.h"

static kf_status ready(const char *call, const kf_queue *queue)
{
    return kf_front_ready(call, queue ? queue->device : NULL);
}

/* Blocking calls would wait for work that is recorded, not run. */
static kf_status ready_to_wait(const char *call, const kf_queue *queue)
{
    const kf_status status = ready(call, queue);
    if (status == KF_OK && queue->recording)
        return kf_fail(KF_INVALID, "%s: the queue is recording; end the recording first", call);
    return status;
}

/* ---- queues -------------------------------------------------------------------------------- */

kf_status kf_queue_open(kf_device *device, const kf_queue_desc *desc, kf_queue **queue)
{
    static const kf_queue_desc fresh = {.adopt = false};
    kf_queue *made = NULL;
    if (queue)
        *queue = NULL;
    kf_status status = kf_front_ready("kf_queue_open", device);
    if (status != KF_OK)
        return status;
    if (!queue)
        return kf_fail(KF_INVALID, "kf_queue_open: a place for the queue is needed");
    desc = desc ? desc : &fresh;
    status = KF_CALL(device, queue_open, device, desc, &made);
    if (status != KF_OK)
        return status;
    made->device = device;
    made->adopted = desc->adopt;
    made->recording = false;
    kf_front_opened(device);
    *queue = made;
    return KF_OK;
}

/* A queue closed in the middle of a recording: what was recorded goes with it. */
static void abandon_recording(kf_queue *queue)
{
    kf_recording *recording = NULL;
    queue->recording = false;
    if (KF_CALL(queue->device, record_end, queue, &recording) == KF_OK && recording)
        KF_CALL(queue->device, recording_close, recording);
}

void kf_queue_close(kf_queue *queue)
{
    if (!queue)
        return;
    kf_device *device = queue->device;
    kf_error_mute(true);
    if (queue->recording)
        abandon_recording(queue);
    KF_CALL(device, queue_close, queue);
    kf_error_mute(false);
    kf_front_closed(device);
}

kf_status kf_queue_finish(kf_queue *queue)
{
    const kf_status status = ready_to_wait("kf_queue_finish", queue);
    if (status != KF_OK)
        return status;
    if (queue->adopted)
        return kf_fail(KF_INVALID, "kf_queue_finish: an adopted queue is its owner's to wait for");
    return KF_CALL(queue->device, finish, queue);
}

kf_status kf_queue_wait(kf_queue *queue, kf_queue *other)
{
    const kf_status status = ready("kf_queue_wait", queue);
    if (status != KF_OK)
        return status;
    if (!other || other->device != queue->device)
        return kf_fail(KF_INVALID,
                       "kf_queue_wait: the other queue is missing or of another device");
    return queue == other ? KF_OK : KF_CALL(queue->device, queue_wait, queue, other);
}

kf_status kf_queue_native(kf_queue *queue, void **native)
{
    const kf_status status = ready("kf_queue_native", queue);
    if (status != KF_OK)
        return status;
    if (!native)
        return kf_fail(KF_INVALID, "kf_queue_native: a place for the handle is needed");
    return KF_CALL(queue->device, queue_native, queue, native);
}

/* ---- buffers ------------------------------------------------------------------------------- */

/* Asked here because drivers answer absurd sizes in their own ways, one by dying. */
static kf_status check_size(const kf_device *device, const kf_buffer_desc *desc)
{
    const kf_target *target = &device->info.target;
    const int64_t limits[] = {target->max_buffer_bytes, target->memory_bytes};
    if (!desc->bytes)
        return kf_fail(KF_INVALID, "kf_buffer_open: a buffer has at least one byte");
    if (desc->adopt && desc->native_offset > SIZE_MAX - desc->bytes)
        return kf_fail(KF_INVALID,
                       "kf_buffer_open: %zu bytes from byte %zu on are more than there can be",
                       desc->bytes, desc->native_offset);
    for (int i = 0; i < 2 && !desc->adopt; i++)
        if (limits[i] > 0 && desc->bytes > (uint64_t)limits[i])
            return kf_fail(KF_OUT_OF_MEMORY,
                           "kf_buffer_open: %zu bytes, but %s has %lld %s; take smaller shapes",
                           desc->bytes, device->info.id, (long long)limits[i],
                           i ? "in all" : "at most in one buffer");
    return KF_OK;
}

kf_status kf_buffer_open(kf_device *device, const kf_buffer_desc *desc, kf_buffer **buffer)
{
    kf_buffer *made = NULL;
    if (buffer)
        *buffer = NULL;
    kf_status status = kf_front_ready("kf_buffer_open", device);
    if (status != KF_OK)
        return status;
    if (!desc || !buffer)
        return kf_fail(KF_INVALID,
                       "kf_buffer_open: a descriptor and a place for the buffer are needed");
    status = check_size(device, desc);
    if (status == KF_OK)
        status = KF_CALL(device, buffer_open, device, desc, &made);
    if (status != KF_OK)
        return status;
    made->device = device;
    made->bytes = desc->bytes;
    made->adopted = desc->adopt;
    kf_front_opened(device);
    *buffer = made;
    return KF_OK;
}

void kf_buffer_close(kf_buffer *buffer)
{
    if (!buffer)
        return;
    kf_device *device = buffer->device;
    kf_error_mute(true);
    KF_CALL(device, buffer_close, buffer);
    kf_error_mute(false);
    kf_front_closed(device);
}

static kf_status check_range(const char *call, const kf_queue *queue, const kf_buffer *buffer,
                             size_t offset, size_t bytes)
{
    if (!buffer)
        return kf_fail(KF_INVALID, "%s: no buffer was given", call);
    if (buffer->device != queue->device)
        return kf_fail(KF_INVALID, "%s: the buffer and the queue belong to different devices",
                       call);
    if (offset > buffer->bytes || bytes > buffer->bytes - offset)
        return kf_fail(KF_INVALID,
                       "%s: %zu bytes from byte %zu on do not fit a buffer of %zu bytes", call,
                       bytes, offset, buffer->bytes);
    return KF_OK;
}

static kf_status check_transfer(const char *call, const kf_queue *queue, const kf_buffer *buffer,
                                size_t offset, const void *data, size_t bytes)
{
    kf_status status = ready_to_wait(call, queue);
    if (status == KF_OK)
        status = check_range(call, queue, buffer, offset, bytes);
    if (status == KF_OK && bytes && !data)
        status = kf_fail(KF_INVALID, "%s: no host memory was given", call);
    return status;
}

kf_status kf_buffer_write(kf_queue *queue, kf_buffer *buffer, size_t offset, const void *data,
                          size_t bytes)
{
    const kf_status status = check_transfer("kf_buffer_write", queue, buffer, offset, data, bytes);
    if (status != KF_OK || !bytes)
        return status;
    return KF_CALL(queue->device, buffer_write, queue, buffer, offset, data, bytes);
}

kf_status kf_buffer_read(kf_queue *queue, kf_buffer *buffer, size_t offset, void *data,
                         size_t bytes)
{
    const kf_status status = check_transfer("kf_buffer_read", queue, buffer, offset, data, bytes);
    if (status != KF_OK || !bytes)
        return status;
    return KF_CALL(queue->device, buffer_read, queue, buffer, offset, data, bytes);
}

kf_status kf_buffer_fill(kf_queue *queue, kf_buffer *buffer, size_t offset, size_t bytes,
                         uint32_t pattern, int pattern_bytes)
{
    kf_status status = ready("kf_buffer_fill", queue);
    if (status == KF_OK)
        status = check_range("kf_buffer_fill", queue, buffer, offset, bytes);
    if (status != KF_OK)
        return status;
    if (pattern_bytes != 1 && pattern_bytes != 2 && pattern_bytes != 4)
        return kf_fail(KF_INVALID, "kf_buffer_fill: a pattern has 1, 2 or 4 bytes, not %d",
                       pattern_bytes);
    if (offset % (size_t)pattern_bytes || bytes % (size_t)pattern_bytes)
        return kf_fail(KF_INVALID,
                       "kf_buffer_fill: %zu bytes from byte %zu on are no whole patterns of %d",
                       bytes, offset, pattern_bytes);
    if (!bytes)
        return KF_OK;
    return KF_CALL(queue->device, buffer_fill, queue, buffer, offset, bytes, pattern,
                   pattern_bytes);
}

kf_status kf_buffer_copy(kf_queue *queue, kf_buffer *to, size_t to_offset, kf_buffer *from,
                         size_t from_offset, size_t bytes)
{
    kf_status status = ready("kf_buffer_copy", queue);
    if (status == KF_OK)
        status = check_range("kf_buffer_copy", queue, to, to_offset, bytes);
    if (status == KF_OK)
        status = check_range("kf_buffer_copy", queue, from, from_offset, bytes);
    if (status != KF_OK || !bytes)
        return status;
    if (to == from && to_offset < from_offset + bytes && from_offset < to_offset + bytes)
        return kf_fail(KF_INVALID, "kf_buffer_copy: the two ranges of the buffer overlap");
    return KF_CALL(queue->device, buffer_copy, queue, to, to_offset, from, from_offset, bytes);
}

/* ---- launch -------------------------------------------------------------------------------- */

static kf_status check_values(const kf_queue *queue, const kf_launch *launch)
{
    if (launch->value_count < 0 || (launch->value_count && !launch->values))
        return kf_fail(KF_INVALID, "kf_launch_enqueue: the list of values is missing");
    for (int i = 0; i < launch->value_count; i++) {
        const kf_value *value = &launch->values[i];
        if (value->kind != KF_VALUE_BUFFER)
            continue;
        const kf_buffer *buffer = value->as.buffer;
        if (!buffer || buffer->device != queue->device)
            return kf_fail(KF_INVALID,
                           "kf_launch_enqueue: value %d: the buffer is missing or of another "
                           "device",
                           i);
        if (i + 1 == launch->value_count || value[1].kind != KF_VALUE_I64 || value[1].as.i64 < 0 ||
            (uint64_t)value[1].as.i64 > buffer->bytes)
            return kf_fail(KF_INVALID,
                           "kf_launch_enqueue: value %d: a buffer is followed by its offset in "
                           "elements, inside the buffer",
                           i);
    }
    return KF_OK;
}

static kf_status check_grid(const kf_device *device, const kf_launch *launch)
{
    const kf_target *target = &device->info.target;
    if (launch->groups < 1 || (target->max_groups > 0 && launch->groups > target->max_groups))
        return kf_fail(KF_INVALID, "kf_launch_enqueue: %lld groups; 1 to %lld are possible on %s",
                       (long long)launch->groups, (long long)target->max_groups, device->info.id);
    if (launch->threads < 1 || (target->max_threads > 0 && launch->threads > target->max_threads))
        return kf_fail(KF_INVALID,
                       "kf_launch_enqueue: %d threads per group; 1 to %d are possible on %s",
                       launch->threads, target->max_threads, device->info.id);
    if (launch->cluster == 0 || launch->cluster == 1)
        return KF_OK;
    if (!(target->capabilities & KF_CAP_CLUSTERS))
        return kf_fail(KF_UNSUPPORTED, "kf_launch_enqueue: %s has no clusters", device->info.id);
    if (launch->cluster < 0 || launch->cluster > target->max_cluster ||
        launch->groups % launch->cluster)
        return kf_fail(KF_INVALID,
                       "kf_launch_enqueue: clusters of %d groups: at most %d, and they divide the "
                       "%lld groups",
                       launch->cluster, target->max_cluster, (long long)launch->groups);
    return KF_OK;
}

kf_status kf_launch_enqueue(kf_queue *queue, const kf_launch *launch)
{
    kf_status status = ready("kf_launch_enqueue", queue);
    if (status != KF_OK)
        return status;
    if (!launch || !launch->kernel || launch->kernel->device != queue->device)
        return kf_fail(KF_INVALID, "kf_launch_enqueue: the kernel is missing or of another device");
    status = check_grid(queue->device, launch);
    if (status == KF_OK)
        status = check_values(queue, launch);
    return status == KF_OK ? KF_CALL(queue->device, launch, queue, launch) : status;
}
