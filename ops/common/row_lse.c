/* SPDX-License-Identifier: Apache-2.0 */
#include "row_lse.h"
#include "../../core/backend.h"

enum { MOST_TRIP_VECS = 8 };

kf_row_shape kf_row_shape_read(const kf_problem *problem, const kf_config *config,
                               const kf_target *target)
{
    kf_row_shape s = {.block = config->knob[KF_ROW_BLOCK],
                      .threads = config->knob[KF_ROW_THREADS],
                      .cluster = 1,
                      .vecs = 1,
                      .aligned = kf_row_aligned(problem)};
    s.rows = kf_at_least(s.block / s.threads, 1);
    s.edges = kf_row_edges(problem, s.threads, s.aligned);
    s.local_bytes = kf_local_vectors(s.rows * kf_row_slot_bytes(target, s.threads, 1));
    return s;
}

/* The most elements that can lie in front of a row's first vector (GRID_ELEMENTS - 1). */
static int64_t longest_head(const kf_problem *problem, const kf_row_shape *s)
{
    return s->aligned ? 0 : (s->threads >= 128 ? 128 : 16) / kf_dtype_bytes(problem->dtype) - 1;
}

kf_row_lse kf_row_lse_of(const kf_problem *problem, const kf_row_shape *s)
{
    const int64_t cols = problem->dim[KF_COLS];
    const int vec = kf_vec_elements(problem);
    kf_row_lse l = {
        .trip_vecs = kf_at_most(kf_ceil_div(kf_row_vectors(problem), s->threads), MOST_TRIP_VECS)};
    const int64_t trip = l.trip_vecs * s->threads;
    const int64_t least = (cols - kf_at_most(longest_head(problem, s), cols)) / vec;
    l.trips = kf_ceil_div(cols / vec, trip);
    l.exact = kf_ceil_div(least, trip) == l.trips;
    return l;
}

void kf_row_lse_define(kf_step *step, const kf_row_lse *lse, bool total)
{
    kf_step_define(step, "LSE", 1);
    kf_step_define(step, "LSE_TOTAL", total);
    kf_step_define(step, "TRIP_VECS", lse ? lse->trip_vecs : 1);
}

/* exp2 of a thread in kf_lse_join. */
static int64_t join_specials(const kf_plan *p, const kf_row_shape *s)
{
    const int64_t lanes = kf_warp_lanes(&p->target), slots = s->threads / lanes * s->cluster;
    if (lanes == 1)
        return s->threads > 1;
    return slots > 1 ? 2 + 2 * (kf_ceil_div(slots, lanes) - 1) : 1;
}

static int64_t threads_of(const kf_plan *p, const kf_row_shape *s)
{
    return kf_ceil_div(p->problem.dim[KF_ROWS], s->rows) * s->cluster * s->block;
}

int64_t kf_row_lse_read_specials(const kf_plan *p, const kf_row_shape *s, const kf_row_lse *lse)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    return M * N + M * s->threads * lse->trips +
           threads_of(p, s) * ((s->edges > 0) + join_specials(p, s));
}

int64_t kf_row_lse_held_specials(const kf_plan *p, const kf_row_shape *s)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    return M * N + threads_of(p, s) * (1 + join_specials(p, s));
}

/* The group's join as ever, then that of the parts: two exp2 for each slot behind a lane's first,
 * and one for the warp. */
int64_t kf_row_lse_split_specials(const kf_plan *p, const kf_row_split *s)
{
    const int64_t M = p->problem.dim[KF_ROWS], N = p->problem.dim[KF_COLS];
    const int64_t parts = 2 * (kf_row_split_reads(p, s) - 1) + 1;
    return M * N + M * s->parts * s->slice.block * (1 + join_specials(p, &s->slice) + parts);
}

/* Eight vectors per thread are one trip: threads for one each up to a warp, then as many trips as
 * the row takes. Few rows get larger groups, as nothing else keeps the units busy. */
void kf_row_defaults_read(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    const int64_t v = kf_row_vectors(problem), most = kf_at_most(target->max_threads, 1024);
    const int64_t widest = problem->dim[KF_ROWS] >= 512 ? 256 : most;
    int64_t threads = v <= 32    ? kf_at_most(kf_power_of_two_above(kf_ceil_div(v, 2)), 16)
                      : v <= 256 ? 32
                                 : kf_power_of_two_above(kf_ceil_div(v, MOST_TRIP_VECS));
    threads = kf_at_most(threads, kf_at_most(widest, most));
    if (config->set[KF_ROW_BLOCK])
        threads = kf_at_most(threads, config->knob[KF_ROW_BLOCK]);
    kf_config_default(config, KF_ROW_THREADS, threads);
    kf_config_default(config, KF_ROW_BLOCK,
                      kf_at_most(kf_at_least(config->knob[KF_ROW_THREADS], 128), most));
    kf_config_default(config, KF_ROW_LOCAL_VECS, 0);
    /* 1024 threads on a unit: 64 registers each, which hold a trip of eight vectors (left alone the
     * compiler takes 96 for 16-bit rows, and half the loads are in flight) */
    kf_config_default(config, KF_ROW_LEAST_GROUPS,
                      kf_at_most(kf_at_least(1024 / config->knob[KF_ROW_BLOCK], 1), 8));
    kf_config_default(config, KF_ROW_ONLINE, 0);
}
