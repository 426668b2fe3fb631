/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt_rig.h"

#include <stdio.h>

/* Requests of the platform and of devices, through the whole connector. */

#define RPC(method, members)                                                                                           \
    "{\"deviceNameFilter\":\".*\",\"methodFilter\":\"^" method                                                         \
    "$\",\"requestTopicExpression\":\"rq/${deviceName}\",\"valueExpression\":\"${params}\"" members "}"
#define TWO_WAY(topic, timeout) ",\"responseTopicExpression\":\"" topic "\",\"responseTimeout\":" timeout
#define SECTIONS                                                                                                       \
    RPC("one", "")                                                                                                     \
    "," RPC("sure", ",\"qos\":1,\"retain\":true") "," RPC("two", TWO_WAY("rs/${params.n}", "60000")) "," RPC(          \
        "short", TWO_WAY("rs/x", "20")) "," RPC("covered", TWO_WAY("d/rs", "60000"))
#define FILE_TEXT                                                                                                      \
    "\"mapping\":[{\"topicFilter\":\"d/#\",\"subscriptionQos\":1,\"converter\":{\"type\":\"json\",\"deviceInfo\":{"    \
    "\"deviceNameExpressionSource\":\"topic\",\"deviceNameExpression\":\"d/(.*)\"},\"timeseries\":[\"*\"]}}],"         \
    "\"attributeRequests\":[{\"topicFilter\":\"ask/+\",\"deviceInfo\":{\"deviceNameExpressionSource\":\"topic\","      \
    "\"deviceNameExpression\":\"ask/(.*)\"},\"attributeNameExpression\":\"${k}\",\"scope\":\"${s}\","                  \
    "\"topicExpression\":\"answer/${deviceName}\",\"valueExpression\":\"${attributeValue}\",\"qos\":1}],"              \
    "\"attributeUpdates\":[{\"deviceNameFilter\":\".*\",\"attributeFilter\":\"q0\",\"topicExpression\":"               \
    "\"up/${attributeKey}\",\"valueExpression\":\"${attributeValue}\"},{\"deviceNameFilter\":\".*\","                  \
    "\"attributeFilter\":\"q1\",\"topicExpression\":\"up/${attributeKey}\",\"valueExpression\":"                       \
    "\"${attributeValue}\",\"qos\":1,\"retain\":true}],\"serverSideRpc\":[" SECTIONS "]}"

static struct command_box boxes[MAX_NOTES];
static unsigned n_commands;

static void run(void (*prepare)(struct test *t), const struct step *steps)
{
    n_commands = 0;
    memset(boxes, 0, sizeof boxes);
    rig_run("", FILE_TEXT, prepare, steps);
}

static struct command *command(struct test *t, enum command_kind kind, const char *method, const char *params)
{
    struct command *made = &boxes[n_commands++].command;

    *made = (struct command){.size = sizeof *made,
                             .kind = kind,
                             .dev = device_get(STR("D")),
                             .method = str_from(method),
                             .id = STR("7"),
                             .params = str_from(params)};
    iotgw_module.command(t->self, made);
    return made;
}

static void rpc(struct test *t, const char *method, const char *params)
{
    (void)command(t, COMMAND_RPC, method, params);
}

static void update(struct test *t, const char *values)
{
    unsigned before = t->n_replies;

    (void)command(t, COMMAND_ATTRIBUTES, "", values);
    assert_int_equal(t->n_replies, before + 1);
    assert_int_equal(t->replies[before].err, ERR_OK);
}

static const char *reply_to(struct test *t, unsigned i)
{
    for (unsigned k = 0; k < t->n_replies; k++)
        if (t->replies[k].command == &boxes[i].command)
            return t->replies[k].json;
    return "none";
}

static bool is_up(struct test *t)
{
    return ctx_status(t->ctx).state == LINK_UP;
}

static bool some_ticks(struct test *t) /* nothing is to happen meanwhile */
{
    return t->n_waited++ > 20;
}

static bool has_1_reply(struct test *t)
{
    return t->n_replies >= 1;
}

static bool has_2_replies(struct test *t)
{
    return t->n_replies >= 2;
}

static bool has_1_publication(struct test *t)
{
    return t->peer.n_published >= 1;
}

static bool has_2_publications(struct test *t)
{
    return t->peer.n_published >= 2;
}

static bool has_2_subscribes(struct test *t)
{
    return t->peer.n_subscribes >= 2;
}

static bool is_unsubscribed(struct test *t)
{
    return t->peer.n_unsubscribed >= 1;
}

static void drop_connection(struct test *t)
{
    stream_close(t->peer.stream, true);
}

static bool is_connected_again(struct test *t)
{
    return t->peer.n_connects == 2 && is_up(t);
}

static void check_published(struct test *t, unsigned i, const char *topic, const char *payload, unsigned qos)
{
    assert_true(i < t->peer.n_published);
    assert_string_equal(t->peer.published[i].topic, topic);
    assert_string_equal(t->peer.published[i].payload, payload);
    assert_int_equal(t->peer.published[i].qos, qos);
}

/* --- one-way ------------------------------------------------------------------------------------------------------------------ */

static void call_one_way(struct test *t)
{
    rpc(t, "one", "\"on\"");
    assert_string_equal(reply_to(t, 0), "{\"success\":true}");
    rpc(t, "nothing", "1");
    assert_string_equal(reply_to(t, 1),
                        "{\"error\":\"Method nothing is not configured for device D\",\"success\":false}");
    rpc(t, "set", "\"requestTopicExpression=a/+;value=1\"");
    assert_string_equal(reply_to(t, 2), "{\"error\":\"topic \\\"a/+\\\" contains a wildcard\",\"success\":false}");
}

static void check_one_way(struct test *t)
{
    assert_int_equal(t->peer.n_published, 1);
    check_published(t, 0, "rq/D", "\"on\"", 0);
    assert_int_equal(t->replies[0].err, ERR_OK);
    assert_int_equal(t->replies[1].err, ERR_NOTFOUND);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_MESSAGES_OUT), 1);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_BYTES_OUT), 8);
}

static void test_a_one_way_request_succeeds_when_it_is_handed_over(void **state)
{
    static const struct step steps[] = {
        {"link", is_up, call_one_way}, {"publication", has_1_publication, check_one_way}, {0}};

    (void)state;
    run(NULL, steps);
}

static void keep_pubacks(struct test *t)
{
    t->peer.keeps_pubacks = true;
}

static void call_sure(struct test *t)
{
    rpc(t, "sure", "1");
}

static void check_waits_for_ack(struct test *t)
{
    assert_int_equal(t->n_replies, 0);
    assert_true(t->peer.published[0].retain);
    rig_puback(t, t->peer.published[0].packet_id, 0x10); /* no matching subscribers: taken all the same */
}

static void check_success(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "{\"success\":true}");
}

static void test_with_quality_of_service_the_acknowledgement_is_waited_for(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_sure},
                                        {"publication", has_1_publication, NULL},
                                        {"quiet", some_ticks, check_waits_for_ack},
                                        {"reply", has_1_reply, check_success},
                                        {0}};

    (void)state;
    run(keep_pubacks, steps);
}

static void refuse_publications(struct test *t)
{
    t->peer.puback = 0x87;
}

static void check_refused(struct test *t)
{
    assert_non_null(strstr(reply_to(t, 0), "\"success\":false"));
    assert_non_null(strstr(reply_to(t, 0), "\"error\":"));
    assert_int_equal(t->replies[0].err, ERR_REFUSED);
}

static void test_a_publication_that_the_broker_refuses_is_an_error(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_sure}, {"reply", has_1_reply, check_refused}, {0}};

    (void)state;
    run(refuse_publications, steps);
}

static void check_lost(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "{\"error\":\"the connection to the broker was lost\",\"success\":false}");
    rpc(t, "one", "1");
    assert_string_equal(reply_to(t, 1), "{\"error\":\"not connected to the broker\",\"success\":false}");
    rpc(t, "two", "{\"n\":1}");
    assert_string_equal(reply_to(t, 2), "{\"error\":\"not connected to the broker\",\"success\":false}");
}

static void check_not_sent_again(struct test *t)
{
    assert_int_equal(t->peer.n_published, 1);
}

static void test_without_connection_requests_fail_at_once(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_sure},
                                        {"publication", has_1_publication, drop_connection},
                                        {"reply", has_1_reply, check_lost},
                                        {"second connection", is_connected_again, NULL},
                                        {"quiet", some_ticks, check_not_sent_again},
                                        {0}};

    (void)state;
    run(keep_pubacks, steps);
}

/* --- two-way ------------------------------------------------------------------------------------------------------------------ */

static void keep_subacks(struct test *t)
{
    t->peer.keeps_subacks = true;
    rpc(t, "two", "{\"n\":1}");
}

static void confirm_subscription(struct test *t)
{
    assert_string_equal(t->peer.subscribed, "rs/1");
    assert_int_equal(t->peer.subscribed_qos, 1);
    assert_int_equal(t->peer.n_published, 0);
    rig_publish(t, "rs/1", "too early", 0, 0); /* not the response to what is not asked yet */
    rig_suback(t, 1);
}

static void respond(struct test *t)
{
    check_published(t, 0, "rq/D", "{\"n\":1}", 0);
    assert_int_equal(t->n_replies, 0);
    rig_publish_retained(t, "rs/1", "from before");
    rig_publish(t, "rs/other", "x", 0, 0);
    rig_publish(t, "rs/1", "{\"it's\": 1.50}", 1, 9);
    rig_publish(t, "rs/1", "too late", 0, 0);
}

static void check_response(struct test *t)
{
    assert_int_equal(t->n_replies, 1);
    assert_string_equal(reply_to(t, 0), "{\"it's\": 1.50}");
    assert_int_equal(t->replies[0].err, ERR_OK);
    assert_string_equal(t->peer.unsubscribed, "rs/1");
}

static bool has_1_ack(struct test *t)
{
    return t->peer.n_acks >= 1;
}

static void test_the_request_follows_the_subscription_and_the_first_message_after_it_is_the_reply(void **state)
{
    static const struct step steps[] = {{"link", is_up, keep_subacks},
                                        {"subscription", has_2_subscribes, NULL},
                                        {"quiet", some_ticks, confirm_subscription},
                                        {"request", has_1_publication, respond},
                                        {"reply", has_1_reply, NULL},
                                        {"end of the subscription", is_unsubscribed, check_response},
                                        {"acknowledgement", has_1_ack, NULL},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void call_two_twice(struct test *t)
{
    rpc(t, "two", "{\"n\":1,\"first\":1}");
    rpc(t, "two", "{\"n\":1,\"first\":0}");
}

static void respond_once(struct test *t)
{
    assert_int_equal(t->peer.n_subscribes, 2); /* the file's filters, and the topic, once */
    rig_publish(t, "rs/1", "\"a\"", 0, 0);
}

static void respond_again(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "\"a\"");
    assert_int_equal(t->peer.n_unsubscribed, 0);
    rig_publish(t, "rs/1", "\"b\"", 0, 0);
}

static void check_second_response(struct test *t)
{
    assert_string_equal(reply_to(t, 1), "\"b\"");
}

static void test_requests_on_one_response_topic_get_their_replies_in_order(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_two_twice},
                                        {"requests", has_2_publications, respond_once},
                                        {"reply", has_1_reply, respond_again},
                                        {"second reply", has_2_replies, check_second_response},
                                        {"end of the subscription", is_unsubscribed, NULL},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void call_short(struct test *t)
{
    rpc(t, "short", "1");
}

static void check_no_response(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "{\"success\":false}");
    assert_int_equal(t->replies[0].err, ERR_TIMEOUT);
    rig_publish(t, "rs/x", "late", 0, 0);
}

static void test_a_response_that_does_not_come_ends_by_its_time_out(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_short},
                                        {"reply", has_1_reply, check_no_response},
                                        {"end of the subscription", is_unsubscribed, NULL},
                                        {"quiet", some_ticks, NULL},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void refuse_response_topic(struct test *t)
{
    t->peer.suback = 0x87;
    call_short(t);
}

static void check_response_topic_refused(struct test *t)
{
    assert_non_null(strstr(reply_to(t, 0), "the broker refuses the subscription of the response topic"));
    assert_int_equal(t->peer.n_published, 0);
}

static void test_a_response_topic_that_the_broker_refuses_is_an_error(void **state)
{
    static const struct step steps[] = {
        {"link", is_up, refuse_response_topic}, {"reply", has_1_reply, check_response_topic_refused}, {0}};

    (void)state;
    run(NULL, steps);
}

static void keep_subacks_for_ever(struct test *t)
{
    t->peer.keeps_subacks = true;
    call_short(t);
}

static void check_not_confirmed(struct test *t)
{
    assert_non_null(strstr(reply_to(t, 0), "did not confirm the subscription"));
    assert_int_equal(t->peer.n_published, 0);
}

static void test_a_subscription_that_is_not_confirmed_ends_the_request(void **state)
{
    static const struct step steps[] = {
        {"link", is_up, keep_subacks_for_ever}, {"reply", has_1_reply, check_not_confirmed}, {0}};

    (void)state;
    run(NULL, steps);
}

static void call_two(struct test *t)
{
    rpc(t, "two", "{\"n\":5}");
}

static bool is_subscribed_again(struct test *t)
{
    return t->peer.n_connects == 2 && t->peer.n_subscribes == 4;
}

static void respond_on_new_connection(struct test *t)
{
    assert_int_equal(t->n_replies, 0);
    assert_string_equal(t->peer.subscribed, "rs/5");
    rig_publish(t, "rs/5", "5", 0, 0);
}

static void check_response_5(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "5");
    assert_int_equal(t->peer.n_published, 1);
}

static void test_a_lost_connection_does_not_end_the_waiting_for_a_response(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_two},
                                        {"request", has_1_publication, drop_connection},
                                        {"second connection", is_subscribed_again, respond_on_new_connection},
                                        {"reply", has_1_reply, check_response_5},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void drop_but_keep_session(struct test *t)
{
    t->peer.session_present = true;
    stream_close(t->peer.stream, true);
}

static bool is_tidied(struct test *t)
{
    return t->peer.n_connects == 2 && t->peer.n_unsubscribed >= 1;
}

static void check_tidied(struct test *t)
{
    assert_string_equal(t->peer.unsubscribed, "rs/x");
    assert_string_equal(reply_to(t, 0), "{\"success\":false}");
    assert_int_equal(t->peer.n_subscribes, 2); /* none with the second connection: the session has them */
}

static void test_a_response_topic_that_a_kept_session_still_has_is_unsubscribed_later(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_short},
                                        {"request", has_1_publication, drop_but_keep_session},
                                        {"end of the subscription", is_tidied, NULL},
                                        {"reply", has_1_reply, check_tidied},
                                        {0}};

    (void)state;
    n_commands = 0;
    rig_run(",\"cleanStart\":false,\"clientId\":\"fixed\",\"sessionExpiryInterval\":100", FILE_TEXT, NULL, steps);
}

static void call_covered(struct test *t)
{
    rpc(t, "covered", "1");
}

static void respond_covered(struct test *t)
{
    assert_int_equal(t->peer.n_subscribes, 1);
    rig_publish(t, "d/rs", "{\"a\":1}", 1, 9);
    rig_publish(t, "d/rs", "{\"a\":2}", 1, 10);
}

static bool has_2_events(struct test *t)
{
    return t->n_events >= 2;
}

static void check_covered(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "{\"a\":1}");
    assert_int_equal(t->peer.n_unsubscribed, 0);
    rig_answer(t, ERR_OK);
}

static void test_a_response_on_a_mapped_topic_needs_no_second_subscription_and_is_data_too(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_covered},
                                        {"request", has_1_publication, respond_covered},
                                        {"events", has_2_events, check_covered},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void respond_with_text(struct test *t)
{
    rig_publish(t, "d/rs", "no values", 0, 0);
    rig_publish(t, "d/rs", "no values", 0, 0); /* this one is data, and an error */
}

static bool has_1_drop(struct test *t)
{
    return ctx_counter(t->ctx, IOTGW_DROPPED) >= 1 && ctx_counter(t->ctx, IOTGW_MESSAGES_IN) == 2;
}

static void check_1_drop(struct test *t)
{
    assert_string_equal(reply_to(t, 0), "\"no values\"");
    assert_int_equal(ctx_counter(t->ctx, IOTGW_DROPPED), 1);
}

static void test_a_response_that_no_mapping_understands_is_no_error(void **state)
{
    static const struct step steps[] = {{"link", is_up, call_covered},
                                        {"request", has_1_publication, respond_with_text},
                                        {"both", has_1_drop, check_1_drop},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void call_many(struct test *t)
{
    for (unsigned i = 0; i < 3; i++)
        rpc(t, "two", "{\"n\":1}");
    rpc(t, "sure", "1");
}

static bool is_asked(struct test *t)
{
    return t->peer.n_published >= 4;
}

static void test_what_is_open_when_the_connector_stops_gets_its_reply(void **state)
{
    /* The rig stops it behind the last step, and asserts that no command is answered twice. */
    static const struct step steps[] = {{"link", is_up, call_many}, {"requests", is_asked, NULL}, {0}};
    static const struct step early[] = {{"link", is_up, call_many}, {0}};

    (void)state;
    run(keep_pubacks, steps);
    run(keep_pubacks, early);
}

static void send_too_much(struct test *t)
{
    rig_publish(t, "d/x", "{\"a\":1}", 1, 20);
}

static bool has_1_event(struct test *t)
{
    return t->n_events >= 1;
}

static void call_while_busy(struct test *t)
{
    rpc(t, "two", "{\"n\":1}");
    assert_non_null(strstr(reply_to(t, 0), "busy"));
    assert_int_equal(t->replies[0].err, ERR_BUSY);
    rpc(t, "sure", "1");
    assert_non_null(strstr(reply_to(t, 1), "busy"));
    rpc(t, "one", "1"); /* needs nothing of the broker */
    assert_string_equal(reply_to(t, 2), "{\"success\":true}");
    rig_answer(t, ERR_OK);
}

static void test_while_nothing_is_read_what_needs_an_answer_is_told_busy(void **state)
{
    static const struct step steps[] = {{"link", is_up, send_too_much}, {"event", has_1_event, call_while_busy}, {0}};

    (void)state;
    n_commands = 0;
    rig_run(",\"maxMessageQueue\":1", FILE_TEXT, NULL, steps);
}

/* --- attribute updates ---------------------------------------------------------------------------------------------------------- */

static void check_updates(struct test *t)
{
    check_published(t, 0, "up/q0", "text", 0);
    check_published(t, 1, "up/q1", "{\"a\":1}", 1);
    assert_true(t->peer.published[1].retain);
}

static void update_one(struct test *t)
{
    update(t, "{\"q0\":\"text\",\"q1\":{\"a\":1},\"none\":2}");
    (void)command(t, COMMAND_ATTRIBUTES, "", "{\"q0");
    assert_int_equal(t->replies[1].err, ERR_SYNTAX);
}

static void test_attribute_updates_are_published_as_the_sections_say(void **state)
{
    static const struct step steps[] = {
        {"link", is_up, update_one}, {"publications", has_2_publications, check_updates}, {0}};

    (void)state;
    run(NULL, steps);
}

static void update_unacknowledged(struct test *t)
{
    update(t, "{\"q1\":1}");
}

static bool is_gone(struct test *t)
{
    return ctx_status(t->ctx).state != LINK_UP;
}

static void update_without_connection(struct test *t)
{
    t->peer.keeps_pubacks = false;
    update(t, "{\"q0\":2}");
    update(t, "{\"q1\":3}");
}

static bool has_4_publications(struct test *t)
{
    return t->peer.n_published >= 4;
}

static void check_sent_after_reconnect(struct test *t)
{
    check_published(t, 0, "up/q1", "1", 1);
    check_published(t, 1, "up/q1", "1", 1); /* not acknowledged on the first connection */
    check_published(t, 2, "up/q0", "2", 0);
    check_published(t, 3, "up/q1", "3", 1);
}

static void test_updates_wait_for_the_connection_and_keep_their_order(void **state)
{
    static const struct step steps[] = {{"link", is_up, update_unacknowledged},
                                        {"publication", has_1_publication, drop_connection},
                                        {"loss", is_gone, update_without_connection},
                                        {"publications", has_4_publications, check_sent_after_reconnect},
                                        {0}};

    (void)state;
    run(keep_pubacks, steps);
}

static void update_1100_times(struct test *t)
{
    char text[32];

    for (unsigned i = 0; i < 1100; i++) {
        snprintf(text, sizeof text, "{\"q1\":%u}", i);
        update(t, text);
    }
}

static bool has_1000_publications(struct test *t)
{
    return t->peer.n_published >= 1000;
}

static void check_oldest_dropped(struct test *t)
{
    check_published(t, 0, "up/q1", "100", 1);
    check_published(t, 999, "up/q1", "1099", 1);
    assert_int_equal(t->peer.n_published, 1000);
}

static void test_of_more_than_a_thousand_waiting_updates_the_oldest_are_dropped(void **state)
{
    static const struct step steps[] = {{"link", is_up, drop_connection},
                                        {"loss", is_gone, update_1100_times},
                                        {"publications", has_1000_publications, NULL},
                                        {"quiet", some_ticks, check_oldest_dropped},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

/* --- attribute requests ---------------------------------------------------------------------------------------------------------- */

static void ask(struct test *t)
{
    assert_int_equal(t->peer.n_filters, 2);
    rig_publish(t, "ask/D1", "{\"k\":[\"a\",\"b\\\"\"],\"s\":\"client\"}", 1, 5);
    rig_publish(t, "ask/D2", "{\"k\":\"a\",\"s\":\"shared\"}", 0, 0);
    rig_publish(t, "ask/D2", "{\"s\":\"shared\"}", 0, 0);
    rig_publish(t, "ask/D2", "{\"k\":\"a\",\"s\":\"nobody's\"}", 0, 0);
    rig_publish(t, "ask/D3", "{\"k\":\"a\",\"s\":\"shared\"}", 0, 0);
}

static bool has_3_questions(struct test *t)
{
    return t->n_questions >= 3;
}

static void answer_questions(struct test *t)
{
    const struct question *questions = t->questions;

    assert_string_equal(questions[0].device, "D1");
    assert_string_equal(questions[0].client, "[\"a\",\"b\\\"\"]");
    assert_string_equal(questions[0].shared, "");
    assert_string_equal(questions[1].device, "D2");
    assert_string_equal(questions[1].shared, "[\"a\"]");
    iotgw_module.attributes(t->self, questions[1].cookie, ERR_OK, STR("{\"a\":\"x\"}"));
    iotgw_module.attributes(t->self, questions[1].cookie, ERR_OK, STR("{\"a\":\"again\"}"));
    iotgw_module.attributes(t->self, questions[2].cookie, ERR_TIMEOUT, STR_NONE);
    iotgw_module.attributes(t->self, questions[0].cookie, ERR_OK, STR("{\"b\\\"\":2,\"a\":1}"));
    iotgw_module.attributes(t->self, 4711, ERR_OK, STR("{\"a\":1}"));
}

static void check_answers(struct test *t)
{
    assert_int_equal(t->peer.n_published, 2);
    check_published(t, 0, "answer/D2", "\"x\"", 1);
    check_published(t, 1, "answer/D1", "{\"a\":1,\"b\\\"\":2}", 1);
    assert_int_equal(ctx_counter(t->ctx, IOTGW_DROPPED), 2);
    assert_int_equal(t->peer.n_acks, 1);
}

static void test_attribute_requests_are_answered_when_the_platform_has_answered(void **state)
{
    static const struct step steps[] = {{"link", is_up, ask},
                                        {"questions", has_3_questions, answer_questions},
                                        {"answers", has_2_publications, NULL},
                                        {"quiet", some_ticks, check_answers},
                                        {0}};

    (void)state;
    run(NULL, steps);
}

static void test_a_connector_that_stops_with_open_questions_leaves_nothing_behind(void **state)
{
    static const struct step steps[] = {{"link", is_up, ask}, {"questions", has_3_questions, NULL}, {0}};

    (void)state;
    run(NULL, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_one_way_request_succeeds_when_it_is_handed_over),
        cmocka_unit_test(test_with_quality_of_service_the_acknowledgement_is_waited_for),
        cmocka_unit_test(test_a_publication_that_the_broker_refuses_is_an_error),
        cmocka_unit_test(test_without_connection_requests_fail_at_once),
        cmocka_unit_test(test_the_request_follows_the_subscription_and_the_first_message_after_it_is_the_reply),
        cmocka_unit_test(test_requests_on_one_response_topic_get_their_replies_in_order),
        cmocka_unit_test(test_a_response_that_does_not_come_ends_by_its_time_out),
        cmocka_unit_test(test_a_response_topic_that_the_broker_refuses_is_an_error),
        cmocka_unit_test(test_a_subscription_that_is_not_confirmed_ends_the_request),
        cmocka_unit_test(test_a_lost_connection_does_not_end_the_waiting_for_a_response),
        cmocka_unit_test(test_a_response_topic_that_a_kept_session_still_has_is_unsubscribed_later),
        cmocka_unit_test(test_a_response_on_a_mapped_topic_needs_no_second_subscription_and_is_data_too),
        cmocka_unit_test(test_a_response_that_no_mapping_understands_is_no_error),
        cmocka_unit_test(test_what_is_open_when_the_connector_stops_gets_its_reply),
        cmocka_unit_test(test_while_nothing_is_read_what_needs_an_answer_is_told_busy),
        cmocka_unit_test(test_attribute_updates_are_published_as_the_sections_say),
        cmocka_unit_test(test_updates_wait_for_the_connection_and_keep_their_order),
        cmocka_unit_test(test_of_more_than_a_thousand_waiting_updates_the_oldest_are_dropped),
        cmocka_unit_test(test_attribute_requests_are_answered_when_the_platform_has_answered),
        cmocka_unit_test(test_a_connector_that_stops_with_open_questions_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
