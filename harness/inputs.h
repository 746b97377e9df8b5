/* Random inputs: Philox4x32-10 (Salmon et al., SC 2011; Random123) from a seed, one stream per
 * tensor, the same bits on every machine. Distributions are those of the test plan.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_INPUTS_H
#define KF_INPUTS_H
#include "../core/op.h"

typedef enum kf_distribution {
    KF_DIST_NORMAL,  /* N(0, 1): also what is timed */
    KF_DIST_OFFSET,  /* N(0, 1) + 1000 (f16: + 64) */
    KF_DIST_WIDE,    /* +-10^U(-4, 4) */
    KF_DIST_TINY,    /* 1e-6 N(0, 1) */
    KF_DIST_RAMP_UP, /* -80 .. 0 along each row */
    KF_DIST_RAMP_DOWN,
    KF_DIST_TWO,     /* two values */
    KF_DIST_EQUAL,   /* one value everywhere */
    KF_DIST_OUTLIER, /* N(0, 1), one 1e4 per row */
    KF_DIST_INTEGER, /* small integers */
    KF_DIST_SPECIAL, /* every second row with NaN, +inf, -inf, all -inf, one finite, denormals, ...
                      */
    KF_DIST_COUNT
} kf_distribution;

enum { KF_SPECIAL_PATTERNS = 15 }; /* of special rows; the seed says which comes first */

const char *kf_distribution_name(kf_distribution distribution);
/* Fills `tensor`'s elements in `data` (which spans its extent; padding between rows is left alone).
 */
void kf_inputs_fill(const kf_tensor *tensor, void *data, kf_distribution distribution,
                    uint64_t seed, int stream);
/* Fills tensor i of a problem: indices where its declaration bounds them (.below), rows that sum to
 * 1 where it says so (.probabilities), else as above.
 * Indices are uniform, with the first and the last and, where the op has an attribute
 * `ignore_index`, that value among them; with KF_DIST_SPECIAL also some that are out of range. */
void kf_inputs_fill_tensor(const kf_problem *problem, int i, void *data,
                           kf_distribution distribution, uint64_t seed);
/* Random bits for other purposes: n-th 64 bits of a stream. */
uint64_t kf_random(uint64_t seed, int stream, uint64_t n);
#endif
