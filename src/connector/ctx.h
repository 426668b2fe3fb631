/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CTX_H
#define IOTGW_CTX_H
/*
 * The host's side of one connector instance: its mailbox, its event under construction, the batch being filled, its
 * credit, counters and state. Counted (ctx_ref): answers may come back when the instance is long gone; then they vanish here.
 *
 * Owner thread: the instance's loop, except ctx_answer and ctx_reply (any thread) and counters (relaxed reads).
 * Credit: 4 MiB of unanswered bytes a store, shared fairly by its connectors (each at least 256 KiB). ctx_mark answers
 * false beyond it; exceeded by at most one turn's input. A source then stops reading until .room.
 */
#include "base/log.h"
#include "conf/conf.h"
#include "data/event.h"
#include "iotgw/connector.h"
#include "store/store.h"

struct ctx_counters { /* one writer: the connector's loop */
    _Atomic(uint64_t) n_messages_in, bytes_in, n_messages_out, bytes_out;
    _Atomic(uint64_t) n_converted, n_dropped, n_conversion_errors, n_fallbacks, n_ts_values, n_attr_values, n_reconnects;
};

struct ctx_host { /* what the gateway gives to every ctx */
    struct store *store;
    struct event_limits limits;              /* records are split to these when encoded; may change: read once an event */
    /* The gateway's device filter: false: denied. Any thread. NULL: none. */
    bool (*device_allowed)(void *arg, struct ctx *ctx, struct device *dev);
    void (*state_changed)(void *arg, struct ctx *ctx);
    void *arg;
};

struct ctx *ctx_new(const struct connector_type *type, const char *name, struct loop *loop, const struct ctx_host *host,
                    struct conf *conf);
struct ctx *ctx_ref(struct ctx *ctx);
void ctx_unref(struct ctx *ctx);
void ctx_attach(struct ctx *ctx, void *instance); /* whom room, done and commands go to; NULL: nobody any more */

struct log *ctx_log(struct ctx *ctx);
const char *ctx_name(const struct ctx *ctx);
struct loop *ctx_loop(const struct ctx *ctx);
struct ctx_counters *ctx_counters(struct ctx *ctx);
const struct connector_type *ctx_type(const struct ctx *ctx);

/* The event to be filled (data/event.h); one at a time. ctx_put filters, counts, encodes it into the batch. */
struct event *ctx_event(struct ctx *ctx, struct device *dev, struct str profile);
NODISCARD enum err ctx_put(struct ctx *ctx);
bool ctx_mark(struct ctx *ctx, uint64_t cookie);
bool ctx_has_room(const struct ctx *ctx);
bool ctx_is_idle(const struct ctx *ctx); /* nothing unanswered and nothing in the batch */
void ctx_flush(struct ctx *ctx);         /* hand over now instead of at the end of the turn */
void ctx_connect(struct ctx *ctx, struct device *dev, struct str profile);
void ctx_disconnect(struct ctx *ctx, struct device *dev);

void ctx_state(struct ctx *ctx, struct str link, enum link_state state, struct str reason);
struct ctx_status {
    enum link_state state;
    int64_t since_ms;  /* wall */
    char reason[200];
    unsigned n_attempts;
};
struct ctx_status ctx_status(struct ctx *ctx); /* any thread */
void ctx_answer(struct batch *batch); /* any thread; from the store */
size_t ctx_in_flight_bytes(const struct ctx *ctx);
extern const struct host ctx_host_functions; /* for third-party modules */
#endif
