/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax_shape.h"
#include "../../core/backend.h"
#include "rows.h"

enum { MAX_COLS = 1 << 30, MOST_PARKED = 13 }; /* the largest LOCAL_VECS */

/* Every row of both tensors is whole aligned vectors: the texts leave the edges out. */
bool softmax_aligned(const kf_problem *problem)
{
    return kf_rows_whole(problem, X) && kf_rows_whole(problem, Y);
}

/* exp2 and divisions per thread of what joins the parts of a row (softmax_scale in the texts). */
int64_t softmax_gather_specials(const kf_target *target, int64_t parts)
{
    const int64_t lanes = kf_warp_lanes(target);
    return parts <= 1 ? 1 : lanes > 1 ? 2 + kf_ceil_div(parts, lanes) : 2;
}

int64_t softmax_kept_packs(const kf_problem *problem, const kf_config *config)
{
    if (kf_dtype_bytes(problem->dtype) == 4)
        return 1;
    return config->knob[ONCE] ? 2 : 0;
}

softmax_shape softmax_shape_of(const kf_problem *problem, const kf_config *config,
                               const kf_target *target, bool cluster)
{
    softmax_shape s = {.block = config->knob[BLOCK],
                       .cluster = cluster ? config->knob[CLUSTER] : 1,
                       .local_vecs = config->knob[LOCAL_VECS],
                       .aligned = softmax_aligned(problem)};
    s.threads = cluster ? s.block : config->knob[THREADS_PER_ROW];
    s.rows = kf_at_least(s.block / s.threads, 1);
    s.vecs = kf_ceil_div(kf_row_vectors(problem), s.threads * s.cluster);
    s.packs = kf_at_least(softmax_kept_packs(problem, config), 1);
    s.edges = kf_row_edges(problem, s.threads, s.aligned);
    s.whole = s.aligned && problem->dim[ROWS] % s.rows == 0 &&
              kf_row_vectors(problem) == s.threads * s.cluster * s.vecs;
    s.local_bytes = kf_local_vectors(s.local_vecs * s.block * 16 * s.packs +
                                     s.rows * kf_row_slot_bytes(target, s.threads, s.cluster));
    return s;
}

/* Vectors per thread that registers hold without spilling: 4 registers each beside about 28 others.
 */
static int64_t register_vecs(const kf_target *target, int64_t block, int64_t least_groups)
{
    const int64_t file = target->registers_per_unit ? target->registers_per_unit : 65536;
    return kf_at_least((kf_at_most(file / (block * least_groups), 168) - 28) / 4, 1);
}

/* ---- defaults ------------------------------------------------------------------------------ */

/* Measured on one GPU (see the header of the kernel text), told apart by what a row needs, not by
 * whose device it is: 2 to 4 vectors per thread up to 32 KiB, 8 beyond. */
static int64_t default_threads(const kf_problem *problem)
{
    const bool half = kf_dtype_bytes(problem->dtype) == 2;
    const int64_t v = kf_row_vectors(problem);
    if (v <= 32)
        return kf_at_most(kf_power_of_two_above(kf_ceil_div(v, 2)), 16);
    if (v <= 128)
        return half || v > 64 ? 32 : 16;
    const int64_t each = v <= 512 ? 4 : v > 2048 ? 8 : half ? 4 : 2;
    return kf_power_of_two_above(kf_ceil_div(v, each));
}

void softmax_defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t most = kf_at_most(target->max_threads, 1024);
    const bool half = kf_dtype_bytes(problem->dtype) == 2;
    /* two groups of 16-bit rows on a unit hide each other's waits */
    const int64_t widest = half && kf_row_vectors(problem) <= 512 * 16 ? 512 : 1024;
    int64_t threads = kf_at_most(default_threads(problem), kf_at_most(widest, most));
    if (config->set[BLOCK])
        threads = kf_at_most(threads, config->knob[BLOCK]);
    kf_config_default(config, THREADS_PER_ROW, threads);
    threads = config->knob[THREADS_PER_ROW];
    /* many long rows: larger groups turn over less often (16384x4096 f32: 128.8 us in groups of
     * 1024, 130.1 in groups of 512) */
    const bool many = problem->dim[ROWS] >= 8192 && softmax_aligned(problem) &&
                      kf_row_vectors(problem) >= 512 && threads == (half ? 128 : 512);
    kf_config_default(config, BLOCK,
                      kf_at_most(kf_at_least(threads, many ? 2 * threads : 128), most));
    const int64_t block = config->knob[BLOCK];
    const int64_t vecs = kf_ceil_div(kf_row_vectors(problem), kf_at_least(threads, 1));
    const int64_t full = softmax_aligned(problem) ? 2048 : 1536; /* threads on a unit */
    kf_config_default(config, LEAST_GROUPS,
                      half && block == 512 && vecs > 4     ? 2
                      : !half && block >= 512 && vecs <= 3 ? kf_at_least(full / block, 1)
                                                           : 1);
    const bool tight = block >= 1024 || config->knob[LEAST_GROUPS] > 1;
    const int64_t room =
        kf_at_most(register_vecs(target, block, config->knob[LEAST_GROUPS]), tight ? 8 : 16);
    /* a group of 1024 that parks at all parks two more: NVIDIA's OpenCL spills at 8 (8192x50257
     * f32: 883 us, 799 with 6) */
    const int64_t over = vecs > room + 1 ? vecs - room : 0; /* one more fits, tightly */
    const int64_t spare = over && block >= 1024 ? 2 : 0;
    int64_t parked = over > MOST_PARKED ? 0 : kf_at_most(over + spare, MOST_PARKED);
    if (block * 16 * parked + kf_row_slot_bytes(target, block, 1) > target->local_bytes)
        parked = 0;
    kf_config_default(config, LOCAL_VECS, parked);
    kf_config_default(config, ONCE, 0);
    kf_config_default(config, ONLINE, vecs - config->knob[LOCAL_VECS] > room + 2);
}

/* Parts small enough that several groups on a unit hide each other's waits: eight vectors per
 * thread, half of them parked, in 256 (16 bit) or 512 threads (f32). 16-bit rows of up to 64 KiB
 * need only two parts with four vectors per thread (4096x32768 bf16: 129.9 us, 131.6 with eight in
 * 256 threads). Rows too long for that get larger parts. */
void softmax_defaults_cluster(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const bool half = kf_dtype_bytes(problem->dtype) == 2;
    const int64_t v = kf_row_vectors(problem), usual = half ? 256 : 512;
    const bool flat = half && v > 2048 && v <= 4096;
    const int64_t each = flat ? 4 : 8; /* vectors per thread */
    const int64_t least = kf_power_of_two_above(kf_ceil_div(v, 2 * each));
    const int64_t block = v > usual * each * target->max_cluster ? 1024
                          : flat || least < usual                ? kf_at_least(least, 64)
                                                                 : usual;
    kf_config_default(config, BLOCK, kf_at_most(block, target->max_threads));
    const int64_t parts = kf_ceil_div(v, config->knob[BLOCK] * each);
    kf_config_default(
        config, CLUSTER,
        kf_at_most(kf_at_least(kf_power_of_two_above(parts), 2), target->max_cluster));
    const int64_t vecs = kf_ceil_div(v, config->knob[BLOCK] * config->knob[CLUSTER]);
    const bool several = config->knob[BLOCK] <= 512 && vecs <= each + 1;
    const int64_t most = flat ? 3 : kf_at_most(1024 / config->knob[BLOCK], 4);
    kf_config_default(config, LEAST_GROUPS, several ? most : 1);
    const int64_t room = several && !flat ? each / 2 : each;
    kf_config_default(config, LOCAL_VECS, kf_at_most(vecs > room ? vecs - room : 0, MOST_PARKED));
    kf_config_default(config, ONCE, 0);
}

void softmax_defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    (void)target;
    kf_config_default(config, BLOCK,
                      problem->dim[COLS] >= 2048  ? 1
                      : problem->dim[COLS] >= 512 ? 8
                                                  : 32);
}

void softmax_defaults_unfused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    if (target->capabilities & KF_CAP_CPU) {
        softmax_defaults_cpu(problem, target, config);
        kf_config_default(config, THREADS_PER_ROW, 1);
        return;
    }
    kf_config_default(config, BLOCK, kf_at_most(256, target->max_threads));
    kf_config_default(
        config, THREADS_PER_ROW,
        kf_at_most(kf_power_of_two_above(kf_row_vectors(problem)), config->knob[BLOCK]));
}

/* ---- fits ---------------------------------------------------------------------------------- */

static kf_status check_cols(const kf_problem *problem)
{
    return problem->dim[COLS] <= MAX_COLS
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "softmax takes up to %d columns, not %lld", MAX_COLS,
                         (long long)problem->dim[COLS]);
}

static kf_status check_threads(const kf_config *config, const kf_target *target)
{
    if (!(target->capabilities & KF_CAP_CPU) && config->knob[BLOCK] < kf_warp_lanes(target))
        return kf_fail(KF_UNSUPPORTED, "BLOCK=%lld is less than a warp of %lld threads",
                       (long long)config->knob[BLOCK], (long long)kf_warp_lanes(target));
    return config->knob[THREADS_PER_ROW] <= config->knob[BLOCK]
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "THREADS_PER_ROW=%lld does not fit into BLOCK=%lld",
                         (long long)config->knob[THREADS_PER_ROW], (long long)config->knob[BLOCK]);
}

static kf_status check_on_chip(const softmax_shape *s, const kf_config *config,
                               const kf_target *target)
{
    const int64_t registers = s->vecs - s->local_vecs, taken = registers * s->packs;
    const int64_t room = register_vecs(target, s->block, config->knob[LEAST_GROUPS]) + 1;
    if (registers < 1)
        return kf_fail(KF_UNSUPPORTED,
                       "LOCAL_VECS=%lld leaves no vector of a thread's %lld in registers",
                       (long long)s->local_vecs, (long long)s->vecs);
    if (taken > room)
        return kf_fail(KF_UNSUPPORTED,
                       "a thread would hold %lld vectors in registers, and %lld fit: more threads "
                       "per row, LOCAL_VECS or ONLINE=1",
                       (long long)taken, (long long)room);
    return KF_OK;
}

kf_status softmax_fits_fused(const kf_problem *problem, const kf_config *config,
                             const kf_target *target)
{
    const softmax_shape s = softmax_shape_of(problem, config, target, false);
    kf_status status = check_cols(problem);
    if (status == KF_OK)
        status = check_threads(config, target);
    if (status != KF_OK || config->knob[ONLINE])
        return status;
    return check_on_chip(&s, config, target);
}

kf_status softmax_fits_cluster(const kf_problem *problem, const kf_config *config,
                               const kf_target *target)
{
    const softmax_shape s = softmax_shape_of(problem, config, target, true);
    const kf_status status = check_cols(problem);
    if (status == KF_OK && s.block < kf_warp_lanes(target))
        return kf_fail(KF_UNSUPPORTED, "fused_cluster needs a BLOCK of at least %lld threads",
                       (long long)kf_warp_lanes(target));
    return status == KF_OK ? check_on_chip(&s, config, target) : status;
}

kf_status softmax_fits_unfused(const kf_problem *problem, const kf_config *config,
                               const kf_target *target)
{
    const kf_status status = check_cols(problem);
    return status == KF_OK ? check_threads(config, target) : status;
}

kf_status softmax_fits_cpu(const kf_problem *problem, const kf_config *config,
                           const kf_target *target)
{
    (void)config, (void)target;
    return check_cols(problem);
}
