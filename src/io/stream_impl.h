/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STREAM_IMPL_H
#define IOTGW_STREAM_IMPL_H
/*
 * The inside of a stream, for the files of this room that make it up: stream.c (life), stream_in.c, stream_out.c, dial.c
 * (names, addresses, attempts), proxy.c, listener.c, sock.c (a watched descriptor). Nobody else includes it.
 *
 *   NEW ─► DIALING ─► PROXY ─► HANDSHAKE ─► OPEN ─► DRAINING ─► LINGERING ─► ENDING ─► ENDED
 *    └─ (accepted) ─────────────▲                                               ▲ from any state
 * PROXY and HANDSHAKE are left out where there is none of it. .closed is called on the way to ENDED.
 */
#include "io/stream.h"
#include "io/tls.h"

enum stream_state {
    STREAM_NEW,
    STREAM_DIALING,
    STREAM_PROXY,
    STREAM_HANDSHAKE, /* also an accepted stream without TLS whose .open is due */
    STREAM_OPEN,
    STREAM_DRAINING,  /* stream_close: what is queued goes out */
    STREAM_LINGERING, /* our end is shut; the peer's end of file, so that a reset does not overtake our last bytes */
    STREAM_ENDING,
    STREAM_ENDED,
};

enum {
    STREAM_SLACK = 16,                   /* writable bytes behind what .read is offered */
    STREAM_FLUSH_SIZE = 64 * 1024,       /* so much queued is written at once */
    STREAM_NEED_MAX = 256 * 1024 * 1024, /* largest leftover */
};

/* --- a non-blocking socket that is watched ------------------------------------------------------------------------- */
enum { SOCK_READABLE = UV_READABLE, SOCK_WRITABLE = UV_WRITABLE, SOCK_ERROR = 1 << 16 };
typedef void sock_fn(void *arg, int ready);

struct sock {
    uv_poll_t poll;
    int fd, watched;
    sock_fn *fn;
    void *arg;
};

/* Takes fd, also on failure. */
NODISCARD enum err sock_new(struct sock **out, struct loop *loop, int fd, sock_fn *fn, void *arg);
void sock_watch(struct sock *sock, int events);
void sock_close(struct sock *sock); /* fn is not called any more; frees itself; NULL allowed */
/* Options of every connection; what the kernel does not know is left out. */
void sock_tune(int fd, uint32_t user_timeout_ms);
/* "127.0.0.1:1883", "[::1]:1883". */
void sock_print(const struct sockaddr *address, char *text, size_t size);

/* --- the stream ------------------------------------------------------------------------------------------------------ */
struct segment {
    const uint8_t *p; /* NULL: in stream.copied, which may move */
    size_t n;
};

struct stream {
    struct loop *loop;
    struct stream_events events;
    void *arg;
    enum stream_state state;
    struct sock *sock;
    struct dial *dial;
    char *name; /* "host:port" for reasons */
    char peer[64];
    char *host, *server_name;
    uint16_t port;
    uint32_t user_timeout_ms;
    bool has_proxy;
    struct timer deadline; /* connecting, draining, lingering */
    struct timer again; /* at once, out of the caller's call: .open of an accepted stream, bytes after stream_resume */
    uint64_t last_in_ms, last_out_ms;

    const struct tls_api *tls; /* NULL: clear text */
    struct tls_ctx *tls_ctx;
    struct tls_session *session;

    struct buf in; /* bytes offered and not used: in.p + in_at … in.n; STREAM_SLACK behind */
    size_t in_at, need;
    bool is_paused, is_offering; /* offering: .read is running */

    struct late flush;
    struct segment *segments; /* a window of an array: first_segment … n_segments */
    size_t first_segment, n_segments, cap_segments;
    struct buf copied; /* small pieces; copied_at is where the first unsent one begins */
    size_t copied_at;
    struct buf wire; /* bytes that go before all segments: TLS records, the proxy's request */
    size_t wire_at;
    uint64_t n_queued, n_sent;
    bool is_blocked; /* the kernel takes nothing now */
    bool is_broken;  /* writing has failed; what the peer said last is still read */
    bool owes_sent;  /* .sent is to be called */

    bool is_orphan; /* closed before stream_accept: frees itself */
    struct closer closer;
    enum err err;
    struct why why;
};

/* stream.c */
void stream_finish(struct stream *stream, enum err err, const struct why *why);
void stream_fail(struct stream *stream, enum err err, const char *fmt, ...) PRINTF_LIKE(3, 4);
void stream_lost(struct stream *stream, int number); /* errno of a call on the socket; 0: end of file */
void stream_dialed(struct stream *stream, struct sock *sock);
void stream_tunnelled(struct stream *stream); /* the way to the host itself is open */
void stream_become_open(struct stream *stream);
void stream_update_watch(struct stream *stream);
struct stream *stream_of_socket(struct loop *loop, struct sock *sock, const struct tls_api *tls,
                                struct tls_session *session);
NODISCARD bool stream_is_accepted(const struct stream *stream);

/* stream_in.c */
void stream_receive(struct stream *stream); /* the socket is readable */
void stream_offer_again(struct stream *stream);
void stream_in_fini(struct stream *stream);
NODISCARD enum err stream_keep(struct stream *stream, const uint8_t *p, size_t n);
void stream_handshake_bytes(struct stream *stream, const uint8_t *p, size_t n);

/* stream_out.c */
void stream_flush(struct stream *stream); /* writes what it can */
void stream_push_wire(struct stream *stream);
bool stream_has_output(const struct stream *stream);
void stream_out_fini(struct stream *stream);

/* dial.c */
void dial_start(struct stream *stream, const char *host, uint16_t port);
void dial_stop(struct stream *stream);
/* Completes "… while ": "looking up the name". */
const char *dial_doing(const struct stream *stream);

/* proxy.c */
void proxy_ask(struct stream *stream);
void proxy_receive(struct stream *stream);
#endif
