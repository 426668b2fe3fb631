/* SPDX-License-Identifier: Apache-2.0 */
/* What the platform does with each topic: which payloads it takes, which outcome the others have, what it answers. */
#include "platform.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "lines.h"

typedef enum outcome topic_fn(struct platform *platform, struct session *session, yyjson_val *root);

static const char *const known_filters[] = {"v1/devices/me/attributes",
                                            "v1/devices/me/attributes/response/+",
                                            "v1/devices/me/rpc/request/+",
                                            "v1/devices/me/rpc/response/+",
                                            "v1/gateway/attributes",
                                            "v1/gateway/attributes/response",
                                            "v1/gateway/rpc",
                                            "v2/fw/response/+/chunk/+",
                                            "v2/fw/error",
                                            "v2/sw/response/+/chunk/+",
                                            "v2/sw/error",
                                            "v2/a",
                                            "v2/a/res/+",
                                            "v2/r/req/+",
                                            "v2/r/res/+",
                                            "v2/a/j",
                                            "v2/a/p",
                                            "v2/a/res/j/+",
                                            "v2/a/res/p/+",
                                            "v2/r/req/j/+",
                                            "v2/r/req/p/+",
                                            "v2/r/res/j/+",
                                            "v2/r/res/p/+"};

bool platform_filter_is_known(struct str filter)
{
    for (size_t i = 0; i < COUNT_OF(known_filters); i++) {
        if (str_eq_z(filter, known_filters[i]))
            return true;
    }
    return false;
}

static struct str text_of(yyjson_val *value)
{
    return str_of(yyjson_get_str(value), yyjson_get_len(value));
}

static bool is_worse(enum outcome a, enum outcome b)
{
    return a > b;
}

/* Numbers are raw text here: a fraction is cut, whole numbers in quotes are taken too. */
static bool read_ts(yyjson_val *value, int64_t *out)
{
    struct str text = yyjson_is_raw(value) ? str_of(yyjson_get_raw(value), yyjson_get_len(value)) : text_of(value);
    double number;

    if (!yyjson_is_raw(value) && !yyjson_is_str(value))
        return false;
    if (!str_to_i64(text, out))
        return true;
    if (yyjson_is_str(value) || str_to_double(text, &number) || number < -9e15 || number > 9e15)
        return false;
    *out = (int64_t)number;
    return true;
}

/* Names the platform refuses: empty, too long, looking like HTML. */
static bool name_is_refused(struct str name)
{
    size_t tag = str_chr(name, '<');

    return !name.n || utf8_count(name) > 255 ||
           (tag + 1 < name.n && ((name.p[tag + 1] | 32) >= 'a' && (name.p[tag + 1] | 32) <= 'z'));
}

/* --- devices behind the gateway --------------------------------------------------------------------------------- */
/* A device's session ends after a time without activity of its own, which nobody is told. */
bool platform_is_over(const struct tally_device *device, uint64_t now_us, const struct platform *platform)
{
    return now_us > device->active_us + platform->conf.device_ms * 1000;
}

/* Opens the device's session if it is not open in this one; costs two messages of the gateway's limit. */
static enum outcome open_device(struct platform *platform, struct session *session, struct tally_device *device,
                                struct str profile)
{
    if (device->session == session->number && !platform_is_over(device, platform->now_us, platform))
        return OUTCOME_OK;
    if (!quota_take(&platform->gateway[LIMIT_MESSAGES], 1, platform->now_us))
        return OUTCOME_CRASH;
    device->session = session->number;
    device->active_us = platform->now_us;
    if (!device->profile)
        device->profile = memcpy(mem_zero(profile.n + 1), profile.p, profile.n);
    if (!quota_take(&platform->gateway[LIMIT_MESSAGES], 1, platform->now_us))
        return OUTCOME_OK; /* open, but not reachable: nobody is told */
    return OUTCOME_OK;
}

static enum outcome find_device(struct platform *platform, struct session *session, struct str name,
                                struct tally_device **out)
{
    const struct former *former = map_get(&platform->former, name);

    if (name_is_refused(name))
        return OUTCOME_REFUSED;
    if (former && former->session == session->number && !tally_find(&platform->tally, name)) {
        *out = former->device;
        former->device->active_us = platform->now_us;
        return OUTCOME_OK;
    }
    *out = tally_device(&platform->tally, name);
    if ((*out)->session != session->number)
        platform->n_early++;
    enum outcome outcome = open_device(platform, session, *out, STR("default"));

    (*out)->active_us = platform->now_us;
    return outcome;
}

static enum outcome take_connect(struct platform *platform, struct session *session, yyjson_val *root)
{
    yyjson_val *name = yyjson_obj_get(root, "device"), *type = yyjson_obj_get(root, "type");

    if (!yyjson_is_str(name) || !yyjson_get_len(name))
        return OUTCOME_BAD_SHAPE;
    if (name_is_refused(text_of(name)))
        return OUTCOME_REFUSED;
    platform->n_connects++;
    return open_device(platform, session, tally_device(&platform->tally, text_of(name)),
                       yyjson_is_str(type) ? text_of(type) : STR("default"));
}

static enum outcome take_disconnect(struct platform *platform, struct session *session UNUSED, yyjson_val *root)
{
    yyjson_val *name = yyjson_obj_get(root, "device");
    struct tally_device *device;
    struct former *former;

    if (!yyjson_is_str(name) || !yyjson_get_len(name))
        return OUTCOME_BAD_SHAPE;
    platform->n_disconnects++;
    device = tally_find(&platform->tally, text_of(name));
    if (device)
        device->session = 0;
    former = map_get(&platform->former, text_of(name));
    if (former)
        former->session = 0;
    return OUTCOME_OK;
}

bool platform_rename(struct platform *platform, struct str from, struct str to)
{
    struct tally_device *device = tally_find(&platform->tally, from);
    struct former *former;

    if (!device || tally_find(&platform->tally, to) || !to.n)
        return false;
    former = map_get(&platform->former, from);
    if (!former) {
        former = mem_zero(sizeof *former);
        former->name = str_of(memcpy(mem_zero(from.n + 1), from.p, from.n), from.n);
        (void)map_put(&platform->former, former->name, former);
    }
    former->device = device;
    former->session = device->session;
    (void)map_del(&platform->tally.devices, device->name);
    mem_free((void *)(uintptr_t)device->name.p);
    device->name = str_of(memcpy(mem_zero(to.n + 1), to.p, to.n), to.n);
    device->session = 0;
    (void)map_put(&platform->tally.devices, device->name, device);
    return true;
}

bool platform_delete(struct platform *platform, struct str name)
{
    struct tally_device *device = tally_find(&platform->tally, name);

    if (!device || device->is_deleted)
        return false;
    tally_values_fini(&device->telemetry);
    tally_values_fini(&device->attributes);
    mem_free(device->profile);
    device->profile = NULL;
    device->session = 0;
    device->is_deleted = true;
    return true;
}

static bool is_set(yyjson_val *value)
{
    return value && !yyjson_is_null(value);
}

/* One element of {D:[…]}: {"ts":T,"values":{…}} or {key:value}. out_values NULL: bad. */
static yyjson_val *entry_values(yyjson_val *entry, int64_t now_ms, int64_t *ts_ms)
{
    yyjson_val *metadata = yyjson_obj_get(entry, "metadata"), *ts = yyjson_obj_get(entry, "ts"),
               *values = yyjson_obj_get(entry, "values");

    *ts_ms = now_ms;
    if (!yyjson_is_obj(entry))
        return NULL;
    if (metadata &&
        (!is_set(yyjson_obj_get(metadata, "connector")) || !is_set(yyjson_obj_get(metadata, "receivedTs")) ||
         !is_set(yyjson_obj_get(metadata, "publishedTs"))))
        return NULL;
    if (!ts || !values)
        return entry;
    return yyjson_is_obj(values) && read_ts(ts, ts_ms) ? values : NULL;
}

static uint64_t count_values(yyjson_val *object)
{
    return yyjson_obj_size(object);
}

static enum outcome take_entries(struct platform *platform, struct tally_device *device, yyjson_val *entries)
{
    enum outcome outcome = OUTCOME_OK;
    uint64_t n_points = 0;
    int64_t now_ms = clock_wall_ms(), ts_ms;
    size_t i, max;
    yyjson_val *entry;

    if (platform->gateway[LIMIT_POINTS].n || platform->gateway[LIMIT_TELEMETRY].n) {
        yyjson_arr_foreach(entries, i, max, entry)
        {
            n_points += count_values(entry_values(entry, now_ms, &ts_ms));
        }
        if (!quota_take(&platform->gateway[n_points ? LIMIT_TELEMETRY : LIMIT_MESSAGES], 1, platform->now_us) ||
            !quota_take(&platform->gateway[LIMIT_POINTS], n_points, platform->now_us))
            return OUTCOME_QUOTA;
    }
    yyjson_arr_foreach(entries, i, max, entry)
    {
        yyjson_val *values = entry_values(entry, now_ms, &ts_ms);

        if (!values) {
            outcome = OUTCOME_BAD_PART;
            continue;
        }
        tally_entry(&platform->tally, device, ts_ms, values, platform->now_us);
        if (values != entry && yyjson_obj_get(entry, "metadata"))
            platform_metrics_take(platform, yyjson_obj_get(entry, "metadata"));
    }
    return outcome;
}

static enum outcome take_telemetry(struct platform *platform, struct session *session, yyjson_val *root)
{
    enum outcome worst = OUTCOME_OK;
    bool has_part = false;
    size_t i, max;
    yyjson_val *name, *entries;

    platform->n_telemetry++;
    yyjson_obj_foreach(root, i, max, name, entries)
    {
        struct tally_device *device;
        enum outcome outcome;

        if (!yyjson_is_arr(entries))
            continue;
        has_part = true;
        outcome = find_device(platform, session, text_of(name), &device);
        if (!outcome)
            outcome = yyjson_arr_size(entries) ? take_entries(platform, device, entries) : OUTCOME_NEVER;
        if (is_worse(outcome, worst))
            worst = outcome;
        if (outcome == OUTCOME_QUOTA || outcome == OUTCOME_CRASH)
            break;
    }
    return has_part ? worst : OUTCOME_BAD_SHAPE;
}

static enum outcome take_attributes(struct platform *platform, struct session *session, yyjson_val *root)
{
    enum outcome worst = OUTCOME_OK;
    bool has_part = false;
    size_t i, max;
    yyjson_val *name, *values;

    yyjson_obj_foreach(root, i, max, name, values)
    {
        struct tally_device *device;
        uint64_t n = yyjson_obj_size(values);
        enum outcome outcome;

        if (!yyjson_is_obj(values))
            continue;
        has_part = true;
        outcome = find_device(platform, session, text_of(name), &device);
        if (!outcome && (!quota_take(&platform->gateway[n ? LIMIT_TELEMETRY : LIMIT_MESSAGES], 1, platform->now_us) ||
                         !quota_take(&platform->gateway[LIMIT_POINTS], n, platform->now_us)))
            outcome = OUTCOME_QUOTA;
        if (!outcome) {
            tally_attributes(&platform->tally, device, clock_wall_ms(), values);
            device->last_us = platform->now_us;
        }
        if (is_worse(outcome, worst))
            worst = outcome;
        if (outcome == OUTCOME_QUOTA || outcome == OUTCOME_CRASH)
            break;
    }
    return has_part ? worst : OUTCOME_BAD_SHAPE;
}

/* --- answers ---------------------------------------------------------------------------------------------------- */
static const struct tally_value *value_of(const struct tally_values *values, struct str key)
{
    for (uint32_t i = 0; values && i < values->n; i++) {
        if (str_eq(values->slots[i].key, key))
            return &values->slots[i];
    }
    return NULL;
}

static void add_value(struct buf *out, const struct tally_value *value)
{
    if (value->is_text)
        json_add_text(out, str_of(value->text, value->n));
    else
        buf_add(out, value->text, value->n);
}

static void add_member(struct buf *out, bool is_first, const struct tally_value *value)
{
    if (!is_first)
        buf_add_u8(out, ',');
    json_add_text(out, value->key);
    buf_add_u8(out, ':');
    add_value(out, value);
}

static void answer(struct platform *platform, struct session *session, struct str topic, const struct buf *payload)
{
    server_publish(session->client, topic, buf_str(payload), server_granted(session->client, topic) == 0 ? 0 : 1);
    platform->n_downlinks++;
}

/* One key asked: "value"; several: "values" with those found; nothing found: neither. */
static void add_answer(struct buf *out, const struct tally_values *values, yyjson_val *keys)
{
    size_t i, max, n_found = 0;
    yyjson_val *key;

    yyjson_arr_foreach(keys, i, max, key)
    {
        const struct tally_value *value = value_of(values, text_of(key));

        if (!value)
            continue;
        if (max == 1) {
            buf_add_z(out, ",\"value\":");
            add_value(out, value);
            return;
        }
        if (!n_found)
            buf_add_z(out, ",\"values\":{");
        add_member(out, n_found++ == 0, value);
    }
    if (n_found)
        buf_add_u8(out, '}');
}

static enum outcome take_attributes_request(struct platform *platform, struct session *session, yyjson_val *root)
{
    yyjson_val *id = yyjson_obj_get(root, "id"), *name = yyjson_obj_get(root, "device"),
               *client = yyjson_obj_get(root, "client"), *key = yyjson_obj_get(root, "key"),
               *keys = yyjson_obj_get(root, "keys");
    struct tally_device *device, *shared;
    autobuf struct buf out = {0};
    enum outcome outcome;

    if (!yyjson_is_raw(id) || !yyjson_is_str(name) || !yyjson_is_bool(client) ||
        (!yyjson_is_str(key) && !yyjson_is_arr(keys)))
        return OUTCOME_BAD_SHAPE;
    outcome = find_device(platform, session, text_of(name), &device);
    if (!outcome && !quota_take(&platform->gateway[LIMIT_MESSAGES], 1, platform->now_us))
        outcome = OUTCOME_QUOTA;
    if (outcome)
        return outcome;
    shared = map_get(&platform->shared, device->name);
    buf_add_z(&out, "{\"id\":");
    buf_add(&out, yyjson_get_raw(id), yyjson_get_len(id));
    buf_add_z(&out, ",\"device\":");
    json_add_text(&out, device->name);
    if (yyjson_is_arr(keys)) {
        add_answer(&out, yyjson_get_bool(client) ? &device->attributes : shared ? &shared->attributes : NULL, keys);
    } else {
        const struct tally_value *value = value_of(yyjson_get_bool(client) ? &device->attributes
                                                   : shared                ? &shared->attributes
                                                                           : NULL,
                                                   text_of(key));

        if (value) {
            buf_add_z(&out, ",\"value\":");
            add_value(&out, value);
        }
    }
    buf_add_u8(&out, '}');
    answer(platform, session, STR("v1/gateway/attributes/response"), &out);
    return OUTCOME_OK;
}

static enum outcome take_rpc_reply(struct platform *platform, struct session *session, yyjson_val *root)
{
    yyjson_val *name = yyjson_obj_get(root, "device");
    struct tally_device *device;
    enum outcome outcome;

    if (!yyjson_is_str(name) || !yyjson_is_raw(yyjson_obj_get(root, "id")) || !yyjson_obj_get(root, "data"))
        return OUTCOME_BAD_SHAPE;
    outcome = find_device(platform, session, text_of(name), &device);
    if (!outcome && !quota_take(&platform->gateway[LIMIT_MESSAGES], 1, platform->now_us))
        outcome = OUTCOME_QUOTA;
    return outcome;
}

static enum outcome take_claim(struct platform *platform, struct session *session, yyjson_val *root)
{
    enum outcome outcome = OUTCOME_BAD_SHAPE;
    size_t i, max;
    yyjson_val *name, *claim;

    yyjson_obj_foreach(root, i, max, name, claim)
    {
        struct tally_device *device;

        if (yyjson_is_obj(claim))
            outcome = find_device(platform, session, text_of(name), &device);
    }
    return outcome;
}

/* --- the gateway as a device ------------------------------------------------------------------------------------ */
static void keep_own(struct platform *platform, int64_t ts_ms, yyjson_val *values)
{
    unsigned n = tally_keep(&platform->own_telemetry, ts_ms, values);

    platform->n_own_values += n;
    platform->n_own_telemetry += n;
}

static enum outcome take_own_telemetry(struct platform *platform, struct session *session UNUSED, yyjson_val *root)
{
    size_t i, max;
    yyjson_val *entry;
    int64_t ts_ms;

    if (yyjson_is_arr(root) && !yyjson_arr_size(root))
        return OUTCOME_NEVER;
    if (!yyjson_is_arr(root) && !yyjson_is_obj(root))
        return OUTCOME_BAD_JSON;
    if (!quota_take(&platform->own[LIMIT_TELEMETRY], 1, platform->now_us))
        return OUTCOME_OWN_QUOTA;
    if (yyjson_is_obj(root)) {
        yyjson_val *values = entry_values(root, clock_wall_ms(), &ts_ms);

        if (!values)
            return OUTCOME_CRASH;
        keep_own(platform, ts_ms, values);
        return OUTCOME_OK;
    }
    yyjson_arr_foreach(root, i, max, entry)
    {
        yyjson_val *values = entry_values(entry, clock_wall_ms(), &ts_ms);

        if (!yyjson_is_obj(entry))
            return OUTCOME_BAD_JSON;
        if (!values)
            return OUTCOME_CRASH;
        keep_own(platform, ts_ms, values);
    }
    return OUTCOME_OK;
}

static enum outcome take_own_attributes(struct platform *platform, struct session *session UNUSED, yyjson_val *root)
{
    if (!yyjson_is_obj(root))
        return OUTCOME_BAD_JSON;
    if (!quota_take(&platform->own[LIMIT_TELEMETRY], 1, platform->now_us))
        return OUTCOME_OWN_QUOTA;
    platform->n_own_values += tally_keep(&platform->own_attributes, clock_wall_ms(), root);
    return OUTCOME_OK;
}

/* keys: "a,b"; absent with all: every one. */
static bool add_scope(struct buf *out, const char *scope, const struct tally_values *values, yyjson_val *keys, bool all,
                      bool is_first)
{
    struct str rest = text_of(keys), key;
    bool has_any = false;

    for (uint32_t i = 0; all && values && i < values->n; i++) {
        if (!has_any)
            buf_printf(out, "%s\"%s\":{", is_first ? "" : ",", scope);
        add_member(out, !has_any, &values->slots[i]);
        has_any = true;
    }
    while (!all && str_split(&rest, ',', &key)) {
        const struct tally_value *value = value_of(values, str_trim(key));

        if (!value)
            continue;
        if (!has_any)
            buf_printf(out, "%s\"%s\":{", is_first ? "" : ",", scope);
        add_member(out, !has_any, value);
        has_any = true;
    }
    if (has_any)
        buf_add_u8(out, '}');
    return has_any;
}

static enum outcome take_own_request(struct platform *platform, struct session *session, yyjson_val *root,
                                     struct str number)
{
    yyjson_val *client = yyjson_obj_get(root, "clientKeys"), *shared_keys = yyjson_obj_get(root, "sharedKeys");
    struct tally_device *shared = map_get(&platform->shared, STR_NONE);
    autobuf struct buf out = {0}, topic = {0};
    uint64_t id;
    bool has_client;

    if (!yyjson_is_obj(root) || str_to_u64(number, &id) || (client && !yyjson_is_str(client)) ||
        (shared_keys && !yyjson_is_str(shared_keys)))
        return OUTCOME_BAD_JSON;
    if (!quota_take(&platform->own[LIMIT_MESSAGES], 1, platform->now_us))
        return OUTCOME_OWN_QUOTA;
    buf_add_u8(&out, '{');
    has_client = add_scope(&out, "client", &platform->own_attributes, client, !client && !shared_keys, true);
    add_scope(&out, "shared", shared ? &shared->attributes : NULL, shared_keys, !client && !shared_keys, !has_client);
    buf_add_u8(&out, '}');
    buf_printf(&topic, "v1/devices/me/attributes/response/%llu", (unsigned long long)id);
    answer(platform, session, buf_str(&topic), &out);
    return OUTCOME_OK;
}

/* Without the member "gatewayRateLimits" where the device is no gateway. */
static void add_limits(const struct platform *platform, const struct session *session, struct buf *out)
{
    yyjson_doc *doc = yyjson_read(platform->limits, strlen(platform->limits), 0);
    yyjson_mut_doc *copy = yyjson_doc_mut_copy(doc, NULL);
    size_t n = 0;
    char *text;

    if (!session->is_gateway)
        yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(copy), "gatewayRateLimits");
    text = yyjson_mut_write(copy, 0, &n);
    buf_add(out, text, text ? n : 0);
    free(text);
    yyjson_mut_doc_free(copy);
    yyjson_doc_free(doc);
}

static enum outcome take_own_rpc(struct platform *platform, struct session *session, yyjson_val *root,
                                 struct str number)
{
    yyjson_val *method = yyjson_obj_get(root, "method");
    autobuf struct buf out = {0}, topic = {0};
    uint64_t id;

    if (!yyjson_is_obj(root))
        return OUTCOME_BAD_JSON;
    if (!yyjson_is_str(method) || str_to_u64(number, &id))
        return OUTCOME_CRASH;
    if (!str_eq(text_of(method), STR("getSessionLimits")))
        return quota_take(&platform->own[LIMIT_MESSAGES], 1, platform->now_us) ? OUTCOME_OK : OUTCOME_OWN_QUOTA;
    add_limits(platform, session, &out);
    buf_printf(&topic, "v1/devices/me/rpc/response/%llu", (unsigned long long)id);
    answer(platform, session, buf_str(&topic), &out);
    return OUTCOME_OK;
}

/* --- dispatch --------------------------------------------------------------------------------------------------- */
static const struct {
    const char *topic;
    topic_fn *take;
} topics[] = {
    {"v1/gateway/telemetry", take_telemetry},
    {"v1/gateway/attributes", take_attributes},
    {"v1/gateway/connect", take_connect},
    {"v1/gateway/disconnect", take_disconnect},
    {"v1/gateway/attributes/request", take_attributes_request},
    {"v1/gateway/rpc", take_rpc_reply},
    {"v1/gateway/claim", take_claim},
    {"v1/devices/me/telemetry", take_own_telemetry},
    {"v1/devices/me/attributes", take_own_attributes},
};

static enum outcome take_numbered(struct platform *platform, struct session *session, struct str topic,
                                  yyjson_val *root)
{
    static const struct str attributes = {"v1/devices/me/attributes/request/", 33},
                            rpc = {"v1/devices/me/rpc/request/", 26}, reply = {"v1/devices/me/rpc/response/", 27};
    uint64_t id;

    if (str_starts(topic, attributes))
        return take_own_request(platform, session, root, str_skip(topic, attributes.n));
    if (str_starts(topic, rpc))
        return take_own_rpc(platform, session, root, str_skip(topic, rpc.n));
    if (str_starts(topic, reply))
        return str_to_u64(str_skip(topic, reply.n), &id) ? OUTCOME_BAD_JSON : OUTCOME_OK;
    return str_eq(topic, STR("v1/devices/me/claim")) ? OUTCOME_OK : OUTCOME_UNKNOWN;
}

/* A document in the platform's pool; one that is too large for it has memory of its own. */
static yyjson_doc *read_payload(struct platform *platform, const struct mqtt_message *message)
{
    yyjson_alc pool;

    if (yyjson_read_max_memory_usage(message->payload_n, TALLY_READ) > platform->pool_n ||
        !yyjson_alc_pool_init(&pool, platform->pool, platform->pool_n))
        return yyjson_read((const char *)message->payload, message->payload_n, TALLY_READ);
    return yyjson_read_opts((char *)(uintptr_t)message->payload, message->payload_n, TALLY_READ, &pool, NULL);
}

/* v2/fw/request/R/chunk/I, the payload is the size of a chunk (platform-behaviour.md 10). */
static enum outcome take_firmware(struct platform *platform, struct session *session,
                                  const struct mqtt_message *message)
{
    struct str rest = str_skip(message->topic, STR("v2/fw/request/").n), request,
               text = str_of(message->payload, message->payload_n);
    uint64_t chunk, size = platform->firmware.n;
    autobuf struct buf topic = {0}, payload = {0};
    size_t at, n;

    if (!str_split(&rest, '/', &request) || !str_starts(rest, STR("chunk/")) || str_to_u64(str_skip(rest, 6), &chunk) ||
        (text.n && str_to_u64(text, &size)))
        return OUTCOME_CRASH;
    if (!platform->firmware.n) {
        buf_add_z(&payload, "NOT_FOUND");
        answer(platform, session, STR("v2/fw/error"), &payload);
        return OUTCOME_CRASH;
    }
    at = !size || chunk > platform->firmware.n / size ? platform->firmware.n : (size_t)(chunk * size);
    n = platform->firmware.n - at;
    buf_add(&payload, platform->firmware.p + at, n < size ? n : (size_t)size);
    buf_printf(&topic, "v2/fw/response/" STR_FMT "/" STR_FMT, STR_ARG(request), STR_ARG(rest));
    answer(platform, session, buf_str(&topic), &payload);
    return OUTCOME_OK;
}

enum { REPLIES_MAX = 4 * 1024 * 1024 };

static void note_reply(struct platform *platform, const struct mqtt_message *message)
{
    struct buf *out = &platform->replies;

    if (out->n > REPLIES_MAX) /* nobody asks for them */
        return;
    buf_add_z(out, out->n ? ",{\"topic\":" : "{\"topic\":");
    json_add_text(out, message->topic);
    buf_add_z(out, ",\"payload\":");
    json_add_text(out, str_of(message->payload, message->payload_n));
    buf_add_u8(out, '}');
}

enum outcome platform_take(struct platform *platform, struct session *session, const struct mqtt_message *message)
{
    enum outcome outcome = OUTCOME_UNKNOWN;
    bool is_known = false;
    yyjson_doc *doc;

    if (str_starts(message->topic, STR("v1/gateway/")) && !session->is_gateway)
        return OUTCOME_NEVER;
    if (str_starts(message->topic, STR("v2/fw/request/")))
        return take_firmware(platform, session, message);
    /* A reply may be any bytes. */
    if (str_starts(message->topic, STR("v1/devices/me/rpc/response/"))) {
        note_reply(platform, message);
        return take_numbered(platform, session, message->topic, NULL);
    }
    doc = message->payload_n ? read_payload(platform, message) : NULL;
    for (size_t i = 0; i < COUNT_OF(topics) && !is_known; i++) {
        is_known = str_eq_z(message->topic, topics[i].topic);
        if (is_known && message->payload_n && !doc)
            outcome = OUTCOME_BAD_JSON;
        else if (is_known)
            outcome = topics[i].take(platform, session, yyjson_doc_get_root(doc));
    }
    if (!is_known)
        outcome = take_numbered(platform, session, message->topic, yyjson_doc_get_root(doc));
    if (str_eq_z(message->topic, "v1/gateway/rpc") && !platform_load_replied(platform, yyjson_doc_get_root(doc)))
        note_reply(platform, message);
    yyjson_doc_free(doc);
    if (platform->journal >= 0 && !outcome && str_eq_z(message->topic, "v1/gateway/telemetry"))
        platform_journal_add(platform, message);
    return outcome;
}
