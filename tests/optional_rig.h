/* What an op can have beside its usual tensors and attributes. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KF_OPTIONAL_RIG_H
#define KF_OPTIONAL_RIG_H
#include <stdio.h>
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

#endif
