/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/tail.h"

#include "base/hash.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>

enum {
    LISTENERS_MAX = 8,
    UNDER_WAY_MAX = 256 * 1024,
    VALUES_A_LINE = 200,
    LINE_FULL = 32 * 1024, /* values beyond are told by number */
    TEXT_MAX = 4096,       /* of a value, or of what was on the wire */
    REPORT_MS = 1000
};

struct line {
    struct node node;
    unsigned what;
    uint64_t device; /* hash of its name; 0: none */
    uint16_t source;
    size_t n;
    char json[];
};

struct listener { /* atomics: written by main, read by any loop */
    struct tail *tail;
    struct control_request *request; /* NULL: nobody */
    atomic_uint what;                /* CTX_TAP_VALUES or CTX_TAP_WIRE; 0: nobody */
    _Atomic(uint64_t) device;        /* hash of a name; 0: all */
    _Atomic(uint16_t) source;        /* 0: all */
    uint64_t n_left_out, n_seen;     /* not told yet; of tail.n_left_out, those that were counted in it */
};

struct tail {
    struct loop *loop;
    struct listener listeners[LISTENERS_MAX];
    struct mailbox lines;
    struct timer report;
    _Atomic(uint64_t) n_under_way; /* bytes */
    _Atomic(uint64_t) n_left_out;
};

/* --- on any loop ------------------------------------------------------------------------------------------------------------ */

static bool hears(const struct listener *listener, unsigned what, uint64_t device, uint16_t source)
{
    uint64_t only;
    uint16_t only_source;

    if (atomic_load_explicit(&listener->what, memory_order_acquire) != what)
        return false;
    only = atomic_load_explicit(&listener->device, memory_order_relaxed);
    only_source = atomic_load_explicit(&listener->source, memory_order_relaxed);
    return (!only || only == device) && (!only_source || only_source == source);
}

/* Somebody hears it, and there is room for it. */
static bool is_wanted(struct tail *tail, unsigned what, uint64_t device, uint16_t source)
{
    bool is_heard = false;

    for (size_t i = 0; i < LISTENERS_MAX && !is_heard; i++)
        is_heard = hears(&tail->listeners[i], what, device, source);
    if (is_heard && atomic_load_explicit(&tail->n_under_way, memory_order_relaxed) >= UNDER_WAY_MAX) {
        atomic_fetch_add_explicit(&tail->n_left_out, 1, memory_order_relaxed);
        return false;
    }
    return is_heard;
}

static void post(struct tail *tail, unsigned what, uint64_t device, uint16_t source, const struct buf *json)
{
    struct line *line = mem_new(sizeof *line + json->n);

    *line = (struct line){.what = what, .device = device, .source = source, .n = json->n};
    memcpy(line->json, json->p, json->n);
    atomic_fetch_add_explicit(&tail->n_under_way, json->n, memory_order_relaxed);
    mailbox_post(&tail->lines, &line->node);
}

static void begin(struct buf *out, struct ctx *ctx)
{
    buf_printf(out, "{\"at\":%" PRId64 ",\"connector\":", loop_wall_ms(ctx_loop(ctx)));
    json_add_string(out, str_from(ctx_name(ctx)));
}

static uint16_t source_of(const struct ctx *ctx)
{
    return ctx_source(ctx) ? ctx_source(ctx)->number : 0;
}

static void add_item(struct buf *out, const struct event_item *item)
{
    buf_printf(out, "{\"kind\":\"%s\",\"ts\":", item->kind == RECORD_ATTRIBUTES ? "attribute" : "telemetry");
    if (item->kind == RECORD_ATTRIBUTES || item->ts == EVENT_NO_TS)
        buf_add_z(out, "null");
    else
        buf_printf(out, "%" PRId64, item->ts);
    buf_add_z(out, ",\"key\":");
    buf_add_str(out, str_cut(item->key, item->key.n - 1)); /* without its colon */
    if (item->text.n <= TEXT_MAX) {
        buf_add_z(out, ",\"value\":");
        buf_add_str(out, item->text);
    } else {
        buf_printf(out, ",\"bytes\":%zu", item->text.n);
    }
    buf_add_u8(out, '}');
}

void tail_values(struct tail *tail, struct ctx *ctx, const struct event *event)
{
    autobuf struct buf out = {0};
    uint16_t source = source_of(ctx);
    size_t i;

    if (!is_wanted(tail, CTX_TAP_VALUES, event->dev->hash, source))
        return;
    begin(&out, ctx);
    buf_printf(&out, ",\"device\":" STR_FMT ",\"values\":[", event->dev->json_n, event->dev->json);
    for (i = 0; i < event->n && i < VALUES_A_LINE && out.n < LINE_FULL; i++) {
        buf_add_z(&out, i ? "," : "");
        add_item(&out, &event->items[i]);
    }
    buf_printf(&out, "],\"more\":%zu}", event->n - i);
    post(tail, CTX_TAP_VALUES, event->dev->hash, source, &out);
}

void tail_wire(struct tail *tail, struct ctx *ctx, bool is_out, struct str subject, struct str bytes)
{
    autobuf struct buf out = {0};
    uint16_t source = source_of(ctx);
    struct str part = str_cut(bytes, TEXT_MAX);

    if (!is_wanted(tail, CTX_TAP_WIRE, 0, source))
        return;
    begin(&out, ctx);
    buf_printf(&out, ",\"direction\":\"%s\",\"subject\":", is_out ? "out" : "in");
    json_add_string(&out, str_cut(subject, TEXT_MAX));
    buf_printf(&out, ",\"bytes\":%zu", bytes.n);
    while (part.n && part.n < bytes.n && ((uint8_t)bytes.p[part.n] & 0xc0) == 0x80) /* not within a character */
        part.n--;
    if (utf8_is_valid(part) && !memchr(part.p ? part.p : "", 0, part.n)) {
        buf_add_z(&out, ",\"text\":");
        json_add_string(&out, part);
    } else {
        buf_add_z(&out, ",\"hex\":\"");
        hex_add(&out, part.p, part.n);
        buf_add_u8(&out, '"');
    }
    buf_add_u8(&out, '}');
    post(tail, CTX_TAP_WIRE, 0, source, &out);
}

/* --- main --------------------------------------------------------------------------------------------------------------------- */

/* False: there is no room for it either. */
static bool tell_left_out(struct listener *listener)
{
    uint64_t n = atomic_load_explicit(&listener->tail->n_left_out, memory_order_relaxed);
    autobuf struct buf out = {0};

    listener->n_left_out += n - listener->n_seen;
    listener->n_seen = n;
    if (!listener->n_left_out)
        return true;
    buf_printf(&out, "{\"leftOut\":%" PRIu64 "}", listener->n_left_out);
    if (!control_send(listener->request, buf_str(&out)))
        return false;
    listener->n_left_out = 0;
    return true;
}

static void lines_arrived(void *arg, struct node *nodes)
{
    struct tail *tail = arg;

    while (nodes) {
        struct line *line = CONTAINER_OF(nodes, struct line, node);

        nodes = nodes->next;
        for (size_t i = 0; i < LISTENERS_MAX; i++) {
            struct listener *listener = &tail->listeners[i];

            if (!listener->request || !hears(listener, line->what, line->device, line->source))
                continue;
            if (!tell_left_out(listener) || !control_send(listener->request, str_of(line->json, line->n)))
                listener->n_left_out++;
        }
        atomic_fetch_sub_explicit(&tail->n_under_way, line->n, memory_order_relaxed);
        mem_free(line);
    }
}

static void report(void *arg)
{
    struct tail *tail = arg;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (tail->listeners[i].request && !tell_left_out(&tail->listeners[i]))
            continue; /* again in a second */
    timer_start_coarse(&tail->report, REPORT_MS);
}

static void update_taps(struct tail *tail)
{
    unsigned what = 0;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        what |= atomic_load_explicit(&tail->listeners[i].what, memory_order_relaxed);
    atomic_store(&ctx_taps, what);
    if (!what)
        timer_stop(&tail->report);
    else if (!timer_is_running(&tail->report))
        timer_start_coarse(&tail->report, REPORT_MS);
}

static void client_gone(void *arg, struct control_request *request)
{
    struct listener *listener = arg;

    (void)request;
    listener->request = NULL;
    atomic_store(&listener->what, 0);
    update_taps(listener->tail);
}

static void method_tail(void *arg, struct control_request *request, yyjson_val *params)
{
    struct tail *tail = arg;
    struct listener *listener = NULL;
    struct str name = json_str(json_get(params, STR("device")));
    bool is_wire = yyjson_is_true(json_get(params, STR("wire")));
    const struct device *dev = name.n ? device_find(name) : NULL;

    for (size_t i = 0; i < LISTENERS_MAX && !listener; i++)
        if (!tail->listeners[i].request)
            listener = &tail->listeners[i];
    if (!listener) {
        control_fail(request, ERR_BUSY, "%d others listen already", LISTENERS_MAX);
        return;
    }
    if (is_wire && name.n && (!dev || !atomic_load_explicit(&dev->source, memory_order_acquire))) {
        control_fail(request, ERR_NOTFOUND, "no device \"" STR_FMT "\" has been seen, so its connector is not known",
                     STR_ARG(name));
        return;
    }
    listener->n_left_out = 0;
    listener->n_seen = atomic_load_explicit(&tail->n_left_out, memory_order_relaxed);
    atomic_store(&listener->device, name.n && !is_wire ? hash_str(name) : 0);
    atomic_store(&listener->source, is_wire && dev ? atomic_load(&dev->source) : 0);
    listener->request = request;
    control_stream(request, client_gone, listener);
    atomic_store_explicit(&listener->what, is_wire ? CTX_TAP_WIRE : CTX_TAP_VALUES, memory_order_release);
    update_taps(tail);
}

void tail_add_methods(struct tail *tail, struct control *control)
{
    control_add(control, "tail", method_tail, tail);
}

struct tail *tail_new(struct loop *loop)
{
    struct tail *tail = mem_zero(sizeof *tail);

    tail->loop = loop;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        tail->listeners[i].tail = tail;
    mailbox_init(&tail->lines, loop, lines_arrived, tail);
    timer_init(&tail->report, loop, report, tail);
    return tail;
}

void tail_free(struct tail *tail)
{
    if (!tail)
        return;
    atomic_store(&ctx_taps, 0);
    timer_stop(&tail->report);
    for (struct node *nodes = queue_take(&tail->lines.queue); nodes;) {
        struct line *line = CONTAINER_OF(nodes, struct line, node);

        nodes = nodes->next;
        mem_free(line);
    }
    mem_free(tail);
}
