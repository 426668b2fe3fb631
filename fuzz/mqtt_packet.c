/* SPDX-License-Identifier: Apache-2.0 */
/* Every reader of control packets, on every body; what is understood must survive being written and read again. */
#include "mqtt/packet.h"
#include "fuzz.h"

#include <assert.h>

static const enum mqtt_version versions[] = {MQTT_31, MQTT_311, MQTT_5};

static void connect_again(const struct mqtt_connect_packet *packet)
{
    struct mqtt_conf conf = {
        .version = packet->version,
        .client_id = packet->client_id,
        .username = packet->username,
        .password = packet->password,
        .keep_alive_s = packet->keep_alive_s,
        .clean_start = packet->clean_start,
    };
    struct mqtt_connect_packet got;
    autobuf struct buf out = {0};
    size_t header_n, length;

    mqtt_put_connect(&out, &conf);
    length = mqtt_packet_length(out.p, out.n, &header_n);
    assert(length == out.n);
    if (packet->version == MQTT_31 && packet->password.p && !packet->username.p)
        return; /* the order of what is missing cannot be told */
    assert(mqtt_read_connect(&got, str_of(out.p + header_n, length - header_n), NULL) == ERR_OK);
    assert(str_eq(got.client_id, packet->client_id) && str_eq(got.username, packet->username) &&
           str_eq(got.password, packet->password) && got.keep_alive_s == packet->keep_alive_s);
}

static void publish_again(const struct mqtt_publish_packet *packet, enum mqtt_version version)
{
    const struct mqtt_message *message = &packet->message;
    unsigned flags = (message->retain ? MQTT_RETAIN : 0u) | (message->dup ? MQTT_DUP : 0u);
    struct mqtt_publish_packet got;
    autobuf struct buf out = {0};
    size_t header_n, length;

    if (message->topic.n == 0)
        return;
    mqtt_put_publish_head(&out, version, message->topic, message->payload_n, message->qos, flags, message->packet_id);
    buf_add(&out, message->payload, message->payload_n);
    length = mqtt_packet_length(out.p, out.n, &header_n);
    assert(length == out.n);
    assert(mqtt_read_publish(&got, version, out.p[0], str_of(out.p + header_n, length - header_n), NULL) == ERR_OK);
    assert(str_eq(got.message.topic, message->topic) && got.message.payload_n == message->payload_n &&
           got.message.packet_id == message->packet_id && got.message.retain == message->retain);
}

static void read_body(enum mqtt_version version, uint8_t first, struct str body)
{
    struct mqtt_connect_packet connect;
    struct mqtt_connack connack;
    struct mqtt_publish_packet publish;
    struct mqtt_ack_packet ack;
    struct mqtt_subscribe_reader reader;
    struct mqtt_filter filter;
    struct why why = {0};
    struct str codes;
    uint16_t id;
    uint8_t code;

    if (mqtt_read_connect(&connect, body, &why) == ERR_OK)
        connect_again(&connect);
    (void)(mqtt_read_connack(&connack, version, body, &why) == ERR_OK);
    if (mqtt_read_publish(&publish, version, first, body, &why) == ERR_OK) {
        assert((size_t)(publish.message.payload - (const uint8_t *)body.p) + publish.message.payload_n == body.n);
        publish_again(&publish, version);
    }
    (void)(mqtt_read_ack(&ack, version, body, &why) == ERR_OK);
    for (int is_un = 0; is_un < 2; is_un++) {
        if (mqtt_read_subscribe(&reader, version, is_un, body) == ERR_OK) {
            while (mqtt_next_filter(&reader, &filter))
                assert(filter.filter.n && filter.qos < 3);
        }
        (void)(mqtt_read_suback(&id, &codes, version, is_un, body) == ERR_OK);
    }
    if (mqtt_read_disconnect(&code, body) == ERR_OK)
        (void)mqtt_disconnect_reason(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t header_n = 0, length = mqtt_packet_length(data, size, &header_n);

    assert(header_n >= 2 && header_n <= 5);
    if (length == 0 || length == SIZE_MAX)
        return 0;
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        struct why why = {0};

        (void)(mqtt_check_header(versions[i], data, header_n, &why) == ERR_OK);
        if (length <= size)
            read_body(versions[i], data[0], str_of(data + header_n, length - header_n));
    }
    return 0;
}
