/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "simulate.h"
#include "../core/backend.h"
#include "child.h"
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- where it is ---------------------------------------------------------------------------- */

kf_status kf_simulator_find(const char *given, char *path, size_t bytes)
{
    static const char places[] = "{/usr/local,/usr,/opt/oclgrind}/{lib,lib64,lib/*-linux-gnu}"
                                 "{/oclgrind,}/liboclgrind-rt-icd.so";
    glob_t found = {0};
    kf_status status = KF_OK;
    if (given && strcmp(given, "none") == 0) {
        return kf_fail(KF_UNAVAILABLE, "the simulator is left out by --simulator=none");
    }
    if (given) {
        snprintf(path, bytes, "%s", given);
        return access(path, R_OK) == 0
                   ? KF_OK
                   : kf_fail(KF_UNAVAILABLE, "there is no simulator library %s", given);
    }
    if (glob(places, GLOB_BRACE | GLOB_NOSORT, NULL, &found) == 0 && found.gl_pathc > 0) {
        snprintf(path, bytes, "%s", found.gl_pathv[0]);
    } else {
        status = kf_fail(KF_UNAVAILABLE, "Oclgrind is not here (apt install oclgrind)");
    }
    globfree(&found);
    return status;
}

/* ---- what is simulated ---------------------------------------------------------------------- */

bool kf_simulation_shape(kf_case *c)
{
    const int count = kf_op_dim_count(c->op);
    bool cut = c->inner > KF_SIMULATED_ELEMENTS / 4;
    c->inner = cut ? KF_SIMULATED_ELEMENTS / 4 : c->inner;
    for (int i = 0; i < count; i++) {
        double others = c->inner > 1 ? (double)c->inner
                                     : 1; /* the product of all dims may overflow an integer */
        for (int j = 0; j < count; j++) {
            others *= j == i ? 1 : (double)c->dim[j];
        }
        const double room = others > 0 ? KF_SIMULATED_ELEMENTS / others : (double)c->dim[i];
        const int64_t least = i == count - 1 ? 1 : 4; /* more than one group where dims allow it */
        if ((double)c->dim[i] > room) {
            const int64_t most = room > (double)least ? (int64_t)room : least;
            cut |= c->dim[i] > most;
            c->dim[i] = c->dim[i] > most ? most : c->dim[i];
        }
    }
    return cut;
}

/* ---- the child ------------------------------------------------------------------------------ */

/* Both OpenCL loaders take the folder of a driver's .icd file from the environment. */
static kf_status make_folder(const char *library, char *folder, size_t bytes, char *icd,
                             size_t icd_bytes)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, bytes, "%s/kfuse-simulator-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        return kf_fail(KF_IO, "cannot make the folder %s", folder);
    }
    snprintf(icd, icd_bytes, "%s/simulator.icd", folder);
    FILE *file = fopen(icd, "w");
    const bool written = file && fprintf(file, "%s\n", library) > 0;
    if ((file && fclose(file)) || !written) {
        return kf_fail(KF_IO, "cannot write %s", icd);
    }
    return KF_OK;
}

static kf_status read_counts(const char *text, kf_simulation *s)
{
    int n = 0;
    kf_executed e;
    kf_histogram h = {.file = fmemopen((void *)text, strlen(text), "r")};
    while (h.file && kf_histogram_next(&h, &e)) {
        if (n < s->count && strcmp(e.entry, s->declared[n].entry) == 0) {
            s->executed[n] = e;
        }
        n++;
    }
    if (h.file) {
        fclose(h.file);
    }
    return n == s->count
               ? KF_OK
               : kf_fail(KF_DEVICE_FAILED,
                         "the simulator counted %d launches where the plan has %d", n, s->count);
}

static kf_status judge(const kf_child *child, kf_simulation *s)
{
    if (child->verdict[0]) {
        return kf_fail(KF_DEVICE_FAILED, "the simulator %s%s%s", child->verdict,
                       child->complaint[0] ? ": " : "", child->complaint);
    }
    const kf_status status = kf_once_said(child->out, s->declared, KF_MAX_STEPS, &s->count);
    return status == KF_OK ? read_counts(child->out, s) : status;
}

/* Nothing of the simulator's checks: counting alone takes the time. */
static kf_status run_child(const char *folder, volatile int *cancel, kf_simulation *s)
{
    char text[1024], vendors[4200];
    snprintf(vendors, sizeof vendors, "OCL_ICD_VENDORS=%s", folder);
    kf_case_print(&s->test, text, sizeof text);
    kf_child child = {
        .word = {"__once", "simulator", text},
        .set = {vendors, "OCL_ICD_FILENAMES=", "CUDA_VISIBLE_DEVICES=", "OCLGRIND_INST_COUNTS=1",
                "OCLGRIND_LOG=/dev/null", "OCLGRIND_BUILD_OPTIONS=", "OCLGRIND_DATA_RACES=0",
                "OCLGRIND_UNINITIALIZED=0", "OCLGRIND_UNIFORM_WRITES=0", "OCLGRIND_CHECK_API=0"},
        .seconds = 300,
        .cancel = cancel};
    kf_status status = kf_child_run(&child);
    if (status == KF_OK) {
        status = judge(&child, s);
    }
    free(child.out);
    return status;
}

kf_status kf_simulate(const kf_case *c, const char *library, volatile int *cancel,
                      kf_simulation *simulation)
{
    char folder[4096] = "", icd[4200] = "";
    *simulation = (kf_simulation){.test = *c};
    simulation->smaller = kf_simulation_shape(&simulation->test);
    kf_status status = make_folder(library, folder, sizeof folder, icd, sizeof icd);
    if (status == KF_OK) {
        status = run_child(folder, cancel, simulation);
    }
    bool set = false;
    for (int k = 0; k < c->op->knob_count; k++) {
        set |= c->config.set[k];
    }
    if (set && (status == KF_UNSUPPORTED || status == KF_INVALID)) {
        simulation->test.config = (kf_config){0};
        simulation->other_knobs = true;
        status = run_child(folder, cancel, simulation);
    }
    unlink(icd);
    rmdir(folder);
    return status;
}

bool kf_simulation_agrees(const kf_simulation *s, int step)
{
    int64_t least, most;
    const kf_executed *e = &s->executed[step];
    const kf_declared *d = &s->declared[step];
    kf_read_limits(&d->cost, d->edge, true, &least, &most);
    return e->entry[0] && !e->unknown[0] && e->written == d->cost.bytes_written &&
           e->read >= least && e->read <= most;
}
