/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the MQTT client from standard input, for conformance tests against real brokers: one command a line, words
 * separated by spaces; each event is a line on standard output.
 *
 *   connect host=… port=… [version= id= clean= expiry= user= pass= keepalive= rmax= alias= ca= cert= key= insecure= name=]
 *   sub QOS[n] FILTER …    (n: No Local)        unsub FILTER …
 *   pub QOS[r] TOPIC TEXT                       again ID QOS TOPIC TEXT   (DUP, with that identifier)
 *   many COUNT SIZE QOS TOPIC                   auto | manual | ack QOS ID
 *   pause | resume | disconnect [CODE] | quit
 */
#include "mqtt/mqtt.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct driver {
    struct loop *loop;
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    struct log log;
    uv_poll_t input;
    struct buf line;
    char **kept; /* what publications and configuration point to, until the end */
    size_t n_kept;
    bool is_manual, is_quitting;
    struct { /* many: what is still to be published, as the server's window opens */
        unsigned long n;
        struct str qos, topic, payload;
    } many;
};

static void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void say(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

static const char *keep(struct driver *d, struct str s)
{
    char *text = mem_new(s.n + 1);

    if (s.n)
        memcpy(text, s.p, s.n);
    text[s.n] = 0;
    d->kept = mem_grow(d->kept, (d->n_kept + 1) * sizeof *d->kept);
    return d->kept[d->n_kept++] = text;
}

static unsigned long number(struct str s)
{
    uint64_t v;

    if (str_to_u64(s, &v)) {
        fprintf(stderr, "not a number: " STR_FMT "\n", STR_ARG(s));
        exit(64);
    }
    return (unsigned long)v;
}

/* --- events ---------------------------------------------------------------------------------------------------------- */

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    (void)arg;
    say("connected session=%d rmax=%u qos=%u keepalive=%u id=" STR_FMT, connack->session_present,
        connack->receive_maximum, connack->max_qos, connack->server_keep_alive_s, STR_ARG(connack->assigned_client_id));
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct driver *d = arg;

    say("closed %s %u %s", err_name(err), mqtt_refusal(d->mqtt), why_text(why));
    if (d->is_quitting) {
        uv_close((uv_handle_t *)&d->input, NULL);
        loop_stop(d->loop);
    }
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    struct driver *d = arg;
    struct str payload = str_of(message->payload, message->payload_n);
    char length[32];

    snprintf(length, sizeof length, "%zu bytes", payload.n);
    if (payload.n > 100)
        payload = str_from(length);
    say("msg qos=%u retain=%d dup=%d id=%u " STR_FMT " " STR_FMT, message->qos, message->retain, message->dup,
        message->packet_id, STR_ARG(message->topic), STR_ARG(payload));
    if (!d->is_manual)
        mqtt_ack(d->mqtt, message->qos, message->packet_id, 0);
}

static void publish_many(struct driver *d);

static void on_acked(void *arg, uint16_t id, uint8_t code)
{
    say("acked %u %u", id, code);
    publish_many(arg);
}

static void on_subscribed(void *arg, uint16_t id, const uint8_t *codes, size_t n)
{
    (void)arg;
    printf("subscribed %u", id);
    for (size_t i = 0; i < n; i++)
        printf(" %u", codes[i]);
    say("%s", "");
}

static const struct mqtt_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .message = on_message,
    .acked = on_acked,
    .subscribed = on_subscribed,
};

/* --- commands -------------------------------------------------------------------------------------------------------- */

static void do_connect(struct driver *d, struct str rest)
{
    struct mqtt_conf *conf = &d->conf;
    struct str word, key;

    *conf = (struct mqtt_conf){.version = MQTT_5, .clean_start = true, .keep_alive_s = 60, .client_id = {"", 0}};
    while (str_split(&rest, ' ', &word)) {
        struct str value = word;
        const char *text;

        (void)str_split(&value, '=', &key);
        text = keep(d, value);
        value = str_from(text);
        if (str_eq_z(key, "host"))
            conf->stream.host = text;
        else if (str_eq_z(key, "port"))
            conf->stream.port = (uint16_t)number(value);
        else if (str_eq_z(key, "version"))
            conf->version = (enum mqtt_version)number(value);
        else if (str_eq_z(key, "id"))
            conf->client_id = value;
        else if (str_eq_z(key, "clean"))
            conf->clean_start = number(value);
        else if (str_eq_z(key, "expiry"))
            conf->session_expiry_s = (uint32_t)number(value);
        else if (str_eq_z(key, "user"))
            conf->username = value;
        else if (str_eq_z(key, "pass"))
            conf->password = value;
        else if (str_eq_z(key, "keepalive"))
            conf->keep_alive_s = (uint16_t)number(value);
        else if (str_eq_z(key, "rmax"))
            conf->receive_maximum = (uint16_t)number(value);
        else if (str_eq_z(key, "alias"))
            conf->topic_alias_maximum = (uint16_t)number(value);
        else if (str_eq_z(key, "ca"))
            conf->stream.tls.is_on = true, conf->stream.tls.ca_file = text;
        else if (str_eq_z(key, "cert"))
            conf->stream.tls.cert_file = text;
        else if (str_eq_z(key, "key"))
            conf->stream.tls.key_file = text;
        else if (str_eq_z(key, "insecure"))
            conf->stream.tls.is_on = conf->stream.tls.insecure = true;
        else if (str_eq_z(key, "name"))
            conf->stream.tls.server_name = text;
        else
            say("error unknown key " STR_FMT, STR_ARG(key));
    }
    mqtt_connect(d->mqtt, conf);
}

static void report(const char *what, enum err err, uint16_t id)
{
    if (err)
        say("error %s %s", what, err_name(err));
    else
        say("%s %u", what, id);
}

static void do_subscribe(struct driver *d, struct str rest, bool is_unsubscribe)
{
    struct mqtt_filter filters[16];
    struct str names[16], word;
    uint16_t id = 0;
    size_t n = 0;

    for (; n < 16 && str_split(&rest, ' ', &word); n++) {
        if (!is_unsubscribe) {
            filters[n] = (struct mqtt_filter){.qos = (uint8_t)(word.p[0] - '0'), .no_local = word.n > 1};
            (void)str_split(&rest, ' ', &filters[n].filter);
        }
        names[n] = word;
    }
    if (is_unsubscribe)
        report("unsub", mqtt_unsubscribe(d->mqtt, names, n, &id), id);
    else
        report("sub", mqtt_subscribe(d->mqtt, filters, n, &id), id);
}

static void publish(struct driver *d, uint16_t id, struct str qos, struct str topic, struct str payload, unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)payload.p, payload.n};
    enum err err = mqtt_publish(d->mqtt, topic, &iov, 1, (uint8_t)(qos.p[0] - '0'), flags, &id);

    report("pub", err, id);
}

static void publish_many(struct driver *d)
{
    for (; d->many.n && mqtt_window(d->mqtt); d->many.n--)
        publish(d, 0, d->many.qos, d->many.topic, d->many.payload, 0);
}

static void do_many(struct driver *d, struct str rest)
{
    struct str count, size, qos, topic;
    autobuf struct buf payload = {0};
    size_t n;

    if (!str_split(&rest, ' ', &count) || !str_split(&rest, ' ', &size) || !str_split(&rest, ' ', &qos) ||
        !str_split(&rest, ' ', &topic))
        return;
    n = number(size);
    memset(buf_room(&payload, n + 1), 'x', n);
    payload.n = n;
    d->many.n = number(count);
    d->many.qos = str_from(keep(d, qos));
    d->many.topic = str_from(keep(d, topic));
    d->many.payload = str_of(keep(d, buf_str(&payload)), n);
    publish_many(d);
}

static void do_command(struct driver *d, struct str line)
{
    struct str rest = line, word, a = STR_NONE, b = STR_NONE, c = STR_NONE;

    (void)str_split(&rest, ' ', &word);
    if (str_eq_z(word, "connect")) {
        do_connect(d, rest);
    } else if (str_eq_z(word, "sub") || str_eq_z(word, "unsub")) {
        do_subscribe(d, rest, word.n == 5);
    } else if (str_eq_z(word, "pub")) {
        (void)(str_split(&rest, ' ', &a) && str_split(&rest, ' ', &b));
        publish(d, 0, a, b, str_from(keep(d, rest)), a.n > 1 ? MQTT_RETAIN : 0);
    } else if (str_eq_z(word, "again")) {
        (void)(str_split(&rest, ' ', &c) && str_split(&rest, ' ', &a) && str_split(&rest, ' ', &b));
        publish(d, (uint16_t)number(c), a, b, str_from(keep(d, rest)), MQTT_DUP | MQTT_SAME_ID);
    } else if (str_eq_z(word, "many")) {
        do_many(d, rest);
    } else if (str_eq_z(word, "ack")) {
        (void)(str_split(&rest, ' ', &a) && str_split(&rest, ' ', &b));
        mqtt_ack(d->mqtt, (uint8_t)number(a), (uint16_t)number(b), 0);
    } else if (str_eq_z(word, "auto") || str_eq_z(word, "manual")) {
        d->is_manual = word.n == 6;
    } else if (str_eq_z(word, "pause")) {
        mqtt_pause(d->mqtt);
    } else if (str_eq_z(word, "resume")) {
        mqtt_resume(d->mqtt);
    } else if (str_eq_z(word, "disconnect") || str_eq_z(word, "quit")) {
        d->is_quitting = word.n == 4;
        mqtt_disconnect(d->mqtt, rest.n ? (uint8_t)number(rest) : 0);
    } else {
        say("error unknown command " STR_FMT, STR_ARG(word));
    }
}

static void on_input(uv_poll_t *handle, int status, int flags)
{
    struct driver *d = handle->data;
    ssize_t n = read(0, buf_room(&d->line, 65536), 65536);
    struct str rest, line;

    (void)status;
    (void)flags;
    if (n <= 0) { /* whoever drove is gone */
        uv_poll_stop(handle);
        do_command(d, STR("quit"));
        return;
    }
    d->line.n += (size_t)n;
    rest = buf_str(&d->line);
    while (str_chr(rest, '\n') < rest.n && str_split(&rest, '\n', &line))
        do_command(d, line);
    buf_drop(&d->line, d->line.n - rest.n);
}

int main(void)
{
    struct driver d = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    log_init(&d.log, "mqtt", getenv("MQTT_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
    if (loop_new(&d.loop, "driver"))
        return 70;
    d.mqtt = mqtt_new(d.loop, &d.log, &events, &d);
    if (uv_poll_init(loop_uv(d.loop), &d.input, 0)) /* a pipe */
        return 70;
    d.input.data = &d;
    uv_poll_start(&d.input, UV_READABLE, on_input);
    loop_run(d.loop);
    mqtt_free(d.mqtt);
    loop_free(d.loop);
    for (size_t i = 0; i < d.n_kept; i++)
        mem_free(d.kept[i]);
    mem_free(d.kept);
    buf_fini(&d.line);
    log_fini(&d.log);
    return 0;
}
