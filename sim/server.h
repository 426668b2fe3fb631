/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIM_SERVER_H
#define IOTGW_SIM_SERVER_H
/*
 * A small MQTT 3.1, 3.1.1 and 5 server for simulators and tests: connections, subscriptions, QoS 0 and 1 both ways. It has no
 * routing and no opinion: what a packet means is decided by its user's callbacks.
 *
 * Owner thread: the loop's. Everything written in one turn (all PUBACKs of a read) leaves in one write.
 * A client lives until .closed has returned (or, if it never got a CONNACK with code 0, without any further callback).
 */
#include "base/list.h"
#include "mqtt/packet.h"

struct server;

struct server_filter {
    char *text;
    uint8_t qos;
};

struct server_client {
    struct list node;
    struct server *server;
    struct stream *stream;
    enum mqtt_version version;
    bool is_connected; /* CONNACK 0 was sent */
    bool is_closing;   /* nothing more is read or answered */
    uint16_t
        next_id; /* of the next QoS 1 publication; counts through 0 as the platform does, unless the server says otherwise */
    struct server_filter *filters;
    size_t n_filters;
    uint64_t active_ms; /* monotonic: last PUBLISH, SUBSCRIBE or PINGREQ */
    void *user;
};

struct server_conf {
    const char *host;
    uint16_t port;                    /* 0: any */
    const char *cert_file, *key_file; /* both: TLS; a client certificate is asked for, none is needed */
    uint32_t max_remaining;           /* largest remaining length of a packet; 0: 256 MiB */
    bool answers_disconnect;          /* version 5: DISCONNECT 0 as answer to the client's */
    bool ids_through_0;               /* packet identifiers wrap from 65535 to 0 instead of 1 */
};

struct server_events {
    /* Gives the CONNACK's code (0: accepted; else the connection is closed); 3.x: the code is sent as it is. */
    uint8_t (*connect)(void *arg, struct server_client *client, const struct mqtt_connect_packet *connect,
                       bool *session_present);
    /* Gives the granted QoS or the refusal. A granted filter is kept in client->filters. */
    uint8_t (*subscribe)(void *arg, struct server_client *client, const struct mqtt_filter *filter);
    void (*publish)(void *arg, struct server_client *client,
                    const struct mqtt_message *message); /* answer: server_puback */
    void (*acked)(void *arg, struct server_client *client, uint16_t packet_id, uint8_t code); /* may be NULL */
    void (*burst)(void *arg, struct server_client *client);           /* after the last packet of a read; may be NULL */
    void (*filters_changed)(void *arg, struct server_client *client); /* after SUBACK or UNSUBACK; may be NULL */
    void (*closed)(void *arg, struct server_client *client, bool was_asked); /* was_asked: the client sent DISCONNECT */
};

NODISCARD enum err server_new(struct server **out, struct loop *loop, const struct server_conf *conf,
                              const struct server_events *events, void *arg, struct why *why);
uint16_t server_port(const struct server *server);
struct list *server_clients(struct server *server); /* of struct server_client.node */
/* Stops listening and drops every connection; up listens again on the same port. */
void server_down(struct server *server);
NODISCARD enum err server_up(struct server *server, struct why *why);
/* Stalled: no connection is read. */
void server_stall(struct server *server, bool is_stalled);
void server_drop_all(struct server *server); /* without a word */
/* Frees everything; closer's done comes when all is closed. NULL allowed. */
void server_close(struct server *server, struct closer *closer);

void server_puback(struct server_client *client, uint16_t packet_id, uint8_t code);
/* Copies payload. Gives the packet identifier (QoS 0: 0). */
uint16_t server_publish(struct server_client *client, struct str topic, struct str payload, uint8_t qos);
void server_write(struct server_client *client, const void *packets,
                  size_t n); /* whole packets of the user's own making; copied */
/* Ends a connection: with a DISCONNECT where version 5 has one and code is not 0, after what was written before. */
void server_kick(struct server_client *client, uint8_t code);
void server_drop(struct server_client *client); /* at once, unsent bytes are lost */
/* QoS granted to topic, or -1 without a matching subscription. */
int server_granted(const struct server_client *client, struct str topic);
#endif
