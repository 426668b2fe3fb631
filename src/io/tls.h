/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TLS_H
#define IOTGW_TLS_H
/*
 * What io/stream needs of TLS, as a table of functions, because OpenSSL costs megabytes and is loaded only when a link
 * asks for it: the module iotgw-tls.so stands beside the other modules and exports one symbol, iotgw_tls.
 *
 * A session works on memory: bytes from the wire go in by feed, bytes for the wire come out by drain. TLS 1.2 and 1.3;
 * chain and host name are verified against the CA file or the system's store, unless insecure says otherwise
 * (core.md 3). One trust store is shared by all contexts that use the system's. Owner: the stream's loop; contexts may be
 * shared by loops. Reasons name host, cause (unknown CA, expired on DATE, names in the certificate) and the key to set.
 */
#include "base/buf.h"

#include <sys/uio.h>

struct tls_ctx;
struct tls_session;
struct tls_conf;
struct listener_conf;

struct tls_api {
    uint32_t size;
    const char *build_id; /* must be the program's */
    NODISCARD enum err (*client_ctx)(struct tls_ctx **out, const struct tls_conf *conf, struct why *why);
    NODISCARD enum err (*server_ctx)(struct tls_ctx **out, const struct listener_conf *conf, struct why *why);
    void (*ctx_free)(struct tls_ctx *ctx);
    /* host: for SNI (unless an address) and the name check; NULL for a server. */
    NODISCARD enum err (*session_new)(struct tls_session **out, struct tls_ctx *ctx, const char *host, struct why *why);
    void (*session_free)(struct tls_session *session);
    /* Bytes from the wire, or none. *open is set when the handshake is complete, *eof when close_notify has been read.
     * What read has met on its way (a bad record, an alert) is told by the next feed. */
    NODISCARD enum err (*feed)(struct tls_session *session, const uint8_t *p, size_t n, bool *open, bool *eof,
                               struct why *why);
    /* Clear bytes received: up to cap into p; gives the count, 0 if none: then call feed without bytes. */
    size_t (*read)(struct tls_session *session, uint8_t *p, size_t cap);
    NODISCARD enum err (*write)(struct tls_session *session, const struct iovec *iov, int n, struct why *why);
    void (*shutdown)(struct tls_session *session); /* the next drain has close_notify */
    /* Appends the bytes for the wire to out and forgets them. Also starts the handshake of a client. */
    void (*drain)(struct tls_session *session, struct buf *out);
    /* Appends the certificate that the other end has shown, as PEM; false: it has shown none. */
    bool (*peer)(const struct tls_session *session, struct buf *pem);
    /* A new key pair (EC P-256) and its self-signed certificate for that name, valid from now for so many days; PEM. Of a
     * server: name is what it listens on. */
    NODISCARD enum err (*self_signed)(const char *name, unsigned days, bool is_server, struct buf *cert,
                                      struct buf *key, struct why *why);
    /* When the certificates of a PEM file end, ms since the epoch: the first that does, or the last (a bundle of CAs). Blocks. */
    NODISCARD enum err (*expiry)(const char *file, bool is_bundle, int64_t *until_ms, struct why *why);
    void (*forget_thread)(void); /* what the library keeps for the calling thread; for jobs on threads of a pool */
};

/* Loads the module once; NULL with a reason when it is not there or was built for another program. Any thread. */
const struct tls_api *tls_load(struct why *why);
#endif
