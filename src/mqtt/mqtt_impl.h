/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MQTT_IMPL_H
#define IOTGW_MQTT_IMPL_H
/*
 * What the files of the client share: mqtt.c (states, deadlines), receive.c (packets from the server), send.c (packets to
 * it), flight.c (identifiers of what waits for an answer). One thread, the loop's.
 */
#include "mqtt/packet.h"

#include "base/log.h"

enum mqtt_state { MQTT_IDLE, MQTT_OPENING, MQTT_HANDSHAKE, MQTT_UP, MQTT_CLOSING };

/* --- identifiers ------------------------------------------------------------------------------------------------------- */

enum flight_kind {
    FLIGHT_NONE, /* the slot is free */
    FLIGHT_QOS1, /* PUBLISH, waits for PUBACK */
    FLIGHT_QOS2, /* PUBLISH, waits for PUBREC */
    FLIGHT_REL,  /* PUBREL, waits for PUBCOMP */
    FLIGHT_SUBSCRIBE,
    FLIGHT_UNSUBSCRIBE,
    /* Of a former connection. The server may know the identifier still, so that no other message may use it: */
    FLIGHT_STALE,  /* QoS 2 without PUBREC; its user may publish it again */
    FLIGHT_ORPHAN, /* as FLIGHT_REL, but its user does not wait */
};

struct flight {
    uint16_t id;
    uint8_t kind;      /* enum flight_kind */
    uint32_t since_ms; /* monotonic, low bits */
    union {
        uint64_t end;       /* publications: position in the stream behind the last byte */
        uint32_t n_filters; /* subscriptions */
    };
};

/* By identifier, modulo the number of slots; identifiers whose slot is taken are passed over. */
struct flights {
    struct flight *slots;
    uint32_t n, cap; /* cap: 0 or a power of two */
    uint16_t last_id;
};

void flights_fini(struct flights *flights);
struct flight *flight_get(const struct flights *flights, uint16_t id);
/* A fresh identifier; NULL if all are in use. */
struct flight *flight_add(struct flights *flights, enum flight_kind kind);
/* This identifier, which must not be in use. */
struct flight *flight_add_id(struct flights *flights, uint16_t id, enum flight_kind kind);
void flight_del(struct flights *flights, struct flight *flight);
/* The connection is gone: what the server may remember becomes stale or an orphan, all else is forgotten. */
void flights_close(struct flights *flights);

/* --- the client ---------------------------------------------------------------------------------------------------------- */

struct mqtt_alias {
    char *p;
    uint16_t n, cap;
};

struct mqtt {
    struct loop *loop;
    struct log *log;
    const struct mqtt_events *events;
    void *arg;
    enum mqtt_state state;
    struct stream *stream; /* NULL when idle */
    const struct mqtt_conf *conf;
    enum mqtt_version version;
    struct timer watch; /* the nearest deadline of the connection */
    struct timer later; /* .closed of what never had a stream */

    enum err close_err;   /* why this side closes; given with .closed */
    struct why close_why; /* parsers write their reason here, before mqtt_fail adds its own only if there is none */
    uint8_t refusal;

    struct mqtt_connack connack;
    uint32_t keep_alive_ms;
    uint32_t max_packet_in;
    uint64_t state_ms; /* since when in this state */
    uint64_t last_in_ms;
    uint64_t judge_from_ms; /* silence before it does not count: the user did not let us read */
    uint64_t ping_ms;       /* the oldest unanswered PINGREQ's time */
    uint64_t ping_end;      /* and position */
    uint64_t pinged_ms;     /* time of the newest */
    bool is_pinging, has_ping_left, is_paused, has_burst;

    struct flights flights;
    uint32_t n_publications; /* in flight, of this connection */
    uint8_t *received2;      /* 2 bits an identifier: enum received2; NULL until the first QoS 2 message */
    struct mqtt_alias *aliases;
    struct buf scratch;
    char random_id[24];
};

enum { SMALL_PIECE = 256 }; /* payload pieces up to this are copied: cheaper than an iovec of their own */

static inline uint32_t limit_in(const struct mqtt_conf *conf)
{
    uint32_t max = conf->max_packet_bytes ? conf->max_packet_bytes : 16 * 1024 * 1024;

    return max < MQTT_MAX_PACKET ? max : MQTT_MAX_PACKET;
}

/* mqtt.c */
/* Closes because of err; code goes to the server (version 5). The first reason wins. */
void mqtt_fail(struct mqtt *mqtt, enum err err, uint8_t code, const char *fmt, ...) PRINTF_LIKE(4, 5);
void mqtt_up(struct mqtt *mqtt); /* CONNACK has accepted */
void mqtt_refused(struct mqtt *mqtt, const char *what, bool is_connack, uint8_t code, struct str reason);
/* A deadline may have come nearer; for mqtt_watch_answer: that of a packet sent now. */
void mqtt_watch(struct mqtt *mqtt);
void mqtt_watch_answer(struct mqtt *mqtt);

/* send.c */
void mqtt_write(struct mqtt *mqtt, const struct buf *packet);
void mqtt_write_ack(struct mqtt *mqtt, enum mqtt_type type, uint16_t id, uint8_t code);
void mqtt_write_ping(struct mqtt *mqtt);

/* receive.c */
size_t mqtt_read(void *arg, uint8_t *p, size_t n);
/* The connection is gone, or the server has (has not) the session. */
void mqtt_received_close(struct mqtt *mqtt);
void mqtt_received_clear(struct mqtt *mqtt);
#endif
