/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_POLL_H
#define IOTGW_CONNECTOR_REQUEST_POLL_H
/*
 * Polling one mapping: at fixed times, counted from the first poll, so that nothing drifts. A poll that is due while the one
 * before is under way, or while there is no credit, is skipped and counted. Large answers are converted in pieces.
 * Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "connector/endpoint.h"
#include "http/http_client.h"
#include "request_item.h"

enum { SUBS_AT_ONCE = 8 };

struct poll;
struct sub_slot {
    struct poll *poll;
    struct http_call call;
    size_t index;
};
struct poll_drop {
    uint64_t n, next_ms; /* not reported yet; when it may be */
};

struct poll {
    struct web_out out; /* first */
    struct ctx *ctx;
    const struct request_file *file;
    const struct request_mapping *mapping;
    struct http_client *client;
    uint64_t *cookie; /* the connector's */
    /* A poll has ended; not ok: reason says why. Keeps has_result and is_ok. */
    void (*ended)(void *arg, struct poll *poll, bool is_ok);
    void *arg;

    struct timer timer, more;
    struct http_call call;
    bool is_busy, is_waiting; /* waiting: for credit */
    struct answer answer;
    struct arena arena, item_arena; /* of the poll, of one item */
    struct poll_drop drops[WEB_DROPS];

    yyjson_val **items;  /* with sub requests */
    struct str *answers; /* of item i, use k at i * n_uses + k */
    size_t n_sub, sub_next, n_sub_open, sub_bytes;
    struct sub_slot slots[SUBS_AT_ONCE];

    bool is_ok, has_result; /* of the last poll */
    char reason[200];
    struct endpoint figures, sub_figures; /* of the polls, of their sub requests */
};

void poll_init(struct poll *poll, struct ctx *ctx, const struct request_file *file,
               const struct request_mapping *mapping);
void poll_start(struct poll *poll, struct http_client *client, uint64_t delay_ms);
void poll_room(struct poll *poll);
void poll_stop(struct poll *poll); /* at once; what was converted stays */
void poll_fini(struct poll *poll); /* after poll_stop */
#endif
