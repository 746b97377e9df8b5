/* label: opencl */
/* timeout: 600 */
/* Norms where weights are stored as weight - 1 (offset), and with another eps, on every OpenCL
 * device: all ways through the kernels. Mistakes: an offset
 * that one of a text's ways to the weight forgets, an eps outside of the root.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "map_rig.h"

static const char *const variants[] = {"unfused", "fused", "fused_cpu"};

/* Aligned rows and rows with edges, weights asked for with the row and later, parked vectors, rows
 * off the chip. */
static const char *const shapes[] = {
    "rows=3 cols=64",
    "rows=7 cols=33",
    "rows=5 cols=1001",
    "rows=2 cols=1000 stride.x=1003 offset.x=3",
    "rows=3 cols=4096 BLOCK=64 THREADS_PER_ROW=64 LOCAL_VECS=3",
    "rows=2 cols=3001 BLOCK=64 THREADS_PER_ROW=64 ONLINE=1",
};

static void check(const char *op, const char *rest, kf_device *device, kf_queue *queue)
{
    const bool simulated = kf_device_target(device)->capabilities & KF_CAP_SIMULATOR;
    for (int v = 0; v < 3; v++)
        for (int dtype = KF_F32; dtype <= KF_BF16; dtype++)
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
                char text[256];
                const char *knobs = strstr(shapes[i], " BLOCK=");
                if (knobs && strcmp(variants[v], "fused") != 0)
                    continue;
                if (simulated &&
                    (dtype != KF_F32 || i > 2)) /* Oclgrind 21.10 crashes in the rest */
                    continue;
                snprintf(text, sizeof text, "%s %s %s %s %s", op, variants[v],
                         kf_dtype_name((kf_dtype)dtype), shapes[i], rest);
                map_verify(text, device, queue);
            }
}

static void check_offset(kf_device *device, kf_queue *queue)
{
    check("rms_norm", "with=weight offset=1", device, queue);
    check("add_rms_norm", "with=weight offset=1", device, queue);
}

static void the_offset_is_added_to_the_weight(void **state)
{
    (void)state;
    on_each_device(check_offset);
}

static void check_eps(kf_device *device, kf_queue *queue)
{
    check("rms_norm", "with=weight eps=0.5", device, queue);
    check("layer_norm", "with=weight,bias eps=0.5", device, queue);
}

static void eps_stands_inside_the_root(void **state)
{
    (void)state;
    on_each_device(check_eps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_offset_is_added_to_the_weight),
        cmocka_unit_test(eps_stands_inside_the_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
