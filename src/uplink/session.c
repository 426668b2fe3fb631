/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/session.h"

#include "base/hash.h"
#include "data/json.h"
#include "uplink/messages.h"
#include "uplink/pack.h"
#include "uplink/topics.h"

#include <stdio.h>

/*
 *            ┌────────────────── pause (backoff) ──────────────────┐
 *            ▼                                                     │
 *   DOWN ► CONNECTING ──CONNACK──► NEGOTIATING ──limits, or 5 s──► READY
 *            ▲   └── refused ──► REFUSED (each 60 s again) ◄── not a gateway
 *            └────────── closed, from anywhere ── DOWN
 */
enum {
    READY_MS = 5000,         /* that long getSessionLimits may take */
    ASK_MS = 10 * 60 * 1000, /* limits change unannounced */
    RESUBSCRIBE_MS = 10 * 1000,
    REFUSED_MS = 60 * 1000,
    QUOTA_MS = 5000,
    TAKEN_OVER_MS = 10 * 60 * 1000,
    ACK_TIMEOUT_MS = 10 * 1000, /* oldest unanswered packet: PINGREQ; nothing within: closed */
    PING_TIMEOUT_MS = 5000,
    USER_TIMEOUT_MS = 20 * 1000,
    ECHO_MS = 5000,
    WINDOW_DEFAULT = 100, /* the platform's own default */
    WINDOW_MAX = 4096,
    RECORD_MIN = 256,
    PAYLOAD_MIN = 256, /* less is no limit but a mistake: a name and a value of usual length need more */
};

static const char *const limit_members[LIMIT_KINDS] = {
    [LIMIT_OWN] = "telemetryMessages",
    [LIMIT_OWN_VALUES] = "telemetryDataPoints",
    [LIMIT_OWN_MESSAGES] = "messages",
    [LIMIT_DEVICE] = "telemetryMessages",
    [LIMIT_DEVICE_VALUES] = "telemetryDataPoints",
    [LIMIT_DEVICE_MESSAGES] = "messages",
};
/* uplink_conf.rate is in the order of core.md 2.1 */
static const uint8_t limit_conf[LIMIT_KINDS] = {
    [LIMIT_OWN] = 0,    [LIMIT_OWN_VALUES] = 1,    [LIMIT_OWN_MESSAGES] = 2,
    [LIMIT_DEVICE] = 3, [LIMIT_DEVICE_VALUES] = 4, [LIMIT_DEVICE_MESSAGES] = 5,
};

static void attempt(void *arg);

static void enter(struct uplink *u, enum uplink_state state)
{
    static const char *const names[] = {"down", "connecting", "negotiating", "ready", "refused"};

    if (u->state == state)
        return;
    LOG_DEBUG(u->log, "platform link", KV_Z("state", names[state]));
    u->state = state;
    u->since_ms = loop_wall_ms(u->loop);
    if (u->events.state)
        u->events.state(u->arg, state);
}

/* --- limits ------------------------------------------------------------------------------------------------------------ */

static void limiter_set(struct uplink *u, enum limit_kind kind, struct str text)
{
    struct limiter *limiter = &u->limiters[kind];
    const struct limiter former = *limiter;
    struct why why = {0};

    if (limiter_parse(limiter, text, str_from(u->conf.mqtt.stream.host), u->conf.rate_percent, &why))
        LOG_WARN(u->log, "rate limit not understood, none is kept", KV_STR("limit", text), KV_WHY(&why));
    limiter->n_waits = former.n_waits;
    limiter->waited_ms = limiter_waited_ms(&former, loop_mono_ms(u->loop));
}

static void limiter_negotiated(struct uplink *u, enum limit_kind kind, struct str text)
{
    struct str known = str_from(u->limit_text[kind]);

    if (u->is_negotiated[kind] && str_eq(known, text)) /* tokens stay spent */
        return;
    snprintf(u->limit_text[kind], sizeof u->limit_text[kind], STR_FMT, STR_ARG(text));
    u->is_negotiated[kind] = true;
    limiter_set(u, kind, text);
}

static void limits_group(struct uplink *u, yyjson_val *group, enum limit_kind first)
{
    for (unsigned kind = first; kind < first + 3u; kind++)
        limiter_negotiated(u, kind, json_str(json_get(group, str_from(limit_members[kind]))));
}

/* The platform does not tell them: what an earlier answer said holds no more. */
static void limits_configured(struct uplink *u, enum limit_kind first)
{
    for (unsigned kind = first; kind < first + 3u; kind++) {
        if (u->is_negotiated[kind])
            limiter_set(u, kind, str_from(u->conf.rate[limit_conf[kind]]));
        u->is_negotiated[kind] = false;
    }
}

void session_rate_changed(struct uplink *u, unsigned i_rate, bool is_percent)
{
    for (unsigned kind = 0; kind < LIMIT_KINDS; kind++) {
        const struct limiter former = u->limiters[kind];
        double spent = 0;

        if (limit_conf[kind] != i_rate || (u->is_negotiated[kind] && !is_percent))
            continue;
        for (unsigned i = 0; i < former.n; i++)
            if (former.windows[i].capacity - former.windows[i].tokens > spent)
                spent = former.windows[i].capacity - former.windows[i].tokens;
        limiter_set(u, kind, u->is_negotiated[kind] ? str_from(u->limit_text[kind]) : str_from(u->conf.rate[i_rate]));
        limiter_charge(&u->limiters[kind], (uint32_t)spent, loop_mono_ms(u->loop));
    }
}

static void charge(struct uplink *u, enum limit_kind kind, unsigned n)
{
    limiter_charge(&u->limiters[kind], n, loop_mono_ms(u->loop));
}

static size_t less(size_t a, size_t b)
{
    return b && (!a || b < a) ? b : a;
}

void session_apply_limits(struct uplink *u)
{
    static const size_t longest_topic = sizeof "v1/gateway/attributes" - 1;
    struct deliver_limits limits = {0};
    size_t around = longest_topic + 2 + 2 + 1, payload = u->conf.max_payload_bytes;
    unsigned window = WINDOW_DEFAULT;

    if (u->max_payload) {
        size_t negotiated = (size_t)(u->max_payload / 10 * 9);

        payload = u->conf.has_max_payload && payload < negotiated ? payload : negotiated;
        if (payload + around > u->max_payload)
            payload = u->max_payload > around ? (size_t)u->max_payload - around : 1;
        limits.hard_bytes = u->max_payload > around ? (size_t)u->max_payload - around : 1;
    }
    if (u->connack_max_packet) { /* counts the fixed header too */
        size_t packet = u->connack_max_packet > around + 5 ? u->connack_max_packet - around - 5 : 1;

        payload = less(payload, packet);
        limits.hard_bytes = less(limits.hard_bytes, packet);
    }
    limits.payload_bytes = payload;
    limits.share_values = limiter_capacity(&u->limiters[LIMIT_DEVICE_VALUES]);
    if (u->max_inflight)
        window = u->max_inflight < WINDOW_MAX ? (unsigned)u->max_inflight : WINDOW_MAX;
    window = (unsigned)less(window, u->connack_receive_max);
    for (unsigned kind = 0; kind < LIMIT_KINDS; kind++)
        if (kind != LIMIT_OWN_VALUES && kind != LIMIT_DEVICE_VALUES)
            window = (unsigned)less(window, limiter_capacity(&u->limiters[kind]));
    limits.window = u->window = window ? window : 1;
    u->payload_limit = (uint32_t)payload;
    deliver_set_limits(u->deliver, &limits);

    /* Records are made to fit with a name of usual length; the rare others are split once more when packed. */
    size_t record = payload > 4 * RECORD_MIN ? payload - RECORD_MIN : payload / 4 * 3;

    if (record != u->told_bytes || limits.share_values != u->told_values) {
        u->told_bytes = record;
        u->told_values = limits.share_values;
        if (u->events.limits)
            u->events.limits(u->arg, record, limits.share_values);
    }
}

static void ask_limits(struct uplink *u)
{
    autobuf struct buf topic = {0}, payload = {0};

    u->limits_request = ++u->n_requests;
    buf_printf(&topic, "%s%u", TOPIC_OWN_RPC_REQUEST.p, u->limits_request);
    message_session_limits(&payload);
    if (!deliver_own(u->deliver, buf_str(&topic), buf_str(&payload), u->qos))
        u->limits_request = 0;
}

static void limits_unknown(struct uplink *u)
{
    u->max_payload = u->max_inflight = 0;
    limits_configured(u, LIMIT_OWN);
    limits_configured(u, LIMIT_DEVICE);
    session_apply_limits(u);
}

static void become_ready(struct uplink *u)
{
    if (u->state != UPLINK_NEGOTIATING)
        return;
    timer_stop(&u->ready);
    timer_start_coarse(&u->ask, ASK_MS);
    backoff_up(&u->backoff, loop_mono_ms(u->loop));
    u->reason[0] = 0;
    LOG_INFO(u->log, "connected to the platform", KV_UINT("mqtt", u->attempt.version == MQTT_5 ? 5 : 3),
             KV_UINT("payload limit", u->payload_limit), KV_UINT("window", u->window),
             KV_UINT("attempts", u->n_attempts));
    u->n_attempts = 0;
    enter(u, UPLINK_READY);
    deliver_open(u->deliver, u->attempt.version == MQTT_5, u->qos);
    change_ready(u);
}

static void not_a_gateway(struct uplink *u)
{
    u->is_not_gateway = true;
    snprintf(u->reason, sizeof u->reason,
             "the device is not a gateway on the platform (switch on 'Is gateway' in its details)");
    LOG_ERROR(u->log, "the device is not a gateway on the platform (switch on 'Is gateway')",
              KV_Z("host", u->conf.mqtt.stream.host));
    u->is_own_close = true;
    mqtt_disconnect(u->mqtt, 0);
}

static uint64_t whole_number(yyjson_val *val)
{
    int64_t n;

    return val && json_to_i64(val, &n) == ERR_OK && n > 0 ? (uint64_t)n : 0;
}

/* The answer to getSessionLimits; all parts are optional. */
static void limits_answer(struct uplink *u, struct str payload)
{
    yyjson_doc *doc = yyjson_read(payload.p, payload.n, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *own = json_get(root, STR("rateLimits")), *devices = json_get(root, STR("gatewayRateLimits"));
    bool is_error = !yyjson_is_obj(root) || json_get(root, STR("error"));

    u->limits_request = 0;
    if (is_error) {
        LOG_WARN(u->log, "the platform does not tell its limits, the configured ones apply", KV_STR("answer", payload));
        limits_unknown(u);
    } else {
        u->max_payload = whole_number(json_get(root, STR("maxPayloadSize")));
        if (u->max_payload && u->max_payload < PAYLOAD_MIN) {
            LOG_WARN(u->log, "the platform's payload limit is not believed", KV_UINT("bytes", u->max_payload));
            u->max_payload = 0;
        }
        u->max_inflight = whole_number(json_get(root, STR("maxInflightMessages")));
        if (yyjson_is_obj(own))
            limits_group(u, own, LIMIT_OWN);
        else
            limits_configured(u, LIMIT_OWN);
        if (yyjson_is_obj(devices))
            limits_group(u, devices, LIMIT_DEVICE);
        else
            limits_configured(u, LIMIT_DEVICE);
        session_apply_limits(u);
    }
    yyjson_doc_free(doc);
    if (!is_error && own && !devices)
        not_a_gateway(u);
    else
        become_ready(u);
}

/* --- subscriptions -------------------------------------------------------------------------------------------------------- */

static void subscribe(struct uplink *u, bool only_refused)
{
    const struct str topics[SESSION_FILTERS] = {
        STR("v1/devices/me/attributes"),
        STR("v1/devices/me/attributes/response/+"),
        STR("v1/devices/me/rpc/request/+"),
        STR("v1/devices/me/rpc/response/+"),
        TOPIC_ATTRIBUTES,
        TOPIC_ATTRIBUTES_RESPONSE,
        TOPIC_RPC,
        STR("v2/fw/response/+/chunk/+"),
    };
    struct mqtt_filter filters[SESSION_FILTERS];
    size_t n = 0;
    unsigned n_counted = 0;

    for (unsigned i = 0; i < SESSION_FILTERS; i++) {
        if ((only_refused && !u->is_refused[i]) || (i == SESSION_FILTERS - 1 && !u->conf.has_firmware))
            continue;
        u->subscribe_order[n] = (uint8_t)i;
        n_counted += i == 0 || i == 2 ? 1 : 0; /* platform-behaviour.md 4: own attributes and RPC cost a message each */
        /* Without No Local a plain broker would give us back what we publish there ourselves. */
        filters[n++] = (struct mqtt_filter){
            .filter = topics[i], .qos = i < 4 ? u->conf.qos : 1, .no_local = u->attempt.version == MQTT_5};
    }
    if (n && mqtt_subscribe(u->mqtt, filters, n, &u->subscribe_id))
        timer_start_coarse(&u->resubscribe, RESUBSCRIBE_MS);
    else
        charge(u, LIMIT_OWN_MESSAGES, n_counted);
}

static void on_subscribed(void *arg, uint16_t packet_id, const uint8_t *codes, size_t n)
{
    struct uplink *u = arg;
    unsigned n_refused = 0;

    if (u->is_provoking && packet_id == u->provoke_id) {
        u->is_provoking = false;
        deliver_wake(u->deliver);
        return;
    }
    if (packet_id != u->subscribe_id)
        return;
    for (size_t i = 0; i < n && i < SESSION_FILTERS; i++) {
        u->is_refused[u->subscribe_order[i]] = codes[i] >= 0x80;
        n_refused += codes[i] >= 0x80 ? 1 : 0;
    }
    if (n_refused) {
        LOG_WARN(u->log, "subscriptions refused by the platform", KV_UINT("count", n_refused));
        timer_start_coarse(&u->resubscribe, RESUBSCRIBE_MS);
    }
}

static void resubscribe(void *arg)
{
    struct uplink *u = arg;

    if (u->is_up)
        subscribe(u, true);
}

/* --- the connection -------------------------------------------------------------------------------------------------------- */

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    struct uplink *u = arg;

    u->is_up = true;
    u->is_version_known = true;
    u->n_silent_closes = 0;
    u->connack_receive_max = connack->receive_maximum;
    u->connack_max_packet = connack->max_packet_bytes;
    u->max_qos = connack->max_qos;
    u->qos = u->max_qos < u->conf.qos ? u->max_qos : u->conf.qos;
    if (u->qos < u->conf.qos)
        LOG_WARN(u->log, "the platform takes QoS 0 only, which can lose data", KV_UINT("maximum QoS", u->max_qos));
    charge(u, LIMIT_OWN_MESSAGES, 1); /* the login */
    u->n_requests = 0;
    u->is_provoking = false;
    memset(u->is_refused, 0, sizeof u->is_refused);
    session_apply_limits(u);
    enter(u, UPLINK_NEGOTIATING);
    subscribe(u, false);
    ask_limits(u);
    timer_start(&u->ready, READY_MS);
}

static void ready_due(void *arg)
{
    struct uplink *u = arg;

    LOG_WARN(u->log, "no answer to getSessionLimits, the configured limits apply", KV_MS("after", READY_MS));
    limits_unknown(u);
    become_ready(u);
}

static void ask_due(void *arg)
{
    struct uplink *u = arg;

    if (u->state == UPLINK_READY)
        ask_limits(u);
    timer_start_coarse(&u->ask, ASK_MS);
}

static uint64_t echo_hash(struct str topic, struct str payload)
{
    return hash_mix(hash_str(topic), hash_str(payload) | 1);
}

static void note_echo(struct uplink *u, struct str topic, struct str payload)
{
    if (str_eq(topic, TOPIC_TELEMETRY) || str_eq(topic, TOPIC_CONNECT)) /* most of it, and never subscribed to */
        return;
    u->echoes[u->n_echoes++ % SESSION_ECHOES] =
        (struct session_echo){.hash = echo_hash(topic, payload), .ms = loop_mono_ms(u->loop)};
}

static bool is_echo(struct uplink *u, struct str topic, struct str payload)
{
    uint64_t hash = echo_hash(topic, payload), now = loop_mono_ms(u->loop);

    for (unsigned i = 0; i < SESSION_ECHOES; i++)
        if (u->echoes[i].ms && u->echoes[i].hash == hash && now - u->echoes[i].ms <= ECHO_MS) {
            u->echoes[i].ms = 0;
            return true;
        }
    return false;
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    struct uplink *u = arg;
    struct str topic = message->topic, payload = str_of(message->payload, message->payload_n);
    uint64_t number;

    mqtt_ack(u->mqtt, message->qos, message->packet_id, 0);
    if (u->attempt.version != MQTT_5 && is_echo(u, topic, payload))
        return;
    if (str_starts(topic, TOPIC_OWN_RPC_RESPONSE) && u->limits_request &&
        str_to_u64(str_skip(topic, TOPIC_OWN_RPC_RESPONSE.n), &number) == ERR_OK && number == u->limits_request) {
        limits_answer(u, payload);
        return;
    }
    charge(u, str_starts(topic, TOPIC_OWN) ? LIMIT_OWN_MESSAGES : LIMIT_DEVICE_MESSAGES, 1);
    downlink_message(u, topic, payload);
}

static void on_acked(void *arg, uint16_t packet_id, uint8_t code)
{
    struct uplink *u = arg;

    deliver_acked(u->deliver, packet_id, code);
    downlink_wake(u); /* takes the place that became free: data are packed later in the turn */
}

static void on_writable(void *arg)
{
    struct uplink *u = arg;

    downlink_wake(u);
    deliver_wake(u->deliver);
}

/* Codes of a server's DISCONNECT that one of our messages may have caused; 0: it gave none. */
static bool is_about_a_message(uint8_t code)
{
    static const uint8_t codes[] = {0, 0x80, 0x81, 0x82, 0x83, 0x8B, 0x90, 0x95, 0x99};

    return memchr(codes, code, sizeof codes) != NULL;
}

static void use_311(struct uplink *u, const char *why)
{
    LOG_INFO(u->log, "trying MQTT 3.1.1", KV_Z("because", why));
    u->is_v3 = true;
    u->n_silent_closes = 0;
}

/* A server that is closed before CONNACK may speak another version: the two are tried in turn until one works. */
static void count_silent_close(struct uplink *u)
{
    if (u->is_version_known || u->conf.mqtt.version == MQTT_311 || ++u->n_silent_closes < 2)
        return;
    if (!u->is_v3) {
        use_311(u, "the connection was closed before CONNACK, twice");
    } else {
        u->is_v3 = false;
        u->n_silent_closes = 0;
    }
}

static void count_taken_over(struct uplink *u)
{
    uint64_t now = loop_mono_ms(u->loop);

    if (u->taken_over_ms[0] && now - u->taken_over_ms[0] <= TAKEN_OVER_MS) {
        u->backoff.floor_ms = QUOTA_MS;
        snprintf(u->reason, sizeof u->reason, "another client uses the same credentials: two gateways share a token?");
        LOG_ERROR(u->log, "another client uses the same credentials: two gateways share a token?");
    }
    u->taken_over_ms[0] = u->taken_over_ms[1];
    u->taken_over_ms[1] = now;
}

/* Gives the pause before the next attempt. */
static uint64_t judge_refusal(struct uplink *u, enum err err)
{
    uint64_t now = loop_mono_ms(u->loop);

    if (u->is_not_gateway || err == ERR_AUTH) {
        enter(u, UPLINK_REFUSED);
        return backoff_next(&u->refused, now);
    }
    enter(u, UPLINK_DOWN);
    if (err == ERR_UNSUPPORTED && !u->is_v3) {
        use_311(u, "the server does not speak MQTT 5");
        return 0;
    }
    if (err == ERR_QUOTA)
        u->backoff.floor_ms = QUOTA_MS;
    return backoff_next(&u->backoff, now);
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    struct uplink *u = arg;
    bool was_up = u->is_up, is_ours = u->is_own_close || u->is_stopping;
    uint8_t code = mqtt_refusal(u->mqtt);
    struct str oldest = deliver_oldest_topic(u->deliver);

    u->is_busy = u->is_up = u->is_own_close = false;
    u->limits_request = 0;
    downlink_forget(u);
    for (unsigned kind = 0; kind < LIMIT_KINDS; kind++)
        limiter_no_wait(&u->limiters[kind]);
    timer_stop(&u->ready);
    timer_stop(&u->ask);
    timer_stop(&u->resubscribe);
    deliver_closed(u->deliver,
                   was_up && !is_ours && (err == ERR_CLOSED || err == ERR_PROTO) && is_about_a_message(code));
    if (u->is_stopping) {
        enter(u, UPLINK_DOWN);
        session_closed_for_good(u);
        return;
    }
    u->n_reconnects += was_up ? 1 : 0;
    if (!u->is_not_gateway)
        snprintf(u->reason, sizeof u->reason, "%.299s", why && why->text[0] ? why->text : err_text(err));
    if (was_up && code == 0x8E)
        count_taken_over(u);
    if (!was_up && err == ERR_CLOSED)
        count_silent_close(u);
    uint64_t pause = change_closed(u, judge_refusal(u, err));

    if (was_up && code)
        LOG_WARN(u->log, "connection to the platform lost", KV_Z("reason", u->reason), KV_UINT("code", code),
                 KV_Z("meaning", mqtt_reason_text(u->attempt.version, false, code)),
                 KV_STR("oldest unacknowledged", oldest), KV_MS("next attempt", pause));
    else if (was_up)
        LOG_WARN(u->log, "connection to the platform lost", KV_Z("reason", u->reason),
                 KV_STR("oldest unacknowledged", oldest), KV_MS("next attempt", pause));
    else if (u->state == UPLINK_REFUSED)
        LOG_ERROR(u->log, "the platform refuses the connection", KV_Z("reason", u->reason), KV_UINT("code", code),
                  KV_MS("next attempt", pause));
    else
        LOG_WARN(u->log, "platform not reached", KV_Z("reason", u->reason), KV_MS("next attempt", pause));
    if (u->state == UPLINK_REFUSED)
        retry_start_deaf(&u->retry, pause);
    else
        retry_start(&u->retry, pause);
}

/* --- credentials first ------------------------------------------------------------------------------------------------------- */

void session_log_in_with(struct mqtt_conf *mqtt, const struct credentials *credentials,
                         const struct provision_conf *provision)
{
    mqtt->username = credentials->username;
    mqtt->password = credentials->password;
    mqtt->client_id = credentials->client_id;
    if (credentials->type == CREDENTIALS_CERTIFICATE) {
        mqtt->stream.tls.cert_file = provision->cert_path;
        mqtt->stream.tls.key_file = provision->key_path;
    }
}

static void provision_done(void *arg, const struct credentials *credentials)
{
    struct uplink *u = arg;

    u->is_busy = false;
    if (u->is_stopping) {
        session_closed_for_good(u);
        return;
    }
    if (change_provisioned(u, ERR_OK, credentials))
        return;
    u->is_provisioned = true;
    session_log_in_with(&u->conf.mqtt, credentials, u->conf.provision);
    u->n_attempts = 0;
    retry_start_deaf(&u->retry, 0);
}

static void provision_failed(void *arg, enum err err, const struct why *why)
{
    struct uplink *u = arg;
    uint64_t now = loop_mono_ms(u->loop), pause;

    u->is_busy = false;
    if (u->is_stopping) {
        enter(u, UPLINK_DOWN);
        session_closed_for_good(u);
        return;
    }
    snprintf(u->reason, sizeof u->reason, "provisioning: %.280s", why_text(why));
    if (change_provisioned(u, err, NULL))
        return;
    enter(u, err == ERR_AUTH ? UPLINK_REFUSED : UPLINK_DOWN);
    if (err == ERR_QUOTA)
        u->backoff.floor_ms = QUOTA_MS;
    pause = change_pause(u, backoff_next(err == ERR_AUTH ? &u->refused : &u->backoff, now));
    if (err == ERR_AUTH) {
        LOG_ERROR(u->log, "the platform refuses to provision the gateway", KV_WHY(why), KV_MS("next attempt", pause));
        retry_start_deaf(&u->retry, pause);
    } else {
        LOG_WARN(u->log, "the gateway is not provisioned", KV_WHY(why), KV_MS("next attempt", pause));
        retry_start(&u->retry, pause);
    }
}

struct provision *session_provision_new(struct uplink *u, const struct provision_conf *conf)
{
    static const struct provision_events events = {.done = provision_done, .failed = provision_failed};

    return provision_new(u->loop, u->log, conf, &events, u);
}

static void ask_for_credentials(struct uplink *u)
{
    u->n_attempts++;
    u->is_busy = true;
    snprintf(u->reason, sizeof u->reason, "asking the platform for credentials");
    enter(u, UPLINK_CONNECTING);
    provision_start(u->provision);
}

static void attempt(void *arg)
{
    struct uplink *u = arg;
    bool is_v3 = u->is_v3 || u->conf.mqtt.version == MQTT_311;

    u->is_not_gateway = false;
    change_attempt(u);
    if (u->conf.no_login) {
        snprintf(u->reason, sizeof u->reason, "%.299s", u->conf.no_login);
        enter(u, UPLINK_REFUSED);
        LOG_ERROR(u->log, "there is no way to log in to the platform, nothing is sent until the configuration has one",
                  KV_Z("reason", u->reason));
        return;
    }
    if (u->provision && !u->is_provisioned) {
        ask_for_credentials(u);
        return;
    }
    u->attempt = u->conf.mqtt;
    u->attempt.version = is_v3 ? MQTT_311 : MQTT_5;
    u->attempt.clean_start = true;
    u->attempt.session_expiry_s = 0;
    if (!u->attempt.keep_alive_s || u->attempt.keep_alive_s > UPLINK_KEEP_ALIVE_MAX_S)
        u->attempt.keep_alive_s = UPLINK_KEEP_ALIVE_MAX_S;
    u->attempt.ack_timeout_ms = ACK_TIMEOUT_MS;
    u->attempt.ping_timeout_ms = PING_TIMEOUT_MS;
    if (!u->attempt.stream.user_timeout_ms)
        u->attempt.stream.user_timeout_ms = USER_TIMEOUT_MS;
    if (is_v3 && !u->attempt.client_id.n) {
        if (!u->client_id[0])
            snprintf(u->client_id, sizeof u->client_id, "iotgw-%016llx",
                     (unsigned long long)hash_bytes(&u->since_ms, sizeof u->since_ms));
        u->attempt.client_id = str_from(u->client_id);
    }
    u->n_attempts++;
    u->is_busy = true;
    enter(u, UPLINK_CONNECTING);
    mqtt_connect(u->mqtt, &u->attempt);
}

/* --- what delivery needs ------------------------------------------------------------------------------------------------------ */

static enum err link_publish(void *arg, struct str topic, struct str payload, uint8_t qos, bool is_resent, uint16_t *id)
{
    struct uplink *u = arg;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)payload.p, .iov_len = payload.n};

    if (u->attempt.version != MQTT_5)
        note_echo(u, topic, payload);
    /* A packet is sent again in a new session only, and each is a clean one: there it is a first PUBLISH (MQTT 5, 3.3.1.1: DUP 0). */
    (void)is_resent;
    return mqtt_publish(u->mqtt, topic, &iov, 1, qos, 0, id);
}

static unsigned link_window(void *arg)
{
    struct uplink *u = arg;

    return u->is_up ? mqtt_window(u->mqtt) : 0;
}

static uint64_t link_queued(void *arg)
{
    return mqtt_queued(((struct uplink *)arg)->mqtt);
}

static uint64_t link_sent(void *arg)
{
    return mqtt_sent(((struct uplink *)arg)->mqtt);
}

static uint64_t link_last_in(void *arg)
{
    return mqtt_last_in_ms(((struct uplink *)arg)->mqtt);
}

/* A subscription that costs nothing (platform-behaviour.md 9) is answered like a ping. */
static void link_provoke(void *arg)
{
    struct uplink *u = arg;
    struct mqtt_filter filter = {.filter = TOPIC_RPC, .qos = 1, .no_local = u->attempt.version == MQTT_5};

    if (u->is_up && !u->is_provoking)
        u->is_provoking = mqtt_subscribe(u->mqtt, &filter, 1, &u->provoke_id) == ERR_OK;
}

static void link_close(void *arg, const char *reason)
{
    struct uplink *u = arg;

    LOG_WARN(u->log, "connecting to the platform anew", KV_Z("because", reason));
    u->is_own_close = true;
    mqtt_disconnect(u->mqtt, 0);
}

static void link_quota(void *arg)
{
    struct uplink *u = arg;

    LOG_WARN(u->log, "the platform's rate limit is exceeded");
    if (u->is_up && !u->limits_request)
        ask_limits(u);
}

static void link_not_gateway(void *arg)
{
    struct uplink *u = arg;

    LOG_WARN(u->log, "no message for a device has ever been answered: is the device a gateway on the platform?");
}

static uint64_t link_rejected(void *arg, struct str line)
{
    return reject_add(&((struct uplink *)arg)->rejected, line);
}

const struct deliver_link session_link = {
    .publish = link_publish,
    .window = link_window,
    .queued = link_queued,
    .sent = link_sent,
    .last_in_ms = link_last_in,
    .provoke = link_provoke,
    .close = link_close,
    .quota = link_quota,
    .not_gateway = link_not_gateway,
    .rejected = link_rejected,
};

/* --- exported ------------------------------------------------------------------------------------------------------------------- */

void session_init(struct uplink *u)
{
    static const struct mqtt_events events = {
        .connected = on_connected,
        .closed = on_closed,
        .message = on_message,
        .acked = on_acked,
        .subscribed = on_subscribed,
        .writable = on_writable,
    };
    uint64_t seed = (uint64_t)loop_wall_ms(u->loop) ^ (uintptr_t)u;

    if (u->conf.provision)
        u->provision = session_provision_new(u, u->conf.provision);
    u->mqtt = mqtt_new(u->loop, u->log, &events, u);
    backoff_init(&u->backoff, seed);
    backoff_init(&u->refused, seed + 1);
    u->refused.fixed_ms = REFUSED_MS;
    retry_init(&u->retry, u->loop, attempt, u);
    timer_init(&u->ready, u->loop, ready_due, u);
    timer_init(&u->ask, u->loop, ask_due, u);
    timer_init(&u->resubscribe, u->loop, resubscribe, u);
    downlink_init(u);
    change_init(u);
    u->since_ms = loop_wall_ms(u->loop);
    for (unsigned kind = 0; kind < LIMIT_KINDS; kind++)
        limiter_set(u, kind, str_from(u->conf.rate[limit_conf[kind]]));
    session_apply_limits(u);
}

void session_fini(struct uplink *u)
{
    retry_stop(&u->retry);
    timer_stop(&u->ready);
    timer_stop(&u->ask);
    timer_stop(&u->resubscribe);
    downlink_forget(u);
    change_fini(u);
    mqtt_free(u->mqtt);
    provision_free(u->provision);
}

void session_start(struct uplink *u)
{
    retry_start_deaf(&u->retry, 0);
}

void session_stop(struct uplink *u)
{
    struct provision *provision = change_busy_provision(u);

    u->is_stopping = true;
    change_stop(u);
    retry_stop(&u->retry);
    if (provision)
        provision_stop(provision);
    else if (u->is_busy)
        mqtt_disconnect(u->mqtt, 0);
    else
        session_closed_for_good(u);
}
