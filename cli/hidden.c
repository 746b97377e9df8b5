/* The hidden commands: what a child of our own program does. Its results go to the pipe alone; what
 * a driver prints on standard output goes to standard error. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "../harness/once.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static FILE *keep_pipe(void)
{
    const int copy = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    return copy < 0 ? NULL : fdopen(copy, "w");
}

static int say_status(FILE *out, kf_status status)
{
    fprintf(out, "status %d %s\n", (int)status, status == KF_OK ? "" : kf_error());
    return fclose(out) == 0 ? 0 : 5;
}

static int enumerate(FILE *out, const char *backend)
{
    static kf_device_info list[KF_CLI_DEVICES];
    int count = 0;
    const kf_status status = kf_device_enumerate(backend, list, KF_CLI_DEVICES, &count);
    for (int i = 0; status == KF_OK && i < count && i < KF_CLI_DEVICES; i++) {
        kf_info_print(out, &list[i]);
    }
    return say_status(out, status);
}

static void print_finding(FILE *out, const kf_finding *f)
{
    /* a tab separates, an empty field is a lone space: strtok_r would skip an empty one */
    fprintf(out, "finding\t%d\t%s \t%s \t%s \n", f->good, f->what, f->detail, f->remedy);
}

static int diagnose(FILE *out, const char *backend)
{
    kf_finding list[16];
    int count = 0;
    const kf_backend *table = kf_backend_find(backend);
    memset(list, 0, sizeof list);
    const kf_status status = table ? table->diagnose(list, 16, &count) : KF_INVALID;
    for (int i = 0; i < count && i < 16; i++) {
        print_finding(out, &list[i]);
    }
    return say_status(out, status);
}

static int probe(FILE *out, const char *backend, const char *index)
{
    kf_device *device = NULL;
    const kf_device_desc desc = {.backend = backend, .index = atoi(index)};
    kf_status status = kf_device_open(&desc, &device);
    if (status == KF_OK) {
        status = kf_device_probe_all(device);
    }
    kf_device_close(device);
    return say_status(out, status);
}

static int run(int argc, char **argv)
{
    FILE *out = keep_pipe();
    if (!out) {
        return 5;
    }
    if (strcmp(argv[1], "__enumerate") == 0) {
        return enumerate(out, argv[2]);
    }
    if (strcmp(argv[1], "__diagnose") == 0) {
        return diagnose(out, argv[2]);
    }
    if (strcmp(argv[1], "__probe") == 0 && argc == 4) {
        return probe(out, argv[2], argv[3]);
    }
    return 2;
}

int kf_hidden(int argc, char **argv)
{
    if (argc < 3 || strncmp(argv[1], "__", 2) != 0) {
        return -1;
    }
    if (strcmp(argv[1], "__once") == 0 && argc == 4) {
        /* its standard output is the simulator's or the profiler's as well, and those write at exit
         */
        return kf_once(argv[2], argv[3]);
    }
    /* what is known has been said: no driver gets the chance to crash or hang while it is unloaded
     */
    _exit(run(argc, argv));
}
