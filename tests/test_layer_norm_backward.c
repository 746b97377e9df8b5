/* label: opencl */
/* timeout: 900 */
/* layer_norm_backward: its plans over widths, dtypes and targets; its reference against differences
 * of layer_norm's; knobs and optional tensors that test_conformance does not reach; the same bits
 * from run to run and in place. SPDX-License-Identifier: Apache-2.0 */
#define OP "layer_norm_backward"
#define FORWARD "layer_norm"
#define OPTIONAL "weight grad_weight grad_bias"
#define MORE_CASES                                                                                 \
    "fused f32 rows=19 cols=130 with=grad_bias", "fused_cpu f32 rows=19 cols=130 with=grad_bias",  \
        "unfused f32 rows=19 cols=130 with=weight,grad_bias",                                      \
        "fused f32 rows=19 cols=520 with=grad_bias ONLINE=1 BLOCK=64"
#include "norm_backward_rig.h"

int main(void)
{
    return norm_backward_tests();
}
