/* kfuse cache show|clear: compiled kernels on disk. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "../core/cache.h"
#include <string.h>

static int show(void)
{
    kf_cache_summary found;
    char folder[4096], why[400] = "", size[24];
    if (!*kf_cache_root(folder, sizeof folder, why, sizeof why)) {
        printf("no cache: %s\n", why);
        return 0;
    }
    const kf_status status = kf_cache_stats(&found);
    if (status != KF_OK) {
        return kf_cli_fail(status);
    }
    kf_text_bytes(size, sizeof size, found.bytes);
    printf("%s: %lld compiled kernels, %s\n", folder, (long long)found.entries, size);
    return 0;
}

static int clear(void)
{
    kf_cache_summary removed;
    char size[24];
    const kf_status status = kf_cache_clear(&removed);
    if (status != KF_OK) {
        return kf_cli_fail(status);
    }
    kf_text_bytes(size, sizeof size, removed.bytes);
    printf("removed %lld compiled kernels, %s; what was probed about devices stays\n",
           (long long)removed.entries, size);
    return 0;
}

int kf_cmd_cache(kf_cli *cli, int argc, char **argv)
{
    static const char *const choices[] = {"show", "clear"};
    const kf_grammar grammar = {
        .plain = true, .words = "show|clear", .doc = "Compiled kernels on disk."};
    const int code = kf_cli_parse(cli, &grammar, argc, argv);
    if (code >= 0) {
        return code;
    }
    if (cli->words.count != 1) {
        return kf_cli_complain(2, "kfuse cache show, or kfuse cache clear");
    }
    const char *word = cli->words.item[0];
    if (strcmp(word, choices[0]) != 0 && strcmp(word, choices[1]) != 0) {
        return kf_cli_unknown("cache command", word, choices, 2);
    }
    return strcmp(word, choices[0]) == 0 ? show() : clear();
}
