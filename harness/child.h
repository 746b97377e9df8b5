/* Programs that are started: our own again, for what a driver may answer with a crash or with
 * silence (testing.md 14), and those that draw or count for us. SPDX-License-Identifier: Apache-2.0
 */
#ifndef KF_CHILD_H
#define KF_CHILD_H
#include <kfuse/kfuse.h>

enum { KF_CHILD_WORDS = 24, KF_CHILD_SETTINGS = 12 };

typedef struct kf_child {
    const char *program;                /* NULL = this program; else as kf_child_find() gave it */
    const char *word[KF_CHILD_WORDS];   /* arguments, NULL-terminated */
    const char *set[KF_CHILD_SETTINGS]; /* "NAME=value" that its environment has beside ours */
    const char *input;                  /* its standard input; NULL = nothing to read */
    double seconds;                     /* time limit */
    volatile int *cancel;               /* not NULL: ended when it becomes non-zero */
    char *out;                          /* malloc'd text of its standard output */
    char complaint[240];                /* last line of its standard error */
    int exit_code;                      /* -1 = killed by a signal or by the limit */
    char verdict[80]; /* "crashed (Aborted)", "did not answer within 20 s"; "" = ended by itself */
} kf_child;

/* KF_OK whatever became of the child: see verdict and exit_code. */
kf_status kf_child_run(kf_child *child);
/* Where on PATH a program is. */
bool kf_child_find(const char *name, char *path, size_t bytes);
#endif
