/* label: opencl */
/* each: op */
/* timeout: 1200 */
/* Every op, variant and dtype at odd shapes, strides, offsets and nasty inputs on any one device,
 * judged by kf_verify: guard zones, two poisons, derived bounds. Devices: --backend=NAME,
 * --device=ID|UUID|part of a name, or every device of the process. What a device cannot run is
 * counted and said with its reason, never passed over in silence.
 *
 * One CMocka test per op x variant x dtype x device; the shapes are inside.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/verify.h"
#include "optional_rig.h"
#include "pick_device.h"
#include "shapes.h"

typedef struct bench_device {
    kf_device *device;
    kf_queue *queue;
} bench_device;

typedef struct subject {
    bench_device *on;
    const kf_op *op;
    const kf_variant *variant;
    kf_dtype dtype;
    const char *way; /* knobs of every case from here on; NULL = defaults */
    bool all;        /* every case from here on has every optional tensor */
    int runs;        /* of every case from here on; 0 = the usual two */
    int ran, refused;
    char name[160];
} subject;

enum { MAX_DEVICES = 8, MAX_SUBJECTS = 512 };
static bench_device devices[MAX_DEVICES];
static subject subjects[MAX_SUBJECTS];
static int device_count, subject_count;

static bool simulated(const subject *s)
{
    return kf_device_target(s->on->device)->capabilities & KF_CAP_SIMULATOR;
}

static bool long_run(const subject *s)
{
    return !(kf_device_target(s->on->device)->capabilities & KF_CAP_CPU) || getenv("KFUSE_LONG");
}

/* On a CPU device every width meets f32 and bf16, the small ones f16, which takes the same ways;
 * where KFUSE_SOME is set a choice of them meets f32, fewer bf16; lanes that look for other
 * mistakes (KFUSE_BRIEF) take the small ones in f32 alone. KFUSE_LONG=1 leaves nothing out. */
static bool brief(const subject *s)
{
    const bool small = s->dtype == KF_F16 || (few_wanted() && s->dtype != KF_F32);
    return !long_run(s) && !simulated(s) && (small || getenv("KFUSE_BRIEF"));
}

/* ---- one case ----------------------------------------------------------------------------- */

static kf_status open_plan(const kf_case *c, const kf_target *target, kf_plan **plan)
{
    kf_problem *problem;
    kf_status status = kf_problem_open(c->op->name, &problem);
    if (status != KF_OK)
        return status;
    char knobs[512] = "";
    for (int i = 0, used = 0; i < c->op->knob_count; i++)
        if (c->config.set[i])
            used += snprintf(knobs + used, sizeof knobs - (size_t)used, "%s=%lld ",
                             c->op->knobs[i].name, (long long)c->config.knob[i]);
    status = kf_case_problem(c, problem);
    if (status == KF_OK)
        status = kf_plan_open(problem, &(kf_plan_desc){.variant = c->variant->name, .knobs = knobs},
                              target, plan);
    kf_problem_close(problem);
    return status;
}

static void check_case(subject *s, const kf_case *c, kf_distribution distribution)
{
    char text[512];
    kf_plan *plan = NULL;
    kf_verify_report report;
    kf_verify_options options = {
        .distribution = distribution,
        .seed = c->seed,
        .runs = s->runs,
        /* a simulator and memcheck know only whole buffers: a guard would hide an overrun */
        .exact_size =
            simulated(s) || (getenv("KFUSE_GUARD") && !strcmp(getenv("KFUSE_GUARD"), "0"))};
    memcpy(options.offset, c->offset, sizeof options.offset);
    kf_case_print(c, text, sizeof text);
    kf_status status = open_plan(c, kf_device_target(s->on->device), &plan);
    if (status == KF_UNSUPPORTED) {
        if (!s->refused++ || getenv("KFUSE_VERBOSE"))
            fprintf(stderr, "refused: %s: %s\n", text, kf_error());
        return;
    }
    /* a plan that was made fits: what the device then refuses is a failure */
    if (status == KF_OK)
        status = kf_verify(plan, s->on->device, s->on->queue, &options, &report);
    kf_plan_close(plan);
    if (status != KF_OK)
        fail_msg("%s (%s inputs): %s: %s", text, kf_distribution_name(distribution),
                 kf_status_name(status), kf_error());
    if (!report.passed)
        fail_msg("%s (%s inputs): %s", text, kf_distribution_name(distribution), report.reason);
    s->ran++;
}

static kf_case make_case(const subject *s, const int64_t *dims)
{
    kf_case c = {.op = s->op, .variant = s->variant, .dtype = s->dtype, .seed = 42};
    for (int i = 0; i < kf_op_dim_count(s->op); i++)
        c.dim[i] = dims[i];
    for (int i = 0; i < s->op->attribute_count; i++)
        c.attribute[i] = (kf_attribute){.i = (int64_t)s->op->attributes[i].fallback,
                                        .f = s->op->attributes[i].fallback};
    set_way(&c, s->way);
    char names[256];
    if (s->all && optional_all(s->op, ",", names, sizeof names))
        kf_case_with(&c, names);
    return c;
}

/* ---- shapes ------------------------------------------------------------------------------- */

static void check_rows(subject *s)
{
    const bool some = !long_run(s) && getenv("KFUSE_SOME"),
               few = simulated(s) || few_wanted() || (some && s->dtype != KF_F32);
    const width_list list = width_choice(few, some, !long_run(s));
    for (int i = 0; i < list.count; i++) {
        const int64_t rows = (list.at[i] < 64 && !few ? 131 : 1) + i % 3;
        const kf_case c = make_case(s, (int64_t[]){rows, list.at[i]});
        check_case(s, &c, KF_DIST_NORMAL);
    }
    for (int i = 0; i < (long_run(s) ? LONG_SHAPES : few ? 2 : 6); i++) {
        kf_case c = make_case(s, long_shapes[i]);
        if (!few || c.dim[0] * c.dim[1] < 16384)
            check_case(s, &c, KF_DIST_NORMAL);
    }
}

static void check_lengths(subject *s)
{
    const bool few = simulated(s) || few_wanted();
    const int64_t *list = few ? few_lengths : lengths;
    const int count = (int)(few ? sizeof few_lengths : sizeof lengths) / (int)sizeof *lengths;
    for (int i = 0; i < count; i++) {
        kf_case c = make_case(s, &list[i]);
        check_case(s, &c, KF_DIST_NORMAL);
    }
}

/* Row padding, and bases that are 1, 2, 3 elements off: misaligned vectors, writes into padding. */
static void check_views(subject *s, const int64_t *dims)
{
    for (int shift = 0; shift < 4; shift++) {
        kf_case c = make_case(s, dims);
        for (int t = 0; t < s->op->tensor_count; t++) {
            c.offset[t] = shift ? (shift + t) % 5 : 0;
            if (kf_op_dim_count(s->op) == 2 && strchr(s->op->tensors[t].dims, ' '))
                c.stride[t] = dims[1] + (shift == 3 ? 3 + 2 * t : shift == 2 ? 8 : 1 + t);
        }
        check_case(s, &c, KF_DIST_NORMAL);
    }
    kf_case c = make_case(s, dims); /* misaligned alike: rows stay congruent modulo 16 bytes */
    for (int t = 0; t < s->op->tensor_count; t++)
        c.offset[t] = 3;
    check_case(s, &c, KF_DIST_NORMAL);
}

static void check_inputs(subject *s, const int64_t *dims)
{
    for (int d = 0; d < KF_DIST_COUNT; d++) {
        kf_case c = make_case(s, dims);
        c.seed = 7 + (uint64_t)d;
        check_case(s, &c, (kf_distribution)d);
    }
}

/* Every named value of every attribute beside the usual one. */
static void check_words(subject *s, const int64_t *dims)
{
    for (int a = 0; a < s->op->attribute_count; a++) {
        const char *word = s->op->attributes[a].words;
        for (int v = 0; word; v++, word = strchr(word, ' '), word += word != NULL) {
            kf_case c = make_case(s, dims);
            c.attribute[a] = (kf_attribute){.set = true, .i = v, .f = v};
            if (v != (int)s->op->attributes[a].fallback)
                for (int d = 0; d < KF_DIST_COUNT; d++)
                    check_case(s, &c, (kf_distribution)d);
        }
    }
}

/* Zero rows, zero columns: success, nothing launched, nothing written. */
static void check_empty(subject *s)
{
    for (int i = 0; i < kf_op_dim_count(s->op); i++) {
        int64_t dims[KF_MAX_DIMS] = {3, 5, 1, 1, 1, 1};
        dims[i] = 0;
        kf_case c = make_case(s, dims);
        check_case(s, &c, KF_DIST_NORMAL);
    }
}

/* Views and nasty inputs on the other ways through the kernels too: parked vectors, rows off the
 * chip. */
static void check_ways(subject *s, const int64_t *dims)
{
    for (const char *const *way = s->op->ways; way && *way; way++) {
        kf_case c = make_case(s, dims);
        if (!set_way(&c, *way))
            continue;
        s->way = *way;
        check_views(s, dims);
        check_inputs(s, dims);
        s->way = NULL;
    }
}

/* No optional tensor, and all of them: other code in the same texts. */
static void check_optional(subject *s, const int64_t *small, const int64_t *medium)
{
    char names[256];
    kf_case bare = make_case(s, small);
    if (!optional_all(s->op, ",", names, sizeof names) || kf_op_dim_count(s->op) != 2)
        return;
    kf_case_with(&bare, "none");
    check_case(s, &bare, KF_DIST_NORMAL);
    s->all = true;
    check_views(s, small);
    check_inputs(s, small);
    check_words(s, small);
    if (!brief(s) && !simulated(s) && !few_wanted()) {
        for (size_t i = 0; i < sizeof few_widths / sizeof *few_widths; i++) {
            const int64_t rows = few_widths[i] < 64 ? 33 : 3;
            const kf_case c = make_case(s, (int64_t[]){rows, few_widths[i]});
            check_case(s, &c, KF_DIST_NORMAL);
        }
        const kf_case c = make_case(s, (int64_t[]){3, 131072});
        check_case(s, &c, KF_DIST_NORMAL);
        check_inputs(s, medium);
    }
    s->all = false;
}

static void every_shape_passes(void **state)
{
    subject *s = *state;
    const int dims = kf_op_dim_count(s->op);
    const int64_t small[2] = {dims == 2 ? 7 : 777, 33}, medium[2] = {dims == 2 ? 70 : 77777, 1025};
    const int64_t whole[2] = {dims == 2 ? 7 : 768, 64}; /* rows of aligned vectors */
    check_views(s, small);
    check_inputs(s, small);
    check_inputs(s, whole);
    check_words(s, small);
    check_empty(s);
    check_optional(s, small, medium);
    if (!brief(s)) {
        if (dims == 2)
            check_rows(s);
        else
            check_lengths(s);
        check_ways(s, simulated(s) || few_wanted() ? small : medium);
    }
    if (!brief(s) && !simulated(s) && !few_wanted()) {
        check_views(s, medium);
        check_inputs(s, medium);
    }
    fprintf(stderr, "%s: %d cases passed, %d refused%s\n", s->name, s->ran, s->refused,
            brief(s) ? "; small shapes only, KFUSE_LONG=1 takes all" : "");
    if (!s->ran)
        skip();
}

/* Same device, plan and input: the same bits, every time. A race or an order of arrival shows here.
 */
static void reruns_are_bit_equal(void **state)
{
    subject *s = *state;
    if (simulated(s))
        skip();
    const int64_t rows = kf_op_dim_count(s->op) == 2 ? 64 : 65536,
                  dims[2] = {brief(s) ? 7 : rows, brief(s) ? 33 : 1000};
    const kf_case c = make_case(s, dims);
    s->runs = 100;
    check_case(s, &c, KF_DIST_NORMAL);
}

/* ---- devices and main --------------------------------------------------------------------- */

static void open_devices(const char *backend, const char *device)
{
    for (int b = 0; kf_backends[b]; b++) {
        kf_device_info list[MAX_DEVICES];
        int count = 0;
        if (!strcmp(kf_backends[b]->name, "null") ||
            kf_device_enumerate(kf_backends[b]->name, list, MAX_DEVICES, &count) != KF_OK)
            continue;
        for (int i = 0; i < count && i < MAX_DEVICES && device_count < MAX_DEVICES; i++) {
            bench_device *d = &devices[device_count];
            if (!matches(&list[i], backend, device))
                continue;
            const kf_device_desc desc = {
                .backend = kf_backends[b]->name, .index = i, .read_kernels = true};
            if (kf_device_open(&desc, &d->device) != KF_OK ||
                kf_queue_open(d->device, NULL, &d->queue) != KF_OK) {
                fprintf(stderr, "%s cannot be opened: %s\n", list[i].id, kf_error());
                exit(1);
            }
            fprintf(stderr, "device %s: %s, %s, driver %s\n", list[i].id, list[i].name,
                    list[i].platform, list[i].driver);
            device_count++;
        }
    }
}

static void add_subjects(const char *only_op)
{
    static const kf_dtype dtypes[] = {KF_F32, KF_F16, KF_BF16};
    for (int d = 0; d < device_count; d++)
        for (int o = 0; kf_ops[o]; o++)
            for (int v = 0; v < kf_ops[o]->variant_count; v++)
                for (int t = 0; t < 3 && subject_count < MAX_SUBJECTS; t++) {
                    const kf_op *op = kf_ops[o];
                    if ((getenv("KFUSE_BRIEF") && dtypes[t] != KF_F32) || op->internal ||
                        (few_wanted() && dtypes[t] == KF_F16) || kf_op_dim_count(op) > 2 ||
                        (only_op && strcmp(op->name, only_op)))
                        continue; /* ceilings and ops with other dims have test_OP.c */
                    subject *s = &subjects[subject_count++];
                    *s = (subject){.on = &devices[d],
                                   .op = op,
                                   .variant = &op->variants[v],
                                   .dtype = dtypes[t]};
                    snprintf(s->name, sizeof s->name, "%s %s %s %s", devices[d].device->info.id,
                             op->name, s->variant->name, kf_dtype_name(s->dtype));
                }
}

int main(int argc, char **argv)
{
    const char *backend = getenv("KFUSE_BACKEND"), *device = getenv("KFUSE_DEVICE"),
               *op = getenv("KFUSE_OP");
    for (int i = 1; i < argc; i++) {
        backend = !strncmp(argv[i], "--backend=", 10) ? argv[i] + 10 : backend;
        device = !strncmp(argv[i], "--device=", 9) ? argv[i] + 9 : device;
        op = !strncmp(argv[i], "--op=", 5) ? argv[i] + 5 : op;
        if (strncmp(argv[i], "--backend=", 10) && strncmp(argv[i], "--device=", 9) &&
            strncmp(argv[i], "--op=", 5)) {
            fprintf(stderr, "usage: test_conformance [--backend=NAME] [--device=ID] [--op=NAME]\n");
            return 2;
        }
    }
    open_devices(backend, device);
    if (!device_count) {
        const char *required = getenv("KFUSE_REQUIRE");
        fprintf(stderr, "no device%s%s\n", backend || device ? " matches" : "",
                required ? " (KFUSE_REQUIRE)" : "");
        return required && *required ? 1 : 77;
    }
    add_subjects(op);
    if (!subject_count) {
        fprintf(stderr, "no op for these shapes%s%s\n", op ? ": " : "", op ? op : "");
        return 77;
    }
    static struct CMUnitTest tests[2 * MAX_SUBJECTS];
    static char names[MAX_SUBJECTS][176];
    int count = 0;
    for (int i = 0; i < subject_count; i++) {
        tests[count++] =
            (struct CMUnitTest){subjects[i].name, every_shape_passes, NULL, NULL, &subjects[i]};
        snprintf(names[i], sizeof names[i], "%s bits", subjects[i].name);
        tests[count++] =
            (struct CMUnitTest){names[i], reruns_are_bit_equal, NULL, NULL, &subjects[i]};
    }
    const int failed = _cmocka_run_group_tests("conformance", tests, (size_t)count, NULL, NULL);
    int ran = 0, live = 0;
    for (int i = 0; i < subject_count; i++)
        ran += subjects[i].ran;
    for (int i = 0; i < device_count; i++) {
        kf_queue_close(devices[i].queue);
        live += devices[i].device->live;
        kf_device_close(devices[i].device);
    }
    fprintf(stderr, "%d cases passed on %d devices; %d handles leaked\n", ran, device_count, live);
    return failed || live ? 1 : 0;
}
