/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/*
 * What is done for devices beside their data: what the registry asks for (open, close, forget, rename), whose they are
 * (client attributes connectorType and connectorName, once a process), and that the platform does not end the sessions of
 * those which are silent (platform-api.md 3, quiet devices). All of it may be late, none of it is kept over a reconnect.
 */
enum {
    TELL_DELAY_MS = 100,   /* so that many devices share a message */
    TELL_SLOWLY_MS = 5000, /* one device in that time while data use up the tokens */
    TEND_MIN_MS = 1000,
    TEND_MAX_MS = 30 * 1000,
    REOPEN_AFTER_S = 20, /* behind two periods: the platform has ended the session by then, so that connect opens one */
    EMPTY_AROUND = 4     /* :{}, */
};

static uint32_t now_s(const struct deliver *d)
{
    return (uint32_t)(now_ms(d) / 1000);
}

/* --- what the registry asks for ---------------------------------------------------------------------------------------- */

static void farewell(struct deliver *d, struct str name)
{
    if (d->n_farewells == d->cap_farewells) {
        d->cap_farewells = d->cap_farewells ? d->cap_farewells * 2 : 16;
        d->farewells = mem_grow(d->farewells, d->cap_farewells * sizeof *d->farewells);
    }
    d->farewells[d->n_farewells++] = name;
}

void deliver_device_open(struct deliver *d, struct device *dev)
{
    if (dev->announced)
        return;
    dev->announced = SESSION_WANTED;
    d->storm_at = 0;
    deliver_wake(d);
}

void deliver_device_close(struct deliver *d, struct device *dev)
{
    if (d->is_ready && dev->announced == d->session)
        farewell(d, wire_name(dev));
    dev->announced = 0;
    deliver_wake(d);
}

void deliver_device_forget(struct deliver *d, struct device *dev)
{
    (void)d;
    dev->announced = 0;
    dev->told_source = 0;
}

void deliver_device_rename(struct deliver *d, struct device *dev, const char *wire)
{
    struct str former = wire_name(dev);

    if (str_eq(former, wire ? str_from(wire) : str_of(dev->json, dev->json_n)))
        return;
    deliver_build_gathered(d); /* it holds the former name */
    LIST_EACH(node, &d->open) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        for (size_t i = 0; i < pack->n_parts; i++)
            pack->is_stale |= pack->parts[i].dev == dev;
    }
    if (d->is_ready && dev->announced == d->session)
        farewell(d, former);
    if (dev->announced) {
        dev->announced = SESSION_WANTED;
        d->storm_at = 0;
    }
    atomic_store_explicit(&dev->platform_json, wire, memory_order_release);
    deliver_wake(d);
}

/* A pack that waits, or is to be sent again, with the names of now. */
void deliver_rebuild(struct deliver *d, struct pack *pack)
{
    struct deliver_times times = deliver_times(d);
    struct pack_limits limits = {
        .batch_devices = true, .unsure_offset_ms = times.offset_ms, .published_ms = times.published_ms};
    struct packer *packer = packer_new();
    const struct pack_part *parts;
    size_t n_parts, i = 0;

    assert(!pack->is_known);
    packer_begin(packer, pack->kind, &limits);
    for (size_t part = 0; part < pack->n_parts; part++)
        for (uint32_t j = 0; j < pack->parts[part].n_records; j++, i++) {
            struct device *dev = pack->parts[part].dev;
            bool is_added = packer_add(packer, dev, wire_name(dev), pack->records[i]);

            assert(is_added);
        }
    packer_finish(packer, &pack->payload, &parts, &n_parts);
    packer_free(packer);
    packer_reclaim(d->packers[pack->kind]);
    pack->is_stale = false;
}

/* Former names first: what follows opens the new ones. */
bool deliver_farewells(struct deliver *d)
{
    size_t n = 0;

    while (n < d->n_farewells && deliver_has_window(d)) {
        struct pack *pack = deliver_pack_new(d, PACK_DISCONNECT);

        pack_disconnect(&pack->payload, d->farewells[n]);
        if (deliver_publish(d, pack, TOPIC_DISCONNECT, d->conf.qos)) {
            deliver_pack_put(d, pack);
            break;
        }
        list_add_tail(&d->others, &pack->node);
        n++;
    }
    d->n_farewells -= n;
    if (n)
        memmove(d->farewells, d->farewells + n, d->n_farewells * sizeof *d->farewells);
    return d->n_farewells == 0;
}

/* --- whose they are --------------------------------------------------------------------------------------------------------- */

void deliver_untold_add(struct deliver *d, struct device *dev, uint16_t source)
{
    if (d->n_untold == d->cap_untold) {
        d->cap_untold = d->cap_untold ? d->cap_untold * 2 : 64;
        d->untold = mem_grow(d->untold, d->cap_untold * sizeof(void *));
    }
    if (d->n_untold == 0 && d->tell_at_ms < now_ms(d) + TELL_DELAY_MS) {
        d->tell_at_ms = now_ms(d) + TELL_DELAY_MS;
        deliver_wait_for(d, TELL_DELAY_MS);
    }
    d->untold[d->n_untold++] = dev;
    dev->told_source = source;
}

static bool is_scarce(struct deliver *d, enum limit_kind kind)
{
    struct limiter *limiter = &d->limiters[kind];

    return limiter_wait(limiter, limiter_capacity(limiter) / 2, now_ms(d)) != 0;
}

/* How many devices may be told about in one message: data go on beside it. */
static size_t tell_budget(struct deliver *d)
{
    struct limiter *messages = &d->limiters[LIMIT_DEVICE], *values = &d->limiters[LIMIT_DEVICE_VALUES];
    uint32_t a = limiter_capacity(messages) / 4, b = limiter_capacity(values) / 8;

    if (limiter_wait(messages, 1, now_ms(d)) || limiter_wait(values, 2, now_ms(d)))
        return 0;
    if (!d->conf.batch_devices || is_scarce(d, LIMIT_DEVICE) || is_scarce(d, LIMIT_DEVICE_VALUES))
        return 1;
    if (limiter_is_none(messages))
        a = UINT32_MAX;
    if (limiter_is_none(values))
        b = UINT32_MAX;
    a = a < b ? a : b;
    return a ? a : 1;
}

/* Takes devices off the list as far as they fit in; those whose session is over are told about when it is open again. */
static void tell_fill(struct deliver *d, struct pack *pack, size_t budget)
{
    size_t n = 0, i = 0;

    if (budget > d->n_untold)
        budget = d->n_untold;
    if (budget > pack->cap_parts) {
        pack->cap_parts = budget;
        pack->parts = mem_grow(pack->parts, budget * sizeof *pack->parts);
    }
    buf_add_u8(&pack->payload, '{');
    for (; i < d->n_untold && n < budget; i++) {
        struct device *dev = d->untold[i];
        const struct device_source *source = device_source_at(dev->told_source);
        struct str name = wire_name(dev), json = source ? str_from(source->json) : STR_NONE;

        if (!source)
            continue;
        if (dev->announced != d->session) {
            dev->told_source = 0;
            continue;
        }
        if (n && pack->payload.n + name.n + json.n + EMPTY_AROUND + 1 > d->limits.payload_bytes)
            break;
        if (n)
            buf_add_u8(&pack->payload, ',');
        buf_add_str(&pack->payload, name);
        buf_add_str(&pack->payload, STR(":{"));
        buf_add_str(&pack->payload, json);
        buf_add_u8(&pack->payload, '}');
        pack->parts[n++] = (struct pack_part){.dev = dev, .n_values = 2};
    }
    buf_add_u8(&pack->payload, '}');
    pack->n_parts = n;
    d->n_untold -= i;
    if (d->n_untold)
        memmove(d->untold, d->untold + i, d->n_untold * sizeof(void *));
}

void deliver_tell(struct deliver *d)
{
    while (d->n_untold && now_ms(d) >= d->tell_at_ms && deliver_has_window(d)) {
        size_t budget = tell_budget(d);
        struct pack *pack;

        if (!budget) {
            d->tell_at_ms = now_ms(d) + TELL_DELAY_MS;
            break;
        }
        pack = deliver_pack_new(d, PACK_TELL);
        tell_fill(d, pack, budget);
        if (!pack->n_parts) {
            deliver_pack_put(d, pack);
            continue;
        }
        limiter_spend(&d->limiters[LIMIT_DEVICE], (uint32_t)pack->n_parts);
        limiter_spend(&d->limiters[LIMIT_DEVICE_VALUES], 2 * (uint32_t)pack->n_parts);
        if (deliver_publish(d, pack, TOPIC_ATTRIBUTES, d->conf.qos)) {
            deliver_tell_lost(pack);
            deliver_pack_put(d, pack);
            break;
        }
        for (size_t i = 0; i < pack->n_parts; i++)
            pack->parts[i].dev->active_s = now_s(d);
        list_add_tail(&d->others, &pack->node);
        if (!limiter_is_none(&d->limiters[LIMIT_DEVICE]) || !limiter_is_none(&d->limiters[LIMIT_DEVICE_VALUES]))
            d->tell_at_ms = now_ms(d) + (budget == 1 && d->conf.batch_devices ? TELL_SLOWLY_MS : 1000);
    }
    if (d->n_untold && now_ms(d) < d->tell_at_ms)
        deliver_wait_for(d, d->tell_at_ms - now_ms(d));
}

/* They are told about at their next data, or when they are announced again. */
void deliver_tell_lost(const struct pack *pack)
{
    for (size_t i = 0; i < pack->n_parts; i++)
        pack->parts[i].dev->told_source = 0;
}

/* --- silent ones ------------------------------------------------------------------------------------------------------------ */

/* False: not now. */
static bool tend_flush(struct deliver *d, struct pack **open)
{
    struct pack *pack = *open;

    if (!pack)
        return true;
    *open = NULL;
    buf_add_u8(&pack->payload, '}');
    if (deliver_publish(d, pack, TOPIC_ATTRIBUTES, d->conf.qos)) {
        deliver_pack_put(d, pack);
        return false;
    }
    list_add_tail(&d->others, &pack->node);
    return true;
}

static void touch(struct deliver *d, struct pack **open, struct device *dev)
{
    struct str name = wire_name(dev);

    if (*open && (!d->conf.batch_devices || (*open)->payload.n + name.n + EMPTY_AROUND + 1 > d->limits.payload_bytes) &&
        !tend_flush(d, open))
        return;
    if (!*open)
        *open = deliver_pack_new(d, PACK_TOUCH);
    buf_add_u8(&(*open)->payload, (*open)->payload.n ? ',' : '{');
    buf_add_str(&(*open)->payload, name);
    buf_add_str(&(*open)->payload, STR(":{}"));
    limiter_spend(&d->limiters[LIMIT_DEVICE_MESSAGES], 1);
    dev->active_s = now_s(d);
}

static bool may_tend(struct deliver *d)
{
    return !is_scarce(d, LIMIT_DEVICE_MESSAGES) &&
           limiter_wait(&d->limiters[LIMIT_DEVICE_MESSAGES], 2, now_ms(d)) == 0 && deliver_has_window(d) &&
           d->n_known < (d->limits.window + 1) / 2;
}

/* At the lowest priority, from half-full buckets only. What cannot be done now has its turn at the next round. */
void deliver_tend(struct deliver *d)
{
    uint32_t n = device_count(), period = d->conf.keep_alive_s, now = now_s(d);
    struct pack *open = NULL;

    for (; d->tend_at < n && may_tend(d); d->tend_at++) {
        struct device *dev = device_at(d->tend_at);
        uint8_t link = atomic_load_explicit(&dev->link, memory_order_relaxed);
        uint32_t silent_s = now - dev->active_s;

        if (dev->announced != d->session || link == DEVICE_LINK_DOWN)
            continue;
        if (link == DEVICE_LINK_UP) {
            if (silent_s >= period)
                touch(d, &open, dev);
        } else if (silent_s >= 2 * period + REOPEN_AFTER_S) {
            if (!deliver_say(d, dev, PACK_CONNECT))
                break;
            limiter_spend(&d->limiters[LIMIT_DEVICE_MESSAGES], 2);
        }
    }
    (void)tend_flush(d, &open);
}

static void tend_due(void *arg)
{
    struct deliver *d = arg;

    if (!d->is_ready)
        return; /* started again with the next session */
    d->tend_at = 0;
    timer_start_coarse(&d->tend_timer, d->tend_period_ms);
    deliver_wake(d);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

static void set_period(struct deliver *d)
{
    uint64_t ms = (uint64_t)d->conf.keep_alive_s * 100;

    d->tend_period_ms = ms < TEND_MIN_MS ? TEND_MIN_MS : ms > TEND_MAX_MS ? TEND_MAX_MS : ms;
}

void deliver_tend_init(struct deliver *d)
{
    set_period(d);
    d->tend_at = UINT32_MAX;
    timer_init(&d->tend_timer, d->loop, tend_due, d);
}

void deliver_tend_open(struct deliver *d)
{
    d->tend_at = UINT32_MAX;
    if (d->conf.keep_alive_s)
        timer_start_coarse(&d->tend_timer, d->tend_period_ms);
}

void deliver_tend_tune(struct deliver *d)
{
    timer_stop(&d->tend_timer);
    set_period(d);
    if (d->is_ready)
        deliver_tend_open(d);
}

void deliver_tend_closed(struct deliver *d)
{
    timer_stop(&d->tend_timer);
    for (size_t i = 0; i < d->n_untold; i++)
        d->untold[i]->told_source = 0;
    d->n_untold = d->n_farewells = 0;
    LIST_EACH(node, &d->others) {
        const struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->kind == PACK_TELL)
            deliver_tell_lost(pack);
    }
}

void deliver_tend_fini(struct deliver *d)
{
    timer_stop(&d->tend_timer);
    mem_free(d->untold);
    mem_free(d->farewells);
}
