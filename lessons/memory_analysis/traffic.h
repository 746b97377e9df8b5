/* What one plan moves, three times over: as declared, as executed in the simulator, as measured on
 * the device. What could not be had carries the reason. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_LESSON_TRAFFIC_H
#define KF_LESSON_TRAFFIC_H
#include "../../harness/counters.h"
#include "../../harness/simulate.h"
#include "../../harness/steps.h"
#include "../common/common.h"

typedef struct kf_traffic {
    kf_case test; /* with the variant that was planned; knobs as they were asked for */
    kf_plan *plan;
    kf_cost cost;
    char device[64]; /* "cuda:0"; what the plan is made for where there is no device */

    bool timed;
    char not_timed[160];
    kf_verify_report verify;
    kf_timing timing; /* of the whole plan */
    kf_plan_roof roof;
    char flags[96];
    kf_step_time step[KF_MAX_STEPS];

    bool counted;
    char not_counted[400];
    kf_counted counter[KF_MAX_STEPS];

    bool executed;
    char not_executed[400];
    kf_simulation simulation;
} kf_traffic;

typedef struct kf_gather { /* where a lesson's figures come from */
    const kf_lesson_context *context;
    kf_device *device; /* NULL = none: declared and executed only */
    kf_queue *queue;
    char simulator[4096]; /* "" = none */
    char no_simulator[400];
} kf_gather;

/* Plans only. KF_UNSUPPORTED: the target has no such variant. */
kf_status kf_traffic_plan(const kf_gather *g, const kf_case *c, const kf_variant *variant,
                          kf_traffic *t);
/* Executes, counts and times what it can. KF_WRONG_RESULT: nothing is timed. */
kf_status kf_traffic_gather(const kf_gather *g, kf_traffic *t);
/* Rows of the plan and of its launches. */
kf_status kf_traffic_rows(const kf_gather *g, const kf_traffic *t);
void kf_traffic_close(kf_traffic *t);

/* ---- report.c ------------------------------------------------------------------------------- */

void kf_traffic_print(const kf_gather *g, const kf_traffic *t);
/* The plan against the first of the same case, which is the baseline. */
void kf_traffic_against(const kf_gather *g, const kf_traffic *base, const kf_traffic *t);

/* ---- picture.c ------------------------------------------------------------------------------ */

struct kf_file;
/* Before anything is measured: is gnuplot there (KF_UNAVAILABLE), can the file be written (KF_IO)?
 */
kf_status kf_picture_open(const char *path, struct kf_file **file);
/* Bars of every launch into the file, which is whole or not there at all. */
kf_status kf_picture_draw(const kf_gather *g, const kf_traffic *list, int count,
                          struct kf_file *file);
#endif
