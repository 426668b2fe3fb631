/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_CHUNKS_H
#define IOTGW_HTTP_CHUNKS_H
/*
 * A chunked body (RFC 9112, 7.1) as it comes, in any pieces. Strict: lines end with CR and LF, sizes have at most eight
 * digits, extensions are passed over, trailers too, both bounded. Pure but for out, which grows.
 */
#include "base/buf.h"

enum http_chunks_state {
    HTTP_CHUNKS_MORE,
    HTTP_CHUNKS_WHOLE,   /* what follows belongs to the next request */
    HTTP_CHUNKS_REFUSED, /* why says how it is malformed */
    HTTP_CHUNKS_LIMIT    /* out would be longer than the limit; the rest can still be read with out NULL */
};
struct http_chunks { /* zeroed at first */
    int at;
    uint64_t left;    /* of this chunk */
    unsigned n_chars; /* digits of a size, or bytes of extensions and trailers */
};

/* Takes *n_used bytes. What they hold is appended to out (NULL: dropped). */
enum http_chunks_state http_chunks_read(struct http_chunks *chunks, struct str text, size_t *n_used, struct buf *out,
                                        size_t limit, struct why *why);
#endif
