/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_HTTP_PROBE_H
#define IOTGW_HTTP_PROBE_H
/*
 * Asks servers once each whether they are there, at most 16 at a time: for `iotgw test-connection`. A request that changes
 * nothing (GET, HEAD, OPTIONS) goes out as it is, in the place of any other one OPTIONS without a body.
 *
 * Owner thread: the loop's. Targets belong to the probe until each was told of, or their client is closed.
 */
#include "http/http_client.h"

enum http_verdict {
    HTTP_WORKS,
    HTTP_ANSWERS, /* the server is there, but what was asked for it does not give */
    HTTP_FAILS    /* not reached, or the login is refused */
};

struct http_target {
    struct http_call call; /* all but done and arg */
    struct str name;
    bool takes_any_status; /* what is asked for is no matter: any answer will do */
    const void *user;
    /* private */
    struct http_probe *probe;
    bool is_replaced;
};
/* reason: empty if it works. reply as of struct http_call. */
typedef void http_told_fn(void *arg, struct http_target *target, enum http_verdict verdict, struct str reason,
                          const struct http_reply *reply);
struct http_probe {
    struct http_client *client;
    struct http_target *targets;
    size_t n;
    http_told_fn *told; /* once for each target, in a later turn */
    void *arg;
    size_t next; /* private */
};
void http_probe_start(struct http_probe *probe);

/* Scheme and authority of a URL, or of what stands before the first tag of one; p NULL: they are not all in it. */
struct str http_origin(struct str url, bool is_whole);
#endif
