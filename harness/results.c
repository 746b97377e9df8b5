/* Sinks: -o FORMAT[:FILE]. SPDX-License-Identifier: Apache-2.0 */
#include "results_parts.h"
#include "../core/backend.h"
#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum format { TABLE, JSON, JSONL, FORMAT_COUNT } format;
static const char *const format_name[FORMAT_COUNT] = {"table", "json", "jsonl"};

enum { INTERRUPTED = 130 };

struct kf_sink {
    format format;
    char *path; /* NULL = standard output */
    int fd;     /* jsonl: where the lines go */
    kf_file *file;
    kf_table *table;
    json_t *context, *results;
    bool begun; /* jsonl: the run record is out */
    bool made;  /* jsonl: there was no such file before */
};

static const char *name_of(const kf_sink *sink)
{
    return sink->path ? sink->path : "standard output";
}

static kf_status no_memory(const kf_sink *sink)
{
    return kf_fail(KF_OUT_OF_MEMORY, "no host memory for the results of %s", name_of(sink));
}

/* ---- opening -------------------------------------------------------------------------------- */

static kf_status parse_spec(kf_sink *sink, const char *spec)
{
    const size_t length = strcspn(spec, ":");
    int found = FORMAT_COUNT;
    for (int i = 0; i < FORMAT_COUNT; i++)
        if (strlen(format_name[i]) == length && !strncmp(spec, format_name[i], length))
            found = i;
    if (found == FORMAT_COUNT) {
        char word[32];
        snprintf(word, sizeof word, "%.*s", length < 31 ? (int)length : 31, spec);
        const char *near = kf_nearest(word, format_name, FORMAT_COUNT);
        return kf_fail(
            KF_INVALID,
            "there is no output format '%s'%s%s%s; choose table, json or jsonl, with ':FILE' "
            "behind it to write a file",
            word, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    }
    sink->format = (format)found;
    if (!spec[length])
        return KF_OK;
    if (!spec[length + 1])
        return kf_fail(KF_INVALID, "'%s' names no file behind the colon", spec);
    sink->path = strdup(spec + length + 1);
    return sink->path ? KF_OK : no_memory(sink);
}

kf_status kf_sink_check(const char *spec)
{
    kf_sink sink = {0};
    const kf_status status = parse_spec(&sink, spec);
    free(sink.path);
    return status;
}

/* Lines are kept even when the program dies, so jsonl goes straight to its name; it is emptied by
 * the first line only: another -o may still be refused. Everything else appears whole. */
static kf_status open_output(kf_sink *sink)
{
    sink->fd = STDOUT_FILENO;
    if (!sink->path)
        return KF_OK;
    if (sink->format != JSONL)
        return kf_file_create(sink->path, &sink->file);
    const bool absent = access(sink->path, F_OK) != 0;
    sink->fd = open(sink->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    sink->made = absent && sink->fd >= 0;
    return sink->fd >= 0 ? KF_OK
                         : kf_fail(KF_IO, "cannot write %s: %s", sink->path, strerror(errno));
}

static void free_sink(kf_sink *sink)
{
    if (sink->path && sink->fd >= 0 && sink->fd != STDOUT_FILENO)
        close(sink->fd);
    if (sink->made && !sink->begun)
        unlink(sink->path);
    kf_file_abandon(sink->file);
    kf_table_close(sink->table);
    json_decref(sink->context);
    json_decref(sink->results);
    free(sink->path);
    free(sink);
}

kf_status kf_sink_open(const char *spec, int argc, char **argv, kf_sink **sink)
{
    *sink = NULL;
    kf_sink *made = calloc(1, sizeof *made);
    if (!made)
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for a result sink");
    made->fd = -1;
    kf_status status = parse_spec(made, spec);
    if (status == KF_OK)
        status = open_output(made);
    if (status == KF_OK) {
        made->context = kf_context_json(argc, argv);
        made->results = json_array();
        made->table = kf_table_open();
        if (!made->context || !made->results || !made->table)
            status = no_memory(made);
    }
    if (status != KF_OK)
        free_sink(made);
    else
        *sink = made;
    return status;
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* One record, one line, one write(); `json` is consumed. */
static kf_status write_line(kf_sink *sink, json_t *json)
{
    char *text = json ? kf_json_print(json, true) : NULL;
    kf_status status = text ? KF_OK : no_memory(sink);
    if (text) {
        const size_t length = strlen(text);
        text[length] = '\n'; /* in place of the NUL: the line leaves in one piece */
        if (!sink->path)
            fflush(stdout);
        status = kf_write_all(sink->fd, name_of(sink), text, length + 1);
    }
    free(text);
    json_decref(json);
    return status;
}

static kf_status begin(kf_sink *sink)
{
    if (sink->begun || sink->format != JSONL)
        return KF_OK;
    sink->begun = true;
    if (sink->path && ftruncate(sink->fd, 0) && errno != EINVAL) /* EINVAL: a pipe, a device */
        return kf_fail(KF_IO, "cannot write %s: %s", sink->path, strerror(errno));
    return write_line(sink, json_pack("{sssssO}", "record", "run", "schema_version",
                                      KF_SCHEMA_VERSION, "context", sink->context));
}

kf_status kf_sink_context(kf_sink *sink, const kf_device_info *const *devices, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, kf_device_json(devices[i]));
    if (!list || json_object_set_new(sink->context, "devices", list))
        return no_memory(sink);
    return begin(sink);
}

kf_status kf_sink_row(kf_sink *sink, const kf_result *row)
{
    if (sink->format == TABLE)
        return kf_table_add(sink->table, row) ? KF_OK : no_memory(sink);
    json_t *json = kf_result_json(row);
    if (!json)
        return no_memory(sink);
    if (sink->format == JSON)
        return json_array_append_new(sink->results, json) ? no_memory(sink) : KF_OK;
    const kf_status status = begin(sink);
    if (status != KF_OK || json_object_set_new(json, "record", json_string("result"))) {
        json_decref(json);
        return status != KF_OK ? status : no_memory(sink);
    }
    return write_line(sink, json);
}

/* ---- closing -------------------------------------------------------------------------------- */

static char *whole_text(const kf_sink *sink)
{
    if (sink->format == TABLE)
        return kf_table_print(sink->table);
    json_t *whole = json_pack("{sssOsO}", "schema_version", KF_SCHEMA_VERSION, "context",
                              sink->context, "results", sink->results);
    char *text = whole ? kf_json_print(whole, false) : NULL;
    json_decref(whole);
    return text;
}

static kf_status write_whole(kf_sink *sink)
{
    char *text = whole_text(sink);
    if (!text)
        return no_memory(sink);
    const size_t length = strlen(text);
    const bool newline = length == 0 || text[length - 1] != '\n';
    fflush(stdout);
    kf_status status = sink->file ? kf_file_write(sink->file, text, length)
                                  : kf_write_all(sink->fd, name_of(sink), text, length);
    if (status == KF_OK && newline)
        status = sink->file ? kf_file_write(sink->file, "\n", 1)
                            : kf_write_all(sink->fd, name_of(sink), "\n", 1);
    free(text);
    if (status == KF_OK && sink->file) {
        status = kf_file_commit(sink->file);
        sink->file = NULL;
    }
    return status;
}

/* A command that failed must not put half of a sweep in the place of a whole one, nor titles on
 * standard output; what was measured before it failed is shown there, and json stays parseable. */
static bool shows(const kf_sink *sink, int exit_code)
{
    if (sink->format == JSONL || exit_code == INTERRUPTED)
        return false;
    if (exit_code <= 1) /* done, or done with a bad finding */
        return true;
    return !sink->path && (sink->format == JSON || kf_table_rows(sink->table) > 0);
}

/* An interrupted run has no end record: that is how a reader knows. */
kf_status kf_sink_close(kf_sink *sink, int exit_code)
{
    kf_status status = KF_OK;
    if (!sink)
        return KF_OK;
    if (shows(sink, exit_code))
        status = write_whole(sink);
    if (sink->format == JSONL && exit_code != INTERRUPTED && (sink->begun || exit_code <= 1)) {
        status = begin(sink);
        if (status == KF_OK)
            status = write_line(sink, json_pack("{sssi}", "record", "end", "exit", exit_code));
    }
    if (sink->format == JSONL && sink->path && close(sink->fd) && status == KF_OK)
        status = kf_fail(KF_IO, "cannot write %s: %s", sink->path, strerror(errno));
    if (sink->format == JSONL && sink->path)
        sink->fd = -1;
    free_sink(sink);
    return status;
}
