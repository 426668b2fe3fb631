/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_CLIENT_H
#define IOTGW_HTTP_CLIENT_H
/*
 * An HTTP client on one loop: any number of calls at once, without a thread for any of them. Connections are kept and used
 * again, names are remembered for 60 s, HTTP/2 is taken where a server offers it with TLS, proxies come from the
 * environment (http_proxy, https_proxy, no_proxy). libcurl does the work; it costs megabytes, so it stands in a module,
 * iotgw-http-client.so, which http_client_new loads.
 *
 * Owner thread: the loop's. A call belongs to the client from http_client_start to .done (exactly once, in a later turn)
 * or http_client_cancel (then .done does not come). What it points to must live as long.
 *
 * Bounds: the time-out is for the whole call, redirects and a server that trickles included; at most 10 redirects, and none
 * to where the call has been already; max_body bytes of body, counted after unpacking; 64 KiB of headers. Credentials, and
 * the headers Authorization and Cookie, go to the host of the URL only, not to where it redirects.
 */
#include "base/list.h"
#include "io/loop.h"

struct log;
struct http_client;
struct http_call;

struct http_header {
    struct str name, value;
};

struct http_reply {
    unsigned status;         /* 0: there is none */
    struct str reason;       /* as sent; else the usual one of the status ("Not Found"), or empty */
    struct str content_type; /* p NULL: none */
    struct str body;         /* lives until .done returns */
    const struct why *why;   /* if err: names the host, the cause, and the key to set */
    bool is_unsent;          /* if err: nothing of the request has left, so that it may be tried again */
    uint64_t n_bytes_in, n_bytes_out, latency_us;
};

/* What to tell in reasons: names of keys of the configuration. Each may be NULL. */
struct http_keys {
    const char *verify, *ca, *timeout, *max_body, *redirects, *host;
};

enum { HTTP_MAX_BODY = 16 * 1024 * 1024 };

struct http_call {
    struct str method, url; /* any token; "http://…" or "https://…", percent-encoded */
    const struct http_header *headers;
    size_t n_headers;
    struct str body;                  /* empty: none, and no content type */
    struct str username, password;    /* Basic; username p NULL: none */
    bool verify;                      /* https: chain and name */
    const char *ca_file;              /* NULL: the system's trust store */
    const char *cert_file, *key_file; /* of the client; NULL: none */
    uint64_t timeout_ms;              /* connect and total; 0: 10000 */
    bool allow_redirects;             /* without it a 3xx is an answer as any other */
    size_t max_body;                  /* 0: HTTP_MAX_BODY */
    const struct http_keys *keys;     /* NULL: none */
    /* err ERR_OK: there is a complete answer, of whatever status. reply is never NULL. */
    void (*done)(struct http_call *call, enum err err, const struct http_reply *reply);
    void *arg; /* the caller's */

    struct http_run *run; /* private; zero before the start */
};

/* NULL: why (the module is not there, or of another build). */
struct http_client *http_client_new(struct loop *loop, struct log *log, struct why *why);
void http_client_start(struct http_client *client, struct http_call *call);
void http_client_cancel(struct http_client *client, struct http_call *call); /* one that is not under way: nothing */
/* Cancels what is under way. done: all sockets are closed, the client is freed. */
void http_client_close(struct http_client *client, closed_fn *done, void *arg);

/* "Not Found" for 404; "" for one that nobody knows. */
const char *http_reason(unsigned status);
bool http_is_token(struct str s);      /* RFC 9110 5.6.2: methods, names of headers */
bool http_is_field_text(struct str s); /* a header's value: nothing that would end it */
/* For logs: the URL without its password. */
struct str http_url_shown(struct arena *arena, struct str url);
#endif
