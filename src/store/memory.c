/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "store/drop_log.h"
#include "store/lanes.h"

#include <sys/mman.h>

/*
 * A lane is a list of blocks, oldest first; the last one is the tail, into which records are copied. A position is a number
 * of record bytes appended before. A split makes a backlog of the list, and the live lane begins a new one. Blocks come from the system and go back to it, but for a few that are kept hot: so the
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
    uint64_t number;             /* blocks begun before, in either lane: their age */
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

struct lane {
    struct block *first, *tail;
    struct block *reading; /* where the next chunk comes from; NULL: from the first */
    uint64_t pos, acked;
    uint64_t n_events, n_values, n_bytes; /* waiting */
    bool reader_waits;
};

struct memory_store {
    struct store store;
    struct memory_conf conf;
    struct lane lanes[LANES];
    struct lanes rule;
    struct block *kept;
    unsigned n_kept;
    struct memory_chunk *free_chunks;
    uint64_t n_begun;      /* blocks */
    size_t block_cap;      /* capacity of a normal block */
    unsigned block_events; /* a block with that many is sealed; 0: no such limit */
    struct store_stats stats;
    struct node *pending, **pending_end; /* batches that wait for room, oldest first */
    unsigned n_chunks;
    bool is_stopped, is_told, is_settling;
    struct mailbox inbox, bell, settled;
    struct node bell_node, settle_node;
    closed_fn *settle_done; /* NULL: nobody waits for it */
    void *settle_arg;
    struct timer idle;
    uint64_t idle_values; /* appended when the timer last ran */
    struct drop_log drop_log;
    struct closer closer;
};

static struct memory_store *of(struct store *store)
{
    return (struct memory_store *)(void *)store;
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

static void block_reset(struct memory_store *store, struct block *block, uint64_t base)
{
    block->number = store->n_begun++;
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

/* Takes the block out of the lane; prev: the one before it, NULL for the first. */
static void block_unlist(struct memory_store *store, struct lane *lane, struct block *block, struct block *prev)
{
    if (prev)
        prev->next = block->next;
    else
        lane->first = block->next;
    if (lane->tail == block)
        lane->tail = prev;
    if (lane->reading == block)
        lane->reading = block->next ? block->next : prev;
    block->is_listed = false;
    if (!block->n_chunks)
        block_free(store, block);
}

static struct block *tail_for(struct memory_store *store, struct lane *lane, size_t size)
{
    struct block *tail = lane->tail;

    if (tail && tail->n_acked == tail->n && !tail->n_chunks && tail->cap >= size && lane->first == tail)
        block_reset(store, tail, lane->pos);
    /* Positions within a block are without gaps: what was dropped behind this one, or a split, ends it. */
    if (tail && tail->cap - tail->n >= size && tail->base + tail->n == lane->pos &&
        !(store->block_events && tail->n_all_events >= store->block_events))
        return tail;
    struct block *block = block_new(store, size);

    block_reset(store, block, lane->pos);
    block->is_listed = true;
    if (tail)
        tail->next = block;
    else
        lane->first = block;
    lane->tail = block;
    if (!lane->reading)
        lane->reading = block;
    return block;
}

/* --- accounting ----------------------------------------------------------------------------------------------------- */

struct sum {
    uint64_t n_events, n_values;
};

static const struct record *record_at(const uint8_t *p)
{
    return (const struct record *)(const void *)p;
}

static struct device *device_of(const struct record *record)
{
    return record->dev < device_count() ? device_at(record->dev) : device_get(record_name(record));
}

/* Counts values per device as appended, and marks where the newest record of each stands; pos: of the first byte. */
static struct sum count_appended(const struct lanes *rule, const uint8_t *p, const uint8_t *end, uint64_t pos, int lane)
{
    struct sum sum = {0};

    while (p < end) {
        uint32_t number = record_at(p)->dev;
        struct device *dev = device_of(record_at(p));
        const uint8_t *from = p;
        uint64_t n = 0;

        do {
            n += record_at(p)->n_values;
            sum.n_events += record_at(p)->flags & RECORD_END ? 1 : 0;
            p += record_at(p)->size;
        } while (p < end && record_at(p)->dev == number);
        sum.n_values += n;
        pos += (size_t)(p - from);
        if (!dev)
            continue;
        device_add_values(&dev->n_appended, n);
        lanes_mark(rule, dev, pos, lane);
    }
    return sum;
}

/* Counts values that are lost; whoever filters their devices is to forget them. appended: they never were in here. */
static struct sum count_lost(struct memory_store *store, const uint8_t *p, const uint8_t *end, bool appended)
{
    struct sum sum = {0};

    while (p < end) {
        uint32_t number = record_at(p)->dev;
        struct device *dev = device_of(record_at(p));
        uint64_t n = 0;

        do {
            n += record_at(p)->n_values;
            sum.n_events += record_at(p)->flags & RECORD_END ? 1 : 0;
            p += record_at(p)->size;
        } while (p < end && record_at(p)->dev == number);
        sum.n_values += n;
        if (!dev)
            continue;
        if (appended)
            device_add_values(&dev->n_appended, n);
        device_add_values(&dev->n_overflowed, n);
        if (store->store.events.dropped)
            store->store.events.dropped(store->store.arg, dev);
    }
    return sum;
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

static void leave(struct memory_store *store, struct lane *lane, struct block *block, struct sum sum, size_t n_bytes)
{
    lane->n_events -= sum.n_events;
    lane->n_values -= sum.n_values;
    lane->n_bytes -= n_bytes;
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

/* n bytes of whole records to the end of a lane. */
static void put(struct memory_store *store, int which, const uint8_t *bytes, size_t n)
{
    struct lane *lane = &store->lanes[which];
    struct block *tail = tail_for(store, lane, n);
    uint8_t *to = tail->bytes + tail->n;

    block_mark(tail, loop_wall_ms(store->store.loop));
    memcpy(to, bytes, n);
    struct sum sum = count_appended(&store->rule, to, to + n, lane->pos, which);

    tail->n += n;
    tail->n_events += sum.n_events;
    tail->n_values += sum.n_values;
    tail->n_all_events += (unsigned)sum.n_events;
    lane->pos += n;
    lane->n_events += sum.n_events;
    lane->n_values += sum.n_values;
    lane->n_bytes += n;
    store->stats.n_events += sum.n_events;
    store->stats.n_values += sum.n_values;
    store->stats.n_bytes += n;
    store->stats.n_appended_values += sum.n_values;
    if (lane->reader_waits && !store->is_told) {
        store->is_told = true;
        mailbox_post(&store->bell, &store->bell_node);
    }
    lane->reader_waits = false;
}

/* Each stretch of records to the lane of its devices. */
static void put_by_lane(struct memory_store *store, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        const uint8_t *to = p, *from = p;
        int lane = lanes_choose(&store->rule, device_of(record_at(p)), store->lanes[LANE_BACKLOG].acked);
        uint32_t number = record_at(p)->dev;

        do {
            to += record_at(to)->size;
        } while (to < end && (record_at(to)->dev == number || lanes_choose(&store->rule, device_of(record_at(to)),
                                                                           store->lanes[LANE_BACKLOG].acked) == lane));
        put(store, lane, from, (size_t)(to - from));
        p = to;
    }
}

static void take(struct memory_store *store, struct batch *batch)
{
    if (UNLIKELY(store->rule.is_split))
        put_by_lane(store, batch->bytes, batch->bytes + batch->n_bytes);
    else if (batch->n_bytes)
        put(store, LANE_LIVE, batch->bytes, batch->n_bytes);
    batch_drop_bytes(batch);
    batch->result = ERR_OK;
    store_answer(batch);
}

/* What was refused at the door. The answer follows those of the batches before it. */
static void refuse(struct memory_store *store, struct batch *batch)
{
    struct sum sum = count_lost(store, batch->bytes, batch->bytes + batch->n_bytes, true);

    store->stats.n_appended_values += sum.n_values;
    store->stats.n_dropped_events += sum.n_events;
    store->stats.n_dropped_values += sum.n_values;
    drop_log_note(&store->drop_log, sum.n_events, sum.n_values);
    batch_drop_bytes(batch);
    batch->result = ERR_FULL;
}

static void wait_for_room(struct memory_store *store, struct batch *batch)
{
    batch->node.next = NULL;
    *store->pending_end = &batch->node;
    store->pending_end = &batch->node.next;
    if (!store->stats.is_blocked)
        store->stats.blocked_since_ms = loop_wall_ms(store->store.loop);
    store->stats.is_blocked = true;
}

static bool is_waiting(const struct memory_store *store, const struct ctx *ctx)
{
    for (struct node *node = store->pending; node; node = node->next)
        if (CONTAINER_OF(node, struct batch, node)->ctx == ctx)
            return true;
    return false;
}

/* Once nothing waits in the backlog, the live lane is the only one. */
static void merge(struct memory_store *store)
{
    struct lane *backlog = &store->lanes[LANE_BACKLOG];

    if (!store->rule.is_split || backlog->n_bytes)
        return;
    store->rule.is_split = false;
    while (backlog->first)
        block_unlist(store, backlog, backlog->first, NULL);
}

/* The first block of the lane that has nothing in flight; prev: the one before it. */
static struct block *droppable(const struct lane *lane, struct block **prev)
{
    *prev = NULL;
    for (struct block *block = lane->first; block; *prev = block, block = block->next)
        if (!block->n_chunks && block->n_acked < block->n)
            return block;
    return NULL;
}

/* The oldest block that has nothing in flight; false when there is none. */
static bool drop_oldest(struct memory_store *store)
{
    struct lane *lane = &store->lanes[LANE_LIVE];
    struct block *prev, *other_prev, *block = droppable(lane, &prev);
    struct block *other = droppable(&store->lanes[LANE_BACKLOG], &other_prev);

    if (other && (!block || other->number < block->number)) {
        lane = &store->lanes[LANE_BACKLOG];
        block = other;
        prev = other_prev;
    }
    if (!block)
        return false;
    size_t n = block->n - block->n_acked;
    struct sum sum = count_lost(store, block->bytes + block->n_acked, block->bytes + block->n, false);

    store->stats.n_dropped_events += sum.n_events;
    store->stats.n_dropped_values += sum.n_values;
    drop_log_note(&store->drop_log, sum.n_events, sum.n_values);
    leave(store, lane, block, sum, n);
    block_unlist(store, lane, block, prev);
    merge(store);
    return true;
}

static void cancel(struct batch *batch)
{
    batch_take_back(batch->bytes, batch->bytes + batch->n_bytes);
    batch_drop_bytes(batch);
    batch->result = ERR_CANCELLED;
    store_answer(batch);
}

static void append(struct memory_store *store, struct batch *batch)
{
    if (store->is_stopped) {
        cancel(batch);
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
            cancel(batch);
        } else {
            take(store, batch);
        }
    }
    store->stats.is_blocked = false;
    store->stats.blocked_since_ms = 0;
    if (store->is_settling) {
        store->is_settling = false;
        mailbox_post(&store->settled, &store->settle_node);
    }
}

/* With other limits, in the same order. */
static void append_again(struct memory_store *store)
{
    struct node *node = store->pending;

    store->pending = NULL;
    store->pending_end = &store->pending;
    while (node) {
        struct batch *batch = CONTAINER_OF(node, struct batch, node);

        node = node->next;
        if (batch->result != ERR_FULL)
            append(store, batch);
        else if (is_waiting(store, batch->ctx))
            wait_for_room(store, batch);
        else
            store_answer(batch);
    }
    take_pending(store);
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

static void settled(void *arg, UNUSED struct node *nodes)
{
    struct memory_store *store = arg;

    store->settle_done(store->settle_arg);
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
    struct lane *lane = &store->lanes[LANE_LIVE];
    struct block *tail = lane->tail;

    if (store->stats.n_bytes || store->stats.n_appended_values != store->idle_values) {
        store->idle_values = store->stats.n_appended_values;
        timer_start_coarse(&store->idle, IDLE_MS);
        return;
    }
    if (tail && lane->first == tail && !tail->n_chunks)
        block_unlist(store, lane, tail, NULL);
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

static struct chunk *memory_read(struct store *base, int which, size_t max)
{
    struct memory_store *store = of(base);
    struct lane *lane = &store->lanes[which];
    struct block *block = lane->reading;

    loop_assert(base->loop);
    while (block && block->n_read == block->n && block->next)
        block = block->next;
    lane->reading = block;
    if (!block || block->n_read == block->n) {
        lane->reader_waits = true;
        return NULL;
    }
    const uint8_t *from = block->bytes + block->n_read;
    size_t n = block->n - block->n_read;

    if (n > max) {
        n = 0;
        do
            n += record_at(from + n)->size;
        while (n + record_at(from + n)->size <= max);
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
                                 .lane = which,
                                 .owner = block,
                                 .release = release};
    block->n_read += n;
    block->n_chunks++;
    store->n_chunks++;
    return &mine->chunk;
}

static void memory_ack(struct store *base, int which, uint64_t pos)
{
    struct memory_store *store = of(base);
    struct lane *lane = &store->lanes[which];

    loop_assert(base->loop);
    assert(pos <= lane->pos);
    if (pos <= lane->acked)
        return;
    lane->acked = pos;
    while (lane->first && lane->first->base < pos) {
        struct block *block = lane->first;
        size_t to = pos - block->base < block->n ? (size_t)(pos - block->base) : block->n, n = to - block->n_acked;
        struct sum sum = {block->n_events, block->n_values};

        if (to < block->n)
            sum = count_records(block->bytes + block->n_acked, block->bytes + to);
        leave(store, lane, block, sum, n);
        store->stats.n_acked_values += sum.n_values;
        block->n_acked = to;
        if (block->n_read < to)
            block->n_read = to;
        if (to < block->n || block == lane->tail)
            break;
        block_unlist(store, lane, block, NULL);
    }
    if (UNLIKELY(store->rule.is_split))
        merge(store);
    if (store->pending)
        take_pending(store);
    if (!store->stats.n_bytes && !timer_is_running(&store->idle))
        timer_start_coarse(&store->idle, IDLE_MS);
}

static void memory_split(struct store *base)
{
    struct memory_store *store = of(base);
    struct lane *live = &store->lanes[LANE_LIVE], *backlog = &store->lanes[LANE_BACKLOG];

    loop_assert(base->loop);
    if (store->rule.is_split || !live->n_bytes)
        return;
    lanes_split(&store->rule, live->pos);
    *backlog = *live;
    *live = (struct lane){.pos = backlog->pos, .acked = backlog->pos, .reader_waits = true};
}

static int64_t oldest_of(const struct lane *lane)
{
    const struct block *block = lane->first;
    int64_t wall_ms = 0;

    while (block && block->n_acked == block->n)
        block = block->next;
    if (block) {
        uint64_t pos = block->base + block->n_acked;

        for (unsigned i = 0; i < block->n_marks && block->marks[i].pos <= pos; i++)
            wall_ms = block->marks[i].wall_ms;
    }
    return wall_ms;
}

static struct store_stats memory_stats(const struct store *base)
{
    const struct memory_store *store = (const struct memory_store *)(const void *)base;
    const struct lane *backlog = &store->lanes[LANE_BACKLOG];
    struct store_stats stats = store->stats;

    stats.oldest_ms = oldest_of(&store->lanes[LANE_LIVE]);
    stats.is_split = store->rule.is_split;
    if (stats.is_split) {
        int64_t oldest_ms = oldest_of(backlog);

        stats.n_backlog_events = backlog->n_events;
        stats.n_backlog_values = backlog->n_values;
        if (oldest_ms && (!stats.oldest_ms || oldest_ms < stats.oldest_ms))
            stats.oldest_ms = oldest_ms;
    }
    return stats;
}

static void memory_settle(struct store *base, closed_fn *done, void *arg)
{
    struct memory_store *store = of(base);

    loop_assert(base->loop);
    store->settle_done = done;
    store->settle_arg = arg;
    store->is_settling = true;
    inbox(store, queue_take(&store->inbox.queue)); /* what its handler has not seen yet */
    if (!store->pending)
        take_pending(store);
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
    store->is_stopped = true;
    inbox(store, mailbox_fini(&store->inbox));
    (void)mailbox_fini(&store->bell);
    store->is_settling = false;
    (void)mailbox_fini(&store->settled);
    take_pending(store); /* each batch is answered, also without a stop before */
    timer_stop(&store->idle);
    drop_log_fini(&store->drop_log);
    for (int i = 0; i < LANES; i++)
        while (store->lanes[i].first) {
            struct block *block = store->lanes[i].first;

            store->lanes[i].first = block->next;
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

static const struct store_ops memory_ops = {
    .free = memory_free,
    .append = memory_append,
    .read = memory_read,
    .ack = memory_ack,
    .split = memory_split,
    .stats = memory_stats,
    .settle = memory_settle,
    .stop = memory_stop,
};

/* What is dropped at once is at most a sixteenth. */
static void size_blocks(struct memory_store *store)
{
    const struct memory_conf *conf = &store->conf;

    store->block_cap = BLOCK_SIZE;
    store->block_events = 0;
    if (conf->overflow != OVERFLOW_DROP_OLDEST)
        return;
    if (conf->max_bytes && conf->max_bytes / 16 < store->block_cap) {
        size_t cap = (size_t)(conf->max_bytes / 16) & ~(size_t)(BLOCK_MIN - 1);

        store->block_cap = cap < BLOCK_MIN ? BLOCK_MIN : cap;
    }
    if (conf->max_events)
        store->block_events = conf->max_events < 32                ? 1
                              : conf->max_events / 16 > UINT32_MAX ? UINT32_MAX
                                                                   : (unsigned)(conf->max_events / 16);
}

struct store *store_memory_new(struct loop *loop, const struct memory_conf *conf, const struct store_events *events,
                               void *arg)
{
    struct memory_store *store = mem_zero(sizeof *store);
    struct lane *live = &store->lanes[LANE_LIVE];

    live->pos = live->acked = lanes_first_position();
    live->reader_waits = true;
    store->store = (struct store){.ops = &memory_ops, .loop = loop, .events = *events, .arg = arg};
    store->conf = *conf;
    store->pending_end = &store->pending;
    size_blocks(store);
    mailbox_init(&store->inbox, loop, inbox, store);
    mailbox_init(&store->bell, loop, bell, store);
    mailbox_init(&store->settled, loop, settled, store);
    store->rule.slot = conf->slot;
    timer_init(&store->idle, loop, idle, store);
    drop_log_init(&store->drop_log, loop, conf->log);
    return &store->store;
}

void store_memory_tune(struct store *base, const struct memory_conf *conf)
{
    struct memory_store *store = of(base);
    uint8_t slot = store->conf.slot;

    loop_assert(base->loop);
    assert(base->ops == &memory_ops);
    store->conf = *conf;
    store->conf.slot = slot;
    free_kept(store); /* they have the former size */
    size_blocks(store);
    if (!store->is_stopped)
        append_again(store);
}
