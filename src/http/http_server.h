/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_SERVER_H
#define IOTGW_HTTP_SERVER_H
/*
 * An HTTP/1.0 and 1.1 server on one loop, in the clear or with TLS. Requests of a connection are answered in their order,
 * one at a time; connections do not wait for each other, and an answer may come whenever its owner has it.
 *
 * Owner thread: the loop's. Each request that .request has shown gets exactly one http_answer, also when its client has
 * gone meanwhile. Views of a request (method, path, fields, body) live until the callback returns.
 *
 * Bounds: heads http_head.h, 10 s for one; bodies max_body, at least 1 KiB/s and a byte every 30 s; 30 s idle; 64 MiB for
 * all bodies that come in pieces (503), and as much for what clients send before they are answered; max_connections, and what comes beyond it is closed; a client that does not take
 * its answers is not read from. What a client is told of its faults is {"error":"…"}.
 */
#include "base/list.h"
#include "http/http_head.h"
#include "io/loop.h"
#include "iotgw/connector.h"

struct log;
struct http_server;

struct http_request {
    struct http_head head; /* http_head_get gives its fields */
    struct str body;       /* of .request: all of it, decoded if it came in chunks */
    size_t max_body;       /* .head may change it */
    void *user;            /* the owner's */
};

struct http_answer {
    unsigned status;
    struct str type, body; /* type empty: no Content-Type */
    struct str fields;     /* further header fields, each line with CR and LF */
    bool is_last;          /* close the connection after it */
};

struct http_server_conf {
    const char *host;
    uint16_t port; /* 0: any */
    bool tls;
    const char *cert_file, *key_file;
    size_t max_body;          /* 0: 1 MiB */
    unsigned max_connections; /* 0: 10000 */
};

struct http_server_events {
    /* The head is there, and its body not yet. If it is answered here, the body is passed over and .request does not come.
     * NULL allowed. */
    void (*head)(void *arg, struct http_request *request);
    void (*request)(void *arg, struct http_request *request);
};

struct http_server_stats {
    uint64_t n_connections, n_requests, n_bad_requests; /* ever; bad: refused here */
    uint64_t n_bytes_in, n_bytes_out;                   /* heads and bodies of requests, answers */
    uint64_t n_too_many;                                /* connections closed because of max_connections */
    unsigned n_open;                                    /* connections */
    uint64_t n_slow; /* connections that were ended because a head, a body or the handshake did not go on */
    uint64_t n_gone; /* requests whose client had gone before its answer */
    uint64_t n_answers[SERVED_CLASSES];
};

/* Any failure: the address and the cause, in why. */
NODISCARD enum err http_server_new(struct http_server **out, struct loop *loop, struct log *log,
                                   const struct http_server_conf *conf, const struct http_server_events *events,
                                   void *arg, struct why *why);
/* Of one with TLS: another certificate for connections from now on. Any failure: the former one stays. */
NODISCARD enum err http_server_renew(struct http_server *server, const char *cert_file, const char *key_file,
                                     struct why *why);
uint16_t http_server_port(const struct http_server *server);
void http_answer(struct http_request *request, const struct http_answer *answer);
/* As {"error":"text"}; text is quoted. */
void http_answer_error(struct http_request *request, unsigned status, const char *text);
const char *http_request_peer(const struct http_request *request); /* "192.168.0.5:40000" */
struct http_server_stats http_server_stats(const struct http_server *server);
void http_server_served(const struct http_server *server, struct served *out); /* the same for a connector's .served */
/* No new connections; those there are end after the answer that they wait for. */
void http_server_quiesce(struct http_server *server);
/* done: all connections are closed, within 2 s, and the server is freed. What is still unanswered must be answered before or after. */
void http_server_close(struct http_server *server, closed_fn *done, void *arg);
#endif
