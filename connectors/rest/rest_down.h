/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_DOWN_H
#define IOTGW_CONNECTOR_REST_DOWN_H
/*
 * From the platform to devices' servers: calls and attribute updates → HTTP requests, and answers → results (rest.md 5, 6).
 * Pure; results live in the arena given, or in the configuration.
 */
#include "rest_conf.h"

struct rest_call {
    struct web_request request;
    struct str form; /* JSON object whose members are sent as fields of a form; p NULL: request.body counts */
    const struct rest_security *security;     /* NULL: anonymous */
    uint64_t timeout_ms, response_timeout_ms; /* response: 0: no limit for the whole */
    uint32_t tries;
    bool allow_redirects, verify;
};

struct rest_rpc {
    struct str device;             /* p NULL: a call to the connector itself */
    struct str method, id, params; /* id, params: JSON text; empty: none */
};
/* Any failure: *answer is what the platform is told. */
NODISCARD enum err rest_rpc(const struct rest_file *file, const struct rest_rpc *rpc, struct arena *arena,
                            struct rest_call *out, struct str *answer);

/* One call for each attribute and section that matches, in the order of the sections and of the document. */
void rest_attributes(const struct rest_file *file, struct str device, yyjson_val *values, struct arena *arena,
                     void (*call)(void *arg, const struct rest_call *call),
                     void (*failed)(void *arg, struct str key, const struct why *why), void *arg);

/* Body and content type of a form; the call's own headers with the type in place of theirs. False: it is no object, and
 * the form has no fields. */
bool rest_form(const struct rest_call *call, struct arena *arena, struct web_request *out);

/* What the platform is told of an answer, and of a failure (err of the HTTP client). */
struct str rest_result_text(unsigned status, struct str reason, struct str body, struct arena *arena);
struct str rest_failure(enum err err, struct str text, struct arena *arena);
/* {"error":…,"success":false} */
struct str rest_not_served(struct str text, struct arena *arena);
bool rest_may_repeat(struct str method); /* GET, HEAD, PUT, DELETE, OPTIONS */
#endif
