/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream_impl.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of links that are silent; MQTT's own keep-alive is usually sooner. */
enum { KEEP_IDLE_S = 60, KEEP_INTERVAL_S = 15, KEEP_COUNT = 4 };

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct sock *sock = CONTAINER_OF(poll, struct sock, poll);

    if (status < 0)
        sock->watched = 0; /* libuv has stopped watching; the socket's own calls will tell the error */
    sock->fn(sock->arg, status < 0 ? SOCK_ERROR : events);
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(CONTAINER_OF((uv_poll_t *)handle, struct sock, poll));
}

enum err sock_new(struct sock **out, struct loop *loop, int fd, sock_fn *fn, void *arg)
{
    struct sock *sock = mem_zero(sizeof *sock);
    int failed = uv_poll_init(loop_uv(loop), &sock->poll, fd);

    if (failed) {
        close(fd);
        mem_free(sock);
        return err_from_uv(failed);
    }
    sock->fd = fd;
    sock->fn = fn;
    sock->arg = arg;
    *out = sock;
    return ERR_OK;
}

void sock_watch(struct sock *sock, int events)
{
    if (events == sock->watched)
        return;
    sock->watched = events;
    if (events)
        uv_poll_start(&sock->poll, events, on_poll);
    else
        uv_poll_stop(&sock->poll);
}

void sock_close(struct sock *sock)
{
    if (!sock)
        return;
    uv_close((uv_handle_t *)&sock->poll, on_closed); /* takes the descriptor out of the kernel's set at once */
    close(sock->fd);
    sock->fd = -1;
}

void sock_tune(int fd, uint32_t user_timeout_ms)
{
    int on = 1, idle = KEEP_IDLE_S, interval = KEEP_INTERVAL_S, n = KEEP_COUNT;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &n, sizeof n);
    if (user_timeout_ms)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
}

void sock_print(const struct sockaddr *address, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
    }
}
