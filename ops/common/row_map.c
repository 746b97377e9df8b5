/* SPDX-License-Identifier: Apache-2.0 */
#include "row_map.h"
#include "rows.h"
#include <string.h>

/* Elements of a CPU's work-item: long enough that its launch is forgotten, short enough that two
 * cores share a row of a few thousand. MAP_ITEM of the texts; a multiple of 8. */
enum { ITEM = 2048 };

const kf_knob_decl kf_row_map_knobs[KF_ROW_MAP_KNOBS] = {
    {.name = "BLOCK",
     .variants = "unfused fused fused_cpu",
     .value_count = 7,
     .values = {1, 8, 32, 128, 256, 512, 1024},
     .help = "threads per group"},
};

/* An op with one dim works on a single row. */
static int64_t rows_of(const kf_problem *problem)
{
    return kf_op_dim_count(problem->op) > 1 ? problem->dim[0] : 1;
}

static int64_t cols_of(const kf_problem *problem)
{
    return problem->dim[kf_op_dim_count(problem->op) > 1 ? 1 : 0];
}

static bool is_matrix(const kf_problem *problem, int tensor)
{
    return problem->tensor[tensor].dtype && strchr(problem->op->tensors[tensor].dims, ' ');
}

/* Every row, and every vector along the rows. An offset that breaks a promise is refused by kf_run,
 * so the promises are all that counts. */
static bool all_aligned(const kf_problem *problem)
{
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype && (is_matrix(problem, i) ? kf_row_alignment(problem, i)
                                                               : problem->tensor[i].alignment) < 16)
            return false;
    return true;
}

static bool all_contiguous(const kf_problem *problem)
{
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (is_matrix(problem, i) && rows_of(problem) > 1 &&
            problem->row_stride[i] != cols_of(problem))
            return false;
    return true;
}

static bool bases_aligned(const kf_problem *problem)
{
    for (int i = 0; i < problem->op->tensor_count; i++)
        if (problem->tensor[i].dtype && problem->tensor[i].alignment < 16)
            return false;
    return true;
}

static kf_grid item_grid(const kf_row_map *map, int64_t block)
{
    return (kf_grid){.groups = kf_ceil_div(map->rows * kf_ceil_div(map->cols, ITEM), block),
                     .threads = (int)block};
}

/* Rows that start anywhere have up to two pieces more than vectors, cut short at both ends. */
static kf_grid piece_grid(kf_row_map *map, int vec, int64_t block)
{
    const int64_t pieces = (map->cols + (map->whole ? 0 : 2 * vec - 2)) / vec;
    kf_grid grid = {.threads = (int)block};
    map->threads = block;
    if (map->flat) {
        grid.groups = kf_ceil_div(kf_ceil_div(map->cols, vec), block);
        return grid;
    }
    map->threads = kf_at_most(kf_power_of_two_above(pieces), block);
    grid.groups = kf_ceil_div(map->rows, block / map->threads) * kf_ceil_div(pieces, map->threads);
    return grid;
}

kf_row_map kf_row_map_make(const kf_problem *problem, int64_t block, bool by_column, bool items)
{
    const int vec = kf_vec_elements(problem);
    const int64_t M = rows_of(problem), N = cols_of(problem);
    kf_row_map map = {.rows = M, .cols = N, .elements = M * N};
    memcpy(map.stride, problem->row_stride, sizeof map.stride);
    if (!by_column && all_contiguous(problem) && (items || bases_aligned(problem))) {
        map.flat = true;
        map.rows = 1;
        map.cols = M * N;
        memset(map.stride, 0, sizeof map.stride);
    }
    map.whole = map.cols % vec == 0 && (map.flat || all_aligned(problem));
    map.grid = items ? item_grid(&map, block) : piece_grid(&map, vec, block);
    return map;
}

kf_work kf_row_map_work(const kf_row_map *map, int64_t flops, int64_t specials)
{
    return (kf_work){.flops = flops * map->elements, .specials = specials * map->elements};
}

kf_use kf_row_map_read(const kf_plan *plan, const kf_row_map *map, int tensor)
{
    return READ_PART(kf_tensor_ref(plan, tensor), 0, map->elements);
}

kf_step *kf_row_map_step(kf_plan *plan, const kf_row_map *map, const char *entry, kf_work work,
                         const kf_use *uses, int use_count)
{
    kf_step *step = kf_plan_step(plan, entry, map->grid, work, uses, use_count);
    kf_step_define(step, "BLOCK", map->grid.threads);
    if (map->threads) {
        kf_step_define(step, "MAP_THREADS", map->threads);
        kf_step_define(step, "MAP_FLAT", map->flat);
        kf_step_define(step, "MAP_WHOLE", map->whole);
    } else {
        kf_step_define(step, "MAP_ITEM", ITEM);
    }
    return step;
}

int64_t kf_row_map_wide(const kf_row_map *map)
{
    return map->rows * (map->cols / 8 + map->cols % 8);
}

/* ---- defaults ------------------------------------------------------------------------------ */

/* Items that work on long stretches need no neighbours in their group; short rows share one. */
void kf_row_map_defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t cols = cols_of(problem) * (all_contiguous(problem) ? rows_of(problem) : 1);
    (void)target;
    kf_config_default(config, KF_ROW_MAP_BLOCK, cols >= ITEM ? 1 : cols >= 512 ? 8 : 32);
}

void kf_row_map_defaults(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int most = target->max_threads;
    (void)problem;
    kf_config_default(config, KF_ROW_MAP_BLOCK, most >= 256 ? 256 : most >= 128 ? 128 : 32);
}

void kf_row_map_defaults_unfused(const kf_problem *problem, const kf_target *target,
                                 kf_config *config)
{
    if (target->capabilities & KF_CAP_CPU)
        kf_row_map_defaults_cpu(problem, target, config);
    else
        kf_row_map_defaults(problem, target, config);
}

double kf_row_map_value(const kf_problem *problem, const void *const *inputs, int tensor,
                        int64_t index)
{
    const int64_t row = index / cols_of(problem), column = index % cols_of(problem);
    const int64_t start = is_matrix(problem, tensor) ? row * problem->row_stride[tensor] : 0;
    return kf_load(inputs[tensor], problem->tensor[tensor].dtype, start + column);
}
