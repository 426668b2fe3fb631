/* SPDX-License-Identifier: Apache-2.0 */
#include "tally.h"

#include "lines.h"

#include <stdlib.h>

enum { PAGE_WORDS = 64, PAGE_BITS = PAGE_WORDS * 64, MAX_RANGES = 1000 };
static const uint64_t MAX_SEQ = (uint64_t)1 << 31;

/* --- histogram and bits ----------------------------------------------------------------------------------------- */
void histogram_add(struct histogram *histogram, uint64_t value)
{
    unsigned log = 63 - (unsigned)__builtin_clzll(value | 1);
    uint64_t step = log > 5 ? value >> (log - 5) : value << (5 - log); /* 32 … 63 */

    histogram->counts[log * 32 + (step & 31)]++;
    histogram->n++;
    if (value > histogram->max)
        histogram->max = value;
}

uint64_t histogram_at(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)((double)histogram->n * share), n = 0;

    for (unsigned i = 0; i < COUNT_OF(histogram->counts) && histogram->n; i++) {
        n += histogram->counts[i];
        if (n > wanted || n == histogram->n) {
            unsigned log = i / 32;
            uint64_t step = 32 + i % 32;

            return log > 5 ? step << (log - 5) : step >> (5 - log);
        }
    }
    return 0;
}

void bits_fini(struct bits *bits)
{
    for (size_t i = 0; i < bits->n_pages; i++)
        mem_free(bits->pages[i]);
    mem_free(bits->pages);
    *bits = (struct bits){0};
}

bool bits_has(const struct bits *bits, uint64_t i)
{
    uint64_t page = i / PAGE_BITS;

    return page < bits->n_pages && bits->pages[page] && (bits->pages[page][i / 64 % PAGE_WORDS] >> (i % 64) & 1);
}

bool bits_set(struct bits *bits, uint64_t i)
{
    uint64_t page = i / PAGE_BITS, bit = (uint64_t)1 << (i % 64), *word;

    if (page >= bits->n_pages) {
        size_t n = page + 1 > bits->n_pages * 2 ? page + 1 : bits->n_pages * 2;

        bits->pages = mem_grow(bits->pages, n * sizeof *bits->pages);
        memset(bits->pages + bits->n_pages, 0, (n - bits->n_pages) * sizeof *bits->pages);
        bits->n_pages = n;
    }
    if (!bits->pages[page])
        bits->pages[page] = mem_zero(PAGE_WORDS * sizeof(uint64_t));
    word = &bits->pages[page][i / 64 % PAGE_WORDS];
    if (*word & bit)
        return false;
    *word |= bit;
    return true;
}

/* --- latest values ---------------------------------------------------------------------------------------------- */
static struct tally_value *slot_of(struct tally_values *values, struct str key)
{
    struct tally_value *slot;

    if (values->next < values->n && str_eq(values->slots[values->next].key, key))
        return &values->slots[values->next++];
    for (uint32_t i = 0; i < values->n; i++) {
        if (str_eq(values->slots[i].key, key)) {
            values->next = i + 1;
            return &values->slots[i];
        }
    }
    values->slots = mem_grow(values->slots, (values->n + 1) * sizeof *values->slots);
    slot = &values->slots[values->n++];
    *slot = (struct tally_value){.key = {memcpy(mem_new(key.n + 1), key.p, key.n), key.n}};
    if (str_eq(key, STR("seq")))
        slot->role = TALLY_SEQ;
    else if (str_eq(key, STR("sent")))
        slot->role = TALLY_SENT;
    values->next = values->n;
    return slot;
}

static void slot_keep(struct tally_value *slot, const char *text, size_t n, bool is_text, int64_t ts_ms)
{
    if (UNLIKELY(n > slot->cap)) {
        slot->cap = (uint32_t)n + 16;
        slot->text = mem_grow(slot->text, slot->cap);
    }
    if (n)
        memcpy(slot->text, text, n);
    slot->n = (uint32_t)n;
    slot->is_text = is_text;
    slot->ts_ms = ts_ms;
}

static void slot_take(struct tally_value *slot, yyjson_val *value, int64_t ts_ms)
{
    if (yyjson_is_raw(value)) {
        slot_keep(slot, yyjson_get_raw(value), yyjson_get_len(value), false, ts_ms);
    } else if (yyjson_is_str(value)) {
        slot_keep(slot, yyjson_get_str(value), yyjson_get_len(value), true, ts_ms);
    } else if (yyjson_is_bool(value)) {
        bool is_true = yyjson_get_bool(value);

        slot_keep(slot, is_true ? "true" : "false", is_true ? 4 : 5, false, ts_ms);
    } else {
        size_t n = 0;
        char *text = yyjson_val_write(value, 0, &n);

        slot_keep(slot, text ? text : "null", text ? n : 4, false, ts_ms);
        free(text);
    }
}

unsigned tally_keep(struct tally_values *into, int64_t ts_ms, yyjson_val *values)
{
    size_t i, max;
    yyjson_val *key, *value;
    unsigned n = 0;

    into->next = 0;
    yyjson_obj_foreach(values, i, max, key, value)
    {
        if (yyjson_is_null(value))
            continue;
        slot_take(slot_of(into, str_of(yyjson_get_str(key), yyjson_get_len(key))), value, ts_ms);
        n++;
    }
    return n;
}

void tally_values_fini(struct tally_values *values)
{
    for (uint32_t i = 0; i < values->n; i++) {
        mem_free((void *)values->slots[i].key.p);
        mem_free(values->slots[i].text);
    }
    mem_free(values->slots);
    *values = (struct tally_values){0};
}

void tally_add_values(struct buf *out, const struct tally_values *values)
{
    buf_add_u8(out, '{');
    for (uint32_t i = 0; i < values->n; i++) {
        const struct tally_value *slot = &values->slots[i];

        if (i)
            buf_add_u8(out, ',');
        json_add_text(out, slot->key);
        buf_printf(out, ":{\"ts\":%lld,\"value\":", (long long)slot->ts_ms);
        if (slot->is_text)
            json_add_text(out, str_of(slot->text, slot->n));
        else
            buf_add(out, slot->text, slot->n);
        buf_add_u8(out, '}');
    }
    buf_add_u8(out, '}');
}

/* --- devices ---------------------------------------------------------------------------------------------------- */
static void device_free(struct tally_device *device)
{
    tally_values_fini(&device->telemetry);
    tally_values_fini(&device->attributes);
    bits_fini(&device->seen);
    mem_free(device->profile);
    mem_free((void *)device->name.p);
    mem_free(device);
}

void tally_fini(struct tally *tally)
{
    for (struct map_slot *slot = NULL; (slot = map_next(&tally->devices, slot));)
        device_free(slot->value);
    map_fini(&tally->devices);
    bits_fini(&tally->seen);
    *tally = (struct tally){0};
}

void tally_reset(struct tally *tally)
{
    bool is_shared = tally->is_shared;
    struct map devices = tally->devices;

    for (struct map_slot *slot = NULL; (slot = map_next(&devices, slot));) {
        struct tally_device *device = slot->value;

        tally_values_fini(&device->telemetry);
        tally_values_fini(&device->attributes);
        bits_fini(&device->seen);
        *device = (struct tally_device){.name = device->name, .profile = device->profile, .session = device->session};
    }
    bits_fini(&tally->seen);
    *tally = (struct tally){.is_shared = is_shared, .devices = devices};
}

struct tally_device *tally_find(const struct tally *tally, struct str name)
{
    return map_get(&tally->devices, name);
}

struct tally_device *tally_device(struct tally *tally, struct str name)
{
    struct tally_device *device = tally_find(tally, name);

    if (device)
        return device;
    device = mem_zero(sizeof *device);
    device->name = (struct str){memcpy(mem_zero(name.n + 1), name.p ? name.p : "", name.n), name.n};
    map_put(&tally->devices, device->name, device);
    return device;
}

static void take_seq(struct tally *tally, struct tally_device *device, const struct tally_value *slot)
{
    uint64_t seq;

    if (slot->is_text || str_to_u64(str_of(slot->text, slot->n), &seq) || seq >= MAX_SEQ) {
        tally->n_bad_seq++;
        return;
    }
    if (!bits_set(tally->is_shared ? &tally->seen : &device->seen, seq)) {
        tally->n_duplicates++; /* resent: its order was judged when it came first */
        return;
    }
    tally->n_unique++;
    if (device->has_seq && seq < device->last_seq)
        tally->n_disordered++;
    device->has_seq = true;
    device->last_seq = seq;
    if (seq > tally->max_seq)
        tally->max_seq = seq;
}

static void take_sent(struct tally *tally, const struct tally_value *slot, uint64_t now_us)
{
    uint64_t sent_us;

    if (!slot->is_text && !str_to_u64(str_of(slot->text, slot->n), &sent_us) && sent_us <= now_us)
        histogram_add(&tally->latency, now_us - sent_us);
}

unsigned tally_entry(struct tally *tally, struct tally_device *device, int64_t ts_ms, yyjson_val *values,
                     uint64_t now_us)
{
    size_t i, max;
    yyjson_val *key, *value;
    unsigned n = 0;

    device->telemetry.next = 0;
    yyjson_obj_foreach(values, i, max, key, value)
    {
        struct tally_value *slot;

        if (yyjson_is_null(value))
            continue;
        slot = slot_of(&device->telemetry, str_of(yyjson_get_str(key), yyjson_get_len(key)));
        slot_take(slot, value, ts_ms);
        n++;
        if (slot->role == TALLY_SEQ)
            take_seq(tally, device, slot);
        else if (slot->role == TALLY_SENT)
            take_sent(tally, slot, now_us);
    }
    if (device->has_ts && device->last_ts_ms == ts_ms)
        tally->n_same_ts++;
    device->has_ts = true;
    device->last_ts_ms = ts_ms;
    device->n_entries++;
    device->n_values += n;
    device->last_us = now_us;
    tally->n_entries++;
    tally->n_values += n;
    if (!tally->first_us)
        tally->first_us = now_us;
    tally->last_us = now_us;
    return n;
}

unsigned tally_attributes(struct tally *tally, struct tally_device *device, int64_t ts_ms, yyjson_val *values)
{
    unsigned n = tally_keep(&device->attributes, ts_ms, values);

    tally->n_attributes += n;
    return n;
}

uint64_t tally_missing(const struct bits *seen, uint64_t from, uint64_t to, struct buf *out)
{
    uint64_t n = 0;
    unsigned n_ranges = 0;

    buf_add_u8(out, '[');
    for (uint64_t i = from; i < to; i++) {
        uint64_t first = i;

        while (i < to && !bits_has(seen, i))
            i++;
        if (i == first)
            continue;
        n += i - first;
        if (n_ranges++ < MAX_RANGES)
            buf_printf(out, "%s[%llu,%llu]", n_ranges > 1 ? "," : "", (unsigned long long)first,
                       (unsigned long long)(i - 1));
    }
    buf_add_u8(out, ']');
    return n;
}
