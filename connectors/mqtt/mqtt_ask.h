/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_ASK_H
#define IOTGW_CONNECTOR_MQTT_ASK_H
/*
 * Attribute requests of devices on their way to the platform and back (mqtt.md 5). Owner thread: the connector's loop.
 * Devices may ask as often as they like: at most ASKS_MAX questions wait, those beyond are left out, which is logged.
 */
#include "mqtt_outbox.h"

enum { ASKS_MAX = 1000, ASKS_BYTES_MAX = 1024 * 1024 };

struct asks {
    struct ctx *ctx;
    struct outbox *outbox;
    struct list open; /* of struct ask, oldest first */
    unsigned n;
    size_t bytes;
    uint64_t cookie;
    struct arena arena; /* of one answer */
};

void asks_init(struct asks *asks, struct ctx *ctx, struct outbox *outbox);
void asks_fini(struct asks *asks);
void asks_begin(struct asks *asks, const struct attribute_request *section, struct device *dev,
                const struct attribute_question *question);
void asks_answer(struct asks *asks, uint64_t cookie, enum err result, struct str json);
#endif
