/* One row per work-item, for entries that CPU devices run: explicit vectors in OpenCL, which CPU
 * drivers need; loops here. The same names as opencl/kernels/common/rows_item.cl.
 * SPDX-License-Identifier: Apache-2.0 */

__device__ inline float kf_item_max(const kf_storage *row, int cols)
{
    float max = -KF_INFINITY;
    for (int i = 0; i < cols; i++)
        max = kf_max(max, kf_load(row, i));
    return max;
}

/* exp(x) for x <= 0 by arithmetic alone, as kf_exp8 of the OpenCL texts: 0 below 2^-126. */
#define KF_EXP_LEAST -87.33654f
__device__ inline float kf_item_exp(float x)
{
    const float held = x < KF_EXP_LEAST ? KF_EXP_LEAST : x;
    const float n = rintf(held * KF_LOG2E);
    const float r = (held - n * 0.693359375f) - n * -2.12194440e-4f;
    float power = 1.0f / 5040;
    power = power * r + 1.0f / 720;
    power = power * r + 1.0f / 120;
    power = power * r + 1.0f / 24;
    power = power * r + 1.0f / 6;
    power = power * r + 0.5f;
    power = power * r + 1.0f;
    power = power * r + 1.0f;
    power *= __int_as_float(((int)n + 127) << 23);
    return x < KF_EXP_LEAST ? 0.0f : power;
}
