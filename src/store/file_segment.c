/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PARTS = 128 };

/* --- blocks ------------------------------------------------------------------------------------------------------------- */

static struct block *block_new(struct file_store *s, size_t size)
{
    struct block *block = s->kept;
    size_t cap = BLOCK_SIZE;

    if (size > cap) {
        cap = (size + BLOCK_MIN - 1) & ~(size_t)(BLOCK_MIN - 1);
        block = NULL;
    }
    if (block) {
        s->kept = block->next;
        s->n_kept--;
        cap = block->cap;
    } else {
        block = mem_zero(sizeof *block);
        block->bytes = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block->bytes == MAP_FAILED)
            mem_die(cap);
    }
    *block = (struct block){.bytes = block->bytes, .cap = cap, .group = SIZE_MAX, .n_refs = 1};
    return block;
}

static void block_unmap(struct block *block)
{
    munmap(block->bytes, block->cap);
    mem_free(block);
}

void file_block_unref(struct file_store *s, struct block *block)
{
    if (--block->n_refs)
        return;
    if (block->cap == BLOCK_SIZE && s->n_kept < KEEP_BLOCKS) {
        block->next = s->kept;
        s->kept = block;
        s->n_kept++;
    } else {
        block_unmap(block);
    }
}

/* A block of the active segment, with room for n bytes in one piece. */
struct block *file_block_for(struct lane *lane, size_t n)
{
    struct file_store *s = lane->store;
    struct block *tail = lane->tail;

    if (tail && tail->cap - tail->n >= n)
        return tail;
    struct block *block = block_new(s, n);

    block->off = tail ? tail->off + tail->n : lane->active->end;
    if (tail)
        tail->next = block;
    else
        lane->tail_first = block;
    lane->tail = block;
    return block;
}

struct block *file_block_alone(struct file_store *s, size_t n)
{
    return block_new(s, n);
}

static void drop_first_block(struct lane *lane)
{
    struct file_store *s = lane->store;
    struct block *block = lane->tail_first;

    lane->tail_first = block->next;
    if (!lane->tail_first)
        lane->tail = NULL;
    file_block_unref(s, block);
}

static bool is_passed(const struct lane *lane, const struct block *block)
{
    return lane->reading == lane->active && lane->read_off >= block->off + block->n;
}

void file_blocks_trim(struct lane *lane)
{
    unsigned n = 0;

    for (struct block *block = lane->tail_first; block; block = block->next)
        n++;
    while (lane->tail_first && lane->tail_first != lane->tail && lane->tail_first->n_committed == lane->tail_first->n &&
           (n > TAIL_BLOCKS + 1 || is_passed(lane, lane->tail_first))) {
        drop_first_block(lane);
        n--;
    }
}

static void free_tail(struct lane *lane)
{
    while (lane->tail_first)
        drop_first_block(lane);
}

void file_blocks_free(struct file_store *s)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];

        if (lane->tail_first && lane->tail_first == lane->tail && lane->tail->n_committed == lane->tail->n &&
            is_passed(lane, lane->tail))
            free_tail(lane);
    }
    while (s->kept) {
        struct block *block = s->kept;

        s->kept = block->next;
        block_unmap(block);
    }
    s->n_kept = 0;
}

/* --- segments as files ------------------------------------------------------------------------------------------------------ */

struct segment *file_segment_new(uint64_t base, uint64_t boot)
{
    struct segment *segment = mem_zero(sizeof *segment);

    segment->base = base;
    segment->boot = boot;
    segment->start = segment->end = HEAD;
    segment->fd = -1;
    segment_name(segment->name, base);
    return segment;
}

static size_t size_for(const struct file_store *s, size_t n_bytes)
{
    size_t least = HEAD + sizeof(struct group_head) + n_bytes;
    uint64_t size = s->fitting_bytes && s->fitting_bytes < s->segment_bytes ? s->fitting_bytes : s->segment_bytes;

    return size > least ? size : least;
}

bool file_must_rotate(const struct lane *lane, size_t n_bytes)
{
    const struct file_store *s = lane->store;
    const struct segment *active = lane->active;
    uint64_t at = lane->tail ? lane->tail->off + lane->tail->n : active->end;

    return at > HEAD && (at + 2 * sizeof(struct group_head) + n_bytes > active->n_file ||
                         (s->segment_events && active->n_ever >= s->segment_events));
}

/* While there are two lanes the batch may go to either, or both. */
bool file_has_files_room(const struct file_store *s, size_t n_bytes)
{
    uint64_t n = 0;

    if (list_is_empty(&s->lanes[LANE_LIVE].segments) && list_is_empty(&s->lanes[LANE_BACKLOG].segments))
        return true;
    for (int i = 0; i < (s->rule.is_split ? LANES : 1); i++)
        if (!s->lanes[i].active || file_must_rotate(&s->lanes[i], n_bytes))
            n += size_for(s, n_bytes);
    if (!n)
        return true;
    if (s->io->has_room && !s->io->has_room(s->io, n))
        return false;
    return !s->conf.max_bytes || s->files_bytes + n <= s->conf.max_bytes;
}

void file_segment_begin(struct lane *lane, size_t n_bytes)
{
    struct file_store *s = lane->store;
    struct segment *segment = file_segment_new(s->next, s->boot);
    struct segment_head head;
    struct block *block;

    assert(!lane->active && !lane->tail);
    segment->created_ms = loop_wall_ms(s->own);
    segment->n_file = size_for(s, n_bytes);
    segment->order = 2 * s->n_orders + (lane->which == LANE_LIVE);
    segment->pos = s->pos;
    s->files_bytes += segment->n_file;
    s->next += segment->n_file;
    s->pos += segment->n_file;
    list_add_tail(&lane->segments, &segment->node);
    lane->active = segment;
    segment->end = 0; /* the head is part of the first write */
    block = file_block_for(lane, HEAD);
    segment_head_make(&head, segment->base, segment->boot, segment->created_ms, segment->order);
    memcpy(block->bytes, &head, HEAD);
    block->n = HEAD;
    segment->end = HEAD;
    if (!lane->reading) {
        lane->reading = segment;
        lane->read_off = HEAD;
    }
}

static int create(struct file_store *s, struct segment *segment)
{
    int number;

    segment->fd = s->io->open(s->io, s->dir, segment->name, O_RDWR | O_CREAT | O_TRUNC, 0640);
    if (segment->fd < 0)
        return errno;
    segment->has_file = true;
    if (s->io->allocate(s->io, segment->fd, (off_t)segment->n_file) == 0) {
        if (s->fitting_bytes)
            s->fitting_bytes = segment->n_file < s->segment_bytes ? 2 * segment->n_file : 0;
        return 0;
    }
    number = errno;
    s->io->close(s->io, segment->fd);
    segment->fd = -1;
    segment->has_file = s->io->unlink(s->io, s->dir, segment->name) != 0;
    return number;
}

/* For a segment that could not be begun; the next ones are twice as large each, until one is as large as they should be. */
bool file_reserve_less(struct lane *lane)
{
    struct file_store *s = lane->store;
    struct segment *segment = lane->active;
    uint64_t least = (lane->tail->off + lane->tail->n + BLOCK_MIN - 1) & ~(uint64_t)(BLOCK_MIN - 1);
    uint64_t half = segment->n_file / 2 & ~(uint64_t)(BLOCK_MIN - 1);

    if (s->io->is_elastic || segment->fd >= 0 || segment->n_file <= least)
        return false;
    half = half > least ? half : least;
    s->files_bytes -= segment->n_file - half;
    segment->n_file = s->fitting_bytes = half;
    return true;
}

static int write_blocks(struct lane *lane, struct segment *segment)
{
    struct file_store *s = lane->store;
    struct iovec parts[PARTS];
    int n_parts = 0;
    uint64_t at = 0;

    for (struct block *block = lane->tail_first; block; block = block->next) {
        if (block->n == block->n_committed)
            continue;
        assert(n_parts < PARTS);
        if (!n_parts)
            at = block->off + block->n_committed;
        parts[n_parts++] = (struct iovec){block->bytes + block->n_committed, block->n - block->n_committed};
    }
    return file_io_write_all(s->io, segment->fd, parts, n_parts, (off_t)at) ? errno : 0;
}

/* The same bytes may go to the same place again, later: none of them is there. Else this file is not trusted any more. */
static bool may_be_repeated(const struct file_store *s, const struct segment *segment, int number)
{
    if (!s->io->is_elastic)
        return number == ENOSPC || number == EDQUOT;
    return number != EIO && number != ENOMEM && segment->end == HEAD; /* else what is delivered could not be removed */
}

static int write_and_sync(struct lane *lane, struct segment *segment)
{
    struct file_store *s = lane->store;
    int number;

    if (segment->fd < 0) {
        number = create(s, segment);
        if (number)
            return number;
    }
    number = write_blocks(lane, segment);
    if (number) {
        lane->must_restart = !may_be_repeated(s, segment, number);
        return number;
    }
    if (s->io->fdatasync(s->io, segment->fd) || (!segment->is_synced && s->io->fsync(s->io, s->dir))) {
        lane->must_restart = true; /* the system has forgotten which pages it could not write */
        return errno;
    }
    segment->is_synced = true;
    return 0;
}

int file_write(struct lane *lane)
{
    struct file_store *s = lane->store;
    int number;

    atomic_store(&s->commit_since_ms, clock_mono_ms());
    number = write_and_sync(lane, lane->active);
    atomic_store(&s->commit_since_ms, 0);
    return number;
}

static void shorten(struct file_store *s, struct segment *segment)
{
    if (segment->fd < 0)
        return;
    if (s->io->truncate(s->io, segment->fd, (off_t)segment->end) == 0) {
        s->files_bytes -= segment->n_file - segment->end;
        segment->n_file = segment->end;
    }
    s->io->close(s->io, segment->fd);
    segment->fd = -1;
}

void file_segment_seal(struct lane *lane)
{
    struct file_store *s = lane->store;
    struct segment *segment = lane->active;

    if (!segment)
        return;
    assert(!lane->open.n_bytes);
    file_feed_lane(lane); /* what a reader that keeps up takes from memory */
    lane->active = NULL;
    free_tail(lane);
    shorten(s, segment);
    if (!segment->has_file) /* nothing was ever written */
        file_segment_remove(lane, segment);
}

/* So that nothing is there twice should neither the former be cut off nor the state be saved. */
static void put_cut(struct lane *lane, const struct segment *old)
{
    struct block *block = lane->tail;

    assert(block->n == HEAD && block->cap - HEAD >= sizeof(struct cut_head));
    cut_head_make((struct cut_head *)(void *)(block->bytes + HEAD), old->base, old->end);
    block->n += sizeof(struct cut_head);
}

/* What is not durable goes to a new segment; the former ends with what is. */
void file_restart(struct lane *lane)
{
    struct file_store *s = lane->store;
    struct segment *old = lane->active;
    struct block *block = lane->tail_first;
    bool has_cut = old->end == HEAD && old->is_continued;

    lane->must_restart = false;
    LOG_WARN(s->log, "a segment is given up and its last records are written to a new one", KV_Z("file", old->name));
    lane->active = NULL;
    lane->tail_first = lane->tail = NULL;
    old->is_cut = true;
    s->is_unsaved = true;
    shorten(s, old);
    file_segment_begin(lane, lane->open.n_bytes + PARTS * sizeof(struct group_head));
    lane->active->n_ever = lane->open.n_events;
    lane->active->is_continued = true;
    if (!has_cut) /* else it is among what is copied */
        put_cut(lane, old);
    while (block) {
        struct block *next = block->next;
        size_t from = block->off == 0 && block->n_committed < HEAD ? HEAD : block->n_committed, n = block->n - from;

        if (n) {
            struct block *to = file_block_for(lane, n);

            memcpy(to->bytes + to->n, block->bytes + from, n);
            to->n += n;
        }
        file_block_unref(s, block);
        block = next;
    }
    if (old->end == HEAD) /* nothing in it was ever durable */
        file_segment_remove(lane, old);
}

/* 0, or -1 and errno. What could not be read stays for whoever wants to try. */
static int remove_file(struct file_store *s, const struct segment *segment)
{
    if (segment->is_unread && quarantine_segment(s->io, s->dir, segment->name) == ERR_OK) {
        LOG_WARN(s->log, "a segment that could not be read in full is kept in quarantine", KV_Z("file", segment->name));
        return 0;
    }
    return s->io->unlink(s->io, s->dir, segment->name);
}

void file_segment_remove(struct lane *lane, struct segment *segment)
{
    struct file_store *s = lane->store;

    if (segment->has_file && remove_file(s, segment) && errno != ENOENT) {
        if (!segment->is_stuck)
            LOG_WARN(s->log, "a delivered segment cannot be removed", KV_Z("file", segment->name),
                     KV_ERR(err_from_errno(errno)));
        segment->is_stuck = true;
        return; /* tried again with the next */
    }
    file_reading_gone(lane, segment);
    s->files_bytes -= segment->n_file;
    if (segment->fd >= 0)
        s->io->close(s->io, segment->fd);
    list_del(&segment->node);
    mem_free(segment);
}

static void remove_acked(struct lane *lane)
{
    LIST_EACH_SAFE(node, &lane->segments) {
        struct segment *segment = segment_of(node);

        if (segment == lane->active || !segment_is_done(lane, segment) ||
            (segment == lane->reading && lane->read_off < segment->end))
            break;
        file_segment_remove(lane, segment);
    }
}

/* --- the state file ----------------------------------------------------------------------------------------------------------- */

static uint64_t acked_in(const struct segment *segment, uint64_t acked)
{
    uint64_t off = acked > segment->pos ? acked - segment->pos : 0;

    off = off < segment->end ? off : segment->end;
    return off > segment->start ? off : segment->start;
}

static void describe(const struct lane *lane, struct state *state, uint64_t acked)
{
    size_t n = state->n_segments;

    LIST_EACH(node, &lane->segments)
        n++;
    state->segments = mem_grow(state->segments, (n + 1) * sizeof *state->segments);
    LIST_EACH(node, &lane->segments) {
        const struct segment *segment = segment_of(node);
        uint64_t off = acked_in(segment, acked);

        if (off > HEAD || segment->is_cut || segment->lost.n_events || segment->lost.n_values)
            state->segments[state->n_segments++] = (struct state_segment){
                segment->base,          segment->boot,         off, segment->is_cut ? segment->end : 0,
                segment->lost.n_events, segment->lost.n_values};
    }
}

/* is_cut: a file may hold more than is to be read of it, and only this says so. Else a loss of power costs no more than repeats. */
static int write_state(struct file_store *s, struct buf *text, bool is_cut)
{
    int fd = s->io->open(s->io, s->dir, "state.new", O_WRONLY | O_CREAT | O_TRUNC, 0640), number = 0;

    if (fd < 0)
        return errno;
    if (file_io_write_all(s->io, fd, &(struct iovec){text->p, text->n}, 1, 0) || s->io->fdatasync(s->io, fd))
        number = errno;
    s->io->close(s->io, fd);
    if (!number && (s->io->rename(s->io, s->dir, "state.new", "state") || (is_cut && s->io->fsync(s->io, s->dir))))
        number = errno;
    return number;
}

void file_save(struct file_store *s)
{
    autobuf struct buf text = {0};
    struct state state = {0};
    bool is_cut = false;
    uint64_t acked[LANES], began_ms = loop_mono_ms(s->own), took_ms = clock_mono_ms();
    int number;

    s->saved_events = get(&s->out.n_events);
    for (int i = 0; i < LANES; i++) {
        acked[i] = get(&s->lanes[i].acked);
        describe(&s->lanes[i], &state, acked[i]);
    }
    state.next = s->next;
    state.n_acked_values = get(&s->out.n_values);
    state.n_dropped_events = get(&s->n_door_events) + get(&s->lost.n_events);
    state.n_dropped_values = get(&s->n_door_values) + get(&s->lost.n_values);
    for (size_t i = 0; i < state.n_segments; i++)
        is_cut |= state.segments[i].end != 0;
    state_print(&state, &text);
    state_fini(&state);
    number = write_state(s, &text, is_cut);
    if (number) {
        if (!atomic_load(&s->save_trouble))
            LOG_ERROR(s->log, "the state of delivery cannot be saved: after a restart data may arrive twice",
                      KV_Z("directory", s->path), KV_ERR(err_from_errno(number)));
        file_set_save_trouble(s, "the state file cannot be written");
    } else {
        file_set_save_trouble(s, NULL);
    }
    s->is_unsaved = number != 0;
    took_ms = clock_mono_ms() - took_ms;
    s->saved_ms = began_ms;
    s->save_gap_ms = took_ms * SAVE_SHARE > SAVE_MIN_MS ? took_ms * SAVE_SHARE : SAVE_MIN_MS;
    for (int i = 0; i < LANES; i++) { /* also if it failed: removing what was delivered is what makes room */
        s->lanes[i].saved_acked = acked[i];
        remove_acked(&s->lanes[i]);
    }
}

static bool has_delivered(const struct lane *lane)
{
    uint64_t acked = get(&lane->acked);
    const struct segment *first = list_is_empty(&lane->segments) ? NULL : segment_of(lane->segments.next);

    return first && first != lane->active && first->pos + first->end <= acked && acked > lane->saved_acked;
}

bool file_remove_delivered(struct file_store *s)
{
    uint64_t before = s->files_bytes;

    if (has_delivered(&s->lanes[LANE_LIVE]) || has_delivered(&s->lanes[LANE_BACKLOG]))
        file_save(s);
    return s->files_bytes < before;
}
