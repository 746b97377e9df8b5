/* SPDX-License-Identifier: Apache-2.0 */
#include "numbers.h"
#include "variance.h"
#include "../../core/backend.h"
#include "../../harness/inputs.h"
#include <math.h>
#include <stdlib.h>

enum { VALUES = 4096 };

static void cell(FILE *out, float value, double want)
{
    char text[48];
    snprintf(text, sizeof text, "%.5g (%.0e)", value, fabs(value - want) / want);
    fprintf(out, " %22s", text);
}

/* One row of the table; the spread stays what it is, the mean is added in f32 as it would be
 * stored. */
static kf_variances row(FILE *out, const float *spread, float *x, double mean)
{
    for (int i = 0; i < VALUES; i++) {
        x[i] = (float)(mean + spread[i]);
    }
    const kf_variances v = kf_variances_of(x, VALUES);
    fprintf(out, "    %8.0e %12.6f", mean, v.exact);
    cell(out, v.two_passes, v.exact);
    cell(out, v.welford, v.exact);
    cell(out, v.moments, v.exact);
    fprintf(out, "%s\n", v.moments < 0 ? "  negative: its root is NaN" : "");
    return v;
}

/* Below this mean nothing is lost; from it on the squares need more digits than f32 has. */
static void explain(FILE *out, double lost)
{
    fprintf(out,
            "  E[x^2] - mean^2 subtracts two numbers that agree in all their leading digits: with "
            "a spread of 1\n"
            "  f32 holds nothing of the variance from a mean of %.0e on. Welford's running mean is "
            "rounded at\n"
            "  every step, and that shows as the mean grows. Two passes round the mean once, and "
            "the error of the\n"
            "  mean enters squared. That the second pass is free is what fusion gives: the row is "
            "on the chip.\n",
            lost);
}

static void table(FILE *out, const float *spread, float *x)
{
    static const double means[] = {0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
    double lost = 0;
    fprintf(out, "    %8s %12s %22s %22s %22s\n", "MEAN", "IN DOUBLE", "TWO PASSES", "WELFORD",
            "E[x^2] - mean^2");
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        const kf_variances v = row(out, spread, x, means[i]);
        if (lost == 0 && fabs(v.moments - v.exact) > 0.5 * v.exact) {
            lost = means[i];
        }
    }
    explain(out, lost);
}

kf_status kf_layer_norm_numbers(const kf_lesson_context *context)
{
    kf_tensor tensor;
    float *memory = malloc(2 * VALUES * sizeof *memory);
    const int64_t size = VALUES;
    kf_status status = memory ? kf_tensor_contiguous(KF_F32, 1, &size, &tensor)
                              : kf_fail(KF_OUT_OF_MEMORY, "no memory for %d numbers", VALUES);
    if (status == KF_OK) {
        fprintf(context->out,
                "5 Numbers.  The variance of %d values with spread 1 in f32 (relative error), %d "
                "partial sums\n"
                "            side by side as in a kernel; on the host, the same on every device\n",
                VALUES, KF_VARIANCE_LANES);
        kf_inputs_fill(&tensor, memory, KF_DIST_NORMAL, context->seed, 0);
        table(context->out, memory, memory + VALUES);
    }
    free(memory);
    return status;
}
