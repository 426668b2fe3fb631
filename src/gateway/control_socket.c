/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control_socket.h"

#include "base/crc.h"
#include "base/mem.h"
#include "gateway/gateway_conf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { STOP_MS = 500, SWEEP_MAX = 1000, SWEEP_AGE_S = 60 };

struct client {
    struct list node;
    struct control_socket *socket;
    struct control_peer *peer;
    uv_pipe_t pipe;
    uv_write_t write;
    struct buf writing;
    bool is_writing, is_reading, is_closing, has_ended, is_last; /* last: to be closed when all is written */
    struct late late;
    uint8_t in[16 * 1024];
};

struct control_socket {
    struct control *control;
    struct loop *loop;
    struct log *log;
    uv_pipe_t server;
    struct list clients; /* who was silent for longest first */
    struct timer patience;
    struct closer closer;
    bool is_stopping;
    closed_fn *stopped;
    void *arg;
    int dir; /* of the socket file */
    char name[40];
    char path[PATH_MAX];
};

/* --- where ---------------------------------------------------------------------------------------------------------------- */

static void socket_name(char *out, size_t size, const char *config_dir)
{
    char real[PATH_MAX], usual[PATH_MAX];

    if (!realpath(config_dir, real))
        snprintf(real, sizeof real, "%s", config_dir);
    if (realpath(gateway_conf_usual_dir(), usual) && strcmp(real, usual) == 0)
        snprintf(out, size, "control.sock");
    else
        snprintf(out, size, "control-%08x.sock", crc32c(0, real, strlen(real)));
}

/* The i-th place that may be; false: there is none any more. */
static bool run_dir(unsigned i, const char *config_dir, char *out, size_t size)
{
    const char *user = getenv("XDG_RUNTIME_DIR");
    int n = 0;

    if (i == 0)
        n = snprintf(out, size, "/run/iotgw");
    else if (i == 1)
        n = snprintf(out, size, "%s%s", user && *user == '/' ? user : "", user && *user == '/' ? "/iotgw" : "");
    else if (i == 2)
        n = snprintf(out, size, "%s%srun", config_dir, str_ends(str_from(config_dir), STR("/")) ? "" : "/");
    else
        return false;
    if (n <= 0 || (size_t)n >= size)
        *out = 0;
    return true;
}

/* Paths of sockets are short; through the directory's descriptor any path is. */
static NODISCARD enum err address_of(struct sockaddr_un *address, int dir, const char *name)
{
    int n;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dir, name);
    return n > 0 && (size_t)n < sizeof address->sun_path ? ERR_OK : ERR_LIMIT;
}

static int new_socket(int flags)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

/* --- clients -------------------------------------------------------------------------------------------------------------- */

static void client_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    struct control_socket *s = client->socket;

    list_del(&client->node);
    buf_fini(&client->writing);
    mem_free(client);
    if (s->is_stopping)
        closer_release(&s->closer);
}

static void client_close(struct client *client)
{
    if (client->is_closing)
        return;
    client->is_closing = true;
    late_cancel(&client->late);
    control_peer_close(client->peer);
    uv_close((uv_handle_t *)&client->pipe, client_closed);
}

static void tend(void *arg);

static void written(uv_write_t *write, int code)
{
    struct client *client = write->data;

    client->is_writing = false;
    if (client->is_closing)
        return;
    control_peer_wrote(client->peer);
    if (code)
        client_close(client);
    else
        tend(client);
}

static void give_memory(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *client = handle->data;

    (void)suggested;
    *buf = uv_buf_init((char *)client->in, sizeof client->in);
}

static void was_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *client = stream->data;

    if (n < 0) { /* it asks no more, but may still wait for answers */
        uv_read_stop(stream);
        client->is_reading = false;
        client->has_ended = true;
        late_arm(client->socket->loop, &client->late);
        return;
    }
    list_del(&client->node);
    list_add_tail(&client->socket->clients, &client->node);
    control_peer_feed(client->peer, str_of(buf->base, (size_t)n));
    late_arm(client->socket->loop, &client->late);
}

/* Writes what is there, reads if it may. */
static void tend(void *arg)
{
    struct client *client = arg;
    bool wants;

    if (client->is_closing)
        return;
    if (!client->is_writing) {
        control_peer_take(client->peer, &client->writing);
        client->is_writing = client->writing.n > 0;
        if (client->is_writing) {
            uv_buf_t buf = uv_buf_init((char *)client->writing.p, (unsigned)client->writing.n);

            client->write.data = client;
            if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buf, 1, written)) {
                client_close(client);
                return;
            }
        } else if (client->is_last || (client->has_ended && !control_peer_awaits(client->peer))) {
            client_close(client);
            return;
        }
    }
    wants = control_peer_wants_input(client->peer) && !client->is_last && !client->has_ended;
    if (wants && !client->is_reading)
        uv_read_start((uv_stream_t *)&client->pipe, give_memory, was_read);
    else if (!wants && client->is_reading)
        uv_read_stop((uv_stream_t *)&client->pipe);
    client->is_reading = wants;
}

/* Methods answer within calls of ours: what follows from that is done when the turn ends. */
static void wake_client(void *arg)
{
    struct client *client = arg;

    if (!client->is_closing)
        late_arm(client->socket->loop, &client->late);
}

/* One that asks for more than is good for it still gets the line that says so. */
static void cut_off(void *arg)
{
    struct client *client = arg;

    client->is_last = true;
    wake_client(client);
}

static const struct control_link link_of_clients = {.wake = wake_client, .close = cut_off};

/* False: somebody who has no business here. */
static bool is_welcome(struct control_socket *s, uv_pipe_t *pipe)
{
    struct ucred cred;
    socklen_t size = sizeof cred;
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)pipe, &fd) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size))
        return false;
    if (cred.uid == 0 || cred.uid == geteuid())
        return true;
    LOG_WARN(s->log, "local control is refused to another user", KV_UINT("user", cred.uid),
             KV_UINT("process", cred.pid));
    return false;
}

static void only_close(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void say_full(uv_pipe_t *pipe)
{
    static const char text[] = "{\"id\":null,\"error\":{\"code\":\"BUSY\",\"message\":\"too many clients\"}}\n";
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)text, sizeof text - 1);

    (void)uv_try_write((uv_stream_t *)pipe, &buf, 1);
}

/* Connections that nobody uses keep nobody out. */
static void make_room(struct control_socket *s)
{
    LIST_EACH(node, &s->clients) {
        struct client *client = CONTAINER_OF(node, struct client, node);

        if (client->is_closing || !control_peer_is_idle(client->peer))
            continue;
        say_full(&client->pipe);
        client_close(client);
        return;
    }
}

static void has_connected(uv_stream_t *server, int code)
{
    struct control_socket *s = server->data;
    struct client *client;

    if (code || s->is_stopping)
        return;
    client = mem_zero(sizeof *client);
    client->socket = s;
    late_init(&client->late, LATE_FLUSH, tend, client);
    uv_pipe_init(loop_uv(s->loop), &client->pipe, 0);
    client->pipe.data = client;
    if (uv_accept(server, (uv_stream_t *)&client->pipe) == 0 && is_welcome(s, &client->pipe)) {
        client->peer = control_peer_new(s->control, &link_of_clients, client);
        if (!client->peer) {
            make_room(s);
            client->peer = control_peer_new(s->control, &link_of_clients, client);
        }
        if (!client->peer)
            say_full(&client->pipe);
    }
    if (!client->peer) {
        uv_close((uv_handle_t *)&client->pipe, only_close);
        return;
    }
    list_add_tail(&s->clients, &client->node);
    tend(client);
}

/* --- the socket file -------------------------------------------------------------------------------------------------------- */

/* A directory that only root and this user can write to. */
static int usable_dir(const char *path, struct why *why)
{
    struct stat st;
    int fd;

    if (mkdir(path, 0755) && errno != EEXIST) {
        why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
        return -1;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        why_set(why, ERR_IO, "%s: %s", path, strerror(errno));
    } else if ((st.st_uid != 0 && st.st_uid != geteuid()) || st.st_mode & 022) {
        why_set(why, ERR_DENIED, "%s: others may write there", path);
        close(fd);
        return -1;
    }
    return fd;
}

/* What gateways left that were killed, of configurations that may be gone; a new one may not listen yet. */
static void sweep(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!list && fd >= 0)
        close(fd);
    for (int i = 0; list && i < SWEEP_MAX && (entry = readdir(list)); i++) {
        struct sockaddr_un address;
        struct stat st;
        int probe;

        if (!str_starts(str_from(entry->d_name), STR("control-")) || !str_ends(str_from(entry->d_name), STR(".sock")) ||
            fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISSOCK(st.st_mode) ||
            st.st_mtime + SWEEP_AGE_S > time(NULL) || address_of(&address, dir, entry->d_name))
            continue;
        probe = new_socket(SOCK_NONBLOCK);
        if (probe >= 0 && connect(probe, (struct sockaddr *)&address, sizeof address) && errno == ECONNREFUSED)
            unlinkat(dir, entry->d_name, 0);
        if (probe >= 0)
            close(probe);
    }
    if (list)
        closedir(list);
}

static int bind_in(int dir, const char *path, const char *name, struct why *why)
{
    struct sockaddr_un address;
    struct stat st;
    int fd = new_socket(SOCK_NONBLOCK);

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode)) /* stale: the lock is ours */
        unlinkat(dir, name, 0);
    /* The mode of the descriptor is that of the file from its first moment. */
    if (fd < 0 || address_of(&address, dir, name) || fchmod(fd, 0600) ||
        bind(fd, (struct sockaddr *)&address, sizeof address)) {
        why_set(why, ERR_IO, "%s/%s: %s", path, name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* The first place that works. */
static int bind_somewhere(struct control_socket *s, const char *config_dir, struct why *why)
{
    char path[PATH_MAX - 64];

    for (unsigned i = 0; run_dir(i, config_dir, path, sizeof path); i++) {
        struct why here = {0};
        int fd;

        if (!*path)
            continue;
        s->dir = usable_dir(path, &here);
        fd = s->dir >= 0 ? bind_in(s->dir, path, s->name, &here) : -1;
        if (fd >= 0) {
            snprintf(s->path, sizeof s->path, "%s/%s", path, s->name);
            return fd;
        }
        if (s->dir >= 0)
            close(s->dir);
        s->dir = -1;
        why_set(why, here.err, "%s", why_text(&here));
    }
    return -1;
}

/* --- one gateway a configuration ---------------------------------------------------------------------------------------------- */

enum err control_lock(int *fd, const char *config_dir, struct why *why)
{
    char path[PATH_MAX], name[48];

    socket_name(name, sizeof name - 5, config_dir);
    memcpy(name + strlen(name) - 4, "lock", 5); /* control.sock → control.lock */
    *fd = -1;
    for (unsigned i = 0; *fd < 0 && run_dir(i, config_dir, path, sizeof path); i++) {
        int dir = *path ? usable_dir(path, NULL) : -1;

        if (dir < 0)
            continue;
        *fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        close(dir);
    }
    if (*fd < 0 || flock(*fd, LOCK_EX | LOCK_NB) == 0 ||
        errno != EWOULDBLOCK) /* nowhere to lock: then there is no socket */
        return ERR_OK;
    close(*fd);
    *fd = -1;
    return why_set(why, ERR_BUSY, "%s: another gateway runs with this configuration", config_dir);
}

void control_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

static void out_of_patience(void *arg)
{
    struct control_socket *s = arg;

    LIST_EACH_SAFE(node, &s->clients)
        client_close(CONTAINER_OF(node, struct client, node));
}

enum err control_socket_new(struct control_socket **out, struct control *control, struct loop *loop, struct log *log,
                            const char *config_dir, struct why *why)
{
    struct control_socket *s = mem_zero(sizeof *s);
    int fd, code;

    s->control = control;
    s->loop = loop;
    s->log = log;
    s->dir = -1;
    list_init(&s->clients);
    timer_init(&s->patience, loop, out_of_patience, s);
    socket_name(s->name, sizeof s->name, config_dir);
    fd = bind_somewhere(s, config_dir, why);
    if (fd < 0) {
        mem_free(s);
        return why_set(why, ERR_IO, "no directory for it");
    }
    uv_pipe_init(loop_uv(loop), &s->server, 0);
    s->server.data = s;
    code = uv_pipe_open(&s->server, fd);
    assert(code == 0); /* it is a socket, and of this process */
    code = uv_listen((uv_stream_t *)&s->server, CONTROL_PEERS_MAX, has_connected);
    assert(code == 0);
    sweep(s->dir);
    *out = s;
    return ERR_OK;
}

const char *control_socket_path(const struct control_socket *s)
{
    return s->path;
}

static void all_closed(void *arg)
{
    struct control_socket *s = arg;

    timer_stop(&s->patience);
    s->stopped(s->arg);
}

static void server_closed(uv_handle_t *handle)
{
    struct control_socket *s = handle->data;

    closer_release(&s->closer);
}

void control_socket_stop(struct control_socket *s, closed_fn *done, void *arg)
{
    loop_assert(s->loop);
    s->stopped = done;
    s->arg = arg;
    closer_begin(&s->closer, s->loop, all_closed, s);
    s->is_stopping = true;
    closer_hold(&s->closer);
    uv_close((uv_handle_t *)&s->server, server_closed);
    unlinkat(s->dir, s->name, 0);
    LIST_EACH_SAFE(node, &s->clients) {
        struct client *client = CONTAINER_OF(node, struct client, node);

        closer_hold(&s->closer);
        client->is_last = true;
        tend(client);
    }
    timer_start(&s->patience, STOP_MS);
    closer_end(&s->closer);
}

void control_socket_free(struct control_socket *s)
{
    if (!s)
        return;
    close(s->dir);
    mem_free(s);
}

/* --- the client's side -------------------------------------------------------------------------------------------------------- */

static NODISCARD enum err connect_in(int *out, const char *path, const char *name)
{
    struct sockaddr_un address;
    struct ucred cred;
    socklen_t size = sizeof cred;
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = new_socket(0);
    enum err err = ERR_NOTFOUND;

    if (dir >= 0 && fd >= 0 && address_of(&address, dir, name) == ERR_OK) {
        if (connect(fd, (struct sockaddr *)&address, sizeof address))
            err = errno == EACCES || errno == EPERM ? ERR_DENIED : ERR_NOTFOUND;
        else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) ||
                 (cred.uid != 0 && cred.uid != geteuid() && geteuid() != 0))
            err = ERR_DENIED; /* nobody else may pass for the gateway */
        else
            err = ERR_OK;
    } else if (errno == EACCES) {
        err = ERR_DENIED;
    }
    if (dir >= 0)
        close(dir);
    if (err && fd >= 0)
        close(fd);
    *out = err ? -1 : fd;
    return err;
}

enum err control_connect(int *fd, const char *config_dir, struct why *why)
{
    char path[PATH_MAX], name[40];
    bool is_denied = false;

    socket_name(name, sizeof name, config_dir);
    for (unsigned i = 0; run_dir(i, config_dir, path, sizeof path); i++) {
        enum err err = *path ? connect_in(fd, path, name) : ERR_NOTFOUND;

        if (err == ERR_OK)
            return ERR_OK;
        is_denied |= err == ERR_DENIED;
    }
    *fd = -1;
    if (is_denied)
        return why_set(why, ERR_DENIED, "the gateway of %s runs as another user", config_dir);
    return why_set(why, ERR_NOTFOUND, "no gateway runs with the configuration in %s", config_dir);
}
