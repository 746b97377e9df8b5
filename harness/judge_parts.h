/* Between judge.c and judge_rows.c only. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_JUDGE_PARTS_H
#define KF_JUDGE_PARTS_H
#include "verify_parts.h"

enum { KF_SAMPLES_PER_ROW = 512 };

typedef struct kf_judge_state { /* of one output */
    kf_trial *trial;
    int output;
    const kf_tensor *tensor;
    int64_t count, width, rows;
    const void *inputs[KF_MAX_TENSORS];
    double *relative,
        *absolute;  /* bounds seen, [drawn rows][KF_SAMPLES_PER_ROW], NAN = none; or NULL */
    int64_t *drawn; /* sorted rows that met the reference */
    int drawn_count;
    double screen_relative, screen_absolute;
    kf_verify_report *report;
    kf_tally tally;
} kf_judge_state;

/* The rows row[0 .. count), or the first `count` for NULL, against the reference, on all
 * processors. Of wide outputs' drawn rows the bounds are kept. */
kf_status kf_judge_rows(kf_judge_state *j, const int64_t *row, int64_t count);
/* flags[row] = an element of the row is farther from the unfused variant's than the screen admits.
 */
void kf_judge_screen(const kf_judge_state *j, bool *flags);

#endif
