/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of the file store: what is dropped to make room, or because it is old.
 *
 * drop_oldest drops the oldest segment of which nothing is in flight. What stands ready for the reader (AHEAD) is not in flight,
 * but it is on the reader's loop. So it is asked for first, and what needs the room waits for the answer:
 *
 *     store's thread   recall ──────────────────────────► takes back, drops, appends what has waited
 *     reader's loop           └► gives back what nobody has read ┘ and gets nothing more until it reads again
 */
#include "store/file_impl.h"

#include "base/log.h"

#include <fcntl.h>

/* --- the store's thread ------------------------------------------------------------------------------------------------- */

/* For as long as nothing stands ready. */
static void note_unread(struct file_store *s)
{
    int64_t wall_ms = 0;

    for (int i = 0; i < LANES; i++) {
        const struct segment *segment = s->lanes[i].reading;

        if (segment && segment->created_ms && (!wall_ms || segment->created_ms < wall_ms))
            wall_ms = segment->created_ms;
    }
    atomic_store_explicit(&s->unread_ms, wall_ms, memory_order_relaxed);
}

void file_drop(struct lane *lane, struct segment *segment, bool is_old)
{
    struct file_store *s = lane->store;
    struct sum rest = sum_less(segment->all, segment->given);
    struct losers *losers = mem_zero(sizeof *losers);
    uint64_t from = lane->reading == segment && lane->read_off > segment->start ? lane->read_off : segment->start;
    int fd = s->io->open(s->io, s->dir, segment->name, O_RDONLY, 0);

    losers->is_old = is_old;
    if (fd >= 0) {
        struct walk walk;

        walk_init(&walk, s->io, fd, from, segment->end);
        for (enum walk_step step; (step = walk_next(&walk)) != WALK_END;)
            if (step == WALK_RECORD)
                file_count_lost_device(walk.record, losers);
        walk_fini(&walk);
        s->io->close(s->io, fd);
    }
    file_count_lost(lane, rest);
    if (is_old)
        LOG_WARN(s->log, "records are older than the limit and are dropped", KV_UINT("events", rest.n_events),
                 KV_UINT("values", rest.n_values));
    else
        drop_log_note(&s->drop_log, rest.n_events, rest.n_values);
    if (segment->given.n_bytes)
        lane->keep_to = lane->given_to; /* what the reader has of it is nowhere else */
    segment->all = segment->given;
    segment->start = segment->end; /* should the file stay: nothing of it is read any more */
    if (lane->reading == segment)
        lane->read_off = segment->end;
    s->is_unsaved = true;
    file_tell_losers(s, losers);
    file_segment_remove(lane, segment);
    note_unread(s);
}

/* Something in it waits, and nothing of it is in flight. */
static bool may_drop(const struct lane *lane, const struct segment *segment)
{
    uint64_t acked = get(&lane->acked);

    return segment->all.n_bytes > segment->given.n_bytes &&
           (lane->given_to <= acked || lane->given_to <= segment->pos + segment->start);
}

static struct segment *droppable(const struct lane *lane)
{
    LIST_EACH(node, &lane->segments) {
        struct segment *segment = segment_of(node);

        if (segment != lane->active && may_drop(lane, segment))
            return segment;
    }
    return NULL;
}

/* False: there is none, or its room did not come back. */
bool file_drop_oldest(struct file_store *s)
{
    uint64_t before = s->files_bytes;
    struct lane *lane = &s->lanes[LANE_LIVE];
    struct segment *segment = droppable(lane), *other = droppable(&s->lanes[LANE_BACKLOG]);

    if (other && (!segment || other->base < segment->base)) {
        lane = &s->lanes[LANE_BACKLOG];
        segment = other;
    }
    if (segment)
        file_drop(lane, segment, false);
    return s->files_bytes < before;
}

bool file_may_drop_active(const struct lane *lane)
{
    return lane->active && may_drop(lane, lane->active);
}

bool file_recall(struct file_store *s)
{
    bool is_ahead = false;

    if (s->is_recalling || s->was_recalled)
        return s->is_recalling;
    for (int i = 0; i < LANES; i++) {
        const struct lane *lane = &s->lanes[i];
        uint64_t acked = get(&lane->acked);

        if (lane->keep_to > acked)
            return false;
        is_ahead |= lane->given_to > acked && !atomic_load(&lane->is_resting);
    }
    if (is_ahead) {
        s->is_recalling = true;
        mailbox_post(&s->recalls, &s->recall.node);
    }
    return is_ahead;
}

static void take_back(struct file_store *s, const struct back *back)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];

        LIST_EACH(node, &lane->segments) {
            struct segment *segment = segment_of(node);

            if (back->from < segment->pos || back->from >= segment->pos + segment->end)
                continue;
            segment->given = sum_less(segment->given, back->sum);
            if (lane->reading && back->from >= lane->reading->pos + lane->read_off)
                return;
            file_read_on(lane, segment); /* the first of the lane */
            lane->read_off = back->from - segment->pos;
            lane->given_to = back->kept_to;
            return;
        }
    }
    assert(false); /* what stood ready has a segment */
}

void file_recall_answered(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;

    s->is_recalling = false;
    for (size_t i = 0; i < s->recall.n; i++)
        take_back(s, &s->recall.backs[i]);
    note_unread(s);
    if (s->is_stopped)
        return;
    s->was_recalled = true;
    file_append_again(s);
    s->was_recalled = false;
    if (s->recall.n && atomic_load(&s->trouble))
        timer_start(&s->retry, 0);
    file_feed(s);
    file_merge(s);
}

/* --- the reader's loop -------------------------------------------------------------------------------------------------- */

static void add_back(struct recall *recall, struct back back)
{
    if (recall->n == recall->cap) {
        recall->cap = recall->cap ? 2 * recall->cap : 16;
        recall->backs = mem_grow(recall->backs, recall->cap * sizeof *recall->backs);
    }
    recall->backs[recall->n++] = back;
}

/* What of it was read stays until it is released. */
static void give_back(struct lane *lane, struct slice *slice, uint64_t kept_to)
{
    struct back back = {.from = file_position_of(slice, slice->n_taken), .kept_to = kept_to, .sum = slice->sum};

    if (slice->n_taken) {
        back.sum = (struct sum){0};
        for (size_t at = slice->n_taken; at < slice->n; at += record_at(slice->bytes + at)->size)
            sum_record(&back.sum, record_at(slice->bytes + at));
    }
    add_back(&lane->store->recall, back);
    slice->is_listed = false;
    file_taken(slice);
    if (!slice->n_chunks)
        file_slice_return(slice);
}

void file_recall_arrived(void *arg, UNUSED struct node *nodes)
{
    struct file_store *s = arg;

    file_slices_arrived(s, queue_take(&s->slices.queue)); /* what its handler has not seen yet */
    s->recall.n = 0;
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];
        uint64_t kept_to =
            lane->ring_n ? lane->ring[(lane->ring_from + lane->ring_n - 1) % lane->ring_cap].to : get(&lane->acked);

        while (lane->ready) {
            struct slice *slice = lane->ready;

            lane->ready = slice->next;
            give_back(lane, slice, kept_to);
        }
        lane->ready_end = &lane->ready;
        atomic_store(&lane->is_resting, !lane->reader_waits);
    }
    file_note_oldest(s);
    mailbox_post(&s->recalled, &s->recall.node);
}
