/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ROUTER_IMPL_H
#define IOTGW_ROUTER_IMPL_H
/*
 * The router's inside, shared by its files. Owner thread: the main loop, but for struct delivery between ctx_command and its
 * reply, and for what posts to router.in.
 */
#include "base/map.h"
#include "gateway/router.h"
#include "gateway/router_forms.h"
#include "gateway/router_repeat.h"

enum {
    OPEN_MAX = 64,                /* commands of one connector that wait for their reply */
    LENT_MAX = 256,               /* those and the ones it still holds after their deadline */
    REQUESTS_MAX = 1024,          /* of the platform, at once */
    BYTES_MAX = 32 * 1024 * 1024, /* texts of all requests and commands */
    DEADLINE_MS = 5000,           /* unless the request or the connector says another */
    DEADLINE_MAX_MS = 3600 * 1000,
    UNKNOWN_MS = 5000, /* that long a device may take to appear */
};

/* One connector instance that was attached; from then until its ctx is released. */
struct connector {
    struct list node;
    struct ctx *ctx;  /* a reference while is_there */
    struct list lent; /* deliveries it holds */
    unsigned n_open, n_lent, n_asking;
    bool is_there;
};

/* One command at one connector. */
struct delivery {
    struct router *router;
    size_t n_bytes;
    struct command_box box;
    struct node back;       /* carries it to the main loop when it is given back */
    struct list node;       /* connector.lent */
    struct list of_request; /* router_request.deliveries */
    struct connector *connector;
    struct router_request *request; /* NULL: it is answered, or this is an update */
    struct device *dev;
    struct timer deadline; /* of an update; a request has its own */
    bool is_open;          /* counts in n_open */
    atomic_bool is_replied;
    enum err err;
    struct buf json;
    char bytes[]; /* method, id, params */
};

enum origin { FROM_DEVICE, FROM_OWN, FROM_HERE };

struct router_request {
    struct router *router;
    struct list node;  /* router.requests: all that are open */
    struct list waits; /* router.waiting: the device is not there; oldest first */
    enum origin origin;
    struct arena arena; /* the texts */
    struct str device;  /* as the platform names it; empty: none */
    struct str id;      /* JSON text; of an own request its number */
    struct str method;
    struct str params; /* JSON text */
    struct repeat *repeat;
    uint64_t timeout_ms; /* 0: not said */
    struct timer deadline;
    bool is_waiting, is_answered, is_builtin; /* builtin: its owner answers it */
    struct list deliveries;                   /* open */
    size_t n_bytes;
    struct buf result; /* of several connectors: the last */
    const char *type;  /* theirs */
    router_reply_fn *fn;
    void *arg;
};

struct builtin {
    const char *name;
    router_builtin_fn *fn;
    void *arg;
};

struct own_methods;
struct shell;
struct updates;
struct router {
    struct loop *main;
    struct log *log;
    struct router_conf conf;
    struct router_events events;
    void *arg;
    struct north *north;
    struct mailbox in, replies;
    struct list connectors, requests, waiting, refusals;
    struct repeats repeats;
    struct builtin builtins[32];
    size_t n_builtins;
    struct updates *updates;
    struct shell *shell;
    struct own_methods *own_methods;
    struct timer restart;
    bool is_machine, is_stopping, is_ending; /* ending: connectors are not told any more */
    size_t n_bytes;
    struct router_stats stats;
};

/* Something that other threads tell the main loop. run frees what it needs to. */
struct notice {
    struct node node;
    struct ctx *ctx; /* a reference, unless it is_released */
    bool is_released;
    void (*run)(struct router *router, struct notice *notice);
};
void router_post(struct router *router, struct notice *notice);

/* router.c */
struct device *router_find(struct router *router, struct str platform_name);
struct connector *router_connector(struct router *router, const struct ctx *ctx); /* NULL: not there */
struct connector *router_owner(struct router *router, const struct device *dev);  /* NULL: nobody serves it */
struct router_request *router_request_new(struct router *router, enum origin origin, struct str device, struct str id,
                                          struct str method, struct str params);
/* data: JSON text; gives the request back. qos: of own replies. */
void router_answer(struct router_request *request, struct str data, uint8_t qos);
void router_answer_form(struct router_request *request, const char *type, enum form form, const char *text);
/* The command goes to the connector; false: busy, or it takes none, and err says which. */
NODISCARD enum err router_deliver(struct router *router, struct connector *connector, struct router_request *request,
                                  struct device *dev, struct str params, uint64_t deadline_ms);
/* Its time-out counts from now. */
uint64_t router_deadline(const struct router_request *request);
/* A device is served by somebody now: what waits for it goes on. */
void router_device_is_there(struct router *router, struct device *dev);
void router_watch(struct router_request *request, uint64_t due_ms);
bool router_is_full(const struct router *router, size_t more);
/* What a connector gave back, or nothing did: the data of the reply. */
void router_reply_data(struct buf *out, const char *type, enum err err, struct str json);

/* router_gateway.c */
void router_gateway_init(struct router *router);
void router_gateway_request(struct router_request *request);
void router_part_replied(struct router_request *request, const struct delivery *delivery);
void router_part_is_gone(struct router_request *request);
void router_parts_are_late(struct router_request *request);

/* router_attributes.c */
void updates_init(struct router *router);
void updates_fini(struct router *router);
void updates_device_is_there(struct router *router, struct device *dev, struct connector *connector);
void updates_connector_is_there(struct router *router, struct connector *connector);
void updates_room(struct router *router, struct connector *connector); /* it has answered something */
void updates_session(struct router *router, bool is_ready);
void update_is_over(struct router *router, struct delivery *delivery, enum err err);
#endif
