/* Cases of test_signature.c for ops that are more than rows and columns. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_TEST_SIGNATURE_CASES_H
#define KF_TEST_SIGNATURE_CASES_H
#include <stdio.h>
#include <string.h>
#include "../core/op.h"

static const char *const heads[] = {
    "tokens=3 heads=2 dim=64 places=9 half=32",
    "tokens=37 heads=3 dim=64 places=9 half=16",
    "tokens=5 heads=3 dim=33 places=2 half=13",
    "tokens=3 heads=2 dim=64 places=9 half=32 stride.x=129 offset.y=1",
};

/* Padded rows and odd bases, another for each tensor: "stride.x=1003 stride.y=1001 offset.x=1". */
static inline void put_views(const kf_op *op, char *text, size_t bytes)
{
    for (int i = 0; i < op->tensor_count; i++) {
        const size_t used = strlen(text);
        if (op->tensors[i].optional)
            continue;
        snprintf(text + used, bytes - used, " offset.%s=%d", op->tensors[i].name, i % 5 + 1);
        if (strchr(op->tensors[i].dims, ' '))
            snprintf(text + strlen(text), bytes - strlen(text), " stride.%s=%d",
                     op->tensors[i].name, i % 2 ? 1001 + i / 2 : 1003 + i / 2);
    }
}

/* Axes that are not the last: vectors and single columns, one team and several, held and read
 * twice, views. */
static inline void axis_cases(const kf_op *op, void (*add)(const char *text))
{
    static const char *const sizes[] = {
        "rows=3 cols=7 inner=5",
        "rows=2 cols=33 inner=64",
        "rows=1 cols=203 inner=24 ONLINE=1 BLOCK=64",
        "rows=2 cols=100 inner=3 ONLINE=1 BLOCK=64",
        "rows=2 cols=65 inner=40 stride.x=48 stride.y=41 offset.x=8 offset.y=3",
    };
    for (int v = 0; op->any_axis && v < op->variant_count; v++)
        for (int i = 0; i < 15; i++) {
            char text[256];
            snprintf(text, sizeof text, "%s %s %s %s", op->name, op->variants[v].name,
                     kf_dtype_name((kf_dtype)(KF_F32 + i / 5)), sizes[i % 5]);
            if (!strcmp(op->variants[v].name, "fused") || !strstr(text, "ONLINE"))
                add(text);
        }
}

#endif
