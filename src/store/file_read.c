/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_impl.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* --- slices: made by the store's thread ------------------------------------------------------------------------------ */

static struct slice *slice_new(struct lane *lane, struct block *block, const uint8_t *bytes)
{
    struct file_store *s = lane->store;
    struct slice *slice = s->free_slices;

    if (slice) {
        s->free_slices = slice->next;
    } else {
        slice = mem_new(sizeof *slice);
        s->n_slices++;
    }
    slice->next = NULL;
    slice->lane = lane;
    slice->n_splits = s->rule.n_splits;
    slice->is_taken = false;
    slice->block = block;
    slice->bytes = bytes;
    slice->n = slice->n_taken = 0;
    slice->sum = (struct sum){0};
    slice->wall_ms = 0;
    slice->n_chunks = 0;
    slice->is_listed = true;
    slice->n_runs = 0;
    return slice;
}

uint64_t file_position_of(const struct slice *slice, size_t at)
{
    unsigned i = slice->n_runs - 1;

    while (slice->runs[i].at > at)
        i--;
    return slice->runs[i].pos + (at - slice->runs[i].at);
}

static void give(struct lane *lane, struct slice *slice)
{
    struct file_store *s = lane->store;
    struct segment *segment = lane->reading;

    sum_add(&segment->given, slice->sum);
    if (UNLIKELY(segment->given.n_bytes > segment->all.n_bytes)) { /* the start could not read it, now it can be */
        counters_add(&s->in, sum_less(segment->given, segment->all));
        segment->all = segment->given;
    }
    lane->n_given_slices++;
    lane->n_given_bytes += slice->n;
    lane->given_to = file_position_of(slice, slice->n - 1) + 1;
    atomic_store_explicit(&s->unread_ms, 0, memory_order_relaxed);
    mailbox_post(&s->slices, &slice->node);
}

/* Takes back what the reader needs no more. */
static void collect(struct file_store *s)
{
    struct node *node = queue_take(&s->returned);

    while (node) {
        struct slice *slice = CONTAINER_OF(node, struct slice, node);

        node = node->next;
        file_block_unref(s, slice->block);
        slice->next = s->free_slices;
        s->free_slices = slice;
    }
}

static bool adds_run(const struct slice *slice, uint64_t pos)
{
    const struct run *last = slice->n_runs ? &slice->runs[slice->n_runs - 1] : NULL;

    return !last || last->pos + (slice->n - last->at) != pos;
}

/* False: no room for it. */
static bool add_record(struct slice *slice, const struct record *record, uint64_t pos)
{
    struct block *block = slice->block;

    if (block->cap - block->n < record->size || (adds_run(slice, pos) && slice->n_runs == RUNS))
        return false;
    if (adds_run(slice, pos))
        slice->runs[slice->n_runs++] = (struct run){(uint32_t)slice->n, pos};
    memcpy(block->bytes + block->n, record, record->size);
    block->n += record->size;
    slice->n += record->size;
    sum_record(&slice->sum, record);
    return true;
}

/* --- from memory ------------------------------------------------------------------------------------------------------- */

static struct block *block_at(const struct lane *lane, uint64_t off)
{
    for (struct block *block = lane->tail_first; block; block = block->next)
        if (off >= block->off && off < block->off + block->n_committed)
            return block;
    return NULL;
}

/* Many small groups are copied together, so that the reader gets them in one piece. */
static void give_small_groups(struct lane *lane, const struct block *block, int64_t wall_ms)
{
    struct file_store *s = lane->store;
    struct block *copy = file_block_alone(s, BLOCK_SIZE);
    struct slice *slice = slice_new(lane, copy, copy->bytes);
    uint64_t off = lane->read_off;

    slice->wall_ms = wall_ms;
    while (off < block->off + block->n_committed) {
        const struct record *record = record_at(block->bytes + (off - block->off));

        if (record->size == GROUP_MAGIC)
            off += sizeof(struct group_head);
        else if (add_record(slice, record, lane->reading->pos + off))
            off += record->size;
        else
            break;
    }
    lane->read_off = off;
    give(lane, slice);
}

static void give_from_memory(struct lane *lane, struct block *block)
{
    struct file_store *s = lane->store;
    size_t at = (size_t)(lane->read_off - block->off), end = block->n_committed, from;
    int64_t wall_ms = loop_wall_ms(s->own);
    struct sum sum = {0};

    if (at < HEAD && block->off == 0)
        at = HEAD;
    while (at < end && record_at(block->bytes + at)->size == GROUP_MAGIC) {
        wall_ms = ((const struct group_head *)(const void *)(block->bytes + at))->wall_ms;
        at += sizeof(struct group_head);
    }
    lane->read_off = block->off + at;
    for (from = at; at < end && record_at(block->bytes + at)->size != GROUP_MAGIC;
         at += record_at(block->bytes + at)->size)
        sum_record(&sum, record_at(block->bytes + at));
    if (from == at)
        return;
    if (at < end && at - from < SMALL_SLICE) {
        give_small_groups(lane, block, wall_ms);
        return;
    }
    struct slice *slice = slice_new(lane, block, block->bytes + from);

    block->n_refs++;
    slice->n = at - from;
    slice->sum = sum;
    slice->wall_ms = wall_ms;
    slice->runs[slice->n_runs++] = (struct run){0, lane->reading->pos + lane->read_off};
    lane->read_off = block->off + at;
    give(lane, slice);
}

/* --- from the disk ------------------------------------------------------------------------------------------------------- */

static void walk_close(struct lane *lane)
{
    struct file_store *s = lane->store;
    if (!lane->walking)
        return;
    walk_fini(&lane->walk);
    s->io->close(s->io, lane->walk_fd);
    lane->walking = NULL;
}

/* 0, or errno. */
static int walk_open(struct lane *lane)
{
    struct file_store *s = lane->store;
    struct segment *segment = lane->reading;

    if (lane->walking != segment) {
        walk_close(lane);
        lane->walk_fd = s->io->open(s->io, s->dir, segment->name, O_RDONLY, 0);
        if (lane->walk_fd < 0) {
            int number = errno;

            LOG_ERROR(s->log, "a segment cannot be read", KV_Z("file", segment->name), KV_ERR(err_from_errno(number)));
            return number;
        }
        walk_init(&lane->walk, s->io, lane->walk_fd, lane->read_off, segment->end);
        lane->walking = segment;
    }
    lane->walk.end = segment->end;
    lane->walk.off = lane->read_off;
    return 0;
}

/* Records of an earlier life: the device's number is another one now, and what was said about its link is out of date. */
static void adopt(const struct lane *lane, struct record *record)
{
    struct device *dev = device_get(record_name(record));
    struct str meta = record_meta(record), body = record_body(record);

    record->dev = dev ? dev->number : UINT32_MAX;
    if (record->kind == RECORD_CONNECT || record->kind == RECORD_DISCONNECT)
        record->ts = -1;
    boots_adopt(&lane->store->boots, lane->reading->machine_boot, record);
    record_seal(record, body.n + meta.n);
}

static void report_bad(struct lane *lane, const struct walk *walk)
{
    struct file_store *s = lane->store;
    char name[QUARANTINE_NAME];
    enum err err = quarantine(s->io, s->dir, walk->fd, lane->reading->base, walk->from, walk->off, name);

    LOG_ERROR(s->log, "a corrupt stretch of the storage is skipped", KV_Z("file", lane->reading->name),
              KV_UINT("offset", walk->from), KV_UINT("bytes", walk->off - walk->from),
              KV_Z("copy", err && err != ERR_EXISTS ? err_text(err) : name));
}

/* True: what the disk did not give is asked for again, later; false: that was in vain. */
static bool waits_for_disk(struct lane *lane)
{
    struct file_store *s = lane->store;

    if (!lane->walk.n_unread)
        return false;
    if (lane->n_read_tries++ == GIVE_TRIES) {
        lane->reading->is_unread = true;
        return false;
    }
    if (lane->n_read_tries == 1)
        LOG_ERROR(s->log, "the disk cannot be read, it is tried again", KV_Z("file", lane->reading->name),
                  KV_UINT("offset", lane->walk.from));
    walk_again(&lane->walk, lane->walk.from);
    lane->read_after_ms = loop_mono_ms(s->own) + RETRY_MS;
    timer_start(&s->again, RETRY_MS);
    return true;
}

static void give_from_disk(struct lane *lane)
{
    struct file_store *s = lane->store;
    struct block *block = file_block_alone(s, BLOCK_SIZE);
    struct slice *slice = slice_new(lane, block, block->bytes);
    bool is_old = lane->reading->boot != s->boot;

    for (;;) {
        enum walk_step step = walk_next(&lane->walk);

        if (step == WALK_END)
            break;
        if (step == WALK_BAD) {
            if (waits_for_disk(lane))
                break;
            report_bad(lane, &lane->walk);
        }
        if (step != WALK_RECORD)
            continue;
        if (!slice->n) {
            slice->wall_ms = lane->walk.group.wall_ms ? lane->walk.group.wall_ms : lane->reading->created_ms;
            if (lane->walk.record->size > block->cap) { /* one giant of its own */
                block->n_refs = 1;
                file_block_unref(s, block);
                slice->block = block = file_block_alone(s, lane->walk.record->size);
                slice->bytes = block->bytes;
            }
        }
        if (!add_record(slice, lane->walk.record, lane->reading->pos + lane->walk.from)) {
            lane->walk.off = lane->walk.from;
            break;
        }
        if (is_old)
            adopt(lane, (struct record *)(void *)(block->bytes + block->n - lane->walk.record->size));
        lane->n_read_tries = 0;
    }
    lane->read_off = lane->walk.off;
    if (slice->n) {
        give(lane, slice);
    } else {
        file_block_unref(s, block);
        slice->next = s->free_slices;
        s->free_slices = slice;
    }
}

/* --- what is read next ---------------------------------------------------------------------------------------------------- */

/* What was counted and did not turn up is lost, whatever the reason. */
static void finish_segment(struct lane *lane, struct segment *segment)
{
    struct file_store *s = lane->store;
    struct sum missing = sum_less(segment->all, segment->given);

    if (missing.n_bytes) {
        LOG_ERROR(s->log, "records are lost", KV_Z("file", segment->name), KV_UINT("events", missing.n_events),
                  KV_UINT("values", missing.n_values));
        file_count_lost(lane, missing);
        sum_add(&segment->lost, missing);
        segment->given = segment->all;
        s->is_unsaved = true;
    }
}

void file_read_on(struct lane *lane, struct segment *segment)
{
    if (lane->walking)
        walk_close(lane);
    lane->reading = segment;
    lane->read_off = segment ? segment->start : 0;
    lane->n_read_tries = 0;
    lane->read_after_ms = 0;
}

void file_reading_gone(struct lane *lane, const struct segment *segment)
{
    if (lane->reading == segment)
        file_read_on(lane, segment_after(lane, segment));
}

static bool may_give(struct lane *lane)
{
    for (;;) {
        uint64_t n_slices = lane->n_given_slices - atomic_load(&lane->n_taken_slices);
        uint64_t n_bytes = lane->n_given_bytes - atomic_load(&lane->n_taken_bytes);

        if (n_slices == 0 || (n_slices < AHEAD_SLICES && n_bytes < AHEAD)) {
            atomic_store(&lane->is_held, false);
            return true;
        }
        if (atomic_load(&lane->is_held))
            return false;
        atomic_store(&lane->is_held, true); /* and look again: the reader may have taken some meanwhile */
    }
}

static void feed_lane(struct lane *lane, bool may_read)
{
    struct file_store *s = lane->store;

    collect(s);
    while (lane->reading && !s->is_recalling && !atomic_load_explicit(&lane->is_resting, memory_order_acquire)) {
        struct segment *segment = lane->reading;
        struct block *block;

        if (lane->read_off >= segment->end) {
            if (segment == lane->active)
                break;
            finish_segment(lane, segment);
            if (!segment_after(lane, segment))
                break;
            file_read_on(lane, segment_after(lane, segment));
            continue;
        }
        if (loop_mono_ms(s->own) < lane->read_after_ms || !may_give(lane))
            break;
        block = segment == lane->active ? block_at(lane, lane->read_off) : NULL;
        if (block) {
            walk_close(lane);
            give_from_memory(lane, block);
            continue;
        }
        if (!may_read)
            break;
        int number = walk_open(lane);

        if (number == 0) {
            give_from_disk(lane);
        } else if (number == ENOENT) {
            lane->read_off = segment->end; /* somebody removed it: it will be counted as lost */
        } else {
            timer_start(&s->again, RETRY_MS);
            break;
        }
    }
    file_blocks_trim(lane);
}

void file_feed_lane(struct lane *lane)
{
    feed_lane(lane, true);
}

void file_feed(struct file_store *s)
{
    for (int i = 0; i < LANES; i++)
        feed_lane(&s->lanes[i], true);
}

void file_feed_from_memory(struct file_store *s)
{
    for (int i = 0; i < LANES; i++)
        feed_lane(&s->lanes[i], false);
}

/* --- the reader's loop --------------------------------------------------------------------------------------------------------- */

void file_poke(struct file_store *s)
{
    if (!atomic_exchange(&s->poke_is_out, true))
        mailbox_post(&s->pokes, &s->poke_node);
}

static int64_t oldest_of(const struct lane *lane)
{
    return lane->ring_n ? lane->ring[lane->ring_from].wall_ms : lane->ready ? lane->ready->wall_ms : 0;
}

void file_note_oldest(struct file_store *s)
{
    int64_t wall_ms = oldest_of(&s->lanes[LANE_LIVE]), other_ms = oldest_of(&s->lanes[LANE_BACKLOG]);

    if (other_ms && (!wall_ms || other_ms < wall_ms))
        wall_ms = other_ms;
    atomic_store_explicit(&s->oldest_ms, wall_ms, memory_order_relaxed);
}

/* The lane that gave it may give more. */
void file_taken(struct slice *slice)
{
    struct lane *lane = slice->lane;

    if (slice->is_taken)
        return;
    slice->is_taken = true;
    atomic_fetch_add(&lane->n_taken_bytes, slice->n);
    atomic_fetch_add(&lane->n_taken_slices, 1);
    if (atomic_exchange(&lane->is_held, false))
        file_poke(lane->store);
}

void file_slices_arrived(void *arg, struct node *nodes)
{
    struct file_store *s = arg;
    bool is_awaited = false;

    while (nodes) {
        struct slice *slice = CONTAINER_OF(nodes, struct slice, node);
        bool is_of_before = slice->n_splits != s->n_splits; /* made while all was one lane */
        struct lane *lane = is_of_before ? &s->lanes[LANE_BACKLOG] : slice->lane;

        nodes = nodes->next;
        if (UNLIKELY(is_of_before))
            file_taken(slice);
        *lane->ready_end = slice;
        lane->ready_end = &slice->next;
        is_awaited |= lane->reader_waits;
        lane->reader_waits = false;
    }
    file_note_oldest(s);
    if (is_awaited && s->store.events.readable)
        s->store.events.readable(s->store.arg);
}

static void ring_add(struct lane *lane, const struct given *given)
{
    if (lane->ring_n == lane->ring_cap) {
        size_t cap = lane->ring_cap ? 2 * lane->ring_cap : GIVEN_MIN;
        struct given *ring = mem_new(cap * sizeof *ring);

        for (size_t i = 0; i < lane->ring_n; i++)
            ring[i] = lane->ring[(lane->ring_from + i) % lane->ring_cap];
        mem_free(lane->ring);
        lane->ring = ring;
        lane->ring_cap = cap;
        lane->ring_from = 0;
    }
    lane->ring[(lane->ring_from + lane->ring_n++) % lane->ring_cap] = *given;
}

void file_slice_return(struct slice *slice)
{
    queue_push(&slice->lane->store->returned, &slice->node);
}

static void release(struct chunk *chunk)
{
    struct file_chunk *mine = CONTAINER_OF(chunk, struct file_chunk, chunk);
    struct slice *slice = mine->slice;
    struct file_store *s = slice->lane->store;

    loop_assert(s->store.loop);
    mine->next = s->free_chunks;
    s->free_chunks = mine;
    s->n_chunks--;
    if (--slice->n_chunks == 0 && !slice->is_listed)
        file_slice_return(slice);
}

struct chunk *file_store_read(struct store *base, int which, size_t max)
{
    struct file_store *s = (struct file_store *)(void *)base;
    struct lane *lane = &s->lanes[which];
    struct slice *slice = lane->ready;
    struct file_chunk *mine = s->free_chunks;
    struct sum sum = {0};
    size_t from, to;

    loop_assert(base->loop);
    if (!slice) {
        lane->reader_waits = true;
        if (UNLIKELY(atomic_load_explicit(&lane->is_resting, memory_order_relaxed))) {
            atomic_store(&lane->is_resting, false);
            file_poke(s);
        }
        return NULL;
    }
    from = to = slice->n_taken;
    if (from == 0 && slice->n <= max) {
        to = slice->n;
        sum = slice->sum;
    } else {
        do {
            sum_record(&sum, record_at(slice->bytes + to));
            to += record_at(slice->bytes + to)->size;
        } while (to < slice->n && to + record_at(slice->bytes + to)->size - from <= max);
    }
    if (mine)
        s->free_chunks = mine->next;
    else
        mine = mem_zero(sizeof *mine);
    mine->slice = slice;
    mine->chunk = (struct chunk){.bytes = slice->bytes + from,
                                 .n = to - from,
                                 .from = file_position_of(slice, from),
                                 .lane = which,
                                 .is_copy = true,
                                 .owner = slice,
                                 .release = release};
    mine->chunk.to = file_position_of(slice, to - 1) + 1;
    ring_add(lane, &(struct given){mine->chunk.to, sum, slice->wall_ms});
    slice->n_taken = to;
    slice->n_chunks++;
    s->n_chunks++;
    if (to == slice->n) {
        lane->ready = slice->next;
        if (!lane->ready)
            lane->ready_end = &lane->ready;
        slice->is_listed = false;
        file_taken(slice);
    }
    return &mine->chunk;
}

/* So much has been acknowledged that it should be saved before the time is up. */
static bool is_much(struct file_store *s)
{
    uint64_t n = get(&s->out.n_events), now = loop_mono_ms(s->store.loop);

    if (n - s->early_events < SAVE_EVENTS || now - s->early_ms < SAVE_MIN_MS)
        return false;
    s->early_events = n;
    s->early_ms = now;
    return true;
}

void file_store_ack(struct store *base, int which, uint64_t pos)
{
    struct file_store *s = (struct file_store *)(void *)base;
    struct lane *lane = &s->lanes[which];

    loop_assert(base->loop);
    if (pos <= atomic_load_explicit(&lane->acked, memory_order_relaxed))
        return;
    while (lane->ring_n && lane->ring[lane->ring_from].to <= pos) {
        if (UNLIKELY(which == LANE_BACKLOG))
            counters_add(&s->backlog_out, lane->ring[lane->ring_from].sum);
        counters_add(&s->out, lane->ring[lane->ring_from].sum);
        lane->ring_from = (lane->ring_from + 1) % lane->ring_cap;
        lane->ring_n--;
    }
    file_note_oldest(s);
    atomic_store(&lane->acked, pos);
    if (!atomic_load(&s->is_saving) || atomic_load(&s->is_blocked) || is_much(s))
        file_poke(s);
}

void file_read_fini(struct file_store *s)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];

        walk_close(lane);
        while (lane->ready) {
            struct slice *slice = lane->ready;

            lane->ready = slice->next;
            file_slice_return(slice);
        }
    }
    collect(s);
    while (s->free_slices) {
        struct slice *slice = s->free_slices;

        s->free_slices = slice->next;
        mem_free(slice);
        s->n_slices--;
    }
    while (s->free_chunks) {
        struct file_chunk *mine = s->free_chunks;

        s->free_chunks = mine->next;
        mem_free(mine);
    }
}
