/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_JOB_H
#define IOTGW_CONNECTOR_REQUEST_JOB_H
/*
 * Requests of the platform under way: a call is one HTTP request and its result, an attribute update one after the other,
 * and each is tried again where the section says so. Each command is replied to exactly once, at the latest by jobs_stop.
 * Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "http/http_client.h"
#include "request_down.h"

struct jobs {
    struct ctx *ctx;
    const struct request_file *file;
    struct http_client *client; /* NULL: not started */
    struct list open;
};

void jobs_init(struct jobs *jobs, struct ctx *ctx, const struct request_file *file);
void jobs_command(struct jobs *jobs, struct command *command);
void jobs_stop(struct jobs *jobs);

/* What every request of the connector has in common. */
void request_prepare(const struct request_file *file, const struct web_request *request, struct http_call *call);
/* For who listens to the wire: the body that goes out, or has come. */
void request_tell_wire(struct ctx *ctx, bool is_out, struct str url, struct str body);
#endif
