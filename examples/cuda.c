/* Layer norm on memory and a stream of the CUDA runtime, once by itself and once inside a captured
 * graph. Build: cc cuda.c $(pkg-config --cflags --libs kfuse) -I/usr/local/cuda/include
 * -L/usr/local/cuda/lib64 -lcudart -lcuda SPDX-License-Identifier: Apache-2.0 */
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <kfuse/calls.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 1000, COLS = 768 };

static void check(const char *what, bool ok, const char *why)
{
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, why);
        exit(1);
    }
}

#define CUDA(call) check(#call, (call) == 0, "failed")
#define KF(call) check(#call, (call) == KF_OK, kf_error())

int main(void)
{
    static float data[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++)
        data[i] = 1000 + (float)(i % 101);
    float *memory; /* x, then y */
    cudaStream_t stream;
    CUDA(cudaMalloc((void **)&memory, 2 * sizeof data));
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaMemcpyAsync(memory, data, sizeof data, cudaMemcpyHostToDevice, stream));

    CUcontext context; /* the runtime's, current since its first call */
    CUDA(cuCtxGetCurrent(&context));
    kf_device *device;
    kf_queue *queue;
    kf_calls *calls;
    kf_operand x = {.offset = 0}, y;
    KF(kf_device_open(&(kf_device_desc){.backend = "cuda", .adopt = true, .native = context},
                      &device));
    KF(kf_queue_open(device, &(kf_queue_desc){.adopt = true, .native = stream}, &queue));
    KF(kf_buffer_open(device,
                      &(kf_buffer_desc){.bytes = 2 * sizeof data, .adopt = true, .native = memory},
                      &x.buffer));
    KF(kf_tensor_contiguous(KF_F32, 2, (int64_t[]){ROWS, COLS}, &x.tensor));
    y = x;
    y.offset = ROWS * COLS;
    KF(kf_calls_open(queue, 0, &calls));
    KF(kf_layer_norm(calls, &x, NULL, NULL, &y, NULL, NULL, NULL));

    /* From the second time on nothing but the launch happens, so that a capture may hold it. */
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    KF(kf_layer_norm(calls, &x, NULL, NULL, &y, NULL, NULL, NULL));
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&replay, graph, 0));
    CUDA(cudaMemsetAsync(memory + ROWS * COLS, 0, sizeof data, stream));
    CUDA(cudaGraphLaunch(replay, stream));

    CUDA(cudaMemcpyAsync(data, memory + ROWS * COLS, sizeof data, cudaMemcpyDeviceToHost, stream));
    CUDA(cudaStreamSynchronize(stream));
    double worst = 0;
    for (int row = 0; row < ROWS; row++) {
        double sum = 0, squares = 0;
        for (int col = 0; col < COLS; col++) {
            sum += data[row * COLS + col];
            squares += data[row * COLS + col] * data[row * COLS + col];
        }
        const double off = fabs(sum / COLS) + fabs(squares / COLS - 1);
        worst = off <= worst ? worst : off; /* NaN stays */
    }
    printf("%s: rows have mean 0 and variance 1, off by %.1e at most\n",
           kf_device_describe(device)->name, worst);

    CUDA(cudaGraphExecDestroy(replay));
    CUDA(cudaGraphDestroy(graph));
    kf_calls_close(calls);
    kf_buffer_close(x.buffer);
    kf_queue_close(queue);
    kf_device_close(device);
    CUDA(cudaFree(memory)); /* still the program's */
    CUDA(cudaStreamDestroy(stream));
    return worst < 1e-4 ? 0 : 1;
}
