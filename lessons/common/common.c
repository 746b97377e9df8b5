/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"
#include "../../core/backend.h"

const char *kf_lesson_times(const kf_lesson_context *context)
{
    return context->unicode ? "×" : "x";
}

const char *kf_lesson_micro(const kf_lesson_context *context)
{
    return context->unicode ? "µs" : "us";
}

const char *kf_lesson_tick(const kf_lesson_context *context)
{
    return context->unicode ? "✓" : "ok";
}

const char *kf_lesson_branch(const kf_lesson_context *context, bool last)
{
    if (context->unicode) {
        return last ? "└─" : "├─";
    }
    return last ? "`-" : "|-";
}

void kf_lesson_shape(const kf_lesson_context *context, const kf_case *c, char *text, size_t bytes)
{
    size_t used = 0;
    for (int i = 0; i < kf_op_dim_count(c->op) && used < bytes; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%lld",
                                 i ? kf_lesson_times(context) : "", (long long)c->dim[i]);
    }
}

int64_t kf_lesson_moved(const kf_cost *cost)
{
    return cost->bytes_read + cost->bytes_written;
}

double kf_lesson_of_roof(const kf_plan_roof *roof, const kf_timing *timing)
{
    return timing->median > 0 ? 100 * roof->seconds / timing->median : 0;
}

bool kf_lesson_on_cpu(const kf_device *device)
{
    return kf_device_target(device)->capabilities & KF_CAP_CPU;
}

bool kf_lesson_stopped(const kf_lesson_context *context)
{
    return context->cancel && *context->cancel;
}

kf_status kf_lesson_case(const kf_lesson_context *context, const char *name, const char *with,
                         int64_t rows, int64_t columns, kf_case *c)
{
    const kf_op *op = kf_op_find(name);
    if (!op) {
        return kf_fail(KF_UNSUPPORTED, "this build has no op %s", name);
    }
    *c = (kf_case){
        .op = op, .dtype = context->dtype ? context->dtype : KF_F32, .seed = context->seed};
    for (int a = 0; a < op->attribute_count; a++) {
        c->attribute[a].f = op->attributes[a].fallback;
        c->attribute[a].i = (int64_t)op->attributes[a].fallback;
    }
    c->dim[0] = kf_op_dim_count(op) > 1 ? rows : rows * columns;
    c->dim[1] = kf_op_dim_count(op) > 1 ? columns : 0;
    return with ? kf_case_with(c, with) : KF_OK;
}

kf_status kf_lesson_each(const kf_lesson_context *context, const char *title,
                         kf_status (*run)(const kf_lesson_context *context, kf_device *device,
                                          kf_queue *queue))
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < context->device_count; i++) {
        kf_queue *queue = NULL;
        const kf_device_info *info = kf_device_describe(context->devices[i]);
        fprintf(context->out, "Lesson %s    %s %s\n\n", title, info->id, info->name);
        status = kf_queue_open(context->devices[i], NULL, &queue);
        if (status == KF_OK) {
            status = run(context, context->devices[i], queue);
        }
        kf_queue_close(queue);
    }
    return status;
}
