/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_PEER_H
#define IOTGW_HTTP_PEER_H
/*
 * For tests: an HTTP server on loopback that follows a script. Each path has its answer as raw bytes; it can be given at
 * once, byte by byte for ever, never, or instead of it the connection is closed. It remembers the requests.
 */
#include "io/stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

enum peer_mood { PEER_ANSWERS, PEER_IS_SILENT, PEER_HANGS_UP, PEER_TRICKLES, PEER_CLOSES_AFTER };

struct peer_page {
    const char *path;
    const char *answer; /* raw; %PORT is replaced */
    enum peer_mood mood;
};

struct peer_side {
    struct peer *peer;
    struct stream *stream;
    struct timer trickle;
    bool is_there;
};

struct peer {
    struct loop *loop;
    struct listener *listener;
    const struct peer_page *pages;
    unsigned n_pages, n_requests, n_connections, n_open;
    struct buf seen; /* all requests, one after the other */
    struct peer_side sides[512];
};

static inline void peer_trickle(void *arg)
{
    struct peer_side *side = arg;

    if (!side->is_there)
        return;
    stream_write(side->stream, "x", 1, true);
    timer_start(&side->trickle, 5);
}

static inline void peer_send(struct peer_side *side, const char *answer)
{
    struct buf text = {0};
    const char *port;

    while ((port = strstr(answer, "%PORT"))) {
        buf_add(&text, answer, (size_t)(port - answer));
        buf_printf(&text, "%u", listener_port(side->peer->listener));
        answer = port + 5;
    }
    buf_add_z(&text, answer);
    stream_write(side->stream, text.p, text.n, true);
    buf_fini(&text);
}

static inline void peer_answer(struct peer_side *side, struct str path)
{
    struct peer *peer = side->peer;

    for (unsigned i = 0; i < peer->n_pages; i++) {
        const struct peer_page *page = &peer->pages[i];

        if (!str_eq_z(path, page->path))
            continue;
        if (page->mood == PEER_HANGS_UP || page->mood == PEER_CLOSES_AFTER) {
            if (page->answer)
                peer_send(side, page->answer);
            stream_close(side->stream, false);
        } else if (page->mood != PEER_IS_SILENT) {
            peer_send(side, page->answer);
        }
        if (page->mood == PEER_TRICKLES)
            timer_start(&side->trickle, 5);
        return;
    }
    peer_send(side, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
}

static inline size_t peer_read(void *arg, uint8_t *p, size_t n)
{
    struct peer_side *side = arg;
    struct str all = str_of(p, n), line, path;
    size_t head = str_find(all, STR("\r\n\r\n"), 0), at, length = 0;

    if (head == SIZE_MAX)
        return 0;
    at = str_find(str_cut(all, head), STR("Content-Length: "), 0);
    if (at != SIZE_MAX)
        length = (size_t)strtoul(all.p + at + 16, NULL, 10);
    if (n < head + 4 + length)
        return 0;
    side->peer->n_requests++;
    buf_add(&side->peer->seen, p, head + 4 + length);
    line = str_cut(all, str_chr(all, '\r'));
    path = str_skip(line, str_chr(line, ' ') + 1);
    peer_answer(side, str_cut(path, str_chr(path, ' ')));
    return head + 4 + length;
}

static inline void peer_closed(void *arg, enum err err, const struct why *why)
{
    struct peer_side *side = arg;

    (void)err;
    (void)why;
    timer_stop(&side->trickle);
    stream_free(side->stream);
    side->stream = NULL;
    side->is_there = false;
    side->peer->n_open--;
}

static inline void peer_accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.read = peer_read, .closed = peer_closed};
    struct peer *peer = arg;
    struct peer_side *side = NULL;

    for (size_t i = 0; i < COUNT_OF(peer->sides) && !side; i++)
        if (!peer->sides[i].is_there)
            side = &peer->sides[i];
    assert_non_null(side);
    side->peer = peer;
    side->stream = stream;
    side->is_there = true;
    timer_init(&side->trickle, peer->loop, peer_trickle, side);
    peer->n_connections++;
    peer->n_open++;
    stream_accept(stream, &events, side);
}

static inline void peer_start(struct peer *peer, struct loop *loop, const struct peer_page *pages, unsigned n,
                              const struct listener_conf *conf)
{
    static const struct listener_conf clear = {.host = "127.0.0.1"};
    struct why why = {0};

    memset(peer, 0, sizeof *peer);
    peer->loop = loop;
    peer->pages = pages;
    peer->n_pages = n;
    if (listener_new(&peer->listener, loop, conf ? conf : &clear, peer_accepted, peer, &why) != ERR_OK)
        fail_msg("%s", why_text(&why));
}

static inline void peer_stop(struct peer *peer, struct closer *closer)
{
    for (size_t i = 0; i < COUNT_OF(peer->sides); i++)
        if (peer->sides[i].is_there)
            stream_close(peer->sides[i].stream, true);
    listener_close(peer->listener, closer);
}

static inline bool peer_saw(const struct peer *peer, const char *text)
{
    return str_find(buf_str(&peer->seen), str_from(text), 0) != SIZE_MAX;
}
#endif
