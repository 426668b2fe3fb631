/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/pack.h"

#include "base/map.h"
#include "data/json.h"
#include "data/number.h"

#include <assert.h>

enum { NO_ENTRY = UINT32_MAX, GROUPS_MAX = 65535 };

struct entry { /* a record of the pack, in the order added */
    const struct record *record;
    uint32_t body_n;
    uint32_t next; /* of the same device */
};

struct group { /* a device of the pack */
    struct device *dev;
    struct str name;
    uint32_t first, last, n_records, n_values;
};

struct packer {
    enum pack_kind kind;
    struct pack_limits limits;
    unsigned slot_shift; /* which half of pack_slot is ours */
    struct entry *entries;
    struct group *groups;
    struct pack_part *parts;
    const struct record **records;
    size_t n_entries, cap_entries, n_groups, cap_groups;
    size_t n_bytes;
    unsigned n_values, n_events;
    int64_t ts; /* whose text is at hand */
    size_t ts_n;
    char ts_text[NUMBER_MAX];
};

/* --- pieces of the payload ---------------------------------------------------------------------------------------------- */

/* {"ts":T,"values":{…}} */
static const char TS_OPEN[] = "{\"ts\":", TS_VALUES[] = ",\"values\":{", TS_CLOSE[] = "}}";
/* …,"metadata":{…,"publishedTs":T}} */
static const char META_OPEN[] = "},\"metadata\":", META_PUBLISHED[] = "\"publishedTs\":";
#define LEN(text) (sizeof(text) - 1)

static char *put(char *at, const void *p, size_t n)
{
    memcpy(at, p, n);
    return at + n;
}
#define PUT(at, text) put((at), (text), LEN(text))

static int64_t stamp(const struct pack_limits *limits, const struct record *record)
{
    return record->ts + (record->flags & RECORD_TIME_UNSURE ? limits->unsure_offset_ms : 0);
}

static size_t digits(int64_t v)
{
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t n = v < 0 ? 2 : 1;

    for (; u >= 10; u /= 10)
        n++;
    return n;
}

static size_t ts_digits(struct packer *packer, const struct record *record)
{
    int64_t ts = stamp(&packer->limits, record);

    if (UNLIKELY(ts != packer->ts || !packer->ts_n)) {
        packer->ts = ts;
        packer->ts_n = number_put_i64(packer->ts_text, ts);
    }
    return packer->ts_n;
}

/* Length of the values; the metadata behind them, if any, has record->spare bytes. */
static size_t values_n(const struct record *record)
{
    return record_body(record).n;
}

static bool has_meta(const struct record *record)
{
    return record->flags & RECORD_HAS_META && record->spare >= LEN("{}");
}

static size_t meta_size(const struct record *record, int64_t published_ms)
{
    return LEN(META_OPEN) - 1 + record->spare + (record->spare > LEN("{}") ? 1 : 0) + LEN(META_PUBLISHED) +
           digits(published_ms);
}

static size_t entry_size(enum pack_kind kind, const struct pack_limits *limits, const struct record *record,
                         size_t body_n, size_t ts_n)
{
    size_t n;

    if (kind == PACK_ATTRIBUTES)
        return body_n;
    if (record->flags & RECORD_NO_TS)
        return body_n + LEN("{}");
    n = LEN(TS_OPEN) + ts_n + LEN(TS_VALUES) + body_n + LEN(TS_CLOSE);
    return has_meta(record) ? n + meta_size(record, limits->published_ms) : n;
}

static char *put_entry(struct packer *packer, char *at, const struct entry *entry)
{
    const struct record *record = entry->record;
    const char *body = record_bytes(record) + record->name_n + record->profile_n;

    if (packer->kind == PACK_ATTRIBUTES)
        return put(at, body, entry->body_n);
    if (record->flags & RECORD_NO_TS) {
        *at++ = '{';
        at = put(at, body, entry->body_n);
        *at++ = '}';
        return at;
    }
    size_t ts_n = ts_digits(packer, record);

    at = PUT(at, TS_OPEN);
    at = put(at, packer->ts_text, ts_n);
    at = PUT(at, TS_VALUES);
    at = put(at, body, entry->body_n);
    if (has_meta(record)) {
        at = PUT(at, META_OPEN);
        at = put(at, body + entry->body_n, (size_t)record->spare - 1);
        if (record->spare > LEN("{}"))
            *at++ = ',';
        at = PUT(at, META_PUBLISHED);
        at += number_put_i64(at, packer->limits.published_ms);
    }
    return PUT(at, TS_CLOSE);
}

/* --- what stands in a body -------------------------------------------------------------------------------------------------- */

/* Behind the string that begins at p, or NULL. */
static const char *string_end(const char *p, const char *end)
{
    if (p == end || *p != '"')
        return NULL;
    for (p++; p < end; p++) {
        if (*p == '"')
            return p + 1;
        if (*p == '\\')
            p++;
    }
    return NULL;
}

/* Takes one "key":value off *rest, with the comma behind it. key: with quotes and colon. */
static bool item_next(struct str *rest, struct str *key, struct str *value)
{
    const char *p = rest->p, *end = rest->p + rest->n, *at = string_end(p, end);
    unsigned depth = 0;

    if (!at || at == end || *at != ':')
        return false;
    *key = str_of(p, (size_t)(++at - p));
    for (p = at; at < end && (depth || *at != ','); at++) {
        if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (!depth--)
                return false;
        } else if (*at == '"') {
            if (!(at = string_end(at, end)))
                return false;
            at--;
        }
    }
    *value = str_of(p, (size_t)(at - p));
    *rest = at < end ? str_of(at + 1, (size_t)(end - at - 1)) : str_of(end, 0);
    return value->n > 0 && depth == 0;
}

/* --- a pack -------------------------------------------------------------------------------------------------------------------- */

static struct group *group_of(const struct packer *packer, const struct device *dev)
{
    uint32_t slot = dev->pack_slot >> packer->slot_shift & 0xffff;

    return slot < packer->n_groups && packer->groups[slot].dev == dev ? &packer->groups[slot] : NULL;
}

static void mark(struct packer *packer, size_t i)
{
    struct device *dev = packer->groups[i].dev;

    dev->pack_slot = (dev->pack_slot & ~(0xffffu << packer->slot_shift)) | (uint32_t)i << packer->slot_shift;
}

static struct group *group_new(struct packer *packer, struct device *dev, struct str name)
{
    if (packer->n_groups == packer->cap_groups) {
        packer->cap_groups = packer->cap_groups ? packer->cap_groups * 2 : 16;
        packer->groups = mem_grow(packer->groups, packer->cap_groups * sizeof *packer->groups);
        packer->parts = mem_grow(packer->parts, packer->cap_groups * sizeof *packer->parts);
    }
    struct group *group = &packer->groups[packer->n_groups];

    *group = (struct group){.dev = dev, .name = name, .first = NO_ENTRY, .last = NO_ENTRY};
    mark(packer, packer->n_groups++);
    return group;
}

static void entry_add(struct packer *packer, struct group *group, const struct record *record, size_t body_n)
{
    uint32_t i = (uint32_t)packer->n_entries++;

    if (i == packer->cap_entries) {
        packer->cap_entries = packer->cap_entries ? packer->cap_entries * 2 : 64;
        packer->entries = mem_grow(packer->entries, packer->cap_entries * sizeof *packer->entries);
        packer->records = mem_grow(packer->records, packer->cap_entries * sizeof(void *));
    }
    packer->entries[i] = (struct entry){.record = record, .body_n = (uint32_t)body_n, .next = NO_ENTRY};
    if (group->last == NO_ENTRY)
        group->first = i;
    else
        packer->entries[group->last].next = i;
    group->last = i;
    group->n_records++;
    group->n_values += record->n_values;
}

/* Bytes that the record would add; 0: it does not fit. */
static size_t fit(struct packer *packer, const struct group *group, struct str name, const struct record *record,
                  size_t body_n)
{
    const struct pack_limits *limits = &packer->limits;
    size_t ts_n = packer->kind == PACK_TELEMETRY ? ts_digits(packer, record) : 0;
    size_t n = entry_size(packer->kind, limits, record, body_n, ts_n);

    n += group ? 1 : name.n + LEN(":[]") + (packer->n_groups ? 1 : 0);
    if (packer->n_entries == 0)
        return n;
    if ((limits->max_bytes && packer->n_bytes + n > limits->max_bytes) ||
        (limits->max_values && (group ? group->n_values : 0) + record->n_values > limits->max_values) ||
        (limits->max_events && packer->n_events >= limits->max_events) ||
        (!group && (!limits->batch_devices || packer->n_groups == GROUPS_MAX)))
        return 0;
    return n;
}

/* Attributes of one device from several records: parsed again, a later value of a key takes the place of the first. */
static char *put_merged(struct packer *packer, char *at, const struct group *group)
{
    struct item {
        struct str key, value;
    } *items = NULL;
    size_t n = 0, cap = 0;
    struct map places = {0}; /* key → index + 1 */
    char *from = at;

    for (uint32_t i = group->first; i != NO_ENTRY; i = packer->entries[i].next) {
        const struct record *record = packer->entries[i].record;
        struct str rest = {record_bytes(record) + record->name_n + record->profile_n, packer->entries[i].body_n}, key,
                   value;

        while (rest.n) {
            if (!item_next(&rest, &key, &value)) { /* not made by our encoder: goes as it is */
                key = rest;
                value = STR_NONE;
                rest.n = 0;
            }
            uintptr_t place = (uintptr_t)map_get(&places, key);

            if (place) {
                items[place - 1].value = value;
                continue;
            }
            if (n == cap) {
                cap = cap ? cap * 2 : 32;
                items = mem_grow(items, cap * sizeof *items);
            }
            items[n++] = (struct item){key, value};
            map_put(&places, key, (void *)(uintptr_t)n);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (at != from)
            *at++ = ',';
        at = put(at, items[i].key.p, items[i].key.n);
        if (items[i].value.n)
            at = put(at, items[i].value.p, items[i].value.n);
    }
    map_fini(&places);
    mem_free(items);
    return at;
}

/* --- exported ------------------------------------------------------------------------------------------------------------------- */

struct packer *packer_new(void)
{
    return mem_zero(sizeof(struct packer));
}

void packer_free(struct packer *packer)
{
    if (packer) {
        mem_free(packer->entries);
        mem_free(packer->groups);
        mem_free(packer->parts);
        mem_free(packer->records);
        mem_free(packer);
    }
}

void packer_begin(struct packer *packer, enum pack_kind kind, const struct pack_limits *limits)
{
    assert(kind == PACK_TELEMETRY || kind == PACK_ATTRIBUTES);
    packer->kind = kind;
    packer->slot_shift = kind == PACK_ATTRIBUTES ? 16 : 0;
    packer->limits = *limits;
    packer->n_entries = packer->n_groups = 0;
    packer->n_bytes = LEN("{}");
    packer->n_values = packer->n_events = 0;
    packer->ts_n = 0;
}

void packer_set_time(struct packer *packer, int64_t unsure_offset_ms, int64_t published_ms)
{
    assert(packer_is_empty(packer));
    packer->limits.unsure_offset_ms = unsure_offset_ms;
    packer->limits.published_ms = published_ms;
}

void packer_set_published(struct packer *packer, int64_t published_ms)
{
    if (digits(published_ms) == digits(packer->limits.published_ms)) /* the size is counted already */
        packer->limits.published_ms = published_ms;
}

bool packer_add(struct packer *packer, struct device *dev, struct str name_json, const struct record *record)
{
    struct group *group = group_of(packer, dev);
    size_t body_n = values_n(record), n = fit(packer, group, name_json, record, body_n);

    if (!n)
        return false;
    if (!group)
        group = group_new(packer, dev, name_json);
    entry_add(packer, group, record, body_n);
    packer->n_bytes += n;
    packer->n_values += record->n_values;
    packer->n_events += record->flags & RECORD_END ? 1 : 0;
    return true;
}

bool packer_is_empty(const struct packer *packer)
{
    return packer->n_entries == 0;
}

size_t packer_bytes(const struct packer *packer)
{
    return packer->n_bytes;
}

unsigned packer_values(const struct packer *packer)
{
    return packer->n_values;
}

unsigned packer_events(const struct packer *packer)
{
    return packer->n_events;
}

bool packer_has(const struct packer *packer, const struct device *dev)
{
    return group_of(packer, dev) != NULL;
}

void packer_reclaim(struct packer *packer)
{
    for (size_t i = 0; i < packer->n_groups; i++)
        mark(packer, i);
}

void packer_finish(struct packer *packer, struct buf *out, const struct pack_part **parts, size_t *n_parts)
{
    bool is_list = packer->kind == PACK_TELEMETRY;
    size_t n_records = 0;

    out->n = 0;
    char *begin = (char *)buf_room(out, packer->n_bytes), *at = begin;

    *at++ = '{';
    for (size_t i = 0; i < packer->n_groups; i++) {
        const struct group *group = &packer->groups[i];

        packer->parts[i] = (struct pack_part){group->dev, group->n_records, group->n_values};
        if (i)
            *at++ = ',';
        at = put(at, group->name.p, group->name.n);
        *at++ = ':';
        *at++ = is_list ? '[' : '{';
        if (!is_list && group->n_records > 1)
            at = put_merged(packer, at, group);
        for (uint32_t j = group->first; j != NO_ENTRY; j = packer->entries[j].next) {
            const struct entry *entry = &packer->entries[j];

            packer->records[n_records++] = entry->record;
            if (!is_list && group->n_records > 1)
                continue;
            if (j != group->first)
                *at++ = ',';
            at = put_entry(packer, at, entry);
        }
        *at++ = is_list ? ']' : '}';
    }
    *at++ = '}';
    out->n = (size_t)(at - begin);
    assert(is_list ? out->n == packer->n_bytes : out->n <= packer->n_bytes);
    *parts = packer->parts;
    *n_parts = packer->n_groups;
}

const struct record *const *packer_records(const struct packer *packer, size_t *n)
{
    *n = packer->n_entries;
    return packer->records;
}

size_t pack_alone_bytes(struct str name_json, const struct record *record)
{
    const struct pack_limits limits = {.published_ms = 1000000000000};
    enum pack_kind kind = record->kind == RECORD_ATTRIBUTES ? PACK_ATTRIBUTES : PACK_TELEMETRY;

    return LEN("{}") + name_json.n + LEN(":[]") +
           entry_size(kind, &limits, record, values_n(record),
                      digits(record->flags & RECORD_TIME_UNSURE ? limits.published_ms : record->ts));
}

static void split_end(struct buf *out, size_t at, const struct record *whole, size_t body_n, unsigned n_values)
{
    struct record *part;
    const char *meta = record_bytes(whole) + whole->name_n + whole->profile_n + values_n(whole);

    if (whole->flags & RECORD_HAS_META) {
        buf_add(out, meta, whole->spare);
        body_n += whole->spare;
    }
    size_t size = record_size(whole->name_n, whole->profile_n, body_n);

    buf_room(out, at + size - out->n);
    out->n = at + size;
    part = (struct record *)(void *)(out->p + at);
    part->n_values = (uint16_t)n_values;
    part->flags = whole->flags & (uint16_t)~RECORD_END;
    record_seal(part, body_n);
}

size_t pack_split(struct buf *out, struct str name_json, const struct record *record, const struct pack_limits *limits)
{
    struct str rest = {record_bytes(record) + record->name_n + record->profile_n, values_n(record)}, key, value;
    size_t head_n = sizeof *record + record->name_n + record->profile_n, n_parts = 0, at = 0, body_n = 0;
    size_t around = pack_alone_bytes(name_json, record) - rest.n;
    unsigned n_values = 0;

    out->n = 0;
    while (rest.n) {
        if (!item_next(&rest, &key, &value))
            return 0;
        size_t n = key.n + value.n;

        if (n_values && ((limits->max_bytes && around + body_n + 1 + n > limits->max_bytes) ||
                         (limits->max_values && n_values >= limits->max_values))) {
            split_end(out, at, record, body_n, n_values);
            n_values = 0;
        }
        if (n_values == 0) {
            at = out->n;
            body_n = 0;
            n_parts++;
            buf_add(out, record, head_n);
        } else {
            buf_add_u8(out, ',');
            body_n++;
        }
        buf_add(out, key.p, key.n);
        buf_add(out, value.p, value.n);
        body_n += n;
        n_values++;
    }
    if (!n_parts)
        return 0;
    split_end(out, at, record, body_n, n_values);
    struct record *last = (struct record *)(void *)(out->p + at);

    if (record->flags & RECORD_END) {
        last->flags |= RECORD_END;
        record_seal(last, body_n + (record->flags & RECORD_HAS_META ? record->spare : 0u));
    }
    return n_parts;
}

void pack_connect(struct buf *out, struct str name_json, struct str profile)
{
    buf_add_str(out, STR("{\"device\":"));
    buf_add_str(out, name_json);
    buf_add_str(out, STR(",\"type\":"));
    json_add_string(out, profile.n ? profile : STR("default"));
    buf_add_u8(out, '}');
}

void pack_disconnect(struct buf *out, struct str name_json)
{
    buf_add_str(out, STR("{\"device\":"));
    buf_add_str(out, name_json);
    buf_add_u8(out, '}');
}
