/* fork is followed by exec at once: a driver's threads do not survive a bare fork, and what is not
 * async-signal-safe (PATH, environment) is done before it. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "child.h"
#include "../core/backend.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool kf_child_find(const char *name, char *path, size_t bytes)
{
    const char *at = getenv("PATH");
    while (at && *at) {
        const size_t length = strcspn(at, ":");
        snprintf(path, bytes, "%.*s/%s", (int)length, length ? at : ".", name);
        if (access(path, X_OK) == 0) {
            return true;
        }
        at += length + (at[length] == ':');
    }
    return false;
}

static bool overridden(const kf_child *child, const char *entry)
{
    const size_t name = strcspn(entry, "=") + 1;
    for (int i = 0; i < KF_CHILD_SETTINGS && child->set[i]; i++) {
        if (strncmp(child->set[i], entry, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Our environment with the child's settings in it; NULL without memory. */
static char **environment_of(const kf_child *child)
{
    int count = 0, n = 0;
    while (environ[count]) {
        count++;
    }
    char **list = calloc((size_t)count + KF_CHILD_SETTINGS + 1, sizeof *list);
    for (int i = 0; list && i < count; i++) {
        if (!overridden(child, environ[i])) {
            list[n++] = environ[i];
        }
    }
    for (int i = 0; list && i < KF_CHILD_SETTINGS && child->set[i]; i++) {
        list[n++] = (char *)child->set[i];
    }
    return list;
}

/* The child's standard input as a file without a name; /dev/null where there is none. */
static int open_input(const kf_child *child)
{
    if (!child->input) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    const size_t bytes = strlen(child->input);
    const int file = memfd_create("kfuse-stdin", MFD_CLOEXEC);
    if (file >= 0 &&
        (write(file, child->input, bytes) != (ssize_t)bytes || lseek(file, 0, SEEK_SET))) {
        close(file);
        return -1;
    }
    return file;
}

static pid_t start(const kf_child *child, int out, int err)
{
    char *argv[KF_CHILD_WORDS + 2] = {(char *)(child->program ? child->program : "kfuse")};
    for (int i = 0; i < KF_CHILD_WORDS && child->word[i]; i++) {
        argv[i + 1] = (char *)child->word[i];
    }
    const char *program = child->program ? child->program : "/proc/self/exe";
    char **variables = environment_of(child);
    const int in = open_input(child);
    const pid_t pid = variables && in >= 0 ? fork() : -1;
    if (pid == 0) {
        setpgid(0, 0); /* so that what a driver starts can be ended with it */
        if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) {
            _exit(126);
        }
        execve(program, argv, variables);
        _exit(127);
    }
    free(variables);
    if (in >= 0) {
        close(in);
    }
    return pid;
}

static bool cancelled(const kf_child *child)
{
    return child->cancel && *child->cancel;
}

/* Collects the pipe until its end, the time limit or an interrupt; false for the latter two. */
static bool collect(const kf_child *child, int pipe_end, double deadline, FILE *text)
{
    char chunk[4096];
    while (!cancelled(child)) {
        struct pollfd wait = {.fd = pipe_end, .events = POLLIN};
        const double left = deadline - now();
        if (left <= 0) {
            return false;
        }
        const int ready = poll(&wait, 1, left > 0.2 ? 200 : (int)(left * 1000) + 1);
        if (ready <= 0) {
            continue;
        }
        const ssize_t n = read(pipe_end, chunk, sizeof chunk);
        if (n == 0) {
            return true;
        }
        if (n > 0) {
            fwrite(chunk, 1, (size_t)n, text);
        } else if (errno != EINTR) {
            return true;
        }
    }
    return false;
}

/* The last line of what the child said on stderr: an assertion, a driver's own message. */
static void last_line(int err, char *line, size_t bytes)
{
    char text[2048];
    const off_t size = lseek(err, 0, SEEK_END);
    const off_t from = size > (off_t)sizeof text - 1 ? size - (off_t)sizeof text + 1 : 0;
    const ssize_t n = size > 0 ? pread(err, text, sizeof text - 1, from) : 0;
    size_t end = n > 0 ? (size_t)n : 0;
    while (end && (text[end - 1] == '\n' || text[end - 1] == ' ')) {
        end--;
    }
    text[end] = 0;
    const char *start_of_line = memrchr(text, '\n', end);
    snprintf(line, bytes, "%s", start_of_line ? start_of_line + 1 : text);
}

static void judge(kf_child *child, bool ended, int state)
{
    child->exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    child->verdict[0] = 0;
    if (!ended) {
        child->exit_code = -1;
        snprintf(child->verdict, sizeof child->verdict, "did not answer within %.0f s",
                 child->seconds);
    } else if (WIFSIGNALED(state)) {
        snprintf(child->verdict, sizeof child->verdict, "crashed (%s)", strsignal(WTERMSIG(state)));
    }
}

kf_status kf_child_run(kf_child *child)
{
    int end[2] = {-1, -1};
    size_t size = 0;
    child->out = NULL;
    const int err = memfd_create("kfuse-stderr", MFD_CLOEXEC);
    FILE *text = open_memstream(&child->out, &size);
    kf_status status =
        kf_fail(KF_IO, "cannot start %s: %s",
                child->program ? child->program : "a child of this program", strerror(errno));
    if (err < 0 || !text || pipe2(end, O_CLOEXEC) != 0) {
        goto done;
    }
    const pid_t pid = start(child, end[1], err);
    if (pid < 0) {
        goto done;
    }
    setpgid(pid, pid); /* whoever is first */
    close(end[1]);
    end[1] = -1;
    const bool ended = collect(child, end[0], now() + child->seconds, text);
    int state = 0;
    if (!ended) {
        kill(-pid, SIGKILL);
    }
    while (waitpid(pid, &state, 0) < 0 && errno == EINTR) {
    }
    judge(child, ended, state);
    last_line(err, child->complaint, sizeof child->complaint);
    status = cancelled(child) ? kf_fail(KF_UNAVAILABLE, "interrupted") : KF_OK;
done:
    if (text) {
        fclose(text);
    }
    for (int i = 0; i < 2; i++) {
        if (end[i] >= 0) {
            close(end[i]);
        }
    }
    if (err >= 0) {
        close(err);
    }
    return status;
}
