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

/* What one item of an attribute request asks for. */
struct rest_question {
    struct str device, names; /* names: a JSON array */
    bool is_one;              /* one name */
};
enum { REST_QUESTIONS_MAX = 1000 }; /* of one request, and under way */
/* One for each item, in their order; they live in the arena. 0, or the status that the client is answered, and why. */
unsigned rest_questions(const struct rest_endpoint *endpoint, const struct rest_data *data, struct arena *arena,
                        struct rest_question **out, struct str *why);
/* What the client is answered to one. json: {"key":value} of what is set. */
struct str rest_answer_to_question(struct str device, uint64_t id, bool is_one, struct str json, struct arena *arena);
/* All answers to a request of n items: that of its only one, or a JSON array in the order of the items. */
void rest_add_answer(struct buf *out, size_t i, size_t n, struct str answer);
/* The value of an awaited attribute as text: booleans True and False, objects compact JSON. False: not in values. */
bool rest_awaited(const struct rest_response *response, yyjson_val *values, struct arena *arena, struct str *out);
#endif
