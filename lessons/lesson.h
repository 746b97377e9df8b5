/* A lesson: count, predict, measure, explain. lessons/NAME/lesson.c exports `const kf_lesson
 * kf_lesson_NAME`; it is linked into `kfuse lesson NAME` and into build/lessons/NAME.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_LESSON_H
#define KF_LESSON_H
#include <stdio.h>
#include "../harness/results.h"

typedef struct kf_lesson_context {
    kf_device *const *devices; /* one after the other */
    int device_count;          /* 0 only for a lesson with `any_op` */
    const kf_case
        *cases; /* what the user asked for: shapes, dtypes, knobs; count 0 = the lesson's own */
    int case_count;
    const char *knobs; /* --set, "BLOCK=512 VECS=4"; NULL */
    kf_dtype dtype;    /* of the lesson's own cases; KF_NONE = f32 */
    uint64_t seed;
    bool unicode;
    FILE *out, *progress; /* progress may be NULL */
    volatile int *cancel;
    kf_sink *const *sinks; /* -o json:FILE rows of the lesson */
    int sink_count;
    const char *svg;       /* --svg FILE of a lesson that draws; NULL */
    const char *simulator; /* --simulator: its library, or "none"; NULL = where it usually is */
} kf_lesson_context;

typedef struct kf_lesson {
    const char *name, *title;
    int number;
    const char *ops; /* those it runs, "softmax elementwise": --shape makes cases of each */
    bool any_op;     /* ops and variants are words of the user's, `ops` those when there are none;
                        always given cases; runs without a device as well */
    bool draws;      /* takes --svg */
    kf_status (*run)(const kf_lesson_context *context);
} kf_lesson;

extern const kf_lesson *const kf_lessons[]; /* generated; NULL-terminated, by number */
#endif
