/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_impl.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    COPY_MAX = 16 * 1024, /* leftovers up to this go in front of the shared buffer; larger ones stay and grow */
    GROW_MIN = 64 * 1024, /* room for one read behind a large leftover */
    TLS_READ_SIZE = 64 * 1024,
    KEEP_CAP = 256, /* an empty leftover buffer up to this size is not given back */
};

/* Where the next bytes go: behind the leftover, in the shared buffer or, when it is large, in its own. */
struct inlet {
    uint8_t *p;    /* begins with the leftover */
    size_t n, cap; /* the leftover; how much may stand at p, without the slack */
    bool is_own;
};

static size_t leftover(const struct stream *stream)
{
    return stream->in.n - stream->in_at;
}

static bool can_read(const struct stream *stream)
{
    return stream->state == STREAM_OPEN && !stream->is_paused;
}

void stream_in_fini(struct stream *stream)
{
    buf_fini(&stream->in);
    stream->in_at = 0;
}

static void drop(struct stream *stream, size_t n)
{
    stream->in_at += n;
    if (stream->in_at < stream->in.n)
        return;
    stream->in_at = stream->in.n = 0;
    if (stream->in.cap > KEEP_CAP)
        buf_fini(&stream->in);
}

/* Makes p the leftover, in a buffer that fits. p does not lie in the buffer. */
enum err stream_keep(struct stream *stream, const uint8_t *p, size_t n)
{
    stream->in.n = stream->in_at = 0;
    if (n == 0) {
        drop(stream, 0);
        return ERR_OK;
    }
    if (buf_try_grow(&stream->in, n + STREAM_SLACK, STREAM_NEED_MAX + STREAM_SLACK))
        return ERR_NOMEM;
    buf_add(&stream->in, p, n);
    return ERR_OK;
}

/* The buffer of a large leftover: grows with what has come, not with what the other end has announced. */
static enum err grow_own(struct stream *stream)
{
    size_t n = leftover(stream), missing = stream->need > n ? stream->need - n : 0;
    size_t more = missing < n ? missing : n;

    buf_drop(&stream->in, stream->in_at);
    stream->in_at = 0;
    return buf_try_grow(&stream->in, (more > GROW_MIN ? more : GROW_MIN) + STREAM_SLACK,
                        STREAM_NEED_MAX + GROW_MIN + STREAM_SLACK);
}

static NODISCARD bool inlet_open(struct stream *stream, struct inlet *inlet)
{
    size_t n = leftover(stream);

    if (n > COPY_MAX) {
        enum err err = grow_own(stream);

        if (err) {
            stream_fail(stream, err, "%s: no memory for a packet of more than %zu bytes", stream->name, n);
            return false;
        }
        *inlet = (struct inlet){stream->in.p, n, stream->in.cap - STREAM_SLACK, true};
    } else {
        *inlet = (struct inlet){loop_read_buffer(stream->loop), n, LOOP_READ_SIZE, false};
        if (n)
            memcpy(inlet->p, stream->in.p + stream->in_at, n);
    }
    if (inlet->cap - inlet->n > LOOP_READ_SIZE)
        inlet->cap = inlet->n + LOOP_READ_SIZE; /* what one turn may take */
    return true;
}

/* Offers bytes as long as the reader moves on, and gives how many it has used. */
static size_t offer(struct stream *stream, uint8_t *p, size_t n)
{
    size_t n_used = 0, n_now;

    stream->is_offering = true;
    while (n_used < n && n - n_used >= stream->need && can_read(stream)) {
        stream->need = 0;
        n_now = stream->events.read(stream->arg, p + n_used, n - n_used);
        assert(n_now <= n - n_used);
        n_used += n_now;
        if (n_now == 0 || stream->need == 0) /* the rest waits for more bytes, unless it is a whole packet's length */
            break;
    }
    stream->is_offering = false;
    return n_used;
}

/* n: leftover and new bytes together. */
static void inlet_done(struct stream *stream, const struct inlet *inlet, size_t n)
{
    if (inlet->is_own) {
        stream->in.n = n;
        drop(stream, offer(stream, stream->in.p, n));
        if (stream->in.n && leftover(stream) <= COPY_MAX &&
            stream->in.cap > GROW_MIN) { /* the large packet is through */
            struct buf old = stream->in;
            size_t at = stream->in_at;

            stream->in = (struct buf){0};
            if (stream_keep(stream, old.p + at, old.n - at))
                stream_fail(stream, ERR_NOMEM, "%s: no memory for %zu bytes", stream->name, old.n - at);
            buf_fini(&old);
        }
    } else {
        size_t n_used = offer(stream, inlet->p, n);

        if (stream_keep(stream, inlet->p + n_used, n - n_used))
            stream_fail(stream, ERR_NOMEM, "%s: no memory for %zu bytes", stream->name, n - n_used);
    }
    if (leftover(stream) >= STREAM_NEED_MAX && can_read(stream))
        stream_fail(stream, ERR_LIMIT, "%s: a packet of more than %u MiB", stream->name, STREAM_NEED_MAX >> 20);
}

static bool would_block(int number)
{
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

static void end_of_input(struct stream *stream)
{
    if (stream->state != STREAM_OPEN || !stream->events.half_closed) {
        stream_lost(stream, 0);
        return;
    }
    if (timer_is_running(&stream->again))
        return; /* what is left is offered first */
    stream_pause(stream);
    stream->events.half_closed(stream->arg);
}

static void receive_clear(struct stream *stream)
{
    struct inlet inlet;
    ssize_t n;

    if (!inlet_open(stream, &inlet))
        return;
    n = recv(stream->sock->fd, inlet.p + inlet.n, inlet.cap - inlet.n, 0);
    if (n > 0) {
        stream->last_in_ms = loop_mono_ms(stream->loop);
        inlet_done(stream, &inlet, inlet.n + (size_t)n);
        return;
    }
    if (n == 0)
        end_of_input(stream);
    else if (!would_block(errno))
        stream_lost(stream, errno);
}

/* --- TLS -------------------------------------------------------------------------------------------------------------- */
/* Clear bytes that the session holds; also its end, which it tells once they are read. */
static void deliver_clear(struct stream *stream)
{
    struct why why = {0};
    bool is_open = false, is_eof = false;
    size_t n = 1;
    enum err err;

    while (n && can_read(stream)) {
        struct inlet inlet;
        size_t n_all;

        if (!inlet_open(stream, &inlet))
            return;
        n_all = inlet.n;
        do {
            n = stream->tls->read(stream->session, inlet.p + n_all, inlet.cap - n_all);
            n_all += n;
        } while (n && n_all < inlet.cap);
        if (n_all > inlet.n)
            inlet_done(stream, &inlet, n_all);
    }
    if (stream->state >= STREAM_ENDING)
        return;
    err = stream->tls->feed(stream->session, NULL, 0, &is_open, &is_eof, &why);
    stream_push_wire(stream); /* answers of the protocol itself, alerts */
    if (err)
        stream_finish(stream, err, &why);
    else if (is_eof && can_read(stream))
        end_of_input(stream);
    else if (is_eof && !stream->events.half_closed)
        stream_lost(stream, 0);
}

/* Encrypted bytes, during the handshake and after. */
void stream_handshake_bytes(struct stream *stream, const uint8_t *p, size_t n)
{
    struct why why = {0};
    bool is_open = false, is_eof = false;
    enum err err = stream->tls->feed(stream->session, p, n, &is_open, &is_eof, &why);

    stream_push_wire(stream);
    if (stream->state >= STREAM_ENDING)
        return;
    if (err) {
        stream_finish(stream, err, &why);
        return;
    }
    if (is_open && stream->state == STREAM_HANDSHAKE)
        stream_become_open(stream);
    if (stream->state == STREAM_OPEN)
        deliver_clear(stream);
    else if (is_eof)
        stream_lost(stream, 0);
}

static void receive_tls(struct stream *stream)
{
    uint8_t *p = loop_read_buffer(stream->loop);
    ssize_t n = recv(stream->sock->fd, p, TLS_READ_SIZE, 0);

    if (n > 0) {
        stream->last_in_ms = loop_mono_ms(stream->loop);
        stream_handshake_bytes(stream, p, (size_t)n);
    } else if (n == 0 || !would_block(errno)) {
        stream_lost(stream, n < 0 ? errno : 0);
    }
}

/* Our end is shut; what still comes is not for anybody. */
static void receive_nothing(struct stream *stream)
{
    ssize_t n = recv(stream->sock->fd, loop_read_buffer(stream->loop), TLS_READ_SIZE, 0);

    if (n == 0 || (n < 0 && !would_block(errno)))
        stream_finish(stream, ERR_OK, NULL);
}

void stream_receive(struct stream *stream)
{
    switch (stream->state) {
    case STREAM_PROXY:
        proxy_receive(stream);
        break;
    case STREAM_HANDSHAKE:
    case STREAM_OPEN:
        if (stream->session)
            receive_tls(stream);
        else
            receive_clear(stream);
        break;
    case STREAM_LINGERING:
        receive_nothing(stream);
        break;
    case STREAM_NEW:
    case STREAM_DIALING:
    case STREAM_DRAINING:
    case STREAM_ENDING:
    case STREAM_ENDED:
        break;
    }
}

void stream_offer_again(struct stream *stream)
{
    size_t n = leftover(stream);

    if (n && can_read(stream)) {
        if (buf_try_grow(&stream->in, STREAM_SLACK, STREAM_NEED_MAX + GROW_MIN + 2 * STREAM_SLACK)) {
            stream_fail(stream, ERR_NOMEM, "%s: no memory for %zu bytes", stream->name, n);
            return;
        }
        drop(stream, offer(stream, stream->in.p + stream->in_at, n));
    }
    if (stream->session && can_read(stream))
        deliver_clear(stream);
}

void stream_need(struct stream *stream, size_t n)
{
    stream->need = n;
    if (n > STREAM_NEED_MAX)
        stream_fail(stream, ERR_LIMIT, "%s: a packet of %zu bytes; the limit is %u MiB", stream->name, n,
                    STREAM_NEED_MAX >> 20);
}
