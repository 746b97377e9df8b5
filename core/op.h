/* The contract an op fulfils: tensors, attributes, knobs, variants, plans with their cost,
 * reference. One file per op in ops/, found by name; everything users see of an op comes from these
 * tables. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_OP_H
#define KF_OP_H

#include <kfuse/kfuse.h>

enum {
    KF_MAX_TENSORS = 16,
    KF_MAX_ATTRIBUTES = 12,
    KF_MAX_DIMS = 6,
    KF_MAX_KNOBS = 16,
    KF_MAX_SCRATCH = 12,
    KF_MAX_STEPS = 24,
    KF_MAX_USES = 40,
    KF_MAX_DEFINES = 24
};

typedef struct kf_op kf_op;
typedef struct kf_variant kf_variant;

/* ---- tables ------------------------------------------------------------------------------- */

typedef enum kf_role { KF_INPUT = 1, KF_OUTPUT = 2 } kf_role;

typedef struct kf_tensor_decl {
    const char *name;
    kf_role role;
    bool optional;
    const char *alias; /* an output: inputs whose memory it may be (in place), "x y"; NULL = none */
    const char *dims;  /* names out of the op's dims, outermost first: "rows cols" */
    kf_dtype dtype;    /* KF_NONE = the problem's dtype (f32, f16, bf16); else this one, always */
    const char *below; /* of indices: the dim that bounds them; random inputs keep to it */
    const char *scalar; /* an attribute: where it is not 0, the tensor is one element */
    bool probabilities; /* what softmax gave: random rows are made to sum to 1 */
    const char *help;
} kf_tensor_decl;

typedef struct kf_attribute_decl {
    const char *name;
    bool real; /* double, else int64 */
    double fallback;
    const char *words; /* names of the values 0, 1, ...: "none tanh"; NULL = numbers */
    bool per_run;      /* an int64 that plans do not depend on: kernels take it as PER_RUN(index) */
    const char *help;
} kf_attribute_decl;

typedef struct kf_knob_decl {
    const char *name;     /* upper case; becomes -DNAME=value in both languages */
    const char *variants; /* the variants that read it: "fused fused_cluster" */
    int value_count;
    int64_t values[16]; /* the values a tuner may try and the compile test builds */
    const char *help;
} kf_knob_decl;

typedef struct kf_config { /* indexed like the op's knobs */
    int64_t knob[KF_MAX_KNOBS];
    bool set[KF_MAX_KNOBS]; /* by hand: defaults leave it alone */
} kf_config;

/* ---- problem ------------------------------------------------------------------------------ */

typedef struct kf_attribute {
    bool set;
    int64_t i;
    double f;
} kf_attribute;

struct kf_problem {
    const kf_op *op;
    kf_tensor tensor[KF_MAX_TENSORS];
    kf_attribute attribute[KF_MAX_ATTRIBUTES]; /* both i and f are filled, set or not */
    /* filled by the op's derive: */
    kf_dtype dtype;                     /* of the tensors whose decl leaves it open */
    int64_t dim[KF_MAX_DIMS];           /* in the order of op->dims */
    int64_t row_stride[KF_MAX_TENSORS]; /* elements from row to row, after folding leading axes */
    int64_t inner; /* elements behind the axis of an op of any axis; 1: the axis is the last */
    int64_t step[KF_MAX_TENSORS]; /* elements from one to the next along the axis, inner not 1 */
    bool empty;                   /* some dim is 0: success, nothing is launched */
};

/* ---- plan --------------------------------------------------------------------------------- */

typedef struct kf_ref { /* a tensor of the problem or a scratch array of the plan */
    bool scratch;
    int index;
} kf_ref;
#define KF_NO_REF ((kf_ref){.index = -1}) /* for READ_IF and WRITE_IF: scratch not needed here */

typedef enum kf_use_kind {
    KF_USE_READ,
    KF_USE_WRITE,
    KF_USE_INT,
    KF_USE_INT32,
    KF_USE_FLOAT,
    KF_USE_PER_RUN
} kf_use_kind;

/* One kernel parameter, and what the launch does with it. READ and WRITE are a global pointer
 * followed by its offset in elements; the others are by value. */
typedef struct kf_use {
    kf_use_kind kind;
    kf_ref ref;
    int64_t moved;     /* distinct elements per launch; 0 = all of the ref */
    int64_t requested; /* elements the loads ask for; 0 = moved, of a WRITE none */
    int64_t edge;      /* bytes of aligned over-read allowed inside the tensor; 0 = none */
    bool at_most;      /* data-dependent: moved and requested are upper limits */
    bool optional;     /* an absent optional tensor, or KF_NO_REF: a null pointer, nothing moved */
    int64_t i;
    double f;
} kf_use;

#define READ(r) ((kf_use){.kind = KF_USE_READ, .ref = (r)})
#define READ_PART(r, moved_elements, requested_elements)                                           \
    ((kf_use){.kind = KF_USE_READ,                                                                 \
              .ref = (r),                                                                          \
              .moved = (moved_elements),                                                           \
              .requested = (requested_elements)})
#define WRITE(r) ((kf_use){.kind = KF_USE_WRITE, .ref = (r)})
/* Counters, and what groups of one launch tell each other: written, and read back by the launch
 * itself, which asks for `requested_elements`. */
#define WRITE_READ(r, requested_elements)                                                          \
    ((kf_use){.kind = KF_USE_WRITE, .ref = (r), .requested = (requested_elements)})
/* Of optional tensors, which may be absent; 0 requested elements = each once. */
#define READ_IF(r, requested_elements)                                                             \
    ((kf_use){.kind = KF_USE_READ, .ref = (r), .requested = (requested_elements), .optional = true})
#define WRITE_IF(r) ((kf_use){.kind = KF_USE_WRITE, .ref = (r), .optional = true})
#define INT(value) ((kf_use){.kind = KF_USE_INT, .i = (value)})     /* 64 bits in the kernel */
#define INT32(value) ((kf_use){.kind = KF_USE_INT32, .i = (value)}) /* 32 bits */
#define FLOAT(value) ((kf_use){.kind = KF_USE_FLOAT, .f = (value)})
/* What the attribute of that index is at each run, 64 bits. */
#define PER_RUN(attribute) ((kf_use){.kind = KF_USE_PER_RUN, .i = (attribute)})
#define USES(...)                                                                                  \
    (const kf_use[]){__VA_ARGS__}, (int)(sizeof((const kf_use[]){__VA_ARGS__}) / sizeof(kf_use))

typedef struct kf_grid {
    int64_t groups;
    int threads;         /* per group */
    int cluster;         /* groups per cluster; 0 = none */
    int64_t local_bytes; /* local memory per group, becomes LOCAL_BYTES; 0 = none */
    int least_groups;    /* groups a unit must be able to hold; 0 = any */
    int register_cap;    /* 0 = the compiler's choice */
    bool arch_specific;  /* CUDA: needs sm_90a */
} kf_grid;

typedef struct kf_work {
    int64_t flops;    /* add, sub, mul, compare 1 each; fma 2 */
    int64_t specials; /* calls of exp, exp2, log, sqrt, rsqrt, ... and divisions, as executed */
    bool at_most;     /* specials depend on the data */
} kf_work;

typedef struct kf_define {
    char name[40];
    int64_t value;
} kf_define;

typedef struct kf_step { /* one kernel launch; other kinds of step come with the first op that needs
                            them */
    const char *source;  /* kernel file stem; the op's name unless set */
    const char *entry;
    kf_grid grid;
    kf_work work;
    int use_count, define_count;
    kf_use use[KF_MAX_USES];
    kf_define define[KF_MAX_DEFINES];
} kf_step;

typedef struct kf_scratch {
    const char *name;
    kf_dtype dtype;
    int64_t count; /* elements */
    size_t offset; /* bytes inside the workspace, a multiple of 256; by liveness */
    bool kept;     /* of kf_counter_ref: `offset` is inside the exec's own counters */
} kf_scratch;

/* What the plan does to accuracy; the reference turns it into bounds (testing.md 2). */
typedef struct kf_error_model {
    int64_t depth;      /* additions in the longest reduction: ceil(n/T) + log2(T) */
    int64_t rows_depth; /* of a second reduction, over rows */
    int64_t rescales;   /* of an online sum; 0 = two-pass */
    bool exp2;          /* exp(x) computed as exp2(x log2 e): the argument is rounded twice */
    kf_dtype
        intermediate; /* storage of matrix-sized intermediates; KF_NONE = kept in f32 registers */
} kf_error_model;

struct kf_plan {
    kf_problem problem; /* copies: a plan outlives what it was made from */
    const kf_variant *variant;
    kf_config config;
    kf_target target;
    kf_error_model error;
    int scratch_count, step_count;
    kf_scratch scratch[KF_MAX_SCRATCH];
    kf_step *step;        /* [KF_MAX_STEPS] */
    size_t scratch_bytes; /* of the workspace */
    size_t counter_bytes; /* of the exec's own memory, whatever workspace a run is given */
    const char *broken;   /* a builder ran out of room: kf_plan_check refuses */
};

/* Builders for plan functions; none fails visibly, kf_plan_check() finds what is wrong. */
kf_ref kf_tensor_ref(const kf_plan *plan, int tensor);      /* index in the op's table */
bool kf_use_absent(const kf_plan *plan, const kf_use *use); /* of a tensor the problem lacks */
kf_ref kf_scratch_ref(kf_plan *plan, const char *name, kf_dtype dtype, int64_t count);
/* Scratch that belongs to the exec and lasts: zero when it is prepared, and what a run leaves there
 * the next one finds, whatever workspace either was given. So a kernel by which groups meet needs
 * no launch that clears its counters; what it leaves must be what it can start from. Runs of one
 * exec follow one another (kf_run), so nobody else writes here. */
kf_ref kf_counter_ref(kf_plan *plan, const char *name, kf_dtype dtype, int64_t count);
kf_step *kf_plan_step(kf_plan *plan, const char *entry, kf_grid grid, kf_work work,
                      const kf_use *uses, int use_count);
void kf_step_define(kf_step *step, const char *name, int64_t value);
/* Every knob of the plan's variant as a define; the step's own are enough when named one by one. */
void kf_step_knob(kf_step *step, const kf_plan *plan, int knob);

/* Element count of a ref: distinct elements of a tensor (a broadcast counts once), scratch count.
 */
int64_t kf_ref_elements(const kf_plan *plan, kf_ref ref);
kf_dtype kf_ref_dtype(const kf_plan *plan, kf_ref ref);
const char *kf_ref_name(const kf_plan *plan, kf_ref ref);
kf_cost kf_step_cost(const kf_plan *plan, int step); /* launches = 1, scratch_bytes = 0 */

/* KF_INVALID when a step reads scratch before it is written, writes an input, leaves a tensor
 * unused, has no groups or too many, too many threads, or needs more local memory than the target
 * has. */
kf_status kf_plan_check(const kf_plan *plan);

/* ---- variants and ops --------------------------------------------------------------------- */

struct kf_variant {
    const char *name;
    const char *help;
    const char *tensors; /* optional tensors that this variant alone takes (ceilings: each roof its
                            own); NULL = those of the op */
    uint64_t needs;      /* capabilities of the target; missing ones are KF_UNSUPPORTED by name */
    /* Fills the knobs not set by hand. */
    void (*defaults)(const kf_problem *problem, const kf_target *target, kf_config *config);
    /* KF_OK, or KF_UNSUPPORTED with a sentence. May be NULL. */
    kf_status (*fits)(const kf_problem *problem, const kf_config *config, const kf_target *target);
    void (*plan)(kf_plan *plan, const kf_problem *problem, const kf_config *config,
                 const kf_target *target);
};

struct kf_op {
    const char *name;    /* file stem */
    const char *summary; /* one line */
    const char *formula; /* "y = exp(x - max(x)) / sum(exp(x - max(x))) over the last axis" */
    const char *dims;    /* "rows cols": order of --shape and of the case text */
    const char *with;    /* optional tensors of a case that does not name them: "weight" */
    /* The last dim may be any axis: the attribute `axis` names it, and what lies behind it is
     * kf_problem.inner, "inner" in the case text (rows=64 cols=1000 inner=33). Derived by
     * kf_derive_axis(). */
    bool any_axis;
    /* Where no shape is named, on GPUs and on CPU devices; 0 = many rows of some thousand columns.
     * An op with more than two dims has one. */
    int64_t usual[2][KF_MAX_DIMS];
    bool internal; /* a tool of the laboratory (ceilings): not a lesson's subject */
    const kf_tensor_decl *tensors;
    int tensor_count;
    const kf_attribute_decl *attributes;
    int attribute_count;
    const kf_knob_decl *knobs;
    int knob_count;
    /* Knobs that take other ways through the kernels than the defaults at small shapes do, each a
     * text like "ONLINE=1 BLOCK=32"; NULL-terminated, NULL = none. Tests visit them all. */
    const char *const *ways;
    const kf_variant *variants; /* the first is the baseline (unfused) */
    int variant_count;
    /* Turns tensors and attributes into dtype, dims and row strides, or refuses with a sentence.
     * kf_derive_rows() does it for ops whose tensors are rows. */
    kf_status (*derive)(kf_problem *problem);
    /* The variant used when none is named; NULL = "fused_cpu" on CPU devices when it exists, else
     * "fused", else the first. */
    const char *(*choose)(const kf_problem *problem, const kf_target *target);
    /* Elements first .. first+count-1 (C order over the derived dims) of one output in double, each
     * with its bound. inputs[i] is the host copy of tensor i as stored (its own strides), NULL for
     * outputs. A negative bound: whatever comes is right, as of a product of
     * infinity and something that may have been flushed to 0. */
    kf_status (*reference)(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound);
};

extern const kf_op *const kf_ops[]; /* generated; NULL-terminated, by name */
const kf_op *kf_op_find(const char *name);
const kf_variant *kf_op_variant(const kf_op *op, const char *name);
int kf_op_knob(const kf_op *op, const char *name); /* -1 */
int kf_op_dim(const kf_op *op, const char *name);  /* -1 */
int kf_op_dim_count(const kf_op *op);
bool kf_listed(const char *list, const char *word); /* words separated by single spaces */
bool kf_knob_used(const kf_knob_decl *knob, const char *variant);
void kf_config_default(kf_config *config, int knob, int64_t value); /* unless set by hand */

/* ---- problem.c ---------------------------------------------------------------------------- */

/* Is the tensor one element, whatever its dims, because an attribute says so (decl.scalar)? */
bool kf_problem_scalar(const kf_problem *problem, int tensor);
/* Contiguous tensors for the given dims (order of op->dims): the required ones, and of the optional
 * ones those listed in `optional` ("b c", usually a variant's `tensors`; NULL = none). Attributes
 * that shapes hang on are set before. */
kf_status kf_problem_shape(kf_problem *problem, kf_dtype dtype, const int64_t *dims,
                           const char *optional);
/* Checks presence, dtypes and roles against the table, then calls derive. Idempotent. */
kf_status kf_problem_derive(kf_problem *problem);
/* For ops on rows: every tensor declared with the dims "A B" has its last axis as B (stride 1) and
 * its leading axes folded into A with one row stride; a tensor "B" or "A" is one-dimensional.
 * Refuses axes that do not fold, overlapping output rows, negative strides, dims that disagree,
 * extents that overflow. */
kf_status kf_derive_rows(kf_problem *problem);
/* For ops of any axis: as kf_derive_rows() where nothing lies behind the axis, else every tensor is
 * [rows..., cols, inner...]: leading axes fold into rows, trailing ones into `inner` contiguous
 * elements, and step[] is the stride of the axis. (axis.c) */
kf_status kf_derive_axis(kf_problem *problem);
/* Axis of the last dim of a tensor that is derived already; -1 = it has none. */
int kf_axis_of(const kf_problem *problem, int tensor);
/* Its size: elements of a row, which need not be neighbours. */
int64_t kf_axis_size(const kf_problem *problem, int tensor);
/* The tensor with that axis moved behind all others: its rows are lines again. */
kf_tensor kf_axis_last(const kf_problem *problem, int tensor);
/* kf_problem_shape() with `inner` elements behind the axis, whose lines lie line[tensor] elements
 * apart (0 = inner). */
kf_status kf_problem_shape_inner(kf_problem *problem, kf_dtype dtype, const int64_t *dims,
                                 int64_t inner, const int64_t *line);
/* Elements from the first to one past the last that the tensor touches. KF_INVALID on overflow. */
kf_status kf_tensor_extent(const kf_tensor *tensor, int64_t *extent);
int64_t kf_tensor_elements(const kf_tensor *tensor);
/* Offset of element `index` (C order over the tensor's sizes). */
int64_t kf_tensor_offset(const kf_tensor *tensor, int64_t index);
/* Folds axes first .. end-1 into one of `*count` places with one `*stride`. An axis of size 1 folds
 * always. */
bool kf_tensor_fold(const kf_tensor *tensor, int first, int end, int64_t *count, int64_t *stride);
/* Bytes of alignment that every row start of a tensor keeps: from its promise, row stride and
 * dtype. */
int kf_row_alignment(const kf_problem *problem, int tensor);

/* ---- values of the storage types, on the host (value.c) ----------------------------------- */

double kf_load(const void *data, kf_dtype dtype, int64_t index);
void kf_store(void *data, kf_dtype dtype, int64_t index,
              double value);              /* nearest even; NaN stays NaN */
double kf_dtype_roundoff(kf_dtype dtype); /* u_s: 2^-24, 2^-11, 2^-8 */
double kf_dtype_floor(kf_dtype dtype);    /* F of testing.md 2.1 */
double kf_dtype_max(kf_dtype dtype);      /* largest finite value */

/* ---- exec.c: what the laboratory may ask of an exec ---------------------------------------- */

const kf_plan *kf_exec_plan(const kf_exec *exec);
struct kf_kernel_info;
/* Registers, spills and local memory of the kernel of one step. */
kf_status kf_exec_kernel_info(const kf_exec *exec, int step, struct kf_kernel_info *info);
/* Runs one step alone (bench --steps): the same launch as inside kf_run. */
kf_status kf_run_step(kf_exec *exec, kf_queue *queue, int step, const kf_binding *bindings,
                      kf_buffer *workspace);

/* ---- case.c: one text form, OP VARIANT DTYPE dim=N [inner=N] [with=TENSOR,...]
 * [attribute=V, attr.seed=V] [KNOB=N] [stride.T=N] [offset.T=N] seed=N -- */

typedef struct kf_case {
    const kf_op *op;
    const kf_variant *variant; /* NULL = the op's choice, written "default" */
    kf_dtype dtype;
    int64_t dim[KF_MAX_DIMS];
    int64_t inner; /* elements behind the axis of an op of any axis; 0 = 1 */
    bool with_set; /* the optional tensors are those of `with`, not the op's usual ones */
    uint32_t with; /* bit i: tensor i of the op's table */
    kf_attribute attribute[KF_MAX_ATTRIBUTES];
    kf_config config;
    int64_t stride[KF_MAX_TENSORS]; /* row stride in elements, with `inner` that of its lines; 0 =
                                       contiguous */
    int64_t offset[KF_MAX_TENSORS]; /* elements; 0 = none */
    uint64_t seed;
} kf_case;

kf_status kf_case_parse(const char *text, kf_case *out);
/* "weight,bias", or "none": the optional tensors a case has. */
kf_status kf_case_with(kf_case *c, const char *list);
/* The list that kf_case_with takes; "" when the case has the op's usual ones. */
void kf_case_with_print(const kf_case *c, char *text, size_t bytes);
/* A number, or one of the attribute's words. */
kf_status kf_attribute_parse(const kf_attribute_decl *decl, const char *text, kf_attribute *out);
/* The word of the value, where it has one, else the number. */
void kf_attribute_print(const kf_attribute_decl *decl, const kf_attribute *value, char *text,
                        size_t bytes);
/* Length as snprintf; only what differs from the defaults is written. */
int kf_case_print(const kf_case *c, char *buffer, size_t bytes);
/* The problem of a case: tensors with its strides, and alignments that its offsets leave. */
kf_status kf_case_problem(const kf_case *c, kf_problem *problem);
/* Nearest of the choices by edit distance, NULL when nothing is near: for "did you mean". */
const char *kf_nearest(const char *word, const char *const *choices, int count);

#endif
