/* The shared options: one argp group for every subcommand and lesson program, and a twin in the
 * environment for every option, made mechanically: --backend is KFUSE_BACKEND.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "../harness/files.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <langinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_DTYPE = 0x300,
    KEY_SHAPE,
    KEY_VARIANT,
    KEY_SET,
    KEY_ATTR,
    KEY_WITH,
    KEY_SEED,
    KEY_COLOR,
    KEY_CASE,
    KEY_MARK
};

/* clang-format off */
#define TERMINAL_OPTIONS                                                                           \
    {"quiet", 'q', 0, 0, "no progress", 0},                                                        \
    {"verbose", 'v', 0, 0, "more of it", 0},                                                       \
    {"color", KEY_COLOR, "WHEN", 0, "auto, always, never", 0},                                     \
    {0, 'h', 0, 0, "give this help list", -1},                                                     \
    {"environment-ends", KEY_MARK, 0, OPTION_HIDDEN, 0, 0}
/* clang-format on */

static const struct argp_option shared_options[] = {
    {"backend", 'b', "LIST", 0, "backends, or all", 0},
    {"device", 'd', "LIST", 0, "index, cuda:0, opencl:1.0, part of a name, UUID, or all", 0},
    {"dtype", KEY_DTYPE, "LIST", 0, "f32, f16, bf16", 0},
    {"shape", KEY_SHAPE, "LIST", 0, "4096x16384; ranges 1-9+2 and 256-4096*2 (quote the *)", 0},
    {"variant", KEY_VARIANT, "LIST", 0, "variants of the op (kfuse list)", 0},
    {"set", KEY_SET, "NAME=VALUE", 0, "a knob by hand; may be repeated", 0},
    {"attr", KEY_ATTR, "NAME=VALUE", 0, "an attribute of the op; may be repeated", 0},
    {"with", KEY_WITH, "LIST", 0, "optional tensors of the op, or none", 0},
    {"seed", KEY_SEED, "N", 0, "of the random inputs (42)", 0},
    {"case", KEY_CASE, "TEXT", 0, "one case as result rows print it; may be repeated", 0},
    {"format", 'o', "FORMAT[:FILE]", 0, "table, json, jsonl; may be repeated", 0},
    TERMINAL_OPTIONS,
    {0}};

static const struct argp_option plain_options[] = {TERMINAL_OPTIONS, {0}};

static bool color_by_terminal(void)
{
    const char *force = getenv("FORCE_COLOR"), *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if (force && *force) {
        return true;
    }
    return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

static void set_color(kf_cli *cli, struct argp_state *state, const char *when)
{
    static const char *const choices[] = {"auto", "always", "never"};
    if (strcmp(when, "auto") == 0) {
        cli->color = color_by_terminal();
    } else if (strcmp(when, "always") == 0 || strcmp(when, "never") == 0) {
        cli->color = strcmp(when, "always") == 0;
    } else {
        exit(kf_cli_unknown("colour", when, choices, 3));
    }
    (void)state;
}

void kf_list_add(kf_cli *cli, kf_list *list, const char *item)
{
    if (cli->own_options && list->from_environment) {
        list->count = 0;
    }
    list->from_environment = !cli->own_options;
    if (list->count == KF_CLI_LIST) {
        exit(kf_cli_complain(2, "more than %d of one kind of argument", KF_CLI_LIST));
    }
    list->item[list->count++] = item;
}

long kf_cli_number(struct argp_state *state, const char *option, const char *text, long least,
                   long most)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) {
        (void)state;
        exit(kf_cli_complain(2, "--%s=%s is not a whole number from %ld to %ld", option, text,
                             least, most));
    }
    return value;
}

static void named_list(kf_cli *cli, struct argp_state *state, int key, char *arg)
{
    switch (key) {
    case KEY_SET:
        kf_list_add(cli, &cli->set, arg);
        break;
    case KEY_ATTR:
        kf_list_add(cli, &cli->attr, arg);
        break;
    case KEY_CASE:
        kf_list_add(cli, &cli->cases, arg);
        break;
    case 'o':
        kf_list_add(cli, &cli->format, arg);
        break;
    case KEY_SEED:
        cli->seed = (uint64_t)kf_cli_number(state, "seed", arg, 0, LONG_MAX);
        break;
    default:
        kf_list_add(cli, &cli->words, arg);
    }
}

/* An unset variable of a shell must not become "everything" or "nothing", alone or in a list. */
static const char *filled(const char *option, const char *arg)
{
    if (!*arg) {
        exit(kf_cli_complain(2, "--%s= has no value", option));
    }
    if (*arg == ',' || strstr(arg, ",,") || arg[strlen(arg) - 1] == ',') {
        exit(kf_cli_complain(2, "--%s=%s has an empty place between its commas", option, arg));
    }
    return arg;
}

static error_t parse_shared(int key, char *arg, struct argp_state *state)
{
    kf_cli *cli = state->input;
    switch (key) {
    case 'b':
        cli->backend = filled("backend", arg);
        return 0;
    case 'd':
        cli->device = filled("device", arg);
        return 0;
    case KEY_DTYPE:
        cli->dtype = filled("dtype", arg);
        return 0;
    case KEY_SHAPE:
        cli->shape = arg;
        return 0;
    case KEY_WITH:
        cli->with = filled("with", arg);
        return 0;
    case KEY_VARIANT:
        cli->variant = filled("variant", arg);
        return 0;
    case 'q':
        cli->quiet = true;
        return 0;
    case 'v':
        cli->verbose = true;
        return 0;
    case KEY_COLOR:
        set_color(cli, state, arg);
        return 0;
    case KEY_MARK:
        cli->own_options = true;
        return 0;
    case 'h':
        argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
        return 0;
    case KEY_SET:
    case KEY_ATTR:
    case KEY_CASE:
    case KEY_SEED:
    case 'o':
    case ARGP_KEY_ARG:
        named_list(cli, state, key, arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option *shared_of(const kf_grammar *grammar)
{
    return grammar->plain ? plain_options : shared_options;
}

/* ---- the subcommand's own group ------------------------------------------------------------ */

typedef struct whole { /* input of the root parser */
    kf_cli *cli;
    const kf_grammar *grammar;
} whole;

static error_t parse_own(int key, char *arg, struct argp_state *state)
{
    const whole *w = state->input;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = w->cli;
        return 0;
    }
    return w->grammar->parse ? w->grammar->parse(key, arg, state, w->grammar->own)
                             : ARGP_ERR_UNKNOWN;
}

/* ---- environment twins ----------------------------------------------------------------------- */

static const char *twin(const struct argp_option *option)
{
    char name[64] = "KFUSE_";
    size_t n = strlen(name);
    for (const char *c = option->name; *c && n + 1 < sizeof name; c++) {
        name[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* The options that the environment sets, as words of a command line; `words` has room for one each.
 */
static int add_twins(const struct argp_option *option, char **words, int count)
{
    for (; option && (option->name || option->key); option++) {
        const char *value = option->name && !(option->flags & OPTION_HIDDEN) ? twin(option) : NULL;
        if (!value || (!option->arg && strcmp(value, "0") == 0)) {
            continue;
        }
        if (asprintf(&words[count], option->arg ? "--%s=%s" : "--%s", option->name, value) > 0) {
            count++;
        }
    }
    return count;
}

/* ---- unknown options: argp says so, but not which one was meant ------------------------------ */

static bool begins(const struct argp_option *option, const char *name, size_t length)
{
    for (; option && (option->name || option->key); option++) {
        if (option->name && strncmp(option->name, name, length) == 0) {
            return true;
        }
    }
    return false;
}

static int add_names(const struct argp_option *option, const char **names, int count)
{
    for (; option && (option->name || option->key); option++) {
        if (option->name && !(option->flags & OPTION_HIDDEN)) {
            names[count++] = option->name;
        }
    }
    return count;
}

static int check_options(const kf_grammar *grammar, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            continue;
        }
        char name[80];
        const size_t length = strcspn(argv[i] + 2, "=");
        if (begins(grammar->options, argv[i] + 2, length) ||
            begins(shared_of(grammar), argv[i] + 2, length) ||
            strncmp("help", argv[i] + 2, length) == 0 ||
            strncmp("usage", argv[i] + 2, length) == 0 ||
            strncmp("version", argv[i] + 2, length) == 0) {
            continue;
        }
        const char *names[80];
        snprintf(name, sizeof name, "%.*s", (int)length, argv[i] + 2);
        return kf_cli_unknown(
            "option", name, names,
            add_names(shared_of(grammar), names, add_names(grammar->options, names, 0)));
    }
    return -1;
}

int kf_cli_parse(kf_cli *cli, const kf_grammar *grammar, int argc, char **argv)
{
    const struct argp shared = {.options = shared_of(grammar), .parser = parse_shared};
    const struct argp_child children[] = {{&shared, 0, "Shared options:", 1}, {0}};
    const struct argp argp = {.options = grammar->options,
                              .parser = parse_own,
                              .args_doc = grammar->words,
                              .doc = grammar->doc,
                              .children = children};
    whole input = {cli, grammar};
    const int wrong = check_options(grammar, argc, argv);
    /* kept for the rest of the run: options refer to the texts of the twins */
    static char **words;
    words = calloc((size_t)argc + 80, sizeof *words);
    if (wrong >= 0 || !words) {
        return wrong >= 0 ? wrong
                          : kf_cli_fail(kf_fail(KF_OUT_OF_MEMORY, "no memory for the options"));
    }
    int count = 0;
    words[count++] = argv[0];
    count = add_twins(shared_of(grammar), words, add_twins(grammar->options, words, count));
    words[count++] = (char *)"--environment-ends";
    memcpy(words + count, argv + 1, (size_t)(argc - 1) * sizeof *words);
    count += argc - 1;
    if (argp_parse(&argp, count, words, 0, NULL, &input)) {
        return 2;
    }
    return grammar->words || !cli->words.count
               ? -1
               : kf_cli_complain(2, "'%s' is one word too many", cli->words.item[0]);
}

/* ---- start ------------------------------------------------------------------------------------
 */

volatile int kf_cancelled;

/* The first signal asks to stop; the second does not wait for a driver that hangs. */
static void cancel(int signal)
{
    (void)signal;
    if (kf_cancelled) {
        kf_files_abandon_all();
        _exit(130);
    }
    kf_cancelled = 1;
}

/* Nobody reads any more: nothing half-written stays, then the signal ends us as it would have. */
static void broken_pipe(int signal)
{
    kf_files_abandon_all();
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    raise(signal);
}

void kf_cli_start(kf_cli *cli, int argc, char **argv)
{
    static char version[64];
    setlocale(LC_CTYPE,
              ""); /* numbers stay in the C locale: machine formats are the same everywhere */
    snprintf(version, sizeof version, "kfuse %s", kf_version());
    argp_program_version = version;
    argp_err_exit_status = 2;
    cli->argc = argc;
    cli->argv = argv;
    cli->seed = 42;
    cli->color = color_by_terminal();
    cli->unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const struct sigaction action = {.sa_handler = cancel};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    const struct sigaction pipe = {.sa_handler = broken_pipe};
    sigaction(SIGPIPE, &pipe, NULL);
}
