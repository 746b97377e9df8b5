/* label: unit */
/* Output files: what is written can be read, appears whole or not at all, and leaves nothing
 * behind. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "../harness/files.h"
#include "npy_rig.h"

static int entries(void)
{
    DIR *dir = opendir(folder);
    int count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    closedir(dir);
    return count;
}

/* Catches a header that NumPy could not read, data off its 64-byte alignment, and strides ignored.
 */
static void npy_writes_what_it_reads(void **state)
{
    static const kf_dtype dtypes[] = {KF_F32, KF_F16, KF_BF16, KF_I32, KF_I64};
    (void)state;
    for (int d = 0; d < 5; d++)
        for (int rank = 0; rank <= KF_MAX_RANK; rank++) {
            const int64_t size[KF_MAX_RANK] = {1, 2, 3, 1, 1, 1, 1, 1};
            uint64_t data[16] = {0};
            uint8_t head[10];
            kf_tensor tensor;
            kf_array array;
            assert_int_equal(kf_tensor_contiguous(dtypes[d], rank, size, &tensor), KF_OK);
            if (rank == 3)
                tensor.stride[1] = 4;
            for (int i = 0; i < 6; i++)
                kf_store(data, dtypes[d], rank == 3 ? i / 3 * 4 + i % 3 : i, six[i]);
            assert_int_equal(kf_npy_write(path_of("out.npy"), &tensor, data), KF_OK);
            FILE *file = fopen(path_of("out.npy"), "rb");
            assert_non_null(file);
            assert_int_equal(fread(head, 1, 10, file), 10);
            fclose(file);
            assert_int_equal((10 + head[8] + 256 * head[9]) % 64, 0);
            assert_int_equal(kf_npy_read(path_of("out.npy"), dtypes[d], &array), KF_OK);
            assert_int_equal(array.tensor.rank, rank);
            must_hold(&array, dtypes[d], six, rank < 2 ? 1 : rank == 2 ? 2 : 6);
        }
}

/* Catches a half-written result under its final name, and temporaries left behind by failures. */
static void npy_write_leaves_all_or_nothing(void **state)
{
    const kf_tensor tensor = {.dtype = KF_F32, .rank = 1, .size = {6}, .stride = {1}};
    char link[512];
    struct stat info;
    (void)state;
    remove(path_of("out.npy"));
    const int before = entries();
    assert_int_equal(kf_npy_write(path_of("no/such/folder.npy"), &tensor, six_f4), KF_IO);
    assert_int_equal(entries(), before);
    assert_int_equal(kf_npy_write(path_of("out.npy"), &tensor, six_f4), KF_OK);
    assert_int_equal(entries(), before + 1);
    /* through a link the target is replaced and the link stays; the mode is kept */
    chmod(path_of("out.npy"), 0640);
    snprintf(link, sizeof link, "%s/link.npy", folder);
    assert_int_equal(symlink("out.npy", link), 0);
    assert_int_equal(kf_npy_write(link, &tensor, six_f4), KF_OK);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(link, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(entries(), before + 2);
    assert_int_equal(kf_npy_write("/dev/null", &tensor, six_f4), KF_OK);
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    assert_int_equal(kf_npy_write("/dev/full", &tensor, six_f4), KF_IO);
}

/* Catches an interrupted program that leaves its temporary, and a child that removes its parent's.
 */
static void files_are_abandoned_by_their_owner_only(void **state)
{
    kf_file *file = NULL;
    int status;
    (void)state;
    const int before = entries();
    assert_int_equal(kf_file_create(path_of("half.npy"), &file), KF_OK);
    assert_int_equal(kf_file_write(file, six_f4, 24), KF_OK);
    assert_int_equal(entries(), before + 1);
    const pid_t child = fork();
    if (child == 0) {
        kf_files_abandon_all();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(entries(), before + 1);
    kf_files_abandon_all();
    assert_int_equal(entries(), before);
    kf_file_abandon(file);
    assert_int_not_equal(access(path_of("half.npy"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_writes_what_it_reads),
        cmocka_unit_test(npy_write_leaves_all_or_nothing),
        cmocka_unit_test(files_are_abandoned_by_their_owner_only),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder) ? 1 : 0;
}
