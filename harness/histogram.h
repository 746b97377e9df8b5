/* Reads the instruction histogram that Oclgrind prints to stdout (OCLGRIND_INST_COUNTS=1), one
 * block per launch. Calls of built-in functions do not appear under load and store and are weighed
 * by their mangled names. What was executed is then held against the plan. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_HISTOGRAM_H
#define KF_HISTOGRAM_H
#include "../core/op.h"
#include <stdio.h>

typedef struct kf_executed { /* of one launch */
    char entry[96];
    int64_t read, written, specials;
    char unknown[96]; /* a call with a global pointer that we cannot weigh */
} kf_executed;

typedef struct kf_histogram { /* a reader; all zero but `file` to begin with */
    FILE *file;
    char line[512];
    bool pending; /* `line` is the head of the next block */
} kf_histogram;

/* The next launch's block; false at the end. */
bool kf_histogram_next(kf_histogram *histogram, kf_executed *e);
/* One line inside a block. */
void kf_histogram_line(const char *line, kf_executed *e);

/* Bytes of aligned over-read that a step declares. */
int64_t kf_step_edge(const kf_step *step);
/* Least and most bytes that a launch may read. `optimised` = built as it is run: then a value that
 * is read twice may be read once; without optimisation every read that was asked for is there. */
void kf_read_limits(const kf_cost *declared, int64_t edge, bool optimised, int64_t *least,
                    int64_t *most);
/* "" or what disagrees, in `text`. */
const char *kf_histogram_disagreement(const kf_step *step, const kf_cost *declared,
                                      const kf_executed *e, bool optimised, char *text,
                                      size_t bytes);
#endif
