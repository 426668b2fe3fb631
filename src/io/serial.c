/* SPDX-License-Identifier: Apache-2.0 */
#include "io/serial.h"

#include "base/buf.h"
#include "io/stream_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { READ_SIZE = 1024, READS_A_TURN = 16, OUT_MAX = 64 * 1024 };

struct serial {
    struct loop *loop;
    struct serial_events events;
    void *arg;
    char *path;
    struct sock *sock;
    struct buf out; /* what the driver does not take yet */
    bool lacks_rs485, is_over;
    bool *is_gone; /* of the round of on_sock that runs: set by serial_close */
};

uint32_t serial_char_us(const struct serial_conf *conf)
{
    unsigned half_bits = 2 * (1u + conf->bytesize + (conf->parity != 'N')) + conf->half_stopbits;

    return conf->baudrate ? (uint32_t)((uint64_t)half_bits * 500000 / conf->baudrate) : 0;
}

/* --- bytes ------------------------------------------------------------------------------------------------------------- */
static void lose(struct serial *serial, int number)
{
    struct why why = {0};

    if (serial->is_over)
        return;
    serial->is_over = true;
    sock_watch(serial->sock, 0);
    (void)why_set(&why, number ? err_from_errno(number) : ERR_CLOSED, "%s: %s", serial->path,
                  number ? strerror(number) : "the device is gone");
    serial->events.closed(serial->arg, why.err, &why);
}

static void watch(struct serial *serial)
{
    if (!serial->is_over)
        sock_watch(serial->sock, SOCK_READABLE | (serial->out.n ? SOCK_WRITABLE : 0));
}

static void write_out(struct serial *serial)
{
    while (serial->out.n) {
        ssize_t n = write(serial->sock->fd, serial->out.p, serial->out.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* full; or an error, which reading will tell */
        buf_drop(&serial->out, (size_t)n);
    }
}

static void read_in(struct serial *serial)
{
    bool is_gone = false;

    serial->is_gone = &is_gone;
    for (unsigned i = 0; i < READS_A_TURN; i++) {
        uint8_t bytes[READ_SIZE];
        ssize_t n = read(serial->sock->fd, bytes, sizeof bytes);

        if (n > 0)
            serial->events.read(serial->arg, bytes, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            lose(serial, n == 0 ? 0 : errno);
        if (is_gone)
            return;
        if (n <= 0 || serial->is_over)
            break;
    }
    serial->is_gone = NULL;
    watch(serial); /* libuv has stopped watching after an error */
}

static void on_sock(void *arg, int ready)
{
    struct serial *serial = arg;

    if (ready & SOCK_WRITABLE) {
        write_out(serial);
        watch(serial);
    }
    if (ready & (SOCK_READABLE | SOCK_ERROR))
        read_in(serial);
}

void serial_write(struct serial *serial, const uint8_t *p, size_t n)
{
    ssize_t sent = 0;

    if (serial->is_over)
        return;
    if (!serial->out.n)
        sent = write(serial->sock->fd, p, n);
    if (sent < 0)
        sent = 0;
    if ((size_t)sent < n && serial->out.n + n <= OUT_MAX)
        buf_add(&serial->out, p + sent, n - (size_t)sent);
    watch(serial);
}

/* --- setting up -------------------------------------------------------------------------------------------------------- */
static NODISCARD enum err check(const struct serial_conf *conf, struct why *why)
{
    if (conf->bytesize < 5 || conf->bytesize > 8 || !conf->baudrate || !conf->path || !*conf->path)
        return why_set(why, ERR_CONFIG, "%s: %u baud with %u data bits is no setting of a serial line",
                       conf->path ? conf->path : "", conf->baudrate, conf->bytesize);
    return ERR_OK;
}

enum err serial_open(struct serial **out, struct loop *loop, const struct serial_conf *conf,
                     const struct serial_events *events, void *arg, struct why *why)
{
    enum err err = check(conf, why);
    bool lacks_rs485 = false;
    struct serial *serial;
    int fd;

    loop_assert(loop);
    if (err)
        return err;
    fd = open(conf->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return why_set(why, err_from_errno(errno), "%s: %s%s", conf->path, strerror(errno),
                       errno == EACCES ? "; the user of the gateway must be in the device's group, mostly dialout"
                                       : "");
    err = serial_tty_set(fd, conf, why);
    if (!err && ioctl(fd, TIOCEXCL))
        err = why_set(why, err_from_errno(errno), "%s: %s", conf->path, strerror(errno));
    if (err) {
        close(fd);
        return err;
    }
    serial_tty_hurry(fd);
    if (conf->rs485)
        lacks_rs485 = !serial_tty_rs485(fd);
    serial = mem_zero(sizeof *serial);
    err = sock_new(&serial->sock, loop, fd, on_sock, serial);
    if (err) {
        mem_free(serial);
        return why_set(why, err, "%s: cannot be watched", conf->path);
    }
    serial->loop = loop;
    serial->events = *events;
    serial->arg = arg;
    serial->path = mem_dup(conf->path);
    serial->lacks_rs485 = lacks_rs485;
    watch(serial);
    *out = serial;
    return ERR_OK;
}

bool serial_lacks_rs485(const struct serial *serial)
{
    return serial->lacks_rs485;
}

void serial_close(struct serial *serial)
{
    if (!serial)
        return;
    if (serial->is_gone)
        *serial->is_gone = true;
    serial_tty_drop_output(serial->sock->fd); /* closing would wait for what nobody takes */
    sock_close(serial->sock);
    buf_fini(&serial->out);
    mem_free(serial->path);
    mem_free(serial);
}

/* --- a node that comes back ---------------------------------------------------------------------------------------------- */
struct serial_watch {
    uv_fs_event_t event;
    char *name; /* in its directory */
    void (*fn)(void *arg);
    void *arg;
};

static void on_change(uv_fs_event_t *event, const char *name, int events UNUSED, int status)
{
    struct serial_watch *watching = CONTAINER_OF(event, struct serial_watch, event);

    if (!status && name && !strcmp(name, watching->name))
        watching->fn(watching->arg); /* may free it */
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct serial_watch *watching = CONTAINER_OF((uv_fs_event_t *)handle, struct serial_watch, event);

    mem_free(watching->name);
    mem_free(watching);
}

struct serial_watch *serial_watch_new(struct loop *loop, const char *path, void (*fn)(void *arg), void *arg)
{
    const char *slash = strrchr(path, '/');
    struct serial_watch *watching;
    autofree char *dir = NULL;

    if (loop_is_fake(loop))
        return NULL;
    watching = mem_zero(sizeof *watching);
    dir = slash ? mem_dup(path) : mem_dup(".");
    if (slash)
        dir[slash == path ? 1 : slash - path] = 0;
    watching->name = mem_dup(slash ? slash + 1 : path);
    watching->fn = fn;
    watching->arg = arg;
    uv_fs_event_init(loop_uv(loop), &watching->event);
    if (uv_fs_event_start(&watching->event, on_change, dir, 0)) {
        serial_watch_free(watching);
        return NULL;
    }
    return watching;
}

void serial_watch_free(struct serial_watch *watching)
{
    if (!watching)
        return;
    watching->fn = NULL;
    uv_fs_event_stop(&watching->event);
    uv_close((uv_handle_t *)&watching->event, on_watch_closed);
}
