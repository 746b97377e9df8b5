/* A lesson as a program of its own, with the options and device choice of `kfuse lesson`. Compiled
 * once per lesson with -DKF_LESSON=kf_lesson_NAME. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "../lessons/lesson.h"

extern const kf_lesson KF_LESSON;

int main(int argc, char **argv)
{
    static kf_cli cli;
    const int hidden = kf_hidden(argc, argv); /* its own child: works without kfuse beside it */
    if (hidden >= 0) {
        return hidden;
    }
    kf_cli_start(&cli, argc, argv);
    const int code = kf_cli_lesson_parse(&cli, &KF_LESSON, argc, argv);
    return code >= 0 ? code : kf_cli_lesson(&cli, &KF_LESSON);
}
