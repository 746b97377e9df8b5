/* The first touch of a page costs more than all that a trial does with it: microseconds on the
 * virtual machines that GPUs are rented with, whose own memory is not there before either; and the
 * C library gives blocks of this size back to the system each time. So a trial leaves its blocks to
 * the next one, and all processors touch a block before a driver does it with one. Large pages were
 * slower: those that were used before and are still there come in small ones.
 * SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"
#include "parallel.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLACES = 16,
    PAGE = 4096, /* the smallest that there are */
    GRAIN = (4 << 20) / PAGE
};
#define LEAST_KEPT ((size_t)1 << 20) /* smaller ones the C library keeps itself */
#define MOST_KEPT ((size_t)2 << 30)  /* idle, all together */

static struct {
    char *block;
    size_t bytes;
    bool taken;
    uint64_t given; /* when it came back */
} shelf[PLACES];
static size_t idle_bytes;
static uint64_t gifts; /* so far */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Every page then begins with a NaN of any type: results of an earlier trial cannot pass for those
 * of a device that was not read. */
static void mark(void *block, int64_t first, int64_t end)
{
    for (int64_t page = first; page < end; page++)
        memset((char *)block + page * PAGE, 0xff, sizeof(double));
}

/* Under the lock, as what follows: frees the block that has lain idle longest. Its place, -1 = none
 * is idle. */
static int drop_oldest(void)
{
    int oldest = -1;
    for (int i = 0; i < PLACES; i++)
        if (shelf[i].block && !shelf[i].taken &&
            (oldest < 0 || shelf[i].given < shelf[oldest].given))
            oldest = i;
    if (oldest < 0)
        return -1;
    idle_bytes -= shelf[oldest].bytes;
    free(shelf[oldest].block);
    shelf[oldest].block = NULL;
    return oldest;
}

/* The smallest idle block that is large enough; not one that is more than twice as large. */
static void *reuse(size_t bytes)
{
    int best = -1;
    for (int i = 0; i < PLACES; i++)
        if (shelf[i].block && !shelf[i].taken && shelf[i].bytes >= bytes &&
            shelf[i].bytes / 2 <= bytes && (best < 0 || shelf[i].bytes < shelf[best].bytes))
            best = i;
    if (best < 0)
        return NULL;
    shelf[best].taken = true;
    idle_bytes -= shelf[best].bytes;
    return shelf[best].block;
}

static int free_place(void)
{
    for (int i = 0; i < PLACES; i++)
        if (!shelf[i].block)
            return i;
    return drop_oldest();
}

/* Where all are in use, the block is an ordinary one. */
static void *fresh(size_t bytes)
{
    void *block = malloc(bytes);
    while (!block && drop_oldest() >= 0)
        block = malloc(bytes);
    const int place = block ? free_place() : -1;
    if (place >= 0) {
        shelf[place].block = block;
        shelf[place].bytes = bytes;
        shelf[place].taken = true;
    }
    return block;
}

static void put_back(int place)
{
    shelf[place].taken = false;
    shelf[place].given = ++gifts;
    idle_bytes += shelf[place].bytes;
    while (idle_bytes > MOST_KEPT)
        drop_oldest();
}

void *kf_memory_take(size_t bytes)
{
    if (bytes < LEAST_KEPT)
        return malloc(bytes + 1); /* never NULL for 0 bytes */
    pthread_mutex_lock(&lock);
    void *block = reuse(bytes);
    block = block ? block : fresh(bytes);
    pthread_mutex_unlock(&lock);
    if (block)
        kf_parallel((int64_t)(bytes / PAGE), GRAIN, mark, block);
    return block;
}

void kf_memory_give(void *block)
{
    int place = PLACES;
    pthread_mutex_lock(&lock);
    while (block && --place >= 0 && shelf[place].block != block)
        ;
    if (block && place >= 0)
        put_back(place);
    pthread_mutex_unlock(&lock);
    if (place < 0)
        free(block);
}
