/* What the two halves of the fake driver share. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_FAKE_CUDA_INTERNAL_H
#define KF_FAKE_CUDA_INTERNAL_H

#include "../../backends/cuda/api.h"
#include "fake_cuda.h"

#include <stdint.h>

#define KFCU_FN(name, symbol, parameters) kfcu_result symbol parameters;
#include "../../backends/cuda/cuda.fn"
#undef KFCU_FN
fake_cuda_fail_fn fake_cuda_fail;
fake_cuda_seen_fn fake_cuda_seen, fake_cuda_live, fake_cuda_depth;
fake_cuda_hit_fn fake_cuda_hit;
fake_cuda_current_fn fake_cuda_current;
fake_cuda_retained_fn fake_cuda_retained;

enum { MAX_DEPTH = 16, MAX_WORK = 64, MEMORY_BYTES = 1 << 30 };

struct CUctx_st {
    int ordinal;
};
typedef struct work { /* one enqueued thing */
    enum { SET, COPY, LAUNCH } kind;
    char *to;
    const char *from;
    size_t bytes, step;
    unsigned int pattern;
    kfcu_function function;
    unsigned int groups, threads, cluster;
    struct {
        float *x, *y;
        int64_t x_offset, y_offset;
        int n;
        float factor;
    } scale;
} work;
struct CUgraph_st {
    work list[MAX_WORK];
    int count;
};
struct CUgraphExec_st {
    struct CUgraph_st graph;
};
struct CUstream_st {
    kfcu_context context;
    struct CUgraph_st *capture;
};
struct CUevent_st {
    int recorded;
};
struct CUfunc_st {
    char name[64];
    int most_shared, wide;
};
struct CUmod_st {
    struct CUfunc_st function[8];
    int count;
};

/* The fault, or a call without the context it needs. */
kfcu_result fake_enter(const char *symbol, int needs_context);
/* An object that the driver would count, zeroed; `object` points to the handle. */
kfcu_result fake_make(const char *symbol, size_t bytes, void *object);
kfcu_result fake_destroy(const char *symbol, void *object);
struct CUstream_st *fake_stream(kfcu_stream stream); /* the null stream has one, too */
void fake_forget(void *object);                      /* destroyed by another call */

#endif
