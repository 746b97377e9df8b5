/* Experiments with what a driver does beyond what it advertises. A driver may die of one, so the
 * tool runs this in a child, and each answer is on disk before the next experiment begins.
 * SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"
#include "../core/backend.h"
#include "remember.h"
#include <stdio.h>

/* Static local memory of one group: what GPUs of several makers have behind an advertised 32 or 48
 * KiB. */
static const int64_t local_sizes[] = {64 << 10,  96 << 10,  128 << 10, 160 << 10,
                                      192 << 10, 224 << 10, 226 << 10, 227 << 10};

static kf_status remember_local(kf_device *device, int64_t bytes)
{
    char value[32];
    snprintf(value, sizeof value, "%lld", (long long)bytes);
    return kf_remember(kf_device_describe(device), "local_bytes", value);
}

kf_status kf_device_probe_all(kf_device *device)
{
    const kf_target *target = kf_device_target(device);
    int64_t most = target->local_bytes;
    kf_status status = remember_local(device, most); /* probed, even if nothing comes of it */
    if (target->capabilities & KF_CAP_CPU)
        return status; /* local memory of a CPU is ordinary memory */
    for (size_t i = 0; status == KF_OK && i < sizeof local_sizes / sizeof *local_sizes; i++) {
        char experiment[32];
        int answer = 0;
        if (local_sizes[i] <= most)
            continue;
        snprintf(experiment, sizeof experiment, "local:%lld", (long long)local_sizes[i]);
        if (kf_device_probe(device, experiment, &answer) != KF_OK || !answer)
            break; /* more will not work either */
        most = local_sizes[i];
        status = remember_local(device, most);
    }
    return status;
}
