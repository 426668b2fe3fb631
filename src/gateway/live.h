/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LIVE_H
#define IOTGW_LIVE_H
/*
 * General keys that have no owner of their own and still change while the gateway runs: the main level's report strategy, and
 * the levels of loggers in logs.json. Main loop.
 */
#include "gateway/apply.h"

struct live {
    struct loops *loops;
    struct fleet *fleet;
    struct logging *logging;
    struct statistics *statistics;
};
/* live must stay as long as apply. */
void live_add_owners(struct apply *apply, struct live *live);
#endif
