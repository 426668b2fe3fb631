/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/slab.h"
#include "data/device.h"
#include "uplink/uplink.h"

#include <stdio.h>
#include <unistd.h>

/*
 * The MQTT client is scripted here: the test links its own mqtt_* instead of the room's, notes what the session asks for, and calls
 * back what a server would cause. Time is the fake loop's.
 */
struct publication {
    char topic[80], payload[2000];
    uint8_t qos;
    unsigned flags;
    uint16_t id;
};

struct mqtt {
    struct loop *loop;
    struct mqtt_events events;
    void *arg;
    struct mqtt_conf conf;
    char client_id[64];
    bool is_busy, is_up, is_disconnecting;
    uint8_t refusal;
    unsigned n_connects, n_subscribes, n_disconnects, n_acks;
    struct mqtt_filter filters[8];
    size_t n_filters;
    struct publication sent[64];
    unsigned n_sent;
    uint16_t next_id;
    struct timer closing;
};

static struct mqtt *client;
static struct loop *loop;
static struct log test_log;
static struct uplink *uplink;
static struct store *store;
static struct uplink_conf conf;
static enum uplink_state seen[64];
static unsigned n_seen, told_values, n_messages;
static size_t told_bytes;
static bool is_stopped;
static char rejected_path[64];

static void closing(void *arg)
{
    struct mqtt *mqtt = arg;

    mqtt->is_busy = mqtt->is_up = mqtt->is_disconnecting = false;
    mqtt->events.closed(mqtt->arg, ERR_OK, &(struct why){0});
}

struct mqtt *mqtt_new(struct loop *l, struct log *log, const struct mqtt_events *events, void *arg)
{
    (void)log;
    client = mem_zero(sizeof *client);
    client->loop = l;
    client->events = *events;
    client->arg = arg;
    timer_init(&client->closing, l, closing, client);
    return client;
}

void mqtt_free(struct mqtt *mqtt)
{
    if (mqtt)
        assert_false(mqtt->is_busy);
    mem_free(mqtt);
}

void mqtt_connect(struct mqtt *mqtt, const struct mqtt_conf *c)
{
    assert_false(mqtt->is_busy);
    mqtt->is_busy = true;
    mqtt->refusal = 0;
    mqtt->conf = *c;
    snprintf(mqtt->client_id, sizeof mqtt->client_id, STR_FMT, STR_ARG(c->client_id));
    mqtt->n_connects++;
    mqtt->n_sent = mqtt->next_id = 0;
}

void mqtt_disconnect(struct mqtt *mqtt, uint8_t code)
{
    (void)code;
    mqtt->n_disconnects++;
    if (mqtt->is_busy && !mqtt->is_disconnecting) {
        mqtt->is_disconnecting = true;
        timer_start(&mqtt->closing, 0);
    }
}

uint8_t mqtt_refusal(const struct mqtt *mqtt)
{
    return mqtt->refusal;
}

const char *mqtt_reason_text(enum mqtt_version version, bool is_connack, uint8_t code)
{
    (void)version, (void)is_connack, (void)code;
    return "a reason";
}

unsigned mqtt_window(const struct mqtt *mqtt)
{
    return mqtt->is_up && !mqtt->is_disconnecting ? 64 - mqtt->n_sent : 0;
}

enum err mqtt_publish(struct mqtt *mqtt, struct str topic, const struct iovec *payload, int n_payload, uint8_t qos,
                      unsigned flags, uint16_t *packet_id)
{
    struct publication *sent = &mqtt->sent[mqtt->n_sent];

    assert_int_equal(n_payload, 1);
    if (!mqtt->is_up)
        return ERR_CLOSED;
    assert_true(mqtt->n_sent < COUNT_OF(mqtt->sent));
    mqtt->n_sent++;
    snprintf(sent->topic, sizeof sent->topic, STR_FMT, STR_ARG(topic));
    snprintf(sent->payload, sizeof sent->payload, "%.*s", (int)payload->iov_len, (char *)payload->iov_base);
    sent->qos = qos;
    sent->flags = flags;
    sent->id = *packet_id = ++mqtt->next_id;
    return ERR_OK;
}

uint64_t mqtt_queued(const struct mqtt *mqtt)
{
    (void)mqtt;
    return 0;
}

uint64_t mqtt_sent(const struct mqtt *mqtt)
{
    (void)mqtt;
    return 0;
}

uint64_t mqtt_last_in_ms(const struct mqtt *mqtt)
{
    (void)mqtt;
    return 0;
}

enum err mqtt_subscribe(struct mqtt *mqtt, const struct mqtt_filter *filters, size_t n, uint16_t *packet_id)
{
    memcpy(mqtt->filters, filters, n * sizeof *filters);
    mqtt->n_filters = n;
    mqtt->n_subscribes++;
    *packet_id = (uint16_t)(1000 + mqtt->n_subscribes);
    return ERR_OK;
}

void mqtt_ack(struct mqtt *mqtt, uint8_t qos, uint16_t packet_id, uint8_t code)
{
    (void)packet_id;
    assert_int_equal(code, 0);
    mqtt->n_acks += qos ? 1 : 0;
}

/* --- the server's hand ------------------------------------------------------------------------------------------------------ */

static uint8_t max_qos = 1;

static void accept_connect(void)
{
    struct mqtt_connack connack = {.receive_maximum = 65535, .max_qos = max_qos};

    assert_true(client->is_busy);
    client->is_up = true;
    client->events.connected(client->arg, &connack);
    loop_advance(loop, 0);
}

static void hang_up(enum err err, uint8_t code)
{
    struct why why = {.err = err};

    snprintf(why.text, sizeof why.text, "closed (%u)", code);
    client->is_busy = client->is_up = false;
    client->refusal = code;
    client->events.closed(client->arg, err, &why);
    loop_advance(loop, 0);
}

static void send_down(const char *topic, const char *payload)
{
    struct mqtt_message message = {.topic = str_from(topic),
                                   .payload = (const uint8_t *)payload,
                                   .payload_n = strlen(payload),
                                   .qos = 1,
                                   .packet_id = 9};
    unsigned before = client->n_acks;

    client->events.message(client->arg, &message);
    assert_int_equal(client->n_acks, before + 1);
    loop_advance(loop, 0);
}

static void answer_all(void)
{
    for (unsigned i = 0; i < client->n_sent; i++)
        client->events.acked(client->arg, client->sent[i].id, 0);
    loop_advance(loop, 0);
}

static const struct publication *last_on(const char *topic)
{
    for (unsigned i = client->n_sent; i-- > 0;)
        if (strcmp(client->sent[i].topic, topic) == 0)
            return &client->sent[i];
    return NULL;
}

/* --- set-up ------------------------------------------------------------------------------------------------------------------- */

static void on_state(void *arg, enum uplink_state state)
{
    (void)arg;
    seen[n_seen++ % COUNT_OF(seen)] = state;
}

static void on_limits(void *arg, size_t max_record_bytes, unsigned max_record_values)
{
    (void)arg;
    told_bytes = max_record_bytes;
    told_values = max_record_values;
}

/* What a gateway would say to it: the same to everything. */
static void on_message(void *arg, struct str topic, struct str payload)
{
    char reply[80];

    (void)arg;
    n_messages++;
    if (str_starts(topic, STR("v1/devices/me/rpc/request/"))) {
        snprintf(reply, sizeof reply, "v1/devices/me/rpc/response/" STR_FMT, STR_ARG(str_skip(topic, 26)));
        (void)uplink_send(uplink, LIMIT_OWN_MESSAGES, str_from(reply), STR("{\"code\":200,\"resp\":\"pong\"}"), 1);
    } else if (str_eq_z(topic, "v1/gateway/rpc") && payload.n && payload.p[0] == '{') {
        (void)uplink_send(uplink, LIMIT_DEVICE_MESSAGES, topic, STR("{\"device\":\"A\",\"id\":5,\"data\":1}"), 1);
    }
}

static void on_readable(void *arg)
{
    (void)arg;
    uplink_readable(uplink);
}

static void on_answer(struct batch *batch)
{
    mem_free(batch);
}

static void open_all(void)
{
    static const struct uplink_events events = {.state = on_state, .limits = on_limits, .message = on_message};
    static const struct store_events store_events = {.readable = on_readable};
    struct memory_conf memory = {.max_events = 1000};

    for (uint32_t i = 0; i < device_count(); i++)
        device_at(i)->announced = 0;
    snprintf(rejected_path, sizeof rejected_path, "/tmp/iotgw-rejected-%d.jsonl", (int)getpid());
    conf = (struct uplink_conf){.qos = 1,
                                .max_payload_bytes = 8196,
                                .min_pack_delay_ms = 50,
                                .min_pack_values = 500,
                                .max_pack_events = 100,
                                .batch_devices = true,
                                .rate_percent = 80,
                                .rejected_path = rejected_path};
    conf.mqtt.version = MQTT_5;
    conf.mqtt.keep_alive_s = 120;
    conf.mqtt.stream.host = "platform.example";
    log_init(&test_log, "connection", LOG_LEVEL_OFF);
    store_answer_fn = on_answer;
    n_seen = 0;
    is_stopped = false;
    loop = loop_new_fake(1700000000000);
    store = store_memory_new(loop, &memory, &store_events, NULL);
    uplink = uplink_new(loop, &test_log, &conf, &events, NULL);
    uplink_attach(uplink, store);
    uplink_start(uplink);
    loop_advance(loop, 0);
    assert_int_equal(client->n_connects, 1);
}

static void note_stopped(void *arg)
{
    (void)arg;
    is_stopped = true;
}

static void close_all(void)
{
    if (!is_stopped) {
        uplink_stop(uplink, 0, note_stopped, NULL);
        for (unsigned i = 0; i < 500 && !is_stopped; i++) {
            loop_advance(loop, 10);
            if (client->is_up)
                answer_all();
        }
    }
    assert_true(is_stopped);
    uplink_free(uplink);
    store_free(store);
    loop_free(loop);
    log_fini(&test_log);
    unlink(rejected_path);
    assert_int_equal(slab_in_use(), 0);
}

static void push(const char *device, const char *body)
{
    struct device *dev = device_get(str_from(device));
    struct batch *batch = mem_zero(sizeof *batch);
    size_t n = strlen(body);

    batch->bytes = slab_get();
    batch->cap = SLAB_SIZE;
    batch->can_wait = true;
    batch->n_events = batch->n_values = 1;
    batch->n_bytes = (uint32_t)record_size(dev->name_n, 0, n);
    struct record *record = (struct record *)(void *)batch->bytes;

    *record = (struct record){.ts = 1,
                              .dev = dev->number,
                              .n_values = 1,
                              .flags = RECORD_END,
                              .kind = RECORD_TELEMETRY,
                              .name_n = dev->name_n};
    memcpy(record + 1, dev->name, dev->name_n);
    memcpy((char *)(record + 1) + dev->name_n, body, n);
    record_seal(record, n);
    store_append(store, batch);
    loop_advance(loop, 0);
}

#define LIMITS_TOPIC "v1/devices/me/rpc/response/1"
#define GATEWAY_LIMITS                                                                                                 \
    "{\"maxPayloadSize\":65536,\"maxInflightMessages\":50,\"rateLimits\":{\"messages\":null},"                         \
    "\"gatewayRateLimits\":{\"messages\":null,\"telemetryMessages\":\"100:1\",\"telemetryDataPoints\":\"500:1\"}}"

/* --- the sequence of a session -------------------------------------------------------------------------------------------------- */

static void test_a_session_subscribes_asks_for_limits_and_then_is_ready(void **state)
{
    (void)state;
    open_all();
    assert_int_equal(client->conf.version, MQTT_5);
    assert_true(client->conf.clean_start);
    assert_int_equal(client->conf.ack_timeout_ms, 10000);
    push("S1", "\"t\":1"); /* stored before there is a connection */
    accept_connect();
    assert_int_equal(client->n_subscribes, 1);
    assert_int_equal(client->n_filters, 7);
    for (unsigned i = 0; i < 7; i++)
        assert_true(client->filters[i].no_local);
    assert_true(str_eq_z(client->filters[0].filter, "v1/devices/me/attributes"));
    assert_true(str_eq_z(client->filters[6].filter, "v1/gateway/rpc"));
    assert_int_equal(client->n_sent, 1);
    assert_string_equal(client->sent[0].topic, "v1/devices/me/rpc/request/1");
    assert_string_equal(client->sent[0].payload, "{\"method\":\"getSessionLimits\",\"params\":{\"timeout\":5000}}");
    assert_int_equal(uplink_status(uplink).state, UPLINK_NEGOTIATING);
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    struct uplink_status status = uplink_status(uplink);

    assert_int_equal(status.state, UPLINK_READY);
    assert_int_equal(status.payload_limit, 65536 / 10 * 9);
    assert_int_equal(status.window, 50);
    assert_int_equal(told_values, 400);
    assert_true(told_bytes < status.payload_limit && told_bytes > status.payload_limit - 1000);
    assert_string_equal(client->sent[1].topic, "v1/gateway/connect");
    assert_string_equal(client->sent[2].topic, "v1/gateway/telemetry");
    assert_string_equal(client->sent[2].payload, "{\"S1\":[{\"ts\":1,\"values\":{\"t\":1}}]}");
    answer_all();
    assert_int_equal(uplink_status(uplink).n_values, 1);
    assert_int_equal(store_stats(store).n_events, 0);
    close_all();
    static const enum uplink_state want[] = {UPLINK_CONNECTING, UPLINK_NEGOTIATING, UPLINK_READY, UPLINK_DOWN};

    assert_int_equal(n_seen, 4);
    assert_memory_equal(seen, want, sizeof want);
}

static void test_without_an_answer_the_session_is_ready_after_five_seconds(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    loop_advance(loop, 4900);
    assert_int_equal(uplink_status(uplink).state, UPLINK_NEGOTIATING);
    loop_advance(loop, 200);
    assert_int_equal(uplink_status(uplink).state, UPLINK_READY);
    assert_int_equal(uplink_status(uplink).payload_limit, 8196);
    assert_int_equal(told_values, 0);
    loop_advance(loop, 10 * 60 * 1000 + 2000); /* asked again */
    assert_non_null(last_on("v1/devices/me/rpc/request/2"));
    send_down("v1/devices/me/rpc/response/2", GATEWAY_LIMITS);
    assert_int_equal(uplink_status(uplink).payload_limit, 65536 / 10 * 9);
    close_all();
}

static void test_an_error_instead_of_limits_keeps_the_configured_ones(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"error\":\"no\"}");
    assert_int_equal(uplink_status(uplink).state, UPLINK_READY);
    assert_int_equal(uplink_status(uplink).payload_limit, 8196);
    close_all();
}

static void test_garbage_instead_of_limits_does_no_harm(void **state)
{
    static const char *const garbage[] = {"",
                                          "{",
                                          "5",
                                          "[]",
                                          "null",
                                          "{\"maxPayloadSize\":-1,\"maxInflightMessages\":\"x\"}",
                                          "{\"rateLimits\":5,\"gatewayRateLimits\":{\"telemetryMessages\":\"a:b\"}}",
                                          "{\"gatewayRateLimits\":{\"messages\":{\"x\":1},\"telemetryMessages\":15}}",
                                          "{\"maxPayloadSize\":1,\"gatewayRateLimits\":{}}",
                                          "{\"maxPayloadSize\":99999999999999999999}"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(garbage); i++) {
        open_all();
        accept_connect();
        send_down(LIMITS_TOPIC, garbage[i]);
        assert_int_equal(uplink_status(uplink).state, UPLINK_READY);
        assert_true(uplink_status(uplink).payload_limit >= 1 && uplink_status(uplink).window >= 1);
        close_all();
    }
}

static void test_a_payload_limit_that_nothing_fits_in_is_not_believed(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"maxPayloadSize\":1,\"gatewayRateLimits\":{}}");
    assert_int_equal(uplink_status(uplink).payload_limit, 8196);
    close_all();
}

static void test_a_platform_that_takes_qos_0_only_gets_qos_0(void **state)
{
    (void)state;
    open_all();
    max_qos = 0;
    accept_connect();
    max_qos = 1;
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    push("S0", "\"t\":1");
    assert_int_equal(last_on("v1/devices/me/rpc/request/1")->qos, 0);
    assert_int_equal(last_on("v1/gateway/telemetry")->qos, 0);
    send_down("v1/devices/me/rpc/request/11", "{\"method\":\"gateway_ping\"}");
    assert_int_equal(last_on("v1/devices/me/rpc/response/11")->qos, 0);
    close_all();
}

static void test_a_refused_subscription_is_tried_again_after_ten_seconds(void **state)
{
    static const uint8_t codes[] = {0, 0, 0x8f, 0, 0, 0, 0x80};

    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    client->events.subscribed(client->arg, 1001, codes, 7);
    loop_advance(loop, 9000);
    assert_int_equal(client->n_subscribes, 1);
    loop_advance(loop, 2100);
    assert_int_equal(client->n_subscribes, 2);
    assert_int_equal(client->n_filters, 2);
    assert_true(str_eq_z(client->filters[1].filter, "v1/gateway/rpc"));
    close_all();
}

/* --- losing and refusing ------------------------------------------------------------------------------------------------------ */

static void test_a_lost_connection_is_made_again_soon(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    hang_up(ERR_CLOSED, 0);
    assert_int_equal(uplink_status(uplink).state, UPLINK_DOWN);
    loop_advance(loop, 700);
    assert_int_equal(client->n_connects, 2);
    assert_int_equal(uplink_status(uplink).n_reconnects, 1);
    accept_connect();
    assert_string_equal(client->sent[0].topic, "v1/devices/me/rpc/request/1"); /* counted from 1 in each session */
    close_all();
}

static void test_wrong_credentials_are_tried_once_a_minute(void **state)
{
    (void)state;
    open_all();
    hang_up(ERR_AUTH, 0x86);
    assert_int_equal(uplink_status(uplink).state, UPLINK_REFUSED);
    assert_non_null(strstr(uplink_status(uplink).reason, "closed (134)"));
    loop_advance(loop, 45000);
    assert_int_equal(client->n_connects, 1);
    loop_advance(loop, 30000);
    assert_int_equal(client->n_connects, 2);
    close_all();
}

static void test_a_quota_at_login_waits_longer_each_time(void **state)
{
    uint64_t last = 0;

    (void)state;
    open_all();
    for (unsigned i = 1; i <= 3; i++) {
        uint64_t start = loop_mono_ms(loop);

        hang_up(ERR_QUOTA, 0x9f);
        while (client->n_connects == i && loop_mono_ms(loop) - start < 200000)
            loop_advance(loop, 100);
        uint64_t pause = loop_mono_ms(loop) - start;

        assert_in_range(pause, 5000, 120000);
        assert_true(pause > last);
        last = pause;
    }
    close_all();
}

static unsigned count_sent(const char *part)
{
    unsigned n = 0;

    for (unsigned i = 0; i < client->n_sent; i++)
        n += strstr(client->sent[i].payload, part) != NULL;
    return n;
}

static void test_limits_are_asked_for_again_every_ten_minutes(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    assert_int_equal(count_sent("getSessionLimits"), 1);
    loop_advance(loop, 9 * 60 * 1000);
    assert_int_equal(count_sent("getSessionLimits"), 1);
    loop_advance(loop, 62 * 1000);
    assert_int_equal(count_sent("getSessionLimits"), 2);
    assert_string_equal(client->sent[client->n_sent - 1].topic, "v1/devices/me/rpc/request/2");
    send_down("v1/devices/me/rpc/response/2", "{\"maxInflightMessages\":7,\"rateLimits\":{},\"gatewayRateLimits\":{}}");
    assert_int_equal(uplink_status(uplink).window, 7);
    close_all();
}

static void test_a_quota_has_the_limits_asked_for_again_and_the_message_goes_back(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    push("pump", "\"a\":1");
    loop_advance(loop, 10);
    struct publication *data = &client->sent[client->n_sent - 1];

    assert_string_equal(data->topic, "v1/gateway/telemetry");
    client->events.acked(client->arg, data->id, 0x97);
    loop_advance(loop, 0);
    assert_int_equal(count_sent("getSessionLimits"), 2);
    hang_up(ERR_CLOSED, 0);
    for (unsigned i = 0; i < 100 && client->n_connects < 2; i++)
        loop_advance(loop, 100);
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    loop_advance(loop, 3000);
    assert_string_equal(client->sent[client->n_sent - 1].topic,
                        "v1/gateway/telemetry"); /* it went back and leaves again */
    close_all();
}

static bool own_telemetry(const char *json)
{
    return uplink_send(uplink, LIMIT_OWN, STR("v1/devices/me/telemetry"), str_from(json), 1);
}

static void test_a_close_at_an_own_message_empties_the_buckets_of_own_messages(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"telemetryMessages\":\"10:10\"},\"gatewayRateLimits\":{}}");
    answer_all();
    assert_true(own_telemetry("[{\"a\":1}]"));
    hang_up(ERR_CLOSED, 0x83);
    loop_advance(loop, 600);
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"telemetryMessages\":\"10:10\"},\"gatewayRateLimits\":{}}");
    assert_true(own_telemetry("[{\"b\":1}]"));
    assert_int_equal(count_sent("\"b\""), 0);
    loop_advance(loop, 3000);
    assert_int_equal(count_sent("\"b\""), 1);
    close_all();
}

static void test_a_server_without_version_5_gets_3_1_1_with_a_generated_id(void **state)
{
    (void)state;
    open_all();
    assert_string_equal(client->client_id, "");
    hang_up(ERR_UNSUPPORTED, 0x84);
    assert_int_equal(client->n_connects, 2);
    assert_int_equal(client->conf.version, MQTT_311);
    assert_true(strlen(client->client_id) > 8);
    accept_connect();
    assert_false(client->filters[0].no_local);
    hang_up(ERR_CLOSED, 0);
    loop_advance(loop, 1000);
    assert_int_equal(client->conf.version, MQTT_311); /* remembered */
    close_all();
}

static void test_closed_twice_before_connack_tries_the_other_version_in_turn(void **state)
{
    static const enum mqtt_version want[] = {MQTT_5, MQTT_5, MQTT_311, MQTT_311, MQTT_5};

    (void)state;
    open_all();
    for (unsigned i = 0; i < COUNT_OF(want); i++) {
        assert_int_equal(client->conf.version, want[i]);
        hang_up(ERR_CLOSED, 0);
        loop_advance(loop, 5000);
        assert_int_equal(client->n_connects, i + 2);
    }
    close_all();
}

static void test_a_device_that_is_no_gateway_is_said_so_and_tried_once_a_minute(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"maxPayloadSize\":65536,\"rateLimits\":{\"messages\":null}}");
    assert_int_equal(client->n_disconnects, 1);
    assert_int_equal(uplink_status(uplink).state, UPLINK_REFUSED);
    assert_non_null(strstr(uplink_status(uplink).reason, "Is gateway"));
    loop_advance(loop, 45000);
    assert_int_equal(client->n_connects, 1);
    loop_advance(loop, 30000);
    assert_int_equal(client->n_connects, 2);
    close_all();
}

static void test_taken_over_three_times_is_two_gateways_with_one_token(void **state)
{
    (void)state;
    open_all();
    for (unsigned i = 1; i <= 3; i++) {
        accept_connect();
        send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
        hang_up(ERR_CLOSED, 0x8E);
        if (i < 3) {
            loop_advance(loop, 3000);
            assert_int_equal(client->n_connects, i + 1);
        }
    }
    assert_non_null(strstr(uplink_status(uplink).reason, "share a token"));
    loop_advance(loop, 4900);
    assert_int_equal(client->n_connects, 3);
    close_all();
}

/* --- what comes down ------------------------------------------------------------------------------------------------------------ */

static void test_what_the_platform_sends_goes_up_whatever_it_is(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    n_messages = 0;
    send_down("v1/devices/me/rpc/request/11", "{\"method\":\"gateway_ping\",\"params\":\"{}\"}");
    assert_string_equal(last_on("v1/devices/me/rpc/response/11")->payload, "{\"code\":200,\"resp\":\"pong\"}");
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS); /* the session's own */
    assert_int_equal(n_messages, 1);
    send_down("v1/gateway/rpc", "{\"device\":\"A\"}");
    assert_string_equal(last_on("v1/gateway/rpc")->payload, "{\"device\":\"A\",\"id\":5,\"data\":1}");
    unsigned n = client->n_sent;

    send_down("v1/gateway/rpc", "nonsense");
    send_down("v1/gateway/rpc", "");
    send_down("v1/devices/me/rpc/response/77", "{}");
    send_down("v1/gateway/attributes", "{\"device\":\"A\",\"data\":{}}");
    assert_int_equal(n_messages, 6);
    send_down("v1/gateway/disconnect", "{\"device\":\"A\",\"reason\":150}"); /* tolerated */
    assert_int_equal(n_messages, 6);
    assert_int_equal(client->n_sent, n);
    close_all();
}

static void test_a_device_session_ended_by_a_rate_limit_counts_as_an_exceeded_limit(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"rateLimits\":{},\"gatewayRateLimits\":{\"messages\":\"10:10\"}}");
    send_down("v1/gateway/disconnect", "{\"device\":\"A\",\"reason\":1}");
    send_down("v1/gateway/disconnect", "{\"device\":\"A\"}");
    send_down("v1/gateway/disconnect", "nonsense");
    send_down("v1/gateway/disconnect", "[150]");
    unsigned n = client->n_sent;

    assert_true(uplink_send(uplink, LIMIT_DEVICE_MESSAGES, STR("t"), STR("1"), 1));
    assert_int_equal(client->n_sent, n + 1);
    send_down("v1/gateway/disconnect", "{\"device\":\"A\",\"reason\":150}");
    send_down("v1/gateway/disconnect", "{\"device\":\"B\",\"reason\":150}"); /* the same limit */
    assert_true(uplink_send(uplink, LIMIT_DEVICE_MESSAGES, STR("t"), STR("2"), 1));
    assert_int_equal(client->n_sent, n + 1); /* the bucket is empty */
    loop_advance(loop, 1300);                /* 8 in 10 s: a token comes each 1.25 s */
    assert_int_equal(client->n_sent, n + 2);
    close_all();
}

static void test_nothing_is_sent_without_a_session_and_what_waits_goes_with_it(void **state)
{
    (void)state;
    open_all();
    assert_false(uplink_send(uplink, LIMIT_OWN_MESSAGES, STR("t"), STR("1"), 1));
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"messages\":\"5:60\"},\"gatewayRateLimits\":{}}");
    unsigned n = client->n_sent;

    for (unsigned i = 0; i < 4; i++)
        assert_true(uplink_send(uplink, LIMIT_OWN_MESSAGES, STR("t"), STR("1"), 1));
    assert_int_equal(client->n_sent, n + 4);
    for (unsigned i = 0; i < 1024; i++)
        assert_true(uplink_send(uplink, LIMIT_OWN_MESSAGES, STR("t"), STR("1"), 1));
    assert_false(uplink_send(uplink, LIMIT_OWN_MESSAGES, STR("t"), STR("1"), 1));
    assert_int_equal(client->n_sent, n + 4);
    hang_up(ERR_CLOSED, 0);
    loop_advance(loop, 60000);
    accept_connect();
    assert_null(last_on("t"));
    close_all();
}

static void test_with_3_1_1_what_comes_back_from_a_plain_broker_is_dropped(void **state)
{
    (void)state;
    open_all();
    hang_up(ERR_UNSUPPORTED, 0x84);
    accept_connect();
    assert_int_equal(client->n_sent, 1);
    send_down(client->sent[0].topic, client->sent[0].payload);
    assert_int_equal(client->n_sent, 1); /* not answered */
    assert_int_equal(uplink_status(uplink).state, UPLINK_NEGOTIATING);
    send_down("v1/devices/me/rpc/request/5", "{\"method\":\"gateway_ping\"}");
    assert_int_equal(client->n_sent, 2);
    send_down("v1/devices/me/rpc/request/5", "{\"method\":\"gateway_ping\"}"); /* the platform's own repeat */
    assert_int_equal(client->n_sent, 3);
    close_all();
}

static void test_data_of_the_gateway_itself_is_sent_when_ready_and_else_dropped(void **state)
{
    (void)state;
    open_all();
    assert_false(own_telemetry("[{\"a\":1}]"));
    accept_connect();
    assert_false(own_telemetry("[{\"a\":1}]"));
    assert_null(last_on("v1/devices/me/telemetry"));
    send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"telemetryDataPoints\":\"10:60\"},\"gatewayRateLimits\":{}}");
    assert_true(own_telemetry("[{\"a\":1}]"));
    assert_string_equal(last_on("v1/devices/me/telemetry")->payload, "[{\"a\":1}]");
    unsigned n = client->n_sent;

    assert_true(
        own_telemetry("[{\"ts\":1,\"values\":{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8}}]"));
    assert_int_equal(client->n_sent, n); /* 8 of 10 tokens, 1 taken */
    loop_advance(loop, 8000);
    assert_int_equal(client->n_sent, n + 1);
    close_all();
}

static void test_own_messages_are_charged_and_replies_wait_for_tokens(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"messages\":\"10:8\"},\"gatewayRateLimits\":{\"messages\":\"10:8\"}}");
    for (unsigned i = 0; i < 6; i++) { /* 8 tokens, two for each: the request and its reply */
        send_down("v1/devices/me/rpc/request/1", "{\"method\":\"gateway_ping\"}");
        send_down("v1/gateway/rpc", "{\"device\":\"A\",\"data\":{\"id\":5,\"method\":\"m\"}}");
    }
    assert_int_equal(client->n_sent, 1 + 4 + 4);
    loop_advance(loop, 1100);
    assert_int_equal(client->n_sent, 1 + 5 + 5);
    loop_advance(loop, 1100);
    assert_int_equal(client->n_sent, 1 + 6 + 6);
    hang_up(ERR_CLOSED, 0); /* 1 of the login and 2 of the subscriptions, of 2 that have come meanwhile */
    loop_advance(loop, 2000);
    accept_connect();
    unsigned n = client->n_sent;

    send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"messages\":\"10:8\"},\"gatewayRateLimits\":{\"messages\":\"10:8\"}}");
    send_down("v1/devices/me/rpc/request/1", "{\"method\":\"gateway_ping\"}");
    assert_int_equal(client->n_sent, n);
    loop_advance(loop, 1100);
    assert_int_equal(client->n_sent, n + 1);
    close_all();
}

static void test_limits_that_are_told_no_more_give_way_to_the_configured_ones(void **state)
{
    static const char *const silent[] = {"{\"maxPayloadSize\":65536}", "{\"gatewayRateLimits\":{}}", "{\"error\":1}"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(silent); i++) {
        open_all();
        accept_connect();
        send_down(LIMITS_TOPIC, "{\"rateLimits\":{\"telemetryMessages\":\"5:60\"},\"gatewayRateLimits\":{}}");
        assert_int_equal(uplink_status(uplink).window, 4);
        hang_up(ERR_CLOSED, 0);
        loop_advance(loop, 1000);
        accept_connect();
        send_down(LIMITS_TOPIC, silent[i]);
        assert_int_equal(uplink_status(uplink).state, UPLINK_READY);
        assert_int_equal(uplink_status(uplink).window, 100);
        close_all();
    }
}

static void test_what_is_sent_again_in_a_new_session_is_no_duplicate_to_the_server(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    push("S1", "\"t\":1");
    assert_non_null(last_on("v1/gateway/telemetry"));
    hang_up(ERR_CLOSED, 0x8B);
    loop_advance(loop, 3000);
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    loop_advance(loop, 3000);
    answer_all(); /* the device flies alone after such a close, then come its data */
    answer_all();
    assert_non_null(last_on("v1/gateway/telemetry"));
    assert_int_equal(last_on("v1/gateway/telemetry")->flags, 0);
    assert_true(uplink_status(uplink).n_resent > 0);
    close_all();
}

/* --- stopping --------------------------------------------------------------------------------------------------------------------- */

static void test_stopping_delivers_what_waits_disconnects_devices_and_then_itself(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    push("S1", "\"t\":1");
    push("S2", "\"t\":2"); /* waits for company */
    uplink_stop(uplink, 5000, note_stopped, NULL);
    for (unsigned i = 0; i < 100 && !is_stopped; i++) {
        assert_true(client->is_up);
        answer_all();
        loop_advance(loop, 10);
    }
    assert_true(is_stopped);
    assert_int_equal(store_stats(store).n_events, 0);
    assert_int_equal(client->n_disconnects, 1);
    assert_string_equal(last_on("v1/gateway/disconnect")->payload, "{\"device\":\"S2\"}");
    close_all();
}

static void test_stopping_ends_in_time_when_nobody_answers(void **state)
{
    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    push("S1", "\"t\":1");
    uplink_stop(uplink, 1000, note_stopped, NULL);
    loop_advance(loop, 4500);
    assert_true(is_stopped);
    close_all();
}

static void test_stopping_without_a_connection_is_quick(void **state)
{
    (void)state;
    open_all();
    hang_up(ERR_UNREACHABLE, 0);
    push("S1", "\"t\":1");
    uplink_stop(uplink, 5000, note_stopped, NULL);
    loop_advance(loop, 50);
    assert_true(is_stopped);
    close_all();
}

static void test_what_is_rejected_is_in_the_file_when_stopped(void **state)
{
    char text[1000] = "";
    FILE *file;

    (void)state;
    open_all();
    accept_connect();
    send_down(LIMITS_TOPIC, GATEWAY_LIMITS);
    push("S1", "\"t\":1");
    const struct publication *data = last_on("v1/gateway/telemetry");

    assert_non_null(data);
    client->events.acked(client->arg, data->id, 0x99);
    loop_advance(loop, 0);
    assert_int_equal(uplink_status(uplink).n_rejected_values, 1);
    uplink_stop(uplink, 0, note_stopped, NULL);
    for (unsigned i = 0; i < 100 && !is_stopped; i++) {
        answer_all();
        loop_advance(loop, 10);
    }
    file = fopen(rejected_path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "\"code\":153"));
    assert_non_null(strstr(text, "\"payload\":{\"S1\":[{\"ts\":1,\"values\":{\"t\":1}}]}}\n"));
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_session_subscribes_asks_for_limits_and_then_is_ready),
        cmocka_unit_test(test_without_an_answer_the_session_is_ready_after_five_seconds),
        cmocka_unit_test(test_an_error_instead_of_limits_keeps_the_configured_ones),
        cmocka_unit_test(test_garbage_instead_of_limits_does_no_harm),
        cmocka_unit_test(test_a_payload_limit_that_nothing_fits_in_is_not_believed),
        cmocka_unit_test(test_a_platform_that_takes_qos_0_only_gets_qos_0),
        cmocka_unit_test(test_a_refused_subscription_is_tried_again_after_ten_seconds),
        cmocka_unit_test(test_a_lost_connection_is_made_again_soon),
        cmocka_unit_test(test_wrong_credentials_are_tried_once_a_minute),
        cmocka_unit_test(test_a_quota_at_login_waits_longer_each_time),
        cmocka_unit_test(test_limits_are_asked_for_again_every_ten_minutes),
        cmocka_unit_test(test_a_quota_has_the_limits_asked_for_again_and_the_message_goes_back),
        cmocka_unit_test(test_a_close_at_an_own_message_empties_the_buckets_of_own_messages),
        cmocka_unit_test(test_a_server_without_version_5_gets_3_1_1_with_a_generated_id),
        cmocka_unit_test(test_closed_twice_before_connack_tries_the_other_version_in_turn),
        cmocka_unit_test(test_a_device_that_is_no_gateway_is_said_so_and_tried_once_a_minute),
        cmocka_unit_test(test_taken_over_three_times_is_two_gateways_with_one_token),
        cmocka_unit_test(test_what_the_platform_sends_goes_up_whatever_it_is),
        cmocka_unit_test(test_a_device_session_ended_by_a_rate_limit_counts_as_an_exceeded_limit),
        cmocka_unit_test(test_nothing_is_sent_without_a_session_and_what_waits_goes_with_it),
        cmocka_unit_test(test_with_3_1_1_what_comes_back_from_a_plain_broker_is_dropped),
        cmocka_unit_test(test_data_of_the_gateway_itself_is_sent_when_ready_and_else_dropped),
        cmocka_unit_test(test_own_messages_are_charged_and_replies_wait_for_tokens),
        cmocka_unit_test(test_limits_that_are_told_no_more_give_way_to_the_configured_ones),
        cmocka_unit_test(test_what_is_sent_again_in_a_new_session_is_no_duplicate_to_the_server),
        cmocka_unit_test(test_stopping_delivers_what_waits_disconnects_devices_and_then_itself),
        cmocka_unit_test(test_stopping_ends_in_time_when_nobody_answers),
        cmocka_unit_test(test_stopping_without_a_connection_is_quick),
        cmocka_unit_test(test_what_is_rejected_is_in_the_file_when_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
