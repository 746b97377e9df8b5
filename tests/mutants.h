/* Planted faults: their files, and the working copy of the kernels in which one is planted. A file
 * NAME.mutant says which file of backends/ is changed, how, what runs, and who must notice:
 *
 *     what: one line for the table
 *     tier: value simulate signature       all of these must catch it
 *     file: opencl/kernels/softmax.cl
 *     inputs: normal special               distributions, for the value tier; "normal" unless named
 *     case: softmax fused f32 rows=3 cols=1000       one or more
 *     --- replace
 *     text that occurs exactly once in the file
 *     --- with
 *     text
 *     --- end
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_TEST_MUTANTS_H
#define KF_TEST_MUTANTS_H
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_MUTANTS = 128, MAX_MUTANT_CASES = 8, MAX_MUTANT_TEXT = 8192 };

typedef struct mutant {
    char name[64], what[128], tier[64], file[128], inputs[128];
    char cases[MAX_MUTANT_CASES][256];
    int case_count;
    char from[MAX_MUTANT_TEXT], to[MAX_MUTANT_TEXT];
} mutant;

static inline bool mutant_header(mutant *m, const char *line)
{
    static const char *const names[] = {"what: ", "tier: ", "file: ", "inputs: "};
    char *const fields[] = {m->what, m->tier, m->file, m->inputs};
    const size_t sizes[] = {sizeof m->what, sizeof m->tier, sizeof m->file, sizeof m->inputs};
    const int length = (int)strcspn(line, "\n");
    for (int i = 0; i < 4; i++)
        if (!strncmp(line, names[i], strlen(names[i]))) {
            const int skip = (int)strlen(names[i]);
            snprintf(fields[i], sizes[i], "%.*s", length - skip, line + skip);
            return true;
        }
    if (strncmp(line, "case: ", 6) || m->case_count == MAX_MUTANT_CASES)
        return length == 0;
    snprintf(m->cases[m->case_count++], sizeof m->cases[0], "%.*s", length - 6, line + 6);
    return true;
}

/* The text may be a part of a line: its last end of line is the file's. */
static inline bool mutant_trim(char *text)
{
    const size_t length = strlen(text);
    if (length && text[length - 1] == '\n')
        text[length - 1] = 0;
    return true;
}

/* False and a sentence on stderr when the file is not what it should be. */
static inline bool mutant_read(const char *path, const char *name, mutant *m)
{
    char line[1024];
    char *part = NULL;
    bool whole = false;
    FILE *file = fopen(path, "r");
    *m = (mutant){.inputs = "normal"};
    snprintf(m->name, sizeof m->name, "%.*s", (int)strcspn(name, "."), name);
    while (file && fgets(line, sizeof line, file)) {
        if (!strcmp(line, "--- replace\n"))
            part = m->from;
        else if (!strcmp(line, "--- with\n"))
            part = m->to;
        else if (!strcmp(line, "--- end\n"))
            part = NULL, whole = mutant_trim(m->from) && mutant_trim(m->to);
        else if (part && strlen(part) + strlen(line) < MAX_MUTANT_TEXT)
            strcat(part, line);
        else if (part || !mutant_header(m, line))
            fprintf(stderr, "%s: not understood: %s", path, line);
    }
    if (file)
        fclose(file);
    whole &= m->what[0] && m->tier[0] && m->file[0] && m->case_count && m->from[0];
    if (!whole)
        fprintf(stderr, "%s: unreadable or incomplete\n", path);
    return whole;
}

static inline int mutant_name_ends(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && !strcmp(dot, ".mutant");
}

/* Those whose first case is of the op; all where it is NULL. */
static inline int mutants_of_op(mutant *list, int count, const char *op)
{
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (!op ||
            (!strncmp(list[i].cases[0], op, strlen(op)) && list[i].cases[0][strlen(op)] == ' '))
            list[kept++] = list[i];
    return kept;
}

/* In the order of their names; -1 when one of them is broken. */
static inline int mutants_read(const char *folder, mutant *list)
{
    struct dirent **entries;
    int count = 0;
    bool sound = true;
    const int found = scandir(folder, &entries, mutant_name_ends, alphasort);
    for (int i = 0; i < found; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        sound &= count < MAX_MUTANTS && mutant_read(path, entries[i]->d_name, &list[count]);
        count++;
        free(entries[i]);
    }
    if (found >= 0)
        free(entries);
    return sound ? count : -1;
}

/* A copy of the kernels below `backends`, for KFUSE_KERNELS. */
static inline bool kernels_copy(const char *backends, const char *to)
{
    char command[2 * PATH_MAX + 100];
    snprintf(command, sizeof command,
             "rm -rf '%s' && mkdir -p '%s/opencl' && cp -r '%s/opencl/kernels' '%s/opencl/'", to,
             to, backends, to);
    return system(command) == 0;
}

/* How often the text occurs; the file is rewritten when it does exactly once. */
static inline int mutant_plant(const mutant *m, const char *kernels)
{
    static char text[1 << 20];
    char path[PATH_MAX];
    int matches = 0;
    snprintf(path, sizeof path, "%s/%s", kernels, m->file);
    FILE *file = fopen(path, "r");
    const size_t bytes = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[bytes] = 0;
    const char *place = strstr(text, m->from);
    for (const char *at = place; at; at = strstr(at + 1, m->from))
        matches++;
    if (matches != 1 || !(file = fopen(path, "w")))
        return matches;
    fprintf(file, "%.*s%s%s", (int)(place - text), text, m->to, place + strlen(m->from));
    return fclose(file) == 0 ? 1 : -1;
}

#endif
