/* The variance by three ways on data with a large mean, as a table. SPDX-License-Identifier:
 * Apache-2.0 */
#ifndef KF_LESSON_NUMBERS_H
#define KF_LESSON_NUMBERS_H
#include "../lesson.h"

kf_status kf_layer_norm_numbers(const kf_lesson_context *context);
#endif
