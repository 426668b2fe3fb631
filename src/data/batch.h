/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_BATCH_H
#define IOTGW_BATCH_H
/*
 * One burst of one connector on its way to the store, and as its answer back. bytes: sealed records, back to back, in a
 * slab of base/slab.h (a larger single event: a block of its own). The store copies them, frees them at once (batch_drop_bytes)
 * and keeps only the small descriptor until the batch is durable; then it sets result and posts the same node to
 * ctx_answer. Answered exactly once, in the order of appending within a ctx.
 */
#include "base/queue.h"
#include "data/record.h"

struct batch {
    struct node node;
    struct ctx *ctx;      /* counted: outlives the connector's instance */
    uint64_t cookie;      /* the connector's own: every source message up to this one is in here or was before */
    uint8_t *bytes;
    uint32_t n_bytes, cap; /* cap > SLAB_SIZE: a block of its own */
    uint32_t n_events, n_values;
    bool can_wait;        /* false: a source that cannot be slowed; dropped when the store is full */
    enum err result;      /* ERR_OK: durable. ERR_FULL: dropped and counted. Else: not stored, do not acknowledge */
};

void batch_drop_bytes(struct batch *batch);
static inline const struct record *batch_first(const struct batch *batch)
{
    return (const struct record *)(const void *)batch->bytes;
}
#endif
