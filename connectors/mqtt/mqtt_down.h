/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_DOWN_H
#define IOTGW_CONNECTOR_MQTT_DOWN_H
/*
 * From the platform to devices: requests, attribute updates and answers to attribute requests → publications. Pure, as
 * mqtt_convert.h: the same code serves the running connector, `iotgw convert` and the fuzzer. Texts come from the
 * platform and from devices: a topic that nobody may publish to is an error, never a publication.
 * Results live in the arena given (or in the configuration).
 */
#include "mqtt_plan.h"

enum { DOWN_NAMES_MAX = 256, DOWN_NAME_BYTES_MAX = 255 };

struct down_message {
    struct str topic, payload;
    uint8_t qos;
    bool retain;
};

struct rpc_call {
    struct str device;             /* p NULL: a call to the connector itself */
    struct str method, id, params; /* id, params: JSON text; empty: none */
};
struct down_rpc {
    struct down_message request;
    struct str response_topic; /* p NULL: one-way */
    uint8_t response_qos;
    uint64_t timeout_ms; /* of the response */
};
/* ERR_NOTFOUND: no section serves the method; any failure: why is the text for the platform. */
NODISCARD enum err down_rpc(const struct mqtt_file *file, const struct rpc_call *call, struct arena *arena,
                            struct down_rpc *out, struct why *why);
/* The device's own words as JSON: what parses goes as it is, else as text (in the arena). */
struct str down_response(struct str payload, struct arena *arena);
/* {"error":…,"success":false} */
struct str down_error(struct str text, struct arena *arena);

struct down_out {
    void (*publish)(struct down_out *out, const struct down_message *message);
    void (*failed)(struct down_out *out, struct str key, const struct why *why);
};
/* values: the object of changed attributes. Gives the number of sections that concern the device. */
unsigned down_attributes(const struct mqtt_file *file, struct str device, yyjson_val *values, struct arena *arena,
                         struct down_out *out);

/* Names of attributes that updates of the device are made of. True: filters that name no single one. */
bool down_shared_keys(const struct mqtt_file *file, struct str device, void (*add)(void *arg, struct str key),
                      void *arg);

/* What a device asks for. */
struct attribute_question {
    bool is_client;
    const struct str *names;
    size_t n;
};
/* data: the payload, NULL if it is not JSON. ERR_NOTFOUND: no name; ERR_RANGE: neither shared nor client. */
NODISCARD enum err down_question(const struct attribute_request *section, struct str topic, yyjson_val *data,
                                 struct arena *arena, struct attribute_question *out);
/* values: the object of those that are set. ERR_NOTFOUND: there is nothing to say. */
NODISCARD enum err down_answer(const struct attribute_request *section, struct str device,
                               const struct attribute_question *question, yyjson_val *values, struct arena *arena,
                               struct down_message *out, struct why *why);
#endif
