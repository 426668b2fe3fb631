/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/registry.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/map.h"
#include "conf/common.h"
#include "data/json.h"
#include "gateway/device_list.h"

#include <stdio.h>
#include <unistd.h>

enum {
    LOOK_MS = 1000,   /* from a first sight until all devices are looked through; also between two files */
    WRITE_SHARE = 10, /* a long list is written the more seldom: this many times as long as writing it took */
    LIST_MAX = 256 * 1024 * 1024,
    NO_CONNECTOR = UINT16_MAX,
};

struct connector { /* configured, or named in the list */
    const struct device_source *source;
    char *name, *id;
    bool is_configured;
};

struct entry {           /* of each device, by its number */
    uint64_t since_ms;   /* known, or served, since */
    const char *profile; /* as last looked at */
    const char *wire;    /* its new name on the platform, as device_wire_name gives it; NULL: its own */
    uint16_t connector;  /* index; NO_CONNECTOR */
    bool is_known, is_disconnected;
};

struct arrival { /* an instance has come */
    struct node node;
    struct ctx *ctx;
};

struct registry {
    struct registry_conf conf;
    struct connector *connectors;
    size_t n_connectors;
    struct entry *entries;
    size_t n_entries;
    struct map renamed; /* new name → device */

    struct mailbox seen_box, arrivals;
    struct node seen_node;
    atomic_bool is_seen, is_stopping;
    struct timer look, check;
    uint64_t look_after_ms;

    /* the list on its way to the disk */
    struct work work;
    char *path;
    bool is_dirty, is_writing, has_warned;
    struct listed_device *snapshot;
    size_t n_snapshot;
    struct why why;
    enum err err;
    uint64_t write_ms;
};

/* --- small things ------------------------------------------------------------------------------------------------------ */

static struct entry *entry_of(struct registry *r, const struct device *dev)
{
    if (dev->number >= r->n_entries) {
        size_t n = (dev->number + 256) / 256 * 256;

        r->entries = mem_grow(r->entries, n * sizeof *r->entries);
        memset(r->entries + r->n_entries, 0, (n - r->n_entries) * sizeof *r->entries);
        r->n_entries = n;
    }
    return &r->entries[dev->number];
}

static bool is_known(const struct registry *r, const struct device *dev)
{
    return (dev->number < r->n_entries && r->entries[dev->number].is_known) ||
           atomic_load_explicit(&dev->owner, memory_order_relaxed) != NULL;
}

static uint64_t now_ms(const struct registry *r)
{
    return loop_mono_ms(r->conf.loop);
}

static uint16_t connector_by_source(const struct registry *r, const struct device_source *source)
{
    for (size_t i = 0; source && i < r->n_connectors; i++)
        if (r->connectors[i].source == source)
            return (uint16_t)i;
    return NO_CONNECTOR;
}

static uint16_t connector_add(struct registry *r, const struct device_source *source, struct str name, struct str id)
{
    struct connector *connector;

    if (r->n_connectors == NO_CONNECTOR)
        return NO_CONNECTOR;
    r->connectors = mem_grow(r->connectors, (r->n_connectors + 1) * sizeof *r->connectors);
    connector = &r->connectors[r->n_connectors];
    *connector = (struct connector){.source = source, .name = mem_zero(name.n + 1), .id = mem_zero(id.n + 1)};
    memcpy(connector->name, name.n ? name.p : "", name.n);
    memcpy(connector->id, id.n ? id.p : "", id.n);
    return (uint16_t)r->n_connectors++;
}

static void tell(struct registry *r, enum uplink_device_op op, struct device *dev, const char *wire)
{
    r->conf.link.devices(r->conf.link.arg, op, &dev, &wire, 1);
}

static void look_later(struct registry *r)
{
    uint64_t now = now_ms(r), at = now + LOOK_MS;

    if (r->look_after_ms > at)
        at = r->look_after_ms;
    if (!timer_is_running(&r->look))
        timer_start(&r->look, at - now);
}

static void changed(struct registry *r)
{
    r->is_dirty = true;
    look_later(r);
}

/* --- the list on the disk ------------------------------------------------------------------------------------------------ */

static void write_list(void *arg)
{
    struct registry *r = arg;
    autobuf struct buf text = {0};
    uint64_t begin_ms = clock_mono_ms();

    device_list_write(&text, r->snapshot, r->n_snapshot);
    r->err = file_put(r->path, buf_str(&text), FILE_REPLACE, r->conf.like, &r->why);
    r->write_ms = clock_mono_ms() - begin_ms;
}

static void begin_write(struct registry *r);

static void written(void *arg)
{
    struct registry *r = arg;

    r->is_writing = false;
    mem_free(r->snapshot);
    r->snapshot = NULL;
    if (r->err && !r->has_warned)
        LOG_WARN(r->conf.log, "the list of devices cannot be written, the gateway runs without it", KV_WHY(&r->why));
    r->has_warned = r->err != ERR_OK;
    r->look_after_ms = now_ms(r) + (r->write_ms * WRITE_SHARE > LOOK_MS ? r->write_ms * WRITE_SHARE : LOOK_MS);
    if (!r->is_dirty)
        return;
    if (atomic_load(&r->is_stopping))
        begin_write(r);
    else
        look_later(r);
}

/* Names are interned; a connector's name and id live as long as the registry. */
static void begin_write(struct registry *r)
{
    uint32_t n = device_count() < r->n_entries ? device_count() : (uint32_t)r->n_entries;

    r->is_dirty = false;
    r->is_writing = true;
    r->snapshot = mem_new((n + 1) * sizeof *r->snapshot);
    r->n_snapshot = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct entry *entry = &r->entries[i];
        const struct connector *connector =
            entry->connector < r->n_connectors ? &r->connectors[entry->connector] : NULL;
        const struct device *dev = device_at(i);
        const char *profile = atomic_load_explicit(&dev->profile, memory_order_acquire);

        if (!entry->is_known)
            continue;
        r->snapshot[r->n_snapshot++] = (struct listed_device){
            .name = device_name(dev),
            .connector_id = connector ? str_from(connector->id) : STR_NONE,
            .connector_name = connector ? str_from(connector->name) : STR_NONE,
            .profile = str_from(profile ? profile : "default"),
            .renaming = entry->wire ? device_wire_plain(entry->wire) : STR_NONE,
            .is_disconnected = entry->is_disconnected,
        };
    }
    r->why = (struct why){0};
    work_start(&r->work, r->conf.loop, write_list, written, r);
}

struct reading {
    struct registry *registry;
    size_t n, n_dropped, n_wrong;
};

static uint16_t connector_of(struct registry *r, const struct listed_device *device)
{
    for (size_t i = 0; device->connector_id.n && i < r->n_connectors; i++)
        if (r->connectors[i].is_configured && str_eq_z(device->connector_id, r->connectors[i].id))
            return (uint16_t)i;
    for (size_t i = 0; device->connector_name.n && i < r->n_connectors; i++)
        if (r->connectors[i].is_configured && str_eq_z(device->connector_name, r->connectors[i].name))
            return (uint16_t)i;
    if (!device->renaming.n)
        return NO_CONNECTOR;
    for (size_t i = 0; i < r->n_connectors; i++) /* not configured now, but its renamed devices are not forgotten */
        if (str_eq_z(device->connector_name, r->connectors[i].name))
            return (uint16_t)i;
    return connector_add(r, NULL, device->connector_name, device->connector_id);
}

static struct device *holder_of(struct registry *r, struct str name)
{
    struct device *dev = map_get(&r->renamed, name);

    if (dev)
        return dev;
    dev = device_find(name);
    return dev && is_known(r, dev) && !entry_of(r, dev)->wire ? dev : NULL;
}

static void set_wire(struct registry *r, struct device *dev, const char *wire)
{
    struct entry *entry = entry_of(r, dev);

    if (entry->wire)
        (void)map_del(&r->renamed, device_wire_plain(entry->wire));
    entry->wire = wire;
    if (wire)
        (void)map_put(&r->renamed, device_wire_plain(wire), dev);
}

static void read_device(void *arg, const struct listed_device *device)
{
    struct reading *reading = arg;
    struct registry *r = reading->registry;
    uint16_t connector = connector_of(r, device);
    struct device *dev = connector == NO_CONNECTOR ? NULL : device_get(device->name);
    const char *profile = device_profile_intern(device->profile);
    const char *wire = device->renaming.n ? device_wire_name(device->renaming) : NULL;
    struct entry *entry;

    if (connector == NO_CONNECTOR) {
        reading->n_dropped++;
        r->is_dirty = true;
        return;
    }
    if (!dev || (device->renaming.n && !wire)) {
        reading->n_wrong++;
        r->is_dirty = true;
        return;
    }
    entry = entry_of(r, dev);
    entry->is_known = true;
    entry->connector = connector;
    entry->profile = profile;
    entry->since_ms = now_ms(r);
    entry->is_disconnected = device->is_disconnected || !r->connectors[connector].is_configured;
    if (profile)
        atomic_store_explicit(&dev->profile, profile, memory_order_release);
    if (r->connectors[connector].source)
        atomic_store_explicit(&dev->source, r->connectors[connector].source->number, memory_order_release);
    if (wire && !str_eq(device->renaming, device->name)) {
        if (map_get(&r->renamed, device->renaming)) {
            reading->n_wrong++;
            return;
        }
        set_wire(r, dev, wire);
        atomic_store_explicit(&dev->platform_json, wire, memory_order_release);
    }
    reading->n++;
}

static void read_wrong(void *arg, struct str name)
{
    struct reading *reading = arg;

    (void)name;
    reading->n_wrong++;
    reading->registry->is_dirty = true;
}

static void put_aside(struct registry *r, const struct why *why)
{
    autobuf struct buf aside = {0};

    buf_printf(&aside, "%s.bad", r->path);
    buf_add_u8(&aside, 0);
    (void)rename(r->path, (char *)aside.p);
    LOG_WARN(r->conf.log, "the list of devices cannot be used, it is put aside", KV_Z("path", r->path), KV_WHY(why));
}

void registry_load(struct registry *r)
{
    struct reading reading = {.registry = r};
    struct why why = {0};
    autobuf struct buf text = {0};
    enum err err;

    if (access(r->path, F_OK))
        return;
    err = file_read(&text, r->path, LIST_MAX, &why);
    if (!err && str_trim(buf_str(&text)).n > 0) /* a crash of the peer leaves an empty one */
        err = device_list_read(buf_str(&text), read_device, read_wrong, &reading, &why);
    if (err == ERR_SYNTAX) {
        put_aside(r, &why);
        r->is_dirty = true;
    } else if (err) {
        LOG_WARN(r->conf.log, "the list of devices cannot be read", KV_WHY(&why));
    } else {
        LOG_INFO(r->conf.log, "devices known", KV_UINT("devices", reading.n), KV_UINT("dropped", reading.n_dropped));
    }
    if (reading.n_wrong)
        LOG_WARN(r->conf.log, "entries in the list of devices cannot be used", KV_UINT("entries", reading.n_wrong));
    if (r->is_dirty)
        look_later(r);
}

/* --- first sights ------------------------------------------------------------------------------------------------------------ */

void registry_seen(void *arg, struct ctx *ctx, struct device *dev)
{
    struct registry *r = arg;

    (void)ctx;
    (void)dev;
    if (!atomic_exchange_explicit(&r->is_seen, true, memory_order_acq_rel))
        mailbox_post(&r->seen_box, &r->seen_node);
}

static void seen(void *arg, struct node *nodes)
{
    (void)nodes;
    if (!atomic_load(&((struct registry *)arg)->is_stopping))
        look_later(arg);
}

/* Whoever takes a name that another, renamed device has: the older one yields if nobody serves it any more. */
static void check_name(struct registry *r, struct device *dev)
{
    struct device *other = map_get(&r->renamed, device_name(dev));

    if (!other || other == dev || entry_of(r, dev)->wire)
        return;
    if (!atomic_load(&other->owner)) {
        LOG_INFO(r->conf.log, "a device takes the name of a renamed one", KV_STR("device", device_name(dev)),
                 KV_STR("renamed", device_name(other)));
        set_wire(r, other, NULL);
        entry_of(r, other)->is_known = false;
        tell(r, UPLINK_DEVICE_FORGET, other, NULL);
        tell(r, UPLINK_DEVICE_RENAME, other, NULL);
        return;
    }
    LOG_WARN(r->conf.log, "two devices have one name on the platform, requests go to the renamed one",
             KV_STR("device", device_name(dev)), KV_STR("renamed", device_name(other)));
}

static void look_at(struct registry *r, struct device *dev)
{
    struct entry *entry = entry_of(r, dev);
    const struct device_source *source;
    const char *profile;
    uint16_t connector;

    if (!atomic_load_explicit(&dev->owner, memory_order_acquire))
        return;
    source = device_source_at(atomic_load_explicit(&dev->source, memory_order_acquire));
    profile = atomic_load_explicit(&dev->profile, memory_order_acquire);
    connector =
        entry->is_known && entry->connector < r->n_connectors && r->connectors[entry->connector].source == source
            ? entry->connector
            : connector_by_source(r, source);
    if (entry->is_known && entry->connector == connector && entry->profile == profile && !entry->is_disconnected)
        return;
    if (!entry->is_known) {
        entry->since_ms = now_ms(r);
        check_name(r, dev);
    }
    entry->is_known = true;
    entry->is_disconnected = false;
    entry->connector = connector;
    entry->profile = profile;
    r->is_dirty = true;
}

static void look_at_all(struct registry *r)
{
    atomic_store_explicit(&r->is_seen, false, memory_order_seq_cst);
    for (uint32_t i = 0, n = device_count(); i < n; i++)
        look_at(r, device_at(i));
}

static void look(void *arg)
{
    struct registry *r = arg;

    look_at_all(r);
    if (r->is_dirty && !r->is_writing)
        begin_write(r);
}

/* --- instances that come -------------------------------------------------------------------------------------------------- */

void registry_attached(void *arg, struct ctx *ctx)
{
    struct registry *r = arg;
    struct arrival *arrival;

    if (atomic_load(&r->is_stopping))
        return;
    arrival = mem_zero(sizeof *arrival);
    arrival->ctx = ctx_ref(ctx);
    mailbox_post(&r->arrivals, &arrival->node);
}

/* Its known devices are served at once: commands reach them before their first data, and the platform sees them. Where
 * links are known, the link is awaited. */
static void attach(struct registry *r, struct ctx *ctx)
{
    uint16_t index = connector_by_source(r, ctx_source(ctx));
    struct device **devs;
    size_t n = 0;

    if (index == NO_CONNECTOR)
        index = connector_add(r, ctx_source(ctx), str_from(ctx_source(ctx) ? ctx_source(ctx)->name : ""), ctx_id(ctx));
    if (index == NO_CONNECTOR)
        return;
    devs = mem_new((r->n_entries + 1) * sizeof *devs);
    for (size_t i = 0; i < r->n_entries; i++) {
        struct entry *entry = &r->entries[i];

        if (!entry->is_known || entry->connector != index)
            continue;
        entry->since_ms = now_ms(r);
        entry->is_disconnected = false;
        (void)ctx_serve(ctx, device_at((uint32_t)i));
        if (!ctx_knows_links(ctx))
            devs[n++] = device_at((uint32_t)i);
    }
    if (n)
        r->conf.link.devices(r->conf.link.arg, UPLINK_DEVICE_OPEN, devs, NULL, n);
    mem_free(devs);
}

static void run_arrivals(void *arg, struct node *nodes)
{
    struct registry *r = arg;

    while (nodes) {
        struct arrival *arrival = CONTAINER_OF(nodes, struct arrival, node);

        nodes = nodes->next;
        if (!atomic_load(&r->is_stopping))
            attach(r, arrival->ctx);
        ctx_unref(arrival->ctx);
        mem_free(arrival);
    }
}

/* --- inactivity -------------------------------------------------------------------------------------------------------------------- */

static void give_up(struct registry *r, struct device *dev, struct entry *entry)
{
    LOG_INFO(r->conf.log, "device is silent, it is disconnected", KV_STR("device", device_name(dev)));
    tell(r, UPLINK_DEVICE_CLOSE, dev, NULL);
    ctx_abandon(dev);
    entry->is_disconnected = true;
    if (!entry->wire)
        entry->is_known = false;
    changed(r);
}

static void check(void *arg)
{
    struct registry *r = arg;
    uint64_t now = now_ms(r), limit_ms = (uint64_t)r->conf.inactive_s * 1000;

    for (uint32_t i = 0; i < r->n_entries && i < device_count(); i++) {
        struct entry *entry = &r->entries[i];
        struct device *dev = device_at(i);
        uint64_t last_ms = atomic_load_explicit(&dev->last_ms, memory_order_relaxed);

        if (last_ms < entry->since_ms)
            last_ms = entry->since_ms;
        if (entry->is_known && atomic_load_explicit(&dev->owner, memory_order_relaxed) && now >= last_ms + limit_ms)
            give_up(r, dev, entry);
    }
}

/* --- names on the platform ------------------------------------------------------------------------------------------------------- */

struct device *registry_by_platform_name(struct registry *r, struct str name)
{
    return holder_of(r, name);
}

struct str registry_platform_name(const struct device *dev)
{
    const char *wire = atomic_load_explicit(&dev->platform_json, memory_order_acquire);

    return wire ? device_wire_plain(wire) : device_name(dev);
}

enum err registry_rename(struct registry *r, struct str from, struct str to, struct why *why)
{
    struct device *dev = holder_of(r, from), *other;
    enum err err = device_name_check(to, why);
    struct entry *entry;
    const char *wire;

    if (!err && !dev)
        err = device_name_check(from, why);
    if (err)
        return err;
    if (!dev)
        dev = device_get(from);
    other = holder_of(r, to);
    if (other && other != dev)
        return why_set(why, ERR_EXISTS, "another device is called \"" STR_FMT "\" already", STR_ARG(to));
    entry = entry_of(r, dev);
    wire = str_eq(to, device_name(dev)) ? NULL : device_wire_name(to);
    if (wire == entry->wire)
        return ERR_OK;
    if (!entry->is_known) {
        const struct device_source *source = device_source_at(atomic_load(&dev->source));

        entry->is_known = true;
        entry->since_ms = now_ms(r);
        entry->connector = connector_by_source(r, source);
        entry->profile = atomic_load(&dev->profile);
        entry->is_disconnected = !atomic_load(&dev->owner);
    }
    set_wire(r, dev, wire);
    LOG_INFO(r->conf.log, "device renamed by the platform", KV_STR("device", device_name(dev)), KV_STR("name", to));
    tell(r, UPLINK_DEVICE_RENAME, dev, wire);
    tell(r, UPLINK_DEVICE_OPEN, dev, NULL);
    changed(r);
    return ERR_OK;
}

void registry_delete(struct registry *r, struct str name)
{
    struct device *dev = holder_of(r, name);

    if (!dev)
        return;
    LOG_INFO(r->conf.log, "device deleted by the platform", KV_STR("device", device_name(dev)));
    tell(r, UPLINK_DEVICE_FORGET, dev, NULL);
    if (entry_of(r, dev)->wire)
        tell(r, UPLINK_DEVICE_RENAME, dev, NULL);
    set_wire(r, dev, NULL);
    entry_of(r, dev)->is_known = false;
    ctx_abandon(dev);
    changed(r);
}

static void add_failure(struct buf *reply, const struct why *why)
{
    reply->n = 0;
    buf_add_z(reply, "{\"success\":false,\"error\":");
    json_add_string(reply, str_from(why_text(why)));
    buf_add_u8(reply, '}');
}

void registry_renamed(struct registry *r, yyjson_val *params, struct buf *reply)
{
    struct why why = {0};
    size_t i, max;
    yyjson_val *key, *value;
    bool is_wrong = !yyjson_is_obj(params) || yyjson_obj_size(params) == 0;

    buf_add_z(reply, "{\"success\":true}");
    yyjson_obj_foreach(params, i, max, key, value)
    {
        if (!yyjson_is_str(value)) {
            is_wrong = true;
        } else if (r->conf.handle_renaming && registry_rename(r, json_str(key), json_str(value), &why)) {
            LOG_WARN(r->conf.log, "device not renamed", KV_STR("device", json_str(key)), KV_WHY(&why));
            add_failure(reply, &why);
        }
    }
    if (is_wrong) {
        (void)why_set(&why, ERR_RANGE, "expected an object of former and new name");
        add_failure(reply, &why);
    }
}

void registry_deleted(struct registry *r, yyjson_val *params, struct buf *reply)
{
    struct why why = {0};

    if (yyjson_is_str(params)) {
        registry_delete(r, json_str(params));
        buf_add_z(reply, "{\"success\":true}");
        return;
    }
    (void)why_set(&why, ERR_RANGE, "expected the name of a device");
    add_failure(reply, &why);
}

void registry_each(struct registry *r, void (*fn)(void *arg, struct device *dev), void *arg)
{
    for (uint32_t i = 0; i < r->n_entries && i < device_count(); i++)
        if (r->entries[i].is_known)
            fn(arg, device_at(i));
}

/* --- life ---------------------------------------------------------------------------------------------------------------------------- */

static void start_checking(struct registry *r)
{
    const uint64_t period_ms = (uint64_t)r->conf.check_s * 1000;

    if (r->conf.inactive_s && period_ms)
        timer_start_periodic(&r->check, period_ms, period_ms);
}

struct registry *registry_new(const struct registry_conf *conf)
{
    struct registry *r = mem_zero(sizeof *r);
    autobuf struct buf path = {0};

    r->conf = *conf;
    buf_printf(&path, "%s/connected_devices.json", conf->dir);
    buf_add_u8(&path, 0);
    r->path = mem_dup((char *)path.p);
    mailbox_init(&r->seen_box, conf->loop, seen, r);
    mailbox_init(&r->arrivals, conf->loop, run_arrivals, r);
    timer_init(&r->look, conf->loop, look, r);
    timer_init(&r->check, conf->loop, check, r);
    start_checking(r);
    return r;
}

void registry_tune(struct registry *r, const struct registry_conf *conf)
{
    r->conf.handle_renaming = conf->handle_renaming;
    if (r->conf.inactive_s == conf->inactive_s && r->conf.check_s == conf->check_s)
        return;
    r->conf.inactive_s = conf->inactive_s;
    r->conf.check_s = conf->check_s;
    timer_stop(&r->check);
    start_checking(r);
}

void registry_add_connector(struct registry *r, const char *type, const char *name, struct str id)
{
    const struct device_source *source = device_source_intern(type, name);
    uint16_t index = connector_by_source(r, source);

    if (index == NO_CONNECTOR)
        index = connector_add(r, source, str_from(name), id);
    if (index != NO_CONNECTOR)
        r->connectors[index].is_configured = true;
}

static uint16_t heir_of(const struct registry *r, uint16_t index)
{
    for (size_t i = 0; *r->connectors[index].id && i < r->n_connectors; i++)
        if (r->connectors[i].is_configured && strcmp(r->connectors[i].id, r->connectors[index].id) == 0)
            return (uint16_t)i;
    return NO_CONNECTOR;
}

void registry_remove_connector(struct registry *r, const char *type, const char *name)
{
    uint16_t index = connector_by_source(r, device_source_intern(type, name)), heir;

    if (index == NO_CONNECTOR)
        return;
    look_at_all(r); /* what it has brought last is its */
    r->connectors[index].is_configured = false;
    heir = heir_of(r, index);
    for (size_t i = 0; i < r->n_entries && i < device_count(); i++) {
        struct entry *entry = &r->entries[i];
        struct device *dev = device_at((uint32_t)i);

        if (!entry->is_known || entry->connector != index)
            continue;
        if (heir != NO_CONNECTOR) {
            entry->connector = heir;
            atomic_store_explicit(&dev->source, r->connectors[heir].source->number, memory_order_release);
            continue;
        }
        ctx_abandon(dev);
        entry->is_disconnected = true;
        if (!entry->wire)
            entry->is_known = false;
    }
    changed(r);
}

void registry_look(struct registry *r)
{
    look_at_all(r);
    changed(r);
}

void registry_stop(struct registry *r)
{
    look_at_all(r);
    atomic_store(&r->is_stopping, true);
    timer_stop(&r->look);
    timer_stop(&r->check);
    if (r->is_dirty && !r->is_writing)
        begin_write(r);
}

void registry_free(struct registry *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_connectors; i++) {
        mem_free(r->connectors[i].name);
        mem_free(r->connectors[i].id);
    }
    mem_free(r->connectors);
    mem_free(r->entries);
    mem_free(r->snapshot);
    map_fini(&r->renamed);
    mem_free(r->path);
    mem_free(r);
}
