/* The fake driver's memory, modules, launches and graphs. SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- work --------------------------------------------------------------------------------- */

static void do_work(const work *w)
{
    if (w->kind == COPY) {
        memmove(w->to, w->from, w->bytes);
    } else if (w->kind == SET) {
        for (size_t i = 0; i < w->bytes; i += w->step) {
            memcpy(w->to + i, &w->pattern, w->step);
        }
    } else if (strcmp(w->function->name, "fake_scale") == 0) {
        for (int i = 0; i < w->scale.n; i++) {
            w->scale.y[w->scale.y_offset + i] = w->scale.x[w->scale.x_offset + i] * w->scale.factor;
        }
    }
}

static kfcu_result enqueue(const char *symbol, kfcu_stream stream, work w)
{
    const kfcu_result result = fake_enter(symbol, 1);
    struct CUgraph_st *graph = fake_stream(stream)->capture;
    if (result != KF_CUDA_SUCCESS) {
        return result;
    }
    if (!graph) {
        do_work(&w);
    } else if (graph->count < MAX_WORK) {
        graph->list[graph->count++] = w;
    }
    return KF_CUDA_SUCCESS;
}

static char *host(kfcu_deviceptr address)
{
    return (char *)(uintptr_t)address;
}

kfcu_result cuMemAlloc_v2(kfcu_deviceptr *address, size_t bytes)
{
    void *memory = NULL;
    if (bytes > MEMORY_BYTES) {
        return KF_CUDA_ERROR_OUT_OF_MEMORY;
    }
    const kfcu_result result = fake_make("cuMemAlloc_v2", bytes, &memory);
    *address = (uintptr_t)memory;
    return result;
}

kfcu_result cuMemFree_v2(kfcu_deviceptr address)
{
    return fake_destroy("cuMemFree_v2", host(address));
}

kfcu_result cuMemcpyHtoDAsync_v2(kfcu_deviceptr to, const void *from, size_t bytes,
                                 kfcu_stream stream)
{
    return enqueue("cuMemcpyHtoDAsync_v2", stream,
                   (work){.kind = COPY, .to = host(to), .from = from, .bytes = bytes});
}

kfcu_result cuMemcpyDtoHAsync_v2(void *to, kfcu_deviceptr from, size_t bytes, kfcu_stream stream)
{
    return enqueue("cuMemcpyDtoHAsync_v2", stream,
                   (work){.kind = COPY, .to = to, .from = host(from), .bytes = bytes});
}

kfcu_result cuMemcpyDtoDAsync_v2(kfcu_deviceptr to, kfcu_deviceptr from, size_t bytes,
                                 kfcu_stream stream)
{
    return enqueue("cuMemcpyDtoDAsync_v2", stream,
                   (work){.kind = COPY, .to = host(to), .from = host(from), .bytes = bytes});
}

static kfcu_result set(const char *symbol, kfcu_deviceptr address, unsigned int pattern,
                       size_t count, size_t step, kfcu_stream stream)
{
    return enqueue(symbol, stream,
                   (work){.kind = SET,
                          .to = host(address),
                          .pattern = pattern,
                          .bytes = count * step,
                          .step = step});
}

kfcu_result cuMemsetD8Async(kfcu_deviceptr address, unsigned char value, size_t count,
                            kfcu_stream stream)
{
    return set("cuMemsetD8Async", address, value, count, 1, stream);
}

kfcu_result cuMemsetD16Async(kfcu_deviceptr address, unsigned short value, size_t count,
                             kfcu_stream stream)
{
    return set("cuMemsetD16Async", address, value, count, 2, stream);
}

kfcu_result cuMemsetD32Async(kfcu_deviceptr address, unsigned int value, size_t count,
                             kfcu_stream stream)
{
    return set("cuMemsetD32Async", address, value, count, 4, stream);
}

/* ---- modules and launches ----------------------------------------------------------------- */

kfcu_result cuModuleLoadDataEx(kfcu_module *module, const void *image, unsigned int count,
                               kfcu_enum *options, void **values)
{
    if (memcmp(image, "bad", 3) == 0) {
        for (unsigned int i = 0; i < count; i++) {
            if (options[i] == KF_CU_JIT_ERROR_LOG_BUFFER) {
                strcpy(values[i], "ptxas fatal : as the test asked\n");
            }
        }
        return KF_CUDA_ERROR_INVALID_PTX;
    }
    return fake_make("cuModuleLoadDataEx", sizeof **module, module);
}

kfcu_result cuModuleUnload(kfcu_module module)
{
    return fake_destroy("cuModuleUnload", module);
}

kfcu_result cuModuleGetFunction(kfcu_function *function, kfcu_module module, const char *entry)
{
    const kfcu_result result = fake_enter("cuModuleGetFunction", 1);
    if (result != KF_CUDA_SUCCESS) {
        return result;
    }
    if (strstr(entry, "missing") || module->count == 8) {
        return KF_CUDA_ERROR_NOT_FOUND;
    }
    *function = &module->function[module->count++];
    (*function)->most_shared = 48 * 1024;
    snprintf((*function)->name, sizeof(*function)->name, "%s", entry);
    return KF_CUDA_SUCCESS;
}

kfcu_result cuFuncGetAttribute(int *value, kfcu_enum attribute, kfcu_function function)
{
    (void)function;
    *value = attribute == KF_CU_FUNC_ATTRIBUTE_NUM_REGS                ? 40
             : attribute == KF_CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
             : attribute == KF_CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES     ? 128
                                                                       : 0;
    return fake_enter("cuFuncGetAttribute", 1);
}

kfcu_result cuFuncSetAttribute(kfcu_function function, kfcu_enum attribute, int value)
{
    const kfcu_result result = fake_enter("cuFuncSetAttribute", 1);
    if (result == KF_CUDA_SUCCESS) {
        if (attribute == KF_CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
            function->most_shared = value;
        } else if (attribute == KF_CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED) {
            function->wide = value;
        }
    }
    return result;
}

static kfcu_result launch(const char *symbol, kfcu_function function, const kfcu_launch_config *c,
                          unsigned int cluster, void **parameters)
{
    work w = {.kind = LAUNCH, .function = function, .groups = c->grid_x, .cluster = cluster};
    w.threads = c->block_x;
    if ((int)c->shared_bytes > function->most_shared || c->grid_x == 0 || c->block_x > 1024) {
        return KF_CUDA_ERROR_INVALID_VALUE;
    }
    if (cluster > 16 || (cluster > 8 && !function->wide) || c->grid_x % cluster) {
        return KF_CUDA_ERROR_INVALID_CLUSTER_SIZE;
    }
    if (strcmp(function->name, "fake_scale") == 0) { /* copied now, as the driver does */
        memcpy(&w.scale.x, parameters[0], sizeof w.scale.x);
        memcpy(&w.scale.x_offset, parameters[1], sizeof w.scale.x_offset);
        memcpy(&w.scale.y, parameters[2], sizeof w.scale.y);
        memcpy(&w.scale.y_offset, parameters[3], sizeof w.scale.y_offset);
        memcpy(&w.scale.n, parameters[4], sizeof w.scale.n);
        memcpy(&w.scale.factor, parameters[5], sizeof w.scale.factor);
    }
    return enqueue(symbol, c->stream, w);
}

kfcu_result cuLaunchKernel(kfcu_function function, unsigned int grid_x, unsigned int grid_y,
                           unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                           unsigned int block_z, unsigned int shared_bytes, kfcu_stream stream,
                           void **parameters, void **extra)
{
    const kfcu_launch_config config = {
        .grid_x = grid_x, .block_x = block_x, .shared_bytes = shared_bytes, .stream = stream};
    if (grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1 || extra) {
        return KF_CUDA_ERROR_INVALID_VALUE;
    }
    return launch("cuLaunchKernel", function, &config, 1, parameters);
}

kfcu_result cuLaunchKernelEx(const kfcu_launch_config *config, kfcu_function function,
                             void **parameters, void **extra)
{
    unsigned int cluster = 1;
    for (unsigned int i = 0; i < config->attribute_count; i++) {
        if (config->attributes[i].id == KF_CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
            cluster = config->attributes[i].value.cluster.x;
        }
    }
    return extra ? KF_CUDA_ERROR_INVALID_VALUE
                 : launch("cuLaunchKernelEx", function, config, cluster, parameters);
}

/* ---- graphs ------------------------------------------------------------------------------- */

kfcu_result cuStreamBeginCapture_v2(kfcu_stream stream, kfcu_enum mode)
{
    (void)mode;
    if ((uintptr_t)stream <= 1) {
        return KF_CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    struct CUgraph_st *graph = NULL;
    const kfcu_result result = fake_make("cuStreamBeginCapture_v2", sizeof *graph, &graph);
    fake_stream(stream)->capture = graph;
    return result;
}

/* The stream stops capturing even when the call fails; the graph is then lost. */
kfcu_result cuStreamEndCapture(kfcu_stream stream, kfcu_graph *graph)
{
    const kfcu_result result = fake_enter("cuStreamEndCapture", 1);
    *graph = fake_stream(stream)->capture;
    fake_stream(stream)->capture = NULL;
    if (result != KF_CUDA_SUCCESS) {
        fake_forget(*graph);
        *graph = NULL;
    }
    return result;
}

kfcu_result cuGraphInstantiateWithFlags(kfcu_graph_exec *exec, kfcu_graph graph,
                                        unsigned long long flags)
{
    (void)flags;
    const kfcu_result result = fake_make("cuGraphInstantiateWithFlags", sizeof **exec, exec);
    if (result == KF_CUDA_SUCCESS) {
        (*exec)->graph = *graph;
    }
    return result;
}

kfcu_result cuGraphLaunch(kfcu_graph_exec exec, kfcu_stream stream)
{
    (void)stream;
    const kfcu_result result = fake_enter("cuGraphLaunch", 1);
    for (int i = 0; result == KF_CUDA_SUCCESS && i < exec->graph.count; i++) {
        do_work(&exec->graph.list[i]);
    }
    return result;
}

kfcu_result cuGraphDestroy(kfcu_graph graph)
{
    return fake_destroy("cuGraphDestroy", graph);
}

kfcu_result cuGraphExecDestroy(kfcu_graph_exec exec)
{
    return fake_destroy("cuGraphExecDestroy", exec);
}
