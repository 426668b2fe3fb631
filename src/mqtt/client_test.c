/* SPDX-License-Identifier: Apache-2.0 */
/* The client on a fake stream and a fake clock: each packet, each order of packets, each deadline. */
#include "mqtt/fake_stream.h"
#include "mqtt/mqtt.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- rig ---------------------------------------------------------------------------------------------------------------- */

static struct rig {
    struct loop *loop;
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    struct log log;
    struct mqtt_connack connack;
    unsigned n_connected, n_closed, n_bursts, n_writable;
    enum err err;
    struct why why;
    struct buf events; /* as text: "msg a/b=payload q1 #7;" "ack 3:0;" "sub 1:[0,128];" "burst;" */
    /* what the callbacks do */
    bool ack_at_once, pause_at_message, disconnect_at_message, reconnect_at_closed, free_at_closed;
    uint8_t ack_code;
} rig;

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    assert_ptr_equal(arg, &rig);
    rig.connack = *connack;
    rig.n_connected++;
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    rig.n_closed++;
    rig.err = err;
    rig.why = *why;
    if (rig.reconnect_at_closed) {
        rig.reconnect_at_closed = false;
        mqtt_connect(rig.mqtt, &rig.conf);
    }
    if (rig.free_at_closed) {
        mqtt_free(rig.mqtt);
        rig.mqtt = NULL;
    }
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    (void)arg;
    buf_printf(&rig.events, "msg " STR_FMT "=" STR_FMT " q%d #%d%s%s;", STR_ARG(message->topic),
               STR_ARG(str_of(message->payload, message->payload_n)), message->qos, message->packet_id,
               message->dup ? " dup" : "", message->retain ? " retain" : "");
    if (rig.ack_at_once)
        mqtt_ack(rig.mqtt, message->qos, message->packet_id, rig.ack_code);
    if (rig.pause_at_message)
        mqtt_pause(rig.mqtt);
    if (rig.disconnect_at_message)
        mqtt_disconnect(rig.mqtt, 0);
}

static void on_burst(void *arg)
{
    (void)arg;
    rig.n_bursts++;
}

static void on_acked(void *arg, uint16_t id, uint8_t code)
{
    (void)arg;
    buf_printf(&rig.events, "ack %d:%d;", id, code);
}

static void on_subscribed(void *arg, uint16_t id, const uint8_t *codes, size_t n)
{
    (void)arg;
    buf_printf(&rig.events, "sub %d:", id);
    for (size_t i = 0; i < n; i++)
        buf_printf(&rig.events, "%s%d", i ? "," : "", codes[i]);
    buf_printf(&rig.events, ";");
}

static void on_writable(void *arg)
{
    (void)arg;
    rig.n_writable++;
}

static const struct mqtt_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .message = on_message,
    .burst = on_burst,
    .acked = on_acked,
    .subscribed = on_subscribed,
    .writable = on_writable,
};

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    log_init(&rig.log, "mqtt", LOG_LEVEL_OFF);
    rig.loop = loop_new_fake(1700000000000);
    rig.mqtt = mqtt_new(rig.loop, &rig.log, &events, &rig);
    rig.conf = (struct mqtt_conf){.version = MQTT_5, .client_id = STR("c"), .clean_start = true};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (fake.stream) {
        mqtt_disconnect(rig.mqtt, 0);
        loop_advance(rig.loop, 0);
    }
    mqtt_free(rig.mqtt);
    fake_reset();
    buf_fini(&rig.events);
    log_fini(&rig.log);
    loop_free(rig.loop);
    return 0;
}

static size_t bytes_of(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (const char *p = hex; *p;) {
        if (*p == ' ') {
            p++;
        } else {
            const char digits[3] = {p[0], p[1], 0};

            out[n++] = (uint8_t)strtoul(digits, NULL, 16);
            p += 2;
        }
    }
    return n;
}

static void feed_in(const char *hex, size_t step)
{
    uint8_t bytes[4096];

    fake_feed(bytes, bytes_of(hex, bytes), step);
}

static void feed(const char *hex)
{
    feed_in(hex, 0);
}

/* What the client has written since the last look. */
static void expect_out(const char *hex)
{
    uint8_t bytes[4096];
    size_t n = bytes_of(hex, bytes);

    if (fake.out.n != n || (n && memcmp(fake.out.p, bytes, n) != 0)) {
        autobuf struct buf got = {0};

        for (size_t i = 0; i < fake.out.n; i++)
            buf_printf(&got, "%02x", fake.out.p[i]);
        fail_msg("written: %.*s, not %s", (int)got.n, got.p, hex);
    }
    fake.out.n = 0;
}

static void expect_events(const char *text)
{
    if (!str_eq_z(buf_str(&rig.events), text))
        fail_msg("events: %.*s, not %s", (int)rig.events.n, rig.events.p ? (char *)rig.events.p : "", text);
    rig.events.n = 0;
}

static void expect_closed(enum err err, const char *part)
{
    loop_advance(rig.loop, 0);
    assert_int_equal(rig.n_closed, 1);
    if (rig.err != err)
        fail_msg("closed with %s (%s)", err_name(rig.err), why_text(&rig.why));
    if (str_find(str_from(why_text(&rig.why)), str_from(part), 0) == SIZE_MAX)
        fail_msg("reason \"%s\" without \"%s\"", why_text(&rig.why), part);
    rig.n_closed = 0;
    assert_int_equal(mqtt_window(rig.mqtt), 0);
}

static void connect_with(const char *connack)
{
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_open();
    fake.out.n = 0;
    feed(connack);
    assert_int_equal(rig.n_connected, 1);
    assert_true(mqtt_window(rig.mqtt) > 0);
    rig.n_connected = 0;
}

static void up(enum mqtt_version version)
{
    rig.conf.version = version;
    connect_with(version == MQTT_5 ? "2003000000" : "20020000");
}

static uint16_t publish(const char *topic, const char *payload, uint8_t qos, unsigned flags, uint16_t id)
{
    struct iovec iov = {(void *)(uintptr_t)payload, strlen(payload)};

    assert_int_equal(mqtt_publish(rig.mqtt, str_from(topic), &iov, 1, qos, flags, &id), ERR_OK);
    return id;
}

static enum err try_publish(uint8_t qos, unsigned flags)
{
    uint16_t id = 0;

    return mqtt_publish(rig.mqtt, STR("t"), NULL, 0, qos, flags, &id);
}

/* --- connecting ------------------------------------------------------------------------------------------------------- */

static void test_connack_opens_and_disconnect_closes(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 60;
    mqtt_connect(rig.mqtt, &rig.conf);
    assert_int_equal(rig.n_closed, 0);
    fake_open();
    expect_out("1013 00044d515454 05 02 003c 05 2701000000 000163");
    feed_in("2006000003210014", 1);
    assert_int_equal(rig.n_connected, 1);
    assert_int_equal(rig.connack.receive_maximum, 20);
    assert_int_equal(rig.connack.server_keep_alive_s, 60);
    assert_int_equal(mqtt_window(rig.mqtt), 20);
    mqtt_disconnect(rig.mqtt, 4);
    assert_int_equal(rig.n_closed, 0);
    expect_out("e00104");
    expect_closed(ERR_OK, "");
    assert_int_equal(mqtt_refusal(rig.mqtt), 0);
    assert_null(fake.stream);
}

static void test_refusals_are_told_apart(void **state)
{
    static const struct {
        enum mqtt_version version;
        const char *hex;
        enum err err;
        uint8_t code;
        const char *text;
    } cases[] = {
        {MQTT_311, "20020001", ERR_UNSUPPORTED, 1, "unacceptable protocol version"},
        {MQTT_311, "20020002", ERR_AUTH, 2, "identifier rejected"},
        {MQTT_311, "20020003", ERR_QUOTA, 3, "Server unavailable"},
        {MQTT_311, "20020004", ERR_AUTH, 4, "bad user name"},
        {MQTT_31, "20020005", ERR_AUTH, 5, "not authorized"},
        {MQTT_311, "20020009", ERR_REFUSED, 9, "unknown"},
        {MQTT_5, "2003008400", ERR_UNSUPPORTED, 0x84, "Unsupported Protocol Version"},
        {MQTT_5, "20020001", ERR_UNSUPPORTED, 1, "unacceptable protocol version"},
        {MQTT_5, "2003008500", ERR_AUTH, 0x85, "Client Identifier not valid"},
        {MQTT_5, "2003018600 e00186", ERR_AUTH, 0x86, "Bad User Name or Password"},
        {MQTT_5, "2003008700", ERR_AUTH, 0x87, "Not authorized"},
        {MQTT_5, "2003009700", ERR_QUOTA, 0x97, "Quota exceeded"},
        {MQTT_5, "2003009f00", ERR_QUOTA, 0x9f, "Connection rate exceeded"},
        {MQTT_5, "2003008800", ERR_REFUSED, 0x88, "Server unavailable"},
        {MQTT_5, "2009008706 1f0003 6f6666", ERR_AUTH, 0x87, ": off"},
        {MQTT_5, "e00197", ERR_QUOTA, 0x97, "disconnected: Quota exceeded"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        rig.conf.version = cases[i].version;
        mqtt_connect(rig.mqtt, &rig.conf);
        fake_open();
        feed(cases[i].hex);
        expect_closed(cases[i].err, cases[i].text);
        assert_int_equal(mqtt_refusal(rig.mqtt), cases[i].code);
        assert_int_equal(rig.n_connected, 0);
    }
}

static void test_a_disconnect_of_the_server_is_told_with_its_code(void **state)
{
    (void)state;
    up(MQTT_5);
    feed("e0018e c000");
    expect_out("");
    expect_closed(ERR_CLOSED, "Session taken over (142)");
    assert_int_equal(mqtt_refusal(rig.mqtt), 0x8e);
    up(MQTT_5);
    assert_int_equal(mqtt_refusal(rig.mqtt), 0);
    feed("e000");
    expect_closed(ERR_CLOSED, "Normal disconnection");
}

static void test_a_lost_stream_is_told_with_its_reason(void **state)
{
    (void)state;
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_hang_up(ERR_RESOLVE, "no such host");
    expect_closed(ERR_RESOLVE, "no such host");
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_open();
    fake_hang_up(ERR_CLOSED, "eof");
    expect_closed(ERR_CLOSED, "instead of answering CONNECT");
    up(MQTT_311);
    feed("300500");
    fake_hang_up(ERR_CLOSED, "eof");
    expect_closed(ERR_CLOSED, "eof");
    assert_int_equal(fake.n_made, 3);
}

static void test_closed_comes_once_and_later_whatever_happened(void **state)
{
    (void)state;
    mqtt_connect(rig.mqtt, &rig.conf); /* before the stream is open */
    mqtt_disconnect(rig.mqtt, 0);
    mqtt_disconnect(rig.mqtt, 0);
    assert_int_equal(rig.n_closed, 0);
    expect_closed(ERR_OK, "");
    mqtt_connect(rig.mqtt, &rig.conf); /* before CONNACK */
    fake_open();
    fake.out.n = 0;
    mqtt_disconnect(rig.mqtt, 0);
    expect_out("");
    expect_closed(ERR_OK, "");
    mqtt_disconnect(rig.mqtt, 0); /* idle */
    assert_int_equal(rig.n_closed, 0);
    expect_closed(ERR_OK, "");
    fake.fail_new = true;
    mqtt_connect(rig.mqtt, &rig.conf); /* no stream to be had */
    assert_int_equal(rig.n_closed, 0);
    expect_closed(ERR_LIMIT, "");
}

static void test_within_closed_the_client_may_connect_again_or_be_freed(void **state)
{
    (void)state;
    up(MQTT_5);
    rig.reconnect_at_closed = true;
    fake_hang_up(ERR_CLOSED, "eof");
    assert_non_null(fake.stream);
    fake_open();
    feed("2003000000");
    assert_true(mqtt_window(rig.mqtt) > 0);
    rig.free_at_closed = true;
    fake_hang_up(ERR_CLOSED, "eof");
    assert_null(rig.mqtt);
}

static void test_configurations_that_the_standard_forbids_are_refused(void **state)
{
    (void)state;
    rig.conf.version = MQTT_311;
    rig.conf.password = STR("p");
    mqtt_connect(rig.mqtt, &rig.conf);
    expect_closed(ERR_CONFIG, "user name");
    rig.conf.password = STR_NONE;
    rig.conf.client_id = STR_NONE;
    rig.conf.clean_start = false;
    mqtt_connect(rig.mqtt, &rig.conf);
    expect_closed(ERR_CONFIG, "client id");
    rig.conf.version = (enum mqtt_version)6;
    mqtt_connect(rig.mqtt, &rig.conf);
    expect_closed(ERR_CONFIG, "version 6");
}

static void test_version_3_1_makes_a_client_id_of_at_most_23_characters(void **state)
{
    (void)state;
    rig.conf.version = MQTT_31;
    rig.conf.client_id = STR_NONE;
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_open();
    assert_memory_equal(fake.out.p + 2, "\0\6MQIsdp\3\2", 10);
    assert_in_range(fake.out.p[15], 1, 23);
    assert_int_equal(fake.out.n, 16u + fake.out.p[15]);
}

/* --- receiving ---------------------------------------------------------------------------------------------------------- */

static void test_messages_are_whole_however_the_bytes_are_cut(void **state)
{
    static const size_t steps[] = {0, 1, 2, 3, 5, 7, 11};

    (void)state;
    for (size_t v = 3; v <= 5; v++) {
        for (size_t i = 0; i < COUNT_OF(steps); i++) {
            up((enum mqtt_version)v);
            feed_in(v == 5 ? "3007 0003612f62 00 78 320b 0003612f62 0007 00 796573 d000 3104 000161 00"
                           : "3006 0003612f62 78 320a 0003612f62 0007 796573 d000 3103 000161",
                    steps[i]);
            expect_events("msg a/b=x q0 #0;msg a/b=yes q1 #7;msg a= q0 #0 retain;");
            if (steps[i] == 0)
                assert_int_equal(rig.n_bursts, 1);
            rig.n_bursts = 0;
            expect_out("");
            mqtt_disconnect(rig.mqtt, 0);
            expect_closed(ERR_OK, "");
        }
    }
}

static void test_a_message_is_acknowledged_when_its_user_says_so(void **state)
{
    (void)state;
    up(MQTT_5);
    feed("3206 0001610001 00 3a06 000161 0002 00 3206 000161 0000 00");
    expect_events("msg a= q1 #1;msg a= q1 #2 dup;msg a= q1 #0;");
    expect_out("");
    mqtt_ack(rig.mqtt, 1, 1, 0);
    mqtt_ack(rig.mqtt, 1, 2, 0x83);
    mqtt_ack(rig.mqtt, 1, 0, 0);
    mqtt_ack(rig.mqtt, 0, 9, 0);
    expect_out("40020001 4003000283 40020000");
    fake_hang_up(ERR_CLOSED, "");
    mqtt_ack(rig.mqtt, 1, 1, 0);
    expect_out("");
}

static void test_a_message_of_qos_2_is_given_once(void **state)
{
    (void)state;
    up(MQTT_311);
    feed("3405 000161 0001 3c05 000161 0001");
    expect_events("msg a= q2 #1;");
    expect_out("");
    mqtt_ack(rig.mqtt, 2, 1, 0);
    mqtt_ack(rig.mqtt, 2, 1, 0);
    expect_out("50020001");
    feed("3c05 000161 0001");
    expect_events("");
    expect_out("50020001");
    feed("62020001");
    expect_out("70020001");
    feed("62020001 3405 000161 0001"); /* again: PUBCOMP again, and the identifier is free */
    expect_out("70020001");
    expect_events("msg a= q2 #1;");
}

static void test_a_refused_message_of_qos_2_may_come_again(void **state)
{
    (void)state;
    rig.ack_at_once = true;
    rig.ack_code = 0x83;
    up(MQTT_5);
    feed("3406 000161 0001 00 3406 000161 0001 00");
    expect_events("msg a= q2 #1;msg a= q2 #1;");
    expect_out("5003000183 5003000183");
    feed("62020009");
    expect_out("7003000992"); /* packet identifier not found */
}

static void test_a_resumed_session_gives_again_only_what_was_not_answered(void **state)
{
    (void)state;
    rig.conf.clean_start = false;
    up(MQTT_5);
    feed("3406 000161 0001 00 3406 000162 0002 00");
    mqtt_ack(rig.mqtt, 2, 1, 0);
    fake_hang_up(ERR_CLOSED, "");
    rig.events.n = 0;
    connect_with("2003010000");
    assert_true(rig.connack.session_present);
    feed("3c06 000161 0001 00 3c06 000162 0002 00");
    expect_events("msg b= q2 #2 dup;");
    expect_out("50020001");
    fake_hang_up(ERR_CLOSED, "");
    connect_with("2003000000"); /* the server has forgotten: so do we */
    feed("3406 000163 0001 00");
    expect_events("msg c= q2 #1;");
}

static void test_topic_aliases_are_resolved_and_bounded(void **state)
{
    (void)state;
    rig.conf.topic_alias_maximum = 2;
    up(MQTT_5);
    feed("3009 0003 612f62 03 230001 3008 000178 03 230002 79 3006 0000 03 230001 3007 0000 03 230002 7a");
    expect_events("msg a/b= q0 #0;msg x=y q0 #0;msg a/b= q0 #0;msg x=z q0 #0;");
    feed("300c 0006 6c6f6e676572 03 230001 3006 0000 03 230001");
    expect_events("msg longer= q0 #0;msg longer= q0 #0;");
    feed("3006 0000 03 230003");
    expect_out("e00194");
    expect_closed(ERR_PROTO, "topic alias 3, 2 are allowed");
    connect_with("2003000000"); /* aliases belong to a connection */
    feed("3006 0000 03 230001");
    expect_out("e00182");
    expect_closed(ERR_PROTO, "before it set it");
}

static void test_a_packet_above_the_limit_is_refused_before_it_has_come(void **state)
{
    (void)state;
    rig.conf.max_packet_bytes = 100;
    up(MQTT_5);
    feed("3062 0001 61 00");
    assert_int_equal(rig.n_closed, 0);
    fake_hang_up(ERR_CLOSED, "");
    rig.n_closed = 0;
    up(MQTT_5);
    feed("3063");
    expect_out("e00195");
    expect_closed(ERR_LIMIT, "101 bytes, 100 are allowed");
}

static void test_packets_that_a_server_must_not_send_close_the_link(void **state)
{
    static const struct {
        enum mqtt_version version;
        const char *hex, *text, *out;
    } cases[] = {
        {MQTT_5, "30ffffffff", "length is malformed", "e00181"},
        {MQTT_5, "0000", "type 0", "e00181"},
        {MQTT_5, "3600", "flags 0x6", "e00181"},
        {MQTT_5, "3001 00", "malformed PUBLISH", "e00181"},
        {MQTT_5, "3004 00012b 00", "wildcard", "e00181"},
        {MQTT_5, "3004 000180 00", "not valid UTF-8", "e00181"},
        {MQTT_5, "4001 00", "malformed acknowledgement", "e00181"},
        {MQTT_5, "9001 00", "malformed SUBACK", "e00181"},
        {MQTT_5, "d00100", "malformed PINGRESP", "e00181"},
        {MQTT_5, "2003000000", "second CONNACK", "e00182"},
        {MQTT_5, "c000", "not a server's", "e00182"},
        {MQTT_5, "1000", "not a server's", "e00182"},
        {MQTT_5, "8200", "not a server's", "e00182"},
        {MQTT_5, "f000", "not a server's", "e00182"},
        {MQTT_5, "e0028e05", "malformed DISCONNECT", "e00181"},
        {MQTT_311, "e000", "malformed DISCONNECT", ""},
        {MQTT_311, "f000", "type 15", ""},
        {MQTT_311, "3002 0000", "topic is empty", ""},
        {MQTT_31, "3600", "flags", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        up(cases[i].version);
        feed(cases[i].hex);
        expect_out(cases[i].out);
        expect_closed(ERR_PROTO, cases[i].text);
    }
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_open();
    fake.out.n = 0;
    feed("3003000161");
    expect_out("");
    expect_closed(ERR_PROTO, "before CONNACK");
}

static void test_paused_within_a_message_nothing_further_is_given(void **state)
{
    (void)state;
    rig.pause_at_message = true;
    up(MQTT_311);
    feed("3004 000161 31 3004 000161 32 3004 000161 33");
    expect_events("msg a=1 q0 #0;");
    assert_int_equal(rig.n_bursts, 1);
    assert_int_equal(fake_unread(), 12);
    rig.pause_at_message = false;
    mqtt_resume(rig.mqtt);
    expect_events(""); /* not within mqtt_resume */
    loop_advance(rig.loop, 0);
    expect_events("msg a=2 q0 #0;msg a=3 q0 #0;");
}

static void test_a_pause_outlives_the_connection(void **state)
{
    (void)state;
    up(MQTT_311);
    mqtt_pause(rig.mqtt);
    fake_hang_up(ERR_CLOSED, "");
    connect_with("20020000 3004 000161 31");
    expect_events("");
    mqtt_resume(rig.mqtt);
    loop_advance(rig.loop, 0);
    expect_events("msg a=1 q0 #0;");
}

static void test_after_disconnect_nothing_is_given(void **state)
{
    (void)state;
    rig.disconnect_at_message = true;
    up(MQTT_5);
    feed("3005 000161 00 31 3005 000161 00 32 e000");
    expect_events("msg a=1 q0 #0;");
    expect_out("e000");
    expect_closed(ERR_OK, "");
}

/* --- sending ------------------------------------------------------------------------------------------------------------ */

static void test_publications_have_the_bytes_of_the_standard(void **state)
{
    struct iovec iov[3] = {{"ab", 2}, {"", 0}, {"c", 1}};
    uint64_t before;
    uint16_t id = 7;

    (void)state;
    up(MQTT_5);
    before = mqtt_queued(rig.mqtt);
    assert_int_equal(mqtt_publish(rig.mqtt, STR("t"), iov, 3, 0, MQTT_RETAIN, &id), ERR_OK);
    assert_int_equal(id, 0);
    expect_out("3107 000174 00 616263");
    assert_int_equal(mqtt_queued(rig.mqtt), before + 9);
    assert_int_equal(mqtt_sent(rig.mqtt), before + 9);
    assert_int_equal(publish("t", "x", 1, 0, 0), 1);
    expect_out("3207 000174 0001 00 78");
    assert_int_equal(publish("t", "x", 2, MQTT_DUP, 0), 2);
    expect_out("3c07 000174 0002 00 78");
    fake_hang_up(ERR_CLOSED, "");
    up(MQTT_311);
    assert_int_equal(publish("t", "x", 1, 0, 0), 3);
    expect_out("3206 000174 0003 78");
}

static void test_acknowledgements_come_in_any_order(void **state)
{
    (void)state;
    up(MQTT_5);
    for (int i = 1; i <= 4; i++)
        assert_int_equal(publish("t", "x", 1, 0, 0), i);
    assert_int_equal(mqtt_window(rig.mqtt), 65531);
    feed("40020003 4003000110 4004000299 00");
    expect_events("ack 3:0;ack 1:16;ack 2:153;");
    assert_int_equal(rig.n_bursts, 1);
    feed("40020003 40020000 4002ffff"); /* again, and never sent: no harm */
    expect_events("");
    feed("40020004");
    expect_events("ack 4:0;");
    assert_int_equal(mqtt_window(rig.mqtt), 65535);
}

static void test_qos_2_takes_four_packets(void **state)
{
    (void)state;
    for (size_t v = 3; v <= 5; v++) {
        uint16_t id;
        char hex[64];

        up((enum mqtt_version)v);
        id = publish("t", "x", 2, 0, 0);
        fake.out.n = 0;
        snprintf(hex, sizeof hex, "5002%04x", id);
        feed(hex);
        expect_events("");
        snprintf(hex, sizeof hex, "6202%04x", id);
        expect_out(hex);
        assert_int_equal(mqtt_window(rig.mqtt), 65534);
        snprintf(hex, sizeof hex, "5002%04x", id); /* PUBREC again */
        feed(hex);
        snprintf(hex, sizeof hex, "6202%04x", id);
        expect_out(hex);
        snprintf(hex, sizeof hex, "7002%04x", id);
        feed(hex);
        snprintf(hex, sizeof hex, "ack %d:0;", id);
        expect_events(hex);
        assert_int_equal(mqtt_window(rig.mqtt), 65535);
        mqtt_disconnect(rig.mqtt, 0);
        expect_closed(ERR_OK, "");
        fake.out.n = 0;
    }
}

static void test_qos_2_may_be_refused_or_answered_as_qos_1(void **state)
{
    (void)state;
    up(MQTT_5);
    publish("t", "x", 2, 0, 0);
    publish("t", "x", 2, 0, 0);
    fake.out.n = 0;
    feed("5003000197 40020002");
    expect_events("ack 1:151;ack 2:0;");
    feed("50020009"); /* PUBREC for what is not known */
    expect_out("6203000992");
    assert_int_equal(mqtt_window(rig.mqtt), 65535);
}

static void test_answers_that_do_not_fit_close_the_link(void **state)
{
    static const struct {
        uint8_t qos; /* 3: SUBSCRIBE */
        const char *hex, *text;
    } cases[] = {
        {1, "50020001", "PUBREC for a message of QoS 1"}, {2, "70020001", "PUBCOMP without PUBREC"},
        {2, "50020001 40020001", "PUBACK after PUBREC"},  {3, "40020001", "answered a subscription with PUBACK"},
        {3, "9005 0001 00 0000", "does not fit"},         {3, "b004 0001 00 00", "does not fit"},
        {1, "9004 0001 00 00", "does not fit"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint16_t id;

        up(MQTT_5);
        if (cases[i].qos == 3)
            assert_int_equal(mqtt_subscribe(rig.mqtt, &(struct mqtt_filter){.filter = STR("a")}, 1, &id), ERR_OK);
        else
            id = publish("t", "x", cases[i].qos, 0, 0);
        assert_int_equal(id, 1);
        feed(cases[i].hex);
        expect_closed(ERR_PROTO, cases[i].text);
        mqtt_free(rig.mqtt);
        rig.mqtt = mqtt_new(rig.loop, &rig.log, &events, &rig);
        rig.events.n = 0;
    }
    up(MQTT_5);
    feed("3406 000161 0001 00 62020001");
    expect_closed(ERR_PROTO, "PUBREL before PUBREC");
}

static void test_an_answer_to_bytes_that_have_not_left_closes_the_link(void **state)
{
    (void)state;
    up(MQTT_5);
    fake.hold = true;
    publish("t", "x", 1, 0, 0);
    feed("40020001");
    expect_events("");
    expect_closed(ERR_PROTO, "cannot have received");
    fake.hold = false;
    up(MQTT_5);
    fake.hold = true;
    publish("t", "x", 1, 0, 0);
    fake_release();
    assert_int_equal(rig.n_writable, 1);
    feed("40020002");
    expect_events("ack 2:0;");
}

static void test_the_receive_maximum_of_the_server_is_kept(void **state)
{
    (void)state;
    connect_with("2006 0000 03 210002");
    assert_int_equal(mqtt_window(rig.mqtt), 2);
    publish("t", "x", 1, 0, 0);
    publish("t", "x", 2, 0, 0);
    assert_int_equal(mqtt_window(rig.mqtt), 0);
    assert_int_equal(try_publish(1, 0), ERR_BUSY);
    assert_int_equal(try_publish(0, 0), ERR_OK);
    feed("50020002"); /* PUBREC gives nothing back yet (4.9) */
    assert_int_equal(try_publish(1, 0), ERR_BUSY);
    feed("70020002");
    assert_int_equal(mqtt_window(rig.mqtt), 1);
    assert_int_equal(try_publish(1, 0), ERR_OK);
}

static void test_what_the_server_does_not_offer_is_not_sent(void **state)
{
    (void)state;
    connect_with("2009 0000 06 2401 2500 2a00");
    assert_false(rig.connack.shared_available);
    assert_int_equal(try_publish(2, 0), ERR_UNSUPPORTED);
    assert_int_equal(try_publish(1, MQTT_RETAIN), ERR_UNSUPPORTED);
    assert_int_equal(try_publish(3, 0), ERR_RANGE);
    assert_int_equal(try_publish(1, 0), ERR_OK);
    fake_hang_up(ERR_CLOSED, "");
    assert_int_equal(try_publish(1, 0), ERR_CLOSED);
}

static void test_the_packet_limit_of_the_server_is_kept(void **state)
{
    char payload[20] = {0};
    struct iovec iov = {payload, 14};
    struct mqtt_filter filter = {.filter = STR("aaaaaaaaaaaaaaa")};
    uint16_t id = 0;

    (void)state;
    connect_with("2008 0000 05 2700000014"); /* 20 bytes */
    assert_int_equal(mqtt_publish(rig.mqtt, STR("t"), &iov, 1, 0, 0, &id), ERR_OK);
    assert_int_equal(fake.out.n, 20);
    assert_int_equal(mqtt_publish(rig.mqtt, STR("t"), &iov, 1, 1, 0, &id), ERR_LIMIT);
    iov.iov_len = 15;
    assert_int_equal(mqtt_publish(rig.mqtt, STR("t"), &iov, 1, 0, 0, &id), ERR_LIMIT);
    iov.iov_len = SIZE_MAX / 2; /* beyond what the format can say */
    assert_int_equal(mqtt_publish(rig.mqtt, STR("t"), &iov, 1, 0, 0, &id), ERR_LIMIT);
    assert_int_equal(mqtt_subscribe(rig.mqtt, &filter, 1, &id), ERR_LIMIT);
    assert_int_equal(mqtt_unsubscribe(rig.mqtt, &filter.filter, 1, &id), ERR_LIMIT);
    assert_int_equal(mqtt_window(rig.mqtt), 65535);
}

static void test_wrong_topics_are_not_sent(void **state)
{
    uint16_t id = 0;

    (void)state;
    up(MQTT_5);
    assert_int_equal(mqtt_publish(rig.mqtt, STR("a/+"), NULL, 0, 0, 0, &id), ERR_SYNTAX);
    assert_int_equal(mqtt_publish(rig.mqtt, STR_NONE, NULL, 0, 0, 0, &id), ERR_SYNTAX);
    assert_int_equal(mqtt_subscribe(rig.mqtt, &(struct mqtt_filter){.filter = STR("a#")}, 1, &id), ERR_SYNTAX);
    assert_int_equal(mqtt_subscribe(rig.mqtt, &(struct mqtt_filter){.filter = STR("a"), .qos = 3}, 1, &id), ERR_RANGE);
    assert_int_equal(
        mqtt_subscribe(rig.mqtt, &(struct mqtt_filter){.filter = STR("$share/g/a"), .no_local = true}, 1, &id),
        ERR_USAGE);
    assert_int_equal(mqtt_subscribe(rig.mqtt, NULL, 0, &id), ERR_USAGE);
    assert_int_equal(mqtt_unsubscribe(rig.mqtt, &(struct str){"", 0}, 1, &id), ERR_SYNTAX);
    assert_int_equal(mqtt_unsubscribe(rig.mqtt, NULL, 0, &id), ERR_USAGE);
    expect_out("");
}

static void test_identifiers_in_flight_are_passed_over(void **state)
{
    (void)state;
    up(MQTT_311);
    assert_int_equal(publish("t", "", 1, 0, 0), 1);
    assert_int_equal(publish("t", "", 1, 0, 0), 2);
    feed("40020002");
    for (unsigned i = 3; i <= 65535; i++) {
        uint8_t puback[] = {0x40, 2, (uint8_t)(i >> 8), (uint8_t)i};

        assert_int_equal(publish("t", "", 1, 0, 0) != 1, true);
        fake.out.n = 0;
        if (i != 40000)
            fake_feed(puback, sizeof puback, 0);
    }
    rig.events.n = 0;
    for (unsigned n = 0; n < 140000; n++) { /* twice around: 1 and what is stuck never come */
        uint16_t id = publish("t", "", 1, 0, 0);
        uint8_t puback[] = {0x40, 2, (uint8_t)(id >> 8), (uint8_t)id};

        assert_true(id != 0 && id != 1 && id != 40000);
        fake.out.n = 0;
        fake_feed(puback, sizeof puback, 0);
        rig.events.n = 0;
    }
    feed("40020001");
    expect_events("ack 1:0;");
}

static void test_all_identifiers_may_be_in_flight(void **state)
{
    (void)state;
    up(MQTT_311);
    for (unsigned i = 1; i <= 65535; i++)
        publish("t", "", 1, 0, 0);
    assert_int_equal(mqtt_window(rig.mqtt), 0);
    assert_int_equal(try_publish(1, 0), ERR_BUSY);
    uint16_t id;
    assert_int_equal(mqtt_subscribe(rig.mqtt, &(struct mqtt_filter){.filter = STR("a")}, 1, &id), ERR_BUSY);
    feed("40027777");
    assert_int_equal(publish("t", "", 1, 0, 0), 0x7777);
}

static void test_subscriptions_are_answered_by_filter(void **state)
{
    static const struct mqtt_filter filters[] = {
        {.filter = {"a/+", 3}, .qos = 1, .no_local = true},
        {.filter = {"$share/g/b", 10}, .qos = 2},
    };
    uint16_t id = 0;

    (void)state;
    up(MQTT_5);
    assert_int_equal(mqtt_subscribe(rig.mqtt, filters, 2, &id), ERR_OK);
    expect_out("8216 0001 00 0003612f2b 05 000a 2473686172652f672f62 02");
    feed("9005 0001 00 0187");
    expect_events("sub 1:1,135;");
    assert_int_equal(mqtt_unsubscribe(rig.mqtt, &filters[0].filter, 1, &id), ERR_OK);
    expect_out("a208 0002 00 0003612f2b");
    feed("b004 0002 00 11");
    expect_events("sub 2:17;");
    feed("b004 0002 00 11"); /* again */
    expect_events("");
    mqtt_disconnect(rig.mqtt, 0);
    expect_closed(ERR_OK, "");
    fake.out.n = 0;
    up(MQTT_311);
    assert_int_equal(mqtt_subscribe(rig.mqtt, filters, 2, &id), ERR_OK);
    expect_out("8215 0003 0003612f2b 01 000a 2473686172652f672f62 02");
    feed("9004 0003 0180");
    expect_events("sub 3:1,128;");
    assert_int_equal(mqtt_unsubscribe(rig.mqtt, &filters[0].filter, 1, &id), ERR_OK);
    feed("b002 0004");
    expect_events("sub 4:;");
}

/* --- resumed sessions ------------------------------------------------------------------------------------------------------ */

static void test_a_resumed_session_goes_on_with_qos_2_where_it_was(void **state)
{
    (void)state;
    rig.conf.clean_start = false;
    up(MQTT_5);
    publish("t", "1", 2, 0, 0); /* will have PUBREC */
    publish("t", "2", 2, 0, 0); /* not */
    publish("t", "3", 1, 0, 0);
    feed("50020001");
    fake_hang_up(ERR_CLOSED, "");
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_open();
    fake.out.n = 0;
    feed("2003010000");
    expect_out("62020001"); /* MQTT-4.4.0-1 */
    assert_int_equal(publish("t", "1", 2, MQTT_DUP | MQTT_SAME_ID, 1), 1);
    expect_out("");
    assert_int_equal(publish("t", "2", 2, MQTT_DUP | MQTT_SAME_ID, 2), 2);
    expect_out("3c07 000174 0002 00 32");
    assert_int_equal(publish("t", "3", 1, MQTT_DUP | MQTT_SAME_ID, 3), 3);
    expect_out("3a07 000174 0003 00 33");
    assert_int_equal(try_publish(1, MQTT_SAME_ID), ERR_OK); /* 0: none yet */
    uint16_t id = 3;
    assert_int_equal(mqtt_publish(rig.mqtt, STR("t"), NULL, 0, 1, MQTT_SAME_ID, &id), ERR_EXISTS);
    assert_int_equal(mqtt_window(rig.mqtt), 65531);
    feed("70020001 50020002 70020002 40020003");
    expect_events("ack 1:0;ack 2:0;ack 3:0;");
    assert_int_equal(mqtt_window(rig.mqtt), 65534);
}

static void test_what_nobody_publishes_again_is_released_in_the_end(void **state)
{
    (void)state;
    rig.conf.clean_start = false;
    up(MQTT_5);
    publish("t", "1", 2, 0, 0);
    publish("t", "2", 2, 0, 0);
    feed("50020001");
    fake_hang_up(ERR_CLOSED, "");
    connect_with("2003010000");
    expect_out("62020001");
    feed("70020001"); /* nobody waits for it */
    expect_events("");
    assert_int_equal(publish("t", "2", 2, 0, 0), 3); /* as a new one, not on an identifier the server may know */
    feed("50020002");                                /* a late PUBREC of the former connection: released */
    expect_out("3407 000174 0003 00 32 62020002");
    fake_hang_up(ERR_CLOSED, "");
    connect_with("2003010000");
    expect_out("62020002");
    feed("7003000292");
    expect_events("");
    fake_hang_up(ERR_CLOSED, "");
    connect_with("2003000000"); /* session lost: all identifiers are free */
    assert_int_equal(publish("t", "x", 2, MQTT_SAME_ID, 3), 3);
}

/* --- deadlines -------------------------------------------------------------------------------------------------------------- */

static void test_no_connack_in_time_closes(void **state)
{
    (void)state;
    mqtt_connect(rig.mqtt, &rig.conf);
    loop_advance(rig.loop, 60000); /* opening is the stream's to bound */
    fake_open();
    loop_advance(rig.loop, 9000);
    assert_int_equal(rig.n_closed, 0);
    loop_advance(rig.loop, 2000);
    expect_closed(ERR_TIMEOUT, "no CONNACK");
    rig.conf.stream.timeout_ms = 500;
    mqtt_connect(rig.mqtt, &rig.conf);
    fake_open();
    loop_advance(rig.loop, 500);
    expect_closed(ERR_TIMEOUT, "no CONNACK within 500 ms");
}

static void test_a_silent_link_is_pinged_within_the_keep_alive(void **state)
{
    static const uint16_t keep_alives[] = {1, 2, 5, 10, 60, 300, 65535};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(keep_alives); i++) {
        uint64_t k = keep_alives[i] * 1000ull;

        rig.conf.keep_alive_s = keep_alives[i];
        rig.conf.ping_timeout_ms = 10000000;
        loop_advance(rig.loop, 137);
        up(MQTT_5);
        for (uint64_t last = loop_mono_ms(rig.loop), end = last + 20 * k; loop_mono_ms(rig.loop) < end;) {
            loop_advance(rig.loop, k / 20);
            if (fake.out.n) {
                assert_in_range(loop_mono_ms(rig.loop) - last, k / 2, k);
                last = loop_mono_ms(rig.loop);
                expect_out("c000");
                feed("d000");
            }
            assert_in_range(loop_mono_ms(rig.loop) - last, 0, k);
        }
        assert_int_equal(rig.n_closed, 0);
        fake_hang_up(ERR_CLOSED, "");
        rig.n_closed = 0;
    }
}

static void test_keep_alive_may_be_off_or_the_servers(void **state)
{
    (void)state;
    up(MQTT_5);
    loop_advance(rig.loop, 100000000);
    expect_out("");
    fake_hang_up(ERR_CLOSED, "");
    rig.conf.keep_alive_s = 600;
    connect_with("2006 0000 03 130005");
    assert_int_equal(rig.connack.server_keep_alive_s, 5);
    loop_advance(rig.loop, 5000);
    expect_out("c000");
    fake_hang_up(ERR_CLOSED, "");
    connect_with("2006 0000 03 130000");
    loop_advance(rig.loop, 100000000);
    expect_out("");
}

static void test_no_answer_to_a_ping_closes(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 60;
    up(MQTT_5);
    loop_advance(rig.loop, 60000);
    expect_out("c000");
    loop_advance(rig.loop, 3900);
    assert_int_equal(rig.n_closed, 0);
    loop_advance(rig.loop, 2000);
    expect_out(""); /* no DISCONNECT into the void */
    expect_closed(ERR_TIMEOUT, "no PINGRESP within 5000 ms");
}

static void test_a_keep_alive_shorter_than_the_deadline_of_a_ping_closes_too(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 3;
    up(MQTT_311);
    loop_advance(rig.loop, 3000);
    expect_out("c000");
    loop_advance(rig.loop, 4000);
    assert_int_equal(rig.n_closed, 0);
    loop_advance(rig.loop, 2000);
    expect_closed(ERR_TIMEOUT, "no PINGRESP");
}

static void test_whatever_comes_after_a_ping_shows_life(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 10;
    rig.conf.ping_timeout_ms = 2000;
    up(MQTT_311);
    loop_advance(rig.loop, 10000);
    expect_out("c000");
    for (int i = 0; i < 3; i++) {
        feed("3003 000161");
        loop_advance(rig.loop, 1500);
    }
    assert_int_equal(rig.n_closed, 0);
    loop_advance(rig.loop, 2000);
    expect_closed(ERR_TIMEOUT, "no PINGRESP");
}

static void test_a_server_that_only_listens_is_pinged_too(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 10;
    up(MQTT_311);
    for (int i = 0; i < 10; i++) {
        publish("t", "x", 0, 0, 0);
        loop_advance(rig.loop, 1000);
    }
    assert_true(str_find(buf_str(&fake.out), str_of("\xc0\x00", 2), 0) != SIZE_MAX);
}

static void test_a_late_answer_makes_a_ping(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 120;
    rig.conf.ack_timeout_ms = 10000;
    up(MQTT_5);
    publish("t", "x", 1, 0, 0);
    fake.out.n = 0;
    loop_advance(rig.loop, 9000);
    publish("t", "x", 1, 0, 0); /* younger ones change nothing */
    fake.out.n = 0;
    loop_advance(rig.loop, 2000);
    expect_out("c000");
    feed("d000");
    loop_advance(rig.loop, 5000); /* alive, but still without an answer: not a ping a second */
    expect_out("");
    loop_advance(rig.loop, 7000);
    expect_out("c000");
    feed("d000 40020001 40020002");
    loop_advance(rig.loop, 50000);
    expect_out("");
    uint16_t id;
    assert_int_equal(mqtt_subscribe(rig.mqtt, &(struct mqtt_filter){.filter = STR("a")}, 1, &id), ERR_OK);
    fake.out.n = 0;
    loop_advance(rig.loop, 11000);
    expect_out("c000");
    loop_advance(rig.loop, 6000);
    expect_closed(ERR_TIMEOUT, "no PINGRESP");
}

static void test_silence_is_noticed_after_both_times_and_no_more(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 120;
    rig.conf.ack_timeout_ms = 10000;
    up(MQTT_5);
    loop_advance(rig.loop, 301); /* not at a whole second */
    publish("t", "x", 1, 0, 0);
    fake.out.n = 0;
    loop_advance(rig.loop, 9999);
    expect_out("");
    loop_advance(rig.loop, 1);
    expect_out("c000");
    loop_advance(rig.loop, 4999);
    assert_int_equal(rig.n_closed, 0);
    loop_advance(rig.loop, 1);
    expect_closed(ERR_TIMEOUT, "no PINGRESP");
}

static void test_a_paused_link_is_not_judged_but_kept_alive(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 10;
    rig.conf.ack_timeout_ms = 5000;
    up(MQTT_5);
    publish("t", "x", 1, 0, 0);
    fake.out.n = 0;
    mqtt_pause(rig.mqtt);
    loop_advance(rig.loop, 60000);
    assert_int_equal(rig.n_closed, 0);
    assert_in_range(fake.out.n, 10, 16); /* a ping each keep-alive */
    fake.out.n = 0;
    mqtt_resume(rig.mqtt);
    loop_advance(rig.loop, 4000); /* the answer has its time again */
    assert_int_equal(rig.n_closed, 0);
    feed("d000");
    loop_advance(rig.loop, 2500);
    assert_int_equal(rig.n_closed, 0);
}

static void test_a_ping_behind_a_long_queue_has_its_time(void **state)
{
    (void)state;
    rig.conf.keep_alive_s = 60;
    rig.conf.ack_timeout_ms = 10000;
    up(MQTT_5);
    fake.hold = true;
    publish("t", "x", 1, 0, 0);
    loop_advance(rig.loop, 11000); /* the ping waits behind the publication */
    fake_release();                /* something leaves */
    fake.hold = true;
    loop_advance(rig.loop, 4000);
    assert_int_equal(rig.n_closed, 0);
    feed("d000");
    feed("40020001");
    expect_events("ack 1:0;");
    publish("t", "x", 1, 0, 0); /* nothing leaves and nothing comes: dead */
    loop_advance(rig.loop, 30000);
    expect_closed(ERR_TIMEOUT, "no PINGRESP");
}

static void test_an_idle_link_wakes_up_only_to_ping(void **state)
{
    struct loop_stats before;

    (void)state;
    rig.conf.keep_alive_s = 60;
    rig.conf.ack_timeout_ms = 10000;
    rig.conf.ping_timeout_ms = 30000;
    up(MQTT_5);
    before = loop_stats(rig.loop);
    for (int i = 0; i < 10; i++) {
        loop_advance(rig.loop, 60000);
        feed("d000");
    }
    assert_in_range(fake.out.n, 18, 22);
    assert_in_range(loop_stats(rig.loop).n_turns - before.n_turns, 0, 100);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_connack_opens_and_disconnect_closes),
        T(test_refusals_are_told_apart),
        T(test_a_disconnect_of_the_server_is_told_with_its_code),
        T(test_a_lost_stream_is_told_with_its_reason),
        T(test_closed_comes_once_and_later_whatever_happened),
        T(test_within_closed_the_client_may_connect_again_or_be_freed),
        T(test_configurations_that_the_standard_forbids_are_refused),
        T(test_version_3_1_makes_a_client_id_of_at_most_23_characters),
        T(test_messages_are_whole_however_the_bytes_are_cut),
        T(test_a_message_is_acknowledged_when_its_user_says_so),
        T(test_a_message_of_qos_2_is_given_once),
        T(test_a_refused_message_of_qos_2_may_come_again),
        T(test_a_resumed_session_gives_again_only_what_was_not_answered),
        T(test_topic_aliases_are_resolved_and_bounded),
        T(test_a_packet_above_the_limit_is_refused_before_it_has_come),
        T(test_packets_that_a_server_must_not_send_close_the_link),
        T(test_paused_within_a_message_nothing_further_is_given),
        T(test_a_pause_outlives_the_connection),
        T(test_after_disconnect_nothing_is_given),
        T(test_publications_have_the_bytes_of_the_standard),
        T(test_acknowledgements_come_in_any_order),
        T(test_qos_2_takes_four_packets),
        T(test_qos_2_may_be_refused_or_answered_as_qos_1),
        T(test_answers_that_do_not_fit_close_the_link),
        T(test_an_answer_to_bytes_that_have_not_left_closes_the_link),
        T(test_the_receive_maximum_of_the_server_is_kept),
        T(test_what_the_server_does_not_offer_is_not_sent),
        T(test_the_packet_limit_of_the_server_is_kept),
        T(test_wrong_topics_are_not_sent),
        T(test_identifiers_in_flight_are_passed_over),
        T(test_all_identifiers_may_be_in_flight),
        T(test_subscriptions_are_answered_by_filter),
        T(test_a_resumed_session_goes_on_with_qos_2_where_it_was),
        T(test_what_nobody_publishes_again_is_released_in_the_end),
        T(test_no_connack_in_time_closes),
        T(test_a_silent_link_is_pinged_within_the_keep_alive),
        T(test_keep_alive_may_be_off_or_the_servers),
        T(test_no_answer_to_a_ping_closes),
        T(test_a_keep_alive_shorter_than_the_deadline_of_a_ping_closes_too),
        T(test_whatever_comes_after_a_ping_shows_life),
        T(test_a_server_that_only_listens_is_pinged_too),
        T(test_a_late_answer_makes_a_ping),
        T(test_silence_is_noticed_after_both_times_and_no_more),
        T(test_a_paused_link_is_not_judged_but_kept_alive),
        T(test_a_ping_behind_a_long_queue_has_its_time),
        T(test_an_idle_link_wakes_up_only_to_ping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
