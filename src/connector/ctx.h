/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CTX_H
#define IOTGW_CTX_H
/*
 * The host's side of one connector instance: its mailbox, its event under construction, the batch being filled, its
 * credit, counters and state. Counted (ctx_ref): answers may come back when the instance is long gone; then they vanish here.
 *
 * Owner thread: the instance's loop, except ctx_answer, ctx_status, ctx_ref, ctx_unref and what goes down (any thread) and
 * counters (relaxed reads).
 * Credit: 4 MiB of unanswered bytes a store, shared fairly by its connectors (each at least 256 KiB). ctx_mark answers
 * false beyond it; exceeded by at most one turn's input. A source then stops reading until .room, which comes when half of
 * it is free again.
 */
#include "base/log.h"
#include "conf/common.h"
#include "conf/conf.h"
#include "data/event.h"
#include "data/timestamp.h"
#include "iotgw/connector.h"
#include "store/store.h"

struct ctx_counters { /* one writer: the connector's loop; indexed by enum iotgw_counter */
    _Atomic(uint64_t) n[IOTGW_COUNTER_COUNT];
};

struct ctx_host { /* what the gateway gives to every ctx of one loop; outlives them */
    struct store *store;
    struct event_limits limits; /* records are split to these when encoded; changed on the loop only */
    const char *config_dir;
    const char *data_dir;          /* NULL: config_dir */
    struct report_strategy report; /* of the main level; zeroed: none. After a change: ctx_reset_report of each */
    uint32_t report_cleanup_s;     /* how often expired values are given back; 0: never */
    bool adds_meta;                /* latency mode: telemetry carries when it came; changed on the loop only */
    /* The gateway's device filter: false: denied. Any thread. NULL: none. */
    bool (*device_allowed)(void *arg, struct ctx *ctx, struct device *dev);
    void (*state_changed)(void *arg, struct ctx *ctx);
    /* A device's owner or profile has changed. Any thread; once at its first sight, not for each message. NULL: no matter. */
    void (*device_seen)(void *arg, struct ctx *ctx, struct device *dev);
    void (*attached)(void *arg, struct ctx *ctx); /* an instance has come; from the ctx's loop. NULL: no matter */
    /* Downwards; any thread. NULL: commands, browsing and attribute requests do not exist in this process. */
    void (*reply)(void *arg, struct ctx *ctx, struct command *command, enum err err, struct str json);
    void (*browse_item)(void *arg, struct ctx *ctx, void *request, struct str json);
    void (*browse_end)(void *arg, struct ctx *ctx, void *request, enum err err, struct str reason);
    void (*request_attributes)(void *arg, struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                               uint64_t cookie);
    /* An instance takes commands, or has more devices (ctx_hand_over, ctx_serve); it is no more; and the last reference is gone,
     * so that nobody can give back a command any more. NULL allowed. */
    void (*serving)(void *arg, struct ctx *ctx, bool is_there);
    void (*released)(void *arg, struct ctx *ctx);
    /* A device has connected, or is served by this ctx from now on; or ctx_sync asks again (then is_again). keys: a JSON array of
     * shared attributes to be fetched, empty: its type has no .shared_keys; is_all: and every other one. NULL allowed. */
    void (*device_connected)(void *arg, struct ctx *ctx, struct device *dev, struct str keys, bool is_all,
                             bool is_again);
    /* Somebody listens (ctx_taps): values that have passed the report filter; what a connector receives or sends. On the
     * connector's loop. NULL allowed. */
    void (*values_pass)(void *arg, struct ctx *ctx, const struct event *event);
    void (*wire_passes)(void *arg, struct ctx *ctx, bool is_out, struct str subject, struct str bytes);
    void *arg;
};

/* What is listened to now; one writer, any readers. While it is 0 listening costs the branch on it. */
enum { CTX_TAP_VALUES = 1, CTX_TAP_WIRE = 2 };
extern atomic_uint ctx_taps;
static inline bool ctx_is_tapped(unsigned what)
{
    return UNLIKELY(atomic_load_explicit(&ctx_taps, memory_order_relaxed) & what);
}
void ctx_tell_wire(struct ctx *ctx, bool is_out, struct str subject, struct str bytes);
/* For connectors: what has come, or goes out. subject: what a person would call it (a topic, a URL). */
static inline void ctx_wire(struct ctx *ctx, bool is_out, struct str subject, struct str bytes)
{
    if (ctx_is_tapped(CTX_TAP_WIRE))
        ctx_tell_wire(ctx, is_out, subject, bytes);
}

/* Makes ctx_answer the place where stores give their answers. Once, before the first ctx and the first store. */
void ctx_setup(void);

struct ctx *ctx_new(const struct connector_type *type, const char *name, struct loop *loop, const struct ctx_host *host,
                    struct conf *conf);
struct ctx *ctx_ref(struct ctx *ctx);
void ctx_unref(struct ctx *ctx); /* any thread; NULL allowed */
/* Whom room, done and commands go to. NULL: nobody any more; then its devices have no owner either. */
void ctx_attach(struct ctx *ctx, void *instance);
/* As ctx_attach with NULL, but its devices stay its own: somebody will name them, or ctx_inherit_gone is called. */
void ctx_end(struct ctx *ctx);
/* Those that are still from's, which has ended, are told to have gone. On the loop of ctx. */
void ctx_inherit_gone(struct ctx *ctx, struct ctx *from);
/* Before ctx runs and after from has stopped: its counters go on from there. */
void ctx_continue_counters(struct ctx *ctx, struct ctx *from);
/* The configuration that runs; a reference is taken. */
void ctx_set_conf(struct ctx *ctx, struct conf *conf);
/* For one that does not end when it should: what it still emits is refused, the message it was in the midst of is taken back
 * (as soon as its loop runs), and its devices have no owner. Any thread. */
void ctx_bar(struct ctx *ctx);
/* It stops to come back at once: from now on ctx_disconnect tells nothing. */
void ctx_keep_devices(struct ctx *ctx);
/* Each of its devices that is not down is told to have gone. */
void ctx_disconnect_all(struct ctx *ctx);
/* The devices of one are the other's from now on (to NULL: nobody's). Any thread. */
void ctx_hand_over(struct ctx *from, struct ctx *to);

/* Any thread: the device is served by ctx although it has sent nothing yet; false: it has an owner. And the reverse: by
 * nobody, until its next data. */
bool ctx_serve(struct ctx *ctx, struct device *dev);
void ctx_abandon(struct device *dev);
void ctx_abandon_if(struct device *dev, struct ctx *ctx); /* only if it is ctx that serves it */

const struct device_source *ctx_source(const struct ctx *ctx); /* NULL: there are too many */
struct str ctx_id(const struct ctx *ctx);                      /* "id" of its configuration; empty: none */
bool ctx_knows_links(const struct ctx *ctx);                   /* whether its devices' links are known */
/* Quiescing: commands that arrive from now on are given back at once with ERR_CLOSED. ctx_attach ends it. */
void ctx_hush(struct ctx *ctx);

/*
 * Down to the connector; any thread. A command lives in a command_box, which its maker keeps until it is given back
 * (ctx_host.reply: exactly once, also when nobody is there) or ctx_host.released says that it never will be. False: the type has no
 * .command, and the box is not taken.
 */
struct ctx_down {
    struct node node;
    struct ctx *ctx;
    void (*run)(struct ctx *ctx, struct ctx_down *down);
};
struct command_box {
    struct ctx_down down;
    struct command command;
    _Atomic(uint64_t) deadline_ms; /* what ctx_deadline made of command.deadline_ms */
    bool has_timeout;              /* the command itself says how long it may take */
};
bool ctx_command(struct ctx *ctx, struct command *command);
/* From .command to the reply, on the instance's loop: the time-out that the connector's own configuration has for this
 * command, from now. Gives the deadline in force: a command that brought its own keeps that. */
uint64_t ctx_deadline(struct ctx *ctx, struct command *command, uint64_t timeout_ms);
void ctx_answer_attributes(struct ctx *ctx, uint64_t cookie, enum err err, struct str json); /* .attributes */
void ctx_sync(struct ctx *ctx); /* device_connected for each device it serves, if its type has .shared_keys */

const char *ctx_name(const struct ctx *ctx);
const struct connector_type *ctx_type(const struct ctx *ctx);
struct log *ctx_log(struct ctx *ctx);
struct log *ctx_converter_log(struct ctx *ctx); /* of what cannot be made of a source's message: "<name>_converter" */
/* Of both; remote: what the platform gets (LOG_LEVEL_OFF: nothing). Any thread. */
void ctx_set_log_levels(struct ctx *ctx, enum log_level level, enum log_level remote);
struct loop *ctx_loop(const struct ctx *ctx);
/* For times that lack a date; TIMESTAMP_NO_NOW before the clock is set. */
static inline int64_t ctx_today_ms(const struct ctx *ctx)
{
    int64_t now_ms;

    return loop_stamp(ctx_loop(ctx), &now_ms) ? now_ms : TIMESTAMP_NO_NOW;
}
struct ctx_counters *ctx_counters(struct ctx *ctx);
static inline void ctx_count(struct ctx *ctx, enum iotgw_counter counter, uint64_t n)
{
    _Atomic(uint64_t) *at = &ctx_counters(ctx)->n[counter];

    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t ctx_counter(struct ctx *ctx, enum iotgw_counter counter)
{
    return atomic_load_explicit(&ctx_counters(ctx)->n[counter], memory_order_relaxed);
}

/* The event to be filled (data/event.h); one at a time. ctx_put filters, counts, encodes it into the batch. What the
 * report filter holds back counts as accepted: ERR_OK also if nothing is left. */
struct event *ctx_event(struct ctx *ctx, struct device *dev, struct str profile);
NODISCARD enum err ctx_put(struct ctx *ctx); /* ERR_DENIED: device filter; ERR_NOTFOUND: no value in it */
/* What an earlier life has left, for its source alone (gateway/takeover.h): the event, as it is; or n bytes of sealed records
 * of one source message. Neither owner, link and report filter of the device learn of it, nor its count of what was
 * collected. ts_ms: for values without time. ERR_NOMEM, ERR_LIMIT: too large; ERR_NOTFOUND: no value in it. */
NODISCARD enum err ctx_put_past(struct ctx *ctx, int64_t ts_ms);
NODISCARD enum err ctx_put_records(struct ctx *ctx, const struct record *first, size_t n);
/* The main level's report strategy has changed: what the filter remembers is forgotten, and periodic reports begin with the
 * next values. ctx_set_conf does the same. */
void ctx_reset_report(struct ctx *ctx);
/* No periodic reports any more: the connector is being quiesced, and what it answers for must come to an end. */
void ctx_quiesce(struct ctx *ctx);
struct report_stats;
struct report_stats ctx_report_stats(const struct ctx *ctx); /* on the loop */
bool ctx_mark(struct ctx *ctx, uint64_t cookie);
bool ctx_has_room(const struct ctx *ctx);
bool ctx_is_idle(const struct ctx *ctx); /* nothing unanswered and nothing in the batch */
void ctx_flush(struct ctx *ctx);         /* hand over now instead of at the end of the turn */
/* In band, and covered by the next ctx_mark as values are. */
void ctx_connect(struct ctx *ctx, struct device *dev, struct str profile);
void ctx_disconnect(struct ctx *ctx, struct device *dev);

void ctx_state(struct ctx *ctx, struct str link, enum link_state state, struct str reason);
struct ctx_status {
    enum link_state state;
    int64_t since_ms; /* wall */
    char reason[200];
    unsigned n_attempts;
};
struct ctx_status ctx_status(struct ctx *ctx); /* any thread */
struct ctx_link {
    struct str name;
    struct str reason; /* of the last failure */
    enum link_state state;
    int64_t since_ms; /* wall */
    unsigned n_attempts;
};
/* Each link that the connector has told of; on the loop. Views live until fn returns. */
void ctx_each_link(const struct ctx *ctx, void (*fn)(void *arg, const struct ctx_link *link), void *arg);
/* Each endpoint that the connector counts; on the loop. Views live until fn returns. */
void ctx_each_endpoint(const struct ctx *ctx, void (*fn)(void *arg, const struct endpoint *endpoint), void *arg);
bool ctx_served(const struct ctx *ctx,
                struct served *out);                /* what its server has seen; on the loop. False: it has none */
const char *link_state_name(enum link_state state); /* "up" */
void ctx_answer(struct batch *batch);               /* any thread; from the store */
size_t ctx_in_flight_bytes(const struct ctx *ctx);
extern const struct host ctx_host_functions; /* for third-party modules */

/* A thread for a library that blocks; see struct host. */
struct helper;
struct helper *helper_start(struct ctx *ctx, const char *name);
void helper_post(struct helper *helper, void (*run)(void *job), void (*done)(void *job, bool ran), void *job);
void helper_stop(struct helper *helper, connector_done_fn *stopped, void *arg);
#endif
