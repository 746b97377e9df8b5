/* For tests that run on every device of a backend, OpenCL unless KFUSE_BACKEND says another; with
 * KFUSE_DEVICE, a part of a name, on those alone.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_EACH_DEVICE_H
#define KF_EACH_DEVICE_H
#include <stdlib.h>
#include <string.h>
#include "../core/backend.h"

/* Opens each in turn with a queue, and closes both again: nothing of ours may be alive then.
 * Without a device the test is skipped, or fails where KFUSE_REQUIRE names the backend. */
static inline void on_each_device(void (*work)(kf_device *device, kf_queue *queue))
{
    const char *backend = getenv("KFUSE_BACKEND"), *named = getenv("KFUSE_DEVICE");
    bool any = false;
    kf_device_info list[8];
    int count = 0;
    if (!backend || !*backend)
        backend = "opencl";
    if (kf_device_enumerate(backend, list, 8, &count) != KF_OK || count == 0) {
        const char *required = getenv("KFUSE_REQUIRE");
        if (required && strstr(required, backend))
            fail_msg("%s", kf_error());
        skip();
    }
    for (int d = 0; d < count && d < 8; d++) {
        kf_device *device;
        kf_queue *queue;
        if (named && !strstr(list[d].name, named))
            continue;
        any = true;
        if (count > 1)
            print_message("on %s\n", list[d].name);
        assert_int_equal(
            kf_device_open(&(kf_device_desc){.backend = backend, .index = d, .read_kernels = true},
                           &device),
            KF_OK);
        assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
        work(device, queue);
        kf_queue_close(queue);
        assert_int_equal(device->live, 0);
        kf_device_close(device);
    }
    if (!any)
        fail_msg("no device is called %s", named);
}

#endif
