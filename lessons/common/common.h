/* What the lessons share: words, the lesson's own cases, the walk over devices.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_LESSON_COMMON_H
#define KF_LESSON_COMMON_H
#include "../lesson.h"
#include "../../harness/plan_roof.h"

/* ---- words: as the terminal can show them --------------------------------------------------- */

const char *kf_lesson_times(const kf_lesson_context *context); /* the sign, or x */
const char *kf_lesson_micro(const kf_lesson_context *context);
const char *kf_lesson_tick(const kf_lesson_context *context);
const char *kf_lesson_branch(const kf_lesson_context *context, bool last); /* of a tree */
void kf_lesson_shape(const kf_lesson_context *context, const kf_case *c, char *text, size_t bytes);

/* ---- figures -------------------------------------------------------------------------------- */

int64_t kf_lesson_moved(const kf_cost *cost); /* bytes read and written */
double kf_lesson_of_roof(const kf_plan_roof *roof, const kf_timing *timing); /* per cent */
bool kf_lesson_on_cpu(const kf_device *device);

/* ---- running -------------------------------------------------------------------------------- */

bool kf_lesson_stopped(const kf_lesson_context *context);
/* A lesson's own case: rows x columns, or their product where the op has one dim. `with` NULL = the
 * op's usual optional tensors. */
kf_status kf_lesson_case(const kf_lesson_context *context, const char *op, const char *with,
                         int64_t rows, int64_t columns, kf_case *c);
/* "Lesson NAME: TITLE   DEVICE" and `run` on a queue of each device. */
kf_status kf_lesson_each(const kf_lesson_context *context, const char *title,
                         kf_status (*run)(const kf_lesson_context *context, kf_device *device,
                                          kf_queue *queue));
#endif
