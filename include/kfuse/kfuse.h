/* kfuse: fused GPU kernels and their unfused twins on CUDA and OpenCL, from C.
 *
 * In the manner of FFTW: describe a problem (an op, its tensors, its attributes), make a plan for a
 * target, prepare the plan on a device once, run it many times on buffers and queues of your own.
 *
 *     kf_device_open(&(kf_device_desc){.backend = "cuda"}, &device);
 *     kf_queue_open(device, NULL, &queue);
 *     kf_buffer_open(device, &(kf_buffer_desc){.bytes = 2 * 4096 * 4096 * 4}, &buffer);
 *     kf_tensor_contiguous(KF_F32, 2, (int64_t[]){4096, 4096}, &x);
 *     kf_problem_open("softmax", &problem);
 *     kf_problem_tensor(problem, "x", &x);          shapes and strides, no data
 *     kf_problem_tensor(problem, "y", &x);
 *     kf_plan_open(problem, NULL, kf_device_target(device), &plan);
 *     kf_prepare(plan, device, &exec);              compiles, loads, allocates
 *     kf_binding bindings[] = {{buffer, 0}, {buffer, 4096 * 4096}};     in the op's order
 *     kf_run(exec, queue, bindings, NULL);          only enqueues
 *     kf_queue_finish(queue);
 *
 * <kfuse/calls.h> has the same as one line: kf_softmax(calls, &x, &y, NULL).
 *
 * Errors: every call returns a kf_status; for anything but KF_OK, kf_error() holds one sentence
 * of this thread that names the call, the code and what can be done. The library prints nothing,
 * never exits and starts no process.
 *
 * Threads: a device and what was made from it is used by one thread at a time; several devices may
 * be used by several threads. Problems and plans are plain data and belong to their maker.
 *
 * Units: sizes and strides of tensors count elements, everything named `bytes` counts bytes, times
 * are seconds. SPDX-License-Identifier: Apache-2.0 */
#ifndef KFUSE_H
#define KFUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KF_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define KF_API __attribute__((visibility("default")))
#else
#define KF_API
#endif

/* ---- errors ------------------------------------------------------------------------------- */

typedef enum kf_status {
    KF_OK = 0,
    KF_UNAVAILABLE,   /* a backend, driver, device or library that is not here */
    KF_UNSUPPORTED,   /* here, but it cannot do this */
    KF_INVALID,       /* the caller's arguments are wrong */
    KF_OUT_OF_MEMORY, /* host or device */
    KF_BUILD_FAILED,  /* a kernel does not compile or load */
    KF_DEVICE_FAILED, /* the driver reported a failure */
    KF_WRONG_RESULT,  /* verification failed */
    KF_IO             /* a file could not be read or written, or is not what it should be */
} kf_status;

KF_API const char *kf_status_name(kf_status status); /* "KF_INVALID" */
KF_API const char *kf_error(void);                   /* never NULL; "" before the first error */
KF_API const char *kf_version(void);

/* ---- tensors ------------------------------------------------------------------------------ */

typedef enum kf_dtype {
    KF_NONE = 0,
    KF_F32 = 1,
    KF_F16 = 2,
    KF_BF16 = 3,
    KF_I32 = 4,
    KF_I64 = 5
} kf_dtype;

KF_API int kf_dtype_bytes(kf_dtype dtype);        /* 0 for KF_NONE */
KF_API const char *kf_dtype_name(kf_dtype dtype); /* "f32", "f16", "bf16", "i32", "i64" */
KF_API kf_dtype kf_dtype_parse(const char *name); /* KF_NONE when unknown */

#define KF_MAX_RANK 8

typedef struct kf_tensor { /* all zero = absent */
    kf_dtype dtype;
    int rank;
    int64_t size[KF_MAX_RANK];
    int64_t stride[KF_MAX_RANK]; /* elements; 0 = broadcast (inputs only) */
    int32_t alignment;           /* bytes promised for the bound address, offset included;
                                    0 = element size; checked by kf_run against the offset */
} kf_tensor;

/* A contiguous tensor in C order. KF_INVALID on a bad rank, a negative size or an overflow. */
KF_API kf_status kf_tensor_contiguous(kf_dtype dtype, int rank, const int64_t *size,
                                      kf_tensor *out);

/* ---- devices ------------------------------------------------------------------------------ */

enum {                      /* kf_target.capabilities */
       KF_CAP_CPU = 1 << 0, /* the device is a CPU: barriers are dear, one item runs at a time */
       KF_CAP_SHUFFLE = 1 << 1,   /* registers of a warp can be exchanged: CUDA; in OpenCL by inline
                                     PTX or, with KF_CAP_SUBGROUPS, by sub-group functions */
       KF_CAP_CLUSTERS = 1 << 2,  /* groups of a cluster share their local memory */
       KF_CAP_REPLAY = 1 << 3,    /* a recorded sequence of launches can be replayed */
       KF_CAP_PTX = 1 << 4,       /* inline PTX of `compute_capability` */
       KF_CAP_F64 = 1 << 5,       /* double in kernels */
       KF_CAP_TIMER = 1 << 6,     /* marks carry device times (else the host clock stands in) */
       KF_CAP_SIMULATOR = 1 << 7, /* an interpreter: minutes where a device takes seconds */
       KF_CAP_SUBGROUPS = 1 << 8, /* OpenCL: kernels demand sub-groups of `warp` work-items */
};

typedef struct kf_target { /* limits and capabilities as plain data: all that a plan may know */
    uint64_t capabilities;
    int compute_capability;       /* NVIDIA: 90 for 9.0; 0 elsewhere */
    int units;                    /* multiprocessors, compute units */
    int warp;                     /* width of a warp or sub-group; 1 where there is none */
    int max_threads;              /* per group */
    int max_threads_per_unit;     /* resident; 0 = unknown */
    int max_cluster;              /* groups per cluster; 0 without KF_CAP_CLUSTERS */
    int64_t local_bytes;          /* static local memory of one group: advertised or probed */
    int64_t local_bytes_per_unit; /* 0 = unknown */
    int64_t registers_per_unit;   /* 32-bit registers; 0 = unknown */
    int64_t cache_bytes;          /* last level cache; 0 = unknown or not to be trusted */
    int64_t memory_bytes;
    int64_t max_buffer_bytes; /* one allocation */
    int64_t max_groups;       /* groups of one launch */
    int64_t max_turns;        /* of all loops of a work-item, after which they end; 0 = no limit */
    int base_alignment;       /* bytes; of a fresh buffer */
} kf_target;

typedef struct kf_device_info {
    char backend[16]; /* "cuda" */
    char id[24];      /* "cuda:0", "opencl:1.0": an order the loader decides, see name and uuid */
    char name[128];
    char platform[96];
    char driver[96];
    char arch[32]; /* "sm_90"; "" where unknown */
    char pci[24];  /* "0000:1a:00.0"; "" where unknown */
    uint8_t uuid[16];
    bool has_uuid;
    kf_target target;
} kf_device_info;

typedef struct kf_device kf_device;
typedef struct kf_queue kf_queue;
typedef struct kf_buffer kf_buffer;

typedef struct kf_device_desc { /* all zero = the first device of any backend */
    const char *backend;        /* "cuda", "opencl", "null"; NULL = any */
    int index;                  /* of kf_device_enumerate() of that backend */
    bool adopt;          /* use `native`, the caller's own context, and leave it alone at close */
    void *native;        /* CUcontext; cl_context */
    void *native_device; /* cl_device_id; unused by CUDA */
    bool read_kernels;   /* honour KFUSE_KERNELS=dir: kernel texts from disk */
    bool no_cache;       /* do not read or write compiled kernels on disk */
    const kf_target *target; /* null backend: the target to pretend; NULL = generic */
} kf_device_desc;

/* How many devices a backend has; fills at most `capacity` entries. KF_UNAVAILABLE names what is
 * missing. Drivers may abort the process here: tools should ask in a child. */
KF_API kf_status kf_device_enumerate(const char *backend, kf_device_info *list, int capacity,
                                     int *count);
KF_API kf_status kf_device_open(const kf_device_desc *desc, kf_device **device);
KF_API void kf_device_close(kf_device *device); /* NULL is fine */
KF_API const kf_device_info *kf_device_describe(const kf_device *device);
KF_API const kf_target *kf_device_target(const kf_device *device);
KF_API bool kf_device_same(const kf_device_info *a,
                           const kf_device_info *b); /* one physical GPU? */
KF_API const kf_target *kf_target_generic(void);

typedef struct kf_queue_desc { /* all zero = a new in-order queue with timing */
    bool adopt;                /* use `native`; a NULL stream is a valid stream */
    void *native;              /* CUstream; cl_command_queue */
} kf_queue_desc;

KF_API kf_status kf_queue_open(kf_device *device, const kf_queue_desc *desc, kf_queue **queue);
KF_API void kf_queue_close(kf_queue *queue);
KF_API kf_status kf_queue_finish(kf_queue *queue); /* KF_INVALID for an adopted queue */
KF_API kf_status kf_queue_wait(kf_queue *queue,
                               kf_queue *other); /* later work of queue after other */

typedef struct kf_buffer_desc {
    size_t bytes;
    bool adopt;           /* wrap `native`, which stays the caller's */
    void *native;         /* CUdeviceptr cast to a pointer; cl_mem */
    size_t native_offset; /* of the wrapped range inside `native`, in bytes; of a cl_mem a multiple
                             of the device's alignment of buffers, else kf_binding.offset serves */
} kf_buffer_desc;

KF_API kf_status kf_buffer_open(kf_device *device, const kf_buffer_desc *desc, kf_buffer **buffer);
KF_API void kf_buffer_close(kf_buffer *buffer);
/* write and read return when the host memory may be reused; they wait for the queue's earlier work
 */
KF_API kf_status kf_buffer_write(kf_queue *queue, kf_buffer *buffer, size_t offset,
                                 const void *data, size_t bytes);
KF_API kf_status kf_buffer_read(kf_queue *queue, kf_buffer *buffer, size_t offset, void *data,
                                size_t bytes);
/* pattern_bytes is 1, 2 or 4; offset and bytes are multiples of it. Enqueued. */
KF_API kf_status kf_buffer_fill(kf_queue *queue, kf_buffer *buffer, size_t offset, size_t bytes,
                                uint32_t pattern, int pattern_bytes);
KF_API kf_status kf_buffer_copy(kf_queue *queue, kf_buffer *to, size_t to_offset, kf_buffer *from,
                                size_t from_offset, size_t bytes);

/* ---- problems, plans, execs --------------------------------------------------------------- */

typedef struct kf_problem kf_problem;
typedef struct kf_plan kf_plan;
typedef struct kf_exec kf_exec;

KF_API kf_status kf_problem_open(const char *op, kf_problem **problem);
KF_API void kf_problem_close(kf_problem *problem);
KF_API kf_status kf_problem_tensor(kf_problem *problem, const char *name, const kf_tensor *tensor);
KF_API kf_status kf_problem_int(kf_problem *problem, const char *name, int64_t value);
KF_API kf_status kf_problem_float(kf_problem *problem, const char *name, double value);
/* Place of a tensor in the op's table, which is its place among the bindings; -1 = no such name. */
KF_API int kf_problem_index(const kf_problem *problem, const char *name);

typedef struct kf_plan_desc { /* all zero = the op's default variant with default knobs */
    const char *variant;      /* NULL = the op's choice for this target */
    const char *knobs;        /* "BLOCK=512 VECS=4"; NULL = defaults */
} kf_plan_desc;

/* Checks the problem against the op's tables and makes a plan: a pure function of its arguments.
 * KF_INVALID: tensors or attributes the op refuses; KF_UNSUPPORTED: the variant does not fit. */
KF_API kf_status kf_plan_open(kf_problem *problem, const kf_plan_desc *desc,
                              const kf_target *target, kf_plan **plan);
KF_API void kf_plan_close(kf_plan *plan);

typedef struct kf_cost {
    int launches;
    int64_t bytes_read, bytes_written; /* moved: each distinct element once per launch */
    int64_t bytes_requested;           /* reads as the loads ask for them: times passes */
    int64_t flops;
    int64_t specials; /* exp, divide and their kind, padding lanes included */
    int64_t scratch_bytes;
    bool exact; /* false: an upper limit, traffic depends on the data */
} kf_cost;

KF_API kf_cost kf_plan_cost(const kf_plan *plan);

KF_API kf_status kf_prepare(const kf_plan *plan, kf_device *device, kf_exec **exec);
KF_API void kf_exec_close(kf_exec *exec);
KF_API size_t kf_exec_workspace_bytes(const kf_exec *exec);
/* Another value, from the next kf_run on, of an attribute that plans do not depend on
 * (kf_attribute_info.per_run: the seed of dropout). KF_INVALID for every other one. */
KF_API kf_status kf_exec_int(kf_exec *exec, const char *attribute, int64_t value);

typedef struct kf_binding { /* all zero for an absent optional tensor */
    kf_buffer *buffer;
    int64_t offset; /* elements from the start of the buffer */
} kf_binding;

/* Enqueues the plan's steps on `queue` and returns: no allocation, no synchronisation, no look-up
 * by name, legal inside a recording or stream capture. `bindings` has one entry per tensor of the
 * op's table, in its order (kf_problem_index). `workspace` holds at least
 * kf_exec_workspace_bytes(), at an address of 16-byte alignment, or is NULL for the exec's own,
 * allocated by kf_prepare. One exec is in flight on one queue at a time. The groups of a plan of
 * variant fused_split wait for one another: two of these at once on queues of different priority
 * may wait for each other's places for ever.
 */
KF_API kf_status kf_run(kf_exec *exec, kf_queue *queue, const kf_binding *bindings,
                        kf_buffer *workspace);

/* ---- calls -------------------------------------------------------------------------------- */

/* One line per call: <kfuse/calls.h> has kf_softmax(), kf_layer_norm() and so on, made from the
 * ops' tables. Each prepares an exec when it first sees these shapes, strides and options, keeps it
 * among `calls`, and from then on only enqueues. What is said of kf_run holds for them. */

typedef struct kf_operand { /* a tensor and where it lies */
    kf_buffer *buffer;
    int64_t offset; /* elements from the start of the buffer */
    kf_tensor tensor;
} kf_operand;

typedef union kf_number { /* value of an attribute: a whole number or a real one */
    int64_t i;
    double f;
} kf_number;

typedef struct kf_calls kf_calls;

/* Execs for one queue, which outlives them. `capacity` 0 = 64. A call that finds no room closes the
 * exec that was used longest ago, and waits for the queue before: the one wait behind the caller's
 * back; give a capacity that holds what the program uses. Options are part of what an exec is
 * prepared for, but for those of each run (the seed of dropout).
 *
 * Only a call that finds its exec ready is legal inside a stream capture. A graph made so uses the
 * exec's kernels and scratch memory: it is launched on the same queue, or ordered after it, and not
 * after its exec has gone with `calls` or to make room. */
KF_API kf_status kf_calls_open(kf_queue *queue, int capacity, kf_calls **calls);
KF_API void kf_calls_close(kf_calls *calls);      /* waits for the queue; NULL is fine */
KF_API int kf_calls_ready(const kf_calls *calls); /* execs that are kept */

/* What the typed calls come down to: `operands` and `numbers` in the order of the op's tables; NULL
 * in place of an absent optional tensor, NULL for `numbers` = the op's defaults. */
KF_API kf_status kf_call(kf_calls *calls, const char *op, const kf_operand *const *operands,
                         const kf_number *numbers);

/* ---- what there is ------------------------------------------------------------------------ */

/* The ops' tables as plain data, for languages that make their own calls of them: the Python
 * package is made of these and kf_call. Ops are those of <kfuse/calls.h>, by name, from 0 on; the
 * texts are the library's and last. Lists are words separated by single spaces, "" where there is
 * nothing. */
typedef struct kf_op_info {
    const char *name;    /* "layer_norm" */
    const char *summary; /* one line */
    const char *formula; /* "y = ..." */
    const char *dims;    /* "rows cols" */
    int tensor_count, attribute_count;
    bool any_axis; /* the last dim is the one axis that the attribute `axis` names, wherever */
} kf_op_info;

/* How shapes follow from `dims`: the last words are one axis each and what stands before folds into
 * the first, so [2, 3, 8] is "rows cols" with 6 rows. With an attribute `axis`, the axes from that
 * one on are the last word; with any_axis that one alone, and the other axes are the first. */
typedef struct kf_tensor_info {
    const char *name;
    const char *dims;     /* out of the op's: "rows cols" */
    const char *in_place; /* of an output: inputs whose memory it may be, element for element */
    const char *scalar;   /* an attribute: where it is not 0, the tensor is one element */
    const char *below;    /* of indices: the dim that bounds them */
    const char *help;
    kf_dtype dtype; /* KF_NONE: f32, f16 or bf16, the same for all such tensors of the op */
    bool output;
    bool optional;
} kf_tensor_info;

typedef struct kf_attribute_info {
    const char *name;
    const char *words; /* names of the values 0, 1, ...: "none tanh" */
    const char *help;
    double fallback;
    bool real;    /* double, else a whole number */
    bool per_run; /* another value needs no new exec: kf_exec_int, and kf_call by itself */
} kf_attribute_info;

KF_API int kf_op_count(void);
KF_API kf_status kf_op_describe(int op, kf_op_info *info);
KF_API kf_status kf_op_tensor(int op, int tensor, kf_tensor_info *info); /* in table order */
KF_API kf_status kf_op_attribute(int op, int attribute, kf_attribute_info *info);

#ifdef __cplusplus
}
#endif

/* The ops' names (KF_OP_SOFTMAX, ...), generated from their tables. */
#if defined(__has_include)
#if __has_include(<kfuse/ops.h>)
#include <kfuse/ops.h>
#endif
#endif

#endif
