/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_DELIVER_IMPL_H
#define IOTGW_DELIVER_IMPL_H
/*
 * The inside of delivery: deliver.c passes and timers, gather.c records → packs, flight.c packs as objects and their
 * publication, outcome.c what became of them, park.c devices that the platform does not stand, lanes.c
 * what of which lane goes next, tend.c what is done for devices beside their data, unsure.c values that came before the clock
 * was set, overtake.c attributes that are sent again. Private to these files.
 *
 * A span is a chunk of the store on its way. Records are gathered from the spans, in order, into two packers; when one is full or the
 * line is idle both are built: attributes first. A built pack with data stands in the list `open` from then on, in the
 * order of first transmission:
 *
 *      built ──► QUEUED ──► FLYING ──PUBACK──► (3.x: SETTLING ──500 ms──►) done
 *                  ▲           │ closed, quota
 *                  └───────────┘ refused, stuck, closed three times: two halves in its place, or the rejected file
 *
 * A span is finished when everything in it was built and every pack that touches it is done; the store's position moves
 * over the finished ones at the front. One behind an unfinished one gives its bytes back meanwhile, if they are a copy.
 *
 * Each lane of the store is a stream of spans of its own, and a pack has records of one lane only. After an outage there are two:
 * the live one goes first, but for every three of its values the backlog may send one (lead), and the backlog leaves some
 * of the window free, so that what is new finds a place at once.
 */
#include "uplink/deliver.h"
#include "uplink/pack.h"
#include "uplink/topics.h"

#include <assert.h>

enum {
    READ_MAX = 64 * 1024,         /* of one chunk: what the position moves by */
    AHEAD_MAX = 16 * 1024 * 1024, /* spans of a lane, finished or not */
    HELD_MAX = 5 * 1024 * 1024,   /* copies that spans hold, and payloads without answer */
    FLYING_MAX = 4 * 1024 * 1024, /* payload bytes without answer */
    STUCK_MS = 30 * 1000,
    SILENT_MS = 60 * 1000, /* no answer on gateway topics at all: reconnect */
    CHECK_MS = 5000,
    PASS_MAX = 512 * 1024, /* payload bytes built in one turn */
    SETTLE_MS = 500,       /* platform-behaviour.md 13, rule 5 */
    CLOSES_MAX = 3,
    QUOTAS_MAX = 3,     /* of one message, or device, in a session that stays */
    CLOSES_CAREFUL = 2, /* from then on one at a time, so that the guilty one is found */
    TOKENS_MS = 500,    /* longest time for which tokens are saved up */
    PAUSE_MIN_MS = 1000,
    PAUSE_MAX_MS = 120 * 1000,
    BACKLOG_FLYING_MAX = 1280 * 1024, /* of these, of the backlog beside a live lane */
    LEAD_MAX = 16 * 1024,             /* values */
    FREE_BYTES_MAX = FLYING_MAX,      /* payload buffers kept with the packs that are not used now */
    REJECTS_MAX = 4 * 1024 * 1024,    /* bytes of lines that are not in the rejected file yet */
    FREE_PACKS_IDLE = 1,
    FREE_PAYLOAD_MAX = 256 * 1024,
    ID_BUCKETS = 256,
};

enum { PACK_TELL = PACK_DISCONNECT + 1, PACK_TOUCH, PACK_OWN }; /* tell, touch: tend.c */
enum { SESSION_WANTED = 1 }; /* of a device: it is to be announced in each session; real ones are counted from 2 */
enum pack_state { PACK_QUEUED, PACK_FLYING, PACK_SETTLING, PACK_LOST, PACK_TAKEN };

struct span {
    struct list node;
    struct chunk *chunk; /* NULL: given back */
    uint64_t number, to; /* to: the store's position behind it */
    size_t n;
    unsigned n_open;      /* packs that touch it */
    struct piece *pieces; /* parts of records above a limit that has shrunk */
};

struct piece {
    struct piece *next;
    struct buf bytes;
};

struct pack {
    struct list node;     /* in open (data), others, or the free list */
    struct pack *next_id; /* in by_id */
    int kind;             /* enum pack_kind, PACK_OWN */
    enum pack_state state;
    uint16_t id;
    uint8_t n_closes, n_quotas, code;
    bool is_resent, is_suspect, is_alone, is_stale; /* stale: a device in it has another name now */
    bool is_known;                                  /* known: the client has its bytes, under id */
    bool is_counted, is_overtaken;                  /* the platform has taken it once; it must go again: overtake.c */
    struct buf payload;
    struct pack_part *parts;
    const struct record **records;
    size_t n_parts, cap_parts, n_records, cap_records;
    unsigned n_events;
    int lane;
    size_t n_payload;          /* of the transmission */
    struct span *first, *last; /* of that lane */
    struct device *dev;        /* connect */
    uint64_t sent_ms, number;  /* of the transmission; number: counts all of them */
    uint64_t n_taken;          /* of delivery, at the first quota */
    uint64_t until;            /* SETTLING: monotonic; QoS 0: position in the stream, then 0 */
    const char *reason;        /* of a suspect without code */
};

/* A line that is not durable in the rejected file: what it is about stays in the store. */
struct reject {
    struct list node;
    uint64_t number;
    size_t n_bytes;
    int lane;
    struct span *first, *last;
};

/* A device under suspicion, or found guilty: park.c. */
struct park {
    uint64_t until_ms, pause_ms; /* no connect before; the pause that led there */
    uint64_t n_taken;            /* of delivery, at the first quota */
    const char *reason;
    uint32_t session; /* of the quotas */
    uint8_t n_closes, n_quotas, code;
    bool is_suspect, is_parked; /* suspect: its connect flies alone */
};

#define REASON_NO_MORE_DEVICES "the platform takes others, but not this device: its limit of devices may be reached"

/* A lane of the store on its way. */
struct stream {
    struct span *cursor; /* being read; NULL: none read yet, or all is */
    const uint8_t *at;   /* in the cursor's chunk */
    const uint8_t *piece_at, *piece_end;
    uint64_t n_spans, built; /* spans below this number are built completely */
    size_t ahead_bytes, flying_bytes;
    unsigned n_flying;
};

/* backlogRate: tokens come with time and may be owed, so that no value is too many to pass, and the rate holds. */
struct bucket {
    double tokens;
    uint64_t at_ms, after_ms; /* after: nothing is taken before */
};

struct deliver {
    struct loop *loop;
    struct log *log;
    struct deliver_conf conf;
    struct deliver_limits limits;
    struct limiter *limiters;
    const struct deliver_link *link;
    void *arg;
    struct store *store;
    struct late late;
    struct timer gather_timer, pause_timer, settle_timer, check_timer, again_timer;

    bool is_ready, is_v5, is_finishing, is_reading, is_due; /* due: what is gathered is to go */
    uint32_t session;
    struct packer *packers[2]; /* by enum pack_kind */

    struct list spans[LANES]; /* oldest first */
    struct stream streams[LANES];
    int lane;                 /* of what is gathered, else of what was last */
    struct span *gather_from; /* first span of what is gathered */
    bool is_split, is_contended;
    int64_t lead; /* values that the live lane has sent before its turn, while the backlog had some, too */
    struct bucket bucket;

    struct list open, others, free, free_spans;
    unsigned n_free, n_queued, n_flying, n_known; /* flying: data; known: everything that awaits an answer */
    unsigned n_taken_packs;                       /* in open */
    uint8_t *marks;                               /* a bit a device */
    size_t cap_marks;
    unsigned n_lost;                             /* of those, the ones that nobody waits for any more */
    size_t flying_bytes, pass_bytes, free_bytes; /* free: capacity of unused packs' payloads */
    size_t held_bytes;                           /* copies that spans hold */
    struct pack *by_id[ID_BUCKETS];
    uint64_t n_sent, newest_acked; /* transmissions; newest one on a gateway topic that was answered in this session */
    uint64_t n_taken;              /* answers on gateway topics that were no refusal */
    bool has_been_acked;           /* on a gateway topic, in any session */
    uint64_t opened_ms, acked_ms;

    struct pack *blamed;    /* first in flight at the last close */
    struct device *lone;    /* its connect flies alone, or is waiting to */
    struct pack *lone_pack; /* NULL: waiting */
    struct park **parks;    /* by number of the device */
    size_t cap_parks, n_parks;
    bool is_careful, is_explained; /* explained: a PUBACK said why the close that follows */
    uint64_t pause_until_ms, pause_ms;
    uint64_t gather_after_ms; /* tokens are awaited */
    uint64_t storm_again_ms;  /* 0, or when devices that were passed over are looked at again */
    uint32_t storm_at,
        goodbye_at;          /* device numbers: from there on the known are announced, the announced disconnected */
    struct device **leaving; /* down, and their last record is delivered */
    size_t n_leaving, cap_leaving;
    struct str *farewells; /* former names that are still open */
    size_t n_farewells, cap_farewells;
    struct device **untold; /* whose connector the platform does not know yet */
    size_t n_untold, cap_untold;
    uint64_t tell_at_ms, tend_period_ms;
    uint32_t tend_at; /* device number: from there on the silent ones are looked for */
    struct timer tend_timer;
    struct list rejects; /* oldest first */
    size_t reject_bytes;
    uint64_t unsure_since_ms; /* since then values wait for the clock; 0: none do */
    int64_t unsure_base_ms;   /* what their times are counted from as long as it is not set */
    bool is_unsure_sent;      /* they have waited long enough */
    struct deliver_stats stats;
};

struct deliver_times { /* for struct pack_limits: as of now */
    int64_t offset_ms, published_ms;
};

static inline uint64_t now_ms(const struct deliver *d)
{
    return loop_mono_ms(d->loop);
}

static inline uint64_t get(const _Atomic(uint64_t) *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline struct str wire_name(const struct device *dev)
{
    return device_wire_json(dev);
}

/* The device's number was valid when this process made the record; bytes of an older one are known by name. */
static inline struct device *device_of(const struct record *record)
{
    struct device *dev = record->dev < device_count() ? device_at(record->dev) : NULL;

    return dev && str_eq(device_name(dev), record_name(record)) ? dev : device_get(record_name(record));
}

/* flight.c */
bool deliver_is_data(const struct pack *pack);
struct str deliver_topic_of(const struct pack *pack);
struct pack *deliver_pack_new(struct deliver *d, int kind);
void deliver_pack_free(struct pack *pack);
void deliver_pack_put(struct deliver *d, struct pack *pack);
void deliver_free_packs(struct deliver *d, unsigned keep);
struct span *deliver_span_new(struct deliver *d);
void deliver_free_spans(struct deliver *d);
void deliver_spans_hold(struct deliver *d, int lane, struct span *first, struct span *last);
void deliver_spans_unhold(struct deliver *d, int lane, struct span *first, struct span *last); /* first NULL: none */
void deliver_pack_hold(struct deliver *d, struct pack *pack, struct span *first, struct span *last);
void deliver_pack_unhold(struct deliver *d, struct pack *pack);
void deliver_span_free(struct deliver *d, int lane, struct span *span);
void deliver_advance(struct deliver *d);
bool deliver_has_window(const struct deliver *d);
bool deliver_is_quiet(const struct deliver *d);
void deliver_lose(struct deliver *d, struct pack *pack);
void deliver_pause_for(struct deliver *d, uint64_t ms);
void deliver_wait_for(struct deliver *d, uint64_t ms);
enum err deliver_publish(struct deliver *d, struct pack *pack, struct str topic, uint8_t qos);
void deliver_forget(struct deliver *d, struct pack *pack);
struct pack *deliver_find_id(struct deliver *d, uint16_t id);
bool deliver_say(struct deliver *d, struct device *dev, int kind);
bool deliver_announce(struct deliver *d, struct device *dev);

/* outcome.c */
/* first, last: the spans of d->lane's or the pack's lane that stay until the line is durable. */
void deliver_reject(struct deliver *d, int kind, const struct record *record, uint8_t code, const char *reason,
                    int lane, struct span *first, struct span *last);
void deliver_build(struct deliver *d, struct packer *packer, struct pack *pack);
void deliver_expel(struct deliver *d, struct pack *pack, size_t part, uint8_t code, const char *reason);
void deliver_empty_buckets(struct deliver *d, bool is_own);
void deliver_suspect(struct deliver *d, struct pack *pack, uint8_t code, const char *reason);
bool deliver_is_leaving(const struct deliver *d, const struct device *dev);
void deliver_delivered(struct deliver *d, struct pack *pack);
void deliver_queue_again(struct deliver *d, struct pack *pack);
void deliver_requeue(struct deliver *d, struct pack *pack);
void deliver_data_acked(struct deliver *d, struct pack *pack, uint8_t code);
void deliver_connect_settled(struct deliver *d, struct pack *pack);
void deliver_other_acked(struct deliver *d, struct pack *pack, uint8_t code);

/* park.c */
const struct park *deliver_parked(const struct deliver *d, const struct device *dev); /* NULL: it is not */
void deliver_park(struct deliver *d, struct device *dev, uint8_t code, const char *reason);
bool deliver_is_suspect(const struct deliver *d, const struct device *dev);
uint64_t deliver_device_wait(const struct deliver *d, const struct device *dev); /* ms until it may be announced */
void deliver_device_taken(struct deliver *d, const struct device *dev);
void deliver_blame_device(struct deliver *d, struct device *dev);
void deliver_suspect_device(struct deliver *d, struct device *dev);
bool deliver_device_quota(struct deliver *d, struct device *dev); /* true: that was once too often */
void deliver_parks_free(struct deliver *d);

/* lanes.c */
void deliver_split(struct deliver *d);
void deliver_merge(struct deliver *d);
bool deliver_has_tokens(struct deliver *d);
bool deliver_pick_lane(struct deliver *d);   /* false: there is nothing to gather now */
bool deliver_other_waits(struct deliver *d); /* the lane that is not being gathered has something to send */
void deliver_note_gathered(struct deliver *d, uint32_t n_values);

/* overtake.c */
bool deliver_is_overtaking(struct deliver *d,
                           struct pack *pack); /* acknowledged; true: it stays, an older one is open */
void deliver_sent_again(struct deliver *d, const struct pack *pack); /* it is QUEUED once more, or a part of it */
void deliver_let_go(struct deliver *d);                              /* of what stays no more */

/* unsure.c */
struct deliver_times deliver_times(const struct deliver *d);
bool deliver_may_time(struct deliver *d, const struct record *record); /* false: it waits for the clock */

/* tend.c */
void deliver_rebuild(struct deliver *d, struct pack *pack);
bool deliver_farewells(struct deliver *d);
void deliver_untold_add(struct deliver *d, struct device *dev, uint16_t source);
static inline void deliver_check_source(struct deliver *d, struct device *dev)
{
    uint16_t source = atomic_load_explicit(&dev->source, memory_order_relaxed);

    if (UNLIKELY(source != dev->told_source))
        deliver_untold_add(d, dev, source);
}
void deliver_tell(struct deliver *d);
void deliver_tell_lost(const struct pack *pack);
void deliver_tend(struct deliver *d);
void deliver_tend_init(struct deliver *d);
void deliver_tend_open(struct deliver *d);
void deliver_tend_tune(struct deliver *d); /* conf.keep_alive_s has changed */
void deliver_tend_closed(struct deliver *d);
void deliver_tend_fini(struct deliver *d);

/* gather.c */
bool deliver_has_records(struct deliver *d, int lane);
void deliver_build_gathered(struct deliver *d);
bool deliver_is_gathered(const struct deliver *d);
void deliver_begin(struct deliver *d);
void deliver_note_built(struct deliver *d);
void deliver_gather(struct deliver *d);

/* deliver.c */
bool deliver_is_blocked(const struct deliver *d);
bool deliver_send_open(struct deliver *d);
#endif
