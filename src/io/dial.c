/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_impl.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_ADDRESSES = 16, STAGGER_MS = 250 };

/* A name look-up; outlives its dial, because the pool cannot be interrupted. */
struct lookup {
    uv_getaddrinfo_t req;
    struct dial *dial; /* NULL: nobody waits any more */
};

struct attempt {
    struct dial *dial;
    struct sock *sock; /* NULL: not begun, or over */
};

struct dial {
    struct stream *stream;
    struct lookup *lookup;
    char *host;
    uint16_t port;
    struct sockaddr_storage addresses[MAX_ADDRESSES];
    struct attempt attempts[MAX_ADDRESSES];
    size_t n_addresses, next;
    struct timer stagger;
    enum err err; /* of the attempt that says most */
    char reasons[300];
};

static size_t size_of(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static void dial_free(struct dial *dial)
{
    timer_stop(&dial->stagger);
    if (dial->lookup) {
        dial->lookup->dial = NULL;
        uv_cancel((uv_req_t *)&dial->lookup->req); /* fails when it runs already: then it ends by itself */
    }
    for (size_t i = 0; i < dial->n_addresses; i++)
        sock_close(dial->attempts[i].sock);
    mem_free(dial->host);
    mem_free(dial);
}

static const char *of_proxy(const struct dial *dial)
{
    return dial->stream->has_proxy ? "of the proxy " : "";
}

static void add_reason(struct dial *dial, const struct sockaddr_storage *address, int number)
{
    size_t n = strlen(dial->reasons);
    enum err err = err_from_errno(number);
    char text[64];

    sock_print((const struct sockaddr *)address, text, sizeof text);
    snprintf(dial->reasons + n, sizeof dial->reasons - n, "%s%s: %s", n ? "; " : "", text, strerror(number));
    if (!dial->err || dial->err == ERR_UNREACHABLE)
        dial->err = err;
}

static bool is_any_open(const struct dial *dial)
{
    for (size_t i = 0; i < dial->next; i++) {
        if (dial->attempts[i].sock)
            return true;
    }
    return false;
}

/* A port of this machine's ephemeral range, and nobody listens: the kernel may connect the socket to itself. */
static bool is_self(int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t n_own = sizeof own, n_peer = sizeof peer;

    return !getsockname(fd, (struct sockaddr *)&own, &n_own) && !getpeername(fd, (struct sockaddr *)&peer, &n_peer) &&
           n_own == n_peer && memcmp(&own, &peer, n_own) == 0;
}

static void on_attempt(void *arg, int ready);

/* 0: under way; else errno. */
static int begin(struct attempt *attempt, const struct sockaddr_storage *address)
{
    struct stream *stream = attempt->dial->stream;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    sock_tune(fd, stream->user_timeout_ms);
    if (connect(fd, (const struct sockaddr *)address, (socklen_t)size_of(address)) && errno != EINPROGRESS) {
        int number = errno;

        close(fd);
        return number;
    }
    if (sock_new(&attempt->sock, stream->loop, fd, on_attempt, attempt))
        return EIO;
    sock_watch(attempt->sock, SOCK_WRITABLE);
    return 0;
}

/* The next address that can be tried at all; the end when there is none and no attempt is open. */
static void try_next(struct dial *dial)
{
    timer_stop(&dial->stagger);
    while (dial->next < dial->n_addresses) {
        size_t i = dial->next++;
        int number;

        dial->attempts[i].dial = dial;
        number = begin(&dial->attempts[i], &dial->addresses[i]);
        if (!number) {
            if (dial->next < dial->n_addresses)
                timer_start(&dial->stagger, STAGGER_MS);
            return;
        }
        add_reason(dial, &dial->addresses[i], number);
    }
    if (!is_any_open(dial)) /* frees the dial */
        stream_fail(dial->stream, dial->err, "cannot connect to %s\"%s\": %s",
                    dial->stream->has_proxy ? "the proxy " : "", dial->host, dial->reasons);
}

static void on_stagger(void *arg)
{
    try_next(arg);
}

static void on_attempt(void *arg, int ready UNUSED)
{
    struct attempt *attempt = arg;
    struct dial *dial = attempt->dial;
    struct sock *sock = attempt->sock;
    int number = 0;
    socklen_t size = sizeof number;

    if (getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &number, &size))
        number = errno;
    if (!number && is_self(sock->fd))
        number = ECONNREFUSED;
    attempt->sock = NULL;
    if (number) {
        sock_close(sock);
        add_reason(dial, &dial->addresses[attempt - dial->attempts], number);
        try_next(dial);
        return;
    }
    sock_watch(sock, 0);
    stream_dialed(dial->stream, sock); /* frees the dial */
}

/* --- addresses ---------------------------------------------------------------------------------------------------- */
static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = htons(port);
}

static const struct addrinfo *next_of(const struct addrinfo *info, bool want_first_family, int first_family)
{
    for (; info; info = info->ai_next) {
        bool is_usable = info->ai_family == AF_INET || info->ai_family == AF_INET6;

        if (is_usable && (info->ai_family == first_family) == want_first_family)
            return info;
    }
    return NULL;
}

/* The system's order, but families in turn, so that a broken one costs 250 ms and not all of them. */
static void take_addresses(struct dial *dial, const struct addrinfo *all)
{
    int first_family = all->ai_family;
    const struct addrinfo *next[2] = {next_of(all, false, first_family), next_of(all, true, first_family)};

    for (bool first = true; (next[0] || next[1]) && dial->n_addresses < MAX_ADDRESSES; first = !first) {
        const struct addrinfo *info = next[first];
        struct sockaddr_storage *address = &dial->addresses[dial->n_addresses];

        if (!info)
            continue;
        next[first] = next_of(info->ai_next, first, first_family);
        memcpy(address, info->ai_addr,
               info->ai_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        set_port(address, dial->port);
        dial->n_addresses++;
    }
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *all)
{
    struct lookup *lookup = CONTAINER_OF(req, struct lookup, req);
    struct dial *dial = lookup->dial;

    mem_free(lookup);
    if (dial) {
        dial->lookup = NULL;
        if (!status && all)
            take_addresses(dial, all);
    }
    uv_freeaddrinfo(all);
    if (!dial)
        return;
    if (dial->n_addresses)
        try_next(dial);
    else
        stream_fail(dial->stream, ERR_RESOLVE, "the name %s\"%s\" cannot be resolved: %s", of_proxy(dial), dial->host,
                    status ? uv_strerror(status) : "it has no address");
}

/* Off the caller's stack, also where nothing has to be looked up. */
static void on_started(void *arg)
{
    struct dial *dial = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct sockaddr_storage *first = &dial->addresses[0];
    int failed;

    dial->stagger.fn = on_stagger;
    if (!uv_ip4_addr(dial->host, dial->port, (struct sockaddr_in *)(void *)first) ||
        !uv_ip6_addr(dial->host, dial->port, (struct sockaddr_in6 *)(void *)first)) {
        dial->n_addresses = 1;
        try_next(dial);
        return;
    }
    dial->lookup = mem_zero(sizeof *dial->lookup);
    dial->lookup->dial = dial;
    failed = uv_getaddrinfo(loop_uv(dial->stream->loop), &dial->lookup->req, on_looked_up, dial->host, NULL, &hints);
    if (failed) { /* a name that is too long, or no name at all */
        mem_free(dial->lookup);
        dial->lookup = NULL;
        stream_fail(dial->stream, ERR_RESOLVE, "the name %s\"%s\" cannot be resolved: %s", of_proxy(dial), dial->host,
                    uv_strerror(failed));
    }
}

void dial_start(struct stream *stream, const char *host, uint16_t port)
{
    struct dial *dial = mem_zero(sizeof *dial);

    dial->stream = stream;
    dial->host = mem_dup(host);
    dial->port = port;
    stream->dial = dial;
    timer_init(&dial->stagger, stream->loop, on_started, dial);
    timer_start(&dial->stagger, 0);
}

void dial_stop(struct stream *stream)
{
    if (stream->dial)
        dial_free(stream->dial);
    stream->dial = NULL;
}

const char *dial_doing(const struct stream *stream)
{
    return stream->dial && stream->dial->n_addresses ? "no address answered" : "its name was still being looked up";
}
