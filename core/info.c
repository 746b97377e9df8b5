/* The ops' tables as plain data: what kfuse.h shows of op.h, for languages that make their own
 * calls out of them. SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"
#include "op.h"

static const char *text(const char *words)
{
    return words ? words : "";
}

/* The n-th op that is not a tool of the laboratory; NULL past the last one. */
static const kf_op *listed(int n)
{
    for (int i = 0; n >= 0 && kf_ops[i]; i++)
        if (!kf_ops[i]->internal && n-- == 0)
            return kf_ops[i];
    return NULL;
}

int kf_op_count(void)
{
    int count = 0;
    while (listed(count))
        count++;
    return count;
}

static kf_status find(const char *call, int op, const void *info, const kf_op **found)
{
    *found = listed(op);
    if (!info)
        return kf_fail(KF_INVALID, "%s: a place for the answer is needed", call);
    return *found ? KF_OK
                  : kf_fail(KF_INVALID, "%s: there are ops 0 to %d, no op %d", call,
                            kf_op_count() - 1, op);
}

kf_status kf_op_describe(int op, kf_op_info *info)
{
    const kf_op *found;
    const kf_status status = find("kf_op_describe", op, info, &found);
    if (status == KF_OK)
        *info = (kf_op_info){.name = found->name,
                             .summary = text(found->summary),
                             .formula = text(found->formula),
                             .dims = found->dims,
                             .tensor_count = found->tensor_count,
                             .attribute_count = found->attribute_count,
                             .any_axis = found->any_axis};
    return status;
}

kf_status kf_op_tensor(int op, int tensor, kf_tensor_info *info)
{
    const kf_op *found;
    const kf_status status = find("kf_op_tensor", op, info, &found);
    if (status != KF_OK)
        return status;
    if (tensor < 0 || tensor >= found->tensor_count)
        return kf_fail(KF_INVALID, "kf_op_tensor: op '%s' has %d tensors, no tensor %d",
                       found->name, found->tensor_count, tensor);
    const kf_tensor_decl *decl = &found->tensors[tensor];
    *info = (kf_tensor_info){.name = decl->name,
                             .dims = decl->dims,
                             .in_place = text(decl->alias),
                             .scalar = text(decl->scalar),
                             .below = text(decl->below),
                             .help = text(decl->help),
                             .dtype = decl->dtype,
                             .output = decl->role == KF_OUTPUT,
                             .optional = decl->optional};
    return KF_OK;
}

kf_status kf_op_attribute(int op, int attribute, kf_attribute_info *info)
{
    const kf_op *found;
    const kf_status status = find("kf_op_attribute", op, info, &found);
    if (status != KF_OK)
        return status;
    if (attribute < 0 || attribute >= found->attribute_count)
        return kf_fail(KF_INVALID, "kf_op_attribute: op '%s' has %d attributes, no attribute %d",
                       found->name, found->attribute_count, attribute);
    const kf_attribute_decl *decl = &found->attributes[attribute];
    *info = (kf_attribute_info){.name = decl->name,
                                .words = text(decl->words),
                                .help = text(decl->help),
                                .fallback = decl->fallback,
                                .real = decl->real,
                                .per_run = decl->per_run};
    return KF_OK;
}
