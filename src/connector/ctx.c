/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/ctx_impl.h"

#include "base/clock.h"
#include "build_id.h"
#include "connector/module.h"
#include "data/json.h"

#include <assert.h>
#include <stdio.h>

enum { CREDIT_PER_STORE = 4 * 1024 * 1024, CREDIT_MIN = 256 * 1024, EVENT_ITEMS_KEEP = 8192 };

/* Connectors that share the store's credit: a process has one store. */
static atomic_uint n_sharing;
atomic_uint ctx_taps;

static uint32_t filled_bytes(const struct ctx *ctx)
{
    return ctx->sink.batch ? ctx->sink.batch->n_bytes : 0;
}

/* --- events ---------------------------------------------------------------------------------------------------------- */

static void tell_seen(struct ctx *ctx, struct device *dev)
{
    if (ctx->host->device_seen)
        ctx->host->device_seen(ctx->host->arg, ctx, dev);
}

static void note_profile(struct ctx *ctx, struct device *dev, struct str profile)
{
    const char *known = atomic_load_explicit(&dev->profile, memory_order_relaxed), *given;

    if (!profile.n || (known && (known == profile.p || str_eq_z(profile, known))))
        return;
    given = device_profile_intern(profile);
    if (!given)
        return;
    atomic_store_explicit(&dev->profile, given, memory_order_release);
    tell_seen(ctx, dev);
}

/* The device is served by this connector from now on. The owner holds a count. */
static bool claim(struct ctx *ctx, struct device *dev)
{
    struct ctx *before = atomic_load_explicit(&dev->owner, memory_order_relaxed);

    if (LIKELY(before == ctx))
        return false;
    before = atomic_exchange_explicit(&dev->owner, ctx_ref(ctx), memory_order_acq_rel);
    ctx_unref(before);
    atomic_store_explicit(&dev->source, ctx->source ? ctx->source->number : 0, memory_order_release);
    tell_seen(ctx, dev);
    return true;
}

static void post_down(struct ctx *ctx, struct ctx_down *down, void (*run)(struct ctx *, struct ctx_down *));

static void tell_serving(struct ctx *ctx, bool is_there)
{
    if (ctx->host->serving)
        ctx->host->serving(ctx->host->arg, ctx, is_there);
}

/* It has more devices: for whoever waits for one. */
static void run_moved(struct ctx *ctx, struct ctx_down *down)
{
    mem_free(down);
    atomic_store(&ctx->is_moving, false);
    if (ctx->instance)
        tell_serving(ctx, true);
}

/* Any thread. */
static void tell_moved(struct ctx *ctx)
{
    if (ctx->host->serving && !atomic_exchange(&ctx->is_moving, true))
        post_down(ctx, mem_zero(sizeof(struct ctx_down)), run_moved);
}

/* The device's count moves with it: from's is given back, to's is taken before anybody can see it. */
void ctx_hand_over(struct ctx *from, struct ctx *to)
{
    uint32_t n = device_count();

    for (uint32_t i = 0; i < n; i++) {
        struct ctx *owner = from;

        if (atomic_load_explicit(&device_at(i)->owner, memory_order_relaxed) != from)
            continue;
        if (to)
            ctx_ref(to);
        if (atomic_compare_exchange_strong(&device_at(i)->owner, &owner, to))
            ctx_unref(from);
        else
            ctx_unref(to);
    }
    if (to)
        tell_moved(to);
}

static void add_key(void *arg, struct str key)
{
    struct buf *keys = arg;

    buf_add_u8(keys, keys->n ? ',' : '[');
    json_add_string(keys, key);
}

static void device_connected(struct ctx *ctx, struct device *dev, bool is_again)
{
    autobuf struct buf keys = {0};
    bool is_all = false;

    if (!ctx->host->device_connected)
        return;
    if (ctx->instance && ctx->type->shared_keys) {
        is_all = ctx->type->shared_keys(ctx->instance, dev, add_key, &keys);
        buf_add_z(&keys, keys.n ? "]" : "[]");
    }
    ctx->host->device_connected(ctx->host->arg, ctx, dev, buf_str(&keys), is_all, is_again);
}

struct event *ctx_event(struct ctx *ctx, struct device *dev, struct str profile)
{
    event_begin(&ctx->event, dev, profile);
    return &ctx->event;
}

static void replace_nul(struct ctx *ctx, struct event *event)
{
    unsigned n = event_replace_nul(event);

    if (!n)
        return;
    ctx_count(ctx, IOTGW_FALLBACKS, n);
    LOG_WARN(&ctx->log, "U+0000 in a text is replaced, the platform would lose the value", KV_UINT("values", n),
             KV_STR("device", device_name(event->dev)));
}

/* Before the clock is set: since boot, and not what a source happens to give as its own time. */
static void choose_unsure(struct event *event, int64_t *ts_ms)
{
    enum { TRIES = 8 };

    for (unsigned i = 0, n_same = 1; i < TRIES && n_same; i++) {
        n_same = 0;
        for (size_t j = 0; j < event->n; j++)
            n_same += event->items[j].ts == *ts_ms;
        *ts_ms += n_same ? 1 : 0;
    }
    event->time_unsure = true;
}

static bool is_denied(struct ctx *ctx, struct device *dev)
{
    return UNLIKELY(ctx->host->device_allowed != NULL) && !ctx->host->device_allowed(ctx->host->arg, ctx, dev);
}

/* Conversion, filter and storing are one step here, so their times are one. received_ms: when the turn began to read. */
static void add_meta(struct ctx *ctx, struct event *event, int64_t received_ms)
{
    struct buf *text = &ctx->text;
    long long now_ms = loop_is_fake(ctx->loop) ? received_ms : clock_wall_ms();

    if (now_ms < received_ms) /* the clock has gone back a little, which loops do not show */
        now_ms = received_ms;
    text->n = 0;
    buf_add_z(text, "{\"connector\":");
    json_add_string(text, str_from(ctx->name));
    buf_printf(text, ",\"receivedTs\":%lld,\"convertedTs\":%lld,\"sendToStorageTs\":%lld,\"putToStorageTs\":%lld}",
               (long long)received_ms, now_ms, now_ms, now_ms);
    event->meta = buf_str(text);
}

enum err ctx_encode(struct ctx *ctx, struct event *event, unsigned *n_values)
{
    unsigned n_attributes = 0, n_without_time = 0;
    int64_t now_ms;
    bool is_sure = loop_stamp(ctx->loop, &now_ms), has_escape = false;
    enum err err;

    for (size_t i = 0; i < event->n; i++) {
        bool is_attribute = event->items[i].kind == RECORD_ATTRIBUTES;

        has_escape |= event_item_has_escape(&event->items[i]);
        n_attributes += is_attribute;
        n_without_time += !is_attribute & (event->items[i].ts == EVENT_NO_TS);
    }
    if (UNLIKELY(has_escape))
        replace_nul(ctx, event);
    if (UNLIKELY(ctx->host->adds_meta) && is_sure)
        add_meta(ctx, event, now_ms);
    if (n_without_time)
        now_ms = device_assign_ts(event->dev, now_ms);
    if (UNLIKELY(!is_sure))
        choose_unsure(event, &now_ms);
    err = event_encode(event, now_ms, &ctx->host->limits, &ctx->sink.sink, n_values);
    if (err)
        return err;
    device_count_values(&event->dev->n_collected, *n_values);
    if (n_attributes)
        atomic_store_explicit(&event->dev->has_attributes, 1, memory_order_relaxed);
    ctx_count(ctx, IOTGW_ATTR_VALUES, n_attributes);
    ctx_count(ctx, IOTGW_TS_VALUES, event->n - n_attributes);
    if (ctx_is_tapped(CTX_TAP_VALUES) && ctx->host->values_pass)
        ctx->host->values_pass(ctx->host->arg, ctx, event);
    return ERR_OK;
}

void ctx_tell_wire(struct ctx *ctx, bool is_out, struct str subject, struct str bytes)
{
    loop_assert(ctx->loop);
    if (ctx->host->wire_passes)
        ctx->host->wire_passes(ctx->host->arg, ctx, is_out, subject, bytes);
}

enum err ctx_put(struct ctx *ctx)
{
    struct event *event = &ctx->event;
    struct device *dev = event->dev;
    bool is_filtered = ctx->filters_all | event->has_report;
    unsigned n_values = 0;
    enum err err = ERR_OK;

    if (event->n == 0)
        return ERR_NOTFOUND;
    if (UNLIKELY(is_barred(ctx)))
        return ERR_CLOSED;
    if (is_denied(ctx, dev))
        return ERR_DENIED;
    atomic_store_explicit(&dev->last_ms, loop_mono_ms(ctx->loop), memory_order_relaxed);
    note_profile(ctx, dev, event->profile);
    if (UNLIKELY(claim(ctx, dev)))
        device_connected(ctx, dev, false);
    /* Where nobody knows of links, data show that a device which had left is back. */
    if (UNLIKELY(atomic_load_explicit(&dev->link, memory_order_relaxed) == DEVICE_LINK_DOWN) &&
        ctx->type->flags & CONNECTOR_NO_LINKS) {
        atomic_store_explicit(&dev->link, DEVICE_LINK_UNKNOWN, memory_order_relaxed);
        ctx_resume_reports(ctx, dev);
    }
    if (UNLIKELY(is_filtered))
        ctx_hold_back(ctx);
    if (LIKELY(event->n > 0))
        err = ctx_encode(ctx, event, &n_values);
    if (UNLIKELY(err)) {
        device_add_values(&dev->n_failed, event->n);
        if (is_filtered && ctx->report) /* what passed was not sent after all */
            report_forget(ctx->report, dev);
        return err;
    }
    if (UNLIKELY(event->cap > EVENT_ITEMS_KEEP)) { /* a giant message leaves nothing behind */
        event_fini(event);
        event_init(event);
    }
    return ERR_OK;
}

enum err ctx_put_past(struct ctx *ctx, int64_t ts_ms)
{
    unsigned n_values;
    enum err err;

    if (ctx->event.n == 0)
        return ERR_NOTFOUND;
    (void)event_replace_nul(&ctx->event); /* told when it came */
    err = event_encode(&ctx->event, ts_ms, &ctx->host->limits, &ctx->sink.sink, &n_values);
    if (!err)
        device_add_values(&ctx->event.dev->n_adjusted, n_values);
    return err;
}

enum err ctx_put_records(struct ctx *ctx, const struct record *first, size_t n)
{
    uint8_t *to = ctx->sink.sink.room(&ctx->sink.sink, n);

    if (!to)
        return ERR_NOMEM;
    memcpy(to, first, n);
    for (const struct record *record = first; n; n -= record->size, record = record_next(record))
        if (record->dev < device_count())
            device_add_values(&device_at(record->dev)->n_adjusted, record->n_values);
    return ERR_OK;
}

static void put_state_record(struct ctx *ctx, struct device *dev, struct str profile, enum record_kind kind)
{
    size_t size = record_size(dev->name_n, profile.n, 0);
    uint32_t number = atomic_load_explicit(&dev->state_number, memory_order_relaxed) + 1;
    struct record *record = (struct record *)(void *)ctx->sink.sink.room(&ctx->sink.sink, size);

    if (!record) /* only when a source message of megabytes stands before it */
        return;
    atomic_store_explicit(&dev->state_number, number, memory_order_relaxed);
    *record = (struct record){.size = (uint32_t)size,
                              .ts = number,
                              .dev = dev->number,
                              .flags = RECORD_END,
                              .kind = (uint16_t)kind,
                              .name_n = dev->name_n,
                              .profile_n = (uint16_t)profile.n};
    memcpy(record + 1, dev->name, dev->name_n);
    if (profile.n)
        memcpy((char *)(record + 1) + dev->name_n, profile.p, profile.n);
    record_seal(record, 0);
}

void ctx_connect(struct ctx *ctx, struct device *dev, struct str profile)
{
    const char *known;

    loop_assert(ctx->loop);
    if (is_barred(ctx) || is_denied(ctx, dev))
        return;
    note_profile(ctx, dev, profile);
    (void)claim(ctx, dev);
    known = atomic_load_explicit(&dev->profile, memory_order_relaxed);
    atomic_store_explicit(&dev->link, ctx->type->flags & CONNECTOR_NO_LINKS ? DEVICE_LINK_UNKNOWN : DEVICE_LINK_UP,
                          memory_order_relaxed);
    ctx_resume_reports(ctx, dev);
    put_state_record(ctx, dev, known ? str_from(known) : STR("default"), RECORD_CONNECT);
    device_connected(ctx, dev, false);
}

void ctx_disconnect(struct ctx *ctx, struct device *dev)
{
    const char *known = atomic_load_explicit(&dev->profile, memory_order_relaxed);

    loop_assert(ctx->loop);
    if (is_barred(ctx) || ctx->keeps_devices || is_denied(ctx, dev))
        return;
    atomic_store_explicit(&dev->link, DEVICE_LINK_DOWN, memory_order_relaxed);
    put_state_record(ctx, dev, known ? str_from(known) : STR("default"), RECORD_DISCONNECT);
}

/* --- marks and credit ------------------------------------------------------------------------------------------------- */

static size_t credit(void)
{
    unsigned n = atomic_load_explicit(&n_sharing, memory_order_relaxed);
    size_t share = CREDIT_PER_STORE / (n ? n : 1);

    return share < CREDIT_MIN ? CREDIT_MIN : share;
}

size_t ctx_in_flight_bytes(const struct ctx *ctx)
{
    return ctx->in_flight_bytes + filled_bytes(ctx);
}

bool ctx_has_room(const struct ctx *ctx)
{
    return ctx_in_flight_bytes(ctx) < credit();
}

/* A cookie with nothing to store behind it: it is answered with what is before it, or, if there is nothing, at once. */
static void give_bare_cookie(struct ctx *ctx)
{
    if (ctx->cookie == ctx->cookie_given)
        return;
    ctx->cookie_given = ctx->cookie;
    if (ctx->last) {
        ctx->last->cookie = ctx->cookie; /* the store does not look at it */
        return;
    }
    ctx->blank.cookie = ctx->cookie;
    if (!ctx->blank_is_posted) {
        ctx->blank.result = ERR_OK;
        ctx->blank_is_posted = true;
        ctx_ref(ctx);
        mailbox_post(&ctx->box, &ctx->blank.node);
    }
}

void ctx_flush(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    if (!ctx->sink.batch)
        give_bare_cookie(ctx);
    else if (ctx->sink.begin ==
             ctx->sink.batch->n_bytes) /* else a source message is unfinished: its mark comes back here */
        ctx_give(ctx, batch_sink_take(&ctx->sink));
    ctx_hand_over_given(ctx);
}

static void emit_late(void *arg)
{
    ctx_flush(arg);
}

bool ctx_mark(struct ctx *ctx, uint64_t cookie)
{
    assert(cookie >= ctx->cookie);
    if (UNLIKELY(is_barred(ctx))) /* never answered: the source is not acknowledged, and gives it to the next */
        return false;
    ctx->cookie = cookie;
    batch_sink_begin(&ctx->sink);
    late_arm(ctx->loop, &ctx->late);
    if (LIKELY(ctx_has_room(ctx)))
        return true;
    ctx->wants_room = true;
    return false;
}

bool ctx_is_idle(const struct ctx *ctx)
{
    return !ctx->n_unanswered && !ctx->blank_is_posted && ctx->cookie == ctx->cookie_given && !filled_bytes(ctx);
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

void ctx_answer(struct batch *batch)
{
    mailbox_post(&batch->ctx->box, &batch->node);
}

static void tell_done(struct ctx *ctx, uint64_t cookie, enum err result)
{
    if (ctx->instance && ctx->type->done && cookie)
        ctx->type->done(ctx->instance, cookie, result);
}

static void answers(void *arg, struct node *nodes)
{
    struct ctx *ctx = ctx_ref(arg);
    uint64_t cookie = 0;
    enum err result = ERR_OK;
    unsigned n = 0;

    for (struct node *node = nodes, *next; node; node = next, n++) {
        struct batch *batch = CONTAINER_OF(node, struct batch, node);

        next = node->next;
        if (cookie && batch->result != result) {
            tell_done(ctx, cookie, result);
            cookie = 0;
        }
        /* Not stored (what is dropped is counted with its device, where the filter sees it): the next values go out. */
        if (UNLIKELY(batch->result) && batch->result != ERR_FULL && ctx->report)
            report_forget(ctx->report, NULL);
        if (batch->cookie > cookie)
            cookie = batch->cookie;
        result = batch->result;
        if (batch == &ctx->blank) {
            ctx->blank_is_posted = false;
            continue;
        }
        if (batch == ctx->last)
            ctx->last = NULL;
        ctx->in_flight_bytes -= batch->n_bytes;
        ctx->n_unanswered--;
        batch_sink_reuse(&ctx->sink,
                         batch); /* the store has freed the bytes when it copied them; refused ones may be there */
    }
    tell_done(ctx, cookie, result);
    if (ctx->wants_room && ctx_in_flight_bytes(ctx) <= credit() / 2) {
        ctx->wants_room = false;
        if (ctx->reports_wait) {
            ctx->reports_wait = false;
            ctx_await_reports(ctx);
        }
        if (ctx->instance && ctx->type->room)
            ctx->type->room(ctx->instance);
    }
    for (; n; n--)
        ctx_unref(ctx);
    ctx_unref(ctx);
}

/* --- state -------------------------------------------------------------------------------------------------------------- */

static void status_write(struct ctx *ctx, const struct ctx_status *status)
{
    uint64_t words[STATUS_WORDS];
    unsigned version = atomic_load_explicit(&ctx->status_version, memory_order_relaxed);

    memcpy(words, status, sizeof words);
    atomic_store_explicit(&ctx->status_version, version + 1, memory_order_relaxed);
    for (unsigned i = 0; i < STATUS_WORDS; i++) /* release: whoever sees a new word sees the odd version too */
        atomic_store_explicit(&ctx->status[i], words[i], memory_order_release);
    atomic_store_explicit(&ctx->status_version, version + 2, memory_order_release);
}

struct ctx_status ctx_status(struct ctx *ctx)
{
    struct ctx_status status;
    uint64_t words[STATUS_WORDS];
    unsigned before, after;

    do {
        before = atomic_load_explicit(&ctx->status_version, memory_order_acquire);
        for (unsigned i = 0; i < STATUS_WORDS; i++)
            words[i] = atomic_load_explicit(&ctx->status[i], memory_order_acquire);
        after = atomic_load_explicit(&ctx->status_version, memory_order_relaxed);
    } while (before != after || before % 2);
    memcpy(&status, words, sizeof status);
    return status;
}

static struct link *link_of(struct ctx *ctx, struct str name)
{
    struct link *link = ctx->links;

    while (link && !str_eq(name, str_of(link->name, link->name_n)))
        link = link->next;
    if (!link) {
        link = mem_zero(sizeof *link + name.n);
        link->name_n = name.n;
        if (name.n)
            memcpy(link->name, name.p, name.n);
        link->next = ctx->links;
        ctx->links = link;
    }
    return link;
}

/* Of several links: up if all are, degraded if some are, else the state of the one that was told last. */
static enum link_state state_of_all(const struct ctx *ctx, enum link_state told)
{
    unsigned n_up = 0, n_other = 0;

    for (const struct link *link = ctx->links; link; link = link->next) {
        if (link->state == LINK_UP)
            n_up++;
        else
            n_other++;
    }
    return n_other == 0 ? LINK_UP : n_up ? LINK_DEGRADED : told;
}

static void log_state(struct ctx *ctx, struct str name, enum link_state state, struct str reason)
{
    static const struct {
        enum log_level level;
        const char *phrase;
    } lines[] = {[LINK_DOWN] = {LOG_LEVEL_WARN, "not connected"},
                 [LINK_CONNECTING] = {LOG_LEVEL_DEBUG, "connecting"},
                 [LINK_UP] = {LOG_LEVEL_INFO, "connected"},
                 [LINK_DEGRADED] = {LOG_LEVEL_WARN, "connected, but not all of it works"},
                 [LINK_FAILED] = {LOG_LEVEL_ERROR, "connection failed"}};
    struct kv kvs[3];
    size_t n = 0;

    if ((int)lines[state].level < atomic_load_explicit(&ctx->log.level, memory_order_relaxed))
        return;
    if (name.n)
        kvs[n++] = KV_STR("link", name);
    if (reason.n)
        kvs[n++] = KV_STR("reason", reason);
    if (state != LINK_UP && ctx->n_attempts)
        kvs[n++] = KV_UINT("attempts", ctx->n_attempts);
    static const struct log_place place = {__FILE__, __func__, __LINE__};

    log_write_at(&ctx->log, lines[state].level, lines[state].phrase, kvs, n, &place);
}

static void note_link(struct ctx *ctx, struct link *link, enum link_state state, struct str reason)
{
    bool works = state == LINK_UP || state == LINK_DEGRADED;
    bool worked = link->state == LINK_UP || link->state == LINK_DEGRADED;

    if (!link->since_ms || works != worked)
        link->since_ms = loop_wall_ms(ctx->loop);
    link->state = state;
    link->n_attempts = state == LINK_UP ? 0 : link->n_attempts + (state == LINK_CONNECTING);
    if (state != LINK_CONNECTING) {
        reason = str_cut(reason, sizeof link->reason - 1);
        if (reason.n)
            memcpy(link->reason, reason.p, reason.n);
        link->reason[reason.n] = 0;
    }
}

void ctx_each_link(const struct ctx *ctx, void (*fn)(void *arg, const struct ctx_link *link), void *arg)
{
    loop_assert(ctx->loop);
    for (const struct link *link = ctx->links; link; link = link->next)
        fn(arg, &(struct ctx_link){.name = str_of(link->name, link->name_n),
                                   .reason = str_from(link->reason),
                                   .state = link->state,
                                   .since_ms = link->since_ms,
                                   .n_attempts = link->n_attempts});
}

const char *link_state_name(enum link_state state)
{
    static const char *const names[] = {[LINK_DOWN] = "down",
                                        [LINK_CONNECTING] = "connecting",
                                        [LINK_UP] = "up",
                                        [LINK_DEGRADED] = "degraded",
                                        [LINK_FAILED] = "failed"};

    return (unsigned)state < COUNT_OF(names) ? names[state] : "";
}

void ctx_state(struct ctx *ctx, struct str name, enum link_state state, struct str reason)
{
    struct link *link = link_of(ctx, name);
    enum link_state all;
    struct ctx_status status;
    bool is_working, was_cut_off;

    loop_assert(ctx->loop);
    note_link(ctx, link, state, reason);
    all = state_of_all(ctx, state);
    is_working = all == LINK_UP || all == LINK_DEGRADED;
    was_cut_off = ctx_is_cut_off(ctx);
    if (state == LINK_CONNECTING)
        ctx->n_attempts++;
    if (all == LINK_UP)
        ctx->n_attempts = 0;
    if (is_working != ctx->is_working || !ctx->since_ms)
        ctx->since_ms = loop_wall_ms(ctx->loop);
    ctx->is_working = is_working;
    if (ctx->report && was_cut_off != ctx_is_cut_off(ctx))
        ctx_resume_reports(ctx, NULL);
    log_state(ctx, name, state, reason);
    status = ctx_status(ctx);
    status.state = all;
    status.since_ms = ctx->since_ms;
    status.n_attempts = ctx->n_attempts;
    if (state != LINK_CONNECTING) { /* while connecting, the reason of the last failure is what helps */
        size_t n = reason.n < sizeof status.reason - 1 ? reason.n : sizeof status.reason - 1;

        memset(status.reason, 0, sizeof status.reason);
        if (n)
            memcpy(status.reason, reason.p, n);
    }
    status_write(ctx, &status);
    if (ctx->host->state_changed)
        ctx->host->state_changed(ctx->host->arg, ctx);
}

/* --- downwards -------------------------------------------------------------------------------------------------------- */

static void post_down(struct ctx *ctx, struct ctx_down *down, void (*run)(struct ctx *, struct ctx_down *))
{
    down->ctx = ctx_ref(ctx);
    down->run = run;
    mailbox_post(&ctx->down, &down->node);
}

static void run_down(void *arg, struct node *nodes)
{
    (void)arg;
    while (nodes) {
        struct ctx_down *down = CONTAINER_OF(nodes, struct ctx_down, node);
        struct ctx *ctx = down->ctx;

        nodes = nodes->next; /* down may be gone when it has run */
        down->run(ctx, down);
        ctx_unref(ctx);
    }
}

static void host_reply(struct ctx *ctx, struct command *command, enum err err, struct str json);

static void run_command(struct ctx *ctx, struct ctx_down *down)
{
    struct command *command = &CONTAINER_OF(down, struct command_box, down)->command;

    if (ctx->instance && !ctx->is_hushed)
        ctx->type->command(ctx->instance, command);
    else
        host_reply(ctx, command, ERR_CLOSED, STR_NONE);
}

bool ctx_command(struct ctx *ctx, struct command *command)
{
    struct command_box *box = CONTAINER_OF(command, struct command_box, command);

    if (!ctx->type->command)
        return false;
    atomic_store_explicit(&box->deadline_ms, command->deadline_ms, memory_order_relaxed);
    post_down(ctx, &box->down, run_command);
    return true;
}

uint64_t ctx_deadline(struct ctx *ctx, struct command *command, uint64_t timeout_ms)
{
    struct command_box *box = CONTAINER_OF(command, struct command_box, command);

    if (!box->has_timeout) {
        command->deadline_ms = loop_mono_ms(ctx->loop) + timeout_ms;
        atomic_store_explicit(&box->deadline_ms, command->deadline_ms, memory_order_relaxed);
    }
    return command->deadline_ms;
}

struct attributes_answer {
    struct ctx_down down;
    uint64_t cookie;
    enum err err;
    size_t n;
    char json[];
};

static void run_attributes(struct ctx *ctx, struct ctx_down *down)
{
    struct attributes_answer *answer = CONTAINER_OF(down, struct attributes_answer, down);

    if (ctx->instance && ctx->type->attributes)
        ctx->type->attributes(ctx->instance, answer->cookie, answer->err, str_of(answer->json, answer->n));
    mem_free(answer);
}

void ctx_answer_attributes(struct ctx *ctx, uint64_t cookie, enum err err, struct str json)
{
    struct attributes_answer *answer = mem_new(sizeof *answer + json.n);

    answer->cookie = cookie;
    answer->err = err;
    answer->n = json.n;
    if (json.n)
        memcpy(answer->json, json.p, json.n);
    post_down(ctx, &answer->down, run_attributes);
}

static void run_sync(struct ctx *ctx, struct ctx_down *down)
{
    uint32_t n = ctx->instance ? device_count() : 0;

    mem_free(down);
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load_explicit(&device_at(i)->owner, memory_order_relaxed) == ctx)
            device_connected(ctx, device_at(i), true);
}

void ctx_sync(struct ctx *ctx)
{
    if (ctx->type->shared_keys)
        post_down(ctx, mem_zero(sizeof(struct ctx_down)), run_sync);
}

void ctx_hush(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    ctx->is_hushed = true;
}

/* --- the functions of struct host ------------------------------------------------------------------------------------ */

static struct device *host_device(struct ctx *ctx, struct str name)
{
    (void)ctx;
    return device_get(name);
}

static void host_event(struct ctx *ctx, struct device *dev, struct str profile, const struct report_strategy *report)
{
    event_set_report(ctx_event(ctx, dev, profile), report);
}

/* What a third party gives is checked here: records hold strict JSON with numbers in their final form. */
static enum err add_value(struct ctx *ctx, enum iotgw_kind kind, struct str key, struct str json, int64_t ts_ms,
                          const struct report_strategy *report)
{
    struct event *event = &ctx->event;
    struct str prepared;
    yyjson_doc *doc;
    enum err err;

    if (kind != IOTGW_TELEMETRY && kind != IOTGW_ATTRIBUTES)
        return ERR_RANGE;
    err = event_key(&event->arena, key, &prepared, NULL);
    if (err)
        return err;
    doc = yyjson_read(json.p, json.n, YYJSON_READ_NUMBER_AS_RAW);
    if (!doc)
        return ERR_SYNTAX;
    ctx->text.n = 0;
    json_add_final(&ctx->text, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    event_add_reported(event, kind == IOTGW_ATTRIBUTES ? RECORD_ATTRIBUTES : RECORD_TELEMETRY, prepared,
                       arena_str(&event->arena, buf_str(&ctx->text)), ts_ms == IOTGW_NO_TS ? EVENT_NO_TS : ts_ms,
                       report);
    return ERR_OK;
}

static enum err host_value(struct ctx *ctx, enum iotgw_kind kind, struct str key, struct str json, int64_t ts_ms,
                           const struct report_strategy *report)
{
    enum err err = add_value(ctx, kind, key, json, ts_ms, report);

    if (UNLIKELY(err) && ctx->event.dev)
        device_add_values(&ctx->event.dev->n_failed, 1);
    return err;
}

static void host_reply(struct ctx *ctx, struct command *command, enum err err, struct str json)
{
    if (ctx->host->reply)
        ctx->host->reply(ctx->host->arg, ctx, command, err, json);
}

static void host_log(struct ctx *ctx, int level, const char *phrase, struct str text)
{
    const struct kv kv = KV_STR("text", text);

    if (level >= LOG_LEVEL_TRACE && level < LOG_LEVEL_OFF &&
        level >= atomic_load_explicit(&ctx->log.level, memory_order_relaxed))
        log_write(&ctx->log, (enum log_level)level, phrase, &kv, text.n ? 1 : 0);
}

static int64_t host_wall_ms(struct ctx *ctx)
{
    return loop_wall_ms(ctx->loop);
}

static uint64_t host_mono_ms(struct ctx *ctx)
{
    return loop_mono_ms(ctx->loop);
}

static void *host_uv_loop(struct ctx *ctx)
{
    return loop_uv(ctx->loop);
}

static void *host_helper_start(struct ctx *ctx, const char *name)
{
    return helper_start(ctx, name);
}

static void host_helper_post(void *helper, void (*run)(void *), void (*done)(void *, bool), void *job)
{
    helper_post(helper, run, done, job);
}

static void host_helper_stop(void *helper, connector_done_fn *stopped, void *arg)
{
    helper_stop(helper, stopped, arg);
}

static void host_browse_item(struct ctx *ctx, void *request, struct str json)
{
    if (ctx->host->browse_item)
        ctx->host->browse_item(ctx->host->arg, ctx, request, json);
}

static void host_browse_end(struct ctx *ctx, void *request, enum err err, struct str reason)
{
    if (ctx->host->browse_end)
        ctx->host->browse_end(ctx->host->arg, ctx, request, err, reason);
}

static void host_request_attributes(struct ctx *ctx, struct device *dev, struct str shared, struct str client,
                                    uint64_t cookie)
{
    if (ctx->host->request_attributes)
        ctx->host->request_attributes(ctx->host->arg, ctx, dev, shared, client, cookie);
    else if (ctx->instance && ctx->type->attributes)
        ctx->type->attributes(ctx->instance, cookie, ERR_UNSUPPORTED, STR_NONE);
}

static void host_count(struct ctx *ctx, enum iotgw_counter counter, uint64_t n)
{
    if ((unsigned)counter < IOTGW_COUNTER_COUNT)
        ctx_count(ctx, counter, n);
}

static uint64_t host_deadline(struct ctx *ctx, struct command *command, uint64_t timeout_ms)
{
    return ctx_deadline(ctx, command, timeout_ms);
}

static const char *host_data_dir(struct ctx *ctx)
{
    return ctx->host->data_dir ? ctx->host->data_dir : ctx->host->config_dir;
}

static const char *host_config_dir(struct ctx *ctx)
{
    return ctx->host->config_dir;
}

const struct host ctx_host_functions = {
    .size = sizeof(struct host),
    .abi = IOTGW_CONNECTOR_ABI,
    .build_id = IOTGW_BUILD_ID,
    .device = host_device,
    .event = host_event,
    .value = host_value,
    .put = ctx_put,
    .mark = ctx_mark,
    .has_room = ctx_has_room,
    .connect = ctx_connect,
    .disconnect = ctx_disconnect,
    .state = ctx_state,
    .reply = host_reply,
    .log = host_log,
    .wall_ms = host_wall_ms,
    .mono_ms = host_mono_ms,
    .uv_loop = host_uv_loop,
    .helper_start = host_helper_start,
    .helper_post = host_helper_post,
    .helper_stop = host_helper_stop,
    .alloc = arena_alloc,
    .browse_item = host_browse_item,
    .browse_end = host_browse_end,
    .request_attributes = host_request_attributes,
    .count = host_count,
    .config_dir = host_config_dir,
    .deadline = host_deadline,
    .data_dir = host_data_dir,
};

/* --- life --------------------------------------------------------------------------------------------------------------- */

void ctx_setup(void)
{
    store_answer_fn = ctx_answer;
}

struct ctx *ctx_new(const struct connector_type *type, const char *name, struct loop *loop, const struct ctx_host *host,
                    struct conf *conf)
{
    struct ctx *ctx = mem_zero(sizeof *ctx);

    assert(store_answer_fn == ctx_answer);
    atomic_init(&ctx->refs, 1);
    ctx->type = type;
    ctx->loop = loop;
    ctx->host = host;
    ctx->conf = conf ? conf_ref(conf) : NULL;
    ctx->name = mem_dup(name);
    ctx->source = device_source_intern(type->name, ctx->name);
    log_init_of(&ctx->log, LOG_OF_CONNECTOR, ctx->name, LOG_LEVEL_INFO);
    ctx->converter_name = mem_new(strlen(name) + sizeof "_converter");
    snprintf(ctx->converter_name, strlen(name) + sizeof "_converter", "%s_converter", name);
    log_init_of(&ctx->converter_log, LOG_OF_CONVERTER, ctx->converter_name, LOG_LEVEL_INFO);
    event_init(&ctx->event);
    event_init(&ctx->repeated);
    timer_init(&ctx->report_timer, loop, ctx_send_reports, ctx);
    timer_init(&ctx->cleanup_timer, loop, ctx_clean_up_reports, ctx);
    ctx_read_report_levels(ctx);
    batch_sink_init(&ctx->sink, ctx, ctx_give, ctx);
    ctx->blank.ctx = ctx;
    ctx->given_end = &ctx->given;
    late_init(&ctx->late, LATE_EMIT, emit_late, ctx);
    mailbox_init(&ctx->box, loop, answers, ctx);
    mailbox_init(&ctx->down, loop, run_down, ctx);
    atomic_fetch_add(&n_sharing, 1);
    return ctx;
}

struct ctx *ctx_ref(struct ctx *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void ctx_unref(struct ctx *ctx)
{
    if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
        return;
    assert(!ctx->n_unanswered);
    if (ctx->host->released)
        ctx->host->released(ctx->host->arg, ctx);
    batch_sink_fini(&ctx->sink);
    while (ctx->links) {
        struct link *link = ctx->links;

        ctx->links = link->next;
        mem_free(link);
    }
    atomic_fetch_sub(&n_sharing, 1);
    event_fini(&ctx->event);
    event_fini(&ctx->repeated);
    buf_fini(&ctx->text);
    log_fini(&ctx->log);
    log_fini(&ctx->converter_log);
    mem_free(ctx->converter_name);
    conf_unref(ctx->conf);
    mem_free(ctx->name);
    mem_free(ctx);
}

void ctx_attach(struct ctx *ctx, void *instance)
{
    ctx->instance = instance;
    ctx->is_hushed = false;
    if (instance) {
        if (ctx->host->attached)
            ctx->host->attached(ctx->host->arg, ctx);
        tell_serving(ctx, true);
        return;
    }
    ctx_end(ctx);
    ctx_hand_over(ctx, NULL);
}

void ctx_end(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    ctx->instance = NULL;
    tell_serving(ctx, false);
    batch_sink_cut(&ctx->sink);
    ctx_flush(ctx);
    late_cancel(&ctx->late);
    ctx_discard_reports(ctx);
    ctx->is_quiet = true;
}

void ctx_continue_counters(struct ctx *ctx, struct ctx *from)
{
    for (unsigned i = 0; i < IOTGW_COUNTER_COUNT; i++)
        ctx_count(ctx, (enum iotgw_counter)i, ctx_counter(from, (enum iotgw_counter)i));
    atomic_fetch_add(&ctx->log.n_errors, atomic_load(&from->log.n_errors));
    atomic_fetch_add(&ctx->converter_log.n_errors, atomic_load(&from->converter_log.n_errors));
}

void ctx_set_conf(struct ctx *ctx, struct conf *conf)
{
    struct conf *before = ctx->conf;

    loop_assert(ctx->loop);
    ctx->conf = conf_ref(conf);
    ctx_reset_report(ctx);
    conf_unref(before);
}

/* What it was in the midst of will never be marked; the whole messages before it are stored. */
static void run_barred(struct ctx *ctx, struct ctx_down *down)
{
    mem_free(down);
    batch_sink_cut(&ctx->sink);
    ctx_flush(ctx);
}

void ctx_bar(struct ctx *ctx)
{
    atomic_store(&ctx->is_barred, true);
    ctx_hand_over(ctx, NULL);
    post_down(ctx, mem_zero(sizeof(struct ctx_down)), run_barred);
}

void ctx_keep_devices(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    ctx->keeps_devices = true;
}

static void disconnect_devices(struct ctx *ctx, struct ctx *owner)
{
    uint32_t n = device_count();

    for (uint32_t i = 0; i < n; i++) {
        struct device *dev = device_at(i);

        if (atomic_load_explicit(&dev->owner, memory_order_relaxed) != owner)
            continue;
        claim(ctx, dev);
        if (atomic_load_explicit(&dev->link, memory_order_relaxed) == DEVICE_LINK_DOWN)
            continue;
        ctx_disconnect(ctx, dev);
        ctx_mark(ctx, ctx->cookie); /* one by one, so that a batch may end behind each */
    }
}

void ctx_disconnect_all(struct ctx *ctx)
{
    loop_assert(ctx->loop);
    ctx->keeps_devices = false;
    disconnect_devices(ctx, ctx);
}

void ctx_inherit_gone(struct ctx *ctx, struct ctx *from)
{
    loop_assert(ctx->loop);
    disconnect_devices(ctx, from);
}

bool ctx_serve(struct ctx *ctx, struct device *dev)
{
    struct ctx *nobody = NULL;

    ctx_ref(ctx);
    if (atomic_compare_exchange_strong(&dev->owner, &nobody, ctx)) {
        tell_moved(ctx);
        return true;
    }
    ctx_unref(ctx);
    return false;
}

void ctx_abandon_if(struct device *dev, struct ctx *ctx)
{
    struct ctx *owner = ctx;

    if (atomic_compare_exchange_strong(&dev->owner, &owner, NULL))
        ctx_unref(ctx);
}

void ctx_abandon(struct device *dev)
{
    ctx_unref(atomic_exchange_explicit(&dev->owner, NULL, memory_order_acq_rel));
}

const char *ctx_name(const struct ctx *ctx)
{
    return ctx->name;
}

const struct connector_type *ctx_type(const struct ctx *ctx)
{
    return ctx->type;
}

struct log *ctx_log(struct ctx *ctx)
{
    return &ctx->log;
}

struct log *ctx_converter_log(struct ctx *ctx)
{
    return &ctx->converter_log;
}

void ctx_set_log_levels(struct ctx *ctx, enum log_level level, enum log_level remote)
{
    log_set_level(&ctx->log, level);
    log_set_level(&ctx->converter_log, level);
    log_set_remote_level(&ctx->log, remote);
    log_set_remote_level(&ctx->converter_log, remote);
}

const struct device_source *ctx_source(const struct ctx *ctx)
{
    return ctx->source;
}

struct str ctx_id(const struct ctx *ctx)
{
    return connector_common_of(ctx->conf)->id;
}

bool ctx_knows_links(const struct ctx *ctx)
{
    return !(ctx->type->flags & CONNECTOR_NO_LINKS);
}

struct loop *ctx_loop(const struct ctx *ctx)
{
    return ctx->loop;
}

struct ctx_counters *ctx_counters(struct ctx *ctx)
{
    return &ctx->counters;
}
