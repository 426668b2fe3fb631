/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FLEET_H
#define IOTGW_FLEET_H
/*
 * The running connectors: which there are, on which loop each lives, and how one is started, stopped or replaced without
 * touching the others. A connector keeps its place in the fleet while it is stopped or failed, with the reason.
 *
 * Owner thread: main. What is asked of one connector runs one at a time, in the order asked; different ones do not wait for
 * each other. Each asked thing is answered exactly once, on the main loop, never before the function has returned.
 *
 * Replacing: the new one is opened beside the old one; if that fails, or takes longer than 10 s, the old one has not been
 * touched. Then the old one is quiesced and stopped, the new one started, and gets the devices, which stay
 * connected. If it cannot be started, the former one is opened and started again. One that does not answer in its time is
 * left behind: it is named, takes nothing more, and no connector is placed beside it if that can be helped.
 */
#include "gateway/gateway_conf.h"
#include "gateway/instance.h"
#include "gateway/loops.h"

struct fleet;
typedef void fleet_done_fn(void *arg, enum err err, const struct why *why);

struct fleet *fleet_new(struct loops *loops); /* which outlive it */
void fleet_free(struct fleet *fleet); /* after fleet_close; NULL allowed. What was left behind keeps its memory */

/* What a connector is made of: a view, copied; a reference is taken of conf. */
struct fleet_spec {
    const char *name;
    const struct connector_type *type;
    struct conf *conf;
};
/* Appends a connector that does not run yet. spec.conf NULL: it failed before, for that reason (why is copied). type_name: what
 * is shown where type is NULL. */
void fleet_add(struct fleet *fleet, const struct fleet_spec *spec, const char *type_name, const char *why);
/* Appends what a configuration names, modules loaded; says in the log which cannot be used. */
void fleet_add_configured(struct fleet *fleet, const struct gateway_connector *connector);

/* One that does not run is not started with the others, for this reason, until it is asked for by name. */
void fleet_hold(struct fleet *fleet, struct str name, const char *why);

/* Starts one that does not run; does nothing for one that runs. ERR_NOTFOUND: there is none of that name. */
void fleet_start(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg);
/* Its devices are told to have gone. It stays in the fleet. */
void fleet_stop(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg);
void fleet_restart(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg);
/* The connector called name becomes spec, which may have another name and type. Live: only what the gateway itself or the
 * connector's own apply takes over while it runs, else as above. One that does not run is started. */
enum fleet_change { FLEET_RESTART, FLEET_LIVE, FLEET_LIVE_BY_GATEWAY };
void fleet_replace(struct fleet *fleet, struct str name, const struct fleet_spec *spec, enum fleet_change change,
                   fleet_done_fn *done, void *arg);
/* As fleet_stop; then it is no more in the fleet. */
void fleet_remove(struct fleet *fleet, struct str name, fleet_done_fn *done, void *arg);

struct fleet_connector {
    const char *name, *type;
    enum instance_state state; /* INSTANCE_STOPPED, INSTANCE_FAILED: error says why */
    struct ctx *ctx;           /* NULL: none runs */
    struct data_loop *loop;    /* where it runs; NULL: nowhere */
    const char *error;         /* "": none. Also of a replacement that failed while the former one runs on */
    int64_t since_ms;          /* wall clock; of state */
    struct conf *conf;         /* what it runs with, or would; NULL: its file cannot be used */
    bool is_busy;              /* something asked for is being done */
    bool is_held;              /* fleet_hold */
};
/* In the order of the configuration; what was added later last. Views live until the main loop goes on. */
size_t fleet_count(const struct fleet *fleet);
struct fleet_connector fleet_at(const struct fleet *fleet, size_t i);
bool fleet_find(const struct fleet *fleet, struct str name, struct fleet_connector *out);
struct ctx *fleet_ctx(const struct fleet *fleet, struct str name); /* NULL: none of that name runs */
/* Those left behind, which still hold their memory and perhaps their sockets. */
size_t fleet_n_left_behind(const struct fleet *fleet);

/* The way down of all together, each step bounded; done comes once all have answered. From fleet_quiesce on nothing new is
 * begun: what waits is answered with ERR_CANCELLED. */
typedef void fleet_all_fn(void *arg);
void fleet_start_all(struct fleet *fleet, fleet_all_fn *done, void *arg);
void fleet_quiesce_all(struct fleet *fleet, fleet_all_fn *done, void *arg);
void fleet_stop_all(struct fleet *fleet, fleet_all_fn *done, void *arg);
void fleet_close(struct fleet *fleet, fleet_all_fn *done, void *arg);
#endif
