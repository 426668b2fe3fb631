/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

#include "data/json.h"

/* --- outcomes ---------------------------------------------------------------------------------------------------------------- */

static const char *code_text(uint8_t code)
{
    switch (code) {
    case 0x80:
        return "refused";
    case 0x83:
        return "unexpected form";
    case 0x90:
        return "unknown topic";
    case 0x95:
        return "larger than the platform takes";
    case 0x99:
        return "payload not valid";
    default:
        return "not accepted";
    }
}

/* The payload of a record whose device cannot be named on the wire; what is no JSON goes as text. */
static void add_unnamed(struct buf *out, int kind, const struct record *record, int64_t offset_ms)
{
    struct str body = record_body(record);
    size_t from = out->n;
    bool is_plain = kind == PACK_ATTRIBUTES || record->flags & RECORD_NO_TS;

    buf_add_u8(out, '{');
    json_add_string(out, record_name(record));
    buf_add_z(out, kind == PACK_ATTRIBUTES ? ":" : ":[");
    if (!is_plain)
        buf_printf(out, "{\"ts\":%lld,\"values\":",
                   (long long)(record->ts + (record->flags & RECORD_TIME_UNSURE ? offset_ms : 0)));
    buf_add_u8(out, '{');
    buf_add_str(out, body);
    buf_add_z(out, is_plain ? "}" : "}}");
    buf_add_z(out, kind == PACK_ATTRIBUTES ? "}" : "]}");
    yyjson_doc *doc = yyjson_read((const char *)out->p + from, out->n - from, YYJSON_READ_NUMBER_AS_RAW);

    if (!doc) {
        out->n = from;
        json_add_string(out, body);
    }
    yyjson_doc_free(doc);
}

static void leaving_add(struct deliver *d, struct device *dev)
{
    if (d->n_leaving == d->cap_leaving) {
        d->cap_leaving = d->cap_leaving ? d->cap_leaving * 2 : 16;
        d->leaving = mem_grow(d->leaving, d->cap_leaving * sizeof(void *));
    }
    d->leaving[d->n_leaving++] = dev;
}

bool deliver_is_leaving(const struct deliver *d, const struct device *dev)
{
    return dev->announced == d->session && atomic_load_explicit(&dev->link, memory_order_relaxed) == DEVICE_LINK_DOWN &&
           get(&dev->n_appended) == get(&dev->n_delivered) + get(&dev->n_rejected) + get(&dev->n_overflowed);
}

/* A store that survives a crash gives the record again after one, until its line is safe. */
static void write_line(struct deliver *d, struct str line, int lane, struct span *first, struct span *last)
{
    struct reject *reject;
    uint64_t number;

    if (!d->store->is_durable && d->reject_bytes > REJECTS_MAX) /* nothing there to keep it for */
        return;
    number = d->link->rejected(d->arg, line);
    if (!number)
        return;
    reject = mem_new(sizeof *reject);
    *reject = (struct reject){.number = number, .n_bytes = line.n, .lane = lane};
    if (d->store->is_durable) {
        reject->first = first;
        reject->last = last;
        deliver_spans_hold(d, lane, first, last);
    }
    list_add_tail(&d->rejects, &reject->node);
    d->reject_bytes += line.n;
}

void deliver_rejected_to(struct deliver *d, uint64_t number)
{
    while (!list_is_empty(&d->rejects)) {
        struct reject *reject = CONTAINER_OF(d->rejects.next, struct reject, node);

        if (reject->number > number)
            break;
        deliver_spans_unhold(d, reject->lane, reject->first, reject->last);
        d->reject_bytes -= reject->n_bytes;
        list_del(&reject->node);
        mem_free(reject);
    }
    deliver_wake(d);
}

/* One line of the rejected file: time, code, reason, topic, and the payload with this record alone. */
void deliver_reject(struct deliver *d, int kind, const struct record *record, uint8_t code, const char *reason,
                    int lane, struct span *first, struct span *last)
{
    struct device *dev = device_of(record);
    struct deliver_times times = deliver_times(d);
    struct pack_limits limits = {
        .batch_devices = true, .unsure_offset_ms = times.offset_ms, .published_ms = times.published_ms};
    struct packer *packer = packer_new();
    const struct pack_part *parts;
    size_t n_parts;
    autobuf struct buf line = {0}, payload = {0};

    if (dev) {
        packer_begin(packer, kind, &limits);
        if (packer_add(packer, dev, wire_name(dev), record))
            packer_finish(packer, &payload, &parts, &n_parts);
        device_count_values(&dev->n_rejected, record->n_values);
        if (UNLIKELY(deliver_is_leaving(d, dev)))
            leaving_add(d, dev);
    }
    packer_free(packer);
    packer_reclaim(d->packers[kind]);
    d->stats.n_rejected_values += record->n_values;
    if (!reason)
        reason = code_text(code);
    buf_printf(&line, "{\"time\":%lld,\"code\":%u,\"reason\":", (long long)loop_wall_ms(d->loop), code);
    json_add_string(&line, str_from(reason));
    buf_add_str(&line, STR(",\"topic\":"));
    json_add_string(&line, kind == PACK_ATTRIBUTES ? TOPIC_ATTRIBUTES : TOPIC_TELEMETRY);
    buf_add_str(&line, STR(",\"device\":"));
    json_add_string(&line, record_name(record));
    buf_add_str(&line, STR(",\"payload\":"));
    if (payload.n)
        buf_add_str(&line, buf_str(&payload));
    else
        add_unnamed(&line, kind, record, times.offset_ms);
    buf_add_str(&line, STR("}\n"));
    LOG_ERROR(d->log, "data rejected by the platform", KV_STR("device", record_name(record)), KV_UINT("code", code),
              KV_Z("reason", reason), KV_UINT("values", record->n_values));
    write_line(d, buf_str(&line), lane, first, last);
}

/* Takes over what the packer holds. */
void deliver_build(struct deliver *d, struct packer *packer, struct pack *pack)
{
    const struct pack_part *parts;
    size_t n_parts, n_records;

    packer_finish(packer, &pack->payload, &parts, &n_parts);
    const struct record *const *records = packer_records(packer, &n_records);

    if (n_parts > pack->cap_parts) {
        pack->cap_parts = n_parts;
        pack->parts = mem_grow(pack->parts, n_parts * sizeof *parts);
    }
    if (n_records > pack->cap_records) {
        pack->cap_records = n_records;
        pack->records = mem_grow(pack->records, n_records * sizeof *records);
    }
    memcpy(pack->parts, parts, n_parts * sizeof *parts);
    memcpy(pack->records, records, n_records * sizeof *records);
    pack->n_parts = n_parts;
    pack->n_records = n_records;
    pack->n_events = packer_events(packer);
    pack->state = PACK_QUEUED;
    d->n_queued++;
}

/* The pack leaves `open` for good. Bytes that the client still holds stay until it gives them back. */
static void close_pack(struct deliver *d, struct pack *pack)
{
    deliver_pack_unhold(d, pack);
    if (!pack->is_known) {
        deliver_pack_put(d, pack);
        return;
    }
    list_del(&pack->node);
    if (d->blamed == pack)
        d->blamed = NULL;
    deliver_lose(d, pack);
    list_add_tail(&d->others, &pack->node);
}

/* A pack of the records [from, to) of another one, in its place. */
static void part_of(struct deliver *d, struct pack *whole, size_t from, size_t to)
{
    struct deliver_times times = deliver_times(d);
    struct pack_limits limits = {
        .batch_devices = true, .unsure_offset_ms = times.offset_ms, .published_ms = times.published_ms};
    struct packer *packer = packer_new();
    struct pack *pack = deliver_pack_new(d, whole->kind);
    size_t i = 0;

    packer_begin(packer, whole->kind, &limits);
    for (size_t part = 0; part < whole->n_parts; part++)
        for (uint32_t j = 0; j < whole->parts[part].n_records; j++, i++)
            if (i >= from && i < to) {
                struct device *dev = whole->parts[part].dev;
                bool is_added = packer_add(packer, dev, wire_name(dev), whole->records[i]);

                assert(is_added);
            }
    deliver_build(d, packer, pack);
    packer_free(packer);
    packer_reclaim(d->packers[whole->kind]);
    pack->is_suspect = true;
    pack->is_resent = true;
    pack->is_counted = whole->is_counted;
    pack->is_alone = whole->is_alone;
    pack->code = whole->code;
    pack->reason = whole->reason;
    pack->lane = whole->lane;
    deliver_pack_hold(d, pack, whole->first, whole->last);
    list_add_after(whole->node.prev, &pack->node);
    deliver_sent_again(d, pack);
}

static void reject_of(struct deliver *d, const struct pack *pack, size_t i, uint8_t code, const char *reason)
{
    if (pack->is_counted) /* it was delivered before it was sent again */
        return;
    deliver_reject(d, pack->kind, pack->records[i], code, reason, pack->lane, pack->first, pack->last);
}

/* The records of one device are rejected, the rest stays in the pack's place. The pack is not FLYING, and no longer counted as QUEUED. */
void deliver_expel(struct deliver *d, struct pack *pack, size_t part, uint8_t code, const char *reason)
{
    size_t from = 0, to;

    for (size_t i = 0; i < part; i++)
        from += pack->parts[i].n_records;
    to = from + pack->parts[part].n_records;
    for (size_t i = from; i < to; i++)
        reject_of(d, pack, i, code, reason);
    if (from > 0)
        part_of(d, pack, 0, from);
    if (to < pack->n_records)
        part_of(d, pack, to, pack->n_records);
    close_pack(d, pack);
}

/* Something in the pack is not taken: halves by device, then by record, until it is one record. The pack is not FLYING. */
void deliver_suspect(struct deliver *d, struct pack *pack, uint8_t code, const char *reason)
{
    pack->code = code;
    pack->reason = reason;
    if (pack->n_records == 1) {
        reject_of(d, pack, 0, code, reason);
    } else {
        size_t half = pack->n_records / 2;

        if (pack->n_parts > 1) {
            half = 0;
            for (size_t i = 0; i < pack->n_parts / 2; i++)
                half += pack->parts[i].n_records;
        } else if (!pack->is_suspect) {
            LOG_WARN(d->log, "a message was not taken, looking for the record", KV_UINT("code", code),
                     KV_Z("reason", reason ? reason : code_text(code)), KV_UINT("records", pack->n_records));
        }
        part_of(d, pack, 0, half);
        part_of(d, pack, half, pack->n_records);
    }
    close_pack(d, pack);
}

void deliver_dropped(struct deliver *d, struct device *dev)
{
    if (!deliver_is_leaving(d, dev))
        return;
    leaving_add(d, dev);
    deliver_wake(d);
}

static void count_delivered(struct deliver *d, const struct pack *pack)
{
    uint64_t *n_of_kind = pack->kind == PACK_ATTRIBUTES ? &d->stats.n_attribute_values : &d->stats.n_telemetry_values;

    for (size_t i = 0; i < pack->n_parts; i++) {
        struct device *dev = pack->parts[i].dev;

        device_count_values(&dev->n_delivered, pack->parts[i].n_values);
        d->stats.n_values += pack->parts[i].n_values;
        *n_of_kind += pack->parts[i].n_values;
    }
    d->stats.n_packs++;
    d->stats.n_events += pack->n_events;
    d->stats.n_bytes += pack->n_payload;
}

void deliver_delivered(struct deliver *d, struct pack *pack)
{
    if (LIKELY(!pack->is_counted))
        count_delivered(d, pack);
    pack->is_counted = true;
    d->pause_ms = 0;
    for (size_t i = 0; i < pack->n_parts; i++)
        if (UNLIKELY(deliver_is_leaving(d, pack->parts[i].dev)))
            leaving_add(d, pack->parts[i].dev);
    if (pack->kind == PACK_ATTRIBUTES && (pack->is_overtaken || d->open.next != &pack->node) &&
        deliver_is_overtaking(d, pack))
        return;
    close_pack(d, pack);
}

void deliver_queue_again(struct deliver *d, struct pack *pack)
{
    d->n_taken_packs -= pack->state == PACK_TAKEN ? 1 : 0;
    pack->state = PACK_QUEUED;
    pack->is_resent = true;
    pack->is_overtaken = false;
    d->n_queued++;
}

/* While others that were sent behind it may have arrived. */
void deliver_requeue(struct deliver *d, struct pack *pack)
{
    deliver_queue_again(d, pack);
    deliver_sent_again(d, pack);
}

/* Which of the three was exceeded is not told. */
void deliver_empty_buckets(struct deliver *d, bool is_own)
{
    static const enum limit_kind own[] = {LIMIT_OWN, LIMIT_OWN_VALUES, LIMIT_OWN_MESSAGES};
    static const enum limit_kind devices[] = {LIMIT_DEVICE, LIMIT_DEVICE_VALUES, LIMIT_DEVICE_MESSAGES};

    for (size_t i = 0; i < COUNT_OF(own); i++)
        limiter_quota(&d->limiters[is_own ? own[i] : devices[i]], now_ms(d));
}

/* Longer each time, until something is delivered. */
static void pause_longer(struct deliver *d)
{
    d->pause_ms = d->pause_ms ? d->pause_ms * 2 : PAUSE_MIN_MS;
    if (d->pause_ms > PAUSE_MAX_MS)
        d->pause_ms = PAUSE_MAX_MS;
    deliver_pause_for(d, d->pause_ms);
}

static void quota(struct deliver *d, bool is_own)
{
    deliver_empty_buckets(d, is_own);
    pause_longer(d);
    d->is_explained = true;
    d->link->quota(d->arg);
}

/*
 * A rate limit closes the session; a limit of devices does not, and is about one device (platform-behaviour.md 6). A message
 * refused again and again in one session is taken apart by device; the device that is refused alone, while others are taken, is parked.
 */
static void data_quota(struct deliver *d, struct pack *pack)
{
    struct device *dev = pack->parts[0].dev;

    if (!pack->n_quotas)
        pack->n_taken = d->n_taken;
    if (pack->n_quotas < QUOTAS_MAX)
        pack->n_quotas++;
    if (pack->n_parts > 1 && pack->n_quotas == QUOTAS_MAX) {
        deliver_suspect(d, pack, 0x97, NULL);
        return;
    }
    if (pack->n_parts == 1 && pack->n_quotas == QUOTAS_MAX && d->n_taken > pack->n_taken) {
        deliver_park(d, dev, 0x97, REASON_NO_MORE_DEVICES);
        deliver_expel(d, pack, 0, 0x97, REASON_NO_MORE_DEVICES);
        return;
    }
    deliver_requeue(d, pack);
    quota(d, false);
}

void deliver_data_acked(struct deliver *d, struct pack *pack, uint8_t code)
{
    d->n_flying--;
    if (code < 0x80) {
        if (d->is_v5) {
            deliver_delivered(d, pack);
            return;
        }
        pack->state = PACK_SETTLING;
        pack->until = now_ms(d) + SETTLE_MS;
        buf_fini(&pack->payload); /* should it go once more, it is built from its records */
        pack->is_stale = true;
        if (!timer_is_running(&d->settle_timer))
            timer_start(&d->settle_timer, SETTLE_MS);
        return;
    }
    switch (code) {
    case 0x80:
    case 0x83:
    case 0x90:
    case 0x99:
        if (code == 0x83) { /* the server closes now: what flies beside the guilty one would be sent again each time */
            d->is_explained = true;
            pack->is_alone = true;
        }
        deliver_suspect(d, pack, code, NULL);
        break;
    case 0x97:
        data_quota(d, pack);
        break;
    default: /* says nothing against this message: a broker's access rule, an error of the server */
        LOG_ERROR(d->log, "the platform does not accept data now", KV_UINT("code", code),
                  KV_STR("topic", deliver_topic_of(pack)));
        deliver_requeue(d, pack);
        pause_longer(d);
    }
}

/* In 3.x a connect that the server does not stand is answered first, and then the server closes. */
void deliver_connect_settled(struct deliver *d, struct pack *pack)
{
    if (d->lone_pack == pack) {
        d->lone = NULL;
        d->lone_pack = NULL;
    }
    deliver_device_taken(d, pack->dev);
    deliver_pack_put(d, pack);
}

void deliver_other_acked(struct deliver *d, struct pack *pack, uint8_t code)
{
    bool is_parked = false, is_own = pack->kind == PACK_OWN;

    if (!d->is_v5 && pack->kind == PACK_CONNECT && pack->state != PACK_LOST) {
        pack->state = PACK_SETTLING;
        pack->until = now_ms(d) + SETTLE_MS;
        if (!timer_is_running(&d->settle_timer))
            timer_start(&d->settle_timer, SETTLE_MS);
        return;
    }
    if (d->lone_pack == pack) {
        d->lone = NULL;
        d->lone_pack = NULL;
    }
    if (code != 0x97 && pack->kind == PACK_CONNECT)
        deliver_device_taken(d, pack->dev);
    if (code >= 0x80 && pack->kind == PACK_CONNECT) {
        LOG_WARN(d->log, "device not accepted", KV_STR("device", device_name(pack->dev)), KV_UINT("code", code));
        if (code == 0x97 && pack->dev->announced == d->session)
            pack->dev->announced = 0;
        is_parked = code == 0x97 && deliver_device_quota(d, pack->dev);
    } else if (code >= 0x80 && pack->state != PACK_LOST) {
        LOG_WARN(d->log, "publication not accepted", KV_UINT("code", code));
    }
    if (code == 0x97 && pack->kind == PACK_TELL)
        deliver_tell_lost(pack);
    deliver_pack_put(d, pack);
    if (code == 0x97 && !is_parked)
        quota(d, is_own);
}
