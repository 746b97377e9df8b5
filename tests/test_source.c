/* label: unit */
/* Kernel texts: what is embedded is what is in the files, and edit-and-run reads the edited file.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "../core/source.h"

static char root[64];

static void put(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/opencl/kernels/%s", root, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static int setup(void **state)
{
    char path[160];
    (void)state;
    strcpy(root, "/tmp/kfuse-test-XXXXXX");
    if (!mkdtemp(root))
        return 1;
    static const char *const folders[] = {"/opencl", "/opencl/kernels", "/opencl/kernels/common"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        if (mkdir(path, 0700) != 0)
            return 1;
    }
    return setenv("KFUSE_KERNELS", root, 1);
}

static int teardown(void **state)
{
    char command[96];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

/* Mistakes: a #line that is off, preludes in the order of the disk, other files read as preludes.
 */
static void the_text_is_put_together_from_disk(void **state)
{
    static const char *const defines[] = {"BLOCK 256", "KF_ENTRY_mine 1"};
    const kf_backend *null = kf_backend_find("null");
    char *text;
    size_t bytes;
    (void)state;
    put("common/b.cl", "second");
    put("common/a.cl", "first\n");
    put("common/a.cl~", "an editor's copy\n");
    put("common/notes.cu", "not ours\n");
    put("mine.cl", "kernel\n");
    assert_int_equal(kf_source_compose(null, "mine", true, defines, 2, &text, &bytes), KF_OK);
    assert_string_equal(
        text, "#define BLOCK 256\n#define KF_ENTRY_mine 1\n"
              "#line 1 \"a.cl\"\nfirst\n#line 1 \"b.cl\"\nsecond\n#line 1 \"mine.cl\"\nkernel\n");
    assert_int_equal(bytes, strlen(text));
    free(text);
}

static void a_missing_file_is_an_io_error_with_its_path(void **state)
{
    char *text = root;
    size_t bytes;
    (void)state;
    assert_int_equal(
        kf_source_compose(kf_backend_find("null"), "gone", true, NULL, 0, &text, &bytes), KF_IO);
    assert_null(text);
    assert_non_null(strstr(kf_error(), "/opencl/kernels/gone.cl"));
    assert_int_equal(kf_source_compose(kf_backend_find("null"), NULL, true, NULL, 0, &text, &bytes),
                     KF_INVALID);
}

/* Mistake: a library that was not asked to read from disk does so because of the environment. */
static void the_disk_is_read_only_when_asked(void **state)
{
    char *text;
    size_t bytes;
    (void)state;
    put("mine.cl", "kernel\n");
    assert_int_equal(
        kf_source_compose(kf_backend_find("null"), "mine", false, NULL, 0, &text, &bytes),
        KF_UNSUPPORTED);
    assert_non_null(strstr(kf_error(), "mine"));
}

static void every_embedded_text_is_its_file(void **state)
{
    char path[4096];
    (void)state;
    for (const kf_text *t = kf_texts; t->folder; t++) {
        const size_t bytes = (size_t)(t->end - t->begin);
        char *file = malloc(bytes + 2);
        snprintf(path, sizeof path, KF_SOURCE_DIR "/backends/%s/kernels/%s%s", t->folder,
                 t->stem ? "" : "common/", t->file);
        FILE *in = fopen(path, "r");
        assert_non_null(in);
        assert_int_equal(fread(file, 1, bytes + 2, in), bytes);
        assert_memory_equal(file, t->begin, bytes);
        assert_int_equal(*t->end, 0);
        fclose(in);
        free(file);
    }
}

static void every_kernel_can_be_composed(void **state)
{
    char *text;
    size_t bytes;
    (void)state;
    for (int i = 0; kf_backends[i]; i++)
        for (const kf_text *t = kf_texts; t->folder; t++) {
            if (!t->stem || strcmp(t->folder, kf_backends[i]->kernels) != 0)
                continue;
            assert_int_equal(
                kf_source_compose(kf_backends[i], t->stem, false, NULL, 0, &text, &bytes), KF_OK);
            assert_non_null(strstr(text, t->begin)); /* the kernel, to its end */
            free(text);
        }
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(the_text_is_put_together_from_disk),
        ON_DISK(a_missing_file_is_an_io_error_with_its_path),
        ON_DISK(the_disk_is_read_only_when_asked),
        cmocka_unit_test(every_embedded_text_is_its_file),
        cmocka_unit_test(every_kernel_can_be_composed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
