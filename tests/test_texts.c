/* label: structure */
/* Both texts of a kernel file declare the same entries with the same parameters in the same order,
 * so that `diff softmax.cu softmax.cl` is a lesson and one argument list serves both. An entry that
 * only one backend can have is exempted by a line `//: only cuda: clusters` in front of it.
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "../core/op.h"
#include "../core/source.h"

enum { MAX_ENTRIES = 64, SIGNATURE = 1024 };

typedef struct entry {
    char name[64];
    char signature[SIGNATURE]; /* "pointer x, i64 x_offset, ..." */
    bool only;                 /* exempted */
} entry;

typedef struct listing {
    entry entry[MAX_ENTRIES];
    int count;
} listing;

static bool word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Copies without comments: a commented-out entry is none. "//:" lines stay. */
static void strip(const char *from, size_t bytes, char *to)
{
    for (size_t i = 0; i < bytes; i++) {
        if (from[i] == '/' && i + 1 < bytes && from[i + 1] == '*') {
            while (i + 1 < bytes && !(from[i] == '*' && from[i + 1] == '/'))
                i++;
            i++;
        } else if (from[i] == '/' && i + 1 < bytes && from[i + 1] == '/' &&
                   !(i + 2 < bytes && from[i + 2] == ':')) {
            while (i < bytes && from[i] != '\n')
                i++;
            *to++ = '\n';
        } else {
            *to++ = from[i];
        }
    }
    *to = 0;
}

static const char *skip_parentheses(const char *at)
{
    int depth = 0;
    do {
        depth += *at == '(';
        depth -= *at == ')';
        at++;
    } while (*at && depth);
    return at;
}

/* "const storage *__restrict__ x" -> "pointer x"; "long long cols" -> "i64 cols". */
static void parameter(const char *text, size_t length, char *out, size_t room)
{
    char copy[256];
    assert_true(length < sizeof copy);
    memcpy(copy, text, length);
    copy[length] = 0;
    size_t end = length;
    while (end && !word_char(copy[end - 1]))
        end--;
    size_t begin = end;
    while (begin && word_char(copy[begin - 1]))
        begin--;
    const char *kind = strchr(copy, '*')           ? "pointer"
                       : strstr(copy, "long")      ? "i64"
                       : strstr(copy, "kf_offset") ? "i64"
                       : strstr(copy, "float")     ? "f32"
                       : strstr(copy, "int")       ? "i32"
                                                   : "?";
    snprintf(out, room, "%s %.*s", kind, (int)(end - begin), copy + begin);
}

static const char *parse_entry(const char *at, entry *e)
{
    for (;;) { /* attributes, then NAME( */
        while (*at && !word_char(*at))
            at++;
        const char *begin = at;
        while (word_char(*at))
            at++;
        const size_t length = (size_t)(at - begin);
        while (isspace((unsigned char)*at))
            at++;
        if (!*at)
            return at;
        if (*at != '(')
            continue;
        if (!strncmp(begin, "__launch_bounds__", length) ||
            !strncmp(begin, "__attribute__", length)) {
            at = skip_parentheses(at);
            continue;
        }
        assert_true(length < sizeof e->name);
        memcpy(e->name, begin, length);
        e->name[length] = 0;
        break;
    }
    const char *end = skip_parentheses(at);
    e->signature[0] = 0;
    for (const char *p = at + 1; p < end;) {
        const size_t length = strcspn(p, ",)");
        char one[128];
        parameter(p, length, one, sizeof one);
        const size_t used = strlen(e->signature);
        snprintf(e->signature + used, sizeof e->signature - used, "%s%s", used ? ", " : "", one);
        p += length + 1;
    }
    return end;
}

static void list_entries(const kf_text *text, listing *list)
{
    static char stripped[1 << 20];
    const char *keyword = !strcmp(text->folder, "cuda") ? "__global__" : "__kernel";
    assert_true((size_t)(text->end - text->begin) < sizeof stripped);
    strip(text->begin, (size_t)(text->end - text->begin), stripped);
    list->count = 0;
    for (const char *at = stripped, *from = stripped; (at = strstr(at, keyword)); from = at) {
        assert_true(list->count < MAX_ENTRIES);
        entry *e = &list->entry[list->count++];
        const char *mark = strstr(from, "//: only ");
        e->only = mark && mark < at;
        at = parse_entry(at + strlen(keyword), e);
    }
}

static const entry *find(const listing *list, const char *name)
{
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->entry[i].name, name))
            return &list->entry[i];
    return NULL;
}

static const kf_text *text_of(const char *folder, const char *stem)
{
    for (int i = 0; kf_texts[i].folder; i++)
        if (kf_texts[i].stem && !strcmp(kf_texts[i].folder, folder) &&
            !strcmp(kf_texts[i].stem, stem))
            return &kf_texts[i];
    return NULL;
}

static void compare(const kf_text *a_text, const char *other_folder)
{
    static listing a, b;
    const kf_text *b_text = text_of(other_folder, a_text->stem);
    if (!b_text)
        fail_msg("%s has no twin in %s", a_text->file, other_folder);
    list_entries(a_text, &a);
    list_entries(b_text, &b);
    assert_true(a.count > 0);
    for (int i = 0, place = -1; i < a.count; i++) {
        const entry *e = &a.entry[i], *twin = find(&b, e->name);
        if (e->only)
            continue;
        if (!twin)
            fail_msg("%s: entry %s has no twin in %s", a_text->file, e->name, b_text->file);
        if (strcmp(e->signature, twin->signature))
            fail_msg("%s and %s: entry %s takes (%s) in one and (%s) in the other", a_text->file,
                     b_text->file, e->name, e->signature, twin->signature);
        if ((int)(twin - b.entry) < place)
            fail_msg("%s and %s have their entries in different order at %s", a_text->file,
                     b_text->file, e->name);
        place = (int)(twin - b.entry);
    }
}

/* Mistake: a parameter added, swapped or retyped in one language only: every argument behind it is
 * wrong. */
static void twins_declare_the_same_parameters(void **state)
{
    (void)state;
    int files = 0;
    for (int i = 0; kf_texts[i].folder; i++) {
        if (!kf_texts[i].stem)
            continue;
        compare(&kf_texts[i], !strcmp(kf_texts[i].folder, "cuda") ? "opencl" : "cuda");
        files++;
    }
    assert_true(files >= 2);
}

/* Mistake: an entry whose name does not tell its op, so that nobody finds it by grep. */
static void entries_are_named_after_their_op(void **state)
{
    (void)state;
    static listing list;
    for (int i = 0; kf_texts[i].folder; i++) {
        if (!kf_texts[i].stem)
            continue;
        list_entries(&kf_texts[i], &list);
        for (int e = 0; e < list.count; e++) {
            bool named = false;
            for (int o = 0; kf_ops[o]; o++) {
                const size_t length = strlen(kf_ops[o]->name);
                named |= !strncmp(list.entry[e].name, kf_ops[o]->name, length) &&
                         list.entry[e].name[length] == '_';
            }
            if (!named)
                fail_msg("%s: entry %s is not named <op>_<what it does>", kf_texts[i].file,
                         list.entry[e].name);
        }
    }
}

/* The tester tested: a swapped parameter and a missing one must be seen. */
static void the_parser_sees_differences(void **state)
{
    (void)state;
    static const char cu[] = "extern \"C\" __global__ void __launch_bounds__(BLOCK, 2) a_b(const "
                             "float *__restrict__ x,\n"
                             "    long long x_offset, /* c */ long long cols) {}";
    static const char cl[] =
        "__kernel __attribute__((reqd_work_group_size(BLOCK, 1, 1))) void a_b(\n"
        "    __global const float *restrict x, long x_offset, long cols) {}";
    static const char bad[] =
        "__kernel void a_b(__global const float *x, long cols, long x_offset) {}";
    static listing one, two, three;
    list_entries(&(kf_text){"cuda", "a", "a.cu", cu, cu + sizeof cu - 1}, &one);
    list_entries(&(kf_text){"opencl", "a", "a.cl", cl, cl + sizeof cl - 1}, &two);
    list_entries(&(kf_text){"opencl", "a", "a.cl", bad, bad + sizeof bad - 1}, &three);
    assert_int_equal(one.count, 1);
    assert_string_equal(one.entry[0].signature, "pointer x, i64 x_offset, i64 cols");
    assert_string_equal(one.entry[0].signature, two.entry[0].signature);
    assert_string_not_equal(one.entry[0].signature, three.entry[0].signature);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parser_sees_differences),
        cmocka_unit_test(twins_declare_the_same_parameters),
        cmocka_unit_test(entries_are_named_after_their_op),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
