/* label: opencl */
/* timeout: 600 */
/* Elements further than 2^31 from the first: rows 2^30 elements apart, the third of which an index
 * of 32 bits does not reach. The 4 GiB between them are addresses only: the memory is the host's,
 * reserved and never touched, and as much of it lies in front, where an index that wraps ends up.
 * So a CPU device that works in the host's memory tests in CI what otherwise takes a GPU.
 *
 * Every op, every variant, bf16: f32 would take twice the addresses, more than drivers allow.
 * SPDX-License-Identifier: Apache-2.0 */
#include "opencl_rig.h"

#include <sys/mman.h>

#include "../core/op.h"
#include "../harness/verify.h"

enum { SLOT = 1 << 13, ODD = 3 };
#define APART ((int64_t)1 << 30)                                       /* elements */
#define BYTES ((size_t)(2 * (2 * APART + SLOT * KF_MAX_TENSORS + 64))) /* of the buffer */

static char *memory; /* of the buffer; as many addresses in front */
static kf_buffer *wide;
static int ran;

/* ---- one case ----------------------------------------------------------------------------- */

typedef struct trial {
    kf_plan *plan, *packed; /* as it lies, and without gaps: for inputs and reference */
    void *data[KF_MAX_TENSORS];
    kf_binding binding[KF_MAX_TENSORS];
} trial;

static kf_status open_plan(const kf_case *c, kf_device *device, kf_plan **plan)
{
    kf_problem *problem;
    ASSERT_OK(kf_problem_open(c->op->name, &problem));
    ASSERT_OK(kf_case_problem(c, problem));
    const kf_status status = kf_plan_open(problem, &(kf_plan_desc){.variant = c->variant->name},
                                          kf_device_target(device), plan);
    kf_problem_close(problem);
    return status;
}

/* Where element e of tensor i lies. */
static char *place(const trial *t, int i, int64_t e)
{
    const kf_tensor *tensor = &t->plan->problem.tensor[i];
    return memory +
           (t->binding[i].offset + kf_tensor_offset(tensor, e)) * kf_dtype_bytes(tensor->dtype);
}

/* Between the wide memory and what is packed. */
static void copy(const trial *t, int i, bool out)
{
    const int64_t count = kf_tensor_elements(&t->plan->problem.tensor[i]);
    const size_t size = (size_t)kf_dtype_bytes(t->plan->problem.tensor[i].dtype);
    for (int64_t e = 0; e < count; e++) {
        char *packed = (char *)t->data[i] + (size_t)e * size;
        if (out)
            memcpy(packed, place(t, i, e), size);
        else
            memcpy(place(t, i, e), packed, size);
    }
}

/* Each tensor has a slot; ops without rows lie behind the gap as a whole. */
static void place_tensors(trial *t)
{
    const kf_problem *problem = &t->plan->problem;
    const int64_t first = kf_op_dim_count(problem->op) == 2 ? 0 : 2 * APART;
    for (int i = 0; i < problem->op->tensor_count; i++) {
        const kf_tensor *tensor = &problem->tensor[i];
        if (!tensor->dtype)
            continue;
        const int64_t count = kf_tensor_elements(tensor), size = kf_dtype_bytes(tensor->dtype);
        assert_true(count * size <= 2 * SLOT);
        t->binding[i] =
            (kf_binding){.buffer = wide, .offset = 2 * (first + (int64_t)i * SLOT) / size};
        t->data[i] = calloc((size_t)count, (size_t)size);
        assert_non_null(t->data[i]);
        if (problem->op->tensors[i].role == KF_INPUT)
            kf_inputs_fill_tensor(&t->packed->problem, i, t->data[i], KF_DIST_NORMAL, 7);
        copy(t, i, false); /* of outputs zeros: an element that is not written is wrong */
    }
}

static void judge(const trial *t, const char *text, int i)
{
    const kf_problem *problem = &t->packed->problem;
    const int64_t count = kf_tensor_elements(&problem->tensor[i]);
    double *value = calloc((size_t)count, sizeof *value),
           *bound = calloc((size_t)count, sizeof *bound);
    const void *inputs[KF_MAX_TENSORS] = {NULL};
    kf_verify_report report;
    assert_true(value && bound);
    for (int k = 0; k < problem->op->tensor_count; k++)
        if (problem->op->tensors[k].role == KF_INPUT)
            inputs[k] = t->data[k];
    copy(t, i, true);
    ASSERT_OK(problem->op->reference(problem, &t->plan->error, inputs, i, 0, count, value, bound));
    kf_compare(problem->tensor[i].dtype, t->data[i], value, bound, count, &report);
    if (!report.passed)
        fail_msg("%s: '%s': %s", text, problem->op->tensors[i].name, report.reason);
    free(value);
    free(bound);
}

static void check_case(const kf_case *packed, const kf_case *c, test_rig *rig)
{
    trial t = {.plan = NULL};
    kf_exec *exec;
    char text[512];
    kf_case_print(c, text, sizeof text);
    const kf_status status = open_plan(c, rig->device, &t.plan);
    if (status == KF_UNSUPPORTED)
        return;
    ASSERT_OK(status);
    ASSERT_OK(open_plan(packed, rig->device, &t.packed));
    place_tensors(&t);
    ASSERT_OK(kf_prepare(t.plan, rig->device, &exec));
    if (getenv("KFUSE_VERBOSE"))
        fprintf(stderr, "%s\n", text);
    ASSERT_OK(kf_run(exec, rig->queue, t.binding, NULL));
    ASSERT_OK(kf_queue_finish(rig->queue));
    for (int i = 0; i < c->op->tensor_count; i++)
        if (t.data[i] && c->op->tensors[i].role == KF_OUTPUT)
            judge(&t, text, i);
    ran++;
    kf_exec_close(exec);
    kf_plan_close(t.plan);
    kf_plan_close(t.packed);
    for (int i = 0; i < KF_MAX_TENSORS; i++)
        free(t.data[i]);
}

/* ---- every op ----------------------------------------------------------------------------- */

static const char *shape_of(const kf_op *op)
{
    const int dims = kf_op_dim_count(op);
    return dims == 1   ? "n=777"
           : dims == 2 ? "rows=3 cols=100"
                       : "tokens=5 heads=3 dim=8 places=9 half=4";
}

static void check_op(const kf_op *op, const char *shape, test_rig *rig)
{
    for (int v = 0; v < op->variant_count; v++)
        for (int odd = 0; odd <= (v ? ODD : 0); odd += ODD) { /* rows with edges: not unfused */
            char text[256];
            kf_case packed;
            snprintf(text, sizeof text, "%s %s bf16 %s", op->name, op->variants[v].name, shape);
            if (kf_case_parse(text, &packed) != KF_OK)
                fail_msg("%s: %s", text, kf_error());
            kf_case c = packed;
            for (int i = 0; i < op->tensor_count; i++)
                if (kf_op_dim_count(op) == 2 && strchr(op->tensors[i].dims, ' '))
                    c.stride[i] = APART + odd;
            check_case(&packed, &c, rig);
        }
}

static void check_ops(test_rig *rig)
{
    for (int o = 0; kf_ops[o]; o++)
        if (!kf_ops[o]->internal)
            check_op(kf_ops[o], shape_of(kf_ops[o]), rig);
    check_op(kf_op_find("layer_norm"), "rows=3 cols=100 with=weight,bias,mean,rstd", rig);
    /* another axis: its elements are as far apart as the rows above */
    check_op(kf_op_find("softmax"), "rows=1 cols=3 inner=5", rig);
    check_op(kf_op_find("log_softmax"), "rows=1 cols=3 inner=5", rig);
}

/* Addresses without memory behind them, from which the device works directly. */
static cl_mem reserve(test_rig *rig, char **all)
{
    cl_int code = CL_SUCCESS;
    *all = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*all == MAP_FAILED)
        return NULL;
    memory = *all + BYTES / 4096 * 4096;
    cl_mem native =
        cl.clCreateBuffer(opencl_device_of(rig->device)->context,
                          CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, BYTES, memory, &code);
    assert_int_equal(code, CL_SUCCESS);
    return native;
}

static void check_device(test_rig *rig)
{
    const kf_target *target = kf_device_target(rig->device);
    char *all = NULL;
    if (!(target->capabilities & KF_CAP_CPU) || target->capabilities & KF_CAP_SIMULATOR ||
        target->max_buffer_bytes < (int64_t)BYTES) {
        print_message("%s: buffers of at most %lld MB, %lld are needed\n", rig->device->info.name,
                      (long long)target->max_buffer_bytes / 1000000, (long long)BYTES / 1000000);
        return;
    }
    cl_mem native = reserve(rig, &all);
    assert_non_null(native);
    ASSERT_OK(kf_buffer_open(
        rig->device, &(kf_buffer_desc){.bytes = BYTES, .adopt = true, .native = native}, &wide));
    check_ops(rig);
    kf_buffer_close(wide);
    cl.clReleaseMemObject(native);
    munmap(all, 2 * BYTES);
}

/* Catches: a row's number, a stride or an offset in 32 bits anywhere in a kernel or on the way to
 * it. */
static void rows_behind_2_31_elements(void **state)
{
    (void)state;
    on_each_device(check_device);
    if (!ran)
        skip();
    print_message("  %d cases\n", ran);
}

static int tests_of_wide(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_behind_2_31_elements)};
    return cmocka_run_group_tests_name("wide", tests, NULL, NULL);
}

int main(void)
{
    setenv("POCL_DEVICES", "pthread", 0); /* its other device compiles everything once more */
    return run_on_devices(tests_of_wide);
}
