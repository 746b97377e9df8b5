/* Puts the text of a kernel together. SPDX-License-Identifier: Apache-2.0 */
#include "source.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer { /* of the whole text; what goes wrong is asked at the end */
    FILE *out;
    kf_status status;
} writer;

/* Each part counts its own lines, so that a compiler names the file that one can edit. */
static void put_part(writer *w, const char *file, const char *text, size_t bytes)
{
    fprintf(w->out, "#line 1 \"%s\"\n", file);
    fwrite(text, 1, bytes, w->out);
    if (bytes && text[bytes - 1] != '\n')
        fputc('\n', w->out);
}

/* ---- embedded ------------------------------------------------------------------------------ */

static void put_embedded(writer *w, const char *folder, const char *stem)
{
    bool found = !stem;
    for (const kf_text *text = kf_texts; text->folder; text++) {
        const bool prelude = !text->stem;
        if (strcmp(text->folder, folder) != 0 || prelude != !stem ||
            (stem && strcmp(text->stem, stem) != 0))
            continue;
        put_part(w, text->file, text->begin, (size_t)(text->end - text->begin));
        found = true;
    }
    if (!found)
        w->status = kf_fail(KF_UNSUPPORTED, "there is no kernel text '%s' for %s", stem, folder);
}

/* ---- from disk ----------------------------------------------------------------------------- */

static void put_file(writer *w, const char *path, const char *name)
{
    char block[16384], *text = NULL;
    size_t bytes = 0, got;
    FILE *in = fopen(path, "r"), *copy = in ? open_memstream(&text, &bytes) : NULL;
    if (!copy) {
        w->status = kf_fail(KF_IO, "KFUSE_KERNELS: %s cannot be read (%s)", path, strerror(errno));
        if (in)
            fclose(in);
        return;
    }
    while ((got = fread(block, 1, sizeof block, in)) > 0)
        fwrite(block, 1, got, copy);
    const bool torn = ferror(in) || ferror(copy);
    fclose(in);
    if (fclose(copy) != 0 || torn)
        w->status = kf_fail(KF_IO, "KFUSE_KERNELS: %s could not be read to its end", path);
    else
        put_part(w, name, text, bytes);
    free(text);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* as at build time; alphasort asks the locale */
}

static bool has_suffix(const char *name, const char *suffix)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name && !strcmp(dot + 1, suffix);
}

/* A folder without a prelude is as good as one with an empty one. */
static void put_preludes(writer *w, const char *common, const char *suffix)
{
    struct dirent **list = NULL;
    char path[4400];
    const int count = scandir(common, &list, NULL, by_name);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", common, list[i]->d_name);
        if (w->status == KF_OK && has_suffix(list[i]->d_name, suffix))
            put_file(w, path, list[i]->d_name);
        free(list[i]);
    }
    free(list);
}

static void put_from_disk(writer *w, const kf_backend *backend, const char *stem, const char *root)
{
    char path[4400], name[128];
    snprintf(path, sizeof path, "%s/%s/kernels/common", root, backend->kernels);
    put_preludes(w, path, backend->suffix);
    snprintf(name, sizeof name, "%s.%s", stem, backend->suffix);
    snprintf(path, sizeof path, "%s/%s/kernels/%s", root, backend->kernels, name);
    if (w->status == KF_OK)
        put_file(w, path, name);
}

/* ---- compose ------------------------------------------------------------------------------- */

static const char *kernels_on_disk(bool wanted)
{
    const char *root = wanted ? secure_getenv("KFUSE_KERNELS") : NULL;
    return root && root[0] ? root : NULL;
}

kf_status kf_source_compose(const kf_backend *backend, const char *stem, bool from_disk,
                            const char *const *defines, int define_count, char **text,
                            size_t *bytes)
{
    writer w = {.out = NULL};
    if (!backend || !stem || !text || !bytes || define_count < 0 || (define_count && !defines))
        return kf_fail(KF_INVALID,
                       "kf_source_compose: a backend, a stem and places for the text are needed");
    *text = NULL;
    *bytes = 0;
    w.out = open_memstream(text, bytes);
    if (!w.out)
        return kf_fail(KF_OUT_OF_MEMORY, "kf_source_compose: no host memory for the text of %s",
                       stem);
    for (int i = 0; i < define_count; i++)
        fprintf(w.out, "#define %s\n", defines[i]);
    const char *root = kernels_on_disk(from_disk);
    if (root) {
        put_from_disk(&w, backend, stem, root);
    } else {
        put_embedded(&w, backend->kernels, NULL);
        put_embedded(&w, backend->kernels, stem);
    }
    const bool broken = ferror(w.out);
    if ((fclose(w.out) != 0 || broken) && w.status == KF_OK)
        w.status =
            kf_fail(KF_OUT_OF_MEMORY, "kf_source_compose: no host memory for the text of %s", stem);
    if (w.status != KF_OK) {
        free(*text);
        *text = NULL;
        *bytes = 0;
    }
    return w.status;
}
