/* The only clock: protocol of design 6 and kernels.md 10.2. Subjects are interleaved A B A B; each
 * is a plan run over rotating sets of inputs and outputs. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_MEASURE_H
#define KF_MEASURE_H
#include "../core/op.h"

typedef struct kf_subject {
    const kf_plan *plan; /* verified by the caller */
    kf_device *device;
    kf_queue *queue;   /* own queue of the subject's device */
    int only_step;     /* -1 = the whole plan; else one step timed alone */
    bool plain_stream; /* no replay even where the backend has it */
    bool driver_copy;  /* time the driver's own copy of the plan's first input to its first output
                          instead */
} kf_subject;

typedef struct kf_measure_options { /* all zero = the protocol */
    int samples;                    /* 0 = 9 on GPUs, 11 on CPU devices */
    double sample_seconds;          /* least length of a sample; 0 = 1 ms */
    int least_launches;             /* per sample; 0 = 20 */
    bool warm;                      /* one set only: data may sit in the cache */
    uint64_t seed;
    const int64_t *offset; /* [KF_MAX_TENSORS] elements in front of each tensor; NULL = none */
    volatile int *cancel;  /* not NULL: stop soon when it becomes non-zero */
} kf_measure_options;

enum { KF_MAX_SAMPLES = 64 };

typedef struct kf_timing {
    double median, low, high, least; /* seconds per run of the plan: median, 20 %, 80 %, minimum */
    double sample[KF_MAX_SAMPLES];
    int samples;
    int launches_per_sample;
    int sets;
    double host;  /* seconds of host time per kf_run, pipelined */
    char path[8]; /* "graph", "queue", "host" */
    bool cold;
} kf_timing;

/* Times all subjects interleaved; timing[i] belongs to subject[i]. Nobody has a time who was not
 * verified: that is the caller's duty. A cancelled measurement is KF_UNAVAILABLE and has no times.
 */
kf_status kf_measure(const kf_subject *subject, int count, const kf_measure_options *options,
                     kf_timing *timing);
/* Median and 20-80 % band of the pairwise quotients a/b of two interleaved timings. */
void kf_quotient(const kf_timing *a, const kf_timing *b, double *median, double *low, double *high);
void kf_band(const double *sample, int count, double *median, double *low, double *high);

/* ---- roofs.c: measured limits of a device, by read:write mix ------------------------------- */

typedef enum kf_mix {
    KF_MIX_READ,
    KF_MIX_WRITE,
    KF_MIX_COPY,
    KF_MIX_2_1,
    KF_MIX_3_1,
    KF_MIX_COUNT
} kf_mix;
const char *kf_mix_name(kf_mix mix); /* "read", "write", "copy", "2 in 1 out", "3 in 1 out" */
/* The mix nearest to a launch that reads and writes so many bytes. */
kf_mix kf_mix_of(int64_t bytes_read, int64_t bytes_written);

typedef struct kf_roof {
    double bytes_per_second;
    char shape[48];  /* "VECS=1 BLOCK=256" or "driver copy" */
    int64_t bytes;   /* total moved per launch at which it was measured */
    bool remembered; /* the winning shape came from the device file; its rate was measured now */
} kf_roof;

/* Measures (the best of nine kernel shapes and the driver's own copy; or the remembered best shape
 * again) a mix at `bytes` moved in total, cold. Results are kept for the process. */
kf_status kf_roof_measure(kf_device *device, kf_queue *queue, kf_mix mix, int64_t bytes,
                          kf_roof *roof);
/* An empty launch, seconds per launch, measured like any other plan. */
kf_status kf_roof_empty(kf_device *device, kf_queue *queue, double *seconds);
/* FMA per second (2 FLOP each) and exp per second. */
kf_status kf_roof_compute(kf_device *device, kf_queue *queue, double *flops, double *exps);
/* Probes what the driver does beyond what it advertises and keeps the answers in the device file;
 * run by the tool in a child. Raises device->info.target of later opens. */
kf_status kf_device_probe_all(kf_device *device);
#endif
