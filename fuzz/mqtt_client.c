/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client against a server that says anything. The first four bytes choose version, what its user does, and how the rest is
 * cut; the rest is what the server says. Things are in flight when it begins.
 */
#include "mqtt/fake_stream.h"
#include "mqtt/mqtt.h"

#include "base/log.h"
#include "fuzz.h"

#include <assert.h>

enum { ACK = 1, PAUSE = 2, PUBLISH = 4, DISCONNECT = 8, HOLD = 16, CLEAN = 32, IDLE = 64, AGAIN = 128 };

static struct mqtt *mqtt;
static unsigned what, n_calls, n_open;

static void publish(void)
{
    struct iovec iov = {"0123456789", 10};
    uint16_t id = 0;

    if (mqtt_publish(mqtt, STR("t"), &iov, 1, (uint8_t)(n_calls % 3), n_calls % 4, &id) == ERR_OK && id)
        n_open++;
}

static void on_connected(void *arg, const struct mqtt_connack *connack)
{
    struct mqtt_filter filters[] = {{.filter = STR("a/+"), .qos = 1}, {.filter = STR("#")}};
    uint16_t id = 0;

    (void)arg;
    assert(connack->code == 0 && connack->receive_maximum > 0 && connack->max_qos <= 2);
    (void)(mqtt_subscribe(mqtt, filters, 2, &id) == ERR_OK);
    (void)(mqtt_unsubscribe(mqtt, &filters[0].filter, 1, &id) == ERR_OK);
    for (n_calls = 0; n_calls < 6; n_calls++)
        publish();
}

static void on_closed(void *arg, enum err err, const struct why *why)
{
    (void)arg;
    (void)err;
    assert(why);
    n_open = 0;
}

static void on_message(void *arg, const struct mqtt_message *message)
{
    (void)arg;
    assert(message->topic.n && message->qos < 3 && fake.stream);
    n_calls++;
    if (what & ACK)
        mqtt_ack(mqtt, message->qos, message->packet_id, n_calls % 7 ? 0 : 0x80);
    if ((what & PUBLISH) && n_calls % 3 == 0)
        publish();
    if ((what & PAUSE) && n_calls % 5 == 0)
        mqtt_pause(mqtt);
    if ((what & DISCONNECT) && n_calls % 11 == 0)
        mqtt_disconnect(mqtt, 0);
}

static void on_acked(void *arg, uint16_t id, uint8_t code)
{
    (void)arg;
    (void)code;
    assert(id != 0 && n_open > 0 && !fake.hold);
    n_open--;
}

static void on_subscribed(void *arg, uint16_t id, const uint8_t *codes, size_t n)
{
    (void)arg;
    (void)codes;
    assert(id != 0 && n <= 2);
}

static const struct mqtt_events events = {
    .connected = on_connected,
    .closed = on_closed,
    .message = on_message,
    .acked = on_acked,
    .subscribed = on_subscribed,
};

static void session(struct loop *loop, const struct mqtt_conf *conf, const uint8_t *data, size_t size, size_t step)
{
    mqtt_connect(mqtt, conf);
    fake_open();
    if (what & HOLD)
        fake.hold = true;
    for (size_t n; size; data += n, size -= n) {
        n = size < 64 ? size : 64;
        fake_feed(data, n, step);
        fake.out.n = 0;
        if (what & IDLE)
            loop_advance(loop, 1500);
        mqtt_resume(mqtt);
        loop_advance(loop, 0);
        if (!fake.stream)
            return;
    }
    fake.hold = false;
    mqtt_disconnect(mqtt, 0);
    loop_advance(loop, 0);
    assert(!fake.stream && mqtt_window(mqtt) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqtt_conf conf = {.client_id = STR("c"), .keep_alive_s = 2, .ack_timeout_ms = 1000};
    struct loop *loop;
    struct log log;

    if (size < 4)
        return 0;
    conf.version = (enum mqtt_version)(3 + data[0] % 3);
    conf.max_packet_bytes = data[0] & 128 ? 64 : 0;
    conf.topic_alias_maximum = data[3] % 5;
    what = data[1];
    conf.clean_start = what & CLEAN;
    log_init(&log, "fuzz", LOG_LEVEL_OFF);
    loop = loop_new_fake(1700000000000);
    mqtt = mqtt_new(loop, &log, &events, NULL);
    session(loop, &conf, data + 4, size - 4, data[2]);
    if (what & AGAIN)
        session(loop, &conf, data + 4, size - 4, 0);
    mqtt_free(mqtt);
    fake_reset();
    loop_free(loop);
    log_fini(&log);
    return 0;
}
