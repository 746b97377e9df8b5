/* Front ends of marks in a queue and of recordings. SPDX-License-Identifier: Apache-2.0 */
#include "front.h"

static kf_status ready(const char *call, const kf_queue *queue, bool recording)
{
    const kf_status status = kf_front_ready(call, queue ? queue->device : NULL);
    if (status == KF_OK && queue->recording != recording)
        return kf_fail(KF_INVALID, "%s: the queue is %s", call,
                       recording ? "not recording" : "recording; end the recording first");
    return status;
}

/* ---- time ---------------------------------------------------------------------------------- */

static bool is_mark(int index)
{
    return index >= 0 && index < KF_MAX_MARKS;
}

kf_status kf_queue_mark(kf_queue *queue, int index)
{
    const kf_status status = ready("kf_queue_mark", queue, false);
    if (status != KF_OK)
        return status;
    if (!is_mark(index))
        return kf_fail(KF_INVALID, "kf_queue_mark: mark %d; they count from 0 to %d", index,
                       KF_MAX_MARKS - 1);
    return KF_CALL(queue->device, mark, queue, index);
}

kf_status kf_queue_elapsed(kf_queue *queue, int first, int last, double *seconds)
{
    const kf_status status = ready("kf_queue_elapsed", queue, false);
    if (status != KF_OK)
        return status;
    if (!is_mark(first) || !is_mark(last) || !seconds)
        return kf_fail(KF_INVALID,
                       "kf_queue_elapsed: two marks from 0 to %d and a place for the seconds are "
                       "needed",
                       KF_MAX_MARKS - 1);
    *seconds = 0;
    return KF_CALL(queue->device, elapsed, queue, first, last, seconds);
}

/* ---- recordings ---------------------------------------------------------------------------- */

kf_status kf_record_begin(kf_queue *queue)
{
    kf_status status = ready("kf_record_begin", queue, false);
    if (status != KF_OK)
        return status;
    if (!(queue->device->info.target.capabilities & KF_CAP_REPLAY))
        return kf_fail(KF_UNSUPPORTED, "kf_record_begin: %s cannot record and replay",
                       queue->device->info.id);
    status = KF_CALL(queue->device, record_begin, queue);
    queue->recording = status == KF_OK;
    return status;
}

/* Whatever comes of it, the queue no longer records. */
kf_status kf_record_end(kf_queue *queue, kf_recording **recording)
{
    kf_recording *made = NULL;
    if (recording)
        *recording = NULL;
    kf_status status = ready("kf_record_end", queue, true);
    if (status != KF_OK)
        return status;
    if (!recording)
        return kf_fail(KF_INVALID, "kf_record_end: a place for the recording is needed");
    queue->recording = false;
    status = KF_CALL(queue->device, record_end, queue, &made);
    if (status != KF_OK)
        return status;
    made->device = queue->device;
    kf_front_opened(queue->device);
    *recording = made;
    return KF_OK;
}

kf_status kf_replay(kf_queue *queue, kf_recording *recording)
{
    const kf_status status = ready("kf_replay", queue, false);
    if (status != KF_OK)
        return status;
    if (!recording || recording->device != queue->device)
        return kf_fail(KF_INVALID, "kf_replay: the recording is missing or of another device");
    return KF_CALL(queue->device, replay, queue, recording);
}

void kf_recording_close(kf_recording *recording)
{
    if (!recording)
        return;
    kf_device *device = recording->device;
    kf_error_mute(true);
    KF_CALL(device, recording_close, recording);
    kf_error_mute(false);
    kf_front_closed(device);
}
