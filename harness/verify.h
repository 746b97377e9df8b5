/* The only comparator: guard zones, two poisons, derived bounds, NaN-proof. testing.md 2.6 and 5.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_VERIFY_H
#define KF_VERIFY_H
#include "../core/op.h"
#include "inputs.h"

typedef struct kf_verify_options { /* all zero = normal inputs, seed 0, whole when small, guards on
                                    */
    kf_distribution distribution;
    uint64_t seed;
    int64_t offset[KF_MAX_TENSORS]; /* elements in front of each tensor (misaligned bases) */
    bool exact_size;     /* no guards: buffers of exactly the extent, for simulators and memcheck */
    bool one_poison;     /* skip the second run (timing tools verify in a hurry) */
    int runs;            /* in all, each held against the first bit by bit; 0 = 2 */
    bool bit_exact;      /* every output must be its reference rounded to its type, ties to even,
                            whatever the bounds: for inputs whose results need no other rounding */
    int64_t whole_limit; /* elements up to which every element meets the reference; 0 = 1 Mi */
    int sample_rows;     /* rows drawn above it; 0 = 64 */
    const void *const *data; /* host data per tensor, its own strides, instead of random inputs (run
                                on real input) */
} kf_verify_options;

typedef struct kf_verify_report {
    bool passed;
    bool whole; /* every element was compared (else rows drawn, and all against unfused) */
    int64_t checked, bad;
    int64_t first_bad;       /* element index of the output, C order; -1 */
    char output[32];         /* the tensor of first_bad */
    double got, want, bound; /* at first_bad */
    double max_error;        /* largest absolute error */
    double max_bound;        /* largest bound of any checked element */
    double worst_ratio;      /* largest error / bound */
    double unfused_ratio;    /* 16-bit two-times rule: fused error / allowed; 0 = not applicable */
    char reason[256];        /* when not passed: one sentence */
} kf_verify_report;

/* Runs the plan on the device with fresh inputs and judges every output. KF_OK even when not passed
 * (see report->passed); other statuses mean that it could not be run. */
kf_status kf_verify(const kf_plan *plan, kf_device *device, kf_queue *queue,
                    const kf_verify_options *options, kf_verify_report *report);

/* After kf_verify: the same kernels on nasty inputs (special values, wide ranges) over the first
 * few rows, where a missing maximum or a swallowed NaN shows that normal inputs hide. `report` is
 * that of kf_verify and stays as it is when they pass; else it tells of the inputs that did not. */
kf_status kf_verify_nasty(const kf_plan *plan, kf_device *device, kf_queue *queue,
                          const kf_verify_options *options, kf_verify_report *report);

/* The pure comparator, for tests: passes iff every |got - want| <= bound, NaN meets NaN, infinities
 * meet. */
void kf_compare(kf_dtype dtype, const void *got, const double *want, const double *bound,
                int64_t count, kf_verify_report *report);
#endif
