/* Knobs of the backward norms: their table, defaults, and what fits on the chip.
 * SPDX-License-Identifier: Apache-2.0 */
#include "norm_backward.h"
#include "../../core/backend.h"

enum {
    MOST_THREADS = 512,
    USUAL_BLOCK = 256,
    CPU_BLOCK = 64,
    ONLINE_BLOCK = 512,
    MOST_GROUPS = 16
};

const kf_knob_decl kf_norm_backward_knobs[KF_BACK_KNOBS] = {
    [KF_BACK_BLOCK] = {.name = "BLOCK",
                       .variants = "unfused fused fused_cpu",
                       .value_count = 11,
                       .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
                       .help = "threads per group"},
    [KF_BACK_THREADS] = {.name = "THREADS_PER_ROW",
                         .variants = "unfused fused",
                         .value_count = 11,
                         .values = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
                         .help = "threads that share a row; BLOCK / THREADS_PER_ROW rows share a "
                                 "group"},
    [KF_BACK_STAGES] = {.name = "STAGES",
                        .variants = "fused",
                        .value_count = 2,
                        .values = {1, 2},
                        .help = "2 = the next row is asked for before this one is reduced"},
    [KF_BACK_GROUPS] = {.name = "GROUPS_PER_UNIT",
                        .variants = "unfused fused",
                        .value_count = 9,
                        .values = {1, 2, 3, 4, 5, 6, 8, 12, MOST_GROUPS},
                        .help = "groups on each unit that take turns with the rows; each writes a "
                                "row of partial sums"},
    [KF_BACK_ONLINE] = {.name = "ONLINE",
                        .variants = "fused",
                        .value_count = 2,
                        .values = {0, 1},
                        .help = "1 = the row does not stay on chip: its sums in a first read, the "
                                "gradient in a second; sums over rows in a launch of their own"},
    [KF_BACK_ITEM_ROWS] = {.name = "ROWS_PER_ITEM",
                           .variants = "fused_cpu",
                           .value_count = 7,
                           .values = {1, 2, 4, 8, 16, 32, 64},
                           .help = "rows of a work-item, which writes a row of partial sums"},
};

/* ---- what fits --------------------------------------------------------------------------------
 */

/* Registers that each vector of a thread takes: sums, weights, the row, the next row. */
static int64_t vector_registers(const kf_problem *problem, int64_t stages, bool keep)
{
    const kf_norm_backward n = kf_norm_backward_of(problem);
    const int64_t elements = kf_vec_elements(problem);
    return n.outputs * elements + 4 * n.weighted + (keep ? 2 * elements : 8) + (stages > 1 ? 8 : 0);
}

/* Registers of a thread beside the others: about 32, 24 where nothing is kept. */
static int64_t register_room(const kf_target *target, int64_t block, int64_t groups, bool keep)
{
    const int64_t file = target->registers_per_unit ? target->registers_per_unit : 65536;
    return kf_at_most(file / (block * groups) / 8 * 8, 224) - (keep ? 32 : 24);
}

static int64_t vecs_of(const kf_problem *problem, int64_t threads)
{
    return kf_ceil_div(problem->dim[KF_COLS], threads * kf_vec_elements(problem));
}

static bool holds(const kf_problem *problem, const kf_config *config, const kf_target *target,
                  bool keep)
{
    const int64_t each = vector_registers(problem, config->knob[KF_BACK_STAGES], keep);
    return vecs_of(problem, config->knob[KF_BACK_THREADS]) * each <=
           register_room(target, config->knob[KF_BACK_BLOCK], config->knob[KF_BACK_GROUPS], keep);
}

kf_norm_backward_shape kf_norm_backward_shape_of(const kf_problem *problem, const kf_config *config,
                                                 const kf_target *target)
{
    const int64_t threads = config->knob[KF_BACK_THREADS];
    kf_norm_backward_shape s = {.columns = kf_columns_of(problem, config->knob[KF_BACK_BLOCK],
                                                         threads, vecs_of(problem, threads)),
                                .keep = holds(problem, config, target, true)};
    s.groups = kf_at_most(kf_at_least(target->units, 1) * config->knob[KF_BACK_GROUPS],
                          kf_ceil_div(problem->dim[KF_ROWS], s.columns.teams));
    return s;
}

kf_status kf_norm_backward_fits_fused(const kf_problem *problem, const kf_config *config,
                                      const kf_target *target)
{
    kf_status status = kf_row_fits_unfused(problem, config, target);
    if (status == KF_OK)
        status = kf_row_fits_warp(config, target);
    if (status != KF_OK || config->knob[KF_BACK_ONLINE] || holds(problem, config, target, false))
        return status;
    return kf_fail(KF_UNSUPPORTED,
                   "the %lld vectors of a thread, their sums and weights do not fit into its "
                   "registers: more threads per row, STAGES=1, GROUPS_PER_UNIT or ONLINE=1",
                   (long long)vecs_of(problem, config->knob[KF_BACK_THREADS]));
}

/* ---- defaults ---------------------------------------------------------------------------------
 */

/* The most groups on a unit at which the row still fits; 0 = it does not. */
static int64_t groups_that_fit(const kf_problem *problem, const kf_config *config,
                               const kf_target *target, bool keep)
{
    const kf_knob_decl *knob = &kf_norm_backward_knobs[KF_BACK_GROUPS];
    kf_config tried = *config;
    for (int i = knob->value_count - 1; i >= 0; i--) {
        tried.knob[KF_BACK_GROUPS] = knob->values[i];
        if (holds(problem, &tried, target, keep))
            return knob->values[i];
    }
    return 0;
}

/* Two 16-bit vectors per thread, four of floats with one sum each: what registers hold twice
 * (STAGES=2) at two groups of 256 threads on a unit. A CPU device has no memory to keep busy from
 * one item, and takes the least text. */
static int64_t usual_threads(const kf_problem *problem, const kf_target *target,
                             const kf_config *config)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const bool two =
        kf_dtype_bytes(problem->dtype) == 2 || kf_norm_backward_of(problem).outputs > 1;
    const int64_t each = cpu ? 1 : two ? 2 : 4;
    const int64_t most = config->set[KF_BACK_BLOCK] ? config->knob[KF_BACK_BLOCK] : MOST_THREADS;
    return kf_at_most(kf_power_of_two_above(vecs_of(problem, each)),
                      kf_at_most(most, kf_at_least(target->max_threads, 1)));
}

void kf_norm_backward_defaults_fused(const kf_problem *problem, const kf_target *target,
                                     kf_config *config)
{
    const bool cpu = target->capabilities & KF_CAP_CPU;
    const int64_t most = kf_at_most(target->max_threads, 1024);
    kf_config_default(config, KF_BACK_THREADS, usual_threads(problem, target, config));
    const int64_t threads = config->knob[KF_BACK_THREADS];
    kf_config_default(config, KF_BACK_BLOCK,
                      kf_at_most(kf_at_least(threads, cpu ? CPU_BLOCK : USUAL_BLOCK), most));
    kf_config_default(config, KF_BACK_STAGES, cpu ? 1 : 2);
    if (!config->set[KF_BACK_STAGES] && !groups_that_fit(problem, config, target, false))
        config->knob[KF_BACK_STAGES] = 1;
    int64_t groups = groups_that_fit(problem, config, target, true);
    if (!groups)
        groups = groups_that_fit(problem, config, target, false);
    kf_config_default(config, KF_BACK_ONLINE, groups == 0);
    if (config->knob[KF_BACK_ONLINE] && !config->set[KF_BACK_BLOCK])
        config->knob[KF_BACK_BLOCK] = kf_at_most(kf_at_least(threads, ONLINE_BLOCK), most);
    kf_config_default(config, KF_BACK_GROUPS, config->knob[KF_BACK_ONLINE] ? 2 : groups);
}

void kf_norm_backward_defaults_unfused(const kf_problem *problem, const kf_target *target,
                                       kf_config *config)
{
    kf_row_defaults_unfused(problem, target, config);
    kf_config_default(config, KF_BACK_GROUPS, 8);
}

/* Rows enough that their partial sums are a small part of what is moved, few enough that they stay
 * in a core's cache and that every core has some. */
void kf_norm_backward_defaults_cpu(const kf_problem *problem, const kf_target *target,
                                   kf_config *config)
{
    const int64_t rows = problem->dim[KF_ROWS], units = kf_at_least(target->units, 1);
    const int64_t cached = (1 << 17) / kf_at_least(problem->dim[KF_COLS], 1);
    int64_t each = kf_at_most(kf_at_least(kf_at_most(rows / (4 * units), cached), 1), 64);
    each = each == kf_power_of_two_above(each) ? each : kf_power_of_two_above(each) / 2;
    kf_config_default(config, KF_BACK_ITEM_ROWS, each);
    kf_config_default(config, KF_BACK_BLOCK, 1);
}
