/* Hardware counters of single launches: the backend's profiler runs this program again for one run
 * of a case and prints a table, which is read here. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_COUNTERS_H
#define KF_COUNTERS_H
#include "once.h"

typedef struct kf_counted { /* of one launch; -1 = the profiler did not tell */
    char entry[96];
    double read, written; /* bytes between the chip and its memory */
    double sectors;       /* per cent of the bytes of loaded sectors that were asked for */
} kf_counted;

/* The text of `ncu --csv`, launches in the order of their IDs; what else stands in it is passed
 * over. Returns how many launches there are, at most `capacity`. */
int kf_counters_parse(const char *csv, kf_counted *list, int capacity);
/* The profiler's own complaint in its text, with what can be done about it; "" = none. */
void kf_counters_complaint(const char *text, char *sentence, size_t bytes);
/* Counts the launches of a case on a device. KF_UNAVAILABLE: its backend has no profiler, or it is
 * not on PATH, or may not count; the sentence says which. */
kf_status kf_counters_run(const kf_case *c, kf_device *device, volatile int *cancel,
                          kf_counted *list, int capacity, int *count);
#endif
