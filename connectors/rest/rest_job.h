/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_JOB_H
#define IOTGW_CONNECTOR_REST_JOB_H
/*
 * Requests of the platform under way: a call is one HTTP request and its result; an attribute update one request after the
 * other, and those of a device wait for each other. Each is tried again where its section says so. Every command is replied
 * to exactly once, at the latest by rest_jobs_stop. The HTTP client is loaded with the first one.
 * Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "http/http_client.h"
#include "rest_down.h"

struct rest_jobs {
    struct ctx *ctx;
    const struct rest_file *file;
    struct http_client *client; /* NULL: not needed yet */
    struct list open;
    bool is_stopped;
};

void rest_jobs_init(struct rest_jobs *jobs, struct ctx *ctx, const struct rest_file *file);
/* values: the attributes of an update. */
void rest_jobs_command(struct rest_jobs *jobs, struct command *command, yyjson_val *values);
void rest_jobs_stop(struct rest_jobs *jobs);
#endif
