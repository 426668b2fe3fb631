/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_RIG_H
#define IOTGW_CONNECTOR_MQTT_RIG_H
/*
 * For tests: the connector against a broker that does as it is told, a store that answers when it is told to, and a
 * gateway that notes replies and questions; all on one loop. A test is a script: wait for a condition, act, wait for the next.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "connector/ctx.h"
#include "mqtt/packet.h"

extern const struct connector_type iotgw_module;

enum { MAX_ACKS = 64, MAX_NOTES = 2048 };

struct published { /* by the connector */
    char topic[64], payload[128];
    uint8_t qos;
    bool retain, dup;
    uint16_t packet_id;
};

struct peer {
    struct listener *listener;
    struct stream *stream;
    uint8_t connack, suback, puback;
    bool session_present, keeps_subacks, keeps_pubacks;
    unsigned n_connects, n_subscribes, n_filters, n_disconnects, n_acks, n_published, n_unsubscribed;
    uint16_t acks[MAX_ACKS];
    uint8_t subscribed_qos;
    uint16_t subscribe_id;
    char subscribed[64], unsubscribed[64]; /* the last one of each */
    struct mqtt_connect_packet connect;
    char client_id[64], username[32];
    struct published published[MAX_NOTES];
};

struct test;
struct step {
    const char *what;
    bool (*ready)(struct test *t); /* NULL: at once */
    void (*act)(struct test *t);   /* NULL: nothing */
};

struct question {
    char device[32], shared[64], client[64];
    uint64_t cookie;
};

struct replied {
    void *command;
    enum err err;
    char json[256];
};

struct test {
    struct loop *loop;
    struct timer tick;
    unsigned n_ticks, n_waited;
    const struct step *step;

    struct peer peer;
    struct store store;
    struct node *first, **last;
    unsigned n_batches, n_events;
    struct buf bytes;

    struct ctx_host host;
    struct conf *conf;
    struct problems problems;
    struct ctx *ctx;
    void *self;
    bool is_quiet, is_stopped;

    unsigned n_replies, n_questions;
    struct replied replies[MAX_NOTES];
    struct question questions[16];
};

/* broker: further members of "broker". file: the members beside it. */
void rig_run(const char *broker, const char *file, void (*prepare)(struct test *t), const struct step *steps);
void rig_answer(struct test *t, enum err result); /* of the store, to all that it holds */
void rig_publish(struct test *t, const char *topic, const char *payload, uint8_t qos, uint16_t packet_id);
void rig_publish_retained(struct test *t, const char *topic, const char *payload);
void rig_suback(struct test *t, uint8_t code); /* of the last SUBSCRIBE, which was kept waiting */
void rig_puback(struct test *t, uint16_t packet_id, uint8_t code);
void rig_quiesce(struct test *t);
#endif
