/* Runs our own program again, for what a driver may answer with a crash or with silence (testing.md
 * 14). fork is followed by exec at once: a driver's threads do not survive a bare fork.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
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

static pid_t start(const kf_child *child, int out, int err)
{
    char *argv[10] = {(char *)"kfuse"};
    for (int i = 0; i < 8 && child->word[i]; i++) {
        argv[i + 1] = (char *)child->word[i];
    }
    const pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    setpgid(0, 0); /* so that what a driver starts can be ended with it */
    const int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) {
        _exit(126);
    }
    execv("/proc/self/exe", argv);
    _exit(127);
}

/* Collects the pipe until its end, the time limit or an interrupt; false for the latter two. */
static bool collect(int pipe_end, double deadline, FILE *text)
{
    char chunk[4096];
    while (!kf_cancelled) {
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
    kf_status status = kf_fail(KF_IO, "cannot start a child of this program: %s", strerror(errno));
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
    const bool ended = collect(end[0], now() + child->seconds, text);
    int state = 0;
    if (!ended) {
        kill(-pid, SIGKILL);
    }
    while (waitpid(pid, &state, 0) < 0 && errno == EINTR) {
    }
    judge(child, ended, state);
    last_line(err, child->complaint, sizeof child->complaint);
    status = kf_cancelled ? kf_fail(KF_UNAVAILABLE, "interrupted") : KF_OK;
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
