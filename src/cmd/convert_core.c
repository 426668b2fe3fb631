/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/convert_vectors.h"
#include "data/event.h"
#include "uplink/messages.h"
#include "uplink/pack.h"
#include "uplink/topics.h"

/*
 * What the core of the gateway would publish for one call (platform-api.md 10): event → records → packs, by the code
 * that the running gateway uses. The session is ready, its devices are connected, numbers of requests begin at 1.
 */
struct core {
    yyjson_val *input;
    struct arena *arena;
    struct buf *out; /* "publish":[… */
    struct buf payload;
    size_t max_bytes;
    unsigned max_values, qos, n;
};

/* Records of one event, in the arena. */
struct arena_sink {
    struct record_sink sink;
    struct arena *arena;
    uint8_t *begin;
    size_t n;
};

static uint8_t *sink_room(struct record_sink *base, size_t size)
{
    struct arena_sink *sink = CONTAINER_OF(base, struct arena_sink, sink);

    sink->begin = arena_alloc(sink->arena, size);
    sink->n = size;
    return sink->begin;
}

/* The payload that stands in core->payload. */
static void publish(struct core *core, struct str topic)
{
    buf_add_z(core->out, core->n++ ? ",{\"topic\":" : "{\"topic\":");
    json_add_string(core->out, topic);
    buf_printf(core->out, ",\"qos\":%u,\"payload\":", core->qos);
    json_add_string(core->out, buf_str(&core->payload));
    buf_add_u8(core->out, '}');
    core->payload.n = 0;
}

static struct str text_of(const struct core *core, yyjson_val *val)
{
    autobuf struct buf text = {0};

    if (!val)
        return STR("null");
    json_add_final(&text, val);
    return arena_str(core->arena, buf_str(&text));
}

static struct device *device_of(const struct core *core)
{
    return device_get(json_str(json_get(core->input, STR("device"))));
}

static struct str name_of(const struct device *dev)
{
    return str_of(dev->json, dev->json_n);
}

static NODISCARD enum err add_values(struct core *core, struct event *event, enum record_kind kind, yyjson_val *values,
                                     int64_t ts, struct why *why)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(values);
    yyjson_val *name;

    while ((name = yyjson_obj_iter_next(&iter))) {
        struct str key;
        enum err err = event_key(core->arena, json_str(name), &key, why);

        if (err)
            return err;
        event_add(event, kind, key, text_of(core, yyjson_obj_iter_get_val(name)), ts);
    }
    return ERR_OK;
}

/* An entry is {"ts":T,"values":{…}}, or {key:value} without time. */
static NODISCARD enum err add_entries(struct core *core, struct event *event, yyjson_val *entries, struct why *why)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(entries);
    yyjson_val *entry;

    while ((entry = yyjson_arr_iter_next(&iter))) {
        yyjson_val *values = json_get(entry, STR("values"));
        int64_t ts = EVENT_NO_TS;
        enum err err = json_to_i64(json_get(entry, STR("ts")), &ts);

        if (err || !values) {
            ts = EVENT_NO_TS;
            values = entry;
        }
        err = add_values(core, event, RECORD_TELEMETRY, values, ts, why);
        if (err)
            return err;
    }
    return ERR_OK;
}

static void pack_records(struct core *core, struct device *dev, const struct arena_sink *sink)
{
    struct pack_limits limits = {.max_bytes = core->max_bytes, .max_values = core->max_values, .batch_devices = true};
    const struct record *record = (const struct record *)(const void *)sink->begin, *end;
    struct packer *packer = packer_new();
    const struct pack_part *parts;
    size_t n_parts;

    end = (const struct record *)(const void *)(sink->begin + sink->n);
    while (record < end) {
        bool is_list = record->kind == RECORD_TELEMETRY;
        uint16_t kind = record->kind;

        packer_begin(packer, is_list ? PACK_TELEMETRY : PACK_ATTRIBUTES, &limits);
        while (record < end && record->kind == kind && packer_add(packer, dev, name_of(dev), record))
            record = record_next(record);
        packer_finish(packer, &core->payload, &parts, &n_parts);
        publish(core, is_list ? TOPIC_TELEMETRY : TOPIC_ATTRIBUTES);
    }
    packer_free(packer);
}

static NODISCARD enum err device_data(struct core *core, enum record_kind kind, struct why *why)
{
    struct device *dev = device_of(core);
    struct arena_sink sink = {.sink.room = sink_room, .arena = core->arena};
    struct event event;
    unsigned n_values;
    enum err err;

    if (!dev)
        return why_set(why, ERR_RANGE, "not a name of a device");
    /* {"name":[{"ts":T,"values":{…}}]}: what stands around the values of one record */
    size_t around = name_of(dev).n + sizeof "{:[{\"ts\":1700000000000,\"values\":{}}]}" - 1;
    struct event_limits limits = {.max_bytes = core->max_bytes > around ? core->max_bytes - around
                                               : core->max_bytes        ? 1
                                                                        : 0,
                                  .max_values = core->max_values};

    event_init(&event);
    event_begin(&event, dev, STR_NONE);
    if (kind == RECORD_TELEMETRY)
        err = add_entries(core, &event, json_get(core->input, STR("telemetry")), why);
    else
        err = add_values(core, &event, kind, json_get(core->input, STR("attributes")), EVENT_NO_TS, why);
    if (!err)
        err = event_encode(&event, EVENT_NO_TS, &limits, &sink.sink, &n_values);
    if (!err && sink.n)
        pack_records(core, dev, &sink);
    event_fini(&event);
    return err;
}

/* --- the calls ------------------------------------------------------------------------------------------------------------ */

static NODISCARD enum err device_telemetry(struct core *core, struct why *why)
{
    return device_data(core, RECORD_TELEMETRY, why);
}

static NODISCARD enum err device_attributes(struct core *core, struct why *why)
{
    return device_data(core, RECORD_ATTRIBUTES, why);
}

static NODISCARD enum err connect_device(struct core *core, struct why *why)
{
    struct device *dev = device_of(core);

    if (!dev)
        return why_set(why, ERR_RANGE, "not a name of a device");
    pack_connect(&core->payload, name_of(dev), json_str(json_get(core->input, STR("profile"))));
    publish(core, TOPIC_CONNECT);
    return ERR_OK;
}

static NODISCARD enum err disconnect_device(struct core *core, struct why *why)
{
    struct device *dev = device_of(core);

    if (!dev)
        return why_set(why, ERR_RANGE, "not a name of a device");
    pack_disconnect(&core->payload, name_of(dev));
    publish(core, TOPIC_DISCONNECT);
    return ERR_OK;
}

static NODISCARD enum err gateway_telemetry(struct core *core, struct why *why)
{
    if (!message_own_telemetry(&core->payload, text_of(core, json_get(core->input, STR("telemetry")))))
        return why_set(why, ERR_TYPE, "telemetry is neither an entry nor a list of entries");
    publish(core, TOPIC_OWN_TELEMETRY);
    return ERR_OK;
}

static NODISCARD enum err gateway_attributes(struct core *core, struct why *why)
{
    (void)why;
    buf_add_str(&core->payload, text_of(core, json_get(core->input, STR("attributes"))));
    publish(core, TOPIC_OWN_ATTRIBUTES);
    return ERR_OK;
}

static size_t keys_of(const struct core *core, struct str member, struct str **out)
{
    yyjson_val *list = json_get(core->input, member), *key;
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    size_t n = 0;

    *out = arena_alloc(core->arena, (yyjson_arr_size(list) + 1) * sizeof **out);
    while ((key = yyjson_arr_iter_next(&iter)))
        (*out)[n++] = json_str(key);
    return n;
}

static NODISCARD enum err request_device_attributes(struct core *core, struct why *why)
{
    struct device *dev = device_of(core);
    struct str *shared, *client;
    size_t n_shared = keys_of(core, STR("shared"), &shared), n_client = keys_of(core, STR("client"), &client);
    uint32_t id = 1;

    if (!dev || !(n_shared || n_client))
        return why_set(why, ERR_RANGE, "a request names a device and at least one key");
    if (n_shared) {
        message_attributes_request(&core->payload, name_of(dev), shared, n_shared, false, id++);
        publish(core, TOPIC_ATTRIBUTES_REQUEST);
    }
    if (n_client) {
        message_attributes_request(&core->payload, name_of(dev), client, n_client, true, id);
        publish(core, TOPIC_ATTRIBUTES_REQUEST);
    }
    return ERR_OK;
}

static NODISCARD enum err request_gateway_attributes(struct core *core, struct why *why)
{
    struct str *shared, *client;
    size_t n_shared = keys_of(core, STR("shared"), &shared), n_client = keys_of(core, STR("client"), &client);

    (void)why;
    message_own_attributes_request(&core->payload, client, n_client, shared, n_shared);
    publish(core, arena_printf(core->arena, "%s%u", TOPIC_OWN_ATTRIBUTES_REQUEST.p, 1u));
    return ERR_OK;
}

static NODISCARD enum err request_session_limits(struct core *core, struct why *why)
{
    (void)why;
    message_session_limits(&core->payload);
    publish(core, arena_printf(core->arena, "%s%u", TOPIC_OWN_RPC_REQUEST.p, 1u));
    return ERR_OK;
}

static NODISCARD enum err device_rpc_reply(struct core *core, struct why *why)
{
    struct device *dev = device_of(core);

    if (!dev)
        return why_set(why, ERR_RANGE, "not a name of a device");
    message_rpc_reply(&core->payload, name_of(dev), text_of(core, json_get(core->input, STR("id"))),
                      text_of(core, json_get(core->input, STR("data"))));
    publish(core, TOPIC_RPC);
    return ERR_OK;
}

static NODISCARD enum err gateway_rpc_reply(struct core *core, struct why *why)
{
    yyjson_val *id = json_get(core->input, STR("id"));
    struct str number = yyjson_is_str(id) ? json_str(id) : text_of(core, id);

    (void)why;
    buf_add_str(&core->payload, text_of(core, json_get(core->input, STR("data"))));
    publish(core, arena_printf(core->arena, "%s" STR_FMT, TOPIC_OWN_RPC_RESPONSE.p, STR_ARG(number)));
    return ERR_OK;
}

static NODISCARD enum err claim(struct core *core, struct str name_json, struct str topic, struct why *why)
{
    int64_t duration_ms = 30000;
    yyjson_val *duration = json_get(core->input, STR("durationMs"));

    if (duration && json_to_i64(duration, &duration_ms))
        return why_set(why, ERR_TYPE, "durationMs is not an integer");
    message_claim(&core->payload, name_json, json_str(json_get(core->input, STR("secretKey"))), duration_ms);
    publish(core, topic);
    return ERR_OK;
}

static NODISCARD enum err claim_device(struct core *core, struct why *why)
{
    struct device *dev = device_of(core);

    return dev ? claim(core, name_of(dev), TOPIC_CLAIM, why) : why_set(why, ERR_RANGE, "not a name of a device");
}

static NODISCARD enum err claim_gateway(struct core *core, struct why *why)
{
    return claim(core, STR_NONE, TOPIC_OWN_CLAIM, why);
}

static const struct {
    const char *name;
    enum err (*run)(struct core *core, struct why *why);
} calls[] = {
    {"connect_device", connect_device},
    {"disconnect_device", disconnect_device},
    {"device_telemetry", device_telemetry},
    {"device_attributes", device_attributes},
    {"gateway_telemetry", gateway_telemetry},
    {"gateway_attributes", gateway_attributes},
    {"request_device_attributes", request_device_attributes},
    {"request_gateway_attributes", request_gateway_attributes},
    {"request_session_limits", request_session_limits},
    {"device_rpc_reply", device_rpc_reply},
    {"gateway_rpc_reply", gateway_rpc_reply},
    {"claim_device", claim_device},
    {"claim_gateway", claim_gateway},
};

static uint64_t limit_of(yyjson_val *config, struct str name)
{
    int64_t n;
    yyjson_val *val = json_get(json_get(config, STR("limits")), name);

    return val && json_to_i64(val, &n) == ERR_OK && n > 0 ? (uint64_t)n : 0;
}

void convert_core(yyjson_val *question, struct arena *arena, struct buf *members)
{
    yyjson_val *config = json_get(question, STR("config")), *input = json_get(question, STR("input"));
    struct str name = json_str(json_get(input, STR("call")));
    size_t before = members->n;
    struct core core = {.input = input, .arena = arena, .out = members, .qos = 1};
    struct why why = {0};
    enum err err = ERR_UNSUPPORTED;

    if (json_get(input, STR("events"))) {
        err = convert_report(config, input, arena, members, &why);
        if (err) {
            members->n = before;
            convert_add_unsupported(members, str_from(why_text(&why)));
        }
        return;
    }
    if (str_eq(json_str(json_get(question, STR("direction"))), STR("downlink"))) {
        convert_downlink(question, arena, members);
        return;
    }
    core.max_bytes = limit_of(config, STR("max_payload_bytes"));
    core.max_values = (unsigned)(limit_of(config, STR("max_datapoints")) & UINT32_MAX);
    buf_add_z(members, "\"publish\":[");
    if (!str_eq(json_str(json_get(question, STR("direction"))), STR("uplink")))
        why_set(&why, err, "not a direction");
    else if (!name.n)
        why_set(&why, err, "neither a call nor events");
    for (size_t i = 0; !why.err && i < COUNT_OF(calls); i++)
        if (str_eq_z(name, calls[i].name)) {
            err = calls[i].run(&core, &why);
            break;
        }
    if (err) {
        members->n = before;
        convert_add_unsupported(members, why.err ? str_from(why_text(&why)) : STR("unknown call"));
    } else {
        buf_add_u8(members, ']');
    }
    buf_fini(&core.payload);
}
