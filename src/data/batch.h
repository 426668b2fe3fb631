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

enum { BATCH_MAX_BYTES = 32 * 1024 * 1024 }; /* of one source message, encoded; more is refused (ERR_LIMIT) */

struct batch {
    struct node node;
    struct ctx *ctx; /* counted: outlives the connector's instance */
    uint64_t cookie; /* the connector's own: every source message up to this one is in here or was before */
    uint8_t *bytes;
    uint32_t n_bytes, cap; /* cap > SLAB_SIZE: a block of its own */
    uint32_t n_events, n_values;
    bool can_wait;   /* false: a source that cannot be slowed; dropped when the store is full */
    enum err result; /* ERR_OK: durable. ERR_FULL: dropped and counted. Else: not stored, do not acknowledge */
};

/* n_bytes stays, for whoever counts credit. */
void batch_drop_bytes(struct batch *batch);
/* Values in [p, end) will not be stored, and their source learns it: they were not collected after all (device.n_adjusted). */
void batch_take_back(const uint8_t *p, const uint8_t *end);
static inline const struct record *batch_first(const struct batch *batch)
{
    return (const struct record *)(const void *)batch->bytes;
}

/*
 * Where records are written (data/event.h). room gives size bytes, 8-aligned, for one or more records that belong
 * together; all of them are written before the next call. NULL, and nothing is changed: ERR_NOMEM or a limit. It may
 * move what belongs to the same source message to another batch.
 */
struct record_sink {
    uint8_t *(*room)(struct record_sink *sink, size_t size);
};

/*
 * The batch being filled by one ctx: one thread. Records of one source message are never spread over two batches: when
 * the slab is full, what the unfinished message has written so far moves to a new one, and the rest, which holds whole
 * messages only, goes to full(). A message larger than a slab gets a block of its own. n_events and n_values of a
 * batch that is handed out are counted; ctx is set; cookie, can_wait and result are the caller's (zero, zero, ERR_OK at first).
 */
typedef void batch_full_fn(void *arg, struct batch *batch);
struct batch_sink {
    struct record_sink sink; /* give &x.sink to event_encode */
    struct ctx *ctx;
    batch_full_fn *full; /* owns the batch from then on; must not write to the sink */
    void *arg;
    struct batch *batch; /* being filled; NULL: nothing written. Its cookie may be set at any time */
    struct node *spare;  /* descriptors that came back */
    uint32_t begin;      /* where the unfinished message starts in batch */
};
void batch_sink_init(struct batch_sink *sink, struct ctx *ctx, batch_full_fn *full, void *arg);
void batch_sink_fini(struct batch_sink *sink); /* frees what is being filled and the spare descriptors */
/* A source message starts here, and the one before it is complete. */
void batch_sink_begin(struct batch_sink *sink);
/* What the unfinished message has written is taken back: its source is gone. */
void batch_sink_cut(struct batch_sink *sink);
/* Gives the current batch, unfinished message included, or NULL if nothing was written. */
struct batch *batch_sink_take(struct batch_sink *sink);
/* A descriptor that came back is used again; its bytes, if any, are freed. */
void batch_sink_reuse(struct batch_sink *sink, struct batch *batch);
#endif
