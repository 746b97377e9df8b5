/* The first place in large memory where something is wrong, sought on all processors. The answer
 * does not depend on how many there are. SPDX-License-Identifier: Apache-2.0 */
#include "parallel.h"
#include "verify_parts.h"
#include <pthread.h>
#include <string.h>

enum { GRAIN = 4 << 20, STRETCH = 1024 }; /* bytes: worth a thread; looked at together */

typedef struct search {
    const char *a, *b;
    int size; /* of an element */
    uint16_t poison;
    pthread_mutex_t lock;
    int64_t found; /* the first so far, -1 = none */
} search;

static void note(search *s, int64_t place)
{
    pthread_mutex_lock(&s->lock);
    if (s->found < 0 || place < s->found)
        s->found = place;
    pthread_mutex_unlock(&s->lock);
}

/* ---- bytes that differ ---------------------------------------------------------------------- */

static void compare_bytes(void *context, int64_t first, int64_t end)
{
    search *s = context;
    if (!memcmp(s->a + first, s->b + first, (size_t)(end - first)))
        return;
    while (s->a[first] == s->b[first])
        first++;
    note(s, first);
}

int64_t kf_first_difference(const void *a, const void *b, size_t bytes)
{
    search s = {.a = a, .b = b, .lock = PTHREAD_MUTEX_INITIALIZER, .found = -1};
    kf_parallel((int64_t)bytes, GRAIN, compare_bytes, &s);
    return s.found;
}

/* ---- elements that hold poison -------------------------------------------------------------- */

/* Quick: does any two bytes of the stretch? Else no element does. */
static bool any_half(const char *data, uint16_t poison)
{
    uint16_t half[STRETCH / 2];
    int hits = 0;
    memcpy(half, data, sizeof half);
    for (int i = 0; i < STRETCH / 2; i++)
        hits |= half[i] == poison;
    return hits;
}

static void seek_poison(void *context, int64_t first, int64_t end)
{
    search *s = context;
    const int64_t step = STRETCH / s->size;
    for (int64_t i = first; i < end; i += step) {
        const int64_t stop = i + step < end ? i + step : end;
        if (stop == i + step && !any_half(s->a + i * s->size, s->poison))
            continue;
        for (int64_t e = i; e < stop; e++)
            if (kf_poison_broken(s->a + e * s->size, (size_t)s->size, s->poison) < 0) {
                note(s, e);
                return;
            }
    }
}

int64_t kf_first_poisoned(const void *data, int size, int64_t count, uint16_t poison)
{
    search s = {
        .a = data, .size = size, .poison = poison, .lock = PTHREAD_MUTEX_INITIALIZER, .found = -1};
    kf_parallel(count, GRAIN / size, seek_poison, &s);
    return s.found;
}
