/* SPDX-License-Identifier: Apache-2.0 */
/* The client on real sockets, against a server that says what the test wants, as slowly as it wants. */
#include "mqtt/packet.h"

#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LARGE = 4 * 1024 * 1024 };

static struct rig {
    struct loop *loop;
    struct log log;
    /* the server */
    struct listener *listener;
    struct stream *stream;
    struct buf heard;  /* what the client said, fixed headers and bodies */
    struct buf to_say; /* after CONNECT has come */
    size_t said, step; /* step 0: all at once, else so many bytes a turn */
    struct timer next, guard;
    struct closer closer;
    size_t n_reads, hang_up_at; /* hang_up_at: after so many bytes said; SIZE_MAX: never */
    bool is_mute, is_slow, answers_publish;
    /* the client */
    struct mqtt *mqtt;
    struct mqtt_conf conf;
    unsigned n_messages, n_acked, n_bursts, n_closed;
    size_t n_expected; /* disconnects after so many messages */
    enum err err;
    uint8_t *large;
} rig;

/* --- the server -------------------------------------------------------------------------------------------------------- */

static void say_next(void *arg)
{
    size_t n = rig.to_say.n - rig.said;

    (void)arg;
    if (!rig.stream)
        return;
    if (rig.said >= rig.hang_up_at) {
        stream_close(rig.stream, true);
        return;
    }
    if (n == 0)
        return;
    if (rig.step && rig.step < n)
        n = rig.step;
    stream_write(rig.stream, rig.to_say.p + rig.said, n, true);
    rig.said += n;
    timer_start(&rig.next, 0);
}

static void answer_publish(void)
{
    size_t header_n, length;

    while ((length = mqtt_packet_length(rig.heard.p, rig.heard.n, &header_n)) != 0 && length <= rig.heard.n) {
        if (rig.heard.p[0] >> 4 == MQTT_PUBLISH) {
            struct mqtt_publish_packet packet;
            uint8_t puback[4] = {0x40, 2};

            assert_int_equal(mqtt_read_publish(&packet, MQTT_5, rig.heard.p[0],
                                               str_of(rig.heard.p + header_n, length - header_n), NULL),
                             ERR_OK);
            assert_int_equal(packet.message.payload_n, LARGE);
            assert_memory_equal(packet.message.payload, rig.large, LARGE);
            puback[2] = (uint8_t)(packet.message.packet_id >> 8);
            puback[3] = (uint8_t)packet.message.packet_id;
            stream_write(rig.stream, puback, 4, true);
        }
        buf_drop(&rig.heard, length);
    }
}

static void server_resume(void *arg)
{
    (void)arg;
    if (rig.stream)
        stream_resume(rig.stream);
}

static size_t server_read(void *arg, uint8_t *p, size_t n)
{
    (void)arg;
    rig.n_reads++;
    buf_add(&rig.heard, p, n);
    if (rig.answers_publish)
        answer_publish();
    if (rig.said == 0 && !rig.is_mute)
        say_next(NULL);
    if (rig.is_slow) {
        stream_pause(rig.stream);
        timer_init(&rig.guard, rig.loop, server_resume, NULL);
        timer_start(&rig.guard, 1);
    }
    return n;
}

static void stop(void *arg)
{
    loop_stop(arg);
}

static void end(void)
{
    if (rig.listener && !rig.stream && rig.n_closed) {
        closer_begin(&rig.closer, rig.loop, stop, rig.loop);
        listener_close(rig.listener, &rig.closer);
        rig.listener = NULL;
        closer_end(&rig.closer);
    }
}

static void server_open(void *arg)
{
    (void)arg;
}

static void server_closed(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    (void)err;
    (void)why;
    timer_stop(&rig.next);
    timer_stop(&rig.guard);
    stream_free(rig.stream);
    rig.stream = NULL;
    end();
}

static const struct stream_events server_events = {.open = server_open, .read = server_read, .closed = server_closed};

static void on_accepted(void *arg, struct stream *stream)
{
    (void)arg;
    rig.stream = stream;
    stream_accept(stream, &server_events, NULL);
}

/* --- the client's user --------------------------------------------------------------------------------------------------- */

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    (void)arg;
    (void)connack;
    if (rig.answers_publish) {
        struct iovec iov[3] = {
            {rig.large, 10}, {rig.large + 10, LARGE / 2}, {rig.large + 10 + LARGE / 2, LARGE / 2 - 10}};
        uint16_t id;

        for (int i = 0; i < 2; i++)
            assert_int_equal(mqtt_publish(rig.mqtt, STR("large"), iov, 3, 1, 0, &id), ERR_OK);
    }
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    (void)why;
    rig.err = err;
    rig.n_closed++;
    end();
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    (void)arg;
    rig.n_messages++;
    mqtt_ack(rig.mqtt, message->qos, message->packet_id, 0);
    if (rig.n_messages == rig.n_expected)
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
    (void)id;
    (void)code;
    if (++rig.n_acked == 2) {
        memset(rig.large, 0, LARGE);
        mqtt_disconnect(rig.mqtt, 0);
    }
}

static const struct mqtt_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .message = on_message,
    .burst = on_burst,
    .acked = on_acked,
};

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    log_init(&rig.log, "mqtt", LOG_LEVEL_OFF);
    rig.hang_up_at = SIZE_MAX;
    rig.conf = (struct mqtt_conf){
        .stream = {.host = "127.0.0.1"}, .version = MQTT_5, .client_id = STR("c"), .clean_start = true};
    if (loop_new(&rig.loop, "test"))
        return -1;
    timer_init(&rig.next, rig.loop, say_next, NULL);
    rig.mqtt = mqtt_new(rig.loop, &rig.log, &events, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mqtt_free(rig.mqtt);
    loop_free(rig.loop);
    buf_fini(&rig.heard);
    buf_fini(&rig.to_say);
    mem_free(rig.large);
    log_fini(&rig.log);
    return 0;
}

static void run(void)
{
    const struct listener_conf conf = {.host = "127.0.0.1"};

    assert_int_equal(listener_new(&rig.listener, rig.loop, &conf, on_accepted, NULL, NULL), ERR_OK);
    rig.conf.stream.port = listener_port(rig.listener);
    mqtt_connect(rig.mqtt, &rig.conf);
    loop_run(rig.loop);
    assert_int_equal(rig.n_closed, 1);
}

static void say_messages(unsigned n, uint8_t qos)
{
    mqtt_put_connack(&rig.to_say, MQTT_5, false, 0, 0, 0, STR_NONE);
    for (unsigned i = 1; i <= n; i++) {
        mqtt_put_publish_head(&rig.to_say, MQTT_5, STR("a/b"), 20, qos, 0, (uint16_t)i);
        buf_add(&rig.to_say, "01234567890123456789", 20);
    }
}

static void test_bytes_that_come_one_by_one_make_whole_messages(void **state)
{
    (void)state;
    say_messages(10, 1);
    rig.step = 1;
    rig.n_expected = 10;
    run();
    assert_int_equal(rig.err, ERR_OK);
    assert_int_equal(rig.n_messages, 10);
    assert_memory_equal(rig.heard.p + rig.heard.n - 6, "\x40\x02\x00\x0a\xe0\x00", 6);
}

static void test_acknowledgements_of_a_burst_leave_together(void **state)
{
    (void)state;
    say_messages(1000, 1);
    rig.n_expected = 1000;
    run();
    assert_int_equal(rig.err, ERR_OK);
    assert_int_equal(rig.n_messages, 1000);
    assert_in_range(rig.n_bursts, 1, 8);
    assert_in_range(rig.n_reads, 2, 10); /* CONNECT, and the 4000 bytes of PUBACK a burst at a time */
    assert_memory_equal(rig.heard.p + rig.heard.n - 6, "\x40\x02\x03\xe8\xe0\x00", 6);
}

static void test_a_server_that_hangs_up_within_a_packet_is_an_end_like_others(void **state)
{
    (void)state;
    say_messages(2, 0);
    rig.to_say.n -= 7;
    rig.hang_up_at = rig.to_say.n;
    run();
    assert_int_equal(rig.err, ERR_CLOSED);
    assert_int_equal(rig.n_messages, 1);
}

static void test_a_server_that_never_answers_is_left(void **state)
{
    (void)state;
    rig.is_mute = true;
    rig.conf.stream.timeout_ms = 50;
    run();
    assert_int_equal(rig.err, ERR_TIMEOUT);
}

static void test_large_payloads_leave_from_where_they_are(void **state)
{
    (void)state;
    rig.large = mem_new(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        rig.large[i] = (uint8_t)(i * 2654435761u >> 13);
    say_messages(0, 0);
    rig.answers_publish = rig.is_slow = true;
    run();
    assert_int_equal(rig.err, ERR_OK);
    assert_int_equal(rig.n_acked, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_bytes_that_come_one_by_one_make_whole_messages),
        T(test_acknowledgements_of_a_burst_leave_together),
        T(test_a_server_that_hangs_up_within_a_packet_is_an_end_like_others),
        T(test_a_server_that_never_answers_is_left),
        T(test_large_payloads_leave_from_where_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
