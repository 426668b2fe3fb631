/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_impl.h"

#include <errno.h>
#include <sys/socket.h>

/* HTTP CONNECT (RFC 9110, 9.3.6): a request, the head of an answer, then the tunnel. */
enum { MAX_HEAD = 16 * 1024, READ_PIECE = 4096 };

void proxy_ask(struct stream *stream)
{
    bool is_ip6 = strchr(stream->host, ':') != NULL;
    const char *before = is_ip6 ? "[" : "", *behind = is_ip6 ? "]" : "";

    stream->state = STREAM_PROXY;
    buf_printf(&stream->wire, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n\r\n", before, stream->host, behind,
               stream->port, before, stream->host, behind, stream->port);
    stream_push_wire(stream);
}

/* "HTTP/1.1 200 OK" → 200; 0: not an answer of HTTP. *phrase: what stands behind the code. */
static unsigned status_of(struct str head, struct str *phrase)
{
    struct str line = str_cut(head, str_chr(head, '\r'));
    unsigned status = 0;

    if (!str_starts(line, STR("HTTP/1.")) || line.n < 12 || line.p[8] != ' ')
        return 0;
    for (size_t i = 9; i < 12; i++) {
        if (line.p[i] < '0' || line.p[i] > '9')
            return 0;
        status = status * 10 + (unsigned)(line.p[i] - '0');
    }
    *phrase = str_trim(str_skip(line, 12));
    return status;
}

/* What follows the head belongs to the tunnel: it stays where .read, or the handshake, will find it. */
static void take_head(struct stream *stream, size_t n_head)
{
    struct str phrase = STR_NONE;
    unsigned status = status_of(str_of(stream->in.p + stream->in_at, n_head), &phrase);

    if (status == 0) {
        stream_fail(stream, ERR_PROTO, "%s: the proxy does not answer in HTTP", stream->name);
        return;
    }
    stream->in_at += n_head;
    if (status < 200) /* interim; the answer comes */
        return;
    if (status < 300)
        stream_tunnelled(stream);
    else
        stream_fail(stream, status == 407 ? ERR_AUTH : ERR_REFUSED,
                    "%s: the proxy refuses the connection: %u " STR_FMT "%s", stream->name, status,
                    STR_ARG(str_cut(phrase, 80)), status == 407 ? " (it asks for a password)" : "");
}

void proxy_receive(struct stream *stream)
{
    ssize_t n;

    if (buf_try_grow(&stream->in, READ_PIECE, MAX_HEAD + READ_PIECE)) {
        stream_fail(stream, ERR_LIMIT, "%s: the proxy's answer has no end", stream->name);
        return;
    }
    n = recv(stream->sock->fd, stream->in.p + stream->in.n, READ_PIECE, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            stream_lost(stream, n < 0 ? errno : 0);
        return;
    }
    stream->in.n += (size_t)n;
    while (stream->state == STREAM_PROXY) {
        struct str rest = str_of(stream->in.p + stream->in_at, stream->in.n - stream->in_at);
        size_t end = str_find(rest, STR("\r\n\r\n"), 0);

        if (end == SIZE_MAX)
            break;
        take_head(stream, end + 4);
    }
}
