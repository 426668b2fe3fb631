/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_rig.h"

#define FILE_TEXT                                                                                                      \
    "\"mapping\":[{\"topicFilter\":\"d/+\",\"subscriptionQos\":2,\"converter\":{\"type\":\"json\",\"deviceInfo\":{"    \
    "\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"d/(.*)\"},\"timeseries\":[\"*\"]}}],"         \
    "\"requestsMapping\":{\"connectRequests\":[{\"topicFilter\":\"on/+\",\"deviceInfo\":{"                             \
    "\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"on/(.*)\"}}]}}"

static void run(const char *broker, void (*prepare)(struct test *t), const struct step *steps)
{
    rig_run(broker, FILE_TEXT, prepare, steps);
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
    rig_answer(t, ERR_OK);
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
    rig_publish(t, "d/life 1", "{\"a\":1}", 1, 10);
    rig_publish(t, "d/life 1", "?", 1, 11); /* nothing to store */
    rig_publish(t, "nobody/cares", "x", 1, 12);
    rig_publish(t, "on/life 2", "", 2, 13);
}

static void check_nothing_acknowledged(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 0);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_MESSAGES_IN), 4);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_CONVERTED), 1);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_DROPPED), 1);
    rig_answer(t, ERR_OK);
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
    rig_publish(t, "d/life 1", "{\"a\":1}", 0, 0);
    rig_publish(t, "d/life 1", "{\"a\":2}", 0, 0);
    rig_publish(t, "d/life 1", "{\"a\":3}", 0, 0);
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
    rig_publish(t, "d/life 1", "{\"a\":1}", 1, 20);
}

static void send_another(struct test *t)
{
    rig_publish(t, "d/life 1", "{\"a\":2}", 1, 21);
}

static void check_stopped_reading(struct test *t)
{
    assert_int_equal(t->n_events, 1);
    rig_answer(t, ERR_OK);
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
    rig_answer(t, ERR_OK); /* of the former connection: nothing may be acknowledged on this one */
    rig_publish(t, "d/life 1", "{\"a\":1}", 1, 20);
}

static void check_second_only(struct test *t)
{
    assert_int_equal(t->peer.n_acks, 0);
    rig_answer(t, ERR_OK);
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
    rig_answer(t, ERR_IO);
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
    rig_quiesce(t);
    rig_publish(t, "d/life 1", "{\"a\":9}", 1, 30);
}

static void check_not_quiet_yet(struct test *t)
{
    assert_false(t->is_quiet);
    assert_int_equal(t->n_events, 2);
    rig_answer(t, ERR_OK);
}

static bool is_quiet(struct test *t)
{
    return t->is_quiet;
}

static void send_two(struct test *t)
{
    rig_publish(t, "d/life 1", "{\"a\":1}", 1, 20);
    rig_publish(t, "d/life 1", "{\"a\":2}", 1, 21);
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
    rig_publish(t, "d/life 1", "{\"a\":1}", 2, 20);
    rig_publish(t, "d/life 1", "{\"a\":2}", 1, 21);
    rig_publish(t, "d/life 1", "{\"a\":3}", 2, 22);
}

static void answer_full(struct test *t)
{
    rig_answer(t, ERR_FULL);
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
