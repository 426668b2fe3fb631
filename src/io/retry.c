/* SPDX-License-Identifier: Apache-2.0 */
#include "io/retry.h"

#include "base/mem.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LISTEN_FROM_MS = 1000, /* shorter pauses are over before news could help */
    SETTLE_MS = 200        /* addresses and routes follow a link within moments */
};

/* Has its own memory: the handle's last callback may come after the retry is gone. */
struct retry_watch {
    uv_poll_t poll;
    int fd;
    struct retry *retry; /* NULL: nobody listens any more */
};

/* True if one of the kernel's messages says that something came (back). */
static bool is_good_news(struct nlmsghdr *message, size_t n)
{
    for (; NLMSG_OK(message, n); message = NLMSG_NEXT(message, n)) {
        if (message->nlmsg_type == RTM_NEWADDR || message->nlmsg_type == RTM_NEWROUTE)
            return true;
        if (message->nlmsg_type == RTM_NEWLINK && message->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)) &&
            (((const struct ifinfomsg *)NLMSG_DATA(message))->ifi_flags & IFF_RUNNING))
            return true;
    }
    return false;
}

static void readable(uv_poll_t *poll, int status, int events)
{
    struct retry_watch *watch = poll->data;
    union {
        struct nlmsghdr align;
        uint8_t bytes[8192];
    } in;
    bool is_good = status < 0;
    ssize_t n;

    (void)events;
    while ((n = recv(watch->fd, &in, sizeof in, MSG_DONTWAIT)) > 0)
        is_good |= is_good_news(&in.align, (size_t)n);
    /* A full buffer (ENOBUFS) means that much has happened: that is news enough. */
    if (n < 0 && errno == ENOBUFS)
        is_good = true;
    if (is_good && watch->retry && watch->retry->timer.due_ms > loop_mono_ms(watch->retry->timer.loop) + SETTLE_MS)
        timer_start(&watch->retry->timer, SETTLE_MS);
}

static void closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void unwatch(struct retry *retry)
{
    struct retry_watch *watch = retry->watch;

    retry->watch = NULL;
    if (!watch)
        return;
    watch->retry = NULL;
    uv_poll_stop(&watch->poll);
    close(watch->fd);
    uv_close((uv_handle_t *)&watch->poll, closed);
}

static void watch(struct retry *retry)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK,
                                  .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                               RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
    struct loop *loop = retry->timer.loop;
    int fd = loop_is_fake(loop) ? -1 : socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct retry_watch *made;

    if (fd < 0)
        return;
    made = mem_zero(sizeof *made);
    *made = (struct retry_watch){.fd = fd, .retry = retry};
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        uv_poll_init(loop_uv(loop), &made->poll, fd) != 0) {
        close(fd);
        mem_free(made);
        return;
    }
    made->poll.data = made;
    uv_poll_start(&made->poll, UV_READABLE, readable);
    retry->watch = made;
}

static void due(void *arg)
{
    struct retry *retry = arg;

    unwatch(retry);
    retry->fn(retry->arg);
}

void retry_init(struct retry *retry, struct loop *loop, void (*fn)(void *arg), void *arg)
{
    *retry = (struct retry){.fn = fn, .arg = arg};
    timer_init(&retry->timer, loop, due, retry);
}

void retry_start_deaf(struct retry *retry, uint64_t pause_ms)
{
    unwatch(retry);
    timer_start(&retry->timer, pause_ms);
}

void retry_start(struct retry *retry, uint64_t pause_ms)
{
    retry_start_deaf(retry, pause_ms);
    if (pause_ms >= LISTEN_FROM_MS)
        watch(retry);
}

void retry_stop(struct retry *retry)
{
    unwatch(retry);
    timer_stop(&retry->timer);
}
