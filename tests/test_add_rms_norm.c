/* label: unit */
/* The plans of add_rms_norm over widths, dtypes and targets, and its reference against sums made by
 * hand; no device. What the kernels compute is judged by test_conformance, what they move by
 * test_signature. SPDX-License-Identifier: Apache-2.0 */
#define OP "add_rms_norm"
#include "norm_rig.h"

int main(void)
{
    return norm_tests();
}
