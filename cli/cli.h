/* What the subcommands of `kfuse` and the lesson programs share: options, devices, cases, tables,
 * words. Nothing here knows an op, a vendor or a driver. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_CLI_H
#define KF_CLI_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* argp, asprintf, memfd_create: the tool is for Linux with glibc */
#endif
#include "../core/backend.h"
#include "../core/op.h"
#include "../harness/child.h"
#include "../harness/results.h"
#include <argp.h>
#include <stdio.h>

enum {
    KF_CLI_LIST = 64,    /* repeats of one option, words of one command line */
    KF_CLI_DEVICES = 64, /* devices of all backends */
    KF_CLI_BACKENDS = 8,
    KF_CLI_SHAPES = 1024, /* of one sweep: more is a typing error */
};

/* ---- state of one command line ------------------------------------------------------------ */

typedef struct kf_list { /* a repeatable option; one on the command line replaces the environment's
                          */
    const char *item[KF_CLI_LIST];
    int count;
    bool from_environment;
} kf_list;

typedef struct kf_found { /* a device as the child saw it */
    kf_device_info info;
    int index; /* what kf_device_desc wants */
} kf_found;

typedef struct kf_scan { /* one backend */
    bool done;
    kf_status status; /* of the enumeration, or of the child that should have done it */
    char why[400];
    int first, count; /* in kf_cli.found */
} kf_scan;

typedef struct kf_cli {
    /* lists as given; NULL = not given */
    const char *backend, *device, *dtype, *shape, *variant, *with;
    kf_list set, attr, format, cases, words;
    const char *svg, *simulator; /* of lessons */
    bool svg_named;              /* on the command line, not by the environment */
    uint64_t seed;
    bool quiet, verbose, own_options; /* own_options: the environment's have all been read */
    bool color, unicode;
    int argc; /* the whole command line, for the results' context */
    char **argv;
    kf_sink *sink[KF_CLI_LIST];
    bool sink_is_table[KF_CLI_LIST];
    int sink_count;
    bool sink_on_stdout; /* then nothing else may be written there */
    kf_scan scan[KF_CLI_BACKENDS];
    kf_found found[KF_CLI_DEVICES];
    int found_count;
} kf_cli;

extern volatile int kf_cancelled; /* SIGINT or SIGTERM came: stop soon, exit 130 */

/* Locale, signals, argp's exit code. */
void kf_cli_start(kf_cli *cli, int argc, char **argv);

/* ---- options.c ---------------------------------------------------------------------------- */

typedef struct kf_grammar { /* what one subcommand adds to the shared options */
    const char *words;      /* "OP..." for the usage line */
    bool plain;             /* runs no op: of the shared options only those about the terminal */
    const char *doc;
    const struct argp_option *options; /* NULL = none */
    error_t (*parse)(int key, char *arg, struct argp_state *state, void *own);
    void *own;
} kf_grammar;

/* Parses environment twins, then argv. -1 = go on, else the exit code. */
int kf_cli_parse(kf_cli *cli, const kf_grammar *grammar, int argc, char **argv);
void kf_list_add(kf_cli *cli, kf_list *list, const char *item);
/* Whole number in [least, most], or an argp error that names the option. */
long kf_cli_number(struct argp_state *state, const char *option, const char *text, long least,
                   long most);

/* ---- words.c: sentences and exit codes ---------------------------------------------------- */

int kf_exit_code(kf_status status); /* interface.md 3.2 */
/* "kfuse: SENTENCE" on stderr with kf_error(); returns the exit code. */
int kf_cli_fail(kf_status status);
int kf_cli_complain(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kf_cli_note(const kf_cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "unknown WHAT 'WORD'; did you mean ...? Choices: ..."; returns 2. */
int kf_cli_unknown(const char *what, const char *word, const char *const *choices, int count);
/* Copies the next item of a comma list into `item`; false at the end. */
bool kf_list_next(const char **cursor, char *item, size_t bytes);
const char *kf_mark(const kf_cli *cli, bool good); /* a tick or a cross; words in ASCII locales */
const char *kf_times(const kf_cli *cli);           /* the multiplication sign, or x */
const char *kf_paint(const kf_cli *cli, const char *code, char *buffer, size_t bytes,
                     const char *text);
void kf_text_bytes(char *buffer, size_t bytes, int64_t value);    /* "139 GiB" */
void kf_text_seconds(char *buffer, size_t bytes, double seconds); /* microseconds, four digits */

/* ---- sheet.c: libsmartcols ---------------------------------------------------------------- */

struct libscols_table;
struct libscols_line;
typedef struct kf_column {
    const char *name;
    bool right, tree;
} kf_column;
struct libscols_table *kf_sheet_open(const kf_cli *cli, const kf_column *column, int count);
struct libscols_line *kf_sheet_row(struct libscols_table *table, struct libscols_line *parent,
                                   const char *const *cell, int count);
void kf_sheet_close(struct libscols_table *table); /* prints to stdout */

/* ---- hidden.c: what drivers may break runs in a child of our own program ------------------- */

/* The hidden commands; -1 = argv is not one of them, else the exit code. */
int kf_hidden(int argc, char **argv);

/* ---- inventory.c, select.c ----------------------------------------------------------------- */

int kf_backend_count(void);
/* Asks a child once; later calls return what it said. */
const kf_scan *kf_cli_scan(kf_cli *cli, int backend);
void kf_cli_scan_all(kf_cli *cli);
/* Findings of a backend's diagnose slot, through a child; count >= 1. */
int kf_cli_diagnose(int backend, kf_finding *list, int capacity);
bool kf_is_recorder(const kf_device_info *info); /* no device behind it: launches are recorded */
bool kf_is_gpu(const kf_device_info *info);
/* Text lines of a device and back, for the pipe. */
void kf_info_print(FILE *out, const kf_device_info *info);
int kf_info_parse(char *text, kf_device_info *list, int capacity);

typedef struct kf_selection {
    const kf_found *device[KF_CLI_DEVICES];
    int count;
    bool all; /* `all` was said: what is not there is nobody's fault */
} kf_selection;

/* The devices that --backend and --device name, or the default one. -1 = found, else the exit code
 * (said). */
int kf_cli_select(kf_cli *cli, kf_selection *selection);
/* The same, and all of them compute: a recorder of launches is refused with 3. */
int kf_cli_select_real(kf_cli *cli, kf_selection *selection);
/* Is there a device that is a default: no recorder, no simulator? Asks every backend. */
bool kf_cli_any_device(kf_cli *cli);
/* For commands that take one device: the first, with a note when there are others. */
const kf_found *kf_cli_first(const kf_cli *cli, const kf_selection *selection);
/* Opens; the first use of a GPU probes it in a child. */
kf_status kf_cli_open(kf_cli *cli, const kf_found *found, kf_device **device);

/* ---- cases.c, shape.c ---------------------------------------------------------------------- */

typedef struct kf_shape {
    int rank;
    int64_t size[KF_MAX_RANK];
} kf_shape;

/* "4096x16384", lists, ranges first-last+step and first-last*mult per size; KF_INVALID with a
 * sentence. */
kf_status kf_shape_parse(const char *text, kf_shape *list, int capacity, int *count);
/* Into the case's dims: leading axes multiplied into the first; of an op of any axis, those behind
 * the attribute `axis` into the inner one. */
kf_status kf_shape_fold(const kf_shape *shape, kf_case *c);
/* "4096x16384" of a case's dims; `times` between them. */
void kf_shape_print(const kf_case *c, const char *times, char *buffer, size_t bytes);

typedef struct kf_cases { /* variant NULL unless --case named one */
    kf_case *item;
    int count;
} kf_cases;

/* Names in cli->words as ops; -1 or the exit code. At least one unless cli has --case. */
int kf_cli_ops(kf_cli *cli, const kf_op **ops, int capacity, int *count);
/* Checks dtype, shape, variant, knob and attribute names against the ops. -1 or the exit code. */
int kf_cli_check(kf_cli *cli, const kf_op *const *ops, int count);
/* "NAME=VALUE": one of the ops has it, and the value can be read. */
int kf_cli_check_attribute(const char *text, const kf_op *const *ops, int count);
/* op x shape x dtype, and each --case; default shapes by kind of device. -1 or the exit code. */
int kf_cli_cases(kf_cli *cli, const kf_op *const *ops, int op_count, bool cpu, kf_cases *cases);
/* Is this variant wanted: --variant lists it, or lists nothing? */
bool kf_cli_wants(const kf_cli *cli, const char *variant);
/* A named variant that none of the chosen devices can run: says so, 3; else -1. */
int kf_cli_variants_run(kf_cli *cli, const kf_op *const *ops, int count,
                        const kf_selection *selection);
/* The plan of a case (its own variant unless one is given) and what was planned: variant and knobs
 * as used. */
kf_status kf_case_plan(const kf_case *c, const kf_variant *variant, const kf_target *target,
                       kf_plan **plan);
void kf_case_as_planned(const kf_case *c, const kf_plan *plan, kf_case *used);
/* One device is open for a moment only where nothing else is: shape used when none is given. */
void kf_shape_default(const kf_op *op, bool cpu, kf_shape *shape);
/* The knobs of `op` that were --set by hand. */
void kf_cli_config(const kf_cli *cli, const kf_op *op, kf_config *config);

/* ---- knobs.c ------------------------------------------------------------------------------- */

/* One --set: 2 when no chosen variant has the knob; a note when some have it not. -1 or the exit
 * code. */
int kf_cli_check_knob_users(const kf_cli *cli, const kf_op *const *ops, int count,
                            const char *text);
/* A plan with those knobs of `config` that the variant reads on this target; NULL = the op's
 * choice. */
kf_status kf_cli_plan(kf_problem *problem, const kf_op *op, const kf_variant *variant,
                      const kf_config *config, const kf_target *target, kf_plan **plan);
/* Says which of `asked` the plan was made without. */
void kf_cli_note_dropped(const kf_cli *cli, const kf_config *asked, const kf_plan *plan,
                         const char *device);

/* ---- sinks.c ------------------------------------------------------------------------------- */

/* Formats and places of every -o, before anything is opened: 2 for an unknown format and for two
 * that go to one place. -1 or the exit code. */
int kf_cli_sinks_check(const kf_cli *cli);
bool kf_cli_same_file(const char *a, const char *b); /* by whatever names; one may not exist yet */
/* Opens every -o (or the given default; NULL = none) and tells them the devices. */
kf_status kf_cli_sinks_open(kf_cli *cli, const char *fallback, const kf_selection *selection);
kf_status kf_cli_row(kf_cli *cli, const kf_result *row);
/* The row of one process of several: for machines; a table shows the merged row alone. */
kf_status kf_cli_process_row(kf_cli *cli, const kf_result *row);
/* Closes the sinks; returns the exit code, 130 when interrupted, 5 when a file could not be
 * finished. */
int kf_cli_sinks_close(kf_cli *cli, int exit_code);

/* ---- entrant.c: one variant of one case on one device ------------------------------------------
 */

typedef struct kf_bench { /* an open device with its queue */
    const kf_found *found;
    kf_device *device;
    kf_queue *queue;
} kf_bench;

typedef struct kf_entrant {
    const kf_bench *bench;
    kf_plan *plan; /* NULL: the device cannot run it, row.reason says why */
    kf_result row;
    bool runs;         /* planned, verified, not empty: may be timed */
    bool plain_stream; /* timed without replay */
} kf_entrant;

kf_status kf_bench_open(kf_cli *cli, const kf_found *found, kf_bench *bench);
void kf_bench_close(kf_bench *bench);
/* Plans and verifies. KF_OK also for what the device cannot run and for wrong results: see
 * row.status. */
kf_status kf_entrant_open(const kf_bench *bench, const kf_case *c, const kf_variant *variant,
                          kf_entrant *entrant);
void kf_entrant_close(kf_entrant *entrant);
/* Times those that run, interleaved; `step` -1 = whole plans. Fills timing, roof and flags of the
 * rows. */
kf_status kf_entrants_measure(kf_entrant *entrant, int count, int step,
                              const kf_measure_options *options);
/* On a terminal one line that is overwritten, elsewhere one line each; nothing with -q. NULL
 * clears. */
void kf_cli_progress(const kf_cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* bench --processes: runs this command line in `processes` fresh programs, rows of all to the
 * sinks, then the merged ones. */
int kf_cli_processes(kf_cli *cli, int processes);

/* ---- lesson.c ------------------------------------------------------------------------------ */

struct kf_lesson;
void kf_lessons_print(const kf_cli *cli);
/* Parses the options of a lesson, or of `kfuse lesson` (NULL). As kf_cli_parse(). */
int kf_cli_lesson_parse(kf_cli *cli, const struct kf_lesson *lesson, int argc, char **argv);
/* Runs one lesson on the selected devices with the parsed options; cli->words are its ops. */
int kf_cli_lesson(kf_cli *cli, const struct kf_lesson *lesson);

void kf_devices_print(kf_cli *cli, bool json);
void kf_knob_values(const kf_knob_decl *knob, char *text, size_t bytes); /* "128 256 512" */

/* ---- subcommands --------------------------------------------------------------------------- */

int kf_cmd_devices(kf_cli *cli, int argc, char **argv);
int kf_cmd_doctor(kf_cli *cli, int argc, char **argv);
int kf_cmd_list(kf_cli *cli, int argc, char **argv);
int kf_cmd_lesson(kf_cli *cli, int argc, char **argv);
int kf_cmd_explain(kf_cli *cli, int argc, char **argv);
int kf_cmd_run(kf_cli *cli, int argc, char **argv);
int kf_cmd_bench(kf_cli *cli, int argc, char **argv);
int kf_cmd_compare(kf_cli *cli, int argc, char **argv);
int kf_cmd_cache(kf_cli *cli, int argc, char **argv);

#endif
