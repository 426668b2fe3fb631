/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include "base/mem.h"
#include "data/device.h"

#include <sys/mman.h>

/*
 * A list of blocks, oldest first; the last one is the tail, into which records are copied. A position is the number of
 * record bytes appended before. Blocks come from the system and go back to it, but for a few that are kept hot: so the
 * resident size follows what waits.
 *
 * A block may go when everything in it is acknowledged (or dropped) and no chunk points into it. A tail that is empty
 * in that sense is filled again from its start: a store that is drained as fast as it is filled lives in one block.
 */
enum {
    BLOCK_SIZE = 256 * 1024,
    BLOCK_MIN = 4096,
    KEEP_BLOCKS = 2,    /* free blocks kept for the next burst */
    N_MARKS = 32,       /* times of appending remembered in a block */
    IDLE_MS = 10 * 1000 /* an empty store gives its blocks back after this */
};

struct mark {
    uint64_t pos;
    int64_t wall_ms;
};

struct block {
    struct block *next;
    struct memory_store *store;
    uint8_t *bytes;
    size_t cap, n;
    size_t n_read;               /* given to the reader */
    size_t n_acked;              /* bytes acknowledged */
    uint64_t base;               /* position of the first byte */
    uint64_t n_events, n_values; /* not yet acknowledged */
    unsigned n_all_events;       /* ever appended since the block was begun */
    unsigned n_chunks;           /* that point into it */
    bool is_listed;
    struct mark marks[N_MARKS];
    unsigned n_marks;
    int64_t mark_step_ms;
};

struct memory_chunk {
    struct chunk chunk;
    struct memory_chunk *next; /* in the list of free ones */
};

struct memory_store {
    struct store store;
    struct memory_conf conf;
    struct block *first, *tail;
    struct block *reading; /* where the next chunk comes from; NULL: from the first */
    struct block *kept;
    unsigned n_kept;
    struct memory_chunk *free_chunks;
    uint64_t pos, acked;
    size_t block_cap;      /* capacity of a normal block */
    unsigned block_events; /* a block with that many is sealed; 0: no such limit */
    struct store_stats stats;
    struct node *pending, **pending_end; /* batches that wait for room, oldest first */
    unsigned n_chunks;
    bool reader_waits, is_stopped, is_told;
    struct mailbox inbox, bell;
    struct node bell_node;
    struct timer idle;
    uint64_t idle_pos; /* end of what was appended when the timer last ran */
    struct closer closer;
};

static struct memory_store *of(struct store *store)
{
    return (struct memory_store *)(void *)store;
}

static void count(_Atomic(uint64_t) *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* --- blocks ------------------------------------------------------------------------------------------------------- */

static struct block *block_new(struct memory_store *store, size_t size)
{
    struct block *block = store->kept;
    size_t cap = store->block_cap;

    if (size > cap) {
        cap = (size + BLOCK_MIN - 1) & ~(size_t)(BLOCK_MIN - 1);
        block = NULL;
    }
    if (block) {
        store->kept = block->next;
        store->n_kept--;
    } else {
        block = mem_zero(sizeof *block);
        block->bytes = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block->bytes == MAP_FAILED)
            mem_die(cap);
        block->cap = cap;
        block->store = store;
    }
    return block;
}

static void block_reset(struct block *block, uint64_t base)
{
    block->next = NULL;
    block->n = block->n_read = block->n_acked = 0;
    block->base = base;
    block->n_events = block->n_values = 0;
    block->n_all_events = 0;
    block->n_marks = 0;
    block->mark_step_ms = 1000;
}

static void block_unmap(struct block *block)
{
    munmap(block->bytes, block->cap);
    mem_free(block);
}

static void block_free(struct memory_store *store, struct block *block)
{
    if (block->cap == store->block_cap && store->n_kept < KEEP_BLOCKS) {
        block->next = store->kept;
        store->kept = block;
        store->n_kept++;
    } else {
        block_unmap(block);
    }
}

static void block_mark(struct block *block, int64_t wall_ms)
{
    if (block->n_marks && wall_ms - block->marks[block->n_marks - 1].wall_ms < block->mark_step_ms)
        return;
    if (block->n_marks == N_MARKS) {
        for (unsigned i = 0; i < N_MARKS / 2; i++)
            block->marks[i] = block->marks[2 * i];
        block->n_marks = N_MARKS / 2;
        block->mark_step_ms *= 2;
    }
    block->marks[block->n_marks++] = (struct mark){block->base + block->n, wall_ms};
}

/* Takes the block out of the list; prev: the one before it, NULL for the first. */
static void block_unlist(struct memory_store *store, struct block *block, struct block *prev)
{
    if (prev)
        prev->next = block->next;
    else
        store->first = block->next;
    if (store->tail == block)
        store->tail = prev;
    if (store->reading == block)
        store->reading = block->next ? block->next : prev;
    block->is_listed = false;
    if (!block->n_chunks)
        block_free(store, block);
}

static struct block *tail_for(struct memory_store *store, size_t size)
{
    struct block *tail = store->tail;

    if (tail && tail->n_acked == tail->n && !tail->n_chunks && tail->cap >= size && store->first == tail)
        block_reset(tail, store->pos);
    /* Positions within a block are without gaps: what was dropped behind this one ends it. */
    if (tail && tail->cap - tail->n >= size && tail->base + tail->n == store->pos &&
        !(store->block_events && tail->n_all_events >= store->block_events))
        return tail;
    struct block *block = block_new(store, size);

    block_reset(block, store->pos);
    block->is_listed = true;
    if (tail)
        tail->next = block;
    else
        store->first = block;
    store->tail = block;
    if (!store->reading)
        store->reading = block;
    return block;
}

/* --- accounting ----------------------------------------------------------------------------------------------------- */

struct sum {
    uint64_t n_events, n_values;
};

static struct device *device_of(const struct record *record)
{
    return record->dev < device_count() ? device_at(record->dev) : device_get(record_name(record));
}

/* Counts values per device; told: the values are lost, and whoever filters that device is to forget them. */
static struct sum count_devices(struct memory_store *store, const uint8_t *p, const uint8_t *end, bool appended,
                                bool told)
{
    struct sum sum = {0};
    struct device *dev = NULL;
    uint32_t number = UINT32_MAX;
    uint64_t n = 0;

    for (;;) {
        const struct record *record = (const struct record *)(const void *)p;
        bool is_end = p == end;

        if (is_end || record->dev != number) {
            if (dev && n && appended)
                count(&dev->n_appended, n);
            if (dev && told) {
                count(&dev->n_overflowed, n);
                if (store->store.events.dropped)
                    store->store.events.dropped(store->store.arg, dev);
            }
            if (is_end)
                return sum;
            number = record->dev;
            dev = device_of(record);
            n = 0;
        }
        n += record->n_values;
        sum.n_values += record->n_values;
        sum.n_events += record->flags & RECORD_END ? 1 : 0;
        p += record->size;
    }
}

static struct sum count_records(const uint8_t *p, const uint8_t *end)
{
    struct sum sum = {0};

    while (p < end) {
        const struct record *record = (const struct record *)(const void *)p;

        sum.n_values += record->n_values;
        sum.n_events += record->flags & RECORD_END ? 1 : 0;
        p += record->size;
    }
    return sum;
}

static void leave(struct memory_store *store, struct block *block, struct sum sum, size_t n_bytes)
{
    block->n_events -= sum.n_events;
    block->n_values -= sum.n_values;
    store->stats.n_events -= sum.n_events;
    store->stats.n_values -= sum.n_values;
    store->stats.n_bytes -= n_bytes;
}

/* --- appending -------------------------------------------------------------------------------------------------------- */

static bool has_room(const struct memory_store *store, const struct batch *batch)
{
    const struct store_stats *stats = &store->stats;

    if (stats->n_bytes == 0)
        return true;
    return (!store->conf.max_events || stats->n_events + batch->n_events <= store->conf.max_events) &&
           (!store->conf.max_bytes || stats->n_bytes + batch->n_bytes <= store->conf.max_bytes);
}

static void take(struct memory_store *store, struct batch *batch)
{
    size_t n = batch->n_bytes;

    if (n) {
        struct block *tail = tail_for(store, n);
        uint8_t *to = tail->bytes + tail->n;

        block_mark(tail, loop_wall_ms(store->store.loop));
        memcpy(to, batch->bytes, n);
        struct sum sum = count_devices(store, to, to + n, true, false);

        tail->n += n;
        tail->n_events += sum.n_events;
        tail->n_values += sum.n_values;
        tail->n_all_events += (unsigned)sum.n_events;
        store->pos += n;
        store->stats.n_events += sum.n_events;
        store->stats.n_values += sum.n_values;
        store->stats.n_bytes += n;
        store->stats.n_appended_values += sum.n_values;
        if (store->reader_waits && !store->is_told) {
            store->is_told = true;
            mailbox_post(&store->bell, &store->bell_node);
        }
        store->reader_waits = false;
    }
    batch_drop_bytes(batch);
    batch->result = ERR_OK;
    store_answer(batch);
}

/* What was refused at the door. The answer follows those of the batches before it. */
static void refuse(struct memory_store *store, struct batch *batch)
{
    struct sum sum = count_devices(store, batch->bytes, batch->bytes + batch->n_bytes, true, true);

    store->stats.n_appended_values += sum.n_values;
    store->stats.n_dropped_events += sum.n_events;
    store->stats.n_dropped_values += sum.n_values;
    batch_drop_bytes(batch);
    batch->result = ERR_FULL;
}

static void wait_for_room(struct memory_store *store, struct batch *batch)
{
    batch->node.next = NULL;
    *store->pending_end = &batch->node;
    store->pending_end = &batch->node.next;
    store->stats.is_blocked = true;
}

static bool is_waiting(const struct memory_store *store, const struct ctx *ctx)
{
    for (struct node *node = store->pending; node; node = node->next)
        if (CONTAINER_OF(node, struct batch, node)->ctx == ctx)
            return true;
    return false;
}

/* The oldest block that has nothing in flight; false when there is none. */
static bool drop_oldest(struct memory_store *store)
{
    struct block *prev = NULL;

    for (struct block *block = store->first; block; prev = block, block = block->next) {
        if (block->n_chunks || block->n_acked == block->n)
            continue;
        size_t n = block->n - block->n_acked;
        struct sum sum = count_devices(store, block->bytes + block->n_acked, block->bytes + block->n, false, true);

        store->stats.n_dropped_events += sum.n_events;
        store->stats.n_dropped_values += sum.n_values;
        leave(store, block, sum, n);
        block_unlist(store, block, prev);
        return true;
    }
    return false;
}

static void append(struct memory_store *store, struct batch *batch)
{
    if (store->is_stopped) {
        batch_drop_bytes(batch);
        batch->result = ERR_CANCELLED;
        store_answer(batch);
        return;
    }
    if (store->conf.overflow == OVERFLOW_DROP_OLDEST)
        while (!has_room(store, batch) && drop_oldest(store))
            ;
    if (!store->pending && has_room(store, batch)) {
        take(store, batch);
    } else if (store->conf.overflow == OVERFLOW_BLOCK && batch->can_wait) {
        wait_for_room(store, batch);
    } else {
        refuse(store, batch);
        if (is_waiting(store, batch->ctx))
            wait_for_room(store, batch);
        else
            store_answer(batch);
    }
}

static void take_pending(struct memory_store *store)
{
    while (store->pending) {
        struct batch *batch = CONTAINER_OF(store->pending, struct batch, node);

        if (batch->result != ERR_FULL && !store->is_stopped && !has_room(store, batch))
            return;
        store->pending = batch->node.next;
        if (!store->pending)
            store->pending_end = &store->pending;
        if (batch->result == ERR_FULL) {
            store_answer(batch);
        } else if (store->is_stopped) {
            batch_drop_bytes(batch);
            batch->result = ERR_CANCELLED;
            store_answer(batch);
        } else {
            take(store, batch);
        }
    }
    store->stats.is_blocked = false;
}

/* --- mailboxes and timer ------------------------------------------------------------------------------------------------ */

static void inbox(void *arg, struct node *nodes)
{
    while (nodes) {
        struct node *next = nodes->next;

        append(arg, CONTAINER_OF(nodes, struct batch, node));
        nodes = next;
    }
}

static void bell(void *arg, UNUSED struct node *nodes)
{
    struct memory_store *store = arg;

    store->is_told = false;
    if (store->store.events.readable)
        store->store.events.readable(store->store.arg);
}

static void free_kept(struct memory_store *store)
{
    while (store->kept) {
        struct block *block = store->kept;

        store->kept = block->next;
        block_unmap(block);
    }
    store->n_kept = 0;
}

static void idle(void *arg)
{
    struct memory_store *store = arg;
    struct block *tail = store->tail;

    if (store->stats.n_bytes || store->pos != store->idle_pos) {
        store->idle_pos = store->pos;
        timer_start_coarse(&store->idle, IDLE_MS);
        return;
    }
    if (tail && store->first == tail && !tail->n_chunks)
        block_unlist(store, tail, NULL);
    free_kept(store);
}

/* --- the interface -------------------------------------------------------------------------------------------------------- */

static void memory_append(struct store *base, struct batch *batch)
{
    struct memory_store *store = of(base);

    batch->result = ERR_OK;
    if (loop_is_owner(base->loop))
        append(store, batch);
    else
        mailbox_post(&store->inbox, &batch->node);
}

static void release(struct chunk *chunk)
{
    struct block *block = chunk->owner;
    struct memory_store *store = block->store;
    struct memory_chunk *mine = CONTAINER_OF(chunk, struct memory_chunk, chunk);

    loop_assert(store->store.loop);
    mine->next = store->free_chunks;
    store->free_chunks = mine;
    store->n_chunks--;
    if (--block->n_chunks == 0 && !block->is_listed)
        block_free(store, block);
}

static struct chunk *memory_read(struct store *base, int lane, size_t max)
{
    struct memory_store *store = of(base);
    struct block *block = store->reading;

    loop_assert(base->loop);
    assert(lane == 0);
    while (block && block->n_read == block->n && block->next)
        block = block->next;
    store->reading = block;
    if (!block || block->n_read == block->n) {
        store->reader_waits = true;
        return NULL;
    }
    const uint8_t *from = block->bytes + block->n_read;
    size_t n = block->n - block->n_read;

    if (n > max) {
        n = 0;
        do
            n += ((const struct record *)(const void *)(from + n))->size;
        while (n + ((const struct record *)(const void *)(from + n))->size <= max);
    }
    struct memory_chunk *mine = store->free_chunks;

    if (mine)
        store->free_chunks = mine->next;
    else
        mine = mem_zero(sizeof *mine);
    mine->chunk = (struct chunk){.bytes = from,
                                 .n = n,
                                 .from = block->base + block->n_read,
                                 .to = block->base + block->n_read + n,
                                 .lane = lane,
                                 .owner = block,
                                 .release = release};
    block->n_read += n;
    block->n_chunks++;
    store->n_chunks++;
    return &mine->chunk;
}

static void memory_ack(struct store *base, int lane, uint64_t pos)
{
    struct memory_store *store = of(base);

    loop_assert(base->loop);
    assert(lane == 0 && pos <= store->pos);
    if (pos <= store->acked)
        return;
    store->acked = pos;
    while (store->first && store->first->base < pos) {
        struct block *block = store->first;
        size_t to = pos - block->base < block->n ? (size_t)(pos - block->base) : block->n, n = to - block->n_acked;
        struct sum sum = {block->n_events, block->n_values};

        if (to < block->n)
            sum = count_records(block->bytes + block->n_acked, block->bytes + to);
        leave(store, block, sum, n);
        store->stats.n_acked_values += sum.n_values;
        block->n_acked = to;
        if (block->n_read < to)
            block->n_read = to;
        if (to < block->n || block == store->tail)
            break;
        block_unlist(store, block, NULL);
    }
    if (store->pending)
        take_pending(store);
    if (!store->stats.n_bytes && !timer_is_running(&store->idle))
        timer_start_coarse(&store->idle, IDLE_MS);
}

static struct store_stats memory_stats(const struct store *base)
{
    const struct memory_store *store = (const struct memory_store *)(const void *)base;
    struct store_stats stats = store->stats;
    const struct block *block = store->first;

    while (block && block->n_acked == block->n)
        block = block->next;
    if (block) {
        uint64_t pos = block->base + block->n_acked;

        for (unsigned i = 0; i < block->n_marks && block->marks[i].pos <= pos; i++)
            stats.oldest_ms = block->marks[i].wall_ms;
    }
    return stats;
}

static void memory_stop(struct store *base, closed_fn *done, void *arg)
{
    struct memory_store *store = of(base);

    loop_assert(base->loop);
    store->is_stopped = true;
    take_pending(store);
    closer_begin(&store->closer, base->loop, done, arg);
    closer_end(&store->closer);
}

static void memory_free(struct store *base)
{
    struct memory_store *store = of(base);

    assert(!store->n_chunks);
    timer_stop(&store->idle);
    while (store->first) {
        struct block *block = store->first;

        store->first = block->next;
        block_unmap(block);
    }
    free_kept(store);
    while (store->free_chunks) {
        struct memory_chunk *mine = store->free_chunks;

        store->free_chunks = mine->next;
        mem_free(mine);
    }
    mem_free(store);
}

static void memory_split(struct store *base)
{
    loop_assert(base->loop);
}

static const struct store_ops memory_ops = {
    .free = memory_free,
    .append = memory_append,
    .read = memory_read,
    .ack = memory_ack,
    .split = memory_split,
    .stats = memory_stats,
    .stop = memory_stop,
};

struct store *store_memory_new(struct loop *loop, const struct memory_conf *conf, const struct store_events *events,
                               void *arg)
{
    struct memory_store *store = mem_zero(sizeof *store);

    store->store = (struct store){.ops = &memory_ops, .loop = loop, .events = *events, .arg = arg};
    store->conf = *conf;
    store->pending_end = &store->pending;
    store->reader_waits = true;
    store->block_cap = BLOCK_SIZE;
    if (conf->overflow == OVERFLOW_DROP_OLDEST) { /* what is dropped at once is at most a sixteenth */
        if (conf->max_bytes && conf->max_bytes / 16 < store->block_cap) {
            size_t cap = (size_t)(conf->max_bytes / 16) & ~(size_t)(BLOCK_MIN - 1);

            store->block_cap = cap < BLOCK_MIN ? BLOCK_MIN : cap;
        }
        if (conf->max_events)
            store->block_events = conf->max_events < 32                ? 1
                                  : conf->max_events / 16 > UINT32_MAX ? UINT32_MAX
                                                                       : (unsigned)(conf->max_events / 16);
    }
    mailbox_init(&store->inbox, loop, inbox, store);
    mailbox_init(&store->bell, loop, bell, store);
    timer_init(&store->idle, loop, idle, store);
    return &store->store;
}
