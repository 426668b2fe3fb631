/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `iotgw convert`: one message through the converters of the running connector, or one request of the platform through what
 * makes publications of it; and what would be sent, as JSON (mqtt.md 11).
 */
#include "mqtt_dry.h"

#include "base/clock.h"
#include "base/hex.h"
#include "base/map.h"
#include "mqtt/topic.h"
#include "mqtt_convert.h"

struct dry {
    struct convert_out out; /* first */
    struct event event;
    struct arena *arena;
    struct buf messages, connects, disconnects, left_out, questions, requests, subscribe, response;
    yyjson_val *answer; /* of the platform to an attribute request; NULL: none is given */
    struct down_out down;
};

static struct dry *dry_of(struct convert_out *out)
{
    return CONTAINER_OF(out, struct dry, out);
}

static void comma(struct buf *buf)
{
    if (buf->n)
        buf_add_u8(buf, ',');
}

static struct event *dry_begin(struct convert_out *out, struct device *dev, struct str profile)
{
    struct dry *dry = dry_of(out);

    event_begin(&dry->event, dev, profile);
    return &dry->event;
}

/* Values of one kind and time, in the order of the first of each key; the last value of a key counts. */
static void add_values(struct dry *dry, enum record_kind kind, int64_t ts)
{
    struct event *event = &dry->event;
    struct map seen = {0};
    bool is_first = true;

    for (size_t i = 0; i < event->n; i++) {
        struct event_item *item = &event->items[i];

        if (item->kind == kind && item->ts == ts)
            (void)map_put(&seen, item->key, item);
    }
    for (size_t i = 0; i < event->n; i++) {
        struct event_item *item = &event->items[i], *last;

        if (item->kind != kind || item->ts != ts || !(last = map_del(&seen, item->key)))
            continue;
        if (!is_first)
            buf_add_u8(&dry->messages, ',');
        is_first = false;
        buf_add_str(&dry->messages, last->key);
        buf_add_str(&dry->messages, last->text);
    }
    map_fini(&seen);
}

static bool is_first_of_time(const struct event *event, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (event->items[i].kind == RECORD_TELEMETRY && event->items[i].ts == event->items[at].ts)
            return false;
    }
    return event->items[at].kind == RECORD_TELEMETRY;
}

static void add_telemetry(struct dry *dry)
{
    bool is_first = true;

    for (size_t i = 0; i < dry->event.n; i++) {
        int64_t ts = dry->event.items[i].ts;

        if (!is_first_of_time(&dry->event, i))
            continue;
        buf_add_z(&dry->messages, is_first ? ",\"telemetry\":[{" : ",{");
        if (ts != EVENT_NO_TS)
            buf_printf(&dry->messages, "\"ts\":%lld,", (long long)ts);
        buf_add_z(&dry->messages, "\"values\":{");
        add_values(dry, RECORD_TELEMETRY, ts);
        buf_add_z(&dry->messages, "}}");
        is_first = false;
    }
    if (!is_first)
        buf_add_u8(&dry->messages, ']');
}

static enum err dry_end(struct convert_out *out)
{
    struct dry *dry = dry_of(out);
    bool has_attributes = false;

    comma(&dry->messages);
    buf_add_z(&dry->messages, "{\"device\":");
    json_add_string(&dry->messages, device_name(dry->event.dev));
    buf_add_z(&dry->messages, ",\"profile\":");
    json_add_string(&dry->messages, dry->event.profile);
    add_telemetry(dry);
    for (size_t i = 0; i < dry->event.n; i++)
        has_attributes |= dry->event.items[i].kind == RECORD_ATTRIBUTES;
    if (has_attributes) {
        buf_add_z(&dry->messages, ",\"attributes\":{");
        add_values(dry, RECORD_ATTRIBUTES, EVENT_NO_TS);
        buf_add_u8(&dry->messages, '}');
    }
    buf_add_u8(&dry->messages, '}');
    return ERR_OK;
}

static void dry_connect(struct convert_out *out, struct device *dev, struct str profile)
{
    struct dry *dry = dry_of(out);

    comma(&dry->connects);
    buf_add_z(&dry->connects, "{\"device\":");
    json_add_string(&dry->connects, device_name(dev));
    buf_add_z(&dry->connects, ",\"profile\":");
    json_add_string(&dry->connects, profile);
    buf_add_u8(&dry->connects, '}');
}

static void dry_disconnect(struct convert_out *out, struct device *dev)
{
    struct dry *dry = dry_of(out);

    comma(&dry->disconnects);
    json_add_string(&dry->disconnects, device_name(dev));
}

static void dry_dropped(struct convert_out *out, const struct entry *entry, enum drop_cause cause, struct str topic,
                        struct str detail, uint64_t count)
{
    struct dry *dry = dry_of(out);
    struct str text = arena_printf(dry->arena, STR_FMT ": %s%s" STR_FMT, STR_ARG(entry->filter), drop_cause_text(cause),
                                   detail.n ? ": " : "", STR_ARG(detail));

    (void)topic;
    (void)count;
    comma(&dry->left_out);
    json_add_string(&dry->left_out, text);
}

static enum err payload_of(yyjson_val *input, struct arena *arena, struct str *out, struct why *why)
{
    yyjson_val *json = json_get(input, STR("payload")), *text = json_get(input, STR("payload_text")),
               *hex = json_get(input, STR("payload_hex"));
    autobuf struct buf buf = {0};
    enum err err = ERR_OK;

    if (!json + !text + !hex != 2)
        return why_set(why, ERR_USAGE, "the input needs one of \"payload\" (JSON), \"payload_text\", \"payload_hex\"");
    if (json) {
        json_add_value(&buf, json);
        *out = arena_str(arena, buf_str(&buf));
        return ERR_OK;
    }
    if (!yyjson_is_str(text ? text : hex))
        return why_set(why, ERR_USAGE, "\"%s\" is not text", text ? "payload_text" : "payload_hex");
    *out = json_str(text ? text : hex);
    if (text)
        return ERR_OK;
    if (hex_decode(&buf, *out) != ERR_OK)
        err = why_set(why, ERR_USAGE, "\"payload_hex\" is not pairs of hexadecimal digits");
    *out = arena_str(arena, buf_str(&buf));
    return err;
}

static void add_request(struct dry *dry, const struct down_message *message)
{
    comma(&dry->requests);
    buf_add_z(&dry->requests, "{\"topic\":");
    json_add_string(&dry->requests, message->topic);
    buf_add_z(&dry->requests, ",\"payload\":");
    json_add_string(&dry->requests, message->payload);
    buf_printf(&dry->requests, ",\"qos\":%u,\"retain\":%s}", message->qos, message->retain ? "true" : "false");
}

static void add_left_out(struct dry *dry, struct str what, const struct why *why)
{
    comma(&dry->left_out);
    json_add_string(&dry->left_out, arena_printf(dry->arena, STR_FMT ": %s", STR_ARG(what), why_text(why)));
}

static void dry_ask(struct convert_out *out, const struct attribute_request *section, struct device *dev,
                    const struct attribute_question *question)
{
    struct dry *dry = dry_of(out);
    struct down_message message;
    struct why why = {0};

    comma(&dry->questions);
    buf_add_z(&dry->questions, "{\"device\":");
    json_add_string(&dry->questions, device_name(dev));
    buf_printf(&dry->questions, ",\"scope\":\"%s\",\"keys\":", question->is_client ? "client" : "shared");
    for (size_t i = 0; i < question->n; i++) {
        buf_add_u8(&dry->questions, i ? ',' : '[');
        json_add_string(&dry->questions, question->names[i]);
    }
    buf_add_z(&dry->questions, "]}");
    if (!dry->answer)
        return;
    if (down_answer(section, device_name(dev), question, dry->answer, dry->arena, &message, &why) == ERR_OK)
        add_request(dry, &message);
    else if (why.err)
        add_left_out(dry, section->topic, &why);
}

static void add_member(struct buf *out, const char *name, const struct buf *items)
{
    if (items->n)
        buf_printf(out, ",\"%s\":[", name);
    buf_add(out, items->p, items->n);
    if (items->n)
        buf_add_u8(out, ']');
}

static void finish(struct dry *dry, const struct convert_io *io, bool is_uplink)
{
    struct buf all = {0};

    if (is_uplink)
        buf_add_z(&all, "{\"messages\":[");
    else
        buf_add_z(&all, "{\"requests\":[");
    buf_add_str(&all, buf_str(is_uplink ? &dry->messages : &dry->requests));
    buf_add_u8(&all, ']');
    add_member(&all, "connects", &dry->connects);
    add_member(&all, "disconnects", &dry->disconnects);
    add_member(&all, "attribute_requests", &dry->questions);
    if (is_uplink)
        add_member(&all, "requests", &dry->requests);
    add_member(&all, "subscribe", &dry->subscribe);
    if (dry->response.n) {
        buf_add_z(&all, ",\"response\":");
        buf_add_str(&all, buf_str(&dry->response));
    }
    add_member(&all, "left_out", &dry->left_out);
    buf_add_u8(&all, '}');
    *io->output = arena_str(io->arena, buf_str(&all));
    buf_fini(&all);
    buf_fini(&dry->messages);
    buf_fini(&dry->connects);
    buf_fini(&dry->disconnects);
    buf_fini(&dry->left_out);
    buf_fini(&dry->questions);
    buf_fini(&dry->requests);
    buf_fini(&dry->subscribe);
    buf_fini(&dry->response);
}

static enum err dry_uplink(const struct mqtt_file *file, const struct convert_io *io, yyjson_val *input,
                           struct why *why)
{
    yyjson_val *topic = json_get(input, STR("topic"));
    struct dry dry = {.out = {.begin = dry_begin,
                              .end = dry_end,
                              .connect = dry_connect,
                              .disconnect = dry_disconnect,
                              .dropped = dry_dropped,
                              .ask = dry_ask,
                              .is_verbose = true},
                      .arena = io->arena,
                      .answer = json_get(input, STR("attribute_response"))};
    struct mqtt_converter *converter;
    struct str payload;
    enum err err;

    if (!yyjson_is_str(topic))
        return why_set(why, ERR_USAGE, "the input needs a \"topic\"");
    err = topic_name_check(json_str(topic), why);
    if (!err)
        err = payload_of(input, io->arena, &payload, why);
    if (err)
        return err;
    converter = mqtt_converter_new(file->plan);
    event_init(&dry.event);
    (void)mqtt_convert(converter, &dry.out, json_str(topic), payload, clock_wall_ms(), 0, NULL);
    finish(&dry, io, true);
    event_fini(&dry.event);
    mqtt_converter_free(converter);
    return ERR_OK;
}

/* --- from the platform --------------------------------------------------------------------------------------------------- */

static void dry_publish(struct down_out *out, const struct down_message *message)
{
    add_request(CONTAINER_OF(out, struct dry, down), message);
}

static void dry_failed(struct down_out *out, struct str key, const struct why *why)
{
    add_left_out(CONTAINER_OF(out, struct dry, down), key, why);
}

static enum err dry_attributes(const struct mqtt_file *file, struct dry *dry, yyjson_val *attributes, struct why *why)
{
    yyjson_val *device = json_get(attributes, STR("device")), *values = json_get(attributes, STR("values"));

    if (!yyjson_is_str(device) || !yyjson_is_obj(values))
        return why_set(why, ERR_USAGE, "\"attributes\" needs \"device\" and the object \"values\"");
    (void)down_attributes(file, json_str(device), values, dry->arena, &dry->down);
    return ERR_OK;
}

/* What the device says: only on its own topic it is an answer. */
static enum err add_response(struct dry *dry, const struct down_rpc *down, yyjson_val *reply, struct why *why)
{
    struct str payload;
    enum err err;

    if (!reply)
        return ERR_OK;
    err = payload_of(reply, dry->arena, &payload, why);
    if (err)
        return err;
    if (str_eq(json_str(json_get(reply, STR("topic"))), down->response_topic))
        buf_add_str(&dry->response, down_response(payload, dry->arena));
    else
        buf_add_z(&dry->response, "{\"success\":false}");
    return ERR_OK;
}

static enum err dry_rpc(const struct mqtt_file *file, struct dry *dry, yyjson_val *rpc, yyjson_val *reply,
                        struct why *why)
{
    yyjson_val *id = json_get(rpc, STR("id")), *params = json_get(rpc, STR("params"));
    const struct rpc_call call = {.device = json_str(json_get(rpc, STR("device"))),
                                  .method = json_str(json_get(rpc, STR("method"))),
                                  .id = id ? json_text(dry->arena, id) : STR_NONE,
                                  .params = params ? json_text(dry->arena, params) : STR_NONE};
    struct down_rpc down;
    struct why reason = {0};

    if (!call.method.p)
        return why_set(why, ERR_USAGE, "\"rpc\" needs \"method\"");
    if (down_rpc(file, &call, dry->arena, &down, &reason) != ERR_OK) {
        buf_add_str(&dry->response, down_error(str_from(why_text(&reason)), dry->arena));
        return ERR_OK;
    }
    add_request(dry, &down.request);
    if (!down.response_topic.p) {
        buf_add_z(&dry->response, "{\"success\":true}");
        return ERR_OK;
    }
    buf_add_z(&dry->subscribe, "{\"topic\":");
    json_add_string(&dry->subscribe, down.response_topic);
    buf_printf(&dry->subscribe, ",\"qos\":%u}", down.response_qos);
    return add_response(dry, &down, reply, why);
}

static enum err dry_downlink(const struct mqtt_file *file, const struct convert_io *io, yyjson_val *input,
                             struct why *why)
{
    yyjson_val *rpc = json_get(input, STR("rpc")), *attributes = json_get(input, STR("attributes"));
    struct dry dry = {.arena = io->arena, .down = {.publish = dry_publish, .failed = dry_failed}};
    enum err err;

    if (!rpc == !attributes)
        return why_set(why, ERR_USAGE, "the input needs one of \"rpc\", \"attributes\"");
    err = rpc ? dry_rpc(file, &dry, rpc, json_get(input, STR("reply")), why)
              : dry_attributes(file, &dry, attributes, why);
    finish(&dry, io, false);
    return err;
}

enum err mqtt_dry_run(const void *conf, const struct convert_io *io, struct why *why)
{
    yyjson_val *input = (yyjson_val *)(uintptr_t)io->input;

    return str_eq_z(io->direction, "uplink") ? dry_uplink(conf, io, input, why) : dry_downlink(conf, io, input, why);
}
