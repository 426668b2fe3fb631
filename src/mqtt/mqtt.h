/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MQTT_H
#define IOTGW_MQTT_H
/*
 * MQTT 3.1, 3.1.1 and 5 client session on one stream, used north by the uplink and south by the MQTT connector. Sources:
 * MQTT Version 5.0 (OASIS 2019), MQTT Version 3.1.1 (OASIS 2014), MQTT V3.1 (IBM/Eurotech 2010).
 *
 * Owner thread: the loop's. One attempt and one connection per mqtt_connect: reconnecting (backoff) is its user's, who calls
 * mqtt_connect again on the same client after .closed. Callbacks never run inside mqtt_* calls.
 *
 * Receiving: packets are parsed in place; topic and payload of a message are valid within .message only. A QoS 1 or 2
 * message is acknowledged only when its user calls mqtt_ack, in the order received (MQTT 5, 4.6); acknowledgements of
 * one turn leave in one write. A QoS 2 message is given once; its identifier is remembered until PUBREL.
 *
 * Sending: mqtt_publish takes gathered buffers, which must stay unchanged until .acked of that identifier, or .closed,
 * or for QoS 0 until mqtt_sent passes the position returned. Nothing is resent by the client itself: what had no .acked
 * at .closed is its user's to publish again (with dup).
 */
#include "io/stream.h"

enum mqtt_version { MQTT_31 = 3, MQTT_311 = 4, MQTT_5 = 5 };

struct mqtt_conf {
    struct stream_conf stream;
    enum mqtt_version version;
    struct str client_id;          /* empty: the server assigns one (3.1: a random one is made) */
    struct str username, password; /* p NULL: not sent */
    uint16_t keep_alive_s;         /* 0: off. CONNACK's Server Keep Alive wins */
    bool clean_start;
    uint32_t session_expiry_s; /* 5 only */
    uint16_t receive_maximum;  /* 5 only; 0: 65535 */
    uint32_t max_packet_bytes; /* what we accept; larger is ERR_LIMIT and closes. 0: 16 MiB. Told to the server in 5 */
    uint16_t topic_alias_maximum; /* 5 only: aliases accepted on receive */
    uint32_t ack_timeout_ms;      /* oldest unanswered PUBLISH or SUBSCRIBE older than this: PINGREQ at once. 0: off */
    uint32_t ping_timeout_ms;     /* no PINGRESP within: closed with ERR_TIMEOUT. 0: 5000 */
};

struct mqtt_connack {
    bool session_present;
    uint8_t code;             /* 0 in .connected; reason (5) or return code (3.x) in mqtt_refusal */
    uint16_t receive_maximum; /* of the server; 65535 if it said nothing */
    uint8_t max_qos;
    bool retain_available, wildcard_available, shared_available, subscription_ids_available;
    uint32_t max_packet_bytes;     /* 0: none */
    bool has_keep_alive;           /* the server set its own keep-alive */
    uint16_t server_keep_alive_s;  /* in force */
    struct str assigned_client_id; /* valid in the callback */
    struct str reason;             /* the server's own words, if it had any; valid in the callback */
};

struct mqtt_message {
    struct str topic; /* alias resolved */
    const uint8_t *payload;
    size_t payload_n;
    uint8_t qos;
    bool retain, dup;
    uint16_t packet_id; /* 0 for QoS 0 (and tolerated from servers that count through 0) */
    struct str props;   /* the raw property bytes, version 5; empty otherwise */
};

struct mqtt_events {
    void (*connected)(void *arg, const struct mqtt_connack *connack);
    /* Exactly one per mqtt_connect. ERR_AUTH, ERR_QUOTA, ERR_REFUSED: by CONNACK (mqtt_refusal gives the code), ERR_UNSUPPORTED:
     * the server does not speak the version. */
    void (*closed)(void *arg, enum err err, const struct why *why);
    void (*message)(void *arg, const struct mqtt_message *message);
    void (*burst)(void *arg); /* after the last .message or .acked of what one read brought; may be NULL */
    /* PUBACK, or PUBCOMP or a failed PUBREC: QoS 1 or 2 is over. 3.x: code 0. */
    void (*acked)(void *arg, uint16_t packet_id, uint8_t code);
    /* SUBACK and UNSUBACK (3.x: n is 0): a code for each filter, 0x80 and above: refused; may be NULL. */
    void (*subscribed)(void *arg, uint16_t packet_id, const uint8_t *codes, size_t n);
    void (*writable)(void *arg); /* all that was written has left; may be NULL */
};

struct mqtt;
struct mqtt *mqtt_new(struct loop *loop, struct log *log, const struct mqtt_events *events, void *arg);
/* conf must stay unchanged until .closed. Only when idle (new or after .closed). */
void mqtt_connect(struct mqtt *mqtt, const struct mqtt_conf *conf);
/* DISCONNECT (code: version 5 only), then close; .closed with ERR_OK follows. Without a connection: .closed too, also when
 * idle (then it is not the one of an mqtt_connect; the next mqtt_connect has to wait for it). */
void mqtt_disconnect(struct mqtt *mqtt, uint8_t code);
void mqtt_free(struct mqtt *mqtt);             /* idle only; NULL allowed */
uint8_t mqtt_refusal(const struct mqtt *mqtt); /* code of the last CONNACK or server's DISCONNECT; 0: none */
const char *mqtt_reason_text(enum mqtt_version version, bool is_connack, uint8_t code);

/* Packet identifiers in use at once are limited by the server's receive maximum: mqtt_window() tells how many QoS>0
 * publications may still be made now; beyond it mqtt_publish answers ERR_BUSY, above the server's packet limit ERR_LIMIT. */
unsigned mqtt_window(const struct mqtt *mqtt);
/*
 * ERR_CLOSED: not connected. ERR_UNSUPPORTED: QoS or RETAIN that the server does not offer (mqtt_connack). Reasons of
 * the topic: topic_name_check.
 * MQTT_SAME_ID: *packet_id is that of the first transmission, on the former connection of this client; with it a message
 * of QoS 2 arrives once only if the server has kept the session: what it has acknowledged with PUBREC is not sent again,
 * only PUBREL. ERR_EXISTS: that identifier is in flight. Without the flag an identifier is never used that is in flight,
 * or that the server may remember as one of QoS 2.
 */
enum { MQTT_RETAIN = 1, MQTT_DUP = 2, MQTT_SAME_ID = 4 };
NODISCARD enum err mqtt_publish(struct mqtt *mqtt, struct str topic, const struct iovec *payload, int n_payload,
                                uint8_t qos, unsigned flags, uint16_t *packet_id);
/* For QoS 0: position after the publication, and how far has been handed over. */
uint64_t mqtt_queued(const struct mqtt *mqtt);
uint64_t mqtt_sent(const struct mqtt *mqtt);
/* Monotonic ms at which the last bytes came from the server: QoS 0's proof that the link lived. */
uint64_t mqtt_last_in_ms(const struct mqtt *mqtt);

struct mqtt_filter {
    struct str filter;
    uint8_t qos;
    bool no_local, retain_as_published; /* 5 only */
    uint8_t retain_handling;            /* 5 only */
};
/* All or none: filters are checked first (topic_filter_check; ERR_USAGE: No Local on a shared subscription). */
NODISCARD enum err mqtt_subscribe(struct mqtt *mqtt, const struct mqtt_filter *filters, size_t n, uint16_t *packet_id);
NODISCARD enum err mqtt_unsubscribe(struct mqtt *mqtt, const struct str *filters, size_t n, uint16_t *packet_id);
/* Acknowledges a received message: PUBACK or PUBREC. QoS 0: nothing. code ≥ 0x80: refused (5 only). It belongs to the
 * connection it came by: after .closed nothing of before may be acknowledged, the server sends it again. */
void mqtt_ack(struct mqtt *mqtt, uint8_t qos, uint16_t packet_id, uint8_t code);
/* Stops and goes on reading the socket; while paused by its user keep-alive is not judged. Within .message nothing further
 * is given. Stays so over connections (CONNACK is read); resuming gives what was left in a later turn. */
void mqtt_pause(struct mqtt *mqtt);
void mqtt_resume(struct mqtt *mqtt);
#endif
