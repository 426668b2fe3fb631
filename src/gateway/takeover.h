/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TAKEOVER_H
#define IOTGW_TAKEOVER_H
/*
 * Brings what an earlier program has left (store/legacy.h) into the store, as a source with credit of its own: it is taken
 * out where it was only once it is durable here. Records are encoded as a connector's, but no device is thought to be there
 * because of them.
 *
 * Owner thread: main; the work is done on a data loop and, where it blocks, in a helper thread that ends with it.
 * Order:        an entry's attributes are left out, and counted, when a connector has meanwhile brought attributes of that
 *               device: what is older must not hide what is newer. Telemetry has its time.
 * Room:         it fills the store to half of its limits, so that connectors find room beside it, and waits beyond that.
 * Memory:       the chunk that is being read, and what is under way to the store (credit).
 */
#include "gateway/loops.h"
#include "store/legacy.h"

struct takeover;
struct takeover_conf {
    struct legacy_conf legacy; /* its texts live as long as the takeover */
    struct store *store;
    uint64_t max_events, max_bytes; /* of the store; 0: none */
};
struct takeover_status { /* any thread */
    bool is_running;
    const char *what;      /* now; NULL: nothing */
    uint64_t n_events;     /* that are durable in the store */
    uint64_t n_corrupt;    /* entries that could not be read: skipped, named in the log */
    uint64_t n_superseded; /* attributes, older than what a connector had brought */
    uint64_t n_left_out;   /* values that the platform would not take */
};

struct takeover *takeover_new(struct runner *main, struct data_loop *loop, const struct takeover_conf *conf);
/* go_on, once, on main: all of it is there; or it takes longer than ten seconds, or waits for room in the store. Then
 * connectors are not kept waiting for it. */
void takeover_start(struct takeover *takeover, void (*go_on)(void *arg), void *arg);
/* What is under way is finished, for at most two seconds; the rest stays where it is, for the next start. done comes on main,
 * also when nothing runs; go_on does not come after it. Before the store stops. */
void takeover_stop(struct takeover *takeover, void (*done)(void *arg), void *arg);
void takeover_free(struct takeover *takeover); /* after done, when the loop has ended; NULL allowed */
struct takeover_status takeover_status(const struct takeover *takeover); /* NULL: nothing */
#endif
