/* SPDX-License-Identifier: Apache-2.0 */
/* Of the file store: what waits, and whose values were stored or lost. */
#include "store/file_impl.h"

/* --- counting --------------------------------------------------------------------------------------------------------- */

struct sum file_waiting(const struct file_store *s)
{
    struct sum gone = counters_sum(&s->out);

    sum_add(&gone, counters_sum(&s->lost));
    return sum_less(counters_sum(&s->in), gone);
}

/* Dropped, or not to be found, though counted as committed. */
void file_count_lost(struct lane *lane, struct sum lost)
{
    counters_add(&lane->store->lost, lost);
    if (lane->which == LANE_BACKLOG)
        counters_add(&lane->store->backlog_lost, lost);
}

struct device *file_device_of(const struct record *record)
{
    struct device *dev = record->dev < device_count() ? device_at(record->dev) : NULL;

    return dev && str_eq(device_name(dev), record_name(record)) ? dev : device_get(record_name(record));
}

static void add_loser(struct losers *losers, struct device *dev)
{
    for (size_t i = losers->n; i > 0 && losers->n - i < 8; i--)
        if (losers->devs[i - 1] == dev)
            return;
    if (losers->n == losers->cap) {
        losers->cap = losers->cap ? 2 * losers->cap : 16;
        losers->devs = mem_grow(losers->devs, losers->cap * sizeof *losers->devs);
    }
    losers->devs[losers->n++] = dev;
}

static void count_for(struct device *dev, uint64_t n, bool appended, struct losers *losers)
{
    if (!dev)
        return;
    if (losers)
        add_loser(losers, dev); /* without values, too: what was lost may tell of its link */
    if (!n)
        return;
    if (appended)
        device_add_values(&dev->n_appended, n);
    if (losers) {
        device_add_values(&dev->n_overflowed, n);
        if (losers->is_old)
            device_add_values(&dev->n_aged, n);
    }
}

void file_count_lost_device(const struct record *record, struct losers *losers)
{
    count_for(file_device_of(record), record->n_values, false, losers);
}

void file_count_found_device(const struct file_store *s, const struct record *record, uint64_t pos)
{
    struct device *dev = file_device_of(record);

    count_for(dev, record->n_values, true, NULL);
    lanes_mark(&s->rule, dev, pos, LANE_LIVE);
}

void file_count_devices(const uint8_t *p, const uint8_t *end, bool appended, struct losers *losers)
{
    struct device *dev = NULL;
    uint32_t number = UINT32_MAX;
    uint64_t n = 0;

    while (p < end) {
        const struct record *record = record_at(p);

        if (record->size == GROUP_MAGIC) {
            p += sizeof(struct group_head);
            continue;
        }
        if (record->dev != number || !dev) {
            count_for(dev, n, appended, losers);
            number = record->dev;
            dev = file_device_of(record);
            n = 0;
        }
        n += record->n_values;
        p += record->size;
    }
    count_for(dev, n, appended, losers);
}

/* Counts values per device as appended, and marks where the newest record of each stands. */
void file_count_committed(const struct lane *lane, const uint8_t *p, const uint8_t *end, uint64_t pos)
{
    while (p < end) {
        const uint8_t *from = p;
        uint32_t number = record_at(p)->dev;
        struct device *dev;
        uint64_t n = 0;

        if (record_at(p)->size == GROUP_MAGIC) {
            p += sizeof(struct group_head);
            pos += sizeof(struct group_head);
            continue;
        }
        dev = file_device_of(record_at(p));
        do {
            n += record_at(p)->n_values;
            p += record_at(p)->size;
        } while (p < end && record_at(p)->size != GROUP_MAGIC && record_at(p)->dev == number);
        pos += (size_t)(p - from);
        count_for(dev, n, true, NULL);
        lanes_mark(&lane->store->rule, dev, pos, lane->which);
    }
}

/* --- whose values were dropped --------------------------------------------------------------------------------------------- */

static void losers_free(struct losers *losers)
{
    mem_free(losers->devs);
    mem_free(losers);
}

void file_tell_losers(struct file_store *s, struct losers *losers)
{
    if (losers->n)
        mailbox_post(&s->drops, &losers->node);
    else
        losers_free(losers);
}

void file_drops_arrived(void *arg, struct node *nodes)
{
    struct file_store *s = arg;

    while (nodes) {
        struct losers *losers = CONTAINER_OF(nodes, struct losers, node);

        nodes = nodes->next;
        for (size_t i = 0; i < losers->n && s->store.events.dropped; i++)
            s->store.events.dropped(s->store.arg, losers->devs[i]);
        losers_free(losers);
    }
}
