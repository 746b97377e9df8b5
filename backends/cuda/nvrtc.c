/* NVRTC by dlopen: text to cubin or PTX, and errors a reader can act on.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* secure_getenv, dlsym */
#endif
#include "nvrtc.h"

#include "api.h"
#include "library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INSTALL_NVRTC                                                                              \
    "install it: python3 -m pip install --target ~/.local/share/kfuse nvidia-cuda-nvrtc"

enum { MAX_OPTIONS = 24, MAX_OPTION_BYTES = 200, MAX_ERRORS = 3 };

static struct {
    kfnvrtc_table call;
    kf_status status;
    char why[640];
    char path[300];
    int major, minor;
    int archs[KFCU_MAX_ARCHS];
    int arch_count;
} nvrtc;

static atomic_int preferred_major = 13;

/* Toolkits keep the library in the folder itself, Python packages below their root. */
static const kfcu_folder toolkit_folders[] = {
    {"CUDA_HOME", "lib64"},   {"CUDA_PATH", "lib64"},         {"CUDA_HOME", "lib"},
    {"CUDA_PATH", "lib"},     {NULL, "usr/local/cuda/lib64"}, {NULL, "usr/local/cuda-*/lib64"},
    {NULL, "opt/cuda/lib64"}, {"CONDA_PREFIX", "lib"},
};
static const kfcu_folder python_folders[] = {
    {"VIRTUAL_ENV", "lib/python3*/site-packages"},
    {"CONDA_PREFIX", "lib/python3*/site-packages"},
    {"XDG_DATA_HOME", "kfuse"},
    {"HOME", ".local/share/kfuse"},
    {"HOME", ".local/lib/python3*/site-packages"},
    {NULL, "usr/local/lib/python3*/dist-packages"},
    {NULL, "usr/local/lib/python3*/site-packages"},
    {NULL, "usr/lib/python3/dist-packages"},
    {NULL, "usr/lib/python3*/site-packages"},
    {"HOME", ".pyenv/versions/*/lib/python3*/site-packages"},
};

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void *open_major(int major)
{
    const char *soname = major == 12 ? "libnvrtc.so.12" : "libnvrtc.so.13";
    const char *package = major == 12 ? "/nvidia/cuda_nvrtc/lib" : "/nvidia/cu13/lib";
    void *library = kfcu_library_open(soname, NULL, 0);
    if (!library) {
        library = kfcu_library_search(toolkit_folders, COUNT(toolkit_folders), "", soname);
    }
    if (!library) {
        library = kfcu_library_search(python_folders, COUNT(python_folders), package, soname);
    }
    return library;
}

static void *open_library(void)
{
    int set = 0;
    char reason[256] = "";
    void *library = kfcu_library_override("KFUSE_NVRTC", &set, reason, sizeof reason);
    if (set) {
        if (!library) {
            snprintf(nvrtc.why, sizeof nvrtc.why, "NVRTC: %s; correct or unset KFUSE_NVRTC",
                     reason);
        }
        return library;
    }
    const int first = atomic_load(&preferred_major);
    library = open_major(first);
    if (!library) {
        library = open_major(first == 12 ? 13 : 12);
    }
    if (!library) {
        snprintf(
            nvrtc.why, sizeof nvrtc.why,
            "NVRTC, the CUDA compiler library, is not here (libnvrtc.so.13 and .12 were looked "
            "for in the loader's path, CUDA_HOME and Python's package folders); " INSTALL_NVRTC);
    }
    return library;
}

/* ISO C has no cast from an object pointer to a function pointer; POSIX promises that the bytes
 * fit. */
static bool resolve(void *library, const char *symbol, void *entry, size_t bytes)
{
    void *address = dlsym(library, symbol);
    if (!address) {
        snprintf(nvrtc.why, sizeof nvrtc.why,
                 "NVRTC: %s has no %s, it is older than 12.0; " INSTALL_NVRTC, nvrtc.path, symbol);
        return false;
    }
    memcpy(entry, &address, bytes);
    return true;
}

static bool resolve_all(void *library)
{
    bool found = resolve(library, "nvrtcGetErrorString", &nvrtc.call.GetErrorString,
                         sizeof nvrtc.call.GetErrorString);
#define KFNVRTC_FN(name, symbol, parameters)                                                       \
    found = found && resolve(library, #symbol, &nvrtc.call.name, sizeof nvrtc.call.name);
#include "nvrtc.fn"
#undef KFNVRTC_FN
    return found;
}

static bool ask_library(void)
{
    int count = 0;
    if (nvrtc.call.Version(&nvrtc.major, &nvrtc.minor) != 0 ||
        nvrtc.call.GetNumSupportedArchs(&count) != 0) {
        snprintf(nvrtc.why, sizeof nvrtc.why, "NVRTC: %s does not tell its version", nvrtc.path);
        return false;
    }
    int *list = count > 0 ? malloc((size_t)count * sizeof *list) : NULL;
    if (list && nvrtc.call.GetSupportedArchs(list) == 0) {
        nvrtc.arch_count = count < KFCU_MAX_ARCHS ? count : KFCU_MAX_ARCHS;
        /* ascending: of a longer list the newest are kept */
        memcpy(nvrtc.archs, list + (count - nvrtc.arch_count),
               (size_t)nvrtc.arch_count * sizeof *list);
    }
    free(list);
    return true;
}

static void load_once(void)
{
    nvrtc.status = KF_UNAVAILABLE;
    void *library = open_library();
    if (library) {
        snprintf(nvrtc.path, sizeof nvrtc.path, "%s", kfcu_library_path(library));
        if (resolve_all(library) && ask_library()) {
            nvrtc.status = KF_OK;
        }
    }
}

static kf_status load(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_once);
    return nvrtc.status == KF_OK ? KF_OK : kf_fail(nvrtc.status, "%s", nvrtc.why);
}

void kfcu_nvrtc_prefer(int major)
{
    atomic_store(&preferred_major, major <= 12 ? 12 : 13);
}

kf_status kfcu_nvrtc_version(int *major, int *minor, const char **path)
{
    const kf_status status = load();
    *major = nvrtc.major;
    *minor = nvrtc.minor;
    *path = nvrtc.path;
    return status;
}

kf_status kfcu_nvrtc_archs(int *list, int capacity, int *count)
{
    const kf_status status = load();
    *count = status == KF_OK ? nvrtc.arch_count : 0;
    for (int i = 0; i < *count && i < capacity; i++) {
        list[i] = nvrtc.archs[i];
    }
    return status;
}

const char *kfcu_build_options(void)
{
    const char *options = secure_getenv("KFUSE_BUILD_OPTIONS");
    return options ? options : "";
}

/* ---- options ------------------------------------------------------------------------------ */

typedef struct options {
    const char *list[MAX_OPTIONS];
    int count;
    bool ptx;
    char arch[64], registers[40], user[MAX_OPTION_BYTES];
} options;

/* The newest architecture NVRTC knows that is not newer than `arch`; 0 = none. */
static int newest_known(int arch)
{
    int best = 0;
    for (int i = 0; i < nvrtc.arch_count; i++) {
        best = nvrtc.archs[i] <= arch && nvrtc.archs[i] > best ? nvrtc.archs[i] : best;
    }
    return best;
}

static kf_status choose_arch(const kfcu_source *source, options *o)
{
    char *suffix = NULL;
    const int arch = (int)strtol(source->arch + strlen("sm_"), &suffix, 10);
    const int known = newest_known(arch);
    if (known == arch || nvrtc.arch_count == 0) {
        snprintf(o->arch, sizeof o->arch, "--gpu-architecture=%s", source->arch);
        return KF_OK;
    }
    if (known == 0) {
        return kf_fail(
            KF_UNAVAILABLE,
            "NVRTC %d.%d no longer builds for %s (its oldest is sm_%d); an older one does: "
            "python3 -m pip install --target ~/.local/share/kfuse nvidia-cuda-nvrtc-cu12",
            nvrtc.major, nvrtc.minor, source->arch, nvrtc.archs[0]);
    }
    if (*suffix) { /* PTX of an `a` architecture runs on no other: nothing to fall back to */
        return kf_fail(
            KF_UNSUPPORTED,
            "NVRTC %d.%d does not know %s, which %s needs; install a newer one: python3 -m "
            "pip install --upgrade --target ~/.local/share/kfuse nvidia-cuda-nvrtc",
            nvrtc.major, nvrtc.minor, source->arch, source->name);
    }
    o->ptx = true;
    snprintf(o->arch, sizeof o->arch, "--gpu-architecture=compute_%d", known);
    return KF_OK;
}

static kf_status add_user_options(options *o)
{
    const char *text = kfcu_build_options();
    if (strlen(text) >= sizeof o->user) {
        return kf_fail(KF_INVALID, "KFUSE_BUILD_OPTIONS is longer than %zu characters",
                       sizeof o->user - 1);
    }
    strcpy(o->user, text);
    char *rest = NULL;
    for (char *word = strtok_r(o->user, " \t\n", &rest); word;
         word = strtok_r(NULL, " \t\n", &rest)) {
        if (o->count == MAX_OPTIONS) {
            return kf_fail(KF_INVALID, "KFUSE_BUILD_OPTIONS holds too many options");
        }
        o->list[o->count++] = word;
    }
    return KF_OK;
}

static kf_status make_options(const kfcu_source *source, options *o)
{
    kf_status status = choose_arch(source, o);
    if (status != KF_OK) {
        return status;
    }
    o->list[o->count++] = o->arch;
    o->list[o->count++] = "--std=c++17";
    if (source->register_cap > 0) {
        snprintf(o->registers, sizeof o->registers, "-maxrregcount=%d", source->register_cap);
        o->list[o->count++] = o->registers;
    }
    return add_user_options(o);
}

/* ---- messages ----------------------------------------------------------------------------- */

typedef struct message {
    char text[640];
    size_t length;
    int errors;
    bool located; /* the compiler gave a file and a line */
} message;

static void message_add(message *m, const char *line, size_t bytes)
{
    const char *separator = m->length ? "; " : "";
    const int length = snprintf(m->text + m->length, sizeof m->text - m->length, "%s%.*s",
                                separator, (int)bytes, line);
    if (length > 0) {
        m->length += (size_t)length;
        m->length = m->length < sizeof m->text ? m->length : sizeof m->text - 1;
    }
}

static bool contains(const char *line, size_t bytes, const char *word)
{
    return memmem(line, bytes, word, strlen(word)) != NULL;
}

/* "softmax.cu(12): error: ..." comes from the front end, "ptxas error : ..." or "ptxas application
 * ptx input, line 55; error : ..." from the assembler, whose lines count in a text nobody sees. */
static bool is_error(const char *line, size_t bytes)
{
    return (contains(line, bytes, "error") || contains(line, bytes, "fatal")) &&
           !contains(line, bytes, "detected in the compilation");
}

static void collect(message *m, const char *log, bool errors_only)
{
    while (*log && m->errors < MAX_ERRORS) {
        const size_t bytes = strcspn(log, "\r\n");
        const size_t blank = strspn(log, " \t");
        if (blank < bytes && (!errors_only || is_error(log, bytes))) {
            message_add(m, log + blank, bytes - blank);
            m->located = m->located || contains(log, bytes, "): ");
            m->errors++;
        }
        log += bytes;
        log += strspn(log, "\r\n");
    }
}

static char *program_log(kfnvrtc_program program)
{
    size_t bytes = 0;
    if (nvrtc.call.GetProgramLogSize(program, &bytes) != 0) {
        bytes = 0;
    }
    char *log = calloc(bytes + 1, 1);
    if (log && bytes && nvrtc.call.GetProgramLog(program, log) != 0) {
        log[0] = 0;
    }
    return log;
}

static void name_entries(const kfcu_source *source, char *text, size_t bytes)
{
    size_t length =
        (size_t)snprintf(text, bytes, "%s", source->entry_count > 1 ? ", entries" : ", entry");
    for (int i = 0; i < source->entry_count && length < bytes; i++) {
        length += (size_t)snprintf(text + length, bytes - length, " %s", source->entries[i]);
    }
    if (source->entry_count == 0) {
        text[0] = 0;
    }
}

static kf_status fail_build(const kfcu_source *source, kfnvrtc_program program,
                            kfnvrtc_result result)
{
    message m = {.length = 0};
    char entries[160] = "";
    char *log = program_log(program);
    if (log) {
        collect(&m, log, true);
        if (m.errors == 0) {
            collect(&m, log, false);
        }
        free(log);
    }
    if (m.errors == 0) {
        message_add(&m, "the compiler left no message", strlen("the compiler left no message"));
    }
    if (!m.located) {
        name_entries(source, entries, sizeof entries);
    }
    return kf_fail(KF_BUILD_FAILED, "NVRTC %d.%d cannot build %s%s for %s (%s): %s", nvrtc.major,
                   nvrtc.minor, source->name, entries, source->arch,
                   nvrtc.call.GetErrorString(result), m.text);
}

static kf_status fail_result(const kfcu_source *source, kfnvrtc_result result, const char *call)
{
    const bool memory = result == KF_NVRTC_ERROR_OUT_OF_MEMORY;
    return kf_fail(memory ? KF_OUT_OF_MEMORY : KF_BUILD_FAILED, "%s failed for %s: %s (%u)", call,
                   source->name, nvrtc.call.GetErrorString(result), result);
}

/* ---- compiling ---------------------------------------------------------------------------- */

static kf_status take_binary(const kfcu_source *source, kfnvrtc_program program,
                             kfcu_binary *binary)
{
    size_t bytes = 0;
    kfnvrtc_result result = binary->ptx ? nvrtc.call.GetPTXSize(program, &bytes)
                                        : nvrtc.call.GetCUBINSize(program, &bytes);
    if (result != 0 || bytes == 0) {
        return fail_result(source, result, binary->ptx ? "nvrtcGetPTXSize" : "nvrtcGetCUBINSize");
    }
    void *data = malloc(bytes);
    if (!data) {
        return kf_fail(KF_OUT_OF_MEMORY, "no memory for the %zu bytes of %s", bytes, source->name);
    }
    result = binary->ptx ? nvrtc.call.GetPTX(program, data) : nvrtc.call.GetCUBIN(program, data);
    if (result != 0) {
        free(data);
        return fail_result(source, result, binary->ptx ? "nvrtcGetPTX" : "nvrtcGetCUBIN");
    }
    binary->data = data;
    binary->bytes = bytes;
    return KF_OK;
}

static kf_status compile(const kfcu_source *source, const options *o, kfcu_binary *binary)
{
    kfnvrtc_program program = NULL;
    kfnvrtc_result result =
        nvrtc.call.CreateProgram(&program, source->text, source->name, 0, NULL, NULL);
    if (result != 0) {
        return fail_result(source, result, "nvrtcCreateProgram");
    }
    result = nvrtc.call.CompileProgram(program, o->count, o->list);
    kf_status status = KF_OK;
    if (result == KF_NVRTC_ERROR_OUT_OF_MEMORY) {
        status = fail_result(source, result, "nvrtcCompileProgram");
    } else if (result != 0) {
        status = fail_build(source, program, result);
    } else {
        status = take_binary(source, program, binary);
    }
    nvrtc.call.DestroyProgram(&program);
    return status;
}

kf_status kfcu_compile(const kfcu_source *source, kfcu_binary *binary)
{
    options o = {.count = 0};
    kf_status status = load();
    if (status == KF_OK) {
        status = make_options(source, &o);
    }
    if (status == KF_OK) {
        *binary = (kfcu_binary){.ptx = o.ptx};
        status = compile(source, &o, binary);
    }
    return status;
}
