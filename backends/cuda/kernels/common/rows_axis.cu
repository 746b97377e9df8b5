/* Columns of a tensor [rows][cols][inner], along whose middle axis something is reduced, for texts
 * whose plan defines AXIS_LINES (ops/common/softmax_axis.c). The same names as
 * opencl/kernels/common/rows_axis.cl.
 *
 * A line is the `inner` neighbouring elements at one place of the axis. Neighbouring threads
 * take neighbouring columns, so a line is read as it lies: KF_VEC columns each, one access of 16
 * bytes, where all lines of all tensors are ALIGNED, else one. ROWS_PER_GROUP threads stand side
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
#define AXIS_CELLS KF_VEC /* columns of a thread */
typedef kf_pack kf_cells; /* its elements of one line */
#else
#define AXIS_CELLS 1
typedef float kf_cells;
#endif

typedef struct kf_axis {
    int lane, team;        /* across the columns, along the axis */
    bool present;          /* are there columns left for this thread? */
    long long row, column; /* the first of its columns */
} kf_axis;

__device__ inline void kf_axis_place(kf_axis *a, long long strip, long long rows, long long inner)
{
    a->lane = (int)threadIdx.x % AXIS_LANES;
    a->team = (int)threadIdx.x / AXIS_LANES;
    const long long each = inner / AXIS_CELLS, unit = strip * AXIS_LANES + a->lane;
    a->present = unit < rows * each;
    a->row = a->present ? unit / each : 0;
    a->column = a->present ? unit % each * AXIS_CELLS : 0;
}

/* Line i of this thread's in the trip that begins at line `first`. */
__device__ inline long long kf_axis_line(const kf_axis *a, long long first, int i)
{
    return first + i * AXIS_TEAMS + a->team;
}

/* The cells of line n, or `fill` where there are none; `column` is where the columns begin. */
__device__ inline kf_cells kf_axis_fetch(const kf_storage *column, const kf_axis *a, long long n,
                                         long long cols, long long step, float fill)
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

__device__ inline void kf_axis_values(kf_cells cells, float *value)
{
#if ALIGNED
    kf_unpack(cells, value);
#else
    value[0] = cells;
#endif
}

__device__ inline void kf_axis_put(kf_storage *at, const float *value)
{
#if ALIGNED
    kf_store_pack(at, 0, kf_repack(value));
#else
    kf_store(at, 0, value[0]);
#endif
}

/* A float per column. */
__device__ inline void kf_axis_load_floats(const float *from, float *value)
{
#if ALIGNED
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j += 4)
        kf_unpack_floats(((const kf_pack *)from)[j / 4], value + j);
#else
    value[0] = from[0];
#endif
}

__device__ inline void kf_axis_store_floats(float *to, const float *value)
{
#if ALIGNED
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j += 4)
        ((kf_pack *)to)[j / 4] = kf_pack_floats(value + j);
#else
    to[0] = value[0];
#endif
}

/* ---- over the teams ------------------------------------------------------------------------ */

#define AXIS_WIDTH (AXIS_LANES * AXIS_CELLS) /* columns of the group */
#define AXIS_WARP (BLOCK < KF_WARP ? BLOCK : KF_WARP) /* lanes that are there */
/* What shuffles leave of a column: one part per warp that has lanes of it. */
#define AXIS_PARTS (AXIS_LANES < AXIS_WARP ? BLOCK / AXIS_WARP : AXIS_TEAMS)
/* Local memory of a second reduction stands behind the first's, which slow warps still read. */
#define AXIS_SECOND (AXIS_PARTS * AXIS_WIDTH)
#define AXIS_MAX 1
#define AXIS_SUM 0

__device__ inline float kf_axis_both(float a, float b, int kind)
{
    return kind == AXIS_MAX ? kf_max(a, b) : a + b;
}

/* The maximum or the sum of each column over the teams; every thread gets it. All of the group
 * must be here. */
__device__ inline void kf_axis_join(const kf_axis *a, float *value, int kind, float *slot)
{
    const int warp_teams = AXIS_LANES < AXIS_WARP ? AXIS_WARP / AXIS_LANES : 1;
    const int in_warp = a->team % warp_teams, part = a->team / warp_teams;
#pragma unroll
    for (int j = 0; j < AXIS_CELLS; j++) {
#pragma unroll
        for (int step = AXIS_WARP / 2; step >= AXIS_LANES; step /= 2)
            value[j] = kf_axis_both(value[j], __shfl_xor_sync(0xffffffffu, value[j], step), kind);
        if (AXIS_PARTS > 1 && in_warp == 0)
            slot[part * AXIS_WIDTH + j * AXIS_LANES + a->lane] = value[j];
    }
    if (AXIS_PARTS > 1) {
        __syncthreads();
#pragma unroll
        for (int j = 0; j < AXIS_CELLS; j++) {
            value[j] = kind == AXIS_MAX ? -KF_INFINITY : 0.0f;
            for (int p = in_warp; p < AXIS_PARTS; p += warp_teams)
                value[j] =
                    kf_axis_both(value[j], slot[p * AXIS_WIDTH + j * AXIS_LANES + a->lane], kind);
#pragma unroll
            for (int step = AXIS_WARP / 2; step >= AXIS_LANES; step /= 2)
                value[j] =
                    kf_axis_both(value[j], __shfl_xor_sync(0xffffffffu, value[j], step), kind);
        }
    }
}
#endif
