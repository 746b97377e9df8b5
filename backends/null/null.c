/* The null backend: no device at all. It opens any target that is described to it, keeps buffers in
 * host memory, takes every text in which the entries occur for a program, and remembers launches
 * instead of running them, so plans, execs and every error path are tested on machines that have
 * nothing. Time is invented: each launch takes a microsecond. It reads the OpenCL texts.
 * SPDX-License-Identifier: Apache-2.0 */
#include "../../core/backend.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct null_device {
    kf_device base;
    int64_t clock; /* microseconds that its launches took */
} null_device;

typedef struct null_log { /* the last launches, each with its own copy of the values */
    kf_null_launch launch[KF_NULL_LAUNCHES];
    kf_value value[KF_NULL_LAUNCHES][KF_NULL_VALUES];
    int count;
} null_log;

typedef struct null_queue {
    kf_queue base;
    void *native;
    int64_t mark[KF_MAX_MARKS]; /* 1 + microseconds; 0 = not set */
    null_log *log, *recorded;   /* recorded: NULL unless recording */
} null_queue;

typedef struct null_buffer {
    kf_buffer base;
    unsigned char *data;
} null_buffer;

typedef struct null_program {
    kf_program base;
    char *image; /* what program_save gives: a first line, then an entry a line */
} null_program;

typedef struct null_kernel {
    kf_kernel base;
    char entry[64];
} null_kernel;

typedef struct null_recording {
    kf_recording base;
    null_log *log;
} null_recording;

static const char image_magic[] = "kfuse null program 1\n";

static kf_status no_memory(const char *what)
{
    return kf_fail(KF_OUT_OF_MEMORY, "null: no host memory for a %s", what);
}

static unsigned char *bytes_of(kf_buffer *buffer)
{
    return ((null_buffer *)buffer)->data;
}

/* ---- devices ------------------------------------------------------------------------------- */

static void describe(kf_device_info *info, const kf_target *target)
{
    *info = (kf_device_info){
        .backend = "null", .id = "null:0", .name = "null", .platform = "none", .target = *target};
    snprintf(info->driver, sizeof info->driver, "kfuse %s", kf_version());
    if (target->compute_capability)
        snprintf(info->arch, sizeof info->arch, "sm_%d", target->compute_capability);
}

static kf_status null_enumerate(kf_device_info *list, int capacity, int *count)
{
    *count = 1;
    if (capacity > 0)
        describe(&list[0], kf_target_generic());
    return KF_OK;
}

static kf_status null_device_open(const kf_device_desc *desc, kf_device **device)
{
    if (desc->index != 0)
        return kf_fail(KF_UNAVAILABLE, "null:%d: there is only null:0", desc->index);
    null_device *made = calloc(1, sizeof *made);
    if (!made)
        return no_memory("device");
    describe(&made->base.info, desc->target ? desc->target : kf_target_generic());
    *device = &made->base;
    return KF_OK;
}

static kf_status null_device_close(kf_device *device)
{
    free(device);
    return KF_OK;
}

static kf_status null_probe(kf_device *device, const char *experiment, int *answer)
{
    long long bytes = 0;
    if (sscanf(experiment, "local:%lld", &bytes) != 1)
        return kf_fail(KF_UNSUPPORTED, "null: there is no experiment '%s'", experiment);
    *answer = bytes <= device->info.target.local_bytes;
    return KF_OK;
}

static kf_status null_diagnose(kf_finding *list, int capacity, int *count)
{
    (void)list, (void)capacity;
    *count = 0; /* nothing that could be missing */
    return KF_OK;
}

/* ---- queues -------------------------------------------------------------------------------- */

static kf_status null_queue_open(kf_device *device, const kf_queue_desc *desc, kf_queue **queue)
{
    (void)device;
    null_queue *made = calloc(1, sizeof *made);
    null_log *log = calloc(1, sizeof *log);
    if (!made || !log) {
        free(made);
        free(log);
        return no_memory("queue");
    }
    made->native = desc->adopt ? desc->native : made;
    made->log = log;
    *queue = &made->base;
    return KF_OK;
}

static kf_status null_queue_close(kf_queue *queue)
{
    null_queue *own = (null_queue *)queue;
    free(own->log);
    free(own->recorded);
    free(own);
    return KF_OK;
}

static kf_status null_queue_wait(kf_queue *queue, kf_queue *other)
{
    (void)queue, (void)other;
    return KF_OK;
}

static kf_status null_finish(kf_queue *queue)
{
    (void)queue;
    return KF_OK;
}

static kf_status null_queue_native(kf_queue *queue, void **native)
{
    *native = ((null_queue *)queue)->native;
    return KF_OK;
}

/* ---- buffers ------------------------------------------------------------------------------- */

static kf_status null_buffer_open(kf_device *device, const kf_buffer_desc *desc, kf_buffer **buffer)
{
    null_buffer *made = calloc(1, sizeof *made);
    if (!made)
        return no_memory("buffer");
    made->data =
        desc->adopt ? (unsigned char *)desc->native + desc->native_offset : calloc(1, desc->bytes);
    if (!made->data || (desc->adopt && !desc->native)) {
        free(made);
        return desc->adopt ? kf_fail(KF_INVALID, "null: there is no memory to wrap")
                           : kf_fail(KF_OUT_OF_MEMORY, "null: no host memory for %zu bytes on %s",
                                     desc->bytes, device->info.id);
    }
    if (desc->adopt) { /* of the address, as far as anyone asks */
        const uintptr_t address = (uintptr_t)made->data | 4096;
        made->base.alignment = (int)(address & (~address + 1));
    }
    made->base.adopted = desc->adopt;
    *buffer = &made->base;
    return KF_OK;
}

static kf_status null_buffer_close(kf_buffer *buffer)
{
    if (!buffer->adopted)
        free(bytes_of(buffer));
    free(buffer);
    return KF_OK;
}

static kf_status null_buffer_write(kf_queue *queue, kf_buffer *buffer, size_t offset,
                                   const void *data, size_t bytes)
{
    (void)queue;
    memcpy(bytes_of(buffer) + offset, data, bytes);
    return KF_OK;
}

static kf_status null_buffer_read(kf_queue *queue, kf_buffer *buffer, size_t offset, void *data,
                                  size_t bytes)
{
    (void)queue;
    memcpy(data, bytes_of(buffer) + offset, bytes);
    return KF_OK;
}

/* A recording here holds launches only; to run the rest at once would be something else than was
 * asked for. */
static kf_status check_not_recording(const kf_queue *queue, const char *verb)
{
    return ((const null_queue *)queue)->recorded
               ? kf_fail(KF_UNSUPPORTED, "null: %s cannot be recorded", verb)
               : KF_OK;
}

static kf_status null_buffer_fill(kf_queue *queue, kf_buffer *buffer, size_t offset, size_t bytes,
                                  uint32_t pattern, int pattern_bytes)
{
    const uint8_t byte = (uint8_t)pattern;
    const uint16_t half = (uint16_t)pattern;
    const void *source = pattern_bytes == 1   ? (const void *)&byte
                         : pattern_bytes == 2 ? (const void *)&half
                                              : &pattern;
    const kf_status status = check_not_recording(queue, "a fill");
    for (size_t i = 0; status == KF_OK && i < bytes; i += (size_t)pattern_bytes)
        memcpy(bytes_of(buffer) + offset + i, source, (size_t)pattern_bytes);
    return status;
}

static kf_status null_buffer_copy(kf_queue *queue, kf_buffer *to, size_t to_offset, kf_buffer *from,
                                  size_t from_offset, size_t bytes)
{
    const kf_status status = check_not_recording(queue, "a copy");
    if (status == KF_OK)
        memcpy(bytes_of(to) + to_offset, bytes_of(from) + from_offset, bytes);
    return status;
}

/* ---- programs ------------------------------------------------------------------------------ */

/* Is `name` followed by '(' somewhere, and no part of a longer name? */
static bool declares(const char *text, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = strstr(text, name); at; at = strstr(at + 1, name)) {
        const char before = at == text ? ' ' : at[-1];
        const char *after = at + length;
        while (*after == ' ')
            after++;
        if (*after == '(' && !isalnum((unsigned char)before) && before != '_')
            return true;
    }
    return false;
}

static char *make_image(const kf_program_desc *desc)
{
    char *image = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&image, &bytes);
    if (!out)
        return NULL;
    fputs(image_magic, out);
    for (int i = 0; i < desc->entry_count; i++)
        fprintf(out, "%s\n", desc->entries[i]);
    if (fclose(out) != 0) {
        free(image);
        return NULL;
    }
    return image;
}

static kf_status check_text(const kf_program_desc *desc, const char *image)
{
    const size_t bytes = strlen(image);
    if (desc->binary && (desc->binary_bytes != bytes || memcmp(desc->binary, image, bytes) != 0))
        return kf_fail(KF_BUILD_FAILED, "null: the stored binary of %s is another program's",
                       desc->name);
    for (int i = 0; i < desc->entry_count; i++)
        if (!declares(desc->text, desc->entries[i]))
            return kf_fail(KF_BUILD_FAILED, "null: %s has no entry '%s'", desc->name,
                           desc->entries[i]);
    return KF_OK;
}

static kf_status null_program_build(kf_device *device, const kf_program_desc *desc,
                                    kf_program **program)
{
    (void)device;
    null_program *made = calloc(1, sizeof *made);
    char *image = make_image(desc);
    kf_status status = made && image ? check_text(desc, image) : no_memory("program");
    if (status != KF_OK) {
        free(made);
        free(image);
        return status;
    }
    made->image = image;
    *program = &made->base;
    return KF_OK;
}

static kf_status null_program_save(kf_program *program, void **data, size_t *bytes)
{
    *data = strdup(((null_program *)program)->image);
    if (!*data)
        return no_memory("saved program");
    *bytes = strlen(*data);
    return KF_OK;
}

static kf_status null_program_close(kf_program *program)
{
    free(((null_program *)program)->image);
    free(program);
    return KF_OK;
}

static kf_status null_kernel_open(kf_program *program, const char *entry, kf_kernel_info *info,
                                  kf_kernel **kernel)
{
    char line[68];
    null_kernel *made = calloc(1, sizeof *made);
    if (!made)
        return no_memory("kernel");
    snprintf(made->entry, sizeof made->entry, "%s", entry);
    snprintf(line, sizeof line, "\n%s\n", made->entry);
    if (!strstr(((null_program *)program)->image, line)) {
        free(made);
        return kf_fail(KF_INVALID, "null: the program was built without the entry '%s'", entry);
    }
    info->max_threads = program->device->info.target.max_threads;
    *kernel = &made->base;
    return KF_OK;
}

static kf_status null_kernel_close(kf_kernel *kernel)
{
    free(kernel);
    return KF_OK;
}

/* ---- launches, time, replay ---------------------------------------------------------------- */

static void remember(null_log *log, const char *entry, const kf_launch *launch)
{
    const int place = log->count++ % KF_NULL_LAUNCHES;
    kf_null_launch *kept = &log->launch[place];
    const int values = launch->value_count < KF_NULL_VALUES ? launch->value_count : KF_NULL_VALUES;
    memcpy(kept->entry, entry, sizeof kept->entry);
    kept->launch = *launch;
    if (values)
        memcpy(log->value[place], launch->values, (size_t)values * sizeof *launch->values);
    kept->launch.values = log->value[place];
    kept->launch.value_count = values;
}

static void spend(kf_queue *queue, int launches)
{
    ((null_device *)queue->device)->clock += launches;
}

static kf_status null_launch(kf_queue *queue, const kf_launch *launch)
{
    null_queue *own = (null_queue *)queue;
    const char *entry = ((null_kernel *)launch->kernel)->entry;
    if (own->recorded && own->recorded->count == KF_NULL_LAUNCHES)
        return kf_fail(KF_UNSUPPORTED, "null: a recording holds at most %d launches",
                       KF_NULL_LAUNCHES);
    remember(own->recorded ? own->recorded : own->log, entry, launch);
    if (!own->recorded)
        spend(queue, 1);
    return KF_OK;
}

static kf_status null_mark(kf_queue *queue, int index)
{
    ((null_queue *)queue)->mark[index] = 1 + ((null_device *)queue->device)->clock;
    return KF_OK;
}

static kf_status null_elapsed(kf_queue *queue, int first, int last, double *seconds)
{
    const null_queue *own = (const null_queue *)queue;
    if (!own->mark[first] || !own->mark[last])
        return kf_fail(KF_INVALID, "null: mark %d was not set", own->mark[first] ? last : first);
    *seconds = (double)(own->mark[last] - own->mark[first]) * 1e-6;
    return KF_OK;
}

static kf_status null_record_begin(kf_queue *queue)
{
    null_queue *own = (null_queue *)queue;
    own->recorded = calloc(1, sizeof *own->recorded);
    return own->recorded ? KF_OK : no_memory("recording");
}

static kf_status null_record_end(kf_queue *queue, kf_recording **recording)
{
    null_queue *own = (null_queue *)queue;
    null_recording *made = calloc(1, sizeof *made);
    if (!made) {
        free(own->recorded);
        own->recorded = NULL;
        return no_memory("recording");
    }
    made->log = own->recorded;
    own->recorded = NULL;
    *recording = &made->base;
    return KF_OK;
}

static kf_status null_replay(kf_queue *queue, kf_recording *recording)
{
    null_queue *own = (null_queue *)queue;
    const null_log *log = ((const null_recording *)recording)->log;
    for (int i = 0; i < log->count; i++)
        remember(own->log, log->launch[i].entry, &log->launch[i].launch);
    spend(queue, log->count);
    return KF_OK;
}

static kf_status null_recording_close(kf_recording *recording)
{
    free(((null_recording *)recording)->log);
    free(recording);
    return KF_OK;
}

int kf_null_launch_count(const kf_queue *queue)
{
    return ((const null_queue *)queue)->log->count;
}

const kf_null_launch *kf_null_launches(const kf_queue *queue)
{
    return ((const null_queue *)queue)->log->launch;
}

const kf_backend kf_backend_null = {.name = "null",
                                    .kernels = "opencl",
                                    .suffix = "cl",
                                    .pretended = true,
#define SLOT(verb, parameters) .verb = null_##verb,
                                    KF_SLOTS(SLOT)
#undef SLOT
};
