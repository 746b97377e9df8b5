/* Sentences, exit codes, marks, numbers for people. SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

int kf_exit_code(kf_status status)
{
    switch (status) {
    case KF_OK:
        return 0;
    case KF_WRONG_RESULT:
        return 1;
    case KF_INVALID:
        return 2;
    case KF_UNAVAILABLE:
    case KF_UNSUPPORTED:
        return 3;
    case KF_OUT_OF_MEMORY:
    case KF_BUILD_FAILED:
    case KF_DEVICE_FAILED:
        return 4;
    case KF_IO:
        return 5;
    }
    return 4;
}

int kf_cli_fail(kf_status status)
{
    if (kf_cancelled) {
        return 130;
    }
    const char *sentence = kf_error();
    fprintf(stderr, "kfuse: %s\n", *sentence ? sentence : kf_status_name(status));
    return kf_exit_code(status);
}

int kf_cli_complain(int exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("kfuse: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return exit_code;
}

void kf_cli_note(const kf_cli *cli, const char *format, ...)
{
    if (cli->quiet) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void kf_cli_progress(const kf_cli *cli, const char *format, ...)
{
    const bool terminal = isatty(STDERR_FILENO);
    if (cli->quiet) {
        return;
    }
    if (terminal) {
        fputs("\r\033[K", stderr);
    }
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputs(terminal ? "" : "\n", stderr);
    }
    fflush(stderr);
}

int kf_cli_unknown(const char *what, const char *word, const char *const *choices, int count)
{
    const char *near = kf_nearest(word, choices, count);
    fprintf(stderr, "kfuse: unknown %s '%s'", what, word);
    if (near) {
        fprintf(stderr, "; did you mean '%s'?", near);
    }
    fputs(count ? near ? " Choices:" : "; choices:" : "; there is none to choose", stderr);
    for (int i = 0; i < count; i++) {
        fprintf(stderr, "%s %s", i ? "," : "", choices[i]);
    }
    fputc('\n', stderr);
    return 2;
}

bool kf_list_next(const char **cursor, char *item, size_t bytes)
{
    const char *text = *cursor;
    if (!text || !*text) {
        return false;
    }
    const size_t length = strcspn(text, ",");
    snprintf(item, bytes, "%.*s", (int)length, text);
    *cursor = text[length] ? text + length + 1 : text + length;
    return true;
}

const char *kf_paint(const kf_cli *cli, const char *code, char *buffer, size_t bytes,
                     const char *text)
{
    if (!cli->color) {
        return text;
    }
    snprintf(buffer, bytes, "\033[%sm%s\033[0m", code, text);
    return buffer;
}

const char *kf_mark(const kf_cli *cli, bool good)
{
    if (cli->unicode) {
        return good ? "✓" : "✗";
    }
    return good ? "ok" : "!!";
}

const char *kf_times(const kf_cli *cli)
{
    return cli->unicode ? "×" : "x";
}

void kf_text_bytes(char *buffer, size_t bytes, int64_t value)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)value;
    int i = 0;
    while (amount >= 1024 && i < 4) {
        amount /= 1024;
        i++;
    }
    snprintf(buffer, bytes, amount < 10 && i ? "%.1f %s" : "%.0f %s", amount, unit[i]);
}

void kf_text_seconds(char *buffer, size_t bytes, double seconds)
{
    const double micro = seconds * 1e6;
    const int digits = micro < 10 ? 2 : micro < 1000 ? 1 : 0;
    snprintf(buffer, bytes, "%.*f", digits, micro);
}
