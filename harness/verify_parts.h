/* Between the files of the verifier only. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_VERIFY_PARTS_H
#define KF_VERIFY_PARTS_H
#include "../core/backend.h"
#include "verify.h"

/* ---- compare.c ---------------------------------------------------------------------------- */

typedef struct kf_tally {
    int64_t count, nonzero_want, nonzero_got, lost; /* lost: 0 where the reference is not */
    double fused_error, unfused_error, floor_error;
} kf_tally;

void kf_compare_reset(kf_verify_report *report);
/* Judges packed elements whose first has the index `first`, on top of what the report holds. */
void kf_compare_more(kf_dtype dtype, const void *got, const double *want, const double *bound,
                     int64_t first, int64_t count, kf_verify_report *report);
/* Adds what another part of the output gave. */
void kf_compare_merge(kf_verify_report *report, const kf_verify_report *part);
void kf_tally_merge(kf_tally *tally, const kf_tally *part);
void kf_tally_zeros(kf_dtype dtype, const void *got, const double *want, int64_t count,
                    kf_tally *tally);
void kf_tally_errors(kf_dtype dtype, const void *got, const void *unfused, const double *want,
                     int64_t count, kf_tally *tally);

/* ---- zones.c: buffers in a frame of guards -------------------------------------------------- */

/* 0x7FF1 repeated is a NaN as f16, bf16, f32 and f64; 0x7753 repeated is a large finite value in
 * each. */
enum { KF_POISON_NAN = 0x7FF1, KF_POISON_LARGE = 0x7753 };

typedef struct kf_zone { /* [guard | offset | extent | guard] of one tensor, on the device and, of
                            inputs, on the host */
    const kf_tensor *tensor;
    size_t bytes, front; /* of all; in front of the extent */
    size_t extent_bytes;
    char *image; /* what the device is to hold, our private copy; NULL for outputs */
    bool proven; /* the device holds it: kf_zone_same has seen that, and nothing ran since */
    kf_buffer *buffer;
    kf_binding binding;
} kf_zone;

/* Sizes and device buffer; exact: no guards. */
kf_status kf_zone_open(kf_device *device, const kf_tensor *tensor, int64_t offset, bool exact,
                       kf_zone *zone);
/* Makes the image: bytes of any value, to be filled by way of kf_zone_payload. */
kf_status kf_zone_hold(kf_zone *zone);
void kf_zone_close(kf_zone *zone);
void *kf_zone_payload(const kf_zone *zone);
/* The device then holds the tensor's elements as in the image, and poison everywhere else. */
kf_status kf_zone_write(kf_queue *queue, kf_zone *zone, uint16_t poison);
/* Is the device's copy still the image, byte for byte? *broken: first byte that is not, -1. */
kf_status kf_zone_same(kf_queue *queue, kf_zone *zone, int64_t *broken);
/* Reads the tensor's elements, packed; *broken: first byte outside them that is not poison, -1. */
kf_status kf_zone_read(kf_queue *queue, const kf_zone *zone, uint16_t poison, void *packed,
                       int64_t *broken);
void kf_poison(void *data, size_t bytes, uint16_t poison);
int64_t kf_poison_broken(const void *data, size_t bytes,
                         uint16_t poison); /* first byte that differs; -1 */

/* ---- search.c ----------------------------------------------------------------------------- */

int64_t kf_first_difference(const void *a, const void *b, size_t bytes); /* a byte; -1 = none */
/* The first of packed elements of `size` bytes that holds nothing but poison; -1 = none. */
int64_t kf_first_poisoned(const void *data, int size, int64_t count, uint16_t poison);

/* ---- judge.c: outputs against the reference and the unfused variant ------------------------- */

typedef struct kf_trial { /* what one call of kf_verify holds */
    const kf_plan *plan;
    kf_device *device;
    kf_queue *queue;
    const kf_verify_options *options;
    kf_verify_report *report;
    kf_zone zone[KF_MAX_TENSORS];
    kf_buffer *workspace;
    size_t workspace_bytes;
    char *got[KF_MAX_TENSORS];     /* packed outputs of run A */
    char *unfused[KF_MAX_TENSORS]; /* of the baseline; NULL when not run */
} kf_trial;

/* KF_OK whatever the verdict; it is in trial->report. */
kf_status kf_judge(kf_trial *trial);

/* ---- trial.c ------------------------------------------------------------------------------ */

bool kf_trial_present(const kf_trial *trial, int tensor, kf_role role);
bool kf_trial_baseline(const kf_trial *trial); /* is the plan's variant the op's first? */
int64_t kf_trial_row_width(const kf_trial *trial, int output);
bool kf_trial_output_whole(const kf_trial *trial,
                           int output);     /* small enough for the reference alone? */
bool kf_trial_whole(const kf_trial *trial); /* all of them */
bool kf_trial_rule_applies(const kf_trial *trial, int output); /* the 16-bit two-times rule */
bool kf_trial_needs_unfused(const kf_trial *trial);
/* Marks the report as failed; the first reason stays. */
void kf_trial_fail(kf_trial *trial, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "y[3][17]" */
void kf_element_name(const kf_trial *trial, int tensor, int64_t index, char *text, size_t bytes);
#endif
