/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LOOP_H
#define IOTGW_LOOP_H
/*
 * An event loop: libuv with mailboxes, timers and an order within a turn. Actors (a connector instance, the uplink, the
 * memory store, the gateway) live on one loop for life and share it with others.
 *
 * Owner thread: the one inside loop_run; only mailbox_post, loop_stop and loop_stats may be called from others. While the
 * loop does not run (before loop_run, and after it), any thread may use it, one at a time.
 *
 * A turn: [timers that are due] → [sockets and other uv callbacks] → mailboxes, until none has anything (answers to what
 * was just posted are handled in the same turn; at most 16 rounds) → late hooks, in the order of their rank, with
 * mailboxes again before each rank. libuv blocks only when nothing of this is ready. So a burst that was read goes through store and completion, and is packed, in
 * one turn, and one write per connection carries its acknowledgements.
 *
 * Time: both clocks are read once a turn. A test makes a loop with loop_new_fake: nothing runs by itself, time moves by
 * loop_advance only, uv handles do not exist.
 */
#include "base/list.h"
#include "base/queue.h"
#include "base/str.h"

#include <assert.h>
#include <uv.h>

struct loop;

NODISCARD enum err loop_new(struct loop **out, const char *name);
struct loop *loop_new_fake(int64_t wall_ms);
void loop_free(struct loop *loop); /* all handles must be closed and the loop not be running; NULL allowed */
/* Runs until loop_stop and until every handle, closer and work is done. The calling thread becomes the owner. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* any thread */
uv_loop_t *loop_uv(struct loop *loop);
bool loop_is_fake(const struct loop *loop); /* then loop_uv must not be asked for */
const char *loop_name(const struct loop *loop);
bool loop_is_owner(const struct loop *loop);
#define loop_assert(loop) assert(loop_is_owner(loop))

int64_t loop_wall_ms(const struct loop *loop); /* as of this turn; never steps back by less than a second */
uint64_t loop_mono_ms(const struct loop *loop);
/*
 * A stamp for what has no time of its own. True: ms since the epoch, by the wall clock, or by when it was last believable if
 * it has since gone back behind the program's own date. False: it has never been believable in this process; ms since the
 * machine's boot, which become a time by adding what loop_offset_ms gives once it does.
 */
bool loop_stamp(const struct loop *loop, int64_t *ms);
bool loop_offset_ms(const struct loop *loop,
                    int64_t *ms); /* wall less monotonic clock; false: not known yet, ms stays */
int64_t
loop_earliest_ms(const struct loop *loop); /* what a wall clock that is set shows at least: the program's date */
/* Fake loops: runs timers and mailboxes in order until ms later. Also runs what is ready when ms is 0. */
void loop_advance(struct loop *loop, uint64_t ms);
/* Fake loops: the system's clock steps; what loop_wall_ms shows follows the rule above. */
void loop_set_wall(struct loop *loop, int64_t wall_ms);
/* Fake loops: what a believable clock shows at least; at first it is always believed. */
void loop_set_earliest(struct loop *loop, int64_t wall_ms);

/* The read buffer all streams of the loop share: 256 KiB, valid within one callback. */
enum { LOOP_READ_SIZE = 256 * 1024 };
uint8_t *loop_read_buffer(struct loop *loop);

/* Counters for invariants and status; relaxed atomics, readable from any thread. */
struct loop_stats {
    uint64_t n_turns, n_wakeups; /* wakeups: returns from the kernel's wait */
    uint64_t n_long_turns;       /* above 20 ms */
    uint64_t busy_us;            /* time not spent waiting */
};
struct loop_stats loop_stats(const struct loop *loop);

/* --- mailboxes -------------------------------------------------------------------------------------------------- */
struct mailbox;
/* nodes: oldest first, linked by next; the handler owns them. Runs on the mailbox's loop. */
typedef void mailbox_fn(void *arg, struct node *nodes);

struct mailbox {
    struct queue queue;
    struct loop *loop;
    mailbox_fn *handler;
    void *arg;
    struct node ready; /* links it into the loop's ready list */
};

void mailbox_init(struct mailbox *box, struct loop *loop, mailbox_fn *handler, void *arg);
/* Any thread. Never fails, blocks or allocates; wakes the loop only if it is another one's and the box was empty.
 * The mailbox must outlive the handler's run for every node posted, or end with mailbox_fini. */
void mailbox_post(struct mailbox *box, struct node *node);
/*
 * Around posts that belong together, so that whoever gets them finds them all: what this thread posts in between to other loops
 * is there at once, but they are woken at the end, each once. Nothing in between blocks or ends a loop; not nested.
 */
void loop_hold_wakes(void);
void loop_let_wakes(void);
/* Before its memory goes while the loop stays: what is still in it, oldest first; the handler does not run any more. On the
 * loop, when nobody posts any more: a thread that did has ended; any thread if nothing was ever posted. Accepts a zeroed one. */
struct node *mailbox_fini(struct mailbox *box);

/* --- late hooks: once a turn in which something happened, after all reads and mailboxes ------------------------------ */
enum late_rank { LATE_EMIT, LATE_UPLINK, LATE_FLUSH }; /* connectors hand over, the uplink packs, connections write */
struct late {
    struct list node; /* private */
    enum late_rank rank;
    void (*fn)(void *arg);
    void *arg;
    bool is_armed;
};
void late_init(struct late *late, enum late_rank rank, void (*fn)(void *arg), void *arg);
void late_arm(struct loop *loop, struct late *late); /* runs once in this turn; arming again changes nothing */
void late_cancel(struct late *late);

/* --- timers: one heap, one uv timer -------------------------------------------------------------------------------- */
struct timer {
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    uint64_t due_ms;    /* monotonic */
    uint64_t period_ms; /* 0: once */
    uint64_t order;     /* private: equal times run as they were started */
    size_t index;       /* in the heap, from 1; 0: not running */
};
void timer_init(struct timer *timer, struct loop *loop, void (*fn)(void *arg), void *arg);
void timer_start(struct timer *timer, uint64_t delay_ms);  /* once; restarts a running one */
void timer_start_at(struct timer *timer, uint64_t due_ms); /* absolute, monotonic */
void timer_start_periodic(struct timer *timer, uint64_t delay_ms, uint64_t period_ms); /* due += period: no drift */
/* As timer_start, rounded up to a whole second of the monotonic clock, so that slow timers fall together. */
void timer_start_coarse(struct timer *timer, uint64_t delay_ms);
void timer_stop(struct timer *timer); /* after it fn does not run; no closing needed */
static inline bool timer_is_running(const struct timer *timer)
{
    return timer->index != 0;
}

/* --- closing ---------------------------------------------------------------------------------------------------------- */
/* Counts what of an object is still open. done runs in a later turn, never inside closer_end, when all is closed. */
typedef void closed_fn(void *arg);
struct closer {
    struct loop *loop;
    closed_fn *done;
    void *arg;
    unsigned n_open;
    struct timer timer; /* delay 0: leaves the call stack */
};
void closer_begin(struct closer *closer, struct loop *loop, closed_fn *done, void *arg);
void closer_hold(struct closer *closer);
void closer_release(struct closer *closer);
void closer_end(struct closer *closer);

/* --- blocking work ------------------------------------------------------------------------------------------------------ */
/* A short job on libuv's pool (name look-up, one file). done runs on the loop. A fake loop does it within loop_advance. */
struct work {
    uv_work_t req;
    struct node node;
    struct loop *loop;
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
};
void work_start(struct work *work, struct loop *loop, void (*run)(void *), void (*done)(void *), void *arg);
#endif
