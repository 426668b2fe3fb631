/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_PROBE_H
#define IOTGW_CONNECTOR_REST_PROBE_H
/*
 * For `iotgw test-connection`: whether the server could listen (address, port, certificate and key, how long that is valid),
 * without being reached by anybody meanwhile, and whether each server is there that attribute updates and calls would be sent to,
 * if its name stands in the configuration. Tells by ctx_state: "server", and a link for each of the others.
 * Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "http/http_probe.h"
#include "rest_conf.h"

struct rest_probe {
    struct ctx *ctx;
    struct http_probe run;
    struct arena arena;
};
/* Gives the client that it has made, to be closed by the caller; NULL: it needs none. */
struct http_client *rest_probe_start(struct rest_probe *probe, struct ctx *ctx, const struct rest_file *file);
void rest_probe_fini(struct rest_probe *probe); /* after its client is closed; also a zeroed one */
#endif
