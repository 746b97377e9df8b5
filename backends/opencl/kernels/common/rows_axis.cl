/* Columns of a tensor [rows][cols][inner], along whose middle axis something is reduced, for texts
 * whose plan defines AXIS_LINES (ops/common/softmax_axis.c). The same names as
 * cuda/kernels/common/rows_axis.cu.
 *
 * A line is the `inner` neighbouring elements at one place of the axis. Neighbouring work-items
 * take neighbouring columns, so a line is read as it lies: KF_VEC columns each, one access of 16
 * bytes, where all lines of all tensors are ALIGNED, else one. ROWS_PER_GROUP work-items stand side
 * by side, past the end of a line at the first columns of the next row; THREADS_PER_ROW teams of
 * them take different lines. Each works on AXIS_LINES lines at a time, so that as many loads are on
 * their way. SPDX-License-Identifier: Apache-2.0 */
#ifdef KF_EDITOR
#define AXIS_LINES 4
#endif

#ifdef AXIS_LINES
#define AXIS_LANES ROWS_PER_GROUP
#define AXIS_TEAMS THREADS_PER_ROW
#define AXIS_TRIP (AXIS_TEAMS * AXIS_LINES) /* lines of a group */
#if ALIGNED
#define AXIS_CELLS KF_VEC /* columns of a work-item */
typedef kf_pack kf_cells; /* its elements of one line */
#else
#define AXIS_CELLS 1
typedef float kf_cells;
#endif

typedef struct kf_axis {
    int lane, team;   /* across the columns, along the axis */
    bool present;     /* are there columns left for this work-item? */
    long row, column; /* the first of its columns */
} kf_axis;

static inline void kf_axis_place(kf_axis *a, long strip, long rows, long inner)
{
    a->lane = (int)get_local_id(0) % AXIS_LANES;
    a->team = (int)get_local_id(0) / AXIS_LANES;
    const long each = inner / AXIS_CELLS, unit = strip * AXIS_LANES + a->lane;
    a->present = unit < rows * each;
    a->row = a->present ? unit / each : 0;
    a->column = a->present ? unit % each * AXIS_CELLS : 0;
}

/* Line i of this work-item's in the trip that begins at line `first`. */
static inline long kf_axis_line(const kf_axis *a, long first, int i)
{
    return first + i * AXIS_TEAMS + a->team;
}

/* The cells of line n, or `fill` where there are none; `column` is where the columns begin. */
static inline kf_cells kf_axis_fetch(const __global kf_storage *column, const kf_axis *a, long n,
                                     long cols, long step, float fill)
{
#if ALIGNED
    kf_cells cells = kf_splat(fill);
    if (a->present && n < cols)
        cells = kf_load_pack(column + n * step, 0);
#else
    kf_cells cells = fill;
    if (a->present && n < cols)
        cells = kf_load(column, n * step);
#endif
    return cells;
}

static inline void kf_axis_values(kf_cells cells, float *value)
{
#if ALIGNED
    kf_unpack(cells, value);
#else
    value[0] = cells;
#endif
}

static inline void kf_axis_put(__global kf_storage *at, const float *value)
{
#if ALIGNED
    kf_store_pack(at, 0, kf_repack(value));
#else
    kf_store(at, 0, value[0]);
#endif
}

/* A float per column. */
static inline void kf_axis_load_floats(const __global float *from, float *value)
{
#if ALIGNED
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j += 4)
        kf_unpack_floats(((const __global kf_pack *)from)[j / 4], value + j);
#else
    value[0] = from[0];
#endif
}

static inline void kf_axis_store_floats(__global float *to, const float *value)
{
#if ALIGNED
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j += 4)
        ((__global kf_pack *)to)[j / 4] = kf_pack_floats(value + j);
#else
    to[0] = value[0];
#endif
}

/* ---- over the teams ------------------------------------------------------------------------ */

#define AXIS_WIDTH (AXIS_LANES * AXIS_CELLS) /* columns of the group */
#define AXIS_WARP (BLOCK < KF_WARP ? BLOCK : KF_WARP) /* lanes that are there */
/* What shuffles leave of a column: one part per warp that has lanes of it. */
#define AXIS_PARTS (AXIS_LANES < AXIS_WARP ? BLOCK / AXIS_WARP : AXIS_TEAMS)
/* Local memory of a second reduction stands behind the first's, which slow warps still read; trees
 * end with a barrier and use the same again. */
#define AXIS_SECOND (KF_CAP_SHUFFLE ? AXIS_PARTS * AXIS_WIDTH : 0)
#define AXIS_MAX 1
#define AXIS_SUM 0

static inline float kf_axis_both(float a, float b, int kind)
{
    return kind == AXIS_MAX ? kf_max(a, b) : a + b;
}

/* The maximum or the sum of each column over the teams; every work-item gets it. All of the group
 * must be here. */
static inline void kf_axis_join(const kf_axis *a, float *value, int kind, __local float *slot)
{
#if KF_CAP_SHUFFLE
    const int warp_teams = AXIS_LANES < AXIS_WARP ? AXIS_WARP / AXIS_LANES : 1;
    const int in_warp = a->team % warp_teams, part = a->team / warp_teams;
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
#pragma unroll
        for (int step = AXIS_WARP / 2; step >= AXIS_LANES; step /= 2)
            value[j] = kf_axis_both(value[j], kf_shuffle(value[j], step), kind);
        if (AXIS_PARTS > 1 && in_warp == 0)
            slot[part * AXIS_WIDTH + j * AXIS_LANES + a->lane] = value[j];
    }
    if (AXIS_PARTS > 1) {
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++) {
            value[j] = kind == AXIS_MAX ? -KF_INFINITY : 0.0f;
            for (int p = in_warp; p < AXIS_PARTS; p += warp_teams)
                value[j] =
                    kf_axis_both(value[j], slot[p * AXIS_WIDTH + j * AXIS_LANES + a->lane], kind);
#pragma unroll
            for (int step = AXIS_WARP / 2; step >= AXIS_LANES; step /= 2)
                value[j] = kf_axis_both(value[j], kf_shuffle(value[j], step), kind);
        }
    }
#else
    if (AXIS_TEAMS > 1) {
        __local float *const own = slot + a->team * AXIS_WIDTH + a->lane;
        for (int j = 0; j < AXIS_CELLS; j++)
            own[j * AXIS_LANES] = value[j];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int half_teams = AXIS_TEAMS / 2; half_teams > 0; half_teams /= 2) {
            if (a->team < half_teams)
                for (int j = 0; j < AXIS_CELLS; j++)
                    own[j * AXIS_LANES] = kf_axis_both(
                        own[j * AXIS_LANES], own[half_teams * AXIS_WIDTH + j * AXIS_LANES], kind);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        for (int j = 0; j < AXIS_CELLS; j++)
            value[j] = slot[j * AXIS_LANES + a->lane];
        barrier(CLK_LOCAL_MEM_FENCE); /* the slots may be used again */
    }
#endif
}
#endif
