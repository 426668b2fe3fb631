/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STORAGE_H
#define IOTGW_STORAGE_H
/*
 * The storage that the configuration names, and former ones that still hold data. A new one is opened first; then the
 * connectors append to it, while what waits in the former is delivered, all of it before anything of the new one: so the
 * order of each device holds. If the new one cannot be opened, nothing has happened. Other limits of the same storage are taken
 * over where it stands.
 *
 * A former one is closed when every loop appends to its successor, each batch that it was given is answered, and all of it is
 * delivered. former_storage.json beside the configuration names durable ones until they were closed empty: after a restart they
 * are delivered first. One that cannot be opened stays named there.
 *
 * Owner thread: main, but for what stands under "uplink's loop".
 */
#include "gateway/apply.h"
#include "store/store.h"

struct storage_conf_of { /* of the program */
    struct runner *main, *uplink_runner;
    struct loops *loops;
    struct log *log;
    const struct store_events *events;
    /* uplink's loop */
    void (*attach)(void *arg,
                   struct store *store); /* what is to be read from now on; nothing of the former is under way */
    bool (*is_drained)(void *arg);       /* nothing of what is read is under way */
    bool (*is_up)(void *arg);            /* there is a session that delivers */
    /* main */
    bool (*is_taking_over)(void *arg); /* an earlier program's data, to the storage of the start */
    /* The written one is another, or a former one is gone. path: of the written one; NULL: memory. */
    void (*changed)(void *arg, const char *path);
    void *arg; /* of events and these */
};
struct storage;
/* Before loops run: what durable ones find on the disk is looked through first. */
NODISCARD enum err storage_new(struct storage **out, const struct storage_conf_of *of, const struct gateway_conf *conf,
                               struct why *why);
/* Behind owners that may refuse: a storage is not changed back once it holds data. */
void storage_add_owner(struct storage *storage, struct apply *apply);
struct store *storage_writing(const struct storage *storage); /* of the configuration */
/* Of the durable ones together, which are found again at the next start; trouble of the one that is written. */
struct store_stats storage_kept(const struct storage *storage);
/* One of it is open where conf would lie if it were of that type. */
bool storage_has(const struct storage *storage, const struct storage_conf *conf, enum storage_type type);
bool storage_is_volatile(const struct storage *storage); /* some of it is lost with the process */
void storage_end(struct storage *storage);  /* no further change is begun; one that runs may be left undone */
void storage_free(struct storage *storage); /* no loop runs any more; NULL allowed */
/* What memory may take: events have no size of their own, and as many as the operator allows could be more than there is. */
uint64_t storage_memory_bound(const struct storage_conf *conf);

/* --- uplink's loop --- */
struct store *storage_reading(const struct storage *storage);
/* Of all together, those that are gone too; trouble of the one that is written. */
struct store_stats storage_stats(const struct storage *storage);
/* Connectors have stopped: done when nothing but the written one is to be read, or after ms, or when there is no session. */
void storage_drain(struct storage *storage, uint32_t ms, closed_fn *done, void *arg);
void storage_stop(struct storage *storage, closed_fn *done, void *arg);
#endif
