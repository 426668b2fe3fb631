/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOOPS_H
#define IOTGW_LOOPS_H
/*
 * The data loops: shared ones, on which connectors are placed in turn, and one for each connector that wants its own,
 * also while the program runs. Loops end with the program; one whose connector has gone is given to the next that wants it.
 *
 * Owner thread: main; loops_* are called there. What stands in data_loop.host is read by that loop only. A data_loop's
 * address stays until loops_fini.
 */
#include "connector/ctx.h"
#include "gateway/runner.h"

struct data_loop {
    struct loops *loops;
    char name[32];
    struct runner runner;
    struct ctx_host host; /* of the connectors of this loop */
    bool is_own;
    unsigned n_actors; /* connectors that live here, those left behind among them */
    unsigned n_left;   /* left behind: they did not answer in time */
    _Atomic(struct data_loop *) next;
    struct call watchdog, end;
};

struct loops {
    struct runner *main;
    struct data_loop **all; /* the shared ones first */
    size_t n, n_shared;
    struct ctx_host host; /* what each loop's is made from */
    bool is_running;
    struct call watchdog_back;
    bool watchdog_is_out; /* a round through the loops has not come back */
    void (*watchdog_fed)(void *arg);
    void *watchdog_arg;
    void (*end_first)(void *arg); /* on loop 0, as its last call */
    void *end_arg;
};

NODISCARD enum err loops_init(struct loops *loops, struct runner *main, size_t n_shared, const struct ctx_host *host);
NODISCARD enum err loops_start(struct loops *loops); /* their threads */
/* Before the first connector: the store in every host. */
void loops_set_store(struct loops *loops, struct store *store);
/* Each loop learns by a call; until it has run its records are split by the former limits. */
void loops_set_limits(struct loops *loops, const struct event_limits *limits);
/* Changes what connectors see, on each loop by itself; done runs on main when all have it. change gets that loop's host, and the
 * one that later loops are made from. */
typedef void loops_change_fn(void *arg, struct ctx_host *host);
void loops_update(struct loops *loops, loops_change_fn *change, void (*done)(void *arg), void *arg);
/* A place for one more connector. Shared: the loop with the fewest on which nobody was left behind; before: where it lived so
 * far, which is kept if it still suits (NULL: nowhere). Own: a loop that nobody is on; a shared one if there is no thread. */
struct data_loop *loops_take(struct loops *loops, bool own, struct data_loop *before);
void loops_give_back(struct data_loop *loop);
/* fed runs on main after a round through all loops; nothing if the last round is still out: some loop hangs. */
void loops_feed_watchdog(struct loops *loops, void (*fed)(void *arg), void *arg);
/* Lets all loops end; end_first runs on loop 0 before it ends. */
void loops_end(struct loops *loops, void (*end_first)(void *arg), void *arg);
void loops_wait(struct loops *loops); /* after loops_end: until their threads have ended */
void loops_fini(struct loops *loops); /* waits for their threads. Accepts a half-made one */
#endif
