/* Random inputs. Element e of a tensor depends on (seed, stream, e) alone, so threads, strides and
 * padding do not change it. The normal deviates are Box-Muller in double with our own logarithm,
 * sine and cosine, made of operations that IEEE 754 fixes to the last bit: libm's differ from
 * machine to machine. SPDX-License-Identifier: Apache-2.0 */
#include "inputs.h"
#include "convert.h"
#include "parallel.h"
#include "../core/random.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 4096, BLOCKS_PER_THREAD = 64, LANES = 64 };
enum { PURPOSE_VALUES, PURPOSE_BITS };

typedef struct fill {
    const kf_tensor *tensor; /* broadcast axes reduced to size 1 */
    void *data;
    kf_distribution distribution;
    uint64_t seed;
    int stream;
    int64_t count, width; /* elements; elements of a row */
} fill;

static void philox(uint64_t seed, int stream, uint64_t n, uint32_t purpose, uint32_t word[4])
{
    kf_philox(seed, n, (uint32_t)stream | (uint64_t)purpose << 32, word);
}

uint64_t kf_random(uint64_t seed, int stream, uint64_t n)
{
    uint32_t word[4];
    philox(seed, stream, n / 2, PURPOSE_BITS, word);
    return (uint64_t)word[n % 2 * 2 + 1] << 32 | word[n % 2 * 2];
}

/* ---- reproducible functions --------------------------------------------------------------- */

/* They work on LANES values at a time, in loops of a fixed length that compilers make vector
 * instructions of: half of the time of a trial was spent here. Each lane does what it would do
 * alone. */

/* Natural logarithm of w in (0, 1]: w = 2^k m with m near 1, then the series in (m - 1) / (m + 1).
 */
static void log_of(const double *restrict w, double *restrict log)
{
    const uint64_t half_root = 0x3fe6a09e667f3bcd; /* sqrt(1/2) */
    double k[LANES], s[LANES], t[LANES], series[LANES];
    for (int i = 0; i < LANES; i++) {
        uint64_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        const int64_t power = (int64_t)(bits - half_root) >> 52;
        bits -= (uint64_t)power << 52;
        k[i] = (double)power;
        memcpy(&s[i], &bits, sizeof bits);
    }
    for (int i = 0; i < LANES; i++) {
        s[i] = (s[i] - 1) / (s[i] + 1);
        t[i] = s[i] * s[i];
        series[i] = 1.0 / 17;
    }
    for (int n = 15; n >= 1; n -= 2) {
        const double next = 1.0 / n;
        for (int i = 0; i < LANES; i++)
            series[i] = series[i] * t[i] + next;
    }
    for (int i = 0; i < LANES; i++)
        log[i] = k[i] * 0x1.62e42fefa39efp-1 + 2 * s[i] * series[i];
}

/* Sine and cosine of a in [-pi/4, pi/4] by their series. */
static void sine_cosine(const double *restrict a, double *restrict sine, double *restrict cosine)
{
    double t[LANES];
    for (int i = 0; i < LANES; i++) {
        t[i] = a[i] * a[i];
        sine[i] = cosine[i] = 1;
    }
    for (int n = 8; n >= 1; n--) {
        const double odd = (2 * n) * (2 * n + 1), even = (2 * n - 1) * (2 * n);
        for (int i = 0; i < LANES; i++) {
            sine[i] = 1 - sine[i] * t[i] / odd;
            cosine[i] = 1 - cosine[i] * t[i] / even;
        }
    }
    for (int i = 0; i < LANES; i++)
        sine[i] *= a[i];
}

/* Pairs of independent N(0, 1), each from two words: radius from the first, angle (quadrant and
 * rest) from the second. */
static void box_muller(const uint32_t *word, double *out)
{
    double w[LANES], a[LANES], log[LANES], s[LANES], c[LANES];
    for (int i = 0; i < LANES; i++) {
        w[i] = ((double)word[2 * i] + 0.5) * 0x1p-32;
        a[i] =
            (((double)(word[2 * i + 1] & 0x3fffffff) + 0.5) * 0x1p-30 - 0.5) * 0x1.921fb54442d18p0;
    }
    log_of(w, log);
    sine_cosine(a, s, c);
    for (int i = 0; i < LANES; i++) {
        const uint32_t b = word[2 * i + 1];
        const double radius = sqrt(-2 * log[i]), sign = b >> 31 ? -1 : 1;
        out[2 * i] = radius * (sign * (b >> 30 & 1 ? -s[i] : c[i]));
        out[2 * i + 1] = radius * (sign * (b >> 30 & 1 ? c[i] : s[i]));
    }
}

/* 10^u: 2^(whole) times the exponential series of the rest. */
static double power_of_ten(double u)
{
    const double bits = u * 0x1.a934f0979a371p1; /* log2(10) */
    const double whole = floor(bits + 0.5), x = (bits - whole) * 0x1.62e42fefa39efp-1;
    double series = 1;
    for (int n = 14; n >= 1; n--)
        series = 1 + series * x / n;
    return ldexp(series, (int)whole);
}

/* ---- one block of independent values ------------------------------------------------------ */

static double from_word(const fill *f, uint32_t word)
{
    const int reach = f->tensor->dtype == KF_F32 ? 8 : 5; /* testing.md 6: sums stay exact */
    switch (f->distribution) {
    case KF_DIST_WIDE:
        return (word & 1 ? 1 : -1) * power_of_ten(((double)(word >> 1) + 0.5) * 0x1p-31 * 8 - 4);
    case KF_DIST_TWO:
        return word >> 31 ? 2.7 : -1.3;
    case KF_DIST_EQUAL:
        return 2.7;
    default:
        return (double)((uint64_t)word * (uint64_t)(2 * reach + 1) >> 32) - reach;
    }
}

static void scale(const fill *f, double *value)
{
    const double shift = f->tensor->dtype == KF_F16 ? 64 : 1000;
    for (int i = 0; i < BLOCK; i++)
        value[i] = f->distribution == KF_DIST_TINY ? value[i] * 1e-6 : value[i] + shift;
}

static void block_words(const fill *f, int64_t block, uint32_t *word)
{
    for (int i = 0; i < BLOCK; i += 4)
        philox(f->seed, f->stream, (uint64_t)(block * (BLOCK / 4) + i / 4), PURPOSE_VALUES,
               word + i);
}

static void block_values(const fill *f, int64_t block, double *value)
{
    const bool whole = f->tensor->dtype == KF_I32 || f->tensor->dtype == KF_I64;
    const bool words = whole || f->distribution == KF_DIST_WIDE || f->distribution == KF_DIST_TWO ||
                       f->distribution == KF_DIST_EQUAL || f->distribution == KF_DIST_INTEGER;
    uint32_t word[BLOCK];
    block_words(f, block, word);
    if (words) {
        for (int i = 0; i < BLOCK; i++)
            value[i] = whole ? (double)(word[i] & 7) : from_word(f, word[i]);
        return;
    }
    for (int i = 0; i < BLOCK; i += 2 * LANES)
        box_muller(word + i, value + i);
    if (f->distribution == KF_DIST_OFFSET || f->distribution == KF_DIST_TINY)
        scale(f, value);
}

/* ---- what depends on the place in the row ------------------------------------------------- */

typedef enum pattern {
    NAN_SOMEWHERE,
    SOME_MINUS_INF, /* a quarter of them; masked scores look like this */
    ALL_MINUS_INF,
    ONE_FINITE,
    PLUS_INF_SOMEWHERE,
    DENORMALS,
    MINUS_ZERO,
    NAN_FIRST, /* first and last element: tails and vector heads are other code */
    NAN_LAST,
    PLUS_INF_FIRST,
    PLUS_INF_LAST,
    MINUS_INF_ENDS,
    LARGE_FIRST, /* so much larger that exponentials overflow unless it is found to be the maximum
                  */
    LARGE_LAST,
    NEAR_UNDERFLOW, /* exponentials just above the smallest normal number */
    PATTERN_COUNT
} pattern;

_Static_assert((int)PATTERN_COUNT == (int)KF_SPECIAL_PATTERNS,
               "inputs.h tells the number of patterns");

static double special_value(const fill *f, pattern p, int64_t col, int64_t place, double value)
{
    const bool first = col == 0, last = col == f->width - 1, here = col == place;
    switch (p) {
    case NAN_SOMEWHERE:
        return here ? NAN : value;
    case SOME_MINUS_INF:
        return (col + place) % 4 == 0 ? -INFINITY : value;
    case ALL_MINUS_INF:
        return -INFINITY;
    case ONE_FINITE:
        return here ? value : -INFINITY;
    case PLUS_INF_SOMEWHERE:
        return here ? INFINITY : value;
    case DENORMALS:
        return value * (f->tensor->dtype == KF_F16 ? 0x1p-17 : 0x1p-129);
    case MINUS_ZERO:
        return -0.0;
    case NAN_FIRST:
        return first ? NAN : value;
    case NAN_LAST:
        return last ? NAN : value;
    case PLUS_INF_FIRST:
        return first ? INFINITY : value;
    case PLUS_INF_LAST:
        return last ? INFINITY : value;
    case LARGE_FIRST:
        return first ? 1e4 : value;
    case LARGE_LAST:
        return last ? 1e4 : value;
    case NEAR_UNDERFLOW:
        return first ? 0 : -87.2;
    default:
        return first || last ? -INFINITY : value;
    }
}

/* Every second row stays normal, so that a row that leaks into its neighbour is seen. The seed and
 * the stream turn the cycle: few rows meet all patterns over a few seeds, and the tensors of an op
 * differ. */
static void special_row(const fill *f, int64_t row, int64_t col, int64_t count, double *value)
{
    if (row % 2)
        return;
    const uint64_t turn = (uint64_t)(row / 2) + f->seed + 5 * (uint64_t)f->stream;
    const int64_t place =
        (int64_t)(kf_random(f->seed, f->stream, (uint64_t)row) % (uint64_t)f->width);
    for (int64_t i = 0; i < count; i++)
        value[i] = special_value(f, (pattern)(turn % PATTERN_COUNT), col + i, place, value[i]);
}

static void shape_row(const fill *f, int64_t row, int64_t col, int64_t count, double *value)
{
    const double steps = f->width > 1 ? (double)(f->width - 1) : 1;
    if (f->distribution == KF_DIST_SPECIAL) {
        special_row(f, row, col, count, value);
    } else if (f->distribution == KF_DIST_OUTLIER) {
        const int64_t place =
            (int64_t)(kf_random(f->seed, f->stream, (uint64_t)row) % (uint64_t)f->width);
        if (place >= col && place < col + count)
            value[place - col] = 1e4;
    } else if (f->distribution == KF_DIST_RAMP_UP) {
        for (int64_t i = 0; i < count; i++)
            value[i] = -80 + 80 * ((double)(col + i) / steps);
    } else if (f->distribution == KF_DIST_RAMP_DOWN) {
        for (int64_t i = 0; i < count; i++)
            value[i] = -80 * ((double)(col + i + (f->width == 1)) / steps);
    }
}

/* ---- filling ------------------------------------------------------------------------------ */

static void fill_block(const fill *f, int64_t block)
{
    const kf_tensor *t = f->tensor;
    const int64_t line = kf_tensor_width(t),
                  stride = t->rank && line > 1 ? t->stride[t->rank - 1] : 1;
    const int64_t begin = block * BLOCK, end = begin + BLOCK < f->count ? begin + BLOCK : f->count;
    double value[BLOCK];
    block_values(f, block, value);
    for (int64_t at = begin; at < end;) {
        const int64_t col = at % f->width;
        int64_t n = f->width - col < line - at % line ? f->width - col : line - at % line;
        n = n < end - at ? n : end - at;
        if (t->dtype != KF_I32 && t->dtype != KF_I64)
            shape_row(f, at / f->width, col, n, value + (at - begin));
        kf_store_many(f->data, t->dtype, kf_tensor_offset(t, at), stride, value + (at - begin), n);
        at += n;
    }
}

static void fill_blocks(void *context, int64_t first, int64_t end)
{
    for (int64_t block = first; block < end; block++)
        fill_block(context, block);
}

void kf_inputs_fill(const kf_tensor *tensor, void *data, kf_distribution distribution,
                    uint64_t seed, int stream)
{
    enum { VIRTUAL_ROW = 64 }; /* a vector would be one row and so hold one pattern only */
    kf_tensor distinct = *tensor;
    for (int i = 0; i < distinct.rank; i++)
        if (distinct.stride[i] == 0 && distinct.size[i] > 1)
            distinct.size[i] = 1;
    fill f = {.tensor = &distinct,
              .data = data,
              .distribution = distribution,
              .seed = seed,
              .stream = stream};
    f.count = kf_tensor_elements(&distinct);
    f.width = kf_tensor_width(&distinct);
    if (distribution == KF_DIST_SPECIAL && distinct.rank == 1)
        f.width = VIRTUAL_ROW;
    kf_parallel((f.count + BLOCK - 1) / BLOCK, BLOCKS_PER_THREAD, fill_blocks, &f);
}

const char *kf_distribution_name(kf_distribution distribution)
{
    static const char *const name[KF_DIST_COUNT] = {
        [KF_DIST_NORMAL] = "normal",   [KF_DIST_OFFSET] = "offset",
        [KF_DIST_WIDE] = "wide",       [KF_DIST_TINY] = "tiny",
        [KF_DIST_RAMP_UP] = "ramp-up", [KF_DIST_RAMP_DOWN] = "ramp-down",
        [KF_DIST_TWO] = "two",         [KF_DIST_EQUAL] = "equal",
        [KF_DIST_OUTLIER] = "outlier", [KF_DIST_INTEGER] = "integer",
        [KF_DIST_SPECIAL] = "special",
    };
    return distribution < KF_DIST_COUNT ? name[distribution] : "?";
}
