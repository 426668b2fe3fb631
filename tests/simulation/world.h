/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_SIMULATION_WORLD_H
#define IOTGW_SIMULATION_WORLD_H
/*
 * What a history is made of: sources that give numbered values to real contexts, a real store on a disk in memory, real
 * delivery, and a platform that is a list of unanswered publications. Everything runs on fake loops: the same seed is the
 * same history. A value's text is a function of its stream and number, so the platform knows whether it is the one that was
 * given. The invariants are those of docs/architecture.md, 7.
 */
#include "connector/ackring.h"
#include "connector/ctx.h"
#include "uplink/deliver.h"

#include <stdio.h>
#include <stdlib.h>

enum { SOURCES = 3, DEVICES = 9, STREAMS = 2 * DEVICES, VALUES = 6000, TEXT_MAX = 4096, MESSAGES = 2048 };

enum value_flags {
    VALUE_EMITTED = 1,
    VALUE_ACCEPTED = 2,   /* its source has been acknowledged */
    VALUE_SENT = 4,       /* in this life of the process */
    VALUE_ACKED = 8,      /* the gateway knows that the platform has it, in this life */
    VALUE_DELIVERED = 16, /* the platform has it */
    VALUE_REJECTED = 32,
    VALUE_POISON = 64,
    VALUE_SAVED = 128, /* the storage's state says that the platform has it */
};

struct stream { /* values of one device and kind, numbered from 0 */
    unsigned n;
    int64_t last_sent; /* newest one sent for the first time in this life; -1: none */
    uint8_t flags[VALUES];
    uint64_t acked_ms[VALUES];
};

enum storage { STORAGE_MEMORY, STORAGE_FILE, STORAGES };
struct shape { /* what does not change in a history */
    enum storage storage;
    enum overflow overflow;
    uint64_t max_events, max_bytes, max_age_ms;
    bool is_v5, poison_closes, has_poison, has_refusals, has_shrinking, has_faults, has_limits;
    uint8_t poison_code;
    size_t payload_bytes;
    unsigned window;
    uint32_t text_max, backlog_rate;
};

/* A point whose values are reported on change only. */
struct point {
    unsigned now, seen, lost; /* as the device has it; what the platform has, and the newest that it has rejected */
    uint64_t seen_in;         /* number of the publication */
};

struct message_in { /* of a source */
    uint64_t cookie;
    bool is_forgotten;
    unsigned n_parts;
    struct part_in {
        uint16_t stream, n;
        uint32_t first;
    } parts[6];
};

struct source {
    unsigned index;
    struct ctx *ctx;
    struct ackring ring;
    bool is_held, is_dead, can_wait;
    uint64_t done_to; /* cookie */
    size_t first, n;  /* of messages, a ring */
    struct message_in messages[MESSAGES];
};

struct world {
    uint64_t seed;
    bool is_told; /* prints what happens */
    struct shape shape;
    struct loop *loop, *disk_loop;
    bool is_hung;
    struct store *store;
    struct deliver *deliver;
    struct limiter limiters[LIMIT_KINDS];
    struct log log;
    struct ctx_host host;
    struct device *devices[DEVICES];
    struct source sources[SOURCES];
    struct stream streams[STREAMS];
    struct point points[DEVICES];
    uint64_t n_dropped_before;        /* values, in former lives */
    uint64_t n_answered, n_recovered; /* values, in this life */
    uint64_t n_lives, n_emitted, n_delivered, n_dup, n_dup_attributes, n_poison, n_rejected,
        n_dropped;                      /* for the summary */
    bool is_rejecting_poison, has_died; /* died: in the middle of a write */
    char reject_line[160];
    bool may_lose; /* memory storage has been restarted: what it held is gone, as promised */
};
extern struct world world;

uint32_t roll(uint32_t n); /* 0 … n−1, of the step that runs */
void broken(const char *file, int line, const char *what, const char *fmt, ...) PRINTF_LIKE(4, 5)
    __attribute__((noreturn));
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            broken(__FILE__, __LINE__, #condition, __VA_ARGS__);                                                       \
    } while (0)
void tell(const char *fmt, ...) PRINTF_LIKE(1, 2);

bool is_poison(unsigned stream, unsigned n);
struct str text_of(unsigned stream, unsigned n, char *out); /* as JSON */

/* sources.c */
void sources_open(void);
void sources_close(void); /* the process ends: what comes now is not heard any more */
void sources_forget(void);
void source_burst(unsigned index, unsigned n_messages);
void source_connect(unsigned device, bool is_connect);
void source_settle_point(unsigned device);
bool sources_are_answered(void);

/* platform.c */
enum pace { PACE_FAST, PACE_SLOW, PACE_FROZEN };
struct platform {
    bool is_up, is_reachable, wants_close, is_shuffled;
    enum pace pace;
    unsigned n_open, n_refuse; /* publications to refuse next, with refuse_code */
    uint8_t refuse_code;
    size_t hard_bytes;
    uint64_t n_closes, n_late; /* sessions lost; PUBACKs that came too late to be believed */
    struct list open;
    uint16_t next_id;
    uint64_t queued;
    uint64_t last_in_ms;
    struct buf rejects; /* lines that are not durable */
    uint64_t n_rejects, n_published;
    bool connected[DEVICES];
};
extern struct platform platform;
extern const struct deliver_link platform_link;
void platform_init(void);
bool platform_work(void); /* answers by its pace; false: nothing to do */
void platform_down(bool by_peer);
void platform_up(void);
void platform_forget(void);
void platform_sync_rejects(void);
#endif
