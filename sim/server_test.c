/* SPDX-License-Identifier: Apache-2.0 */
/* A client of bytes talks to the server over a real socket: each step sends some and expects exactly some back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "server.h"

struct step {
    struct str send, expect;
};

struct talk {
    struct loop *loop;
    struct server *server;
    struct stream *stream;
    struct closer closer;
    struct timer limit;
    const struct step *steps; /* the end: expect.p NULL */
    bool expects_close;
    struct buf received;
    bool was_closed, timed_out, is_ending;
    unsigned n_published, n_bursts, n_sessions, n_ended;
};

static void on_end(void *arg)
{
    struct talk *talk = arg;

    loop_stop(talk->loop);
}

static void end(struct talk *talk)
{
    if (talk->is_ending)
        return;
    talk->is_ending = true;
    timer_stop(&talk->limit);
    closer_begin(&talk->closer, talk->loop, on_end, talk);
    if (!talk->was_closed) {
        closer_hold(&talk->closer);
        stream_close(talk->stream, true);
    }
    server_close(talk->server, &talk->closer);
    closer_end(&talk->closer);
}

static void on_limit(void *arg)
{
    struct talk *talk = arg;

    talk->timed_out = true;
    end(talk);
}

static void send_step(struct talk *talk)
{
    stream_write(talk->stream, talk->steps->send.p, talk->steps->send.n, true);
}

static void on_open(void *arg)
{
    send_step(arg);
}

static size_t on_read(void *arg, uint8_t *p, size_t n)
{
    struct talk *talk = arg;

    buf_add(&talk->received, p, n);
    if (talk->received.n < talk->steps->expect.n)
        return n;
    assert_int_equal(talk->received.n, talk->steps->expect.n);
    assert_memory_equal(talk->received.p, talk->steps->expect.p, talk->received.n);
    talk->received.n = 0;
    talk->steps++;
    if (talk->steps->expect.p)
        send_step(talk);
    else if (!talk->expects_close)
        end(talk);
    return n;
}

static void on_closed(void *arg, enum err err UNUSED, const struct why *why UNUSED)
{
    struct talk *talk = arg;

    talk->was_closed = true;
    if (talk->is_ending)
        closer_release(&talk->closer);
    else
        end(talk);
}

static uint8_t server_connect(void *arg, struct server_client *client, const struct mqtt_connect_packet *connect,
                              bool *session_present)
{
    struct talk *talk = arg;

    *session_present = false;
    if (str_eq(connect->client_id, STR("bad")))
        return client->version == MQTT_5 ? 0x86 : 5;
    talk->n_sessions++;
    return 0;
}

static uint8_t server_subscribe(void *arg UNUSED, struct server_client *client UNUSED, const struct mqtt_filter *filter)
{
    return str_eq(filter->filter, STR("no")) ? 0x80 : filter->qos > 1 ? 1 : filter->qos;
}

static void server_published(void *arg, struct server_client *client, const struct mqtt_message *message)
{
    struct talk *talk = arg;

    talk->n_published++;
    if (message->qos)
        server_puback(client, message->packet_id, 0);
    if (server_granted(client, message->topic) >= 0)
        server_publish(client, message->topic, str_of(message->payload, message->payload_n), 1);
}

static void server_burst(void *arg, struct server_client *client UNUSED)
{
    struct talk *talk = arg;

    talk->n_bursts++;
}

static void server_ended(void *arg, struct server_client *client UNUSED, bool was_asked UNUSED)
{
    struct talk *talk = arg;

    talk->n_ended++;
}

static void run(struct talk *talk, const struct step *steps, bool expects_close)
{
    static const struct server_events events = {.connect = server_connect,
                                                .subscribe = server_subscribe,
                                                .publish = server_published,
                                                .burst = server_burst,
                                                .closed = server_ended};
    static const struct stream_events client = {.open = on_open, .read = on_read, .closed = on_closed};
    struct server_conf conf = {.host = "127.0.0.1", .max_remaining = 1000, .ids_through_0 = true};

    *talk = (struct talk){.steps = steps, .expects_close = expects_close};
    assert_int_equal(loop_new(&talk->loop, "test"), ERR_OK);
    assert_int_equal(server_new(&talk->server, talk->loop, &conf, &events, talk, NULL), ERR_OK);
    assert_int_not_equal(server_port(talk->server), 0);
    assert_int_equal(stream_new(&talk->stream, talk->loop, &client, talk), ERR_OK);
    stream_connect(talk->stream, &(struct stream_conf){.host = "127.0.0.1", .port = server_port(talk->server)});
    timer_init(&talk->limit, talk->loop, on_limit, talk);
    timer_start(&talk->limit, 20000);
    loop_run(talk->loop);
    assert_false(talk->timed_out);
    assert_null(talk->steps->expect.p);
    assert_int_equal(talk->was_closed, true);
    assert_int_equal(talk->n_ended, talk->n_sessions);
    stream_free(talk->stream);
    buf_fini(&talk->received);
    loop_free(talk->loop);
}

#define CONNECT_311 "\x10\x0d\0\4MQTT\4\2\0\x3c\0\1a"
#define CONNECT_5 "\x10\x0e\0\4MQTT\5\2\0\x3c\0\0\1a"

static void test_publications_of_one_read_are_acknowledged_in_order(void **state UNUSED)
{
    static const struct step steps[] = {
        {STR(CONNECT_311), STR("\x20\2\0\0")},
        {STR("\x32\6\0\1t\0\1x\x32\6\0\1t\0\2x\x32\6\0\1t\0\3x\x30\4\0\1tx"), STR("\x40\2\0\1\x40\2\0\2\x40\2\0\3")},
        {STR("\xc0\0"), STR("\xd0\0")},
        {{0}, {0}},
    };
    struct talk talk;

    run(&talk, steps, false);
    assert_int_equal(talk.n_published, 4);
    assert_int_equal(talk.n_bursts, 3);
}

static void test_subscriptions_are_granted_refused_and_served(void **state UNUSED)
{
    static const struct step steps[] = {
        {STR(CONNECT_311), STR("\x20\2\0\0")},
        {STR("\x82\x0d\0\7\0\3a/+\2\0\2no\1"), STR("\x90\4\0\7\1\x80")},
        {STR("\x30\6\0\3a/bx"), STR("\x32\x08\0\3a/b\0\1x")},
        {STR("\xa2\7\0\x08\0\3a/+"), STR("\xb0\2\0\x08")},
        {STR("\x30\6\0\3a/bx\xc0\0"), STR("\xd0\0")},
        {{0}, {0}},
    };
    struct talk talk;

    run(&talk, steps, false);
    assert_int_equal(talk.n_published, 2);
}

static void test_malformed_packet_ends_a_version_5_session_with_its_code(void **state UNUSED)
{
    static const struct step publish_without_id[] = {
        {STR(CONNECT_5), STR("\x20\3\0\0\0")},
        {STR("\x32\6\0\1t\0\0\0"), STR("\xe0\1\x81")},
        {{0}, {0}},
    };
    static const struct step wildcard[] = {
        {STR(CONNECT_5), STR("\x20\3\0\0\0")},
        {STR("\x30\4\0\1#\0"), STR("\xe0\1\x81")},
        {{0}, {0}},
    };
    static const struct step too_long[] = {
        {STR(CONNECT_5), STR("\x20\3\0\0\0")},
        {STR("\x30\xe9\7\0\1t\0"), STR("\xe0\1\x81")},
        {{0}, {0}},
    };
    struct talk talk;

    run(&talk, publish_without_id, true);
    assert_int_equal(talk.n_published, 0);
    run(&talk, wildcard, true);
    run(&talk, too_long, true);
}

static void test_refused_login_gets_its_code_and_is_closed(void **state UNUSED)
{
    static const struct step steps[] = {
        {STR("\x10\x0f\0\4MQTT\4\2\0\x3c\0\3bad"), STR("\x20\2\0\5")},
        {{0}, {0}},
    };
    struct talk talk;

    run(&talk, steps, true);
    assert_int_equal(talk.n_sessions, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publications_of_one_read_are_acknowledged_in_order),
        cmocka_unit_test(test_subscriptions_are_granted_refused_and_served),
        cmocka_unit_test(test_malformed_packet_ends_a_version_5_session_with_its_code),
        cmocka_unit_test(test_refused_login_gets_its_code_and_is_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
