/* SPDX-License-Identifier: Apache-2.0 */
#include "data/batch.h"

#include "base/mem.h"
#include "base/slab.h"
#include "data/device.h"

void batch_drop_bytes(struct batch *batch)
{
    if (batch->cap > SLAB_SIZE)
        mem_free(batch->bytes);
    else
        slab_put(batch->bytes);
    batch->bytes = NULL;
    batch->cap = 0;
}

void batch_take_back(const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        const struct record *record = (const struct record *)(const void *)p;

        if (record->n_values && record->dev < device_count())
            device_add_values(&device_at(record->dev)->n_adjusted, -(uint64_t)record->n_values);
        p += record->size;
    }
}

static struct batch_sink *sink_of(struct record_sink *sink)
{
    return CONTAINER_OF(sink, struct batch_sink, sink);
}

static uint8_t *get_bytes(size_t size, uint32_t *cap)
{
    size_t want = 2 * SLAB_SIZE;

    if (size <= SLAB_SIZE) {
        *cap = SLAB_SIZE;
        return slab_get();
    }
    while (want < size)
        want *= 2;
    *cap = (uint32_t)want;
    return mem_try(want);
}

/* Takes the bytes over. */
static struct batch *batch_make(struct batch_sink *sink, uint8_t *bytes, uint32_t cap)
{
    struct batch *batch;

    if (sink->spare) {
        batch = CONTAINER_OF(sink->spare, struct batch, node);
        sink->spare = sink->spare->next;
    } else {
        batch = mem_new(sizeof *batch);
    }
    *batch = (struct batch){.ctx = sink->ctx, .bytes = bytes, .cap = cap};
    return batch;
}

/* Events and values of the records from begin on; what stands before was counted when its message was complete. */
static void count(struct batch_sink *sink)
{
    struct batch *batch = sink->batch;

    while (sink->begin < batch->n_bytes) {
        const struct record *record = (const struct record *)(const void *)(batch->bytes + sink->begin);

        batch->n_values += record->n_values;
        batch->n_events += (record->flags & RECORD_END) != 0;
        sink->begin += record->size;
    }
}

/* Moves the unfinished message where there is room for size more bytes, and hands the whole messages before it over. */
static bool move(struct batch_sink *sink, size_t size)
{
    struct batch *old = sink->batch;
    uint32_t n = old->n_bytes - sink->begin, cap;
    uint8_t *bytes = n + size <= BATCH_MAX_BYTES ? get_bytes(n + size, &cap) : NULL;

    if (!bytes)
        return false;
    memcpy(bytes, old->bytes + sink->begin, n);
    if (sink->begin == 0) {
        batch_drop_bytes(old);
        old->bytes = bytes;
        old->cap = cap;
        return true;
    }
    old->n_bytes = sink->begin;
    sink->batch = batch_make(sink, bytes, cap);
    sink->batch->n_bytes = n;
    sink->begin = 0;
    sink->full(sink->arg, old);
    return true;
}

static uint8_t *sink_room(struct record_sink *record_sink, size_t size)
{
    struct batch_sink *sink = sink_of(record_sink);
    struct batch *batch = sink->batch;
    uint8_t *p;

    if (LIKELY(batch && size <= batch->cap - batch->n_bytes)) {
        p = batch->bytes + batch->n_bytes;
        batch->n_bytes += (uint32_t)size;
        return p;
    }
    if (size > BATCH_MAX_BYTES)
        return NULL;
    if (batch) {
        if (!move(sink, size))
            return NULL;
    } else {
        uint32_t cap;
        uint8_t *bytes = get_bytes(size, &cap);

        if (!bytes)
            return NULL;
        sink->batch = batch_make(sink, bytes, cap);
    }
    p = sink->batch->bytes + sink->batch->n_bytes;
    sink->batch->n_bytes += (uint32_t)size;
    return p;
}

void batch_sink_init(struct batch_sink *sink, struct ctx *ctx, batch_full_fn *full, void *arg)
{
    *sink = (struct batch_sink){.sink = {sink_room}, .ctx = ctx, .full = full, .arg = arg};
}

void batch_sink_fini(struct batch_sink *sink)
{
    if (sink->batch) {
        batch_take_back(sink->batch->bytes, sink->batch->bytes + sink->batch->n_bytes);
        batch_sink_reuse(sink, sink->batch);
    }
    while (sink->spare) {
        struct batch *batch = CONTAINER_OF(sink->spare, struct batch, node);

        sink->spare = sink->spare->next;
        mem_free(batch);
    }
    sink->batch = NULL;
}

void batch_sink_begin(struct batch_sink *sink)
{
    if (sink->batch)
        count(sink);
}

void batch_sink_cut(struct batch_sink *sink)
{
    struct batch *batch = sink->batch;

    if (!batch || sink->begin == batch->n_bytes)
        return;
    batch_take_back(batch->bytes + sink->begin, batch->bytes + batch->n_bytes);
    batch->n_bytes = sink->begin;
    if (sink->begin)
        return;
    sink->batch = NULL;
    batch_sink_reuse(sink, batch);
}

struct batch *batch_sink_take(struct batch_sink *sink)
{
    struct batch *batch = sink->batch;

    if (batch)
        count(sink);
    sink->batch = NULL;
    sink->begin = 0;
    return batch;
}

void batch_sink_reuse(struct batch_sink *sink, struct batch *batch)
{
    batch_drop_bytes(batch);
    batch->node.next = sink->spare;
    sink->spare = &batch->node;
}
