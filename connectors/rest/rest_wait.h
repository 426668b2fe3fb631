/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REST_WAIT_H
#define IOTGW_CONNECTOR_REST_WAIT_H
/*
 * Requests that are not answered yet: until their data is durable, until an attribute update of the device comes, until the
 * platform answers. Each is answered exactly once, at the latest by waits_end, through the function given.
 * Data that is not durable within 5 s is answered with 503, though it may yet be stored: its client sends it again.
 * Owner thread: the connector's loop. Memory of what was answered is used again.
 */
#include "http/http_server.h"
#include "rest_up.h"

struct wait_part { /* of a request for attributes: one item */
    struct device *dev;
    struct buf answer;
    bool is_one, is_answered;
};
struct wait {
    struct list node; /* by what it waits for: durable, attribute or question; or among the spare ones */
    struct waits *waits;
    struct http_request *request;
    const struct rest_endpoint *endpoint;
    const char *origin;
    uint64_t cookie, since_ms;
    struct device *dev;      /* whose attribute is awaited */
    struct wait_part *parts; /* of a question; the cookie is that of the first */
    size_t n_parts, n_left;
    struct timer timer;
    unsigned status; /* 0: not known yet */
    struct buf text; /* the answer */
    bool is_durable, awaits;
};

typedef void wait_answer_fn(void *arg, struct wait *wait, unsigned status, struct str text);
struct waits {
    struct loop *loop;
    wait_answer_fn *answer;
    void *arg;
    struct list durable;   /* not durable yet, in the order of cookies */
    struct list attribute; /* durable, but its attribute has not come; oldest first */
    struct list questions, spare;
    size_t n_questions, n_spare, n_awaiting; /* questions: all items of those requests */
    struct timer sweep;
    bool is_stuck; /* the storage has taken nothing for some time: whoever comes now would wait as well */
};

void waits_init(struct waits *waits, struct loop *loop, wait_answer_fn *answer, void *arg);
void waits_fini(struct waits *waits); /* after waits_end, or when nothing has begun; also a zeroed one */
struct wait *waits_add(struct waits *waits, struct http_request *request, const struct rest_endpoint *endpoint,
                       const char *origin);
/* To be followed by waits_until_durable: what is answered then. */
void wait_set_failure(struct wait *wait, unsigned status, struct str text);
void wait_for_attribute(struct waits *waits, struct wait *wait, struct device *dev);
void waits_until_durable(struct waits *waits, struct wait *wait, uint64_t cookie);
/* n items, which are asked for with cookie and those after it; all answers together are the answer, a failure is that of all. */
void waits_until_answered(struct waits *waits, struct wait *wait, const struct rest_question *questions, size_t n,
                          uint64_t cookie);

void waits_durable(struct waits *waits, uint64_t cookie, enum err result); /* all up to cookie */
void waits_attribute(struct waits *waits, const struct device *dev, yyjson_val *values, struct arena *arena);
void waits_answered(struct waits *waits, uint64_t cookie, enum err result, struct str json, struct arena *arena);
void waits_end(struct waits *waits); /* all that still wait are answered with 503 */
#endif
