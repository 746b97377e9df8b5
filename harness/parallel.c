/* SPDX-License-Identifier: Apache-2.0 */
#include "parallel.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

enum { MAX_THREADS = 16 };

typedef struct share {
    void (*work)(void *context, int64_t first, int64_t end);
    void *context;
    int64_t first, end;
    pthread_t thread;
    bool started;
} share;

static void *run_share(void *data)
{
    const share *s = data;
    s->work(s->context, s->first, s->end);
    return NULL;
}

static int64_t thread_count(int64_t count, int64_t grain)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t threads = processors < MAX_THREADS ? processors : MAX_THREADS;
    threads = threads < count / grain ? threads : count / grain;
    return threads < 1 ? 1 : threads;
}

void kf_parallel(int64_t count, int64_t grain,
                 void (*work)(void *context, int64_t first, int64_t end), void *context)
{
    const int64_t threads = thread_count(count, grain);
    share part[MAX_THREADS];
    for (int64_t i = 0; i < threads; i++) {
        part[i] = (share){.work = work, .context = context};
        part[i].first = count / threads * i + count % threads * i / threads;
        part[i].end = count / threads * (i + 1) + count % threads * (i + 1) / threads;
        part[i].started = i > 0 && !pthread_create(&part[i].thread, NULL, run_share, &part[i]);
    }
    for (int64_t i = 0; i < threads; i++)
        if (!part[i].started) /* the first, and any that could not be started */
            run_share(&part[i]);
    for (int64_t i = 0; i < threads; i++)
        if (part[i].started)
            pthread_join(part[i].thread, NULL);
}
