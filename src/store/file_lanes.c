/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_impl.h"

/*
 * A split takes two steps. The reader's loop begins it: from then on what it has been given, and what was on its way to it, is of
 * the backlog. The store's thread hears of it a little later, moves the log of the live lane to the backlog, the
 * active segment with what is not committed included, and begins a new one for the live lane at the next record.
 *
 *   slices of before ──┐ n_splits of the slice < n_splits of the reader: backlog, whatever lane has given it
 *   split ─────────────┼──► store's thread: lanes[BACKLOG] = lanes[LIVE]
 *   slices of after  ◄─┘
 *
 * The store's thread ends it (is_split) when nothing waits in the backlog and nothing is to be committed to it.
 */

void file_lane_init(struct lane *lane, struct file_store *store, int which)
{
    lane->store = store;
    lane->which = which;
    lane->saved_acked = store->pos;
    atomic_store(&lane->acked, store->pos);
    lane->reader_waits = true;
    lane->ready_end = &lane->ready;
    list_init(&lane->segments);
}

void file_lane_fini(struct lane *lane)
{
    const struct file_store *s = lane->store;

    while (!list_is_empty(&lane->segments)) {
        struct segment *segment = segment_of(lane->segments.next);

        if (segment->fd >= 0)
            s->io->close(s->io, segment->fd);
        list_del(&segment->node);
        mem_free(segment);
    }
    mem_free(lane->ring);
}

/* What waits in the backlog lane; while the store's thread has not heard of the split: all. */
struct sum file_backlog(const struct file_store *s)
{
    struct sum out = counters_sum(&s->backlog_out), lost = counters_sum(&s->backlog_lost),
               in = counters_sum(&s->backlog_in);

    sum_add(&out, lost);
    return in.n_bytes < out.n_bytes ? file_waiting(s) : sum_less(in, out);
}

/* --- to which lane --------------------------------------------------------------------------------------------------------- */

/* Where the newest record of each device stands; pos: of the first byte. */
void file_mark(struct lane *lane, const uint8_t *p, const uint8_t *end, uint64_t pos)
{
    while (p < end) {
        const struct record *record = record_at(p);
        size_t n = record->size == GROUP_MAGIC ? sizeof(struct group_head) : record->size;

        p += n;
        pos += n;
        if (record->size != GROUP_MAGIC)
            lanes_mark(&lane->store->rule, file_device_of(record), pos, lane->which);
    }
}

/* Records back to back that go to the same lane; gives their end. */
const uint8_t *file_stretch(struct file_store *s, const uint8_t *p, const uint8_t *end, uint64_t acked, int *lane)
{
    uint32_t number = record_at(p)->dev;

    *lane = lanes_choose(&s->rule, file_device_of(record_at(p)), acked);
    do
        p += record_at(p)->size;
    while (p < end &&
           (record_at(p)->dev == number || lanes_choose(&s->rule, file_device_of(record_at(p)), acked) == *lane));
    return p;
}

/* How many bytes of the batch go to each. */
void file_choose(struct file_store *s, const struct batch *batch, uint64_t acked, size_t n[LANES])
{
    const uint8_t *p = batch->bytes, *end = p + batch->n_bytes;

    n[LANE_LIVE] = n[LANE_BACKLOG] = 0;
    while (p < end) {
        int lane;
        const uint8_t *to = file_stretch(s, p, end, acked, &lane);

        n[lane] += (size_t)(to - p);
        p = to;
    }
}

/* --- two lanes, and one again -------------------------------------------------------------------------------------------------- */

void file_split(struct store *base)
{
    struct file_store *s = (struct file_store *)(void *)base;
    struct lane *live = &s->lanes[LANE_LIVE], *backlog = &s->lanes[LANE_BACKLOG];

    loop_assert(base->loop);
    if (atomic_load(&s->is_split) || !file_waiting(s).n_bytes)
        return;
    assert(!backlog->ready && !backlog->ring_n);
    s->n_splits++;
    s->split_out = counters_sum(&s->out);
    atomic_store(&backlog->acked, get(&live->acked));
    if (live->ready) {
        backlog->ready = live->ready;
        backlog->ready_end = live->ready_end;
        live->ready = NULL;
        live->ready_end = &live->ready;
    }
    mem_free(backlog->ring);
    backlog->ring = live->ring;
    backlog->ring_cap = live->ring_cap;
    backlog->ring_from = live->ring_from;
    backlog->ring_n = live->ring_n;
    live->ring = NULL;
    live->ring_cap = live->ring_from = live->ring_n = 0;
    backlog->reader_waits = live->reader_waits = true;
    atomic_store(&live->is_resting, false);
    atomic_store(&backlog->is_resting, false);
    for (struct slice *slice = backlog->ready; slice; slice = slice->next)
        file_taken(slice); /* the live lane has its room back */
    atomic_store(&s->is_split, true);
    mailbox_post(&s->splits, &s->split_node);
}

static void move_log(struct lane *to, struct lane *from)
{
    struct list *node;

    assert(!to->active && !to->tail && !to->open.n_bytes && !to->reading && !to->walking);
    while ((node = list_take_first(&from->segments)))
        list_add_tail(&to->segments, node);
    to->active = from->active;
    to->tail_first = from->tail_first;
    to->tail = from->tail;
    to->open = from->open;
    to->must_restart = from->must_restart;
    to->walk = from->walk;
    to->walk_fd = from->walk_fd;
    to->reading = from->reading;
    to->walking = from->walking;
    to->read_off = from->read_off;
    to->saved_acked = from->saved_acked;
    to->given_to = from->given_to;
    to->keep_to = from->keep_to;
    from->given_to = from->keep_to = 0;
    from->active = from->reading = from->walking = NULL;
    from->tail_first = from->tail = NULL;
    from->open = (struct sum){0};
    from->must_restart = false;
    from->walk = (struct walk){0};
}

void file_split_arrived(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;
    struct lane *live = &s->lanes[LANE_LIVE];
    struct sum waiting = counters_sum(&s->in);

    for (const struct block *block = live->tail_first; block; block = block->next) {
        size_t from = block->off == 0 && block->n_committed < HEAD ? HEAD : block->n_committed;

        file_mark(live, block->bytes + from, block->bytes + block->n, live->active->pos + block->off + from);
    }
    lanes_split(&s->rule, s->pos);
    s->n_orders++;
    move_log(&s->lanes[LANE_BACKLOG], live);
    waiting = sum_less(sum_less(waiting, counters_sum(&s->lost)), s->split_out);
    counters_add(&s->backlog_in, waiting);
    file_feed(s);
    file_merge(s);
}

void file_merge(struct file_store *s)
{
    struct lane *backlog = &s->lanes[LANE_BACKLOG];
    struct sum gone = counters_sum(&s->backlog_out);

    if (LIKELY(!s->rule.is_split) || backlog->open.n_bytes)
        return;
    sum_add(&gone, counters_sum(&s->backlog_lost));
    if (get(&s->backlog_in.n_bytes) != gone.n_bytes || get(&s->backlog_in.n_events) != gone.n_events)
        return;
    file_segment_seal(backlog);
    file_read_on(backlog, NULL);
    LIST_EACH(node, &backlog->segments)
        segment_of(node)->start = segment_of(node)->end; /* removed once that is saved */
    s->rule.is_split = false;
    s->is_unsaved = true;
    atomic_store(&s->is_split, false);
}
