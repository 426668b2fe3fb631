/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_impl.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* --- slices: made by the store's thread ------------------------------------------------------------------------------ */

static struct slice *slice_new(struct file_store *s, struct block *block, const uint8_t *bytes)
{
    struct slice *slice = s->free_slices;

    if (slice) {
        s->free_slices = slice->next;
    } else {
        slice = mem_new(sizeof *slice);
        s->n_slices++;
    }
    slice->next = NULL;
    slice->store = s;
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

static void give(struct file_store *s, struct slice *slice)
{
    sum_add(&s->reading->given, slice->sum);
    s->n_given_slices++;
    s->n_given_bytes += slice->n;
    mailbox_post(&s->slices, &slice->node);
}

/* Takes back what the reader needs no more. */
void file_collect(struct file_store *s)
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

static struct block *block_at(const struct file_store *s, uint64_t off)
{
    for (struct block *block = s->tail_first; block; block = block->next)
        if (off >= block->off && off < block->off + block->n_committed)
            return block;
    return NULL;
}

/* Many small groups are copied together, so that the reader gets them in one piece. */
static void give_small_groups(struct file_store *s, const struct block *block, int64_t wall_ms)
{
    struct block *copy = file_block_alone(s, BLOCK_SIZE);
    struct slice *slice = slice_new(s, copy, copy->bytes);
    uint64_t off = s->read_off;

    slice->wall_ms = wall_ms;
    while (off < block->off + block->n_committed) {
        const struct record *record = record_at(block->bytes + (off - block->off));

        if (record->size == GROUP_MAGIC)
            off += sizeof(struct group_head);
        else if (add_record(slice, record, s->reading->base + off))
            off += record->size;
        else
            break;
    }
    s->read_off = off;
    give(s, slice);
}

static void give_from_memory(struct file_store *s, struct block *block)
{
    size_t at = (size_t)(s->read_off - block->off), end = block->n_committed, from;
    int64_t wall_ms = loop_wall_ms(s->own);
    struct sum sum = {0};

    if (at < HEAD && block->off == 0)
        at = HEAD;
    while (at < end && record_at(block->bytes + at)->size == GROUP_MAGIC) {
        wall_ms = ((const struct group_head *)(const void *)(block->bytes + at))->wall_ms;
        at += sizeof(struct group_head);
    }
    s->read_off = block->off + at;
    for (from = at; at < end && record_at(block->bytes + at)->size != GROUP_MAGIC;
         at += record_at(block->bytes + at)->size)
        sum_record(&sum, record_at(block->bytes + at));
    if (from == at)
        return;
    if (at < end && at - from < SMALL_SLICE) {
        give_small_groups(s, block, wall_ms);
        return;
    }
    struct slice *slice = slice_new(s, block, block->bytes + from);

    block->n_refs++;
    slice->n = at - from;
    slice->sum = sum;
    slice->wall_ms = wall_ms;
    slice->runs[slice->n_runs++] = (struct run){0, s->reading->base + s->read_off};
    s->read_off = block->off + at;
    give(s, slice);
}

/* --- from the disk ------------------------------------------------------------------------------------------------------- */

static void walk_close(struct file_store *s)
{
    if (!s->walking)
        return;
    walk_fini(&s->walk);
    s->io->close(s->io, s->walk_fd);
    s->walking = NULL;
}

/* 0, or errno. */
static int walk_open(struct file_store *s)
{
    struct segment *segment = s->reading;

    if (s->walking != segment) {
        walk_close(s);
        s->walk_fd = s->io->open(s->io, s->dir, segment->name, O_RDONLY, 0);
        if (s->walk_fd < 0) {
            int number = errno;

            LOG_ERROR(s->log, "a segment cannot be read", KV_Z("file", segment->name), KV_ERR(err_from_errno(number)));
            return number;
        }
        walk_init(&s->walk, s->io, s->walk_fd, s->read_off, segment->end);
        s->walking = segment;
    }
    s->walk.end = segment->end;
    s->walk.off = s->read_off;
    return 0;
}

/* Records of an earlier life: the device's number is another one now, and what was said about its link is out of date. */
static void adopt(struct record *record)
{
    struct device *dev = device_get(record_name(record));
    struct str meta = record_meta(record), body = record_body(record);

    record->dev = dev ? dev->number : UINT32_MAX;
    if (record->kind == RECORD_CONNECT || record->kind == RECORD_DISCONNECT)
        record->ts = -1;
    record_seal(record, body.n + meta.n);
}

static void report_bad(struct file_store *s, const struct walk *walk)
{
    char name[QUARANTINE_NAME];
    enum err err = quarantine(s->io, s->dir, walk->fd, s->reading->base, walk->from, walk->off, name);

    LOG_ERROR(s->log, "a corrupt stretch of the storage is skipped", KV_Z("file", s->reading->name),
              KV_UINT("offset", walk->from), KV_UINT("bytes", walk->off - walk->from),
              KV_Z("copy", err && err != ERR_EXISTS ? err_text(err) : name));
}

static void give_from_disk(struct file_store *s)
{
    struct block *block = file_block_alone(s, BLOCK_SIZE);
    struct slice *slice = slice_new(s, block, block->bytes);
    bool is_old = s->reading->boot != s->boot;

    for (;;) {
        enum walk_step step = walk_next(&s->walk);

        if (step == WALK_END)
            break;
        if (step == WALK_BAD)
            report_bad(s, &s->walk);
        if (step != WALK_RECORD)
            continue;
        if (!slice->n) {
            slice->wall_ms = s->walk.group.wall_ms;
            if (s->walk.record->size > block->cap) { /* one giant of its own */
                block->n_refs = 1;
                file_block_unref(s, block);
                slice->block = block = file_block_alone(s, s->walk.record->size);
                slice->bytes = block->bytes;
            }
        }
        if (!add_record(slice, s->walk.record, s->reading->base + s->walk.from)) {
            s->walk.off = s->walk.from;
            break;
        }
        if (is_old)
            adopt((struct record *)(void *)(block->bytes + block->n - s->walk.record->size));
    }
    s->read_off = s->walk.off;
    if (slice->n) {
        give(s, slice);
    } else {
        file_block_unref(s, block);
        slice->next = s->free_slices;
        s->free_slices = slice;
    }
}

/* --- what is read next ---------------------------------------------------------------------------------------------------- */

/* What was counted and did not turn up is lost, whatever the reason. */
static void finish_segment(struct file_store *s, struct segment *segment)
{
    struct sum missing = sum_less(segment->all, segment->given);

    if (missing.n_bytes) {
        LOG_ERROR(s->log, "records are lost", KV_Z("file", segment->name), KV_UINT("events", missing.n_events),
                  KV_UINT("values", missing.n_values));
        counters_add(&s->lost, missing);
        sum_add(&segment->lost, missing);
        segment->given = segment->all;
        s->is_unsaved = true;
    }
}

static void read_on(struct file_store *s, struct segment *segment)
{
    if (s->walking)
        walk_close(s);
    s->reading = segment;
    s->read_off = segment ? segment->start : 0;
}

void file_reading_gone(struct file_store *s, const struct segment *segment)
{
    if (s->reading == segment)
        read_on(s, segment_after(s, segment));
}

static bool may_give(struct file_store *s)
{
    for (;;) {
        uint64_t n_slices = s->n_given_slices - atomic_load(&s->n_taken_slices);
        uint64_t n_bytes = s->n_given_bytes - atomic_load(&s->n_taken_bytes);

        if (n_slices == 0 || (n_slices < AHEAD_SLICES && n_bytes < AHEAD)) {
            atomic_store(&s->is_held, false);
            return true;
        }
        if (atomic_load(&s->is_held))
            return false;
        atomic_store(&s->is_held, true); /* and look again: the reader may have taken some meanwhile */
    }
}

void file_feed(struct file_store *s)
{
    file_collect(s);
    while (s->reading) {
        struct segment *segment = s->reading;
        struct block *block;

        if (s->read_off >= segment->end) {
            if (segment == s->active)
                break;
            finish_segment(s, segment);
            if (!segment_after(s, segment))
                break;
            read_on(s, segment_after(s, segment));
            continue;
        }
        if (!may_give(s))
            break;
        block = segment == s->active ? block_at(s, s->read_off) : NULL;
        if (block) {
            walk_close(s);
            give_from_memory(s, block);
            continue;
        }
        int number = walk_open(s);

        if (number == 0) {
            give_from_disk(s);
        } else if (number == ENOENT) {
            s->read_off = segment->end; /* somebody removed it: it will be counted as lost */
        } else {
            timer_start(&s->again, RETRY_MS);
            break;
        }
    }
    file_blocks_trim(s);
}

/* --- drop_oldest ------------------------------------------------------------------------------------------------------------ */

static void drop(struct file_store *s, struct segment *segment)
{
    struct sum rest = sum_less(segment->all, segment->given);
    struct losers *losers = mem_zero(sizeof *losers);
    int fd = s->io->open(s->io, s->dir, segment->name, O_RDONLY, 0);

    if (fd >= 0) {
        struct walk walk;

        walk_init(&walk, s->io, fd, segment->start, segment->end);
        for (enum walk_step step; (step = walk_next(&walk)) != WALK_END;)
            if (step == WALK_RECORD)
                file_count_device(walk.record, false, losers);
        walk_fini(&walk);
        s->io->close(s->io, fd);
    }
    counters_add(&s->lost, rest);
    LOG_WARN(s->log, "the storage is full: the oldest records are dropped", KV_UINT("events", rest.n_events),
             KV_UINT("values", rest.n_values));
    segment->all = segment->given;
    segment->start = segment->end; /* should the file stay: nothing of it is read any more */
    if (s->reading == segment)
        s->read_off = segment->end;
    s->is_unsaved = true;
    file_tell_losers(s, losers);
    file_segment_remove(s, segment);
}

/* The oldest segment of which the reader has nothing; false: there is none. */
bool file_drop_oldest(struct file_store *s)
{
    LIST_EACH(node, &s->segments) {
        struct segment *segment = segment_of(node);

        if (segment == s->active || segment->given.n_bytes || segment->all.n_bytes == 0)
            continue;
        drop(s, segment);
        return true;
    }
    return false;
}

/* --- the reader's loop --------------------------------------------------------------------------------------------------------- */

void file_poke(struct file_store *s)
{
    if (!atomic_exchange(&s->poke_is_out, true))
        mailbox_post(&s->pokes, &s->poke_node);
}

static void note_oldest(struct file_store *s)
{
    int64_t wall_ms = s->ring_n ? s->ring[s->ring_from].wall_ms : s->ready ? s->ready->wall_ms : 0;

    atomic_store_explicit(&s->oldest_ms, wall_ms, memory_order_relaxed);
}

void file_slices_arrived(void *arg, struct node *nodes)
{
    struct file_store *s = arg;

    while (nodes) {
        struct slice *slice = CONTAINER_OF(nodes, struct slice, node);

        nodes = nodes->next;
        *s->ready_end = slice;
        s->ready_end = &slice->next;
    }
    note_oldest(s);
    if (s->reader_waits) {
        s->reader_waits = false;
        if (s->store.events.readable)
            s->store.events.readable(s->store.arg);
    }
}

static uint64_t position_of(const struct slice *slice, size_t at)
{
    unsigned i = slice->n_runs - 1;

    while (slice->runs[i].at > at)
        i--;
    return slice->runs[i].pos + (at - slice->runs[i].at);
}

static void ring_add(struct file_store *s, const struct given *given)
{
    if (s->ring_n == s->ring_cap) {
        size_t cap = s->ring_cap ? 2 * s->ring_cap : GIVEN_MIN;
        struct given *ring = mem_new(cap * sizeof *ring);

        for (size_t i = 0; i < s->ring_n; i++)
            ring[i] = s->ring[(s->ring_from + i) % s->ring_cap];
        mem_free(s->ring);
        s->ring = ring;
        s->ring_cap = cap;
        s->ring_from = 0;
    }
    s->ring[(s->ring_from + s->ring_n++) % s->ring_cap] = *given;
}

static void slice_return(struct slice *slice)
{
    queue_push(&slice->store->returned, &slice->node);
}

static void release(struct chunk *chunk)
{
    struct file_chunk *mine = CONTAINER_OF(chunk, struct file_chunk, chunk);
    struct slice *slice = mine->slice;
    struct file_store *s = slice->store;

    loop_assert(s->store.loop);
    mine->next = s->free_chunks;
    s->free_chunks = mine;
    s->n_chunks--;
    if (--slice->n_chunks == 0 && !slice->is_listed)
        slice_return(slice);
}

static void taken(struct file_store *s, struct slice *slice)
{
    s->ready = slice->next;
    if (!s->ready)
        s->ready_end = &s->ready;
    slice->is_listed = false;
    atomic_fetch_add(&s->n_taken_bytes, slice->n);
    atomic_fetch_add(&s->n_taken_slices, 1);
    if (atomic_exchange(&s->is_held, false))
        file_poke(s);
}

struct chunk *file_store_read(struct store *base, int lane, size_t max)
{
    struct file_store *s = (struct file_store *)(void *)base;
    struct slice *slice = s->ready;
    struct file_chunk *mine = s->free_chunks;
    struct sum sum = {0};
    size_t from, to;

    loop_assert(base->loop);
    assert(lane == 0);
    if (!slice) {
        s->reader_waits = true;
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
                                 .from = position_of(slice, from),
                                 .lane = lane,
                                 .owner = slice,
                                 .release = release};
    mine->chunk.to = position_of(slice, to - 1) + 1;
    ring_add(s, &(struct given){mine->chunk.to, sum, slice->wall_ms});
    slice->n_taken = to;
    slice->n_chunks++;
    s->n_chunks++;
    if (to == slice->n)
        taken(s, slice);
    return &mine->chunk;
}

void file_store_ack(struct store *base, int lane, uint64_t pos)
{
    struct file_store *s = (struct file_store *)(void *)base;

    loop_assert(base->loop);
    assert(lane == 0);
    if (pos <= atomic_load_explicit(&s->acked, memory_order_relaxed))
        return;
    while (s->ring_n && s->ring[s->ring_from].to <= pos) {
        counters_add(&s->out, s->ring[s->ring_from].sum);
        s->ring_from = (s->ring_from + 1) % s->ring_cap;
        s->ring_n--;
    }
    note_oldest(s);
    atomic_store(&s->acked, pos);
    if (!atomic_load(&s->is_saving) || atomic_load(&s->is_blocked))
        file_poke(s);
}

void file_read_fini(struct file_store *s)
{
    walk_close(s);
    while (s->ready) {
        struct slice *slice = s->ready;

        s->ready = slice->next;
        slice_return(slice);
    }
    file_collect(s);
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
    mem_free(s->ring);
}
