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

/* A block of the reader's, or of the active segment, with room for n bytes in one piece. */
struct block *file_block_for(struct file_store *s, size_t n)
{
    struct block *tail = s->tail;

    if (tail && tail->cap - tail->n >= n)
        return tail;
    struct block *block = block_new(s, n);

    block->off = tail ? tail->off + tail->n : s->active->end;
    if (tail)
        tail->next = block;
    else
        s->tail_first = block;
    s->tail = block;
    return block;
}

struct block *file_block_alone(struct file_store *s, size_t n)
{
    return block_new(s, n);
}

static void drop_first_block(struct file_store *s)
{
    struct block *block = s->tail_first;

    s->tail_first = block->next;
    if (!s->tail_first)
        s->tail = NULL;
    file_block_unref(s, block);
}

static bool is_passed(const struct file_store *s, const struct block *block)
{
    return s->reading == s->active && s->read_off >= block->off + block->n;
}

void file_blocks_trim(struct file_store *s)
{
    unsigned n = 0;

    for (struct block *block = s->tail_first; block; block = block->next)
        n++;
    while (s->tail_first && s->tail_first != s->tail && s->tail_first->n_committed == s->tail_first->n &&
           (n > TAIL_BLOCKS + 1 || is_passed(s, s->tail_first))) {
        drop_first_block(s);
        n--;
    }
}

static void free_tail(struct file_store *s)
{
    while (s->tail_first)
        drop_first_block(s);
}

void file_blocks_free(struct file_store *s)
{
    if (s->tail_first && s->tail_first == s->tail && s->tail->n_committed == s->tail->n && is_passed(s, s->tail))
        free_tail(s);
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

    return s->segment_bytes > least ? s->segment_bytes : least;
}

bool file_must_rotate(const struct file_store *s, size_t n_bytes)
{
    const struct segment *active = s->active;
    uint64_t at = s->tail ? s->tail->off + s->tail->n : active->end;

    return at > HEAD && (at + 2 * sizeof(struct group_head) + n_bytes > active->n_file ||
                         (s->segment_events && active->n_ever >= s->segment_events));
}

bool file_has_files_room(const struct file_store *s, size_t n_bytes)
{
    if (list_is_empty(&s->segments) || (s->active && !file_must_rotate(s, n_bytes)))
        return true;
    if (s->io->has_room && !s->io->has_room(s->io, size_for(s, n_bytes)))
        return false;
    if (!s->conf.max_bytes)
        return true;
    return s->files_bytes + size_for(s, n_bytes) <= s->conf.max_bytes;
}

void file_segment_begin(struct file_store *s, size_t n_bytes)
{
    struct segment *segment = file_segment_new(s->next, s->boot);
    struct segment_head head;
    struct block *block;

    assert(!s->active && !s->tail);
    segment->created_ms = loop_wall_ms(s->own);
    segment->n_file = size_for(s, n_bytes);
    s->files_bytes += segment->n_file;
    s->next += segment->n_file;
    list_add_tail(&s->segments, &segment->node);
    s->active = segment;
    segment->end = 0; /* the head is part of the first write */
    block = file_block_for(s, HEAD);
    segment_head_make(&head, segment->base, segment->boot, segment->created_ms);
    memcpy(block->bytes, &head, HEAD);
    block->n = HEAD;
    segment->end = HEAD;
    if (!s->reading) {
        s->reading = segment;
        s->read_off = HEAD;
    }
}

static int create(struct file_store *s, struct segment *segment)
{
    int number;

    segment->fd = s->io->open(s->io, s->dir, segment->name, O_RDWR | O_CREAT | O_TRUNC, 0640);
    if (segment->fd < 0)
        return errno;
    segment->has_file = true;
    if (s->io->allocate(s->io, segment->fd, (off_t)segment->n_file) == 0)
        return 0;
    number = errno;
    s->io->close(s->io, segment->fd);
    segment->fd = -1;
    segment->has_file = s->io->unlink(s->io, s->dir, segment->name) != 0;
    return number;
}

static int write_blocks(struct file_store *s, struct segment *segment)
{
    struct iovec parts[PARTS];
    int n_parts = 0;
    uint64_t at = 0;

    for (struct block *block = s->tail_first; block; block = block->next) {
        if (block->n == block->n_committed)
            continue;
        assert(n_parts < PARTS);
        if (!n_parts)
            at = block->off + block->n_committed;
        parts[n_parts++] = (struct iovec){block->bytes + block->n_committed, block->n - block->n_committed};
    }
    return file_io_write_all(s->io, segment->fd, parts, n_parts, (off_t)at) ? errno : 0;
}

static int write_and_sync(struct file_store *s, struct segment *segment)
{
    int number;

    if (segment->fd < 0) {
        number = create(s, segment);
        if (number)
            return number;
    }
    number = write_blocks(s, segment);
    if (number) { /* no room: the same bytes again, later; else this file is not trusted any more */
        s->must_restart = number != ENOSPC && number != EDQUOT;
        return number;
    }
    if (s->io->fdatasync(s->io, segment->fd) || (!segment->is_synced && s->io->fsync(s->io, s->dir))) {
        s->must_restart = true; /* the system has forgotten which pages it could not write */
        return errno;
    }
    segment->is_synced = true;
    return 0;
}

int file_write(struct file_store *s)
{
    int number;

    atomic_store(&s->commit_since_ms, clock_mono_ms());
    number = write_and_sync(s, s->active);
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

void file_segment_seal(struct file_store *s)
{
    struct segment *segment = s->active;

    if (!segment)
        return;
    assert(!s->open.n_bytes);
    file_feed(s); /* what a reader that keeps up takes from memory */
    s->active = NULL;
    free_tail(s);
    shorten(s, segment);
    if (!segment->has_file) /* nothing was ever written */
        file_segment_remove(s, segment);
}

/* What is not durable goes to a new segment; the former ends with what is. */
void file_restart(struct file_store *s)
{
    struct segment *old = s->active;
    struct block *block = s->tail_first;

    s->must_restart = false;
    LOG_WARN(s->log, "a segment is given up and its last records are written to a new one", KV_Z("file", old->name));
    s->active = NULL;
    s->tail_first = s->tail = NULL;
    old->is_cut = true;
    s->is_unsaved = true;
    shorten(s, old);
    file_segment_begin(s, s->open.n_bytes + PARTS * sizeof(struct group_head));
    s->active->n_ever = s->open.n_events;
    while (block) {
        struct block *next = block->next;
        size_t from = block->off == 0 && block->n_committed < HEAD ? HEAD : block->n_committed, n = block->n - from;

        if (n) {
            struct block *to = file_block_for(s, n);

            memcpy(to->bytes + to->n, block->bytes + from, n);
            to->n += n;
        }
        file_block_unref(s, block);
        block = next;
    }
    if (old->end == HEAD) /* nothing in it was ever durable */
        file_segment_remove(s, old);
}

void file_segment_remove(struct file_store *s, struct segment *segment)
{
    if (segment->has_file && s->io->unlink(s->io, s->dir, segment->name) && errno != ENOENT) {
        LOG_WARN(s->log, "a delivered segment cannot be removed", KV_Z("file", segment->name),
                 KV_ERR(err_from_errno(errno)));
        return; /* tried again with the next */
    }
    file_reading_gone(s, segment);
    s->files_bytes -= segment->n_file;
    if (segment->fd >= 0)
        s->io->close(s->io, segment->fd);
    list_del(&segment->node);
    mem_free(segment);
}

void file_remove_acked(struct file_store *s)
{
    uint64_t acked = s->saved_acked;

    LIST_EACH_SAFE(node, &s->segments) {
        struct segment *segment = segment_of(node);

        if (segment == s->active || segment->base + segment->end > acked ||
            (segment == s->reading && s->read_off < segment->end))
            break;
        file_segment_remove(s, segment);
    }
}

/* --- the state file ----------------------------------------------------------------------------------------------------------- */

static uint64_t acked_in(const struct segment *segment, uint64_t acked)
{
    uint64_t off = acked > segment->base ? acked - segment->base : 0;

    off = off < segment->end ? off : segment->end;
    return off > segment->start ? off : segment->start;
}

static void describe(const struct file_store *s, struct state *state, uint64_t acked)
{
    size_t n = 0;

    LIST_EACH(node, &s->segments)
        n++;
    state->segments = mem_new((n + 1) * sizeof *state->segments);
    LIST_EACH(node, &s->segments) {
        const struct segment *segment = segment_of(node);
        uint64_t off = acked_in(segment, acked);

        if (off > HEAD || segment->is_cut || segment->lost.n_events || segment->lost.n_values)
            state->segments[state->n_segments++] = (struct state_segment){
                segment->base,          segment->boot,         off, segment->is_cut ? segment->end : 0,
                segment->lost.n_events, segment->lost.n_values};
    }
    state->next = s->next;
    state->n_acked_values = get(&s->out.n_values);
    state->n_dropped_events = get(&s->n_door_events) + get(&s->lost.n_events);
    state->n_dropped_values = get(&s->n_door_values) + get(&s->lost.n_values);
}

static int write_state(struct file_store *s, struct buf *text)
{
    int fd = s->io->open(s->io, s->dir, "state.new", O_WRONLY | O_CREAT | O_TRUNC, 0640), number = 0;

    if (fd < 0)
        return errno;
    if (file_io_write_all(s->io, fd, &(struct iovec){text->p, text->n}, 1, 0) || s->io->fdatasync(s->io, fd))
        number = errno;
    s->io->close(s->io, fd);
    if (!number && s->io->rename(s->io, s->dir, "state.new", "state"))
        number = errno;
    return number;
}

void file_save(struct file_store *s)
{
    autobuf struct buf text = {0};
    struct state state = {0};
    uint64_t acked = atomic_load(&s->acked);
    int number;

    describe(s, &state, acked);
    state_print(&state, &text);
    state_fini(&state);
    number = write_state(s, &text);
    if (number) {
        if (!atomic_load(&s->save_trouble))
            LOG_ERROR(s->log, "the state of delivery cannot be saved: after a restart data may arrive twice",
                      KV_Z("directory", s->path), KV_ERR(err_from_errno(number)));
        atomic_store(&s->save_trouble, "the state file cannot be written");
    } else {
        atomic_store(&s->save_trouble, NULL);
    }
    s->is_unsaved = number != 0;
    s->saved_acked = acked; /* also if it failed: removing what was delivered is what makes room */
    file_remove_acked(s);
}
