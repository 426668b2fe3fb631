/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include "base/clock.h"
#include "main.h"
#include "opts.h"

#include <stdio.h>

enum { CHUNK = 60 * 1024, MAX_UNACCEPTED = 1024 * 1024 };
static const uint64_t ACKNOWLEDGED = UINT64_MAX;

/* --- messages --------------------------------------------------------------------------------------------------- */
static char *put_uint(char *out, uint64_t value)
{
    char digits[20];
    unsigned n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *out++ = digits[--n];
    return out;
}

static char *put_str(char *out, struct str text)
{
    memcpy(out, text.p, text.n);
    return out + text.n;
}

size_t source_payload(const struct source *source, uint64_t i, uint64_t now_us, char *out)
{
    char *at = put_str(out, STR("{\"ts\":"));

    at = put_uint(at, (uint64_t)source->t0_ms + i);
    at = put_str(at, STR(",\"seq\":"));
    at = put_uint(at, i);
    at = put_str(at, STR(",\"sent\":"));
    at = put_uint(at, now_us);
    at = put_str(at, source->tails[i / source->conf.devices % SOURCE_TAILS]);
    return (size_t)(at - out);
}

static void make_tails(struct source *source)
{
    for (unsigned i = 0; i < SOURCE_TAILS; i++) {
        autobuf struct buf tail = {0};
        char *text;

        buf_printf(&tail,
                   ",\"temperature\":%u.%02u,\"humidity\":%u.%u,\"pressure\":10%02u.%02u,\"voltage\":%u.%u,\"current\":"
                   "%u.%03u,"
                   "\"rpm\":%u,\"running\":%s,\"state\":\"%s\"}",
                   18 + i % 7, 1 + (i * 37) % 99, 40 + i % 20, 1 + i % 9, i % 30, 1 + (i * 53) % 99, 225 + i % 8,
                   1 + i % 9, 5 + i % 4, 1 + (i * 127) % 999, 1400 + i * 3, i % 8 ? "true" : "false",
                   i % 8 ? "RUN" : "STOP");
        text = mem_new(tail.n);
        source->tails[i] = (struct str){memcpy(text, tail.p, tail.n), tail.n};
    }
}

static void put_message(struct source *source, uint64_t k, uint64_t i, uint64_t now_us, unsigned flags)
{
    const struct source_topic *topic = &source->topics[i % source->conf.devices];
    char payload[512];
    size_t n = source_payload(source, i, now_us, payload);

    mqtt_put_publish_head(&source->out, source->client->version, str_of(topic->text, topic->n), n, 1, flags,
                          (uint16_t)(1 + k % SOURCE_IDS));
    buf_add(&source->out, payload, n);
    if (source->out.n >= CHUNK) {
        server_write(source->client, source->out.p, source->out.n);
        source->out.n = 0;
    }
}

static void flush(struct source *source)
{
    if (source->out.n && source->client)
        server_write(source->client, source->out.p, source->out.n);
    source->out.n = 0;
}

/* --- flow ------------------------------------------------------------------------------------------------------- */
static void add_stats(const struct source *source, struct buf *out)
{
    buf_printf(
        out,
        "\"made\":%llu,\"accepted\":%llu,\"inflight\":%llu,\"resent\":%llu,\"bad_acks\":%llu,\"connects\":%llu,"
        "\"subscribed\":%s,\"now_us\":%llu,\"start_us\":%llu,\"end_us\":%llu,\"n_unaccepted\":%llu,\"unaccepted\":[",
        (unsigned long long)source->next, (unsigned long long)source->n_accepted,
        (unsigned long long)source->n_inflight, (unsigned long long)source->n_resent,
        (unsigned long long)source->n_bad_acks, (unsigned long long)source->n_connects,
        source->client ? "true" : "false", (unsigned long long)clock_mono_us(), (unsigned long long)source->start_us,
        (unsigned long long)source->end_us, (unsigned long long)source->n_unaccepted);
    buf_add_str(out, buf_str(&source->unaccepted));
    buf_add_u8(out, ']');
}

static void say(const struct source *source, const char *event)
{
    autobuf struct buf line = {0};

    buf_printf(&line, "{\"event\":\"%s\",", event);
    add_stats(source, &line);
    buf_add_u8(&line, '}');
    line_say(&line);
}

static void check_done(struct source *source)
{
    if (source->is_endless || source->was_told || source->next < source->end || source->n_inflight)
        return;
    source->was_told = true;
    timer_stop(&source->tick);
    say(source, "done");
}

/* How many messages the rate allows now. */
static uint64_t allowed(const struct source *source, uint64_t now_us)
{
    uint64_t due;

    if (!source->conf.rate)
        return UINT64_MAX;
    due = (now_us - source->rate_us) * source->conf.rate / 1000000 + 1;
    return due > source->n_rated ? due - source->n_rated : 0;
}

static void pump(struct source *source)
{
    uint64_t now_us, n;

    if (!source->client || (!source->is_endless && source->next >= source->end))
        return;
    now_us = clock_mono_us();
    n = allowed(source, now_us);
    while (n && source->n_inflight < source->conf.window && source->tail - source->head < SOURCE_IDS &&
           (source->is_endless || source->next < source->end)) {
        if (source->next == source->run_from && !source->start_us)
            source->start_us = now_us;
        source->numbers[source->tail % SOURCE_IDS] = source->next;
        put_message(source, source->tail++, source->next++, now_us, 0);
        source->n_inflight++;
        source->n_rated++;
        n--;
    }
    /* What the window held back is not made up for in a burst. */
    if (source->conf.rate && n > 1 && n != UINT64_MAX && source->next < source->end)
        source->n_rated += n - 1;
    flush(source);
}

static void on_tick(void *arg)
{
    pump(arg);
}

void source_run(struct source *source, uint64_t n, uint64_t rate)
{
    source->end = source->next + n;
    source->is_endless = n == 0;
    source->conf.rate = rate;
    source->run_from = source->next;
    source->start_us = source->end_us = 0;
    source->rate_us = clock_mono_us();
    source->n_rated = 0;
    source->was_told = false;
    timer_stop(&source->tick);
    if (rate)
        timer_start_periodic(&source->tick, 1, rate >= 1000 ? 1 : 1000 / rate);
    pump(source);
}

static void give_up(struct source *source, uint64_t i)
{
    source->n_unaccepted++;
    if (source->unaccepted.n < MAX_UNACCEPTED)
        buf_printf(&source->unaccepted, "%s%llu", source->unaccepted.n ? "," : "", (unsigned long long)i);
}

/* Given up: what is in flight of a session that is not kept. */
static void forget_session(struct source *source)
{
    for (; source->head < source->tail; source->head++) {
        uint64_t i = source->numbers[source->head % SOURCE_IDS];

        if (i != ACKNOWLEDGED)
            give_up(source, i);
    }
    source->n_inflight = 0;
    source->head = source->tail = 0;
    for (size_t i = 0; i < source->n_filters; i++)
        mem_free(source->filters[i].text);
    mem_free(source->filters);
    source->filters = NULL;
    source->n_filters = 0;
    source->is_kept = false;
    check_done(source);
}

static void resend(struct source *source)
{
    uint64_t now_us = clock_mono_us();

    for (uint64_t k = source->head; k < source->tail; k++) {
        uint64_t i = source->numbers[k % SOURCE_IDS];

        if (i == ACKNOWLEDGED)
            continue;
        put_message(source, k, i, now_us, MQTT_DUP);
        source->n_resent++;
    }
    flush(source);
}

/* --- the server's callbacks ------------------------------------------------------------------------------------- */
static uint8_t on_connect(void *arg, struct server_client *client, const struct mqtt_connect_packet *connect,
                          bool *session_present)
{
    struct source *source = arg;
    bool is_same = source->client_id && str_eq_z(connect->client_id, source->client_id);

    source->n_connects++;
    *session_present = source->is_kept && is_same && !connect->clean_start;
    if (!*session_present)
        forget_session(source);
    source->is_kept = client->version == MQTT_5 ? connect->session_expiry_s > 0 : !connect->clean_start;
    mem_free(source->client_id);
    source->client_id = memcpy(mem_zero(connect->client_id.n + 1), connect->client_id.n ? connect->client_id.p : "",
                               connect->client_id.n);
    if (*session_present) {
        client->filters = source->filters;
        client->n_filters = source->n_filters;
        source->filters = NULL;
        source->n_filters = 0;
    }
    return 0;
}

static uint8_t on_subscribe(void *arg UNUSED, struct server_client *client UNUSED, const struct mqtt_filter *filter)
{
    return filter->qos ? 1 : 0;
}

static bool is_wanted(const struct source *source, const struct server_client *client)
{
    return server_granted(client, str_of(source->topics[0].text, source->topics[0].n)) >= 1;
}

static void on_filters(void *arg, struct server_client *client)
{
    struct source *source = arg;
    bool is_new = source->client != client;

    if (!is_wanted(source, client)) {
        if (!is_new)
            source->client = NULL;
        return;
    }
    source->client = client;
    if (is_new)
        say(source, "subscribed");
    pump(source);
}

static void on_acked(void *arg, struct server_client *client, uint16_t packet_id, uint8_t code)
{
    struct source *source = arg;
    uint64_t k;

    if (client != source->client || !packet_id)
        return;
    /* The k of this identifier that lies in [head, tail): there is at most one. */
    k = source->head + (packet_id - 1 + SOURCE_IDS - source->head % SOURCE_IDS) % SOURCE_IDS;
    if (k >= source->tail || source->numbers[k % SOURCE_IDS] == ACKNOWLEDGED) {
        source->n_bad_acks++;
        return;
    }
    source->n_inflight--;
    if (code < 0x80)
        source->n_accepted++;
    else
        give_up(source, source->numbers[k % SOURCE_IDS]);
    source->numbers[k % SOURCE_IDS] = ACKNOWLEDGED;
    while (source->head < source->tail && source->numbers[source->head % SOURCE_IDS] == ACKNOWLEDGED)
        source->head++;
}

static void on_burst(void *arg, struct server_client *client)
{
    struct source *source = arg;

    /* A session that was taken up again needs no SUBSCRIBE. */
    if (source->client != client && client->n_filters && is_wanted(source, client)) {
        source->client = client;
        say(source, "subscribed");
        resend(source);
    }
    if (source->client != client)
        return;
    if (!source->n_inflight && source->next >= source->end && !source->is_endless && !source->was_told)
        source->end_us = clock_mono_us();
    pump(source);
    check_done(source);
}

/* A request to a device, request/DEVICE/…, is answered at once with its own payload on response/DEVICE/…. */
static void answer_request(struct source *source, struct server_client *client, const struct mqtt_message *message)
{
    struct str rest = str_skip(message->topic, STR("request/").n);
    autobuf struct buf topic = {0};

    source->n_requests++;
    buf_add_z(&topic, "response/");
    buf_add_str(&topic, rest);
    if (server_granted(client, buf_str(&topic)) >= 0)
        (void)server_publish(client, buf_str(&topic), str_of(message->payload, message->payload_n), 0);
}

static void on_publish(void *arg, struct server_client *client, const struct mqtt_message *message)
{
    if (message->qos)
        server_puback(client, message->packet_id, 0);
    if (str_starts(message->topic, STR("request/")))
        answer_request(arg, client, message);
}

static void on_session_closed(void *arg, struct server_client *client, bool was_asked UNUSED)
{
    struct source *source = arg;

    if (source->client != client)
        return;
    source->client = NULL;
    source->out.n = 0;
    if (!source->is_kept) {
        forget_session(source);
        return;
    }
    source->filters = client->filters;
    source->n_filters = client->n_filters;
    client->filters = NULL;
    client->n_filters = 0;
}

static const struct server_events server_events = {.connect = on_connect,
                                                   .subscribe = on_subscribe,
                                                   .publish = on_publish,
                                                   .acked = on_acked,
                                                   .burst = on_burst,
                                                   .filters_changed = on_filters,
                                                   .closed = on_session_closed};

/* --- the program ------------------------------------------------------------------------------------------------ */
static void on_line(void *arg, struct str word, struct str rest)
{
    struct source *source = arg;
    struct str first = STR_NONE;
    uint64_t n, rate = source->conf.rate;
    autobuf struct buf line = {0};

    if (str_eq(word, STR("stats"))) {
        buf_add_u8(&line, '{');
        add_stats(source, &line);
        buf_add_u8(&line, '}');
        line_say(&line);
        return;
    }
    if (str_eq(word, STR("run"))) {
        (void)!str_split(&rest, ' ', &first);
        if (str_to_u64(first, &n) || (rest.n && str_to_u64(str_trim(rest), &rate))) {
            line_say_error(word,
                           "run N [RATE]: N more messages (0: without end), RATE a second (0: as fast as can be)");
            return;
        }
        buf_add_z(&line, "{\"ok\":true}");
        line_say(&line);
        source_run(source, n, rate);
        return;
    }
    if (str_eq(word, STR("stop"))) {
        source->is_endless = false;
        source->end = source->next;
    } else if (str_eq(word, STR("window")) && !str_to_u64(rest, &n) && n > 0 && n < SOURCE_IDS) {
        source->conf.window = n;
    } else if (str_eq(word, STR("drop"))) {
        server_drop_all(source->server);
    } else {
        line_say_error(word, "commands: run N [RATE], stop, window W, drop, stats, quit");
        return;
    }
    buf_add_z(&line, "{\"ok\":true}");
    line_say(&line);
    check_done(source);
}

static void on_end(void *arg, struct closer *closer)
{
    struct source *source = arg;

    timer_stop(&source->tick);
    source->client = NULL;
    server_close(source->server, closer);
}

enum err source_init(struct source *source, const struct source_conf *conf, const struct server_conf *server,
                     struct why *why)
{
    enum err err;

    memset(source, 0, sizeof *source);
    source->conf = *conf;
    source->was_told = true;
    source->t0_ms = clock_wall_ms();
    err = program_init(&source->program, "source", on_line, on_end, source);
    if (!err)
        err = server_new(&source->server, source->program.loop, server, &server_events, source, why);
    if (err)
        return err;
    timer_init(&source->tick, source->program.loop, on_tick, source);
    make_tails(source);
    source->topics = mem_zero(conf->devices * sizeof *source->topics);
    for (size_t i = 0; i < conf->devices; i++)
        source->topics[i].n =
            (uint8_t)snprintf(source->topics[i].text, sizeof source->topics[i].text, "sensors/dev%05zu/data", i);
    return ERR_OK;
}

void source_fini(struct source *source)
{
    source->was_told = true;
    forget_session(source);
    for (unsigned i = 0; i < SOURCE_TAILS; i++)
        mem_free((void *)source->tails[i].p);
    mem_free(source->topics);
    mem_free(source->client_id);
    buf_fini(&source->out);
    buf_fini(&source->unaccepted);
}

int source_main(int argc, char **argv)
{
    static const char usage[] =
        "iotgw-sim mqtt-source [OPTIONS]\n\nA broker that is its own fleet: publishes to whoever subscribes "
        "sensors/+/data. Prints "
        "{\"port\":N}, then answers\nthe commands run N [RATE], stop, window W, drop, stats, quit on standard input.";
    static struct source source;
    struct source_conf conf = {.devices = 10, .window = 1000};
    struct server_conf server = {.host = "127.0.0.1"};
    uint64_t port = 0;
    const struct opt opts[] = {
        {"--host", OPT_TEXT, &server.host, "ADDRESS", "address to listen on (127.0.0.1)", 0},
        {"--port", OPT_UINT, &port, "N", "port to listen on; 0, the default: any free one", 65535},
        {"--devices", OPT_UINT, &conf.devices, "N", "number of devices (10)", 1000000},
        {"--window", OPT_UINT, &conf.window, "N", "unacknowledged messages at most (1000)", SOURCE_IDS - 1},
        {"--cert", OPT_TEXT, &server.cert_file, "FILE", "TLS: the server's certificate (PEM)", 0},
        {"--key", OPT_TEXT, &server.key_file, "FILE", "TLS: its private key", 0},
    };
    struct why why = {0};
    autobuf struct buf line = {0};
    enum err err = opts_parse(opts, COUNT_OF(opts), usage, argc - 1, argv + 1, &why);

    if (!err && (!conf.devices || !conf.window))
        err = why_set(&why, ERR_USAGE, "--devices and --window must be at least 1");
    if (!err && !server.cert_file != !server.key_file)
        err = why_set(&why, ERR_USAGE, "--cert and --key belong together");
    server.port = (uint16_t)port;
    if (!err)
        err = source_init(&source, &conf, &server, &why);
    if (err) {
        fprintf(stderr, "iotgw-sim mqtt-source: %s\n", why.text[0] ? why.text : err_text(err));
        return err == ERR_USAGE ? 64 : 1;
    }
    buf_printf(&line, "{\"port\":%u}", server_port(source.server));
    line_say(&line);
    program_run(&source.program);
    source_fini(&source);
    return 0;
}
