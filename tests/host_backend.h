/* A backend for tests whose device is this process: buffers are host memory, and a kernel is a C
 * function found by its entry's name in host_kernels[], which the test defines. Include in one
 * file. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_HOST_BACKEND_H
#define KF_HOST_BACKEND_H
#include "../core/backend.h"
#include <stdlib.h>
#include <string.h>

typedef struct host_kernel_entry {
    const char *name;
    void (*run)(const kf_value *value);
} host_kernel_entry;
extern const host_kernel_entry host_kernels[]; /* ends with a NULL name */

typedef struct host_buffer {
    kf_buffer base;
    char *data;
} host_buffer;

typedef struct host_kernel {
    kf_kernel base;
    const host_kernel_entry *entry;
} host_kernel;

/* Memory of a kernel's pointer argument: buffer and the offset behind it, in elements. */
static inline char *host_pointer(const kf_value *value, int size)
{
    return ((host_buffer *)value[0].as.buffer)->data + value[1].as.i64 * size;
}

static kf_status host_enumerate(kf_device_info *list, int capacity, int *count)
{
    (void)list;
    (void)capacity;
    *count = 1;
    return KF_OK;
}

static kf_status host_device_open(const kf_device_desc *desc, kf_device **device)
{
    (void)desc;
    *device = calloc(1, sizeof **device);
    if (!*device)
        return kf_fail(KF_OUT_OF_MEMORY, "no memory");
    strcpy((*device)->info.backend, "host");
    strcpy((*device)->info.name, "this process");
    (*device)->info.target = *kf_target_generic();
    return KF_OK;
}

static kf_status host_device_close(kf_device *device)
{
    free(device);
    return KF_OK;
}

static kf_status host_probe(kf_device *device, const char *experiment, int *answer)
{
    (void)device;
    (void)answer;
    return kf_fail(KF_UNSUPPORTED, "no experiment %s", experiment);
}

static kf_status host_diagnose(kf_finding *list, int capacity, int *count)
{
    (void)list;
    (void)capacity;
    *count = 0;
    return KF_OK;
}

static kf_status host_queue_open(kf_device *device, const kf_queue_desc *desc, kf_queue **queue)
{
    (void)device;
    (void)desc;
    *queue = calloc(1, sizeof **queue);
    return *queue ? KF_OK : kf_fail(KF_OUT_OF_MEMORY, "no memory");
}

static kf_status host_queue_close(kf_queue *queue)
{
    free(queue);
    return KF_OK;
}

static kf_status host_queue_wait(kf_queue *queue, kf_queue *other)
{
    (void)queue;
    (void)other;
    return KF_OK;
}

static kf_status host_finish(kf_queue *queue)
{
    (void)queue;
    return KF_OK;
}

static kf_status host_queue_native(kf_queue *queue, void **native)
{
    *native = queue;
    return KF_OK;
}

static kf_status host_buffer_open(kf_device *device, const kf_buffer_desc *desc, kf_buffer **buffer)
{
    enum {
        SLACK = 8192
    }; /* planted overruns of exact-size buffers must not kill the test itself */
    (void)device;
    host_buffer *made = calloc(1, sizeof *made);
    if (made)
        made->data = calloc(1, desc->bytes + SLACK);
    if (!made || !made->data) {
        free(made);
        return kf_fail(KF_OUT_OF_MEMORY, "no memory");
    }
    *buffer = &made->base;
    return KF_OK;
}

static kf_status host_buffer_close(kf_buffer *buffer)
{
    free(((host_buffer *)buffer)->data);
    free(buffer);
    return KF_OK;
}

static kf_status host_buffer_write(kf_queue *queue, kf_buffer *buffer, size_t offset,
                                   const void *data, size_t bytes)
{
    (void)queue;
    memcpy(((host_buffer *)buffer)->data + offset, data, bytes);
    return KF_OK;
}

static kf_status host_buffer_read(kf_queue *queue, kf_buffer *buffer, size_t offset, void *data,
                                  size_t bytes)
{
    (void)queue;
    memcpy(data, ((host_buffer *)buffer)->data + offset, bytes);
    return KF_OK;
}

static kf_status host_buffer_fill(kf_queue *queue, kf_buffer *buffer, size_t offset, size_t bytes,
                                  uint32_t pattern, int pattern_bytes)
{
    (void)queue;
    for (size_t i = 0; i < bytes; i++)
        ((host_buffer *)buffer)->data[offset + i] =
            (char)(pattern >> 8 * (i % (size_t)pattern_bytes));
    return KF_OK;
}

static kf_status host_buffer_copy(kf_queue *queue, kf_buffer *to, size_t to_offset, kf_buffer *from,
                                  size_t from_offset, size_t bytes)
{
    (void)queue;
    memmove(((host_buffer *)to)->data + to_offset, ((host_buffer *)from)->data + from_offset,
            bytes);
    return KF_OK;
}

static kf_status host_program_build(kf_device *device, const kf_program_desc *desc,
                                    kf_program **program)
{
    (void)device;
    (void)desc;
    *program = calloc(1, sizeof **program);
    return *program ? KF_OK : kf_fail(KF_OUT_OF_MEMORY, "no memory");
}

static kf_status host_program_save(kf_program *program, void **data, size_t *bytes)
{
    (void)program;
    *data = NULL;
    *bytes = 0;
    return kf_fail(KF_UNSUPPORTED, "nothing to save");
}

static kf_status host_program_close(kf_program *program)
{
    free(program);
    return KF_OK;
}

static kf_status host_kernel_open(kf_program *program, const char *entry, kf_kernel_info *info,
                                  kf_kernel **kernel)
{
    (void)program;
    host_kernel *made = calloc(1, sizeof *made);
    if (!made)
        return kf_fail(KF_OUT_OF_MEMORY, "no memory");
    *info = (kf_kernel_info){.registers = -1, .spill_bytes = -1, .local_bytes = -1};
    for (made->entry = host_kernels; made->entry->name && strcmp(made->entry->name, entry) != 0;)
        made->entry++;
    *kernel = &made->base;
    return KF_OK;
}

static kf_status host_kernel_close(kf_kernel *kernel)
{
    free(kernel);
    return KF_OK;
}

static kf_status host_launch(kf_queue *queue, const kf_launch *launch)
{
    (void)queue;
    ((host_kernel *)launch->kernel)->entry->run(launch->values);
    return KF_OK;
}

static kf_status host_mark(kf_queue *queue, int index)
{
    (void)queue;
    (void)index;
    return KF_OK;
}

static kf_status host_elapsed(kf_queue *queue, int first, int last, double *seconds)
{
    (void)queue;
    *seconds = last - first;
    return KF_OK;
}

static kf_status host_record_begin(kf_queue *queue)
{
    (void)queue;
    return kf_fail(KF_UNSUPPORTED, "no recordings");
}

static kf_status host_record_end(kf_queue *queue, kf_recording **recording)
{
    (void)queue;
    *recording = NULL;
    return kf_fail(KF_UNSUPPORTED, "no recordings");
}

static kf_status host_replay(kf_queue *queue, kf_recording *recording)
{
    (void)queue;
    (void)recording;
    return kf_fail(KF_UNSUPPORTED, "no recordings");
}

static kf_status host_recording_close(kf_recording *recording)
{
    (void)recording;
    return KF_OK;
}

static const kf_backend host_backend = {.name = "host",
                                        .kernels = "host",
                                        .suffix = "c",
#define SLOT(verb, parameters) .verb = host_##verb,
                                        KF_SLOTS(SLOT)
#undef SLOT
};
#endif
