/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_STORE_H
#define IOTGW_STORE_H
/*
 * The event storage keeps batches until the platform has acknowledged them.
 *
 * Owner thread: memory: loop 0; durable kinds: the store thread. store_append from any thread, read and ack from the uplink's loop.
 * Guarantee:    with a durable kind, a batch that comes back with ERR_OK survives SIGKILL and loss of power.
 * Order:        within a lane, the order of store_append; a device's records are never waiting in two lanes.
 * Lanes:        one, but for the time after a split (an outage): then what waited, the backlog, is read beside what is new.
 * Memory:       a chunk's bytes stay until chunk_release; the store keeps at most two chunks of 128 KiB ahead of the reader.
 */
#include "data/batch.h"
#include "io/loop.h"

struct store;
struct log;

enum { LANE_LIVE, LANE_BACKLOG, LANES };

/* A position: grows with every record of a lane, no two lanes share one; opaque but for its order. */
struct chunk {
    struct node node;     /* for kinds that answer from another thread */
    const uint8_t *bytes; /* whole sealed records, back to back */
    size_t n;
    uint64_t from, to; /* positions of the first byte and behind the last */
    int lane;
    bool is_copy; /* its bytes take memory of their own, which comes back with it, also before it is acknowledged */
    void *owner;  /* the store's own */
    void (*release)(struct chunk *chunk); /* the kind's own; called through chunk_release */
};
void chunk_release(struct chunk *chunk); /* on the uplink's loop, before store_free; NULL allowed */

enum overflow { OVERFLOW_BLOCK, OVERFLOW_DROP_NEWEST, OVERFLOW_DROP_OLDEST };

struct store_stats {
    uint64_t n_events, n_values, n_bytes; /* waiting: appended and not acknowledged */
    /* appended = acked + waiting + dropped; what was dropped at the door counts as appended, per device too. */
    uint64_t n_appended_values, n_acked_values;
    uint64_t n_dropped_events, n_dropped_values; /* by overflow, by age, or as they were damaged */
    uint64_t n_damaged_values;                   /* of the dropped ones: found damaged when it was opened */
    uint64_t n_backlog_events,
        n_backlog_values; /* of the waiting ones: in the backlog lane; 0 while there is one lane */
    int64_t oldest_ms;    /* wall time at which the oldest waiting one was appended; 0: none */
    int64_t blocked_since_ms, trouble_since_ms; /* wall; 0: it is not */
    bool is_blocked;                            /* batches wait unanswered */
    bool is_split;                              /* there is a backlog lane */
    const char *trouble;                        /* "disk full" …; NULL: none */
};

/* Told on the uplink's loop when there is something to read after a read found nothing; and when records of a device were
 * dropped, values or what tells of its link (devices are named through the batch's or segment's records). */
struct store_events {
    void (*readable)(void *arg);
    void (*dropped)(void *arg, struct device *dev);
};

struct store_ops {
    void (*free)(struct store *);
    void (*append)(struct store *, struct batch *);
    /* Next committed records of the lane, each once; at most max bytes but at least one record. NULL: nothing now, readable
     * will be called. */
    struct chunk *(*read)(struct store *, int lane, size_t max);
    void (*ack)(struct store *, int lane, uint64_t pos);
    void (*split)(struct store *);
    struct store_stats (*stats)(const struct store *);
    void (*settle)(struct store *, closed_fn *done, void *arg);
    void (*stop)(struct store *, closed_fn *done, void *arg); /* last commit, completions; then done */
};

struct store { /* embedded first in each kind */
    const struct store_ops *ops;
    struct loop *loop;
    struct store_events events;
    void *arg;
    bool is_durable; /* gives what was not acknowledged again after a crash */
};

static inline void store_append(struct store *store, struct batch *batch) /* any thread */
{
    store->ops->append(store, batch);
}
static inline struct chunk *store_read(struct store *store, int lane, size_t max)
{
    return store->ops->read(store, lane, max);
}
static inline void store_ack(struct store *store, int lane,
                             uint64_t pos) /* all below pos delivered, rejected or dropped */
{
    store->ops->ack(store, lane, pos);
}
/*
 * On the uplink's loop. All that was appended before becomes the backlog lane; positions that the live lane has given belong
 * to the backlog from then on. Each later record goes there if its device still has unacknowledged records in it, else
 * to the live lane; a batch may go to both, and is answered when all of it is durable. Once the backlog is empty one lane
 * remains. No effect while split, or while nothing waits; stats.is_split says at once whether there was one. After a
 * restart all is one lane: the backlog first, then the live one.
 */
static inline void store_split(struct store *store)
{
    store->ops->split(store);
}
/*
 * On the uplink's loop, once, when nobody appends any more, which includes what append has begun on other threads: done comes
 * when every batch is answered. From then on what waits only becomes less. A batch that waits for room is waited for.
 */
static inline void store_settle(struct store *store, closed_fn *done, void *arg)
{
    store->ops->settle(store, done, arg);
}
/* Last commit and completions; what still waits for room is answered ERR_CANCELLED, as is whatever is appended later. */
static inline void store_stop(struct store *store, closed_fn *done, void *arg)
{
    store->ops->stop(store, done, arg);
}
static inline struct store_stats store_stats(const struct store *store)
{
    return store->ops->stats(store);
}

/* A batch is taken whole or not at all: the limits hold unless a single batch is larger than them. */
struct memory_conf {
    uint64_t max_events; /* 0: none */
    uint64_t max_bytes;  /* of records; 0: none beyond max_events */
    enum overflow overflow;
    uint8_t slot;    /* 0 or 1; stores that are appended to at the same time have different ones */
    struct log *log; /* for what is dropped; NULL: none */
};
struct store *store_memory_new(struct loop *loop, const struct memory_conf *conf, const struct store_events *events,
                               void *arg);
/* On the uplink's loop: other limits from now on. What waits stays; batches that wait are looked at again. */
void store_memory_tune(struct store *store, const struct memory_conf *conf);

/*
 * A directory of segment files (file.c). Opened, locked and recovered before the call returns, which may take a second per
 * gigabyte that waits; any thread, also while loop runs. ERR_BUSY: another process has it; ERR_UNSUPPORTED: a newer version wrote it, and it is left as it is.
 * A directory that cannot be written is no error: what waits there is delivered, nothing new completes, trouble says why.
 */
struct file_io;
struct file_conf {
    const char *path;
    uint64_t max_events;     /* 0: none */
    uint64_t segment_events; /* a file is closed after so many; 0: by size only */
    uint64_t max_bytes;      /* of the files together; 0: none */
    uint64_t segment_bytes;  /* a file is at most so large; 0: what suits max_bytes */
    uint64_t commit_events;  /* a commit takes at most so many, but at least one batch; 0: no bound */
    uint64_t max_age_ms;     /* what was stored longer ago is dropped and counted, on a believable clock; 0: never */
    uint64_t age_check_ms;   /* how often ages are looked at */
    enum overflow overflow;
    struct log *log;
    const struct file_io *io; /* NULL: the system's; else freed with the store, also if it could not be opened */
    struct loop *own;         /* NULL: a thread of its own; tests give a loop here */
    uint8_t slot;             /* as in memory_conf */
};
NODISCARD enum err store_file_new(struct store **out, struct loop *loop, const struct file_conf *conf,
                                  const struct store_events *events, void *arg, struct why *why);
/* On the uplink's loop: limits (numbers and overflow) of conf, as soon as the store's thread gets to it; the rest stays. */
void store_file_tune(struct store *store, const struct file_conf *conf);

/* The same store on SQLite databases (sqlite.h). Needs the module iotgw-sqlite: ERR_NOTFOUND without it. */
enum { SQLITE_SEGMENTS = 16 }; /* a segment is at most this part of a database */
struct sqlite_conf {
    struct file_conf file; /* max_events, segment_events and io are not used */
    uint64_t db_bytes;     /* a database is closed when it has so many */
    unsigned max_dbs;
};
NODISCARD enum err store_sqlite_new(struct store **out, struct loop *loop, const struct sqlite_conf *conf,
                                    const struct store_events *events, void *arg, struct why *why);
void store_sqlite_tune(struct store *store, const struct sqlite_conf *conf);
void store_free(struct store *store); /* NULL allowed */
/* Whom the store gives its answers: set once by the connector room. Any thread. */
void store_answer(struct batch *batch);
extern void (*store_answer_fn)(struct batch *batch);
#endif
