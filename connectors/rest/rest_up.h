/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_UP_H
#define IOTGW_CONNECTOR_REST_UP_H
/*
 * A request on its way up, without the network: who may send it, what it means, what it is answered (rest.md 3, 4). Pure; the
 * running connector and `iotgw convert` go through it.
 */
#include "rest_data.h"

/* Compared in constant time. header: of Authorization. */
bool rest_is_allowed(const struct rest_security *security, struct str header);
/* The text for the client if it is configured for this status; p NULL: it is not. */
struct str rest_failure_text(const struct rest_endpoint *endpoint, unsigned status);

struct rest_result {
    unsigned status; /* 200, or of what is not as it should be: 422, 403, 413, 503; the other items are stored */
    struct str text; /* the cause, if it is not 200 */
    size_t n_events;
};
/* Receives events: begin for each item, end when its device's event is complete. */
struct rest_sink {
    struct event *(*begin)(struct rest_sink *sink, struct device *dev, struct str profile);
    enum err (*end)(struct rest_sink *sink);
    void (*dropped)(struct rest_sink *sink, enum web_drop drop, struct str detail);
};
/* Items of one device become one event. counted: of web_convert. */
void rest_convert(const struct rest_endpoint *endpoint, const struct rest_data *data, struct rest_sink *sink,
                  int64_t wall_ms, struct arena *arena, struct web_out *counted, struct rest_result *out);

/* Attribute request: for which device, and a JSON array of names. False: one of them is missing. */
bool rest_question(const struct rest_endpoint *endpoint, const struct rest_data *data, struct arena *arena,
                   struct str *device, struct str *names_json, size_t *n_names);
/* What the client is answered. json: {"key":value} of what is set. */
struct str rest_answer_to_question(struct str device, uint64_t id, bool is_one, struct str json, struct arena *arena);
/* The value of an awaited attribute as text: booleans True and False, objects compact JSON. False: not in values. */
bool rest_awaited(const struct rest_response *response, yyjson_val *values, struct arena *arena, struct str *out);
#endif
