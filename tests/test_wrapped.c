/* label: opencl */
/* Calls on the caller's own cl_mem: parts of it, odd offsets inside a part, memory of the host that
 * begins anywhere. Results are judged by the ops' references, and whatever lies around them must be
 * what it was. SPDX-License-Identifier: Apache-2.0 */
#include "opencl_rig.h"

#include <kfuse/calls.h>

#include "../core/op.h"
#include "../harness/verify.h"

enum { SLOT = 1 << 13, SLOTS = 6, ALL = SLOT * SLOTS, COLUMNS = 64, ROWS = 5 };

/* Op, dtype, more. */
static const char *const cases[][3] = {
    {"softmax", "f32", ""}, {"rms_norm", "f16", ""},     {"layer_norm", "f32", "with=weight,bias"},
    {"swiglu", "bf16", ""}, {"add_rms_norm", "f32", ""}, {"bias_gelu", "f32", ""},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef enum place_kind {
    PARTS,       /* each tensor in a wrapped part of its own, an odd element of it on */
    ONE_BUFFER,  /* all in one wrapped buffer, by their offsets alone */
    HOST_MEMORY, /* the buffer is host memory that is aligned for one element only */

} place_kind;

typedef struct trial {
    kf_plan *plan; /* for the tensors and the reference */
    place_kind placing;
    kf_buffer *part[SLOTS];
    kf_operand operand[KF_MAX_TENSORS];
    const kf_operand *operands[KF_MAX_TENSORS];
    size_t at[KF_MAX_TENSORS]; /* byte of the cl_mem where the tensor begins */
    uint8_t *host;
    unsigned char before[ALL], after[ALL];
} trial;

static const kf_op *op_of(const trial *t)
{
    return t->plan->problem.op;
}

static size_t tensor_bytes(const trial *t, int i)
{
    int64_t extent = 0;
    const kf_tensor *tensor = &t->plan->problem.tensor[i];
    ASSERT_OK(kf_tensor_extent(tensor, &extent));
    return (size_t)(extent * kf_dtype_bytes(tensor->dtype));
}

/* ---- the caller's memory ----------------------------------------------------------------------
 */

static cl_mem make_native(test_rig *rig, trial *t, int element)
{
    cl_int code = 0;
    cl_mem_flags flags = CL_MEM_READ_WRITE;
    void *place = NULL;
    if (t->placing == HOST_MEMORY) {
        assert_int_equal(posix_memalign((void **)&t->host, 4096, ALL + 64), 0);
        place = t->host + element;
        flags |= CL_MEM_USE_HOST_PTR;
    }
    cl_mem native =
        cl.clCreateBuffer(opencl_device_of(rig->device)->context, flags, ALL, place, &code);
    assert_int_equal(code, CL_SUCCESS);
    code = cl.clEnqueueWriteBuffer(opencl_queue_of(rig->queue)->queue, native, CL_TRUE, 0, ALL,
                                   t->before, 0, NULL, NULL);
    assert_int_equal(code, CL_SUCCESS);
    return native;
}

/* Where tensor i lies: `skip` bytes into its slot, `odd` elements further. */
static void place_tensor(trial *t, int i, int slot, size_t skip)
{
    const kf_tensor *tensor = &t->plan->problem.tensor[i];
    const int size = kf_dtype_bytes(tensor->dtype), odd = t->placing == HOST_MEMORY ? 0 : 1 + 2 * i;
    const size_t begin = (size_t)slot * SLOT + skip;
    t->at[i] = begin + (size_t)(odd * size);
    t->operand[i].tensor = *tensor;
    t->operand[i].tensor.alignment = 0;
    t->operand[i].offset = t->placing == PARTS ? odd : (int64_t)t->at[i] / size;
    t->operands[i] = &t->operand[i];
    if (op_of(t)->tensors[i].role == KF_INPUT)
        kf_inputs_fill_tensor(&t->plan->problem, i, t->before + t->at[i], KF_DIST_NORMAL, 7);
}

static void wrap(test_rig *rig, trial *t, cl_mem native, size_t skip)
{
    for (int i = 0, slot = 0; i < op_of(t)->tensor_count; i++) {
        if (!t->operands[i])
            continue;
        const size_t begin = (size_t)slot * SLOT + skip;
        const kf_buffer_desc desc = {.bytes = t->placing == PARTS ? SLOT - skip : ALL,
                                     .adopt = true,
                                     .native = native,
                                     .native_offset = t->placing == PARTS ? begin : 0};
        if (t->placing == PARTS || !slot)
            ASSERT_OK(kf_buffer_open(rig->device, &desc, &t->part[slot]));
        t->operand[i].buffer = t->part[t->placing == PARTS ? slot : 0];
        slot++;
    }
}

/* ---- judging ----------------------------------------------------------------------------------
 */

static void judge(const trial *t, const char *text, int output)
{
    double value[ROWS * COLUMNS], bound[ROWS * COLUMNS];
    const void *inputs[KF_MAX_TENSORS] = {NULL};
    kf_verify_report report;
    const kf_problem *problem = &t->plan->problem;
    const kf_tensor *tensor = &problem->tensor[output];
    for (int i = 0; i < op_of(t)->tensor_count; i++)
        if (t->operands[i] && op_of(t)->tensors[i].role == KF_INPUT)
            inputs[i] = t->before + t->at[i];
    const int64_t count = (int64_t)tensor_bytes(t, output) / kf_dtype_bytes(tensor->dtype);
    ASSERT_OK(
        op_of(t)->reference(problem, &t->plan->error, inputs, output, 0, count, value, bound));
    kf_compare(tensor->dtype, t->after + t->at[output], value, bound, count, &report);
    if (!report.passed)
        fail_msg("%s, placing %d: %s", text, t->placing, report.reason);
}

static void judge_all(trial *t, const char *text)
{
    for (int i = 0; i < op_of(t)->tensor_count; i++)
        if (t->operands[i] && op_of(t)->tensors[i].role == KF_OUTPUT) {
            judge(t, text, i);
            memcpy(t->before + t->at[i], t->after + t->at[i], tensor_bytes(t, i));
        }
    for (int i = 0; i < ALL; i++)
        if (t->before[i] != t->after[i])
            fail_msg("%s, placing %d: byte %d is another", text, t->placing, i);
}

/* ---- trials -----------------------------------------------------------------------------------
 */

/* What a call without options comes to. */
static kf_plan *plan_of(const char *text, kf_device *device)
{
    kf_case c;
    kf_problem *problem;
    kf_plan *plan;
    ASSERT_OK(kf_case_parse(text, &c));
    ASSERT_OK(kf_problem_open(c.op->name, &problem));
    ASSERT_OK(kf_case_problem(&c, problem));
    ASSERT_OK(kf_plan_open(problem, NULL, kf_device_target(device), &plan));
    kf_problem_close(problem);
    return plan;
}

static void open_trial(trial *t, const char *text, kf_device *device, place_kind placing,
                       size_t skip)
{
    memset(t, 0, sizeof *t);
    t->placing = placing;
    memset(t->before, 0xa5, ALL);
    t->plan = plan_of(text, device);
    for (int i = 0, slot = 0; i < op_of(t)->tensor_count; i++)
        if (t->plan->problem.tensor[i].dtype)
            place_tensor(t, i, slot++, skip);
}

static void check_call(test_rig *rig, kf_calls *calls, const char *const words[3],
                       place_kind placing)
{
    static trial t; /* of many KiB */
    char text[128];
    const size_t skip =
        placing == PARTS ? (size_t)kf_device_target(rig->device)->base_alignment : 0;
    snprintf(text, sizeof text, "%s unfused %s rows=%d cols=%d %s", words[0], words[1], ROWS,
             COLUMNS, words[2]);
    open_trial(&t, text, rig->device, placing, skip);
    cl_mem native = make_native(rig, &t, kf_dtype_bytes(t.plan->problem.dtype));
    wrap(rig, &t, native, skip);
    ASSERT_OK(kf_call(calls, op_of(&t)->name, t.operands, NULL));
    const cl_int code = cl.clEnqueueReadBuffer(opencl_queue_of(rig->queue)->queue, native, CL_TRUE,
                                               0, ALL, t.after, 0, NULL, NULL);
    assert_int_equal(code, CL_SUCCESS);
    judge_all(&t, text);
    for (int i = 0; i < SLOTS; i++)
        kf_buffer_close(t.part[i]);
    cl.clReleaseMemObject(native);
    kf_plan_close(t.plan);
    free(t.host);
}

static void check_placing(test_rig *rig, place_kind placing)
{
    kf_calls *calls;
    ASSERT_OK(kf_calls_open(rig->queue, 0, &calls));
    for (int i = 0; i < CASES; i++)
        check_call(rig, calls, cases[i], placing);
    kf_calls_close(calls);
}

static void check_parts(test_rig *rig)
{
    check_placing(rig, PARTS);
}

/* Catches: a part's place or a binding's offset counted twice, not at all, or in the wrong unit. */
static void parts_with_odd_offsets(void **state)
{
    (void)state;
    on_each_device(check_parts);
}

static void check_one_buffer(test_rig *rig)
{
    check_placing(rig, ONE_BUFFER);
}

/* Catches: whole vectors where a row begins between them; one tensor's offset used for another. */
static void all_tensors_in_one_buffer(void **state)
{
    (void)state;
    on_each_device(check_one_buffer);
}

/* A plan of whole vectors, on memory that was promised to be aligned for them and is not. */
static void check_promise(test_rig *rig)
{
    static _Alignas(64) float memory[COLUMNS + 1];
    kf_case c;
    kf_problem *problem;
    kf_plan *plan;
    kf_exec *exec;
    kf_binding binding[KF_MAX_TENSORS] = {{.buffer = NULL}};
    cl_int code = 0;
    cl_mem native = cl.clCreateBuffer(opencl_device_of(rig->device)->context,
                                      CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR,
                                      COLUMNS * sizeof *memory, memory + 1, &code);
    assert_int_equal(code, CL_SUCCESS);
    const kf_buffer_desc wrap = {
        .bytes = COLUMNS * sizeof *memory, .adopt = true, .native = native};
    ASSERT_OK(kf_case_parse("softmax fused f32 rows=1 cols=64", &c));
    ASSERT_OK(kf_problem_open("softmax", &problem));
    ASSERT_OK(kf_case_problem(&c, problem)); /* promises what a buffer of the library's has */
    ASSERT_OK(kf_plan_open(problem, &(kf_plan_desc){.variant = "fused"},
                           kf_device_target(rig->device), &plan));
    ASSERT_OK(kf_prepare(plan, rig->device, &exec));
    ASSERT_OK(kf_buffer_open(rig->device, &wrap, &binding[0].buffer));
    binding[1] = binding[0];
    ASSERT_STATUS(kf_run(exec, rig->queue, binding, NULL), KF_INVALID);
    ASSERT_SAYS("alignment");
    kf_buffer_close(binding[0].buffer);
    kf_exec_close(exec);
    kf_plan_close(plan);
    kf_problem_close(problem);
    cl.clReleaseMemObject(native);
}

static void check_host_memory(test_rig *rig)
{
    check_placing(rig, HOST_MEMORY);
    check_promise(rig);
}

/* Catches: a cl_mem taken for aligned like one of the driver's own: whole vectors at such an
 * address end the process. */
static void host_memory_that_begins_anywhere(void **state)
{
    (void)state;
    on_each_device(check_host_memory);
}

static int run_tests_here(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_with_odd_offsets),
        cmocka_unit_test(all_tensors_in_one_buffer),
        cmocka_unit_test(host_memory_that_begins_anywhere),
    };
    return cmocka_run_group_tests_name("wrapped", tests, NULL, NULL);
}

int main(void)
{
    return run_on_devices(run_tests_here);
}
