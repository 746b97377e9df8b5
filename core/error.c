/* The sentence of the last failure, one per thread; names of statuses. SPDX-License-Identifier:
 * Apache-2.0 */
#include "backend.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A sentence needs less than 1 KiB; the rest is for compiler messages that are quoted in it. */
enum { SENTENCE_BYTES = 8192 };

static _Thread_local char sentence[SENTENCE_BYTES];
static _Thread_local int muted;

static void cut_end(char *text, int length)
{
    static const char dots[] = " ...";
    if (length >= SENTENCE_BYTES) {
        length = SENTENCE_BYTES - 1;
        memcpy(text + length - (sizeof dots - 1), dots, sizeof dots);
    }
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        text[--length] = '\0';
}

kf_status kf_fail(kf_status status, const char *format, ...)
{
    char text[SENTENCE_BYTES]; /* apart: an argument may be kf_error() itself */
    va_list arguments;
    if (muted)
        return status;
    va_start(arguments, format);
    const int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return status;
    cut_end(text, length);
    memcpy(sentence, text, strlen(text) + 1);
    return status;
}

void kf_error_mute(bool mute)
{
    muted += mute ? 1 : -1;
}

const char *kf_error(void)
{
    return sentence;
}

const char *kf_status_name(kf_status status)
{
    static const char *const names[] = {[KF_OK] = "KF_OK",
                                        [KF_UNAVAILABLE] = "KF_UNAVAILABLE",
                                        [KF_UNSUPPORTED] = "KF_UNSUPPORTED",
                                        [KF_INVALID] = "KF_INVALID",
                                        [KF_OUT_OF_MEMORY] = "KF_OUT_OF_MEMORY",
                                        [KF_BUILD_FAILED] = "KF_BUILD_FAILED",
                                        [KF_DEVICE_FAILED] = "KF_DEVICE_FAILED",
                                        [KF_WRONG_RESULT] = "KF_WRONG_RESULT",
                                        [KF_IO] = "KF_IO"};
    const size_t index = (size_t)status;
    return index < sizeof names / sizeof *names ? names[index] : "not a kf_status";
}

const char *kf_version(void)
{
    return KF_VERSION_STRING;
}
