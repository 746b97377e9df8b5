/* Threads, groups and local memory of the norms where nothing is said.
 * SPDX-License-Identifier: Apache-2.0 */
#include "norm.h"
#include "../../core/backend.h"

/* A row of v vectors in `threads` threads, `groups` of which fill a unit. */
static void lay(const kf_problem *problem, kf_config *config, int64_t block, int64_t threads,
                int64_t groups, int64_t parked)
{
    const bool aligned = kf_row_aligned(problem); /* edges take registers */
    kf_config_default(config, KF_ROW_BLOCK, block);
    kf_config_default(config, KF_ROW_THREADS, threads);
    kf_config_default(config, KF_ROW_LEAST_GROUPS, aligned || groups == 1 ? groups : groups - 1);
    kf_config_default(config, KF_ROW_LOCAL_VECS, parked);
}

/* Where norms want another shape than softmax: no exponentials wait for arithmetic units, so more
 * threads with less each (measured on an H200, us, in brackets the shape that softmax takes):
 * layer norm bf16 8192x8192 66.5 (70.7), 4096x16384 67.8 (100.8), 16384x4096 65.0 (67.4 where RMS
 * norm is fastest), f32 8192x8192 127.2 (131.2), 4096x16384 128.5 (136.6); RMS norm bf16 16384x4096
 * 66.3 (69.2), 8192x8192 66.4 (68.2), add_rms_norm bf16 16384x4096 130.5 (132.2). Nothing is
 * changed that was set by hand. */
static void lay_wide(const kf_problem *problem, const kf_norm *n, kf_config *config)
{
    const bool half = kf_dtype_bytes(problem->dtype) == 2, added = n->residual >= 0;
    const bool bias = kf_norm_has(problem, n->bias); /* spills where registers are few */
    const int64_t v = kf_row_vectors(problem);
    if (half && v > 256 && v <= 512 && added)
        lay(problem, config, 1024, 512, 2, 0);
    else if (half && v > 256 && v <= 512 && n->centred)
        lay(problem, config, 128, 128, 8, 0);
    else if (half && v > 256 && v <= 512)
        lay(problem, config, 256, 256, 6, 0);
    else if (v > 512 && v <= 1024 && (!half || !n->centred))
        lay(problem, config, 512, 512, bias ? 3 : 4, 0);
    else if (half && v > 512 && v <= 1024)
        lay(problem, config, 256, 256, 4, 0);
    else if (half && v > 1024 && v <= 2048)
        lay(problem, config, 256, 256, 3, kf_ceil_div(v, 256) - 4);
    else if (!half && v > 1024 && v <= 4096 && !added)
        lay(problem, config, 512, 512, 2, kf_at_least(kf_ceil_div(v, 512) - 4, 0));
}

/* Rows of a few KB, where the wait is as long as the work: two rows a warp share its exchanges
 * (layer norm bf16 8192x512 5.75 us in 16 threads, 6.78 in 32; f32 9.86, 10.2 in 64); of rows that
 * are not aligned each thread takes less (RMS norm bf16 1823x781 3.5 in 128 threads, as
 * softmax, 4.0 in 32), but for the longer arithmetic of a layer norm (bf16 4.1 in 64, 4.2 in 128).
 * NVIDIA's OpenCL takes 7.9 us for RMS norm bf16 8192x512 in 16 threads, 7.0 in 32. */
static void lay_narrow(const kf_problem *problem, const kf_norm *n, const kf_target *target,
                       kf_config *config)
{
    const bool half = kf_dtype_bytes(problem->dtype) == 2, aligned = kf_row_aligned(problem);
    const int64_t v = kf_row_vectors(problem);
    const bool sure = n->centred || target->capabilities & KF_CAP_CLUSTERS;
    const bool pairs = aligned && sure && n->residual < 0;
    if (pairs && (half ? v > 32 && v <= 64 : v > 64 && v <= 128 && n->centred))
        lay(problem, config, 128, 16, 8, 0);
    else if (!half && v > 64 && v <= 128)
        lay(problem, config, 128, 64, 1, 0);
    else if (!aligned && n->centred && (half ? v > 64 && v <= 128 : v > 128 && v <= 256))
        lay(problem, config, 64, 64, 1, 0);
    else if (!aligned && !half && v > 128 && v <= 256)
        lay(problem, config, 128, 64, 1, 0);
}

void kf_norm_defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const kf_norm n = kf_norm_of(problem);
    kf_row_defaults_fused(problem, target, config);
    const bool by_hand = config->set[KF_ROW_BLOCK] || config->set[KF_ROW_THREADS] ||
                         config->set[KF_ROW_LOCAL_VECS] || config->set[KF_ROW_LEAST_GROUPS];
    if (!by_hand && target->max_threads >= 1024 && target->registers_per_unit >= 65536) {
        lay_narrow(problem, &n, target, config);
        lay_wide(problem, &n, config);
    }
}

/* As softmax, but in place of one group of 1024 threads
 *   - one of 512 where two matrices are added: at 64 registers the sum of two vectors and the
 * weights spill;
 *   - one of 512 where that leaves up to 8 vectors a thread (RMS norm f32 2x524288 5.7 us, 6.3);
 *   - two of 512 where there are weights and up to 16 of f32, which one writes with while the other
 *     waits for them, and registers left for those of three vectors (RMS norm f32 4x1048576: 14.9
 * us in one group, 13.9). NVIDIA's OpenCL does not always hold both: layer norm then takes 21.6 us
 *     there, and 17.7 in one group. */
static void lay_split(const kf_problem *problem, const kf_norm *n, const kf_target *target,
                      kf_config *config)
{
    const bool weight = kf_norm_has(problem, n->weight) && problem->dim[KF_ROWS] > 1;
    const bool sure = !n->centred || target->capabilities & KF_CAP_CLUSTERS;
    config->knob[KF_ROW_BLOCK] = 512;
    config->knob[KF_ROW_LEAST_GROUPS] = 1;
    const int64_t alone = kf_row_split_of(problem, config, target).slice.vecs;
    if (n->residual < 0 && alone > 8) {
        const bool halves = weight && sure && alone <= 16 && kf_dtype_bytes(problem->dtype) == 4;
        config->knob[KF_ROW_BLOCK] = halves ? 512 : 1024;
        config->knob[KF_ROW_LEAST_GROUPS] = halves ? 2 : 1;
    }
    const int64_t vecs = kf_row_split_of(problem, config, target).slice.vecs;
    const int64_t kept = n->residual >= 0                        ? 12
                         : config->knob[KF_ROW_BLOCK] == 1024    ? 6
                         : config->knob[KF_ROW_LEAST_GROUPS] > 1 ? 3
                                                                 : 8;
    config->knob[KF_ROW_LOCAL_VECS] = kf_row_split_parked(target, config, vecs - kept);
}

void kf_norm_defaults_split(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const kf_norm n = kf_norm_of(problem);
    const bool by_hand = config->set[KF_ROW_BLOCK] || config->set[KF_ROW_LOCAL_VECS] ||
                         config->set[KF_ROW_LEAST_GROUPS] || config->set[KF_ROW_SPLIT];
    kf_row_defaults_split(problem, target, config);
    if (by_hand || config->knob[KF_ROW_BLOCK] < 1024)
        return;
    const kf_config before = *config;
    lay_split(problem, &n, target, config);
    kf_error_mute(true);
    if (kf_row_fits_split(problem, config, target) != KF_OK)
        *config = before;
    kf_error_mute(false);
}
