/* Random words that depend on a seed and a position alone: Philox4x32-10 of Random123. The same
 * words as opencl/kernels/common/random.cl and core/random.h. SPDX-License-Identifier: Apache-2.0
 */

/* Block `block` of four words of the stream `seed`. */
__device__ inline void kf_philox(unsigned word[4], unsigned long long seed,
                                 unsigned long long block)
{
    unsigned a = (unsigned)block, b = (unsigned)(block >> 32), c = 0, d = 0;
    unsigned key_a = (unsigned)seed, key_b = (unsigned)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned high_a = __umulhi(0xd2511f53u, a), low_a = 0xd2511f53u * a;
        const unsigned high_c = __umulhi(0xcd9e8d57u, c), low_c = 0xcd9e8d57u * c;
        a = high_c ^ b ^ key_a;
        b = low_c;
        c = high_a ^ d ^ key_b;
        d = low_a;
        key_a += 0x9e3779b9u;
        key_b += 0xbb67ae85u;
    }
    word[0] = a;
    word[1] = b;
    word[2] = c;
    word[3] = d;
}

/* Words index .. index + KF_VEC - 1. Where the index is known to be a multiple of four, no word is
 * made in vain. */
__device__ inline void kf_random_words(unsigned word[KF_VEC], unsigned long long seed,
                                       long long index, bool multiple)
{
    unsigned all[KF_VEC + 4];
    const int shift = multiple ? 0 : (int)(index & 3);
#pragma unroll
    for (int i = 0; i < KF_VEC / 4; i++)
        kf_philox(all + 4 * i, seed, (unsigned long long)((index >> 2) + i));
    if (!multiple)
        kf_philox(all + KF_VEC, seed, (unsigned long long)((index >> 2) + KF_VEC / 4));
#pragma unroll
    for (int j = 0; j < KF_VEC; j++) {
        word[j] = all[j];
        if (!multiple) {
            word[j] = shift == 1 ? all[j + 1] : word[j];
            word[j] = shift == 2 ? all[j + 2] : word[j];
            word[j] = shift == 3 ? all[j + 3] : word[j];
        }
    }
}

__device__ inline unsigned kf_random_word(unsigned long long seed, long long index)
{
    unsigned word[4];
    kf_philox(word, seed, (unsigned long long)(index >> 2));
    return word[index & 3];
}
