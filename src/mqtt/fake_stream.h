/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FAKE_STREAM_H
#define IOTGW_FAKE_STREAM_H
/*
 * Stands in for io/stream.c in tests and fuzz targets of the client: no sockets, time is the loop's, which may be a fake
 * one. What the client writes is collected, what it reads is given by the test. One stream at a time.
 */
#include "io/stream.h"

struct fake_stream {
    struct stream *stream; /* the one in use; NULL: none */
    struct buf out;        /* all that was written and not yet looked at */
    bool hold;             /* nothing leaves: stream_sent stands still */
    bool fail_new;         /* the next stream_new fails */
    unsigned n_made;
};
extern struct fake_stream fake;

void fake_open(void);
/* Bytes from the server, offered in pieces of at most step (0: all at once). Stops when the stream closes. */
void fake_feed(const void *p, size_t n, size_t step);
/* What was held leaves. */
void fake_release(void);
void fake_hang_up(enum err err, const char *why);
/* Bytes that the client has not consumed. */
size_t fake_unread(void);
void fake_reset(void);
#endif
