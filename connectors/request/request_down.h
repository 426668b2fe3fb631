/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_DOWN_H
#define IOTGW_CONNECTOR_REQUEST_DOWN_H
/*
 * From the platform to servers: calls and attribute updates → HTTP requests, and answers → results (request.md 4, 5). Pure;
 * results live in the arena given, or in the configuration.
 */
#include "request_conf.h"

struct down_call {
    struct web_request request;
    uint64_t timeout_ms, response_timeout_ms;
    uint32_t tries;
    bool allow_redirects;
    bool is_connector_rpc;           /* the result is an array */
    const struct template *response; /* NULL: the whole answer */
};

struct down_rpc {
    struct str device;             /* p NULL: a call to the connector itself */
    struct str method, id, params; /* id, params: JSON text; empty: none */
};
/* Any failure: *answer is what the platform is told. */
NODISCARD enum err down_rpc(const struct request_file *file, const struct down_rpc *rpc, struct arena *arena,
                            struct down_call *out, struct str *answer);

/* One call for each attribute and section that matches, in the order of the sections and of the document. */
void down_attributes(const struct request_file *file, struct str device, yyjson_val *values, struct arena *arena,
                     void (*call)(void *arg, const struct down_call *call),
                     void (*failed)(void *arg, struct str key, const struct why *why), void *arg);

/* What the platform is told of an answer, and of a failure (err of the HTTP client). */
struct str down_result(const struct down_call *call, unsigned status, struct str reason, struct str body,
                       struct arena *arena);
struct str down_failure(const struct down_call *call, enum err err, struct str text, struct arena *arena);
/* {"result":{"error":…}} */
struct str down_error(struct str text, struct arena *arena);
bool down_may_repeat(struct str method); /* GET, HEAD, PUT, DELETE, OPTIONS */
#endif
