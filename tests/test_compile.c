/* label: compile */
/* each: op */
/* timeout: 1800 */
/* Every entry of every op through NVRTC, without a GPU: every dtype and shape for sm_90 (an `a`
 * architecture where an entry needs one), one shape for the oldest that is claimed and, in bf16,
 * whose instructions differ most, for all that NVRTC knows; the least, the middle and the largest
 * value of each knob, the others at their defaults, for sm_90 in f32. KFUSE_LONG=1 builds all of it
 * for all of them.
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../backends/cuda/nvrtc.h"
#include "../core/program.h"
#include "optional_rig.h"

static int archs[KFCU_MAX_ARCHS], arch_count;
static int built, refused;
static const char *optional; /* of the problems: "weight bias"; NULL = the op's usual ones */

/* What a GPU of that compute capability could offer, as far as a plan asks. */
static kf_target target_of(int arch)
{
    kf_target target = *kf_target_generic();
    target.capabilities = KF_CAP_SHUFFLE | KF_CAP_PTX | KF_CAP_REPLAY | KF_CAP_F64 | KF_CAP_TIMER;
    target.compute_capability = arch;
    target.warp = 32;
    target.max_threads = 1024;
    target.local_bytes = arch >= 90 ? 232448 : 65536;
    if (arch >= 90) {
        target.capabilities |= KF_CAP_CLUSTERS;
        target.max_cluster = 16;
    }
    return target;
}

static void compile_plan(const kf_plan *plan, int arch)
{
    bool done[KF_MAX_STEPS] = {false};
    const kf_backend *cuda = kf_backend_find("cuda");
    for (int s = 0; s < plan->step_count; s++) {
        kf_step_program *made;
        kfcu_binary binary;
        char name[16];
        if (done[s])
            continue;
        assert_int_equal(kf_step_program_make(plan, s, cuda, false, &made), KF_OK);
        for (int t = 0; t < plan->step_count; t++)
            done[t] |= made->covers[t];
        snprintf(name, sizeof name, "sm_%d%s", arch, made->desc.arch_specific ? "a" : "");
        const kf_status status =
            kfcu_compile(&(kfcu_source){.text = made->text,
                                        .name = made->name,
                                        .arch = name,
                                        .entries = made->entry,
                                        .entry_count = made->desc.entry_count,
                                        .register_cap = made->desc.register_cap},
                         &binary);
        if (status != KF_OK)
            fail_msg("%s %s %s for %s: %s", plan->problem.op->name, plan->variant->name,
                     kf_dtype_name(plan->problem.dtype), name, kf_error());
        free(binary.data);
        kf_step_program_free(made);
        built++;
    }
}

static void compile_one(const kf_op *op, const kf_variant *variant, kf_dtype dtype,
                        const int64_t *dims, const char *knobs, int arch, int alignment)
{
    const int64_t inner = op->any_axis ? dims[2] : 1;
    kf_problem *problem;
    kf_plan *plan;
    const kf_target target = target_of(arch);
    assert_int_equal(kf_problem_open(op->name, &problem), KF_OK);
    const char *usual = variant->tensors ? variant->tensors : op->with;
    assert_int_equal(inner > 1
                         ? kf_problem_shape_inner(problem, dtype, dims, inner, NULL)
                         : kf_problem_shape(problem, dtype, dims, optional ? optional : usual),
                     KF_OK);
    for (int i = 0; i < op->tensor_count; i++) /* a promise opens the paths of 16-byte accesses */
        problem->tensor[i].alignment = problem->tensor[i].dtype ? alignment : 0;
    const kf_status status = kf_plan_open(
        problem, &(kf_plan_desc){.variant = variant->name, .knobs = knobs}, &target, &plan);
    kf_problem_close(problem);
    if (status == KF_UNSUPPORTED || (op->internal && status == KF_INVALID)) {
        refused++;
        return;
    }
    if (status != KF_OK)
        fail_msg("%s %s %s: %s", op->name, variant->name, knobs ? knobs : "", kf_error());
    compile_plan(plan, arch);
    kf_plan_close(plan);
}

/* Without optional tensors and with all of them. */
static void compile_optional(const kf_op *op, const kf_variant *variant, kf_dtype dtype,
                             const int64_t *dims)
{
    char names[256];
    if (!optional_all(op, " ", names, sizeof names) || variant->tensors)
        return;
    for (int i = 0; i < 2; i++) {
        optional = i ? names : "";
        compile_one(op, variant, dtype, dims, NULL, 90, 16);
        compile_one(op, variant, dtype, dims, NULL, 90, 0);
    }
    optional = NULL;
}

/* Axes that are not the last: as vectors and column by column, held by one thread, by many, and
 * read twice. */
static void compile_axis(const kf_op *op, const kf_variant *variant, kf_dtype dtype)
{
    static const int64_t shapes[][KF_MAX_DIMS] = {
        {4096, 4, 64}, {64, 1000, 64}, {64, 2000, 33}, {2, 100000, 64}, {2, 100000, 3}};
    for (int i = 0; op->any_axis && i < 5; i++)
        for (int a = 0; a < arch_count; a++)
            if (i == 1 || archs[a] == 90 || getenv("KFUSE_LONG"))
                compile_one(op, variant, dtype, shapes[i], NULL, archs[a], 16);
}

static void compile_variant(const kf_op *op, const kf_variant *variant, kf_dtype dtype)
{
    static const int64_t shapes[][KF_MAX_DIMS] = {{4096, 64, 1, 1, 1, 1},
                                                  {4096, 1000, 1, 1, 1, 1},
                                                  {4096, 4096, 1, 1, 1, 1},
                                                  {512, 131072, 1, 1, 1, 1},
                                                  {2, 4194304, 1, 1, 1, 1}};
    /* more dims: tokens heads dim places half */
    static const int64_t heads[][KF_MAX_DIMS] = {{4096, 32, 128, 4096, 64, 1},
                                                 {4096, 8, 80, 4096, 16, 1},
                                                 {4096, 8, 128, 64, 64, 1},
                                                 {7, 3, 33, 8, 13, 1},
                                                 {1, 1, 2, 1, 1, 1}};
    const int64_t(*shape)[KF_MAX_DIMS] = kf_op_dim_count(op) > 2 ? heads : shapes;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int a = 0; a < arch_count; a++)
            if ((i == 2 && (dtype == KF_BF16 || a == 0)) || archs[a] == 90 || getenv("KFUSE_LONG"))
                compile_one(op, variant, dtype, shape[i], NULL, archs[a], 16);
    compile_one(op, variant, dtype, shape[2], NULL, 90, 0);
    compile_optional(op, variant, dtype, shape[2]);
    compile_axis(op, variant, dtype);
    for (int k = 0; k < op->knob_count; k++)
        for (int v = 0; kf_knob_used(&op->knobs[k], variant->name) && v < op->knobs[k].value_count;
             v++) {
            const int last = op->knobs[k].value_count - 1;
            if (v != 0 && v != last / 2 && v != last && !getenv("KFUSE_LONG"))
                continue;
            char knobs[80];
            snprintf(knobs, sizeof knobs, "%s=%lld", op->knobs[k].name,
                     (long long)op->knobs[k].values[v]);
            for (int a = 0; a < arch_count; a++)
                if ((archs[a] == 90 && dtype == KF_F32) || getenv("KFUSE_LONG"))
                    compile_one(op, variant, dtype, shape[2], knobs, archs[a], 16);
        }
}

/* Mistakes: a knob value or dtype that does not compile, an instruction that an architecture lacks.
 */
static void every_entry_compiles(void **state)
{
    const kf_op *op = *state;
    built = refused = 0;
    for (int v = 0; v < op->variant_count; v++)
        for (int d = KF_F32; d <= KF_BF16; d++)
            compile_variant(op, &op->variants[v], (kf_dtype)d);
    fprintf(stderr, "%s: %d programs built, %d plans refused\n", op->name, built, refused);
    assert_true(built > 0);
}

int main(void)
{
    struct CMUnitTest tests[64];
    int count = 0;
    if (kfcu_nvrtc_archs(archs, KFCU_MAX_ARCHS, &arch_count) != KF_OK) {
        const char *required = getenv("KFUSE_REQUIRE");
        fprintf(stderr, "%s\n", kf_error());
        return required && strstr(required, "nvrtc") ? 1 : 77;
    }
    while (arch_count && archs[0] < 75) /* older than the oldest that kfuse claims */
        memmove(archs, archs + 1, (size_t)--arch_count * sizeof *archs);
    const char *only = getenv("KFUSE_OP");
    for (int o = 0; kf_ops[o] && count < 64; o++)
        if (!only || !strcmp(only, kf_ops[o]->name))
            tests[count++] = (struct CMUnitTest){kf_ops[o]->name, every_entry_compiles, NULL, NULL,
                                                 (void *)(uintptr_t)kf_ops[o]};
    return _cmocka_run_group_tests("compile", tests, (size_t)count, NULL, NULL) ? 1 : 0;
}
