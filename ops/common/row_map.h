/* Geometry of elementwise ops on matrices with row strides, the host side of
 * kernels/common/row_map: which work-item does which vector, and in which of the texts' forms. A
 * matrix whose tensors are all contiguous and aligned is launched as one row.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_ROW_MAP_H
#define KF_ROW_MAP_H

#include "../../core/op.h"

typedef struct kf_row_map {
    kf_grid grid;
    int64_t rows, cols;             /* as launched */
    int64_t stride[KF_MAX_TENSORS]; /* elements from row to row of each tensor, as launched */
    int64_t elements;               /* rows x cols: what every step of a plan works on */
    int64_t threads;                /* along a row; 0 = one stretch of a row per work-item */
    bool flat;                      /* one row of aligned tensors */
    bool whole;                     /* rows are whole aligned vectors */
} kf_row_map;

/* For the problem's first two dims, or the only one: a single row. The tensors with these dims may
 * have row strides; one with the second alone is a vector along the rows, for which columns must be
 * known (`by_column`): such a problem is never flat. `items`: a stretch of a row per work-item, for
 * CPU devices. */
kf_row_map kf_row_map_make(const kf_problem *problem, int64_t block, bool by_column, bool items);
/* Elements times `each`, for counts of operations. */
kf_work kf_row_map_work(const kf_row_map *map, int64_t flops, int64_t specials);
/* Every row of a matrix read once, also where a stride of 0 repeats the same one. */
kf_use kf_row_map_read(const kf_plan *plan, const kf_row_map *map, int tensor);
/* A step with the map's grid and all that the texts are built with. */
kf_step *kf_row_map_step(kf_plan *plan, const kf_row_map *map, const char *entry, kf_work work,
                         const kf_use *uses, int use_count);
/* Instructions that divide all elements where kernels/common/wide_units works on eight at a time,
 * and the last few of a row one by one. */
int64_t kf_row_map_wide(const kf_row_map *map);

/* The knob that all these ops have, and its default: kf_op.knobs, kf_variant.defaults. */
enum { KF_ROW_MAP_BLOCK, KF_ROW_MAP_KNOBS };
extern const kf_knob_decl kf_row_map_knobs[KF_ROW_MAP_KNOBS];
void kf_row_map_defaults(const kf_problem *problem, const kf_target *target, kf_config *config);
void kf_row_map_defaults_cpu(const kf_problem *problem, const kf_target *target, kf_config *config);
/* Of plans that take stretches on CPU devices and pieces on others. */
void kf_row_map_defaults_unfused(const kf_problem *problem, const kf_target *target,
                                 kf_config *config);

/* For references: element `index` (C order over rows and columns) of a matrix, or of a vector along
 * the rows. */
double kf_row_map_value(const kf_problem *problem, const void *const *inputs, int tensor,
                        int64_t index);

#endif
