/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"

#include "base/mem.h"

#include <pthread.h>

/* Taken a few times a burst, never per message, and held for a few instructions: one of the four mutexes of the program. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct free_slab {
    struct free_slab *next;
} * free_list;
static size_t n_free, n_used, low_free; /* low_free: fewest free slabs since the last trim */

void *slab_get(void)
{
    struct free_slab *slab;

    pthread_mutex_lock(&lock);
    slab = free_list;
    if (slab) {
        free_list = slab->next;
        n_free--;
    }
    if (n_free < low_free)
        low_free = n_free;
    n_used++;
    pthread_mutex_unlock(&lock);
    return slab ? slab : mem_new(SLAB_SIZE);
}

void slab_put(void *p)
{
    struct free_slab *slab = p;

    if (!slab)
        return;
    pthread_mutex_lock(&lock);
    slab->next = free_list;
    free_list = slab;
    n_free++;
    n_used--;
    pthread_mutex_unlock(&lock);
}

void slab_trim(void)
{
    struct free_slab *surplus = NULL;

    pthread_mutex_lock(&lock);
    for (; low_free > 0 && free_list; low_free--) {
        struct free_slab *slab = free_list;

        free_list = slab->next;
        n_free--;
        slab->next = surplus;
        surplus = slab;
    }
    low_free = n_free;
    pthread_mutex_unlock(&lock);
    while (surplus) {
        struct free_slab *next = surplus->next;

        mem_free(surplus);
        surplus = next;
    }
}

size_t slab_in_use(void)
{
    size_t n;

    pthread_mutex_lock(&lock);
    n = n_used;
    pthread_mutex_unlock(&lock);
    return n;
}
