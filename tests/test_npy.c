/* label: unit */
/* .npy files made here byte by byte: versions, byte orders, dtypes, axis orders, and everything
 * that is wrong with a file. Replays the corpus of the fuzz target. SPDX-License-Identifier:
 * Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "fuzz_npy.c"
#include "npy_rig.h"

static size_t make_file(uint8_t *out, int version, const char *dict, const void *data, size_t bytes)
{
    const size_t length = strlen(dict), start = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)version;
    out[7] = 0;
    for (size_t i = 8; i < start; i++)
        out[i] = (uint8_t)(length >> 8 * (i - 8));
    memcpy(out + start, dict, length);
    if (bytes)
        memcpy(out + start + length, data, bytes);
    return start + length + bytes;
}

static void save(const char *name, const void *data, size_t bytes)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static kf_status read_made(int version, const char *dict, const void *data, size_t bytes,
                           kf_dtype dtype, kf_array *out)
{
    uint8_t file[1024];
    save("made.npy", file, make_file(file, version, dict, data, bytes));
    return kf_npy_read(path_of("made.npy"), dtype, out);
}

static void must_refuse(int version, const char *dict, const void *data, size_t bytes,
                        kf_status status, const char *why)
{
    kf_array array;
    assert_int_equal(read_made(version, dict, data, bytes, KF_NONE, &array), status);
    if (!strstr(kf_error(), why))
        fail_msg("'%s' does not say '%s'", kf_error(), why);
    assert_null(array.data);
}

/* Catches a length field of the wrong width: versions 2 and 3 have four bytes. */
static void npy_reads_every_version(void **state)
{
    kf_array array;
    (void)state;
    for (int version = 1; version <= 3; version++) {
        assert_int_equal(
            read_made(version, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n",
                      six_f4, sizeof six_f4, KF_NONE, &array),
            KF_OK);
        assert_int_equal(array.tensor.size[0], 2);
        assert_int_equal(array.tensor.size[1], 3);
        assert_int_equal(array.tensor.stride[0], 3);
        assert_string_equal(array.note, "");
        must_hold(&array, KF_F32, six, 6);
    }
    must_refuse(4, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", six_f4, 24,
                KF_IO, "version");
}

/* Catches a parser that wants NumPy's own spacing, key order, quotes and trailing comma. */
static void npy_reads_any_spelling_of_the_dict(void **state)
{
    static const char *const dict[] = {
        "{'shape':(2,3),'fortran_order':False,'descr':'<f4'}",
        "  { \"fortran_order\" : False , \"descr\" : \"<f4\" , \"shape\" : ( 2 , 3 , ) , }  \n\n",
        "{'descr': '=f4', 'shape': (2L, 3L), 'fortran_order': False}\n",
        "{'descr': '|f4', 'shape': (002, 3), 'fortran_order':\nFalse, }",
        "{'descr': 'f4', 'shape': (6,), 'fortran_order': True}",
    };
    kf_array array;
    (void)state;
    for (size_t i = 0; i < sizeof dict / sizeof dict[0]; i++) {
        if (read_made(1, dict[i], six_f4, sizeof six_f4, KF_NONE, &array) != KF_OK)
            fail_msg("%s: %s", dict[i], kf_error());
        must_hold(&array, KF_F32, six, 6);
    }
}

/* Catches elements that are not swapped, or swapped in the wrong width. */
static void npy_reads_both_byte_orders(void **state)
{
    static const uint8_t f2[] = {0x3c, 0x00, 0xc0, 0x00}, f4[] = {0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0},
                         f8[] = {0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0},
                         i4[] = {0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe},
                         i8[] = {0,    0,    0,    0,    0,    0,    0,    1,
                                 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
    static const struct {
        const char *descr;
        const uint8_t *data;
        size_t size;
        kf_dtype dtype;
    } given[] = {{"f2", f2, 2, KF_F16},
                 {"f4", f4, 4, KF_F32},
                 {"f8", f8, 8, KF_F32},
                 {"i4", i4, 4, KF_I32},
                 {"i8", i8, 8, KF_I64}};
    static const double want[] = {1, -2};
    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++)
        for (int little = 0; little < 2; little++) {
            char dict[96];
            uint8_t data[16];
            kf_array array;
            for (size_t b = 0; b < 2 * given[i].size; b++)
                data[b] = given[i].data[little ? b / given[i].size * given[i].size + given[i].size -
                                                     1 - b % given[i].size
                                               : b];
            snprintf(dict, sizeof dict,
                     "{'descr': '%c%s', 'fortran_order': False, 'shape': (2,), }\n",
                     little ? '<' : '>', given[i].descr);
            if (read_made(1, dict, data, 2 * given[i].size, KF_NONE, &array) != KF_OK)
                fail_msg("%s: %s", dict, kf_error());
            must_hold(&array, given[i].dtype, want, 2);
        }
}

/* Catches Fortran order taken for C order, and a rewriting that nobody is told of. */
static void npy_rewrites_fortran_order(void **state)
{
    static const float stored[] = {1, 4, 2, 5, 3, 6};
    static const double three[] = {0, 4, 2, 6, 1, 5, 3, 7};
    static const float cube[] = {0, 1, 2, 3, 4, 5, 6, 7};
    kf_array array;
    (void)state;
    assert_int_equal(read_made(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n",
                               stored, sizeof stored, KF_NONE, &array),
                     KF_OK);
    assert_non_null(strstr(array.note, "Fortran order rewritten to C order"));
    must_hold(&array, KF_F32, six, 6);
    assert_int_equal(read_made(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2, 2), }\n",
                               cube, sizeof cube, KF_F16, &array),
                     KF_OK);
    assert_non_null(strstr(array.note, "Fortran order"));
    assert_non_null(strstr(array.note, "f32 converted to f16"));
    must_hold(&array, KF_F16, three, 8);
}

/* Catches double rounding (f8 to f16 through f32), lost NaNs, silent overflow, and integers through
 * double. */
static void npy_converts_when_asked(void **state)
{
    static const double wide[] = {1 + 0x1p-11 + 0x1p-40, 1e5, NAN, -INFINITY};
    static const int64_t big[] = {INT64_C(9007199254740993), -1};
    static const char *const f8 = "{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }\n";
    kf_array array;
    (void)state;
    assert_int_equal(read_made(1, f8, wide, sizeof wide, KF_F16, &array), KF_OK);
    assert_true(kf_load(array.data, KF_F16, 0) == 1 + 0x1p-10);
    assert_true(isinf(kf_load(array.data, KF_F16, 1)) && isnan(kf_load(array.data, KF_F16, 2)));
    assert_non_null(strstr(array.note, "f64 converted to f16; 1 too large for f16"));
    kf_array_free(&array);
    assert_int_equal(read_made(1, f8, wide, sizeof wide, KF_BF16, &array), KF_OK);
    assert_int_equal(array.tensor.dtype, KF_BF16);
    kf_array_free(&array);
    assert_int_equal(read_made(1, f8, wide, sizeof wide, KF_I32, &array), KF_INVALID);
    static const char *const i8 = "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n";
    assert_int_equal(read_made(1, i8, big, sizeof big, KF_I64, &array), KF_OK);
    assert_true(((int64_t *)array.data)[0] == big[0]);
    kf_array_free(&array);
    assert_int_equal(read_made(1, i8, big, sizeof big, KF_I32, &array), KF_INVALID);
}

/* Catches rank 0, empty arrays and bytes behind the data treated as errors. */
static void npy_reads_scalars_and_empty_arrays(void **state)
{
    kf_array array;
    (void)state;
    assert_int_equal(read_made(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n",
                               six_f4, 4, KF_NONE, &array),
                     KF_OK);
    assert_int_equal(array.tensor.rank, 0);
    must_hold(&array, KF_F32, six, 1);
    assert_int_equal(read_made(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 0, 2), }\n",
                               NULL, 0, KF_NONE, &array),
                     KF_OK);
    must_hold(&array, KF_F32, six, 0);
    assert_int_equal(read_made(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n",
                               six_f4, 24, KF_NONE, &array),
                     KF_OK);
    must_hold(&array, KF_F32, six, 2);
}

/* Catches arrays that are readable but illegal reported as unreadable, and the other way round: the
 * tool's exit codes 2 and 5 hang on it. */
static void npy_tells_illegal_from_unreadable(void **state)
{
    static const char head[] = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
    static const struct {
        const char *shape, *why;
    } illegal[] = {{"(1, 1, 1, 1, 1, 1, 1, 1, 1)}", "9 axes"},
                   {"(-1,)}", "negative"},
                   {"(99999999999999999999,)}", "overflow"},
                   {"(4611686018427387904, 4)}", "overflow"},
                   {"(0, 9223372036854775807, 9223372036854775807)}", "overflow"}},
      unreadable[] = {{"(5)}", "dict"},
                      {"(1, 2}", "dict"},
                      {"[1, 2]}", "dict"},
                      {"(1 2)}", "dict"},
                      {"(,)}", "dict"},
                      {"(1,,)}", "dict"},
                      {"(1.0,)}", "dict"},
                      {"(1,)", "dict"},
                      {"(1,), 'x': 1}", "dict"},
                      {"(1,)} x", "dict"},
                      {"(1,), 'shape': (1,)}", "dict"}};
    char dict[160];
    (void)state;
    for (size_t i = 0; i < sizeof illegal / sizeof illegal[0]; i++) {
        snprintf(dict, sizeof dict, "%s%s", head, illegal[i].shape);
        must_refuse(1, dict, six_f4, 24, KF_INVALID, illegal[i].why);
    }
    for (size_t i = 0; i < sizeof unreadable / sizeof unreadable[0]; i++) {
        snprintf(dict, sizeof dict, "%s%s", head, unreadable[i].shape);
        must_refuse(1, dict, six_f4, 24, KF_IO, unreadable[i].why);
    }
    must_refuse(1, "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", six_f4, 24, KF_IO,
                "objects");
    must_refuse(1, "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", six_f4, 24, KF_IO,
                "'<c8'");
    must_refuse(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", six_f4, 24,
                KF_IO, "records");
    must_refuse(1, "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", six_f4, 24, KF_IO,
                "dict");
    must_refuse(1, "", NULL, 0, KF_IO, "dict");
}

/* Catches a read past what is there: every shorter file is refused, none crashes. */
static void npy_refuses_truncation_at_every_byte(void **state)
{
    uint8_t file[256];
    kf_array array;
    (void)state;
    for (int version = 1; version <= 2; version++) {
        const size_t bytes =
            make_file(file, version, "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }\n",
                      six_f4, 24);
        for (size_t n = 0; n < bytes; n++) {
            save("short.npy", file, n);
            assert_int_equal(kf_npy_read(path_of("short.npy"), KF_NONE, &array), KF_IO);
            assert_non_null(strstr(kf_error(), "short.npy"));
            assert_null(array.data);
        }
        save("short.npy", file, bytes);
        assert_int_equal(kf_npy_read(path_of("short.npy"), KF_NONE, &array), KF_OK);
        kf_array_free(&array);
    }
}

/* Catches memory asked for before a claim of 2^40 bytes is compared with the file, and failing on
 * no file. */
static void npy_refuses_claims_and_absent_files(void **state)
{
    kf_array array;
    (void)state;
    must_refuse(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}", six_f4,
                24, KF_IO, "truncated");
    assert_int_equal(kf_npy_read(path_of("none.npy"), KF_NONE, &array), KF_IO);
    assert_int_equal(kf_npy_read(folder, KF_NONE, &array), KF_IO);
    save("text.npy", "this is a text", 14);
    assert_int_equal(kf_npy_read(path_of("text.npy"), KF_NONE, &array), KF_IO);
    assert_non_null(strstr(kf_error(), "not a .npy file"));
}

/* Catches a reader that trusts one read() to bring everything. */
static void npy_reads_from_a_pipe(void **state)
{
    uint8_t file[256];
    kf_array array;
    int status;
    (void)state;
    const size_t bytes = make_file(
        file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", six_f4, 24);
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    const pid_t child = fork();
    if (child == 0) {
        const int fd = open(path_of("pipe"), O_WRONLY);
        for (size_t i = 0; i < bytes; i += 7) {
            usleep(100);
            if (write(fd, file + i, bytes - i < 7 ? bytes - i : 7) < 0)
                _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(kf_npy_read(path_of("pipe"), KF_NONE, &array), KF_OK);
    must_hold(&array, KF_F32, six, 6);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- corpus --------------------------------------------------------------------------------- */

/* Catches findings of the fuzzer that come back. */
static void npy_header_survives_the_corpus(void **state)
{
    char path[600];
    uint8_t data[4096];
    int replayed = 0;
    DIR *dir = opendir(KF_SOURCE_DIR "/tests/corpus/npy");
    (void)state;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        snprintf(path, sizeof path, KF_SOURCE_DIR "/tests/corpus/npy/%.200s", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file)
            continue;
        const size_t bytes = fread(data, 1, sizeof data, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, bytes);
        for (size_t n = 0; n < bytes && n < 160; n++) { /* and every bit of the header turned */
            data[n] ^= (uint8_t)(1 << n % 8);
            LLVMFuzzerTestOneInput(data, bytes);
            data[n] ^= (uint8_t)(1 << n % 8);
        }
        replayed++;
    }
    closedir(dir);
    assert_true(replayed >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_reads_every_version),
        cmocka_unit_test(npy_reads_any_spelling_of_the_dict),
        cmocka_unit_test(npy_reads_both_byte_orders),
        cmocka_unit_test(npy_rewrites_fortran_order),
        cmocka_unit_test(npy_converts_when_asked),
        cmocka_unit_test(npy_reads_scalars_and_empty_arrays),
        cmocka_unit_test(npy_tells_illegal_from_unreadable),
        cmocka_unit_test(npy_refuses_truncation_at_every_byte),
        cmocka_unit_test(npy_refuses_claims_and_absent_files),
        cmocka_unit_test(npy_reads_from_a_pipe),
        cmocka_unit_test(npy_header_survives_the_corpus),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder) ? 1 : 0;
}
