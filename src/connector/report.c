/* SPDX-License-Identifier: Apache-2.0 */
#include "connector/report.h"

#include "base/map.h"

#include <assert.h>
#include <string.h>

/*
 * report ─► table of devices ─► values of a device, in the order of first sight ─► key, shared by all devices
 *      └──► heap of the devices that have beats, by when they are due
 *
 * A beat is a phase and a period: all keys that came first in one message and have one period share one. A device has few
 * of them, whose next times are looked through when it is due.
 */
enum {
    TEXT_INLINE = 16,
    TEXT_MAX = (1 << 26) - 1,
    FEW_VALUES = 32,     /* looked through one by one; more have an index */
    SAME_INSTANT_MS = 10 /* keys of a device due within it go in one item */
};
#define NO_BEAT UINT32_MAX
#define NOT_DUE UINT64_MAX

struct key {
    uint32_t refs, n;
    uint64_t hash;
    char text[]; /* prepared, as event_key makes it */
};

struct value { /* 40 bytes */
    struct key *key;
    union {
        char small[TEXT_INLINE];
        char *big; /* text_n > TEXT_INLINE */
    };
    uint64_t expiry_ms; /* REPORT_NEVER: for ever */
    uint32_t text_n : 26, is_attribute : 1, must_send : 1;
    uint32_t beat; /* NO_BEAT: none */
};

struct beat {
    uint64_t due_ms;
    uint32_t period_ms;
    uint32_t n; /* values; 0: free */
};

struct reported { /* a device */
    const struct device *dev;
    struct value *values;
    struct beat *beats;
    uint32_t *index; /* value + 1, by hash; NULL: few */
    uint32_t n, cap, index_mask, n_beats;
    uint32_t next;    /* the value that probably comes next: sources repeat their order */
    uint32_t heap_at; /* from 1; 0: not in it */
    uint64_t due_ms;
    uint64_t n_lost;    /* of the device, when last looked at */
    uint32_t forgotten; /* report->forgotten when last looked at */
    bool is_paused;
};

struct report {
    struct report_outer outer;
    struct map keys;
    struct reported **table; /* open-addressed by the device's number */
    size_t mask, n_devices, n_values, n_bytes;
    struct reported **heap; /* heap[1] is due first */
    uint32_t n_heap, cap_heap;
    uint32_t forgotten; /* counts report_forget of all */
    size_t cleanup_at;
    uint64_t n_unremembered;
};

/* --- strategies ------------------------------------------------------------------------------------------------------ */

static bool filters(int type)
{
    return type != REPORT_ON_RECEIVED && type != REPORT_DISABLED;
}

static bool sends_changes(int type)
{
    return type == REPORT_ON_CHANGE || type == REPORT_ON_CHANGE_OR_REPORT_PERIOD;
}

static bool is_periodic(int type)
{
    return type == REPORT_ON_REPORT_PERIOD || type == REPORT_ON_CHANGE_OR_REPORT_PERIOD;
}

struct report_outer report_outer(const struct report_strategy *main, const struct report_strategy *connector)
{
    struct report_outer outer = {.strategy = report_on_change};
    int type = REPORT_ON_RECEIVED;

    outer.strategy.type = type;
    if (main) {
        outer.is_off = main->type == REPORT_DISABLED;
        outer.strategy = *main;
        type = main->type == REPORT_INHERIT ? type : main->type;
    }
    if (connector) {
        outer.strategy = *connector;
        type = connector->type == REPORT_INHERIT ? type : connector->type;
    }
    outer.strategy.type = type;
    outer.strategy.aggregation = NULL;
    outer.filters = !outer.is_off && filters(type);
    return outer;
}

/* The innermost level decides alone; only a missing type is that of the next outer one. */
static const struct report_strategy *strategy_of(const struct report *report, const struct event *event,
                                                 const struct event_item *item, int *type)
{
    const struct report_strategy *inner = item->report, *outer = event->report;

    if (!inner) {
        inner = outer;
        outer = NULL;
    }
    if (!inner) {
        *type = report->outer.strategy.type;
        return &report->outer.strategy;
    }
    if (inner->type != REPORT_INHERIT)
        *type = inner->type;
    else if (outer && outer->type != REPORT_INHERIT)
        *type = outer->type;
    else
        *type = report->outer.strategy.type;
    return inner;
}

/* --- keys and values ------------------------------------------------------------------------------------------------- */

static struct key *key_ref(struct report *report, struct str text)
{
    uint64_t hash = hash_str(text);
    struct key *key = report->keys.n ? map_get_hashed(&report->keys, text, hash) : NULL;

    if (!key) {
        key = mem_new(sizeof *key + text.n);
        *key = (struct key){.n = (uint32_t)text.n, .hash = hash};
        memcpy(key->text, text.p, text.n);
        (void)map_put(&report->keys, str_of(key->text, text.n), key);
    }
    key->refs++;
    return key;
}

static void key_unref(struct report *report, struct key *key)
{
    if (--key->refs > 0)
        return;
    (void)map_del(&report->keys, str_of(key->text, key->n));
    mem_free(key);
}

static struct str value_str(const struct value *value)
{
    return str_of(value->text_n > TEXT_INLINE ? value->big : value->small, value->text_n);
}

static void value_drop_text(struct report *report, struct value *value)
{
    if (value->text_n > TEXT_INLINE) {
        report->n_bytes -= value->text_n;
        mem_free(value->big);
    }
    value->text_n = 0;
}

/* False: it does not fit. Then there is no text, and the next value is sent whatever it is. */
static bool value_set(struct report *report, struct value *value, struct str text)
{
    char *big = NULL;

    if (text.n > TEXT_INLINE) {
        if (text.n <= TEXT_MAX && report->n_bytes + text.n <= REPORT_MAX_BYTES)
            big = value->text_n == text.n ? value->big : mem_try(text.n);
        if (!big) {
            value_drop_text(report, value);
            value->must_send = true;
            report->n_unremembered++;
            return false;
        }
    }
    if (!big || big != value->big || value->text_n != text.n)
        value_drop_text(report, value);
    if (big) {
        if (value->text_n == 0)
            report->n_bytes += text.n;
        value->big = big;
    }
    memcpy(big ? big : value->small, text.p, text.n);
    value->text_n = (uint32_t)text.n & TEXT_MAX;
    value->must_send = false;
    return true;
}

static bool is_value_of(const struct value *value, const struct event_item *item)
{
    return value->is_attribute == (item->kind == RECORD_ATTRIBUTES) && value->key->n == item->key.n &&
           memcmp(value->key->text, item->key.p, item->key.n) == 0;
}

static uint32_t index_slot(const struct reported *dev, uint64_t hash, bool is_attribute)
{
    return (uint32_t)(hash + is_attribute) & dev->index_mask;
}

static void index_add(struct reported *dev, uint32_t number)
{
    uint32_t i = index_slot(dev, dev->values[number].key->hash, dev->values[number].is_attribute);

    while (dev->index[i])
        i = (i + 1) & dev->index_mask;
    dev->index[i] = number + 1;
}

static void index_build(struct reported *dev)
{
    uint32_t cap = FEW_VALUES * 2;

    mem_free(dev->index);
    dev->index = NULL;
    if (dev->n <= FEW_VALUES)
        return;
    while (cap < dev->n * 2)
        cap *= 2;
    dev->index = mem_zero(cap * sizeof *dev->index);
    dev->index_mask = cap - 1;
    for (uint32_t i = 0; i < dev->n; i++)
        index_add(dev, i);
}

static struct value *value_find(struct reported *dev, const struct event_item *item)
{
    uint32_t guess = dev->next < dev->n ? dev->next : 0, i;

    if (LIKELY(guess < dev->n && is_value_of(&dev->values[guess], item))) {
        dev->next = guess + 1;
        return &dev->values[guess];
    }
    if (dev->index) {
        i = index_slot(dev, hash_str(item->key), item->kind == RECORD_ATTRIBUTES);
        while (dev->index[i] && !is_value_of(&dev->values[dev->index[i] - 1], item))
            i = (i + 1) & dev->index_mask;
        i = dev->index[i] ? dev->index[i] - 1 : dev->n;
    } else {
        for (i = 0; i < dev->n && !is_value_of(&dev->values[i], item);)
            i++;
    }
    if (i == dev->n)
        return NULL;
    dev->next = i + 1;
    return &dev->values[i];
}

static size_t bytes_of(const struct report *report)
{
    return report->n_bytes + report->n_values * sizeof(struct value) + report->n_devices * sizeof(struct reported);
}

/* NULL: the memory is full. */
static struct value *value_add(struct report *report, struct reported *dev, const struct event_item *item)
{
    struct value *value;

    if (bytes_of(report) > REPORT_MAX_BYTES) {
        report->n_unremembered++;
        return NULL;
    }
    if (dev->n == dev->cap) {
        dev->cap += dev->cap / 2 < 4 ? 4 : dev->cap / 2;
        dev->values = mem_grow(dev->values, dev->cap * sizeof *dev->values);
    }
    value = &dev->values[dev->n];
    *value = (struct value){.key = key_ref(report, item->key),
                            .is_attribute = item->kind == RECORD_ATTRIBUTES,
                            .must_send = true,
                            .beat = NO_BEAT};
    dev->n++;
    dev->next = dev->n;
    report->n_values++;
    if (dev->index && dev->n * 2 <= dev->index_mask + 1)
        index_add(dev, dev->n - 1);
    else if (dev->n > FEW_VALUES)
        index_build(dev);
    return value;
}

/* --- devices --------------------------------------------------------------------------------------------------------- */

static size_t table_slot(const struct report *report, const struct device *dev)
{
    size_t i = (dev->number * (size_t)0x9e3779b1u) & report->mask;

    while (report->table[i] && report->table[i]->dev != dev)
        i = (i + 1) & report->mask;
    return i;
}

static struct reported *device_of(const struct report *report, const struct device *dev)
{
    return report->table ? report->table[table_slot(report, dev)] : NULL;
}

static void table_grow(struct report *report)
{
    struct reported **old = report->table;
    size_t n = old ? report->mask + 1 : 0;

    report->mask = n ? n * 2 - 1 : 15;
    report->table = mem_zero((report->mask + 1) * sizeof(struct reported *));
    for (size_t i = 0; i < n; i++)
        if (old[i])
            report->table[table_slot(report, old[i]->dev)] = old[i];
    mem_free(old);
}

static void table_del(struct report *report, size_t at)
{
    size_t hole = at;

    report->table[hole] = NULL;
    for (size_t i = (at + 1) & report->mask; report->table[i]; i = (i + 1) & report->mask) {
        struct reported *dev = report->table[i];
        size_t slot;

        report->table[i] = NULL;
        slot = table_slot(report, dev->dev);
        report->table[slot] = dev;
    }
}

/* What the store dropped and the platform rejected; their writers are other threads. A drop that is not seen yet is seen at a
 * later value. */
static uint64_t n_lost(const struct device *dev)
{
    return atomic_load_explicit(&dev->n_overflowed, memory_order_relaxed) +
           atomic_load_explicit(&dev->n_rejected, memory_order_relaxed);
}

static struct reported *device_add(struct report *report, const struct device *dev)
{
    struct reported *reported = mem_zero(sizeof *reported);

    if (!report->table || report->n_devices >= (report->mask + 1) / 4 * 3)
        table_grow(report);
    reported->dev = dev;
    reported->due_ms = NOT_DUE;
    reported->n_lost = n_lost(dev);
    reported->forgotten = report->forgotten;
    report->table[table_slot(report, dev)] = reported;
    report->n_devices++;
    return reported;
}

static void send_all_next(struct reported *dev)
{
    for (uint32_t i = 0; i < dev->n; i++)
        dev->values[i].must_send = true;
}

static void notice_losses(struct report *report, struct reported *dev)
{
    uint64_t n = n_lost(dev->dev);

    if (LIKELY(n == dev->n_lost && report->forgotten == dev->forgotten))
        return;
    dev->n_lost = n;
    dev->forgotten = report->forgotten;
    send_all_next(dev);
}

/* --- heap ------------------------------------------------------------------------------------------------------------ */

static void heap_set(struct report *report, uint32_t at, struct reported *dev)
{
    report->heap[at] = dev;
    dev->heap_at = at;
}

static void heap_sift(struct report *report, uint32_t at)
{
    struct reported *dev = report->heap[at];

    while (at > 1 && report->heap[at / 2]->due_ms > dev->due_ms) {
        heap_set(report, at, report->heap[at / 2]);
        at /= 2;
    }
    for (;;) {
        uint32_t child = at * 2;

        if (child < report->n_heap && report->heap[child + 1]->due_ms < report->heap[child]->due_ms)
            child++;
        if (child > report->n_heap || report->heap[child]->due_ms >= dev->due_ms)
            break;
        heap_set(report, at, report->heap[child]);
        at = child;
    }
    heap_set(report, at, dev);
}

static void heap_put(struct report *report, struct reported *dev)
{
    if (!dev->heap_at) {
        if (report->n_heap + 1 >= report->cap_heap) {
            report->cap_heap = report->cap_heap ? report->cap_heap * 2 : 16;
            report->heap = mem_grow(report->heap, report->cap_heap * sizeof(struct reported *));
        }
        heap_set(report, ++report->n_heap, dev);
    }
    heap_sift(report, dev->heap_at);
}

static void heap_take_out(struct report *report, struct reported *dev)
{
    uint32_t at = dev->heap_at;
    struct reported *last;

    if (!at)
        return;
    dev->heap_at = 0;
    last = report->heap[report->n_heap--];
    if (last == dev)
        return;
    heap_set(report, at, last);
    heap_sift(report, at);
}

/* --- beats ----------------------------------------------------------------------------------------------------------- */

/* Due is the device when its earliest beat is, and those that follow within an instant. */
static void find_due(struct report *report, struct reported *dev)
{
    uint64_t first = NOT_DUE, due = 0;

    for (uint32_t i = 0; i < dev->n_beats; i++)
        if (dev->beats[i].n && dev->beats[i].due_ms < first)
            first = dev->beats[i].due_ms;
    for (uint32_t i = 0; first != NOT_DUE && i < dev->n_beats; i++)
        if (dev->beats[i].n && dev->beats[i].due_ms - first < SAME_INSTANT_MS && dev->beats[i].due_ms > due)
            due = dev->beats[i].due_ms;
    dev->due_ms = first == NOT_DUE ? NOT_DUE : due;
    if (dev->due_ms == NOT_DUE || dev->is_paused)
        heap_take_out(report, dev);
    else
        heap_put(report, dev);
}

static void leave_beat(struct reported *dev, struct value *value)
{
    if (value->beat != NO_BEAT)
        dev->beats[value->beat].n--;
    value->beat = NO_BEAT;
}

static void join_beat(struct report *report, struct reported *dev, struct value *value, uint64_t now_ms,
                      uint32_t period_ms)
{
    uint64_t due_ms = now_ms + period_ms;
    uint32_t found = NO_BEAT;

    for (uint32_t i = 0; i < dev->n_beats; i++) {
        const struct beat *beat = &dev->beats[i];

        if (beat->n == 0)
            found = i;
        else if (beat->due_ms == due_ms && beat->period_ms == period_ms) {
            value->beat = i;
            dev->beats[i].n++;
            return;
        }
    }
    if (found == NO_BEAT) {
        dev->beats = mem_grow(dev->beats, (dev->n_beats + 1) * sizeof *dev->beats);
        found = dev->n_beats++;
    }
    dev->beats[found] = (struct beat){.due_ms = due_ms, .period_ms = period_ms, .n = 1};
    value->beat = found;
    find_due(report, dev);
}

/* The next time of its beat behind now. */
static void step_beat(struct beat *beat, uint64_t now_ms)
{
    if (beat->due_ms <= now_ms)
        beat->due_ms += ((now_ms - beat->due_ms) / beat->period_ms + 1) * beat->period_ms;
}

/* --- the filter ------------------------------------------------------------------------------------------------------ */

static uint64_t expiry_of(const struct report_strategy *strategy, uint64_t now_ms)
{
    return strategy->ttl_ms ? now_ms + strategy->ttl_ms : REPORT_NEVER;
}

static bool passes_first(struct report *report, struct reported *dev, struct value *value,
                         const struct event_item *item, const struct report_strategy *strategy, int type,
                         uint64_t now_ms)
{
    leave_beat(dev, value);
    value->expiry_ms = expiry_of(strategy, now_ms);
    if (value_set(report, value, item->text) && is_periodic(type))
        join_beat(report, dev, value, now_ms, strategy->period_ms);
    return true;
}

static bool passes(struct report *report, struct reported *dev, const struct event_item *item,
                   const struct report_strategy *strategy, int type, uint64_t now_ms)
{
    struct value *value = value_find(dev, item);
    bool is_resent;

    if (UNLIKELY(!value)) {
        value = value_add(report, dev, item);
        return !value || passes_first(report, dev, value, item, strategy, type, now_ms);
    }
    if (UNLIKELY(value->expiry_ms <= now_ms || value->text_n == 0))
        return passes_first(report, dev, value, item, strategy, type, now_ms);
    if (UNLIKELY(is_periodic(type) != (value->beat != NO_BEAT))) { /* the same key by another strategy */
        leave_beat(dev, value);
        if (is_periodic(type))
            join_beat(report, dev, value, now_ms, strategy->period_ms);
    }
    is_resent = value->must_send;
    if (!is_resent && report_equal(value_str(value), item->text, sends_changes(type) ? strategy : NULL))
        return false;
    value->expiry_ms = expiry_of(strategy, now_ms);
    if (!value_set(report, value, item->text)) {
        leave_beat(dev, value);
        return true;
    }
    return is_resent || sends_changes(type);
}

unsigned report_filter(struct report *report, struct event *event, uint64_t now_ms)
{
    struct reported *dev = NULL;
    size_t n = 0, n_before = event->n;

    if (report->outer.is_off)
        return 0;
    for (size_t i = 0; i < n_before; i++) {
        const struct event_item *item = &event->items[i];
        int type;
        const struct report_strategy *strategy = strategy_of(report, event, item, &type);

        if (filters(type)) {
            if (!dev) {
                dev = device_of(report, event->dev);
                if (!dev)
                    dev = device_add(report, event->dev);
                notice_losses(report, dev);
            }
            if (!passes(report, dev, item, strategy, type, now_ms))
                continue;
        }
        if (n != i)
            event->items[n] = *item;
        n++;
    }
    event->n = n;
    return (unsigned)(n_before - n);
}

void report_forget(struct report *report, const struct device *dev)
{
    struct reported *reported;

    if (!dev)
        report->forgotten++; /* each device notices it at its next value */
    else if ((reported = device_of(report, dev)))
        send_all_next(reported);
}

/* --- periodic reports ------------------------------------------------------------------------------------------------ */

uint64_t report_due(const struct report *report)
{
    return report->n_heap ? report->heap[1]->due_ms : REPORT_NEVER;
}

/* Expired values leave their beat; their memory goes with report_cleanup. */
static void add_due(struct report *report, struct reported *dev, struct event *event, uint64_t now_ms)
{
    for (uint32_t i = 0; i < dev->n; i++) {
        struct value *value = &dev->values[i];

        if (value->beat == NO_BEAT || dev->beats[value->beat].due_ms > now_ms)
            continue;
        if (value->expiry_ms <= now_ms) {
            leave_beat(dev, value);
            value_drop_text(report, value);
            continue;
        }
        event_add(event, value->is_attribute ? RECORD_ATTRIBUTES : RECORD_TELEMETRY,
                  str_of(value->key->text, value->key->n), value_str(value), EVENT_NO_TS);
    }
}

bool report_take(struct report *report, struct event *event, uint64_t now_ms)
{
    while (report->n_heap && report->heap[1]->due_ms <= now_ms) {
        struct reported *dev = report->heap[1];

        if (atomic_load_explicit(&dev->dev->link, memory_order_relaxed) == DEVICE_LINK_DOWN) {
            dev->is_paused = true;
            heap_take_out(report, dev);
            continue;
        }
        event_begin(event, (struct device *)(uintptr_t)dev->dev, STR_NONE);
        add_due(report, dev, event, now_ms);
        for (uint32_t i = 0; i < dev->n_beats; i++)
            step_beat(&dev->beats[i], now_ms);
        find_due(report, dev);
        if (event->n) {
            event->keys_unique = true;
            return true;
        }
    }
    return false;
}

static void resume(struct report *report, struct reported *dev, uint64_t now_ms)
{
    dev->is_paused = false;
    for (uint32_t i = 0; i < dev->n_beats; i++)
        step_beat(&dev->beats[i], now_ms);
    find_due(report, dev);
}

void report_resume(struct report *report, const struct device *dev, uint64_t now_ms)
{
    struct reported *reported = dev ? device_of(report, dev) : NULL;

    if (reported && reported->is_paused)
        resume(report, reported, now_ms);
    if (!dev && report->n_heap)
        for (size_t i = 0; i <= report->mask; i++)
            if (report->table[i] && !report->table[i]->is_paused)
                resume(report, report->table[i], now_ms);
}

/* --- memory ---------------------------------------------------------------------------------------------------------- */

static void device_free(struct report *report, struct reported *dev)
{
    heap_take_out(report, dev);
    for (uint32_t i = 0; i < dev->n; i++) {
        value_drop_text(report, &dev->values[i]);
        key_unref(report, dev->values[i].key);
    }
    report->n_values -= dev->n;
    report->n_devices--;
    mem_free(dev->values);
    mem_free(dev->beats);
    mem_free(dev->index);
    mem_free(dev);
}

/* False: none is left. */
static bool device_cleanup(struct report *report, struct reported *dev, uint64_t now_ms)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < dev->n; i++) {
        struct value *value = &dev->values[i];

        if (value->expiry_ms > now_ms && value->text_n) {
            dev->values[n++] = *value;
            continue;
        }
        leave_beat(dev, value);
        value_drop_text(report, value);
        key_unref(report, value->key);
        report->n_values--;
    }
    if (n == dev->n)
        return true;
    dev->n = n;
    dev->next = 0;
    if (n == 0)
        return false;
    dev->cap = n;
    dev->values = mem_grow(dev->values, n * sizeof *dev->values);
    index_build(dev);
    find_due(report, dev);
    return true;
}

bool report_cleanup(struct report *report, uint64_t now_ms, size_t max_values)
{
    size_t n = 0;

    while (report->table && report->cleanup_at <= report->mask) {
        struct reported *dev = report->table[report->cleanup_at];

        if (n >= max_values)
            return false;
        n += 1 + (dev ? dev->n : 0);
        if (dev && !device_cleanup(report, dev, now_ms)) {
            table_del(report, report->cleanup_at); /* another one may stand here now */
            device_free(report, dev);
        } else {
            report->cleanup_at++;
        }
    }
    report->cleanup_at = 0;
    return true;
}

struct report_stats report_stats(const struct report *report)
{
    return (struct report_stats){.n_devices = report->n_devices,
                                 .n_values = report->n_values,
                                 .n_bytes = bytes_of(report),
                                 .n_periodic = report->n_heap,
                                 .n_unremembered = report->n_unremembered};
}

struct report *report_new(const struct report_outer *outer)
{
    struct report *report = mem_zero(sizeof *report);

    report->outer = *outer;
    return report;
}

void report_free(struct report *report)
{
    if (!report)
        return;
    for (size_t i = 0; report->table && i <= report->mask; i++)
        if (report->table[i])
            device_free(report, report->table[i]);
    assert(report->n_values == 0 && report->keys.n == 0);
    map_fini(&report->keys);
    mem_free(report->table);
    mem_free(report->heap);
    mem_free(report);
}
