#!/usr/bin/env bash
# label: opencl
# timeout: 600
# A newcomer's first operation: four new files and no edit, in a scratch copy of the tree. Then the build finds it,
# `kfuse` lists, explains and runs it, C and Python call it, its own test passes, and the same build refuses it when
# one of the files is missing. Mistakes caught: a table somewhere that lists ops by hand; a generator that needs to be
# told; an op that works only because its shape is softmax's.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$source"
# The files of the working tree, new ones too; without git (an unpacked archive) everything but builds.
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard | while read -r file; do
        [ -e "$file" ] && printf '%s\n' "$file"
    done | tar -cf - -T - | tar -xf - -C "$scratch"
else
    tar -cf - --exclude='./build*' --exclude=./.git . | tar -xf - -C "$scratch"
fi
cd "$scratch"

cat >ops/dummy.c <<'END'
/* y = 2x: moves 8 bytes per element. SPDX-License-Identifier: Apache-2.0 */
#include "../core/backend.h"
#include "../core/op.h"
#include <math.h>

enum { X, Y };
enum { ROWS, COLS };
enum { BLOCK };

static const kf_tensor_decl tensors[] = {
    [X] = {.name = "x", .role = KF_INPUT, .dims = "rows cols", .dtype = KF_F32, .help = "input"},
    [Y] = {.name = "y",
           .role = KF_OUTPUT,
           .alias = "x",
           .dims = "rows cols",
           .dtype = KF_F32,
           .help = "twice the input"}};

static const kf_knob_decl knobs[] = {
    [BLOCK] = {.name = "BLOCK",
               .variants = "unfused fused",
               .value_count = 2,
               .values = {64, 128},
               .help = "threads per group"}};

static void defaults(const kf_problem *problem, const kf_target *target, kf_config *config)
{
    (void)problem, (void)target;
    kf_config_default(config, BLOCK, 64);
}

static void plan(kf_plan *p, const kf_problem *problem, const kf_config *config,
                 const kf_target *target)
{
    (void)target;
    const int64_t rows = problem->dim[ROWS], cols = problem->dim[COLS], count = rows * cols;
    const int block = (int)config->knob[BLOCK];
    const kf_ref x = kf_tensor_ref(p, X), y = kf_tensor_ref(p, Y);
    kf_step *step = kf_plan_step(
        p, "dummy_double", (kf_grid){.groups = (count + block - 1) / block, .threads = block},
        (kf_work){.flops = count},
        USES(READ(x), WRITE(y), INT(rows), INT(cols), INT(problem->row_stride[X]),
             INT(problem->row_stride[Y])));
    kf_step_knob(step, p, BLOCK);
    p->error = (kf_error_model){.depth = 1};
}

static kf_status reference(const kf_problem *problem, const kf_error_model *error,
                           const void *const *inputs, int output, int64_t first, int64_t count,
                           double *value, double *bound)
{
    (void)error, (void)output;
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = kf_tensor_offset(&problem->tensor[X], first + i);
        value[i] = 2 * kf_load(inputs[X], KF_F32, at);
        bound[i] = kf_dtype_roundoff(KF_F32) * fabs(value[i]) + kf_dtype_floor(KF_F32);
    }
    return KF_OK;
}

static const kf_variant variants[] = {
    {.name = "unfused", .help = "one launch", .defaults = defaults, .plan = plan},
    {.name = "fused", .help = "the same launch", .defaults = defaults, .plan = plan}};

const kf_op kf_op_dummy = {.name = "dummy",
                           .summary = "twice the input",
                           .formula = "y = 2 x",
                           .dims = "rows cols",
                           .tensors = tensors,
                           .tensor_count = 2,
                           .knobs = knobs,
                           .knob_count = 1,
                           .variants = variants,
                           .variant_count = 2,
                           .derive = kf_derive_rows,
                           .reference = reference};
END

cat >backends/cuda/kernels/dummy.cu <<'END'
/* y = 2x. SPDX-License-Identifier: Apache-2.0 */

#if KF_ENTRY(dummy_double)
extern "C" __global__ void dummy_double(const float *x, long long x_offset, float *y,
                                        long long y_offset, long long rows, long long cols,
                                        long long x_stride, long long y_stride)
{
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i < rows * cols)
        y[y_offset + i / cols * y_stride + i % cols] =
            2 * x[x_offset + i / cols * x_stride + i % cols];
}
#endif
END

cat >backends/opencl/kernels/dummy.cl <<'END'
/* y = 2x. SPDX-License-Identifier: Apache-2.0 */

#if KF_ENTRY(dummy_double)
__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1)))
void dummy_double(__global const float *x, long x_offset, __global float *y,
                  long y_offset, long rows, long cols,
                  long x_stride, long y_stride)
{
    const long i = (long)get_group_id(0) * BLOCK + get_local_id(0);
    if (i < rows * cols)
        y[y_offset + i / cols * y_stride + i % cols] =
            2 * x[x_offset + i / cols * x_stride + i % cols];
}
#endif
END

cat >tests/test_dummy.c <<'END'
/* label: opencl */
/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <kfuse/calls.h>
#include "../harness/verify.h"

/* The typed call, which nobody wrote. */
static void call(kf_queue *queue, kf_device *device)
{
    const int64_t size[2] = {2, 3};
    float data[6] = {0.5f, 1, -1, 2, 3, -4};
    kf_calls *calls;
    kf_operand x = {.offset = 0};
    assert_int_equal(kf_buffer_open(device, &(kf_buffer_desc){.bytes = sizeof data}, &x.buffer), KF_OK);
    assert_int_equal(kf_tensor_contiguous(KF_F32, 2, size, &x.tensor), KF_OK);
    assert_int_equal(kf_buffer_write(queue, x.buffer, 0, data, sizeof data), KF_OK);
    assert_int_equal(kf_calls_open(queue, 0, &calls), KF_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(kf_dummy(calls, &x, &x), KF_OK);
    assert_int_equal(kf_calls_ready(calls), 1);
    assert_int_equal(kf_buffer_read(queue, x.buffer, 0, data, sizeof data), KF_OK);
    assert_true(data[0] == 2 && data[5] == -16);
    kf_calls_close(calls);
    kf_buffer_close(x.buffer);
}

static void doubles_on_a_device(void **state)
{
    (void)state;
    kf_device *device;
    kf_queue *queue;
    kf_case test;
    kf_problem *problem;
    kf_plan *plan;
    kf_verify_report report;
    assert_int_equal(kf_device_open(&(kf_device_desc){.backend = "opencl"}, &device), KF_OK);
    assert_int_equal(kf_queue_open(device, NULL, &queue), KF_OK);
    assert_int_equal(kf_case_parse("dummy fused f32 rows=37 cols=129 seed=1", &test), KF_OK);
    assert_int_equal(kf_problem_open("dummy", &problem), KF_OK);
    assert_int_equal(kf_case_problem(&test, problem), KF_OK);
    assert_int_equal(kf_plan_open(problem, &(kf_plan_desc){.variant = "fused"},
                                  kf_device_target(device), &plan),
                     KF_OK);
    assert_int_equal(kf_plan_cost(plan).bytes_read + kf_plan_cost(plan).bytes_written,
                     2 * 37 * 129 * 4);
    const kf_status status = kf_verify(plan, device, queue, NULL, &report);
    if (status != KF_OK || !report.passed)
        fprintf(stderr, "%s %s\n", kf_error(), report.reason);
    assert_int_equal(status, KF_OK);
    assert_true(report.passed);
    assert_true(report.checked > 0);
    call(queue, device);
    kf_plan_close(plan);
    kf_problem_close(problem);
    kf_queue_close(queue);
    kf_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(doubles_on_a_device)};
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
END

expect() { # title pattern command...: the command succeeds and says so
    local title=$1 pattern=$2 output
    shift 2
    if ! output=$("$@" 2>&1) || ! grep -Eq "$pattern" <<<"$output"; then
        printf 'FAILED: %s (%s)\n%s\n' "$title" "$*" "$output"
        exit 1
    fi
    echo "ok: $title"
}

# -O0: what is tested is that everything is found, and this copy is built from nothing.
configure=(cmake -G Ninja -S . -B build-dummy -DCMAKE_BUILD_TYPE=None -DKFUSE_TESTS=ON)
expect "configures" "" "${configure[@]}"
expect "builds" "" cmake --build build-dummy --target kfuse test_dummy libkfuse
kfuse=build-dummy/kfuse

# The test's own XML file belongs to the program that counts, not to this one.
unset CMOCKA_MESSAGE_OUTPUT CMOCKA_XML_FILE
expect "is listed" 'dummy' $kfuse list
expect "is explained" 'fused' $kfuse explain dummy --shape=100x1000
expect "its own test passes" 'PASSED  \] 1 test' build-dummy/tests/test_dummy

# Two rows of three: header of 128 bytes, then 0.5 1 -1 2 3 -4 as little-endian f4.
{
    printf '\223NUMPY\001\000\166\000'
    printf "%-117s\n" "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    printf '\000\000\000\077\000\000\200\077\000\000\200\277\000\000\000\100\000\000\100\100\000\000\200\300'
} >x.npy
expect "runs on real input" "" $kfuse run dummy --input=x.npy --output=y.npy --backend=opencl
doubled=$(tail -c 24 y.npy | od -An -v -tf4 | tr -s ' \n' ' ')
if [ "$doubled" != " 1 2 -2 4 6 -8 " ] && [ "$doubled" != " 1 2 -2 4 6 -8" ]; then
    echo "FAILED: run dummy gave '$doubled'"
    exit 1
fi
echo "ok: the output is twice the input"

# The Python function, which nobody wrote either.
if python=$(scripts/python_with numpy); then
    expect "is called from Python" '^4\.0 -8\.0 out=None$' env PYTHONPATH=python KFUSE_LIBRARY="$PWD/build-dummy/libkfuse.so" \
        "$python" -c '
import inspect, kfuse, numpy
x = numpy.array([[0.5, 1, -1], [2, 3, -4]], numpy.float32)
y = kfuse.dummy(x)
print(y[1, 0], y[1, 2], str(inspect.signature(kfuse.dummy)).strip("()").split(", ")[-1])'
else
    echo "no python3 here has NumPy: kfuse.dummy() was not called"
fi

# A stem that one backend lacks is a configure error that names the file.
rm backends/opencl/kernels/dummy.cl
if output=$("${configure[@]}" 2>&1) || ! grep -q 'backends/opencl/kernels/dummy.cl' <<<"$output"; then
    printf 'FAILED: a missing kernel file is not named\n%s\n' "$output"
    exit 1
fi
echo "ok: a missing file is named"
