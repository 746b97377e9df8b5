/* Devices by what a user calls them. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_PICK_DEVICE_H
#define KF_PICK_DEVICE_H
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "../core/op.h"

/* By backend, and by id, part of the name or UUID; NULL = any. */
static inline bool matches(const kf_device_info *info, const char *backend, const char *device)
{
    char uuid[33] = "";
    for (int i = 0; info->has_uuid && i < 16; i++)
        snprintf(uuid + 2 * i, 3, "%02x", info->uuid[i]);
    return (!backend || !strcmp(info->backend, backend)) &&
           (!device || !strcmp(info->id, device) || strcasestr(info->name, device) ||
            !strcasecmp(uuid, device));
}

#endif
