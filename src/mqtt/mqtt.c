/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States of a client and its deadlines.
 *
 *    IDLE ──mqtt_connect──► OPENING ──stream open: CONNECT──► HANDSHAKE ──CONNACK 0──► UP
 *     ▲                        │                                  │                     │
 *     │                        └── mqtt_disconnect, any failure ──┴─────────────────────┤
 *     └──────────────── the stream is closed: .closed ◄──────────────── CLOSING ◄───────┘
 *
 * One timer serves all deadlines. It is not moved when packets come and go: when it fires, it looks what is due.
 */
#include "mqtt/mqtt_impl.h"

#include "base/hash.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>

enum { CONNACK_TIMEOUT_MS = 10000, PING_TIMEOUT_MS = 5000, COARSE_MS = 5000 };

static void enter(struct mqtt *mqtt, enum mqtt_state state)
{
    static const char *const names[] = {"idle", "opening", "handshake", "up", "closing"};

    LOG_DEBUG(mqtt->log, "mqtt link", KV_Z("from", names[mqtt->state]), KV_Z("to", names[state]));
    mqtt->state = state;
    mqtt->state_ms = loop_mono_ms(mqtt->loop);
}

/* --- closing ------------------------------------------------------------------------------------------------------------- */

static void close_stream(struct mqtt *mqtt, bool now)
{
    enter(mqtt, MQTT_CLOSING);
    timer_stop(&mqtt->watch);
    if (mqtt->is_paused)
        stream_resume(mqtt->stream); /* so that the end of the stream is seen */
    stream_close(mqtt->stream, now);
}

static void write_disconnect(struct mqtt *mqtt, uint8_t code)
{
    mqtt->scratch.n = 0;
    mqtt_put_disconnect(&mqtt->scratch, mqtt->version, code);
    mqtt_write(mqtt, &mqtt->scratch);
}

void mqtt_fail(struct mqtt *mqtt, enum err err, uint8_t code, const char *fmt, ...)
{
    char text[sizeof mqtt->close_why.text];
    va_list args;

    if (mqtt->state == MQTT_CLOSING || mqtt->state == MQTT_IDLE)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    mqtt->close_err = why_set(&mqtt->close_why, err, "%s", text);
    if (mqtt->state == MQTT_UP && mqtt->version == MQTT_5 && err != ERR_TIMEOUT)
        write_disconnect(mqtt, code);
    close_stream(mqtt, mqtt->state != MQTT_UP || err == ERR_TIMEOUT);
}

static enum err err_of_code(enum mqtt_version version, bool is_connack, uint8_t code)
{
    if (is_connack && (version != MQTT_5 || code < 0x80)) { /* MQTT 3.1.1, 3.2.2.3 */
        static const enum err errs[] = {ERR_OK, ERR_UNSUPPORTED, ERR_AUTH, ERR_QUOTA, ERR_AUTH, ERR_AUTH};

        return code < COUNT_OF(errs) ? errs[code] : ERR_REFUSED;
    }
    switch (code) {
    case 0x84:
        return ERR_UNSUPPORTED;
    case 0x85:
    case 0x86:
    case 0x87:
    case 0x8a:
    case 0x8c:
        return ERR_AUTH;
    case 0x97:
    case 0x9f:
        return ERR_QUOTA;
    default:
        return is_connack ? ERR_REFUSED : ERR_CLOSED;
    }
}

void mqtt_refused(struct mqtt *mqtt, const char *what, bool is_connack, uint8_t code, struct str reason)
{
    const char *text = mqtt_reason_text(mqtt->version, is_connack, code);

    if (!is_connack && code == 0)
        text = "Normal disconnection"; /* 3.14.2.1 has its own name for 0 */
    mqtt->refusal = code;
    mqtt->close_err = why_set(&mqtt->close_why, err_of_code(mqtt->version, is_connack, code), "%s: %s (%u)%s" STR_FMT,
                              what, text, code, reason.n ? ": " : "", STR_ARG(reason));
    close_stream(mqtt, true); /* 3.14.4: nothing may be sent any more */
}

static void forget_connection(struct mqtt *mqtt)
{
    timer_stop(&mqtt->watch);
    timer_stop(&mqtt->later);
    flights_close(&mqtt->flights);
    mqtt_received_close(mqtt);
    mqtt->n_publications = 0;
    mqtt->is_pinging = false;
    if (mqtt->aliases) {
        for (unsigned i = 0; i < mqtt->conf->topic_alias_maximum; i++)
            mem_free(mqtt->aliases[i].p);
        mem_free(mqtt->aliases);
        mqtt->aliases = NULL;
    }
    buf_fini(&mqtt->scratch);
}

/* The last thing of a connection: its user may connect again or free the client. */
static void give_closed(struct mqtt *mqtt, enum err err, const struct why *why)
{
    struct why copy = *why;

    forget_connection(mqtt);
    enter(mqtt, MQTT_IDLE);
    mqtt->close_err = ERR_OK;
    mqtt->close_why = (struct why){0};
    mqtt->events->closed(mqtt->arg, err, &copy);
}

static void on_later(void *arg)
{
    struct mqtt *mqtt = arg;

    give_closed(mqtt, mqtt->close_err, &mqtt->close_why);
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct mqtt *mqtt = arg;
    struct why reason = {0};

    if (mqtt->state == MQTT_CLOSING) {
        err = mqtt->close_err;
        reason = mqtt->close_why;
    } else {
        if (why)
            reason = *why;
        if (mqtt->state == MQTT_HANDSHAKE && err == ERR_CLOSED) {
            reason = (struct why){0};
            err = why_set(&reason, err, "server closed the connection instead of answering CONNECT");
        }
    }
    stream_free(mqtt->stream);
    mqtt->stream = NULL;
    give_closed(mqtt, err, &reason);
}

/* --- deadlines ----------------------------------------------------------------------------------------------------------- */

static uint64_t later_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t sooner_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Time of the oldest packet that waits for an answer; UINT64_MAX: none. */
static uint64_t oldest_ms(const struct mqtt *mqtt, uint64_t now)
{
    const struct flights *flights = &mqtt->flights;
    bool is_waiting = false;
    uint32_t age = 0;

    for (uint32_t i = 0; flights->n && i < flights->cap; i++) {
        const struct flight *flight = &flights->slots[i];

        if (flight->kind == FLIGHT_NONE || flight->kind == FLIGHT_STALE)
            continue;
        is_waiting = true;
        if ((uint32_t)now - flight->since_ms > age)
            age = (uint32_t)now - flight->since_ms;
    }
    return is_waiting ? now - age : UINT64_MAX;
}

static uint64_t ping_timeout_ms(const struct mqtt *mqtt)
{
    return mqtt->conf->ping_timeout_ms ? mqtt->conf->ping_timeout_ms : PING_TIMEOUT_MS;
}

/* When a PINGREQ is due. The keep-alive bounds the silence of this side (3.1.2.10) and, as long as we read, is also used
 * for that of the other. */
static uint64_t ping_due_ms(const struct mqtt *mqtt, uint64_t now)
{
    uint64_t due = UINT64_MAX;

    if (mqtt->keep_alive_ms) {
        uint64_t interval = mqtt->keep_alive_ms - (mqtt->keep_alive_ms < 4000 ? mqtt->keep_alive_ms / 4 : 1000);

        due = later_of(stream_last_out_ms(mqtt->stream), mqtt->state_ms) + interval;
        if (!mqtt->is_paused && !mqtt->is_pinging)
            due = sooner_of(due, later_of(mqtt->last_in_ms, mqtt->judge_from_ms) + interval);
        if (mqtt->is_pinging) /* not again while the first has not left */
            due = later_of(due, mqtt->pinged_ms + interval);
    }
    if (mqtt->conf->ack_timeout_ms && !mqtt->is_paused && !mqtt->is_pinging) {
        uint64_t oldest = oldest_ms(mqtt, now);

        if (oldest != UINT64_MAX)
            due = sooner_of(due, later_of(later_of(oldest, mqtt->judge_from_ms), mqtt->ping_ms) +
                                     mqtt->conf->ack_timeout_ms);
    }
    return due;
}

static uint64_t answer_due_ms(const struct mqtt *mqtt)
{
    if (!mqtt->is_pinging || mqtt->is_paused)
        return UINT64_MAX;
    /* Whatever comes shows that the link lives; so does what leaves, while the PINGREQ waits its turn. */
    uint64_t from = later_of(later_of(mqtt->ping_ms, mqtt->judge_from_ms), mqtt->last_in_ms);

    if (stream_sent(mqtt->stream) < mqtt->ping_end)
        from = later_of(from, stream_last_out_ms(mqtt->stream));
    return from + ping_timeout_ms(mqtt);
}

static uint64_t handshake_due_ms(const struct mqtt *mqtt)
{
    return mqtt->state_ms + (mqtt->conf->stream.timeout_ms ? mqtt->conf->stream.timeout_ms : CONNACK_TIMEOUT_MS);
}

static bool is_awaiting(const struct mqtt *mqtt, uint64_t now)
{
    return mqtt->is_pinging || (mqtt->conf->ack_timeout_ms && oldest_ms(mqtt, now) != UINT64_MAX);
}

void mqtt_watch(struct mqtt *mqtt)
{
    uint64_t now = loop_mono_ms(mqtt->loop), due;

    if (mqtt->state == MQTT_HANDSHAKE)
        due = handshake_due_ms(mqtt);
    else if (mqtt->state == MQTT_UP)
        due = sooner_of(ping_due_ms(mqtt, now), answer_due_ms(mqtt));
    else
        return;
    if (due == UINT64_MAX || (timer_is_running(&mqtt->watch) && mqtt->watch.due_ms <= due))
        return;
    /* Rounding is for links on which nothing is awaited: else two of them in a row would add up. */
    if (due >= now + COARSE_MS && !is_awaiting(mqtt, now))
        timer_start_coarse(&mqtt->watch, due - now);
    else
        timer_start_at(&mqtt->watch, due);
}

void mqtt_watch_answer(struct mqtt *mqtt)
{
    uint32_t timeout_ms = mqtt->conf->ack_timeout_ms;

    if (timeout_ms == 0)
        return;
    if (!timer_is_running(&mqtt->watch) || mqtt->watch.due_ms > loop_mono_ms(mqtt->loop) + timeout_ms)
        mqtt_watch(mqtt);
}

static void on_watch(void *arg)
{
    struct mqtt *mqtt = arg;
    uint64_t now = loop_mono_ms(mqtt->loop);

    if (mqtt->state == MQTT_HANDSHAKE && handshake_due_ms(mqtt) <= now) {
        mqtt_fail(mqtt, ERR_TIMEOUT, 0, "no CONNACK within %u ms", (unsigned)(now - mqtt->state_ms));
    } else if (mqtt->state == MQTT_UP) {
        if (answer_due_ms(mqtt) <= now) {
            mqtt_fail(mqtt, ERR_TIMEOUT, 0, "no PINGRESP within %u ms", (unsigned)(now - mqtt->ping_ms));
        } else if (ping_due_ms(mqtt, now) <= now) {
            mqtt_write_ping(mqtt);
            mqtt->pinged_ms = now;
            if (!mqtt->is_pinging) { /* further ones keep the connection, but leave the first its deadline */
                mqtt->is_pinging = true;
                mqtt->has_ping_left = false;
                mqtt->ping_ms = now;
                mqtt->ping_end = stream_queued(mqtt->stream);
            }
        }
    }
    mqtt_watch(mqtt);
}

/* --- connecting ---------------------------------------------------------------------------------------------------------- */

static void on_open(void *arg)
{
    struct mqtt *mqtt = arg;
    struct mqtt_conf conf = *mqtt->conf;

    if (mqtt->state != MQTT_OPENING)
        return;
    if (conf.version == MQTT_31 && conf.client_id.n == 0)
        conf.client_id = str_from(mqtt->random_id);
    conf.max_packet_bytes = mqtt->max_packet_in;
    enter(mqtt, MQTT_HANDSHAKE);
    mqtt->scratch.n = 0;
    mqtt_put_connect(&mqtt->scratch, &conf);
    mqtt_write(mqtt, &mqtt->scratch);
    explicit_bzero(mqtt->scratch.p, mqtt->scratch.n); /* the password */
    mqtt_watch(mqtt);
}

static void on_sent(void *arg)
{
    struct mqtt *mqtt = arg;

    if (mqtt->is_pinging && !mqtt->has_ping_left) { /* it may have waited behind others */
        mqtt->has_ping_left = true;
        mqtt->ping_ms = loop_mono_ms(mqtt->loop);
    }
    if (mqtt->state == MQTT_UP && mqtt->events->writable)
        mqtt->events->writable(mqtt->arg);
}

/* 4.4: PUBREL is sent again for what the server had received of the former connection. */
static void release_orphans(struct mqtt *mqtt)
{
    for (uint32_t i = 0; i < mqtt->flights.cap; i++) {
        struct flight *flight = &mqtt->flights.slots[i];

        if (flight->kind == FLIGHT_ORPHAN) {
            flight->since_ms = (uint32_t)loop_mono_ms(mqtt->loop);
            mqtt_write_ack(mqtt, MQTT_PUBREL, flight->id, 0);
        }
    }
}

void mqtt_up(struct mqtt *mqtt)
{
    struct mqtt_connack *connack = &mqtt->connack;

    enter(mqtt, MQTT_UP);
    timer_stop(&mqtt->watch);
    if (!connack->has_keep_alive)
        connack->server_keep_alive_s = mqtt->conf->keep_alive_s;
    mqtt->keep_alive_ms = connack->server_keep_alive_s * 1000u;
    if (connack->session_present) {
        release_orphans(mqtt);
    } else {
        flights_fini(&mqtt->flights);
        mqtt_received_clear(mqtt);
    }
    mqtt->ping_ms = 0;
    mqtt->judge_from_ms = mqtt->state_ms;
    if (mqtt->is_paused)
        stream_pause(mqtt->stream);
    mqtt_watch(mqtt);
    mqtt->events->connected(mqtt->arg, connack);
}

static NODISCARD enum err conf_check(const struct mqtt_conf *conf, struct why *why)
{
    if (conf->version != MQTT_31 && conf->version != MQTT_311 && conf->version != MQTT_5)
        return why_set(why, ERR_CONFIG, "MQTT version %d: 3, 4 and 5 exist", conf->version);
    if (conf->client_id.n > 65535 || conf->username.n > 65535 || conf->password.n > 65535)
        return why_set(why, ERR_CONFIG, "client id, user name and password may have 65535 bytes");
    if (conf->version != MQTT_5 && conf->password.p && !conf->username.p)
        return why_set(why, ERR_CONFIG, "a password without a user name needs MQTT 5"); /* 3.1.1, 3.1.2.9 */
    if (conf->version == MQTT_311 && conf->client_id.n == 0 && !conf->clean_start)
        return why_set(why, ERR_CONFIG, "a persistent session needs a client id"); /* 3.1.1, 3.1.3.1 */
    return ERR_OK;
}

static void make_random_id(struct mqtt *mqtt)
{
    uint64_t random = 0;

    if (mqtt->random_id[0])
        return;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = hash_bytes(&mqtt, sizeof mqtt); /* before the kernel has entropy: seeded per process */
    snprintf(mqtt->random_id, sizeof mqtt->random_id, "iotgw-%016llx", (unsigned long long)random);
}

static const struct stream_events stream_events = {
    .open = on_open,
    .read = mqtt_read,
    .sent = on_sent,
    .closed = on_closed,
};

/* --- the public face ------------------------------------------------------------------------------------------------------ */

struct mqtt *mqtt_new(struct loop *loop, struct log *log, const struct mqtt_events *events, void *arg)
{
    struct mqtt *mqtt = mem_zero(sizeof *mqtt);

    mqtt->loop = loop;
    mqtt->log = log;
    mqtt->events = events;
    mqtt->arg = arg;
    timer_init(&mqtt->watch, loop, on_watch, mqtt);
    timer_init(&mqtt->later, loop, on_later, mqtt);
    return mqtt;
}

void mqtt_connect(struct mqtt *mqtt, const struct mqtt_conf *conf)
{
    loop_assert(mqtt->loop);
    assert(mqtt->state == MQTT_IDLE);
    mqtt->conf = conf;
    mqtt->version = conf->version;
    mqtt->refusal = 0;
    mqtt->max_packet_in = limit_in(conf);
    mqtt->connack = (struct mqtt_connack){0};
    mqtt->close_err = conf_check(conf, &mqtt->close_why);
    if (!mqtt->close_err)
        mqtt->close_err = stream_new(&mqtt->stream, mqtt->loop, &stream_events, mqtt);
    if (mqtt->close_err) {
        enter(mqtt, MQTT_CLOSING);
        timer_start(&mqtt->later, 0);
        return;
    }
    make_random_id(mqtt);
    enter(mqtt, MQTT_OPENING);
    stream_connect(mqtt->stream, &conf->stream);
}

void mqtt_disconnect(struct mqtt *mqtt, uint8_t code)
{
    loop_assert(mqtt->loop);
    switch (mqtt->state) {
    case MQTT_IDLE:
        enter(mqtt, MQTT_CLOSING);
        timer_start(&mqtt->later, 0);
        break;
    case MQTT_OPENING:
    case MQTT_HANDSHAKE:
        close_stream(mqtt, true);
        break;
    case MQTT_UP:
        write_disconnect(mqtt, code);
        close_stream(mqtt, false);
        break;
    case MQTT_CLOSING:
        break;
    }
}

void mqtt_free(struct mqtt *mqtt)
{
    if (!mqtt)
        return;
    assert(mqtt->state == MQTT_IDLE);
    flights_fini(&mqtt->flights);
    mqtt_received_clear(mqtt);
    buf_fini(&mqtt->scratch);
    mem_free(mqtt);
}

uint8_t mqtt_refusal(const struct mqtt *mqtt)
{
    return mqtt->refusal;
}

uint64_t mqtt_queued(const struct mqtt *mqtt)
{
    return mqtt->stream ? stream_queued(mqtt->stream) : 0;
}

uint64_t mqtt_sent(const struct mqtt *mqtt)
{
    return mqtt->stream ? stream_sent(mqtt->stream) : 0;
}

uint64_t mqtt_last_in_ms(const struct mqtt *mqtt)
{
    return mqtt->last_in_ms;
}

void mqtt_pause(struct mqtt *mqtt)
{
    loop_assert(mqtt->loop);
    if (mqtt->is_paused)
        return;
    mqtt->is_paused = true;
    if (mqtt->state == MQTT_UP)
        stream_pause(mqtt->stream);
}

void mqtt_resume(struct mqtt *mqtt)
{
    loop_assert(mqtt->loop);
    if (!mqtt->is_paused)
        return;
    mqtt->is_paused = false;
    if (mqtt->state != MQTT_UP)
        return;
    mqtt->judge_from_ms = loop_mono_ms(mqtt->loop);
    stream_resume(mqtt->stream);
    mqtt_watch(mqtt);
}
