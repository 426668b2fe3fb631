/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_server.h"

#include "io/serial_tty.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SPLIT_MS = 20, SILENCE_MS = 20 };

/* An answer that comes late, while others go on. */
struct parcel {
    struct list node;
    struct modbus_conn *conn;
    struct timer timer;
    size_t n;
    uint8_t bytes[MODBUS_FRAME_MAX];
};

struct modbus_conn {
    struct list node;
    struct modbus_server *server;
    struct stream *stream; /* TCP; else NULL */
    struct modbus_framer framer;
    struct modbus_adu pending[MODBUS_PENDING_MAX];
    unsigned first, n_pending;
    struct timer service, silence; /* service: the first one, or the rest of an answer, is due */
    struct fault_verdict verdict;  /* of the first one, while service runs */
    size_t rest_n, rest_at;
    uint8_t rest[2 * MODBUS_FRAME_MAX + 8];
    struct list parcels;
    bool is_closing;
};

struct modbus_pty {
    struct modbus_server *server;
    struct modbus_conn *conn;
    int master, slave; /* the slave's end is kept open, so that the line does not hang up when a client goes */
    uv_poll_t poll;
    struct closer *closer;
    char name[128];
};

struct modbus_datagrams {
    struct modbus_server *server;
    struct modbus_conn *conn;
    uv_udp_t udp;
    struct sockaddr_storage peer; /* whom the last one came from */
    struct closer *closer;
};

/* --- answers ------------------------------------------------------------------------------------------------------------- */
static void put(struct modbus_conn *conn, const uint8_t *p, size_t n)
{
    struct modbus_server *server = conn->server;

    if (conn->is_closing || !n)
        return;
    if (conn->stream) {
        stream_write(conn->stream, p, n, true);
    } else if (server->pty) {
        (void)!write(server->pty->master, p, n);
    } else if (server->datagrams) {
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);

        (void)uv_udp_try_send(&server->datagrams->udp, &buf, 1, (const struct sockaddr *)&server->datagrams->peer);
    }
}

static void free_parcel(struct parcel *parcel)
{
    timer_stop(&parcel->timer);
    list_del(&parcel->node);
    mem_free(parcel);
}

static void on_parcel(void *arg)
{
    struct parcel *parcel = arg;

    put(parcel->conn, parcel->bytes, parcel->n);
    free_parcel(parcel);
}

static void put_late(struct modbus_conn *conn, const uint8_t *p, size_t n, uint32_t late_ms)
{
    struct parcel *parcel = mem_zero(sizeof *parcel);

    parcel->conn = conn;
    parcel->n = n;
    memcpy(parcel->bytes, p, n);
    timer_init(&parcel->timer, conn->server->loop, on_parcel, parcel);
    list_add_tail(&conn->parcels, &parcel->node);
    timer_start(&parcel->timer, late_ms);
}

static void damage_check(enum modbus_framing framing, uint8_t *frame, size_t n)
{
    if (framing == MODBUS_RTU)
        frame[n - 1] ^= 0x55;
    else if (framing == MODBUS_ASCII)
        frame[n - 3] = frame[n - 3] == '0' ? '1' : '0';
}

static void put_frame(struct modbus_conn *conn, uint8_t *frame, size_t n, const uint32_t *faults)
{
    static const uint8_t noise[] = {0x00, 0xff, 0x3a};
    uint8_t bytes[sizeof conn->rest];
    size_t at = 0;

    if (faults[FAULT_CHECK])
        damage_check(conn->server->conf->framing, frame, n);
    if (faults[FAULT_CUT])
        n /= 2;
    if (faults[FAULT_LATE]) {
        put_late(conn, frame, n, faults[FAULT_LATE]);
        return;
    }
    if (faults[FAULT_NOISE]) {
        memcpy(bytes, noise, sizeof noise);
        at = sizeof noise;
    }
    for (unsigned i = 0; i < (faults[FAULT_TWICE] ? 2u : 1u); i++, at += n)
        memcpy(bytes + at, frame, n);
    if (!faults[FAULT_SPLIT]) {
        put(conn, bytes, at);
        return;
    }
    put(conn, bytes, at / 2);
    conn->rest_n = at - at / 2;
    memcpy(conn->rest, bytes + at / 2, conn->rest_n);
    timer_start(&conn->service, SPLIT_MS);
}

static void close_conn(struct modbus_conn *conn)
{
    if (conn->stream && !conn->is_closing)
        stream_close(conn->stream, true);
    conn->is_closing = conn->stream != NULL;
}

static void answer(struct modbus_conn *conn, const struct modbus_adu *ask, const struct fault_verdict *verdict)
{
    struct modbus_server *server = conn->server;
    const uint32_t *faults = verdict->values;
    uint8_t frame[MODBUS_FRAME_MAX], unit = ask->unit;
    struct modbus_pdu pdu;
    uint16_t tid = ask->tid;
    size_t n;

    if (faults[FAULT_HANGUP]) {
        close_conn(conn);
        return;
    }
    if (!server->conf->answer(server->conf->arg, server->index, unit, &ask->pdu, &pdu) || faults[FAULT_DROP]) {
        server->n_dropped++;
        return;
    }
    if (faults[FAULT_EXCEPTION])
        modbus_refuse(&pdu, ask->pdu.bytes[0], (uint8_t)faults[FAULT_EXCEPTION]);
    if (faults[FAULT_LENGTH] && pdu.n > 1)
        pdu.n--;
    if (faults[FAULT_TID])
        tid = (uint16_t)(tid + 1000);
    if (faults[FAULT_UNIT])
        unit ^= 1;
    if (ask->unit == 0 && server->conf->framing != MODBUS_SOCKET)
        return; /* a broadcast */
    n = modbus_frame_put(frame, server->conf->framing, tid, unit, &pdu);
    put_frame(conn, frame, n, faults);
}

static void serve(struct modbus_conn *conn)
{
    while (conn->n_pending && !timer_is_running(&conn->service) && !conn->is_closing) {
        const struct modbus_adu *ask = &conn->pending[conn->first];

        faults_ask(conn->server->faults, ask->unit, conn->server->index, &conn->verdict);
        if (conn->verdict.values[FAULT_DELAY]) {
            timer_start(&conn->service, conn->verdict.values[FAULT_DELAY]);
            return;
        }
        conn->first = (conn->first + 1) % MODBUS_PENDING_MAX;
        conn->n_pending--;
        answer(conn, ask, &conn->verdict);
    }
}

static void on_service(void *arg)
{
    struct modbus_conn *conn = arg;

    if (conn->rest_n) {
        put(conn, conn->rest, conn->rest_n);
        conn->rest_n = 0;
    } else if (conn->n_pending) {
        const struct modbus_adu *ask = &conn->pending[conn->first];

        conn->first = (conn->first + 1) % MODBUS_PENDING_MAX;
        conn->n_pending--;
        answer(conn, ask, &conn->verdict);
    }
    serve(conn);
}

static void on_silence(void *arg)
{
    struct modbus_conn *conn = arg;

    modbus_framer_silence(&conn->framer);
}

static void take_bytes(struct modbus_conn *conn, const uint8_t *p, size_t n)
{
    struct modbus_server *server = conn->server;

    if (server->conf->echoes)
        put(conn, p, n);
    for (size_t at = 0; at < n && !conn->is_closing;) {
        struct modbus_adu adu;
        enum modbus_fed fed;

        at += modbus_framer_feed(&conn->framer, p + at, n - at, &adu, &fed);
        if (fed == MODBUS_FED_BROKEN)
            close_conn(conn);
        if (fed != MODBUS_FED_FRAME || conn->n_pending == MODBUS_PENDING_MAX)
            continue;
        conn->pending[(conn->first + conn->n_pending++) % MODBUS_PENDING_MAX] = adu;
    }
    if (server->datagrams)
        modbus_framer_reset(&conn->framer);
    if (conn->framer.is_line && modbus_framer_is_partial(&conn->framer))
        timer_start(&conn->silence, SILENCE_MS);
    serve(conn);
}

/* --- connections ----------------------------------------------------------------------------------------------------------- */
static struct modbus_conn *new_conn(struct modbus_server *server)
{
    struct modbus_conn *conn = mem_zero(sizeof *conn);

    conn->server = server;
    modbus_framer_init(&conn->framer, server->conf->framing, true);
    timer_init(&conn->service, server->loop, on_service, conn);
    timer_init(&conn->silence, server->loop, on_silence, conn);
    list_init(&conn->parcels);
    list_add_tail(&server->conns, &conn->node);
    server->n_open++;
    return conn;
}

static void free_conn(struct modbus_conn *conn)
{
    LIST_EACH_SAFE(node, &conn->parcels)
        free_parcel(CONTAINER_OF(node, struct parcel, node));
    timer_stop(&conn->service);
    timer_stop(&conn->silence);
    list_del(&conn->node);
    conn->server->n_open--;
    mem_free(conn);
}

static void on_open(void *arg UNUSED)
{
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    take_bytes(arg, p, n);
    return n;
}

static void on_closed(void *arg, enum err err UNUSED, const struct why *why UNUSED)
{
    struct modbus_conn *conn = arg;

    stream_free(conn->stream);
    free_conn(conn);
}

static void on_accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.open = on_open, .read = on_read, .closed = on_closed};
    struct modbus_server *server = arg;
    struct modbus_conn *conn = new_conn(server);

    conn->stream = stream;
    server->n_accepted++;
    stream_accept(stream, &events, conn);
    if (server->is_stalled)
        stream_pause(stream);
}

void modbus_server_drop(struct modbus_server *server)
{
    LIST_EACH_SAFE(node, &server->conns)
        close_conn(CONTAINER_OF(node, struct modbus_conn, node));
}

void modbus_server_stall(struct modbus_server *server, bool is_stalled)
{
    server->is_stalled = is_stalled;
    LIST_EACH(node, &server->conns) {
        struct modbus_conn *conn = CONTAINER_OF(node, struct modbus_conn, node);

        if (conn->stream && is_stalled)
            stream_pause(conn->stream);
        else if (conn->stream)
            stream_resume(conn->stream);
    }
}

/* --- a pseudo terminal ------------------------------------------------------------------------------------------------------- */
static void on_pty_readable(uv_poll_t *poll, int status, int events UNUSED)
{
    struct modbus_pty *pty = poll->data;
    uint8_t bytes[1024];
    ssize_t n = status < 0 ? 0 : read(pty->master, bytes, sizeof bytes);

    ioctl(pty->slave, TIOCNXCL); /* a client may have it for itself and be gone without a word */
    if (n > 0 && !pty->server->is_stalled)
        take_bytes(pty->conn, bytes, (size_t)n);
}

static NODISCARD enum err link_to(const char *link, const char *name, struct why *why)
{
    char made[256];

    if (!link)
        return ERR_OK;
    snprintf(made, sizeof made, "%s.new", link);
    unlink(made);
    if (symlink(name, made) || rename(made, link))
        return why_set(why, err_from_errno(errno), "%s: %s", link, strerror(errno));
    return ERR_OK;
}

static void free_pty(struct modbus_pty *pty)
{
    if (pty->conn)
        free_conn(pty->conn);
    if (pty->slave >= 0)
        close(pty->slave);
    if (pty->master >= 0)
        close(pty->master);
    mem_free(pty);
}

static void on_pty_closed(uv_handle_t *handle)
{
    struct modbus_pty *pty = handle->data;
    struct closer *closer = pty->closer;

    free_pty(pty);
    closer_release(closer);
}

static NODISCARD enum err open_pty(struct modbus_server *server, struct why *why)
{
    static const struct serial_conf raw = {
        .path = "pty", .baudrate = 115200, .bytesize = 8, .half_stopbits = 2, .parity = 'N'};
    struct modbus_pty *pty = mem_zero(sizeof *pty);
    enum err err = ERR_OK;

    pty->server = server;
    pty->slave = -1;
    pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (pty->master < 0 || grantpt(pty->master) || unlockpt(pty->master) ||
        ptsname_r(pty->master, pty->name, sizeof pty->name) ||
        (pty->slave = open(pty->name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        err = why_set(why, err_from_errno(errno), "no pseudo terminal: %s", strerror(errno));
    if (!err)
        err = serial_tty_set(pty->slave, &raw, why);
    if (!err)
        err = link_to(server->conf->link, pty->name, why);
    if (err) {
        free_pty(pty);
        return err;
    }
    uv_poll_init(loop_uv(server->loop), &pty->poll, pty->master);
    pty->poll.data = pty;
    uv_poll_start(&pty->poll, UV_READABLE, on_pty_readable);
    server->pty = pty;
    pty->conn = new_conn(server);
    pty->conn->framer.is_line = true;
    server->n_accepted++;
    return ERR_OK;
}

/* --- datagrams ----------------------------------------------------------------------------------------------------------------- */
static void give_room(uv_handle_t *handle, size_t suggested UNUSED, uv_buf_t *buf)
{
    struct modbus_datagrams *datagrams = handle->data;

    *buf = uv_buf_init((char *)loop_read_buffer(datagrams->server->loop), 65536);
}

static void on_datagram(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
                        unsigned flags UNUSED)
{
    struct modbus_datagrams *datagrams = udp->data;

    if (n <= 0 || !from || datagrams->server->is_stalled)
        return;
    memcpy(&datagrams->peer, from,
           from->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    take_bytes(datagrams->conn, (const uint8_t *)buf->base, (size_t)n);
}

static void on_datagrams_closed(uv_handle_t *handle)
{
    struct modbus_datagrams *datagrams = handle->data;
    struct closer *closer = datagrams->closer;

    free_conn(datagrams->conn);
    mem_free(datagrams);
    closer_release(closer);
}

static NODISCARD enum err open_datagrams(struct modbus_server *server, struct closer *closer, struct why *why)
{
    struct modbus_datagrams *datagrams = mem_zero(sizeof *datagrams);
    struct sockaddr_storage own = {0};
    int size = sizeof own, failed;

    datagrams->server = server;
    datagrams->conn = new_conn(server);
    uv_udp_init(loop_uv(server->loop), &datagrams->udp);
    datagrams->udp.data = datagrams;
    failed = uv_ip4_addr(server->conf->host, server->port, (struct sockaddr_in *)(void *)&own);
    if (!failed)
        failed = uv_udp_bind(&datagrams->udp, (const struct sockaddr *)&own, 0);
    if (!failed)
        failed = uv_udp_recv_start(&datagrams->udp, give_room, on_datagram);
    if (!failed)
        failed = uv_udp_getsockname(&datagrams->udp, (struct sockaddr *)&own, &size);
    if (failed) {
        datagrams->closer = closer;
        closer_hold(closer);
        uv_close((uv_handle_t *)&datagrams->udp, on_datagrams_closed);
        return why_set(why, err_from_uv(failed), "cannot bind %s:%u: %s", server->conf->host, server->port,
                       uv_strerror(failed));
    }
    server->port = ntohs(((const struct sockaddr_in *)(const void *)&own)->sin_port);
    server->datagrams = datagrams;
    return ERR_OK;
}

/* --- up and down ----------------------------------------------------------------------------------------------------------------- */
enum err modbus_server_up(struct modbus_server *server, struct closer *closer, struct why *why)
{
    struct listener_conf conf = {.host = server->conf->host,
                                 .port = server->port,
                                 .tls = server->conf->cert_file != NULL,
                                 .cert_file = server->conf->cert_file,
                                 .key_file = server->conf->key_file,
                                 .asks_client = true};
    enum err err;

    if (!server->conns.next)
        list_init(&server->conns);
    if (server->listener || server->pty || server->datagrams)
        return ERR_OK;
    switch (server->conf->over) {
    case MODBUS_SERVE_PTY:
        return open_pty(server, why);
    case MODBUS_SERVE_UDP:
        return open_datagrams(server, closer, why);
    case MODBUS_SERVE_TCP:
        break;
    }
    err = listener_new(&server->listener, server->loop, &conf, on_accepted, server, why);
    if (!err)
        server->port = listener_port(server->listener);
    return err;
}

void modbus_server_down(struct modbus_server *server, struct closer *closer)
{
    struct modbus_pty *pty = server->pty;
    struct modbus_datagrams *datagrams = server->datagrams;

    listener_close(server->listener, closer);
    server->listener = NULL;
    if (server->conns.next)
        modbus_server_drop(server);
    server->pty = NULL;
    server->datagrams = NULL;
    if (pty) {
        if (server->conf->link)
            unlink(server->conf->link);
        pty->closer = closer;
        closer_hold(closer);
        uv_close((uv_handle_t *)&pty->poll, on_pty_closed);
        close(pty->slave);
        close(pty->master); /* the line hangs up */
        pty->slave = pty->master = -1;
    }
    if (datagrams) {
        datagrams->closer = closer;
        closer_hold(closer);
        uv_close((uv_handle_t *)&datagrams->udp, on_datagrams_closed);
    }
}

const char *modbus_server_device(const struct modbus_server *server)
{
    return server->pty ? server->pty->name : NULL;
}
