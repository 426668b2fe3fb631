/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/ackring.h"

#include <assert.h>

/* Entry of sequence number s stands at s modulo cap (a power of two), so growing and shrinking re-place the entries. */
enum { RING_MIN = 64 };

void ackring_init(struct ackring *ring)
{
    *ring = (struct ackring){.first = 1, .next = 1};
}

void ackring_fini(struct ackring *ring)
{
    mem_free(ring->entries);
    *ring = (struct ackring){.first = ring->next, .next = ring->next};
}

static struct ack_entry *entry_of(struct ackring *ring, uint64_t seq)
{
    return &ring->entries[seq & (ring->cap - 1)];
}

static void resize(struct ackring *ring, size_t cap)
{
    struct ack_entry *entries = mem_new(cap * sizeof *entries);

    for (uint64_t seq = ring->first; seq != ring->next; seq++)
        entries[seq & (cap - 1)] = *entry_of(ring, seq);
    mem_free(ring->entries);
    ring->entries = entries;
    ring->cap = cap;
}

uint64_t ackring_add(struct ackring *ring, uint16_t packet_id, uint8_t qos)
{
    uint64_t seq = ring->next;

    if (seq - ring->first == ring->cap)
        resize(ring, ring->cap ? ring->cap * 2 : RING_MIN);
    *entry_of(ring, seq) = (struct ack_entry){.packet_id = packet_id, .qos = qos};
    ring->next = seq + 1;
    return seq;
}

void ackring_finish(struct ackring *ring, uint64_t seq)
{
    if (seq >= ring->first && seq < ring->next)
        entry_of(ring, seq)->is_finished = true;
}

void ackring_finish_to(struct ackring *ring, uint64_t seq)
{
    uint64_t end = seq < ring->next ? seq + 1 : ring->next;

    for (uint64_t i = ring->first; i < end; i++)
        entry_of(ring, i)->is_finished = true;
}

bool ackring_take(struct ackring *ring, struct ack_entry *out)
{
    if (ring->first == ring->next || !entry_of(ring, ring->first)->is_finished) {
        /* Nothing to give: the moment to give memory back, if a burst has left much more than is needed. */
        if (ring->cap > RING_MIN * 16 && ring->next - ring->first < ring->cap / 16)
            resize(ring, ring->cap / 4);
        return false;
    }
    *out = *entry_of(ring, ring->first++);
    return true;
}

void ackring_reset(struct ackring *ring)
{
    ring->first = ring->next;
}
