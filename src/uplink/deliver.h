/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_DELIVER_H
#define IOTGW_DELIVER_H
/*
 * Delivery of what the store holds: chunks → packs → PUBACKs → store_ack. Knows no connection: what it needs of one is
 * struct deliver_link, so that a test can be the platform.
 *
 * Owner thread: the uplink's loop. All work is one pass a turn (late hook LATE_UPLINK); the other functions only note what
 * happened. Nothing of deliver_link is called back into from within its own calls.
 *
 * Order: packs leave in the order of the records; after a reconnect the same packs leave again in the same order before
 * anything new. A device's connect is written before its first data of each session.
 */
#include "base/log.h"
#include "store/store.h"
#include "uplink/limits.h"

struct deliver_link {
    /* payload stays unchanged until deliver_acked(id), or deliver_closed, or (QoS 0) until sent() has reached queued().
     * ERR_BUSY: window full. ERR_LIMIT: larger than the server takes. Else: there is no connection. */
    enum err (*publish)(void *arg, struct str topic, struct str payload, uint8_t qos, bool is_resent, uint16_t *id);
    unsigned (*window)(void *arg);
    uint64_t (*queued)(void *arg), (*sent)(void *arg), (*last_in_ms)(void *arg);
    void (*provoke)(void *arg); /* makes the server say something: QoS 0's proof that the link lives */
    void (*close)(void *arg, const char *reason); /* deliver_closed follows, later */
    void (*quota)(void *arg);                     /* the platform says a limit is exceeded */
    void (*not_gateway)(void *arg);               /* nothing on gateway topics has ever been answered */
    /* One line for the rejected file: its number, for deliver_rejected_to once it is durable. */
    uint64_t (*rejected)(void *arg, struct str line);
};

struct deliver_conf {
    uint8_t qos;
    uint32_t min_pack_delay_ms, min_pack_values, max_pack_events;
    bool batch_devices;
    uint32_t backlog_rate; /* values a second of the backlog lane; 0: no bound */
    uint32_t keep_alive_s; /* 0: silent devices are not kept open */
};

struct deliver_limits {
    size_t payload_bytes;  /* to which payloads are filled */
    size_t hard_bytes;     /* what the server takes at all; 0: not known */
    unsigned window;       /* publications without answer; at least 1 */
    unsigned share_values; /* of one device in a message; 0: none */
};

struct deliver_stats {
    uint64_t n_packs, n_values, n_bytes; /* acknowledged */
    uint64_t n_events, n_telemetry_values, n_attribute_values;
    uint64_t n_read_events; /* packed for the first time */
    uint64_t n_resent, n_rejected_values;
    unsigned in_flight;
};

struct deliver;
/* limiters: LIMIT_KINDS of them, owned by the caller, who may change them at any time. */
struct deliver *deliver_new(struct loop *loop, struct log *log, const struct deliver_conf *conf,
                            struct limiter *limiters, const struct deliver_link *link, void *arg);
void deliver_free(struct deliver *deliver); /* NULL allowed */
void deliver_attach(struct deliver *deliver, struct store *store);
/* Nothing of the store is under way: it may be exchanged for another one. */
bool deliver_is_drained(const struct deliver *deliver);
void deliver_set_limits(struct deliver *deliver, const struct deliver_limits *limits);
/* min_pack_…, max_pack_events, backlog_rate, batch_devices and keep_alive_s of conf; the rest stays. */
void deliver_tune(struct deliver *deliver, const struct deliver_conf *conf);
/* A new session is ready; qos: of its publications, never more than the server takes. */
void deliver_open(struct deliver *deliver, bool is_v5, uint8_t qos);
/* by_peer: the server ended it, for a reason that one of the messages may have given. */
void deliver_closed(struct deliver *deliver, bool by_peer);
void deliver_acked(struct deliver *deliver, uint16_t id, uint8_t code);
/* The lines up to this number are durable. Until then a durable store keeps what was rejected, and when many wait nothing more
 * is sent. */
void deliver_rejected_to(struct deliver *deliver, uint64_t number);
/* The store has dropped records of the device. One of them may have told of its link: what the device says of itself counts. */
void deliver_dropped(struct deliver *deliver, struct device *dev);
void deliver_wake(struct deliver *deliver); /* there may be something to do: readable, writable */
/* Something of the gateway's own, or a reply: copied and sent at once; false: cannot be sent now. Not kept over a reconnect. */
bool deliver_own(struct deliver *deliver, struct str topic, struct str payload, uint8_t qos);
/* While stopping: nothing is awaited to fill packs, nothing new is read once reading is over. */
void deliver_finish(struct deliver *deliver, bool is_reading);
bool deliver_is_idle(const struct deliver *deliver); /* all that may be sent is sent and answered */
/* Writes disconnect for devices that this session has announced, as far as the window allows; true when all are done. */
bool deliver_goodbye(struct deliver *deliver);
/* enum uplink_device_op of uplink.h; without a session it is noted for the next one. */
void deliver_device_open(struct deliver *deliver, struct device *dev);
void deliver_device_close(struct deliver *deliver, struct device *dev);
void deliver_device_forget(struct deliver *deliver, struct device *dev);
void deliver_device_rename(struct deliver *deliver, struct device *dev, const char *wire);
bool deliver_awaits_clock(const struct deliver *deliver);       /* values wait until it is set */
struct str deliver_oldest_topic(const struct deliver *deliver); /* of what awaits an answer; empty: nothing does */
struct deliver_stats deliver_stats(const struct deliver *deliver);
#endif
