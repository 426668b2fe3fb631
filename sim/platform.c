/* SPDX-License-Identifier: Apache-2.0 */
#include "platform.h"

#include "base/clock.h"
#include "lines.h"
#include "main.h"
#include "opts.h"
#include "program.h"

#include <stdio.h>

enum { POOL_SIZE = 4 * 1024 * 1024, INACTIVITY_MS = 600 * 1000 };

/* As a platform without rate limits answers. */
static const char default_limits[] =
    "{\"maxPayloadSize\":65536,\"maxInflightMessages\":100,"
    "\"rateLimits\":{\"messages\":null,\"telemetryMessages\":null,\"telemetryDataPoints\":null},"
    "\"gatewayRateLimits\":{\"messages\":null,\"telemetryMessages\":null,\"telemetryDataPoints\":null}}";

/* --- acknowledgement -------------------------------------------------------------------------------------------- */
static void withhold(struct session *session, uint16_t packet_id, uint8_t code, uint64_t due_ms)
{
    size_t at;

    if (session->n_withheld == session->cap_withheld) {
        size_t cap = session->cap_withheld ? session->cap_withheld * 2 : 64;
        struct withheld *ring = mem_new(cap * sizeof *ring);

        for (size_t i = 0; i < session->n_withheld; i++)
            ring[i] = session->withheld[(session->first_withheld + i) % session->cap_withheld];
        mem_free(session->withheld);
        session->withheld = ring;
        session->cap_withheld = cap;
        session->first_withheld = 0;
    }
    at = (session->first_withheld + session->n_withheld++) % session->cap_withheld;
    session->withheld[at] = (struct withheld){due_ms, packet_id, code};
}

static void release(struct session *session, bool all)
{
    uint64_t now_ms = loop_mono_ms(session->platform->loop);

    while (session->n_withheld) {
        const struct withheld *first = &session->withheld[session->first_withheld];

        if (!all && first->due_ms > now_ms) {
            if (!timer_is_running(&session->timer) && first->due_ms != UINT64_MAX)
                timer_start_at(&session->timer, first->due_ms);
            return;
        }
        server_puback(session->client, first->packet_id, first->code);
        session->platform->n_pubacks++;
        session->first_withheld = (session->first_withheld + 1) % session->cap_withheld;
        session->n_withheld--;
    }
}

static void on_due(void *arg)
{
    struct session *session = arg;

    if (session->platform->is_acking)
        release(session, false);
}

void platform_release(struct platform *platform)
{
    LIST_EACH_SAFE(node, server_clients(platform->server)) {
        struct server_client *client = CONTAINER_OF(node, struct server_client, node);

        if (client->user)
            release(client->user, true);
    }
}

/* Answers QoS 1 and 2 alike; QoS 0 has no answer. */
static void puback(struct session *session, const struct mqtt_message *message, uint8_t code, uint64_t delay_ms)
{
    struct platform *platform = session->platform;

    if (message->qos == 0)
        return;
    if (session->client->version != MQTT_5)
        code = 0;
    if (!platform->is_acking) {
        withhold(session, message->packet_id, code, UINT64_MAX);
    } else if (delay_ms || session->n_withheld) {
        withhold(session, message->packet_id, code, loop_mono_ms(platform->loop) + delay_ms);
        release(session, false);
    } else if (platform->is_shuffling && code == 0) {
        if (session->n_burst == session->cap_burst) {
            session->cap_burst = session->cap_burst ? session->cap_burst * 2 : 64;
            session->burst = mem_grow(session->burst, session->cap_burst * sizeof *session->burst);
        }
        session->burst[session->n_burst++] = (struct withheld){.packet_id = message->packet_id, .code = code};
    } else {
        server_puback(session->client, message->packet_id, code);
        platform->n_pubacks++;
    }
}

/* What a client sees of an outcome. */
static void settle(struct session *session, const struct mqtt_message *message, enum outcome outcome)
{
    struct platform *platform = session->platform;
    struct server_client *client = session->client;
    bool is_5 = client->version == MQTT_5;

    platform->outcomes[outcome]++;
    switch (outcome) {
    case OUTCOME_OK:
        puback(session, message, 0, platform->delay_ms);
        break;
    case OUTCOME_BAD_PART:
        if (is_5)
            puback(session, message, 0x99, platform->delay_ms);
        else
            server_kick(client, 0);
        break;
    case OUTCOME_BAD_JSON:
        if (is_5 && message->qos)
            puback(session, message, 0x99, platform->delay_ms);
        else
            server_kick(client, 0x99);
        break;
    case OUTCOME_BAD_SHAPE:
        puback(session, message, 0x83, 0);
        server_kick(client, 0x83);
        break;
    case OUTCOME_CRASH:
        server_kick(client, 0x8b);
        break;
    case OUTCOME_UNKNOWN:
        puback(session, message, 0x90, platform->delay_ms);
        break;
    case OUTCOME_QUOTA:
        puback(session, message, 0x97, 0);
        if (!is_5 || message->qos)
            server_kick(client, 0);
        break;
    case OUTCOME_OWN_QUOTA:
        server_kick(client, 0x83);
        break;
    case OUTCOME_REFUSED:
        puback(session, message, 0x80, platform->conf.refused_ms);
        break;
    case OUTCOME_NEVER:
    case OUTCOME_COUNT:
        break;
    }
}

static enum outcome forced_outcome(const struct platform *platform, const struct mqtt_message *message)
{
    switch (platform->forced) {
    case 0x80:
        return OUTCOME_REFUSED;
    case 0x83:
        return OUTCOME_BAD_SHAPE;
    case 0x8b:
        return OUTCOME_CRASH;
    case 0x90:
        return OUTCOME_UNKNOWN;
    case 0x97:
        return OUTCOME_QUOTA;
    case 0x99:
        return message->qos ? OUTCOME_BAD_PART : OUTCOME_BAD_JSON;
    default:
        return OUTCOME_NEVER;
    }
}

static bool is_forced(const struct platform *platform, const struct mqtt_message *message)
{
    return platform->forced &&
           (str_find(message->topic, platform->forced_part, 0) != SIZE_MAX ||
            str_find(str_of(message->payload, message->payload_n), platform->forced_part, 0) != SIZE_MAX);
}

/* --- the server's callbacks ------------------------------------------------------------------------------------- */
/* Code of version 5 → return code of 3.x. */
static uint8_t refusal_of(enum mqtt_version version, uint8_t code)
{
    if (version == MQTT_5)
        return code;
    switch (code) {
    case 0x84:
        return 1;
    case 0x85:
        return 2;
    case 0x86:
    case 0x87:
        return 5;
    default:
        return 3;
    }
}

static uint8_t on_connect(void *arg, struct server_client *client, const struct mqtt_connect_packet *connect,
                          bool *session_present)
{
    struct platform *platform = arg;
    uint8_t code = platform_login(platform, client, connect);
    struct session *session = client->user;

    *session_present = !connect->clean_start;
    if (code) {
        platform->n_refused++;
        return refusal_of(client->version, code);
    }
    if (session->is_provisioning || session->timer.loop) /* a second CONNECT is processed like the first */
        return 0;
    timer_init(&session->timer, platform->loop, on_due, session);
    platform->connected_us = clock_mono_us();
    if (!platform->ready_us)
        platform->ready_us = platform->connected_us;
    return 0;
}

static uint8_t on_subscribe(void *arg, struct server_client *client, const struct mqtt_filter *filter)
{
    struct platform *platform = arg;
    struct session *session = client->user;
    bool is_rpc = str_eq(filter->filter, STR("v1/devices/me/rpc/request/+"));
    bool is_attributes = str_eq(filter->filter, STR("v1/devices/me/attributes"));

    if (session->is_provisioning ? !str_eq(filter->filter, STR("/provision/response"))
                                 : !platform_filter_is_known(filter->filter))
        return client->version == MQTT_5 ? 0x8f : 0x80;
    /* Over the limit the SUBACK still says granted, and nothing is delivered. */
    if ((is_rpc || is_attributes) && quota_take(&platform->own[LIMIT_MESSAGES], 1, clock_mono_us())) {
        session->wants_rpc |= is_rpc;
        session->wants_attributes |= is_attributes;
    }
    return filter->qos ? 1 : 0;
}

static void on_publish(void *arg, struct server_client *client, const struct mqtt_message *message)
{
    struct platform *platform = arg;
    struct session *session = client->user;

    platform->now_us = clock_mono_us();
    platform->n_packets++;
    platform->n_bytes += message->payload_n;
    platform->n_dup_flags += message->dup;
    if (session->is_provisioning) {
        enum outcome outcome = platform_provision(platform, session, message);

        settle(session, message, outcome);
        if (outcome == OUTCOME_UNKNOWN)
            server_kick(client, 0x90);
        return;
    }
    settle(session, message,
           is_forced(platform, message) ? forced_outcome(platform, message)
                                        : platform_take(platform, session, message));
    if (platform->awaited && platform->tally.n_unique >= platform->awaited) {
        autobuf struct buf line = {0};

        platform->awaited = 0;
        buf_add_z(&line, "{\"event\":\"arrived\",");
        platform_add_stats(platform, &line);
        buf_add_u8(&line, '}');
        line_say(&line);
    }
}

/* The acknowledgements of one read, the newest first. */
static void on_burst(void *arg UNUSED, struct server_client *client)
{
    struct session *session = client->user;

    while (session && session->n_burst) {
        const struct withheld *last = &session->burst[--session->n_burst];

        server_puback(client, last->packet_id, last->code);
        session->platform->n_pubacks++;
    }
}

static void on_session_closed(void *arg UNUSED, struct server_client *client, bool was_asked UNUSED)
{
    struct session *session = client->user;

    timer_stop(&session->timer);
    timer_stop(&session->idle);
    mem_free(session->withheld);
    mem_free(session->burst);
    mem_free(session->username);
    mem_free(session->device);
    mem_free(session);
    client->user = NULL;
}

static const struct server_events server_events = {.connect = on_connect,
                                                   .subscribe = on_subscribe,
                                                   .publish = on_publish,
                                                   .burst = on_burst,
                                                   .closed = on_session_closed};

/* --- exported --------------------------------------------------------------------------------------------------- */
unsigned platform_send(struct platform *platform, struct str topic, struct str payload)
{
    bool is_rpc = str_starts(topic, STR("v1/devices/me/rpc/request/"));
    bool is_attributes = str_eq(topic, STR("v1/devices/me/attributes"));
    bool is_gateway = str_starts(topic, STR("v1/gateway/"));
    unsigned n = 0;

    LIST_EACH_SAFE(node, server_clients(platform->server)) {
        struct server_client *client = CONTAINER_OF(node, struct server_client, node);
        struct session *session = client->user;

        if (!session || client->is_closing || session->is_provisioning || (is_rpc && !session->wants_rpc) ||
            (is_attributes && !session->wants_attributes) || (is_gateway && !session->is_gateway))
            continue;
        server_publish(client, topic, payload, server_granted(client, topic) == 0 ? 0 : 1);
        platform->n_downlinks++;
        n++;
    }
    return n;
}

static enum err set_quotas(struct quota *quotas, yyjson_val *limits, struct why *why)
{
    static const char *const names[LIMIT_COUNT] = {"messages", "telemetryMessages", "telemetryDataPoints"};
    uint64_t now_us = clock_mono_us();

    for (unsigned i = 0; i < LIMIT_COUNT; i++) {
        yyjson_val *limit = yyjson_obj_get(limits, names[i]);

        if (quota_parse(&quotas[i], str_of(yyjson_get_str(limit), yyjson_get_len(limit)), now_us))
            return why_set(why, ERR_SYNTAX, "%s: \"%s\" is not of the form \"100:1,5000:60\"", names[i],
                           yyjson_get_str(limit));
    }
    return ERR_OK;
}

enum err platform_set_limits(struct platform *platform, struct str json, struct why *why)
{
    yyjson_doc *doc = yyjson_read(json.p, json.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    enum err err = ERR_OK;

    if (!yyjson_is_obj(root))
        err = why_set(why, ERR_SYNTAX, "limits: a JSON object is needed");
    if (!err)
        err = set_quotas(platform->own, yyjson_obj_get(root, "rateLimits"), why);
    if (!err)
        err = set_quotas(platform->gateway, yyjson_obj_get(root, "gatewayRateLimits"), why);
    yyjson_doc_free(doc);
    if (err)
        return err;
    mem_free(platform->limits);
    platform->limits = memcpy(mem_zero(json.n + 1), json.p, json.n);
    return ERR_OK;
}

void platform_reset(struct platform *platform)
{
    platform_metrics_reset(platform);
    tally_reset(&platform->tally);
    tally_values_fini(&platform->own_telemetry);
    tally_values_fini(&platform->own_attributes);
    platform->n_packets = platform->n_bytes = platform->n_telemetry = platform->n_connects = platform->n_disconnects =
        0;
    platform->n_own_values = platform->n_own_telemetry = platform->n_refused = platform->n_early =
        platform->n_dup_flags = 0;
    platform->n_pubacks = platform->n_downlinks = 0;
    memset(platform->outcomes, 0, sizeof platform->outcomes);
    platform->ready_us = 0;
    platform->awaited = 0;
}

enum err platform_init(struct platform *platform, struct loop *loop, const struct platform_conf *conf,
                       const struct server_conf *server, struct why *why)
{
    enum err err;

    *platform = (struct platform){
        .loop = loop, .conf = *conf, .is_gateway = true, .is_acking = true, .pool_n = POOL_SIZE, .journal = -1};
    if (!platform->conf.refused_ms)
        platform->conf.refused_ms = 10000;
    if (!platform->conf.inactivity_ms)
        platform->conf.inactivity_ms = INACTIVITY_MS;
    if (conf->token)
        access_set(&access_add(&platform->access, ACCESS_TOKEN, STR("gateway"))->username, str_from(conf->token));
    if (conf->provision) {
        struct str secret = str_from(conf->provision), key;

        (void)str_split(&secret, ':', &key);
        access_set(&platform->access.profile_key, key);
        access_set(&platform->access.profile_secret, secret);
    }
    if (!platform->conf.device_ms)
        platform->conf.device_ms = platform->conf.inactivity_ms;
    platform->pool = mem_new(platform->pool_n);
    err = platform_set_limits(platform, str_from(conf->limits ? conf->limits : default_limits), why);
    if (!err)
        err = server_new(&platform->server, loop, server, &server_events, platform, why);
    if (err)
        platform_fini(platform);
    return err;
}

void platform_close(struct platform *platform, struct closer *closer)
{
    platform_metrics_reset(platform);
    server_close(platform->server, closer);
    platform->server = NULL;
}

void platform_fini(struct platform *platform)
{
    platform_metrics_reset(platform);
    for (struct map_slot *slot = NULL; (slot = map_next(&platform->shared, slot));) {
        struct tally_device *device = slot->value;

        tally_values_fini(&device->attributes);
        mem_free((void *)device->name.p);
        mem_free(device);
    }
    map_fini(&platform->shared);
    for (struct map_slot *slot = NULL; (slot = map_next(&platform->former, slot));) {
        mem_free((void *)((struct former *)slot->value)->name.p);
        mem_free(slot->value);
    }
    map_fini(&platform->former);
    tally_fini(&platform->tally);
    access_fini(&platform->access);
    tally_values_fini(&platform->own_telemetry);
    tally_values_fini(&platform->own_attributes);
    mem_free((void *)platform->forced_part.p);
    mem_free(platform->limits);
    platform_load_free(platform);
    buf_fini(&platform->replies);
    buf_fini(&platform->firmware);
    mem_free(platform->pool);
}

/* --- the program ------------------------------------------------------------------------------------------------ */
struct platform_program {
    struct program program;
    struct platform platform;
    struct view *view;
};

static void on_line(void *arg, struct str word, struct str rest)
{
    struct platform_program *self = arg;

    platform_command(&self->platform, word, rest);
}

static void on_end(void *arg, struct closer *closer)
{
    struct platform_program *self = arg;

    view_stop(self->view);
    platform_close(&self->platform, closer);
}

int platform_main(int argc, char **argv)
{
    static const char usage[] =
        "iotgw-sim platform [OPTIONS]\n\nA stand-in for the platform. Prints {\"port\":N}, then answers commands on "
        "standard input (\"help\" lists them) with one JSON line each.";
    struct platform_program self = {0};
    struct platform_conf conf = {0};
    struct server_conf server = {
        .host = "127.0.0.1", .max_remaining = 65536, .answers_disconnect = true, .ids_through_0 = true};
    uint64_t port = 0;
    const char *journal = NULL;
    bool is_live = false, is_shared = false;
    const struct opt opts[] = {
        {"--host", OPT_TEXT, &server.host, "ADDRESS", "address to listen on (127.0.0.1)", 0},
        {"--port", OPT_UINT, &port, "N", "port to listen on; 0, the default: any free one", 65535},
        {"--token", OPT_TEXT, &conf.token, "TOKEN", "access token of the gateway; without it every one is accepted", 0},
        {"--provision", OPT_TEXT, &conf.provision, "KEY:SECRET", "make devices for gateways that know these", 0},
        {"--inactivity-ms", OPT_UINT, &conf.inactivity_ms, "MS", "end what is silent for so long (600000)", 86400000},
        {"--cert", OPT_TEXT, &server.cert_file, "FILE", "TLS: the server's certificate (PEM)", 0},
        {"--key", OPT_TEXT, &server.key_file, "FILE", "TLS: its private key", 0},
        {"--limits", OPT_TEXT, &conf.limits, "JSON", "answer to getSessionLimits; rate limits in it are kept", 0},
        {"--refused-ms", OPT_UINT, &conf.refused_ms, "MS", "time until a refused device is answered (10000)", 3600000},
        {"--device-ms", OPT_UINT, &conf.device_ms, "MS", "end silent devices' sessions after so long (600000)",
         86400000},
        {"--shared-seq", OPT_FLAG, &is_shared, NULL, "\"seq\" is counted by one sender for all devices", 0},
        {"--journal", OPT_TEXT, &journal, "FILE", "keep the telemetry that is taken, and begin with what is in there",
         0},
        {"--live", OPT_FLAG, &is_live, NULL, "show devices and rates on standard error", 0},
    };
    struct why why = {0};
    autobuf struct buf line = {0};
    enum err err = opts_parse(opts, COUNT_OF(opts), usage, argc - 1, argv + 1, &why);

    if (!err && !server.cert_file != !server.key_file)
        err = why_set(&why, ERR_USAGE, "--cert and --key belong together");
    server.port = (uint16_t)port;
    if (!err)
        err = program_init(&self.program, "platform", on_line, on_end, &self);
    if (!err)
        err = platform_init(&self.platform, self.program.loop, &conf, &server, &why);
    self.platform.tally.is_shared = is_shared;
    if (!err && journal)
        err = platform_journal_open(&self.platform, journal, &why);
    if (err) {
        fprintf(stderr, "iotgw-sim platform: %s\n", why.text[0] ? why.text : err_text(err));
        return err == ERR_USAGE ? 64 : 1;
    }
    buf_printf(&line, "{\"port\":%u}", server_port(self.platform.server));
    line_say(&line);
    if (is_live)
        self.view = view_start(&self.platform);
    program_run(&self.program);
    platform_fini(&self.platform);
    return 0;
}
