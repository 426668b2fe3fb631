/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fleet of devices that publish to an MQTT broker, on one or several connections. A device has at most one publication under
 * way: when its next one is due before that has ended, the beat is skipped and counted. A lost connection is made again.
 */
#include "base/clock.h"
#include "base/log.h"
#include "io/backoff.h"
#include "main.h"
#include "mqtt/mqtt.h"
#include "opts.h"
#include "payload.h"
#include "program.h"

#include <stdio.h>
#include <unistd.h>

static const char default_payload[] =
    "{\"ts\":${ts},\"seq\":${seq},\"sent\":${sent},\"temperature\":${walk:18:26:2},\"humidity\":${walk:35:65:1},"
    "\"pressure\":${walk:995:1025:2},\"voltage\":${walk:223:237:1},\"current\":${walk:2:9:3},\"rpm\":${int:1450:1490},"
    "\"running\":${bool},\"state\":\"${pick:RUN|IDLE|STOP}\"}";

struct fleet;

struct device {
    struct payload_state state;
    struct str name; /* owned */
    struct buf topic, payload;
    bool is_busy;
    uint16_t packet_id; /* QoS 1 and 2 */
    uint64_t position;  /* QoS 0: where the publication ends in the connection's stream */
};

struct link {
    struct fleet *fleet;
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    char client_id[64];
    struct backoff backoff;
    struct timer retry;
    bool is_up;
    bool is_idle; /* no attempt is under way */
};

struct fleet {
    struct program program;
    struct log log;
    struct device *devices;
    struct link *links;
    uint64_t n_devices, n_links, qos, rate, count, seconds, version;
    struct payload payload, topic, name;
    struct timer tick;
    uint64_t started_us, n_made, n_acked, n_refused, n_skipped, n_lost, n_connected;
    bool is_ending;
    struct closer *closer;
};

static struct link *link_of(const struct fleet *fleet, size_t device)
{
    return &fleet->links[device % fleet->n_links];
}

static void add_stats(const struct fleet *fleet, struct buf *out)
{
    uint64_t n_up = 0;

    for (size_t i = 0; i < fleet->n_links; i++)
        n_up += fleet->links[i].is_up;
    buf_printf(out,
               "\"made\":%llu,\"acked\":%llu,\"refused\":%llu,\"skipped\":%llu,\"lost\":%llu,\"connected\":%llu,"
               "\"connections\":%llu,"
               "\"seconds\":%.3f",
               (unsigned long long)fleet->n_made, (unsigned long long)fleet->n_acked,
               (unsigned long long)fleet->n_refused, (unsigned long long)fleet->n_skipped,
               (unsigned long long)fleet->n_lost, (unsigned long long)n_up, (unsigned long long)fleet->n_links,
               (double)(clock_mono_us() - fleet->started_us) / 1e6);
}

static void end_fleet(struct fleet *fleet)
{
    autobuf struct buf line = {0};

    if (fleet->is_ending)
        return;
    fleet->is_ending = true;
    buf_add_z(&line, "{\"event\":\"done\",");
    add_stats(fleet, &line);
    buf_add_u8(&line, '}');
    line_say(&line);
    program_end(&fleet->program);
}

static bool is_complete(const struct fleet *fleet)
{
    return fleet->count && fleet->n_made >= fleet->count;
}

static void check_end(struct fleet *fleet)
{
    if (!is_complete(fleet) || fleet->is_ending)
        return;
    for (size_t i = 0; i < fleet->n_devices; i++) {
        struct device *device = &fleet->devices[i];

        if (device->is_busy && !device->packet_id && mqtt_sent(link_of(fleet, i)->mqtt) >= device->position)
            device->is_busy = false;
        if (device->is_busy)
            return;
    }
    end_fleet(fleet);
}

static void publish(struct fleet *fleet, size_t i)
{
    struct device *device = &fleet->devices[i];
    struct link *link = link_of(fleet, i);
    struct iovec payload;

    if (device->is_busy && !device->packet_id && mqtt_sent(link->mqtt) >= device->position)
        device->is_busy = false;
    if (!link->is_up || device->is_busy) {
        fleet->n_skipped++;
        return;
    }
    device->payload.n = 0;
    payload_add(&device->payload, &fleet->payload, &device->state, clock_wall_ms(), clock_mono_us());
    payload = (struct iovec){device->payload.p, device->payload.n};
    device->packet_id = 0;
    if (mqtt_publish(link->mqtt, buf_str(&device->topic), &payload, 1, (uint8_t)fleet->qos, 0, &device->packet_id)) {
        device->state.seq--; /* was not sent */
        fleet->n_skipped++;
        return;
    }
    device->is_busy = true;
    device->position = mqtt_queued(link->mqtt);
    fleet->n_made++;
}

/* Messages are spread evenly: message n is due at n / rate. */
static void on_tick(void *arg)
{
    struct fleet *fleet = arg;
    uint64_t passed_us = clock_mono_us() - fleet->started_us, due = passed_us * fleet->rate / 1000000, n;

    n = fleet->n_made + fleet->n_skipped;
    if (fleet->n_connected < fleet->n_links) { /* the first beat is when all are there */
        fleet->started_us = clock_mono_us();
        return;
    }
    for (; n < due && !is_complete(fleet); n++)
        publish(fleet, n % fleet->n_devices);
    if (fleet->seconds && passed_us >= fleet->seconds * 1000000)
        end_fleet(fleet);
    else
        check_end(fleet);
}

/* --- connections ------------------------------------------------------------------------------------------------ */
static void on_connected(void *arg, const struct mqtt_connack *connack UNUSED)
{
    struct link *link = arg;

    link->is_up = true;
    backoff_up(&link->backoff, clock_mono_ms());
    if (link->fleet->n_connected < link->fleet->n_links)
        link->fleet->n_connected++;
}

static void close_link(struct link *link)
{
    mqtt_free(link->mqtt);
    link->mqtt = NULL;
    closer_release(link->fleet->closer);
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct link *link = arg;
    struct fleet *fleet = link->fleet;

    link->is_up = false;
    link->is_idle = true;
    for (size_t i = (size_t)(link - fleet->links); i < fleet->n_devices; i += fleet->n_links) {
        if (fleet->devices[i].is_busy &&
            (fleet->devices[i].packet_id || mqtt_sent(link->mqtt) < fleet->devices[i].position))
            fleet->n_lost++;
        fleet->devices[i].is_busy = false;
    }
    if (fleet->closer) {
        close_link(link);
        return;
    }
    fprintf(stderr, "iotgw-sim mqtt-devices: %s: %s\n", link->client_id,
            why && why->text[0] ? why->text : err_text(err));
    timer_start(&link->retry, backoff_next(&link->backoff, clock_mono_ms()));
}

static void on_message(void *arg UNUSED, const struct mqtt_message *message UNUSED)
{
}

static void on_acked(void *arg, uint16_t packet_id, uint8_t code)
{
    struct link *link = arg;
    struct fleet *fleet = link->fleet;

    for (size_t i = (size_t)(link - fleet->links); i < fleet->n_devices; i += fleet->n_links) {
        struct device *device = &fleet->devices[i];

        if (!device->is_busy || device->packet_id != packet_id)
            continue;
        device->is_busy = false;
        if (code < 0x80)
            fleet->n_acked++;
        else
            fleet->n_refused++;
        return;
    }
}

static void on_subscribed(void *arg UNUSED, uint16_t packet_id UNUSED, const uint8_t *codes UNUSED, size_t n UNUSED)
{
}

static void on_retry(void *arg)
{
    struct link *link = arg;

    link->is_idle = false;
    mqtt_connect(link->mqtt, &link->conf);
}

static void link_init(struct link *link, struct fleet *fleet, const struct mqtt_conf *conf, size_t number)
{
    static const struct mqtt_events events = {.connected = on_connected,
                                              .closed = on_closed,
                                              .message = on_message,
                                              .acked = on_acked,
                                              .subscribed = on_subscribed};

    link->fleet = fleet;
    link->conf = *conf;
    snprintf(link->client_id, sizeof link->client_id, "sim-%ld-%zu", (long)getpid() % 100000, number);
    link->conf.client_id = str_from(link->client_id);
    link->mqtt = mqtt_new(fleet->program.loop, &fleet->log, &events, link);
    backoff_init(&link->backoff, number + 1);
    timer_init(&link->retry, fleet->program.loop, on_retry, link);
    on_retry(link);
}

/* --- the program ------------------------------------------------------------------------------------------------ */
static void on_line(void *arg, struct str word, struct str rest UNUSED)
{
    struct fleet *fleet = arg;
    autobuf struct buf line = {0};

    if (!str_eq(word, STR("stats"))) {
        line_say_error(word, "commands: stats, quit");
        return;
    }
    buf_add_u8(&line, '{');
    add_stats(fleet, &line);
    buf_add_u8(&line, '}');
    line_say(&line);
}

static void on_end(void *arg, struct closer *closer)
{
    struct fleet *fleet = arg;

    fleet->closer = closer;
    timer_stop(&fleet->tick);
    for (size_t i = 0; i < fleet->n_links; i++) {
        struct link *link = &fleet->links[i];

        closer_hold(closer);
        timer_stop(&link->retry);
        if (link->is_idle)
            close_link(link);
        else
            mqtt_disconnect(link->mqtt, 0);
    }
}

static void add_devices(struct fleet *fleet)
{
    fleet->devices = mem_zero(fleet->n_devices * sizeof *fleet->devices);
    for (size_t i = 0; i < fleet->n_devices; i++) {
        struct device *device = &fleet->devices[i];
        struct payload_state state;
        struct buf name = {0};

        payload_state_init(&state, &fleet->name, (unsigned)i, STR_NONE);
        payload_add(&name, &fleet->name, &state, 0, 0);
        payload_state_fini(&state);
        device->name = buf_str(&name); /* takes the bytes over */
        payload_state_init(&state, &fleet->topic, (unsigned)i, device->name);
        payload_add(&device->topic, &fleet->topic, &state, 0, 0);
        payload_state_fini(&state);
        payload_state_init(&device->state, &fleet->payload, (unsigned)i, device->name);
    }
}

static void fleet_fini(struct fleet *fleet)
{
    for (size_t i = 0; i < fleet->n_devices; i++) {
        payload_state_fini(&fleet->devices[i].state);
        mem_free((void *)fleet->devices[i].name.p);
        buf_fini(&fleet->devices[i].topic);
        buf_fini(&fleet->devices[i].payload);
    }
    mem_free(fleet->devices);
    mem_free(fleet->links);
    payload_fini(&fleet->payload);
    payload_fini(&fleet->topic);
    payload_fini(&fleet->name);
    log_fini(&fleet->log);
}

static enum err read_templates(struct fleet *fleet, const char *payload, const char *topic, const char *name,
                               struct why *why)
{
    enum err err = payload_init(&fleet->name, str_from(name), why);

    if (!err)
        err = payload_init(&fleet->topic, str_from(topic), why);
    return err ? err : payload_init(&fleet->payload, str_from(payload), why);
}

static enum err check(struct fleet *fleet, struct mqtt_conf *conf, uint64_t port, struct why *why)
{
    if (!port)
        return why_set(why, ERR_USAGE, "--port is needed: where the broker listens");
    if (!fleet->n_devices || !fleet->rate || fleet->qos > 2)
        return why_set(why, ERR_USAGE, "--devices and --rate must be at least 1, --qos 0, 1 or 2");
    if (fleet->version != 3 && fleet->version != 4 && fleet->version != 5)
        return why_set(why, ERR_USAGE, "--mqtt is 3 (MQTT 3.1), 4 (MQTT 3.1.1) or 5");
    if (!conf->stream.tls.cert_file != !conf->stream.tls.key_file)
        return why_set(why, ERR_USAGE, "--cert and --key belong together");
    if (!fleet->n_links)
        fleet->n_links = fleet->n_devices < 50 ? fleet->n_devices : 50;
    if (fleet->n_links > fleet->n_devices)
        fleet->n_links = fleet->n_devices;
    conf->stream.port = (uint16_t)port;
    conf->stream.tls.is_on = conf->stream.tls.ca_file || conf->stream.tls.cert_file || conf->stream.tls.insecure;
    conf->version = fleet->version == 3 ? MQTT_31 : fleet->version == 4 ? MQTT_311 : MQTT_5;
    return ERR_OK;
}

int devices_main(int argc, char **argv)
{
    static const char usage[] =
        "iotgw-sim mqtt-devices --port N [OPTIONS]\n\nA fleet of devices that publish to an MQTT broker. Ends after "
        "--count messages or "
        "--seconds, else at SIGINT;\nanswers \"stats\" and \"quit\" on standard input with one JSON line each.";
    static struct fleet fleet = {.n_devices = 10, .qos = 1, .rate = 10, .version = 4};
    struct mqtt_conf conf = {.stream.host = "127.0.0.1", .keep_alive_s = 30, .clean_start = true};
    const char *payload = default_payload, *topic = "sensors/${device}/data", *name = "dev${number}", *user = NULL,
               *password = NULL;
    uint64_t port = 0;
    const struct opt opts[] = {
        {"--host", OPT_TEXT, &conf.stream.host, "NAME", "the broker (127.0.0.1)", 0},
        {"--port", OPT_UINT, &port, "N", "its port", 65535},
        {"--devices", OPT_UINT, &fleet.n_devices, "N", "number of devices (10)", 1000000},
        {"--connections", OPT_UINT, &fleet.n_links, "N", "connections they share; default: one each, at most 50",
         10000},
        {"--rate", OPT_UINT, &fleet.rate, "N", "messages a second of all devices together (10)", 1000000},
        {"--count", OPT_UINT, &fleet.count, "N", "end after so many messages; default: never", 0},
        {"--seconds", OPT_UINT, &fleet.seconds, "N", "end after so many seconds; default: never", 1000000000},
        {"--qos", OPT_UINT, &fleet.qos, "N", "0, 1 or 2 (1)", 2},
        {"--mqtt", OPT_UINT, &fleet.version, "N", "protocol level: 3 (MQTT 3.1), 4 (MQTT 3.1.1, default), 5", 5},
        {"--name", OPT_TEXT, &name, "TEMPLATE", "of a device (dev${number})", 0},
        {"--topic", OPT_TEXT, &topic, "TEMPLATE", "(sensors/${device}/data)", 0},
        {"--payload", OPT_TEXT, &payload, "TEMPLATE",
         "places: ${device} ${number} ${seq} ${ts} ${sent} ${walk:MIN:MAX:DECIMALS} "
         "${int:MIN:MAX} ${bool} ${pick:a|b}",
         0},
        {"--user", OPT_TEXT, &user, "NAME", "user name", 0},
        {"--password", OPT_TEXT, &password, "TEXT", "password", 0},
        {"--ca", OPT_TEXT, &conf.stream.tls.ca_file, "FILE", "TLS: trusted certificates", 0},
        {"--cert", OPT_TEXT, &conf.stream.tls.cert_file, "FILE", "TLS: client certificate", 0},
        {"--key", OPT_TEXT, &conf.stream.tls.key_file, "FILE", "TLS: its private key", 0},
        {"--insecure", OPT_FLAG, &conf.stream.tls.insecure, NULL, "TLS without verification of the broker", 0},
    };
    struct why why = {0};
    enum err err = opts_parse(opts, COUNT_OF(opts), usage, argc - 1, argv + 1, &why);

    if (!err)
        err = check(&fleet, &conf, port, &why);
    if (!err)
        err = read_templates(&fleet, payload, topic, name, &why);
    if (!err)
        err = program_init(&fleet.program, "devices", on_line, on_end, &fleet);
    if (err) {
        fprintf(stderr, "iotgw-sim mqtt-devices: %s\n", why.text[0] ? why.text : err_text(err));
        return err == ERR_USAGE || err == ERR_SYNTAX ? 64 : 1;
    }
    conf.username = str_from(user);
    conf.password = str_from(password);
    log_init(&fleet.log, "mqtt-devices", LOG_LEVEL_OFF);
    add_devices(&fleet);
    fleet.links = mem_zero(fleet.n_links * sizeof *fleet.links);
    fleet.started_us = clock_mono_us();
    for (size_t i = 0; i < fleet.n_links; i++)
        link_init(&fleet.links[i], &fleet, &conf, i);
    timer_init(&fleet.tick, fleet.program.loop, on_tick, &fleet);
    timer_start_periodic(&fleet.tick, 1, fleet.rate >= 200 ? 5 : 1000 / fleet.rate);
    program_run(&fleet.program);
    fleet_fini(&fleet);
    return 0;
}
