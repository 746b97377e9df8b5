/* SPDX-License-Identifier: Apache-2.0 */
#include "variance.h"

enum { LANES = KF_VARIANCE_LANES };

typedef struct moments { /* of a part of the values */
    float mean, squares, count;
} moments;

static float tree(float *part)
{
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            part[i] += part[i + half];
        }
    }
    return part[0];
}

/* Of (x - about)^power. */
static float sum(const float *x, int n, float about, int power)
{
    float part[LANES] = {0};
    for (int i = 0; i < n; i++) {
        const float value = x[i] - about;
        part[i % LANES] += power == 2 ? value * value : value;
    }
    return tree(part);
}

static float two_passes(const float *x, int n)
{
    const float mean = sum(x, n, 0, 1) / (float)n;
    return sum(x, n, mean, 2) / (float)n;
}

static float by_moments(const float *x, int n)
{
    const float mean = sum(x, n, 0, 1) / (float)n;
    return sum(x, n, 0, 2) / (float)n - mean * mean;
}

static moments joined(moments a, moments b)
{
    const float count = a.count + b.count, delta = b.mean - a.mean;
    return count == 0 ? a
                      : (moments){.mean = a.mean + delta * (b.count / count),
                                  .squares = a.squares + b.squares +
                                             delta * delta * a.count * b.count / count,
                                  .count = count};
}

static float welford(const float *x, int n)
{
    moments part[LANES] = {{0}};
    for (int i = 0; i < n; i++) {
        moments *m = &part[i % LANES];
        const float delta = x[i] - m->mean;
        m->count += 1;
        m->mean += delta / m->count;
        m->squares += delta * (x[i] - m->mean);
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            part[i] = joined(part[i], part[i + half]);
        }
    }
    return part[0].squares / (float)n;
}

static double exact(const float *x, int n)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        mean += x[i];
    }
    mean /= n;
    for (int i = 0; i < n; i++) {
        squares += (x[i] - mean) * (x[i] - mean);
    }
    return squares / n;
}

kf_variances kf_variances_of(const float *x, int n)
{
    return (kf_variances){.two_passes = two_passes(x, n),
                          .welford = welford(x, n),
                          .moments = by_moments(x, n),
                          .exact = exact(x, n)};
}
