/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_ACKRING_H
#define IOTGW_ACKRING_H
/*
 * When a source is acknowledged, and in which order: a ring of received, unacknowledged messages of one connection. A
 * message is finished when it yielded nothing to store, or when the batch that holds it is durable; only the finished
 * prefix is acknowledged, in the order received (MQTT 5, 4.6). Grows to the number of unacknowledged messages and shrinks
 * again. One thread. Sequence numbers count from 1 over the life of the ring and never repeat.
 */
#include "base/mem.h"

struct ack_entry {
    uint16_t packet_id;
    uint8_t qos;
    bool is_finished;
};
struct ackring {
    struct ack_entry *entries;
    size_t cap;
    uint64_t first, next; /* sequence numbers: oldest unacknowledged, and the one to be given next */
};
void ackring_init(struct ackring *ring);
void ackring_fini(struct ackring *ring);
uint64_t ackring_add(struct ackring *ring, uint16_t packet_id, uint8_t qos);
void ackring_finish(struct ackring *ring, uint64_t seq);    /* this one: nothing to store */
void ackring_finish_to(struct ackring *ring, uint64_t seq); /* all up to this one */
/* Takes the finished prefix off, oldest first; false when there is none left. */
bool ackring_take(struct ackring *ring, struct ack_entry *out);
/* The connection is gone: forget all; sequence numbers go on, so late completions fall into the past. */
void ackring_reset(struct ackring *ring);
#endif
