/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets to the server. Small things are copied into the stream's own buffer, so that all of one turn leave in one
 * write; payloads are handed over as they are.
 */
#include "mqtt/mqtt_impl.h"
#include "mqtt/topic.h"

#include <assert.h>

void mqtt_write(struct mqtt *mqtt, const struct buf *packet)
{
    stream_write(mqtt->stream, packet->p, packet->n, true);
}

void mqtt_write_ack(struct mqtt *mqtt, enum mqtt_type type, uint16_t id, uint8_t code)
{
    mqtt->scratch.n = 0;
    mqtt_put_ack(&mqtt->scratch, mqtt->version, type, id, code);
    mqtt_write(mqtt, &mqtt->scratch);
}

void mqtt_write_ping(struct mqtt *mqtt)
{
    mqtt->scratch.n = 0;
    mqtt_put_simple(&mqtt->scratch, MQTT_PINGREQ);
    mqtt_write(mqtt, &mqtt->scratch);
}

/* True if a packet with so many bytes behind its fixed header may be sent. */
static bool fits(const struct mqtt *mqtt, size_t remaining)
{
    size_t header_n = remaining < 0x80 ? 2 : remaining < 0x4000 ? 3 : remaining < 0x200000 ? 4 : 5;

    return remaining <= MQTT_MAX_REMAINING &&
           (mqtt->connack.max_packet_bytes == 0 || remaining + header_n <= mqtt->connack.max_packet_bytes);
}

/* --- PUBLISH ----------------------------------------------------------------------------------------------------------- */

unsigned mqtt_window(const struct mqtt *mqtt)
{
    unsigned limit = mqtt->connack.receive_maximum;

    if (mqtt->state != MQTT_UP || mqtt->n_publications >= limit)
        return 0;
    return limit - mqtt->n_publications;
}

/* The identifier for a publication: a fresh one, or the one of its first transmission. NULL with *err OK: what the server
 * has of it already waits for PUBCOMP, nothing is to be sent. */
static struct flight *publication_flight(struct mqtt *mqtt, uint8_t qos, unsigned flags, uint16_t id, enum err *err)
{
    enum flight_kind kind = qos == 2 ? FLIGHT_QOS2 : FLIGHT_QOS1;
    struct flight *flight;

    *err = ERR_BUSY;
    if (mqtt->n_publications >= mqtt->connack.receive_maximum)
        return NULL;
    if (!(flags & MQTT_SAME_ID) || id == 0) {
        flight = flight_add(&mqtt->flights, kind);
        *err = flight ? ERR_OK : ERR_BUSY;
        return flight;
    }
    *err = ERR_OK;
    flight = flight_get(&mqtt->flights, id);
    if (!flight)
        return flight_add_id(&mqtt->flights, id, kind);
    if (flight && flight->kind == FLIGHT_ORPHAN) {
        flight->kind = FLIGHT_REL;
        return NULL;
    }
    if (flight && flight->kind == FLIGHT_STALE) {
        flight->kind = (uint8_t)kind;
        return flight;
    }
    *err = ERR_EXISTS;
    return NULL;
}

static NODISCARD enum err publish_check(const struct mqtt *mqtt, struct str topic, size_t payload_n, uint8_t qos,
                                        unsigned flags)
{
    enum err err;

    if (mqtt->state != MQTT_UP)
        return ERR_CLOSED;
    if (qos > 2)
        return ERR_RANGE;
    if (qos > mqtt->connack.max_qos || ((flags & MQTT_RETAIN) && !mqtt->connack.retain_available))
        return ERR_UNSUPPORTED; /* 3.2.2.3.4, 3.2.2.3.5 */
    err = topic_name_check(topic, NULL);
    if (err)
        return err;
    if (!fits(mqtt, 2 + topic.n + (qos ? 2 : 0) + (mqtt->version == MQTT_5 ? 1 : 0) + payload_n))
        return ERR_LIMIT;
    return ERR_OK;
}

enum err mqtt_publish(struct mqtt *mqtt, struct str topic, const struct iovec *payload, int n_payload, uint8_t qos,
                      unsigned flags, uint16_t *packet_id)
{
    struct flight *flight = NULL;
    size_t payload_n = 0;
    enum err err;

    loop_assert(mqtt->loop);
    for (int i = 0; i < n_payload; i++)
        payload_n += payload[i].iov_len;
    err = publish_check(mqtt, topic, payload_n, qos, flags);
    if (err)
        return err;
    if (qos) {
        flight = publication_flight(mqtt, qos, flags, flags & MQTT_SAME_ID ? *packet_id : 0, &err);
        if (err)
            return err;
        mqtt->n_publications++;
        if (!flight)
            return ERR_OK;
        *packet_id = flight->id;
    } else if (packet_id) {
        *packet_id = 0;
    }

    mqtt->scratch.n = 0;
    mqtt_put_publish_head(&mqtt->scratch, mqtt->version, topic, payload_n, qos, flags, flight ? flight->id : 0);
    mqtt_write(mqtt, &mqtt->scratch);
    for (int i = 0; i < n_payload; i++)
        stream_write(mqtt->stream, payload[i].iov_base, payload[i].iov_len, payload[i].iov_len <= SMALL_PIECE);
    if (flight) {
        flight->since_ms = (uint32_t)loop_mono_ms(mqtt->loop);
        flight->end = stream_queued(mqtt->stream);
        mqtt_watch_answer(mqtt);
    }
    return ERR_OK;
}

/* --- SUBSCRIBE, UNSUBSCRIBE --------------------------------------------------------------------------------------------- */

/* The identifier of a packet whose filters are in order and take so many bytes. */
static NODISCARD enum err subscription_flight(struct mqtt *mqtt, enum flight_kind kind, size_t filters_n,
                                              struct flight **out)
{
    if (!fits(mqtt, 3 + filters_n))
        return ERR_LIMIT;
    *out = flight_add(&mqtt->flights, kind);
    return *out ? ERR_OK : ERR_BUSY;
}

static void write_subscription(struct mqtt *mqtt, struct flight *flight, size_t n)
{
    flight->n_filters = (uint32_t)n;
    flight->since_ms = (uint32_t)loop_mono_ms(mqtt->loop);
    mqtt_write(mqtt, &mqtt->scratch);
    mqtt_watch_answer(mqtt);
}

enum err mqtt_subscribe(struct mqtt *mqtt, const struct mqtt_filter *filters, size_t n, uint16_t *packet_id)
{
    size_t filters_n = 0;
    struct flight *flight;
    enum err err;

    loop_assert(mqtt->loop);
    if (mqtt->state != MQTT_UP)
        return ERR_CLOSED;
    if (n == 0)
        return ERR_USAGE;
    for (size_t i = 0; i < n; i++) {
        err = topic_filter_check(filters[i].filter, NULL);
        if (err)
            return err;
        if (filters[i].qos > 2 || filters[i].retain_handling > 2)
            return ERR_RANGE;
        if (mqtt->version == MQTT_5 && filters[i].no_local && str_starts(filters[i].filter, STR("$share/")))
            return ERR_USAGE; /* MQTT-3.8.3-4 */
        filters_n += 3 + filters[i].filter.n;
    }
    err = subscription_flight(mqtt, FLIGHT_SUBSCRIBE, filters_n, &flight);
    if (err)
        return err;
    *packet_id = flight->id;
    mqtt->scratch.n = 0;
    mqtt_put_subscribe(&mqtt->scratch, mqtt->version, flight->id, filters, n);
    write_subscription(mqtt, flight, n);
    return ERR_OK;
}

enum err mqtt_unsubscribe(struct mqtt *mqtt, const struct str *filters, size_t n, uint16_t *packet_id)
{
    size_t filters_n = 0;
    struct flight *flight;
    enum err err;

    loop_assert(mqtt->loop);
    if (mqtt->state != MQTT_UP)
        return ERR_CLOSED;
    if (n == 0)
        return ERR_USAGE;
    for (size_t i = 0; i < n; i++) {
        err = topic_filter_check(filters[i], NULL);
        if (err)
            return err;
        filters_n += 2 + filters[i].n;
    }
    err = subscription_flight(mqtt, FLIGHT_UNSUBSCRIBE, filters_n, &flight);
    if (err)
        return err;
    *packet_id = flight->id;
    mqtt->scratch.n = 0;
    mqtt_put_unsubscribe(&mqtt->scratch, mqtt->version, flight->id, filters, n);
    write_subscription(mqtt, flight, n);
    return ERR_OK;
}
