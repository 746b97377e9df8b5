/* bench --processes=N: a driver lays out memory and clocks anew in every process, and only medians
 * over fresh ones repeat. Each child is this very command line with its rows sent to a temporary
 * file. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct merged { /* one key with the times of all processes */
    kf_result row;
    kf_device_info device;
    char key[1024];
    double median[KF_MAX_SAMPLES], host[KF_MAX_SAMPLES], roof[KF_MAX_SAMPLES], least;
    int count;
} merged;

typedef struct gather {
    kf_cli *cli;
    int process;
    merged *list;
    int count;
} gather;

static int run_child(kf_cli *cli, const char *path)
{
    char rows[300];
    char **argv = calloc((size_t)cli->argc + 3, sizeof *argv);
    if (!argv) {
        return kf_cli_fail(kf_fail(KF_OUT_OF_MEMORY, "no memory for a command line"));
    }
    snprintf(rows, sizeof rows, "--rows-to=jsonl:%s", path);
    argv[0] = (char *)"kfuse";
    argv[1] = (char *)"bench";
    argv[2] = rows; /* in front: a `--` may end the options further on */
    memcpy(argv + 3, cli->argv + 2, (size_t)(cli->argc - 2) * sizeof *argv);
    const pid_t pid = fork();
    if (pid == 0) {
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    int state = 0;
    while (pid > 0 && waitpid(pid, &state, 0) < 0 && errno == EINTR) {
        kill(pid, SIGINT); /* we were interrupted: the child, too */
    }
    free(argv);
    if (pid < 0 || WIFSIGNALED(state)) {
        return kf_cli_complain(4, "a fresh process %s",
                               pid < 0 ? "could not be started" : strsignal(WTERMSIG(state)));
    }
    return WEXITSTATUS(state);
}

static merged *find(gather *g, const kf_result *row)
{
    char key[1024], test[800];
    kf_case_print(&row->test, test, sizeof test);
    snprintf(key, sizeof key, "%s %s %d", row->device ? row->device->id : "", test, row->step);
    for (int i = 0; i < g->count; i++) {
        if (strcmp(g->list[i].key, key) == 0) {
            return &g->list[i];
        }
    }
    merged *more = realloc(g->list, (size_t)(g->count + 1) * sizeof *more);
    if (!more) {
        return NULL;
    }
    g->list = more;
    more += g->count++;
    *more = (merged){.row = *row, .least = row->timing.least};
    snprintf(more->key, sizeof more->key, "%s", key);
    if (row->device) {
        more->device = *row->device;
    }
    return more;
}

/* The reader's strings last as long as the call: statuses become our own constants. */
static const char *status_constant(const char *status)
{
    static const char *const known[] = {"ok", "unsupported", "skipped", "wrong"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(known[i], status) == 0) {
            return known[i];
        }
    }
    return "error";
}

static kf_status each_row(const kf_result *row, void *data)
{
    gather *g = data;
    kf_result own = *row;
    own.process = g->process;
    const kf_status status = kf_cli_process_row(g->cli, &own);
    merged *m = status == KF_OK ? find(g, row) : NULL;
    if (status == KF_OK && !m) {
        return kf_fail(KF_OUT_OF_MEMORY, "no host memory for the rows");
    }
    if (!m) {
        return status;
    }
    own.status = status_constant(row->status);
    if (m->count == 0 || strcmp(own.status, "ok") != 0) {
        m->row = own; /* one bad process makes the merged row bad */
    }
    if (strcmp(own.status, "ok") == 0 && m->count < KF_MAX_SAMPLES) {
        m->median[m->count] = row->timing.median;
        m->host[m->count] = row->timing.host;
        m->roof[m->count++] = row->roof_bytes_per_second;
        m->least = row->timing.least < m->least ? row->timing.least : m->least;
    }
    return KF_OK;
}

static double middle(const double *value, int count)
{
    double median, low, high;
    kf_band(value, count, &median, &low, &high);
    return median;
}

static kf_status emit_merged(gather *g)
{
    kf_status status = KF_OK;
    for (int i = 0; status == KF_OK && i < g->count; i++) {
        merged *m = &g->list[i];
        kf_timing *t = &m->row.timing;
        m->row.device = &m->device;
        m->row.process = 0;
        if (strcmp(m->row.status, "ok") == 0 && m->count) {
            kf_band(m->median, m->count, &t->median, &t->low, &t->high);
            memcpy(t->sample, m->median, sizeof t->sample);
            t->samples = m->count;
            t->least = m->least;
            t->host = middle(m->host, m->count);
            m->row.roof_bytes_per_second = middle(m->roof, m->count);
        }
        status = kf_cli_row(g->cli, &m->row);
    }
    return status;
}

int kf_cli_processes(kf_cli *cli, int processes)
{
    const char *folder = getenv("TMPDIR");
    gather g = {.cli = cli};
    int code = 0;
    for (int i = 1; i <= processes && (code == 0 || code == 1) && !kf_cancelled; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/kfuse-rows-XXXXXX", folder && *folder ? folder : "/tmp");
        const int file = mkstemp(path);
        if (file < 0) {
            code = kf_cli_fail(kf_fail(KF_IO, "%s: %s", path, strerror(errno)));
            break;
        }
        close(file);
        kf_cli_note(cli, "process %d of %d", i, processes);
        const int child = run_child(cli, path);
        g.process = i;
        code = child > code ? child : code;
        if (code <= 1 && !kf_cancelled) {
            const kf_status status = kf_results_read(path, each_row, &g);
            code = status == KF_OK ? code : kf_cli_fail(status);
        }
        unlink(path);
    }
    if (code <= 1 && !kf_cancelled) {
        const kf_status status = emit_merged(&g);
        code = status == KF_OK ? code : kf_cli_fail(status);
    }
    free(g.list);
    return code;
}
