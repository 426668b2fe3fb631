/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_ROUTE_H
#define IOTGW_CONNECTOR_REST_ROUTE_H
/* From method and path to the endpoint (rest.md 1.2, 3). Pure; results live in the arena, or in the configuration. */
#include "rest_conf.h"

enum rest_found {
    ROUTE_FOUND,
    ROUTE_NONE,  /* 404 */
    ROUTE_METHOD /* 405: the path is known, with other methods */
};
struct rest_match {
    const struct rest_endpoint *endpoint; /* with ROUTE_METHOD: one of that path */
    struct str vars[REST_VARS_MAX];       /* decoded, as endpoint->route names them */
    struct str allow;                     /* "GET, POST": all methods of the path; with ROUTE_METHOD */
};
enum rest_found rest_route_find(const struct rest_file *file, struct str method, struct str path, struct arena *arena,
                                struct rest_match *out);

/* %41 → A; what is no such escape stays. plus: + is a blank. */
struct str rest_decode(struct arena *arena, struct str text, bool plus);
#endif
