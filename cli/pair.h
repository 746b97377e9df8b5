/* Two devices side by side. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_PAIR_H
#define KF_PAIR_H
#include "cli.h"

typedef struct kf_pair {
    kf_cli *cli;
    const kf_found *found[2];
    kf_bench side[2];
    bool same; /* one GPU: like for like */
} kf_pair;

/* Two named devices; or, of the backends in question, the first GPU that two of them show. -1 or
 * the code. */
int kf_pair_choose(kf_cli *cli, kf_pair *p);

#endif
