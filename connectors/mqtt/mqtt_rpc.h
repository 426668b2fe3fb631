/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_RPC_H
#define IOTGW_CONNECTOR_MQTT_RPC_H
/*
 * RPC that runs: the request is published, its end or the device's response becomes the one reply (mqtt.md 7). Owner
 * thread: the connector's loop. Every command taken is replied to exactly once, at the latest by rpcs_stop.
 *
 * Response topics are subscribed while somebody waits on them, one subscription for all. Replies of one topic go to its
 * requests in the order in which these were published. A connection that is lost does not end the waiting: the topics
 * are subscribed again with the next one.
 */
#include "base/map.h"
#include "io/loop.h"
#include "mqtt_outbox.h"

struct command;
struct mqtt_message;

struct rpcs {
    struct ctx *ctx;
    struct mqtt *mqtt;
    struct outbox *outbox;
    const struct mqtt_file *file;
    /* A subscription of the connector's own already brings the topic: it must be neither made nor ended here. */
    bool (*is_covered)(void *arg, struct str topic, uint8_t qos);
    void *arg;
    bool is_up;
    struct list open;  /* of struct rpc */
    struct map topics; /* name → struct response_topic */
    struct list stale; /* topics whose end the broker has not confirmed */
    unsigned n_stale;
    struct arena arena; /* of one command */
};

void rpcs_init(struct rpcs *rpcs, struct ctx *ctx, struct mqtt *mqtt, struct outbox *outbox,
               const struct mqtt_file *file);
void rpcs_fini(struct rpcs *rpcs); /* after rpcs_stop, or without a command ever */
/* deaf: nothing is read from the broker at the moment, so that no answer can be had. */
void rpcs_command(struct rpcs *rpcs, struct command *command, bool deaf);
/* True: the message was the response to a request. Asked only while rpcs_are_listening. */
bool rpcs_take(struct rpcs *rpcs, const struct mqtt_message *message);
static inline bool rpcs_are_listening(const struct rpcs *rpcs)
{
    return rpcs->topics.n > 0;
}
void rpcs_subscribed(struct rpcs *rpcs, uint16_t packet_id, const uint8_t *codes, size_t n);
void rpcs_up(struct rpcs *rpcs, bool session_present);
void rpcs_down(struct rpcs *rpcs); /* after outbox_down */
void rpcs_stop(struct rpcs *rpcs);
#endif
