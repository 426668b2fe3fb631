/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STREAM_H
#define IOTGW_STREAM_H
/*
 * A byte stream: TCP, or TLS over TCP (then the module iotgw-tls is loaded), as client or accepted by a listener.
 *
 * Owner thread: the loop's. All callbacks run there, never inside the call that caused them except .read within the
 * loop's own read callback. Exactly one .closed ends the stream, for whatever reason, also after stream_close.
 *
 * Connecting: the name is resolved anew at every attempt, all addresses are tried, alternating families, a new one every
 * 250 ms while none has answered (in the manner of RFC 8305); the first that connects wins. timeout_ms bounds it all,
 * TLS included. TCP_NODELAY is set, TCP_USER_TIMEOUT as given.
 */
#include "base/buf.h"
#include "io/loop.h"

#include <sys/uio.h>

struct tls_conf {
    bool is_on;
    bool insecure;                    /* core.md 3: with ca: no host name check; without: no verification at all */
    const char *ca_file;              /* NULL: the system's trust store */
    const char *cert_file, *key_file; /* both or none */
    const char *key_password;         /* of an encrypted key; NULL: none */
    const char *server_name;          /* SNI and name check; NULL: the host */
};

struct stream_conf {
    const char *host;
    uint16_t port;
    uint32_t timeout_ms;      /* 0: 10000 */
    uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT; 0: system default */
    const char *proxy_host;   /* HTTP CONNECT (RFC 9110 9.3.6); NULL: none */
    uint16_t proxy_port;
    struct tls_conf tls;
};

struct stream;
struct stream_events {
    void (*open)(void *arg); /* connected, TLS handshake done */
    /* Bytes in the order received. Returns how many were used; the rest is offered again, at the front of what follows.
     * p may be changed in place and has 16 bytes of writable slack behind n. need: see stream_need. */
    size_t (*read)(void *arg, uint8_t *p, size_t n);
    void (*sent)(void *arg); /* all that stream_write has left at its return has been handed to the kernel since */
    void (*closed)(void *arg, enum err err,
                   const struct why *why); /* ERR_OK: by stream_close; ERR_CLOSED: by the peer */
    /* The other end sends nothing more, and may still read. The stream is paused; resumed, it says so again. NULL: that is
     * .closed. */
    void (*half_closed)(void *arg);
};

NODISCARD enum err stream_new(struct stream **out, struct loop *loop, const struct stream_events *events, void *arg);
/* Starts connecting; conf is copied. Errors of any kind come through .closed. */
void stream_connect(struct stream *stream, const struct stream_conf *conf);
/*
 * Queues bytes, without copying when unowned: they must stay unchanged until stream_sent() has passed the position that
 * stream_queued() gave after this call, or until .closed. Small pieces (copy = true) are gathered in the stream's own
 * buffer. Nothing is written before the end of the turn (late hook LATE_FLUSH) or 64 KiB: then one writev.
 */
void stream_write(struct stream *stream, const void *p, size_t n, bool copy);
uint64_t stream_queued(const struct stream *stream); /* bytes ever given to stream_write */
uint64_t stream_sent(const struct stream *stream);   /* bytes ever handed to the kernel (TLS: to the record layer) */
/* Do not call .read again before at least n bytes are there (a packet's known length): for the next call only; 0 takes
 * it back. More than 256 MiB end the stream with ERR_LIMIT. */
void stream_need(struct stream *stream, size_t n);
/* Stop reading the socket; bytes already offered and not used stay. That the other end has closed is not noticed then,
 * unless something is being written. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream); /* also offers again what was left */
bool stream_is_paused(const struct stream *stream);
/* Drops what is unsent if now, else sends it first (at most 2 s) and waits for the other end to close as well (at most
 * 0.5 s more). No .read or .sent after it; then .closed. NULL allowed. */
void stream_close(struct stream *stream, bool now);
/* After .closed, or within it, or before stream_connect. */
void stream_free(struct stream *stream);
/* "127.0.0.1:1883" of the other end, "" before open. */
const char *stream_peer(const struct stream *stream);
/* Appends the certificate that the other end has shown (PEM); false: none. After .open. */
bool stream_peer_certificate(const struct stream *stream, struct buf *pem);
/* Monotonic ms of the last byte received or sent. */
uint64_t stream_last_in_ms(const struct stream *stream);
uint64_t stream_last_out_ms(const struct stream *stream);
struct loop *stream_loop(const struct stream *stream);

/* --- listener --------------------------------------------------------------------------------------------------------- */
struct listener;
struct listener_conf {
    const char *host; /* "127.0.0.1" */
    uint16_t port;    /* 0: any; listener_port tells */
    bool tls;
    const char *key_password; /* of an encrypted key; NULL: none */
    const char *cert_file, *key_file,
        *client_ca_file; /* client_ca_file: a client certificate is asked for and must verify */
    bool asks_client;    /* without client_ca_file: one is asked for, none is needed, and any is taken */
};
/* For each connection: the callee must call stream_accept on it within the callback, or it is closed. */
typedef void accepted_fn(void *arg, struct stream *stream);
NODISCARD enum err listener_new(struct listener **out, struct loop *loop, const struct listener_conf *conf,
                                accepted_fn *accepted, void *arg, struct why *why);
/* Whether listener_new would succeed now: address, port, certificate and key; nobody can connect meanwhile. */
NODISCARD enum err listener_check(const struct listener_conf *conf, struct why *why);
void stream_accept(struct stream *stream, const struct stream_events *events,
                   void *arg); /* then .open once TLS is done */
/* Another certificate and key (the files of conf) for connections from now on. Those there are keep theirs. */
NODISCARD enum err listener_renew(struct listener *listener, const struct listener_conf *conf, struct why *why);
uint16_t listener_port(const struct listener *listener);
void listener_close(struct listener *listener, struct closer *closer); /* frees it; NULL allowed */
#endif
