/* Front end of devices: which backend, which device, what may be asked of it. Arguments are checked
 * here and in queue.c and build.c, once, for every backend.
 *
 * A device may be closed while handles of it are open: it stays until the last of them is closed,
 * and meanwhile opens nothing new. A device that its driver has given up ("lost") answers
 * KF_DEVICE_FAILED to everything but closing. SPDX-License-Identifier: Apache-2.0 */
#include "front.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- shared by the front ends -------------------------------------------------------------- */

kf_status kf_front_ready(const char *call, const kf_device *device)
{
    if (!device)
        return kf_fail(KF_INVALID, "%s: no device, or no handle of one, was given", call);
    if (device->lost)
        return kf_fail(KF_DEVICE_FAILED,
                       "%s: %s failed earlier and its driver recovers only in a new process", call,
                       device->info.id);
    if (device->closing)
        return kf_fail(KF_INVALID,
                       "%s: %s was closed already; only its handles can still be closed", call,
                       device->info.id);
    return KF_OK;
}

static void close_device(kf_device *device)
{
    kf_error_mute(true);
    device->calls[KF_SLOT_device_close]++;
    device->backend->device_close(device);
    kf_error_mute(false);
}

void kf_front_opened(kf_device *device)
{
    device->live++;
}

void kf_front_closed(kf_device *device)
{
    if (--device->live == 0 && device->closing)
        close_device(device);
}

/* ---- backends ------------------------------------------------------------------------------ */

const kf_backend *kf_backend_find(const char *name)
{
    for (int i = 0; name && kf_backends[i]; i++)
        if (!strcmp(kf_backends[i]->name, name))
            return kf_backends[i];
    return NULL;
}

static kf_status unknown_backend(const char *call, const char *name)
{
    char names[128] = "";
    size_t length = 0;
    for (int i = 0; kf_backends[i] && length < sizeof names; i++)
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "",
                                   kf_backends[i]->name);
    return kf_fail(KF_INVALID, "%s: there is no backend '%s'; choices: %s", call,
                   name ? name : "(none named)", names);
}

kf_status kf_device_enumerate(const char *backend, kf_device_info *list, int capacity, int *count)
{
    const kf_backend *table = kf_backend_find(backend);
    if (!count || capacity < 0 || (capacity > 0 && !list))
        return kf_fail(KF_INVALID,
                       "kf_device_enumerate: a place for the count and, with a capacity, "
                       "a list are needed");
    *count = 0;
    if (!table)
        return unknown_backend("kf_device_enumerate", backend);
    const kf_status status = table->enumerate(list, capacity, count);
    if (status != KF_OK)
        *count = 0;
    for (int i = 0; i < *count && i < capacity; i++)
        kf_device_facts_read(&list[i]);
    return status;
}

/* ---- open and close ------------------------------------------------------------------------ */

kf_status kf_device_open_on(const kf_backend *backend, const kf_device_desc *desc,
                            kf_device **device)
{
    static const kf_device_desc first = {.index = 0};
    kf_device *made = NULL;
    if (!backend || !device)
        return kf_fail(KF_INVALID,
                       "kf_device_open: a backend and a place for the device are needed");
    *device = NULL;
    desc = desc ? desc : &first;
    if (desc->index < 0)
        return kf_fail(KF_INVALID, "kf_device_open: %d is no index of a device; they count from 0",
                       desc->index);
    const kf_status status = backend->device_open(desc, &made);
    if (status != KF_OK)
        return status;
    made->backend = backend;
    made->adopted = desc->adopt;
    made->read_kernels = desc->read_kernels;
    made->no_cache = desc->no_cache;
    made->calls[KF_SLOT_device_open]++;
    kf_device_facts_read(&made->info);
    *device = made;
    return KF_OK;
}

/* The first backend with a device; the sentence of a failure says why each of them was passed over.
 */
static kf_status open_any(const kf_device_desc *desc, kf_device **device)
{
    char why[1024] = "";
    size_t length = 0;
    for (int i = 0; kf_backends[i]; i++) {
        int count = 0;
        if (kf_backends[i]->pretended)
            continue;
        const kf_status status = kf_backends[i]->enumerate(NULL, 0, &count);
        if (status == KF_OK && count > 0)
            return kf_device_open_on(kf_backends[i], desc, device);
        if (length < sizeof why)
            length +=
                (size_t)snprintf(why + length, sizeof why - length, "; %s: %s",
                                 kf_backends[i]->name, status == KF_OK ? "no device" : kf_error());
    }
    return kf_fail(KF_UNAVAILABLE, "kf_device_open: no backend has a device%s", why);
}

kf_status kf_device_open(const kf_device_desc *desc, kf_device **device)
{
    static const kf_device_desc any = {.backend = NULL};
    if (!device)
        return kf_fail(KF_INVALID, "kf_device_open: a place for the device is needed");
    *device = NULL;
    desc = desc ? desc : &any;
    if (!desc->backend && desc->adopt)
        return kf_fail(KF_INVALID,
                       "kf_device_open: whose context is it? Adopting needs a backend's name");
    if (!desc->backend)
        return open_any(desc, device);
    const kf_backend *backend = kf_backend_find(desc->backend);
    if (!backend)
        return unknown_backend("kf_device_open", desc->backend);
    return kf_device_open_on(backend, desc, device);
}

void kf_device_close(kf_device *device)
{
    if (!device || device->closing)
        return;
    device->closing = true;
    if (device->live == 0)
        close_device(device);
}

/* ---- what is known of it ------------------------------------------------------------------- */

const kf_device_info *kf_device_describe(const kf_device *device)
{
    return device ? &device->info : NULL;
}

const kf_target *kf_device_target(const kf_device *device)
{
    return device ? &device->info.target : NULL;
}

/* By UUID where both know one (a GPU cut into parts has one address and several UUIDs), else by PCI
 * address. */
bool kf_device_same(const kf_device_info *a, const kf_device_info *b)
{
    if (!a || !b)
        return false;
    if (a->has_uuid && b->has_uuid)
        return !memcmp(a->uuid, b->uuid, sizeof a->uuid);
    if (a->pci[0] && b->pci[0])
        return !strcasecmp(a->pci, b->pci);
    return !strcmp(a->backend, b->backend) && !strcmp(a->id, b->id);
}

/* A plain GPU of no vendor: what every GPU of the last ten years has, so that a plan for it runs
 * anywhere. */
const kf_target *kf_target_generic(void)
{
    static const kf_target generic = {
        .capabilities = KF_CAP_SHUFFLE | KF_CAP_TIMER | KF_CAP_F64,
        .units = 64,
        .warp = 32,
        .max_threads = 1024,
        .max_threads_per_unit = 2048,
        .local_bytes = 48 * 1024,
        .local_bytes_per_unit = 96 * 1024,
        .registers_per_unit = 65536,
        .cache_bytes = 4 << 20,
        .memory_bytes = (int64_t)16 << 30,
        .max_buffer_bytes = (int64_t)16 << 30,
        .max_groups = INT32_MAX,
        .base_alignment = 256,
    };
    return &generic;
}

kf_status kf_device_probe(kf_device *device, const char *experiment, int *answer)
{
    const kf_status status = kf_front_ready("kf_device_probe", device);
    if (status != KF_OK)
        return status;
    if (!experiment || !answer)
        return kf_fail(KF_INVALID,
                       "kf_device_probe: an experiment and a place for the answer are needed");
    *answer = 0;
    return KF_CALL(device, probe, device, experiment, answer);
}
