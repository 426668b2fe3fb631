/* SPDX-License-Identifier: Apache-2.0 */
#include "io/udp.h"

#include "base/mem.h"
#include "io/stream_impl.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATAGRAMS_A_TURN = 64 };

/* Outlives its socket, because the pool cannot be interrupted. */
struct lookup {
    uv_getaddrinfo_t req;
    struct udp *udp; /* NULL: nobody waits any more */
};

struct udp {
    struct loop *loop;
    struct udp_events events;
    void *arg;
    char *host;
    uint16_t port;
    struct lookup *lookup;
    struct sock *sock;
    struct timer begin;
    bool *is_gone; /* of the round of on_sock that runs: set by udp_close */
};

static void fail(struct udp *udp, enum err err, const char *doing, const char *text)
{
    struct why why = {0};

    (void)why_set(&why, err, "%s:%u: %s: %s", udp->host, udp->port, doing, text);
    udp->events.closed(udp->arg, err, &why);
}

static void on_sock(void *arg, int ready UNUSED)
{
    struct udp *udp = arg;
    bool is_gone = false;

    udp->is_gone = &is_gone;
    for (unsigned i = 0; i < DATAGRAMS_A_TURN; i++) {
        uint8_t *p = loop_read_buffer(udp->loop);
        ssize_t n = recv(udp->sock->fd, p, LOOP_READ_SIZE, 0);

        if (n >= 0)
            udp->events.read(udp->arg, p, (size_t)n);
        if (is_gone)
            return;
        if (n < 0 && errno != EINTR && errno != ECONNREFUSED) /* refused: by whoever got an earlier one */
            break;
    }
    udp->is_gone = NULL;
    sock_watch(udp->sock, SOCK_READABLE); /* libuv has stopped watching after an error */
}

static void use(struct udp *udp, const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, address, size)) {
        int number = errno;

        if (fd >= 0)
            close(fd);
        fail(udp, err_from_errno(number), "no socket", strerror(number));
        return;
    }
    if (sock_new(&udp->sock, udp->loop, fd, on_sock, udp)) {
        fail(udp, ERR_IO, "no socket", "it cannot be watched");
        return;
    }
    sock_watch(udp->sock, SOCK_READABLE);
    udp->events.open(udp->arg);
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *all)
{
    struct lookup *lookup = CONTAINER_OF(req, struct lookup, req);
    struct udp *udp = lookup->udp;

    mem_free(lookup);
    if (udp) {
        udp->lookup = NULL;
        if (status || !all)
            fail(udp, ERR_RESOLVE, "the name cannot be resolved", status ? uv_strerror(status) : "it has no address");
        else
            use(udp, all->ai_addr, all->ai_addrlen);
    }
    uv_freeaddrinfo(all);
}

static void on_begin(void *arg)
{
    struct udp *udp = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
    char service[8];
    int failed;

    snprintf(service, sizeof service, "%u", udp->port);
    udp->lookup = mem_zero(sizeof *udp->lookup);
    udp->lookup->udp = udp;
    failed = uv_getaddrinfo(loop_uv(udp->loop), &udp->lookup->req, on_looked_up, udp->host, service, &hints);
    if (failed) {
        mem_free(udp->lookup);
        udp->lookup = NULL;
        fail(udp, ERR_RESOLVE, "the name cannot be resolved", uv_strerror(failed));
    }
}

struct udp *udp_new(struct loop *loop, const char *host, uint16_t port, const struct udp_events *events, void *arg)
{
    struct udp *udp = mem_zero(sizeof *udp);

    udp->loop = loop;
    udp->events = *events;
    udp->arg = arg;
    udp->host = mem_dup(host);
    udp->port = port;
    timer_init(&udp->begin, loop, on_begin, udp);
    timer_start(&udp->begin, 0);
    return udp;
}

void udp_write(struct udp *udp, const uint8_t *p, size_t n)
{
    /* What is refused, or does not fit, is as lost as it would be on its way. */
    if (udp->sock && send(udp->sock->fd, p, n, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED)
        (void)!send(udp->sock->fd, p, n, MSG_NOSIGNAL); /* told of an earlier one: this one was not sent */
}

void udp_close(struct udp *udp)
{
    if (!udp)
        return;
    if (udp->is_gone)
        *udp->is_gone = true;
    timer_stop(&udp->begin);
    if (udp->lookup) {
        udp->lookup->udp = NULL;
        uv_cancel((uv_req_t *)&udp->lookup->req);
    }
    sock_close(udp->sock);
    mem_free(udp->host);
    mem_free(udp);
}
