/* Random bits on the host: Philox4x32-10 of Random123 (Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", 2011). The kernels' twin is kernels/common/random: the same words from the same
 * key and counter. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_RANDOM_H
#define KF_RANDOM_H

#include <Random123/philox.h>
#include <stdint.h>
#include <string.h>

/* Four words; `high` is the upper half of a counter of 128 bits. */
static inline void kf_philox(uint64_t key, uint64_t low, uint64_t high, uint32_t word[4])
{
    const philox4x32_ctr_t counter = {
        {(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high, (uint32_t)(high >> 32)}};
    const philox4x32_key_t both = {{(uint32_t)key, (uint32_t)(key >> 32)}};
    const philox4x32_ctr_t made = philox4x32(counter, both);
    memcpy(word, made.v, sizeof made.v);
}

#endif
