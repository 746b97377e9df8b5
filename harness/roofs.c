/* Measured limits: the plans of the op `ceilings` and the driver's own copy, by the same clock as
 * everything that is divided by them. A roof is the best of several kernel shapes, because a slow
 * roof flatters every kernel below it; which shape won is remembered per device, how fast it is
 * never: that is measured again in every process. SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"
#include "../core/backend.h"
#include "remember.h"
#include "verify.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES = 9, CANDIDATES = SHAPES + 1, KEPT = 256, SHAPE_BYTES = 48 };

static const char driver_copy[] = "driver copy";

static const struct {
    const char *name, *variant;
    int tensors; /* that move; partial sums do not count */
    double read; /* share of the bytes */
} mixes[KF_MIX_COUNT] = {
    [KF_MIX_READ] = {"read", "read", 1, 1},
    [KF_MIX_WRITE] = {"write", "write", 1, 0},
    [KF_MIX_COPY] = {"copy", "copy", 2, 1.0 / 2},
    [KF_MIX_2_1] = {"2 in 1 out", "add2", 3, 2.0 / 3},
    [KF_MIX_3_1] = {"3 in 1 out", "add3", 4, 3.0 / 4},
};

const char *kf_mix_name(kf_mix mix)
{
    return mixes[mix].name;
}

kf_mix kf_mix_of(int64_t bytes_read, int64_t bytes_written)
{
    const double all = (double)bytes_read + (double)bytes_written;
    const double read = all > 0 ? (double)bytes_read / all : mixes[KF_MIX_COPY].read;
    kf_mix nearest = KF_MIX_READ;
    for (int i = 0; i < KF_MIX_COUNT; i++)
        if (fabs(mixes[i].read - read) < fabs(mixes[nearest].read - read))
            nearest = (kf_mix)i;
    return nearest;
}

/* ---- plans -------------------------------------------------------------------------------- */

static kf_status open_plan(const kf_device *device, const char *variant, const char *knobs,
                           int64_t n, int64_t iterations, kf_plan **plan)
{
    const kf_op *op = kf_op_find("ceilings");
    kf_problem *problem;
    kf_status status = kf_problem_open("ceilings", &problem);
    if (status != KF_OK)
        return status;
    status = kf_problem_shape(problem, KF_F32, (int64_t[KF_MAX_DIMS]){n},
                              kf_op_variant(op, variant)->tensors);
    for (int i = 0; i < op->tensor_count; i++)
        if (problem->tensor[i].dtype)
            problem->tensor[i].alignment = 16; /* what every buffer of its own has */
    if (status == KF_OK)
        status = kf_problem_int(problem, "iterations", iterations);
    if (status == KF_OK)
        status = kf_plan_open(problem, &(kf_plan_desc){.variant = variant, .knobs = knobs},
                              kf_device_target(device), plan);
    kf_problem_close(problem);
    return status;
}

/* Has this passed in this process? With `passed`, it has from now on. */
static bool verified(const char *name, bool passed)
{
    static char *list[KEPT];
    static int count;
    for (int i = 0; i < count; i++)
        if (!strcmp(list[i], name))
            return true;
    if (passed && count < KEPT && (list[count] = strdup(name)))
        count++;
    return passed;
}

/* Whole tiles of every shape, a whole chunk of partial sums, and a tail. */
static kf_status verify_once(kf_device *device, kf_queue *queue, const char *variant,
                             const char *knobs)
{
    const int64_t n = 5 * 8192 + 1037, iterations = 16;
    const kf_device_info *info = kf_device_describe(device);
    char name[256];
    kf_plan *plan = NULL;
    kf_verify_report report = {.passed = true};
    snprintf(name, sizeof name, "%s %s %s %s", info->id, info->driver, variant, knobs);
    if (device->backend->pretended || verified(name, false)) /* nothing runs on no device */
        return KF_OK;
    kf_status status = open_plan(device, variant, knobs, n, iterations, &plan);
    if (status == KF_OK)
        status = kf_verify(plan, device, queue, NULL, &report);
    kf_plan_close(plan);
    if (status == KF_OK && !report.passed)
        return kf_fail(KF_WRONG_RESULT, "the roof '%s' (%s) is wrong and has no rate: %s", variant,
                       knobs, report.reason);
    if (status == KF_OK)
        verified(name, true);
    return status;
}

/* ---- one mix ------------------------------------------------------------------------------ */

typedef struct contest {
    kf_device *device;
    kf_queue *queue;
    kf_mix mix;
    int64_t n;
    int count;
    char shape[CANDIDATES][SHAPE_BYTES];
    kf_plan *plan[CANDIDATES];
    kf_subject subject[CANDIDATES];
    kf_timing timing[CANDIDATES];
} contest;

static kf_status enter(contest *c, const char *shape)
{
    const char *variant = mixes[c->mix].variant;
    const bool copy = !strcmp(shape, driver_copy);
    const int i = c->count;
    kf_status status = copy ? KF_OK : verify_once(c->device, c->queue, variant, shape);
    if (status == KF_OK)
        status = open_plan(c->device, variant, copy ? NULL : shape, c->n, 0, &c->plan[i]);
    if (status != KF_OK)
        return status;
    snprintf(c->shape[i], SHAPE_BYTES, "%s", shape);
    c->subject[i] = (kf_subject){.plan = c->plan[i],
                                 .device = c->device,
                                 .queue = c->queue,
                                 .only_step = -1,
                                 .driver_copy = copy};
    c->count++;
    return KF_OK;
}

static kf_status enter_all(contest *c)
{
    const bool cpu = c->device->info.target.capabilities & KF_CAP_CPU;
    if (cpu)
        return enter(c, "");
    for (int vecs = 1; vecs <= 4; vecs *= 2)
        for (int block = 128; block <= 512; block *= 2) {
            char shape[SHAPE_BYTES];
            snprintf(shape, sizeof shape, "VECS=%d BLOCK=%d", vecs, block);
            const kf_status status =
                block <= c->device->info.target.max_threads ? enter(c, shape) : KF_OK;
            if (status != KF_OK)
                return status;
        }
    return c->mix == KF_MIX_COPY && !c->device->backend->pretended ? enter(c, driver_copy) : KF_OK;
}

static void leave_all(contest *c)
{
    for (int i = 0; i < CANDIDATES; i++)
        kf_plan_close(c->plan[i]);
}

/* "roof.copy.30": shapes are remembered per mix and power of two of the bytes. */
static void shape_key(const contest *c, int64_t bytes, char *key, size_t room)
{
    int power = 0;
    while (bytes >> (power + 1))
        power++;
    snprintf(key, room, "roof.%s.%d", mixes[c->mix].variant, power);
}

static int best(const contest *c)
{
    int winner = 0;
    for (int i = 1; i < c->count; i++)
        if (c->timing[i].median < c->timing[winner].median)
            winner = i;
    return winner;
}

static kf_status hold(contest *c, int64_t bytes, kf_roof *roof)
{
    const kf_device_info *info = kf_device_describe(c->device);
    char key[64], shape[SHAPE_BYTES];
    shape_key(c, bytes, key, sizeof key);
    roof->remembered = kf_recall(info, key, shape, sizeof shape) && enter(c, shape) == KF_OK;
    kf_status status = roof->remembered ? KF_OK : enter_all(c);
    if (status == KF_OK)
        status = kf_measure(c->subject, c->count, NULL, c->timing);
    if (status != KF_OK)
        return status;
    const int winner = best(c);
    const kf_cost cost = kf_plan_cost(c->plan[winner]);
    roof->bytes = cost.bytes_read + cost.bytes_written;
    roof->bytes_per_second = (double)roof->bytes / c->timing[winner].median;
    snprintf(roof->shape, sizeof roof->shape, "%s",
             *c->shape[winner] ? c->shape[winner] : "one shape");
    return roof->remembered || c->count == 1 ? KF_OK : kf_remember(info, key, c->shape[winner]);
}

typedef struct kept_roof {
    char device[160];
    kf_mix mix;
    int64_t bytes;
    kf_roof roof;
} kept_roof;

kf_status kf_roof_measure(kf_device *device, kf_queue *queue, kf_mix mix, int64_t bytes,
                          kf_roof *roof)
{
    static kept_roof kept[KEPT];
    static int count;
    kept_roof wanted = {.mix = mix, .bytes = bytes};
    snprintf(wanted.device, sizeof wanted.device, "%s %s", device->info.id, device->info.driver);
    for (int i = 0; i < count; i++)
        if (kept[i].mix == mix && kept[i].bytes == bytes &&
            !strcmp(kept[i].device, wanted.device)) {
            *roof = kept[i].roof;
            return KF_OK;
        }
    contest *c = calloc(1, sizeof *c);
    if (!c)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for a roof");
    *roof = (kf_roof){0};
    *c = (contest){.device = device, .queue = queue, .mix = mix};
    c->n = bytes / 4 / mixes[mix].tensors / 4 * 4; /* whole vectors */
    c->n = c->n < 1024 ? 1024 : c->n;
    const kf_status status = hold(c, bytes, roof);
    leave_all(c);
    free(c);
    wanted.roof = *roof;
    if (status == KF_OK && count < KEPT)
        kept[count++] = wanted;
    return status;
}

/* ---- launches and arithmetic -------------------------------------------------------------- */

static kf_status time_plan(kf_device *device, kf_queue *queue, const char *variant, int64_t n,
                           int64_t iterations, kf_cost *cost, double *seconds)
{
    const kf_measure_options warm = {.warm = true};
    kf_timing *timing = calloc(1, sizeof *timing);
    kf_plan *plan = NULL;
    kf_status status = timing ? open_plan(device, variant, NULL, n, iterations, &plan)
                              : kf_fail(KF_OUT_OF_MEMORY, "no host memory for a roof");
    if (status == KF_OK)
        status = kf_measure(
            &(kf_subject){.plan = plan, .device = device, .queue = queue, .only_step = -1}, 1,
            &warm, timing);
    if (status == KF_OK) {
        *cost = kf_plan_cost(plan);
        *seconds = timing->median;
    }
    kf_plan_close(plan);
    free(timing);
    return status;
}

kf_status kf_roof_empty(kf_device *device, kf_queue *queue, double *seconds)
{
    static struct {
        char device[160];
        double seconds;
    } kept[16];
    static int count;
    char name[160];
    kf_cost cost;
    snprintf(name, sizeof name, "%s %s", device->info.id, device->info.driver);
    for (int i = 0; i < count; i++)
        if (!strcmp(kept[i].device, name)) {
            *seconds = kept[i].seconds;
            return KF_OK;
        }
    /* nothing to verify: it writes nothing */
    const kf_status status = time_plan(device, queue, "empty", 1, 0, &cost, seconds);
    if (status == KF_OK && count < 16) {
        snprintf(kept[count].device, sizeof kept[count].device, "%s", name);
        kept[count++].seconds = *seconds;
    }
    return status;
}

/* Threads for several waves of full units, so that the last one does not matter. */
static int64_t compute_threads(const kf_target *target)
{
    const int units = target->units > 0 ? target->units : 1;
    return target->capabilities & KF_CAP_SIMULATOR ? 64 : (int64_t)units * 8192;
}

kf_status kf_roof_compute(kf_device *device, kf_queue *queue, double *flops, double *exps)
{
    const kf_target *target = kf_device_target(device);
    const int64_t n = compute_threads(target),
                  iterations = target->capabilities & KF_CAP_SIMULATOR ? 2 : 256;
    kf_cost cost;
    double seconds;
    kf_status status = verify_once(device, queue, "fma", "");
    if (status == KF_OK)
        status = verify_once(device, queue, "exp", "");
    if (status == KF_OK)
        status = time_plan(device, queue, "fma", n, iterations, &cost, &seconds);
    if (status != KF_OK)
        return status;
    *flops = (double)cost.flops / seconds;
    status = time_plan(device, queue, "exp", n, iterations, &cost, &seconds);
    if (status == KF_OK)
        *exps = (double)cost.specials / seconds;
    return status;
}
