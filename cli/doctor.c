/* kfuse doctor: what is there, what is missing, the command that mends it. Finds, never fails: exit
 * code 0. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

static void finding(const kf_cli *cli, const kf_finding *f)
{
    char mark[32];
    printf(
        "%s %-17s %s\n",
        kf_paint(cli, f->good ? "32" : "33", mark, sizeof mark, f->good ? kf_mark(cli, true) : "!"),
        f->what, f->detail);
    if (f->remedy[0]) {
        printf("  %-17s to mend: %s\n", "", f->remedy);
    }
}

static void backends(kf_cli *cli)
{
    kf_finding list[16];
    for (int b = 0; b < kf_backend_count() && !kf_cancelled; b++) {
        memset(list, 0, sizeof list);
        const int count = kf_cli_diagnose(b, list, 16);
        for (int i = 0; i < count; i++) {
            finding(cli, &list[i]);
        }
        const kf_scan *scan = kf_cli_scan(cli, b);
        if (scan->status ==
            KF_DEVICE_FAILED) { /* a crash or a hang: diagnose may not have seen it */
            kf_finding crash = {0};
            snprintf(crash.what, sizeof crash.what, "%s devices", kf_backends[b]->name);
            snprintf(crash.detail, sizeof crash.detail, "%.*s", (int)sizeof crash.detail - 1,
                     scan->why);
            finding(cli, &crash);
        }
    }
}

static void same_gpus(const kf_cli *cli)
{
    for (int i = 0; i < cli->found_count; i++) {
        for (int j = i + 1; j < cli->found_count; j++) {
            kf_finding same = {.good = true, .what = "same GPU"};
            if (kf_device_same(&cli->found[i].info, &cli->found[j].info)) {
                snprintf(same.detail, sizeof same.detail, "%s = %s: comparisons are like for like",
                         cli->found[i].info.id, cli->found[j].info.id);
                finding(cli, &same);
            }
        }
    }
}

static void cache(const kf_cli *cli)
{
    char folder[512], why[200] = "";
    kf_finding f = {.what = "cache"};
    f.good = *kf_cache_folder(folder, sizeof folder, why, sizeof why) != 0;
    snprintf(f.detail, sizeof f.detail, "%.*s", (int)sizeof f.detail - 1, f.good ? folder : why);
    if (!f.good) {
        snprintf(f.remedy, sizeof f.remedy,
                 "kernels are compiled anew in every run until this is mended");
    }
    finding(cli, &f);
}

static void environment(const kf_cli *cli)
{
    static const char *const names[] = {
        "CUDA_VISIBLE_DEVICES", "OCL_ICD_VENDORS", "OCL_ICD_FILENAMES",
        "POCL_DEVICES",         "RUSTICL_ENABLE",  "KFUSE_BACKEND",
        "KFUSE_DEVICE",         "KFUSE_KERNELS",   "KFUSE_NO_CACHE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        kf_finding f = {.good = true, .what = "environment"};
        if (value && *value) {
            snprintf(f.detail, sizeof f.detail, "%s=%.120s", names[i], value);
            finding(cli, &f);
        }
    }
}

static void next_step(kf_cli *cli)
{
    bool gpu = false, any = false;
    for (int i = 0; i < cli->found_count; i++) {
        const kf_device_info *info = &cli->found[i].info;
        any = any || !(kf_is_recorder(info) || info->target.capabilities & KF_CAP_SIMULATOR);
        gpu = gpu || kf_is_gpu(info);
    }
    if (any && !gpu) {
        printf("No GPU here: everything runs on the CPU device, whose timings prove nothing about "
               "GPUs.\n");
    }
    printf("Next: %s\n", any ? "kfuse lesson simple_fusion"
                             : "kfuse explain softmax (needs no device), or mend the above");
}

int kf_cmd_doctor(kf_cli *cli, int argc, char **argv)
{
    const kf_grammar grammar = {
        .plain = true, .doc = "What is there, what is missing, and the command that mends it."};
    const int code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code >= 0) {
        return code;
    }
    printf("kfuse %s\n", kf_version());
    backends(cli);
    same_gpus(cli);
    cache(cli);
    environment(cli);
    putchar('\n');
    kf_devices_print(cli, false);
    next_step(cli);
    return 0;
}
