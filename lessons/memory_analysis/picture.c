/* Bars of every launch, drawn by gnuplot from a script with its data inside.
 * SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"
#include "../../core/backend.h"
#include "../../harness/child.h"
#include "../../harness/files.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 200 }; /* launches of one panel: more cannot be told apart */

typedef struct bar { /* one launch: what is declared, and beside it what was found */
    const char *entry;
    double x, read, written, other_read, other_written; /* MB; other_... < 0 = not found */
} bar;

typedef struct group { /* the launches of one plan */
    char name[160];
    double x;
} group;

typedef struct panel {
    char title[200];
    const char *other; /* "executed", "measured" */
    bar bar[MOST];
    group group[MOST];
    int bars, groups;
    bool found; /* something stands beside the declared */
    double next;
} panel;

/* ---- what is drawn -------------------------------------------------------------------------- */

static void begin_group(panel *p, const kf_case *c)
{
    char shape[96];
    static const kf_lesson_context ascii = {.unicode = false};
    if (p->groups == MOST) {
        return;
    }
    group *g = &p->group[p->groups++];
    p->next += p->groups > 1 ? 0.8 : 0;
    g->x = p->next;
    kf_lesson_shape(&ascii, c, shape, sizeof shape);
    snprintf(g->name, sizeof g->name, "%s %s %s %s", c->op->name,
             c->variant ? c->variant->name : "", shape, kf_dtype_name(c->dtype));
}

static void add_bar(panel *p, const char *entry, const kf_cost *declared, double read,
                    double written)
{
    if (p->bars < MOST) {
        p->bar[p->bars++] = (bar){.entry = entry,
                                  .x = p->next,
                                  .read = (double)declared->bytes_read / 1e6,
                                  .written = (double)declared->bytes_written / 1e6,
                                  .other_read = read / 1e6,
                                  .other_written = written / 1e6};
        p->found |= read >= 0 && written >= 0;
        p->next += 1;
    }
}

static void measured_panel(const kf_gather *g, const kf_traffic *list, int count, panel *p)
{
    snprintf(p->title, sizeof p->title, "declared and measured: %s%s%s",
             count ? list[0].device : "", g->device ? " " : "",
             g->device ? kf_device_describe(g->device)->name : "");
    p->other = "measured";
    for (int i = 0; i < count; i++) {
        const kf_traffic *t = &list[i];
        begin_group(p, &t->test);
        for (int s = 0; s < t->plan->step_count; s++) {
            const kf_cost cost = kf_step_cost(t->plan, s);
            add_bar(p, t->plan->step[s].entry, &cost, t->counted ? t->counter[s].read : -1,
                    t->counted ? t->counter[s].written : -1);
        }
    }
    if (!p->found) {
        memmove(p->title, "declared", 8);
        snprintf(p->title + 8, sizeof p->title - 8, ": planned for %s",
                 count ? list[0].device : "");
    }
}

static void executed_panel(const kf_traffic *list, int count, panel *p)
{
    snprintf(p->title, sizeof p->title, "declared and executed: OpenCL kernels in the simulator");
    p->other = "executed";
    for (int i = 0; i < count; i++) {
        const kf_simulation *s = &list[i].simulation;
        if (!list[i].executed) {
            continue;
        }
        begin_group(p, &s->test);
        for (int k = 0; k < s->count; k++) {
            add_bar(p, s->declared[k].entry, &s->declared[k].cost, (double)s->executed[k].read,
                    (double)s->executed[k].written);
        }
    }
}

/* ---- the script ----------------------------------------------------------------------------- */

/* Names are data: quotes and backslashes must not end a string of the script. */
static void quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
    }
    fputc('"', out);
}

static void data(FILE *out, const panel *p, int number)
{
    fprintf(out, "$panel%d << EOD\n", number);
    for (int i = 0; i < p->bars; i++) {
        const bar *b = &p->bar[i];
        fprintf(out, "%.2f %.9g %.9g ", b->x, b->read, b->read + b->written);
        if (b->other_read >= 0 && b->other_written >= 0) {
            fprintf(out, "%.9g %.9g\n", b->other_read, b->other_read + b->other_written);
        } else {
            fprintf(out, "NaN NaN\n");
        }
    }
    fprintf(out, "EOD\n");
}

static void labels(FILE *out, const panel *p)
{
    fprintf(out, "unset label\nset xtics rotate by -30 nomirror (");
    for (int i = 0; i < p->bars; i++) {
        fputs(i ? ", " : "", out);
        quoted(out, p->bar[i].entry);
        fprintf(out, " %.2f", p->bar[i].x);
    }
    fprintf(out, ")\nset title ");
    quoted(out, p->title);
    fprintf(out, " offset 0,2\n");
    for (int i = 0; i < p->groups; i++) { /* two heights: names are longer than a single bar */
        fprintf(out, "set label ");
        quoted(out, p->group[i].name);
        fprintf(out, " at first %.2f, graph %.2f left font \",9\"\n", p->group[i].x - 0.3,
                i % 2 ? 1.03 : 1.10);
    }
}

/* A bar is the total in the colour of writing, with the reads over its lower part. */
static void plot(FILE *out, const panel *p, int number)
{
    static const char *const color[] = {"#e69f00", "#0072b2", "#f3cf80", "#7fb8d8"};
    const double shift = p->found ? 0.19 : 0;
    labels(out, p);
    fprintf(out, "set xrange [-1:%.2f]\nset boxwidth %.2f\n", p->next + 1.5, p->found ? 0.36 : 0.6);
    fprintf(out,
            "plot $panel%d using ($1-%.2f):3 with boxes lc rgb '%s' title 'written, declared', "
            "$panel%d using ($1-%.2f):2 with boxes lc rgb '%s' title 'read, declared'",
            number, shift, color[0], number, shift, color[1]);
    if (p->found) {
        fprintf(out,
                ", $panel%d using ($1+%.2f):5 with boxes lc rgb '%s' title 'written, %s', "
                "$panel%d using ($1+%.2f):4 with boxes lc rgb '%s' title 'read, %s'",
                number, shift, color[2], p->other, number, shift, color[3], p->other);
    }
    fputc('\n', out);
}

static char *script(const panel *list, int panels)
{
    char *text = NULL;
    size_t bytes;
    double widest = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) {
        return NULL;
    }
    for (int i = 0; i < panels; i++) {
        widest = list[i].next > widest ? list[i].next : widest;
        data(out, &list[i], i);
    }
    fprintf(out,
            "set encoding utf8\n"
            "set terminal svg size %d,%d dynamic noenhanced font 'sans,11' name 'traffic'\n"
            "set style fill solid border -1\nset yrange [0:*]\nset ylabel 'MB per launch'\n"
            "set tmargin 7\nset key outside right top\nset multiplot layout %d,1\n",
            360 + (int)(70 * (widest + 2)), 440 * panels, panels);
    for (int i = 0; i < panels; i++) {
        plot(out, &list[i], i);
    }
    fprintf(out, "unset multiplot\n");
    return fclose(out) == 0 ? text : NULL;
}

/* ---- the file ------------------------------------------------------------------------------- */

static const char drawer[] = "gnuplot";

kf_status kf_picture_open(const char *path, kf_file **file)
{
    char program[PATH_MAX];
    *file = NULL;
    if (!kf_child_find(drawer, program, sizeof program)) {
        return kf_fail(KF_UNAVAILABLE,
                       "%s is not on PATH, and it draws the picture of --svg: apt "
                       "install gnuplot-nox",
                       drawer);
    }
    return kf_file_create(path, file);
}

/* Screen readers and tooltips show the title. */
static kf_status write_svg(kf_file *file, const char *svg)
{
    static const char title[] = "<title>traffic</title>",
                      own[] = "<title>kfuse: bytes per launch</title>";
    const char *at = strstr(svg, title);
    kf_status status = KF_OK;
    if (at) {
        status = kf_file_write(file, svg, (size_t)(at - svg));
        svg = at + sizeof title - 1;
        if (status == KF_OK) {
            status = kf_file_write(file, own, sizeof own - 1);
        }
    }
    return status == KF_OK ? kf_file_write(file, svg, strlen(svg)) : status;
}

static kf_status draw(const char *text, volatile int *cancel, kf_file *file)
{
    char program[PATH_MAX];
    kf_child child = {.program = program,
                      .word = {"-"},
                      .set = {"LC_ALL=C.UTF-8"},
                      .input = text,
                      .seconds = 120,
                      .cancel = cancel};
    if (!kf_child_find(drawer, program, sizeof program)) {
        return kf_fail(KF_UNAVAILABLE, "%s is not on PATH any more", drawer);
    }
    kf_status status = kf_child_run(&child);
    if (status == KF_OK && (child.exit_code != 0 || !child.out || !strstr(child.out, "</svg>"))) {
        status = kf_fail(KF_UNAVAILABLE, "%s %s%s%s", drawer,
                         child.verdict[0] ? child.verdict : "drew no picture",
                         child.complaint[0] ? ": " : "", child.complaint);
    }
    if (status == KF_OK) {
        status = write_svg(file, child.out);
    }
    free(child.out);
    return status;
}

static kf_status draw_panels(const kf_gather *g, const kf_traffic *list, int count, panel *panels,
                             kf_file *file)
{
    measured_panel(g, list, count, &panels[0]);
    executed_panel(list, count, &panels[1]);
    if (panels[0].bars == 0) {
        return kf_fail(KF_UNSUPPORTED, "there is no picture: nothing is launched");
    }
    char *text = script(panels, panels[1].bars ? 2 : 1);
    const kf_status status = text ? draw(text, g->context->cancel, file)
                                  : kf_fail(KF_OUT_OF_MEMORY, "no host memory for the picture");
    free(text);
    return status;
}

kf_status kf_picture_draw(const kf_gather *g, const kf_traffic *list, int count, kf_file *file)
{
    panel *panels = calloc(2, sizeof *panels);
    const kf_status status = panels ? draw_panels(g, list, count, panels, file)
                                    : kf_fail(KF_OUT_OF_MEMORY, "no host memory for the picture");
    free(panels);
    if (status != KF_OK) {
        kf_file_abandon(file);
        return status;
    }
    return kf_file_commit(file);
}
