/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_LINK_IMPL_H
#define IOTGW_CONNECTOR_MODBUS_LINK_IMPL_H
/*
 * The inside of a link, for the files that make it up: modbus_link.c (life and connection), modbus_exchange.c (what is asked
 * and answered), modbus_turn.c (whose turn it is). Nobody else includes it.
 *
 *   CONNECTING ─► UP ─► LOSING ─► WAITING ─► CONNECTING …
 *        └───────────────────────────▲
 * LOSING: the link itself closes the line. From any state: ENDED, by modbus_link_close.
 */
#include "base/log.h"
#include "io/backoff.h"
#include "io/retry.h"
#include "modbus_link.h"

enum modbus_link_state {
    MODBUS_LINK_CONNECTING,
    MODBUS_LINK_UP,
    MODBUS_LINK_LOSING,
    MODBUS_LINK_WAITING,
    MODBUS_LINK_ENDED
};

enum modbus_request_state { MODBUS_IDLE, MODBUS_QUEUED, MODBUS_IN_FLIGHT, MODBUS_DELAYED, MODBUS_FINISHED };

/* Answers without a transaction identifier that may yet come to requests that have timed out. */
struct modbus_owed {
    unsigned n, size;
    uint8_t fc;
    uint64_t until_ms;
};

struct modbus_unit {
    uint8_t id;
    bool is_answering;
    bool is_silent;    /* left alone until silent_until_ms; then probed */
    unsigned n_failed; /* requests in a row */
    unsigned n_in_flight;
    struct list commands, polls;         /* queued, by struct modbus_request.node */
    struct list command_turn, poll_turn; /* in the link's rings, if there are any */
    struct modbus_request *command;      /* begun and not finished; NULL: none */
    struct backoff backoff;
    uint64_t silent_until_ms;
    uint32_t latency_ms; /* slowest answer of late; UINT32_MAX: none yet */
    struct modbus_owed owed;
    struct modbus_counts counts;
};

struct modbus_link {
    struct loop *loop;
    struct log *log;
    struct modbus_link_conf conf;
    struct modbus_link_events events;
    void *arg;
    enum modbus_link_state state;

    struct modbus_line *line; /* NULL: none */
    struct modbus_framer framer;
    struct backoff backoff;
    struct retry retry;
    struct serial_watch *watch;
    bool is_failing; /* the last attempt to connect has failed */
    bool was_told;   /* events.down has been called for this outage */
    unsigned n_attempts;
    uint64_t n_connects, since_ms;
    struct why why; /* of the outage */

    struct modbus_unit *units[256];
    unsigned n_units;
    struct list command_turns, poll_turns; /* units that have something queued, whose turn it is first */
    struct list delayed, finished;         /* requests: by due_ms; to be told of */
    unsigned n_queued, n_finished, n_in_flight, window;
    struct modbus_request *in_flight[MODBUS_IN_FLIGHT_MAX];
    unsigned n_failed;  /* requests in a row */
    uint64_t n_foreign; /* of units that nothing is asked of */
    uint16_t next_tid;
    uint32_t latency_ms;          /* slowest answer of late, of all units */
    uint64_t free_ms;             /* nothing is sent before: gap between requests, silence of the line */
    uint64_t wake_ms;             /* something may become possible then; UINT64_MAX: nothing waits for a time */
    uint32_t char_us, silence_ms; /* serial; silence: RTU */
    struct timer deadline, pace;
    struct late pump;
    bool is_pumping;

    uint8_t *echo; /* of what was sent last; NULL: no echo is expected */
    size_t echo_n, echo_at;

    struct closer closer;
    closed_fn *closed;
    void *closed_arg;
};

/* modbus_link.c */
void modbus_link_lose(struct modbus_link *link, enum err err, const char *text); /* close the line and begin anew */

/* modbus_exchange.c */
void modbus_exchange_init(struct modbus_link *link);
void modbus_exchange_fini(struct modbus_link *link);
void modbus_exchange_up(struct modbus_link *link);
void modbus_exchange_down(struct modbus_link *link, bool is_failing); /* the line is gone */
void modbus_exchange_end(struct modbus_link *link);                   /* every request is finished */
void modbus_exchange_bytes(struct modbus_link *link, const uint8_t *p, size_t n);
void modbus_exchange_pump(struct modbus_link *link);
void modbus_exchange_tell(struct modbus_link *link); /* calls .done of what is finished */

/* modbus_turn.c */
struct modbus_unit *modbus_unit_of(struct modbus_link *link, uint8_t id); /* made on first use */
void modbus_turn_add(struct modbus_link *link, struct modbus_request *request, bool first);
void modbus_turn_remove(struct modbus_link *link, struct modbus_request *request);
/* The next one that may be sent now, taken out; NULL: none. beyond: only of a unit that has none on its way. Lowers link->wake_ms to when one may be. */
struct modbus_request *modbus_turn_take(struct modbus_link *link, bool beyond);
/* Everything queued of the unit, or of all (NULL), goes to finished. */
void modbus_turn_flush(struct modbus_link *link, struct modbus_unit *unit, enum err err);
void modbus_turn_finish(struct modbus_link *link, struct modbus_request *request, enum err err);
static inline bool modbus_link_is_shared(const struct modbus_link *link)
{
    return link->n_units > 1;
}
#endif
