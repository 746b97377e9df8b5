/* Softmax inside an OpenCL program: the context, the queue and the buffer are the program's, and
 * nothing is copied. Build: cc opencl.c $(pkg-config --cflags --libs kfuse) -lOpenCL
 * SPDX-License-Identifier: Apache-2.0 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <kfuse/calls.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 1000, COLS = 781 };

static void check(const char *what, bool ok, const char *why)
{
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, why);
        exit(1);
    }
}

#define CL(call) check(#call, (call) == CL_SUCCESS, "failed")
#define KF(call) check(#call, (call) == KF_OK, kf_error())

int main(void)
{
    /* The program as it was before kfuse came. */
    cl_platform_id platform;
    cl_device_id device;
    cl_int status;
    CL(clGetPlatformIDs(1, &platform, NULL));
    CL(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL));
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &status);
    CL(status);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &status);
    CL(status);
    static float x[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = (float)(i % 97) / 10;
    cl_mem memory = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof x, NULL, &status);
    CL(status);
    CL(clEnqueueWriteBuffer(queue, memory, CL_FALSE, 0, sizeof x, x, 0, NULL, NULL));

    /* kfuse takes what is there. */
    kf_device *kf;
    kf_queue *in_order;
    kf_calls *calls;
    kf_operand rows = {.offset = 0};
    KF(kf_device_open(
        &(kf_device_desc){
            .backend = "opencl", .adopt = true, .native = context, .native_device = device},
        &kf));
    KF(kf_queue_open(kf, &(kf_queue_desc){.adopt = true, .native = queue}, &in_order));
    KF(kf_buffer_open(kf, &(kf_buffer_desc){.bytes = sizeof x, .adopt = true, .native = memory},
                      &rows.buffer));
    KF(kf_tensor_contiguous(KF_F32, 2, (int64_t[]){ROWS, COLS}, &rows.tensor));
    KF(kf_calls_open(in_order, 0, &calls));
    KF(kf_softmax(calls, &rows, &rows, NULL)); /* in place, behind the write, without waiting */

    CL(clEnqueueReadBuffer(queue, memory, CL_TRUE, 0, sizeof x, x, 0, NULL, NULL));
    double worst = 0;
    for (int row = 0; row < ROWS; row++) {
        double sum = 0;
        for (int col = 0; col < COLS; col++)
            sum += x[row * COLS + col];
        const double off = sum > 1 ? sum - 1 : 1 - sum;
        worst = off <= worst ? worst : off; /* NaN stays */
    }
    printf("%s: rows sum to 1, off by %.1e at most\n", kf_device_describe(kf)->name, worst);

    kf_calls_close(calls);
    kf_buffer_close(rows.buffer);
    kf_queue_close(in_order);
    kf_device_close(kf);
    CL(clReleaseMemObject(memory)); /* still the program's */
    CL(clReleaseCommandQueue(queue));
    CL(clReleaseContext(context));
    return worst < 1e-5 ? 0 : 1; /* NaN is not */
}
