/* Random inputs of a problem: what a tensor's declaration says of its values is kept to.
 * SPDX-License-Identifier: Apache-2.0 */
#include "inputs.h"
#include "convert.h"
#include <math.h>
#include <string.h>

/* ---- indices ------------------------------------------------------------------------------ */

/* Two of 16 each are the first, the last and the ignored; of special ones, four are out of range.
 */
static int64_t index_value(uint64_t random, int64_t below, const int64_t *ignored, bool special)
{
    /* the last two become 0 and 1 where only their low words are looked at */
    const int64_t outside[] = {-1,
                               below,
                               below + 1,
                               INT64_MIN,
                               INT64_MAX,
                               INT32_MIN,
                               INT64_C(0x100000000),
                               INT64_C(0x100000001)};
    const int kind = (int)(random % 16);
    if (kind < 2)
        return 0;
    if (kind < 4)
        return below - 1;
    if (kind < 6 && ignored)
        return *ignored;
    if (kind < 10 && special)
        return outside[random / 16 % 8];
    return (int64_t)(random / 16 % (uint64_t)below);
}

static const int64_t *ignored_index(const kf_problem *problem)
{
    for (int a = 0; a < problem->op->attribute_count; a++)
        if (!strcmp(problem->op->attributes[a].name, "ignore_index"))
            return &problem->attribute[a].i;
    return NULL;
}

/* |x| / sum |x|: NaN and infinities make their row what they would make softmax's. */
static void make_probabilities(const kf_tensor *t, void *data)
{
    const int64_t width = kf_tensor_width(t), count = kf_tensor_elements(t);
    for (int64_t row = 0; row < count; row += width) {
        double sum = 0;
        for (int64_t e = row; e < row + width; e++)
            sum += fabs(kf_load(data, t->dtype, kf_tensor_offset(t, e)));
        for (int64_t e = row; e < row + width; e++) {
            const int64_t place = kf_tensor_offset(t, e);
            kf_store(data, t->dtype, place, fabs(kf_load(data, t->dtype, place)) / sum);
        }
    }
}

void kf_inputs_fill_tensor(const kf_problem *problem, int i, void *data,
                           kf_distribution distribution, uint64_t seed)
{
    /* along the axis, so that a row of special values is one for the op, too */
    const kf_tensor moved = kf_axis_last(problem, i), *t = &moved;
    const char *bound = problem->op->tensors[i].below;
    const int64_t below = bound ? problem->dim[kf_op_dim(problem->op, bound)] : 0,
                  count = kf_tensor_elements(t);
    if (!bound)
        kf_inputs_fill(t, data, distribution, seed, i);
    if (!bound && problem->op->tensors[i].probabilities)
        make_probabilities(t, data);
    if (!bound)
        return;
    for (int64_t e = 0; below > 0 && e < count; e++) {
        const int64_t value = index_value(kf_random(seed, i, (uint64_t)e), below,
                                          ignored_index(problem), distribution == KF_DIST_SPECIAL);
        const int64_t place = kf_tensor_offset(t, e);
        const int32_t narrow = (int32_t)value;
        if (t->dtype == KF_I64)
            memcpy((char *)data + place * 8, &value, sizeof value);
        else
            memcpy((char *)data + place * 4, &narrow, sizeof narrow);
    }
}
