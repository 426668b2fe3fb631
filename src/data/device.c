/* SPDX-License-Identifier: Apache-2.0 */
#include "data/device.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/utf8.h"
#include "data/json.h"
#include "data/record.h"

#include <assert.h>
#include <pthread.h>

/*
 * A shard is an open-addressed table of pointers. Readers take the table with one acquiring load and probe it without a
 * lock: slots only ever go from NULL to a device. A writer holds the shard's mutex; it grows by publishing a larger
 * copy. The former table stays as it is, because a reader may still be in it (all former ones together are smaller than the
 * present one); what such a reader misses it finds when it looks again under the lock.
 */
enum { N_SHARDS = 16, FIRST_CAP = 16, CHUNK = 4096, N_CHUNKS = 16384, MAX_SOURCES = 4096 };

struct table {
    size_t mask;
    _Atomic(struct device *) slots[];
};

static struct shard {
    pthread_mutex_t lock;
    _Atomic(struct table *) table;
    size_t n;
    struct arena arena; /* devices and their names: never freed */
    struct table *former[64];
    unsigned n_former;
} shards[N_SHARDS] = {[0 ... N_SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

/* Numbers and profiles. Taken inside a shard's lock, never the other way round. */
static pthread_mutex_t numbers_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(uint32_t) n_devices;
static struct device **_Atomic chunks[N_CHUNKS];
static struct map profiles, wire_names, source_names;
static struct arena profiles_arena;
static _Atomic(struct device_source *) sources[MAX_SOURCES]; /* by number - 1 */
static uint16_t n_sources;

static struct shard *shard_of(uint64_t hash)
{
    return &shards[hash >> 60];
}

static struct device *table_find(struct table *table, struct str name, uint64_t hash)
{
    if (!table)
        return NULL;
    for (size_t i = hash & table->mask;; i = (i + 1) & table->mask) {
        struct device *dev = atomic_load_explicit(&table->slots[i], memory_order_acquire);

        if (!dev)
            return NULL;
        if (dev->hash == hash && str_eq(device_name(dev), name))
            return dev;
    }
}

static void table_add(struct table *table, struct device *dev)
{
    size_t i = dev->hash & table->mask;

    while (atomic_load_explicit(&table->slots[i], memory_order_relaxed))
        i = (i + 1) & table->mask;
    atomic_store_explicit(&table->slots[i], dev, memory_order_release);
}

/* Room for one more at a load of at most 3/4. */
static struct table *shard_room(struct shard *shard)
{
    struct table *old = atomic_load_explicit(&shard->table, memory_order_relaxed), *table;
    size_t cap = old ? old->mask + 1 : 0;

    if (shard->n + 1 <= cap / 4 * 3)
        return old;
    cap = cap ? cap * 2 : FIRST_CAP;
    table = mem_zero(sizeof *table + cap * sizeof *table->slots);
    table->mask = cap - 1;
    for (size_t i = 0; old && i <= old->mask; i++) {
        struct device *dev = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

        if (dev)
            table_add(table, dev);
    }
    if (old)
        shard->former[shard->n_former++] = old;
    atomic_store_explicit(&shard->table, table, memory_order_release);
    return table;
}

/* Names hold no control characters, so that quote and backslash are all that JSON wants escaped. Without these the name
 * stands in its JSON text. */
static void make_name(struct device *dev, struct str name, struct arena *arena)
{
    size_t n = 2;
    char *p;

    for (size_t i = 0; i < name.n; i++)
        n += name.p[i] == '"' || name.p[i] == '\\' ? 2 : 1;
    dev->json = p = arena_chars(arena, n);
    dev->json_n = (uint16_t)n;
    dev->name_n = (uint16_t)name.n;
    dev->name = n == name.n + 2 ? p + 1 : arena_str(arena, name).p;
    *p++ = '"';
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            *p++ = '\\';
        *p++ = name.p[i];
    }
    *p = '"';
}

static void number_device(struct device *dev)
{
    uint32_t number;
    struct device **chunk;

    pthread_mutex_lock(&numbers_lock);
    number = atomic_load_explicit(&n_devices, memory_order_relaxed);
    if (number / CHUNK >= N_CHUNKS)
        mem_die(sizeof *dev);
    chunk = atomic_load_explicit(&chunks[number / CHUNK], memory_order_relaxed);
    if (!chunk) {
        chunk = mem_zero(CHUNK * sizeof *chunk);
        atomic_store_explicit(&chunks[number / CHUNK], chunk, memory_order_release);
    }
    chunk[number % CHUNK] = dev;
    dev->number = number;
    atomic_store_explicit(&n_devices, number + 1, memory_order_release);
    pthread_mutex_unlock(&numbers_lock);
}

static struct device *device_make(struct shard *shard, struct str name, uint64_t hash)
{
    struct table *table = shard_room(shard);
    struct device *dev = arena_zero(&shard->arena, sizeof *dev);

    dev->hash = hash;
    dev->assigned_ms = dev->assigned_wall_ms = INT64_MIN;
    make_name(dev, name, &shard->arena);
    number_device(dev);
    table_add(table, dev);
    shard->n++;
    return dev;
}

struct device *device_find(struct str name)
{
    uint64_t hash = hash_str(name);

    return table_find(atomic_load_explicit(&shard_of(hash)->table, memory_order_acquire), name, hash);
}

struct device *device_get(struct str name)
{
    uint64_t hash = hash_str(name);
    struct shard *shard = shard_of(hash);
    struct device *dev = table_find(atomic_load_explicit(&shard->table, memory_order_acquire), name, hash);

    if (LIKELY(dev))
        return dev;
    if (device_name_check(name, NULL))
        return NULL;
    pthread_mutex_lock(&shard->lock);
    dev = table_find(atomic_load_explicit(&shard->table, memory_order_relaxed), name, hash);
    if (!dev)
        dev = device_make(shard, name, hash);
    pthread_mutex_unlock(&shard->lock);
    return dev;
}

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    return false;
}

enum err device_name_check(struct str name, struct why *why)
{
    if (name.n == 0)
        return why_set(why, ERR_RANGE, "the device name is empty");
    if (name.n > RECORD_NAME_MAX)
        return why_set(why, ERR_RANGE, "the device name has %zu bytes: at most %d are allowed", name.n,
                       RECORD_NAME_MAX);
    if (has_control(name))
        return why_set(why, ERR_RANGE, "the device name contains a control character");
    if (!utf8_is_valid(name))
        return why_set(why, ERR_RANGE, "the device name is not valid UTF-8");
    for (size_t i = 0; i + 1 < name.n; i++)
        if (name.p[i] == '<' && ((name.p[i + 1] | 32) >= 'a' && (name.p[i + 1] | 32) <= 'z'))
            return why_set(why, ERR_RANGE,
                           "the device name \"" STR_FMT
                           "\" looks like HTML (\"<\" before a letter), which the platform refuses",
                           STR_ARG(name));
    return ERR_OK;
}

uint32_t device_count(void)
{
    return atomic_load_explicit(&n_devices, memory_order_acquire);
}

struct device *device_at(uint32_t number)
{
    assert(number < device_count());
    return atomic_load_explicit(&chunks[number / CHUNK], memory_order_acquire)[number % CHUNK];
}

const char *device_profile_intern(struct str profile)
{
    char *text;

    if (profile.n == 0 || profile.n > RECORD_PROFILE_MAX || has_control(profile) || !utf8_is_valid(profile))
        return NULL;
    pthread_mutex_lock(&numbers_lock);
    text = map_get(&profiles, profile);
    if (!text) {
        text = arena_text(&profiles_arena, profile);
        map_put(&profiles, (struct str){text, profile.n}, text);
    }
    pthread_mutex_unlock(&numbers_lock);
    return text;
}

const char *device_wire_name(struct str name)
{
    autobuf struct buf text = {0};
    char *wire;

    if (device_name_check(name, NULL))
        return NULL;
    pthread_mutex_lock(&numbers_lock);
    wire = map_get(&wire_names, name);
    if (!wire) {
        json_add_string(&text, name);
        size_t n = text.n;

        buf_add_u8(&text, 0);
        buf_add_str(&text, name);
        wire = arena_text(&profiles_arena, buf_str(&text));
        map_put(&wire_names, str_of(wire + n + 1, name.n), wire);
    }
    pthread_mutex_unlock(&numbers_lock);
    return wire;
}

const struct device_source *device_source_intern(const char *type, const char *name)
{
    autobuf struct buf key = {0}, json = {0};
    struct device_source *source;

    buf_printf(&key, "%s\n%s", type, name);
    pthread_mutex_lock(&numbers_lock);
    source = map_get(&source_names, buf_str(&key));
    if (!source && n_sources < MAX_SOURCES) {
        buf_add_str(&json, STR("\"connectorType\":"));
        json_add_string(&json, str_from(type));
        buf_add_str(&json, STR(",\"connectorName\":"));
        json_add_string(&json, str_from(name));
        source = arena_zero(&profiles_arena, sizeof *source);
        source->number = ++n_sources;
        source->json = arena_text(&profiles_arena, buf_str(&json));
        source->type = arena_text(&profiles_arena, str_from(type));
        source->name = arena_text(&profiles_arena, str_from(name));
        map_put(&source_names, arena_str(&profiles_arena, buf_str(&key)), source);
        atomic_store_explicit(&sources[n_sources - 1], source, memory_order_release);
    }
    pthread_mutex_unlock(&numbers_lock);
    return source;
}

const struct device_source *device_source_at(uint16_t number)
{
    return number && number <= MAX_SOURCES ? atomic_load_explicit(&sources[number - 1], memory_order_acquire) : NULL;
}

int64_t device_assign_past(int64_t *assigned_ms, int64_t *latest_ms, int64_t stored_ms)
{
    enum { FOLLOWED_MS = 1000 };

    if (*assigned_ms == INT64_MIN || stored_ms > *assigned_ms || stored_ms < *latest_ms - FOLLOWED_MS) {
        *assigned_ms = *latest_ms = stored_ms;
    } else {
        ++*assigned_ms;
        if (stored_ms > *latest_ms)
            *latest_ms = stored_ms;
    }
    return *assigned_ms;
}

int64_t device_assign_ts(struct device *dev, int64_t wall_ms)
{
    return device_assign_past(&dev->assigned_ms, &dev->assigned_wall_ms, wall_ms);
}
