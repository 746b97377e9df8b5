/* What a test asks of tests/fake_cuda/, by dlsym on the library it pointed KFUSE_LIBCUDA to.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_FAKE_CUDA_H
#define KF_FAKE_CUDA_H

/* The nth call (from 0) of `symbol` from now on, "" = of any, answers with `code` instead of
 * working; with `forever` every later call too. NULL = no fault. Resets the count of
 * fake_cuda_seen(). */
typedef void fake_cuda_fail_fn(const char *symbol, int nth, unsigned int code, int forever);
typedef int fake_cuda_seen_fn(void);        /* calls seen that the fault was meant for */
typedef const char *fake_cuda_hit_fn(void); /* the first symbol that failed, "" = none yet */
typedef int fake_cuda_live_fn(void);        /* objects made, not destroyed; retained contexts too */
typedef int fake_cuda_depth_fn(void);       /* contexts pushed and not popped by this thread */
typedef void *fake_cuda_current_fn(void);   /* the last of them, NULL = none */
typedef int fake_cuda_retained_fn(int device); /* how often its primary context is held */

/* The environment, read by cuInit: FAKE_CUDA_INIT (code it answers with), FAKE_CUDA_VERSION
 * (12080), FAKE_CUDA_DEVICES (2), FAKE_CUDA_ARCH (90).
 *
 * Work is done at once, in host memory, or kept when the stream is being captured. Kernels are
 * known by name: fake_scale(x, offset, y, offset, n, factor) writes y[i] = x[i] * factor; others do
 * nothing. */
#endif
