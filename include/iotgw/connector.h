/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_H
#define IOTGW_CONNECTOR_H
/*
 * The contract of a connector: what a module exports (struct connector_type, under the symbol iotgw_module) and what the host gives it
 * (struct ctx, through the functions of struct host).
 *
 * Threads: everything runs on the instance's loop, except convert, which may run anywhere, and host functions marked
 * "any thread". A connector holds no globals: two instances never know of each other.
 * Life: open → start → (room, done, command, attributes, browse, apply)* → quiesce → stop → close. Nothing blocks; a turn takes at
 * most 256 KiB of input or 1 ms. A library that blocks runs in a helper thread (host->helper_start).
 */
#include "iotgw/conf.h"

enum { IOTGW_CONNECTOR_ABI = 1 };

enum connector_flags {
    CONNECTOR_LONG_TURNS = 1, /* gets a loop of its own */
    CONNECTOR_CANNOT_WAIT =
        2, /* its sources cannot be slowed (datagrams, advertisements): newest data is dropped when full */
    CONNECTOR_NO_LINKS = 4 /* message-driven: connect says that a device exists, nobody knows whether it is there now */
};

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP, LINK_DEGRADED, LINK_FAILED };
enum command_kind { COMMAND_RPC, COMMAND_ATTRIBUTES };

/*
 * Platform → device or connector. Exactly one reply each: json is the answer's data as JSON text in the form of the connector's
 * page; empty: {"success":true}, or for a connector RPC that there is no result; or with an error, the error in the
 * connector's form. Attributes: only err counts.
 */
struct command {
    size_t size;
    enum command_kind kind;
    struct device *dev;   /* NULL: a connector RPC */
    struct str method;    /* RPC */
    struct str id;        /* JSON text */
    struct str params;    /* JSON text: params, or the object of attributes */
    uint64_t deadline_ms; /* monotonic; the router owns it: a later reply is counted and dropped */
    void *user;           /* the connector's own, from .command to its reply */
};

struct served;
struct report_strategy; /* how often a value is reported, as the descriptor "reportStrategy" gives it (core.md 7) */
struct yyjson_val;
struct endpoint;

/* Input and output of a dry run (README.md 6 of the specification): both are JSON objects of the connector's own form. */
struct convert_io {
    size_t size;
    struct str direction;           /* "uplink" or "downlink" */
    const struct yyjson_val *input; /* raw numbers */
    struct str *output;             /* members of the answer as JSON object text, in the arena */
    struct arena *arena;
};

typedef void connector_done_fn(void *arg);

struct connector_type {
    uint32_t size, abi;
    const char *name, *title;     /* "mqtt", "MQTT broker" */
    const char *build_id;         /* in-tree modules: the program's; third parties: NULL */
    const struct conf_type *conf; /* its configuration file; base: the common keys */
    size_t state_size;            /* zeroed memory for one instance */
    unsigned flags;
    /* Builds state from a parsed configuration, no I/O. conf stays valid until close. */
    enum err (*open)(void *self, struct ctx *ctx, const void *conf, struct why *why);
    void (*close)(void *self); /* after stop has called back; accepts half-built */
    void (*start)(void *self); /* returns at once; links report through host->state */
    /* Take nothing more from sources; what was emitted completes, its sources are still acknowledged (≤ 2 s). */
    void (*quiesce)(void *self, connector_done_fn *done, void *arg);
    void (*stop)(void *self, connector_done_fn *done, void *arg); /* links closed; done within 3 s */
    void (*room)(void *self); /* there is credit again: go on reading, polling, accepting */
    /* All up to cookie are durable, or (result) were refused: then do not acknowledge their sources. Once a burst. */
    void (*done)(void *self, uint64_t cookie, enum err result);
    /* New configuration of the same file. True: taken over live. False: restart me. NULL: always restart. */
    bool (*apply)(void *self, const void *conf);
    /* Those of one device come in the platform's order and are begun in it; many may be under way, and replies need no order. */
    void (*command)(void *self, struct command *command);
    /* The platform's answer to host->request_attributes with this cookie; exactly one each. json: {"key":value,…} of what is
     * set, on ERR_OK. */
    void (*attributes)(void *self, uint64_t cookie, enum err result, struct str json);
    /* Shared attributes to be fetched when dev has connected: appends "key","key" to keys; true: all of them. NULL: none. */
    bool (*shared_keys)(void *self, struct device *dev, void (*add)(void *arg, struct str key), void *arg);
    /* Finds what the other side has, in the place of start or beside it; path empty: all. Answers through host->browse_item, each
     * {"name":…,"type":…,"sample":…,"configuration":…} of which all but name may be missing, then, unless it goes on until it is
     * stopped, host->browse_end. */
    enum err (*browse)(void *self, struct str path, void *request, struct why *why);
    enum err (*convert)(const void *conf, const struct convert_io *io, struct why *why);
    /* Of what it asks of its own accord (URLs, stations): add is called for each. NULL: nothing is counted so. */
    void (*endpoints)(void *self, void (*add)(void *arg, const struct endpoint *endpoint), void *arg);
    /* In the place of start, for iotgw test-connection: makes each link once, as start would, and tells with host->state; takes nothing
     * from sources, and has a name of its own where start's would end the session of a gateway that runs. NULL: start, and nothing of
     * what comes is stored or acknowledged. */
    void (*probe)(void *self);
    /* What its own server has seen. False: it has none at the moment. NULL: it never has one. */
    bool (*served)(void *self, struct served *out);
};

/* How calls to one endpoint have ended. */
enum endpoint_result {
    ENDPOINT_OK,
    ENDPOINT_MOVED,       /* a redirect that is not followed */
    ENDPOINT_REFUSED,     /* it says that the call is wrong (HTTP 4xx) */
    ENDPOINT_FAILED,      /* it says that it cannot (HTTP 5xx) */
    ENDPOINT_TIMEOUT,     /* no whole answer in time */
    ENDPOINT_UNREACHABLE, /* name, route, refused connection */
    ENDPOINT_CLOSED,      /* the connection ended within the call */
    ENDPOINT_TLS,
    ENDPOINT_PROTOCOL, /* what it says is not the protocol */
    ENDPOINT_LIMIT,    /* more than is allowed */
    ENDPOINT_CONTENT,  /* an answer that cannot be used */
    ENDPOINT_RESULTS
};
/* Longest durations in ms of the classes; the last class has what took longer. */
#define ENDPOINT_DURATIONS_MS 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000
enum { ENDPOINT_DURATIONS = 14 };
/* What a protocol counts besides: in camel case, "badChecksums". Of the connector until add has returned. */
struct endpoint_figure {
    const char *name; /* static */
    uint64_t n;
};
/* What is known of one endpoint; one writer, the connector's loop. */
struct endpoint {
    size_t size;
    struct str name;                        /* what a person would call it, without secrets */
    uint64_t n_calls;                       /* that have ended */
    uint64_t n_overdue, n_no_room;          /* left out: the last one had not ended; nothing more could be stored */
    uint64_t bytes_in, bytes_out;           /* with heads, where there are any */
    uint64_t results[ENDPOINT_RESULTS];     /* sum: n_calls */
    uint64_t durations[ENDPOINT_DURATIONS]; /* sum: n_calls */
    uint64_t total_us, longest_us;
    const struct endpoint_figure *figures;
    size_t n_figures;
};

/* What clients were answered. */
enum served_class {
    SERVED_OK,     /* HTTP 2xx, 3xx */
    SERVED_LOGIN,  /* 401, 403 */
    SERVED_PATH,   /* 404 */
    SERVED_METHOD, /* 405 */
    SERVED_LATE,   /* 408 */
    SERVED_LARGE,  /* 413 */
    SERVED_OFTEN,  /* 429 */
    SERVED_WRONG,  /* any other 4xx */
    SERVED_BUSY,   /* 503 */
    SERVED_FAILED, /* any other 5xx */
    SERVED_CLASSES
};
struct served {
    size_t size;
    uint64_t n_connections, n_too_many,
        n_slow; /* ever; closed because there were too many; because they were too slow */
    uint64_t n_open;
    uint64_t n_requests; /* answered: the sum of answers */
    uint64_t n_gone;     /* not answered, as the client had gone */
    uint64_t bytes_in, bytes_out;
    uint64_t answers[SERVED_CLASSES];
};

enum iotgw_kind { IOTGW_TELEMETRY = 1, IOTGW_ATTRIBUTES };
enum iotgw_counter {
    IOTGW_MESSAGES_IN,
    IOTGW_BYTES_IN,
    IOTGW_MESSAGES_OUT,
    IOTGW_BYTES_OUT,
    IOTGW_CONVERTED,
    IOTGW_DROPPED,
    IOTGW_CONVERSION_ERRORS,
    IOTGW_FALLBACKS,
    IOTGW_TS_VALUES,
    IOTGW_ATTR_VALUES,
    IOTGW_RECONNECTS,
    IOTGW_SKIPPED,
    IOTGW_UNCHANGED,      /* the host's: values that the report filter held back */
    IOTGW_REPEATED,       /* the host's: values of periodic reports */
    IOTGW_REPORTS_WAITED, /* the host's: times that periodic reports waited for credit */
    IOTGW_EVENTS,         /* the host's: events handed to the storage */
    IOTGW_COUNTER_COUNT
};
#define IOTGW_NO_TS INT64_MIN

/*
 * The host's functions. Data of one source message: event, value…, put (for each device), then mark. Batches are handed to the store by
 * the host at the end of the turn or when 64 KiB are full. In-tree modules may use src/connector/ctx.h directly.
 */
struct host {
    uint32_t size, abi;
    const char *build_id;
    struct device *(*device)(struct ctx *, struct str name); /* any thread; NULL: not a valid name */
    /* Begins an item. report: the device's own strategy, NULL: the connector's; it must live as long as the configuration. */
    void (*event)(struct ctx *, struct device *, struct str profile, const struct report_strategy *report);
    /* json: strict JSON text. report: the point's own strategy, NULL: the device's. */
    enum err (*value)(struct ctx *, enum iotgw_kind, struct str key, struct str json, int64_t ts_ms,
                      const struct report_strategy *report);
    enum err (*put)(struct ctx *); /* ends the item; ERR_DENIED: device filter, ERR_NOTFOUND: it has no value */
    /* All put since the last mark belong to sources up to cookie, which grows. False: take nothing more from the source
     * until .room. Every mark is covered by a later .done, also one with nothing put before it. */
    bool (*mark)(struct ctx *, uint64_t cookie);
    bool (*has_room)(const struct ctx *); /* for a server that answers "busy" instead of taking a request */
    void (*connect)(struct ctx *, struct device *, struct str profile); /* in band: never overtakes data */
    void (*disconnect)(struct ctx *, struct device *);
    void (*state)(struct ctx *, struct str link, enum link_state, struct str reason); /* link: "" the only one */
    void (*reply)(struct ctx *, struct command *, enum err,
                  struct str json); /* any thread; exactly once; gives it back */
    void (*log)(struct ctx *, int level, const char *phrase, struct str text);
    int64_t (*wall_ms)(struct ctx *);
    uint64_t (*mono_ms)(struct ctx *);
    /* Timers, sockets: the loop's own libuv loop, for third parties that bring their own handles. */
    void *(*uv_loop)(struct ctx *);
    /* A helper thread for a blocking library; post gives it a job: run in the thread, then done(job, ran) on the loop. One
     * at a time, in order. NULL: no thread to be had. After stop, jobs that were not begun come back with ran false;
     * stopped runs last, when the thread has ended (a connector's stop does not wait for it longer than its 3 s). */
    void *(*helper_start)(struct ctx *, const char *name);
    void (*helper_post)(void *helper, void (*run)(void *job), void (*done)(void *job, bool ran), void *job);
    void (*helper_stop)(void *helper, connector_done_fn *stopped, void *arg);
    void *(*alloc)(struct arena *, size_t size);
    void (*browse_item)(struct ctx *, void *request, struct str json);
    void (*browse_end)(struct ctx *, void *request, enum err, struct str reason);
    /* Asks the platform for attributes of a device (JSON arrays of keys, empty: none); answered by .attributes. */
    void (*request_attributes)(struct ctx *, struct device *, struct str shared, struct str client, uint64_t cookie);
    void (*count)(struct ctx *, enum iotgw_counter, uint64_t n);
    const char *(*config_dir)(struct ctx *); /* for positions that are kept with the configuration */
    /* From .command to the reply: the time-out that the connector's own configuration has for this command, counted from now.
     * Gives the deadline in force: a command that brought a time-out with it keeps that. */
    uint64_t (*deadline)(struct ctx *, struct command *, uint64_t timeout_ms);
    /* For what a connector makes for itself: the storage's directory, where it has one, else config_dir. May not exist yet. */
    const char *(*data_dir)(struct ctx *);
};
/* Set by the host in a module before anything else is called (a pointer the module defines and exports). */
#define IOTGW_HOST_SYMBOL "iotgw_host"
#define IOTGW_MODULE_SYMBOL "iotgw_module"
#endif
