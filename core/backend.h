/* The contract a backend fulfils: objects, limits, slots. A backend is one const table of functions
 * at the level of the launch. Arguments reach a slot validated by the front ends of core/device.c
 * and core/exec.c: a backend trusts its input and reports what its driver says, by kf_fail().
 *
 * Objects are embedded: `typedef struct cuda_queue { kf_queue base; CUstream stream; }
 * cuda_queue;`. A backend's `..._open` allocates its own struct with calloc, fills what is its own,
 * and returns &object->base; the front end then fills the base (device, backend, bytes) and counts
 * the handle.
 * `..._close` releases the native object (unless adopted) and frees the struct, whatever it
 * returns.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_BACKEND_H
#define KF_BACKEND_H

#include <kfuse/kfuse.h>

#define KF_MAX_MARKS 64

typedef struct kf_backend kf_backend;
typedef struct kf_program kf_program;
typedef struct kf_kernel kf_kernel;
typedef struct kf_recording kf_recording;

/* One finding of `kfuse doctor`: what is there or missing, and the command that mends it. */
typedef struct kf_finding {
    bool good;
    char what[64];    /* "CUDA driver" */
    char detail[200]; /* "580.159 (CUDA 13.0), libcuda.so.1" or why not */
    char remedy[200]; /* a command or a sentence; "" when good */
} kf_finding;

typedef struct kf_program_desc {
    const char *name; /* source file for messages, "softmax.cu" */
    const char *text; /* the whole text: defines, prelude, #line, kernel */
    const char *const *entries;
    int entry_count;
    int threads;         /* per group; 0 = unknown */
    int least_groups;    /* groups a unit must be able to hold; 0 = any */
    int register_cap;    /* registers per thread; 0 = the compiler's choice */
    int64_t local_bytes; /* of local memory per group: already in the text as LOCAL_BYTES */
    bool arch_specific;  /* CUDA: build for sm_90a instead of sm_90 */
    const void
        *binary; /* from an earlier program_save of the same text on the same driver, or NULL */
    size_t binary_bytes;
} kf_program_desc;

typedef struct kf_kernel_info {
    int registers;       /* per thread; -1 = unknown */
    int64_t spill_bytes; /* per thread; -1 = unknown */
    int64_t local_bytes; /* static local memory per group; -1 = unknown */
    int max_threads;     /* this kernel can be launched with; 0 = unknown */
} kf_kernel_info;

typedef enum kf_value_kind {
    KF_VALUE_BUFFER, /* a global pointer; followed by KF_VALUE_I64 with its offset in elements */
    KF_VALUE_ABSENT, /* a null pointer, followed by KF_VALUE_I64 as well */
    KF_VALUE_I32,
    KF_VALUE_I64,
    KF_VALUE_F32
} kf_value_kind;

typedef struct kf_value {
    kf_value_kind kind;
    union {
        kf_buffer *buffer;
        int32_t i32;
        int64_t i64;
        float f32;
    } as;
} kf_value;

typedef struct kf_launch {
    kf_kernel *kernel;
    int64_t groups; /* one-dimensional grid, >= 1 */
    int threads;    /* per group */
    int cluster;    /* groups per cluster; 0 or 1 = none; divides groups */
    const kf_value *values;
    int value_count;
} kf_launch;

/* SLOT(verb, (typed parameters)). All return kf_status.
 *
 * enumerate      fills at most capacity entries, *count = how many there are; ids and targets
 * complete device_open    desc->index counts as in enumerate; fills (*device)->info completely
 * probe          one named experiment with a known answer; *answer 0 or 1; KF_UNSUPPORTED: no such
 * one "local:BYTES" = a static local array of that size builds, launches and holds its data
 * diagnose       findings about this backend on this machine; never fails for want of a driver
 * queue_wait     later work of `queue` starts after the work now in `other`
 * queue_native   *native = CUstream, cl_command_queue
 * buffer_write   blocking; _read blocking; _fill and _copy enqueued
 * program_build  compiles desc->text, or loads desc->binary (KF_BUILD_FAILED when the driver
 * refuses it); on failure the sentence carries the compiler's own message at the real file and line
 * program_save   *data is malloc'd by the slot, free()d by the caller
 * mark, elapsed  mark i < KF_MAX_MARKS is enqueued; elapsed waits for `last` and gives seconds
 * record_begin   work enqueued from now is recorded, not run; record_end gives the recording
 * replay         enqueues a recording */
#define KF_SLOTS(SLOT)                                                                             \
    SLOT(enumerate, (kf_device_info * list, int capacity, int *count))                             \
    SLOT(device_open, (const kf_device_desc *desc, kf_device **device))                            \
    SLOT(device_close, (kf_device * device))                                                       \
    SLOT(probe, (kf_device * device, const char *experiment, int *answer))                         \
    SLOT(diagnose, (kf_finding * list, int capacity, int *count))                                  \
    SLOT(queue_open, (kf_device * device, const kf_queue_desc *desc, kf_queue **queue))            \
    SLOT(queue_close, (kf_queue * queue))                                                          \
    SLOT(queue_wait, (kf_queue * queue, kf_queue * other))                                         \
    SLOT(finish, (kf_queue * queue))                                                               \
    SLOT(queue_native, (kf_queue * queue, void **native))                                          \
    SLOT(buffer_open, (kf_device * device, const kf_buffer_desc *desc, kf_buffer **buffer))        \
    SLOT(buffer_close, (kf_buffer * buffer))                                                       \
    SLOT(buffer_write,                                                                             \
         (kf_queue * queue, kf_buffer * buffer, size_t offset, const void *data, size_t bytes))    \
    SLOT(buffer_read,                                                                              \
         (kf_queue * queue, kf_buffer * buffer, size_t offset, void *data, size_t bytes))          \
    SLOT(buffer_fill, (kf_queue * queue, kf_buffer * buffer, size_t offset, size_t bytes,          \
                       uint32_t pattern, int pattern_bytes))                                       \
    SLOT(buffer_copy, (kf_queue * queue, kf_buffer * to, size_t to_offset, kf_buffer * from,       \
                       size_t from_offset, size_t bytes))                                          \
    SLOT(program_build, (kf_device * device, const kf_program_desc *desc, kf_program **program))   \
    SLOT(program_save, (kf_program * program, void **data, size_t *bytes))                         \
    SLOT(program_close, (kf_program * program))                                                    \
    SLOT(kernel_open,                                                                              \
         (kf_program * program, const char *entry, kf_kernel_info *info, kf_kernel **kernel))      \
    SLOT(kernel_close, (kf_kernel * kernel))                                                       \
    SLOT(launch, (kf_queue * queue, const kf_launch *launch))                                      \
    SLOT(mark, (kf_queue * queue, int index))                                                      \
    SLOT(elapsed, (kf_queue * queue, int first, int last, double *seconds))                        \
    SLOT(record_begin, (kf_queue * queue))                                                         \
    SLOT(record_end, (kf_queue * queue, kf_recording * *recording))                                \
    SLOT(replay, (kf_queue * queue, kf_recording * recording))                                     \
    SLOT(recording_close, (kf_recording * recording))

typedef enum kf_slot {
#define SLOT(verb, parameters) KF_SLOT_##verb,
    KF_SLOTS(SLOT)
#undef SLOT
        KF_SLOT_COUNT
} kf_slot;

struct kf_backend {
    const char *name;     /* "cuda" */
    const char *kernels;  /* folder and suffix of its texts: "cuda" + ".cu", "opencl" + ".cl" */
    const char *suffix;   /* "cu" */
    bool pretended;       /* no device behind it: opened only when named */
    const char *profiler; /* program on PATH that counts the bytes of its launches; NULL = none */
#define SLOT(verb, parameters) kf_status(*verb) parameters;
    KF_SLOTS(SLOT)
#undef SLOT
};

/* Generates a backend's initialiser: KF_BACKEND_TABLE(cuda) gives `.launch = cuda_launch, ...`, so
 * that a missing function is a compile error. Used inside  const kf_backend kf_backend_cuda = {
 * .name = ..., #define SLOT(verb, parameters) .verb = cuda_##verb, KF_SLOTS(SLOT) }; */

struct kf_device {
    const kf_backend *backend; /* the table its calls go through; fault.c puts its own here */
    kf_device_info info;
    bool adopted;
    bool read_kernels, no_cache;
    bool closing;                  /* kf_device_close was called before the last of its handles */
    bool lost;                     /* a sticky driver error: every later call is KF_DEVICE_FAILED */
    uint64_t calls[KF_SLOT_COUNT]; /* slot calls, counted by the front end */
    int live;                      /* open handles that belong to the device, itself excluded */
    uint64_t cache_hits, cache_misses;
    char
        compiler[256]; /* by device_open: what program_build uses beside the driver, its version and
                          options of the user's; "" = the driver's own. Part of the cache's key */
};
struct kf_queue {
    kf_device *device;
    bool adopted, recording;
};
struct kf_buffer {
    kf_device *device;
    size_t bytes;
    int alignment; /* bytes of the address; set by the backend for wrapped buffers, else 0 = the
                      device's */
    bool adopted;
};
struct kf_program {
    kf_device *device;
};
struct kf_kernel {
    kf_device *device;
};
struct kf_recording {
    kf_device *device;
};

/* Front ends of core/device.c that only the project itself uses. */
kf_status kf_device_probe(kf_device *device, const char *experiment, int *answer);
kf_status kf_program_build(kf_device *device, const kf_program_desc *desc, kf_program **program);
kf_status kf_program_save(kf_program *program, void **data, size_t *bytes);
void kf_program_close(kf_program *program);
kf_status kf_kernel_open(kf_program *program, const char *entry, kf_kernel_info *info,
                         kf_kernel **kernel);
void kf_kernel_close(kf_kernel *kernel);
kf_status kf_launch_enqueue(kf_queue *queue, const kf_launch *launch);
kf_status kf_queue_native(kf_queue *queue, void **native);
kf_status kf_queue_mark(kf_queue *queue, int index);
kf_status kf_queue_elapsed(kf_queue *queue, int first, int last, double *seconds);
kf_status kf_record_begin(kf_queue *queue); /* KF_UNSUPPORTED without KF_CAP_REPLAY */
kf_status kf_record_end(kf_queue *queue, kf_recording **recording);
kf_status kf_replay(kf_queue *queue, kf_recording *recording);
void kf_recording_close(kf_recording *recording);

/* The generated table of backends (build/generated/registry.c), NULL-terminated. */
extern const kf_backend *const kf_backends[];
const kf_backend *kf_backend_find(const char *name); /* NULL when unknown */

/* core/error.c. Stores the sentence and returns the status: return kf_fail(KF_INVALID, "...", ...);
 */
kf_status kf_fail(kf_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* While muted (calls nest) kf_fail() keeps the sentence that is there: for cleaning up after a
 * failure. */
void kf_error_mute(bool mute);

/* core/facts.c. Where what was probed of a device is kept, lines such as "local_bytes=196608":
 * $XDG_CACHE_HOME/kfuse/devices/<backend>-<name>-<driver>.txt. "" when there is no such folder. */
const char *kf_device_facts_path(const kf_device_info *info, char *buffer, size_t bytes);
/* Raises the target's limits to what was probed. Only a file that nobody else could have written is
 * read. */
void kf_device_facts_read(kf_device_info *info);

/* core/cache.c. Builds through the cache of compiled kernels on disk (design 5, testing.md 15). */
kf_status kf_cache_build(kf_device *device, const kf_program_desc *desc, kf_program **program);
/* "" when there is no usable folder; the reason is then in `why`. */
const char *kf_cache_folder(char *buffer, size_t bytes, char *why, size_t why_bytes);

/* core/fault.c. A table that behaves like `inner` but for one call: the `nth` call (from 0) of
 * `slot` (KF_SLOT_COUNT = of any slot), and with `forever` every later one, fails with `status`.
 * One at a time; kf_fault_count() says how many such calls were seen since kf_fault_set(). */
typedef struct kf_fault {
    kf_slot slot;
    int nth;
    bool forever;
    kf_status status;
} kf_fault;
const kf_backend *kf_fault_wrap(const kf_backend *inner);
void kf_fault_set(const kf_fault *fault); /* NULL = none */
int kf_fault_count(void);
kf_status kf_device_open_on(const kf_backend *backend, const kf_device_desc *desc,
                            kf_device **device);

/* backends/null/null.c: what was recorded, for tests. Launch i (from 0) of a queue is entry i %
 * KF_NULL_LAUNCHES, the values with it; a launch inside a recording appears when it is replayed. */
enum { KF_NULL_LAUNCHES = 4096, KF_NULL_VALUES = 96 };
typedef struct kf_null_launch {
    char entry[64];
    kf_launch launch;
} kf_null_launch;
int kf_null_launch_count(const kf_queue *queue);
const kf_null_launch *kf_null_launches(const kf_queue *queue);

#endif
