/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_DATA_H
#define IOTGW_CONNECTOR_REST_DATA_H
/*
 * What a request brings, as data objects (rest.md 3): path variables, query and body, merged; of an array each item is one.
 * Pure. A body that is an object, without query and variables, which is nearly every one, is taken as it was parsed.
 */
#include "rest_route.h"

struct rest_input {
    struct str method, query, content_type, body; /* p NULL: none */
    const struct rest_match *match;
};

struct rest_data {
    yyjson_doc **docs; /* in the arena; freed by rest_data_close */
    size_t n_docs;
    yyjson_val **items; /* objects */
    size_t n;
};

/* 0, or the status that the client is answered, and why. */
unsigned rest_data_open(struct rest_data *data, const struct rest_input *input, struct arena *arena, struct why *why);
void rest_data_close(struct rest_data *data); /* also a zeroed one */
#endif
