/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_impl.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    MAX_PIECES = 256, /* of one writev */
    SMALL_MAX = 64,   /* so little is copied anyway: cheaper than a piece of its own */
    KEEP_CAP = 1024,  /* emptied buffers up to this size are not given back */
    KEEP_SEGMENTS = 16,
    BROKEN_MS = 1000, /* how long the other end's last words are waited for when writing has failed */
};

bool stream_has_output(const struct stream *stream)
{
    return stream->wire_at < stream->wire.n || stream->first_segment < stream->n_segments;
}

void stream_out_fini(struct stream *stream)
{
    buf_fini(&stream->wire);
    buf_fini(&stream->copied);
    mem_free(stream->segments);
    stream->segments = NULL;
    stream->wire_at = stream->copied_at = 0;
    stream->first_segment = stream->n_segments = stream->cap_segments = 0;
}

/* --- the queue -------------------------------------------------------------------------------------------------------- */
static struct segment *new_segment(struct stream *stream)
{
    if (stream->n_segments == stream->cap_segments) {
        size_t n = stream->n_segments - stream->first_segment;

        if (stream->first_segment > stream->cap_segments / 2) {
            memmove(stream->segments, stream->segments + stream->first_segment, n * sizeof *stream->segments);
        } else {
            size_t cap = stream->cap_segments ? stream->cap_segments * 2 : KEEP_SEGMENTS;
            struct segment *segments = mem_new(cap * sizeof *segments);

            if (n)
                memcpy(segments, stream->segments + stream->first_segment, n * sizeof *segments);
            mem_free(stream->segments);
            stream->segments = segments;
            stream->cap_segments = cap;
        }
        stream->first_segment = 0;
        stream->n_segments = n;
    }
    return &stream->segments[stream->n_segments++];
}

static void queue(struct stream *stream, const uint8_t *p, size_t n)
{
    struct segment *last =
        stream->n_segments > stream->first_segment ? &stream->segments[stream->n_segments - 1] : NULL;

    if (last && (p ? last->p && last->p + last->n == p : !last->p))
        last->n += n;
    else
        *new_segment(stream) = (struct segment){p, n};
    stream->n_queued += n;
}

/* The first pieces of the queue, at most max bytes; gives how many. */
static int gather(const struct stream *stream, struct iovec *pieces, size_t max, size_t *total)
{
    const uint8_t *copied = stream->copied.p ? stream->copied.p + stream->copied_at : NULL;
    int n = 0;

    *total = 0;
    for (size_t i = stream->first_segment; i < stream->n_segments && n < MAX_PIECES && *total < max; i++) {
        const struct segment *segment = &stream->segments[i];
        const uint8_t *p = segment->p ? segment->p : copied;
        size_t take = segment->n < max - *total ? segment->n : max - *total;

        if (!segment->p)
            copied += segment->n;
        pieces[n++] = (struct iovec){(void *)p, take}; /* the kernel and the record layer only read */
        *total += take;
    }
    return n;
}

static void tidy(struct stream *stream)
{
    if (stream->first_segment == stream->n_segments) {
        stream->first_segment = stream->n_segments = 0;
        stream->copied.n = stream->copied_at = 0;
        if (stream->copied.cap > KEEP_CAP)
            buf_fini(&stream->copied);
        if (stream->cap_segments > KEEP_SEGMENTS) {
            mem_free(stream->segments);
            stream->segments = NULL;
            stream->cap_segments = 0;
        }
    } else if (stream->copied_at > stream->copied.n / 2) {
        buf_drop(&stream->copied, stream->copied_at);
        stream->copied_at = 0;
    }
}

static void dequeue(struct stream *stream, size_t n)
{
    stream->n_sent += n;
    while (n) {
        struct segment *segment = &stream->segments[stream->first_segment];
        size_t part = n < segment->n ? n : segment->n;

        if (segment->p)
            segment->p += part;
        else
            stream->copied_at += part;
        segment->n -= part;
        n -= part;
        if (segment->n == 0)
            stream->first_segment++;
    }
    tidy(stream);
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */
static void break_off(struct stream *stream, int number)
{
    stream->is_broken = true;
    stream->is_blocked = false;
    stream_out_fini(stream);
    if (stream->state == STREAM_DRAINING || stream->state == STREAM_LINGERING)
        stream_finish(stream, ERR_OK, NULL);
    else if (stream->is_paused)
        stream_lost(stream, number);
    else
        timer_start(&stream->deadline, BROKEN_MS); /* the reason why it was closed may stand in what is unread */
}

/* The kernel's answer to an attempt to write: how many bytes it took; 0: none now, or none ever. */
static size_t taken(struct stream *stream, ssize_t n)
{
    if (n >= 0) {
        stream->last_out_ms = loop_mono_ms(stream->loop);
        return (size_t)n;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS)
        stream->is_blocked = true;
    else
        break_off(stream, errno);
    return 0;
}

static bool can_write(const struct stream *stream)
{
    return stream->sock && stream->state < STREAM_ENDING && !stream->is_broken;
}

static bool write_wire(struct stream *stream)
{
    if (stream->session)
        stream->tls->drain(stream->session, &stream->wire);
    if (stream->wire_at < stream->wire.n) {
        size_t n = stream->wire.n - stream->wire_at;
        size_t n_taken = taken(stream, send(stream->sock->fd, stream->wire.p + stream->wire_at, n, MSG_NOSIGNAL));

        if (!can_write(stream))
            return false;
        stream->wire_at += n_taken;
        if (n_taken < n) {
            stream->is_blocked = true;
            return false;
        }
        stream->wire.n = stream->wire_at = 0;
        if (stream->wire.cap > KEEP_CAP)
            buf_fini(&stream->wire);
    }
    return true;
}

static bool write_clear(struct stream *stream)
{
    struct iovec pieces[MAX_PIECES];
    struct msghdr message = {.msg_iov = pieces};
    size_t n, n_taken;

    message.msg_iovlen = (size_t)gather(stream, pieces, SIZE_MAX, &n);
    n_taken = taken(stream, sendmsg(stream->sock->fd, &message, MSG_NOSIGNAL));
    if (!can_write(stream))
        return false;
    dequeue(stream, n_taken);
    if (n_taken < n)
        stream->is_blocked = true;
    return n_taken == n;
}

static bool write_records(struct stream *stream)
{
    struct iovec pieces[MAX_PIECES];
    struct why why = {0};
    size_t n;
    int n_pieces = gather(stream, pieces, STREAM_FLUSH_SIZE, &n);
    enum err err = stream->tls->write(stream->session, pieces, n_pieces, &why);

    if (err) {
        stream_finish(stream, err, &why);
        return false;
    }
    dequeue(stream, n);
    return write_wire(stream);
}

void stream_push_wire(struct stream *stream)
{
    if (can_write(stream) && !stream->is_blocked)
        write_wire(stream);
    if (stream->state < STREAM_ENDING)
        stream_update_watch(stream);
}

void stream_flush(struct stream *stream)
{
    bool goes_on = can_write(stream) && !stream->is_blocked && write_wire(stream);

    if (stream->state == STREAM_OPEN || stream->state == STREAM_DRAINING) {
        while (goes_on && stream->first_segment < stream->n_segments)
            goes_on = stream->session ? write_records(stream) : write_clear(stream);
    }
    if (stream->state < STREAM_ENDING)
        stream_update_watch(stream);
}

void stream_write(struct stream *stream, const void *p, size_t n, bool copy)
{
    if (n == 0 || stream->state > STREAM_OPEN)
        return;
    if (stream->is_broken) { /* .closed is near */
        stream->n_queued += n;
        return;
    }
    if (copy || n <= SMALL_MAX) {
        buf_add(&stream->copied, p, n);
        p = NULL;
    }
    queue(stream, p, n);
    if (stream->state == STREAM_OPEN) {
        if (stream->n_queued - stream->n_sent >= STREAM_FLUSH_SIZE && !stream->is_blocked)
            stream_flush(stream);
        if (stream->state == STREAM_OPEN && stream_has_output(stream)) {
            stream->owes_sent = true;
            if (!stream->is_blocked)
                late_arm(stream->loop, &stream->flush);
        }
    }
}

uint64_t stream_queued(const struct stream *stream)
{
    return stream->n_queued;
}

uint64_t stream_sent(const struct stream *stream)
{
    return stream->n_sent;
}
