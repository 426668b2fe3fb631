/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_line.h"

#include "base/log.h"
#include "io/udp.h"

enum { USER_TIMEOUT_MIN_MS = 5000 };

struct modbus_line {
    struct loop *loop;
    const struct modbus_line_conf *conf;
    struct modbus_line_events events;
    void *arg;
    struct stream *stream;
    struct serial *serial;
    struct udp *udp;
    struct timer begin; /* and the end: out of the caller's call */
    bool is_over, is_closing;
    enum err err;
    struct why why;
};

static void on_over(void *arg)
{
    struct modbus_line *line = arg;

    line->events.closed(line->arg, line->err, &line->why); /* frees it */
}

/* Where there is no stream that tells it by itself. */
static void end_later(struct modbus_line *line, enum err err, const struct why *why)
{
    if (line->is_over)
        return;
    line->is_over = true;
    line->err = err;
    line->why = why ? *why : (struct why){0};
    line->why.err = err;
    line->begin.fn = on_over;
    timer_start(&line->begin, 0);
}

/* --- stream ------------------------------------------------------------------------------------------------------------ */
static void on_stream_open(void *arg)
{
    struct modbus_line *line = arg;

    line->events.open(line->arg);
}

static size_t on_stream_read(void *arg, uint8_t *p, size_t n)
{
    struct modbus_line *line = arg;

    if (!line->is_closing)
        line->events.read(line->arg, p, n);
    return n;
}

static void on_stream_closed(void *arg, enum err err, const struct why *why)
{
    struct modbus_line *line = arg;

    line->is_over = true;
    line->events.closed(line->arg, err, why);
}

/* A server that is gone without a word is noticed by the kernel before three requests have timed out. */
static uint32_t user_timeout_of(const struct modbus_line_conf *conf)
{
    if (conf->user_timeout_ms)
        return conf->user_timeout_ms;
    return conf->timeout_ms > USER_TIMEOUT_MIN_MS ? conf->timeout_ms : USER_TIMEOUT_MIN_MS;
}

static void start_stream(struct modbus_line *line)
{
    static const struct stream_events events = {
        .open = on_stream_open, .read = on_stream_read, .closed = on_stream_closed};
    struct stream_conf conf = {.host = line->conf->host,
                               .port = line->conf->port,
                               .timeout_ms = line->conf->timeout_ms,
                               .user_timeout_ms = user_timeout_of(line->conf),
                               .tls = line->conf->tls};
    enum err err = stream_new(&line->stream, line->loop, &events, line);

    if (err)
        end_later(line, err, NULL);
    else
        stream_connect(line->stream, &conf);
}

/* --- datagrams and serial lines ------------------------------------------------------------------------------------- */
static void on_bytes(void *arg, const uint8_t *p, size_t n)
{
    struct modbus_line *line = arg;

    if (!line->is_over)
        line->events.read(line->arg, p, n);
}

static void on_ready(void *arg)
{
    struct modbus_line *line = arg;

    if (!line->is_over)
        line->events.open(line->arg);
}

static void on_lost(void *arg, enum err err, const struct why *why)
{
    end_later(arg, err, why);
}

static void start_serial(struct modbus_line *line)
{
    static const struct serial_events events = {.read = on_bytes, .closed = on_lost};
    static struct log log = {.name = "serial", .level = LOG_LEVEL_INFO};
    struct why why = {0};
    enum err err = serial_open(&line->serial, line->loop, &line->conf->serial, &events, line, &why);

    if (err) {
        end_later(line, err, &why);
        return;
    }
    if (serial_lacks_rs485(line->serial))
        LOG_WARN(&log, "the driver cannot switch the direction of RS-485; the adapter has to do it by itself",
                 KV_Z("device", line->conf->serial.path));
    line->events.open(line->arg);
}

static void on_begin(void *arg)
{
    static const struct udp_events events = {.open = on_ready, .read = on_bytes, .closed = on_lost};
    struct modbus_line *line = arg;

    switch (line->conf->kind) {
    case MODBUS_LINE_STREAM:
        start_stream(line);
        break;
    case MODBUS_LINE_DATAGRAM:
        line->udp = udp_new(line->loop, line->conf->host, line->conf->port, &events, line);
        break;
    case MODBUS_LINE_SERIAL:
        start_serial(line);
        break;
    }
}

struct modbus_line *modbus_line_new(struct loop *loop, const struct modbus_line_conf *conf,
                                    const struct modbus_line_events *events, void *arg)
{
    struct modbus_line *line = mem_zero(sizeof *line);

    line->loop = loop;
    line->conf = conf;
    line->events = *events;
    line->arg = arg;
    timer_init(&line->begin, loop, on_begin, line);
    timer_start(&line->begin, 0);
    return line;
}

void modbus_line_write(struct modbus_line *line, const uint8_t *p, size_t n)
{
    if (line->is_over || line->is_closing)
        return;
    if (line->stream)
        stream_write(line->stream, p, n, true);
    else if (line->udp)
        udp_write(line->udp, p, n);
    else if (line->serial)
        serial_write(line->serial, p, n);
}

void modbus_line_close(struct modbus_line *line)
{
    if (!line || line->is_closing)
        return;
    line->is_closing = true;
    if (line->stream)
        stream_close(line->stream, true);
    else
        end_later(line, ERR_OK, NULL);
}

void modbus_line_free(struct modbus_line *line)
{
    if (!line)
        return;
    timer_stop(&line->begin);
    stream_free(line->stream);
    serial_close(line->serial);
    udp_close(line->udp);
    mem_free(line);
}
