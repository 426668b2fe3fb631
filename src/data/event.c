/* SPDX-License-Identifier: Apache-2.0 */
#include "data/event.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "data/json.h"

/* What becomes one record, or several when it is above the limits. Items are linked through the event's scratch. */
struct group {
    int64_t ts;
    enum record_kind kind;
    uint32_t first, last; /* items, from 1; 0: none */
    size_t n, body_n;     /* body: keys, texts and the commas between */
};

/* Where records are put. */
struct writer {
    const struct event *event;
    struct str name, profile;
    int64_t unsure_ts; /* EVENT_NO_TS: none is */
    uint8_t *at;
    struct record *record; /* last one sealed or being written */
};

enum { NONE = 0 };

void event_init(struct event *event)
{
    *event = (struct event){0};
    arena_init(&event->arena, 0);
}

void event_fini(struct event *event)
{
    mem_free(event->items);
    arena_fini(&event->arena);
    buf_fini(&event->scratch);
    *event = (struct event){0};
}

void event_begin(struct event *event, struct device *dev, struct str profile)
{
    event->dev = dev;
    event->profile = profile;
    event->n = 0;
    event->report = NULL;
    event->meta = STR_NONE;
    event->has_report = event->keys_unique = event->time_unsure = false;
    arena_reset(&event->arena);
}

void event_add(struct event *event, enum record_kind kind, struct str key, struct str text, int64_t ts)
{
    event_add_reported(event, kind, key, text, ts, NULL);
}

void event_add_reported(struct event *event, enum record_kind kind, struct str key, struct str text, int64_t ts,
                        const struct report_strategy *report)
{
    if (UNLIKELY(event->n == event->cap)) {
        event->cap = event->cap ? event->cap * 2 : 32;
        event->items = mem_grow(event->items, event->cap * sizeof *event->items);
    }
    event->items[event->n++] = (struct event_item){key, text, ts, kind, report};
    event->has_report |= report != NULL;
}

void event_set_report(struct event *event, const struct report_strategy *report)
{
    event->report = report;
    event->has_report |= report != NULL;
}

/* --- keys ----------------------------------------------------------------------------------------------------------- */
static bool is_blank(uint32_t c)
{
    return c == ' ' || c == 0x1680 || (c >= 0x2000 && c <= 0x200a && c != 0x2007) || c == 0x2028 || c == 0x2029 ||
           c == 0x205f || c == 0x3000;
}

static bool is_letter(char c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static enum err key_check(struct str name, struct why *why)
{
    enum { MAX_UNITS = 255 }; /* the platform counts as Java does: a character beyond U+FFFF is two */
    bool all_blank = true;
    size_t n_units = 0;

    for (size_t i = 0; i < name.n;) {
        size_t at = i;
        uint32_t c = utf8_next(name, &i);

        if (c == UINT32_MAX)
            return why_set(why, ERR_RANGE, "the key is not valid UTF-8 at byte %zu", at);
        if (c < 0x20 || c == 0x7f)
            return why_set(why, ERR_RANGE, "the key contains a control character (U+%04X) at byte %zu", (unsigned)c,
                           at);
        if (c == '<' && i < name.n && is_letter(name.p[i]))
            return why_set(why, ERR_RANGE,
                           "the key \"" STR_FMT "\" looks like HTML (\"<\" before a letter), which the platform drops",
                           STR_ARG(str_cut(name, 255)));
        all_blank &= is_blank(c);
        n_units += c > 0xffff ? 2 : 1;
    }
    if (all_blank)
        return why_set(why, ERR_RANGE, name.n ? "the key is blank" : "the key is empty");
    if (n_units > MAX_UNITS)
        return why_set(why, ERR_RANGE, "the key has %zu characters: at most %d are allowed", n_units, MAX_UNITS);
    return ERR_OK;
}

enum err event_key(struct arena *arena, struct str name, struct str *out, struct why *why)
{
    enum err err = key_check(name, why);
    char *begin, *p;

    if (err)
        return err;
    begin = p = arena_chars(arena, 2 * name.n + 3);
    *p++ = '"';
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            *p++ = '\\';
        *p++ = name.p[i];
    }
    *p++ = '"';
    *p++ = ':';
    *out = (struct str){begin, (size_t)(p - begin)};
    return ERR_OK;
}

unsigned event_replace_nul(struct event *event)
{
    unsigned n = 0;

    for (size_t i = 0; i < event->n; i++) {
        struct event_item *item = &event->items[i];
        size_t at = event_item_has_escape(item) ? json_find_nul(item->text, 0) : item->text.n;
        char *copy;

        if (at == item->text.n)
            continue;
        copy = arena_chars(&event->arena, item->text.n);
        memcpy(copy, item->text.p, item->text.n);
        (void)json_replace_nul(copy + at, item->text.n - at);
        item->text = (struct str){copy, item->text.n};
        n++;
    }
    return n;
}

/* --- writing -------------------------------------------------------------------------------------------------------- */
/* memcpy without the call for what keys and numbers are like. */
static inline uint8_t *put(uint8_t *to, struct str s)
{
    const char *p = s.p;
    size_t n = s.n;

    if (n > 32) {
        memcpy(to, p, n);
    } else if (n > 16) {
        memcpy(to, p, 16);
        memcpy(to + n - 16, p + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, p, 8);
        memcpy(to + n - 8, p + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, p, 4);
        memcpy(to + n - 4, p + n - 4, 4);
    } else if (n) {
        to[0] = (uint8_t)p[0];
        to[n / 2] = (uint8_t)p[n / 2];
        to[n - 1] = (uint8_t)p[n - 1];
    }
    return to + n;
}

static inline uint8_t *put_item(uint8_t *at, const struct event_item *item)
{
    return put(put(at, item->key), item->text);
}

/* Head and names. The body follows; then end_record. */
static uint8_t *begin_record(struct writer *writer, enum record_kind kind, int64_t ts, size_t n_values)
{
    struct record *record = (struct record *)(void *)writer->at;

    writer->record = record;
    *record = (struct record){
        .ts = ts == EVENT_NO_TS ? 0 : ts,
        .dev = writer->event->dev->number,
        .n_values = (uint16_t)n_values,
        .flags = ts == EVENT_NO_TS         ? RECORD_NO_TS
                 : ts == writer->unsure_ts ? RECORD_TIME_UNSURE
                                           : 0,
        .kind = (uint16_t)kind,
        .name_n = (uint16_t)writer->name.n,
        .profile_n = (uint16_t)writer->profile.n,
    };
    return put(put((uint8_t *)(record + 1), writer->name), writer->profile);
}

static void end_record(struct writer *writer, size_t body_n, bool is_last)
{
    if (is_last)
        writer->record->flags |= RECORD_END;
    record_seal(writer->record, body_n);
    writer->at += writer->record->size;
}

/* What cannot be a profile must not get to the disk, where record_check would call the record corrupt. */
static struct str profile_of(const struct event *event)
{
    const char *known = atomic_load_explicit(&event->dev->profile, memory_order_relaxed);
    struct str profile = known ? str_from(known) : STR("default");

    if (event->profile.n == 0 || str_eq(event->profile, profile))
        return profile;
    known = device_profile_intern(event->profile);
    return known ? event->profile : profile;
}

static void begin_writer(struct writer *writer, const struct event *event, int64_t ts_ms)
{
    *writer = (struct writer){.event = event,
                              .name = device_name(event->dev),
                              .profile = profile_of(event),
                              .unsure_ts = event->time_unsure ? ts_ms : EVENT_NO_TS};
}

/* --- the plain case: no doubles, one time ----------------------------------------------------------------------------- */
struct plain {
    size_t body_n[2], n[2]; /* attributes, telemetry */
    int64_t ts;
};

/* False: several times, or above a limit. */
static bool plain_measure(const struct event *event, int64_t ts_ms, const struct event_limits *limits,
                          size_t max_values, struct plain *out)
{
    const struct event_item *item = event->items, *end = item + event->n;

    *out = (struct plain){.ts = EVENT_NO_TS};
    for (; item < end; item++) {
        bool is_telemetry = item->kind == RECORD_TELEMETRY;

        if (is_telemetry) {
            int64_t ts = item->ts == EVENT_NO_TS ? ts_ms : item->ts;

            if (out->n[1] == 0)
                out->ts = ts;
            else if (ts != out->ts)
                return false;
        }
        out->body_n[is_telemetry] += item->key.n + item->text.n + 1;
        out->n[is_telemetry]++;
    }
    for (int i = 0; i < 2; i++) {
        if (out->n[i])
            out->body_n[i]--; /* no comma before the first */
        if (out->n[i] > max_values || (limits->max_bytes && out->body_n[i] > limits->max_bytes && out->n[i] > 1))
            return false;
    }
    return true;
}

static enum err plain_write(const struct event *event, int64_t ts_ms, const struct plain *plain,
                            struct record_sink *sink)
{
    struct writer writer;
    size_t total = 0;

    begin_writer(&writer, event, ts_ms);
    for (int i = 0; i < 2; i++)
        if (plain->n[i])
            total += record_size(writer.name.n, writer.profile.n, plain->body_n[i]);
    if (total > BATCH_MAX_BYTES)
        return ERR_LIMIT;
    writer.at = sink->room(sink, total);
    if (!writer.at)
        return ERR_NOMEM;
    for (int i = 0; i < 2; i++) {
        enum record_kind kind = i ? RECORD_TELEMETRY : RECORD_ATTRIBUTES;
        size_t left = plain->n[i];
        uint8_t *at;

        if (left == 0)
            continue;
        at = begin_record(&writer, kind, i ? plain->ts : ts_ms, left);
        for (const struct event_item *item = event->items;; item++) {
            if (item->kind != kind)
                continue;
            at = put_item(at, item);
            if (--left == 0)
                break;
            *at++ = ',';
        }
        end_record(&writer, plain->body_n[i], i == 1 || plain->n[1] == 0);
    }
    return ERR_OK;
}

/* --- the general case --------------------------------------------------------------------------------------------- */
/* In the event's scratch. Item and group numbers count from 1; tables are open-addressed, a power of two, half empty. */
struct work {
    size_t n, mask;
    uint32_t *next;        /* item → next item of its group */
    uint32_t *item_table;  /* by (kind, ts, key) → item */
    uint32_t *group_table; /* by (kind, ts) → group */
    struct group *groups;
    size_t n_groups;
};

static void work_init(struct work *work, struct event *event)
{
    size_t n = event->n, cap = 16, size;
    uint8_t *p;

    while (cap < n * 2)
        cap *= 2;
    size = n * sizeof(struct group) + (n + 1 + 2 * cap) * sizeof(uint32_t);
    event->scratch.n = 0;
    p = buf_room(&event->scratch, size);
    *work = (struct work){.n = n, .mask = cap - 1, .groups = (struct group *)(void *)p};
    work->next = (uint32_t *)(void *)(p + n * sizeof(struct group));
    work->item_table = work->next + n + 1;
    work->group_table = work->item_table + cap;
    memset(work->next, 0, (n + 1 + 2 * cap) * sizeof(uint32_t));
}

static uint64_t group_hash(enum record_kind kind, int64_t ts)
{
    return hash_mix((uint64_t)ts ^ 0xa0761d6478bd642full, hash_seed ^ (uint64_t)kind);
}

static int64_t item_ts(const struct event_item *item, int64_t ts_ms)
{
    if (item->kind != RECORD_TELEMETRY)
        return ts_ms;
    return item->ts == EVENT_NO_TS ? ts_ms : item->ts;
}

static struct group *group_of(struct work *work, enum record_kind kind, int64_t ts, uint64_t hash)
{
    struct group *group;
    size_t i;

    for (i = hash & work->mask; work->group_table[i] != NONE; i = (i + 1) & work->mask) {
        group = &work->groups[work->group_table[i] - 1];
        if (group->kind == kind && group->ts == ts)
            return group;
    }
    group = &work->groups[work->n_groups++];
    work->group_table[i] = (uint32_t)work->n_groups;
    *group = (struct group){.ts = ts, .kind = kind};
    return group;
}

/* Puts the item into its group; or, if its key is there already, its text into the earlier place. */
static void work_add(struct work *work, struct event *event, uint32_t number, int64_t ts_ms)
{
    struct event_item *item = &event->items[number - 1];
    int64_t ts = item_ts(item, ts_ms);
    uint64_t hash = group_hash(item->kind, ts);
    struct group *group = group_of(work, item->kind, ts, hash);

    if (!event->keys_unique) {
        size_t i = hash_mix(hash, hash_str(item->key)) & work->mask;

        for (; work->item_table[i] != NONE; i = (i + 1) & work->mask) {
            struct event_item *other = &event->items[work->item_table[i] - 1];

            if (other->kind == item->kind && item_ts(other, ts_ms) == ts && str_eq(other->key, item->key)) {
                group->body_n += item->text.n - other->text.n;
                other->text = item->text;
                return;
            }
        }
        work->item_table[i] = number;
    }
    if (group->last)
        work->next[group->last] = number;
    else
        group->first = number;
    group->last = number;
    group->n++;
    group->body_n += item->key.n + item->text.n + (group->n > 1);
}

/* The part of a group that starts at an item: as many as the limits allow, at least one. Gives the item behind it. */
struct part {
    size_t n, body_n;
};

static uint32_t next_part(const struct work *work, const struct event *event, uint32_t number,
                          const struct event_limits *limits, size_t max_values, struct part *part)
{
    *part = (struct part){0};
    for (; number != NONE; number = work->next[number]) {
        const struct event_item *item = &event->items[number - 1];
        size_t more = item->key.n + item->text.n + (part->n > 0);

        if (part->n == max_values || (part->n && limits->max_bytes && part->body_n + more > limits->max_bytes))
            break;
        part->n++;
        part->body_n += more;
    }
    return number;
}

/* What stands behind the body of each of its records. */
static struct str meta_of(const struct event *event, const struct group *group)
{
    return group->kind == RECORD_TELEMETRY && group->ts != EVENT_NO_TS && event->meta.n <= UINT16_MAX ? event->meta
                                                                                                      : STR_NONE;
}

/* The payload's limit holds for values and metadata together. */
static struct event_limits limits_beside(const struct event_limits *limits, struct str meta)
{
    size_t n = meta.n + RECORD_META_ROOM;
    struct event_limits left = *limits;

    if (meta.n && left.max_bytes)
        left.max_bytes = left.max_bytes > n ? left.max_bytes - n : 1; /* 1: each value alone */
    return left;
}

static size_t group_size(const struct work *work, const struct group *group, const struct writer *writer,
                         const struct event_limits *limits, size_t max_values)
{
    struct str meta = meta_of(writer->event, group);
    struct event_limits left = limits_beside(limits, meta);
    size_t size = 0, meta_n = meta.n;
    struct part part;

    if (group->n <= max_values && (!left.max_bytes || group->body_n <= left.max_bytes))
        return record_size(writer->name.n, writer->profile.n, group->body_n + meta_n);
    for (uint32_t number = group->first; number != NONE;) {
        number = next_part(work, writer->event, number, &left, max_values, &part);
        size += record_size(writer->name.n, writer->profile.n, part.body_n + meta_n);
    }
    return size;
}

static void write_group(struct writer *writer, const struct work *work, const struct group *group,
                        const struct event_limits *limits, size_t max_values, bool is_last)
{
    const struct event *event = writer->event;
    struct str meta = meta_of(event, group);
    struct event_limits left = limits_beside(limits, meta);
    struct part part;

    for (uint32_t number = group->first, end; number != NONE; number = end) {
        uint8_t *at;

        end = next_part(work, event, number, &left, max_values, &part);
        at = begin_record(writer, group->kind, group->ts, part.n);
        for (;;) {
            at = put_item(at, &event->items[number - 1]);
            number = work->next[number];
            if (number == end)
                break;
            *at++ = ',';
        }
        if (UNLIKELY(meta.n > 0)) {
            put(at, meta);
            writer->record->flags |= RECORD_HAS_META;
            writer->record->spare = (uint16_t)meta.n;
        }
        end_record(writer, part.body_n + meta.n, is_last && end == NONE);
    }
}

static enum err general_encode(struct event *event, int64_t ts_ms, const struct event_limits *limits, size_t max_values,
                               struct record_sink *sink, unsigned *n_values)
{
    struct writer writer;
    struct work work;
    size_t total = 0, n = 0, n_left;

    if (event->n > UINT32_MAX / 4)
        return ERR_LIMIT;
    begin_writer(&writer, event, ts_ms);
    work_init(&work, event);
    for (uint32_t number = 1; number <= event->n; number++)
        work_add(&work, event, number, ts_ms);
    for (size_t i = 0; i < work.n_groups; i++) {
        total += group_size(&work, &work.groups[i], &writer, limits, max_values);
        n += work.groups[i].n;
    }
    if (total > BATCH_MAX_BYTES)
        return ERR_LIMIT;
    writer.at = sink->room(sink, total);
    if (!writer.at)
        return ERR_NOMEM;
    n_left = work.n_groups;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < work.n_groups; i++)
            if ((work.groups[i].kind == RECORD_TELEMETRY) == pass)
                write_group(&writer, &work, &work.groups[i], limits, max_values, --n_left == 0);
    *n_values = (unsigned)n;
    return ERR_OK;
}

enum err event_encode(struct event *event, int64_t ts_ms, const struct event_limits *limits, struct record_sink *sink,
                      unsigned *n_values)
{
    size_t max_values = limits->max_values && limits->max_values < UINT16_MAX ? limits->max_values : UINT16_MAX;
    struct plain plain;
    enum err err;

    *n_values = 0;
    if (event->n == 0)
        return ERR_OK;
    if (UNLIKELY(!event->keys_unique || event->meta.n) || !plain_measure(event, ts_ms, limits, max_values, &plain))
        return general_encode(event, ts_ms, limits, max_values, sink, n_values);
    err = plain_write(event, ts_ms, &plain, sink);
    if (!err)
        *n_values = (unsigned)event->n;
    return err;
}
