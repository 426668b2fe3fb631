/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
    DEFAULT_TIMEOUT_MS = 10000,
    DRAIN_MS = 2000, /* for what is unsent at stream_close */
    LINGER_MS = 500, /* for the other end to close too */
};

static void on_sock(void *arg, int ready);
static void on_flush(void *arg);
static void on_deadline(void *arg);
static void on_again(void *arg);

static struct stream *new_stream(struct loop *loop)
{
    struct stream *stream = mem_zero(sizeof *stream);

    stream->loop = loop;
    timer_init(&stream->deadline, loop, on_deadline, stream);
    timer_init(&stream->again, loop, on_again, stream);
    late_init(&stream->flush, LATE_FLUSH, on_flush, stream);
    return stream;
}

static void free_parts(struct stream *stream)
{
    stream_in_fini(stream);
    stream_out_fini(stream);
    if (stream->session)
        stream->tls->session_free(stream->session);
    if (stream->tls_ctx)
        stream->tls->ctx_free(stream->tls_ctx);
    stream->session = NULL;
    stream->tls_ctx = NULL;
    mem_free(stream->name);
    mem_free(stream->host);
    mem_free(stream->server_name);
    stream->name = stream->host = stream->server_name = NULL;
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */
static void on_ended(void *arg)
{
    struct stream *stream = arg;

    free_parts(stream);
    stream->state = STREAM_ENDED;
    if (stream->is_orphan)
        mem_free(stream);
    else if (stream->events.closed)
        stream->events.closed(stream->arg, stream->err, &stream->why); /* may free the stream */
}

void stream_finish(struct stream *stream, enum err err, const struct why *why)
{
    if (stream->state >= STREAM_ENDING)
        return;
    stream->is_orphan = stream->state == STREAM_NEW && stream->sock;
    stream->state = STREAM_ENDING;
    stream->err = err;
    if (why)
        stream->why = *why;
    stream->why.err = err;
    dial_stop(stream);
    sock_close(stream->sock);
    stream->sock = NULL;
    timer_stop(&stream->deadline);
    timer_stop(&stream->again);
    late_cancel(&stream->flush);
    closer_begin(&stream->closer, stream->loop, on_ended, stream);
    closer_end(&stream->closer);
}

void stream_fail(struct stream *stream, enum err err, const char *fmt, ...)
{
    struct why why = {.err = err};
    va_list args;

    va_start(args, fmt);
    vsnprintf(why.text, sizeof why.text, fmt, args);
    va_end(args);
    stream_finish(stream, err, &why);
}

void stream_lost(struct stream *stream, int number)
{
    const char *how = number ? strerror(number) : "the other end closed the connection";
    enum err err = number ? err_from_errno(number) : ERR_CLOSED;

    if (stream->state == STREAM_PROXY)
        stream_fail(stream, err, "%s: %s before the proxy had answered", stream->name, how);
    else if (stream->state == STREAM_HANDSHAKE)
        stream_fail(stream, err, "%s: %s during the TLS handshake%s", stream->name, how,
                    stream->host ? "; is this a port for TLS?" : "");
    else
        stream_fail(stream, err, "%s: %s", stream->name, how);
}

/* Everything is out: shut our end, and wait a little for the other's, lest a reset overtakes the last bytes. */
static void linger(struct stream *stream)
{
    stream->state = STREAM_LINGERING;
    timer_start(&stream->deadline, LINGER_MS);
    if (stream->session) {
        stream->tls->shutdown(stream->session);
        stream_push_wire(stream);
    }
    if (stream->state != STREAM_LINGERING)
        return;
    shutdown(stream->sock->fd, SHUT_WR);
    stream_update_watch(stream);
}

static void on_deadline(void *arg)
{
    struct stream *stream = arg;
    const char *doing = "it did not answer the TLS handshake";

    if (stream->state >= STREAM_DRAINING) {
        stream_finish(stream, ERR_OK, NULL);
    } else if (stream->is_broken) {
        stream_lost(stream, EPIPE);
    } else {
        if (stream->state == STREAM_DIALING)
            doing = dial_doing(stream);
        else if (stream->state == STREAM_PROXY)
            doing = "the proxy did not answer";
        stream_fail(stream, ERR_TIMEOUT, "%s: no connection in time: %s", stream->name, doing);
    }
}

/* --- events of the socket and the turn ------------------------------------------------------------------------------------ */
void stream_update_watch(struct stream *stream)
{
    bool wants_bytes = false;

    switch (stream->state) {
    case STREAM_PROXY:
    case STREAM_LINGERING:
        wants_bytes = true;
        break;
    case STREAM_HANDSHAKE:
        wants_bytes = stream->session != NULL;
        break;
    case STREAM_OPEN:
        wants_bytes = !stream->is_paused;
        break;
    case STREAM_NEW:
    case STREAM_DIALING:
    case STREAM_DRAINING:
    case STREAM_ENDING:
    case STREAM_ENDED:
        break;
    }
    if (stream->sock)
        sock_watch(stream->sock, (wants_bytes ? SOCK_READABLE : 0) | (stream->is_blocked ? SOCK_WRITABLE : 0));
}

static void after_write(struct stream *stream)
{
    if (stream->state == STREAM_DRAINING && !stream_has_output(stream)) {
        linger(stream);
    } else if (stream->state == STREAM_OPEN && stream->owes_sent && !stream_has_output(stream)) {
        stream->owes_sent = false;
        if (stream->events.sent)
            stream->events.sent(stream->arg);
    }
}

static void on_flush(void *arg)
{
    struct stream *stream = arg;

    stream_flush(stream);
    after_write(stream);
}

/* The kernel has an error for this socket. What was received before it is read first; then the calls tell it. */
static void on_sock_error(struct stream *stream)
{
    int number = 0;
    socklen_t size = sizeof number;

    if (stream->state == STREAM_OPEN && stream->is_paused) {
        getsockopt(stream->sock->fd, SOL_SOCKET, SO_ERROR, &number, &size);
        stream_lost(stream, number ? number : EPIPE);
        return;
    }
    if (stream->state == STREAM_DRAINING)
        stream_finish(stream, ERR_OK, NULL);
    else
        stream_receive(stream);
    if (stream->state < STREAM_ENDING)
        stream_update_watch(stream); /* libuv has stopped watching */
}

static void on_sock(void *arg, int ready)
{
    struct stream *stream = arg;

    if (ready & SOCK_ERROR) {
        on_sock_error(stream);
        return;
    }
    if (ready & SOCK_WRITABLE) {
        stream->is_blocked = false;
        stream_flush(stream);
        after_write(stream);
    }
    if ((ready & SOCK_READABLE) && stream->sock && (stream->state != STREAM_OPEN || !stream->is_paused))
        stream_receive(stream);
}

static void on_again(void *arg)
{
    struct stream *stream = arg;

    if (stream->state == STREAM_HANDSHAKE && !stream->session)
        stream_become_open(stream);
    else if (stream->state == STREAM_OPEN)
        stream_offer_again(stream);
}

/* --- the beginning ---------------------------------------------------------------------------------------------------- */
static void learn_peer(struct stream *stream)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;

    if (!getpeername(stream->sock->fd, (struct sockaddr *)&address, &size))
        sock_print((const struct sockaddr *)&address, stream->peer, sizeof stream->peer);
}

void stream_dialed(struct stream *stream, struct sock *sock)
{
    dial_stop(stream);
    sock->fn = on_sock;
    sock->arg = stream;
    stream->sock = sock;
    stream->last_in_ms = stream->last_out_ms = loop_mono_ms(stream->loop);
    learn_peer(stream);
    if (stream->has_proxy)
        proxy_ask(stream);
    else
        stream_tunnelled(stream);
}

void stream_tunnelled(struct stream *stream)
{
    struct why why = {0};
    struct buf early = stream->in; /* behind a proxy the other end may have spoken already */
    size_t at = stream->in_at;
    enum err err;

    if (!stream->tls) {
        stream_become_open(stream);
        return;
    }
    err = stream->tls->session_new(&stream->session, stream->tls_ctx,
                                   stream->server_name ? stream->server_name : stream->host, &why);
    if (err) {
        stream_finish(stream, err, &why);
        return;
    }
    stream->state = STREAM_HANDSHAKE;
    stream->in = (struct buf){0};
    stream->in_at = 0;
    stream_push_wire(stream);
    if (stream->state == STREAM_HANDSHAKE) /* also tells when the handshake could not begin */
        stream_handshake_bytes(stream, early.p ? early.p + at : NULL, early.n - at);
    buf_fini(&early);
}

void stream_become_open(struct stream *stream)
{
    timer_stop(&stream->deadline);
    stream->state = STREAM_OPEN;
    stream_update_watch(stream);
    if (stream->in_at < stream->in.n)
        timer_start(&stream->again, 0);
    if (stream_has_output(stream)) {
        stream->owes_sent = true;
        late_arm(stream->loop, &stream->flush);
    }
    if (stream->events.open)
        stream->events.open(stream->arg);
}

enum err stream_new(struct stream **out, struct loop *loop, const struct stream_events *events, void *arg)
{
    loop_assert(loop);
    *out = new_stream(loop);
    (*out)->events = *events;
    (*out)->arg = arg;
    return ERR_OK;
}

/* A name goes into the proxy's request, the handshake and messages. */
static bool is_plain(const char *host)
{
    for (const char *c = host; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return false;
    }
    return *host != 0;
}

static NODISCARD enum err prepare_tls(struct stream *stream, const struct tls_conf *conf, struct why *why)
{
    stream->tls = tls_load(why);
    if (!stream->tls)
        return why->err ? why->err : ERR_TLS;
    if (conf->server_name && *conf->server_name)
        stream->server_name = mem_dup(conf->server_name);
    return stream->tls->client_ctx(&stream->tls_ctx, conf, why);
}

void stream_connect(struct stream *stream, const struct stream_conf *conf)
{
    size_t n_name = strlen(conf->host) + 8;
    struct why why = {0};
    enum err err = ERR_OK;

    loop_assert(stream->loop);
    assert(stream->state == STREAM_NEW && !stream->sock);
    stream->state = STREAM_DIALING;
    stream->host = mem_dup(conf->host);
    stream->port = conf->port;
    stream->name = mem_new(n_name);
    snprintf(stream->name, n_name, "%s:%u", conf->host, conf->port);
    stream->user_timeout_ms = conf->user_timeout_ms;
    stream->has_proxy = conf->proxy_host && *conf->proxy_host;
    if (!is_plain(conf->host))
        err = why_set(&why, ERR_CONFIG, "\"%s\" is not the name or address of a host", conf->host);
    else if (stream->has_proxy && !is_plain(conf->proxy_host))
        err = why_set(&why, ERR_CONFIG, "\"%s\" is not the name or address of a proxy", conf->proxy_host);
    else if (conf->tls.is_on)
        err = prepare_tls(stream, &conf->tls, &why);
    if (err) {
        why_prefix(&why, "%s", stream->name);
        stream_finish(stream, err, &why);
        return;
    }
    timer_start(&stream->deadline, conf->timeout_ms ? conf->timeout_ms : DEFAULT_TIMEOUT_MS);
    dial_start(stream, stream->has_proxy ? conf->proxy_host : conf->host,
               stream->has_proxy ? conf->proxy_port : conf->port);
}

struct stream *stream_of_socket(struct loop *loop, struct sock *sock, const struct tls_api *tls,
                                struct tls_session *session)
{
    struct stream *stream = new_stream(loop);

    sock->fn = on_sock;
    sock->arg = stream;
    stream->sock = sock;
    stream->tls = tls;
    stream->session = session;
    stream->last_in_ms = stream->last_out_ms = loop_mono_ms(loop);
    learn_peer(stream);
    stream->name = mem_dup(stream->peer);
    return stream;
}

void stream_accept(struct stream *stream, const struct stream_events *events, void *arg)
{
    loop_assert(stream->loop);
    assert(stream->state == STREAM_NEW && stream->sock);
    stream->events = *events;
    stream->arg = arg;
    stream->state = STREAM_HANDSHAKE;
    timer_start(&stream->deadline, DEFAULT_TIMEOUT_MS);
    if (stream->session)
        stream_update_watch(stream);
    else
        timer_start(&stream->again, 0);
}

bool stream_is_accepted(const struct stream *stream)
{
    return stream->state != STREAM_NEW;
}

/* --- the rest of the interface ---------------------------------------------------------------------------------------- */
void stream_pause(struct stream *stream)
{
    stream->is_paused = true;
    if (stream->state == STREAM_OPEN) {
        timer_stop(&stream->again);
        stream_update_watch(stream);
    }
}

void stream_resume(struct stream *stream)
{
    stream->is_paused = false;
    if (stream->state == STREAM_OPEN) {
        if (stream->is_offering || stream->session || stream->in_at < stream->in.n)
            timer_start(&stream->again, 0);
        stream_update_watch(stream);
    }
}

bool stream_is_paused(const struct stream *stream)
{
    return stream->is_paused;
}

void stream_close(struct stream *stream, bool now)
{
    if (!stream || stream->state >= STREAM_ENDING)
        return;
    loop_assert(stream->loop);
    if (now || stream->state < STREAM_OPEN || stream->is_broken) {
        stream_finish(stream, ERR_OK, NULL);
    } else if (stream->state == STREAM_OPEN) {
        stream->state = STREAM_DRAINING;
        timer_stop(&stream->again);
        timer_start(&stream->deadline, DRAIN_MS);
        stream_update_watch(stream);
        if (!stream->is_blocked)
            late_arm(stream->loop, &stream->flush);
    }
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    if (stream->state == STREAM_NEW) { /* never begun: nobody waits for .closed */
        sock_close(stream->sock);
        free_parts(stream);
    } else {
        assert(stream->state == STREAM_ENDED);
    }
    mem_free(stream);
}

const char *stream_peer(const struct stream *stream)
{
    return stream->peer;
}

bool stream_peer_certificate(const struct stream *stream, struct buf *pem)
{
    return stream->session && stream->tls->peer(stream->session, pem);
}

uint64_t stream_last_in_ms(const struct stream *stream)
{
    return stream->last_in_ms;
}

uint64_t stream_last_out_ms(const struct stream *stream)
{
    return stream->last_out_ms;
}

struct loop *stream_loop(const struct stream *stream)
{
    return stream->loop;
}
