/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_GATEWAY_IMPL_H
#define IOTGW_GATEWAY_IMPL_H
/*
 * The conductor's inside, shared by its files. Owner thread: main, where nothing else is said.
 */
#include "gateway/cert_watch.h"
#include "gateway/connection.h"
#include "gateway/console.h"
#include "gateway/fleet.h"
#include "gateway/gateway.h"
#include "gateway/holdback.h"
#include "gateway/live.h"
#include "gateway/signals.h"
#include "gateway/uplink_conf.h"

/*
 *   starting ──► running ──signal──► quiescing ──► stopping ──► draining ──► closing ──► gone
 *
 * All steps run on the main loop; what belongs to a data loop is done there by calls.
 */
enum phase { PHASE_STARTING, PHASE_RUNNING, PHASE_QUIESCING, PHASE_STOPPING, PHASE_DRAINING, PHASE_CLOSING };

struct gateway {
    const struct gateway_conf *conf; /* as it was at the start: what follows later is apply's */
    struct log *log, connection_log, storage_log;
    struct logging *logging;
    struct arena arena;
    struct runner main;
    struct loops loops;
    struct fleet *fleet;
    struct apply *apply;
    struct holdback holdback;
    struct live live;
    struct connection connection;
    struct watch *watch; /* NULL: not running yet */
    struct storage *storage;
    struct takeover *takeover;
    struct uplink *uplink;
    struct north *north;
    struct remote *remote;
    struct ota *ota; /* NULL: off */
    struct router *router;
    struct cert_watch cert_watch;
    struct uplink_conf uplink_conf;
    struct registry *registry;
    _Atomic(struct filter *) filter; /* NULL: none */
    struct console console;
    struct statistics *statistics;
    _Atomic(uint64_t) n_received; /* of the platform; one writer: loop 0 */
    enum phase phase;
    bool is_loop0_there;
    uint64_t stop_since_ms;
    uint32_t drain_ms;       /* for what memory holds */
    uint64_t drain_until_ms; /* loop 0 */
    enum err start_err;
    struct call to_loop0, to_main;
    struct timer housekeeping, watchdog, overdue;
    struct signals signals;
    enum { RESTART_NOT, RESTART_PROGRAM, RESTART_MACHINE } restart;
};

/* gateway_loop0.c: store and uplink; loop 0 but for the first two. */
NODISCARD enum err gateway_open_store(struct gateway *gateway, struct why *why);
void gateway_make_takeover(struct gateway *gateway);
void gateway_start_loop0(void *arg);
void gateway_stop_loop0(void *arg);
void gateway_end_loop0(void *arg);

/* gateway_stop.c: the way down. */
void gateway_begin_stop(struct gateway *gateway, const char *why);
void gateway_stop_parts(struct gateway *gateway); /* what would ask the fleet for more */
void gateway_overdue(void *arg);                  /* a timer: stopping has taken too long */
_Noreturn void gateway_leave(int code);           /* without the threads that hang */

/* gateway_parts.c: the parts, and what they tell each other. */
NODISCARD enum err gateway_make_loops(struct gateway *gateway);
void gateway_make_registry(struct gateway *gateway);
void gateway_make_router(struct gateway *gateway);
void gateway_make_console(struct gateway *gateway);
void gateway_make_apply(struct gateway *gateway, struct gateway_conf *conf, const struct gateway_types *types,
                        const struct problems *known);
void gateway_make_remote(struct gateway *gateway, const struct gateway_types *types);
void gateway_watch_certificates(struct gateway *gateway);
void gateway_name_connectors(struct gateway *gateway, const struct gateway_conf *conf);
struct str gateway_data_dir(const struct gateway *gateway); /* where the storage is, else beside the configuration */
#endif
