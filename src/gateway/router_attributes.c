/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router_impl.h"

/*
 * Attributes of devices (core.md 10): updates that the platform pushes, what connectors ask for, and what is fetched when a device
 * connects. Values for a device that is not there, or whose connector is busy, are kept, the latest of each key. What is known of
 * shared attributes is remembered for a session, so that a device which connects again needs no request.
 */
enum {
    UPDATE_MS = 5000,
    KEPT_BYTES_MAX = 1024 * 1024,
    KNOWN_BYTES_MAX = 4 * 1024 * 1024,
    KEYS_MAX = 1024,  /* of one device */
    ASKING_MAX = 256, /* requests of one connector at once */
    SYNCS_MAX = 32,   /* requests for devices that have connected, at once; the rest stands in line */
};

struct key_value {
    struct str key;
    char *json; /* NULL: not known in this session, or (is_unset) known to be unset */
    bool is_unset;
};

/* Of one device, by its name on the platform: values not yet delivered; of those seen, what they are. */
struct values {
    struct list node; /* kept: in order of first arrival */
    struct str name;
    struct key_value *items;
    size_t n, n_bytes;
};

struct sync {
    struct list node;
    struct router *router;
    struct device *dev;
    char *keys; /* a JSON array */
    bool is_all, is_again;
};

struct updates {
    struct map kept, known;
    struct list kept_order, known_order;
    size_t kept_bytes, known_bytes;
    struct list syncs;
    unsigned n_syncing;
};

/* --- values of a device -------------------------------------------------------------------------------------------------------- */

static char *copy_of(struct str text)
{
    char *copy = mem_new(text.n + 1);

    if (text.n)
        memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    return copy;
}

static struct values *values_of(struct map *map, struct list *order, struct str name)
{
    struct values *values = map_get(map, name);

    if (!values) {
        values = mem_zero(sizeof *values);
        values->name = str_of(copy_of(name), name.n);
        values->n_bytes = sizeof *values + name.n;
        map_put(map, values->name, values);
        list_add_tail(order, &values->node);
    }
    return values;
}

static void values_drop(struct map *map, struct values *values)
{
    (void)map_del(map, values->name);
    list_del(&values->node);
    for (size_t i = 0; i < values->n; i++) {
        mem_free((void *)(uintptr_t)values->items[i].key.p);
        mem_free(values->items[i].json);
    }
    mem_free(values->items);
    mem_free((void *)(uintptr_t)values->name.p);
    mem_free(values);
}

static struct key_value *value_of(const struct values *values, struct str key)
{
    for (size_t i = 0; i < values->n; i++)
        if (str_eq(key, values->items[i].key))
            return &values->items[i];
    return NULL;
}

/* val NULL: it is not set. False: there are too many. */
static bool values_set(struct values *values, struct str key, yyjson_val *val)
{
    struct key_value *item = value_of(values, key);
    autobuf struct buf text = {0};

    if (!item) {
        if (values->n == KEYS_MAX)
            return false;
        values->items = mem_grow(values->items, (values->n + 1) * sizeof *values->items);
        item = &values->items[values->n++];
        *item = (struct key_value){.key = str_of(copy_of(key), key.n)};
        values->n_bytes += sizeof *item + key.n + 1;
    }
    if (item->json)
        values->n_bytes -= strlen(item->json);
    mem_free(item->json);
    item->json = NULL;
    item->is_unset = !val;
    if (val) {
        json_add_value(&text, val);
        item->json = copy_of(buf_str(&text));
        values->n_bytes += text.n;
    }
    return true;
}

/* Those of keys, or all; those that are set. Empty if none is. */
static void add_object(struct buf *out, const struct values *values, yyjson_val *keys)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(keys);

    for (size_t i = 0; i < (keys ? yyjson_arr_size(keys) : values->n); i++) {
        const struct key_value *item =
            keys ? value_of(values, json_str(yyjson_arr_iter_next(&iter))) : &values->items[i];

        if (!item || !item->json)
            continue;
        buf_add_u8(out, out->n ? ',' : '{');
        json_add_string(out, item->key);
        buf_add_u8(out, ':');
        buf_add_z(out, item->json);
    }
    if (out->n)
        buf_add_u8(out, '}');
}

static void trim(struct router *router, struct map *map, struct list *order, size_t *bytes, size_t max,
                 const char *what)
{
    while (*bytes > max && !list_is_empty(order)) {
        struct values *values = CONTAINER_OF(list_first(order), struct values, node);

        LOG_WARN(router->log, "too many attribute values, the oldest are forgotten", KV_Z("of", what),
                 KV_STR("device", values->name));
        *bytes -= values->n_bytes;
        values_drop(map, values);
    }
}

/* --- delivery ------------------------------------------------------------------------------------------------------------------- */

static struct str platform_name(struct router *router, const struct device *dev)
{
    return router->events.platform_name ? router->events.platform_name(router->arg, dev) : device_name(dev);
}

static void keep(struct router *router, struct str name, yyjson_val *data)
{
    struct updates *updates = router->updates;
    struct values *values = values_of(&updates->kept, &updates->kept_order, name);
    yyjson_obj_iter iter = yyjson_obj_iter_with(data);
    size_t before = values->n ? values->n_bytes : 0;
    yyjson_val *key;

    while ((key = yyjson_obj_iter_next(&iter)))
        if (!values_set(values, json_str(key), yyjson_obj_iter_get_val(key))) {
            LOG_WARN(router->log, "attribute update has too many keys, the rest is lost", KV_STR("device", name));
            break;
        }
    updates->kept_bytes += values->n_bytes - before;
    trim(router, &updates->kept, &updates->kept_order, &updates->kept_bytes, KEPT_BYTES_MAX,
         "devices that are not there");
}

/* Only where somebody will want it again: a type that names shared attributes. */
static void remember(struct router *router, const struct connector *connector, const struct device *dev,
                     yyjson_val *data, yyjson_val *asked)
{
    struct updates *updates = router->updates;
    yyjson_obj_iter iter = yyjson_obj_iter_with(data);
    yyjson_arr_iter keys = yyjson_arr_iter_with(asked);
    struct values *values;
    yyjson_val *key;
    size_t before;

    if (!router->conf.syncs_attributes || !ctx_type(connector->ctx)->shared_keys)
        return;
    values = values_of(&updates->known, &updates->known_order, device_name(dev));
    before = values->n ? values->n_bytes : 0;
    while ((key = yyjson_obj_iter_next(&iter)) && values_set(values, json_str(key), yyjson_obj_iter_get_val(key)))
        ;
    while ((key = yyjson_arr_iter_next(&keys)) &&
           (json_get(data, json_str(key)) || values_set(values, json_str(key), NULL)))
        ;
    updates->known_bytes += values->n_bytes - before;
    trim(router, &updates->known, &updates->known_order, &updates->known_bytes, KNOWN_BYTES_MAX, "connected devices");
}

static void update_is_late(void *arg)
{
    struct delivery *delivery = arg;
    struct router *router = delivery->router;

    router->stats.n_timeouts++;
    LOG_WARN(router->log, "attribute update not confirmed in time", KV_STR("device", device_name(delivery->dev)),
             KV_Z("connector", ctx_name(delivery->connector->ctx)));
    delivery->is_open = false;
    delivery->connector->n_open--;
}

static void deliver(struct router *router, struct connector *connector, struct device *dev, struct str json)
{
    uint64_t due = loop_mono_ms(router->main) + UPDATE_MS;
    enum err err = router_deliver(router, connector, NULL, dev, json, due);
    yyjson_doc *doc;

    if (!err) {
        struct delivery *delivery = CONTAINER_OF(connector->lent.prev, struct delivery, node);

        router->stats.n_updates++;
        delivery->deadline.fn = update_is_late;
        timer_start_at(&delivery->deadline, due);
        return;
    }
    if (err == ERR_UNSUPPORTED) {
        LOG_DEBUG(router->log, "attribute update dropped: the connector takes none",
                  KV_STR("device", device_name(dev)));
        return;
    }
    doc = json_read(json, NULL);
    keep(router, platform_name(router, dev), yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

void update_is_over(struct router *router, struct delivery *delivery, enum err err)
{
    struct str json = delivery->box.command.params;
    yyjson_doc *doc;

    if (!err)
        return;
    if (err == ERR_CLOSED) { /* it was stopped: for the one that comes after it, unless there is something newer */
        doc = json_read(json, NULL);
        keep(router, platform_name(router, delivery->dev), yyjson_doc_get_root(doc));
        yyjson_doc_free(doc);
        return;
    }
    LOG_WARN(router->log, "attribute update failed", KV_STR("device", device_name(delivery->dev)),
             KV_Z("connector", ctx_name(delivery->connector->ctx)), KV_ERR(err));
}

static void deliver_kept(struct router *router, struct values *values, struct device *dev, struct connector *connector)
{
    struct updates *updates = router->updates;
    autobuf struct buf json = {0};

    add_object(&json, values, NULL);
    updates->kept_bytes -= values->n_bytes;
    values_drop(&updates->kept, values);
    if (json.n)
        deliver(router, connector, dev, buf_str(&json));
}

void updates_device_is_there(struct router *router, struct device *dev, struct connector *connector)
{
    struct updates *updates = router->updates;
    struct values *values = updates->kept.n ? map_get(&updates->kept, platform_name(router, dev)) : NULL;

    if (values)
        deliver_kept(router, values, dev, connector);
}

void updates_room(struct router *router, struct connector *connector)
{
    if (LIKELY(!router->updates->kept.n))
        return;
    LIST_EACH_SAFE(node, &router->updates->kept_order) {
        struct values *values = CONTAINER_OF(node, struct values, node);
        struct device *dev = router_find(router, values->name);

        if (!connector->is_there || connector->n_open >= OPEN_MAX / 2)
            return;
        if (router_owner(router, dev) == connector)
            deliver_kept(router, values, dev, connector);
    }
}

/* A connector has no use for it; what is kept or known of them goes. */
static void forget_deleted(struct map *map, size_t *bytes, struct str name, yyjson_val *keys)
{
    struct values *values = map->n ? map_get(map, name) : NULL;
    yyjson_arr_iter iter = yyjson_arr_iter_with(keys);
    yyjson_val *key;

    while (values && (key = yyjson_arr_iter_next(&iter)))
        if (value_of(values, json_str(key))) {
            size_t before = values->n_bytes;

            (void)values_set(values, json_str(key), NULL);
            *bytes -= before - values->n_bytes;
        }
}

/* {"device":D,"data":{…}}; {"deleted":[…]} tells of attributes that are no more. */
void router_device_attributes(struct router *router, yyjson_val *root)
{
    struct str name = json_str(json_get(root, STR("device")));
    yyjson_val *data = json_get(root, STR("data")), *key;
    struct device *dev = name.n ? router_find(router, name) : NULL;
    struct connector *connector = router_owner(router, dev);
    struct updates *updates = router->updates;
    autobuf struct buf json = {0};
    yyjson_doc *doc;

    if (!name.n || !yyjson_is_obj(data)) {
        LOG_WARN(router->log, "attribute update of the platform is not understood",
                 KV_Z("because", name.n ? "it has no data" : "it names no device"));
        return;
    }
    yyjson_obj_iter iter = yyjson_obj_iter_with(data);

    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *val = yyjson_obj_iter_get_val(key);

        if (str_eq_z(json_str(key), "deleted") && yyjson_is_arr(val)) {
            LOG_DEBUG(router->log, "shared attributes were deleted", KV_STR("device", name));
            forget_deleted(&updates->kept, &updates->kept_bytes, name, val);
            if (dev)
                forget_deleted(&updates->known, &updates->known_bytes, device_name(dev), val);
            continue;
        }
        buf_add_u8(&json, json.n ? ',' : '{');
        json_add_string(&json, json_str(key));
        buf_add_u8(&json, ':');
        json_add_value(&json, val);
    }
    if (!json.n || router->is_stopping)
        return;
    buf_add_u8(&json, '}');
    doc = json_read(buf_str(&json), NULL);
    if (!connector) {
        LOG_DEBUG(router->log, "attribute update kept until the device connects", KV_STR("device", name));
        keep(router, name, yyjson_doc_get_root(doc));
    } else {
        remember(router, connector, dev, yyjson_doc_get_root(doc), NULL);
        updates_device_is_there(router, dev, connector); /* older ones first */
        deliver(router, connector, dev, buf_str(&json));
    }
    yyjson_doc_free(doc);
}

/* --- when a device connects ----------------------------------------------------------------------------------------------------- */

static void sync_next(struct router *router);

static void sync_free(struct sync *sync)
{
    list_del(&sync->node);
    mem_free(sync->keys);
    mem_free(sync);
}

static void sync_answered(void *arg, enum err err, yyjson_val *root)
{
    struct sync *sync = arg;
    struct router *router = sync->router;
    struct connector *connector = router_owner(router, sync->dev);
    yyjson_doc *asked = json_read(str_from(sync->keys), NULL);
    autobuf struct buf json = {0};

    router->updates->n_syncing--;
    if (err) {
        LOG_DEBUG(router->log, "shared attributes not fetched", KV_STR("device", device_name(sync->dev)), KV_ERR(err));
    } else if (connector) {
        remember(router, connector, sync->dev, root, yyjson_doc_get_root(asked));
        if (yyjson_obj_size(root)) {
            json_add_value(&json, root);
            deliver(router, connector, sync->dev, buf_str(&json));
        }
    }
    yyjson_doc_free(asked);
    sync_free(sync);
    sync_next(router);
}

/* The keys that are asked for, each once, at least one; or false: all is known, and what is set was delivered. */
static bool is_to_be_asked(struct sync *sync, struct connector *connector)
{
    struct router *router = sync->router;
    const struct values *known = map_get(&router->updates->known, device_name(sync->dev));
    yyjson_doc *doc = json_read(str_from(sync->keys), NULL);
    yyjson_arr_iter iter = yyjson_arr_iter_with(yyjson_doc_get_root(doc));
    autobuf struct buf keys = {0}, json = {0};
    struct map seen = {0};
    bool is_known = true;
    yyjson_val *key;

    while ((key = yyjson_arr_iter_next(&iter))) {
        const struct key_value *item = known ? value_of(known, json_str(key)) : NULL;

        if (!json_str(key).n || map_put(&seen, json_str(key), key))
            continue;
        is_known &= item && (item->json || item->is_unset);
        buf_add_u8(&keys, keys.n ? ',' : '[');
        json_add_string(&keys, json_str(key));
    }
    for (size_t i = 0; sync->is_all && known && i < known->n; i++) {
        const struct key_value *item = &known->items[i];

        if (map_get(&seen, item->key))
            continue;
        is_known &= item->json || item->is_unset;
        buf_add_u8(&keys, keys.n ? ',' : '[');
        json_add_string(&keys, item->key);
    }
    map_fini(&seen);
    yyjson_doc_free(doc);
    if (!keys.n)
        return false;
    buf_add_z(&keys, "]");
    mem_free(sync->keys);
    sync->keys = copy_of(buf_str(&keys));
    if (!is_known)
        return true;
    if (sync->is_again) /* it was told in this session */
        return false;
    doc = json_read(buf_str(&keys), NULL);
    add_object(&json, known, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    if (json.n)
        deliver(router, connector, sync->dev, buf_str(&json));
    return false;
}

static void sync_ask(struct sync *sync)
{
    struct router *router = sync->router;
    yyjson_doc *doc = json_read(str_from(sync->keys), NULL);
    yyjson_val *list = yyjson_doc_get_root(doc), *key;
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    struct str *keys = mem_new((yyjson_arr_size(list) + 1) * sizeof *keys);
    size_t n = 0;

    while ((key = yyjson_arr_iter_next(&iter)))
        keys[n++] = json_str(key);
    list_del(&sync->node);
    router->updates->n_syncing++;
    north_request_attributes(router->north, sync->dev, keys, n, false, sync_answered, sync);
    mem_free(keys);
    yyjson_doc_free(doc);
}

static void sync_next(struct router *router)
{
    struct updates *updates = router->updates;
    struct list *node;

    while (updates->n_syncing < SYNCS_MAX && router->north && north_is_ready(router->north) &&
           (node = list_first(&updates->syncs))) {
        struct sync *sync = CONTAINER_OF(node, struct sync, node);
        struct connector *connector = router_owner(router, sync->dev);

        if (connector && is_to_be_asked(sync, connector))
            sync_ask(sync);
        else
            sync_free(sync);
    }
}

struct connected {
    struct notice notice;
    struct device *dev;
    bool is_all, is_again;
    size_t n_keys;
    char keys[];
};

static void run_connected(struct router *router, struct notice *notice)
{
    struct connected *connected = CONTAINER_OF(notice, struct connected, notice);

    if (!connected->is_again)
        router_device_is_there(router, connected->dev);
    /* Without a session there is nothing to be had: the next one asks again for all. */
    if (connected->n_keys && router->conf.syncs_attributes && router->north && north_is_ready(router->north)) {
        struct sync *sync = mem_zero(sizeof *sync);

        sync->router = router;
        sync->dev = connected->dev;
        sync->keys = copy_of(str_of(connected->keys, connected->n_keys));
        sync->is_all = connected->is_all;
        sync->is_again = connected->is_again;
        list_add_tail(&router->updates->syncs, &sync->node);
        sync_next(router);
    }
    mem_free(connected);
}

void router_device_connected(struct router *router, struct ctx *ctx, struct device *dev, struct str keys, bool is_all,
                             bool is_again)
{
    struct connected *connected = mem_zero(sizeof *connected + keys.n);

    connected->notice = (struct notice){.ctx = ctx, .run = run_connected};
    connected->dev = dev;
    connected->is_all = is_all;
    connected->is_again = is_again;
    connected->n_keys = keys.n;
    if (keys.n)
        memcpy(connected->keys, keys.p, keys.n);
    router_post(router, &connected->notice);
}

void updates_session(struct router *router, bool is_ready)
{
    struct updates *updates = router->updates;

    if (!router->conf.syncs_attributes)
        return;
    if (!is_ready) { /* keys stay: they are what "all" means in the next session */
        for (struct map_slot *slot = NULL; (slot = map_next(&updates->known, slot));) {
            struct values *values = slot->value;

            for (size_t i = 0; i < values->n; i++) {
                size_t n = values->items[i].json ? strlen(values->items[i].json) : 0;

                values->n_bytes -= n;
                updates->known_bytes -= n;
                mem_free(values->items[i].json);
                values->items[i].json = NULL;
                values->items[i].is_unset = false;
            }
        }
        LIST_EACH_SAFE(node, &updates->syncs)
            sync_free(CONTAINER_OF(node, struct sync, node));
        return;
    }
    LIST_EACH(node, &router->connectors) {
        struct connector *connector = CONTAINER_OF(node, struct connector, node);

        if (connector->is_there)
            ctx_sync(connector->ctx);
    }
}

/* --- what connectors ask for ---------------------------------------------------------------------------------------------------- */

struct asking {
    struct notice notice;
    struct router *router;
    struct device *dev;
    uint64_t cookie;
    unsigned n_open;
    enum err err;
    struct buf json;
    size_t n_shared, n_client;
    char keys[];
};

static void asking_is_over(struct asking *asking)
{
    struct connector *connector = router_connector(asking->router, asking->notice.ctx);

    if (connector && connector->n_asking)
        connector->n_asking--;
    if (!asking->err)
        buf_add_z(&asking->json, asking->json.n ? "}" : "{}");
    if (!asking->router->is_ending)
        ctx_answer_attributes(asking->notice.ctx, asking->cookie, asking->err,
                              asking->err ? STR_NONE : buf_str(&asking->json));
    ctx_unref(asking->notice.ctx);
    buf_fini(&asking->json);
    mem_free(asking);
}

static void part_answered(void *arg, enum err err, yyjson_val *root)
{
    struct asking *asking = arg;
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);
    yyjson_val *key;

    if (err && !asking->err)
        asking->err = err;
    while ((key = yyjson_obj_iter_next(&iter))) {
        buf_add_u8(&asking->json, asking->json.n ? ',' : '{');
        json_add_string(&asking->json, json_str(key));
        buf_add_u8(&asking->json, ':');
        json_add_value(&asking->json, yyjson_obj_iter_get_val(key));
    }
    if (--asking->n_open == 0)
        asking_is_over(asking);
}

/* False: not a list of texts. None at all is none to ask for. */
static bool ask_scope(struct asking *asking, struct str json, bool is_client)
{
    yyjson_doc *doc = json.n ? json_read(json, NULL) : NULL;
    yyjson_val *list = yyjson_doc_get_root(doc), *key;
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    struct str *keys = mem_new((yyjson_arr_size(list) + 1) * sizeof *keys);
    bool is_list = !json.n || yyjson_is_arr(list);
    size_t n = 0;

    while ((key = yyjson_arr_iter_next(&iter))) {
        is_list &= json_str(key).n > 0;
        keys[n++] = json_str(key);
    }
    if (is_list && n) {
        asking->n_open++;
        north_request_attributes(asking->router->north, asking->dev, keys, n, is_client, part_answered, asking);
    }
    mem_free(keys);
    yyjson_doc_free(doc);
    return is_list;
}

static void run_asking(struct router *router, struct notice *notice)
{
    struct asking *asking = CONTAINER_OF(notice, struct asking, notice);
    struct connector *connector = router_connector(router, notice->ctx);

    ctx_ref(notice->ctx); /* until it is over */
    asking->router = router;
    if (!connector || !router->north)
        asking->err = ERR_CLOSED;
    else if (connector->n_asking >= ASKING_MAX)
        asking->err = ERR_BUSY;
    if (connector)
        connector->n_asking++;
    if (!asking->err &&
        (!ask_scope(asking, str_of(asking->keys, asking->n_shared), false) ||
         !ask_scope(asking, str_of(asking->keys + asking->n_shared, asking->n_client), true) || !asking->n_open))
        asking->err = ERR_RANGE;
    if (!asking->n_open)
        asking_is_over(asking);
}

void router_request_attributes(struct router *router, struct ctx *ctx, struct device *dev, struct str shared,
                               struct str client, uint64_t cookie)
{
    struct asking *asking = mem_zero(sizeof *asking + shared.n + client.n);

    asking->notice = (struct notice){.ctx = ctx, .run = run_asking};
    asking->dev = dev;
    asking->cookie = cookie;
    asking->n_shared = shared.n;
    asking->n_client = client.n;
    if (shared.n)
        memcpy(asking->keys, shared.p, shared.n);
    if (client.n)
        memcpy(asking->keys + shared.n, client.p, client.n);
    router_post(router, &asking->notice);
}

/* --- life ------------------------------------------------------------------------------------------------------------------------ */

void updates_connector_is_there(struct router *router, struct connector *connector)
{
    if (router->conf.syncs_attributes && router->north && north_is_ready(router->north))
        ctx_sync(connector->ctx);
    updates_room(router, connector);
}

void updates_init(struct router *router)
{
    struct updates *updates = mem_zero(sizeof *updates);

    list_init(&updates->kept_order);
    list_init(&updates->known_order);
    list_init(&updates->syncs);
    router->updates = updates;
}

void updates_fini(struct router *router)
{
    struct updates *updates = router->updates;

    LIST_EACH_SAFE(node, &updates->kept_order)
        values_drop(&updates->kept, CONTAINER_OF(node, struct values, node));
    LIST_EACH_SAFE(at, &updates->known_order)
        values_drop(&updates->known, CONTAINER_OF(at, struct values, node));
    LIST_EACH_SAFE(it, &updates->syncs)
        sync_free(CONTAINER_OF(it, struct sync, node));
    map_fini(&updates->kept);
    map_fini(&updates->known);
    mem_free(updates);
}
