/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STORAGE_H
#define IOTGW_STORAGE_H
/*
 * The storage that the configuration names, and former ones that still hold data. A new one is opened first; then the
 * connectors append to it, while what waits in the former is delivered, all of it before anything of the new one: so the
 * order of each device holds. A former one that is empty is closed. If the new one cannot be opened, nothing has happened.
 *
 * former_storage.json beside the configuration names durable ones that are not empty yet: after a restart they are delivered first.
 *
 * Owner thread: main, but for what stands under "uplink's loop".
 */
#include "gateway/apply.h"
#include "gateway/takeover.h"
#include "uplink/uplink.h"

struct storage_part;
struct storage_conf_of { /* of the program */
    struct runner *main, *uplink_runner;
    struct loops *loops;
    struct uplink **uplink;     /* read on the uplink's loop */
    struct takeover **takeover; /* what it brings goes to the storage of the start */
    struct log *log;
    const struct store_events *events;
    void *arg; /* of events */
};
struct storage;
/* Before loops run: what durable ones find on the disk is looked through first. */
NODISCARD enum err storage_new(struct storage **out, const struct storage_conf_of *of, const struct gateway_conf *conf,
                               struct why *why);
void storage_add_owner(struct storage *storage, struct apply *apply);
struct store *storage_writing(const struct storage *storage); /* of the configuration */
/* Of all together; trouble of the one that is written. */
struct store_stats storage_stats(const struct storage *storage);
bool storage_is_volatile(const struct storage *storage); /* some of it is lost with the process */
void storage_free(struct storage *storage);              /* no loop runs any more, or the uplink's; NULL allowed */

/* --- uplink's loop --- */
struct store *storage_reading(const struct storage *storage);
struct store_stats storage_stats_there(const struct storage *storage);
void storage_stop(struct storage *storage, closed_fn *done, void *arg);
#endif
