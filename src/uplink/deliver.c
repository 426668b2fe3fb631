/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/* Sessions are told apart in the whole process, because devices outlive an uplink that is made anew. One thread. */
static uint32_t last_session = SESSION_WANTED;

/* --- sending what is built ---------------------------------------------------------------------------------------------------- */

static bool has_tokens(struct deliver *d, const struct pack *pack)
{
    struct limiter *messages = &d->limiters[LIMIT_DEVICE], *values = &d->limiters[LIMIT_DEVICE_VALUES];
    uint32_t n_values = 0;

    if (!pack->is_resent || (limiter_is_none(messages) && limiter_is_none(values)))
        return true;
    for (size_t i = 0; i < pack->n_parts; i++)
        n_values += pack->parts[i].n_values;
    uint64_t a = limiter_wait(messages, (uint32_t)pack->n_parts, now_ms(d)),
             b = limiter_wait(values, n_values, now_ms(d));

    if (a || b) {
        deliver_wait_for(d, a > b ? a : b);
        return false;
    }
    limiter_spend(messages, (uint32_t)pack->n_parts);
    limiter_spend(values, n_values);
    return true;
}

/* One at a time while it is being found out which message makes the server close. */
bool deliver_is_blocked(const struct deliver *d)
{
    return now_ms(d) < d->pause_until_ms || (d->store && d->store->is_durable && d->reject_bytes > REJECTS_MAX) ||
           !deliver_has_window(d);
}

static bool send_pack(struct deliver *d, struct pack *pack)
{
    bool is_alone = d->is_careful || pack->is_alone;

    if (deliver_is_blocked(d) || (is_alone && !deliver_is_quiet(d)))
        return false;
    for (size_t i = 0; i < pack->n_parts; i++) {
        const struct park *park = deliver_parked(d, pack->parts[i].dev);

        if (UNLIKELY(park != NULL)) {
            d->n_queued--;
            deliver_expel(d, pack, i, park->code, park->reason);
            return true;
        }
        if (!deliver_announce(d, pack->parts[i].dev))
            return false;
    }
    if (deliver_is_blocked(d) || (is_alone && !deliver_is_quiet(d))) /* connects just written */
        return false;
    if (!has_tokens(d, pack))
        return false;
    if (UNLIKELY(pack->is_stale))
        deliver_rebuild(d, pack);
    enum err err = deliver_publish(d, pack, deliver_topic_of(pack), d->conf.qos);

    if (err == ERR_LIMIT) {
        d->n_queued--;
        deliver_suspect(d, pack, 0x95, NULL);
        return true;
    }
    if (err)
        return false;
    for (size_t i = 0; i < pack->n_parts; i++) {
        pack->parts[i].dev->active_s = (uint32_t)(now_ms(d) / 1000);
        deliver_check_source(d, pack->parts[i].dev);
    }
    d->n_queued--;
    d->n_flying++;
    d->stats.n_resent += pack->is_resent ? 1 : 0;
    return true;
}

/* False: something built could not be sent. */
bool deliver_send_open(struct deliver *d)
{
    while (d->n_queued) {
        struct pack *first = NULL;
        unsigned n_settling = 0;

        LIST_EACH(node, &d->open) {
            struct pack *pack = CONTAINER_OF(node, struct pack, node);

            if (pack->state == PACK_QUEUED) {
                first = pack;
                break;
            }
            n_settling += pack->state == PACK_SETTLING ? 1 : 0;
        }
        assert(first);
        if ((d->is_careful || first->is_alone) && n_settling)
            return false;
        if (!send_pack(d, first))
            return false;
    }
    return true;
}

/* --- beside the data ---------------------------------------------------------------------------------------------------------- */

/* Known devices are announced again after a reconnect, with at most half of the window. */
static void storm(struct deliver *d)
{
    uint32_t n = device_count();

    while (d->storm_at < n && d->n_known < (d->limits.window + 1) / 2) {
        struct device *dev = device_at(d->storm_at);

        if (dev->announced && dev->announced != d->session &&
            atomic_load_explicit(&dev->link, memory_order_relaxed) != DEVICE_LINK_DOWN) {
            uint64_t rest = deliver_device_wait(d, dev);

            if (rest && (!d->storm_again_ms || d->storm_again_ms > now_ms(d) + rest))
                d->storm_again_ms = now_ms(d) + rest;
            if (!rest && !deliver_say(d, dev, PACK_CONNECT))
                return;
        }
        d->storm_at++;
    }
    if (d->storm_at < n || !d->storm_again_ms)
        return;
    if (now_ms(d) < d->storm_again_ms) {
        deliver_wait_for(d, d->storm_again_ms - now_ms(d));
        return;
    }
    d->storm_again_ms = 0;
    d->storm_at = 0;
    deliver_wake(d);
}

static void say_leaving(struct deliver *d)
{
    while (d->n_leaving) {
        struct device *dev = d->leaving[d->n_leaving - 1];

        if (deliver_is_leaving(d, dev) && (!deliver_has_window(d) || !deliver_say(d, dev, PACK_DISCONNECT)))
            return;
        d->n_leaving--;
    }
}

/* QoS 0: the bytes are with the kernel, and the server has said something since. */
static void watch_unacknowledged(struct deliver *d)
{
    uint64_t sent = d->link->sent(d->arg), heard = d->link->last_in_ms(d->arg);
    bool is_waiting = false;

    LIST_EACH_SAFE(node, &d->others) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->is_known && pack->id == 0 && pack->until <= sent) {
            deliver_forget(d, pack);
            deliver_pack_put(d, pack);
        }
    }
    if (d->conf.qos)
        return;
    LIST_EACH_SAFE(node, &d->open) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->state != PACK_FLYING)
            continue;
        if (pack->until && pack->until <= sent) {
            pack->until = 0;
            pack->sent_ms = now_ms(d);
        }
        if (!pack->until && heard > pack->sent_ms) {
            deliver_forget(d, pack);
            d->n_flying--;
            deliver_delivered(d, pack);
        } else {
            is_waiting |= !pack->until;
        }
    }
    if (is_waiting)
        d->link->provoke(d->arg);
}

/* The one timer may have run for something that was due earlier. */
static void wait_until(struct deliver *d, uint64_t due_ms)
{
    if (now_ms(d) < due_ms)
        deliver_wait_for(d, due_ms - now_ms(d));
}

static void pass(void *arg)
{
    struct deliver *d = arg;

    if (UNLIKELY(d->n_taken_packs))
        deliver_let_go(d);
    if (d->store)
        deliver_note_built(d), deliver_advance(d);
    if (!d->is_ready || !d->store)
        return;
    watch_unacknowledged(d);
    if (d->is_careful && list_is_empty(&d->open))
        d->is_careful = false;
    d->pass_bytes = 0;
    if (d->lone && !d->lone_pack && !deliver_say(d, d->lone, PACK_CONNECT) && deliver_is_quiet(d))
        d->lone = NULL; /* it has to wait for something else */
    if (!deliver_farewells(d))
        return;
    if (!deliver_is_blocked(d) && !d->is_careful)
        deliver_tell(d);
    if (deliver_send_open(d))
        deliver_gather(d);
    if (!deliver_is_blocked(d) && !d->n_queued && !d->is_careful) {
        say_leaving(d);
        if (!d->is_finishing) {
            storm(d);
            deliver_tend(d);
        }
    }
    wait_until(d, d->pause_until_ms);
    wait_until(d, d->gather_after_ms);
    if (UNLIKELY(d->is_split))
        wait_until(d, d->bucket.after_ms);
    deliver_note_built(d);
    deliver_advance(d);
}

/* --- timers ------------------------------------------------------------------------------------------------------------------- */

static void wake(void *arg)
{
    deliver_wake(arg);
}

static void gather_due(void *arg)
{
    struct deliver *d = arg;

    d->is_due = true;
    deliver_wake(d);
}

static void settle(void *arg)
{
    struct deliver *d = arg;
    uint64_t next = 0, now = now_ms(d);

    LIST_EACH_SAFE(node, &d->open) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->state != PACK_SETTLING)
            continue;
        if (pack->until <= now)
            deliver_delivered(d, pack);
        else if (!next || pack->until < next)
            next = pack->until;
    }
    LIST_EACH_SAFE(node, &d->others) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->state != PACK_SETTLING)
            continue;
        if (pack->until <= now)
            deliver_connect_settled(d, pack);
        else if (!next || pack->until < next)
            next = pack->until;
    }
    if (next)
        timer_start(&d->settle_timer, next - now);
    deliver_wake(d);
}

/* No PUBACK for a message while others are answered: that message is stuck (platform-behaviour.md 13, rule 6). */
static void check(void *arg)
{
    struct deliver *d = arg;
    uint64_t now = now_ms(d);
    struct pack *stuck = NULL, *oldest = NULL;

    LIST_EACH(node, &d->open) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->state != PACK_FLYING || !d->conf.qos)
            continue;
        if (!oldest)
            oldest = pack;
        if (now - pack->sent_ms >= STUCK_MS && d->newest_acked > pack->number) {
            stuck = pack;
            break;
        }
    }
    LIST_EACH(node, &d->others) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->is_known && pack->id && pack->state != PACK_LOST && now - pack->sent_ms >= STUCK_MS)
            deliver_lose(d, pack);
    }
    if (stuck) {
        d->n_flying--;
        deliver_suspect(d, stuck, 0, "no answer in 30 s");
    } else if (oldest && now - oldest->sent_ms >= STUCK_MS) {
        uint64_t since = d->acked_ms > oldest->sent_ms ? d->acked_ms : oldest->sent_ms;

        if (!d->has_been_acked && now - oldest->sent_ms < STUCK_MS + CHECK_MS)
            d->link->not_gateway(d->arg);
        if (now - since >= SILENT_MS)
            d->link->close(d->arg, "the platform answers, but acknowledges nothing");
        else if (oldest->parts[0].dev->announced == d->session) /* is it this message, or all? May be announced twice */
            (void)deliver_say(d, oldest->parts[0].dev, PACK_CONNECT);
    }
    if (d->n_known) {
        timer_start_coarse(&d->check_timer, CHECK_MS);
    } else {
        deliver_free_packs(d, FREE_PACKS_IDLE);
        deliver_free_spans(d);
    }
    deliver_wake(d);
}

/* --- exported ------------------------------------------------------------------------------------------------------------------- */

struct deliver *deliver_new(struct loop *loop, struct log *log, const struct deliver_conf *conf,
                            struct limiter *limiters, const struct deliver_link *link, void *arg)
{
    struct deliver *d = mem_zero(sizeof *d);

    d->loop = loop;
    d->log = log;
    d->conf = *conf;
    d->limiters = limiters;
    d->link = link;
    d->arg = arg;
    d->limits = (struct deliver_limits){.payload_bytes = 8196, .window = 1};
    d->is_reading = true;
    d->unsure_base_ms = loop_earliest_ms(loop);
    for (int lane = 0; lane < LANES; lane++)
        list_init(&d->spans[lane]);
    list_init(&d->open);
    list_init(&d->others);
    list_init(&d->rejects);
    list_init(&d->free);
    list_init(&d->free_spans);
    d->packers[PACK_TELEMETRY] = packer_new();
    d->packers[PACK_ATTRIBUTES] = packer_new();
    deliver_begin(d);
    deliver_tend_init(d);
    late_init(&d->late, LATE_UPLINK, pass, d);
    timer_init(&d->gather_timer, loop, gather_due, d);
    timer_init(&d->pause_timer, loop, wake, d);
    timer_init(&d->again_timer, loop, wake, d);
    timer_init(&d->settle_timer, loop, settle, d);
    timer_init(&d->check_timer, loop, check, d);
    return d;
}

static void free_list(struct list *list)
{
    struct list *node;

    while ((node = list_take_first(list)))
        deliver_pack_free(CONTAINER_OF(node, struct pack, node));
}

void deliver_free(struct deliver *d)
{
    if (!d)
        return;
    late_cancel(&d->late);
    timer_stop(&d->gather_timer);
    timer_stop(&d->pause_timer);
    timer_stop(&d->settle_timer);
    timer_stop(&d->check_timer);
    timer_stop(&d->again_timer);
    deliver_rejected_to(d, UINT64_MAX);
    late_cancel(&d->late);
    free_list(&d->open);
    free_list(&d->others);
    free_list(&d->free);
    for (int lane = 0; lane < LANES; lane++)
        while (!list_is_empty(&d->spans[lane]))
            deliver_span_free(d, lane, CONTAINER_OF(d->spans[lane].next, struct span, node));
    deliver_free_spans(d);
    packer_free(d->packers[PACK_TELEMETRY]);
    packer_free(d->packers[PACK_ATTRIBUTES]);
    mem_free(d->leaving);
    mem_free(d->marks);
    deliver_parks_free(d);
    deliver_tend_fini(d);
    mem_free(d);
}

void deliver_attach(struct deliver *d, struct store *store)
{
    d->store = store;
}

bool deliver_is_drained(const struct deliver *d)
{
    return !d->is_split && list_is_empty(&d->spans[LANE_LIVE]) && list_is_empty(&d->spans[LANE_BACKLOG]) &&
           !deliver_is_gathered(d);
}

void deliver_set_limits(struct deliver *d, const struct deliver_limits *limits)
{
    d->limits = *limits;
    if (!d->limits.window)
        d->limits.window = 1;
    if (!deliver_is_gathered(d))
        deliver_begin(d);
    deliver_wake(d);
}

void deliver_tune(struct deliver *d, const struct deliver_conf *conf)
{
    d->conf.min_pack_delay_ms = conf->min_pack_delay_ms;
    d->conf.min_pack_values = conf->min_pack_values;
    d->conf.batch_devices = conf->batch_devices;
    d->conf.max_pack_events = conf->max_pack_events;
    if (d->conf.backlog_rate != conf->backlog_rate) {
        d->conf.backlog_rate = conf->backlog_rate;
        d->bucket = (struct bucket){.at_ms = now_ms(d)};
    }
    if (d->conf.keep_alive_s != conf->keep_alive_s) {
        d->conf.keep_alive_s = conf->keep_alive_s;
        deliver_tend_tune(d);
    }
    if (!deliver_is_gathered(d))
        deliver_begin(d);
    deliver_wake(d);
}

void deliver_open(struct deliver *d, bool is_v5, uint8_t qos)
{
    d->session = ++last_session;
    d->conf.qos = qos;
    d->is_ready = true;
    d->is_v5 = is_v5;
    d->is_explained = false;
    d->newest_acked = 0;
    d->opened_ms = d->acked_ms = now_ms(d);
    d->storm_at = 0;
    d->storm_again_ms = 0;
    d->n_leaving = 0;
    d->gather_after_ms = 0;
    deliver_split(d);
    deliver_tend_open(d);
    deliver_wake(d);
}

/* The first message in flight at three closes in a row is what the server does not stand. */
static void blame(struct deliver *d, struct pack *first)
{
    if (d->blamed != first) {
        d->blamed = first;
        first->n_closes = 0;
    }
    first->n_closes++;
    if (first->n_closes >= CLOSES_CAREFUL)
        d->is_careful = true;
    if (first->n_closes < (first->is_alone && first->n_records > 1 ? 1 : CLOSES_MAX))
        return;
    first->is_alone = true;
    d->n_queued--;
    deliver_suspect(d, first, 0, "the platform closes the connection at it");
}

/* Each connect that had no answer is suspect: one of them may be what the server does not stand. Gives the device of the oldest
 * connect or disconnect if it is older than first. */
static struct device *suspect_devices(struct deliver *d, const struct pack *first)
{
    const struct pack *oldest = first;

    LIST_EACH(node, &d->others) {
        const struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if ((!pack->is_known && pack->state != PACK_SETTLING) || pack->state == PACK_LOST || !pack->dev || !pack->id)
            continue;
        if (pack->kind == PACK_CONNECT)
            deliver_suspect_device(d, pack->dev);
        if (!oldest || pack->number < oldest->number)
            oldest = pack;
    }
    return oldest && oldest != first ? oldest->dev : NULL;
}

/* A rate limit of the gateway's own topics ends the session without an answer, in 3.x that of the devices' does too
 * (platform-behaviour.md 9). */
static void suspect_quota(struct deliver *d)
{
    struct str oldest = deliver_oldest_topic(d);
    bool is_own = str_starts(oldest, TOPIC_OWN) || str_eq(oldest, str_cut(TOPIC_OWN, TOPIC_OWN.n - 1));

    if (is_own || (!d->is_v5 && !list_is_empty(&d->open)))
        deliver_empty_buckets(d, is_own);
}

void deliver_closed(struct deliver *d, bool by_peer)
{
    bool has_cause = by_peer && !d->is_explained;
    struct device *guilty = NULL;
    struct pack *first = NULL;
    struct list *node;

    if (has_cause)
        suspect_quota(d);
    d->is_ready = false;
    memset(d->by_id, 0, sizeof d->by_id);
    LIST_EACH(at, &d->open) {
        struct pack *pack = CONTAINER_OF(at, struct pack, node);

        pack->n_quotas = 0;
        if (pack->state == PACK_QUEUED)
            continue;
        if (!first)
            first = pack;
        pack->is_known = false;
        deliver_queue_again(d, pack); /* all of them, in their order */
    }
    if (has_cause)
        guilty = suspect_devices(d, first);
    deliver_tend_closed(d);
    while ((node = list_take_first(&d->others)))
        deliver_pack_put(d, CONTAINER_OF(node, struct pack, node));
    d->n_known = d->n_flying = d->n_lost = 0;
    d->lone = NULL;
    d->lone_pack = NULL;
    d->flying_bytes = 0;
    for (int lane = 0; lane < LANES; lane++)
        d->streams[lane].n_flying = 0, d->streams[lane].flying_bytes = 0;
    timer_stop(&d->settle_timer);
    if (guilty)
        deliver_blame_device(d, guilty);
    else if (first && has_cause)
        blame(d, first);
    deliver_wake(d);
}

void deliver_acked(struct deliver *d, uint16_t id, uint8_t code)
{
    struct pack *pack = deliver_find_id(d, id);

    if (!pack)
        return;
    deliver_forget(d, pack);
    if (pack->kind != PACK_OWN) {
        if (pack->number > d->newest_acked)
            d->newest_acked = pack->number;
        d->has_been_acked = true;
        d->n_taken += code < 0x80 ? 1 : 0;
        d->acked_ms = now_ms(d);
    }
    d->is_due = true;
    if (pack->state == PACK_FLYING && deliver_is_data(pack))
        deliver_data_acked(d, pack, code);
    else
        deliver_other_acked(d, pack, code);
    deliver_wake(d);
}

void deliver_wake(struct deliver *d)
{
    late_arm(d->loop, &d->late);
}

bool deliver_own(struct deliver *d, struct str topic, struct str payload, uint8_t qos)
{
    struct pack *pack;

    if (d->link->window(d->arg) == 0)
        return false;
    pack = deliver_pack_new(d, PACK_OWN);
    buf_add_str(&pack->payload, payload);
    if (deliver_publish(d, pack, topic, qos)) {
        deliver_pack_put(d, pack);
        return false;
    }
    list_add_tail(&d->others, &pack->node);
    return true;
}

void deliver_finish(struct deliver *d, bool is_reading)
{
    d->is_finishing = true;
    d->is_reading = is_reading;
    d->gather_after_ms = 0;
    deliver_wake(d);
}

bool deliver_is_idle(const struct deliver *d)
{
    bool is_at_end = true, has_pieces = false;

    for (int lane = 0; lane < LANES; lane++) {
        const struct stream *stream = &d->streams[lane];

        is_at_end &= !stream->cursor || stream->at == stream->cursor->chunk->bytes + stream->cursor->chunk->n;
        has_pieces |= stream->piece_at != stream->piece_end;
    }
    return list_is_empty(&d->open) && list_is_empty(&d->rejects) && !deliver_is_gathered(d) && d->n_known == 0 &&
           !has_pieces && (!d->is_reading || !d->store || (is_at_end && store_stats(d->store).n_events == 0));
}

bool deliver_goodbye(struct deliver *d)
{
    for (uint32_t n = device_count(); d->goodbye_at < n; d->goodbye_at++) {
        struct device *dev = device_at(d->goodbye_at);

        if (dev->announced == d->session && (!deliver_has_window(d) || !deliver_say(d, dev, PACK_DISCONNECT)))
            return false;
    }
    return true;
}

struct str deliver_oldest_topic(const struct deliver *d)
{
    const struct pack *oldest = NULL;

    LIST_EACH(node, &d->open) {
        const struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->is_known && (!oldest || pack->number < oldest->number))
            oldest = pack;
    }
    LIST_EACH(node, &d->others) {
        const struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->is_known && (!oldest || pack->number < oldest->number))
            oldest = pack;
    }
    return !oldest ? STR_NONE : oldest->kind == PACK_OWN ? STR("v1/devices/me") : deliver_topic_of(oldest);
}

struct deliver_stats deliver_stats(const struct deliver *d)
{
    struct deliver_stats stats = d->stats;

    stats.in_flight = d->n_known;
    return stats;
}
