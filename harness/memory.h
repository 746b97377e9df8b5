/* Large blocks of host memory, kept for the next who needs one. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KF_MEMORY_H
#define KF_MEMORY_H
#include <stddef.h>

/* At least `bytes` bytes that hold anything, aligned for any type; NULL = there are none. */
void *kf_memory_take(size_t bytes);
/* Back to where kf_memory_take finds it, or to the system. NULL is allowed. */
void kf_memory_give(void *block);

#endif
