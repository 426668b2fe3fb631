/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FILE_IMPL_H
#define IOTGW_FILE_IMPL_H
/*
 * The inside of the file store (file.c says what lies on the disk). Private to these files:
 *
 *     file.c          appending, limits, answers: the store's thread
 *     file_front.c    the interface, beginning and end
 *     file_count.c    what waits, and whose values were stored or lost
 *     file_segment.c  segments as files: begin, write, give up, remove; the state file
 *     file_read.c     committed records on their way to the reader
 *     file_drop.c     what is dropped, and what the reader gives back for that
 *     file_lanes.c    which lane a record goes to; splitting a lane, and one lane again
 *     file_age.c      the age limit
 *     file_recover.c  what a start finds in the directory
 *
 * Threads. Fields are grouped by their only writer. What the reader's loop tells the store's thread is in a few atomics
 * (acked, n_taken) and one poke; what the store's thread tells the reader are slices.
 *
 * Blocks. A block is the image of a stretch of the active segment, made in memory and written from there; the reader
 * gets it without a copy when it keeps up, else it reads from the disk. Blocks are counted by the store's thread only:
 * the reader gives slices back through a queue.
 *
 *     block    | committed: readable           | not yet: the open group |
 *              ^ off                           ^ off + n_committed       ^ off + n
 */
#include "base/list.h"
#include "data/device.h"
#include "store/drop_log.h"
#include "store/file_boots.h"
#include "store/file_format.h"
#include "store/lanes.h"

enum {
    BLOCK_SIZE = 128 * 1024,
    BLOCK_MIN = 4096,
    KEEP_BLOCKS = 2,            /* free ones, hot for the next burst */
    TAIL_BLOCKS = 2,            /* kept behind the active one for a reader that is a little late */
    COMMIT_BYTES = 1024 * 1024, /* so much is committed even if more is there already */
    HEAD = sizeof(struct segment_head),
    SEGMENT_BYTES = 16 * 1024 * 1024,
    SEGMENT_BYTES_MIN = 1024 * 1024,
    EVENT_BYTES = 4096,     /* guessed, to size the files of a small store */
    EVENTS_MIN = 100,       /* a segment of fewer events is not worth a file */
    AHEAD = 2 * BLOCK_SIZE, /* given to the reader and not yet taken */
    AHEAD_SLICES = 4,
    RUNS = 64,
    GIVEN_MIN = 64,
    SMALL_SLICE = 16 * 1024, /* from there on a group is not copied together with the next */
    SAVE_MS = 200,
    SAVE_EVENTS = 1000, /* acknowledged since: then it is saved at once, but … */
    SAVE_MIN_MS = 20,   /* … not again within that, */
    SAVE_SHARE = 8,     /* nor within so many times of what it takes */
    RETRY_MS = 1000,
    RETRY_MAX_MS = 5000,
    GIVE_TRIES = 10, /* of what the disk does not give, RETRY_MS apart, before it is skipped */
    IDLE_MS = 10 * 1000,
    HUNG_MS = 5000,
    STOP_MS = 5000, /* a disk that hangs does not hold the program longer */
};

struct sum {
    uint64_t n_events, n_values, n_bytes;
};

struct segment {
    struct list node;
    uint64_t base, boot, order; /* base: in its name; order: file_format.h */
    uint64_t pos;     /* of its first byte; what was found at the start has new ones, in the order of reading */
    uint64_t start;   /* offset of the first byte that was not acknowledged when it was found; HEAD of a new one */
    uint64_t end;     /* offset behind the last committed byte */
    uint64_t n_file;  /* bytes it takes on the disk */
    struct sum all;   /* committed, from start on */
    struct sum given; /* of these: handed to the reader, dropped or lost */
    struct sum lost;  /* found corrupt: counted as dropped once */
    uint64_t n_ever;  /* events appended: for rotation */
    int64_t created_ms;
    size_t machine_boot;          /* of what was found at the start: number in boots */
    int64_t newest_wall_ms;       /* of what was found at the start: when the last of it was stored */
    int64_t oldest_ms, newest_ms; /* monotonic: when its first and last commit was, where has_age */
    int fd;                       /* of the active one */
    bool has_age;
    bool has_file, is_synced, is_cut; /* synced: its name is durable; cut: what lies behind end is not to be read */
    bool is_continued;                /* begins with a cut_head */
    bool is_unread;                   /* the disk did not give all of it: the file is kept */
    bool is_stuck;                    /* it could not be removed: that has been said */
    char name[SEGMENT_NAME];
};

struct block {
    struct block *next;
    uint8_t *bytes;
    size_t cap, n, n_committed;
    size_t group; /* where the open group's head stands; SIZE_MAX: none is open */
    uint64_t off; /* in the segment */
    unsigned n_refs;
};

struct run { /* records back to back on the disk: where they stand in the slice, and their position */
    uint32_t at;
    uint64_t pos;
};

struct slice {
    struct node node;
    struct slice *next;
    struct lane *lane; /* that gave it */
    unsigned n_splits; /* of the store's thread, then */
    struct block *block;
    const uint8_t *bytes;
    size_t n, n_taken;
    struct sum sum;
    int64_t wall_ms;
    unsigned n_chunks;
    bool is_listed, is_taken; /* taken: the lane that gave it may give more */
    unsigned n_runs;
    struct run runs[RUNS];
};

struct file_chunk {
    struct chunk chunk;
    struct file_chunk *next;
    struct slice *slice;
};

struct given { /* read and not acknowledged */
    uint64_t to;
    struct sum sum;
    int64_t wall_ms;
};

struct back {               /* of a slice: what nobody has read */
    uint64_t from, kept_to; /* kept_to: behind what was read of the lane */
    struct sum sum;
};

struct recall { /* on its way to the reader's loop and back */
    struct node node;
    size_t n, cap;
    struct back *backs; /* of each lane in their order */
};

struct losers { /* devices whose values were dropped, on their way to the reader's loop */
    struct node node;
    size_t n, cap;
    struct device **devs;
    bool is_old; /* dropped by age */
};

struct new_limits { /* on their way to the store's thread */
    struct node node;
    struct file_conf limits;
    uint64_t db_bytes;
    unsigned max_dbs;
};

typedef _Atomic(uint64_t) counter;
struct counters {
    counter n_events, n_values, n_bytes;
};

/* A lane's log. At a split all of the live one but its flow to the reader is moved to the backlog. */
struct lane {
    struct file_store *store;
    int which;

    /* the store's thread */
    struct list segments; /* oldest first; the active one is the last */
    struct segment *active;
    struct block *tail_first, *tail; /* blocks of the active segment */
    struct sum open;                 /* appended and not committed */
    bool must_restart;               /* what is not committed goes to a new segment */
    struct walk walk;                /* of the segment being read from the disk */
    int walk_fd;
    struct segment *reading, *walking;
    uint64_t read_off;
    unsigned n_read_tries;
    uint64_t read_after_ms; /* not read again before */
    uint64_t n_given_slices, n_given_bytes;
    uint64_t given_to; /* position behind the last record that the reader has got */
    uint64_t keep_to;  /* what it has up to there cannot be taken back */
    uint64_t saved_acked;

    /* written by the reader's loop */
    counter acked; /* position */
    counter n_taken_slices, n_taken_bytes;
    atomic_bool is_held;    /* it pokes when it has taken something */
    atomic_bool is_resting; /* it has given back what it had not read: it gets nothing more until it reads again */
    struct slice *ready, **ready_end;
    struct given *ring;
    size_t ring_cap, ring_from, ring_n;
    bool reader_waits;
};

struct file_store {
    struct store store;
    struct file_conf conf;
    char *path;
    struct log *log;
    const struct file_io *io;
    struct loop *own;
    bool owns_loop, has_thread;
    uv_thread_t thread;
    int dir;
    uint64_t boot;
    struct boots boots; /* of the machine, that left something */
    uint64_t segment_bytes, segment_events;
    uint64_t fitting_bytes; /* of a segment, on a disk that has no room for more; 0: it has */

    /* the store's thread */
    struct mailbox inbox, pokes, control;
    struct late commit_late;
    struct timer retry, save, idle, again, age; /* again: reading */
    struct drop_log drop_log;
    struct mailbox splits, settles, limits;
    struct mailbox recalled;
    bool is_recalling, was_recalled; /* was: what needs the room is looked at again */
    bool is_settling;                /* it is told when no batch is unanswered */
    struct lanes rule;
    uint64_t n_orders;  /* splits, those of earlier lives that left segments included */
    uint64_t next, pos; /* base and position for the next segment */
    struct block *kept;
    unsigned n_kept;
    struct node *group, **group_end;     /* answered by the next commit */
    struct node *pending, **pending_end; /* wait for room */
    uint64_t files_bytes;                /* of all segments */
    bool is_stopped;
    uint64_t retry_ms, idle_appended;
    uint64_t saved_events, saved_ms, save_gap_ms; /* acknowledged, monotonic, and how long it is not done again */
    bool is_unsaved;
    struct slice *free_slices;
    unsigned n_slices;     /* that live: for the end */
    struct queue returned; /* slices nobody needs any more */

    /* written by the store's thread, read by any */
    struct counters in;                   /* committed, and what the start found */
    struct counters lost;                 /* of these: dropped later */
    counter n_door_events, n_door_values; /* refused, or dropped in an earlier life */
    counter n_damaged_values;             /* of these: found damaged by the start */
    _Atomic(const char *) trouble, save_trouble;
    counter commit_since_ms;
    _Atomic(int64_t) unread_ms;               /* of the oldest record that the reader has not got; 0: not known */
    struct counters backlog_in, backlog_lost; /* of these: of backlog lanes */
    _Atomic(int64_t) blocked_since_ms, trouble_since_ms, save_trouble_since_ms; /* wall; 0: it is not */
    atomic_bool is_blocked, is_saving;                                          /* the reader pokes when they say so */

    /* written by the reader's loop */
    struct counters out, backlog_out; /* acknowledged */
    struct sum split_out;             /* when it was split */
    unsigned n_splits;
    _Atomic(int64_t) oldest_ms;
    atomic_bool poke_is_out;
    struct node poke_node, stop_node, split_node, settle_node;
    struct mailbox slices, drops, stopped, settled, recalls;
    closed_fn *settle_done;
    void *settle_arg;
    uint64_t early_events, early_ms; /* when the store's thread was last told that there is much to save */
    struct file_chunk *free_chunks;
    unsigned n_chunks;
    bool is_stopping, is_abandoned;
    struct closer closer;
    struct timer stop_timer;

    struct recall recall; /* of the one that has it */

    /* either: the reader's loop begins a split, the store's thread ends it */
    atomic_bool is_split;
    struct lane lanes[LANES];
};

static inline void add(counter *at, uint64_t n)
{
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n, memory_order_release);
}

static inline uint64_t get(const counter *at)
{
    return atomic_load_explicit(at, memory_order_acquire);
}

static inline void sum_add(struct sum *to, struct sum n)
{
    to->n_events += n.n_events;
    to->n_values += n.n_values;
    to->n_bytes += n.n_bytes;
}

static inline struct sum sum_less(struct sum a, struct sum b)
{
    return (struct sum){a.n_events - b.n_events, a.n_values - b.n_values, a.n_bytes - b.n_bytes};
}

static inline void sum_record(struct sum *to, const struct record *record)
{
    to->n_events += record->flags & RECORD_END ? 1 : 0;
    to->n_values += record->n_values;
    to->n_bytes += record->size;
}

static inline void counters_add(struct counters *to, struct sum n)
{
    add(&to->n_values, n.n_values);
    add(&to->n_bytes, n.n_bytes);
    add(&to->n_events, n.n_events);
}

static inline const struct record *record_at(const void *p)
{
    return p;
}

static inline struct segment *segment_of(struct list *node)
{
    return CONTAINER_OF(node, struct segment, node);
}

static inline struct sum counters_sum(const struct counters *of)
{
    return (struct sum){get(&of->n_events), get(&of->n_values), get(&of->n_bytes)};
}

/* Nothing in it waits any more. */
static inline bool segment_is_done(const struct lane *lane, const struct segment *segment)
{
    return segment->start >= segment->end || segment->pos + segment->end <= lane->saved_acked;
}

static inline struct segment *segment_after(const struct lane *lane, const struct segment *segment)
{
    return segment->node.next == &lane->segments ? NULL : segment_of(segment->node.next);
}

/* file_front.c */
void file_set_limits(struct file_store *s, const struct file_conf *conf);

/* file.c */
void file_init_own(struct file_store *s); /* mailboxes and timers of its thread */
void file_cancel_all(struct file_store *s);
void file_cancel_inbox(struct file_store *s);
void file_set_save_trouble(struct file_store *s, const char *trouble);
void file_set_trouble(struct file_store *s, const char *trouble, int number);

/* file_count.c */
struct sum file_waiting(const struct file_store *s);
/* Counts values per device, of records in memory; dropped: they are lost (losers gathers whose). */
void file_count_devices(const uint8_t *p, const uint8_t *end, bool appended, struct losers *losers);
void file_count_lost_device(const struct record *record, struct losers *losers);
void file_count_found_device(const struct file_store *s, const struct record *record, uint64_t pos); /* at the start */
void file_tell_losers(struct file_store *s, struct losers *losers);
void file_count_lost(struct lane *lane, struct sum lost);
struct device *file_device_of(const struct record *record);
void file_count_committed(const struct lane *lane, const uint8_t *p, const uint8_t *end, uint64_t pos);
void file_drops_arrived(void *arg, struct node *nodes);

/* file_lanes.c */
void file_lane_init(struct lane *lane, struct file_store *store, int which);
void file_lane_fini(struct lane *lane);
struct sum file_backlog(const struct file_store *s);
void file_mark(struct lane *lane, const uint8_t *p, const uint8_t *end, uint64_t pos);
void file_choose(struct file_store *s, const struct batch *batch, uint64_t acked, size_t n[LANES]);
const uint8_t *file_stretch(struct file_store *s, const uint8_t *p, const uint8_t *end, uint64_t acked, int *lane);
void file_split(struct store *base);
void file_split_arrived(void *arg, struct node *nodes);
void file_merge(struct file_store *s);

/* file_drop.c */
/* The oldest segment of which nothing is in flight or stands ready; false: there is none, or its room did not come back. */
bool file_drop_oldest(struct file_store *s);
void file_drop(struct lane *lane, struct segment *segment, bool is_old); /* what of it is not with the reader */
bool file_may_drop_active(const struct lane *lane);
/* True: what stands ready is on its way back; then file_append_again. */
bool file_recall(struct file_store *s);
void file_recall_answered(void *arg, struct node *nodes);
void file_recall_arrived(void *arg, struct node *nodes);

/* file_age.c */
void file_check_ages(void *arg);
void file_age_start(struct file_store *s);
void file_append_again(struct file_store *s); /* in file.c, too: batches that have waited, in the same order */
void file_after_drop(struct file_store *s);   /* in file.c: there is room again */

/* file_segment.c */
struct segment *file_segment_new(uint64_t base, uint64_t boot);
void file_segment_begin(struct lane *lane, size_t n_bytes);
void file_segment_seal(struct lane *lane);
void file_segment_remove(struct lane *lane, struct segment *segment);
struct block *file_block_for(struct lane *lane, size_t n);
struct block *file_block_alone(struct file_store *s, size_t n); /* for the reader only */
void file_block_unref(struct file_store *s, struct block *block);
void file_blocks_trim(struct lane *lane); /* what neither the disk nor a reader that keeps up needs */
void file_blocks_free(struct file_store *s);
/* On a disk that is full: the active segment is to take less of it. False: it is there, or takes what its records need. */
bool file_reserve_less(struct lane *lane);
int file_write(struct lane *lane); /* one write, one fdatasync; 0, or errno */
void file_restart(struct lane *lane);
void file_save(struct file_store *s);
/* Segments that are delivered and not yet removed, as that waits for the next saving: at once. False: no room came back. */
bool file_remove_delivered(struct file_store *s);
bool file_has_files_room(const struct file_store *s, size_t n_bytes);
bool file_must_rotate(const struct lane *lane, size_t n_bytes);

/* file_read.c */
void file_feed(struct file_store *s);
void file_feed_from_memory(struct file_store *s); /* does not block */
void file_feed_lane(struct lane *lane);
void file_read_on(struct lane *lane, struct segment *segment);
void file_reading_gone(struct lane *lane, const struct segment *segment);
uint64_t file_position_of(const struct slice *slice, size_t at);
void file_slice_return(struct slice *slice);
void file_note_oldest(struct file_store *s);
void file_slices_arrived(void *arg, struct node *nodes);
struct chunk *file_store_read(struct store *base, int lane, size_t max);
void file_store_ack(struct store *base, int lane, uint64_t pos);
void file_taken(struct slice *slice);
void file_poke(struct file_store *s);
void file_read_fini(struct file_store *s);

/* file_recover.c */
NODISCARD enum err file_recover(struct file_store *s, struct why *why);
#endif
