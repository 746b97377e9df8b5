/* Rows in which every thread owns the same columns, so that sums over the rows stay in registers:
 * the gradients of weights and biases. For texts whose plan defines COLUMN_VECS
 * (ops/common/columns.c). The same names as cuda/kernels/common/rows_columns.cu.
 *
 * THREADS_PER_ROW threads share a row, or the strip of a row that begins at `first`, with
 * COLUMN_VECS vectors each; ROWS_PER_GROUP teams of them take different rows. Where rows are
 * ALIGNED a vector is KF_VEC neighbouring columns, one access. Other rows start anywhere, and a grid
 * of vectors laid over the addresses would shift from row to row and move the columns to other
 * threads: there the KF_VEC columns of a vector lie THREADS_PER_ROW apart, and neighbouring threads
 * read neighbouring elements.
 *
 * Such sums have two stages, both in a fixed order: every group writes one row of partial sums, and
 * kf_column_total adds these rows up. SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define COLUMN_VECS 2
#define COLUMN_LANES 8
#endif

#ifdef COLUMN_VECS
#ifndef WHOLE
#define WHOLE 0
#endif
#define COLUMN_CELLS (COLUMN_VECS * KF_VEC) /* columns of a thread */
#define COLUMN_WIDTH (THREADS_PER_ROW * COLUMN_CELLS)

typedef struct kf_columns {
    int lane, team; /* among the threads of the row; which of the group's rows */
    int first, end; /* first column of the strip; columns of the row */
} kf_columns;

static inline void kf_columns_place(kf_columns *c, int first, long cols)
{
    c->lane = (int)get_local_id(0) % THREADS_PER_ROW;
    c->team = (int)get_local_id(0) / THREADS_PER_ROW;
    c->first = first;
    c->end = (int)cols;
}

/* Rows `first`, first + step, ... below `rows`: a count, which compilers unroll. */
static inline long kf_turns(long first, long step, long rows)
{
    return first < rows ? (rows - first + step - 1) / step : 0;
}

/* Column of cell j of vector i. */
static inline int kf_cell(const kf_columns *c, int i, int j)
{
    return c->first + (ALIGNED ? (i * THREADS_PER_ROW + c->lane) * KF_VEC + j
                               : (i * KF_VEC + j) * THREADS_PER_ROW + c->lane);
}

/* Does the row have it? Aligned rows are whole vectors. */
static inline bool kf_cell_has(const kf_columns *c, int i, int j)
{
    return WHOLE || kf_cell(c, i, ALIGNED ? 0 : j) < c->end;
}

/* Vector i of a row; 0 where the row has no column, everywhere in a row that is not there. */
static inline kf_pack
kf_cells_load(const __global kf_storage *row, const kf_columns *c, int i, bool present)
{
#if ALIGNED
    kf_pack pack = kf_splat(0.0f);
    if (present && kf_cell_has(c, i, 0))
        pack = kf_load_pack(row, kf_cell(c, i, 0) / KF_VEC);
    return pack;
#else
    kf_storage value[KF_VEC];
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        value[j] = 0;
        if (present && kf_cell_has(c, i, j))
            value[j] = row[kf_cell(c, i, j)];
    }
    return kf_pack_storage(value);
#endif
}

static inline void
kf_cells_store(__global kf_storage *row, const kf_columns *c, int i, const float *value)
{
#if ALIGNED
    if (kf_cell_has(c, i, 0))
        kf_store_pack(row, kf_cell(c, i, 0) / KF_VEC, kf_repack(value));
#else
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_cell_has(c, i, j))
            kf_store(row, kf_cell(c, i, j), value[j]);
#endif
}

/* The same, of a row of floats. */
static inline void
kf_cells_store_floats(__global float *row, const kf_columns *c, int i, const float *value)
{
#if ALIGNED
    if (kf_cell_has(c, i, 0)) {
#pragma unroll
        for (int j = 0; j < KF_VEC; j += 4)
            ((__global kf_pack *)row)[(kf_cell(c, i, 0) + j) / 4] = kf_pack_floats(value + j);
    }
#else
#pragma unroll
    for (int j = 0; j < KF_VEC; j++)
        if (kf_cell_has(c, i, j))
            row[kf_cell(c, i, j)] = value[j];
#endif
}

/* The sums of the group's teams, added in their order, to its row of partial sums. `joined` is
 * COLUMN_WIDTH floats of local memory, free again afterwards: all meet after every team, the last
 * one too. (PoCL 3.1 loses sums where the barrier of a loop stands under a condition, even one that
 * is the same for all.) */
static inline void
kf_cells_join(const kf_columns *c, const float *sum, __global float *to, __local float *joined)
{
#pragma unroll 1
    for (int team = 0; team < ROWS_PER_GROUP; team++) {
        if (c->team == team) {
#pragma unroll
            for (int i = 0; i < COLUMN_VECS; i++) {
                float total[KF_VEC];
#pragma unroll
                for (int j = 0; j < KF_VEC; j++) {
                    const int place = kf_cell(c, i, j) - c->first;
                    total[j] = sum[i * KF_VEC + j];
                    if (team > 0)
                        total[j] = joined[place] + total[j];
                    if (team < ROWS_PER_GROUP - 1)
                        joined[place] = total[j];
                }
                if (team == ROWS_PER_GROUP - 1)
                    kf_cells_store_floats(to, c, i, total);
            }
        }
        if (ROWS_PER_GROUP > 1)
            barrier(CLK_LOCAL_MEM_FENCE);
    }
}
#endif

/* ---- the second stage ---------------------------------------------------------------------- */

#ifdef COLUMN_LANES
#define COLUMN_STRIP (BLOCK / COLUMN_LANES) /* columns of a group */

/* The sum of `parts` rows of partial sums in column `column`; COLUMN_LANES work-items share it, each
 * adds every COLUMN_LANES-th row, and a tree joins them: lane 0 gets the total. */
static inline float kf_column_total(const __global float *partials, long parts, long cols,
                                    long column, __local float *slots)
{
    const int lane = (int)get_local_id(0) / COLUMN_STRIP;
    float sum = 0.0f;
    if (column < cols) {
#pragma unroll 8
        for (long part = lane; part < parts; part += COLUMN_LANES)
            sum += partials[part * cols + column];
    }
    if (COLUMN_LANES > 1) {
        slots[get_local_id(0)] = sum;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (int half_lanes = COLUMN_LANES / 2; half_lanes > 0; half_lanes /= 2) {
        if (lane < half_lanes)
            slots[get_local_id(0)] += slots[get_local_id(0) + half_lanes * COLUMN_STRIP];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return COLUMN_LANES > 1 ? slots[get_local_id(0)] : sum;
}

/* A group's strip of columns of output `number`, whose partial sums lie behind those of the outputs
 * before it. */
static inline void
kf_column_write(__global kf_storage *to, const __global float *partials, int number, long strip,
                long parts, long cols, __local float *slots)
{
    const long column = strip * COLUMN_STRIP + (int)get_local_id(0) % COLUMN_STRIP;
    const float total =
        kf_column_total(partials + number * parts * cols, parts, cols, column, slots);
    if (column < cols && (int)get_local_id(0) < COLUMN_STRIP)
        kf_store(to, column, total);
}
#endif
