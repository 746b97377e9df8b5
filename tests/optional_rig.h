/* What an op can have beside its usual tensors and attributes. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KF_OPTIONAL_RIG_H
#define KF_OPTIONAL_RIG_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../core/op.h"

/* The names of all optional tensors, each followed by a separator but the last; false where the op
 * has none, or its variants choose among them. */
static inline bool optional_all(const kf_op *op, const char *separator, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < op->tensor_count && !op->internal && used < bytes; i++)
        if (op->tensors[i].optional)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? separator : "",
                                     op->tensors[i].name);
    return used > 0;
}

/* Sets the knobs of a text like "ONLINE=1 BLOCK=32"; false when the variant does not use them all.
 */
static inline bool set_way(kf_case *c, const char *way)
{
    bool used = true;
    while (way && *way) {
        char name[40] = "";
        snprintf(name, sizeof name, "%.*s", (int)strcspn(way, "="), way);
        const int knob = kf_op_knob(c->op, name);
        if (knob < 0)
            return false;
        used &= kf_knob_used(&c->op->knobs[knob], c->variant->name);
        c->config.knob[knob] = strtoll(strchr(way, '=') + 1, NULL, 10);
        c->config.set[knob] = true;
        way += strcspn(way, " ");
        way += *way == ' ';
    }
    return used;
}

#endif
