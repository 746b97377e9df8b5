/* The OpenCL backend where no device is needed: error codes, build logs, the diagnosis.
 * SPDX-License-Identifier: Apache-2.0 */
#include "opencl_rig.h"

extern const kf_backend kf_backend_opencl;

/* Catches: a code mapped to the wrong status; a want of memory that condemns the device. */
static void error_codes_map_by_phase(void **state)
{
    kf_device device = {0};
    (void)state;
    ASSERT_STATUS(opencl_fail(&device, OPENCL_ENQUEUE, "f", CL_MEM_OBJECT_ALLOCATION_FAILURE),
                  KF_OUT_OF_MEMORY);
    ASSERT_STATUS(opencl_fail(&device, OPENCL_SETUP, "f", CL_OUT_OF_HOST_MEMORY), KF_OUT_OF_MEMORY);
    ASSERT_STATUS(opencl_fail(&device, OPENCL_ALLOCATE, "f", CL_OUT_OF_RESOURCES),
                  KF_OUT_OF_MEMORY);
    ASSERT_STATUS(opencl_fail(NULL, OPENCL_SETUP, "f", -1001), KF_UNAVAILABLE);
    ASSERT_STATUS(opencl_fail(NULL, OPENCL_SETUP, "f", CL_DEVICE_NOT_FOUND), KF_UNAVAILABLE);
    assert_false(device.lost);
    ASSERT_STATUS(opencl_fail(&device, OPENCL_WAIT, "clFinish", CL_OUT_OF_RESOURCES),
                  KF_DEVICE_FAILED);
    ASSERT_SAYS("clFinish: CL_OUT_OF_RESOURCES (-5)");
    assert_true(device.lost);
    device.lost = false;
    ASSERT_STATUS(opencl_fail(&device, OPENCL_ENQUEUE, "f", CL_INVALID_COMMAND_QUEUE),
                  KF_DEVICE_FAILED);
    assert_true(device.lost);
}

/* Catches: a message without file and line, an empty log that gives an empty sentence, the count of
 * errors quoted instead of the error. */
static void log_errors_name_the_place(void **state)
{
    static const char *const entries[] = {"softmax_a", "softmax_b"};
    kf_program_desc desc = {.name = "softmax.cl",
                            .text = "#define A 1\n#line 1 \"prelude.cl\"\nint p;\n"
                                    "#line 7 \"softmax.cl\"\nint a;\nbroken\n",
                            .entries = entries,
                            .entry_count = 2};
    char out[600];
    (void)state;
    opencl_log_errors("", &desc, out, sizeof out);
    assert_string_equal(out, "softmax.cl (softmax_a, softmax_b): the compiler gave no message");
    opencl_log_errors("warning: x\nsoftmax.cl:8:1: error: unknown\n1 error generated.\n", &desc,
                      out, sizeof out);
    assert_string_equal(out, "softmax.cl:8:1: error: unknown");
    opencl_log_errors("input.cl:6:1: error: unknown\r\n", &desc, out, sizeof out);
    assert_string_equal(out, "softmax.cl:8:1: error: unknown");
    opencl_log_errors("ptxas application ptx input, line 9; error   : no such thing\n"
                      "ptxas fatal   : Ptx assembly aborted due to errors\n",
                      &desc, out, sizeof out);
    assert_non_null(strstr(out, "softmax.cl (softmax_a, softmax_b): ptxas application"));
    assert_non_null(strstr(out, "; ptxas fatal"));
    opencl_log_errors("the device is on strike", &desc, out, 30);
    assert_string_equal(out, "softmax.cl (softmax_a, softma");
}

/* Catches: the figures of one entry given to another, or to an entry that the log does not have. */
static void log_resources_belong_to_the_entry(void **state)
{
    static const char log[] =
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'softmax_exp2' for 'sm_90'\n"
        "ptxas info    : Function properties for softmax_exp2\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 18 registers, used 0 barriers, 380 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'softmax_exp' for 'sm_90'\n"
        "ptxas info    : Function properties for softmax_exp\n"
        "ptxas         .     64 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads\n"
        "ptxas info    : Used 32 registers, used 1 barriers, 4096 bytes smem, 380 bytes cmem[0]\n";
    int registers = -1;
    int64_t spills = -1;
    (void)state;
    opencl_log_resources(log, "softmax", &registers, &spills);
    assert_int_equal(registers, -1);
    assert_int_equal(spills, -1);
    opencl_log_resources(log, "softmax_exp2", &registers, &spills);
    assert_int_equal(registers, 18);
    assert_int_equal(spills, 0);
    opencl_log_resources(log, "softmax_exp", &registers, &spills);
    assert_int_equal(registers, 32);
    assert_int_equal(spills, 44);
}

/* Catches: a diagnosis that fails, or says nothing, exactly where it is needed. */
static void diagnose_needs_no_driver(void **state)
{
    kf_finding findings[8];
    int count = 0;
    (void)state;
    ASSERT_OK(kf_backend_opencl.diagnose(findings, 8, &count));
    assert_in_range(count, 1, 8);
    assert_string_equal(findings[0].what, "OpenCL loader");
    for (int i = 0; i < count; i++) {
        print_message("  %s: %s %s\n", findings[i].what, findings[i].detail, findings[i].remedy);
        assert_true(findings[i].good || findings[i].remedy[0]);
        assert_true(findings[i].detail[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_codes_map_by_phase),
        cmocka_unit_test(log_errors_name_the_place),
        cmocka_unit_test(log_resources_belong_to_the_entry),
        cmocka_unit_test(diagnose_needs_no_driver),
    };
    return cmocka_run_group_tests_name("opencl_messages", tests, NULL, NULL) ? 1 : 0;
}
