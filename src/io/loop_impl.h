/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOOP_IMPL_H
#define IOTGW_LOOP_IMPL_H
/*
 * The inside of a loop, for the files of this room that make it up: loop.c (life and clocks), turn.c (mailboxes and late
 * hooks), timer.c (the heap), closer.c (closing and blocking work). Nobody else includes it.
 */
#include "io/loop.h"

#include <stdatomic.h>

enum { LATE_RANKS = LATE_FLUSH + 1 };

struct timer_heap {
    struct timer **at; /* at[1] is due first; at[0] is not used */
    size_t n, cap;
    uint64_t next_order;
};

struct loop {
    char name[32];
    bool is_fake;
    _Atomic(const void *) runner; /* mark of the thread inside loop_run; NULL: not running */
    _Atomic(bool) is_stopping;
    bool is_done; /* stopped and nothing open: loop_run may return */

    struct queue ready; /* mailboxes with something in them, by mailbox.ready */
    struct node *round; /* of these: what is left of the round that runs */
    struct list late[LATE_RANKS];
    struct timer_heap heap;
    unsigned n_closers; /* begun and not yet reported */
    unsigned n_works;   /* handed to the pool and not yet reported */
    struct queue fake_works;

    int64_t wall_ms;
    uint64_t fake_mono_ms;
    bool is_wall_fresh;  /* read in this turn */
    int64_t earliest_ms; /* that the wall clock can show when it is set */
    int64_t fake_offset_ms;

    uint8_t *read_buffer;
    struct timer read_trim; /* gives the pages of the read buffer back */

    _Atomic(uint64_t) n_turns, n_wakeups, n_long_turns, busy_us;
    uint64_t start_us; /* of loop_run */
    uint64_t ran_us;   /* busy_us of earlier runs */
    uint64_t idle_ns;  /* time spent waiting, as libuv told it last */

    uv_loop_t uv; /* the rest does not exist in a fake loop */
    uv_async_t wake;
    uv_prepare_t before_wait;
    uv_check_t after_wait;
    uv_timer_t alarm;  /* for the heap */
    uint64_t alarm_ms; /* when it rings; UINT64_MAX: it does not */
};

/* turn.c: mailboxes and late hooks until nothing is ready; true: the bound was met and something is left. */
bool turn_run(struct loop *loop);
bool turn_is_idle(const struct loop *loop);
/* timer.c: runs what is due now; when the first of the heap is due, or UINT64_MAX. */
void timers_run(struct loop *loop);
uint64_t timers_next_ms(const struct loop *loop);
/* loop.c */
void loop_wake(struct loop *loop);
/* closer.c: fake loops do the work of the pool themselves. */
bool works_run(struct loop *loop);
#endif
