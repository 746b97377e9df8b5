/* A folder of .npy files made byte by byte. Include after cmocka.h, in one file of a program.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_NPY_RIG_H
#define KF_NPY_RIG_H
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../harness/npy.h"

static char folder[] = "/tmp/kfuse-npy-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const double six[] = {1, 2, 3, 4, 5, 6};
static const float six_f4[] = {1, 2, 3, 4, 5, 6};

static void must_hold(kf_array *array, kf_dtype dtype, const double *want, int count)
{
    assert_int_equal(array->tensor.dtype, dtype);
    assert_int_equal(kf_tensor_elements(&array->tensor), count);
    for (int i = 0; i < count; i++)
        assert_true(kf_load(array->data, dtype, i) == want[i]);
    kf_array_free(array);
    assert_null(array->data);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}

static int remove_folder(void **state)
{
    DIR *dir = opendir(folder);
    (void)state;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove(path_of(entry->d_name));
    if (dir)
        closedir(dir);
    return rmdir(folder);
}
#endif
