/* Which two devices `kfuse compare` takes. SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"
#include <string.h>

static bool matching(kf_cli *cli, const bool *backend, kf_pair *p)
{
    for (int i = 0; i < cli->found_count; i++) {
        for (int k = i + 1; k < cli->found_count; k++) {
            const kf_device_info *a = &cli->found[i].info, *b = &cli->found[k].info;
            bool asked = true;
            for (int n = 0; n < kf_backend_count(); n++) {
                const char *name = kf_backends[n]->name;
                asked = asked && (backend[n] ||
                                  (strcmp(name, a->backend) != 0 && strcmp(name, b->backend) != 0));
            }
            if (asked && strcmp(a->backend, b->backend) != 0 && kf_device_same(a, b)) {
                p->found[0] = &cli->found[i];
                p->found[1] = &cli->found[k];
                return p->same = true;
            }
        }
    }
    return false;
}

static int no_pair(void)
{
    return kf_cli_complain(
        3, "no GPU here is seen through two backends (kfuse devices); --device=A,B compares "
           "any two");
}

/* Two named devices; or, of the backends in question, the first GPU that two of them show. */
int kf_pair_choose(kf_cli *cli, kf_pair *p)
{
    bool backend[KF_CLI_BACKENDS] = {0};
    kf_selection selection = {0};
    if (cli->device || cli->backend) {
        const int code = kf_cli_select_real(cli, &selection);
        if (code >= 0) {
            return code;
        }
    }
    if (!cli->device) {
        for (int n = 0; n < kf_backend_count(); n++) {
            backend[n] = selection.count == 0;
            for (int i = 0; i < selection.count; i++) {
                backend[n] = backend[n] ||
                             strcmp(selection.device[i]->info.backend, kf_backends[n]->name) == 0;
            }
        }
        kf_cli_scan_all(cli);
        if (matching(cli, backend, p)) {
            return -1;
        }
    }
    if (selection.count != 2) {
        return cli->device ? kf_cli_complain(2, "compare takes two devices; --device=%s names %d",
                                             cli->device, selection.count)
                           : no_pair();
    }
    p->found[0] = selection.device[0];
    p->found[1] = selection.device[1];
    p->same = kf_device_same(&p->found[0]->info, &p->found[1]->info);
    return -1;
}
