/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STATUS_H
#define IOTGW_STATUS_H
/*
 * What the gateway is doing, as one JSON document: `iotgw status`, and whoever else shows it. Method "status" of local control.
 *
 * Owner thread: main. What belongs to data loops is asked of them; a loop that does not answer within a second is
 * named, and what is known without it is shown: so status works while something hangs.
 */
#include "gateway/apply.h"
#include "gateway/control.h"
#include "gateway/fleet.h"
#include "gateway/ledger.h"
#include "gateway/north.h"
#include "gateway/router.h"
#include "gateway/takeover.h"

struct status;
struct status_core { /* what loop 0 knows */
    struct uplink_status uplink;
    struct store_stats store;
    char trouble[80]; /* of the store; empty: none */
};
struct status_conf {
    struct runner *main;
    struct loops *loops;
    struct fleet *fleet;
    struct apply *apply;
    struct north *north;
    struct router *router;
    struct ledger *ledger;
    const char *rejected_path;                        /* absolute, copied; NULL: not known */
    void (*core)(void *arg, struct status_core *out); /* on loop 0 */
    const char *(*phase)(void *arg);
    struct takeover_status (*takeover)(void *arg); /* NULL: nothing is ever taken over */
    void *arg;
};
struct status *status_new(const struct status_conf *conf);
void status_add_methods(struct status *status, struct control *control); /* status, devices */
void status_set_rejected_path(struct status *status, const char *path);  /* copied */
void status_free(struct status *status);                                 /* data loops have ended; NULL allowed */

/* {"gateway":…,"platform":…,"storage":…,"connectors":[…],"ledger":…,"loops":[…],"commands":…}. done on the main loop, once. */
typedef void status_done_fn(void *arg, struct str json);
void status_ask(struct status *status, status_done_fn *done, void *arg);
#endif
