/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LIVE_H
#define IOTGW_LIVE_H
/*
 * General keys that have no owner of their own and still change while the gateway runs: report strategy of the main level,
 * loggers, statistics, device filter, renaming and inactivity of devices, and what the uplink takes without a new session
 * (packing, rate limits, quiet devices). Main loop.
 */
#include "gateway/apply.h"
#include "gateway/filter.h"
#include "gateway/registry.h"
#include "gateway/router.h"

struct live {
    struct loops *loops;
    struct fleet *fleet;
    struct logging *logging;
    struct statistics *statistics;
    struct registry *registry;
    struct router *router;
    struct runner *uplink_runner;
    struct uplink **uplink; /* read on its loop */
    /* Read by all loops, through device_allowed; the former one is freed when no loop can be in it any more. */
    _Atomic(struct filter *) *filter;
    bool (*device_allowed)(void *arg, struct ctx *ctx, struct device *dev);
};
/* What the registry is told of a configuration. */
void live_registry_conf(struct registry_conf *out, const struct gateway_conf *conf);
/* live must stay as long as apply, and be complete when the first change comes. */
void live_add_owners(struct apply *apply, struct live *live);
#endif
