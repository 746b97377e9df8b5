/* kfuse: the command. Finds the subcommand and hands over. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

typedef struct kf_command {
    const char *name;
    int (*run)(kf_cli *cli, int argc, char **argv);
    const char *help;
} kf_command;

static const kf_command commands[] = {
    {.name = "devices",
     .run = kf_cmd_devices,
     .help = "backends and devices, and which are one GPU"},
    {.name = "doctor",
     .run = kf_cmd_doctor,
     .help = "what is there, what is missing, what mends it"},
    {.name = "list", .run = kf_cmd_list, .help = "ops, variants, knobs, lessons"},
    {.name = "lesson", .run = kf_cmd_lesson, .help = "count, predict, measure, explain"},
    {.name = "explain",
     .run = kf_cmd_explain,
     .help = "launches, bytes, FLOPs of an op; no device needed"},
    {.name = "run", .run = kf_cmd_run, .help = "run an op on .npy files"},
    {.name = "bench", .run = kf_cmd_bench, .help = "verify and time ops"},
    {.name = "compare", .run = kf_cmd_compare, .help = "two backends side by side on one GPU"},
    {.name = "cache", .run = kf_cmd_cache, .help = "compiled kernels on disk: show, clear"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int help(FILE *out)
{
    fprintf(out, "Usage: kfuse COMMAND [OBJECT] [--option=value]...\n\n");
    for (int i = 0; i < COMMANDS; i++) {
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].help);
    }
    fprintf(out,
            "\n`kfuse COMMAND --help` tells the options of one. First steps: kfuse doctor, then\n"
            "kfuse lesson. Exit codes: 0 done and right, 1 a wrong result, 2 usage, 3 something\n"
            "named is not here, 4 driver or compiler, 5 file, 130 interrupted.\n");
    return 0;
}

static const kf_command *find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int unknown(const char *word)
{
    const char *choices[COMMANDS + 2];
    for (int i = 0; i < COMMANDS; i++) {
        choices[i] = commands[i].name;
    }
    choices[COMMANDS] = "help";
    choices[COMMANDS + 1] = "version";
    return kf_cli_unknown("command", word, choices, COMMANDS + 2);
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

static int dispatch(kf_cli *cli, const kf_command *command, int argc, char **argv)
{
    char name[64]; /* argp prints argv[0] in front of its messages */
    char **own = calloc((size_t)argc + 1, sizeof *own);
    if (!own) {
        return 4;
    }
    memcpy(own, argv, (size_t)argc * sizeof *own);
    snprintf(name, sizeof name, "kfuse %s", command->name);
    own[0] = name;
    const int code = command->run(cli, argc, own);
    free(own);
    return code;
}

int main(int argc, char **argv)
{
    static kf_cli cli;
    const int hidden = kf_hidden(argc, argv);
    if (hidden >= 0) {
        return hidden;
    }
    kf_cli_start(&cli, argc, argv);
    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (is_one_of(argv[1], "version", "--version", "-V")) {
        return printf("kfuse %s\n", kf_version()) < 0 ? 5 : 0;
    }
    if (is_one_of(argv[1], "--help", "-h", "-?")) {
        return help(stdout);
    }
    if (strcmp(argv[1], "help") == 0) {
        if (argc == 2) {
            return help(stdout);
        }
        const kf_command *about = find(argv[2]);
        char *ask[] = {argv[0], (char[]){"--help"}, NULL};
        return about ? dispatch(&cli, about, 2, ask) : unknown(argv[2]);
    }
    const kf_command *command = find(argv[1]);
    return command ? dispatch(&cli, command, argc - 1, argv + 1) : unknown(argv[1]);
}
