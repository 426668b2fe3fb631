/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ROUTER_H
#define IOTGW_ROUTER_H
/*
 * Commands: RPC of the platform to devices, connectors and the gateway itself, attribute updates, attribute requests of
 * connectors (core.md 8, 10). Each request is answered exactly once: by the connector, by its deadline, or because the connector
 * is busy, stopped or gone. The router owns deadlines, so a late reply only gives the command back.
 *
 * Owner thread: the main loop, but for "from connectors" (any thread).
 * Bounds: 64 open commands a connector (then "busy"), 1024 requests at once, answers of the last 60 s for repeats (8 MiB),
 * 1024 attribute values kept for devices that are not there, 1 MiB of them.
 *
 * Files: router.c requests, delivery, deadlines · router_gateway.c RPC to the gateway and to connectors by their prefix ·
 * router_attributes.c updates, requests, synchronisation · router_forms.c the connectors' error forms (pure) ·
 * router_repeat.c the answers of the last minute · shell.c the remote shell · own_methods.c the operator's methods.
 */
#include "connector/ctx.h"
#include "gateway/north.h"

struct router;
struct router_request; /* one request of the platform, until it is answered */

struct router_events { /* NULL: devices have their own names, and nothing is restarted */
    struct device *(*find)(void *arg, struct str platform_name);
    struct str (*platform_name)(void *arg, const struct device *dev);
    void (*restart)(void *arg, bool is_machine); /* gateway_restart, gateway_reboot: a moment after the reply */
};
struct router_conf {
    bool has_remote_shell, syncs_attributes;
    const char *config_dir; /* the operator's methods are in its directory rpc */
};

struct router *router_new(struct loop *main, struct log *log, const struct router_conf *conf,
                          const struct router_events *events, void *arg);
/* What runs for the platform ends when it is switched off. */
void router_set_remote_shell(struct router *router, bool is_on);
void router_set_syncs_attributes(struct router *router, bool is_on); /* from the next connect of a device on */
void router_attach(struct router *router, struct north *north);      /* once, before anything comes down */
void router_stop(struct router *router);                             /* answers what is open; ends what runs for it */
void router_free(struct router *router); /* data loops have ended, the main loop is still there */

/* --- north's events --------------------------------------------------------------------------------------------------------- */
void router_state(struct router *router, enum uplink_state state);
void router_own_rpc(struct router *router, struct str number, yyjson_val *root);
void router_device_rpc(struct router *router, yyjson_val *root);
void router_device_attributes(struct router *router, yyjson_val *root);

/* --- from connectors: ctx_host's functions of the same names --------------------------------------------------------------- */
void router_reply(struct router *router, struct ctx *ctx, struct command *command, enum err err, struct str json);
void router_request_attributes(struct router *router, struct ctx *ctx, struct device *dev, struct str shared,
                               struct str client, uint64_t cookie);
void router_serving(struct router *router, struct ctx *ctx, bool is_there);
void router_released(struct router *router, struct ctx *ctx);
void router_device_connected(struct router *router, struct ctx *ctx, struct device *dev, struct str keys, bool is_all,
                             bool is_again);

/* --- for other parts of the gateway ----------------------------------------------------------------------------------------- */
/* ERR_OK: json is the data of the reply, whatever they say. ERR_BUSY, ERR_RANGE (params is no JSON), ERR_CANCELLED: none. */
typedef void router_reply_fn(void *arg, enum err err, struct str json);
/* As if the platform had sent it. device empty: to the gateway or, by its prefix, to connectors. params_json empty: null.
 * timeout_ms 0: the usual ones. Answered exactly once, never before this returns. */
void router_rpc(struct router *router, struct str device, struct str method, struct str params_json,
                uint64_t timeout_ms, router_reply_fn *fn, void *arg);
/*
 * Method gateway_<name>. params is NULL for none: absent, null, {} or the text "{}". To be answered exactly once by
 * router_builtin_reply, at once or later; params live until fn returns. name must stay.
 */
typedef void router_builtin_fn(void *arg, struct router_request *request, yyjson_val *params);
void router_add_builtin(struct router *router, const char *name, router_builtin_fn *fn, void *arg);
void router_builtin_reply(struct router *router, struct router_request *request, struct str json);
/* A new owner of the device's name: what waits for it is looked at again (after a rename). */
void router_names_changed(struct router *router);

struct router_stats {
    uint64_t n_requests, n_repeats, n_late, n_timeouts, n_busy, n_updates;
    size_t n_open, n_waiting;
};
struct router_stats router_stats(const struct router *router);
#endif
