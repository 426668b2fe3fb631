/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_LINK_H
#define IOTGW_CONNECTOR_MODBUS_LINK_H
/*
 * One connection to Modbus servers, with the queue of what is asked over it: one server or, by their unit identifiers, many.
 *
 * Owner thread: the loop's. A request belongs to the link from modbus_link_send until its .done, which comes exactly once and
 * never inside modbus_link_send. Nothing is allocated for a request.
 *
 * Order: commands before polls; the units take turns in both; requests of one unit and kind leave in the order given, and
 * the commands of a unit one after the other. Up to max_in_flight are on their way (MBAP only), else one at a time.
 *
 * A unit that does not answer holds a place for a second (a tenth, if it has failed before; or four times the slowest answer
 * of late): then other units are asked, too, if there are transaction identifiers and no delay_ms.
 *
 * What is believed: an answer belongs to the request whose transaction identifier, unit and function code it has, if its form
 * is right (modbus_check_answer). Where there is no transaction identifier (RTU, ASCII), an answer that is overdue could be
 * taken for the next one of the same form: then the next request of that form to that unit waits for it for a while. All else
 * is counted and dropped.
 *
 * Failure: no answer in time, up to `retries` times again, then ERR_TIMEOUT; other units get their turn between. A unit that
 * has failed twice in a row, on a link with others, is left alone for a while that grows (its requests end with
 * ERR_UNREACHABLE at once); then one request without retries probes it. A link without any answer to three requests in a row is
 * opened anew. That datagrams or a serial line reach nobody is told by the units' silence alone. Exceptions 5 and 6 are asked again after 200 ms within `retries`; 10 and 11 count as no answer of the unit.
 * While the link is down and its last attempt has failed, requests end with ERR_CLOSED in the next turn.
 */
#include "base/list.h"
#include "modbus_frame.h"
#include "modbus_line.h"

struct log;
struct modbus_link;
struct modbus_unit;
enum { MODBUS_IN_FLIGHT_MAX = 16 };

struct modbus_request {
    struct list node;
    struct modbus_pdu pdu;
    uint8_t unit;
    uint8_t retries;
    bool is_command;
    uint32_t timeout_ms; /* of each attempt */
    /*
     * ERR_OK: reply is checked, or an exception (fc | 0x80); NULL after a broadcast (unit 0 on RTU and ASCII: writes only).
     * ERR_TIMEOUT, ERR_CLOSED, ERR_PROTO, ERR_UNREACHABLE, ERR_CANCELLED, ERR_USAGE: reply is NULL. The request may be sent
     * again, or freed, in done.
     */
    void (*done)(struct modbus_request *request, enum err err, const struct modbus_pdu *reply);
    void *arg;
    /* private */
    uint8_t state;
    uint16_t n_sent, tid;
    enum err err;
    uint32_t latency_ms; /* of the answer, from the first attempt on; valid in done */
    uint64_t due_ms, first_sent_ms, sent_ms;
    struct modbus_unit *of;
};

struct modbus_link_conf { /* texts are borrowed as long as the link lives */
    const char *name;     /* for people: "10.1.0.5:502", "/dev/ttyUSB0" */
    enum modbus_framing framing;
    struct modbus_line_conf line;
    uint8_t max_in_flight; /* 0: 1; MODBUS_SOCKET only */
    uint32_t delay_ms;     /* between the end of one request and the start of the next; then one at a time */
    unsigned attempts;     /* of connecting, attempt_pause_ms apart, then failed_pause_ms; 0: pauses of core.md 5.4 */
    uint32_t attempt_pause_ms, failed_pause_ms;
    bool local_echo; /* what is sent comes back before the answer */
};

struct modbus_link_events { /* any may be NULL */
    void (*up)(void *arg);
    void (*down)(void *arg, enum err err, const struct why *why); /* it was up, or the first attempt has failed */
    /* The unit has begun to answer, or stopped to: two requests in a row, all attempts, or exception 10 or 11. */
    void (*unit)(void *arg, uint8_t unit, bool is_answering);
};

struct modbus_counts {   /* of a unit; of a link those of all units */
    uint64_t n_requests; /* sent for the first time */
    uint64_t n_answers, n_exceptions, n_timeouts, n_retries;
    uint64_t n_bad;            /* answers that were not to be believed */
    uint64_t n_foreign;        /* late, duplicated, or asked for by nobody */
    uint32_t by_exception[12]; /* by code; 0: all others */
};

struct modbus_link_status {
    bool is_up;
    uint64_t since_ms;                            /* monotonic: up or down since */
    unsigned n_attempts;                          /* failed since it was last up */
    uint64_t n_connects, n_bad_checks, n_garbage; /* garbage: bytes */
    unsigned n_queued, n_in_flight;
    const char *error; /* why it is down; "" if it is up; valid until the loop's next turn */
};

/* Connects at once (never inside the call). */
struct modbus_link *modbus_link_new(struct loop *loop, struct log *log, const struct modbus_link_conf *conf,
                                    const struct modbus_link_events *events, void *arg);
void modbus_link_send(struct modbus_link *link, struct modbus_request *request);
/* A request that still waits ends with ERR_CANCELLED; one that is on its way ends as it will. */
void modbus_link_cancel(struct modbus_link *link, struct modbus_request *request);
/* All requests end with ERR_CLOSED before closed comes; no event comes any more, nothing may be sent. Frees the link. */
void modbus_link_close(struct modbus_link *link, closed_fn *closed, void *arg);

struct modbus_link_status modbus_link_status(const struct modbus_link *link);
struct modbus_counts modbus_link_counts(const struct modbus_link *link);
/* NULL: nothing was ever asked of that unit. Lives as long as the link. */
const struct modbus_counts *modbus_link_unit_counts(const struct modbus_link *link, uint8_t unit);
bool modbus_link_is_answering(const struct modbus_link *link, uint8_t unit); /* until two requests have failed */
#endif
