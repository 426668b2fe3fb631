/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets from the server, parsed where the stream has put them: whole ones are handled, of the first that is not there
 * yet the stream is told the length. Any callback may pause or disconnect; then nothing further is handled.
 *
 * QoS 2 from the server, one identifier:
 *
 *      ──PUBLISH──► GIVEN ──mqtt_ack: PUBREC──► ANSWERED ──PUBREL: PUBCOMP──►  (free)
 *                     │                             └─ PUBLISH again: PUBREC, not given again
 *                     └─ connection lost, or refused by mqtt_ack: (free), so that it is given again
 */
#include "mqtt/mqtt_impl.h"

#include <assert.h>
#include <inttypes.h>

enum received2 { RECEIVED_NOT, RECEIVED_GIVEN, RECEIVED_ANSWERED };

static enum received2 received_get(const struct mqtt *mqtt, uint16_t id)
{
    return mqtt->received2 ? (enum received2)(mqtt->received2[id / 4] >> id % 4 * 2 & 3) : RECEIVED_NOT;
}

static void received_set(struct mqtt *mqtt, uint16_t id, enum received2 to)
{
    uint8_t *byte;

    if (!mqtt->received2)
        mqtt->received2 = mem_zero(65536 / 4);
    byte = &mqtt->received2[id / 4];
    *byte = (uint8_t)((*byte & ~(3u << id % 4 * 2)) | (unsigned)to << id % 4 * 2);
}

void mqtt_received_close(struct mqtt *mqtt)
{
    if (!mqtt->received2)
        return;
    for (size_t i = 0; i < 65536 / 4; i++)
        mqtt->received2[i] &= 0xaa; /* given, 01, becomes 00; answered, 10, stays */
    static_assert(RECEIVED_GIVEN == 1 && RECEIVED_ANSWERED == 2, "bits of received2");
}

void mqtt_received_clear(struct mqtt *mqtt)
{
    mem_free(mqtt->received2);
    mqtt->received2 = NULL;
}

/* --- PUBLISH ----------------------------------------------------------------------------------------------------------- */

static bool resolve_alias(struct mqtt *mqtt, struct mqtt_publish_packet *packet)
{
    struct str *topic = &packet->message.topic;
    struct mqtt_alias *alias;

    if (packet->alias > mqtt->conf->topic_alias_maximum) {
        mqtt_fail(mqtt, ERR_PROTO, 0x94, "server used topic alias %u, %u are allowed", packet->alias,
                  mqtt->conf->topic_alias_maximum);
        return false;
    }
    if (!mqtt->aliases)
        mqtt->aliases = mem_zero(mqtt->conf->topic_alias_maximum * sizeof *mqtt->aliases);
    alias = &mqtt->aliases[packet->alias - 1];
    if (topic->n == 0) {
        if (alias->n == 0)
            mqtt_fail(mqtt, ERR_PROTO, 0x82, "server used topic alias %u before it set it", packet->alias);
        *topic = str_of(alias->p, alias->n);
        return alias->n != 0;
    }
    if (alias->cap < topic->n) {
        alias->p = mem_grow(alias->p, topic->n);
        alias->cap = (uint16_t)topic->n;
    }
    memcpy(alias->p, topic->p, topic->n);
    alias->n = (uint16_t)topic->n;
    return true;
}

/* False if the message was given before. */
static bool is_new(struct mqtt *mqtt, uint16_t id)
{
    switch (received_get(mqtt, id)) {
    case RECEIVED_NOT:
        received_set(mqtt, id, RECEIVED_GIVEN);
        return true;
    case RECEIVED_ANSWERED:
        mqtt_write_ack(mqtt, MQTT_PUBREC, id, 0);
        return false;
    case RECEIVED_GIVEN:
        return false;
    }
    return false;
}

static void on_publish(struct mqtt *mqtt, uint8_t first, struct str body)
{
    struct mqtt_publish_packet packet;

    if (mqtt_read_publish(&packet, mqtt->version, first, body, &mqtt->close_why)) {
        mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed PUBLISH");
        return;
    }
    if (packet.alias && !resolve_alias(mqtt, &packet))
        return;
    if (packet.message.qos == 2 && !is_new(mqtt, packet.message.packet_id))
        return;
    mqtt->has_burst = true;
    mqtt->events->message(mqtt->arg, &packet.message);
}

void mqtt_ack(struct mqtt *mqtt, uint8_t qos, uint16_t packet_id, uint8_t code)
{
    loop_assert(mqtt->loop);
    if (mqtt->state != MQTT_UP || qos == 0)
        return;
    if (qos == 1) {
        mqtt_write_ack(mqtt, MQTT_PUBACK, packet_id, code);
        return;
    }
    if (received_get(mqtt, packet_id) != RECEIVED_GIVEN)
        return;
    /* 4.3.3: a PUBREC with an error ends the exchange. */
    received_set(mqtt, packet_id, mqtt->version == MQTT_5 && code >= 0x80 ? RECEIVED_NOT : RECEIVED_ANSWERED);
    mqtt_write_ack(mqtt, MQTT_PUBREC, packet_id, code);
}

/* --- acknowledgements --------------------------------------------------------------------------------------------------- */

static void publication_done(struct mqtt *mqtt, struct flight *flight, uint8_t code)
{
    uint16_t id = flight->id;

    flight_del(&mqtt->flights, flight);
    mqtt->n_publications--;
    mqtt->has_burst = true;
    mqtt->events->acked(mqtt->arg, id, code);
}

/* The publication that an acknowledgement is for. Unknown ones (NULL) do no harm; one for bytes that have not left would
 * let its user reuse them while they are still to be sent. */
static struct flight *publication_of(struct mqtt *mqtt, const char *packet, uint16_t id)
{
    struct flight *flight = flight_get(&mqtt->flights, id);

    if (!flight) {
        LOG_DEBUG(mqtt->log, "answer to nothing", KV_Z("packet", packet), KV_UINT("id", id));
        return NULL;
    }
    if (flight->kind == FLIGHT_SUBSCRIBE || flight->kind == FLIGHT_UNSUBSCRIBE) {
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server answered a subscription with %s", packet);
        return NULL;
    }
    if ((flight->kind == FLIGHT_QOS1 || flight->kind == FLIGHT_QOS2) && stream_sent(mqtt->stream) < flight->end) {
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent %s for a message that it cannot have received", packet);
        return NULL;
    }
    return flight;
}

static void on_puback(struct mqtt *mqtt, const struct mqtt_ack_packet *ack)
{
    struct flight *flight = publication_of(mqtt, "PUBACK", ack->packet_id);

    /* Some servers answer QoS 2 with PUBACK: then it was QoS 1 for them. */
    if (flight && (flight->kind == FLIGHT_QOS1 || flight->kind == FLIGHT_QOS2))
        publication_done(mqtt, flight, ack->code);
    else if (flight && flight->kind == FLIGHT_REL)
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent PUBACK after PUBREC");
}

static void on_pubrec(struct mqtt *mqtt, const struct mqtt_ack_packet *ack)
{
    struct flight *flight = publication_of(mqtt, "PUBREC", ack->packet_id);

    if (mqtt->state != MQTT_UP)
        return;
    if (!flight) {
        if (ack->code < 0x80)
            mqtt_write_ack(mqtt, MQTT_PUBREL, ack->packet_id, 0x92);
        return;
    }
    if (flight->kind == FLIGHT_QOS1) {
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent PUBREC for a message of QoS 1");
        return;
    }
    if (ack->code >= 0x80) { /* 4.3.3: refused, over */
        if (flight->kind == FLIGHT_QOS2 || flight->kind == FLIGHT_REL)
            publication_done(mqtt, flight, ack->code);
        else
            flight_del(&mqtt->flights, flight);
        return;
    }
    if (flight->kind == FLIGHT_QOS2)
        flight->kind = FLIGHT_REL;
    else if (flight->kind == FLIGHT_STALE)
        flight->kind = FLIGHT_ORPHAN;
    flight->since_ms = (uint32_t)loop_mono_ms(mqtt->loop);
    mqtt_write_ack(mqtt, MQTT_PUBREL, ack->packet_id, 0);
}

static void on_pubcomp(struct mqtt *mqtt, const struct mqtt_ack_packet *ack)
{
    struct flight *flight = publication_of(mqtt, "PUBCOMP", ack->packet_id);

    if (!flight)
        return;
    if (flight->kind == FLIGHT_REL)
        publication_done(mqtt, flight, 0); /* 0x92 too: the server has forgotten it, so it had it */
    else if (flight->kind == FLIGHT_ORPHAN)
        flight_del(&mqtt->flights, flight);
    else
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent PUBCOMP without PUBREC");
}

static void on_pubrel(struct mqtt *mqtt, const struct mqtt_ack_packet *ack)
{
    switch (received_get(mqtt, ack->packet_id)) {
    case RECEIVED_ANSWERED:
        received_set(mqtt, ack->packet_id, RECEIVED_NOT);
        mqtt_write_ack(mqtt, MQTT_PUBCOMP, ack->packet_id, 0);
        break;
    case RECEIVED_NOT:
        mqtt_write_ack(mqtt, MQTT_PUBCOMP, ack->packet_id, 0x92);
        break;
    case RECEIVED_GIVEN:
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent PUBREL before PUBREC");
        break;
    }
}

static void on_ack(struct mqtt *mqtt, enum mqtt_type type, struct str body)
{
    struct mqtt_ack_packet ack;

    if (mqtt_read_ack(&ack, mqtt->version, body, &mqtt->close_why))
        mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed acknowledgement");
    else if (type == MQTT_PUBACK)
        on_puback(mqtt, &ack);
    else if (type == MQTT_PUBREC)
        on_pubrec(mqtt, &ack);
    else if (type == MQTT_PUBREL)
        on_pubrel(mqtt, &ack);
    else
        on_pubcomp(mqtt, &ack);
}

static void on_suback(struct mqtt *mqtt, bool is_unsuback, struct str body)
{
    struct flight *flight;
    struct str codes;
    uint16_t id;

    if (mqtt_read_suback(&id, &codes, mqtt->version, is_unsuback, body)) {
        mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed %s", is_unsuback ? "UNSUBACK" : "SUBACK");
        return;
    }
    flight = flight_get(&mqtt->flights, id);
    if (!flight) {
        LOG_DEBUG(mqtt->log, "answer to nothing", KV_Z("packet", is_unsuback ? "UNSUBACK" : "SUBACK"),
                  KV_UINT("id", id));
        return;
    }
    if (flight->kind != (is_unsuback ? FLIGHT_UNSUBSCRIBE : FLIGHT_SUBSCRIBE) ||
        (codes.n != flight->n_filters && !(is_unsuback && mqtt->version != MQTT_5))) { /* 3.9.3 */
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "%s does not fit what was asked", is_unsuback ? "UNSUBACK" : "SUBACK");
        return;
    }
    flight_del(&mqtt->flights, flight);
    if (mqtt->events->subscribed)
        mqtt->events->subscribed(mqtt->arg, id, (const uint8_t *)codes.p, codes.n);
}

/* --- the connection ------------------------------------------------------------------------------------------------------ */

static void on_connack(struct mqtt *mqtt, struct str body)
{
    if (mqtt_read_connack(&mqtt->connack, mqtt->version, body, &mqtt->close_why)) {
        mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed CONNACK");
        return;
    }
    if (mqtt->connack.code)
        mqtt_refused(mqtt, "server refused the connection", true, mqtt->connack.code, mqtt->connack.reason);
    else
        mqtt_up(mqtt);
    mqtt->connack.assigned_client_id = mqtt->connack.reason = STR_NONE; /* valid in the callback only */
}

static void on_disconnect(struct mqtt *mqtt, struct str body)
{
    uint8_t code;

    if (mqtt->version != MQTT_5 || mqtt_read_disconnect(&code, body))
        mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed DISCONNECT");
    else
        mqtt_refused(mqtt, "server disconnected", false, code, mqtt_disconnect_reason(body));
}

static void handle(struct mqtt *mqtt, const uint8_t *p, size_t header_n, size_t length)
{
    struct str body = str_of(p + header_n, length - header_n);
    enum mqtt_type type = (enum mqtt_type)(p[0] >> 4);

    if (mqtt_check_header(mqtt->version, p, header_n, &mqtt->close_why)) {
        mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed packet");
        return;
    }
    if (mqtt->state == MQTT_HANDSHAKE && type != MQTT_CONNACK && type != MQTT_DISCONNECT) {
        mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent a packet of type %d before CONNACK", type); /* 3.2 */
        return;
    }
    switch (type) {
    case MQTT_PUBLISH:
        on_publish(mqtt, p[0], body);
        return;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP:
        on_ack(mqtt, type, body);
        return;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
        on_suback(mqtt, type == MQTT_UNSUBACK, body);
        return;
    case MQTT_PINGRESP:
        if (body.n)
            mqtt_fail(mqtt, ERR_PROTO, 0x81, "malformed PINGRESP");
        mqtt->is_pinging = false;
        return;
    case MQTT_CONNACK:
        if (mqtt->state == MQTT_HANDSHAKE)
            on_connack(mqtt, body);
        else
            mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent a second CONNACK"); /* 3.2.0-2 */
        return;
    case MQTT_DISCONNECT:
        on_disconnect(mqtt, body);
        return;
    case MQTT_CONNECT:
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
    case MQTT_PINGREQ:
    case MQTT_AUTH: /* only an answer to an authentication method, which this client does not ask for (4.12) */
        break;
    }
    mqtt_fail(mqtt, ERR_PROTO, 0x82, "server sent a packet of type %d, which is not a server's", type);
}

static bool is_reading(const struct mqtt *mqtt)
{
    return mqtt->state == MQTT_HANDSHAKE || (mqtt->state == MQTT_UP && !mqtt->is_paused);
}

size_t mqtt_read(void *arg, uint8_t *p, size_t n)
{
    struct mqtt *mqtt = arg;
    size_t used = 0, need = 0;

    mqtt->last_in_ms = loop_mono_ms(mqtt->loop);
    mqtt->has_burst = false;
    while (used < n && is_reading(mqtt)) {
        size_t header_n, length = mqtt_packet_length(p + used, n - used, &header_n);

        if (length == SIZE_MAX) {
            mqtt_fail(mqtt, ERR_PROTO, 0x81, "a packet's length is malformed");
        } else if (length > mqtt->max_packet_in) {
            mqtt_fail(mqtt, ERR_LIMIT, 0x95, "server sent a packet of %zu bytes, %" PRIu32 " are allowed", length,
                      mqtt->max_packet_in);
        } else if (length == 0 || length > n - used) {
            need = length ? length : header_n;
            break;
        } else {
            handle(mqtt, p + used, header_n, length);
            used += length;
        }
    }
    if (mqtt->has_burst && mqtt->events->burst)
        mqtt->events->burst(mqtt->arg);
    if (mqtt->state != MQTT_UP && mqtt->state != MQTT_HANDSHAKE)
        return n; /* closing: nothing that comes matters */
    stream_need(mqtt->stream, need);
    return used;
}
