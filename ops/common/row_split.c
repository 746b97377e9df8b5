/* SPDX-License-Identifier: Apache-2.0 */
#include "row_split.h"
#include "../../core/backend.h"

enum {
    LINE_VECS = 8,         /* vectors of a 128-byte line: no line is written by two groups */
    LEAST_PART = 128,      /* vectors below which another group costs more than it brings */
    RESERVED_BYTES = 1024, /* of local memory, that the system takes for each group */
    LEAST_REGISTERS = 32   /* to which kf_row_grid can cap a thread */
};

/* Groups that the device should hold at once: those that LEAST_GROUPS asks of every unit. It is not
 * a promise: NVIDIA's OpenCL held one group of 512 threads and 45 KB of local memory on a unit
 * where CUDA held two, and a row in 264 parts waited for ever. */
static int64_t resident(const kf_config *config, const kf_target *target)
{
    return kf_at_least(target->units, 1) * kf_at_least(config->knob[KF_ROW_LEAST_GROUPS], 1);
}

/* The parts of one row are neighbours, and groups start in order: where every unit holds one group,
 * as it always can, the first row that is not ready has all its parts running. */
static int64_t most_parts(const kf_target *target)
{
    return kf_at_least(target->units, 1);
}

kf_row_split kf_row_split_of(const kf_problem *problem, const kf_config *config,
                             const kf_target *target)
{
    const int64_t v = kf_row_vectors(problem), rows = kf_at_least(problem->dim[KF_ROWS], 1);
    const int64_t block = config->knob[KF_ROW_BLOCK], local_vecs = config->knob[KF_ROW_LOCAL_VECS];
    const bool aligned = kf_row_aligned(problem);
    kf_row_split s = {.parts = config->knob[KF_ROW_SPLIT]};
    if (!s.parts)
        s.parts = kf_at_most(kf_at_least(resident(config, target) / rows, 2), most_parts(target));
    s.part_vecs = kf_ceil_div(kf_ceil_div(v, s.parts), LINE_VECS) * LINE_VECS;
    s.teams = kf_at_least(kf_at_most(resident(config, target) / s.parts, rows), 1);
    s.slice = (kf_row_shape){.block = block,
                             .threads = block,
                             .rows = 1,
                             .cluster = 1,
                             .vecs = kf_ceil_div(s.part_vecs, block),
                             .local_vecs = local_vecs,
                             .edges = kf_row_edges(problem, block, aligned),
                             .aligned = aligned};
    s.slice.whole = aligned && s.part_vecs == block * s.slice.vecs && s.parts * s.part_vecs == v;
    /* parked vectors, a slot per warp, a slot per part, the number of the run */
    s.slice.local_bytes = kf_local_vectors((local_vecs * block + s.parts + 1) * 16 +
                                           kf_row_slot_bytes(target, block, 1));
    return s;
}

kf_grid kf_row_split_grid(const kf_row_split *s, const kf_plan *plan)
{
    kf_grid grid = kf_row_grid(&s->slice, plan);
    grid.groups = s->teams * s->parts;
    return grid;
}

void kf_row_split_define(kf_step *step, const kf_plan *plan, const kf_row_split *s)
{
    kf_row_define(step, plan, &s->slice);
    kf_step_define(step, "SPLIT", 1);
    kf_step_define(step, "PARTS", s->parts);
    kf_step_define(step, "PART_VECS", s->part_vecs);
}

kf_row_meeting kf_row_split_meet(kf_plan *plan, const kf_row_split *s)
{
    const int64_t slots = plan->problem.dim[KF_ROWS] * s->parts;
    kf_row_meeting m = {
        /* two words each, read by every group of the row; what a group asks for again while it
         * waits comes from the cache and is not counted */
        .slots = WRITE_READ(kf_counter_ref(plan, "slots", KF_I64, 2 * slots), 2 * slots * s->parts),
        .tickets = WRITE_READ(kf_counter_ref(plan, "tickets", KF_I32, 1), s->teams * s->parts)};
    return m;
}

int64_t kf_row_split_reads(const kf_plan *plan, const kf_row_split *s)
{
    return kf_ceil_div(s->parts, kf_warp_lanes(&plan->target));
}

void kf_row_split_error(kf_plan *plan, const kf_row_split *s, bool rescaled)
{
    const int64_t own = s->slice.vecs * kf_vec_elements(&plan->problem) + s->slice.edges;
    const int64_t lanes = kf_at_most(kf_warp_lanes(&plan->target), s->parts);
    /* a thread's own elements, its group, the parts; and the roundings of two joins instead of one
     */
    plan->error.depth = own + kf_log2_above(s->slice.block) + kf_row_split_reads(plan, s) +
                        kf_log2_above(lanes) + 4;
    plan->error.rescales = rescaled ? kf_log2_above(s->slice.block * s->parts) + 2 : 0;
    plan->error.intermediate = KF_NONE;
}

/* ---- defaults ------------------------------------------------------------------------------ */

/* Vectors per thread in registers: a group of 1024 threads, and several that make 1024, spill at 8
 * through one vendor's OpenCL. */
static int64_t room(int64_t block)
{
    return block >= 1024 ? 6 : 16;
}

/* Vectors that one group can hold, if it has a unit for itself. */
static int64_t most_vectors(const kf_target *target, int64_t block)
{
    const int64_t local = kf_at_least(target->local_bytes - 4 * RESERVED_BYTES, 0) / (block * 16);
    return block * (room(block) + kf_at_most(local, KF_ROW_MOST_PARKED));
}

int64_t kf_row_split_parked(const kf_target *target, const kf_config *config, int64_t wanted)
{
    const int64_t room = kf_at_least(target->local_bytes - 4 * RESERVED_BYTES, 0);
    const int64_t most = kf_at_most(room / (config->knob[KF_ROW_BLOCK] * 16), KF_ROW_MOST_PARKED);
    return kf_at_most(kf_at_least(wanted, 0), most);
}

/* Few rows: every unit takes part, with one group, unless the parts become too small. */
static void few_rows(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t v = kf_row_vectors(problem), most = kf_at_most(target->max_threads, 1024);
    const int64_t rows = kf_at_least(problem->dim[KF_ROWS], 1);
    const int64_t share = kf_at_least(kf_at_least(target->units, 1) / rows, 2);
    const int64_t needed = kf_ceil_div(v, most_vectors(target, most));
    int64_t parts = 0;
    if (needed > share && kf_power_of_two_above(needed) <= kf_at_most(most_parts(target), 128))
        parts = kf_power_of_two_above(needed);
    else if (v / LEAST_PART < share)
        parts = kf_at_least(kf_power_of_two_above(v / LEAST_PART + 1) / 2, 2);
    kf_config_default(config, KF_ROW_SPLIT, parts);
    parts = config->knob[KF_ROW_SPLIT] ? config->knob[KF_ROW_SPLIT] : share;
    const int64_t part = kf_ceil_div(kf_ceil_div(v, parts), LINE_VECS) * LINE_VECS;
    const int64_t each = part <= 256 ? 1 : part <= 2048 ? 2 : 8;
    kf_config_default(
        config, KF_ROW_BLOCK,
        kf_at_most(kf_at_least(kf_power_of_two_above(kf_ceil_div(part, each)), 64), most));
    kf_config_default(config, KF_ROW_LEAST_GROUPS, 1);
}

static bool unit_holds(const kf_config *config, const kf_target *target, int64_t local_bytes)
{
    const int64_t least = config->knob[KF_ROW_LEAST_GROUPS];
    const int64_t threads = config->knob[KF_ROW_BLOCK] * least;
    return least <= 1 || (threads <= target->max_threads_per_unit &&
                          (local_bytes + RESERVED_BYTES) * least <= target->local_bytes_per_unit &&
                          target->registers_per_unit / threads >= LEAST_REGISTERS);
}

/* Many rows: several groups on a unit, so that some stream while others meet, each with as much as
 * fits, so that few meet: 1024x131072 f32 273 us in 4 parts of 16 vectors per thread, 293 in 8 of
 * 8; bf16 146 and 156. */
static void many_rows(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t v = kf_row_vectors(problem), most = kf_at_most(target->max_threads, 1024);
    const int64_t usual = kf_at_most(kf_dtype_bytes(problem->dtype) == 2 ? 256 : 512, most);
    const int64_t parts =
        kf_at_most(kf_at_least(kf_power_of_two_above(kf_ceil_div(v, usual * 16)), 2), 128);
    kf_config_default(config, KF_ROW_SPLIT, parts);
    kf_config_default(
        config, KF_ROW_BLOCK,
        kf_at_most(kf_at_least(kf_power_of_two_above(kf_ceil_div(v, parts * 16)), 64), usual));
    kf_config_default(config, KF_ROW_LEAST_GROUPS,
                      kf_at_least(kf_at_most(1024 / config->knob[KF_ROW_BLOCK], 4), 1));
    const int64_t local = 10 * config->knob[KF_ROW_BLOCK] * 16 + 4 * RESERVED_BYTES;
    if (!config->set[KF_ROW_LEAST_GROUPS] && !unit_holds(config, target, local))
        config->knob[KF_ROW_LEAST_GROUPS] = 1;
}

void kf_row_defaults_split(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    if (2 * problem->dim[KF_ROWS] <= target->units)
        few_rows(problem, target, config);
    else
        many_rows(problem, target, config);
    const int64_t vecs = kf_row_split_of(problem, config, target).slice.vecs;
    const int64_t kept = room(config->knob[KF_ROW_BLOCK] * config->knob[KF_ROW_LEAST_GROUPS]);
    kf_config_default(config, KF_ROW_LOCAL_VECS, kf_row_split_parked(target, config, vecs - kept));
}

/* ---- fits ---------------------------------------------------------------------------------- */

/* The groups of a row wait for one another: all of the launch must run at the same time. */
static kf_status check_resident(const kf_row_split *s, const kf_config *config,
                                const kf_target *target)
{
    if (target->capabilities & (KF_CAP_CPU | KF_CAP_SIMULATOR))
        return kf_fail(
            KF_UNSUPPORTED,
            "fused_split needs groups that run at the same time, and this device may run "
            "them one after the other");
    if (s->parts > most_parts(target))
        return kf_fail(KF_UNSUPPORTED,
                       "GROUPS_PER_ROW=%lld groups of a row wait for one another, and only one on "
                       "each of %d units is certain to run",
                       (long long)s->parts, target->units);
    if (s->slice.local_bytes > target->local_bytes)
        return kf_fail(
            KF_UNSUPPORTED,
            "LOCAL_VECS=%lld of %lld threads take %lld bytes of local memory; a group has %lld",
            (long long)config->knob[KF_ROW_LOCAL_VECS], (long long)s->slice.block,
            (long long)s->slice.local_bytes, (long long)target->local_bytes);
    if (!unit_holds(config, target, s->slice.local_bytes))
        return kf_fail(
            KF_UNSUPPORTED,
            "LEAST_GROUPS=%lld groups of %lld threads and %lld bytes of local memory are "
            "more than a unit is known to hold at once",
            (long long)config->knob[KF_ROW_LEAST_GROUPS], (long long)s->slice.block,
            (long long)s->slice.local_bytes);
    return KF_OK;
}

kf_status kf_row_fits_split(const kf_problem *problem, const kf_config *config,
                            const kf_target *target)
{
    const kf_row_split s = kf_row_split_of(problem, config, target);
    kf_status status = kf_row_check_cols(problem);
    if (status == KF_OK)
        status = check_resident(&s, config, target);
    /* one barrier of the group at least before its parts meet */
    if (status == KF_OK && s.slice.block < 2 * kf_warp_lanes(target))
        return kf_fail(KF_UNSUPPORTED, "fused_split needs a BLOCK of at least %lld threads",
                       (long long)kf_warp_lanes(target) * 2);
    return status == KF_OK ? kf_row_check_on_chip(&s.slice, config, target) : status;
}

/* ---- choose -------------------------------------------------------------------------------- */

/* Beyond 64 KiB of 16-bit elements, 128 KiB of floats, small groups are faster than a large one
 * (4096x65536 bf16 255.1 against 257.0 us; at 4096x32768 still bf16 127.7 against 130.2, f32 252.4
 * against 254.2 for the large one). */
static bool prefers_cluster(const kf_problem *problem, const kf_target *target, bool online)
{
    kf_config config = {.set = {false}};
    if (!(target->capabilities & KF_CAP_CLUSTERS))
        return false;
    kf_row_defaults_cluster(problem, target, &config);
    const kf_row_shape s = kf_row_shape_of(problem, &config, target, true);
    const bool is_long =
        kf_row_vectors(problem) > (kf_dtype_bytes(problem->dtype) == 2 ? 4096 : 8192);
    return (is_long || online) && s.vecs - s.local_vecs <= 16 &&
           s.local_bytes <= target->local_bytes;
}

/* Fewer rows than units, long enough to be worth a meeting of a microsecond (us on an H200 by CUDA,
 * one group, cluster, all units: softmax f32 1x8192 2.59, 2.52, 2.58; 1x16384 3.55, 3.04, 2.76;
 * 1x131072 19.3, 4.6, 3.7; 33x16384 4.38, 4.09, 3.81; 66x16384 5.04, 5.06, 5.25;
 * 66x32768 7.93, 7.65, 7.70). Only on devices whose groups are known to run together: elsewhere it
 * has to be named. */
static bool prefers_split(const kf_problem *problem, const kf_target *target)
{
    const int64_t rows = problem->dim[KF_ROWS], v = kf_row_vectors(problem);
    return target->compute_capability && 2 * rows <= target->units &&
           v >= (4 * rows <= target->units ? 4096 : 8192);
}

/* By the op's own defaults, which may differ from kf_row_defaults_split. */
static bool fits_split(const kf_problem *problem, const kf_target *target)
{
    const kf_variant *split = kf_op_variant(problem->op, "fused_split");
    kf_config config = {.set = {false}};
    if (!split)
        return false;
    kf_error_mute(true);
    split->defaults(problem, target, &config);
    const bool fits = split->fits(problem, &config, target) == KF_OK;
    kf_error_mute(false);
    const kf_row_shape s = kf_row_split_of(problem, &config, target).slice;
    const int64_t threads = s.block * kf_at_least(config.knob[KF_ROW_LEAST_GROUPS], 1);
    return fits && s.vecs - s.local_vecs <= room(threads); /* more fit, and may spill */
}

const char *kf_row_choose(const kf_problem *problem, const kf_target *target)
{
    kf_config fused = {.set = {false}};
    if (target->capabilities & KF_CAP_CPU) {
        kf_error_mute(true);
        const bool fits = kf_row_fits_cpu(problem, &fused, target) == KF_OK;
        kf_error_mute(false);
        return fits ? "fused_cpu" : "fused";
    }
    if (problem->empty)
        return "fused";
    kf_row_defaults_fused(problem, target, &fused);
    const bool online = fused.knob[KF_ROW_ONLINE], split = fits_split(problem, target);
    if (split && prefers_split(problem, target))
        return "fused_split";
    if (prefers_cluster(problem, target, online))
        return "fused_cluster";
    return split && online && target->compute_capability ? "fused_split" : "fused";
}
