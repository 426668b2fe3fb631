/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "io/stream_impl.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_ACCEPTS = 64, /* of one turn */
    BACKLOG = 512,
    PAUSE_MS = 1000, /* when the process has no descriptors left */
};

static struct log listener_log = {.name = "listener", .level = LOG_LEVEL_INFO};

struct listener {
    struct loop *loop;
    struct sock *sock;
    uint16_t port;
    accepted_fn *accepted;
    void *arg;
    const struct tls_api *tls;
    struct tls_ctx *tls_ctx;
    struct timer pause;
};

static void welcome(struct listener *listener, int fd)
{
    struct tls_session *session = NULL;
    struct why why = {0};
    struct stream *stream;
    struct sock *sock;

    sock_tune(fd, 0);
    if (sock_new(&sock, listener->loop, fd, NULL, NULL)) {
        LOG_WARN(&listener_log, "a connection could not be taken", KV_UINT("port", listener->port));
        return;
    }
    if (listener->tls && listener->tls->session_new(&session, listener->tls_ctx, NULL, &why)) {
        LOG_WARN(&listener_log, "a connection could not be taken", KV_UINT("port", listener->port), KV_WHY(&why));
        sock_close(sock);
        return;
    }
    stream = stream_of_socket(listener->loop, sock, listener->tls, session);
    listener->accepted(listener->arg, stream);
    if (!stream_is_accepted(stream))
        stream_free(stream);
}

static void on_pause_over(void *arg)
{
    struct listener *listener = arg;

    sock_watch(listener->sock, SOCK_READABLE);
}

static void on_connections(void *arg, int ready UNUSED)
{
    struct listener *listener = arg;

    for (unsigned i = 0; i < MAX_ACCEPTS && listener->sock; i++) {
        int fd = accept4(listener->sock->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            welcome(listener, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) { /* no descriptors, no memory: it would be ready again at once */
            LOG_ERROR(&listener_log, "connections cannot be taken", KV_UINT("port", listener->port),
                      KV_Z("error", strerror(errno)));
            sock_watch(listener->sock, 0);
            timer_start(&listener->pause, PAUSE_MS);
        }
        break;
    }
}

/* A name is looked up here and now: it is one of this machine's own, and a listener is made at start only. */
static NODISCARD enum err resolve(const struct listener_conf *conf, struct addrinfo **out, struct why *why)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    const char *host = conf->host && *conf->host && strcmp(conf->host, "*") != 0 ? conf->host : "0.0.0.0";
    char service[8];
    int failed;

    snprintf(service, sizeof service, "%u", conf->port);
    failed = getaddrinfo(host, service, &hints, out);
    if (failed)
        return why_set(why, ERR_RESOLVE, "the address \"%s\" to listen on cannot be resolved: %s", host,
                       gai_strerror(failed));
    return ERR_OK;
}

static int open_socket(const struct addrinfo *info, bool takes_connections)
{
    int on = 1, fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, info->ai_addr, info->ai_addrlen) || (takes_connections && listen(fd, BACKLOG))) {
        int number = errno;

        close(fd);
        errno = number;
        return -1;
    }
    return fd;
}

/* A socket that is bound to the address. */
static NODISCARD enum err bind_to(int *fd, const struct listener_conf *conf, bool takes_connections, struct why *why)
{
    struct addrinfo *info;
    enum err err = resolve(conf, &info, why);
    char text[64];
    int number;

    if (err)
        return err;
    *fd = open_socket(info, takes_connections);
    number = errno;
    sock_print(info->ai_addr, text, sizeof text);
    freeaddrinfo(info);
    if (*fd < 0)
        return why_set(why, err_from_errno(number), "cannot listen on %s: %s", text, strerror(number));
    return ERR_OK;
}

static NODISCARD enum err listen_on(struct listener *listener, const struct listener_conf *conf, struct why *why)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    int fd;
    enum err err = bind_to(&fd, conf, true, why);

    if (err)
        return err;
    if (!getsockname(fd, (struct sockaddr *)&own, &size))
        listener->port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&own)->sin6_port
                                                         : ((struct sockaddr_in *)(void *)&own)->sin_port);
    err = sock_new(&listener->sock, listener->loop, fd, on_connections, listener);
    return err ? why_set(why, err, "cannot listen on %s: %s", conf->host, err_text(err)) : ERR_OK;
}

enum err listener_new(struct listener **out, struct loop *loop, const struct listener_conf *conf, accepted_fn *accepted,
                      void *arg, struct why *why)
{
    struct listener *listener = mem_zero(sizeof *listener);
    enum err err = ERR_OK;

    loop_assert(loop);
    *listener = (struct listener){.loop = loop, .accepted = accepted, .arg = arg};
    timer_init(&listener->pause, loop, on_pause_over, listener);
    if (conf->tls) {
        listener->tls = tls_load(why);
        err = listener->tls ? listener->tls->server_ctx(&listener->tls_ctx, conf, why) : ERR_TLS;
    }
    if (!err)
        err = listen_on(listener, conf, why);
    if (err) {
        if (listener->tls_ctx)
            listener->tls->ctx_free(listener->tls_ctx);
        mem_free(listener);
        return err;
    }
    sock_watch(listener->sock, SOCK_READABLE);
    *out = listener;
    return ERR_OK;
}

enum err listener_check(const struct listener_conf *conf, struct why *why)
{
    const struct tls_api *tls = conf->tls ? tls_load(why) : NULL;
    struct tls_ctx *ctx;
    enum err err = ERR_OK;
    int fd;

    if (conf->tls) {
        err = tls ? tls->server_ctx(&ctx, conf, why) : ERR_TLS;
        if (!err)
            tls->ctx_free(ctx);
    }
    if (!err)
        err = bind_to(&fd, conf, false, why);
    if (!err)
        close(fd);
    return err;
}

enum err listener_renew(struct listener *listener, const struct listener_conf *conf, struct why *why)
{
    struct tls_ctx *ctx;
    enum err err;

    loop_assert(listener->loop);
    assert(listener->tls);
    err = listener->tls->server_ctx(&ctx, conf, why);
    if (err)
        return err;
    listener->tls->ctx_free(listener->tls_ctx); /* sessions hold what they need of it */
    listener->tls_ctx = ctx;
    return ERR_OK;
}

uint16_t listener_port(const struct listener *listener)
{
    return listener->port;
}

static void free_later(void *arg)
{
    struct listener *listener = arg;
    struct closer *closer = listener->arg;

    mem_free(listener);
    closer_release(closer);
}

void listener_close(struct listener *listener, struct closer *closer)
{
    if (!listener)
        return;
    loop_assert(listener->loop);
    closer_hold(closer);
    sock_close(listener->sock);
    listener->sock = NULL; /* also ends the round of on_connections, if it is the caller */
    if (listener->tls_ctx)
        listener->tls->ctx_free(listener->tls_ctx);
    listener->arg = closer;
    timer_init(&listener->pause, listener->loop, free_later, listener);
    timer_start(&listener->pause, 0);
}
