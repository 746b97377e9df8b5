/* Medians and bands of samples. SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between the two neighbours of place (count - 1) * share, as NumPy does by default. */
static double quantile(const double *sorted, int count, double share)
{
    const double place = (count - 1) * share;
    const int below = (int)place;
    const double rest = place - below;
    return rest > 0 ? sorted[below] + rest * (sorted[below + 1] - sorted[below]) : sorted[below];
}

void kf_band(const double *sample, int count, double *median, double *low, double *high)
{
    double sorted[KF_MAX_SAMPLES];
    *median = *low = *high = NAN;
    count = count > KF_MAX_SAMPLES ? KF_MAX_SAMPLES : count;
    if (count < 1)
        return;
    memcpy(sorted, sample, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    *median = quantile(sorted, count, 0.5);
    *low = quantile(sorted, count, 0.2);
    *high = quantile(sorted, count, 0.8);
}

/* Samples of the same number stood beside each other in time: what slowed one slowed the other. */
void kf_quotient(const kf_timing *a, const kf_timing *b, double *median, double *low, double *high)
{
    double quotient[KF_MAX_SAMPLES];
    const int count = a->samples < b->samples ? a->samples : b->samples;
    for (int i = 0; i < count; i++)
        quotient[i] = a->sample[i] / b->sample[i];
    kf_band(quotient, count, median, low, high);
}
