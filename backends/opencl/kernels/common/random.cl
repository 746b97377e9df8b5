/* Random words that depend on a seed and a position alone: Philox4x32-10 of Random123. The same
 * words as cuda/kernels/common/random.cu and core/random.h. SPDX-License-Identifier: Apache-2.0 */

/* Block `block` of four words of the stream `seed`. */
static inline void kf_philox(uint word[4], ulong seed, ulong block)
{
    uint a = (uint)block, b = (uint)(block >> 32), c = 0, d = 0;
    uint key_a = (uint)seed, key_b = (uint)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint high_a = mul_hi(0xd2511f53u, a), low_a = 0xd2511f53u * a;
        const uint high_c = mul_hi(0xcd9e8d57u, c), low_c = 0xcd9e8d57u * c;
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
static inline void kf_random_words(uint word[KF_VEC], ulong seed, long index, bool multiple)
{
    uint all[KF_VEC + 4];
    const int shift = multiple ? 0 : (int)(index & 3);
#pragma unroll
    for (int i = 0; i < KF_VEC / 4; i++)
        kf_philox(all + 4 * i, seed, (ulong)((index >> 2) + i));
    if (!multiple)
        kf_philox(all + KF_VEC, seed, (ulong)((index >> 2) + KF_VEC / 4));
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

static inline uint kf_random_word(ulong seed, long index)
{
    uint word[4];
    kf_philox(word, seed, (ulong)(index >> 2));
    return word[index & 3];
}
