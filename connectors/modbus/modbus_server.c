/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_server.h"

#include "data/json.h"
#include "io/serial.h"
#include "io/stream.h"

#include <errno.h>
#include <unistd.h>

/*
 *     bytes → framer → modbus_serve → framer → bytes
 *                          └── written ──► values that lie there ──► platform
 *     beat ──► all values ──► platform
 */
enum { SESSIONS_MAX = 256, QUEUED_MAX = 65536, REOPEN_MS = 2000, LINE_SILENCE_MS = 5 };

struct session {
    struct list node; /* of server->sessions, the one that was heard last at the end; then of server->leaving */
    struct modbus_server *server;
    struct stream *stream;
    struct modbus_framer framer;
    bool is_leaving;
};

struct modbus_server {
    struct ctx *ctx;
    const struct modbus_own *own;
    uint64_t *cookie;
    struct device *dev;
    struct modbus_image image;
    struct modbus_diary diary;
    struct modbus_sample *samples;
    uint8_t *scratch; /* what the samples point into */
    size_t *offsets;  /* of each read in scratch */
    struct timer beat, reopen, silence;
    struct listener *listener;
    struct list sessions, leaving;
    size_t n_sessions;
    struct serial *serial;
    struct serial_conf line_conf;
    struct modbus_framer framer; /* of a serial line, or of datagrams */
    uv_udp_t udp;
    bool has_udp, is_announced, is_closing;
    struct closer closer;
    closed_fn *closed;
    void *closed_arg;
};

/* --- reports --------------------------------------------------------------------------------------------------------------- */

static enum modbus_area area_of_read(const struct modbus_read *read)
{
    for (size_t area = 0; area < MODBUS_AREAS; area++)
        if (modbus_area_read((enum modbus_area)area) == read->function_code)
            return (enum modbus_area)area;
    return MODBUS_HOLDING;
}

static void sample(struct modbus_server *server, size_t i)
{
    const struct modbus_read *read = &server->own->reads[i];
    uint8_t *at = server->scratch + server->offsets[i];

    if (!modbus_image_has(&server->image, area_of_read(read), read->address, read->span))
        return;
    (void)modbus_image_copy(&server->image, area_of_read(read), read->address, read->span, at);
    server->samples[i] = (struct modbus_sample){at, 0};
}

static void undecodable(void *arg, const struct modbus_read *read, const struct why *why)
{
    struct modbus_server *server = arg;

    LOG_WARN(ctx_converter_log(server->ctx), "a value cannot be converted", KV_STR("device", server->own->device_name),
             KV_STR("tag", read->point->tag), KV_WHY(why));
}

static void deliver(struct modbus_server *server)
{
    const struct modbus_own *own = server->own;
    struct event *event = ctx_event(server->ctx, server->dev, own->device_type);

    event_set_report(event, own->report);
    event->keys_unique = own->keys_unique;
    ctx_count(server->ctx, IOTGW_CONVERSION_ERRORS,
              modbus_collect(own->reads, server->samples, own->n_reads, event, undecodable, server));
    ctx_count(server->ctx, IOTGW_CONVERTED, event->n > 0);
    (void)!ctx_put(server->ctx);
    (void)ctx_mark(server->ctx, ++*server->cookie);
}

static void beat(void *arg)
{
    struct modbus_server *server = arg;

    if (!ctx_has_room(server->ctx)) {
        ctx_count(server->ctx, IOTGW_SKIPPED, 1);
        return;
    }
    for (size_t i = 0; i < server->own->n_reads; i++)
        sample(server, i);
    deliver(server);
}

static void report_change(struct modbus_server *server, const struct modbus_change *change)
{
    bool is_any = false;

    if (!change->n || !server->own->sends_data || !timer_is_running(&server->beat))
        return;
    for (size_t i = 0; i < server->own->n_reads; i++) {
        const struct modbus_read *read = &server->own->reads[i];

        if (area_of_read(read) != change->area || read->address >= change->address + change->n ||
            (uint32_t)read->address + read->span <= change->address)
            continue;
        sample(server, i);
        is_any = true;
    }
    if (is_any)
        deliver(server);
}

/* --- requests -------------------------------------------------------------------------------------------------------------- */

/* Gives the bytes of the answer, 0: none. */
static size_t serve(struct modbus_server *server, const struct modbus_framer *framer, const struct modbus_adu *adu,
                    uint8_t *out)
{
    struct modbus_change change;
    struct modbus_pdu answer;
    bool is_answered;

    ctx_count(server->ctx, IOTGW_MESSAGES_IN, 1);
    ctx_count(server->ctx, IOTGW_BYTES_IN, adu->pdu.n);
    if (ctx_is_tapped(CTX_TAP_WIRE))
        ctx_tell_wire(server->ctx, false, server->own->device_name, str_of(adu->pdu.bytes, adu->pdu.n));
    is_answered = modbus_serve(&server->image, &server->diary, server->own, adu->unit, &adu->pdu, &answer, &change);
    report_change(server, &change);
    if (!is_answered)
        return 0;
    ctx_count(server->ctx, IOTGW_MESSAGES_OUT, 1);
    ctx_count(server->ctx, IOTGW_BYTES_OUT, answer.n);
    return modbus_frame_put(out, framer->framing, adu->tid, adu->unit, &answer);
}

static enum modbus_framing framing_of(const struct modbus_own *own)
{
    return own->wire.framing == MODBUS_FRAMED_RTU     ? MODBUS_RTU
           : own->wire.framing == MODBUS_FRAMED_ASCII ? MODBUS_ASCII
                                                      : MODBUS_SOCKET;
}

/* --- TCP, TLS ---------------------------------------------------------------------------------------------------------------- */

static void dismiss(struct session *session)
{
    list_del(&session->node);
    list_add_tail(&session->server->leaving, &session->node);
    session->is_leaving = true;
    session->server->n_sessions--;
    stream_close(session->stream, true);
}

static size_t session_read(void *arg, uint8_t *p, size_t n)
{
    struct session *session = arg;
    uint8_t out[MODBUS_FRAME_MAX];
    struct modbus_adu adu;
    enum modbus_fed fed;
    size_t at = 0;

    while (at < n) {
        at += modbus_framer_feed(&session->framer, p + at, n - at, &adu, &fed);
        if (fed == MODBUS_FED_BROKEN || stream_queued(session->stream) - stream_sent(session->stream) > QUEUED_MAX) {
            dismiss(session); /* no Modbus, or nobody who reads the answers */
            return n;
        }
        if (fed == MODBUS_FED_FRAME) {
            size_t n_out = serve(session->server, &session->framer, &adu, out);

            stream_write(session->stream, out, n_out, true);
            list_del(&session->node);
            list_add_tail(&session->server->sessions, &session->node);
        }
    }
    return n;
}

static void session_closed(void *arg, enum err err, const struct why *why)
{
    struct session *session = arg;
    struct modbus_server *server = session->server;

    (void)err;
    (void)why;
    stream_free(session->stream);
    list_del(&session->node);
    server->n_sessions -= !session->is_leaving;
    mem_free(session);
    if (server->is_closing)
        closer_release(&server->closer);
}

static void accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.read = session_read, .closed = session_closed};
    struct modbus_server *server = arg;
    struct session *session;

    if (server->n_sessions == SESSIONS_MAX) /* so that those who only sit there keep no master out */
        dismiss(CONTAINER_OF(list_first(&server->sessions), struct session, node));
    session = mem_zero(sizeof *session);
    session->server = server;
    session->stream = stream;
    modbus_framer_init(&session->framer, framing_of(server->own), true);
    list_add_tail(&server->sessions, &session->node);
    server->n_sessions++;
    stream_accept(stream, &events, session);
}

static struct listener_conf listener_conf_of(const struct modbus_wire *wire)
{
    const struct modbus_tls *tls = wire->tls;

    return (struct listener_conf){.host = wire->host.p,
                                  .port = wire->port_number,
                                  .tls = wire->framing == MODBUS_FRAMED_TLS,
                                  .cert_file = tls && tls->cert.n ? tls->cert.p : NULL,
                                  .key_file = tls && tls->key.n ? tls->key.p : NULL,
                                  .key_password = tls && tls->password.value.n ? tls->password.value.p : NULL,
                                  .client_ca_file = tls && tls->verify && tls->ca.n ? tls->ca.p : NULL};
}

static enum err listen_stream(struct modbus_server *server, struct why *why)
{
    const struct listener_conf conf = listener_conf_of(&server->own->wire);

    return listener_new(&server->listener, ctx_loop(server->ctx), &conf, accepted, server, why);
}

/* --- UDP --------------------------------------------------------------------------------------------------------------------- */

static void udp_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct modbus_server *server = handle->data;

    (void)size;
    *buf = uv_buf_init((char *)loop_read_buffer(ctx_loop(server->ctx)), 65536);
}

static void udp_read(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from, unsigned flags)
{
    struct modbus_server *server = udp->data;
    uint8_t out[MODBUS_FRAME_MAX];
    struct modbus_adu adu;
    enum modbus_fed fed;
    uv_buf_t answer;
    size_t at = 0;

    if (n <= 0 || !from || flags & UV_UDP_PARTIAL)
        return;
    modbus_framer_reset(&server->framer); /* a datagram is whole */
    while (at < (size_t)n) {
        at += modbus_framer_feed(&server->framer, (const uint8_t *)buf->base + at, (size_t)n - at, &adu, &fed);
        if (fed == MODBUS_FED_BROKEN)
            return;
        if (fed != MODBUS_FED_FRAME)
            continue;
        answer = uv_buf_init((char *)out, (unsigned)serve(server, &server->framer, &adu, out));
        if (answer.len)
            (void)uv_udp_try_send(udp, &answer, 1, from); /* one that does not fit is lost, as any datagram may be */
    }
}

static enum err listen_datagrams(struct modbus_server *server, struct why *why)
{
    const struct modbus_wire *wire = &server->own->wire;
    struct sockaddr_storage address;
    int rc = uv_ip4_addr(wire->host.p, wire->port_number, (struct sockaddr_in *)&address);

    if (rc)
        rc = uv_ip6_addr(wire->host.p, wire->port_number, (struct sockaddr_in6 *)&address);
    if (rc)
        return why_set(why, ERR_RESOLVE, "\"" STR_FMT "\" is not an address of this machine; for example \"0.0.0.0\"",
                       STR_ARG(wire->host));
    rc = uv_udp_init(loop_uv(ctx_loop(server->ctx)), &server->udp);
    if (rc)
        return why_set(why, ERR_IO, "%s", uv_strerror(rc));
    server->has_udp = true;
    server->udp.data = server;
    rc = uv_udp_bind(&server->udp, (const struct sockaddr *)&address, 0);
    if (!rc)
        rc = uv_udp_recv_start(&server->udp, udp_alloc, udp_read);
    return rc ? why_set(why, ERR_IO, "%s cannot be listened on: %s", wire->link.p, uv_strerror(rc)) : ERR_OK;
}

static void udp_closed(uv_handle_t *handle)
{
    struct modbus_server *server = handle->data;

    closer_release(&server->closer);
}

/* --- serial line --------------------------------------------------------------------------------------------------------------- */

static void line_read(void *arg, const uint8_t *p, size_t n)
{
    struct modbus_server *server = arg;
    uint8_t out[MODBUS_FRAME_MAX];
    struct modbus_adu adu;
    enum modbus_fed fed;
    size_t at = 0;

    while (at < n) {
        at += modbus_framer_feed(&server->framer, p + at, n - at, &adu, &fed);
        if (fed == MODBUS_FED_FRAME) {
            size_t n_out = serve(server, &server->framer, &adu, out);

            if (n_out)
                serial_write(server->serial, out, n_out);
        }
    }
    timer_start(&server->silence, LINE_SILENCE_MS + 4 * serial_char_us(&server->line_conf) / 1000);
}

static void line_silent(void *arg)
{
    struct modbus_server *server = arg;

    modbus_framer_silence(&server->framer);
}

static void line_closed(void *arg, enum err err, const struct why *why)
{
    struct modbus_server *server = arg;

    (void)err;
    serial_close(server->serial);
    server->serial = NULL;
    timer_stop(&server->silence);
    modbus_framer_reset(&server->framer);
    ctx_state(server->ctx, server->own->wire.link, LINK_DOWN, str_from(why_text(why)));
    timer_start(&server->reopen, REOPEN_MS);
}

static enum err open_line(struct modbus_server *server, struct why *why)
{
    static const struct serial_events events = {.read = line_read, .closed = line_closed};

    return serial_open(&server->serial, ctx_loop(server->ctx), &server->line_conf, &events, server, why);
}

static enum err check_udp(const struct modbus_wire *wire, struct why *why)
{
    struct sockaddr_storage address = {0};
    bool is_ip6 = uv_ip4_addr(wire->host.p, wire->port_number, (struct sockaddr_in *)&address) != 0;
    int fd, rc = 0;

    if (is_ip6 && uv_ip6_addr(wire->host.p, wire->port_number, (struct sockaddr_in6 *)&address))
        return why_set(why, ERR_RESOLVE, "\"" STR_FMT "\" is not an address of this machine; for example \"0.0.0.0\"",
                       STR_ARG(wire->host));
    fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        bind(fd, (const struct sockaddr *)&address, is_ip6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)))
        rc = errno;
    if (fd >= 0)
        close(fd);
    return rc ? why_set(why, rc == EADDRINUSE ? ERR_EXISTS : ERR_IO, "%s: %s", wire->link.p, strerror(rc)) : ERR_OK;
}

enum err modbus_server_check(const struct modbus_own *own, struct why *why)
{
    const struct modbus_wire *wire = &own->wire;
    const struct listener_conf conf = listener_conf_of(wire);

    if (wire->medium == MODBUS_OVER_TCP)
        return listener_check(&conf, why);
    if (wire->medium == MODBUS_OVER_UDP)
        return check_udp(wire, why);
    if (access(wire->link.p, R_OK | W_OK))
        return why_set(why, ERR_IO, "%s: %s", wire->link.p, strerror(errno));
    return ERR_OK;
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

static void open_server(void *arg)
{
    struct modbus_server *server = arg;
    const struct modbus_wire *wire = &server->own->wire;
    struct why why = {0};
    enum err err;

    switch (wire->medium) {
    case MODBUS_OVER_TCP:
        err = listen_stream(server, &why);
        break;
    case MODBUS_OVER_UDP:
        err = listen_datagrams(server, &why);
        break;
    case MODBUS_OVER_SERIAL:
    default:
        err = open_line(server, &why);
    }
    ctx_state(server->ctx, wire->link, err ? LINK_DOWN : LINK_UP, err ? str_from(why_text(&why)) : STR_NONE);
    if (err && wire->medium != MODBUS_OVER_UDP)
        timer_start(&server->reopen, REOPEN_MS);
}

static void not_encoded(void *arg, const struct modbus_point *point, const struct why *why)
{
    struct modbus_server *server = arg;

    LOG_ERROR(ctx_log(server->ctx), "an initial value cannot be encoded and is not served", KV_STR("tag", point->tag),
              KV_WHY(why));
}

struct modbus_server *modbus_server_new(struct ctx *ctx, const struct modbus_own *own, uint64_t *cookie)
{
    struct modbus_server *server = mem_zero(sizeof *server);
    size_t n = 0;

    *server = (struct modbus_server){.ctx = ctx, .own = own, .cookie = cookie, .dev = device_get(own->device_name)};
    server->line_conf = (struct serial_conf){.path = own->wire.link.p,
                                             .baudrate = own->wire.baudrate,
                                             .bytesize = (uint8_t)own->wire.bytesize,
                                             .half_stopbits = own->wire.half_stopbits,
                                             .parity = own->wire.parity_char,
                                             .rs485 = own->wire.rs485};
    list_init(&server->sessions);
    list_init(&server->leaving);
    timer_init(&server->beat, ctx_loop(ctx), beat, server);
    timer_init(&server->reopen, ctx_loop(ctx), open_server, server);
    timer_init(&server->silence, ctx_loop(ctx), line_silent, server);
    modbus_framer_init(&server->framer, framing_of(own), true);
    server->framer.is_line = own->wire.medium == MODBUS_OVER_SERIAL;
    modbus_image_init(&server->image);
    modbus_image_fill(&server->image, own, not_encoded, server);
    server->samples = mem_zero((own->n_reads + 1) * sizeof *server->samples);
    server->offsets = mem_zero((own->n_reads + 1) * sizeof *server->offsets);
    for (size_t i = 0; i < own->n_reads; i++) {
        server->offsets[i] = n;
        n += 2u * own->reads[i].span;
    }
    server->scratch = mem_zero(n + 1);
    return server;
}

void modbus_server_start(struct modbus_server *server)
{
    const struct modbus_own *own = server->own;

    if (own->sends_data) {
        ctx_connect(server->ctx, server->dev, own->device_type);
        (void)ctx_mark(server->ctx, ++*server->cookie);
        timer_start_periodic(&server->beat, 0, own->period_ms);
    }
    open_server(server);
}

void modbus_server_quiet(struct modbus_server *server)
{
    timer_stop(&server->beat);
}

void modbus_server_free(struct modbus_server *server)
{
    if (!server)
        return;
    modbus_image_fini(&server->image);
    mem_free(server->samples);
    mem_free(server->offsets);
    mem_free(server->scratch);
    mem_free(server);
}

static void all_closed(void *arg)
{
    struct modbus_server *server = arg;
    closed_fn *closed = server->closed;
    void *closed_arg = server->closed_arg;

    modbus_server_free(server);
    closed(closed_arg);
}

void modbus_server_close(struct modbus_server *server, closed_fn *closed, void *arg)
{
    server->is_closing = true;
    server->closed = closed;
    server->closed_arg = arg;
    timer_stop(&server->beat);
    timer_stop(&server->reopen);
    timer_stop(&server->silence);
    closer_begin(&server->closer, ctx_loop(server->ctx), all_closed, server);
    listener_close(server->listener, &server->closer);
    LIST_EACH(node, &server->sessions) {
        closer_hold(&server->closer);
        stream_close(CONTAINER_OF(node, struct session, node)->stream, true);
    }
    LIST_EACH(node, &server->leaving)
        closer_hold(&server->closer);
    if (server->has_udp) {
        closer_hold(&server->closer);
        uv_close((uv_handle_t *)&server->udp, udp_closed);
    }
    serial_close(server->serial);
    closer_end(&server->closer);
}

/* --- calls of the platform ------------------------------------------------------------------------------------------------------ */

/* The area of an input's own entry, else the one that the function code is about. */
static enum modbus_area area_of_call(const struct modbus_call *call)
{
    bool is_bits = modbus_reads_coils(call->function_code) || call->function_code == MODBUS_WRITE_COIL ||
                   call->function_code == MODBUS_WRITE_COILS;

    if (call->is_write && (call->area == MODBUS_INPUT || call->area == MODBUS_DISCRETE) &&
        modbus_area_is_bits(call->area) == is_bits)
        return call->area;
    switch (call->function_code) {
    case MODBUS_READ_DISCRETE:
        return MODBUS_DISCRETE;
    case MODBUS_READ_INPUT:
        return MODBUS_INPUT;
    default:
        return is_bits ? MODBUS_COILS : MODBUS_HOLDING;
    }
}

struct str modbus_server_execute(struct modbus_server *server, const struct modbus_call *call, struct arena *arena)
{
    enum modbus_area area = area_of_call(call);
    uint8_t bytes[MODBUS_PDU_MAX];
    struct why why = {0};
    struct str json;

    if (!modbus_image_has(&server->image, area, call->address, call->count))
        return modbus_answer_failure(call, STR("illegal data address (exception 2)"), arena);
    if (call->is_write) {
        modbus_image_write(&server->image, area, call->write);
        return modbus_answer_value(call, call->echo.n ? call->echo : STR("null"), arena);
    }
    (void)modbus_image_copy(&server->image, area, call->address, call->count, bytes);
    if (modbus_decode(&call->decoder, bytes, 0, arena, &json, &why) != ERR_OK)
        return modbus_answer_failure(call, str_from(why_text(&why)), arena);
    return modbus_answer_value(call, json, arena);
}
