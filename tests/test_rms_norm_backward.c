/* label: opencl */
/* timeout: 900 */
/* rms_norm_backward: its plans over widths, dtypes and targets; its reference against differences
 * of rms_norm's; knobs and optional tensors that test_conformance does not reach; the same bits
 * from run to run and in place. SPDX-License-Identifier: Apache-2.0 */
#define OP "rms_norm_backward"
#define FORWARD "rms_norm"
#define OPTIONAL "weight grad_weight"
#define MORE_CASES                                                                                 \
    "fused f32 rows=19 cols=130 offset=1", "fused_cpu f32 rows=19 cols=130 offset=1",              \
        "unfused f32 rows=19 cols=130 offset=1"
#include "norm_backward_rig.h"

int main(void)
{
    return norm_backward_tests();
}
