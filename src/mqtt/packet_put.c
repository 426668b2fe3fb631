/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT control packets → bytes. Section numbers are those of MQTT Version 5.0 unless a version is named. */
#include "mqtt/packet.h"

#include <assert.h>

static size_t varint_size(size_t v)
{
    return v < 0x80 ? 1 : v < 0x4000 ? 2 : v < 0x200000 ? 3 : 4;
}

static uint8_t *write_varint(uint8_t *p, size_t v)
{
    assert(v <= MQTT_MAX_REMAINING);
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* Fixed header, and room for the whole packet. */
static void put_header(struct buf *out, enum mqtt_type type, unsigned flags, size_t remaining)
{
    uint8_t *p = buf_room(out, remaining + 5);

    p[0] = (uint8_t)(type << 4 | flags);
    out->n = (size_t)(write_varint(p + 1, remaining) - out->p);
}

static void put_varint(struct buf *out, size_t v)
{
    out->n = (size_t)(write_varint(buf_room(out, 4), v) - out->p);
}

static void put_text(struct buf *out, struct str s)
{
    assert(s.n <= 65535);
    buf_add_be16(out, (uint16_t)s.n);
    buf_add_str(out, s);
}

/* --- CONNECT, CONNACK ------------------------------------------------------------------------------------------------- */

enum { DEFAULT_MAX_PACKET = 16 * 1024 * 1024 };

static void put_connect_props(struct buf *out, const struct mqtt_conf *conf)
{
    uint32_t max_packet = conf->max_packet_bytes ? conf->max_packet_bytes : DEFAULT_MAX_PACKET;
    size_t n = 5;

    n += conf->session_expiry_s ? 5 : 0;
    n += conf->receive_maximum ? 3 : 0;
    n += conf->topic_alias_maximum ? 3 : 0;
    put_varint(out, n);
    if (conf->session_expiry_s) {
        buf_add_u8(out, 0x11);
        buf_add_be32(out, conf->session_expiry_s);
    }
    if (conf->receive_maximum) {
        buf_add_u8(out, 0x21);
        buf_add_be16(out, conf->receive_maximum);
    }
    buf_add_u8(out, 0x27);
    buf_add_be32(out, max_packet);
    if (conf->topic_alias_maximum) {
        buf_add_u8(out, 0x22);
        buf_add_be16(out, conf->topic_alias_maximum);
    }
}

void mqtt_put_connect(struct buf *out, const struct mqtt_conf *conf)
{
    autobuf struct buf body = {0};

    put_text(&body, conf->version == MQTT_31 ? STR("MQIsdp") : STR("MQTT"));
    buf_add_u8(&body, (uint8_t)conf->version);
    buf_add_u8(&body,
               (uint8_t)((conf->clean_start ? 2 : 0) | (conf->password.p ? 0x40 : 0) | (conf->username.p ? 0x80 : 0)));
    buf_add_be16(&body, conf->keep_alive_s);
    if (conf->version == MQTT_5)
        put_connect_props(&body, conf);
    put_text(&body, conf->client_id);
    if (conf->username.p)
        put_text(&body, conf->username);
    if (conf->password.p)
        put_text(&body, conf->password);
    put_header(out, MQTT_CONNECT, 0, body.n);
    buf_add(out, body.p, body.n);
}

void mqtt_put_connack(struct buf *out, enum mqtt_version version, bool session_present, uint8_t code,
                      uint16_t receive_maximum, uint32_t max_packet_bytes, struct str assigned_client_id)
{
    size_t n = 0;

    if (version == MQTT_5) {
        n += receive_maximum && receive_maximum != 65535 ? 3 : 0;
        n += max_packet_bytes ? 5 : 0;
        n += assigned_client_id.n ? 3 + assigned_client_id.n : 0;
    }
    put_header(out, MQTT_CONNACK, 0, version == MQTT_5 ? 2 + varint_size(n) + n : 2);
    buf_add_u8(out, version != MQTT_31 && session_present);
    buf_add_u8(out, code);
    if (version != MQTT_5)
        return;
    put_varint(out, n);
    if (receive_maximum && receive_maximum != 65535) {
        buf_add_u8(out, 0x21);
        buf_add_be16(out, receive_maximum);
    }
    if (max_packet_bytes) {
        buf_add_u8(out, 0x27);
        buf_add_be32(out, max_packet_bytes);
    }
    if (assigned_client_id.n) {
        buf_add_u8(out, 0x12);
        put_text(out, assigned_client_id);
    }
}

/* --- PUBLISH and its acknowledgements ------------------------------------------------------------------------------------ */

void mqtt_put_publish_head(struct buf *out, enum mqtt_version version, struct str topic, size_t payload_n, uint8_t qos,
                           unsigned flags, uint16_t packet_id)
{
    size_t head_n = 2 + topic.n + (qos ? 2 : 0) + (version == MQTT_5 ? 1 : 0);
    uint8_t *p = buf_room(out, head_n + 5);

    assert(topic.n <= 65535);
    *p++ = (uint8_t)(MQTT_PUBLISH << 4 | (flags & MQTT_DUP && qos ? 8 : 0) | qos << 1 | (flags & MQTT_RETAIN ? 1 : 0));
    p = write_varint(p, head_n + payload_n);
    *p++ = (uint8_t)(topic.n >> 8);
    *p++ = (uint8_t)topic.n;
    if (topic.n)
        memcpy(p, topic.p, topic.n);
    p += topic.n;
    if (qos) {
        *p++ = (uint8_t)(packet_id >> 8);
        *p++ = (uint8_t)packet_id;
    }
    if (version == MQTT_5)
        *p++ = 0; /* no properties */
    out->n = (size_t)(p - out->p);
}

void mqtt_put_ack(struct buf *out, enum mqtt_version version, enum mqtt_type type, uint16_t packet_id, uint8_t code)
{
    uint8_t *p = buf_room(out, 5);
    bool has_code = version == MQTT_5 && code;

    p[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
    p[1] = has_code ? 3 : 2;
    p[2] = (uint8_t)(packet_id >> 8);
    p[3] = (uint8_t)packet_id;
    p[4] = code;
    out->n += has_code ? 5 : 4;
}

/* --- SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK ----------------------------------------------------------------------------- */

void mqtt_put_subscribe(struct buf *out, enum mqtt_version version, uint16_t packet_id,
                        const struct mqtt_filter *filters, size_t n)
{
    size_t remaining = 2 + (version == MQTT_5 ? 1 : 0);

    for (size_t i = 0; i < n; i++)
        remaining += 2 + filters[i].filter.n + 1;
    put_header(out, MQTT_SUBSCRIBE, 2, remaining);
    buf_add_be16(out, packet_id);
    if (version == MQTT_5)
        buf_add_u8(out, 0);
    for (size_t i = 0; i < n; i++) {
        const struct mqtt_filter *f = &filters[i];
        unsigned options = f->qos;

        if (version == MQTT_5)
            options |= (f->no_local ? 4 : 0) | (f->retain_as_published ? 8 : 0) | (unsigned)f->retain_handling << 4;
        put_text(out, f->filter);
        buf_add_u8(out, (uint8_t)options);
    }
}

void mqtt_put_unsubscribe(struct buf *out, enum mqtt_version version, uint16_t packet_id, const struct str *filters,
                          size_t n)
{
    size_t remaining = 2 + (version == MQTT_5 ? 1 : 0);

    for (size_t i = 0; i < n; i++)
        remaining += 2 + filters[i].n;
    put_header(out, MQTT_UNSUBSCRIBE, 2, remaining);
    buf_add_be16(out, packet_id);
    if (version == MQTT_5)
        buf_add_u8(out, 0);
    for (size_t i = 0; i < n; i++)
        put_text(out, filters[i]);
}

void mqtt_put_suback(struct buf *out, enum mqtt_version version, bool is_unsuback, uint16_t packet_id,
                     const uint8_t *codes, size_t n)
{
    size_t n_codes = is_unsuback && version != MQTT_5 ? 0 : n; /* MQTT 3.1.1, 3.11.3: no payload */

    put_header(out, is_unsuback ? MQTT_UNSUBACK : MQTT_SUBACK, 0, 2 + (version == MQTT_5 ? 1 : 0) + n_codes);
    buf_add_be16(out, packet_id);
    if (version == MQTT_5)
        buf_add_u8(out, 0);
    buf_add(out, codes, n_codes);
}

/* --- PINGREQ, PINGRESP, DISCONNECT ---------------------------------------------------------------------------------------- */

void mqtt_put_simple(struct buf *out, enum mqtt_type type)
{
    put_header(out, type, 0, 0);
}

void mqtt_put_disconnect(struct buf *out, enum mqtt_version version, uint8_t code)
{
    bool has_code = version == MQTT_5 && code; /* 3.14.2.1: without it the code is 0 */

    put_header(out, MQTT_DISCONNECT, 0, has_code ? 1 : 0);
    if (has_code)
        buf_add_u8(out, code);
}
