/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/slab.h"
#include "conf/conf.h"
#include "connector/ctx.h"
#include "mqtt/packet.h"
#include "mqtt_convert.h"

#include <stdio.h>

/*
 * The connector against a broker that does as it is told, and a store that answers when it is told to; all three on one
 * loop. A test is a script: wait for a condition, act, wait for the next.
 */
extern const struct connector_type iotgw_module;

enum { TICK_MS = 1, LIMIT_MS = 20000, MAX_ACKS = 64 };

struct peer {
    struct listener *listener;
    struct stream *stream;
    uint8_t connack, suback;
    bool session_present;
    unsigned n_connects, n_subscribes, n_filters, n_disconnects, n_acks;
    uint16_t acks[MAX_ACKS];
    uint8_t subscribed_qos;
    struct mqtt_connect_packet connect;
    char client_id[64], username[32];
};

struct test;
struct step {
    const char *what;
    bool (*ready)(struct test *t); /* NULL: at once */
    void (*act)(struct test *t);   /* NULL: nothing */
};

struct test {
    struct loop *loop;
    struct timer tick;
    unsigned n_ticks, n_waited;
    const struct step *step;

    struct peer peer;
    struct store store;
    struct node *first, **last;
    unsigned n_batches, n_events;
    struct buf bytes;

    struct ctx_host host;
    struct conf *conf;
    struct problems problems;
    struct ctx *ctx;
    void *self;
    bool is_quiet, is_stopped;
};

/* --- broker ------------------------------------------------------------------------------------------------------------- */

static void send_buf(struct peer *peer, struct buf *buf)
{
    stream_write(peer->stream, buf->p, buf->n, true);
    buf_fini(buf);
}

static void answer_connect(struct peer *peer, struct str body)
{
    struct buf buf = {0};

    assert_int_equal(mqtt_read_connect(&peer->connect, body, NULL), ERR_OK);
    snprintf(peer->client_id, sizeof peer->client_id, "%.*s", STR_ARG(peer->connect.client_id));
    snprintf(peer->username, sizeof peer->username, "%.*s", STR_ARG(peer->connect.username));
    peer->n_connects++;
    mqtt_put_connack(&buf, MQTT_5, peer->session_present, peer->connack, 0, 0, STR_NONE);
    send_buf(peer, &buf);
}

static void answer_subscribe(struct peer *peer, struct str body)
{
    struct mqtt_subscribe_reader reader;
    struct mqtt_filter filter;
    struct buf buf = {0};
    uint8_t codes[16];
    unsigned n = 0;

    assert_int_equal(mqtt_read_subscribe(&reader, MQTT_5, false, body), ERR_OK);
    while (mqtt_next_filter(&reader, &filter)) {
        peer->subscribed_qos = filter.qos;
        codes[n++] = peer->suback ? peer->suback : filter.qos;
    }
    peer->n_subscribes++;
    peer->n_filters = n;
    mqtt_put_suback(&buf, MQTT_5, false, reader.packet_id, codes, n);
    send_buf(peer, &buf);
}

static void take_packet(struct peer *peer, uint8_t first, struct str body)
{
    struct mqtt_ack_packet ack;

    switch ((enum mqtt_type)(first >> 4)) {
    case MQTT_CONNECT:
        answer_connect(peer, body);
        break;
    case MQTT_SUBSCRIBE:
        answer_subscribe(peer, body);
        break;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
        assert_int_equal(mqtt_read_ack(&ack, MQTT_5, body, NULL), ERR_OK);
        assert_true(peer->n_acks < MAX_ACKS);
        peer->acks[peer->n_acks++] = ack.packet_id;
        break;
    case MQTT_DISCONNECT:
        peer->n_disconnects++;
        break;
    default:
        fail_msg("packet of type %u", first >> 4);
    }
}

static size_t peer_read(void *arg, uint8_t *p, size_t n)
{
    size_t used = 0, header_n, length;

    while ((length = mqtt_packet_length(p + used, n - used, &header_n)) != 0) {
        assert_true(length != SIZE_MAX);
        if (length > n - used)
            break;
        take_packet(arg, p[used], str_of(p + used + header_n, length - header_n));
        used += length;
    }
    return used;
}

static void peer_closed(void *arg, enum err err, const struct why *why)
{
    struct peer *peer = arg;

    (void)err;
    (void)why;
    stream_free(peer->stream);
    peer->stream = NULL;
}

static void peer_open(void *arg)
{
    (void)arg;
}

static void accepted(void *arg, struct stream *stream)
{
    static const struct stream_events events = {.open = peer_open, .read = peer_read, .closed = peer_closed};
    struct peer *peer = arg;

    assert_null(peer->stream);
    peer->stream = stream;
    stream_accept(stream, &events, peer);
}

static void publish(struct test *t, const char *topic, const char *payload, uint8_t qos, uint16_t packet_id)
{
    struct buf buf = {0};

    mqtt_put_publish_head(&buf, MQTT_5, str_from(topic), strlen(payload), qos, 0, packet_id);
    buf_add_z(&buf, payload);
    send_buf(&t->peer, &buf);
}

/* --- store -------------------------------------------------------------------------------------------------------------- */

static void fake_append(struct store *store, struct batch *batch)
{
    struct test *t = CONTAINER_OF(store, struct test, store);

    buf_add(&t->bytes, batch->bytes, batch->n_bytes);
    t->n_events += batch->n_events;
    batch_drop_bytes(batch);
    batch->node.next = NULL;
    *t->last = &batch->node;
    t->last = &batch->node.next;
    t->n_batches++;
}

static void answer(struct test *t, enum err result)
{
    while (t->first) {
        struct batch *batch = CONTAINER_OF(t->first, struct batch, node);

        t->first = batch->node.next;
        batch->result = result;
        store_answer(batch);
    }
    t->last = &t->first;
    t->n_batches = 0;
}

/* --- scripts ------------------------------------------------------------------------------------------------------------ */

static void stopped(void *arg)
{
    ((struct test *)arg)->is_stopped = true;
}

static void quiet(void *arg)
{
    ((struct test *)arg)->is_quiet = true;
}

static void listener_gone(void *arg)
{
    (void)arg;
}

static void tick(void *arg)
{
    static struct closer closer;
    struct test *t = arg;

    if (t->n_ticks++ > LIMIT_MS / TICK_MS)
        fail_msg("still waiting for: %s", t->step->what ? t->step->what : "stop");
    if (t->step->what) {
        if (t->step->ready && !t->step->ready(t))
            return;
        if (t->step->act)
            t->step->act(t);
        t->step++;
        t->n_waited = 0;
        if (!t->step->what && !t->is_stopped)
            iotgw_module.stop(t->self, stopped, t);
        return;
    }
    if (!t->is_stopped)
        return;
    timer_stop(&t->tick);
    iotgw_module.close(t->self);
    ctx_attach(t->ctx, NULL);
    ctx_unref(t->ctx);
    answer(t, ERR_OK);
    stream_close(t->peer.stream, true);
    closer_begin(&closer, t->loop, listener_gone, t);
    listener_close(t->peer.listener, &closer);
    closer_end(&closer);
    loop_stop(t->loop);
}

static const struct store_ops ops = {.append = fake_append};

#define FILE_TEXT                                                                                                      \
    "\"mapping\":[{\"topicFilter\":\"d/+\",\"subscriptionQos\":2,\"converter\":{\"type\":\"json\",\"deviceInfo\":{"    \
    "\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"d/(.*)\"},\"timeseries\":[\"*\"]}}],"         \
    "\"requestsMapping\":{\"connectRequests\":[{\"topicFilter\":\"on/+\",\"deviceInfo\":{"                             \
    "\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"on/(.*)\"}}]}}"

/* broker: further members of "broker". */
static void run(const char *broker, void (*prepare)(struct test *t), const struct step *steps)
{
    struct test t = {.last = NULL, .step = steps};
    const struct listener_conf listener_conf = {.host = "127.0.0.1"};
    autobuf struct buf text = {0};
    struct why why = {0};

    t.last = &t.first;
    ctx_setup();
    t.store.ops = &ops;
    t.host.store = &t.store;
    assert_int_equal(loop_new(&t.loop, "test"), ERR_OK);
    if (prepare)
        prepare(&t);
    assert_int_equal(listener_new(&t.peer.listener, t.loop, &listener_conf, accepted, &t.peer, &why), ERR_OK);
    buf_printf(&text, "{\"broker\":{\"host\":\"127.0.0.1\",\"port\":%u%s}," FILE_TEXT "%c",
               listener_port(t.peer.listener), broker, 0);
    problems_init(&t.problems);
    t.conf = conf_load_text(&mqtt_conf_type, ".", "test", str_from((const char *)text.p), &t.problems);
    assert_non_null(t.conf);
    t.ctx = ctx_new(&iotgw_module, "test", t.loop, &t.host, t.conf);
    atomic_store(&ctx_log(t.ctx)->level, LOG_LEVEL_OFF);
    t.self = mem_zero(iotgw_module.state_size);
    assert_int_equal(iotgw_module.open(t.self, t.ctx, conf_root(t.conf), &why), ERR_OK);
    ctx_attach(t.ctx, t.self);
    iotgw_module.start(t.self);
    timer_init(&t.tick, t.loop, tick, &t);
    timer_start_periodic(&t.tick, TICK_MS, TICK_MS);
    loop_run(t.loop);
    assert_true(t.is_stopped);
    assert_int_equal(slab_in_use(), 0);
    loop_free(t.loop);
    mem_free(t.self);
    buf_fini(&t.bytes);
    conf_unref(t.conf);
    problems_fini(&t.problems);
}

static bool is_up(struct test *t)
{
    return ctx_status(t->ctx).state == LINK_UP;
}

static bool has_1_event(struct test *t)
{
    return t->n_events >= 1;
}

static bool has_2_events(struct test *t)
{
    return t->n_events >= 2;
}

static bool has_3_events(struct test *t)
{
    return t->n_events >= 3;
}

static bool has_acks_3(struct test *t)
{
    return t->peer.n_acks >= 3;
}

static bool some_ticks(struct test *t) /* nothing is to happen meanwhile */
{
    return t->n_waited++ > 20;
}

static void answer_ok(struct test *t)
{
    answer(t, ERR_OK);
}

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void check_subscriptions(struct test *t)
{
    assert_int_equal(t->peer.n_subscribes, 1);
    assert_int_equal(t->peer.n_filters, 2);
    assert_int_equal(strlen(t->peer.client_id), 23);
    assert_true(t->peer.connect.clean_start);
    assert_int_equal(t->peer.connect.keep_alive_s, 60);
    assert_int_equal(t->peer.connect.receive_maximum, 1000);
    assert_string_equal(t->peer.username, "me");
}

static void test_all_filters_are_subscribed_in_one_packet(void **state)
{
    static const struct step steps[] = {{"link", is_up, check_subscriptions}, {0}};

    (void)state;
    run(",\"security\":{\"type\":\"basic\",\"username\":\"me\",\"password\":\"x\"}", NULL, steps);
}

static void send_four(struct test *t)
{
    publish(t, "d/life 1", "{\"a\":1}", 1, 10);
    publish(t, "d/life 1", "?", 1, 11); /* nothing to store */
    publish(t, "nobody/cares", "x", 1, 12);
    publish(t, "on/life 2", "", 2, 13);
}

static void check_nothing_acknowledged(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 0);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_MESSAGES_IN), 4);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_CONVERTED), 1);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_DROPPED), 1);
    answer(t, ERR_OK);
}

static bool has_four_acks(struct test *t)
{
    return t->peer.n_acks >= 4;
}

static void check_order(struct test *t)
{
    const struct record *record = (const struct record *)(const void *)t->bytes.p;

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(t->peer.acks[i], 10 + i);
    assert_int_equal(record->kind, RECORD_TELEMETRY);
    assert_true(str_eq(record_body(record), STR("\"a\":1")));
    assert_int_equal(record_next(record)->kind, RECORD_CONNECT);
    assert_true(str_eq(record_name(record_next(record)), STR("life 2")));
}

static void test_messages_are_acknowledged_when_they_are_durable_and_in_the_order_received(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_four},
                                        {"events", has_2_events, NULL},
                                        {"quiet", some_ticks, check_nothing_acknowledged},
                                        {"acknowledgements", has_four_acks, check_order},
                                        {0}};

    (void)state;
    run("", NULL, steps);
}

static void send_qos_0(struct test *t)
{
    publish(t, "d/life 1", "{\"a\":1}", 0, 0);
    publish(t, "d/life 1", "{\"a\":2}", 0, 0);
    publish(t, "d/life 1", "{\"a\":3}", 0, 0);
}

static void check_no_ack(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 0);
}

static void test_messages_of_qos_0_are_stored_and_not_acknowledged(void **state)
{
    static const struct step steps[] = {
        {"link", is_up, send_qos_0}, {"events", has_3_events, answer_ok}, {"quiet", some_ticks, check_no_ack}, {0}};

    (void)state;
    run("", NULL, steps);
}

static void send_one(struct test *t)
{
    publish(t, "d/life 1", "{\"a\":1}", 1, 20);
}

static void send_another(struct test *t)
{
    publish(t, "d/life 1", "{\"a\":2}", 1, 21);
}

static void check_stopped_reading(struct test *t)
{
    assert_int_equal(t->n_events, 1);
    answer(t, ERR_OK);
}

static void test_reading_stops_while_too_many_are_unacknowledged(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_one},
                                        {"first", has_1_event, send_another},
                                        {"quiet", some_ticks, check_stopped_reading},
                                        {"second", has_2_events, answer_ok},
                                        {0}};

    (void)state;
    run(",\"maxMessageQueue\":1", NULL, steps);
}

static void drop_connection(struct test *t)
{
    stream_close(t->peer.stream, true);
}

static bool is_connected_again(struct test *t)
{
    return t->peer.n_connects == 2 && is_up(t);
}

static void answer_late(struct test *t)
{
    assert_int_equal(ctx_counter(t->ctx, IOTGW_RECONNECTS), 1);
    assert_int_equal(t->peer.n_subscribes, 2);
    answer(t, ERR_OK); /* of the former connection: nothing may be acknowledged on this one */
    publish(t, "d/life 1", "{\"a\":1}", 1, 20);
}

static void check_second_only(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 0);
    answer(t, ERR_OK);
}

static bool has_1_ack(struct test *t)
{
    return t->peer.n_acks >= 1;
}

static void test_a_lost_connection_is_made_anew_and_late_completions_do_not_acknowledge_on_it(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_one},
                                        {"first", has_1_event, drop_connection},
                                        {"second connection", is_connected_again, answer_late},
                                        {"sent again", has_2_events, NULL},
                                        {"quiet", some_ticks, check_second_only},
                                        {"acknowledgement", has_1_ack, NULL},
                                        {0}};

    (void)state;
    run("", NULL, steps);
}

static void answer_io(struct test *t)
{
    answer(t, ERR_IO);
}

static void check_not_acked(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 0);
    assert_int_equal(t->peer.n_disconnects, 1);
}

static void test_what_is_not_stored_is_given_back_to_the_broker(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_one},
                                        {"first", has_1_event, answer_io},
                                        {"second connection", is_connected_again, check_not_acked},
                                        {0}};

    (void)state;
    run(",\"cleanStart\":false,\"clientId\":\"fixed\",\"sessionExpiryInterval\":100", NULL, steps);
}

static void keep_session(struct test *t)
{
    t->peer.session_present = true;
    stream_close(t->peer.stream, true);
}

static void check_not_subscribed_again(struct test *t)
{
    assert_int_equal(t->peer.n_subscribes, 1);
    assert_string_equal(t->peer.client_id, "fixed");
    assert_false(t->peer.connect.clean_start);
    assert_int_equal(t->peer.connect.session_expiry_s, 100);
}

static void session_present(struct test *t)
{
    t->peer.session_present = true;
}

static void test_a_resumed_session_is_subscribed_once_a_run_of_the_program(void **state)
{
    static const struct step steps[] = {
        {"link", is_up, keep_session}, {"second connection", is_connected_again, check_not_subscribed_again}, {0}};

    (void)state;
    run(",\"cleanStart\":false,\"clientId\":\"fixed\",\"sessionExpiryInterval\":100", session_present, steps);
}

static void refuse_subscriptions(struct test *t)
{
    t->peer.suback = 0x87;
}

static bool is_degraded(struct test *t)
{
    return ctx_status(t->ctx).state == LINK_DEGRADED;
}

static void check_reason(struct test *t)
{
    assert_string_equal(ctx_status(t->ctx).reason, "the broker refuses 2 of 2 subscriptions");
}

static void test_refused_subscriptions_are_told(void **state)
{
    static const struct step steps[] = {{"state", is_degraded, check_reason}, {0}};

    (void)state;
    run("", refuse_subscriptions, steps);
}

static void refuse_connection(struct test *t)
{
    t->peer.connack = 0x87;
}

static bool has_failed(struct test *t)
{
    return ctx_status(t->ctx).state == LINK_FAILED;
}

static void check_refusal(struct test *t)
{
    assert_true(strlen(ctx_status(t->ctx).reason) > 0);
    assert_int_equal(t->peer.n_connects, 1);
}

static void test_a_refusal_is_told_and_a_waiting_connector_stops_at_once(void **state)
{
    static const struct step steps[] = {{"state", has_failed, check_refusal}, {0}};

    (void)state;
    run("", refuse_connection, steps);
}

static void quiesce(struct test *t)
{
    iotgw_module.quiesce(t->self, quiet, t);
    publish(t, "d/life 1", "{\"a\":9}", 1, 30);
}

static void check_not_quiet_yet(struct test *t)
{
    assert_false(t->is_quiet);
    assert_int_equal(t->n_events, 2);
    answer(t, ERR_OK);
}

static bool is_quiet(struct test *t)
{
    return t->is_quiet;
}

static void send_two(struct test *t)
{
    publish(t, "d/life 1", "{\"a\":1}", 1, 20);
    publish(t, "d/life 1", "{\"a\":2}", 1, 21);
}

static void check_quiesced(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 2);
    assert_int_equal(t->n_events, 2);
}

static bool has_two_acks(struct test *t)
{
    return t->peer.n_acks >= 2;
}

static void test_quiesce_takes_nothing_more_and_acknowledges_what_was_taken(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_two},
                                        {"events", has_2_events, quiesce},
                                        {"some time", some_ticks, check_not_quiet_yet},
                                        {"quiet", is_quiet, NULL},
                                        {"acknowledgements", has_two_acks, check_quiesced},
                                        {0}};

    (void)state;
    run("", NULL, steps);
}

static void test_a_connector_that_stops_with_unanswered_batches_leaves_nothing_behind(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_two}, {"events", has_2_events, NULL}, {0}};

    (void)state;
    run("", NULL, steps);
}

static void test_a_connector_stops_while_it_connects(void **state)
{
    static const struct step steps[] = {{"now", NULL, NULL}, {0}};

    (void)state;
    run("", NULL, steps);
}

static void send_three(struct test *t)
{
    publish(t, "d/life 1", "{\"a\":1}", 2, 20);
    publish(t, "d/life 1", "{\"a\":2}", 1, 21);
    publish(t, "d/life 1", "{\"a\":3}", 2, 22);
}

static void answer_full(struct test *t)
{
    answer(t, ERR_FULL);
}

static void test_what_the_operator_lets_drop_is_acknowledged(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_three},
                                        {"events", has_3_events, answer_full},
                                        {"acknowledgements", has_acks_3, NULL},
                                        {0}};

    (void)state;
    run("", NULL, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_filters_are_subscribed_in_one_packet),
        cmocka_unit_test(test_messages_are_acknowledged_when_they_are_durable_and_in_the_order_received),
        cmocka_unit_test(test_messages_of_qos_0_are_stored_and_not_acknowledged),
        cmocka_unit_test(test_reading_stops_while_too_many_are_unacknowledged),
        cmocka_unit_test(test_a_lost_connection_is_made_anew_and_late_completions_do_not_acknowledge_on_it),
        cmocka_unit_test(test_what_is_not_stored_is_given_back_to_the_broker),
        cmocka_unit_test(test_a_resumed_session_is_subscribed_once_a_run_of_the_program),
        cmocka_unit_test(test_refused_subscriptions_are_told),
        cmocka_unit_test(test_a_refusal_is_told_and_a_waiting_connector_stops_at_once),
        cmocka_unit_test(test_quiesce_takes_nothing_more_and_acknowledges_what_was_taken),
        cmocka_unit_test(test_a_connector_that_stops_with_unanswered_batches_leaves_nothing_behind),
        cmocka_unit_test(test_a_connector_stops_while_it_connects),
        cmocka_unit_test(test_what_the_operator_lets_drop_is_acknowledged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
