/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_PROBE_H
#define IOTGW_CONNECTOR_REQUEST_PROBE_H
/*
 * For `iotgw test-connection`: each mapping's URL is asked once, and so is each other server that attribute updates and calls
 * would be sent to, if its name stands in the configuration. Tells by ctx_state; a link is a URL. No value is taken.
 * Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "http/http_probe.h"
#include "request_conf.h"

struct request_probe {
    struct ctx *ctx;
    struct http_probe run;
    struct arena arena;
};
void request_probe_start(struct request_probe *probe, struct ctx *ctx, const struct request_file *file,
                         struct http_client *client);
void request_probe_fini(struct request_probe *probe); /* after its client is closed; also a zeroed one */
#endif
