/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MQTT_PACKET_H
#define IOTGW_MQTT_PACKET_H
/*
 * MQTT control packets ↔ bytes: pure, for client and server side alike (the server side serves the platform stand-in and
 * the tests). All views point into the bytes parsed. Everything that the standard forbids is ERR_PROTO with a reason.
 */
#include "mqtt/mqtt.h"

enum { MQTT_MAX_REMAINING = 268435455, MQTT_MAX_PACKET = MQTT_MAX_REMAINING + 5 }; /* MQTT 5, 1.5.5 */

enum mqtt_type {
    MQTT_CONNECT = 1,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT,
    MQTT_AUTH
};

/* Length of the first packet with its fixed header: 0 if that header is not complete (*header_n then says how many bytes
 * would help), SIZE_MAX if it is malformed. header_n: bytes before the variable header; the body, as the functions below
 * take it, is what follows them. */
size_t mqtt_packet_length(const uint8_t *p, size_t n, size_t *header_n);
/* Type and flags of a fixed header (MQTT 5, 2.1.3) and the form of its length (1.5.5). */
NODISCARD enum err mqtt_check_header(enum mqtt_version version, const uint8_t *p, size_t header_n, struct why *why);

struct mqtt_connect_packet {
    enum mqtt_version version;
    bool clean_start, has_will, will_retain;
    uint8_t will_qos;
    uint16_t keep_alive_s;
    struct str client_id, username, password, will_topic, will_payload; /* username.p NULL: absent */
    uint32_t session_expiry_s, max_packet_bytes;
    uint16_t receive_maximum, topic_alias_maximum;
};
struct mqtt_ack_packet { /* PUBACK PUBREC PUBREL PUBCOMP */
    uint16_t packet_id;
    uint8_t code;
};
struct mqtt_publish_packet {
    struct mqtt_message message;
    uint16_t alias; /* 0: none */
};

/* ERR_UNSUPPORTED: a protocol name or level that is none of ours (a server may answer CONNACK 1 or 132 before it closes). */
NODISCARD enum err mqtt_read_connect(struct mqtt_connect_packet *out, struct str body, struct why *why);
/* A refusal in the form of 3.x is understood in a session of version 5 too: servers without version 5 send it. */
NODISCARD enum err mqtt_read_connack(struct mqtt_connack *out, enum mqtt_version version, struct str body,
                                     struct why *why);
NODISCARD enum err mqtt_read_publish(struct mqtt_publish_packet *out, enum mqtt_version version, uint8_t first,
                                     struct str body, struct why *why);
NODISCARD enum err mqtt_read_ack(struct mqtt_ack_packet *out, enum mqtt_version version, struct str body,
                                 struct why *why);
/* Walks the filters: next gives false at the end, and then err is set if the body is malformed. */
struct mqtt_subscribe_reader {
    struct rd rd;
    enum mqtt_version version;
    uint16_t packet_id;
    bool is_unsubscribe;
    enum err err;
};
NODISCARD enum err mqtt_read_subscribe(struct mqtt_subscribe_reader *out, enum mqtt_version version,
                                       bool is_unsubscribe, struct str body);
bool mqtt_next_filter(struct mqtt_subscribe_reader *reader, struct mqtt_filter *out);
NODISCARD enum err mqtt_read_suback(uint16_t *packet_id, struct str *codes, enum mqtt_version version, bool is_unsuback,
                                    struct str body);
NODISCARD enum err mqtt_read_disconnect(uint8_t *code, struct str body); /* version 5 */
/* The Reason String of a DISCONNECT of version 5 that has been read without error; empty if there is none. */
struct str mqtt_disconnect_reason(struct str body);

void mqtt_put_connect(struct buf *out, const struct mqtt_conf *conf);
void mqtt_put_connack(struct buf *out, enum mqtt_version version, bool session_present, uint8_t code,
                      uint16_t receive_maximum, uint32_t max_packet_bytes, struct str assigned_client_id);
/* Everything but the payload: the caller sends head, then payload_n bytes. The caller keeps to the limits of the format:
 * topics of at most 65535 bytes, packets of at most MQTT_MAX_PACKET; the same holds for all functions here. */
void mqtt_put_publish_head(struct buf *out, enum mqtt_version version, struct str topic, size_t payload_n, uint8_t qos,
                           unsigned flags, uint16_t packet_id);
void mqtt_put_ack(struct buf *out, enum mqtt_version version, enum mqtt_type type, uint16_t packet_id, uint8_t code);
void mqtt_put_subscribe(struct buf *out, enum mqtt_version version, uint16_t packet_id,
                        const struct mqtt_filter *filters, size_t n);
void mqtt_put_unsubscribe(struct buf *out, enum mqtt_version version, uint16_t packet_id, const struct str *filters,
                          size_t n);
void mqtt_put_suback(struct buf *out, enum mqtt_version version, bool is_unsuback, uint16_t packet_id,
                     const uint8_t *codes, size_t n);
void mqtt_put_simple(struct buf *out, enum mqtt_type type); /* PINGREQ, PINGRESP */
void mqtt_put_disconnect(struct buf *out, enum mqtt_version version, uint8_t code);
#endif
