/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTION_H
#define IOTGW_CONNECTION_H
/*
 * Owner of the keys that say where the platform is and how the gateway logs in: a change is taken when a session with the new
 * settings is up within 30 s; otherwise the former ones are used again. Data are collected and kept all the time.
 *
 * Owner thread: main. What it hands to the uplink lives until connection_fini.
 */
#include "gateway/apply.h"
#include "uplink/uplink.h"

struct connection_arena;
struct connection {
    struct runner *main, *uplink_runner;
    struct uplink **uplink; /* read on the uplink's loop */
    struct connection_arena *arenas, *unused;
    struct call to_uplink, to_main;
    struct uplink_conf conf;
    struct apply_step *step;
    enum err err;
    char reason[300];
};
void connection_add_owner(struct apply *apply, struct connection *connection);
void connection_fini(struct connection *connection); /* no loop runs any more */
#endif
