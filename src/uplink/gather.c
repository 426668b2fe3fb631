/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/* --- gathering ------------------------------------------------------------------------------------------------------------------ */

bool deliver_is_gathered(const struct deliver *d)
{
    return !packer_is_empty(d->packers[PACK_TELEMETRY]) || !packer_is_empty(d->packers[PACK_ATTRIBUTES]);
}

void deliver_begin(struct deliver *d)
{
    struct pack_limits limits = {
        .max_bytes = d->limits.payload_bytes,
        .max_values = d->limits.share_values,
        .max_events = d->conf.max_pack_events,
        .batch_devices = d->conf.batch_devices,
    };

    packer_begin(d->packers[PACK_TELEMETRY], PACK_TELEMETRY, &limits);
    packer_begin(d->packers[PACK_ATTRIBUTES], PACK_ATTRIBUTES, &limits);
}

/* What was gathered becomes packs: attributes first. */
void deliver_build_gathered(struct deliver *d)
{
    static const int order[] = {PACK_ATTRIBUTES, PACK_TELEMETRY};
    int64_t now;

    if (loop_stamp(d->loop, &now))
        packer_set_published(d->packers[PACK_TELEMETRY], now);
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        struct packer *packer = d->packers[order[i]];

        if (packer_is_empty(packer))
            continue;
        struct pack *pack = deliver_pack_new(d, order[i]);

        deliver_build(d, packer, pack);
        d->stats.n_read_events += pack->n_events;
        pack->lane = d->lane;
        deliver_pack_hold(d, pack, d->gather_from, d->streams[d->lane].cursor);
        d->pass_bytes += pack->payload.n;
        list_add_tail(&d->open, &pack->node);
    }
    d->is_due = false;
    timer_stop(&d->gather_timer);
    deliver_begin(d);
}

static bool is_at_end(const struct stream *stream)
{
    return stream->at == stream->cursor->chunk->bytes + stream->cursor->chunk->n;
}

/* How far everything is built: a span that still has records to read or to pack is not. */
void deliver_note_built(struct deliver *d)
{
    for (int lane = 0; lane < LANES; lane++) {
        struct stream *stream = &d->streams[lane];

        if (lane == d->lane && deliver_is_gathered(d))
            stream->built = d->gather_from->number;
        else if (stream->cursor)
            stream->built = stream->cursor->number + (is_at_end(stream) && stream->piece_at == stream->piece_end);
    }
}

static bool read_span(struct deliver *d, int lane)
{
    struct stream *stream = &d->streams[lane];
    struct chunk *chunk;

    if (stream->ahead_bytes >= AHEAD_MAX || d->held_bytes + d->flying_bytes >= HELD_MAX ||
        (d->is_finishing && !d->is_reading))
        return false;
    chunk = store_read(d->store, lane, READ_MAX);
    if (!chunk)
        return false;
    struct span *span = deliver_span_new(d);

    span->chunk = chunk;
    span->n = chunk->n;
    span->to = chunk->to;
    span->number = stream->n_spans++;
    list_add_tail(&d->spans[lane], &span->node);
    stream->ahead_bytes += chunk->n;
    d->held_bytes += chunk->is_copy ? chunk->n : 0;
    stream->cursor = span;
    stream->at = chunk->bytes;
    return true;
}

bool deliver_has_records(struct deliver *d, int lane)
{
    const struct stream *stream = &d->streams[lane];

    return UNLIKELY(stream->piece_at != stream->piece_end) || (stream->cursor && !is_at_end(stream)) ||
           read_span(d, lane);
}

/* The record at the cursor; NULL: nothing to read. */
static const struct record *peek(struct deliver *d)
{
    const struct stream *stream = &d->streams[d->lane];

    if (!deliver_has_records(d, d->lane))
        return NULL;
    if (UNLIKELY(stream->piece_at != stream->piece_end))
        return (const struct record *)(const void *)stream->piece_at;
    return (const struct record *)(const void *)stream->at;
}

/* The next one of the lane whose turn it is. The lane changes between packs only. */
static const struct record *next_record(struct deliver *d)
{
    if (LIKELY(!d->is_split))
        return peek(d);
    if (!deliver_is_gathered(d) && !deliver_pick_lane(d))
        return NULL;
    return d->lane == LANE_LIVE || deliver_has_tokens(d) ? peek(d) : NULL;
}

static void step(struct deliver *d, const struct record *record)
{
    struct stream *stream = &d->streams[d->lane];

    if (UNLIKELY(stream->piece_at != stream->piece_end))
        stream->piece_at += record->size;
    else
        stream->at += record->size;
}

static int kind_of(const struct record *record)
{
    return record->kind == RECORD_ATTRIBUTES ? PACK_ATTRIBUTES : PACK_TELEMETRY;
}

/* The record at the cursor. */
static void reject_next(struct deliver *d, const struct record *record, uint8_t code, const char *reason)
{
    struct span *span = d->streams[d->lane].cursor;

    deliver_reject(d, kind_of(record), record, code, reason, d->lane, span, span);
}

/* A record above a limit: false: it goes as it is (one value alone that the server takes); true: the cursor stands at its parts, or it is gone. */
static bool shrink(struct deliver *d, struct device *dev, const struct record *record)
{
    struct pack_limits limits = {.max_bytes = d->limits.payload_bytes, .max_values = d->limits.share_values};
    size_t n = pack_alone_bytes(wire_name(dev), record);
    struct stream *stream = &d->streams[d->lane];
    bool is_whole = record->n_values <= 1 || stream->piece_at != stream->piece_end;

    if (!is_whole) {
        struct piece *piece = mem_zero(sizeof *piece);
        size_t n_parts = pack_split(&piece->bytes, wire_name(dev), record, &limits);

        piece->next = stream->cursor->pieces;
        stream->cursor->pieces = piece;
        if (n_parts > 1) {
            step(d, record);
            stream->piece_at = piece->bytes.p;
            stream->piece_end = piece->bytes.p + piece->bytes.n;
            return true;
        }
    }
    if (!d->limits.hard_bytes || n <= d->limits.hard_bytes)
        return false;
    reject_next(d, record, 0x95, NULL);
    step(d, record);
    return true;
}

/* A pack may have been begun long ago. */
static void set_time(struct deliver *d)
{
    struct deliver_times times = deliver_times(d);

    for (size_t i = 0; i < COUNT_OF(d->packers); i++)
        packer_set_time(d->packers[i], times.offset_ms, times.published_ms);
}

static uint64_t token_wait(struct deliver *d, const struct packer *packer, const struct device *dev,
                           const struct record *record)
{
    struct limiter *messages = &d->limiters[LIMIT_DEVICE], *values = &d->limiters[LIMIT_DEVICE_VALUES];
    bool is_new = !packer_has(packer, dev);
    uint64_t a, b;

    if (limiter_is_none(messages) && limiter_is_none(values))
        return 0;
    a = is_new ? limiter_wait(messages, 1, now_ms(d)) : 0;
    b = limiter_wait(values, record->n_values, now_ms(d));
    return a > b ? a : b;
}

/* A bucket that has run dry is let fill half, so that not every token that drips in makes a message of its own. */
static void wait_for_tokens(struct deliver *d, uint64_t at_least_ms)
{
    struct limiter *messages = &d->limiters[LIMIT_DEVICE], *values = &d->limiters[LIMIT_DEVICE_VALUES];
    uint64_t a = limiter_peek(messages, limiter_capacity(messages) / 2, now_ms(d));
    uint64_t b = limiter_peek(values, limiter_capacity(values) / 2, now_ms(d)), ms = a > b ? a : b;

    ms = ms > TOKENS_MS ? TOKENS_MS : ms;
    ms = ms < at_least_ms ? at_least_ms : ms;
    d->gather_after_ms = now_ms(d) + ms;
    deliver_wait_for(d, ms);
}

enum gathered { GATHERED, FULL, WAIT, DONE };

static enum gathered gather_data(struct deliver *d, struct device *dev, const struct record *record)
{
    int kind = kind_of(record);
    struct packer *packer = d->packers[kind];

    if (UNLIKELY(record->size > d->limits.payload_bytes / 2 ||
                 (d->limits.share_values && record->n_values > d->limits.share_values))) {
        bool is_over = pack_alone_bytes(wire_name(dev), record) > d->limits.payload_bytes ||
                       (d->limits.share_values && record->n_values > d->limits.share_values);

        if (is_over && shrink(d, dev, record))
            return DONE;
    }
    if (UNLIKELY(record->flags & RECORD_TIME_UNSURE) && kind == PACK_TELEMETRY && !deliver_may_time(d, record))
        return WAIT;
    uint64_t wait = token_wait(d, packer, dev, record);

    if (wait) {
        wait_for_tokens(d, wait);
        return WAIT;
    }
    bool is_new = !packer_has(packer, dev), was_empty = !deliver_is_gathered(d);

    if (was_empty)
        set_time(d);
    if (!packer_add(packer, dev, wire_name(dev), record))
        return FULL;
    if (was_empty)
        d->gather_from = d->streams[d->lane].cursor;
    if (is_new)
        limiter_spend(&d->limiters[LIMIT_DEVICE], 1);
    limiter_spend(&d->limiters[LIMIT_DEVICE_VALUES], record->n_values);
    if (UNLIKELY(d->is_split))
        deliver_note_gathered(d, record->n_values);
    step(d, record);
    return GATHERED;
}

/* connect and disconnect never overtake the device's data; only the newest of them acts. */
static enum gathered gather_state(struct deliver *d, struct device *dev, const struct record *record)
{
    bool is_connect = record->kind == RECORD_CONNECT;
    bool is_newest = record->ts == (int64_t)atomic_load_explicit(&dev->state_number, memory_order_relaxed);

    if (is_newest && (is_connect ? dev->announced != d->session : dev->announced == d->session)) {
        if (packer_has(d->packers[PACK_TELEMETRY], dev) || packer_has(d->packers[PACK_ATTRIBUTES], dev))
            return FULL;
        if (!deliver_has_window(d) || !deliver_say(d, dev, is_connect ? PACK_CONNECT : PACK_DISCONNECT))
            return WAIT;
    }
    step(d, record);
    return DONE;
}

static void reject_unknown(struct deliver *d, const struct record *record)
{
    reject_next(d, record, 0, "not a valid device name");
    step(d, record);
}

static void reject_parked(struct deliver *d, const struct park *park, const struct record *record)
{
    if (record->kind == RECORD_TELEMETRY || record->kind == RECORD_ATTRIBUTES)
        reject_next(d, record, park->code, park->reason);
    step(d, record);
}

static bool may_go(const struct deliver *d)
{
    if (!deliver_is_gathered(d))
        return false;
    return d->n_flying == 0 || d->is_due || d->is_finishing ||
           packer_values(d->packers[PACK_TELEMETRY]) + packer_values(d->packers[PACK_ATTRIBUTES]) >=
               d->conf.min_pack_values;
}

/* Something of the record at the cursor. */
static enum gathered gather(struct deliver *d, const struct record *record)
{
    struct device *dev = device_of(record);

    if (UNLIKELY(!dev))
        reject_unknown(d, record);
    else if (UNLIKELY(deliver_parked(d, dev) != NULL))
        reject_parked(d, deliver_parked(d, dev), record);
    else if (record->kind == RECORD_TELEMETRY || record->kind == RECORD_ATTRIBUTES)
        return gather_data(d, dev, record);
    else
        return gather_state(d, dev, record);
    return DONE;
}

void deliver_gather(struct deliver *d)
{
    if (deliver_is_blocked(d) || d->is_careful || now_ms(d) < d->gather_after_ms)
        return;
    for (;;) {
        const struct record *record = next_record(d);
        enum gathered result = FULL;

        if (record)
            result = gather(d, record);
        else if (!d->is_split || !deliver_is_gathered(d) || !deliver_other_waits(d))
            break;
        if (result == GATHERED || result == DONE)
            continue;
        if (deliver_is_gathered(d)) {
            deliver_build_gathered(d);
            if (!deliver_send_open(d))
                return;
        }
        if (result == WAIT || deliver_is_blocked(d))
            return;
        if (d->pass_bytes >= PASS_MAX) { /* the loop's other actors have their turn */
            timer_start(&d->again_timer, 0);
            return;
        }
    }
    if (may_go(d)) {
        deliver_build_gathered(d);
        (void)deliver_send_open(d);
    } else if (deliver_is_gathered(d) && !timer_is_running(&d->gather_timer)) {
        timer_start(&d->gather_timer, d->conf.min_pack_delay_ms);
    }
    d->is_due = false;
}
