/* What the front ends (device.c, queue.c, build.c) share. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_FRONT_H
#define KF_FRONT_H

#include "backend.h"

/* Calls a slot of the device's table and counts the call. */
#define KF_CALL(device, verb, ...)                                                                 \
    ((device)->calls[KF_SLOT_##verb]++, (device)->backend->verb(__VA_ARGS__))

/* KF_OK when `device` may be asked for more: it is there, open and not lost. `call` is the caller's
 * name. */
kf_status kf_front_ready(const char *call, const kf_device *device);

/* A handle was opened; or closed, and with the last one a device whose owner has let go of it
 * already. */
void kf_front_opened(kf_device *device);
void kf_front_closed(kf_device *device);

#endif
