/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MQTT_BROWSE_H
#define IOTGW_MQTT_BROWSE_H
/*
 * A look at the broker beside the connector's own connection: with a client id of its own and a session that ends with it, so that a
 * running gateway loses nothing. Either the log-in alone (probe), or the topics that are published (listen), received with QoS 0.
 *
 * On the connector's loop. One look each; stop before free.
 */
#include "connector/ctx.h"
#include "mqtt/mqtt.h"

struct mqtt_browse;
/* conf: the connector's; its texts must stay. */
struct mqtt_browse *mqtt_browse_new(struct ctx *ctx, const struct mqtt_conf *conf);
void mqtt_browse_free(struct mqtt_browse *browse);  /* NULL allowed */
void mqtt_browse_probe(struct mqtt_browse *browse); /* tells by ctx_state */
/* filter empty: all topics. Each topic once, when it is first seen, as {"name","type","sample","configuration"}; ends only with an
 * error, or at 10,000 topics. */
NODISCARD enum err mqtt_browse_listen(struct mqtt_browse *browse, struct str filter, void *request, struct why *why);
void mqtt_browse_stop(struct mqtt_browse *browse, connector_done_fn *done, void *arg);

/* {"name":…}: what one message shows; configuration: an entry of "mapping", only for JSON objects. */
void mqtt_browse_item(struct buf *out, struct str filter, struct str topic, struct str payload, bool is_retained);
#endif
