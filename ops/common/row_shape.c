/* SPDX-License-Identifier: Apache-2.0 */
#include "row_shape.h"
#include "../../core/backend.h"
#include <string.h>

enum { MAX_COLS = 1 << 30, MOST_PARKED = KF_ROW_MOST_PARKED };

const kf_knob_decl kf_row_knobs[KF_ROW_KNOBS] = {
    [KF_ROW_BLOCK] = {.name = "BLOCK",
                      .variants = "unfused fused fused_cluster fused_split fused_cpu",
                      .value_count = 11,
                      .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
                      .help = "threads per group"},
    [KF_ROW_THREADS] = {.name = "THREADS_PER_ROW",
                        .variants = "unfused fused",
                        .value_count = 11,
                        .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
                        .help = "threads that share a row; BLOCK / THREADS_PER_ROW rows share a "
                                "group"},
    [KF_ROW_LOCAL_VECS] = {.name = "LOCAL_VECS",
                           .variants = "fused fused_cluster fused_split",
                           .value_count = 14,
                           .values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
                           .help = "16-byte vectors per thread kept in local memory instead of "
                                   "registers"},
    [KF_ROW_LEAST_GROUPS] = {.name = "LEAST_GROUPS",
                             .variants = "fused fused_cluster fused_split",
                             .value_count = 7,
                             .values = {1, 2, 3, 4, 5, 6, 8},
                             .help = "groups that must fit on a unit: caps the registers"},
    [KF_ROW_ONLINE] = {.name = "ONLINE",
                       .variants = "fused",
                       .value_count = 2,
                       .values = {0, 1},
                       .help = "1 = the row does not stay on chip: its statistics in a first read, "
                               "the result in a second"},
    [KF_ROW_CLUSTER] = {.name = "CLUSTER",
                        .variants = "fused_cluster",
                        .value_count = 4,
                        .values = {2, 4, 8, 16},
                        .help = "groups that share a row"},
    [KF_ROW_SPLIT] = {.name = "GROUPS_PER_ROW",
                      .variants = "fused_split",
                      .value_count = 16,
                      .values = {0, 2, 3, 4, 6, 8, 11, 12, 16, 24, 32, 33, 44, 64, 66, 128},
                      .help = "groups that share a row and meet in global memory; 0 = as many as "
                              "the device holds at once, the same for every row"},
};

/* Parked vectors; rows off the chip in several trips; the same with a row's threads in one warp. */
const char *const kf_row_ways[] = {"LOCAL_VECS=1", "ONLINE=1 BLOCK=32", "ONLINE=1 BLOCK=128", NULL};

/* ---- the launch --------------------------------------------------------------------------- */

bool kf_row_aligned(const kf_problem *problem)
{
    bool aligned = true;
    for (int i = 0; i < problem->op->tensor_count; i++) {
        const char *dims = problem->op->tensors[i].dims;
        if (problem->tensor[i].dtype != problem->dtype) /* absent, or of another kind */
            continue;
        if (strchr(dims, ' '))
            aligned &= kf_rows_whole(problem, i);
        else if (!strcmp(dims, "cols"))
            aligned &= problem->tensor[i].alignment >= 16;
    }
    return aligned;
}

kf_row_shape kf_row_shape_of(const kf_problem *problem, const kf_config *config,
                             const kf_target *target, bool cluster)
{
    kf_row_shape s = {.block = config->knob[KF_ROW_BLOCK],
                      .cluster = cluster ? config->knob[KF_ROW_CLUSTER] : 1,
                      .local_vecs = config->knob[KF_ROW_LOCAL_VECS],
                      .aligned = kf_row_aligned(problem)};
    s.threads = cluster ? s.block : config->knob[KF_ROW_THREADS];
    s.rows = kf_at_least(s.block / s.threads, 1);
    s.vecs = kf_ceil_div(kf_row_vectors(problem), s.threads * s.cluster);
    s.edges = kf_row_edges(problem, s.threads, s.aligned);
    s.whole = s.aligned && problem->dim[KF_ROWS] % s.rows == 0 &&
              kf_row_vectors(problem) == s.threads * s.cluster * s.vecs;
    s.local_bytes = kf_local_vectors(s.local_vecs * s.block * 16 +
                                     s.rows * kf_row_slot_bytes(target, s.threads, s.cluster));
    return s;
}

kf_row_shape kf_row_shape_online(const kf_problem *problem, const kf_config *config,
                                 const kf_target *target)
{
    const int64_t block = config->knob[KF_ROW_BLOCK];
    const bool aligned = kf_row_aligned(problem);
    return (kf_row_shape){.block = block,
                          .threads = block,
                          .rows = 1,
                          .cluster = 1,
                          .vecs = 1,
                          .edges = kf_row_edges(problem, block, aligned),
                          .local_bytes = kf_local_vectors(kf_row_slot_bytes(target, block, 1)),
                          .aligned = aligned};
}

kf_grid kf_row_grid(const kf_row_shape *s, const kf_plan *plan)
{
    const int64_t least = plan->config.knob[KF_ROW_LEAST_GROUPS];
    const int64_t cap = plan->target.registers_per_unit / (s->block * least) / 8 * 8;
    return (kf_grid){.groups = kf_ceil_div(plan->problem.dim[KF_ROWS], s->rows) * s->cluster,
                     .threads = (int)s->block,
                     .cluster = s->cluster > 1 ? (int)s->cluster : 0,
                     .local_bytes = s->local_bytes,
                     .least_groups = (int)least,
                     .register_cap = least > 1 && cap >= 32 && cap < 256 ? (int)cap : 0};
}

void kf_row_define(kf_step *step, const kf_plan *plan, const kf_row_shape *s)
{
    kf_define_row(step, &plan->target, s->block, s->threads, s->aligned);
    kf_step_define(step, "VECS", s->vecs);
    kf_step_define(step, "LOCAL_VECS", s->local_vecs);
    kf_step_define(step, "WHOLE", s->whole);
    kf_step_knob(step, plan, KF_ROW_LEAST_GROUPS);
    if (s->cluster > 1)
        kf_step_knob(step, plan, KF_ROW_CLUSTER);
}

void kf_row_define_strip(kf_step *step, const kf_plan *plan)
{
    const bool cpu = plan->target.capabilities & KF_CAP_CPU ||
                     !kf_knob_used(&kf_row_knobs[KF_ROW_THREADS], plan->variant->name);
    kf_define_row(step, &plan->target, plan->config.knob[KF_ROW_BLOCK],
                  cpu ? 1 : plan->config.knob[KF_ROW_THREADS],
                  !cpu && kf_row_aligned(&plan->problem));
}

kf_grid kf_row_item_grid(const kf_problem *problem, const kf_config *config)
{
    const int64_t block = config->knob[KF_ROW_BLOCK];
    return (kf_grid){.groups = kf_ceil_div(problem->dim[KF_ROWS], block), .threads = (int)block};
}

void kf_row_error(kf_plan *plan, int64_t threads, int64_t merges)
{
    plan->error.depth = kf_ceil_div(plan->problem.dim[KF_COLS], threads) + kf_log2_above(threads);
    plan->error.rescales = merges ? kf_log2_above(threads) + merges : 0;
    plan->error.intermediate = KF_NONE;
}

kf_row_launches kf_row_unfused(const kf_plan *plan)
{
    const kf_problem *problem = &plan->problem;
    if (plan->target.capabilities & KF_CAP_CPU) {
        const kf_grid items = kf_row_item_grid(problem, &plan->config);
        return (kf_row_launches){.reduce = items, .map = items, .flat = items, .per_row = 1};
    }
    const int64_t elements = problem->dim[KF_ROWS] * problem->dim[KF_COLS];
    const int64_t block = plan->config.knob[KF_ROW_BLOCK],
                  threads = plan->config.knob[KF_ROW_THREADS];
    const int64_t lanes = kf_warp_lanes(&plan->target), rows = block / threads;
    const int64_t chunks = kf_ceil_div(kf_row_vectors(problem), threads);
    const int64_t flat = elements / kf_vec_elements(problem) + elements % kf_vec_elements(problem);
    const int64_t slots = threads > lanes ? threads / lanes * rows : 0;
    kf_row_launches l = {.reduce = {.groups = kf_ceil_div(problem->dim[KF_ROWS], rows),
                                    .threads = (int)block,
                                    .local_bytes = kf_local_vectors(slots * 4)},
                         .per_row = threads * chunks};
    l.map = l.flat = l.reduce;
    l.map.groups *= chunks;
    l.flat.groups = kf_ceil_div(flat, block);
    return l;
}

/* ---- defaults ------------------------------------------------------------------------------ */

/* Vectors per thread that registers hold without spilling: 4 registers each beside about 28 others.
 */
static int64_t register_vecs(const kf_target *target, int64_t block, int64_t least_groups)
{
    const int64_t file = target->registers_per_unit ? target->registers_per_unit : 65536;
    return kf_at_least((kf_at_most(file / (block * least_groups), 168) - 28) / 4, 1);
}

/* Measured on one GPU (see the header of the kernel text), told apart by what a row needs, not by
 * whose device it is: 2 to 4 vectors per thread up to 32 KiB, 8 beyond. */
static int64_t default_threads(const kf_problem *problem)
{
    const bool half = kf_dtype_bytes(problem->dtype) == 2;
    const int64_t v = kf_row_vectors(problem);
    if (v <= 32)
        return kf_at_most(kf_power_of_two_above(kf_ceil_div(v, 2)), 16);
    if (!kf_row_aligned(problem) && v > 64 && v <= 256)
        return 128; /* edges are work, too: bf16 1823x781 3.7 us, 3.9 in 32; f32 4.45, 4.5 in 64 */
    if (v <= 128)
        return half || v > 64 ? 32 : 16;
    const int64_t each = v <= 512 ? 4 : v > 2048 ? 8 : half ? 4 : 2;
    return kf_power_of_two_above(kf_ceil_div(v, each));
}

void kf_row_defaults_fused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t most = kf_at_most(target->max_threads, 1024);
    const bool half = kf_dtype_bytes(problem->dtype) == 2;
    /* two groups of 16-bit rows on a unit hide each other's waits */
    const int64_t widest = half && kf_row_vectors(problem) <= 512 * 16 ? 512 : 1024;
    int64_t threads = kf_at_most(default_threads(problem), kf_at_most(widest, most));
    if (config->set[KF_ROW_BLOCK])
        threads = kf_at_most(threads, config->knob[KF_ROW_BLOCK]);
    kf_config_default(config, KF_ROW_THREADS, threads);
    threads = config->knob[KF_ROW_THREADS];
    /* many long rows: larger groups turn over less often (16384x4096 f32: 128.8 us in groups of
     * 1024, 130.1 in groups of 512) */
    const bool many = problem->dim[KF_ROWS] >= 8192 && kf_row_aligned(problem) &&
                      kf_row_vectors(problem) >= 512 && threads == (half ? 128 : 512);
    kf_config_default(config, KF_ROW_BLOCK,
                      kf_at_most(kf_at_least(threads, many ? 2 * threads : 128), most));
    const int64_t block = config->knob[KF_ROW_BLOCK];
    const int64_t vecs = kf_ceil_div(kf_row_vectors(problem), kf_at_least(threads, 1));
    const int64_t full = kf_row_aligned(problem) ? 2048 : 1536; /* threads on a unit */
    kf_config_default(config, KF_ROW_LEAST_GROUPS,
                      half && block == 512 && vecs > 4     ? 2
                      : !half && block >= 512 && vecs <= 3 ? kf_at_least(full / block, 1)
                                                           : 1);
    const bool tight = block >= 1024 || config->knob[KF_ROW_LEAST_GROUPS] > 1;
    const int64_t room =
        kf_at_most(register_vecs(target, block, config->knob[KF_ROW_LEAST_GROUPS]), tight ? 8 : 16);
    /* a group of 1024 that parks at all parks two more: NVIDIA's OpenCL spills at 8 (8192x50257
     * f32: 883 us, 799 with 6) */
    const int64_t over = vecs > room + 1 ? vecs - room : 0; /* one more fits, tightly */
    const int64_t spare = over && block >= 1024 ? 2 : 0;
    int64_t parked = over > MOST_PARKED ? 0 : kf_at_most(over + spare, MOST_PARKED);
    if (block * 16 * parked + kf_row_slot_bytes(target, block, 1) > target->local_bytes)
        parked = 0;
    kf_config_default(config, KF_ROW_LOCAL_VECS, parked);
    kf_config_default(config, KF_ROW_ONLINE, vecs - config->knob[KF_ROW_LOCAL_VECS] > room + 2);
}

/* Parts small enough that several groups on a unit hide each other's waits: eight vectors per
 * thread, half of them parked, in 256 (16 bit) or 512 threads (f32). 16-bit rows of up to 64 KiB
 * need only two parts with four vectors per thread (4096x32768 bf16: 129.9 us, 131.6 with eight in
 * 256 threads). Rows too long for that get larger parts. */
void kf_row_defaults_cluster(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const bool half = kf_dtype_bytes(problem->dtype) == 2;
    const int64_t v = kf_row_vectors(problem), usual = half ? 256 : 512;
    const bool flat = half && v > 2048 && v <= 4096;
    const int64_t each = flat ? 4 : 8; /* vectors per thread */
    const int64_t least = kf_power_of_two_above(kf_ceil_div(v, 2 * each));
    const int64_t block = v > usual * each * target->max_cluster ? 1024
                          : flat || least < usual                ? kf_at_least(least, 64)
                                                                 : usual;
    kf_config_default(config, KF_ROW_BLOCK, kf_at_most(block, target->max_threads));
    const int64_t parts = kf_ceil_div(v, config->knob[KF_ROW_BLOCK] * each);
    kf_config_default(
        config, KF_ROW_CLUSTER,
        kf_at_most(kf_at_least(kf_power_of_two_above(parts), 2), target->max_cluster));
    const int64_t vecs = kf_ceil_div(v, config->knob[KF_ROW_BLOCK] * config->knob[KF_ROW_CLUSTER]);
    const bool several = config->knob[KF_ROW_BLOCK] <= 512 && vecs <= each + 1;
    const int64_t most = flat ? 3 : kf_at_most(1024 / config->knob[KF_ROW_BLOCK], 4);
    kf_config_default(config, KF_ROW_LEAST_GROUPS, several ? most : 1);
    const int64_t room = several && !flat ? each / 2 : each;
    kf_config_default(config, KF_ROW_LOCAL_VECS,
                      kf_at_most(vecs > room ? vecs - room : 0, MOST_PARKED));
}

void kf_row_defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    /* four long rows behind one another keep the core's prefetcher going (RMS norm f32 2048x8192
     * through PoCL, two cores: 24.9 GB/s, 23.2 one by one), where enough groups are left for all */
    const int64_t together = problem->dim[KF_ROWS] >= 64 * (int64_t)target->units ? 4 : 1;
    kf_config_default(config, KF_ROW_BLOCK,
                      problem->dim[KF_COLS] >= 2048  ? together
                      : problem->dim[KF_COLS] >= 512 ? 8
                                                     : 32);
}

void kf_row_defaults_unfused(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    if (target->capabilities & KF_CAP_CPU) {
        kf_row_defaults_cpu(problem, target, config);
        kf_config_default(config, KF_ROW_THREADS, 1);
        return;
    }
    kf_config_default(config, KF_ROW_BLOCK, kf_at_most(256, target->max_threads));
    kf_config_default(
        config, KF_ROW_THREADS,
        kf_at_most(kf_power_of_two_above(kf_row_vectors(problem)), config->knob[KF_ROW_BLOCK]));
}

/* ---- fits ---------------------------------------------------------------------------------- */

kf_status kf_row_check_cols(const kf_problem *problem)
{
    return problem->dim[KF_COLS] <= MAX_COLS
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "%s takes up to %d columns, not %lld", problem->op->name,
                         MAX_COLS, (long long)problem->dim[KF_COLS]);
}

kf_status kf_row_fits_warp(const kf_config *config, const kf_target *target)
{
    return config->knob[KF_ROW_BLOCK] >= kf_warp_lanes(target)
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "BLOCK=%lld is less than a warp of %lld threads",
                         (long long)config->knob[KF_ROW_BLOCK], (long long)kf_warp_lanes(target));
}

static kf_status check_threads(const kf_config *config)
{
    return config->knob[KF_ROW_THREADS] <= config->knob[KF_ROW_BLOCK]
               ? KF_OK
               : kf_fail(KF_UNSUPPORTED, "THREADS_PER_ROW=%lld does not fit into BLOCK=%lld",
                         (long long)config->knob[KF_ROW_THREADS],
                         (long long)config->knob[KF_ROW_BLOCK]);
}

kf_status kf_row_check_on_chip(const kf_row_shape *s, const kf_config *config,
                               const kf_target *target)
{
    const int64_t registers = s->vecs - s->local_vecs;
    const int64_t room = register_vecs(target, s->block, config->knob[KF_ROW_LEAST_GROUPS]) + 1;
    if (registers < 1)
        return kf_fail(KF_UNSUPPORTED,
                       "LOCAL_VECS=%lld leaves no vector of a thread's %lld in registers",
                       (long long)s->local_vecs, (long long)s->vecs);
    if (registers > room)
        return kf_fail(KF_UNSUPPORTED,
                       "a thread would hold %lld vectors in registers, and %lld fit: more threads "
                       "per row, LOCAL_VECS or ONLINE=1",
                       (long long)registers, (long long)room);
    return KF_OK;
}

kf_status kf_row_fits_fused(const kf_problem *problem, const kf_config *config,
                            const kf_target *target)
{
    const kf_row_shape s = kf_row_shape_of(problem, config, target, false);
    const kf_status status = kf_row_fits_read(problem, config, target);
    if (status != KF_OK || config->knob[KF_ROW_ONLINE])
        return status;
    return kf_row_check_on_chip(&s, config, target);
}

kf_status kf_row_fits_cluster(const kf_problem *problem, const kf_config *config,
                              const kf_target *target)
{
    const kf_row_shape s = kf_row_shape_of(problem, config, target, true);
    const kf_status status = kf_row_check_cols(problem);
    if (status == KF_OK && s.block < kf_warp_lanes(target))
        return kf_fail(KF_UNSUPPORTED, "fused_cluster needs a BLOCK of at least %lld threads",
                       (long long)kf_warp_lanes(target));
    return status == KF_OK ? kf_row_check_on_chip(&s, config, target) : status;
}

kf_status kf_row_fits_read(const kf_problem *problem, const kf_config *config,
                           const kf_target *target)
{
    kf_status status = kf_row_check_cols(problem);
    if (status == KF_OK)
        status = kf_row_fits_warp(config, target);
    return status == KF_OK ? check_threads(config) : status;
}

enum { MOST_WALKS = 3 }; /* of a row by fused_cpu */

/* Entries of CPU devices walk a row `walks` times, eight columns a turn; along an axis that is not
 * the last, one line. */
static kf_status check_walks(const kf_problem *problem, const kf_target *target, int64_t walks)
{
    const int64_t cols = problem->dim[KF_COLS];
    const int64_t turns = walks * (problem->inner > 1 ? cols : cols / 8 + 7);
    if (!target->max_turns || turns <= target->max_turns)
        return KF_OK;
    return kf_fail(KF_UNSUPPORTED,
                   "a row of %lld columns takes %lld turns of a work-item's loops, and this device "
                   "ends them after %lld: variant fused takes any width",
                   (long long)problem->dim[KF_COLS], (long long)turns,
                   (long long)target->max_turns);
}

kf_status kf_row_fits_unfused(const kf_problem *problem, const kf_config *config,
                              const kf_target *target)
{
    kf_status status = kf_row_check_cols(problem);
    if (status == KF_OK) /* one item has a row on CPU devices */
        status = target->capabilities & KF_CAP_CPU ? check_walks(problem, target, 1)
                                                   : kf_row_fits_warp(config, target);
    return status == KF_OK ? check_threads(config) : status;
}

kf_status kf_row_fits_cpu(const kf_problem *problem, const kf_config *config,
                          const kf_target *target)
{
    (void)config;
    const kf_status status = kf_row_check_cols(problem);
    return status == KF_OK ? check_walks(problem, target, MOST_WALKS) : status;
}
