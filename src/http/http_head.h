/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_HEAD_H
#define IOTGW_HTTP_HEAD_H
/*
 * The head of an HTTP/1 request as a server may take it: strictly, so that no two programs on the way read two different
 * requests in the same bytes (RFC 9112). Refused are bare CR and LF, blanks other than space and tab, folded lines, blanks before a colon, a second
 * Content-Length, one beside chunked, encodings other than chunked, and a missing or second Host. Pure: no memory, any thread.
 */
#include "base/str.h"

enum {
    HTTP_HEAD_MAX_BYTES = 16 * 1024, /* request line and fields, with the empty line */
    HTTP_HEAD_MAX_FIELDS = 100,
};

enum http_head_state {
    HTTP_HEAD_MORE,    /* not yet complete; nothing but n_seen is set */
    HTTP_HEAD_WHOLE,   /* everything is set */
    HTTP_HEAD_REFUSED, /* status and *why say how to answer; the connection must be closed after it */
};

/* All views point into the text that was given. */
struct http_head {
    struct str method, path, query; /* as sent, still percent-encoded; query without '?', p NULL: there is none */
    struct str fields;              /* all lines of the fields, for http_head_get */
    uint64_t length;                /* of the body; 0 if chunked */
    size_t n_bytes;                 /* of the head; the body begins there */
    size_t n_seen;                  /* where the next call goes on looking; 0 before the first */
    unsigned status, minor;         /* minor of HTTP/1.minor, 0 or 1 */
    bool is_chunked, is_kept_alive, wants_continue;
};

/* Bytes of the empty lines before a request: some clients end a body with one. They are to be passed over (RFC 9112 2.2). */
size_t http_head_blank(struct str text);
/* text: all that has come since the request began, again from its first byte at every call. head: zeroed at first. */
enum http_head_state http_head_read(struct http_head *head, struct str text, struct why *why);
/* The first field of that name (any case), trimmed; p NULL: there is none. Of a whole head. */
struct str http_head_get(const struct http_head *head, struct str name);
#endif
