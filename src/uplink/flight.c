/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/* --- packs and spans as objects ------------------------------------------------------------------------------------------ */

bool deliver_is_data(const struct pack *pack)
{
    return pack->kind == PACK_TELEMETRY || pack->kind == PACK_ATTRIBUTES;
}

struct str deliver_topic_of(const struct pack *pack)
{
    return pack->kind == PACK_TELEMETRY    ? TOPIC_TELEMETRY
           : pack->kind == PACK_CONNECT    ? TOPIC_CONNECT
           : pack->kind == PACK_DISCONNECT ? TOPIC_DISCONNECT
                                           : TOPIC_ATTRIBUTES;
}

struct pack *deliver_pack_new(struct deliver *d, int kind)
{
    struct list *node = list_take_first(&d->free);
    struct pack *pack;

    if (node) {
        pack = CONTAINER_OF(node, struct pack, node);
        d->n_free--;
        d->free_bytes -= pack->payload.cap;
    } else {
        pack = mem_zero(sizeof *pack);
    }
    *pack = (struct pack){.kind = kind,
                          .payload = pack->payload,
                          .parts = pack->parts,
                          .records = pack->records,
                          .cap_parts = pack->cap_parts,
                          .cap_records = pack->cap_records};
    pack->payload.n = 0;
    return pack;
}

void deliver_pack_free(struct pack *pack)
{
    buf_fini(&pack->payload);
    mem_free(pack->parts);
    mem_free(pack->records);
    mem_free(pack);
}

void deliver_pack_put(struct deliver *d, struct pack *pack)
{
    list_del(&pack->node);
    if (d->blamed == pack)
        d->blamed = NULL;
    /* In steady state as many are needed as may be in flight, and one that is being built of each kind. */
    if (d->n_free >= d->limits.window + 2 || pack->payload.cap > FREE_PAYLOAD_MAX ||
        d->free_bytes + pack->payload.cap > FREE_BYTES_MAX) {
        deliver_pack_free(pack);
        return;
    }
    d->free_bytes += pack->payload.cap;
    list_add_after(&d->free, &pack->node);
    d->n_free++;
}

void deliver_free_packs(struct deliver *d, unsigned keep)
{
    while (d->n_free > keep) {
        struct pack *pack = CONTAINER_OF(list_take_first(&d->free), struct pack, node);

        d->n_free--;
        d->free_bytes -= pack->payload.cap;
        deliver_pack_free(pack);
    }
}

struct span *deliver_span_new(struct deliver *d)
{
    struct list *node = list_take_first(&d->free_spans);
    struct span *span = node ? CONTAINER_OF(node, struct span, node) : mem_new(sizeof *span);

    *span = (struct span){0};
    return span;
}

void deliver_free_spans(struct deliver *d)
{
    struct list *node;

    while ((node = list_take_first(&d->free_spans)))
        mem_free(CONTAINER_OF(node, struct span, node));
}

static struct span *span_next(const struct deliver *d, int lane, const struct span *span)
{
    return span->node.next == &d->spans[lane] ? NULL : CONTAINER_OF(span->node.next, struct span, node);
}

void deliver_spans_hold(struct deliver *d, int lane, struct span *first, struct span *last)
{
    for (struct span *span = first;; span = span_next(d, lane, span)) {
        span->n_open++;
        if (span == last)
            break;
    }
}

static void give_back(struct deliver *d, struct span *span)
{
    d->held_bytes -= span->chunk->is_copy ? span->n : 0;
    chunk_release(span->chunk);
    span->chunk = NULL;
}

void deliver_spans_unhold(struct deliver *d, int lane, struct span *first, struct span *last)
{
    const struct stream *stream = &d->streams[lane];

    for (struct span *span = first; span; span = span_next(d, lane, span)) {
        span->n_open--;
        if (!span->n_open && span->number < stream->built && span != stream->cursor && span->chunk->is_copy)
            give_back(d, span);
        if (span == last)
            break;
    }
}

void deliver_pack_hold(struct deliver *d, struct pack *pack, struct span *first, struct span *last)
{
    pack->first = first;
    pack->last = last;
    deliver_spans_hold(d, pack->lane, first, last);
}

void deliver_pack_unhold(struct deliver *d, struct pack *pack)
{
    deliver_spans_unhold(d, pack->lane, pack->first, pack->last);
    pack->first = pack->last = NULL;
}

void deliver_span_free(struct deliver *d, int lane, struct span *span)
{
    if (d->streams[lane].cursor == span)
        d->streams[lane].cursor = NULL;
    list_del(&span->node);
    d->streams[lane].ahead_bytes -= span->n;
    if (span->chunk)
        give_back(d, span);
    while (span->pieces) {
        struct piece *piece = span->pieces;

        span->pieces = piece->next;
        buf_fini(&piece->bytes);
        mem_free(piece);
    }
    list_add_after(&d->free_spans, &span->node);
}

static void advance(struct deliver *d, int lane)
{
    uint64_t to = 0;
    struct list *head = &d->spans[lane], *node = head;

    while ((node = node->next) != head) {
        const struct span *span = CONTAINER_OF(node, struct span, node);

        if (span->number >= d->streams[lane].built || span->n_open)
            break;
        to = span->to;
    }
    if (node == head->next)
        return;
    store_ack(d->store, lane, to);
    while (head->next != node)
        deliver_span_free(d, lane, CONTAINER_OF(head->next, struct span, node));
}

/* The store's position moves over what is finished. */
void deliver_advance(struct deliver *d)
{
    for (int lane = 0; lane < LANES; lane++)
        advance(d, lane);
    if (UNLIKELY(d->is_split))
        deliver_merge(d);
}

/* --- publishing ------------------------------------------------------------------------------------------------------------ */

bool deliver_has_window(const struct deliver *d)
{
    return d->is_ready && !d->lone && d->n_known < d->limits.window && d->flying_bytes < FLYING_MAX &&
           d->link->window(d->arg) > 0;
}

/* Nothing flies that a close could be about. */
bool deliver_is_quiet(const struct deliver *d)
{
    return d->n_known == d->n_lost;
}

/* Its answer is awaited no more, but the client still has its bytes. */
void deliver_lose(struct deliver *d, struct pack *pack)
{
    assert(pack->is_known && pack->state != PACK_LOST);
    pack->state = PACK_LOST;
    d->n_lost++;
    if (d->lone_pack == pack) {
        d->lone = NULL;
        d->lone_pack = NULL;
    }
}

void deliver_pause_for(struct deliver *d, uint64_t ms)
{
    uint64_t until = now_ms(d) + ms;

    if (until > d->pause_until_ms)
        d->pause_until_ms = until;
    timer_start(&d->pause_timer, d->pause_until_ms - now_ms(d));
}

/* Waits for tokens only: what needs none goes on. */
void deliver_wait_for(struct deliver *d, uint64_t ms)
{
    if (!timer_is_running(&d->pause_timer) || d->pause_timer.due_ms > now_ms(d) + ms)
        timer_start(&d->pause_timer, ms);
}

enum err deliver_publish(struct deliver *d, struct pack *pack, struct str topic, uint8_t qos)
{
    enum err err = d->link->publish(d->arg, topic, buf_str(&pack->payload), qos, pack->is_resent, &pack->id);

    if (err)
        return err;
    pack->state = PACK_FLYING;
    pack->is_known = true;
    pack->sent_ms = now_ms(d);
    pack->number = ++d->n_sent;
    pack->n_payload = pack->payload.n;
    pack->until = 0;
    d->n_known++;
    d->flying_bytes += pack->payload.n;
    if (deliver_is_data(pack)) {
        d->streams[pack->lane].n_flying++;
        d->streams[pack->lane].flying_bytes += pack->payload.n;
    }
    if (qos == 0) {
        pack->until = d->link->queued(d->arg);
        pack->id = 0;
    } else {
        struct pack **bucket = &d->by_id[pack->id % ID_BUCKETS];

        pack->next_id = *bucket;
        *bucket = pack;
    }
    if (!timer_is_running(&d->check_timer))
        timer_start_coarse(&d->check_timer, CHECK_MS);
    return ERR_OK;
}

/* The client needs the bytes no more. */
void deliver_forget(struct deliver *d, struct pack *pack)
{
    assert(pack->is_known);
    pack->is_known = false;
    d->n_known--;
    d->n_lost -= pack->state == PACK_LOST ? 1 : 0;
    d->flying_bytes -= pack->payload.n;
    if (deliver_is_data(pack)) {
        d->streams[pack->lane].n_flying--;
        d->streams[pack->lane].flying_bytes -= pack->payload.n;
    }
}

struct pack *deliver_find_id(struct deliver *d, uint16_t id)
{
    for (struct pack **at = &d->by_id[id % ID_BUCKETS]; *at; at = &(*at)->next_id)
        if ((*at)->id == id) {
            struct pack *pack = *at;

            *at = pack->next_id;
            return pack;
        }
    return NULL;
}

/* The device has its turn alone: true when nothing else is in flight. */
static bool may_fly_alone(struct deliver *d, struct device *dev)
{
    if (d->lone_pack || (d->lone && d->lone != dev))
        return false;
    d->lone = dev;
    return deliver_is_quiet(d);
}

/* connect or disconnect; false: cannot be sent now. */
bool deliver_say(struct deliver *d, struct device *dev, int kind)
{
    uint32_t tokens = kind == PACK_CONNECT && dev->announced != d->session ? 2 : 0;
    struct limiter *limiter = &d->limiters[LIMIT_DEVICE_MESSAGES];
    uint64_t wait = tokens ? limiter_wait(limiter, tokens, now_ms(d)) : 0, rest = deliver_device_wait(d, dev);
    bool is_alone = tokens && (d->is_careful || deliver_is_suspect(d, dev));

    if (!d->is_ready || d->link->window(d->arg) == 0)
        return false;
    if (wait || rest) {
        deliver_wait_for(d, wait > rest ? wait : rest);
        return false;
    }
    if (is_alone ? !may_fly_alone(d, dev) : d->lone != NULL)
        return false;
    struct pack *pack = deliver_pack_new(d, kind);
    const char *profile = atomic_load_explicit(&dev->profile, memory_order_relaxed);

    pack->dev = dev;
    if (kind == PACK_CONNECT)
        pack_connect(&pack->payload, wire_name(dev), str_from(profile));
    else
        pack_disconnect(&pack->payload, wire_name(dev));
    enum err err = deliver_publish(d, pack, deliver_topic_of(pack), d->conf.qos);

    if (err) {
        deliver_pack_put(d, pack);
        return false;
    }
    d->lone_pack = is_alone && d->conf.qos ? pack : NULL;
    if (!d->lone_pack)
        d->lone = NULL;
    if (tokens)
        limiter_spend(limiter, tokens);
    list_add_tail(&d->others, &pack->node);
    dev->announced = kind == PACK_CONNECT ? d->session : 0;
    dev->active_s = (uint32_t)(now_ms(d) / 1000);
    if (kind == PACK_CONNECT)
        deliver_check_source(d, dev);
    return true;
}

bool deliver_announce(struct deliver *d, struct device *dev)
{
    return dev->announced == d->session || (deliver_has_window(d) && deliver_say(d, dev, PACK_CONNECT));
}
